//! What whose stream gets and shows to whom.

use std::fs;
use std::path::Path;

use longshore_streams::Options;
use serde_json::{Value, json};

use super::rig::{Hub, local, of_channel, of_device, received, stream, until};

/// A stream gets what its account and those below it say.
#[test]
fn a_stream_gets_what_is_of_the_branch_of_its_account() {
    let hub = Hub::new();
    let (above, below) = (hub.platform(&[]), hub.platform(&[]));
    let hubs = hub.start(local());
    let (rig, child) = (&hubs.rig, hubs.rig.account(1));
    let id = hubs.stream(above.address);
    rig.ask(&format!("POST /gw/streams/{id}/channels/7"), "").result();
    let made = rig.ask_for(child, "POST /gw/streams", json!([stream(below.address)])).ids();
    let link = format!("POST /gw/streams/{}/channels/7", made[0]);
    rig.ask_for(child, &link, "").result();
    hubs.say(&[of_channel(7, "a", 1)]);
    hubs.say_in(child, &[of_channel(7, "a", 2)]);
    until(|| received(&above).len() >= 2 && !received(&below).is_empty());
    assert_eq!(received(&above), [(1, None), (2, None)]);
    assert_eq!(received(&below), [(2, None)]);
    assert_eq!(rig.ask_for(child, &format!("GET /gw/streams/{id}"), "").refusal(), (404, 6));
    let link = format!("POST /gw/streams/{id}/channels/7");
    assert_eq!(rig.ask_for(child, &link, "").refusal(), (404, 6));
}

/// `streams.allow`.
#[test]
fn a_stream_does_not_reach_the_host_itself_unless_that_is_allowed() {
    let hub = Hub::new();
    let platform = hub.platform(&[]);
    let hubs = hub.start(Options::default());
    let id = hubs.stream(platform.address);
    let post = format!("POST /gw/streams/{id}/messages");
    hubs.rig.ask(&post, json!([{"n": 1}])).result();
    let log = hubs.log(id, 403);
    let failed = log.iter().find(|it| it["event_code"] == 403).unwrap();
    assert_eq!(failed["error_code"], -4);
    assert!(failed["error_text"].as_str().unwrap().contains("streams.allow"), "{failed}");
    assert!(platform.asked().is_empty());
    drop(hubs);
    let _hubs = hub.start(local());
    until(|| received(&platform) == [(1, None)]);
}

/// Files below a folder that have a text in them.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if let Ok(bytes) = fs::read(&path)
            && bytes.windows(text.len()).any(|it| it == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_secret_is_shown_nowhere_and_kept_sealed() {
    const SECRET: &str = "Basic-c3VwZXItc2VjcmV0";
    let hub = Hub::new();
    let platform = hub.platform(&[]);
    let hubs = hub.start(local());
    let mut sent = stream(platform.address);
    sent["configuration"]["headers"] = json!({"authorization": SECRET});
    let made = hubs.rig.ask("POST /gw/streams", json!([sent]));
    let id = made.ids()[0];
    let patch = json!({"configuration": {"limit_messages": 2}, "metadata": {"a": 1}});
    let patched = hubs.rig.ask(&format!("PATCH /gw/streams/{id}"), patch);
    let asked = ["all", "all?fields=configuration", "configuration.headers=*", "%7Btrue%7D"];
    let asked = asked.map(|sel| hubs.rig.ask(&format!("GET /gw/streams/{sel}"), "").body);
    hubs.state(&format!("{id}/metadata"), "{\"a\":1}");
    let states = format!("{:?}", hubs.states.lock().unwrap());
    let log = Value::from(hubs.log(id, 2)).to_string();
    let fields = hubs.rig.ask("GET /gw/streams/all?fields=secrets", "");
    assert_eq!(fields.refusal(), (400, 3));
    for shown in [made.body, patched.body, states, log].iter().chain(&asked) {
        assert!(!shown.contains("c3VwZXI") && !shown.contains("secrets"), "{shown}");
    }
    drop(hubs);
    assert_eq!(files_with(hub.folder.path(), "c3VwZXI"), [""; 0]);
    assert!(!files_with(hub.folder.path(), "limit_messages").is_empty(), "the rest is there");
    let hubs = hub.start(local());
    hubs.rig.ask(&format!("POST /gw/streams/{id}/messages"), json!([{"n": 1}])).result();
    until(|| received(&platform).len() == 1);
    let asked = platform.asked();
    assert_eq!(asked[0].headers["authorization"], SECRET, "it is kept over a restart");
}

/// R2.24.
#[test]
fn a_token_of_one_stream_opens_that_one_and_links_what_it_may_read() {
    let hub = Hub::new();
    let platform = hub.platform(&[]);
    let hubs = hub.start(local());
    let (own, other) = (hubs.stream(platform.address), hubs.stream(platform.address));
    let submodule = |name: &str, methods: Value| json!([{"name": name, "methods": methods}]);
    let acl = json!([
        {"uri": "gw/streams", "methods": ["GET", "PUT"], "ids": [own],
            "submodules": submodule("channels", json!(["GET", "POST"]))},
        {"uri": "gw/channels", "methods": ["GET"], "ids": [7],
            "submodules": submodule("messages", json!(["GET"]))},
    ]);
    let (_, key) = hubs.rig.token(1, &json!({"type": 2, "acl": acl}));
    let ask = |request: String| hubs.rig.ask_with(&key, &request, "");
    assert_eq!(ask("GET /gw/streams/all".to_owned()).ids(), [own]);
    assert_eq!(ask(format!("GET /gw/streams/{other}")).refusal(), (403, 5));
    assert_eq!(ask(format!("POST /gw/streams/{own}/channels/7")).result().len(), 1);
    assert_eq!(ask(format!("POST /gw/streams/{other}/channels/7")).refusal(), (403, 5));
    assert_eq!(ask(format!("POST /gw/streams/{own}/channels/8")).refusal(), (403, 5));
    assert_eq!(ask(format!("POST /gw/streams/{own}/devices/7")).refusal(), (403, 5));
    assert_eq!(ask(format!("GET /gw/streams/{own}/logs")).refusal(), (403, 5));
    assert_eq!(ask(format!("DELETE /gw/streams/{own}/messages")).refusal(), (403, 5));
    hubs.say(&[of_device(8, 8, "b", 1), of_channel(8, "b", 2), of_channel(7, "a", 3)]);
    until(|| !received(&platform).is_empty());
    assert_eq!(received(&platform), [(3, None)]);
}
