//! Verifies the log of a directory, and repairs it.
//!
//! Both walk through all segments as an opening does, but go on behind what is damaged, at the
//! next place where something sound stands.

use std::io::{self, ErrorKind};
use std::sync::Arc;

use crate::disk::{DirectoryLock, Disk, LockError, copy_bytes};
use crate::error::{Damage, Flaw, OpenError};
use crate::format::{FRAGMENT_HEADER, Part, SegmentHeader, Stamp, Unsound};
use crate::log::names::{self, DRAFT, Listing};
use crate::log::recovery::{is_written, open_segment};
use crate::log::scan::{Assembler, Found, Scan};
use crate::log::table::Segment;
use crate::position::Position;

/// Times that a repair looks again. Once is the rule: what is given up may lay open something that
/// was taken for a torn tail, and that is all.
const ROUNDS_MAX: usize = 8;

/// What a directory holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Segments that are there, those allocated ahead included.
    pub segments: u32,
    /// Records that are sound.
    pub records: u64,
    /// Bytes of their bodies.
    pub bytes: u64,
    /// What is not sound.
    pub losses: Vec<Loss>,
    /// Where the log ends; `None` when there is none, or when its end is lost.
    pub end: Option<Position>,
}

/// A stretch of a file that cannot be read. Records that lie in it, even in part, are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// Where it begins, and what is wrong there.
    pub damage: Damage,
    /// Bytes from the start of the file at which something sound stands again; 0 when the whole
    /// file is lost.
    pub until: u32,
}

/// What a repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Repaired {
    /// What the directory holds now; its losses are what is lost.
    pub report: Report,
    /// The files in which damaged segments are kept as they were.
    pub aside: Vec<String>,
}

/// Reads everything in the directory and says what it holds. Changes nothing, and needs no right
/// to.
///
/// `progress` is called after each segment, with the number of those read and of all.
///
/// # Errors
/// [`OpenError::Lock`] when a process has the log open; [`OpenError::Version`];
/// [`OpenError::Io`].
pub fn verify(
    disk: &Arc<dyn Disk>,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<Report, OpenError> {
    let _lock = lock_to_read(&**disk)?;
    Ok(walk(&**disk, progress)?.report)
}

/// Makes a directory one that can be opened: keeps all that is sound in the place where it is, and
/// puts damaged segments aside as files of their own.
///
/// `progress` is that of [`verify`].
///
/// # Errors
/// Those of [`verify`]. It can be repaired again then: nothing is lost by half a repair.
pub fn repair(
    disk: &Arc<dyn Disk>,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<Repaired, OpenError> {
    let disk = &**disk;
    let _lock = disk.lock().map_err(OpenError::Lock)?;
    let mut repaired = Repaired::default();
    for _ in 0..ROUNDS_MAX {
        let mut walk = walk(disk, progress)?;
        let mut losses = std::mem::take(&mut repaired.report.losses);
        losses.append(&mut walk.report.losses);
        repaired.report = Report { losses, ..walk.report };
        if walk.wounds.is_empty() {
            break;
        }
        heal(disk, &walk.wounds, walk.last, &walk.listing, &mut repaired.aside)?;
    }
    Ok(repaired)
}

/// Sees to all `wounds`, and names the copies it makes in `aside`.
fn heal(
    disk: &dyn Disk,
    wounds: &[Wound],
    last: u32,
    listing: &Listing,
    aside: &mut Vec<String>,
) -> Result<(), OpenError> {
    remove(disk, &listing.leftovers)?;
    let mut done = 0;
    for wound in wounds {
        match wound {
            Wound::Missing(number) => give_up(disk, *number, last)?,
            Wound::Header(number) => {
                aside.push(copy_aside(disk, *number)?);
                give_up(disk, *number, last)?;
                let name = names::segment(*number);
                disk.remove(&name).map_err(OpenError::io("remove", &name))?;
            }
            // All gaps of a segment stand together, and are seen to together.
            Wound::Gap { segment, .. } if segment.header.number != done => {
                done = segment.header.number;
                aside.push(copy_aside(disk, done)?);
                mend(disk, segment, wounds)?;
            }
            Wound::Gap { .. } => {}
        }
        disk.sync().map_err(OpenError::io("sync", "the directory"))?;
    }
    // After a stub a segment is missed; there is none any more.
    let stubs = listing.retired.iter().filter(|number| **number > last);
    remove(disk, &stubs.map(|number| names::retired(*number)).collect::<Vec<_>>())
}

fn remove(disk: &dyn Disk, files: &[String]) -> Result<(), OpenError> {
    for name in files {
        disk.remove(name).map_err(OpenError::io("remove", name))?;
    }
    disk.sync().map_err(OpenError::io("sync", "the directory"))
}

/// Whoever only reads can do so where no lock file can be made.
fn lock_to_read(disk: &dyn Disk) -> Result<Option<DirectoryLock>, OpenError> {
    match disk.lock() {
        Ok(lock) => Ok(Some(lock)),
        Err(LockError::Io(error))
            if matches!(
                error.kind(),
                ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied
            ) =>
        {
            Ok(None)
        }
        Err(error) => Err(OpenError::Lock(error)),
    }
}

/// What has to be done about a loss.
#[derive(Debug)]
enum Wound {
    /// The segment is not there.
    Missing(u32),
    /// The segment does not begin as it must, so that nothing in it can be judged.
    Header(u32),
    /// A stretch of it is not sound.
    Gap { segment: Segment, from: u32, until: u32, stamp: Stamp },
}

struct Walk {
    report: Report,
    wounds: Vec<Wound>,
    /// The last segment that begins as it must.
    last: u32,
    listing: Listing,
}

impl Walk {
    fn lose(&mut self, number: u32, flaw: Flaw, from: u32, until: u32) {
        let damage = Damage { file: names::segment(number), offset: from, flaw };
        self.report.losses.push(Loss { damage, until });
    }
}

fn walk(disk: &dyn Disk, progress: &mut dyn FnMut(u32, u32)) -> Result<Walk, OpenError> {
    let listing = Listing::read(disk).map_err(OpenError::io("list", "the directory"))?;
    let missing: Vec<u32> = listing.missing().collect();
    let mut walk = Walk { report: Report::default(), wounds: Vec::new(), last: 0, listing };
    for number in missing {
        walk.lose(number, Flaw::Missing, 0, 0);
        walk.wounds.push(Wound::Missing(number));
    }
    let mut segments = Vec::new();
    for number in walk.listing.segments.clone() {
        walk.report.segments += 1;
        match open_segment(disk, number) {
            Ok(segment) => segments.push(segment),
            Err(OpenError::Damaged(damage)) => {
                walk.lose(number, damage.flaw, 0, 0);
                walk.wounds.push(Wound::Header(number));
            }
            Err(error) => return Err(error),
        }
    }
    walk.last = segments.last().map_or(0, |it| it.header.number);
    let mut assembler = Assembler::new(usize::MAX);
    let mut expected = 0;
    let of = segments.len() as u32;
    for index in 0..segments.len() {
        let segment = &segments[index];
        let number = segment.header.number;
        if number != expected {
            assembler.interrupt();
        }
        expected = number + 1;
        let is_sealed = walk.listing.retired.iter().any(|it| *it > number);
        let later = &segments[index + 1..];
        if !walk_segment(segment, is_sealed, later, &mut assembler, &mut walk)? {
            progress(of, of);
            break;
        }
        progress(index as u32 + 1, of);
    }
    Ok(walk)
}

/// Walks through one segment, and says whether the log goes on after it.
fn walk_segment(
    segment: &Segment,
    is_sealed: bool,
    later: &[Segment],
    assembler: &mut Assembler,
    walk: &mut Walk,
) -> Result<bool, OpenError> {
    let number = segment.header.number;
    let name = names::segment(number);
    let mut scan = Scan::new(&*segment.file, segment.header, Vec::new());
    loop {
        let (from, stamp) = (scan.offset(), scan.stamp());
        let unsound = match scan.next().map_err(OpenError::io("read", &name))? {
            Found::Full => break,
            Found::Unsound(unsound) => unsound,
            Found::Fragment(fragment) => match assembler.add(number, fragment) {
                Ok(None) => continue,
                Ok(Some(entry)) => {
                    walk.report.records += 1;
                    walk.report.bytes += entry.body.len() as u64;
                    continue;
                }
                Err(unsound) => {
                    lose(walk, segment, unsound, from..fragment.end, stamp);
                    assembler.interrupt();
                    continue;
                }
            },
        };
        let is_known =
            scan.clone().find_barrier(u32::MAX).map_err(OpenError::io("read", &name))?.is_some()
                || is_sealed
                || is_written(later)?;
        if !is_known {
            walk.report.end = Some(Position { segment: number, offset: from });
            return Ok(false);
        }
        let until = after_damage(&mut scan).map_err(OpenError::io("read", &name))?;
        lose(walk, segment, unsound, from..until, stamp);
        assembler.interrupt();
    }
    walk.report.end = Some(Position { segment: number, offset: scan.offset() });
    Ok(true)
}

/// Goes on to the next place that is sound, or to the end of the segment.
fn after_damage(scan: &mut Scan<'_>) -> io::Result<u32> {
    // What is damaged has a header, so nothing stands in the bytes of it.
    let least = (scan.offset() + FRAGMENT_HEADER - 1).min(scan.bytes());
    scan.skip_to(least);
    let found = scan.find_sound()?;
    let until = found.unwrap_or(scan.bytes());
    scan.skip_to(until);
    Ok(until)
}

fn lose(
    walk: &mut Walk,
    segment: &Segment,
    unsound: Unsound,
    range: std::ops::Range<u32>,
    stamp: Stamp,
) {
    let (from, until) = (range.start, range.end);
    walk.lose(segment.header.number, Flaw::Record(unsound), from, until);
    walk.wounds.push(Wound::Gap { segment: segment.clone(), from, until, stamp });
}

/// Says that a segment is gone for good, unless it was the last: then nobody misses it.
fn give_up(disk: &dyn Disk, number: u32, last: u32) -> Result<(), OpenError> {
    if number >= last {
        return Ok(());
    }
    let stub = names::retired(number);
    match disk.create(&stub, 0) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        created => drop(created.map_err(OpenError::io("create", &stub))?),
    }
    disk.sync().map_err(OpenError::io("sync", "the directory"))
}

/// Copies a segment as it is, and gives the name of the copy.
fn copy_aside(disk: &dyn Disk, number: u32) -> Result<String, OpenError> {
    let name = names::segment(number);
    let file = disk.open(&name).map_err(OpenError::io("open", &name))?;
    let bytes = file.bytes().map_err(OpenError::io("read", &name))?;
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let there = disk.list().map_err(OpenError::io("list", "the directory"))?;
    let aside = (1..).map(|attempt| names::damaged(number, attempt));
    let aside = aside.into_iter().find(|name| !there.contains(name)).expect("one is free");
    let copied = disk.create(&aside, u64::from(bytes)).and_then(|copy| {
        copy_bytes(&*file, &*copy, 0..bytes)?;
        copy.sync()
    });
    copied.map_err(OpenError::io("write", &aside))?;
    disk.sync().map_err(OpenError::io("sync", "the directory"))?;
    Ok(aside)
}

/// Replaces a segment by one in which the lost stretches are marked as such.
fn mend(disk: &dyn Disk, segment: &Segment, wounds: &[Wound]) -> Result<(), OpenError> {
    let SegmentHeader { number, bytes, .. } = segment.header;
    let draft = disk.create(DRAFT, u64::from(bytes)).map_err(OpenError::io("create", DRAFT))?;
    let copied = copy_bytes(&*segment.file, &*draft, 0..bytes);
    copied.map_err(OpenError::io("write", DRAFT))?;
    for wound in wounds {
        let Wound::Gap { segment, from, until, stamp } = wound else { continue };
        if segment.header.number == number {
            let mark = stamp.gap(*from, Part::Lost, until - from - FRAGMENT_HEADER);
            let written = draft.write_at(&mark, u64::from(*from));
            written.map_err(OpenError::io("write", DRAFT))?;
        }
    }
    draft.sync().map_err(OpenError::io("sync", DRAFT))?;
    let name = names::segment(number);
    disk.rename(DRAFT, &name).map_err(OpenError::io("replace", &name))
}
