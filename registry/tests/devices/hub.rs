//! A broker with devices, and a module that plays all channels.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use longshore_acl::TokenKey;
use longshore_broker::accounts::Options;
use longshore_broker::module::Running;
use longshore_broker::{Broker, Context, Link, Message, Module, Storage};
use longshore_codec::{Property, QoS, ReasonCode, SubscribeOptions};
use longshore_registry::{Limits, Registry};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::Rig;
use super::mqtt_client::{Ask, Client, Got};

/// Longer than anything takes on a machine with other work; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a device says to a command: `status`, `response` and `error` of each answer.
pub(crate) type Script = fn(&Value) -> Vec<Value>;

/// Says nothing.
pub(crate) const SILENT: Script = |_| Vec::new();

/// Plays all channels.
struct Channels {
    context: Context,
    script: Script,
    ready: Sender<Link>,
}

impl Module for Channels {
    fn name(&self) -> &'static str {
        "channels"
    }

    fn run(self: Arc<Self>) -> Running {
        Box::pin(async move {
            let link = self.context.link("channels");
            let options = SubscribeOptions::new(QoS::AtLeastOnce);
            let filter = "flespi/command/gw/channels/+/+";
            let mut commands = link.subscribe(filter, options).await.unwrap();
            self.ready.send(link.clone()).unwrap();
            let work = async {
                while let Some(message) = commands.recv().await {
                    let command: Value = serde_json::from_slice(&message.payload).unwrap();
                    let topic = message.topic.replacen("command", "response", 1);
                    for mut answer in (self.script)(&command) {
                        answer["id"] = command["id"].clone();
                        let answer = Message::new(topic.clone(), answer.to_string());
                        let answer = answer.qos(QoS::AtLeastOnce).of_account(message.account());
                        link.publish(answer).await.unwrap();
                    }
                }
            };
            tokio::select! {
                () = self.context.stopped() => {}
                () = work => {}
            }
        })
    }
}

/// A data directory.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    key: TokenKey,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), key: TokenKey::generate().unwrap() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A broker there, with these bounds and channels that follow this script.
    pub(crate) fn start(&self, limit: impl FnOnce(&mut Limits), script: Script) -> Hub {
        let (ready, links) = channel();
        let ready = Mutex::new(ready);
        let mut limits = Limits::default();
        limit(&mut limits);
        let broker = Broker::builder()
            .storage(Storage::at(self.path().join("journal")))
            .accounts_in(self.path().to_owned(), self.key.clone(), Options::default())
            .module(move |context| {
                let ready = ready.lock().unwrap().clone();
                Ok(Channels { context, script, ready })
            })
            .module(move |context| Registry::open(context, limits.clone()))
            .listen("http://127.0.0.1:0")
            .listen("mqtt://127.0.0.1:0")
            .start()
            .unwrap();
        let rig = Rig { broker, key: self.key.expose().to_owned() };
        let hub = Hub { rig, channels: links.recv().unwrap() };
        // Until the registry has asked for messages there is nobody who gets one.
        until("the registry hears channels", || {
            let reason = hub.publish(1, "flespi/message/gw/channels/0/probe", "{}", false);
            (reason != ReasonCode::NoMatchingSubscribers).then_some(())
        });
        hub
    }

    /// The same with the usual bounds, and devices that say nothing to commands.
    pub(crate) fn open(&self) -> Hub {
        self.start(|_| {}, SILENT)
    }
}

/// A broker that runs.
pub(crate) struct Hub {
    pub(crate) rig: Rig,
    channels: Link,
}

impl Hub {
    pub(crate) fn publish(
        &self,
        account: u64,
        topic: &str,
        payload: &str,
        retain: bool,
    ) -> ReasonCode {
        let message = Message::new(topic, payload).qos(QoS::AtLeastOnce).of_account(account);
        let message = if retain { message.retain() } else { message };
        pollster::block_on(self.channels.publish(message)).unwrap().reason
    }

    /// A message as a channel publishes it: that of protocol 14 and this ident, with what is said.
    pub(crate) fn say(&self, ident: &str, said: Value) {
        self.say_in(1, 14, ident, said);
    }

    pub(crate) fn say_in(&self, account: u64, protocol: u64, ident: &str, said: Value) {
        let text = of_channel(protocol, ident, said).to_string();
        self.say_text(account, ident, &text);
    }

    pub(crate) fn say_text(&self, account: u64, ident: &str, text: &str) {
        let topic = format!("flespi/message/gw/channels/7/{ident}");
        assert_eq!(self.publish(account, &topic, text, false), ReasonCode::Success);
    }

    /// A connection of channel 7 with this ident has come, or gone.
    pub(crate) fn connect(&self, id: u64, ident: &str, is_there: bool) {
        let topic = format!("flespi/state/gw/channels/7/connections/{id}");
        let state = json!({
            "id": id, "channel_id": 7, "protocol_id": 14, "ident": ident,
            "source": "10.0.0.1:5", "transport": "tcp", "established": 1_700_000_000.5,
        });
        let state = if is_there { state.to_string() } else { String::new() };
        self.publish(1, &topic, &state, true);
    }

    /// The same of one that has gone, with how it has ended.
    pub(crate) fn end(&self, id: u64, ended: &Value) {
        let topic = format!("flespi/state/gw/channels/7/connections/{id}");
        let message = Message::new(topic, "").qos(QoS::AtLeastOnce).retain().of_account(1);
        let message = message.property(Property::UserProperty("ended", &ended.to_string()));
        pollster::block_on(self.channels.publish(message)).unwrap();
    }

    /// A Teltonika device of this name and ident; its number.
    pub(crate) fn device(&self, name: &str, ident: &str) -> u64 {
        // Times of tests are some years old.
        let device = json!([{"name": name, "device_type_id": 14, "messages_ttl": 315_360_000,
            "configuration": {"ident": ident}}]);
        self.ask("POST /gw/devices", device)[0]["id"].as_u64().unwrap()
    }

    /// The objects of an answer without errors.
    pub(crate) fn ask(&self, request: &str, body: Value) -> Vec<Value> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.rig.ask(request, &*body).result()
    }

    pub(crate) fn get(&self, request: &str) -> Vec<Value> {
        self.ask(&format!("GET {request}"), Value::Null)
    }

    /// The same, once it is as it should be: what channels publish is written a moment later.
    pub(crate) fn until(
        &self,
        request: &str,
        mut is_right: impl FnMut(&[Value]) -> bool,
    ) -> Vec<Value> {
        until(request, || Some(self.get(request)).filter(|answer| is_right(answer)))
    }

    /// What is retained under topics that a filter matches, by topic, once it is as it should be.
    pub(crate) fn until_retained(
        &self,
        filter: &str,
        is_right: impl Fn(&BTreeMap<String, String>) -> bool,
    ) {
        let path = format!("/mqtt/messages/{}", filter.replace('/', "%2F").replace('#', "%23"));
        let text = |it: &Value, name: &str| it[name].as_str().unwrap_or_default().to_owned();
        self.until(&path, |all| {
            is_right(&all.iter().map(|it| (text(it, "topic"), text(it, "payload"))).collect())
        });
    }

    /// Its telemetry, once it has this value.
    pub(crate) fn telemetry(&self, id: u64, name: &str, value: Value) -> Value {
        let is_right = |all: &[Value]| all[0]["telemetry"][name]["value"] == value;
        self.until(&format!("/gw/devices/{id}/telemetry"), is_right)[0]["telemetry"].clone()
    }

    /// Messages of a device, as what they say under this name.
    pub(crate) fn history(&self, id: u64, name: &str) -> Vec<Value> {
        let messages = self.get(&format!("/gw/devices/{id}/messages"));
        messages.iter().map(|it| it[name].clone()).collect()
    }

    /// A client of MQTT that has asked for a filter.
    pub(crate) fn listen(&self, key: &str, filter: &str) -> Client {
        // Two of one name would take over from each other.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let id = NUMBER.fetch_add(1, Ordering::Relaxed).to_string();
        let mut client = Client::connect(&self.rig.broker, &Ask::with(key, &id));
        assert!(client.subscribe(filter) < 0x80, "{filter}");
        client
    }

    pub(crate) fn listen_all(&self, filter: &str) -> Client {
        self.listen(&self.rig.key, filter)
    }

    /// Events of a device, once there are so many: code and text.
    pub(crate) fn events(&self, id: u64, codes: &[u64]) -> Vec<u64> {
        let code = |it: &Value| it["event_code"].as_u64().unwrap();
        let is_right = |all: &[Value]| {
            let found: Vec<_> = all.iter().map(code).collect();
            codes.iter().all(|code| found.contains(code))
        };
        let request = format!("/gw/devices/{id}/logs");
        self.until(&request, is_right).iter().map(code).collect()
    }
}

/// What is looked for, once it is there.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "never: {what}");
        // Whoever is waited for needs the processor, too.
        thread::sleep(Duration::from_millis(2));
    }
}

/// What a channel adds to what a device says.
pub(crate) fn of_channel(protocol: u64, ident: &str, said: Value) -> Value {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let mut message = json!({
        "channel.id": 7, "ident": ident, "peer": "10.0.0.1:5", "protocol.id": protocol,
        "server.timestamp": now.as_secs_f64(), "timestamp": now.as_secs_f64(),
    });
    let Value::Object(said) = said else { panic!("an object") };
    message.as_object_mut().unwrap().extend(said);
    message
}

/// The next message of a client, with what is said of it.
pub(crate) fn next(client: &mut Client) -> (String, String, bool, Option<String>) {
    let got = client.next().unwrap();
    let time = got.named("timestamp").map(str::to_owned);
    let Got::Message { topic, payload, retain, .. } = got else { panic!("no message: {got:?}") };
    (topic, payload, retain, time)
}

/// JSON in a query.
pub(crate) fn encoded(data: &Value) -> String {
    let text = data.to_string();
    let escaped = |c: char| match c {
        '"' | ' ' | '&' | '+' | '%' | '#' | '<' | '>' => format!("%{:02X}", c as u32),
        c => c.to_string(),
    };
    text.chars().map(escaped).collect()
}
