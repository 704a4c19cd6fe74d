//! What streams and their platforms have really said, byte for byte, for whoever looks for the
//! fault of a stream (R6.16).
//!
//! It is a log, and nothing waits for it: what went over is put aside here, and goes to the disk
//! once a second in commits of its own. What finds no room is left out, and what cannot be written
//! is lost. A stream keeps none unless its owner gives `packets_ttl`.
//!
//! The key of a packet is its time, moved on until it is greater than any before it, so what is too
//! old and what comes first stand at the front.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_storage::{Changes, Rows, Table, Tables, TablesError};

mod tape;

pub(crate) use self::tape::{Packet, Side, Tag, Tape, Transport};

/// Bytes of one packet that are kept.
const DATA_BYTES_MAX: usize = 64 << 10;
/// Bytes of packets that wait for the next commit.
const WAITING_BYTES: usize = 8 << 20;
/// Bytes that a packet takes beside its value.
const ROW_BYTES: u64 = 32;
/// Packets, and bytes of them, that are removed with one commit.
const SWEPT_ROWS: usize = 4_096;
const SWEPT_BYTES: u64 = 8 << 20;
/// What a stream that is full keeps, in percent of what it may: else each packet would make room
/// for one.
const KEPT_PERCENT: u64 = 90;
/// Packets, and bytes of them, that are read at once.
const READ_ROWS: usize = 1_024;
const READ_BYTES: usize = 256 << 10;

/// What is kept of the packets of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head {
    /// Key of the oldest one.
    oldest: u64,
    newest: u64,
    /// Bytes of all of them.
    size: u64,
}

#[derive(Default)]
struct Waiting {
    /// Stream, key and value of each.
    rows: Vec<(u64, u64, Vec<u8>)>,
    bytes: usize,
    /// The greatest key that was given.
    last: u64,
    /// Whether some were left out since the last commit.
    is_short: bool,
}

impl Waiting {
    fn next_key(&mut self, now: u64) -> u64 {
        self.last = now.max(self.last + 1);
        self.last
    }
}

/// The packets of all streams.
pub(crate) struct Packets {
    tables: Tables,
    /// Number of the stream and key: a packet.
    rows: Table,
    /// Number of the stream: its head.
    heads: Table,
    /// Those of streams that have packets. Whoever writes holds it.
    known: Mutex<BTreeMap<u64, Head>>,
    /// Bytes that a stream keeps.
    bytes_max: u64,
    /// The time, in microseconds since 1970.
    now: fn() -> u64,
    waiting: Mutex<Waiting>,
    /// Whether it has been said that they cannot be written.
    is_failing: AtomicBool,
}

/// A packet with the stream and key that it has.
pub(crate) type Found = (u64, u64, Vec<u8>);

impl Packets {
    pub(crate) fn open(
        tables: &Tables,
        bytes_max: u64,
        now: fn() -> u64,
    ) -> Result<Self, TablesError> {
        let heads = tables.table("stream packet heads")?;
        let mut known = BTreeMap::new();
        for row in heads.range(..) {
            let (key, value) = row?;
            if let (Some(stream), Some(head)) = (number(&key, 0), Head::read(&value)) {
                known.insert(stream, head);
            }
        }
        let last = known.values().map(|head| head.newest).max().unwrap_or(0);
        Ok(Self {
            tables: tables.clone(),
            rows: tables.table("stream packets")?,
            heads,
            known: Mutex::new(known),
            bytes_max,
            now,
            waiting: Mutex::new(Waiting { last, ..Waiting::default() }),
            is_failing: AtomicBool::new(false),
        })
    }

    /// Puts a packet aside for the next commit; where too many wait, it is left out.
    fn note(&self, stream: u64, value: Vec<u8>) {
        let mut waiting = lock(&self.waiting);
        if waiting.bytes >= WAITING_BYTES {
            if !std::mem::replace(&mut waiting.is_short, true) {
                tracing::warn!("the disk is too slow for packets of streams: some are left out");
            }
            return;
        }
        let key = waiting.next_key((self.now)());
        waiting.bytes += value.len();
        waiting.rows.push((stream, key, value));
    }

    /// A number that no packet has: that of a connection.
    fn next_key(&self) -> u64 {
        lock(&self.waiting).next_key((self.now)())
    }

    /// Whether there is nothing to write and nothing that could become too old.
    pub(crate) fn is_empty(&self) -> bool {
        // Whoever writes right now will be asked again.
        let is_known = self.known.try_lock().map_or(true, |known| !known.is_empty());
        !is_known && lock(&self.waiting).rows.is_empty()
    }

    /// Writes what waits, and removes what is too old, too much, or of streams that are gone:
    /// `ttl_of` says for how many seconds a stream keeps packets, 0 for none. Waits for the disk.
    pub(crate) fn keep(&self, ttl_of: impl Fn(u64) -> u64) {
        let mut known = lock(&self.known);
        let written = self.write(&mut known, &ttl_of).and_then(|()| {
            let heads: Vec<_> = known.iter().map(|(stream, head)| (*stream, *head)).collect();
            heads.into_iter().try_for_each(|(stream, head)| {
                let age = ttl_of(stream).saturating_mul(1_000_000);
                let below = if age == 0 { u64::MAX } else { (self.now)().saturating_sub(age) };
                let bytes = match head.size > self.bytes_max {
                    true => self.bytes_max / 100 * KEPT_PERCENT,
                    false => self.bytes_max,
                };
                self.sweep(&mut known, stream, below, bytes)
            })
        });
        match written {
            Ok(()) => self.is_failing.store(false, Ordering::Relaxed),
            Err(error) if !self.is_failing.swap(true, Ordering::Relaxed) => {
                tracing::error!(%error, "packets of streams are not kept; is there room?");
            }
            Err(_) => {}
        }
    }

    fn write(
        &self,
        known: &mut BTreeMap<u64, Head>,
        ttl_of: impl Fn(u64) -> u64,
    ) -> Result<(), TablesError> {
        let rows = {
            let mut waiting = lock(&self.waiting);
            (waiting.bytes, waiting.is_short) = (0, false);
            std::mem::take(&mut waiting.rows)
        };
        let (mut changes, mut heads) = (Changes::new(), BTreeMap::new());
        for (stream, key, value) in rows {
            let head = heads.entry(stream).or_insert_with(|| {
                let fresh = || Head { oldest: key, ..Head::default() };
                (ttl_of(stream) > 0).then(|| known.get(&stream).copied().unwrap_or_else(fresh))
            });
            let Some(head) = head else { continue };
            head.newest = key;
            head.size += value.len() as u64 + ROW_BYTES;
            changes.put(&self.rows, &row_key(stream, key), &value);
        }
        let heads = heads.into_iter().filter_map(|(stream, head)| Some((stream, head?)));
        let heads: Vec<_> = heads.collect();
        for (stream, head) in &heads {
            changes.put(&self.heads, &stream.to_be_bytes(), &head.row());
        }
        if !changes.is_empty() {
            self.tables.commit(changes)?;
            known.extend(heads);
        }
        Ok(())
    }

    /// Removes the oldest packets of a stream: those with keys before `below`, and others until
    /// there are no more bytes than these.
    fn sweep(
        &self,
        known: &mut BTreeMap<u64, Head>,
        stream: u64,
        below: u64,
        bytes: u64,
    ) -> Result<(), TablesError> {
        while let Some(mut head) = known.get(&stream).copied()
            && (head.oldest < below || head.size > bytes)
        {
            let (mut changes, mut swept, mut is_left) = (Changes::new(), 0, false);
            for row in self.range(stream, &(0..u64::MAX)) {
                let (row, value) = row?;
                let Some(key) = number(&row, 8) else { continue };
                head.oldest = key;
                let is_right = key >= below && head.size <= bytes;
                if is_right || changes.len() >= SWEPT_ROWS || swept >= SWEPT_BYTES {
                    is_left = true;
                    break;
                }
                let size = value.len() as u64 + ROW_BYTES;
                (head.size, swept) = (head.size.saturating_sub(size), swept + size);
                changes.remove(&self.rows, &row);
            }
            match is_left {
                true => changes.put(&self.heads, &stream.to_be_bytes(), &head.row()),
                false => changes.remove(&self.heads, &stream.to_be_bytes()),
            }
            self.tables.commit(changes)?;
            match is_left {
                true => known.insert(stream, head),
                false => known.remove(&stream),
            };
        }
        Ok(())
    }

    fn range(&self, stream: u64, keys: &Range<u64>) -> Rows {
        let (start, end) = (row_key(stream, keys.start), row_key(stream, keys.end));
        self.rows.range(&start[..]..&end[..])
    }

    /// The first packets of these streams with keys in `range`, in the order of keys, or the last
    /// ones from behind. Streams that have no more leave the list. Waits for the disk.
    pub(crate) fn read(
        &self,
        streams: &mut Vec<u64>,
        range: &Range<u64>,
        is_reverse: bool,
    ) -> Result<Vec<Found>, TablesError> {
        type Source = Peekable<Box<dyn Iterator<Item = Result<Found, TablesError>>>>;
        let source = |stream: &u64| -> (u64, Source) {
            let (stream, rows) = (*stream, self.range(*stream, range));
            let named = move |row: Result<(Vec<u8>, Vec<u8>), TablesError>| {
                row.map(|(key, value)| (stream, number(&key, 8).unwrap_or(0), value))
            };
            let rows: Box<dyn Iterator<Item = _>> = match is_reverse {
                true => Box::new(rows.rev().map(named)),
                false => Box::new(rows.map(named)),
            };
            (stream, rows.peekable())
        };
        let mut sources: Vec<_> = streams.iter().map(source).collect();
        let (mut found, mut bytes) = (Vec::new(), 0);
        while found.len() < READ_ROWS && bytes < READ_BYTES {
            sources.retain_mut(|(_, rows)| rows.peek().is_some());
            let keys = sources.iter_mut().enumerate().map(|(at, (_, rows))| {
                // One that cannot be read comes first, and ends the read.
                let key = rows.peek().and_then(|row| row.as_ref().ok()).map(|row| row.1);
                (key.map(|key| if is_reverse { u64::MAX - key } else { key }), at)
            });
            let Some((_, at)) = keys.min() else { break };
            let Some(row) = sources[at].1.next().transpose()? else { continue };
            bytes += row.2.len();
            found.push(row);
        }
        sources.retain_mut(|(_, rows)| rows.peek().is_some());
        *streams = sources.into_iter().map(|(stream, _)| stream).collect();
        Ok(found)
    }
}

impl Head {
    fn read(value: &[u8]) -> Option<Self> {
        let [oldest, newest, size] = [0, 8, 16].map(|at| number(value, at));
        Some(Self { oldest: oldest?, newest: newest?, size: size? })
    }

    fn row(self) -> Vec<u8> {
        [self.oldest, self.newest, self.size].map(u64::to_be_bytes).concat()
    }
}

fn row_key(stream: u64, key: u64) -> [u8; 16] {
    ((u128::from(stream) << 64) | u128::from(key)).to_be_bytes()
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
