//! Worlds in which mail and connections take their time from shard to shard.
//!
//! Nobody can say then in which order messages of several publishers arrive, so the oracle is
//! another one: [`ledger`] holds what is promised whatever the order. The network is nothing but
//! portions of bytes here; [`super::world`] has a real one.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use longshore_acl::Anonymous;
use longshore_broker::clock::{Mono, Now, Wall};
use longshore_broker::shard::Config;
use longshore_broker::{ConnectionId, Limits, Peer};
use longshore_codec::QoS;

use super::choices::Choices;
use super::shards::{Shards, Way};
use super::trace::Trace;
use ledger::Ledger;
use speaker::{Said, Speaker};

mod groups;
mod hearing;
mod ledger;
mod speaker;

/// Rounds after which everything should have come to rest.
const ROUNDS_MAX: usize = 100_000;
/// How many topics there are for each level of quality, and for groups.
pub(crate) const TOPICS: [&str; 6] = ["a/1", "a/2", "b/1", "g/0", "g/1", "g/2"];
pub(crate) const FILTERS: [&str; 9] = [
    "a/1",
    "a/+",
    "a/#",
    "b/1",
    "b/#",
    "$share/s/g/0",
    "$share/s/g/1",
    "$share/s/g/2",
    "$share/t/g/2",
];

/// One connection.
#[derive(Debug)]
struct Line {
    id: ConnectionId,
    client: usize,
    /// The broker has not closed it.
    is_open: bool,
    /// Bytes to the broker, and where each packet of them ends.
    up: Vec<u8>,
    said: Vec<(usize, Said)>,
    /// Bytes that the broker has been given.
    given: usize,
    /// Bytes from the broker that the client has not read.
    down: Vec<u8>,
    /// The broker cannot write.
    is_blocked: bool,
}

/// Everything there is.
#[derive(Debug)]
pub(crate) struct Delayed {
    choices: Choices,
    trace: Trace,
    shards: Shards,
    now: Now,
    lines: BTreeMap<usize, Line>,
    by_broker: BTreeMap<ConnectionId, usize>,
    next_line: usize,
    clients: Vec<Speaker>,
    ledger: Ledger,
}

impl Delayed {
    pub(crate) fn new(mut choices: Choices, trace: Trace) -> Self {
        let shards = 2 + choices.place(2);
        let mut limits = Limits::default();
        limits.inflight = *choices.pick(&[1_024, 1, 2, 1_024]);
        limits.output_bytes = *choices.pick(&[4 << 20, 300, 60, 4 << 20]);
        limits.route_cache_bytes = *choices.pick(&[64 << 20, 0]);
        let bound = *choices.pick(&[3, 0, 10, 1_000]);
        let clients = 2 + choices.place(6);
        trace.note(format_args!("{shards} shards, {clients} clients, full at {bound}: {limits:?}"));
        let is_wide = limits.inflight == 1_024 && limits.output_bytes == 4 << 20;
        let mut shards = Shards::new(Config::of(shards, limits, Arc::new(Anonymous::new()), 7));
        shards.delay(bound);
        Self {
            choices,
            shards,
            now: Now { mono: Mono(77_000_000), wall: Wall(1_700_000_000_000_000) },
            lines: BTreeMap::new(),
            by_broker: BTreeMap::new(),
            next_line: 0,
            clients: (0..clients).map(|number| Speaker::new(number, is_wide)).collect(),
            ledger: Ledger::new(clients, trace.clone()),
            trace,
        }
    }

    /// The whole run.
    pub(crate) fn run(&mut self) {
        for _ in 0..800 + self.choices.place(1_200) {
            self.step();
        }
        self.trace.note(format_args!("quiet"));
        self.rest();
        for client in 0..self.clients.len() {
            if self.clients[client].line.is_none() && self.ledger.has_session(client) {
                self.connect(client, false);
                self.rest();
            }
        }
        self.check_rest();
        self.ledger.check_end();
        for client in 0..self.clients.len() {
            if self.clients[client].is_connected {
                let said = self.clients[client].disconnect(true);
                self.say(client, said);
            }
        }
        self.rest();
        let stats = self.shards.totals().sum();
        assert_eq!(stats.connections.get(), 0, "connections in the end");
        assert_eq!(stats.sessions.get(), 0, "sessions in the end");
        assert_eq!(stats.subscriptions.get(), 0, "subscriptions in the end");
        assert_eq!(stats.queued_bytes.get(), 0, "queued bytes in the end");
    }

    fn step(&mut self) {
        self.now.mono.0 += 1;
        self.now.wall.0 += 1;
        match self.choices.weighted(&[30, 25, 35, 12, 10, 2]) {
            0 => self.read_some(),
            1 => {
                let ways = self.shards.ways();
                if !ways.is_empty() {
                    let way = *self.choices.pick(&ways);
                    self.carry(way);
                }
            }
            2 => self.act(),
            3 => self.hear_some(),
            4 => self.advance(),
            _ => {
                let micros = self.choices.below(50_000);
                self.now.mono.0 += micros;
                self.now.wall.0 += micros;
            }
        }
    }

    /// One client does something.
    fn act(&mut self) {
        let client = self.choices.place(self.clients.len());
        let Some(line) = self.clients[client].line else {
            let clean = self.choices.percent(20);
            return self.connect(client, clean);
        };
        if !self.clients[client].is_connected {
            return;
        }
        let said = match self.choices.weighted(&[50, 8, 6, 30, 4, 2, 1, 2]) {
            0 => self.publish(client),
            1 => self.clients[client].subscribe(&mut self.choices),
            2 => self.clients[client].unsubscribe(&mut self.choices),
            3 => match self.clients[client].held.pop_front() {
                Some(said) => said,
                None => return,
            },
            4 => {
                let blocked = self.choices.percent(50);
                self.lines.get_mut(&line).expect("it has a line").is_blocked = blocked;
                self.mark_written(line);
                return;
            }
            5 => return self.reset(line),
            6 => {
                let for_good = self.choices.percent(30);
                self.clients[client].disconnect(for_good)
            }
            _ => {
                // Somebody with the same name comes while this one is there.
                let clean = self.choices.percent(20);
                return self.connect(client, clean);
            }
        };
        self.say(client, said);
    }

    fn publish(&mut self, client: usize) -> Said {
        let topic = *self.choices.pick(&TOPICS);
        let qos = *self.choices.pick(&[QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce]);
        let retain = !topic.starts_with('g') && self.choices.percent(20);
        let clears = retain && self.choices.percent(20);
        let serial = self.ledger.next_serial();
        self.clients[client].publish(serial, topic, qos, retain, clears)
    }

    fn connect(&mut self, client: usize, clean: bool) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 4_000));
        let peer = Peer { address, transport: "sim" };
        let id = self.shards.accept(peer, self.now).expect("there is room");
        let number = self.next_line;
        self.next_line += 1;
        let line = Line {
            id,
            client,
            is_open: true,
            up: Vec::new(),
            said: Vec::new(),
            given: 0,
            down: Vec::new(),
            is_blocked: false,
        };
        self.lines.insert(number, line);
        self.by_broker.insert(id, number);
        let lasting = !self.choices.percent(15);
        let maximum = *self.choices.pick(&[u16::MAX, u16::MAX, 1, 3]);
        let said = self.clients[client].begin(number, clean, lasting, maximum);
        self.trace.note(format_args!("client {client} on line {number}, clean {clean}"));
        self.say(client, said);
        if self.choices.percent(40) {
            // Not waiting for CONNACK: it may travel with CONNECT.
            let said = self.clients[client].subscribe(&mut self.choices);
            self.say(client, said);
            let said = self.publish(client);
            self.say(client, said);
        }
    }

    /// The client's packet is on its way.
    fn say(&mut self, client: usize, said: Said) {
        let Some(line) = self.clients[client].line else { return };
        let Some(line) = self.lines.get_mut(&line) else { return };
        line.up.extend_from_slice(&said.bytes);
        let end = line.given + line.up.len();
        line.said.push((end, said));
    }

    /// The broker reads from some line, in a portion of any size.
    fn read_some(&mut self) {
        let ready: Vec<usize> = self.readable();
        if !ready.is_empty() {
            let line = *self.choices.pick(&ready);
            let len = self.lines[&line].up.len();
            let portion = match self.choices.percent(70) {
                true => len,
                false => 1 + self.choices.place(len),
            };
            self.read(line, portion);
        }
    }

    fn readable(&self) -> Vec<usize> {
        let ready = |line: &Line| {
            let is_there = line.is_open && !self.shards.is_moving(line.id);
            is_there && !line.up.is_empty() && self.shards.wants_read(line.id)
        };
        self.lines.iter().filter(|(_, line)| ready(line)).map(|(number, _)| *number).collect()
    }

    fn read(&mut self, number: usize, portion: usize) {
        let line = self.lines.get_mut(&number).expect("it is readable");
        let bytes: Vec<u8> = line.up.drain(..portion).collect();
        line.given += portion;
        let (old, full) = (line.id, self.shards.full());
        let before = self.shards.mail_to(full);
        self.trace.note(format_args!("line {number}: {portion} bytes reach the broker"));
        let id = self.shards.receive(old, &bytes, self.now);
        let pushes = self.shards.mail_to(full) > before;
        self.rename(old, id);
        let plain = self.apply(number);
        let goes_on = !self.shards.is_moving(id) && self.shards.wants_read(id);
        assert!(!(pushes && plain && goes_on), "it publishes to a full shard, and is read");
        self.settle();
    }

    /// Writes down what the broker has read of a line; whether it was nothing but messages for
    /// those who subscribed.
    fn apply(&mut self, number: usize) -> bool {
        let line = self.lines.get_mut(&number).expect("it is there");
        if self.shards.is_moving(line.id) {
            return false;
        }
        let count = line.said.iter().take_while(|(end, _)| *end <= line.given).count();
        let said: Vec<Said> = line.said.drain(..count).map(|(_, said)| said).collect();
        let client = line.client;
        let mut plain = !said.is_empty();
        for said in said {
            plain &= said.is_plain_publish();
            self.ledger.take(number, client, &said);
        }
        plain
    }

    fn rename(&mut self, old: ConnectionId, new: ConnectionId) {
        let number = self.by_broker.remove(&old).expect("it has a line");
        self.by_broker.insert(new, number);
        self.lines.get_mut(&number).expect("it has a line").id = new;
    }

    fn carry(&mut self, way: Way) {
        self.trace.note(format_args!("{way:?} arrives"));
        if let Some((old, new)) = self.shards.carry(way, self.now) {
            self.rename(old, new);
            let number = self.by_broker[&new];
            self.apply(number);
        }
        self.settle();
    }

    fn advance(&mut self) {
        self.shards.advance(self.now);
        self.settle();
    }

    /// Takes what the broker has to say, and closes what it has closed.
    fn settle(&mut self) {
        let mut dirty = Vec::new();
        for _ in 0..ROUNDS_MAX {
            self.shards.take_dirty(&mut dirty);
            if dirty.is_empty() {
                return self.ledger.check_single(&self.lines_online());
            }
            for id in dirty.drain(..) {
                if let Some(line) = self.by_broker.get(&id).copied() {
                    self.write(line);
                }
            }
        }
        panic!("the broker never has nothing to say");
    }

    /// The lines on which a client was let in, and that the broker keeps.
    fn lines_online(&self) -> Vec<usize> {
        let is_kept = |line: &Line| {
            line.is_open && !self.shards.is_moving(line.id) && !self.shards.is_closing(line.id)
        };
        self.lines.iter().filter(|(_, line)| is_kept(line)).map(|(number, _)| *number).collect()
    }

    fn write(&mut self, number: usize) {
        let line = self.lines.get_mut(&number).expect("it has a name at the broker");
        let id = line.id;
        let Some(output) = self.shards.output(id) else { return };
        let mut count = 0;
        while !line.is_blocked && !output.is_empty() {
            let taken = output.front().len();
            line.down.extend_from_slice(output.front());
            output.consume(taken);
            count += taken;
        }
        let is_empty = output.is_empty();
        self.shards.wrote(id, count, self.now);
        if self.shards.is_closing(id) && (is_empty || line.is_blocked) {
            line.is_open = false;
            self.by_broker.remove(&id);
            self.shards.closed(id, self.now);
        }
    }

    fn mark_written(&mut self, number: usize) {
        let line = &self.lines[&number];
        if line.is_open && !self.shards.is_moving(line.id) {
            self.write(number);
            self.settle();
        }
    }

    /// The network breaks: what was on its way is lost.
    fn reset(&mut self, number: usize) {
        let line = self.lines.get_mut(&number).expect("it is there");
        if !line.is_open || self.shards.is_moving(line.id) {
            return;
        }
        self.trace.note(format_args!("line {number} breaks"));
        let (id, client) = (line.id, line.client);
        self.by_broker.remove(&id);
        self.lines.remove(&number);
        self.clients[client].end(number);
        self.ledger.detach(number, client);
        self.shards.closed(id, self.now);
        self.settle();
    }

    /// Some client reads what there is.
    fn hear_some(&mut self) {
        let some: Vec<usize> = self.hearing();
        if !some.is_empty() {
            let line = *self.choices.pick(&some);
            self.hear(line, false);
        }
    }

    fn hearing(&self) -> Vec<usize> {
        let some = |line: &Line| !line.down.is_empty() || !line.is_open;
        self.lines.iter().filter(|(_, line)| some(line)).map(|(number, _)| *number).collect()
    }

    fn hear(&mut self, number: usize, at_once: bool) {
        let line = self.lines.get_mut(&number).expect("it is there");
        let (client, is_open) = (line.client, line.is_open);
        let bytes = std::mem::take(&mut line.down);
        for said in hearing::hear(&mut self.clients[client], &mut self.ledger, number, &bytes) {
            match at_once || self.choices.percent(60) {
                true => self.say(client, said),
                false => self.clients[client].held.push_back(said),
            }
        }
        if !is_open {
            self.trace.note(format_args!("line {number}: the client sees its end"));
            self.lines.remove(&number);
            self.clients[client].end(number);
        }
    }

    /// All arrives, and everybody answers at once, until nothing is left to do.
    fn rest(&mut self) {
        for _ in 0..ROUNDS_MAX {
            self.now.mono.0 += 1;
            let blocked: Vec<usize> = self
                .lines
                .iter()
                .filter(|(_, l)| l.is_blocked)
                .map(|(number, _)| *number)
                .collect();
            for line in blocked {
                self.lines.get_mut(&line).expect("it is there").is_blocked = false;
                self.mark_written(line);
            }
            for client in 0..self.clients.len() {
                while let Some(said) = self.clients[client].held.pop_front() {
                    self.say(client, said);
                }
            }
            self.advance();
            if let Some(line) = self.hearing().first().copied() {
                self.hear(line, true);
            } else if let Some(way) = self.shards.ways().first().copied() {
                self.carry(way);
            } else if let Some(line) = self.readable().first().copied() {
                let len = self.lines[&line].up.len();
                self.read(line, len);
            } else {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    fn check_rest(&self) {
        for (number, line) in &self.lines {
            assert!(line.up.is_empty(), "line {number} is not read for good");
        }
        let stats = self.shards.totals().sum();
        assert_eq!(stats.sessions.get(), self.ledger.sessions() as u64, "sessions");
        assert_eq!(stats.connections.get(), self.lines.len() as u64, "connections");
        assert_eq!(stats.subscriptions.get(), self.ledger.subscriptions() as u64, "subscriptions");
        assert_eq!(stats.retained.get(), self.ledger.retained() as u64, "retained messages");
    }
}
