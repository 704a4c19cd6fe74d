//! Commands: at once, and queued.

use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::hub::{Place, SILENT, Script, encoded, next, until};

/// Answers what it is told, but for what it is told to keep to itself.
const ECHO: Script = |command| match command["properties"]["text"].as_str() {
    Some("silence") => vec![json!({"status": "sent"})],
    Some("deadline") => {
        vec![json!({"status": "answered", "response": command["deadline"].to_string()})]
    }
    Some("fail") => vec![json!({"status": "failed", "error": "no such command"})],
    text => vec![
        json!({"status": "sent"}),
        json!({"status": "answered", "response": format!("did {}", text.unwrap_or_default())}),
    ],
};

fn custom(text: &str) -> Value {
    json!({"name": "custom", "properties": {"text": text}})
}

/// R5.1, R5.2.
#[test]
fn a_command_is_answered_by_the_device_or_by_the_time() {
    let place = Place::new();
    let hub = place.start(|_| {}, ECHO);
    let id = hub.device("d", "1");
    let path = format!("POST /gw/devices/{id}/commands");
    assert_eq!(hub.rig.ask(&path, custom("x")).refusal(), (400, 2), "it is not connected");
    hub.connect(5, "1", true);
    hub.until(&format!("/gw/devices/{id}?fields=connected"), |it| it[0]["connected"] == true);
    let got = hub.ask(&path, json!([custom("getinfo"), custom("fail")]));
    let want = json!({"id": got[0]["id"], "device_id": id, "name": "custom",
        "properties": {"text": "getinfo"}, "position": 1, "executed": true,
        "response": "did getinfo", "timestamp": got[0]["timestamp"], "expires": 0});
    assert_eq!(got[0], want);
    assert_eq!((&got[1]["executed"], &got[1]["position"]), (&json!(false), &json!(2)));
    // The channel is told how long that is waited for.
    let micros = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_micros();
    let begun = micros(SystemTime::now());
    let got = hub.ask(&path, custom("deadline"));
    let deadline: u128 = got[0]["response"].as_str().unwrap().parse().unwrap();
    let range = begun + 30_000_000..=micros(SystemTime::now()) + 30_000_000;
    assert!(range.contains(&deadline), "{deadline}: {range:?}");
    let mut silence = custom("silence");
    silence["timeout"] = json!(5);
    let got = hub.ask(&path, silence);
    assert_eq!((&got[0]["executed"], &got[0]["response"]), (&json!(false), &Value::Null));
    let with = |name: &str, value: Value| {
        let mut command = custom("x");
        command[name] = value;
        command
    };
    for wrong in [
        json!({"name": "reboot"}),
        json!({"name": "custom", "properties": 1}),
        json!({"name": "custom", "properties": {"txt": "getinfo"}}),
        json!({"name": "custom", "properties": {"hex": "0g"}}),
        with("timeout", json!(61)),
        with("address", json!("sms")),
        with("nothing", json!(1)),
        json!([1]),
    ] {
        assert_eq!(hub.rig.ask(&path, wrong.clone()).refusal(), (400, 3), "{wrong}");
    }
    let deaf = hub.ask("POST /gw/devices", json!([{"name": "o", "device_type_id": 3}]));
    let path = format!("POST /gw/devices/{}/commands", deaf[0]["id"]);
    assert_eq!(hub.rig.ask(&path, custom("x")).refusal(), (400, 3));
}

/// R5.3, R5.4, R5.6.
#[test]
fn a_queued_command_goes_when_the_device_connects_and_its_result_is_kept() {
    let place = Place::new();
    let hub = place.start(|_| {}, ECHO);
    let id = hub.device("d", "1");
    let path = format!("/gw/devices/{id}/commands-queue");
    let with = |text: &str, name: &str, value: Value| {
        let mut command = custom(text);
        command[name] = value;
        command
    };
    let sent = json!([
        custom("one"),
        with("urgent", "priority", json!(9)),
        custom("two"),
        with("later", "condition", json!("n == 1")),
        with("fail", "max_attempts", json!(1))
    ]);
    let queued = hub.ask(&format!("POST {path}"), sent);
    let number = |at: usize| queued[at]["id"].as_u64().unwrap();
    assert_eq!((queued.len(), &queued[0]["executed"]), (5, &json!(false)));
    let ttl =
        queued[0]["expires"].as_u64().unwrap() - queued[0]["timestamp"].as_f64().unwrap() as u64;
    assert_eq!(ttl, 86_400);
    assert_eq!(hub.get(&format!("{path}/all")).len(), 5);
    assert_eq!(hub.get(&format!("{path}/{}", number(1)))[0]["priority"], 9);
    let urgent = [json!({"id": number(1), "priority": 9})];
    for chosen in ["priority>5", "name=cust*,priority=9", "%7Bpriority==9%7D"] {
        assert_eq!(hub.get(&format!("{path}/{chosen}?fields=id,priority")), urgent, "{chosen}");
    }
    let partly = hub.rig.ask(&format!("GET {path}/{},7?fields=id,priority", number(1)), "").json();
    assert_eq!(partly["result"], json!(urgent));
    assert_eq!((&partly["errors"][0]["id"], &partly["errors"][0]["code"]), (&json!(7), &json!(6)));
    for request in ["GET", "DELETE"] {
        assert_eq!(hub.rig.ask(&format!("{request} {path}/7"), "").refusal(), (404, 6));
    }
    let gone = hub.ask(&format!("DELETE {path}/{}", number(2)), Value::Null);
    assert_eq!(gone, [number(2)], "R2.19");
    drop(hub);

    let hub = place.start(|_| {}, ECHO);
    let mut log = hub.listen_all(&format!("flespi/log/gw/devices/{id}/commands-queue/#"));
    hub.connect(5, "1", true);
    let results = hub.until(&format!("/gw/devices/{id}/commands-result"), |all| all.len() == 3);
    let said = |all: &[Value]| all.iter().map(|it| it["response"].clone()).collect::<Vec<_>>();
    let want = [json!("did one"), json!("did urgent"), json!("no such command")];
    assert_eq!(said(&results), want);
    assert_eq!(
        results.iter().map(|it| it["executed"].clone()).collect::<Vec<_>>(),
        [json!(true), json!(true), json!(false)]
    );
    let events: Vec<_> = (0..4)
        .map(|_| {
            let (topic, text, ..) = next(&mut log);
            let record: Value = serde_json::from_str(&text).unwrap();
            let state = topic.rsplit('/').next().unwrap().to_owned();
            (state, record["properties"]["text"].as_str().unwrap().to_owned())
        })
        .collect();
    let event = |state: &str, text: &str| (state.to_owned(), text.to_owned());
    let want = [
        event("sent", "urgent"),
        event("processed", "urgent"),
        event("sent", "one"),
        event("processed", "one"),
    ];
    assert_eq!(events, want);
    let one = hub.get(&format!("/gw/devices/{id}/commands-result/{}", number(0)));
    assert_eq!(said(&one), [json!("did one")]);
    let data = json!({"filter": "executed==true", "reverse": true, "count": 1});
    let chosen = hub.get(&format!("/gw/devices/{id}/commands-result?data={}", encoded(&data)));
    assert_eq!(said(&chosen), [json!("did urgent")]);
    for wrong in [
        json!({"from": "yesterday"}),
        json!({"to": true}),
        json!({"count": "1"}),
        json!({"reverse": 1}),
        json!({"filter": 1}),
        json!({"fields": "id"}),
    ] {
        let request = format!("GET /gw/devices/{id}/commands-result?data={}", encoded(&wrong));
        assert_eq!(hub.rig.ask(&request, "").refusal(), (400, 3), "{wrong}");
    }

    assert_eq!(hub.get(&format!("{path}/all")).len(), 1, "its condition does not hold");
    hub.say("1", json!({"n": 1}));
    hub.until(&format!("{path}/all"), <[_]>::is_empty);
    assert!(hub.events(id, &[330, 332, 331, 334]).len() >= 8);
}

/// R5.3: attempts and time are bounded, and so is what waits (9).
#[test]
fn a_command_that_is_not_answered_ends_by_its_attempts() {
    let place = Place::new();
    let limit = |limits: &mut longshore_registry::Limits| {
        (limits.answer_secs, limits.commands_per_device, limits.results_per_device) = (1, 2, 2);
    };
    let hub = place.start(limit, SILENT);
    let id = hub.device("d", "1");
    let path = format!("POST /gw/devices/{id}/commands-queue");
    let mut command = custom("x");
    command["max_attempts"] = json!(2);
    let full = hub.rig.ask(&format!("{path}?fields=id"), json!([command, command, command]));
    assert_eq!(full.json()["result"][0].as_object().unwrap().len(), 1);
    assert_eq!((full.json()["result"].as_array().unwrap().len(), full.status), (2, 200));
    assert_eq!(full.json()["errors"][0]["code"], 11);
    for wrong in [
        json!({"ttl": 59}),
        json!({"ttl": 2_592_001}),
        json!({"expires": 5}),
        json!({"max_attempts": 11}),
        json!({"condition": "a &&"}),
        json!({"priority": -1}),
    ] {
        let mut sent = custom("x");
        sent.as_object_mut().unwrap().extend(wrong.as_object().unwrap().clone());
        assert_eq!(hub.rig.ask(&path, sent).refusal(), (400, 3), "{wrong}");
    }
    hub.connect(5, "1", true);
    let waits = hub.until(&format!("/gw/devices/{id}/commands-queue/all"), |all| {
        all.iter().all(|it| it["attempts"] == 1)
    });
    assert_eq!(waits.len(), 2);
    // It is told again when the device connects again.
    hub.connect(5, "1", false);
    hub.connect(6, "1", true);
    let results = hub.until(&format!("/gw/devices/{id}/commands-result"), |all| all.len() == 2);
    assert!(results.iter().all(|it| it["attempts"] == 2 && it["executed"] == false));
}

/// R5.1: many callers wait at a time, and none for another device.
#[test]
fn devices_are_told_things_side_by_side() {
    let place = Place::new();
    let hub = place.start(|_| {}, ECHO);
    let ids: Vec<_> = (0..8).map(|at| hub.device("d", &at.to_string())).collect();
    for at in 0..8 {
        hub.connect(at, &at.to_string(), true);
    }
    hub.until("/gw/devices/all?fields=connected", |all| {
        all.iter().all(|it| it["connected"] == true)
    });
    thread::scope(|scope| {
        for id in ids {
            let hub = &hub;
            scope.spawn(move || {
                let got = hub.ask(&format!("POST /gw/devices/{id}/commands"), custom("a"));
                assert_eq!(got[0]["device_id"], id);
            });
        }
    });
    let all = hub.ask("POST /registry/devices/all/commands", custom("b"));
    assert_eq!(all.len(), 8);
}

/// R5.3, R5.4, R5.6, R8.6.
#[test]
fn a_command_whose_time_is_up_is_kept_as_not_executed() {
    let place = Place::new();
    let hub = place.start(|_| {}, ECHO);
    let id = hub.device("d", "1");
    let mut command = custom("x");
    command["meta"] = json!({"ticket": 7});
    // On a machine that is busy it may come too late for that.
    until("it is in time to wait for a second", || {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        command["expires"] = json!(now + 1);
        let path = format!("POST /gw/devices/{id}/commands-queue");
        (hub.rig.ask(&path, command.clone()).status == 200).then_some(())
    });
    let results = hub.until(&format!("/gw/devices/{id}/commands-result"), |all| all.len() == 1);
    let want = (json!(false), Value::Null, json!({"ticket": 7}), json!(0));
    let of = |name: &str| results[0][name].clone();
    assert_eq!((of("executed"), of("response"), of("meta"), of("attempts")), want);
    hub.events(id, &[330, 333]);
    assert_eq!(hub.get(&format!("/gw/devices/{id}/commands-queue/all")).len(), 0);
}
