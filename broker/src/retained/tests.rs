//! What is retained is found again, in memory and after a replay.

use std::sync::Arc;

use longshore_codec::{QoS, filter};
use longshore_storage::Position;

use super::item::SMALL_MAX;
use super::*;
use crate::message::{Entry, Expiry, Kept, Message, Parts};
use crate::record::Within;

fn message(topic: &str, expiry: Option<Expiry>) -> Fresh<'_> {
    let parts = Parts { topic: topic.as_bytes(), properties: &[], payload: b"x", shared: None };
    Fresh { parts, qos: QoS::AtMostOnce, expiry, large: None }
}

const PARTS: usize = 3;

/// Of a message that says nothing of its time.
const NOW: Age = Age { time: None, now: Wall(0) };

fn read(retained: &Retained, filter: &str) -> Cursor {
    let pattern = Arc::new(Pattern::new(filter, true));
    retained.cursor(pattern, retained.counts.sequence.load(Ordering::SeqCst))
}

fn all(retained: &Retained, filter: &str, visits: usize) -> Vec<String> {
    let (mut cursor, mut found) = (read(retained, filter), Vec::new());
    let mut slices = 0;
    while !retained.next(&mut cursor, Wall(0), visits, |item| {
        found.push(String::from_utf8(item.topic().to_vec()).unwrap());
        true
    }) {
        slices += 1;
        assert!(slices < 10_000, "a read of {filter} ends");
    }
    found.sort();
    found
}

#[test]
fn a_read_finds_exactly_what_matches_however_it_is_sliced() {
    let levels = ["", "a", "a!", "a0", "b", "$s", "aa", "a,b"];
    let mut topics: Vec<String> = levels.iter().map(|level| (*level).to_owned()).collect();
    for first in levels {
        for second in levels {
            topics.push(format!("{first}/{second}"));
            for third in levels {
                topics.push(format!("{first}/{second}/{third}"));
            }
        }
    }
    topics.retain(|topic| !topic.is_empty());
    let retained = Accounts::new(PARTS, Arc::default()).of(1);
    for topic in &topics {
        retained.set(message(topic, None), NOW, 10_000, 1 << 20).unwrap();
    }
    let filters = [
        "#",
        "a",
        "a/#",
        "+",
        "+/+",
        "+/a",
        "a/+/b",
        "+/+/aa",
        "+/b/#",
        "a/a0",
        "a0/+/a!",
        "$s/#",
        "$s/+",
        "+/a/+",
        "+/a/#",
        "a/#",
        "+/a0/#",
        "/+",
        "/#",
        "+/",
        "b/+/",
        "zz/#",
        "a/zz/+",
        "a,b",
        "a,b/#",
        "a,a!/a,b",
        "b,a/+/a0,zz,a",
        "+/a,a0/#",
        "a/,b",
        ",a/aa,",
        "$s,zz/a,b/+",
        "aa,a!,a0,a,a,b/b,a/#",
        "a/a!,a",
        "a/zz,zy/b",
        "z,y",
        "a/zz,a/",
        "+/a,b/$s,a!",
    ];
    for filter in filters {
        let mut want: Vec<String> =
            topics.iter().filter(|it| filter::matches_selectors(filter, it)).cloned().collect();
        want.sort();
        for visits in [1, 2, 7, 10_000] {
            assert_eq!(all(&retained, filter, visits), want, "{filter} by {visits}");
        }
    }
}

#[test]
fn a_plus_in_the_middle_does_not_visit_what_lies_between() {
    let retained = Accounts::new(1, Arc::default()).of(1);
    for branch in 0..50 {
        for leaf in 0..200 {
            let topic = format!("a/{branch}/{leaf}");
            retained.set(message(&topic, None), NOW, 100_000, 1 << 30).unwrap();
        }
    }
    let (mut cursor, mut found) = (read(&retained, "a/+/7"), 0);
    let complete = retained.next(&mut cursor, Wall(0), 200, |_| {
        found += 1;
        true
    });
    assert!(complete && found == 50, "50 of 10,000 found in 200 visits");
}

#[test]
fn a_selector_costs_what_it_lists() {
    let retained = Accounts::new(1, Arc::default()).of(1);
    for branch in 0..500 {
        for leaf in ["fuel", "position", "speed", "voltage"] {
            retained
                .set(message(&format!("a/{branch}/{leaf}"), None), NOW, 100_000, 1 << 30)
                .unwrap();
        }
    }
    for (filter, count, visits) in [
        ("a/7,3,450,77,nobody/speed", 4, 20),
        ("a/7,3,450,77,nobody/speed,fuel,none", 8, 40),
        ("+/450,3/#", 8, 20),
        ("b,a,c/3/+", 4, 12),
    ] {
        let (mut cursor, mut found) = (read(&retained, filter), 0);
        let complete = retained.next(&mut cursor, Wall(0), visits, |_| {
            found += 1;
            true
        });
        assert!(complete && found == count, "{found} in {visits} visits of {filter}");
    }
}

#[test]
fn a_comma_is_a_character_like_any_other_where_there_are_no_selectors() {
    let retained = Accounts::new(PARTS, Arc::default()).of(1);
    for topic in ["a/x", "b/x", "a,b/x", "a,b"] {
        retained.set(message(topic, None), NOW, 10, 1000).unwrap();
    }
    for (filter, want) in [("a,b/+", 1), ("a,b", 1), ("a,b/#", 2), ("a,b/x", 1)] {
        let pattern = Arc::new(Pattern::new(filter, false));
        let (mut cursor, mut found) = (retained.cursor(pattern, u64::MAX), 0);
        assert!(retained.next(&mut cursor, Wall(0), 100, |_| {
            found += 1;
            true
        }));
        assert_eq!(found, want, "{filter}");
    }
}

#[test]
fn a_message_that_ended_is_neither_read_nor_kept() {
    let accounts = Accounts::new(PARTS, Arc::default());
    let retained = accounts.of(1);
    retained.set(message("a", Some(Expiry::begin(1, Wall(0)))), NOW, 10, 1000).unwrap();
    retained.set(message("b", Some(Expiry::begin(2, Wall(0)))), NOW, 10, 1000).unwrap();
    retained.set(message("b", None), NOW, 10, 1000).unwrap();
    assert_eq!(accounts.next_end(), Some(Wall(1_000_000)));
    let mut cursor = read(&retained, "#");
    let mut found = 0;
    assert!(retained.next(&mut cursor, Wall(1_000_000), 100, |_| {
        found += 1;
        true
    }));
    assert_eq!(found, 1);
    assert!(!accounts.expire(Wall(3_000_000), 10));
    assert_eq!((retained.len(), accounts.next_end()), (1, None));
    retained.clear(b"b", NOW);
    assert_eq!((retained.len(), retained.bytes()), (0, 0));
}

fn set(retained: &Retained, topic: &str) -> u64 {
    retained.set(message(topic, None), NOW, 10_000, 1 << 20).unwrap().expect("nothing is newer")
}

/// What compaction finds in all parts.
fn copied(retained: &Retained, count: usize) -> Vec<String> {
    let mut found = Vec::new();
    for part in 0..PARTS {
        let mut after = None;
        loop {
            after = retained.slice(part, after.as_deref(), count, |item| {
                found.push(String::from_utf8(item.topic().to_vec()).unwrap());
                true
            });
            if after.is_none() {
                break;
            }
        }
    }
    found.sort();
    found
}

#[test]
fn what_a_filter_clears_is_gone_at_once_and_what_comes_later_stays() {
    for visits in [1, 7, 1_000] {
        let retained = Accounts::new(PARTS, Arc::default()).of(1);
        for number in 0..100 {
            set(&retained, &format!("a/{number}"));
            set(&retained, &format!("a/{number}/x"));
        }
        let (mut cursor, sequence) = retained.begin_clear("a/+", true, Extent::Users).unwrap();
        assert_eq!(retained.counts.sequence.load(Ordering::SeqCst), sequence);
        set(&retained, "a/7");
        let left = all(&retained, "#", 256);
        assert!(left.len() == 101 && left.contains(&"a/7".to_owned()));
        assert_eq!(copied(&retained, 3), left);
        while !retained.clear_matching(&mut cursor, &mut { visits }) {}
        assert_eq!((all(&retained, "#", 256), copied(&retained, 256)), (left.clone(), left));
        let bytes: usize = copied(&retained, 256).iter().map(|topic| topic.len() + 1).sum();
        assert_eq!((retained.len(), retained.bytes()), (101, bytes));
        // Not any more.
        assert!(retained.clears.is_empty());
    }
}

/// What a journal tells.
#[derive(Clone, Copy, Debug)]
enum Told {
    Set(&'static str, u64),
    Copy(&'static str, u64),
    Clear(&'static str, u64),
    ClearMatching(&'static str, u64),
    ClearOf(&'static str, &'static [&'static str], u64),
    ClearUsers(&'static str, u64),
    Compacted(u64),
}

fn replayed(told: &[Told]) -> Replayed {
    let mut replayed = Replayed::default();
    for told in told {
        match *told {
            Told::Set(topic, sequence) => replayed.set(message(topic, None), sequence, false),
            Told::Copy(topic, sequence) => replayed.set(message(topic, None), sequence, true),
            Told::Clear(topic, sequence) => replayed.clear(topic.as_bytes(), sequence),
            Told::ClearMatching(filter, sequence) => {
                replayed.clear_matching(filter, true, &Within::All, sequence);
            }
            Told::ClearOf(filter, of, sequence) => {
                let within = Within::Listed(of.to_vec());
                replayed.clear_matching(filter, true, &within, sequence);
            }
            Told::ClearUsers(filter, sequence) => {
                replayed.clear_matching(filter, true, &Within::Users, sequence);
            }
            Told::Compacted(sequence) => replayed.compacted(sequence),
        }
    }
    replayed
}

/// What is retained after a replay, with the numbers.
fn restored(told: &[Told]) -> Vec<(String, u64)> {
    let retained = Accounts::new(PARTS, Arc::default()).of(1);
    retained.restore(replayed(told));
    let mut found = Vec::new();
    let mut cursor = read(&retained, "#");
    assert!(retained.next(&mut cursor, Wall(0), 1_000, |item| {
        found.push((String::from_utf8(item.topic().to_vec()).unwrap(), item.sequence()));
        true
    }));
    found.sort();
    assert_eq!(retained.len(), found.len());
    assert_eq!(retained.bytes(), found.iter().map(|(topic, _)| topic.len() + 1).sum::<usize>());
    found
}

/// Calls `check` with all orders of `items`.
fn permute<T: Copy>(items: &mut [T], from: usize, check: &mut impl FnMut(&[T])) {
    if from == items.len() {
        return check(items);
    }
    for at in from..items.len() {
        items.swap(from, at);
        permute(items, from + 1, check);
        items.swap(from, at);
    }
}

#[test]
fn the_order_in_which_shards_write_changes_nothing() {
    use Told::{Clear, ClearMatching, Set};
    let mut told = [
        Set("a/1", 1),
        Set("a/2", 2),
        Set("b", 3),
        ClearMatching("a/+", 4),
        Set("a/2", 5),
        Clear("b", 6),
        Set("a/3", 7),
    ];
    permute(&mut told, 0, &mut |told| {
        let want = [("a/2".to_owned(), 5), ("a/3".to_owned(), 7)];
        assert_eq!(restored(told), want, "{told:?}");
    });
}

/// Spec 9.7: what limits a deletion is told with it, and limits it in every order.
#[test]
fn a_deletion_takes_only_what_its_publisher_could_have_published() {
    use Told::{ClearMatching, ClearOf, ClearUsers, Set};
    type Row = (Told, &'static [&'static str]);
    let rows: &[Row] = &[
        // What is the broker's is in nobody's deletion.
        (ClearMatching("#", 6), &["flespi/a"]),
        (ClearUsers("#", 6), &["flespi/a"]),
        (ClearUsers("+/a", 6), &["a/b", "b", "flespi/a"]),
        (ClearUsers("flespi/#", 6), &["a/a", "a/b", "b", "c/a", "flespi/a"]),
        (ClearOf("#", &["a/#", "flespi/#"], 6), &["b", "c/a", "flespi/a"]),
        (ClearOf("+/a", &["a,b/+", "b"], 6), &["a/b", "b", "c/a", "flespi/a"]),
        (ClearOf("c,a/a", &["c/+", "+"], 6), &["a/a", "a/b", "b", "flespi/a"]),
        (ClearOf("#", &[], 6), &["a/a", "a/b", "b", "c/a", "flespi/a"]),
    ];
    let topics = ["a/a", "a/b", "b", "c/a", "flespi/a"];
    for (clear, want) in rows {
        let mut told: Vec<_> = (1..).zip(topics).map(|(at, topic)| Set(topic, at)).collect();
        told.push(*clear);
        permute(&mut told, 0, &mut |told| {
            let left: Vec<_> = restored(told).into_iter().map(|(topic, _)| topic).collect();
            assert_eq!(left, *want, "{told:?}");
        });
        // The same while it is under way.
        let retained = Accounts::new(PARTS, Arc::default()).of(1);
        for topic in topics {
            set(&retained, topic);
        }
        let (filter, extent) = match clear {
            ClearOf(filter, of, _) => (filter, Extent::from(&Within::Listed(of.to_vec()))),
            ClearUsers(filter, _) => (filter, Extent::Users),
            ClearMatching(filter, _) => (filter, Extent::All),
            _ => unreachable!("rows are of deletions"),
        };
        let (mut cursor, _) = retained.begin_clear(filter, true, extent).unwrap();
        assert_eq!(all(&retained, "#", 256), *want, "{clear:?}");
        assert_eq!(copied(&retained, 256), *want, "{clear:?}");
        while !retained.clear_matching(&mut cursor, &mut { 2 }) {}
        assert_eq!(all(&retained, "#", 256), *want, "{clear:?}");
    }
}

/// Several limits of one filter, each up to its own number.
#[test]
fn deletions_by_one_filter_keep_their_own_limits() {
    use Told::{ClearOf, ClearUsers, Compacted, Set};
    let clears = [ClearOf("+/x", &["a/#"], 4), ClearOf("+/x", &["b/#"], 6), ClearUsers("+/x", 2)];
    let sets = [Set("a/x", 5), Set("b/x", 5), Set("c/x", 1), Set("c/x", 3)];
    let mut told = [&clears[..], &sets].concat();
    permute(&mut told, 0, &mut |told| {
        let want = [("a/x".to_owned(), 5), ("c/x".to_owned(), 3)];
        assert_eq!(restored(told), want, "{told:?}");
    });
    let mut replayed = replayed(&[&clears[..], &[Compacted(6)]].concat());
    assert!(replayed.is_spent(), "nothing is known any more");
    replayed.set(message("a/x", None), 7, false);
    assert_eq!(replayed.len(), 1);
}

#[test]
fn compaction_brings_nothing_back_and_loses_nothing() {
    use Told::{Clear, ClearMatching, Compacted, Copy, Set};
    type Row = (&'static [Told], &'static [(&'static str, u64)]);
    let rows: &[Row] = &[
        // What was not copied had ended, or its end stood in an older segment.
        (&[Set("a", 1), Set("b", 2), Copy("b", 2), Compacted(2)], &[("b", 2)]),
        // A change of another shard that was written down late.
        (&[Copy("b", 2), Set("a", 1), Compacted(2)], &[("b", 2)]),
        // What is retained during a round stays, copied or not.
        (&[Copy("a", 1), Set("a", 4), Set("b", 3), Compacted(2)], &[("a", 4), ("b", 3)]),
        // A copy that another shard has made of what was cleared meanwhile.
        (&[Clear("a", 3), Copy("a", 1), Compacted(2)], &[]),
        (&[ClearMatching("#", 3), Copy("a", 1), Compacted(2)], &[]),
        (&[Copy("a", 1), ClearMatching("#", 3), Compacted(2)], &[]),
        (&[ClearMatching("#", 3), Compacted(2), Copy("a", 1), Copy("b", 4)], &[("b", 4)]),
        // A round that the broker did not live to complete, and another one.
        (&[Copy("a", 1), Clear("a", 3), Copy("b", 2), Compacted(3)], &[("b", 2)]),
        // Copied by one round and not by the next.
        (&[Copy("a", 1), Compacted(1), Copy("b", 2), Compacted(2)], &[("b", 2)]),
        (
            &[Copy("a", 1), Compacted(1), Copy("a", 1), Compacted(2), Copy("a", 1), Compacted(3)],
            &[("a", 1)],
        ),
        (&[Copy("a", 1), Compacted(1), Compacted(2), Compacted(3), Compacted(4)], &[]),
    ];
    for (told, want) in rows {
        let want: Vec<_> = want.iter().map(|(topic, it)| ((*topic).to_owned(), *it)).collect();
        assert_eq!(restored(told), want, "{told:?}");
    }
}

#[test]
fn numbers_go_on_where_they_were() {
    use Told::{Clear, ClearMatching, Compacted, Set};
    for told in [Set("a", 9), Clear("a", 9), ClearMatching("#", 9), Compacted(9)] {
        let retained = Accounts::new(PARTS, Arc::default()).of(1);
        retained.restore(replayed(&[told]));
        assert_eq!(set(&retained, "b"), 10, "{told:?}");
    }
}

#[test]
fn a_large_message_is_left_to_the_journal_once_it_is_there() {
    let payload = vec![7; SMALL_MAX + 1];
    let parts = Parts { topic: b"a", properties: &[], payload: &payload, shared: None };
    let retained = Accounts::new(PARTS, Arc::default()).of(1);
    let is_on_disk = || {
        let (mut cursor, mut found) = (read(&retained, "a"), None);
        retained.next(&mut cursor, Wall(0), 10, |item| {
            let mut slice = Slice::default();
            slice.take(item, 1, 1);
            found = slice.iter().next().map(|(_, it)| matches!(it, Found::Large(Kept::Disk(_))));
            true
        });
        assert_eq!(retained.bytes(), 1 + payload.len());
        found
    };
    let make = || {
        let message = Arc::new(Message::new(parts, QoS::AtMostOnce, true, None));
        let entry = Arc::new(Entry::new(1, message.size(), QoS::AtMostOnce, None));
        message.enter(Arc::clone(&entry));
        (message, entry)
    };
    let (first, entry) = make();
    fn fresh(message: &Arc<Message>) -> Fresh<'_> {
        let large = Some(Kept::Memory(Arc::clone(message)));
        Fresh { parts: message.parts(), qos: message.qos, expiry: None, large }
    }
    let sequence = retained.set(fresh(&first), NOW, 10, 1 << 20).unwrap().unwrap();
    retained.leave_to_disk(b"a", sequence);
    assert_eq!(is_on_disk(), Some(false), "its record is not there yet");
    let (second, _) = make();
    retained.set(fresh(&second), NOW, 10, 1 << 20).unwrap();
    entry.place(Position { segment: 1, offset: 512 });
    retained.leave_to_disk(b"a", sequence);
    assert_eq!(is_on_disk(), Some(false), "it is not the one that is retained");
    let sequence = retained.set(fresh(&first), NOW, 10, 1 << 20).unwrap().unwrap();
    retained.leave_to_disk(b"a", sequence);
    assert_eq!(is_on_disk(), Some(true));
}
