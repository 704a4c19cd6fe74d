//! The REST API over real sockets, to a broker with accounts in memory.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod client;
mod conventions;
mod fields;
mod hostile;
mod logs;
mod messages;
mod modules;
mod mqtt;
#[path = "../accounts/client.rs"]
#[expect(dead_code, reason = "the tests of accounts use the rest of it")]
mod mqtt_client;
mod platform;
mod tools;
