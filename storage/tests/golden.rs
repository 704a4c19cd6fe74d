//! Directories of each version of the format are opened for ever.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod rig;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore_storage::{Disk, Entry, Log, SimulatedDisk, SystemDisk, verify};

use self::rig::{Record, commit_each, open, options, record};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// What was appended to the golden log before its last start, and after it.
fn written() -> (Vec<Record>, Vec<Record>) {
    let lengths = [0, 1, 200, 500, 3000, 700, 5000, 40, 2500, 10];
    let before = lengths.iter().enumerate().map(|(at, length)| record(at, *length)).collect();
    (before, vec![record(20, 300), record(21, 3000), record(22, 5)])
}

/// Writes the golden log: records in several segments, one of which is retired between others; a
/// process that was killed; a clean end.
fn write(disk: &SimulatedDisk) -> Vec<Record> {
    let (before, after) = written();
    let (mut log, _) = open(disk);
    let spans = commit_each(&mut log, &before);
    let gone = spans[5].start.segment;
    assert!(log.segments()[0].number < gone && gone < log.current());
    log.retire(gone).unwrap();
    drop(log);
    let (mut log, _) = open(disk);
    commit_each(&mut log, &after);
    log.close().unwrap();
    let is_kept = |at: &usize| spans.get(*at).is_none_or(|it| !it.segments().contains(&gone));
    let all: Vec<_> = before.into_iter().chain(after).collect();
    (0..all.len()).filter(is_kept).map(|at| all[at].clone()).collect()
}

/// The names of the files of a log, in order.
fn names(disk: &dyn Disk) -> Vec<String> {
    let mut names = disk.list().unwrap();
    names.retain(|name| name != "lock");
    names.sort();
    names
}

#[test]
fn a_directory_of_version_1_opens_with_all_its_records() {
    let expected = write(&SimulatedDisk::new(1));
    let folder = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(golden()).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
    }
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk::open(folder.path()).unwrap());
    let report = verify(&disk, &mut |_, _| {}).unwrap();
    assert_eq!((report.losses, report.records), (vec![], expected.len() as u64));
    let mut found: Vec<Record> = Vec::new();
    let mut replay = |entry: Entry<'_>| found.push((entry.kind, entry.body.to_vec()));
    let (mut log, _) = Log::open(Arc::clone(&disk), &options(), &mut replay).unwrap();
    assert_eq!(found, expected);
    commit_each(&mut log, &[record(30, 100)]);
    drop(log);
    let mut count = 0;
    Log::open(disk, &options(), &mut |_: Entry<'_>| count += 1).unwrap();
    assert_eq!(count, expected.len() + 1);
}

/// Who changes what is written has to raise the version, and to leave this one a directory.
#[test]
fn what_is_written_is_version_1_to_the_byte() {
    let disk = SimulatedDisk::new(1);
    write(&disk);
    let stored = SystemDisk::open(&golden()).unwrap();
    assert_eq!(names(&disk), names(&stored));
    for name in names(&disk) {
        assert!(disk.contents(&name) == fs::read(golden().join(&name)).unwrap(), "{name}");
    }
}
