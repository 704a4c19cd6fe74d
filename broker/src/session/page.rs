//! Pages: messages that wait, as memory has them, or a file where memory has no room.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use longshore_storage::{DiskFile, read_up_to};

/// Messages on one page, at most.
pub(crate) const PAGE_LEN: usize = 1_024;
/// Messages of a page that is worth a place in the file.
const PAGE_OUT_LEN: usize = 4;

/// Bytes of a message in the file.
pub(crate) const ROW_BYTES: usize = 32;
const SLOT_BYTES: u64 = (PAGE_LEN * ROW_BYTES) as u64;

/// Bytes of memory that a page is accounted with, and each message on it: a reference, room to
/// grow, and what memory holds of the message.
pub(super) const PAGE_BYTES: usize = 192;
pub(super) const ENTRY_BYTES: usize = 16 + 80;

/// What is kept of a message that waits.
pub(crate) trait Waiting: Clone + fmt::Debug {
    /// Bytes of the message.
    fn bytes(&self) -> usize;

    /// It as it stands in the file, if it can.
    fn row(&self) -> Option<[u8; ROW_BYTES]>;

    /// The message of a row.
    fn of_row(row: &[u8; ROW_BYTES]) -> Self;
}

/// The pages of one shard.
#[derive(Debug)]
pub(crate) struct Pages<E> {
    /// Bytes of memory that they are accounted with.
    bytes: AtomicUsize,
    /// The messages on them, and the bytes of these.
    count: AtomicUsize,
    size: AtomicUsize,
    /// Bytes of memory that they may take.
    limit: usize,
    file: Option<Arc<dyn DiskFile>>,
    slots: Mutex<Slots>,
    /// Those that can leave memory, in the order in which they came.
    line: Mutex<VecDeque<Weak<Page<E>>>>,
}

impl<E> Default for Pages<E> {
    fn default() -> Self {
        Self::new(None, usize::MAX)
    }
}

impl<E> Pages<E> {
    /// None yet. What takes more than `limit` bytes of memory goes to `file`, if there is one.
    pub(crate) fn new(file: Option<Arc<dyn DiskFile>>, limit: usize) -> Self {
        let (slots, line) = (Mutex::default(), Mutex::default());
        let (bytes, count, size) = Default::default();
        Self { bytes, count, size, limit, file, slots, line }
    }

    /// Bytes of memory that they are accounted with.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether they take more memory than they may.
    pub(crate) fn are_over(&self) -> bool {
        self.bytes() > self.limit
    }

    /// How many messages stand on them, and the bytes of these.
    pub(crate) fn messages(&self) -> (usize, usize) {
        (self.count.load(Ordering::Relaxed), self.size.load(Ordering::Relaxed))
    }
}

/// Places in the file, each with room for one page.
#[derive(Debug, Default)]
struct Slots {
    count: u64,
    free: Vec<u64>,
}

/// Messages in the order in which they came to be waited for.
#[derive(Debug)]
pub(crate) struct Page<E> {
    content: Mutex<Content<E>>,
    pages: Arc<Pages<E>>,
}

/// What stands on a page.
#[derive(Debug)]
pub(crate) struct Content<E> {
    entries: Vec<E>,
    /// How many messages there are, in memory or in the file.
    len: u16,
    /// Where they stand in the file, while they are not in memory.
    slot: Option<u64>,
    /// Bytes of all these messages.
    size: usize,
    /// What the round of compaction with this number has looked at, or the last part of it.
    seen: (u32, Range<u16>),
    /// In which round the page was written down, as which, and how many messages of it.
    pub(crate) told: (u32, u64, u16),
}

impl<E> Content<E> {
    pub(crate) fn len(&self) -> u16 {
        self.len
    }

    /// Whether this round of compaction has looked at these messages and written them down.
    pub(crate) fn is_told(&self, round: u32, range: &Range<u16>) -> bool {
        let (seen_in, seen) = &self.seen;
        let is_seen = *seen_in == round && seen.start <= range.start && range.end <= seen.end;
        is_seen && self.told.0 == round && range.end <= self.told.2
    }

    /// The first of these messages that this round has not looked at, as far as is known.
    pub(crate) fn unseen(&mut self, round: u32, range: &Range<u16>) -> u16 {
        let (seen_in, seen) = &self.seen;
        if *seen_in != round || range.start < seen.start || range.start > seen.end {
            self.seen = (round, range.start..range.start);
        }
        self.seen.1.end
    }

    /// It has looked at those before `end`.
    pub(crate) fn see(&mut self, end: u16) {
        self.seen.1.end = end;
    }

    pub(super) fn memory(&self) -> usize {
        PAGE_BYTES + self.entries.len() * ENTRY_BYTES
    }
}

/// What stands on a page, in memory.
#[derive(Debug)]
pub(crate) struct Open<'a, E>(MutexGuard<'a, Content<E>>);

impl<E> Open<'_, E> {
    pub(crate) fn entries(&self) -> &[E] {
        &self.0.entries
    }
}

impl<E> Deref for Open<'_, E> {
    type Target = Content<E>;

    fn deref(&self) -> &Content<E> {
        &self.0
    }
}

impl<E> DerefMut for Open<'_, E> {
    fn deref_mut(&mut self) -> &mut Content<E> {
        &mut self.0
    }
}

/// Where a message stands that is on its way: the next who keeps it refers to the same place.
pub(crate) type Place<E> = Option<(Arc<Page<E>>, u16)>;

impl<E: Waiting> Page<E> {
    /// A page with these messages.
    pub(crate) fn new(entries: Vec<E>, pages: &Arc<Pages<E>>) -> Arc<Self> {
        debug_assert!(entries.len() <= PAGE_LEN);
        let size = entries.iter().map(Waiting::bytes).sum();
        let (len, slot) = (entries.len() as u16, None);
        let content = Content { entries, len, slot, size, seen: (0, 0..0), told: (0, 0, 0) };
        pages.bytes.fetch_add(content.memory(), Ordering::Relaxed);
        pages.count.fetch_add(usize::from(len), Ordering::Relaxed);
        pages.size.fetch_add(size, Ordering::Relaxed);
        let page = Arc::new(Self { content: Mutex::new(content), pages: Arc::clone(pages) });
        if usize::from(len) >= PAGE_OUT_LEN {
            page.line_up();
        }
        page
    }

    /// It can leave memory, after those that can already.
    fn line_up(self: &Arc<Self>) {
        let Pages { file, line, .. } = &*self.pages;
        if file.is_some() {
            let mut line = lock(line);
            if line.len() == line.capacity() {
                line.retain(|page| page.strong_count() > 0);
            }
            line.push_back(Arc::downgrade(self));
        }
    }

    /// Adds a message, if it is the `at`th of the page and the page is in memory; whether it did.
    pub(super) fn push(self: &Arc<Self>, at: u16, entry: &E) -> bool {
        let mut content = lock(&self.content);
        let is_free = content.len == at && usize::from(at) < PAGE_LEN && content.slot.is_none();
        if is_free {
            self.pages.bytes.fetch_add(ENTRY_BYTES, Ordering::Relaxed);
            self.pages.count.fetch_add(1, Ordering::Relaxed);
            self.pages.size.fetch_add(entry.bytes(), Ordering::Relaxed);
            content.size += entry.bytes();
            content.entries.push(entry.clone());
            content.len += 1;
            if usize::from(content.len) == PAGE_OUT_LEN {
                self.line_up();
            }
        }
        is_free
    }

    /// What stands on it, brought back to memory if it is not there.
    ///
    /// # Panics
    /// The file cannot be read. Nobody could say what waits then; the journal can, after a restart.
    pub(crate) fn open(self: &Arc<Self>) -> Open<'_, E> {
        let mut content = lock(&self.content);
        if let Some(slot) = content.slot.take() {
            let mut bytes = vec![0; usize::from(content.len) * ROW_BYTES];
            let read = self.pages.read(slot, &mut bytes);
            assert!(read.is_ok(), "the file of messages that wait cannot be read: {read:?}");
            let (rows, _) = bytes.as_chunks();
            content.entries = rows.iter().map(E::of_row).collect();
            let entries = content.entries.len() * ENTRY_BYTES;
            self.pages.bytes.fetch_add(entries, Ordering::Relaxed);
            self.line_up();
        }
        Open(content)
    }

    /// Leaves memory, if all of it can; whether it did.
    fn put_out(&self, room: &mut Vec<u8>) -> io::Result<bool> {
        let mut content = lock(&self.content);
        room.clear();
        for entry in &content.entries {
            let Some(row) = entry.row() else { return Ok(false) };
            room.extend_from_slice(&row);
        }
        if content.slot.is_some() {
            return Ok(true);
        }
        content.slot = Some(self.pages.write(room)?);
        let entries = content.entries.len() * ENTRY_BYTES;
        content.entries = Vec::new();
        self.pages.bytes.fetch_sub(entries, Ordering::Relaxed);
        Ok(true)
    }
}

impl<E> Page<E> {
    /// What is known of it without looking at the messages.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Content<E>> {
        lock(&self.content)
    }
}

impl<E> Drop for Page<E> {
    fn drop(&mut self) {
        let content = lock(&self.content);
        self.pages.bytes.fetch_sub(content.memory(), Ordering::Relaxed);
        self.pages.count.fetch_sub(usize::from(content.len), Ordering::Relaxed);
        self.pages.size.fetch_sub(content.size, Ordering::Relaxed);
        if let Some(slot) = content.slot {
            lock(&self.pages.slots).free.push(slot);
        }
    }
}

impl<E> Pages<E> {
    fn read(&self, slot: u64, bytes: &mut [u8]) -> io::Result<()> {
        let Some(file) = &self.file else { return Err(io::ErrorKind::NotFound.into()) };
        if read_up_to(&**file, bytes, slot * SLOT_BYTES)? < bytes.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        lock(&self.slots).free.push(slot);
        Ok(())
    }

    fn write(&self, bytes: &[u8]) -> io::Result<u64> {
        let Some(file) = &self.file else { return Err(io::ErrorKind::NotFound.into()) };
        let mut slots = lock(&self.slots);
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.count += 1;
            slots.count - 1
        });
        let written = file.write_at(bytes, slot * SLOT_BYTES);
        if written.is_err() {
            slots.free.push(slot);
        }
        written.map(|()| slot)
    }
}

impl<E: Waiting> Pages<E> {
    /// Lets up to `most` pages leave memory while they take more of it than they may.
    ///
    /// # Errors
    /// The file cannot be written: the pages stay.
    pub(crate) fn relieve(&self, most: usize) -> io::Result<()> {
        if self.file.is_none() {
            return Ok(());
        }
        let mut room = Vec::new();
        for _ in 0..most {
            if !self.are_over() {
                break;
            }
            let Some(first) = lock(&self.line).pop_front() else { break };
            let Some(page) = first.upgrade() else { continue };
            let is_out = page.put_out(&mut room);
            if !matches!(is_out, Ok(true)) {
                lock(&self.line).push_back(first);
            }
            is_out?;
        }
        Ok(())
    }
}

/// Whoever panicked with it ends the broker.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
