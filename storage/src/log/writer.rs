//! The log's side of the disk: writes what the tail laid out, allocates segments ahead, and takes
//! back those that are retired.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::names;
use super::table::{Segment, Table};
use super::tail::Image;
use crate::disk::{DirectoryLock, Disk, DiskFile};
use crate::error::{Failure, NotRetired};
use crate::format::SegmentHeader;
use crate::options::Options;

/// The log's side of the disk. See the module.
#[derive(Debug)]
pub(crate) struct Writer {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) table: Arc<Table>,
    segment_bytes: u32,
    spares_max: usize,
    seed: u64,
    /// The segment that is written to.
    current: u32,
    /// Whether it was written to since the last sync.
    is_dirty: bool,
    /// The number that was given out last.
    newest: u32,
    /// Stubs that are there.
    retired: BTreeSet<u32>,
    /// Files that can be made segments, and their names.
    spares: VecDeque<(String, Arc<dyn DiskFile>)>,
    pub(crate) failure: Option<Failure>,
    /// As long as it is here no other process writes.
    _lock: DirectoryLock,
}

/// Why no segment was allocated.
#[derive(Debug)]
pub(crate) enum NotAllocated {
    /// Nothing was lost: it can be tried again.
    Yet(io::Error),
    Failed(Failure),
}

impl Writer {
    /// A writer in a directory that this process holds by `lock`.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        table: Arc<Table>,
        options: &Options,
        lock: DirectoryLock,
    ) -> Self {
        Self {
            disk,
            table,
            segment_bytes: options.segment_bytes,
            spares_max: options.spares_max,
            seed: options.seed,
            current: 0,
            is_dirty: false,
            newest: 0,
            retired: BTreeSet::new(),
            spares: VecDeque::new(),
            failure: None,
            _lock: lock,
        }
    }

    /// Says which number was given out last, and which stubs are there.
    pub(crate) fn resume(&mut self, newest: u32, retired: BTreeSet<u32>) {
        self.newest = newest;
        self.retired = retired;
    }

    /// Says which segment the log goes on in.
    pub(crate) fn resume_at(&mut self, current: u32) {
        self.current = current;
    }

    /// The segment that is written to.
    pub(crate) fn current(&self) -> u32 {
        self.current
    }

    /// Writes `image`. Segments that it completes are synced before the next one is written to.
    pub(crate) fn write(&mut self, image: &Image) -> Result<(), Failure> {
        self.check()?;
        for (at, bytes) in image.pieces().filter(|(_, bytes)| !bytes.is_empty()) {
            if at.segment != self.current {
                self.sync()?;
                self.current = at.segment;
            }
            let segment = self.table.get(at.segment).expect("segments are allocated ahead");
            let written = segment.file.write_at(bytes, u64::from(at.offset));
            self.note(written.map_err(|error| self.failed("write", at.segment, error)))?;
            self.is_dirty = true;
        }
        Ok(())
    }

    /// Brings all that was written to the medium.
    pub(crate) fn sync(&mut self) -> Result<(), Failure> {
        self.check()?;
        if self.is_dirty {
            let segment = self.table.get(self.current).expect("the current segment stays");
            let synced = segment.file.sync();
            self.note(synced.map_err(|error| self.failed("sync", self.current, error)))?;
            self.is_dirty = false;
        }
        Ok(())
    }

    /// Makes the next segment, so that it is there for good before it is written to.
    pub(crate) fn allocate(&mut self) -> Result<SegmentHeader, NotAllocated> {
        self.check().map_err(NotAllocated::Failed)?;
        let number = self.newest + 1;
        let header = SegmentHeader { number, bytes: self.segment_bytes, salt: self.salt(number) };
        let (name, file) = match self.spares.pop_front() {
            Some(spare) => spare,
            None => {
                let bytes = u64::from(self.segment_bytes);
                let file = self.disk.create(names::DRAFT, bytes).map_err(NotAllocated::Yet)?;
                (names::DRAFT.to_owned(), file)
            }
        };
        let written = file.write_at(&header.encode(), 0).and_then(|()| file.sync());
        self.note(written.map_err(|error| Failure::new("write", &name, error)))
            .map_err(NotAllocated::Failed)?;
        match self.disk.rename(&name, &names::segment(number)) {
            Err(error) if is_full(&error) => {
                self.spares.push_front((name, file));
                return Err(NotAllocated::Yet(error));
            }
            renamed => self
                .note(renamed.map_err(|error| Failure::new("rename", &name, error)))
                .map_err(NotAllocated::Failed)?,
        }
        self.sync_names().map_err(NotAllocated::Failed)?;
        self.newest = number;
        self.table.insert(Segment { header, file, restarts: Vec::new() });
        Ok(header)
    }

    /// Takes back a full segment: its file becomes a spare, or goes.
    pub(crate) fn retire(&mut self, number: u32) -> Result<(), NotRetired> {
        self.check().map_err(NotRetired::Failed)?;
        if number >= self.current || self.table.get(number).is_none() {
            return Err(NotRetired::NotFull);
        }
        self.retire_full(number).map_err(|error| match error {
            NotAllocated::Yet(error) => NotRetired::NotYet(Arc::new(error)),
            NotAllocated::Failed(failure) => NotRetired::Failed(failure),
        })
    }

    fn retire_full(&mut self, number: u32) -> Result<(), NotAllocated> {
        // Between others it would be missed: then a stub says first, and for good, that it went.
        let is_oldest = self.table.oldest() == Some(number);
        if !is_oldest && !self.retired.contains(&number) {
            let stub = names::retired(number);
            self.disk.create(&stub, 0).map_err(NotAllocated::Yet)?;
            self.sync_names().map_err(NotAllocated::Failed)?;
            self.retired.insert(number);
        }
        let Some(segment) = self.table.remove(number) else { return Ok(()) };
        let name = names::segment(number);
        let is_kept =
            self.spares.len() < self.spares_max && segment.header.bytes == self.segment_bytes;
        let gone = if is_kept {
            let spare = names::spare(number);
            let renamed = self.disk.rename(&name, &spare);
            self.spares.push_back((spare, Arc::clone(&segment.file)));
            renamed
        } else {
            self.disk.remove(&name)
        };
        self.note(gone.map_err(|error| Failure::new("retire", &name, error)))
            .map_err(NotAllocated::Failed)?;
        // It must be gone before what it was needed for goes, and before its file is used again.
        self.sync_names().map_err(NotAllocated::Failed)?;
        self.forget_stubs();
        Ok(())
    }

    /// Removes stubs before the oldest segment. One that stays does no harm.
    pub(crate) fn forget_stubs(&mut self) {
        let oldest = self.table.oldest().unwrap_or(0);
        let kept = self.retired.split_off(&oldest);
        for number in std::mem::replace(&mut self.retired, kept) {
            let _ = self.disk.remove(&names::retired(number));
        }
    }

    /// Removes files that nothing needs.
    pub(crate) fn remove(&self, names: &[String]) -> Result<(), Failure> {
        for name in names {
            self.disk.remove(name).map_err(|error| Failure::new("remove", name, error))?;
        }
        if names.is_empty() {
            return Ok(());
        }
        self.disk.sync().map_err(|error| Failure::new("sync", "the directory", error))
    }

    /// The salt of a segment: what a client would have to guess.
    pub(crate) fn salt(&self, number: u32) -> u32 {
        let mut mixed = self.seed ^ u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as u32
    }

    fn sync_names(&mut self) -> Result<(), Failure> {
        let synced = self.disk.sync();
        self.note(synced.map_err(|error| Failure::new("sync", "the directory", error)))
    }

    fn failed(&self, doing: &'static str, segment: u32, error: io::Error) -> Failure {
        Failure::new(doing, &names::segment(segment), error)
    }

    fn check(&self) -> Result<(), Failure> {
        self.failure.clone().map_or(Ok(()), Err)
    }

    /// Keeps a failure for ever.
    fn note(&mut self, result: Result<(), Failure>) -> Result<(), Failure> {
        if let Err(failure) = &result {
            self.failure = Some(failure.clone());
        }
        result
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}
