//! What tools ask for: who one is, regions, dictionaries, expressions, documents.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::{Value, json};

use super::client::{Answer, Rig, send};

/// Broker specification, 15.3.2.
#[test]
fn a_token_is_told_what_it_is() {
    let rig = Rig::new();
    let acl = json!({"type": 2, "acl": [{"uri": "mqtt", "methods": ["GET"]}]});
    let (id, key) = rig.token(1, &acl);
    let info = rig.ask_with(&key, "GET /auth/info", "").result();
    assert_eq!((&info[0]["id"], &info[0]["access"]), (&json!(id), &acl));
    assert_eq!((&info[0]["cid"], info[0].get("key")), (&json!(1), None));
    let fields = rig.ask_with(&key, "GET /auth/info?fields=access", "").result();
    assert_eq!(fields, [json!({"access": acl})]);
}

/// Broker specification, 1.8.
#[test]
fn regions_are_told_to_everybody_by_the_name_they_came_by() {
    let rig = Rig::new();
    let (http, mqtt) = (rig.address().port(), rig.broker.addresses()[1].1.port());
    let answer = send(&mut rig.open(), "GET /auth/regions", &[], b"");
    let want = json!({"region": "local", "default": true, "rest": "http://localhost:80",
        "gw": "localhost", "cdn": "http://localhost:80", "mqtt": format!("localhost:{mqtt}"),
        "mqtt-ws": format!("localhost:{http}")});
    assert_eq!(answer.result(), [want]);
}

/// Broker specification, 7.4.
#[test]
fn dictionaries_are_read_by_name() {
    let rig = Rig::new();
    let request = "GET /const/values?names=toolbox%2Ftopics,toolbox/codes";
    let both = send(&mut rig.open(), request, &[], b"").result();
    let topics = both[0]["toolbox/topics"]["topics"].as_object().unwrap();
    assert!(topics.keys().all(|topic| topic.starts_with("flespi/")));
    assert!(topics.values().all(|topic| topic["description"].is_string()));
    assert!(topics.contains_key("flespi/log/mqtt/sessions/{client-id}/closed"));
    assert!(topics.contains_key("flespi/state/platform/customer/counters/mqtt/sessions"));
    let of_sessions = "flespi/state/mqtt/sessions/{session-id}";
    assert!(!topics.contains_key(of_sessions), "they are not retained");
    let toolbox = &both[0]["toolbox/codes"];
    let codes = toolbox["codes"].as_object().unwrap();
    for (code, of_code) in codes {
        assert_eq!(*code, of_code["code"].to_string());
        let severity = of_code["severity"].as_str().unwrap();
        assert!(["alert", "info", "notice", "warning"].contains(&severity), "{of_code}");
        assert!(of_code["description"].is_string());
        let has_details = of_code["extra_codes"].is_object();
        assert_eq!(of_code["extra_name"].is_string(), has_details, "{of_code}");
    }
    assert_eq!(toolbox["entities"]["base"], json!([1, 2, 3]));
    assert_eq!(toolbox["entities"]["mqtt"][0], 500);
    let listed = toolbox["entities"].as_object().unwrap().values();
    let listed = listed.flat_map(|it| it.as_array().unwrap()).map(Value::to_string);
    assert_eq!(listed.collect::<BTreeSet<_>>(), codes.keys().cloned().collect());
    assert_eq!(codes["503"]["extra_name"], "close_code");
    let of_rest = &codes["1000"]["extra_codes"]["500"];
    assert_eq!(of_rest["severity"], "alert");
    assert_eq!(of_rest["code"], 500);
    for bad in ["", "?names=", "?names=nothing"] {
        let answer = send(&mut rig.open(), &format!("GET /const/values{bad}"), &[], b"");
        assert_eq!(answer.refusal(), (400, 2), "{bad}");
    }
}

/// Broker specification, 14.2.11.
#[test]
fn expressions_are_listed_and_tried() {
    let rig = Rig::new();
    let functions = rig.ask("GET /storage/expressions/functions", "").result();
    assert!(functions.iter().any(|it| it["usage"].as_str().unwrap().starts_with("if(")));
    let rows = [
        (json!({"expression": "a + 1", "input": [{"a": 1}, {"a": 2.5}]}), json!([2, 3.5])),
        (json!({"expression": "'x'", "timezone": "UTC"}), json!(["x"])),
        (json!({"expression": "now() > 1", "input": [{}]}), json!([true])),
    ];
    for (body, want) in rows {
        let answer = rig.ask("POST /storage/expressions/test", body.clone());
        assert_eq!(answer.json(), json!({"result": want}), "{body}");
        assert_eq!(test_by_get(&rig, &body).json(), json!({"result": want}), "{body}");
    }
    let partly = json!({"expression": "1 / a", "input": [{"a": 0}, {"a": 2}]});
    let answer = rig.ask("POST /storage/expressions/test", partly).json();
    assert_eq!(
        (&answer["result"], &answer["errors"][0]["index"]),
        (&json!([null, 0.5]), &json!(0))
    );
    let rows = [
        (json!({"expression": "1 +"}), (400, 3)),
        (json!({"expression": 1}), (400, 3)),
        (json!({}), (400, 3)),
        (json!({"expression": "1", "input": 1}), (400, 3)),
        (json!({"expression": "a"}), (400, 2)),
    ];
    for (body, want) in rows {
        let answer = rig.ask("POST /storage/expressions/test", body.clone());
        assert_eq!(answer.refusal(), want, "{body}");
        assert_eq!(test_by_get(&rig, &body).refusal(), want, "{body}");
    }
}

/// Tries an expression as flespi-io-js does.
fn test_by_get(rig: &Rig, body: &Value) -> Answer {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    let data: String = body.to_string().bytes().map(escape).collect();
    rig.ask(&format!("GET /storage/expressions/test?data={data}"), "")
}

/// Broker specification, 15.3.4.
#[test]
fn what_the_documents_say_is_there() {
    let rig = Rig::new();
    for module in ["mqtt", "platform", "auth", "storage"] {
        let answer = send(&mut rig.open(), &format!("GET /{module}/api.json"), &[], b"");
        let document = answer.json();
        assert!(document["openapi"].as_str().unwrap().starts_with("3."), "{module}");
        for (path, methods) in document["paths"].as_object().unwrap() {
            for method in methods.as_object().unwrap().keys() {
                // A number that nothing has: nothing is done.
                let path = path.replace("{sel}", "999999");
                let answer = rig.ask(&format!("{} {path}", method.to_uppercase()), "");
                let is_there = !answer.body.contains("nothing at this path");
                assert!(is_there && answer.status != 405, "{method} {path}: {answer:?}");
            }
        }
    }
}

#[test]
fn curl_makes_a_token_and_reads_it() {
    let rig = Rig::new();
    let url = |path: &str| format!("http://{}{path}", rig.address());
    let authorization = format!("Authorization: FlespiToken {}", rig.key);
    let curl = |arguments: &[&str]| {
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--max-time", "20", "--header", &authorization])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let tokens = url("/platform/tokens");
    let made = curl(&["--json", "[{\"info\":\"of curl\",\"ttl\":60}]", &tokens]);
    assert_eq!(made["result"][0]["key"].as_str().unwrap().len(), 64);
    // Two requests on one connection.
    let all = url("/platform/tokens/info=of*?fields=info");
    let read = curl(&[
        "--get",
        "--output",
        "/dev/null",
        &url("/auth/info"),
        "--next",
        "--silent",
        "--header",
        &authorization,
        &all,
    ]);
    assert_eq!(read, json!({"result": [{"info": "of curl"}]}));
}
