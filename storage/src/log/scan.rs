//! Reads a segment from its start, fragment by fragment, and records out of fragments.

use std::io;

use crate::disk::{DiskFile, read_up_to};
use crate::format::{
    BARRIER, FRAGMENT_HEADER, FragmentHeader, Part, SECTOR, SEGMENT_START, SegmentHeader, Stamp,
    Unsound,
};
use crate::position::{Position, Span};

/// Bytes that are read at once: enough to forget the call, and little enough for the cache.
const READ_BYTES: usize = 256 << 10;

/// A walk through a segment.
#[derive(Clone, Debug)]
pub(crate) struct Scan<'a> {
    file: &'a dyn DiskFile,
    bytes: u32,
    stamp: Stamp,
    /// What is read: the bytes from `offset` on are those from `start` to `end`.
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u32,
}

/// What stands at a place of a segment.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Fragment(Fragment<'a>),
    Unsound(Unsound),
    /// The segment has no room for more.
    Full,
}

/// A sound fragment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fragment<'a> {
    pub(crate) part: Part,
    pub(crate) kind: u8,
    pub(crate) offset: u32,
    /// The offset of what comes next.
    pub(crate) end: u32,
    pub(crate) body: &'a [u8],
}

impl<'a> Scan<'a> {
    /// A walk from the first fragment on. `buffer` is memory to be used.
    pub(crate) fn new(file: &'a dyn DiskFile, header: SegmentHeader, buffer: Vec<u8>) -> Self {
        let (bytes, stamp) = (header.bytes, header.stamp(0));
        Self { file, bytes, stamp, buffer, start: 0, end: 0, offset: SEGMENT_START }
    }

    /// The buffer, to be used again.
    pub(crate) fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Size of the segment.
    pub(crate) fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Where the walk stands.
    pub(crate) fn offset(&self) -> u32 {
        self.offset
    }

    /// What fragments have to be stamped with here.
    pub(crate) fn stamp(&self) -> Stamp {
        self.stamp
    }

    /// Goes on at `offset`, which is not before where it stands.
    pub(crate) fn skip_to(&mut self, offset: u32) {
        let count = (offset - self.offset) as usize;
        self.start = (self.start + count).min(self.end);
        self.offset = offset;
    }

    /// Reads anew what was read ahead: the file has changed from here on.
    pub(crate) fn look_again(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// The fragment at which the walk stands, and on to the next one. It stays where it is when
    /// there is none.
    #[inline]
    pub(crate) fn next(&mut self) -> io::Result<Found<'_>> {
        let room = self.bytes - self.offset;
        if room < FRAGMENT_HEADER {
            return Ok(Found::Full);
        }
        match self.judge()? {
            Err(unsound) => Ok(Found::Unsound(unsound)),
            Ok((header, stamp)) => {
                self.stamp = stamp;
                let length = (FRAGMENT_HEADER + header.length) as usize;
                let offset = self.offset;
                let body =
                    self.start + FRAGMENT_HEADER as usize..(self.start + length).min(self.end);
                self.skip_to(offset + length as u32);
                Ok(Found::Fragment(Fragment {
                    part: header.part,
                    kind: header.kind,
                    offset,
                    end: self.offset,
                    body: &self.buffer[body],
                }))
            }
        }
    }

    /// The fragment at which the walk stands, if it is a whole record and already in memory, and on
    /// to the next one. Nearly all are, and [`Scan::next`] takes twice as long.
    #[inline]
    pub(crate) fn next_whole(&mut self) -> Option<Fragment<'_>> {
        const HEADER: usize = FRAGMENT_HEADER as usize;
        let read = &self.buffer[self.start..self.end];
        let (head, rest) = read.split_at_checked(HEADER)?;
        let header = FragmentHeader::decode(head, self.bytes - self.offset).ok()?;
        let length = header.length as usize;
        if header.part != Part::Whole || length > rest.len() {
            return None;
        }
        let fragment = &read[..HEADER + length];
        if !header.is_sound(self.stamp, self.offset, fragment) {
            return None;
        }
        let offset = self.offset;
        self.start += fragment.len();
        self.offset += fragment.len() as u32;
        let (part, kind, end) = (header.part, header.kind, self.offset);
        Some(Fragment { part, kind, offset, end, body: &fragment[HEADER..] })
    }

    /// The header of the fragment here and the stamp from it on, if it is sound.
    #[inline]
    fn judge(&mut self) -> io::Result<Result<(FragmentHeader, Stamp), Unsound>> {
        if !self.fill(FRAGMENT_HEADER as usize)? {
            return Ok(Err(Unsound::FileEnd));
        }
        let room = self.bytes - self.offset;
        let header = match FragmentHeader::decode(&self.buffer[self.start..self.end], room) {
            Err(unsound) => return Ok(Err(unsound)),
            Ok(header) => header,
        };
        // Nothing is read of what is passed over, however long it is.
        let is_gap = matches!(header.part, Part::Pad | Part::Lost);
        let length = FRAGMENT_HEADER as usize + if is_gap { 0 } else { header.length as usize };
        if !self.fill(length)? {
            return Ok(Err(Unsound::FileEnd));
        }
        let fragment = &self.buffer[self.start..self.start + length];
        let stamp = match header.part.is_barrier() {
            true => self.stamp.after_barrier(&fragment[FRAGMENT_HEADER as usize..]),
            false => Some(self.stamp),
        };
        let sound = stamp.filter(|stamp| header.is_sound(*stamp, self.offset, fragment));
        Ok(sound.map(|stamp| (header, stamp)).ok_or(Unsound::Checksum))
    }

    /// Whether `count` bytes from here on are in the buffer, having read them if need be.
    #[inline]
    fn fill(&mut self, count: usize) -> io::Result<bool> {
        if self.end - self.start >= count { Ok(true) } else { self.refill(count) }
    }

    #[cold]
    fn refill(&mut self, count: usize) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let left = (self.bytes - self.offset) as usize;
        // Grows with what the file holds: a length alone makes nobody allocate.
        while self.end < count {
            let wanted = (self.end + READ_BYTES).min(left);
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
            let at = u64::from(self.offset) + self.end as u64;
            let read = read_up_to(self.file, &mut self.buffer[self.end..wanted], at)?;
            self.end += read;
            if read == 0 {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next barrier after this place and before `end`, of this epoch or a later one: proof that
    /// all before it was durable. Barriers stand at the start of a sector, but for the first of a
    /// restart.
    pub(crate) fn find_barrier(&mut self, end: u32) -> io::Result<Option<u32>> {
        let mut offset = self.offset.next_multiple_of(SECTOR);
        if offset == self.offset {
            offset += SECTOR;
        }
        while offset < self.bytes.min(end) {
            self.skip_to(offset);
            if !self.fill(BARRIER as usize)? {
                return Ok(None);
            }
            let is_likely = matches!(self.buffer[self.start + 8], 5 | 6);
            if is_likely && self.judge()?.is_ok_and(|(header, _)| header.part.is_barrier()) {
                return Ok(Some(offset));
            }
            offset += SECTOR;
        }
        Ok(None)
    }

    /// The next place after this one at which anything sound stands, barriers of later epochs
    /// included.
    pub(crate) fn find_sound(&mut self) -> io::Result<Option<u32>> {
        while self.bytes - self.offset > FRAGMENT_HEADER {
            self.skip_to(self.offset + 1);
            if self.judge()?.is_ok() {
                return Ok(Some(self.offset));
            }
        }
        Ok(None)
    }
}

/// A record as it was found in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry<'a> {
    /// Where it stands.
    pub span: Span,
    /// Its kind, as it was appended.
    pub kind: u8,
    /// Its body, as it was appended.
    pub body: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The record that is `fragment` of `segment`.
    #[inline]
    pub(crate) fn whole(segment: u32, fragment: Fragment<'a>) -> Self {
        let Fragment { kind, offset, end, body, .. } = fragment;
        let [start, end] = [offset, end].map(|offset| Position { segment, offset });
        Self { span: Span { start, end }, kind, body }
    }
}

/// Puts records together.
#[derive(Debug)]
pub(crate) struct Assembler {
    record_bytes_max: usize,
    /// Start and kind of the record whose beginning is in `body`.
    unfinished: Option<(Position, u8)>,
    body: Vec<u8>,
    /// The beginning of what comes may be gone.
    is_amid: bool,
}

impl Assembler {
    /// An assembler that begins anywhere in a log.
    pub(crate) fn new(record_bytes_max: usize) -> Self {
        Self { record_bytes_max, unfinished: None, body: Vec::new(), is_amid: true }
    }

    /// Whether no record is unfinished, so that a whole one may come, past this assembler.
    #[inline]
    pub(crate) fn is_between(&self) -> bool {
        self.unfinished.is_none() && !self.is_amid
    }

    /// Something is gone here: what has begun has no end, and what ends no beginning.
    pub(crate) fn interrupt(&mut self) {
        self.unfinished = None;
        self.is_amid = true;
    }

    /// The record that `fragment` of `segment` completes, if any.
    #[inline]
    pub(crate) fn add<'a>(
        &'a mut self,
        segment: u32,
        fragment: Fragment<'a>,
    ) -> Result<Option<Entry<'a>>, Unsound> {
        let Fragment { part, kind, offset, end, body } = fragment;
        let at = Position { segment, offset };
        let end = Position { segment, offset: end };
        match part {
            Part::Whole | Part::First if self.unfinished.is_some() => Err(Unsound::NotEnded),
            Part::Whole => {
                self.is_amid = false;
                Ok(Some(Entry::whole(segment, fragment)))
            }
            Part::First => {
                self.is_amid = false;
                self.unfinished = Some((at, kind));
                self.body.clear();
                self.extend(body)
            }
            Part::Middle | Part::Last => match self.unfinished {
                None if self.is_amid => {
                    self.is_amid = part == Part::Middle;
                    Ok(None)
                }
                Some((start, begun)) if begun == kind => {
                    self.extend(body)?;
                    if part == Part::Middle {
                        return Ok(None);
                    }
                    self.unfinished = None;
                    Ok(Some(Entry { span: Span { start, end }, kind, body: &self.body }))
                }
                _ => Err(Unsound::NotBegun),
            },
            Part::Barrier | Part::Pad => Ok(None),
            Part::Restart => {
                self.unfinished = None;
                Ok(None)
            }
            Part::Lost => {
                self.interrupt();
                Ok(None)
            }
        }
    }

    fn extend(&mut self, body: &[u8]) -> Result<Option<Entry<'_>>, Unsound> {
        if body.len() > self.record_bytes_max - self.body.len() {
            return Err(Unsound::TooLarge);
        }
        self.body.extend_from_slice(body);
        Ok(None)
    }
}
