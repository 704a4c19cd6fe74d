//! What shards are made with.

use std::sync::{Arc, Mutex};

use longshore_acl::Authenticate;

use crate::commons::Commons;
use crate::dialect::Dialect;
use crate::journal::ReadRecords;
use crate::limits::Limits;
use crate::message::Entry;
use crate::recovery;
use crate::session::Pages;
use crate::slots::SHARDS_MAX;
use crate::stats::Stats;

/// What a turn costs by default: about a millisecond.
const TURN_WORK: usize = 20_000;
/// What it costs to write a message down, or to read it again, as work of a turn.
pub(super) const RECORD_WORK: usize = 40;
/// What an event for the log costs, as work of a turn, whoever writes it down.
pub(super) const LOG_WORK: usize = 40;

/// What a shard is made with.
#[derive(Clone)]
#[non_exhaustive]
pub struct Config {
    /// The bounds clients move in.
    pub limits: Arc<Limits>,
    /// Where it does more than the standard asks for.
    pub dialect: Dialect,
    /// Who may come in.
    pub authenticate: Arc<dyn Authenticate>,
    /// Where the shard counts.
    pub stats: Arc<Stats>,
    /// The only randomness: client ids the broker assigns come from it.
    pub seed: u64,
    /// What a turn may cost, in steps of some tens of nanoseconds, before connections have to wait
    /// for the next one with what is left of their reads. So nobody waits long for anybody's
    /// messages, however many they reach and however hard their receivers are to find.
    pub turn_work: usize,
    /// The shard's number.
    pub(super) number: usize,
    /// How many shards there are.
    pub(super) shards: usize,
    pub(crate) commons: Arc<Commons>,
    /// The journal, for a broker that is to remember, and what it remembered.
    pub(crate) storage: Option<Storage>,
}

/// What a shard that is to remember is made with.
#[derive(Clone, Debug)]
pub(crate) struct Storage {
    pub(crate) reader: Arc<dyn ReadRecords>,
    /// Sessions that were there before.
    pub(crate) sessions: Arc<Mutex<Vec<recovery::Session>>>,
    /// Those on which their messages stand.
    pub(crate) pages: Arc<Pages<Arc<Entry>>>,
    /// The last number of a message.
    pub(crate) last_message: u64,
    /// Seconds that their wills wait at least.
    pub(crate) will_grace_secs: u64,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Config {
    /// The configuration of a broker's only shard, with fresh counters.
    #[must_use]
    pub fn new(limits: Limits, authenticate: Arc<dyn Authenticate>, seed: u64) -> Self {
        Self::of(1, limits, authenticate, seed).remove(0)
    }

    /// The configurations of the shards of one broker, at most [`Config::SHARDS_MAX`].
    ///
    /// Shards send one another [`Mail`](crate::Mail) and connections: see
    /// [`Shard::take_mail`](crate::Shard::take_mail) and
    /// [`Shard::moving`](crate::Shard::moving).
    pub fn of(
        shards: usize,
        limits: Limits,
        authenticate: Arc<dyn Authenticate>,
        seed: u64,
    ) -> Vec<Self> {
        assert!((1..=SHARDS_MAX).contains(&shards), "a broker has 1 to {SHARDS_MAX} shards");
        let (limits, commons) = (Arc::new(limits), Arc::new(Commons::new(shards)));
        let config = |number| Self {
            limits: Arc::clone(&limits),
            dialect: Dialect::default(),
            authenticate: Arc::clone(&authenticate),
            stats: Arc::default(),
            seed,
            turn_work: TURN_WORK,
            number,
            shards,
            commons: Arc::clone(&commons),
            storage: None,
        };
        (0..shards).map(config).collect()
    }

    /// Shards that one broker may have.
    pub const SHARDS_MAX: usize = SHARDS_MAX;
}
