//! Wills: MQTT 5, 3.1.2.5, 3.1.3.2 and 3.1.4; MQTT 3.1.1, 3.1.2.5.

use super::packets::{
    Connect, Will, connect, disconnect, pubcomp, publish, pubrec, subscribe, v4, v5, will,
};
use super::rig::{Client, Rig};
use super::wire::{Value, Version, code, kind, packet, prop};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

/// A rig with somebody who hears the wills.
fn heard() -> (Rig, Client) {
    let rig = Rig::new();
    let ear = rig.subscriber(Version::V5, "ear", "will/#", 0);
    (rig, ear)
}

fn last() -> Will {
    will("will/t", "gone")
}

fn delayed(secs: u32) -> Will {
    last().delay(secs)
}

fn with_will(version: Version) -> Connect {
    connect(version, "c").will(last())
}

/// [MQTT-3.1.2-7] [MQTT-3.1.2-8] [MQTT-3.1.2-9] [MQTT-3.1.2-8 v3.1.1] [MQTT-3.1.2-9 v3.1.1]
#[test]
fn a_will_is_published_when_the_connection_breaks() {
    for version in BOTH {
        let (rig, ear) = heard();
        let client = rig.connect(&with_will(version));
        rig.advance(1_000);
        ear.expect_alive();
        client.reset();
        assert_eq!(ear.payloads(), ["gone"]);
    }
}

/// [MQTT-3.1.2-8] [MQTT-3.1.2-22] [MQTT-3.1.2-8 v3.1.1] [MQTT-3.1.2-24 v3.1.1]
#[test]
fn a_will_is_published_when_the_keep_alive_has_passed() {
    for version in BOTH {
        let (rig, ear) = heard();
        let client = rig.connect(&with_will(version).keep_alive(10));
        rig.advance(14);
        ear.expect_alive();
        rig.advance(2);
        assert_eq!(ear.payloads(), ["gone"]);
        assert!(client.is_closed());
    }
}

/// [MQTT-3.1.2-8] [MQTT-3.1.2-8 v3.1.1]
#[test]
fn a_will_is_published_when_the_broker_closes_for_an_error() {
    for version in BOTH {
        let (rig, ear) = heard();
        let client = rig.connect(&with_will(version));
        client.send_raw(&packet(kind::PUBLISH | 0b0110, &[0, 1, b't', 0, 1]));
        assert!(client.is_closed());
        assert_eq!(ear.payloads(), ["gone"]);
    }
}

/// [MQTT-3.1.2-8]
#[test]
fn a_disconnect_with_any_other_code_than_0_publishes_the_will() {
    for reason in [0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99] {
        let (rig, ear) = heard();
        let client = rig.connect(&with_will(Version::V5));
        client.send(&disconnect().code(reason));
        assert!(client.is_closed());
        assert_eq!(ear.payloads(), ["gone"], "{reason:#04x}");
    }
}

/// [MQTT-3.1.2-10] [MQTT-3.14.4-3] [MQTT-3.1.2-10 v3.1.1] [MQTT-3.14.4-3 v3.1.1]
/// [MQTT-3.1.2-8]
#[test]
fn an_orderly_disconnect_discards_the_will() {
    for connect in [
        with_will(Version::V3_1_1),
        with_will(Version::V3_1_1).lasting(),
        with_will(Version::V5),
        with_will(Version::V5).expiry(10),
        v5("c").will(delayed(5)).expiry(10),
    ] {
        let (rig, ear) = heard();
        let client = rig.connect(&connect);
        client.send(&disconnect());
        client.reset();
        rig.advance(100);
        ear.expect_alive();
        rig.connect(&v5("c")).expect_alive();
        rig.advance(100);
        ear.expect_alive();
    }
}

/// [MQTT-3.1.2-12 v3.1.1] [MQTT-3.1.2-8]
#[test]
fn without_a_will_nothing_is_published() {
    for version in BOTH {
        let rig = Rig::new();
        let ear = rig.subscriber(Version::V5, "ear", "#", 0);
        rig.connect(&connect(version, "c")).reset();
        rig.advance(10);
        ear.expect_alive();
    }
}

/// A will belongs to the connection that brought it. [MQTT-3.1.2-10] [MQTT-3.1.2-10 v3.1.1]
#[test]
fn a_will_is_published_once() {
    for version in BOTH {
        let (rig, ear) = heard();
        rig.connect(&with_will(version).lasting()).reset();
        assert_eq!(ear.payloads(), ["gone"]);
        let client = rig.connect(&connect(version, "c").lasting());
        client.reset();
        rig.advance(10);
        ear.expect_alive();
        rig.connect(&with_will(version).lasting()).reset();
        assert_eq!(ear.payloads(), ["gone"]);
    }
}

/// [MQTT-3.1.2-7]
#[test]
fn a_new_connection_brings_its_own_will_or_none() {
    let (rig, ear) = heard();
    rig.connect(&v5("c").will(delayed(60)).lasting()).reset();
    let client = rig.connect(&v5("c").will(will("will/other", "other")).lasting());
    ear.expect_alive();
    client.reset();
    assert_eq!(ear.payloads(), ["other"]);
    rig.advance(100);
    ear.expect_alive();
}

// ---- delay

/// [MQTT-3.1.2-8] [MQTT-3.1.2-7]
#[test]
fn a_will_waits_for_its_delay() {
    let (rig, ear) = heard();
    rig.connect(&v5("c").will(delayed(10)).expiry(100)).reset();
    rig.advance(9);
    ear.expect_alive();
    rig.advance(2);
    assert_eq!(ear.payloads(), ["gone"]);
    rig.advance(200);
    ear.expect_alive();
}

/// [MQTT-3.1.2-8]
#[test]
fn a_will_waits_no_longer_than_its_session() {
    for (expiry, before, at) in [(0, 0, 0), (5, 4, 2)] {
        let (rig, ear) = heard();
        rig.connect(&v5("c").will(delayed(100)).expiry(expiry)).reset();
        if expiry > 0 {
            rig.advance(before);
            ear.expect_alive();
        }
        rig.advance(at);
        assert_eq!(ear.payloads(), ["gone"], "expiry {expiry}");
        rig.advance(200);
        ear.expect_alive();
    }
}

/// [MQTT-3.1.2-8]
#[test]
fn delay_and_expiry_may_fall_together() {
    let (rig, ear) = heard();
    rig.connect(&v5("c").will(delayed(10)).expiry(10)).reset();
    rig.advance(9);
    ear.expect_alive();
    rig.advance(2);
    assert_eq!(ear.payloads(), ["gone"]);
    assert!(!rig.connect_told(&v5("c").resume()).1.session_present());
}

/// MQTT 5, 3.1.2.5: to be told of the end of a session. [MQTT-3.1.2-8]
#[test]
fn disconnect_with_will_waits_for_the_delay_too() {
    let (rig, ear) = heard();
    let client = rig.connect(&v5("c").will(delayed(50)).expiry(20));
    client.send(&disconnect().code(code::DISCONNECT_WITH_WILL));
    rig.advance(19);
    ear.expect_alive();
    rig.advance(2);
    assert_eq!(ear.payloads(), ["gone"]);
}

/// The session ends at once, and with it the delay. [MQTT-3.1.2-8]
#[test]
fn disconnect_with_will_and_expiry_0_publishes_it_at_once() {
    let (rig, ear) = heard();
    let client = rig.connect(&v5("c").will(delayed(50)).expiry(100));
    client.send(&disconnect().code(code::DISCONNECT_WITH_WILL).expiry(0));
    assert_eq!(ear.payloads(), ["gone"]);
}

/// [MQTT-3.1.3-9] [MQTT-3.1.2-8]
#[test]
fn a_connection_to_the_session_within_the_delay_stops_the_will() {
    let (rig, ear) = heard();
    rig.connect(&v5("c").will(delayed(10)).expiry(100)).reset();
    rig.advance(9);
    let (client, connack) = rig.connect_told(&v5("c").resume().expiry(100));
    assert!(connack.session_present());
    rig.advance(1_000);
    ear.expect_alive();
    client.reset();
    rig.advance(1_000);
    ear.expect_alive();
}

/// [MQTT-3.1.3-9]
#[test]
fn the_delay_begins_anew_with_each_connection() {
    let (rig, ear) = heard();
    let lasting = v5("c").will(delayed(10)).resume().expiry(100);
    for _ in 0..5 {
        rig.connect(&lasting).reset();
        rig.advance(9);
    }
    ear.expect_alive();
    rig.advance(2);
    assert_eq!(ear.payloads(), ["gone"]);
}

/// Time has passed when it has, not when a timer fires. [MQTT-3.1.2-8]
#[test]
fn a_connection_after_the_delay_does_not_stop_the_will() {
    let (rig, ear) = heard();
    let lasting = v5("c").will(delayed(10)).resume().expiry(100);
    rig.connect(&lasting).reset();
    rig.skip(11);
    rig.connect(&lasting).expect_alive();
    assert_eq!(ear.payloads(), ["gone"]);
}

/// [MQTT-3.8.3-3]
#[test]
fn no_local_holds_for_the_own_will() {
    let rig = Rig::new();
    let connect = v5("c").will(last().qos(1)).lasting();
    let client = rig.connect(&connect);
    client.subscribe(&subscribe(1, "will/#").qos(1).no_local());
    client.reset();
    rig.connect(&v5("c").lasting()).expect_alive();
}

/// The session it belonged to ends. [MQTT-3.1.2-8] [MQTT-3.1.2-4]
#[test]
fn clean_start_within_the_delay_publishes_the_will_at_once() {
    let (rig, ear) = heard();
    rig.connect(&v5("c").will(delayed(10)).expiry(100)).reset();
    rig.advance(5);
    ear.expect_alive();
    let client = rig.connect(&v5("c").will(delayed(10)).expiry(100));
    assert_eq!(ear.payloads(), ["gone"]);
    rig.advance(100);
    ear.expect_alive();
    client.expect_alive();
}

/// The delay counts on the clock that does not jump. [MQTT-3.1.2-8]
#[test]
fn a_jump_of_the_wall_clock_neither_hastens_nor_delays_a_will() {
    for jump in [1_000, -1_000] {
        let (rig, ear) = heard();
        rig.connect(&v5("c").will(delayed(10)).expiry(u32::MAX)).reset();
        rig.jump_wall(jump);
        rig.advance(9);
        ear.expect_alive();
        rig.advance(2);
        assert_eq!(ear.payloads(), ["gone"]);
    }
}

// ---- takeover

/// MQTT 5, 3.1.3.2.2 and 3.1.4: what the namesake does decides. [MQTT-3.1.4-3] [MQTT-3.1.2-8]
/// [MQTT-3.1.3-9]
#[test]
fn a_takeover_publishes_the_will_unless_the_session_goes_on_and_has_a_delay() {
    // Delay and expiry of the first, clean start of the second, whether the will is published.
    for (delay, expiry, clean, published) in [
        (0, 0, false, true),
        (0, 0, true, true),
        (0, 100, false, true),
        (0, 100, true, true),
        (10, 0, false, true),
        (10, 0, true, true),
        (10, 100, false, false),
        (10, 100, true, true),
    ] {
        let (rig, ear) = heard();
        let first = rig.connect(&v5("c").will(delayed(delay)).expiry(expiry));
        let mut namesake = v5("c").expiry(100);
        namesake.clean = clean;
        let (second, connack) = rig.connect_told(&namesake);
        let case = format!("delay {delay}, expiry {expiry}, clean {clean}");
        assert_eq!(connack.session_present(), !clean && expiry > 0, "{case}");
        assert_eq!(first.closed_with(), code::SESSION_TAKEN_OVER, "{case}");
        assert_eq!(ear.payloads().len(), usize::from(published), "{case}");
        rig.advance(1_000);
        ear.expect_alive();
        second.expect_alive();
    }
}

/// [MQTT-3.1.4-2 v3.1.1] [MQTT-3.1.2-8 v3.1.1]
#[test]
fn a_takeover_of_mqtt_3_publishes_the_will() {
    for clean in [false, true] {
        let (rig, ear) = heard();
        let mut connect = v4("c").will(last());
        connect.clean = clean;
        let first = rig.connect(&connect);
        rig.connect(&connect).expect_alive();
        assert!(first.is_closed());
        assert_eq!(ear.payloads(), ["gone"]);
    }
}

/// The will of the first is out before the second hears of its session, also to itself.
#[test]
fn the_namesake_may_hear_the_will_it_causes() {
    let rig = Rig::new();
    let first = rig.connect(&v5("c").will(last()).lasting());
    first.subscribe(&subscribe(1, "will/#").qos(1));
    let second = rig.connect(&v5("c").lasting());
    rig.advance(1);
    // At QoS 0 it may be lost between the two connections; more than once it must not come.
    assert!(second.payloads().len() <= 1);
}

// ---- content

/// [MQTT-3.1.2-12] [MQTT-3.1.2-14 v3.1.1] [MQTT-3.1.2-9 v3.1.1]
#[test]
fn a_will_is_published_at_its_qos() {
    for version in BOTH {
        for qos in 0..3 {
            let rig = Rig::new();
            let ear = rig.subscriber(version, "ear", "will/#", 2);
            rig.connect(&connect(version, "c").will(last().qos(qos))).reset();
            let got = ear.publish();
            assert_eq!((got.qos, got.topic.as_str(), got.text()), (qos, "will/t", "gone"));
            if qos == 2 {
                ear.send(&pubrec(got.id()));
                ear.pubrel();
                ear.send(&pubcomp(got.id()));
            }
            ear.expect_alive();
        }
    }
}

/// [MQTT-4.5.0-1]
#[test]
fn a_will_waits_for_sessions_that_are_away() {
    let rig = Rig::new();
    let ear = rig.connect(&v5("ear").lasting());
    ear.subscribe(&subscribe(1, "will/#").qos(1));
    ear.reset();
    rig.connect(&v5("c").will(last().qos(1))).reset();
    assert_eq!(rig.connect(&v5("ear").lasting()).payloads(), ["gone"]);
}

/// [MQTT-3.1.2-14] [MQTT-3.1.2-15] [MQTT-3.1.2-16 v3.1.1] [MQTT-3.1.2-17 v3.1.1]
#[test]
fn will_retain_decides_whether_the_will_is_retained() {
    for version in BOTH {
        for retain in [false, true] {
            let rig = Rig::new();
            rig.client("p").send(&publish("will/t", "before").retain());
            let mut will = last();
            will.retain = retain;
            let ear = rig.client("ear");
            let all = subscribe(1, "will/#").retain_as_published().retain_handling(2);
            ear.subscribe(&all);
            rig.connect(&connect(version, "c").will(will)).reset();
            assert_eq!(ear.publish().retain, retain);
            let late = rig.subscriber(version, "late", "will/#", 0);
            assert_eq!(late.payloads(), [if retain { "gone" } else { "before" }]);
        }
    }
}

/// A retained will without payload clears the topic, as such a message does. [MQTT-3.3.1-6]
#[test]
fn an_empty_retained_will_clears_the_topic() {
    for version in BOTH {
        let rig = Rig::new();
        rig.client("p").send(&publish("will/t", "before").retain());
        rig.connect(&connect(version, "c").will(will("will/t", "").retain())).reset();
        rig.subscriber(version, "late", "will/#", 0).expect_alive();
    }
}

/// [MQTT-3.1.3-10] [MQTT-3.1.2-9]
#[test]
fn a_will_carries_its_properties_but_not_its_delay() {
    let (rig, ear) = heard();
    let will = delayed(5)
        .expiry(60)
        .user("b", "1")
        .user("a", "2")
        .user("b", "0")
        .prop(prop::CONTENT_TYPE, Value::Text("text".into()))
        .prop(prop::RESPONSE_TOPIC, Value::Text("reply".into()))
        .prop(prop::CORRELATION_DATA, Value::Binary(vec![0, 1]))
        .prop(prop::PAYLOAD_FORMAT, Value::Byte(1));
    rig.connect(&v5("c").will(will).expiry(100)).reset();
    rig.advance(6);
    let got = ear.publish();
    assert_eq!(got.props.user(), [("b", "1"), ("a", "2"), ("b", "0")]);
    assert_eq!(got.props.text(prop::CONTENT_TYPE), Some("text"));
    assert_eq!(got.props.text(prop::RESPONSE_TOPIC), Some("reply"));
    assert_eq!(got.props.find(prop::CORRELATION_DATA), Some(&Value::Binary(vec![0, 1])));
    assert_eq!(got.props.number(prop::PAYLOAD_FORMAT), Some(1));
    // MQTT 5, 3.1.3.2.4: its life begins when it is published.
    assert_eq!(got.props.number(prop::MESSAGE_EXPIRY), Some(60));
    assert!(!got.props.has(prop::WILL_DELAY));
}

#[test]
fn a_client_may_be_heir_to_itself() {
    let rig = Rig::new();
    let connect = v5("c").will(will("will/t", "gone").qos(1)).lasting();
    let client = rig.connect(&connect);
    client.subscribe(&subscribe(1, "will/#").qos(1));
    client.reset();
    let client = rig.connect(&v5("c").lasting());
    assert_eq!(client.payloads(), ["gone"]);
}
