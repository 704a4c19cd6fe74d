//! Who takes part: publishers, receivers of every kind, and their habits.

use longshore::codec::Version;

use super::books::Books;
use super::kept::Keeper;
use super::member::{Habit, Member, Nature};
use super::publisher::Publisher;
use super::reader::Reader;

const V3: Nature = Nature {
    version: Version::V3_1_1,
    is_clean: false,
    receive_maximum: u16::MAX,
    has_will: false,
    habit: Habit::Stays,
};
const V5: Nature = Nature { version: Version::V5, receive_maximum: 200, ..V3 };

/// Topics of a publisher, and the QoS of what it publishes there.
fn topics(course: usize, levels: &[u8]) -> Vec<(String, u8)> {
    let topic = |(number, &qos): (usize, &u8)| (format!("load/{course}/{number}"), qos);
    levels.iter().enumerate().map(topic).collect()
}

/// Name, nature, QoS of each topic, messages under way at once.
const PUBLISHERS: [(&str, Nature, [u8; 3], usize); 7] = [
    ("publisher-1-v5", Nature { has_will: true, ..V5 }, [1, 1, 1], 24),
    ("publisher-1-v3", V3, [1, 1, 1], 6),
    ("publisher-2-v5", V5, [2, 2, 2], 24),
    ("publisher-2-v3", V3, [2, 2, 2], 6),
    ("publisher-mixed", Nature { habit: Habit::Flaps, ..V5 }, [1, 2, 2], 16),
    // It does not come back to what it began.
    ("publisher-clean", Nature { is_clean: true, ..V3 }, [1, 1, 1], 8),
    ("publisher-0", Nature { is_clean: true, ..V5 }, [0, 0, 0], 2),
];

/// Filters with their QoS.
type Wants = &'static [(&'static str, u8)];

/// What else there is to a receiver.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// A member of the group of this number.
    Member(usize),
    /// Its subscriptions change.
    Changes,
    /// Its session is thrown away now and then.
    Forgets,
}

const ALL: &str = "load/#";
const EACH: Wants = &[("load/0/+", 1), ("load/1/+", 1), ("load/2/+", 1), ("load/4/+", 1)];
const EACH_2: Wants = &[("load/0/+", 2), ("load/2/+", 2), ("load/3/+", 2), ("load/4/+", 2)];

const fn sleeps(awake: u32, of: u32, from: u32) -> Habit {
    Habit::Sleeps { awake, of, from }
}

/// Name, nature, filters, acknowledgements held back, kind.
const READERS: [(&str, Nature, Wants, usize, Kind); 14] = [
    ("reader-1-v5", Nature { has_will: true, ..V5 }, &[(ALL, 1)], 0, Kind::Plain),
    ("reader-2-v3", V3, &[(ALL, 2)], 8, Kind::Plain),
    (
        "reader-2-flaps",
        Nature { receive_maximum: 20, habit: Habit::Flaps, ..V5 },
        &[("load/+/+", 2)],
        3,
        Kind::Plain,
    ),
    ("reader-1-flaps", Nature { habit: Habit::Flaps, ..V3 }, &[(ALL, 1)], 30, Kind::Plain),
    ("sleeper-1", Nature { habit: sleeps(1, 4, 0), ..V3 }, &[(ALL, 1)], 5, Kind::Plain),
    (
        "sleeper-2",
        Nature { habit: sleeps(2, 5, 3), ..V5 },
        &[("load/+/0", 2), ("load/2/#", 2), ("load/4/+", 1)],
        5,
        Kind::Plain,
    ),
    ("sleeper-long", Nature { habit: sleeps(1, 9, 8), ..V5 }, &[(ALL, 2)], 0, Kind::Plain),
    ("changer-1", V5, EACH, 2, Kind::Changes),
    ("changer-2", Nature { habit: Habit::Flaps, ..V3 }, EACH_2, 2, Kind::Changes),
    ("forgetter", Nature { habit: Habit::Flaps, ..V5 }, &[(ALL, 2)], 4, Kind::Forgets),
    (
        "group-1-a",
        Nature { habit: sleeps(3, 5, 0), ..V5 },
        &[("$share/one/load/#", 1)],
        4,
        Kind::Member(1),
    ),
    (
        "group-1-b",
        Nature { habit: sleeps(3, 5, 4), ..V3 },
        &[("$share/one/load/#", 1)],
        4,
        Kind::Member(1),
    ),
    (
        "group-2-a",
        Nature { habit: sleeps(3, 5, 1), ..V5 },
        &[("$share/two/load/#", 2)],
        4,
        Kind::Member(2),
    ),
    (
        "group-2-b",
        Nature { habit: sleeps(3, 5, 2), ..V3 },
        &[("$share/two/load/#", 2)],
        4,
        Kind::Member(2),
    ),
];

/// Everybody, entered in the books.
pub(crate) fn muster(books: &mut Books) -> Vec<Member> {
    let topics: Vec<_> = PUBLISHERS.iter().enumerate().map(|(at, it)| topics(at, &it.2)).collect();
    let courses: Vec<_> =
        PUBLISHERS.iter().zip(&topics).map(|(it, topics)| books.course(it.0, topics)).collect();
    let (mut readers, mut steady) = (Vec::new(), Vec::new());
    for (name, nature, wants, lag, kind) in READERS {
        let bare = |filter: &'static str| match filter.strip_prefix("$share/") {
            Some(rest) => rest.split_once('/').expect("a name and a filter").1,
            None => filter,
        };
        let group = if let Kind::Member(group) = kind { Some(group) } else { None };
        let account =
            books.reader(name, group, wants.iter().map(|&(filter, qos)| (bare(filter), qos)));
        let wants: Vec<_> = wants.iter().map(|&(it, qos)| (it.to_owned(), qos)).collect();
        let reader = Reader::new(account, &wants, lag);
        let reader = if kind == Kind::Changes { reader.changing() } else { reader };
        if kind == Kind::Plain && matches!(nature.habit, Habit::Stays | Habit::Flaps) {
            steady.push(account);
        }
        let mut member = Member::new(name, nature, Box::new(reader));
        member.forgets = kind == Kind::Forgets;
        readers.push(member);
    }
    let watcher = books.reader("watcher", None, [("will/#", 1)]);
    let reader = Reader::new(watcher, &[("will/#".to_owned(), 1)], 0);
    readers.push(Member::new("watcher", V5, Box::new(reader)));
    readers.push(Member::new("keeper", V5, Box::new(Keeper::default())));
    for (((name, nature, _, window), topics), course) in PUBLISHERS.iter().zip(&topics).zip(courses)
    {
        let publisher = Publisher::new(course, topics, *window).paced_by(&steady);
        let publisher = if nature.is_clean { publisher.forgetting() } else { publisher };
        readers.push(Member::new(name, *nature, Box::new(publisher)));
    }
    readers
}
