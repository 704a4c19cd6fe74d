//! paho-mqtt and gmqtt (PyPI) and MQTT.js (npm), in Node and in Chromium: their scenarios are
//! scripts, and what is tested here is that they end well.

use std::process::Command;

use super::broker::Broker;
use super::certificates::Certificates;
use super::process::Process;
use super::tools::{node, python, system, unwanted};

const ALL: &[&str] = &["3.1", "3.1.1", "5"];
const LATER: &[&str] = &["3.1.1", "5"];
const V5: &[&str] = &["5"];

/// A client: what runs a scenario of its script.
type Client = fn() -> Command;

fn paho() -> Command {
    python("with_paho.py")
}

fn gmqtt() -> Command {
    python("with_gmqtt.py")
}

fn mqttjs() -> Command {
    node("with_mqttjs.mjs")
}

/// Runs `scenario` over TCP, in each of `versions` against a broker of its own.
fn check(client: Client, scenario: &str, versions: &[&str]) {
    if unwanted() {
        return;
    }
    for version in versions {
        let broker = Broker::start(&["mqtt"], &[]);
        run(client().args([scenario, &broker.url("mqtt"), version]));
    }
}

fn run(command: &mut Command) {
    let lines = Process::start(command).finish();
    assert_eq!(lines.last().map(String::as_str), Some("ok"), "{lines:?}");
}

/// A broker that listens for everything there is, with a certificate of its own.
struct Everywhere {
    broker: Broker,
    files: Certificates,
}

impl Everywhere {
    fn start(settings: &[(&str, &str)]) -> Self {
        let files = Certificates::new();
        let [cert, key] = ["server.pem", "server.key"].map(|name| files.text(name));
        let settings = [settings, &[("TLS__CERT", &cert), ("TLS__KEY", &key)]].concat();
        let schemes = ["mqtt", "mqtts", "ws", "wss", "http", "https"];
        Self { broker: Broker::start(&schemes, &settings), files }
    }

    /// Where it listens for `scheme`, the way a client of MQTT says it; http and https speak ws.
    fn url(&self, scheme: &str) -> String {
        let url = self.broker.url(scheme);
        match scheme {
            "http" => url.replace("http", "ws") + "/any/path?and=query",
            "https" => url.replace("https", "wss") + "/mqtt",
            _ => url,
        }
    }

    fn run(&self, client: Client, scenario: &str, scheme: &str, version: &str) {
        let mut command = client();
        command.args([scenario, &self.url(scheme), version]);
        run(command.arg(self.files.path("ca.pem")));
    }

    /// Runs `scenarios` in Chromium, on a page from another port.
    fn browse(&self, scenarios: &str, scheme: &str, version: &str) {
        let mut command = node("in_chromium.mjs");
        command.arg(system("chromium")).args([scenarios, &self.url(scheme), version]);
        run(command.arg(self.files.path("server.pem")));
    }
}

#[test]
fn paho_delivers_at_every_qos_in_every_version() {
    check(paho, "delivery", ALL);
    check(paho, "burst", ALL);
}

#[test]
fn paho_is_greeted_by_the_last_retained_message_until_it_is_cleared() {
    check(paho, "retained", ALL);
}

#[test]
fn a_will_of_paho_is_sent_when_it_vanishes_and_not_when_it_leaves() {
    check(paho, "will", ALL);
}

#[test]
fn a_persistent_session_of_paho_gets_what_it_missed_in_order() {
    check(paho, "session", ALL);
}

#[test]
fn a_second_paho_of_the_same_name_ends_the_first() {
    check(paho, "takeover", ALL);
}

#[test]
fn an_idle_paho_pings_and_stays() {
    check(paho, "keep_alive", ALL);
}

#[test]
fn a_paho_without_a_name_is_given_one() {
    check(paho, "nameless", ALL);
}

#[test]
fn each_message_goes_to_one_paho_of_a_shared_subscription() {
    check(paho, "shared", LATER);
}

#[test]
fn properties_of_paho_arrive_as_they_were_sent() {
    check(paho, "user_properties", V5);
}

#[test]
fn a_message_past_its_expiry_never_reaches_paho() {
    check(paho, "message_expiry", V5);
}

#[test]
fn a_request_of_paho_is_answered() {
    check(paho, "request_response", V5);
}

#[test]
fn subscription_options_of_paho_hold() {
    check(paho, "subscribe_options", V5);
}

#[test]
fn paho_comes_in_over_tls_and_websocket() {
    if unwanted() {
        return;
    }
    let everywhere = Everywhere::start(&[]);
    for scheme in ["mqtts", "ws", "wss"] {
        for version in ALL {
            everywhere.run(paho, "delivery", scheme, version);
        }
    }
}

#[test]
fn gmqtt_delivers_at_every_qos() {
    check(gmqtt, "delivery", LATER);
}

#[test]
fn gmqtt_is_greeted_by_the_last_retained_message_until_it_is_cleared() {
    check(gmqtt, "retained", LATER);
}

#[test]
fn gmqtt_deletes_what_is_retained_by_a_topic_filter() {
    check(gmqtt, "wildcard_delete", LATER);
}

#[test]
fn a_will_of_gmqtt_is_sent_when_it_vanishes_and_not_when_it_leaves() {
    check(gmqtt, "will", LATER);
}

#[test]
fn a_persistent_session_of_gmqtt_gets_what_it_missed_in_order() {
    check(gmqtt, "session", LATER);
}

#[test]
fn each_message_goes_to_one_gmqtt_of_a_shared_subscription() {
    check(gmqtt, "shared", LATER);
}

#[test]
fn properties_of_gmqtt_arrive_as_they_were_sent() {
    check(gmqtt, "user_properties", V5);
}

#[test]
fn gmqtt_comes_in_over_tls() {
    if unwanted() {
        return;
    }
    let everywhere = Everywhere::start(&[]);
    for version in LATER {
        everywhere.run(gmqtt, "delivery", "mqtts", version);
    }
}

#[test]
fn mqttjs_delivers_at_every_qos_in_every_version() {
    check(mqttjs, "delivery", ALL);
    check(mqttjs, "burst", ALL);
}

#[test]
fn mqttjs_is_greeted_by_the_last_retained_message_until_it_is_cleared() {
    check(mqttjs, "retained", ALL);
}

#[test]
fn a_will_of_mqttjs_is_sent_when_it_vanishes_and_not_when_it_leaves() {
    check(mqttjs, "will", ALL);
}

#[test]
fn a_persistent_session_of_mqttjs_gets_what_it_missed_in_order() {
    check(mqttjs, "session", ALL);
}

#[test]
fn mqttjs_reconnects_and_goes_on() {
    check(mqttjs, "reconnect", ALL);
}

#[test]
fn an_idle_mqttjs_pings_and_stays() {
    check(mqttjs, "keepAlive", ALL);
}

#[test]
fn each_message_goes_to_one_mqttjs_of_a_shared_subscription() {
    check(mqttjs, "shared", LATER);
}

#[test]
fn properties_of_mqttjs_arrive_as_they_were_sent() {
    check(mqttjs, "userProperties", V5);
}

#[test]
fn topic_aliases_of_mqttjs_and_for_it_stand_for_their_topics() {
    check(mqttjs, "topicAliases", V5);
}

#[test]
fn mqttjs_comes_in_over_every_transport_in_every_version() {
    if unwanted() {
        return;
    }
    let everywhere = Everywhere::start(&[]);
    for scheme in ["mqtts", "ws", "wss", "http", "https"] {
        for version in ALL {
            everywhere.run(mqttjs, "delivery", scheme, version);
        }
        everywhere.run(mqttjs, "burst", scheme, "5");
        everywhere.run(mqttjs, "reconnect", scheme, "5");
    }
}

#[test]
fn chromium_comes_in_over_websocket_from_a_foreign_origin() {
    if unwanted() {
        return;
    }
    let all = "delivery,burst,retained,will,session,reconnect,keepAlive,shared";
    Everywhere::start(&[]).browse(&format!("{all},userProperties,topicAliases"), "ws", "5");
    for version in ["3.1", "3.1.1"] {
        Everywhere::start(&[]).browse("delivery,burst,retained,session", "ws", version);
    }
    Everywhere::start(&[]).browse("delivery,reconnect", "http", "5");
}

#[test]
fn chromium_comes_in_over_secure_websocket_from_a_foreign_origin() {
    if unwanted() {
        return;
    }
    Everywhere::start(&[]).browse("delivery,burst,retained,will,session,reconnect", "wss", "5");
    Everywhere::start(&[]).browse("delivery", "https", "3.1.1");
}

#[test]
fn a_message_of_256_mb_passes_over_tcp_and_secure_websocket_once_the_limit_is_raised() {
    if unwanted() {
        return;
    }
    let everywhere = Everywhere::start(&[("LIMITS__PACKET_BYTES", "268435460")]);
    everywhere.run(mqttjs, "large", "mqtt", "3.1.1");
    everywhere.run(mqttjs, "large", "wss", "5");
}
