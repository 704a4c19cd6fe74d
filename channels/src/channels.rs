//! The module as the broker sees it: what it has, what it answers and what it does.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use hashbrown::HashMap;
use longshore_acl::{Method, TopicGrant};
use longshore_broker::module::{
    Change, Context, EventKind, Item, Module, ModuleError, Objects, Running,
};
use longshore_broker::rest::Route;
use tokio::sync::mpsc;
use tokio::task::{spawn_blocking, spawn_local};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tracing::{error, warn};

use crate::buffer::{self, Buffer, Work};
use crate::channel::Channel;
use crate::deed::{EVENTS, TOPICS};
use crate::hub::{self, Hub};
use crate::live::{Block, Numbers};
use crate::options::Options;
use crate::orders;
use crate::ports::Ports;
use crate::protocol::CloseCode;
use crate::rest;
use crate::serve::Opened;

/// How often it is looked what has become too old, what has room again and what states say.
const TICK: Duration = Duration::from_secs(1);
/// Ticks after which a port is tried again that another process has.
const BIND_TICKS: u64 = 10;
/// How long connections may take to end when the broker stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// The module: plug it into a broker with
/// `builder.module(|context| Channels::open(context, options))`.
#[derive(Debug)]
pub struct Channels {
    pub(crate) hub: Arc<Hub>,
    pub(crate) objects: Arc<Objects<Channel>>,
    /// What has become of channels, for the thread of the module.
    deeds: Mutex<Option<mpsc::UnboundedReceiver<Deed>>>,
    /// What the writer is asked, until it runs.
    work: Mutex<Option<mpsc::Receiver<Work>>>,
}

/// What has become of a channel.
#[derive(Debug)]
enum Deed {
    /// It is new, or another one now.
    Made(Arc<Channel>),
    Removed(Arc<Channel>),
}

impl Channels {
    /// The channels that the broker has kept. Their ports are open on return.
    ///
    /// # Errors
    /// When their tables cannot be read, or the range of ports is none.
    pub fn open(context: Context, options: Options) -> Result<Self, ModuleError> {
        if options.port_min > options.port_max {
            return Err("channels.port_min is greater than channels.port_max".into());
        }
        let (buffer, work) = Buffer::open(&context, options.packets_bytes)?;
        let ports = Ports::open(&context, &options)?;
        let hub = Arc::new(Hub::new(context.clone(), options, buffer, ports));
        let (to, deeds) = mpsc::unbounded_channel();
        let changed = {
            let hub = Arc::clone(&hub);
            move |change: &Change<'_, Channel>| {
                let deed = match (change.before, change.after) {
                    (before, Some(after)) => {
                        if before.is_none() {
                            hub.buffer.attach(&after.live);
                        }
                        if after.intake.is_some() && after.live.block_is(Block::Configuration) {
                            hub.block(after, None);
                        }
                        give_port(&hub, after);
                        Deed::Made(Arc::clone(after))
                    }
                    (Some(before), None) => {
                        before.live.sockets().take();
                        hub.ports.take(before.id(), &hub.context);
                        Deed::Removed(Arc::clone(before))
                    }
                    (None, None) => return,
                };
                // The thread of the module is gone only when the broker stops.
                let _ = to.send(deed);
            }
        };
        let objects = Objects::open(&context, "channels", changed)?;
        let objects = Arc::new(objects.at_most(hub.options.channels_per_account));
        for id in hub.ports.channels() {
            if !objects.has_row(id) {
                hub.ports.take(id, &context);
            }
        }
        let (deeds, work) = (Mutex::new(Some(deeds)), Mutex::new(Some(work)));
        Ok(Self { hub, objects, deeds, work })
    }

    async fn serve(self: Arc<Self>) {
        let taken = |it: &Mutex<Option<mpsc::UnboundedReceiver<Deed>>>| {
            it.lock().unwrap_or_else(PoisonError::into_inner).take()
        };
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (Some(deeds), Some(work)) = (taken(&self.deeds), work) else { return };
        let (writer, published) = match self.start_writer(work) {
            Ok(started) => started,
            Err(cause) => {
                error!(%cause, "the thread that writes messages of channels cannot be started");
                return;
            }
        };
        let publishing = {
            let hub = Arc::clone(&self.hub);
            spawn_local(async move { hub::publish_all(&hub, published).await })
        };
        let connections = "flespi/state/gw/channels/+/connections/+";
        let known = Arc::clone(&self);
        self.hub.context.clear(connections, move |_, topic| known.is_connected(topic));
        self.objects.renew_all();
        let mut opened = Opened::default();
        tokio::select! {
            // First: then nobody hears that all sessions end as the broker stops.
            biased;
            () = self.work_until_stopped(&mut opened, deeds) => {}
            () = orders::receive(&self) => {}
        }
        opened.close_all(CloseCode::Restart);
        let _ = timeout(FAREWELL, self.all_gone()).await;
        if let Some(place) = self.hub.buffer.place().await {
            place.send(Work::Stop);
        }
        publishing.abort();
        let _ = publishing.await;
        if writer.join().is_err() {
            error!("the thread that writes messages of channels has panicked");
        }
    }

    fn start_writer(
        &self,
        work: mpsc::Receiver<Work>,
    ) -> std::io::Result<(JoinHandle<()>, mpsc::Receiver<Vec<buffer::Entry>>)> {
        let (to, published) = hub::groups();
        let hub = Arc::clone(&self.hub);
        let writer = std::thread::Builder::new()
            .name("longshore-channels-writer".to_owned())
            .spawn(move || buffer::run(&hub.buffer, work, &to))?;
        Ok((writer, published))
    }

    /// Once no channel has a connection.
    async fn all_gone(&self) {
        let has_any = |channel: &Arc<Channel>| channel.live.connections().len() > 0;
        while self.objects.list().iter().any(has_any) {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether a topic is the state of a connection that is there.
    fn is_connected(&self, topic: &str) -> bool {
        let mut levels = topic.rsplit('/').map(str::parse::<u64>);
        let (Some(Ok(connection)), Some(_), Some(Ok(id))) =
            (levels.next(), levels.next(), levels.next())
        else {
            return false;
        };
        self.objects.get(id).is_some_and(|it| it.live.connections().get(connection).is_some())
    }

    async fn work_until_stopped(
        &self,
        opened: &mut Opened,
        mut deeds: mpsc::UnboundedReceiver<Deed>,
    ) {
        for orphan in self.hub.buffer.orphans(|id| self.objects.has_row(id)) {
            self.ask(Work::Forget(orphan)).await;
        }
        let mut stopped = pin!(self.hub.context.stopped());
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let (mut told, mut count) = (Told::new(), 0_u64);
        loop {
            tokio::select! {
                biased;
                () = &mut stopped => return,
                Some(deed) = deeds.recv() => self.act(opened, deed, &mut told).await,
                _ = ticks.tick() => {
                    count += 1;
                    if count % BIND_TICKS == 0 {
                        self.open_late(opened);
                        // It may wait for the disk.
                        let objects = Arc::clone(&self.objects);
                        let _ = spawn_blocking(move || objects.sweep()).await;
                    }
                    self.tend(&mut told).await;
                }
            }
        }
    }

    async fn act(&self, opened: &mut Opened, deed: Deed, told: &mut Told) {
        match deed {
            Deed::Made(channel) => {
                // What is retained of it so far: whatever comes now is news.
                told.entry(channel.id()).or_insert_with(|| channel.live.numbers());
                if channel.intake.is_none() {
                    // It is so since the start, when nobody could be told.
                    self.hub.tell_block(&channel, Some(Block::Configuration));
                }
                opened.open(&self.hub, &channel);
                if channel.messages_ttl == 0 {
                    let live = Arc::clone(&channel.live);
                    self.ask(Work::Delete { live, below: u64::MAX, done: None }).await;
                }
            }
            Deed::Removed(channel) => {
                opened.close(channel.id(), CloseCode::ChannelChanged);
                told.remove(&channel.id());
                self.ask(Work::Forget(Arc::clone(&channel.live))).await;
            }
        }
    }

    async fn ask(&self, work: Work) {
        if let Some(place) = self.hub.buffer.place().await {
            place.send(work);
        }
    }

    /// Tries ports again that were another's when their channels were to be opened.
    fn open_late(&self, opened: &mut Opened) {
        for channel in self.objects.list() {
            let is_late = channel.is_enabled && channel.listens() && !opened.has(channel.id());
            if is_late {
                give_port(&self.hub, &channel);
                opened.open(&self.hub, &channel);
            }
        }
    }

    /// Removes packets that are too old; all of them where none is kept.
    async fn prune(&self, channel: &Channel, now: u64) {
        let below = now.saturating_sub(channel.packets_ttl.saturating_mul(1_000_000));
        if self.hub.buffer.packets.is_any_before(&channel.live, below) {
            self.ask(Work::Prune { live: Arc::clone(&channel.live), below }).await;
        }
    }

    /// Deletes what is too old, opens channels that have room again, and says in states what has
    /// changed.
    async fn tend(&self, told: &mut Told) {
        let now = self.hub.micros();
        if self.hub.buffer.packets.is_any_waiting() {
            self.ask(Work::Flush).await;
        }
        for channel in self.objects.list() {
            let below = now.saturating_sub(channel.messages_ttl.saturating_mul(1_000_000));
            if self.hub.buffer.is_any_before(&channel.live, below) {
                let live = Arc::clone(&channel.live);
                self.ask(Work::Delete { live, below, done: None }).await;
            }
            self.prune(&channel, now).await;
            self.hub.check_free(&channel);
            let numbers = channel.live.numbers();
            let before = told.insert(channel.id(), numbers);
            if let Some(before) = before.filter(|before| *before != numbers) {
                let mut shown = channel.shown();
                before.show(&mut shown);
                for (name, value) in [("id", channel.id()), ("cid", channel.account())] {
                    shown.insert(name.to_owned(), value.into());
                }
                self.objects.renew(channel.id(), &shown);
            }
        }
    }
}

/// What states say of channels.
type Told = HashMap<u64, Numbers>;

/// Opens the port of a channel that is enabled, and closes it where it is not.
fn give_port(hub: &Hub, channel: &Channel) {
    let live = &channel.live;
    let uri = |port: u16| format!("{}:{port}", hub.options.host);
    let known = hub.ports.of(channel.id());
    if !channel.listens() {
        // One that is invalid still has the port that its devices know.
        known.into_iter().for_each(|port| live.set_uri(uri(port)));
        return;
    }
    let mut sockets = live.sockets();
    let port = match known {
        Some(port) => {
            if channel.is_enabled && sockets.is_none() {
                match hub.ports.bind(port) {
                    Ok(bound) => *sockets = Some(bound),
                    Err(cause) => warn!(port, %cause, "the port of a channel cannot be opened"),
                }
            }
            Some(port)
        }
        None => hub.ports.give(channel.id(), &hub.context).map(|(port, bound)| {
            *sockets = Some(bound);
            port
        }),
    };
    if !channel.is_enabled {
        *sockets = None;
    }
    drop(sockets);
    match port {
        Some(port) => live.set_uri(uri(port)),
        None => hub.block(channel, Some(Block::NoPort)),
    }
    if port.is_some() && live.block_is(Block::NoPort) {
        hub.block(channel, None);
    }
}

impl Module for Channels {
    fn name(&self) -> &'static str {
        "channels"
    }

    fn grants(&self) -> Vec<TopicGrant> {
        let grant = |kind: &str, submodule: Option<&str>| TopicGrant {
            filter: format!("flespi/{kind}/gw/channels/{{id}}/#"),
            uri: Channel::URI.to_owned(),
            submodule: submodule.map(str::to_owned),
            method: Method::Get,
        };
        vec![grant("message", Some("messages")), grant("log", Some("logs")), grant("state", None)]
    }

    fn routes(self: Arc<Self>) -> Vec<Route> {
        rest::routes(&self)
    }

    fn events(&self) -> Vec<(&'static str, &'static [EventKind])> {
        vec![("channels", &EVENTS)]
    }

    fn topics(&self) -> Vec<(String, &'static str)> {
        self.objects.topics(&TOPICS)
    }

    fn run(self: Arc<Self>) -> Running {
        Box::pin(self.serve())
    }
}
