//! `longshore data`, the real binary, on journals that this process writes.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use longshore_storage::{
    Batch, Committer, Disk, Entry, Log, Options, Position, Refused, SystemDisk,
};
use tempfile::TempDir;

#[path = "data/tables.rs"]
mod tables;

const SEGMENT_BYTES: u32 = 16 << 10;

/// A folder with a data directory in it, at the place where it is looked for.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(place.path("longshore-data")).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn journal(&self) -> PathBuf {
        self.path("longshore-data/journal")
    }

    fn longshore(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        command.env_remove("LONGSHORE_MASTER_TOKEN").current_dir(self.folder.path());
        command.args(arguments).output().unwrap()
    }

    fn data(&self, arguments: &[&str]) -> Output {
        self.longshore(&[&["data"], arguments].concat())
    }
}

/// What was said, with an exit of 0 and nothing on stderr but, on a busy machine, how far it is.
fn said(output: &Output) -> String {
    let is_progress = |line: &[u8]| line.is_empty() || line.ends_with(b" %");
    let is_quiet = output.stderr.split(|byte| *byte == b'\n').all(is_progress);
    assert!(output.status.success() && is_quiet, "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The error, with an exit of 1.
fn error(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn open(journal: &Path) -> (Log, Vec<Vec<u8>>) {
    fs::create_dir_all(journal).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(SystemDisk::open(journal).unwrap());
    let mut options = Options::default();
    options.segment_bytes = SEGMENT_BYTES;
    let mut found = Vec::new();
    let (log, _) =
        Log::open(disk, &options, &mut |entry: Entry<'_>| found.push(entry.body.to_vec())).unwrap();
    (log, found)
}

fn records(journal: &Path) -> Vec<Vec<u8>> {
    open(journal).1
}

fn body(number: u64) -> Vec<u8> {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(8 + number as usize * 37 % 900, 7);
    body
}

/// Appends some records, and gives where they begin.
fn write(log: &mut Log, numbers: std::ops::Range<u64>) -> Vec<Position> {
    let mut places = Vec::new();
    for number in numbers {
        let mut batch = Batch::new();
        batch.push(1, &body(number));
        log.append(&mut batch).unwrap();
        places.push(batch.spans()[0].start);
        log.commit().unwrap();
    }
    places
}

/// A place with a journal of 100 records, closed, and where they begin.
fn written() -> (Place, Vec<Position>) {
    let place = Place::new();
    let (mut log, _) = open(&place.journal());
    let places = write(&mut log, 0..100);
    log.close().unwrap();
    (place, places)
}

fn flip(path: &Path, offset: u32) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset as usize] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn file_of(place: Position) -> String {
    format!("{:010}.segment", place.segment)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_damaged_byte_is_found_and_repaired() {
    let (place, places) = written();
    let report = said(&place.data(&["verify"]));
    assert!(report.contains("\nrecords  100\n") && report.ends_with("\nok\n"), "{report}");

    let at = places[40];
    flip(&place.journal().join(file_of(at)), at.offset + 14);
    let found = place.data(&["verify"]);
    let report = String::from_utf8_lossy(&found.stdout).into_owned();
    let damage = format!("{} is damaged at byte {}: the checksum", file_of(at), at.offset);
    assert!(report.contains("\nrecords  99\n") && report.contains(&damage), "{report}");
    let expected = "error: ./longshore-data/journal: is damaged; `longshore data repair \
                    --data-dir ./longshore-data` keeps all that is sound\n";
    assert_eq!(error(&found), expected);

    let refused = error(&place.data(&["backup", "copy"]));
    assert!(refused.contains(&damage) && !place.path("copy").exists(), "{refused}");

    let repaired = said(&place.data(&["repair", "--data-dir", "longshore-data"]));
    assert!(repaired.contains(&format!("\nlost     {damage}")), "{repaired}");
    let aside = format!("longshore-data/journal/{:010}.damaged", at.segment);
    assert!(repaired.contains(&format!("\naside    {aside}\n")), "{repaired}");
    assert!(place.path(&aside).exists());
    assert!(said(&place.data(&["verify"])).contains("\nrecords  99\n"));
    let kept: Vec<_> = (0..100).filter(|it| *it != 40).map(body).collect();
    assert_eq!(records(&place.journal()), kept);
    assert!(said(&place.data(&["repair"])).ends_with("\nok, nothing was damaged\n"));
}

#[test]
fn a_journal_in_use_is_named_with_its_process() {
    let place = Place::new();
    let (_log, _) = open(&place.journal());
    let held = format!("longshore-data/journal: in use by process {}: ", std::process::id());
    for command in ["verify", "repair"] {
        let refused = error(&place.data(&[command]));
        assert!(refused.contains(&held) && refused.contains("stop the broker"), "{refused}");
    }
    said(&place.data(&["backup", "copy"]));
    let refused = error(&place.data(&["restore", "copy"]));
    assert!(refused.contains(&held), "{refused}");
}

#[test]
fn a_data_directory_without_a_journal_is_an_error_that_says_what_to_do() {
    let place = Place::new();
    for arguments in [&["verify"][..], &["repair"], &["backup", "copy"]] {
        let refused = error(&place.data(arguments));
        assert!(refused.contains("name another data directory with --data-dir"), "{refused}");
    }
    assert_eq!(names(&place.path("longshore-data")), [""; 0]);
    assert!(!place.path("copy").exists());
}

/// Appends until it is told to stop, and retires what is old. Gives how many.
fn work(committer: &Committer, durable: &AtomicU64, is_done: &AtomicBool) -> u64 {
    let mut number = 0;
    while !is_done.load(Ordering::Acquire) {
        let mut batch = Batch::new();
        batch.push(1, &body(number));
        match committer.append(&mut batch) {
            Ok(_) => number += 1,
            Err(Refused::Busy) => thread::yield_now(),
            Err(refused) => panic!("{refused}"),
        }
        if number % 50 == 0 {
            committer.flush().unwrap();
            durable.store(number, Ordering::Release);
            let oldest = committer.segments()[0].number;
            if committer.current() > oldest + 20 {
                committer.retire(oldest).unwrap();
            }
        }
    }
    number
}

#[test]
fn a_backup_of_a_journal_at_work_restores_to_what_was_durable_before() {
    let place = Place::new();
    fs::write(place.path("longshore-data/master-token"), "a1".repeat(32)).unwrap();
    let committer = Committer::start(open(&place.journal()).0, |_| {}).unwrap();
    let (durable, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let worker = scope.spawn(|| work(&committer, &durable, &is_done));
        for round in 0..6 {
            let (copy, data) = (format!("copy{round}"), format!("data{round}"));
            let before = durable.load(Ordering::Acquire);
            let report = said(&place.data(&["backup", &copy]));
            assert!(report.contains("ok, a backup is in "), "{report}");
            assert_eq!(names(&place.path(&copy)), ["backup", "journal", "master-token"]);
            said(&place.data(&["verify", "--data-dir", &copy]));
            said(&place.data(&["restore", &copy, "--data-dir", &data]));
            let token = place.path(&data).join("master-token");
            let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
            assert_eq!((mode(&token), mode(token.parent().unwrap())), (0o600, 0o700));
            assert_eq!(mode(&place.path(&copy).join("master-token")), 0o600);
            assert_eq!(fs::read_to_string(token).unwrap(), "a1".repeat(32));
            let found = records(&place.path(&data).join("journal"));
            let number = |body: &Vec<u8>| u64::from_le_bytes(body[..8].try_into().unwrap());
            let first = found.first().map_or(0, number);
            assert!(found.iter().map(number).eq(first..first + found.len() as u64));
            assert!(first + found.len() as u64 >= before, "{before} were durable");
            assert!(report.contains(&format!("\nrecords  {}\n", found.len())), "{report}");
        }
        is_done.store(true, Ordering::Release);
        assert!(worker.join().unwrap() > 300);
    });
}

#[test]
fn a_backup_goes_to_an_empty_place_outside_of_the_data_directory() {
    let (place, _) = written();
    fs::create_dir(place.path("full")).unwrap();
    fs::write(place.path("full/mine"), "").unwrap();
    fs::create_dir_all(place.path("cut/journal.partial")).unwrap();
    std::os::unix::fs::symlink("longshore-data", place.path("link")).unwrap();
    let rows = [
        ("longshore-data/copy", "is in the data directory itself; name another place"),
        ("longshore-data", "is in the data directory itself"),
        ("link/copy", "is in the data directory itself"),
        ("full/../longshore-data/copy", "is in the data directory itself"),
        ("full", "is not empty; a backup goes to an empty folder or a new one"),
        ("full/mine", "cannot be read: Not a directory"),
        ("cut", "holds a backup that was cut short; remove it"),
        ("no/copy", "cannot be made: No such file"),
    ];
    for (target, expected) in rows {
        let refused = error(&place.data(&["backup", target]));
        assert!(refused.contains(expected), "{target}: {refused}");
    }
    assert_eq!(names(&place.path("longshore-data")), ["journal"]);
    fs::create_dir(place.path("empty")).unwrap();
    said(&place.data(&["backup", "empty"]));
    assert_eq!(names(&place.path("empty")), ["backup", "journal"]);
}

#[test]
fn a_restore_takes_a_whole_backup_only_and_writes_over_nothing() {
    let (place, places) = written();
    let data = place.path("longshore-data");
    fs::write(data.join("master-token"), "a1".repeat(32)).unwrap();
    said(&place.data(&["backup", "copy"]));
    let refuses = |backup: &str, data: &str, expected: &str| {
        let refused = error(&place.data(&["restore", backup, "--data-dir", data]));
        assert!(refused.contains(expected), "{refused}");
        assert!(!place.path(data).join("journal.restoring").exists());
    };
    refuses("copy", "longshore-data", "journal: is there already, and a restore writes over");
    refuses("longshore-data", "new", "longshore-data: is no backup: `longshore data backup`");
    refuses("no", "new", "no: is no backup");
    fs::create_dir(place.path("other")).unwrap();
    fs::write(place.path("other/master-token"), "b2".repeat(32)).unwrap();
    refuses("copy", "other", "other/master-token: is not the master token of the backup");

    let last = place.path("copy/journal").join(file_of(*places.last().unwrap()));
    let bytes = fs::read(&last).unwrap();
    flip(&last, places.last().unwrap().offset + 14);
    refuses("copy", "new", &format!("{} is damaged at byte", file_of(*places.last().unwrap())));
    fs::remove_file(&last).unwrap();
    refuses("copy", "new", "copy: is not as it was backed up");
    fs::write(&last, bytes).unwrap();

    // Where a broker was started and then nothing kept, there is room.
    fs::create_dir(place.path("new/journal")).unwrap();
    fs::write(place.path("new/journal/lock"), "").unwrap();
    said(&place.data(&["restore", "copy", "--data-dir", "new"]));
    assert_eq!(names(&place.path("new")), ["journal", "master-token"]);
    assert_eq!(records(&place.path("new/journal")), (0..100).map(body).collect::<Vec<_>>());
}

#[test]
fn a_restore_that_was_cut_short_is_no_data_directory() {
    let (place, _) = written();
    said(&place.data(&["backup", "copy"]));
    let half = place.path("new/journal.restoring");
    fs::create_dir_all(&half).unwrap();
    fs::copy(place.journal().join("0000000001.segment"), half.join("0000000001.segment")).unwrap();
    let serve = ["serve", "--listen", "mqtt://127.0.0.1:0", "--data-dir", "new"];
    let refused = error(&place.longshore(&serve));
    assert!(refused.contains("new/journal.restoring: a restore was cut short"), "{refused}");
    said(&place.data(&["restore", "copy", "--data-dir", "new"]));
    assert_eq!(names(&place.path("new")), ["journal"]);
    assert_eq!(records(&place.path("new/journal")).len(), 100);
}
