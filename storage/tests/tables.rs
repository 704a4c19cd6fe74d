//! Tables do what ordered maps do, over all of them at once, and after a crash too.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::Bound;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use longshore_storage::{Changes, Row, Rows, Table, Tables, TablesError, TablesOptions};

const NAMES: [&str; 3] = ["accounts", "histories", "tokens"];

type Model = BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>;

/// Numbers that a seed gives.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % bound
    }

    /// One of few keys, some of which begin as others do.
    fn key(&mut self) -> Vec<u8> {
        (0..1 + self.below(4)).map(|_| [0, b'a', b'b', 255][self.below(4) as usize]).collect()
    }
}

fn rows(found: Rows) -> Vec<Row> {
    found.map(Result::unwrap).collect()
}

fn expected<'a>(found: impl Iterator<Item = (&'a Vec<u8>, &'a Vec<u8>)>) -> Vec<Row> {
    found.map(|(key, value)| (key.clone(), value.clone())).collect()
}

fn small() -> TablesOptions {
    let mut options = TablesOptions::default();
    // Little enough for files to be written and merged.
    options.cache_bytes = 1 << 20;
    options.unsorted_bytes = 16 << 10;
    options
}

fn check_all(tables: &Tables, model: &Model) {
    for (name, kept) in model {
        let table = tables.table(name).unwrap();
        assert_eq!(rows(table.range(..)), expected(kept.iter()), "{name}");
    }
}

/// One random look at a table, beside the same look at its model.
fn look(random: &mut Random, table: &Table, kept: &BTreeMap<Vec<u8>, Vec<u8>>) {
    let (from, to) = (random.key(), random.key());
    assert_eq!(table.get(&from).unwrap().as_ref(), kept.get(&from));
    let mut found = rows(table.prefix(&from));
    assert_eq!(found, expected(kept.iter().filter(|(key, _)| key.starts_with(&from))));
    found.reverse();
    assert_eq!(table.prefix(&from).rev().map(Result::unwrap).collect::<Vec<_>>(), found);
    let bounds = |random: &mut Random, key: Vec<u8>| match random.below(3) {
        0 => Bound::Included(key),
        1 => Bound::Excluded(key),
        _ => Bound::Unbounded,
    };
    let range = (bounds(random, from), bounds(random, to));
    let is_in = |key: &Vec<u8>| std::ops::RangeBounds::contains(&range, key);
    let borrowed = (range.0.as_ref().map(Vec::as_slice), range.1.as_ref().map(Vec::as_slice));
    let wanted = expected(kept.iter().filter(|(key, _)| is_in(key)));
    assert_eq!(rows(table.range(borrowed)), wanted);
    // From both ends, they meet.
    let mut both = table.range(borrowed);
    let mut ends = Vec::new();
    while let Some(row) = both.next() {
        ends.push(row.unwrap());
        ends.extend(both.next_back().map(Result::unwrap));
    }
    ends.sort();
    assert_eq!(ends, wanted);
}

#[test]
fn tables_are_ordered_maps_before_and_after_they_are_opened_again() {
    for seed in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tables");
        let mut random = Random(seed);
        let mut tables = Tables::open_with(&path, &small()).unwrap();
        let mut model = Model::new();
        NAMES.iter().for_each(|name| drop(model.insert(name, BTreeMap::new())));
        for turn in 0..60 {
            let mut changes = Changes::new();
            for _ in 0..random.below(12) {
                let name = NAMES[random.below(3) as usize];
                let (table, key) = (tables.table(name).unwrap(), random.key());
                let (kept, mut change) = (model.get_mut(name).unwrap(), Changes::new());
                if random.below(3) == 0 {
                    change.remove(&table, &key);
                    kept.remove(&key);
                } else {
                    let value = vec![turn; random.below(2000) as usize];
                    change.put(&table, &key, &value);
                    kept.insert(key, value);
                }
                changes.append(change);
            }
            tables.commit(changes).unwrap();
            let name = NAMES[random.below(3) as usize];
            look(&mut random, &tables.table(name).unwrap(), &model[name]);
            if random.below(20) == 0 {
                drop(tables);
                tables = Tables::open_with(&path, &small()).unwrap();
                check_all(&tables, &model);
            }
        }
        check_all(&tables, &model);
        let copy = folder.path().join("copy");
        tables.backup(&copy).unwrap();
        check_all(&Tables::open(&copy).unwrap(), &model);
    }
}

#[test]
fn a_reader_and_a_snapshot_see_what_was_there_when_they_began() {
    let folder = tempfile::tempdir().unwrap();
    let tables = Tables::open(&folder.path().join("tables")).unwrap();
    let table = tables.table("accounts").unwrap();
    let put = |value: u8| {
        let mut changes = Changes::new();
        (0..100_u8).for_each(|key| changes.put(&table, &[key], &[value]));
        tables.commit(changes).unwrap();
    };
    put(1);
    let (mut reader, snapshot) = (table.range(..), tables.snapshot());
    reader.next().unwrap().unwrap();
    put(2);
    let is_old = |row: Result<Row, TablesError>| row.unwrap().1 == [1];
    assert!(reader.all(is_old) && snapshot.range(&table, ..).all(is_old));
    assert_eq!(snapshot.get(&table, &[7]).unwrap(), Some(vec![1]));
    assert_eq!(table.get(&[7]).unwrap(), Some(vec![2]));
}

/// A writer that keeps a number the same in two tables, and another that counts what was added:
/// a copy that is not of one moment shows a difference.
#[test]
fn a_backup_is_of_one_moment_while_writers_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let tables = Tables::open_with(&folder.path().join("tables"), &small()).unwrap();
    let (left, right) = (tables.table("left").unwrap(), tables.table("right").unwrap());
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut number = 0_u32;
            while !is_done.load(Ordering::Acquire) {
                let mut changes = Changes::new();
                for table in [&left, &right] {
                    changes.put(table, b"count", &number.to_be_bytes());
                    changes.put(table, &[b"n", &number.to_be_bytes()[..]].concat(), &[7; 500]);
                }
                tables.commit(changes).unwrap();
                number += 1;
            }
            number
        });
        let mut counts = Vec::new();
        for round in 0..5 {
            let before = left.get(b"count").unwrap();
            let path = folder.path().join(format!("copy{round}"));
            tables.backup(&path).unwrap();
            let copy = Tables::open(&path).unwrap();
            let [one, other] = ["left", "right"].map(|name| copy.table(name).unwrap());
            let count = one.get(b"count").unwrap();
            assert_eq!(count, other.get(b"count").unwrap());
            assert!(count >= before);
            let number = |it: &Vec<u8>| u32::from_be_bytes(it[..].try_into().unwrap());
            let rows = count.as_ref().map_or(0, |count| number(count) as usize + 1);
            assert_eq!([one, other].map(|table| table.prefix(b"n").count()), [rows, rows]);
            counts.push(rows);
        }
        is_done.store(true, Ordering::Release);
        assert!(writer.join().unwrap() > 8 && counts.is_sorted());
    });
}

const DIRECTORY: &str = "LONGSHORE_TEST_DIRECTORY";
const THIS: &str = "commits_are_there_after_the_process_was_killed";

/// Commits for ever, and says each number when its commit has returned.
fn commit_for_ever(path: &Path) {
    let tables = Tables::open_with(path, &small()).unwrap();
    let all = NAMES.map(|name| tables.table(name).unwrap());
    let first = all[0].range(..).count() as u32;
    for number in first.. {
        let mut changes = Changes::new();
        all.iter().for_each(|table| changes.put(table, &number.to_be_bytes(), &[3; 3000]));
        tables.commit(changes).unwrap();
        println!("committed {number}");
    }
}

/// Runs itself as the process that is killed.
#[test]
fn commits_are_there_after_the_process_was_killed() {
    if let Ok(path) = std::env::var(DIRECTORY) {
        return commit_for_ever(path.as_ref());
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tables");
    let mut committed = 0;
    for round in 0..5 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", THIS, "--nocapture"])
            .env(DIRECTORY, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut numbers = lines.filter_map(|line| line.strip_prefix("committed ")?.parse().ok());
        committed = numbers.nth(round * 7).unwrap();
        child.kill().unwrap();
        committed = numbers.last().unwrap_or(committed);
        child.wait().unwrap();
        let tables = Tables::open(&path).unwrap();
        let counts = NAMES.map(|name| tables.table(name).unwrap().range(..).count() as u32);
        assert!(counts[0] > committed, "{committed} was committed, {counts:?} are there");
        assert_eq!(counts, [counts[0]; 3], "all of a commit or nothing");
    }
    assert!(committed > 50);
}

#[test]
fn a_making_that_was_cut_short_is_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tables");
    // As a crash leaves it: some files of the store, and not the last one.
    fs::create_dir(folder.path().join("tables.draft")).unwrap();
    fs::write(folder.path().join("tables.draft/0.jnl"), "").unwrap();
    let tables = Tables::open(&path).unwrap();
    assert_eq!(tables.names(), [""; 0]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    let again = Tables::open(&path).map(drop).unwrap_err();
    assert!(matches!(again, TablesError::InUse), "{again}");
}

#[test]
fn what_cannot_be_is_an_error_in_words_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let tables = Tables::open(&folder.path().join("tables")).unwrap();
    let table = tables.table("accounts").unwrap();
    for name in [String::new(), "n".repeat(256)] {
        let error = tables.table(&name).map(drop).unwrap_err().to_string();
        assert_eq!(error, "the name of a table has a length that none may have");
    }
    for key in [vec![], vec![0; 65_536]] {
        let mut changes = Changes::new();
        changes.put(&table, b"sound", b"");
        changes.put(&table, &key, b"");
        let error = tables.commit(changes).unwrap_err().to_string();
        assert_eq!(error, "a key has a length that none may have");
    }
    assert_eq!((table.range(..).count(), table.get(&[]).unwrap()), (0, None));
    fs::create_dir(folder.path().join("full")).unwrap();
    fs::write(folder.path().join("full/mine"), "").unwrap();
    let full = folder.path().join("full");
    let refused = [tables.backup(&full), Tables::open(&full).map(drop)];
    for error in refused.map(Result::unwrap_err) {
        assert!(matches!(error, TablesError::NotEmpty), "{error}");
    }
    let left = ["full", "tables"];
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, left);
}
