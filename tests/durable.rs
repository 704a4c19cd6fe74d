//! The model test of the journal behind the broker: random runs of clients that keep their own
//! books, with the power cut at every operation of the disk.
//!
//! A run that fails says its seed, the number of shards, the point of the cut, and what happened.
//!
//! | environment | means |
//! | --- | --- |
//! | `LONGSHORE_SEED=7` | only this seed, at each of its points |
//! | `LONGSHORE_CUT=31` | with that, only this point |
//! | `LONGSHORE_SEEDS=1000` | so many seeds |
//! | `LONGSHORE_POINTS=400` | so many points of each, at most |
//! | `LONGSHORE_TRACE=1` | what happens is printed, also where all is well |

#[path = "sim/choices.rs"]
#[expect(dead_code, reason = "the simulator asks for more")]
mod choices;
#[path = "protocol/doorkeeper.rs"]
mod doorkeeper;
#[path = "protocol/packets.rs"]
#[expect(dead_code, reason = "the protocol's tests ask for more")]
mod packets;
#[path = "protocol/received.rs"]
#[expect(dead_code, reason = "the protocol's tests ask for more")]
mod received;
#[path = "shards/mod.rs"]
#[expect(dead_code, reason = "the simulator asks for more")]
mod shards;
#[path = "protocol/watch.rs"]
#[expect(dead_code, reason = "the protocol's tests ask for more")]
mod watch;
#[path = "protocol/wire.rs"]
#[expect(dead_code, reason = "the protocol's tests ask for more")]
mod wire;

#[path = "durable/book.rs"]
mod book;
#[path = "durable/cases.rs"]
mod cases;
#[path = "durable/client.rs"]
mod client;
#[path = "durable/hear.rs"]
mod hear;
#[path = "durable/retained.rs"]
mod retained;
#[path = "durable/run.rs"]
mod run;
#[path = "durable/settle.rs"]
mod settle;
#[path = "durable/world.rs"]
mod world;

use run::Plan;

/// Points of a seed that are tried when nobody says how many.
const POINTS: u64 = 12;
/// Seeds of each test when nobody says how many.
const SEEDS: u64 = 60;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// Runs seeds with so many shards, each with its power cut at points all over it.
fn seeds(shards: usize) {
    let points_max = number("LONGSHORE_POINTS").unwrap_or(POINTS);
    let seeds = match number("LONGSHORE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LONGSHORE_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        if let Some(cut) = number("LONGSHORE_CUT") {
            run::run(Plan::new(seed, shards, Some(cut)));
            continue;
        }
        let operations = run::run(Plan::new(seed, shards, None));
        let stride = operations.div_ceil(points_max).max(1);
        for cut in (seed % stride..operations).step_by(stride as usize) {
            run::run(Plan::new(seed, shards, Some(cut)));
        }
    }
}

#[test]
fn what_one_shard_has_promised_survives_a_cut_of_the_power() {
    seeds(1);
}

#[test]
fn what_two_shards_have_promised_survives_a_cut_of_the_power() {
    seeds(2);
}

#[test]
fn what_three_shards_have_promised_survives_a_cut_of_the_power() {
    seeds(3);
}

#[test]
fn a_run_replays_exactly() {
    for seed in 0..5 {
        let operations = run::run(Plan::new(seed, 2, None));
        assert_eq!(run::run(Plan::new(seed, 2, None)), operations);
    }
}

#[test]
fn promises_that_come_before_the_commit_are_noticed() {
    let caught = (0..20).any(|seed| {
        let rash = |cut| Plan { is_rash: true, is_quiet: true, ..Plan::new(seed, 1, Some(cut)) };
        (10..200).step_by(9).any(|cut| std::panic::catch_unwind(|| run::run(rash(cut))).is_err())
    });
    assert!(caught, "nobody noticed");
}
