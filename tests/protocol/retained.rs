//! Retained messages: MQTT 5, 3.3.1.3 and 3.8.3.1.

use super::packets::{connect, disconnect, publish, pubrel, subscribe, unsubscribe, v5};
use super::received::Publish;
use super::rig::{Client, Rig};
use super::wire::{Version, prop};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

/// What a client gets that subscribes now: payloads, sorted, each of them marked as retained.
fn kept(rig: &Rig, version: Version, filter: &str) -> Vec<String> {
    let late = rig.subscriber(version, "late", filter, 2);
    let mut payloads = Vec::new();
    while let Some(received) = late.next() {
        let super::received::Received::Publish(publish) = received else {
            panic!("only messages should come, not {received:?}")
        };
        assert!(publish.retain, "[MQTT-3.3.1-8 v3.1.1] {publish:?}");
        payloads.push(publish.text().to_owned());
    }
    payloads.sort();
    late.send(&disconnect());
    payloads
}

fn one(client: &Client) -> Publish {
    let publish = client.publish();
    client.expect_nothing();
    publish
}

/// [MQTT-3.3.1-5] [MQTT-3.3.1-9] [MQTT-3.3.1-5 v3.1.1] [MQTT-3.3.1-6 v3.1.1] [MQTT-3.3.1-8 v3.1.1]
#[test]
fn the_last_retained_message_of_a_topic_is_sent_to_a_new_subscription() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "p"));
        for (payload, qos) in [("0", 0), ("1", 1), ("2", 2), ("3", 0), ("4", 2)] {
            client.send(&publish("t", payload).qos(qos, 1).retain());
            client.send(&pubrel(1));
            assert_eq!(kept(&rig, version, "t"), [payload]);
        }
    }
}

/// A retained message has a QoS like any other. [MQTT-3.8.4-8] [MQTT-3.3.1-5 v3.1.1]
#[test]
fn a_retained_message_is_sent_at_the_lesser_qos() {
    for version in BOTH {
        for published in 0..3 {
            for granted in 0..3 {
                let rig = Rig::new();
                rig.client("p").send(&publish("t", "x").qos(published, 1).retain());
                let late = rig.subscriber(version, "late", "t", granted);
                assert_eq!(one(&late).qos, published.min(granted), "{published} to {granted}");
            }
        }
    }
}

/// [MQTT-3.3.1-6] [MQTT-3.3.1-7] [MQTT-3.3.1-10 v3.1.1] [MQTT-3.3.1-11 v3.1.1]
#[test]
fn an_empty_retained_message_is_delivered_and_clears_the_topic() {
    for version in BOTH {
        for qos in 0..3 {
            let rig = Rig::new();
            let reader = rig.subscriber(version, "reader", "t", 0);
            let client = rig.connect(&connect(version, "p"));
            client.send(&publish("t", "x").retain());
            client.send(&publish("u", "other").retain());
            assert_eq!(reader.payloads(), ["x"]);
            client.send(&publish("t", "").qos(qos, 1).retain());
            client.send(&pubrel(1));
            let empty = one(&reader);
            assert_eq!((empty.text(), empty.retain), ("", false));
            assert_eq!(kept(&rig, version, "#"), ["other"]);
        }
    }
}

/// [MQTT-3.3.1-7] [MQTT-3.3.1-11 v3.1.1]
#[test]
fn an_empty_message_is_not_retained_where_nothing_was() {
    for version in BOTH {
        let rig = Rig::new();
        rig.connect(&connect(version, "p")).send(&publish("t", "").retain());
        assert!(kept(&rig, version, "#").is_empty());
    }
}

/// [MQTT-3.3.1-8] [MQTT-3.3.1-12 v3.1.1]
#[test]
fn a_message_without_retain_leaves_the_retained_one_alone() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "p"));
        client.send(&publish("t", "x"));
        assert!(kept(&rig, version, "#").is_empty());
        client.send(&publish("t", "kept").retain());
        client.send(&publish("t", "passes"));
        client.send(&publish("t", ""));
        assert_eq!(kept(&rig, version, "#"), ["kept"]);
    }
}

/// [MQTT-3.3.1-7 v3.1.1]
#[test]
fn a_retained_message_of_qos_0_discards_the_one_before() {
    let rig = Rig::new();
    let client = rig.connect(&connect(Version::V3_1_1, "p"));
    client.send(&publish("t", "old").qos1(1).retain());
    client.send(&publish("t", "new").retain());
    assert_eq!(kept(&rig, Version::V3_1_1, "t"), ["new"]);
}

/// [MQTT-3.3.1-9] [MQTT-3.3.1-6 v3.1.1]
#[test]
fn all_matching_retained_messages_are_sent_however_many() {
    for (version, receive_maximum) in [(Version::V5, 3), (Version::V3_1_1, 0)] {
        let rig = Rig::new();
        let client = rig.client("p");
        let mut want = Vec::new();
        for n in 0..3_000 {
            client.send(&publish(&format!("t/{}/{n}", n % 7), &n.to_string()).qos1(1).retain());
            want.push(n.to_string());
        }
        let mut first = connect(version, "late");
        if receive_maximum > 0 {
            first = first.receive_maximum(receive_maximum);
        }
        let late = rig.connect(&first);
        late.subscribe(&subscribe(1, "t/+/#").qos(1));
        let mut got = Vec::new();
        loop {
            while let Some(super::received::Received::Publish(publish)) = late.next() {
                assert!(publish.retain);
                late.send(&super::packets::puback(publish.id()));
                got.push(publish.text().to_owned());
            }
            rig.advance_ms(1);
            late.send(&super::packets::Pingreq);
            match late.next() {
                Some(super::received::Received::Pingresp) => break,
                Some(super::received::Received::Publish(publish)) => {
                    late.send(&super::packets::puback(publish.id()));
                    got.push(publish.text().to_owned());
                }
                other => panic!("{other:?}"),
            }
        }
        got.sort();
        want.sort();
        assert!(got == want, "{} of {}", got.len(), want.len());
    }
}

/// [MQTT-3.3.1-9] [MQTT-3.3.1-10] [MQTT-3.3.1-11]
#[test]
fn retain_handling_rules_what_is_sent_at_subscribe() {
    // Handling, whether it comes for a new subscription, whether for one that exists.
    for (handling, new, again) in [(0, 1, 1), (1, 1, 0), (2, 0, 0)] {
        let rig = Rig::new();
        let publisher = rig.client("p");
        publisher.send(&publish("t", "kept").retain());
        let client = rig.connect(&v5("c").lasting());
        let handled = subscribe(1, "t").retain_handling(handling);
        let count = |client: &Client, subscribe| {
            client.subscribe(subscribe);
            client.payloads().len()
        };
        assert_eq!(count(&client, &handled), new, "handling {handling}, new");
        assert_eq!(count(&client, &handled), again, "handling {handling}, there");
        let changed = handled.clone().qos(1).identifier(3);
        assert_eq!(count(&client, &changed), again, "handling {handling}, changed");
        client.reset();
        let client = rig.connect(&v5("c").lasting());
        assert_eq!(count(&client, &handled), again, "handling {handling}, resumed");
        client.send(&unsubscribe(2, "t"));
        client.unsuback();
        assert_eq!(count(&client, &handled), new, "handling {handling}, new again");
        publisher.send(&publish("t", "live").retain());
        assert_eq!(client.payloads(), ["live"], "messages that come later are not concerned");
    }
}

/// An overlapping filter is another subscription. [MQTT-3.3.1-10]
#[test]
fn retain_handling_1_asks_for_the_same_filter() {
    let rig = Rig::new();
    rig.client("p").send(&publish("t", "kept").retain());
    let client = rig.client("c");
    client.subscribe(&subscribe(1, "#"));
    assert_eq!(client.payloads(), ["kept"]);
    client.subscribe(&subscribe(2, "t").retain_handling(1));
    assert_eq!(client.payloads(), ["kept"]);
}

/// [MQTT-3.3.1-12] [MQTT-3.3.1-9 v3.1.1]
#[test]
fn a_live_message_is_forwarded_without_retain() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.subscriber(version, "c", "t", 0);
        let publisher = rig.client("p");
        publisher.send(&publish("t", "x").retain());
        assert!(!one(&client).retain);
        publisher.send(&publish("t", "x"));
        assert!(!one(&client).retain);
    }
}

/// [MQTT-3.3.1-13]
#[test]
fn with_retain_as_published_the_flag_is_forwarded() {
    let rig = Rig::new();
    let client = rig.client("c");
    client.subscribe(&subscribe(1, "t").retain_as_published());
    let publisher = rig.client("p");
    publisher.send(&publish("t", "x").retain());
    assert!(one(&client).retain);
    publisher.send(&publish("t", "x"));
    assert!(!one(&client).retain);
    publisher.send(&publish("t", "").retain());
    assert!(one(&client).retain);
}

/// [MQTT-3.3.1-12] [MQTT-3.3.1-13]
#[test]
fn retain_as_published_holds_for_messages_that_waited() {
    let rig = Rig::new();
    let client = rig.connect(&v5("c").lasting());
    client.subscribe(&subscribe(1, "as/published").qos(1).retain_as_published());
    client.subscribe(&subscribe(1, "plain").qos(1));
    client.reset();
    let publisher = rig.client("p");
    publisher.send(&publish("as/published", "x").qos1(1).retain());
    publisher.send(&publish("plain", "x").qos1(2).retain());
    let client = rig.connect(&v5("c").lasting());
    let flags = [client.publish(), client.publish()].map(|publish| publish.retain);
    assert_eq!(flags, [true, false]);
}

/// MQTT 5, 3.8.3.1: those sent at subscribe have RETAIN 1 whatever the option.
#[test]
fn retained_messages_at_subscribe_have_retain_whatever_the_option() {
    let rig = Rig::new();
    rig.client("p").send(&publish("t", "kept").retain());
    for subscribe in [subscribe(1, "t"), subscribe(1, "t").retain_as_published()] {
        let client = rig.client("c");
        client.subscribe(&subscribe);
        assert!(one(&client).retain);
    }
}

/// [MQTT-3.3.2-5] [MQTT-3.3.2-6]
#[test]
fn a_retained_message_expires() {
    let rig = Rig::new();
    rig.client("p").send(&publish("t", "kept").retain().expiry(100));
    rig.advance(40);
    let late = rig.subscriber(Version::V5, "late", "t", 0);
    assert_eq!(one(&late).props.number(prop::MESSAGE_EXPIRY), Some(60));
    rig.advance(61);
    for filter in ["t", "#", "+"] {
        assert!(kept(&rig, Version::V5, filter).is_empty(), "{filter}");
    }
}

/// An expired message makes room. [MQTT-3.3.2-5]
#[test]
fn an_expired_retained_message_counts_no_more() {
    let rig = Rig::with(|limits| limits.retained_messages = 1);
    let client = rig.client("p");
    client.send(&publish("t", "kept").qos1(1).retain().expiry(10));
    assert!(client.puback().code < 0x80);
    client.send(&publish("u", "refused").qos1(1).retain());
    assert!(client.puback().code >= 0x80);
    rig.advance(11);
    client.send(&publish("u", "kept now").qos1(1).retain());
    assert!(client.puback().code < 0x80);
    assert_eq!(kept(&rig, Version::V5, "#"), ["kept now"]);
}

/// [MQTT-4.7.2-1]
#[test]
fn retained_messages_below_a_dollar_are_not_found_by_a_leading_wildcard() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.client("p");
        client.send(&publish("$own/a", "hidden").retain());
        client.send(&publish("plain/a", "seen").retain());
        assert_eq!(kept(&rig, version, "#"), ["seen"]);
        assert_eq!(kept(&rig, version, "+/a"), ["seen"]);
        assert_eq!(kept(&rig, version, "$own/#"), ["hidden"]);
    }
}

/// MQTT 5, 4.8.2: no retained messages are sent to a shared subscription.
#[test]
fn a_shared_subscription_gets_no_retained_messages() {
    let rig = Rig::new();
    let publisher = rig.client("p");
    publisher.send(&publish("t", "kept").retain());
    let client = rig.client("c");
    client.subscribe(&subscribe(1, "$share/g/t"));
    client.expect_alive();
    publisher.send(&publish("t", "live").retain());
    assert_eq!(client.payloads(), ["live"]);
}

/// [MQTT-3.3.1-9]
#[test]
fn retained_messages_go_on_when_the_client_comes_back() {
    let rig = Rig::new();
    let publisher = rig.client("p");
    for n in 0..20 {
        publisher.send(&publish(&format!("t/{n:02}"), &n.to_string()).qos1(1).retain());
    }
    let client = rig.connect(&v5("c").lasting().receive_maximum(5));
    client.subscribe(&subscribe(1, "t/+").qos(1));
    assert_eq!(client.payloads().len(), 5);
    client.reset();
    let client = rig.connect(&v5("c").lasting());
    let mut came = client.payloads();
    // Topics have no order among themselves.
    came.sort_by_key(|payload| payload.parse::<u32>().expect("a number"));
    let want: Vec<String> = (0..20).map(|n: u32| n.to_string()).collect();
    assert_eq!(came, want);
}

/// [MQTT-3.10.4-2]
#[test]
fn unsubscribe_stops_what_is_left_of_the_retained_messages() {
    let rig = Rig::new();
    let publisher = rig.client("p");
    for n in 0..20 {
        publisher.send(&publish(&format!("t/{n:02}"), &n.to_string()).qos1(1).retain());
    }
    let client = rig.connect(&v5("c").receive_maximum(5));
    client.subscribe(&subscribe(1, "t/+").qos(1));
    let ids: Vec<u16> = (0..5).map(|_| client.publish().id()).collect();
    client.send(&unsubscribe(2, "t/+"));
    client.unsuback();
    for id in ids {
        client.send(&super::packets::puback(id));
    }
    client.expect_alive();
}

/// While a long read goes on, what is newer has passed already.
#[test]
fn a_retained_message_does_not_come_after_a_newer_one_of_its_topic() {
    let rig = Rig::new();
    let publisher = rig.client("p");
    for n in 0..10 {
        publisher.send(&publish(&format!("t/{n}"), "old").qos1(1).retain());
    }
    let client = rig.connect(&v5("c").receive_maximum(1));
    client.subscribe(&subscribe(1, "t/+").qos(1));
    publisher.send(&publish("t/7", "new").qos1(1).retain());
    publisher.send(&publish("t/8", "").qos1(1).retain());
    let mut got = std::collections::BTreeMap::<String, Vec<String>>::new();
    while let Some(super::received::Received::Publish(publish)) = client.next() {
        client.send(&super::packets::puback(publish.id()));
        got.entry(publish.topic.clone()).or_default().push(publish.text().to_owned());
    }
    assert_eq!(got.len(), 10);
    assert_eq!(got["t/0"], ["old"]);
    assert_eq!(got["t/7"].last().map(String::as_str), Some("new"));
    assert_eq!(got["t/8"].last().map(String::as_str), Some(""));
}

/// A message must not reach a subscriber both ways, nor an older one after a newer one.
#[test]
fn a_retained_message_does_not_overtake_a_live_one() {
    let rig = Rig::new();
    let publisher = rig.client("p");
    publisher.send(&publish("t", "old").retain());
    let client = rig.client("c");
    client.subscribe(&subscribe(1, "t"));
    publisher.send(&publish("t", "new").retain());
    assert_eq!(client.payloads(), ["old", "new"]);
}
