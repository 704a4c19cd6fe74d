//! AUTH, a step of extended authentication (MQTT 5.0, 3.15 and 4.12).

use crate::error::{Error, Offence};
use crate::packet::{PacketType, decode_reason, encode_reason};
use crate::property::{Carrier, Properties};
use crate::reason::ReasonCode;
use crate::wire::Reader;

/// A step of extended authentication (MQTT 5.0, 3.15). There is none before 5.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Auth<'a> {
    /// Success, continue or start again [MQTT-3.15.2-1].
    pub reason: ReasonCode,
    /// Properties, validated for [`Carrier::Auth`]. They name the method, unless the packet is
    /// empty.
    pub properties: Properties<'a>,
}

impl<'a> Auth<'a> {
    /// An empty body is a success without properties. Whatever else there is needs a method.
    pub(super) fn decode(input: &mut Reader<'a>) -> Result<Self, Error> {
        let empty = input.is_empty();
        let (reason, properties) = decode_reason(PacketType::Auth, Carrier::Auth, input)?;
        if !empty && properties.authentication_method().is_none() {
            return Err(Offence::AuthWithoutMethod.into());
        }
        Ok(Self { reason, properties })
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        debug_assert!(self.reason.belongs_in(PacketType::Auth), "{}", self.reason);
        encode_reason(self.reason, &self.properties, out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::{check, decode_whole};
    use crate::packet::{Packet, Version};

    /// [MQTT-3.15.2-1]; MQTT 5.0, 3.15.2.2.2.
    #[test]
    fn an_auth_names_its_method_unless_it_is_empty() {
        let auth = |reason, properties| {
            Packet::Auth(Auth { reason, properties: Properties::from_raw(properties) })
        };
        check(Version::V5, auth(ReasonCode::Success, b""), b"\xf0\0");
        let method = b"\x15\0\x01m\x16\0\x01d";
        let bytes = b"\xf0\x0a\x18\x08\x15\0\x01m\x16\0\x01d";
        check(Version::V5, auth(ReasonCode::ContinueAuthentication, method), bytes);
        for bytes in [&b"\xf0\x01\x18"[..], b"\xf0\x02\x18\0", b"\xf0\x06\x18\x04\x1f\0\x01x"] {
            let want = Offence::AuthWithoutMethod;
            assert_eq!(decode_whole(Version::V5, bytes), Err(want.into()));
        }
    }
}
