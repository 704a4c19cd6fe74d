//! The history of devices: a row for each message, in the order of their times (R4.10).
//!
//! A key is device, `timestamp`, `server.timestamp` and a hash of the message as it came, so one
//! that comes again after a crash takes the place of itself. The row is the message as JSON, which
//! is what readers get.

use longshore_storage::{Table, TablesError};

/// The place of a message.
pub type Key = [u8; 32];

/// A message: its place, and itself as JSON.
pub type Row = (Key, Vec<u8>);

/// Rows of one slice of a read, and bytes after which it ends.
pub const SLICE_ROWS: usize = 1_024;
const SLICE_BYTES: usize = 256 << 10;

/// The key of a message: times in microseconds.
pub fn key(device: u64, at: u64, received: u64, hash: u64) -> Key {
    let mut key = [0; 32];
    for (part, number) in key.chunks_exact_mut(8).zip([device, at, received, hash]) {
        part.copy_from_slice(&number.to_be_bytes());
    }
    key
}

/// The time of the message at a place.
pub(crate) fn time(key: &Key) -> u64 {
    let mut time = [0; 8];
    time.copy_from_slice(&key[8..16]);
    u64::from_be_bytes(time)
}

/// What a row takes of the space of its device.
pub(crate) fn row_bytes(text_bytes: usize) -> u64 {
    (size_of::<Key>() + text_bytes) as u64
}

/// Reads a history a slice at a time. Nothing is held between two slices, and what comes meanwhile
/// ahead of it is read.
#[derive(Debug)]
pub struct Cursor {
    table: Table,
    /// The first that is to be read, and the first that is not; none once all is read.
    rest: Option<(Key, Key)>,
    reverse: bool,
}

impl Cursor {
    /// Messages of a device from one time to another, both included, in microseconds.
    pub fn new(table: &Table, device: u64, from: u64, to: u64, reverse: bool) -> Self {
        let end = match to.checked_add(1) {
            Some(end) => key(device, end, 0, 0),
            None => key(device + 1, 0, 0, 0),
        };
        Self { table: table.clone(), rest: Some((key(device, from, 0, 0), end)), reverse }
    }

    /// The next rows, in order, at most [`SLICE_ROWS`]; none once there are no more.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub fn next_slice(&mut self) -> Result<Option<Vec<Row>>, TablesError> {
        let Some((start, end)) = self.rest.take() else { return Ok(None) };
        let mut rows = self.table.range(&start[..]..&end[..]);
        let (mut slice, mut bytes) = (Vec::new(), 0);
        while slice.len() < SLICE_ROWS && bytes < SLICE_BYTES {
            let next = if self.reverse { rows.next_back() } else { rows.next() };
            let Some(row) = next else { break };
            let (key, text) = row?;
            bytes += text.len();
            // Rows of this table have such keys.
            let Ok(key) = Key::try_from(&key[..]) else { continue };
            slice.push((key, text));
        }
        let Some((last, _)) = slice.last() else { return Ok(None) };
        self.rest = Some(if self.reverse { (start, *last) } else { (after(last), end) });
        Ok(Some(slice))
    }
}

/// The key behind this one.
fn after(key: &Key) -> Key {
    let mut next = *key;
    for byte in next.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    next
}

#[cfg(test)]
mod tests {
    use longshore_storage::{Changes, Tables};

    use super::*;

    /// R4.10.
    #[test]
    fn messages_are_read_in_the_order_of_their_times_from_either_end() {
        let folder = tempfile::tempdir().unwrap();
        let tables = Tables::open(&folder.path().join("tables")).unwrap();
        let table = tables.table("history").unwrap();
        let mut changes = Changes::new();
        let count = 3 * SLICE_ROWS as u64;
        for at in (0..count).rev() {
            changes.put(&table, &key(7, at, 9, u64::MAX), at.to_string().as_bytes());
        }
        changes.put(&table, &key(6, 5, 0, 0), b"x");
        changes.put(&table, &key(8, 5, 0, 0), b"x");
        tables.commit(changes).unwrap();
        let read = |from, to, reverse| {
            let mut cursor = Cursor::new(&table, 7, from, to, reverse);
            let mut times = Vec::new();
            while let Some(slice) = cursor.next_slice().unwrap() {
                assert!(slice.len() <= SLICE_ROWS);
                times.extend(slice.iter().map(|(key, _)| time(key)));
            }
            times
        };
        assert_eq!(read(0, u64::MAX, false), (0..count).collect::<Vec<_>>());
        assert_eq!(read(0, u64::MAX, true), (0..count).rev().collect::<Vec<_>>());
        assert_eq!(read(2, 4, false), [2, 3, 4]);
        assert_eq!(read(count, u64::MAX, false), [0; 0]);
        assert_eq!(after(&key(1, 2, 3, u64::MAX)), key(1, 2, 4, 0));
    }
}
