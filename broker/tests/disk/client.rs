//! A client that blocks and sees every packet, and what an HTTP client sees.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use longshore_broker::{Broker, Scheme};
use longshore_codec::{
    Ack, Connect, Packet, PacketId, PacketType, Properties, Property, Publish, QoS,
    SubscribeOptions, Subscriptions, Version, decode, encode, frame,
};

/// Longer than anything takes on a machine with other work; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What comes from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    /// A message that is to be acknowledged under this packet id, or not at QoS 0.
    Message(Option<PacketId>, String),
    /// Anything else, with its first reason code or 0.
    Packet(PacketType, u8),
}

/// Where the broker listens for `scheme`.
pub(crate) fn address(broker: &Broker, scheme: Scheme) -> SocketAddr {
    let addresses = broker.addresses().iter();
    addresses.clone().find(|(listen, _)| listen.scheme == scheme).unwrap().1
}

/// The body of a page, and whether it came with 200 or 503.
pub(crate) fn page(broker: &Broker, path: &str) -> (u16, String) {
    let mut stream = open(address(broker, Scheme::Http));
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

fn open(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    version: Version,
    bytes: Vec<u8>,
}

impl Client {
    /// A client that has sent CONNECT, of a session that outlives its connection if `lasting`.
    pub(crate) fn attempt(broker: &Broker, version: Version, id: &str, lasting: bool) -> Self {
        let stream = open(address(broker, Scheme::Mqtt));
        let mut client = Self { stream, version, bytes: Vec::new() };
        let mut properties = Vec::new();
        if lasting && version == Version::V5 {
            Property::SessionExpiryInterval(3_600).append(&mut properties);
        }
        client.send(&Packet::Connect(Connect {
            version,
            clean_start: !lasting,
            keep_alive: 0,
            client_id: id,
            will: None,
            username: None,
            password: None,
            properties: Properties::from_raw(&properties),
        }));
        client
    }

    /// A client that was let in.
    pub(crate) fn connect(broker: &Broker, version: Version, id: &str, lasting: bool) -> Self {
        let mut client = Self::attempt(broker, version, id, lasting);
        assert_eq!(client.next(), Some(Got::Packet(PacketType::Connack, 0)), "{id}");
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
        let mut scratch = [0; 65_536];
        loop {
            let found = frame(&self.bytes, usize::MAX).unwrap();
            if let Some(found) = found.filter(|it| it.total() <= self.bytes.len()) {
                let packet: Vec<u8> = self.bytes.drain(..found.total()).collect();
                let packet = decode(self.version, found.first, &packet[found.header..]).unwrap();
                return Some(got(&packet));
            }
            match self.stream.read(&mut scratch) {
                Ok(0) => return None,
                Ok(count) => self.bytes.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing came: {error}"),
            }
        }
    }

    /// Everything that comes before the broker closes.
    pub(crate) fn rest(&mut self) -> Vec<Got> {
        std::iter::from_fn(|| self.next()).collect()
    }

    pub(crate) fn publish(&mut self, topic: &str, qos: QoS, payload: &str) {
        self.say(topic, qos, payload, false);
    }

    fn say(&mut self, topic: &str, qos: QoS, payload: &str, retain: bool) {
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos,
            retain,
            topic: topic.as_bytes(),
            packet_id: (qos != QoS::AtMostOnce).then_some(PacketId::MIN),
            properties: Properties::none(),
            payload: payload.as_bytes(),
        }));
    }

    /// Publishes at QoS 1; the reason code of PUBACK, if that comes.
    pub(crate) fn ask(&mut self, topic: &str, payload: &str) -> Option<u8> {
        self.publish(topic, QoS::AtLeastOnce, payload);
        self.answer()
    }

    /// The same, to be retained.
    pub(crate) fn retain(&mut self, topic: &str, payload: &str) -> Option<u8> {
        self.say(topic, QoS::AtLeastOnce, payload, true);
        self.answer()
    }

    fn answer(&mut self) -> Option<u8> {
        match self.next() {
            Some(Got::Packet(PacketType::Puback, code)) => Some(code),
            Some(Got::Packet(PacketType::Disconnect, _)) => None,
            None => None,
            other => panic!("PUBACK should come, not {other:?}"),
        }
    }

    /// Subscribes at QoS 1, in MQTT 5; the answer.
    pub(crate) fn subscribe(&mut self, filter: &str) -> Option<Got> {
        let mut body = vec![0, 1, 0];
        Subscriptions::append(filter, SubscribeOptions::new(QoS::AtLeastOnce), &mut body);
        let length = u8::try_from(body.len()).unwrap();
        self.stream.write_all(&[&[0x82, length], &body[..]].concat()).unwrap();
        self.next()
    }

    /// The payload of the next packet, a message, which is acknowledged if it asks for that.
    pub(crate) fn message(&mut self) -> String {
        match self.next() {
            Some(Got::Message(None, text)) => text,
            Some(Got::Message(Some(packet_id), text)) => {
                let (reason, properties) =
                    (longshore_codec::ReasonCode::Success, Properties::none());
                self.send(&Packet::Puback(Ack { packet_id, reason, properties }));
                text
            }
            other => panic!("a message should come, not {other:?}"),
        }
    }

    /// All messages before the answer to PINGREQ.
    pub(crate) fn messages(&mut self) -> Vec<String> {
        self.send(&Packet::Pingreq);
        let mut texts = Vec::new();
        loop {
            match self.next() {
                Some(Got::Message(_, text)) => texts.push(text),
                Some(Got::Packet(PacketType::Pingresp, _)) => return texts,
                other => panic!("a message should come, not {other:?}"),
            }
        }
    }
}

fn got(packet: &Packet<'_>) -> Got {
    let code = match packet {
        Packet::Publish(publish) => {
            let text = String::from_utf8(publish.payload.to_vec()).unwrap();
            return Got::Message(publish.packet_id, text);
        }
        Packet::Connack(it) => it.reason.value(),
        Packet::Puback(it) => it.reason.value(),
        Packet::Suback(it) => it.codes[0],
        Packet::Disconnect(it) => it.reason.value(),
        _ => 0,
    };
    Got::Packet(packet.packet_type(), code)
}
