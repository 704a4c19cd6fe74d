//! What clients send: packets built in one line, legal or not.

use super::watch::Watch;
use super::wire::{Props, Value, Version, code, kind, packet, prop, string};

/// Something a client sends.
pub(crate) trait Outgoing {
    /// Its bytes in the version of the connection.
    fn encode(&self, version: Version) -> Vec<u8>;

    /// Tells the watch of the connection what the broker is about to know.
    fn note(&self, _watch: &mut Watch) {}
}

/// Builder methods for the properties of a packet; what carries which is up to the test.
macro_rules! with_properties {
    ($packet:ty) => {
        #[allow(dead_code, reason = "the same methods for every packet")]
        impl $packet {
            pub(crate) fn prop(mut self, id: u8, value: Value) -> Self {
                self.props.push(id, value);
                self
            }
            pub(crate) fn user(self, name: &str, value: &str) -> Self {
                self.prop(prop::USER_PROPERTY, Value::Pair(name.into(), value.into()))
            }
            pub(crate) fn expiry(self, secs: u32) -> Self {
                self.prop(Self::EXPIRY, Value::Four(secs))
            }
        }
    };
}

#[derive(Clone, Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    pub(crate) clean: bool,
    pub(crate) keep_alive: u16,
    pub(crate) client_id: String,
    pub(crate) will: Option<Will>,
    pub(crate) user_name: Option<String>,
    pub(crate) password: Option<Vec<u8>>,
    pub(crate) props: Props,
}

/// CONNECT of a client that starts clean and asks for no keep alive.
pub(crate) fn connect(version: Version, client_id: &str) -> Connect {
    Connect {
        version,
        clean: true,
        keep_alive: 0,
        client_id: client_id.into(),
        will: None,
        user_name: None,
        password: None,
        props: Props::default(),
    }
}

pub(crate) fn v5(client_id: &str) -> Connect {
    connect(Version::V5, client_id)
}

pub(crate) fn v4(client_id: &str) -> Connect {
    connect(Version::V3_1_1, client_id)
}

with_properties!(Connect);
impl Connect {
    const EXPIRY: u8 = prop::SESSION_EXPIRY;

    /// Clean start, or clean session, 0.
    pub(crate) fn resume(mut self) -> Self {
        self.clean = false;
        self
    }

    /// A session that outlives its connection: of MQTT 5 by an expiry, of MQTT 3 by its flag.
    pub(crate) fn lasting(self) -> Self {
        match self.version {
            Version::V5 => self.resume().expiry(1_000_000),
            _ => self.resume(),
        }
    }

    pub(crate) fn keep_alive(mut self, secs: u16) -> Self {
        self.keep_alive = secs;
        self
    }

    pub(crate) fn will(mut self, will: Will) -> Self {
        self.will = Some(will);
        self
    }

    pub(crate) fn user_name(mut self, name: &str) -> Self {
        self.user_name = Some(name.into());
        self
    }

    pub(crate) fn password(mut self, password: &[u8]) -> Self {
        self.password = Some(password.into());
        self
    }

    pub(crate) fn receive_maximum(self, count: u16) -> Self {
        self.prop(prop::RECEIVE_MAXIMUM, Value::Two(count))
    }

    pub(crate) fn maximum_packet_size(self, bytes: u32) -> Self {
        self.prop(prop::MAXIMUM_PACKET_SIZE, Value::Four(bytes))
    }

    pub(crate) fn topic_alias_maximum(self, count: u16) -> Self {
        self.prop(prop::TOPIC_ALIAS_MAXIMUM, Value::Two(count))
    }

    pub(crate) fn problem_information(self, wanted: u8) -> Self {
        self.prop(prop::REQUEST_PROBLEM_INFORMATION, Value::Byte(wanted))
    }

    /// The connect flags as they belong to the fields.
    pub(crate) fn flags(&self) -> u8 {
        let will = self
            .will
            .as_ref()
            .map_or(0, |will| 0x04 | will.qos << 3 | if will.retain { 0x20 } else { 0 });
        let name = if self.user_name.is_some() { 0x80 } else { 0 };
        let password = if self.password.is_some() { 0x40 } else { 0 };
        will | name | password | if self.clean { 0x02 } else { 0 }
    }

    /// Variable header and payload, with the given connect flags.
    pub(crate) fn body(&self, flags: u8) -> Vec<u8> {
        let name: &[u8] = if self.version == Version::V3_1 { b"MQIsdp" } else { b"MQTT" };
        let mut body = string(name);
        body.extend([self.version as u8, flags]);
        body.extend(self.keep_alive.to_be_bytes());
        if self.version == Version::V5 {
            body.extend(self.props.encode());
        }
        body.extend(string(self.client_id.as_bytes()));
        if let Some(will) = &self.will {
            if self.version == Version::V5 {
                body.extend(will.props.encode());
            }
            body.extend(string(will.topic.as_bytes()));
            body.extend(string(&will.payload));
        }
        if let Some(name) = &self.user_name {
            body.extend(string(name.as_bytes()));
        }
        if let Some(password) = &self.password {
            body.extend(string(password));
        }
        body
    }
}

impl Outgoing for Connect {
    fn encode(&self, _: Version) -> Vec<u8> {
        packet(kind::CONNECT, &self.body(self.flags()))
    }

    fn note(&self, watch: &mut Watch) {
        watch.connecting(self);
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) props: Props,
}

pub(crate) fn will(topic: &str, payload: &str) -> Will {
    Will {
        qos: 0,
        retain: false,
        topic: topic.into(),
        payload: payload.into(),
        props: Props::default(),
    }
}

with_properties!(Will);
impl Will {
    const EXPIRY: u8 = prop::MESSAGE_EXPIRY;

    pub(crate) fn qos(mut self, qos: u8) -> Self {
        self.qos = qos;
        self
    }

    pub(crate) fn retain(mut self) -> Self {
        self.retain = true;
        self
    }

    pub(crate) fn delay(self, secs: u32) -> Self {
        self.prop(prop::WILL_DELAY, Value::Four(secs))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Publish {
    pub(crate) flags: u8,
    pub(crate) topic: String,
    pub(crate) packet_id: Option<u16>,
    pub(crate) props: Props,
    pub(crate) payload: Vec<u8>,
}

/// PUBLISH of QoS 0.
pub(crate) fn publish(topic: &str, payload: &str) -> Publish {
    Publish {
        flags: 0,
        topic: topic.into(),
        packet_id: None,
        props: Props::default(),
        payload: payload.into(),
    }
}

with_properties!(Publish);
impl Publish {
    const EXPIRY: u8 = prop::MESSAGE_EXPIRY;

    pub(crate) fn qos1(mut self, packet_id: u16) -> Self {
        self.flags |= 0b0010;
        self.packet_id = Some(packet_id);
        self
    }

    pub(crate) fn qos2(mut self, packet_id: u16) -> Self {
        self.flags |= 0b0100;
        self.packet_id = Some(packet_id);
        self
    }

    /// Of the given QoS; the packet identifier counts above QoS 0.
    pub(crate) fn qos(self, qos: u8, packet_id: u16) -> Self {
        match qos {
            0 => self,
            1 => self.qos1(packet_id),
            _ => self.qos2(packet_id),
        }
    }

    pub(crate) fn retain(mut self) -> Self {
        self.flags |= 0b0001;
        self
    }

    pub(crate) fn dup(mut self) -> Self {
        self.flags |= 0b1000;
        self
    }

    pub(crate) fn alias(self, alias: u16) -> Self {
        self.prop(prop::TOPIC_ALIAS, Value::Two(alias))
    }
}

impl Outgoing for Publish {
    fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = string(self.topic.as_bytes());
        body.extend(self.packet_id.into_iter().flat_map(u16::to_be_bytes));
        if version == Version::V5 {
            body.extend(self.props.encode());
        }
        body.extend(&self.payload);
        packet(kind::PUBLISH | self.flags, &body)
    }
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
#[derive(Clone, Debug)]
pub(crate) struct Ack {
    pub(crate) first: u8,
    pub(crate) packet_id: u16,
    pub(crate) code: u8,
}

pub(crate) fn puback(packet_id: u16) -> Ack {
    Ack { first: kind::PUBACK, packet_id, code: code::SUCCESS }
}

pub(crate) fn pubrec(packet_id: u16) -> Ack {
    Ack { first: kind::PUBREC, packet_id, code: code::SUCCESS }
}

pub(crate) fn pubrel(packet_id: u16) -> Ack {
    Ack { first: kind::PUBREL | 0b0010, packet_id, code: code::SUCCESS }
}

pub(crate) fn pubcomp(packet_id: u16) -> Ack {
    Ack { first: kind::PUBCOMP, packet_id, code: code::SUCCESS }
}

impl Ack {
    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

impl Outgoing for Ack {
    fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = self.packet_id.to_be_bytes().to_vec();
        if version == Version::V5 && self.code != code::SUCCESS {
            body.push(self.code);
        }
        packet(self.first, &body)
    }

    fn note(&self, watch: &mut Watch) {
        watch.acknowledging(self);
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Subscribe {
    pub(crate) packet_id: u16,
    pub(crate) props: Props,
    /// Filters with their options byte.
    pub(crate) filters: Vec<(String, u8)>,
}

/// SUBSCRIBE to one filter at QoS 0, all options 0.
pub(crate) fn subscribe(packet_id: u16, filter: &str) -> Subscribe {
    Subscribe { packet_id, props: Props::default(), filters: vec![(filter.into(), 0)] }
}

impl Subscribe {
    /// One filter more; the methods below set the options of the last.
    pub(crate) fn and(mut self, filter: &str) -> Self {
        self.filters.push((filter.into(), 0));
        self
    }

    pub(crate) fn bits(mut self, bits: u8) -> Self {
        let last = self.filters.last_mut().expect("one filter at least");
        last.1 |= bits;
        self
    }

    pub(crate) fn qos(self, qos: u8) -> Self {
        self.bits(qos)
    }

    pub(crate) fn no_local(self) -> Self {
        self.bits(0x04)
    }

    pub(crate) fn retain_as_published(self) -> Self {
        self.bits(0x08)
    }

    pub(crate) fn retain_handling(self, handling: u8) -> Self {
        self.bits(handling << 4)
    }

    pub(crate) fn identifier(mut self, identifier: u32) -> Self {
        self.props.push(prop::SUBSCRIPTION_IDENTIFIER, Value::Variable(identifier));
        self
    }
}

impl Outgoing for Subscribe {
    fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = self.packet_id.to_be_bytes().to_vec();
        if version == Version::V5 {
            body.extend(self.props.encode());
        }
        for (filter, options) in &self.filters {
            body.extend(string(filter.as_bytes()));
            body.push(*options);
        }
        packet(kind::SUBSCRIBE | 0b0010, &body)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Unsubscribe {
    pub(crate) packet_id: u16,
    pub(crate) filters: Vec<String>,
}

pub(crate) fn unsubscribe(packet_id: u16, filter: &str) -> Unsubscribe {
    Unsubscribe { packet_id, filters: vec![filter.into()] }
}

impl Unsubscribe {
    pub(crate) fn and(mut self, filter: &str) -> Self {
        self.filters.push(filter.into());
        self
    }
}

impl Outgoing for Unsubscribe {
    fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = self.packet_id.to_be_bytes().to_vec();
        if version == Version::V5 {
            body.push(0);
        }
        for filter in &self.filters {
            body.extend(string(filter.as_bytes()));
        }
        packet(kind::UNSUBSCRIBE | 0b0010, &body)
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Disconnect {
    pub(crate) code: u8,
    pub(crate) props: Props,
}

pub(crate) fn disconnect() -> Disconnect {
    Disconnect::default()
}

with_properties!(Disconnect);
impl Disconnect {
    const EXPIRY: u8 = prop::SESSION_EXPIRY;

    pub(crate) fn code(mut self, code: u8) -> Self {
        self.code = code;
        self
    }
}

impl Outgoing for Disconnect {
    fn encode(&self, version: Version) -> Vec<u8> {
        let bare = self.code == code::SUCCESS && self.props.0.is_empty();
        if version < Version::V5 || bare {
            return packet(kind::DISCONNECT, &[]);
        }
        packet(kind::DISCONNECT, &[vec![self.code], self.props.encode()].concat())
    }
}

/// A packet without content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pingreq;

impl Outgoing for Pingreq {
    fn encode(&self, _: Version) -> Vec<u8> {
        packet(kind::PINGREQ, &[])
    }
}

/// AUTH with a method.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Auth(pub(crate) u8);

impl Outgoing for Auth {
    fn encode(&self, _: Version) -> Vec<u8> {
        let mut props = Props::default();
        props.push(prop::AUTHENTICATION_METHOD, Value::Text("SCRAM-SHA-1".into()));
        packet(kind::AUTH, &[vec![self.0], props.encode()].concat())
    }
}
