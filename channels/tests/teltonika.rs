//! Teltonika devices: every public vector, and what is none (R12).

#[path = "bodies/device.rs"]
#[expect(dead_code, reason = "a protocol of bytes needs a part of it")]
mod device;

use device::{Heard, bytes, hear, hear_at_every_split, object};
use longshore_channels::protocol::{
    Answer, CloseCode, CommandError, Connection, Transport, teltonika::PROTOCOL,
};
use serde_json::{Value, json};

const LOGIN: &str = "000F333536333037303432343431303133";
const IDENT: &str = "356307042441013";

/// Name, frame, acknowledgement, and messages: those without a position have none at the moment.
type Row = (&'static str, &'static str, &'static str, &'static [&'static str]);

const FRAMES: &[Row] = &[
    (
        "codec 8, one record",
        "000000000000003608010000016B40D8EA30010000000000000000000000000000000105021503010101425E0F\
         01F10000601A014E0000000000000000010000C7CF",
        "00000001",
        &[r#"{"timestamp":1560161086, "din.1":true, "event.enum":1, "event.priority.enum":1,
             "external.powersource.voltage":24.079, "gsm.operator.code":"24602",
             "gsm.signal.level":60, "ibutton.code":"0000000000000000"}"#],
    ),
    (
        "codec 8, groups of one and two bytes",
        "000000000000002808010000016B40D9AD80010000000000000000000000000000000103021503010101425E10\
         0000010000F22A",
        "00000001",
        &[r#"{"timestamp":1560161136, "din.1":true, "event.enum":1, "event.priority.enum":1,
             "external.powersource.voltage":24.08, "gsm.signal.level":60}"#],
    ),
    (
        "codec 8, two records",
        "000000000000004308020000016B40D57B48010000000000000000000000000000000101010100000000000001\
         6B40D5C198010000000000000000000000000000000101010101000000020000252C",
        "00000002",
        &[
            r#"{"timestamp":1560160861, "din.1":false, "event.enum":1, "event.priority.enum":1}"#,
            r#"{"timestamp":1560160879, "din.1":true, "event.enum":1, "event.priority.enum":1}"#,
        ],
    ),
    (
        "codec 8, thirty elements",
        "000000000000008c08010000013feb55ff74000f0ea850209a690000940000120000001e090100020003000400\
         16014703f0001504c8000c0900730a00460b00501300464306d7440000b5000bb60007422e9f180000cd0386ce\
         000107c700000000f10000601a46000001344800000bb84900000bb84a00000bb84c00000000024e0000000000\
         000000cf00000000000000000100003fca",
        "00000001",
        &[r#"{"timestamp":1374042849.14, "ain.1":0.115, "ain.2":0.07,
             "battery.voltage":1.751, "custom.param.11":80, "custom.param.19":70,
             "custom.param.199":0, "custom.param.200":0, "custom.param.207":0,
             "custom.param.22":1, "custom.param.24":0, "custom.param.68":0,
             "custom.param.70":308, "custom.param.71":3, "custom.param.72":3000,
             "custom.param.73":3000, "custom.param.74":3000, "custom.param.76":0,
             "din.1":false, "din.2":false, "din.3":false, "din.4":false, "event.enum":0,
             "event.priority.enum":0, "external.powersource.voltage":11.935,
             "gsm.cellid":902, "gsm.lac":1, "gsm.operator.code":"24602",
             "gsm.signal.level":80, "ibutton.code":"0000000000000000",
             "movement.status":false, "position.altitude":148, "position.direction":0,
             "position.hdop":0.7, "position.latitude":54.6990336,
             "position.longitude":25.2618832, "position.pdop":1.1, "position.satellites":18,
             "position.speed":0, "position.valid":true}"#],
    ),
    (
        "codec 8 extended",
        "000000000000004A8E010000016B412CEE00010000000000000000000000000000000001000500010001010001\
         0011001D00010010015E2C880002000B000000003544C87A000E000000001DD7E06A00000100002994",
        "00000001",
        &[r#"{"timestamp":1560166592, "custom.param.11":893700218,
             "custom.param.14":500686954, "custom.param.17":29, "din.1":true,
             "event.enum":1, "event.priority.enum":1, "vehicle.mileage":22949}"#],
    ),
    (
        "codec 8 extended, an element of 17 bytes",
        "000000000000005F8E010000015FBA40B620000F0DCDE420959D30008A000006000000000006000100EF000001\
         0011001E000100100000CBDF0002000B000000003544C875000E0000000029BFE4D10001010000110000000000\
         000000000000000000000000010000D153",
        "00000001",
        &[r#"{"timestamp":1510658324, "custom.param.11":893700213,
             "custom.param.14":700441809, "custom.param.17":30,
             "custom.param.256":"0000000000000000000000000000000000",
             "engine.ignition.status":false, "event.enum":0, "event.priority.enum":0,
             "position.altitude":138, "position.direction":0,
             "position.latitude":54.6676016, "position.longitude":25.2562916,
             "position.satellites":6, "position.speed":0, "position.valid":true,
             "vehicle.mileage":52.191}"#],
    ),
    (
        "codec 16",
        "000000000000005F10020000016BDBC7833000000000000000000000000000000000000B050402000100000300\
         02000B00270042563A00000000016BDBC7871800000000000000000000000000000000000B0504020001000003\
         0002000B00260042563A00000200005FB3",
        "00000002",
        &[
            r#"{"timestamp":1562760414, "custom.generation.type.enum":5, "custom.param.11":39,
             "din.1":false, "din.3":false, "event.enum":11, "event.priority.enum":0,
             "external.powersource.voltage":22.074}"#,
            r#"{"timestamp":1562760415, "custom.generation.type.enum":5, "custom.param.11":38,
             "din.1":false, "din.3":false, "event.enum":11, "event.priority.enum":0,
             "external.powersource.voltage":22.074}"#,
        ],
    ),
];

fn open() -> Connection {
    device::open(&PROTOCOL, &json!({}))(Transport::Stream)
}

fn check_messages(name: &str, heard: &Heard, want: &[&str]) {
    let found: Vec<_> = heard.messages().map(object).collect();
    let want = want.iter().map(|text| {
        let mut want: Value = serde_json::from_str(text).expect("a row is JSON");
        want["ident"] = json!(IDENT);
        if want.get("position.valid").is_none() {
            want["position.valid"] = json!(false);
            for name in ["altitude", "direction", "latitude", "longitude", "satellites", "speed"] {
                want[format!("position.{name}")] = json!(0);
            }
        }
        want
    });
    assert_eq!(found, want.collect::<Vec<_>>(), "{name}");
}

/// R12.1.
#[test]
fn a_device_is_known_by_its_imei_and_accepted_with_a_one() {
    let heard = hear_at_every_split(&open, &bytes(LOGIN));
    assert_eq!(heard.error, None);
    assert_eq!(heard.steps.len(), 1);
    let step = &heard.steps[0];
    assert_eq!(step.ident.as_ref().unwrap().as_str(), IDENT);
    assert_eq!((&step.reply, &step.refusal), (&vec![1], &vec![0]));
}

/// R12.2 to R12.5, R12.8, R12.9.
#[test]
fn records_become_messages_and_are_acknowledged_by_their_number() {
    for (name, frame, acknowledgement, want) in FRAMES {
        let heard = hear_at_every_split(&open, &bytes(&[LOGIN, frame].concat()));
        assert_eq!(heard.error, None, "{name}");
        assert_eq!(heard.replies(), [&[1], &bytes(acknowledgement)[..]].concat(), "{name}");
        check_messages(name, &heard, want);
    }
}

/// Two frames and the answer to a command, all in one read.
#[test]
fn frames_may_come_together() {
    let frames: String = FRAMES.iter().map(|(_, frame, ..)| *frame).collect();
    let stream = [LOGIN, &frames, "FF", FRAMES[0].1].concat();
    let heard = hear_at_every_split(&open, &bytes(&stream));
    assert_eq!(heard.error, None);
    assert_eq!(heard.steps.len(), 1 + FRAMES.len() + 1);
    let messages: usize = FRAMES.iter().map(|(.., messages)| messages.len()).sum();
    assert_eq!(heard.messages().count(), messages + 1);
}

/// R12.5: what is not acknowledged is sent again.
#[test]
fn a_frame_that_is_torn_gets_no_answer_and_the_next_one_does() {
    let good = FRAMES[1].1;
    let wrong_sum = good.replace("F22A", "F22B");
    let not_zero = good.replace("0000F22A", "0001F22A");
    // The same frame with another second count, and with one element more than it has.
    let counts = "000000000000002808010000016B40D9AD8001000000000000000000000000000000010302150301\
                  0101425E10000002";
    let short = "000000000000002808010000016B40D9AD800100000000000000000000000000000001030315030101\
                 01425E10000001";
    for (name, frame, want) in [
        ("wrong checksum", wrong_sum, "the checksum of a frame is wrong"),
        ("upper half of the checksum", not_zero, "the checksum of a frame is wrong"),
        ("second count", with_sum(counts), "the frame says that it has 1 records, and then 2"),
        ("one element more", with_sum(short), "the packet ends inside the value of an element"),
    ] {
        let heard = hear_at_every_split(&open, &bytes(&[LOGIN, &frame, good].concat()));
        assert_eq!(heard.error, None, "{name}");
        assert_eq!(heard.steps.len(), 3, "{name}");
        let fault = heard.steps[1].fault.as_ref().unwrap();
        assert_eq!((fault.code(), &*fault.to_string()), (CloseCode::Parse, want), "{name}");
        assert_eq!(heard.replies(), bytes("0100000001"), "{name}");
    }
}

/// A frame without its checksum, with the right one.
fn with_sum(frame: &str) -> String {
    let sum = longshore_channels::protocol::crc16(&bytes(frame)[8..]);
    format!("{frame}{sum:08X}")
}

#[test]
fn what_no_device_sends_ends_the_connection() {
    use CloseCode::{Misaligned, ProtocolViolation, Unsupported};
    for (name, stream, code, farewell) in [
        ("HTTP", "474554202F20485454502F312E310D0A", Misaligned, ""),
        ("frame before the IMEI", FRAMES[0].1, Misaligned, ""),
        ("IMEI of no digits", "0000", Misaligned, ""),
        ("IMEI with a slash", "00032F3132", ProtocolViolation, "00"),
        ("no preamble", &[LOGIN, "0000000100000028"].concat(), Misaligned, "01"),
        ("a frame of 4 GB", &[LOGIN, "00000000FFFFFFFF"].concat(), ProtocolViolation, "01"),
        ("a frame of nothing", &[LOGIN, "0000000000000000"].concat(), ProtocolViolation, "01"),
        ("codec 1", &[LOGIN, &with_sum("0000000000000003010101")].concat(), Unsupported, "01"),
    ] {
        let heard = hear_at_every_split(&open, &bytes(stream));
        let error = heard.error.as_ref().unwrap_or_else(|| panic!("{name}: {heard:?}"));
        assert_eq!(error.code(), code, "{name}: {error}");
        let sent = [&heard.replies(), error.farewell()].concat();
        assert_eq!(sent, bytes(farewell), "{name}");
    }
}

/// R12.6. The first two are of the maker's wiki.
#[test]
fn a_datagram_is_answered_with_its_number() {
    for (name, datagram, reply) in [
        (
            "codec 8",
            "003DCAFE0105000F33353230393330383634303336353508010000016B4F815B3001000000000000000000\
             0000000000000103021503010101425DBC000001",
            "0005CAFE010501",
        ),
        (
            "codec 8 extended",
            "005FCAFE0107000F3335323039333038363430333635358E010000016B4F831C6801000000000000000000\
             00000000000000010005000100010100010011009D00010010015E2C880002000B000000003544C87A000E\
             000000001DD7E06A000001",
            "0005CAFE010701",
        ),
    ] {
        let open = device::decoders(&PROTOCOL, &json!({}));
        let step = open(Transport::Datagram).packet(&bytes(datagram)).unwrap();
        assert_eq!(step.ident.unwrap().as_str(), "352093086403655", "{name}");
        assert_eq!((step.messages.len(), step.reply), (1, bytes(reply)), "{name}");
        for end in 0..datagram.len() / 2 {
            let cut = &bytes(datagram)[..end];
            assert!(open(Transport::Datagram).packet(cut).is_err(), "{name} cut at {end}");
        }
    }
}

/// R12.7. The request and both answers are of the maker's wiki.
#[test]
fn a_command_is_sent_in_codec_12_and_answered_so() {
    let mut connection = open();
    let command = |properties| PROTOCOL.command("custom", &properties).unwrap();
    let getinfo = command(json!({"text": "getinfo"}));
    assert_eq!(connection.decoder().command(&getinfo), Err(CommandError::NotIdentified));
    hear(&mut connection, [&bytes(LOGIN)[..]]);
    let order = connection.decoder().command(&getinfo).unwrap();
    assert_eq!(order.bytes, bytes("000000000000000F0C010500000007676574696E666F0100004312"));
    assert!(order.is_answered);
    let digits = command(json!({"hex": "676574696F"}));
    let order = connection.decoder().command(&digits).unwrap();
    assert_eq!(order.bytes, bytes("000000000000000D0C010500000005676574696F01000000CB"));

    let answer = "00000000000000370C01060000002F4449313A31204449323A30204449333A302041494E313A3020\
                  41494E323A313639323420444F313A3020444F323A3101000066E3";
    let heard = hear_at_every_split(&open, &bytes(&[LOGIN, answer].concat()));
    let text = "DI1:1 DI2:0 DI3:0 AIN1:0 AIN2:16924 DO1:0 DO2:1".to_owned();
    assert_eq!(heard.steps[1].answers, [Answer { command: "custom", is_executed: true, text }]);
    assert!(heard.steps[1].reply.is_empty());

    for properties in [json!({"hex": "0"}), json!({}), json!({"text": "a", "hex": "00"})] {
        let refused = connection.decoder().command(&command(properties));
        assert!(matches!(refused, Err(CommandError::Properties(_))), "{refused:?}");
    }
    let datagram = device::decoders(&PROTOCOL, &json!({}))(Transport::Datagram);
    assert_eq!(datagram.command(&getinfo), Err(CommandError::Datagrams));
}

/// R1.12.
#[test]
fn a_record_has_a_thousand_elements_at_most() {
    // A time, and zeros up to the groups of elements of no fixed length.
    let head = format!("8E010000016B412CEE00{}", "00".repeat(28));
    let elements: String = (0..2_000_u16).map(|id| format!("{:04X}0000", id + 300)).collect();
    let data = format!("{head}07D0{elements}01");
    let frame = with_sum(&format!("00000000{:08X}{data}", data.len() / 2));
    let heard = hear(&mut open(), [&bytes(&[LOGIN, &frame].concat())[..]]);
    let fault = heard.steps[1].fault.as_ref().unwrap().to_string();
    assert_eq!(fault, "the message has more than 1000 parameters");
}
