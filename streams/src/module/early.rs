//! Messages that went out in their channel form before their device form has come.
//!
//! It may come all the same, late: the registry was away, or had more to do than it could. A stream
//! that sent it too would send one message twice (R6.7), so it is remembered which ones these were,
//! in the commits that put them in the queues, and the device form is passed over.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use longshore_storage::{Changes, Table, Tables, TablesError};

use super::held::Twin;

/// Microseconds that one is remembered.
const EARLY_MICROS: u64 = 3_600_000_000;
/// Messages of all streams that are remembered; with more the oldest are forgotten.
const EARLY_MAX: usize = 262_144;
/// Messages that are forgotten with one commit because of their age, at most.
const EXPIRED_MAX: usize = 10_000;

#[derive(Clone, Copy)]
struct Entry {
    stream: u64,
    twin: Twin,
    time: u64,
}

impl Entry {
    fn row(self) -> Vec<u8> {
        let numbers = [self.stream, self.twin.0, self.time];
        numbers.into_iter().flat_map(u64::to_be_bytes).collect()
    }

    fn read(row: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_be_bytes(row.get(at..at + 8)?.try_into().ok()?));
        Some(Self { stream: number(0)?, twin: Twin(number(8)?), time: number(16)? })
    }
}

pub(super) struct Early {
    table: Table,
    /// By number, the oldest first.
    entries: BTreeMap<u64, Entry>,
    by_twin: BTreeSet<(Twin, u64)>,
    next: u64,
    /// From this number on they stand in no row yet.
    unwritten: u64,
}

impl Early {
    pub(super) fn open(tables: &Tables) -> Result<Self, TablesError> {
        let table = tables.table("stream early")?;
        let (mut entries, mut by_twin, mut next) = (BTreeMap::new(), BTreeSet::new(), 0);
        for row in table.prefix(b"") {
            let (key, row) = row?;
            let number = key.try_into().map(u64::from_be_bytes);
            if let (Ok(number), Some(entry)) = (number, Entry::read(&row)) {
                entries.insert(number, entry);
                by_twin.insert((entry.twin, number));
                next = number + 1;
            }
        }
        Ok(Self { table, entries, by_twin, next, unwritten: next })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A message goes to a stream in its channel form.
    pub(super) fn note(&mut self, stream: u64, twin: Twin, now: u64) {
        self.entries.insert(self.next, Entry { stream, twin, time: now });
        self.by_twin.insert((twin, self.next));
        self.next += 1;
    }

    /// The device form has come: these streams have had the message. Another with the same time
    /// may come yet, so of each stream the first is forgotten.
    pub(super) fn settle(&mut self, twin: Twin, changes: &mut Changes) -> HashSet<u64> {
        let mut streams = HashSet::new();
        let mut settled = Vec::new();
        for (_, number) in self.by_twin.range((twin, 0)..=(twin, u64::MAX)) {
            let entry = self.entries.get(number);
            if entry.is_some_and(|entry| streams.insert(entry.stream)) {
                settled.push(*number);
            }
        }
        settled.into_iter().for_each(|number| self.forget(number, changes));
        streams
    }

    fn forget(&mut self, number: u64, changes: &mut Changes) {
        let Some(entry) = self.entries.remove(&number) else { return };
        self.by_twin.remove(&(entry.twin, number));
        if number < self.unwritten {
            changes.remove(&self.table, &number.to_be_bytes());
        }
    }

    /// Writes down what came since the last commit, and makes room for it.
    pub(super) fn write(&mut self, now: u64, changes: &mut Changes) {
        let mut expired = 0;
        while let Some((number, oldest)) = self.entries.first_key_value() {
            // The clock may have been set back.
            let is_late = now.abs_diff(oldest.time) >= EARLY_MICROS && expired < EXPIRED_MAX;
            if !is_late && self.entries.len() <= EARLY_MAX {
                break;
            }
            expired += 1;
            self.forget(*number, changes);
        }
        for (number, entry) in self.entries.range(self.unwritten..) {
            changes.put(&self.table, &number.to_be_bytes(), &entry.row());
        }
        self.unwritten = self.next;
    }
}

#[cfg(test)]
mod tests {
    use super::super::held::{twin, whose};
    use super::*;

    const SECOND: u64 = 1_000_000;

    fn at(n: usize) -> Twin {
        twin(whose(1, "a"), n as f64)
    }

    fn commit(early: &mut Early, now: u64, tables: &Tables, mut changes: Changes) {
        early.write(now, &mut changes);
        tables.commit(changes).unwrap();
    }

    /// R6.7.
    #[test]
    fn what_went_out_is_known_once_for_each_time_it_did_also_after_kills() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::open(&folder.path().join("tables")).unwrap();
        let mut early = Early::open(&tables).unwrap();
        for stream in [7, 8, 7] {
            early.note(stream, at(0), 0);
        }
        early.note(7, at(1), 0);
        assert_eq!(early.settle(at(1), &mut Changes::new()), HashSet::from([7]));
        commit(&mut early, 0, &tables, Changes::new());
        for streams in [HashSet::from([7, 8]), HashSet::from([7]), HashSet::new()] {
            let mut early = Early::open(&tables).unwrap();
            let mut changes = Changes::new();
            assert_eq!(early.settle(at(1), &mut changes), HashSet::new());
            assert_eq!(early.settle(at(0), &mut changes), streams);
            commit(&mut early, 0, &tables, changes);
        }
        assert_eq!(tables.table("stream early").unwrap().prefix(b"").count(), 0);
    }

    #[test]
    fn what_went_out_is_forgotten_after_an_hour_and_where_there_is_too_much() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::open(&folder.path().join("tables")).unwrap();
        let mut early = Early::open(&tables).unwrap();
        early.note(7, at(0), 0);
        early.note(7, at(1), 2 * SECOND);
        commit(&mut early, 2 * SECOND, &tables, Changes::new());
        commit(&mut early, EARLY_MICROS + SECOND, &tables, Changes::new());
        let mut again = Early::open(&tables).unwrap();
        for early in [&mut early, &mut again] {
            let known = [0, 1].map(|n| early.settle(at(n), &mut Changes::new()).len());
            assert_eq!(known, [0, 1]);
        }
        let mut early = Early::open(&tables).unwrap();
        (0..EARLY_MAX).for_each(|n| early.note(7, at(2 + n), 2 * SECOND));
        commit(&mut early, 2 * SECOND, &tables, Changes::new());
        assert_eq!((early.entries.len(), early.by_twin.len()), (EARLY_MAX, EARLY_MAX));
        let known = [1, 2].map(|n| early.settle(at(n), &mut Changes::new()).len());
        assert_eq!(known, [0, 1], "the oldest goes");
    }
}
