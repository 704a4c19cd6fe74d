//! Messages of channels that wait for their device form.
//!
//! A stream that is linked to a channel and to devices gets what a device on that channel sends
//! once, in its device form (R6.7), and the channel form is there first. Who has a device is not
//! known here: it is learnt from what comes. So the channel form is held, on the disk, until the
//! device form of the same channel, ident and time comes or [`HOLD_MICROS`] have passed; then it
//! goes its way. An ident whose messages had no device form is not held up again until one comes:
//! the rest of what is held of it goes with the first, or what comes next would overtake it (R6.8).
//! The device form of what went its way is passed over if it comes after all (`early`).

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use longshore_storage::{Changes, Table, Tables, TablesError};

use super::early::Early;

/// Microseconds that the channel form waits for the device form, at most.
const HOLD_MICROS: u64 = 5_000_000;
/// Bytes of all messages that are held; with more the oldest go their way.
const HELD_BYTES_MAX: usize = 64 << 20;
/// What one takes beside its bytes.
const ENTRY_BYTES: usize = 200;
/// Idents of which is remembered whether they have a device; with more all are learnt anew.
const IDENTS_MAX: usize = 1_000_000;

/// What channel form and device form have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Twin(pub(super) u64);

/// An ident on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Whose(u64);

pub(super) fn whose(channel: u64, ident: &str) -> Whose {
    let mut hasher = DefaultHasher::new();
    (channel, ident).hash(&mut hasher);
    Whose(hasher.finish())
}

/// `timestamp` is seconds since 1970, of which microseconds count (R1.4).
pub(super) fn twin(whose: Whose, timestamp: f64) -> Twin {
    let mut hasher = DefaultHasher::new();
    (whose, (timestamp * 1e6).round() as i64).hash(&mut hasher);
    Twin(hasher.finish())
}

struct Entry {
    stream: u64,
    whose: Whose,
    twin: Twin,
    until: u64,
    payload: Bytes,
}

pub(super) struct Held {
    table: Table,
    entries: BTreeMap<u64, Entry>,
    by_twin: HashMap<Twin, VecDeque<u64>>,
    by_ident: HashMap<Whose, BTreeSet<u64>>,
    /// Those held by the commit to come.
    fresh: HashSet<u64>,
    has_device: HashMap<Whose, bool>,
    device_links: u64,
    bytes: usize,
    last: u64,
    early: Early,
}

/// A message that goes its way in its channel form.
pub(super) type Released = (u64, Bytes);

impl Held {
    pub(super) fn open(tables: &Tables) -> Result<Self, TablesError> {
        let table = tables.table("stream held")?;
        let mut held = Self {
            entries: BTreeMap::new(),
            by_twin: HashMap::new(),
            by_ident: HashMap::new(),
            fresh: HashSet::new(),
            has_device: HashMap::new(),
            device_links: 0,
            bytes: 0,
            last: 0,
            early: Early::open(tables)?,
            table: table.clone(),
        };
        for row in table.prefix(b"") {
            let (key, value) = row?;
            let number = |at: usize| {
                let bytes = value.get(at..at + 8)?.try_into().ok()?;
                Some(u64::from_be_bytes(bytes))
            };
            let entry = || {
                Some(Entry {
                    stream: number(0)?,
                    whose: Whose(number(8)?),
                    twin: Twin(number(16)?),
                    until: number(24)?,
                    payload: Bytes::copy_from_slice(value.get(32..)?),
                })
            };
            if let (Ok(key), Some(entry)) = (key.try_into().map(u64::from_be_bytes), entry()) {
                held.put(key, entry);
            }
        }
        Ok(held)
    }

    fn put(&mut self, number: u64, entry: Entry) {
        self.last = self.last.max(number);
        self.bytes += entry.payload.len() + ENTRY_BYTES;
        self.by_twin.entry(entry.twin).or_default().push_back(number);
        self.by_ident.entry(entry.whose).or_default().insert(number);
        self.entries.insert(number, entry);
    }

    fn take(&mut self, number: u64, changes: &mut Changes) -> Option<Entry> {
        let entry = self.entries.remove(&number)?;
        self.bytes -= entry.payload.len() + ENTRY_BYTES;
        if let Some(numbers) = self.by_twin.get_mut(&entry.twin) {
            numbers.retain(|it| *it != number);
            if numbers.is_empty() {
                self.by_twin.remove(&entry.twin);
            }
        }
        if let Some(numbers) = self.by_ident.get_mut(&entry.whose) {
            numbers.remove(&number);
            if numbers.is_empty() {
                self.by_ident.remove(&entry.whose);
            }
        }
        if !self.fresh.remove(&number) {
            changes.remove(&self.table, &number.to_be_bytes());
        }
        Some(entry)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether it matters which device forms come.
    pub(super) fn is_in_use(&self) -> bool {
        !self.entries.is_empty() || !self.has_device.is_empty() || !self.early.is_empty()
    }

    /// How many links to devices have been made: with a new one all idents are learnt anew.
    pub(super) fn follow(&mut self, device_links: u64) {
        if self.device_links != device_links {
            self.device_links = device_links;
            self.has_device.clear();
        }
    }

    /// Whether messages of this ident may have a device form.
    fn may_have_device(&self, whose: Whose) -> bool {
        self.has_device.get(&whose).copied().unwrap_or(true)
    }

    /// Holds a message of a channel for a stream, or says that it goes its way.
    pub(super) fn hold(
        &mut self,
        stream: u64,
        mark: (Whose, Twin),
        payload: Bytes,
        now: u64,
    ) -> Option<Released> {
        let ((whose, twin), number) = (mark, self.last + 1);
        if !self.may_have_device(whose) {
            self.early.note(stream, twin, now);
            return Some((stream, payload));
        }
        self.fresh.insert(number);
        let until = now.saturating_add(HOLD_MICROS);
        self.put(number, Entry { stream, whose, twin, until, payload });
        None
    }

    /// The device form has come: of each stream that holds the channel form the first is settled.
    /// It goes its way where `has` says that the stream does not get this device's messages. Also
    /// says which streams have had the message in its channel form.
    pub(super) fn settle(
        &mut self,
        mark: (Whose, Twin),
        has: impl Fn(u64) -> bool,
        changes: &mut Changes,
    ) -> (Vec<Released>, HashSet<u64>) {
        self.learn(mark.0, true);
        // What went out was there before what is held.
        let had = self.early.settle(mark.1, changes);
        let mut streams = had.clone();
        let numbers = self.by_twin.get(&mark.1).into_iter().flatten().copied();
        let first = |number: &u64| {
            self.entries.get(number).is_some_and(|entry| streams.insert(entry.stream))
        };
        let numbers: Vec<u64> = numbers.filter(first).collect();
        let entries = numbers.into_iter().filter_map(|number| self.take(number, changes));
        let others = entries.filter(|entry| !has(entry.stream));
        (others.map(|entry| (entry.stream, entry.payload)).collect(), had)
    }

    /// Those that have waited long enough, or for which there is no room.
    pub(super) fn due(&mut self, now: u64, changes: &mut Changes) -> Vec<Released> {
        let mut due = Vec::new();
        while let Some((number, first)) = self.entries.first_key_value() {
            // The clock may have been set back.
            let is_late = now >= first.until || first.until > now.saturating_add(HOLD_MICROS);
            let (number, is_full) = (*number, self.bytes > HELD_BYTES_MAX);
            if !is_late && !is_full {
                break;
            }
            let Some(entry) = self.take(number, changes) else { break };
            let whose = entry.whose;
            due.push(entry);
            if is_late {
                self.learn(whose, false);
                let rest = self.by_ident.get(&whose).cloned().unwrap_or_default();
                due.extend(rest.into_iter().filter_map(|number| self.take(number, changes)));
            }
        }
        due.iter().for_each(|entry| self.early.note(entry.stream, entry.twin, now));
        due.into_iter().map(|entry| (entry.stream, entry.payload)).collect()
    }

    /// Writes down what is held, and what went its way, since the last commit.
    pub(super) fn write(&mut self, now: u64, changes: &mut Changes) {
        self.early.write(now, changes);
        for number in self.fresh.drain() {
            let Some(entry) = self.entries.get(&number) else { continue };
            let numbers = [entry.stream, entry.whose.0, entry.twin.0, entry.until];
            let mut row: Vec<u8> = numbers.into_iter().flat_map(u64::to_be_bytes).collect();
            row.extend_from_slice(&entry.payload);
            changes.put(&self.table, &number.to_be_bytes(), &row);
        }
    }

    fn learn(&mut self, whose: Whose, has_device: bool) {
        if self.has_device.len() >= IDENTS_MAX && !self.has_device.contains_key(&whose) {
            self.has_device.clear();
        }
        self.has_device.insert(whose, has_device);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R6.8.
    #[test]
    fn what_comes_of_an_ident_without_device_does_not_overtake_what_is_held_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::open(&folder.path().join("tables")).unwrap();
        let mut held = Held::open(&tables).unwrap();
        let mut changes = Changes::new();
        let (stranger, other) = (whose(1, "stranger"), whose(1, "other"));
        for n in 0_u64..3 {
            let payload = |name: &str| Bytes::from(format!("{name} {n}"));
            let (now, time) = (n * 1_000_000, n as f64);
            assert!(
                held.hold(7, (stranger, twin(stranger, time)), payload("stranger"), now).is_none()
            );
            assert!(held.hold(7, (other, twin(other, time)), payload("other"), now + 1).is_none());
        }
        assert_eq!(held.due(HOLD_MICROS - 1, &mut changes), []);
        let due = held.due(HOLD_MICROS, &mut changes);
        let want = ["stranger 0", "stranger 1", "stranger 2"].map(|text| (7, Bytes::from(text)));
        assert_eq!(due, want, "all of it goes with the first");
        assert!(!held.may_have_device(stranger) && held.may_have_device(other));
        assert_eq!(held.due(HOLD_MICROS + 1, &mut changes).len(), 3);
        assert!(held.is_empty() && held.by_ident.is_empty() && held.by_twin.is_empty());
    }
}
