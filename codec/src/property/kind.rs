//! The types of property values, and the values that the standard forbids (MQTT 5.0, 2.2.2.2).

use crate::error::{Error, Field, Offence};
use crate::packet::QoS;
use crate::topic;
use crate::wire::{Reader, put_str, put_u16, put_u32, put_varint};

/// How a value is read, written and stepped over. A value that the standard forbids is an error of
/// reading, so no decoded property holds one.
pub(super) trait Kind {
    type Value<'a>;

    fn read<'a>(input: &mut Reader<'a>, id: u8) -> Result<Self::Value<'a>, Error>;
    fn put(value: Self::Value<'_>, out: &mut Vec<u8>);

    /// Steps over a value without a look at its content.
    fn skip(input: &mut Reader<'_>, id: u8) -> Result<(), Error> {
        Self::read(input, id).map(drop)
    }
}

/// One byte, 0 or 1.
pub(super) struct Flag;

impl Kind for Flag {
    type Value<'a> = bool;

    fn read<'a>(input: &mut Reader<'a>, id: u8) -> Result<bool, Error> {
        match input.u8(Field::Property(id))? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Offence::PropertyValue(id).into()),
        }
    }

    fn put(value: bool, out: &mut Vec<u8>) {
        out.push(u8::from(value));
    }
}

/// One byte, a quality of service of 0 or 1.
pub(super) struct QoSBelowTwo;

impl Kind for QoSBelowTwo {
    type Value<'a> = QoS;

    fn read<'a>(input: &mut Reader<'a>, id: u8) -> Result<QoS, Error> {
        Ok(if Flag::read(input, id)? { QoS::AtLeastOnce } else { QoS::AtMostOnce })
    }

    fn put(value: QoS, out: &mut Vec<u8>) {
        debug_assert_ne!(value, QoS::ExactlyOnce, "Maximum QoS 2 is said by leaving it out");
        out.push(value as u8);
    }
}

/// Two bytes.
pub(super) struct Short;

impl Kind for Short {
    type Value<'a> = u16;

    fn read<'a>(input: &mut Reader<'a>, id: u8) -> Result<u16, Error> {
        input.u16(Field::Property(id))
    }

    fn put(value: u16, out: &mut Vec<u8>) {
        put_u16(out, value);
    }
}

/// Two bytes, never zero.
pub(super) struct ShortAboveZero;

impl Kind for ShortAboveZero {
    type Value<'a> = u16;

    fn read<'a>(input: &mut Reader<'a>, id: u8) -> Result<u16, Error> {
        above_zero(input.u16(Field::Property(id))?, id)
    }

    fn put(value: u16, out: &mut Vec<u8>) {
        debug_assert_ne!(value, 0, "zero is forbidden");
        put_u16(out, value);
    }
}

/// Four bytes.
pub(super) struct Long;

impl Kind for Long {
    type Value<'a> = u32;

    fn read<'a>(input: &mut Reader<'a>, id: u8) -> Result<u32, Error> {
        input.u32(Field::Property(id))
    }

    fn put(value: u32, out: &mut Vec<u8>) {
        put_u32(out, value);
    }
}

/// Four bytes, never zero.
pub(super) struct LongAboveZero;

impl Kind for LongAboveZero {
    type Value<'a> = u32;

    fn read<'a>(input: &mut Reader<'a>, id: u8) -> Result<u32, Error> {
        above_zero(input.u32(Field::Property(id))?, id)
    }

    fn put(value: u32, out: &mut Vec<u8>) {
        debug_assert_ne!(value, 0, "zero is forbidden");
        put_u32(out, value);
    }
}

/// A variable byte integer, never zero.
pub(super) struct VarintAboveZero;

impl Kind for VarintAboveZero {
    type Value<'a> = u32;

    fn read<'a>(input: &mut Reader<'a>, id: u8) -> Result<u32, Error> {
        above_zero(input.varint(Field::Property(id))?, id)
    }

    fn put(value: u32, out: &mut Vec<u8>) {
        debug_assert_ne!(value, 0, "zero is forbidden");
        put_varint(out, value);
    }
}

/// A UTF-8 string.
pub(super) struct Text;

impl Kind for Text {
    type Value<'a> = &'a str;

    fn read<'a>(input: &mut Reader<'a>, id: u8) -> Result<&'a str, Error> {
        input.text(Field::Property(id))
    }

    fn put(value: &str, out: &mut Vec<u8>) {
        put_str(out, value.as_bytes());
    }

    fn skip(input: &mut Reader<'_>, id: u8) -> Result<(), Error> {
        input.bytes(Field::Property(id)).map(drop)
    }
}

/// A UTF-8 string that is a topic name.
pub(super) struct TopicName;

impl Kind for TopicName {
    type Value<'a> = &'a str;

    fn read<'a>(input: &mut Reader<'a>, id: u8) -> Result<&'a str, Error> {
        let name = input.text(Field::Property(id))?;
        topic::validate(name.as_bytes()).map_err(|_| Error::from(Offence::PropertyValue(id)))
    }

    fn put(value: &str, out: &mut Vec<u8>) {
        debug_assert!(topic::validate(value.as_bytes()).is_ok(), "not a topic name");
        put_str(out, value.as_bytes());
    }

    fn skip(input: &mut Reader<'_>, id: u8) -> Result<(), Error> {
        Text::skip(input, id)
    }
}

/// Bytes of any content.
pub(super) struct Binary;

impl Kind for Binary {
    type Value<'a> = &'a [u8];

    fn read<'a>(input: &mut Reader<'a>, id: u8) -> Result<&'a [u8], Error> {
        input.bytes(Field::Property(id))
    }

    fn put(value: &[u8], out: &mut Vec<u8>) {
        put_str(out, value);
    }
}

fn above_zero<N: PartialEq + From<u8>>(value: N, id: u8) -> Result<N, Error> {
    if value == N::from(0) { Err(Offence::PropertyValue(id).into()) } else { Ok(value) }
}
