//! What the broker says: every packet decoded, legal, within the bounds of its receiver.

use std::fmt;

use longshore_codec::{
    Ack, Carrier, Connack, Packet, PacketType, Property, Publish, QoS, Version, decode, frame,
    topic,
};

use super::answer::Answer;
use super::book::{Connection, serial};

/// A packet from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Publish(Box<HeardPublish>),
    Answer(Answer),
}

/// A PUBLISH from the broker, its alias resolved.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct HeardPublish {
    pub(crate) dup: bool,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) id: Option<u16>,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    /// Sorted.
    pub(crate) identifiers: Vec<u32>,
    pub(crate) expiry_secs: Option<u32>,
    /// The other properties but the alias, as bytes.
    pub(crate) properties: Vec<u8>,
}

/// Takes the bytes apart that the broker has added to a connection's output.
pub(crate) fn hear(connection: &mut Connection, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let found = frame(bytes, usize::MAX).expect("the broker writes legal packets");
        let found = found.expect("the broker writes whole packets");
        assert!(found.total() <= bytes.len(), "the broker writes whole packets");
        assert!(found.is_minimal(), "[MQTT-1.5.5-1] the length is in its shortest form");
        let (packet, rest) = bytes.split_at(found.total());
        bytes = rest;
        assert!(
            packet.len() <= connection.packet_max,
            "[MQTT-3.1.2-24] {} of {} bytes for a client that takes {}",
            found.packet_type(),
            packet.len(),
            connection.packet_max,
        );
        let decoded = decode(connection.version, found.first, &packet[found.header..])
            .unwrap_or_else(|error| panic!("the broker sends {packet:02x?}: {error}"));
        let heard = understand(connection, &decoded);
        connection.heard.push_back(heard);
    }
}

fn understand(connection: &mut Connection, packet: &Packet<'_>) -> Heard {
    let ack = |make: fn(u16, _) -> Answer, ack: &Ack<'_>| {
        Heard::Answer(make(ack.packet_id.get(), ack.reason))
    };
    let kind = packet.packet_type();
    let is_first = kind == PacketType::Connack;
    assert_eq!(is_first, !connection.is_accepted, "[MQTT-3.2.0-1] CONNACK, once and first: {kind}");
    match packet {
        Packet::Publish(publish) => {
            Heard::Publish(Box::new(understand_publish(connection, publish)))
        }
        Packet::Connack(connack) => Heard::Answer(understand_connack(connection, connack)),
        Packet::Puback(puback) => ack(Answer::Puback, puback),
        Packet::Pubrec(pubrec) => ack(Answer::Pubrec, pubrec),
        Packet::Pubrel(pubrel) => ack(Answer::Pubrel, pubrel),
        Packet::Pubcomp(pubcomp) => ack(Answer::Pubcomp, pubcomp),
        Packet::Suback(suback) => {
            Heard::Answer(Answer::Suback(suback.packet_id.get(), suback.codes.to_vec()))
        }
        Packet::Unsuback(unsuback) => {
            Heard::Answer(Answer::Unsuback(unsuback.packet_id.get(), unsuback.codes.to_vec()))
        }
        Packet::Pingresp => Heard::Answer(Answer::Pingresp),
        Packet::Disconnect(disconnect) => {
            assert!(connection.is_v5(), "before 5.0 a server sends no DISCONNECT");
            let properties = disconnect.properties;
            assert_eq!(properties.session_expiry_interval(), None, "[MQTT-3.14.2-2]");
            Heard::Answer(Answer::Disconnect(disconnect.reason))
        }
        _ => panic!("a server never sends {kind}"),
    }
}

fn understand_connack(connection: &mut Connection, connack: &Connack<'_>) -> Answer {
    connection.is_accepted = true;
    connection.assigned = connack.properties.assigned_client_identifier().map(str::to_owned);
    connection.told_expiry_secs = connack.properties.session_expiry_interval();
    connection.told_keep_alive_secs = connack.properties.server_keep_alive();
    Answer::Connack { session_present: connack.session_present, reason: connack.reason }
}

fn understand_publish(connection: &mut Connection, publish: &Publish<'_>) -> HeardPublish {
    publish.properties.validate(Carrier::Publish).expect("the properties are legal");
    let mut heard = HeardPublish {
        dup: publish.dup,
        qos: publish.qos,
        retain: publish.retain,
        id: publish.packet_id.map(Into::into),
        topic: String::new(),
        payload: publish.payload.to_vec(),
        identifiers: Vec::new(),
        expiry_secs: None,
        properties: Vec::new(),
    };
    let mut alias = None;
    let mut properties = publish.properties.iter();
    while let Some(next) = properties.next_raw() {
        let (property, raw) = next.expect("the properties are legal");
        match property {
            Property::TopicAlias(number) => alias = Some(number),
            Property::SubscriptionIdentifier(id) => heard.identifiers.push(id),
            Property::MessageExpiryInterval(secs) => heard.expiry_secs = Some(secs),
            _ => heard.properties.extend_from_slice(raw),
        }
    }
    heard.identifiers.sort_unstable();
    heard.topic = resolve(connection, publish.topic, alias);
    assert!(publish.properties.is_empty() || connection.version == Version::V5);
    heard
}

/// The topic name, after the alias has been learnt or looked up.
fn resolve(connection: &mut Connection, name: &[u8], alias: Option<u16>) -> String {
    let Some(alias) = alias else {
        return topic::validate(name).expect("the topic name is legal").to_owned();
    };
    assert!(alias > 0, "[MQTT-3.3.2-8] an alias of 0");
    assert!(
        alias <= connection.alias_max,
        "[MQTT-3.1.2-26] [MQTT-3.1.2-27] alias {alias} for a client that takes {}",
        connection.alias_max,
    );
    if name.is_empty() {
        return connection.aliases_out.get(&alias).expect("the alias has been set").clone();
    }
    let name = topic::validate(name).expect("the topic name is legal").to_owned();
    connection.aliases_out.insert(alias, name.clone());
    name
}

impl fmt::Debug for HeardPublish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dup, qos, retain, id, topic, payload, .. } = self;
        let serial = serial(payload);
        let (qos, dup) = (*qos as u8, if *dup { " again" } else { "" });
        let retain = if *retain { ", retained" } else { "" };
        write!(f, "PUBLISH{dup} {serial} to {topic} at {qos}{retain}")?;
        let Self { identifiers, expiry_secs, properties, .. } = self;
        let properties = properties.len();
        write!(f, " by {id:?} for {identifiers:?}, {expiry_secs:?}, {properties} B properties")
    }
}

impl Heard {
    /// In few words, for the trace.
    pub(crate) fn summary(&self) -> String {
        match self {
            Self::Answer(answer) => format!("{answer:?}"),
            Self::Publish(publish) => format!("{publish:?}"),
        }
    }
}
