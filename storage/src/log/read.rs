//! Reads one record, wherever it is.

use super::names;
use super::table::{Segment, Table};
use super::tail::Image;
use crate::disk::read_up_to;
use crate::error::{Damage, Flaw, ReadError};
use crate::format::{BARRIER, FRAGMENT_HEADER, FragmentHeader, Part, SEGMENT_START, Unsound};
use crate::position::Position;

/// Bytes that are read at first: most records in one call.
const FIRST_READ: usize = 512;

/// Appends the body of the record at `position` to `body` and gives its kind, from `images` that
/// may not be written yet, else from the files.
pub(crate) fn read<'a>(
    table: &Table,
    images: impl IntoIterator<Item = &'a Image>,
    position: Position,
    body: &mut Vec<u8>,
) -> Result<u8, ReadError> {
    // A record is laid out in one image, so it is there as a whole or not at all.
    let image = images.into_iter().find(|image| image.from(position).is_some());
    let length = body.len();
    let read = join(position, |at| load(table, image, at, body));
    if read.is_err() {
        body.truncate(length);
    }
    match read {
        // Its file may have been used again while it was read.
        Err(ReadError::Damaged(_)) if table.get(position.segment).is_none() => {
            Err(ReadError::Gone(position))
        }
        read => read,
    }
}

/// Follows a record from fragment to fragment.
fn join(
    position: Position,
    mut load: impl FnMut(Position) -> Result<FragmentHeader, ReadError>,
) -> Result<u8, ReadError> {
    let mut at = position;
    let first = load(at)?;
    match first.part {
        Part::Whole => return Ok(first.kind),
        Part::First => {}
        _ => return Err(damaged(at, Unsound::NotBegun)),
    }
    loop {
        at = Position { segment: at.segment + 1, offset: SEGMENT_START };
        let barrier = load(at)?;
        at.offset += BARRIER;
        let next = load(at)?;
        match next.part {
            Part::Middle if barrier.part == Part::Barrier => {}
            Part::Last if barrier.part == Part::Barrier => return Ok(first.kind),
            _ => return Err(damaged(at, Unsound::NotEnded)),
        }
    }
}

fn damaged(at: Position, unsound: Unsound) -> ReadError {
    let file = names::segment(at.segment);
    ReadError::Damaged(Damage { file, offset: at.offset, flaw: Flaw::Record(unsound) })
}

/// Appends the body of the fragment at `at`, and gives its header. Barriers add nothing.
fn load(
    table: &Table,
    image: Option<&Image>,
    at: Position,
    body: &mut Vec<u8>,
) -> Result<FragmentHeader, ReadError> {
    let segment = table.get(at.segment).ok_or(ReadError::Gone(at))?;
    let room = segment.header.bytes.saturating_sub(at.offset);
    if room < FRAGMENT_HEADER || at.offset < SEGMENT_START {
        return Err(damaged(at, Unsound::Length));
    }
    match image.and_then(|image| image.from(at)) {
        Some(bytes) => {
            let header = FragmentHeader::decode(bytes, room).map_err(|it| damaged(at, it))?;
            let end = (FRAGMENT_HEADER + header.length) as usize;
            if !header.part.is_barrier() {
                body.extend_from_slice(&bytes[FRAGMENT_HEADER as usize..end]);
            }
            Ok(header)
        }
        None => load_from_file(&segment, at, room, body),
    }
}

fn load_from_file(
    segment: &Segment,
    at: Position,
    room: u32,
    body: &mut Vec<u8>,
) -> Result<FragmentHeader, ReadError> {
    let start = body.len();
    let fill = |body: &mut Vec<u8>, from: usize, to: usize| {
        body.resize(start + to, 0);
        let offset = u64::from(at.offset) + from as u64;
        let read = read_up_to(&*segment.file, &mut body[start + from..], offset);
        let read = read.map_err(|error| ReadError::Io { file: names::segment(at.segment), error });
        read.map(|count| body.truncate(start + from + count))
    };
    fill(body, 0, FIRST_READ.min(room as usize))?;
    if body.len() - start < FRAGMENT_HEADER as usize {
        return Err(damaged(at, Unsound::FileEnd));
    }
    let header =
        FragmentHeader::decode(&body[start..], room).map_err(|unsound| damaged(at, unsound))?;
    let length = (FRAGMENT_HEADER + header.length) as usize;
    let read = body.len() - start;
    if read < length {
        fill(body, read, length)?;
    }
    if body.len() - start < length {
        return Err(damaged(at, Unsound::FileEnd));
    }
    body.truncate(start + length);
    let stamp = segment.stamp(at.offset);
    if !header.is_sound(stamp, at.offset, &body[start..]) {
        return Err(damaged(at, Unsound::Checksum));
    }
    if header.part.is_barrier() {
        body.truncate(start);
    } else {
        body.copy_within(start + FRAGMENT_HEADER as usize.., start);
        body.truncate(start + length - FRAGMENT_HEADER as usize);
    }
    Ok(header)
}

/// Bytes that are read ahead at most.
const AHEAD_MAX: usize = 64 << 10;
/// Bytes of the first stretch: another message often lies a few records further on.
const AHEAD_MIN: usize = 4 << 10;

/// A stretch of the log that was read in one call, for whoever reads on from record to record.
///
/// The stretch grows while what is asked for lies just behind what was asked for last, and is
/// small else.
#[derive(Debug, Default)]
pub struct Ahead {
    segment: u32,
    offset: u32,
    bytes: Vec<u8>,
    /// Bytes to read next time.
    next: usize,
}

impl Ahead {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the body of the record at `position`, if all of it is here and sound; its kind.
    fn take(&self, table: &Table, position: Position, body: &mut Vec<u8>) -> Option<u8> {
        let skipped = position.offset.checked_sub(self.offset)? as usize;
        if position.segment != self.segment {
            return None;
        }
        let bytes = self.bytes.get(skipped..).filter(|it| it.len() >= FRAGMENT_HEADER as usize)?;
        let segment = table.get(position.segment)?;
        let room = segment.header.bytes.checked_sub(position.offset)?;
        let header = FragmentHeader::decode(bytes, room).ok()?;
        let fragment = bytes.get(..(FRAGMENT_HEADER + header.length) as usize)?;
        let stamp = segment.stamp(position.offset);
        let is_sound =
            header.part == Part::Whole && header.is_sound(stamp, position.offset, fragment);
        is_sound.then(|| {
            body.extend_from_slice(&fragment[FRAGMENT_HEADER as usize..]);
            header.kind
        })
    }

    /// Reads from `position` on, as much as seems worth it.
    fn fill(&mut self, table: &Table, position: Position) {
        let end = self.offset as usize + self.bytes.len();
        let is_near = position.segment == self.segment
            && (position.offset as usize).checked_sub(end).is_some_and(|gap| gap <= self.next);
        self.next = if is_near { (2 * self.next).min(AHEAD_MAX) } else { AHEAD_MIN };
        (self.segment, self.offset) = (position.segment, position.offset);
        self.bytes.clear();
        let Some(segment) = table.get(position.segment) else { return };
        let room = segment.header.bytes.saturating_sub(position.offset) as usize;
        self.bytes.resize(self.next.min(room), 0);
        // What cannot be read is read again, and told, by whoever finds nothing here.
        let read = read_up_to(&*segment.file, &mut self.bytes, u64::from(position.offset));
        self.bytes.truncate(read.unwrap_or(0));
    }
}

/// As [`read`], of what is written, by way of `ahead`. `None` when it is not found there: divided,
/// larger than a stretch, or not written yet.
pub(crate) fn read_ahead(
    table: &Table,
    position: Position,
    ahead: &mut Ahead,
    body: &mut Vec<u8>,
) -> Option<u8> {
    ahead.take(table, position, body).or_else(|| {
        ahead.fill(table, position);
        ahead.take(table, position, body)
    })
}
