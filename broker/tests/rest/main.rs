//! The REST API over real sockets, to a broker with accounts in memory.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod client;
mod conventions;
mod hostile;
mod platform;
mod tools;
