//! What MQTT 3.1.1 and 3.1 demand otherwise than MQTT 5.

use super::packets::{connect, publish, subscribe, v4, will};
use super::rig::Rig;
use super::wire::{Version, kind, packet, string};

const OLD: [Version; 2] = [Version::V3_1, Version::V3_1_1];

/// [MQTT-3.1.3-6 v3.1.1]
#[test]
fn an_empty_identifier_with_clean_session_gets_one_of_its_own() {
    let rig = Rig::new();
    let clients: Vec<_> = (0..10).map(|_| rig.connect(&v4(""))).collect();
    for client in &clients {
        client.subscribe(&subscribe(1, "t"));
    }
    rig.client("p").send(&publish("t", "x"));
    for client in clients {
        assert_eq!(client.payloads(), ["x"], "none took over another");
    }
}

/// [MQTT-3.1.3-8 v3.1.1] [MQTT-3.1.3-7 v3.1.1] [MQTT-3.1.3-9 v3.1.1] [MQTT-3.2.2-4 v3.1.1]
/// [MQTT-3.2.2-5 v3.1.1]
#[test]
fn an_empty_identifier_without_clean_session_is_rejected() {
    assert_eq!(Rig::new().attempt(&v4("").resume()).refused_with(), 0x02);
}

/// MQTT 3.1 knew no empty identifier at all.
#[test]
fn an_empty_identifier_of_mqtt_3_1_is_rejected_or_served() {
    let client = Rig::new().attempt(&connect(Version::V3_1, ""));
    let connack = client.connack();
    assert!([0, 2].contains(&connack.code), "{connack:?}");
}

/// [MQTT-3.1.4-1 v3.1.1] [MQTT-3.2.2-6 v3.1.1]
#[test]
fn a_connect_of_wrong_format_closes_without_connack() {
    let good = v4("c").will(will("w", "x")).user_name("n").password(b"p");
    let flags = good.flags();
    let body = good.body(flags);
    let with = |flags| packet(kind::CONNECT, &good.body(flags));
    let rows: Vec<(&str, Vec<u8>)> = vec![
        // [MQTT-3.1.2-3 v3.1.1]
        ("reserved flag", with(flags | 0x01)),
        // [MQTT-3.1.2-14 v3.1.1]
        ("will QoS 3", with(flags | 0x18)),
        ("password without user name", with(flags & !0x80)),
        ("cut short", packet(kind::CONNECT, &body[..body.len() - 1])),
        ("too long", packet(kind::CONNECT, &[&body[..], &[0]].concat())),
        ("fixed header flags", packet(kind::CONNECT | 1, &body)),
        ("no client identifier", packet(kind::CONNECT, &body[..10])),
        (
            "will topic with wildcard",
            packet(kind::CONNECT, &{
                let bad = v4("c").will(will("w/#", "x"));
                bad.body(bad.flags())
            }),
        ),
        (
            "will topic empty",
            packet(kind::CONNECT, &{
                let bad = v4("c").will(will("", "x"));
                bad.body(bad.flags())
            }),
        ),
    ];
    for (name, bytes) in rows {
        let client = Rig::new().open(Version::V3_1_1);
        client.unwatch();
        client.send_raw(&bytes);
        assert!(client.is_closed(), "{name}");
        assert_eq!(client.bytes(), b"", "{name}");
    }
}

/// The flags say what the payload holds: what does not agree closes.
/// [MQTT-3.1.2-9 v3.1.1] [MQTT-3.1.2-11 v3.1.1] [MQTT-3.1.2-13 v3.1.1] [MQTT-3.1.2-15 v3.1.1]
/// [MQTT-3.1.2-18 v3.1.1] [MQTT-3.1.2-19 v3.1.1] [MQTT-3.1.2-20 v3.1.1] [MQTT-3.1.2-21 v3.1.1]
/// [MQTT-3.1.2-22 v3.1.1] [MQTT-3.1.3-1 v3.1.1] [MQTT-3.1.3-3 v3.1.1]
#[test]
fn flags_that_disagree_with_the_payload_close() {
    const WILL: u8 = 0x04;
    const NAME: u8 = 0x80;
    const PASSWORD: u8 = 0x40;
    let field = |text: &str| string(text.as_bytes());
    let (id, topic, message) = (field("c"), field("w"), field("x"));
    let (name, password) = (field("n"), field("p"));
    let rows: &[(&str, u8, Vec<&Vec<u8>>)] = &[
        ("will without fields", WILL, vec![&id]),
        ("will without message", WILL, vec![&id, &topic]),
        ("will QoS without will", 0x08, vec![&id]),
        ("will QoS 2 without will", 0x10, vec![&id]),
        ("will retain without will", 0x20, vec![&id]),
        ("will fields without will", 0, vec![&id, &topic, &message]),
        ("user name without field", NAME, vec![&id]),
        ("user name field without flag", 0, vec![&id, &name]),
        ("password without field", NAME | PASSWORD, vec![&id, &name]),
        ("password field without flag", NAME, vec![&id, &name, &password]),
        ("password without user name", PASSWORD, vec![&id, &password]),
        ("no field at all", 0, vec![]),
    ];
    for (what, flags, fields) in rows {
        let client = Rig::new().open(Version::V3_1_1);
        client.unwatch();
        let mut body = [string(b"MQTT"), vec![4, flags | 2, 0, 0]].concat();
        for field in fields {
            body.extend(*field);
        }
        client.send_raw(&packet(kind::CONNECT, &body));
        assert!(client.is_closed(), "{what}");
        assert_eq!(client.bytes(), b"", "{what}");
    }
}

/// MQTT 3.1, 3.1: for the sake of clients older still, a user name or password that its flag
/// promises may be missing.
#[test]
fn strings_that_mqtt_3_1_promises_may_be_missing() {
    for (flags, fields) in [(0x80, &b"\0\x01c"[..]), (0xC0, b"\0\x01c"), (0xC0, b"\0\x01c\0\x01n")]
    {
        let client = Rig::new().open(Version::V3_1);
        client.unwatch();
        let head = [string(b"MQIsdp"), vec![3, flags | 2, 0, 0]].concat();
        client.send_raw(&packet(kind::CONNECT, &[&head, fields].concat()));
        assert_eq!(client.bytes(), [0x20, 2, 0, 0], "{flags:#04x} {fields:?}");
    }
}

/// MQTT 3.1, 2.1: these too were repeated with DUP then. MQTT 3.1.1 calls the bit reserved.
#[test]
fn requests_of_mqtt_3_1_may_be_repeated_with_dup() {
    let client = Rig::new().connect(&connect(Version::V3_1, "c"));
    client.send_raw(&packet(kind::SUBSCRIBE | 0b1010, b"\0\x01\0\x01t\0"));
    assert_eq!(client.suback().packet_id, 1);
    client.send_raw(&packet(kind::UNSUBSCRIBE | 0b1010, b"\0\x02\0\x01t"));
    assert_eq!(client.unsuback().packet_id, 2);
    client.send_raw(&packet(kind::PUBREL | 0b1010, b"\0\x03"));
    assert_eq!(client.pubcomp().packet_id, 3);
}

/// [MQTT-3.3.5-2 v3.1.1]
#[test]
fn a_publish_without_right_is_acknowledged_as_usual_or_closes() {
    let rig = Rig::new();
    let reader = rig.subscriber(Version::V5, "reader", "flespi/#", 0);
    let client = rig.connect(&v4("c"));
    client.send(&publish("flespi/message/x", "x").qos1(1));
    match client.next() {
        Some(received) => assert!(matches!(received, super::received::Received::Puback(_))),
        None => client.closed_silently(),
    }
    reader.payloads();
}

/// No DISCONNECT, no reason codes, no properties: the reading of the packets fails on any.
#[test]
fn the_packets_of_mqtt_3_are_as_short_as_they_were() {
    for version in OLD {
        let client = Rig::new().open(version);
        client.unwatch();
        let all: [&dyn super::packets::Outgoing; 7] = [
            &connect(version, "c"),
            &subscribe(2, "t").qos(1),
            &publish("t", "x"),
            &publish("u", "x").qos1(3),
            &publish("u", "x").qos2(4),
            &super::packets::pubrel(4),
            &super::packets::unsubscribe(5, "t"),
        ];
        for outgoing in all {
            client.send_raw(&outgoing.encode(version));
        }
        let want: &[&[u8]] = &[
            &[0x20, 2, 0, 0],
            &[0x90, 3, 0, 2, 1],
            &[0x30, 4, 0, 1, b't', b'x'],
            &[0x40, 2, 0, 3],
            &[0x50, 2, 0, 4],
            &[0x70, 2, 0, 4],
            &[0xB0, 2, 0, 5],
        ];
        assert_eq!(client.bytes(), want.concat());
    }
}

/// Errors of MQTT 3 end in silence, whatever they are. [MQTT-4.8.0-1 v3.1.1]
/// [MQTT-4.8.0-2 v3.1.1]
#[test]
fn a_client_of_mqtt_3_past_a_limit_is_closed() {
    let rig = Rig::with(|limits| {
        limits.packet_bytes = 100;
        limits.topic_levels = 3;
    });
    for packets in [vec![publish("t", &"x".repeat(200))], vec![publish("a/b/c/d", "x")]] {
        let client = rig.connect(&v4("c"));
        for packet in &packets {
            client.send(packet);
        }
        while client.next().is_some() {}
        assert!(client.is_closed(), "{packets:?}");
    }
}

/// A refused filter is a return code, not a close. [MQTT-3.8.4-5 v3.1.1] [MQTT-3.9.3-2 v3.1.1]
#[test]
fn a_filter_past_a_limit_is_a_failure() {
    let rig = Rig::with(|limits| limits.subscriptions = 2);
    for version in OLD {
        let client = rig.connect(&connect(version, "c"));
        let codes = client.subscribe(&subscribe(1, "a").and("b").and("c").and("a").qos(1));
        assert_eq!(codes, [0, 0, 0x80, 1], "{version:?}");
    }
}
