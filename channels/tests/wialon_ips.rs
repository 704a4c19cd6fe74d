//! Wialon IPS devices: every public vector, and what is none (R11).

#[path = "bodies/device.rs"]
#[expect(dead_code, reason = "a protocol of bytes needs a part of it")]
mod device;

use device::{Heard, bytes, hear, hear_at_every_split, object};
use longshore_channels::protocol::{
    Answer, CloseCode, CommandError, Connection, Transport, crc16, wialon_ips::PROTOCOL,
};
use serde_json::{Value, json};

const LOGIN: &str = "#L#imei;NA\r\n";
const LOGIN_2: &str = "#L#2.0;imei;NA;A932\r\n";

fn open() -> Connection {
    device::open(&PROTOCOL, &json!({}))(Transport::Stream)
}

fn hear_text(text: &str) -> Heard {
    let heard = hear_at_every_split(&open, text.as_bytes());
    assert_eq!(heard.error, None, "{text}");
    heard
}

fn replies(heard: &Heard) -> String {
    String::from_utf8(heard.replies()).expect("replies are text")
}

/// The one message of a connection.
fn message(heard: &Heard) -> Value {
    let mut messages = heard.messages();
    let message = messages.next().unwrap_or_else(|| panic!("no message in {heard:?}"));
    assert_eq!(messages.next(), None);
    object(message)
}

/// A body with its checksum.
fn summed(text: &str, separator: char) -> String {
    let text = format!("{text}{separator}");
    format!("{text}{:X}", crc16(text.as_bytes()))
}

/// R11.2, R11.9. The checksums of devices have no zeros at their front.
#[test]
fn a_login_says_version_and_ident() {
    for (login, ident) in [
        (bytes("234c233836323436323033313430303536363b4e410d0a"), "862462031400566"),
        (bytes("234c23322e303b3233363031303137333b4e413b3841370d0a"), "236010173"),
        (LOGIN_2.as_bytes().to_vec(), "imei"),
        (b"#L#2.0;imei;NA;a932\n".to_vec(), "imei"),
    ] {
        let heard = hear_at_every_split(&open, &login);
        assert_eq!(heard.error, None);
        let step = &heard.steps[0];
        assert_eq!(step.ident.as_ref().unwrap().as_str(), ident);
        assert_eq!((&step.reply[..], &step.refusal[..]), (&b"#AL#1\r\n"[..], &b"#AL#0\r\n"[..]));
    }
}

/// R11.2. CE45 is what a well-known test has for a checksum; DBEB would be right.
#[test]
fn a_login_is_refused_for_its_checksum_or_its_password() {
    let guarded = || device::open(&PROTOCOL, &json!({"password": "1234"}))(Transport::Stream);
    for (open, login, reply) in [
        (&open as &dyn Fn() -> Connection, "#L#2.0;42001300083;;CE45", "#AL#10"),
        (&open, "#L#2.0;imei;NA;A933", "#AL#10"),
        (&open, "#L#2.0;imei;NA", "#AL#10"),
        (&open, "#L#2.0;imei;NA;", "#AL#10"),
        (&open, "#L#imei;NA;x", "#AL#0"),
        (&guarded, "#L#imei;NA", "#AL#01"),
        (&guarded, "#L#imei", "#AL#01"),
        (&guarded, "#L#imei;1234", "#AL#1"),
    ] {
        let heard = hear_at_every_split(open, format!("{login}\r\n").as_bytes());
        assert_eq!(heard.error, None);
        assert_eq!(replies(&heard), format!("{reply}\r\n"), "{login}");
        assert_eq!(heard.steps[0].ident.is_some(), reply == "#AL#1", "{login}");
        assert_eq!(heard.steps[0].fault.is_none(), reply == "#AL#1", "{login}");
    }
}

/// R11.3, R11.8, R11.12.
#[test]
fn a_short_packet_is_a_time_a_place_and_a_motion() {
    for (packet, want) in [
        (
            String::from_utf8(bytes(
                "235344233234303132333b3133313232323b303030302e30303030303b533b30303030302e303030\
                 30303b573b303b303b303b300d0a",
            ))
            .unwrap(),
            json!({"ident": "imei", "timestamp": 1_674_565_942, "position.latitude": 0,
                "position.longitude": 0, "position.speed": 0, "position.direction": 0,
                "position.altitude": 0, "position.satellites": 0}),
        ),
        (
            "#SD#270413;205601;5544.6025;N;03739.6834;E;1;2;3;4\r\n".to_owned(),
            json!({"ident": "imei", "timestamp": 1_367_096_161, "position.latitude": 55.743375,
                "position.longitude": 37.66139, "position.speed": 1, "position.direction": 2,
                "position.altitude": 3, "position.satellites": 4}),
        ),
        (
            "#SD#270413;205601.25;5544,6025;S;03739.6834;W;79,8;NA;;NA\r\n".to_owned(),
            json!({"ident": "imei", "timestamp": 1_367_096_161.25, "position.latitude": -55.743375,
                "position.longitude": -37.66139, "position.speed": 79.8}),
        ),
        (
            "#SD#NA;NA;NA;NA;NA;NA;NA;NA;NA;NA\r\n".to_owned(),
            json!({"ident": "imei", "timestamp": null}),
        ),
    ] {
        let heard = hear_text(&format!("{LOGIN}{packet}"));
        assert_eq!(message(&heard), want);
        assert_eq!(replies(&heard), "#AL#1\r\n#ASD#1\r\n");
    }
}

/// R11.4, R11.5, R11.12.
#[test]
fn a_full_packet_has_inputs_and_parameters_too() {
    let heard = hear_text(&format!(
        "{LOGIN}#D#270413;205601;5544.6025;N;03739.6834;E;1;2;3;4;0.0;0;0;14.77,0.02,3.6;NA;\
         count1:1:564,fuel:2:45.8,hw:3:V4.5\r\n"
    ));
    let want = json!({"ident": "imei", "timestamp": 1_367_096_161,
        "position.latitude": 55.743375, "position.longitude": 37.66139, "position.speed": 1,
        "position.direction": 2, "position.altitude": 3, "position.satellites": 4,
        "position.hdop": 0, "din": 0, "dout": 0, "ain.1": 14.77, "ain.2": 0.02, "ain.3": 3.6,
        "custom.count1": 564, "custom.fuel": 45.8, "custom.hw": "V4.5"});
    assert_eq!(message(&heard), want);
    assert_eq!(replies(&heard), "#AL#1\r\n#AD#1\r\n");

    let heard = hear_text(&format!(
        "{LOGIN}#D#NA;NA;NA;NA;NA;NA;NA;NA;NA;NA;NA;3;4294967295;,NA,1;0123ABCD;\
         SOS:1:1,text:3:on; my:way,mcc:1:257,cell_id2:1:99,battery.level:1:80,\
         movement.status:1:1,big:1:99999999999999999999\r\n"
    ));
    let want = json!({"ident": "imei", "timestamp": null, "din": 3, "dout": 4_294_967_295_u32,
        "ain.3": 1, "ibutton.code": "0123ABCD", "alarm.event": true,
        "driver.message": "on; my:way", "gsm.mcc": 257, "gsm.cellid.2": 99, "battery.level": 80,
        "movement.status": true, "custom.big": 1e20});
    assert_eq!(message(&heard), want);
}

/// R11.4, R11.9.
#[test]
fn a_packet_of_version_2_ends_in_a_checksum() {
    let packet = "#D#101118;061143;0756.0930;N;12338.6403;E;18.223;99.766;-4.000;10;0.800;NA;NA;NA;\
                  NA;101_521347:1:521249,101_521126:1:6593598,101_521127:1:774780,\
                  101_521072_21.1:1:0,101_521072_21.2:1:71353;F24A\r\n";
    let heard = hear_text(&format!("{LOGIN_2}{packet}"));
    let found = message(&heard);
    let degrees = |name: &str| found[name].as_f64().unwrap();
    assert!((degrees("position.latitude") - 7.934_883_333).abs() < 1e-8);
    assert!((degrees("position.longitude") - 123.644_005).abs() < 1e-8);
    for (name, want) in [
        ("timestamp", json!(1_541_830_303)),
        ("position.speed", json!(18.223)),
        ("position.altitude", json!(-4)),
        ("position.hdop", json!(0.8)),
        ("custom.101_521347", json!(521_249)),
        ("custom.101_521072_21.2", json!(71_353)),
    ] {
        assert_eq!(found[name], want, "{name}");
    }
    assert_eq!(replies(&heard), "#AL#1\r\n#AD#1\r\n");
    for wrong in ["F24B", "24A", "", "XYZ"] {
        let packet = packet.replace("F24A", wrong);
        let heard = hear(&mut open(), [format!("{LOGIN_2}{packet}").as_bytes()]);
        assert_eq!(replies(&heard), "#AL#1\r\n#AD#16\r\n", "{wrong}");
        assert_eq!(heard.messages().count(), 0);
    }
}

/// R11.11.
#[test]
fn a_packet_may_come_compressed() {
    let login = bytes("FF1B00780153F65136D233B0CECC4DCDB4F673B476B4343602002FF404E6");
    let packet = bytes(
        "FF76007801258CCB0AC24010043F26D77599DE9931ECF4C9D7351EF2050145024625F8FF9818EA540DD5CDB9\
         290A41215CAB57BABA65AB652FEC28A55564B35A8517CA828AB02532FE86242BEC0E1C1FAF4020DD3EC33C4C\
         5142330CBE1C79FA6E9BC6F33DDFA7346E8AD8B9A7FEDAAF1DED78D21FEF7522F7",
    );
    let plain = summed("270413;205601;5544.6025;N;03739.6834;E;1;2;3;4", ';');
    let plain = format!("#SD#{plain}\r\n");
    let heard = hear_at_every_split(&open, &[&login, &packet, plain.as_bytes()].concat());
    assert_eq!(heard.error, None);
    assert_eq!(replies(&heard), "#AL#1\r\n#AD#1\r\n#ASD#1\r\n");
    let found = object(heard.messages().next().unwrap());
    let degrees = |name: &str| found[name].as_f64().unwrap();
    assert!((degrees("position.latitude") - 53.90821).abs() < 1e-8);
    assert!((degrees("position.longitude") - 27.524165).abs() < 1e-8);
    for (name, want) in [
        ("ident", json!("imei")),
        ("timestamp", json!(1_351_006_799)),
        ("position.altitude", json!(300)),
        ("position.hdop", json!(1.1)),
        ("ain.1", json!(1)),
        ("custom.ign", json!(1)),
        ("custom.dparam", json!("3.14159265".parse::<f64>().unwrap())),
        ("custom.tparam", json!("lorem")),
        ("custom.iparam", json!(-55)),
        ("alarm.event", json!(true)),
    ] {
        assert_eq!(found[name], want, "{name}");
    }
}

/// A few bytes that would be a gigabyte are refused before they are.
#[test]
fn what_a_compressed_packet_holds_is_bounded() {
    let zeros = miniz_oxide::deflate::compress_to_vec_zlib(&vec![b'0'; 60 << 20], 9);
    assert!(zeros.len() < 1 << 16);
    let mut packet = vec![0xff];
    packet.extend((zeros.len() as u16).to_le_bytes());
    packet.extend(&zeros);
    let torn = bytes("FF0400780153F6");
    for packet in [packet, torn, bytes("FF0000")] {
        let heard = hear(&mut open(), [LOGIN.as_bytes(), &packet]);
        assert_eq!(heard.error.unwrap().code(), CloseCode::Parse);
    }
}

/// R11.3, R11.4.
#[test]
fn the_answer_to_a_bad_packet_says_what_is_wrong() {
    let short = ["270413", "205601", "5544.6025", "N", "03739.6834", "E", "1", "2", "3", "4"];
    let more = ["0.0", "0", "0", "1", "NA", "a:1:1"];
    let full = [&short[..], &more].concat();
    let with = |fields: &[&str], at: usize, field: &str| {
        let mut fields = fields.to_vec();
        fields[at] = field;
        fields.join(";")
    };
    let rows: [(usize, &str, &str, &str); 20] = [
        (0, "320413", "0", "0"),
        (0, "NA", "0", "0"),
        (1, "2056", "0", "0"),
        (1, "250000", "0", "0"),
        (1, "205601.", "0", "0"),
        (2, "9144.6025", "10", "10"),
        (2, "5560.0", "10", "10"),
        (2, "x", "10", "10"),
        (2, "NA", "10", "10"),
        (3, "E", "10", "10"),
        (4, "18100.0", "10", "10"),
        (5, "", "10", "10"),
        (6, "fast", "11", "11"),
        (8, "inf", "11", "11"),
        (9, "x", "12", "12"),
        (10, "x", "", "12"),
        (11, "-1", "", "13"),
        (12, "x", "", "13"),
        (13, "1,x", "", "14"),
        (15, "a:1", "", "15"),
    ];
    for (at, field, in_short, in_full) in rows {
        if at < short.len() {
            let heard = hear_text(&format!("{LOGIN}#SD#{}\r\n", with(&short, at, field)));
            assert_eq!(replies(&heard), format!("#AL#1\r\n#ASD#{in_short}\r\n"), "{at} {field}");
        }
        let heard = hear_text(&format!("{LOGIN}#D#{}\r\n", with(&full, at, field)));
        assert_eq!(replies(&heard), format!("#AL#1\r\n#AD#{in_full}\r\n"), "{at} {field}");
        assert!(heard.steps[1].fault.is_some());
    }
    for (packet, reply) in [
        ("#SD#1;2", "#ASD#-1"),
        ("#SD#", "#ASD#-1"),
        (&format!("#SD#{}", full.join(";")), "#ASD#-1"),
        (&format!("#D#{}", short.join(";")), "#AD#-1"),
        (&format!("#D#{}", with(&full, 15, "a:4:1")), "#AD#15"),
        (&format!("#D#{}", with(&full, 15, "a:1:x")), "#AD#15"),
        (&format!("#D#{}", with(&full, 15, ":1:1")), "#AD#15"),
        (&format!("#D#{}", with(&full, 13, &"1,".repeat(1_001))), "#AD#14"),
    ] {
        let heard = hear(&mut open(), [format!("{LOGIN}{packet}\r\n").as_bytes()]);
        assert_eq!(replies(&heard), format!("#AL#1\r\n{reply}\r\n"), "{packet}");
    }
    let unsummed = format!("{LOGIN_2}#SD#{}\r\n", short.join(";"));
    assert_eq!(replies(&hear_text(&unsummed)), "#AL#1\r\n#ASD#13\r\n");
}

/// R11.6.
#[test]
fn a_black_box_is_answered_with_the_number_of_its_good_records() {
    let short = "270413;205601;5544.6025;N;03739.6834;E;1;2;3;4";
    let full = format!("{short};0.0;0;0;1;NA;a:1:1");
    let records = format!("{short}|{full}|nonsense|{short}");
    for (stream, reply, count) in [
        (format!("{LOGIN}#B#{records}\r\n"), "#AB#3", 3),
        (format!("{LOGIN}#B#{records}|\r\n"), "#AB#3", 3),
        (format!("{LOGIN}#B#\r\n"), "#AB#0", 0),
        (format!("{LOGIN_2}#B#{}\r\n", summed(&records, '|')), "#AB#3", 3),
        (format!("{LOGIN_2}#B#{records}|0\r\n"), "#AB#", 0),
    ] {
        let heard = hear_text(&stream);
        assert_eq!(replies(&heard), format!("#AL#1\r\n{reply}\r\n"), "{stream}");
        assert_eq!(heard.messages().count(), count);
    }
    let many = format!("{LOGIN}#B#{}\r\n", "NA;NA;NA;NA;NA;NA;NA;NA;NA;NA|".repeat(5_001));
    let heard = hear(&mut open(), [many.as_bytes()]);
    assert_eq!((heard.messages().count(), &*replies(&heard)), (0, "#AL#1\r\n#AB#0\r\n"));
    let most = many.replacen("NA;NA;NA;NA;NA;NA;NA;NA;NA;NA|", "", 1);
    let heard = hear(&mut open(), [most.as_bytes()]);
    assert_eq!((heard.messages().count(), &*replies(&heard)), (5_000, "#AL#1\r\n#AB#5000\r\n"));
}

/// R11.7. Of a picture, the bytes behind the line end are skipped, whatever they look like.
#[test]
fn there_are_packets_beside_those_of_data() {
    let heard = hear_text(&format!("{LOGIN}#P#\r\n#M#hello; world\r\n#AM#1\r\n#AM#0\r\n"));
    assert_eq!(replies(&heard), "#AL#1\r\n#AP#\r\n#AM#1\r\n");
    assert_eq!(message(&heard)["driver.message"], "hello; world");
    let answers: Vec<_> = heard.steps.iter().flat_map(|step| step.answers.clone()).collect();
    let answer = |is_executed, text: &str| {
        let text = text.to_owned();
        Answer { command: "driver_message", is_executed, text }
    };
    assert_eq!(answers, [answer(true, "1"), answer(false, "0")]);

    let heard =
        hear_text(&format!("{LOGIN_2}#M#{}\r\n#M#hello;0\r\n#P#\r\n", summed("hello", ';')));
    assert_eq!(replies(&heard), "#AL#1\r\n#AM#1\r\n#AM#01\r\n#AP#\r\n");
    assert_eq!(message(&heard)["driver.message"], "hello");

    let heard = hear_text(&format!(
        "{LOGIN}#I#9;3;4;270413;205601;a.jpg\r\n#SD#\r\n\r\n\n#IT#270413;205601;1;1;9\r\n#P#\r\n"
    ));
    assert_eq!(replies(&heard), "#AL#1\r\n#AI#3;0\r\n#AIT#0\r\n#AP#\r\n");
    let faults: Vec<_> = heard.steps.iter().filter_map(|step| step.fault.as_ref()).collect();
    assert!(faults.iter().all(|fault| fault.code() == CloseCode::Unsupported), "{faults:?}");
}

#[test]
fn what_no_device_sends_ends_the_connection() {
    use CloseCode::{Misaligned, Parse, ProtocolViolation, Unsupported};
    let long = format!("{LOGIN}#M#{}", "a".repeat(1 << 20));
    for (stream, code, farewell) in [
        // R11.13.
        ("#P#\r\n", ProtocolViolation, ""),
        ("#SD#NA;NA;NA;NA;NA;NA;NA;NA;NA;NA\r\n", ProtocolViolation, ""),
        ("GET / HTTP/1.1\r\n", Misaligned, ""),
        ("#L\r\n", Parse, ""),
        ("#L#a/b;NA\r\n", ProtocolViolation, "#AL#0\r\n"),
        ("#L#;NA\r\n", ProtocolViolation, "#AL#0\r\n"),
        (&format!("{LOGIN}#L#other;NA\r\n"), ProtocolViolation, ""),
        (&format!("{LOGIN}#T#0;9;0\r\n"), Unsupported, ""),
        (&format!("{LOGIN}#I#x;0\r\n"), Unsupported, ""),
        (&format!("{LOGIN}#I#99999999999;0\r\n"), Unsupported, ""),
        (&long, ProtocolViolation, ""),
    ] {
        let heard = if stream.len() < 1_000 {
            hear_at_every_split(&open, stream.as_bytes())
        } else {
            // A packet that comes byte by byte is looked at once, or this would take minutes.
            hear(&mut open(), stream.as_bytes().chunks(1))
        };
        let error = heard.error.unwrap();
        assert_eq!((error.code(), error.farewell()), (code, farewell.as_bytes()), "{error}");
    }
}

/// R11.10.
#[test]
fn a_datagram_says_who_sends_it() {
    let open = device::decoders(&PROTOCOL, &json!({}));
    let short = "270413;205601;5544.6025;N;03739.6834;E;1;2;3;4";
    for (datagram, reply, count) in [
        (format!("imei#SD#{short}\r\n"), "#ASD#1\r\n", 1),
        (format!("2.0;imei#SD#{}\r\n", summed(short, ';')), "#ASD#1\r\n", 1),
        (format!("2.0;imei#SD#{short};0"), "#ASD#13\r\n", 0),
        ("imei#P#".to_owned(), "#AP#\r\n", 0),
        ("imei#I#9;3;4".to_owned(), "#AI#3;0\r\n", 0),
    ] {
        let step = open(Transport::Datagram).packet(datagram.as_bytes()).unwrap();
        assert_eq!(step.ident.unwrap().as_str(), "imei");
        assert_eq!((step.reply, step.messages.len()), (reply.as_bytes().to_vec(), count));
    }
    let packed = miniz_oxide::deflate::compress_to_vec_zlib(b"2.0;imei#P#\r\n", 9);
    let packed = [&[0xff, packed.len() as u8, 0], &packed[..]].concat();
    assert_eq!(open(Transport::Datagram).packet(&packed).unwrap().reply, b"#AP#\r\n");
    for wrong in ["", "#P#", "imei", "1;imei#P#", "imei#L#imei;NA", "a/b#P#"] {
        assert!(open(Transport::Datagram).packet(wrong.as_bytes()).is_err(), "{wrong}");
    }
    let guarded = device::decoders(&PROTOCOL, &json!({"password": "1234"}));
    assert!(guarded(Transport::Datagram).packet(b"imei#P#\r\n").is_err());
}

/// R11.7.
#[test]
fn a_command_is_a_line() {
    let command = |name, properties| PROTOCOL.command(name, &properties).unwrap();
    let text = command("custom", json!({"text": "reboot"}));
    let driver = command("driver_message", json!({"text": "come home"}));
    let mut connection = open();
    assert_eq!(connection.decoder().command(&text), Err(CommandError::NotIdentified));
    hear(&mut connection, [LOGIN.as_bytes()]);
    let order = connection.decoder().command(&text).unwrap();
    assert_eq!((&order.bytes[..], order.is_answered), (&b"reboot\r\n"[..], false));
    let order = connection.decoder().command(&driver).unwrap();
    assert_eq!((&order.bytes[..], order.is_answered), (&b"#M#come home\r\n"[..], true));
    for (name, properties) in [
        ("custom", json!({"text": "a\r\n#M#b"})),
        ("custom", json!({"hex": "610A62"})),
        ("driver_message", json!({"text": "a\nb"})),
    ] {
        let refused = connection.decoder().command(&command(name, properties));
        assert!(matches!(refused, Err(CommandError::Properties(_))), "{refused:?}");
    }
    let mut connection = open();
    hear(&mut connection, [LOGIN_2.as_bytes()]);
    let order = connection.decoder().command(&driver).unwrap();
    let want = format!("#M#come home;{:04X}\r\n", crc16(b"come home;"));
    assert_eq!(String::from_utf8(order.bytes).unwrap(), want);
}
