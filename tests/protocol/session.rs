//! Sessions: MQTT 5, 3.1.2.4, 3.1.2.11.2, 3.14.2.2.2 and 4.1; clean session of MQTT 3.1.1.

use super::packets::{connect, disconnect, publish, subscribe, v4, v5};
use super::rig::{Client, Rig};
use super::wire::{Version, code};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

/// Publishes at QoS 1 from a client of its own.
fn publish_apart(rig: &Rig, topic: &str, payload: &str) {
    let publisher = rig.client("publisher apart");
    publisher.send(&publish(topic, payload).qos1(1));
    publisher.puback();
    publisher.send(&disconnect());
}

/// Whether the session `id` is there; resumes it for a moment.
fn is_there(rig: &Rig, id: &str) -> bool {
    let (client, connack) = rig.connect_told(&v5(id).lasting());
    client.reset();
    connack.session_present()
}

fn subscribed(rig: &Rig, connect: &super::packets::Connect) -> Client {
    let client = rig.connect(connect);
    client.subscribe(&subscribe(1, "t").qos(2));
    client
}

/// [MQTT-3.1.2-4] [MQTT-3.1.4-4] [MQTT-3.2.2-2] [MQTT-3.1.2-6 v3.1.1] [MQTT-3.1.4-3 v3.1.1]
/// [MQTT-3.2.2-1 v3.1.1]
#[test]
fn clean_start_discards_the_session() {
    for version in BOTH {
        let rig = Rig::new();
        subscribed(&rig, &connect(version, "c").lasting()).reset();
        publish_apart(&rig, "t", "while away");
        let (client, connack) = rig.connect_told(&connect(version, "c"));
        assert!(!connack.session_present());
        client.expect_alive();
        publish_apart(&rig, "t", "later");
        client.expect_alive();
    }
}

/// [MQTT-3.1.2-6 v3.1.1]
#[test]
fn nothing_of_a_clean_session_is_used_again() {
    let rig = Rig::new();
    subscribed(&rig, &v4("c")).reset();
    publish_apart(&rig, "t", "while away");
    let (client, connack) = rig.connect_told(&v4("c").lasting());
    assert!(!connack.session_present());
    publish_apart(&rig, "t", "later");
    client.expect_alive();
}

/// [MQTT-3.1.2-5] [MQTT-3.2.2-3] [MQTT-3.1.2-4 v3.1.1] [MQTT-3.2.2-2 v3.1.1]
#[test]
fn a_session_is_resumed_with_its_subscriptions() {
    for version in BOTH {
        let rig = Rig::new();
        subscribed(&rig, &connect(version, "c").lasting()).reset();
        let (client, connack) = rig.connect_told(&connect(version, "c").lasting());
        assert!(connack.session_present());
        publish_apart(&rig, "t", "x");
        assert_eq!(client.payloads(), ["x"]);
    }
}

/// [MQTT-3.1.2-6] [MQTT-3.2.2-3] [MQTT-3.1.2-4 v3.1.1] [MQTT-3.2.2-3 v3.1.1]
#[test]
fn without_a_session_a_new_one_is_made() {
    for version in BOTH {
        let rig = Rig::new();
        let (client, connack) = rig.connect_told(&connect(version, "c").lasting());
        assert!(!connack.session_present());
        client.subscribe(&subscribe(1, "t"));
        client.expect_alive();
    }
}

/// [MQTT-3.1.2-23] [MQTT-4.5.0-1] [MQTT-3.1.2-5 v3.1.1] [MQTT-4.1.0-1 v3.1.1] [MQTT-4.5.0-1 v3.1.1]
#[test]
fn a_stored_session_collects_messages_of_qos_1_and_2() {
    for version in BOTH {
        let rig = Rig::new();
        subscribed(&rig, &connect(version, "c").lasting()).reset();
        let publisher = rig.client("p");
        publisher.send(&publish("t", "one").qos1(1));
        publisher.send(&publish("t", "two").qos2(2));
        rig.advance(3_600);
        let client = rig.connect(&connect(version, "c").lasting());
        assert_eq!(client.payloads(), ["one", "two"]);
    }
}

/// [MQTT-3.1.2-23]
#[test]
fn an_orderly_disconnect_stores_the_session_too() {
    for version in BOTH {
        let rig = Rig::new();
        let client = subscribed(&rig, &connect(version, "c").lasting());
        client.send(&disconnect());
        publish_apart(&rig, "t", "x");
        let client = rig.connect(&connect(version, "c").lasting());
        assert_eq!(client.payloads(), ["x"]);
    }
}

/// [MQTT-4.1.0-2]
#[test]
fn a_session_ends_when_its_expiry_has_passed() {
    let rig = Rig::new();
    let ten = v5("c").resume().expiry(10);
    subscribed(&rig, &ten).reset();
    rig.advance(9);
    assert!(rig.connect_told(&ten).1.session_present());
    rig.attempt(&ten).reset();
    rig.advance(11);
    publish_apart(&rig, "t", "too late");
    let (client, connack) = rig.connect_told(&ten);
    assert!(!connack.session_present());
    publish_apart(&rig, "t", "not subscribed");
    client.expect_alive();
}

/// [MQTT-4.1.0-2]
#[test]
fn without_an_expiry_the_session_ends_with_the_connection() {
    for bare in [v5("c").resume(), v5("c").resume().expiry(0)] {
        let rig = Rig::new();
        subscribed(&rig, &bare).reset();
        assert!(!is_there(&rig, "c"));
    }
}

/// [MQTT-4.1.0-1] [MQTT-4.1.0-1 v3.1.1] [MQTT-4.1.0-2 v3.1.1]
#[test]
fn session_state_lives_as_long_as_the_connection_whatever_the_expiry() {
    for first in [v5("c"), v5("c").expiry(1), v4("c"), v4("c").resume()] {
        let rig = Rig::new();
        let client = subscribed(&rig, &first);
        rig.advance(100_000);
        publish_apart(&rig, "t", "x");
        assert_eq!(client.payloads(), ["x"], "{first:?}");
    }
}

/// MQTT 5, 3.1.2.11.2. [MQTT-3.1.2-23]
#[test]
fn the_greatest_expiry_means_never() {
    let rig = Rig::new();
    subscribed(&rig, &v5("c").expiry(u32::MAX)).reset();
    rig.advance(200 * 365 * 86_400);
    assert!(is_there(&rig, "c"));
}

/// [MQTT-3.1.2-4 v3.1.1]
#[test]
fn a_session_of_mqtt_3_is_kept_for_long() {
    let rig = Rig::new();
    subscribed(&rig, &v4("c").lasting()).reset();
    rig.advance(30 * 86_400);
    assert!(rig.connect_told(&v4("c").lasting()).1.session_present());
}

/// The last CONNECT rules. [MQTT-4.1.0-2]
#[test]
fn a_resumed_session_has_the_expiry_of_its_new_connection() {
    let rig = Rig::new();
    subscribed(&rig, &v5("c").expiry(1_000)).reset();
    let (client, connack) = rig.connect_told(&v5("c").resume().expiry(5));
    assert!(connack.session_present());
    client.reset();
    rig.advance(6);
    assert!(!is_there(&rig, "c"));
}

/// MQTT 5, 3.14.2.2.2. [MQTT-4.1.0-2]
#[test]
fn disconnect_may_shorten_the_expiry() {
    let rig = Rig::new();
    let client = subscribed(&rig, &v5("c").expiry(1_000));
    client.send(&disconnect().expiry(5));
    rig.advance(4);
    assert!(is_there(&rig, "c"));
    let client = rig.connect(&v5("c").resume().expiry(1_000));
    client.send(&disconnect().expiry(0));
    assert!(!is_there(&rig, "c"));
}

/// MQTT 5, 3.14.2.2.2. [MQTT-3.1.2-23]
#[test]
fn disconnect_may_lengthen_the_expiry() {
    let rig = Rig::new();
    let client = subscribed(&rig, &v5("c").expiry(5));
    client.send(&disconnect().expiry(1_000));
    rig.advance(500);
    assert!(is_there(&rig, "c"));
}

/// MQTT 5, 3.14.2.2.2: such a DISCONNECT is not a valid one. [MQTT-4.13.1-1]
#[test]
fn disconnect_may_not_give_an_expiry_to_a_session_without() {
    for none in [v5("c"), v5("c").expiry(0)] {
        let rig = Rig::new();
        let client = subscribed(&rig, &none);
        client.send(&disconnect().expiry(5));
        assert_eq!(client.closed_with(), code::PROTOCOL_ERROR);
        assert!(!is_there(&rig, "c"));
    }
}

/// [MQTT-3.1.2-5]
#[test]
fn a_takeover_resumes_the_session() {
    for version in BOTH {
        let rig = Rig::new();
        let first = subscribed(&rig, &connect(version, "c").lasting());
        publish_apart(&rig, "t", "sent to the first");
        let (second, connack) = rig.connect_told(&connect(version, "c").lasting());
        assert!(connack.session_present());
        publish_apart(&rig, "t", "sent to the second");
        assert_eq!(second.payloads(), ["sent to the first", "sent to the second"]);
        assert_eq!(first.publish().text(), "sent to the first");
    }
}

/// The session of an expiry of 0 ends as its connection is taken over. [MQTT-4.1.0-2]
#[test]
fn a_takeover_finds_no_session_where_the_first_had_no_expiry() {
    let rig = Rig::new();
    let _first = subscribed(&rig, &v5("c"));
    let (second, connack) = rig.connect_told(&v5("c").lasting());
    assert!(!connack.session_present());
    publish_apart(&rig, "t", "not subscribed");
    second.expect_alive();
}

/// One session, whatever versions come to it. [MQTT-3.1.3-2] [MQTT-3.1.3-2 v3.1.1]
#[test]
fn a_session_may_be_resumed_in_another_version() {
    let rig = Rig::new();
    subscribed(&rig, &v4("c").lasting()).reset();
    publish_apart(&rig, "t", "x");
    let (client, connack) = rig.connect_told(&v5("c").lasting());
    assert!(connack.session_present());
    assert_eq!(client.payloads(), ["x"]);
    client.reset();
    let (client, connack) = rig.connect_told(&v4("c").lasting());
    assert!(connack.session_present());
    assert_eq!(client.payloads(), ["x"], "again, because it was not acknowledged");
}

/// Time has passed when it has, not when a timer fires. [MQTT-4.1.0-2]
#[test]
fn a_session_whose_end_nobody_has_noticed_is_not_resumed() {
    let rig = Rig::new();
    subscribed(&rig, &v5("c").expiry(10)).reset();
    rig.skip(11);
    assert!(!is_there(&rig, "c"));
}

/// Timers count on the clock that never jumps. [MQTT-4.1.0-2]
#[test]
fn a_jump_of_the_wall_clock_ends_no_connected_session() {
    let rig = Rig::new();
    let client = subscribed(&rig, &v5("c").expiry(10).keep_alive(10));
    rig.jump_wall(1_000_000);
    rig.advance(1);
    client.expect_alive();
    rig.jump_wall(-5_000_000);
    rig.advance(1);
    client.expect_alive();
}

/// [MQTT-3.1.2-7 v3.1.1]
#[test]
fn retained_messages_outlive_the_session_that_sent_them() {
    let rig = Rig::new();
    let client = rig.connect(&v4("c"));
    client.send(&publish("t", "x").retain());
    client.send(&disconnect());
    let late = rig.connect(&v4("late"));
    late.subscribe(&subscribe(1, "t"));
    assert_eq!(late.payloads(), ["x"]);
}
