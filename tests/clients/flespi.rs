//! Programs of flespi's users, unchanged: gmqtt (PyPI), MQTT.js (npm) and mosquitto's (Debian) with
//! a token of the broker, which lets in nobody else.
//!
//! Those that know flespi's hub are in `gateway.rs`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::broker::{Broker, closed};
use super::process::Process;
use super::tools::{mosquitto, node, python, unwanted};

const BOTH: &[&str] = &["3.1.1", "5"];
const V5: &[&str] = &["5"];

/// A broker at its first start, and where it keeps its master token.
pub(super) struct Flespi {
    broker: Broker,
    folder: TempDir,
}

impl Flespi {
    pub(super) fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with settings as [`Broker::start`] has them.
    pub(super) fn start_with(settings: &[(&str, &str)]) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_longshore"));
        Self::start_as(program, &["mqtt", "ws", "http"], settings)
    }

    /// The same with a listener for each of `schemes`; `program` ends in the binary.
    pub(super) fn start_as(program: Command, schemes: &[&str], settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the data");
        let command = &mut closed(program, folder.path(), schemes, settings);
        Self { broker: Broker::run(command), folder }
    }

    /// Where it listens for `scheme`.
    pub(super) fn url(&self, scheme: &str) -> String {
        self.broker.url(scheme)
    }

    /// What a request of REST is answered with, which must be 200.
    pub(super) fn ask(&self, method: &str, path: &str, body: &str) -> Value {
        let request = ureq::http::Request::builder().method(method);
        let request = request.uri(format!("{}{path}", self.url("http")));
        let request = request.header("Authorization", format!("FlespiToken {}", self.key()));
        let request = request.body(body.to_owned()).expect("a good request");
        let mut answer = ureq::run(request).unwrap_or_else(|error| panic!("{path}: {error}"));
        let text = answer.body_mut().read_to_string().expect("a text");
        serde_json::from_str(&text).expect("JSON")
    }

    /// Stops it in good order.
    pub(super) fn stop(self) {
        self.broker.stop();
    }

    /// Where the master token is.
    pub(super) fn token_file(&self) -> PathBuf {
        self.folder.path().join("longshore-data/master-token")
    }

    /// The master token of the first start.
    pub(super) fn key(&self) -> String {
        let key = fs::read_to_string(self.token_file()).expect("it is kept there");
        let key = key.trim().to_owned();
        assert_eq!(key.len(), 64, "spec 4.1");
        key
    }

    /// Number and key of a new token with these rules, as `longshore token` makes it.
    fn token(&self, acl: &str) -> (String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_longshore"))
            .args(["token", "create", "--type", "acl", "--acl", acl, "--ttl", "600", "--token"])
            .args([&self.key(), "--url", &self.url("http")])
            .output()
            .expect("it is built");
        assert!(output.status.success(), "{output:?}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        let said = text(&output.stderr);
        let number = said.trim_start_matches(|it: char| !it.is_ascii_digit());
        let number = number.split(|it: char| !it.is_ascii_digit()).next().unwrap_or_default();
        (number.to_owned(), text(&output.stdout))
    }
}

/// Runs `scenario` of gmqtt with the token bare and with its word before it, in each version.
fn gmqtt(scenario: &str, versions: &[&str]) {
    if unwanted() {
        return;
    }
    for version in versions {
        for word in ["", "FlespiToken "] {
            let flespi = Flespi::start();
            let mut command = python("flespi_gmqtt.py");
            command.args([scenario, &flespi.url("mqtt"), version]);
            run(command.env("MQTT_USERNAME", format!("{word}{}", flespi.key())));
        }
    }
}

/// Runs `scenario` of MQTT.js over WebSocket, on the port that has the REST API, too.
fn mqttjs(scenario: &str, versions: &[&str]) {
    if unwanted() {
        return;
    }
    for version in versions {
        mqttjs_over("http", scenario, version);
    }
}

/// Runs `scenario` of MQTT.js on the listener of a scheme.
fn mqttjs_over(scheme: &str, scenario: &str, version: &str) {
    let flespi = Flespi::start();
    let rest = flespi.url("http");
    let url = match scheme {
        "http" => rest.replace("http", "ws") + "/mqtt",
        _ => flespi.url(scheme),
    };
    let mut command = node("with_mqttjs.mjs");
    command.args([scenario, &url, version]).env("REST_URL", rest);
    run(command.env("MQTT_USERNAME", format!("FlespiToken {}", flespi.key())));
}

fn run(command: &mut Command) {
    let lines = Process::start(command).finish();
    // A client may complain of its own end after that.
    assert!(lines.iter().any(|line| line == "ok"), "{lines:?}");
}

/// Spec 3.1, 3.3, 12.2.
#[test]
fn gmqtt_with_a_token_delivers_and_unsubscribes() {
    gmqtt("basic", BOTH);
}

/// Spec 9.1, 10.4, 10.6.
#[test]
fn gmqtt_with_a_token_is_greeted_by_what_is_retained_and_told_of_its_publisher() {
    gmqtt("retained", BOTH);
}

/// Spec 11.1, 11.6, 11.9.
#[test]
fn a_session_of_gmqtt_with_a_token_gets_what_it_missed() {
    gmqtt("offline", BOTH);
}

/// Spec 19.1.
#[test]
fn a_will_of_gmqtt_with_a_token_is_sent_when_it_asks_for_it() {
    gmqtt("will", BOTH);
}

/// Spec 13.2.
#[test]
fn two_of_gmqtt_share_ten_messages_and_both_get_some() {
    gmqtt("shared", BOTH);
}

/// Spec 12.5.
#[test]
fn overlapping_subscriptions_of_gmqtt_give_one_copy() {
    gmqtt("overlapping", BOTH);
}

/// Spec 11.7.
#[test]
fn what_gmqtt_has_not_acknowledged_comes_again() {
    gmqtt("redelivery", BOTH);
}

/// Spec 9.11.
#[test]
fn a_request_of_gmqtt_is_answered() {
    gmqtt("request_response", V5);
}

/// Spec 3.8.
#[test]
fn a_gmqtt_without_a_name_is_told_the_one_it_is_given() {
    gmqtt("assigned", V5);
}

/// Spec 9.10.
#[test]
fn a_user_property_of_subscribe_that_means_nothing_is_ignored() {
    gmqtt("subscribe_property", V5);
}

/// Spec 3.7.
#[test]
fn a_gmqtt_with_a_token_of_nobody_is_refused_for_good() {
    gmqtt("stranger", BOTH);
}

/// Spec 12.5, 12.6.
#[test]
fn mqttjs_tells_messages_apart_by_subscription_identifiers() {
    mqttjs("identifiers", V5);
}

/// Spec 11.11.
#[test]
fn mqttjs_reads_its_token_from_connack() {
    mqttjs("connack", V5);
}

/// Spec 11.11, 15.2.3.
#[test]
fn mqttjs_restores_its_subscriptions_from_connack() {
    mqttjs("restored", V5);
}

/// Spec 6.3 to 6.6.
#[test]
fn mqttjs_sees_the_accounts_below_or_the_one_it_asks_for() {
    mqttjs("accounts", V5);
}

/// Spec 14.1.
#[test]
fn mqttjs_subscribes_with_filters_that_are_encoded() {
    mqttjs("filters", BOTH);
}

/// Spec 8.2, 8.3.
#[test]
fn mqttjs_subscribes_with_topic_selectors() {
    mqttjs("selectors", BOTH);
}

/// Spec 9.7.
#[test]
fn mqttjs_deletes_what_its_account_retains_by_a_topic_filter() {
    mqttjs("wildcardDeletion", BOTH);
}

/// Spec 3.2, 3.4.
#[test]
fn mqttjs_comes_in_with_a_number_and_sixteen_characters() {
    mqttjs("special", BOTH);
}

/// Spec 5.1 to 5.5; CVE-2018-20145.
#[test]
fn mqttjs_with_rules_does_what_they_allow_on_every_listener() {
    if unwanted() {
        return;
    }
    for scheme in ["mqtt", "ws", "http"] {
        mqttjs_over(scheme, "rules", "5");
    }
}

/// Spec 9.5, 9.6.
#[test]
fn mqttjs_counts_its_subscribers() {
    mqttjs("counting", V5);
}

/// Spec 3.1, 3.2, 3.4, 5.1, 5.4.
#[test]
fn mosquitto_clients_come_in_with_a_token_and_do_what_its_rules_allow() {
    if unwanted() {
        return;
    }
    let flespi = Flespi::start();
    let acl = r#"[{"uri": "mqtt", "topic": "plant/7/#", "actions": ["publish", "subscribe"]}]"#;
    let (number, bound) = flespi.token(acl);
    let (master, address) = (flespi.key(), flespi.broker.address("mqtt"));
    let port = address.port().to_string();
    let command = |name: &str, version: &str, login: &[&str], options: &[&str]| {
        let mut command = mosquitto(name);
        command.args(["-h", "127.0.0.1", "-p", &port, "-V", version]).args(login).args(options);
        command
    };
    let prefixed = format!("FlespiToken {master}");
    let logins: [&[&str]; 4] = [
        &["-u", &master],
        &["-u", &prefixed],
        &["-u", "anything", "-P", &master],
        &["-u", &number, "-P", &bound[..16]],
    ];
    for version in ["mqttv31", "mqttv311", "mqttv5"] {
        for login in logins {
            let options = ["-d", "-t", "plant/#", "-q", "1", "-C", "1", "-F", "got %t %p"];
            let mut reader =
                Process::start(&mut command("mosquitto_sub", version, login, &options));
            reader.until("Subscribed (mid: 1)");
            // What the rules do not allow goes nowhere, and ends no connection.
            let messages = [(&*bound, "plant/8"), (&*bound, "plant/7/pump")];
            for (key, topic) in messages {
                let options = ["-t", topic, "-q", "1", "-m", version];
                let mut publisher = command("mosquitto_pub", version, &["-u", key], &options);
                Process::start(&mut publisher).end();
            }
            let got = reader.until("got ");
            assert_eq!(got, format!("got plant/7/pump {version}"), "{login:?}");
        }
        let login = ["-u", &master[1..]];
        let mut stranger = command("mosquitto_pub", version, &login, &["-t", "a", "-m", "x"]);
        let (status, lines) = Process::start(&mut stranger).end();
        assert!(!status.success(), "{lines:?}");
    }
}
