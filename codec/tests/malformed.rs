//! What is no packet, class by class, and what it is answered with.

use longshore_codec::Version::{V3_1, V3_1_1, V5};
use longshore_codec::{
    Carrier, Error, Field, Malformed, Offence, PacketType, ReasonCode, Version, decode, frame,
};

/// A class, the version of the connection, the first byte, what follows the fixed header, and the
/// error.
type Row = (&'static str, Version, u8, &'static [u8], Error);

const fn malformed(malformed: Malformed) -> Error {
    Error::Malformed(malformed)
}

const fn offence(offence: Offence) -> Error {
    Error::Protocol(offence)
}

const fn truncated(field: Field) -> Error {
    Error::Malformed(Malformed::Truncated(field))
}

/// What the fixed header alone does not tell.
const MALFORMED: &[Row] = &[
    // Packet types and flags: [MQTT-2.1.3-1], [MQTT-3.3.1-2], [MQTT-3.3.1-4].
    ("type 0", V5, 0x00, b"", malformed(Malformed::PacketType(0x00))),
    ("AUTH before 5.0", V3_1_1, 0xf0, b"", malformed(Malformed::PacketType(0xf0))),
    ("flags of CONNECT", V5, 0x11, b"", malformed(Malformed::FixedHeaderFlags(0x11))),
    ("flags of PUBREL", V5, 0x60, b"\0\x01", malformed(Malformed::FixedHeaderFlags(0x60))),
    ("DUP on PUBREL", V3_1_1, 0x6a, b"\0\x01", malformed(Malformed::FixedHeaderFlags(0x6a))),
    ("flags of DISCONNECT", V5, 0xe1, b"", malformed(Malformed::FixedHeaderFlags(0xe1))),
    ("QoS 3", V5, 0x36, b"\0\x01a\0\x01\0", malformed(Malformed::FixedHeaderFlags(0x36))),
    ("DUP at QoS 0", V5, 0x38, b"\0\x01a\0", offence(Offence::DupOnQoS0)),
    // Protocol name and level: [MQTT-3.1.2-1], [MQTT-3.1.2-2].
    ("other protocol", V5, 0x10, b"\0\x04HTTP\x05", malformed(Malformed::ProtocolName)),
    ("lower case", V5, 0x10, b"\0\x04mqtt\x05", malformed(Malformed::ProtocolName)),
    ("level 0", V5, 0x10, b"\0\x04MQTT\0", Error::UnsupportedVersion { level: 0 }),
    ("level 6", V5, 0x10, b"\0\x04MQTT\x06", Error::UnsupportedVersion { level: 6 }),
    ("a bridge's bit", V5, 0x10, b"\0\x04MQTT\x84", Error::UnsupportedVersion { level: 0x84 }),
    ("MQTT of level 3", V5, 0x10, b"\0\x04MQTT\x03", Error::UnsupportedVersion { level: 3 }),
    ("MQIsdp of level 4", V5, 0x10, b"\0\x06MQIsdp\x04", Error::UnsupportedVersion { level: 4 }),
    // CONNECT flags: [MQTT-3.1.2-3], [MQTT-3.1.2-11], [MQTT-3.1.2-12], [MQTT-3.1.2-13].
    ("reserved flag", V5, 0x10, b"\0\x04MQTT\x05\x03", malformed(Malformed::ConnectFlags(0x03))),
    ("will QoS 3", V5, 0x10, b"\0\x04MQTT\x05\x1c", malformed(Malformed::ConnectFlags(0x1c))),
    ("QoS, no will", V5, 0x10, b"\0\x04MQTT\x05\x08", malformed(Malformed::ConnectFlags(0x08))),
    ("retain, no will", V5, 0x10, b"\0\x04MQTT\x05\x20", malformed(Malformed::ConnectFlags(0x20))),
    (
        "lone password",
        V3_1_1,
        0x10,
        b"\0\x04MQTT\x04\x40",
        malformed(Malformed::ConnectFlags(0x40)),
    ),
    // Strings: [MQTT-1.5.4-1], [MQTT-1.5.4-2], [MQTT-3.1.3-4], [MQTT-3.1.3-11], [MQTT-3.1.3-12],
    // [MQTT-3.8.3-1], [MQTT-3.10.3-1].
    (
        "client identifier not UTF-8",
        V3_1_1,
        0x10,
        b"\0\x04MQTT\x04\x02\0\0\0\x01\xff",
        malformed(Malformed::Utf8(Field::ClientId)),
    ),
    (
        "surrogate in the user name",
        V3_1_1,
        0x10,
        b"\0\x04MQTT\x04\x82\0\0\0\0\0\x03\xed\xa0\x80",
        malformed(Malformed::Utf8(Field::UserName)),
    ),
    (
        "U+0000 in the client identifier",
        V5,
        0x10,
        b"\0\x04MQTT\x05\x02\0\0\0\0\x02a\0",
        malformed(Malformed::Nul(Field::ClientId)),
    ),
    (
        "will topic not UTF-8",
        V3_1_1,
        0x10,
        b"\0\x04MQTT\x04\x06\0\0\0\0\0\x01\x80\0\0",
        malformed(Malformed::Utf8(Field::WillTopic)),
    ),
    (
        "filter with U+0000",
        V5,
        0x82,
        b"\0\x01\0\0\x01\0\0",
        malformed(Malformed::Nul(Field::Filter)),
    ),
    (
        "filter not UTF-8",
        V5,
        0xa2,
        b"\0\x01\0\0\x01\xc0",
        malformed(Malformed::Utf8(Field::Filter)),
    ),
    // Topic names: [MQTT-3.3.2-2], [MQTT-4.7.0-1], [MQTT-4.7.3-1].
    ("empty topic", V3_1_1, 0x30, b"\0\0x", offence(Offence::EmptyTopic)),
    (
        "empty will topic",
        V5,
        0x10,
        b"\0\x04MQTT\x05\x06\0\0\0\0\0\0\0\0\0\0",
        offence(Offence::EmptyTopic),
    ),
    (
        "wildcard in the will topic",
        V3_1_1,
        0x10,
        b"\0\x04MQTT\x04\x06\0\0\0\0\0\x03a/#\0\0",
        offence(Offence::WildcardInTopic),
    ),
    // Packet identifiers: [MQTT-2.2.1-3], [MQTT-2.2.1-4].
    ("PUBLISH 0", V5, 0x32, b"\0\x01a\0\0\0", offence(Offence::PacketIdZero)),
    ("PUBACK 0", V5, 0x40, b"\0\0", offence(Offence::PacketIdZero)),
    ("PUBREC 0", V3_1_1, 0x50, b"\0\0", offence(Offence::PacketIdZero)),
    ("PUBREL 0", V3_1, 0x62, b"\0\0", offence(Offence::PacketIdZero)),
    ("PUBCOMP 0", V5, 0x70, b"\0\0", offence(Offence::PacketIdZero)),
    ("SUBSCRIBE 0", V5, 0x82, b"\0\0\0\0\x01a\0", offence(Offence::PacketIdZero)),
    ("SUBACK 0", V5, 0x90, b"\0\0\0\0", offence(Offence::PacketIdZero)),
    ("UNSUBSCRIBE 0", V5, 0xa2, b"\0\0\0\0\x01a", offence(Offence::PacketIdZero)),
    ("UNSUBACK 0", V5, 0xb0, b"\0\0\0\0", offence(Offence::PacketIdZero)),
    // Payloads that say nothing: [MQTT-3.8.3-2], [MQTT-3.10.3-2].
    ("SUBSCRIBE to nothing", V3_1_1, 0x82, b"\0\x01", offence(Offence::NoFilters)),
    ("SUBSCRIBE to nothing", V5, 0x82, b"\0\x01\0", offence(Offence::NoFilters)),
    ("UNSUBSCRIBE of nothing", V3_1, 0xa2, b"\0\x01", offence(Offence::NoFilters)),
    ("UNSUBSCRIBE of nothing", V5, 0xa2, b"\0\x01\0", offence(Offence::NoFilters)),
    ("SUBACK of nothing", V3_1_1, 0x90, b"\0\x01", offence(Offence::NoReasonCodes)),
    ("UNSUBACK of nothing", V5, 0xb0, b"\0\x01\0", offence(Offence::NoReasonCodes)),
    // Subscription options: [MQTT-3.8.3-5]; 3.1.1: [MQTT-3.8.3-4 v3.1.1].
    (
        "reserved option",
        V5,
        0x82,
        b"\0\x01\0\0\x01a\x40",
        malformed(Malformed::SubscribeOptions(0x40)),
    ),
    (
        "option of 5.0",
        V3_1_1,
        0x82,
        b"\0\x01\0\x01a\x04",
        malformed(Malformed::SubscribeOptions(0x04)),
    ),
    ("QoS 3 asked for", V5, 0x82, b"\0\x01\0\0\x01a\x03", offence(Offence::QoS(3))),
    ("QoS 3 asked for", V3_1_1, 0x82, b"\0\x01\0\x01a\x03", offence(Offence::QoS(3))),
    ("retain handling 3", V5, 0x82, b"\0\x01\0\0\x01a\x30", offence(Offence::RetainHandling(0x30))),
    // Acknowledgement flags and reason codes: [MQTT-3.2.2-1], [MQTT-3.2.2-6], [MQTT-3.2.2-8],
    // [MQTT-3.4.2-1], [MQTT-3.6.2-1], [MQTT-3.9.3-2], [MQTT-3.11.3-2], [MQTT-3.14.2-1],
    // [MQTT-3.15.2-1].
    ("CONNACK flag", V5, 0x20, b"\x02\0\0", malformed(Malformed::ConnackFlags(0x02))),
    ("session in 3.1", V3_1, 0x20, b"\x01\0", malformed(Malformed::ConnackFlags(0x01))),
    ("session, refused", V5, 0x20, b"\x01\x87\0", offence(Offence::SessionOnRefusal)),
    ("code 6", V3_1_1, 0x20, b"\0\x06", offence(Offence::ReasonCode(PacketType::Connack, 6))),
    ("code 0x8e", V5, 0x20, b"\0\x8e\0", offence(Offence::ReasonCode(PacketType::Connack, 0x8e))),
    ("code 0x92", V5, 0x40, b"\0\x01\x92", offence(Offence::ReasonCode(PacketType::Puback, 0x92))),
    ("code 0x10", V5, 0x62, b"\0\x01\x10", offence(Offence::ReasonCode(PacketType::Pubrel, 0x10))),
    ("code 3", V5, 0x90, b"\0\x01\0\x03", offence(Offence::ReasonCode(PacketType::Suback, 3))),
    (
        "code 0x87",
        V3_1_1,
        0x90,
        b"\0\x01\x87",
        offence(Offence::ReasonCode(PacketType::Suback, 0x87)),
    ),
    ("code 1", V5, 0xb0, b"\0\x01\0\x01", offence(Offence::ReasonCode(PacketType::Unsuback, 1))),
    ("code 0x84", V5, 0xe0, b"\x84", offence(Offence::ReasonCode(PacketType::Disconnect, 0x84))),
    ("code 0x80", V5, 0xf0, b"\x80", offence(Offence::ReasonCode(PacketType::Auth, 0x80))),
    // Properties: MQTT 5.0, 2.2.2.2, 3.1.2.11.10 and 3.15.2.2.2. Every pair of property and packet,
    // every repetition and every forbidden value is in the tests of the table itself.
    ("no such property", V5, 0xe0, b"\0\x01\x7f", malformed(Malformed::UnknownProperty(0x7f))),
    ("no such property", V5, 0xe0, b"\0\x02\x81\x01", malformed(Malformed::UnknownProperty(0x81))),
    (
        "topic alias in PUBACK",
        V5,
        0x40,
        b"\0\x01\0\x03\x23\0\x01",
        malformed(Malformed::MisplacedProperty(0x23, Carrier::Puback)),
    ),
    (
        "will delay in CONNECT",
        V5,
        0x10,
        b"\0\x04MQTT\x05\x02\0\0\x05\x18\0\0\0\x01\0\0",
        malformed(Malformed::MisplacedProperty(0x18, Carrier::Connect)),
    ),
    (
        "receive maximum in a will",
        V5,
        0x10,
        b"\0\x04MQTT\x05\x06\0\0\0\0\0\x03\x21\0\x01\0\x01t\0\0",
        malformed(Malformed::MisplacedProperty(0x21, Carrier::Will)),
    ),
    (
        "two session expiries",
        V5,
        0xe0,
        b"\0\x0a\x11\0\0\0\x01\x11\0\0\0\x01",
        offence(Offence::DuplicateProperty(0x11)),
    ),
    (
        "receive maximum 0",
        V5,
        0x10,
        b"\0\x04MQTT\x05\x02\0\0\x03\x21\0\0\0\0",
        offence(Offence::PropertyValue(0x21)),
    ),
    (
        "subscription identifier 0",
        V5,
        0x82,
        b"\0\x01\x02\x0b\0\0\x01a\0",
        offence(Offence::PropertyValue(0x0b)),
    ),
    (
        "authentication data alone",
        V5,
        0x10,
        b"\0\x04MQTT\x05\x02\0\0\x03\x16\0\0\0\0",
        offence(Offence::DataWithoutMethod),
    ),
    ("AUTH without a method", V5, 0xf0, b"\x18\0", offence(Offence::AuthWithoutMethod)),
    ("property past its block", V5, 0xe0, b"\0\x02\x1f\0\x01x", truncated(Field::Property(0x1f))),
    ("block past its packet", V5, 0xe0, b"\0\x05\x1f\0\x01x", truncated(Field::Properties)),
    // Bytes behind the end: [MQTT-3.1.2-16], [MQTT-3.1.2-18]. A PUBLISH has none: they are its
    // payload.
    (
        "CONNECT",
        V3_1_1,
        0x10,
        b"\0\x04MQTT\x04\x02\0\0\0\0x",
        malformed(Malformed::TrailingBytes(PacketType::Connect)),
    ),
    ("CONNACK", V3_1_1, 0x20, b"\0\0\0", malformed(Malformed::TrailingBytes(PacketType::Connack))),
    ("CONNACK", V5, 0x20, b"\0\0\0x", malformed(Malformed::TrailingBytes(PacketType::Connack))),
    ("PUBACK", V3_1_1, 0x40, b"\0\x01\0", malformed(Malformed::TrailingBytes(PacketType::Puback))),
    ("PUBREC", V5, 0x50, b"\0\x01\0\0x", malformed(Malformed::TrailingBytes(PacketType::Pubrec))),
    ("PUBREL", V3_1, 0x62, b"\0\x01x", malformed(Malformed::TrailingBytes(PacketType::Pubrel))),
    ("PUBCOMP", V5, 0x70, b"\0\x01\0\0x", malformed(Malformed::TrailingBytes(PacketType::Pubcomp))),
    (
        "UNSUBACK",
        V3_1_1,
        0xb0,
        b"\0\x01\0",
        malformed(Malformed::TrailingBytes(PacketType::Unsuback)),
    ),
    ("PINGREQ", V5, 0xc0, b"x", malformed(Malformed::TrailingBytes(PacketType::Pingreq))),
    ("PINGRESP", V3_1, 0xd0, b"x", malformed(Malformed::TrailingBytes(PacketType::Pingresp))),
    (
        "DISCONNECT",
        V3_1_1,
        0xe0,
        b"\0",
        malformed(Malformed::TrailingBytes(PacketType::Disconnect)),
    ),
    ("DISCONNECT", V5, 0xe0, b"\0\0x", malformed(Malformed::TrailingBytes(PacketType::Disconnect))),
    ("AUTH", V5, 0xf0, b"\0\x03\x15\0\0x", malformed(Malformed::TrailingBytes(PacketType::Auth))),
];

#[test]
fn what_breaks_a_rule_is_refused_for_that_rule() {
    for (class, version, first, body, want) in MALFORMED {
        let got = decode(*version, *first, body);
        assert_eq!(got, Err(*want), "{class}: {first:#04x} {} in {version}", body.escape_ascii());
    }
}

#[test]
fn a_refusal_can_be_told_to_the_peer() {
    for (class, _, _, _, error) in MALFORMED {
        let reason = error.reason();
        assert!(reason.is_error(), "{class}");
        // What is found before CONNACK is told there, the rest in DISCONNECT.
        let told = reason.belongs_in(PacketType::Disconnect)
            || reason == ReasonCode::UnsupportedProtocolVersion;
        assert!(told && reason.belongs_in(PacketType::Connack), "{class}: {reason}");
    }
}

/// A packet with every field its type has, and the lengths at which a part of it is whole too.
type Sample = (Version, u8, &'static [u8], &'static [usize]);

const SAMPLES: &[Sample] = &[
    (V3_1, 0x10, b"\0\x06MQIsdp\x03\xc6\0\x3c\0\x01c\0\x01t\0\x01p\0\x01u\0\x01w", &[21, 24]),
    (V3_1_1, 0x10, b"\0\x04MQTT\x04\xc6\0\x3c\0\x01c\0\x01t\0\x01p\0\x01u\0\x01w", &[]),
    (
        V5,
        0x10,
        b"\0\x04MQTT\x05\xc6\0\x3c\x07\x26\0\x01k\0\x01v\0\x01c\
          \x05\x18\0\0\0\x01\0\x01t\0\x01p\0\x01u\0\x01w",
        &[],
    ),
    (V3_1_1, 0x20, b"\x01\0", &[]),
    (V5, 0x20, b"\0\0\x03\x21\0\x01", &[]),
    (V3_1_1, 0x33, b"\0\x01a\0\x01", &[]),
    (V5, 0x34, b"\0\x01a\0\x01\x03\x23\0\x01", &[]),
    (V3_1_1, 0x40, b"\0\x01", &[]),
    (V5, 0x40, b"\0\x01\x80\x04\x1f\0\x01x", &[2, 3]),
    (V5, 0x50, b"\0\x01\x10\x04\x1f\0\x01x", &[2, 3]),
    (V5, 0x62, b"\0\x01\x92\x04\x1f\0\x01x", &[2, 3]),
    (V5, 0x70, b"\0\x01\x92\x04\x1f\0\x01x", &[2, 3]),
    (V3_1_1, 0x82, b"\0\x01\0\x01a\0\0\x01b\x01", &[6]),
    (V5, 0x82, b"\0\x01\x02\x0b\x01\0\x01a\0\0\x01b\x01", &[9]),
    (V3_1_1, 0x90, b"\0\x01\0\x01", &[3]),
    (V5, 0x90, b"\0\x01\x04\x1f\0\x01x\0\x01", &[8]),
    (V3_1_1, 0xa2, b"\0\x01\0\x01a\0\x01b", &[5]),
    (V5, 0xa2, b"\0\x01\x07\x26\0\x01k\0\x01v\0\x01a\0\x01b", &[13]),
    (V3_1_1, 0xb0, b"\0\x01", &[]),
    (V5, 0xb0, b"\0\x01\x04\x1f\0\x01x\0\x11", &[8]),
    (V5, 0xe0, b"\x04\x05\x11\0\0\0\x01", &[0, 1]),
    (V5, 0xf0, b"\x18\x04\x15\0\x01m", &[0]),
];

/// The one error of a packet that ends too early, whatever ends it.
fn ends_early(error: Error) -> bool {
    let at_a_border = [
        offence(Offence::NoFilters),
        offence(Offence::NoReasonCodes),
        offence(Offence::AuthWithoutMethod),
    ];
    matches!(error, Error::Malformed(Malformed::Truncated(_))) || at_a_border.contains(&error)
}

#[test]
fn a_packet_cut_short_at_any_byte_is_refused() {
    for (version, first, body, legal) in SAMPLES {
        for len in 0..=body.len() {
            let got = decode(*version, *first, &body[..len]);
            let words = format!("{first:#04x} in {version}, {len} bytes: {got:?}");
            if len == body.len() || legal.contains(&len) {
                assert!(got.is_ok(), "{words}");
            } else {
                assert!(got.is_err_and(ends_early), "{words}");
            }
        }
    }
}

#[test]
fn one_byte_too_many_is_refused() {
    for (version, first, body, _) in SAMPLES {
        // More bytes of a PUBLISH are payload, of a SUBACK or UNSUBACK they are codes.
        if matches!(first >> 4, 3 | 9) || (first >> 4, *version) == (11, V5) {
            continue;
        }
        let longer = [body, &b"\xfe"[..]].concat();
        assert!(decode(*version, *first, &longer).is_err(), "{first:#04x} in {version}");
    }
}

/// Where a variable byte integer stands behind the fixed header: what is before it, what is behind
/// it, and its field. Alone, a zero there makes a packet or an offence, but is read.
const VARINTS: &[(u8, &[u8], &[u8], Field)] = &[
    (0x10, b"\0\x04MQTT\x05\x02\0\0", b"\0\0", Field::Properties),
    (0x10, b"\0\x04MQTT\x05\x06\0\0\0\0\0", b"\0\x01t\0\0", Field::WillProperties),
    (0x20, b"\0\0", b"", Field::Properties),
    (0x30, b"\0\x01a", b"", Field::Properties),
    (0x34, b"\0\x01a\0\x01", b"payload", Field::Properties),
    (0x40, b"\0\x01\0", b"", Field::Properties),
    (0x50, b"\0\x01\0", b"", Field::Properties),
    (0x62, b"\0\x01\0", b"", Field::Properties),
    (0x70, b"\0\x01\0", b"", Field::Properties),
    (0x82, b"\0\x01", b"\0\x01a\0", Field::Properties),
    (0x90, b"\0\x01", b"\0", Field::Properties),
    (0xa2, b"\0\x01", b"\0\x01a", Field::Properties),
    (0xb0, b"\0\x01", b"\0", Field::Properties),
    (0xe0, b"\0", b"", Field::Properties),
    (0xf0, b"\0", b"", Field::Properties),
];

/// [MQTT-1.5.5-1], [MQTT-2.2.2-1]. The subscription identifier and the fixed header have tables of
/// their own beside the code.
#[test]
fn a_bad_varint_is_refused_wherever_it_stands() {
    for (first, before, behind, field) in VARINTS {
        let check = |varint: &[u8], behind: &[u8], want: Malformed| {
            let body = [before, varint, behind].concat();
            let got = decode(V5, *first, &body);
            assert_eq!(got, Err(want.into()), "{first:#04x} with {varint:02x?}");
        };
        let zero = decode(V5, *first, &[before, &b"\0"[..], behind].concat()).err();
        assert!(
            matches!(zero, None | Some(Error::Protocol(Offence::AuthWithoutMethod))),
            "{zero:?}"
        );
        for len in 2..=6 {
            let mut padded = vec![0x80; len];
            padded[len - 1] = 0;
            check(&padded, behind, Malformed::Varint(*field));
        }
        for len in 1..=6 {
            let endless = vec![0xff; len];
            let short = Malformed::Truncated(*field);
            check(&endless, b"", if len < 4 { short } else { Malformed::Varint(*field) });
        }
        check(b"\xff\xff\xff\x7f", behind, Malformed::Truncated(*field));
    }
}

/// Nothing is reserved for what is refused: the fixed header is enough to tell.
#[test]
fn the_fixed_header_is_refused_before_the_packet_comes() {
    let check = |input: &[u8], want: Error| assert_eq!(frame(input, 1_000), Err(want));
    check(b"\x00", malformed(Malformed::PacketType(0)));
    check(b"\x36", malformed(Malformed::FixedHeaderFlags(0x36)));
    check(b"\x81", malformed(Malformed::FixedHeaderFlags(0x81)));
    check(b"GET / HTTP/1.1", malformed(Malformed::FixedHeaderFlags(b'G')));
    check(b"\x16\x03\x01", malformed(Malformed::FixedHeaderFlags(0x16)));
    check(b"\x30\x80\x80\x80\x80", malformed(Malformed::RemainingLength));
    check(b"\x30\xff\xff\xff\x7f", Error::PacketTooLarge { size: 268_435_460, limit: 1_000 });
}
