//! The queues of streams: messages on the disk, first in, first out, until they are acknowledged.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_storage::{Changes, Table, Tables, TablesError};
use tokio::sync::Notify;

use self::writer::Writer;
use crate::BATCH_MESSAGES_MAX;

mod writer;

/// Bytes of a message, at most. A larger one is refused, and counted.
pub const ENTRY_BYTES_MAX: usize = 1 << 20;

/// Rows that a commit takes away, at most: those of a batch.
const ROWS_MAX: u64 = BATCH_MESSAGES_MAX;

/// Bytes of a row beyond the message: its key, the time before it, and what the store adds.
const ROW_BYTES: u64 = 32;

/// What a queue may hold.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct QueueOptions {
    /// Seconds that a message waits, at most (R6.1). 0 takes nothing. Default 86,400.
    pub ttl_secs: u64,
    /// Bytes of all messages; an empty queue takes one in any case. Default 100 MB (section 9).
    pub bytes_max: u64,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self { ttl_secs: 86_400, bytes_max: 100_000_000 }
    }
}

/// Why a queue cannot be used.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum QueueError {
    /// What the tables say.
    Tables(Arc<TablesError>),
    /// The thread that writes is gone: the program ends, or it could not be started.
    Stopped,
}

impl From<TablesError> for QueueError {
    fn from(error: TablesError) -> Self {
        Self::Tables(Arc::new(error))
    }
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tables(error) => write!(f, "the queue: {error}"),
            Self::Stopped => f.write_str("the queue has no thread to write with"),
        }
    }
}

impl Error for QueueError {}

/// All queues in some tables. A clone is the same queues.
///
/// One thread writes for all of them: what comes in while it writes is the next commit, so a
/// thousand streams cost no more syncs than one.
///
/// A message is a row: number of the stream, place in its queue, and behind the time at which it
/// came in the JSON of it. Beside them a row for each queue has its first and next place, and its
/// bytes; it changes in the commits that the messages change in. So to open a queue costs one row
/// however long it is, and what was acknowledged never comes back.
#[derive(Clone)]
pub struct Queues {
    shared: Arc<Shared>,
}

struct Shared {
    messages: Table,
    heads: Table,
    writer: Writer,
    /// A queue is in memory once, or two would give out the same place.
    open: Mutex<HashMap<u64, Queue>>,
}

impl Queues {
    /// The queues in these tables.
    ///
    /// # Errors
    /// What the tables say; no thread can be started.
    pub fn open(tables: &Tables) -> Result<Self, QueueError> {
        let (messages, heads) = (tables.table("stream queues")?, tables.table("stream heads")?);
        let writer = Writer::start(tables.clone())?;
        let shared = Shared { messages, heads, writer, open: Mutex::default() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The queue of a stream, which is empty if it was never there. Options of the last call count.
    ///
    /// # Errors
    /// What the tables say.
    pub fn queue(&self, stream: u64, options: QueueOptions) -> Result<Queue, QueueError> {
        let mut open = lock(&self.shared.open);
        if let Some(queue) = open.get(&stream) {
            lock(&queue.inner.state).options = options;
            return Ok(queue.clone());
        }
        let head = self.shared.heads.get(&stream.to_be_bytes())?;
        let head = head.as_deref().and_then(Head::read).unwrap_or_default();
        let blocked = head.bytes >= options.bytes_max;
        let state = State { head, options, status: QueueStatus { blocked, ..<_>::default() } };
        let inner = Inner {
            stream,
            messages: self.shared.messages.clone(),
            heads: self.shared.heads.clone(),
            writer: self.shared.writer.clone(),
            state: Mutex::new(state),
            grown: Notify::new(),
        };
        let queue = Queue { inner: Arc::new(inner) };
        open.insert(stream, queue.clone());
        Ok(queue)
    }

    /// Appends messages to queues, each to its own, in one commit. Returns when all are on the
    /// medium: whoever acknowledges them may do so then. `now` is microseconds since 1970.
    ///
    /// What a queue did not take is in its answer, which stand in the order of `queues`.
    ///
    /// # Errors
    /// What the tables say. After an error nothing is taken until they are opened again.
    pub async fn append(
        &self,
        queues: &[(&Queue, &[&[u8]])],
        now: u64,
    ) -> Result<Vec<Appended>, QueueError> {
        self.append_with(Changes::new(), queues, now).await
    }

    /// The same, with other changes in the same commit.
    pub(crate) async fn append_with(
        &self,
        mut changes: Changes,
        queues: &[(&Queue, &[&[u8]])],
        now: u64,
    ) -> Result<Vec<Appended>, QueueError> {
        let (appended, done) = {
            // Places are given in the order in which they are written: a reader that saw a later
            // one first would never look back.
            let order = self.shared.writer.order();
            let add =
                |(queue, messages): &(&Queue, &[&[u8]])| queue.add(messages, now, &mut changes);
            let appended: Vec<_> = queues.iter().map(add).collect();
            (appended, order.submit(changes))
        };
        done.wait().await?;
        for (queue, _) in queues {
            queue.inner.grown.notify_one();
        }
        Ok(appended)
    }

    /// Streams that have a queue here, also those that have been forgotten half way.
    ///
    /// # Errors
    /// What the tables say.
    pub fn streams(&self) -> Result<Vec<u64>, QueueError> {
        let heads = self.shared.heads.prefix(b"");
        heads.map(|row| Ok(number(&row?.0, 0).unwrap_or_default())).collect()
    }

    /// Forgets the queue of a stream that is gone, with all that is in it.
    ///
    /// # Errors
    /// What the tables say.
    pub async fn remove(&self, stream: u64) -> Result<(), QueueError> {
        let queue = self.queue(stream, QueueOptions { ttl_secs: 0, ..<_>::default() })?;
        queue.clear().await?;
        lock(&self.shared.open).remove(&stream);
        let mut changes = Changes::new();
        changes.remove(&self.shared.heads, &stream.to_be_bytes());
        let done = self.shared.writer.order().submit(changes);
        done.wait().await
    }

    /// Writes what there is to be written, and returns once the thread that does it has ended: so
    /// nothing of the queues uses the tables on its own any more. What is appended or acknowledged
    /// later is refused ([`QueueError::Stopped`]).
    pub async fn close(&self) {
        let writer = self.shared.writer.clone();
        // It waits for the disk.
        let _ = blocking(move || writer.close()).await;
    }
}

impl fmt::Debug for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Queues").finish_non_exhaustive()
    }
}

/// What became of messages that were to be appended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// Messages that are in the queue now.
    pub taken: u64,
    /// Messages that are not: no room, too large, or a time to wait of 0.
    pub refused: u64,
    /// The queue was open, and is blocked now: `blocked` 4 (R6.12).
    pub has_blocked: bool,
}

/// Counters of a queue, since it was opened, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStatus {
    /// Messages in it.
    pub messages: u64,
    /// Bytes of them: `queue_size`, which is in KB (R6.1).
    pub bytes: u64,
    /// Whether it takes nothing until it has been drained to three quarters (R6.12).
    pub blocked: bool,
    /// Messages taken.
    pub taken: u64,
    /// Messages refused.
    pub refused: u64,
    /// Messages that waited too long (R6.9).
    pub expired: u64,
    /// Messages acknowledged.
    pub acknowledged: u64,
    /// Messages taken away by a user (R6.16).
    pub cleared: u64,
}

/// The queue of one stream. A clone is the same queue. One reads from it at a time.
#[derive(Clone)]
pub struct Queue {
    inner: Arc<Inner>,
}

struct Inner {
    stream: u64,
    messages: Table,
    heads: Table,
    writer: Writer,
    state: Mutex<State>,
    grown: Notify,
}

struct State {
    head: Head,
    options: QueueOptions,
    status: QueueStatus,
}

/// What the row of a queue says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head {
    first: u64,
    next: u64,
    bytes: u64,
}

impl Head {
    fn read(row: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_be_bytes(row.get(at..at + 8)?.try_into().ok()?));
        Some(Self { first: number(0)?, next: number(8)?, bytes: number(16)? })
    }

    fn write(self) -> Vec<u8> {
        [self.first, self.next, self.bytes].into_iter().flat_map(u64::to_be_bytes).collect()
    }
}

/// Messages from the front of a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Batch {
    /// The place behind the last of them.
    pub end: u64,
    /// Their JSON, with their places.
    pub messages: Vec<(u64, Vec<u8>)>,
    /// What waited too long has made room: the queue was blocked, and no longer is.
    pub has_unblocked: bool,
}

impl Queue {
    /// Counters, and what it holds.
    #[must_use]
    pub fn status(&self) -> QueueStatus {
        let state = lock(&self.inner.state);
        let messages = state.head.next - state.head.first;
        QueueStatus { messages, bytes: state.head.bytes, ..state.status }
    }

    /// Waits until something may have been appended.
    pub async fn grown(&self) {
        self.inner.grown.notified().await;
    }

    /// Reads from the front at most `messages` and `bytes`, but one message in any case, none at or
    /// behind place `end` and none that has waited too long. Those are taken away.
    ///
    /// # Errors
    /// What the tables say.
    pub async fn read(
        &self,
        messages: usize,
        bytes: usize,
        end: u64,
        now: u64,
    ) -> Result<Batch, QueueError> {
        let mut has_unblocked = false;
        loop {
            let inner = Arc::clone(&self.inner);
            let read = move || inner.read(messages, bytes, end, now);
            // The disk may be slow, and this thread is that of all streams.
            let (batch, expired) = blocking(read).await??;
            if expired == 0 {
                return Ok(Batch { has_unblocked, ..batch });
            }
            has_unblocked |= self.shift(expired, |status, count| status.expired += count).await?;
        }
    }

    /// Takes away what is before place `end`: it has been taken by the target. On return that is on
    /// the medium. Says whether the queue was blocked and no longer is.
    ///
    /// # Errors
    /// What the tables say.
    pub async fn acknowledge(&self, end: u64) -> Result<bool, QueueError> {
        self.shift_all(end, |status, count| status.acknowledged += count).await
    }

    /// The same of messages that were read, by their places and the bytes of their JSON: nobody has
    /// to look them up again.
    pub(crate) async fn acknowledge_read(&self, read: &[(u64, usize)]) -> Result<bool, QueueError> {
        let mut has_unblocked = false;
        for read in read.chunks(ROWS_MAX as usize) {
            let sizes = read.iter().map(|(place, bytes)| (*place, *bytes as u64 + ROW_BYTES));
            let count = |status: &mut QueueStatus, count| status.acknowledged += count;
            has_unblocked |= self.take_away(sizes, count).await?;
        }
        Ok(has_unblocked)
    }

    /// Takes away all that is in it now (R6.16).
    ///
    /// # Errors
    /// What the tables say.
    pub async fn clear(&self) -> Result<(), QueueError> {
        self.shift_all(u64::MAX, |status, count| status.cleared += count).await.map(drop)
    }

    /// Takes away what is before a place, or there now. Says whether that unblocked the queue.
    async fn shift_all(
        &self,
        end: u64,
        count: impl Fn(&mut QueueStatus, u64),
    ) -> Result<bool, QueueError> {
        let end = end.min(lock(&self.inner.state).head.next);
        let mut has_unblocked = false;
        while lock(&self.inner.state).head.first < end {
            has_unblocked |= self.shift(end, &count).await?;
        }
        Ok(has_unblocked)
    }

    /// Takes away what is before a place, at most [`ROWS_MAX`] messages, so that none of this
    /// delays other queues for long.
    async fn shift(
        &self,
        end: u64,
        count: impl Fn(&mut QueueStatus, u64),
    ) -> Result<bool, QueueError> {
        let inner = Arc::clone(&self.inner);
        let sizes = blocking(move || inner.sizes(end)).await??;
        self.take_away(sizes, count).await
    }

    /// Takes away messages at the front, by their places and what each takes.
    async fn take_away(
        &self,
        sizes: impl IntoIterator<Item = (u64, u64)>,
        count: impl Fn(&mut QueueStatus, u64),
    ) -> Result<bool, QueueError> {
        let (is_open, done) = {
            let order = self.inner.writer.order();
            let mut state = lock(&self.inner.state);
            let mut changes = Changes::new();
            let before = state.head.first;
            for (place, bytes) in sizes {
                // Another may have taken it away meanwhile.
                if place < before {
                    continue;
                }
                changes.remove(&self.inner.messages, &self.inner.key(place));
                state.head.first = place + 1;
                state.head.bytes = state.head.bytes.saturating_sub(bytes);
            }
            let gone = state.head.first - before;
            count(&mut state.status, gone);
            let is_drained = state.head.bytes <= state.options.bytes_max / 4 * 3;
            let is_open = state.status.blocked && is_drained;
            state.status.blocked &= !is_open;
            self.inner.put_head(&state, &mut changes);
            (is_open, order.submit(changes))
        };
        done.wait().await?;
        Ok(is_open)
    }

    fn add(&self, messages: &[&[u8]], now: u64, changes: &mut Changes) -> Appended {
        let mut state = lock(&self.inner.state);
        let mut appended = Appended::default();
        let was_blocked = state.status.blocked;
        for message in messages {
            let bytes = message.len() as u64 + ROW_BYTES;
            let is_empty = state.head.first == state.head.next;
            let fits = is_empty || state.head.bytes + bytes <= state.options.bytes_max;
            let is_sane = message.len() <= ENTRY_BYTES_MAX && state.options.ttl_secs > 0;
            state.status.blocked |= is_sane && !fits;
            if state.status.blocked || !is_sane {
                appended.refused += 1;
                continue;
            }
            let row = [&now.to_be_bytes(), *message].concat();
            changes.put(&self.inner.messages, &self.inner.key(state.head.next), &row);
            state.head.next += 1;
            state.head.bytes += bytes;
            appended.taken += 1;
        }
        state.status.taken += appended.taken;
        state.status.refused += appended.refused;
        appended.has_blocked = state.status.blocked && !was_blocked;
        if appended.taken > 0 {
            self.inner.put_head(&state, changes);
        }
        appended
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Queue");
        shown.field("stream", &self.inner.stream).field("status", &self.status()).finish()
    }
}

impl Inner {
    fn key(&self, place: u64) -> [u8; 16] {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&self.stream.to_be_bytes());
        key[8..].copy_from_slice(&place.to_be_bytes());
        key
    }

    fn put_head(&self, state: &State, changes: &mut Changes) {
        changes.put(&self.heads, &self.stream.to_be_bytes(), &state.head.write());
    }

    /// Reads a batch, and the place up to which messages have waited too long.
    fn read(
        &self,
        messages: usize,
        bytes: usize,
        end: u64,
        now: u64,
    ) -> Result<(Batch, u64), QueueError> {
        let (first, ttl_secs) = {
            let state = lock(&self.state);
            (state.head.first, state.options.ttl_secs)
        };
        let mut batch = Batch { end: first, ..Batch::default() };
        let (mut length, mut expired) = (0, 0);
        for row in self.messages.range(&self.key(first)[..]..&self.key(end)[..]) {
            let (key, mut json) = row?;
            let (Some(place), Some(time)) = (number(&key, 8), number(&json, 0)) else { continue };
            json.drain(..8);
            if now >= time.saturating_add(ttl_secs.saturating_mul(1_000_000)) {
                if !batch.messages.is_empty() || place - first >= ROWS_MAX {
                    break;
                }
                expired = place + 1;
                continue;
            }
            let is_full = batch.messages.len() >= messages || length + json.len() > bytes;
            if expired > 0 || (is_full && !batch.messages.is_empty()) {
                break;
            }
            length += json.len();
            batch.end = place + 1;
            batch.messages.push((place, json));
        }
        Ok((batch, expired))
    }

    /// Places before `end` with what each takes.
    fn sizes(&self, end: u64) -> Result<Vec<(u64, u64)>, QueueError> {
        let first = lock(&self.state).head.first;
        let end = end.min(first + ROWS_MAX);
        if first >= end {
            return Ok(Vec::new());
        }
        let rows = self.messages.range(&self.key(first)[..]..&self.key(end)[..]);
        let size = |row: Result<(Vec<u8>, Vec<u8>), TablesError>| {
            let (key, value) = row?;
            let place = number(&key, 8).unwrap_or_default();
            Ok((place, (value.len() as u64).saturating_sub(8) + ROW_BYTES))
        };
        rows.map(size).collect()
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, QueueError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| QueueError::Stopped)
}

/// A lock behind which nothing panics half way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
