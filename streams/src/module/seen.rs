//! What was taken and may come again: after a kill this module's session gives out once more what
//! it had not heard to be done, and whoever published it publishes once more what had not been
//! heard to be taken. Both may have the same message, and either may come first.

use std::collections::{HashSet, VecDeque};

use longshore_broker::Message;
use longshore_storage::{Changes, Table, Tables, TablesError};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Messages that are known again, at least. What comes again is what was under way at a kill here
/// or at a module that published it, some thousands; others may be taken meanwhile.
const MARKS: usize = 32_768;

/// Marks of the messages that were taken last, written in the commits that take the messages.
pub(super) struct Seen {
    table: Table,
    next: u64,
    /// Rows that are there, the oldest first: their numbers and marks.
    rows: VecDeque<(u64, Vec<Mark>)>,
    /// All of them, and those of the commit to come.
    known: HashSet<Mark>,
    fresh: Vec<Mark>,
}

impl Seen {
    pub(super) fn open(tables: &Tables) -> Result<Self, TablesError> {
        let table = tables.table("stream seen")?;
        let (mut rows, mut known, mut next) = (VecDeque::new(), HashSet::new(), 0);
        for row in table.prefix(b"") {
            let (key, row) = row?;
            let Ok(number) = key.try_into().map(u64::from_be_bytes) else { continue };
            let mark = |it: &[u8]| it.iter().fold(0, |mark, byte| mark << 8 | u64::from(*byte));
            let marks: Vec<_> = row.chunks_exact(8).map(mark).map(Mark).collect();
            known.extend(&marks);
            rows.push_back((number, marks));
            next = number + 1;
        }
        Ok(Self { table, next, rows, known, fresh: Vec::new() })
    }

    /// Whether a message was taken before.
    pub(super) fn is_again(&self, mark: Mark) -> bool {
        self.known.contains(&mark)
    }

    /// A message is taken by the commit to come.
    pub(super) fn note(&mut self, mark: Mark) {
        if self.known.insert(mark) {
            self.fresh.push(mark);
        }
    }

    /// Whether any message was noted since the last commit.
    pub(super) fn is_changed(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// Writes down what a commit takes.
    pub(super) fn write(&mut self, changes: &mut Changes) {
        if self.fresh.is_empty() {
            return;
        }
        let fresh = std::mem::take(&mut self.fresh);
        let row: Vec<u8> = fresh.iter().flat_map(|mark| mark.0.to_be_bytes()).collect();
        changes.put(&self.table, &self.next.to_be_bytes(), &row);
        self.rows.push_back((self.next, fresh));
        self.next += 1;
        while let Some((number, oldest)) = self.rows.front()
            && self.known.len() - oldest.len() >= MARKS
        {
            changes.remove(&self.table, &number.to_be_bytes());
            for mark in oldest {
                self.known.remove(mark);
            }
            self.rows.pop_front();
        }
    }
}

/// Knows a message again: it has the time of the hub to the microsecond in it, which no other has
/// and nobody knows before. The hash is one that stays as it is, for it stands in rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mark(u64);

impl Mark {
    pub(super) fn of(message: &Message) -> Self {
        let of_topic = xxh3_64_with_seed(message.topic.as_bytes(), message.account());
        Self(xxh3_64_with_seed(&message.payload, of_topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(numbers: impl IntoIterator<Item = u64>) -> Vec<Mark> {
        numbers.into_iter().map(|n| Mark::of(&Message::new("a", n.to_string()))).collect()
    }

    fn write(seen: &mut Seen, tables: &Tables, marks: &[Mark]) {
        let mut changes = Changes::new();
        marks.iter().for_each(|mark| seen.note(*mark));
        seen.write(&mut changes);
        tables.commit(changes).unwrap();
    }

    #[test]
    fn what_was_taken_is_known_however_late_and_often_it_comes_also_after_kills() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::open(&folder.path().join("tables")).unwrap();
        for kill in 0..3 {
            let mut seen = Seen::open(&tables).unwrap();
            // What comes meanwhile takes nothing away.
            (0..100).for_each(|n| write(&mut seen, &tables, &marks([kill * 1_000 + n])));
            for _ in 0..2 {
                let again = marks([0, 99, 100, kill * 1_000 + 99, kill * 1_000 + 100]);
                let again = again.into_iter().map(|mark| seen.is_again(mark));
                assert_eq!(again.collect::<Vec<_>>(), [true, true, false, true, false]);
            }
        }
    }

    #[test]
    fn the_oldest_marks_make_room_and_the_newest_never_do() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::open(&folder.path().join("tables")).unwrap();
        let mut seen = Seen::open(&tables).unwrap();
        let all = marks(0..2 * MARKS as u64);
        all.chunks(1_000).for_each(|batch| write(&mut seen, &tables, batch));
        for seen in [seen, Seen::open(&tables).unwrap()] {
            let known = all.iter().filter(|mark| seen.is_again(**mark)).count();
            assert!((MARKS..MARKS + 1_000).contains(&known), "{known}");
            assert!(!seen.is_again(all[0]) && seen.is_again(all[all.len() - 1]));
        }
    }
}
