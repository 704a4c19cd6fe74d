//! Reading a history as REST asks for it (R4.8 to R4.11): a piece of JSON at a time.

use std::sync::Arc;

use longshore_broker::rest::{Code, Fault, Field, Kind, Object};
use longshore_expression::{Budget, Filter, wildcard};
use longshore_storage::TablesError;
use serde_json::{Map, Value};

use crate::generalize::{self, Generalize, Method};
use crate::history::{self, Cursor, Key};
use crate::message::{MICROS, Message, micros};
use crate::shelves::Shelves;

/// Messages that one request is answered with at most (R4.8).
const COUNT_MAX: u64 = 10_000_000;
/// Names in `fields`.
const FIELDS_MAX: usize = 1_024;

/// The keys of `data`.
pub(crate) static READING: Object = Object {
    name: "DeviceReading",
    fields: &[
        Field::new("from", Kind::Any, "Not before then, in unix seconds; 0: from the first").sent(),
        Field::new("to", Kind::Any, "Not after then, in unix seconds; 0: to the last").sent(),
        Field::new("count", Kind::Whole, "Messages of all devices at most, up to 10000000").sent(),
        Field::new("reverse", Kind::Flag, "The newest first").sent(),
        Field::new("fields", Kind::Text, "Parameters, parted by commas, with wildcards").sent(),
        Field::new("filter", Kind::Text, "An expression, or tests like param>=5").sent(),
        Field::new("generalize", Kind::Whole, "Seconds for each of which one is made").sent(),
        Field::new("method", Kind::Text, "Of that: average, minimum or maximum").sent(),
    ],
    is_open: false,
};

/// What messages there are.
pub(crate) static MESSAGE: Object = Object {
    name: "DeviceMessage",
    fields: &[
        Field::new("timestamp", Kind::Any, "When it was so, in unix seconds"),
        Field::new("ident", Kind::Text, "What the device calls itself"),
        Field::new("device.id", Kind::Whole, "The device"),
    ],
    is_open: true,
};

/// What `data` asks for.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) from: u64,
    pub(crate) to: u64,
    pub(crate) count: u64,
    pub(crate) reverse: bool,
    fields: Option<Names>,
    pub(crate) filter: Option<Filter>,
    /// Seconds.
    generalize: Option<u64>,
    method: Method,
}

/// Names of parameters, with wildcards.
#[derive(Debug)]
pub(crate) struct Names(Vec<String>);

impl Names {
    /// Those parted by commas; none of them stands for all.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, Fault> {
        let names: Vec<_> = text.split(',').map(|it| it.trim().to_owned()).collect();
        if names.len() > FIELDS_MAX {
            return Err(Fault::new(Code::TooLarge, format!("up to {FIELDS_MAX} names")));
        }
        Ok((!text.is_empty() && text != "all" && text != "*").then_some(Self(names)))
    }

    pub(crate) fn takes(&self, name: &str) -> bool {
        self.0.iter().any(|it| wildcard::matches(it, name))
    }
}

impl Asked {
    /// Reads `data`, whose keys are those of `keys`.
    pub(crate) fn of(data: &Map<String, Value>, keys: &Object) -> Result<Self, Fault> {
        let mut asked = Self {
            from: 0,
            to: u64::MAX,
            count: COUNT_MAX,
            reverse: false,
            fields: None,
            filter: None,
            generalize: None,
            method: Method::Average,
        };
        for (name, value) in data {
            if keys.fields.iter().all(|field| field.name != name) {
                let reason = format!("no key {name:?} in data");
                return Err(Fault::new(Code::Format, reason).field(name));
            }
            asked.set(name, value).map_err(|fault| fault.field(name))?;
        }
        Ok(asked)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), Fault> {
        let wrong = |what: &str| Fault::new(Code::Format, format!("{name} is {what}"));
        let text = || value.as_str().ok_or_else(|| wrong("a text"));
        let time = || value.as_f64().and_then(micros).ok_or_else(|| wrong("unix seconds"));
        match name {
            "from" => self.from = time()?,
            "to" => self.to = Some(time()?).filter(|time| *time > 0).unwrap_or(u64::MAX),
            "count" => {
                let count = value.as_u64().filter(|count| (1..=COUNT_MAX).contains(count));
                self.count = count.ok_or_else(|| wrong("from 1 to 10000000"))?;
            }
            "reverse" => self.reverse = value.as_bool().ok_or_else(|| wrong("true or false"))?,
            "fields" => self.fields = Names::parse(text()?)?,
            "filter" => {
                let filter = Some(text()?).filter(|text| !text.is_empty());
                let filter = filter.map(Filter::parse).transpose();
                self.filter = filter.map_err(|error| wrong(&format!("no expression: {error}")))?;
            }
            "generalize" => {
                let secs = value.as_u64().filter(|secs| generalize::SECS.contains(secs));
                self.generalize = Some(secs.ok_or_else(|| wrong("from 10 to 1000000 seconds"))?);
            }
            "method" => {
                self.method = match text()? {
                    "average" => Method::Average,
                    "minimum" => Method::Minimum,
                    "maximum" => Method::Maximum,
                    _ => return Err(wrong("average, minimum or maximum")),
                };
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether messages go out as they are.
    fn is_plain(&self) -> bool {
        self.fields.is_none() && self.filter.is_none() && self.generalize.is_none()
    }
}

/// A read of one device, between two slices.
#[derive(Debug)]
pub(crate) struct Reading {
    asked: Arc<Asked>,
    cursor: Cursor,
    generalize: Option<Generalize>,
    left: u64,
}

impl Reading {
    /// One of `left` messages at most.
    pub(crate) fn new(shelves: &Shelves, device: u64, asked: &Arc<Asked>, left: u64) -> Self {
        let Asked { from, to, reverse, method, .. } = **asked;
        let generalize = asked.generalize.map(|secs| Generalize::new(secs, method, reverse));
        // A stretch is told whole, also the one that the time falls into.
        let from = asked.generalize.map_or(from, |secs| from - from % (secs * MICROS));
        let cursor = Cursor::new(&shelves.history, device, from, to, reverse);
        Self { asked: Arc::clone(asked), cursor, generalize, left }
    }

    /// Messages that it could still have had.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    /// What comes next as JSON, parted by commas: nothing if a slice has nothing that was asked
    /// for, none at the end.
    pub(crate) fn next_text(&mut self) -> Result<Option<String>, TablesError> {
        if self.left == 0 {
            return Ok(None);
        }
        let mut out = String::new();
        let Some(slice) = self.cursor.next_slice()? else {
            let last = self.generalize.as_mut().and_then(Generalize::end);
            let Some(last) = last else { return Ok(None) };
            self.write(last, &mut out);
            return Ok(Some(out));
        };
        for (key, text) in slice {
            if self.left == 0 {
                break;
            }
            // What was written as text is text.
            let Ok(text) = std::str::from_utf8(&text) else { continue };
            if self.asked.is_plain() {
                separate(&mut out);
                out.push_str(text);
                self.left -= 1;
            } else {
                self.add(history::time(&key), text, &mut out);
            }
        }
        Ok(Some(out))
    }

    fn add(&mut self, at: u64, text: &str, out: &mut String) {
        let Ok(message) = Message::parse(text) else { return };
        if self.asked.filter.as_ref().is_some_and(|it| !takes(it, &message)) {
            return;
        }
        match &mut self.generalize {
            None => self.write(message, out),
            Some(generalize) => {
                if let Some(ended) = generalize.add(&message, at) {
                    self.write(ended, out);
                }
            }
        }
    }

    /// Writes what is wanted of a message, unless that is nothing.
    fn write(&mut self, mut message: Message<'_>, out: &mut String) {
        if let Some(names) = &self.asked.fields {
            message.retain(|name| names.takes(name));
        }
        if message.len() > 0 {
            separate(out);
            message.write(out);
            self.left -= 1;
        }
    }
}

/// Places of messages that are to be removed, a slice at a time.
#[derive(Debug)]
pub(crate) struct Removal {
    asked: Asked,
    cursor: Cursor,
}

impl Removal {
    pub(crate) fn new(shelves: &Shelves, device: u64, asked: Asked) -> Self {
        let cursor = Cursor::new(&shelves.history, device, asked.from, asked.to, false);
        Self { asked, cursor }
    }

    /// The next places, with bytes of the rows; none at the end.
    pub(crate) fn next_slice(&mut self) -> Result<Option<Vec<(Key, u64)>>, TablesError> {
        let Some(slice) = self.cursor.next_slice()? else { return Ok(None) };
        let is_meant = |text: &[u8]| {
            let Some(filter) = &self.asked.filter else { return true };
            let text = std::str::from_utf8(text).unwrap_or_default();
            Message::parse(text).is_ok_and(|message| takes(filter, &message))
        };
        let meant = slice.into_iter().filter(|(_, text)| is_meant(text));
        Ok(Some(meant.map(|(key, text)| (key, history::row_bytes(text.len()))).collect()))
    }
}

/// Whether this message is meant.
pub(crate) fn takes(filter: &Filter, message: &Message<'_>) -> bool {
    filter.takes(message, &mut Budget::default())
}

/// Parts what follows from what is there.
pub(crate) fn separate(out: &mut String) {
    if !out.is_empty() {
        out.push(',');
    }
}
