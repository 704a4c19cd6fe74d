//! What all shards of a broker have counted, together.

use std::sync::Arc;

use crate::commons::Commons;
use crate::shard::Config;
use crate::stats::Stats;

/// The numbers of all shards of one broker.
#[derive(Clone, Debug)]
pub struct Totals {
    shards: Arc<[Arc<Stats>]>,
    commons: Arc<Commons>,
}

impl Totals {
    /// Those of the shards that these configurations are for.
    #[must_use]
    pub fn of(configs: &[Config]) -> Self {
        let commons = Arc::clone(&configs.first().expect("a broker has a shard").commons);
        Self { shards: configs.iter().map(|config| Arc::clone(&config.stats)).collect(), commons }
    }

    /// Their sums now.
    #[must_use]
    pub fn sum(&self) -> Stats {
        let sum = Stats::default();
        for shard in &*self.shards {
            let counters = sum.counters().into_iter().zip(shard.counters());
            counters.for_each(|(sum, of_shard)| sum.add(of_shard.get()));
            sum.turn.merge(&shard.turn);
            sum.delivery.merge(&shard.delivery);
        }
        sum.retained.set(self.commons.retained.len());
        sum.retained_bytes.set(self.commons.retained.bytes());
        sum
    }

    /// Connections open, those that have not sent CONNECT yet included.
    pub(crate) fn connections(&self) -> usize {
        self.commons.connections()
    }
}
