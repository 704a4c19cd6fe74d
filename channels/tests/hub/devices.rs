//! Devices at one channel: who they are, and how their connections end.

use std::io::Write;
use std::net::Shutdown;

use serde_json::{Value, json};

use super::rig::{
    House, Made, POSITION, Rig, bytes, connect, device, http, position, rest_of, say, say_datagram,
};

fn connections(rig: &Rig, channel: &Made, which: &str) -> Vec<Value> {
    rig.result(&format!("GET /gw/channels/{}/connections/{which}", channel.id), Value::Null)
}

fn closed(rig: &Rig, channel: &Made, count: usize) -> Vec<(u64, Value)> {
    let log = rig.log(channel.id, 102, count);
    let of = |record: &Value| (record["close_code"].as_u64().unwrap(), record["ident"].clone());
    log.iter().map(of).collect()
}

/// R3.16, R8.4, R8.5; the topics of connections.
#[test]
fn who_is_connected_is_listed_retained_and_logged() {
    let (_house, rig) = Rig::new();
    let channel = rig.channel("wialon_ips", json!({}));
    let states = format!("flespi/state/gw/channels/{}/connections/+", channel.id);
    let heard = rig.subscribe(&rig.key, &states);
    let logs = rig.subscribe(&rig.key, &format!("flespi/log/gw/channels/{}/#", channel.id));
    let mut first = device(channel.address, "first");
    position(&mut first);
    let _second = device(channel.address, "second");
    let all = connections(&rig, &channel, "all");
    assert_eq!(all.len(), 2);
    let one = connections(&rig, &channel, "ident=fir*");
    let source = first.local_addr().unwrap().to_string();
    assert_eq!(one, all[..1]);
    assert_eq!((&one[0]["ident"], &one[0]["source"]), (&json!("first"), &json!(source)));
    assert_eq!((&one[0]["transport"], &one[0]["ip"]), (&json!("tcp"), &json!("127.0.0.1")));
    assert_eq!(connections(&rig, &channel, "ip=127.0.0.1").len(), 2);
    assert_eq!(connections(&rig, &channel, "%7Bestablished%3E0%7D").len(), 2);

    let id = one[0]["id"].as_u64().unwrap();
    let (topic, payload) = heard.next();
    assert_eq!(topic, format!("flespi/state/gw/channels/{}/connections/{id}", channel.id));
    let state: Value = serde_json::from_str(&payload).unwrap();
    let want = json!({"id": id, "channel_id": channel.id, "protocol_id": state["protocol_id"],
        "ident": "first", "source": source, "transport": "tcp",
        "established": one[0]["established"]});
    assert_eq!(state, want);
    drop(first);
    assert_eq!(heard.next_of(&topic), Value::Null, "it is taken back");

    let of =
        |what: &str| format!("flespi/log/gw/channels/{}/connections/127.0.0.1/{what}", channel.id);
    assert_eq!(logs.next_of(&of("accepted"))["event_code"], 100);
    assert_eq!(logs.next_of(&of("identified"))["ident"], "first");
    let closed = logs.next_of(&of("closed"));
    let want = json!({"close_code": 2, "msgs": 1, "ident": "first", "source": source,
        "transport": "tcp", "event_code": 102, "recv": POSITION.len() + "#L#first;NA\r\n".len(),
        "send": "#AL#1\r\n#ASD#1\r\n".len()});
    for (name, value) in want.as_object().unwrap() {
        assert_eq!(&closed[name], value, "{name} of {closed}");
    }
    rig.until("the state of the channel says how many there are", |rig| {
        let path = format!("GET /gw/channels/{}", channel.id);
        (rig.result(&path, Value::Null)[0]["connections_count"] == 1).then_some(())
    });
    // Also of one that has connections as soon as it is there.
    let count = format!("flespi/state/gw/channels/{}/connections_count", channel.id);
    let count = rig.subscribe(&rig.key, &count);
    while count.next().1 != "1" {}
}

/// R3.7, R3.16, R8.8: codes 12, 10, 2.
#[test]
fn a_connection_ends_by_another_of_its_ident_or_by_a_user() {
    let (_house, rig) = Rig::new();
    let channel = rig.channel("wialon_ips", json!({}));
    let mut old = device(channel.address, "same");
    let mut other = device(channel.address, "other");
    let mut new = device(channel.address, "same");
    assert_eq!(rest_of(&mut old), b"");
    position(&mut new);
    position(&mut other);
    let id = connections(&rig, &channel, "ident=other")[0]["id"].clone();
    let path = format!("DELETE /gw/channels/{}/connections/{id}", channel.id);
    assert_eq!(rig.result(&path, Value::Null), [id]);
    assert_eq!(rest_of(&mut other), b"");
    position(&mut new);
    new.shutdown(Shutdown::Write).unwrap();
    rest_of(&mut new);
    assert_eq!(
        closed(&rig, &channel, 3),
        [(12, json!("same")), (10, json!("other")), (2, json!("same"))]
    );
    assert_eq!(rig.ask(&path, Value::Null).0, 404);
}

/// R3.7: 10 minutes, here a second. R8.8: code 17.
#[test]
fn a_connection_that_is_silent_is_closed() {
    let house = House::new(|options| options.idle_secs = 1);
    let rig = house.start();
    let channel = rig.channel("teltonika", json!({}));
    let mut silent = connect(channel.address);
    assert_eq!(rest_of(&mut silent), b"");
    assert_eq!(closed(&rig, &channel, 1), [(17, Value::Null)]);
}

/// R8.8: codes of what devices send that is wrong.
#[test]
fn what_is_wrong_ends_the_connection_of_its_sender_alone() {
    let (_house, rig) = Rig::new();
    let wialon = rig.channel("wialon_ips", json!({}));
    let mut good = device(wialon.address, "good");
    for (at, said) in ["#SD#NA;NA;NA;NA;NA;NA;NA;NA;NA;NA\r\n", "hello\r\n"].iter().enumerate() {
        let mut bad = connect(wialon.address);
        bad.write_all(said.as_bytes()).unwrap();
        rest_of(&mut bad);
        let code = closed(&rig, &wialon, at + 1)[at].0;
        assert!([4, 6, 19].contains(&code), "{said}: {code}");
    }
    position(&mut good);
    let teltonika = rig.channel("teltonika", json!({}));
    let mut bad = connect(teltonika.address);
    assert_eq!(say(&mut bad, &bytes("000F333536333037303432343431303133"), 1), [1]);
    bad.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    rest_of(&mut bad);
    assert_eq!(closed(&rig, &teltonika, 1), [(19, json!("356307042441013"))]);
    // What is wrong in a datagram harms nobody.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"nonsense", wialon.address).unwrap();
    let said = format!("imei{POSITION}");
    assert_eq!(say_datagram(wialon.address, said.as_bytes()), b"#ASD#1\r\n");
    position(&mut good);
    assert_eq!(rig.pull(wialon.id, &json!({})).0.len(), 3);
}

/// R3.6: the limit, here 2.
#[test]
fn a_channel_has_so_many_connections_and_no_more() {
    let house = House::new(|options| options.connections = 2);
    let rig = house.start();
    let channel = rig.channel("wialon_ips", json!({}));
    let other = rig.channel("wialon_ips", json!({}));
    let first = device(channel.address, "first");
    let mut second = device(channel.address, "second");
    assert_eq!(rest_of(&mut connect(channel.address)), b"");
    position(&mut second);
    position(&mut device(other.address, "third"));
    drop(first);
    closed(&rig, &channel, 1);
    position(&mut device(channel.address, "third"));
}

#[test]
fn a_body_that_is_too_large_is_refused_and_its_channel_goes_on() {
    let house = House::new(|options| options.pending_bytes = 100_000);
    let rig = house.start();
    let channel = rig.channel("http", json!({}));
    let body = format!(r#"{{"ident":"a","driver.message":"{}"}}"#, "x".repeat(200_000));
    for _ in 0..3 {
        assert_eq!(http(channel.address, "POST /", "", body.as_bytes()).0, 503);
        assert_eq!(http(channel.address, "POST /", "", br#"{"ident":"a"}"#).0, 200);
    }
}

/// A message of 1 MiB is none; who sends one is told, and nobody else notices.
#[test]
fn a_message_that_is_too_large_is_refused() {
    let (_house, rig) = Rig::new();
    let channel = rig.channel("http", json!({}));
    let text = "x".repeat(1 << 20);
    let large = json!([{"ident": "a", "ain.1": 1}, {"ident": "a", "driver.message": text}]);
    assert_eq!(http(channel.address, "POST /", "", large.to_string().as_bytes()).0, 400);
    assert_eq!(http(channel.address, "POST /", "", br#"{"ident":"a"}"#).0, 200);
    assert_eq!(rig.pull(channel.id, &json!({})).0.len(), 1, "it is taken as a whole or not at all");
}
