//! The journal of a running broker: opened, replayed, and shared by the drivers of all shards.

use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use longshore_storage::{
    Batch, Committer, Disk, DiskFile, Event, Failure, Level, Log, OpenError, Options, Refused,
    SegmentInfo, SystemDisk, Ticket,
};
use tracing::{error, info, warn};

use crate::commons::Commons;
use crate::journal::{ReadRecords, Taking};
use crate::net::mailbox::Mailboxes;
use crate::recovery::Recovery;
use crate::shard::Config;
use crate::stats::Counter;

mod rounds;

use self::rounds::Rounds;
pub(crate) use self::rounds::{LIVE_MICROS, RoundEnd};

/// Where a broker remembers, and how well.
///
/// Take [`Storage::at`] and change what you need.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Storage {
    /// The directory, which is made if it is not there. One broker at a time uses it.
    pub directory: PathBuf,
    /// What an acknowledgement promises. Default [`Level::Power`].
    pub level: Level,
    /// Bytes of a file of the journal, 4 KiB to 1 GiB in steps of 512. Default 64 MiB.
    pub segment_bytes: u32,
    /// Seconds that wills wait at least after a start, so that clients have time to come back: a
    /// restart must not make a whole fleet look dead. Default 30.
    pub will_restart_grace_secs: u64,
}

impl Storage {
    /// Storage in this directory, which survives a cut of the power.
    #[must_use]
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        let Options { level, segment_bytes, .. } = Options::default();
        let directory = directory.into();
        Self { directory, level, segment_bytes, will_restart_grace_secs: 30 }
    }
}

/// The journal at work. See the module.
#[derive(Debug)]
pub(crate) struct Store {
    disk: Arc<dyn Disk>,
    committer: Committer,
    status: Arc<Status>,
    commons: Arc<Commons>,
    rounds: Rounds,
    segment_bytes: u32,
}

/// What the committing thread tells the shards.
#[derive(Debug)]
pub(crate) struct Status {
    taking: AtomicU8,
    /// Shards with something that waits to be durable.
    awaiting: Box<[AtomicBool]>,
    /// What lives in each shard, as it was said last while the disk is full.
    live: Box<[Live]>,
    /// Rounds of compaction that have begun.
    rounds: AtomicU64,
    /// Whether one is through and waits for the disk.
    retiring: AtomicBool,
    /// Commits that were written, counted by the committing thread.
    commits_total: Counter,
}

/// What the journal is like at this moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Figures {
    pub(crate) taking: Taking,
    /// Segments with records in them: those allocated ahead do not count.
    pub(crate) segments: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
    /// Bytes that wait to be written.
    pub(crate) pending_bytes: u64,
    pub(crate) commits_total: u64,
    /// Rounds of compaction that are complete.
    pub(crate) compactions_total: u64,
}

/// Bytes that live in a shard, and when that was said; 0 for never.
#[derive(Debug, Default)]
struct Live {
    bytes: AtomicU64,
    at: AtomicU64,
}

impl Status {
    /// Of a journal for so many shards.
    fn new(shards: usize) -> Self {
        let awaiting = (0..shards).map(|_| AtomicBool::new(false)).collect();
        let (rounds, retiring) = (AtomicU64::new(0), AtomicBool::new(false));
        let (taking, commits_total) = (AtomicU8::new(0), Counter::default());
        let live = (0..shards).map(|_| Live::default()).collect();
        Self { taking, awaiting, live, rounds, retiring, commits_total }
    }

    fn shards(&self) -> usize {
        self.awaiting.len()
    }

    fn rounds(&self) -> u64 {
        self.rounds.load(Ordering::Acquire)
    }

    fn set_rounds(&self, rounds: u64) {
        self.rounds.store(rounds, Ordering::Release);
    }

    fn is_retiring(&self) -> bool {
        self.retiring.load(Ordering::Acquire)
    }

    fn set_retiring(&self, retiring: bool) {
        self.retiring.store(retiring, Ordering::Release);
    }

    /// Whether new work is taken.
    pub(crate) fn taking(&self) -> Taking {
        match self.taking.load(Ordering::Acquire) {
            0 => Taking::All,
            1 => Taking::Relief,
            _ => Taking::Nothing,
        }
    }

    fn set_taking(&self, taking: Taking) {
        // What has failed stays so.
        self.taking.fetch_max(taking as u8, Ordering::AcqRel);
    }

    fn set_room(&self) {
        let full = Taking::Relief as u8;
        let _ = self.taking.compare_exchange(full, 0, Ordering::AcqRel, Ordering::Acquire);
    }
}

/// Bytes of a journal from which the log tells how far its replay is.
const LONG_REPLAY: u64 = 256 << 20;

/// A replay, and how much of it the log has been told, in tenths.
struct Told {
    recovery: Recovery,
    tenths: u64,
}

impl longshore_storage::Replay for Told {
    fn record(&mut self, entry: longshore_storage::Entry<'_>) {
        self.recovery.record(entry);
    }

    fn progress(&mut self, bytes: u64, of_bytes: u64) {
        let tenths = bytes.saturating_mul(10) / of_bytes.max(1);
        if of_bytes >= LONG_REPLAY && tenths > self.tenths {
            self.tenths = tenths;
            info!(percent = 10 * tenths, of_mib = of_bytes >> 20, "reading the journal");
        }
    }
}

/// A journal that is open, for this process alone, and replayed.
pub(crate) struct Opened {
    disk: Arc<dyn Disk>,
    log: Log,
    recovery: Recovery,
    storage: Storage,
}

impl Store {
    /// Opens the journal in the directory, as [`Store::open_on`] does.
    pub(crate) fn open(storage: &Storage) -> Result<Opened, StoreError> {
        let failed = |error| StoreError::Io { directory: storage.directory.clone(), error };
        // Messages are nobody's business but the broker's.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&storage.directory);
        made.map_err(failed)?;
        let disk = SystemDisk::open(&storage.directory).map_err(failed)?;
        Self::open_on(Arc::new(disk), storage)
    }

    /// Opens the journal on a disk, and reads what it holds.
    pub(crate) fn open_on(disk: Arc<dyn Disk>, storage: &Storage) -> Result<Opened, StoreError> {
        let mut options = Options::default();
        options.level = storage.level;
        options.segment_bytes = storage.segment_bytes;
        let mut told = Told { recovery: Recovery::new(), tenths: 0 };
        let opened = Log::open(Arc::clone(&disk), &options, &mut told);
        let (log, recovered) = opened
            .map_err(|error| StoreError::Open { directory: storage.directory.clone(), error })?;
        if let Some(position) = told.recovery.unreadable() {
            let directory = storage.directory.clone();
            return Err(StoreError::Later { directory, position });
        }
        info!(records = recovered.records, bytes = recovered.bytes, "journal open");
        Ok(Opened { disk, log, recovery: told.recovery, storage: storage.clone() })
    }
}

impl Opened {
    /// Drops what the journal holds of accounts that are gone.
    pub(crate) fn retain_accounts(&mut self, exists: impl Fn(u64) -> bool) {
        let (sessions, retained) = self.recovery.retain_accounts(exists);
        if sessions + retained > 0 {
            info!(sessions, retained, "accounts are gone, and what the journal had of them");
        }
    }

    /// Gives what the journal holds to the shards that are to be made with `configs`, and starts
    /// the committing thread.
    pub(crate) fn begin(
        mut self,
        configs: &mut [Config],
        mailboxes: &Mailboxes,
    ) -> Result<Arc<Store>, StoreError> {
        let failed = |error| StoreError::Io { directory: self.storage.directory.clone(), error };
        let status = Arc::new(Status::new(configs.len()));
        if let Some(cause) = self.log.shortage() {
            status.set_taking(Taking::Relief);
            warn!(%cause, "the disk is full: new durable work is refused");
        }
        let committer =
            Committer::start(self.log, Store::listener(&status, mailboxes)).map_err(failed)?;
        let commons = Arc::clone(&configs.first().expect("a broker has a shard").commons);
        let rounds = Rounds::new(self.recovery.live_bytes());
        let Storage { segment_bytes, will_restart_grace_secs, .. } = self.storage;
        let disk = self.disk;
        let store = Arc::new(Store { disk, committer, status, commons, rounds, segment_bytes });
        let reader: Arc<dyn ReadRecords> = Arc::clone(&store) as Arc<dyn ReadRecords>;
        self.recovery.apply(configs, &reader, will_restart_grace_secs);
        Ok(store)
    }
}

impl Store {
    /// What the committing thread does with its news.
    fn listener(status: &Arc<Status>, mailboxes: &Mailboxes) -> impl Fn(Event) + Send + 'static {
        let (status, mailboxes) = (Arc::clone(status), Arc::clone(mailboxes));
        move |event| {
            match event {
                Event::Durable(_) => {
                    status.commits_total.add(1);
                    for (awaits, mailbox) in status.awaiting.iter().zip(&*mailboxes) {
                        if awaits.swap(false, Ordering::SeqCst) {
                            mailbox.wake();
                        }
                    }
                    return;
                }
                Event::Room if status.taking() == Taking::Relief => {
                    status.set_room();
                    info!("the disk has room again: new durable work is taken");
                }
                Event::Full(cause) => {
                    status.set_taking(Taking::Relief);
                    warn!(%cause, "the disk is full: new durable work is refused");
                }
                Event::Failed(failure) => {
                    status.set_taking(Taking::Nothing);
                    error!(cause = %failure, "the disk has failed: nothing is acknowledged that \
                        was to be durable; mend it and start the broker again");
                }
                _ => {}
            }
            mailboxes.iter().for_each(|mailbox| mailbox.wake());
        }
    }

    pub(crate) fn status(&self) -> &Arc<Status> {
        &self.status
    }

    /// Appends a batch; see [`Committer::append`].
    pub(crate) fn append(&self, batch: &mut Batch) -> Result<Ticket, Refused> {
        self.committer.append(batch)
    }

    /// Up to which ticket everything is durable, for this shard, which is woken when it is more if
    /// it waits for that.
    pub(crate) fn durable(&self, shard: usize, waits: bool) -> Ticket {
        if waits {
            // Before the look: news that come between the two wake it.
            self.status.awaiting[shard].store(true, Ordering::SeqCst);
        }
        self.committer.durable()
    }

    /// Bytes that wait to be written.
    pub(crate) fn pending_bytes(&self) -> usize {
        self.committer.pending_bytes()
    }

    /// Segments that have records in them.
    fn used(&self) -> impl Iterator<Item = SegmentInfo> {
        let current = self.committer.current();
        self.committer.segments().into_iter().filter(move |it| it.number <= current)
    }

    pub(crate) fn figures(&self) -> Figures {
        let sizes = self.used().map(|it| u64::from(it.bytes));
        let (segments, bytes) = sizes.fold((0, 0), |(count, sum), it| (count + 1, sum + it));
        Figures {
            taking: self.status.taking(),
            segments,
            bytes,
            pending_bytes: self.pending_bytes() as u64,
            commits_total: self.status.commits_total.get(),
            compactions_total: self.rounds.completed(),
        }
    }

    /// Writes everything, and ends the thread.
    pub(crate) fn stop(&self) -> Result<(), Failure> {
        self.committer.stop()
    }
}

/// The name of a file that has none once it is open.
const SPARE_FILE: &str = "spare";

impl ReadRecords for Store {
    fn read(
        &self,
        position: longshore_storage::Position,
        ahead: &mut longshore_storage::Ahead,
        body: &mut Vec<u8>,
    ) -> Result<(), longshore_storage::ReadError> {
        self.committer.read_ahead(position, ahead, body).map(drop)
    }

    fn spare_file(&self) -> Option<Arc<dyn DiskFile>> {
        // One may be left of a process that ended between these two.
        let _ = self.disk.remove(SPARE_FILE);
        let file = self.disk.create(SPARE_FILE, 0);
        let made = file.and_then(|file| self.disk.remove(SPARE_FILE).map(|()| file));
        if let Err(cause) = &made {
            warn!(%cause, "no file for what waits: all references stay in memory");
        }
        made.ok()
    }
}

/// Why a broker's storage could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum StoreError {
    /// The directory cannot be made or opened.
    Io {
        /// Which.
        directory: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The journal cannot be opened.
    Open {
        /// Where it is.
        directory: PathBuf,
        /// Why.
        error: OpenError,
    },
    /// The journal has a record that this version does not know.
    Later {
        /// Where it is.
        directory: PathBuf,
        /// Where the record stands.
        position: longshore_storage::Position,
    },
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { directory, error } => {
                write!(f, "{} cannot be used: {error}", directory.display())
            }
            Self::Open { directory, error } => write!(f, "{}: {error}", directory.display()),
            Self::Later { directory, position } => write!(
                f,
                "{}: the record at {position} was written by a later version of Longshore",
                directory.display()
            ),
        }
    }
}

impl std::error::Error for StoreError {}
