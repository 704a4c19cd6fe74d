//! The dialect: an empty message to a topic with wildcards deletes what is retained there.

use longshore_broker::WildcardDelete;

use super::packets::{Outgoing, Publish, connect, publish, pubrel, subscribe, v4, v5};
use super::rig::{Client, Rig};
use super::wire::{Version, code};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

/// Retains a message with each topic as its payload.
fn retain(client: &Client, topics: &[&str]) {
    topics.iter().for_each(|topic| client.send(&publish(topic, topic).retain()));
}

/// What somebody finds who subscribes now.
fn found(rig: &Rig, filter: &str) -> Vec<String> {
    let mut found = rig.subscriber(Version::V5, "late", filter, 0).payloads();
    found.sort();
    found
}

/// Sends a deletion and waits for the end of its exchange, which is good.
fn delete(client: &Client, deletion: &Publish) {
    client.send(deletion);
    match deletion.flags >> 1 & 0b11 {
        0 => {}
        1 => assert_eq!(client.puback().code, 0),
        _ => {
            assert_eq!(client.pubrec().code, 0);
            client.send(&pubrel(1));
            assert_eq!(client.pubcomp().code, 0);
        }
    }
    client.expect_alive();
}

#[test]
fn an_empty_message_to_a_filter_deletes_what_is_retained_there_and_nothing_else() {
    let all = ["a", "a/b", "a/b/c", "a/d/c", "b", "b/b"];
    let rows: [(&str, &[&str]); 7] = [
        ("#", &[]),
        ("+", &["a/b", "a/b/c", "a/d/c", "b/b"]),
        ("a/#", &["b", "b/b"]),
        ("a/+", &["a", "a/b/c", "a/d/c", "b", "b/b"]),
        ("+/b", &["a", "a/b/c", "a/d/c", "b"]),
        ("a/+/c", &["a", "a/b", "b", "b/b"]),
        ("c/#", &all),
    ];
    for version in BOTH {
        for qos in 0..3 {
            for (filter, left) in rows {
                let rig = Rig::new();
                let client = rig.connect(&connect(version, "p"));
                retain(&client, &all);
                let deletion = publish(filter, "").qos(qos, 1);
                delete(&client, &if qos == 1 { deletion.retain() } else { deletion });
                assert_eq!(found(&rig, "#"), left, "{filter}");
            }
        }
    }
}

/// [MQTT-4.7.2-1]
#[test]
fn a_wildcard_at_the_front_deletes_nothing_below_a_dollar() {
    for filter in ["#", "+/#", "+/a", "+"] {
        let rig = Rig::new();
        let client = rig.client("p");
        retain(&client, &["$own", "$own/a"]);
        delete(&client, &publish(filter, "").qos1(1));
        assert_eq!(found(&rig, "$own/#"), ["$own", "$own/a"], "{filter}");
        delete(&client, &publish("$own/#", "").qos1(1));
        assert!(found(&rig, "$own/#").is_empty());
    }
}

#[test]
fn a_deletion_reaches_nobody_who_has_subscribed() {
    let rig = Rig::new();
    let client = rig.client("p");
    retain(&client, &["a/b"]);
    let reader = rig.subscriber(Version::V5, "reader", "#", 1);
    assert_eq!(reader.payloads(), ["a/b"]);
    let group = rig.client("group");
    group.subscribe(&subscribe(1, "$share/g/#").qos(1));
    for qos in 0..3 {
        delete(&client, &publish("a/+", "").qos(qos, 1).retain());
    }
    reader.expect_alive();
    group.expect_alive();
}

#[test]
fn a_topic_that_was_deleted_is_set_again_like_any_other() {
    let rig = Rig::new();
    let client = rig.client("p");
    retain(&client, &["a/b", "a/c"]);
    client.send_at_once(&[&publish("a/#", "").qos1(1), &publish("a/b", "new").qos1(2).retain()]);
    client.puback();
    client.puback();
    client.expect_alive();
    assert_eq!(found(&rig, "#"), ["new"]);
}

/// [MQTT-3.3.2-2] [MQTT-3.3.2-2 v3.1.1]
#[test]
fn a_message_to_a_filter_that_is_no_deletion_is_refused() {
    let speaking = |delete| Rig::speaking(|dialect| dialect.wildcard_delete = delete);
    let refused = [
        (WildcardDelete::Any, publish("a/#", "x").retain()),
        (WildcardDelete::Any, publish("a/+", "x")),
        (WildcardDelete::Any, publish("$share/g/a/#", "").retain()),
        (WildcardDelete::Any, publish("a#", "").retain()),
        (WildcardDelete::Any, publish("a/#/b", "").retain()),
        (WildcardDelete::Any, publish("a/+b", "").retain()),
        (WildcardDelete::Retain, publish("a/#", "")),
        (WildcardDelete::Off, publish("a/#", "")),
        (WildcardDelete::Off, publish("a/#", "").retain()),
    ];
    for (delete, refused) in refused {
        for qos in 0..3 {
            let rig = speaking(delete);
            retain(&rig.client("p"), &["a/b"]);
            let client = rig.client("c");
            client.send(&refused.clone().qos(qos, 1));
            assert_eq!(client.closed_with(), code::TOPIC_NAME_INVALID, "{refused:?}");
            let client = rig.connect(&v4("c"));
            client.send(&refused.clone().qos(qos, 1));
            client.closed_silently();
            assert_eq!(found(&rig, "#"), ["a/b"]);
        }
    }
    let rig = speaking(WildcardDelete::Retain);
    let client = rig.client("p");
    retain(&client, &["a/b"]);
    delete(&client, &publish("a/#", "").qos1(1).retain());
    assert!(found(&rig, "#").is_empty());
}

#[test]
fn an_alias_stands_for_no_filter() {
    let rig = Rig::new();
    retain(&rig.client("p"), &["a/b"]);
    let client = rig.client("c");
    client.send(&publish("a/#", "").alias(1).retain());
    assert_eq!(client.closed_with(), code::TOPIC_NAME_INVALID);
    assert_eq!(found(&rig, "#"), ["a/b"]);
}

#[test]
fn a_filter_past_the_limits_of_a_topic_is_refused() {
    for filter in ["a/b/c/#", "aaaaaaaaaaa/#"] {
        let rig = Rig::with(|limits| (limits.topic_levels, limits.topic_bytes) = (3, 12));
        let client = rig.client("c");
        client.send(&publish(filter, "").qos1(1));
        assert_eq!(client.closed_with(), code::TOPIC_NAME_INVALID, "{filter}");
    }
}

/// [MQTT-4.3.3-10]
#[test]
fn a_deletion_at_qos_2_is_done_once_however_often_it_is_sent() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "p"));
        retain(&client, &["a/b"]);
        client.send(&publish("a/#", "").qos2(1));
        client.pubrec();
        retain(&client, &["a/c"]);
        client.send(&publish("a/#", "").qos2(1).dup());
        client.pubrec();
        assert_eq!(found(&rig, "#"), ["a/c"]);
        client.send(&pubrel(1));
        client.pubcomp();
        delete(&client, &publish("a/#", "").qos2(1));
        assert!(found(&rig, "#").is_empty());
    }
}

/// Topics that no slice of a deletion has room for.
const MANY: usize = 5_000;

/// A broker with so many retained messages that no deletion is done at once, and its publisher.
fn filled() -> (Rig, Client) {
    let rig = Rig::with(|limits| limits.retained_messages = MANY);
    let client = rig.client("p");
    for number in 0..MANY {
        client.send(&publish(&format!("many/{number}"), "x").retain());
    }
    (rig, client)
}

#[test]
fn nobody_finds_what_is_being_deleted() {
    let (rig, client) = filled();
    // The first slices, before anything else is done.
    client.send_at_once(&[
        &publish("many/#", "").qos1(1),
        &publish("many/7", "new").qos1(2).retain(),
        &subscribe(3, "many/+"),
    ]);
    assert_eq!((client.puback().code, client.puback().packet_id), (0, 2));
    client.suback();
    assert_eq!(client.payloads(), ["new"]);
    assert_eq!(found(&rig, "#"), ["new"]);
}

#[test]
fn a_deletion_whose_client_is_gone_is_done_all_the_same() {
    let (rig, client) = filled();
    client.send(&publish("many/#", ""));
    client.reset();
    assert!(found(&rig, "#").is_empty());
    retain(&rig.client("p"), &["many/1"]);
    assert_eq!(found(&rig, "#"), ["many/1"]);
}

#[test]
fn what_was_deleted_takes_no_room() {
    let (_rig, client) = filled();
    client.send(&publish("other", "x").qos1(1).retain());
    assert_eq!(client.puback().code, code::QUOTA_EXCEEDED);
    // Without an answer that would wake anybody.
    client.send(&publish("+/#", ""));
    for number in 0..MANY {
        client.send(&publish(&format!("other/{number}"), "x").qos1(1).retain());
        assert!(client.puback().code < 0x80);
    }
}

#[test]
fn too_many_deletions_at_once_are_refused_and_done_one_after_another() {
    let (rig, client) = filled();
    let deletions: Vec<_> = (1..=20).map(|id| publish("many/#", "").qos1(id)).collect();
    let deletions: Vec<_> = deletions.iter().map(|it| it as &dyn Outgoing).collect();
    client.send_at_once(&deletions);
    let codes: Vec<u8> = (1..=20).map(|_| client.puback().code).collect();
    match crate::TURN_WORK {
        // All are read before any goes on.
        None => assert_eq!(codes, [[0; 16].as_slice(), &[code::QUOTA_EXCEEDED; 4]].concat()),
        Some(_) => assert_eq!(codes[0], 0),
    }
    assert!(found(&rig, "#").is_empty());
    delete(&client, &publish("many/#", "").qos1(1));
    drop(rig.connect(&v5("other")));
}
