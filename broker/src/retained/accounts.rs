//! What all accounts retain, each for itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use dashmap::DashMap;
use longshore_acl::ROOT_ACCOUNT;

use super::{Cursor, Item, NEVER, Pattern, Replayed, Retained};
use crate::clock::Wall;
use crate::tally::Tallies;

/// Counts over all accounts, and the numbers of changes, which they have in common.
#[derive(Debug)]
pub(super) struct Counts {
    pub(super) sequence: AtomicU64,
    pub(super) messages: AtomicUsize,
    pub(super) bytes: AtomicUsize,
    /// No message ends before this, in microseconds of the wall clock.
    pub(super) earliest: AtomicU64,
    /// What each account may retain, with those below it.
    pub(super) tallies: Arc<Tallies>,
}

impl Counts {
    fn new(tallies: Arc<Tallies>) -> Self {
        Self {
            sequence: AtomicU64::new(0),
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            earliest: AtomicU64::new(NEVER),
            tallies,
        }
    }

    pub(super) fn messages(&self) -> usize {
        self.messages.load(Ordering::Relaxed)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Accounts {
    root: Arc<Retained>,
    others: DashMap<u64, Arc<Retained>>,
    /// Whether there ever was another: most brokers have one account, and a subscription should not
    /// look through the locks of the map to see that.
    has_others: AtomicBool,
    counts: Arc<Counts>,
    /// Parts that each account has.
    parts: usize,
}

/// A place between two slices of one read, over several accounts.
#[derive(Debug)]
pub(crate) struct Read {
    /// Accounts that are still to be read, the present one last.
    left: Vec<Arc<Retained>>,
    cursor: Cursor,
}

/// A place among the retained messages of a part, over all accounts.
#[derive(Debug, Default)]
pub(crate) struct Place {
    account: u64,
    after: Option<Box<[u8]>>,
}

impl Accounts {
    /// Nothing yet, in so many parts, and counted there.
    pub(crate) fn new(parts: usize, tallies: Arc<Tallies>) -> Self {
        let counts = Arc::new(Counts::new(tallies));
        let root = Arc::new(Retained::new(ROOT_ACCOUNT, parts, Arc::clone(&counts)));
        Self { root, others: DashMap::new(), has_others: AtomicBool::new(false), counts, parts }
    }

    /// What an account retains.
    pub(crate) fn of(&self, account: u64) -> Arc<Retained> {
        if account == ROOT_ACCOUNT {
            return Arc::clone(&self.root);
        }
        if let Some(known) = self.others.get(&account) {
            return Arc::clone(&known);
        }
        let new = || Arc::new(Retained::new(account, self.parts, Arc::clone(&self.counts)));
        self.has_others.store(true, Ordering::SeqCst);
        Arc::clone(&self.others.entry(account).or_insert_with(new))
    }

    /// All accounts that retain something, by their numbers.
    pub(crate) fn holders(&self) -> Vec<u64> {
        if !self.has_others.load(Ordering::SeqCst) {
            return vec![ROOT_ACCOUNT];
        }
        let others = self.others.iter().filter(|it| !it.value().is_empty()).map(|it| *it.key());
        let mut all: Vec<u64> = others.chain([ROOT_ACCOUNT]).collect();
        all.sort_unstable();
        all
    }

    /// Retained messages.
    pub(crate) fn len(&self) -> usize {
        self.counts.messages()
    }

    /// Whether nothing is retained.
    pub(crate) fn is_empty(&self) -> bool {
        // In one order with the epoch of the index, as the numbers are.
        self.counts.messages.load(Ordering::SeqCst) == 0
    }

    /// Bytes of topic, properties and payload of all of them, in memory or in the journal alone.
    pub(crate) fn bytes(&self) -> usize {
        self.counts.bytes()
    }

    /// The number of the last change.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.counts.sequence.load(Ordering::SeqCst)
    }

    /// Changes up to this number were before this process began.
    pub(crate) fn restore_sequence(&self, sequence: u64) {
        self.counts.sequence.fetch_max(sequence, Ordering::SeqCst);
    }

    /// Takes back what an account retained before this process began.
    pub(crate) fn restore(&self, account: u64, replayed: Replayed) {
        self.of(account).restore(replayed);
    }

    /// When the next retained message ends, or earlier.
    pub(crate) fn next_end(&self) -> Option<Wall> {
        let end = self.counts.earliest.load(Ordering::SeqCst);
        (end != NEVER).then_some(Wall(end))
    }

    /// Removes up to `count` messages that have ended; true when there are more.
    pub(crate) fn expire(&self, now: Wall, mut count: usize) -> bool {
        if self.next_end().is_none_or(|end| end > now) {
            return false;
        }
        // What is retained from here on, or found to stay, says anew when it ends.
        self.counts.earliest.store(NEVER, Ordering::SeqCst);
        self.root.expire(now, &mut count);
        let others: Vec<_> = self.others.iter().map(|it| Arc::clone(it.value())).collect();
        others.iter().for_each(|of| of.expire(now, &mut count));
        self.next_end().is_some_and(|end| end <= now)
    }

    /// Begins a read of everything in these accounts that matches `filter` now, where a level with
    /// `,` is a selector or is not.
    pub(crate) fn read(&self, accounts: &[u64], filter: &str, selectors: bool) -> Option<Read> {
        let pattern = Arc::new(Pattern::new(filter, selectors));
        let sequence = self.last_sequence();
        let left: Vec<_> = accounts.iter().rev().map(|account| self.of(*account)).collect();
        let cursor = left.last()?.cursor(pattern, sequence);
        Some(Read { left, cursor })
    }

    /// Gives up to `count` retained messages of a part in the order of accounts and topics, behind
    /// `place`, until `take` does not take one, and fewer while some are being deleted; where to go
    /// on, if there are more.
    pub(crate) fn slice(
        &self,
        part: usize,
        place: &Place,
        count: usize,
        take: impl FnMut(u64, &Item) -> bool,
    ) -> Option<Place> {
        let mut take = take;
        let holders = self.holders();
        let mut accounts = holders.iter().copied().filter(|it| *it >= place.account);
        let account = accounts.next()?;
        let after = place.after.as_deref().filter(|_| account == place.account);
        let after = self.of(account).slice(part, after, count, |item| take(account, item));
        let next = after.map(|after| Place { account, after: Some(after) });
        next.or_else(|| accounts.next().map(|account| Place { account, after: None }))
    }
}

impl Read {
    /// Goes on, over `visits` names of one account at most, until `give` says stop (false). True
    /// when the read is complete.
    pub(crate) fn next(
        &mut self,
        now: Wall,
        visits: usize,
        give: impl FnMut(&Item) -> bool,
    ) -> bool {
        let Some(of) = self.left.last() else { return true };
        if !of.next(&mut self.cursor, now, visits, give) {
            return false;
        }
        self.left.pop();
        if let Some(of) = self.left.last() {
            self.cursor = of.cursor(Arc::clone(&self.cursor.pattern), self.cursor.sequence);
        }
        self.left.is_empty()
    }
}
