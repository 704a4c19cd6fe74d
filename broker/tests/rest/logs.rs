//! Logs of accounts (broker specification, 15.1.8, 15.2, 15.3 and 20).

use std::time::Instant;

use serde_json::{Value, json};

use super::client::{PATIENCE, Rig};
use super::mqtt_client::{Ask, Client};

/// Asks until the answer has so many records: what happens is in the log soon after.
fn records(rig: &Rig, key: &str, request: &str, count: usize) -> Vec<Value> {
    let begun = Instant::now();
    loop {
        let found = rig.ask_with(key, &format!("GET {request}"), "").result();
        if found.len() >= count {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{request}: {found:?}");
        std::thread::yield_now();
    }
}

fn column(records: &[Value], name: &str) -> Vec<Value> {
    records.iter().map(|record| record[name].clone()).collect()
}

/// `data` of a query.
fn data(path: &str, data: &Value) -> String {
    let encoded: String = data.to_string().bytes().map(|byte| format!("%{byte:02x}")).collect();
    format!("{path}?data={encoded}")
}

/// Broker specification, 20.1, 20.6 and 15.2.9; of the modules: R4.9, R8.2.
#[test]
fn the_log_of_mqtt_is_read_in_either_order_and_by_what_data_says() {
    let rig = Rig::new();
    let (child, other) = (rig.account(1), rig.account(1));
    let key = rig.token(child, &json!({"type": 0})).1;
    let mut client = Client::connect(&rig.broker, &Ask::with(&key, "device"));
    for topic in ["a", "b", "c"] {
        assert_eq!(client.subscribe(topic), 1);
    }
    let all = records(&rig, &rig.key, "/mqtt/logs", 4);
    assert_eq!(column(&all, "event_code"), [500, 520, 520, 520]);
    assert_eq!(records(&rig, &key, "/mqtt/logs", 4), all, "its own account sees it, too");
    let last = json!({"reverse": true, "count": 1, "fields": "timestamp"});
    let read = |given: Value| records(&rig, &rig.key, &data("/mqtt/logs", &given), 0);
    assert_eq!(read(last), [json!({"timestamp": all[3]["timestamp"]})]);
    let (from, to) = (&all[1]["timestamp"], &all[2]["timestamp"]);
    let rows = [
        (json!({}), all.clone()),
        (json!({"reverse": true}), all.iter().rev().cloned().collect()),
        (json!({"count": 2}), all[..2].to_vec()),
        (json!({"from": from, "to": to}), all[1..3].to_vec()),
        (json!({"from": to}), all[2..].to_vec()),
        (json!({"from": 0, "to": 0}), all.clone()),
        (json!({"from": to, "to": 0}), all[2..].to_vec()),
        (json!({"to": from}), all[..2].to_vec()),
        (
            json!({"filter": "event_code < 510 || topic == 'b'"}),
            vec![all[0].clone(), all[2].clone()],
        ),
        (json!({"filter": "event_code>=510,topic=a"}), all[1..2].to_vec()),
        (json!({"filter": "topic"}), all[1..].to_vec()),
        (json!({"item_type": 14}), all[..1].to_vec()),
        (json!({"item_type": [18, 33]}), all[1..].to_vec()),
        (json!({"item_type": 33}), Vec::new()),
    ];
    for (given, want) in rows {
        assert_eq!(read(given.clone()), want, "{given}");
    }
    for cid in [other, child] {
        let found = rig.ask_for(cid, "GET /mqtt/logs?fields=cid", "").result();
        assert_eq!(found, vec![json!({"cid": child}); if cid == child { 4 } else { 0 }]);
    }
    let sibling = rig.token(other, &json!({"type": 0})).1;
    assert_eq!(records(&rig, &sibling, "/mqtt/logs", 0), [] as [Value; 0]);
    let blind =
        rig.token(child, &json!({"type": 2, "acl": [{"uri": "mqtt", "methods": ["POST"]}]}));
    assert_eq!(rig.ask_with(&blind.1, "GET /mqtt/logs", "").refusal(), (403, 5));
}

/// Broker specification, 15.3.
#[test]
fn what_has_become_of_objects_is_read_by_account_and_by_object() {
    let rig = Rig::new();
    let child = rig.account(1);
    let (one, _) = rig.token(child, &json!({"type": 0}));
    let (two, _) = rig.token(child, &json!({"type": 0}));
    rig.ask(&format!("PUT /platform/tokens/{one}"), json!({"info": "x"})).result();
    let limit = rig.ask("POST /platform/limits", json!({"name": "l"})).ids()[0];
    rig.ask(&format!("DELETE /platform/tokens/{two}"), "").result();
    let codes = |path: &str, count: usize| {
        let found = records(&rig, &rig.key, path, count);
        assert!(found.iter().all(|record| record["cid"].is_u64()), "{found:?}");
        json!(column(&found, "event_code"))
    };
    assert_eq!(codes(&format!("/platform/tokens/{one}/logs"), 2), json!([1, 2]));
    assert_eq!(codes(&format!("/platform/customer/tokens/{one}/logs"), 2), json!([1, 2]));
    assert_eq!(codes(&format!("/platform/subaccounts/{child}/logs"), 1), json!([1]));
    assert_eq!(codes(&format!("/platform/limits/{limit}/logs"), 1), json!([1]));
    let of_tokens = data("/platform/customer/logs", &json!({"item_type": 33}));
    assert_eq!(codes(&of_tokens, 4), json!([1, 1, 2, 3]));
    let gone = rig.ask(&format!("GET /platform/tokens/{two}/logs"), "");
    assert_eq!(gone.refusal(), (404, 6));
    let partly = rig.ask(&format!("GET /platform/tokens/{one},{two}/logs"), "").json();
    assert_eq!(
        (partly["result"].as_array().unwrap().len(), &partly["errors"][0]["id"]),
        (2, &json!(two))
    );
    let (_, standard) = rig.token(child, &json!({"type": 0}));
    assert_eq!(rig.ask_with(&standard, "GET /platform/customer/logs", "").refusal(), (403, 5));
}

/// Broker specification, 20.6; of the modules: R8.2.
#[test]
fn data_that_makes_no_sense_is_refused_by_name() {
    let rig = Rig::new();
    for (given, key) in [
        (json!({"nothing": 1}), "nothing"),
        (json!({"from": "x"}), "from"),
        (json!({"from": -1}), "from"),
        (json!({"to": 1e300}), "to"),
        (json!({"count": 0}), "count"),
        (json!({"count": 1.5}), "count"),
        (json!({"reverse": 1}), "reverse"),
        (json!({"fields": ["a"]}), "fields"),
        (json!({"filter": "1 +"}), "filter"),
        (json!({"filter": format!("1 || {}", "x".repeat(1_020))}), "filter"),
        (json!({"item_type": "x"}), "item_type"),
        (json!({"item_type": [1, "x"]}), "item_type"),
    ] {
        for path in ["/mqtt/logs", "/platform/customer/logs"] {
            let answer = rig.ask(&format!("GET {}", data(path, &given)), "");
            assert_eq!(answer.refusal(), (400, 3), "{given}");
            let reason = answer.json()["errors"][0]["reason"].to_string();
            assert!(reason.contains(key), "{given}: {reason}");
        }
    }
    assert_eq!(rig.ask("GET /mqtt/logs?data=[1]", "").refusal(), (400, 2));
}

/// A long log goes out in pieces, whole and in order.
#[test]
fn a_long_log_is_read_whole() {
    let rig = Rig::new();
    let one = json!({"name": "n"});
    for _ in 0..3 {
        rig.ask("POST /platform/limits?fields=id", Value::from(vec![one.clone(); 1_000])).result();
    }
    let path = data("/platform/customer/logs", &json!({"item_type": 4}));
    let found = records(&rig, &rig.key, &path, 3_000);
    assert_eq!(column(&found, "id"), (1..=3_000).map(Value::from).collect::<Vec<_>>());
    let answer = rig.ask(&format!("GET {path}"), "");
    assert!(answer.head.contains("transfer-encoding: chunked"));
}

/// Broker specification, 15.1.7, 15.1.8, 20.3.
#[test]
fn every_call_of_who_is_known_is_in_the_log_of_the_account_it_was_made_for() {
    let rig = Rig::with(|limits| limits.request_bytes = 100, |_| {});
    let child = rig.account(1);
    let (id, key) = rig.token(child, &json!({"type": 2, "acl": []}));
    let fields = ["x-flespi-app: tool", "x-flespi-trace: 7"];
    let rows: [(&str, &str, u16); 6] = [
        ("GET", "/auth/info?fields=id", 200),
        ("GET", "/platform/customer", 403),
        ("GET", "/nothing", 404),
        ("BREW", "/auth/info", 405),
        ("POST", "/storage/expressions/test", 413),
        ("HEAD", "/auth/info", 200),
    ];
    for (method, uri, status) in rows {
        let body = if status == 413 { "x".repeat(101) } else { String::new() };
        let answer = rig.ask_as(&key, &format!("{method} {uri}"), &fields, &body);
        assert_eq!(answer.status, status, "{method} {uri}");
    }
    let long = format!("x-flespi-app: {}", "a".repeat(65));
    assert_eq!(rig.ask_as(&key, "GET /auth/info", &[&long], "").status, 400);
    // Nobody's: no token, one that is none, one that opens nothing any more.
    for shown in ["wrong", ""] {
        assert_eq!(rig.ask_as(shown, "GET /auth/info", &fields, "").status, 401);
        assert_eq!(rig.ask_as(shown, "GET /nothing", &fields, "").status, 404);
    }
    rig.ask_for(child, "GET /platform/customer", "").result();
    let calls = json!({"filter": format!("event_code == 1000 && cid == {child}")});
    let made = records(&rig, &rig.key, &data("/platform/customer/logs", &calls), rows.len() + 3);
    let of_token: Vec<_> = made.iter().filter(|it| it["token_id"] == id).collect();
    for (record, (method, uri, status)) in of_token.iter().zip(rows) {
        let want = json!({"timestamp": record["timestamp"], "cid": child, "event_code": 1000,
            "origin_type": 1, "origin_id": child, "method": method, "uri": uri, "app": "tool",
            "trace": "7", "response_code": status, "token_id": id, "host": "127.0.0.1",
            "source": "127.0.0.1"});
        assert_eq!(**record, want);
    }
    assert_eq!((of_token.len(), &of_token[6]["response_code"]), (7, &json!(400)));
    let of_master: Vec<_> = made.iter().filter(|it| it["token_id"] == 1).collect();
    // The token was made for the account, and it was read.
    let uris: Vec<_> = of_master.iter().map(|it| it["uri"].clone()).collect();
    assert_eq!(uris, ["/platform/tokens", "/platform/customer"]);
    assert_eq!(made.len(), 9);
}
