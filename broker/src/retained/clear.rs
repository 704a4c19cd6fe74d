//! Deletion of everything that matches a topic filter, in slices.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Cursor, Extent, Item, Pattern, Retained, covered};
use crate::parties::is_reserved;

/// Deletions that may be under way at once. Whoever reads asks each of them about each message.
const CLEARS_MAX: usize = 16;

/// Deletions that are under way: what they cover is gone for everybody, though it is still there.
#[derive(Debug, Default)]
pub(super) struct Clears {
    count: AtomicUsize,
    list: Mutex<Vec<Clear>>,
}

/// What matches a topic filter and was retained up to a change is deleted.
#[derive(Clone, Debug)]
struct Clear {
    pattern: Arc<Pattern>,
    sequence: u64,
}

/// What is being deleted at one moment.
#[derive(Debug)]
pub(super) struct Cleared(Vec<Clear>);

/// Whether a deletion by this filter takes what a topic retains: never what is the broker's own.
fn deletes(pattern: &Pattern, topic: &str) -> bool {
    !is_reserved(topic) && pattern.matches(topic)
}

impl Clear {
    fn covers(&self, item: &Item) -> bool {
        item.sequence() <= self.sequence
            && std::str::from_utf8(item.topic()).is_ok_and(|topic| deletes(&self.pattern, topic))
    }
}

impl Cleared {
    /// How many names may be visited where so many might be if nothing were being deleted: each
    /// deletion is asked about each name.
    pub(super) fn share(&self, visits: usize) -> usize {
        visits.div_ceil(1 + self.0.len())
    }

    #[inline]
    pub(super) fn has(&self, item: &Item) -> bool {
        self.0.iter().any(|clear| clear.covers(item))
    }
}

impl Clears {
    /// What is being deleted now.
    pub(super) fn now(&self) -> Cleared {
        match self.count.load(Ordering::SeqCst) {
            0 => Cleared(Vec::new()),
            _ => Cleared(self.lock().clone()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Clear>> {
        // Whoever panicked with it ends the broker.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }
}

impl Retained {
    /// Deletes everything of `extent` that matches `filter` now, where a level with `,` is a
    /// selector or is not: from here on nobody finds it, and [`Retained::clear_matching`] is to be
    /// called until it is gone. `None` when too many such deletions are under way. The number of
    /// this change is that of the [event](crate::record::Event::ClearMatching) which the journal is
    /// to have.
    ///
    /// A round of compaction that is under way may copy what this covers, before or behind the
    /// event, or leave it out. A replay comes to the same: the event is kept, and covers all up to
    /// its number, until a round is complete that began after this. That one has copied nothing of
    /// it: whoever has read the number, as a round does when it begins, finds the deletion here
    /// until it is through.
    pub(crate) fn begin_clear(
        &self,
        filter: &str,
        selectors: bool,
        extent: Extent,
    ) -> Option<(Cursor, u64)> {
        let pattern = Arc::new(Pattern::limited(filter, selectors, extent));
        // Before the number: whoever sees that sees this, too.
        if self.clears.count.fetch_add(1, Ordering::SeqCst) >= CLEARS_MAX {
            self.clears.count.fetch_sub(1, Ordering::SeqCst);
            return None;
        }
        let mut list = self.clears.lock();
        let sequence = self.counts.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        list.push(Clear { pattern: Arc::clone(&pattern), sequence });
        drop(list);
        Some((self.cursor(pattern, sequence), sequence))
    }

    /// Goes on with a deletion, over `visits` names at most; what is left of them is not used. True
    /// when it is complete.
    pub(crate) fn clear_matching(&self, cursor: &mut Cursor, visits: &mut usize) -> bool {
        let sequence = cursor.sequence;
        while cursor.part < cursor.parts {
            let mut part = self.part(cursor.part);
            let (old, is_through) = covered(&part.topics, cursor, visits);
            for topic in old {
                let item = part.topics.take(&*topic);
                self.forget(&mut part, item);
            }
            if !is_through {
                return false;
            }
            cursor.next_part();
        }
        self.clears.lock().retain(|clear| clear.sequence != sequence);
        self.clears.count.fetch_sub(1, Ordering::SeqCst);
        true
    }
}
