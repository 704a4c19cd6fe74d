//! Sessions, subscriptions and messages (broker specification, 15.2).

use serde_json::{Value, json};

use super::client::Rig;
use super::mqtt_client::{Ask, Client, Got};

fn connect(rig: &Rig, key: &str, id: &str) -> Client {
    Client::connect(&rig.broker, &Ask::with(key, id).lasting())
}

/// Broker specification, 15.2.1, 15.2.3 and 11.13.
#[test]
fn sessions_are_listed_with_what_they_are() {
    let rig = Rig::new();
    let child = rig.account(1);
    let (id, key) = rig.token(child, &json!({"type": 0}));
    let mut client = connect(&rig, &key, "device");
    client.subscribe("a/#");
    let _clean = Client::connect(&rig.broker, &Ask::with(&rig.key, "clean"));
    let all = rig.ask("GET /mqtt/sessions/all", "").result();
    assert_eq!(all.len(), 2, "{all:?}");
    let device = rig.ask("GET /mqtt/sessions/client_id=dev*", "").result();
    let device = &device[0];
    for (name, want) in [
        ("client_id", json!("device")),
        ("clean", json!(false)),
        ("connected", json!(true)),
        ("cid", json!(child)),
        ("ip", json!("127.0.0.1")),
        ("expires", json!(0)),
        ("version", json!("5.0")),
        ("token_id", json!(id)),
        ("subscriptions_count", json!(1)),
    ] {
        assert_eq!(device[name], want, "{name}");
    }
    let number = device["id"].as_u64().unwrap();
    let one = rig.ask(&format!("GET /mqtt/sessions/{number}?fields=id,client_id"), "").result();
    assert_eq!(one, [json!({"id": number, "client_id": "device"})]);
    assert_eq!(rig.ask("GET /mqtt/sessions/%7Bclean%7D?fields=client_id", "").result().len(), 1);
    assert_eq!(rig.ask("GET /mqtt/sessions/12345", "").refusal(), (404, 6));
    let of_child = rig.ask_with(&key, "GET /mqtt/sessions/all?fields=client_id", "").result();
    assert_eq!(of_child, [json!({"client_id": "device"})], "a child does not see its parent");
    client.send(&longshore_codec::Packet::Disconnect(longshore_codec::Disconnect {
        reason: longshore_codec::ReasonCode::Success,
        properties: longshore_codec::Properties::none(),
    }));
    assert_eq!(client.next(), None);
    let gone = rig.ask(&format!("GET /mqtt/sessions/{number}"), "").result();
    assert_eq!((&gone[0]["connected"], &gone[0]["ip"]), (&json!(false), &Value::Null));
    assert!(gone[0]["expires"].as_u64().unwrap() > 1_700_000_000);
}

/// Broker specification, 11.14 and 15.2.8.
#[test]
fn a_session_is_made_and_subscribes_before_its_client_comes() {
    let rig = Rig::new();
    let made = rig.ask("POST /mqtt/sessions", json!([{"client_id": "later"}])).result();
    let number = made[0]["id"].as_u64().unwrap();
    assert_eq!((&made[0]["connected"], &made[0]["clean"]), (&json!(false), &json!(false)));
    let again = rig.ask("POST /mqtt/sessions", json!({"client_id": "later"}));
    assert_eq!(again.refusal().0, 400, "it is there");
    for bad in [json!([{}]), json!([{"client_id": 7}]), json!([{"client_id": "a", "x": 1}])] {
        assert_eq!(rig.ask("POST /mqtt/sessions", bad.clone()).refusal(), (400, 3), "{bad}");
    }
    let path = format!("/mqtt/sessions/{number}/subscriptions");
    let body = json!([{"topic": "a/+", "qos": 1}, {"topic": "b", "qos": 1, "rap": true}]);
    let subscribed = rig.ask(&format!("POST {path}"), body).result();
    assert_eq!((subscribed.len(), &subscribed[0]["topic"]), (2, &json!("a/+")));
    let bad = rig.ask(&format!("POST {path}"), json!([{"topic": "a#", "qos": 1}]));
    assert_eq!(bad.refusal(), (400, 3));
    rig.ask("POST /mqtt/messages", json!([{"topic": "a/1", "payload": "x"}])).result();
    let topics = rig.ask(&format!("GET {path}/all?fields=topic,qos"), "").result();
    assert_eq!(topics, [json!({"topic": "a/+", "qos": 1}), json!({"topic": "b", "qos": 1})]);
    let b = subscribed[1]["id"].as_u64().unwrap();
    let changed = rig.ask(&format!("PUT {path}/{b}?fields=qos,rap"), json!({"qos": 0})).result();
    assert_eq!(changed, [json!({"qos": 0, "rap": true})]);
    assert_eq!(rig.ask(&format!("DELETE {path}/topic=b"), "").removed(), [b]);
    let mut client = connect(&rig, &rig.key, "later");
    assert_eq!(client.messages(), ["a/1=x"]);
    // Of one that is there, too.
    rig.ask(&format!("POST {path}"), json!([{"topic": "c", "qos": 1}])).result();
    rig.ask("POST /mqtt/messages", json!({"topic": "c", "payload": "y"})).result();
    assert_eq!(client.messages(), ["c=y"]);
}

/// Broker specification, 15.1.5; of the modules: R2.10.
#[test]
fn a_part_of_the_sessions_is_read_by_limit_and_offset() {
    let rig = Rig::new();
    let all: Vec<_> = (0..5).map(|at| json!({"client_id": format!("client-{at}")})).collect();
    rig.ask("POST /mqtt/sessions", json!(all)).result();
    let all = rig.ask("GET /mqtt/sessions/all", "").ids();
    for (query, want, part) in [
        ("limit=2", &all[..2], json!({"limit": 2, "offset": 0, "count": 5})),
        ("limit=2&offset=4", &all[4..], json!({"limit": 2, "offset": 4, "count": 5})),
        ("offset=3", &all[3..], json!({"limit": null, "offset": 3, "count": 5})),
        ("offset=9", &[], json!({"limit": null, "offset": 9, "count": 5})),
    ] {
        let got = rig.ask(&format!("GET /mqtt/sessions/all?fields=id&{query}"), "");
        assert_eq!((got.ids(), &got.json()["pagination"]), (want.to_vec(), &part), "{query}");
    }
    let some = rig.ask("GET /mqtt/sessions/client_id=client-*?limit=1", "");
    assert_eq!((some.ids().len(), &some.json()["pagination"]["count"]), (1, &json!(5)));
    assert_eq!(rig.ask("GET /mqtt/sessions/all?limit=-1", "").refusal(), (400, 2));
}

/// Spec of the modules: R2.10.
#[test]
fn a_part_of_the_subscriptions_is_read_by_limit_and_offset() {
    let rig = Rig::new();
    rig.ask("POST /mqtt/sessions", json!([{"client_id": "a"}, {"client_id": "b"}])).result();
    let path = "/mqtt/sessions/all/subscriptions";
    rig.ask(&format!("POST {path}"), json!([{"topic": "x"}, {"topic": "y"}])).result();
    let all = rig.ask(&format!("GET {path}/all"), "");
    assert!(all.json().get("pagination").is_none(), "it is not asked for");
    for query in ["limit=2&offset=1", "offset=1&limit=2&fields=id"] {
        let got = rig.ask(&format!("GET {path}/all?{query}"), "");
        let part = json!({"limit": 2, "offset": 1, "count": 4});
        assert_eq!((got.ids(), &got.json()["pagination"]), (all.ids()[1..3].to_vec(), &part));
    }
    assert_eq!(rig.ask(&format!("GET {path}/7?limit=1"), "").refusal(), (404, 6));
    assert_eq!(rig.ask(&format!("GET {path}/all?offset=x"), "").refusal(), (400, 2));
}

/// Broker specification, 15.2.2; of the modules: R2.16.
#[test]
fn subscriptions_that_are_not_there_or_cannot_change_are_told_beside_the_others() {
    let rig = Rig::new();
    rig.ask("POST /mqtt/sessions", json!([{"client_id": "a"}, {"client_id": "b"}])).result();
    let path = "/mqtt/sessions/all/subscriptions";
    let body = json!([{"topic": "x", "qos": 1}]);
    let x = rig.ask(&format!("POST {path}"), body).ids();
    let y = rig.ask(&format!("POST {path}"), json!({"topic": "y"})).ids()[0];
    let one = "/mqtt/sessions/client_id=a/subscriptions";
    assert_eq!(rig.ask(&format!("DELETE {one}/{}", x[0]), "").removed(), [x[0]]);
    let both = rig.ask(&format!("GET {path}/{},7", x[0]), "");
    assert_eq!((both.status, both.ids()), (200, vec![x[0]]), "it is there in one of them");
    let errors = json!([{"code": 6, "id": 7, "reason": "no such object"}]);
    assert_eq!(both.json()["errors"], errors);
    assert_eq!(rig.ask(&format!("DELETE {path}/7"), "").refusal(), (404, 6));
    let put = rig.ask(&format!("PUT {one}/all"), json!({"topic": "x", "qos": 0}));
    assert_eq!(put.refusal(), (400, 3));
    let put = rig.ask(&format!("PUT {path}/all"), json!({"topic": "y", "qos": 1}));
    assert_eq!((put.status, put.ids()), (200, vec![y, y]));
    assert_eq!(put.json()["errors"][0]["id"], x[0], "and it has changed the others");
    let many = vec![json!({"topic": "z"}); 10_000];
    let names: Vec<_> = (0..10).map(|at| json!({"client_id": at.to_string()})).collect();
    rig.ask("POST /mqtt/sessions", json!(names)).result();
    assert_eq!(rig.ask(&format!("POST {path}"), json!(many)).refusal(), (413, 8));
}

/// Broker specification, 15.2: nothing of it is written down, and nothing else happens that would
/// take the answer along.
#[test]
fn a_session_that_nobody_keeps_is_subscribed_and_unsubscribed() {
    let rig = Rig::new();
    let mut client = Client::connect(&rig.broker, &Ask::with(&rig.key, "passing"));
    let path = "/mqtt/sessions/client_id=passing/subscriptions";
    let made = rig.ask(&format!("POST {path}"), json!({"topic": "a", "qos": 1})).ids();
    rig.ask("POST /mqtt/messages", json!({"topic": "a", "payload": "x"})).result();
    assert_eq!(client.messages(), ["a=x"]);
    assert_eq!(rig.ask(&format!("DELETE {path}/all"), "").removed(), made);
    let posted = rig.ask("POST /mqtt/messages", json!({"topic": "a", "payload": "y"})).result();
    assert_eq!(posted[0]["subscribed"], json!(false));
}

/// Broker specification, 15.2: DELETE ends sessions and their connections.
#[test]
fn a_session_that_is_deleted_is_gone() {
    let rig = Rig::new();
    let mut client = connect(&rig, &rig.key, "device");
    client.subscribe("a");
    let id = rig.ask("GET /mqtt/sessions/client_id=device", "").ids()[0];
    assert_eq!(rig.ask(&format!("DELETE /mqtt/sessions/{id}"), "").removed(), [id]);
    assert!(matches!(client.next(), Some(Got::Packet(_, 0x98, _))));
    assert_eq!(rig.ask("GET /mqtt/sessions/all", "").result(), [] as [Value; 0]);
    assert_eq!(rig.ask(&format!("DELETE /mqtt/sessions/{id}"), "").refusal(), (404, 6));
}

/// Broker specification, 15.2.4 to 15.2.7, 9.1.
#[test]
fn messages_are_published_read_and_removed() {
    let rig = Rig::new();
    let child = rig.account(1);
    let (token, key) = rig.token(child, &json!({"type": 0}));
    let mut client = connect(&rig, &rig.key, "client");
    client.subscribe("#");
    let body = json!([
        {"topic": "a/1", "payload": "x", "retained": true, "type": 2},
        {"topic": "a/2", "payload": {"v": 7}, "retained": true, "qos": 0,
         "user_properties": {"unit": "km"}},
    ]);
    let published = rig.ask_with(&key, "POST /mqtt/messages", body).result();
    assert_eq!(published[0], json!({"topic": "a/1", "subscribed": true}));
    rig.ask("POST /mqtt/messages", json!({"topic": "a/1", "payload": "root", "retained": true}));
    let got = client.next().unwrap();
    assert_eq!(got.named("token_id"), Some(&*token.to_string()));
    assert_eq!(got.named("cid"), Some(&*child.to_string()));
    let read = |rig: &Rig, request: &str| {
        let mut found: Vec<_> = rig
            .ask(request, "")
            .result()
            .iter()
            .map(|it| format!("{}={}", it["topic"].as_str().unwrap(), it["payload"]))
            .collect();
        // What the broker itself keeps there.
        found.retain(|it| !it.starts_with("flespi/state/"));
        found.sort();
        found
    };
    let all = [r#"a/1="root""#, r#"a/1="x""#, r#"a/2="{\"v\":7}""#];
    assert_eq!(read(&rig, "GET /mqtt/messages/a%2F%2B"), all);
    assert_eq!(read(&rig, "GET /mqtt/messages/%23"), all);
    assert_eq!(read(&rig, "GET /mqtt/messages/a%2F1,3"), [r#"a/1="root""#, r#"a/1="x""#]);
    let own = "GET /mqtt/messages/a%2F1?data={%22recursive%22:false}";
    assert_eq!(read(&rig, own), [r#"a/1="root""#]);
    let by_filter = "GET /mqtt/messages/%24filter%2Fpayload%3Dv%253D7%2F%23";
    assert_eq!(read(&rig, by_filter), [r#"a/2="{\"v\":7}""#]);
    let one = rig.ask_with(&key, "GET /mqtt/messages/a%2F2", "").result();
    assert_eq!(one[0]["user_properties"], json!({"unit": "km"}));
    assert_eq!((&one[0]["cid"], &one[0]["token_id"]), (&json!(child), &json!(token)));
    assert!(one[0]["timestamp"].as_f64().unwrap() > 1.7e9);
    rig.ask_with(&key, "DELETE /mqtt/messages/a%2F%2B", "").result();
    assert_eq!(read(&rig, "GET /mqtt/messages/%23"), [r#"a/1="root""#], "in its account alone");
    rig.ask_for(
        child,
        "POST /mqtt/messages",
        json!({"topic": "b", "payload": "", "retained": true}),
    );
    for (bad, want) in [
        (json!([{}]), (400, 3)),
        (json!([{"topic": "a#"}]), (400, 3)),
        (json!([{"topic": "flespi/a"}]), (403, 5)),
        (json!([{"topic": "a", "qos": 3}]), (400, 3)),
        (json!([{"topic": "a", "user_properties": 1}]), (400, 3)),
        (json!([7]), (400, 2)),
    ] {
        assert_eq!(rig.ask("POST /mqtt/messages", bad.clone()).refusal(), want, "{bad}");
    }
    assert_eq!(rig.ask("GET /mqtt/messages/a%23", "").refusal(), (400, 3));
    assert_eq!(rig.ask("GET /mqtt/messages/a?data=%7B%22x%22:1}", "").refusal(), (400, 3));
}

/// Broker specification, 15.2.9 and 5.
#[test]
fn a_token_with_rules_reads_and_publishes_by_them_here_too() {
    let rig = Rig::new();
    let entry = |methods: &[&str], topic: &str| {
        json!({"uri": "mqtt", "methods": methods, "topic": topic,
               "actions": ["publish", "subscribe"]})
    };
    let acl = json!({"type": 2, "acl": [entry(&["GET", "POST"], "a/#")]});
    let (_, key) = rig.token(1, &acl);
    for topic in ["a/1", "b/1"] {
        let body = json!({"topic": topic, "payload": "x", "retained": true});
        rig.ask("POST /mqtt/messages", body).result();
    }
    let found = rig.ask_with(&key, "GET /mqtt/messages/%23?fields=topic", "").result();
    assert_eq!(found, [json!({"topic": "a/1"})]);
    let publish = |topic: &str| {
        rig.ask_with(&key, "POST /mqtt/messages", json!({"topic": topic, "payload": "y"}))
    };
    assert_eq!(publish("a/2").result().len(), 1);
    assert_eq!(publish("b/2").refusal(), (403, 5));
    assert_eq!(rig.ask_with(&key, "DELETE /mqtt/messages/a%2F1", "").refusal(), (403, 5));
    rig.ask("POST /mqtt/sessions", json!([{"client_id": "c"}])).result();
    let body = json!([{"topic": "b/#", "qos": 1}]);
    let refused = rig.ask_with(&key, "POST /mqtt/sessions/all/subscriptions", body);
    assert_eq!(refused.refusal(), (403, 5));
    let (_, none) = rig.token(1, &json!({"type": 2, "acl": []}));
    assert_eq!(rig.ask_with(&none, "GET /mqtt/sessions/all", "").refusal(), (403, 5));
}

#[test]
fn it_is_explained_why_a_message_would_reach_a_session_or_not() {
    let rig = Rig::new();
    let acl = json!({"type": 2, "acl": [
        {"uri": "mqtt", "topic": "a/#", "actions": ["subscribe"]}]});
    let (_, key) = rig.token(1, &acl);
    let mut client = connect(&rig, &key, "device");
    client.subscribe("#");
    let why = |topic: &str, client_id: &str| {
        let request = format!("GET /mqtt/explain?client_id={client_id}&topic={topic}");
        let answer = rig.ask(&request, "").result();
        (answer[0]["reaches"].clone(), answer[0]["reason"].as_str().unwrap().to_owned())
    };
    let sent = (json!(true), "the message is sent at once".to_owned());
    assert_eq!(why("a%2F1", "device"), sent);
    let (reaches, reason) = why("b", "device");
    assert_eq!((reaches, reason.contains("may not read")), (json!(false), true), "{reason}");
    assert_eq!(why("a", "nobody").1, "there is no such session");
    drop(client);
    rig.ask("POST /mqtt/sessions", json!([{"client_id": "absent"}])).result();
    assert!(why("a", "absent").1.contains("no subscription"));
    rig.ask(
        "POST /mqtt/sessions/client_id=absent/subscriptions",
        json!([{"topic": "a", "qos": 1}]),
    );
    assert!(why("a", "absent").1.contains("waits for it"));
    assert_eq!(rig.ask("GET /mqtt/explain?client_id=x", "").refusal(), (400, 2));
    assert_eq!(rig.ask("GET /mqtt/explain?client_id=x&topic=%23", "").refusal(), (400, 3));
}
