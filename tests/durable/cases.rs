//! Faults that were found, as small as they can be made.

use longshore_broker::ConnectionId;

use crate::packets::{Connect, Outgoing, puback, publish, subscribe, v5};
use crate::wire::{Version, kind};
use crate::world::World;

/// A world whose broker runs.
fn world() -> World {
    let mut world = World::new(1, 1);
    world.open().expect("the power is not cut");
    world
}

/// Gives the broker a packet, and ends its turn; what it says.
fn send(world: &mut World, id: ConnectionId, packet: &impl Outgoing) -> Vec<u8> {
    world.receive(id, &packet.encode(Version::V5)).expect("it is read");
    turn(world)
}

fn connect(world: &mut World, connect: &Connect) -> ConnectionId {
    let id = world.accept();
    send(world, id, connect);
    id
}

/// Ends the turn; what the broker says in it.
fn turn(world: &mut World) -> Vec<u8> {
    world.end_turn(0).expect("the power is not cut");
    world.written.drain(..).flat_map(|(_, bytes, _)| bytes).collect()
}

/// What was appended becomes durable; what the broker says then.
fn commit(world: &mut World) -> Vec<u8> {
    world.commit().expect("the power is not cut");
    world.tell();
    turn(world)
}

#[test]
fn a_connection_that_was_taken_over_while_it_was_held_is_still_held() {
    let mut world = world();
    let id = world.accept();
    assert_eq!(send(&mut world, id, &v5("c").lasting()), b"");
    let id = world.accept();
    assert_eq!(send(&mut world, id, &v5("c").lasting()), b"", "nothing is durable");
    assert_eq!(commit(&mut world)[0], kind::CONNACK);
    assert_eq!(world.closed.len(), 1, "the first one has ended");
}

/// [MQTT-4.6.0-6]
#[test]
fn what_was_queued_does_not_overtake_what_waits_for_the_journal() {
    let mut world = world();
    let publisher = connect(&mut world, &v5("p").lasting());
    let reader = connect(&mut world, &v5("s").receive_maximum(2));
    send(&mut world, reader, &subscribe(1, "t").qos(2));
    commit(&mut world);
    assert_ne!(send(&mut world, publisher, &publish("t", "0").qos1(1)), b"");
    for id in 2..4 {
        assert_eq!(send(&mut world, publisher, &publish("t", "x").qos2(id)), b"");
    }
    assert_eq!(send(&mut world, reader, &puback(1)), b"", "there is room for another one");
    assert_ne!(commit(&mut world), b"");
}
