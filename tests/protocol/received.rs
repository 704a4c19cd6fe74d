//! What the broker sends, taken apart.

use super::wire::{Props, Reader, Version, kind};

/// A packet from the broker. One that a broker never sends, or that is not well formed, fails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Connack(Connack),
    Publish(Publish),
    Puback(Ack),
    Pubrec(Ack),
    Pubrel(Ack),
    Pubcomp(Ack),
    Suback(Codes),
    Unsuback(Codes),
    Pingresp,
    Disconnect(Disconnect),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connack {
    pub(crate) flags: u8,
    /// Reason code of MQTT 5, return code of MQTT 3.
    pub(crate) code: u8,
    pub(crate) props: Props,
}

impl Connack {
    pub(crate) fn session_present(&self) -> bool {
        self.flags & 1 == 1
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) dup: bool,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// The topic name, looked up where an alias stood for it.
    pub(crate) topic: String,
    /// Above QoS 0 only.
    pub(crate) packet_id: Option<u16>,
    pub(crate) props: Props,
    pub(crate) payload: Vec<u8>,
}

impl Publish {
    /// The payload of a test message.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("the tests publish text")
    }

    /// The packet identifier of a message above QoS 0.
    pub(crate) fn id(&self) -> u16 {
        self.packet_id.expect("a message above QoS 0")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) packet_id: u16,
    pub(crate) code: u8,
    pub(crate) props: Props,
}

/// SUBACK or UNSUBACK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Codes {
    pub(crate) packet_id: u16,
    pub(crate) codes: Vec<u8>,
    pub(crate) props: Props,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Disconnect {
    pub(crate) code: u8,
    pub(crate) props: Props,
}

/// The length of the packet at the start of `bytes`, when all of it is there.
pub(crate) fn whole(bytes: &[u8]) -> Option<usize> {
    let mut remaining = 0;
    for (at, byte) in bytes.iter().skip(1).take(4).enumerate() {
        remaining |= usize::from(byte & 0x7F) << (7 * at);
        if byte & 0x80 == 0 {
            let total = 2 + at + remaining;
            return (bytes.len() >= total).then_some(total);
        }
    }
    assert!(bytes.len() < 5, "the broker sent a remaining length of more than four bytes");
    None
}

/// Takes one whole packet apart.
pub(crate) fn parse(version: Version, bytes: &[u8]) -> Received {
    let mut reader = Reader(bytes);
    let first = reader.u8();
    let remaining = reader.varint() as usize;
    assert_eq!(remaining, reader.0.len(), "one packet");
    let (kind, flags) = (first & 0xF0, first & 0x0F);
    let reserved = if kind == kind::PUBREL { 0b0010 } else { 0 };
    assert!(
        kind == kind::PUBLISH || flags == reserved,
        "[MQTT-2.1.3-1] the broker sent the reserved bits {flags:#06b} in {first:#04x}"
    );
    let received = match kind {
        kind::CONNACK => Received::Connack(Connack {
            flags: reader.u8(),
            code: reader.u8(),
            props: props(version, &mut reader),
        }),
        kind::PUBLISH => Received::Publish(publish(version, flags, &mut reader)),
        kind::PUBACK => Received::Puback(ack(version, &mut reader)),
        kind::PUBREC => Received::Pubrec(ack(version, &mut reader)),
        kind::PUBREL => Received::Pubrel(ack(version, &mut reader)),
        kind::PUBCOMP => Received::Pubcomp(ack(version, &mut reader)),
        kind::SUBACK => Received::Suback(codes(version, &mut reader)),
        kind::UNSUBACK => Received::Unsuback(codes(version, &mut reader)),
        kind::PINGRESP => Received::Pingresp,
        kind::DISCONNECT => {
            assert_eq!(version, Version::V5, "a server of MQTT 3 sends no DISCONNECT");
            let code = if reader.0.is_empty() { 0 } else { reader.u8() };
            let props = if reader.0.is_empty() { Props::default() } else { reader.props() };
            Received::Disconnect(Disconnect { code, props })
        }
        _ => panic!("no server sends a packet that starts with {first:#04x}"),
    };
    assert!(reader.0.is_empty(), "{} bytes are left behind {received:?}", reader.0.len());
    received
}

fn props(version: Version, reader: &mut Reader<'_>) -> Props {
    if version == Version::V5 { reader.props() } else { Props::default() }
}

fn publish(version: Version, flags: u8, reader: &mut Reader<'_>) -> Publish {
    let qos = flags >> 1 & 3;
    Publish {
        dup: flags & 0b1000 != 0,
        qos,
        retain: flags & 1 != 0,
        topic: reader.text(),
        packet_id: (qos > 0).then(|| reader.u16()),
        props: props(version, reader),
        payload: reader.rest().to_vec(),
    }
}

fn ack(version: Version, reader: &mut Reader<'_>) -> Ack {
    let packet_id = reader.u16();
    let long = version == Version::V5;
    let code = if long && !reader.0.is_empty() { reader.u8() } else { 0 };
    let props = if long && !reader.0.is_empty() { reader.props() } else { Props::default() };
    Ack { packet_id, code, props }
}

fn codes(version: Version, reader: &mut Reader<'_>) -> Codes {
    let packet_id = reader.u16();
    let props = props(version, reader);
    Codes { packet_id, codes: reader.rest().to_vec(), props }
}
