//! Shared subscriptions: MQTT 5, 4.8.2.

use std::collections::BTreeSet;

use super::packets::{disconnect, puback, publish, pubrec, pubrel, subscribe, unsubscribe, v5};
use super::rig::{Client, Rig};
use super::wire::{Version, code};

/// Members of the group `g` on topic `t`.
fn members(rig: &Rig, count: usize, qos: u8) -> Vec<Client> {
    let name = |n: usize| format!("member {n}");
    let one = |n| rig.subscriber(Version::V5, &name(n), "$share/g/t", qos);
    (0..count).map(one).collect()
}

/// [MQTT-4.8.2-1] [MQTT-4.8.2-2]
#[test]
fn each_message_goes_to_one_member_of_the_group() {
    let rig = Rig::new();
    let members = members(&rig, 3, 0);
    let publisher = rig.client("p");
    let mut got = BTreeSet::new();
    for n in 0..90 {
        publisher.send(&publish("t", &n.to_string()));
    }
    for member in &members {
        let payloads = member.payloads();
        assert!(payloads.len() > 10, "the load is spread");
        for payload in payloads {
            assert!(got.insert(payload), "one member only");
        }
    }
    assert_eq!(got.len(), 90);
}

/// The filter behind the name matches as any other. [MQTT-4.8.2-2]
#[test]
fn the_filter_of_a_group_may_have_wildcards() {
    let rig = Rig::new();
    let client = rig.subscriber(Version::V5, "c", "$share/name with space/+/b/#", 0);
    let publisher = rig.client("p");
    for (topic, comes) in [("a/b", true), ("a/b/c", true), ("a", false), ("$x/b", false)] {
        publisher.send(&publish(topic, "x"));
        assert_eq!(client.payloads().len(), usize::from(comes), "{topic}");
    }
}

#[test]
fn groups_of_other_names_and_plain_subscriptions_get_copies_of_their_own() {
    let rig = Rig::new();
    let one = rig.subscriber(Version::V5, "one", "$share/g/t", 0);
    let two = rig.subscriber(Version::V5, "two", "$share/h/t", 0);
    let three = rig.subscriber(Version::V5, "three", "$share/g/+", 0);
    let plain = rig.subscriber(Version::V5, "plain", "t", 0);
    rig.client("p").send(&publish("t", "x"));
    for client in [one, two, three, plain] {
        assert_eq!(client.payloads(), ["x"]);
    }
}

/// MQTT 5, 4.8.2: a client with both gets both copies, each with its own identifier.
#[test]
fn a_plain_and_a_shared_subscription_of_one_client_are_apart() {
    let rig = Rig::new();
    let client = rig.client("c");
    client.subscribe(&subscribe(1, "t").identifier(1));
    client.subscribe(&subscribe(2, "$share/g/t").identifier(2));
    rig.client("p").send(&publish("t", "x"));
    let mut identifiers: Vec<_> =
        [client.publish(), client.publish()].map(|p| p.props.subscription_identifiers()).into();
    identifiers.sort();
    assert_eq!(identifiers, [vec![1], vec![2]]);
    client.expect_alive();
}

/// MQTT 5, 3.3.4: only the identifier of the member that receives.
#[test]
fn a_member_gets_its_own_identifier() {
    let rig = Rig::new();
    let (a, b) = (rig.client("a"), rig.client("b"));
    a.subscribe(&subscribe(1, "$share/g/t").identifier(1));
    b.subscribe(&subscribe(1, "$share/g/t").identifier(2));
    let publisher = rig.client("p");
    for _ in 0..20 {
        publisher.send(&publish("t", "x"));
    }
    for (client, identifier) in [(a, 1), (b, 2)] {
        while let Some(super::received::Received::Publish(publish)) = client.next() {
            assert_eq!(publish.props.subscription_identifiers(), [identifier]);
        }
    }
}

/// [MQTT-4.8.2-3]
#[test]
fn each_member_gets_messages_at_its_own_granted_qos() {
    let rig = Rig::new();
    let clients: Vec<_> = (0..3)
        .map(|qos| (qos, rig.subscriber(Version::V5, &qos.to_string(), "$share/g/t", qos)))
        .collect();
    let publisher = rig.client("p");
    for n in 0..60 {
        publisher.send(&publish("t", "x").qos2(n + 1));
        publisher.send(&pubrel(n + 1));
    }
    for (granted, client) in clients {
        let mut count = 0;
        while let Some(super::received::Received::Publish(publish)) = client.next() {
            assert_eq!(publish.qos, granted);
            count += 1;
        }
        assert!(count > 0, "QoS {granted} takes part");
    }
}

/// MQTT 5, 4.8.2: a second SUBSCRIBE does not make a second member.
#[test]
fn a_session_is_a_member_once() {
    let rig = Rig::new();
    let client = rig.client("c");
    for qos in [0, 1, 2] {
        client.subscribe(&subscribe(1, "$share/g/t").qos(qos));
    }
    let publisher = rig.client("p");
    publisher.send(&publish("t", "x").qos2(1));
    assert_eq!(client.publish().qos, 2);
    client.expect_alive();
    client.send(&unsubscribe(2, "$share/g/t"));
    assert_eq!(client.unsuback().codes, [code::SUCCESS]);
    publisher.send(&publish("t", "y"));
    client.expect_alive();
}

/// [MQTT-3.10.4-1]
#[test]
fn a_member_leaves_by_the_whole_filter_only() {
    let rig = Rig::new();
    let client = rig.subscriber(Version::V5, "c", "$share/g/t", 0);
    client.send(&unsubscribe(2, "t").and("$share/h/t").and("$share/g/t"));
    assert_eq!(client.unsuback().codes, [0x11, 0x11, 0x00]);
}

#[test]
fn members_that_leave_are_passed_over() {
    let rig = Rig::new();
    let members = members(&rig, 3, 1);
    members[0].send(&unsubscribe(2, "$share/g/t"));
    members[0].unsuback();
    members[1].send(&disconnect());
    let publisher = rig.client("p");
    for n in 0..10 {
        publisher.send(&publish("t", &n.to_string()).qos1(1));
        publisher.puback();
    }
    assert_eq!(members[2].payloads().len(), 10);
    members[0].expect_alive();
}

/// [MQTT-4.8.2-4]
#[test]
fn a_qos_2_delivery_begun_is_completed_with_the_same_client() {
    let rig = Rig::new();
    let first = rig.connect(&v5("first").lasting());
    first.subscribe(&subscribe(1, "$share/g/t").qos(2));
    rig.client("p").send(&publish("t", "x").qos2(1));
    let id = first.publish().id();
    let second = rig.subscriber(Version::V5, "second", "$share/g/t", 2);
    first.reset();
    rig.advance(60);
    second.expect_alive();
    let first = rig.connect(&v5("first").lasting());
    let again = first.publish();
    assert_eq!((again.id(), again.dup, again.text()), (id, true, "x"));
    first.send(&pubrec(id));
    assert_eq!(first.pubrel().packet_id, id);
}

/// [MQTT-4.8.2-5]
#[test]
fn a_qos_2_message_ends_with_the_session_it_was_sent_to() {
    for expiry in [0, 30] {
        let rig = Rig::new();
        let first = rig.connect(&v5("first").expiry(expiry));
        first.subscribe(&subscribe(1, "$share/g/t").qos(2));
        rig.client("p").send(&publish("t", "x").qos2(1));
        first.publish();
        let second = rig.subscriber(Version::V5, "second", "$share/g/t", 2);
        first.reset();
        rig.advance(60);
        second.expect_alive();
    }
}

/// MQTT 5, 4.8.2: one of QoS 1 that was not acknowledged should go to another.
#[test]
fn a_qos_1_message_of_a_member_whose_session_ends_goes_to_another() {
    let rig = Rig::new();
    let first = rig.client("first");
    first.subscribe(&subscribe(1, "$share/g/t").qos(1));
    rig.client("p").send(&publish("t", "x").qos1(1));
    assert_eq!(first.payloads(), ["x"]);
    let second = rig.subscriber(Version::V5, "second", "$share/g/t", 1);
    second.expect_alive();
    first.reset();
    rig.advance(1);
    assert_eq!(second.payloads(), ["x"]);
}

/// [MQTT-4.8.2-6]
#[test]
fn a_message_that_a_member_refuses_goes_to_nobody_else() {
    for qos in [1, 2] {
        let rig = Rig::new();
        let members = members(&rig, 2, qos);
        rig.client("p").send(&publish("t", "x").qos(qos, 1));
        let mut count = 0;
        for member in &members {
            if let Some(super::received::Received::Publish(publish)) = member.next() {
                let id = publish.id();
                let refusal = if qos == 1 { puback(id) } else { pubrec(id) };
                member.send(&refusal.code(code::UNSPECIFIED_ERROR));
                count += 1;
            }
        }
        assert_eq!(count, 1);
        rig.advance(60);
        for member in &members {
            member.expect_alive();
            member.reset();
        }
    }
}

/// MQTT 5, 3.1.2.11.4: the message may go to a member that can take it, and blocks nobody.
#[test]
fn a_message_too_large_for_one_member_does_no_harm() {
    let rig = Rig::new();
    let small = rig.connect(&v5("small").maximum_packet_size(50).receive_maximum(1));
    small.subscribe(&subscribe(1, "$share/g/t").qos(1));
    let publisher = rig.client("p");
    for _ in 0..5 {
        publisher.send(&publish("t", &"large".repeat(20)).qos1(1));
        assert!(publisher.puback().code < 0x80);
    }
    publisher.send(&publish("t", "fits").qos1(1));
    assert_eq!(small.payloads(), ["fits"]);
}

/// [MQTT-3.3.2-5] [MQTT-3.3.2-6]
#[test]
fn messages_that_wait_for_a_group_expire() {
    let rig = Rig::new();
    let client = rig.connect(&v5("c").lasting());
    client.subscribe(&subscribe(1, "$share/g/t").qos(1));
    client.reset();
    let publisher = rig.client("p");
    publisher.send(&publish("t", "short").qos1(1).expiry(10));
    publisher.send(&publish("t", "long").qos1(1).expiry(100));
    rig.advance(30);
    let got = rig.connect(&v5("c").lasting()).publish();
    assert_eq!(
        (got.text(), got.props.number(super::wire::prop::MESSAGE_EXPIRY)),
        ("long", Some(70))
    );
}

/// Messages for a group of which nobody is there wait, as they would for a session.
/// [MQTT-4.5.0-1]
#[test]
fn messages_wait_for_a_group_of_which_nobody_is_connected() {
    let rig = Rig::new();
    let client = rig.connect(&v5("c").lasting());
    client.subscribe(&subscribe(1, "$share/g/t").qos(1));
    client.reset();
    let publisher = rig.client("p");
    for payload in ["1", "2", "3"] {
        publisher.send(&publish("t", payload).qos1(1));
    }
    let client = rig.connect(&v5("c").lasting());
    assert_eq!(client.payloads(), ["1", "2", "3"]);
}

/// What nobody has to wait for does not count against `limits.queue_messages`.
#[test]
fn what_a_member_leaves_behind_goes_to_others_whatever_may_wait() {
    let rig = Rig::with(|limits| limits.queue_messages = 1);
    let leaver = rig.subscriber(Version::V5, "leaver", "$share/g/t", 1);
    let publisher = rig.client("p");
    for n in 1..=3 {
        publisher.send(&publish("t", &n.to_string()).qos1(n));
    }
    let heir = rig.subscriber(Version::V5, "heir", "$share/g/t", 1);
    leaver.reset();
    assert_eq!(heir.payloads(), ["1", "2", "3"]);
}

/// A message on its way to a member that has left is no reason to pass it over in other groups.
#[test]
fn a_member_that_leaves_one_group_takes_its_turn_in_another() {
    let rig = Rig::new();
    let member = rig.subscriber(Version::V5, "member", "$share/g/t", 1);
    assert_eq!(member.subscribe(&subscribe(2, "$share/h/u").qos(1)), [1]);
    let publisher = rig.client("p");
    rig.delay_mail(10);
    publisher.send(&publish("t", "x").qos1(1));
    member.send(&unsubscribe(3, "$share/g/t"));
    rig.carry_mail();
    while member.next().is_some() {}
    publisher.send(&publish("u", "y").qos1(2));
    rig.carry_mail();
    assert_eq!(member.payloads(), ["y"]);
}

/// A message that its member cannot take any more goes to another one.
#[test]
fn a_message_on_its_way_to_a_member_that_is_gone_goes_to_another() {
    let rig = Rig::new();
    let members = members(&rig, 2, 1);
    let publisher = rig.client("p");
    rig.delay_mail(10);
    for n in 0..4 {
        publisher.send(&publish("t", &n.to_string()).qos1(n + 1));
    }
    members[0].reset();
    rig.carry_mail();
    let mut got = members[1].payloads();
    got.sort();
    assert_eq!(got, ["0", "1", "2", "3"]);
}
