//! DISCONNECT, the last packet of a connection (MQTT 5.0, 3.14).

use crate::error::Error;
use crate::packet::{PacketType, Version, decode_reason, encode_reason};
use crate::property::{Carrier, Properties};
use crate::reason::ReasonCode;
use crate::wire::Reader;

/// Why the sender is about to close (MQTT 5.0, 3.14). Before 5.0 only a client sends it, without a
/// reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnect<'a> {
    /// The reason; [`ReasonCode::Success`] is the normal end, which discards the will.
    pub reason: ReasonCode,
    /// Properties, validated for [`Carrier::Disconnect`].
    pub properties: Properties<'a>,
}

impl<'a> Disconnect<'a> {
    pub(super) fn decode(version: Version, input: &mut Reader<'a>) -> Result<Self, Error> {
        if version < Version::V5 {
            return Ok(Self { reason: ReasonCode::Success, properties: Properties::none() });
        }
        let (reason, properties) =
            decode_reason(PacketType::Disconnect, Carrier::Disconnect, input)?;
        Ok(Self { reason, properties })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        if version == Version::V5 {
            debug_assert!(self.reason.belongs_in(PacketType::Disconnect), "{}", self.reason);
            encode_reason(self.reason, &self.properties, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Packet;
    use crate::packet::tests::{check, check_encode, decode_whole};

    fn disconnect(reason: ReasonCode, properties: &[u8]) -> Packet<'_> {
        Packet::Disconnect(Disconnect { reason, properties: Properties::from_raw(properties) })
    }

    /// MQTT 5.0, 3.14.2.1 and 3.14.2.2.1.
    #[test]
    fn a_disconnect_leaves_out_what_goes_without_saying() {
        let normal = disconnect(ReasonCode::Success, b"");
        for version in Version::ALL {
            check(version, normal, b"\xe0\0");
        }
        check(Version::V5, disconnect(ReasonCode::DisconnectWithWill, b""), b"\xe0\x01\x04");
        let expiry = b"\x11\0\0\0\x3c";
        check(
            Version::V5,
            disconnect(ReasonCode::Success, expiry),
            b"\xe0\x07\0\x05\x11\0\0\0\x3c",
        );
        assert_eq!(decode_whole(Version::V5, b"\xe0\x01\0"), Ok(normal));
        assert_eq!(decode_whole(Version::V5, b"\xe0\x02\0\0"), Ok(normal));
        check_encode(Version::V3_1_1, disconnect(ReasonCode::Banned, expiry), b"\xe0\0");
    }
}
