//! What must close, in tables: bytes, and the codes the broker may give for them.

use super::packets::{connect, publish, subscribe, v5};
use super::received::Received;
use super::rig::Rig;
use super::wire::{Version, code, kind, packet, prop, string};

pub(super) const BAD: &[u8] = &[code::MALFORMED_PACKET];
pub(super) const ERROR: &[u8] = &[code::PROTOCOL_ERROR];
pub(super) const EITHER: &[u8] = &[code::MALFORMED_PACKET, code::PROTOCOL_ERROR];
/// The standard calls it both an error of the protocol and a name that is not valid.
pub(super) const NAME: &[u8] =
    &[code::MALFORMED_PACKET, code::PROTOCOL_ERROR, code::TOPIC_NAME_INVALID];

pub(super) type Row = (&'static str, Vec<u8>, &'static [u8]);

/// Sends each to a fresh connection of MQTT 5 that has to end for it.
fn check(rows: Vec<Row>) {
    for (name, bytes, codes) in rows {
        let rig = Rig::new();
        let client = rig.client("c");
        client.send_raw(&bytes);
        let told = match client.next() {
            Some(Received::Disconnect(disconnect)) => disconnect.code,
            other => panic!("{name}: {other:?} instead of DISCONNECT"),
        };
        assert!(client.is_closed(), "{name}");
        assert!(codes.contains(&told), "{name}: {told:#04x}");
        client.expect_nothing();
    }
}

/// The same for MQTT 3.1.1, where every error ends in silence.
fn check_v3(rows: Vec<(&str, Vec<u8>)>) {
    for (name, bytes) in rows {
        let rig = Rig::new();
        let client = rig.connect(&connect(Version::V3_1_1, "c"));
        client.send_raw(&bytes);
        client.expect_nothing();
        assert!(client.is_closed(), "{name}");
    }
}

/// A SUBSCRIBE with one filter of these bytes.
fn subscribe_to(version: Version, filter: &[u8]) -> Vec<u8> {
    let props: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    packet(kind::SUBSCRIBE | 2, &[&[0, 1], props, &string(filter), &[0]].concat())
}

fn unsubscribe_from(version: Version, filter: &[u8]) -> Vec<u8> {
    let props: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    packet(kind::UNSUBSCRIBE | 2, &[&[0, 1], props, &string(filter)].concat())
}

fn publish_to(version: Version, topic: &[u8]) -> Vec<u8> {
    let props: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    packet(kind::PUBLISH, &[&string(topic), props, b"x"].concat())
}

/// A QoS 0 PUBLISH to `t` with these bytes as its properties.
fn publish_with(props: &[u8]) -> Vec<u8> {
    let len = u8::try_from(props.len()).expect("few properties");
    packet(kind::PUBLISH, &[&string(b"t")[..], &[len], props].concat())
}

/// Strings that are not UTF-8, and the null character.
pub(super) const NOT_TEXT: &[(&str, &[u8])] = &[
    ("a lone continuation", b"a\x80"),
    ("an unfinished sequence", b"a\xE2\x82"),
    ("an overlong slash", b"\xC0\xAF"),
    ("a surrogate", b"\xED\xA0\x80"),
    ("the last surrogate", b"\xED\xBF\xBF"),
    ("beyond U+10FFFF", b"\xF4\x90\x80\x80"),
    ("0xFF", b"\xFF"),
    ("U+0000", b"a\0b"),
    ("U+0000 alone", b"\0"),
    ("an overlong null", b"\xC0\x80"),
];

/// [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-3.3.2-1] [MQTT-3.8.3-1] [MQTT-3.10.3-1] [MQTT-4.7.3-2]
#[test]
fn names_and_filters_that_are_no_text_close() {
    for (name, bytes) in NOT_TEXT {
        let of = |make: fn(Version, &[u8]) -> Vec<u8>| make(Version::V5, bytes);
        check(vec![
            (name, of(publish_to), NAME),
            (name, of(subscribe_to), &[0x81, 0x82, 0x8F]),
            (name, of(unsubscribe_from), &[0x81, 0x82, 0x8F]),
        ]);
    }
}

/// [MQTT-1.5.3-1 v3.1.1] [MQTT-1.5.3-2 v3.1.1] [MQTT-3.3.2-1 v3.1.1] [MQTT-3.8.3-1 v3.1.1]
/// [MQTT-3.10.3-1 v3.1.1] [MQTT-4.7.3-2 v3.1.1]
#[test]
fn names_and_filters_of_mqtt_3_that_are_no_text_close() {
    for (name, bytes) in NOT_TEXT {
        let of = |make: fn(Version, &[u8]) -> Vec<u8>| make(Version::V3_1_1, bytes);
        let all = [of(publish_to), of(subscribe_to), of(unsubscribe_from)];
        check_v3(all.map(|bytes| (*name, bytes)).into());
    }
}

/// [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-1.5.7-1] [MQTT-3.3.2-13] [MQTT-3.3.2-19]
#[test]
fn properties_that_are_no_text_close() {
    for (name, bytes) in NOT_TEXT {
        let text = |id: u8| publish_with(&[&[id][..], &string(bytes)].concat());
        let pair = |key: &[u8], value: &[u8]| {
            publish_with(&[&[prop::USER_PROPERTY][..], &string(key), &string(value)].concat())
        };
        check(vec![
            (name, text(prop::RESPONSE_TOPIC), NAME),
            (name, text(prop::CONTENT_TYPE), BAD),
            (name, pair(bytes, b"v"), BAD),
            (name, pair(b"k", bytes), BAD),
        ]);
    }
}

/// Control characters and non-characters are text that a server may refuse and need not.
/// [MQTT-4.7.3-4]
#[test]
fn odd_characters_are_taken_or_refused_but_not_changed() {
    for topic in ["a\u{1}b", "\u{7f}", "\u{9f}", "\u{fdd0}", "\u{ffff}", "\u{10ffff}"] {
        let rig = Rig::new();
        let reader = rig.subscriber(Version::V5, "reader", "#", 0);
        let client = rig.client("c");
        client.send(&publish(topic, "x"));
        match reader.next() {
            Some(Received::Publish(publish)) => assert_eq!(publish.topic, topic),
            _ => assert!(client.is_closed()),
        }
    }
}

/// [MQTT-3.3.2-2] [MQTT-4.7.0-1] [MQTT-4.7.3-1] [MQTT-3.3.2-14]
#[test]
fn topic_names_with_wildcards_or_without_characters_close() {
    for name in ["#", "+", "a/#", "a/+/b", "a+", "#a", "a#b"] {
        check(vec![
            (name, publish_to(Version::V5, name.as_bytes()), NAME),
            (
                name,
                publish_with(&[&[prop::RESPONSE_TOPIC][..], &string(name.as_bytes())].concat()),
                NAME,
            ),
        ]);
    }
    check(vec![("empty", publish_to(Version::V5, b""), EITHER)]);
}

/// [MQTT-3.3.2-2 v3.1.1] [MQTT-4.7.1-1 v3.1.1] [MQTT-4.7.3-1 v3.1.1]
#[test]
fn topic_names_of_mqtt_3_with_wildcards_or_without_characters_close() {
    for name in ["#", "+", "a/#", "a/+/b", "a+", ""] {
        check_v3(vec![(name, publish_to(Version::V3_1_1, name.as_bytes()))]);
    }
}

/// [MQTT-2.1.3-1] [MQTT-3.6.1-1] [MQTT-3.8.1-1] [MQTT-3.10.1-1] [MQTT-3.14.1-1] [MQTT-3.15.1-1]
/// [MQTT-4.13.1-1]
#[test]
fn wrong_flags_of_the_fixed_header_close() {
    for (name, first, right, body) in FLAGGED {
        for flags in (0..16).filter(|flags| flags != right) {
            let body: &[u8] = if *first == kind::AUTH { &[] } else { body };
            check(vec![(name, packet(first | flags, body), BAD)]);
        }
    }
}

/// Packets of clients with reserved flags: type, flags, a legal body of MQTT 5.
const FLAGGED: &[(&str, u8, u8, &[u8])] = &[
    ("PUBACK", kind::PUBACK, 0, &[0, 1]),
    ("PUBREC", kind::PUBREC, 0, &[0, 1]),
    ("PUBREL", kind::PUBREL, 2, &[0, 1]),
    ("PUBCOMP", kind::PUBCOMP, 0, &[0, 1]),
    ("SUBSCRIBE", kind::SUBSCRIBE, 2, &[0, 1, 0, 0, 1, b't', 0]),
    ("UNSUBSCRIBE", kind::UNSUBSCRIBE, 2, &[0, 1, 0, 0, 1, b't']),
    ("PINGREQ", kind::PINGREQ, 0, &[]),
    ("DISCONNECT", kind::DISCONNECT, 0, &[]),
    ("AUTH", kind::AUTH, 0, &[]),
];

/// [MQTT-2.2.2-1 v3.1.1] [MQTT-2.2.2-2 v3.1.1] [MQTT-3.6.1-1 v3.1.1] [MQTT-3.8.1-1 v3.1.1]
/// [MQTT-3.10.1-1 v3.1.1] [MQTT-4.8.0-1 v3.1.1]
#[test]
fn wrong_flags_of_mqtt_3_close() {
    for (name, first, right, body) in FLAGGED {
        if *first == kind::AUTH {
            continue;
        }
        for flags in (0..16).filter(|flags| flags != right) {
            // Without the property length.
            let body: Vec<u8> =
                if body.len() > 2 { [&body[..2], &body[3..]].concat() } else { body.to_vec() };
            check_v3(vec![(name, packet(first | flags, &body))]);
        }
    }
}

/// [MQTT-3.3.1-4] [MQTT-3.3.1-2]
#[test]
fn impossible_flags_of_publish_close() {
    for flags in [0b0110, 0b0111, 0b1110, 0b1111] {
        check(vec![("QoS 3", packet(kind::PUBLISH | flags, b"\0\x01t\0\x01\0"), BAD)]);
    }
    for flags in [0b1000, 0b1001] {
        check(vec![("DUP at QoS 0", packet(kind::PUBLISH | flags, b"\0\x01t\0"), EITHER)]);
    }
}

/// [MQTT-3.3.1-4 v3.1.1] [MQTT-3.3.1-2 v3.1.1]
#[test]
fn impossible_flags_of_a_publish_of_mqtt_3_close() {
    for flags in [0b0110, 0b0111, 0b1110, 0b1111] {
        check_v3(vec![("QoS 3", packet(kind::PUBLISH | flags, b"\0\x01t\0\x01"))]);
    }
    for flags in [0b1000, 0b1001] {
        check_v3(vec![("DUP at QoS 0", packet(kind::PUBLISH | flags, b"\0\x01t"))]);
    }
}

/// [MQTT-2.2.1-3] [MQTT-2.2.1-5]
#[test]
fn a_packet_identifier_of_0_closes() {
    check(vec![
        ("PUBLISH QoS 1", packet(0x32, b"\0\x01t\0\0\0x"), EITHER),
        ("PUBLISH QoS 2", packet(0x34, b"\0\x01t\0\0\0x"), EITHER),
        ("SUBSCRIBE", packet(0x82, b"\0\0\0\0\x01t\0"), EITHER),
        ("UNSUBSCRIBE", packet(0xA2, b"\0\0\0\0\x01t"), EITHER),
        ("PUBACK", packet(0x40, b"\0\0"), EITHER),
        ("PUBREC", packet(0x50, b"\0\0"), EITHER),
        ("PUBREL", packet(0x62, b"\0\0"), EITHER),
        ("PUBCOMP", packet(0x70, b"\0\0"), EITHER),
    ]);
}

/// [MQTT-2.3.1-1 v3.1.1]
#[test]
fn a_packet_identifier_of_0_in_mqtt_3_closes() {
    check_v3(vec![
        ("PUBLISH QoS 1", packet(0x32, b"\0\x01t\0\0x")),
        ("PUBLISH QoS 2", packet(0x34, b"\0\x01t\0\0x")),
        ("SUBSCRIBE", packet(0x82, b"\0\0\0\x01t\0")),
        ("UNSUBSCRIBE", packet(0xA2, b"\0\0\0\x01t")),
    ]);
}

/// [MQTT-1.5.5-1]
#[test]
fn numbers_written_too_long_close() {
    check(vec![
        ("five bytes of remaining length", vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01], BAD),
        ("property length 0 in two bytes", packet(0x30, b"\0\x01t\x80\0"), BAD),
        ("property length of five bytes", packet(0x30, b"\0\x01t\x80\x80\x80\x80\x01"), BAD),
        ("identifier 1 in two bytes", packet(0x82, b"\0\x01\x03\x0B\x81\0\0\x01t\0"), BAD),
        (
            "identifier of five bytes",
            packet(0x82, b"\0\x01\x06\x0B\xFF\xFF\xFF\xFF\x01\0\x01t\0"),
            BAD,
        ),
    ]);
}

/// One way or the other, no receiver gets it as it was. [MQTT-1.5.5-1]
#[test]
fn a_remaining_length_written_too_long_is_not_passed_on() {
    for version in [Version::V3_1_1, Version::V5] {
        let rig = Rig::new();
        let reader = rig.subscriber(version, "reader", "t", 0);
        let body = &publish_to(version, b"t")[2..];
        let len = 0x80 | u8::try_from(body.len()).expect("short");
        rig.connect(&connect(version, "c")).send_raw(&[&[0x30, len, 0x80, 0], body].concat());
        if let Some(Received::Publish(publish)) = reader.next() {
            assert_eq!(publish.text(), "x");
        }
    }
}

/// [MQTT-2.2.2-1] [MQTT-4.13.1-1]
#[test]
fn packets_cut_short_or_too_long_close() {
    check(vec![
        ("PUBLISH without topic", packet(0x30, b""), BAD),
        ("PUBLISH with half a topic length", packet(0x30, b"\0"), BAD),
        ("PUBLISH with a topic cut short", packet(0x30, b"\0\x05tt"), BAD),
        ("PUBLISH without identifier", packet(0x32, b"\0\x01t\0"), BAD),
        ("PUBLISH without property length", packet(0x30, b"\0\x01t"), BAD),
        ("PUBLISH with properties cut short", packet(0x30, b"\0\x01t\x05\x01"), BAD),
        ("a property cut short", publish_with(&[prop::MESSAGE_EXPIRY, 0, 0]), BAD),
        ("a string property cut short", publish_with(b"\x03\0\x09abc"), BAD),
        ("half a user property", publish_with(b"\x26\0\x01a"), BAD),
        ("PUBACK without identifier", packet(0x40, b"\0"), BAD),
        ("PUBACK with more than it says", packet(0x40, b"\0\x01\0\0x"), BAD),
        ("SUBSCRIBE without property length", packet(0x82, b"\0\x01"), BAD),
        ("SUBSCRIBE without options", packet(0x82, b"\0\x01\0\0\x01t"), BAD),
        ("SUBSCRIBE with half a filter", packet(0x82, b"\0\x01\0\0\x01t\0\0"), BAD),
        ("UNSUBSCRIBE with half a filter", packet(0xA2, b"\0\x01\0\0\x02t"), BAD),
        ("PINGREQ with a body", packet(0xC0, b"x"), BAD),
        ("DISCONNECT with more than it says", packet(0xE0, b"\0\0x"), BAD),
        ("type 0", packet(0x00, b""), BAD),
    ]);
}

/// [MQTT-4.8.0-1 v3.1.1] [MQTT-2.3.1-5 v3.1.1]
#[test]
fn packets_of_mqtt_3_cut_short_or_too_long_close() {
    check_v3(vec![
        ("PUBLISH without topic", packet(0x30, b"")),
        ("PUBLISH with a topic cut short", packet(0x30, b"\0\x05tt")),
        ("PUBLISH without identifier", packet(0x32, b"\0\x01t\0")),
        ("PUBACK without identifier", packet(0x40, b"\0")),
        ("PUBACK with a reason code", packet(0x40, b"\0\x01\0")),
        ("SUBSCRIBE without QoS", packet(0x82, b"\0\x01\0\x01t")),
        ("UNSUBSCRIBE with half a filter", packet(0xA2, b"\0\x01\0\x02t")),
        ("PINGREQ with a body", packet(0xC0, b"x")),
        ("DISCONNECT with a body", packet(0xE0, b"\0")),
        ("five bytes of remaining length", vec![0x30, 0x80, 0x80, 0x80, 0x80, 0x01]),
        ("type 0", packet(0x00, b"")),
        ("type 15", packet(0xF0, b"")),
        ("CONNACK", packet(0x20, b"\0\0")),
        ("SUBACK", packet(0x90, b"\0\x01\0")),
        ("UNSUBACK", packet(0xB0, b"\0\x01")),
        ("PINGRESP", packet(0xD0, b"")),
    ]);
}

/// A message of QoS 0 has no identifier: two bytes there are part of what follows.
/// [MQTT-2.2.1-2] [MQTT-2.3.1-5 v3.1.1]
#[test]
fn a_publish_of_qos_0_is_read_without_identifier() {
    let rig = Rig::new();
    let reader = rig.subscriber(Version::V5, "reader", "t", 0);
    rig.connect(&connect(Version::V3_1_1, "old")).send_raw(&packet(0x30, b"\0\x01t\0\x07"));
    assert_eq!(reader.publish().payload, b"\0\x07");
    rig.client("new").send_raw(&packet(0x30, b"\0\x01t\0\0\x07"));
    assert_eq!(reader.publish().payload, b"\0\x07");
}

/// [MQTT-4.13.1-1]
#[test]
fn packets_that_only_a_server_sends_close() {
    check(vec![
        ("CONNACK", packet(0x20, b"\0\0\0"), EITHER),
        ("SUBACK", packet(0x90, b"\0\x01\0\0"), EITHER),
        ("UNSUBACK", packet(0xB0, b"\0\x01\0\0"), EITHER),
        ("PINGRESP", packet(0xD0, b""), EITHER),
    ]);
}

/// [MQTT-3.8.3-2] [MQTT-3.10.3-2] [MQTT-3.8.3-5]
#[test]
fn requests_with_nothing_or_with_impossible_options_close() {
    let options = |bits: u8| packet(0x82, &[b"\0\x01\0\0\x01t".as_slice(), &[bits]].concat());
    check(vec![
        ("SUBSCRIBE without filter", packet(0x82, b"\0\x01\0"), ERROR),
        ("UNSUBSCRIBE without filter", packet(0xA2, b"\0\x01\0"), ERROR),
        ("reserved bit 6", options(0x40), BAD),
        ("reserved bit 7", options(0x80), BAD),
        ("both reserved bits", options(0xC1), BAD),
        ("QoS 3", options(0x03), EITHER),
        ("retain handling 3", options(0x30), EITHER),
        ("the second filter", packet(0x82, b"\0\x01\0\0\x01t\x01\0\x01u\x40"), BAD),
    ]);
}

/// [MQTT-3.8.3-3 v3.1.1] [MQTT-3.10.3-2 v3.1.1] [MQTT-3.8.3-4 v3.1.1]
#[test]
fn requests_of_mqtt_3_with_nothing_or_with_impossible_options_close() {
    let options = |bits: u8| packet(0x82, &[b"\0\x01\0\x01t".as_slice(), &[bits]].concat());
    let mut rows = vec![
        ("SUBSCRIBE without filter", packet(0x82, b"\0\x01")),
        ("UNSUBSCRIBE without filter", packet(0xA2, b"\0\x01")),
        ("QoS 3", options(0x03)),
    ];
    rows.extend((2..8).map(|bit| ("a reserved bit", options(1 << bit))));
    check_v3(rows);
}

/// Identifiers of properties: known, allowed in the packet (MQTT 5, 2.2.2.2: else malformed), at
/// most once, of a legal value.
/// [MQTT-4.13.1-1] [MQTT-3.3.4-6] [MQTT-3.14.2-2]
#[test]
fn properties_that_do_not_belong_close() {
    let twice = |one: &[u8]| publish_with(&[one, one].concat());
    let subscribe = |props: &[u8]| {
        let len = u8::try_from(props.len()).expect("few properties");
        packet(0x82, &[&[0, 1, len], props, b"\0\x01t\0"].concat())
    };
    check(vec![
        ("an unknown one", publish_with(&[0x04, 0]), BAD),
        ("identifier 0", publish_with(&[0x00, 0]), BAD),
        ("a long identifier", publish_with(&[0x81, 0x01, 0]), BAD),
        ("session expiry in PUBLISH", publish_with(b"\x11\0\0\0\x01"), BAD),
        ("will delay in PUBLISH", publish_with(b"\x18\0\0\0\x01"), BAD),
        ("reason string in PUBLISH", publish_with(b"\x1F\0\x01x"), BAD),
        ("subscription identifier in PUBLISH", publish_with(&[0x0B, 1]), EITHER),
        ("payload format 2", publish_with(&[0x01, 2]), EITHER),
        ("payload format twice", twice(&[0x01, 1]), ERROR),
        ("message expiry twice", twice(b"\x02\0\0\0\x09"), ERROR),
        ("content type twice", twice(b"\x03\0\x01x"), ERROR),
        ("response topic twice", twice(b"\x08\0\x01x"), ERROR),
        ("correlation data twice", twice(b"\x09\0\x01x"), ERROR),
        ("topic alias twice", twice(b"\x23\0\x01"), ERROR),
        ("subscription identifier 0", subscribe(&[0x0B, 0]), ERROR),
        ("subscription identifier twice", subscribe(&[0x0B, 1, 0x0B, 2]), ERROR),
        ("topic alias in SUBSCRIBE", subscribe(b"\x23\0\x01"), BAD),
        ("reason string in SUBSCRIBE", subscribe(b"\x1F\0\x01x"), BAD),
        (
            "reason string twice in PUBACK",
            packet(0x40, b"\0\x01\0\x08\x1F\0\x01x\x1F\0\x01x"),
            ERROR,
        ),
        ("receive maximum in PUBACK", packet(0x40, b"\0\x01\0\x03\x21\0\x01"), BAD),
        ("session expiry twice", packet(0xE0, b"\0\x0A\x11\0\0\0\0\x11\0\0\0\0"), ERROR),
        ("will delay in DISCONNECT", packet(0xE0, b"\0\x05\x18\0\0\0\0"), BAD),
        ("subscription identifier in UNSUBSCRIBE", packet(0xA2, b"\0\x01\x02\x0B\x01\0\x01t"), BAD),
    ]);
}

/// [MQTT-3.4.2-1] [MQTT-3.5.2-1] [MQTT-3.6.2-1] [MQTT-3.7.2-1]
#[test]
fn acknowledgements_with_codes_of_other_packets_close() {
    let mut rows = Vec::new();
    for (name, first, codes) in [
        ("PUBACK", 0x40, &[0x01, 0x04, 0x11, 0x82, 0x92, 0x95, 0xFF][..]),
        ("PUBREC", 0x50, &[0x02, 0x18, 0x81, 0x8E, 0x92, 0x93]),
        ("PUBREL", 0x62, &[0x01, 0x10, 0x80, 0x91, 0x97]),
        ("PUBCOMP", 0x70, &[0x10, 0x80, 0x87, 0x91]),
    ] {
        rows.extend(codes.iter().map(|code| (name, packet(first, &[0, 1, *code]), EITHER)));
    }
    check(rows);
}

/// Nothing of a packet that closes has happened. [MQTT-4.13.1-1]
#[test]
fn a_packet_that_closes_has_no_effect() {
    let rig = Rig::new();
    let reader = rig.subscriber(Version::V5, "reader", "#", 0);
    let client = rig.connect(&v5("c").lasting());
    let good = subscribe(1, "t").qos(1);
    let mut bytes = super::packets::Outgoing::encode(&good, Version::V5);
    bytes.extend([0, 1, b'u', 0x40]);
    bytes[1] += 4;
    client.send_raw(&bytes);
    client.closed_with();
    rig.client("p").send(&publish("t", "x").qos1(1));
    assert_eq!(reader.payloads(), ["x"]);
    rig.connect(&v5("c").lasting()).expect_alive();
}
