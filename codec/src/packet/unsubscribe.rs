//! UNSUBSCRIBE, what a client no longer wants, and UNSUBACK (MQTT 5.0, 3.10 and 3.11).

use crate::error::{Error, Field, Offence};
use crate::packet::{PacketId, PacketType, Version, decode_properties, encode_properties};
use crate::property::{Carrier, Properties};
use crate::reason::ReasonCode;
use crate::wire::{Reader, put_str, put_u16};

/// The end of subscriptions (MQTT 5.0, 3.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// Repeated in the UNSUBACK.
    pub packet_id: PacketId,
    /// Properties, validated for [`Carrier::Unsubscribe`].
    pub properties: Properties<'a>,
    /// What is given up, at least one filter [MQTT-3.10.3-2].
    pub filters: TopicFilters<'a>,
}

/// The payload of an UNSUBSCRIBE: filters, as on the wire. The strings are checked; whether a
/// filter is legal is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicFilters<'a> {
    raw: &'a [u8],
}

/// The answer to an UNSUBSCRIBE (MQTT 5.0, 3.11).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsuback<'a> {
    /// That of the UNSUBSCRIBE.
    pub packet_id: PacketId,
    /// Properties, validated for [`Carrier::Unsuback`].
    pub properties: Properties<'a>,
    /// One reason code per filter, in the order of the filters; empty before 5.0.
    pub codes: &'a [u8],
}

impl<'a> TopicFilters<'a> {
    /// The payload of an UNSUBSCRIBE from its bytes, as [`append`](Self::append) writes them.
    ///
    /// Fails with [`Offence::NoFilters`] if there is none, and with whatever is wrong with a
    /// string.
    pub fn decode(raw: &'a [u8]) -> Result<Self, Error> {
        if raw.is_empty() {
            return Err(Offence::NoFilters.into());
        }
        let mut input = Reader::new(raw);
        while !input.is_empty() {
            input.text(Field::Filter)?;
        }
        Ok(Self { raw })
    }

    /// Appends one filter of at most 65,535 bytes.
    pub fn append(filter: &str, out: &mut Vec<u8>) {
        put_str(out, filter.as_bytes());
    }

    /// The filters in the order of the wire.
    pub const fn iter(&self) -> TopicFilterIter<'a> {
        TopicFilterIter { input: Reader::new(self.raw) }
    }
}

impl<'a> IntoIterator for TopicFilters<'a> {
    type Item = &'a str;
    type IntoIter = TopicFilterIter<'a>;

    fn into_iter(self) -> TopicFilterIter<'a> {
        self.iter()
    }
}

/// Iterates over the payload of an UNSUBSCRIBE.
#[derive(Debug, Clone)]
pub struct TopicFilterIter<'a> {
    input: Reader<'a>,
}

impl<'a> Iterator for TopicFilterIter<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        if self.input.is_empty() {
            return None;
        }
        let item = self.input.text(Field::Filter);
        debug_assert!(item.is_ok(), "checked when the payload was made");
        item.ok()
    }
}

impl<'a> Unsubscribe<'a> {
    pub(super) fn decode(version: Version, input: &mut Reader<'a>) -> Result<Self, Error> {
        let packet_id = input.packet_id()?;
        let properties = decode_properties(version, Carrier::Unsubscribe, input)?;
        let filters = TopicFilters::decode(input.take_rest())?;
        Ok(Self { packet_id, properties, filters })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_u16(out, self.packet_id.get());
        encode_properties(version, &self.properties, out);
        out.extend_from_slice(self.filters.raw);
    }
}

impl<'a> Unsuback<'a> {
    pub(super) fn decode(version: Version, input: &mut Reader<'a>) -> Result<Self, Error> {
        let packet_id = input.packet_id()?;
        if version < Version::V5 {
            return Ok(Self { packet_id, properties: Properties::none(), codes: &[] });
        }
        let properties = decode_properties(version, Carrier::Unsuback, input)?;
        let codes = input.take_rest();
        if codes.is_empty() {
            return Err(Offence::NoReasonCodes.into());
        }
        let legal = |code: u8| {
            ReasonCode::from_u8(code).is_some_and(|reason| reason.belongs_in(PacketType::Unsuback))
        };
        if let Some(&code) = codes.iter().find(|&&code| !legal(code)) {
            return Err(Offence::ReasonCode(PacketType::Unsuback, code).into());
        }
        Ok(Self { packet_id, properties, codes })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_u16(out, self.packet_id.get());
        if version == Version::V5 {
            debug_assert!(!self.codes.is_empty(), "an UNSUBACK answers every filter");
            encode_properties(version, &self.properties, out);
            out.extend_from_slice(self.codes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Packet;
    use crate::packet::tests::{check, check_encode, id};

    /// [MQTT-3.10.3-1]; MQTT 5.0, figure 3-30.
    #[test]
    fn an_unsubscribe_is_a_list_of_filters() {
        let mut raw = Vec::new();
        TopicFilters::append("a/b", &mut raw);
        TopicFilters::append("c/d", &mut raw);
        let filters = TopicFilters::decode(&raw).unwrap();
        assert_eq!(filters.iter().collect::<Vec<_>>(), ["a/b", "c/d"]);
        let unsubscribe = |properties| {
            let properties = Properties::from_raw(properties);
            Packet::Unsubscribe(Unsubscribe { packet_id: id(10), properties, filters })
        };
        let v4 = b"\xa2\x0c\0\x0a\0\x03a/b\0\x03c/d";
        check(Version::V3_1, unsubscribe(b""), v4);
        check(Version::V3_1_1, unsubscribe(b""), v4);
        check(Version::V5, unsubscribe(b""), b"\xa2\x0d\0\x0a\0\0\x03a/b\0\x03c/d");
        let user = b"\x26\0\x01k\0\x01v";
        check(
            Version::V5,
            unsubscribe(user),
            b"\xa2\x14\0\x0a\x07\x26\0\x01k\0\x01v\0\x03a/b\0\x03c/d",
        );
        check_encode(Version::V3_1_1, unsubscribe(user), v4);
    }

    /// [MQTT-3.11.3-2].
    #[test]
    fn an_unsuback_holds_a_code_per_filter_from_5_0() {
        let unsuback = |codes| {
            let properties = Properties::none();
            Packet::Unsuback(Unsuback { packet_id: id(10), properties, codes })
        };
        check(Version::V3_1, unsuback(&[]), b"\xb0\x02\0\x0a");
        check(Version::V3_1_1, unsuback(&[]), b"\xb0\x02\0\x0a");
        check(Version::V5, unsuback(&[0, 0x11]), b"\xb0\x05\0\x0a\0\0\x11");
        check_encode(Version::V3_1_1, unsuback(&[0, 0x11]), b"\xb0\x02\0\x0a");
    }
}
