//! Deadlines of connections and sessions, one each, ordered.

use std::collections::BTreeSet;

use crate::clock::Mono;

/// Deadlines under the keys of their owners. Exact: a deadline that is moved or cancelled leaves
/// nothing behind, so that no pattern of reconnects makes it grow.
#[derive(Debug)]
pub(crate) struct Timers<K> {
    due: BTreeSet<(Mono, K)>,
}

impl<K: Copy + Ord> Timers<K> {
    pub(crate) const fn new() -> Self {
        Self { due: BTreeSet::new() }
    }

    /// Moves the owner's deadline from `set` to `at`; either may be none.
    pub(crate) fn set(&mut self, owner: K, set: &mut Option<Mono>, at: Option<Mono>) {
        if *set == at {
            return;
        }
        if let Some(old) = *set {
            let was_set = self.due.remove(&(old, owner));
            debug_assert!(was_set, "the owner remembers its deadline");
        }
        if let Some(at) = at {
            self.due.insert((at, owner));
        }
        *set = at;
    }

    /// The next owner whose deadline is not after `now`, which thereby has none.
    pub(crate) fn pop(&mut self, now: Mono) -> Option<K> {
        let (at, owner) = *self.due.first()?;
        if at > now {
            return None;
        }
        self.due.pop_first();
        Some(owner)
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Mono> {
        self.due.first().map(|(at, _)| *at)
    }
}
