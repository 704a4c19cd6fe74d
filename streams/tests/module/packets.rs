//! Raw traffic of streams: what they and their platforms have really said.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::spawn;

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use super::rig::{Hub, Started, local, received, stream, until};

const SECRET: &str = "c3VwZXItc2VjcmV0";

/// The number of a new stream that keeps its packets.
fn made(hubs: &Started, mut of: Value) -> u64 {
    of["packets_ttl"] = 60.into();
    hubs.rig.ask("POST /gw/streams", json!([of])).ids()[0]
}

fn inject(hubs: &Started, id: u64, message: &Value) {
    hubs.rig.ask(&format!("POST /gw/streams/{id}/messages"), json!([message])).result();
}

fn read(hubs: &Started, id: u64, data: Value) -> Vec<Value> {
    hubs.rig.ask(&format!("GET /gw/streams/{id}/packets"), data).result()
}

/// All packets of a stream, once there are so many.
fn packets(hubs: &Started, id: u64, count: usize) -> Vec<Value> {
    let mut found = Vec::new();
    until(|| {
        found = read(hubs, id, json!({}));
        found.len() >= count
    });
    assert_eq!(found.len(), count, "{found:?}");
    found
}

/// The bytes of a packet.
fn bytes(packet: &Value) -> Vec<u8> {
    BASE64_STANDARD.decode(packet["data"].as_str().unwrap()).unwrap()
}

fn types(packets: &[Value]) -> Vec<u64> {
    packets.iter().map(|it| it["type"].as_u64().unwrap()).collect()
}

fn text(packet: &Value) -> String {
    String::from_utf8(bytes(packet)).unwrap()
}

/// A platform of one connection after another.
fn platform(mut serve: impl FnMut(TcpStream) + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    spawn(move || listener.incoming().for_each(|stream| serve(stream.unwrap())));
    address
}

fn exactly(stream: &mut TcpStream, count: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).ok().map(|()| bytes)
}

/// R6.16, R6.21.
#[test]
fn bodies_of_http_and_their_answers_are_kept_without_headers() {
    let hub = Hub::new();
    let server = hub.platform(&[503]);
    let hubs = hub.start(local());
    let mut of = stream(server.address);
    of["configuration"]["headers"] = json!({"authorization": format!("Bearer {SECRET}")});
    let id = made(&hubs, of);
    inject(&hubs, id, &json!({"n": 1}));
    let found = packets(&hubs, id, 4);
    let said: Vec<_> = found
        .iter()
        .map(|it| (it["source"].as_str().unwrap(), it["status"].as_u64(), text(it)))
        .collect();
    let body = String::from_utf8(server.asked()[0].body.clone()).unwrap();
    let (asked, answered) = (("hub", None, body), |status| ("platform", status, "{}".to_owned()));
    assert_eq!(said, [asked.clone(), answered(Some(503)), asked, answered(Some(200))]);
    for packet in &found {
        assert_eq!(packet["stream_id"], id);
        assert_eq!(packet["peer"], server.address.to_string());
        assert_eq!(packet["size"], bytes(packet).len());
        assert!(!packet.to_string().contains(SECRET) && !text(packet).contains(SECRET));
        assert_eq!((packet.get("topic"), packet.get("packet_id")), (None, None));
        assert!(packet["conn"].as_u64() > Some(0));
    }
    assert_eq!(types(&found), [67, 66, 67, 66]);
    assert_eq!(server.asked()[0].headers["authorization"], format!("Bearer {SECRET}"));
}

#[test]
fn a_secret_header_that_a_platform_repeats_is_not_in_its_packet() {
    let hub = Hub::new();
    let address = platform(|mut stream| {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let Some(byte) = exactly(&mut stream, 1) else { return };
            head.extend(byte);
        }
        let length = format!("HTTP/1.1 403 No\r\nContent-Length: {}\r\n\r\n", head.len());
        stream.write_all(&[length.as_bytes(), &head].concat()).unwrap();
    });
    let hubs = hub.start(local());
    let mut of = stream(address);
    of["configuration"]["headers"] = json!({"x-key": format!("Bearer {SECRET}")});
    let id = made(&hubs, of);
    inject(&hubs, id, &json!({"n": 1}));
    let mut answer = String::new();
    until(|| {
        let found = read(&hubs, id, json!({"filter": "status=403", "count": 1}));
        answer = found.first().map(text).unwrap_or_default();
        !answer.is_empty()
    });
    assert!(answer.contains("x-key: ****** ****"), "{answer}");
    assert!(answer.contains("user-agent: longshore") && !answer.contains(SECRET), "{answer}");
}

/// R6.24, R13.7.
#[test]
fn packets_of_wialon_and_their_acknowledgements_are_kept() {
    let hub = Hub::new();
    let address = platform(|mut stream| {
        while let Some(size) = exactly(&mut stream, 4) {
            let size = u32::from_le_bytes(size.try_into().unwrap());
            exactly(&mut stream, size as usize).unwrap();
            stream.write_all(&[0x11]).unwrap();
        }
    });
    let hubs = hub.start(local());
    let configuration = json!({"uri": address.to_string()});
    let id = made(&hubs, json!({"protocol_id": 3, "configuration": configuration}));
    for ident in ["car 1", "car 2"] {
        inject(&hubs, id, &json!({"ident": ident, "timestamp": 5, "n": 1}));
        until(|| hubs.get(id)["queue_size"] == 0);
    }
    let found = packets(&hubs, id, 4);
    let sources: Vec<_> = found.iter().map(|it| it["source"].as_str().unwrap()).collect();
    let hub_said: Vec<_> = found.iter().filter(|it| it["source"] == "hub").collect();
    assert_eq!(sources.iter().filter(|it| **it == "platform").count(), 2);
    for (packet, ident) in hub_said.iter().zip(["car 1", "car 2"]) {
        let said = bytes(packet);
        assert_eq!(&said[4..10], format!("{ident}\0").as_bytes());
        assert_eq!(packet["size"], said.len());
    }
    assert!(found.iter().filter(|it| it["source"] == "platform").all(|it| bytes(it) == [0x11]));
    let (sent, received) = (types(&found).into_iter()).partition::<Vec<_>, _>(|it| *it == 3);
    assert_eq!((sent, received), (vec![3; 2], vec![2; 2]));
    assert!(found.iter().all(|it| it["conn"] == found[0]["conn"]), "one connection");
}

/// R6.22.
#[test]
fn publications_are_kept_with_their_topic_and_no_connect() {
    let hub = Hub::new();
    let address = platform(|mut stream| {
        while let Some(head) = exactly(&mut stream, 2) {
            assert!(head[1] < 128, "a short packet");
            let packet = exactly(&mut stream, head[1].into()).unwrap();
            let answer = match head[0] >> 4 {
                1 => vec![0x20, 2, 0, 0],
                3 => {
                    let at = 2 + usize::from(packet[1]);
                    vec![0x40, 2, packet[at], packet[at + 1]]
                }
                _ => return,
            };
            stream.write_all(&answer).unwrap();
        }
    });
    let hubs = hub.start(local());
    let configuration = json!({"uri": address.to_string(), "username": "who-it-is",
        "password": SECRET, "topics": ["cars/%ident%"]});
    let id = made(&hubs, json!({"protocol_id": 2, "configuration": configuration}));
    inject(&hubs, id, &json!({"ident": "a", "n": 1}));
    let found = packets(&hubs, id, 2);
    assert_eq!(found[0]["topic"], "cars/a");
    assert_eq!(serde_json::from_str::<Value>(&text(&found[0])).unwrap()["n"], 1);
    assert_eq!((&found[0]["source"], &found[1]["source"]), (&json!("hub"), &json!("platform")));
    assert_eq!((bytes(&found[1]), &found[1]["topic"]), (vec![0x40, 2, 0, 1], &Value::Null));
    assert_eq!(types(&found), [35, 34]);
    assert_eq!((&found[0]["packet_id"], &found[1]["packet_id"]), (&json!(1), &json!(1)));
    let all = bytes(&found[0]);
    assert!(!String::from_utf8(all).unwrap().contains(SECRET));
}

/// Who does not ask for it has none; what is too old goes; and what is kept is there over a change
/// and a restart.
#[test]
fn packets_are_kept_as_long_as_the_owner_says() {
    let hub = Hub::new();
    let server = hub.platform(&[]);
    let hubs = hub.start(local());
    let (none, kept) = (hubs.stream(server.address), made(&hubs, stream(server.address)));
    for id in [none, kept] {
        inject(&hubs, id, &json!({"n": 1}));
    }
    let before = packets(&hubs, kept, 2);
    until(|| received(&server).len() == 2);
    assert_eq!(hubs.get(none)["packets_ttl"], 0);
    let put = |hubs: &Started, ttl: Value| {
        hubs.rig.ask(&format!("PUT /gw/streams/{kept}"), json!({"packets_ttl": ttl}))
    };
    for wrong in [json!(2_592_001), json!(-1), json!("1")] {
        assert_eq!(put(&hubs, wrong.clone()).status, 400, "{wrong}");
    }
    drop(hubs);
    let hubs = hub.start(local());
    assert_eq!(read(&hubs, none, json!({})), [Value::Null; 0]);
    assert_eq!(read(&hubs, kept, json!({})), before);
    for ttl in [1, 0] {
        put(&hubs, 60.into()).result();
        inject(&hubs, kept, &json!({"n": 2}));
        until(|| !read(&hubs, kept, json!({"reverse": true, "count": 1})).is_empty());
        put(&hubs, ttl.into()).result();
        until(|| read(&hubs, kept, json!({})).is_empty());
    }
}

/// R6.16.
#[test]
fn packets_are_found_by_stream_time_and_filter() {
    let hub = Hub::new();
    let server = hub.platform(&[]);
    let hubs = hub.start(local());
    let [one, two] = [0, 1].map(|_| made(&hubs, stream(server.address)));
    for (n, id) in [one, two, one].into_iter().enumerate() {
        inject(&hubs, id, &json!({"n": n}));
        until(|| received(&server).len() == n + 1);
    }
    packets(&hubs, one, 4);
    packets(&hubs, two, 2);
    let get = |sel: &str, data: Value| {
        hubs.rig.ask(&format!("GET /registry/streams/{sel}/packets"), data).result()
    };
    let all = get("all", json!({}));
    let whose: Vec<_> = all.iter().map(|it| it["stream_id"].as_u64().unwrap()).collect();
    assert_eq!(whose.len(), 6);
    assert!(all.is_sorted_by_key(|it| it["timestamp"].as_f64().unwrap()), "{all:?}");
    let mut turned = get("all", json!({"reverse": true}));
    turned.reverse();
    assert_eq!(turned, all);
    let (from, to) = (all[1]["timestamp"].clone(), all[3]["timestamp"].clone());
    assert_eq!(get("all", json!({"from": from, "to": to})), all[1..4]);
    assert_eq!(get("all", json!({"to": 0, "count": 2})), all[..2]);
    assert_eq!(get("all", json!({"reverse": true, "count": 1})), all[5..]);
    for filter in ["source == \"platform\" && status == 200", "type=66"] {
        assert_eq!(get("all", json!({"filter": filter})).len(), 3, "{filter}");
    }
    let wrong = [
        json!({"count": 0}),
        json!({"from": "now"}),
        json!({"fields": "data"}),
        json!({"filter": "a >"}),
        json!({"reverse": 1}),
    ];
    for wrong in wrong {
        let answer = hubs.rig.ask(&format!("GET /gw/streams/{one}/packets"), wrong.clone());
        assert_eq!(answer.status, 400, "{wrong}");
    }
    assert_eq!(hubs.rig.ask("GET /gw/streams/999/packets", "").refusal(), (404, 6));
    let paths = hubs.rig.ask("GET /gw/api.json", "").json()["paths"].clone();
    assert!(paths["/gw/streams/{sel}/packets"]["get"].is_object());
}

/// R2.24: as with logs, a part of streams that a token is given or is not.
#[test]
fn packets_are_for_whoever_may_read_them() {
    let hub = Hub::new();
    let server = hub.platform(&[]);
    let hubs = hub.start(local());
    let [own, other] = [0, 1].map(|_| made(&hubs, stream(server.address)));
    inject(&hubs, own, &json!({"n": 1}));
    packets(&hubs, own, 2);
    let key = |submodule: &str| {
        let acl = json!([{"uri": "gw/streams", "methods": ["GET"], "ids": [own],
            "submodules": [{"name": submodule, "methods": ["GET"]}]}]);
        hubs.rig.token(1, &json!({"type": 2, "acl": acl})).1
    };
    let (reader, stranger) = (key("packets"), key("logs"));
    let ask =
        |key: &str, id: u64| hubs.rig.ask_with(key, &format!("GET /gw/streams/{id}/packets"), "");
    assert_eq!(ask(&reader, own).result().len(), 2);
    assert_eq!(ask(&reader, other).refusal(), (403, 5));
    assert_eq!(ask(&stranger, own).refusal(), (403, 5));
    let child = hubs.rig.account(1);
    let path = format!("GET /gw/streams/{own}/packets");
    assert_eq!(hubs.rig.ask_for(child, &path, "").refusal(), (404, 6));
}

/// The bound of a stream, and its end.
#[test]
fn the_oldest_packets_make_room_and_all_go_with_their_stream() {
    let hub = Hub::new();
    let server = hub.platform(&[]);
    let mut options = local();
    options.packets_bytes = 20_000;
    let hubs = hub.start(options);
    // A batch is one packet, and has to fit.
    let mut of = stream(server.address);
    of["configuration"]["limit_messages"] = 5.into();
    let [gone, left] = [0, 1].map(|_| made(&hubs, of.clone()));
    inject(&hubs, left, &json!({"n": 0}));
    for n in 1..41 {
        inject(&hubs, gone, &json!({"n": n, "text": "x".repeat(1_000)}));
    }
    let all: Vec<_> = (0..41).collect();
    until(|| {
        let mut numbers: Vec<_> = received(&server).into_iter().map(|it| it.0).collect();
        numbers.sort_unstable();
        numbers == all
    });
    until(|| {
        let found = read(&hubs, gone, json!({"filter": "source=hub"}));
        let size: u64 = found.iter().map(|it| it["size"].as_u64().unwrap()).sum();
        let is_newest = found.last().is_some_and(|it| text(it).contains("\"n\":40"));
        is_newest && size <= 20_000 && !text(&found[0]).contains("\"n\":1,")
    });
    packets(&hubs, left, 2);
    assert_eq!(hubs.rig.ask(&format!("DELETE /gw/streams/{gone}"), "").removed(), [gone]);
    let rows = |id: u64| {
        let tables = hubs.rig.broker.module_tables().unwrap();
        ["stream packets", "stream packet heads"]
            .map(|it| tables.table(it).unwrap().prefix(&id.to_be_bytes()).count())
    };
    until(|| rows(gone) == [0, 0]);
    assert_eq!(rows(left), [2, 1]);
}
