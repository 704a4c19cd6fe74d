//! What a broker does when its disk is full, or fails: whom it refuses, what goes on, and that
//! nothing is lost that was acknowledged.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod client;
mod log;

use std::sync::Arc;

use longshore_acl::Anonymous;
use longshore_broker::{Broker, Limits, QueueOverflow, Storage};
use longshore_codec::{PacketType, QoS, Version};
use longshore_storage::{Fault, Operation, SimulatedDisk};

use self::client::{Client, Got, page};

const V3: Version = Version::V3_1_1;
const V5: Version = Version::V5;

const UNSPECIFIED: u8 = 0x80;
const UNAVAILABLE: u8 = 0x88;
const QUOTA_EXCEEDED: u8 = 0x97;

const SEGMENT_BYTES: u32 = 16 << 10;

fn start(disk: &SimulatedDisk) -> Broker {
    start_within(disk, Limits::default())
}

fn start_within(disk: &SimulatedDisk, limits: Limits) -> Broker {
    let mut storage = Storage::at("simulated");
    storage.segment_bytes = SEGMENT_BYTES;
    Broker::builder()
        .limits(limits)
        .auth(Arc::new(Anonymous::new()))
        .storage_on(Arc::new(disk.clone()), storage)
        .listen("mqtt://127.0.0.1:0")
        .listen("http://127.0.0.1:0")
        .start()
        .unwrap()
}

fn connack(code: u8) -> Option<Got> {
    Some(Got::Packet(PacketType::Connack, code))
}

fn suback(code: u8) -> Option<Got> {
    Some(Got::Packet(PacketType::Suback, code))
}

/// A lasting session that wants everything below `kept` and whose client is away.
fn leave_session(broker: &Broker) {
    let mut away = Client::connect(broker, V5, "away", true);
    assert_eq!(away.subscribe("kept/#"), suback(1));
}

/// What waits in that session.
fn waiting(broker: &Broker) -> Vec<String> {
    Client::connect(broker, V5, "away", true).messages()
}

fn health(broker: &Broker) -> (u16, String) {
    page(broker, "/health")
}

/// The value of a metric, if it is there.
fn metric(broker: &Broker, name: &str) -> Option<u64> {
    let (_, text) = page(broker, "/metrics");
    let mut values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    values.next().map(|value| value.parse().unwrap())
}

/// Publishes until the broker refuses; what it acknowledged.
fn publish_until_refused(publisher: &mut Client) -> Vec<String> {
    let mut acknowledged = Vec::new();
    loop {
        let payload = format!("{:01000}", acknowledged.len());
        match publisher.ask("kept/t", &payload) {
            Some(0) => acknowledged.push(payload),
            other => {
                assert_eq!(other, Some(QUOTA_EXCEEDED));
                return acknowledged;
            }
        }
        assert!(acknowledged.len() < 10_000, "the disk never fills up");
    }
}

/// Those who need nothing written down notice nothing.
fn others_go_on(broker: &Broker) {
    let mut reader = Client::connect(broker, V5, "reader", false);
    assert_eq!(reader.subscribe("passing/#"), suback(1));
    for (version, id) in [(V5, "five"), (V3, "three")] {
        let mut publisher = Client::connect(broker, version, id, false);
        publisher.publish("passing/t", QoS::AtMostOnce, id);
        assert_eq!(reader.message(), id);
        assert_eq!(publisher.ask("passing/t", id), Some(0));
        assert_eq!(reader.message(), id);
    }
}

#[test]
fn a_full_disk_refuses_what_is_new_heals_by_itself_and_loses_nothing() {
    log::keep();
    let disk = SimulatedDisk::new(1);
    let broker = start(&disk);
    leave_session(&broker);
    let mut here = Client::connect(&broker, V5, "here", true);
    let mut publisher = Client::connect(&broker, V5, "publisher", false);
    assert_eq!(health(&broker), (200, "{\"status\":\"ok\"}\n".to_owned()));
    assert_eq!(metric(&broker, "longshore_storage_state{state=\"taking\"}"), Some(1));

    disk.set_budget(disk.used_bytes());
    let mut acknowledged = publish_until_refused(&mut publisher);
    assert!(log::has(&["WARN", "the disk is full"]));
    // Who starts it anew for that finds the disk as full.
    assert_eq!(health(&broker), (200, "{\"status\":\"the disk is full\"}\n".to_owned()));
    assert_eq!(metric(&broker, "longshore_storage_state{state=\"full\"}"), Some(1));
    let mut old = Client::connect(&broker, V3, "old", false);
    old.publish("kept/t", QoS::AtLeastOnce, "refused");
    assert_eq!(old.rest(), [], "closed without PUBACK");
    assert_eq!(here.subscribe("kept/#"), suback(QUOTA_EXCEEDED));
    let mut new = Client::attempt(&broker, V5, "new", true);
    assert_eq!((new.next(), new.next()), (connack(QUOTA_EXCEEDED), None));
    let mut new = Client::attempt(&broker, V3, "new", true);
    assert_eq!((new.next(), new.next()), (connack(UNAVAILABLE), None));
    others_go_on(&broker);

    disk.set_budget(u64::MAX);
    while publisher.ask("kept/t", "again") != Some(0) {}
    acknowledged.push("again".to_owned());
    assert!(log::has(&["INFO", "the disk has room again"]));
    assert_eq!(health(&broker).1, "{\"status\":\"ok\"}\n");
    assert_eq!(here.subscribe("kept/#"), suback(1));
    acknowledged.extend(publish_some(&mut publisher, 30));

    let killed = disk.restart_after_kill();
    drop(broker);
    assert_eq!(waiting(&start(&killed)), acknowledged);
}

fn publish_some(publisher: &mut Client, count: usize) -> Vec<String> {
    let payloads: Vec<_> = (0..count).map(|n| format!("{n:01000} more")).collect();
    for payload in &payloads {
        assert_eq!(publisher.ask("kept/t", payload), Some(0));
    }
    payloads
}

#[test]
fn what_is_retained_is_not_deleted_by_filter_while_that_cannot_be_promised() {
    for operation in [None, Some(Operation::Sync)] {
        let disk = SimulatedDisk::new(3);
        let broker = start(&disk);
        let mut publisher = Client::connect(&broker, V5, "publisher", false);
        publisher.retain("kept/r", "retained");
        match operation {
            None => disk.set_budget(disk.used_bytes()),
            Some(operation) => disk.fail(Fault { operation, after: 0, for_ever: true }),
        }
        let mut filler = Client::connect(&broker, V5, "filler", false);
        let is_full = operation.is_none();
        let mut topics = (0..).map(|number| format!("filler/{number}"));
        let is_taken = |code: Option<u8>| code.is_some_and(|code| code < UNSPECIFIED);
        while is_taken(filler.retain(&topics.next().unwrap(), &"x".repeat(1_000))) {}
        for topic in ["kept/#", "kept/+", "#"] {
            assert_eq!(publisher.ask(topic, ""), Some(QUOTA_EXCEEDED), "{topic}");
            publisher.publish(topic, QoS::AtMostOnce, "");
        }
        let mut old = Client::connect(&broker, V3, "old", false);
        old.publish("kept/#", QoS::AtLeastOnce, "");
        assert_eq!(old.rest(), [], "closed without PUBACK");
        let mut reader = Client::connect(&broker, V5, "reader", false);
        assert_eq!(reader.subscribe("kept/#"), suback(1));
        assert_eq!(reader.message(), "retained");
        if is_full {
            disk.set_budget(u64::MAX);
            while publisher.ask("kept/#", "") != Some(0) {}
            let killed = disk.restart_after_kill();
            drop(broker);
            let broker = start(&killed);
            let mut reader = Client::connect(&broker, V5, "reader", false);
            assert_eq!(reader.subscribe("kept/#"), suback(1));
            assert!(reader.messages().is_empty());
        }
    }
}

#[test]
fn after_a_failed_sync_nothing_durable_is_promised_and_all_else_goes_on() {
    log::keep();
    let disk = SimulatedDisk::new(2);
    let broker = start(&disk);
    leave_session(&broker);
    let mut lasting = Client::connect(&broker, V5, "lasting", true);
    let mut publisher = Client::connect(&broker, V5, "publisher", false);
    let acknowledged = publish_some(&mut publisher, 5);

    disk.fail(Fault { operation: Operation::Sync, after: 0, for_ever: true });
    publisher.publish("kept/t", QoS::AtLeastOnce, "not acknowledged");
    let end = Got::Packet(PacketType::Disconnect, UNSPECIFIED);
    assert_eq!(publisher.rest(), std::slice::from_ref(&end), "what waits for it is told");
    assert_eq!(health(&broker), (503, "{\"status\":\"the disk has failed\"}\n".to_owned()));
    assert_eq!(metric(&broker, "longshore_storage_state{state=\"failed\"}"), Some(1));
    assert!(log::has(&["ERROR", "the disk has failed"]));

    let mut publisher = Client::connect(&broker, V5, "publisher", false);
    assert_eq!(publisher.ask("kept/t", "refused"), Some(QUOTA_EXCEEDED));
    let mut old = Client::connect(&broker, V3, "old", false);
    old.publish("kept/t", QoS::AtLeastOnce, "refused");
    assert_eq!(old.rest(), [], "closed without PUBACK");
    assert_eq!(lasting.subscribe("kept/#"), Some(end), "its SUBACK would be a promise");
    // Whether it would last, or take the place of one that does.
    for (version, id, lasting) in
        [(V5, "new", true), (V3, "new", true), (V5, "away", true), (V5, "away", false)]
    {
        let mut client = Client::attempt(&broker, version, id, lasting);
        assert_eq!((client.next(), client.next()), (connack(UNAVAILABLE), None), "{id}");
    }
    others_go_on(&broker);

    let cut = disk.restart();
    drop(broker);
    let mut kept = waiting(&start(&cut));
    // It may have come to the medium all the same.
    kept.retain(|payload| payload != "not acknowledged");
    assert_eq!(kept, acknowledged);
}

#[test]
fn the_journal_is_counted_and_a_broker_without_one_says_nothing_of_it() {
    let disk = SimulatedDisk::new(3);
    let broker = start(&disk);
    leave_session(&broker);
    let mut publisher = Client::connect(&broker, V5, "publisher", false);
    publish_some(&mut publisher, 40);
    let segments = metric(&broker, "longshore_journal_segments").unwrap();
    assert!(segments > 2, "40 KB lie in {segments} segments of 16 KiB");
    let bytes = segments * u64::from(SEGMENT_BYTES);
    assert_eq!(metric(&broker, "longshore_journal_bytes"), Some(bytes));
    assert_eq!(metric(&broker, "longshore_journal_pending_bytes"), Some(0));
    let commits = metric(&broker, "longshore_journal_commits_total").unwrap();
    assert!(commits >= 40, "each waited for its own: {commits}");
    assert_eq!(metric(&broker, "longshore_journal_compactions_total"), Some(0));
    // What is acknowledged is over, and the journal is written anew without it.
    let mut away = Client::connect(&broker, V5, "away", true);
    loop {
        assert_eq!(publisher.ask("kept/t", &"x".repeat(1_000)), Some(0));
        away.message();
        if metric(&broker, "longshore_journal_compactions_total") > Some(0) {
            break;
        }
    }

    let without = Broker::builder().listen("http://127.0.0.1:0").start().unwrap();
    let (_, text) = page(&without, "/metrics");
    assert!(!text.contains("longshore_journal") && !text.contains("longshore_storage"), "{text}");
    assert_eq!(health(&without).0, 200);
}

#[test]
fn what_a_full_session_has_lost_is_lost_after_a_restart_too() {
    log::keep();
    let disk = SimulatedDisk::new(4);
    let mut limits = Limits::default();
    limits.queue_messages = 10;
    limits.queue_overflow = QueueOverflow::DropOldest;
    let broker = start_within(&disk, limits.clone());
    leave_session(&broker);
    let mut publisher = Client::connect(&broker, V5, "publisher", false);
    let acknowledged = publish_some(&mut publisher, 30);
    assert_eq!(metric(&broker, "longshore_dropped_total{cause=\"queue_full\"}"), Some(20));
    let words = ["WARN", "client=\"away\"", "messages=10", "a session loses its oldest messages"];
    assert!(log::has(&words));
    let killed = disk.restart_after_kill();
    drop(broker);
    assert_eq!(waiting(&start_within(&killed, limits)), acknowledged[20..]);
}
