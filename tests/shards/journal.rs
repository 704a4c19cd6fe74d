//! The journal of the shards, written in place instead of by a thread.

use std::io;
use std::sync::{Arc, Mutex};

use longshore_broker::Shard;
use longshore_broker::journal::ReadRecords;
use longshore_broker::recovery::Recovery;
use longshore_broker::shard::Config;
use longshore_storage::{
    Ahead, Batch, Disk, DiskFile, Failure, Log, NotRetired, OpenError, Options, Position,
    ReadError, Refused, SimulatedDisk, Ticket,
};

/// Bytes of a segment: small, so that many records lie in two of them.
const SEGMENT_BYTES: u32 = 16 << 10;

/// Seconds that wills wait after a restart.
pub(crate) const WILL_GRACE_SECS: u64 = 30;

/// A log that is read while it is written.
#[derive(Clone, Debug)]
pub(crate) struct Journal(Arc<Mutex<Log>>);

impl ReadRecords for Journal {
    fn read(&self, position: Position, _: &mut Ahead, body: &mut Vec<u8>) -> Result<(), ReadError> {
        self.0.lock().expect("nobody has panicked").read(position, body).map(drop)
    }

    /// On a disk of its own, for it does not outlive the process.
    fn spare_file(&self) -> Option<Arc<dyn DiskFile>> {
        SimulatedDisk::new(1).create("spare", 0).ok()
    }
}

impl Journal {
    /// Opens the journal on `disk`, and gives what it holds to the shards that are to be made.
    pub(crate) fn open(
        configs: &mut [Config],
        disk: &Arc<SimulatedDisk>,
    ) -> Result<Self, OpenError> {
        let mut options = Options::default();
        options.segment_bytes = SEGMENT_BYTES;
        options.seed = 1;
        let mut recovery = Recovery::new();
        let (log, _) = Log::open(Arc::clone(disk) as _, &options, &mut recovery)?;
        assert_eq!(recovery.unreadable(), None, "all records can be read");
        let journal = Self(Arc::new(Mutex::new(log)));
        let reader: Arc<dyn ReadRecords> = Arc::new(journal.clone());
        recovery.apply(configs, &reader, WILL_GRACE_SECS);
        Ok(journal)
    }

    /// Takes what the shard has written down, if it has; up to where that goes.
    pub(crate) fn append(&mut self, shard: &mut Shard) -> Result<Option<Ticket>, Failure> {
        let Some(batch) = shard.batch() else { return Ok(None) };
        let ticket = self.take(batch)?;
        shard.appended(ticket);
        Ok(Some(ticket))
    }

    /// Takes a batch.
    pub(crate) fn take(&mut self, batch: &mut Batch) -> Result<Ticket, Failure> {
        let mut log = self.0.lock().expect("nobody has panicked");
        for _ in 0..3 {
            match log.append(batch) {
                Ok(ticket) => return Ok(ticket),
                Err(Refused::Failed(failure)) => return Err(failure),
                // There is no room in what is allocated: a commit allocates more.
                Err(_) => drop(log.commit()?),
            }
        }
        let error = Arc::new(io::Error::other("a batch is taken once what waited is written"));
        Err(Failure { doing: "append", file: String::new(), error })
    }

    /// The segment that is written to.
    pub(crate) fn current(&self) -> u32 {
        self.0.lock().expect("nobody has panicked").current()
    }

    /// Retires all segments before `base`; how many.
    pub(crate) fn retire(&mut self, base: u32) -> Result<usize, Failure> {
        let mut log = self.0.lock().expect("nobody has panicked");
        let old: Vec<u32> = log.segments().iter().map(|it| it.number).collect();
        let old: Vec<u32> = old.into_iter().filter(|number| *number < base).collect();
        for number in &old {
            match log.retire(*number) {
                Ok(()) => {}
                Err(NotRetired::Failed(failure)) => return Err(failure),
                // No other segment can be allocated.
                Err(_) => drop(log.commit()?),
            }
        }
        Ok(old.len())
    }

    /// Writes it; up to where everything is durable.
    pub(crate) fn commit(&mut self) -> Result<Ticket, Failure> {
        self.0.lock().expect("nobody has panicked").commit()
    }
}
