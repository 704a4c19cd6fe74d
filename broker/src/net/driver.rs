//! The driver: one thread that feeds one shard.
//!
//! Each connection is a lean task that reads when its socket is ready and gives the bytes to the
//! shard. The outputs this fills are written by one more task, which stands behind all ready
//! readers in the run queue: so each receiver gets one write per turn, whoever published.

use std::cell::{Cell, RefCell, RefMut};
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::{spawn_local, yield_now};
use tokio::time::Sleep;
use tracing::warn;

use super::accept::accept;
use super::acceptor::Arrival;
use super::counts::Counts;
use super::mailbox::Mailboxes;
use super::pipe::Pipe;
use super::transport::{Cargo, Received, Scratch, Transport};
use crate::clock::{Clock, Mono, Now};
use crate::connection::{ConnectionId, Peer};
use crate::journal::Taking;
use crate::limits::Limits;
use crate::mail::Mail;
use crate::shard::{Config, Refused, Shard};
use crate::stats::Stats;
use crate::store::{LIVE_MICROS, Store};
use crate::totals::Totals;

mod journal;
mod mail;

/// Bytes one connection may read before the others have their turn.
const READ_BUDGET: usize = 256 << 10;
/// Connections accepted before others have their turn.
const ACCEPT_BATCH: usize = 64;

/// How long a layer may hold the last bytes of a connection that is to be closed. Less than the
/// shard leaves its output, whose end is when this is asked for.
const PATIENCE: Duration = Duration::from_secs(4);

/// A shard, its sockets and its clock.
#[derive(Debug)]
pub(crate) struct Driver {
    shard: RefCell<Shard>,
    /// The shard's number.
    number: usize,
    mailboxes: Mailboxes,
    /// Mail of this turn, by the shard it is for.
    outgoing: RefCell<Vec<Vec<Mail>>>,
    /// Shards whose mailboxes were full in the last turn, a bit each.
    full: Cell<u64>,
    /// The journal, of a broker that has one, and whether it took new work in the last turn.
    store: Option<Arc<Store>>,
    taking: Cell<Taking>,
    /// Rounds of compaction that this shard has begun, and what of the last one it is through with
    /// and has yet to say so once it is appended.
    rounds: Cell<u64>,
    finishing: Cell<Finishing>,
    stats: Arc<Stats>,
    totals: Totals,
    counts: Arc<Counts>,
    clock: Clock,
    /// Sockets by the index of their connection.
    sockets: RefCell<Vec<Option<Rc<Socket>>>>,
    scratch: Scratch,
    dirty: RefCell<Vec<ConnectionId>>,
    /// What time it is in this turn; none between two turns.
    turn: Cell<Option<Now>>,
    writer: RefCell<Option<Waker>>,
    stopping: Cell<bool>,
    /// A connection's task has panicked.
    failed: Cell<bool>,
}

/// What of a round of compaction a shard is through with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Finishing {
    #[default]
    Nothing,
    /// Its own part.
    Shard,
    /// All of it: it was the last shard, and has noted so.
    All,
}

/// What a driver has in common with the other threads.
#[derive(Clone, Debug)]
pub(crate) struct Around {
    pub(crate) mailboxes: Mailboxes,
    pub(crate) totals: Totals,
    pub(crate) counts: Arc<Counts>,
    pub(crate) clock: Clock,
}

/// One connection's transport, shared by its task and the writer.
#[derive(Debug)]
struct Socket {
    id: ConnectionId,
    /// None once it has moved to another shard.
    transport: RefCell<Option<Transport>>,
    /// Wakes the connection's task.
    task: RefCell<Option<Waker>>,
    /// Since when the transport has not taken all.
    blocked: Cell<Option<Mono>>,
    /// The task has stopped reading.
    paused: Cell<bool>,
    /// Why a write failed; the task ends the connection.
    broken: RefCell<Option<io::Error>>,
}

impl Socket {
    fn transport(&self) -> RefMut<'_, Transport> {
        RefMut::map(self.transport.borrow_mut(), |transport| {
            transport.as_mut().expect("a socket that has moved is in no list and has no task")
        })
    }

    fn wake(&self) {
        if let Some(task) = &*self.task.borrow() {
            task.wake_by_ref();
        }
    }
}

impl Driver {
    pub(crate) fn new(
        config: Config,
        number: usize,
        store: Option<Arc<Store>>,
        around: &Around,
    ) -> Rc<Self> {
        let stats = Arc::clone(&config.stats);
        let Around { mailboxes, totals, counts, clock } = around.clone();
        Rc::new(Self {
            shard: RefCell::new(Shard::new(config)),
            number,
            outgoing: RefCell::new(mailboxes.iter().map(|_| Vec::new()).collect()),
            mailboxes,
            full: Cell::default(),
            store,
            taking: Cell::default(),
            rounds: Cell::default(),
            finishing: Cell::default(),
            stats,
            totals,
            counts,
            clock,
            sockets: RefCell::default(),
            scratch: Scratch::default(),
            dirty: RefCell::default(),
            turn: Cell::default(),
            writer: RefCell::default(),
            stopping: Cell::default(),
            failed: Cell::default(),
        })
    }

    /// The time of this turn, read once. The writer ends each turn, even one with nothing to write:
    /// or what comes next would be dated back to this one.
    fn now(&self) -> Now {
        self.turn.get().unwrap_or_else(|| {
            let now = self.clock.now();
            self.turn.set(Some(now));
            self.wake_writer();
            now
        })
    }

    /// Lets the writer follow the readers that are ready now.
    fn wake_writer(&self) {
        if let Some(writer) = self.writer.borrow_mut().take() {
            writer.wake();
        }
    }

    /// Takes a client's transport; its CONNECT is due from `since` on.
    pub(crate) fn add(self: &Rc<Self>, transport: Transport, peer: Peer, since: Mono) {
        if self.stopping.get() {
            // All others were told good-bye already.
            return;
        }
        let now = Now { mono: since, ..self.now() };
        let accepted = self.shard.borrow_mut().accept(peer, now);
        if let Ok(id) = accepted {
            self.drive(id, transport);
        }
    }

    /// Takes in-process clients, for ever. They need no credentials: they are this program.
    pub(crate) async fn take_links(self: Rc<Self>, mut pipes: mpsc::UnboundedReceiver<Pipe>) {
        let peer = Peer { address: ([127, 0, 0, 1], 0).into(), transport: "link" };
        while let Some(pipe) = pipes.recv().await
            && !self.stopping.get()
        {
            let principal = pipe.principal();
            let accepted = self.shard.borrow_mut().accept_known(peer, principal, self.now());
            if let Ok(id) = accepted {
                self.drive(id, Transport::Link(pipe));
            }
        }
    }

    fn drive(self: &Rc<Self>, id: ConnectionId, transport: Transport) {
        let socket = Rc::new(Socket {
            id,
            transport: RefCell::new(Some(transport)),
            task: RefCell::default(),
            blocked: Cell::default(),
            paused: Cell::default(),
            broken: RefCell::default(),
        });
        let mut sockets = self.sockets.borrow_mut();
        let place = id.index() as usize;
        if sockets.len() <= place {
            sockets.resize_with(place + 1, || None);
        }
        sockets[place] = Some(Rc::clone(&socket));
        spawn_local(ConnectionTask { driver: Rc::clone(self), socket });
    }

    /// Accepts connections of plain MQTT for ever: there is nothing to shake hands about. Each
    /// shard gets one in turn.
    pub(crate) async fn accept(
        self: Rc<Self>,
        listener: TcpListener,
        limits: Arc<Limits>,
        arrivals: Arc<[mpsc::Sender<Arrival>]>,
    ) {
        let mut turns = (0..arrivals.len()).cycle();
        loop {
            for shard in turns.by_ref().take(ACCEPT_BATCH) {
                let (socket, address) = accept(&listener).await;
                let peer = Peer { address, transport: "tcp" };
                // Those still in a handshake are connections too.
                let open = self.totals.connections() + self.counts.waiting.get() as usize;
                if open >= limits.connections {
                    let cause = Refused::Connections;
                    warn!(peer = %peer.address, transport = peer.transport, %cause, "refused");
                    self.stats.refused_total.add(1);
                    continue;
                }
                let since = self.now().mono;
                let transport = Transport::Tcp(socket);
                if shard == self.number {
                    self.add(transport, peer, since);
                } else if let Ok(cargo) = transport.load() {
                    let _ = arrivals[shard].send(Arrival { cargo, peer, since }).await;
                }
            }
            yield_now().await;
        }
    }

    /// Takes clients whose handshakes are done, for ever.
    pub(crate) async fn welcome(self: Rc<Self>, mut arrivals: mpsc::Receiver<Arrival>) {
        while let Some(arrival) = arrivals.recv().await {
            let Arrival { cargo, peer, since } = arrival;
            if let Some(transport) = self.unload(cargo, peer) {
                self.add(transport, peer, since);
            }
        }
    }

    fn unload(&self, cargo: Cargo, peer: Peer) -> Option<Transport> {
        let transport = cargo.unload();
        if let Err(error) = &transport {
            self.stats.refused_total.add(1);
            warn!(peer = %peer.address, transport = peer.transport, cause = %error, "refused");
        }
        transport.ok()
    }

    /// Says good-bye to all clients; the writer then lets them go.
    pub(crate) fn shut_down(&self) {
        self.stopping.set(true);
        self.shard.borrow_mut().shut_down(self.now());
    }

    /// Whether a connection is open.
    pub(crate) fn has_connections(&self) -> bool {
        self.sockets.borrow().iter().any(Option::is_some)
    }

    /// Writes what waits for one connection.
    fn write(&self, socket: &Socket, began: Mono) {
        let mut shard = self.shard.borrow_mut();
        let Some(output) = shard.output(socket.id) else { return };
        let result = socket.transport().try_write(output);
        let now = self.now();
        match result {
            Ok((count, all)) => {
                shard.wrote(socket.id, count, now);
                if all {
                    let since = socket.blocked.take().unwrap_or(began);
                    if count > 0 {
                        self.stats.delivery.record(now.mono.since(since).as_micros() as u64);
                    }
                } else if socket.blocked.get().is_none() {
                    // The task waits until the socket takes more.
                    socket.blocked.set(Some(began));
                    socket.wake();
                }
            }
            Err(error) => {
                socket.broken.replace(Some(error));
                socket.wake();
            }
        }
        let resumes = socket.paused.get() && shard.wants_read(socket.id);
        if resumes || shard.is_closing(socket.id) {
            socket.wake();
        }
    }

    /// Writes to every connection with news, until there are none.
    fn flush_dirty(&self) {
        let began = self.now().mono;
        let mut dirty = self.dirty.borrow_mut();
        loop {
            dirty.clear();
            self.shard.borrow_mut().take_dirty(&mut dirty);
            if dirty.is_empty() {
                return;
            }
            for id in dirty.iter() {
                let socket = self.sockets.borrow().get(id.index() as usize).cloned().flatten();
                let Some(socket) = socket.filter(|socket| socket.id == *id) else { continue };
                if socket.blocked.get().is_none() {
                    self.write(&socket, began);
                } else if self.shard.borrow().is_closing(*id) {
                    socket.wake();
                }
            }
        }
    }

    /// Everything that leaves the shard: to the journal, to other shards, to clients.
    fn flush(&self) {
        loop {
            let appended = self.commit();
            if appended {
                self.send_mail();
            }
            self.flush_dirty();
            // What was written may have made room for more.
            if !appended || self.shard.borrow().unappended() == 0 {
                return;
            }
        }
    }

    fn forget(&self, socket: &Socket) {
        if let Some(place) = self.sockets.borrow_mut().get_mut(socket.id.index() as usize) {
            *place = None;
        }
    }

    /// The transport ended, or is to end.
    fn remove(&self, socket: &Socket, end: &End) {
        self.forget(socket);
        let mut shard = self.shard.borrow_mut();
        match end {
            End::Closed => shard.closed(socket.id, self.now()),
            End::Failed(error) => shard.failed(socket.id, error, self.now()),
        }
    }
}

/// How a transport ended.
#[derive(Debug)]
enum End {
    /// By either side, in the words of its layers.
    Closed,
    /// By a fault of the network or of a layer.
    Failed(io::Error),
}

/// Reads one connection.
struct ConnectionTask {
    driver: Rc<Driver>,
    socket: Rc<Socket>,
}

impl ConnectionTask {
    /// Reads what is there, within the budget. Ready when the transport has ended.
    fn poll_read(&self, cx: &mut Context<'_>) -> Poll<End> {
        let Self { driver, socket } = self;
        let mut budget = READ_BUDGET;
        loop {
            {
                let shard = driver.shard.borrow();
                if !shard.wants_read(socket.id) || shard.is_closing(socket.id) {
                    socket.paused.set(true);
                    return Poll::Pending;
                }
            }
            socket.paused.set(false);
            let mut transport = socket.transport();
            let received = transport.poll_receive(cx, &driver.scratch, |bytes| {
                driver.shard.borrow_mut().receive(socket.id, bytes, driver.now());
            });
            drop(transport);
            match received {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(Received::Bytes(count) | Received::Answer(count))) => {
                    let answers = matches!(received, Poll::Ready(Ok(Received::Answer(_))));
                    if answers && socket.blocked.get().is_none() {
                        driver.write(socket, driver.now().mono);
                    }
                    if count >= budget {
                        cx.waker().wake_by_ref();
                        return Poll::Pending;
                    }
                    budget -= count;
                }
                Poll::Ready(Ok(Received::End)) => return Poll::Ready(End::Closed),
                Poll::Ready(Err(error)) => return Poll::Ready(End::Failed(error)),
            }
        }
    }

    /// Goes on with a write that the socket did not take whole. Ready when the transport failed.
    fn poll_blocked(&self, cx: &mut Context<'_>) -> Poll<End> {
        let Self { driver, socket } = self;
        while let Some(began) = socket.blocked.get() {
            match socket.transport().poll_write_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(End::Failed(error)),
                Poll::Ready(Ok(())) => {}
            }
            driver.write(socket, began);
            if let Some(error) = socket.broken.take() {
                return Poll::Ready(End::Failed(error));
            }
        }
        Poll::Pending
    }

    /// Whether the broker closes the connection and has said all. Then it says good-bye.
    fn is_finished(&self) -> bool {
        let Self { driver, socket } = self;
        {
            let shard = driver.shard.borrow();
            if !shard.is_closing(socket.id) || !shard.is_written(socket.id) {
                return false;
            }
        }
        match socket.blocked.get() {
            None => {
                socket.transport().finish(&driver.scratch);
                true
            }
            // A layer still holds bytes that the socket does not take.
            Some(since) => driver.now().mono.since(since) >= PATIENCE,
        }
    }
}

impl Future for ConnectionTask {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { driver, socket } = &*self;
        let _guard = Escalate(driver);
        {
            let mut task = socket.task.borrow_mut();
            if !task.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                *task = Some(cx.waker().clone());
            }
        }
        let end = match socket.broken.take() {
            Some(error) => Poll::Ready(End::Failed(error)),
            None => match self.poll_blocked(cx) {
                Poll::Pending => self.poll_read(cx),
                ended => ended,
            },
        };
        let moving = driver.shard.borrow().moving(socket.id);
        match (end, moving) {
            (Poll::Ready(end), _) => driver.remove(socket, &end),
            (Poll::Pending, Some(to)) => driver.move_away(socket, to),
            (Poll::Pending, None) if self.is_finished() => driver.remove(socket, &End::Closed),
            (Poll::Pending, None) => return Poll::Pending,
        }
        Poll::Ready(())
    }
}

/// Ends the driver when the task that holds it panics: the shard's state can no longer be relied
/// on, and the runtime would only end the one task.
struct Escalate<'a>(&'a Driver);

impl Drop for Escalate<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.failed.set(true);
            self.0.wake_writer();
        }
    }
}

/// Writes outputs at the end of each turn, and looks after deadlines.
pub(crate) struct Writer {
    driver: Rc<Driver>,
    sleep: Pin<Box<Sleep>>,
    sleeps_until: Option<Mono>,
}

impl Writer {
    pub(crate) fn new(driver: Rc<Driver>) -> Self {
        let sleep = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { driver, sleep, sleeps_until: None }
    }
}

impl Future for Writer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driver = Rc::clone(&self.driver);
        let _guard = Escalate(&driver);
        assert!(!driver.failed.get(), "the task of a connection panicked");
        // It runs: nobody need wake it before it is through.
        driver.writer.take();
        let began = driver.now();
        driver.flush();
        // What time it is now, after the writes.
        let now = driver.clock.now();
        driver.turn.set(Some(now));
        driver.stats.turn.record(now.mono.since(began.mono).as_micros() as u64);
        let mut next = driver.shard.borrow_mut().advance(now);
        driver.flush();
        if driver.compact() {
            driver.flush();
            next = Some(now.mono);
        } else if driver.taking.get() == Taking::Relief {
            let look = now.mono.plus_micros(LIVE_MICROS);
            next = Some(next.map_or(look, |at| at.min(look)));
        }
        driver.turn.set(None);
        *driver.writer.borrow_mut() = Some(cx.waker().clone());
        match next {
            Some(at) if at <= now.mono => {
                // Not before the event queue was asked for others: waking would have this task
                // polled dozens of times in a row.
                let _ = pin!(yield_now()).poll(cx);
            }
            Some(at) if self.sleeps_until.is_none_or(|until| at < until || until <= now.mono) => {
                self.sleeps_until = Some(at);
                let deadline = driver.clock.instant(at).into();
                self.sleep.as_mut().reset(deadline);
                if self.sleep.as_mut().poll(cx).is_ready() {
                    cx.waker().wake_by_ref();
                }
            }
            _ => {}
        }
        if driver.stopping.get() && !driver.has_connections() {
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
