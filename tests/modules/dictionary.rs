//! What tools look up of a hub: the topics and codes of all its modules.

use std::collections::BTreeSet;
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use rumqttc::{Client, Event, Incoming, MqttOptions, QoS};
use serde_json::{Value, json};

use super::clients::{Broker, LATE};
use super::hub::Hub;
use super::rest::{Rest, id};
use super::tracker::Tracker;

/// Both dictionaries.
fn dictionaries(rest: &Rest) -> (Value, Value) {
    let path = "/const/values?names=toolbox/topics,toolbox/codes";
    let mut both = rest.list("GET", path, &Value::Null).remove(0);
    (both["toolbox/topics"]["topics"].take(), both["toolbox/codes"].take())
}

/// Hears topics under `flespi/` until one of them ends so.
fn hear_until(broker: &Broker, hub: &Hub, last: &'static str) -> impl FnOnce() -> BTreeSet<String> {
    let address = broker.address("mqtt");
    let mut options = MqttOptions::new("tool", address.ip().to_string(), address.port());
    options.set_credentials(hub.key(), "");
    let (client, mut connection) = Client::new(options, 16);
    client.subscribe("flespi/#", QoS::AtLeastOnce).expect("it is sent");
    let heard = spawn(move || {
        let (mut topics, begun) = (BTreeSet::new(), Instant::now());
        for event in connection.iter() {
            if let Event::Incoming(Incoming::Publish(message)) = event.expect("it is connected") {
                let is_last = message.topic.ends_with(last);
                topics.insert(message.topic);
                if is_last {
                    break;
                }
            }
            assert!(begun.elapsed() < LATE, "nothing ends in {last}: {topics:#?}");
        }
        topics
    });
    move || {
        let topics = heard.join().expect("it was heard");
        drop(client);
        topics
    }
}

/// Whether a topic is one of those that a pattern means.
fn is_of(pattern: &str, topic: &str) -> bool {
    let (pattern, topic) = (pattern.split('/'), topic.split('/'));
    pattern.clone().count() == topic.clone().count()
        && pattern.zip(topic).all(|(of, level)| of.starts_with('{') || of == level)
}

/// Broker specification, 7.4; of the modules: R7.2, R8.4 to R8.7.
#[test]
fn all_that_a_hub_says_is_in_the_dictionary_of_topics() {
    let hub = Hub::new();
    let broker = hub.start(&[]);
    let rest = hub.rest(&broker);
    let heard = hear_until(&broker, &hub, "/channels/1/deleted");
    let (channel, trackers) = rest.channel("wialon_ips");
    let device = rest.device("car");
    let stream = json!({"protocol_id": 1, "configuration": {"uri": "http://127.0.0.1:9/"}});
    let stream = id(&rest.make("/gw/streams", &stream));
    rest.list("POST", &format!("/gw/streams/{stream}/devices/{device}"), &Value::Null);
    let command = json!([{"name": "custom", "properties": {"text": "x"}}]);
    rest.list("POST", &format!("/gw/devices/{device}/commands-queue"), &command);
    let setting = json!({"properties": 1, "address": "local"});
    rest.list("PUT", &format!("/gw/devices/{device}/settings/note"), &setting);
    let mut tracker = Tracker::new("car".to_owned(), 1);
    tracker.work(trackers, |it| it.acknowledged.len() >= 3);
    rest.await_all(&format!("/gw/devices/{device}/messages"), tracker.acknowledged.len());
    // The stream fails, and says so.
    sleep(Duration::from_millis(500));
    for path in ["/gw/streams/all", "/gw/devices/all", "/gw/channels/all"] {
        rest.list("DELETE", path, &Value::Null);
    }
    assert_eq!(channel, 1);
    let (topics, _) = dictionaries(&rest);
    let known = topics.as_object().expect("topics");
    for topic in heard() {
        assert!(known.keys().any(|pattern| is_of(pattern, &topic)), "{topic}");
    }
}

/// Broker specification, 7.4; of the modules: R8.4, R8.6.
#[test]
fn a_device_is_disconnected_for_the_reasons_for_which_its_channel_closes_connections() {
    let hub = Hub::new();
    let broker = hub.start(&[]);
    let (_, codes) = dictionaries(&hub.rest(&broker));
    for entity in ["base", "channels", "devices", "streams", "mqtt", "platform"] {
        let listed = codes["entities"][entity].as_array().expect("a list");
        let is_known = |code: &Value| codes["codes"][code.to_string()]["code"] == *code;
        assert!(!listed.is_empty() && listed.iter().all(is_known), "{entity}");
    }
    let (closed, gone) = (&codes["codes"]["102"], &codes["codes"]["301"]);
    assert_eq!(closed["extra_name"], "close_code");
    assert!(closed["extra_codes"]["2"]["description"].is_string());
    assert_eq!(closed["extra_codes"], gone["extra_codes"]);
    let blocked = codes["codes"]["20"]["extra_codes"].as_object().expect("reasons of all");
    assert!(["4", "5", "6"].iter().all(|code| blocked.contains_key(*code)));
}
