//! A channel is a client of another broker over TLS, and takes what that one publishes.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use rumqttc::{Client, MqttOptions, QoS};
use serde_json::{Value, json};

use super::broker::Broker;
use super::certificates::Certificates;
use super::flespi::Flespi;
use super::process::PATIENCE;

/// A broker with the certificate of this name.
fn other(files: &Certificates, name: &str) -> Broker {
    let [cert, key] = ["pem", "key"].map(|end| files.text(&format!("{name}.{end}")));
    Broker::start(&["mqtt", "mqtts"], &[("TLS__CERT", &cert), ("TLS__KEY", &key)])
}

/// A channel that listens there, with these fields beside the usual ones; its number.
fn channel(hub: &Flespi, other: &Broker, fields: &Value) -> u64 {
    let uri = format!("localhost:{}", other.address("mqtts").port());
    let mut configuration = json!({"source": "custom", "uri": uri, "ssl": true,
        "topics": ["cars/+"], "ident_level": 1});
    for (name, value) in fields.as_object().expect("it has members") {
        configuration[name] = value.clone();
    }
    let body = json!([{"name": "cars", "protocol_name": "mqtt", "configuration": configuration}]);
    let made = hub.ask("POST", "/gw/channels", &body.to_string());
    made["result"][0]["id"].as_u64().expect("it was made")
}

/// What a request is answered with, once that is right.
fn until(hub: &Flespi, path: &str, is_right: impl Fn(&Value) -> bool) -> Value {
    let mut answer = Value::Null;
    for _ in 0..PATIENCE.as_millis() / 10 {
        answer = hub.ask("GET", path, "")["result"].take();
        if is_right(&answer) {
            return answer;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("waited in vain for {path}: {answer}");
}

/// R10.6, R10.7, R3.22.
#[test]
fn a_channel_is_a_client_over_tls_of_a_broker_that_it_can_trust_and_of_no_other() {
    let files = Certificates::new();
    listens_to_whom_it_trusts(&files, &files.path("ca.pem"), &json!({}));
    let ca = fs::read_to_string(files.path("ca.pem")).expect("it is there");
    let nobody = files.path("nobody.pem");
    listens_to_whom_it_trusts(&files, &nobody, &json!({"ca": ca}));
}

/// The system trusts `roots`, and the channel has these fields beside the usual ones.
fn listens_to_whom_it_trusts(files: &Certificates, roots: &Path, fields: &Value) {
    let (trusted, stranger) = (other(files, "server"), other(files, "stranger"));
    let mut program = Command::new(env!("CARGO_BIN_EXE_longshore"));
    program.env("SSL_CERT_FILE", roots);
    let hub = Flespi::start_as(program, &["http"], &[("MODULES__CHANNELS", "true")]);

    let refused = channel(&hub, &stranger, fields);
    let is_closed = |log: &Value| log[0]["error_text"].is_string();
    let path = format!("/gw/channels/{refused}/logs?data=%7B%22filter%22:%22event_code=102%22%7D");
    let log = until(&hub, &path, is_closed);
    assert_eq!(log[0]["close_code"], 11, "{log}");
    let text = log[0]["error_text"].as_str().expect("it says why");
    assert!(text.contains("certificate"), "{text}");

    let taken = channel(&hub, &trusted, fields);
    let mut options = MqttOptions::new("writer", "127.0.0.1", trusted.address("mqtt").port());
    options.set_keep_alive(Duration::from_secs(30));
    let (client, mut connection) = Client::new(options, 10);
    thread::spawn(move || connection.iter().all(|event| event.is_ok()));
    // It is there for who has subscribed.
    client.publish("cars/7", QoS::AtLeastOnce, true, r#"{"position.speed":5}"#).expect("room");
    let messages = until(&hub, &format!("/gw/channels/{taken}/messages"), |it| it[0].is_object());
    assert_eq!((&messages[0]["ident"], &messages[0]["position.speed"]), (&json!("7"), &json!(5)));
    let path = format!("/gw/channels/{refused}/messages");
    assert_eq!(hub.ask("GET", &path, "")["result"], json!([]), "it trusts no stranger");
    hub.stop();
}
