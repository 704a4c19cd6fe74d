//! A broker with streams, a module that plays channels and devices, and platforms to send to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use longshore_acl::{ROOT_ACCOUNT, TokenKey};
use longshore_broker::accounts::Options as Accounts;
use longshore_broker::module::Running;
use longshore_broker::{Broker, Builder, Context, Message, Module, Storage};
use longshore_codec::{QoS, SubscribeOptions};
use longshore_streams::{Options, Streams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::client::{PATIENCE, Rig};
use super::server::Server;

/// Messages to publish, and who waits until they are.
type Order = (Vec<Message>, SyncSender<()>);

/// Publishes what it is told, and remembers the states of streams.
struct Player {
    context: Context,
    orders: Mutex<Option<UnboundedReceiver<Order>>>,
    states: States,
}

pub(crate) type States = Arc<Mutex<BTreeMap<String, String>>>;

impl Module for Player {
    fn name(&self) -> &'static str {
        "player"
    }

    fn run(self: Arc<Self>) -> Running {
        Box::pin(async move {
            let link = self.context.link("player");
            let options = SubscribeOptions::new(QoS::AtLeastOnce);
            let mut heard = link.subscribe("flespi/state/gw/streams/#", options).await.unwrap();
            let mut orders = self.orders.lock().unwrap().take().unwrap();
            loop {
                tokio::select! {
                    () = self.context.stopped() => return,
                    Some((messages, done)) = orders.recv() => {
                        let outcomes = link.publish_all(messages).await.unwrap();
                        assert!(outcomes.iter().all(|it| !it.reason.is_error()), "{outcomes:?}");
                        done.send(()).unwrap();
                    }
                    Some(state) = heard.recv() => {
                        let payload = String::from_utf8(state.payload).unwrap();
                        self.states.lock().unwrap().insert(state.topic, payload);
                    }
                }
            }
        })
    }
}

/// A data directory, and the threads of platforms.
pub(crate) struct Hub {
    pub(crate) folder: TempDir,
    key: TokenKey,
    runtime: Runtime,
    /// Ports of platforms that are not there yet.
    reserved: Mutex<BTreeMap<SocketAddr, TcpSocket>>,
}

/// A broker of it that runs.
pub(crate) struct Started {
    pub(crate) rig: Rig,
    pub(crate) states: States,
    orders: UnboundedSender<Order>,
}

/// What streams may reach in most tests.
pub(crate) fn local() -> Options {
    let mut options = Options::default();
    options.allow = vec!["127.0.0.0/8".to_owned()];
    options
}

impl Hub {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().unwrap();
        let (folder, key) = (tempfile::tempdir().unwrap(), TokenKey::generate().unwrap());
        Self { folder, key, runtime, reserved: Mutex::default() }
    }

    pub(crate) fn start(&self, options: Options) -> Started {
        self.start_with(options, |builder| builder)
    }

    /// A broker that has more than streams.
    pub(crate) fn start_with(
        &self,
        options: Options,
        more: impl FnOnce(Builder) -> Builder,
    ) -> Started {
        let (orders, received) = unbounded_channel();
        let (received, states) = (Mutex::new(Some(received)), States::default());
        let (path, shared) = (self.folder.path().to_owned(), Arc::clone(&states));
        let player = move |context| {
            let orders = Mutex::new(received.lock().unwrap().take());
            Ok(Player { context, orders, states: Arc::clone(&shared) })
        };
        let broker = more(Broker::builder())
            .storage(Storage::at(path.join("journal")))
            .accounts_in(path, self.key.clone(), Accounts::default())
            .module(move |context| Streams::open(context, &options))
            .module(player)
            .listen("http://127.0.0.1:0")
            .start()
            .unwrap();
        Started { rig: Rig { broker, key: self.key.expose().to_owned() }, states, orders }
    }

    /// A platform that answers the requests in turn with these statuses, then with 200.
    pub(crate) fn platform(&self, statuses: &[u16]) -> Server {
        self.runtime.block_on(Server::start(statuses))
    }

    /// Where no platform is yet, and nobody else can be.
    pub(crate) fn nowhere(&self) -> SocketAddr {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = socket.local_addr().unwrap();
        self.reserved.lock().unwrap().insert(address, socket);
        address
    }

    /// A platform where none was.
    pub(crate) fn platform_at(&self, address: SocketAddr) -> Server {
        let socket = self.reserved.lock().unwrap().remove(&address).unwrap();
        self.runtime.block_on(async { Server::start_on(socket.listen(1_024).unwrap(), &[], None) })
    }
}

impl Started {
    /// The number of a new stream of the root account to a platform.
    pub(crate) fn stream(&self, to: SocketAddr) -> u64 {
        self.rig.ask("POST /gw/streams", json!([stream(to)])).ids()[0]
    }

    /// Publishes messages in the topics of an account. On return all have them who are to.
    pub(crate) fn say_in(&self, account: u64, messages: &[(String, Value)]) {
        let (done, waiting) = sync_channel(1);
        let messages = messages.iter().map(|(topic, payload)| {
            let message = Message::new(topic.clone(), payload.to_string());
            message.qos(QoS::AtLeastOnce).of_account(account)
        });
        self.orders.send((messages.collect(), done)).unwrap();
        waiting.recv_timeout(PATIENCE).unwrap();
    }

    pub(crate) fn say(&self, messages: &[(String, Value)]) {
        self.say_in(ROOT_ACCOUNT, messages);
    }

    /// The log of a stream, once it has this event.
    pub(crate) fn log(&self, stream: u64, code: u64) -> Vec<Value> {
        self.log_with(stream, |log| log.iter().any(|it| it["event_code"] == code))
    }

    /// The same once it is as it should be: what happens is written down a moment later.
    pub(crate) fn log_with(
        &self,
        stream: u64,
        mut is_right: impl FnMut(&[Value]) -> bool,
    ) -> Vec<Value> {
        let mut log = Vec::new();
        until(|| {
            log = self.rig.ask(&format!("GET /gw/streams/{stream}/logs"), "").result();
            is_right(&log)
        });
        log
    }

    /// Waits until a state of a stream is this.
    pub(crate) fn state(&self, topic: &str, want: &str) {
        let topic = format!("flespi/state/gw/streams/{topic}");
        until(|| self.states.lock().unwrap().get(&topic).is_some_and(|it| it == want));
    }

    pub(crate) fn get(&self, stream: u64) -> Value {
        self.rig.ask(&format!("GET /gw/streams/{stream}"), "").result()[0].clone()
    }
}

/// A stream that posts to a platform.
pub(crate) fn stream(to: SocketAddr) -> Value {
    json!({"name": "s", "protocol_id": 1, "configuration": {"uri": format!("http://{to}/in")}})
}

/// Message `n` of an ident on a channel.
pub(crate) fn of_channel(channel: u64, ident: &str, n: u64) -> (String, Value) {
    let payload = json!({"channel.id": channel, "ident": ident, "n": n,
        "server.timestamp": 1_700_000_000.5 + n as f64, "timestamp": 1_700_000_000 + n});
    (format!("flespi/message/gw/channels/{channel}/{ident}"), payload)
}

/// The same in its device form.
pub(crate) fn of_device(device: u64, channel: u64, ident: &str, n: u64) -> (String, Value) {
    let (_, mut payload) = of_channel(channel, ident, n);
    payload["device.id"] = device.into();
    (format!("flespi/message/gw/devices/{device}"), payload)
}

/// All messages that a platform was sent, as `n` and the device if it is one's.
pub(crate) fn received(platform: &Server) -> Vec<(u64, Option<u64>)> {
    let bodies = platform.asked().into_iter().map(|asked| asked.body);
    let all = bodies.flat_map(|body| serde_json::from_slice::<Vec<Value>>(&body).unwrap());
    all.map(|it| (it["n"].as_u64().unwrap(), it["device.id"].as_u64())).collect()
}

/// Waits until something is so.
pub(crate) fn until(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "it does not come to that");
        sleep(Duration::from_millis(10));
    }
}
