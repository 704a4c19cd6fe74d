//! The simulator: the real shard under a fake network and two clocks, driven by one seed.
//!
//! | module | holds |
//! | --- | --- |
//! | [`choices`] | where all choices come from |
//! | [`setup`] | what is settled before the first step |
//! | [`world`] | broker, network and clocks |
//! | [`network`] | bytes on their way |
//! | [`client`], [`actions`] | how clients answer, and what they say by themselves |
//! | [`run`] | the steps, and the quiet at the end |
//! | [`oracle`] | what the broker owes |
//! | [`delayed`] | other worlds, where shards are far apart |
//! | [`trace`] | what happened |

pub(crate) mod actions;
pub(crate) mod choices;
pub(crate) mod client;
pub(crate) mod delayed;
pub(crate) mod network;
pub(crate) mod oracle;
pub(crate) mod run;
pub(crate) mod setup;
#[path = "../shards/mod.rs"]
pub(crate) mod shards;
pub(crate) mod trace;
pub(crate) mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use choices::Choices;
use delayed::Delayed;
use trace::Trace;
use world::World;

/// Runs the world of one seed; a number that is the same in every run of it.
pub(crate) fn run_seed(seed: u64) -> (u64, u64) {
    watched(seed, "one_seed", |trace| World::new(Choices::seeded(seed), trace).run())
}

/// Runs the world of one seed in which mail is delayed.
pub(crate) fn run_delayed(seed: u64) -> (u64, u64) {
    watched(seed, "one_delayed_seed", |trace| Delayed::new(Choices::seeded(seed), trace).run())
}

fn watched(seed: u64, test: &str, run: impl FnOnce(Trace)) -> (u64, u64) {
    let trace = Trace::new();
    let of_world = trace.clone();
    let outcome = catch_unwind(AssertUnwindSafe(|| run(of_world)));
    if let Err(panic) = outcome {
        eprintln!("{trace}");
        eprintln!("seed {seed} fails; to see it again:");
        eprintln!("LONGSHORE_SEED={seed} cargo test --test sim {test}");
        resume_unwind(panic);
    }
    trace.hash()
}

/// Runs the world that a fuzzer's bytes make.
pub(crate) fn run_bytes(data: &[u8]) {
    World::new(Choices::of_bytes(data), Trace::new()).run();
}
