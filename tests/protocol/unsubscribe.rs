//! UNSUBSCRIBE and UNSUBACK: MQTT 5, 3.10 and 3.11.

use super::packets::{connect, puback, pubcomp, publish, pubrec, subscribe, unsubscribe};
use super::received::Received;
use super::rig::Rig;
use super::wire::{Version, code};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

/// [MQTT-3.10.4-4] [MQTT-3.10.4-5] [MQTT-2.2.1-6] [MQTT-3.10.4-4 v3.1.1] [MQTT-3.10.4-5 v3.1.1]
/// [MQTT-2.3.1-7 v3.1.1]
#[test]
fn unsubscribe_is_answered_with_unsuback_also_where_nothing_was_deleted() {
    for version in BOTH {
        let client = Rig::new().subscriber(version, "c", "t", 0);
        for packet_id in [0xFFFF, 1, 1, 7] {
            client.send(&unsubscribe(packet_id, "t"));
            assert_eq!(client.unsuback().packet_id, packet_id);
        }
    }
}

/// [MQTT-3.10.4-6] [MQTT-3.11.3-1] [MQTT-3.11.3-2]
#[test]
fn unsuback_says_for_each_filter_in_order_whether_it_was_there() {
    let rig = Rig::new();
    let client = rig.client("c");
    client.subscribe(&subscribe(1, "a").and("b").and("c/+"));
    client.send(&unsubscribe(2, "a").and("x").and("c/+").and("c/d").and("a").and("b"));
    let there = code::SUCCESS;
    let not = code::NO_SUBSCRIPTION_EXISTED;
    assert_eq!(client.unsuback().codes, [there, not, there, not, not, there]);
    client.expect_alive();
}

/// [MQTT-3.10.4-6 v3.1.1]
#[test]
fn one_unsuback_of_mqtt_3_answers_for_all_filters() {
    let rig = Rig::new();
    let client = rig.connect(&connect(Version::V3_1_1, "c"));
    client.subscribe(&subscribe(1, "a").and("b"));
    client.send(&unsubscribe(2, "a").and("x").and("b"));
    let unsuback = client.unsuback();
    assert_eq!((unsuback.packet_id, unsuback.codes), (2, vec![]));
    client.send(&publish("a", "x"));
    client.send(&publish("b", "x"));
    client.expect_alive();
}

/// [MQTT-3.10.4-1] [MQTT-3.10.4-1 v3.1.1]
#[test]
fn only_the_subscription_of_exactly_that_filter_is_deleted() {
    for version in BOTH {
        for other in ["t/a", "t/#", "#", "+/+", "T/+", "t/+/", "t/+ ", "+/a", "$share/g/t/+"] {
            let rig = Rig::new();
            let client = rig.subscriber(version, "c", "t/+", 0);
            client.send(&unsubscribe(1, other));
            client.unsuback();
            client.send(&publish("t/a", "x"));
            assert_eq!(client.payloads(), ["x"], "{other}");
        }
    }
}

/// [MQTT-3.10.4-1] [MQTT-3.10.4-2] [MQTT-3.10.4-1 v3.1.1] [MQTT-3.10.4-2 v3.1.1]
#[test]
fn nothing_is_added_after_unsubscribe() {
    for version in BOTH {
        for qos in 0..3 {
            let rig = Rig::new();
            let client = rig.subscriber(version, "c", "t", qos);
            let publisher = rig.client("p");
            publisher.send(&publish("t", "before").qos(qos, 1));
            client.send(&unsubscribe(1, "t"));
            publisher.send(&publish("t", "after").qos(qos, 2));
            assert_eq!(client.publish().text(), "before");
            client.unsuback();
            client.expect_alive();
        }
    }
}

/// What another subscription asks for goes on. [MQTT-3.10.4-1]
#[test]
fn an_overlapping_subscription_stays_with_its_own_qos_and_identifier() {
    let rig = Rig::new();
    let client = rig.client("c");
    client.subscribe(&subscribe(1, "t").qos(2).identifier(1));
    client.subscribe(&subscribe(2, "+").qos(1).identifier(2));
    client.send(&unsubscribe(3, "t"));
    client.unsuback();
    rig.client("p").send(&publish("t", "x").qos2(1));
    let got = client.publish();
    assert_eq!((got.qos, got.props.subscription_identifiers()), (1, vec![2]));
}

/// [MQTT-3.10.4-3] [MQTT-3.10.4-3 v3.1.1]
#[test]
fn deliveries_begun_before_unsubscribe_are_completed() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "c").lasting());
        client.subscribe(&subscribe(1, "t").qos(2));
        let publisher = rig.client("p");
        publisher.send(&publish("t", "one").qos1(1));
        publisher.send(&publish("t", "two").qos2(2));
        let (one, two) = (client.publish().id(), client.publish().id());
        client.send(&unsubscribe(1, "t"));
        client.unsuback();
        client.send(&pubrec(two));
        assert_eq!(client.pubrel().packet_id, two);
        client.reset();
        let client = rig.connect(&connect(version, "c").lasting());
        let again = client.publish();
        assert_eq!((again.id(), again.dup), (one, true));
        assert_eq!(client.pubrel().packet_id, two);
        client.send(&puback(one));
        client.send(&pubcomp(two));
        client.reset();
        rig.connect(&connect(version, "c").lasting()).expect_alive();
    }
}

/// [MQTT-3.10.4-1]
#[test]
fn a_subscription_deleted_stays_deleted_in_the_stored_session() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "c").lasting());
        client.subscribe(&subscribe(1, "t").qos(1));
        client.send(&unsubscribe(2, "t"));
        client.unsuback();
        client.reset();
        rig.client("p").send(&publish("t", "x").qos1(1));
        rig.connect(&connect(version, "c").lasting()).expect_alive();
    }
}

/// Also where it was published before, and is on its way still. [MQTT-3.10.4-2]
#[test]
fn nothing_new_comes_behind_unsuback_however_late() {
    let rig = Rig::new();
    let client = rig.subscriber(Version::V5, "c", "t", 1);
    assert_eq!(client.subscribe(&subscribe(2, "u").qos(1)), [1]);
    let publisher = rig.client("p");
    rig.delay_mail(10);
    publisher.send(&publish("t", "x").qos1(1));
    publisher.send(&publish("u", "y").qos1(2));
    client.send(&unsubscribe(3, "t"));
    let mut before = 0;
    while let Some(received) = client.next() {
        before += usize::from(matches!(received, Received::Publish(_)));
    }
    rig.carry_mail();
    let after = client.payloads();
    assert!(before == 2 && after.is_empty() || before == 0 && after == ["y"], "{before} {after:?}");
}
