//! What was wrong with the peer's bytes, by blame, and the one map from that to a reason code.

use core::fmt;

use crate::packet::PacketType;
use crate::property::Carrier;
use crate::reason::ReasonCode;

/// Why bytes are not a packet. Every variant is the peer's fault; none is worth a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The bytes cannot be parsed (MQTT 5.0, 1.2 "Malformed Packet" and 4.13).
    Malformed(Malformed),
    /// The bytes parse, but say what the protocol forbids (MQTT 5.0, 1.2 "Protocol Error").
    Protocol(Offence),
    /// The packet is larger than the receiver takes (MQTT 5.0, 3.1.2.11.4). Found from the fixed
    /// header, so no memory has been reserved for it.
    PacketTooLarge {
        /// Bytes of the whole packet; the least it can be when the fixed header is not whole yet.
        size: usize,
        /// Bytes allowed, as given to [`frame`](fn@crate::frame).
        limit: usize,
    },
    /// A CONNECT of a protocol level this crate does not speak, or whose level does not belong to
    /// its protocol name [MQTT-3.1.2-2]. The receiver may answer with a CONNACK before it closes.
    UnsupportedVersion {
        /// The protocol level byte as received.
        level: u8,
    },
}

/// What could not be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Malformed {
    /// No such packet type in this version; holds the first byte (MQTT 5.0, 2.1.2).
    PacketType(u8),
    /// The fixed header flags are not those of the packet type [MQTT-2.1.3-1], or are QoS 3
    /// [MQTT-3.3.1-4]; holds the first byte.
    FixedHeaderFlags(u8),
    /// The Remaining Length takes more than four bytes (MQTT 5.0, 1.5.5).
    RemainingLength,
    /// The packet ends inside this field.
    Truncated(Field),
    /// Bytes follow the last field of a packet of this type.
    TrailingBytes(PacketType),
    /// A variable byte integer of more than four bytes, or not in its shortest form [MQTT-1.5.5-1].
    Varint(Field),
    /// Not UTF-8, or an encoded surrogate [MQTT-1.5.4-1].
    Utf8(Field),
    /// U+0000 in a string [MQTT-1.5.4-2].
    Nul(Field),
    /// The protocol name is neither `MQTT` nor `MQIsdp` [MQTT-3.1.2-1]. What follows such a name
    /// cannot be trusted, so this is not [`Error::UnsupportedVersion`].
    ProtocolName,
    /// The CONNECT flags contradict each other or use the reserved bit; holds the flags
    /// [MQTT-3.1.2-3], [MQTT-3.1.2-11], [MQTT-3.1.2-12], [MQTT-3.1.2-13]; 3.1.1: [MQTT-3.1.2-22].
    ConnectFlags(u8),
    /// A reserved bit of the CONNACK flags is set; holds the flags [MQTT-3.2.2-1].
    ConnackFlags(u8),
    /// A reserved bit of the subscription options is set; holds the options [MQTT-3.8.3-5].
    SubscribeOptions(u8),
    /// No property has this identifier (MQTT 5.0, 2.2.2.2).
    UnknownProperty(u8),
    /// The property with this identifier does not belong in this place (MQTT 5.0, 2.2.2.2).
    MisplacedProperty(u8, Carrier),
}

/// What was parsed, but is forbidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Offence {
    /// A packet identifier of zero [MQTT-2.2.1-3], [MQTT-2.2.1-4].
    PacketIdZero,
    /// DUP on a QoS 0 PUBLISH [MQTT-3.3.1-2].
    DupOnQoS0,
    /// A quality of service above 2 in a subscription or in a conversion; holds the number.
    QoS(u8),
    /// A Retain Handling of 3; holds the subscription options (MQTT 5.0, 3.8.3.1).
    RetainHandling(u8),
    /// A topic name of no characters [MQTT-4.7.3-1].
    EmptyTopic,
    /// `+` or `#` in a topic name [MQTT-3.3.2-2], [MQTT-4.7.0-1].
    WildcardInTopic,
    /// A topic name of more than 65,535 bytes [MQTT-4.7.3-3].
    TopicTooLong,
    /// A SUBSCRIBE or UNSUBSCRIBE without a filter [MQTT-3.8.3-2], [MQTT-3.10.3-2].
    NoFilters,
    /// A SUBACK, or a 5.0 UNSUBACK, without a reason code (MQTT 5.0, 3.9.3 and 3.11.3).
    NoReasonCodes,
    /// A reason code that this packet may not carry; holds the code as received.
    ReasonCode(PacketType, u8),
    /// A CONNACK that refuses and yet claims a session [MQTT-3.2.2-6].
    SessionOnRefusal,
    /// A property, named by its identifier, that may appear once appears again.
    DuplicateProperty(u8),
    /// A property, named by its identifier, has a value that the standard forbids.
    PropertyValue(u8),
    /// Authentication Data without an Authentication Method (MQTT 5.0, 3.1.2.11.10).
    DataWithoutMethod,
    /// An AUTH that says something without an Authentication Method (MQTT 5.0, 3.15.2.2.2).
    AuthWithoutMethod,
}

/// A field of a packet: the "where" of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// Protocol name of CONNECT.
    ProtocolName,
    /// Protocol level of CONNECT.
    ProtocolLevel,
    /// Flags of CONNECT or CONNACK.
    Flags,
    /// Keep alive of CONNECT.
    KeepAlive,
    /// Client identifier of CONNECT.
    ClientId,
    /// Will topic of CONNECT.
    WillTopic,
    /// Will payload of CONNECT.
    WillPayload,
    /// User name of CONNECT.
    UserName,
    /// Password of CONNECT.
    Password,
    /// Topic name.
    Topic,
    /// Topic filter.
    Filter,
    /// Subscription options, or the requested QoS before 5.0.
    Options,
    /// Packet identifier.
    PacketId,
    /// Reason code, or the return code before 5.0.
    ReasonCode,
    /// Length of a property block, or the block itself.
    Properties,
    /// Length of the will's property block, or the block itself.
    WillProperties,
    /// A property, named by its identifier.
    Property(u8),
}

impl Error {
    /// The reason code that tells the peer, for CONNACK or DISCONNECT (MQTT 5.0, 4.13).
    pub fn reason(&self) -> ReasonCode {
        match self {
            Self::Malformed(_) => ReasonCode::MalformedPacket,
            Self::Protocol(Offence::WildcardInTopic | Offence::TopicTooLong) => {
                ReasonCode::TopicNameInvalid
            }
            // MQTT 5.0, 3.3.4: the one property whose forbidden value has a code of its own.
            Self::Protocol(Offence::PropertyValue(0x23)) => ReasonCode::TopicAliasInvalid,
            Self::Protocol(_) => ReasonCode::ProtocolError,
            Self::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            Self::UnsupportedVersion { .. } => ReasonCode::UnsupportedProtocolVersion,
        }
    }
}

impl From<Malformed> for Error {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

impl From<Offence> for Error {
    fn from(offence: Offence) -> Self {
        Self::Protocol(offence)
    }
}

impl core::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(malformed) => write!(f, "malformed packet: {malformed}"),
            Self::Protocol(offence) => write!(f, "protocol error: {offence}"),
            Self::PacketTooLarge { size, limit } => {
                write!(f, "packet too large: {size} bytes where {limit} are allowed")
            }
            Self::UnsupportedVersion { level } => {
                write!(f, "unsupported protocol version: level {level}")
            }
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PacketType(first) => write!(f, "no packet starts with {first:#04x}"),
            Self::FixedHeaderFlags(first) => write!(f, "wrong flags in first byte {first:#04x}"),
            Self::RemainingLength => f.write_str("the remaining length takes over four bytes"),
            Self::Truncated(field) => write!(f, "it ends inside the {field}"),
            Self::TrailingBytes(packet) => write!(f, "bytes follow the end of the {packet}"),
            Self::Varint(field) => write!(f, "bad variable byte integer in the {field}"),
            Self::Utf8(field) => write!(f, "the {field} is not UTF-8"),
            Self::Nul(field) => write!(f, "U+0000 in the {field}"),
            Self::ProtocolName => f.write_str("the protocol name is not MQTT"),
            Self::ConnectFlags(flags) => write!(f, "contradictory CONNECT flags {flags:#04x}"),
            Self::ConnackFlags(flags) => write!(f, "reserved CONNACK flags set in {flags:#04x}"),
            Self::SubscribeOptions(bits) => {
                write!(f, "reserved subscription options set in {bits:#04x}")
            }
            Self::UnknownProperty(id) => write!(f, "no property has identifier {id:#04x}"),
            Self::MisplacedProperty(id, carrier) => {
                write!(f, "property {id:#04x} does not belong in {carrier}")
            }
        }
    }
}

impl fmt::Display for Offence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PacketIdZero => f.write_str("packet identifier 0"),
            Self::DupOnQoS0 => f.write_str("DUP on a QoS 0 PUBLISH"),
            Self::QoS(value) => write!(f, "quality of service {value}"),
            Self::RetainHandling(bits) => write!(f, "retain handling 3 in options {bits:#04x}"),
            Self::EmptyTopic => f.write_str("empty topic name"),
            Self::WildcardInTopic => f.write_str("wildcard in a topic name"),
            Self::TopicTooLong => f.write_str("topic name over 65,535 bytes"),
            Self::NoFilters => f.write_str("no topic filter"),
            Self::NoReasonCodes => f.write_str("no reason code"),
            Self::ReasonCode(packet, code) => write!(f, "reason code {code:#04x} in {packet}"),
            Self::SessionOnRefusal => f.write_str("session present in a refusing CONNACK"),
            Self::DuplicateProperty(id) => write!(f, "property {id:#04x} appears twice"),
            Self::PropertyValue(id) => write!(f, "forbidden value of property {id:#04x}"),
            Self::DataWithoutMethod => f.write_str("authentication data without a method"),
            Self::AuthWithoutMethod => f.write_str("AUTH without an authentication method"),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProtocolName => "protocol name",
            Self::ProtocolLevel => "protocol level",
            Self::Flags => "flags",
            Self::KeepAlive => "keep alive",
            Self::ClientId => "client identifier",
            Self::WillTopic => "will topic",
            Self::WillPayload => "will payload",
            Self::UserName => "user name",
            Self::Password => "password",
            Self::Topic => "topic name",
            Self::Filter => "topic filter",
            Self::Options => "subscription options",
            Self::PacketId => "packet identifier",
            Self::ReasonCode => "reason code",
            Self::Properties => "properties",
            Self::WillProperties => "will properties",
            Self::Property(id) => return write!(f, "property {id:#04x}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MQTT 5.0, 4.13.
    #[test]
    fn an_error_has_one_reason_code() {
        let check = |error: Error, want: ReasonCode| assert_eq!(error.reason(), want, "{error}");
        check(Malformed::RemainingLength.into(), ReasonCode::MalformedPacket);
        check(Malformed::Utf8(Field::Topic).into(), ReasonCode::MalformedPacket);
        check(Malformed::MisplacedProperty(1, Carrier::Auth).into(), ReasonCode::MalformedPacket);
        check(Offence::PacketIdZero.into(), ReasonCode::ProtocolError);
        check(Offence::EmptyTopic.into(), ReasonCode::ProtocolError);
        check(Offence::PropertyValue(0x21).into(), ReasonCode::ProtocolError);
        check(Offence::PropertyValue(0x23).into(), ReasonCode::TopicAliasInvalid);
        check(Offence::WildcardInTopic.into(), ReasonCode::TopicNameInvalid);
        check(Offence::TopicTooLong.into(), ReasonCode::TopicNameInvalid);
        check(Error::PacketTooLarge { size: 2, limit: 1 }, ReasonCode::PacketTooLarge);
        let version = Error::UnsupportedVersion { level: 6 };
        check(version, ReasonCode::UnsupportedProtocolVersion);
    }

    #[test]
    fn an_error_says_what_and_where() {
        let check = |error: Error, want: &str| assert_eq!(error.to_string(), want);
        check(
            Malformed::Truncated(Field::WillTopic).into(),
            "malformed packet: it ends inside the will topic",
        );
        check(
            Malformed::MisplacedProperty(0x23, Carrier::Will).into(),
            "malformed packet: property 0x23 does not belong in the will",
        );
        check(
            Malformed::Nul(Field::Property(0x1f)).into(),
            "malformed packet: U+0000 in the property 0x1f",
        );
        check(
            Offence::ReasonCode(PacketType::Puback, 0x92).into(),
            "protocol error: reason code 0x92 in PUBACK",
        );
        check(
            Error::PacketTooLarge { size: 11, limit: 10 },
            "packet too large: 11 bytes where 10 are allowed",
        );
    }

    /// An error is passed up on the hot path, so it has to stay as small as a few words.
    #[test]
    fn an_error_fits_three_words() {
        assert!(size_of::<Error>() <= 3 * size_of::<usize>());
    }
}
