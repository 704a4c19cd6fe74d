//! The way of a QoS 0 message allocates nothing.

#[allow(dead_code, reason = "each user of the bed needs another part of it")]
#[path = "../benches/bed/mod.rs"]
mod bed;

use bed::{Bed, publish};
use longshore::codec::QoS;

/// Counts allocations of 1,000 turns after the first few, which make the buffers.
fn count(bed: &mut Bed, publisher: longshore::ConnectionId, batch: &[u8]) -> u64 {
    for _ in 0..8 {
        bed.turn(publisher, batch);
    }
    let info = allocation_counter::measure(|| {
        for _ in 0..1000 {
            bed.turn(publisher, batch);
        }
    });
    info.count_total
}

#[test]
fn routing_a_qos_0_message_allocates_nothing() {
    let mut bed = Bed::new();
    for number in 0..20 {
        let subscriber = bed.connect(&format!("subscriber-{number}"));
        bed.subscribe(subscriber, if number % 2 == 0 { "a/b" } else { "a/#" }, QoS::AtMostOnce);
    }
    let publisher = bed.connect("publisher");
    let batch = publish("a/b", QoS::AtMostOnce, false, &[7; 100]).repeat(16);
    assert_eq!(count(&mut bed, publisher, &batch), 0);
}

#[test]
fn a_topic_without_subscribers_costs_no_allocation() {
    let mut bed = Bed::new();
    let publisher = bed.connect("publisher");
    let batch = publish("a/b", QoS::AtMostOnce, false, &[7; 100]).repeat(16);
    assert_eq!(count(&mut bed, publisher, &batch), 0);
}

#[test]
fn a_qos_1_message_is_kept_once_however_many_get_it() {
    for receivers in [1, 10] {
        let mut bed = Bed::new();
        for number in 0..receivers {
            let subscriber = bed.connect(&format!("subscriber-{number}"));
            bed.subscribe(subscriber, "a/b", QoS::AtLeastOnce);
        }
        let publisher = bed.connect("publisher");
        let one = publish("a/b", QoS::AtLeastOnce, false, &[7; 100]);
        for _ in 0..100 {
            bed.turn(publisher, &one);
        }
        // The windows have grown; now the message itself is what is allocated.
        let info = allocation_counter::measure(|| {
            bed.turn(publisher, &one);
        });
        assert_eq!(info.count_total, 2, "the message and its bytes, for {receivers} receivers");
    }
}
