//! Streams as their users meet them: real servers, real brokers, real disks.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod aws;
mod http;
mod kill;
mod memory;
mod mosquitto;
mod mqtt;
mod queue;
mod runner;
mod server;
mod thingsboard;
mod wialon;

use longshore_streams::{AnySink, Message, Protocol, Targets};
use serde_json::{Map, Value, json};

/// An object.
fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn message(value: &Value) -> Message {
    Message::new(object(value))
}

/// Messages that differ in their number alone.
fn messages(count: usize) -> Vec<Message> {
    (0..count)
        .map(|n| message(&json!({"ident": "35397", "timestamp": 1_700_000_000, "n": n})))
        .collect()
}

/// What may be reached in tests.
fn here() -> Targets {
    Targets::new(["127.0.0.0/8"]).unwrap()
}

/// A sink of this configuration, of stream 7.
fn sink(protocol: Protocol, configuration: &Value) -> AnySink {
    let configuration = protocol.configure(&object(configuration)).unwrap();
    AnySink::new(&configuration, &here(), "7").unwrap()
}
