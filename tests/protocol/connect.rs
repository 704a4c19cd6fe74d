//! CONNECT and CONNACK: MQTT 5, 3.1 and 3.2.

use super::packets::{
    Auth, Outgoing, Pingreq, connect, disconnect, puback, pubcomp, publish, pubrec, pubrel,
    subscribe, unsubscribe, v4, v5, will,
};
use super::received::Received;
use super::rig::Rig;
use super::wire::{Value, Version, code, kind, packet, prop, string};

const VERSIONS: [Version; 3] = [Version::V3_1, Version::V3_1_1, Version::V5];

/// [MQTT-3.1.0-1] [MQTT-3.1.0-1 v3.1.1] [MQTT-3.14.0-1] [MQTT-3.2.0-1] [MQTT-3.2.0-1 v3.1.1]
#[test]
fn a_connection_that_does_not_begin_with_connect_is_closed_without_a_word() {
    let firsts: [&dyn Outgoing; 11] = [
        &publish("t", "x"),
        &publish("t", "x").qos1(1),
        &puback(1),
        &pubrec(1),
        &pubrel(1),
        &pubcomp(1),
        &subscribe(1, "t"),
        &unsubscribe(1, "t"),
        &Pingreq,
        &disconnect(),
        &Auth(code::CONTINUE_AUTHENTICATION),
    ];
    for version in [Version::V3_1_1, Version::V5] {
        for first in firsts {
            let client = Rig::new().open(version);
            client.unwatch();
            client.send_raw(&first.encode(version));
            assert!(client.is_closed(), "{:02x?}", first.encode(version));
            assert_eq!(client.bytes(), b"", "{:02x?}", first.encode(version));
        }
    }
}

/// [MQTT-3.1.0-1]
#[test]
fn packets_of_a_server_are_no_way_to_begin_either() {
    for first in [kind::CONNACK, kind::SUBACK, kind::UNSUBACK, kind::PINGRESP] {
        let client = Rig::new().open(Version::V5);
        client.unwatch();
        client.send_raw(&packet(first, &[0, 0]));
        assert!(client.is_closed(), "{first:#04x}");
        assert_eq!(client.bytes(), b"", "{first:#04x}");
    }
}

/// [MQTT-3.1.0-2] [MQTT-3.2.0-2]
#[test]
fn a_second_connect_is_a_protocol_error() {
    let rig = Rig::new();
    let client = rig.client("c");
    client.send(&v5("c"));
    assert_eq!(client.closed_with(), code::PROTOCOL_ERROR);
}

/// [MQTT-3.1.0-2] [MQTT-3.14.2-1]
#[test]
fn a_second_connect_is_a_protocol_error_whatever_version_it_names() {
    for level in [0, 3, 4, 6, 255] {
        let rig = Rig::new();
        let client = rig.client("c");
        let head = [string(b"MQTT"), vec![level, 2, 0, 0, 0], string(b"c")].concat();
        client.send_raw(&packet(kind::CONNECT, &head));
        assert_eq!(client.closed_with(), code::PROTOCOL_ERROR, "level {level}");
    }
}

/// [MQTT-3.1.0-2 v3.1.1]
#[test]
fn a_second_connect_of_mqtt_3_disconnects() {
    let rig = Rig::new();
    let client = rig.connect(&v4("c"));
    client.send(&v4("c"));
    client.closed_silently();
}

/// [MQTT-3.1.4-5] [MQTT-3.2.0-1] [MQTT-3.2.2-1] [MQTT-3.1.4-4 v3.1.1] [MQTT-3.2.0-1 v3.1.1]
/// [MQTT-7.0.0-2 v3.1.1]
#[test]
fn the_plainest_connect_of_each_version_is_accepted() {
    for version in VERSIONS {
        let (client, connack) = Rig::new().connect_told(&connect(version, "plain"));
        assert!(!connack.session_present());
        client.expect_alive();
    }
}

/// [MQTT-3.2.0-1] [MQTT-3.2.0-1 v3.1.1]
#[test]
fn packets_sent_behind_connect_are_answered_behind_connack() {
    for version in VERSIONS {
        let rig = Rig::new();
        let client = rig.open(version);
        let first = connect(version, "eager");
        client.send_at_once(&[&first, &subscribe(9, "t"), &publish("t", "x"), &Pingreq]);
        assert_eq!(client.connack().code, 0);
        assert_eq!(client.suback().packet_id, 9);
        assert_eq!(client.publish().text(), "x");
        assert_eq!(client.recv(), Received::Pingresp);
    }
}

#[test]
fn the_byte_stream_may_be_cut_anywhere() {
    for version in VERSIONS {
        let client = Rig::new().open(version);
        client.unwatch();
        let whole = [
            connect(version, "slow").user_name("name").encode(version),
            subscribe(1, "t").and("u").encode(version),
            publish("t", &"long".repeat(100)).qos2(7).encode(version),
            pubrel(7).encode(version),
        ]
        .concat();
        for byte in &whole {
            client.send_raw(&[*byte]);
        }
        let one_by_one = client.bytes();
        let client = Rig::new().open(version);
        client.unwatch();
        client.send_raw(&whole);
        assert_eq!(client.bytes(), one_by_one);
        assert!(one_by_one.len() > 400, "the message came back");
    }
}

/// [MQTT-3.1.2-1] [MQTT-3.1.2-1 v3.1.1]
#[test]
fn another_protocol_name_is_closed() {
    for name in ["", "MQT", "mqtt", "MQTT ", "MQTTX", "HTTP", "MQIsdp"] {
        for level in [4, 5] {
            let client = Rig::new().open(Version::V5);
            client.unwatch();
            let head = [string(name.as_bytes()), vec![level, 2, 0, 0]].concat();
            let tail = if level == 5 { vec![0, 0, 1, b'c'] } else { vec![0, 1, b'c'] };
            client.send_raw(&packet(kind::CONNECT, &[head, tail].concat()));
            assert!(client.is_closed(), "{name} {level}");
            let bytes = client.bytes();
            let revealed =
                bytes.is_empty() || bytes[0] == kind::CONNACK && is_version_refusal(&bytes);
            assert!(revealed, "{name} {level}: {bytes:02x?}");
        }
    }
}

/// [MQTT-3.1.2-2] [MQTT-3.1.2-2 v3.1.1] [MQTT-3.2.2-4 v3.1.1] [MQTT-3.2.2-5 v3.1.1]
#[test]
fn an_unknown_protocol_level_is_refused_and_closed() {
    for level in [0, 1, 2, 6, 7, 0x7F, 0xFF] {
        let client = Rig::new().open(Version::V5);
        client.unwatch();
        let body = [string(b"MQTT"), vec![level, 2, 0, 0, 0, 0, 1, b'c']].concat();
        client.send_raw(&packet(kind::CONNECT, &body));
        assert!(client.is_closed(), "{level}");
        let bytes = client.bytes();
        assert!(is_version_refusal(&bytes), "{level}: {bytes:02x?}");
    }
}

/// Whether it is a CONNACK that says, in one form or the other, that the version is not known.
fn is_version_refusal(bytes: &[u8]) -> bool {
    bytes == [0x20, 2, 0, 1] || bytes.first() == Some(&0x20) && bytes.get(2..4) == Some(&[0, 0x84])
}

/// [MQTT-3.1.3-5] [MQTT-3.1.3-5 v3.1.1]
#[test]
fn client_identifiers_of_1_to_23_letters_and_digits_are_accepted() {
    let letters = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for version in VERSIONS {
        let rig = Rig::new();
        for len in 1..=23 {
            for start in [0, 13, letters.len() - len] {
                rig.connect(&connect(version, &letters[start..start + len])).expect_alive();
            }
        }
    }
}

#[test]
fn client_identifiers_may_be_longer_and_of_any_characters() {
    for version in VERSIONS {
        let rig = Rig::new();
        for id in ["a".repeat(24), "x".repeat(1000), "a/b+c#".into(), "\u{65e5}\u{672c}".into()] {
            rig.connect(&connect(version, &id)).expect_alive();
        }
    }
}

/// [MQTT-3.1.3-6] [MQTT-3.2.2-16]
#[test]
fn each_client_without_an_identifier_gets_one_of_its_own() {
    let rig = Rig::new();
    let mut seen = std::collections::BTreeSet::new();
    let mut clients = Vec::new();
    for _ in 0..100 {
        let (client, connack) = rig.connect_told(&v5(""));
        let id = connack.props.text(prop::ASSIGNED_CLIENT_IDENTIFIER).expect("an identifier");
        assert!(!id.is_empty());
        assert!(seen.insert(id.to_owned()), "{id} was given twice");
        clients.push(client);
    }
    for client in clients {
        client.expect_alive();
    }
}

/// [MQTT-3.2.2-16]
#[test]
fn an_assigned_identifier_is_not_one_that_a_client_has_chosen() {
    let assigned = |rig: &Rig| {
        let (_client, connack) = rig.connect_told(&v5(""));
        connack.props.text(prop::ASSIGNED_CLIENT_IDENTIFIER).expect("an identifier").to_owned()
    };
    // The same seed, so that the first identifier is known beforehand.
    let guessed = assigned(&Rig::new());
    let rig = Rig::new();
    let owner = rig.client(&guessed);
    assert_ne!(assigned(&rig), guessed);
    owner.expect_alive();
}

/// [MQTT-3.1.3-7]
#[test]
fn an_assigned_identifier_names_the_session_from_then_on() {
    let rig = Rig::new();
    let (client, connack) = rig.connect_told(&v5("").lasting());
    let id = connack.props.text(prop::ASSIGNED_CLIENT_IDENTIFIER).expect("an identifier");
    client.subscribe(&subscribe(1, "t"));
    client.reset();
    let (client, connack) = rig.connect_told(&v5(id).lasting());
    assert!(connack.session_present());
    assert!(!connack.props.has(prop::ASSIGNED_CLIENT_IDENTIFIER), "this one was given");
    client.send(&publish("t", "x"));
    assert_eq!(client.publish().text(), "x");
}

/// [MQTT-3.1.3-2] [MQTT-3.1.3-2 v3.1.1]
#[test]
fn sessions_are_told_apart_by_client_identifier() {
    for version in [Version::V3_1_1, Version::V5] {
        let rig = Rig::new();
        rig.connect(&connect(version, "a").lasting()).reset();
        for (id, present) in [("A", false), ("a ", false), ("aa", false), ("a", true)] {
            let (_client, connack) = rig.connect_told(&connect(version, id).lasting());
            assert_eq!(connack.session_present(), present, "{id}");
        }
    }
}

/// [MQTT-3.1.4-3]
#[test]
fn a_connected_namesake_is_told_and_closed() {
    let rig = Rig::new();
    let first = rig.client("c");
    let second = rig.client("c");
    assert_eq!(first.closed_with(), code::SESSION_TAKEN_OVER);
    second.expect_alive();
}

/// [MQTT-3.1.4-2 v3.1.1]
#[test]
fn a_connected_namesake_of_mqtt_3_is_closed() {
    let rig = Rig::new();
    for version in VERSIONS {
        let first = rig.connect(&v4("c"));
        let second = rig.connect(&connect(version, "c"));
        first.closed_silently();
        second.expect_alive();
    }
}

/// [MQTT-4.12.0-1] [MQTT-4.12.0-4] [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-4.13.2-1]
#[test]
fn an_authentication_method_that_is_not_supported_is_refused() {
    let rig = Rig::new();
    let method = |connect: super::packets::Connect| {
        connect.prop(prop::AUTHENTICATION_METHOD, Value::Text("SCRAM-SHA-1".into()))
    };
    let client = rig.attempt(&method(v5("c")));
    assert_eq!(client.refused_with(), code::BAD_AUTHENTICATION_METHOD);
    let with_data = method(v5("c")).prop(prop::AUTHENTICATION_DATA, Value::Binary(vec![1, 2]));
    let client = rig.attempt(&with_data);
    assert_eq!(client.refused_with(), code::BAD_AUTHENTICATION_METHOD);
}

/// [MQTT-4.12.0-6]
#[test]
fn a_client_without_authentication_method_hears_of_none() {
    let (client, connack) = Rig::new().connect_told(&v5("c").user_name("n").password(b"p"));
    assert!(!connack.props.has(prop::AUTHENTICATION_METHOD));
    assert!(!connack.props.has(prop::AUTHENTICATION_DATA));
    client.expect_alive();
}

/// [MQTT-4.12.0-7] [MQTT-4.12.1-2] [MQTT-4.13.1-1]
#[test]
fn auth_without_an_authentication_method_is_a_protocol_error() {
    for reason in [code::SUCCESS, code::CONTINUE_AUTHENTICATION, code::REAUTHENTICATE] {
        let client = Rig::new().client("c");
        client.send(&Auth(reason));
        assert_eq!(client.closed_with(), code::PROTOCOL_ERROR);
    }
}

/// [MQTT-3.1.4-2] [MQTT-3.2.2-6] [MQTT-3.2.2-7] [MQTT-3.2.2-8]
#[test]
fn a_client_that_fails_authentication_is_refused_and_closed() {
    let rig = Rig::new();
    rig.connect(&v5("c").lasting()).reset();
    let client = rig.attempt(&v5("c").lasting().user_name(super::doorkeeper::STRANGER));
    let reason = client.refused_with();
    assert!([0x86, 0x87].contains(&reason), "{reason:#04x}");
}

/// [MQTT-3.2.2-4 v3.1.1] [MQTT-3.2.2-5 v3.1.1]
#[test]
fn a_client_of_mqtt_3_that_fails_authentication_is_refused_and_closed() {
    let rig = Rig::new();
    rig.connect(&v4("c").lasting()).reset();
    let client = rig.attempt(&v4("c").lasting().user_name(super::doorkeeper::STRANGER));
    let reason = client.refused_with();
    assert!([4, 5].contains(&reason), "{reason}");
}

/// [MQTT-3.1.4-6] [MQTT-3.1.4-5 v3.1.1]
#[test]
fn what_follows_a_refused_connect_is_not_processed() {
    for version in [Version::V3_1_1, Version::V5] {
        let rig = Rig::new();
        let witness = rig.subscriber(Version::V5, "witness", "#", 0);
        let client = rig.open(version);
        let refused = connect(version, "c").user_name(super::doorkeeper::STRANGER);
        client.send_at_once(&[&refused, &publish("t", "x").retain(), &Pingreq]);
        client.refused_with();
        witness.expect_alive();
        let late = rig.client("late");
        late.subscribe(&subscribe(1, "#"));
        late.expect_alive();
    }
}

/// A refused connection takes nothing from the one that owns the name. [MQTT-3.1.4-2]
#[test]
fn a_refused_namesake_takes_over_nothing() {
    let rig = Rig::new();
    let owner = rig.client("c");
    rig.attempt(&v5("c").user_name(super::doorkeeper::STRANGER)).refused_with();
    owner.expect_alive();
}

/// [MQTT-3.1.2-28]
#[test]
fn response_information_is_not_sent_unasked() {
    for connect in [v5("c"), v5("c").prop(prop::REQUEST_RESPONSE_INFORMATION, Value::Byte(0))] {
        let (_client, connack) = Rig::new().connect_told(&connect);
        assert!(!connack.props.has(prop::RESPONSE_INFORMATION));
    }
}

/// [MQTT-3.2.2-9] [MQTT-3.2.2-10]
#[test]
fn a_connack_without_maximum_qos_means_that_qos_2_works() {
    let rig = Rig::new();
    let (client, connack) = rig.connect_told(&v5("c").will(will("w", "x").qos(2)));
    assert!(!connack.props.has(prop::MAXIMUM_QOS));
    let all = subscribe(1, "t").and("u").qos(1).and("v").qos(2);
    assert_eq!(client.subscribe(&all), [0, 1, 2]);
    rig.client("p").send(&publish("v", "x").qos2(1));
    assert_eq!(client.publish().qos, 2);
    client.send(&publish("elsewhere", "x").qos2(1));
    assert!(client.pubrec().code < 0x80);
}

/// What the broker announces is what it does; absent means available.
#[test]
fn everything_optional_is_available() {
    let (_client, connack) = Rig::new().connect_told(&v5("c"));
    for id in [
        prop::RETAIN_AVAILABLE,
        prop::WILDCARD_AVAILABLE,
        prop::SUBSCRIPTION_IDENTIFIER_AVAILABLE,
        prop::SHARED_AVAILABLE,
    ] {
        assert_ne!(connack.props.number(id), Some(0), "{id:#04x}");
    }
    assert_eq!(connack.props.number(prop::TOPIC_ALIAS_MAXIMUM), Some(64));
    assert_eq!(connack.props.number(prop::MAXIMUM_PACKET_SIZE), Some(16 << 20));
    assert_eq!(connack.props.number(prop::RECEIVE_MAXIMUM), Some(1_024));
    assert!(!connack.props.has(prop::SERVER_REFERENCE));
}

/// [MQTT-3.2.2-19] [MQTT-3.2.2-20]
#[test]
fn connack_keeps_within_the_maximum_packet_size() {
    let rig = Rig::new();
    for size in 1..100 {
        let client = rig.attempt(&v5("c").maximum_packet_size(size));
        // The watch sees to the size. What fits into none is not sent, and that ends it.
        match client.next() {
            Some(Received::Connack(connack)) => assert_eq!(connack.code, 0, "{size}"),
            Some(other) => panic!("{other:?}"),
            None => assert!(client.is_closed(), "neither answered nor closed at {size}"),
        }
    }
}

/// [MQTT-3.1.2-3] [MQTT-3.1.2-3 v3.1.1]
#[test]
fn the_reserved_connect_flag_is_checked() {
    for version in [Version::V3_1_1, Version::V5] {
        let first = connect(version, "c");
        let client = Rig::new().open(version);
        client.unwatch();
        client.send_raw(&packet(kind::CONNECT, &first.body(first.flags() | 1)));
        assert!(client.is_closed(), "{version:?}");
        let bytes = client.bytes();
        let told = version == Version::V5 && bytes.get(3) == Some(&code::MALFORMED_PACKET);
        assert!(bytes.is_empty() || told, "{version:?} {bytes:02x?}");
    }
}
