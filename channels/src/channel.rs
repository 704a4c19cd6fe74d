//! A channel as an object: what its owner says of it, and what is shown (R3.1).

use std::sync::Arc;

use longshore_broker::module::{Head, Item};
use longshore_broker::rest::{Code, Fault, Field, Kind, Object};
use serde_json::{Map, Value};

use crate::authority;
use crate::live::{Block, Live};
use crate::protocol::fields::FieldError;
use crate::protocol::{Intake, PROTOCOLS, Protocol};

/// Seconds that messages are kept where nothing is said, and at most.
const TTL_SECS: u64 = 86_400;
const TTL_SECS_MAX: u64 = 30 * 86_400;
/// Characters of a name.
const NAME_CHARS: std::ops::RangeInclusive<usize> = 2..=255;

/// Members of a configuration that are not shown, and what stands for them where they were.
const SECRET: [&str; 2] = ["token", "password"];
const HIDDEN: &str = "***";
/// Where they are kept.
const SECRETS: &str = "secrets";

/// The protocol of an invalid channel whose own is gone; no channel that is made has it.
static UNKNOWN: Protocol = Protocol {
    id: 0,
    name: "unknown",
    title: "",
    description: "",
    transports: &[],
    fields: &[],
    parameters: &[],
    commands: &[],
    intake: |_| Err(FieldError::new("", "is of no protocol")),
};

/// A channel, ready to run.
#[derive(Debug)]
pub(crate) struct Channel {
    head: Head,
    pub(crate) protocol: &'static Protocol,
    /// None as long as its configuration is invalid: then it is blocked.
    pub(crate) intake: Option<Intake>,
    pub(crate) is_enabled: bool,
    /// Seconds that its messages are kept; with 0 none is.
    pub(crate) messages_ttl: u64,
    /// Seconds that raw traffic of its devices is kept; with 0 none is.
    pub(crate) packets_ttl: u64,
    /// What does not change with it.
    pub(crate) live: Arc<Live>,
    kept: Map<String, Value>,
}

impl Channel {
    pub(crate) const fn id(&self) -> u64 {
        self.head.id
    }

    pub(crate) const fn account(&self) -> u64 {
        self.head.account
    }

    /// Whether devices come to it, rather than it to a broker. Nobody comes to an invalid one.
    pub(crate) const fn listens(&self) -> bool {
        matches!(self.intake, Some(Intake::Bytes(_) | Intake::Requests(_)))
    }
}

impl Item for Channel {
    const URI: &'static str = "gw/channels";
    const ORIGIN: u64 = 9;
    const SEALED: &'static [&'static str] = &[SECRETS];
    const OBJECT: &'static Object = &Object {
        name: "Channel",
        fields: &[
            Field::new("id", Kind::Whole, "Its number"),
            Field::new("cid", Kind::Whole, "Its account"),
            Field::new("name", Kind::Text, "What its owner calls it, 2 to 255 characters").set(),
            Field::new("protocol_id", Kind::Whole, "Its protocol, which never changes").set(),
            Field::new("protocol_name", Kind::Text, "The same by name").set(),
            Field::new("configuration", Kind::Object, "What its protocol needs to know").set(),
            Field::new("enabled", Kind::Flag, "Whether it is open, true unless said").set(),
            Field::new(
                "messages_ttl",
                Kind::Whole,
                "Seconds that messages are kept, up to 2592000; 86400 unless said, 0 for none",
            )
            .set(),
            Field::new(
                "packets_ttl",
                Kind::Whole,
                "Seconds that raw traffic is kept, up to 2592000; 0 unless said, for none",
            )
            .set(),
            Field::new("commands_ttl", Kind::Whole, "Seconds, up to 2592000; without effect").set(),
            Field::new("metadata", Kind::Object, "What its owner keeps with it, if anything").set(),
            Field::new("uri", Kind::Text, "Where devices connect, host:port, over TCP and UDP"),
            Field::new("blocked", Kind::Whole, "Why it takes nothing; 0 if it does"),
            Field::new("messages_size", Kind::Whole, "What it keeps, in KB"),
            Field::new("commands_size", Kind::Whole, "Always 0"),
            Field::new("connections_count", Kind::Whole, "Devices connected over TCP"),
        ],
        is_open: false,
    };

    fn read(
        head: Head,
        mut fields: Map<String, Value>,
        before: Option<&Self>,
    ) -> Result<Self, Fault> {
        let wrong = |name: &str, text: String| Fault::new(Code::Format, text).field(name);
        let name = fields.get("name").and_then(Value::as_str).unwrap_or_default();
        if !NAME_CHARS.contains(&name.chars().count()) {
            return Err(wrong("name", "a name of 2 to 255 characters is needed".to_owned()));
        }
        let protocol = match before {
            Some(before) if before.protocol.id != UNKNOWN.id => before.protocol,
            _ => named(&fields)?,
        };
        fields.remove("protocol_name");
        fields.insert("protocol_id".to_owned(), protocol.id.into());
        let secs = |name: &str, usual| match fields.get(name).map(|it| it.as_u64()) {
            None => Ok(usual),
            Some(Some(secs)) if secs <= TTL_SECS_MAX => Ok(secs),
            Some(_) => Err(wrong(name, format!("0 to {TTL_SECS_MAX} seconds"))),
        };
        let messages_ttl = secs("messages_ttl", TTL_SECS)?;
        let packets_ttl = secs("packets_ttl", 0)?;
        let commands_ttl = secs("commands_ttl", TTL_SECS)?;
        let is_enabled = fields.get("enabled").and_then(Value::as_bool).unwrap_or(true);
        fields.entry("configuration").or_insert_with(|| Map::new().into());
        let intake = protocol.configure(&set_apart(&mut fields));
        let intake = intake.and_then(|it| authority::check(&it).map(|()| it)).map_err(|error| {
            let path = format!("configuration.{}", error.field);
            wrong(path.trim_end_matches('.'), error.text)
        })?;
        fields.insert("messages_ttl".to_owned(), messages_ttl.into());
        fields.insert("packets_ttl".to_owned(), packets_ttl.into());
        fields.insert("commands_ttl".to_owned(), commands_ttl.into());
        fields.insert("enabled".to_owned(), is_enabled.into());
        let live = before.map_or_else(|| Arc::new(Live::new(head.id)), |it| Arc::clone(&it.live));
        Ok(Self {
            head,
            protocol,
            intake: Some(intake),
            is_enabled,
            messages_ttl,
            packets_ttl,
            live,
            kept: fields,
        })
    }

    fn invalid(head: Head, mut kept: Map<String, Value>) -> Option<Self> {
        set_apart(&mut kept);
        let protocol = named(&kept).unwrap_or(&UNKNOWN);
        let is_enabled = kept.get("enabled").and_then(Value::as_bool).unwrap_or(true);
        // What nobody has said how long to keep is kept as long as any.
        let ttl = |name: &str| {
            let secs = kept.get(name).and_then(Value::as_u64);
            secs.unwrap_or(TTL_SECS_MAX).min(TTL_SECS_MAX)
        };
        let (messages_ttl, packets_ttl) = (ttl("messages_ttl"), ttl("packets_ttl"));
        let live = Arc::new(Live::new(head.id));
        live.block(Some(Block::Configuration));
        Some(Self {
            head,
            protocol,
            intake: None,
            is_enabled,
            messages_ttl,
            packets_ttl,
            live,
            kept,
        })
    }

    fn head(&self) -> Head {
        self.head
    }

    fn kept(&self) -> Map<String, Value> {
        self.kept.clone()
    }

    fn shown(&self) -> Map<String, Value> {
        let mut fields = self.kept.clone();
        fields.remove(SECRETS);
        fields.insert("protocol_name".to_owned(), self.protocol.name.into());
        fields.insert("uri".to_owned(), self.live.uri().map_or(Value::Null, Value::from));
        fields.insert("commands_size".to_owned(), 0.into());
        self.live.numbers().show(&mut fields);
        fields
    }
}

/// The protocol that a new channel is to have; its number counts where its name says otherwise.
fn named(fields: &Map<String, Value>) -> Result<&'static Protocol, Fault> {
    let id = fields.get("protocol_id").and_then(Value::as_u64);
    let name = fields.get("protocol_name").and_then(Value::as_str);
    let found = PROTOCOLS.iter().find(|it| match (id, name) {
        (Some(id), _) => u64::from(it.id) == id,
        (None, name) => name == Some(it.name),
    });
    found.copied().ok_or_else(|| {
        let known: Vec<_> = PROTOCOLS.iter().map(|it| format!("{} ({})", it.name, it.id)).collect();
        let text = format!("there is no such protocol; there are {}", known.join(", "));
        let field = if id.is_some() { "protocol_id" } else { "protocol_name" };
        Fault::new(Code::Format, text).field(field)
    })
}

/// Takes the secrets out of a configuration, and gives it with them. Where one is as it is shown,
/// because whoever changes a channel sends what was shown, it is the one that is kept.
fn set_apart(fields: &mut Map<String, Value>) -> Value {
    let kept = fields.remove(SECRETS).unwrap_or_default();
    let Some(configuration) = fields.get_mut("configuration") else { return Value::Null };
    let mut whole = configuration.clone();
    let mut secrets = Map::new();
    for name in SECRET {
        let (Some(shown), Some(secret)) = (configuration.get_mut(name), whole.get_mut(name)) else {
            continue;
        };
        if let Some(known) = kept.get(name).filter(|_| *shown == HIDDEN) {
            *secret = known.clone();
        }
        *shown = HIDDEN.into();
        secrets.insert(name.to_owned(), secret.clone());
    }
    if !secrets.is_empty() {
        fields.insert(SECRETS.to_owned(), secrets.into());
    }
    whole
}
