//! Reading and deleting messages, as clients of the pull API do it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::rig::{Made, Rig, answer, asked, device, http, position};

/// A channel with messages numbered from 1 on.
fn filled(rig: &Rig, count: u64) -> Made {
    let channel = rig.channel("http", json!({}));
    add(&channel, 1..=count);
    channel
}

fn add(channel: &Made, numbers: std::ops::RangeInclusive<u64>) {
    let messages: Vec<_> =
        numbers.map(|number| json!({"ident": "a", "ain.1": number, "din": 1})).collect();
    let body = Value::from(messages).to_string();
    assert_eq!(http(channel.address, "POST /", "", body.as_bytes()).0, 200);
}

fn numbers(messages: &[Value]) -> Vec<u64> {
    messages.iter().map(|message| message["ain.1"].as_u64().unwrap()).collect()
}

/// R3.8 to R3.12.
#[test]
fn a_reader_gets_every_message_once_and_deletes_what_it_has_read() {
    let (_house, rig) = Rig::new();
    let channel = filled(&rig, 10);
    let (first, key) = rig.pull(channel.id, &json!({"curr_key": 0, "limit_count": 4}));
    assert_eq!(numbers(&first), [1, 2, 3, 4]);
    let (again, _) = rig.pull(channel.id, &json!({"limit_count": 4}));
    assert_eq!(again, first, "reading does not consume");
    let data = json!({"curr_key": key, "limit_count": 4, "delete": true});
    let (second, key) = rig.pull(channel.id, &data);
    assert_eq!(numbers(&second), [5, 6, 7, 8]);
    let (left, _) = rig.pull(channel.id, &json!({"curr_key": 0}));
    assert_eq!(numbers(&left), [5, 6, 7, 8, 9, 10], "what was read before is gone");
    let (third, key) = rig.pull(channel.id, &json!({"curr_key": key, "delete": true}));
    assert_eq!(numbers(&third), [9, 10]);
    let (none, same) = rig.pull(channel.id, &json!({"curr_key": key, "delete": true}));
    assert_eq!((none, same), (vec![], key));
    assert_eq!(rig.pull(channel.id, &json!({"curr_key": 0})).0, [] as [Value; 0]);
    add(&channel, 11..=11);
    assert_eq!(numbers(&rig.pull(channel.id, &json!({"curr_key": key})).0), [11]);
}

/// R3.10, R3.13.
#[test]
fn messages_before_a_key_are_deleted_and_never_more() {
    let (_house, rig) = Rig::new();
    let channel = filled(&rig, 5);
    assert_eq!(rig.pull(rig.channel("http", json!({})).id, &json!({})).1, 0);
    let path = format!("/gw/channels/{}/messages", channel.id);
    let (_, key) = rig.pull(channel.id, &json!({"limit_count": 3}));
    let delete = |data: Value| rig.ask(&format!("DELETE {path}"), data);
    for wrong in
        [json!({}), json!({"delete_key": 1}), json!({"key": 5}), json!({"delete_key": "2"})]
    {
        assert_eq!(delete(wrong).0, 400);
    }
    assert_eq!(delete(json!({"delete_key": key})).1["result"], json!([channel.id]));
    assert_eq!(numbers(&rig.pull(channel.id, &json!({})).0), [4, 5]);
    // What is not there yet is not deleted by a key of the future.
    assert_eq!(delete(json!({"delete_key": u64::MAX})).0, 200);
    add(&channel, 6..=6);
    assert_eq!(numbers(&rig.pull(channel.id, &json!({})).0), [6]);
    rig.until("the disk has no more of them", |rig| {
        let shown = &rig.result(&format!("GET /gw/channels/{}", channel.id), Value::Null)[0];
        (shown["messages_size"] == 1).then_some(())
    });
}

/// R3.8: `timeout`.
#[test]
fn a_reader_that_waits_gets_the_first_message_at_once() {
    let (_house, rig) = Rig::new();
    let channel = rig.channel("wialon_ips", json!({}));
    let mut device = device(channel.address, "waited");
    position(&mut device);
    let (_, key) = rig.pull(channel.id, &json!({}));
    let began = Instant::now();
    let (none, same) = rig.pull(channel.id, &json!({"curr_key": key, "timeout": 1}));
    assert_eq!((none.len(), same), (0, key));
    assert!(began.elapsed() >= Duration::from_secs(1));
    let began = Instant::now();
    let head = format!("Authorization: FlespiToken {}\r\n", rig.key);
    let path = format!("GET /gw/channels/{}/messages", channel.id);
    let data = json!({"curr_key": key, "timeout": 30}).to_string();
    let waiting = asked(rig.broker.addresses()[0].1, &path, &head, data.as_bytes());
    // Who asks later and does not wait is answered: so it has looked in vain, and waits.
    assert_eq!(rig.pull(channel.id, &json!({"curr_key": key})).0.len(), 0);
    position(&mut device);
    let (status, text) = answer(waiting);
    assert_eq!((status, text.matches("waited").count()), (200, 1), "{text}");
    assert!(began.elapsed() < Duration::from_secs(30), "it waited to the end of its time");
}

/// R3.8, R3.14, R3.15, R2.11.
#[test]
fn what_is_asked_for_is_what_comes() {
    let (_house, rig) = Rig::new();
    let channel = filled(&rig, 6);
    let (all, end) = rig.pull(channel.id, &json!({}));
    let at = |index: usize| all[index]["server.timestamp"].clone();
    let rows = [
        (json!({"reverse": true, "count": 1}), vec![6]),
        (json!({"reverse": true}), vec![6, 5, 4, 3, 2, 1]),
        (json!({"from": at(1), "to": at(3)}), vec![2, 3, 4]),
        (json!({"from": at(1).as_f64().unwrap() + 0.000_001, "count": 2}), vec![3, 4]),
        (json!({"from": at(2), "reverse": true, "count": 2}), vec![6, 5]),
        (json!({"to": 0, "filter": "ain.1 > 4"}), vec![5, 6]),
        (json!({"filter": "ain.1 > 100"}), vec![]),
        (json!({"filter": "ain.1>=3,ain.1<5,ident=a*"}), vec![3, 4]),
        (json!({"curr_key": end}), vec![]),
        (json!({"curr_key": null, "limit_size": 1}), vec![1]),
    ];
    for (data, want) in rows {
        assert_eq!(numbers(&rig.pull(channel.id, &data).0), want, "{data}");
    }
    let (fields, _) = rig.pull(channel.id, &json!({"fields": "ident,a*", "count": 1}));
    assert_eq!(fields, [json!({"ident": "a", "ain.1": 1})]);
    for form in [
        "data=%7B%22reverse%22%3Atrue%2C%22count%22%3A1%7D",
        "data=%7B%22reverse%22%3A+true%2C+%22count%22%3A+1%7D",
        "data={\"reverse\":true,\"count\":1}",
    ] {
        let request = format!("GET /gw/channels/{}/messages?{form}", channel.id);
        assert_eq!(numbers(&rig.result(&request, Value::Null)), [6], "{form}");
    }
    for wrong in [
        json!({"limit_count": 0}),
        json!({"limit_count": 1_000_001}),
        json!({"limit_size": 100_000_001}),
        json!({"timeout": 31}),
        json!({"filter": "1 +"}),
        json!({"filter": format!("a={}", "x".repeat(1_023))}),
        json!({"since": 5}),
        json!({"delete": 1}),
    ] {
        let request = format!("GET /gw/channels/{}/messages", channel.id);
        assert_eq!(rig.ask(&request, wrong.clone()).0, 400, "{wrong}");
    }
}

/// R3.8: several channels are read as one, in the order of `server.timestamp`.
#[test]
fn several_channels_are_read_as_one() {
    let (_house, rig) = Rig::new();
    let (one, two) = (filled(&rig, 2), filled(&rig, 3));
    add(&one, 7..=8);
    let request = "GET /gw/channels/all/messages";
    let answer = rig.get(request, json!({"limit_count": 4}));
    assert_eq!(numbers(answer["result"].as_array().unwrap()), [1, 2, 1, 2]);
    let rest = rig.get(request, json!({"curr_key": answer["next_key"]}));
    assert_eq!(numbers(rest["result"].as_array().unwrap()), [3, 7, 8]);
    let (status, partly) = rig.ask(&format!("GET /gw/channels/{},999/messages", two.id), json!({}));
    assert_eq!((status, &partly["errors"][0]["id"]), (200, &json!(999)));
    assert_eq!(numbers(partly["result"].as_array().unwrap()), [1, 2, 3]);
    assert!(partly["next_key"].is_u64());
}
