//! A client: what it has said and heard on its connection, and how it answers.

use std::collections::{BTreeMap, VecDeque};

use longshore_codec::{
    Ack, Connack, Packet, PacketId, Properties, Publish, QoS, ReasonCode, Version, decode, encode,
    frame,
};

use super::choices::Choices;
use super::network::LineId;

/// When a client acknowledges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manners {
    /// As soon as there is something to acknowledge.
    Prompt,
    /// When it pleases, in any order.
    Slow,
    /// Promptly, but it refuses some.
    Choosy,
    /// Never.
    Silent,
}

impl Manners {
    pub(crate) const ALL: [Self; 4] = [Self::Prompt, Self::Slow, Self::Choosy, Self::Silent];
}

/// One client. It goes through many connections, under several client identifiers.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) line: Option<LineId>,
    pub(crate) version: Version,
    pub(crate) client_id: String,
    /// A CONNACK accepted it on this line.
    pub(crate) is_connected: bool,
    /// The identifier the broker gave to a client that had none.
    pub(crate) assigned: Option<String>,
    pub(crate) manners: Manners,
    /// Answers held back.
    pub(crate) held: VecDeque<Vec<u8>>,
    /// Packets of QoS 1 and 2 that the broker has not acknowledged for good, as they were sent.
    pub(crate) unacknowledged: BTreeMap<PacketId, Sent>,
    /// QoS 1 and 2 messages the broker takes at once, and topic aliases.
    pub(crate) receive_maximum: u16,
    pub(crate) topic_alias_maximum: u16,
    /// Packet identifiers of messages heard on this line.
    pub(crate) heard: Vec<PacketId>,
    /// Aliases set on this line.
    pub(crate) aliases: BTreeMap<u16, String>,
    /// Bytes that make no whole packet yet.
    input: Vec<u8>,
    last_id: u16,
}

/// When a PUBLISH may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repetition {
    Always,
    /// Where the session goes on.
    Known,
    Never,
}

/// How far a message to the broker has come.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    /// PUBLISH, as it may be sent again; never, if the broker could not tell it from a new message
    /// and the oracle not from the first.
    Publish(Vec<u8>, Repetition),
    /// PUBREL.
    Release,
}

impl Client {
    pub(crate) fn new() -> Self {
        Self {
            line: None,
            version: Version::V5,
            client_id: String::new(),
            is_connected: false,
            assigned: None,
            manners: Manners::Prompt,
            held: VecDeque::new(),
            unacknowledged: BTreeMap::new(),
            receive_maximum: u16::MAX,
            topic_alias_maximum: 0,
            heard: Vec::new(),
            aliases: BTreeMap::new(),
            input: Vec::new(),
            last_id: 0,
        }
    }

    /// The client is on a new line, about to say CONNECT.
    pub(crate) fn begin(&mut self, line: LineId, version: Version, client_id: String) {
        if self.client_id != client_id || self.version != version {
            self.unacknowledged.clear();
        }
        self.line = Some(line);
        self.version = version;
        self.client_id = client_id;
        self.is_connected = false;
        self.held.clear();
        self.heard.clear();
        self.aliases.clear();
        self.input.clear();
    }

    /// The line is gone.
    pub(crate) fn end(&mut self) {
        self.line = None;
        self.is_connected = false;
    }

    /// A packet identifier that is not in use.
    pub(crate) fn fresh_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id % 200 + 1;
            let id = PacketId::new(self.last_id).expect("1 was added");
            if !self.unacknowledged.contains_key(&id) {
                return id;
            }
        }
    }

    /// Takes bytes from the broker; what it answers at once.
    pub(crate) fn receive(&mut self, bytes: &[u8], choices: &mut Choices) -> Vec<u8> {
        self.input.extend_from_slice(bytes);
        let mut answers = Vec::new();
        while let Some(found) = frame(&self.input, usize::MAX).expect("the oracle has read it") {
            if found.total() > self.input.len() {
                break;
            }
            let packet: Vec<u8> = self.input.drain(..found.total()).collect();
            let decoded = decode(self.version, found.first, &packet[found.header..]);
            let decoded = decoded.expect("the oracle has read it");
            self.hear(&decoded, choices, &mut answers);
        }
        answers
    }

    fn hear(&mut self, packet: &Packet<'_>, choices: &mut Choices, answers: &mut Vec<u8>) {
        match packet {
            Packet::Connack(connack) => self.hear_connack(connack, choices, answers),
            Packet::Publish(publish) => self.hear_publish(publish, choices, answers),
            Packet::Puback(ack) | Packet::Pubcomp(ack) => {
                self.unacknowledged.remove(&ack.packet_id);
            }
            Packet::Pubrec(ack) if ack.reason.is_error() => {
                self.unacknowledged.remove(&ack.packet_id);
            }
            Packet::Pubrec(ack) => {
                if let Some(sent) = self.unacknowledged.get_mut(&ack.packet_id) {
                    *sent = Sent::Release;
                }
                self.answer(&Packet::Pubrel(Ack::success(ack.packet_id)), answers);
            }
            Packet::Pubrel(ack) => {
                self.answer(&Packet::Pubcomp(Ack::success(ack.packet_id)), answers);
            }
            _ => {}
        }
    }

    fn hear_connack(
        &mut self,
        connack: &Connack<'_>,
        choices: &mut Choices,
        answers: &mut Vec<u8>,
    ) {
        if connack.reason.is_error() {
            return;
        }
        self.is_connected = true;
        self.receive_maximum = connack.properties.receive_maximum().unwrap_or(u16::MAX);
        self.topic_alias_maximum = connack.properties.topic_alias_maximum().unwrap_or(0);
        if let Some(assigned) = connack.properties.assigned_client_identifier() {
            self.assigned = Some(assigned.to_owned());
            self.client_id = assigned.to_owned();
        }
        // MQTT 3.1 does not say whether there is a session.
        let resumed = connack.session_present || self.version == Version::V3_1;
        if !resumed || choices.percent(10) {
            self.unacknowledged.clear();
        }
        for (id, sent) in &self.unacknowledged {
            match sent {
                Sent::Publish(_, Repetition::Never) => {}
                Sent::Publish(_, Repetition::Known) if !connack.session_present => {}
                Sent::Publish(packet, _) => {
                    let start = answers.len();
                    answers.extend_from_slice(packet);
                    answers[start] |= 0b1000;
                }
                Sent::Release => {
                    encode(self.version, &Packet::Pubrel(Ack::success(*id)), answers);
                }
            }
        }
    }

    fn hear_publish(
        &mut self,
        publish: &Publish<'_>,
        choices: &mut Choices,
        answers: &mut Vec<u8>,
    ) {
        let Some(packet_id) = publish.packet_id else { return };
        self.heard.push(packet_id);
        let refuses =
            self.manners == Manners::Choosy && self.version == Version::V5 && choices.percent(30);
        let reason = match refuses {
            true => *choices.pick(&[ReasonCode::QuotaExceeded, ReasonCode::UnspecifiedError]),
            false => ReasonCode::Success,
        };
        let ack = Ack { packet_id, reason, properties: Properties::none() };
        match publish.qos {
            QoS::ExactlyOnce => self.answer(&Packet::Pubrec(ack), answers),
            _ => self.answer(&Packet::Puback(ack), answers),
        }
    }

    fn answer(&mut self, packet: &Packet<'_>, answers: &mut Vec<u8>) {
        match self.manners {
            Manners::Prompt | Manners::Choosy => encode(self.version, packet, answers),
            Manners::Slow => {
                let mut bytes = Vec::new();
                encode(self.version, packet, &mut bytes);
                self.held.push_back(bytes);
            }
            Manners::Silent => {}
        }
    }
}
