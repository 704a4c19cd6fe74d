//! The dialect: a shared subscription whose share name says by what of a topic messages stay with
//! one member.

use std::collections::BTreeMap;

use super::packets::{disconnect, puback, publish, subscribe, v5};
use super::received::Received;
use super::rig::{Client, Rig};
use super::wire::Version;

fn members(rig: &Rig, count: usize, filter: &str, qos: u8) -> Vec<Client> {
    let one = |n: usize| rig.subscriber(Version::V5, &format!("member {n}"), filter, qos);
    (0..count).map(one).collect()
}

/// Which member gets what: by topic, with its payloads in order.
fn heard(members: &[Client]) -> BTreeMap<String, (usize, Vec<String>)> {
    let mut heard: BTreeMap<String, (usize, Vec<String>)> = BTreeMap::new();
    for (at, member) in members.iter().enumerate() {
        while let Some(Received::Publish(publish)) = member.next() {
            let known = heard.entry(publish.topic.clone()).or_insert((at, Vec::new()));
            assert_eq!(known.0, at, "{} has one member", publish.topic);
            known.1.push(publish.text().to_owned());
            if publish.qos == 1 {
                member.send(&puback(publish.id()));
            }
        }
    }
    heard
}

/// 13.6: levels 0 to 5, of which the last is the ident, and level 4 alone, the device.
#[test]
fn messages_with_the_same_fingerprint_go_to_the_same_member() {
    let rows = [
        ("$share/by_ident:6/fleet/message/gw/channels/+/+", "fleet/message/gw/channels/7/", ""),
        ("$share/by_device:4:1/fleet/+/gw/devices/+/#", "fleet/state/gw/devices/", "/telemetry"),
        ("$share/by_device:4:1/fleet/+/gw/devices/+/#", "fleet/log/gw/devices/", ""),
    ];
    for (filter, before, after) in rows {
        for qos in 0..2 {
            let rig = Rig::new();
            let members = members(&rig, 4, filter, qos);
            let publisher = rig.client("p");
            for round in 0..3 {
                for number in 0..40 {
                    let topic = format!("{before}{number}{after}");
                    publisher.send(&publish(&topic, &round.to_string()).qos(qos, 1));
                }
            }
            let heard = heard(&members);
            assert_eq!(heard.len(), 40);
            assert!(heard.values().all(|(_, payloads)| *payloads == ["0", "1", "2"]), "{heard:?}");
            let busy = (0..4).filter(|at| heard.values().any(|(member, _)| member == at));
            assert_eq!(busy.count(), 4, "all have some");
        }
    }
}

/// 13.6: whatever the other levels say.
#[test]
fn levels_that_do_not_count_change_nothing() {
    let rig = Rig::new();
    let members = members(&rig, 4, "$share/by_device:4:1/fleet/+/gw/devices/+/#", 1);
    let publisher = rig.client("p");
    for number in 0..20 {
        for (kind, what) in [("state", "/telemetry/speed"), ("log", "/created"), ("message", "")] {
            let topic = format!("fleet/{kind}/gw/devices/{number}{what}");
            publisher.send(&publish(&topic, &number.to_string()).qos1(1));
        }
    }
    let mut of_devices: BTreeMap<String, Vec<usize>> = BTreeMap::new();
    for (member, payloads) in heard(&members).into_values() {
        of_devices.entry(payloads[0].clone()).or_default().push(member);
    }
    assert_eq!(of_devices.len(), 20);
    for (device, members) in of_devices {
        assert!(members.len() == 3 && members.iter().all(|it| *it == members[0]), "{device}");
    }
}

/// 13.7: of a topic that is too short, the levels that it has.
#[test]
fn a_short_topic_has_a_member_like_any_other() {
    let rig = Rig::new();
    let members = members(&rig, 3, "$share/g:2:3/t/#", 1);
    let publisher = rig.client("p");
    for topic in ["t", "t/a", "t/a/b", "t/a/b/c", "t/a/b/c/d"] {
        (0..5).for_each(|_| publisher.send(&publish(topic, "x").qos1(1)));
    }
    assert!(heard(&members).values().all(|(_, payloads)| payloads.len() == 5));
}

/// 13.7, 13.4: only what was the member's who is gone moves, and it returns with the member.
#[test]
fn what_a_member_had_goes_to_others_while_it_is_away() {
    let rig = Rig::new();
    let mut members = members(&rig, 4, "$share/g:1:1/t/+", 1);
    let publisher = rig.client("p");
    let all = |members: &[Client]| {
        for number in 0..60 {
            publisher.send(&publish(&format!("t/{number}"), "x").qos1(1));
        }
        let heard = heard(members);
        assert_eq!(heard.len(), 60);
        heard.into_values().map(|(member, _)| member).collect::<Vec<_>>()
    };
    let before = all(&members);
    members[1].send(&disconnect());
    let away = all(&members);
    for (before, away) in before.iter().zip(&away) {
        assert!(*away == *before || *before == 1);
        assert_ne!(*away, 1);
    }
    members[1] = rig.subscriber(Version::V5, "member 1", "$share/g:1:1/t/+", 1);
    assert_eq!(all(&members), before);
}

/// 13.3: in order, and where its fingerprint goes from now on.
#[test]
fn what_a_member_leaves_unacknowledged_goes_to_whom_the_topic_names_then() {
    let rig = Rig::new();
    let members = members(&rig, 3, "$share/g:1:1/t/+", 1);
    let publisher = rig.client("p");
    let send = |payload: &str| {
        for number in 0..30 {
            publisher.send(&publish(&format!("t/{number}"), payload).qos1(1));
        }
    };
    send("1");
    send("2");
    // Nobody has acknowledged anything.
    members[0].reset();
    send("3");
    let rest = heard(&members[1..]);
    assert_eq!(rest.len(), 30);
    assert!(rest.values().all(|(_, payloads)| *payloads == ["1", "2", "3"]), "{rest:?}");
}

/// A member that has no room is waited for, and nobody else waits for it.
#[test]
fn messages_wait_for_their_member_in_order() {
    let rig = Rig::new();
    let filter = "$share/g:1:1/t/+";
    let narrow = |id| {
        let client = rig.connect(&v5(id).receive_maximum(2));
        client.subscribe(&subscribe(1, filter).qos(1));
        client
    };
    let members = [narrow("a"), narrow("b")];
    let publisher = rig.client("p");
    for number in 0..50 {
        let topic = format!("t/{}", number % 10);
        publisher.send(&publish(&topic, &format!("{number:02}")).qos1(1));
    }
    // The first gets two, and no more as long as it says nothing; the second gets all of its own.
    let mut first = vec![members[0].publish(), members[0].publish()];
    members[0].expect_alive();
    let second = heard(&members[1..]);
    assert!(!second.is_empty() && second.values().all(|(_, payloads)| payloads.len() == 5));
    let mut at = 0;
    while at < first.len() {
        members[0].send(&puback(first[at].id()));
        while let Some(Received::Publish(publish)) = members[0].next() {
            first.push(publish);
        }
        at += 1;
    }
    let mut of_topics: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for publish in &first {
        let payloads = of_topics.entry(publish.topic.clone()).or_default();
        payloads.push(publish.text().to_owned());
    }
    assert_eq!(of_topics.len() + second.len(), 10);
    for (topic, payloads) in of_topics.iter().chain(second.iter().map(|(t, (_, p))| (t, p))) {
        assert!(payloads.len() == 5 && payloads.is_sorted(), "{topic}: {payloads:?}");
    }
}

/// 13.5: what waited while nobody was there goes where the topic says.
#[test]
fn what_waits_in_a_group_goes_to_the_members_that_it_is_for() {
    let rig = Rig::new();
    let filter = "$share/g:1:1/t/+";
    let member = |id: &str| rig.connect(&v5(id).lasting());
    for id in ["a", "b"] {
        let client = member(id);
        client.subscribe(&subscribe(1, filter).qos(1));
        client.send(&disconnect());
    }
    let publisher = rig.client("p");
    for number in 0..40 {
        let topic = format!("t/{}", number % 10);
        publisher.send(&publish(&topic, &format!("{number:02}")).qos1(1));
    }
    // The first that comes is alone, and so has all that it has room for.
    let first = rig.connect(&v5("a").lasting().receive_maximum(4));
    let begun: Vec<_> = (0..4).map(|_| first.publish()).collect();
    first.expect_alive();
    let second = member("b");
    let mut order: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut note = |publish: &super::received::Publish| {
        order.entry(publish.topic.clone()).or_default().push(publish.text().to_owned());
    };
    begun.iter().for_each(&mut note);
    begun.iter().for_each(|publish| first.send(&puback(publish.id())));
    let mut counts = [0, 0];
    loop {
        let mut idle = true;
        for (at, client) in [&first, &second].into_iter().enumerate() {
            while let Some(Received::Publish(publish)) = client.next() {
                note(&publish);
                client.send(&puback(publish.id()));
                counts[at] += 1;
                idle = false;
            }
        }
        if idle {
            break;
        }
    }
    assert!(counts[0] > 0 && counts[1] > 0, "{counts:?}");
    assert_eq!(order.len(), 10);
    for (topic, mut payloads) in order {
        // What the first was sent while it was alone is with it, the rest with whom it is for.
        payloads.sort();
        assert!(payloads.len() == 4, "{topic}: {payloads:?}");
    }
}

/// 13.8
#[test]
fn groups_that_say_it_differently_are_apart() {
    let rig = Rig::new();
    let filters = ["$share/g/t/+", "$share/g:1/t/+", "$share/g:0:1/t/+", "$share/g:1:1/t/+"];
    let clients: Vec<Client> = filters
        .iter()
        .map(|filter| rig.subscriber(Version::V5, filter.split('/').nth(1).unwrap(), filter, 0))
        .collect();
    rig.client("p").send(&publish("t/a", "x"));
    for client in clients {
        assert_eq!(client.payloads(), ["x"]);
    }
}

#[test]
fn members_take_turns_when_sticky_groups_are_off() {
    let rig = Rig::speaking(|dialect| dialect.sticky_groups = false);
    let members = members(&rig, 2, "$share/g:1:1/t/+", 0);
    let publisher = rig.client("p");
    (0..10).for_each(|_| publisher.send(&publish("t/a", "x")));
    for member in members {
        assert_eq!(member.payloads().len(), 5);
    }
}
