//! What each account uses of what limits bound, itself and with all accounts below it, and how much
//! of that it may (broker specification, 17.3).
//!
//! What an account uses counts in every account above it, so that a bound there holds for all below
//! together. An account that moves takes what it uses along. Counts are changed where what they
//! count changes, at the rate of CONNECT and SUBSCRIBE, of retained messages and of those that
//! wait; the rate of messages is counted only where it, or what waits, is bounded: see [`Meter`].
//! Calls of REST are counted always.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use hashbrown::HashMap;
use longshore_acl::{Limit, Quota, ROOT_ACCOUNT};

use crate::clock::Wall;
use crate::parties::DEPTH_MAX;

mod calls;

use self::calls::Calls;
pub(crate) use self::calls::Spending;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Measure {
    Sessions,
    Subscriptions,
    RetainedMessages,
    RetainedBytes,
    /// Of messages that wait in sessions.
    QueuedBytes,
}

const MEASURES: usize = 5;

/// No bound.
const NONE: u64 = u64::MAX;

const MINUTE_MICROS: u64 = 60_000_000;

/// What an account may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    of: [u64; MEASURES],
    messages: u64,
    /// Calls of REST, and bytes of their bodies, in a minute.
    calls: u64,
    traffic: u64,
}

impl Bounds {
    /// Those of a limit, or none.
    pub(crate) fn of(limit: Option<&Limit>) -> Self {
        let bound = |quota| limit.and_then(|limit| limit.value(quota)).unwrap_or(NONE);
        let mut of = [NONE; MEASURES];
        of[Measure::Sessions as usize] = bound(Quota::MqttSessions);
        of[Measure::Subscriptions as usize] = bound(Quota::MqttSubscriptions);
        of[Measure::RetainedBytes as usize] = bound(Quota::MqttRetainedStorage);
        of[Measure::QueuedBytes as usize] = bound(Quota::MqttSessionStorage);
        let (calls, traffic) = (bound(Quota::ApiCalls), bound(Quota::ApiTraffic));
        Self { of, messages: bound(Quota::MqttMessages), calls, traffic }
    }
}

/// What one account uses and may.
#[derive(Debug)]
struct Tally {
    account: u64,
    used: [AtomicU64; MEASURES],
    bounds: [AtomicU64; MEASURES],
    /// The minute, in the upper half, and the messages published in it.
    minute: AtomicU64,
    messages_max: AtomicU64,
    /// The last minute in which there were too many.
    exceeded: AtomicU32,
    calls: Calls,
}

impl Tally {
    fn new(account: u64) -> Self {
        Self {
            account,
            used: Default::default(),
            bounds: [const { AtomicU64::new(NONE) }; MEASURES],
            minute: AtomicU64::new(0),
            messages_max: AtomicU64::new(NONE),
            exceeded: AtomicU32::new(0),
            calls: Calls::new(),
        }
    }

    fn used(&self, measure: Measure) -> u64 {
        self.used[measure as usize].load(Ordering::Relaxed)
    }

    fn bound(&self, measure: Measure) -> u64 {
        self.bounds[measure as usize].load(Ordering::Relaxed)
    }

    fn is_full(&self, measure: Measure) -> bool {
        self.used(measure) >= self.bound(measure)
    }

    fn is_metered(&self) -> bool {
        self.bound(Measure::QueuedBytes) != NONE || self.messages_max() != NONE
    }

    fn messages_max(&self) -> u64 {
        self.messages_max.load(Ordering::Relaxed)
    }

    fn messages(&self, minute: u32) -> u64 {
        let known = self.minute.load(Ordering::Relaxed);
        if known >> 32 == u64::from(minute) { known & u64::from(u32::MAX) } else { 0 }
    }

    fn count_message(&self, minute: u32) {
        let mut known = self.minute.load(Ordering::Relaxed);
        while known >> 32 != u64::from(minute) {
            let first = u64::from(minute) << 32 | 1;
            let (order, failed) = (Ordering::Relaxed, Ordering::Relaxed);
            match self.minute.compare_exchange(known, first, order, failed) {
                Ok(_) => return,
                Err(now) => known = now,
            }
        }
        self.minute.fetch_add(1, Ordering::Relaxed);
    }
}

fn minute_of(wall: Wall) -> u32 {
    (wall.0 / MINUTE_MICROS) as u32
}

/// An account among the others.
#[derive(Debug)]
struct Place {
    tally: Arc<Tally>,
    /// The account above it; 0 for none.
    parent: u64,
    /// It was removed, and what is left of it goes.
    is_gone: bool,
}

impl Place {
    fn is_over(&self) -> bool {
        let counts = &self.tally.used;
        self.is_gone && counts.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }
}

type Places = HashMap<u64, Place>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tallies {
    /// Of the account above all, which is found without a lock.
    root: Arc<Tally>,
    others: RwLock<Places>,
    /// Accounts that have exceeded their rate of messages, and are yet to be looked at.
    exceeded: Mutex<Vec<u64>>,
}

impl Default for Tallies {
    fn default() -> Self {
        let root = Arc::new(Tally::new(ROOT_ACCOUNT));
        Self { root, others: RwLock::default(), exceeded: Mutex::default() }
    }
}

impl Tallies {
    /// Calls `act` with what counts for an account: its own, and those above it.
    fn with_line<T>(&self, account: u64, act: impl FnOnce(&[&Arc<Tally>]) -> T) -> T {
        if account == ROOT_ACCOUNT {
            return act(&[&self.root]);
        }
        // Nobody panics under the lock.
        let mut others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        if !others.contains_key(&account) {
            drop(others);
            self.change(|others| place_of(others, account).is_gone = false);
            others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        }
        let (line, len) = self.line(&others, account);
        act(&line[..len])
    }

    fn change<T>(&self, change: impl FnOnce(&mut Places) -> T) -> T {
        change(&mut self.others.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// The account and those above it, and how many these are.
    fn line<'a>(
        &'a self,
        others: &'a Places,
        account: u64,
    ) -> ([&'a Arc<Tally>; DEPTH_MAX], usize) {
        let (mut line, mut len, mut at) = ([&self.root; DEPTH_MAX], 0, account);
        while len < DEPTH_MAX && at != 0 {
            let place = others.get(&at).filter(|_| at != ROOT_ACCOUNT);
            let Some(place) = place else { return (line, len + usize::from(at == ROOT_ACCOUNT)) };
            line[len] = &place.tally;
            (len, at) = (len + 1, place.parent);
        }
        (line, len)
    }

    pub(crate) fn add(&self, account: u64, measure: Measure, amount: u64) {
        self.with_line(account, |line| {
            for tally in line {
                tally.used[measure as usize].fetch_add(amount, Ordering::Relaxed);
            }
        });
    }

    pub(crate) fn remove(&self, account: u64, measure: Measure, amount: u64) {
        self.with_line(account, |line| {
            for tally in line {
                tally.used[measure as usize].fetch_sub(amount, Ordering::Relaxed);
            }
        });
    }

    /// Adds so much in place of what is to be removed, if that is not more than the account may;
    /// whether it was added.
    pub(crate) fn take(&self, account: u64, measure: Measure, amount: u64, instead: u64) -> bool {
        self.with_line(account, |line| {
            for (at, tally) in line.iter().enumerate() {
                let used = tally.used[measure as usize].fetch_add(amount, Ordering::Relaxed);
                let is_more = amount > instead;
                if is_more && (used + amount).saturating_sub(instead) > tally.bound(measure) {
                    for tally in &line[..=at] {
                        tally.used[measure as usize].fetch_sub(amount, Ordering::Relaxed);
                    }
                    return false;
                }
            }
            true
        })
    }

    /// Whether the account may have more of it.
    pub(crate) fn has_room(&self, account: u64, measure: Measure) -> bool {
        self.with_line(account, |line| !line.iter().any(|tally| tally.is_full(measure)))
    }

    /// What messages of the account are measured by, if they are.
    pub(crate) fn meter(&self, account: u64) -> Option<Meter> {
        self.with_line(account, |line| {
            let is_metered = line.iter().any(|tally| tally.is_metered());
            is_metered.then(|| Meter(line.iter().map(|tally| Arc::clone(tally)).collect()))
        })
    }

    /// What the account may use from now on.
    pub(crate) fn set_bounds(&self, account: u64, bounds: Bounds) {
        self.with_line(account, |line| {
            let own = line[0];
            for (bound, value) in own.bounds.iter().zip(bounds.of) {
                bound.store(value, Ordering::Relaxed);
            }
            own.messages_max.store(bounds.messages, Ordering::Relaxed);
            own.calls.set_bounds(bounds.calls, bounds.traffic);
        });
    }

    /// The account stands below that one from now on, with all that it uses; or below none, and is
    /// gone.
    pub(crate) fn set_parent(&self, account: u64, parent: Option<u64>) {
        if account == ROOT_ACCOUNT {
            return;
        }
        // While this lasts nobody counts.
        self.change(|others| {
            place_of(others, account);
            let (line, len) = self.line(others, account);
            let own: [u64; MEASURES] =
                std::array::from_fn(|at| line[0].used[at].load(Ordering::Relaxed));
            for tally in &line[1..len] {
                for (count, own) in tally.used.iter().zip(own) {
                    count.fetch_sub(own, Ordering::Relaxed);
                }
            }
            if let Some(parent) = parent.filter(|parent| *parent != ROOT_ACCOUNT) {
                place_of(others, parent);
            }
            let place = place_of(others, account);
            (place.parent, place.is_gone) = (parent.unwrap_or(0), parent.is_none());
            let (line, len) = self.line(others, account);
            for tally in &line[1..len] {
                for (count, own) in tally.used.iter().zip(own) {
                    count.fetch_add(own, Ordering::Relaxed);
                }
            }
            if parent.is_none() {
                others.retain(|_, place| !place.is_over());
            }
        });
    }

    /// The account has exceeded its rate of messages.
    pub(crate) fn note_exceeded(&self, account: u64) {
        self.exceeded.lock().unwrap_or_else(PoisonError::into_inner).push(account);
    }

    /// Accounts that have exceeded their rate since this was asked last.
    pub(crate) fn take_exceeded(&self) -> Vec<u64> {
        std::mem::take(&mut *self.exceeded.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the account uses, with all below it.
    pub(crate) fn usage(&self, account: u64, now: Wall) -> Usage {
        self.with_line(account, |line| {
            let own = line[0];
            let is_metered = line.iter().any(|tally| tally.is_metered());
            let spent = own.calls.spend(now, 0, 0);
            Usage {
                sessions: own.used(Measure::Sessions),
                subscriptions: own.used(Measure::Subscriptions),
                retained_messages: own.used(Measure::RetainedMessages),
                retained_bytes: own.used(Measure::RetainedBytes),
                queued_bytes: own.used(Measure::QueuedBytes),
                messages: is_metered.then(|| own.messages(minute_of(now))),
                api_calls: spent.calls,
                api_traffic: spent.bytes,
            }
        })
    }
}

/// The account's place, which is made if there is none.
fn place_of(others: &mut Places, account: u64) -> &mut Place {
    others.entry(account).or_insert_with(|| {
        let tally = Arc::new(Tally::new(account));
        Place { tally, parent: 0, is_gone: false }
    })
}

/// What an account uses, with all accounts below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Usage {
    /// Sessions, connected or not.
    pub sessions: u64,
    /// Subscriptions of all sessions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained_messages: u64,
    /// Bytes of topic, properties and payload of those.
    pub retained_bytes: u64,
    /// Bytes of messages that wait in sessions, those in flight included where any wait.
    pub queued_bytes: u64,
    /// Messages published in this minute, where a limit of the account or of one above it asks for
    /// them to be counted.
    pub messages: Option<u64>,
    /// Calls of REST in this minute.
    pub api_calls: u64,
    /// Bytes of the bodies of those and of their answers.
    pub api_traffic: u64,
}

/// What the messages of one account are measured by: what counts for it, and for those above. Whom
/// its messages reach is in these accounts, too.
#[derive(Clone, Debug)]
pub(crate) struct Meter(Box<[Arc<Tally>]>);

/// An account has published more messages in this minute than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exceeded {
    pub(crate) account: u64,
    /// For the first time in this minute.
    pub(crate) is_news: bool,
}

impl Meter {
    /// Bytes of memory beside its own.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Counts a message, unless it is one too many.
    pub(crate) fn count(&self, now: Wall) -> Result<(), Exceeded> {
        let minute = minute_of(now);
        for tally in &self.0 {
            if tally.messages(minute) >= tally.messages_max() {
                let is_news = tally.exceeded.swap(minute, Ordering::Relaxed) != minute;
                return Err(Exceeded { account: tally.account, is_news });
            }
        }
        self.0.iter().for_each(|tally| tally.count_message(minute));
        Ok(())
    }

    /// Whether any of the accounts can keep no more for its sessions.
    pub(crate) fn is_full(&self) -> bool {
        self.0.iter().any(|tally| tally.is_full(Measure::QueuedBytes))
    }

    /// Whether a session of this account, one of the accounts, can keep no more.
    pub(crate) fn is_full_for(&self, account: u64) -> bool {
        let mut line = self.0.iter().skip_while(|tally| tally.account != account);
        line.any(|tally| tally.is_full(Measure::QueuedBytes))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    pub(super) fn bounds(body: serde_json::Value) -> Bounds {
        Bounds::of(Some(&Limit::create(&body, 1, 1).unwrap()))
    }

    /// Accounts 2 and 3 below the root, 4 below 2.
    pub(super) fn tallies() -> Tallies {
        let tallies = Tallies::default();
        for (account, parent) in [(4, 2), (2, 1), (3, 1)] {
            tallies.set_parent(account, Some(parent));
        }
        tallies
    }

    fn sessions(tallies: &Tallies) -> [u64; 4] {
        [1, 2, 3, 4].map(|account| tallies.usage(account, Wall(0)).sessions)
    }

    /// Spec 17.3.
    #[test]
    fn what_an_account_uses_counts_in_those_above_it() {
        let tallies = tallies();
        for account in 1..=4 {
            tallies.add(account, Measure::Sessions, 1);
        }
        assert_eq!(sessions(&tallies), [4, 2, 1, 1]);
        tallies.set_bounds(2, bounds(json!({"mqtt_sessions": 3})));
        assert!(tallies.take(4, Measure::Sessions, 1, 0));
        assert!(!tallies.has_room(4, Measure::Sessions) && tallies.has_room(3, Measure::Sessions));
        assert!(!tallies.take(4, Measure::Sessions, 1, 0));
        assert_eq!(sessions(&tallies), [5, 3, 1, 2], "what is refused leaves nothing behind");
        assert!(tallies.take(4, Measure::Sessions, 1, 1), "in place of another");
        tallies.remove(4, Measure::Sessions, 1);
        tallies.set_bounds(2, Bounds::of(None));
        assert!(tallies.has_room(4, Measure::Sessions));
    }

    #[test]
    fn an_account_that_moves_or_goes_takes_along_what_it_uses() {
        let tallies = tallies();
        tallies.add(4, Measure::Sessions, 3);
        tallies.add(2, Measure::Sessions, 1);
        tallies.set_parent(4, Some(3));
        assert_eq!(sessions(&tallies), [4, 1, 3, 3]);
        tallies.set_parent(4, None);
        assert_eq!(sessions(&tallies), [1, 1, 0, 3]);
        tallies.remove(4, Measure::Sessions, 3);
        tallies.set_parent(3, None);
        let known = tallies.change(|others| others.len());
        assert_eq!(known, 1, "of what is gone and empty nothing is left");
    }

    #[test]
    fn messages_are_counted_by_the_minute_and_only_where_a_limit_asks() {
        let tallies = tallies();
        assert!(tallies.meter(4).is_none());
        assert_eq!(tallies.usage(4, Wall(0)).messages, None);
        tallies.set_bounds(2, bounds(json!({"mqtt_messages": 2})));
        assert!(tallies.meter(3).is_none());
        let (one, other) = (tallies.meter(4).unwrap(), tallies.meter(2).unwrap());
        let now = Wall(MINUTE_MICROS * 7);
        assert_eq!((one.count(now), other.count(now)), (Ok(()), Ok(())));
        let exceeded = |is_news| Err(Exceeded { account: 2, is_news });
        assert_eq!((one.count(now), other.count(now)), (exceeded(true), exceeded(false)));
        let messages = [2, 4].map(|account| tallies.usage(account, now).messages);
        assert_eq!(messages, [Some(2), Some(1)]);
        let later = Wall(MINUTE_MICROS * 8);
        assert_eq!((one.count(later), one.count(later)), (Ok(()), Ok(())));
        assert_eq!(one.count(later), exceeded(true));
    }

    #[test]
    fn an_account_is_full_with_what_waits_below_it() {
        let tallies = tallies();
        tallies.set_bounds(2, bounds(json!({"mqtt_session_storage": 10})));
        tallies.add(4, Measure::QueuedBytes, 10);
        let meter = tallies.meter(4).unwrap();
        assert!(meter.is_full() && meter.is_full_for(4) && meter.is_full_for(2));
        assert!(!meter.is_full_for(1), "who is above has room");
        tallies.remove(4, Measure::QueuedBytes, 1);
        assert!(!meter.is_full());
    }
}
