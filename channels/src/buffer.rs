//! The messages of channels on the disk: written together, read by key, deleted from the front.
//!
//! The **key** of a message is the microsecond of `server.timestamp`, moved on where that is taken:
//! no two messages of the hub have the same one, and keys are written in their order. So one number
//! says what pull readers have read (`next_key`), what a time means (`from`, `to`) and what is too
//! old; and several channels are read as one. While the clock stands behind the last key, keys go
//! on from there.
//!
//! A deletion only says where messages begin ([`Live::low`]), which is one small row. What stands
//! before that is swept a slice at a time.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hashbrown::{HashMap, HashSet};
use longshore_broker::Message;
use longshore_broker::module::Context;
use longshore_storage::{Row, Rows, Table, Tables, TablesError};
use tokio::sync::{mpsc, oneshot};

use crate::live::Live;
use crate::packets::Packets;

mod writer;

pub(crate) use writer::run;

/// Batches that wait for the writer; their senders wait, too.
const WAITING: usize = 4_096;
/// Bytes that a row takes beside its value.
const ROW_BYTES: u64 = 40;

/// A batch of one connection, on its way to the disk and then to the broker.
pub(crate) struct Entry {
    pub(crate) live: Arc<Live>,
    /// Keys of messages; none where the channel keeps nothing.
    pub(crate) keys: Vec<u64>,
    /// What is published once they are durable: states, and then these messages.
    pub(crate) publications: Vec<Message>,
    /// What became of it.
    pub(crate) done: oneshot::Sender<Result<(), NotKept>>,
}

impl Entry {
    /// Keys and JSON of the messages that are kept.
    fn rows(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let states = self.publications.len() - self.keys.len();
        let messages = self.publications[states..].iter();
        self.keys.iter().copied().zip(messages.map(|it| &it.payload[..]))
    }
}

/// Why a batch was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotKept {
    /// The channel takes nothing: its buffer is full.
    Blocked,
    /// A message of it is larger than any may be.
    TooLarge,
    /// The disk or the broker did not take it.
    Failed,
}

/// What the writer is asked to do.
pub(crate) enum Work {
    Keep(Entry),
    /// Delete what stands before a key.
    Delete {
        live: Arc<Live>,
        below: u64,
        done: Option<oneshot::Sender<bool>>,
    },
    /// Remove packets with smaller keys.
    Prune {
        live: Arc<Live>,
        below: u64,
    },
    /// Write down the packets that wait, though nothing else is to be written.
    Flush,
    /// Forget a channel, with all it keeps.
    Forget(Arc<Live>),
    Stop,
}

/// What the table of heads has of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Head {
    low: u64,
    swept: u64,
    size: u64,
    newest: u64,
}

/// All messages of all channels, and their raw traffic.
#[derive(Debug)]
pub(crate) struct Buffer {
    tables: Tables,
    /// Number of the channel and key: a message.
    rows: Table,
    /// Number of the channel: its head.
    heads: Table,
    /// Those that were there when the hub began.
    known: HashMap<u64, Head>,
    pub(crate) packets: Packets,
    /// The key that was given last.
    last: AtomicU64,
    /// All messages up to this key are durable.
    committed: AtomicU64,
    queue: mpsc::Sender<Work>,
}

impl Buffer {
    /// The one in the tables of the broker, and what its writer is asked. A channel keeps up to
    /// `packets_bytes` of raw traffic.
    pub(crate) fn open(
        context: &Context,
        packets_bytes: u64,
    ) -> Result<(Self, mpsc::Receiver<Work>), TablesError> {
        let tables = context.tables().clone();
        let (rows, heads) = (tables.table("channels_messages")?, tables.table("channels_heads")?);
        let mut known = HashMap::new();
        for row in heads.range(..) {
            let (key, value) = row?;
            if let (Some(id), Some(head)) = (number(&key, 0), Head::read(&value)) {
                known.insert(id, head);
            }
        }
        let packets = Packets::open(&tables, packets_bytes)?;
        let last = known.values().map(|head| head.newest).max().unwrap_or(0);
        let last = last.max(packets.newest());
        let (queue, work) = mpsc::channel(WAITING);
        let (last, committed) = (AtomicU64::new(last), AtomicU64::new(last));
        Ok((Self { tables, rows, heads, known, packets, last, committed, queue }, work))
    }

    /// Takes over what is known of a channel that was there before.
    pub(crate) fn attach(&self, live: &Live) {
        self.packets.attach(live);
        if let Some(head) = self.known.get(&live.id) {
            live.low.store(head.low, Ordering::Relaxed);
            live.swept.store(head.swept, Ordering::Relaxed);
            live.size.store(head.size, Ordering::Relaxed);
            live.newest.send_replace(head.newest);
        }
    }

    /// What is left of channels that `is_there` does not know: the hub was killed while it forgot
    /// them.
    pub(crate) fn orphans(&self, is_there: impl Fn(u64) -> bool) -> Vec<Arc<Live>> {
        let known = self.known.keys().copied().chain(self.packets.channels());
        let gone: HashSet<u64> = known.filter(|id| !is_there(*id)).collect();
        let live = |id: u64| {
            let live = Live::new(id);
            self.attach(&live);
            Arc::new(live)
        };
        gone.into_iter().map(live).collect()
    }

    /// The next key, for a message that came in at this microsecond.
    pub(crate) fn next_key(&self, now: u64) -> u64 {
        let next = |last: u64| Some(now.max(last + 1));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        last.map_or(now, |last| now.max(last + 1))
    }

    /// All that have a smaller key can be read.
    pub(crate) fn end(&self) -> u64 {
        self.committed.load(Ordering::Acquire) + 1
    }

    /// Whether a channel has a message with a smaller key that is not deleted. It looks at one row.
    pub(crate) fn is_any_before(&self, live: &Live, below: u64) -> bool {
        let low = live.low.load(Ordering::Relaxed);
        let is_empty = *live.newest.borrow() < low;
        !is_empty && low < below && self.range(live.id, low..below).next().is_some()
    }

    /// A place in the queue of the writer, in which batches are written in their order; none once
    /// the hub stops.
    pub(crate) async fn place(&self) -> Option<mpsc::Permit<'_, Work>> {
        self.queue.reserve().await.ok()
    }

    /// Deletes what stands before `below` in these channels. False if the disk did not take it.
    pub(crate) async fn delete(&self, lives: &[Arc<Live>], below: u64) -> bool {
        let mut waiting = Vec::new();
        for live in lives {
            let Some(place) = self.place().await else { return false };
            let (done, outcome) = oneshot::channel();
            place.send(Work::Delete { live: Arc::clone(live), below, done: Some(done) });
            waiting.push(outcome);
        }
        for outcome in waiting {
            if outcome.await != Ok(true) {
                return false;
            }
        }
        true
    }

    /// The rows of these channels with keys in `range`, in the order of the keys or the other way
    /// round, up to `rows_max` or until they have `bytes_max` and more. May wait for the disk.
    pub(crate) fn read(
        &self,
        lives: &[Arc<Live>],
        range: &Range<u64>,
        slice: &Slice,
    ) -> Result<Vec<(u64, Vec<u8>)>, TablesError> {
        let range = range.start..range.end.min(self.end());
        let sources = lives.iter().map(|live| {
            let start = range.start.max(live.low.load(Ordering::Acquire));
            self.range(live.id, start..range.end)
        });
        let rows = merged(sources, slice)?.into_iter();
        Ok(rows.map(|(key, value)| (last_number(&key), value)).collect())
    }

    fn range(&self, id: u64, keys: Range<u64>) -> Rows {
        let (start, end) = (row_key(id, keys.start), row_key(id, keys.end));
        self.rows.range(&start[..]..&end[..])
    }
}

/// How much of a range is read at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slice {
    pub(crate) rows_max: usize,
    pub(crate) bytes_max: usize,
    pub(crate) is_reverse: bool,
}

/// A slice of these rows in the order of the keys that end the keys of all.
pub(crate) fn merged(
    sources: impl Iterator<Item = Rows>,
    slice: &Slice,
) -> Result<Vec<Row>, TablesError> {
    let mut heads = Vec::new();
    for rows in sources {
        let mut rows = Merged { rows, front: None };
        rows.advance(slice.is_reverse)?;
        heads.extend(rows.front.is_some().then_some(rows));
    }
    let (mut found, mut bytes) = (Vec::new(), 0);
    while found.len() < slice.rows_max && bytes < slice.bytes_max {
        let keys = heads.iter().enumerate().map(|(at, rows)| (rows.key(), at));
        let next = if slice.is_reverse { keys.max() } else { keys.min() };
        let Some((_, at)) = next else { break };
        if let Some((key, value)) = heads[at].front.take() {
            bytes += value.len();
            found.push((key, value));
        }
        heads[at].advance(slice.is_reverse)?;
        if heads[at].front.is_none() {
            heads.swap_remove(at);
        }
    }
    Ok(found)
}

/// The rows of one channel among others.
struct Merged {
    rows: Rows,
    front: Option<Row>,
}

impl Merged {
    fn advance(&mut self, is_reverse: bool) -> Result<(), TablesError> {
        let next = if is_reverse { self.rows.next_back() } else { self.rows.next() };
        self.front = next.transpose()?;
        Ok(())
    }

    fn key(&self) -> u64 {
        self.front.as_ref().map_or(0, |(key, _)| last_number(key))
    }
}

impl Head {
    fn read(value: &[u8]) -> Option<Self> {
        let [low, swept, size, newest] = [0, 8, 16, 24].map(|at| number(value, at));
        Some(Self { low: low?, swept: swept?, size: size?, newest: newest? })
    }

    fn of(live: &Live) -> Self {
        Self {
            low: live.low.load(Ordering::Relaxed),
            swept: live.swept.load(Ordering::Relaxed),
            size: live.size.load(Ordering::Relaxed),
            newest: *live.newest.borrow(),
        }
    }

    fn row(self) -> Vec<u8> {
        [self.low, self.swept, self.size, self.newest].map(u64::to_be_bytes).concat()
    }
}

pub(crate) fn row_key(id: u64, key: u64) -> [u8; 16] {
    let mut row = [0; 16];
    row[..8].copy_from_slice(&id.to_be_bytes());
    row[8..].copy_from_slice(&key.to_be_bytes());
    row
}

fn last_number(key: &[u8]) -> u64 {
    key.last_chunk().copied().map_or(0, u64::from_be_bytes)
}

pub(crate) fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
