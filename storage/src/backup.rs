//! Copies a log to another directory, while whoever has it open goes on.
//!
//! Nothing is asked of the one that writes, nor is anything locked that it needs. What makes that
//! sound:
//!
//! - The copy is of a set of segments that were there together, and of the log up to one point
//!   that it reached later. What was retired before then is left out: it was not needed, and what
//!   it was moved to lies before that point. What is retired later is kept, and so is all that may
//!   cancel it.
//! - A listing is no moment, for names come and go while it is read. Two that are equal are: no
//!   name of a segment ever comes back, so all that is in both was there between them.
//! - Segments are copied oldest first, and judged in the copy. One that is sound to its end is
//!   whole, whatever has become of its file since. The first one that is not is where the copy
//!   ends: what lies behind was written in the meantime.
//! - Unless something behind says that it had been whole. Then it is read again, since it was
//!   written before that was; and if it still is not sound, it is damaged, and nothing is copied.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

use crate::check::{Report, verify};
use crate::disk::{Disk, DiskFile, LOCK_FILE, copy_bytes};
use crate::error::{BackupError, Damage, Flaw, OpenError};
use crate::format::SegmentHeader;
use crate::log::names::{self, Listing};
use crate::log::recovery::{is_written, open_segment};
use crate::log::scan::{Found, Scan};
use crate::log::table::Segment;
use crate::options::Options;
use crate::position::{Position, Ticket};

/// Times that the directory is listed until it stands still.
const LISTINGS_MAX: usize = 1000;

/// Times that it is begun again because a segment went before it was copied. What is copied stays.
const ROUNDS_MAX: usize = 1000;

/// Bytes of zeros that are written at once.
const ZEROS: usize = 1 << 20;

/// What the files of the copy are, where an error names one.
const WRITE: &str = "write the copy of";

/// Copies the log in `from` to the empty directory `to`, and says what the copy holds: all that
/// was durable before, and of what is appended meanwhile all up to some point. No lock is needed
/// in `from`, and its log may be open, in this process or another one. The copy is verified, and
/// on the medium on return.
///
/// Until then `to` may look like a log and yet lack its end: give it a name that says so.
///
/// `progress` is called after each step, with the number of those done and of all.
///
/// # Errors
/// [`BackupError`]; remove what is in `to` then.
pub fn backup(
    from: &Arc<dyn Disk>,
    to: &Arc<dyn Disk>,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<Report, BackupError> {
    copy(from, to, None, progress)
}

/// Does what [`backup`] does, and ends the copy with the batch of this ticket, whatever is appended
/// after it. It is for the process that has the log open, when something else is to be copied as
/// it was at the same point. That process sees to it that the ticket's batch is
/// [written](crate::Committer::flush), and retires nothing between the ticket and the return.
///
/// # Errors
/// [`BackupError::NotReached`] when the batch is not written; those of [`backup`].
pub fn backup_until(
    from: &Arc<dyn Disk>,
    to: &Arc<dyn Disk>,
    last: Ticket,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<Report, BackupError> {
    copy(from, to, Some(Position::from_u64(last.to_u64())), progress)
}

fn copy(
    from: &Arc<dyn Disk>,
    to: &Arc<dyn Disk>,
    until: Option<Position>,
    progress: &mut dyn FnMut(u32, u32),
) -> Result<Report, BackupError> {
    let lock = to.lock().map_err(OpenError::Lock)?;
    let names = to.list().map_err(OpenError::io("list", "the directory of the copy"))?;
    if names.iter().any(|name| name != LOCK_FILE) {
        return Err(BackupError::NotEmpty);
    }
    let mut copy = Copy { from: &**from, to: &**to, until, whole: BTreeSet::new() };
    let count = copy.run(progress)?;
    drop(lock);
    // Each segment is a step in the one, and one in the other.
    let report = verify(to, &mut |done, of| progress(count + done, count + of))?;
    match report.losses.first() {
        Some(loss) => Err(OpenError::Damaged(loss.damage.clone()).into()),
        None if until.is_some() && report.end < until => Err(BackupError::NotReached),
        None => Ok(report),
    }
}

struct Copy<'a> {
    from: &'a dyn Disk,
    to: &'a dyn Disk,
    /// Where the copy is to end, if that was asked for.
    until: Option<Position>,
    /// Segments that are copied to their end.
    whole: BTreeSet<u32>,
}

/// What became of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Copied {
    Whole,
    /// It is written to. The log ends in the copy.
    Last,
    /// It was retired.
    Gone,
}

impl Copy<'_> {
    /// Copies, and says how many segments.
    fn run(&mut self, progress: &mut dyn FnMut(u32, u32)) -> Result<u32, BackupError> {
        for _ in 0..ROUNDS_MAX {
            let listing = self.listing()?;
            if let Some(last) = self.round(&listing, progress)? {
                self.finish(&listing, last)?;
                return Ok(listing.segments.range(..=last).count() as u32);
            }
        }
        Err(BackupError::Unsteady)
    }

    /// What was there at one moment.
    fn listing(&self) -> Result<Listing, BackupError> {
        let read = || Listing::read(self.from).map_err(OpenError::io("list", "the directory"));
        let mut before = read()?;
        for _ in 0..LISTINGS_MAX {
            let now = read()?;
            if (&now.segments, &now.retired) == (&before.segments, &before.retired) {
                let missing = now.missing().next();
                let missing = missing.map(|number| damage(number, 0, Flaw::Missing).into());
                return missing.map_or(Ok(now), Err);
            }
            before = now;
        }
        Err(BackupError::Unsteady)
    }

    /// Copies what is not copied yet, and says in which segment the log ends; `None` when one went
    /// before it was copied, 0 when there is none.
    fn round(
        &mut self,
        listing: &Listing,
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Option<u32>, OpenError> {
        let of = 2 * listing.segments.len() as u32;
        let mut last = 0;
        for (at, &number) in listing.segments.iter().enumerate() {
            if self.until.is_some_and(|until| number > until.segment) {
                break;
            }
            last = number;
            if !self.whole.contains(&number) {
                match self.copy(number)? {
                    Copied::Whole => drop(self.whole.insert(number)),
                    Copied::Last => return Ok(Some(number)),
                    Copied::Gone => return Ok(None),
                }
            }
            progress(at as u32 + 1, of);
        }
        Ok(Some(last))
    }

    fn copy(&self, number: u32) -> Result<Copied, OpenError> {
        let Some(source) = self.open(number)? else { return Ok(Copied::Gone) };
        let bytes = source.header.bytes;
        let name = names::segment(number);
        let file = self.to.create(&name, u64::from(bytes)).map_err(OpenError::io(WRITE, &name))?;
        copy_bytes(&*source.file, &*file, 0..bytes).map_err(OpenError::io("copy", &name))?;
        let copied = open_segment(self.to, number).and_then(|copy| self.judge(&source, &copy));
        match copied {
            // Its file was used again while it was read.
            Ok(Copied::Last) | Err(OpenError::Damaged(_)) if !self.is_there(number)? => {
                Ok(Copied::Gone)
            }
            copied => {
                file.sync().map_err(OpenError::io("sync the copy of", &name))?;
                copied
            }
        }
    }

    /// Walks through a copy, and lets the log end where nothing sound comes any more.
    fn judge(&self, source: &Segment, copy: &Segment) -> Result<Copied, OpenError> {
        let SegmentHeader { number, bytes, .. } = copy.header;
        let name = names::segment(number);
        let mut scan = Scan::new(&*copy.file, copy.header, Vec::new());
        let mut looked_again_at = None;
        loop {
            let at = scan.offset();
            let is_cut = self.until == Some(Position { segment: number, offset: at });
            let found = scan.next().map_err(OpenError::io("read the copy of", &name))?;
            let unsound = match found {
                Found::Full => return Ok(Copied::Whole),
                Found::Fragment(_) if !is_cut => continue,
                Found::Unsound(unsound) if !is_cut => unsound,
                _ => return end_at(copy, at),
            };
            if !self.goes_on(&scan, number)? {
                return end_at(copy, at);
            }
            if looked_again_at == Some(at) {
                return Err(damage(number, at, Flaw::Record(unsound)));
            }
            looked_again_at = Some(at);
            let copied = copy_bytes(&*source.file, &*copy.file, at..bytes);
            copied.map_err(OpenError::io("copy", &name))?;
            scan.look_again();
        }
    }

    /// Whether anything says that the log went on after the place where `scan` stands.
    fn goes_on(&self, scan: &Scan<'_>, number: u32) -> Result<bool, OpenError> {
        let name = names::segment(number);
        let barrier = scan.clone().find_barrier(u32::MAX);
        if barrier.map_err(OpenError::io("read the copy of", &name))?.is_some() {
            return Ok(true);
        }
        let listing = Listing::read(self.from).map_err(OpenError::io("list", "the directory"))?;
        if listing.retired.iter().any(|it| *it > number) {
            return Ok(true);
        }
        for later in listing.segments.range(number + 1..) {
            // Only a full one is ever retired.
            let Some(segment) = self.open(*later)? else { return Ok(true) };
            if is_written(&[segment])? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The segment of this number, unless it was retired.
    fn open(&self, number: u32) -> Result<Option<Segment>, OpenError> {
        let opened = open_segment(self.from, number);
        let may_be_gone = match &opened {
            Err(OpenError::Io { error, .. }) => error.kind() == ErrorKind::NotFound,
            Err(OpenError::Damaged(_)) => true,
            _ => false,
        };
        if may_be_gone && !self.is_there(number)? { Ok(None) } else { opened.map(Some) }
    }

    fn is_there(&self, number: u32) -> Result<bool, OpenError> {
        let listing = Listing::read(self.from).map_err(OpenError::io("list", "the directory"))?;
        Ok(listing.segments.contains(&number))
    }

    /// Makes the segment after `last`, with nothing in it.
    fn allocate(&self, last: u32) -> Result<(), OpenError> {
        let Segment { header, .. } = open_segment(self.to, last)?;
        let number = last + 1;
        let header = SegmentHeader { number, salt: Options::default().seed as u32, ..header };
        let name = names::segment(number);
        let made = self.to.create(&name, u64::from(header.bytes)).and_then(|file| {
            file.write_at(&header.encode(), 0)?;
            file.sync()
        });
        made.map_err(OpenError::io("create", &name))
    }

    /// Leaves in the copy what belongs together: the segments of `listing` up to `last`, and what
    /// says that others between them are retired.
    fn finish(&self, listing: &Listing, last: u32) -> Result<(), OpenError> {
        let (segments, retired) = (&listing.segments, &listing.retired);
        let copies = Listing::read(self.to);
        let copies = copies.map_err(OpenError::io("list", "the directory of the copy"))?;
        for number in copies.segments.difference(segments) {
            let name = names::segment(*number);
            self.to.remove(&name).map_err(OpenError::io("remove the copy of", &name))?;
        }
        let first = segments.first().copied().unwrap_or(last);
        for number in retired.range(first..last) {
            let stub = names::retired(*number);
            self.to.create(&stub, 0).map_err(OpenError::io("create", &stub))?;
        }
        if self.whole.contains(&last) {
            // A record may go on after it, and where the next segment is, it is known to end.
            self.allocate(last)?;
        }
        self.to.sync().map_err(OpenError::io("sync", "the directory of the copy"))
    }
}

fn damage(number: u32, offset: u32, flaw: Flaw) -> OpenError {
    OpenError::Damaged(Damage { file: names::segment(number), offset, flaw })
}

/// Takes away what is behind `offset`: there the log ends.
fn end_at(copy: &Segment, offset: u32) -> Result<Copied, OpenError> {
    let SegmentHeader { number, bytes, .. } = copy.header;
    let name = names::segment(number);
    clear(&*copy.file, offset..bytes).map_err(OpenError::io(WRITE, &name))?;
    Ok(Copied::Last)
}

fn clear(file: &dyn DiskFile, range: Range<u32>) -> io::Result<()> {
    let zeros = vec![0; ZEROS.min(range.len())];
    for at in range.clone().step_by(ZEROS) {
        let count = ZEROS.min((range.end - at) as usize);
        file.write_at(&zeros[..count], u64::from(at))?;
    }
    Ok(())
}
