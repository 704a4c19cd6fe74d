//! The log: a machine without threads.

use std::sync::Arc;

use crate::batch::Batch;
use crate::disk::Disk;
use crate::error::{Failure, NotRetired, OpenError, ReadError, Refused};
use crate::options::Options;
use crate::position::{Position, Ticket};

pub(crate) mod names;
pub(crate) mod read;
pub(crate) mod recovery;
pub(crate) mod scan;
pub(crate) mod table;
pub(crate) mod tail;
pub(crate) mod writer;

pub use self::read::Ahead;
pub use self::recovery::{Recovered, Replay};
pub use self::scan::Entry;
pub use self::table::SegmentInfo;
use self::tail::{Image, Tail};
use self::writer::{NotAllocated, Writer};

/// A segmented log of records in one directory, driven by calls.
///
/// ```
/// use std::sync::Arc;
///
/// use longshore_storage::{Batch, Entry, Log, Options, SimulatedDisk};
///
/// let disk = Arc::new(SimulatedDisk::new(1));
/// let (mut log, _) = Log::open(disk.clone(), &Options::default(), &mut |_: Entry<'_>| {})?;
/// let mut batch = Batch::new();
/// batch.push(1, b"one");
/// batch.push(2, b"two");
/// let ticket = log.append(&mut batch)?;
/// assert!(log.commit()? >= ticket);
///
/// let mut body = Vec::new();
/// assert_eq!(log.read(batch.spans()[1].start, &mut body)?, 2);
/// assert_eq!(body, b"two");
/// drop(log);
///
/// let mut found = Vec::new();
/// let mut replay = |entry: Entry<'_>| found.push(entry.body.to_vec());
/// Log::open(disk, &Options::default(), &mut replay)?;
/// assert_eq!(found, [b"one", b"two"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Log {
    pub(crate) tail: Tail,
    pub(crate) writer: Writer,
    durable: Ticket,
    /// An image to be filled next.
    spare: Image,
}

impl Log {
    /// Opens the log of a directory, or begins one in an empty directory, and replays all records
    /// from the oldest on. Memory is taken for the largest record and one segment at most.
    ///
    /// A tail that was torn by a crash is cut without a word; all that was called durable is
    /// before it.
    ///
    /// # Errors
    /// [`OpenError::Lock`] when another process has it open; [`OpenError::Damaged`] when something
    /// that was durable cannot be read, and nothing was changed then;
    /// [`OpenError::Version`]; [`OpenError::Options`]; [`OpenError::Io`].
    pub fn open(
        disk: Arc<dyn Disk>,
        options: &Options,
        replay: &mut dyn Replay,
    ) -> Result<(Self, Recovered), OpenError> {
        let lock = disk.lock().map_err(OpenError::Lock)?;
        let (tail, writer, recovered) = recovery::recover(disk, options, lock, replay)?;
        let durable = Ticket::up_to(tail.at());
        Ok((Self { tail, writer, durable, spare: Image::default() }, recovered))
    }

    /// Appends all records of `batch`, or none, and says where in [`Batch::spans`]. They are
    /// durable once the ticket is. Nothing is written yet.
    ///
    /// # Errors
    /// [`Refused`], with nothing changed; what waits behind it may be tried.
    #[inline]
    pub fn append(&mut self, batch: &mut Batch) -> Result<Ticket, Refused> {
        self.tail.append(batch)
    }

    /// Writes what was appended, as the [level](crate::Level) asks for, and says up to which
    /// ticket everything is durable. Then allocates a segment if none is ahead.
    ///
    /// # Errors
    /// [`Failure`], now and for ever after.
    pub fn commit(&mut self) -> Result<Ticket, Failure> {
        if self.tail.is_due() {
            let is_synced = self.tail.syncs();
            self.write(is_synced)?;
        }
        self.allocate()?;
        if self.tail.promises_nothing() && self.tail.failure.is_none() {
            self.durable = Ticket::up_to(self.tail.at());
        }
        Ok(self.durable)
    }

    /// Brings everything that was appended to the medium, whatever the level.
    ///
    /// # Errors
    /// [`Failure`], now and for ever after.
    pub fn flush(&mut self) -> Result<Ticket, Failure> {
        self.write(true)?;
        self.allocate()?;
        Ok(self.durable)
    }

    /// Ends the log cleanly: everything is on the medium, and from then on known to be.
    ///
    /// # Errors
    /// [`Failure`] when something could not be written.
    pub fn close(mut self) -> Result<(), Failure> {
        self.flush()?;
        let last = self.tail.last_barrier();
        self.writer.write(&last)?;
        self.writer.sync()
    }

    fn write(&mut self, is_synced: bool) -> Result<(), Failure> {
        let mut image = self.tail.close(std::mem::take(&mut self.spare), is_synced);
        let mut written = self.writer.write(&image);
        if is_synced {
            written = written.and_then(|()| self.writer.sync());
        }
        if let Err(failure) = written {
            self.tail.failure = Some(failure.clone());
            return Err(failure);
        }
        if let Some(end) = image.end {
            self.durable = Ticket::up_to(end);
        }
        image.clear();
        self.spare = image;
        Ok(())
    }

    /// Allocates what the tail needs; a full disk is noted, and tried again at the next commit.
    fn allocate(&mut self) -> Result<(), Failure> {
        while self.tail.needs_segment() {
            match self.writer.allocate() {
                Ok(header) => {
                    self.tail.add_following(header);
                    self.tail.shortage = None;
                }
                Err(NotAllocated::Yet(error)) => {
                    self.tail.shortage = Some(Arc::new(error));
                    return Ok(());
                }
                Err(NotAllocated::Failed(failure)) => {
                    self.tail.failure = Some(failure.clone());
                    return Err(failure);
                }
            }
        }
        Ok(())
    }

    /// Appends the body of the record that begins at `position` to `body`, and gives its kind. It
    /// need not be written yet.
    ///
    /// # Errors
    /// [`ReadError`]; `body` is as it was then.
    pub fn read(&self, position: Position, body: &mut Vec<u8>) -> Result<u8, ReadError> {
        read::read(&self.writer.table, [self.tail.pending()], position, body)
    }

    /// Takes back a segment that holds nothing any more that is needed; nor does anything in it
    /// cancel what an older segment holds. Its file becomes the next segment or goes. On return it
    /// is gone for good.
    ///
    /// # Errors
    /// [`NotRetired`]: it is written to, or not there; or the disk is full or has failed.
    pub fn retire(&mut self, segment: u32) -> Result<(), NotRetired> {
        let retired = self.writer.retire(segment);
        self.tail.failure.clone_from(&self.writer.failure);
        retired
    }

    /// All segments, oldest first, the one allocated ahead included.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        self.writer.table.list()
    }

    /// The segment that is written to. All before it are full, and can be retired.
    #[must_use]
    pub fn current(&self) -> u32 {
        self.writer.current()
    }

    /// Up to which ticket everything is durable.
    #[must_use]
    pub fn durable(&self) -> Ticket {
        self.durable
    }

    /// Bytes that wait to be written.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.tail.pending().bytes.len()
    }

    /// Why nothing new is taken, if a segment could not be allocated.
    #[must_use]
    pub fn shortage(&self) -> Option<&std::io::Error> {
        self.tail.shortage.as_deref()
    }
}
