//! Two shards on two threads: what a run in one thread never does, because each call of a shard is
//! whole there. Each test does the two things that may meet, many times, and looks at the outcome.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use longshore_acl::Anonymous;
use longshore_broker::clock::{Mono, Now, Wall};
use longshore_broker::shard::Config;
use longshore_broker::{ConnectionId, Limits, Mail, Moved, Peer, Shard};
use longshore_codec::{
    Ack, Connect, Packet, PacketId, Properties, Property, Publish, QoS, Subscribe,
    SubscribeOptions, Subscriptions, TopicFilters, Unsubscribe, Version, decode, encode, frame,
};

const ROUNDS: usize = 20_000;
const NOW: Now = Now { mono: Mono(77_000_000), wall: Wall(1_700_000_000_000_000) };

/// What one shard sends another.
enum Parcel {
    Mail(Mail),
    Connection(Moved),
}

/// What both threads know.
#[derive(Default)]
struct Between {
    inboxes: [Mutex<VecDeque<Parcel>>; 2],
    /// Parcels that have not arrived, or whose consequences have not been posted.
    under_way: AtomicUsize,
    /// How often a thread has come to a place where it waits for the other one.
    arrivals: AtomicUsize,
    has_failed: AtomicBool,
}

impl Between {
    /// Waits until the other thread is there, too, as briefly as can be.
    fn meet(&self) {
        let place = self.arrivals.fetch_add(1, Ordering::SeqCst);
        let both = (place / 2 + 1) * 2;
        for turn in 0.. {
            if self.arrivals.load(Ordering::SeqCst) >= both {
                return;
            }
            if turn > 1_000 {
                self.wait();
            }
        }
    }

    /// Lets the other side go on, if there is still one.
    fn wait(&self) {
        assert!(!self.has_failed.load(Ordering::SeqCst), "the other side has failed");
        std::thread::yield_now();
    }
}

/// A shard on its own thread.
struct Side<'a> {
    number: usize,
    shard: Shard,
    between: &'a Between,
    /// Connections that came from the other side.
    arrived: Vec<ConnectionId>,
    random: u64,
}

impl Side<'_> {
    /// A short while, another one each time, so that the two sides meet everywhere.
    fn dawdle(&mut self) {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        for _ in 0..self.random >> 58 {
            std::hint::spin_loop();
        }
    }

    fn connect(&mut self, client_id: &str, maximum: u16) -> ConnectionId {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 4_000));
        let id =
            self.shard.accept(Peer { address, transport: "race" }, NOW).expect("there is room");
        let mut block = Vec::new();
        Property::ReceiveMaximum(maximum).append(&mut block);
        let connect = Connect {
            version: Version::V5,
            clean_start: false,
            keep_alive: 0,
            client_id,
            will: None,
            username: None,
            password: None,
            properties: Properties::from_raw(&block),
        };
        self.say(id, &Packet::Connect(connect));
        id
    }

    fn say(&mut self, id: ConnectionId, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(Version::V5, packet, &mut bytes);
        self.shard.receive(id, &bytes, NOW);
        self.post(id);
    }

    fn publish(&mut self, id: ConnectionId, topic: &str, retain: bool) {
        self.say(
            id,
            &Packet::Publish(Publish {
                dup: false,
                qos: QoS::AtLeastOnce,
                retain,
                topic: topic.as_bytes(),
                packet_id: PacketId::new(1),
                properties: Properties::none(),
                payload: b"x",
            }),
        );
    }

    fn subscribe(&mut self, id: ConnectionId, filter: &str, qos: QoS) {
        let mut filters = Vec::new();
        Subscriptions::append(filter, SubscribeOptions::new(qos), &mut filters);
        self.say(
            id,
            &Packet::Subscribe(Subscribe {
                packet_id: PacketId::MIN,
                properties: Properties::none(),
                filters: Subscriptions::decode(Version::V5, &filters).expect("it is legal"),
            }),
        );
    }

    fn unsubscribe(&mut self, id: ConnectionId, filter: &str) {
        let mut filters = Vec::new();
        TopicFilters::append(filter, &mut filters);
        let unsubscribe = Unsubscribe {
            packet_id: PacketId::MIN,
            properties: Properties::none(),
            filters: TopicFilters::decode(&filters).expect("it is legal"),
        };
        self.say(id, &Packet::Unsubscribe(unsubscribe));
    }

    fn post(&mut self, id: ConnectionId) {
        let other = &self.between.inboxes[1 - self.number];
        let mut parcels: Vec<_> =
            self.shard.take_mail().map(|(_, mail)| Parcel::Mail(mail)).collect();
        if self.shard.moving(id).is_some() {
            let moved = self.shard.take_moved(id).expect("it is on its way");
            parcels.push(Parcel::Connection(moved));
        }
        self.between.under_way.fetch_add(parcels.len(), Ordering::SeqCst);
        other.lock().expect("nobody has panicked").extend(parcels);
    }

    /// Takes what comes until nothing is under way on either side.
    fn rest(&mut self, id: ConnectionId) {
        self.between.meet();
        while self.between.under_way.load(Ordering::SeqCst) > 0 {
            let mut inbox = self.between.inboxes[self.number].lock().expect("nobody has panicked");
            let parcel = inbox.pop_front();
            drop(inbox);
            let of = match parcel {
                None => {
                    self.between.wait();
                    continue;
                }
                Some(Parcel::Mail(mail)) => {
                    self.shard.mail(mail, NOW);
                    id
                }
                Some(Parcel::Connection(moved)) => {
                    let id = self.shard.accept_moved(moved, NOW);
                    self.arrived.push(id);
                    id
                }
            };
            self.post(of);
            self.between.under_way.fetch_sub(1, Ordering::SeqCst);
        }
        while self.shard.advance(NOW).is_some_and(|due| due <= NOW.mono) {}
        self.between.meet();
    }

    /// The messages that a client was told since the last call, by packet identifier, and topic.
    fn heard(&mut self, id: ConnectionId) -> Vec<(u16, String)> {
        let mut bytes = Vec::new();
        if let Some(output) = self.shard.output(id) {
            while !output.is_empty() {
                let taken = output.front().len();
                bytes.extend_from_slice(output.front());
                output.consume(taken);
            }
        }
        self.shard.wrote(id, bytes.len(), NOW);
        let (mut rest, mut heard) = (&bytes[..], Vec::new());
        while let Some(found) = frame(rest, usize::MAX).expect("the broker writes legal packets") {
            let (packet, behind) = rest.split_at(found.total());
            rest = behind;
            let packet = decode(Version::V5, found.first, &packet[found.header..]);
            if let Packet::Publish(publish) = packet.expect("the broker writes legal packets") {
                let topic = String::from_utf8_lossy(publish.topic).into_owned();
                heard.push((publish.packet_id.map_or(0, Into::into), topic));
            }
        }
        heard
    }
}

/// Runs both sides.
fn race(one: impl FnOnce(&mut Side<'_>) + Send, two: impl FnOnce(&mut Side<'_>) + Send) {
    let between = Between::default();
    let mut configs = Config::of(2, Limits::default(), Arc::new(Anonymous::new()), 7);
    let (second, first) = (configs.pop(), configs.pop());
    std::thread::scope(|scope| {
        scope.spawn(|| run(0, first, &between, one));
        scope.spawn(|| run(1, second, &between, two));
    });
}

fn run(number: usize, config: Option<Config>, between: &Between, side: impl FnOnce(&mut Side<'_>)) {
    let shard = Shard::new(config.expect("there are two"));
    let random = number as u64;
    let mut there = Side { number, shard, between, arrived: Vec::new(), random };
    let outcome = catch_unwind(AssertUnwindSafe(|| side(&mut there)));
    if let Err(panic) = outcome {
        between.has_failed.store(true, Ordering::SeqCst);
        resume_unwind(panic);
    }
}

/// Whoever subscribes while a message is retained gets it, from its publisher or as retained; and
/// what comes later it gets as well.
#[test]
fn who_subscribes_while_a_message_is_retained_gets_it() {
    race(
        |side| {
            let publisher = side.connect("p", 1);
            side.rest(publisher);
            for round in 0..ROUNDS {
                let topic = format!("t/{round}");
                side.dawdle();
                side.publish(publisher, &topic, true);
                side.rest(publisher);
                side.publish(publisher, &topic, false);
                side.rest(publisher);
                side.heard(publisher);
            }
        },
        |side| {
            let subscriber = side.connect("s", 1);
            side.rest(subscriber);
            for round in 0..ROUNDS {
                let topic = format!("t/{round}");
                side.dawdle();
                side.subscribe(subscriber, &topic, QoS::AtMostOnce);
                side.rest(subscriber);
                let heard = side.heard(subscriber);
                assert!(!heard.is_empty(), "round {round}: neither live nor retained");
                side.rest(subscriber);
                assert_eq!(side.heard(subscriber).len(), 1, "round {round}: later");
                side.unsubscribe(subscriber, &topic);
            }
        },
    );
}

/// A group keeps no message that a member would have had room for by then.
#[test]
fn a_member_that_makes_room_while_a_message_comes_gets_it() {
    race(
        |side| {
            let publisher = side.connect("p", 1);
            side.rest(publisher);
            for _ in 0..=ROUNDS {
                side.dawdle();
                side.publish(publisher, "t", false);
                side.rest(publisher);
                side.heard(publisher);
            }
        },
        |side| {
            let member = side.connect("m", 1);
            side.subscribe(member, "$share/g/t", QoS::AtLeastOnce);
            side.rest(member);
            let mut in_flight = None;
            for round in 0..=ROUNDS {
                side.dawdle();
                if let Some(id) = in_flight {
                    side.say(member, &Packet::Puback(Ack::success(id)));
                }
                side.rest(member);
                let heard = side.heard(member);
                assert_eq!(heard.len(), 1, "round {round}: the member has room");
                in_flight = PacketId::new(heard[0].0);
            }
        },
    );
}

/// Two that come at once under one name: one session, and one of them has it.
#[test]
fn two_that_come_at_once_under_one_name_share_a_session() {
    let online = AtomicUsize::new(0);
    let run = |side: &mut Side<'_>| {
        for round in 0..ROUNDS {
            side.arrived.clear();
            side.dawdle();
            let id = side.connect(&format!("c/{round}"), 1);
            side.rest(id);
            let mut own = std::mem::take(&mut side.arrived);
            own.push(id);
            own.retain(|id| !side.shard.is_closing(*id));
            online.fetch_add(own.len(), Ordering::SeqCst);
            side.between.meet();
            assert_eq!(online.load(Ordering::SeqCst), 1, "round {round}");
            side.between.meet();
            online.store(0, Ordering::SeqCst);
            own.into_iter().for_each(|id| side.shard.closed(id, NOW));
            side.rest(id);
        }
    };
    race(run, run);
}
