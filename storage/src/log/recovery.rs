//! From the files of a directory to a log that goes on where it ended.

use std::sync::Arc;

use super::names::{self, Listing};
use super::scan::{Assembler, Entry, Found, Scan};
use super::table::{Segment, Table};
use super::tail::Tail;
use super::writer::{NotAllocated, Writer};
use crate::disk::{DirectoryLock, Disk, read_up_to};
use crate::error::{Damage, Failure, Flaw, OpenError};
use crate::format::{
    BARRIER, FRAGMENT_HEADER, HeaderFault, Part, SECTOR, SEGMENT_START, SegmentHeader, Unsound,
    is_segment_size,
};
use crate::options::Options;
use crate::position::Position;

/// Bytes of a segment in which something must stand if it was written to at all: the first fragment
/// is a barrier, and should that be damaged, other commits begin soon after.
const FIRST_BYTES: u32 = 1 << 20;

/// What takes the records of a log that is opened. A closure over entries will do.
pub trait Replay {
    /// The next record, in the order in which they were appended.
    fn record(&mut self, entry: Entry<'_>);

    /// Called after each segment, with the bytes that were read so far and those of all segments.
    fn progress(&mut self, _bytes: u64, _of_bytes: u64) {}
}

impl<F: FnMut(Entry<'_>)> Replay for F {
    fn record(&mut self, entry: Entry<'_>) {
        self(entry);
    }
}

/// What an opening found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// Records.
    pub records: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// Segments that hold something.
    pub segments: u32,
}

/// Where a log ends, and how to go on from there.
#[derive(Debug)]
struct End {
    at: Position,
    epoch: u8,
}

/// Opens the log of a directory, which this process holds by `lock`.
pub(super) fn recover(
    disk: Arc<dyn Disk>,
    options: &Options,
    lock: DirectoryLock,
    replay: &mut dyn Replay,
) -> Result<(Tail, Writer, Recovered), OpenError> {
    if !is_segment_size(options.segment_bytes) {
        return Err(OpenError::Options("segment_bytes"));
    }
    let listing = Listing::read(&*disk).map_err(OpenError::io("list", "the directory"))?;
    let table = Arc::new(Table::default());
    let mut segments = open_segments(&*disk, &listing)?;
    let (end, recovered) = walk(&mut segments, &listing, options, replay)?;
    segments.into_iter().for_each(|segment| table.insert(segment));

    // Up to here nothing was changed: whoever has to repair finds it as it was.
    // A process that was killed may have left names that are not on the medium yet.
    disk.sync().map_err(OpenError::io("sync", "the directory"))?;
    let mut writer = Writer::new(disk, table, options, lock);
    writer.remove(&listing.leftovers).map_err(open_error)?;
    writer.resume(listing.largest, listing.retired);
    writer.forget_stubs();
    let tail = match end {
        Some(end) => go_on(&mut writer, options, &end)?,
        None => begin(&mut writer, options)?,
    };
    Ok((tail, writer, recovered))
}

fn open_error(failure: Failure) -> OpenError {
    let Failure { doing, file, error } = failure;
    let error = Arc::try_unwrap(error).unwrap_or_else(|it| std::io::Error::new(it.kind(), it));
    OpenError::Io { doing, file, error }
}

/// The segments of the directory, each begun as it must.
pub(crate) fn open_segments(disk: &dyn Disk, listing: &Listing) -> Result<Vec<Segment>, OpenError> {
    if let Some(number) = listing.missing().next() {
        let file = names::segment(number);
        return Err(OpenError::Damaged(Damage { file, offset: 0, flaw: Flaw::Missing }));
    }
    listing.segments.iter().map(|&number| open_segment(disk, number)).collect()
}

/// The segment of this number, if it begins as it must.
pub(crate) fn open_segment(disk: &dyn Disk, number: u32) -> Result<Segment, OpenError> {
    let name = names::segment(number);
    let file = disk.open(&name).map_err(OpenError::io("open", &name))?;
    let mut sector = [0; SECTOR as usize];
    read_up_to(&*file, &mut sector, 0).map_err(OpenError::io("read", &name))?;
    match SegmentHeader::decode(&sector) {
        Ok(header) if header.number == number => Ok(Segment { header, file, restarts: Vec::new() }),
        Err(HeaderFault::Version(version)) => Err(OpenError::Version { file: name, version }),
        _ => Err(OpenError::Damaged(Damage { file: name, offset: 0, flaw: Flaw::Header })),
    }
}

/// Replays all records, and says where they end; `None` when there is no segment.
fn walk(
    segments: &mut [Segment],
    listing: &Listing,
    options: &Options,
    replay: &mut dyn Replay,
) -> Result<(Option<End>, Recovered), OpenError> {
    let of_bytes = segments.iter().map(|it| u64::from(it.header.bytes)).sum();
    let mut bytes = 0;
    let mut recovered = Recovered::default();
    let mut assembler = Assembler::new(options.record_bytes_max);
    let mut buffer = Vec::new();
    let mut end = None;
    let mut expected = 0;
    for index in 0..segments.len() {
        let (segment, later) = segments[index..].split_first_mut().expect("it is in bounds");
        let number = segment.header.number;
        let name = names::segment(number);
        if number != expected {
            assembler.interrupt();
        }
        expected = number + 1;
        let mut scan = Scan::new(&*segment.file, segment.header, buffer);
        let unsound = loop {
            while let Some(whole) = assembler.is_between().then(|| scan.next_whole()).flatten() {
                recovered.records += 1;
                recovered.bytes += whole.body.len() as u64;
                replay.record(Entry::whole(number, whole));
            }
            let found = scan.next().map_err(OpenError::io("read", &name))?;
            let fragment = match found {
                Found::Full => break None,
                Found::Unsound(unsound) => break Some(unsound),
                Found::Fragment(fragment) => fragment,
            };
            let offset = fragment.offset;
            let is_restart = fragment.part == Part::Restart;
            match assembler.add(number, fragment) {
                Ok(None) => {}
                Ok(Some(entry)) => {
                    recovered.records += 1;
                    recovered.bytes += entry.body.len() as u64;
                    replay.record(entry);
                }
                Err(unsound) => return Err(damaged(&name, offset, unsound)),
            }
            if is_restart {
                segment.restarts.push((offset, scan.stamp().epoch));
            }
        };
        recovered.segments += u32::from(scan.offset() > SEGMENT_START);
        let at = Position { segment: number, offset: scan.offset() };
        end = Some(End { at, epoch: scan.stamp().epoch });
        if let Some(unsound) = unsound {
            // The tail was torn, unless something says that it was whole before.
            let is_known =
                scan.find_barrier(u32::MAX).map_err(OpenError::io("read", &name))?.is_some()
                    || listing.retired.iter().any(|it| *it > number)
                    || is_written(later)?;
            if is_known {
                return Err(damaged(&name, at.offset, unsound));
            }
            replay.progress(of_bytes, of_bytes);
            break;
        }
        bytes += u64::from(segment.header.bytes);
        replay.progress(bytes, of_bytes);
        buffer = scan.into_buffer();
    }
    Ok((end, recovered))
}

fn damaged(file: &str, offset: u32, unsound: Unsound) -> OpenError {
    let flaw = Flaw::Record(unsound);
    OpenError::Damaged(Damage { file: file.to_owned(), offset, flaw })
}

/// Whether anything was ever written to one of `segments`.
pub(crate) fn is_written(segments: &[Segment]) -> Result<bool, OpenError> {
    for segment in segments {
        let name = names::segment(segment.header.number);
        let mut scan = Scan::new(&*segment.file, segment.header, Vec::new());
        let first = scan.next().map_err(OpenError::io("read", &name))?;
        if matches!(first, Found::Fragment(_)) {
            return Ok(true);
        }
        if scan.find_barrier(FIRST_BYTES).map_err(OpenError::io("read", &name))?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The tail of a new log.
fn begin(writer: &mut Writer, options: &Options) -> Result<Tail, OpenError> {
    let header = allocate(writer)?.map_err(OpenError::io("allocate", "the first segment"))?;
    let segment = writer.table.get(header.number).expect("it was just allocated");
    writer.resume_at(header.number);
    let at = Position { segment: header.number, offset: SEGMENT_START };
    let stamp = segment.stamp(at.offset);
    let mut tail = Tail::new(options, at, header.bytes, stamp);
    tail.begin_with_barrier();
    allocate_ahead(writer, &mut tail)?;
    Ok(tail)
}

fn allocate(writer: &mut Writer) -> Result<Result<SegmentHeader, std::io::Error>, OpenError> {
    match writer.allocate() {
        Ok(header) => Ok(Ok(header)),
        Err(NotAllocated::Yet(error)) => Ok(Err(error)),
        Err(NotAllocated::Failed(failure)) => Err(open_error(failure)),
    }
}

/// A log can be opened while the disk is full: it takes nothing new then.
fn allocate_ahead(writer: &mut Writer, tail: &mut Tail) -> Result<(), OpenError> {
    if tail.needs_segment() {
        match allocate(writer)? {
            Ok(header) => tail.add_following(header),
            Err(error) => tail.shortage = Some(Arc::new(error)),
        }
    }
    Ok(())
}

/// The tail of a log that goes on after `end`. What stands there, if anything, is torn; a restart
/// of another epoch sees to it that it is never taken for part of what comes.
fn go_on(writer: &mut Writer, options: &Options, end: &End) -> Result<Tail, OpenError> {
    let table = Arc::clone(&writer.table);
    // A process that was killed may have left the last segment, or the one it had just filled,
    // unsynced; no barrier may say otherwise.
    for number in end.at.segment.saturating_sub(1)..=end.at.segment {
        if let Some(segment) = table.get(number) {
            let name = names::segment(number);
            segment.file.sync().map_err(OpenError::io("sync", &name))?;
        }
    }
    let mut after: Vec<_> = table.list().into_iter().map(|it| it.number).collect();
    after.retain(|number| *number > end.at.segment);
    if end.epoch == u8::MAX && after.is_empty() {
        let header = allocate(writer)?.map_err(OpenError::io("allocate", "a segment"))?;
        after.push(header.number);
    }
    let mut segment = table.get(end.at.segment).expect("the log ends in a segment");
    let mut at = end.at;
    let mut epoch = end.epoch;
    let room = segment.header.bytes - at.offset;
    if (room < BARRIER || epoch == u8::MAX) && !after.is_empty() {
        let number = after.remove(0);
        if room >= FRAGMENT_HEADER {
            let stamp = segment.header.stamp(epoch);
            let pad = stamp.gap(at.offset, Part::Pad, room - FRAGMENT_HEADER);
            write(&segment, &pad, at)?;
        }
        segment = table.get(number).expect("it is listed");
        at = Position { segment: number, offset: SEGMENT_START };
        epoch = 0;
    }
    writer.resume_at(at.segment);
    let is_at_end = segment.header.bytes - at.offset < BARRIER;
    let mut tail = if is_at_end {
        let stamp = segment.header.stamp(epoch);
        let mut tail = Tail::new(options, at, segment.header.bytes, stamp);
        tail.begin_with_barrier();
        tail
    } else {
        restart(&table, &segment, at, epoch + 1, options)?
    };
    for number in after {
        tail.add_following(renew(writer, number)?);
    }
    allocate_ahead(writer, &mut tail)?;
    Ok(tail)
}

/// Gives a segment ahead another salt. Nothing was written to it, or else damage has hidden that:
/// then nothing of it may ever look like a part of the log.
fn renew(writer: &Writer, number: u32) -> Result<SegmentHeader, OpenError> {
    let segment = writer.table.get(number).expect("it is listed");
    let header = SegmentHeader { salt: writer.salt(number), ..segment.header };
    if header != segment.header {
        let at = Position { segment: number, offset: 0 };
        write(&segment, &header.encode(), at)?;
        writer.table.insert(Segment { header, ..Segment::clone(&segment) });
    }
    Ok(header)
}

/// Writes a restart at `at`, and gives the tail after it.
fn restart(
    table: &Table,
    segment: &Segment,
    at: Position,
    epoch: u8,
    options: &Options,
) -> Result<Tail, OpenError> {
    let stamp = segment.header.stamp(epoch);
    let mut bytes = stamp.barrier(at.offset, Part::Restart).to_vec();
    let bare = at.offset + BARRIER;
    let mut pad = bare.next_multiple_of(SECTOR) - bare;
    if pad > 0 && pad < FRAGMENT_HEADER {
        pad = (pad + SECTOR).min(segment.header.bytes - bare);
    }
    if let Some(length) = pad.checked_sub(FRAGMENT_HEADER) {
        bytes.extend(stamp.gap(bare, Part::Pad, length));
        bytes.resize(bytes.len() + length as usize, 0);
    }
    write(segment, &bytes, at)?;
    let mut restarted = segment.clone();
    restarted.restarts.push((at.offset, epoch));
    table.insert(restarted);
    let next = Position { offset: at.offset + bytes.len() as u32, ..at };
    let mut tail = Tail::new(options, next, segment.header.bytes, stamp);
    tail.begin_with_barrier();
    Ok(tail)
}

fn write(segment: &Segment, bytes: &[u8], at: Position) -> Result<(), OpenError> {
    let name = names::segment(at.segment);
    let file = &segment.file;
    file.write_at(bytes, u64::from(at.offset)).map_err(OpenError::io("write", &name))?;
    file.sync().map_err(OpenError::io("sync", &name))
}
