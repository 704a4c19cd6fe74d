//! `longshore bench fleet` against the real binary: what it counts, never how long it takes.

use std::process::{Command, Output};

use serde_json::Value;

use super::clients::Broker;
use super::hub::{self, Hub};

/// What the line of the table with this name says.
fn row<'t>(table: &'t str, name: &str) -> &'t str {
    let found = table.lines().find_map(|line| line.strip_prefix(name));
    found.unwrap_or_else(|| panic!("no {name}:\n{table}")).trim()
}

/// The number with which a line begins.
fn number(table: &str, name: &str) -> u64 {
    let text = row(table, name).split(' ').next().unwrap_or_default();
    text.parse().unwrap_or_else(|_| panic!("no number at {name}:\n{table}"))
}

fn bench(hub: &Hub, broker: &mut Broker, options: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
    command.args(["bench", "fleet", "--seconds", "3", "--interval-ms", "100"]).args(options);
    command.arg("--data-dir").arg(hub.path().join("longshore-data"));
    let usual = [
        ("--broker-pid", broker.process().pid().as_raw_nonzero().to_string()),
        ("--url", broker.url("http")),
        ("--mqtt", broker.address("mqtt").to_string()),
    ];
    for (name, value) in usual.iter().filter(|(name, _)| !options.contains(name)) {
        command.args([name, value.as_str()]);
    }
    command.output().expect("it is built")
}

#[test]
fn a_fleet_is_measured_and_leaves_nothing() {
    let hub = Hub::new();
    let mut broker = hub.start(&[]);
    let output = bench(&hub, &mut broker, &["--trackers", "50"]);
    let table = String::from_utf8_lossy(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{table}{said}");
    assert_eq!(number(&table, "trackers"), 50);
    let (sent, acknowledged) = (number(&table, "messages sent"), number(&table, "acknowledged"));
    assert!(acknowledged >= 50, "each has said something: {table}");
    assert_eq!(sent, acknowledged, "{table}{said}");
    assert_eq!(number(&table, "streamed"), acknowledged, "{table}{said}");
    assert_eq!(number(&table, "connections lost"), 0, "{table}");
    for name in ["acknowledgement", "pair alone", "pair beside the fleet"] {
        assert!(row(&table, name).ends_with(" ms"), "{table}");
    }
    for name in ["broker CPU per message", "broker memory at the end", "memory of a device"] {
        row(&table, name);
    }
    assert!(said.contains("streamed"), "progress: {said}");
    let rest = hub.rest(&broker);
    for objects in ["channels", "devices", "streams"] {
        assert!(rest.list("GET", &format!("/gw/{objects}/all"), &Value::Null).is_empty());
    }
}

#[test]
fn a_fleet_that_cannot_be_says_what_to_do() {
    let hub = Hub::new();
    let mut broker = hub.start(&[hub::CLOSED]);
    let rows: [(&[&str], &str); 4] = [
        (&["--token", "x"], "a master token with --token"),
        (&["--url", "http://127.0.0.1:1"], "http listener with --url"),
        (&["--mqtt", "127.0.0.1:1"], "is that its mqtt listener?"),
        // Nothing is allowed there.
        (&["--trackers", "1"], "STREAMS__ALLOW"),
    ];
    for (options, want) in rows {
        let output = bench(&hub, &mut broker, options);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{options:?}");
        assert!(said.contains(want), "{options:?}: {said}");
    }
    let rest = hub.rest(&broker);
    assert!(rest.list("GET", "/gw/devices/all", &Value::Null).is_empty(), "it is cleaned up");
}
