//! The seam between a channel and what it speaks.
//!
//! A protocol is one file and a row of [`PROTOCOLS`]. The row is data: what it is called, how it is
//! configured, what it can say. [`Protocol::configure`] makes an [`Intake`] of it, and that says in
//! what shape a channel gets its input:
//!
//! - **bytes** of TCP connections and UDP datagrams on one port. [`Decoder`] is what a protocol
//!   implements; [`Connection`] is what keeps the bytes that are no whole packet yet;
//! - **requests** of HTTP, given whole ([`Requests`]);
//! - **publications** of an MQTT broker ([`mqtt::Publications`]).
//!
//! All of them end in a [`Step`]: messages, together with what is answered once they are accepted.
//! Nothing here has a socket, a clock or a runtime, so whoever drives it decides when that is.

use std::fmt;

use serde_json::{Value, json};

use crate::message::{Ident, Message};
use crate::parameter;

mod command;
mod connection;
mod crc16;
mod error;
pub mod fields;
pub(crate) mod hex;
pub mod http;
pub mod mqtt;
mod objects;
pub mod osmand;
mod position;
mod reader;
pub mod teltonika;
pub mod wialon_ips;
pub mod wialon_retranslator;

pub use command::{Answer, Command, CommandError, CommandKind, Order};
pub use connection::Connection;
pub use crc16::crc16;
pub use error::{CloseCode, Error};
use fields::{Field, FieldError, schema};

/// All protocols that a channel can have, in ascending order of their names.
pub const PROTOCOLS: [&Protocol; 6] = [
    &http::PROTOCOL,
    &mqtt::PROTOCOL,
    &osmand::PROTOCOL,
    &teltonika::PROTOCOL,
    &wialon_ips::PROTOCOL,
    &wialon_retranslator::PROTOCOL,
];

/// What a protocol is.
#[derive(Debug)]
pub struct Protocol {
    /// Its number. It never changes and is not given again: channels and messages have it. The
    /// original's numbers are not public; 14 is what public messages of Teltonika devices have.
    pub id: u16,
    /// Its name: lower case, digits and `_`.
    pub name: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it is, in a sentence or two.
    pub description: &'static str,
    /// How devices reach it.
    pub transports: &'static [&'static str],
    /// What a channel of it is configured by.
    pub fields: &'static [Field],
    /// Names of the standard parameters that its messages may have, beside those that all have.
    pub parameters: &'static [&'static str],
    /// What can be said to its devices.
    pub commands: &'static [CommandKind],
    /// Makes it ready to run; the configuration has passed `fields`.
    pub intake: fn(&fields::Values) -> Result<Intake, FieldError>,
}

/// What a channel gets, by shape, and who reads it.
#[non_exhaustive]
pub enum Intake {
    /// Bytes of connections and datagrams: this makes the decoder of a connection, or one for a
    /// single datagram.
    Bytes(Box<dyn Fn(Transport) -> Box<dyn Decoder> + Send + Sync>),
    /// Requests of HTTP.
    Requests(Box<dyn Requests>),
    /// Publications of a broker that the channel is a client of.
    Publications(Box<mqtt::Publications>),
}

/// How bytes come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// As a stream, which may be cut anywhere (TCP).
    Stream,
    /// As datagrams, each of which is whole (UDP).
    Datagram,
}

/// A device at the other end of a connection, or the sender of a datagram. This is what a protocol
/// of bytes implements; it never sees half a packet.
pub trait Decoder: Send {
    /// Where the first packet of a stream ends: its length in bytes, or none if it is not whole.
    ///
    /// `input` begins with the packet and is not empty. Of its first `seen` bytes an earlier call
    /// has found that they hold no whole packet, so a search for an end goes on there and a packet
    /// that comes byte by byte is looked at once.
    ///
    /// # Errors
    ///
    /// If no packet begins so, or it is longer than the protocol allows: whatever a device
    /// announces, that bounds what is kept of it.
    fn frame(&self, input: &[u8], seen: usize) -> Result<Option<usize>, Error>;

    /// What a whole packet says: as long as [`frame`](Self::frame) has found it, or a datagram.
    ///
    /// # Errors
    ///
    /// If the device cannot be understood any more. What is wrong with this packet alone is the
    /// [`fault`](Step::fault) of its step.
    fn packet(&mut self, packet: &[u8]) -> Result<Step, Error>;

    /// The bytes that tell the device to do something.
    ///
    /// # Errors
    ///
    /// If it cannot be told: [`CommandError`] says why.
    fn command(&self, command: &Command) -> Result<Order, CommandError> {
        Err(CommandError::Unknown(command.name.to_owned()))
    }
}

/// Whoever reads requests of HTTP. One reads those of all clients of a channel.
pub trait Requests: Send + Sync {
    /// What a request says. Its reply is the body of 200, which is sent once its messages are
    /// accepted; if they are not, the answer is 503, so that the client sends them again.
    ///
    /// # Errors
    ///
    /// If it says nothing that the protocol has: 400, with the text of the error as its body.
    fn request(&self, request: &Request<'_>) -> Result<Step, Error>;
}

/// A request of HTTP, whole.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// In upper case.
    pub method: &'a str,
    /// As sent, up to the `?`.
    pub path: &'a str,
    /// As sent, behind the `?`; empty if there is none.
    pub query: &'a str,
    /// Names in lower case, and values.
    pub headers: &'a [(&'a str, &'a str)],
    /// Bounded by whoever has read it; see [`BODY_BYTES_MAX`].
    pub body: &'a [u8],
}

/// Bytes of the largest body of a request that is worth reading (the batches of streams have at
/// most 10 MB).
pub const BODY_BYTES_MAX: usize = 10 << 20;

impl<'a> Request<'a> {
    /// The value of a header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(it, _)| *it == name).map(|(_, value)| *value)
    }
}

/// What came of a packet, a datagram, a request or a publication.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// Who the device of this connection is. Other than idents of messages, it is one for the
    /// connection: commands go there, and a second connection with it ends the first (R3.7). A
    /// device may say it again.
    pub ident: Option<Ident>,
    /// In the order in which the device told them.
    pub messages: Vec<Message>,
    /// What the device gets once `ident` and `messages` are accepted, and never before they are
    /// durable (R3.22). If they are not, it gets nothing, keeps them and sends them again. Replies
    /// leave in the order of their steps.
    pub reply: Vec<u8>,
    /// What it gets instead if the hub will not have a device of this ident.
    pub refusal: Vec<u8>,
    /// What it says to commands.
    pub answers: Vec<Answer>,
    /// What was wrong with this packet, or with a part of it: for the log. The connection goes on.
    pub fault: Option<Error>,
}

impl Step {
    /// Nothing to tell, and this to answer.
    pub fn answering(reply: impl Into<Vec<u8>>) -> Self {
        Self { reply: reply.into(), ..Self::default() }
    }

    /// Messages, and what acknowledges them.
    pub fn telling(messages: Vec<Message>, reply: impl Into<Vec<u8>>) -> Self {
        Self { messages, ..Self::answering(reply) }
    }

    /// A packet that came to nothing, and what says so.
    pub fn faulty(fault: Error, reply: impl Into<Vec<u8>>) -> Self {
        Self { fault: Some(fault), ..Self::answering(reply) }
    }
}

impl Protocol {
    /// Makes it ready to run with a configuration.
    ///
    /// # Errors
    ///
    /// If the configuration is not one of this protocol; the error says which field is wrong.
    pub fn configure(&self, configuration: &Value) -> Result<Intake, FieldError> {
        (self.intake)(&fields::Values::read(self.fields, configuration)?)
    }

    /// A command for a device that speaks it.
    ///
    /// # Errors
    ///
    /// If there is none of this name, or it takes other properties.
    pub fn command(&self, name: &str, properties: &Value) -> Result<Command, CommandError> {
        let kind = self.commands.iter().find(|kind| kind.name == name);
        kind.ok_or_else(|| CommandError::Unknown(name.to_owned()))?.command(properties)
    }

    /// As `GET /gw/channel-protocols` lists it (R3.20). What `features` holds is not public: here,
    /// how devices reach it and whether they can be told anything.
    pub fn describe(&self) -> Value {
        let listed = self.parameters.iter().filter_map(|name| parameter::find(name));
        json!({
            "id": self.id, "name": self.name, "title": self.title,
            "description": self.description,
            "features": {"transports": self.transports, "commands": !self.commands.is_empty()},
            "commands": self.commands.iter().map(CommandKind::describe).collect::<Vec<_>>(),
            "message_parameters": listed.map(|it| it.describe()).collect::<Vec<_>>(),
            "configuration": schema(self.fields),
        })
    }
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bytes(_) => "Bytes",
            Self::Requests(_) => "Requests",
            Self::Publications(_) => "Publications",
        })
    }
}
