//! From a channel to a device: history, telemetry and topics.

use serde_json::{Value, json};

use super::hub::{Place, SILENT, next};

/// R1.3, R1.6, R3.21, R4.7, R4.15, R4.17, R7.4, R7.5.
#[test]
fn a_message_of_a_channel_is_stored_told_and_retained_for_its_device() {
    let place = Place::new();
    let hub = place.open();
    let id = hub.device("my \"truck\"", "350");
    let mut messages = hub.listen_all(&format!("flespi/message/gw/devices/{id}"));
    let mut states = hub.listen_all(&format!("flespi/state/gw/devices/{id}/telemetry/+"));
    let said = json!({"timestamp": 1_706_760_559, "server.timestamp": 1_706_760_560.319_966,
        "position.latitude": -17.724_326, "position.longitude": 1.50, "position.speed": 54});
    hub.say("350", said);
    let (_, text, retain, time) = next(&mut messages);
    let want = r#"{"channel.id":7,"device.id":1,"device.name":"my \"truck\"","device.type.id":14,"#
        .to_owned()
        + r#""ident":"350","peer":"10.0.0.1:5","position.latitude":-17.724326,"#
        + r#""position.longitude":1.5,"position.speed":54,"protocol.id":14,"#
        + r#""server.timestamp":1706760560.319966,"timestamp":1706760559}"#;
    assert_eq!((&*text, retain, time.as_deref()), (&*want, false, Some("1706760559")));
    let stored = hub.rig.ask(&format!("GET /gw/devices/{id}/messages"), "").body;
    assert_eq!(stored, format!("{{\"result\":[{want}]}}\n"), "before it was published");

    let mut retained: Vec<_> = std::iter::repeat_with(|| next(&mut states)).take(13).collect();
    retained.sort();
    let topic = |name: &str| format!("flespi/state/gw/devices/{id}/telemetry/{name}");
    let find = |name: &str| retained.iter().find(|it| it.0 == topic(name)).unwrap();
    let position = r#"{"latitude":-17.724326,"longitude":1.5,"speed":54}"#;
    assert_eq!(
        (&*find("position").1, find("position").3.as_deref()),
        (position, Some("1706760559.000000"))
    );
    assert_eq!((&*find("position.speed").1, &*find("ident").1), ("54", "\"350\""));
    let mut later = hub.listen_all(&topic("position.speed"));
    assert_eq!(
        next(&mut later),
        (topic("position.speed"), "54".into(), true, find("ident").3.clone())
    );

    let telemetry = hub.get(&format!("/gw/devices/{id}/telemetry/position.speed,position"));
    let position: Value = serde_json::from_str(position).unwrap();
    let want = json!([{"id": id, "telemetry": {
        "position": {"ts": 1_706_760_559, "value": position},
        "position.speed": {"ts": 1_706_760_559, "value": 54}}}]);
    assert_eq!(json!(telemetry), want);
    let named = hub.get(&format!("/registry/devices/{id}/telemetry/position.l*"));
    assert_eq!(named[0]["telemetry"].as_object().unwrap().len(), 2);
}

/// R4.3: account, protocol and ident, all of them, and no other device.
#[test]
fn a_message_is_of_no_device_whose_account_protocol_or_ident_is_another() {
    let place = Place::new();
    let hub = place.open();
    let child = hub.rig.account(1);
    let (here, off) = (hub.device("here", "1"), hub.device("off", "2"));
    hub.ask(&format!("PUT /gw/devices/{off}"), json!({"enabled": false}));
    let device = json!([{"name": "there", "device_type_id": 14, "ident": "1"}]);
    let there = hub.rig.ask_for(child, "POST /gw/devices", device).ids()[0];
    hub.say_in(1, 4, "1", json!({"n": 0}));
    hub.say_in(1, 14, "3", json!({"n": 0}));
    hub.say("2", json!({"n": 0}));
    for bad in ["", "[]", "{", r#"{"ident":"1"}"#, r#"{"ident":1,"protocol.id":14}"#, "\u{1}"] {
        hub.say_text(1, "1", bad);
    }
    hub.say_in(child, 14, "1", json!({"n": 2}));
    hub.say("1", json!({"n": 1}));
    hub.telemetry(here, "n", json!(1));
    assert_eq!(hub.history(there, "n"), [json!(2)]);
    assert_eq!((hub.history(here, "n"), hub.history(off, "n")), (vec![json!(1)], vec![]));
}

/// R1.9, R4.10, R4.16.
#[test]
fn what_comes_late_is_stored_in_its_place_and_does_not_overwrite() {
    let place = Place::new();
    let hub = place.open();
    let id = hub.device("d", "1");
    for (time, n) in [(2_000_000, 2), (1_500_000, 1), (3_000_000, 3), (1_800_000, 0)] {
        hub.say("1", json!({"timestamp": time, "n": n, format!("only.{n}"): true}));
    }
    let all = |all: &[Value]| all.len() == 4;
    hub.until(&format!("/gw/devices/{id}/messages"), all);
    assert_eq!(hub.history(id, "n"), [json!(1), json!(0), json!(2), json!(3)]);
    let telemetry = hub.telemetry(id, "n", json!(3));
    assert_eq!(telemetry["only.0"], json!({"ts": 1_800_000, "value": true}));
}

/// R4.1: a device that keeps no messages has telemetry all the same.
#[test]
fn a_ttl_of_0_keeps_nothing_and_takes_away_what_is_there() {
    let place = Place::new();
    let hub = place.open();
    let id = hub.device("d", "1");
    hub.say("1", json!({"n": 1}));
    hub.telemetry(id, "n", json!(1));
    assert_eq!(hub.history(id, "n").len(), 1);
    hub.ask(&format!("PUT /gw/devices/{id}"), json!({"messages_ttl": 0}));
    hub.until(&format!("/gw/devices/{id}/messages"), <[_]>::is_empty);
    hub.say("1", json!({"n": 2}));
    hub.telemetry(id, "n", json!(2));
    assert_eq!(hub.history(id, "n").len(), 0);
    hub.until(&format!("/gw/devices/{id}?fields=messages_size"), |it| it[0]["messages_size"] == 0);
}

/// R4.1, R4.14, chapter 9: old messages go by their time, and the oldest when there is no room.
#[test]
fn old_messages_go_by_ttl_and_rotation() {
    let place = Place::new();
    let limit = |limits: &mut longshore_registry::Limits| limits.sweep_secs = 1;
    let hub = place.start(limit, SILENT);
    let (short, small) = (hub.device("short", "1"), hub.device("small", "2"));
    hub.ask(&format!("PUT /gw/devices/{short}"), json!({"messages_ttl": 600}));
    hub.ask(&format!("PUT /gw/devices/{small}"), json!({"messages_rotate": 2_000}));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    hub.say("1", json!({"timestamp": now - 700, "n": 1}));
    hub.say("1", json!({"timestamp": now - 500, "n": 2}));
    hub.telemetry(short, "n", json!(2));
    hub.until(&format!("/gw/devices/{short}/messages"), |all| all.len() == 1);
    assert_eq!(hub.history(short, "n"), [json!(2)]);
    for n in 0..20 {
        hub.say("2", json!({"timestamp": now + n, "n": n}));
    }
    hub.telemetry(small, "n", json!(19));
    // What one commit has added goes with the next.
    let left = hub.until(&format!("/gw/devices/{small}/messages"), |all| all.len() <= 9);
    assert!(left.len() >= 4 && left.last().unwrap()["n"] == 19, "{left:?}");
    let size = hub.get(&format!("/gw/devices/{small}?fields=messages_size"));
    assert!(size[0]["messages_size"].as_u64().unwrap() <= 2);
    // Many that come at once are no more than may be, either.
    let many: Vec<_> = (20..60).map(|n| json!({"timestamp": now + n, "n": n})).collect();
    hub.ask(&format!("POST /gw/devices/{small}/messages"), many.into());
    let left = hub.history(small, "n");
    assert!((4..=12).contains(&left.len()) && left.last() == Some(&json!(59)), "{left:?}");
    // Nor are those of a device that is silent when it may keep less.
    hub.ask(&format!("PUT /gw/devices/{small}"), json!({"messages_rotate": 600}));
    let path = format!("/gw/devices/{small}/messages");
    let left = hub.until(&path, |all| (1..=3).contains(&all.len()));
    assert_eq!(left.last().unwrap()["n"], 59);
    let size = format!("flespi/state/gw/devices/{small}/messages_size");
    hub.until_retained(&size, |all| all.get(&size).is_some_and(|kb| kb == "1"));
}

/// R4.12, R4.19, R1.12.
#[test]
fn messages_are_posted_and_telemetry_is_forgotten_by_rest() {
    let place = Place::new();
    let hub = place.open();
    let id = hub.device("d", "1");
    let mut heard = hub.listen_all(&format!("flespi/message/gw/devices/{id}"));
    let body = json!([{"timestamp": 2_000_000, "n": 1, "x": {"y": [1]}}, {"n": 2}, {"n": 2}]);
    hub.ask(&format!("POST /gw/devices/{id}/messages"), body);
    hub.ask(&format!("POST /registry/devices/{id}/messages"), json!({"n": 3}));
    assert_eq!(hub.history(id, "n"), [json!(1), json!(2), json!(2), json!(3)]);
    assert_eq!(hub.history(id, "ident"), vec![json!("1"); 4]);
    for _ in 0..4 {
        next(&mut heard);
    }
    for wrong in
        [json!([1]), json!({"timestamp": 999_999}), json!({"": 1}), json!({"timestamp": "x"})]
    {
        let answer = hub.rig.ask(&format!("POST /gw/devices/{id}/messages"), wrong.clone());
        assert_eq!(answer.refusal(), (400, 3), "{wrong}");
    }
    let many: Value = (0..1_001).map(|at| (at.to_string(), json!(at))).collect();
    assert_eq!(hub.rig.ask(&format!("POST /gw/devices/{id}/messages"), many).refusal(), (400, 3));

    let mut states = hub.listen_all(&format!("flespi/state/gw/devices/{id}/telemetry/n"));
    assert_eq!(next(&mut states).1, "3");
    let path = format!("/gw/devices/{id}/telemetry/n,x");
    assert_eq!(hub.ask(&format!("DELETE {path}"), Value::Null), [id], "R2.19");
    assert_eq!(next(&mut states).1, "", "nothing is retained any more");
    let left = hub.get(&format!("/gw/devices/{id}/telemetry"))[0]["telemetry"].clone();
    assert!(left.get("n").is_none() && left.get("x").is_none() && left.get("ident").is_some());
}

/// Chapter 7: when a device was heard, and how large its history is.
#[test]
fn states_say_when_a_device_was_heard_and_how_much_is_kept() {
    let place = Place::new();
    let hub = place.open();
    let id = hub.device("d", "1");
    let mut active = hub.listen_all(&format!("flespi/state/gw/devices/{id}/last_active"));
    let mut size = hub.listen_all(&format!("flespi/state/gw/devices/{id}/messages_size"));
    assert_eq!((next(&mut active).1, next(&mut size).1), ("0".into(), "0".into()));
    hub.say("1", json!({"server.timestamp": 1_706_760_560.5, "text": "x".repeat(3_000)}));
    assert_eq!(next(&mut active).1, "1706760560");
    assert_eq!(next(&mut size).1, "4");
    let shown = hub.get(&format!("/gw/devices/{id}?fields=last_active,messages_size"));
    assert_eq!(shown, [json!({"last_active": 1_706_760_560, "messages_size": 4})]);
}

/// Chapter 9: memory has a bound; what it has let go of is read from the table again.
#[test]
fn telemetry_goes_on_where_memory_holds_none_of_it() {
    let place = Place::new();
    let hub = place.start(|limits| limits.telemetry_cache_bytes = 0, SILENT);
    let ids = ["1", "2", "3"].map(|ident| hub.device("d", ident));
    for n in 0..9 {
        for ident in ["1", "2", "3"] {
            hub.say(ident, json!({"n": n, format!("only.{n}"): ident}));
        }
    }
    for (id, ident) in ids.into_iter().zip(["1", "2", "3"]) {
        let telemetry = hub.telemetry(id, "n", json!(8));
        assert!((0..9).all(|n| telemetry[format!("only.{n}")]["value"] == ident), "{telemetry}");
        assert_eq!(hub.history(id, "n").len(), 9);
    }
}
