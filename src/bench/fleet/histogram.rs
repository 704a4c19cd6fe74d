//! Durations, counted in buckets that are 1.6 percent wide at most.

use std::time::Duration;

/// Buckets for each power of two.
const STEPS: u64 = 64;

/// Counts by microseconds.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Histogram {
    pub(super) fn add(&mut self, took: Duration) {
        let bucket = bucket(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }

    /// What this part of all, 0 to 1, does not exceed; none if there are none.
    pub(super) fn quantile(&self, part: f64) -> Option<Duration> {
        let rank = (self.total as f64 * part).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        found.map(|bucket| Duration::from_micros(start(bucket)))
    }
}

fn bucket(micros: u64) -> usize {
    let Some(power) = (micros / STEPS).checked_ilog2() else { return micros as usize };
    let power = u64::from(power);
    ((power + 1) * STEPS + (micros >> power) - STEPS) as usize
}

/// The least that falls into a bucket.
fn start(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    match (bucket / STEPS).checked_sub(1) {
        None => bucket,
        Some(power) => (STEPS + bucket % STEPS) << power,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_found_again_within_two_percent() {
        for micros in (0..10_000).chain([123_456, 9_999_999, 86_400_000_000]) {
            let found = start(bucket(micros));
            assert!(found <= micros && (micros - found) * 50 <= micros, "{micros}: {found}");
        }
    }

    #[test]
    fn quantiles_are_those_of_a_sorted_list() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        (1..=50).rev().for_each(|n| histogram.add(Duration::from_micros(n)));
        let micros = |part| histogram.quantile(part).unwrap().as_micros();
        assert_eq!([micros(0.0), micros(0.5), micros(0.99), micros(1.0)], [1, 25, 50, 50]);
    }
}
