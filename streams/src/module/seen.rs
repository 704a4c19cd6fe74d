//! What was taken and may come again: a process that was killed had acknowledged it too late.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use longshore_broker::Message;
use longshore_storage::{Changes, Table, Tables, TablesError};

/// Batches whose messages are known again: the acknowledgement of one is written down while the
/// next are taken.
const BATCHES: u64 = 8;

/// Marks of the messages of the last batches, written in the commits that take the messages. After
/// a start those that come again are known by them.
pub(super) struct Seen {
    table: Table,
    next: u64,
    /// How often each may come again; empty once as many batches have come.
    again: HashMap<Mark, u32>,
    looked: u64,
}

impl Seen {
    pub(super) fn open(tables: &Tables) -> Result<Self, TablesError> {
        let table = tables.table("stream seen")?;
        let mut again = HashMap::new();
        let mut next = 0;
        for row in table.prefix(b"") {
            let row = row?.1;
            let mut numbers = row
                .chunks_exact(8)
                .map(|it| it.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte)));
            next = next.max(numbers.next().unwrap_or_default() + 1);
            numbers.for_each(|mark| *again.entry(Mark(mark)).or_default() += 1);
        }
        Ok(Self { table, next, again, looked: 0 })
    }

    /// Whether a message was taken before. It may come once more, if this process is killed, too;
    /// then it is taken twice.
    pub(super) fn is_again(&mut self, mark: Mark) -> bool {
        match self.again.get_mut(&mark) {
            Some(left) if *left > 0 => {
                *left -= 1;
                true
            }
            _ => false,
        }
    }

    /// A batch has been looked at. What comes again comes first.
    pub(super) fn next_batch(&mut self) {
        self.looked += 1;
        if self.looked > BATCHES && !self.again.is_empty() {
            self.again = HashMap::new();
        }
    }

    /// Writes down what a commit takes.
    pub(super) fn write(&mut self, marks: &[Mark], changes: &mut Changes) {
        let numbers = std::iter::once(self.next).chain(marks.iter().map(|mark| mark.0));
        let row: Vec<u8> = numbers.flat_map(u64::to_be_bytes).collect();
        changes.put(&self.table, &[(self.next % BATCHES) as u8], &row);
        self.next += 1;
    }
}

/// Knows a message again: it has the time of the hub to the microsecond in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mark(u64);

impl Mark {
    pub(super) fn of(message: &Message) -> Self {
        let mut hasher = DefaultHasher::new();
        (message.account(), &message.topic, &message.payload).hash(&mut hasher);
        Self(hasher.finish())
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
        seen.write(marks, &mut changes);
        tables.commit(changes).unwrap();
    }

    #[test]
    fn what_was_taken_before_a_kill_is_known_once_and_what_is_new_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::open(&folder.path().join("tables")).unwrap();
        let mut seen = Seen::open(&tables).unwrap();
        // One batch more than is remembered; one message was said twice.
        for batch in 0..=BATCHES {
            write(&mut seen, &tables, &marks([batch * 2, batch * 2 + 1, 1_000]));
        }
        let mut seen = Seen::open(&tables).unwrap();
        let mut again = |numbers: &[u64]| {
            let marks = marks(numbers.iter().copied());
            marks.into_iter().map(|mark| seen.is_again(mark)).collect::<Vec<_>>()
        };
        assert_eq!(again(&[0, 1]), [false, false], "they were acknowledged long ago");
        assert_eq!(again(&[2, 3, 16, 17, 18]), [true, true, true, true, false]);
        assert_eq!(again(&[2, 16]), [false, false], "said anew");
        assert_eq!(again(&[1_000; 9]), [[true; 8].as_slice(), &[false]].concat());
        // Numbers of batches go on.
        write(&mut seen, &tables, &marks([77]));
        let mut seen = Seen::open(&tables).unwrap();
        assert!(seen.is_again(marks([77])[0]));
        assert!(!seen.is_again(marks([2])[0]), "the oldest has made room");
        (0..=BATCHES).for_each(|_| seen.next_batch());
        assert!(!seen.is_again(marks([16])[0]), "what comes now is new");
    }
}
