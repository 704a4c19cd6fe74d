//! Keep alive and PINGREQ: MQTT 5, 3.1.2.10, 3.2.2.3.14 and 3.12.

use super::packets::{Outgoing, Pingreq, connect, puback, publish, pubrel, subscribe, v5};
use super::received::Received;
use super::rig::Rig;
use super::wire::{Version, code, prop};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

/// [MQTT-3.12.4-1] [MQTT-3.12.4-1 v3.1.1]
#[test]
fn pingreq_is_answered_with_pingresp() {
    for version in BOTH {
        let client = Rig::new().connect(&connect(version, "c"));
        client.send_at_once(&[&Pingreq, &Pingreq, &Pingreq]);
        for _ in 0..3 {
            assert_eq!(client.recv(), Received::Pingresp);
        }
        client.expect_nothing();
    }
}

/// [MQTT-3.1.2-22] [MQTT-3.2.2-22] [MQTT-3.1.2-24 v3.1.1]
#[test]
fn one_and_a_half_times_the_keep_alive_of_silence_closes() {
    for version in BOTH {
        for secs in [1, 10, 11, 65_535] {
            let rig = Rig::new();
            let client = rig.connect(&connect(version, "c").keep_alive(secs));
            let limit = u64::from(secs) * 1_500;
            rig.advance_ms(limit - 20);
            assert!(!client.is_closed(), "{secs}");
            rig.advance_ms(1_040);
            assert!(client.is_closed(), "{secs}");
            match version {
                Version::V5 => assert_eq!(client.closed_with(), code::KEEP_ALIVE_TIMEOUT),
                _ => client.closed_silently(),
            }
        }
    }
}

/// [MQTT-3.1.2-22] [MQTT-3.1.2-24 v3.1.1]
#[test]
fn every_packet_of_the_client_counts() {
    let packets: [&dyn Outgoing; 6] = [
        &Pingreq,
        &publish("t", "x"),
        &publish("t", "x").qos2(1),
        &pubrel(1),
        &subscribe(1, "u"),
        &puback(9),
    ];
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "c").keep_alive(10));
        for packet in packets.into_iter().cycle().take(30) {
            rig.advance(14);
            client.send_at_once(&[packet]);
        }
        assert!(!client.is_closed());
        rig.advance(16);
        assert!(client.is_closed());
    }
}

/// What the broker sends says nothing about the client. [MQTT-3.1.2-22] [MQTT-3.1.2-24 v3.1.1]
#[test]
fn packets_to_the_client_do_not_count() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "c").keep_alive(10));
        client.subscribe(&subscribe(1, "t"));
        let publisher = rig.client("p");
        for _ in 0..3 {
            rig.advance(6);
            publisher.send(&publish("t", "x"));
        }
        assert!(client.is_closed());
    }
}

/// MQTT 5, 3.1.2.10.
#[test]
fn keep_alive_0_turns_it_off() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "c"));
        rig.advance(10 * 86_400);
        client.expect_alive();
    }
}

/// [MQTT-3.2.2-22]
#[test]
fn without_a_server_keep_alive_the_value_of_the_client_holds() {
    let rig = Rig::new();
    let (client, connack) = rig.connect_told(&v5("c").keep_alive(1_000));
    assert!(!connack.props.has(prop::SERVER_KEEP_ALIVE));
    rig.advance(1_499);
    client.expect_alive();
}

/// MQTT 5, 3.2.2.3.14. [MQTT-3.1.2-22]
#[test]
fn a_server_keep_alive_is_told_and_holds() {
    let rig = Rig::with(|limits| limits.keep_alive_secs = 60);
    for asked in [0, 61, 65_535] {
        let (client, connack) = rig.connect_told(&v5("c").keep_alive(asked));
        assert_eq!(connack.props.number(prop::SERVER_KEEP_ALIVE), Some(60), "{asked}");
        rig.advance(89);
        client.expect_alive();
        rig.advance(92);
        assert_eq!(client.closed_with(), code::KEEP_ALIVE_TIMEOUT);
    }
    let (client, connack) = rig.connect_told(&v5("c").keep_alive(10));
    assert!(!connack.props.has(prop::SERVER_KEEP_ALIVE), "it asks for less");
    rig.advance(16);
    assert!(client.is_closed());
}

/// [MQTT-3.1.2-22]
#[test]
fn a_jump_of_the_wall_clock_is_no_silence() {
    let rig = Rig::new();
    let client = rig.connect(&v5("c").keep_alive(10));
    for jump in [100_000, -200_000] {
        rig.jump_wall(jump);
        rig.advance(5);
        client.expect_alive();
    }
    rig.jump_wall(-100);
    rig.advance(16);
    assert!(client.is_closed());
}

/// A long packet on a slow line is not silence.
#[test]
fn the_bytes_of_an_unfinished_packet_count() {
    let rig = Rig::new();
    let client = rig.connect(&v5("c").keep_alive(10));
    client.subscribe(&subscribe(1, "t"));
    let bytes = publish("t", "slow").encode(Version::V5);
    for byte in &bytes {
        client.send_raw(&[*byte]);
        rig.advance(10);
    }
    assert_eq!(client.payloads(), ["slow"]);
}
