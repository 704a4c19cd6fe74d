//! Tokens, accounts and limits (broker specification, 4, 6, 15.3 and 17).

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use longshore_acl::TokenKey;
use longshore_broker::accounts::{Accounts, Options};
use longshore_broker::{Dialect, Limits};
use longshore_storage::Tables;
use serde_json::{Value, json};

use super::client::{Answer, Rig};
use super::mqtt_client::{Ask, Client, Got};

/// Broker specification, 4.2 and 15.3.3.
#[test]
fn tokens_are_made_read_changed_and_removed() {
    let rig = Rig::new();
    let body = json!([{"info": "sensor", "ttl": 60, "access": {"type": 2, "acl": [
        {"uri": "mqtt", "topic": "plant/7/#", "actions": ["publish"]}]}}, {"expire": 4e9 as u64}]);
    let made = rig.ask("POST /platform/tokens", body.clone()).result();
    let (id, key) = (made[0]["id"].as_u64().unwrap(), made[0]["key"].as_str().unwrap());
    assert_eq!((key.len(), &made[0]["access"]), (64, &body[0]["access"]));
    assert_eq!((&made[0]["cid"], &made[0]["enabled"]), (&json!(1), &json!(true)));
    assert_eq!(made[1]["access"], json!({"type": 0}));
    let read = rig.ask(&format!("GET /platform/tokens/{id}"), "").result();
    assert_eq!((read.len(), read[0].get("key")), (1, None), "a key is not shown unasked");
    let path = format!("/platform/tokens/{id}");
    let changed = rig.ask(&format!("PUT {path}?fields=info,ttl"), json!({"info": "b"})).result();
    assert_eq!(changed, [json!({"info": "b", "ttl": 60})]);
    assert_eq!(rig.ask_with(key, "GET /auth/info", "").result()[0]["info"], "b");
    assert_eq!(rig.ask(&format!("DELETE {path}"), "").removed(), [id]);
    assert_eq!(rig.ask_with(key, "GET /auth/info", "").refusal(), (401, 4));
    for bad in [json!([{}]), json!([{"ttl": "x"}]), json!([{"ttl": 1, "cid": 1}]), json!([7])] {
        assert_eq!(rig.ask("POST /platform/tokens", bad.clone()).refusal(), (400, 3), "{bad}");
    }
}

#[test]
fn keys_are_shown_to_who_asks_unless_that_is_off() {
    let rig = Rig::new();
    let (id, key) = rig.token(1, &json!({"type": 0}));
    let ask = format!("GET /platform/tokens/{id}?fields=key");
    assert_eq!(rig.ask(&ask, "").result(), [json!({"key": key})]);
    let rig = Rig::with(|_| {}, |options| options.show_keys = false);
    let (id, key) = rig.token(1, &json!({"type": 0}));
    assert_eq!(key.len(), 64);
    let request = format!("PUT /platform/tokens/{id}?fields=key");
    assert_eq!(rig.ask(&request, json!({"info": "x"})).refusal(), (403, 5));
    assert_eq!(rig.ask("GET /platform/tokens/all?fields=id,key", "").refusal(), (403, 5));
    assert_eq!(rig.ask("GET /platform/tokens/key=*", "").ids(), [0; 0], "nor is it chosen by");
}

/// The paths of 2018, and the form that tokens had there.
#[test]
fn tokens_stand_at_their_old_path_too() {
    let rig = Rig::new();
    let acl = json!([{"uri": "mqtt", "topic": "a/#", "actions": ["subscribe"]}]);
    let body = json!([{"ttl": 60, "flags": 2, "acl": acl}]);
    let id = rig.ask("POST /platform/customer/tokens?fields=id", body).ids()[0];
    let ask = format!("GET /platform/customer/tokens/{id}?fields=flags,acl");
    assert_eq!(rig.ask(&ask, "").result(), [json!({"flags": 2, "acl": acl})]);
    assert_eq!(rig.ask(&format!("DELETE /platform/customer/tokens/{id}"), "").removed(), [id]);
}

/// Broker specification, 6.2.
#[test]
fn accounts_are_made_moved_and_removed_with_all_below_them() {
    let rig = Rig::new();
    let (one, two) = (rig.account(1), rig.account(1));
    let below = rig.account(one);
    let key = rig.master(below);
    let made = rig.ask(&format!("GET /platform/subaccounts/{below}"), "").result();
    assert_eq!((&made[0]["cid"], &made[0]["owner_id"]), (&json!(one), &json!(one)));
    let path = format!("/platform/subaccounts/{below}");
    let moved = rig.ask(&format!("PUT {path}"), json!({"cid": two, "name": "m"})).result();
    assert_eq!((&moved[0]["cid"], &moved[0]["name"]), (&json!(two), &json!("m")));
    let rows = [
        (json!({"cid": below}), (400, 2)),
        (json!({"cid": 99}), (403, 5)),
        (json!({"cid": "x"}), (400, 3)),
        (json!({"cid": null}), (400, 3)),
        (json!({"blocked": 1}), (400, 3)),
    ];
    for (body, want) in rows {
        assert_eq!(rig.ask(&format!("PUT {path}"), body.clone()).refusal(), want, "{body}");
    }
    let deep = rig.account(below);
    let body = json!([{"name": "fifth"}]);
    assert_eq!(rig.ask_for(deep, "POST /platform/subaccounts", body).refusal(), (400, 2));
    assert_eq!(rig.ask_with(&key, "GET /auth/info", "").result()[0]["cid"], below);
    assert_eq!(rig.ask(&format!("DELETE /platform/subaccounts/{two}"), "").removed(), [two]);
    assert_eq!(rig.ask_with(&key, "GET /auth/info", "").refusal(), (401, 4));
    assert_eq!(rig.ask("GET /platform/subaccounts/all", "").ids(), [one]);
}

/// Broker specification, 17.3.
#[test]
fn limits_are_made_set_and_in_force() {
    let rig = Rig::new();
    let body = json!([{"name": "small", "tokens_count": 2, "channels_count": 5}]);
    let limit = rig.ask("POST /platform/limits", body).result();
    assert_eq!((&limit[0]["tokens_count"], &limit[0]["cid"]), (&json!(2), &json!(1)));
    let id = limit[0]["id"].as_u64().unwrap();
    let shown = rig.ask(&format!("GET /platform/limits/{id}?fields=channels_count"), "").result();
    assert_eq!(shown, [json!({"channels_count": 5})]);
    let child = rig.account(1);
    let path = format!("/platform/subaccounts/{child}");
    rig.ask(&format!("PUT {path}"), json!({"limit_id": id})).result();
    assert_eq!(rig.ask(&format!("PUT {path}"), json!({"limit_id": 99})).refusal(), (400, 3));
    let token = json!({"ttl": 60});
    let answer = rig.ask_for(child, "POST /platform/tokens", json!([token, token, token]));
    assert_eq!(answer.ids().len(), 2);
    assert_eq!(answer.json()["errors"][0]["code"], 11);
    assert_eq!(rig.ask_for(child, "POST /platform/tokens", token.clone()).refusal(), (403, 11));
    rig.ask(&format!("DELETE /platform/limits/{id}"), "").result();
    rig.ask_for(child, "POST /platform/tokens", token).result();
}

/// Broker specification, 15.3.
#[test]
fn the_account_itself_is_read_and_named() {
    let rig = Rig::new();
    let limit = rig.ask("POST /platform/limits", json!({"tokens_count": 9})).ids()[0];
    let child = rig.account(1);
    let body = json!({"limit_id": limit});
    rig.ask(&format!("PUT /platform/subaccounts/{child}"), body.clone()).result();
    let key = rig.master(child);
    let read = rig.ask_with(&key, "GET /platform/customer", "").result();
    assert_eq!(read[0]["id"], child);
    for (counter, want) in [("tokens_count", 1), ("subaccounts_count", 0), ("mqtt_sessions", 0)] {
        assert_eq!(read[0]["counters"][counter], want, "{counter}");
    }
    assert_eq!(read[0]["limits"]["tokens_count"], 9);
    let request = "PUT /platform/customer?fields=name";
    assert_eq!(
        rig.ask_with(&key, request, json!({"name": "me"})).result(),
        [json!({"name": "me"})]
    );
    for body in [body, json!({"cid": 1}), json!({"blocked": 0}), json!({"counters": {}})] {
        let answer = rig.ask_with(&key, "PUT /platform/customer", body.clone());
        assert_eq!(answer.refusal(), (400, 3), "{body}");
    }
}

/// A token of an account sees and changes what is in its branch, and nothing else.
#[test]
fn nobody_reaches_out_of_its_branch() {
    let rig = Rig::new();
    let (one, two) = (rig.account(1), rig.account(1));
    let below = rig.account(one);
    let key = rig.master(one);
    let (foreign, _) = rig.token(two, &json!({"type": 1}));
    let (own, _) = rig.token(below, &json!({"type": 1}));
    let limit = rig.ask_for(two, "POST /platform/limits", json!({"name": "l"})).ids()[0];
    let rows = [
        format!("GET /platform/tokens/{foreign}"),
        "GET /platform/tokens/1?fields=key".to_owned(),
        format!("DELETE /platform/tokens/{foreign}"),
        format!("GET /platform/subaccounts/{two}"),
        format!("DELETE /platform/subaccounts/{two}"),
        format!("DELETE /platform/subaccounts/{one}"),
        "GET /platform/subaccounts/1".to_owned(),
        format!("GET /platform/limits/{limit}"),
        format!("DELETE /platform/limits/{limit}"),
    ];
    for request in rows {
        assert_eq!(rig.ask_with(&key, &request, "").refusal(), (404, 6), "{request}");
    }
    for path in ["tokens/1", &format!("subaccounts/{one}"), &format!("limits/{limit}")] {
        let answer = rig.ask_with(&key, &format!("PUT /platform/{path}"), json!({"name": "x"}));
        assert_eq!(answer.refusal(), (404, 6), "{path}");
    }
    let out = json!({"cid": two});
    let answer = rig.ask_with(&key, &format!("PUT /platform/subaccounts/{below}"), out);
    assert_eq!(answer.refusal(), (403, 5), "a child is not given away");
    let ids = rig.ask_with(&key, "GET /platform/tokens/all", "").ids();
    assert!(ids.contains(&own) && !ids.contains(&foreign) && !ids.contains(&1), "{ids:?}");
    assert_eq!(rig.ask_with(&key, "GET /platform/limits/all", "").ids(), [0; 0]);
    let given = json!({"limit_id": limit});
    let answer = rig.ask_with(&key, &format!("PUT /platform/subaccounts/{below}"), given);
    assert_eq!(answer.refusal(), (400, 3), "a limit of others is not given");
}

/// The way of an operator: a key by REST, a client of MQTT with it, and its end.
#[test]
fn a_token_of_rest_opens_mqtt_until_it_is_removed() {
    let rig = Rig::new();
    let (id, key) = rig.token(1, &json!({"type": 0}));
    let connect = |key: &str| {
        let mut stream = TcpStream::connect(rig.broker.addresses()[1].1).unwrap();
        let name = format!("FlespiToken {key}");
        let mut body = b"\0\x04MQTT\x04\x82\0\0\0\x01c\0".to_vec();
        body.push(name.len() as u8);
        body.extend_from_slice(name.as_bytes());
        let mut packet = vec![0x10, body.len() as u8];
        packet.append(&mut body);
        stream.write_all(&packet).unwrap();
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).unwrap();
        (stream, answer[3])
    };
    let (mut stream, code) = connect(&key);
    assert_eq!(code, 0);
    rig.ask(&format!("DELETE /platform/tokens/{id}"), "").result();
    assert_eq!(stream.read(&mut [0; 8]).unwrap_or(0), 0, "its client is gone");
    assert_ne!(connect(&key).1, 0);
}

#[test]
fn a_long_list_goes_out_in_pieces_and_is_whole() {
    let rig = Rig::new();
    let one = json!({"name": "n".repeat(200), "description": "d".repeat(900)});
    for _ in 0..4 {
        let all = Value::from(vec![one.clone(); 500]);
        assert_eq!(rig.ask("POST /platform/limits?fields=id", all).result().len(), 500);
    }
    let answer = rig.ask("GET /platform/limits/all", "");
    assert!(answer.head.contains("transfer-encoding: chunked"));
    assert_eq!(answer.ids(), (1..=2_000).collect::<Vec<u64>>());
}

/// The 429 of a limit that is reached in this minute; if the minute ends meanwhile, in the next.
fn until_refused(ask: impl Fn() -> Answer) -> Answer {
    // More than one minute takes, and less than two.
    for _ in 0..20 {
        let answer = ask();
        if answer.status != 200 {
            return answer;
        }
    }
    panic!("nothing was refused");
}

/// Broker specification, 17.3: `api_calls` and `api_traffic`.
#[test]
fn calls_and_traffic_of_a_minute_are_limited_for_an_account_and_all_below_it() {
    let rig = Rig::new();
    let child = rig.account(1);
    let below = rig.account(child);
    let (key, of_below) = (rig.master(child), rig.master(below));
    let rows = [
        (json!({"api_calls": 5}), "api_calls", ""),
        (json!({"api_calls": 0, "api_traffic": 40_000}), "api_traffic", &*" ".repeat(9_000)),
    ];
    let limit = rig.ask("POST /platform/limits", json!({"name": "l"})).ids()[0];
    let path = format!("PUT /platform/subaccounts/{child}");
    rig.ask(&path, json!({"limit_id": limit})).result();
    for (bounds, name, body) in rows {
        rig.ask(&format!("PUT /platform/limits/{limit}"), bounds).result();
        let ask = || rig.ask_with(&of_below, "GET /auth/info", body);
        let answer = until_refused(ask);
        assert_eq!(answer.refusal(), (429, 10), "{name}");
        let reason = answer.json()["errors"][0]["reason"].as_str().unwrap().to_owned();
        assert_eq!(
            reason,
            format!("the limit {name} of account {child} is reached in this minute")
        );
        let secs = answer.head.lines().find_map(|it| it.strip_prefix("retry-after: ")).unwrap();
        assert!((1..=60).contains(&secs.parse::<u64>().unwrap()), "{secs}");
        let answer = until_refused(|| rig.ask_with(&key, "GET /auth/info", body));
        assert_eq!(answer.refusal(), (429, 10), "those above share it");
        assert_eq!(rig.ask_for(below, "GET /platform/customer", "").status, 200, "others do not");
    }
    rig.ask(&format!("DELETE /platform/limits/{limit}"), "").result();
    let counters = |key: &str| {
        rig.ask_with(key, "GET /platform/customer?fields=counters", "").result()[0]["counters"]
            .clone()
    };
    // The minute may end between two looks.
    let seen = (0..3).any(|_| {
        let (own, above) = (counters(&of_below), counters(&key));
        let count = |of: &Value, name: &str| of[name].as_u64().unwrap();
        count(&own, "api_calls") > 0
            && count(&above, "api_calls") > count(&own, "api_calls")
            && count(&above, "api_traffic") > count(&own, "api_traffic")
    });
    assert!(seen);
}

/// Broker specification, 15.3.
#[test]
fn statistics_are_what_is_used_now() {
    let rig = Rig::new();
    let ask = |data: &str| rig.ask(&format!("GET /platform/customer/statistics?data={data}"), "");
    let all = ask("{}").result();
    assert_eq!((all.len(), &all[0]["tokens_count"]), (1, &json!(1)));
    assert!(all[0]["timestamp"].as_f64().unwrap() > 1.7e9);
    let one = ask("{%22fields%22:%22tokens_count%22,%22method%22:%22maximum%22}").result();
    assert_eq!(one, [json!({"tokens_count": 1})]);
    for none in ["{%22to%22:1e9}", "{%22from%22:7e9}", "{%22filter%22:%22tokens_count%3E1%22}"] {
        assert_eq!(ask(none).result(), [] as [Value; 0], "{none}");
    }
    for bad in ["{%22method%22:%22x%22}", "{%22generalize%22:-1}", "{%22item_type%22:1}"] {
        assert_eq!(ask(bad).refusal(), (400, 3), "{bad}");
    }
}

/// Broker specification, 7.2.
#[test]
fn counters_are_retained_when_they_have_changed() {
    let rig = Rig::with(|_| {}, |options| options.counters_secs = 1);
    let child = rig.account(1);
    let key = rig.token(child, &json!({"type": 1})).1;
    let mut client = Client::connect(&rig.broker, &Ask::with(&rig.key, "reader"));
    let filter = "flespi/state/platform/customer/counters/mqtt/sessions,subscriptions";
    assert_eq!(client.subscribe_with(filter, &[("cid", &child.to_string())]), 1);
    let next = |client: &mut Client| match client.next() {
        Some(Got::Message { topic, payload, .. }) => {
            format!("{}={payload}", topic.rsplit('/').next().unwrap())
        }
        other => panic!("{other:?}"),
    };
    let device = Client::connect(&rig.broker, &Ask::with(&key, "device"));
    assert_eq!(next(&mut client), "sessions=1");
    drop(device);
    assert_eq!(next(&mut client), "sessions=0");
    let path =
        "GET /mqtt/messages/flespi%2Fstate%2Fplatform%2Fcustomer%2Fcounters%2Ftokens%2Fcount";
    let kept = rig.ask_for(child, path, "").result();
    assert_eq!((kept.len(), &kept[0]["payload"]), (1, &json!("1")));
}

/// Broker specification, 15.1.4.
#[test]
fn patch_merges_into_what_an_object_has() {
    let rig = Rig::new();
    let metadata = json!({"a": {"b": 1, "c": 2}, "d": [1]});
    let sent = json!({"metadata": metadata});
    let child = rig.account(1);
    rig.ask(&format!("PUT /platform/subaccounts/{child}"), sent.clone()).result();
    rig.ask("PUT /platform/customer", sent.clone()).result();
    let limit = json!({"metadata": metadata, "tokens_count": 5, "api_calls": 100_000});
    let limit = rig.ask("POST /platform/limits", limit).ids()[0];
    let token = rig.token(1, &json!({"type": 0})).0;
    rig.ask(&format!("PUT /platform/tokens/{token}"), sent).result();
    let patch = json!({"metadata": {"a": {"b": null, "e": 3}, "d": [2]}});
    let merged = json!({"metadata": {"a": {"c": 2, "e": 3}, "d": [2]}});
    for path in [
        "customer".to_owned(),
        format!("subaccounts/{child}"),
        format!("limits/{limit}"),
        format!("tokens/{token}"),
        format!("customer/tokens/{token}"),
    ] {
        let request = format!("PATCH /platform/{path}?fields=metadata");
        assert_eq!(
            rig.ask(&request, patch.clone()).result(),
            std::slice::from_ref(&merged),
            "{path}"
        );
        let kept = rig.ask(&format!("GET /platform/{path}?fields=metadata"), "").result();
        assert_eq!(kept, std::slice::from_ref(&merged), "{path}");
        assert_eq!(rig.ask(&request, json!({"nothing": {}})).refusal(), (400, 3), "{path}");
    }
    let shown = rig.ask(&format!("GET /platform/limits/{limit}"), "").result();
    assert_eq!((&shown[0]["tokens_count"], &shown[0]["api_calls"]), (&json!(5), &json!(100_000)));
    let moved = json!({"cid": 99});
    let answer = rig.ask(&format!("PATCH /platform/subaccounts/{child}"), moved);
    assert_eq!(answer.refusal(), (403, 5));
}

/// Numbers of the rows of one kind, in a table that others write meanwhile.
fn rows(tables: &Tables, kind: u8) -> usize {
    let table = tables.table("accounts").unwrap();
    let snapshot = tables.snapshot();
    let keys = snapshot.range(&table, ..).map(|row| row.unwrap().0);
    keys.filter(|key| key[0] == kind).count()
}

/// What one request makes or removes is written down in one go: it is there as a whole, or not.
#[test]
fn objects_of_one_request_are_on_the_disk_together() {
    const COUNT: usize = 300;
    let folder = tempfile::tempdir().unwrap();
    let key = TokenKey::generate().unwrap();
    let accounts = Arc::new(Accounts::open(folder.path(), &key, Options::default()).unwrap());
    let tables = accounts.tables().unwrap().clone();
    let rig = Rig::of(Limits::default(), Dialect::default(), accounts, key);
    for (path, kind, body) in [
        ("tokens", b't', json!({"ttl": 600})),
        ("subaccounts", b'a', json!({"name": "x"})),
        ("limits", b'l', json!({"name": "x"})),
    ] {
        let before = rows(&tables, kind);
        let seen = |request: &str, body: Value| {
            let is_done = AtomicBool::new(false);
            std::thread::scope(|scope| {
                let look = scope.spawn(|| {
                    let mut seen = BTreeSet::new();
                    while !is_done.load(Ordering::Relaxed) {
                        seen.insert(rows(&tables, kind));
                    }
                    seen.insert(rows(&tables, kind));
                    seen
                });
                let answer = rig.ask(request, body);
                is_done.store(true, Ordering::Relaxed);
                let result = answer.json()["result"].as_array().unwrap().len();
                assert_eq!((answer.status, result), (200, COUNT), "{request}");
                look.join().unwrap()
            })
        };
        // One that cannot be made does not keep the others from it.
        let mut bodies = vec![body; COUNT];
        bodies.insert(7, json!({"name": 7}));
        let seen_all = BTreeSet::from([before, before + COUNT]);
        let made = seen(&format!("POST /platform/{path}"), Value::from(bodies));
        assert!(made.is_subset(&seen_all) && made.contains(&(before + COUNT)), "{path}: {made:?}");
        let first = rig.ask(&format!("GET /platform/{path}/all?fields=id"), "").ids();
        let list: Vec<_> = first[first.len() - COUNT..].iter().map(u64::to_string).collect();
        let list = list.join(",");
        let changed = seen(&format!("PUT /platform/{path}/{list}"), json!({"metadata": {"a": 1}}));
        assert_eq!(changed, BTreeSet::from([before + COUNT]), "{path}");
        let gone = seen(&format!("DELETE /platform/{path}/{list},999999"), Value::Null);
        assert!(gone.is_subset(&seen_all) && gone.contains(&before), "{path}: {gone:?}");
    }
}

/// Of what one request removes, some may stand below the other.
#[test]
fn accounts_below_one_another_are_removed_by_one_request() {
    let rig = Rig::new();
    let above = rig.account(1);
    let (one, two) = (rig.account(above), rig.account(above));
    let below = rig.account(one);
    rig.token(below, &json!({"type": 0}));
    let answer = rig.ask(&format!("DELETE /platform/subaccounts/{below},{above},{two}"), "");
    assert_eq!((answer.status, answer.removed()), (200, vec![below, above]));
    assert_eq!(answer.json()["errors"][0]["id"], two);
    assert_eq!(rig.ask("GET /platform/subaccounts/all", "").ids(), [0; 0]);
    assert_eq!(rig.ask("GET /platform/tokens/all", "").ids(), [1]);
}
