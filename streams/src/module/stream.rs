//! A stream as REST has it: its fields, and what is known of it now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use longshore_broker::module::{Head, Item};
use longshore_broker::rest::{Code, Fault, Field, Kind, Object};
use serde_json::{Map, Value, json};

use crate::{
    AnySink, Configuration, ConfigurationError, Conversion, Protocol, Queue, QueueOptions, Rules,
    Targets,
};

/// Seconds that a message waits at most: the greatest `queue_ttl` (R6.1).
const QUEUE_TTL_MAX: u64 = 864_000;
/// The same where nothing is said.
const QUEUE_TTL: u64 = 86_400;
/// Seconds that raw traffic is kept at most, as channels keep theirs.
const PACKETS_TTL_MAX: u64 = 2_592_000;
/// Characters of a name.
const NAME_CHARS_MAX: usize = 255;
/// Why a stream takes nothing: its queue is full (R8.9).
pub(super) const BLOCKED_BY_STORAGE: u64 = 4;
/// Why it takes and sends nothing: another version has kept what is not valid now (R8.9).
pub(super) const BLOCKED_BY_CONFIGURATION: u64 = 6;
/// Where secrets of the configuration are kept.
const SECRETS: &str = "secrets";

const FIELDS: &[Field] = &[
    Field::new("id", Kind::Whole, "Its number"),
    Field::new("cid", Kind::Whole, "The account that owns it"),
    Field::new("name", Kind::Text, "What its owner calls it, up to 255 characters").set(),
    Field::new("enabled", Kind::Flag, "Whether it takes and sends messages; true by default").set(),
    Field::new(
        "queue_ttl",
        Kind::Whole,
        "Seconds that a message waits at most, up to 864000; 86400 by default, 0 stops the stream",
    )
    .set(),
    Field::new(
        "packets_ttl",
        Kind::Whole,
        "Seconds that raw traffic is kept, up to 2592000; 0 unless said, for none",
    )
    .set(),
    Field::new(
        "protocol_id",
        Kind::Whole,
        "How it speaks to its platform, a number of /gw/stream-protocols; it stays as it is",
    )
    .set(),
    Field::new(
        "configuration",
        Kind::Object,
        "Fields of the protocol, and `protocol` if there is no protocol_id. Secrets are never \
         shown, and kept where they are not sent; PUT with null removes one",
    )
    .set(),
    Field::new(
        "validate_message",
        Kind::Text,
        "An expression: messages of which it is not true are skipped",
    )
    .set(),
    Field::new(
        "convert_message",
        Kind::Any,
        "An object: keys is dots, underscores or pascal, fields are names to send, with wildcards",
    )
    .set(),
    Field::new("metadata", Kind::Object, "What its owner keeps with it").set(),
    Field::new("queue_size", Kind::Whole, "KB of messages that wait"),
    Field::new("connected", Kind::Flag, "Whether it has a connection to its platform"),
    Field::new("blocked", Kind::Whole, "0, or 4 while its queue is full, 6 while it is invalid"),
];

/// A stream.
pub(super) struct Stream {
    head: Head,
    kept: Map<String, Value>,
    /// None as long as what is kept of it is invalid.
    pub(super) setup: Option<Setup>,
    /// Seconds that a message waits in its queue.
    queue_ttl: u64,
    /// Seconds that its raw traffic is kept; with 0 none is.
    pub(super) packets_ttl: u64,
    pub(super) live: Arc<Live>,
}

/// What it runs by: where this is the same, a change is none to its runner.
#[derive(Clone, PartialEq)]
pub(super) struct Setup {
    enabled: bool,
    queue_ttl: u64,
    pub(super) keeps_packets: bool,
    pub(super) configuration: Configuration,
    validate: String,
    convert: Value,
}

impl Setup {
    pub(super) fn rules(&self) -> Result<Rules, ConfigurationError> {
        Rules::new(&self.validate, Conversion::parse(&self.convert)?)
    }
}

/// What is known of a stream now; it outlives its changes.
#[derive(Default)]
pub(super) struct Live {
    queue: OnceLock<Queue>,
    connected: AtomicBool,
    told: Mutex<Condition>,
}

/// The part of it that is retained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Condition {
    connected: bool,
    blocked: bool,
    queue_kb: u64,
}

impl Live {
    /// From now on this is its queue.
    pub(super) fn attach(&self, queue: Queue) {
        // One stream has one queue, whichever call gave it first.
        let _ = self.queue.set(queue);
    }

    pub(super) fn connected(&self, is_connected: bool) -> bool {
        self.connected.swap(is_connected, Ordering::Relaxed)
    }

    fn now(&self) -> Condition {
        let status = self.queue.get().map(Queue::status).unwrap_or_default();
        Condition {
            connected: self.connected.load(Ordering::Relaxed),
            blocked: status.blocked,
            queue_kb: status.bytes.div_ceil(1_000),
        }
    }

    /// What was retained last, if that is no longer so: from now on what is now is. How full the
    /// queue is changes with every message, so it counts only `with_size`.
    pub(super) fn renew(&self, with_size: bool) -> Option<Condition> {
        let now = self.now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_same = (told.connected, told.blocked) == (now.connected, now.blocked);
        let is_same = is_same && (!with_size || told.queue_kb == now.queue_kb);
        (!is_same).then(|| std::mem::replace(&mut *told, now))
    }
}

impl Stream {
    /// What it runs by, if it takes and sends messages.
    pub(super) fn running(&self) -> Option<&Setup> {
        self.setup.as_ref().filter(|it| it.enabled && it.queue_ttl > 0)
    }

    pub(super) fn protocol(&self) -> Option<Protocol> {
        let id = self.kept.get("protocol_id").and_then(Value::as_u64);
        Protocol::ALL.into_iter().find(|it| Some(it.id()) == id)
    }

    /// What its queue may hold.
    pub(super) fn queue_options(&self, bytes_max: u64) -> QueueOptions {
        QueueOptions { ttl_secs: self.queue_ttl, bytes_max }
    }

    /// Its fields under another condition, as a state that was retained has them.
    pub(super) fn shown_in(&self, condition: Condition) -> Map<String, Value> {
        let mut fields = self.kept.clone();
        fields.remove(SECRETS);
        let blocked = match (&self.setup, condition.blocked) {
            (None, _) => BLOCKED_BY_CONFIGURATION,
            (Some(_), true) => BLOCKED_BY_STORAGE,
            (Some(_), false) => 0,
        };
        fields.insert("queue_size".to_owned(), condition.queue_kb.into());
        fields.insert("connected".to_owned(), condition.connected.into());
        fields.insert("blocked".to_owned(), blocked.into());
        fields
    }
}

impl Item for Stream {
    const URI: &'static str = "gw/streams";
    const OBJECT: &'static Object = &Object { name: "Stream", fields: FIELDS, is_open: false };
    const ORIGIN: u64 = 12;
    const SEALED: &'static [&'static str] = &[SECRETS];

    fn read(
        head: Head,
        mut kept: Map<String, Value>,
        before: Option<&Self>,
    ) -> Result<Self, Fault> {
        let mut configuration = match kept.remove("configuration") {
            Some(Value::Object(configuration)) => configuration,
            _ => return Err(wrong("configuration", "is missing")),
        };
        let protocol =
            Protocol::of(kept.get("protocol_id").and_then(Value::as_u64), &configuration)
                .map_err(|error| wrong(&error.field, &error.text))?;
        let is_other = before.and_then(Self::protocol).is_some_and(|it| it != protocol);
        if is_other || configuration.get("protocol").is_some_and(|name| name != protocol.name()) {
            let text = "cannot be changed, nor differ from protocol_id; make another stream";
            let field = if is_other { "protocol_id" } else { "configuration.protocol" };
            return Err(wrong(field, text));
        }
        kept.insert("protocol_id".to_owned(), protocol.id().into());
        let secrets = secrets(protocol, &mut configuration, kept.remove(SECRETS));
        let whole = configuration.clone().into_iter().chain(secrets.clone()).collect();
        let of_configuration = |error: ConfigurationError| {
            wrong(&format!("configuration.{}", error.field), &error.text)
        };
        let read = protocol.configure(&whole).map_err(of_configuration)?;
        AnySink::new(&read, &Targets::default(), "").map_err(of_configuration)?;
        kept.insert("configuration".to_owned(), configuration.into());
        if !secrets.is_empty() {
            kept.insert(SECRETS.to_owned(), secrets.into());
        }
        let mut or = |name: &str, value: Value| kept.entry(name).or_insert(value).clone();
        let packets_ttl = or("packets_ttl", 0.into()).as_u64();
        let packets_ttl = packets_ttl
            .filter(|secs| *secs <= PACKETS_TTL_MAX)
            .ok_or_else(|| wrong("packets_ttl", "is a number of seconds from 0 to 2592000"))?;
        let setup = Setup {
            keeps_packets: packets_ttl > 0,
            enabled: or("enabled", true.into()) == true,
            queue_ttl: or("queue_ttl", QUEUE_TTL.into()).as_u64().unwrap_or(QUEUE_TTL),
            configuration: read,
            validate: or("validate_message", "".into()).as_str().unwrap_or_default().to_owned(),
            convert: or("convert_message", Value::Null),
        };
        let name = or("name", "".into());
        or("metadata", json!({}));
        if name.as_str().is_none_or(|it| it.chars().count() > NAME_CHARS_MAX) {
            return Err(wrong("name", "is a text of up to 255 characters"));
        }
        if setup.queue_ttl > QUEUE_TTL_MAX {
            return Err(wrong("queue_ttl", "is a number of seconds from 0 to 864000"));
        }
        setup.rules().map_err(|error| wrong(&error.field, &error.text))?;
        let live = before.map_or_else(Arc::default, |it| Arc::clone(&it.live));
        let queue_ttl = setup.queue_ttl;
        Ok(Self { head, kept, setup: Some(setup), queue_ttl, packets_ttl, live })
    }

    fn invalid(head: Head, kept: Map<String, Value>) -> Option<Self> {
        // What waits is kept as long as any: nobody has said for how long.
        let secs = |name: &str, most: u64| {
            kept.get(name).and_then(Value::as_u64).unwrap_or(most).min(most)
        };
        let queue_ttl = secs("queue_ttl", QUEUE_TTL_MAX);
        let packets_ttl = secs("packets_ttl", PACKETS_TTL_MAX);
        Some(Self { head, kept, setup: None, queue_ttl, packets_ttl, live: Arc::default() })
    }

    fn head(&self) -> Head {
        self.head
    }

    fn kept(&self) -> Map<String, Value> {
        self.kept.clone()
    }

    fn shown(&self) -> Map<String, Value> {
        self.shown_in(self.live.now())
    }
}

/// Takes the secrets that were sent out of a configuration, over those that are kept.
fn secrets(
    protocol: Protocol,
    configuration: &mut Map<String, Value>,
    kept: Option<Value>,
) -> Map<String, Value> {
    let mut secrets = match kept {
        Some(Value::Object(secrets)) => secrets,
        _ => Map::new(),
    };
    for (name, value) in protocol.take_secrets(configuration) {
        if value.is_null() {
            secrets.remove(&name);
        } else {
            secrets.insert(name, value);
        }
    }
    secrets
}

fn wrong(field: &str, text: &str) -> Fault {
    Fault::new(Code::Format, format!("{field} {text}")).field(field)
}
