//! What the blocks of a packet mean: to a message and back (R13.8).

use serde_json::Value;

use super::packet::{Block, BlockValue, Packet, flag};
use crate::message::{Ident, Message, Parameters, Timestamp};
use crate::protocol::reader::Reader;
use crate::protocol::{Error, hex, position};

/// Bytes of the longest name that a block may have (R13.5).
const NAME_BYTES_MAX: usize = 38;

pub(super) const PARAMETERS: &[&str] = &[
    "position.latitude",
    "position.longitude",
    "position.altitude",
    "position.speed",
    "position.direction",
    "position.satellites",
    "din",
    "dout",
    "ain",
    "alarm.event",
    "ibutton.code",
    "external.powersource.voltage",
    "battery.voltage",
    "battery.level",
    "engine.ignition.status",
];

/// Names that platforms have for standard parameters. Of these, only `pwr_int` and `battery` are
/// public for the original, the others are recommended by Wialon. \[inferred\]
const NAMES: [(&str, &str); 4] = [
    ("battery", "battery.level"),
    ("ign", "engine.ignition.status"),
    ("pwr_ext", "external.powersource.voltage"),
    ("pwr_int", "battery.voltage"),
];

/// The parameters of `posinfo`. What is missing is sent as 0.
const POSITION: [&str; 6] = [
    "position.latitude",
    "position.longitude",
    "position.altitude",
    "position.speed",
    "position.direction",
    "position.satellites",
];

/// What a packet says.
pub(super) fn message(packet: &Packet<'_>) -> Result<Message, Error> {
    let mut message = Message::new(Ident::new(&packet.uid)?);
    message.timestamp = Timestamp::from_seconds(f64::from(packet.time));
    let parameters = &mut message.parameters;
    if packet.flags & flag::ALARM != 0 {
        parameters.set("alarm.event", true);
    }
    for block in &packet.blocks {
        match (&*block.name, &block.value) {
            ("posinfo", BlockValue::Binary(bytes)) => posinfo(parameters, bytes)?,
            // What else is in `din` would be taken for bits.
            ("avl_inputs", BlockValue::Int(bits)) => parameters.set("din", *bits as u32),
            ("avl_outputs", BlockValue::Int(bits)) => parameters.set("dout", *bits as u32),
            ("avl_driver", BlockValue::Text(code)) => parameters.set("ibutton.code", code.as_ref()),
            (name, value) => other(parameters, name, value)?,
        }
    }
    Ok(message)
}

fn posinfo(parameters: &mut Parameters, bytes: &[u8]) -> Result<(), Error> {
    let mut reader = Reader::new(bytes);
    let longitude = reader.f64_little_endian("longitude")?;
    let latitude = reader.f64_little_endian("latitude")?;
    position::set(parameters, latitude, longitude);
    parameters.set("position.altitude", reader.f64_little_endian("altitude")?);
    parameters.set("position.speed", reader.u16("speed")?);
    parameters.set("position.direction", reader.u16("course")?);
    parameters.set("position.satellites", reader.u8("satellites")?);
    Ok(())
}

fn other(parameters: &mut Parameters, name: &str, value: &BlockValue<'_>) -> Result<(), Error> {
    let value = match value {
        BlockValue::Text(text) => Value::from(text.as_ref()),
        BlockValue::Int(int) => Value::from(*int),
        BlockValue::Long(long) => Value::from(*long),
        BlockValue::Double(double) => Value::from(*double),
        BlockValue::Binary(bytes) => Value::from(hex::encode(bytes)),
        // Pictures have no place in a message.
        BlockValue::Image(_) | BlockValue::Other(..) => return Ok(()),
    };
    let digits = name.strip_prefix("adc").filter(|it| (1..=4).contains(&it.len()));
    if let Some(number) = digits.and_then(|digits| digits.parse().ok()) {
        return Ok(parameters.set_numbered("ain", number, value)?);
    }
    let known = NAMES.iter().find(|(theirs, _)| *theirs == name).map(|(_, ours)| *ours);
    Ok(parameters.set_other(known.unwrap_or(name), value)?)
}

/// Appends the packet of a message under this name, as a stream sends it: complete, with `ident`
/// and `timestamp` among its parameters.
///
/// Lists and objects are left out, and so are `ident` and `timestamp`, which the packet has
/// elsewhere. A message without latitude or longitude has no `posinfo`, for half a position is
/// none. Names that are too long are cut.
pub fn encode_message(uid: &str, parameters: &Parameters, out: &mut Vec<u8>) {
    let seconds = parameters.get("timestamp").and_then(Value::as_f64).unwrap_or_default();
    // Numbers beyond the field become the nearest one in it.
    let mut packet = Packet { uid: uid.into(), time: seconds as u32, flags: 0, blocks: vec![] };
    let position = append_position(parameters, &mut packet);
    for (name, value) in parameters.iter() {
        let is_elsewhere = matches!(name, "ident" | "timestamp" | "din" | "dout" | "ibutton.code");
        if is_elsewhere || position && POSITION.contains(&name) {
            continue;
        }
        if name == "alarm.event" && value == &Value::Bool(true) {
            packet.flags |= flag::ALARM;
            continue;
        }
        if let Some(value) = block_value(value) {
            packet.blocks.push(Block { is_hidden: false, name: their_name(name).into(), value });
        }
    }
    for (name, block, flag) in [
        ("din", "avl_inputs", flag::INPUTS),
        ("dout", "avl_outputs", flag::OUTPUTS),
        ("ibutton.code", "avl_driver", flag::DRIVER),
    ] {
        let value = match parameters.get(name) {
            Some(Value::String(code)) if flag == flag::DRIVER => BlockValue::Text(code.into()),
            Some(Value::Number(bits)) if flag != flag::DRIVER => {
                BlockValue::Int(bits.as_i64().unwrap_or_default() as i32)
            }
            _ => continue,
        };
        packet.flags |= flag;
        packet.blocks.push(Block { is_hidden: true, name: block.into(), value });
    }
    packet.encode(out);
}

/// Whether the message has a position.
fn append_position(parameters: &Parameters, packet: &mut Packet<'_>) -> bool {
    let [latitude, longitude, altitude, speed, direction, satellites] =
        POSITION.map(|name| parameters.get(name).and_then(Value::as_f64));
    let (Some(latitude), Some(longitude)) = (latitude, longitude) else { return false };
    let mut bytes = Vec::with_capacity(29);
    for double in [longitude, latitude, altitude.unwrap_or_default()] {
        bytes.extend(double.to_le_bytes());
    }
    for short in [speed, direction] {
        bytes.extend((short.unwrap_or_default().round() as u16).to_be_bytes());
    }
    bytes.push(satellites.unwrap_or_default() as u8);
    let value = BlockValue::Binary(bytes.into());
    packet.blocks.push(Block { is_hidden: true, name: "posinfo".into(), value });
    packet.flags |= flag::POSITION;
    true
}

fn block_value(value: &Value) -> Option<BlockValue<'_>> {
    Some(match value {
        Value::Bool(value) => BlockValue::Int(i32::from(*value)),
        Value::String(text) => BlockValue::Text(text.into()),
        Value::Number(number) => match number.as_i64() {
            Some(whole) => i32::try_from(whole).map_or(BlockValue::Long(whole), BlockValue::Int),
            None => BlockValue::Double(number.as_f64()?),
        },
        Value::Null | Value::Array(_) | Value::Object(_) => return None,
    })
}

/// The name of a block, cut where a character ends.
fn their_name(name: &str) -> String {
    if let Some(number) = name.strip_prefix("ain.") {
        return format!("adc{number}");
    }
    let known = NAMES.iter().find(|(_, ours)| *ours == name).map(|(theirs, _)| *theirs);
    let name = known.unwrap_or(name);
    name[..name.floor_char_boundary(NAME_BYTES_MAX)].to_owned()
}
