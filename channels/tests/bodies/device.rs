//! A device that says something, whole or in pieces, and what a channel makes of it.

use longshore_channels::Message;
use longshore_channels::protocol::{
    Connection, Decoder, Error, Intake, Protocol, Request, Requests, Step, Transport,
};
use serde_json::Value;

/// All that came of a connection, up to its end if it was ended.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Heard {
    /// Without those that say nothing, of which there may be one for every read.
    pub(crate) steps: Vec<Step>,
    pub(crate) error: Option<Error>,
}

impl Heard {
    pub(crate) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.steps.iter().flat_map(|step| &step.messages)
    }

    /// All replies in one.
    pub(crate) fn replies(&self) -> Vec<u8> {
        self.steps.iter().flat_map(|step| step.reply.clone()).collect()
    }
}

pub(crate) fn open(
    protocol: &Protocol,
    configuration: &Value,
) -> impl Fn(Transport) -> Connection + use<> {
    let open = decoders(protocol, configuration);
    move |transport| Connection::new(open(transport))
}

pub(crate) fn decoders(
    protocol: &Protocol,
    configuration: &Value,
) -> Box<dyn Fn(Transport) -> Box<dyn Decoder> + Send + Sync> {
    match protocol.configure(configuration) {
        Ok(Intake::Bytes(open)) => open,
        other => panic!("{} has no bytes: {other:?}", protocol.name),
    }
}

pub(crate) fn requests(protocol: &Protocol, configuration: &Value) -> Box<dyn Requests> {
    match protocol.configure(configuration) {
        Ok(Intake::Requests(requests)) => requests,
        other => panic!("{} has no requests: {other:?}", protocol.name),
    }
}

/// A POST of this body with a query.
pub(crate) fn post<'a>(query: &'a str, body: &'a [u8]) -> Request<'a> {
    Request { method: "POST", path: "/", query, headers: &[], body }
}

/// What comes of these pieces, one behind the other.
pub(crate) fn hear<'a>(
    connection: &mut Connection,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Heard {
    let mut heard = Heard::default();
    for piece in pieces {
        connection.receive(piece);
        loop {
            match connection.next_step() {
                Ok(Some(step)) if step == Step::default() => {}
                Ok(Some(step)) => heard.steps.push(step),
                Ok(None) => break,
                Err(error) => {
                    heard.error = Some(error);
                    return heard;
                }
            }
        }
        assert!(connection.pending() <= 2 << 20, "more is kept than a packet");
    }
    heard
}

/// What comes of a stream, which is the same wherever it is cut.
pub(crate) fn hear_at_every_split(open: &dyn Fn() -> Connection, stream: &[u8]) -> Heard {
    let whole = hear(&mut open(), [stream]);
    for at in 1..stream.len() {
        let (front, back) = stream.split_at(at);
        assert_eq!(hear(&mut open(), [front, back]), whole, "cut at {at}");
    }
    assert_eq!(hear(&mut open(), stream.chunks(1)), whole, "byte by byte");
    whole
}

/// A message as one object, with ident and time.
pub(crate) fn object(message: &Message) -> Value {
    let mut object = serde_json::to_value(&message.parameters).expect("parameters are JSON");
    object["ident"] = Value::from(message.ident.as_str());
    object["timestamp"] = message.timestamp.map_or(Value::Null, Value::from);
    object
}

/// The bytes of hexadecimal digits.
pub(crate) fn bytes(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "{digits}");
    let pairs = (0..digits.len()).step_by(2);
    pairs.map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("two digits")).collect()
}
