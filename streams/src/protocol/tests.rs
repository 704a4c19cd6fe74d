//! Configurations, taken and refused.

use super::*;

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

/// R6.2: numbers that users keep in their scripts.
#[test]
fn numbers_and_names_of_protocols_never_change() {
    let found = Protocol::ALL.map(|it| (it.id(), it.name()));
    let fixed =
        [(1, "http"), (2, "mqtt"), (3, "wialon_retranslator"), (4, "aws_iot"), (5, "thingsboard")];
    assert_eq!(found, fixed);
}

/// R6.2.
#[test]
fn a_protocol_is_told_by_number_or_as_in_2018() {
    let of = |id, configuration: Value| Protocol::of(id, &object(&configuration));
    assert_eq!(of(Some(3), json!({})), Ok(Protocol::WialonRetranslator));
    assert_eq!(of(None, json!({"protocol": "aws_iot"})), Ok(Protocol::AwsIot));
    assert_eq!(of(Some(1), json!({"protocol": "aws_iot"})), Ok(Protocol::Http));
    assert_eq!(of(Some(9), json!({})).unwrap_err().field, "protocol_id");
    assert_eq!(of(None, json!({})).unwrap_err().field, "protocol_id");
    let error = of(None, json!({"protocol": "ftp"})).unwrap_err();
    assert_eq!(error.field, "configuration.protocol");
    assert!(error.text.contains("3 (wialon_retranslator)"), "{error}");
}

/// R6.19, R6.22, R6.24, R6.25, R6.28.
#[test]
fn what_a_protocol_needs_is_enough() {
    let rows = [
        (Protocol::Http, json!({"protocol": "http", "uri": "https://example.com/in?a=1"})),
        (Protocol::Http, json!({"uri": "http://[2001:db8::1]:80", "headers": {"X-Key": "1"}})),
        (Protocol::Mqtt, json!({"uri": "iot.example.com:1883", "topics": ["a/%ident%"]})),
        (Protocol::WialonRetranslator, json!({"uri": "193.193.165.165:20163", "ident": null})),
        (
            Protocol::AwsIot,
            json!({
                "endpoint": "abc-ats.iot.eu-west-1.amazonaws.com",
                "certificate": "x", "private_key": "y", "mqtt_topic": "%ident%",
            }),
        ),
        (Protocol::Thingsboard, json!({"access_token": "A1_TEST"})),
    ];
    for (protocol, configuration) in rows {
        let read = protocol.configure(&object(&configuration)).unwrap();
        assert_eq!(read.batch_messages(), 1_000, "{configuration}");
    }
}

#[test]
fn a_field_that_cannot_be_taken_is_named() {
    let http = |it: Value| (Protocol::Http, it);
    let mqtt = |it: Value| (Protocol::Mqtt, it);
    let long = "x".repeat(256);
    let eleven: Map<_, _> = (0..11).map(|at| (format!("X-{at}"), json!("1"))).collect();
    let rows = [
        ("uri", http(json!({}))),
        ("uri", http(json!({"uri": "example.com"}))),
        ("uri", http(json!({"uri": "ftp://example.com"}))),
        ("uri", http(json!({"uri": "http://user:password@example.com"}))),
        ("uri", http(json!({"uri": format!("http://{long}")}))),
        ("url", http(json!({"uri": "http://a", "url": "http://a"}))),
        ("headers", http(json!({"uri": "http://a", "headers": []}))),
        ("headers", http(json!({"uri": "http://a", "headers": {"a b": "1"}}))),
        ("headers", http(json!({"uri": "http://a", "headers": {"a": "1\r\nb: 2"}}))),
        ("headers", http(json!({"uri": "http://a", "headers": {"Content-Length": "1"}}))),
        ("headers", http(json!({"uri": "http://a", "headers": eleven}))),
        ("limit_messages", http(json!({"uri": "http://a", "limit_messages": 0}))),
        ("limit_messages", http(json!({"uri": "http://a", "limit_messages": 10_001}))),
        ("limit_messages", http(json!({"uri": "http://a", "limit_messages": 1.5}))),
        ("ident", http(json!({"uri": "http://a", "ident": ""}))),
        ("topics", mqtt(json!({"uri": "a:1"}))),
        ("topics", mqtt(json!({"uri": "a:1", "topics": []}))),
        ("topics", mqtt(json!({"uri": "a:1", "topics": "a"}))),
        ("topics", mqtt(json!({"uri": "a:1", "topics": [long]}))),
        ("ssl", mqtt(json!({"uri": "a:1", "topics": ["a"], "ssl": "yes"}))),
        ("ssl", mqtt(json!({"uri": "a:1", "topics": ["a"], "certificate": "x"}))),
        ("username", mqtt(json!({"uri": "a:1", "topics": ["a"], "password": "x"}))),
        ("uri", (Protocol::WialonRetranslator, json!({"uri": "http://a:1"}))),
        ("uri", (Protocol::WialonRetranslator, json!({"uri": "a"}))),
        (
            "mqtt_topic",
            (Protocol::AwsIot, json!({"endpoint": "a", "certificate": "x", "private_key": "y"})),
        ),
        ("endpoint", (Protocol::AwsIot, json!({"endpoint": "https://a"}))),
        ("access_token", (Protocol::Thingsboard, json!({"uri": "a:1883"}))),
    ];
    for (field, (protocol, configuration)) in rows {
        let error = protocol.configure(&object(&configuration)).unwrap_err();
        assert_eq!(error.field, field, "{configuration}: {error}");
        assert!(!error.to_string().contains("password@"), "{error}");
    }
}

#[test]
fn secrets_are_kept_apart_and_never_shown() {
    let whole = object(&json!({
        "uri": "a:1", "topics": ["a"], "ssl": true, "username": "u", "password": "hush",
        "certificate": "hush", "private_key": "hush",
    }));
    let mut shown = whole.clone();
    let sealed = Protocol::Mqtt.take_secrets(&mut shown);
    assert_eq!(sealed.keys().collect::<Vec<_>>(), ["certificate", "password", "private_key"]);
    assert!(!json!(shown).to_string().contains("hush"), "{shown:?}");
    let read = Protocol::Mqtt.configure(&whole).unwrap();
    assert!(!format!("{read:?}").contains("hush"), "{read:?}");
    shown.extend(sealed);
    assert_eq!(shown, whole);

    for (protocol, name) in [
        (Protocol::Http, "headers"),
        (Protocol::AwsIot, "private_key"),
        (Protocol::AwsIot, "certificate"),
        (Protocol::Thingsboard, "access_token"),
    ] {
        let mut shown = object(&json!({name: "hush"}));
        let _ = protocol.take_secrets(&mut shown);
        assert_eq!(shown, Map::new(), "{name}");
    }
}

/// R6.2: what a user interface draws a form from.
#[test]
fn a_protocol_describes_its_configuration() {
    let described = Protocol::Thingsboard.describe();
    assert_eq!(described["id"], 5);
    assert_eq!(described["configuration"]["required"], json!(["access_token"]));
    let token = &described["configuration"]["properties"]["access_token"];
    assert_eq!(token["writeOnly"], true);
    assert_eq!(token["maxLength"], 255);
    for protocol in Protocol::ALL {
        let described = protocol.describe();
        for (name, field) in described["configuration"]["properties"].as_object().unwrap() {
            assert!(field["type"].is_string() && field["title"].is_string(), "{name}");
        }
    }
}
