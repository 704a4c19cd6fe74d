//! A device: what its owner says of it (R4.1 to R4.6), and what is going on with it.

use std::sync::Arc;

use longshore_broker::module::{Head, Item};
use longshore_broker::rest::{Code, Fault, Field, Kind, Object};
use serde_json::{Map, Value, json};

use crate::device_type::{self, DeviceType};
use crate::live::Live;
use crate::now;

/// The part of REST that devices are.
pub(crate) const URI: &str = "gw/devices";
/// What they are in logs (R8.1).
pub(crate) const ORIGIN: u64 = 11;

/// Characters of a name and of an ident (R4.1, R1.7).
const NAME_CHARS_MAX: usize = 255;
/// Bytes of all that `configuration` or `metadata` says.
const CONFIGURATION_BYTES_MAX: usize = 4 << 10;
const METADATA_BYTES_MAX: usize = 16 << 10;
/// Digits of a phone (R4.5).
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 9..=15;
/// Seconds: a year, and ten (R4.1).
const TTL_SECS: u64 = 31_536_000;
const TTL_SECS_MAX: u64 = 315_360_000;

/// Since when a device has its ident: with the row, and nowhere shown.
const CLAIMED: &str = "claimed";
const CONFIGURATION: &str = "configuration";
const METADATA: &str = "metadata";
const IDENT: &str = "ident";
const PHONE: &str = "phone";

/// What a device is called by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    pub(crate) account: u64,
    pub(crate) protocol: u64,
    pub(crate) ident: Box<str>,
}

/// One device.
#[derive(Debug)]
pub(crate) struct Device {
    pub(crate) head: Head,
    kept: Map<String, Value>,
    /// None if it has no type yet, or no ident: then no message is its own.
    pub(crate) identity: Option<Identity>,
    /// When it got that, in microseconds: who was first has it (R4.4).
    pub(crate) claimed: u64,
    pub(crate) device_type: Option<&'static DeviceType>,
    /// Another version has kept it as what is not valid now: it is blocked, and no message is its
    /// own.
    pub(crate) is_invalid: bool,
    pub(crate) enabled: bool,
    /// Seconds; 0 keeps no messages.
    pub(crate) messages_ttl: u64,
    /// Bytes of its history; 0 for no bound of its own.
    pub(crate) messages_rotate: u64,
    /// JSON of its name, as messages have it.
    pub(crate) name_json: String,
    /// Shared by all that this device has ever been.
    pub(crate) live: Arc<Live>,
}

/// The fields of a device.
static OBJECT: Object = Object {
    name: "Device",
    fields: &[
        Field::new("id", Kind::Whole, "Its number"),
        Field::new("cid", Kind::Whole, "The account that owns it"),
        Field::new("name", Kind::Text, "What its owner calls it, up to 255 characters").set(),
        Field::new("device_type_id", Kind::Whole, "What it is; 0 as long as that is open").set(),
        Field::new(CONFIGURATION, Kind::Object, "ident, phone, settings_polling: texts").set(),
        Field::new(IDENT, Kind::Any, "configuration.ident").sent(),
        Field::new(PHONE, Kind::Text, "configuration.phone").sent(),
        Field::new("enabled", Kind::Flag, "Whether what it says is taken").set(),
        Field::new("messages_ttl", Kind::Whole, "Seconds to 10 years; 0 keeps nothing").set(),
        Field::new("messages_rotate", Kind::Whole, "Bytes of its history; 0: no bound").set(),
        Field::new("media_ttl", Kind::Whole, "Seconds to 10 years").set(),
        Field::new("media_rotate", Kind::Whole, "Bytes; 0: no bound").set(),
        Field::new(METADATA, Kind::Object, "Texts that its owner keeps with it").set(),
        Field::new("protocol_id", Kind::Whole, "What channels have to speak to hear it"),
        Field::new("protocol_name", Kind::Text, "The name of that").asked(),
        Field::new("device_type_name", Kind::Text, "The name of its type").asked(),
        Field::new("blocked", Kind::Whole, "6 if it is invalid or another has its ident, else 0")
            .asked(),
        Field::new("connected", Kind::Flag, "Whether it is connected now").asked(),
        Field::new("last_active", Kind::Whole, "When it was last heard, 0: never").asked(),
        Field::new("messages_size", Kind::Whole, "KB of its history").asked(),
        Field::new("telemetry", Kind::Object, "The latest of each parameter").asked(),
        Field::new("settings", Kind::Object, "What it is set to").asked(),
        Field::new("commands", Kind::List, "What it can be told").asked(),
        // Clients of flespi ask for all that a device has there.
        Field::new("media_size", Kind::Whole, "0: no media are kept").asked(),
        Field::new("media_traffic", Kind::Whole, "0: no media are kept").asked(),
        Field::new("media_blocked", Kind::Whole, "0: no media are kept").asked(),
        Field::new("groups", Kind::List, "None: there are no groups").asked(),
        Field::new("plugins", Kind::List, "None: there are no plugins").asked(),
        Field::new("calcs", Kind::List, "None: there are no calculators").asked(),
        Field::new("commands_queue", Kind::List, "Left out: see commands-queue").asked(),
        Field::new("streams", Kind::List, "Left out: streams say what they are linked to").asked(),
    ],
    is_open: false,
};

fn wrong(field: &str, reason: impl Into<String>) -> Fault {
    Fault::new(Code::Format, format!("{field} {}", reason.into())).field(field)
}

impl Item for Device {
    const URI: &'static str = URI;
    const OBJECT: &'static Object = &OBJECT;
    const ORIGIN: u64 = ORIGIN;

    fn read(
        head: Head,
        mut kept: Map<String, Value>,
        before: Option<&Self>,
    ) -> Result<Self, Fault> {
        let moved = [kept.remove(IDENT), kept.remove(PHONE)];
        let mut configuration = texts(&mut kept, CONFIGURATION, CONFIGURATION_BYTES_MAX)?;
        for (name, value) in [IDENT, PHONE].into_iter().zip(moved) {
            if let Some(text) = value.and_then(as_text) {
                configuration.insert(name.to_owned(), text.into());
            }
        }
        let ident = check_configuration(&mut configuration)?;
        kept.insert(CONFIGURATION.to_owned(), configuration.into());
        let metadata = texts(&mut kept, METADATA, METADATA_BYTES_MAX)?;
        kept.insert(METADATA.to_owned(), metadata.into());
        let name = kept.entry("name").or_insert_with(|| "".into()).to_string();
        if kept["name"].as_str().is_none_or(|name| name.chars().count() > NAME_CHARS_MAX) {
            return Err(wrong("name", format!("has up to {NAME_CHARS_MAX} characters")));
        }
        let messages_ttl = secs(&mut kept, "messages_ttl")?;
        secs(&mut kept, "media_ttl")?;
        let messages_rotate = or(&mut kept, "messages_rotate", 0);
        or(&mut kept, "media_rotate", 0);
        let enabled = kept.entry("enabled").or_insert(true.into()).as_bool().unwrap_or(true);
        let device_type = match or(&mut kept, "device_type_id", 0) {
            0 => None,
            id => Some(device_type::find(id).ok_or_else(|| {
                wrong("device_type_id", "is none: GET /gw/channel-protocols/all/device-types/all")
            })?),
        };
        let identity = ident.zip(device_type).map(|(ident, of_type)| Identity {
            account: head.account,
            protocol: of_type.protocol_id,
            ident: ident.into(),
        });
        let kept_claim = match before {
            Some(before) if before.identity != identity => None,
            Some(before) => Some(before.claimed),
            None => kept.get(CLAIMED).and_then(Value::as_u64),
        };
        let claimed = kept_claim.unwrap_or_else(now);
        kept.insert(CLAIMED.to_owned(), claimed.into());
        let live = before.map_or_else(Arc::default, |before| Arc::clone(&before.live));
        Ok(Self {
            head,
            kept,
            identity,
            claimed,
            device_type,
            is_invalid: false,
            enabled,
            messages_ttl,
            messages_rotate,
            name_json: name,
            live,
        })
    }

    fn invalid(head: Head, kept: Map<String, Value>) -> Option<Self> {
        let number = |name: &str| kept.get(name).and_then(Value::as_u64);
        // What nobody has said how long to keep is kept as long as any.
        let messages_ttl = number("messages_ttl").unwrap_or(TTL_SECS_MAX).min(TTL_SECS_MAX);
        Some(Self {
            head,
            identity: None,
            claimed: number(CLAIMED).unwrap_or_else(now),
            device_type: number("device_type_id").and_then(device_type::find),
            is_invalid: true,
            enabled: kept.get("enabled").and_then(Value::as_bool).unwrap_or(true),
            messages_ttl,
            messages_rotate: number("messages_rotate").unwrap_or(0),
            name_json: kept.get("name").map_or_else(|| "\"\"".to_owned(), Value::to_string),
            live: Arc::default(),
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
        fields.remove(CLAIMED);
        let protocol = self.device_type.map_or(0, |it| it.protocol_id);
        fields.insert("protocol_id".to_owned(), protocol.into());
        fields
    }

    fn asked(&self, name: &str) -> Option<Value> {
        let of_type = self.device_type;
        Some(match name {
            "protocol_name" => of_type?.protocol_name.into(),
            "device_type_name" => of_type?.name.into(),
            "commands" => of_type.map_or_else(|| Value::Array(Vec::new()), |it| it.commands()),
            "blocked" => self.live.blocked().into(),
            "connected" => self.live.is_connected().into(),
            "last_active" => (self.live.last_active() / 1_000_000).into(),
            "messages_size" => self.live.history_kb().into(),
            "telemetry" => self.live.telemetry(self.head.id)?,
            "settings" => self.live.settings(self)?,
            "media_size" | "media_traffic" | "media_blocked" => 0.into(),
            "groups" | "plugins" | "calcs" => Value::Array(Vec::new()),
            _ => return None,
        })
    }
}

impl Device {
    /// Its own `ident`.
    pub(crate) fn ident(&self) -> Option<&str> {
        self.kept.get(CONFIGURATION)?.get(IDENT)?.as_str()
    }

    /// Whether settings that are not known are asked for when it connects (R5.10).
    pub(crate) fn is_polled(&self) -> bool {
        let polling = self.kept.get(CONFIGURATION).and_then(|it| it.get("settings_polling"));
        polling.and_then(Value::as_str) == Some("once")
    }

    /// The number of its type, 0 if it has none.
    pub(crate) fn type_id(&self) -> u64 {
        self.device_type.map_or(0, |it| it.id)
    }
}

/// The number that a field is, which it is given if it is missing.
fn or(kept: &mut Map<String, Value>, name: &str, default: u64) -> u64 {
    kept.entry(name).or_insert_with(|| default.into()).as_u64().unwrap_or(default)
}

fn secs(kept: &mut Map<String, Value>, name: &str) -> Result<u64, Fault> {
    let secs = or(kept, name, TTL_SECS);
    if secs > TTL_SECS_MAX {
        return Err(wrong(name, format!("is 0 to {TTL_SECS_MAX} seconds")));
    }
    Ok(secs)
}

/// Scalars as text; an array or an object as its JSON (R4.2).
fn as_text(value: Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => Some(other.to_string()),
    }
}

/// An object whose values are texts, whatever was sent (R4.2).
fn texts(
    kept: &mut Map<String, Value>,
    name: &str,
    bytes_max: usize,
) -> Result<Map<String, Value>, Fault> {
    let Some(Value::Object(values)) = kept.remove(name) else { return Ok(Map::new()) };
    let texts = values.into_iter().filter_map(|(name, it)| Some((name, as_text(it)?.into())));
    let texts: Map<String, Value> = texts.collect();
    let bytes: usize = texts.iter().map(|(name, it)| name.len() + text_of(it).len()).sum();
    if bytes > bytes_max {
        return Err(wrong(name, format!("has up to {bytes_max} bytes of names and texts")));
    }
    Ok(texts)
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What [`check_configuration`] takes, as JSON schema (R3.20). One that is empty is none.
pub(crate) fn configuration_schema() -> Value {
    let (least, most) = (PHONE_DIGITS.start(), PHONE_DIGITS.end());
    json!({
        "type": "object", "additionalProperties": {"type": "string"},
        "properties": {
            IDENT: {
                "type": "string", "title": "Ident", "maxLength": NAME_CHARS_MAX,
                "pattern": r"^[^#+/\x00-\x1f\x7f]*$",
                "description": "What the device calls itself towards channels",
            },
            PHONE: {
                "type": "string", "title": "Phone",
                "pattern": format!(r"^(\+[0-9]{{{least},{most}}})?$"),
                "description": "Its number, as +10123456789",
            },
            "settings_polling": {
                "type": "string", "title": "Polling of settings",
                "description": "once: settings that are not known are asked for",
            },
        },
    })
}

/// Checks `ident` (R1.7) and `phone` (R4.5); the ident.
fn check_configuration(configuration: &mut Map<String, Value>) -> Result<Option<String>, Fault> {
    let is_unset = |name: &str, of: &Map<String, Value>| of.get(name).is_some_and(|it| it == "");
    for name in [IDENT, PHONE] {
        if is_unset(name, configuration) {
            configuration.remove(name);
        }
    }
    let ident = configuration.get(IDENT).map(text_of);
    let is_level = |ident: &str| {
        let is_fit = |c: char| !matches!(c, '#' | '+' | '/' | '\0'..='\u{1f}' | '\u{7f}');
        ident.chars().count() <= NAME_CHARS_MAX && ident.chars().all(is_fit)
    };
    if ident.is_some_and(|ident| !is_level(ident)) {
        let reason = "has up to 255 characters, and none of them is #, +, / or a control character";
        return Err(wrong("configuration.ident", reason));
    }
    let phone = configuration.get(PHONE).map(text_of);
    let is_phone = |phone: &str| {
        let digits = phone.strip_prefix('+').unwrap_or_default();
        PHONE_DIGITS.contains(&digits.len()) && digits.bytes().all(|it| it.is_ascii_digit())
    };
    if phone.is_some_and(|phone| !is_phone(phone)) {
        return Err(wrong("configuration.phone", "is + and 9 to 15 digits"));
    }
    Ok(ident.map(str::to_owned))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<Device, Fault> {
        let Value::Object(fields) = value else { panic!("an object") };
        Device::read(Head { id: 1, account: 1 }, fields, None)
    }

    /// R4.1, R4.2, R4.6: what clients of 2018 send is answered as those of today expect it.
    #[test]
    fn only_texts_are_in_a_configuration_whatever_was_sent() {
        let sent = json!({"name": "a", "device_type_id": 0, "ident": 352_094, "phone": "",
            "configuration": {"settings_polling": "once", "odd": true, "none": null},
            "metadata": {"color": "red", "doors": 4, "list": [1]}, "messages_ttl": 0});
        let shown = read(sent).unwrap().shown();
        let want = json!({"ident": "352094", "odd": "true", "settings_polling": "once"});
        assert_eq!(shown["configuration"], want);
        assert_eq!(shown["metadata"], json!({"color": "red", "doors": "4", "list": "[1]"}));
        assert_eq!((&shown["messages_ttl"], &shown["media_ttl"]), (&json!(0), &json!(TTL_SECS)));
        assert_eq!((&shown["enabled"], &shown["protocol_id"]), (&json!(true), &json!(0)));
    }

    /// R3.20: for forms that are made of it.
    #[test]
    fn the_schema_of_a_configuration_says_what_is_checked() {
        let schema = configuration_schema();
        let of = |name: &str| &schema["properties"][name];
        assert_eq!(of(PHONE)["pattern"], r"^(\+[0-9]{9,15})?$");
        assert_eq!(of(IDENT)["pattern"], r"^[^#+/\x00-\x1f\x7f]*$");
        assert_eq!(of(IDENT)["maxLength"], 255);
        let texts = schema["properties"].as_object().unwrap().values();
        assert!(texts.into_iter().all(|it| it["type"] == "string"), "{schema}");
        assert_eq!(schema.get("required"), None);
    }

    /// R1.7, R4.1, R4.5.
    #[test]
    fn fields_have_bounds() {
        let with = |name: &str, value: Value| read(json!({name: value}));
        let of = |name: &str, value: Value| read(json!({"configuration": {name: value}}));
        assert!(of("phone", json!("+123456789")).is_ok() && of("ident", json!("a b")).is_ok());
        for phone in ["123456789", "+12345678", "+1234567890123456", "+12345678a"] {
            assert!(of("phone", json!(phone)).is_err(), "{phone}");
        }
        for ident in ["a/b", "+", "a#", "a\u{7}", "\u{7f}", &"i".repeat(256)] {
            assert!(of("ident", json!(ident)).is_err(), "{ident}");
        }
        assert!(with("name", json!("n".repeat(256))).is_err());
        assert!(with("messages_ttl", json!(315_360_001)).is_err());
        assert!(with("device_type_id", json!(99)).is_err());
        assert!(with("metadata", json!({"a": "b".repeat(METADATA_BYTES_MAX)})).is_err());
    }
}
