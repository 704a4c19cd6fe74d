//! DISCONNECT from either side: MQTT 5, 3.14 and 4.13.

use super::packets::{Pingreq, connect, disconnect, publish, subscribe, v4, v5, will};
use super::rig::Rig;
use super::wire::{Value, Version, code, kind, packet, prop};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

/// MQTT 5, 3.14.4.
#[test]
fn after_the_disconnect_of_a_client_the_broker_closes_and_says_nothing() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "c"));
        client.send(&disconnect());
        client.closed_silently();
    }
}

/// MQTT 5, 3.14.2: code and property length may be left out.
#[test]
fn every_short_form_of_disconnect_is_a_disconnect() {
    for body in [&[][..], &[0], &[0, 0], &[0x04], &[0x04, 0]] {
        let client = Rig::new().client("c");
        client.send_raw(&packet(kind::DISCONNECT, body));
        client.closed_silently();
    }
}

/// [MQTT-3.14.2-1]
#[test]
fn the_codes_of_a_client_are_accepted_and_no_others() {
    let may = [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99];
    for reason in may {
        let client = Rig::new().client("c");
        client.send(&disconnect().code(reason));
        client.closed_silently();
    }
    // Codes of other packets, and codes that do not exist.
    for reason in [0x01, 0x02, 0x10, 0x11, 0x18, 0x19, 0x84, 0x85, 0x86, 0x91, 0x92, 0xA3, 0xFF] {
        let client = Rig::new().client("c");
        client.send(&disconnect().code(reason));
        let told = client.closed_with();
        assert!([code::MALFORMED_PACKET, code::PROTOCOL_ERROR].contains(&told), "{reason:#04x}");
    }
}

/// [MQTT-3.14.1-1]
#[test]
fn reserved_bits_of_disconnect_are_checked() {
    for flags in 1..16 {
        let client = Rig::new().client("c");
        client.send_raw(&packet(kind::DISCONNECT | flags, &[]));
        assert_eq!(client.closed_with(), code::MALFORMED_PACKET);
    }
}

/// [MQTT-3.14.1-1 v3.1.1] [MQTT-2.2.2-2 v3.1.1]
#[test]
fn a_disconnect_of_mqtt_3_with_wrong_flags_is_none() {
    for flags in 1..16 {
        let rig = Rig::new();
        let ear = rig.subscriber(Version::V5, "ear", "will", 0);
        let client = rig.connect(&v4("c").will(will("will", "gone")));
        client.send_raw(&packet(kind::DISCONNECT | flags, &[]));
        client.closed_silently();
        assert_eq!(ear.payloads(), ["gone"], "{flags:#06b}");
    }
}

/// [MQTT-3.14.4-1]
#[test]
fn what_a_client_sends_after_disconnect_is_not_heard() {
    for version in BOTH {
        let rig = Rig::new();
        let ear = rig.subscriber(Version::V5, "ear", "#", 0);
        let client = rig.connect(&connect(version, "c"));
        client.send_at_once(&[&disconnect(), &publish("t", "x"), &Pingreq]);
        client.closed_silently();
        ear.expect_alive();
    }
}

/// The watch fails where anything follows. [MQTT-3.14.4-1] [MQTT-3.14.4-2] [MQTT-4.13.1-1]
/// [MQTT-4.13.2-1] [MQTT-3.14.2-2] [MQTT-3.14.2-1]
#[test]
fn after_its_own_disconnect_the_broker_sends_nothing_and_closes() {
    let rig = Rig::new();
    let client = rig.connect(&v5("c").expiry(100).receive_maximum(2));
    client.subscribe(&subscribe(1, "t").qos(1));
    let publisher = rig.client("p");
    client.send_at_once(&[&Pingreq, &publish("", "x"), &Pingreq, &publish("t", "y")]);
    publisher.send(&publish("t", "z"));
    publisher.send(&publish("t", "z").qos1(1));
    assert_eq!(client.recv(), super::received::Received::Pingresp);
    assert_eq!(client.closed_with(), code::PROTOCOL_ERROR);
}

/// One wrong client closes no other. MQTT 5, 4.13.1. [MQTT-4.13.1-1]
#[test]
fn an_error_has_no_consequence_for_others() {
    let rig = Rig::new();
    let reader = rig.subscriber(Version::V5, "reader", "t", 1);
    let good = rig.client("good");
    let bad = rig.client("bad");
    bad.subscribe(&subscribe(1, "t"));
    good.send(&publish("t", "1").qos1(1));
    bad.send_raw(&[0xFF; 100]);
    bad.publish();
    assert_eq!(bad.closed_with(), code::MALFORMED_PACKET);
    good.send(&publish("t", "2").qos1(2));
    assert_eq!(reader.payloads(), ["1", "2"]);
    assert_eq!((good.puback().packet_id, good.puback().packet_id), (1, 2));
}

/// MQTT 5, 3.14.2.2: reasons and user properties are welcome.
#[test]
fn a_disconnect_may_say_more() {
    let client = Rig::new().client("c");
    let disconnect = disconnect()
        .code(0x98)
        .prop(prop::REASON_STRING, Value::Text("maintenance".into()))
        .user("a", "1")
        .user("a", "2");
    client.send(&disconnect);
    client.closed_silently();
}
