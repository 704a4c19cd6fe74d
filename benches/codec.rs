//! Nanoseconds to read and write one PUBLISH, beside mqttbytes doing the same.
//!
//! A topic of 35 bytes. The oracle copies the topic and checks that it is UTF-8; this crate leaves
//! that to a receiver who has not seen the topic before, so the check is measured apart.

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use longshore_codec::{
    Carrier, PacketId, Properties, Property, Publish, QoS, Version, decode_publish, encode_publish,
    frame, topic,
};

const TOPIC: &[u8] = b"fleet/acc00042/dev0001234/telemetry";
/// Larger than any packet here.
const LIMIT: usize = 1 << 20;

/// A name, a version and the message.
struct Case {
    name: &'static str,
    version: Version,
    publish: Publish<'static>,
}

fn cases() -> Vec<Case> {
    let leak = |bytes: Vec<u8>| -> &'static [u8] { bytes.leak() };
    let mut block = Vec::new();
    Property::UserProperty("region", "north").append(&mut block);
    Property::UserProperty("unit", "celsius").append(&mut block);
    let two = Properties::from_raw(leak(block));
    let qos0 = Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: TOPIC,
        packet_id: None,
        properties: Properties::none(),
        payload: leak(vec![b'x'; 64]),
    };
    let qos1 = Publish { qos: QoS::AtLeastOnce, packet_id: PacketId::new(7), ..qos0 };
    let large = Publish { payload: leak(vec![b'x'; 1024]), ..qos0 };
    let case = |name, version, publish| Case { name, version, publish };
    vec![
        case("qos0_v4", Version::V3_1_1, qos0),
        case("qos0_v5", Version::V5, qos0),
        case("qos1_v4", Version::V3_1_1, qos1),
        case("qos1_v5", Version::V5, qos1),
        case("props_v5", Version::V5, Publish { properties: two, ..qos0 }),
        case("1k_v5", Version::V5, large),
    ]
}

fn encoded(case: &Case) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_publish(case.version, &case.publish, &mut bytes);
    bytes
}

/// The fixed header, then the packet: what a receiver does for each.
fn parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/parse_publish");
    group.throughput(Throughput::Elements(1));
    for case in cases() {
        let bytes = encoded(&case);
        group.bench_function(case.name, |bencher| {
            bencher.iter(|| {
                let input = black_box(&bytes[..]);
                let Ok(Some(found)) = frame(input, LIMIT) else { unreachable!("a whole packet") };
                let body = &input[found.header..found.total()];
                decode_publish(black_box(case.version), found.first, body)
            });
        });
    }
    group.finish();
}

/// What [`parse`] leaves to the receiver.
fn validate(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/validate");
    group.bench_function("topic", |bencher| bencher.iter(|| topic::validate(black_box(TOPIC))));
    for case in cases().iter().filter(|case| !case.publish.properties.is_empty()) {
        group.bench_function(case.name, |bencher| {
            bencher.iter(|| black_box(case.publish.properties).validate(Carrier::Publish));
        });
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec/encode_publish");
    group.throughput(Throughput::Elements(1));
    for case in cases() {
        let mut out = Vec::with_capacity(LIMIT);
        group.bench_function(case.name, |bencher| {
            bencher.iter(|| {
                out.clear();
                encode_publish(black_box(case.version), black_box(&case.publish), &mut out);
                out.len()
            });
        });
    }
    group.finish();
}

fn parse_mqttbytes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mqttbytes/parse_publish");
    group.throughput(Throughput::Elements(1));
    for case in cases() {
        let bytes = encoded(&case);
        // One large buffer of many packets, since a packet is split off the front of it.
        let many = bytes.repeat(1_000);
        let mut stream = BytesMut::new();
        group.bench_function(case.name, |bencher| {
            bencher.iter(|| {
                if stream.is_empty() {
                    stream = BytesMut::from(&many[..]);
                }
                match case.version {
                    Version::V5 => {
                        drop(black_box(mqttbytes::v5::read(&mut stream, LIMIT)));
                    }
                    Version::V3_1 | Version::V3_1_1 => {
                        drop(black_box(mqttbytes::v4::read(&mut stream, LIMIT)));
                    }
                }
            });
        });
    }
    group.finish();
}

fn encode_mqttbytes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("mqttbytes/encode_publish");
    group.throughput(Throughput::Elements(1));
    for case in cases() {
        let mut stream = BytesMut::from(&encoded(&case)[..]);
        let mut out = BytesMut::with_capacity(LIMIT);
        match case.version {
            Version::V5 => {
                let Ok(mqttbytes::v5::Packet::Publish(publish)) =
                    mqttbytes::v5::read(&mut stream, LIMIT)
                else {
                    unreachable!("a whole packet")
                };
                group.bench_function(case.name, |bencher| {
                    bencher.iter(|| {
                        out.clear();
                        publish.write(&mut out)
                    });
                });
            }
            Version::V3_1 | Version::V3_1_1 => {
                let Ok(mqttbytes::v4::Packet::Publish(publish)) =
                    mqttbytes::v4::read(&mut stream, LIMIT)
                else {
                    unreachable!("a whole packet")
                };
                group.bench_function(case.name, |bencher| {
                    bencher.iter(|| {
                        out.clear();
                        publish.write(&mut out)
                    });
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, parse, validate, encode, parse_mqttbytes, encode_mqttbytes);
criterion_main!(benches);
