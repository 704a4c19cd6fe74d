//! Topic aliases in both directions: MQTT 5, 3.3.2.3.4 and 3.3.4.

use super::packets::{publish, pubrec, pubrel, subscribe, v5};
use super::received::Received;
use super::rig::Rig;
use super::wire::{Version, code, prop};

// ---- set by the client

/// [MQTT-3.3.2-12]
#[test]
fn every_alias_from_1_to_the_announced_maximum_is_accepted() {
    let rig = Rig::new();
    let reader = rig.subscriber(Version::V5, "reader", "#", 0);
    let (client, connack) = rig.connect_told(&v5("c"));
    let most = connack.props.number(prop::TOPIC_ALIAS_MAXIMUM).expect("some are allowed");
    let most = u16::try_from(most).expect("two bytes");
    for alias in 1..=most {
        client.send(&publish(&format!("t/{alias}"), "set").alias(alias));
        assert_eq!(reader.publish().topic, format!("t/{alias}"));
    }
    for alias in (1..=most).rev() {
        client.send(&publish("", "used").alias(alias));
        assert_eq!(reader.publish().topic, format!("t/{alias}"));
    }
}

/// MQTT 5, 3.3.2.3.4.
#[test]
fn an_alias_may_be_given_to_another_topic() {
    let rig = Rig::new();
    let reader = rig.subscriber(Version::V5, "reader", "#", 0);
    let client = rig.client("c");
    for topic in ["a", "b", "a"] {
        client.send(&publish(topic, "set").alias(1));
        client.send(&publish("", "used").alias(1));
        assert_eq!([reader.publish().topic, reader.publish().topic], [topic, topic]);
    }
}

/// A message nobody wants sets its alias all the same.
#[test]
fn an_alias_is_set_whatever_becomes_of_the_message() {
    let rig = Rig::with(|limits| limits.retained_messages = 0);
    let client = rig.client("c");
    client.send(&publish("a", "nobody").alias(1));
    client.send(&publish("b", "refused").qos1(1).retain().alias(2));
    assert_eq!(client.puback().code, code::QUOTA_EXCEEDED);
    client.send(&publish("c", "twice").qos2(2).alias(3));
    client.pubrec();
    client.send(&publish("d", "twice").qos2(2).dup().alias(4));
    client.pubrec();
    client.send(&pubrel(2));
    client.pubcomp();
    let reader = rig.subscriber(Version::V5, "reader", "#", 0);
    for (alias, topic) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
        client.send(&publish("", "x").alias(alias));
        assert_eq!(reader.publish().topic, topic);
    }
}

/// [MQTT-3.3.2-8] [MQTT-3.3.2-9] [MQTT-3.2.2-17]
#[test]
fn an_alias_of_0_or_above_the_maximum_is_invalid() {
    for alias in [0, 65, 66, 65_535] {
        for topic in ["t", ""] {
            let client = Rig::new().client("c");
            client.send(&publish(topic, "x").alias(alias));
            assert_eq!(client.closed_with(), code::TOPIC_ALIAS_INVALID, "{alias}");
        }
    }
}

/// [MQTT-3.2.2-18]
#[test]
fn without_a_maximum_every_alias_is_invalid() {
    let rig = Rig::with(|limits| limits.topic_aliases = 0);
    let (client, connack) = rig.connect_told(&v5("c"));
    assert_eq!(connack.props.number(prop::TOPIC_ALIAS_MAXIMUM).unwrap_or(0), 0);
    client.send(&publish("t", "x").alias(1));
    assert_eq!(client.closed_with(), code::TOPIC_ALIAS_INVALID);
}

/// MQTT 5, 3.3.4 and 3.3.2.1. [MQTT-4.13.1-1]
#[test]
fn no_topic_name_and_no_known_alias_is_a_protocol_error() {
    for message in [publish("", "x").alias(3), publish("", "x")] {
        let client = Rig::new().client("c");
        client.send(&publish("t", "x").alias(4));
        client.send(&message);
        assert_eq!(client.closed_with(), code::PROTOCOL_ERROR);
    }
}

/// [MQTT-3.3.2-7]
#[test]
fn the_aliases_of_a_client_end_with_its_connection() {
    let rig = Rig::new();
    let client = rig.connect(&v5("c").lasting());
    client.send(&publish("t", "x").alias(1));
    client.reset();
    let client = rig.connect(&v5("c").lasting());
    client.send(&publish("", "x").alias(1));
    assert_eq!(client.closed_with(), code::PROTOCOL_ERROR);
}

// ---- set by the broker; the watch looks names up and fails where an alias is not known

/// [MQTT-3.1.2-26] [MQTT-3.3.2-11]
#[test]
fn the_broker_sets_no_alias_above_the_maximum_of_the_client() {
    for most in [1, 2, 5, 65_535] {
        let rig = Rig::new();
        let client = rig.connect(&v5("c").topic_alias_maximum(most));
        client.subscribe(&subscribe(1, "#"));
        let publisher = rig.client("p");
        for n in 0..300 {
            let topic = format!("topic/{}", n * n % 17);
            publisher.send(&publish(&topic, "x"));
            assert_eq!(client.publish().topic, topic);
        }
    }
}

#[test]
fn the_broker_makes_use_of_aliases() {
    let rig = Rig::new();
    let client = rig.connect(&v5("c").topic_alias_maximum(10));
    client.unwatch();
    client.send(&subscribe(1, "#"));
    let publisher = rig.client("p");
    let topic = "a/long/topic/name/that/is/published/again/and/again";
    let sizes = [(); 4].map(|()| {
        client.bytes();
        publisher.send(&publish(topic, "x"));
        client.bytes().len()
    });
    assert!(sizes[3] < topic.len(), "{sizes:?}");
}

/// [MQTT-3.1.2-27]
#[test]
fn the_broker_sets_no_alias_where_the_client_allows_none() {
    for connect in [v5("c"), v5("c").topic_alias_maximum(0)] {
        let rig = Rig::new();
        let client = rig.connect(&connect);
        client.subscribe(&subscribe(1, "#"));
        let publisher = rig.client("p");
        for _ in 0..20 {
            publisher.send(&publish("t", "x"));
            assert!(!client.publish().props.has(prop::TOPIC_ALIAS));
        }
    }
}

/// [MQTT-3.3.2-7]
#[test]
fn the_aliases_of_the_broker_end_with_the_connection() {
    let rig = Rig::new();
    let publisher = rig.client("p");
    let mut client = rig.connect(&v5("c").lasting().topic_alias_maximum(10));
    client.subscribe(&subscribe(1, "#").qos(2));
    for round in 0..3 {
        for n in 0..5 {
            publisher.send(&publish("t", &n.to_string()).qos1(1));
            publisher.send(&publish("u", &n.to_string()).qos2(2));
            publisher.send(&pubrel(2));
        }
        client.reset();
        client = rig.connect(&v5("c").lasting().topic_alias_maximum(10));
        let mut count = 0;
        while let Some(received) = client.next() {
            if let Received::Publish(publish) = received {
                assert!(["t", "u"].contains(&publish.topic.as_str()));
                count += 1;
            }
        }
        assert_eq!(count, 10 * (round + 1), "all unacknowledged ones come again");
    }
}

/// A message that is too large, or dropped, must not leave the client without the name.
#[test]
fn an_alias_is_not_lost_with_a_message_that_is_not_sent() {
    let rig = Rig::new();
    let client = rig.connect(&v5("c").topic_alias_maximum(10).maximum_packet_size(60));
    client.subscribe(&subscribe(1, "#").qos(2));
    let publisher = rig.client("p");
    for qos in 0..3 {
        let topic = format!("some/topic/{qos}");
        publisher.send(&publish(&topic, &"large".repeat(50)).qos(qos, 1));
        publisher.send(&pubrel(1));
        client.expect_alive();
        for _ in 0..3 {
            publisher.send(&publish(&topic, "small").qos(qos, 2));
            publisher.send(&pubrel(2));
            let small = client.publish();
            assert_eq!((small.topic.as_str(), small.text()), (topic.as_str(), "small"));
            if qos == 2 {
                client.send(&pubrec(small.id()));
                client.pubrel();
            }
        }
    }
}
