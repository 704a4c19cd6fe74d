//! Packets out of bytes: every choice a packet leaves open is made by the next byte.

use longshore_codec::{
    Ack, Auth, Carrier, Connack, Connect, Disconnect, Packet, PacketId, PacketType, Properties,
    Property, Publish, QoS, ReasonCode, RetainHandling, Suback, Subscribe, SubscribeOptions,
    Subscriptions, TopicFilters, Unsuback, Unsubscribe, Version, Will,
};

/// Choices, made by bytes; when they have run out, the first choice is always made.
pub(crate) struct Source<'a> {
    bytes: core::slice::Iter<'a, u8>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: bytes.iter() }
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or(0)
    }

    /// A number below `end`, which is at most 256 and not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    fn flag(&mut self) -> bool {
        self.below(2) == 1
    }

    fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    fn packet_id(&mut self) -> PacketId {
        PacketId::new(self.u16()).unwrap_or(PacketId::MIN)
    }

    fn qos(&mut self) -> QoS {
        [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][self.below(3)]
    }

    /// Mostly short, at times of a length that needs two bytes, rarely the longest.
    fn len(&mut self) -> usize {
        match self.below(64) {
            63 if self.below(16) == 15 => 65_535,
            60..=63 => 120 + self.below(160),
            other => other % 6,
        }
    }

    fn text(&mut self) -> String {
        const LETTERS: [char; 12] =
            ['a', 'b', '/', '/', '$', ' ', '+', '#', '\u{e9}', '\u{2a6d4}', '\u{feff}', '\u{1}'];
        let len = self.len();
        let mut text = String::new();
        while text.len() + 4 <= len {
            // A long text repeats one letter rather than use up the bytes.
            let run = if len > 6 { len / 4 - text.len() / 4 } else { 1 };
            let letter = LETTERS[self.below(LETTERS.len())];
            text.extend(core::iter::repeat_n(letter, run));
        }
        text
    }

    fn topic(&mut self) -> String {
        let text = self.text().replace(['+', '#'], "x");
        if text.is_empty() { "t".to_owned() } else { text }
    }

    fn binary(&mut self) -> Vec<u8> {
        let len = self.len();
        if len > 6 { vec![self.byte(); len] } else { (0..len).map(|_| self.byte()).collect() }
    }

    /// A reason that a packet of this type may carry.
    fn reason(&mut self, packet: PacketType) -> ReasonCode {
        let legal: Vec<ReasonCode> = (0..=u8::MAX)
            .filter_map(ReasonCode::from_u8)
            .filter(|reason| reason.belongs_in(packet))
            .collect();
        legal[self.below(legal.len())]
    }

    /// A reason, or success where the version has no other.
    fn version_reason(&mut self, version: Version, packet: PacketType) -> ReasonCode {
        if version == Version::V5 { self.reason(packet) } else { ReasonCode::Success }
    }

    /// A block that is legal there; empty before 5.0.
    fn properties(&mut self, version: Version, carrier: Carrier) -> Vec<u8> {
        let mut block = Vec::new();
        if version < Version::V5 {
            return block;
        }
        for _ in 0..self.below(8) {
            let whole = block.len();
            let (text, more, binary) = (self.text(), self.topic(), self.binary());
            self.property(&text, &more, &binary).append(&mut block);
            if Properties::from_raw(&block).validate(carrier).is_err() {
                block.truncate(whole);
            }
        }
        block
    }

    fn property<'p>(&mut self, text: &'p str, topic: &'p str, data: &'p [u8]) -> Property<'p> {
        match self.below(32) {
            0 => Property::PayloadFormatIndicator(self.flag()),
            1 => Property::MessageExpiryInterval(self.u32()),
            2 => Property::ContentType(text),
            3 => Property::ResponseTopic(topic),
            4 => Property::CorrelationData(data),
            5 | 6 => Property::SubscriptionIdentifier(
                (self.u32() >> self.below(28)).clamp(1, 268_435_455),
            ),
            7 => Property::SessionExpiryInterval(self.u32()),
            8 => Property::AssignedClientIdentifier(text),
            9 => Property::ServerKeepAlive(self.u16()),
            10 | 11 => Property::AuthenticationMethod(text),
            12 => Property::AuthenticationData(data),
            13 => Property::RequestProblemInformation(self.flag()),
            14 => Property::WillDelayInterval(self.u32()),
            15 => Property::RequestResponseInformation(self.flag()),
            16 => Property::ResponseInformation(text),
            17 => Property::ServerReference(text),
            18 => Property::ReasonString(text),
            19 => Property::ReceiveMaximum(self.u16().max(1)),
            20 => Property::TopicAliasMaximum(self.u16()),
            21 => Property::TopicAlias(self.u16().max(1)),
            22 => Property::MaximumQoS([QoS::AtMostOnce, QoS::AtLeastOnce][self.below(2)]),
            23 => Property::RetainAvailable(self.flag()),
            24 => Property::MaximumPacketSize(self.u32().max(1)),
            25 => Property::WildcardSubscriptionAvailable(self.flag()),
            26 => Property::SubscriptionIdentifierAvailable(self.flag()),
            27 => Property::SharedSubscriptionAvailable(self.flag()),
            _ => Property::UserProperty(text, topic),
        }
    }
}

/// Builds one legal packet of the version and hands it on.
pub(crate) fn with_packet(
    version: Version,
    source: &mut Source<'_>,
    then: &mut dyn FnMut(&Packet<'_>),
) {
    let types = if version == Version::V5 { 15 } else { 14 };
    match source.below(types) {
        0 | 1 => with_connect(version, source, then),
        2 => with_connack(version, source, then),
        3 => with_publish(version, source, then),
        kind @ 4..=7 => with_ack(version, kind, source, then),
        8 => with_subscribe(version, source, then),
        9 => with_suback(version, source, then),
        10 => with_unsubscribe(version, source, then),
        11 => with_unsuback(version, source, then),
        12 => then(&if source.flag() { Packet::Pingreq } else { Packet::Pingresp }),
        13 => {
            let reason = source.version_reason(version, PacketType::Disconnect);
            let block = source.properties(version, Carrier::Disconnect);
            let properties = Properties::from_raw(&block);
            then(&Packet::Disconnect(Disconnect { reason, properties }));
        }
        _ => with_auth(source, then),
    }
}

fn with_connect(version: Version, source: &mut Source<'_>, then: &mut dyn FnMut(&Packet<'_>)) {
    let (client_id, username, password) = (source.text(), source.text(), source.binary());
    let (topic, payload) = (source.topic(), source.binary());
    let block = source.properties(version, Carrier::Connect);
    let will_block = source.properties(version, Carrier::Will);
    let will = Will {
        qos: source.qos(),
        retain: source.flag(),
        topic: &topic,
        payload: &payload,
        properties: Properties::from_raw(&will_block),
    };
    let username = source.flag().then_some(username.as_str());
    let lone_password = version == Version::V5;
    then(&Packet::Connect(Connect {
        version,
        clean_start: source.flag(),
        keep_alive: source.u16(),
        client_id: &client_id,
        will: source.flag().then_some(will),
        username,
        password: (source.flag() && (username.is_some() || lone_password)).then_some(&password),
        properties: Properties::from_raw(&block),
    }));
}

fn with_connack(version: Version, source: &mut Source<'_>, then: &mut dyn FnMut(&Packet<'_>)) {
    const OLDER: [ReasonCode; 6] = [
        ReasonCode::Success,
        ReasonCode::UnsupportedProtocolVersion,
        ReasonCode::ClientIdentifierNotValid,
        ReasonCode::ServerUnavailable,
        ReasonCode::BadUserNameOrPassword,
        ReasonCode::NotAuthorized,
    ];
    let reason = match version {
        Version::V5 => source.reason(PacketType::Connack),
        Version::V3_1 | Version::V3_1_1 => OLDER[source.below(6)],
    };
    let session_present = source.flag() && !reason.is_error() && version > Version::V3_1;
    let block = source.properties(version, Carrier::Connack);
    let properties = Properties::from_raw(&block);
    then(&Packet::Connack(Connack { session_present, reason, properties }));
}

fn with_publish(version: Version, source: &mut Source<'_>, then: &mut dyn FnMut(&Packet<'_>)) {
    let qos = source.qos();
    let topic =
        if version == Version::V5 && source.below(8) == 1 { String::new() } else { source.topic() };
    let block = source.properties(version, Carrier::Publish);
    let payload = source.binary();
    then(&Packet::Publish(Publish {
        dup: qos > QoS::AtMostOnce && source.flag(),
        qos,
        retain: source.flag(),
        topic: topic.as_bytes(),
        packet_id: (qos > QoS::AtMostOnce).then(|| source.packet_id()),
        properties: Properties::from_raw(&block),
        payload: &payload,
    }));
}

fn with_ack(
    version: Version,
    kind: usize,
    source: &mut Source<'_>,
    then: &mut dyn FnMut(&Packet<'_>),
) {
    let (packet_type, carrier) = [
        (PacketType::Puback, Carrier::Puback),
        (PacketType::Pubrec, Carrier::Pubrec),
        (PacketType::Pubrel, Carrier::Pubrel),
        (PacketType::Pubcomp, Carrier::Pubcomp),
    ][kind - 4];
    let block = source.properties(version, carrier);
    let ack = Ack {
        packet_id: source.packet_id(),
        reason: source.version_reason(version, packet_type),
        properties: Properties::from_raw(&block),
    };
    then(&match packet_type {
        PacketType::Puback => Packet::Puback(ack),
        PacketType::Pubrec => Packet::Pubrec(ack),
        PacketType::Pubrel => Packet::Pubrel(ack),
        _ => Packet::Pubcomp(ack),
    });
}

fn with_subscribe(version: Version, source: &mut Source<'_>, then: &mut dyn FnMut(&Packet<'_>)) {
    let mut raw = Vec::new();
    for _ in 0..=source.below(4) {
        let mut options = SubscribeOptions::new(source.qos());
        if version == Version::V5 {
            options.no_local = source.flag();
            options.retain_as_published = source.flag();
            options.retain_handling =
                [RetainHandling::Send, RetainHandling::SendIfNew, RetainHandling::DoNotSend]
                    [source.below(3)];
        }
        Subscriptions::append(&source.text(), options, &mut raw);
    }
    let block = source.properties(version, Carrier::Subscribe);
    then(&Packet::Subscribe(Subscribe {
        packet_id: source.packet_id(),
        properties: Properties::from_raw(&block),
        filters: Subscriptions::decode(version, &raw).expect("legal subscriptions"),
    }));
}

fn with_suback(version: Version, source: &mut Source<'_>, then: &mut dyn FnMut(&Packet<'_>)) {
    let mut codes = Vec::new();
    for _ in 0..=source.below(4) {
        codes.push(match version {
            Version::V5 => source.reason(PacketType::Suback).value(),
            Version::V3_1 | Version::V3_1_1 => [0, 1, 2, 0x80][source.below(4)],
        });
    }
    let block = source.properties(version, Carrier::Suback);
    let properties = Properties::from_raw(&block);
    then(&Packet::Suback(Suback { packet_id: source.packet_id(), properties, codes: &codes }));
}

fn with_unsubscribe(version: Version, source: &mut Source<'_>, then: &mut dyn FnMut(&Packet<'_>)) {
    let mut raw = Vec::new();
    for _ in 0..=source.below(4) {
        TopicFilters::append(&source.text(), &mut raw);
    }
    let block = source.properties(version, Carrier::Unsubscribe);
    then(&Packet::Unsubscribe(Unsubscribe {
        packet_id: source.packet_id(),
        properties: Properties::from_raw(&block),
        filters: TopicFilters::decode(&raw).expect("legal filters"),
    }));
}

fn with_unsuback(version: Version, source: &mut Source<'_>, then: &mut dyn FnMut(&Packet<'_>)) {
    let mut codes = Vec::new();
    if version == Version::V5 {
        for _ in 0..=source.below(4) {
            codes.push(source.reason(PacketType::Unsuback).value());
        }
    }
    let block = source.properties(version, Carrier::Unsuback);
    let properties = Properties::from_raw(&block);
    then(&Packet::Unsuback(Unsuback { packet_id: source.packet_id(), properties, codes: &codes }));
}

fn with_auth(source: &mut Source<'_>, then: &mut dyn FnMut(&Packet<'_>)) {
    let mut block = source.properties(Version::V5, Carrier::Auth);
    let method = source.text();
    let reason = source.reason(PacketType::Auth);
    let said = reason != ReasonCode::Success || !block.is_empty();
    if said && Properties::from_raw(&block).authentication_method().is_none() {
        Property::AuthenticationMethod(&method).append(&mut block);
    }
    then(&Packet::Auth(Auth { reason, properties: Properties::from_raw(&block) }));
}
