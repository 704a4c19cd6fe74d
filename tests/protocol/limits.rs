//! The limits that clients feel, each with the code the standard has for it.

use longshore_broker::QueueOverflow;

use super::packets::{
    Connect, Pingreq, Publish, Subscribe, connect, puback, publish, pubrel, subscribe, unsubscribe,
    v5,
};
use super::received::Received;
use super::rig::{Client, Rig};
use super::wire::{Props, Value, Version, code, kind, packet, prop, string};

/// [MQTT-3.1.4-1]
#[test]
fn a_connect_above_its_limit_is_refused_by_its_header() {
    let rig = Rig::with(|limits| limits.connect_bytes = 100);
    let client = rig.open(Version::V5);
    client.unwatch();
    client.send_raw(&[kind::CONNECT, 0xFF, 0xFF, 0x7F]);
    assert!(client.is_closed());
    rig.connect(&v5("short")).expect_alive();
}

/// MQTT 5, 3.1.4.
#[test]
fn a_connection_that_says_nothing_is_closed() {
    let rig = Rig::with(|limits| limits.connect_timeout_secs = 10);
    let silent = rig.open(Version::V5);
    let slow = rig.open(Version::V5);
    slow.send_raw(&[kind::CONNECT, 100]);
    rig.advance(9);
    slow.send_raw(&[0]);
    assert!(!silent.is_closed());
    rig.advance(2);
    silent.closed_silently();
    slow.closed_silently();
}

#[test]
fn a_packet_that_does_not_end_is_closed() {
    let rig = Rig::with(|limits| limits.packet_secs = 30);
    let client = rig.connect(&v5("c").keep_alive(100));
    client.send_raw(&[kind::PUBLISH, 100]);
    for _ in 0..7 {
        rig.advance(5);
        client.send_raw(&[0]);
    }
    assert_eq!(client.closed_with(), code::KEEP_ALIVE_TIMEOUT);
}

#[test]
fn more_connections_than_allowed_are_not_accepted() {
    let rig = Rig::with(|limits| limits.connections = 2);
    let first = rig.client("a");
    let _second = rig.client("b");
    assert!(rig.try_open(Version::V5).is_none());
    first.reset();
    assert!(rig.try_open(Version::V5).is_some());
}

#[test]
fn a_topic_of_too_many_levels_is_not_valid() {
    let rig = Rig::with(|limits| limits.topic_levels = 4);
    let client = rig.client("c");
    let codes = client.subscribe(&subscribe(1, "a/b/c/d").and("a/b/c/d/e").and("a/b/c/d/#"));
    assert_eq!(codes[..2], [0, code::TOPIC_FILTER_INVALID]);
    client.send(&publish("a/b/c/d", "x"));
    assert_eq!(client.payloads(), ["x"]);
    client.send(&publish("a/b/c/d/e", "x").qos1(1));
    match client.recv() {
        Received::Puback(ack) => assert_eq!(ack.code, code::TOPIC_NAME_INVALID),
        Received::Disconnect(disconnect) => assert_eq!(disconnect.code, code::TOPIC_NAME_INVALID),
        other => panic!("{other:?}"),
    }
}

#[test]
fn more_subscriptions_than_allowed_are_refused_one_by_one() {
    let rig = Rig::with(|limits| limits.subscriptions = 2);
    let client = rig.client("c");
    let codes = client.subscribe(&subscribe(1, "a").and("b").and("c").and("a").qos(1));
    assert_eq!(codes, [0, 0, code::QUOTA_EXCEEDED, 1]);
    client.send(&unsubscribe(2, "a"));
    client.unsuback();
    assert_eq!(client.subscribe(&subscribe(3, "c")), [0]);
}

#[test]
fn more_user_properties_than_allowed_close() {
    let rig = Rig::with(|limits| limits.user_properties = 3);
    let client = rig.client("c");
    let _reader = rig.subscriber(Version::V5, "reader", "t", 0);
    let three = publish("t", "x").user("a", "").user("a", "").user("a", "");
    client.send(&three);
    client.expect_alive();
    client.send(&three.user("a", ""));
    assert_eq!(client.closed_with(), code::QUOTA_EXCEEDED);
}

/// On every packet that may carry them, also on those of which they mean nothing to the broker.
#[test]
fn more_user_properties_than_allowed_close_whatever_packet_carries_them() {
    let rig = Rig::with(|limits| limits.user_properties = 3);
    let mut four = Props::default();
    (0..4).for_each(|_| four.push(prop::USER_PROPERTY, Value::Pair("a".into(), String::new())));
    let four = four.encode();
    let (filter, options) = (string(b"t"), [0]);
    let mut faults = Vec::new();
    for (name, first, parts) in [
        ("PUBLISH", kind::PUBLISH, [&string(b"t")[..], &four, b"x"]),
        ("SUBSCRIBE", kind::SUBSCRIBE | 2, [&[0, 1], &four, &[&filter[..], &options].concat()]),
        ("UNSUBSCRIBE", kind::UNSUBSCRIBE | 2, [&[0, 1], &four, &filter]),
        ("PUBACK", kind::PUBACK, [&[0, 1, 0], &four, &[]]),
        ("PUBREC", kind::PUBREC, [&[0, 1, 0], &four, &[]]),
        ("PUBREL", kind::PUBREL | 2, [&[0, 1, 0], &four, &[]]),
        ("PUBCOMP", kind::PUBCOMP, [&[0, 1, 0], &four, &[]]),
        ("DISCONNECT", kind::DISCONNECT, [&[0], &four, &[]]),
    ] {
        let client = rig.client("c");
        client.send_raw(&packet(first, &parts.concat()));
        match client.next() {
            Some(Received::Disconnect(said)) if said.code == code::QUOTA_EXCEEDED => {}
            other => faults.push(format!("{name}: {other:?}")),
        }
        if !client.is_closed() {
            faults.push(format!("{name} closes"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn as_many_user_properties_as_a_packet_holds_are_refused() {
    let rig = Rig::new();
    let mut many = Props::default();
    (0..65_536).for_each(|_| many.push(prop::USER_PROPERTY, Value::Pair(String::new(), "".into())));
    let client = rig.client("c");
    client.send(&Publish { props: many.clone(), ..publish("t", "x") });
    assert_eq!(client.closed_with(), code::QUOTA_EXCEEDED);
    let client = rig.client("c");
    client.send(&Subscribe { props: many.clone(), ..subscribe(1, "t") });
    assert_eq!(client.closed_with(), code::QUOTA_EXCEEDED);
    // Of CONNECT there is less.
    many.0.truncate(13_000);
    let client = rig.attempt(&Connect { props: many, ..v5("c") });
    assert_eq!(client.refused_with(), code::QUOTA_EXCEEDED);
    rig.client("c").expect_alive();
}

/// As deep as names and filters can be, where that is allowed. [MQTT-4.7.3-3]
#[test]
fn a_topic_of_65_000_levels_is_one_like_others() {
    let rig = Rig::with(|limits| limits.topic_levels = 65_535);
    let name = "/".repeat(65_000);
    let plus = "+/".repeat(32_500) + "#";
    let mixed = "/".repeat(64_000) + "#";
    let publisher = rig.client("p");
    publisher.send(&publish(&name, "kept").qos1(1).retain());
    publisher.puback();
    for filter in [&name, &plus, &mixed, "#", &("/".repeat(60_000) + "+")] {
        // Of 60,001 levels, and of another name.
        let matches = filter.len() != 60_001;
        let reader = rig.client("reader");
        assert_eq!(reader.subscribe(&subscribe(1, filter)), [0]);
        let kept = reader.payloads();
        assert_eq!(kept.len(), usize::from(matches), "retained, {} bytes", filter.len());
        publisher.send(&publish(&name, "live"));
        assert_eq!(reader.payloads().len(), usize::from(matches), "live, {} bytes", filter.len());
        reader.send(&unsubscribe(2, filter));
        assert_eq!(reader.unsuback().codes, [code::SUCCESS]);
        publisher.send(&publish(&name, "unheard"));
        reader.expect_alive();
        // One that ends with its session, too.
        assert_eq!(reader.subscribe(&subscribe(3, filter).retain_handling(2)), [0]);
        reader.reset();
    }
    publisher.send(&publish(&name, "").retain());
    let reader = rig.client("reader");
    reader.subscribe(&subscribe(1, "#"));
    reader.expect_alive();
}

#[test]
fn more_retained_messages_than_allowed_are_refused() {
    let rig = Rig::with(|limits| limits.retained_messages = 2);
    let client = rig.client("c");
    for (topic, refused) in [("a", false), ("b", false), ("c", true), ("a", false)] {
        client.send(&publish(topic, "x").qos1(1).retain());
        assert_eq!(client.puback().code >= 0x80, refused, "{topic}");
    }
    client.send(&publish("b", "").qos1(1).retain());
    client.puback();
    client.send(&publish("c", "x").qos1(1).retain());
    assert!(client.puback().code < 0x80, "there is room now");
}

#[test]
fn more_sessions_than_allowed_are_refused() {
    let rig = Rig::with(|limits| limits.sessions = 2);
    let first = rig.connect(&v5("a").lasting());
    let _second = rig.client("b");
    assert_eq!(rig.attempt(&v5("c")).refused_with(), code::QUOTA_EXCEEDED);
    first.reset();
    let again = rig.connect(&v5("a"));
    again.reset();
    rig.client("c").expect_alive();
}

#[test]
fn a_longer_session_expiry_than_allowed_is_lowered_and_told() {
    let rig = Rig::with(|limits| limits.session_expiry_secs = 60);
    let (client, connack) = rig.connect_told(&v5("c").expiry(u32::MAX));
    assert_eq!(connack.props.number(prop::SESSION_EXPIRY), Some(60));
    client.reset();
    rig.advance(61);
    assert!(!rig.connect_told(&v5("c").resume()).1.session_present());
    let (_client, connack) = rig.connect_told(&v5("d").expiry(60));
    assert!(!connack.props.has(prop::SESSION_EXPIRY), "as it asked");
}

/// The window to the client is the lesser of what it takes and what the broker gives.
/// [MQTT-4.9.0-1]
#[test]
fn the_broker_may_send_fewer_than_the_client_takes() {
    let rig = Rig::with(|limits| limits.inflight = 3);
    for version in [Version::V3_1_1, Version::V5] {
        let client = rig.connect(&connect(version, "c"));
        client.subscribe(&subscribe(1, "t").qos(1));
        let publisher = rig.client("p");
        for n in 1..=10 {
            publisher.send(&publish("t", &n.to_string()).qos1(1));
        }
        let mut got = 0;
        let mut waiting = Vec::new();
        while let Some(Received::Publish(publish)) = client.next() {
            got += 1;
            waiting.push(publish.id());
            assert!(waiting.len() <= 3, "{version:?}");
            if waiting.len() == 3 {
                client.send(&puback(waiting.remove(0)));
            }
        }
        assert_eq!(got, 10, "{version:?}");
    }
}

/// One slow reader stops nobody: neither its publisher nor another reader.
#[test]
fn a_reader_that_reads_nothing_loses_only_its_own_messages_of_qos_0() {
    let rig = Rig::with(|limits| limits.output_bytes = 10_000);
    let slow = rig.subscriber(Version::V5, "slow", "t", 1);
    let quick = rig.subscriber(Version::V5, "quick", "t", 1);
    let publisher = rig.client("p");
    slow.stall();
    for n in 0..100 {
        publisher.send(&publish("t", &format!("{n:0500}")));
        publisher.send(&publish("t", &format!("{n:0500} sure")).qos1(1));
        assert!(publisher.puback().code < 0x80);
        assert_eq!(quick.publish().qos, 0);
        let sure = quick.publish();
        quick.send(&puback(sure.id()));
    }
    slow.unstall();
    let mut sure = 0;
    let mut others = 0;
    while let Some(Received::Publish(publish)) = slow.next() {
        if publish.qos == 1 {
            assert_eq!(publish.text(), format!("{sure:0500} sure"));
            sure += 1;
            slow.send(&puback(publish.id()));
        } else {
            others += 1;
        }
    }
    assert_eq!(sure, 100);
    assert!(others < 100, "some were dropped");
}

/// Many slow readers together stop nobody either.
#[test]
fn readers_that_read_nothing_share_what_may_wait_for_all() {
    const TOTAL: usize = 200_000;
    const COUNT: usize = 400;
    let rig = Rig::with(|limits| limits.output_bytes_total = TOTAL);
    let name = |n: usize| format!("slow-{n}");
    let slow: Vec<_> = (0..10).map(|n| rig.subscriber(Version::V5, &name(n), "t", 0)).collect();
    let quick = rig.subscriber(Version::V5, "quick", "t", 0);
    slow.iter().for_each(Client::stall);
    let publisher = rig.client("p");
    for n in 0..COUNT {
        publisher.send(&publish("t", &format!("{n:01000}")));
        assert_eq!(quick.publish().payload.len(), 1_000);
    }
    slow.iter().for_each(Client::unstall);
    let got: Vec<usize> = slow.iter().map(|slow| slow.payloads().len() * 1_000).collect();
    // On each of the shards; and each reader has 64 KiB of its own, and one message.
    let most = crate::SHARDS * TOTAL + slow.len() * (65_536 + 2_000);
    assert!(got.iter().sum::<usize>() <= most, "{got:?}");
    assert!(got.iter().all(|got| *got >= 60_000), "each has its part: {got:?}");
    slow.iter().for_each(Client::expect_alive);
}

/// While the broker does not read from a client, it is not silent.
#[test]
fn a_client_that_is_not_read_is_not_timed_out() {
    let rig = Rig::with(|limits| {
        limits.output_bytes = 1_000;
        limits.output_stall_secs = 10_000;
    });
    let client = rig.connect(&v5("c").keep_alive(10));
    client.stall();
    for _ in 0..2_000 {
        client.send(&Pingreq);
    }
    assert!(!client.is_read(), "it is made to wait");
    rig.advance(100);
    assert!(!client.is_closed());
    client.unstall();
    assert!(client.is_read());
    while client.next().is_some() {}
    client.expect_alive();
}

/// Nobody waits for ever for a client that reads nothing.
#[test]
fn a_client_that_reads_nothing_is_closed_in_the_end() {
    let rig = Rig::with(|limits| limits.output_stall_secs = 60);
    let client = rig.subscriber(Version::V5, "c", "t", 1);
    client.stall();
    rig.client("p").send(&publish("t", "x").qos1(1));
    rig.advance(30);
    assert!(!client.is_closed());
    rig.advance(60);
    client.unstall();
    while client.next().is_some() {}
    assert!(client.is_closed());
}

/// A queue that is full ends its session, and nobody else notices.
#[test]
fn a_session_that_would_exceed_its_queue_ends() {
    let rig = Rig::with(|limits| limits.queue_messages = 10);
    let away = rig.connect(&v5("away").lasting());
    away.subscribe(&subscribe(1, "t").qos(1));
    away.reset();
    let slow = rig.connect(&v5("slow").lasting().receive_maximum(1));
    slow.subscribe(&subscribe(1, "t").qos(1));
    let publisher = rig.client("p");
    for n in 1..=20 {
        publisher.send(&publish("t", &n.to_string()).qos2(n));
        assert!(publisher.pubrec().code < 0x80);
        publisher.send(&pubrel(n));
        publisher.pubcomp();
    }
    assert!(!rig.connect_told(&v5("away").lasting()).1.session_present());
    slow.publish();
    assert_eq!(slow.closed_with(), code::QUOTA_EXCEEDED);
    publisher.expect_alive();
}

/// Where the newest count more than all: nobody ends, and publishers are answered as ever.
#[test]
fn a_session_may_lose_its_oldest_messages_instead_of_ending() {
    let rig = Rig::with(|limits| {
        limits.queue_messages = 10;
        limits.queue_overflow = QueueOverflow::DropOldest;
    });
    let away = rig.connect(&v5("away").lasting());
    away.subscribe(&subscribe(1, "t").qos(1));
    away.reset();
    let slow = rig.connect(&v5("slow").lasting().receive_maximum(1));
    slow.subscribe(&subscribe(1, "t").qos(1));
    let publisher = rig.client("p");
    for n in 1..=30 {
        publisher.send(&publish("t", &n.to_string()).qos1(n));
        assert_eq!(publisher.puback().code, code::SUCCESS);
    }
    let newest: Vec<String> = (21..=30).map(|n| n.to_string()).collect();
    let (away, connack) = rig.connect_told(&v5("away").lasting());
    assert!(connack.session_present());
    assert_eq!(away.payloads(), newest);
    let mut got = Vec::new();
    while let Some(Received::Publish(publish)) = slow.next() {
        got.push(publish.text().to_owned());
        slow.send(&puback(publish.id()));
    }
    assert_eq!(got[0], "1", "it was under way");
    assert_eq!(got[1..], newest);
    slow.expect_alive();
}

/// Also where it is the memory of all that is full.
#[test]
fn those_with_most_lose_their_oldest_when_all_queues_together_are_full() {
    let rig = Rig::with(|limits| {
        limits.queue_bytes_total = 10_000;
        limits.queue_overflow = QueueOverflow::DropOldest;
    });
    let names = ["large", "small"];
    for name in names {
        let away = rig.connect(&v5(name).lasting());
        away.subscribe(&subscribe(1, name).qos(1));
        away.reset();
    }
    let publisher = rig.client("p");
    for n in 0..200 {
        publisher.send(&publish("large", &format!("{n:0500}")).qos1(1));
        assert_eq!(publisher.puback().code, code::SUCCESS);
        if n == 0 {
            publisher.send(&publish("small", "x").qos1(1));
            assert_eq!(publisher.puback().code, code::SUCCESS);
        }
    }
    let [large, small] = names.map(|name| {
        let (away, connack) = rig.connect_told(&v5(name).lasting());
        assert!(connack.session_present(), "{name}");
        away.payloads()
    });
    assert!(large.len() < 100, "{} of 200", large.len());
    assert_eq!(large.last().map(String::as_str), Some(&*format!("{:0500}", 199)));
    assert_eq!(small, ["x"], "whoever has little keeps it");
}

/// One message may come to a session twice, and find no room but its own.
#[test]
fn a_message_that_comes_twice_to_a_full_queue_stays_once() {
    let rig = Rig::with(|limits| {
        limits.queue_messages = 1;
        limits.queue_overflow = QueueOverflow::DropOldest;
    });
    let away = rig.connect(&v5("away").lasting());
    away.subscribe(&subscribe(1, "t").qos(1).and("$share/g/t").qos(1));
    away.reset();
    let publisher = rig.client("p");
    for n in 1..=3 {
        publisher.send(&publish("t", &n.to_string()).qos1(n));
        assert_eq!(publisher.puback().code, code::SUCCESS);
    }
    let (away, _) = rig.connect_told(&v5("away").lasting());
    assert_eq!(away.payloads().first().map(String::as_str), Some("3"));
    away.expect_alive();
}

/// Whatever a first packet announces, nothing is set aside for it.
#[test]
fn a_first_packet_that_is_not_connect_is_refused_by_its_first_byte() {
    for first in [0x00, 0x11, 0x20, 0x30, 0x82, 0xC0, 0xE0, 0xF0, b'G', 0x16] {
        let client = Rig::new().open(Version::V5);
        client.unwatch();
        client.send_raw(&[first]);
        if !client.is_closed() {
            client.send_raw(&[0xFF, 0xFF, 0xFF, 0x7F]);
        }
        assert!(client.is_closed(), "{first:#04x}");
        assert_eq!(client.bytes(), b"", "{first:#04x}");
    }
}

/// Strings that announce more than there is. [MQTT-3.1.4-1]
#[test]
fn a_connect_whose_strings_announce_more_than_there_is_is_refused() {
    let head = [string(b"MQTT"), vec![5, 2, 0, 0]].concat();
    for tail in [
        &b"\0\xFF\xFFc"[..],
        b"\xFF\xFF\xFF\x7F\0\x01c",
        b"\x05\x26\xFF\xFFab\0\x01c",
        b"\0\0\x01c\xFF",
    ] {
        let client = Rig::new().open(Version::V5);
        client.send_raw(&packet(kind::CONNECT, &[&head, tail].concat()));
        assert!(client.is_closed());
        if let Some(Received::Connack(connack)) = client.next() {
            assert_eq!(connack.code, code::MALFORMED_PACKET);
        }
    }
}
