//! Every protocol from its socket to whoever reads.

use std::io::Read;

use serde_json::{Value, json};

use super::rig::{Made, POSITION, Rig, asked, bytes, connect, http, login, say, say_datagram};

/// How a device sends: what is said, and what it is answered.
enum Device {
    Stream(&'static [(&'static str, &'static str)]),
    Datagram(&'static str, &'static str),
    Lines(&'static [&'static str]),
    Request(&'static str, &'static str),
}

/// Protocol, device, and what its message holds.
type Row = (&'static str, Device, &'static str);

const ROWS: &[Row] = &[
    (
        "teltonika",
        Device::Stream(&[
            ("000F333536333037303432343431303133", "01"),
            (
                "000000000000003608010000016B40D8EA300100000000000000000000000000000001050215030101\
                 01425E0F01F10000601A014E0000000000000000010000C7CF",
                "00000001",
            ),
        ]),
        r#"{"ident":"356307042441013","timestamp":1560161086,"protocol.id":14,"din.1":true,
            "gsm.signal.level":60}"#,
    ),
    (
        "teltonika",
        Device::Datagram(
            "003DCAFE0105000F33353230393330383634303336353508010000016B4F815B30010000000000000000\
             000000000000000103021503010101425DBC000001",
            "0005CAFE010501",
        ),
        r#"{"ident":"352093086403655","protocol.id":14}"#,
    ),
    (
        "wialon_ips",
        Device::Lines(&["#AL#1\r\n", "#ASD#1\r\n"]),
        r#"{"ident":"862462031400566","timestamp":1367096161,"position.satellites":4,
            "position.speed":1}"#,
    ),
    (
        "wialon_retranslator",
        Device::Stream(&[(
            "74000000333533393736303133343435343835004B0BFB70000000030BBB000000270102706F73696E666F\
             00A027AFDF5D9848403AC7253383DD4B400000000000805A40003601460B0BBB0000001200047077725F65\
             7874002B8716D9CE973B400BBB00000011010361766C5F696E707574730000000001",
            "11",
        )]),
        r#"{"ident":"353976013445485","timestamp":1259076464,"position.altitude":106,"din":1}"#,
    ),
    (
        "http",
        Device::Request(
            "POST /",
            r#"[{"ident":"nodejs-fetch-example","timestamp":1702366832.965264,
                 "message.type":"example","driver.message":"Hello, flespi!","channel.id":5}]"#,
        ),
        r#"{"ident":"nodejs-fetch-example","timestamp":1702366832.965264,
            "message.type":"example","driver.message":"Hello, flespi!"}"#,
    ),
    (
        "osmand",
        Device::Request(
            "GET /?id=123456&timestamp=1377177267&lat=60.0&lon=30.0&speed=0.0&bearing=0.0",
            "",
        ),
        r#"{"ident":"123456","timestamp":1377177267,"position.latitude":60}"#,
    ),
];

fn send(channel: &Made, device: &Device) {
    let to = channel.address;
    match device {
        Device::Stream(exchanges) => {
            let mut device = connect(to);
            for (said, answer) in *exchanges {
                assert_eq!(say(&mut device, &bytes(said), answer.len() / 2), bytes(answer));
            }
        }
        Device::Datagram(said, answer) => {
            assert_eq!(say_datagram(to, &bytes(said)), bytes(answer));
        }
        Device::Lines(answers) => {
            let mut device = connect(to);
            for (said, answer) in
                [login("862462031400566"), POSITION.to_owned()].iter().zip(*answers)
            {
                assert_eq!(say(&mut device, said.as_bytes(), answer.len()), answer.as_bytes());
            }
        }
        Device::Request(request, body) => {
            assert_eq!(http(to, request, "", body.as_bytes()), (200, String::new()));
        }
    }
}

/// R1.2, R1.6, R3.21, R3.22, R7.2: what is answered is durable, and published.
#[test]
fn a_message_of_every_protocol_is_read_by_rest_and_heard_by_subscribers() {
    let (_house, rig) = Rig::new();
    for (protocol, device, want) in ROWS {
        let want: Value = serde_json::from_str(want).unwrap();
        let channel = rig.channel(protocol, json!({}));
        let filter = format!("flespi/message/gw/channels/{}/#", channel.id);
        let heard = rig.subscribe(&rig.key, &filter);
        send(&channel, device);
        let (messages, next_key) = rig.pull(channel.id, &json!({"curr_key": 0}));
        assert_eq!(messages.len(), 1, "{protocol}");
        let message = &messages[0];
        for (name, value) in want.as_object().unwrap() {
            assert_eq!(&message[name], value, "{protocol}: {name} of {message}");
        }
        assert_eq!(message["channel.id"], channel.id, "{protocol}");
        let at = message["server.timestamp"].as_f64().unwrap();
        assert_eq!(next_key, (at * 1e6).round() as u64 + 1, "{protocol}");
        assert!(message["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{protocol}");
        let (topic, payload) = heard.next();
        let ident = want["ident"].as_str().unwrap();
        assert_eq!(topic, format!("flespi/message/gw/channels/{}/{ident}", channel.id));
        assert_eq!(payload, message.to_string(), "{protocol}: keys are in order everywhere");
    }
}

/// R10.4.
#[test]
fn a_request_that_says_nothing_is_told_so() {
    let (_house, rig) = Rig::new();
    let channel = rig.channel("http", json!({}));
    for (request, body, status) in [
        ("POST /", "no json", 400),
        ("POST /", r#"[{"timestamp":1}]"#, 400),
        ("GET /", "", 400),
        ("POST /any/path", r#"{"ident":"a"}"#, 200),
    ] {
        assert_eq!(http(channel.address, request, "", body.as_bytes()).0, status, "{body}");
    }
    assert_eq!(rig.pull(channel.id, &json!({})).0.len(), 1);
    assert_eq!(rig.log(channel.id, 102, 4)[0]["close_code"], 3);
}

/// A page of another origin is let in by the browser: flespi's simulator is one.
#[test]
fn a_page_may_send_messages_and_read_the_answer() {
    let (_house, rig) = Rig::new();
    for (protocol, request, body) in [
        ("http", "POST /", br#"{"ident":"a"}"#.as_slice()),
        ("osmand", "GET /?id=a&lat=1&lon=2", b""),
    ] {
        let channel = rig.channel(protocol, json!({}));
        let head = |request: &str, body: &[u8]| {
            let mut text = String::new();
            asked(channel.address, request, "", body).read_to_string(&mut text).unwrap();
            text.to_lowercase()
        };
        let preflight = head("OPTIONS /", b"");
        assert!(preflight.starts_with("http/1.1 204 "), "{protocol}: {preflight}");
        for said in ["allow-origin: *", "allow-methods: get, post", "allow-headers: *"] {
            assert!(preflight.contains(&format!("access-control-{said}\r\n")), "{preflight}");
        }
        let answer = head(request, body);
        assert!(answer.starts_with("http/1.1 200 "), "{protocol}: {answer}");
        assert!(answer.contains("access-control-allow-origin: *\r\n"), "{answer}");
    }
}

/// R10.6, R10.7: a channel that is a client of this broker, or of another one that is this one,
/// too.
#[test]
fn a_channel_takes_what_a_broker_publishes() {
    let (_house, rig) = Rig::new();
    let uri = rig.broker.addresses()[1].1.to_string();
    let custom = json!({"source": "custom", "uri": uri, "topics": ["cars/+"], "ident_level": 1,
        "username": rig.key});
    let own = json!({"source": "broker", "token": rig.key, "topics": ["cars/+", "flespi/message/#"],
        "ident_level": 1});
    let writer = rig.subscribe(&rig.key, "nothing");
    for configuration in [own, custom] {
        let channel = rig.channel("mqtt", json!({"configuration": configuration}));
        let shown = &rig.result(&format!("GET /gw/channels/{}", channel.id), Value::Null)[0];
        assert_eq!(shown["uri"], Value::Null);
        assert!(!shown.to_string().contains(&rig.key) || configuration["source"] == "custom");
        let messages = rig.until("a message is taken", |rig| {
            let qos = rumqttc::QoS::AtLeastOnce;
            writer.client.publish("cars/7", qos, false, r#"{"position.speed":5}"#).unwrap();
            let (messages, _) = rig.pull(channel.id, &json!({}));
            (!messages.is_empty()).then_some(messages)
        });
        assert_eq!(messages[0]["ident"], "7");
        assert_eq!(messages[0]["position.speed"], 5);
        rig.result(&format!("DELETE /gw/channels/{}", channel.id), Value::Null);
    }
}
