//! Windows and sizes in both directions: MQTT 5, 3.1.2.11.3, 3.1.2.11.4, 3.3.4 and 4.9.

use super::packets::{
    Connect, Pingreq, puback, pubcomp, publish, pubrec, pubrel, subscribe, unsubscribe, v5, will,
};
use super::received::Received;
use super::rig::{Client, Rig};
use super::wire::{Version, code, prop};

/// A subscriber to `t` at QoS 2, connected as said.
fn reader(rig: &Rig, connect: &Connect) -> Client {
    let reader = rig.connect(connect);
    reader.subscribe(&subscribe(1, "t").qos(2));
    reader
}

// ---- what the client takes; the watch counts and fails above the maximum

/// [MQTT-3.3.4-9] [MQTT-4.9.0-1] [MQTT-4.9.0-2]
#[test]
fn no_more_is_in_flight_than_the_client_allows() {
    for most in [1, 2, 10] {
        let rig = Rig::new();
        let reader = reader(&rig, &v5("reader").receive_maximum(most));
        let publisher = rig.client("p");
        for n in 0..30 {
            publisher.send(&publish("t", &n.to_string()).qos(1 + n as u8 % 2, 1));
            publisher.send(&pubrel(1));
        }
        let mut in_flight = 0;
        let mut got = 0;
        let mut waiting = Vec::new();
        while let Some(received) = reader.next() {
            match received {
                Received::Publish(publish) => {
                    assert_eq!(publish.text(), got.to_string());
                    got += 1;
                    in_flight += 1;
                    waiting.push(publish);
                }
                Received::Pubrel(ack) => {
                    in_flight -= 1;
                    reader.send(&pubcomp(ack.packet_id));
                    continue;
                }
                other => panic!("{other:?}"),
            }
            if in_flight == most.min(30 - got + in_flight) {
                let publish = waiting.remove(0);
                if publish.qos == 1 {
                    in_flight -= 1;
                    reader.send(&puback(publish.id()));
                } else {
                    reader.send(&pubrec(publish.id()));
                }
            }
        }
        assert!(got >= 30 - most, "{got}");
    }
}

/// [MQTT-4.9.0-2] [MQTT-3.3.4-9]
#[test]
fn the_window_opens_by_puback_and_pubcomp_and_a_refusing_pubrec() {
    let rig = Rig::new();
    let reader = reader(&rig, &v5("reader").receive_maximum(1));
    let publisher = rig.client("p");
    for n in 0..4 {
        publisher.send(&publish("t", &n.to_string()).qos(if n == 0 { 1 } else { 2 }, n + 1));
    }
    let first = reader.publish();
    reader.expect_alive();
    reader.send(&puback(first.id()));
    let second = reader.publish();
    assert_eq!(second.text(), "1");
    reader.send(&pubrec(second.id()));
    reader.pubrel();
    reader.expect_alive();
    reader.send(&pubcomp(second.id()));
    let third = reader.publish();
    assert_eq!(third.text(), "2");
    reader.send(&pubrec(third.id()).code(code::UNSPECIFIED_ERROR));
    assert_eq!(reader.publish().text(), "3");
}

/// [MQTT-3.3.4-10] [MQTT-4.9.0-3]
#[test]
fn a_full_window_delays_nothing_but_messages() {
    let rig = Rig::new();
    let reader = reader(&rig, &v5("reader").receive_maximum(1));
    let publisher = rig.client("p");
    for n in 1..=5 {
        publisher.send(&publish("t", "x").qos2(n));
    }
    let id = reader.publish().id();
    reader.send(&Pingreq);
    assert_eq!(reader.recv(), Received::Pingresp);
    reader.send(&subscribe(2, "u"));
    assert_eq!(reader.suback().packet_id, 2);
    reader.send(&unsubscribe(3, "u"));
    assert_eq!(reader.unsuback().packet_id, 3);
    reader.send(&publish("elsewhere", "x").qos1(4));
    assert_eq!(reader.puback().packet_id, 4);
    reader.send(&publish("elsewhere", "x").qos2(5));
    assert_eq!(reader.pubrec().packet_id, 5);
    reader.send(&pubrel(5));
    assert_eq!(reader.pubcomp().packet_id, 5);
    reader.send(&pubrec(id));
    assert_eq!(reader.pubrel().packet_id, id);
    reader.expect_alive();
}

/// MQTT 5, 3.1.2.11.3: it counts for the connection only. [MQTT-4.9.0-1]
#[test]
fn a_new_connection_has_a_new_window() {
    let rig = Rig::new();
    let first = reader(&rig, &v5("reader").receive_maximum(5).lasting());
    let publisher = rig.client("p");
    for n in 1..=10 {
        publisher.send(&publish("t", &n.to_string()).qos1(n));
    }
    assert_eq!(first.payloads().len(), 5);
    first.reset();
    let second = rig.connect(&v5("reader").receive_maximum(2).lasting());
    let (one, two) = (second.publish(), second.publish());
    assert_eq!((one.text(), one.dup, two.text(), two.dup), ("1", true, "2", true));
    second.expect_alive();
    second.reset();
    let third = rig.connect(&v5("reader").lasting());
    let flags: Vec<bool> = (0..10).map(|_| third.publish().dup).collect();
    assert_eq!(flags, [true, true, true, true, true, false, false, false, false, false]);
}

/// PUBREL is no PUBLISH: it waits for no window. [MQTT-4.9.0-3] [MQTT-4.4.0-1]
#[test]
fn a_small_window_delays_no_pubrel_on_resumption() {
    let rig = Rig::new();
    let first = reader(&rig, &v5("reader").lasting());
    let publisher = rig.client("p");
    let mut ids = Vec::new();
    for n in 1..=3 {
        publisher.send(&publish("t", "x").qos2(n));
        let id = first.publish().id();
        first.send(&pubrec(id));
        first.pubrel();
        ids.push(id);
    }
    publisher.send(&publish("t", "y").qos1(9));
    first.reset();
    let second = rig.connect(&v5("reader").receive_maximum(1).lasting());
    let mut released = Vec::new();
    let mut messages = Vec::new();
    while let Some(received) = second.next() {
        match received {
            Received::Pubrel(ack) => released.push(ack.packet_id),
            Received::Publish(publish) => messages.push(publish.text().to_owned()),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((released, messages), (ids, vec!["y".to_owned()]));
}

#[test]
fn qos_0_passes_a_full_window() {
    let rig = Rig::new();
    let reader = reader(&rig, &v5("reader").receive_maximum(1));
    let publisher = rig.client("p");
    publisher.send(&publish("t", "1").qos1(1));
    publisher.send(&publish("t", "2").qos1(2));
    publisher.send(&publish("t", "0"));
    let got = reader.payloads();
    assert!(got == ["1"] || got == ["1", "0"], "{got:?}");
}

// ---- what the client sends

/// [MQTT-3.3.4-7] [MQTT-4.13.1-1]
#[test]
fn more_in_flight_than_the_broker_allows_closes() {
    let rig = Rig::with(|limits| limits.receive_maximum = 3);
    let (client, connack) = rig.connect_told(&v5("c"));
    assert_eq!(connack.props.number(prop::RECEIVE_MAXIMUM), Some(3));
    for n in 1..=3 {
        client.send(&publish("t", "x").qos2(n));
        client.pubrec();
    }
    client.send(&publish("t", "x").qos2(4));
    assert_eq!(client.closed_with(), code::RECEIVE_MAXIMUM_EXCEEDED);
}

/// [MQTT-3.3.4-7]
#[test]
fn a_window_of_the_broker_opens_by_pubcomp() {
    let rig = Rig::with(|limits| limits.receive_maximum = 1);
    let client = rig.client("c");
    for n in 1..=10 {
        client.send(&publish("t", "x").qos2(n));
        client.pubrec();
        client.send(&publish("t", "x").qos2(n).dup());
        assert_eq!(client.pubrec().packet_id, n, "a repetition takes no place");
        client.send(&pubrel(n));
        client.pubcomp();
        client.send(&publish("t", "x").qos1(n));
        client.puback();
    }
}

/// PUBCOMP answers it, but completes nothing: MQTT 5, 4.9. [MQTT-3.3.4-7]
#[test]
fn the_release_of_a_message_that_is_none_opens_no_window() {
    let rig = Rig::with(|limits| limits.receive_maximum = 3);
    let client = rig.client("c");
    for n in 1..=3 {
        client.send(&publish("t", "x").qos2(n));
        client.pubrec();
        client.send(&pubrel(99));
        assert_eq!(client.pubcomp().code, code::PACKET_IDENTIFIER_NOT_FOUND);
    }
    client.send(&publish("t", "x").qos2(4));
    assert_eq!(client.closed_with(), code::RECEIVE_MAXIMUM_EXCEEDED);
}

/// MQTT 5, 4.9: the window is that of the connection. [MQTT-3.3.4-7]
#[test]
fn what_an_earlier_connection_left_takes_no_place_in_the_window() {
    let rig = Rig::with(|limits| limits.receive_maximum = 1);
    let client = rig.connect(&v5("c").lasting());
    client.send(&publish("t", "x").qos2(1));
    client.pubrec();
    client.reset();
    let client = rig.connect(&v5("c").lasting());
    client.send(&publish("t", "y").qos2(2));
    assert_eq!(client.pubrec().packet_id, 2);
    client.send(&pubrel(1));
    assert_eq!(client.pubcomp().code, code::SUCCESS);
}

/// [MQTT-3.2.2-15]
#[test]
fn a_packet_above_the_maximum_of_the_broker_closes() {
    let rig = Rig::with(|limits| limits.packet_bytes = 100);
    let (client, connack) = rig.connect_told(&v5("c"));
    assert_eq!(connack.props.number(prop::MAXIMUM_PACKET_SIZE), Some(100));
    // Two bytes of fixed header, two of length, one of topic, one of properties.
    client.send(&publish("t", &"x".repeat(94)));
    client.expect_alive();
    client.send(&publish("t", &"x".repeat(95)));
    assert_eq!(client.closed_with(), code::PACKET_TOO_LARGE);
}

/// Refused by what its header says, before any memory is given to it. [MQTT-3.2.2-15]
#[test]
fn a_packet_too_large_is_refused_by_its_header() {
    let client = Rig::new().client("c");
    client.send_raw(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]);
    assert_eq!(client.closed_with(), code::PACKET_TOO_LARGE);
}

// ---- sizes the client takes; the watch measures

/// [MQTT-3.1.2-24] [MQTT-3.1.2-25]
#[test]
fn a_message_too_large_for_a_client_is_dropped_as_if_it_were_delivered() {
    for qos in 0..3 {
        let rig = Rig::new();
        let small = reader(&rig, &v5("small").maximum_packet_size(60).receive_maximum(1));
        let large = reader(&rig, &v5("large"));
        let publisher = rig.client("p");
        for n in 1..=20 {
            publisher.send(&publish("t", &"large".repeat(20)).qos(qos, n));
        }
        small.expect_alive();
        assert_eq!(large.payloads().len(), 20, "others get it");
        publisher.send(&publish("t", "fits").qos(qos, 30));
        assert_eq!(small.payloads(), ["fits"], "no place in the window was lost");
    }
}

/// [MQTT-3.1.2-24] [MQTT-3.1.2-25]
#[test]
fn a_message_too_large_is_dropped_from_the_queue_and_the_retained_ones_too() {
    let rig = Rig::new();
    let first = reader(&rig, &v5("reader").lasting());
    first.reset();
    let publisher = rig.client("p");
    for n in 1..=5 {
        publisher.send(&publish("t", &"large".repeat(20)).qos1(n));
    }
    publisher.send(&publish("t", "fits").qos1(9));
    publisher.send(&publish("kept/a", &"large".repeat(20)).retain());
    publisher.send(&publish("kept/b", "kept").retain());
    let second = rig.connect(&v5("reader").lasting().maximum_packet_size(60).receive_maximum(1));
    let fits = second.publish();
    assert_eq!(fits.text(), "fits");
    second.send(&puback(fits.id()));
    second.subscribe(&subscribe(2, "kept/+").qos(1));
    assert_eq!(second.payloads(), ["kept"]);
}

/// One that was sent already, to a connection that took more. [MQTT-3.1.2-25] [MQTT-4.4.0-1]
#[test]
fn a_message_in_flight_too_large_for_the_new_connection_is_dropped() {
    let rig = Rig::new();
    let first = reader(&rig, &v5("reader").lasting());
    let publisher = rig.client("p");
    publisher.send(&publish("t", &"large".repeat(20)).qos1(1));
    publisher.send(&publish("t", &"large".repeat(20)).qos2(2));
    publisher.send(&publish("t", "fits").qos1(3));
    assert_eq!(first.payloads().len(), 3);
    first.reset();
    let second = rig.connect(&v5("reader").lasting().maximum_packet_size(60).receive_maximum(1));
    assert_eq!(second.payloads(), ["fits"]);
}

/// Size counts with the properties, which grow by the subscription identifiers. [MQTT-3.1.2-24]
#[test]
fn no_size_is_exceeded_by_one_byte() {
    for size in 20..60 {
        let rig = Rig::new();
        let client = rig.connect(&v5("c").maximum_packet_size(size).topic_alias_maximum(3));
        client.send(&subscribe(1, "topic").qos(1).identifier(200));
        client.send(&subscribe(2, "+").qos(2).identifier(2_000_000));
        let publisher = rig.client("p");
        for len in 0..40 {
            publisher.send(&publish("topic", &"x".repeat(len)).qos1(1).user("k", "v"));
            publisher.send(&publish("topic", &"x".repeat(len)));
        }
    }
}

/// Each answer to each mistake, within every size. [MQTT-3.4.2-2] [MQTT-3.4.2-3] [MQTT-3.5.2-2]
/// [MQTT-3.5.2-3] [MQTT-3.6.2-2] [MQTT-3.6.2-3] [MQTT-3.7.2-2] [MQTT-3.7.2-3] [MQTT-3.9.2-1]
/// [MQTT-3.9.2-2] [MQTT-3.11.2-1] [MQTT-3.11.2-2] [MQTT-3.14.2-3] [MQTT-3.14.2-4]
#[test]
fn no_reason_string_or_user_property_makes_an_answer_too_large() {
    // Room for CONNACK at least, where it says nothing but what it has to.
    for size in (8..120).chain([1_000]) {
        let rig = Rig::with(|limits| {
            limits.retained_messages = 0;
            limits.subscriptions = 1;
        });
        let client = rig.attempt(&v5("c").maximum_packet_size(size));
        match client.next() {
            Some(Received::Connack(connack)) if connack.code == 0 => {}
            _ => continue,
        }
        client.send(&publish("t", "x").qos1(1).retain());
        assert_eq!(client.puback().code, code::QUOTA_EXCEEDED);
        client.send(&publish("t", "x").qos2(2).retain());
        assert_eq!(client.pubrec().code, code::QUOTA_EXCEEDED);
        client.send(&pubrec(9));
        assert_eq!(client.pubrel().code, code::PACKET_IDENTIFIER_NOT_FOUND);
        client.send(&pubrel(9));
        assert_eq!(client.pubcomp().code, code::PACKET_IDENTIFIER_NOT_FOUND);
        client.send(&subscribe(3, "a#"));
        assert_eq!(client.suback().codes, [code::TOPIC_FILTER_INVALID]);
        client.send(&unsubscribe(4, "u"));
        assert_eq!(client.unsuback().codes, [code::NO_SUBSCRIPTION_EXISTED]);
        client.send(&publish("", "x"));
        assert_eq!(client.closed_with(), code::PROTOCOL_ERROR);
    }
}

/// A packet that must be sent and is too large by itself closes. [MQTT-3.1.2-24]
#[test]
fn a_suback_too_large_to_send_is_not_sent() {
    let rig = Rig::new();
    let client = rig.attempt(&v5("c").maximum_packet_size(40));
    if !matches!(client.next(), Some(Received::Connack(connack)) if connack.code == 0) {
        return;
    }
    let mut many = subscribe(1, "t");
    for n in 0..100 {
        many = many.and(&n.to_string());
    }
    client.send(&many);
    if let Some(received) = client.next() {
        assert!(matches!(received, Received::Disconnect(_)), "{received:?}");
    }
}

/// The watch fails where one comes unasked. [MQTT-3.1.2-29]
#[test]
fn without_request_problem_information_answers_are_bare() {
    let rig = Rig::with(|limits| limits.retained_messages = 0);
    let client = rig.connect(&v5("c").problem_information(0));
    client.subscribe(&subscribe(1, "own").qos(2));
    rig.client("p").send(&publish("own", "x").qos1(1).user("k", "v"));
    assert_eq!(client.publish().props.user(), [("k", "v")], "a message keeps its own");
    client.send(&publish("t", "x").qos1(1).retain());
    assert!(client.puback().code >= 0x80);
    client.send(&publish("t", "x").qos2(2).retain());
    assert!(client.pubrec().code >= 0x80);
    client.send(&pubrec(9));
    assert!(client.pubrel().code >= 0x80);
    client.send(&pubrel(9));
    assert!(client.pubcomp().code >= 0x80);
    client.send(&subscribe(3, "a#"));
    assert!(client.suback().codes[0] >= 0x80);
    client.send(&unsubscribe(4, "u"));
    client.unsuback();
}

/// A will too large for its reader is dropped like a message. [MQTT-3.1.2-25]
#[test]
fn a_will_too_large_is_dropped() {
    let rig = Rig::new();
    let small = reader(&rig, &v5("small").maximum_packet_size(60));
    rig.connect(&v5("c").will(will("t", &"large".repeat(20)).qos(1))).reset();
    small.expect_alive();
    assert_eq!(rig.subscriber(Version::V5, "other", "t", 0).payloads(), [""; 0]);
}

// ---- what the broker takes from itself

/// Whoever publishes to a shard with too much mail is not read, but kept alive, until it has less.
#[test]
fn a_publisher_waits_for_the_shard_it_publishes_to() {
    let rig = Rig::new();
    let reader = reader(&rig, &v5("reader"));
    let publisher = rig.connect(&v5("p").keep_alive(10));
    let other = rig.client("other");
    rig.delay_mail(2);
    for n in 1..=6 {
        publisher.send(&publish("t", &n.to_string()).qos1(n));
    }
    assert_eq!(publisher.is_read(), crate::SHARDS == 1);
    other.send(&publish("elsewhere", "x"));
    assert!(other.is_read());
    if crate::SHARDS > 1 {
        rig.advance(60);
    }
    rig.carry_mail();
    assert!(publisher.is_read());
    assert_eq!(reader.payloads(), ["1", "2", "3", "4", "5", "6"]);
    for n in 1..=6 {
        assert_eq!(publisher.puback().packet_id, n);
    }
    publisher.expect_alive();
}
