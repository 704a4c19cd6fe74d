//! Reading and removing histories as REST asks for it.

use serde_json::{Value, json};

use super::hub::{Hub, Place, encoded};

/// A device with messages at 1000000 and every 10 seconds from there: `n` counts them.
fn with_history(hub: &Hub, count: u64) -> u64 {
    let id = hub.device("d", "1");
    let message = |n: u64| {
        let mut message = json!({"timestamp": 1_000_000 + 10 * n, "n": n, "position.speed": n % 100,
            "text": if n.is_multiple_of(2) { "even" } else { "odd" }});
        if n.is_multiple_of(10) {
            message["rare"] = json!(true);
        }
        message
    };
    let all: Vec<_> = (0..count).map(message).collect();
    for part in all.chunks(5_000) {
        hub.ask(&format!("POST /gw/devices/{id}/messages"), json!(part));
    }
    id
}

fn read(hub: &Hub, id: u64, data: &Value) -> Vec<Value> {
    hub.get(&format!("/gw/devices/{id}/messages?data={}", encoded(data)))
}

fn numbers(messages: &[Value]) -> Vec<u64> {
    messages.iter().map(|it| it["n"].as_u64().unwrap()).collect()
}

/// R2.11, R4.8, R4.9, R4.10.
#[test]
fn a_history_is_read_by_time_count_direction_fields_and_filter() {
    let place = Place::new();
    let hub = place.open();
    let id = with_history(&hub, 100);
    let rows = [
        (json!({}), (0..100).collect()),
        (json!({"from": 1_000_970}), vec![97, 98, 99]),
        (json!({"from": 0, "to": 0, "count": 2}), vec![0, 1]),
        (json!({"from": 1_000_010, "to": 1_000_030}), vec![1, 2, 3]),
        (json!({"from": 1_000_010.5, "to": 1_000_030}), vec![2, 3]),
        (json!({"reverse": true, "count": 2}), vec![99, 98]),
        (json!({"reverse": true, "to": 1_000_010}), vec![1, 0]),
        (json!({"filter": "rare", "count": 3}), vec![0, 10, 20]),
        (json!({"filter": "n>=97,text=o*"}), vec![97, 99]),
        (json!({"filter": "n > 97 && text == 'odd'"}), vec![99]),
        (json!({"filter": "timestamp,position.speed,n<2"}), vec![0, 1]),
        (json!({"filter": "", "from": 1_000_990}), vec![99]),
    ];
    for (data, want) in rows {
        assert_eq!(numbers(&read(&hub, id, &data)), want, "{data}");
    }
    let body = hub.ask(&format!("GET /gw/devices/{id}/messages"), json!({"count": 1}));
    assert_eq!(numbers(&body), [0], "data in the body of a GET");
    let some = read(&hub, id, &json!({"fields": "rare,n*", "from": 1_000_900}));
    assert_eq!(some[..2], [json!({"n": 90, "rare": true}), json!({"n": 91})]);
    let rare = read(&hub, id, &json!({"fields": "rar?"}));
    assert_eq!(rare, vec![json!({"rare": true}); 10], "what lacks all of them is left out");
    for wrong in [
        json!({"count": 0}),
        json!({"count": 10_000_001}),
        json!({"from": "x"}),
        json!({"filter": "a &&"}),
        json!({"filter": "a".repeat(1_025)}),
        json!({"generalize": 9}),
        json!({"generalize": 1_000_001}),
        json!({"method": "median"}),
        json!({"nothing": 1}),
    ] {
        let answer =
            hub.rig.ask(&format!("GET /gw/devices/{id}/messages?data={}", encoded(&wrong)), "");
        assert_eq!(answer.refusal(), (400, 3), "{wrong}");
    }
    assert_eq!(hub.rig.ask("GET /gw/devices/99/messages", "").refusal(), (404, 6));
    let both = hub.rig.ask(&format!("GET /gw/devices/{id},99/messages"), "").json();
    assert_eq!(
        (both["result"].as_array().unwrap().len(), &both["errors"][0]["id"]),
        (100, &json!(99))
    );
}

/// R4.11.
#[test]
fn a_history_is_generalized() {
    let place = Place::new();
    let hub = place.open();
    let id = with_history(&hub, 30);
    let read = |data: Value| {
        let messages = read(&hub, id, &data);
        let of = |name: &str| messages.iter().map(|it| it[name].clone()).collect::<Vec<_>>();
        (of("timestamp"), of("n"))
    };
    // 1000000 lies 40 seconds into a stretch of a minute.
    let times = |all: &[u64]| all.iter().map(|it| json!(it)).collect::<Vec<_>>();
    let (at, n) = read(json!({"generalize": 60, "count": 2}));
    assert_eq!((at, n), (times(&[999_960, 1_000_020]), vec![json!(0.5), json!(4.5)]));
    let (at, n) =
        read(json!({"generalize": 60, "method": "maximum", "from": 1_000_050, "count": 1}));
    assert_eq!((at, n), (times(&[1_000_020]), vec![json!(7.0)]), "it may begin before from");
    let (_, n) = read(json!({"generalize": 60, "method": "minimum", "reverse": true, "count": 1}));
    assert_eq!(n, [json!(26.0)]);
    let (at, _) = read(json!({"generalize": 10, "count": 3}));
    assert_eq!(at, times(&[1_000_000, 1_000_010, 1_000_020]), "what draws charts asks for it");
}

/// R4.8, R4.10: `count` is of all devices together, in either direction and with a filter.
#[test]
fn several_histories_have_no_more_messages_together_than_are_asked_for() {
    let place = Place::new();
    let hub = place.open();
    let ids: Vec<_> = ["a", "b", "c"].into_iter().map(|ident| hub.device(ident, ident)).collect();
    for (at, id) in ids.iter().enumerate() {
        let message = |n| json!({"timestamp": 1_000_000 + n, "n": 10 * at + n});
        let messages: Vec<_> = (0..5).map(message).collect();
        hub.ask(&format!("POST /gw/devices/{id}/messages"), json!(messages));
    }
    let rows = [
        (json!({"count": 3}), vec![0, 1, 2]),
        (json!({"count": 5}), vec![0, 1, 2, 3, 4]),
        (json!({"count": 7}), vec![0, 1, 2, 3, 4, 10, 11]),
        (json!({"count": 6, "reverse": true}), vec![4, 3, 2, 1, 0, 14]),
        (json!({"count": 3, "filter": "n>=13"}), vec![13, 14, 20]),
        (json!({"count": 2, "generalize": 10, "method": "maximum"}), vec![4, 14]),
    ];
    for (data, want) in rows {
        let found = hub.get(&format!("/gw/devices/all/messages?data={}", encoded(&data)));
        let found: Vec<_> = found.iter().map(|it| it["n"].as_f64().unwrap() as usize).collect();
        assert_eq!(found, want, "{data}");
    }
}

/// R4.13.
#[test]
fn messages_are_removed_by_time_and_filter_and_all_of_them() {
    let place = Place::new();
    let hub = place.open();
    let id = with_history(&hub, 3_000);
    let remove = |data: Value| {
        let path = format!("/gw/devices/{id}/messages?data={}", encoded(&data));
        assert_eq!(hub.ask(&format!("DELETE {path}"), Value::Null), [id], "R2.19");
        numbers(&read(&hub, id, &json!({})))
    };
    assert_eq!(remove(json!({"from": 1_000_100})), (0..10).collect::<Vec<_>>());
    assert_eq!(remove(json!({"filter": "text=odd"})), [0, 2, 4, 6, 8]);
    assert_eq!(remove(json!({"to": 1_000_020})), [4, 6, 8]);
    assert_eq!(remove(json!({})), [0; 0]);
    let size = hub.get(&format!("/gw/devices/{id}?fields=messages_size"));
    assert_eq!(size[0]["messages_size"], 0);
    let answer =
        hub.rig.ask(&format!("DELETE /gw/devices/{id}/messages?data={{%22count%22:1}}"), "");
    assert_eq!(answer.refusal(), (400, 3));
}

/// R4.8, R4.10: what is long is read in slices, while others are written.
#[test]
fn a_long_history_is_read_in_order_to_its_end() {
    let place = Place::new();
    let hub = place.open();
    let id = with_history(&hub, 20_000);
    assert_eq!(numbers(&read(&hub, id, &json!({}))), (0..20_000).collect::<Vec<_>>());
    let odd = read(&hub, id, &json!({"reverse": true, "filter": "text=odd", "fields": "n"}));
    assert_eq!(numbers(&odd), (0..10_000).map(|n| 19_999 - 2 * n).collect::<Vec<_>>());
    let none = read(&hub, id, &json!({"filter": "nothing"}));
    assert_eq!(none.len(), 0);
}
