//! A journal for shards that are driven directly.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use longshore::shard::Config;
use longshore_broker::journal::ReadRecords;
use longshore_broker::recovery::Recovery;
use longshore_storage::{
    Ahead, Batch, DiskFile, Level, Log, Options, Position, ReadError, SystemDisk, Ticket,
};

use super::Bed;

/// A log that is read while it is written.
#[derive(Debug)]
pub(crate) struct Journal {
    log: Mutex<Log>,
    spare: Arc<dyn DiskFile>,
}

impl ReadRecords for Journal {
    fn read(&self, position: Position, _: &mut Ahead, body: &mut Vec<u8>) -> Result<(), ReadError> {
        self.log().read(position, body).map(drop)
    }

    fn spare_file(&self) -> Option<Arc<dyn DiskFile>> {
        Some(Arc::clone(&self.spare))
    }
}

impl Journal {
    /// Opens the journal in a directory, and gives what it holds to the shard that is to be made.
    pub(crate) fn open(directory: &Path, mut config: Config) -> (Config, Arc<Self>) {
        let mut options = Options::default();
        options.level = Level::Process;
        let disk = SystemDisk::open(directory).expect("a directory");
        let spare = longshore_storage::Disk::create(&disk, "spare", 0).expect("there is room");
        longshore_storage::Disk::remove(&disk, "spare").expect("it is there");
        let mut recovery = Recovery::new();
        let opened = Log::open(Arc::new(disk), &options, &mut recovery);
        let log = Mutex::new(opened.expect("a journal").0);
        let journal = Arc::new(Self { log, spare });
        let reader: Arc<dyn ReadRecords> = Arc::clone(&journal) as _;
        recovery.apply(std::slice::from_mut(&mut config), &reader, 0);
        (config, journal)
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("nobody has panicked")
    }

    /// Writes down what the shard has noted.
    pub(crate) fn commit(&self, bed: &mut Bed) {
        if let Some(batch) = bed.shard.batch() {
            let ticket = self.append(batch);
            bed.shard.appended(ticket);
        }
        let ticket = self.log().commit().expect("the disk works");
        bed.shard.durable(ticket);
    }

    pub(crate) fn append(&self, batch: &mut Batch) -> Ticket {
        self.log().append(batch).expect("there is room")
    }
}

/// Does it, and says how long it took for each of so many.
pub(crate) fn timed<T>(what: &str, count: usize, act: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = act();
    let each = begun.elapsed().as_nanos() / count as u128;
    println!("{what:30} {each:8} ns each, {:?} for {count}", begun.elapsed());
    done
}

/// A line of what the system knows of this process, in KiB.
pub(crate) fn memory(name: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|it| it.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}
