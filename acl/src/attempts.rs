//! Failed attempts to get in, counted by address.

use std::net::IpAddr;

use crate::authenticate::Refusal;

/// Failures of one address in a minute before it is refused unheard.
pub const FAILURES_PER_MINUTE: u32 = 100;
/// Addresses remembered; the oldest go first.
pub const ADDRESSES_MAX: usize = 10_000;

/// The failures of late.
#[derive(Debug)]
pub struct Attempts {
    failures_max: u32,
}

impl Attempts {
    /// Refuses an address for a minute after so many failures within one.
    pub fn new(failures_max: u32) -> Self {
        Self { failures_max }
    }

    /// Whether this address may try, at `now` in unix microseconds.
    pub fn check(&self, ip: IpAddr, now_micros: u64) -> Result<(), Refusal> {
        unimplemented!()
    }

    /// This address showed what was refused.
    pub fn failed(&mut self, ip: IpAddr, now_micros: u64) {
        unimplemented!()
    }
}
