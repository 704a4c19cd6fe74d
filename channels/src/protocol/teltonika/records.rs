//! The records of a frame (R12.2 to R12.4), and what their elements mean (R12.8).

use serde_json::Value;

use crate::message::{Ident, Message, Parameters, Timestamp};
use crate::protocol::reader::Reader;
use crate::protocol::{Error, hex, position};

/// How records are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    /// 0x08: identifiers and counts have one byte.
    Eight,
    /// 0x8e, 8 extended: they have two, and elements may be of any length.
    EightExtended,
    /// 0x10: identifiers have two bytes, counts one; says how a record came about.
    Sixteen,
}

impl Codec {
    pub(super) fn of(byte: u8) -> Result<Self, Error> {
        match byte {
            0x08 => Ok(Self::Eight),
            0x8e => Ok(Self::EightExtended),
            0x10 => Ok(Self::Sixteen),
            _ => Err(Error::unsupported(format!("codec {byte:#04x} is not known"))),
        }
    }

    fn id(self, reader: &mut Reader<'_>) -> Result<u16, Error> {
        match self {
            Self::Eight => reader.u8("element").map(u16::from),
            Self::EightExtended | Self::Sixteen => reader.u16("element"),
        }
    }

    fn count(self, reader: &mut Reader<'_>) -> Result<u16, Error> {
        match self {
            Self::Eight | Self::Sixteen => reader.u8("count of elements").map(u16::from),
            Self::EightExtended => reader.u16("count of elements"),
        }
    }
}

/// What the number of an element says.
#[derive(Debug, Clone, Copy)]
enum Meaning {
    /// The parameter itself.
    Plain,
    /// Whether it is not 0.
    Flag,
    /// So many times the parameter. Dividing is exact to the last digit where multiplying is not.
    Times(f64),
    /// 0 to 5 bars of a signal.
    Bars,
    /// Digits that are a code.
    Digits,
    /// A key, in hexadecimal digits.
    Key,
}

use Meaning::{Bars, Digits, Flag, Key, Plain, Times};

/// Elements with a name of their own, in the order of their identifiers. Which parameter is of
/// which identifier is not public as a whole. \[inferred\]
const ELEMENTS: [(u16, &str, Meaning); 21] = [
    (1, "din.1", Flag),
    (2, "din.2", Flag),
    (3, "din.3", Flag),
    (4, "din.4", Flag),
    (9, "ain.1", Times(1e3)),
    (10, "ain.2", Times(1e3)),
    (16, "vehicle.mileage", Times(1e3)),
    (21, "gsm.signal.level", Bars),
    (66, "external.powersource.voltage", Times(1e3)),
    (67, "battery.voltage", Times(1e3)),
    (78, "ibutton.code", Key),
    (113, "battery.level", Plain),
    (179, "dout.1", Flag),
    (180, "dout.2", Flag),
    (181, "position.pdop", Times(10.0)),
    (182, "position.hdop", Times(10.0)),
    (205, "gsm.cellid", Plain),
    (206, "gsm.lac", Plain),
    (239, "engine.ignition.status", Flag),
    (240, "movement.status", Flag),
    (241, "gsm.operator.code", Digits),
];

pub(super) const PARAMETERS: &[&str] = &[
    "position.latitude",
    "position.longitude",
    "position.altitude",
    "position.direction",
    "position.satellites",
    "position.speed",
    "position.valid",
    "position.pdop",
    "position.hdop",
    "event.enum",
    "event.priority.enum",
    "din",
    "dout",
    "ain",
    "vehicle.mileage",
    "gsm.signal.level",
    "gsm.operator.code",
    "gsm.cellid",
    "gsm.lac",
    "external.powersource.voltage",
    "battery.voltage",
    "battery.level",
    "ibutton.code",
    "engine.ignition.status",
    "movement.status",
];

/// The records of a frame's data, from the codec to the second count.
pub(super) fn decode(data: &[u8], codec: Codec, ident: &Ident) -> Result<Vec<Message>, Error> {
    let mut reader = Reader::new(data);
    let (_, count) = (reader.u8("codec")?, reader.u8("count")?);
    let mut messages = Vec::new();
    for _ in 0..count {
        messages.push(record(&mut reader, codec, ident)?);
    }
    let again = reader.u8("second count")?;
    if again != count {
        let text = format!("the frame says that it has {count} records, and then {again}");
        return Err(Error::parse(text));
    }
    if !reader.is_empty() {
        return Err(Error::parse("bytes follow the records of a frame"));
    }
    Ok(messages)
}

fn record(reader: &mut Reader<'_>, codec: Codec, ident: &Ident) -> Result<Message, Error> {
    let mut message = Message::new(ident.clone());
    message.timestamp = Timestamp::from_millis(reader.u64("time")?);
    let parameters = &mut message.parameters;
    parameters.set("event.priority.enum", reader.u8("priority")?);
    let longitude = f64::from(reader.u32("longitude")? as i32) / 1e7;
    let latitude = f64::from(reader.u32("latitude")? as i32) / 1e7;
    let altitude = reader.u16("altitude")? as i16;
    let (direction, satellites) = (reader.u16("angle")?, reader.u8("satellites")?);
    let speed = reader.u16("speed")?;
    // Without satellites place and height are the last ones known, and the rest is 0 (R12.9).
    let is_place = position::set(parameters, latitude, longitude);
    parameters.set("position.valid", is_place && satellites > 0);
    parameters.set("position.altitude", altitude);
    parameters.set("position.direction", direction);
    parameters.set("position.satellites", satellites);
    parameters.set("position.speed", speed);
    parameters.set("event.enum", codec.id(reader)?);
    if codec == Codec::Sixteen {
        let generation = reader.u8("generation type")?;
        parameters.set_other("generation.type.enum", generation)?;
    }
    // The groups say how many elements there are. Their sum says it once more and may overflow, so
    // nothing hangs on it.
    let _sum = codec.count(reader)?;
    for size in [1, 2, 4, 8] {
        for _ in 0..codec.count(reader)? {
            let id = codec.id(reader)?;
            let bytes = reader.bytes(size, "value of an element")?;
            let value = bytes.iter().fold(0, |value, byte| value << 8 | u64::from(*byte));
            element(parameters, id, value)?;
        }
    }
    if codec == Codec::EightExtended {
        for _ in 0..codec.count(reader)? {
            let (id, length) = (codec.id(reader)?, reader.u16("length of an element")?);
            let bytes = reader.bytes(usize::from(length), "value of an element")?;
            parameters.set_other(&custom(id), hex::encode(bytes))?;
        }
    }
    Ok(message)
}

fn custom(id: u16) -> String {
    format!("custom.param.{id}")
}

fn element(parameters: &mut Parameters, id: u16, value: u64) -> Result<(), Error> {
    let Ok(at) = ELEMENTS.binary_search_by_key(&id, |(id, ..)| *id) else {
        return Ok(parameters.set_other(&custom(id), value)?);
    };
    let (_, name, meaning) = ELEMENTS[at];
    let value = match meaning {
        Plain => Value::from(value),
        Flag => Value::from(value != 0),
        Times(times) => Value::from(value as f64 / times),
        Bars => Value::from(value.min(5) * 20),
        Digits => Value::from(value.to_string()),
        Key => Value::from(format!("{value:016X}")),
    };
    parameters.set(name, value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_in_order() {
        assert!(ELEMENTS.is_sorted_by(|a, b| a.0 < b.0));
    }
}
