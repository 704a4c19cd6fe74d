//! What the broker says of messages, and which of them a topic retains.

use longshore_acl::ROOT_ACCOUNT;

use super::client::{Ask, Client, Got};
use super::rig::Rig;

/// Spec 6.6, 6.7, 9.1, 9.2.
#[test]
fn messages_say_when_and_by_whom_they_were_published() {
    let rig = Rig::start();
    let child = rig.account(ROOT_ACCOUNT);
    let (id, key) = rig.standard(child);
    let mut receiver = rig.connect(rig.master.expose(), "receiver");
    receiver.subscribe("#");
    let mut publisher = rig.connect(&key, "publisher");
    publisher.publish_with(
        "t",
        "x",
        false,
        &[("a", "1"), ("cid", "1"), ("token_id", "1"), ("b", "2")],
    );
    publisher.publish_with("t", "x", false, &[("timestamp", "1700000000.5"), ("c", "3")]);
    let mut old = Client::connect(&rig.broker, &Ask::with(&key, "old").v3());
    old.publish("t", "x");
    let names = |got: &Got| match got {
        Got::Message { named, .. } => named.iter().map(|(name, _)| name.clone()).collect(),
        Got::Packet(..) => Vec::new(),
    };
    let all = [
        &["a", "b", "token_id", "cid", "timestamp"][..],
        &["timestamp", "c", "token_id", "cid"],
        &["token_id", "cid", "timestamp"],
    ];
    for (at, want) in all.iter().enumerate() {
        let got = receiver.next().unwrap();
        assert_eq!(names(&got), *want);
        assert_eq!(got.named("token_id"), Some(&*id.to_string()));
        assert_eq!(got.named("cid"), Some(&*child.to_string()));
        let time = got.named("timestamp").unwrap();
        assert_eq!(time == "1700000000.5", at == 1, "{time}");
        assert!(time.parse::<f64>().unwrap() > 1.6e9, "{time}");
    }
}

/// Spec 9.1 and the table of deviations: stamps never make a message too large for its receiver.
#[test]
fn what_the_broker_says_is_left_out_where_it_would_be_too_much() {
    let rig = Rig::start();
    let small = Ask { packet_max: Some(60), ..Ask::with(rig.master.expose(), "small") };
    let mut small = Client::connect(&rig.broker, &small);
    small.subscribe("t");
    let mut publisher = rig.connect(rig.master.expose(), "publisher");
    publisher.publish("t", "0123456789");
    let got = small.next().unwrap();
    assert_eq!((got.named("cid"), got.named("timestamp")), (None, None));
    assert!(matches!(got, Got::Message { payload, .. } if payload == "0123456789"));
}

/// Spec 9.5.
#[test]
fn a_publisher_that_asks_is_told_how_many_subscribers_it_reaches() {
    let rig = Rig::start();
    let mut publisher = rig.connect(rig.master.expose(), "publisher");
    let asked = &[("count_subscribers", "1")];
    let got = publisher.publish_with("t", "x", false, asked);
    assert_eq!((got.code(), got.named("subscribers_count")), (0x10, Some("0")));
    let mut members: Vec<_> =
        ["a", "b", "c"].iter().map(|id| rig.connect(rig.master.expose(), id)).collect();
    members[0].subscribe("#");
    members[0].subscribe("t");
    members[1].subscribe("$share/g/t");
    members[2].subscribe("$share/g/t");
    let got = publisher.publish_with("t", "x", false, asked);
    assert_eq!((got.code(), got.named("subscribers_count")), (0, Some("2")));
    let got = members[0].next().unwrap();
    assert_eq!(got.named("count_subscribers"), None, "it is for the broker");
    assert_eq!(publisher.publish("t", "x").named("subscribers_count"), None);
}

/// Spec 10.3, 10.4.
#[test]
fn what_is_retained_is_what_was_published_last() {
    let rig = Rig::start();
    let mut client = rig.connect(rig.master.expose(), "client");
    let mut at = |payload: &str, time: &str| {
        client.publish_with("t", payload, true, &[("timestamp", time)]);
        let mut reader = rig.connect(rig.master.expose(), "reader");
        reader.subscribe("t");
        reader.messages().pop().unwrap_or_default()
    };
    assert_eq!(at("1", "1700000000"), "t=1");
    assert_eq!(at("2", "1699999999.9"), "t=1", "an older one does not replace it");
    assert_eq!(at("3", "1700000000"), "t=3", "of two the later to come");
    assert_eq!(at("", "1699999999"), "t=3", "nor does an older clear");
    assert_eq!(at("4", "99999999999"), "t=4", "a clock that is wrong does not count");
    assert_eq!(at("5", "1700000001"), "t=5", "and pins nothing");
    assert_eq!(at("", "1700000002"), "");
}
