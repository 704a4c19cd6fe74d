//! Failed attempts to get in, counted by address.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};

use crate::authenticate::Refusal;

/// Failures of one address in a minute before it is refused unheard.
pub const FAILURES_PER_MINUTE: u32 = 100;
/// Addresses remembered; the oldest go first.
pub const ADDRESSES_MAX: usize = 10_000;

const WINDOW_MICROS: u64 = 60_000_000;

/// The failures of late, by address; by network of 64 bits in IPv6, where that is what one has.
#[derive(Debug)]
pub struct Attempts {
    failures_max: u32,
    counts: HashMap<IpAddr, Count>,
    /// All counts by when they began.
    ages: BTreeSet<(u64, IpAddr)>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    /// The first failure of a minute, or the one too many.
    since_micros: u64,
    failures: u32,
}

impl Count {
    /// Whether it still counts. A clock that was set back ends it rather than prolongs it.
    fn lasts(&self, now_micros: u64) -> bool {
        let age = now_micros.checked_sub(self.since_micros);
        age.is_some_and(|age| age < WINDOW_MICROS)
    }
}

impl Attempts {
    /// Refuses an address for a minute after so many failures within one.
    pub fn new(failures_max: u32) -> Self {
        Self { failures_max, counts: HashMap::new(), ages: BTreeSet::new() }
    }

    /// Whether this address may try, at `now` in unix microseconds.
    pub fn check(&self, ip: IpAddr, now_micros: u64) -> Result<(), Refusal> {
        match self.counts.get(&counted(ip)) {
            Some(count) if count.failures >= self.failures_max && count.lasts(now_micros) => {
                Err(Refusal::TooManyFailures)
            }
            _ => Ok(()),
        }
    }

    /// This address showed what was refused, at `now` in unix microseconds.
    pub fn failed(&mut self, ip: IpAddr, now_micros: u64) {
        let ip = counted(ip);
        let known = self.counts.get(&ip).copied();
        if let Some(count) = &known {
            self.ages.remove(&(count.since_micros, ip));
        } else if self.counts.len() >= ADDRESSES_MAX
            && let Some((_, oldest)) = self.ages.pop_first()
        {
            self.counts.remove(&oldest);
        }
        let fresh = Count { since_micros: now_micros, failures: 0 };
        let mut count = known.filter(|count| count.lasts(now_micros)).unwrap_or(fresh);
        count.failures = count.failures.saturating_add(1);
        if count.failures == self.failures_max {
            count.since_micros = now_micros;
        }
        self.ages.insert((count.since_micros, ip));
        self.counts.insert(ip, count);
    }
}

impl Default for Attempts {
    fn default() -> Self {
        Self::new(FAILURES_PER_MINUTE)
    }
}

/// What the failures of an address count for.
fn counted(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000_000;
    const TOO_MANY: Result<(), Refusal> = Err(Refusal::TooManyFailures);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_refused_for_a_minute_after_too_many_failures() {
        let mut attempts = Attempts::new(3);
        for at in 0..3 {
            assert_eq!(attempts.check(ip("1.2.3.4"), NOW + at), Ok(()));
            attempts.failed(ip("1.2.3.4"), NOW + at);
        }
        assert_eq!(attempts.check(ip("1.2.3.4"), NOW + 3), TOO_MANY);
        assert_eq!(attempts.check(ip("::ffff:1.2.3.4"), NOW + 3), TOO_MANY);
        assert_eq!(attempts.check(ip("1.2.3.5"), NOW + 3), Ok(()));
        assert_eq!(attempts.check(ip("1.2.3.4"), NOW + 2 + WINDOW_MICROS - 1), TOO_MANY);
        assert_eq!(attempts.check(ip("1.2.3.4"), NOW + 2 + WINDOW_MICROS), Ok(()));
        assert_eq!(attempts.check(ip("1.2.3.4"), NOW - 1), Ok(()), "the clock was set back");
    }

    #[test]
    fn failures_further_apart_than_a_minute_do_not_add_up() {
        let mut attempts = Attempts::new(2);
        for at in 0..10 {
            attempts.failed(ip("1.2.3.4"), NOW + at * WINDOW_MICROS);
            assert_eq!(attempts.check(ip("1.2.3.4"), NOW + at * WINDOW_MICROS), Ok(()));
        }
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let mut attempts = Attempts::new(2);
        attempts.failed(ip("2001:db8::1"), NOW);
        attempts.failed(ip("2001:db8:0:0:9::2"), NOW);
        assert_eq!(attempts.check(ip("2001:db8::3"), NOW), TOO_MANY);
        assert_eq!(attempts.check(ip("2001:db8:0:1::1"), NOW), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_go() {
        let mut attempts = Attempts::new(1);
        let addresses = 0x0a00_0000..0x0a00_0000 + ADDRESSES_MAX as u32 + 5;
        for (at, bits) in addresses.enumerate() {
            attempts.failed(std::net::Ipv4Addr::from_bits(bits).into(), NOW + at as u64);
        }
        assert_eq!((attempts.counts.len(), attempts.ages.len()), (ADDRESSES_MAX, ADDRESSES_MAX));
        assert_eq!(attempts.check(ip("10.0.0.4"), NOW + 20_000), Ok(()));
        assert_eq!(attempts.check(ip("10.0.0.5"), NOW + 20_000), TOO_MANY);
    }
}
