//! A command for a device, and what came of it (R5.1 to R5.6).

use longshore_broker::rest::{Code, Fault, Field, Kind, Object};
use longshore_expression::{Budget, Expression};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::courier::Answer;
use crate::deed::Deed;
use crate::device::Device;
use crate::message::MICROS;
use crate::shelves::two;
use crate::telemetry::Telemetry;

/// Seconds that a command waits for a device (R5.3).
const TTL_SECS: u64 = 86_400;
const TTL_SECS_RANGE: std::ops::RangeInclusive<u64> = 60..=2_592_000;
/// Seconds that a caller waits for a device (R5.1).
const TIMEOUT_SECS: u64 = 30;
const TIMEOUT_SECS_RANGE: std::ops::RangeInclusive<u64> = 5..=60;
/// How often a device is told.
const ATTEMPTS: u64 = 3;
const ATTEMPTS_MAX: u64 = 10;
const PRIORITY_MAX: u64 = 100;
/// Bytes of properties, and of `meta`, as JSON.
const PROPERTIES_BYTES_MAX: usize = 16 << 10;
const META_BYTES_MAX: usize = 1 << 10;

/// A command.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Command {
    pub(crate) id: u64,
    pub(crate) device_id: u64,
    pub(crate) name: String,
    pub(crate) properties: Value,
    /// When it was made, and later when it ended, in seconds.
    timestamp: f64,
    /// Until when it waits, in seconds; 0 for one that does not.
    expires: u64,
    priority: u64,
    pub(crate) max_attempts: u64,
    pub(crate) attempts: u64,
    condition: Option<String>,
    meta: Option<Value>,
    pub(crate) executed: bool,
    response: Value,
}

/// What becomes of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Queued,
    Sent,
    Processed,
    Canceled,
    Expired,
}

impl State {
    /// What the log says of it.
    pub(crate) const fn deed(self) -> Deed {
        match self {
            Self::Queued => Deed::Queued,
            Self::Sent => Deed::Sent,
            Self::Canceled => Deed::Canceled,
            Self::Expired => Deed::Expired,
            Self::Processed => Deed::Processed,
        }
    }
}

/// Commands, for REST.
pub(crate) static OBJECT: Object = Object {
    name: "DeviceCommand",
    fields: &[
        Field::new("id", Kind::Whole, "Its number"),
        Field::new("device_id", Kind::Whole, "The device"),
        Field::new("name", Kind::Text, "One of those that the type of the device has").set(),
        Field::new("properties", Kind::Object, "What it takes: see commands of the device").set(),
        Field::new("position", Kind::Whole, "Its place in the array that was sent, from 1 on"),
        Field::new("timeout", Kind::Whole, "Seconds that an answer is waited for, 5 to 60").sent(),
        Field::new("ttl", Kind::Whole, "Seconds that it waits for the device").sent(),
        Field::new("expires", Kind::Whole, "Until when it waits, in unix seconds").set(),
        Field::new("priority", Kind::Whole, "0 to 100; higher ones go first").set(),
        Field::new("max_attempts", Kind::Whole, "How often the device is told, 1 to 10").set(),
        Field::new("attempts", Kind::Whole, "How often it was"),
        Field::new("condition", Kind::Text, "An expression over telemetry that has to hold").set(),
        Field::new("meta", Kind::Any, "Any JSON of up to 1 KB, which is shown with it").set(),
        Field::new("executed", Kind::Flag, "Whether the device did it"),
        Field::new("response", Kind::Any, "What it said; null if nothing"),
        Field::new("timestamp", Kind::Any, "When it was made, or ended, in unix seconds"),
        Field::new("address", Kind::Text, "connection").sent(),
    ],
    is_open: false,
};

fn wrong(field: &str, what: &str) -> Fault {
    Fault::new(Code::Format, format!("{field} {what}")).field(field)
}

impl Command {
    pub(crate) fn new(id: u64, name: &str, properties: Value, now: u64) -> Self {
        Self {
            id,
            device_id: 0,
            name: name.to_owned(),
            properties,
            timestamp: now as f64 / 1e6,
            expires: 0,
            priority: 0,
            max_attempts: ATTEMPTS,
            attempts: 0,
            condition: None,
            meta: None,
            executed: false,
            response: Value::Null,
        }
    }

    /// Reads one that was sent for a device.
    pub(crate) fn read(id: u64, device: &Device, sent: &Value, now: u64) -> Result<Self, Fault> {
        let Value::Object(sent) = sent else {
            return Err(Fault::new(Code::Format, "a command is an object"));
        };
        let is_known = |name: &str| OBJECT.fields.iter().any(|field| field.name == name);
        if let Some(name) = sent.keys().find(|name| !is_known(name)) {
            return Err(wrong(name, "is no field of a command"));
        }
        if sent.get("address").is_some_and(|it| !is_connection(it)) {
            return Err(wrong("address", "is connection: no other way leads to a device"));
        }
        let name = sent.get("name").and_then(Value::as_str).unwrap_or_default();
        let kinds = device.device_type.map_or(&[][..], |it| it.commands);
        let Some(kind) = kinds.iter().find(|it| it.name == name) else {
            let names: Vec<_> = kinds.iter().map(|it| it.name).collect();
            let what = match names.is_empty() {
                true => "is none: devices of this type take no commands".to_owned(),
                false => format!("is one of {}", names.join(", ")),
            };
            return Err(wrong("name", &what));
        };
        let properties = sent.get("properties").cloned().unwrap_or_else(|| json!({}));
        let size = |value: &Value| value.to_string().len();
        let object = properties.as_object();
        let Some(object) = object.filter(|_| size(&properties) <= PROPERTIES_BYTES_MAX) else {
            return Err(wrong("properties", "is an object of up to 16 KB"));
        };
        kind.check(object).map_err(|what| wrong("properties", &what))?;
        let mut command = Self::new(id, name, properties, now);
        command.device_id = device.head.id;
        command.expires = expires(sent, now)?;
        command.priority = number(sent, "priority", 0, 0..=PRIORITY_MAX)?;
        command.max_attempts = number(sent, "max_attempts", ATTEMPTS, 1..=ATTEMPTS_MAX)?;
        let condition = sent.get("condition").and_then(Value::as_str).filter(|it| !it.is_empty());
        if let Some(Err(error)) = condition.map(Expression::parse) {
            return Err(wrong("condition", &format!("is no expression: {error}")));
        }
        command.condition = condition.map(str::to_owned);
        command.meta = sent.get("meta").filter(|meta| !meta.is_null()).cloned();
        if command.meta.as_ref().is_some_and(|meta| size(meta) > META_BYTES_MAX) {
            return Err(wrong("meta", "has up to 1 KB"));
        }
        Ok(command)
    }

    /// The key of its row.
    pub(crate) fn key(&self) -> [u8; 16] {
        two(self.device_id, self.id)
    }

    pub(crate) fn row(&self) -> Vec<u8> {
        // It has no keys that are no texts.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Its place in the queue.
    pub(crate) fn place(&self) -> (u8, u64) {
        ((PRIORITY_MAX - self.priority.min(PRIORITY_MAX)) as u8, self.id)
    }

    pub(crate) fn expires_micros(&self) -> u64 {
        self.expires.saturating_mul(MICROS)
    }

    /// Whether what is known of the device lets it go.
    pub(crate) fn holds(&self, telemetry: &Telemetry) -> bool {
        let condition = self.condition.as_deref().map(Expression::parse);
        condition.is_none_or(|it| it.is_ok_and(|it| it.is_true(telemetry, &mut Budget::default())))
    }

    /// What came of it; no answer if the time was up.
    pub(crate) fn end(&mut self, answer: Option<&Answer>, now: u64) {
        self.timestamp = now as f64 / 1e6;
        let Some(answer) = answer else { return };
        self.executed = answer.is_executed();
        self.response = match (&answer.response, &answer.error) {
            // What is not answered is done when it is sent (R5.2).
            (Value::Null, _) if self.executed => "sent".into(),
            (Value::Null, Some(error)) => error.as_str().into(),
            (response, _) => response.clone(),
        };
    }

    /// As REST shows one of a queue, or what came of it.
    pub(crate) fn shown(&self) -> Value {
        json!({
            "id": self.id, "device_id": self.device_id, "name": self.name,
            "properties": self.properties, "timestamp": self.timestamp, "expires": self.expires,
            "priority": self.priority, "max_attempts": self.max_attempts,
            "attempts": self.attempts, "condition": self.condition, "meta": self.meta,
            "executed": self.executed, "response": self.response,
        })
    }

    /// As REST shows one that somebody waits for (R5.2).
    pub(crate) fn shown_at(&self, position: usize) -> Value {
        json!({
            "id": self.id, "device_id": self.device_id, "name": self.name,
            "properties": self.properties, "position": position, "executed": self.executed,
            "response": self.response, "timestamp": self.timestamp as u64, "expires": 0,
        })
    }
}

/// Older clients send an object.
fn is_connection(address: &Value) -> bool {
    address == "connection" || address.get("type").is_some_and(|it| it == "connection")
}

/// The seconds that a caller waits for an answer.
pub(crate) fn timeout_secs(sent: &Value) -> Result<u64, Fault> {
    let empty = Map::new();
    let sent = sent.as_object().unwrap_or(&empty);
    number(sent, "timeout", TIMEOUT_SECS, TIMEOUT_SECS_RANGE)
}

fn expires(sent: &Map<String, Value>, now: u64) -> Result<u64, Fault> {
    let now = now / MICROS;
    let Some(expires) = sent.get("expires").filter(|it| !it.is_null()) else {
        return Ok(now + number(sent, "ttl", TTL_SECS, TTL_SECS_RANGE)?);
    };
    let expires = expires.as_u64().filter(|it| (now..=now + TTL_SECS_RANGE.end()).contains(it));
    expires.ok_or_else(|| wrong("expires", "is a time in unix seconds within 30 days from now"))
}

fn number(
    sent: &Map<String, Value>,
    name: &str,
    default: u64,
    range: std::ops::RangeInclusive<u64>,
) -> Result<u64, Fault> {
    let number = sent.get(name).filter(|it| !it.is_null()).map_or(Some(default), Value::as_u64);
    let number = number.filter(|number| range.contains(number));
    let what = format!("is a whole number from {} to {}", range.start(), range.end());
    number.ok_or_else(|| wrong(name, &what))
}
