//! The sink that speaks Wialon Retranslator 1.0 (R6.24, R13.1 to R13.8).

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Map, Value};
use tokio::io::{AsyncReadExt, AsyncWriteExt, split};

use crate::ConfigurationError;
use crate::failure::{Failure, PROTOCOL};
use crate::mask::Mask;
use crate::message::parameters::value;
use crate::message::{Message, Parameters};
use crate::packets::{Side, Tag, Tape};
use crate::protocol::WialonConfiguration;
use crate::sink::mqtt::dialler;
use crate::sink::{Outcome, Sink};
use crate::target::Targets;
use crate::tls::{Dialler, Stream};

/// What a packet is answered with (R13.7).
const ACKNOWLEDGED: u8 = 0x11;

/// Code of a failure of a connection that was there (R6.24).
const DISCONNECTED: i32 = 1;

/// Kinds of what a packet has, as flags of it (R13.2).
const POSITION: u32 = 0x1;
const INPUTS: u32 = 0x2;
const OUTPUTS: u32 = 0x4;
const ALARM: u32 = 0x10;
const DRIVER: u32 = 0x20;

/// What a block begins with, and the types of its value (R13.3).
const BLOCK: u16 = 0x0bbb;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const INT32: u8 = 3;
const DOUBLE: u8 = 4;
const INT64: u8 = 5;

/// Bytes of a name (R13.5).
const NAME_MAX: usize = 38;

/// Parameters that have places of their own in a packet.
const LATITUDE: &str = "position.latitude";
const LONGITUDE: &str = "position.longitude";
const ALTITUDE: &str = "position.altitude";
const SPEED: &str = "position.speed";
const DIRECTION: &str = "position.direction";
const SATELLITES: &str = "position.satellites";

/// Sends a packet for each message over one connection, and takes a message for accepted when its
/// packet is answered.
#[derive(Debug)]
pub struct WialonSink {
    pub(super) dialler: Dialler,
    pub(super) tape: Tape,
    ident: Mask,
    stream: Option<Connection>,
}

struct Connection(Box<dyn Stream>);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

impl WialonSink {
    /// A sink without a connection yet.
    ///
    /// # Errors
    /// `uri` is no host and port.
    pub fn new(
        configuration: &WialonConfiguration,
        targets: &Targets,
    ) -> Result<Self, ConfigurationError> {
        let dialler = dialler(&configuration.uri, targets, None)?;
        let ident = Mask::new(&configuration.ident);
        Ok(Self { dialler, tape: Tape::default(), ident, stream: None })
    }

    /// Packets of a batch with the places of their messages, and the places of those without.
    fn packets(&self, batch: &[Message]) -> (Vec<(usize, Vec<u8>)>, Vec<usize>) {
        let (mut packets, mut skipped) = (Vec::new(), Vec::new());
        for (place, message) in batch.iter().enumerate() {
            let parameters = message.parameters();
            let ident = self.ident.fill(&parameters).filter(|it| !it.is_empty());
            let ident = ident.or_else(|| parameters.ident().map(Cow::into_owned));
            match ident.and_then(|it| packet(&it, &parameters)) {
                Some(packet) => packets.push((place, packet)),
                None => skipped.push(place),
            }
        }
        (packets, skipped)
    }

    async fn connection(&mut self) -> Result<&mut dyn Stream, Failure> {
        let stream = match self.stream.take() {
            Some(stream) => stream,
            None => {
                let stream = self.dialler.dial().await?;
                self.tape.begin();
                Connection(stream)
            }
        };
        Ok(&mut *self.stream.insert(stream).0)
    }

    async fn exchange(&mut self, packets: &[(usize, Vec<u8>)]) -> Result<(), (usize, Failure)> {
        if packets.is_empty() {
            return Ok(());
        }
        let tape = self.tape.clone();
        let stream = self.connection().await.map_err(|it| (0, it))?;
        let (mut reader, mut writer) = split(stream);
        let lost = |error| Failure { code: DISCONNECTED, ..Failure::of_io(&error) };
        let written = AtomicUsize::new(0);
        let write = async {
            for (_, packet) in packets {
                writer.write_all(packet).await?;
                tape.note(Side::Hub, Tag::default(), packet);
                written.fetch_add(1, Ordering::Relaxed);
            }
            writer.flush().await
        };
        let mut answered = 0;
        let read = async {
            while answered < packets.len() {
                let answer = reader.read_u8().await.map_err(lost)?;
                tape.note(Side::Platform, Tag::default(), &[answer]);
                if answer != ACKNOWLEDGED {
                    let text = format!("the server answered 0x{answer:02x}, not 0x11");
                    return Err(Failure::new(PROTOCOL, text));
                }
                if answered == written.load(Ordering::Relaxed) {
                    let text = "the server answered what was not sent";
                    return Err(Failure::new(PROTOCOL, text));
                }
                answered += 1;
            }
            Ok(())
        };
        // Both at a time: a server that answers at once must not wait for us to read.
        let done = tokio::try_join!(async { write.await.map_err(lost) }, read);
        done.map(drop).map_err(|it| (answered, it))
    }
}

impl Sink for WialonSink {
    async fn send(&mut self, batch: &[Message]) -> Outcome {
        let (packets, skipped) = self.packets(batch);
        let sent = self.exchange(&packets).await;
        let stop = |(done, failure): (usize, Failure)| (packets[done].0, failure);
        Outcome::of(batch.len(), &skipped, sent.err().map(stop))
    }

    async fn idle(&mut self) {
        let Some(Connection(stream)) = &mut self.stream else {
            return std::future::pending().await;
        };
        // Nothing is to come now: it is the end, or a server that is not to be trusted.
        let _ = stream.read_u8().await;
        self.stream = None;
    }

    fn is_connected(&self) -> bool {
        self.stream.is_some()
    }

    fn close(&mut self) {
        self.stream = None;
    }
}

/// The packet of a message (R13.1, R13.8), or nothing if it has no time that the protocol has room
/// for, or an identifier that it cannot carry.
///
/// Blocks are those of the position, of parameters in the order of their names, of inputs, outputs
/// and driver. A position is sent if both coordinates are there: half of one would be a place in
/// the Gulf of Guinea. What is then not part of it is sent under its own name.
#[must_use]
pub fn encode(ident: &str, message: &Message) -> Option<Vec<u8>> {
    packet(ident, &message.parameters())
}

fn packet(ident: &str, message: &Parameters<'_>) -> Option<Vec<u8>> {
    if ident.is_empty() || ident.contains('\0') {
        return None;
    }
    let time = message.timestamp()?.floor();
    if !(0.0..=f64::from(i32::MAX)).contains(&time) {
        return None;
    }
    let kept = message.kept().filter_map(|(name, it)| Some((name.to_owned(), value(it)?)));
    let blocks = Blocks::of(kept.collect(), &|name| message.key(name));
    let mut packet = vec![0; 4];
    packet.extend_from_slice(ident.as_bytes());
    packet.push(0);
    packet.extend_from_slice(&(time as i32).to_be_bytes());
    packet.extend_from_slice(&blocks.flags.to_be_bytes());
    packet.extend_from_slice(&blocks.bytes);
    let size = u32::try_from(packet.len() - 4).ok()?;
    packet[..4].copy_from_slice(&size.to_le_bytes());
    Some(packet)
}

#[derive(Default)]
struct Blocks {
    flags: u32,
    bytes: Vec<u8>,
}

impl Blocks {
    fn of(mut rest: Map<String, Value>, key: &dyn Fn(&str) -> Cow<'_, str>) -> Self {
        let mut blocks = Self::default();
        rest.remove("ident");
        rest.remove("timestamp");
        if let Some(position) = take_position(&mut rest) {
            blocks.flags |= POSITION;
            blocks.push("posinfo", true, BINARY, &position);
        }
        let inputs = take(&mut rest, "din", mask_of_bits);
        let outputs = take(&mut rest, "dout", mask_of_bits);
        let driver = take(&mut rest, "ibutton.code", |it| Some(text(it.as_str()?)));
        if take(&mut rest, "alarm.event", Value::as_bool) == Some(true) {
            blocks.flags |= ALARM;
        }
        for (name, value) in &rest {
            if let Some((kind, value)) = write(value) {
                blocks.push(&key(name), false, kind, &value);
            }
        }
        if let Some(inputs) = inputs {
            blocks.flags |= INPUTS;
            blocks.push("avl_inputs", true, INT32, &inputs);
        }
        if let Some(outputs) = outputs {
            blocks.flags |= OUTPUTS;
            blocks.push("avl_outputs", true, INT32, &outputs);
        }
        if let Some(driver) = driver {
            blocks.flags |= DRIVER;
            blocks.push("avl_driver", true, TEXT, &driver);
        }
        blocks
    }

    /// A block (R13.3). Its size is of what comes behind it.
    fn push(&mut self, name: &str, is_hidden: bool, kind: u8, value: &[u8]) {
        let name = &name[..name.floor_char_boundary(NAME_MAX)];
        let size = 2 + name.len() + 1 + value.len();
        let Ok(size) = u32::try_from(size) else { return };
        self.bytes.extend_from_slice(&BLOCK.to_be_bytes());
        self.bytes.extend_from_slice(&size.to_be_bytes());
        self.bytes.extend_from_slice(&[u8::from(is_hidden), kind]);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.bytes.extend_from_slice(value);
    }
}

/// Takes a parameter out, if it is as it should be.
fn take<T>(
    rest: &mut Map<String, Value>,
    name: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Option<T> {
    let taken = rest.get(name).and_then(read)?;
    rest.remove(name);
    Some(taken)
}

/// The value of `posinfo` (R13.4): doubles are little-endian, all else is not.
fn take_position(rest: &mut Map<String, Value>) -> Option<Vec<u8>> {
    let number = |rest: &Map<String, Value>, name| rest.get(name).and_then(Value::as_f64);
    let (longitude, latitude) = (number(rest, LONGITUDE)?, number(rest, LATITUDE)?);
    rest.remove(LONGITUDE);
    rest.remove(LATITUDE);
    let altitude = take(rest, ALTITUDE, Value::as_f64).unwrap_or(0.0);
    let mut position = Vec::with_capacity(29);
    for value in [longitude, latitude, altitude] {
        position.extend_from_slice(&value.to_le_bytes());
    }
    for name in [SPEED, DIRECTION] {
        // A number that is out of bounds becomes the nearest within.
        let value = take(rest, name, Value::as_f64).unwrap_or(0.0).round() as u16;
        position.extend_from_slice(&value.to_be_bytes());
    }
    position.push(take(rest, SATELLITES, Value::as_f64).unwrap_or(0.0).round() as u8);
    Some(position)
}

/// Inputs or outputs: 32 bits, the highest of which is no sign.
fn mask_of_bits(value: &Value) -> Option<[u8; 4]> {
    let bits = value.as_i64()?;
    let bits = u32::try_from(bits).ok().or_else(|| Some(i32::try_from(bits).ok()? as u32))?;
    Some(bits.to_be_bytes())
}

/// A text with its end (R13.6). What would end it before is left out.
fn text(text: &str) -> Vec<u8> {
    text.bytes().filter(|it| *it != 0).chain([0]).collect()
}

/// Type and value of a parameter (R13.8). Objects and arrays have none.
fn write(value: &Value) -> Option<(u8, Vec<u8>)> {
    let int = |value: i64| match i32::try_from(value) {
        Ok(value) => (INT32, value.to_be_bytes().to_vec()),
        Err(_) => (INT64, value.to_be_bytes().to_vec()),
    };
    match value {
        Value::Bool(value) => Some(int(i64::from(*value))),
        Value::Number(number) => Some(match number.as_i64() {
            Some(value) => int(value),
            None => (DOUBLE, number.as_f64()?.to_le_bytes().to_vec()),
        }),
        Value::String(value) => Some((TEXT, text(value))),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests;
