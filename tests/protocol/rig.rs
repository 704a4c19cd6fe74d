//! The rig: one shard, virtual time, and clients that are nothing but bytes. Nothing sleeps and
//! nothing runs beside it, so that every run of a test is the same.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;

use longshore_broker::clock::{Mono, Now, Wall};
use longshore_broker::shard::Config;
use longshore_broker::{ConnectionId, Dialect, Limits, Peer};
use longshore_storage::SimulatedDisk;

use super::packets::{Connect, Outgoing, Pingreq, Subscribe, connect, subscribe, v5};
use super::received::{Ack, Codes, Connack, Disconnect, Publish, Received, parse, whole};
use super::watch::Watch;
use super::wire::Version;
use crate::shards::Shards;
use crate::{JOURNAL, SHARDS, TURN_WORK};

/// Where the wall clock of every rig starts: in 2024, in microseconds.
const WALL_START: u64 = 1_700_000_000_000_000;
/// Where the monotonic clock starts: a broker may not believe that it begins at 0.
const MONO_START: u64 = 77_000_000;

/// A broker of one shard, and the time.
#[derive(Clone)]
pub(crate) struct Rig(Rc<RefCell<World>>);

struct World {
    shard: Shards,
    limits: Limits,
    dialect: Dialect,
    /// What it remembers on, if it does.
    disk: Option<Arc<SimulatedDisk>>,
    now: Now,
    lines: Vec<Line>,
}

/// How a broker ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// It is told to.
    Stop,
    /// By `kill -9`.
    Kill,
    /// With the machine.
    PowerCut,
}

fn begin(limits: &Limits, dialect: Dialect, disk: Option<&Arc<SimulatedDisk>>, now: Now) -> Shards {
    let mut configs = Config::of(SHARDS, limits.clone(), super::doorkeeper::doorkeeper(), 7);
    configs.iter_mut().for_each(|config| config.dialect = dialect);
    if let Some(work) = TURN_WORK {
        configs.iter_mut().for_each(|config| config.turn_work = work);
    }
    match disk {
        Some(disk) => Shards::open(configs, disk, now),
        None => Shards::new(configs),
    }
}

/// One connection as the transport sees it.
struct Line {
    id: ConnectionId,
    watch: Watch,
    /// Bytes that make no whole packet yet; all bytes of a line that is not watched.
    bytes: Vec<u8>,
    inbox: VecDeque<Received>,
    /// Sent, but not yet read by the broker, which makes this client wait.
    unread: Vec<u8>,
    watched: bool,
    /// The client reads nothing, so that the broker cannot write.
    stalled: bool,
    /// The broker closed it.
    closed: bool,
    /// The client closed it, or the network broke.
    gone: bool,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// A rig whose broker has other limits than the default.
    pub(crate) fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        Self::of(limits, Dialect::default())
    }

    /// A rig whose broker has another dialect than the default.
    pub(crate) fn speaking(change: impl FnOnce(&mut Dialect)) -> Self {
        let mut dialect = Dialect::default();
        change(&mut dialect);
        Self::of(Limits::default(), dialect)
    }

    fn of(limits: Limits, dialect: Dialect) -> Self {
        let now = Now { mono: Mono(MONO_START), wall: Wall(WALL_START) };
        let disk = JOURNAL.then(|| Arc::new(SimulatedDisk::new(1)));
        let shard = begin(&limits, dialect, disk.as_ref(), now);
        let lines = Vec::new();
        Self(Rc::new(RefCell::new(World { shard, limits, dialect, disk, now, lines })))
    }

    /// Ends the broker as `end` says and starts it again, `secs` later; all transports are gone.
    pub(crate) fn restart(&self, end: End, secs: u64) {
        let mut world = self.0.borrow_mut();
        let disk = world.disk.take().expect("a broker that remembers");
        if end == End::Stop {
            let now = world.now;
            world.shard.shut_down(now);
            world.tick();
        }
        let disk = match end {
            End::PowerCut => disk.restart(),
            End::Stop | End::Kill => disk.restart_after_kill(),
        };
        let disk = Arc::new(disk);
        world.lines.iter_mut().for_each(|line| line.gone = true);
        world.now.wall = world.now.wall.plus_secs(secs);
        // Another process, another clock.
        world.now.mono = Mono(MONO_START / 7);
        let restarted = begin(&world.limits, world.dialect, Some(&disk), world.now);
        world.shard = restarted;
        world.disk = Some(disk);
        world.tick();
    }

    /// A whole round of compaction; how many segments it retired.
    pub(crate) fn compact(&self) -> usize {
        let mut world = self.0.borrow_mut();
        let now = world.now;
        world.shard.compact(now).expect("the disk works")
    }

    /// Whether the journal is behind what the broker writes down.
    pub(crate) fn set_behind(&self, behind: bool) {
        let mut world = self.0.borrow_mut();
        let now = world.now;
        world.shard.set_behind(behind, now);
        world.tick();
    }

    /// A transport on which nothing was sent yet.
    pub(crate) fn open(&self, version: Version) -> Client {
        self.try_open(version).expect("the broker takes one connection more")
    }

    /// The same, unless the broker wants no more.
    pub(crate) fn try_open(&self, version: Version) -> Option<Client> {
        let mut world = self.0.borrow_mut();
        let now = world.now;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000));
        let peer = Peer { address, transport: "tcp" };
        let id = world.shard.accept(peer, now).ok()?;
        let index = world.lines.len();
        world.lines.push(Line {
            id,
            watch: Watch::new(version),
            bytes: Vec::new(),
            inbox: VecDeque::new(),
            unread: Vec::new(),
            watched: true,
            stalled: false,
            closed: false,
            gone: false,
        });
        world.pump();
        drop(world);
        Some(Client { rig: self.clone(), index })
    }

    /// A client that has sent `connect`, whatever came of it.
    pub(crate) fn attempt(&self, connect: &Connect) -> Client {
        let client = self.open(connect.version);
        client.send(connect);
        client
    }

    /// A client that has sent `connect` and was accepted.
    pub(crate) fn connect(&self, connect: &Connect) -> Client {
        self.connect_told(connect).0
    }

    /// The same, with the CONNACK.
    pub(crate) fn connect_told(&self, connect: &Connect) -> (Client, Connack) {
        let client = self.attempt(connect);
        let connack = client.connack();
        assert_eq!(connack.code, 0, "the broker accepts {connect:?}");
        (client, connack)
    }

    /// A connected client that starts clean, of MQTT 5.
    pub(crate) fn client(&self, client_id: &str) -> Client {
        self.connect(&v5(client_id))
    }

    /// A connected client that starts clean, subscribed to one filter.
    pub(crate) fn subscriber(
        &self,
        version: Version,
        client_id: &str,
        filter: &str,
        qos: u8,
    ) -> Client {
        let client = self.connect(&connect(version, client_id));
        assert_eq!(client.subscribe(&subscribe(1, filter).qos(qos)), [qos]);
        client
    }

    /// Lets time pass, and the broker do what falls due on the way.
    pub(crate) fn advance(&self, secs: u64) {
        self.advance_ms(secs * 1_000);
    }

    pub(crate) fn advance_ms(&self, ms: u64) {
        let mut world = self.0.borrow_mut();
        let end = Mono(world.now.mono.0 + ms * 1_000);
        loop {
            let due = world.tick();
            let at = due.map_or(end, |due| due.min(end)).max(world.now.mono);
            let passed = at.0 - world.now.mono.0;
            world.now.wall.0 += passed;
            world.now.mono = at;
            if at == end {
                world.tick();
                return;
            }
        }
    }

    /// From now on what shards send one another waits for [`Rig::carry_mail`], and beyond `most`
    /// pieces a shard is full.
    pub(crate) fn delay_mail(&self, most: usize) {
        self.0.borrow_mut().shard.delay(most);
    }

    /// All mail arrives, and what follows from it.
    pub(crate) fn carry_mail(&self) {
        let mut world = self.0.borrow_mut();
        while let Some(way) = world.shard.ways().first().copied() {
            let now = world.now;
            if let Some((old, new)) = world.shard.carry(way, now)
                && let Some(line) = world.lines.iter_mut().find(|line| line.id == old)
            {
                line.id = new;
            }
            world.tick();
        }
    }

    /// Lets time pass while the broker is too busy to notice.
    pub(crate) fn skip(&self, secs: u64) {
        let mut world = self.0.borrow_mut();
        world.now.mono = world.now.mono.plus_secs(secs);
        world.now.wall = world.now.wall.plus_secs(secs);
    }

    /// Moves the wall clock alone, as an administrator or NTP does.
    pub(crate) fn jump_wall(&self, secs: i64) {
        let mut world = self.0.borrow_mut();
        let wall = i64::try_from(world.now.wall.0).expect("a time of our days");
        world.now.wall.0 = u64::try_from(wall + secs * 1_000_000).expect("after 1970");
        world.tick();
    }
}

impl World {
    /// Gives the broker a chance to do what is due, until nothing more is due now.
    fn tick(&mut self) -> Option<Mono> {
        for _ in 0..10_000 {
            let due = self.shard.advance(self.now);
            let busy = self.pump() || due.is_some_and(|due| due <= self.now.mono);
            if !busy {
                return due;
            }
        }
        panic!("the broker is never done with what is due now");
    }

    /// What the driver does in a turn: reads from whom it may, writes what waits, closes what is
    /// to close. Whether there was anything.
    fn pump(&mut self) -> bool {
        let mut dirty = Vec::new();
        let mut busy = false;
        loop {
            for line in &mut self.lines {
                if !line.unread.is_empty() && !line.gone && self.shard.wants_read(line.id) {
                    let bytes = std::mem::take(&mut line.unread);
                    line.id = self.shard.receive(line.id, &bytes, self.now);
                    busy = true;
                }
            }
            self.shard.take_dirty(&mut dirty);
            if dirty.is_empty() {
                return busy;
            }
            busy = true;
            for id in dirty.drain(..) {
                self.flush(id);
            }
        }
    }

    fn flush(&mut self, id: ConnectionId) {
        let now = self.now;
        let Some(line) = self.lines.iter_mut().find(|line| line.id == id && !line.gone) else {
            return;
        };
        let mut count = 0;
        let mut empty = true;
        if let Some(output) = self.shard.output(id) {
            while !line.stalled && !output.is_empty() {
                let front = output.front();
                let taken = front.len();
                line.bytes.extend_from_slice(front);
                output.consume(taken);
                count += taken;
            }
            empty = output.is_empty();
        }
        line.unpack();
        // A write that took nothing counts too: it is how the broker learns of a full transport.
        self.shard.wrote(id, count, now);
        if empty && self.shard.is_closing(id) {
            line.closed = true;
            line.gone = true;
            self.shard.closed(id, now);
        }
    }
}

impl Line {
    fn unpack(&mut self) {
        while self.watched
            && let Some(len) = whole(&self.bytes)
        {
            let bytes: Vec<u8> = self.bytes.drain(..len).collect();
            let mut received = parse(self.watch.version, &bytes);
            self.watch.check(&mut received, len);
            self.inbox.push_back(received);
        }
    }
}

/// One end of a connection. Dropping it breaks nothing; see [`Client::reset`].
pub(crate) struct Client {
    rig: Rig,
    index: usize,
}

impl Client {
    fn line<T>(&self, with: impl FnOnce(&mut Line) -> T) -> T {
        with(&mut self.rig.0.borrow_mut().lines[self.index])
    }

    /// Sends a packet. Into a connection that the broker has closed it goes unheard.
    pub(crate) fn send(&self, packet: &impl Outgoing) {
        let bytes = self.line(|line| {
            packet.note(&mut line.watch);
            packet.encode(line.watch.version)
        });
        self.send_raw(&bytes);
    }

    pub(crate) fn send_raw(&self, bytes: &[u8]) {
        let mut world = self.rig.0.borrow_mut();
        world.lines[self.index].unread.extend_from_slice(bytes);
        world.pump();
        world.tick();
    }

    /// The next packet from the broker, if one came.
    pub(crate) fn next(&self) -> Option<Received> {
        self.line(|line| line.inbox.pop_front())
    }

    /// The next packet from the broker.
    pub(crate) fn recv(&self) -> Received {
        self.next().expect("the broker sends a packet")
    }

    /// Fails when the broker has sent something.
    pub(crate) fn expect_nothing(&self) {
        assert_eq!(self.next(), None, "nothing more should come");
    }

    /// Proves by a PINGREQ that the connection lives and that nothing else has come.
    pub(crate) fn expect_alive(&self) {
        self.expect_nothing();
        self.send(&Pingreq);
        assert_eq!(self.recv(), Received::Pingresp);
        self.expect_nothing();
    }

    /// The network breaks: no DISCONNECT, just silence and then a reset.
    pub(crate) fn reset(&self) {
        let mut world = self.rig.0.borrow_mut();
        let now = world.now;
        let line = &mut world.lines[self.index];
        if std::mem::replace(&mut line.gone, true) {
            return;
        }
        let id = line.id;
        world.shard.closed(id, now);
        world.pump();
        world.tick();
    }

    /// Sends `packets` in one piece, as a client does that waits for nothing.
    pub(crate) fn send_at_once(&self, packets: &[&dyn Outgoing]) {
        let bytes = self.line(|line| {
            let mut bytes = Vec::new();
            for packet in packets {
                packet.note(&mut line.watch);
                bytes.extend(packet.encode(line.watch.version));
            }
            bytes
        });
        self.send_raw(&bytes);
    }

    /// Reads nothing from now on.
    pub(crate) fn stall(&self) {
        self.line(|line| line.stalled = true);
    }

    /// Reads again.
    pub(crate) fn unstall(&self) {
        let id = self.line(|line| {
            line.stalled = false;
            line.id
        });
        let mut world = self.rig.0.borrow_mut();
        world.flush(id);
        world.pump();
        world.tick();
    }

    /// Takes the bytes as they come, whatever they are.
    pub(crate) fn unwatch(&self) {
        self.line(|line| line.watched = false);
    }

    /// The bytes of a client that is not watched.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.line(|line| std::mem::take(&mut line.bytes))
    }

    /// Whether the broker has closed the connection.
    pub(crate) fn is_closed(&self) -> bool {
        self.line(|line| line.closed)
    }

    /// Whether the broker would read from it.
    pub(crate) fn is_read(&self) -> bool {
        let world = self.rig.0.borrow();
        world.shard.wants_read(world.lines[self.index].id)
    }

    /// Fails unless the broker has closed, in MQTT 5 after DISCONNECT; says with what code.
    pub(crate) fn closed_with(&self) -> u8 {
        let disconnect = self.disconnect();
        assert!(self.is_closed(), "[MQTT-3.14.4-2] the sender of DISCONNECT closes");
        self.expect_nothing();
        disconnect.code
    }

    /// Fails unless the broker has closed without a word.
    pub(crate) fn closed_silently(&self) {
        self.expect_nothing();
        assert!(self.is_closed(), "the broker closes");
    }

    /// Fails unless the broker has refused the connection, with a CONNACK; says with what code.
    pub(crate) fn refused_with(&self) -> u8 {
        let connack = self.connack();
        assert!(connack.code > 0, "the broker refuses");
        assert!(self.is_closed(), "[MQTT-3.2.2-7] a refusal closes");
        self.expect_nothing();
        connack.code
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let wrong = self.line(|line| line.watch.ended() && !line.gone && !line.stalled);
        assert!(!wrong, "after its last word the broker closes");
    }
}

/// One method for each packet that may come: it takes the next, which has to be of that kind.
macro_rules! next_packet {
    ($($method:ident $kind:ident $packet:ty),* $(,)?) => {
        #[allow(dead_code, reason = "one for each packet")]
        impl Client {
            $(pub(crate) fn $method(&self) -> $packet {
                match self.recv() {
                    Received::$kind(packet) => packet,
                    other => panic!("{} should come, not {other:?}", stringify!($kind)),
                }
            })*
        }
    };
}

next_packet! {
    connack Connack Connack,
    publish Publish Publish,
    puback Puback Ack,
    pubrec Pubrec Ack,
    pubrel Pubrel Ack,
    pubcomp Pubcomp Ack,
    suback Suback Codes,
    unsuback Unsuback Codes,
    disconnect Disconnect Disconnect,
}

/// What tests say often.
impl Client {
    /// Subscribes and takes the SUBACK; what retained messages follow is left in the inbox.
    pub(crate) fn subscribe(&self, subscribe: &Subscribe) -> Vec<u8> {
        self.send(subscribe);
        let suback = self.suback();
        assert_eq!(suback.packet_id, subscribe.packet_id, "[MQTT-3.8.4-2]");
        suback.codes
    }

    /// The payloads of all messages that have come, in order; QoS 1 and 2 are not acknowledged.
    pub(crate) fn payloads(&self) -> Vec<String> {
        let mut payloads = Vec::new();
        while let Some(received) = self.next() {
            match received {
                Received::Publish(publish) => payloads.push(publish.text().to_owned()),
                other => panic!("only messages should come, not {other:?}"),
            }
        }
        payloads
    }
}
