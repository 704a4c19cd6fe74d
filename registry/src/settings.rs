//! Settings of a device: a shadow of what it is set to, and what it is to be set to (R5.7 to
//! R5.10).

use longshore_broker::module::{Event, Item};
use longshore_broker::rest::{Code, Fault, Field, Kind, Object};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::deed::Deed;
use crate::device::Device;
use crate::device_type;
use crate::message::MICROS;
use crate::writer::is_level;

/// Bytes of the name of a setting, and of its value as JSON.
const NAME_BYTES_MAX: usize = 255;
const VALUE_BYTES_MAX: usize = 4 << 10;
/// Seconds for which a value may wait for the device (9).
const TTL_SECS: u64 = 86_400;
const TTL_SECS_RANGE: std::ops::RangeInclusive<u64> = 60..=2_592_000;
/// How often a device is asked for a value before it counts as unreadable.
pub(crate) const READS_MAX: u32 = 3;

/// It can be read, and written.
const MODE: u64 = 1 | 2;

/// One setting of one device.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) name: String,
    /// How it gets to the device; none of one that is kept here alone.
    pub(crate) of_type: Option<&'static device_type::Setting>,
    pub(crate) kept: Kept,
}

/// What is kept of a setting.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Kept {
    /// What the device is set to; null if that is not known.
    pub(crate) current: Value,
    /// What it is to be set to.
    pub(crate) pending: Option<Value>,
    /// Until when, in microseconds.
    pub(crate) expires: u64,
    /// When `current` was learned, in microseconds.
    pub(crate) updated: u64,
    /// Whether the device is to be asked for it.
    pub(crate) is_asked: bool,
    /// How often it was asked in vain.
    pub(crate) reads: u32,
}

/// Settings, for REST.
pub(crate) static OBJECT: Object = Object {
    name: "DeviceSetting",
    fields: &[
        Field::new("name", Kind::Text, "Its name"),
        Field::new("device_id", Kind::Whole, "The device"),
        Field::new("updated", Kind::Any, "When the value was learned, in unix seconds"),
        Field::new("schema", Kind::Object, "JSON schema of values"),
        Field::new("current", Kind::Any, "What the device is set to; null: not known"),
        Field::new("pending", Kind::Any, "What it is to be set to; null: nothing"),
        Field::new("address", Kind::Text, "connection, or local for what is kept here alone").set(),
        Field::new("mode", Kind::Whole, "1 readable, 2 writable, added"),
        Field::new("status", Kind::Text, "known, unknown, pending or unreadable"),
        Field::new("tab", Kind::Text, "Where a page shows it"),
        Field::new("properties", Kind::Any, "What it is to be set to").sent(),
        Field::new("ttl", Kind::Whole, "Seconds for which that waits, 60 to 2592000").sent(),
    ],
    is_open: false,
};

impl Setting {
    /// Those that the type of a device has, of which nothing is known.
    pub(crate) fn of_type(device: &Device) -> Vec<Self> {
        let all = device.device_type.map_or(&[][..], |it| it.settings).iter();
        all.map(|it| Self { name: it.name.to_owned(), of_type: Some(it), kept: Kept::default() })
            .collect()
    }

    /// One that is kept here alone.
    pub(crate) fn local(name: &str, kept: Kept) -> Self {
        Self { name: name.to_owned(), of_type: None, kept }
    }

    pub(crate) fn fill(&mut self, kept: Kept) {
        self.kept = kept;
    }

    /// Whether there is nothing left of it.
    pub(crate) fn is_gone(&self) -> bool {
        self.of_type.is_none() && self.kept.current.is_null()
    }

    pub(crate) fn row(&self) -> Vec<u8> {
        // It has no keys that are no texts.
        serde_json::to_vec(&self.kept).unwrap_or_default()
    }

    /// Whether a value waits for the device.
    pub(crate) fn is_pending(&self, now: u64) -> bool {
        self.of_type.is_some() && self.kept.pending.is_some() && now < self.kept.expires
    }

    /// Whether the device is to be asked for its value.
    pub(crate) fn is_wanted(&self, is_polled: bool) -> bool {
        let is_unknown = is_polled && self.kept.current.is_null();
        let is_tried = self.kept.reads >= READS_MAX;
        self.of_type.is_some() && !is_tried && (self.kept.is_asked || is_unknown)
    }

    /// Takes over what is to be set, from a body (R5.8). Whether it is so at once.
    pub(crate) fn put(&mut self, body: &Map<String, Value>, now: u64) -> Result<bool, Fault> {
        let wrong = |field: &str, what: &str| {
            Fault::new(Code::Format, format!("{field} {what}")).field(field)
        };
        let known = OBJECT.fields.iter().map(|field| field.name);
        if let Some(name) = body.keys().find(|name| known.clone().all(|it| it != name.as_str())) {
            return Err(wrong(name, "is no field of a setting"));
        }
        let value = body.get("properties").cloned();
        let value = value.ok_or_else(|| wrong("properties", "is the value to be set"))?;
        if value.to_string().len() > VALUE_BYTES_MAX {
            return Err(wrong("properties", "has up to 4096 bytes"));
        }
        let ttl = body.get("ttl").map_or(Some(TTL_SECS), Value::as_u64);
        let ttl = ttl.filter(|ttl| TTL_SECS_RANGE.contains(ttl));
        let ttl = ttl.ok_or_else(|| wrong("ttl", "is 60 to 2592000 seconds"))?;
        let address = body.get("address").map_or(Some("connection"), Value::as_str);
        match (address, self.of_type) {
            (Some("local"), _) => {
                let kept = &mut self.kept;
                (kept.current, kept.pending, kept.updated) = (value, None, now);
                Ok(true)
            }
            (Some("connection"), Some(_)) => {
                let is_line = value.is_number() || value.as_str().is_some_and(is_line);
                if !is_line {
                    return Err(wrong("properties", "is a number, or a text of one line"));
                }
                let kept = &mut self.kept;
                (kept.pending, kept.expires) = (Some(value), now + ttl * MICROS);
                Ok(false)
            }
            (Some("connection"), None) => {
                let what = "is local: the type of the device has no such setting";
                Err(wrong("address", what))
            }
            _ => Err(wrong("address", "is connection or local")),
        }
    }

    /// As REST shows it (R5.7).
    pub(crate) fn shown(&self, device: u64) -> Value {
        let Kept { current, pending, updated, reads, .. } = &self.kept;
        let status = match (current, pending) {
            (_, Some(_)) => "pending",
            _ if *reads >= READS_MAX => "unreadable",
            (Value::Null, _) => "unknown",
            _ => "known",
        };
        let address = if self.of_type.is_some() { "connection" } else { "local" };
        let schema = match self.of_type {
            Some(of_type) => json!({"type": "string", "title": of_type.title}),
            None => json!({}),
        };
        json!({
            "name": self.name, "device_id": device, "updated": *updated as f64 / 1e6,
            "schema": schema, "current": current, "pending": pending, "address": address,
            "mode": MODE, "status": status, "tab": "",
        })
    }

    /// What tells the device to take over the value that waits.
    pub(crate) fn write_text(&self) -> Option<String> {
        let value = self.kept.pending.as_ref()?;
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        Some(format!("{}{value}", self.of_type?.write))
    }
}

/// The value in what a device answers.
pub(crate) fn value_in(answer: &str) -> Option<Value> {
    let (_, value) = answer.split_once(device_type::VALUE)?;
    Some(value.trim().into())
}

fn is_line(text: &str) -> bool {
    !text.contains(['\r', '\n', '\0'])
}

/// Checks the name of a setting that is to be kept.
pub(crate) fn check_name(name: &str) -> Result<(), Fault> {
    if is_level(name)
        && name.len() <= NAME_BYTES_MAX
        && !name.contains(['*', '?', ','])
        && name != "all"
    {
        return Ok(());
    }
    let reason = "one setting is set at a time: its name has 1 to 255 bytes, and none of \
                  / + # * ? and comma";
    Err(Fault::new(Code::Format, reason))
}

/// The setting's state topic of a device, without the prefix.
pub(crate) fn state_name(name: &str) -> String {
    format!("settings/{name}")
}

impl Setting {
    /// The event of this, for the log (R5.9).
    pub(crate) fn event(&self, device: &Device, deed: Deed) -> Event {
        let mut fields = Map::new();
        fields.insert("name".to_owned(), self.name.clone().into());
        fields.insert("current".to_owned(), self.kept.current.clone());
        fields.insert("pending".to_owned(), self.kept.pending.clone().into());
        let of = format!("settings/{}/", self.name);
        crate::event(device.head().id, &of, deed, fields)
    }
}
