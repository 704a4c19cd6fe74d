//! What may be sent: a name that is mistyped is told, and nothing is done.

use serde_json::{Value, json};

use super::client::{Answer, Rig};

/// The field that an answer names, whose reason names it too and lists `known`.
fn named(answer: &Answer, known: &str) -> String {
    assert_eq!(answer.refusal(), (400, 3), "{answer:?}");
    let error = answer.json()["errors"][0].clone();
    let (field, reason) = (error["field"].as_str().unwrap(), error["reason"].as_str().unwrap());
    assert!(reason.starts_with(&format!("{field}: ")) && reason.contains(known), "{reason}");
    field.to_owned()
}

/// Broker specification, 15.1.2 and 15.1.4; of the modules: R2.15.
#[test]
fn a_field_that_is_none_is_refused_and_those_that_are_there_are_listed() {
    let rig = Rig::new();
    let child = rig.account(1);
    let limit = rig.ask("POST /platform/limits", json!({"name": "l"})).ids()[0];
    let token = rig.token(1, &json!({"type": 0})).0;
    rig.ask("POST /mqtt/sessions", json!({"client_id": "c"})).result();
    let subscriptions = "POST /mqtt/sessions/client_id=c/subscriptions";
    rig.ask(subscriptions, json!({"topic": "a"})).result();
    let rows = [
        ("POST /platform/limits", "mqtt_sesions", "mqtt_sessions, "),
        (&*format!("PUT /platform/limits/{limit}"), "mqtt_sesions", "mqtt_sessions, "),
        (&*format!("PATCH /platform/limits/{limit}"), "metdata", "metadata, "),
        ("POST /platform/tokens", "tll", "ttl, "),
        ("POST /platform/customer/tokens", "tll", "ttl, "),
        (&*format!("PUT /platform/tokens/{token}"), "key", "info, "),
        (&*format!("PATCH /platform/tokens/{token}"), "cid", "info, "),
        ("POST /platform/subaccounts", "limit", "limit_id, "),
        (&*format!("PUT /platform/subaccounts/{child}"), "blocked", "limit_id, "),
        ("PUT /platform/customer", "naem", "name, metadata"),
        ("PATCH /platform/customer", "counters", "name, metadata"),
        ("POST /mqtt/sessions", "clean", "client_id, expiry_interval"),
        (subscriptions, "nolocal", "no_local, "),
        (&*subscriptions.replace("POST", "PUT").replace("tions", "tions/all"), "Qos", "qos, "),
        ("POST /mqtt/messages", "retain", "retained, "),
        ("POST /mqtt/messages", "subscribed", "retained, "),
        ("POST /storage/expressions/test", "inputs", "expression, input, timezone"),
    ];
    for (request, name, known) in rows {
        let mut body = json!({});
        body[name] = json!(7);
        assert_eq!(named(&rig.ask(request, body), known), name, "{request}");
    }
    let limits = rig.ask("GET /platform/limits/all", "").result();
    assert_eq!((limits.len(), limits[0].get("mqtt_sesions")), (1, None));
    let partly = json!([{"name": "a"}, {"naem": "b"}, 7, {"name": "c"}, {"name": 1}]);
    let answer = rig.ask("POST /platform/limits", partly);
    assert_eq!((answer.status, answer.ids().len()), (200, 2));
    let at = |at: usize| answer.json()["errors"][at]["index"].clone();
    assert_eq!([at(0), at(1), at(2)], [1, 2, 4], "in the order in which they were sent");
}

/// Broker specification, 4.9: what lists no objects opens all of them.
#[test]
fn an_entry_of_a_token_with_a_mistyped_field_opens_nothing() {
    let rig = Rig::new();
    let devices = |name: &str, value: Value| {
        let mut entry = json!({"uri": "gw/devices", "methods": ["GET"]});
        entry[name] = value;
        json!([{"uri": "mqtt", "methods": ["GET"]}, entry])
    };
    let submodule = json!([{"name": "logs", "method": ["GET"]}]);
    let rows = [
        (json!({"access": {"typ": 1}}), "access.typ"),
        (json!({"access": {"type": 2, "acl": devices("id", json!([5]))}}), "access.acl[1].id"),
        (json!({"flags": 2, "acl": devices("id", json!([5]))}), "acl[1].id"),
        (
            json!({"access": {"type": 2, "acl": devices("submodules", submodule)}}),
            "access.acl[1].submodules[0].method",
        ),
    ];
    for (mut body, field) in rows {
        for request in ["PUT /platform/tokens/1", "PATCH /platform/tokens/1"] {
            named(&rig.ask(request, body.clone()), "there are ");
        }
        body["ttl"] = json!(60);
        assert_eq!(named(&rig.ask("POST /platform/tokens", body), "there are "), field);
    }
    assert_eq!(rig.ask("GET /platform/tokens/all", "").ids(), [1]);
}

/// Broker specification, 15.3.3 and 17.3: clients of Go read an object and send it back, and set
/// all bounds that flespi has.
#[test]
fn what_clients_of_flespi_send_is_taken() {
    let rig = Rig::new();
    let bounds = json!({"name": "l", "description": "d", "blocking_duration": 60, "api_calls": 20,
        "channels_count": 1, "device_media_storage": 2, "identity_providers_count": 3,
        "plugin_buffered_messages": 4, "calcs_storage": 5, "metadata": {"a": "b"}});
    let made = rig.ask("POST /platform/limits", bounds).result()[0].clone();
    assert_eq!((&made["channels_count"], &made["calcs_storage"]), (&json!(1), &json!(5)));
    let token = rig.token(1, &json!({"type": 0})).0;
    let child = rig.account(1);
    for (kind, id) in [("limits", made["id"].as_u64().unwrap()), ("tokens", token)] {
        let path = format!("/platform/{kind}/{id}");
        let body = json!({"cid": 1, "metadata": {"c": "d"}});
        let changed = rig.ask(&format!("PUT {path}"), body).result();
        assert_eq!((&changed[0]["cid"], &changed[0]["metadata"]["c"]), (&json!(1), &json!("d")));
        let moved = rig.ask(&format!("PUT {path}"), json!({"cid": child}));
        assert_eq!(named(&moved, "metadata, "), "cid", "{kind} stay with their account");
    }
}
