//! PUBLISH, a message (MQTT 5.0, 3.3). Decoding and encoding it is the hot path of a broker.

use crate::error::{Error, Field, Malformed, Offence};
use crate::packet::{PacketId, PacketType, QoS, Version};
use crate::property::Properties;
use crate::wire::{Reader, VARINT_MAX, put_varint, varint_len};

/// A message on its way (MQTT 5.0, 3.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Whether this may be a repetition; never at QoS 0 [MQTT-3.3.1-2].
    pub dup: bool,
    /// How hard delivery is tried.
    pub qos: QoS,
    /// To a server: whether to keep the message. To a client: whether it was kept.
    pub retain: bool,
    /// Topic name, **not validated** by the decoder (see
    /// [`topic::validate`](crate::topic::validate)): a receiver that has seen the same bytes before
    /// need not look again. Empty only in 5.0, where it calls for a topic alias; that is for the
    /// receiver to check.
    pub topic: &'a [u8],
    /// Present exactly at QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    /// Properties, **not validated** by the decoder: see [`Properties::validate`].
    pub properties: Properties<'a>,
    /// Content of the message.
    pub payload: &'a [u8],
}

/// DUP in the first byte (MQTT 5.0, 3.3.1.1).
const DUP: u8 = 0b1000;
/// RETAIN in the first byte (MQTT 5.0, 3.3.1.3).
const RETAIN: u8 = 0b0001;

/// Decodes one PUBLISH; the short way past [`decode`](crate::decode).
///
/// Of `first` only the flags are looked at, and `body` is exactly what follows the fixed header.
/// Everything is checked but the topic name and the content of the properties, which are left to
/// the caller. Fails with [`Malformed::FixedHeaderFlags`] for QoS 3 [MQTT-3.3.1-4],
/// [`Malformed::Truncated`], [`Malformed::Varint`] for the property length, and with
/// [`Offence::DupOnQoS0`], [`Offence::PacketIdZero`], or before 5.0 [`Offence::EmptyTopic`].
#[inline]
pub fn decode_publish<'a>(
    version: Version,
    first: u8,
    body: &'a [u8],
) -> Result<Publish<'a>, Error> {
    debug_assert_eq!(first >> 4, PacketType::Publish as u8, "not a PUBLISH");
    let qos = QoS::from_bits(first >> 1).ok_or(Malformed::FixedHeaderFlags(first))?;
    let dup = first & DUP != 0;
    if dup && qos == QoS::AtMostOnce {
        return Err(Offence::DupOnQoS0.into());
    }
    let mut input = Reader::new(body);
    let topic = input.bytes(Field::Topic)?;
    let packet_id = if qos == QoS::AtMostOnce { None } else { Some(input.packet_id()?) };
    let properties = if version == Version::V5 {
        Properties::from_raw(input.block(Field::Properties)?)
    } else if topic.is_empty() {
        return Err(Offence::EmptyTopic.into());
    } else {
        Properties::none()
    };
    let retain = first & RETAIN != 0;
    Ok(Publish { dup, qos, retain, topic, packet_id, properties, payload: input.rest() })
}

/// Appends one PUBLISH; the short way past [`encode`](crate::encode), with the same bounds.
///
/// Room for the whole packet is reserved once.
#[inline]
pub fn encode_publish(version: Version, publish: &Publish<'_>, out: &mut Vec<u8>) {
    let Publish { dup, qos, retain, topic, packet_id, properties, payload } = *publish;
    debug_assert_eq!(qos != QoS::AtMostOnce, packet_id.is_some(), "packet identifier and QoS");
    debug_assert!(!dup || qos != QoS::AtMostOnce, "DUP at QoS 0");
    debug_assert!(topic.len() <= usize::from(u16::MAX), "{} bytes in a topic", topic.len());
    let block = properties.raw();
    let block_len =
        if version == Version::V5 { varint_len(block.len() as u32) + block.len() } else { 0 };
    let id_len = if packet_id.is_some() { 2 } else { 0 };
    let remaining = 2 + topic.len() + id_len + block_len + payload.len();
    debug_assert!(remaining <= VARINT_MAX as usize, "{remaining} bytes in one packet");

    out.reserve(5 + remaining);
    let flags = (qos as u8) << 1 | if dup { DUP } else { 0 } | if retain { RETAIN } else { 0 };
    out.push(PacketType::Publish.first_byte() | flags);
    put_varint(out, remaining as u32);
    out.extend_from_slice(&(topic.len() as u16).to_be_bytes());
    out.extend_from_slice(topic);
    if let Some(id) = packet_id {
        out.extend_from_slice(&id.get().to_be_bytes());
    }
    if version == Version::V5 {
        put_varint(out, block.len() as u32);
        out.extend_from_slice(block);
    }
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Packet;
    use crate::packet::tests::{check, id};

    const PLAIN: Publish<'_> = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: b"a/b",
        packet_id: None,
        properties: Properties::none(),
        payload: b"hi",
    };

    /// [MQTT-2.2.1-2], [MQTT-3.3.2-1]; MQTT 5.0, figure 3-9.
    #[test]
    fn a_publish_is_topic_identifier_properties_and_payload() {
        let v5 = |publish| (Version::V5, publish);
        let v4 = |publish| (Version::V3_1_1, publish);
        let once = Publish { qos: QoS::AtLeastOnce, packet_id: Some(id(10)), ..PLAIN };
        let exactly = Publish { qos: QoS::ExactlyOnce, ..once };
        let alias = Properties::from_raw(b"\x23\0\x07");
        let rows: [((Version, Publish<'_>), &[u8]); 9] = [
            (v4(PLAIN), b"\x30\x07\0\x03a/bhi"),
            (v5(PLAIN), b"\x30\x08\0\x03a/b\0hi"),
            (v4(Publish { retain: true, payload: b"", ..PLAIN }), b"\x31\x05\0\x03a/b"),
            (v4(once), b"\x32\x09\0\x03a/b\0\x0ahi"),
            (v5(once), b"\x32\x0a\0\x03a/b\0\x0a\0hi"),
            (v5(Publish { dup: true, ..exactly }), b"\x3c\x0a\0\x03a/b\0\x0a\0hi"),
            (v5(Publish { dup: true, retain: true, ..once }), b"\x3b\x0a\0\x03a/b\0\x0a\0hi"),
            (
                v5(Publish { properties: alias, ..exactly }),
                b"\x34\x0d\0\x03a/b\0\x0a\x03\x23\0\x07hi",
            ),
            (
                v5(Publish { properties: alias, topic: b"", ..PLAIN }),
                b"\x30\x08\0\0\x03\x23\0\x07hi",
            ),
        ];
        for ((version, publish), bytes) in rows {
            check(version, Packet::Publish(publish), bytes);
        }
    }

    #[test]
    fn the_older_versions_agree_on_publish() {
        let bytes = b"\x35\x09\0\x03a/b\0\x0ahi";
        let packet_id = Some(id(10));
        let publish = Publish { qos: QoS::ExactlyOnce, retain: true, packet_id, ..PLAIN };
        check(Version::V3_1, Packet::Publish(publish), bytes);
        check(Version::V3_1_1, Packet::Publish(publish), bytes);
    }

    /// [MQTT-2.2.1-3], [MQTT-3.3.1-2], [MQTT-3.3.1-4], [MQTT-4.7.3-1].
    #[test]
    fn a_publish_that_breaks_a_rule_is_refused() {
        let check = |version: Version, first: u8, body: &[u8], want: Error| {
            assert_eq!(decode_publish(version, first, body), Err(want), "{first:#04x} {body:02x?}");
        };
        let truncated = |field| Error::from(Malformed::Truncated(field));
        for version in Version::ALL {
            check(version, 0x36, b"\0\x01a\0\x01\0", Malformed::FixedHeaderFlags(0x36).into());
            check(version, 0x3f, b"\0\x01a\0\x01\0", Malformed::FixedHeaderFlags(0x3f).into());
            check(version, 0x38, b"\0\x01a\0", Offence::DupOnQoS0.into());
            check(version, 0x39, b"\0\x01a\0", Offence::DupOnQoS0.into());
            check(version, 0x32, b"\0\x01a\0\0\0", Offence::PacketIdZero.into());
            check(version, 0x34, b"\0\x01a\0", truncated(Field::PacketId));
            check(version, 0x30, b"", truncated(Field::Topic));
            check(version, 0x30, b"\0", truncated(Field::Topic));
            check(version, 0x30, b"\0\x02a", truncated(Field::Topic));
        }
        check(Version::V3_1, 0x30, b"\0\0x", Offence::EmptyTopic.into());
        check(Version::V3_1_1, 0x30, b"\0\0x", Offence::EmptyTopic.into());
        check(Version::V5, 0x30, b"\0\x01a", truncated(Field::Properties));
        check(Version::V5, 0x30, b"\0\x01a\x01", truncated(Field::Properties));
        check(Version::V5, 0x30, b"\0\x01a\x80\x00", Malformed::Varint(Field::Properties).into());
    }

    /// The receiver validates topic and properties, which it may have done before.
    #[test]
    fn topic_and_properties_are_left_to_the_receiver() {
        let publish = decode_publish(Version::V5, 0x30, b"\0\x02\xff+\x02\xee\xeex").unwrap();
        assert_eq!(publish.topic, b"\xff+");
        assert_eq!(publish.properties.raw(), b"\xee\xee");
        assert_eq!(publish.payload, b"x");
    }

    #[test]
    fn a_large_payload_is_encoded_with_one_reservation() {
        let payload = vec![7; 300_000];
        let publish = Publish { payload: &payload, ..PLAIN };
        let mut out = Vec::new();
        encode_publish(Version::V5, &publish, &mut out);
        assert!(out.capacity() <= 1 + 4 + 2 + 3 + 1 + payload.len());
        assert_eq!(decode_publish(Version::V5, out[0], &out[4..]), Ok(publish));
    }
}
