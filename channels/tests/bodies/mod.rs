//! What must hold for any input. Property tests and fuzz targets run the same bodies.

#[expect(dead_code, reason = "tests of single protocols use the rest of it")]
mod device;

use device::{Heard, decoders, hear, open, post, requests};
use longshore_channels::parameter::PARAMETERS;
use longshore_channels::protocol::wialon_retranslator::{Packet, encode_message};
use longshore_channels::protocol::{
    Connection, Error, Intake, PROTOCOLS, Protocol, Step, Transport, crc16, http, mqtt, osmand,
    teltonika, wialon_ips, wialon_retranslator,
};
use longshore_channels::{Ident, Message, Parameters, Reception, Timestamp};
use serde_json::{Value, json};

/// No bytes make a decoder of Teltonika panic, wherever they are cut: by themselves, behind a
/// login, in a frame that is right but for its records, and in such a datagram.
pub(crate) fn teltonika(data: &[u8]) {
    const LOGIN: &[u8] = b"\x00\x0f356307042441013";
    let mut frame = vec![0; 4];
    frame.extend((data.len() as u32).to_be_bytes());
    frame.extend(data);
    frame.extend(u32::from(crc16(data)).to_be_bytes());
    for stream in [data.to_vec(), [LOGIN, data].concat(), [LOGIN, &frame, &frame].concat()] {
        hears_the_same_at_any_split(&teltonika::PROTOCOL, &stream);
    }
    let mut datagram = ((data.len() + 8) as u16).to_be_bytes().to_vec();
    datagram.extend(b"\xca\xfe\x01\x05\x00\x02ab");
    datagram.extend(data);
    takes_a_datagram(&teltonika::PROTOCOL, data);
    takes_a_datagram(&teltonika::PROTOCOL, &datagram);
}

/// No bytes make a decoder of Wialon IPS panic, wherever they are cut: by themselves, behind a
/// login, with the right checksum, and compressed. The first byte chooses the packet.
pub(crate) fn wialon_ips(data: &[u8]) {
    const LOGIN: &[u8] = b"#L#imei;NA\r\n";
    const LOGIN_2: &[u8] = b"#L#2.0;imei;NA;A932\r\n";
    let protocol = &wialon_ips::PROTOCOL;
    hears_the_same_at_any_split(protocol, data);
    hears_the_same_at_any_split(protocol, &[LOGIN, data].concat());
    let Some((choice, body)) = data.split_first() else { return };
    let kinds = [("D", ';'), ("SD", ';'), ("B", '|'), ("M", ';'), ("L", ';'), ("I", ';')];
    let (kind, separator) = kinds[usize::from(*choice) % kinds.len()];
    let mut summed = body.to_vec();
    summed.push(separator as u8);
    let sum = format!("{:X}\r\n", crc16(&summed));
    let packet = [b"#", kind.as_bytes(), b"#", &summed, sum.as_bytes()].concat();
    let packed = miniz_oxide::deflate::compress_to_vec_zlib(&packet, 1);
    let mut container = vec![0xff];
    container.extend((packed.len() as u16).to_le_bytes());
    container.extend(packed);
    hears_the_same_at_any_split(protocol, &[LOGIN_2, &packet, &container, b"#P#\r\n"].concat());
    takes_a_datagram(protocol, data);
    takes_a_datagram(protocol, &[b"2.0;imei", &packet[..]].concat());
    takes_a_datagram(protocol, &container);
}

/// No bytes make a decoder of retranslated packets panic, wherever they are cut: by themselves, and
/// as the body of a packet. One that is read is the same after encoding.
pub(crate) fn wialon_retranslator(data: &[u8]) {
    let protocol = &wialon_retranslator::PROTOCOL;
    hears_the_same_at_any_split(protocol, data);
    let mut packet = (data.len() as u32).to_le_bytes().to_vec();
    packet.extend(data);
    hears_the_same_at_any_split(protocol, &[&packet[..], &packet].concat());
    takes_a_datagram(protocol, data);
    if let Ok(packet) = Packet::decode(data) {
        encodes_to_itself(&packet);
    }
}

/// No body makes a decoder of JSON panic. A channel that skips what is no message finds the same
/// messages as one that does not, where that one finds any.
pub(crate) fn json_objects(data: &[u8]) {
    let strict = requests(&http::PROTOCOL, &json!({})).request(&post("", data));
    let names = json!({"a": "position.speed", "b": "timestamp"});
    let configuration = json!({"skip_invalid": true});
    let skipping = requests(&http::PROTOCOL, &configuration).request(&post("", data));
    let renaming = json!({"path": "a.b", "ident": "id", "parameters": names});
    check_result(&strict);
    check_result(&skipping);
    check_result(&requests(&http::PROTOCOL, &renaming).request(&post("", data)));
    if strict.is_ok() {
        assert_eq!(skipping, strict);
    }
    let configuration = json!({"token": "key", "topics": ["#"], "ident_level": 1});
    match mqtt::PROTOCOL.configure(&configuration) {
        Ok(Intake::Publications(publications)) => {
            check_result(&publications.publication("fleet/352", data));
            let topic = String::from_utf8_lossy(data);
            check_result(&publications.publication(&topic, b"[{}]"));
        }
        other => panic!("{other:?}"),
    }
}

/// No query and no body make a decoder of OsmAnd panic. The body begins behind the first 0xff.
pub(crate) fn osmand(data: &[u8]) {
    let mut halves = data.splitn(2, |byte| *byte == 0xff);
    let (query, body) = (halves.next().unwrap_or_default(), halves.next().unwrap_or_default());
    let decoder = requests(&osmand::PROTOCOL, &json!({}));
    check_result(&decoder.request(&post(&String::from_utf8_lossy(query), body)));
    check_result(&decoder.request(&post("id=a", body)));
    let json = [b"{\"device_id\":\"a\",", body].concat();
    check_result(&decoder.request(&post("", &json)));
}

/// No configuration and no properties of a command make a protocol panic.
pub(crate) fn configurations(data: &[u8]) {
    let Ok(given) = serde_json::from_slice::<Value>(data) else { return };
    for protocol in PROTOCOLS {
        if let Err(error) = protocol.configure(&given) {
            assert!(!error.to_string().is_empty());
        }
        for kind in protocol.commands {
            if let Err(error) = protocol.command(kind.name, &given) {
                assert!(!error.to_string().is_empty());
            }
        }
    }
}

fn hears_the_same_at_any_split(protocol: &Protocol, stream: &[u8]) {
    let open = open(protocol, &json!({}));
    let open = || -> Connection { open(Transport::Stream) };
    let whole = hear(&mut open(), [stream]);
    // The sizes of pieces are of the stream itself, so a fuzzer finds those that matter.
    let size = 1 + usize::from(stream.last().copied().unwrap_or(0) % 40);
    for size in [1, size] {
        assert_eq!(hear(&mut open(), stream.chunks(size)), whole, "in pieces of {size}");
    }
    check_heard(&whole);
}

fn takes_a_datagram(protocol: &Protocol, datagram: &[u8]) {
    let mut decoder = decoders(protocol, &json!({}))(Transport::Datagram);
    check_result(&decoder.packet(datagram));
}

fn check_heard(heard: &Heard) {
    heard.steps.iter().for_each(check_step);
    heard.error.iter().for_each(check_error);
}

fn check_result(result: &Result<Step, Error>) {
    match result {
        Ok(step) => check_step(step),
        Err(error) => check_error(error),
    }
}

fn check_error(error: &Error) {
    assert!(!error.to_string().is_empty() && error.code().value() > 0);
}

fn check_step(step: &Step) {
    step.fault.iter().for_each(check_error);
    assert!(step.reply.len() < 64 && step.refusal.len() < 64);
    step.messages.iter().for_each(check_message);
}

/// What the hub relies on in every message.
fn check_message(message: &Message) {
    assert_eq!(Ident::new(message.ident.as_str()).as_ref(), Ok(&message.ident));
    assert!(message.parameters.len() <= Parameters::COUNT_MAX + PARAMETERS.len());
    for (name, value) in message.parameters.iter() {
        assert!((1..=Parameters::NAME_BYTES_MAX).contains(&name.len()), "{name:?}");
        assert!(!name.contains(|c: char| matches!(c, '#' | '+' | '/') || c.is_control()), "{name}");
        assert!(!value.is_null(), "{name}");
    }
    let Some(at) = Timestamp::from_seconds(1.7e9) else { unreachable!("it is a time") };
    let reception = Reception { at, channel_id: 1, protocol_id: 1, peer: "1.2.3.4:5" };
    let complete = message.clone().complete(&reception);
    let names: Vec<_> = complete.iter().map(|(name, _)| name).collect();
    assert!(names.is_sorted());
    let text = serde_json::to_string(&complete).expect("parameters are JSON");
    let back: Value = serde_json::from_str(&text).expect("what was written can be read");
    assert_eq!(back.as_object().map(serde_json::Map::len), Some(complete.len()));
    let mut packet = vec![];
    encode_message(message.ident.as_str(), &complete, &mut packet);
    encodes_to_itself(&Packet::decode(&packet[4..]).expect("what was encoded can be decoded"));
}

/// Bytes are compared, for not every number is equal to itself.
fn encodes_to_itself(packet: &Packet<'_>) {
    let (mut once, mut twice) = (vec![], vec![]);
    packet.encode(&mut once);
    let again = Packet::decode(&once[4..]).expect("what was encoded can be decoded");
    again.encode(&mut twice);
    assert_eq!(once, twice);
}
