//! What a verdict costs, and a directory of 100,000 tokens: `cargo bench -p longshore-acl`.

#![expect(clippy::unwrap_used, reason = "a bench may stop where it stands")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use longshore_acl::{
    Access, Account, Action, Credentials, Directory, KeyRecord, Rights, Row, Secret, Token,
};
use serde_json::json;

const TOKENS: u64 = 100_000;
const ACCOUNTS: u64 = 1_000;
const NOW: u64 = 1_700_000_000;

fn main() {
    verdicts();
    directory();
}

fn verdicts() {
    for rules in [1, 100, 1_000] {
        let entry = |at: usize| {
            let topic = match at % 4 {
                0 => format!("plant/{at}/#"),
                1 => format!("cmd/{at}/+"),
                2 => format!("+/{at}/state,alarm/+"),
                _ => format!("plant/area-{at}/device/+/telemetry"),
            };
            json!({"uri": "mqtt", "topic": topic, "actions": ["publish", "subscribe"]})
        };
        let acl: Vec<_> = (0..rules).map(entry).collect();
        let access = Access::from_json(&json!({"type": 2, "acl": acl})).unwrap();
        let rights = Rights::compile(&access, &[]);
        let compiled = per_call(100, || Rights::compile(&access, &[]));
        println!("{rules} rules: compiled in {compiled:?}");
        let last = (rules - 1) / 4 * 4;
        for topic in [
            format!("plant/{last}/a/b/c"),
            format!("cmd/{}/x", last + 1),
            format!("west/{}/alarm/x", last + 2),
            format!("plant/area-{}/device/17/telemetry", last + 3),
            "plant/none/of/these".to_owned(),
        ] {
            let time = per_call(1_000_000, || rights.allows(Action::Subscribe, black_box(&topic)));
            let verdict = rights.allows(Action::Subscribe, &topic);
            println!("{rules} rules: {topic} ({verdict}) in {time:?}");
        }
        for filter in ["#", "plant/+/a", "plant/0/#", "none/of,these/+/#"] {
            let time = per_call(1_000, || rights.coverage(Action::Subscribe, black_box(filter)));
            let coverage = rights.coverage(Action::Subscribe, filter);
            println!("{rules} rules: {filter} ({coverage:?}) in {time:?}");
        }
    }
}

fn directory() {
    let secret = Secret::generate().unwrap();
    let acl = json!([{"uri": "mqtt", "topic": "plant/7/#", "actions": ["publish", "subscribe"]},
        {"uri": "mqtt", "topic": "cmd/7/+", "actions": ["subscribe"]}]);
    let body = json!({"info": "sensor writer", "ttl": 60, "access": {"type": 2, "acl": acl}});
    let mut rows = vec![Row::Account(Account::root(NOW)).encode()];
    rows.extend(
        (2..=ACCOUNTS)
            .map(|id| Row::Account(Account::create(&json!({}), id, 1, NOW).unwrap()).encode()),
    );
    let mut shown = String::new();
    for id in 1..=TOKENS {
        let (key, record) = KeyRecord::generate(&secret).unwrap();
        let token = Token::create(&body, id, 1 + id % ACCOUNTS, record, NOW).unwrap();
        rows.push(Row::Token(token).encode());
        key.expose().clone_into(&mut shown);
    }
    let bytes: usize = rows.iter().map(Vec::len).sum();
    println!("{TOKENS} tokens: {} bytes a row", bytes / rows.len());

    let mut kept = None;
    let start = Instant::now();
    let used = allocation_counter::measure(|| {
        let decoded = rows.iter().map(|row| Row::decode(row).unwrap());
        kept = Some(Directory::load(secret, decoded).unwrap());
    });
    let each = used.bytes_current / i64::try_from(TOKENS).unwrap();
    println!("{TOKENS} tokens: loaded in {:?}, {each} bytes each", start.elapsed());

    let directory = kept.unwrap();
    let good = Credentials { username: Some(&shown), password: None };
    let bad = Credentials { username: Some("guest"), password: Some(b"guest") };
    let peer = [10, 0, 0, 1].into();
    for (name, credentials) in [("known", &good), ("unknown", &bad)] {
        let time = per_call(100_000, || directory.authenticate(credentials, peer, true, NOW));
        println!("{TOKENS} tokens: {name} credentials in {time:?}");
    }
    let time = per_call(10, || directory.expired(NOW));
    println!("{TOKENS} tokens: those at their end in {time:?}");
}

/// The mean time of a call.
fn per_call<T>(calls: u32, mut call: impl FnMut() -> T) -> Duration {
    let start = Instant::now();
    (0..calls).for_each(|_| drop(black_box(call())));
    start.elapsed() / calls
}
