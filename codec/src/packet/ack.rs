//! PUBACK, PUBREC, PUBREL and PUBCOMP: one shape, four meanings (MQTT 5.0, 3.4 to 3.7).

use crate::error::Error;
use crate::packet::{PacketId, PacketType, Version, decode_reason, encode_reason};
use crate::property::{Carrier, Properties};
use crate::reason::ReasonCode;
use crate::wire::{Reader, put_u16};

/// A step in the handshake of a QoS 1 or 2 message (MQTT 5.0, 3.4 to 3.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The identifier of the PUBLISH.
    pub packet_id: PacketId,
    /// How it went; one that this packet may carry. [`ReasonCode::Success`] before 5.0.
    pub reason: ReasonCode,
    /// Properties, validated for the packet.
    pub properties: Properties<'a>,
}

impl<'a> Ack<'a> {
    /// A success without properties.
    pub const fn success(packet_id: PacketId) -> Self {
        Self { packet_id, reason: ReasonCode::Success, properties: Properties::none() }
    }

    pub(super) fn decode(
        version: Version,
        packet: PacketType,
        input: &mut Reader<'a>,
    ) -> Result<Self, Error> {
        let packet_id = input.packet_id()?;
        if version < Version::V5 {
            return Ok(Self::success(packet_id));
        }
        let carrier = match packet {
            PacketType::Puback => Carrier::Puback,
            PacketType::Pubrec => Carrier::Pubrec,
            PacketType::Pubrel => Carrier::Pubrel,
            _ => Carrier::Pubcomp,
        };
        let (reason, properties) = decode_reason(packet, carrier, input)?;
        Ok(Self { packet_id, reason, properties })
    }

    pub(super) fn encode(&self, version: Version, out: &mut Vec<u8>) {
        put_u16(out, self.packet_id.get());
        if version == Version::V5 {
            encode_reason(self.reason, &self.properties, out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Packet;
    use crate::packet::tests::{check, check_encode, decode_whole, id};

    type Make = fn(Ack<'_>) -> Packet<'_>;
    const ACKS: [(u8, Make, ReasonCode); 4] = [
        (0x40, |ack| Packet::Puback(ack), ReasonCode::QuotaExceeded),
        (0x50, |ack| Packet::Pubrec(ack), ReasonCode::NoMatchingSubscribers),
        (0x62, |ack| Packet::Pubrel(ack), ReasonCode::PacketIdentifierNotFound),
        (0x70, |ack| Packet::Pubcomp(ack), ReasonCode::PacketIdentifierNotFound),
    ];

    /// MQTT 5.0, 3.4.2.1, 3.5.2.1, 3.6.2.1 and 3.7.2.1.
    #[test]
    fn an_acknowledgement_leaves_out_what_goes_without_saying() {
        for (first, make, reason) in ACKS {
            let success = Ack::success(id(0x0102));
            for version in Version::ALL {
                check(version, make(success), &[first, 2, 1, 2]);
            }
            let failure = Ack { reason, ..success };
            check(Version::V5, make(failure), &[first, 3, 1, 2, reason.value()]);
            let properties = Properties::from_raw(b"\x1f\0\x01x");
            let words = [4, 0x1f, 0, 1, b'x'];
            let bytes = [&[first, 8, 1, 2, reason.value()], &words[..]].concat();
            check(Version::V5, make(Ack { properties, ..failure }), &bytes);
            let bytes = [&[first, 8, 1, 2, 0], &words[..]].concat();
            check(Version::V5, make(Ack { properties, ..success }), &bytes);
            check_encode(Version::V3_1_1, make(Ack { properties, ..failure }), &[first, 2, 1, 2]);
        }
    }

    #[test]
    fn a_longer_form_than_need_be_is_accepted() {
        for (first, make, reason) in ACKS {
            let success = Ack::success(id(1));
            assert_eq!(decode_whole(Version::V5, &[first, 3, 0, 1, 0]), Ok(make(success)));
            assert_eq!(decode_whole(Version::V5, &[first, 4, 0, 1, 0, 0]), Ok(make(success)));
            let bytes = [first, 4, 0, 1, reason.value(), 0];
            assert_eq!(decode_whole(Version::V5, &bytes), Ok(make(Ack { reason, ..success })));
        }
    }
}
