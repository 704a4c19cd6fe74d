//! Records on their way into the log.

use std::fmt;

use crate::format::{FRAGMENT_HEADER, Part, unstamped_header};
use crate::position::Span;

/// A buffer that has grown beyond this is given back once it is empty, in bytes.
pub(crate) const KEEP_CAPACITY: usize = 4 << 20;

/// Records that are appended together, in order and with nothing between them.
///
/// Filling it is the costly part, and takes place where nobody waits: appending copies the whole
/// and stamps a few bytes of each record. Clear and fill it again: it keeps its memory.
#[derive(Default)]
pub struct Batch {
    /// Each record with an unstamped header before it, as it will stand in the log if it need not
    /// be divided.
    pub(crate) bytes: Vec<u8>,
    /// Where each begins in `bytes`.
    pub(crate) starts: Vec<usize>,
    /// Where each was appended.
    pub(crate) spans: Vec<Span>,
    /// Bytes of the largest body.
    pub(crate) largest: usize,
    relieves: bool,
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut batch = f.debug_struct("Batch");
        batch.field("records", &self.len()).field("bytes", &self.bytes()).finish_non_exhaustive()
    }
}

impl Batch {
    /// An empty batch.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a record. `kind` is the caller's own.
    ///
    /// # Panics
    /// When `body` has 4 GiB or more.
    #[inline]
    pub fn push(&mut self, kind: u8, body: &[u8]) {
        assert!(u32::try_from(body.len()).is_ok(), "a record is far below 4 GiB");
        self.starts.push(self.bytes.len());
        self.bytes.extend_from_slice(&unstamped_header(Part::Whole, kind, body));
        self.bytes.extend_from_slice(body);
        self.largest = self.largest.max(body.len());
    }

    /// Adds a record whose body comes in pieces.
    ///
    /// # Panics
    /// When they have 4 GiB or more together.
    pub fn push_pieces(&mut self, kind: u8, pieces: &[&[u8]]) {
        let start = self.bytes.len();
        self.starts.push(start);
        let body = start + FRAGMENT_HEADER as usize;
        self.bytes.resize(body, 0);
        pieces.iter().for_each(|piece| self.bytes.extend_from_slice(piece));
        let length = self.bytes.len() - body;
        assert!(u32::try_from(length).is_ok(), "a record is far below 4 GiB");
        let header = unstamped_header(Part::Whole, kind, &self.bytes[body..]);
        self.bytes[start..body].copy_from_slice(&header);
        self.largest = self.largest.max(length);
    }

    /// Says that these records are worth their room: acknowledgements, deletions, and what is
    /// copied forward so that a segment can be retired. They are taken on a full disk as long as
    /// there is allocated room. Until [`Batch::clear`].
    pub fn relieve(&mut self) {
        self.relieves = true;
    }

    /// Whether [`Batch::relieve`] was called.
    #[must_use]
    pub fn relieves(&self) -> bool {
        self.relieves
    }

    /// How many records it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// Bytes of all records with their headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Where each record was appended, in order; empty until it was.
    #[must_use]
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEEP_CAPACITY);
        self.starts.clear();
        self.spans.clear();
        self.largest = 0;
        self.relieves = false;
    }

    /// The kind and body of the record that was pushed as the `number`th, from 0.
    ///
    /// # Panics
    /// When there are not as many.
    #[must_use]
    pub fn record(&self, number: usize) -> (u8, &[u8]) {
        let start = self.starts[number];
        let end = self.starts.get(number + 1).copied().unwrap_or(self.bytes.len());
        (self.bytes[start + 9], &self.bytes[start + FRAGMENT_HEADER as usize..end])
    }

    /// The kind and body of each record.
    pub fn records(&self) -> impl Iterator<Item = (u8, &[u8])> {
        let ends = self.starts.iter().skip(1).copied().chain([self.bytes.len()]);
        self.starts.iter().zip(ends).map(|(&start, end)| {
            (self.bytes[start + 9], &self.bytes[start + FRAGMENT_HEADER as usize..end])
        })
    }
}
