//! The real binary, killed over and over while it works, on one data directory: nothing that was
//! acknowledged is ever lost, and nothing comes twice that must come once.
//!
//! The clients keep their own books, over all kills: publishers at QoS 0, 1 and 2 that finish what
//! they began, receivers that are always there, that come and go, that sleep through several kills,
//! that change their subscriptions or throw their session away, shared groups, retained messages,
//! wills. After the last kill everything that is to come comes, and the books are audited
//! (`tests/kill/books.rs` says against what).
//!
//! | variable | is |
//! | --- | --- |
//! | `LONGSHORE_KILLS` | how often the broker is killed, or all connections break. 20 |
//! | `LONGSHORE_SEED` | what chance is made from. Another one each time, which is printed |
//!
//! A seed repeats what the clients do, not what the system does with it: a fault that it has shown
//! comes again within some runs, if not in the first.

// What is shared with tests/clients.rs, and not all of it needed here.
#[allow(dead_code, reason = "each user of these needs another part of them")]
#[path = "clients"]
mod clients {
    mod broker;
    mod caller;
    mod dice;
    mod process;
    mod wire;

    pub(crate) use broker::{Broker, command};
    pub(crate) use caller::{Caller, Message};
    pub(crate) use dice::Dice;
    pub(crate) use process::{LATE, PATIENCE, Process};
    pub(crate) use wire::{DISCONNECT, Inbox, connect, packet, subscribe};
}

#[path = "kill"]
mod kill {
    mod books;
    mod crew;
    mod kept;
    mod line;
    mod member;
    mod payload;
    mod publisher;
    mod reader;
    mod run;
    mod scenarios;

    use super::clients;

    pub(crate) use run::{End, Run};
}

use std::time::{SystemTime, UNIX_EPOCH};

use kill::{End, Run};

/// Kills when nobody says how many: as many as take about 20 seconds.
const KILLS: u64 = 20;

/// The number in the variable `name`.
fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.trim().parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

fn run(end: End) {
    let kills = variable("LONGSHORE_KILLS").unwrap_or(KILLS);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    let seed = variable("LONGSHORE_SEED").unwrap_or(now.as_nanos() as u64);
    println!("LONGSHORE_SEED={seed} LONGSHORE_KILLS={kills}, each a {end:?}");
    Run::new(seed).all(kills as u32, end);
}

#[test]
fn nothing_acknowledged_is_lost_however_often_the_broker_is_killed() {
    run(End::Kill);
}

/// The same while the broker lives on: what is wrong here has nothing to do with its memory.
#[test]
fn nothing_acknowledged_is_lost_however_often_all_connections_break() {
    run(End::Cut);
}
