//! What all paths have in common (broker specification, 15.1, 1.6 and 6.8).

use serde_json::json;

use super::client::{Rig, send};

/// Broker specification, 15.1.1.
#[test]
fn a_key_is_shown_behind_either_word_or_alone() {
    let rig = Rig::new();
    let key = &rig.key;
    let rows = [
        (format!("FlespiToken {key}"), 200),
        (format!("flespitoken {key}"), 200),
        (format!("Bearer {key}"), 200),
        (key.clone(), 200),
        (format!("Basic {key}"), 401),
        (key[..63].to_owned(), 401),
        (String::new(), 401),
        ("FlespiToken".to_owned(), 401),
    ];
    for (shown, status) in rows {
        let answer = rig.ask_as(&shown, "GET /auth/info", &[], "");
        assert_eq!(answer.status, status, "{shown}");
        if status == 401 {
            assert_eq!(answer.refusal(), (401, 4), "{shown}");
            assert!(answer.head.contains("www-authenticate: flespitoken"));
        }
    }
    assert_eq!(send(&mut rig.open(), "GET /auth/info", &[], b"").refusal(), (401, 4));
}

/// Broker specification, 15.1.3; of the modules: R2.17.
#[test]
fn each_refusal_has_its_status_and_its_code() {
    let rig = Rig::new();
    let (_, standard) = rig.token(1, &json!({"type": 0}));
    let (_, acl) = rig.token(1, &json!({"type": 2, "acl": [{"uri": "mqtt", "methods": ["GET"]}]}));
    let (off, disabled) = rig.token(1, &json!({"type": 1}));
    rig.ask(&format!("PUT /platform/tokens/{off}"), json!({"enabled": false})).result();
    let rows = [
        (&rig.key, "GET /nothing", 404, 6),
        (&rig.key, "GET /platform/tokens", 405, 7),
        (&rig.key, "POST /platform/tokens/all", 405, 7),
        (&rig.key, "BREW /platform/tokens/all", 405, 7),
        (&rig.key, "GET /platform/tokens/99", 404, 6),
        (&rig.key, "GET /platform/tokens/x", 400, 2),
        (&rig.key, "GET /platform/tokens/%zz", 400, 2),
        (&rig.key, "GET /platform/tokens/all?fields=%", 400, 2),
        (&rig.key, "GET /platform/tokens/all?fields=nothing", 400, 3),
        (&rig.key, "GET /platform/tokens/all?limit=-1", 400, 2),
        (&rig.key, "DELETE /platform/tokens/1", 403, 5),
        (&standard, "GET /platform/tokens/all", 403, 5),
        (&acl, "GET /platform/customer", 403, 5),
        (&disabled, "GET /auth/info", 401, 4),
    ];
    for (key, request, status, code) in rows {
        assert_eq!(rig.ask_with(key, request, "").refusal(), (status, code), "{request}");
    }
    let answer = rig.ask("POST /platform/tokens/all", "");
    assert!(
        answer.head.contains("allow: get, put, patch, delete, head, options"),
        "{}",
        answer.head
    );
    assert_eq!(rig.ask("HEAD /platform/tokens/all", "").status, 200);
}

#[test]
fn an_address_that_failed_too_often_is_refused_unheard() {
    let rig = Rig::with(|_| {}, |options| options.failures_per_minute = 3);
    for _ in 0..3 {
        assert_eq!(rig.ask_with("wrong", "GET /auth/info", "").refusal(), (401, 4));
    }
    let answer = rig.ask("GET /auth/info", "");
    assert_eq!(answer.refusal(), (429, 10));
    assert!(answer.head.contains("retry-after: 60"));
}

/// Broker specification, 15.1.4.
#[test]
fn bodies_are_arrays_or_single_objects() {
    let rig = Rig::new();
    let one = json!({"name": "one"});
    assert_eq!(rig.ask("POST /platform/limits", one.clone()).ids(), [1]);
    assert_eq!(rig.ask("POST /platform/limits", json!([one, one, one])).ids(), [2, 3, 4]);
    assert_eq!(rig.ask("PUT /platform/limits/1", json!([one])).ids(), [1]);
    assert_eq!(rig.ask("PUT /platform/limits/1", json!([one, one])).refusal(), (400, 2));
    assert_eq!(rig.ask("POST /platform/limits", json!([])).refusal(), (400, 2));
}

/// Broker specification, 15.1.2; of the modules: R2.14, R2.16.
#[test]
fn what_could_not_be_done_stands_beside_what_was() {
    let rig = Rig::new();
    let body = json!([{"name": "a"}, {"name": 5}, 7, {"name": "b"}, {"nothing": "c"}]);
    let answer = rig.ask("POST /platform/limits", body);
    assert_eq!((answer.status, answer.ids()), (200, vec![1, 2]));
    let errors = answer.json()["errors"].clone();
    for place in ["index", "id"] {
        let places: Vec<_> = errors.as_array().unwrap().iter().map(|it| &it[place]).collect();
        assert_eq!(json!(places), json!([1, 2, 4]), "{place}");
    }
    assert_eq!(errors[0]["field"], "name");
    let answer = rig.ask("GET /platform/limits/9,2,8?fields=id", "");
    let want = json!({"result": [{"id": 2}], "errors": [
        {"code": 6, "reason": "no such object", "id": 9},
        {"code": 6, "reason": "no such object", "id": 8},
    ]});
    assert_eq!((answer.status, answer.json()), (200, want));
    let answer = rig.ask("DELETE /platform/limits/9,2", "");
    assert_eq!((answer.status, answer.removed()), (200, vec![2]));
    assert_eq!(rig.ask("PUT /platform/limits/8,9", json!({"name": "x"})).refusal(), (404, 6));
}

/// Broker specification, 15.1.5.
#[test]
fn fields_limit_and_offset_choose_what_is_answered() {
    let rig = Rig::new();
    let names = ["a", "b", "c", "d", "e"];
    rig.ask("POST /platform/limits", json!(names.map(|name| json!({"name": name})))).result();
    let rows = [
        ("all?fields=name", json!({"result": names.map(|name| json!({"name": name}))})),
        ("2?fields=id%2Cname", json!({"result": [{"id": 2, "name": "b"}]})),
        ("2?fields=id,id", json!({"result": [{"id": 2}]})),
        (
            "all?fields=id&limit=2&offset=1",
            json!({"result": [{"id": 2}, {"id": 3}],
                "pagination": {"limit": 2, "offset": 1, "count": 5}}),
        ),
        (
            "all?fields=id&offset=4",
            json!({"result": [{"id": 5}],
                "pagination": {"limit": null, "offset": 4, "count": 5}}),
        ),
        (
            "name=*?fields=id&limit=0&offset=18446744073709551615",
            json!({"result": [],
                "pagination": {"limit": 0, "offset": 18_446_744_073_709_551_615_u64, "count": 5}}),
        ),
    ];
    for (query, want) in rows {
        assert_eq!(rig.ask(&format!("GET /platform/limits/{query}"), "").json(), want, "{query}");
    }
    let whole = rig.ask("GET /platform/limits/1?fields=", "").result();
    assert!(whole[0].as_object().unwrap().len() > 10);
}

/// Broker specification, 15.1.6.
#[test]
fn selectors_choose() {
    let rig = Rig::new();
    for name in ["truck 7", "truck 8", "car/1", "%"] {
        let body = json!({"name": name, "metadata": {"of": name}, "tokens_count": name.len()});
        rig.ask("POST /platform/limits", body).result();
    }
    let rows: [(&str, &[u64]); 11] = [
        ("all", &[1, 2, 3, 4]),
        ("3,1,3", &[3, 1]),
        ("3%2C1", &[3, 1]),
        ("name=truck*", &[1, 2]),
        ("name=truck%20?", &[]),
        ("name=truck%20%3F", &[1, 2]),
        ("name=car%2F1", &[3]),
        ("name=%25", &[4]),
        ("metadata.of=*7", &[1]),
        ("%7Btokens_count%20%3E%201%20%26%26%20name%20!=%20'car*'%7D", &[1, 2]),
        ("{tokens_count==1}", &[4]),
    ];
    for (selector, want) in rows {
        let answer = rig.ask(&format!("GET /platform/limits/{selector}"), "");
        assert_eq!((answer.status, answer.ids()), (200, want.to_vec()), "{selector}");
    }
    assert_eq!(rig.ask("DELETE /platform/limits/name=truck*", "").removed(), [1, 2]);
    assert_eq!(rig.ask("GET /platform/limits/all", "").ids(), [3, 4]);
}

/// Broker specification, 6.8.
#[test]
fn a_call_acts_as_an_account_of_the_branch() {
    let rig = Rig::new();
    let child = rig.account(1);
    let (grandchild, other) = (rig.account(child), rig.account(1));
    let key = rig.master(child);
    let list = |cid: Option<&str>| {
        let cid = cid.map(|cid| format!("x-flespi-cid: {cid}"));
        let fields: Vec<_> = cid.as_deref().into_iter().collect();
        rig.ask_as(&key, "GET /platform/subaccounts/all?fields=id,cid", &fields, "")
    };
    assert_eq!(list(None).result(), [json!({"id": grandchild, "cid": child})]);
    assert_eq!(list(Some(&child.to_string())).ids(), [grandchild]);
    assert_eq!(list(Some(&grandchild.to_string())).ids(), [0; 0]);
    for cid in ["1", &other.to_string(), "99"] {
        assert_eq!(list(Some(cid)).refusal(), (403, 5), "{cid}");
    }
    for cid in ["", "x", "-1", "1.5"] {
        assert_eq!(list(Some(cid)).refusal(), (400, 3), "{cid}");
    }
}

/// Broker specification, 15.1.7.
#[test]
fn names_for_logs_have_bounds() {
    let rig = Rig::new();
    for (name, most) in [("x-flespi-app", 64), ("x-flespi-trace", 31)] {
        for (length, status) in [(most, 200), (most + 1, 400)] {
            let field = format!("{name}: {}", "a".repeat(length));
            let answer = rig.ask_as(&rig.key, "GET /auth/info", &[&field], "");
            assert_eq!(answer.status, status, "{field}");
        }
    }
    let calls = || {
        let customer = rig.ask("GET /platform/customer?fields=counters", "").result();
        customer[0]["counters"]["api_calls"].as_u64().unwrap()
    };
    let wrong = format!("x-flespi-app: {}", "a".repeat(65));
    // The minute may end between two looks.
    let is_counted = (0..3).any(|_| {
        let before = calls();
        rig.ask_as(&rig.key, "GET /auth/info", &[&wrong], "");
        calls() == before + 2
    });
    assert!(is_counted, "a call that is refused for it has been one");
}

/// Broker specification, 1.6.
#[test]
fn pages_of_other_origins_may_call() {
    let rig = Rig::new();
    for path in ["/platform/tokens/all", "/nothing", "/health", "*"] {
        let fields = ["Origin: https://example.org", "Access-Control-Request-Method: PUT"];
        let answer = send(&mut rig.open(), &format!("OPTIONS {path}"), &fields, b"");
        assert_eq!(answer.status, 204, "{path}");
        assert!(answer.head.contains("access-control-allow-origin: *"), "{path}");
        let allowed = "access-control-allow-headers: authorization, content-type, x-flespi-cid, \
                       x-flespi-app, x-flespi-trace";
        assert!(answer.head.contains(allowed), "{path}: {}", answer.head);
        assert!(answer.head.contains("access-control-allow-methods: get,"), "{path}");
    }
    for (key, request) in [(&*rig.key, "GET /auth/info"), ("", "GET /auth/info"), ("", "GET /x")] {
        let answer = rig.ask_with(key, request, "");
        assert!(answer.head.contains("access-control-allow-origin: *"), "{}", answer.head);
    }
}

#[test]
fn who_has_shown_a_token_may_ask_again_on_the_same_connection() {
    let rig = Rig::new();
    let authorization = format!("Authorization: {}", rig.key);
    let mut stream = rig.open();
    for _ in 0..3 {
        let answer = send(&mut stream, "GET /auth/info", &[&authorization], b"");
        assert_eq!(answer.status, 200);
        assert!(!answer.head.contains("connection: close"));
    }
    let answer = send(&mut stream, "GET /auth/regions", &[], b"");
    assert!(answer.head.contains("connection: close"));
}

#[test]
fn pages_and_websocket_are_beside_it() {
    let rig = Rig::new();
    let answer = send(&mut rig.open(), "GET /health", &[], b"");
    assert_eq!((answer.status, &*answer.body), (200, "{\"status\":\"ok\"}\n"));
    assert_eq!(send(&mut rig.open(), "GET /metrics", &[], b"").status, 200);
    let fields = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
    ];
    let answer = send(&mut rig.open(), "GET /platform/tokens/all", &fields, b"");
    assert_eq!(answer.status, 101);
}
