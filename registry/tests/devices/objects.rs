//! Devices as objects: fields, types, duplicates, hardware that is replaced.

use serde_json::{Value, json};

use super::hub::{Place, next};

/// R0.2, R2.4, R4.1, R4.2, R4.6, R5.5.
#[test]
fn devices_are_made_and_read_under_both_paths_and_in_both_generations_of_fields() {
    let place = Place::new();
    let hub = place.open();
    let modern = json!({"name": "modern", "device_type_id": 14, "messages_ttl": 86_400,
        "configuration": {"ident": "1", "phone": "+123456789", "settings_polling": "once"}});
    let of_2018 = json!({"name": "2018", "device_type_id": 4, "ident": 2, "phone": "+987654321"});
    let unset = json!({"name": "unset", "device_type_id": 0, "messages_ttl": 0});
    let made = hub.ask("POST /registry/devices", json!([modern, of_2018, unset]));
    let ids: Vec<_> = made.iter().map(|it| it["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3]);
    hub.until_retained("flespi/state/gw/devices/3/+", |all| {
        let is = |name: &str, value: &str| {
            all.get(&format!("flespi/state/gw/devices/3/{name}")).is_some_and(|it| it == value)
        };
        let zeros = ["blocked", "last_active", "messages_size"];
        is("connected", "false") && zeros.iter().all(|it| is(it, "0"))
    });
    assert_eq!(made[0]["protocol_id"], 14);
    assert_eq!(made[1]["configuration"], json!({"ident": "2", "phone": "+987654321"}));
    assert!(made[1].get("ident").is_none() && made[1].get("claimed").is_none());
    assert_eq!((&made[2]["protocol_id"], &made[2]["messages_ttl"]), (&json!(0), &json!(0)));
    assert_eq!((&made[0]["media_ttl"], &made[0]["media_rotate"]), (&json!(31_536_000), &json!(0)));

    let patched = hub.ask("PATCH /gw/devices/1", json!({"configuration": {"ident": "11"}}));
    assert_eq!(patched[0]["configuration"]["phone"], "+123456789");
    assert_eq!(hub.get("/gw/devices/configuration.ident=11?fields=id"), [json!({"id": 1})]);
    let asked = hub.get(
        "/registry/devices/1?fields=commands,connected,last_active,blocked,\
        messages_size,telemetry,protocol_name,groups,media_size,streams",
    );
    let want = json!({"connected": false, "last_active": 0, "blocked": 0, "messages_size": 0,
        "telemetry": {}, "protocol_name": "teltonika", "commands": asked[0]["commands"],
        "groups": [], "media_size": 0});
    assert_eq!(asked[0], want);
    assert_eq!(asked[0]["commands"][0]["name"], "custom");
    assert!(hub.get("/gw/devices/1")[0].get("telemetry").is_none(), "it is asked for by name");
    for (field, wrong) in [("device_type_id", json!(99)), ("phone", json!("12"))] {
        let answer = hub.rig.ask("POST /gw/devices", json!([{"name": "x", field: wrong}]));
        assert_eq!(answer.refusal(), (400, 3), "{field}");
    }
}

/// R3.20, R4.3.
#[test]
fn types_of_devices_are_listed_by_protocol() {
    let place = Place::new();
    let hub = place.open();
    let names = |path: &str| {
        let types = hub.get(&format!("/gw/channel-protocols/{path}?fields=protocol_name"));
        types.iter().map(|it| it["protocol_name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("all/device-types/all").len(), 6);
    assert_eq!(names("14,5/device-types/all"), ["wialon_retranslator", "teltonika"]);
    assert_eq!(names("teltonika/device-types/name=*generic"), ["teltonika"]);
    assert_eq!(names("name=tel*/device-types/all"), ["teltonika"]);
    assert_eq!(names("id<3/device-types/http_generic,mqtt_generic"), ["http", "mqtt"]);
    assert_eq!(names("%7Bid==14%7D/device-types/%7Bprotocol_id==14%7D"), ["teltonika"]);
    assert_eq!(names("name=none/device-types/all"), [""; 0]);
    let of_14 = &hub.get("/gw/channel-protocols/14/device-types/all")[0];
    assert_eq!(
        (&of_14["device_type_name"], &of_14["name"]),
        (&of_14["name"], &json!("teltonika_generic"))
    );
    assert_eq!((&of_14["title"], &of_14["features"]), (&json!("Teltonika generic"), &json!({})));
    assert_eq!(of_14["configuration"]["properties"]["phone"]["type"], "string");
    let device = hub.device("d", "1");
    let named = hub.get(&format!("/gw/devices/{device}?fields=device_type_name"));
    assert_eq!(named[0], json!({"device_type_name": "teltonika_generic"}));
    for missing in ["14/device-types/4", "nothing/device-types/all", "14/device-types/nothing"] {
        let path = format!("GET /gw/channel-protocols/{missing}");
        assert_eq!(hub.rig.ask(&path, "").refusal(), (404, 6), "{missing}");
    }
    let partly = hub.rig.ask("GET /gw/protocols/14,99/device-types/all?fields=id", "").json();
    assert_eq!(partly["result"], json!([{"id": 14}]));
    assert_eq!((&partly["errors"][0]["id"], &partly["errors"][0]["code"]), (&json!(99), &json!(6)));
}

/// R4.4, R8.4.
#[test]
fn the_later_device_of_an_ident_is_blocked_until_it_is_free() {
    let place = Place::new();
    let hub = place.open();
    let (first, second) = (hub.device("first", "7"), hub.device("second", "7"));
    let other = json!([{"name": "other", "device_type_id": 4, "ident": "7"}]);
    hub.ask("POST /gw/devices", other);
    let blocked = || {
        let all = hub.get("/gw/devices/all?fields=blocked");
        all.iter().map(|it| it["blocked"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(blocked(), [0, 6, 0], "another protocol is another device");
    hub.say("7", json!({"n": 1}));
    hub.telemetry(first, "n", json!(1));
    assert_eq!(hub.history(second, "n"), [Value::Null; 0]);
    let posted = hub.rig.ask(&format!("POST /gw/devices/{second}/messages"), json!({"n": 0}));
    assert_eq!(posted.refusal(), (403, 5));

    hub.ask(&format!("DELETE /gw/devices/{first}"), Value::Null);
    assert_eq!(blocked(), [0, 0]);
    assert!(hub.events(second, &[20, 21]).ends_with(&[21]));
    hub.say("7", json!({"n": 2}));
    hub.telemetry(second, "n", json!(2));
    assert_eq!(hub.history(second, "n"), [json!(2)]);
}

/// R7.3.
#[test]
fn who_follows_the_fields_of_devices_is_told_that_one_is_deleted() {
    let place = Place::new();
    let hub = place.open();
    let id = hub.device("truck", "7");
    let mut fields = hub.listen_all("flespi/state/gw/devices/+/name,deleted");
    let topic = |field: &str| format!("flespi/state/gw/devices/{id}/{field}");
    let mut said = || {
        let (topic, payload, ..) = next(&mut fields);
        (topic, payload)
    };
    assert_eq!(said(), (topic("name"), "\"truck\"".to_owned()));
    hub.ask(&format!("DELETE /gw/devices/{id}"), Value::Null);
    assert_eq!(said(), (topic("name"), String::new()));
    assert_eq!(said(), (topic("deleted"), "true".to_owned()));
    drop(fields);
    hub.until_retained(&format!("flespi/state/gw/devices/{id}/#"), |all| all.is_empty());
}

/// Brief 002: hardware is replaced without any impact on data processing.
#[test]
fn hardware_is_replaced_by_another_ident_and_type_and_consumers_go_on() {
    let place = Place::new();
    let hub = place.open();
    let id = hub.device("truck", "old");
    let filter = format!("flespi/message/gw/devices/{id}");
    let mut consumers = [(); 2].map(|()| hub.listen_all(&filter));
    hub.say_in(1, 4, "new", json!({"n": 0}));
    hub.say("old", json!({"n": 1}));
    hub.telemetry(id, "n", json!(1));
    let change = json!({"device_type_id": 4, "configuration": {"ident": "new"}});
    hub.ask(&format!("PUT /gw/devices/{id}"), change);
    hub.say("old", json!({"n": 2}));
    hub.say_in(1, 4, "new", json!({"n": 3}));
    hub.telemetry(id, "n", json!(3));
    assert_eq!(
        hub.history(id, "n"),
        [json!(1), json!(3)],
        "earlier messages are not copied (R4.7)"
    );
    assert_eq!(hub.history(id, "device.type.id"), [json!(14), json!(4)]);
    for consumer in &mut consumers {
        let numbers = [(); 2].map(|()| {
            let (_, payload, ..) = next(consumer);
            serde_json::from_str::<Value>(&payload).unwrap()["n"].clone()
        });
        assert_eq!(numbers, [json!(1), json!(3)]);
    }
}

/// Chapter 9: the number of devices has a bound.
#[test]
fn an_account_has_no_more_devices_than_it_may() {
    let place = Place::new();
    let hub = place.start(|limits| limits.devices_per_account = 2, super::hub::SILENT);
    let devices = |count: usize| vec![json!({"name": "d"}); count];
    assert_eq!(hub.rig.ask("POST /gw/devices", json!(devices(3))).refusal(), (403, 11));
    hub.ask("POST /registry/devices", json!(devices(2)));
    assert_eq!(hub.rig.ask("POST /registry/devices", json!(devices(1))).refusal(), (403, 11));
    let child = hub.rig.account(1);
    assert_eq!(hub.rig.ask_for(child, "POST /gw/devices", json!(devices(2))).ids(), [3, 4]);
}
