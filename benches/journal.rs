//! What the journal costs beside the least that a log can cost on the same disk: a preallocated
//! file, each record copied and checksummed, one write and one sync per commit.
//!
//! The disk is the noisiest part of a machine, so the two take turns, commit by commit, and the
//! ratio of their medians is printed. The directory is that of temporary files, which must be on a
//! disk for the figures to mean anything: `TMPDIR=/on/a/disk cargo bench --bench journal`.

use std::fs::{File, OpenOptions};
use std::hint::black_box;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use longshore_storage::{Batch, Committer, Disk, Entry, Level, Log, Options, SystemDisk};
use tempfile::TempDir;

const SEGMENT_BYTES: usize = 64 << 20;
const BODY: [u8; 200] = [0x5a; 200];
/// Records of one batch of the append bench, as a turn brings them.
const TURN: usize = 64;
const REPLAYED: u64 = 2_000_000;

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary directory can be made")
}

fn options(level: Level) -> Options {
    let mut options = Options::default();
    options.level = level;
    options
}

fn open(path: &Path, level: Level, replay: &mut dyn FnMut(Entry<'_>)) -> Log {
    let disk = Arc::new(SystemDisk::open(path).expect("the directory is there"));
    let mut replay = |entry: Entry<'_>| replay(entry);
    Log::open(disk, &options(level), &mut replay).expect("the log is sound").0
}

/// The least that a log can be.
struct Raw {
    file: File,
    offset: u64,
    pending: Vec<u8>,
}

impl Raw {
    fn new(path: &Path) -> Self {
        let disk = SystemDisk::open(path).expect("the directory is there");
        disk.create("raw", SEGMENT_BYTES as u64).expect("there is room");
        let file = OpenOptions::new().read(true).write(true).open(path.join("raw"));
        Self { file: file.expect("it was made"), offset: 0, pending: Vec::new() }
    }

    fn append(&mut self, body: &[u8]) {
        let start = self.pending.len();
        self.pending.extend_from_slice(&[0; 4]);
        self.pending.extend_from_slice(&(body.len() as u32).to_le_bytes());
        self.pending.extend_from_slice(&[0; 4]);
        self.pending.extend_from_slice(body);
        let checksum = crc32c::crc32c(&self.pending[start + 4..]);
        self.pending[start..start + 4].copy_from_slice(&checksum.to_le_bytes());
    }

    fn write(&mut self) {
        if self.offset as usize + self.pending.len() > SEGMENT_BYTES {
            self.offset = 0;
        }
        self.file.write_all_at(&self.pending, self.offset).expect("the disk is sound");
        self.offset += self.pending.len() as u64;
        self.pending.clear();
    }

    fn commit(&mut self) {
        self.write();
        self.file.sync_data().expect("the disk is sound");
    }

    fn replay(&self, bytes: u64) -> u64 {
        let mut buffer = vec![0; 1 << 20];
        let (mut records, mut at) = (0, 0);
        while at < bytes {
            let count = self.file.read_at(&mut buffer, at).expect("the disk is sound");
            let mut rest = &buffer[..count];
            while let Some((header, body)) = rest.split_at_checked(12) {
                let word = |at: usize| {
                    u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"))
                };
                let length = word(4) as usize;
                let Some(body) = body.get(..length).filter(|_| length > 0) else { break };
                let checksum = crc32c::crc32c_append(crc32c::crc32c(&header[4..]), body);
                assert_eq!(checksum, word(0));
                records += 1;
                rest = &rest[12 + length..];
            }
            if rest.len() == count {
                break;
            }
            at += (count - rest.len()) as u64;
        }
        records
    }
}

/// Times of two that take turns.
#[derive(Default)]
struct Turns {
    log: Vec<Duration>,
    raw: Vec<Duration>,
}

impl Turns {
    fn take(&mut self, raw: impl FnOnce(), log: impl FnOnce()) -> (Duration, Duration) {
        let began = Instant::now();
        raw();
        let between = Instant::now();
        log();
        let (raw, log) = (between - began, between.elapsed());
        self.raw.push(raw);
        self.log.push(log);
        (raw, log)
    }

    fn report(&mut self, name: &str, records: u64) {
        if self.log.is_empty() {
            return;
        }
        let median = |times: &mut Vec<Duration>| {
            times.sort_unstable();
            times[times.len() / 2].as_secs_f64() * 1e9 / records as f64
        };
        let (log, raw) = (median(&mut self.log), median(&mut self.raw));
        println!("{name}: log {log:.1} ns/record, raw {raw:.1} ns/record, {:.2} times", log / raw);
    }
}

/// Runs `turn` as two benches, the log and the raw file, which both do both.
fn compare(
    c: &mut Criterion,
    name: &str,
    records: u64,
    mut turn: impl FnMut(&mut Turns) -> (Duration, Duration),
) {
    let mut turns = Turns::default();
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Elements(records));
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    group.warm_up_time(Duration::from_millis(500));
    group.bench_function("log", |b| {
        b.iter_custom(|count| (0..count).map(|_| turn(&mut turns).1).sum());
    });
    group.bench_function("raw", |b| {
        b.iter_custom(|count| (0..count).map(|_| turn(&mut turns).0).sum());
    });
    group.finish();
    turns.report(name, records);
}

/// Into memory: one batch of a turn, filled and handed over.
fn append(c: &mut Criterion) {
    let folder = folder();
    let mut log = open(folder.path(), Level::Process, &mut |_| {});
    let mut raw = Raw::new(folder.path());
    let mut batch = Batch::new();
    compare(c, "journal/append", TURN as u64, |turns| {
        if log.pending_bytes() > 1 << 20 {
            log.commit().expect("the disk is sound");
            raw.write();
            retire_all(&mut log);
        }
        let fill = || {
            batch.clear();
            (0..TURN).for_each(|_| batch.push(1, black_box(&BODY)));
            black_box(log.append(&mut batch)).expect("there is room");
        };
        turns.take(|| (0..TURN).for_each(|_| raw.append(black_box(&BODY))), fill)
    });
}

/// To the medium.
fn commit(c: &mut Criterion) {
    for records in [1, 10, 100, 1000, 10_000] {
        let folder = folder();
        let mut log = open(folder.path(), Level::Power, &mut |_| {});
        let mut raw = Raw::new(folder.path());
        let mut batch = Batch::new();
        compare(c, &format!("journal/commit/{records}"), records, |turns| {
            retire_all(&mut log);
            let commit_log = || {
                batch.clear();
                (0..records).for_each(|_| batch.push(1, &BODY));
                log.append(&mut batch).expect("there is room");
                black_box(log.commit()).expect("the disk is sound");
            };
            let commit_raw = || {
                (0..records).for_each(|_| raw.append(&BODY));
                raw.commit();
            };
            turns.take(commit_raw, commit_log)
        });
    }
}

/// One record, from an appender to the medium and back: what the thread adds.
fn round_trip(c: &mut Criterion) {
    let folder = folder();
    let log = open(folder.path(), Level::Power, &mut |_| {});
    let mut raw = Raw::new(folder.path());
    let (tell, told) = channel();
    let listener = move |event| drop(tell.send(event));
    let committer = Committer::start(log, listener).expect("a thread can be started");
    let mut batch = Batch::new();
    compare(c, "journal/round_trip", 1, |turns| {
        let commit_log = || {
            batch.clear();
            batch.push(1, &BODY);
            let ticket = committer.append(&mut batch).expect("there is room");
            while committer.durable() < ticket {
                told.recv().expect("the disk is sound");
            }
            while told.try_recv().is_ok() {}
        };
        let commit_raw = || {
            raw.append(&BODY);
            raw.commit();
        };
        turns.take(commit_raw, commit_log)
    });
}

/// From the page cache, opening included.
fn replay(c: &mut Criterion) {
    let folder = folder();
    let mut log = open(folder.path(), Level::Process, &mut |_| {});
    let disk = SystemDisk::open(folder.path()).expect("the directory is there");
    let bytes = REPLAYED * (12 + BODY.len() as u64);
    disk.create("raw", bytes).expect("there is room");
    let file = OpenOptions::new().read(true).write(true).open(folder.path().join("raw"));
    let mut raw =
        Raw { file: file.expect("it was made"), offset: 0, pending: Vec::with_capacity(1 << 20) };
    let mut batch = Batch::new();
    for _ in 0..REPLAYED / 1000 {
        batch.clear();
        (0..1000).for_each(|_| batch.push(1, &BODY));
        log.append(&mut batch).expect("there is room");
        log.commit().expect("the disk is sound");
        (0..1000).for_each(|_| raw.append(&BODY));
        raw.file.write_all_at(&raw.pending, raw.offset).expect("the disk is sound");
        raw.offset += raw.pending.len() as u64;
        raw.pending.clear();
    }
    log.close().expect("the disk is sound");
    compare(c, "journal/replay", REPLAYED, |turns| {
        let mut found = 0_u64;
        let times = turns.take(
            || assert_eq!(black_box(raw.replay(bytes)), REPLAYED),
            || drop(open(folder.path(), Level::Process, &mut |_| found += 1)),
        );
        assert_eq!(found, REPLAYED);
        times
    });
}

/// Nothing in a bench is ever needed again.
fn retire_all(log: &mut Log) {
    let current = log.current();
    for segment in log.segments() {
        if segment.number < current {
            log.retire(segment.number).expect("it is full");
        }
    }
}

criterion_group!(benches, append, commit, round_trip, replay);
criterion_main!(benches);
