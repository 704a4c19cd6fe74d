//! CONNECT packets that must be refused, in tables: bytes, and the codes a CONNACK may give.

use super::malformed::{BAD, EITHER, ERROR, NAME, NOT_TEXT, Row};
use super::packets::{v5, will};
use super::received::Received;
use super::rig::Rig;
use super::wire::{Props, Value, Version, kind, packet, prop, string};

/// Sends each as the first packet: the broker closes, after a CONNACK with such a code or silent.
fn check_connect(rows: Vec<Row>) {
    for (name, bytes, codes) in rows {
        let client = Rig::new().open(Version::V5);
        client.send_raw(&bytes);
        assert!(client.is_closed(), "{name}");
        match client.next() {
            None => {}
            Some(Received::Connack(connack)) => {
                assert!(codes.contains(&connack.code), "{name}: {:#04x}", connack.code);
            }
            other => panic!("{name}: {other:?}"),
        }
        client.expect_nothing();
    }
}

/// [MQTT-3.1.4-1] [MQTT-3.1.2-3] [MQTT-3.1.2-9] [MQTT-3.1.2-11] [MQTT-3.1.2-12] [MQTT-3.1.2-13]
/// [MQTT-3.1.2-16] [MQTT-3.1.2-17] [MQTT-3.1.2-18] [MQTT-3.1.2-19] [MQTT-3.1.3-1] [MQTT-3.1.3-3]
#[test]
fn a_connect_whose_flags_disagree_with_its_payload_is_refused() {
    let field = |text: &str| string(text.as_bytes());
    let head = |flags: u8| [string(b"MQTT"), vec![5, flags | 2, 0, 0, 0]].concat();
    let make = |flags: u8, fields: &[&[u8]]| {
        packet(kind::CONNECT, &[head(flags), fields.concat()].concat())
    };
    let (id, none, topic, message) = (field("c"), vec![0], field("w"), field("x"));
    let (name, password) = (field("n"), field("p"));
    check_connect(vec![
        ("reserved flag", make(0x01, &[&id]), BAD),
        ("will without fields", make(0x04, &[&id]), BAD),
        ("will without topic", make(0x04, &[&id, &none]), BAD),
        ("will without payload", make(0x04, &[&id, &none, &topic]), BAD),
        ("will without properties", make(0x04, &[&id, &topic, &message]), BAD),
        ("will QoS 3", make(0x1C, &[&id, &none, &topic, &message]), BAD),
        ("will QoS 1 without will", make(0x08, &[&id]), BAD),
        ("will QoS 2 without will", make(0x10, &[&id]), BAD),
        ("will retain without will", make(0x20, &[&id]), BAD),
        ("will fields without will", make(0x00, &[&id, &none, &topic, &message]), BAD),
        ("user name without field", make(0x80, &[&id]), BAD),
        ("user name field without flag", make(0x00, &[&id, &name]), BAD),
        ("password without field", make(0xC0, &[&id, &name]), BAD),
        ("password field without flag", make(0x80, &[&id, &name, &password]), BAD),
        ("no field at all", make(0x00, &[]), BAD),
        ("nothing behind the flags", packet(kind::CONNECT, &head(0)[..7]), BAD),
        ("fixed header flags", packet(kind::CONNECT | 2, &[head(0), id.clone()].concat()), BAD),
    ]);
}

/// MQTT 5, 3.1.2.9: other than before, a password needs no user name. [MQTT-3.1.2-19]
#[test]
fn a_password_without_user_name_is_legal() {
    Rig::new().connect(&v5("c").password(b"p")).expect_alive();
}

/// [MQTT-3.1.3-4] [MQTT-3.1.3-8] [MQTT-3.1.3-11] [MQTT-3.1.3-12] [MQTT-1.5.4-1] [MQTT-1.5.4-2]
/// [MQTT-1.5.7-1]
#[test]
fn a_connect_with_strings_that_are_no_text_is_refused() {
    const CODES: &[u8] = &[0x81, 0x82, 0x85, 0x90];
    for (name, bytes) in NOT_TEXT {
        let bad = string(bytes);
        let make = |flags: u8, props: &[u8], fields: &[&[u8]]| {
            let len = u8::try_from(props.len()).expect("few properties");
            let head = [string(b"MQTT"), vec![5, flags | 2, 0, 0, len]].concat();
            packet(kind::CONNECT, &[&head, props, &fields.concat()].concat())
        };
        let user = [&[prop::USER_PROPERTY][..], &string(b"k"), &bad].concat();
        let will_user = [&[u8::try_from(user.len()).expect("short")][..], &user].concat();
        check_connect(vec![
            (name, make(0, &[], &[&bad]), CODES),
            (name, make(0x04, &[], &[b"\0\x01c", &[0], &bad, b"\0\x01x"]), CODES),
            (name, make(0x80, &[], &[b"\0\x01c", &bad]), CODES),
            (name, make(0, &user, &[b"\0\x01c"]), CODES),
            (name, make(0x04, &[], &[b"\0\x01c", &will_user, b"\0\x01w", b"\0\x01x"]), CODES),
        ]);
    }
}

/// [MQTT-3.1.3-4 v3.1.1] [MQTT-3.1.3-10 v3.1.1] [MQTT-3.1.3-11 v3.1.1] [MQTT-1.5.3-1 v3.1.1]
/// [MQTT-1.5.3-2 v3.1.1]
#[test]
fn a_connect_of_mqtt_3_with_strings_that_are_no_text_closes() {
    for (name, bytes) in NOT_TEXT {
        let bad = string(bytes);
        for (flags, fields) in [
            (0, vec![&bad[..]]),
            (0x04, vec![b"\0\x01c", &bad, b"\0\x01x"]),
            (0x80, vec![b"\0\x01c", &bad]),
        ] {
            let client = Rig::new().open(Version::V3_1_1);
            client.unwatch();
            let head = [string(b"MQTT"), vec![4, flags | 2, 0, 0]].concat();
            client.send_raw(&packet(kind::CONNECT, &[head, fields.concat()].concat()));
            assert!(client.is_closed(), "{name}");
            assert_eq!(client.bytes(), b"", "{name}");
        }
    }
}

/// [MQTT-3.1.4-1] [MQTT-4.13.1-1] [MQTT-3.2.2-8]
#[test]
fn a_connect_with_properties_that_do_not_belong_is_refused() {
    let twice = [
        (prop::SESSION_EXPIRY, Value::Four(1)),
        (prop::RECEIVE_MAXIMUM, Value::Two(1)),
        (prop::MAXIMUM_PACKET_SIZE, Value::Four(100)),
        (prop::TOPIC_ALIAS_MAXIMUM, Value::Two(1)),
        (prop::REQUEST_RESPONSE_INFORMATION, Value::Byte(1)),
        (prop::REQUEST_PROBLEM_INFORMATION, Value::Byte(1)),
        (prop::AUTHENTICATION_METHOD, Value::Text("m".into())),
    ];
    let wrong = [
        (prop::RECEIVE_MAXIMUM, Value::Two(0)),
        (prop::MAXIMUM_PACKET_SIZE, Value::Four(0)),
        (prop::REQUEST_RESPONSE_INFORMATION, Value::Byte(2)),
        (prop::REQUEST_PROBLEM_INFORMATION, Value::Byte(2)),
        (prop::AUTHENTICATION_DATA, Value::Binary(vec![1])),
    ];
    let foreign = [
        (prop::MESSAGE_EXPIRY, Value::Four(1)),
        (prop::WILL_DELAY, Value::Four(1)),
        (prop::REASON_STRING, Value::Text("x".into())),
        (prop::SERVER_KEEP_ALIVE, Value::Two(1)),
        (prop::ASSIGNED_CLIENT_IDENTIFIER, Value::Text("x".into())),
        (prop::TOPIC_ALIAS, Value::Two(1)),
        (prop::SUBSCRIPTION_IDENTIFIER, Value::Variable(1)),
        (prop::MAXIMUM_QOS, Value::Byte(1)),
    ];
    let bytes = |props: &[&(u8, Value)]| {
        let mut connect = v5("c");
        connect.props = Props(props.iter().map(|prop| (*prop).clone()).collect());
        packet(kind::CONNECT, &connect.body(connect.flags()))
    };
    let mut rows: Vec<Row> = Vec::new();
    rows.extend(twice.iter().map(|p| ("twice", bytes(&[p, p]), &[0x82, 0x8C][..])));
    rows.extend(wrong.iter().map(|p| ("a wrong value", bytes(&[p]), ERROR)));
    rows.extend(foreign.iter().map(|p| ("of another packet", bytes(&[p]), BAD)));
    check_connect(rows);
}

/// [MQTT-3.1.4-1]
#[test]
fn a_will_with_properties_that_do_not_belong_is_refused() {
    let of = |props: &[(u8, Value)]| {
        let mut last = will("w", "x");
        last.props = Props(props.to_vec());
        let connect = v5("c").will(last);
        packet(kind::CONNECT, &connect.body(connect.flags()))
    };
    let delay = (prop::WILL_DELAY, Value::Four(1));
    check_connect(vec![
        ("delay twice", of(&[delay.clone(), delay]), ERROR),
        ("session expiry", of(&[(prop::SESSION_EXPIRY, Value::Four(1))]), BAD),
        ("topic alias", of(&[(prop::TOPIC_ALIAS, Value::Two(1))]), BAD),
        (
            "subscription identifier",
            of(&[(prop::SUBSCRIPTION_IDENTIFIER, Value::Variable(1))]),
            EITHER,
        ),
        ("payload format 2", of(&[(prop::PAYLOAD_FORMAT, Value::Byte(2))]), EITHER),
        (
            "response topic with wildcard",
            of(&[(prop::RESPONSE_TOPIC, Value::Text("#".into()))]),
            NAME,
        ),
    ]);
}

/// [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT-3.3.2-2]
#[test]
fn a_will_topic_is_a_topic_name() {
    for topic in ["", "#", "a/+", "a#"] {
        let connect = v5("c").will(will(topic, "x"));
        check_connect(vec![(
            "will topic",
            packet(kind::CONNECT, &connect.body(connect.flags())),
            NAME,
        )]);
    }
}
