//! Millions of messages that wait for absent clients: what they take, and what it costs to keep
//! them, to write them down again, and to read them after a restart.
//!
//! `MESSAGES` is how many, 10,000,000 if it is not set. Each figure is of one run: what is measured
//! is long enough.

#[allow(dead_code, reason = "each user of the bed needs another part of it")]
mod bed;

use std::env;
use std::path::Path;
use std::process::Command;

use bed::journal::{Journal, memory, timed};
use bed::{Bed, publish};
use longshore::codec::QoS;
use longshore::shard::Config;

/// That of the binary.
#[cfg(feature = "cli")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const MESSAGES: usize = 10_000_000;
/// Clients that are away: each message is for one of them.
const CLIENTS: usize = 1_000;
const PAYLOAD: usize = 64;
/// Messages of one turn.
const TURN: usize = 512;

fn config() -> Config {
    let mut config = Bed::config();
    let mut limits = (*config.limits).clone();
    (limits.queue_messages, limits.queue_bytes) = (usize::MAX, usize::MAX);
    config.limits = limits.into();
    config
}

fn keep(messages: usize, directory: &Path) {
    let (config, journal) = Journal::open(directory, config());
    let mut bed = Bed::of(config);
    for client in 0..CLIENTS {
        bed.visit(&format!("client-{client}"), &format!("to/{client}/+"));
    }
    journal.commit(&mut bed);
    let publisher = bed.connect("publisher");
    let resident = memory("VmRSS:");
    timed("keep", messages, || {
        for from in (0..messages).step_by(TURN) {
            let one = |number: usize| {
                let topic = format!("to/{}/news", number % CLIENTS);
                publish(&topic, QoS::AtLeastOnce, false, &[b'x'; PAYLOAD])
            };
            let batch: Vec<u8> = (from..messages.min(from + TURN)).flat_map(one).collect();
            bed.turn(publisher, &batch);
            journal.commit(&mut bed);
            bed.read_all();
        }
    });
    say_memory(resident, messages);
}

fn say_memory(before: usize, messages: usize) {
    let more = |name| memory(name).saturating_sub(before) * 1024 / messages;
    println!("{} bytes each at most, {} stay", more("VmHWM:"), more("VmRSS:"));
}

fn restart(messages: usize, directory: &Path) {
    let resident = memory("VmRSS:");
    let (config, journal) =
        timed("read after a restart", messages, || Journal::open(directory, config()));
    let mut bed = Bed::of(config);
    timed("begin", messages, || bed.shard.restore(Bed::NOW));
    bed.read_all();
    say_memory(resident, messages);
    timed("write down again", messages, || {
        journal.commit(&mut bed);
        let base = journal.log().current();
        bed.shard.compact(base);
        while bed.shard.is_compacting() {
            bed.shard.compact_slice(&mut |batch| Some(journal.append(batch)));
            journal.commit(&mut bed);
            bed.read_all();
        }
    });
    say_memory(resident, messages);
}

fn main() {
    let messages = env::var("MESSAGES").ok().and_then(|it| it.parse().ok()).unwrap_or(MESSAGES);
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [restarted, directory] = &arguments[..]
        && restarted == "restart"
    {
        return restart(messages, directory.as_ref());
    }
    // Once through, where nobody measures.
    let messages = if arguments.iter().any(|it| it == "--test") { 10_000 } else { messages };
    let directory = tempfile::tempdir().expect("a directory");
    keep(messages, directory.path());
    // Another process, whose memory is its own.
    let program = env::current_exe().expect("this one");
    let mut restarted = Command::new(program);
    restarted.arg("restart").arg(directory.path()).env("MESSAGES", messages.to_string());
    assert!(restarted.status().expect("it runs").success());
}
