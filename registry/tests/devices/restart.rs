//! What outlives the process.

use std::collections::BTreeMap;

use longshore_broker::module::MODULES_FOLDER;
use longshore_storage::{Changes, Tables};
use serde_json::{Value, json};

use super::hub::{Place, next, of_channel};

/// R4.7, R4.15, R7.4: history and telemetry are there after a restart, and go on.
#[test]
fn histories_telemetry_and_claims_outlive_the_process() {
    let place = Place::new();
    let hub = place.open();
    let (id, late) = (hub.device("first", "a"), hub.device("late", "b"));
    let taken = hub.device("third", "c");
    // The first takes the ident that another has: it is later than that, though its number is not.
    hub.ask(&format!("PUT /gw/devices/{id}"), json!({"configuration": {"ident": "c"}}));
    hub.say("c", json!({"timestamp": 1_700_000_000, "n": 1}));
    hub.say("b", json!({"timestamp": 1_700_000_000, "n": 2}));
    hub.telemetry(taken, "n", json!(1));
    hub.telemetry(late, "n", json!(2));
    let all = "/gw/devices/all?fields=id,blocked,last_active,messages_size,telemetry";
    // What the registry knows of a device follows what it has kept of it.
    let is_known = |it: &Value| it["last_active"] != 0 && it["messages_size"] == 1;
    let before = hub.until(all, |all| all[1..].iter().all(is_known));
    assert_eq!(before[0]["blocked"], 6);
    drop(hub);

    let hub = place.open();
    assert_eq!(hub.get(all), before);
    assert_eq!(hub.history(taken, "n"), [json!(1)]);
    hub.say("c", json!({"timestamp": 1_699_000_000, "n": 0}));
    hub.say("c", json!({"timestamp": 1_700_500_000, "n": 3}));
    hub.telemetry(taken, "n", json!(3));
    assert_eq!(hub.history(taken, "n"), [json!(0), json!(1), json!(3)]);
    let size = hub.get(&format!("/gw/devices/{taken}?fields=messages_size"));
    assert_eq!(size[0]["messages_size"], 1);
}

/// R3.22: a batch that comes again after a crash is stored once. What tells messages apart is
/// their time, that of the server and what they say.
#[test]
fn a_message_that_comes_again_is_stored_once_and_counted_once() {
    let place = Place::new();
    let hub = place.open();
    let id = hub.device("d", "1");
    let said =
        |n: u64| json!({"timestamp": 1_700_000_000, "server.timestamp": 1_700_000_001, "n": n});
    let texts = [0, 1].map(|n| of_channel(14, "1", said(n)).to_string());
    let say = |hub: &super::hub::Hub| texts.iter().for_each(|text| hub.say_text(1, "1", text));
    say(&hub);
    hub.telemetry(id, "n", json!(1));
    let path = format!("/gw/devices/{id}?fields=messages_size,last_active");
    let is_known = |it: &Value| it["last_active"] != 0 && it["messages_size"] == 1;
    let before = hub.until(&path, |all| is_known(&all[0]));
    drop(hub);

    let hub = place.open();
    // The device has another name meanwhile.
    hub.ask(&format!("PUT /gw/devices/{id}"), json!({"name": "renamed"}));
    (0..5).for_each(|_| say(&hub));
    hub.say("1", json!({"timestamp": 1_700_000_002, "server.timestamp": 1_700_000_001, "n": 9}));
    hub.telemetry(id, "n", json!(9));
    let mut numbers: Vec<_> = hub.history(id, "n").iter().map(|it| it.as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 1, 9]);
    assert_eq!(hub.get(&path), before, "it is counted once");
}

/// R7.3: nothing is left of a device that is gone, whoever has its number in mind.
#[test]
fn a_device_that_is_removed_leaves_nothing_behind() {
    let place = Place::new();
    let hub = place.open();
    let (gone, stays) = (hub.device("gone", "1"), hub.device("stays", "2"));
    hub.ask(
        &format!("PUT /gw/devices/{gone}/settings/note"),
        json!({"address": "local",
        "properties": 1}),
    );
    hub.ask(
        &format!("POST /gw/devices/{gone}/commands-queue"),
        json!({"name": "custom",
        "properties": {"text": "x"}}),
    );
    for ident in ["1", "2"] {
        hub.say(ident, json!({"n": 1}));
    }
    hub.telemetry(gone, "n", json!(1));
    hub.telemetry(stays, "n", json!(1));
    hub.connect(5, "1", true);
    hub.until(&format!("/gw/devices/{gone}?fields=connected"), |it| it[0]["connected"] == true);
    let states = format!("flespi/state/gw/devices/{gone}/#");
    let value = format!("flespi/state/gw/devices/{gone}/telemetry/n");
    hub.until_retained(&states, |all| all.contains_key(&value));
    hub.ask(&format!("DELETE /gw/devices/{gone}"), Value::Null);
    // The next one of that ident begins anew, and has what is connected.
    let next = hub.device("next", "1");
    assert_ne!(next, gone);
    hub.until(&format!("/gw/devices/{next}?fields=connected"), |it| it[0]["connected"] == true);
    assert_eq!(hub.history(next, "n").len(), 0);
    // Its states are taken away one after another.
    hub.until_retained(&states, BTreeMap::is_empty);
    assert_eq!(hub.history(stays, "n").len(), 1);
    drop(hub);
    let tables = Tables::open(&place.path().join(MODULES_FOLDER)).unwrap();
    for name in ["history", "states", "commands", "results", "settings"] {
        let table = tables.table(&format!("registry-{name}")).unwrap();
        assert_eq!(table.prefix(&gone.to_be_bytes()).count(), 0, "{name}");
    }
}

/// R4.20: also where an earlier process has retained nothing of the kind.
#[test]
fn after_a_restart_it_is_retained_of_each_device_whether_it_is_connected() {
    let place = Place::new();
    let hub = place.open();
    let [silent, there, untold] = ["1", "2", "3"].map(|ident| hub.device(ident, ident));
    let topic = |id: u64| format!("flespi/state/gw/devices/{id}/connected");
    let is = |all: &BTreeMap<String, String>, id: u64, want: &str| {
        all.get(&topic(id)).is_some_and(|it| it == want)
    };
    let all = topic(untold).replace(&untold.to_string(), "+");
    hub.until_retained(&all, |all| [silent, there, untold].iter().all(|id| is(all, *id, "false")));
    hub.connect(6, "2", true);
    // As a version has left it that did not say so before a device came.
    hub.publish(1, &topic(untold), "", true);
    hub.until_retained(&all, |all| is(all, there, "true") && !all.contains_key(&topic(untold)));
    drop(hub);
    let hub = place.open();
    let want = [(silent, "false"), (there, "true"), (untold, "false")];
    hub.until_retained(&all, |all| want.iter().all(|(id, it)| is(all, *id, it)));
}

/// R8.4, R8.9: code 6. Another version may have kept what is not valid now.
#[test]
fn a_device_that_is_kept_and_invalid_is_blocked_until_it_is_put_right() {
    let place = Place::new();
    let hub = place.open();
    let [typeless, unread, good] = ["a", "b", "c"].map(|ident| hub.device(ident, ident));
    for (id, ident) in [(typeless, "a"), (unread, "b"), (good, "c")] {
        hub.say(ident, json!({"timestamp": 1_700_000_000, "n": 1}));
        hub.telemetry(id, "n", json!(1));
    }
    drop(hub);
    let put_row = |id: u64, change: &dyn Fn(&[u8]) -> Vec<u8>| {
        let tables = Tables::open(&place.path().join(MODULES_FOLDER)).unwrap();
        let (table, mut changes) = (tables.table("registry").unwrap(), Changes::new());
        let before = table.get(&id.to_be_bytes()).unwrap().unwrap();
        changes.put(&table, &id.to_be_bytes(), &change(&before));
        tables.commit(changes).unwrap();
        before
    };
    put_row(typeless, &|row| {
        let mut row: Value = serde_json::from_slice(row).unwrap();
        row["device_type_id"] = 999.into();
        row.to_string().into_bytes()
    });
    let before = put_row(unread, &|_| b"no JSON".to_vec());

    let hub = place.open();
    let all = hub.get("/gw/devices/all?fields=id,blocked");
    let want = [json!({"id": typeless, "blocked": 6}), json!({"id": good, "blocked": 0})];
    assert_eq!(all, want);
    hub.events(typeless, &[20]);
    let mut heard = hub.listen_all(&format!("flespi/state/gw/devices/{typeless}/blocked"));
    assert_eq!(next(&mut heard).1, "6");
    // Whoever is served after it shows that it has been seen, and left.
    hub.say("a", json!({"timestamp": 1_700_000_001, "n": 2}));
    hub.say("c", json!({"timestamp": 1_700_000_001, "n": 2}));
    hub.telemetry(good, "n", json!(2));
    let path = format!("PUT /gw/devices/{typeless}");
    let refusal = hub.rig.ask(&path, json!({"name": "new"})).refusal();
    assert_eq!(refusal.0, 400, "that makes it no better");
    hub.ask(&path, json!({"device_type_id": 14}));
    hub.events(typeless, &[21]);
    assert_eq!(next(&mut heard).1, "0");
    hub.say("a", json!({"timestamp": 1_700_000_002, "n": 3}));
    hub.telemetry(typeless, "n", json!(3));
    assert_eq!(hub.history(typeless, "n"), [json!(1), json!(3)]);
    drop(hub);
    // Whoever goes back to the version that wrote it has lost nothing.
    put_row(unread, &|_| before.clone());
    let hub = place.open();
    assert_eq!(hub.history(unread, "n"), [json!(1)]);
}
