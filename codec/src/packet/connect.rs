//! CONNECT, the first packet of a connection, and the will it may leave (MQTT 5.0, 3.1).

use crate::error::{Error, Field, Malformed};
use crate::packet::{QoS, Version, decode_properties, encode_properties};
use crate::property::{Carrier, Properties};
use crate::topic;
use crate::wire::{Reader, put_str, put_u16};

/// What a client says of itself (MQTT 5.0, 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The version the connection speaks from here on.
    pub version: Version,
    /// Whether an old session is thrown away: Clean Start, or Clean Session before 5.0
    /// (MQTT 5.0, 3.1.2.4).
    pub clean_start: bool,
    /// The longest silence of the client, in seconds; 0 turns the check off (MQTT 5.0, 3.1.2.10).
    pub keep_alive: u16,
    /// Names the session; may be empty, which is for the server to judge (MQTT 5.0, 3.1.3.1).
    pub client_id: &'a str,
    /// Published when the session or its connection ends badly (MQTT 5.0, 3.1.2.5).
    pub will: Option<Will<'a>>,
    /// User name (MQTT 5.0, 3.1.3.5).
    pub username: Option<&'a str>,
    /// Password, of any content; before 5.0 only beside a user name (MQTT 5.0, 3.1.3.6).
    pub password: Option<&'a [u8]>,
    /// Properties, validated for [`Carrier::Connect`].
    pub properties: Properties<'a>,
}

/// The message a client leaves behind (MQTT 5.0, 3.1.2.5 and 3.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Will<'a> {
    /// Quality of service the will is published at.
    pub qos: QoS,
    /// Whether the will is retained.
    pub retain: bool,
    /// Topic name the will is published to; validated.
    pub topic: &'a str,
    /// Content of the will, at most 65,535 bytes.
    pub payload: &'a [u8],
    /// Properties, validated for [`Carrier::Will`].
    pub properties: Properties<'a>,
}

const NAME: &[u8] = b"MQTT";
/// The protocol name of MQTT 3.1 (MQTT 3.1, 3.1).
const NAME_V3_1: &[u8] = b"MQIsdp";

/// Bits of the CONNECT flags (MQTT 5.0, 3.1.2.3).
mod flag {
    pub(super) const RESERVED: u8 = 0b0000_0001;
    pub(super) const CLEAN_START: u8 = 0b0000_0010;
    pub(super) const WILL: u8 = 0b0000_0100;
    pub(super) const WILL_QOS: u8 = 0b0001_1000;
    pub(super) const WILL_RETAIN: u8 = 0b0010_0000;
    pub(super) const PASSWORD: u8 = 0b0100_0000;
    pub(super) const USER_NAME: u8 = 0b1000_0000;
}
const WILL_QOS_SHIFT: u32 = flag::WILL_QOS.trailing_zeros();

impl<'a> Connect<'a> {
    pub(super) fn decode(input: &mut Reader<'a>) -> Result<Self, Error> {
        let version = decode_version(input)?;
        let flags = input.u8(Field::Flags)?;
        let will_qos = check_flags(version, flags)?;
        let keep_alive = input.u16(Field::KeepAlive)?;
        let properties = decode_properties(version, Carrier::Connect, input)?;
        let client_id = input.text(Field::ClientId)?;
        let will = if flags & flag::WILL != 0 {
            let retain = flags & flag::WILL_RETAIN != 0;
            Some(Will::decode(version, will_qos, retain, input)?)
        } else {
            None
        };
        // MQTT 3.1, 3.1: the flag may be set and the string missing, if the packet ends there.
        let missing = |input: &Reader<'_>| version == Version::V3_1 && input.is_empty();
        let username = if flags & flag::USER_NAME != 0 && !missing(input) {
            Some(input.text(Field::UserName)?)
        } else {
            None
        };
        let password = if flags & flag::PASSWORD != 0 && !missing(input) {
            Some(input.bytes(Field::Password)?)
        } else {
            None
        };
        Ok(Self {
            version,
            clean_start: flags & flag::CLEAN_START != 0,
            keep_alive,
            client_id,
            will,
            username,
            password,
            properties,
        })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        debug_assert!(
            self.version == Version::V5 || self.password.is_none() || self.username.is_some(),
            "a password without a user name before MQTT 5.0"
        );
        put_str(out, if self.version == Version::V3_1 { NAME_V3_1 } else { NAME });
        out.push(self.version as u8);
        out.push(self.flags());
        put_u16(out, self.keep_alive);
        encode_properties(self.version, &self.properties, out);
        put_str(out, self.client_id.as_bytes());
        if let Some(will) = &self.will {
            encode_properties(self.version, &will.properties, out);
            put_str(out, will.topic.as_bytes());
            put_str(out, will.payload);
        }
        if let Some(username) = self.username {
            put_str(out, username.as_bytes());
        }
        if let Some(password) = self.password {
            put_str(out, password);
        }
    }

    fn flags(&self) -> u8 {
        let when = |condition: bool, bits: u8| if condition { bits } else { 0 };
        when(self.clean_start, flag::CLEAN_START)
            | when(self.username.is_some(), flag::USER_NAME)
            | when(self.password.is_some(), flag::PASSWORD)
            | self.will.as_ref().map_or(0, |will| {
                flag::WILL
                    | (will.qos as u8) << WILL_QOS_SHIFT
                    | when(will.retain, flag::WILL_RETAIN)
            })
    }
}

impl<'a> Will<'a> {
    fn decode(
        version: Version,
        qos: QoS,
        retain: bool,
        input: &mut Reader<'a>,
    ) -> Result<Self, Error> {
        let properties = decode_properties(version, Carrier::Will, input)?;
        let topic = topic::validate(input.text(Field::WillTopic)?.as_bytes())?;
        let payload = input.bytes(Field::WillPayload)?;
        Ok(Self { qos, retain, topic, payload, properties })
    }
}

/// Reads the protocol name and level [MQTT-3.1.2-1], [MQTT-3.1.2-2].
fn decode_version(input: &mut Reader<'_>) -> Result<Version, Error> {
    let name = input.bytes(Field::ProtocolName)?;
    if name != NAME && name != NAME_V3_1 {
        return Err(Malformed::ProtocolName.into());
    }
    match (name == NAME, input.u8(Field::ProtocolLevel)?) {
        (false, 3) => Ok(Version::V3_1),
        (true, 4) => Ok(Version::V3_1_1),
        (true, 5) => Ok(Version::V5),
        (_, level) => Err(Error::UnsupportedVersion { level }),
    }
}

/// Checks the flags against each other, and takes the will's QoS out of them.
///
/// MQTT 3.1 disregards the reserved bit, and QoS and retain of a will that is not there; the later
/// standards refuse them [MQTT-3.1.2-3], [MQTT-3.1.2-11], [MQTT-3.1.2-13].
fn check_flags(version: Version, flags: u8) -> Result<QoS, Error> {
    let reserved = match (version, flags & flag::WILL != 0) {
        (Version::V3_1, _) => 0,
        (_, true) => flag::RESERVED,
        (_, false) => flag::RESERVED | flag::WILL_QOS | flag::WILL_RETAIN,
    };
    let lone_password = flags & (flag::USER_NAME | flag::PASSWORD) == flag::PASSWORD;
    if flags & reserved != 0 || version < Version::V5 && lone_password {
        return Err(Malformed::ConnectFlags(flags).into());
    }
    if flags & flag::WILL == 0 {
        return Ok(QoS::AtMostOnce);
    }
    // [MQTT-3.1.2-12]
    Ok(QoS::from_bits(flags >> WILL_QOS_SHIFT).ok_or(Malformed::ConnectFlags(flags))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Packet;
    use crate::packet::tests::{check, decode_whole};

    const PLAIN: Connect<'_> = Connect {
        version: Version::V3_1_1,
        clean_start: true,
        keep_alive: 60,
        client_id: "c",
        will: None,
        username: None,
        password: None,
        properties: Properties::none(),
    };
    const WILL: Will<'_> = Will {
        qos: QoS::AtLeastOnce,
        retain: true,
        topic: "t",
        payload: b"p",
        properties: Properties::none(),
    };

    /// [MQTT-3.1.2-1], [MQTT-3.1.2-2], [MQTT-3.1.3-1], [MQTT-3.1.3-3].
    #[test]
    fn a_connect_names_its_version() {
        let connect = |version| Packet::Connect(Connect { version, ..PLAIN });
        for other in Version::ALL {
            let v3_1 = b"\x10\x0f\0\x06MQIsdp\x03\x02\0\x3c\0\x01c";
            check(other, connect(Version::V3_1), v3_1);
            check(other, connect(Version::V3_1_1), b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\x01c");
            check(other, connect(Version::V5), b"\x10\x0e\0\x04MQTT\x05\x02\0\x3c\0\0\x01c");
        }
    }

    /// [MQTT-3.1.2-9], [MQTT-3.1.2-17], [MQTT-3.1.2-19], [MQTT-3.1.3-1].
    #[test]
    fn a_connect_holds_will_user_name_and_password_in_this_order() {
        let full = Connect {
            clean_start: false,
            will: Some(WILL),
            username: Some("u"),
            password: Some(b"\xff\0"),
            ..PLAIN
        };
        check(
            Version::V3_1_1,
            Packet::Connect(full),
            b"\x10\x1a\0\x04MQTT\x04\xec\0\x3c\0\x01c\0\x01t\0\x01p\0\x01u\0\x02\xff\0",
        );
        let full = Connect {
            version: Version::V5,
            properties: Properties::from_raw(b"\x21\0\x0a"),
            will: Some(Will { properties: Properties::from_raw(b"\x18\0\0\0\x05"), ..WILL }),
            ..full
        };
        check(
            Version::V5,
            Packet::Connect(full),
            b"\x10\x24\0\x04MQTT\x05\xec\0\x3c\x03\x21\0\x0a\0\x01c\
              \x05\x18\0\0\0\x05\0\x01t\0\x01p\0\x01u\0\x02\xff\0",
        );
    }

    /// MQTT 5.0, 3.1.2.9; [MQTT-3.1.2-22] of MQTT 3.1.1.
    #[test]
    fn a_password_without_a_user_name_needs_5_0() {
        let lone = Connect { version: Version::V5, password: Some(b"w"), ..PLAIN };
        check(
            Version::V5,
            Packet::Connect(lone),
            b"\x10\x11\0\x04MQTT\x05\x42\0\x3c\0\0\x01c\0\x01w",
        );
        let older = b"\x10\x10\0\x04MQTT\x04\x42\0\x3c\0\x01c\0\x01w";
        let want = Malformed::ConnectFlags(0x42);
        assert_eq!(decode_whole(Version::V3_1_1, older), Err(want.into()));
    }

    /// [MQTT-3.1.2-3], [MQTT-3.1.2-11], [MQTT-3.1.2-12], [MQTT-3.1.2-13].
    #[test]
    fn flags_agree_with_each_other() {
        for flags in 0..=u8::MAX {
            let reserved = flags & 0x01 != 0;
            let lone_password = flags & 0xc0 == 0x40;
            let (will, qos, retain) = (flags & 0x04 != 0, flags >> 3 & 3, flags & 0x20 != 0);
            for version in Version::ALL {
                let legal = match version {
                    Version::V3_1 => !(lone_password || will && qos == 3),
                    _ if reserved || !will && (qos != 0 || retain) || qos == 3 => false,
                    Version::V3_1_1 => !lone_password,
                    Version::V5 => true,
                };
                let want = if !legal {
                    Err(Malformed::ConnectFlags(flags).into())
                } else {
                    Ok(if will { qos } else { 0 })
                };
                let got = check_flags(version, flags).map(|qos| qos as u8);
                assert_eq!(got, want, "{flags:#010b} in {version}");
            }
        }
    }

    /// MQTT 3.1, 3.1: the remaining length counts for more than the flag.
    #[test]
    fn a_user_name_may_be_missing_in_3_1() {
        let bytes = b"\x10\x0f\0\x06MQIsdp\x03\xc2\0\x3c\0\x01c";
        let connect = Connect { version: Version::V3_1, ..PLAIN };
        assert_eq!(decode_whole(Version::V3_1, bytes), Ok(Packet::Connect(connect)));
        let bytes = b"\x10\x12\0\x06MQIsdp\x03\xc2\0\x3c\0\x01c\0\x01u";
        let connect = Connect { username: Some("u"), ..connect };
        assert_eq!(decode_whole(Version::V3_1, bytes), Ok(Packet::Connect(connect)));
        let bytes = b"\x10\x0d\0\x04MQTT\x04\xc2\0\x3c\0\x01c";
        let want = Malformed::Truncated(Field::UserName);
        assert_eq!(decode_whole(Version::V3_1, bytes), Err(want.into()));
    }

    /// [MQTT-3.1.2-2].
    #[test]
    fn a_level_belongs_to_its_name() {
        let check = |name: &[u8], level: u8, want: Result<Version, Error>| {
            let mut bytes = Vec::new();
            put_str(&mut bytes, name);
            bytes.push(level);
            assert_eq!(decode_version(&mut Reader::new(&bytes)), want);
        };
        for level in 0..=u8::MAX {
            let unsupported = Err(Error::UnsupportedVersion { level });
            check(NAME_V3_1, level, if level == 3 { Ok(Version::V3_1) } else { unsupported });
            let known = match level {
                4 => Ok(Version::V3_1_1),
                5 => Ok(Version::V5),
                _ => unsupported,
            };
            check(NAME, level, known);
            check(b"mqtt", level, Err(Malformed::ProtocolName.into()));
            check(b"", level, Err(Malformed::ProtocolName.into()));
        }
    }
}
