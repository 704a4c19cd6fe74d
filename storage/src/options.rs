//! What a log is opened with.

use std::hash::{BuildHasher, Hasher, RandomState};

/// What must have happened before a ticket is called durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Level {
    /// Written and on the medium: survives a cut of the power.
    #[default]
    Power,
    /// Handed to the system: survives the end of the process in any way, and of nothing else.
    Process,
    /// Nothing. Records are written in large pieces when there are enough of them, and all at a
    /// clean stop.
    None,
}

/// How a log behaves.
///
/// Take [`Options::default`] and change what you need.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What a durable ticket promises. Default [`Level::Power`].
    pub level: Level,
    /// Bytes of a new segment, 4 KiB to 1 GiB and whole sectors of 512. Those that are there keep
    /// their size. Default 64 MiB.
    pub segment_bytes: u32,
    /// Bytes of the body of one record. Default 260 MiB: a packet of MQTT, with all that is noted
    /// of it.
    pub record_bytes_max: usize,
    /// Bytes that may wait to be written. One batch is taken when none wait, however large.
    /// Default 16 MiB.
    pub pending_bytes_max: usize,
    /// Retired segments kept to be used again, beside the one that is always allocated ahead.
    /// Default 2.
    pub spares_max: usize,
    /// What the salts of new segments are made from, so that no client can write bytes that look
    /// like a part of the log. Default: another one in each process.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            level: Level::Power,
            segment_bytes: 64 << 20,
            record_bytes_max: 260 << 20,
            pending_bytes_max: 16 << 20,
            spares_max: 2,
            // The keys of the standard library's hash maps are random, and differ per call.
            seed: RandomState::new().build_hasher().finish(),
        }
    }
}
