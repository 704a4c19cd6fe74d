//! Logs in memory and on the disk.

use longshore_expression::Filter;
use serde_json::Value;

use super::*;
use crate::notices::{Change, Kind, What};

fn options(most: u64) -> Options {
    Options { log_events_per_account: most, log_ttl_secs: 100, ..Options::default() }
}

fn add(logs: &Logs, account: u64, secs: u64, id: u64) {
    let what = What::Object { kind: Kind::Limit, id, change: Change::Created };
    let notice = Notice { account, at: Wall(secs * 1_000_000), what };
    let record = Value::Object(notice.to_json()).to_string();
    logs.add(&notice, &record).expect("it can be written");
}

/// The numbers of the objects whose records are found.
fn found(logs: &Logs, query: LogQuery<'_>) -> Vec<u64> {
    let mut reader = logs.read(query).expect("it can be read");
    let mut found = Vec::new();
    while let Some(slice) = reader.next_slice(7).expect("it can be read") {
        found.extend(slice.iter().filter_map(|record| record["id"].as_u64()));
    }
    found
}

/// Logs in memory, and logs on the disk, which are to be the same.
fn each(most: u64, check: impl Fn(&dyn Fn() -> Logs)) {
    let options = options(most);
    check(&|| Logs::in_memory(&options));
    let folder = tempfile::tempdir().expect("a folder");
    check(&|| Logs::open(folder.path(), &options).expect("it opens"));
}

/// Specification of the broker, 20.6.
#[test]
fn records_of_several_accounts_are_merged_by_time_from_either_end() {
    each(1_000, |open| {
        let logs = open();
        for secs in 0..200 {
            add(&logs, 1 + secs % 3, secs, secs);
        }
        let accounts = [1, 2, 3, 4];
        assert_eq!(found(&logs, LogQuery::of(&accounts)), (0..200).collect::<Vec<_>>());
        let mut last = LogQuery::of(&accounts[..2]);
        (last.reverse, last.count) = (true, 4);
        assert_eq!(found(&logs, last), [199, 198, 196, 195]);
        let filter = Filter::parse("id % 10 == 0").expect("an expression");
        let mut some = LogQuery::of(&accounts);
        (some.from, some.to) = (Wall(20_000_000), Wall(60_000_000));
        some.filter = Some(&filter);
        assert_eq!(found(&logs, some), [20, 30, 40, 50]);
        assert_eq!(found(&logs, LogQuery::of(&[])), Vec::<u64>::new());
    });
}

#[test]
fn an_account_has_so_many_records_and_loses_its_oldest() {
    each(100, |open| {
        let logs = open();
        for secs in 0..1_000 {
            add(&logs, 1, secs, secs);
            if secs % 10 == 0 {
                logs.keep().expect("it can be written");
            }
        }
        add(&logs, 2, 0, 7);
        let left = found(&logs, LogQuery::of(&[1]));
        assert!((100..=100 + EXCESS as usize).contains(&left.len()), "{}", left.len());
        assert_eq!(left, (1_000 - left.len() as u64..1_000).collect::<Vec<_>>());
        assert_eq!(found(&logs, LogQuery::of(&[2])), [7]);
    });
}

#[test]
fn what_is_too_old_goes_and_what_is_of_accounts_that_are_gone() {
    each(10_000, |open| {
        let logs = open();
        for account in 1..=3 {
            (0..200).for_each(|secs| add(&logs, account, secs, secs));
        }
        logs.keep().expect("it can be written");
        let now = Wall(250_000_000);
        logs.sweep(|account| account != 2, now).expect("it can be written");
        for (account, want) in [(1, 150..200), (2, 0..0), (3, 150..200)] {
            assert_eq!(found(&logs, LogQuery::of(&[account])), want.collect::<Vec<_>>());
        }
        // The next round comes later.
        logs.sweep(|_| false, now).expect("it can be written");
        assert_eq!(found(&logs, LogQuery::of(&[1])).len(), 50);
    });
}

/// Specification of the broker, 20.1.
#[test]
fn logs_on_the_disk_go_on_where_they_were() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Logs::open(folder.path(), &options(100)).expect("it opens");
    for round in 0..3 {
        let logs = open();
        add(&logs, 1, round, round);
        logs.keep().expect("it can be written");
        assert_eq!(logs.lock().spans[&1].next, round + 1);
    }
    assert_eq!(found(&open(), LogQuery::of(&[1])), [0, 1, 2]);
}

#[test]
fn a_damaged_log_is_put_aside_and_a_new_one_begins() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Logs::open(folder.path(), &options(100)).expect("it opens");
    add(&open(), 1, 1, 1);
    let path = folder.path().join(FOLDER);
    std::fs::write(path.join("version"), b"nonsense").expect("it can be written");
    let logs = open();
    add(&logs, 1, 2, 2);
    assert_eq!(found(&logs, LogQuery::of(&[1])), [2]);
    assert!(folder.path().join(DAMAGED).exists());
}
