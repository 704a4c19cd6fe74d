//! A client that says one thing and waits for the answer.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use longshore::codec::{
    self, Ack, Connect, Packet, PacketId, Properties, Property, Publish, QoS, Subscribe,
    SubscribeOptions, Subscriptions, TopicFilters, Unsubscribe, Version,
};

use super::process::LATE;
use super::wire::{DISCONNECT, Inbox};

/// A PUBLISH that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) id: Option<PacketId>,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    /// As on the wire.
    pub(crate) properties: Vec<u8>,
}

/// A connection.
pub(crate) struct Caller {
    version: Version,
    stream: TcpStream,
    inbox: Inbox,
    /// Messages that came in while it waited for something else.
    messages: VecDeque<Message>,
    last_id: u16,
}

impl Caller {
    /// Connects the client `name`, whose session outlives this connection by so many seconds; and
    /// says whether there was one.
    pub(crate) fn connect(
        address: SocketAddr,
        version: Version,
        name: &str,
        session_secs: u32,
    ) -> (Self, bool) {
        let stream = TcpStream::connect(address).expect("the broker takes connections");
        stream.set_nodelay(true).expect("an option of TCP");
        stream.set_read_timeout(Some(LATE)).expect("a time above 0");
        let (inbox, messages) = (Inbox::new(version), VecDeque::new());
        let mut caller = Self { version, stream, inbox, messages, last_id: 0 };
        let mut properties = Vec::new();
        Property::SessionExpiryInterval(session_secs).append(&mut properties);
        caller.say(&Packet::Connect(Connect {
            version,
            clean_start: version < Version::V5 && session_secs == 0,
            keep_alive: 0,
            client_id: name,
            will: None,
            username: None,
            password: None,
            properties: Properties::from_raw(&properties),
        }));
        let answer = caller.hear(|packet| match packet {
            Packet::Connack(it) => Some((it.reason.value(), it.session_present)),
            _ => None,
        });
        match answer {
            Some((0, present)) => (caller, present),
            other => panic!("{name} is refused: {other:?}"),
        }
    }

    pub(crate) fn say(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        codec::encode(self.version, packet, &mut bytes);
        // One that was closed is told when it listens.
        let _ = self.stream.write_all(&bytes);
    }

    /// Listens until `take` has what it wants; none when the broker closed. Messages are kept.
    pub(crate) fn hear<T>(&mut self, mut take: impl FnMut(&Packet<'_>) -> Option<T>) -> Option<T> {
        loop {
            while let Some(packet) = self.inbox.packet() {
                if let Packet::Publish(publish) = packet {
                    self.messages.push_back(Message::from(&publish));
                } else if let Some(taken) = take(&packet) {
                    return Some(taken);
                }
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// Waits for bytes; false when the broker closed.
    fn fill(&mut self) -> bool {
        let mut scratch = [0; 4_096];
        match self.stream.read(&mut scratch) {
            Ok(0) => false,
            Ok(count) => {
                self.inbox.push(&scratch[..count]);
                true
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("waited in vain"),
            Err(_) => false,
        }
    }

    /// An identifier that is not in use, for nobody has so many packets under way here.
    pub(crate) fn id(&mut self) -> PacketId {
        self.last_id = self.last_id % u16::MAX + 1;
        PacketId::new(self.last_id).expect("1 was added")
    }

    /// Subscribes; the code of SUBACK.
    pub(crate) fn subscribe(&mut self, filter: &str, options: SubscribeOptions) -> u8 {
        self.subscribe_with(filter, options, &[])
    }

    /// The same with properties.
    pub(crate) fn subscribe_with(
        &mut self,
        filter: &str,
        options: SubscribeOptions,
        properties: &[u8],
    ) -> u8 {
        let (mut raw, packet_id) = (Vec::new(), self.id());
        Subscriptions::append(filter, options, &mut raw);
        let filters = Subscriptions::decode(Version::V5, &raw).expect("a good filter");
        let properties = Properties::from_raw(properties);
        self.say(&Packet::Subscribe(Subscribe { packet_id, properties, filters }));
        let code = self.hear(|packet| match packet {
            Packet::Suback(it) => it.codes.first().copied(),
            _ => None,
        });
        code.expect("SUBACK")
    }

    /// Unsubscribes.
    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        let (mut raw, packet_id) = (Vec::new(), self.id());
        TopicFilters::append(filter, &mut raw);
        let filters = TopicFilters::decode(&raw).expect("a good filter");
        let properties = Properties::none();
        self.say(&Packet::Unsubscribe(Unsubscribe { packet_id, properties, filters }));
        let answer = self.hear(|packet| matches!(packet, Packet::Unsuback(_)).then_some(()));
        answer.expect("UNSUBACK");
    }

    /// Publishes at QoS 1; the code of PUBACK, and none when the broker closed instead.
    pub(crate) fn publish(&mut self, topic: &str, payload: &[u8]) -> Option<u8> {
        self.publish_with(topic, payload, false, &[])
    }

    /// The same, maybe retained, and with properties.
    pub(crate) fn publish_with(
        &mut self,
        topic: &str,
        payload: &[u8],
        retain: bool,
        properties: &[u8],
    ) -> Option<u8> {
        let id = self.id();
        let properties = Properties::from_raw(properties);
        let (qos, topic) = (QoS::AtLeastOnce, topic.as_bytes());
        let packet_id = Some(id);
        let publish = Publish { dup: false, qos, retain, topic, packet_id, properties, payload };
        self.say(&Packet::Publish(publish));
        self.hear(|packet| match packet {
            Packet::Puback(it) if it.packet_id == id => Some(it.reason.value()),
            _ => None,
        })
    }

    /// Publishes at QoS 0.
    pub(crate) fn toss(&mut self, topic: &str, payload: &[u8]) {
        self.say(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: topic.as_bytes(),
            packet_id: None,
            properties: Properties::none(),
            payload,
        }));
    }

    /// The next message, unacknowledged; none when the broker closed.
    pub(crate) fn message(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return Some(message);
            }
            match self.inbox.packet() {
                Some(Packet::Publish(publish)) => return Some(Message::from(&publish)),
                Some(_) => continue,
                None => {}
            }
            if !self.fill() {
                return None;
            }
        }
    }

    /// The next message, acknowledged if it came at QoS 1.
    pub(crate) fn receive(&mut self) -> Option<Message> {
        let message = self.message()?;
        if let (QoS::AtLeastOnce, Some(id)) = (message.qos, message.id) {
            self.say(&Packet::Puback(Ack::success(id)));
        }
        Some(message)
    }

    /// Waits until the broker has answered all that was said; the messages that came until then.
    pub(crate) fn settle(&mut self) -> Vec<Message> {
        self.say(&Packet::Pingreq);
        let answer = self.hear(|packet| matches!(packet, Packet::Pingresp).then_some(()));
        assert!(answer.is_some(), "the broker closed");
        self.messages.drain(..).collect()
    }

    /// Disconnects in good order; returns once the broker has seen it.
    pub(crate) fn leave(mut self) {
        let _ = self.stream.write_all(&DISCONNECT);
        while self.fill() {}
    }
}

impl From<&Publish<'_>> for Message {
    fn from(publish: &Publish<'_>) -> Self {
        Self {
            topic: String::from_utf8_lossy(publish.topic).into_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            id: publish.packet_id,
            dup: publish.dup,
            retain: publish.retain,
            properties: publish.properties.raw().to_vec(),
        }
    }
}
