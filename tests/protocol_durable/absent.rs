//! Many messages that wait for clients which are away: each comes to each of them, in order,
//! however those who wait share them.

use std::collections::BTreeMap;

use super::restart::{back, lasting, over_a_restart};
use crate::protocol::packets::{puback, publish};
use crate::protocol::rig::Rig;

/// Clients, and the topics they wait for: some wait for the same, some for nearly that.
const CLIENTS: [(&str, &str); 7] =
    [("a", "+"), ("b", "+"), ("c", "x"), ("d", "x"), ("e", "y"), ("f", "+"), ("g", "z")];

/// Publishes these messages, and notes who is to get them.
fn publish_all(rig: &Rig, topics: &[&'static str], owed: &mut BTreeMap<&str, Vec<String>>) {
    let publisher = rig.client("publisher");
    for (number, topic) in topics.iter().enumerate() {
        let payload = format!("{topic} {number}");
        publisher.send(&publish(topic, &payload).qos1(1));
        publisher.puback();
        for (client, filter) in CLIENTS {
            if filter == "+" || filter == *topic {
                owed.entry(client).or_default().push(payload.clone());
            }
        }
    }
}

/// Each client gets what it is owed, but for what it leaves for later.
fn drain(rig: &Rig, owed: &mut BTreeMap<&str, Vec<String>>, leave: usize) {
    for (id, owed) in owed {
        let client = back(rig, id);
        let count = owed.len().saturating_sub(leave);
        for payload in owed.drain(..count) {
            let received = client.publish();
            assert_eq!(received.text(), payload, "to {id}");
            client.send(&puback(received.id()));
        }
        client.reset();
    }
}

#[test]
fn what_many_absent_clients_wait_for_comes_to_each_in_order() {
    over_a_restart(|rig, restart| {
        CLIENTS.iter().for_each(|(id, filter)| lasting(rig, id, filter, 1).reset());
        let mut owed = BTreeMap::new();
        // More than stand on one page, in runs and by turns.
        let runs = ["x"; 700].iter().chain(&["y"; 20]).chain(&["x"; 700]);
        let turns = ["x", "y", "z", "x", "x"].iter().cycle().take(300);
        let topics: Vec<_> = runs.chain(turns).copied().collect();
        publish_all(rig, &topics, &mut owed);
        restart();
        drain(rig, &mut owed, 250);
        publish_all(rig, &["x", "y", "z", "z", "y", "x"], &mut owed);
        restart();
        drain(rig, &mut owed, 0);
        rig.compact();
        CLIENTS.iter().for_each(|(id, _)| assert!(back(rig, id).payloads().is_empty()));
    });
}

#[test]
fn a_queue_in_thousands_of_pieces_is_compacted_and_read_again() {
    over_a_restart(|rig, restart| {
        CLIENTS.iter().for_each(|(id, filter)| lasting(rig, id, filter, 1).reset());
        let mut owed = BTreeMap::new();
        let topics: Vec<_> = ["x", "y"].into_iter().cycle().take(9_000).collect();
        publish_all(rig, &topics, &mut owed);
        restart();
        drain(rig, &mut owed, 10);
        restart();
        drain(rig, &mut owed, 0);
    });
}
