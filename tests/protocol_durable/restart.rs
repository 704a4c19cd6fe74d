//! The broker ends and begins again, and its clients notice nothing but a broken connection.
//!
//! Each test does so in several ways: stopped, killed and with the power cut, with a round of
//! compaction before and without.

use crate::protocol::packets::{
    disconnect, puback, pubcomp, publish, pubrec, pubrel, subscribe, unsubscribe, v4, v5, will,
};
use crate::protocol::rig::{Client, End, Rig};
use crate::protocol::wire::Version;

/// Runs `test` once for each way of an end, which it brings about by calling what it is given.
pub(super) fn over_a_restart(test: impl Fn(&Rig, &dyn Fn())) {
    over_a_restart_of(Rig::new, test);
}

fn over_a_restart_of(rig: impl Fn() -> Rig, test: impl Fn(&Rig, &dyn Fn())) {
    for end in [End::Stop, End::Kill, End::PowerCut] {
        for rounds in 0..3 {
            let rig = rig();
            test(&rig, &|| {
                for _ in 0..rounds {
                    rig.compact();
                }
                rig.restart(end, 0);
                if rounds == 2 {
                    rig.compact();
                    rig.restart(end, 0);
                }
            });
        }
    }
}

/// A client that has subscribed to `filter` at `qos`, in a session that lasts.
pub(super) fn lasting(rig: &Rig, id: &str, filter: &str, qos: u8) -> Client {
    let client = rig.connect(&v5(id).lasting());
    assert_eq!(client.subscribe(&subscribe(1, filter).qos(qos)), [qos]);
    client
}

/// The client again; its session must be there.
pub(super) fn back(rig: &Rig, id: &str) -> Client {
    let (client, connack) = rig.connect_told(&v5(id).lasting());
    assert!(connack.session_present(), "the session of {id} is there");
    client
}

fn send(client: &Client, topic: &str, payload: &str, id: u16) {
    client.send(&publish(topic, payload).qos1(id));
    client.puback();
}

/// [MQTT-4.1.0-1] [MQTT-4.1.0-2]
#[test]
fn a_session_its_subscriptions_and_what_waits_survive() {
    over_a_restart(|rig, restart| {
        lasting(rig, "sub", "t/+", 1).reset();
        let publisher = rig.client("pub");
        for id in 1..=20 {
            send(&publisher, "t/a", &format!("before {id}"), id);
        }
        restart();
        let publisher = rig.client("pub");
        send(&publisher, "t/b", "after", 1);
        let client = back(rig, "sub");
        for id in 1..=20 {
            let received = client.publish();
            assert_eq!(received.text(), format!("before {id}"));
            assert!(!received.dup, "it was never sent");
            client.send(&puback(received.id()));
        }
        let last = client.publish();
        assert_eq!(last.text(), "after");
        client.send(&puback(last.id()));
        restart();
        back(rig, "sub").expect_alive();
    });
}

/// [MQTT-4.4.0-1] [MQTT-3.3.1-1]
#[test]
fn what_was_in_flight_is_sent_again_under_its_id_in_its_order() {
    over_a_restart(|rig, restart| {
        let client = lasting(rig, "sub", "t", 1);
        let publisher = rig.client("pub");
        for id in 1..=5 {
            send(&publisher, "t", &format!("{id}"), id);
        }
        let sent: Vec<_> = (1..=5).map(|_| client.publish()).collect();
        client.send(&puback(sent[1].id()));
        client.send(&puback(sent[3].id()));
        restart();
        let client = back(rig, "sub");
        for at in [0, 2, 4] {
            let again = client.publish();
            assert_eq!((again.text(), again.id()), (sent[at].text(), sent[at].id()));
            assert!(again.dup);
        }
        client.expect_alive();
        send(&rig.client("pub"), "t", "new", 9);
        let new = client.publish();
        assert!(!new.dup && sent.iter().step_by(2).all(|old| old.id() != new.id()));
    });
}

/// [MQTT-4.3.3-10] [MQTT-4.3.3-12]
#[test]
fn a_qos_2_message_is_taken_once_whatever_its_publisher_repeats() {
    over_a_restart(|rig, restart| {
        lasting(rig, "sub", "t", 2).reset();
        let publisher = rig.connect(&v5("pub").lasting());
        publisher.send(&publish("t", "once").qos2(7));
        publisher.pubrec();
        restart();
        let publisher = back(rig, "pub");
        publisher.send(&publish("t", "once").qos2(7).dup());
        publisher.pubrec();
        publisher.send(&pubrel(7));
        assert_eq!(publisher.pubcomp().code, 0);
        restart();
        let publisher = back(rig, "pub");
        publisher.send(&pubrel(7));
        assert_eq!(publisher.pubcomp().code, 0x92, "the exchange was complete");
        publisher.send(&publish("t", "another").qos2(7));
        publisher.pubrec();
        let client = back(rig, "sub");
        assert_eq!(client.payloads(), ["once", "another"]);
    });
}

/// [MQTT-4.3.3-8] [MQTT-4.4.0-1]
#[test]
fn a_qos_2_message_is_given_once_wherever_its_exchange_was_broken() {
    over_a_restart(|rig, restart| {
        let client = lasting(rig, "sub", "t", 2);
        let publisher = rig.client("pub");
        for id in 1..=3 {
            publisher.send(&publish("t", &format!("{id}")).qos2(id));
            publisher.pubrec();
            publisher.send(&pubrel(id));
            publisher.pubcomp();
        }
        let sent: Vec<_> = (1..=3).map(|_| client.publish()).collect();
        // The second is received, the third complete.
        for at in [1, 2] {
            client.send(&pubrec(sent[at].id()));
            assert_eq!(client.pubrel().packet_id, sent[at].id());
        }
        client.send(&pubcomp(sent[2].id()));
        restart();
        let client = back(rig, "sub");
        let again = client.publish();
        assert_eq!((again.text(), again.id(), again.dup), ("1", sent[0].id(), true));
        assert_eq!(client.pubrel().packet_id, sent[1].id());
        client.expect_alive();
        client.send(&pubcomp(sent[1].id()));
        client.send(&pubrec(again.id()));
        client.pubrel();
        client.send(&pubcomp(again.id()));
        restart();
        back(rig, "sub").expect_alive();
    });
}

/// [MQTT-3.8.4-1] [MQTT-3.10.4-1]
#[test]
fn a_subscription_given_up_stays_so_and_one_replaced_too() {
    over_a_restart(|rig, restart| {
        let client = lasting(rig, "sub", "a", 1);
        client.subscribe(&subscribe(2, "b").qos(1).identifier(5));
        client.subscribe(&subscribe(3, "b").qos(0));
        client.subscribe(&subscribe(3, "c").qos(1).identifier(6));
        client.send(&unsubscribe(4, "a"));
        client.unsuback();
        restart();
        let (client, publisher) = (back(rig, "sub"), rig.client("pub"));
        for (topic, id) in [("a", 1), ("b", 2), ("c", 3)] {
            publisher.send(&publish(topic, topic).qos1(id));
            publisher.puback();
        }
        let b = client.publish();
        assert_eq!((b.text(), b.qos), ("b", 0));
        let c = client.publish();
        assert_eq!((c.text(), c.qos), ("c", 1));
        assert_eq!(c.props.number(11), Some(6));
        client.expect_alive();
    });
}

#[test]
fn what_is_retained_survives_and_what_was_cleared_does_not_return() {
    over_a_restart(|rig, restart| {
        let publisher = rig.client("pub");
        for (topic, payload, id) in
            [("r/a", "1", 1), ("r/b", "1", 2), ("r/a", "2", 3), ("r/b", "", 4), ("r/c", "3", 5)]
        {
            publisher.send(&publish(topic, payload).qos1(id).retain());
            publisher.puback();
        }
        let large = "x".repeat(5_000);
        publisher.send(&publish("r/d", &large).qos1(6).retain());
        publisher.puback();
        restart();
        let client = rig.subscriber(Version::V5, "reader", "r/#", 0);
        let mut found = client.payloads();
        found.sort();
        assert_eq!(found, ["2", "3", &large]);
    });
}

/// [MQTT-3.1.2-23]
#[test]
fn a_session_expires_by_the_wall_clock_also_while_the_broker_is_down() {
    for (away, present) in [(30, true), (70, false)] {
        let rig = Rig::new();
        let client = rig.connect(&v5("c").resume().expiry(100));
        client.send(&disconnect());
        rig.advance(35);
        rig.restart(End::PowerCut, away);
        let (_, connack) = rig.connect_told(&v5("c").resume().expiry(100));
        assert_eq!(connack.session_present(), present, "{away} s later");
    }
}

#[test]
fn a_session_that_was_connected_expires_from_the_restart_on() {
    let rig = Rig::new();
    rig.connect(&v5("c").resume().expiry(100));
    rig.restart(End::Kill, 500);
    rig.advance(99);
    rig.restart(End::Kill, 0);
    let (client, connack) = rig.connect_told(&v5("c").resume().expiry(100));
    assert!(connack.session_present());
    client.send(&disconnect());
    rig.restart(End::Kill, 0);
    rig.advance(101);
    let (_, connack) = rig.connect_told(&v5("c").resume().expiry(100));
    assert!(!connack.session_present());
}

/// [MQTT-3.3.2-5]
#[test]
fn a_message_expires_by_the_wall_clock_also_while_the_broker_is_down() {
    let rig = Rig::new();
    lasting(&rig, "sub", "t", 1).reset();
    let publisher = rig.client("pub");
    for (secs, id) in [(50, 1), (100, 2)] {
        publisher.send(&publish("t", &format!("{secs}")).qos1(id).expiry(secs));
        publisher.puback();
    }
    rig.restart(End::PowerCut, 60);
    let received = back(&rig, "sub").publish();
    assert_eq!((received.text(), received.props.number(2)), ("100", Some(40)));
}

/// [MQTT-3.1.2-8] and the restart grace.
#[test]
fn a_will_waits_for_its_client_after_a_restart() {
    for returns in [true, false] {
        over_a_restart(|rig, restart| {
            lasting(rig, "ear", "will", 1).reset();
            rig.connect(&v5("c").lasting().will(will("will", "gone").qos(1)));
            restart();
            rig.advance(25);
            let client = returns.then(|| back(rig, "c"));
            rig.advance(10);
            let mut heard = back(rig, "ear").payloads();
            if returns {
                assert!(heard.is_empty());
                client.into_iter().for_each(|client| client.reset());
                heard = back(rig, "ear").payloads();
                assert!(heard.is_empty(), "it came back without a will");
            } else {
                assert_eq!(heard, ["gone"]);
                restart();
                rig.advance(100);
                assert_eq!(back(rig, "ear").payloads(), ["gone"], "sent once, not acknowledged");
            }
        });
    }
}

#[test]
fn a_shared_group_with_nobody_there_keeps_its_messages_once() {
    over_a_restart(|rig, restart| {
        lasting(rig, "a", "$share/g/t", 1).reset();
        lasting(rig, "b", "$share/g/t", 1).reset();
        let publisher = rig.client("pub");
        for id in 1..=6 {
            send(&publisher, "t", &format!("{id}"), id);
        }
        restart();
        let first = back(rig, "b");
        let found: Vec<_> = (1..=6).map(|_| first.publish()).collect();
        assert_eq!(found[5].text(), "6");
        first.send(&puback(found[0].id()));
        restart();
        // What it has not acknowledged is its own until it is known to be gone for good.
        let again = back(rig, "b");
        let rest: Vec<String> = (2..=6).map(|_| again.publish().text().to_owned()).collect();
        assert_eq!(rest, ["2", "3", "4", "5", "6"]);
        again.send(&disconnect().code(0));
        back(rig, "a").expect_alive();
    });
}

#[test]
fn a_clean_start_ends_the_session_for_good() {
    over_a_restart(|rig, restart| {
        lasting(rig, "c", "t", 1).reset();
        send(&rig.client("pub"), "t", "old", 1);
        rig.connect(&v4("c")).send(&disconnect());
        restart();
        let (client, connack) = rig.connect_told(&v5("c").lasting());
        assert!(!connack.session_present());
        client.expect_alive();
    });
}

#[test]
fn messages_larger_than_a_segment_survive() {
    over_a_restart(|rig, restart| {
        lasting(rig, "sub", "t", 1).reset();
        let publisher = rig.client("pub");
        let large = "0123456789".repeat(5_000);
        send(&publisher, "t", &large, 1);
        send(&publisher, "t", "small", 2);
        restart();
        assert_eq!(back(rig, "sub").payloads(), [large.as_str(), "small"]);
    });
}

#[test]
fn compaction_retires_what_is_done_with() {
    let rig = Rig::new();
    lasting(&rig, "sub", "t", 1).reset();
    let publisher = rig.client("pub");
    for round in 0..20 {
        for id in 1..=100 {
            send(&publisher, "t", &format!("{round} {id}"), id);
        }
        let client = back(&rig, "sub");
        for _ in 0..if round == 19 { 50 } else { 100 } {
            let received = client.publish();
            client.send(&puback(received.id()));
        }
        client.reset();
    }
    assert!(rig.compact() > 5, "segments of what was delivered go");
    rig.restart(End::PowerCut, 0);
    let rest = back(&rig, "sub").payloads();
    let want: Vec<String> = (51..=100).map(|id| format!("19 {id}")).collect();
    assert_eq!(rest, want);
}

/// [MQTT-4.3.3-10]
#[test]
fn qos_2_messages_are_taken_once_while_their_readers_are_there() {
    over_a_restart(|rig, restart| {
        let readers = ["a", "b", "c", "d"].map(|id| lasting(rig, id, "t", 2));
        let publisher = rig.connect(&v5("pub").lasting());
        for id in 1..=5 {
            publisher.send(&publish("t", &format!("{id}")).qos2(id));
        }
        restart();
        drop(readers);
        let publisher = back(rig, "pub");
        for id in 1..=5 {
            publisher.send(&publish("t", &format!("{id}")).qos2(id).dup());
            publisher.pubrec();
        }
        for id in ["a", "b", "c", "d"] {
            assert_eq!(back(rig, id).payloads(), ["1", "2", "3", "4", "5"]);
        }
    });
}
