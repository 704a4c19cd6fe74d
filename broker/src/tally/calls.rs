//! Calls of REST and their bytes, by the minute: counted for every account, bounded where a limit
//! says so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use longshore_acl::Quota;

use super::{NONE, Tallies, minute_of};
use crate::clock::Wall;

/// Those of one account. Calls are few beside messages: a lock for each costs nothing.
#[derive(Debug)]
pub(super) struct Calls {
    spent: Mutex<Spent>,
    calls_max: AtomicU64,
    bytes_max: AtomicU64,
}

/// Of one minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spent {
    minute: u32,
    pub(super) calls: u64,
    pub(super) bytes: u64,
}

/// An account has had all that it may in this minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spending {
    pub(crate) account: u64,
    pub(crate) quota: Quota,
}

impl Calls {
    pub(super) fn new() -> Self {
        let (calls_max, bytes_max) = (AtomicU64::new(NONE), AtomicU64::new(NONE));
        Self { spent: Mutex::default(), calls_max, bytes_max }
    }

    pub(super) fn set_bounds(&self, calls: u64, bytes: u64) {
        self.calls_max.store(calls, Ordering::Relaxed);
        self.bytes_max.store(bytes, Ordering::Relaxed);
    }

    /// What was spent in this minute, with so much more.
    pub(super) fn spend(&self, now: Wall, calls: u64, bytes: u64) -> Spent {
        let minute = minute_of(now);
        // Nobody panics under the lock.
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        if spent.minute != minute {
            *spent = Spent { minute, ..Spent::default() };
        }
        spent.calls += calls;
        spent.bytes += bytes;
        *spent
    }

    fn over(&self, now: Wall) -> Option<Quota> {
        let spent = self.spend(now, 0, 0);
        let is_over = |spent: u64, most: &AtomicU64| spent >= most.load(Ordering::Relaxed);
        match () {
            () if is_over(spent.calls, &self.calls_max) => Some(Quota::ApiCalls),
            () if is_over(spent.bytes, &self.bytes_max) => Some(Quota::ApiTraffic),
            () => None,
        }
    }
}

impl Tallies {
    /// Counts a call of an account, and for those above it, unless one of them has had all that it
    /// may in this minute. Several at once may exceed that by one each.
    pub(crate) fn count_call(&self, account: u64, now: Wall) -> Result<(), Spending> {
        self.with_line(account, |line| {
            let over = |quota, account| Spending { account, quota };
            let of_line = line.iter().find_map(|it| Some(over(it.calls.over(now)?, it.account)));
            of_line.map_or(Ok(()), Err)?;
            for tally in line {
                tally.calls.spend(now, 1, 0);
            }
            Ok(())
        })
    }

    /// Counts bytes of a body that came, or that went out. They are never refused: the next call
    /// is.
    pub(crate) fn count_traffic(&self, account: u64, bytes: u64, now: Wall) {
        self.with_line(account, |line| {
            for tally in line {
                tally.calls.spend(now, 0, bytes);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::MINUTE_MICROS;
    use super::super::tests::{bounds, tallies};
    use super::*;

    /// Spec 17.3.
    #[test]
    fn calls_and_their_bytes_count_by_the_minute_for_all_above() {
        let tallies = tallies();
        let now = Wall(MINUTE_MICROS * 7);
        let over = |quota| Err(Spending { account: 2, quota });
        let usage = |account| {
            let usage = tallies.usage(account, now);
            (usage.api_calls, usage.api_traffic)
        };
        tallies.set_bounds(2, bounds(json!({"api_calls": 3, "api_traffic": 100})));
        assert_eq!([4, 2, 4].map(|account| tallies.count_call(account, now)), [Ok(()); 3]);
        assert_eq!([4, 2].map(|it| tallies.count_call(it, now)), [over(Quota::ApiCalls); 2]);
        assert_eq!([1, 3].map(|account| tallies.count_call(account, now)), [Ok(()); 2]);
        assert_eq!([1, 2, 3, 4].map(usage), [(5, 0), (3, 0), (1, 0), (2, 0)]);
        let later = Wall(MINUTE_MICROS * 8);
        assert_eq!(tallies.count_call(4, later), Ok(()));
        tallies.count_traffic(4, 99, later);
        assert_eq!(tallies.count_call(4, later), Ok(()));
        tallies.count_traffic(4, 1, later);
        assert_eq!(tallies.count_call(4, later), over(Quota::ApiTraffic));
        tallies.set_bounds(2, bounds(json!({})));
        assert_eq!(tallies.count_call(4, later), Ok(()));
    }
}
