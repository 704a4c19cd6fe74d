//! What the window of a session does when clients leave messages unacknowledged.

use super::*;
use crate::message::{Identifiers, Message, Parts};

fn pending() -> Pending {
    let parts = Parts { topic: b"t", properties: b"", payload: b"x", shared: None };
    let message = Kept::Memory(Message::new(parts, QoS::AtLeastOnce, false, None).into());
    let (qos, identifiers) = (QoS::AtLeastOnce, Identifiers::None);
    let manner = Manner { qos, retain: false, identifiers, group: None, holder: 0, again: false };
    Pending { message, manner }
}

fn connected(quota: u16) -> Outbound {
    let mut outbound = Outbound::default();
    outbound.connect(quota);
    outbound
}

fn acknowledge(outbound: &mut Outbound, id: PacketId) {
    assert!(matches!(outbound.acknowledge(id, QoS::AtLeastOnce), Settled::Delivered(_)), "{id}");
}

fn sent_again(outbound: &mut Outbound) -> Option<PacketId> {
    match outbound.step(|_| true)? {
        Step::Publish { id, duplicate: true, .. } => Some(id),
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_message_without_acknowledgement_holds_no_others_up() {
    let mut outbound = connected(3);
    let stuck = [outbound.send(pending()), outbound.send(pending())];
    for _ in 0..200_000 {
        assert!(outbound.has_room());
        let id = outbound.send(pending());
        assert!(!stuck.contains(&id), "its id is in use");
        acknowledge(&mut outbound, id);
        assert!(outbound.window.len() <= 200, "nor does it cost much memory");
    }
    let young = outbound.send(pending());
    outbound.connect(3);
    let again: Vec<PacketId> = std::iter::from_fn(|| sent_again(&mut outbound)).collect();
    assert_eq!(again, [stuck[0], stuck[1], young], "in the order they were sent");
    for id in again {
        acknowledge(&mut outbound, id);
    }
    assert!(outbound.window.is_empty() && outbound.bytes() == 0);
    assert_eq!((outbound.stragglers, outbound.done, outbound.counted), (0, 0, 0));
}

#[test]
fn ids_do_not_run_out_while_10_000_are_in_use_and_none_is_given_twice() {
    for (every, left) in [(2, 32_768), (3, 21_845), (9, 7_282), (70, 937)] {
        let mut outbound = connected(u16::MAX);
        let (mut in_use, mut ids) = (vec![false; 65_536], Vec::new());
        for round in 0..4 {
            while outbound.has_room() {
                let room = outbound.room();
                for _ in 0..room {
                    let id = outbound.send(pending());
                    assert!(!std::mem::replace(&mut in_use[usize::from(id.get())], true));
                    ids.push(id);
                }
            }
            assert!(round > 0 || ids.len() == 65_535);
            assert!(ids.len() > 10_000, "{} in use, {every}", ids.len());
            let mut number = 0;
            ids.retain(|id| {
                number += 1;
                let stays = number % every == 1;
                if !stays {
                    acknowledge(&mut outbound, *id);
                    in_use[usize::from(id.get())] = false;
                }
                stays
            });
            assert!(round > 0 || ids.len() == left);
            assert_eq!(usize::from(outbound.counted), ids.len());
        }
    }
}

/// It is PUBREL that answers PUBREC; sent again it is on another connection only [MQTT-4.4.0-1].
#[test]
fn a_pubrec_before_the_message_is_sent_again_gets_one_pubrel() {
    let mut outbound = connected(2);
    let mut exactly_once = pending();
    exactly_once.manner.qos = QoS::ExactlyOnce;
    let id = outbound.send(exactly_once);
    let next = outbound.send(pending());
    for _ in 0..2 {
        outbound.connect(2);
        assert!(matches!(outbound.receive(id), Settled::Release(_)));
        assert_eq!(sent_again(&mut outbound), Some(next));
        assert!(outbound.step(|_| true).is_none());
    }
    outbound.connect(2);
    assert!(matches!(outbound.step(|_| true), Some(Step::Release { id: again }) if again == id));
}
