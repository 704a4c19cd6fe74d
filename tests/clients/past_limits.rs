//! Every limit as a client comes to feel it: what it sends, what it gets, what the log says.

use longshore::codec::wire::put_varint;
use longshore::codec::{
    Connect, Packet, PacketId, PacketType, Properties, Property, Publish, QoS, SubscribeOptions,
    Subscriptions, TopicFilters, Version, Will,
};

use super::wire;
use crate::Got;

/// Limits that nobody is refused by, and what they do instead.
pub(crate) const NO_ROW: &[(&str, &str)] = &[
    ("handshakes", "Further ones wait their turn; broker/tests/transports/patience.rs has them."),
    ("output_bytes", "QoS 0 beyond is dropped and counted: tests/protocol/limits.rs has that."),
    ("output_bytes_total", "As output_bytes; tests/protocol/limits.rs has that, too."),
    ("topic_aliases_out", "It bounds what the broker sets of its own accord."),
    ("queue_memory", "What exceeds it goes to a file; tests/memory.rs has that."),
    ("inflight", "What does not fit waits in the queue: tests/protocol/limits.rs has that."),
    ("session_expiry_secs", "What is longer is lowered and told: tests/protocol/limits.rs."),
    ("keep_alive_secs", "It is imposed and told: tests/protocol/keep_alive.rs has that."),
    ("route_cache_bytes", "It is emptied when it is full; only its broker notices."),
    ("request_bytes", "It bounds REST: broker/tests/rest/hostile.rs has that."),
    ("request_bytes_total", "As request_bytes; broker/tests/rest/hostile.rs has that, too."),
    ("request_secs", "It bounds REST: broker/tests/rest/hostile.rs has that."),
];

/// Whom the line of the log names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Who {
    /// The address that the client comes from.
    Peer,
    Client(&'static str),
}

/// A connection that was there before the client.
pub(crate) struct Before {
    pub(crate) bytes: Vec<u8>,
    /// Answers that show that all was read.
    pub(crate) packets: usize,
}

/// One way past a limit.
pub(crate) struct Row {
    /// Begins with the field of `Limits`.
    pub(crate) name: &'static str,
    pub(crate) version: Version,
    /// Fields of `Limits` and their values. The pair that must not notice lives with them, too.
    pub(crate) settings: &'static [(&'static str, &'static str)],
    pub(crate) before: Vec<Before>,
    /// What the client sends, in one piece.
    pub(crate) sends: Vec<u8>,
    /// What it gets, messages aside.
    pub(crate) gets: Vec<Got>,
    pub(crate) goes_on: bool,
    /// Those before have left by themselves.
    pub(crate) ends_others: bool,
    pub(crate) who: Who,
    /// A part of the line of the log.
    pub(crate) why: &'static str,
}

impl Row {
    /// A row whose client is closed unanswered.
    fn new(
        name: &'static str,
        settings: &'static [(&'static str, &'static str)],
        sends: Vec<u8>,
        why: &'static str,
    ) -> Self {
        Self {
            name,
            version: Version::V5,
            settings,
            before: Vec::new(),
            sends,
            gets: Vec::new(),
            goes_on: false,
            ends_others: false,
            who: Who::Client("c"),
            why,
        }
    }

    fn v3(self) -> Self {
        Self { version: Version::V3_1_1, ..self }
    }

    fn before(mut self, bytes: Vec<u8>, packets: usize) -> Self {
        self.before.push(Before { bytes, packets });
        self
    }

    fn gets(self, gets: &[Got]) -> Self {
        Self { gets: gets.to_vec(), ..self }
    }

    fn goes_on(self) -> Self {
        Self { goes_on: true, ..self }
    }

    fn of(self, who: Who) -> Self {
        Self { who, ..self }
    }

    /// The field of `Limits`.
    pub(crate) fn limit(&self) -> &'static str {
        self.name.split(' ').next().unwrap_or_default()
    }
}

// ---- what comes back

const WELCOME: u8 = 0;
const UNSPECIFIED: u8 = 0x80;
const UNAVAILABLE: u8 = 0x88;
const KEEP_ALIVE_TIMEOUT: u8 = 0x8d;
const FILTER_INVALID: u8 = 0x8f;
const TOPIC_INVALID: u8 = 0x90;
const RECEIVE_MAXIMUM_EXCEEDED: u8 = 0x93;
const ALIAS_INVALID: u8 = 0x94;
const TOO_LARGE: u8 = 0x95;
const QUOTA_EXCEEDED: u8 = 0x97;

fn connack(code: u8) -> Got {
    (PacketType::Connack, vec![code])
}

fn suback(codes: &[u8]) -> Got {
    (PacketType::Suback, codes.to_vec())
}

fn puback(code: u8) -> Got {
    (PacketType::Puback, vec![code])
}

fn pubrec(code: u8) -> Got {
    (PacketType::Pubrec, vec![code])
}

fn disconnect(code: u8) -> Got {
    (PacketType::Disconnect, vec![code])
}

// ---- what is sent

const V3: Version = Version::V3_1_1;
const V5: Version = Version::V5;

fn block(properties: &[Property<'_>]) -> Vec<u8> {
    let mut block = Vec::new();
    properties.iter().for_each(|property| property.append(&mut block));
    block
}

/// CONNECT of the client `c`, and behind it what else it sends.
fn online(version: Version, more: &[Vec<u8>]) -> Vec<u8> {
    [wire::connect(version, "c", true), more.concat()].concat()
}

fn connect(client_id: &str, properties: &[Property<'_>], will: Option<Will<'_>>) -> Vec<u8> {
    let block = block(properties);
    let connect = Connect {
        version: V5,
        clean_start: true,
        keep_alive: 0,
        client_id,
        will,
        username: None,
        password: None,
        properties: Properties::from_raw(&block),
    };
    wire::packet(V5, &Packet::Connect(connect))
}

fn will(topic: &str) -> Will<'_> {
    let properties = Properties::none();
    Will { qos: QoS::AtMostOnce, retain: true, topic, payload: &[b'x'; 100], properties }
}

fn subscribe(version: Version, id: u8, filters: &[&str]) -> Vec<u8> {
    let mut body = vec![0, id];
    if version == V5 {
        body.push(0);
    }
    for filter in filters {
        Subscriptions::append(filter, SubscribeOptions::new(QoS::AtLeastOnce), &mut body);
    }
    framed(0x82, &body)
}

fn unsubscribe(version: Version, id: u8, filters: &[&str]) -> Vec<u8> {
    let mut body = vec![0, id];
    if version == V5 {
        body.push(0);
    }
    filters.iter().for_each(|filter| TopicFilters::append(filter, &mut body));
    framed(0xa2, &body)
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    put_varint(&mut packet, u32::try_from(body.len()).expect("a small body"));
    packet.extend_from_slice(body);
    packet
}

/// PUBLISH at QoS 1 with this identifier.
fn publish(version: Version, topic: &str, id: u16) -> Vec<u8> {
    wire::publish(version, topic, 1, id, &[b'x'; 100])
}

fn retained(version: Version, topic: &str, qos: u8) -> Vec<u8> {
    let mut packet = wire::publish(version, topic, qos, 1, &[b'x'; 100]);
    packet[0] |= 1;
    packet
}

fn publish_with(topic: &str, properties: &[Property<'_>]) -> Vec<u8> {
    let block = block(properties);
    let publish = Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: topic.as_bytes(),
        packet_id: PacketId::new(1),
        properties: Properties::from_raw(&block),
        payload: b"x",
    };
    wire::packet(V5, &Packet::Publish(publish))
}

/// The start of a PUBLISH of 1,000 bytes.
fn unfinished(bytes: usize) -> Vec<u8> {
    let mut packet = wire::publish(V5, "t", 0, 0, &[b'x'; 1_000]);
    packet.truncate(bytes);
    packet
}

/// All rows. A limit of connections or sessions counts the pair's two.
pub(crate) fn rows() -> Vec<Row> {
    [
        connections(),
        first_packets(),
        packets(),
        topics(),
        subscriptions(),
        filters(),
        windows(),
        queues(),
        kept(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn connections() -> Vec<Row> {
    let connect_v5 = || wire::connect(V5, "c", true);
    let cause = "(limits.sessions)";
    vec![
        Row::new("connections", &[("connections", "2")], connect_v5(), "(limits.connections)")
            .of(Who::Peer),
        Row::new(
            "connections_per_address",
            &[("connections_per_address", "2")],
            connect_v5(),
            "(limits.connections_per_address)",
        )
        .of(Who::Peer),
        Row::new(
            "connect_timeout_secs",
            &[("connect_timeout_secs", "1")],
            connect_v5()[..10].to_vec(),
            "(limits.connect_timeout_secs)",
        )
        .of(Who::Peer),
        Row::new("sessions", &[("sessions", "2")], connect_v5(), cause)
            .gets(&[connack(QUOTA_EXCEEDED)])
            .of(Who::Peer),
        Row::new("sessions", &[("sessions", "2")], wire::connect(V3, "c", true), cause)
            .v3()
            .gets(&[connack(UNAVAILABLE)])
            .of(Who::Peer),
    ]
}

fn first_packets() -> Vec<Row> {
    let long = "c".repeat(300);
    let half = || wire::connect(V5, &long, true)[..200].to_vec();
    vec![
        Row::new(
            "connect_bytes",
            &[("connect_bytes", "200")],
            wire::connect(V5, &long, true),
            "(limits.connect_bytes)",
        )
        .gets(&[connack(TOO_LARGE)])
        .of(Who::Peer),
        Row::new(
            "connect_bytes of MQTT 3.1.1",
            &[("connect_bytes", "200")],
            wire::connect(V3, &long, true),
            "(limits.connect_bytes)",
        )
        .v3()
        .of(Who::Peer),
        Row::new(
            "connect_bytes_total",
            &[("connect_bytes_total", "300")],
            half(),
            "(limits.connect_bytes_total)",
        )
        .before(half(), 0)
        .of(Who::Peer),
        Row::new(
            "will_bytes",
            &[("will_bytes", "50")],
            connect("c", &[], Some(will("t"))),
            "(limits.will_bytes)",
        )
        .gets(&[connack(QUOTA_EXCEEDED)])
        .of(Who::Peer),
    ]
}

fn packets() -> Vec<Row> {
    let large = |version| online(version, &[wire::publish(version, "t", 0, 0, &[0; 1_000])]);
    let user = Property::UserProperty("name", "value");
    let users = "(limits.user_properties)";
    vec![
        Row::new("packet_bytes", &[("packet_bytes", "500")], large(V5), "(limits.packet_bytes)")
            .gets(&[connack(WELCOME), disconnect(TOO_LARGE)]),
        Row::new("packet_bytes", &[("packet_bytes", "500")], large(V3), "(limits.packet_bytes)")
            .v3()
            .gets(&[connack(WELCOME)]),
        Row::new(
            "packet_secs",
            &[("packet_secs", "1")],
            online(V5, &[unfinished(100)]),
            "(limits.packet_secs)",
        )
        .gets(&[connack(WELCOME), disconnect(KEEP_ALIVE_TIMEOUT)]),
        Row::new(
            "input_bytes",
            &[("input_bytes", "500")],
            online(V5, &[unfinished(300)]),
            "(limits.input_bytes)",
        )
        .before([wire::connect(V5, "first", true), unfinished(300)].concat(), 1)
        .gets(&[connack(WELCOME), disconnect(QUOTA_EXCEEDED)]),
        Row::new(
            "user_properties of CONNECT",
            &[("user_properties", "1")],
            connect("c", &[user, user], None),
            users,
        )
        .gets(&[connack(QUOTA_EXCEEDED)])
        .of(Who::Peer),
        Row::new(
            "user_properties of PUBLISH",
            &[("user_properties", "1")],
            online(V5, &[publish_with("t", &[user, user])]),
            users,
        )
        .gets(&[connack(WELCOME), disconnect(QUOTA_EXCEEDED)]),
    ]
}

fn topics() -> Vec<Row> {
    const LEVELS: &[(&str, &str)] = &[("topic_levels", "3")];
    const BYTES: &[(&str, &str)] = &[("topic_bytes", "30")];
    const LONG: &str = "0123456789/0123456789/0123456789";
    let mut rows = Vec::new();
    for (name, settings, topic, why) in [
        ("topic_levels", LEVELS, "a/b/c/d", "(limits.topic_levels)"),
        ("topic_bytes", BYTES, LONG, "(limits.topic_bytes)"),
    ] {
        for (version, code) in [(V5, FILTER_INVALID), (V3, UNSPECIFIED)] {
            let sends = online(version, &[subscribe(version, 1, &["a", topic])]);
            let row = Row::new(name, settings, sends, why)
                .gets(&[connack(WELCOME), suback(&[1, code])])
                .goes_on();
            rows.push(Row { version, ..row });
        }
        let publish = |version| online(version, &[publish(version, topic, 1)]);
        rows.push(
            Row::new(name, settings, publish(V5), why)
                .gets(&[connack(WELCOME), disconnect(TOPIC_INVALID)]),
        );
        rows.push(Row::new(name, settings, publish(V3), why).v3().gets(&[connack(WELCOME)]));
        rows.push(
            Row::new(name, settings, connect("c", &[], Some(will(topic))), why)
                .gets(&[connack(TOPIC_INVALID)])
                .of(Who::Peer),
        );
    }
    rows.push(
        Row::new(
            "topic_aliases",
            &[("topic_aliases", "1")],
            online(V5, &[publish_with("t", &[Property::TopicAlias(2)])]),
            "(limits.topic_aliases)",
        )
        .gets(&[connack(WELCOME), disconnect(ALIAS_INVALID)]),
    );
    rows.push(
        Row::new(
            "topic_alias_bytes",
            &[("topic_alias_bytes", "30")],
            online(V5, &[publish_with(LONG, &[Property::TopicAlias(1)])]),
            "(limits.topic_alias_bytes)",
        )
        .gets(&[connack(WELCOME), disconnect(QUOTA_EXCEEDED)]),
    );
    rows
}

fn subscriptions() -> Vec<Row> {
    const ONE: &[(&str, &str)] = &[("subscriptions", "1")];
    const BYTES: &[(&str, &str)] = &[("subscription_bytes", "2000")];
    const SHARED: &[(&str, &str)] = &[("shared_subscriptions", "1")];
    const GROUPS: &[&str] = &["$share/a/t", "$share/b/t"];
    let long = "x".repeat(3_000);
    let long = ["a", &long];
    let why = "(limits.subscriptions)";
    let two = |version| [subscribe(version, 1, &["a"]), subscribe(version, 2, &["b"])];
    vec![
        Row::new("subscriptions", ONE, online(V5, &two(V5)), why)
            .gets(&[connack(WELCOME), suback(&[1]), suback(&[QUOTA_EXCEEDED])])
            .goes_on(),
        Row::new("subscriptions", ONE, online(V3, &two(V3)), why)
            .v3()
            .gets(&[connack(WELCOME), suback(&[1]), suback(&[UNSPECIFIED])])
            .goes_on(),
    ]
    .into_iter()
    .chain([(V5, QUOTA_EXCEEDED), (V3, UNSPECIFIED)].into_iter().flat_map(|(version, code)| {
        [
            ("subscription_bytes", BYTES, &long[..], "(limits.subscription_bytes)"),
            ("shared_subscriptions", SHARED, GROUPS, "(limits.shared_subscriptions)"),
        ]
        .map(|(name, settings, filters, why)| {
            let sends = online(version, &[subscribe(version, 1, filters)]);
            let row = Row::new(name, settings, sends, why)
                .gets(&[connack(WELCOME), suback(&[1, code])])
                .goes_on();
            Row { version, ..row }
        })
    }))
    .collect()
}

/// More in one packet than is answered one by one.
fn filters() -> Vec<Row> {
    const TWO: &[(&str, &str)] = &[("packet_filters", "2")];
    const MANY: &[&str] = &["a", "b", "c"];
    let row = |name, sends| Row::new(name, TWO, sends, "(limits.packet_filters)");
    vec![
        row("packet_filters of SUBSCRIBE", online(V5, &[subscribe(V5, 1, MANY)]))
            .gets(&[connack(WELCOME), disconnect(QUOTA_EXCEEDED)]),
        row("packet_filters of SUBSCRIBE", online(V3, &[subscribe(V3, 1, MANY)]))
            .v3()
            .gets(&[connack(WELCOME)]),
        row("packet_filters of UNSUBSCRIBE", online(V5, &[unsubscribe(V5, 1, MANY)]))
            .gets(&[connack(WELCOME), disconnect(QUOTA_EXCEEDED)]),
        row("packet_filters of UNSUBSCRIBE", online(V3, &[unsubscribe(V3, 1, MANY)]))
            .v3()
            .gets(&[connack(WELCOME)]),
    ]
}

fn windows() -> Vec<Row> {
    // The pair, too, has messages under way.
    const COUNT: u16 = 300;
    let more: Vec<_> = (1..=COUNT + 1).map(|id| wire::publish(V5, "t", 2, id, b"x")).collect();
    let pubrecs = vec![pubrec(0x10); usize::from(COUNT)];
    // Its own messages come back to it, and it reads none.
    let own: Vec<_> = (0..20_000).map(|_| wire::publish(V5, "t", 0, 0, &[b'x'; 1_000])).collect();
    let deaf = online(V5, &[vec![subscribe(V5, 1, &["t"])], own].concat());
    vec![
        Row::new(
            "receive_maximum",
            &[("receive_maximum", "300")],
            online(V5, &more),
            "(limits.receive_maximum)",
        )
        .gets(
            &[vec![connack(WELCOME)], pubrecs, vec![disconnect(RECEIVE_MAXIMUM_EXCEEDED)]].concat(),
        ),
        Row::new(
            "output_stall_secs",
            // All is read: what is left unread may cost the client the last word.
            &[("output_stall_secs", "1"), ("output_bytes", "100000000")],
            deaf,
            "(limits.output_stall_secs)",
        )
        .gets(&[connack(WELCOME), suback(&[1]), disconnect(QUOTA_EXCEEDED)]),
    ]
}

/// One message is under way, one waits, and there is one more.
fn queues() -> Vec<Row> {
    const MESSAGES: &[(&str, &str)] = &[("queue_messages", "1"), ("inflight", "1024")];
    const BYTES: &[(&str, &str)] = &[("queue_bytes", "250")];
    const TOTAL: &[(&str, &str)] = &[("queue_bytes_total", "250")];
    let why = "its queue is full (limits.queue_messages, queue_bytes, queue_bytes_total)";
    let mut rows = Vec::new();
    for (name, settings) in
        [("queue_messages", MESSAGES), ("queue_bytes", BYTES), ("queue_bytes_total", TOTAL)]
    {
        let three = |version| (1..=3).flat_map(move |id| publish(version, "t", id)).collect();
        let narrow = connect("c", &[Property::ReceiveMaximum(1)], None);
        let sends = [narrow, subscribe(V5, 1, &["t"]), three(V5)].concat();
        let mut gets = vec![connack(WELCOME), suback(&[1]), puback(0), puback(0), puback(0)];
        gets.push(disconnect(QUOTA_EXCEEDED));
        rows.push(Row::new(name, settings, sends, why).gets(&gets));
        // Of a session that nobody is connected to, and its publisher never knows.
        let away = [wire::connect(V3, "away", false), subscribe(V3, 1, &["t"])].concat();
        let away = [away, wire::DISCONNECT.to_vec()].concat();
        let mut row = Row::new(name, settings, online(V3, &[three(V3)]), why)
            .v3()
            .before(away, 2)
            .gets(&[connack(WELCOME), puback(0), puback(0), puback(0)])
            .goes_on()
            .of(Who::Client("away"));
        row.ends_others = true;
        rows.push(row);
    }
    // The second goes, instead of the session.
    const OLDEST: &[(&str, &str)] = &[("queue_overflow", "drop_oldest"), ("queue_messages", "1")];
    let narrow = connect("c", &[Property::ReceiveMaximum(1)], None);
    let three: Vec<u8> = (1..=3).flat_map(|id| publish(V5, "t", id)).collect();
    let sends = [narrow, subscribe(V5, 1, &["t"]), three].concat();
    let gets = [connack(WELCOME), suback(&[1]), puback(0), puback(0), puback(0)];
    let why = "a session loses its oldest messages";
    rows.push(Row::new("queue_overflow", OLDEST, sends, why).gets(&gets).goes_on());
    rows
}

fn kept() -> Vec<Row> {
    const MESSAGES: &[(&str, &str)] = &[("retained_messages", "0")];
    const BYTES: &[(&str, &str)] = &[("retained_bytes", "50")];
    let mut rows = Vec::new();
    for (name, settings, why) in [
        ("retained_messages", MESSAGES, "(limits.retained_messages)"),
        ("retained_bytes", BYTES, "(limits.retained_bytes)"),
    ] {
        let sends = |version, qos| online(version, &[retained(version, "t", qos)]);
        rows.push(
            Row::new(name, settings, sends(V5, 1), why)
                .gets(&[connack(WELCOME), puback(QUOTA_EXCEEDED)])
                .goes_on(),
        );
        rows.push(
            Row::new(name, settings, sends(V5, 2), why)
                .gets(&[connack(WELCOME), pubrec(QUOTA_EXCEEDED)])
                .goes_on(),
        );
        rows.push(
            Row::new(name, settings, sends(V5, 0), why)
                .gets(&[connack(WELCOME), disconnect(QUOTA_EXCEEDED)]),
        );
        rows.push(Row::new(name, settings, sends(V3, 1), why).v3().gets(&[connack(WELCOME)]));
    }
    // A will: nobody is there to be told any more.
    let dies = [connect("c", &[], Some(will("t"))), vec![0xf0, 0]].concat();
    rows.push(
        Row::new("retained_messages of a will", MESSAGES, dies, "a will was not retained")
            .gets(&[connack(WELCOME), disconnect(0x82)]),
    );
    rows
}
