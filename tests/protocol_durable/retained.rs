//! Retained messages over the end of the broker: small ones, that memory has, and large ones, that
//! the journal alone has.

use super::restart::{back, lasting, over_a_restart};
use crate::protocol::packets::{puback, publish, pubrel, v5};
use crate::protocol::rig::{Client, End, Rig};
use crate::protocol::wire::Version;

/// A payload of so many bytes that differs from others.
fn payload(tag: &str, bytes: usize) -> String {
    format!("{tag} {}", "x".repeat(bytes))
}

fn retain(publisher: &Client, topic: &str, payload: &str) {
    publisher.send(&publish(topic, payload).qos1(1).retain());
    publisher.puback();
}

/// What a new client finds.
fn found(rig: &Rig, filter: &str, qos: u8) -> Vec<String> {
    let client = rig.subscriber(Version::V5, "reader", filter, qos);
    let mut found = client.payloads();
    found.sort();
    found
}

#[test]
fn the_last_message_of_a_topic_is_there_whatever_its_size_and_that_of_those_before() {
    over_a_restart(|rig, restart| {
        let publisher = rig.client("pub");
        let sizes = [1, 900, 1_100, 5_000, 40_000];
        let mut want = Vec::new();
        for (at, first) in sizes.iter().enumerate() {
            for (by, second) in sizes.iter().enumerate() {
                let topic = format!("r/{at}/{by}");
                retain(&publisher, &topic, &payload("old", *first));
                let last = payload(&topic, *second);
                retain(&publisher, &topic, &last);
                want.push(last);
            }
            let gone = format!("gone/{at}");
            retain(&publisher, &gone, &payload("gone", *first));
            retain(&publisher, &gone, "");
        }
        want.sort();
        assert_eq!(found(rig, "#", 0), want);
        restart();
        assert_eq!(found(rig, "#", 0), want);
        let publisher = rig.client("pub");
        retain(&publisher, "r/4/4", &payload("z", 2_000));
        retain(&publisher, "r/3/4", "");
        want.retain(|it| !it.starts_with("r/4/4") && !it.starts_with("r/3/4"));
        want.push(payload("z", 2_000));
        restart();
        assert_eq!(found(rig, "#", 1), want);
    });
}

#[test]
fn a_large_message_keeps_its_properties_its_quality_and_its_end() {
    over_a_restart(|rig, restart| {
        let publisher = rig.client("pub");
        let large = payload("large", 3_000);
        publisher.send(&publish("t", &large).qos1(1).retain().expiry(60).user("k", "v"));
        publisher.puback();
        restart();
        let client = rig.subscriber(Version::V5, "reader", "t", 1);
        let received = client.publish();
        assert_eq!((received.text(), received.qos, received.retain), (large.as_str(), 1, true));
        assert_eq!(received.props.number(2), Some(60));
        assert_eq!(received.props.user(), [("k", "v")]);
        rig.advance(61);
        assert!(found(rig, "t", 1).is_empty());
    });
}

/// [MQTT-4.4.0-1]
#[test]
fn a_large_message_in_flight_is_sent_again_though_its_topic_retains_another() {
    over_a_restart(|rig, restart| {
        let publisher = rig.client("pub");
        let large = payload("first", 3_000);
        retain(&publisher, "t", &large);
        // Its record is no longer where it was.
        rig.compact();
        let client = lasting(rig, "sub", "t", 1);
        let sent = client.publish();
        assert_eq!(sent.text(), large);
        client.reset();
        retain(&publisher, "t", &payload("second", 3_000));
        restart();
        let client = back(rig, "sub");
        let again = client.publish();
        assert_eq!((again.text(), again.id(), again.dup), (large.as_str(), sent.id(), true));
        client.send(&puback(again.id()));
        let second = client.publish();
        assert!(second.text().starts_with("second"));
        client.send(&puback(second.id()));
        assert!(found(rig, "t", 1)[0].starts_with("second"));
    });
}

#[test]
fn what_a_filter_has_deleted_does_not_return_and_what_came_later_stays() {
    over_a_restart(|rig, restart| {
        let publisher = rig.client("pub");
        for number in 0..300 {
            for bytes in [1, 2_000] {
                retain(&publisher, &format!("r/{bytes}/{number}"), &payload("old", bytes));
            }
        }
        for topic in ["r", "r/1/2/3", "s/1/7"] {
            retain(&publisher, topic, topic);
        }
        for (qos, filter) in [(0, "r/1/+"), (1, "r/2000/+"), (1, "q/#")] {
            publisher.send(&publish(filter, "").qos(qos, 1));
        }
        assert_eq!([publisher.puback().code, publisher.puback().code], [0, 0]);
        retain(&publisher, "r/1/7", "new");
        retain(&publisher, "r/2000/7", &payload("new", 2_000));
        let want = ["new", &payload("new", 2_000), "r", "r/1/2/3", "s/1/7"];
        assert_eq!(found(rig, "#", 0), want);
        restart();
        assert_eq!(found(rig, "#", 1), want);
        let publisher = rig.client("pub");
        publisher.send(&publish("#", "").qos1(1));
        publisher.puback();
        retain(&publisher, "r", "last");
        restart();
        assert_eq!(found(rig, "#", 1), ["last"]);
    });
}

/// [MQTT-4.3.3-10]
#[test]
fn a_deletion_at_qos_2_is_done_once_over_a_restart() {
    over_a_restart(|rig, restart| {
        let publisher = rig.connect(&v5("pub").lasting());
        retain(&publisher, "r/a", "old");
        publisher.send(&publish("r/+", "").qos2(7));
        assert_eq!(publisher.pubrec().code, 0);
        retain(&publisher, "r/b", "new");
        restart();
        let publisher = back(rig, "pub");
        publisher.send(&publish("r/+", "").qos2(7).dup());
        assert_eq!(publisher.pubrec().code, 0);
        publisher.send(&pubrel(7));
        assert_eq!(publisher.pubcomp().code, 0);
        assert_eq!(found(rig, "#", 0), ["new"]);
        restart();
        let publisher = back(rig, "pub");
        publisher.send(&publish("r/+", "").qos2(7));
        publisher.pubrec();
        restart();
        assert!(found(rig, "#", 0).is_empty());
    });
}

#[test]
fn who_changes_what_is_retained_is_not_read_while_the_journal_is_behind() {
    for qos in 0..3 {
        for change in [publish("t", "x").retain(), publish("t", "").retain(), publish("#", "")] {
            let rig = Rig::new();
            let (publisher, other) = (rig.client("pub"), rig.client("other"));
            rig.set_behind(true);
            publisher.send(&change.clone().qos(qos, 1));
            assert!(!publisher.is_read(), "{change:?} at {qos}");
            other.send(&publish("t", "x"));
            assert!(other.is_read());
            rig.set_behind(false);
            assert!(publisher.is_read());
        }
    }
}

#[test]
fn what_is_given_to_many_sessions_is_written_down_once() {
    let rig = Rig::new();
    let large = payload("large", 12_000);
    retain(&rig.client("pub"), "t", &large);
    for number in 0..40 {
        lasting(&rig, &format!("sub-{number}"), "t", 1).publish();
    }
    assert!(rig.compact() < 8, "40 copies would be 30 segments");
    rig.restart(End::Kill, 0);
    for number in 0..40 {
        assert_eq!(back(&rig, &format!("sub-{number}")).publish().text(), large);
    }
    drop(rig.connect(&v5("other")));
}
