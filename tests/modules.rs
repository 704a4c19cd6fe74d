//! The real binary with the modules of the telematics hub, killed over and over while trackers are
//! at work: nothing that a tracker was acknowledged for is ever lost (R3.22).
//!
//! ```text
//! trackers --> channel --> device --> streams --> a platform that takes most batches
//! ```
//!
//! Trackers remember what was acknowledged. After the last kill all of that is in the buffer of the
//! channel, in the history of its device, and was taken by the platform, for each device in its
//! order; and what a stream knew to be taken did not come again.
//!
//! | variable | is |
//! | --- | --- |
//! | `LONGSHORE_KILLS` | how often the broker is killed. 12 |
//! | `LONGSHORE_SEED` | what chance is made from. Another one each time, which is printed |

// What is shared with tests/clients.rs, and not all of it needed here.
#[allow(dead_code, reason = "each user of these needs another part of them")]
#[path = "clients"]
mod clients {
    mod broker;
    mod dice;
    mod process;

    pub(crate) use broker::{Broker, command};
    pub(crate) use dice::Dice;
    pub(crate) use process::{LATE, PATIENCE, Process};
}

#[path = "modules"]
mod modules {
    mod bench;
    mod books;
    mod chain;
    mod dictionary;
    mod endpoint;
    mod hub;
    mod packets;
    mod rest;
    mod run;
    mod stop;
    mod tracker;

    use super::clients;

    pub(crate) use run::Run;
}

use std::time::{SystemTime, UNIX_EPOCH};

/// Kills when nobody says how many: as many as take about 25 seconds.
const KILLS: u64 = 12;

/// The number in the variable `name`.
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.trim().parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn run(kills: u64, is_short: bool) {
    let kills = variable("LONGSHORE_KILLS").unwrap_or(kills);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = variable("LONGSHORE_SEED").unwrap_or(now.as_nanos() as u64);
    println!("LONGSHORE_SEED={seed} LONGSHORE_KILLS={kills}");
    modules::Run::new(seed, is_short).all(kills as u32);
}

/// R3.13, R3.22, R4.7, R6.8, R6.10.
#[test]
fn nothing_a_tracker_was_acknowledged_for_is_lost_however_often_the_hub_is_killed() {
    run(KILLS, false);
}

/// The same where queues between modules are always full.
#[test]
fn nothing_a_tracker_was_acknowledged_for_is_lost_where_modules_do_not_keep_up() {
    run(KILLS / 2, true);
}
