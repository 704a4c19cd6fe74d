//! The last retained message of each topic, and reading them by topic filter in slices.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::clock::Wall;
use crate::parties::is_reserved;
use crate::stamp::counts;
use crate::tally::Measure;

mod accounts;
mod clear;
mod cover;
mod extent;
mod item;
mod pattern;
mod replay;
#[cfg(test)]
mod tests;

use self::accounts::Counts;
pub(crate) use self::accounts::{Accounts, Place, Read};
use self::clear::Clears;
pub(crate) use self::extent::Extent;
pub(crate) use self::item::{Found, Fresh, Item, Slice, is_large};
use self::pattern::{Pattern, Step};
pub(crate) use self::replay::Replayed;

/// Spreads topic names over parts, the same way in every run.
const PLACES: BuildHasherDefault<DefaultHasher> = BuildHasherDefault::new();

/// What one account retains, in parts by topic name, so that shards seldom wait for one another.
#[derive(Debug)]
pub(crate) struct Retained {
    account: u64,
    parts: Box<[Mutex<Part>]>,
    messages: AtomicUsize,
    bytes: AtomicUsize,
    /// No message ends before this, in microseconds of the wall clock.
    earliest: AtomicU64,
    /// Those of all accounts.
    counts: Arc<Counts>,
    /// Deletions by topic filter that are under way.
    clears: Clears,
}

/// A time that does not come.
const NEVER: u64 = u64::MAX;

/// The retained messages of some topics, in the order of their names.
///
/// A filter reads a range of that order; below a `+`, from one member of a selector to the next or
/// past a mismatch it seeks to the next name that could match, so that a read costs what it finds
/// and not what lies between.
#[derive(Debug, Default)]
struct Part {
    topics: BTreeSet<Item>,
    /// Topics whose message ends, by its end.
    ends: BTreeMap<(Wall, u64), Box<[u8]>>,
}

/// Why a message was not retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Messages,
    Bytes,
    /// The account, or one above it, may retain no more bytes.
    Account,
}

/// When a change was published, if its publisher says so and that counts, and what time it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Age {
    pub(crate) time: Option<Wall>,
    pub(crate) now: Wall,
}

impl Age {
    /// Whether what is retained is newer. What says nothing of its time is newer than all before,
    /// and nothing has to be looked up for it.
    fn is_behind(self, part: &Part, topic: &[u8]) -> bool {
        let Some(time) = self.time else { return false };
        let known = part.topics.get(topic).and_then(Item::time);
        known.is_some_and(|known| known > time && counts(known, self.now))
    }
}

/// A place between two slices of one read.
#[derive(Debug)]
pub(crate) struct Cursor {
    pattern: Arc<Pattern>,
    /// The part that is being read, and the part before which the read ends.
    part: usize,
    parts: usize,
    /// Where the next slice begins; unbounded at the start of a part.
    from: Bound<Box<[u8]>>,
    /// Messages retained after this one reached the reader when they were published.
    sequence: u64,
}

impl Cursor {
    /// At the start of these parts.
    fn new(pattern: Arc<Pattern>, part: usize, parts: usize, sequence: u64) -> Self {
        Self { pattern, part, parts, from: Bound::Unbounded, sequence }
    }

    fn next_part(&mut self) {
        self.part += 1;
        self.from = Bound::Unbounded;
    }
}

/// Whether the broker retains it for itself: no limit of an account is about that.
fn is_own(topic: &[u8]) -> bool {
    is_reserved(topic)
}

impl Retained {
    /// Nothing yet, in so many parts.
    fn new(account: u64, parts: usize, counts: Arc<Counts>) -> Self {
        Self {
            account,
            parts: (0..parts.max(1)).map(|_| Mutex::default()).collect(),
            counts,
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            earliest: AtomicU64::new(NEVER),
            clears: Clears::default(),
        }
    }

    /// Retained messages.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.messages.load(Ordering::Relaxed)
    }

    /// Whether nothing is retained.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        // In one order with the epoch of the index, as the numbers are.
        self.messages.load(Ordering::SeqCst) == 0
    }

    /// Bytes of topic, properties and payload of all of them, in memory or in the journal alone.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Messages and bytes, of this account and of all.
    fn counters(&self) -> [(&AtomicUsize, &AtomicUsize); 2] {
        [(&self.messages, &self.bytes), (&self.counts.messages, &self.counts.bytes)]
    }

    /// Counts so many messages more, of so many bytes.
    fn count(&self, more: usize, size: usize) {
        for (messages, bytes) in self.counters() {
            messages.fetch_add(more, Ordering::SeqCst);
            bytes.fetch_add(size, Ordering::Relaxed);
        }
    }

    fn place(&self, topic: &[u8]) -> usize {
        match self.parts.len() {
            1 => 0,
            parts => (PLACES.hash_one(topic) % parts as u64) as usize,
        }
    }

    fn part(&self, place: usize) -> MutexGuard<'_, Part> {
        // Whoever panicked with it ends the broker.
        self.parts[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Retains a message in place of the one before of its topic; the number of this change, unless
    /// that one is newer.
    pub(crate) fn set(
        &self,
        fresh: Fresh<'_>,
        age: Age,
        messages_max: usize,
        bytes_max: usize,
    ) -> Result<Option<u64>, Full> {
        let topic = fresh.parts.topic;
        let mut item = Item::new(fresh);
        let size = item.size();
        let mut part = self.part(self.place(topic));
        if age.is_behind(&part, topic) {
            return Ok(None);
        }
        self.make_room(&part, topic, size, messages_max, bytes_max)?;
        if !is_own(topic) {
            self.counts.tallies.add(self.account, Measure::RetainedMessages, 1);
        }
        self.count(1, size);
        let sequence = self.counts.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        item.set_sequence(sequence);
        self.note_end(&mut part, &item);
        let old = part.topics.replace(item);
        self.forget(&mut part, old);
        Ok(Some(sequence))
    }

    /// Counts the bytes of a message that is to be retained in its account, if limits allow it.
    fn make_room(
        &self,
        part: &Part,
        topic: &[u8],
        size: usize,
        messages_max: usize,
        bytes_max: usize,
    ) -> Result<(), Full> {
        let (messages, bytes) = (self.counts.messages(), self.counts.bytes());
        let is_full = messages >= messages_max;
        // There may be room in place of what is there.
        let old = || part.topics.get(topic).map(Item::size);
        if is_full || bytes + size > bytes_max {
            let old = old();
            if is_full && old.is_none() {
                return Err(Full::Messages);
            }
            if bytes - old.unwrap_or(0) + size > bytes_max {
                return Err(Full::Bytes);
            }
        }
        if is_own(topic) {
            return Ok(());
        }
        let take = |instead| {
            let (measure, size) = (Measure::RetainedBytes, size as u64);
            self.counts.tallies.take(self.account, measure, size, instead)
        };
        if take(0) || old().is_some_and(|old| take(old as u64)) {
            return Ok(());
        }
        Err(Full::Account)
    }

    fn note_end(&self, part: &mut Part, item: &Item) {
        if let Some(ends) = item.ends() {
            part.ends.insert((ends, item.sequence()), item.topic().into());
            self.note_earliest(ends);
        }
    }

    fn note_earliest(&self, ends: Wall) {
        self.earliest.fetch_min(ends.0, Ordering::SeqCst);
        self.counts.earliest.fetch_min(ends.0, Ordering::SeqCst);
    }

    /// The names of some topics that retain something.
    pub(crate) fn some_topics(&self, count: usize) -> Vec<Box<[u8]>> {
        let of_part = |place| {
            let part = self.part(place);
            part.topics.iter().take(count).map(|item| item.topic().into()).collect::<Vec<_>>()
        };
        (0..self.parts.len()).flat_map(of_part).collect()
    }

    /// Removes what `topic` retains; the number of this change, unless that is newer.
    pub(crate) fn clear(&self, topic: &[u8], age: Age) -> Option<u64> {
        let mut part = self.part(self.place(topic));
        if age.is_behind(&part, topic) {
            return None;
        }
        let old = part.topics.take(topic);
        let sequence = self.counts.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        self.forget(&mut part, old);
        Some(sequence)
    }

    /// Leaves what the topic retained as the so many-th change to the journal, which has it now,
    /// unless there was another change since.
    pub(crate) fn leave_to_disk(&self, topic: &[u8], sequence: u64) {
        let mut part = self.part(self.place(topic));
        let known = part.topics.get(topic).filter(|item| item.sequence() == sequence);
        if let Some(item) = known.and_then(Item::left_to_disk) {
            part.topics.replace(item);
        }
    }

    /// Takes back what was retained before this process began.
    pub(crate) fn restore(&self, replayed: Replayed) {
        let Replayed { topics, bytes, sequence, .. } = replayed;
        self.counts.sequence.fetch_max(sequence, Ordering::SeqCst);
        for item in topics.iter().filter(|item| !is_own(item.topic())) {
            let Counts { tallies, .. } = &*self.counts;
            tallies.add(self.account, Measure::RetainedMessages, 1);
            tallies.add(self.account, Measure::RetainedBytes, item.size() as u64);
        }
        self.count(topics.len(), bytes);
        if let [part] = &*self.parts {
            let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
            debug_assert!(part.topics.is_empty(), "nothing is retained before that");
            topics.iter().for_each(|item| self.note_end(&mut part, item));
            part.topics = topics;
            return;
        }
        let mut of_parts: Vec<_> = self.parts.iter().map(|_| Vec::new()).collect();
        for item in topics {
            of_parts[self.place(item.topic())].push(item);
        }
        for (place, items) in of_parts.into_iter().enumerate() {
            let mut part = self.part(place);
            items.iter().for_each(|item| self.note_end(&mut part, item));
            // They are in order: it is made as a whole.
            part.topics = items.into_iter().collect();
        }
    }

    /// Gives up to `count` retained messages of a part in the order of their topics, behind
    /// `after`, until `take` does not take one, and fewer while some are being deleted; where to go
    /// on, if there are more.
    pub(crate) fn slice(
        &self,
        part: usize,
        after: Option<&[u8]>,
        count: usize,
        mut take: impl FnMut(&Item) -> bool,
    ) -> Option<Box<[u8]>> {
        self.parts.get(part)?;
        let cleared = self.clears.now();
        let part = self.part(part);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = part.topics.range::<[u8], _>((from, Bound::Unbounded));
        let count = cleared.share(count);
        let looked_at = range.take(count).take_while(|it| cleared.has(it) || take(it));
        looked_at.last().map(|item| item.topic().into())
    }

    fn forget(&self, part: &mut Part, old: Option<Item>) {
        let Some(old) = old else { return };
        let size = old.size();
        if !is_own(old.topic()) {
            let Counts { tallies, .. } = &*self.counts;
            tallies.remove(self.account, Measure::RetainedMessages, 1);
            tallies.remove(self.account, Measure::RetainedBytes, size as u64);
        }
        for (messages, bytes) in self.counters() {
            messages.fetch_sub(1, Ordering::Relaxed);
            bytes.fetch_sub(size, Ordering::Relaxed);
        }
        if let Some(ends) = old.ends() {
            part.ends.remove(&(ends, old.sequence()));
        }
    }

    /// Removes up to `count` messages that have ended, and says anew when the next one does.
    pub(super) fn expire(&self, now: Wall, count: &mut usize) {
        let earliest = self.earliest.load(Ordering::SeqCst);
        if earliest > now.0 {
            self.counts.earliest.fetch_min(earliest, Ordering::SeqCst);
            return;
        }
        self.earliest.store(NEVER, Ordering::SeqCst);
        for place in 0..self.parts.len() {
            let mut part = self.part(place);
            while let Some(first) = part.ends.first_entry() {
                if first.key().0 > now || *count == 0 {
                    self.note_earliest(first.key().0);
                    break;
                }
                let topic = first.remove();
                let old = part.topics.take(&*topic);
                self.forget(&mut part, old);
                *count -= 1;
            }
        }
    }

    /// Begins a read of everything that matches `pattern`, of what was retained up to a change.
    fn cursor(&self, pattern: Arc<Pattern>, sequence: u64) -> Cursor {
        let (part, parts) = match pattern.is_exact() {
            false => (0, self.parts.len()),
            true => {
                let part = self.place(pattern.text().as_bytes());
                (part, part + 1)
            }
        };
        Cursor::new(pattern, part, parts, sequence)
    }

    /// Goes on with a read, over `visits` names at most, until `give` says stop (false) or all is
    /// read. True when the read is complete.
    pub(crate) fn next(
        &self,
        cursor: &mut Cursor,
        now: Wall,
        visits: usize,
        mut give: impl FnMut(&Item) -> bool,
    ) -> bool {
        let (sequence, cleared) = (cursor.sequence, self.clears.now());
        let mut visits = cleared.share(visits);
        let mut visit = |item: &Item| {
            let wanted = item.sequence() <= sequence
                && item.ends().is_none_or(|ends| ends > now)
                && !cleared.has(item);
            !wanted || give(item)
        };
        while cursor.part < cursor.parts {
            let part = self.part(cursor.part);
            if !walk(&part.topics, cursor, &mut visits, &mut visit) {
                return false;
            }
            cursor.next_part();
        }
        true
    }
}

/// Goes on with a deletion among these topics, over `visits` names at most: those that it covers,
/// and true at the end of them.
#[expect(clippy::mutable_key_type, reason = "the order is that of topics, which never change")]
fn covered(
    topics: &BTreeSet<Item>,
    cursor: &mut Cursor,
    visits: &mut usize,
) -> (Vec<Box<[u8]>>, bool) {
    let (sequence, mut covered) = (cursor.sequence, Vec::new());
    let is_through = walk(topics, cursor, visits, &mut |item| {
        let topic = std::str::from_utf8(item.topic()).unwrap_or_default();
        if item.sequence() <= sequence && !is_reserved(topic) {
            covered.push(item.topic().into());
        }
        true
    });
    (covered, is_through)
}

/// Goes on with a read of these topics, until `visit` says stop (false) or as many names were
/// visited as may be. True at the end of them.
#[expect(clippy::mutable_key_type, reason = "the order is that of topics, which never change")]
fn walk(
    topics: &BTreeSet<Item>,
    cursor: &mut Cursor,
    visits: &mut usize,
    visit: &mut impl FnMut(&Item) -> bool,
) -> bool {
    let Cursor { pattern, from, .. } = cursor;
    let prefix = pattern.prefix().as_bytes();
    loop {
        let start = match &*from {
            Bound::Unbounded => Bound::Included(prefix),
            Bound::Included(from) => Bound::Included(&**from),
            Bound::Excluded(after) => Bound::Excluded(&**after),
        };
        let (mut last, mut seek, mut has_stopped) = (None, None, false);
        for item in topics.range::<[u8], _>((start, Bound::Unbounded)) {
            if !item.topic().starts_with(prefix) {
                return true;
            }
            has_stopped = *visits == 0;
            if has_stopped {
                break;
            }
            *visits -= 1;
            let Ok(topic) = std::str::from_utf8(item.topic()) else { continue };
            if pattern.matches(topic) {
                has_stopped = !visit(item);
                if has_stopped {
                    break;
                }
            } else {
                match pattern.step(topic) {
                    Step::Scan => {}
                    Step::Seek(to) => {
                        seek = Some(to);
                        break;
                    }
                    Step::End => return true,
                }
            }
            last = Some(item);
        }
        match (seek, last) {
            (Some(to), _) => *from = Bound::Included(to.into_bytes().into()),
            (None, _) if !has_stopped => return true,
            (None, Some(last)) => {
                *from = Bound::Excluded(last.topic().into());
                return false;
            }
            (None, None) => return false,
        }
    }
}
