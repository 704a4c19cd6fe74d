//! Rules that hold for every packet the broker ever sends: each connection of each test is watched
//! for them. The tests that cite them only bring the broker into temptation.

use std::collections::{BTreeMap, BTreeSet};

use super::packets::{Ack, Connect};
use super::received::{Connack, Publish, Received};
use super::wire::{Props, Value, Version, kind, prop};

/// What one connection has told the broker and has heard from it.
#[derive(Debug)]
pub(crate) struct Watch {
    pub(crate) version: Version,
    /// A CONNACK came.
    answered: bool,
    /// It accepted.
    accepted: bool,
    /// It refused, or a DISCONNECT came: nothing may follow.
    ended: bool,
    packet_bytes_max: usize,
    alias_max: u16,
    aliases: BTreeMap<u16, String>,
    receive_max: usize,
    /// Identifiers the broker has taken for its messages.
    taken: BTreeSet<u16>,
    /// Of those, the ones which count against the receive maximum.
    unacknowledged: BTreeSet<u16>,
    problem_information: bool,
    response_information: bool,
    authentication: bool,
}

impl Watch {
    pub(crate) fn new(version: Version) -> Self {
        Self {
            version,
            answered: false,
            accepted: false,
            ended: false,
            packet_bytes_max: usize::MAX,
            alias_max: 0,
            aliases: BTreeMap::new(),
            receive_max: 65_535,
            taken: BTreeSet::new(),
            unacknowledged: BTreeSet::new(),
            problem_information: true,
            response_information: false,
            authentication: false,
        }
    }

    /// The client sends CONNECT.
    pub(crate) fn connecting(&mut self, connect: &Connect) {
        if self.answered {
            return;
        }
        self.version = connect.version;
        let number = |id| connect.props.number(id);
        self.packet_bytes_max =
            number(prop::MAXIMUM_PACKET_SIZE).map_or(usize::MAX, |n| n as usize);
        self.alias_max = number(prop::TOPIC_ALIAS_MAXIMUM)
            .map_or(0, |n| u16::try_from(n).expect("two bytes on the wire"));
        self.receive_max = number(prop::RECEIVE_MAXIMUM).map_or(65_535, |n| n as usize);
        self.problem_information = number(prop::REQUEST_PROBLEM_INFORMATION) != Some(0);
        self.response_information = number(prop::REQUEST_RESPONSE_INFORMATION) == Some(1);
        self.authentication = connect.props.has(prop::AUTHENTICATION_METHOD);
    }

    /// The client sends an acknowledgement.
    pub(crate) fn acknowledging(&mut self, ack: &Ack) {
        let ends = match ack.first & 0xF0 {
            kind::PUBACK | kind::PUBCOMP => true,
            kind::PUBREC => ack.code >= 0x80,
            _ => false,
        };
        if ends {
            self.taken.remove(&ack.packet_id);
            self.unacknowledged.remove(&ack.packet_id);
        }
    }

    /// The broker sent `received` in `bytes` bytes.
    pub(crate) fn check(&mut self, received: &mut Received, bytes: usize) {
        assert!(!self.ended, "[MQTT-3.14.4-1] {received:?} came after the end");
        assert!(
            bytes <= self.packet_bytes_max,
            "[MQTT-3.1.2-24] {bytes} bytes, {} allowed: {received:?}",
            self.packet_bytes_max
        );
        match received {
            Received::Connack(connack) => self.check_connack(connack),
            Received::Publish(publish) => self.check_publish(publish),
            _ => {}
        }
        let received = &*received;
        let (codes, props) = contents(received);
        let (codes_allowed, props_allowed) = allowed(self.version, received);
        for code in codes {
            assert!(codes_allowed.contains(&code), "code {code:#04x} in {received:?}");
        }
        check_props(props, props_allowed, received);
        let answer = matches!(
            received,
            Received::Connack(_) | Received::Publish(_) | Received::Disconnect(_)
        );
        let chatter = props.has(prop::REASON_STRING) || props.has(prop::USER_PROPERTY);
        assert!(
            answer || self.problem_information || !chatter,
            "[MQTT-3.1.2-29] not asked for: {received:?}"
        );
        self.progress(received);
    }

    fn check_connack(&self, connack: &Connack) {
        assert!(!self.answered, "[MQTT-3.2.0-2] a second CONNACK: {connack:?}");
        assert!(connack.flags <= 1, "[MQTT-3.2.2-1] reserved flags: {connack:?}");
        let clean = connack.code == 0 || !connack.session_present();
        assert!(clean, "[MQTT-3.2.2-6] session present in a refusal: {connack:?}");
        let asked = self.response_information || !connack.props.has(prop::RESPONSE_INFORMATION);
        assert!(asked, "[MQTT-3.1.2-28] not asked for: {connack:?}");
        let method = connack.props.has(prop::AUTHENTICATION_METHOD);
        assert!(self.authentication || !method, "[MQTT-4.12.0-6] not asked for: {connack:?}");
    }

    fn check_publish(&mut self, publish: &mut Publish) {
        assert!(publish.qos < 3, "[MQTT-3.3.1-4] QoS 3: {publish:?}");
        assert!(publish.qos > 0 || !publish.dup, "[MQTT-3.3.1-2] DUP at QoS 0: {publish:?}");
        if let Some(id) = publish.packet_id {
            assert_ne!(id, 0, "[MQTT-2.2.1-4] identifier 0: {publish:?}");
            let free = self.taken.insert(id);
            assert!(free, "[MQTT-2.2.1-4] the identifier is in use: {publish:?}");
            self.unacknowledged.insert(id);
            let count = self.unacknowledged.len();
            assert!(count <= self.receive_max, "[MQTT-3.3.4-9] {count} in flight: {publish:?}");
        }
        if let Some(alias) = publish.props.number(prop::TOPIC_ALIAS) {
            let alias = u16::try_from(alias).expect("two bytes on the wire");
            assert_ne!(alias, 0, "[MQTT-3.3.2-8] alias 0: {publish:?}");
            assert!(alias <= self.alias_max, "[MQTT-3.1.2-26] alias too high: {publish:?}");
            if publish.topic.is_empty() {
                let topic = self.aliases.get(&alias);
                publish.topic = topic.expect("an alias the broker has set").clone();
            } else {
                self.aliases.insert(alias, publish.topic.clone());
            }
        }
        let topic = &publish.topic;
        assert!(!topic.is_empty(), "[MQTT-4.7.3-1] no topic name: {publish:?}");
        assert!(!topic.contains(['+', '#']), "[MQTT-3.3.2-2] a wildcard: {publish:?}");
    }

    fn progress(&mut self, received: &Received) {
        match received {
            Received::Connack(connack) => {
                self.answered = true;
                self.accepted = connack.code == 0;
                self.ended = !self.accepted;
            }
            _ => assert!(self.accepted, "[MQTT-3.2.0-1] {received:?} before CONNACK"),
        }
        match received {
            Received::Pubrel(ack) => {
                self.taken.insert(ack.packet_id);
            }
            Received::Disconnect(_) => self.ended = true,
            _ => {}
        }
    }

    /// Whether the last word was said, so that the broker has to close.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }
}

/// The codes and properties of a packet.
fn contents(received: &Received) -> (Vec<u8>, &Props) {
    const NONE: &Props = &Props(Vec::new());
    match received {
        Received::Connack(connack) => (vec![connack.code], &connack.props),
        Received::Publish(publish) => (vec![], &publish.props),
        Received::Puback(ack)
        | Received::Pubrec(ack)
        | Received::Pubrel(ack)
        | Received::Pubcomp(ack) => (vec![ack.code], &ack.props),
        Received::Suback(codes) | Received::Unsuback(codes) => (codes.codes.clone(), &codes.props),
        Received::Pingresp => (vec![], NONE),
        Received::Disconnect(disconnect) => (vec![disconnect.code], &disconnect.props),
    }
}

fn check_props(props: &Props, allowed: &[u8], received: &Received) {
    let mut seen = BTreeSet::new();
    for (id, value) in &props.0 {
        assert!(allowed.contains(id), "property {id:#04x} does not belong here: {received:?}");
        let many = [prop::USER_PROPERTY, prop::SUBSCRIPTION_IDENTIFIER].contains(id);
        assert!(seen.insert(id) || many, "property {id:#04x} comes twice: {received:?}");
        let zero = matches!(value, Value::Variable(0));
        assert!(!zero, "a subscription identifier of 0: {received:?}");
    }
}

const CONNACK_V5: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97,
    0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9F,
];
const CONNACK_V3: &[u8] = &[0, 1, 2, 3, 4, 5];
const CONNACK_PROPS: &[u8] = &[
    0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29,
    0x2A,
];
const PUBLISH_PROPS: &[u8] = &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26];
const PUBACK_V5: &[u8] = &[0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const PUBREL_V5: &[u8] = &[0x00, 0x92];
const SUBACK_V5: &[u8] = &[0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
const SUBACK_V3: &[u8] = &[0x00, 0x01, 0x02, 0x80];
const UNSUBACK_V5: &[u8] = &[0x00, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
const ANSWER_PROPS: &[u8] = &[0x1F, 0x26];
const DISCONNECT_V5: &[u8] = &[
    0x00, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96,
    0x97, 0x98, 0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];
/// Without the session expiry, which only a client may send.
const DISCONNECT_PROPS: &[u8] = &[0x1C, 0x1F, 0x26];

/// The codes and properties a server may put into such a packet.
fn allowed(version: Version, received: &Received) -> (&'static [u8], &'static [u8]) {
    let v5 = version == Version::V5;
    match received {
        Received::Connack(_) if v5 => (CONNACK_V5, CONNACK_PROPS),
        Received::Connack(_) => (CONNACK_V3, &[]),
        Received::Publish(_) => (&[], PUBLISH_PROPS),
        Received::Puback(_) | Received::Pubrec(_) => (PUBACK_V5, ANSWER_PROPS),
        Received::Pubrel(_) | Received::Pubcomp(_) => (PUBREL_V5, ANSWER_PROPS),
        Received::Suback(_) if v5 => (SUBACK_V5, ANSWER_PROPS),
        Received::Suback(_) => (SUBACK_V3, &[]),
        Received::Unsuback(_) => (UNSUBACK_V5, ANSWER_PROPS),
        Received::Pingresp => (&[], &[]),
        Received::Disconnect(_) => (DISCONNECT_V5, DISCONNECT_PROPS),
    }
}
