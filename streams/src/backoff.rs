//! How long a stream waits before it tries again.

use std::time::Duration;

/// The first wait, and the longest (R6.11).
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Waits of 1, 2, 4, ... 60 s, each of which is cut by a random part of at most half, so that
/// streams to a target that comes back do not all come at once.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) fn new() -> Self {
        Self(FIRST)
    }

    /// The next wait.
    pub(crate) fn wait(&mut self) -> Duration {
        let whole = self.0;
        self.0 = (whole * 2).min(LONGEST);
        // Without randomness the waits are whole.
        let part = getrandom::u32().unwrap_or(0);
        whole - (whole / 2).mul_f64(f64::from(part) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R6.11.
    #[test]
    fn waits_double_up_to_a_minute_and_are_cut_by_half_at_most() {
        let mut backoff = Backoff::new();
        for secs in [1, 2, 4, 8, 16, 32, 60, 60] {
            let (wait, whole) = (backoff.wait(), Duration::from_secs(secs));
            assert!(whole / 2 <= wait && wait <= whole, "{wait:?} of {whole:?}");
        }
    }
}
