//! Raw traffic: what is kept of it, for how long, and who reads it (R3.17).

use std::io::Write;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use super::rig::{
    House, Made, POSITION, Rig, bytes, connect, device, http, login, position, say, say_datagram,
};

/// The bytes of a packet.
fn data(packet: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(packet["data"].as_str().unwrap()).unwrap()
}

fn channel(rig: &Rig, protocol: &str) -> Made {
    rig.channel(protocol, json!({"packets_ttl": 3_600}))
}

fn read(rig: &Rig, channel: &Made, mask: &str, data: &Value) -> Vec<Value> {
    rig.result(&format!("GET /gw/channels/{}/idents/{mask}/packets", channel.id), data.clone())
}

/// All packets of a channel, once there are so many.
fn all(rig: &Rig, channel: &Made, count: usize) -> Vec<Value> {
    rig.until(&format!("{count} packets"), |rig| {
        let found = read(rig, channel, "all", &Value::Null);
        (found.len() >= count).then_some(found)
    })
}

/// Who said what, in the order of time.
fn said(packets: &[Value]) -> Vec<(String, Vec<u8>)> {
    packets.iter().map(|it| (it["source"].as_str().unwrap().to_owned(), data(it))).collect()
}

fn lines(lines: &[(&str, &[u8])]) -> Vec<(String, Vec<u8>)> {
    lines.iter().map(|(who, bytes)| ((*who).to_owned(), bytes.to_vec())).collect()
}

fn types(packets: &[Value]) -> Vec<u64> {
    packets.iter().map(|it| it["type"].as_u64().unwrap()).collect()
}

/// R3.17: also what came before the device had said its ident to the end.
#[test]
fn what_a_device_and_the_hub_say_over_tcp_is_read_byte_for_byte() {
    let (_house, rig) = Rig::new();
    let channel = channel(&rig, "wialon_ips");
    let mut tracker = connect(channel.address);
    let whole = login("862462031400566");
    let (first, rest) = whole.split_at(5);
    tracker.write_all(first.as_bytes()).unwrap();
    // All channels are served in turn: once another device is answered, this has been read.
    device(rig.channel("wialon_ips", json!({})).address, "another");
    assert_eq!(say(&mut tracker, rest.as_bytes(), 7), b"#AL#1\r\n");
    position(&mut tracker);
    assert_eq!(say(&mut tracker, b"#P#\r\n", 6), b"#AP#\r\n");
    let packets = all(&rig, &channel, 6);
    let want = lines(&[
        ("device", whole.as_bytes()),
        ("hub", b"#AL#1\r\n"),
        ("device", POSITION.as_bytes()),
        ("hub", b"#ASD#1\r\n"),
        ("device", b"#P#\r\n"),
        ("hub", b"#AP#\r\n"),
    ]);
    assert_eq!(said(&packets), want);
    let path = format!("GET /gw/channels/{}/connections/all", channel.id);
    let connection = &rig.result(&path, Value::Null)[0];
    for packet in &packets {
        assert_eq!(packet["ident"], "862462031400566");
        assert_eq!(packet["channel_id"], channel.id);
        assert_eq!(packet["conn"], connection["id"]);
        assert_eq!(packet["peer"], connection["source"]);
        assert_eq!(packet["size"], data(packet).len());
    }
    assert_eq!(types(&packets), [2, 3, 2, 3, 2, 3]);
    let at = |packet: &Value| packet["timestamp"].as_f64().unwrap();
    assert!(packets.windows(2).all(|two| at(&two[0]) < at(&two[1])), "{packets:?}");
}

/// R3.17: of a device that says much before it says who it is, the beginning is kept, and what it
/// said last.
#[test]
fn of_what_came_before_the_ident_4_kib_are_kept() {
    let (_house, rig) = Rig::new();
    let [channel, other] = ["wialon_ips"; 2].map(|it| channel(&rig, it));
    let mut tracker = connect(channel.address);
    let first = format!("#L#a;{}", "x".repeat(6_000));
    for piece in [&first, "yyy"] {
        tracker.write_all(piece.as_bytes()).unwrap();
        // All channels are served in turn: once another device is answered, this has been read.
        device(other.address, "another");
    }
    assert_eq!(say(&mut tracker, b"zzz\r\n", 7), b"#AL#1\r\n");
    let packets = all(&rig, &channel, 2);
    let want = [&first.as_bytes()[..4_096], b"zzz\r\n"].concat();
    assert_eq!(said(&packets), lines(&[("device", &want), ("hub", b"#AL#1\r\n")]));
}

/// R3.17: datagrams, requests and packets of a platform, whose idents are those of messages.
#[test]
fn every_kind_of_channel_keeps_what_was_said() {
    let (_house, rig) = Rig::new();
    let datagram = bytes(
        "003DCAFE0105000F33353230393330383634303336353508010000016B4F815B300100000000000000000000\
         00000000000103021503010101425DBC000001",
    );
    let udp = channel(&rig, "teltonika");
    let answer = say_datagram(udp.address, &datagram);
    let packets = all(&rig, &udp, 2);
    assert_eq!(said(&packets), lines(&[("device", &datagram), ("hub", &answer)]));
    assert_eq!(packets[0]["ident"], "352093086403655");
    assert_eq!(packets[0]["conn"], 0);
    assert_eq!(types(&packets), [130, 131]);

    let requests = channel(&rig, "http");
    let body = r#"[{"ident":"a"},{"ident":"b"}]"#;
    assert_eq!(http(requests.address, "POST /x?y=1", "Secret: s\r\n", body.as_bytes()).0, 200);
    let packets = all(&rig, &requests, 4);
    let request = format!("POST /x?y=1 HTTP/1.1\r\n\r\n{body}");
    let of_a = read(&rig, &requests, "a", &Value::Null);
    let want = lines(&[("device", request.as_bytes()), ("hub", b"HTTP/1.1 200 OK\r\n\r\n")]);
    assert_eq!(said(&of_a), want, "headers are not kept");
    assert_eq!(packets[1]["ident"], "b");
    assert_eq!((types(&of_a), &of_a[0]["conn"]), (vec![66, 67], &packets[1]["conn"]));
    assert!(packets[1]["conn"].as_u64() > Some(0));

    let platform = channel(&rig, "wialon_retranslator");
    let packet = bytes(
        "74000000333533393736303133343435343835004B0BFB70000000030BBB000000270102706F73696E666F00\
         A027AFDF5D9848403AC7253383DD4B400000000000805A40003601460B0BBB0000001200047077725F657874\
         002B8716D9CE973B400BBB00000011010361766C5F696E707574730000000001",
    );
    assert_eq!(say(&mut connect(platform.address), &packet, 1), [0x11]);
    let packets = all(&rig, &platform, 2);
    assert_eq!(said(&packets), lines(&[("device", &packet), ("hub", &[0x11])]));
    assert_eq!(packets[0]["ident"], "353976013445485");
}

/// R3.17: what an MQTT broker publishes, as it came.
#[test]
fn what_a_broker_publishes_is_kept() {
    let (_house, rig) = Rig::new();
    let configuration = json!({"token": rig.key, "topics": ["cars/+"], "ident_level": 1});
    let fields = json!({"packets_ttl": 60, "configuration": configuration});
    let channel = rig.channel("mqtt", fields);
    let writer = rig.subscribe(&rig.key, "nothing");
    let payload = r#"{"position.speed":5}"#;
    let packets = rig.until("a publication is kept", |rig| {
        writer.client.publish("cars/7", rumqttc::QoS::AtLeastOnce, false, payload).unwrap();
        let found = read(rig, &channel, "7", &Value::Null);
        (!found.is_empty()).then_some(found)
    });
    assert_eq!(said(&packets[..1]), lines(&[("device", payload.as_bytes())]));
    assert_eq!((types(&packets[..1]), &packets[0]["conn"]), (vec![34], &json!(0)));
}

/// Who does not ask for it has none; what is too old goes; and what is kept is there over a change
/// and a restart.
#[test]
fn packets_are_kept_as_long_as_the_owner_says() {
    let (house, rig) = Rig::new();
    let (none, kept) = (rig.channel("wialon_ips", json!({})), channel(&rig, "wialon_ips"));
    for made in [&none, &kept] {
        position(&mut device(made.address, "a"));
    }
    let before = all(&rig, &kept, 4);
    assert_eq!(read(&rig, &none, "all", &Value::Null), Vec::<Value>::new());
    let wrong = json!({"packets_ttl": 2_592_001});
    assert_eq!(rig.ask(&format!("PUT /gw/channels/{}", kept.id), wrong).0, 400);
    drop(rig);
    let rig = house.start();
    assert_eq!(all(&rig, &kept, 4), before);
    position(&mut device(kept.address, "a"));
    assert_eq!(all(&rig, &kept, 8)[..4], before[..]);
    for ttl in [1, 0] {
        position(&mut device(kept.address, "a"));
        rig.result(&format!("PUT /gw/channels/{}", kept.id), json!({"packets_ttl": ttl}));
        rig.until("what is too old goes", |rig| {
            let path = format!("GET /gw/channels/{}/idents/all", kept.id);
            let (idents, packets) =
                (rig.result(&path, Value::Null), read(rig, &kept, "a", &json!({})));
            (idents.is_empty() && packets.is_empty()).then_some(())
        });
    }
    assert!(rig.pull(kept.id, &json!({})).0.len() >= 4, "messages are another matter");
}

/// The bound of a channel: the newest packets are there, and the channel takes messages as ever.
#[test]
fn the_oldest_packets_of_a_full_channel_make_room() {
    let house = House::new(|options| options.packets_bytes = 20_000);
    let rig = house.start();
    let channel = channel(&rig, "http");
    for number in 0..40 {
        let text = "x".repeat(1_000);
        let body = json!({"ident": "a", "number": number, "driver.message": text}).to_string();
        assert_eq!(http(channel.address, "POST /", "", body.as_bytes()).0, 200);
    }
    let numbers = rig.until("the newest are there", |rig| {
        let packets = read(rig, &channel, "a", &Value::Null);
        let bytes: usize = packets.iter().map(|it| data(it).len()).sum();
        assert!(bytes <= 20_000, "{bytes} bytes");
        let numbers: Vec<u64> = said(&packets).iter().filter_map(|it| number(&it.1)).collect();
        // Each waits for the next commit, so more go there as long as one is missing.
        let body = json!({"ident": "a", "number": 99}).to_string();
        assert_eq!(http(channel.address, "POST /", "", body.as_bytes()).0, 200);
        numbers.contains(&99).then_some(numbers)
    });
    assert!(numbers.len() > 3 && !numbers.contains(&0), "{numbers:?}");
    assert!(numbers.is_sorted(), "{numbers:?}");
    assert!(rig.pull(channel.id, &json!({})).0.len() > 40, "no message is lost for it");
}

/// The number in a request.
fn number(data: &[u8]) -> Option<u64> {
    let text = str::from_utf8(data).unwrap();
    let rest = text.split_once("\"number\":")?.1;
    rest.split([',', '}']).next()?.parse().ok()
}

/// R3.17: selectors of channels, masks of idents, times, order.
#[test]
fn packets_are_found_by_channel_ident_and_time() {
    let (_house, rig) = Rig::new();
    let [one, two] = [0, 1].map(|_| channel(&rig, "wialon_ips"));
    for (made, ident) in [(&one, "car"), (&two, "car"), (&one, "cargo"), (&one, "bus")] {
        position(&mut device(made.address, ident));
    }
    all(&rig, &one, 12);
    all(&rig, &two, 4);
    let get = |path: &str, data: Value| rig.result(&format!("GET /gw/channels/{path}"), data);
    let size = |ident: &str| (login(ident).len() + 7 + POSITION.len() + 8) as u64;
    let row = |made: &Made, ident: &str| {
        let size = size(ident);
        json!({"ident": ident, "size": size, "channel_id": made.id})
    };
    let some = format!("{},{}", one.id, two.id);
    for (path, want) in [
        (
            "all/idents/all",
            vec![row(&one, "bus"), row(&one, "car"), row(&one, "cargo"), row(&two, "car")],
        ),
        ("all/idents/all?limit=2&offset=1", vec![row(&one, "car"), row(&one, "cargo")]),
        ("all/idents/car", vec![row(&one, "car"), row(&two, "car")]),
        ("all/idents/c*o", vec![row(&one, "cargo")]),
        ("all/idents/*us*", vec![row(&one, "bus")]),
        ("all/idents/ca", vec![]),
        ("all/idents/nobody*", vec![]),
    ] {
        assert_eq!(get(path, Value::Null), want, "{path}");
    }
    let idents = |path: &str, data: Value| -> Vec<String> {
        let found = get(&format!("{path}/packets"), data);
        found.iter().map(|it| it["ident"].as_str().unwrap().to_owned()).collect()
    };
    let (car, cargo, bus) = (["car"; 4].join(" "), ["cargo"; 4].join(" "), ["bus"; 4].join(" "));
    for (path, data, want) in [
        (format!("{some}/idents/all"), json!({}), format!("{car} {car} {cargo} {bus}")),
        (format!("{}/idents/car", one.id), json!({}), car.clone()),
        (format!("{}/idents/c*", one.id), json!({"count": 5}), format!("{car} cargo")),
        (
            format!("{some}/idents/*r*"),
            json!({"reverse": true, "count": 5}),
            format!("{cargo} car"),
        ),
        (format!("{some}/idents/b*"), json!({"count": 1}), "bus".to_owned()),
    ] {
        assert_eq!(idents(&path, data.clone()).join(" "), want, "{path} {data}");
    }
    let ordered = get("all/idents/car/packets", json!({}));
    let mut turned = get("all/idents/car/packets", json!({"reverse": true}));
    turned.reverse();
    assert_eq!(ordered, turned);
    let (from, to) = (ordered[2]["timestamp"].clone(), ordered[5]["timestamp"].clone());
    let between = get("all/idents/car/packets", json!({"from": from, "to": to}));
    assert_eq!(between, ordered[2..6]);
    assert_eq!(get("all/idents/c*r/packets", json!({"from": from, "to": to})), between);
    let newest = get("all/idents/car/packets", json!({"reverse": true, "count": 1}));
    assert_eq!(newest, ordered[7..]);
    for wrong in [json!({"count": 0}), json!({"from": "now"}), json!({"curr_key": 1})] {
        let path = format!("GET /gw/channels/{}/idents/car/packets", one.id);
        assert_eq!(rig.ask(&path, wrong.clone()).0, 400, "{wrong}");
    }
    assert_eq!(rig.ask("GET /gw/channels/999/idents/all", Value::Null).0, 404);
    assert_eq!(rig.ask("GET /gw/channels/999/idents/all/packets", Value::Null).0, 404);
}

/// R4.20: of a packet as it is shown, by tests or an expression.
#[test]
fn packets_are_found_by_a_filter() {
    let (_house, rig) = Rig::new();
    let channel = channel(&rig, "wialon_ips");
    for ident in ["car", "bus"] {
        position(&mut device(channel.address, ident));
    }
    all(&rig, &channel, 8);
    for (mask, data, want) in [
        ("car", json!({"filter": "type=2"}), vec![("car", 2); 2]),
        ("car", json!({"filter": "type=2,size<20"}), vec![("car", 2)]),
        ("car", json!({"filter": "type=3", "count": 1, "reverse": true}), vec![("car", 3)]),
        ("all", json!({"filter": "type == 3 && ident != \"car\""}), vec![("bus", 3); 2]),
        (
            "all",
            json!({"filter": "source=hub", "count": 3}),
            vec![("car", 3), ("car", 3), ("bus", 3)],
        ),
        ("all", json!({"filter": "type=131"}), vec![]),
        ("all", json!({"filter": "", "count": 1}), vec![("car", 2)]),
    ] {
        let found = read(&rig, &channel, mask, &data);
        let found: Vec<_> = found
            .iter()
            .map(|it| (it["ident"].as_str().unwrap(), it["type"].as_u64().unwrap()))
            .collect();
        assert_eq!(found, want, "{mask} {data}");
    }
    for wrong in [json!({"filter": "type >"}), json!({"filter": 2}), json!({"fields": "type"})] {
        let path = format!("GET /gw/channels/{}/idents/car/packets", channel.id);
        assert_eq!(rig.ask(&path, wrong.clone()).0, 400, "{wrong}");
    }
}

/// R2.24: who may not read the messages of a channel sees nothing of what they were made of.
#[test]
fn packets_are_for_whoever_may_read_messages() {
    let (_house, rig) = Rig::new();
    let [one, two] = [0, 1].map(|_| channel(&rig, "wialon_ips"));
    for made in [&one, &two] {
        position(&mut device(made.address, "a"));
        all(&rig, made, 4);
    }
    let key = |submodule: &str| {
        rig.token(&json!([{"uri": "gw/channels", "methods": ["GET"], "ids": [one.id],
            "submodules": [{"name": submodule, "methods": ["GET"]}]}]))
    };
    let (reader, other) = (key("messages"), key("logs"));
    for path in ["idents/all", "idents/a/packets"] {
        let ask = |key: &str, made: &Made| {
            rig.ask_with(key, &format!("GET /gw/channels/{}/{path}", made.id), &Value::Null)
        };
        let (status, answer) = ask(&reader, &one);
        assert_eq!(status, 200);
        assert!(!answer["result"].as_array().unwrap().is_empty(), "{path}: {answer}");
        assert_eq!(ask(&reader, &two).0, 403, "{path}");
        assert_eq!(ask(&other, &one).0, 403, "{path}");
    }
}

/// A channel takes its packets with it, and others keep theirs.
#[test]
fn packets_go_with_their_channel() {
    let (house, rig) = Rig::new();
    let [gone, left] = [0, 1].map(|_| channel(&rig, "wialon_ips"));
    for made in [&gone, &left] {
        position(&mut device(made.address, "a"));
        all(&rig, made, 4);
    }
    rig.result(&format!("DELETE /gw/channels/{}", gone.id), Value::Null);
    let path = format!("GET /gw/channels/{}/idents/a/packets", gone.id);
    assert_eq!(rig.ask(&path, Value::Null).0, 404);
    let rows = |rig: &Rig, table: &str| {
        let table = rig.context.tables().table(table).unwrap();
        let of = |id: u64| table.prefix(&id.to_be_bytes()).count();
        (of(gone.id), of(left.id))
    };
    for (table, want) in
        [("channels_packets", 4), ("channels_packet_idents", 4), ("channels_packet_heads", 1)]
    {
        rig.until("its packets are removed", |rig| (rows(rig, table) == (0, want)).then_some(()));
    }
    drop(rig);
    let rig = house.start();
    assert_eq!(all(&rig, &left, 4).len(), 4);
}
