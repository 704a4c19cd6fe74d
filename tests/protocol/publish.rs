//! PUBLISH: order, names, payloads (MQTT 5, 3.3, 4.5 and 4.6).

use super::packets::{connect, publish, pubrel, subscribe, v5};
use super::received::Received;
use super::rig::Rig;
use super::wire::Version;

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

/// [MQTT-4.6.0-5] [MQTT-4.6.0-6] [MQTT-4.6.0-5 v3.1.1] [MQTT-4.6.0-6 v3.1.1]
#[test]
fn messages_of_a_client_arrive_in_their_order_per_topic_and_qos() {
    for version in BOTH {
        let rig = Rig::new();
        let reader = rig.connect(&v5("reader").receive_maximum(7).lasting());
        reader.subscribe(&subscribe(1, "t/+").qos(2).and("t/0").qos(1));
        let publishers =
            [rig.connect(&connect(version, "p0")), rig.connect(&connect(version, "p1"))];
        for n in 0..300_u16 {
            let publisher = &publishers[usize::from(n % 2)];
            let topic = format!("t/{}", n / 2 % 3);
            let message =
                publish(&topic, &format!("{} {n}", n % 2)).qos((n / 6 % 3) as u8, 1 + n % 50);
            publisher.send(&message);
            publisher.send(&pubrel(1 + n % 50));
        }
        let mut last = std::collections::BTreeMap::new();
        let mut count = 0;
        while let Some(received) = reader.next() {
            match received {
                Received::Publish(publish) => {
                    count += 1;
                    let (from, n) = publish.text().split_once(' ').expect("two words");
                    let n: u16 = n.parse().expect("a number");
                    let key = (publish.topic.clone(), publish.qos, from.to_owned());
                    let before = last.insert(key, n);
                    assert!(before.is_none_or(|before| before < n), "{n} after {before:?}");
                    match publish.qos {
                        1 => reader.send(&super::packets::puback(publish.id())),
                        2 => reader.send(&super::packets::pubrec(publish.id())),
                        _ => {}
                    }
                }
                Received::Pubrel(ack) => reader.send(&super::packets::pubcomp(ack.packet_id)),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(count, 300, "each once");
    }
}

/// What waited while the client was away goes before what comes after. [MQTT-4.6.0-5]
#[test]
fn queued_messages_keep_their_order_before_newer_ones() {
    for version in BOTH {
        let rig = Rig::new();
        let reader = rig.connect(&connect(version, "reader").lasting());
        reader.subscribe(&subscribe(1, "t").qos(1));
        reader.reset();
        let publisher = rig.client("p");
        for n in 0..50 {
            publisher.send(&publish("t", &n.to_string()).qos1(1));
        }
        let reader = rig.connect(&connect(version, "reader").lasting());
        for n in 50..100 {
            publisher.send(&publish("t", &n.to_string()).qos1(1));
        }
        let want: Vec<String> = (0..100).map(|n: u32| n.to_string()).collect();
        assert_eq!(reader.payloads(), want);
    }
}

/// [MQTT-4.5.0-1] [MQTT-4.5.0-1 v3.1.1]
#[test]
fn each_subscriber_gets_its_copy() {
    for version in BOTH {
        let rig = Rig::new();
        let readers: Vec<_> =
            (0..20).map(|n| rig.subscriber(version, &n.to_string(), "t", n % 3)).collect();
        let _other = rig.subscriber(version, "other", "u", 0);
        rig.client("p").send(&publish("t", "x").qos2(1));
        for reader in readers {
            assert_eq!(reader.payloads(), ["x"]);
        }
    }
}

#[test]
fn a_client_gets_its_own_messages_too() {
    for version in BOTH {
        let client = Rig::new().subscriber(version, "c", "t", 0);
        client.send(&publish("t", "x"));
        assert_eq!(client.payloads(), ["x"]);
    }
}

/// MQTT 5, 3.3.3: a payload of no bytes is a payload.
#[test]
fn payloads_of_any_length_arrive_as_they_were_sent() {
    for version in BOTH {
        for len in [0, 1, 100, 1_023, 1_024, 1_025, 20_000, 1 << 20] {
            let rig = Rig::new();
            let reader = rig.subscriber(version, "reader", "t", 1);
            let payload: String = (0..len).map(|n| char::from(b'a' + (n % 26) as u8)).collect();
            let publisher = rig.client("p");
            publisher.send(&publish("t", &payload));
            publisher.send(&publish("t", &payload).qos1(1));
            publisher.send(&publish("t", "end"));
            let got = reader.payloads();
            assert!(got == [payload.as_str(), payload.as_str(), "end"], "{len} bytes");
        }
    }
}

/// [MQTT-4.7.3-3] [MQTT-4.7.3-3 v3.1.1]
#[test]
fn a_topic_name_of_65535_bytes_is_a_topic_name() {
    for version in BOTH {
        let rig = Rig::new();
        let name = "n".repeat(65_535);
        let reader = rig.subscriber(version, "reader", &name, 0);
        rig.connect(&connect(version, "p")).send(&publish(&name, "x"));
        assert!(reader.publish().topic == name);
    }
}

/// [MQTT-1.5.4-3] [MQTT-1.5.3-3 v3.1.1]
#[test]
fn a_byte_order_mark_is_part_of_the_name() {
    for version in BOTH {
        let rig = Rig::new();
        let marked = rig.subscriber(version, "marked", "\u{feff}t", 0);
        let plain = rig.subscriber(version, "plain", "t", 0);
        let publisher = rig.connect(&connect(version, "p"));
        publisher.send(&publish("\u{feff}t", "x"));
        assert_eq!(marked.publish().topic, "\u{feff}t");
        plain.expect_alive();
    }
}

/// [MQTT-3.3.2-3] [MQTT-3.3.2-3 v3.1.1]
#[test]
fn the_topic_name_is_delivered_as_it_was_published() {
    for version in BOTH {
        let rig = Rig::new();
        let reader = rig.subscriber(version, "reader", "#", 0);
        let publisher = rig.connect(&connect(version, "p"));
        for name in ["/", "//", "a", "a/", "/a", " ", "a b/\u{e9}", "A", "a,b", "a.b*c?"] {
            publisher.send(&publish(name, "x"));
            assert_eq!(reader.publish().topic, name);
        }
    }
}
