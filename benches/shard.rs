//! What a message costs inside the shard: everything but the kernel.
//!
//! Figures are per message; each iteration is one turn of a batch, as a busy socket brings it.

#[allow(dead_code, reason = "each user of the bed needs another part of it")]
mod bed;

use std::hint::black_box;

use bed::{Bed, publish, publish_in};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use longshore::codec::{QoS, Version};

const BATCH: u64 = 64;

/// A publish to a known topic with one subscriber, among many other subscriptions.
fn route_hit(c: &mut Criterion) {
    let mut group = c.benchmark_group("route/hit");
    group.throughput(Throughput::Elements(BATCH));
    for count in [10, 10_000, 1_000_000] {
        let mut bed = Bed::new();
        let subscriber = bed.connect("subscriber");
        for number in 0..count {
            bed.subscribe(subscriber, &format!("fleet/{number}/position"), QoS::AtMostOnce);
        }
        let publisher = bed.connect("publisher");
        let one = publish("fleet/7/position", QoS::AtMostOnce, false, &[b'x'; 64]);
        let batch = one.repeat(BATCH as usize);
        group.bench_function(format!("{count}"), |b| {
            b.iter(|| black_box(bed.turn(publisher, &batch)));
        });
    }
    group.finish();
}

/// A publish to a topic never seen before.
fn route_miss(c: &mut Criterion) {
    let mut group = c.benchmark_group("route/miss");
    group.throughput(Throughput::Elements(BATCH));
    for count in [10, 10_000, 1_000_000] {
        let mut bed = Bed::new();
        let subscriber = bed.connect("subscriber");
        for number in 0..count {
            bed.subscribe(subscriber, &format!("fleet/{number}/+/value"), QoS::AtMostOnce);
        }
        let publisher = bed.connect("publisher");
        let mut next = 0_u64;
        group.bench_function(format!("{count}"), |b| {
            b.iter_batched(
                || {
                    let mut batch = Vec::new();
                    for _ in 0..BATCH {
                        next += 1;
                        let topic = format!("fleet/{}/{next}/value", next % count);
                        batch.extend(publish(&topic, QoS::AtMostOnce, false, &[b'x'; 64]));
                    }
                    batch
                },
                |batch| black_box(bed.turn(publisher, &batch)),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// A publish to a topic never seen before of a million, for a selector of 1,000 by 10 names, for
/// one of 10,000 names and for the wildcards they stand in place of.
fn route_selector(c: &mut Criterion) {
    const FLEET: u64 = 100_000;
    let list = |count: u64| (0..count).map(|it| it.to_string()).collect::<Vec<_>>().join(",");
    let filters = [
        ("plus", "fleet/+/+/#".to_owned()),
        ("1000x10", format!("fleet/{}/{}/#", list(1_000), list(10))),
        ("10000", format!("fleet/{}/+/#", list(10_000))),
    ];
    let mut group = c.benchmark_group("route/selector");
    group.throughput(Throughput::Elements(BATCH));
    for (name, filter) in filters {
        let mut bed = Bed::new();
        let subscriber = bed.connect("subscriber");
        bed.subscribe(subscriber, &filter, QoS::AtMostOnce);
        let publisher = bed.connect("publisher");
        let mut next = 0_u64;
        for (of, fleet) in [("hit", 1_000), ("all", FLEET)] {
            group.bench_function(format!("{name}/{of}"), |b| {
                b.iter_batched(
                    || {
                        let mut batch = Vec::new();
                        for _ in 0..BATCH {
                            next += 7;
                            let topic = format!("fleet/{}/{}/{next}", next % fleet, next % 10);
                            batch.extend(publish(&topic, QoS::AtMostOnce, false, &[b'x'; 64]));
                        }
                        batch
                    },
                    |batch| black_box(bed.turn(publisher, &batch)),
                    BatchSize::SmallInput,
                );
            });
        }
    }
    group.finish();
}

/// What the token of a publisher costs a message, by what publisher and subscriber speak: only who
/// speaks MQTT 5 is told of it.
fn stamp(c: &mut Criterion) {
    let mut group = c.benchmark_group("stamp");
    group.throughput(Throughput::Elements(BATCH));
    for (name, version) in [("v3", Version::V3_1_1), ("v5", Version::V5)] {
        for (of, mut bed) in [("without", Bed::new()), ("with", Bed::with_token())] {
            bed.version = version;
            let subscriber = bed.connect("subscriber");
            bed.subscribe(subscriber, "fleet/7/position", QoS::AtMostOnce);
            let publisher = bed.connect("publisher");
            let payload = [b'x'; 64];
            let one = publish_in(version, "fleet/7/position", QoS::AtMostOnce, false, &payload);
            let batch = one.repeat(BATCH as usize);
            assert!(bed.turn(publisher, &batch) >= batch.len(), "they arrive");
            group.bench_function(format!("{name}/{of}"), |b| {
                b.iter(|| black_box(bed.turn(publisher, &batch)));
            });
        }
    }
    group.finish();
}

/// One publisher, many subscribers; per delivery.
fn fan_out(c: &mut Criterion) {
    let mut group = c.benchmark_group("fan_out");
    for (receivers, size) in [(10, 64), (100, 64), (1000, 64), (100, 1024), (100, 16_384)] {
        let mut bed = Bed::new();
        for number in 0..receivers {
            let subscriber = bed.connect(&format!("subscriber-{number}"));
            bed.subscribe(subscriber, "news", QoS::AtMostOnce);
        }
        let publisher = bed.connect("publisher");
        let one = publish("news", QoS::AtMostOnce, false, &vec![b'x'; size]);
        group.throughput(Throughput::Elements(receivers));
        group.bench_function(format!("{receivers}x{size}B"), |b| {
            b.iter(|| black_box(bed.turn(publisher, &one)));
        });
    }
    group.finish();
}

/// One publisher, one subscriber, QoS 1, acknowledged in the same turn.
fn qos_1(c: &mut Criterion) {
    let mut group = c.benchmark_group("qos_1");
    let mut bed = Bed::new();
    let subscriber = bed.connect("subscriber");
    bed.subscribe(subscriber, "news", QoS::AtLeastOnce);
    let publisher = bed.connect("publisher");
    let one = publish("news", QoS::AtLeastOnce, false, &[b'x'; 64]);
    let batch = one.repeat(BATCH as usize);
    let mut id = 0_u16;
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("publish_and_ack", |b| {
        b.iter(|| {
            bed.turn(publisher, &batch);
            let mut acks = Vec::with_capacity(4 * BATCH as usize);
            for _ in 0..BATCH {
                id = id % u16::MAX + 1;
                acks.extend([0x40, 2, (id >> 8) as u8, id as u8]);
            }
            black_box(bed.turn(subscriber, &acks))
        });
    });
    group.finish();
}

/// Setting retained messages, and reading 20,000 of them by wildcard.
fn retained(c: &mut Criterion) {
    const TOPICS: u64 = 20_000;
    let mut group = c.benchmark_group("retained");
    let mut bed = Bed::new();
    let publisher = bed.connect("publisher");
    let set: Vec<Vec<u8>> = (0..TOPICS)
        .map(|number| publish(&format!("state/{number}/on"), QoS::AtMostOnce, true, &[b'x'; 64]))
        .collect();
    let all = set.concat();
    group.throughput(Throughput::Elements(TOPICS));
    group.sample_size(20);
    group.bench_function("set", |b| b.iter(|| black_box(bed.turn(publisher, &all))));
    let reader = bed.connect("reader");
    for filter in ["state/#", "state/+/on"] {
        group.bench_function(format!("read {filter}"), |b| {
            b.iter(|| {
                bed.subscribe(reader, filter, QoS::AtMostOnce);
                black_box(bed.read_all())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, route_hit, route_miss, route_selector, stamp, fan_out, qos_1, retained);
criterion_main!(benches);
