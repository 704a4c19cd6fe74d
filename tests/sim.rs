//! The deterministic simulator: seeds drive clients, a network and two clocks against the shard,
//! and an oracle holds it to the standard.
//!
//! A run that fails says its seed and its last events. `LONGSHORE_SEED=123 cargo test --test sim`
//! runs that one again, `LONGSHORE_SEEDS=10000` more of them, `LONGSHORE_TRACE=1` prints all.

#[path = "sim/mod.rs"]
#[expect(dead_code, reason = "the test runs seeds, a fuzz target runs bytes")]
mod sim;

#[path = "sim/races.rs"]
mod races;

/// Tests that share the seeds, so that they run side by side.
const PARTS: u64 = 4;

/// A number from the environment.
fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

fn part(part: u64) {
    if number("LONGSHORE_SEED").is_some() {
        return;
    }
    let seeds = number("LONGSHORE_SEEDS").unwrap_or(200);
    for seed in (0..seeds).filter(|seed| seed % PARTS == part) {
        sim::run_seed(seed);
    }
}

#[test]
fn two_hundred_seeds_hold_1() {
    part(0);
}

#[test]
fn two_hundred_seeds_hold_2() {
    part(1);
}

#[test]
fn two_hundred_seeds_hold_3() {
    part(2);
}

#[test]
fn two_hundred_seeds_hold_4() {
    part(3);
}

#[test]
fn one_seed_holds_if_it_is_named() {
    if let Some(seed) = number("LONGSHORE_SEED") {
        sim::run_seed(seed);
    }
}

#[test]
fn seeds_hold_where_mail_is_delayed() {
    if number("LONGSHORE_SEED").is_none() {
        for seed in 0..number("LONGSHORE_SEEDS").unwrap_or(200) {
            sim::run_delayed(seed);
        }
    }
}

#[test]
fn one_delayed_seed_holds_if_it_is_named() {
    if let Some(seed) = number("LONGSHORE_SEED") {
        sim::run_delayed(seed);
    }
}

#[test]
fn a_seed_replays_exactly() {
    for seed in 1_000..1_005 {
        assert_eq!(sim::run_seed(seed), sim::run_seed(seed), "seed {seed}");
        assert_eq!(sim::run_delayed(seed), sim::run_delayed(seed), "delayed seed {seed}");
    }
}
