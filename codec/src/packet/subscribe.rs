//! SUBSCRIBE, what a client asks for, and SUBACK, what it gets (MQTT 5.0, 3.8 and 3.9).

use crate::error::{Error, Field, Malformed, Offence};
use crate::packet::{PacketId, PacketType, QoS, Version, decode_properties, encode_properties};
use crate::property::{Carrier, Properties};
use crate::reason::ReasonCode;
use crate::wire::{Reader, put_str, put_u16};

/// A request for messages (MQTT 5.0, 3.8).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// Repeated in the SUBACK.
    pub packet_id: PacketId,
    /// Properties, validated for [`Carrier::Subscribe`].
    pub properties: Properties<'a>,
    /// What is asked for, at least one filter [MQTT-3.8.3-2].
    pub filters: Subscriptions<'a>,
}

/// The payload of a SUBSCRIBE: filters and their options, as on the wire.
///
/// Strings and options are checked; whether a filter is legal is not, since the answer to one that
/// is not is a reason code of its own (see [`filter::parse`](crate::filter::parse)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscriptions<'a> {
    raw: &'a [u8],
}

/// How a subscription is served (MQTT 5.0, 3.8.3.1). Before 5.0 there is only the QoS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct SubscribeOptions {
    /// The highest quality of service the server may use.
    pub qos: QoS,
    /// Whether the client's own messages are left out.
    pub no_local: bool,
    /// Whether RETAIN is as the publisher set it.
    pub retain_as_published: bool,
    /// Whether retained messages are sent at once.
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent at subscription (MQTT 5.0, 3.8.3.1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RetainHandling {
    /// With every SUBSCRIBE.
    #[default]
    Send = 0,
    /// If the subscription did not exist before.
    SendIfNew = 1,
    /// Never.
    DoNotSend = 2,
}

/// The answer to a SUBSCRIBE (MQTT 5.0, 3.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suback<'a> {
    /// That of the SUBSCRIBE.
    pub packet_id: PacketId,
    /// Properties, validated for [`Carrier::Suback`].
    pub properties: Properties<'a>,
    /// One reason code per filter, in the order of the filters. Before 5.0 a failure is 0x80,
    /// whatever its reason: [`encode`](crate::encode) translates.
    pub codes: &'a [u8],
}

/// Bits of the subscription options (MQTT 5.0, 3.8.3.1).
const NO_LOCAL: u8 = 0b0000_0100;
const RETAIN_AS_PUBLISHED: u8 = 0b0000_1000;
const RETAIN_HANDLING_SHIFT: u32 = 4;

impl SubscribeOptions {
    /// Options that ask for `qos` and leave the rest as it was before 5.0.
    pub const fn new(qos: QoS) -> Self {
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Send,
        }
    }

    /// The options from their byte.
    ///
    /// Fails with [`Malformed::SubscribeOptions`] if a reserved bit is set [MQTT-3.8.3-5], with
    /// [`Offence::QoS`] for QoS 3 and with [`Offence::RetainHandling`] for a Retain Handling of 3.
    pub const fn from_bits(version: Version, bits: u8) -> Result<Self, Error> {
        let reserved = if matches!(version, Version::V5) { 0b1100_0000 } else { 0b1111_1100 };
        if bits & reserved != 0 {
            return Err(Error::Malformed(Malformed::SubscribeOptions(bits)));
        }
        let Some(qos) = QoS::from_bits(bits) else {
            return Err(Error::Protocol(Offence::QoS(3)));
        };
        let retain_handling = match bits >> RETAIN_HANDLING_SHIFT {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(Error::Protocol(Offence::RetainHandling(bits))),
        };
        Ok(Self {
            qos,
            no_local: bits & NO_LOCAL != 0,
            retain_as_published: bits & RETAIN_AS_PUBLISHED != 0,
            retain_handling,
        })
    }

    /// The byte of the wire. Before 5.0 it holds the QoS alone.
    pub const fn bits(self, version: Version) -> u8 {
        if !matches!(version, Version::V5) {
            return self.qos as u8;
        }
        self.qos as u8
            | if self.no_local { NO_LOCAL } else { 0 }
            | if self.retain_as_published { RETAIN_AS_PUBLISHED } else { 0 }
            | (self.retain_handling as u8) << RETAIN_HANDLING_SHIFT
    }
}

impl<'a> Subscriptions<'a> {
    /// The payload of a SUBSCRIBE from its bytes, as [`append`](Self::append) writes them.
    ///
    /// Fails with [`Offence::NoFilters`] if there is none, and with whatever is wrong with a string
    /// or an options byte.
    pub fn decode(version: Version, raw: &'a [u8]) -> Result<Self, Error> {
        if raw.is_empty() {
            return Err(Offence::NoFilters.into());
        }
        let mut input = Reader::new(raw);
        while !input.is_empty() {
            input.text(Field::Filter)?;
            SubscribeOptions::from_bits(version, input.u8(Field::Options)?)?;
        }
        Ok(Self { raw })
    }

    /// Appends one subscription in the form of MQTT 5.0, which [`encode`](crate::encode) turns into
    /// that of another version. `filter` is at most 65,535 bytes long.
    pub fn append(filter: &str, options: SubscribeOptions, out: &mut Vec<u8>) {
        put_str(out, filter.as_bytes());
        out.push(options.bits(Version::V5));
    }

    /// The filters with their options, in the order of the wire.
    pub const fn iter(&self) -> SubscriptionIter<'a> {
        SubscriptionIter { input: Reader::new(self.raw) }
    }
}

impl<'a> IntoIterator for Subscriptions<'a> {
    type Item = (&'a str, SubscribeOptions);
    type IntoIter = SubscriptionIter<'a>;

    fn into_iter(self) -> SubscriptionIter<'a> {
        self.iter()
    }
}

/// Iterates over the payload of a SUBSCRIBE.
#[derive(Debug, Clone)]
pub struct SubscriptionIter<'a> {
    input: Reader<'a>,
}

impl<'a> Iterator for SubscriptionIter<'a> {
    type Item = (&'a str, SubscribeOptions);

    fn next(&mut self) -> Option<Self::Item> {
        if self.input.is_empty() {
            return None;
        }
        let item = self.input.text(Field::Filter).and_then(|filter| {
            // The options of an older version are options of 5.0 too.
            let bits = self.input.u8(Field::Options)?;
            Ok((filter, SubscribeOptions::from_bits(Version::V5, bits)?))
        });
        debug_assert!(item.is_ok(), "checked when the payload was made");
        item.ok()
    }
}

impl<'a> Subscribe<'a> {
    pub(super) fn decode(version: Version, input: &mut Reader<'a>) -> Result<Self, Error> {
        let packet_id = input.packet_id()?;
        let properties = decode_properties(version, Carrier::Subscribe, input)?;
        let filters = Subscriptions::decode(version, input.take_rest())?;
        Ok(Self { packet_id, properties, filters })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_u16(out, self.packet_id.get());
        encode_properties(version, &self.properties, out);
        for (filter, options) in self.filters {
            put_str(out, filter.as_bytes());
            out.push(options.bits(version));
        }
    }
}

impl<'a> Suback<'a> {
    pub(super) fn decode(version: Version, input: &mut Reader<'a>) -> Result<Self, Error> {
        let packet_id = input.packet_id()?;
        let properties = decode_properties(version, Carrier::Suback, input)?;
        let codes = input.take_rest();
        if codes.is_empty() {
            return Err(Offence::NoReasonCodes.into());
        }
        let legal = |code: u8| match version {
            Version::V5 => ReasonCode::from_u8(code)
                .is_some_and(|reason| reason.belongs_in(PacketType::Suback)),
            // 3.1 has no failure, but servers of it send that of 3.1.1 [MQTT-3.9.3-2].
            Version::V3_1 | Version::V3_1_1 => matches!(code, 0..=2 | 0x80),
        };
        if let Some(&code) = codes.iter().find(|&&code| !legal(code)) {
            return Err(Offence::ReasonCode(PacketType::Suback, code).into());
        }
        Ok(Self { packet_id, properties, codes })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        debug_assert!(!self.codes.is_empty(), "a SUBACK answers every filter");
        put_u16(out, self.packet_id.get());
        encode_properties(version, &self.properties, out);
        match version {
            Version::V5 => out.extend_from_slice(self.codes),
            Version::V3_1 | Version::V3_1_1 => out.extend(self.codes.iter().map(|&c| c.min(0x80))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Packet;
    use crate::packet::tests::{check, check_encode, id};

    fn subscribe<'a>(version: Version, properties: &'a [u8], filters: &'a [u8]) -> Packet<'a> {
        let filters = Subscriptions::decode(version, filters).unwrap();
        Packet::Subscribe(Subscribe {
            packet_id: id(10),
            properties: Properties::from_raw(properties),
            filters,
        })
    }

    /// [MQTT-3.8.3-1]; MQTT 5.0, figures 3-19 and 3-21.
    #[test]
    fn a_subscribe_is_pairs_of_filter_and_options() {
        let filters = b"\0\x03a/b\x01\0\x03c/d\x02";
        let v4 = b"\x82\x0e\0\x0a\0\x03a/b\x01\0\x03c/d\x02";
        check(Version::V3_1, subscribe(Version::V3_1, b"", filters), v4);
        check(Version::V3_1_1, subscribe(Version::V3_1_1, b"", filters), v4);
        let v5 = b"\x82\x11\0\x0a\x02\x0b\x05\0\x03a/b\x01\0\x03c/d\x2e";
        let filters = b"\0\x03a/b\x01\0\x03c/d\x2e";
        check(Version::V5, subscribe(Version::V5, b"\x0b\x05", filters), v5);
        check_encode(Version::V3_1_1, subscribe(Version::V5, b"\x0b\x05", filters), v4);
    }

    #[test]
    fn a_payload_is_read_as_it_is_appended() {
        let all = SubscribeOptions {
            qos: QoS::ExactlyOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: RetainHandling::DoNotSend,
        };
        let pairs = [("a/b", SubscribeOptions::new(QoS::AtLeastOnce)), ("", all), ("+/#", all)];
        let mut raw = Vec::new();
        for (filter, options) in pairs {
            Subscriptions::append(filter, options, &mut raw);
        }
        let filters = Subscriptions::decode(Version::V5, &raw).unwrap();
        assert_eq!(filters.iter().collect::<Vec<_>>(), pairs);
    }

    /// MQTT 5.0, 3.8.3.1, [MQTT-3.8.3-5]; 3.1.1: [MQTT-3.8.3-4 v3.1.1].
    #[test]
    fn options_are_refused_if_the_version_has_no_use_for_them() {
        for bits in 0..=u8::MAX {
            let v5 = SubscribeOptions::from_bits(Version::V5, bits);
            let v4 = SubscribeOptions::from_bits(Version::V3_1_1, bits);
            assert_eq!(SubscribeOptions::from_bits(Version::V3_1, bits), v4);
            let want = if bits & 0xc0 != 0 {
                Err(Malformed::SubscribeOptions(bits).into())
            } else if bits & 3 == 3 {
                Err(Offence::QoS(3).into())
            } else if bits >> 4 == 3 {
                Err(Offence::RetainHandling(bits).into())
            } else {
                Ok(bits)
            };
            assert_eq!(v5.map(|options| options.bits(Version::V5)), want, "{bits:#010b}");
            let want =
                if bits & 0xfc != 0 { Err(Malformed::SubscribeOptions(bits).into()) } else { want };
            assert_eq!(v4.map(|options| options.bits(Version::V3_1_1)), want, "{bits:#010b}");
        }
    }

    /// [MQTT-3.9.3-2].
    #[test]
    fn a_suback_holds_a_code_per_filter() {
        let suback = |properties, codes| {
            let properties = Properties::from_raw(properties);
            Packet::Suback(Suback { packet_id: id(10), properties, codes })
        };
        let plain = suback(b"", &[0, 1, 2, 0x80]);
        check(Version::V3_1, plain, b"\x90\x06\0\x0a\0\x01\x02\x80");
        check(Version::V3_1_1, plain, b"\x90\x06\0\x0a\0\x01\x02\x80");
        check(Version::V5, plain, b"\x90\x07\0\x0a\0\0\x01\x02\x80");
        let words = suback(b"\x1f\0\x01x", &[0x8f]);
        check(Version::V5, words, b"\x90\x08\0\x0a\x04\x1f\0\x01x\x8f");
        check_encode(Version::V3_1_1, words, b"\x90\x03\0\x0a\x80");
    }
}
