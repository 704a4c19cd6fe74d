//! Millions of retained messages: what they take, what a change and a read of them cost, and how
//! long a restart takes.
//!
//! `TOPICS` is how many, 5,000,000 if it is not set; with the argument `restart` the restart is
//! measured. Each figure is of one run: what is measured is long enough.

#[allow(dead_code, reason = "each user of the bed needs another part of it")]
mod bed;

use std::env;
use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bed::journal::{Journal, memory, timed};
use bed::{Bed, publish};
use longshore::ConnectionId;
use longshore::codec::QoS;
use longshore::shard::Config;

const TOPICS: usize = 5_000_000;
const PAYLOAD: usize = 64;
/// Messages of one turn.
const TURN: usize = 512;
/// Exact topics that are read.
const GETS: usize = 200_000;
/// How many of them differ.
const SUBSCRIPTIONS: usize = 1_000;
/// Levels in the middle.
const BRANCHES: usize = 1_000;

/// What the shard is made with: its routes are not what is counted here.
fn config() -> Config {
    let mut config = Bed::config();
    let mut limits = (*config.limits).clone();
    limits.route_cache_bytes = 1 << 20;
    config.limits = Arc::new(limits);
    config
}

fn topic(number: usize) -> String {
    format!("building/{:03}/sensor/{number:08}", number % BRANCHES)
}

/// Publishes so many retained messages, and commits them if there is a journal.
fn set(bed: &mut Bed, publisher: ConnectionId, topics: usize, journal: Option<&Journal>) {
    let mut from = 0;
    while from < topics {
        let to = topics.min(from + TURN);
        let one = |number| publish(&topic(number), QoS::AtMostOnce, true, &[b'x'; PAYLOAD]);
        let batch: Vec<u8> = (from..to).flat_map(one).collect();
        bed.turn(publisher, &batch);
        if let Some(journal) = journal {
            journal.commit(bed);
        }
        bed.read_all();
        from = to;
    }
}

fn in_memory(topics: usize) {
    let mut bed = Bed::of(config());
    let publisher = bed.connect("publisher");
    let resident = memory("VmRSS:");
    let info = allocation_counter::measure(|| {
        timed("set", topics, || set(&mut bed, publisher, topics, None));
    });
    let resident = (memory("VmRSS:") - resident) * 1024 / topics;
    let each = info.bytes_current as usize / topics;
    println!("{each} bytes each, {resident} resident, with a payload of {PAYLOAD}");
    timed("set again", topics, || set(&mut bed, publisher, topics, None));
    let reader = bed.connect("reader");
    timed("get", GETS, || {
        for number in 0..GETS {
            // As few as one may subscribe to.
            let number = number % SUBSCRIPTIONS * (topics / SUBSCRIPTIONS);
            bed.subscribe(reader, &topic(number), QoS::AtMostOnce);
            black_box(bed.read_all());
        }
    });
    let mut read = |filter: &str, count: usize| {
        let reader = bed.connect(filter);
        timed(&filter[..filter.len().min(30)], count, || {
            bed.subscribe(reader, filter, QoS::AtMostOnce);
            black_box(bed.read_all());
        });
    };
    read("building/+/sensor/00000007", BRANCHES);
    read("building/007/sensor/+", topics / BRANCHES);
    read("building/+/+/00000007", BRANCHES);
    read("+/+/sensor/+", topics);
    read("building/#", topics);
    read("#", topics);
    // Each costs what it lists, however many topics there are.
    let names = |numbers: &[usize], width: usize| {
        numbers.iter().map(|it| format!("{it:0width$}")).collect::<Vec<_>>().join(",")
    };
    let branches: Vec<usize> = (0..10).map(|number| number * 7).collect();
    let each = (topics / BRANCHES).min(100);
    let sensors = |branch: usize, count: usize| (0..count).map(move |it| branch + it * BRANCHES);
    let some: Vec<usize> = branches.iter().flat_map(|branch| sensors(*branch, each)).collect();
    let filter = format!("building/{}/sensor/{}", names(&branches, 3), names(&some, 8));
    println!("a selector of {} by {}, which finds {}", branches.len(), some.len(), some.len());
    read(&filter, branches.len() * some.len());
    let all: Vec<usize> = (0..BRANCHES).collect();
    println!("a selector of {}", all.len());
    read(&format!("building/{}/sensor/00000007", names(&all, 3)), all.len());
}

fn restart(topics: usize, directory: &Path) {
    let (config, journal) = Journal::open(directory, config());
    let mut bed = Bed::of(config);
    let publisher = bed.connect("publisher");
    timed("set with a journal", topics, || set(&mut bed, publisher, topics, Some(&journal)));
    drop((bed, journal));
    // Another process, whose memory is its own.
    let program = env::current_exe().expect("this one");
    let opened = Command::new(program).arg("open").arg(directory).status();
    assert!(opened.expect("it runs").success());
}

fn reopen(topics: usize, directory: &Path) {
    let resident = memory("VmRSS:");
    let kept = timed("restart", topics, || Journal::open(directory, config()));
    let (peak, stays) = (memory("VmHWM:") - resident, memory("VmRSS:") - resident);
    println!("{} bytes each at most, {} stay", peak * 1024 / topics, stays * 1024 / topics);
    drop(kept);
}

fn main() {
    let topics = env::var("TOPICS").ok().and_then(|it| it.parse().ok()).unwrap_or(TOPICS);
    let arguments: Vec<String> = env::args().skip(1).collect();
    // Once through, where nobody measures.
    let topics = if arguments.iter().any(|it| it == "--test") { 50_000 } else { topics };
    match &arguments[..] {
        [open, directory] if open == "open" => reopen(topics, directory.as_ref()),
        _ if arguments.iter().any(|it| it == "restart") => {
            let directory = tempfile::tempdir().expect("a directory");
            restart(topics, directory.path());
        }
        _ => in_memory(topics),
    }
}
