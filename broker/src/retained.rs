//! The last retained message of each topic, and reading them by topic filter in slices.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_codec::filter;

use crate::clock::Wall;
use crate::message::Message;

/// Spreads topic names over parts, the same way in every run.
const PLACES: BuildHasherDefault<DefaultHasher> = BuildHasherDefault::new();

/// Retained messages, in parts by topic name, so that shards seldom wait for one another.
#[derive(Debug)]
pub(crate) struct Retained {
    parts: Box<[Mutex<Part>]>,
    sequence: AtomicU64,
    messages: AtomicUsize,
    bytes: AtomicUsize,
    /// No message ends before this, in microseconds of the wall clock.
    earliest: AtomicU64,
}

/// A time that does not come.
const NEVER: u64 = u64::MAX;

/// The retained messages of some topics, in the order of their names.
///
/// A filter reads a range of that order; below a `+` or past a mismatch it seeks to the next name
/// that could match, so that a read costs what it finds and not what lies between.
#[derive(Debug, Default)]
struct Part {
    topics: BTreeMap<Box<str>, Entry>,
    /// Topics whose message ends, by its end.
    ends: BTreeMap<(Wall, u64), Box<str>>,
}

#[derive(Debug)]
struct Entry {
    message: Arc<Message>,
    sequence: u64,
}

/// Why a message was not retained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    Messages,
    Bytes,
}

/// A place between two slices of one read.
#[derive(Debug)]
pub(crate) struct Cursor {
    filter: Box<str>,
    /// The part that is being read, and the part before which the read ends.
    part: usize,
    parts: usize,
    /// The name the last slice ended at, which the next one begins after; none at the start.
    after: Option<Box<str>>,
    /// Messages retained after this one reached the reader when they were published.
    sequence: u64,
}

impl Retained {
    /// Nothing yet, in so many parts.
    pub(crate) fn new(parts: usize) -> Self {
        Self {
            parts: (0..parts.max(1)).map(|_| Mutex::default()).collect(),
            sequence: AtomicU64::new(0),
            messages: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            earliest: AtomicU64::new(NEVER),
        }
    }

    /// Retained messages.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.messages.load(Ordering::Relaxed)
    }

    /// Whether nothing is retained.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        // In one order with the epoch of the index, as the numbers are.
        self.messages.load(Ordering::SeqCst) == 0
    }

    /// Bytes of topic, properties and payload of all of them.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn place(&self, topic: &str) -> usize {
        match self.parts.len() {
            1 => 0,
            parts => (PLACES.hash_one(topic) % parts as u64) as usize,
        }
    }

    fn part(&self, place: usize) -> MutexGuard<'_, Part> {
        // Whoever panicked with it ends the broker.
        self.parts[place].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Retains `message` under `topic`, in place of the one before.
    pub(crate) fn set(
        &self,
        topic: &str,
        message: Arc<Message>,
        messages_max: usize,
        bytes_max: usize,
    ) -> Result<u64, Full> {
        let mut part = self.part(self.place(topic));
        let (old, new) = (part.topics.get(topic), message.size());
        if old.is_none() && self.len() >= messages_max {
            return Err(Full::Messages);
        }
        if self.bytes() - old.map_or(0, |entry| entry.message.size()) + new > bytes_max {
            return Err(Full::Bytes);
        }
        self.messages.fetch_add(1, Ordering::SeqCst);
        let sequence = self.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        let entry = Entry { sequence, message };
        if let Some(expiry) = entry.message.expiry {
            part.ends.insert((expiry.ends, entry.sequence), topic.into());
            self.earliest.fetch_min(expiry.ends.0, Ordering::SeqCst);
        }
        self.bytes.fetch_add(new, Ordering::Relaxed);
        let old = match part.topics.get_mut(topic) {
            Some(known) => Some(std::mem::replace(known, entry)),
            None => part.topics.insert(topic.into(), entry),
        };
        self.forget(&mut part, old);
        Ok(sequence)
    }

    /// Removes what `topic` retains; the number of this change.
    pub(crate) fn clear(&self, topic: &str) -> u64 {
        let mut part = self.part(self.place(topic));
        let old = part.topics.remove(topic);
        let sequence = self.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        self.forget(&mut part, old);
        sequence
    }

    /// Takes back what was retained before this process began, in any order.
    pub(crate) fn restore(&self, topic: &str, message: Arc<Message>, sequence: u64) {
        let mut part = self.part(self.place(topic));
        self.messages.fetch_add(1, Ordering::SeqCst);
        self.bytes.fetch_add(message.size(), Ordering::Relaxed);
        self.sequence.fetch_max(sequence, Ordering::SeqCst);
        let entry = Entry { sequence, message };
        if let Some(expiry) = entry.message.expiry {
            part.ends.insert((expiry.ends, entry.sequence), topic.into());
            self.earliest.fetch_min(expiry.ends.0, Ordering::SeqCst);
        }
        let old = part.topics.insert(topic.into(), entry);
        self.forget(&mut part, old);
    }

    /// Numbers of changes up to this one were given away before this process began.
    pub(crate) fn restore_sequence(&self, sequence: u64) {
        self.sequence.fetch_max(sequence, Ordering::SeqCst);
    }

    /// The number of the last change.
    pub(crate) fn last_sequence(&self) -> u64 {
        self.sequence.load(Ordering::SeqCst)
    }

    /// Up to `count` retained messages of a part with their numbers, in the order of their topics
    /// behind `after`; `None` when there is no such part.
    pub(crate) fn slice(
        &self,
        part: usize,
        after: Option<&str>,
        count: usize,
    ) -> Option<Vec<(Arc<Message>, u64)>> {
        self.parts.get(part)?;
        let part = self.part(part);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = part.topics.range::<str, _>((from, Bound::Unbounded));
        Some(range.take(count).map(|(_, it)| (Arc::clone(&it.message), it.sequence)).collect())
    }

    fn forget(&self, part: &mut Part, old: Option<Entry>) {
        let Some(old) = old else { return };
        self.messages.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(old.message.size(), Ordering::Relaxed);
        if let Some(expiry) = old.message.expiry {
            part.ends.remove(&(expiry.ends, old.sequence));
        }
    }

    /// Removes up to `count` messages that have ended; true when there are more.
    pub(crate) fn expire(&self, now: Wall, mut count: usize) -> bool {
        if self.next_end().is_none_or(|end| end > now) {
            return false;
        }
        // What is retained from here on, or found to stay, says anew when it ends.
        self.earliest.store(NEVER, Ordering::SeqCst);
        for place in 0..self.parts.len() {
            let mut part = self.part(place);
            while let Some(first) = part.ends.first_entry() {
                if first.key().0 > now || count == 0 {
                    self.earliest.fetch_min(first.key().0.0, Ordering::SeqCst);
                    break;
                }
                let topic = first.remove();
                let old = part.topics.remove(&topic);
                self.forget(&mut part, old);
                count -= 1;
            }
        }
        self.next_end().is_some_and(|end| end <= now)
    }

    /// When the next retained message ends, or earlier.
    pub(crate) fn next_end(&self) -> Option<Wall> {
        let end = self.earliest.load(Ordering::SeqCst);
        (end != NEVER).then_some(Wall(end))
    }

    /// Begins a read of everything that matches `filter` now.
    pub(crate) fn read(&self, filter: &str) -> Cursor {
        let (part, parts) = match filter.contains(['+', '#']) {
            true => (0, self.parts.len()),
            false => (self.place(filter), self.place(filter) + 1),
        };
        let sequence = self.sequence.load(Ordering::SeqCst);
        Cursor { filter: filter.into(), part, parts, after: None, sequence }
    }

    /// Goes on with a read, over `visits` names at most, until `give` says stop (false) or all is
    /// read. True when the read is complete.
    pub(crate) fn next(
        &self,
        cursor: &mut Cursor,
        now: Wall,
        mut visits: usize,
        mut give: impl FnMut(&Arc<Message>) -> bool,
    ) -> bool {
        while cursor.part < cursor.parts {
            if !self.part(cursor.part).next(cursor, now, &mut visits, &mut give) {
                return false;
            }
            cursor.part += 1;
            cursor.after = None;
        }
        true
    }
}

impl Part {
    /// Goes on with a read of this part.
    fn next(
        &self,
        cursor: &mut Cursor,
        now: Wall,
        visits: &mut usize,
        give: &mut impl FnMut(&Arc<Message>) -> bool,
    ) -> bool {
        let filter = cursor.filter.clone();
        let prefix = literal_prefix(&filter);
        let mut from: Bound<String> = match &cursor.after {
            Some(after) => Bound::Excluded(after.to_string()),
            None => Bound::Included(prefix.to_owned()),
        };
        loop {
            let range = (from.as_ref().map(String::as_str), Bound::Unbounded);
            let mut seek = None;
            for (topic, entry) in self.topics.range::<str, _>(range) {
                if !topic.starts_with(prefix) {
                    return true;
                }
                if *visits == 0 {
                    return false;
                }
                *visits -= 1;
                if filter::matches(&filter, topic) {
                    let wanted =
                        entry.sequence <= cursor.sequence && !entry.message.is_expired(now);
                    if wanted && !give(&entry.message) {
                        return false;
                    }
                    cursor.after = Some(topic.clone());
                    continue;
                }
                cursor.after = Some(topic.clone());
                match step(&filter, topic) {
                    Step::Scan => {}
                    Step::Seek(next) => {
                        seek = Some(next);
                        break;
                    }
                    Step::End => return true,
                }
            }
            match seek {
                Some(next) => from = Bound::Included(next),
                None => return true,
            }
        }
    }
}

/// The part of a filter before its first wildcard, which every match starts with. For `a/#` that is
/// `a`, since it matches `a` itself.
fn literal_prefix(filter: &str) -> &str {
    let end = filter.find(['+', '#']).unwrap_or(filter.len());
    let prefix = &filter[..end];
    match filter[end..].starts_with('#') {
        true => prefix.strip_suffix('/').unwrap_or(prefix),
        false => prefix,
    }
}

/// Where a read goes on after a name that does not match.
enum Step {
    /// The next name is as good as any.
    Scan,
    /// No name before this one can match.
    Seek(String),
    /// No later name can match.
    End,
}

/// Skips the names after `topic`, which does not match, that share with it a level which the filter
/// forbids.
fn step(filter: &str, topic: &str) -> Step {
    let (mut levels, mut at) = (topic.split('/'), 0);
    for wanted in filter.split('/') {
        if wanted == "#" {
            return Step::Scan;
        }
        let Some(level) = levels.next() else { return Step::Scan };
        if wanted != "+" && wanted != level {
            // Below this parent only `wanted` and the names below it match. These two places are
            // apart: `a!` stands between `a` and `a/b`.
            for candidate in [wanted.to_owned(), format!("{wanted}/")] {
                if topic[at..] < *candidate {
                    return Step::Seek(format!("{}{candidate}", &topic[..at]));
                }
            }
            return past(&topic[..at]);
        }
        at += level.len() + 1;
    }
    // Too deep a topic: skip what lies below its last wanted level.
    topic.get(..at).map_or(Step::Scan, past)
}

/// To the first name after everything that starts with `parent`, which ends in `/` or is empty.
fn past(parent: &str) -> Step {
    // '0' is the character after '/'.
    parent.strip_suffix('/').map_or(Step::End, |parent| Step::Seek(format!("{parent}0")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Expiry, Parts};
    use longshore_codec::QoS;

    fn message(topic: &str, expiry: Option<Expiry>) -> Arc<Message> {
        let parts = Parts { topic: topic.as_bytes(), properties: &[], payload: b"x", shared: None };
        Arc::new(Message::new(parts, QoS::AtMostOnce, true, expiry))
    }

    const PARTS: usize = 3;

    fn all(retained: &Retained, filter: &str, visits: usize) -> Vec<String> {
        let (mut cursor, mut found) = (retained.read(filter), Vec::new());
        let mut slices = 0;
        while !retained.next(&mut cursor, Wall(0), visits, |message| {
            found.push(String::from_utf8(message.parts().topic.to_vec()).unwrap());
            true
        }) {
            slices += 1;
            assert!(slices < 10_000, "a read of {filter} ends");
        }
        found.sort();
        found
    }

    #[test]
    fn a_read_finds_exactly_what_matches_however_it_is_sliced() {
        let levels = ["", "a", "a!", "a0", "b", "$s", "aa"];
        let mut topics: Vec<String> = levels.iter().map(|level| (*level).to_owned()).collect();
        for first in levels {
            for second in levels {
                topics.push(format!("{first}/{second}"));
                for third in levels {
                    topics.push(format!("{first}/{second}/{third}"));
                }
            }
        }
        topics.retain(|topic| !topic.is_empty());
        let retained = Retained::new(PARTS);
        for topic in &topics {
            retained.set(topic, message(topic, None), 10_000, 1 << 20).unwrap();
        }
        let filters = [
            "#", "a", "a/#", "+", "+/+", "+/a", "a/+/b", "+/+/aa", "+/b/#", "a/a0", "a0/+/a!",
            "$s/#", "$s/+", "+/a/+", "+/a/#", "a/#", "+/a0/#", "/+", "/#", "+/", "b/+/", "zz/#",
            "a/zz/+",
        ];
        for filter in filters {
            let mut want: Vec<String> =
                topics.iter().filter(|topic| filter::matches(filter, topic)).cloned().collect();
            want.sort();
            for visits in [1, 2, 7, 10_000] {
                assert_eq!(all(&retained, filter, visits), want, "{filter} by {visits}");
            }
        }
    }

    #[test]
    fn a_plus_in_the_middle_does_not_visit_what_lies_between() {
        let retained = Retained::new(1);
        for branch in 0..50 {
            for leaf in 0..200 {
                let topic = format!("a/{branch}/{leaf}");
                retained.set(&topic, message(&topic, None), 100_000, 1 << 30).unwrap();
            }
        }
        let (mut cursor, mut found) = (retained.read("a/+/7"), 0);
        let complete = retained.next(&mut cursor, Wall(0), 200, |_| {
            found += 1;
            true
        });
        assert!(complete && found == 50, "50 of 10,000 found in 200 visits");
    }

    #[test]
    fn a_message_that_ended_is_neither_read_nor_kept() {
        let retained = Retained::new(PARTS);
        retained.set("a", message("a", Some(Expiry::begin(1, Wall(0)))), 10, 1000).unwrap();
        retained.set("b", message("b", Some(Expiry::begin(2, Wall(0)))), 10, 1000).unwrap();
        retained.set("b", message("b", None), 10, 1000).unwrap();
        assert_eq!(retained.next_end(), Some(Wall(1_000_000)));
        let mut cursor = retained.read("#");
        let mut found = 0;
        assert!(retained.next(&mut cursor, Wall(1_000_000), 100, |_| {
            found += 1;
            true
        }));
        assert_eq!(found, 1);
        assert!(!retained.expire(Wall(3_000_000), 10));
        assert_eq!((retained.len(), retained.next_end()), (1, None));
        retained.clear("b");
        assert_eq!((retained.len(), retained.bytes()), (0, 0));
    }
}
