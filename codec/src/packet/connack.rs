//! CONNACK, the server's answer to CONNECT (MQTT 5.0, 3.2).

use crate::error::{Error, Field, Malformed, Offence};
use crate::packet::{PacketType, Version, decode_properties, encode_properties};
use crate::property::{Carrier, Properties};
use crate::reason::ReasonCode;
use crate::wire::Reader;

/// Whether the server takes the client, and on what terms (MQTT 5.0, 3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connack<'a> {
    /// Whether the server has kept a session; never in a refusal [MQTT-3.2.2-6], nor in MQTT 3.1.
    pub session_present: bool,
    /// Success or why not. Before 5.0 one of the six that have a return code
    /// (see [`ReasonCode::connect_return_code`]).
    pub reason: ReasonCode,
    /// Properties, validated for [`Carrier::Connack`].
    pub properties: Properties<'a>,
}

impl<'a> Connack<'a> {
    pub(super) fn decode(version: Version, input: &mut Reader<'a>) -> Result<Self, Error> {
        let flags = input.u8(Field::Flags)?;
        if flags > 1 || version == Version::V3_1 && flags != 0 {
            return Err(Malformed::ConnackFlags(flags).into());
        }
        let code = input.u8(Field::ReasonCode)?;
        let reason = if version == Version::V5 {
            ReasonCode::from_u8(code).filter(|reason| reason.belongs_in(PacketType::Connack))
        } else {
            ReasonCode::from_connect_return_code(code)
        }
        .ok_or(Offence::ReasonCode(PacketType::Connack, code))?;
        let session_present = flags == 1;
        if session_present && reason.is_error() {
            return Err(Offence::SessionOnRefusal.into());
        }
        let properties = decode_properties(version, Carrier::Connack, input)?;
        Ok(Self { session_present, reason, properties })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        debug_assert!(
            !(self.session_present && self.reason.is_error()),
            "a refusing CONNACK has no session"
        );
        out.push(u8::from(self.session_present && version > Version::V3_1));
        if version == Version::V5 {
            debug_assert!(self.reason.belongs_in(PacketType::Connack), "{}", self.reason);
            out.push(self.reason.value());
            encode_properties(version, &self.properties, out);
        } else {
            out.push(self.reason.connect_return_code());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Packet;
    use crate::packet::tests::{check, check_encode};

    fn connack(session_present: bool, reason: ReasonCode, properties: &[u8]) -> Packet<'_> {
        let properties = Properties::from_raw(properties);
        Packet::Connack(Connack { session_present, reason, properties })
    }

    #[test]
    fn a_connack_is_two_bytes_before_5_0() {
        for version in [Version::V3_1, Version::V3_1_1] {
            check(version, connack(false, ReasonCode::Success, b""), b"\x20\x02\0\0");
            check(version, connack(false, ReasonCode::NotAuthorized, b""), b"\x20\x02\0\x05");
        }
        check(Version::V3_1_1, connack(true, ReasonCode::Success, b""), b"\x20\x02\x01\0");
    }

    #[test]
    fn a_connack_of_5_0_has_properties() {
        check(Version::V5, connack(true, ReasonCode::Success, b""), b"\x20\x03\x01\0\0");
        let properties = b"\x21\0\x0a\x24\x01";
        let bytes = b"\x20\x08\0\x87\x05\x21\0\x0a\x24\x01";
        check(Version::V5, connack(false, ReasonCode::NotAuthorized, properties), bytes);
    }

    #[test]
    fn an_older_version_gets_what_it_can_hold() {
        let banned = connack(false, ReasonCode::Banned, b"\x1f\0\x01x");
        check_encode(Version::V3_1_1, banned, b"\x20\x02\0\x05");
        check_encode(Version::V3_1, connack(true, ReasonCode::Success, b""), b"\x20\x02\0\0");
    }
}
