//! What users can tell a device, and what it says to that.

use std::fmt;

use serde_json::{Value, json};

use crate::protocol::fields::{Field, FieldError, Values, schema};
use crate::protocol::hex;

/// A command that a protocol carries: a row of its table.
#[derive(Debug, Clone, Copy)]
pub struct CommandKind {
    /// Its name.
    pub name: &'static str,
    /// What it does, in a few words.
    pub title: &'static str,
    /// What it is given.
    pub fields: &'static [Field],
    /// An example of that: what it does, and the JSON of its properties.
    pub example: (&'static str, &'static str),
}

/// A command with properties that have passed its fields.
#[derive(Debug, Clone)]
pub struct Command {
    /// The name of its kind.
    pub name: &'static str,
    /// What it is given.
    pub properties: Values,
}

/// What to send to the device for a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Whether the device answers it. A command that is not answered is executed once it is sent.
    pub is_answered: bool,
}

/// What the device says to a command. Protocols do not number commands: it is of the oldest one of
/// this name that waits for an answer, so one is sent at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Name of the command.
    pub command: &'static str,
    /// Whether the device did it.
    pub is_executed: bool,
    /// What it says.
    pub text: String,
}

/// Why a command cannot be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommandError {
    /// The protocol has no command of this name.
    Unknown(String),
    /// The properties are not those of the command.
    Properties(FieldError),
    /// The device has not said who it is, so nobody knows how to speak to it.
    NotIdentified,
    /// The device sends datagrams: what it sent from listens for answers at most.
    Datagrams,
}

impl CommandKind {
    /// As REST lists it (R5.5).
    pub fn describe(&self) -> Value {
        let (description, properties) = self.example;
        let properties: Value = serde_json::from_str(properties).unwrap_or_default();
        json!({
            "name": self.name, "title": self.title, "address": ["connection"],
            "examples": [{"description": description, "properties": properties}],
            "schema": schema(self.fields),
        })
    }

    /// A command of this kind.
    ///
    /// # Errors
    ///
    /// If the properties are not those that it takes.
    pub fn command(&self, properties: &Value) -> Result<Command, CommandError> {
        let properties = Values::read(self.fields, properties).map_err(CommandError::Properties)?;
        Ok(Command { name: self.name, properties })
    }
}

impl Command {
    /// The bytes of a command that takes either `text` or `hex` (R5.5).
    pub(crate) fn text_or_hex(&self) -> Result<Vec<u8>, CommandError> {
        match (self.properties.text("text"), self.properties.text("hex")) {
            (Some(text), None) => Ok(text.as_bytes().to_vec()),
            (None, Some(digits)) => hex::decode(digits).ok_or_else(|| {
                let text = "has to be pairs of hexadecimal digits";
                CommandError::Properties(FieldError::new("hex", text))
            }),
            _ => {
                let text = "has to hold either `text` or `hex`";
                Err(CommandError::Properties(FieldError::new("", text)))
            }
        }
    }

    /// The bytes of a text that is to be one line.
    pub(crate) fn line(&self) -> Result<Vec<u8>, CommandError> {
        let bytes = self.properties.text("text").unwrap_or_default().as_bytes();
        one_line(bytes)?;
        Ok(bytes.to_vec())
    }
}

/// A command must not become two: the device would take what stands behind a line end for a packet.
pub(crate) fn one_line(bytes: &[u8]) -> Result<(), CommandError> {
    if bytes.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        let text = "has to be one line: the device ends a command at the line end";
        return Err(CommandError::Properties(FieldError::new("", text)));
    }
    Ok(())
}

impl std::error::Error for CommandError {}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "the protocol has no command `{name}`"),
            Self::Properties(error) => write!(f, "wrong properties: {error}"),
            Self::NotIdentified => f.write_str("the device has not said who it is"),
            Self::Datagrams => f.write_str("the device sends over UDP, and takes no commands so"),
        }
    }
}
