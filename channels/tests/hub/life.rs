//! A channel from its making to its end, over restarts.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::rig::{
    House, Made, POSITION, Rig, connect, device, http, login, position, rest_of, say,
};

fn shown(rig: &Rig, channel: &Made) -> Value {
    rig.result(&format!("GET /gw/channels/{}", channel.id), Value::Null).remove(0)
}

/// R3.1 to R3.3, R3.5, R7.3, R8.3.
#[test]
fn a_channel_has_its_own_port_and_what_its_owner_says() {
    let (_house, rig) = Rig::new();
    let [one, two] = [0, 1].map(|_| rig.channel("wialon_ips", json!({"metadata": {"a": "b"}})));
    assert_ne!(one.address, two.address);
    let want = json!({"id": one.id, "cid": 1, "name": "test", "protocol_name": "wialon_ips",
        "protocol_id": shown(&rig, &one)["protocol_id"], "configuration": {}, "enabled": true,
        "messages_ttl": 86_400, "packets_ttl": 0, "commands_ttl": 86_400, "metadata": {"a": "b"},
        "uri": one.address.to_string(), "blocked": 0, "messages_size": 0, "commands_size": 0,
        "connections_count": 0});
    assert_eq!(shown(&rig, &one), want);
    for wrong in [
        json!({"name": "x", "protocol_name": "http"}),
        json!({"protocol_name": "http"}),
        json!({"name": "test"}),
        json!({"name": "test", "protocol_id": 999, "protocol_name": "http"}),
        json!({"name": "test", "protocol_name": "http", "messages_ttl": 2_592_001}),
        json!({"name": "test", "protocol_name": "http", "configuration": {"nothing": 1}}),
        json!({"name": "test", "protocol_name": "http", "port": 1}),
        json!({"name": "test", "protocol_name": "mqtt",
            "configuration": {"source": "custom", "uri": "h:1", "topics": ["a"], "ca": "x"}}),
    ] {
        assert_eq!(rig.ask("POST /gw/channels", wrong.clone()).0, 400, "{wrong}");
    }
    position(&mut device(one.address, "a"));
    position(&mut device(two.address, "b"));
    for (channel, ident) in [(&one, "a"), (&two, "b")] {
        let (messages, _) = rig.pull(channel.id, &json!({}));
        assert_eq!(messages.len(), 1);
        assert_eq!(messages[0]["ident"], ident, "channels share nothing");
    }
    let state = format!("flespi/state/gw/channels/{}", one.id);
    let heard = rig.subscribe(&rig.key, &state);
    assert_eq!(heard.next_of(&state)["uri"], one.address.to_string());
    rig.result(&format!("DELETE /gw/channels/{}", one.id), Value::Null);
    // What has changed before may still be told.
    while !heard.next_of(&state).is_null() {}
    rig.until("its port is closed", |_| TcpStream::connect(one.address).err());
    let third = rig.channel("wialon_ips", json!({}));
    assert_ne!(third.address, one.address, "its port is not given again soon");
    position(&mut device(two.address, "b"));
}

/// R3.1: what plans channels takes `{}` for what somebody has set.
#[test]
fn metadata_that_was_never_set_is_in_no_answer_and_no_state() {
    let (_house, rig) = Rig::new();
    let channel = rig.channel("wialon_ips", json!({}));
    let put = |body: Value| rig.result(&format!("PUT /gw/channels/{}", channel.id), body).remove(0);
    assert_eq!(put(json!({"name": "other"})).get("metadata"), None);
    assert_eq!(shown(&rig, &channel).get("metadata"), None);
    let path = format!("GET /gw/channels/{}?fields=id,metadata", channel.id);
    assert_eq!(rig.result(&path, Value::Null), [json!({"id": channel.id})]);
    let state = format!("flespi/state/gw/channels/{}", channel.id);
    let heard = rig.subscribe(&rig.key, &state);
    assert_eq!(heard.next_of(&state).get("metadata"), None);
    let patch = format!("PATCH /gw/channels/{}", channel.id);
    let patched = rig.result(&patch, json!({"metadata": {"a": "b"}}));
    assert_eq!(patched[0]["metadata"], json!({"a": "b"}));
    assert_eq!(put(json!({"metadata": {}}))["metadata"], json!({}), "that is something");
}

/// R3.4, R8.8: code 9.
#[test]
fn a_change_closes_connections_and_leaves_messages_and_port() {
    let (_house, rig) = Rig::new();
    let channel = rig.channel("wialon_ips", json!({}));
    let mut first = device(channel.address, "first");
    position(&mut first);
    let put = |body: Value| rig.result(&format!("PUT /gw/channels/{}", channel.id), body);
    put(json!({"configuration": {"password": "1234"}, "protocol_name": "http"}));
    assert_eq!(rest_of(&mut first), b"");
    assert_eq!(rig.log(channel.id, 102, 1)[0]["close_code"], 9);
    assert_eq!(shown(&rig, &channel)["configuration"]["password"], "***");
    let mut second = connect(channel.address);
    assert_eq!(say(&mut second, login("second").as_bytes(), 8), b"#AL#01\r\n");
    let mut known = connect(channel.address);
    assert_eq!(say(&mut known, b"#L#known;1234\r\n", 7), b"#AL#1\r\n");
    // Whoever sends back what was shown changes no secret.
    put(json!({"configuration": {"password": "***"}, "name": "other"}));
    assert_eq!(rest_of(&mut known), b"", "the change is in force");
    let mut third = connect(channel.address);
    assert_eq!(say(&mut third, b"#L#third;1234\r\n", 7), b"#AL#1\r\n");
    put(json!({"enabled": false}));
    assert_eq!(rest_of(&mut third), b"");
    rig.until("its port is closed", |_| TcpStream::connect(channel.address).err());
    put(json!({"enabled": true, "configuration": {}}));
    rig.until("its port is open", |_| TcpStream::connect(channel.address).ok());
    position(&mut device(channel.address, "fourth"));
    assert_eq!(rig.pull(channel.id, &json!({})).0.len(), 2);
}

/// R3.22, R7.8.
#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let house = House::new(|_| {});
    let rig = house.start();
    let kept = rig.channel("wialon_ips", json!({}));
    let gone = rig.channel("wialon_ips", json!({}));
    let closed = rig.channel("wialon_ips", json!({"enabled": false}));
    let mut devices: Vec<_> =
        (0..20).map(|number| device(kept.address, &format!("d{number}"))).collect();
    for device in &mut devices {
        position(device);
    }
    position(&mut device(gone.address, "a"));
    let (_, key) = rig.pull(kept.id, &json!({"limit_count": 5}));
    rig.pull(kept.id, &json!({"curr_key": key, "delete": true}));
    rig.result(&format!("DELETE /gw/channels/{}", gone.id), Value::Null);
    drop(rig);
    for device in &mut devices {
        assert_eq!(rest_of(device), b"");
    }
    let rig = house.start();
    let (messages, _) = rig.pull(kept.id, &json!({}));
    assert_eq!(messages.len(), 15);
    assert_eq!(shown(&rig, &kept)["uri"], kept.address.to_string());
    assert_eq!(shown(&rig, &closed)["uri"], closed.address.to_string());
    assert!(TcpStream::connect(closed.address).is_err());
    assert_eq!(rig.ask(&format!("GET /gw/channels/{}/messages", gone.id), json!({})).0, 404);
    position(&mut device(kept.address, "again"));
    let (more, _) = rig.pull(kept.id, &json!({}));
    assert_eq!(&more[..15], messages, "what is new comes behind what was there");
    assert_eq!((more.len(), &more[15]["ident"]), (16, &json!("again")));
    let states = format!("flespi%2Fstate%2Fgw%2Fchannels%2F{}%2Fconnections%2F%2B", kept.id);
    rig.until("states of connections that were are taken back", |rig| {
        let retained = rig.result(&format!("GET /mqtt/messages/{states}"), Value::Null);
        retained.is_empty().then_some(())
    });
}

/// R8.4, R8.9, R3.8: code 4.
#[test]
fn a_full_channel_is_blocked_until_it_has_room() {
    let house = House::new(|options| options.buffer_bytes = 20_000);
    let rig = house.start();
    let (channel, other) = (rig.channel("http", json!({})), rig.channel("http", json!({})));
    let message = json!({"ident": "a", "driver.message": "x".repeat(1_000)}).to_string();
    let send = |to: &Made| http(to.address, "POST /", "", message.as_bytes()).0;
    let mut taken = 0;
    while send(&channel) == 200 {
        taken += 1;
        assert!(taken < 40, "it is never full");
    }
    assert!(taken > 10);
    assert_eq!(rig.log(channel.id, 20, 1)[0]["block_code"], 4);
    assert_eq!(shown(&rig, &channel)["blocked"], 4);
    assert_eq!(send(&other), 200, "each has its own buffer");
    assert_eq!(rest_of(&mut connect(channel.address)), b"");
    let (messages, key) = rig.pull(channel.id, &json!({}));
    assert_eq!(messages.len(), taken, "what was refused is not there");
    rig.pull(channel.id, &json!({"curr_key": key, "delete": true}));
    rig.log(channel.id, 21, 1);
    assert_eq!(send(&channel), 200);
    assert_eq!(shown(&rig, &channel)["blocked"], 0);
}

/// R8.4, R8.8, R8.9: codes 2 and 3.
#[test]
fn a_channel_that_has_had_all_of_its_minute_is_blocked_until_the_next_one() {
    let house = House::new(|options| {
        options.messages_per_minute = 5;
        options.bytes_per_minute = 2_000;
    });
    let rig = house.start();
    // Five messages have less than 2,000 bytes, and pings are no messages.
    let pings = "#P#\r\n".repeat(100);
    let says = [(2, POSITION, "#ASD#1\r\n".len()), (3, &pings, "#AP#\r\n".len() * 100)];
    let says = says.map(|it| (rig.channel("wialon_ips", json!({})), it));
    let minute = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() / 60;
    for times in 1.. {
        for (made, (_, text, count)) in &says {
            let (mut device, mut answer) = (device(made.address, "a"), vec![0; *count]);
            while device.write_all(text.as_bytes()).is_ok()
                && device.read_exact(&mut answer).is_ok()
            {}
        }
        let begun = minute();
        let mut are_shown = true;
        for (made, (code, ..)) in &says {
            assert_eq!(rig.log(made.id, 20, times)[times - 1]["block_code"], *code);
            assert_eq!(rig.log(made.id, 102, times)[times - 1]["close_code"], 21);
            are_shown &= shown(&rig, made)["blocked"] == *code;
        }
        rig.until("the minute is over", |_| (minute() > begun).then_some(()));
        for (made, _) in &says {
            rig.log(made.id, 21, times);
            assert_eq!(shown(&rig, made)["blocked"], 0);
        }
        // The minute may have ended before it could be seen.
        if are_shown {
            break;
        }
    }
}

/// R8.4, R8.9: code 6. Another version may have kept what is not valid now.
#[test]
fn a_channel_that_is_kept_and_invalid_is_blocked_until_it_is_put_right() {
    let house = House::new(|_| {});
    let rig = house.start();
    let [of_wialon, of_none, unread, good] =
        [0; 4].map(|_| rig.channel("wialon_ips", json!({"configuration": {"password": "1"}})));
    let all = [&of_wialon, &of_none, &unread, &good];
    for made in all {
        let mut device = connect(made.address);
        assert_eq!(say(&mut device, b"#L#a;1\r\n", 7), b"#AL#1\r\n");
        position(&mut device);
    }
    drop(rig);
    let row = |protocol: u64| {
        let row = json!({"cid": 1, "name": "old", "protocol_id": protocol, "messages_ttl": "1 d",
            "configuration": {"password": "1", "nothing": 1}});
        row.to_string().into_bytes()
    };
    house.put_row(of_wialon.id, &row(4));
    house.put_row(of_none.id, &row(999));
    let before = house.put_row(unread.id, b"no JSON");

    let rig = house.start();
    let blocked = |rig: &Rig| {
        let all = rig.result("GET /gw/channels/all", Value::Null);
        all.iter().map(|it| (it["id"].as_u64().unwrap(), it["blocked"].clone())).collect::<Vec<_>>()
    };
    let want = [(of_wialon.id, json!(6)), (of_none.id, json!(6)), (good.id, json!(0))];
    assert_eq!(blocked(&rig), want);
    for made in [&of_wialon, &of_none] {
        assert_eq!(rig.log(made.id, 20, 1)[0]["block_code"], 6);
        let state = format!("flespi/state/gw/channels/{}/blocked", made.id);
        let heard = rig.subscribe(&rig.key, &state);
        assert_eq!(heard.next_of(&state), 6);
        let shown = shown(&rig, made);
        assert_eq!(shown["uri"], made.address.to_string(), "devices know its port");
        assert_eq!(shown["configuration"]["password"], "***");
        assert!(TcpStream::connect(made.address).is_err());
        assert_eq!(rig.pull(made.id, &json!({})).0.len(), 1);
        let path = format!("PUT /gw/channels/{}", made.id);
        assert_eq!(rig.ask(&path, json!({"name": "new"})).0, 400, "that makes it no better");
        let right = json!({"protocol_id": 14, "configuration": {}, "messages_ttl": 60});
        let right = rig.result(&path, right).remove(0);
        assert_eq!((&right["blocked"], &right["uri"]), (&json!(0), &shown["uri"]));
        rig.log(made.id, 21, 1);
        assert_eq!(heard.next_of(&state), 0);
        rig.until("it listens", |_| TcpStream::connect(made.address).ok());
    }
    drop(rig);
    // Whoever goes back to the version that wrote it has lost nothing.
    house.put_row(unread.id, &before);
    let rig = house.start();
    assert_eq!(rig.pull(unread.id, &json!({})).0.len(), 1);
    assert_eq!(shown(&rig, &unread)["uri"], unread.address.to_string());
}

/// R3.1: `messages_ttl` of 0; R7.8.
#[test]
fn a_channel_that_keeps_nothing_still_publishes() {
    let (_house, rig) = Rig::new();
    let channel = rig.channel("wialon_ips", json!({}));
    let mut kept = device(channel.address, "kept");
    position(&mut kept);
    assert_eq!(rig.pull(channel.id, &json!({})).0.len(), 1);
    let topics = format!("flespi/message/gw/channels/{}/#", channel.id);
    let heard = rig.subscribe(&rig.key, &topics);
    rig.result(&format!("PUT /gw/channels/{}", channel.id), json!({"messages_ttl": 0}));
    assert_eq!(rest_of(&mut kept), b"", "the change is in force");
    let mut passing = device(channel.address, "passing");
    position(&mut passing);
    assert!(heard.next().1.contains("passing"));
    rig.until("what was kept is purged", |rig| {
        rig.pull(channel.id, &json!({})).0.is_empty().then_some(())
    });
    rig.result(&format!("PUT /gw/channels/{}", channel.id), json!({"messages_ttl": 1}));
    assert_eq!(rest_of(&mut passing), b"", "the change is in force");
    position(&mut device(channel.address, "short"));
    rig.until("what is too old goes", |rig| {
        rig.pull(channel.id, &json!({})).0.is_empty().then_some(())
    });
}
