//! What tokens open of channels, and what another account sees.

use serde_json::{Value, json};

use super::rig::{Rig, device, position};

/// R2.24; topics follow from the rights in REST.
#[test]
fn a_token_for_one_channel_reads_that_one_alone() {
    let (_house, rig) = Rig::new();
    let [one, two] = [0, 1].map(|_| rig.channel("wialon_ips", json!({})));
    let messages = json!([{"name": "messages", "methods": ["GET"]}]);
    let key = rig.token(&json!([{"uri": "gw/channels", "methods": ["GET"], "ids": [one.id],
        "submodules": messages}]));
    let heard = rig.subscribe(&key, "flespi/message/gw/channels/#");
    for channel in [&two, &one] {
        position(&mut device(channel.address, "a"));
    }
    let (topic, _) = heard.next();
    assert_eq!(topic, format!("flespi/message/gw/channels/{}/a", one.id));
    assert!(heard.is_silent());
    let ask = |request: &str, data: Value| rig.ask_with(&key, request, &data);
    let read = |id: u64, data: Value| ask(&format!("GET /gw/channels/{id}/messages"), data);
    let (status, answer) = read(one.id, json!({}));
    assert_eq!((status, answer["result"].as_array().unwrap().len()), (200, 1));
    assert_eq!(read(two.id, json!({})).0, 403);
    let key_read = answer["next_key"].clone();
    let data = json!({"curr_key": key_read, "delete": true});
    assert_eq!(read(one.id, data).0, 403, "reading is no deletion");
    let path = format!("/gw/channels/{}", one.id);
    assert_eq!(ask(&format!("DELETE {path}/messages"), json!({"delete_key": key_read})).0, 403);
    assert_eq!(ask(&format!("GET {path}/connections/all"), Value::Null).0, 403);
    assert_eq!(ask(&format!("GET {path}/logs"), Value::Null).0, 403);
    assert_eq!(ask("GET /gw/channels/all", Value::Null).1["result"][0]["id"], one.id);
}

/// R1.11, R3.20, R0.5.
#[test]
fn what_the_hub_speaks_is_listed() {
    let (_house, rig) = Rig::new();
    let names = |request: &str| -> Vec<Value> {
        rig.result(request, Value::Null).iter().map(|it| it["name"].clone()).collect()
    };
    for path in ["channel-protocols", "protocols"] {
        assert_eq!(names(&format!("GET /gw/{path}/all")).len(), 6);
        assert_eq!(names(&format!("GET /gw/{path}/teltonika,http")), ["teltonika", "http"]);
        assert_eq!(names(&format!("GET /gw/{path}/14?fields=name,id,features")), ["teltonika"]);
        assert_eq!(names(&format!("GET /gw/{path}/name=wialon*")).len(), 2);
        assert_eq!(rig.ask(&format!("GET /gw/{path}/nothing"), Value::Null).0, 404);
    }
    assert_eq!(names("GET /gw/protocols/teltonika/commands/all"), ["custom"]);
    assert_eq!(names("GET /gw/message-parameters/position.speed,ain"), ["position.speed", "ain"]);
    assert!(names("GET /gw/message-parameters/unit=V").contains(&json!("battery.voltage")));
    assert!(names("GET /gw/message-parameters/all").len() > 70);
    let paths = rig.get("GET /gw/api.json", Value::Null)["paths"].clone();
    assert!(paths["/gw/channels/{sel}/messages"]["delete"].is_object());
}
