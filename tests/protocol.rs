//! The protocol, statement by statement: the shard in virtual time, driven by bytes.
//!
//! A test is named by the fact it asserts, and its doc comment carries the ids of the statements it
//! proves: `[MQTT-3.1.0-1]` of MQTT 5.0, `[MQTT-3.1.0-1 v3.1.1]` of MQTT 3.1.1 (`tests/spec`).
//! Rules that hold for every packet are kept in `watch`, which looks on in all of them.

#[path = "shards/mod.rs"]
#[expect(dead_code, reason = "the simulator asks for more")]
mod shards;

/// Shards of the broker under test. `tests/protocol_shards.rs` has several.
const SHARDS: usize = 1;

/// What one of its turns may cost; none for the default.
const TURN_WORK: Option<usize> = None;

/// Whether it remembers anything.
const JOURNAL: bool = false;

#[path = "protocol/mod.rs"]
#[expect(dead_code, reason = "only a broker that remembers is started again")]
mod protocol;
