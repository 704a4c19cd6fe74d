//! Messages on their way: once, in order, over failures, changes and restarts.

use std::fs::File;
use std::time::{Duration, Instant};

use longshore_broker::module::MODULES_FOLDER;
use longshore_storage::{Changes, Tables};
use serde_json::{Value, json};

use super::rig::{Hub, Started, local, of_channel, of_device, received, stream, until};

/// R6.4, R6.5, R6.8.
#[test]
fn what_linked_sources_say_arrives_once_and_in_order() {
    let hub = Hub::new();
    let (platform, other) = (hub.platform(&[]), hub.platform(&[]));
    let hubs = hub.start(local());
    let first = hubs.stream(platform.address);
    let second = hubs.stream(other.address);
    hubs.say(&[of_channel(7, "a", 0)]);
    let made = hubs.rig.ask(&format!("POST /gw/streams/{first},{second}/channels/7"), "").result();
    let link = |stream: u64| json!({"stream_id": stream, "channel_id": 7});
    assert_eq!(made, [link(first), link(second)]);
    let again = hubs.rig.ask(&format!("POST /gw/streams/{first}/channels/7"), "null").result();
    assert_eq!(again, [link(first)], "what is linked stays so");
    let linked = hubs.rig.ask(&format!("POST /gw/streams/{first}/channels/9"), "");
    assert_eq!(linked.result().len(), 1);
    let mixed: Vec<_> = (1..=500)
        .flat_map(|n| [of_channel(7, "a", n), of_channel(8, "a", n), of_device(3, 7, "a", n)])
        .collect();
    hubs.say(&mixed);
    hubs.say(&[of_channel(9, "b", 501)]);
    let want = |to: u64| (1..=to).map(|n| (n, None)).collect::<Vec<_>>();
    until(|| received(&platform).len() >= 501);
    until(|| received(&other).len() >= 500);
    let log = hubs.log(first, 404);
    let sent = log.iter().find(|it| it["event_code"] == 404).unwrap();
    assert_eq!((&sent["read"], &sent["rejected"]), (&sent["accepted"], &json!(0)));
    assert_eq!(sent["event_origin"], format!("gw/streams/{first}"));
    let gone = hubs.rig.ask(&format!("DELETE /gw/streams/{first}/channels/all"), "").result();
    assert_eq!(gone.len(), 2);
    hubs.say(&[of_channel(7, "a", 502)]);
    until(|| received(&other).len() >= 501);
    assert_eq!(received(&platform), want(501));
    assert_eq!(received(&other).last(), Some(&(502, None)));
}

/// R6.9, R6.11, R6.13, R8.7.
#[test]
fn what_a_platform_that_is_down_misses_it_gets_once_it_is_up() {
    let hub = Hub::new();
    let address = hub.nowhere();
    let hubs = hub.start(local());
    let id = hubs.stream(address);
    hubs.rig.ask(&format!("POST /gw/streams/{id}/devices/3"), "").result();
    hubs.say(&(1..=50).map(|n| of_device(3, 7, "a", n)).collect::<Vec<_>>());
    let log = hubs.log(id, 403);
    let failed = log.iter().find(|it| it["event_code"] == 403).unwrap();
    assert_eq!(failed["error_code"], -2);
    let platform = hub.platform_at(address);
    until(|| received(&platform).len() >= 50);
    assert_eq!(received(&platform), (1..=50).map(|n| (n, Some(3))).collect::<Vec<_>>());
    until(|| hubs.get(id)["queue_size"] == 0);
}

/// R2.4, R6.1, R6.12, R6.14.
#[test]
fn a_stream_goes_on_as_it_is_changed() {
    let hub = Hub::new();
    let [old, new, other] = [0; 3].map(|_| hub.platform(&[]));
    let hubs = hub.start(local());
    let mut sent = stream(old.address);
    sent["configuration"]["headers"] = json!({"x-key": "hidden-7"});
    let id = hubs.rig.ask("POST /gw/streams", json!([sent])).ids()[0];
    let path = format!("/gw/streams/{id}");
    let witness = hubs.stream(other.address);
    hubs.rig.ask(&format!("POST /gw/streams/{id},{witness}/channels/7"), "").result();
    hubs.say(&[of_channel(7, "a", 1)]);
    until(|| received(&old).len() == 1);
    let put = |fields: Value| hubs.rig.ask(&format!("PUT {path}"), fields).result();
    put(json!({"configuration": stream(new.address)["configuration"]}));
    hubs.say(&[of_channel(7, "a", 2)]);
    until(|| received(&new).len() == 1);
    let key = |it: &super::server::Asked| it.headers.get("x-key").map(|it| it.as_bytes().to_vec());
    let hidden = || Some(b"hidden-7".to_vec());
    assert_eq!((key(&old.asked()[0]), key(&new.asked()[0])), (hidden(), hidden()), "it is kept");
    put(json!({"validate_message": "n > 3", "convert_message": {"fields": ["n"]}}));
    hubs.say(&[of_channel(7, "a", 3), of_channel(7, "a", 4)]);
    until(|| received(&new).len() == 2);
    assert_eq!(new.asked()[1].body, b"[{\"n\":4}]");
    put(json!({"enabled": false}));
    hubs.say(&[of_channel(7, "a", 5)]);
    // Whoever has it too shows that it has been seen.
    until(|| received(&other).last() == Some(&(5, None)));
    put(json!({"enabled": true, "configuration": {"uri": format!("http://{}/", new.address),
        "headers": null}}));
    hubs.say(&[of_channel(7, "a", 6)]);
    until(|| received(&new).len() == 3);
    assert_eq!(received(&new)[2], (6, None), "what came while it was not enabled is not its own");
    assert_eq!(key(&new.asked()[2]), None, "null removes a secret");
    assert_eq!(received(&old), [(1, None)]);
}

/// R6.9, R6.12, R8.4, R8.9.
#[test]
fn a_full_queue_outlives_the_process_and_heals() {
    let hub = Hub::new();
    let address = hub.nowhere();
    let mut options = local();
    options.queue_bytes = 20_000;
    let hubs = hub.start(options.clone());
    let id = hubs.stream(address);
    hubs.rig.ask(&format!("POST /gw/streams/{id}/channels/7"), "").result();
    hubs.say(&(1..=500).map(|n| of_channel(7, "a", n)).collect::<Vec<_>>());
    let log = hubs.log(id, 20);
    assert_eq!(log.iter().find(|it| it["event_code"] == 20).unwrap()["block_code"], 4);
    assert_eq!(hubs.get(id)["blocked"], 4);
    hubs.state(&format!("{id}/blocked"), "4");
    drop(hubs);

    let platform = hub.platform_at(address);
    let hubs = hub.start(options);
    until(|| received(&platform).len() > 50);
    until(|| hubs.get(id)["queue_size"] == 0);
    let got = received(&platform);
    let want: Vec<_> = (1..=got.len() as u64).map(|n| (n, None)).collect();
    assert_eq!(got, want, "from the first on, without gaps");
    hubs.state(&format!("{id}/blocked"), "0");
    hubs.say(&[of_channel(7, "a", 1_000)]);
    until(|| received(&platform).last() == Some(&(1_000, None)));
}

/// R6.16.
#[test]
fn messages_are_put_in_a_queue_and_taken_out_and_go_with_the_stream() {
    let hub = Hub::new();
    let address = hub.nowhere();
    let hubs = hub.start(local());
    let id = hubs.stream(address);
    let path = format!("/gw/streams/{id}");
    let post = format!("POST {path}/messages");
    let messages = json!([{"n": 1}, {"n": 2}]);
    let sent = hubs.rig.ask(&post, messages.clone()).result();
    assert_eq!(sent, [json!({"id": id, "messages": 2})]);
    assert_eq!(hubs.rig.ask(&post, json!({"n": 3})).result().len(), 1);
    assert_eq!(hubs.rig.ask(&post, "[1]").refusal(), (400, 3));
    assert_eq!(hubs.get(id)["queue_size"], 1);
    let purged = hubs.rig.ask(&format!("DELETE {path}/messages"), "").result();
    assert_eq!(purged, [json!({"id": id, "messages": 0})]);
    assert_eq!(hubs.get(id)["queue_size"], 0);
    hubs.rig.ask(&format!("PUT {path}"), json!({"enabled": false})).result();
    assert_eq!(hubs.rig.ask(&post, messages.clone()).refusal(), (400, 2));
    hubs.rig.ask(&format!("PUT {path}"), json!({"enabled": true})).result();
    hubs.rig.ask(&post, messages).result();
    let rows = || {
        let tables = hubs.rig.broker.module_tables().unwrap();
        ["stream queues", "stream heads"].map(|it| tables.table(it).unwrap().prefix(b"").count())
    };
    assert_eq!(rows(), [2, 1]);
    hubs.rig.ask(&format!("DELETE {path}"), "").result();
    until(|| rows() == [0, 0]);
}

/// R6.7.
#[test]
fn a_stream_linked_to_a_channel_and_its_devices_gets_the_device_form_alone() {
    let hub = Hub::new();
    let platform = hub.platform(&[]);
    let hubs = hub.start(local());
    let id = hubs.stream(platform.address);
    hubs.rig.ask(&format!("POST /gw/streams/{id}/channels/7"), "").result();
    hubs.rig.ask(&format!("POST /gw/streams/{id}/devices/3"), "").result();
    let both = |n: u64| [of_channel(7, "a", n), of_device(3, 7, "a", n)];
    hubs.say(&both(1));
    let [two, three] = [2, 3].map(both);
    hubs.say(&[&two[..1], &three[..1], &two[1..], &three[1..]].concat());
    // Of a device that the stream is not linked to it has the channel form.
    hubs.say(&[of_channel(7, "b", 4), of_device(4, 7, "b", 4)]);
    until(|| received(&platform).len() >= 4);
    // So it has of an ident without device: at first when it is known that none comes.
    hubs.say(&[of_channel(7, "c", 5)]);
    until(|| received(&platform).len() >= 5);
    hubs.say(&[of_channel(7, "c", 6)]);
    hubs.say(&both(7));
    until(|| received(&platform).len() >= 7);
    // What went out in its channel form is not sent again because its device form is late.
    hubs.say(&[of_device(3, 7, "c", 5), of_device(3, 7, "c", 6)]);
    hubs.say(&both(8));
    until(|| received(&platform).len() >= 8);
    let want = [(1, Some(3)), (2, Some(3)), (3, Some(3)), (4, None), (5, None), (6, None)];
    assert_eq!(received(&platform)[..6], want);
    assert_eq!(received(&platform)[6..], [(7, Some(3)), (8, Some(3))]);
    hubs.log_with(id, |log| log.iter().filter_map(|it| it["skipped"].as_u64()).sum::<u64>() == 2);
}

/// R6.7.
#[test]
fn what_is_held_for_its_device_form_outlives_the_process() {
    let hub = Hub::new();
    let platform = hub.platform(&[]);
    let mut hubs = hub.start(local());
    let id = hubs.stream(platform.address);
    hubs.rig.ask(&format!("POST /gw/streams/{id}/channels/7"), "").result();
    hubs.rig.ask(&format!("POST /gw/streams/{id}/devices/3"), "").result();
    let held = |hubs: &Started| {
        let tables = hubs.rig.broker.module_tables().unwrap();
        tables.table("stream held").unwrap().prefix(b"").count()
    };
    let (mut n, mut sent) = (1, 0);
    loop {
        let begun = Instant::now();
        hubs.say(&[of_channel(7, "a", n), of_channel(7, "a", n + 1)]);
        until(|| held(&hubs) == 2 || received(&platform).len() == sent + 2);
        drop(hubs);
        hubs = hub.start(local());
        hubs.say(&[of_device(3, 7, "a", n)]);
        until(|| received(&platform).len() >= sent + 2);
        until(|| hubs.get(id)["queue_size"] == 0);
        let got = received(&platform)[sent..].to_vec();
        (n, sent) = (n + 2, sent + 2);
        if got == [(n - 2, Some(3)), (n - 1, None)] {
            break;
        }
        // Nothing is held for more than five seconds, and a machine that is busy may take longer.
        assert!(begun.elapsed() > Duration::from_secs(5), "{got:?}");
    }
    drop(hubs);
    // That it went out in its channel form does, too.
    let hubs = hub.start(local());
    hubs.say(&[of_device(3, 7, "a", n - 1), of_channel(7, "a", n), of_device(3, 7, "a", n)]);
    until(|| received(&platform).len() > sent);
    assert_eq!(received(&platform)[sent..], [(n, Some(3))]);
    let is_skipped = |it: &Value| (&it["read"], &it["skipped"]) == (&json!(1), &json!(1));
    hubs.log_with(id, |log| log.iter().any(is_skipped));
}

/// Nothing of a broker that has stopped is at work any more, whatever it had to do: who embeds it
/// may begin another one in its folder at once.
#[test]
fn a_broker_that_has_stopped_leaves_its_tables_to_the_next_one() {
    let hub = Hub::new();
    let address = hub.nowhere();
    let mut id = None;
    for n in 0..8 {
        let hubs = hub.start(local());
        let id = *id.get_or_insert_with(|| {
            let id = hubs.stream(address);
            hubs.rig.ask(&format!("POST /gw/streams/{id}/channels/7"), "").result();
            id
        });
        hubs.say(&(0..1_000).map(|at| of_channel(7, "a", n * 1_000 + at)).collect::<Vec<_>>());
        // Some are being written now, and others wait.
        until(|| hubs.get(id)["queue_size"] != 0);
        drop(hubs);
        let lock = File::open(hub.folder.path().join(MODULES_FOLDER).join("lock")).unwrap();
        lock.try_lock().unwrap();
    }
    let platform = hub.platform_at(address);
    let _hubs = hub.start(local());
    until(|| received(&platform).len() >= 8_000);
    assert_eq!(received(&platform), (0..8_000).map(|n| (n, None)).collect::<Vec<_>>());
}

/// R8.4, R8.9: code 6. Another version may have kept what is not valid now.
#[test]
fn a_stream_that_is_kept_and_invalid_is_blocked_until_it_is_put_right() {
    let hub = Hub::new();
    let address = hub.nowhere();
    let hubs = hub.start(local());
    let [invalid, unread] = [0; 2].map(|_| hubs.stream(address));
    hubs.rig.ask(&format!("POST /gw/streams/{invalid},{unread}/channels/7"), "").result();
    hubs.say(&[of_channel(7, "a", 1)]);
    until(|| [invalid, unread].iter().all(|id| hubs.get(*id)["queue_size"] == 1));
    drop(hubs);
    let put_row = |id: u64, row: &[u8]| {
        let tables = Tables::open(&hub.folder.path().join(MODULES_FOLDER)).unwrap();
        let (table, mut changes) = (tables.table("streams").unwrap(), Changes::new());
        let before = table.get(&id.to_be_bytes()).unwrap().unwrap();
        changes.put(&table, &id.to_be_bytes(), row);
        tables.commit(changes).unwrap();
        before
    };
    let row = json!({"cid": 1, "name": "old", "protocol_id": 999, "configuration": {"to": "a"}});
    put_row(invalid, row.to_string().as_bytes());
    let before = put_row(unread, b"no JSON");

    let hubs = hub.start(local());
    let all = hubs.rig.ask("GET /gw/streams/all?fields=id,blocked", "").result();
    assert_eq!(all, [json!({"id": invalid, "blocked": 6})]);
    let log = hubs.log(invalid, 20);
    assert!(log.iter().any(|it| it["block_code"] == 6), "{log:?}");
    let path = format!("PUT /gw/streams/{invalid}");
    let refusal = hubs.rig.ask(&path, json!({"name": "new"})).refusal();
    assert_eq!(refusal.0, 400, "that makes it no better");
    // Whoever has it too shows that it has been seen.
    let other = hub.platform(&[]);
    let witness = hubs.stream(other.address);
    hubs.rig.ask(&format!("POST /gw/streams/{witness}/channels/7"), "").result();
    hubs.say(&[of_channel(7, "a", 2)]);
    until(|| received(&other) == [(2, None)]);
    let platform = hub.platform_at(address);
    let mut right = stream(address);
    right["name"] = "new".into();
    assert_eq!(hubs.rig.ask(&path, right).result()[0]["blocked"], 0);
    hubs.log(invalid, 21);
    until(|| !received(&platform).is_empty());
    hubs.say(&[of_channel(7, "a", 3)]);
    until(|| received(&platform).len() == 2);
    assert_eq!(received(&platform), [(1, None), (3, None)], "blocked, it takes nothing");
    until(|| hubs.get(invalid)["queue_size"] == 0);
    drop(hubs);
    // Whoever goes back to the version that wrote it has lost nothing.
    put_row(unread, &before);
    let _hubs = hub.start(local());
    until(|| received(&platform).len() == 3);
    assert_eq!(received(&platform)[2], (1, None));
}
