//! Delivery protocols: MQTT 5, 4.3 and 4.4, with the broker as receiver and as sender.

use super::packets::{
    connect, disconnect, puback, pubcomp, publish, pubrec, pubrel, subscribe, v4, v5,
};
use super::received::Received;
use super::rig::Rig;
use super::wire::{Version, code};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

// ---- the broker receives

/// [MQTT-3.3.4-1] [MQTT-3.3.4-1 v3.1.1] [MQTT-4.3.2-4] [MQTT-4.3.3-8] [MQTT-2.2.1-5]
/// [MQTT-2.3.1-6 v3.1.1] [MQTT-4.3.2-2 v3.1.1] [MQTT-4.3.3-2 v3.1.1]
#[test]
fn the_answer_to_a_publish_follows_its_qos() {
    for version in BOTH {
        let rig = Rig::new();
        let _reader = rig.subscriber(version, "reader", "t", 0);
        let client = rig.connect(&connect(version, "c"));
        client.send(&publish("t", "x"));
        client.expect_nothing();
        client.send(&publish("t", "x").qos1(0x1234));
        assert_eq!((client.puback().packet_id, client.next()), (0x1234, None));
        client.send(&publish("t", "x").qos2(0xFFFF));
        assert_eq!((client.pubrec().packet_id, client.next()), (0xFFFF, None));
        client.send(&pubrel(0xFFFF));
        assert_eq!((client.pubcomp().packet_id, client.next()), (0xFFFF, None));
    }
}

/// [MQTT-3.4.2-1] [MQTT-3.5.2-1]
#[test]
fn a_message_nobody_subscribed_to_is_acknowledged_as_such() {
    let rig = Rig::new();
    let client = rig.client("c");
    client.send(&publish("t", "x").qos1(1));
    assert_eq!(client.puback().code, code::NO_MATCHING_SUBSCRIBERS);
    client.send(&publish("t", "x").qos2(2));
    assert_eq!(client.pubrec().code, code::NO_MATCHING_SUBSCRIBERS);
    client.send(&pubrel(2));
    assert_eq!(client.pubcomp().code, code::SUCCESS);
    let _reader = rig.subscriber(Version::V5, "reader", "t", 0);
    client.send(&publish("t", "x").qos1(3));
    assert_eq!(client.puback().code, code::SUCCESS);
    client.send(&publish("t", "x").qos2(4));
    assert_eq!(client.pubrec().code, code::SUCCESS);
}

/// [MQTT-4.3.2-5] [MQTT-4.3.2-2 v3.1.1]
#[test]
fn after_puback_the_same_identifier_is_a_new_message_whatever_its_dup() {
    for version in BOTH {
        let rig = Rig::new();
        let reader = rig.subscriber(version, "reader", "t", 0);
        let client = rig.connect(&connect(version, "c"));
        for again in [publish("t", "x").qos1(7), publish("t", "x").qos1(7).dup()] {
            client.send(&again);
            assert_eq!(client.puback().packet_id, 7);
            assert_eq!(reader.payloads(), ["x"]);
        }
    }
}

/// [MQTT-4.3.3-10] [MQTT-4.3.3-2 v3.1.1]
#[test]
fn until_pubrel_a_repeated_publish_is_acknowledged_but_not_delivered_again() {
    for version in BOTH {
        let rig = Rig::new();
        let reader = rig.subscriber(version, "reader", "t", 0);
        let client = rig.connect(&connect(version, "c"));
        client.send(&publish("t", "x").qos2(7));
        assert_eq!(client.pubrec().packet_id, 7);
        for again in [publish("t", "x").qos2(7).dup(), publish("t", "x").qos2(7)] {
            client.send(&again);
            assert_eq!(client.pubrec().packet_id, 7);
        }
        client.send(&pubrel(7));
        assert_eq!(client.pubcomp().packet_id, 7);
        assert_eq!(reader.payloads(), ["x"]);
    }
}

/// [MQTT-4.3.3-10] [MQTT-4.3.3-2 v3.1.1] [MQTT-4.1.0-1 v3.1.1]
#[test]
fn a_publish_of_qos_2_repeated_on_a_new_connection_is_not_delivered_again() {
    for version in BOTH {
        let rig = Rig::new();
        let reader = rig.subscriber(version, "reader", "t", 0);
        let client = rig.connect(&connect(version, "c").lasting());
        client.send(&publish("t", "x").qos2(7));
        client.reset();
        let client = rig.connect(&connect(version, "c").lasting());
        client.send(&publish("t", "x").qos2(7).dup());
        assert_eq!(client.pubrec().packet_id, 7);
        client.send(&pubrel(7));
        assert_eq!(client.pubcomp().packet_id, 7);
        assert_eq!(reader.payloads(), ["x"]);
    }
}

/// [MQTT-4.3.3-12] [MQTT-4.3.3-2 v3.1.1]
#[test]
fn after_pubcomp_the_same_identifier_is_a_new_message() {
    for version in BOTH {
        let rig = Rig::new();
        let reader = rig.subscriber(version, "reader", "t", 0);
        let client = rig.connect(&connect(version, "c"));
        for payload in ["one", "two"] {
            client.send(&publish("t", payload).qos2(7));
            client.pubrec();
            client.send(&pubrel(7));
            client.pubcomp();
            assert_eq!(reader.payloads(), [payload]);
        }
    }
}

/// [MQTT-4.3.3-11] [MQTT-3.7.2-1]
#[test]
fn pubrel_is_answered_with_pubcomp_also_where_nothing_is_known() {
    let rig = Rig::new();
    let client = rig.client("c");
    client.send(&pubrel(9));
    let pubcomp = client.pubcomp();
    assert_eq!((pubcomp.packet_id, pubcomp.code), (9, code::PACKET_IDENTIFIER_NOT_FOUND));
    let client = rig.connect(&v4("old"));
    client.send(&pubrel(9));
    assert_eq!(client.pubcomp().packet_id, 9);
}

/// A client that lost the PUBCOMP sends PUBREL again. [MQTT-4.3.3-11]
#[test]
fn pubrel_on_a_new_connection_is_answered() {
    for version in BOTH {
        let rig = Rig::new();
        let reader = rig.subscriber(version, "reader", "t", 0);
        let client = rig.connect(&connect(version, "c").lasting());
        client.send(&publish("t", "x").qos2(7));
        client.pubrec();
        client.reset();
        let client = rig.connect(&connect(version, "c").lasting());
        client.send(&pubrel(7));
        let pubcomp = client.pubcomp();
        assert_eq!((pubcomp.packet_id, pubcomp.code), (7, code::SUCCESS));
        assert_eq!(reader.payloads(), ["x"]);
    }
}

/// [MQTT-4.3.3-9]
#[test]
fn after_a_refusing_pubrec_the_identifier_is_a_new_message() {
    let rig = Rig::with(|limits| limits.retained_messages = 1);
    let reader = rig.subscriber(Version::V5, "reader", "#", 0);
    let client = rig.client("c");
    client.send(&publish("a", "kept").retain());
    client.send(&publish("b", "refused").qos2(7).retain());
    assert_eq!(client.pubrec().code, code::QUOTA_EXCEEDED);
    assert_eq!(reader.payloads(), ["kept"]);
    client.send(&publish("b", "new").qos2(7));
    assert_eq!(client.pubrec().code, code::SUCCESS);
    client.send(&pubrel(7));
    assert_eq!(client.pubcomp().code, code::SUCCESS);
    assert_eq!(reader.payloads(), ["new"]);
}

/// [MQTT-4.3.3-13]
#[test]
fn expiry_does_not_stop_the_handshake_of_a_publisher() {
    let rig = Rig::new();
    let away = rig.connect(&v5("away").lasting());
    away.subscribe(&subscribe(1, "t").qos(2));
    away.reset();
    let client = rig.client("c");
    client.send(&publish("t", "x").qos2(7).expiry(1));
    client.pubrec();
    rig.advance(10);
    client.send(&publish("t", "x").qos2(7).expiry(1).dup());
    assert_eq!(client.pubrec().packet_id, 7);
    client.send(&pubrel(7));
    let pubcomp = client.pubcomp();
    assert_eq!((pubcomp.packet_id, pubcomp.code), (7, code::SUCCESS));
}

/// Packets sent in one piece, so that nothing but the broker decides the order.
/// [MQTT-4.6.0-2 v3.1.1] [MQTT-4.6.0-3 v3.1.1] [MQTT-4.6.0-4 v3.1.1]
#[test]
fn acknowledgements_leave_in_the_order_of_what_they_acknowledge() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "c"));
        client.subscribe(&subscribe(1, "back").qos(2));
        client.send_at_once(&[
            &publish("t", "x").qos1(3),
            &publish("t", "x").qos1(1),
            &publish("t", "x").qos2(9),
            &publish("t", "x").qos1(2),
            &publish("t", "x").qos2(4),
            &pubrel(9),
            &pubrel(4),
        ]);
        let ids: Vec<_> = std::iter::from_fn(|| client.next())
            .map(|received| match received {
                Received::Puback(ack) => ("puback", ack.packet_id),
                Received::Pubrec(ack) => ("pubrec", ack.packet_id),
                Received::Pubcomp(ack) => ("pubcomp", ack.packet_id),
                other => panic!("{other:?}"),
            })
            .collect();
        let of =
            |kind| ids.iter().filter(|(of, _)| *of == kind).map(|(_, id)| *id).collect::<Vec<_>>();
        assert_eq!(of("puback"), [3, 1, 2]);
        assert_eq!(of("pubrec"), [9, 4]);
        assert_eq!(of("pubcomp"), [9, 4]);
        let publisher = rig.client("p");
        for n in 1..=3 {
            publisher.send(&publish("back", &n.to_string()).qos2(n));
        }
        let sent: Vec<_> = std::iter::from_fn(|| client.next())
            .filter_map(|received| match received {
                Received::Publish(publish) => Some(publish.id()),
                _ => None,
            })
            .collect();
        client.send_at_once(&[&pubrec(sent[2]), &pubrec(sent[0]), &pubrec(sent[1])]);
        let released = [(); 3].map(|()| client.pubrel().packet_id);
        assert_eq!(released, [sent[2], sent[0], sent[1]]);
    }
}

// ---- the broker sends

/// [MQTT-4.3.1-1] [MQTT-3.3.1-2] [MQTT-4.3.1-1 v3.1.1] [MQTT-3.3.1-2 v3.1.1] [MQTT-2.2.1-2]
/// [MQTT-2.3.1-5 v3.1.1]
#[test]
fn qos_0_is_sent_without_dup_and_without_identifier() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.subscriber(version, "c", "t", 2);
        client.send(&publish("t", "x"));
        let publish = client.publish();
        assert_eq!((publish.qos, publish.dup, publish.packet_id), (0, false, None));
        client.expect_alive();
    }
}

/// [MQTT-4.3.2-1] [MQTT-4.3.2-2] [MQTT-4.3.3-1] [MQTT-4.3.3-2] [MQTT-2.2.1-4]
/// [MQTT-2.3.1-1 v3.1.1] [MQTT-2.3.1-4 v3.1.1] [MQTT-4.3.2-1 v3.1.1] [MQTT-4.3.3-1 v3.1.1]
#[test]
fn each_new_message_above_qos_0_gets_an_identifier_of_its_own_and_no_dup() {
    for version in BOTH {
        for qos in [1, 2] {
            let rig = Rig::new();
            let client = rig.subscriber(version, "c", "t", qos);
            let publisher = rig.client("p");
            for n in 1..=500 {
                publisher.send(&publish("t", &n.to_string()).qos(qos, n));
            }
            let mut seen = std::collections::BTreeSet::new();
            while let Some(Received::Publish(publish)) = client.next() {
                assert!(!publish.dup);
                assert!(seen.insert(publish.id()), "the watch saw it too");
            }
            assert!(!seen.contains(&0));
        }
    }
}

/// The watch of the connection fails where an identifier is used twice at a time or is 0.
/// [MQTT-2.2.1-4] [MQTT-2.3.1-4 v3.1.1]
#[test]
fn identifiers_come_round_without_0_and_without_those_in_use() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.subscriber(version, "c", "t", 1);
        let publisher = rig.client("p");
        for _ in 0..2 {
            publisher.send(&publish("t", "held").qos1(1));
            publisher.puback();
            let held = client.publish().id();
            // More than there are identifiers: the one that is held delays no others.
            for _ in 0..70_000 {
                publisher.send(&publish("t", "x").qos1(1));
                publisher.puback();
                let id = client.publish().id();
                assert_ne!(id, held);
                client.send(&puback(id));
            }
            client.send(&puback(held));
        }
    }
}

/// [MQTT-4.3.2-3] [MQTT-3.3.1-1] [MQTT-4.4.0-1] [MQTT-4.3.2-1 v3.1.1] [MQTT-3.3.1-1 v3.1.1]
/// [MQTT-4.4.0-1 v3.1.1]
#[test]
fn an_unacknowledged_publish_is_sent_again_with_dup_and_the_same_identifier() {
    for version in BOTH {
        for qos in [1, 2] {
            let rig = Rig::new();
            let mut client = rig.connect(&connect(version, "c").lasting());
            client.subscribe(&subscribe(1, "t").qos(qos));
            rig.client("p").send(&publish("t", "x").qos(qos, 1));
            let first = client.publish();
            assert_eq!((first.qos, first.dup), (qos, false));
            for _ in 0..3 {
                client.reset();
                client = rig.connect(&connect(version, "c").lasting());
                let again = client.publish();
                assert_eq!((again.qos, again.dup, again.id()), (qos, true, first.id()));
                assert_eq!(again.payload, first.payload);
                client.expect_alive();
            }
        }
    }
}

/// [MQTT-4.4.0-1] [MQTT-4.4.0-1 v3.1.1]
#[test]
fn nothing_is_sent_again_on_the_same_connection() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.subscriber(version, "c", "t", 2);
        let publisher = rig.client("p");
        publisher.send(&publish("t", "x").qos1(1));
        publisher.send(&publish("t", "y").qos2(2));
        assert_eq!(client.payloads(), ["x", "y"]);
        rig.advance(86_400);
        client.expect_alive();
    }
}

/// [MQTT-4.4.0-1]
#[test]
fn a_new_session_is_sent_nothing_of_the_old() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "c").lasting());
        client.subscribe(&subscribe(1, "t").qos(2));
        let publisher = rig.client("p");
        publisher.send(&publish("t", "x").qos1(1));
        publisher.send(&publish("t", "y").qos2(2));
        let mut messages = [client.publish(), client.publish()];
        messages.sort_by_key(|publish| publish.qos);
        client.send(&pubrec(messages[1].id()));
        client.pubrel();
        client.reset();
        rig.connect(&connect(version, "c")).expect_alive();
    }
}

/// [MQTT-4.6.0-1 v3.1.1] [MQTT-4.4.0-1]
#[test]
fn unacknowledged_messages_are_sent_again_in_their_first_order() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "c").lasting());
        client.subscribe(&subscribe(1, "#").qos(2));
        let publisher = rig.client("p");
        let mut ids = Vec::new();
        for n in 1..=20 {
            publisher
                .send(&publish(&format!("t/{}", n % 3), &n.to_string()).qos(1 + n as u8 % 2, n));
            let message = client.publish();
            ids.push((message.id(), message.text().to_owned()));
        }
        for at in [12, 3] {
            let (id, _) = ids.remove(at);
            client.send_at_once(&[&puback(id), &pubrec(id), &pubcomp(id)]);
        }
        client.reset();
        let client = rig.connect(&connect(version, "c").lasting());
        let again: Vec<_> = std::iter::from_fn(|| client.next())
            .filter_map(|received| match received {
                Received::Publish(publish) => Some((publish.id(), publish.text().to_owned())),
                _ => None,
            })
            .collect();
        assert_eq!(again, ids);
    }
}

/// [MQTT-4.3.2-3] [MQTT-4.3.2-1 v3.1.1]
#[test]
fn after_puback_nothing_is_left_to_send_again() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "c").lasting());
        client.subscribe(&subscribe(1, "t").qos(1));
        rig.client("p").send(&publish("t", "x").qos1(1));
        let id = client.publish().id();
        client.send(&puback(id));
        client.reset();
        rig.connect(&connect(version, "c").lasting()).expect_alive();
    }
}

/// [MQTT-4.3.3-3] [MQTT-4.3.3-4] [MQTT-4.3.3-5] [MQTT-3.6.2-1] [MQTT-2.2.1-5]
/// [MQTT-4.3.3-1 v3.1.1] [MQTT-2.3.1-6 v3.1.1]
#[test]
fn qos_2_is_sent_in_four_steps() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.connect(&connect(version, "c").lasting());
        client.subscribe(&subscribe(1, "t").qos(2));
        rig.client("p").send(&publish("t", "x").qos2(1));
        let id = client.publish().id();
        client.expect_nothing();
        client.send(&pubrec(id));
        let pubrel = client.pubrel();
        assert_eq!((pubrel.packet_id, pubrel.code), (id, code::SUCCESS));
        client.send(&pubcomp(id));
        client.expect_alive();
        client.reset();
        rig.connect(&connect(version, "c").lasting()).expect_alive();
    }
}

/// [MQTT-4.3.3-5] [MQTT-4.3.3-6] [MQTT-4.4.0-1] [MQTT-4.3.3-1 v3.1.1] [MQTT-4.4.0-1 v3.1.1]
#[test]
fn after_pubrec_the_pubrel_is_sent_again_and_never_the_publish() {
    for version in BOTH {
        let rig = Rig::new();
        let mut client = rig.connect(&connect(version, "c").lasting());
        client.subscribe(&subscribe(1, "t").qos(2));
        rig.client("p").send(&publish("t", "x").qos2(1));
        let id = client.publish().id();
        client.send(&pubrec(id));
        client.pubrel();
        for _ in 0..3 {
            client.reset();
            client = rig.connect(&connect(version, "c").lasting());
            assert_eq!(client.pubrel().packet_id, id);
            client.expect_alive();
        }
        client.send(&pubcomp(id));
        client.reset();
        rig.connect(&connect(version, "c").lasting()).expect_alive();
    }
}

/// A client that repeats its PUBREC has lost the PUBREL. [MQTT-4.3.3-4]
#[test]
fn each_pubrec_is_answered_with_pubrel() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.subscriber(version, "c", "t", 2);
        rig.client("p").send(&publish("t", "x").qos2(1));
        let id = client.publish().id();
        for _ in 0..2 {
            client.send(&pubrec(id));
            assert_eq!(client.pubrel().packet_id, id);
        }
    }
}

/// MQTT 5, table 3-8: the code for an identifier that is not known. [MQTT-3.6.2-1]
#[test]
fn a_pubrec_for_nothing_is_told_so() {
    let rig = Rig::new();
    let client = rig.client("c");
    client.send(&pubrec(77));
    let pubrel = client.pubrel();
    assert_eq!((pubrel.packet_id, pubrel.code), (77, code::PACKET_IDENTIFIER_NOT_FOUND));
    client.expect_alive();
}

#[test]
fn acknowledgements_of_nothing_hurt_nobody() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.subscriber(version, "c", "t", 1);
        client.send(&puback(1));
        client.send(&pubcomp(1));
        client.expect_alive();
        rig.client("p").send(&publish("t", "x").qos1(1));
        assert_eq!(client.payloads(), ["x"]);
    }
}

/// [MQTT-4.4.0-2] [MQTT-4.3.3-4]
#[test]
fn a_message_that_the_receiver_refuses_is_done_with() {
    for qos in [1, 2] {
        let rig = Rig::new();
        let client = rig.connect(&v5("c").lasting().receive_maximum(1));
        client.subscribe(&subscribe(1, "t").qos(qos));
        let publisher = rig.client("p");
        publisher.send(&publish("t", "x").qos(qos, 1));
        publisher.send(&publish("t", "y").qos(qos, 2));
        let id = client.publish().id();
        let refusal = if qos == 1 { puback(id) } else { pubrec(id) };
        client.send(&refusal.code(code::UNSPECIFIED_ERROR));
        assert_eq!(client.publish().text(), "y", "no PUBREL, and its place is free");
        client.reset();
        let client = rig.connect(&v5("c").lasting());
        assert_eq!(client.payloads(), ["y"]);
    }
}

/// [MQTT-4.3.3-7]
#[test]
fn expiry_does_not_apply_to_what_was_sent() {
    for qos in [1, 2] {
        let rig = Rig::new();
        let client = rig.connect(&v5("c").lasting());
        client.subscribe(&subscribe(1, "t").qos(qos));
        rig.client("p").send(&publish("t", "x").qos(qos, 1).expiry(5));
        let id = client.publish().id();
        client.reset();
        rig.advance(60);
        let client = rig.connect(&v5("c").lasting());
        let again = client.publish();
        assert_eq!((again.id(), again.dup), (id, true), "QoS {qos}");
    }
}

/// [MQTT-4.3.3-7] [MQTT-4.3.3-5]
#[test]
fn expiry_does_not_stop_a_pubrel() {
    let rig = Rig::new();
    let client = rig.connect(&v5("c").lasting());
    client.subscribe(&subscribe(1, "t").qos(2));
    rig.client("p").send(&publish("t", "x").qos2(1).expiry(5));
    let id = client.publish().id();
    rig.advance(60);
    client.send(&pubrec(id));
    assert_eq!(client.pubrel().code, code::SUCCESS);
    client.reset();
    let client = rig.connect(&v5("c").lasting());
    assert_eq!(client.pubrel().packet_id, id);
}

/// [MQTT-3.3.1-3] [MQTT-3.3.1-3 v3.1.1]
#[test]
fn the_dup_of_a_publisher_is_not_passed_on() {
    for version in BOTH {
        let rig = Rig::new();
        let client = rig.subscriber(version, "c", "t", 2);
        let publisher = rig.connect(&connect(version, "p"));
        publisher.send(&publish("t", "x").qos1(1).dup());
        publisher.send(&publish("t", "y").qos2(2).dup());
        assert!(!client.publish().dup);
        assert!(!client.publish().dup);
    }
}

/// [MQTT-3.8.4-8] [MQTT-3.8.4-6 v3.1.1]
#[test]
fn delivery_is_at_the_lesser_qos_of_message_and_subscription() {
    for version in BOTH {
        for granted in 0..=2 {
            let rig = Rig::new();
            let client = rig.subscriber(version, "c", "t", granted);
            let publisher = rig.client("p");
            for published in 0..=2 {
                publisher.send(&publish("t", "x").qos(published, u16::from(published)));
                let qos = client.publish().qos;
                assert_eq!(qos, granted.min(published), "{published} to {granted}");
            }
        }
    }
}

/// A message in flight keeps its QoS and identifier when a weaker version resumes the session.
#[test]
fn a_handshake_goes_on_in_another_version() {
    let rig = Rig::new();
    let client = rig.connect(&v5("c").lasting());
    client.subscribe(&subscribe(1, "t").qos(2));
    rig.client("p").send(&publish("t", "x").qos2(1));
    let id = client.publish().id();
    client.send(&disconnect());
    let client = rig.connect(&v4("c").lasting());
    assert_eq!(client.publish().id(), id);
    client.send(&pubrec(id));
    assert_eq!(client.pubrel().packet_id, id);
    client.send(&pubcomp(id));
    client.expect_alive();
}
