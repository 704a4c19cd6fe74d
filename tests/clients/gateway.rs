//! Programs of flespi's users that know its hub, unchanged: flespi-gateway, flespi and flespi-sdk
//! (PyPI), and axios (npm) with what the nodes of flespi for Node-RED ask; those nodes are not in
//! the registry.
//!
//! The first three ask `https://flespi.io` and no other host, so each test has a network where that
//! name is the broker and an authority that signs for it.

use std::process::Command;

use super::broker::{Broker, closed};
use super::certificates::Certificates;
use super::namespace::Namespace;
use super::process::Process;
use super::tools::{node, python, unwanted};

/// Runs a program against a broker that is `flespi.io` to it.
fn check(mut program: Command) {
    if unwanted() {
        return;
    }
    let (network, files) = (Namespace::with("flespi.io"), Certificates::new());
    let folder = tempfile::tempdir().expect("a folder for the data");
    let [cert, key] = ["server.pem", "server.key"].map(|name| files.text(name));
    let settings = [
        ("TLS__CERT", cert.as_str()),
        ("TLS__KEY", key.as_str()),
        ("CHANNELS__HOST", "127.0.0.1"),
        ("MODULES__CHANNELS", "true"),
        ("MODULES__REGISTRY", "true"),
        ("MODULES__STREAMS", "true"),
    ];
    let binary = Command::new(env!("CARGO_BIN_EXE_longshore"));
    let mut broker = closed(network.inside(&binary), folder.path(), &[], &settings);
    broker.args(["--listen", "https://127.0.0.1:443"]);
    let broker = Broker::run(&mut broker);
    let token = folder.path().join("longshore-data/master-token");
    let token = std::fs::read_to_string(token).expect("it is kept there");
    program.env("FLESPI_TOKEN", token.trim());
    // For requests, for ssl of Python, and for Node.
    for name in ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"] {
        program.env(name, files.path("ca.pem"));
    }
    let lines = Process::start(&mut network.inside(&program)).finish();
    assert_eq!(lines.last().map(String::as_str), Some("ok"), "{lines:?}");
    broker.stop();
}

fn of_python(scenario: &str) {
    let mut program = python("flespi_rest.py");
    program.arg(scenario);
    check(program);
}

/// R2.13, R2.16, R2.19, R3.2, R3.8 to R3.12, R4.7, R6.5.
#[test]
fn flespi_of_python_pulls_a_channel_and_makes_changes_and_removes_what_is_there() {
    of_python("flespi");
}

/// R1.5, R2.11, R4.8, R4.9, R8.2.
#[test]
fn flespi_gateway_reads_all_that_a_device_has() {
    of_python("flespi_gateway");
}

/// R2.3, R2.6, R2.7, R2.9; broker specification, 15.2.4.
#[test]
fn flespi_sdk_finds_devices_of_its_account_and_keeps_metadata() {
    of_python("flespi_sdk_account");
}

/// R2.16, R4.6, R6.5.
#[test]
fn axios_makes_devices_and_links_streams_as_the_nodes_of_node_red_do() {
    check(node("flespi_axios.mjs"));
}
