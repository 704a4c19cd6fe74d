//! A hostile client beside an honest pair, which must never notice: not what breaks every rule, and
//! not what is within the rules and dear to a broker.
//!
//! What the hostile client does is made by seeds. LONGSHORE_HOSTILE_SEEDS says which, the first and
//! the one after the last: `0..10000`, or one alone: `57`.

// What is shared with tests/clients.rs, and not all of it needed here.
#[allow(dead_code, reason = "each user of these needs another part of them")]
mod clients {
    mod acts;
    mod broker;
    mod dice;
    mod hostile;
    mod pair;
    mod process;
    mod wire;

    pub(crate) use acts::ACTS;
    pub(crate) use broker::Broker;
    pub(crate) use dice::Dice;
    pub(crate) use hostile::Hostile;
    pub(crate) use pair::{Delays, Pair};
}

use std::net::SocketAddr;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use clients::{ACTS, Broker, Delays, Dice, Hostile, Pair};

/// As many as take about 20 seconds.
const SEEDS: Range<u64> = 0..1_200;

/// Limits that a hostile client reaches at once, and an honest one never.
const LIMITS: [(&str, &str); 15] = [
    ("LIMITS__CONNECTIONS_PER_ADDRESS", "24"),
    ("LIMITS__CONNECT_TIMEOUT_SECS", "1"),
    ("LIMITS__PACKET_BYTES", "1048576"),
    ("LIMITS__PACKET_SECS", "2"),
    ("LIMITS__INPUT_BYTES", "4194304"),
    ("LIMITS__OUTPUT_BYTES", "262144"),
    ("LIMITS__OUTPUT_STALL_SECS", "1"),
    ("LIMITS__SUBSCRIPTIONS", "100"),
    ("LIMITS__RECEIVE_MAXIMUM", "1024"),
    ("LIMITS__QUEUE_MESSAGES", "1000"),
    ("LIMITS__QUEUE_BYTES", "1048576"),
    ("LIMITS__QUEUE_BYTES_TOTAL", "4194304"),
    ("LIMITS__RETAINED_MESSAGES", "1000"),
    ("LIMITS__RETAINED_BYTES", "4194304"),
    ("LIMITS__ROUTE_CACHE_BYTES", "65536"),
];

/// Messages of the pair before anybody is hostile.
const CALM: usize = 1_000;

/// Whoever measures how long messages take is to be alone.
static ALONE: Mutex<()> = Mutex::new(());

fn seeds() -> Range<u64> {
    let Ok(text) = std::env::var("LONGSHORE_HOSTILE_SEEDS") else { return SEEDS };
    let number = |text: &str| text.trim().parse().unwrap_or_else(|_| panic!("no seed: {text}"));
    match text.split_once("..") {
        Some((first, end)) => number(first)..number(end),
        None => number(&text)..number(&text) + 1,
    }
}

/// A topic that no hostile client comes upon.
fn secret() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    format!("honest-{:016x}", Dice::new(now.as_nanos() as u64).next())
}

/// A pair at `address`, and how long its messages take in calm.
fn pair(address: SocketAddr) -> (Pair, Delays) {
    let pair = Pair::start(address, &secret());
    pair.hear(CALM);
    let calm = pair.delays();
    (pair, calm)
}

#[test]
fn a_hostile_client_goes_unnoticed_by_an_honest_pair() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut broker = Broker::start(&["mqtt", "ws", "http"], &LIMITS);
    let others = vec![broker.address("ws"), broker.address("http")];
    let mut hostile = Hostile::new(broker.address("mqtt"), others);
    let (pair, calm) = pair(broker.address("mqtt"));
    for seed in seeds() {
        let result = catch_unwind(AssertUnwindSafe(|| {
            hostile.run(seed);
            pair.hear(10);
            assert!(broker.process().is_running(), "the broker ended");
        }));
        if let Err(panic) = result {
            eprintln!("seed {seed}, or one shortly before it; LONGSHORE_HOSTILE_SEEDS={seed}");
            resume_unwind(panic);
        }
    }
    let beside = pair.stop();
    println!("in calm: {calm}\nbeside {} seeds: {beside}", seeds().count());
    let log = broker.process().story();
    assert!(!log.contains("panicked"), "{log}");
    assert!(beside.are_fair(&calm), "in calm: {calm}\nbeside {} seeds: {beside}", seeds().count());
}

/// With the limits that everybody has, for low ones hide what is dear.
#[test]
fn what_is_dear_to_a_broker_goes_unnoticed_by_an_honest_pair() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut faults = Vec::new();
    for (name, act) in ACTS {
        // All on one shard, so that the pair meets whatever it does.
        let mut broker = Broker::start(&["mqtt"], &[("THREADS__SHARDS", "1")]);
        let address = broker.address("mqtt");
        let (pair, calm) = pair(address);
        let result = catch_unwind(AssertUnwindSafe(|| {
            act(address);
            pair.hear(100);
            assert!(broker.process().is_running(), "the broker ended");
        }));
        let is_broken = result.is_err();
        let beside = if is_broken { pair.delays() } else { pair.stop() };
        println!("{name}: {beside}");
        if is_broken || !beside.are_fair(&calm) {
            faults.push(format!("{name}: {beside}\n  in calm: {calm}"));
        }
    }
    assert!(faults.is_empty(), "the pair noticed\n{}", faults.join("\n"));
}
