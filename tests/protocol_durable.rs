//! The protocol again, with a broker that remembers: acknowledgements wait for its journal, and
//! what waits for absent clients is read back from there.

#[path = "shards/mod.rs"]
#[expect(dead_code, reason = "the simulator asks for more")]
mod shards;

/// Shards of the broker under test.
const SHARDS: usize = 2;

/// What one of its turns may cost; none for the default.
const TURN_WORK: Option<usize> = None;

/// Whether it remembers anything.
const JOURNAL: bool = true;

#[path = "protocol/mod.rs"]
mod protocol;

#[path = "protocol_durable/mod.rs"]
mod durable;
