//! The fifteen control packets, and the way between them and bytes (MQTT 5.0, 2 and 3).

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod publish;
mod subscribe;
mod unsubscribe;

use core::fmt;
use core::num::NonZeroU16;

pub use ack::Ack;
pub use auth::Auth;
pub use connack::Connack;
pub use connect::{Connect, Will};
pub use disconnect::Disconnect;
pub use publish::{Publish, decode_publish, encode_publish};
pub use subscribe::{
    RetainHandling, Suback, Subscribe, SubscribeOptions, SubscriptionIter, Subscriptions,
};
pub use unsubscribe::{TopicFilterIter, TopicFilters, Unsuback, Unsubscribe};

use crate::error::{Error, Field, Malformed, Offence};
use crate::property::{Carrier, Properties};
use crate::reason::ReasonCode;
use crate::wire::{Reader, VARINT_MAX, put_varint};

/// Names a packet in flight, 1..=65,535, in one direction of one session (MQTT 5.0, 2.2.1).
pub type PacketId = NonZeroU16;

/// A version of the protocol. The value is the protocol level byte of CONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Version {
    /// MQTT 3.1.
    V3_1 = 3,
    /// MQTT 3.1.1.
    V3_1_1 = 4,
    /// MQTT 5.0.
    V5 = 5,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Self; 3] = [Self::V3_1, Self::V3_1_1, Self::V5];
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V3_1 => "3.1",
            Self::V3_1_1 => "3.1.1",
            Self::V5 => "5.0",
        })
    }
}

/// How hard delivery is tried (MQTT 5.0, 4.3).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum QoS {
    /// QoS 0: sent and forgotten.
    #[default]
    AtMostOnce = 0,
    /// QoS 1: repeated until acknowledged.
    AtLeastOnce = 1,
    /// QoS 2: handed over by a handshake.
    ExactlyOnce = 2,
}

impl QoS {
    /// The lower two bits as a quality of service; none for 3.
    #[inline]
    pub(crate) const fn from_bits(bits: u8) -> Option<Self> {
        match bits & 0b11 {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

impl TryFrom<u8> for QoS {
    type Error = Error;

    /// Fails with [`Offence::QoS`] above 2.
    fn try_from(value: u8) -> Result<Self, Error> {
        match value {
            0 => Ok(Self::AtMostOnce),
            1 => Ok(Self::AtLeastOnce),
            2 => Ok(Self::ExactlyOnce),
            _ => Err(Offence::QoS(value).into()),
        }
    }
}

/// What a packet is. The value is that of the first byte's high four bits (MQTT 5.0, table 2-1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum PacketType {
    /// Client asks to connect.
    Connect = 1,
    /// Server answers CONNECT.
    Connack = 2,
    /// A message.
    Publish = 3,
    /// Answers a QoS 1 PUBLISH.
    Puback = 4,
    /// First answer to a QoS 2 PUBLISH.
    Pubrec = 5,
    /// Answers PUBREC.
    Pubrel = 6,
    /// Answers PUBREL.
    Pubcomp = 7,
    /// Client asks for messages.
    Subscribe = 8,
    /// Server answers SUBSCRIBE.
    Suback = 9,
    /// Client asks for messages no longer.
    Unsubscribe = 10,
    /// Server answers UNSUBSCRIBE.
    Unsuback = 11,
    /// Client is alive.
    Pingreq = 12,
    /// Server answers PINGREQ.
    Pingresp = 13,
    /// The sender is about to close.
    Disconnect = 14,
    /// A step of extended authentication; MQTT 5.0 only.
    Auth = 15,
}

impl PacketType {
    /// The type in the high four bits of a packet's first byte; none for 0.
    #[inline]
    pub const fn from_first_byte(first: u8) -> Option<Self> {
        Some(match first >> 4 {
            1 => Self::Connect,
            2 => Self::Connack,
            3 => Self::Publish,
            4 => Self::Puback,
            5 => Self::Pubrec,
            6 => Self::Pubrel,
            7 => Self::Pubcomp,
            8 => Self::Subscribe,
            9 => Self::Suback,
            10 => Self::Unsubscribe,
            11 => Self::Unsuback,
            12 => Self::Pingreq,
            13 => Self::Pingresp,
            14 => Self::Disconnect,
            15 => Self::Auth,
            _ => return None,
        })
    }

    /// The first byte of a packet of this type; for PUBLISH, of one with no flag set.
    pub(crate) const fn first_byte(self) -> u8 {
        let flags = match self {
            Self::Pubrel | Self::Subscribe | Self::Unsubscribe => 0b0010,
            _ => 0,
        };
        (self as u8) << 4 | flags
    }
}

impl fmt::Display for PacketType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "CONNECT",
            Self::Connack => "CONNACK",
            Self::Publish => "PUBLISH",
            Self::Puback => "PUBACK",
            Self::Pubrec => "PUBREC",
            Self::Pubrel => "PUBREL",
            Self::Pubcomp => "PUBCOMP",
            Self::Subscribe => "SUBSCRIBE",
            Self::Suback => "SUBACK",
            Self::Unsubscribe => "UNSUBSCRIBE",
            Self::Unsuback => "UNSUBACK",
            Self::Pingreq => "PINGREQ",
            Self::Pingresp => "PINGRESP",
            Self::Disconnect => "DISCONNECT",
            Self::Auth => "AUTH",
        })
    }
}

/// A control packet. Everything of variable length borrows from the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packet<'a> {
    /// CONNECT (MQTT 5.0, 3.1).
    Connect(Connect<'a>),
    /// CONNACK (MQTT 5.0, 3.2).
    Connack(Connack<'a>),
    /// PUBLISH (MQTT 5.0, 3.3).
    Publish(Publish<'a>),
    /// PUBACK (MQTT 5.0, 3.4).
    Puback(Ack<'a>),
    /// PUBREC (MQTT 5.0, 3.5).
    Pubrec(Ack<'a>),
    /// PUBREL (MQTT 5.0, 3.6).
    Pubrel(Ack<'a>),
    /// PUBCOMP (MQTT 5.0, 3.7).
    Pubcomp(Ack<'a>),
    /// SUBSCRIBE (MQTT 5.0, 3.8).
    Subscribe(Subscribe<'a>),
    /// SUBACK (MQTT 5.0, 3.9).
    Suback(Suback<'a>),
    /// UNSUBSCRIBE (MQTT 5.0, 3.10).
    Unsubscribe(Unsubscribe<'a>),
    /// UNSUBACK (MQTT 5.0, 3.11).
    Unsuback(Unsuback<'a>),
    /// PINGREQ (MQTT 5.0, 3.12).
    Pingreq,
    /// PINGRESP (MQTT 5.0, 3.13).
    Pingresp,
    /// DISCONNECT (MQTT 5.0, 3.14).
    Disconnect(Disconnect<'a>),
    /// AUTH (MQTT 5.0, 3.15).
    Auth(Auth<'a>),
}

impl Packet<'_> {
    /// What the packet is.
    pub const fn packet_type(&self) -> PacketType {
        match self {
            Self::Connect(_) => PacketType::Connect,
            Self::Connack(_) => PacketType::Connack,
            Self::Publish(_) => PacketType::Publish,
            Self::Puback(_) => PacketType::Puback,
            Self::Pubrec(_) => PacketType::Pubrec,
            Self::Pubrel(_) => PacketType::Pubrel,
            Self::Pubcomp(_) => PacketType::Pubcomp,
            Self::Subscribe(_) => PacketType::Subscribe,
            Self::Suback(_) => PacketType::Suback,
            Self::Unsubscribe(_) => PacketType::Unsubscribe,
            Self::Unsuback(_) => PacketType::Unsuback,
            Self::Pingreq => PacketType::Pingreq,
            Self::Pingresp => PacketType::Pingresp,
            Self::Disconnect(_) => PacketType::Disconnect,
            Self::Auth(_) => PacketType::Auth,
        }
    }
}

/// Decodes one packet without allocating.
///
/// `first` is the first byte of the packet and `body` is exactly what follows its fixed header (see
/// [`frame`](fn@crate::frame)). `version` is that of the connection; a CONNECT names its own, and
/// `version` is ignored. Fails with what is wrong; nothing of such a packet may be acted on.
pub fn decode<'a>(version: Version, first: u8, body: &'a [u8]) -> Result<Packet<'a>, Error> {
    let packet_type = check_first_byte(version, first)?;
    let mut input = Reader::new(body);
    let packet = match packet_type {
        PacketType::Connect => Packet::Connect(Connect::decode(&mut input)?),
        PacketType::Connack => Packet::Connack(Connack::decode(version, &mut input)?),
        PacketType::Publish => return decode_publish(version, first, body).map(Packet::Publish),
        PacketType::Puback => Packet::Puback(Ack::decode(version, packet_type, &mut input)?),
        PacketType::Pubrec => Packet::Pubrec(Ack::decode(version, packet_type, &mut input)?),
        PacketType::Pubrel => Packet::Pubrel(Ack::decode(version, packet_type, &mut input)?),
        PacketType::Pubcomp => Packet::Pubcomp(Ack::decode(version, packet_type, &mut input)?),
        PacketType::Subscribe => Packet::Subscribe(Subscribe::decode(version, &mut input)?),
        PacketType::Suback => Packet::Suback(Suback::decode(version, &mut input)?),
        PacketType::Unsubscribe => Packet::Unsubscribe(Unsubscribe::decode(version, &mut input)?),
        PacketType::Unsuback => Packet::Unsuback(Unsuback::decode(version, &mut input)?),
        PacketType::Pingreq => Packet::Pingreq,
        PacketType::Pingresp => Packet::Pingresp,
        PacketType::Disconnect => Packet::Disconnect(Disconnect::decode(version, &mut input)?),
        PacketType::Auth => Packet::Auth(Auth::decode(&mut input)?),
    };
    input.finish(packet_type)?;
    Ok(packet)
}

/// The packet type, once the flags are found to be those of the type [MQTT-2.1.3-1].
fn check_first_byte(version: Version, first: u8) -> Result<PacketType, Error> {
    let packet_type = match PacketType::from_first_byte(first) {
        Some(PacketType::Auth) if version < Version::V5 => None,
        known => known,
    }
    .ok_or(Malformed::PacketType(first))?;
    // Before 3.1.1 a repeated PUBREL, SUBSCRIBE or UNSUBSCRIBE has DUP set (MQTT 3.1, 2.1). The
    // latter two have QoS 1, but old clients, of PHP among them, send them with QoS 0.
    let ignored = match packet_type {
        PacketType::Publish => 0b1111,
        PacketType::Pubrel if version == Version::V3_1 => 0b1000,
        PacketType::Subscribe | PacketType::Unsubscribe if version == Version::V3_1 => 0b1010,
        _ => 0,
    };
    if (first ^ packet_type.first_byte()) & !ignored != 0 {
        return Err(Malformed::FixedHeaderFlags(first).into());
    }
    Ok(packet_type)
}

/// Appends one packet to `out`.
///
/// A CONNECT is encoded in the version it names, any other packet in `version`. What the version
/// cannot say is dropped: properties, acknowledgement reasons, subscription options but QoS. Reason
/// codes of CONNACK and SUBACK are translated to the nearest the version has. AUTH exists in 5.0
/// only; in another version nothing is appended, and debug builds assert.
///
/// The caller vouches for bounds: strings of at most 65,535 bytes without U+0000, a packet of at
/// most 268,435,455 bytes behind its fixed header, a packet identifier exactly where QoS is above
/// 0, reason codes that the packet may carry. Debug builds assert them.
pub fn encode(version: Version, packet: &Packet<'_>, out: &mut Vec<u8>) {
    let first = packet.packet_type().first_byte();
    match packet {
        Packet::Publish(publish) => encode_publish(version, publish, out),
        Packet::Auth(_) if version < Version::V5 => {
            debug_assert!(false, "MQTT {version} has no AUTH");
        }
        Packet::Connect(connect) => framed(first, out, |out| connect.encode(out)),
        Packet::Connack(connack) => framed(first, out, |out| connack.encode(version, out)),
        Packet::Puback(ack) | Packet::Pubrec(ack) | Packet::Pubrel(ack) | Packet::Pubcomp(ack) => {
            framed(first, out, |out| ack.encode(version, out));
        }
        Packet::Subscribe(subscribe) => framed(first, out, |out| subscribe.encode(version, out)),
        Packet::Suback(suback) => framed(first, out, |out| suback.encode(version, out)),
        Packet::Unsubscribe(unsubscribe) => {
            framed(first, out, |out| unsubscribe.encode(version, out));
        }
        Packet::Unsuback(unsuback) => framed(first, out, |out| unsuback.encode(version, out)),
        Packet::Pingreq | Packet::Pingresp => framed(first, out, |_| {}),
        Packet::Disconnect(disconnect) => {
            framed(first, out, |out| disconnect.encode(version, out));
        }
        Packet::Auth(auth) => framed(first, out, |out| auth.encode(out)),
    }
}

/// Appends a fixed header and what `body` appends.
///
/// The body goes in first, behind room for a one byte length, which is all that most packets need;
/// a longer length pushes the body back. So no packet has to compute its length beforehand.
fn framed(first: u8, out: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(first);
    let length_at = out.len();
    out.push(0);
    body(out);
    let remaining = out.len() - length_at - 1;
    debug_assert!(remaining <= VARINT_MAX as usize, "{remaining} bytes in one packet");
    if remaining <= 0x7f {
        out[length_at] = remaining as u8;
    } else {
        let mut length = Vec::with_capacity(4);
        put_varint(&mut length, remaining as u32);
        out.splice(length_at..=length_at, length);
    }
}

/// Reads a property block and validates it; before MQTT 5.0 there is none.
fn decode_properties<'a>(
    version: Version,
    carrier: Carrier,
    input: &mut Reader<'a>,
) -> Result<Properties<'a>, Error> {
    if version < Version::V5 {
        return Ok(Properties::none());
    }
    let field = if carrier == Carrier::Will { Field::WillProperties } else { Field::Properties };
    let properties = Properties::from_raw(input.block(field)?);
    properties.validate(carrier)?;
    Ok(properties)
}

/// Appends a property block with its length; before MQTT 5.0 nothing.
fn encode_properties(version: Version, properties: &Properties<'_>, out: &mut Vec<u8>) {
    if version == Version::V5 {
        put_varint(out, properties.raw().len() as u32);
        out.extend_from_slice(properties.raw());
    }
}

/// Reads the reason code and the properties at the end of an acknowledgement, DISCONNECT or AUTH of
/// MQTT 5.0. Both may be left out, and the properties alone (MQTT 5.0, 3.4.2, 3.14.2 and 3.15.2).
fn decode_reason<'a>(
    packet: PacketType,
    carrier: Carrier,
    input: &mut Reader<'a>,
) -> Result<(ReasonCode, Properties<'a>), Error> {
    if input.is_empty() {
        return Ok((ReasonCode::Success, Properties::none()));
    }
    let code = input.u8(Field::ReasonCode)?;
    let reason = ReasonCode::from_u8(code)
        .filter(|reason| reason.belongs_in(packet))
        .ok_or(Offence::ReasonCode(packet, code))?;
    if input.is_empty() {
        return Ok((reason, Properties::none()));
    }
    Ok((reason, decode_properties(Version::V5, carrier, input)?))
}

/// Appends what [`decode_reason`] reads, in as few bytes as can be.
fn encode_reason(reason: ReasonCode, properties: &Properties<'_>, out: &mut Vec<u8>) {
    if !properties.is_empty() {
        out.push(reason.value());
        encode_properties(Version::V5, properties, out);
    } else if reason != ReasonCode::Success {
        out.push(reason.value());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::frame;

    /// Asserts that the packet is encoded as these bytes, and the bytes decoded as the packet.
    pub(super) fn check(version: Version, packet: Packet<'_>, bytes: &[u8]) {
        check_encode(version, packet, bytes);
        assert_eq!(decode_whole(version, bytes), Ok(packet), "{version}");
    }

    /// Asserts that the packet is encoded as these bytes.
    pub(super) fn check_encode(version: Version, packet: Packet<'_>, bytes: &[u8]) {
        let mut out = vec![0xee];
        encode(version, &packet, &mut out);
        assert_eq!(out[0], 0xee, "what was there before is not touched");
        assert_eq!(out[1..].escape_ascii().to_string(), bytes.escape_ascii().to_string());
    }

    /// Decodes bytes that hold one packet with its fixed header.
    pub(super) fn decode_whole(version: Version, bytes: &[u8]) -> Result<Packet<'_>, Error> {
        let found = frame(bytes, usize::MAX)?.expect("a whole fixed header");
        assert_eq!(found.total(), bytes.len());
        decode(version, found.first, &bytes[found.header..])
    }

    pub(super) const fn id(value: u16) -> PacketId {
        PacketId::new(value).expect("not zero")
    }

    /// MQTT 5.0, 3.12 and 3.13.
    #[test]
    fn a_ping_is_two_bytes() {
        for version in Version::ALL {
            check(version, Packet::Pingreq, b"\xc0\0");
            check(version, Packet::Pingresp, b"\xd0\0");
        }
    }

    /// [MQTT-2.1.3-1], [MQTT-3.6.1-1], [MQTT-3.8.1-1], [MQTT-3.10.1-1], [MQTT-3.14.1-1],
    /// [MQTT-3.15.1-1].
    #[test]
    fn flags_are_refused_if_the_version_has_no_use_for_them() {
        for version in Version::ALL {
            for first in 0..=u8::MAX {
                let dup = version == Version::V3_1 && first & 0b1000 != 0;
                let want = match first {
                    0x00..=0x0f => Err(Malformed::PacketType(first)),
                    0xf0..=0xff if version < Version::V5 => Err(Malformed::PacketType(first)),
                    0x30..=0x3f | 0x62 | 0x82 | 0xa2 => Ok(()),
                    0x6a | 0x8a | 0xaa if dup => Ok(()),
                    0x80 | 0x88 | 0xa0 | 0xa8 if version == Version::V3_1 => Ok(()),
                    0x10 | 0x20 | 0x40 | 0x50 | 0x70 | 0x90 | 0xb0 | 0xc0 | 0xd0 | 0xe0 | 0xf0 => {
                        Ok(())
                    }
                    _ => Err(Malformed::FixedHeaderFlags(first)),
                };
                let got = check_first_byte(version, first).map(drop);
                assert_eq!(got, want.map_err(Error::from), "{first:#04x} in {version}");
            }
        }
    }

    #[test]
    fn a_quality_of_service_is_0_1_or_2() {
        for value in 0..=u8::MAX {
            let want = if value <= 2 { Ok(value) } else { Err(Offence::QoS(value).into()) };
            assert_eq!(QoS::try_from(value).map(|qos| qos as u8), want);
        }
    }

    #[test]
    fn a_long_packet_gets_a_long_length() {
        for len in [0, 124, 125, 126, 16_380, 16_381, 16_382, 16_383] {
            let codes = vec![0; len + 1];
            let packet = Packet::Suback(Suback {
                packet_id: id(9),
                properties: Properties::none(),
                codes: &codes,
            });
            let mut out = Vec::new();
            encode(Version::V3_1_1, &packet, &mut out);
            let found = frame(&out, usize::MAX).unwrap().unwrap();
            assert_eq!((found.total(), found.remaining), (out.len(), len + 3));
            assert!(found.is_minimal());
            assert_eq!(decode_whole(Version::V3_1_1, &out), Ok(packet));
        }
    }

    #[test]
    fn every_version_and_type_has_its_words() {
        assert_eq!(Version::ALL.map(|version| version.to_string()), ["3.1", "3.1.1", "5.0"]);
        for first in (0x10..=0xf0).step_by(0x10) {
            let packet_type = PacketType::from_first_byte(first).unwrap();
            assert_eq!(packet_type.first_byte() & 0xf0, first);
            assert_eq!(packet_type.to_string(), format!("{packet_type:?}").to_uppercase());
        }
    }
}
