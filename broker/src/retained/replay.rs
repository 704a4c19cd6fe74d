//! What topics retain as the records of a journal tell, in whatever order shards wrote them.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;

use super::cover::Covers;
use super::item::{Fresh, Item};
use super::{Cursor, Extent, Pattern, covered};
use crate::record::Within;

/// See the module. What it holds becomes what the broker retains as it is, in
/// [`super::Retained::restore`].
#[derive(Debug)]
pub(crate) struct Replayed {
    pub(super) topics: BTreeSet<Item>,
    /// Bytes of all of them.
    pub(super) bytes: usize,
    /// The last number of a change.
    pub(super) sequence: u64,
    /// Topics that retain nothing, with the number of that change. An older one may come later.
    cleared: HashMap<Box<[u8]>, u64>,
    /// Deletions by topic filter; what they cover may come later, too.
    clears: Covers,
    /// The round of compaction that is under way: 1 to 3, in turn. What one has copied, the next
    /// has copied again or it is gone, so no older number is left when they begin anew.
    round: u8,
}

impl Default for Replayed {
    fn default() -> Self {
        Self {
            topics: BTreeSet::new(),
            bytes: 0,
            sequence: 0,
            cleared: HashMap::new(),
            clears: Covers::default(),
            round: 1,
        }
    }
}

/// Names that are looked at together when a topic filter clears what it matches.
const CLEAR_VISITS: usize = 4_096;

impl Replayed {
    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Bytes of topic, properties and payload of all of them.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last number of a change.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.sequence
    }

    /// A number of a change that was given away.
    fn note_sequence(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
    }

    /// Whether nothing is retained, and nothing is known that was not.
    pub(crate) fn is_spent(&self) -> bool {
        self.topics.is_empty() && self.cleared.is_empty() && self.clears.is_empty()
    }

    /// A topic retains a message, as the so many-th change; `is_copied` when that was written down
    /// again.
    pub(crate) fn set(&mut self, fresh: Fresh<'_>, sequence: u64, is_copied: bool) {
        self.note_sequence(sequence);
        let topic = fresh.parts.topic;
        let Ok(name) = std::str::from_utf8(topic) else { return };
        if !self.cleared.is_empty() {
            match self.cleared.get(topic) {
                Some(cleared) if *cleared > sequence => return,
                Some(_) => drop(self.cleared.remove(topic)),
                None => {}
            }
        }
        if self.clears.has(name, sequence) {
            return;
        }
        let mut item = Item::new(fresh);
        item.set_sequence(sequence);
        item.set_round(if is_copied { self.round } else { 0 });
        self.bytes += item.size();
        let Some(old) = self.topics.replace(item) else { return };
        let is_newer = old.sequence() > sequence || old.sequence() == sequence && !is_copied;
        let gone = if is_newer { self.topics.replace(old) } else { Some(old) };
        self.bytes -= gone.map_or(0, |item| item.size());
    }

    /// A topic retains nothing any more, as the so many-th change.
    pub(crate) fn clear(&mut self, topic: &[u8], sequence: u64) {
        self.note_sequence(sequence);
        match self.topics.get(topic).map(Item::sequence) {
            Some(known) if known > sequence => return,
            Some(_) => self.remove(topic),
            None => {}
        }
        match self.cleared.get_mut(topic) {
            Some(cleared) => *cleared = sequence.max(*cleared),
            None => drop(self.cleared.insert(topic.into(), sequence)),
        }
    }

    fn remove(&mut self, topic: &[u8]) {
        self.bytes -= self.topics.take(topic).map_or(0, |item| item.size());
    }

    /// Nothing of those topics that matches `filter`, where a level with `,` is a selector or is
    /// not, is retained any more, of what was up to a change.
    pub(crate) fn clear_matching(
        &mut self,
        filter: &str,
        selectors: bool,
        within: &Within<'_>,
        sequence: u64,
    ) {
        self.note_sequence(sequence);
        let extent = self.clears.shared(Extent::from(within));
        let pattern = Arc::new(Pattern::limited(filter, selectors, extent));
        let mut cursor = Cursor::new(Arc::clone(&pattern), 0, 1, sequence);
        let mut is_through = false;
        while !is_through {
            let old;
            (old, is_through) = covered(&self.topics, &mut cursor, &mut { CLEAR_VISITS });
            old.iter().for_each(|topic| self.remove(topic));
        }
        self.clears.add(&pattern, sequence);
    }

    /// A round of compaction is complete: what was retained up to a change and was not copied is
    /// not retained any more, and nothing of up to that change is yet to come.
    pub(crate) fn compacted(&mut self, sequence: u64) {
        self.note_sequence(sequence);
        let (round, bytes) = (self.round, &mut self.bytes);
        self.topics.retain(|item| {
            let stays = item.round() == round || item.sequence() > sequence;
            *bytes -= if stays { 0 } else { item.size() };
            stays
        });
        self.cleared.retain(|_, cleared| *cleared > sequence);
        self.clears.forget(sequence);
        self.round = round % 3 + 1;
    }
}
