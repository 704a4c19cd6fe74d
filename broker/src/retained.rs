//! The last retained message of each topic, and reading them by topic filter in slices.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::rc::Rc;

use longshore_codec::filter;

use crate::clock::Wall;
use crate::message::Message;

/// Retained messages in the order of their topic names.
///
/// A filter reads a range of that order; below a `+` or past a mismatch it seeks to the next name
/// that could match, so that a read costs what it finds and not what lies between.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    topics: BTreeMap<Box<str>, Entry>,
    /// Topics whose message ends, by its end.
    ends: BTreeMap<(Wall, u64), Box<str>>,
    bytes: usize,
    sequence: u64,
}

#[derive(Debug)]
struct Entry {
    message: Rc<Message>,
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
    /// The name the last slice ended at, which the next one begins after; none at the start.
    after: Option<Box<str>>,
    /// Messages retained after this one reached the reader when they were published.
    sequence: u64,
}

impl Retained {
    /// Retained messages.
    #[must_use]
    pub(crate) fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether nothing is retained.
    #[must_use]
    pub(crate) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Bytes of topic, properties and payload of all of them.
    #[must_use]
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Retains `message` under `topic`, in place of the one before.
    pub(crate) fn set(
        &mut self,
        topic: &str,
        message: Rc<Message>,
        messages_max: usize,
        bytes_max: usize,
    ) -> Result<(), Full> {
        let (old, new) = (self.topics.get(topic), message.size());
        if old.is_none() && self.topics.len() >= messages_max {
            return Err(Full::Messages);
        }
        if self.bytes - old.map_or(0, |entry| entry.message.size()) + new > bytes_max {
            return Err(Full::Bytes);
        }
        self.sequence += 1;
        let entry = Entry { sequence: self.sequence, message };
        if let Some(expiry) = entry.message.expiry {
            self.ends.insert((expiry.ends, entry.sequence), topic.into());
        }
        self.bytes += new;
        let old = match self.topics.get_mut(topic) {
            Some(known) => Some(std::mem::replace(known, entry)),
            None => self.topics.insert(topic.into(), entry),
        };
        self.forget(old);
        Ok(())
    }

    /// Removes what `topic` retains.
    pub(crate) fn clear(&mut self, topic: &str) {
        let old = self.topics.remove(topic);
        self.forget(old);
    }

    fn forget(&mut self, old: Option<Entry>) {
        let Some(old) = old else { return };
        self.bytes -= old.message.size();
        if let Some(expiry) = old.message.expiry {
            self.ends.remove(&(expiry.ends, old.sequence));
        }
    }

    /// Removes up to `count` messages that have ended; true when there are more.
    pub(crate) fn expire(&mut self, now: Wall, count: usize) -> bool {
        for _ in 0..count {
            match self.ends.first_key_value() {
                Some(((end, _), topic)) if *end <= now => {
                    let topic = topic.clone();
                    self.clear(&topic);
                }
                _ => return false,
            }
        }
        true
    }

    /// When the next retained message ends.
    pub(crate) fn next_end(&self) -> Option<Wall> {
        self.ends.first_key_value().map(|((end, _), _)| *end)
    }

    /// Begins a read of everything that matches `filter` now.
    pub(crate) fn read(&self, filter: &str) -> Cursor {
        Cursor { filter: filter.into(), after: None, sequence: self.sequence }
    }

    /// Goes on with a read, over `visits` names at most, until `give` says stop (false) or all is
    /// read. True when the read is complete.
    pub(crate) fn next(
        &self,
        cursor: &mut Cursor,
        now: Wall,
        mut visits: usize,
        mut give: impl FnMut(&Rc<Message>) -> bool,
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
                if visits == 0 {
                    return false;
                }
                visits -= 1;
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

    fn message(topic: &str, expiry: Option<Expiry>) -> Rc<Message> {
        let parts = Parts { topic: topic.as_bytes(), properties: &[], payload: b"x", shared: None };
        Rc::new(Message::new(parts, QoS::AtMostOnce, true, expiry))
    }

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
        let mut retained = Retained::default();
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
        let mut retained = Retained::default();
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
        let mut retained = Retained::default();
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
