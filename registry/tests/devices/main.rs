//! Devices in a real broker, whose channels are played by a module of the test.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[path = "../../../broker/tests/rest/client.rs"]
#[expect(dead_code, reason = "the tests of REST use the rest of it")]
mod client;
mod commands;
mod consumers;
mod hub;
mod many;
mod messages;
#[path = "../../../broker/tests/accounts/client.rs"]
#[expect(dead_code, reason = "the tests of accounts use the rest of it")]
mod mqtt_client;
mod objects;
mod reading;
mod restart;
mod settings;
