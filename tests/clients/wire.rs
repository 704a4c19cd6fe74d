//! MQTT as bytes, for clients that count every packet or break every rule.

use longshore::codec::wire::{put_str, put_varint};
use longshore::codec::{
    self, Connect, Packet, PacketId, Properties, Property, Publish, QoS, Version, frame,
};

/// The first bytes of packets that only repeat a packet identifier.
pub(crate) mod first {
    pub(crate) const PUBACK: u8 = 0x40;
    pub(crate) const PUBREC: u8 = 0x50;
    pub(crate) const PUBREL: u8 = 0x62;
    pub(crate) const PUBCOMP: u8 = 0x70;
}

pub(crate) const DISCONNECT: [u8; 2] = [0xe0, 0];

/// No packet of these tests is as long.
const PACKET_BYTES_MAX: usize = 268_435_460;

/// CONNECT without keep alive, of a session that outlives its connection unless `clean`.
pub(crate) fn connect(version: Version, client_id: &str, clean: bool) -> Vec<u8> {
    let mut properties = Vec::new();
    if !clean && version == Version::V5 {
        Property::SessionExpiryInterval(3_600).append(&mut properties);
    }
    let connect = Connect {
        version,
        clean_start: clean,
        keep_alive: 0,
        client_id,
        will: None,
        username: None,
        password: None,
        properties: Properties::from_raw(&properties),
    };
    packet(version, &Packet::Connect(connect))
}

/// SUBSCRIBE for one filter.
pub(crate) fn subscribe(version: Version, id: u16, filter: &str, qos: u8) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    put_str(&mut body, filter.as_bytes());
    body.push(qos);
    let mut bytes = vec![0x82];
    put_varint(&mut bytes, u32::try_from(body.len()).expect("a short filter"));
    bytes.extend(body);
    bytes
}

/// PUBLISH; `id` counts at QoS 1 and 2 only.
pub(crate) fn publish(version: Version, topic: &str, qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let qos = QoS::try_from(qos).expect("0, 1 or 2");
    let publish = Publish {
        dup: false,
        qos,
        retain: false,
        topic: topic.as_bytes(),
        packet_id: if qos == QoS::AtMostOnce { None } else { PacketId::new(id) },
        properties: Properties::none(),
        payload,
    };
    packet(version, &Packet::Publish(publish))
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP, by its first byte.
pub(crate) fn ack(first: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    [first, 2, high, low]
}

/// The packet as bytes.
pub(crate) fn packet(version: Version, packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    codec::encode(version, packet, &mut bytes);
    bytes
}

/// What a client sees.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// CONNACK: its code, and whether a session was there.
    Connack(u8, bool),
    Suback,
    Puback(u16),
    Pubrec(u16),
    Pubrel(u16),
    Pubcomp(u16),
    Publish {
        qos: u8,
        id: u16,
        topic: String,
        payload: Vec<u8>,
    },
    /// DISCONNECT with its reason code.
    Disconnect(u8),
    Other,
}

/// Bytes that came in, and the packets in them.
pub(crate) struct Inbox {
    version: Version,
    bytes: Vec<u8>,
    /// Where the next packet begins.
    at: usize,
}

impl Inbox {
    pub(crate) fn new(version: Version) -> Self {
        Self { version, bytes: Vec::new(), at: 0 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next packet that is whole, and what a client sees of it.
    pub(crate) fn next(&mut self) -> Option<Seen> {
        Some(match self.packet()? {
            Packet::Connack(it) => Seen::Connack(it.reason.value(), it.session_present),
            Packet::Suback(_) => Seen::Suback,
            Packet::Puback(it) => Seen::Puback(it.packet_id.get()),
            Packet::Pubrec(it) => Seen::Pubrec(it.packet_id.get()),
            Packet::Pubrel(it) => Seen::Pubrel(it.packet_id.get()),
            Packet::Pubcomp(it) => Seen::Pubcomp(it.packet_id.get()),
            Packet::Publish(it) => Seen::Publish {
                qos: it.qos as u8,
                id: it.packet_id.map_or(0, PacketId::get),
                topic: String::from_utf8_lossy(it.topic).into_owned(),
                payload: it.payload.to_vec(),
            },
            Packet::Disconnect(it) => Seen::Disconnect(it.reason.value()),
            _ => Seen::Other,
        })
    }
    /// The next packet that is whole, with all that is in it.
    pub(crate) fn packet(&mut self) -> Option<Packet<'_>> {
        let rest = &self.bytes[self.at..];
        let found = frame(rest, PACKET_BYTES_MAX).expect("the broker sends packets")?;
        let body = rest.get(found.header..found.total())?;
        self.at += found.total();
        let packet = codec::decode(self.version, found.first, body);
        Some(packet.expect("the broker sends good packets"))
    }
}
