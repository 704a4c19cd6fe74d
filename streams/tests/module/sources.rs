//! Linking streams where the broker knows which channels there are.

use std::sync::Arc;

use longshore_broker::module::{Head, Item, Objects, Paths, Running};
use longshore_broker::rest::{Fault, Field, Kind, Object, Route};
use longshore_broker::{Context, Module};
use serde_json::{Map, Value, json};

use super::client::Answer;
use super::rig::{Hub, Started, local};

/// A channel with a name.
#[derive(Debug)]
struct Channel {
    head: Head,
    kept: Map<String, Value>,
}

impl Item for Channel {
    const URI: &'static str = "gw/channels";
    const ORIGIN: u64 = 9;
    const OBJECT: &'static Object = &Object {
        name: "Channel",
        fields: &[
            Field::new("id", Kind::Whole, "Its number"),
            Field::new("cid", Kind::Whole, "Its account"),
            Field::new("name", Kind::Text, "What its owner calls it").set(),
        ],
        is_open: false,
    };

    fn read(head: Head, kept: Map<String, Value>, _: Option<&Self>) -> Result<Self, Fault> {
        Ok(Self { head, kept })
    }

    fn head(&self) -> Head {
        self.head
    }

    fn kept(&self) -> Map<String, Value> {
        self.kept.clone()
    }
}

struct Channels {
    context: Context,
    objects: Arc<Objects<Channel>>,
}

impl Module for Channels {
    fn name(&self) -> &'static str {
        "channels"
    }

    fn routes(self: Arc<Self>) -> Vec<Route> {
        let (all, some) = ("/gw/channels", "/gw/channels/{sel}");
        self.objects.routes(Paths { all, some, logs: "/gw/channels/{sel}/logs" })
    }

    fn run(self: Arc<Self>) -> Running {
        Box::pin(async move { self.context.stopped().await })
    }
}

/// A hub with channels of these names, from number 1 on.
fn start(hub: &Hub, names: &[&str]) -> Started {
    let hubs = hub.start_with(local(), |builder| {
        builder.module(|context| {
            let objects = Arc::new(Objects::<Channel>::open(&context, "channels", |_| {})?);
            Ok(Channels { context, objects })
        })
    });
    let channels: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
    hubs.rig.ask("POST /gw/channels", json!(channels)).result();
    hubs
}

/// The channels of the links that an answer has.
fn channels(answer: &Answer) -> Vec<u64> {
    let answer = answer.json();
    let links = answer["result"].as_array().unwrap();
    links.iter().map(|link| link["channel_id"].as_u64().unwrap()).collect()
}

/// R2.16, R6.5, R6.6.
#[test]
fn a_stream_is_linked_to_nothing_that_is_not_there() {
    let hub = Hub::new();
    let hubs = start(&hub, &["a", "b"]);
    let id = hubs.stream(hub.nowhere());
    let path = format!("/gw/streams/{id}");
    let partly = hubs.rig.ask(&format!("POST {path}/channels/9,2"), "");
    assert_eq!((partly.status, channels(&partly)), (200, vec![2]));
    let missing = json!([{"code": 6, "id": 9, "reason": "no such object"}]);
    assert_eq!(partly.json()["errors"], missing);
    assert_eq!(hubs.rig.ask(&format!("POST {path}/channels/8,9"), "").refusal(), (404, 6));
    let subscriptions = format!("{path}/subscriptions");
    let sent = json!([{"channel_id": 7}, {"channel_id": 1}, {"device_id": 7}]);
    let partly = hubs.rig.ask(&format!("POST {subscriptions}"), sent);
    assert_eq!(channels(&partly), [1, 0], "nobody knows which devices there are");
    assert_eq!(partly.json()["errors"][0]["index"], 0);
    let put = hubs.rig.ask(&format!("PUT {subscriptions}/1"), json!({"channel_id": 7}));
    assert_eq!(put.refusal(), (404, 6));
    assert_eq!(channels(&hubs.rig.ask(&format!("GET {path}/channels/all"), "")), [1, 2]);
    let part = hubs.rig.ask(&format!("GET {path}/channels/all?limit=1&offset=1"), "");
    assert_eq!(channels(&part), [2]);
    assert_eq!(part.json()["pagination"], json!({"limit": 1, "offset": 1, "count": 2}), "R2.10");
    let child = hubs.rig.account(1);
    let other = hubs.rig.ask_for(child, "POST /gw/channels", json!([{"name": "c"}])).ids()[0];
    hubs.rig.ask(&format!("POST {path}/channels/{other}"), "").result();
    let stream = super::rig::stream(hub.nowhere());
    let below = hubs.rig.ask_for(child, "POST /gw/streams", json!([stream])).ids()[0];
    let link = format!("POST /gw/streams/{below}/channels/1");
    assert_eq!(hubs.rig.ask_for(child, &link, "").refusal(), (404, 6));
}

/// R6.5, R2.6, R2.24.
#[test]
fn sources_are_chosen_by_what_they_have() {
    let hub = Hub::new();
    let hubs = start(&hub, &["truck 1", "truck 2", "car"]);
    let (id, other) = (hubs.stream(hub.nowhere()), hubs.stream(hub.nowhere()));
    let ask = |request: &str| hubs.rig.ask(request, "");
    let path = format!("/gw/streams/{id}/channels");
    assert_eq!(channels(&ask(&format!("POST {path}/name=truck*"))), [1, 2]);
    assert_eq!(channels(&ask(&format!("POST {path}/all"))), [1, 2, 3]);
    assert_eq!(channels(&ask(&format!("GET {path}/name=*c*,id%3E1"))), [2, 3]);
    assert_eq!(channels(&ask(&format!("GET {path}/channel_id=3"))), [3]);
    assert_eq!(channels(&ask(&format!("DELETE {path}/name=truck*"))), [1, 2]);
    assert_eq!(channels(&ask(&format!("GET {path}/all"))), [3]);
    assert_eq!(ask(&format!("POST {path}/colour=red")).refusal(), (400, 3));
    assert_eq!(ask(&format!("POST /gw/streams/{id}/devices/all")).refusal(), (400, 2));
    let may = |uri: &str, submodule: &str, ids: Value| {
        json!({"uri": uri, "ids": ids, "methods": ["GET"],
            "submodules": [{"name": submodule, "methods": ["GET", "POST"]}]})
    };
    let acl =
        [may("gw/streams", "channels", json!("all")), may("gw/channels", "messages", json!([2]))];
    let (_, key) = hubs.rig.token(1, &json!({"type": 2, "acl": acl}));
    let link = format!("POST /gw/streams/{other}/channels/all");
    assert_eq!(channels(&hubs.rig.ask_with(&key, &link, "")), [2]);
}
