//! Messages that come as JSON: an object, or a list of them. HTTP and MQTT channels share it.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::message::{Ident, Message, Timestamp};
use crate::parameter;
use crate::protocol::fields::{Field, FieldError, Kind, Values};
use crate::protocol::{Error, Step};

/// Bytes of memory that the values of one text may take, by a generous estimate. A text of a
/// megabyte can hold values of a hundred; 10 MB of common messages stay below this.
const ROOM_BYTES_MAX: usize = 128 << 20;
/// What an object, a list and a member take at most, beside their text.
const OBJECT_BYTES: usize = 640;
const LIST_BYTES: usize = 160;
const MEMBER_BYTES: usize = 128;

/// Names that a channel may give to what devices send (R10.2).
const NAMES_MAX: usize = 128;

pub(crate) const PATH: Field = Field::new(
    "path",
    Kind::Text(255),
    "Where in an object the list of messages is: names with dots between them",
);
pub(crate) const IDENT: Field = Field::new(
    "ident",
    Kind::Text(255),
    "Member of a message that has its ident; `ident` if nothing is said",
);
pub(crate) const NAMES: Field = Field::new(
    "parameters",
    Kind::Names(NAMES_MAX),
    "Names of members, each with the name that the parameter gets",
);
pub(crate) const SKIP_INVALID: Field = Field::new(
    "skip_invalid",
    Kind::Flag,
    "Whether messages that are none are left out, where they else have all refused",
);

/// How messages are found in JSON.
#[derive(Debug)]
pub(crate) struct Objects {
    path: Vec<String>,
    ident: String,
    names: BTreeMap<String, String>,
    skips_invalid: bool,
}

impl Objects {
    pub(crate) fn configure(values: &Values) -> Result<Self, FieldError> {
        for (_, name) in values.names(NAMES.name) {
            check_name(name)?;
        }
        let path = values.text(PATH.name).map(|path| path.split('.').map(str::to_owned).collect());
        Ok(Self {
            path: path.unwrap_or_default(),
            ident: values.text(IDENT.name).unwrap_or("ident").to_owned(),
            names: values
                .names(NAMES.name)
                .map(|(from, to)| (from.to_owned(), to.to_owned()))
                .collect(),
            skips_invalid: values.flag(SKIP_INVALID.name),
        })
    }

    /// The messages of a text. `ident` is that of all of them, if it is known from elsewhere.
    ///
    /// # Errors
    ///
    /// If it is no JSON, or one message is none and those are not skipped: then none counts, for
    /// whoever sent them gets one answer for all.
    pub(crate) fn read(&self, text: &[u8], ident: Option<&Ident>) -> Result<Step, Error> {
        if room(text) > ROOM_BYTES_MAX {
            return Err(Error::violation("the JSON has too many values: send fewer messages"));
        }
        let json: Value = serde_json::from_slice(text)
            .map_err(|error| Error::parse(format!("the JSON cannot be read: {error}")))?;
        let items = match self.descend(json)? {
            Value::Array(items) => items,
            item @ Value::Object(_) => vec![item],
            _ => return Err(Error::parse("messages are an object or a list of objects")),
        };
        let mut step = Step::default();
        for (at, item) in items.into_iter().enumerate() {
            match self.message(item, ident) {
                Ok(message) => step.messages.push(message),
                Err(error) => {
                    let error = Error::new(error.code(), format!("message {at}: {error}"));
                    if !self.skips_invalid {
                        return Err(error);
                    }
                    step.fault.get_or_insert(error);
                }
            }
        }
        Ok(step)
    }

    fn descend(&self, json: Value) -> Result<Value, Error> {
        self.path.iter().try_fold(json, |json, name| match json {
            Value::Object(mut members) => members
                .remove(name)
                .ok_or_else(|| Error::parse(format!("there is no `{name}` in the JSON"))),
            _ => Err(Error::parse(format!("`{name}` is looked for in what is no object"))),
        })
    }

    fn message(&self, item: Value, ident: Option<&Ident>) -> Result<Message, Error> {
        let Value::Object(mut members) = item else {
            return Err(Error::parse("it is no object"));
        };
        let own = self.ident(&mut members);
        let ident = match ident {
            Some(ident) => ident.clone(),
            None => own?,
        };
        let mut message = Message::new(ident);
        for (name, value) in members {
            let mapped = self.names.get(&name);
            match (mapped.unwrap_or(&name).as_str(), mapped) {
                ("timestamp", _) => message.timestamp = Some(timestamp(&value)?),
                (name, Some(_)) => message.parameters.set_exact(name, value)?,
                (name, None) => message.parameters.set_other(name, value)?,
            }
        }
        Ok(message)
    }

    /// Takes the ident from a message. A number is taken for its digits. \[inferred\]
    fn ident(&self, members: &mut Map<String, Value>) -> Result<Ident, Error> {
        match members.remove(&self.ident) {
            Some(Value::String(text)) => Ok(Ident::new(&text)?),
            Some(Value::Number(number)) if !number.is_f64() => Ok(Ident::new(&number.to_string())?),
            Some(_) => Err(Error::parse(format!("`{}` is no text", self.ident))),
            None => Err(Error::parse(format!("it has no `{}`", self.ident))),
        }
    }
}

/// A name that a user gives: it may be any that stands in a topic, but none that the hub sets.
fn check_name(name: &str) -> Result<(), FieldError> {
    let is_of_the_hub = parameter::find(name).is_some_and(|it| it.is_of_the_hub());
    let is_forbidden = |c: char| matches!(c, '#' | '+' | '/') || c.is_control();
    if name != "timestamp" && is_of_the_hub {
        return Err(FieldError::new(NAMES.name, format!("has `{name}`, which the hub sets")));
    }
    if name.len() > crate::Parameters::NAME_BYTES_MAX || name.contains(is_forbidden) {
        return Err(FieldError::new(NAMES.name, format!("has `{name}`, which is no name")));
    }
    Ok(())
}

/// Seconds, or ISO 8601 (R10.1).
pub(crate) fn timestamp(value: &Value) -> Result<Timestamp, Error> {
    let found = match value {
        Value::Number(seconds) => seconds.as_f64().and_then(Timestamp::from_seconds),
        Value::String(text) => Timestamp::parse(text),
        _ => None,
    };
    found.ok_or_else(|| {
        Error::parse("`timestamp` is neither UNIX time in seconds nor ISO 8601 since 1970-01-12")
    })
}

/// What the values of a text may take, at most. What stands in texts is counted, too: that errs on
/// the safe side.
pub(crate) fn room(text: &[u8]) -> usize {
    let cost = |byte: &u8| match byte {
        b'{' => OBJECT_BYTES,
        b'[' => LIST_BYTES,
        b',' => MEMBER_BYTES,
        _ => 1,
    };
    text.iter().map(cost).sum()
}
