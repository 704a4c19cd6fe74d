//! The end of the log, in memory: where the next record goes, and what waits to be written.
//!
//! Everything about the layout is decided here, when a record is appended: so its position is
//! known at once, and writing is copying.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::batch::{Batch, KEEP_CAPACITY};
use crate::error::{Failure, Refused};
use crate::format::{BARRIER, FRAGMENT_HEADER, Part, SECTOR, SEGMENT_START, SegmentHeader, Stamp};
use crate::options::{Level, Options};
use crate::position::{Position, Span, Ticket};

/// Bytes that a batch may need beyond its own in each segment it lies in: a barrier, a header more
/// for what is divided, and what is too small for one at the end.
const SEGMENT_OVERHEAD: u64 = (BARRIER + 2 * FRAGMENT_HEADER) as u64;

/// Bytes that are written at once when nothing is promised.
const LAZY_BYTES: usize = 1 << 20;

/// A stretch of the log that is to be written, as it will stand in the files.
#[derive(Default)]
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    /// One for each segment it lies in.
    pub(crate) pieces: Vec<Piece>,
    /// Where it ends.
    pub(crate) end: Option<Position>,
}

/// The part of an image that lies in one segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) at: Position,
    /// Where it begins in the bytes of the image.
    pub(crate) start: usize,
}

impl Image {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The pieces and their bytes.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = (Position, &[u8])> {
        let ends = self.pieces.iter().skip(1).map(|piece| piece.start).chain([self.bytes.len()]);
        self.pieces.iter().zip(ends).map(|(piece, end)| (piece.at, &self.bytes[piece.start..end]))
    }

    /// The bytes from `position` on to the end of its segment, if it is in here.
    pub(crate) fn from(&self, position: Position) -> Option<&[u8]> {
        self.pieces().find_map(|(at, bytes)| {
            let skipped = position.offset.checked_sub(at.offset)? as usize;
            (at.segment == position.segment && skipped < bytes.len()).then(|| &bytes[skipped..])
        })
    }

    /// Makes it ready to be filled again.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEEP_CAPACITY);
        self.pieces.clear();
        self.end = None;
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, pieces, end } = self;
        let mut image = f.debug_struct("Image");
        image.field("bytes", &bytes.len()).field("pieces", pieces).field("end", end).finish()
    }
}

/// The end of the log. See the module.
#[derive(Debug)]
pub(crate) struct Tail {
    level: Level,
    record_bytes_max: usize,
    pending_bytes_max: usize,
    at: Position,
    /// Size of the segment that `at` is in.
    segment_bytes: u32,
    stamp: Stamp,
    /// Segments allocated ahead.
    following: VecDeque<SegmentHeader>,
    /// Bytes that records can have in those.
    following_bytes: u64,
    /// Whether the next commit begins with a barrier.
    has_barrier: bool,
    pending: Image,
    /// A batch was refused because of what is pending.
    is_crowded: bool,
    /// Bytes for which a batch was refused.
    wanted: u64,
    /// Bytes that [`Tail::reserve`] did not find.
    reserved: u64,
    /// Why no segment could be allocated when one was needed.
    pub(crate) shortage: Option<Arc<io::Error>>,
    pub(crate) failure: Option<Failure>,
}

impl Tail {
    /// The tail of a log that goes on at `at`, a place in a segment of `segment_bytes`.
    pub(crate) fn new(options: &Options, at: Position, segment_bytes: u32, stamp: Stamp) -> Self {
        Self {
            level: options.level,
            record_bytes_max: options.record_bytes_max,
            pending_bytes_max: options.pending_bytes_max,
            at,
            segment_bytes,
            stamp,
            following: VecDeque::new(),
            following_bytes: 0,
            has_barrier: false,
            pending: Image::default(),
            is_crowded: false,
            wanted: 0,
            reserved: 0,
            shortage: None,
            failure: None,
        }
    }

    /// Makes the next commit begin with a barrier: all before it is durable.
    pub(crate) fn begin_with_barrier(&mut self) {
        self.has_barrier = true;
    }

    pub(crate) fn at(&self) -> Position {
        self.at
    }

    pub(crate) fn pending(&self) -> &Image {
        &self.pending
    }

    /// Adds a segment allocated ahead.
    pub(crate) fn add_following(&mut self, header: SegmentHeader) {
        self.following_bytes += u64::from(header.bytes - SEGMENT_START);
        self.following.push_back(header);
    }

    /// Whether a segment should be allocated now.
    pub(crate) fn needs_segment(&self) -> bool {
        self.following.is_empty() || self.room() < self.asked()
    }

    /// Bytes that can be laid out in allocated segments.
    pub(crate) fn room(&self) -> u64 {
        u64::from(self.segment_bytes - self.at.offset) + self.following_bytes
    }

    /// Whether so many bytes can be laid out in allocated segments. If not, more are allocated.
    pub(crate) fn reserve(&mut self, bytes: u64) -> bool {
        let has_room = self.room() >= bytes;
        self.reserved = if has_room { 0 } else { bytes };
        has_room
    }

    /// Bytes that somebody waits for.
    fn asked(&self) -> u64 {
        self.wanted.max(self.reserved)
    }

    /// Whether what was refused may be tried again.
    pub(crate) fn has_room(&self) -> bool {
        self.shortage.is_none() && !self.is_crowded && self.room() >= self.asked()
    }

    /// Lays out all of `batch`, or nothing of it.
    pub(crate) fn append(&mut self, batch: &mut Batch) -> Result<Ticket, Refused> {
        self.admit(batch)?;
        batch.spans.clear();
        if !batch.is_empty() {
            self.begin();
            let room = (self.segment_bytes - self.at.offset) as usize;
            if batch.bytes.len() <= room {
                self.copy(batch);
            } else {
                self.divide(batch);
            }
        }
        Ok(Ticket::up_to(self.at))
    }

    fn admit(&mut self, batch: &Batch) -> Result<(), Refused> {
        if let Some(failure) = &self.failure {
            return Err(Refused::Failed(failure.clone()));
        }
        if batch.largest > self.record_bytes_max {
            return Err(Refused::TooLarge { bytes: batch.largest });
        }
        let is_crowded = self.pending.bytes.len() + batch.bytes.len() > self.pending_bytes_max;
        if is_crowded && !self.pending.is_empty() {
            self.is_crowded = true;
            return Err(Refused::Busy);
        }
        let full = || self.shortage.clone().map(Refused::Full);
        if self.following.is_empty() && !batch.relieves() {
            full().map_or(Ok(()), Err)?;
        }
        let entered = self.following.len() as u64 + 1;
        let needed = batch.bytes.len() as u64 + entered * SEGMENT_OVERHEAD;
        if needed > self.room() {
            // What is allocated for it brings a little overhead of its own.
            let refused = full().unwrap_or(Refused::Busy);
            self.wanted = needed + needed / 64;
            return Err(refused);
        }
        self.wanted = 0;
        Ok(())
    }

    /// Begins a commit, if none has begun.
    fn begin(&mut self) {
        if !self.pending.is_empty() {
            return;
        }
        self.pending.pieces.clear();
        self.pending.pieces.push(Piece { at: self.at, start: 0 });
        if std::mem::take(&mut self.has_barrier) {
            if self.segment_bytes - self.at.offset < BARRIER {
                self.skip(self.segment_bytes - self.at.offset);
                self.enter_next_segment();
            } else {
                self.push(&self.stamp.barrier(self.at.offset, Part::Barrier));
            }
        }
    }

    /// Appends records that the segment has room for as they are.
    #[inline]
    fn copy(&mut self, batch: &mut Batch) {
        let base = self.pending.bytes.len();
        self.pending.bytes.extend_from_slice(&batch.bytes);
        let copied = &mut self.pending.bytes[base..];
        let Position { segment, offset } = self.at;
        let mut ends = batch.starts.iter().skip(1).copied();
        for &start in &batch.starts {
            let end = ends.next().unwrap_or(copied.len());
            let place = |at: usize| Position { segment, offset: offset + at as u32 };
            self.stamp.seal(place(start).offset, &mut copied[start..end]);
            batch.spans.push(Span { start: place(start), end: place(end) });
        }
        self.at.offset += batch.bytes.len() as u32;
    }

    /// Appends records some of which go on in the next segment.
    fn divide(&mut self, batch: &mut Batch) {
        self.pending.bytes.reserve(batch.bytes.len());
        let mut spans = std::mem::take(&mut batch.spans);
        spans.extend(batch.records().map(|(kind, body)| self.place(kind, body)));
        batch.spans = spans;
    }

    fn place(&mut self, kind: u8, body: &[u8]) -> Span {
        let mut rest = body;
        let mut start = None;
        loop {
            let room = self.segment_bytes - self.at.offset;
            if room < FRAGMENT_HEADER {
                self.enter_next_segment();
                continue;
            }
            let is_first = start.is_none();
            start = start.or(Some(self.at));
            let count = rest.len().min((room - FRAGMENT_HEADER) as usize);
            let (fragment, later) = rest.split_at(count);
            let part = match (is_first, later.is_empty()) {
                (true, true) => Part::Whole,
                (true, false) => Part::First,
                (false, false) => Part::Middle,
                (false, true) => Part::Last,
            };
            self.push(&self.stamp.header(self.at.offset, part, kind, fragment));
            self.push(fragment);
            rest = later;
            if let (true, Some(start)) = (rest.is_empty(), start) {
                return Span { start, end: self.at };
            }
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        self.pending.bytes.extend_from_slice(bytes);
        self.at.offset += bytes.len() as u32;
    }

    /// Passes over `count` bytes. What is too small for a header is passed over by whoever reads.
    fn skip(&mut self, count: u32) {
        if let Some(length) = count.checked_sub(FRAGMENT_HEADER) {
            self.push(&self.stamp.gap(self.at.offset, Part::Pad, length));
            self.pending.bytes.resize(self.pending.bytes.len() + length as usize, 0);
            self.at.offset += length;
        }
    }

    fn enter_next_segment(&mut self) {
        let header = self.following.pop_front().expect("a batch is admitted when there is room");
        self.following_bytes -= u64::from(header.bytes - SEGMENT_START);
        self.at = Position { segment: header.number, offset: SEGMENT_START };
        self.segment_bytes = header.bytes;
        self.stamp = header.stamp(0);
        self.pending.pieces.push(Piece { at: self.at, start: self.pending.bytes.len() });
        self.push(&self.stamp.barrier(SEGMENT_START, Part::Barrier));
    }

    /// Ends the commit and hands it out, leaving `empty` in its place. The next commit is to be
    /// written after this one; if `is_synced`, after it has been synced.
    pub(crate) fn close(&mut self, empty: Image, is_synced: bool) -> Image {
        debug_assert!(empty.is_empty());
        if self.pending.is_empty() {
            return empty;
        }
        if is_synced {
            // The sectors of what is durable are never written again.
            let gap = self.at.offset.next_multiple_of(SECTOR) - self.at.offset;
            let is_small = gap > 0 && gap < FRAGMENT_HEADER;
            let left = self.segment_bytes - self.at.offset;
            self.skip(if is_small { (gap + SECTOR).min(left) } else { gap });
            self.has_barrier = true;
        }
        self.is_crowded = false;
        self.pending.end = Some(self.at);
        std::mem::replace(&mut self.pending, empty)
    }

    /// A barrier after all that is written, once it is synced: at a clean stop. Empty when there
    /// is no room for it.
    pub(crate) fn last_barrier(&mut self) -> Image {
        if self.segment_bytes - self.at.offset >= 2 * SECTOR {
            self.has_barrier = true;
            self.begin();
        }
        self.close(Image::default(), true)
    }

    /// Whether records wait that should be written now.
    pub(crate) fn is_due(&self) -> bool {
        match self.level {
            Level::None if !self.is_crowded => self.pending.bytes.len() >= LAZY_BYTES,
            _ => !self.pending.is_empty(),
        }
    }

    /// Whether nothing is promised, so that everything appended counts as durable at once.
    pub(crate) fn promises_nothing(&self) -> bool {
        self.level == Level::None
    }

    /// Whether a commit has to be synced.
    pub(crate) fn syncs(&self) -> bool {
        self.level == Level::Power
    }
}
