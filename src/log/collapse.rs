//! Equal causes from one address become one line a second: refusals and faults, which come in
//! storms. What a client did that was let in is collapsed with what it did itself, for many clients
//! may share an address, and who they are is what such a line is for.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tracing::Level;
use tracing::callsite::Identifier;

use super::Record;

/// How long equal records are gathered.
const SPAN: Duration = Duration::from_secs(1);

/// Addresses and causes told apart at once. Past it all records from one place in the source share
/// a line, so that a storm from many addresses cannot fill the log either.
const KEYS_MAX: usize = 1_024;

/// Clients and causes told apart at once. Past it each record is a line; a storm of those is what
/// the queue is bounded for.
const CLIENT_KEYS_MAX: usize = 1_024;

/// What makes two records equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// The place in the source that logged.
    callsite: Option<Identifier>,
    /// `None` for all past [`KEYS_MAX`].
    told_apart_by: Option<Parts>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Parts {
    /// Address, or the client where none is named.
    whose: String,
    cause: String,
    /// Of a record that tells what a client did.
    client: Option<String>,
}

impl Key {
    fn is_of_client(&self) -> bool {
        self.told_apart_by.as_ref().is_some_and(|parts| parts.client.is_some())
    }
}

/// The second after a record was written, and what came in it.
struct Gathering {
    ends: Duration,
    /// The last one held back, and how many were.
    held: Option<(Record, u64)>,
}

/// What to write: a record, and how many it stands for.
pub(super) type Line = (Record, u64);

/// Holds records back. Time is handed in, as a span since any fixed moment.
#[derive(Default)]
pub(super) struct Collapse {
    gatherings: HashMap<Key, Gathering>,
    /// How many of them are of clients.
    of_clients: usize,
}

impl Collapse {
    /// Takes a record; gives it back when it is to be written now.
    pub(super) fn offer(&mut self, record: Record, now: Duration) -> Option<Line> {
        let Some(key) = self.key(&record) else {
            return Some((record, 1));
        };
        match self.gatherings.get_mut(&key) {
            Some(gathering) => {
                let times = gathering.held.take().map_or(0, |(_, times)| times);
                gathering.held = Some((record, times + 1));
                None
            }
            None => {
                self.of_clients += usize::from(key.is_of_client());
                self.gatherings.insert(key, Gathering { ends: now + SPAN, held: None });
                Some((record, 1))
            }
        }
    }

    /// The lines of the seconds that have ended. Where there was one the next second begins.
    pub(super) fn due(&mut self, now: Duration) -> Vec<Line> {
        let mut lines = Vec::new();
        let of_clients = &mut self.of_clients;
        self.gatherings.retain(|key, gathering| {
            if gathering.ends > now {
                return true;
            }
            gathering.ends = now + SPAN;
            let held = gathering.held.take();
            let goes_on = held.is_some();
            *of_clients -= usize::from(!goes_on && key.is_of_client());
            lines.extend(held);
            goes_on
        });
        in_order(lines)
    }

    /// Everything held back, whatever the time.
    pub(super) fn rest(&mut self) -> Vec<Line> {
        self.of_clients = 0;
        in_order(self.gatherings.drain().filter_map(|(_, gathering)| gathering.held).collect())
    }

    /// When [`Collapse::due`] will have something to do.
    pub(super) fn next(&self) -> Option<Duration> {
        self.gatherings.values().map(|gathering| gathering.ends).min()
    }

    /// What `record` is gathered under, unless it is to be written as it is.
    fn key(&self, record: &Record) -> Option<Key> {
        let cause = record.field("cause")?.to_owned();
        let client = record.field("client");
        let whose = match record.field("peer") {
            Some(peer) => address(peer),
            None => client.unwrap_or_default().to_owned(),
        };
        // Refusals and faults are warnings.
        let client = client.filter(|_| record.level > Level::WARN).map(str::to_owned);
        let callsite = record.callsite.clone();
        let key = Key { callsite, told_apart_by: Some(Parts { whose, cause, client }) };
        if self.gatherings.contains_key(&key) {
            return Some(key);
        }
        if key.is_of_client() {
            return (self.of_clients < CLIENT_KEYS_MAX).then_some(key);
        }
        let is_full = self.gatherings.len() - self.of_clients >= KEYS_MAX;
        Some(if is_full { Key { told_apart_by: None, ..key } } else { key })
    }
}

fn in_order(mut lines: Vec<Line>) -> Vec<Line> {
    lines.sort_by_key(|(record, _)| record.time);
    lines
}

/// `peer` without its port.
fn address(peer: &str) -> String {
    let address = peer.parse::<SocketAddr>().map(|address| address.ip());
    match address.or_else(|_| peer.parse::<IpAddr>()) {
        Ok(address) => address.to_canonical().to_string(),
        Err(_) => peer.to_owned(),
    }
}
