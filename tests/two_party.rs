//! A hostile client beside an honest pair, which must never notice.
//!
//! What the hostile client does is made by seeds. LONGSHORE_HOSTILE_SEEDS says which, the first and
//! the one after the last: `0..10000`, or one alone: `57`.

// What is shared with tests/clients.rs, and not all of it needed here.
#[allow(dead_code, reason = "each user of these needs another part of them")]
mod clients {
    mod broker;
    mod hostile;
    mod pair;
    mod process;
    mod wire;

    pub(crate) use broker::Broker;
    pub(crate) use hostile::{Dice, Hostile};
    pub(crate) use pair::Pair;
}

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{SystemTime, UNIX_EPOCH};

use clients::{Broker, Dice, Hostile, Pair};

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

#[test]
fn a_hostile_client_goes_unnoticed_by_an_honest_pair() {
    let mut broker = Broker::start(&["mqtt", "ws", "http"], &LIMITS);
    let others = vec![broker.address("ws"), broker.address("http")];
    let mut hostile = Hostile::new(broker.address("mqtt"), others);
    let pair = Pair::start(broker.address("mqtt"), &secret());
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
    println!("beside {} seeds: {}", seeds().count(), pair.stop());
    let log = broker.process().story();
    assert!(!log.contains("panicked"), "{log}");
}
