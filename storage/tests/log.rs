//! The log on disks that are full, that fail, and that are in use.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod rig;

use std::process::Command;
use std::sync::Arc;

use longshore_storage::{
    Batch, Entry, Fault, Level, LockError, Log, NotRetired, OpenError, Operation, Options,
    ReadError, Recovered, Refused, SimulatedDisk, SystemDisk,
};

use self::rig::{
    Record, SEGMENT_BYTES, append, at_level, batch, commit_each, contents, open, open_with,
    options, record, records,
};

#[test]
fn records_of_any_size_end_anywhere_in_a_segment() {
    for length in 0..2 * SEGMENT_BYTES as usize {
        let disk = SimulatedDisk::new(1);
        let (mut log, _) = open(&disk);
        let kept = [record(1, length), record(2, 0), record(3, 700)];
        let (_, spans) = append(&mut log, &kept).unwrap_or_else(|_| {
            // More than is allocated ahead: that is known at the next commit.
            log.commit().unwrap();
            append(&mut log, &kept).unwrap()
        });
        let read = |log: &Log| {
            for (span, (kind, body)) in spans.iter().zip(&kept) {
                let mut found = Vec::new();
                assert_eq!(log.read(span.start, &mut found).unwrap(), *kind);
                assert_eq!(&found, body, "length {length}");
            }
        };
        read(&log);
        log.commit().unwrap();
        read(&log);
        drop(log);
        let (log, found) = open(&disk);
        assert_eq!(found, kept, "length {length}");
        read(&log);
    }
}

#[test]
fn a_record_may_be_larger_than_many_segments() {
    let folder = tempfile::tempdir().unwrap();
    let disk = || Arc::new(SystemDisk::open(folder.path()).unwrap());
    let mut options = Options::default();
    options.segment_bytes = 1 << 20;
    let (mut log, _) = Log::open(disk(), &options, &mut |_: Entry<'_>| {}).unwrap();
    let large = record(1, 20 << 20);
    let kept = [record(0, 10), large, record(2, 10)];
    assert!(matches!(append(&mut log, &kept), Err(Refused::Busy)));
    log.commit().unwrap();
    let (_, spans) = append(&mut log, &kept).unwrap();
    log.commit().unwrap();
    let mut body = Vec::new();
    log.read(spans[1].start, &mut body).unwrap();
    assert!(body == kept[1].1 && spans[1].segments().count() > 20);
    drop(log);
    let mut found: Vec<Record> = Vec::new();
    let mut replay = |entry: Entry<'_>| found.push((entry.kind, entry.body.to_vec()));
    Log::open(disk(), &options, &mut replay).unwrap();
    assert!(found == kept);
}

#[test]
fn a_record_beyond_the_bound_is_refused_and_harms_nothing() {
    let disk = SimulatedDisk::new(1);
    let mut options = options();
    options.record_bytes_max = 1000;
    let (mut log, _) = open_with(&disk, &options).unwrap();
    let refused = append(&mut log, &[record(0, 10), record(1, 1001)]);
    assert!(matches!(refused, Err(Refused::TooLarge { bytes: 1001 })));
    commit_each(&mut log, &[record(2, 1000)]);
    assert_eq!(contents(&disk), [record(2, 1000)]);
}

#[test]
fn recycled_segments_hold_nothing_of_their_former_use() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    let mut kept: Vec<(u32, Record)> = Vec::new();
    for number in 0..600 {
        // Equal lengths: what a file held before stands at the same places as what it holds now.
        let next = record(number, 500);
        let spans = commit_each(&mut log, std::slice::from_ref(&next));
        kept.push((spans[0].start.segment, next));
        let oldest = log.segments()[0].number;
        if log.current() > oldest + 2 {
            log.retire(oldest).unwrap();
            kept.retain(|(segment, _)| *segment != oldest);
            // A record that began in it has lost its beginning.
            assert!(!contents(&disk).is_empty());
        }
        if number % 7 == 0 {
            let found = contents(&disk);
            let expected: Vec<_> = kept.iter().map(|it| it.1.clone()).collect();
            assert_eq!(found, expected, "after {number}");
        }
    }
    assert!(log.current() > 60);
    assert!(disk.used_bytes() <= 7 * u64::from(SEGMENT_BYTES), "files are used again");
}

#[test]
fn a_segment_is_retired_only_when_it_is_full_and_for_good() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    let kept = records(30, 600);
    let spans = commit_each(&mut log, &kept);
    for number in [0, log.current(), log.current() + 1, 99] {
        assert!(matches!(log.retire(number), Err(NotRetired::NotFull)), "{number}");
    }
    // From the middle, then from the start: what is left is in order.
    for gone in [3, 1, 2] {
        log.retire(gone).unwrap();
        assert!(matches!(log.retire(gone), Err(NotRetired::NotFull)));
        let first = spans.iter().find(|span| span.start.segment == gone).unwrap();
        assert!(matches!(log.read(first.start, &mut Vec::new()), Err(ReadError::Gone(_))));
    }
    let is_left = |segment: u32| segment > 3;
    let left = spans.iter().zip(&kept).filter(|(span, _)| is_left(span.start.segment));
    let left: Vec<_> = left.map(|it| it.1.clone()).collect();
    assert_eq!(open_with(&disk.restart(), &options()).unwrap().1, left);
}

#[test]
fn a_full_disk_is_noticed_before_anything_taken_is_lost() {
    for budget in 2..6 {
        let disk = SimulatedDisk::new(1);
        disk.set_budget(budget * u64::from(SEGMENT_BYTES));
        let (mut log, _) = open(&disk);
        let mut kept = Vec::new();
        let refused = loop {
            let next = record(kept.len(), 333);
            match append(&mut log, std::slice::from_ref(&next)) {
                Ok(_) => kept.push(next),
                Err(refused) => break refused,
            }
            log.commit().unwrap();
        };
        assert!(matches!(refused, Refused::Full(_)), "{refused}");
        assert_eq!(refused.to_string(), "no segment can be allocated: no storage space");
        assert!(log.shortage().is_some());
        assert_eq!(open_with(&disk.restart(), &options()).unwrap().1, kept);
        // A start on the full disk is one, too.
        drop(log);
        let (mut log, found) = open(&disk);
        assert_eq!(found, kept);
        assert!(matches!(append(&mut log, &records(1, 10)), Err(Refused::Full(_))));
        // Acknowledgements are taken, up to the last byte that is allocated.
        loop {
            let mut relief = batch(&[record(kept.len(), 40)]);
            relief.relieve();
            match log.append(&mut relief) {
                Ok(_) => kept.push(record(kept.len(), 40)),
                Err(refused) => break assert!(matches!(refused, Refused::Full(_)), "{refused}"),
            }
            log.commit().unwrap();
        }
        assert_eq!(open_with(&disk.restart(), &options()).unwrap().1, kept);
        // With room on the disk, the next commit heals.
        disk.set_budget(u64::MAX);
        log.commit().unwrap();
        kept.extend(records(30, 500));
        let more = kept.len() - 30;
        commit_each(&mut log, &kept[more..]);
        assert!(log.shortage().is_none());
        assert_eq!(open_with(&disk.restart(), &options()).unwrap().1, kept);
    }
}

/// Does everything a log does, up to the first error. Gives what was durable, what was taken, and
/// whether a failure was reported.
fn do_everything(disk: &SimulatedDisk, level: Level) -> (Vec<Record>, Vec<Record>, bool) {
    let Ok((mut log, found)) = open_with(disk, &at_level(level)) else {
        return (vec![], vec![], false);
    };
    let (mut taken, mut durable) = (found.clone(), found);
    for number in 0..30 {
        let next = record(number, 450);
        match append(&mut log, std::slice::from_ref(&next)) {
            Ok(_) => taken.push(next),
            Err(Refused::Failed(_)) => return (durable, taken, true),
            Err(_) => {}
        }
        match log.commit() {
            Ok(_) => durable.clone_from(&taken),
            Err(first) => {
                // It stays so, and nothing more is called durable.
                let before = log.durable();
                assert!(append(&mut log, &records(1, 1)).is_err());
                assert_eq!(log.flush().unwrap_err().to_string(), first.to_string());
                assert_eq!(log.durable(), before);
                return (durable, taken, true);
            }
        }
    }
    let is_failed = log.close().is_err();
    (durable, taken, is_failed)
}

#[test]
fn an_error_at_any_operation_loses_nothing_that_was_durable() {
    for operation in Operation::ALL {
        for for_ever in [false, true] {
            for after in 0..80 {
                let disk = SimulatedDisk::new(after);
                disk.fail(Fault { operation, after, for_ever });
                let (durable, taken, is_failed) = do_everything(&disk, Level::Power);
                disk.heal();
                let (_, found) = open_with(&disk.restart(), &options())
                    .unwrap_or_else(|error| panic!("{operation:?} {after}: {error}"));
                assert!(
                    found.len() >= durable.len() && taken.starts_with(&found),
                    "{operation:?} {after} {for_ever}: {} of {}, found {}",
                    durable.len(),
                    taken.len(),
                    found.len()
                );
                // What nothing is lost by does not stop the log.
                let is_harmless = matches!(operation, Operation::Create) && !for_ever;
                assert!(!(is_harmless && is_failed), "{operation:?} {after}");
            }
        }
    }
}

#[test]
fn an_opening_that_fails_can_be_repeated() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    let kept = records(30, 500);
    commit_each(&mut log, &kept);
    log.retire(2).unwrap();
    drop(log);
    let (_, expected) = open(&disk.restart_after_kill());
    for operation in Operation::ALL {
        for after in 0..40 {
            let disk = disk.restart_after_kill();
            disk.fail(Fault { operation, after, for_ever: false });
            drop(open_with(&disk, &options()));
            disk.heal();
            assert_eq!(open(&disk).1, expected, "{operation:?} {after}");
        }
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_an_error_with_a_name() {
    let disk = SimulatedDisk::new(1);
    disk.set_read_only(true);
    let error = open_with(&disk, &options()).map(|it| it.1).unwrap_err();
    assert!(matches!(error, OpenError::Lock(LockError::Io(_))), "{error}");
    disk.set_read_only(false);
    let mut options = options();
    options.segment_bytes = 5000;
    let error = open_with(&disk, &options).map(|it| it.1).unwrap_err();
    assert_eq!(error.to_string(), "segment_bytes is out of its bounds");
}

#[test]
fn a_second_log_in_a_directory_is_refused() {
    let disk = SimulatedDisk::new(1);
    let (log, _) = open(&disk);
    let error = open_with(&disk, &options()).map(|it| it.1).unwrap_err();
    let expected = format!("in use by process {}", std::process::id());
    assert_eq!(error.to_string(), expected);
    drop(log);
    open(&disk);
}

/// Runs itself as the second process.
#[test]
fn a_second_process_is_refused_by_the_number_of_the_first() {
    const DIRECTORY: &str = "LONGSHORE_TEST_DIRECTORY";
    if let Ok(path) = std::env::var(DIRECTORY) {
        let disk = Arc::new(SystemDisk::open(path.as_ref()).unwrap());
        let error = Log::open(disk, &options(), &mut |_: Entry<'_>| {}).unwrap_err();
        print!("refused: {error}.");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let disk = || Arc::new(SystemDisk::open(folder.path()).unwrap());
    let first = Log::open(disk(), &options(), &mut |_: Entry<'_>| {}).unwrap();
    let second = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_second_process_is_refused_by_the_number_of_the_first", "--nocapture"])
        .env(DIRECTORY, folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&second.stdout);
    let expected = format!("refused: in use by process {}.", std::process::id());
    assert!(said.contains(&expected), "{said}");
    drop(first);
    Log::open(disk(), &options(), &mut |_: Entry<'_>| {}).unwrap();
}

#[test]
fn reading_where_no_record_is_gives_an_error() {
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    let spans = commit_each(&mut log, &records(12, 700));
    let starts: Vec<_> = spans.iter().map(|span| span.start).collect();
    for segment in 0..6 {
        for offset in (0..SEGMENT_BYTES + 20).chain([u32::MAX]) {
            let position = longshore_storage::Position { segment, offset };
            let mut body = b"kept".to_vec();
            let is_read = log.read(position, &mut body).is_ok();
            assert_eq!(is_read, starts.contains(&position), "{position}");
            assert!(body.starts_with(b"kept") && (is_read || body.len() == 4));
        }
    }
}

#[test]
fn an_opening_says_what_it_found_and_how_far_it_is() {
    #[derive(Default)]
    struct Watch {
        records: u64,
        progress: Vec<(u64, u64)>,
    }
    impl longshore_storage::Replay for Watch {
        fn record(&mut self, _: Entry<'_>) {
            self.records += 1;
        }

        fn progress(&mut self, bytes: u64, of_bytes: u64) {
            self.progress.push((bytes, of_bytes));
        }
    }
    let disk = SimulatedDisk::new(1);
    let (mut log, _) = open(&disk);
    commit_each(&mut log, &records(20, 700));
    let of_bytes: u64 = log.segments().iter().map(|it| u64::from(it.bytes)).sum();
    drop(log);
    let mut watch = Watch::default();
    let (_, recovered) = Log::open(Arc::new(disk), &options(), &mut watch).unwrap();
    let Recovered { records, bytes, segments, .. } = recovered;
    assert_eq!((records, bytes, watch.records), (20, 14_000, 20));
    assert!(segments > 4 && watch.progress.is_sorted());
    assert_eq!(watch.progress.last(), Some(&(of_bytes, of_bytes)));
}

#[test]
fn appending_allocates_nothing_once_warm() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(SystemDisk::open(folder.path()).unwrap());
    let mut options = Options::default();
    options.level = Level::Process;
    options.segment_bytes = 1 << 20;
    let (mut log, _) = Log::open(disk, &options, &mut |_: Entry<'_>| {}).unwrap();
    let mut batch = Batch::new();
    let mut turn = |log: &mut Log| {
        for _ in 0..10 {
            batch.clear();
            (0..16).for_each(|kind| batch.push(kind, &[kind; 200]));
            log.append(&mut batch).unwrap();
        }
    };
    turn(&mut log);
    log.commit().unwrap();
    turn(&mut log);
    log.commit().unwrap();
    let counted = allocation_counter::measure(|| turn(&mut log));
    assert_eq!(counted.count_total, 0);
}
