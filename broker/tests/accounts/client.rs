//! A client with a token, that blocks and sees every packet.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use longshore_broker::{Broker, Scheme};
use longshore_codec::wire::put_varint;
use longshore_codec::{
    Ack, Connect, Packet, PacketId, PacketType, Properties, Property, Publish, QoS, ReasonCode,
    SubscribeOptions, Subscriptions, Version, Will, decode, encode, frame,
};

/// Longer than anything takes on a machine with other work; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Names and values of user properties.
pub(crate) type Named = Vec<(String, String)>;

/// What comes from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// Topic, payload, and what is said of it.
    Message { topic: String, payload: String, retain: bool, named: Named },
    /// Anything else, with its first reason code or 0.
    Packet(PacketType, u8, Named),
}

impl Got {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Packet(_, code, _) => *code,
            Self::Message { .. } => panic!("a message came: {self:?}"),
        }
    }

    pub(crate) fn named(&self, name: &str) -> Option<&str> {
        let (Self::Message { named, .. } | Self::Packet(_, _, named)) = self;
        named.iter().find(|(it, _)| it == name).map(|(_, value)| &**value)
    }
}

/// How a client connects.
#[derive(Clone)]
pub(crate) struct Ask<'a> {
    pub(crate) version: Version,
    pub(crate) id: &'a str,
    pub(crate) username: Option<&'a str>,
    pub(crate) password: Option<&'a str>,
    pub(crate) lasting: bool,
    pub(crate) packet_max: Option<u32>,
    /// Topic of the will.
    pub(crate) will: Option<&'a str>,
    /// And its payload.
    pub(crate) last_word: &'a str,
}

impl<'a> Ask<'a> {
    /// MQTT 5 with this token, clean.
    pub(crate) fn with(token: &'a str, id: &'a str) -> Self {
        let username = Some(token);
        let (version, password, lasting) = (Version::V5, None, false);
        let (packet_max, will, last_word) = (None, None, "gone");
        Self { version, id, username, password, lasting, packet_max, will, last_word }
    }

    pub(crate) fn lasting(self) -> Self {
        Self { lasting: true, ..self }
    }

    pub(crate) fn v3(self) -> Self {
        Self { version: Version::V3_1_1, ..self }
    }
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    version: Version,
    bytes: Vec<u8>,
    /// What came before it was asked for.
    waiting: Vec<Got>,
    /// Whether what the broker itself publishes is given out; otherwise it is passed over.
    pub(crate) hears_broker: bool,
    /// Whether it acknowledges what it gets.
    pub(crate) acknowledges: bool,
}

impl Client {
    /// A client that has sent CONNECT, and the answer.
    pub(crate) fn attempt(broker: &Broker, ask: &Ask<'_>) -> (Self, Got) {
        let mut addresses = broker.addresses().iter();
        let (_, address) = addresses.find(|(listen, _)| listen.scheme == Scheme::Mqtt).unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (version, bytes, waiting) = (ask.version, Vec::new(), Vec::new());
        let (hears_broker, acknowledges) = (false, false);
        let mut client = Self { stream, version, bytes, waiting, hears_broker, acknowledges };
        let mut block = Vec::new();
        if ask.version == Version::V5 {
            let expiry = if ask.lasting { 3_600 } else { 0 };
            Property::SessionExpiryInterval(expiry).append(&mut block);
            if let Some(packet_max) = ask.packet_max {
                Property::MaximumPacketSize(packet_max).append(&mut block);
            }
        }
        let properties = Properties::none();
        let will = ask.will.map(|topic| Will {
            topic,
            payload: ask.last_word.as_bytes(),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties,
        });
        client.send(&Packet::Connect(Connect {
            version: ask.version,
            clean_start: !ask.lasting,
            keep_alive: 0,
            client_id: ask.id,
            will,
            username: ask.username,
            password: ask.password.map(str::as_bytes),
            properties: Properties::from_raw(&block),
        }));
        let answer = client.next().expect("an answer to CONNECT");
        (client, answer)
    }

    /// A client that was let in.
    pub(crate) fn connect(broker: &Broker, ask: &Ask<'_>) -> Self {
        let (client, answer) = Self::attempt(broker, ask);
        assert_eq!(answer.code(), 0, "{}", ask.id);
        client
    }

    pub(crate) fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(self.version, packet, &mut bytes);
        // The broker may have closed.
        let _ = self.stream.write_all(&bytes);
    }

    /// The next packet; none once the broker has closed.
    pub(crate) fn next(&mut self) -> Option<Got> {
        if !self.waiting.is_empty() {
            return Some(self.waiting.remove(0));
        }
        self.read()
    }

    fn read(&mut self) -> Option<Got> {
        let mut scratch = [0; 65_536];
        loop {
            let found = frame(&self.bytes, usize::MAX).unwrap();
            if let Some(found) = found.filter(|it| it.total() <= self.bytes.len()) {
                let packet: Vec<u8> = self.bytes.drain(..found.total()).collect();
                let packet = decode(self.version, found.first, &packet[found.header..]).unwrap();
                if let Packet::Publish(Publish { packet_id: Some(id), .. }) = &packet
                    && self.acknowledges
                {
                    self.send(&Packet::Puback(Ack::success(*id)));
                }
                match got(&packet) {
                    Got::Message { topic, .. }
                        if topic.starts_with("flespi/") && !self.hears_broker => {}
                    got => return Some(got),
                }
                continue;
            }
            match self.stream.read(&mut scratch) {
                Ok(0) => return None,
                Ok(count) => self.bytes.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// The next packet that is no message; those that come before are kept.
    pub(crate) fn answer(&mut self) -> Got {
        loop {
            match self.read().expect("an answer") {
                got @ Got::Packet(..) => return got,
                message => self.waiting.push(message),
            }
        }
    }

    /// Messages that have come, each as `topic=payload`: all those before the answer to a ping.
    pub(crate) fn messages(&mut self) -> Vec<String> {
        self.send(&Packet::Pingreq);
        assert!(matches!(self.answer(), Got::Packet(PacketType::Pingresp, ..)));
        let text = |got: Got| match got {
            Got::Message { topic, payload, .. } => format!("{topic}={payload}"),
            Got::Packet(..) => panic!("an answer to nothing"),
        };
        self.waiting.drain(..).map(text).collect()
    }

    /// So many messages in the order of their texts, and no more: other shards take their time.
    pub(crate) fn sorted(&mut self, count: usize) -> Vec<String> {
        while self.waiting.len() < count {
            let got = self.read().expect("a message");
            self.waiting.push(got);
        }
        let mut messages = self.messages();
        messages.sort();
        messages
    }

    /// Subscribes; the code of the answer.
    pub(crate) fn subscribe(&mut self, filter: &str) -> u8 {
        self.subscribe_with(filter, &[])
    }

    pub(crate) fn subscribe_with(&mut self, filter: &str, named: &[(&str, &str)]) -> u8 {
        self.hears_broker |= filter.contains("flespi/");
        let mut body = vec![0, 1];
        if self.version == Version::V5 {
            let mut block = Vec::new();
            named.iter().for_each(|(name, it)| Property::UserProperty(name, it).append(&mut block));
            put_varint(&mut body, u32::try_from(block.len()).unwrap());
            body.extend_from_slice(&block);
        }
        Subscriptions::append(filter, SubscribeOptions::new(QoS::AtLeastOnce), &mut body);
        let mut packet = vec![0x82];
        put_varint(&mut packet, u32::try_from(body.len()).unwrap());
        self.stream.write_all(&[packet, body].concat()).unwrap();
        self.answer().code()
    }

    /// Unsubscribes; the answer.
    pub(crate) fn unsubscribe(&mut self, filter: &str) -> Got {
        let length = u8::try_from(filter.len()).unwrap();
        let head = [0xa2, length + 5, 0, 1, 0, 0, length];
        self.stream.write_all(&[&head, filter.as_bytes()].concat()).unwrap();
        self.answer()
    }

    /// Publishes at QoS 1; the answer.
    pub(crate) fn publish(&mut self, topic: &str, payload: &str) -> Got {
        self.publish_with(topic, payload, false, &[])
    }

    pub(crate) fn retain(&mut self, topic: &str, payload: &str) -> Got {
        self.publish_with(topic, payload, true, &[])
    }

    pub(crate) fn publish_with(
        &mut self,
        topic: &str,
        payload: &str,
        retain: bool,
        named: &[(&str, &str)],
    ) -> Got {
        let mut block = Vec::new();
        named.iter().for_each(|(name, it)| Property::UserProperty(name, it).append(&mut block));
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain,
            topic: topic.as_bytes(),
            packet_id: Some(PacketId::MIN),
            properties: Properties::from_raw(&block),
            payload: payload.as_bytes(),
        }));
        self.answer()
    }

    /// Ends the connection without DISCONNECT.
    pub(crate) fn vanish(self) {}
}

fn named(properties: Properties<'_>) -> Named {
    let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let mut named: Named = properties.user_properties().map(owned).collect();
    for property in properties.iter() {
        if let Ok(Property::CorrelationData(data)) = property {
            named.push(("correlation".to_owned(), String::from_utf8_lossy(data).into_owned()));
        }
    }
    named
}

fn got(packet: &Packet<'_>) -> Got {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let code = |reason: ReasonCode| reason.value();
    match packet {
        Packet::Publish(publish) => Got::Message {
            topic: text(publish.topic),
            payload: text(publish.payload),
            retain: publish.retain,
            named: named(publish.properties),
        },
        Packet::Connack(it) => {
            Got::Packet(PacketType::Connack, code(it.reason), named(it.properties))
        }
        Packet::Puback(it) => {
            Got::Packet(PacketType::Puback, code(it.reason), named(it.properties))
        }
        Packet::Suback(it) => Got::Packet(PacketType::Suback, it.codes[0], Vec::new()),
        Packet::Disconnect(it) => Got::Packet(PacketType::Disconnect, code(it.reason), Vec::new()),
        other => Got::Packet(other.packet_type(), 0, Vec::new()),
    }
}
