//! A copy of a log that is at work holds what was durable before, and is cut at one point.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod rig;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use longshore_storage::{
    BackupError, DirectoryLock, Disk, DiskFile, Entry, Fault, Level, LockError, Log, OpenError,
    Operation, Options, Report, SimulatedDisk, SystemDisk, backup, backup_until, verify,
};

use self::rig::{
    Record, SEGMENT_BYTES, append, at_level, commit_each, contents, open, open_with, options,
    record, records, segment,
};
use self::store::{Change, Random, Store, apply};

fn shared(disk: &SimulatedDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

fn copy(from: &SimulatedDisk) -> Result<(SimulatedDisk, Report), BackupError> {
    let to = SimulatedDisk::new(8);
    let report = backup(&shared(from), &shared(&to), &mut |_, _| {})?;
    // It is on the medium.
    Ok((to.restart(), report))
}

#[test]
fn a_copy_of_an_open_log_holds_all_that_is_committed() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    let mut kept = Vec::new();
    assert_eq!(copy(&disk).unwrap().1.records, 0);
    for number in 0..120 {
        let next = record(number, number * 37 % 1500);
        commit_each(&mut log, std::slice::from_ref(&next));
        kept.push(next);
        let (copied, report) = copy(&disk).unwrap();
        assert_eq!((report.records, report.losses.len()), (kept.len() as u64, 0));
        assert_eq!(contents(&copied), kept);
    }
}

/// A record that goes on in the next segment is void where only its beginning was copied, and what
/// is appended to the copy is not taken for its end.
#[test]
fn a_copy_goes_on_as_a_log_wherever_it_was_cut() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    let (_, spans) = append(&mut log, &records(9, 900)).unwrap_or_else(|_| {
        log.commit().unwrap();
        append(&mut log, &records(9, 900)).unwrap()
    });
    log.commit().unwrap();
    assert!(spans.iter().any(|span| span.segments() == (1..=2)));
    drop(log);
    // As it is found when the commit is half written: the first segment in full, and no other.
    let mut ahead = disk.contents(&segment(2));
    ahead[512..].fill(0);
    for is_there in [true, false] {
        let torn = disk.restart_after_kill();
        (2..=4).for_each(|number| torn.take_away(&segment(number)));
        if is_there {
            torn.put(&segment(2), ahead.clone());
        }
        let (copied, _) = copy(&torn).unwrap();
        let (mut log, mut expected) = open(&copied);
        assert_eq!(expected.len(), spans.iter().filter(|it| it.end.segment == 1).count());
        let more = records(10, 700);
        commit_each(&mut log, &more);
        drop(log);
        expected.extend(more);
        assert_eq!(open(&copied).1, expected);
    }
}

#[test]
fn a_copy_ends_with_the_batch_that_is_asked_for() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    let mut tickets = vec![log.durable()];
    let mut kept = Vec::new();
    for number in 0..60 {
        let next = record(number, number * 131 % 1700);
        commit_each(&mut log, std::slice::from_ref(&next));
        kept.push(next);
        let more = [record(number, 3), record(number, 40)];
        tickets.push(append(&mut log, &more[..1]).unwrap().0);
        tickets.push(append(&mut log, &more[1..]).unwrap().0);
        kept.extend(more);
    }
    let (to, last) = (SimulatedDisk::new(8), *tickets.last().unwrap());
    let early = backup_until(&shared(&disk), &shared(&to), last, &mut |_, _| {});
    assert!(matches!(early, Err(BackupError::NotReached)));
    log.commit().unwrap();
    for (count, ticket) in tickets.iter().enumerate() {
        let to = SimulatedDisk::new(8);
        let copied = backup_until(&shared(&disk), &shared(&to), *ticket, &mut |_, _| {});
        let count = count.div_ceil(2) + count;
        assert_eq!(copied.unwrap().records, count as u64);
        assert_eq!(open_with(&to.restart(), &options()).unwrap().1, kept[..count]);
    }
}

#[test]
fn retired_segments_are_left_out_and_not_missed() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    let kept = records(40, 600);
    let spans = commit_each(&mut log, &kept);
    for gone in [3, 5, 1, 2] {
        log.retire(gone).unwrap();
        let (copied, _) = copy(&disk).unwrap();
        assert_eq!(contents(&copied), contents(&disk));
        assert!(copied.list().unwrap().iter().all(|name| !name.ends_with(".spare")));
    }
    assert!(spans.last().unwrap().end.segment > 5);
}

#[test]
fn a_damaged_log_is_not_copied_and_the_place_is_named() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    let spans = commit_each(&mut log, &records(20, 600));
    log.close().unwrap();
    for span in &spans {
        let damaged = disk.restart_after_kill();
        let name = segment(span.start.segment);
        let mut bytes = damaged.contents(&name);
        bytes[span.start.offset as usize + 3] ^= 1;
        damaged.put(&name, bytes);
        match copy(&damaged).unwrap_err() {
            BackupError::Open(OpenError::Damaged(damage)) => {
                assert_eq!((damage.file, damage.offset), (name, span.start.offset));
            }
            error => panic!("{error}"),
        }
    }
    disk.take_away(&segment(2));
    let error = copy(&disk).unwrap_err().to_string();
    assert!(error.starts_with("0000000002.segment is missing"), "{error}");
}

#[test]
fn a_torn_tail_is_cut_from_the_copy() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    let kept = records(5, 300);
    let spans = commit_each(&mut log, &kept);
    let last = spans.last().unwrap().start;
    let mut bytes = disk.contents(&segment(last.segment));
    bytes[last.offset as usize + 20] ^= 1;
    disk.put(&segment(last.segment), bytes);
    let (copied, report) = copy(&disk).unwrap();
    assert_eq!((report.end, contents(&copied)), (Some(last), kept[..4].to_vec()));
    let rest = copied.contents(&segment(last.segment)).split_off(last.offset as usize);
    assert!(rest.iter().all(|byte| *byte == 0));
}

#[test]
fn a_directory_that_is_not_empty_or_in_use_is_left_alone() {
    let disk = SimulatedDisk::new(1);
    open(&disk);
    let to = SimulatedDisk::new(8);
    to.put("mine", vec![1]);
    let refused = backup(&shared(&disk), &shared(&to), &mut |_, _| {});
    assert!(matches!(refused, Err(BackupError::NotEmpty)));
    to.take_away("mine");
    let _lock = to.lock().unwrap();
    let refused = backup(&shared(&disk), &shared(&to), &mut |_, _| {});
    assert!(matches!(refused, Err(BackupError::Open(OpenError::Lock(_)))));
}

#[test]
fn an_error_at_any_operation_is_reported_and_harms_nothing() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    commit_each(&mut log, &records(12, 700));
    log.retire(2).unwrap();
    let expected = contents(&disk);
    for operation in Operation::ALL {
        for after in 0..60 {
            let (from, to) = (disk.restart_after_kill(), SimulatedDisk::new(after));
            for failing in [&from, &to] {
                failing.fail(Fault { operation, after, for_ever: false });
            }
            if backup(&shared(&from), &shared(&to), &mut |_, _| {}).is_ok() {
                to.heal();
                assert_eq!(open_with(&to.restart(), &options()).unwrap().1, expected);
            }
            from.heal();
            assert_eq!(contents(&from), expected, "{operation:?} {after}");
        }
    }
    let full = SimulatedDisk::new(8);
    full.set_budget(2 * u64::from(SEGMENT_BYTES));
    let error = backup(&shared(&disk), &shared(&full), &mut |_, _| {}).unwrap_err().to_string();
    assert!(error.starts_with("cannot write the copy of 000000000"), "{error}");
}

/// A store on a new log.
fn at_work(disk: Arc<dyn Disk>, options: &Options, seed: u64) -> Store {
    let (log, _) = Log::open(disk, options, &mut |_: Entry<'_>| {}).unwrap();
    Store::new(log, seed)
}

/// Checks that a copy is what the store was at some point, and that this point is not before
/// `durable` records. Gives the number of its records.
fn check(copy: Arc<dyn Disk>, durable: usize, history: &[Change], options: &Options) -> usize {
    let (mut count, mut keys) = (0, BTreeMap::new());
    let mut replay = |entry: Entry<'_>| {
        let number = |at: usize| u64::from_le_bytes(entry.body[at..at + 8].try_into().unwrap());
        assert!(count <= number(0) as usize);
        count = number(0) as usize + 1;
        apply(&mut keys, (entry.kind, (number(8) != u64::MAX).then_some(number(8))));
    };
    Log::open(copy, options, &mut replay).unwrap();
    assert!(count >= durable, "the copy ends at {count}, durable was {durable}");
    let mut expected = BTreeMap::new();
    history[..count].iter().for_each(|change| apply(&mut expected, *change));
    assert_eq!(keys, expected, "after {count}");
    count
}

/// A disk on which a store is at work whenever it is looked at.
#[derive(Debug)]
struct Busy {
    disk: SimulatedDisk,
    work: Arc<Mutex<Work>>,
}

struct Work {
    store: Store,
    random: Random,
    /// Looks at the disk for each time that much happens.
    pace: u64,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Work")
    }
}

impl Work {
    fn go_on(&mut self) {
        let turns = match self.random.below(self.pace) {
            0 => 12,
            1..8 => 1,
            _ => 0,
        };
        (0..turns).for_each(|_| self.store.turn());
    }
}

impl Disk for Busy {
    fn lock(&self) -> Result<DirectoryLock, LockError> {
        self.disk.lock()
    }

    /// Some names as they were before, others as they are after.
    fn list(&self) -> io::Result<Vec<String>> {
        let mut work = self.work.lock().unwrap();
        let before = self.disk.list()?;
        work.go_on();
        let after = self.disk.list()?;
        let names: BTreeSet<String> = before.iter().chain(&after).cloned().collect();
        let mut seen = Vec::new();
        for name in names {
            let listing = if work.random.below(2) == 0 { &before } else { &after };
            seen.extend(listing.contains(&name).then_some(name));
        }
        Ok(seen)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>> {
        panic!("{name} of {bytes} bytes in a directory that is only read");
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.work.lock().unwrap().go_on();
        let file = self.disk.open(name)?;
        Ok(Arc::new(BusyFile { file, work: Arc::clone(&self.work) }))
    }

    fn rename(&self, from: &str, _: &str) -> io::Result<()> {
        panic!("{from} in a directory that is only read");
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        panic!("{name} in a directory that is only read");
    }

    fn sync(&self) -> io::Result<()> {
        panic!("in a directory that is only read");
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.disk.free_bytes()
    }
}

#[derive(Debug)]
struct BusyFile {
    file: Arc<dyn DiskFile>,
    work: Arc<Mutex<Work>>,
}

impl DiskFile for BusyFile {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut work = self.work.lock().unwrap();
        work.go_on();
        let count = 1 + work.random.below(buffer.len().min(3000) as u64) as usize;
        self.file.read_at(&mut buffer[..count], offset)
    }

    fn write_at(&self, _: &[u8], _: u64) -> io::Result<()> {
        panic!("in a directory that is only read");
    }

    fn sync(&self) -> io::Result<()> {
        panic!("in a directory that is only read");
    }
}

#[test]
fn a_copy_of_a_log_at_work_is_what_the_log_was_at_some_point() {
    for seed in 0..400 {
        let level = if seed % 2 == 0 { Level::Power } else { Level::Process };
        let options = at_level(level);
        let disk = SimulatedDisk::new(seed);
        let mut store = at_work(Arc::new(disk.clone()), &options, seed);
        (0..seed % 50 * 4).for_each(|_| store.turn());
        let durable = store.durable;
        let work =
            Arc::new(Mutex::new(Work { store, random: Random(seed), pace: 60 + seed % 200 }));
        let from: Arc<dyn Disk> = Arc::new(Busy { disk, work: Arc::clone(&work) });
        let to = SimulatedDisk::new(8);
        let report = backup(&from, &shared(&to), &mut |_, _| {})
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let copy = to.restart();
        assert_eq!(verify(&shared(&copy), &mut |_, _| {}).unwrap(), report, "seed {seed}");
        check(shared(&copy), durable, &work.lock().unwrap().store.history, &options);
    }
}

/// The same with files of the system, which another thread writes to.
#[test]
fn a_copy_of_files_that_are_written_to_is_what_they_were_at_some_point() {
    for (segment_bytes, padding, rounds) in [(SEGMENT_BYTES, 600, 40), (4 << 20, 200_000, 10)] {
        let folder = tempfile::tempdir().unwrap();
        let disk = || -> Arc<dyn Disk> { Arc::new(SystemDisk::open(folder.path()).unwrap()) };
        let mut options = at_level(Level::Process);
        options.segment_bytes = segment_bytes;
        let mut store = at_work(disk(), &options, 1);
        store.padding_max = padding;
        let store = Arc::new(Mutex::new(store));
        let is_done = Arc::new(AtomicBool::new(false));
        let worker = {
            let (store, is_done) = (Arc::clone(&store), Arc::clone(&is_done));
            thread::spawn(move || {
                while !is_done.load(Ordering::Acquire) {
                    store.lock().unwrap().turn();
                }
            })
        };
        let mut counts = BTreeSet::new();
        for _ in 0..rounds {
            let copy = tempfile::tempdir().unwrap();
            let to: Arc<dyn Disk> = Arc::new(SystemDisk::open(copy.path()).unwrap());
            let durable = store.lock().unwrap().durable;
            backup(&disk(), &to, &mut |_, _| {}).unwrap();
            counts.insert(check(to, durable, &store.lock().unwrap().history, &options));
        }
        is_done.store(true, Ordering::Release);
        worker.join().unwrap();
        assert!(counts.len() > rounds / 2, "the log was at work: {counts:?}");
    }
}

/// All of it as it was when the copy was made, without regard to what has become of the log.
#[test]
fn a_copy_of_a_copy_is_the_same() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    let kept: Vec<Record> = records(30, 600);
    commit_each(&mut log, &kept);
    let (once, report) = copy(&disk).unwrap();
    commit_each(&mut log, &kept);
    let (twice, again) = copy(&once).unwrap();
    assert_eq!((again, contents(&twice)), (report, kept));
}
