//! Bytes of MQTT packets, written and read independently of the broker's own codec, so that a
//! fault of the codec cannot hide itself.

/// The protocol versions by their protocol level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Version {
    V3_1 = 3,
    V3_1_1 = 4,
    V5 = 5,
}

/// Packet types, as the high half of the first byte.
pub(crate) mod kind {
    pub(crate) const CONNECT: u8 = 0x10;
    pub(crate) const CONNACK: u8 = 0x20;
    pub(crate) const PUBLISH: u8 = 0x30;
    pub(crate) const PUBACK: u8 = 0x40;
    pub(crate) const PUBREC: u8 = 0x50;
    pub(crate) const PUBREL: u8 = 0x60;
    pub(crate) const PUBCOMP: u8 = 0x70;
    pub(crate) const SUBSCRIBE: u8 = 0x80;
    pub(crate) const SUBACK: u8 = 0x90;
    pub(crate) const UNSUBSCRIBE: u8 = 0xA0;
    pub(crate) const UNSUBACK: u8 = 0xB0;
    pub(crate) const PINGREQ: u8 = 0xC0;
    pub(crate) const PINGRESP: u8 = 0xD0;
    pub(crate) const DISCONNECT: u8 = 0xE0;
    pub(crate) const AUTH: u8 = 0xF0;
}

/// Reason codes of MQTT 5 that the tests name.
pub(crate) mod code {
    pub(crate) const SUCCESS: u8 = 0x00;
    pub(crate) const DISCONNECT_WITH_WILL: u8 = 0x04;
    pub(crate) const NO_MATCHING_SUBSCRIBERS: u8 = 0x10;
    pub(crate) const NO_SUBSCRIPTION_EXISTED: u8 = 0x11;
    pub(crate) const CONTINUE_AUTHENTICATION: u8 = 0x18;
    pub(crate) const REAUTHENTICATE: u8 = 0x19;
    pub(crate) const UNSPECIFIED_ERROR: u8 = 0x80;
    pub(crate) const MALFORMED_PACKET: u8 = 0x81;
    pub(crate) const PROTOCOL_ERROR: u8 = 0x82;
    pub(crate) const BAD_AUTHENTICATION_METHOD: u8 = 0x8C;
    pub(crate) const KEEP_ALIVE_TIMEOUT: u8 = 0x8D;
    pub(crate) const SESSION_TAKEN_OVER: u8 = 0x8E;
    pub(crate) const TOPIC_FILTER_INVALID: u8 = 0x8F;
    pub(crate) const TOPIC_NAME_INVALID: u8 = 0x90;
    pub(crate) const PACKET_IDENTIFIER_NOT_FOUND: u8 = 0x92;
    pub(crate) const RECEIVE_MAXIMUM_EXCEEDED: u8 = 0x93;
    pub(crate) const TOPIC_ALIAS_INVALID: u8 = 0x94;
    pub(crate) const PACKET_TOO_LARGE: u8 = 0x95;
    pub(crate) const QUOTA_EXCEEDED: u8 = 0x97;
}

/// Property identifiers of MQTT 5.
pub(crate) mod prop {
    pub(crate) const PAYLOAD_FORMAT: u8 = 0x01;
    pub(crate) const MESSAGE_EXPIRY: u8 = 0x02;
    pub(crate) const CONTENT_TYPE: u8 = 0x03;
    pub(crate) const RESPONSE_TOPIC: u8 = 0x08;
    pub(crate) const CORRELATION_DATA: u8 = 0x09;
    pub(crate) const SUBSCRIPTION_IDENTIFIER: u8 = 0x0B;
    pub(crate) const SESSION_EXPIRY: u8 = 0x11;
    pub(crate) const ASSIGNED_CLIENT_IDENTIFIER: u8 = 0x12;
    pub(crate) const SERVER_KEEP_ALIVE: u8 = 0x13;
    pub(crate) const AUTHENTICATION_METHOD: u8 = 0x15;
    pub(crate) const AUTHENTICATION_DATA: u8 = 0x16;
    pub(crate) const REQUEST_PROBLEM_INFORMATION: u8 = 0x17;
    pub(crate) const WILL_DELAY: u8 = 0x18;
    pub(crate) const REQUEST_RESPONSE_INFORMATION: u8 = 0x19;
    pub(crate) const RESPONSE_INFORMATION: u8 = 0x1A;
    pub(crate) const SERVER_REFERENCE: u8 = 0x1C;
    pub(crate) const REASON_STRING: u8 = 0x1F;
    pub(crate) const RECEIVE_MAXIMUM: u8 = 0x21;
    pub(crate) const TOPIC_ALIAS_MAXIMUM: u8 = 0x22;
    pub(crate) const TOPIC_ALIAS: u8 = 0x23;
    pub(crate) const MAXIMUM_QOS: u8 = 0x24;
    pub(crate) const RETAIN_AVAILABLE: u8 = 0x25;
    pub(crate) const USER_PROPERTY: u8 = 0x26;
    pub(crate) const MAXIMUM_PACKET_SIZE: u8 = 0x27;
    pub(crate) const WILDCARD_AVAILABLE: u8 = 0x28;
    pub(crate) const SUBSCRIPTION_IDENTIFIER_AVAILABLE: u8 = 0x29;
    pub(crate) const SHARED_AVAILABLE: u8 = 0x2A;
}

/// The value of a property, by its type on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Byte(u8),
    Two(u16),
    Four(u32),
    Variable(u32),
    Text(String),
    Binary(Vec<u8>),
    Pair(String, String),
}

/// Properties in the order of the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Props(pub(crate) Vec<(u8, Value)>);

impl Props {
    pub(crate) fn push(&mut self, id: u8, value: Value) {
        self.0.push((id, value));
    }

    pub(crate) fn find(&self, id: u8) -> Option<&Value> {
        self.0.iter().find(|(at, _)| *at == id).map(|(_, value)| value)
    }

    pub(crate) fn has(&self, id: u8) -> bool {
        self.find(id).is_some()
    }

    /// The value of a property of number type.
    pub(crate) fn number(&self, id: u8) -> Option<u32> {
        match self.find(id)? {
            Value::Byte(n) => Some(u32::from(*n)),
            Value::Two(n) => Some(u32::from(*n)),
            Value::Four(n) | Value::Variable(n) => Some(*n),
            other => panic!("property {id:#04x} is no number but {other:?}"),
        }
    }

    pub(crate) fn text(&self, id: u8) -> Option<&str> {
        match self.find(id)? {
            Value::Text(text) => Some(text),
            other => panic!("property {id:#04x} is no text but {other:?}"),
        }
    }

    pub(crate) fn user(&self) -> Vec<(&str, &str)> {
        let pairs = self.0.iter().filter_map(|(_, value)| match value {
            Value::Pair(name, value) => Some((name.as_str(), value.as_str())),
            _ => None,
        });
        pairs.collect()
    }

    /// The subscription identifiers, sorted, because their order means nothing.
    pub(crate) fn subscription_identifiers(&self) -> Vec<u32> {
        let mut found: Vec<u32> = self
            .0
            .iter()
            .filter(|(id, _)| *id == prop::SUBSCRIPTION_IDENTIFIER)
            .filter_map(|(_, value)| if let Value::Variable(n) = value { Some(*n) } else { None })
            .collect();
        found.sort_unstable();
        found
    }

    /// The block on the wire, with its length in front.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut block = Vec::new();
        for (id, value) in &self.0 {
            block.push(*id);
            match value {
                Value::Byte(n) => block.push(*n),
                Value::Two(n) => block.extend(n.to_be_bytes()),
                Value::Four(n) => block.extend(n.to_be_bytes()),
                Value::Variable(n) => block.extend(varint(*n)),
                Value::Text(text) => block.extend(string(text.as_bytes())),
                Value::Binary(bytes) => block.extend(string(bytes)),
                Value::Pair(name, value) => {
                    block.extend(string(name.as_bytes()));
                    block.extend(string(value.as_bytes()));
                }
            }
        }
        [varint(u32::try_from(block.len()).expect("a small block")), block].concat()
    }
}

/// A variable byte integer in its shortest form.
pub(crate) fn varint(mut n: u32) -> Vec<u8> {
    let mut out = Vec::new();
    loop {
        let low = u8::try_from(n & 0x7F).expect("seven bits");
        n >>= 7;
        if n == 0 {
            out.push(low);
            return out;
        }
        out.push(low | 0x80);
    }
}

/// Bytes with a two byte length in front, as strings and binary data are written.
pub(crate) fn string(bytes: &[u8]) -> Vec<u8> {
    let len = u16::try_from(bytes.len()).expect("a string of the wire");
    [&len.to_be_bytes()[..], bytes].concat()
}

/// A whole packet: first byte, remaining length, body.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let remaining = varint(u32::try_from(body.len()).expect("a packet of the wire"));
    [&[first][..], &remaining, body].concat()
}

/// Reads what the broker sent; whatever is wrong in it fails the test.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> &'a [u8] {
        assert!(count <= self.0.len(), "the broker sent a packet that ends too early");
        let (taken, rest) = self.0.split_at(count);
        self.0 = rest;
        taken
    }

    pub(crate) fn rest(&mut self) -> &'a [u8] {
        self.take(self.0.len())
    }

    pub(crate) fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }

    pub(crate) fn varint(&mut self) -> u32 {
        let mut n = 0;
        for shift in [0, 7, 14, 21] {
            let byte = self.u8();
            n |= u32::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                assert!(byte != 0 || shift == 0, "[MQTT-1.5.5-1] a number is written too long");
                return n;
            }
        }
        panic!("the broker sent a variable byte integer of more than four bytes");
    }

    pub(crate) fn binary(&mut self) -> &'a [u8] {
        let len = usize::from(self.u16());
        self.take(len)
    }

    pub(crate) fn text(&mut self) -> String {
        let text = std::str::from_utf8(self.binary()).expect("[MQTT-1.5.4-1] strings are UTF-8");
        assert!(!text.contains('\0'), "[MQTT-1.5.4-2] no string holds U+0000");
        text.to_owned()
    }

    pub(crate) fn props(&mut self) -> Props {
        let len = self.varint() as usize;
        let mut block = Reader(self.take(len));
        let mut props = Props::default();
        while !block.0.is_empty() {
            let id = block.u8();
            let value = block.value(id);
            props.push(id, value);
        }
        props
    }

    fn value(&mut self, id: u8) -> Value {
        match id {
            0x01 | 0x17 | 0x19 | 0x24 | 0x25 | 0x28..=0x2A => Value::Byte(self.u8()),
            0x13 | 0x21..=0x23 => Value::Two(self.u16()),
            0x02 | 0x11 | 0x18 | 0x27 => Value::Four(self.u32()),
            0x0B => Value::Variable(self.varint()),
            0x03 | 0x08 | 0x12 | 0x15 | 0x1A | 0x1C | 0x1F => Value::Text(self.text()),
            0x09 | 0x16 => Value::Binary(self.binary().to_vec()),
            0x26 => Value::Pair(self.text(), self.text()),
            other => panic!("the broker sent the unknown property {other:#04x}"),
        }
    }
}
