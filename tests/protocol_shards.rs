//! The protocol again, with a broker of several shards: clients that meet in a test live on
//! different ones, so that messages, groups, retained messages and connections have to cross over.

#[path = "shards/mod.rs"]
mod shards;

/// Shards of the broker under test.
const SHARDS: usize = 3;

#[path = "protocol/mod.rs"]
mod protocol;
