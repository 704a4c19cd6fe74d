//! Settings: a shadow of what a device is set to.

use serde_json::{Value, json};

use super::hub::{Place, SILENT, Script, encoded, next};

/// A device that has an APN, and takes another but for a bad one.
const TRACKER: Script = |command| {
    let text = command["properties"]["text"].as_str().unwrap();
    let answer = |text: &str| vec![json!({"status": "answered", "response": text})];
    match text {
        "getparam 2001" => answer("Param ID:2001 Value:internet"),
        "setparam 2001:bad" => vec![json!({"status": "failed", "error": "refused"})],
        text if text.starts_with("setparam") => answer("New value"),
        _ => answer("unknown"),
    }
};

fn values(setting: &Value) -> (Value, Value) {
    (setting["current"].clone(), setting["pending"].clone())
}

/// R5.7, R5.8, R5.9, R2.10.
#[test]
fn a_value_waits_for_the_device_and_is_current_once_it_says_so() {
    let place = Place::new();
    let hub = place.start(|_| {}, TRACKER);
    let id = hub.device("d", "1");
    let path = format!("/gw/devices/{id}/settings");
    let all = hub.get(&format!("{path}/all"));
    assert_eq!(all.len(), 4);
    let want = json!({"name": "apn_name", "device_id": id, "updated": 0.0, "current": null,
        "pending": null, "address": "connection", "mode": 3, "status": "unknown", "tab": "",
        "schema": {"type": "string", "title": "Name of the access point"}});
    assert_eq!(all[0], want);
    let part = hub.rig.ask(&format!("GET {path}/all?limit=1&offset=2"), "").json();
    assert_eq!(part["result"], json!([all[2]]));
    assert_eq!(part["pagination"], json!({"limit": 1, "offset": 2, "count": 4}), "R2.10");
    let put = |value: &str| {
        hub.ask(&format!("PUT {path}/apn_name"), json!({"properties": value, "ttl": 600}))
    };
    assert_eq!(values(&put("first")[0]), (Value::Null, json!("first")));
    assert_eq!(values(&put("fleet")[0]), (Value::Null, json!("fleet")), "the last one counts");
    let mut state = hub.listen_all(&format!("flespi/state/gw/devices/{id}/settings/apn_name"));
    assert!(next(&mut state).1.contains("\"pending\":\"fleet\""));
    hub.connect(5, "1", true);
    let is_set = |all: &[Value]| values(&all[0]) == (json!("fleet"), Value::Null);
    hub.until(&format!("{path}/apn*"), is_set);
    assert!(next(&mut state).1.contains("\"current\":\"fleet\""));
    put("bad");
    hub.until(&format!("{path}/apn_name"), is_set);
    // The device is asked anew, and says what it has.
    hub.ask(&format!("DELETE {path}/apn_name"), Value::Null);
    hub.until(&format!("{path}/apn_name"), |all| all[0]["current"] == "internet");
    hub.events(id, &[310, 311, 312, 313, 315, 317]);
    assert_eq!(
        hub.get(&format!("/gw/devices/{id}?fields=settings"))[0]["settings"]["apn_name"]["current"],
        "internet"
    );
}

/// R5.8.
#[test]
fn a_value_is_taken_back_or_kept_here_alone() {
    let place = Place::new();
    let hub = place.start(|_| {}, SILENT);
    let id = hub.device("d", "1");
    let path = format!("/gw/devices/{id}/settings");
    hub.ask(&format!("PUT {path}/server_port"), json!({"properties": 5_027}));
    let data = json!({"pending": true});
    let taken = hub.ask(&format!("DELETE {path}/server_port?data={}", encoded(&data)), Value::Null);
    assert_eq!(values(&taken[0]), (Value::Null, Value::Null));
    let local = json!({"address": "local", "properties": {"any": ["thing"]}});
    hub.ask(&format!("PUT {path}/note"), local);
    drop(hub);
    let hub = place.open();
    let kept = &hub.get(&format!("{path}/note"))[0];
    assert_eq!(
        (values(kept), &kept["address"]),
        ((json!({"any": ["thing"]}), Value::Null), &json!("local"))
    );
    hub.events(id, &[311, 314]);
    for (name, wrong) in [
        ("note", json!({"properties": 1})),
        ("apn_name", json!({})),
        ("apn_name", json!({"properties": "two\nlines"})),
        ("apn_name", json!({"properties": {"a": 1}})),
        ("apn_name", json!({"properties": "a", "ttl": 1})),
        ("apn_name", json!({"properties": "a", "address": "sms"})),
        ("apn_name", json!({"properties": "a".repeat(5_000)})),
        ("apn_name", json!({"properties": "a", "adress": "local"})),
        ("a*", json!({"properties": "a", "address": "local"})),
        ("all", json!({"properties": "a", "address": "local"})),
    ] {
        let answer = hub.rig.ask(&format!("PUT {path}/{name}"), wrong.clone());
        assert_eq!(answer.refusal(), (400, 3), "{name}: {wrong}");
    }
    for wrong in [json!({"pendng": true}), json!({"pending": "yes"})] {
        let request = format!("DELETE {path}/note?data={}", encoded(&wrong));
        assert_eq!(hub.rig.ask(&request, "").refusal(), (400, 3), "{wrong}");
    }
    let names = hub.get(&format!("{path}/n*?fields=name,current"));
    assert_eq!(names, [json!({"name": "note", "current": {"any": ["thing"]}})]);
}

/// R5.8, 9: a limit of our own.
#[test]
fn settings_that_are_kept_here_alone_are_bounded_and_can_be_removed() {
    let place = Place::new();
    let hub = place.start(|limits| limits.settings_per_device = 2, SILENT);
    let id = hub.device("d", "1");
    let path = format!("/gw/devices/{id}/settings");
    let local = json!({"address": "local", "properties": 1});
    let put = |name: &str| hub.rig.ask(&format!("PUT {path}/{name}"), &*local.to_string());
    for (name, status) in [("a", 200), ("b", 200), ("c", 403), ("a", 200), ("apn_name", 200)] {
        assert_eq!(put(name).status, status, "{name}");
    }
    assert_eq!(put("c").refusal(), (403, 11));
    let states = format!("flespi/state/gw/devices/{id}/settings/+");
    hub.until_retained(&states, |all| all.len() == 3);
    let gone = hub.ask(&format!("DELETE {path}/a"), Value::Null);
    assert_eq!(values(&gone[0]), (Value::Null, Value::Null));
    assert_eq!(hub.get(&format!("{path}/a")), [] as [Value; 0]);
    hub.until_retained(&states, |all| all.len() == 2);
    assert_eq!(put("c").status, 200);
    drop(hub);
    let hub = place.open();
    assert_eq!(hub.get(&format!("{path}/all")).len(), 6);
}

/// R5.10, R5.9.
#[test]
fn unknown_settings_are_asked_for_when_the_device_connects() {
    let place = Place::new();
    let hub = place.start(|_| {}, TRACKER);
    let id = hub.device("d", "1");
    hub.connect(5, "1", true);
    hub.until(&format!("/gw/devices/{id}?fields=connected"), |it| it[0]["connected"] == true);
    let polled = json!({"configuration": {"settings_polling": "once"}});
    hub.ask(&format!("PATCH /gw/devices/{id}"), polled);
    for at in 0..4 {
        hub.connect(5, "1", false);
        hub.connect(6 + at, "1", true);
        hub.connect(6 + at, "1", false);
        hub.connect(5, "1", true);
    }
    let path = format!("/gw/devices/{id}/settings/all");
    hub.until(&path, |all| all[0]["current"] == "internet");
    // The others have no value that it could say. Who connects often is not asked each time.
    let mut connections = 20..;
    hub.until(&path, |all| {
        connections.by_ref().take(1).for_each(|at| hub.connect(at, "1", true));
        all[3]["status"] == "unreadable"
    });
}
