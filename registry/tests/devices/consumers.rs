//! Several consumers of a device, by MQTT and by REST, each with what its token opens.

use serde_json::{Value, json};

use super::hub::{Place, next};

/// R2.24: topics of devices follow from what a token opens of REST, for some of them or all.
#[test]
fn a_token_of_one_device_hears_and_reads_that_alone() {
    let place = Place::new();
    let hub = place.open();
    let (mine, other) = (hub.device("mine", "1"), hub.device("other", "2"));
    let submodules = |names: &[&str]| {
        let all = names.iter().map(|name| json!({"name": name, "methods": ["GET"]}));
        let submodules: Vec<_> = all.collect();
        let entry = json!({"uri": "gw/devices", "methods": ["GET"], "ids": [mine],
            "submodules": submodules});
        hub.rig.token(1, &json!({"type": 2, "acl": [entry]})).1
    };
    let (all, bare) = (submodules(&["messages", "telemetry", "logs"]), submodules(&[]));
    let mut messages = hub.listen(&all, "flespi/message/gw/devices/+");
    let mut second = hub.listen_all(&format!("flespi/message/gw/devices/{mine}"));
    let mut telemetry = hub.listen(&all, "flespi/state/gw/devices/+/telemetry/n");
    let mut nothing = hub.listen(&bare, "flespi/state/gw/devices/#");
    nothing.messages();
    for (ident, n) in [("2", 0), ("1", 1)] {
        hub.say(ident, json!({"n": n}));
    }
    hub.telemetry(mine, "n", json!(1));
    hub.telemetry(other, "n", json!(0));
    assert_eq!(next(&mut messages).0, format!("flespi/message/gw/devices/{mine}"));
    assert_eq!(next(&mut second).0, format!("flespi/message/gw/devices/{mine}"));
    assert_eq!(next(&mut telemetry).0, format!("flespi/state/gw/devices/{mine}/telemetry/n"));
    assert_eq!((messages.messages(), telemetry.messages()), (vec![], vec![]));
    assert!(nothing.messages().iter().all(|it| !it.contains("telemetry")));

    let ask = |key: &str, request: String| hub.rig.ask_with(key, &request, "");
    let ids = |answer: &super::client::Answer| answer.ids();
    assert_eq!(ids(&ask(&all, "GET /gw/devices/all".into())), [mine]);
    assert_eq!(ids(&ask(&all, "GET /gw/devices/all/telemetry".into())), [mine]);
    assert_eq!(ask(&all, format!("GET /gw/devices/{mine}/messages")).result()[0]["n"], 1);
    for path in [format!("{other}/messages"), format!("{other}/telemetry/n")] {
        assert_eq!(ask(&all, format!("GET /gw/devices/{path}")).refusal(), (403, 5), "{path}");
    }
    for path in ["messages", "telemetry", "logs", "settings/all", "connections/all", "packets"] {
        let answer = ask(&bare, format!("GET /gw/devices/{mine}/{path}"));
        assert_eq!(answer.refusal(), (403, 5), "{path}");
    }
    assert_eq!(ask(&all, format!("DELETE /gw/devices/{mine}/messages")).refusal(), (403, 5));
    let posted = hub.rig.ask_with(&all, &format!("POST /gw/devices/{mine}/commands"), json!({}));
    assert_eq!(posted.refusal(), (403, 5));
}

/// R4.20, R8.6, chapter 7: who is connected, and since when.
#[test]
fn connections_of_channels_are_those_of_their_devices() {
    let place = Place::new();
    let hub = place.open();
    let id = hub.device("d", "1");
    let topic = |name: &str| format!("flespi/state/gw/devices/{id}/{name}");
    let mut states = hub.listen_all(&topic("connections/+"));
    let mut connected = hub.listen_all(&topic("connected"));
    assert_eq!(next(&mut connected).1, "false", "it is told before there is any");
    hub.connect(5, "1", true);
    let (at, text, ..) = next(&mut states);
    let want = json!({"channel_id": 7, "device_id": id, "established": 1_700_000_000.5, "id": 5,
        "ident": "1", "meta": null, "secondary": false, "source": "10.0.0.1:5",
        "transport": "tcp"});
    assert_eq!(
        (at, serde_json::from_str::<Value>(&text).unwrap()),
        (topic("connections/5"), want.clone())
    );
    assert_eq!(next(&mut connected).1, "true");
    assert_eq!(hub.get(&format!("/gw/devices/{id}/connections/all")), [want]);
    // Another device gets the ident, and so the connection.
    hub.ask(&format!("PUT /gw/devices/{id}"), json!({"configuration": {"ident": "2"}}));
    assert_eq!((next(&mut states).1, next(&mut connected).1), (String::new(), "false".into()));
    hub.ask(&format!("PUT /gw/devices/{id}"), json!({"configuration": {"ident": "1"}}));
    assert_eq!(next(&mut connected).1, "true");
    hub.connect(6, "1", true);
    hub.connect(5, "1", false);
    let ids = |all: &[Value]| all.iter().map(|it| it["id"].clone()).collect::<Vec<_>>();
    let path = format!("/gw/devices/{id}/connections/all");
    hub.until(&path, |all| ids(all) == [json!(6)]);
    assert_eq!(hub.get(&format!("/gw/devices/{id}?fields=connected"))[0]["connected"], true);
    let one = json!([{"id": 6}]);
    for chosen in ["6", "ident=1", "established>1600000000", "{transport == \"tcp\"}", "id=6"] {
        let chosen = chosen.replace('{', "%7B").replace('}', "%7D").replace(' ', "%20");
        let path = format!("/gw/devices/{id}/connections/{chosen}?fields=id");
        assert_eq!(Value::from(hub.get(&path)), one, "{chosen}");
    }
    let path_of = |which: &str| format!("/gw/devices/{id}/connections/{which}?fields=id");
    assert_eq!(hub.get(&path_of("ident=2")), [] as [Value; 0]);
    let partly = hub.rig.ask(&format!("GET {}", path_of("6,9")), "");
    assert_eq!((partly.status, &partly.json()["result"]), (200, &one));
    let errors = &partly.json()["errors"];
    assert_eq!((&errors[0]["id"], &errors[0]["code"]), (&json!(9), &json!(6)));
    for method in ["GET", "DELETE"] {
        let none = hub.rig.ask(&format!("{method} {}", path_of("9")), "");
        assert_eq!(none.refusal(), (404, 6), "{method}");
    }
    let ended = json!({"close_code": 17, "duration": 600, "msgs": 1, "recv": 32, "send": 4});
    hub.end(6, &ended);
    assert_eq!(next(&mut connected).1, "false");
    let codes = |all: &[Value]| {
        let codes = all.iter().map(|it| it["event_code"].as_u64().unwrap());
        codes.filter(|code| *code >= 300).collect::<Vec<_>>()
    };
    let logs = hub.until(&format!("/gw/devices/{id}/logs"), |all| codes(all).len() == 6);
    assert_eq!(codes(&logs), [300, 301, 300, 300, 301, 301]);
    let last = logs.iter().rfind(|it| it["event_code"] == 301).unwrap();
    let names = ended.as_object().unwrap();
    assert!(names.iter().all(|(name, value)| last[name] == *value), "{last}");
    drop((states, connected));

    // A process that is killed leaves states that are no longer so.
    hub.connect(8, "1", true);
    hub.until(&path, |all| ids(all) == [json!(8)]);
    drop(hub);
    let hub = place.open();
    hub.connect(8, "1", false);
    hub.until_retained(&topic("#"), |all| {
        all.keys().all(|it| !it.contains("/connections/"))
            && all.get(&topic("connected")).is_some_and(|it| it == "false")
    });
}

/// R4.1, R4.20: 23 for a device that is disabled, 10 where somebody asks for it.
#[test]
fn channels_are_told_to_close_what_is_deleted_and_who_is_disabled() {
    let place = Place::new();
    let hub = place.open();
    let id = hub.device("d", "1");
    let mut told = hub.listen_all("flespi/command/gw/channels/7/+");
    let path = format!("/gw/devices/{id}/connections");
    for connection in [5, 6] {
        hub.connect(connection, "1", true);
    }
    hub.until(&format!("{path}/all"), |all| all.len() == 2);
    let delete = |which: &str| hub.ask(&format!("DELETE {path}/{which}"), Value::Null);
    assert_eq!(delete("6"), [6], "R2.19");
    let close = |connection: u64, code: u64| {
        (format!("flespi/command/gw/channels/7/{connection}"), json!({"close": code}).to_string())
    };
    let mut next = || {
        let (topic, text, ..) = next(&mut told);
        (topic, text)
    };
    assert_eq!(next(), close(6, 10));
    hub.connect(6, "1", false);
    hub.until(&format!("{path}/all"), |all| all.len() == 1);
    hub.ask(&format!("PUT /gw/devices/{id}"), json!({"enabled": false}));
    assert_eq!(next(), close(5, 23));
    hub.connect(5, "1", false);
    hub.connect(7, "1", true);
    assert_eq!(next(), close(7, 23), "it is not let in either");
}
