//! What tokens open of channels, and what another account sees.

use serde_json::{Value, json};

use super::rig::{House, Made, Rig, connect, device, position, say};

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
    let commands = "GET /gw/protocols/teltonika/commands/all";
    assert_eq!(names(commands), ["custom"]);
    let named = rig.result(&format!("{commands}?fields=name"), Value::Null);
    assert_eq!(named, [json!({"name": "custom"})]);
    assert_eq!(names("GET /gw/message-parameters/position.speed,ain"), ["position.speed", "ain"]);
    assert!(names("GET /gw/message-parameters/unit=V").contains(&json!("battery.voltage")));
    assert!(names("GET /gw/message-parameters/all").len() > 70);
    for path in ["message-parameters", "channel-protocols"] {
        let whole = rig.get(&format!("GET /gw/{path}/all"), Value::Null)["result"].clone();
        let part = rig.get(&format!("GET /gw/{path}/all?limit=2&offset=3"), Value::Null);
        assert_eq!(part["result"], json!([whole[3], whole[4]]), "{path}");
        let count = whole.as_array().unwrap().len();
        assert_eq!(part["pagination"], json!({"limit": 2, "offset": 3, "count": count}));
    }
    let paths = rig.get("GET /gw/api.json", Value::Null)["paths"].clone();
    assert!(paths["/gw/channels/{sel}/messages"]["delete"].is_object());
}

/// R3.1: what a channel logs in with, and what devices log in with.
#[test]
fn a_secret_of_a_configuration_is_shown_nowhere_and_kept_sealed() {
    let house = House::new(|_| {});
    let rig = house.start();
    let key = rig.token(&json!([{"uri": "mqtt", "topic": "cars/+", "actions": ["subscribe"]}]));
    let own = json!({"token": key, "topics": ["cars/+"], "ident_level": 1});
    let own = rig.channel("mqtt", json!({"configuration": own}));
    let password = "as-no-other";
    let guarded = json!({"configuration": {"password": password}});
    let guarded = rig.channel("wialon_ips", guarded);
    let patch = |id: u64, fields: Value| rig.get(&format!("PATCH /gw/channels/{id}"), fields);
    let patched = patch(own.id, json!({"configuration": {"path": "it"}}));
    let of_token = json!({"token": "***", "topics": ["cars/+"], "ident_level": 1, "path": "it"});
    assert_eq!(patched["result"][0]["configuration"], of_token);
    let state = format!("flespi/state/gw/channels/{}", own.id);
    let retained = rig.subscribe(&rig.key, &state).next_of(&state);
    assert_eq!(retained["configuration"], of_token);
    let all = ["all", "all?fields=configuration"];
    let all = all.map(|sel| rig.get(&format!("GET /gw/channels/{sel}"), Value::Null));
    let log = rig.log(own.id, 2, 1);
    for shown in [patched, retained, log.into()].iter().chain(&all).map(Value::to_string) {
        let is_hidden = [&key, password, "secrets"].iter().all(|it| !shown.contains(it));
        assert!(is_hidden && shown.contains("***"), "{shown}");
    }
    let (status, answer) = rig.ask("GET /gw/channels/all?fields=secrets", Value::Null);
    assert_eq!(status, 400, "{answer}");
    drop(rig);
    for secret in [&key, password] {
        assert_eq!(house.files_with(secret), [""; 0]);
    }
    assert_ne!(house.files_with("ident_level"), [""; 0], "the rest is there");

    let rig = house.start();
    let greeting = |made: &Made| say(&mut connect(made.address), b"#L#a;as-no-other\r\n", 7);
    assert_eq!(greeting(&guarded), b"#AL#1\r\n", "it is kept over a restart");
    let writer = rig.subscribe(&rig.key, "nothing");
    rig.until("the channel subscribes as before", |rig| {
        let (qos, message) = (rumqttc::QoS::AtLeastOnce, r#"{"it": {"position.speed": 5}}"#);
        writer.client.publish("cars/7", qos, false, message).unwrap();
        rig.pull(own.id, &json!({})).0.pop()
    });
    drop(rig);

    // As earlier versions wrote it.
    let old = json!({"cid": 1, "name": "old", "protocol_id": 4,
        "configuration": {"password": password}});
    house.put_row(guarded.id, old.to_string().as_bytes());
    let rig = house.start();
    assert_eq!(greeting(&guarded), b"#AL#1\r\n");
    rig.get(&format!("PATCH /gw/channels/{}", guarded.id), json!({"name": "new"}));
    assert_eq!(greeting(&guarded), b"#AL#1\r\n");
    drop(rig);
    let row = String::from_utf8(house.put_row(guarded.id, b"{}")).unwrap();
    assert!(row.contains("new") && !row.contains(password), "{row}");
}
