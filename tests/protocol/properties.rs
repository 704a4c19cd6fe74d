//! Properties of PUBLISH on their way through (MQTT 5, 3.3.2.3), and message expiry.

use super::packets::{connect, publish, subscribe, v4, v5};
use super::received::Publish;
use super::rig::Rig;
use super::wire::{Props, Value, Version, prop};

/// What the one subscriber gets of a message with `props`.
fn forwarded(props: &Props) -> Publish {
    let rig = Rig::new();
    let reader = rig.subscriber(Version::V5, "reader", "t", 0);
    let mut message = publish("t", "x");
    message.props = props.clone();
    rig.client("p").send(&message);
    reader.publish()
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

/// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-20] [MQTT-3.3.2-17]
#[test]
fn each_property_of_a_message_is_forwarded_unaltered() {
    for (id, value) in [
        (prop::PAYLOAD_FORMAT, Value::Byte(0)),
        (prop::PAYLOAD_FORMAT, Value::Byte(1)),
        (prop::RESPONSE_TOPIC, text("reply/to")),
        (prop::CORRELATION_DATA, Value::Binary(vec![0, 255, 0, 1])),
        (prop::CORRELATION_DATA, Value::Binary(vec![])),
        (prop::CORRELATION_DATA, Value::Binary(vec![7; 60_000])),
        (prop::CONTENT_TYPE, text("text/plain; charset=utf-8")),
        (prop::CONTENT_TYPE, text("")),
        (prop::USER_PROPERTY, Value::Pair("name".into(), "value".into())),
        (prop::USER_PROPERTY, Value::Pair(String::new(), String::new())),
        (prop::USER_PROPERTY, Value::Pair("\u{feff}k".into(), "v\u{65e5}".into())),
    ] {
        let props = Props(vec![(id, value)]);
        assert!(forwarded(&props).props == props, "{id:#04x}");
    }
}

/// [MQTT-3.3.2-17] [MQTT-3.3.2-18]
#[test]
fn user_properties_are_forwarded_in_their_order_with_their_repetitions() {
    let mut props = Props::default();
    for (name, value) in [("b", "1"), ("a", "2"), ("b", "1"), ("b", "0"), ("", ""), ("a", "2")] {
        props.push(prop::USER_PROPERTY, Value::Pair(name.into(), value.into()));
    }
    let got = forwarded(&props);
    let want = [("b", "1"), ("a", "2"), ("b", "1"), ("b", "0"), ("", ""), ("a", "2")];
    assert_eq!(got.props.user(), want);
}

/// All of them at once, also to a stored session and to a retained reader.
/// [MQTT-3.3.2-4] [MQTT-3.3.2-15] [MQTT-3.3.2-16] [MQTT-3.3.2-17] [MQTT-3.3.2-18] [MQTT-3.3.2-20]
#[test]
fn properties_survive_the_queue_and_the_retained_store() {
    let message = publish("t", "x")
        .prop(prop::PAYLOAD_FORMAT, Value::Byte(1))
        .prop(prop::CONTENT_TYPE, text("a"))
        .user("k", "2")
        .prop(prop::RESPONSE_TOPIC, text("r"))
        .user("k", "1")
        .prop(prop::CORRELATION_DATA, Value::Binary(vec![1]));
    let rig = Rig::new();
    let away = rig.connect(&v5("away").lasting());
    away.subscribe(&subscribe(1, "t").qos(1));
    away.reset();
    rig.client("p").send(&message.clone().qos1(1).retain());
    let sorted = |props: &Props| {
        let mut sorted = props.0.clone();
        sorted.sort_by_key(|(id, _)| *id);
        sorted
    };
    let back = rig.connect(&v5("away").lasting()).publish();
    assert_eq!(sorted(&back.props), sorted(&message.props));
    let late = rig.client("late");
    late.subscribe(&subscribe(1, "t"));
    assert_eq!(sorted(&late.publish().props), sorted(&message.props));
}

/// What belongs to the publisher's connection stays there. [MQTT-3.1.2-27]
#[test]
fn the_alias_of_a_publisher_is_not_forwarded() {
    let rig = Rig::new();
    let reader = rig.subscriber(Version::V5, "reader", "t", 0);
    rig.client("p").send(&publish("t", "x").alias(5));
    let got = reader.publish();
    assert_eq!((got.topic.as_str(), got.props.0.len()), ("t", 0));
}

#[test]
fn properties_end_where_mqtt_3_begins() {
    let rig = Rig::new();
    let reader = rig.subscriber(Version::V3_1_1, "reader", "t", 0);
    rig.client("p").send(&publish("t", "x").user("k", "v").expiry(9));
    let got = reader.publish();
    assert_eq!((got.text(), got.topic.as_str()), ("x", "t"));
    let reader = rig.subscriber(Version::V5, "new", "t", 0);
    rig.connect(&v4("old")).send(&publish("t", "y"));
    assert_eq!(reader.publish().props.0, []);
}

/// [MQTT-3.3.2-6]
#[test]
fn message_expiry_is_forwarded_less_the_time_waited() {
    let rig = Rig::new();
    let now = rig.subscriber(Version::V5, "now", "t", 1);
    let away = rig.connect(&v5("away").lasting());
    away.subscribe(&subscribe(1, "t").qos(1));
    away.reset();
    rig.client("p").send(&publish("t", "x").qos1(1).expiry(100));
    assert_eq!(now.publish().props.number(prop::MESSAGE_EXPIRY), Some(100));
    rig.advance(30);
    let back = rig.connect(&v5("away").lasting()).publish();
    assert_eq!(back.props.number(prop::MESSAGE_EXPIRY), Some(70));
}

/// [MQTT-3.3.2-6]
#[test]
fn a_message_sent_again_has_still_less_time() {
    let rig = Rig::new();
    let client = rig.connect(&v5("c").lasting());
    client.subscribe(&subscribe(1, "t").qos(1));
    rig.client("p").send(&publish("t", "x").qos1(1).expiry(100));
    assert_eq!(client.publish().props.number(prop::MESSAGE_EXPIRY), Some(100));
    client.reset();
    rig.advance(40);
    let again = rig.connect(&v5("c").lasting()).publish();
    assert_eq!((again.dup, again.props.number(prop::MESSAGE_EXPIRY)), (true, Some(60)));
}

/// [MQTT-3.3.2-5]
#[test]
fn an_expired_message_is_not_delivered_to_a_session_that_was_away() {
    for version in [Version::V3_1_1, Version::V5] {
        let rig = Rig::new();
        let away = rig.connect(&connect(version, "away").lasting());
        away.subscribe(&subscribe(1, "t").qos(2));
        away.reset();
        let publisher = rig.client("p");
        publisher.send(&publish("t", "short").qos1(1).expiry(10));
        publisher.send(&publish("t", "long").qos1(2).expiry(1_000));
        publisher.send(&publish("t", "short, too").qos2(3).expiry(10));
        publisher.send(&publish("t", "endless").qos1(4));
        rig.advance(11);
        let back = rig.connect(&connect(version, "away").lasting());
        assert_eq!(back.payloads(), ["long", "endless"]);
    }
}

/// [MQTT-3.3.2-5]
#[test]
fn a_message_that_expires_behind_a_full_window_is_not_delivered() {
    let rig = Rig::new();
    let client = rig.connect(&v5("c").receive_maximum(1));
    client.subscribe(&subscribe(1, "t").qos(1));
    let publisher = rig.client("p");
    publisher.send(&publish("t", "first").qos1(1));
    publisher.send(&publish("t", "expires").qos1(2).expiry(10));
    publisher.send(&publish("t", "last").qos1(3).expiry(100));
    let id = client.publish().id();
    rig.advance(20);
    client.send(&super::packets::puback(id));
    let last = client.publish();
    assert_eq!((last.text(), last.props.number(prop::MESSAGE_EXPIRY)), ("last", Some(80)));
}

/// Its time is that of the wall clock, because it must go on while the broker is down.
/// [MQTT-3.3.2-5]
#[test]
fn a_wall_clock_that_jumps_ahead_expires_messages() {
    let rig = Rig::new();
    let away = rig.connect(&v5("away").lasting());
    away.subscribe(&subscribe(1, "t").qos(1));
    away.reset();
    rig.client("p").send(&publish("t", "x").qos1(1).expiry(100));
    rig.jump_wall(101);
    rig.connect(&v5("away").lasting()).expect_alive();
}

/// A clock set back must not make a message live longer than it was sent for. [MQTT-3.3.2-6]
#[test]
fn a_wall_clock_that_jumps_back_does_not_lengthen_a_message() {
    let rig = Rig::new();
    let away = rig.connect(&v5("away").lasting());
    away.subscribe(&subscribe(1, "t").qos(1));
    away.reset();
    rig.client("p").send(&publish("t", "x").qos1(1).expiry(100));
    rig.jump_wall(-1_000);
    let back = rig.connect(&v5("away").lasting()).publish();
    let left = back.props.number(prop::MESSAGE_EXPIRY).expect("an expiry");
    assert!(left <= 100, "{left}");
}
