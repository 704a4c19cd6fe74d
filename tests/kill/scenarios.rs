//! What a kill leaves of one session, one message, one exchange: each the smallest that can show
//! it.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use longshore::codec::{
    Ack, Packet, PacketId, Properties, Property, Publish, QoS, SubscribeOptions, Version,
};
use tempfile::TempDir;

use super::clients::{Broker, Caller, Message};

const V5: Version = Version::V5;
const V3: Version = Version::V3_1_1;

/// Seconds that a session lasts when it is to last.
const LONG: u32 = 3_600;

/// Longer than a second, whatever the clocks make of it.
const A_SECOND: Duration = Duration::from_millis(1_300);

const QOS_1: SubscribeOptions = SubscribeOptions::new(QoS::AtLeastOnce);
const QOS_2: SubscribeOptions = SubscribeOptions::new(QoS::ExactlyOnce);

/// A broker that is killed and comes back to its data.
struct Lives {
    folder: TempDir,
    broker: Option<Broker>,
}

impl Lives {
    fn begin() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the data");
        let mut lives = Self { folder, broker: None };
        lives.start();
        lives
    }

    fn start(&mut self) {
        self.start_with(&[]);
    }

    fn start_with(&mut self, settings: &[(&str, &str)]) {
        self.broker = Some(Broker::start_in(self.folder.path(), &["mqtt"], settings));
    }

    fn kill(&mut self) {
        self.broker.take().expect("it lives").kill();
    }

    /// Twice, for what was read once must be there to be read again.
    fn kill_and_start(&mut self) {
        for _ in 0..2 {
            self.kill();
            self.start();
        }
    }

    fn address(&self) -> SocketAddr {
        self.broker.as_ref().expect("it lives").address("mqtt")
    }

    fn connect(&self, version: Version, name: &str, session_secs: u32) -> (Caller, bool) {
        Caller::connect(self.address(), version, name, session_secs)
    }

    /// A client that is new.
    fn meet(&self, version: Version, name: &str, session_secs: u32) -> Caller {
        let (caller, present) = self.connect(version, name, session_secs);
        assert!(!present, "{name} was never here");
        caller
    }

    /// A client that was here before.
    fn resume(&self, version: Version, name: &str) -> Caller {
        let (caller, present) = self.connect(version, name, LONG);
        assert!(present, "the session of {name} is gone");
        caller
    }

    /// One who publishes and is forgotten.
    fn publisher(&self) -> Caller {
        self.connect(V5, "publisher", 0).0
    }
}

fn properties(all: &[Property<'_>]) -> Vec<u8> {
    let mut raw = Vec::new();
    all.iter().for_each(|property| property.append(&mut raw));
    raw
}

/// Takes the messages with these payloads, and sees that there are no more.
fn hears_only(caller: &mut Caller, payloads: &[&str]) {
    for payload in payloads {
        let message = caller.receive().expect("a message");
        assert_eq!(message.payload, payload.as_bytes(), "{message:?}");
    }
    assert_eq!(caller.settle(), []);
}

#[test]
fn what_was_queued_and_acknowledged_is_there_after_a_kill() {
    let mut lives = Lives::begin();
    for (version, name) in [(V5, "five"), (V3, "three")] {
        let mut absent = lives.meet(version, name, LONG);
        assert_eq!(absent.subscribe("t/+", QOS_1), 1);
        absent.leave();
    }
    let mut publisher = lives.publisher();
    for number in 0..20 {
        assert_eq!(publisher.publish("t/1", number.to_string().as_bytes()), Some(0));
    }
    lives.kill_and_start();
    assert_eq!(lives.publisher().publish("t/1", b"20"), Some(0));
    for (version, name) in [(V5, "five"), (V3, "three")] {
        let mut returned = lives.resume(version, name);
        let numbers: Vec<_> = (0..21).map(|number: u32| number.to_string()).collect();
        let numbers: Vec<_> = numbers.iter().map(String::as_str).collect();
        hears_only(&mut returned, &numbers);
    }
}

#[test]
fn sessions_messages_and_retained_messages_end_in_time_while_the_broker_is_dead() {
    let mut lives = Lives::begin();
    for (name, session_secs) in [("short", 1), ("long", LONG)] {
        let mut caller = lives.meet(V5, name, session_secs);
        assert_eq!(caller.subscribe("t", QOS_1), 1);
        caller.leave();
    }
    let mut publisher = lives.publisher();
    for (payload, secs) in [(b"short", 1), (b"long.", LONG)] {
        let expiry = properties(&[Property::MessageExpiryInterval(secs)]);
        assert_eq!(publisher.publish_with("t", payload, false, &expiry), Some(0));
        let topic = format!("kept/{secs}");
        assert!(publisher.publish_with(&topic, payload, true, &expiry).is_some_and(|it| it < 0x80));
    }
    lives.kill();
    thread::sleep(A_SECOND);
    lives.start();

    let (mut short, present) = lives.connect(V5, "short", 1);
    assert!(!present && short.settle().is_empty(), "a session of a second is still there");
    let mut long = lives.resume(V5, "long");
    let message = long.receive().expect("a message");
    assert_eq!((message.payload.as_slice(), long.settle().as_slice()), (&b"long."[..], &[][..]));
    let left = Properties::from_raw(&message.properties).message_expiry_interval();
    assert!(left.is_some_and(|left| (LONG - 60..LONG).contains(&left)), "{left:?} s are left");
    let mut fresh = lives.meet(V5, "fresh", 0);
    assert_eq!(fresh.subscribe("kept/+", QOS_1), 1);
    hears_only(&mut fresh, &["long."]);
}

#[test]
fn a_session_that_ended_its_connection_before_a_kill_ends_in_time_after_it() {
    let mut lives = Lives::begin();
    // One who is there in time keeps its session, and for longer now. On a machine that is busy
    // the start may take more than that second: then there is another one.
    let mut names = (0..).map(|number| format!("back-{number}"));
    let (name, back) = loop {
        let name = names.next().expect("there is no end of them");
        let mut callers = ["gone", &name].map(|name| lives.connect(V5, name, 1).0);
        callers.iter_mut().for_each(|it| assert_eq!(it.subscribe("t", QOS_1), 1));
        let begun = Instant::now();
        callers.into_iter().for_each(Caller::leave);
        lives.kill();
        lives.start();
        let (back, present) = lives.connect(V5, &name, LONG);
        if present {
            break (name, back);
        }
        assert!(begun.elapsed() >= Duration::from_secs(1), "the session of {name} is gone");
    };
    thread::sleep(A_SECOND);
    let (_, present) = lives.connect(V5, "gone", 1);
    assert!(!present, "a session of a second is still there");
    drop(back);
    lives.kill();
    thread::sleep(A_SECOND);
    lives.start();
    lives.resume(V5, &name);
}

#[test]
fn a_session_that_ends_with_its_connection_ends_with_the_broker() {
    for version in [V5, V3] {
        let mut lives = Lives::begin();
        let mut caller = lives.meet(version, "transient", 0);
        assert_eq!(caller.subscribe("t", QOS_1), 1);
        lives.kill_and_start();
        assert!(lives.publisher().publish("t", b"x").is_some_and(|it| it < 0x80));
        let (mut caller, present) = lives.connect(version, "transient", LONG);
        assert!(!present, "a session without end in {version}");
        assert_eq!(caller.settle(), []);
    }
}

#[test]
fn a_message_and_a_subscription_are_whole_after_a_kill() {
    let mut lives = Lives::begin();
    let own = SubscribeOptions { no_local: true, ..QOS_1 };
    let kept = SubscribeOptions { retain_as_published: true, ..QOS_2 };
    let mut absent = lives.meet(V5, "absent", LONG);
    let identifier = properties(&[Property::SubscriptionIdentifier(77)]);
    assert_eq!(absent.subscribe("own", own), 1);
    assert_eq!(absent.subscribe_with("kept/#", kept, &identifier), 2);
    absent.leave();
    let all = properties(&[
        Property::PayloadFormatIndicator(true),
        Property::ContentType("text/plain"),
        Property::ResponseTopic("answers/here"),
        Property::CorrelationData(b"\0\xff"),
        Property::UserProperty("name", "first"),
        Property::UserProperty("name", "second"),
    ]);
    let check = |message: Message, payload: &[u8]| {
        assert_eq!((message.payload.as_slice(), message.retain), (payload, true));
        let got = Properties::from_raw(&message.properties);
        assert_eq!(got.subscription_identifier(), Some(77), "{message:?}");
        let rest: Vec<_> = got
            .iter()
            .map(|it| it.expect("in order"))
            .filter(|it| !matches!(it, Property::SubscriptionIdentifier(_)))
            .collect();
        assert_eq!(properties(&rest), all);
    };
    let is_taken = |code: Option<u8>| code.is_some_and(|code| code < 0x80);
    assert!(is_taken(lives.publisher().publish_with("kept/a", b"before", true, &all)));
    lives.kill_and_start();
    assert!(is_taken(lives.publisher().publish_with("kept/a", b"after", true, &all)));
    let mut returned = lives.resume(V5, "absent");
    check(returned.receive().expect("a message"), b"before");
    check(returned.receive().expect("a message"), b"after");
    assert!(is_taken(returned.publish("own", b"to oneself")));
    assert_eq!(returned.settle(), []);
    lives.kill_and_start();
    let mut fresh = lives.meet(V5, "fresh", 0);
    assert_eq!(fresh.subscribe_with("kept/#", kept, &identifier), 2);
    check(fresh.receive().expect("a message"), b"after");
}

/// PUBLISH at QoS 2.
fn exactly_once(id: PacketId, dup: bool) -> Packet<'static> {
    Packet::Publish(Publish {
        dup,
        qos: QoS::ExactlyOnce,
        retain: false,
        topic: b"t",
        packet_id: Some(id),
        properties: Properties::none(),
        payload: b"once",
    })
}

/// Whether a packet is PUBREC, PUBREL or PUBCOMP, and with which identifier.
fn step(packet: &Packet<'_>) -> Option<(&'static str, PacketId)> {
    match packet {
        Packet::Pubrec(it) => Some(("PUBREC", it.packet_id)),
        Packet::Pubrel(it) => Some(("PUBREL", it.packet_id)),
        Packet::Pubcomp(it) => Some(("PUBCOMP", it.packet_id)),
        _ => None,
    }
}

#[test]
fn a_message_that_is_sent_again_after_a_kill_is_routed_once() {
    let mut lives = Lives::begin();
    let mut reader = lives.meet(V5, "reader", LONG);
    assert_eq!(reader.subscribe("t", QOS_2), 2);
    reader.leave();
    let mut writer = lives.meet(V5, "writer", LONG);
    let id = PacketId::new(7).expect("above 0");
    writer.say(&exactly_once(id, false));
    assert_eq!(writer.hear(step), Some(("PUBREC", id)));
    for _ in 0..2 {
        lives.kill_and_start();
        writer = lives.resume(V5, "writer");
        writer.say(&exactly_once(id, true));
        assert_eq!(writer.hear(step), Some(("PUBREC", id)));
    }
    writer.say(&Packet::Pubrel(Ack::success(id)));
    assert_eq!(writer.hear(step), Some(("PUBCOMP", id)));
    // The identifier is free now, and that lasts too: this is another message.
    lives.kill_and_start();
    writer = lives.resume(V5, "writer");
    writer.say(&exactly_once(id, false));
    assert_eq!(writer.hear(step), Some(("PUBREC", id)));
    hears_only(&mut lives.resume(V5, "reader"), &["once", "once"]);
}

#[test]
fn an_exchange_with_a_receiver_goes_on_where_it_was_before_a_kill() {
    let mut lives = Lives::begin();
    let mut reader = lives.meet(V5, "reader", LONG);
    assert_eq!(reader.subscribe("t", QOS_2), 2);
    let mut writer = lives.meet(V5, "writer", LONG);
    let one = PacketId::new(1).expect("above 0");
    writer.say(&exactly_once(one, false));
    let first = reader.message().expect("a message");
    assert!(!first.dup && first.qos == QoS::ExactlyOnce, "{first:?}");
    lives.kill_and_start();
    reader = lives.resume(V5, "reader");
    // The same exchange, said to be one.
    let again = reader.message().expect("a message");
    assert_eq!(again, Message { dup: true, ..first });
    let id = again.id.expect("an identifier");
    reader.say(&Packet::Pubrec(Ack::success(id)));
    assert_eq!(reader.hear(step), Some(("PUBREL", id)));
    for _ in 0..2 {
        lives.kill_and_start();
        reader = lives.resume(V5, "reader");
        assert_eq!(reader.hear(step), Some(("PUBREL", id)));
    }
    reader.say(&Packet::Pubcomp(Ack::success(id)));
    assert_eq!(reader.settle(), []);
}

#[test]
fn a_message_that_was_not_acknowledged_comes_again_with_dup_after_a_kill() {
    let mut lives = Lives::begin();
    let mut reader = lives.meet(V3, "reader", LONG);
    assert_eq!(reader.subscribe("t", QOS_1), 1);
    assert_eq!(lives.publisher().publish("t", b"x"), Some(0));
    let first = reader.message().expect("a message");
    assert!(!first.dup, "{first:?}");
    for _ in 0..2 {
        lives.kill_and_start();
        reader = lives.resume(V3, "reader");
        let again = reader.message().expect("a message");
        assert_eq!(again, Message { dup: true, ..first.clone() });
    }
}

#[test]
fn what_was_unsubscribed_or_thrown_away_stays_gone_after_a_kill() {
    let mut lives = Lives::begin();
    let mut reader = lives.meet(V5, "reader", LONG);
    assert_eq!(reader.subscribe("a", QOS_1), 1);
    assert_eq!(reader.subscribe("b", QOS_1), 1);
    reader.unsubscribe("a");
    reader.leave();
    let mut cleared = lives.meet(V3, "cleared", LONG);
    assert_eq!(cleared.subscribe("a", QOS_1), 1);
    cleared.leave();
    drop(lives.connect(V3, "cleared", 0));
    lives.kill_and_start();
    assert!(lives.publisher().publish("a", b"a").is_some_and(|it| it < 0x80));
    assert_eq!(lives.publisher().publish("b", b"b"), Some(0));
    hears_only(&mut lives.resume(V5, "reader"), &["b"]);
    let (mut cleared, present) = lives.connect(V3, "cleared", LONG);
    assert!(!present && cleared.settle().is_empty(), "a session that was thrown away");
}

/// A round of compaction is of its process: the journal of a broker that is killed ever again would
/// grow without end.
#[test]
fn a_journal_that_was_left_too_long_is_compacted_before_clients_come_in() {
    let mut lives = Lives { folder: tempfile::tempdir().expect("a folder"), broker: None };
    lives.start_with(&[("STORAGE__SEGMENT_BYTES", "65536")]);
    let mut absent = lives.meet(V5, "absent", LONG);
    assert_eq!(absent.subscribe("t", QOS_1), 1);
    absent.leave();
    let mut publisher = lives.publisher();
    assert_eq!(publisher.publish("t", b"kept"), Some(0));
    for number in 0..100 {
        let payload = format!("{number:0>1000}");
        assert_eq!(publisher.publish_with("r", payload.as_bytes(), true, &[]), Some(0x10));
    }
    lives.kill();
    // More than was ever to be left, now that segments are small.
    lives.start_with(&[("STORAGE__SEGMENT_BYTES", "4096")]);
    let log = lives.broker.as_mut().expect("it lives").process().story();
    let place = |text| log.find(text).unwrap_or_else(|| panic!("no line {text:?} in {log}"));
    assert!(place("left too long") < place("journal compacted"), "{log}");
    assert!(place("journal compacted") < place("listening url"), "{log}");
    hears_only(&mut lives.resume(V5, "absent"), &["kept"]);
    let mut reader = lives.meet(V5, "reader", 0);
    assert_eq!(reader.subscribe("r", QOS_1), 1);
    hears_only(&mut reader, &[&format!("{:0>1000}", 99)]);
    lives.kill();
    lives.start_with(&[("STORAGE__SEGMENT_BYTES", "4096")]);
    let log = lives.broker.as_mut().expect("it lives").process().story();
    assert!(!log.contains("left too long"), "{log}");
}
