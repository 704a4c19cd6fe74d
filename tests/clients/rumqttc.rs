//! rumqttc (crates.io), in 3.1.1 and 5, over TCP.

use std::net::SocketAddr;

use super::broker::Broker;

const QOS: [u8; 3] = [0, 1, 2];

/// A message as it arrived.
#[derive(Debug, PartialEq, Eq)]
struct Arrived {
    topic: String,
    payload: String,
    qos: u8,
    retain: bool,
}

impl Arrived {
    fn new(topic: &str, payload: &str, qos: u8) -> Self {
        Self { topic: topic.to_owned(), payload: payload.to_owned(), qos, retain: false }
    }
}

/// How a client connects.
#[derive(Clone, Default)]
struct Options {
    /// A session that outlives the connection.
    persistent: bool,
    /// Topic, payload and QoS of a will.
    will: Option<(&'static str, &'static str, u8)>,
}

/// What the tests need of a client, the same for both versions, which rumqttc has as two modules.
trait Client: Sized {
    /// Connects; gives session present, too.
    fn connect(address: SocketAddr, name: &str, options: &Options) -> (Self, bool);
    fn subscribe(&mut self, filter: &str, qos: u8);
    /// Publishes, and waits for the end of the handshake of the quality of service.
    fn publish(&mut self, topic: &str, payload: &str, qos: u8, retain: bool);
    fn next(&mut self) -> Arrived;
    /// Says DISCONNECT; a client that is dropped says nothing.
    fn disconnect(self);

    fn open(address: SocketAddr, name: &str) -> Self {
        Self::connect(address, name, &Options::default()).0
    }

    /// Nothing waits: what comes next is what is sent now.
    fn nothing_more(&mut self) {
        self.subscribe("nothing/more", 1);
        self.publish("nothing/more", "now", 1, false);
        assert_eq!(self.next(), Arrived::new("nothing/more", "now", 1));
    }
}

/// Implements [`Client`] with one of the modules of rumqttc, which have the same names.
macro_rules! client {
    ($module:ident: $($path:ident)::+, $packets:ident, $persist:expr, $will:expr) => {
        mod $module {
            use std::net::SocketAddr;

            use ::$($path)::+::mqttbytes::{QoS, $packets::LastWill, $packets::Packet};
            use ::$($path)::+::{Connection, Event, MqttOptions};
            use rumqttc::Outgoing;

            use super::super::process::PATIENCE;
            use super::{Arrived, Options};

            pub(super) struct Client {
                requests: ::$($path)::+::Client,
                connection: Connection,
                arrived: std::collections::VecDeque<Arrived>,
            }

            fn qos(qos: u8) -> QoS {
                [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)]
            }

            impl Client {
                /// Lets rumqttc work until `last` comes in; messages on the way are kept.
                fn until<T>(&mut self, last: impl Fn(&Event) -> Option<T>) -> T {
                    loop {
                        let event = self.connection.recv_timeout(PATIENCE);
                        let event = event.expect("in time").expect("the connection holds");
                        if let Event::Incoming(Packet::Publish(publish)) = &event {
                            // The topic is text in one version and bytes in the other.
                            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
                            self.arrived.push_back(Arrived {
                                topic: text(publish.topic.as_ref()),
                                payload: text(publish.payload.as_ref()),
                                qos: publish.qos as u8,
                                retain: publish.retain,
                            });
                        }
                        if let Some(found) = last(&event) {
                            return found;
                        }
                    }
                }
            }

            impl super::Client for Client {
                fn connect(address: SocketAddr, name: &str, options: &Options) -> (Self, bool) {
                    let mut made = MqttOptions::new(name, address.ip().to_string(), address.port());
                    $persist(&mut made, options.persistent);
                    if let Some((topic, payload, its_qos)) = options.will {
                        let will: LastWill = $will(topic, payload, qos(its_qos));
                        made.set_last_will(will);
                    }
                    let (requests, connection) = ::$($path)::+::Client::new(made, 16);
                    let mut client = Self { requests, connection, arrived: Default::default() };
                    let present = client.until(|event| match event {
                        Event::Incoming(Packet::ConnAck(connack)) => Some(connack.session_present),
                        _ => None,
                    });
                    (client, present)
                }

                fn subscribe(&mut self, filter: &str, its_qos: u8) {
                    self.requests.subscribe(filter, qos(its_qos)).expect("there is room");
                    self.until(|event| {
                        matches!(event, Event::Incoming(Packet::SubAck(_))).then_some(())
                    });
                }

                fn publish(&mut self, topic: &str, payload: &str, its_qos: u8, retain: bool) {
                    let payload = payload.to_owned();
                    let sent = self.requests.publish(topic, qos(its_qos), retain, payload);
                    sent.expect("there is room");
                    self.until(|event| {
                        let is_last = match (its_qos, event) {
                            (0, Event::Outgoing(Outgoing::Publish(0))) => true,
                            (1, Event::Incoming(Packet::PubAck(_))) => true,
                            (_, Event::Incoming(Packet::PubComp(_))) => true,
                            _ => false,
                        };
                        is_last.then_some(())
                    });
                }

                fn next(&mut self) -> Arrived {
                    let is_there = |event: &Event| {
                        matches!(event, Event::Incoming(Packet::Publish(_))).then_some(())
                    };
                    if self.arrived.is_empty() {
                        self.until(is_there);
                    }
                    self.arrived.pop_front().expect("one was waited for")
                }

                fn disconnect(mut self) {
                    self.requests.disconnect().expect("there is room");
                    while self.connection.recv_timeout(PATIENCE).is_ok_and(|event| event.is_ok()) {}
                }
            }
        }
    };
}

client!(
    v3_1_1: rumqttc,
    v4,
    |made: &mut MqttOptions, persistent: bool| {
        made.set_clean_session(!persistent);
    },
    |topic, payload, qos| LastWill::new(topic, payload, qos, false)
);
client!(
    v5: rumqttc::v5,
    v5,
    |made: &mut MqttOptions, persistent: bool| {
        made.set_clean_start(!persistent);
        made.set_session_expiry_interval(persistent.then_some(3_600));
    },
    |topic, payload, qos| LastWill::new(topic, payload, qos, false, None)
);

/// Runs `scenario` with both versions, each against a broker of its own.
macro_rules! both {
    ($scenario:ident) => {
        let broker = Broker::start(&["mqtt"], &[]);
        $scenario::<v3_1_1::Client>(broker.address("mqtt"));
        let broker = Broker::start(&["mqtt"], &[]);
        $scenario::<v5::Client>(broker.address("mqtt"));
    };
}

fn deliver<C: Client>(address: SocketAddr) {
    let mut publisher = C::open(address, "publisher");
    for granted in QOS {
        let mut subscriber = C::open(address, &format!("subscriber-{granted}"));
        subscriber.subscribe("delivery/#", granted);
        for qos in QOS {
            for number in 0..50 {
                publisher.publish("delivery/topic", &number.to_string(), qos, false);
            }
            for number in 0..50 {
                let want = Arrived::new("delivery/topic", &number.to_string(), qos.min(granted));
                assert_eq!(subscriber.next(), want);
            }
        }
        subscriber.nothing_more();
        subscriber.disconnect();
    }
    publisher.disconnect();
}

#[test]
fn rumqttc_delivers_in_order_at_every_qos() {
    both!(deliver);
}

fn retain<C: Client>(address: SocketAddr) {
    let mut publisher = C::open(address, "publisher");
    for qos in QOS {
        let topic = format!("retained/{qos}");
        publisher.publish(&topic, "old", qos, true);
        publisher.publish(&topic, "new", qos, true);
        // Nothing says that a message at QoS 0 was taken, but the answer to the next one.
        publisher.publish("behind/it", "", 1, false);
        let mut subscriber = C::open(address, "subscriber");
        subscriber.subscribe("retained/+", 2);
        let greeting = Arrived { retain: true, ..Arrived::new(&topic, "new", qos) };
        assert_eq!(subscriber.next(), greeting);
        publisher.publish(&topic, "", 1, true);
        assert_eq!(subscriber.next(), Arrived::new(&topic, "", 1));
        subscriber.disconnect();
    }
    publisher.subscribe("retained/#", 2);
    publisher.nothing_more();
}

#[test]
fn rumqttc_is_greeted_by_the_last_retained_message_until_it_is_cleared() {
    both!(retain);
}

fn die<C: Client>(address: SocketAddr) {
    let mut watcher = C::open(address, "watcher");
    watcher.subscribe("will", 2);
    for qos in QOS {
        let options = Options { will: Some(("will", "gone", qos)), ..Options::default() };
        drop(C::connect(address, "mortal", &options));
        assert_eq!(watcher.next(), Arrived::new("will", "gone", qos));
        C::connect(address, "polite", &options).0.disconnect();
    }
    watcher.nothing_more();
}

#[test]
fn a_will_of_rumqttc_is_sent_when_it_vanishes_and_not_when_it_leaves() {
    both!(die);
}

fn sleep<C: Client>(address: SocketAddr) {
    let options = Options { persistent: true, ..Options::default() };
    let (mut sleeper, present) = C::connect(address, "sleeper", &options);
    assert!(!present);
    sleeper.subscribe("session/+", 2);
    sleeper.disconnect();
    let mut publisher = C::open(address, "publisher");
    for number in 0..100 {
        publisher.publish("session/1", &number.to_string(), 1, false);
    }
    let (mut sleeper, present) = C::connect(address, "sleeper", &options);
    assert!(present);
    for number in 0..100 {
        assert_eq!(sleeper.next(), Arrived::new("session/1", &number.to_string(), 1));
    }
    drop(sleeper);
    publisher.publish("session/2", "while broken", 2, false);
    let (mut sleeper, present) = C::connect(address, "sleeper", &options);
    assert!(present);
    // The acknowledgement of the last message may have been lost with the connection.
    let mut next = sleeper.next();
    while next.topic == "session/1" {
        next = sleeper.next();
    }
    assert_eq!(next, Arrived::new("session/2", "while broken", 2));
    sleeper.nothing_more();
    sleeper.disconnect();
    let (mut fresh, present) = C::connect(address, "sleeper", &Options::default());
    assert!(!present);
    fresh.nothing_more();
}

#[test]
fn a_persistent_session_of_rumqttc_gets_what_it_missed_in_order() {
    both!(sleep);
}
