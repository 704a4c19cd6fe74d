//! mqttbytes, and what its packets mean in the words of this crate.

use bytes::BytesMut;
use longshore_codec::{
    Connect, Packet, PacketId, Properties, Property, QoS, Subscribe, Version, Will,
};
use mqttbytes::{v4, v5};

/// A packet as the oracle sees it.
#[derive(Debug)]
pub(crate) enum Theirs {
    V4(v4::Packet),
    V5(Box<v5::Packet>),
}

/// Reads the one packet that the bytes are; none if the oracle refuses it.
pub(crate) fn read(version: Version, bytes: &[u8]) -> Option<Theirs> {
    let mut stream = BytesMut::from(bytes);
    match version {
        Version::V5 => {
            v5::read(&mut stream, super::LIMIT).map(|packet| Theirs::V5(Box::new(packet)))
        }
        _ => v4::read(&mut stream, super::LIMIT).map(Theirs::V4),
    }
    .ok()
}

impl Theirs {
    pub(crate) fn write(&self) -> BytesMut {
        let mut out = BytesMut::new();
        match self {
            Self::V4(packet) => write_v4(packet, &mut out),
            Self::V5(packet) => write_v5(packet, &mut out),
        }
        .expect("the oracle writes what it has read");
        out
    }

    /// Asserts that the oracle's packet means what ours does.
    pub(crate) fn assert_same(&self, ours: &Packet<'_>) {
        let same = match self {
            Self::V4(theirs) => same_v4(ours, theirs),
            Self::V5(theirs) => same_v5(ours, theirs),
        };
        assert!(same, "ours {ours:?}\ntheirs {self:?}");
    }
}

fn write_v4(packet: &v4::Packet, out: &mut BytesMut) -> Result<usize, mqttbytes::Error> {
    match packet {
        v4::Packet::Connect(packet) => packet.write(out),
        v4::Packet::ConnAck(packet) => packet.write(out),
        v4::Packet::Publish(packet) => packet.write(out),
        v4::Packet::PubAck(packet) => packet.write(out),
        v4::Packet::PubRec(packet) => packet.write(out),
        v4::Packet::PubRel(packet) => packet.write(out),
        v4::Packet::PubComp(packet) => packet.write(out),
        v4::Packet::Subscribe(packet) => packet.write(out),
        v4::Packet::SubAck(packet) => packet.write(out),
        v4::Packet::Unsubscribe(packet) => packet.write(out),
        v4::Packet::UnsubAck(packet) => packet.write(out),
        v4::Packet::PingReq => v4::PingReq.write(out),
        v4::Packet::PingResp => v4::PingResp.write(out),
        v4::Packet::Disconnect => v4::Disconnect.write(out),
    }
}

fn write_v5(packet: &v5::Packet, out: &mut BytesMut) -> Result<usize, mqttbytes::Error> {
    match packet {
        v5::Packet::Connect(packet) => packet.write(out),
        v5::Packet::ConnAck(packet) => packet.write(out),
        v5::Packet::Publish(packet) => packet.write(out),
        v5::Packet::PubAck(packet) => packet.write(out),
        v5::Packet::PubRec(packet) => packet.write(out),
        v5::Packet::PubRel(packet) => packet.write(out),
        v5::Packet::PubComp(packet) => packet.write(out),
        v5::Packet::Subscribe(packet) => packet.write(out),
        v5::Packet::SubAck(packet) => packet.write(out),
        v5::Packet::Unsubscribe(packet) => packet.write(out),
        v5::Packet::UnsubAck(packet) => packet.write(out),
        v5::Packet::PingReq => v5::PingReq.write(out),
        v5::Packet::PingResp => v5::PingResp.write(out),
        v5::Packet::Disconnect(packet) => packet.write(out),
    }
}

fn same_v4(ours: &Packet<'_>, theirs: &v4::Packet) -> bool {
    match (ours, theirs) {
        (Packet::Connect(ours), v4::Packet::Connect(theirs)) => {
            let login = theirs.login.as_ref();
            ours.version == Version::V3_1_1
                && ours.clean_start == theirs.clean_session
                && ours.keep_alive == theirs.keep_alive
                && ours.client_id == theirs.client_id
                && ours.username.unwrap_or("") == login.map_or("", |login| &login.username)
                && ours.password.unwrap_or(b"")
                    == login.map_or(&b""[..], |login| login.password.as_bytes())
                && match (&ours.will, &theirs.last_will) {
                    (Some(ours), Some(theirs)) => {
                        same_will(ours, theirs.qos, theirs.retain, &theirs.topic, &theirs.message)
                    }
                    (ours, theirs) => ours.is_none() && theirs.is_none(),
                }
        }
        (Packet::Connack(ours), v4::Packet::ConnAck(theirs)) => {
            ours.session_present == theirs.session_present
                && ours.reason.connect_return_code() == theirs.code as u8
        }
        (Packet::Publish(ours), v4::Packet::Publish(theirs)) => {
            (ours.dup, ours.qos as u8, ours.retain) == (theirs.dup, theirs.qos as u8, theirs.retain)
                && ours.topic == theirs.topic.as_bytes()
                && ours.packet_id.map_or(0, PacketId::get) == theirs.pkid
                && ours.payload == theirs.payload
        }
        (Packet::Puback(ours), v4::Packet::PubAck(theirs)) => ours.packet_id.get() == theirs.pkid,
        (Packet::Pubrec(ours), v4::Packet::PubRec(theirs)) => ours.packet_id.get() == theirs.pkid,
        (Packet::Pubrel(ours), v4::Packet::PubRel(theirs)) => ours.packet_id.get() == theirs.pkid,
        (Packet::Pubcomp(ours), v4::Packet::PubComp(theirs)) => ours.packet_id.get() == theirs.pkid,
        (Packet::Subscribe(ours), v4::Packet::Subscribe(theirs)) => {
            let filters = ours.filters.iter().map(|(filter, options)| (filter, options.qos as u8));
            ours.packet_id.get() == theirs.pkid
                && filters.eq(theirs.filters.iter().map(|their| (&*their.path, their.qos as u8)))
        }
        (Packet::Suback(ours), v4::Packet::SubAck(theirs)) => {
            let codes = theirs.return_codes.iter().map(|code| match code {
                v4::SubscribeReasonCode::Success(qos) => *qos as u8,
                v4::SubscribeReasonCode::Failure => 0x80,
            });
            ours.packet_id.get() == theirs.pkid && codes.eq(ours.codes.iter().copied())
        }
        (Packet::Unsubscribe(ours), v4::Packet::Unsubscribe(theirs)) => {
            ours.packet_id.get() == theirs.pkid && ours.filters.iter().eq(theirs.topics.iter())
        }
        (Packet::Unsuback(ours), v4::Packet::UnsubAck(theirs)) => {
            ours.packet_id.get() == theirs.pkid
        }
        (Packet::Pingreq, v4::Packet::PingReq)
        | (Packet::Pingresp, v4::Packet::PingResp)
        | (Packet::Disconnect(_), v4::Packet::Disconnect) => true,
        _ => false,
    }
}

fn same_will(
    ours: &Will<'_>,
    qos: mqttbytes::QoS,
    retain: bool,
    topic: &str,
    message: &[u8],
) -> bool {
    (ours.qos as u8, ours.retain) == (qos as u8, retain)
        && ours.topic == topic
        && ours.payload == message
}

/// Compares an acknowledgement: identifier, reason, reason string and user properties.
macro_rules! same_ack {
    ($ours:expr, $theirs:expr) => {
        $ours.packet_id.get() == $theirs.pkid
            && $ours.reason.value() == $theirs.reason as u8
            && same_properties(&$ours.properties, words!(&$theirs.properties))
    };
}

/// The reason string and the user properties of an acknowledgement.
macro_rules! words {
    ($theirs:expr) => {
        $theirs.iter().flat_map(|theirs| {
            texts(Property::ReasonString, &theirs.reason_string)
                .chain(users(&theirs.user_properties))
        })
    };
}

fn same_v5(ours: &Packet<'_>, theirs: &v5::Packet) -> bool {
    match (ours, theirs) {
        (Packet::Connect(ours), v5::Packet::Connect(theirs)) => same_connect(ours, theirs),
        (Packet::Connack(ours), v5::Packet::ConnAck(theirs)) => {
            ours.session_present == theirs.session_present
                && ours.reason.value() == theirs.code as u8
                && same_properties(&ours.properties, theirs.properties.iter().flat_map(of_connack))
        }
        (Packet::Publish(ours), v5::Packet::Publish(theirs)) => {
            (ours.dup, ours.qos as u8, ours.retain) == (theirs.dup, theirs.qos as u8, theirs.retain)
                && ours.topic == theirs.topic.as_bytes()
                && ours.packet_id.map_or(0, PacketId::get) == theirs.pkid
                && ours.payload == theirs.payload
                && same_properties(&ours.properties, theirs.properties.iter().flat_map(of_publish))
        }
        (Packet::Puback(ours), v5::Packet::PubAck(theirs)) => same_ack!(ours, theirs),
        (Packet::Pubrec(ours), v5::Packet::PubRec(theirs)) => same_ack!(ours, theirs),
        (Packet::Pubrel(ours), v5::Packet::PubRel(theirs)) => same_ack!(ours, theirs),
        (Packet::Pubcomp(ours), v5::Packet::PubComp(theirs)) => same_ack!(ours, theirs),
        (Packet::Subscribe(ours), v5::Packet::Subscribe(theirs)) => same_subscribe(ours, theirs),
        (Packet::Suback(ours), v5::Packet::SubAck(theirs)) => {
            ours.packet_id.get() == theirs.pkid
                && theirs.return_codes.iter().map(|code| *code as u8).eq(ours.codes.iter().copied())
                && same_properties(&ours.properties, words!(&theirs.properties))
        }
        (Packet::Unsubscribe(ours), v5::Packet::Unsubscribe(theirs)) => {
            let properties =
                theirs.properties.iter().flat_map(|theirs| users(&theirs.user_properties));
            ours.packet_id.get() == theirs.pkid
                && ours.filters.iter().eq(theirs.filters.iter())
                && same_properties(&ours.properties, properties)
        }
        (Packet::Unsuback(ours), v5::Packet::UnsubAck(theirs)) => {
            ours.packet_id.get() == theirs.pkid
                && theirs.reasons.iter().map(|code| *code as u8).eq(ours.codes.iter().copied())
                && same_properties(&ours.properties, words!(&theirs.properties))
        }
        (Packet::Disconnect(ours), v5::Packet::Disconnect(theirs)) => {
            let properties = theirs.properties.iter().flat_map(|theirs| {
                (theirs.session_expiry_interval.iter().copied())
                    .map(Property::SessionExpiryInterval)
                    .chain(texts(Property::ServerReference, &theirs.server_reference))
                    .chain(texts(Property::ReasonString, &theirs.reason_string))
                    .chain(users(&theirs.user_properties))
            });
            ours.reason.value() == theirs.reason_code as u8
                && same_properties(&ours.properties, properties)
        }
        (Packet::Pingreq, v5::Packet::PingReq) | (Packet::Pingresp, v5::Packet::PingResp) => true,
        _ => false,
    }
}

fn same_connect(ours: &Connect<'_>, theirs: &v5::Connect) -> bool {
    let login = theirs.login.as_ref();
    ours.version == Version::V5
        && ours.clean_start == theirs.clean_session
        && ours.keep_alive == theirs.keep_alive
        && ours.client_id == theirs.client_id
        && ours.username.unwrap_or("") == login.map_or("", |login| &login.username)
        && ours.password.unwrap_or(b"") == login.map_or(&b""[..], |login| login.password.as_bytes())
        && same_properties(&ours.properties, theirs.properties.iter().flat_map(of_connect))
        && match (&ours.will, &theirs.last_will) {
            (Some(ours), Some(theirs)) => {
                same_will(ours, theirs.qos, theirs.retain, &theirs.topic, &theirs.message)
                    && same_properties(&ours.properties, theirs.properties.iter().flat_map(of_will))
            }
            (ours, theirs) => ours.is_none() && theirs.is_none(),
        }
}

fn same_subscribe(ours: &Subscribe<'_>, theirs: &v5::Subscribe) -> bool {
    let filters = ours.filters.iter().map(|(filter, options)| {
        let bits = (options.no_local, options.retain_as_published);
        (filter, options.qos as u8, bits, options.retain_handling as u8)
    });
    let theirs_filters = theirs.filters.iter().map(|their| {
        let bits = (their.nolocal, their.preserve_retain);
        let handling = match their.retain_forward_rule {
            v5::RetainForwardRule::OnEverySubscribe => 0,
            v5::RetainForwardRule::OnNewSubscribe => 1,
            v5::RetainForwardRule::Never => 2,
        };
        (&*their.path, their.qos as u8, bits, handling)
    });
    let properties = theirs.properties.iter().flat_map(|theirs| {
        (theirs.id.iter().map(|id| Property::SubscriptionIdentifier(*id as u32)))
            .chain(users(&theirs.user_properties))
    });
    ours.packet_id.get() == theirs.pkid
        && filters.eq(theirs_filters)
        && same_properties(&ours.properties, properties)
}

/// Compares property by property. The order of different properties means nothing (MQTT 5.0,
/// 2.2.2.2), that of user properties does.
fn same_properties<'a>(ours: &Properties<'a>, theirs: impl Iterator<Item = Property<'a>>) -> bool {
    let mut ours: Vec<Property<'_>> =
        ours.iter().map(|property| property.expect("legal")).collect();
    let mut theirs: Vec<Property<'_>> = theirs.collect();
    ours.sort_by_key(Property::id);
    theirs.sort_by_key(Property::id);
    ours == theirs
}

fn texts<'a>(
    make: fn(&'a str) -> Property<'a>,
    text: &'a Option<String>,
) -> impl Iterator<Item = Property<'a>> {
    text.iter().map(move |text| make(text))
}

fn flags<'a>(
    make: fn(bool) -> Property<'a>,
    flag: Option<u8>,
) -> impl Iterator<Item = Property<'a>> {
    flag.into_iter().map(move |flag| make(flag == 1))
}

fn users(pairs: &[(String, String)]) -> impl Iterator<Item = Property<'_>> {
    pairs.iter().map(|(name, value)| Property::UserProperty(name, value))
}

fn of_connect(theirs: &v5::ConnectProperties) -> Vec<Property<'_>> {
    let data = theirs.authentication_data.iter().map(|data| Property::AuthenticationData(data));
    (theirs.session_expiry_interval.into_iter().map(Property::SessionExpiryInterval))
        .chain(theirs.receive_maximum.into_iter().map(Property::ReceiveMaximum))
        .chain(theirs.max_packet_size.into_iter().map(Property::MaximumPacketSize))
        .chain(theirs.topic_alias_max.into_iter().map(Property::TopicAliasMaximum))
        .chain(flags(Property::RequestResponseInformation, theirs.request_response_info))
        .chain(flags(Property::RequestProblemInformation, theirs.request_problem_info))
        .chain(texts(Property::AuthenticationMethod, &theirs.authentication_method))
        .chain(data)
        .chain(users(&theirs.user_properties))
        .collect()
}

fn of_will(theirs: &v5::WillProperties) -> Vec<Property<'_>> {
    let data = theirs.correlation_data.iter().map(|data| Property::CorrelationData(data));
    (theirs.delay_interval.into_iter().map(Property::WillDelayInterval))
        .chain(flags(Property::PayloadFormatIndicator, theirs.payload_format_indicator))
        .chain(theirs.message_expiry_interval.into_iter().map(Property::MessageExpiryInterval))
        .chain(texts(Property::ContentType, &theirs.content_type))
        .chain(texts(Property::ResponseTopic, &theirs.response_topic))
        .chain(data)
        .chain(users(&theirs.user_properties))
        .collect()
}

fn of_publish(theirs: &v5::PublishProperties) -> Vec<Property<'_>> {
    let data = theirs.correlation_data.iter().map(|data| Property::CorrelationData(data));
    let ids = theirs.subscription_identifiers.iter();
    flags(Property::PayloadFormatIndicator, theirs.payload_format_indicator)
        .chain(theirs.message_expiry_interval.into_iter().map(Property::MessageExpiryInterval))
        .chain(theirs.topic_alias.into_iter().map(Property::TopicAlias))
        .chain(texts(Property::ContentType, &theirs.content_type))
        .chain(texts(Property::ResponseTopic, &theirs.response_topic))
        .chain(ids.map(|id| Property::SubscriptionIdentifier(*id as u32)))
        .chain(data)
        .chain(users(&theirs.user_properties))
        .collect()
}

fn of_connack(theirs: &v5::ConnAckProperties) -> Vec<Property<'_>> {
    let qos = |qos| if qos == 1 { QoS::AtLeastOnce } else { QoS::AtMostOnce };
    let data = theirs.authentication_data.iter().map(|data| Property::AuthenticationData(data));
    let client_id = &theirs.assigned_client_identifier;
    (theirs.session_expiry_interval.into_iter().map(Property::SessionExpiryInterval))
        .chain(theirs.receive_max.into_iter().map(Property::ReceiveMaximum))
        .chain(theirs.max_qos.into_iter().map(|max| Property::MaximumQoS(qos(max))))
        .chain(flags(Property::RetainAvailable, theirs.retain_available))
        .chain(theirs.max_packet_size.into_iter().map(Property::MaximumPacketSize))
        .chain(texts(Property::AssignedClientIdentifier, client_id))
        .chain(theirs.topic_alias_max.into_iter().map(Property::TopicAliasMaximum))
        .chain(texts(Property::ReasonString, &theirs.reason_string))
        .chain(flags(
            Property::WildcardSubscriptionAvailable,
            theirs.wildcard_subscription_available,
        ))
        .chain(flags(
            Property::SubscriptionIdentifierAvailable,
            theirs.subscription_identifiers_available,
        ))
        .chain(flags(Property::SharedSubscriptionAvailable, theirs.shared_subscription_available))
        .chain(theirs.server_keep_alive.into_iter().map(Property::ServerKeepAlive))
        .chain(texts(Property::ResponseInformation, &theirs.response_information))
        .chain(texts(Property::ServerReference, &theirs.server_reference))
        .chain(texts(Property::AuthenticationMethod, &theirs.authentication_method))
        .chain(data)
        .chain(users(&theirs.user_properties))
        .collect()
}
