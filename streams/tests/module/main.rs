//! Streams in a broker that runs: what channels and devices say, by REST and real servers. Numbers
//! are those of the specification of the modules.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

#[path = "../../../broker/tests/rest/client.rs"]
#[expect(dead_code, reason = "the tests of REST use the rest of it")]
mod client;
mod forms;
mod life;
mod packets;
mod rig;
mod rights;
#[path = "../streams/server.rs"]
#[expect(dead_code, reason = "the tests of sinks use the rest of it")]
mod server;
mod sources;
