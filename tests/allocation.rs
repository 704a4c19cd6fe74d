//! The way of a QoS 0 message allocates nothing, and what is refused or means nothing next to that.

#[allow(dead_code, reason = "each user of the bed needs another part of it")]
#[path = "../benches/bed/mod.rs"]
mod bed;

use bed::{Bed, publish};
use longshore::clock::{Mono, Now, Wall};
use longshore::codec::wire::put_varint;
use longshore::codec::{Property, QoS};
use longshore::{ConnectionId, Peer};

/// Allocations and bytes that one answer may take, and a line of the log.
const ANSWER: u64 = 64;
const ANSWER_BYTES: u64 = 16 << 10;

/// Counts allocations of 1,000 turns after the first few, which make the buffers.
fn count(bed: &mut Bed, publisher: ConnectionId, batch: &[u8]) -> u64 {
    for _ in 0..8 {
        bed.turn(publisher, batch);
    }
    let info = allocation_counter::measure(|| {
        for _ in 0..1000 {
            bed.turn(publisher, batch);
            // The next turn, whose work is counted anew.
            bed.read_all();
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

/// A client of MQTT 5 that is connected.
fn connect_v5(bed: &mut Bed) -> ConnectionId {
    let now = Now { mono: Mono(1), wall: Wall(1_800_000_000_000_000) };
    let peer = Peer { address: ([127, 0, 0, 1], 1).into(), transport: "bench" };
    let id = bed.shard.accept(peer, now).expect("there is room");
    assert!(bed.turn(id, b"\x10\x0e\0\x04MQTT\x05\x02\0\0\0\0\x01c") > 0);
    id
}

#[test]
fn refusing_65_536_user_properties_costs_what_one_answer_does() {
    let mut bed = Bed::new();
    let client = connect_v5(&mut bed);
    let mut properties = Vec::new();
    (0..65_536).for_each(|_| Property::UserProperty("", "").append(&mut properties));
    let mut body = vec![0, 1, b't'];
    put_varint(&mut body, u32::try_from(properties.len()).expect("a packet of the wire"));
    body.extend(properties);
    let mut packet = vec![0x30];
    put_varint(&mut packet, u32::try_from(body.len()).expect("a packet of the wire"));
    packet.extend(body);
    let info = allocation_counter::measure(|| {
        bed.turn(client, &packet);
    });
    assert!(bed.shard.is_closing(client), "it is refused");
    assert!(info.count_total <= ANSWER, "{} allocations", info.count_total);
    assert!(info.bytes_max <= ANSWER_BYTES, "{} bytes", info.bytes_max);
}

#[test]
fn releases_and_acknowledgements_of_messages_that_are_none_leave_nothing_behind() {
    let mut bed = Bed::new();
    for client in [bed.connect("3.1.1"), connect_v5(&mut bed)] {
        let all = |first: u8| {
            (1..=u16::MAX).flat_map(move |id| [first, 2, id.to_be_bytes()[0], id.to_be_bytes()[1]])
        };
        for first in [0x40, 0x50, 0x62, 0x70] {
            let packets: Vec<u8> = all(first).collect();
            let mut answered = 0;
            let info = allocation_counter::measure(|| {
                for some in packets.chunks(4_096) {
                    answered += bed.turn(client, some) + bed.read_all();
                }
            });
            assert_eq!(answered > 0, [0x50, 0x62].contains(&first), "{first:#04x}");
            assert!(
                info.bytes_current <= ANSWER_BYTES as i64,
                "{first:#04x}: {} bytes",
                info.bytes_current
            );
        }
        assert!(!bed.shard.is_closing(client));
    }
}
