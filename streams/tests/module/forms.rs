//! Streams as REST has them, in the forms of 2018 and of today.

use serde_json::{Value, json};

use super::rig::{Hub, local, of_channel, of_device, received, stream, until};

/// R6.1, R6.2.
#[test]
fn a_stream_is_checked_when_it_is_sent() {
    let hub = Hub::new();
    let hubs = hub.start(local());
    let http = json!({"uri": "http://example.com/"});
    let rows = [
        (json!({"configuration": http}), "protocol_id"),
        (json!({"protocol_id": 99, "configuration": http}), "protocol_id"),
        (json!({"configuration": {"protocol": "x"}}), "configuration.protocol"),
        (json!({"protocol_id": 1}), "configuration"),
        (json!({"protocol_id": 1, "configuration": {}}), "configuration.uri"),
        (
            json!({"protocol_id": 1, "configuration": {"uri": "http://a/", "no": 1}}),
            "configuration.no",
        ),
        (
            json!({"protocol_id": 2, "configuration": {"uri": "a:1", "topics": ["t"],
                "ssl": true, "certificate": "x", "private_key": "y"}}),
            "configuration.certificate",
        ),
        (json!({"protocol_id": 1, "configuration": http, "queue_ttl": 864_001}), "queue_ttl"),
        (json!({"protocol_id": 1, "configuration": http, "name": "a".repeat(256)}), "name"),
        (json!({"protocol_id": 1, "configuration": http, "name": "\u{e9}".repeat(256)}), "name"),
        (
            json!({"protocol_id": 1, "configuration": http, "validate_message": "a >"}),
            "validate_message",
        ),
        (
            json!({"protocol_id": 1, "configuration": http, "convert_message": {"keys": "x"}}),
            "convert_message.keys",
        ),
        (json!({"protocol_id": 1, "configuration": http, "secrets": {}}), "secrets"),
    ];
    for (sent, field) in rows {
        let answer = hubs.rig.ask("POST /gw/streams", json!([sent]));
        assert_eq!(answer.json()["errors"][0]["field"], field, "{answer:?}");
    }
    let long = json!({"protocol_id": 1, "configuration": http, "name": "\u{e9}".repeat(255)});
    hubs.rig.ask("POST /gw/streams", long).result();
    let sent = json!([{"configuration": {"protocol": "http", "uri": "http://example.com/"}}]);
    let made = hubs.rig.ask("POST /gw/streams", sent).result();
    let want = json!({"id": made[0]["id"], "cid": 1, "name": "", "enabled": true,
        "queue_ttl": 86_400, "packets_ttl": 0, "protocol_id": 1,
        "validate_message": "", "convert_message": null,
        "configuration": {"protocol": "http", "uri": "http://example.com/"}, "metadata": {},
        "queue_size": 0, "connected": false, "blocked": 0});
    assert_eq!(made, [want]);
    let other = json!({"protocol_id": 3, "configuration": {"uri": "example.com:1"}});
    let put = hubs.rig.ask("PUT /gw/streams/all", other);
    assert_eq!(put.json()["errors"][0]["field"], "protocol_id", "{put:?}");
}

/// R6.2.
#[test]
fn protocols_are_listed_with_the_schema_of_their_configurations() {
    let hub = Hub::new();
    let hubs = hub.start(local());
    let get = |path: &str| hubs.rig.ask(&format!("GET {path}"), "");
    let all = get("/gw/stream-protocols/all?fields=name,id").result();
    assert_eq!(all[0], json!({"id": 1, "name": "http"}));
    assert_eq!(all.len(), 5);
    let one = get("/registry/stream-protocols/name=mqtt").result();
    assert_eq!(one[0]["configuration"]["properties"]["password"]["writeOnly"], true);
    assert_eq!(get("/gw/stream-protocols/2").ids(), [2]);
    assert_eq!(get("/gw/stream-protocols/77").refusal(), (404, 6));
    let paths = get("/gw/api.json").json()["paths"].clone();
    assert!(paths["/gw/streams/{sel}/devices/{devices}"]["put"].is_object());
}

/// R0.2, R0.3, R6.6, R8.7.
#[test]
fn subscriptions_of_2018_are_the_links_of_today() {
    let hub = Hub::new();
    let platform = hub.platform(&[]);
    let hubs = hub.start(local());
    let ask = |request: &str, body: Value| hubs.rig.ask(request, body).result();
    let made = ask("POST /registry/streams", json!([stream(platform.address)]));
    let id = made[0]["id"].as_u64().unwrap();
    let path = format!("/registry/streams/{id}/subscriptions");
    let made = ask(&format!("POST {path}"), json!([{"channel_id": 7}, {"device_id": 3}]));
    let want = [
        json!({"id": 1, "stream_id": id, "channel_id": 7, "device_id": 0}),
        json!({"id": 2, "stream_id": id, "channel_id": 0, "device_id": 3}),
    ];
    assert_eq!(made, want);
    for bad in [json!([{}]), json!([{"channel_id": 1, "device_id": 1}]), json!([{"device_id": -1}])]
    {
        assert_eq!(hubs.rig.ask(&format!("POST {path}"), bad).refusal(), (400, 3));
    }
    let gw = format!("/gw/streams/{id}");
    let get = |path: &str| hubs.rig.ask(&format!("GET {gw}/{path}"), "");
    assert_eq!(get("devices/all").result(), [json!({"stream_id": id, "device_id": 3})]);
    assert_eq!(get("channels/7").result(), [json!({"stream_id": id, "channel_id": 7})]);
    assert_eq!(get("channels/8").refusal(), (404, 6));
    assert_eq!(get("subscriptions/device_id=3").result(), want[1..]);
    let put = ask(&format!("PUT {path}/1"), json!({"channel_id": 8}));
    assert_eq!(put[0]["channel_id"], 8);
    assert_eq!(hubs.rig.ask(&format!("POST {gw}/channels/all"), "").refusal(), (400, 2));
    assert_eq!(ask(&format!("PUT {gw}/devices/4"), json!({})).len(), 1);
    hubs.say(&[of_channel(7, "x", 1), of_device(4, 1, "d", 2), of_device(3, 1, "e", 3)]);
    until(|| received(&platform).len() >= 2);
    assert_eq!(received(&platform), [(2, Some(4)), (3, Some(3))]);
    assert_eq!(ask(&format!("DELETE {path}/all"), json!({})), [1, 2, 3], "R2.19");
    let want = [410, 410, 411, 410, 412, 412, 412];
    hubs.log_with(id, |log| {
        let codes = log.iter().map(|it| it["event_code"].as_u64().unwrap());
        codes.filter(|code| *code >= 410).eq(want)
    });
}
