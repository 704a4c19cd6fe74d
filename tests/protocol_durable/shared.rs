//! What goes wrong between several ways to one message, and over a restart.

use crate::protocol::packets::{puback, pubcomp, publish, pubrec, pubrel, subscribe, v4, v5, will};
use crate::protocol::rig::{Client, End, Rig};

const ENDS: [End; 3] = [End::Stop, End::Kill, End::PowerCut];

/// The client of a session that lasts; with `present` as it has to be.
fn lasting(rig: &Rig, id: &str, present: bool) -> Client {
    let (client, connack) = rig.connect_told(&v5(id).lasting());
    assert_eq!(connack.session_present(), present, "the session of {id}");
    client
}

/// Publishes at QoS 2.
fn send(rig: &Rig, topic: &str, payload: &str) {
    let publisher = rig.client("publisher");
    publisher.send(&publish(topic, payload).qos2(1));
    publisher.pubrec();
    publisher.send(&pubrel(1));
    publisher.pubcomp();
}

/// [MQTT-3.1.2-8]
#[test]
fn the_will_of_a_connection_that_took_over_another_survives() {
    for end in ENDS {
        let rig = Rig::new();
        let ear = lasting(&rig, "ear", false);
        ear.subscribe(&subscribe(1, "w").qos(1));
        let _old = rig.connect(&v4("c").lasting().will(will("w", "old").qos(1)));
        let _new = rig.connect(&v4("c").lasting().will(will("w", "new").qos(1)));
        let old = ear.publish();
        assert_eq!(old.text(), "old");
        ear.send(&puback(old.id()));
        rig.restart(end, 0);
        rig.advance(31);
        assert_eq!(lasting(&rig, "ear", true).payloads(), ["new"]);
    }
}

/// [MQTT-3.1.2-8]
#[test]
fn a_will_that_fell_due_while_the_broker_was_down_is_sent() {
    for end in ENDS {
        let rig = Rig::new();
        lasting(&rig, "ear", false).subscribe(&subscribe(1, "w").qos(1));
        let will = will("w", "gone").qos(1).delay(60);
        rig.connect(&v5("c").resume().expiry(100).will(will)).reset();
        rig.restart(end, 3_000);
        rig.advance(31);
        assert_eq!(lasting(&rig, "ear", true).payloads(), ["gone"]);
    }
}

/// [MQTT-4.3.3-10]
#[test]
fn what_a_passing_member_of_a_group_has_received_comes_to_nobody_else() {
    for end in ENDS {
        let rig = Rig::new();
        let far = lasting(&rig, "far", false);
        far.subscribe(&subscribe(1, "$share/g/t").qos(2));
        far.reset();
        let near = rig.subscriber(crate::protocol::wire::Version::V5, "near", "$share/g/t", 2);
        send(&rig, "t", "once");
        near.send(&pubrec(near.publish().id()));
        near.pubrel();
        rig.restart(end, 0);
        lasting(&rig, "far", true).expect_alive();
    }
}

/// [MQTT-4.8.2-5]
#[test]
fn a_qos_2_message_ends_with_the_passing_member_that_has_it() {
    for end in ENDS {
        let rig = Rig::new();
        let far = lasting(&rig, "far", false);
        far.subscribe(&subscribe(1, "$share/g/t").qos(2));
        far.reset();
        let near = rig.subscriber(crate::protocol::wire::Version::V5, "near", "$share/g/t", 2);
        send(&rig, "t", "lost");
        near.publish();
        near.reset();
        rig.restart(end, 0);
        lasting(&rig, "far", true).expect_alive();
    }
}

/// [MQTT-4.4.0-1]
#[test]
fn of_two_copies_in_one_session_the_acknowledged_one_is_done() {
    for end in ENDS {
        for acknowledged in [1, 2] {
            let rig = Rig::new();
            let client = lasting(&rig, "c", false);
            client.subscribe(&subscribe(1, "$share/g/t").qos(2));
            client.subscribe(&subscribe(2, "$share/h/t").qos(1));
            send(&rig, "t", "twice");
            let copies = [client.publish(), client.publish()];
            let place = copies.iter().position(|it| it.qos == acknowledged).expect("of each QoS");
            match acknowledged {
                1 => client.send(&puback(copies[place].id())),
                _ => client.send(&pubrec(copies[place].id()).code(0x97)),
            }
            rig.restart(end, 0);
            let client = lasting(&rig, "c", true);
            let again = client.publish();
            assert_eq!((again.qos, again.id()), (copies[1 - place].qos, copies[1 - place].id()));
            client.expect_nothing();
        }
    }
}

/// [MQTT-4.3.3-2]
#[test]
fn what_is_retained_is_in_flight_for_one_though_others_are_done_with_it() {
    for end in ENDS {
        let rig = Rig::new();
        let publisher = rig.client("publisher");
        publisher.send(&publish("t", "kept").qos2(1).retain());
        publisher.pubrec();
        let clients = ["a", "b", "c"].map(|id| {
            let client = lasting(&rig, id, false);
            client.subscribe(&subscribe(1, "t").qos(2));
            let id = client.publish().id();
            client.send(&pubrec(id));
            client.pubrel();
            client.send(&pubcomp(id));
            client
        });
        let last = lasting(&rig, "last", false);
        last.subscribe(&subscribe(1, "t").qos(2));
        let first = last.publish();
        rig.restart(end, 0);
        drop(clients);
        let again = lasting(&rig, "last", true).publish();
        assert_eq!((again.text(), again.id(), again.dup), ("kept", first.id(), true));
    }
}
