//! SUBSCRIBE and SUBACK, matching and overlapping: MQTT 5, 3.8, 3.9, 3.3.4 and 4.7.

use super::packets::{connect, publish, pubrel, subscribe, unsubscribe, v5};
use super::received::Received;
use super::rig::Rig;
use super::wire::{Version, code};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

/// [MQTT-3.8.4-1] [MQTT-3.8.4-2] [MQTT-2.2.1-6] [MQTT-3.8.4-1 v3.1.1] [MQTT-3.8.4-2 v3.1.1]
/// [MQTT-2.3.1-7 v3.1.1]
#[test]
fn subscribe_is_answered_with_suback_of_the_same_identifier() {
    for version in BOTH {
        let client = Rig::new().connect(&connect(version, "c"));
        for packet_id in [1, 2, 0x8000, 0xFFFF, 1] {
            client.send(&subscribe(packet_id, "t"));
            assert_eq!(client.suback().packet_id, packet_id);
        }
    }
}

/// [MQTT-3.8.4-5] [MQTT-3.8.4-6] [MQTT-3.8.4-7] [MQTT-3.9.3-1] [MQTT-3.9.3-2]
/// [MQTT-3.8.4-4 v3.1.1] [MQTT-3.8.4-5 v3.1.1] [MQTT-3.9.3-1 v3.1.1] [MQTT-3.9.3-2 v3.1.1]
#[test]
fn suback_has_the_granted_qos_or_a_failure_for_each_filter_in_order() {
    for (version, failure) in [(Version::V3_1_1, 0x80), (Version::V5, code::TOPIC_FILTER_INVALID)] {
        let client = Rig::new().connect(&connect(version, "c"));
        let many = subscribe(1, "a")
            .qos(2)
            .and("a/#/b")
            .and("b")
            .and("c+")
            .qos(1)
            .and("+/+")
            .qos(1)
            .and("a")
            .qos(1);
        assert_eq!(client.subscribe(&many), [2, failure, 0, failure, 1, 1], "{version:?}");
        client.send(&publish("b", "x"));
        assert_eq!(client.payloads(), ["x"], "the others count");
    }
}

/// The same filter twice in one packet: the last counts. [MQTT-3.8.4-5] [MQTT-3.8.4-4 v3.1.1]
#[test]
fn several_filters_act_as_several_subscribes() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "c"));
        client.subscribe(&subscribe(1, "t").qos(2).and("t").qos(0).and("u").qos(1));
        let publisher = rig.client("p");
        publisher.send(&publish("t", "x").qos2(1));
        publisher.send(&publish("u", "x").qos2(2));
        assert_eq!([client.publish().qos, client.publish().qos], [0, 1]);
        client.expect_alive();
    }
}

/// Filters of one packet with retained messages, answered by one SUBACK. [MQTT-3.8.4-5]
#[test]
fn there_is_one_suback_however_many_filters() {
    let rig = Rig::new();
    let client = rig.client("c");
    let mut many = subscribe(5, "t/0");
    for n in 1..200 {
        many = many.and(&format!("t/{n}")).qos((n % 3) as u8);
    }
    client.send(&many);
    let suback = client.suback();
    assert_eq!(suback.codes.len(), 200);
    assert!((0..200).all(|n| suback.codes[n] == (n % 3) as u8));
    client.expect_alive();
}

/// [MQTT-3.8.4-3] [MQTT-3.8.4-3 v3.1.1]
#[test]
fn the_same_filter_replaces_the_subscription() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "c"));
        let publisher = rig.client("p");
        for qos in [2, 0, 1, 2] {
            assert_eq!(client.subscribe(&subscribe(1, "t/+").qos(qos)), [qos]);
            publisher.send(&publish("t/a", "x").qos2(1));
            publisher.send(&pubrel(1));
            assert_eq!(client.publish().qos, qos);
            client.expect_nothing();
        }
    }
}

/// Every option and the identifier are those of the new subscription. [MQTT-3.8.4-3]
#[test]
fn a_replaced_subscription_leaves_no_option_behind() {
    let rig = Rig::new();
    let client = rig.client("c");
    client.subscribe(&subscribe(1, "t").identifier(5).no_local().retain_as_published());
    client.send(&publish("t", "own"));
    client.expect_nothing();
    client.subscribe(&subscribe(2, "t").retain_handling(2));
    client.send(&publish("t", "own").retain());
    let got = client.publish();
    assert_eq!((got.retain, got.props.subscription_identifiers()), (false, vec![]));
    client.subscribe(&subscribe(3, "t").identifier(6).retain_handling(2));
    client.send(&publish("t", "own"));
    assert_eq!(client.publish().props.subscription_identifiers(), [6]);
}

/// [MQTT-3.8.4-4] [MQTT-3.8.4-3 v3.1.1]
#[test]
fn replacing_a_subscription_loses_no_message_and_sends_retained_ones_again() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "c"));
        let publisher = rig.client("p");
        publisher.send(&publish("t", "kept").retain());
        client.subscribe(&subscribe(1, "t").qos(1));
        assert_eq!(client.payloads(), ["kept"]);
        publisher.send(&publish("t", "before").qos1(1));
        client.send(&subscribe(2, "t").qos(1));
        publisher.send(&publish("t", "after").qos1(2));
        let mut payloads = Vec::new();
        while let Some(received) = client.next() {
            match received {
                Received::Publish(publish) => payloads.push(publish.text().to_owned()),
                Received::Suback(_) => {}
                other => panic!("{other:?}"),
            }
        }
        payloads.sort();
        assert_eq!(payloads, ["after", "before", "kept"]);
    }
}

/// [MQTT-3.8.4-4]
#[test]
fn messages_that_wait_survive_the_replacing_of_their_subscription() {
    let rig = Rig::new();
    let client = rig.connect(&v5("c").receive_maximum(1));
    client.subscribe(&subscribe(1, "t").qos(1));
    let publisher = rig.client("p");
    for payload in ["1", "2", "3"] {
        publisher.send(&publish("t", payload).qos1(1));
    }
    let id = client.publish().id();
    client.subscribe(&subscribe(2, "t").qos(1));
    client.send(&super::packets::puback(id));
    let second = client.publish();
    assert_eq!(second.text(), "2");
    client.send(&super::packets::puback(second.id()));
    assert_eq!(client.publish().text(), "3");
}

/// [MQTT-3.8.3-3]
#[test]
fn no_local_keeps_the_messages_of_the_own_client_away() {
    let rig = Rig::new();
    let client = rig.connect(&v5("c").lasting());
    client.subscribe(&subscribe(1, "t").qos(2).no_local());
    for qos in 0..3 {
        client.send(&publish("t", "own").qos(qos, 1));
    }
    assert!(client.puback().code < 0x80);
    assert!(client.pubrec().code < 0x80);
    client.expect_nothing();
    rig.client("other").send(&publish("t", "theirs"));
    assert_eq!(client.payloads(), ["theirs"]);
    client.reset();
    let client = rig.connect(&v5("c").lasting());
    client.expect_alive();
    client.send(&publish("t", "own, on another connection"));
    client.expect_alive();
}

/// One overlapping subscription without the option is enough. [MQTT-3.8.3-3] [MQTT-3.3.4-3]
#[test]
fn no_local_concerns_its_own_subscription_only() {
    let rig = Rig::new();
    let client = rig.client("c");
    client.subscribe(&subscribe(1, "t").qos(2).no_local().identifier(1));
    client.subscribe(&subscribe(2, "+").qos(1).identifier(2));
    client.send(&publish("t", "own").qos2(1));
    let got = client.publish();
    assert_eq!((got.qos, got.props.subscription_identifiers()), (1, vec![2]));
    assert!(client.pubrec().code < 0x80);
    client.expect_nothing();
    rig.client("other").send(&publish("t", "theirs").qos2(1));
    let got = client.publish();
    assert_eq!((got.qos, got.props.subscription_identifiers()), (2, vec![1, 2]));
}

/// [MQTT-3.3.4-2] [MQTT-3.3.5-1 v3.1.1]
#[test]
fn overlapping_subscriptions_deliver_once_at_their_highest_qos() {
    for version in BOTH {
        for order in [["t/a", "t/+", "#"], ["#", "t/+", "t/a"], ["t/+", "t/a", "#"]] {
            let rig = Rig::new();
            let client = rig.connect(&connect(version, "c"));
            for (filter, qos) in order.into_iter().zip([0, 2, 1]) {
                client.subscribe(&subscribe(1, filter).qos(qos));
            }
            rig.client("p").send(&publish("t/a", "x").qos2(1));
            assert_eq!(client.publish().qos, 2, "{order:?}");
            client.expect_alive();
        }
    }
}

/// [MQTT-3.3.4-3] [MQTT-3.3.4-4]
#[test]
fn a_message_carries_the_identifiers_of_all_its_subscriptions() {
    let rig = Rig::new();
    let client = rig.client("c");
    client.subscribe(&subscribe(1, "t/a").identifier(1));
    client.subscribe(&subscribe(2, "t/+").identifier(268_435_455));
    client.subscribe(&subscribe(3, "#").identifier(200));
    client.subscribe(&subscribe(4, "+/a"));
    client.subscribe(&subscribe(5, "u").identifier(9));
    rig.client("p").send(&publish("t/a", "x"));
    assert_eq!(client.publish().props.subscription_identifiers(), [1, 200, 268_435_455]);
    client.expect_alive();
}

/// MQTT 5, 3.3.4: the same identifier as often as it was used. [MQTT-3.3.4-4]
#[test]
fn an_identifier_used_twice_is_carried_twice() {
    let rig = Rig::new();
    let client = rig.client("c");
    client.subscribe(&subscribe(1, "t").and("+").and("u").identifier(7));
    rig.client("p").send(&publish("t", "x"));
    assert_eq!(client.publish().props.subscription_identifiers(), [7, 7]);
}

/// [MQTT-3.3.4-3]
#[test]
fn retained_and_queued_messages_carry_identifiers_too() {
    let rig = Rig::new();
    let publisher = rig.client("p");
    publisher.send(&publish("t", "kept").retain());
    let client = rig.connect(&v5("c").lasting());
    client.subscribe(&subscribe(1, "t").qos(1).identifier(3));
    assert_eq!(client.publish().props.subscription_identifiers(), [3]);
    client.reset();
    publisher.send(&publish("t", "queued").qos1(1));
    let client = rig.connect(&v5("c").lasting());
    assert_eq!(client.publish().props.subscription_identifiers(), [3]);
}

/// Whether `filter` brings the message of `topic`, to one client that asks and one that was there.
fn matches(version: Version, filter: &str, topic: &str) -> bool {
    let rig = Rig::new();
    let client = rig.subscriber(version, "c", filter, 0);
    let publisher = rig.connect(&connect(version, "p"));
    publisher.send(&publish(topic, "x").retain());
    publisher.send(&publish(topic, "y"));
    let live = client.payloads() == ["x", "y"];
    let late = rig.subscriber(version, "late", filter, 0);
    let retained = late.payloads() == ["x"];
    assert_eq!(live, retained, "{filter} and {topic}: live and retained differ");
    live
}

/// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-4] [MQTT-3.3.2-3] [MQTT-4.7.1-2 v3.1.1]
/// [MQTT-4.7.1-3 v3.1.1] [MQTT-4.7.3-4 v3.1.1] [MQTT-3.3.2-3 v3.1.1]
#[test]
fn filters_match_the_names_they_should() {
    const YES: &[(&str, &str)] = &[
        ("sport/tennis/player1/#", "sport/tennis/player1"),
        ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
        ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
        ("sport/#", "sport"),
        ("sport/#", "sport/"),
        ("#", "sport"),
        ("#", "/"),
        ("#", "a/b/c/d"),
        ("/#", "/"),
        ("/#", "/a"),
        ("sport/tennis/+", "sport/tennis/player1"),
        ("sport/+", "sport/"),
        ("+", "sport"),
        ("+/tennis/#", "sport/tennis"),
        ("+/tennis/#", "/tennis/x"),
        ("sport/+/player1", "sport/tennis/player1"),
        ("sport/+/player1", "sport//player1"),
        ("+/+", "/finance"),
        ("/+", "/finance"),
        ("a//b", "a//b"),
        ("/", "/"),
        ("Accounts payable", "Accounts payable"),
        ("\u{e9}", "\u{e9}"),
        ("$mine/#", "$mine/x"),
        ("$mine/monitor/+", "$mine/monitor/Clients"),
        ("a/$b", "a/$b"),
        ("+/$b", "a/$b"),
        ("#", "a/$b"),
        ("$own/+", "$own/x"),
    ];
    for version in BOTH {
        for (filter, topic) in YES {
            assert!(matches(version, filter, topic), "{filter} should match {topic}");
        }
    }
}

/// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-4] [MQTT-3.3.2-3] [MQTT-4.7.1-2 v3.1.1]
/// [MQTT-4.7.1-3 v3.1.1] [MQTT-4.7.3-4 v3.1.1] [MQTT-3.3.2-3 v3.1.1]
#[test]
fn filters_do_not_match_other_names() {
    const NO: &[(&str, &str)] = &[
        ("sport/tennis/+", "sport/tennis/player1/ranking"),
        ("sport/+", "sport"),
        ("+", "/finance"),
        ("+", "a/"),
        ("/#", "a"),
        ("/+", "a"),
        ("a/b", "a"),
        ("a", "a/b"),
        ("a/", "a"),
        ("a", "a/"),
        ("/a", "a"),
        ("a//b", "a/b"),
        ("a/b", "a//b"),
        ("ACCOUNTS", "Accounts"),
        ("a/b/#", "a/c"),
        ("a ", "a"),
        // Composed and decomposed, and the half and full width forms, are other names.
        ("\u{e9}", "e\u{301}"),
        ("a", "\u{ff41}"),
        ("%61", "a"),
        ("a/../b", "b"),
    ];
    for version in BOTH {
        for (filter, topic) in NO {
            assert!(!matches(version, filter, topic), "{filter} should not match {topic}");
        }
    }
}

/// [MQTT-4.7.2-1] [MQTT-4.7.2-1 v3.1.1]
#[test]
fn a_leading_wildcard_does_not_match_a_leading_dollar() {
    for version in BOTH {
        for (filter, topic) in [
            ("#", "$mine"),
            ("#", "$mine/x"),
            ("+/monitor/Clients", "$mine/monitor/Clients"),
            ("+/#", "$mine/x"),
            ("+", "$"),
            ("#", "$other/x"),
            ("+/x", "$/x"),
        ] {
            assert!(!matches(version, filter, topic), "{filter} should not match {topic}");
        }
    }
}

/// [MQTT-4.7.1-1] [MQTT-4.7.1-2] [MQTT-4.7.3-1] [MQTT-4.8.2-1] [MQTT-4.8.2-2]
/// [MQTT-4.7.1-2 v3.1.1] [MQTT-4.7.1-3 v3.1.1] [MQTT-4.7.3-1 v3.1.1]
#[test]
fn an_illegal_filter_is_refused() {
    for filter in [
        "a#",
        "#/a",
        "a/#/b",
        "a/b#",
        "##",
        "#+",
        "a+",
        "+a",
        "a/b+/c",
        "a/+b",
        "++",
        "",
        "$share/",
        "$share//a",
        "$share/g",
        "$share/g/",
        "$share/g+/a",
        "$share/g#/a",
        "$share/#/a",
        "$share/+/a",
        "$share/g/a#",
    ] {
        // To MQTT 3.1.1 a name that begins with $share is a name like others.
        let versions = if filter.starts_with('$') { &BOTH[1..] } else { &BOTH };
        for &version in versions {
            let client = Rig::new().connect(&connect(version, "c"));
            client.send(&subscribe(1, filter));
            match client.next() {
                Some(Received::Suback(suback)) => {
                    let want =
                        if version == Version::V5 { code::TOPIC_FILTER_INVALID } else { 0x80 };
                    assert_eq!(suback.codes, [want], "{filter} {version:?}");
                    client.expect_alive();
                }
                Some(Received::Disconnect(disconnect)) => assert!(disconnect.code >= 0x80),
                None => assert!(client.is_closed(), "{filter}"),
                Some(other) => panic!("{other:?}"),
            }
        }
    }
}

/// [MQTT-4.7.3-3] [MQTT-4.7.3-3 v3.1.1]
#[test]
fn a_filter_of_65535_bytes_is_a_filter() {
    for version in BOTH {
        let filter = format!("+/{}", "n".repeat(65_533));
        let client = Rig::new().subscriber(version, "c", &filter, 0);
        let topic = format!("a/{}", "n".repeat(65_533));
        client.send(&publish(&topic, "x"));
        assert_eq!(client.payloads(), ["x"]);
    }
}

/// [MQTT-3.8.3-4]
#[test]
fn no_local_on_a_shared_subscription_is_a_protocol_error() {
    let client = Rig::new().client("c");
    client.send(&subscribe(1, "t").and("$share/g/t").no_local());
    assert_eq!(client.closed_with(), code::PROTOCOL_ERROR);
}

/// Nothing about the order of SUBACK and of messages is lost between two requests.
#[test]
fn subscribe_and_unsubscribe_in_one_piece_act_in_turn() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "c"));
        client.send_at_once(&[
            &subscribe(1, "t"),
            &publish("t", "yes"),
            &unsubscribe(2, "t"),
            &publish("t", "no"),
            &subscribe(3, "t"),
            &publish("t", "again"),
        ]);
        let mut payloads = Vec::new();
        while let Some(received) = client.next() {
            if let Received::Publish(publish) = received {
                payloads.push(publish.text().to_owned());
            }
        }
        assert_eq!(payloads, ["yes", "again"]);
    }
}
