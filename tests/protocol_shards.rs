//! The protocol again, with a broker of several shards: clients that meet in a test live on
//! different ones, so that messages, groups, retained messages and connections have to cross over.
//! Its turns are as short as can be.

#[path = "shards/mod.rs"]
#[expect(dead_code, reason = "the simulator asks for more")]
mod shards;

/// Shards of the broker under test.
const SHARDS: usize = 3;

/// What one of its turns may cost: packets that come together are handled one a turn.
const TURN_WORK: Option<usize> = Some(1);

/// Whether it remembers anything.
const JOURNAL: bool = false;

#[path = "protocol/mod.rs"]
#[expect(dead_code, reason = "only a broker that remembers is started again")]
mod protocol;
