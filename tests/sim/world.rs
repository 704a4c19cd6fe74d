//! The world of one run: the broker, its clients, the network between them, and both clocks.
//!
//! Every call of the broker is told to the oracle first, and what the broker says is told to it
//! before the next call. As the driver does, the world writes what has news and lets the broker
//! look at its deadlines at the end of every turn.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use longshore_acl::Anonymous;
use longshore_broker::clock::{Mono, Now, Wall};
use longshore_broker::shard::Config;
use longshore_broker::stats::Stats;
use longshore_broker::{ConnectionId, Output, Peer};

use super::choices::Choices;
use super::client::Client;
use super::network::{Line, LineId, Motion};
use super::oracle::{Facts, LineFacts, Oracle};
use super::setup::Setup;
use super::shards::Shards;
use super::trace::Trace;

/// Where the clocks start; a broker may believe neither that they begin at 0 nor that they agree.
const START: Now = Now { mono: Mono(77_000_000), wall: Wall(1_700_000_000_000_000) };
/// Calls of `advance` after which the broker should be done with what is due now.
const ROUNDS_MAX: usize = 10_000;

/// Everything there is.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) choices: Choices,
    pub(crate) setup: Setup,
    pub(crate) trace: Trace,
    pub(crate) oracle: Oracle,
    pub(crate) clients: Vec<Client>,
    pub(crate) lines: BTreeMap<LineId, Line>,
    pub(crate) now: Now,
    /// Numbers the messages of the run.
    pub(crate) serial: u64,
    shard: Shards,
    /// Bytes that the broker was given.
    received: u64,
    by_broker: BTreeMap<ConnectionId, LineId>,
    next_line: LineId,
    /// Lines with news to be written.
    unwritten: Vec<LineId>,
    /// When the broker wants to look at its deadlines next.
    deadline: Option<Mono>,
}

impl World {
    pub(crate) fn new(mut choices: Choices, trace: Trace) -> Self {
        let setup = Setup::new(&mut choices);
        trace.note(format_args!("{setup:?}"));
        let configs = Config::of(setup.shards, setup.limits.clone(), Arc::new(Anonymous::new()), 7);
        Self {
            choices,
            oracle: Oracle::new(setup.limits.clone(), trace.clone(), START),
            clients: (0..setup.clients).map(|_| Client::new()).collect(),
            setup,
            trace,
            lines: BTreeMap::new(),
            now: START,
            serial: 0,
            shard: Shards::new(configs),
            received: 0,
            by_broker: BTreeMap::new(),
            next_line: 0,
            unwritten: Vec::new(),
            deadline: None,
        }
    }

    pub(crate) fn stats(&self) -> Stats {
        self.shard.totals().sum()
    }

    /// No two calls are made at the same instant. A deadline that this reaches is looked at first:
    /// timers are as good as the driver's clock.
    fn begin(&mut self) {
        self.now.mono.0 += 1;
        self.now.wall.0 += 1;
        if self.deadline.is_some_and(|at| at <= self.now.mono) {
            self.turn();
        }
        self.oracle.begin(self.now);
    }

    /// A client opens a connection; none when the broker has no place for it.
    pub(crate) fn open(&mut self, client: usize) -> Option<LineId> {
        self.begin();
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let peer = Peer { address: SocketAddr::new(address, 4000), transport: "sim" };
        let taken = self.shard.accept(peer, self.now);
        let full = self.lines.values().filter(|line| line.broker.is_some()).count()
            >= self.setup.limits.connections;
        assert_eq!(taken.is_err(), full, "limits.connections");
        let broker = taken.ok()?;
        let line = self.next_line;
        self.next_line += 1;
        self.lines.insert(line, Line::new(broker, client));
        self.by_broker.insert(broker, line);
        self.oracle.accepted(line);
        self.observe();
        self.turn();
        Some(line)
    }

    /// The broker reads.
    pub(crate) fn receive(&mut self, line: LineId, bytes: &[u8]) {
        self.begin();
        let Some(broker) = self.line(line).broker else { return };
        if self.shard.is_closing(broker) {
            return;
        }
        self.trace.note(format_args!("line {line}: {} bytes reach the broker", bytes.len()));
        self.oracle.receive(line, bytes);
        let broker_now = self.shard.receive(broker, bytes, self.now);
        self.received += bytes.len() as u64;
        assert_eq!(self.stats().received_bytes_total.get(), self.received, "each byte counts once");
        if broker_now != broker {
            self.by_broker.remove(&broker);
            self.by_broker.insert(broker_now, line);
            self.line(line).broker = Some(broker_now);
        }
        self.observe();
        self.turn();
    }

    /// The broker's end of a line is gone.
    pub(crate) fn closed(&mut self, line: LineId) {
        self.begin();
        self.let_go(line);
        self.turn();
    }

    fn let_go(&mut self, line: LineId) {
        let Some(broker) = self.line(line).broker.take() else { return };
        self.trace.note(format_args!("line {line}: the broker lets it go"));
        self.oracle.closed(line);
        self.shard.closed(broker, self.now);
        self.by_broker.remove(&broker);
        self.unwritten.retain(|known| *known != line);
        self.observe();
    }

    pub(crate) fn line(&mut self, line: LineId) -> &mut Line {
        self.lines.get_mut(&line).expect("the line is there until both ends have let it go")
    }

    /// Whether the broker reads from the line.
    pub(crate) fn is_read(&self, line: &Line) -> bool {
        line.broker.is_some_and(|id| self.shard.wants_read(id) && !self.shard.is_closing(id))
    }

    /// Tells the oracle what the broker has added to its outputs.
    fn observe(&mut self) {
        let mut dirty = Vec::new();
        self.shard.take_dirty(&mut dirty);
        for broker in dirty {
            let line = *self.by_broker.get(&broker).expect("only open connections have news");
            let output = self.shard.output(broker).expect("only open connections have news");
            let line_state = self.lines.get_mut(&line).expect("the line is open");
            if output.len() < line_state.seen {
                assert!(output.is_empty(), "output is dropped whole or not at all");
                assert!(self.oracle.may_drop_output(line, self.now), "output is dropped");
                line_state.seen = 0;
            }
            let news = waiting(output, line_state.seen);
            line_state.seen = output.len();
            if !news.is_empty() {
                self.oracle.hear(line, &news);
            }
            if !self.unwritten.contains(&line) {
                self.unwritten.push(line);
            }
        }
        let facts = self.facts();
        self.oracle.settle(&facts);
    }

    fn facts(&mut self) -> Facts {
        let stats = self.stats();
        let mut facts = Facts {
            lines: BTreeMap::new(),
            connections: stats.connections.get(),
            sessions: stats.sessions.get(),
            subscriptions: stats.subscriptions.get(),
            retained: stats.retained.get(),
            retained_bytes: stats.retained_bytes.get(),
        };
        for (id, line) in &self.lines {
            let Some(broker) = line.broker else { continue };
            let of_line = LineFacts {
                is_closing: self.shard.is_closing(broker),
                is_read: self.shard.wants_read(broker),
                output_len: self.shard.output(broker).map_or(0, |output| output.len()),
            };
            facts.lines.insert(*id, of_line);
        }
        facts
    }

    /// The end of a turn: outputs are written, deadlines looked at, until there is nothing to do.
    pub(crate) fn turn(&mut self) {
        for _ in 0..ROUNDS_MAX {
            while let Some(line) = self.unwritten.pop() {
                let blocked = self.line(line).blocked;
                self.write(line, !blocked);
            }
            self.oracle.begin(self.now);
            self.oracle.advance();
            let next = self.shard.advance(self.now);
            self.observe();
            self.deadline = next;
            if self.unwritten.is_empty() && next.is_none_or(|at| at > self.now.mono) {
                let due = self.oracle.next_due();
                let in_time = due.is_none_or(|due| next.is_some_and(|next| next <= due));
                assert!(in_time, "the broker sleeps until {next:?}, but {due:?} is due");
                self.oracle.check_turn();
                return;
            }
        }
        panic!("the broker is never done with what is due now");
    }

    /// Writes what waits for a line, as far as it takes it; closes it when it is to close.
    pub(crate) fn write(&mut self, line: LineId, tries: bool) {
        let Some(broker) = self.line(line).broker else { return };
        // Two that are blocked at once would end at once, and which comes first, nobody says.
        self.now.mono.0 += 1;
        if tries {
            self.oracle.begin(self.now);
            let short = self.choices.percent(5).then(|| self.choices.place(40));
            let now = self.now;
            let state = self.lines.get_mut(&line).expect("the line is open");
            let Some(output) = self.shard.output(broker) else { return };
            let mut count = 0;
            let mut room = state.free().min(short.unwrap_or(usize::MAX));
            while room > 0 && !output.is_empty() {
                let front = output.front();
                let part = &front[..front.len().min(room)];
                if state.client.is_some() {
                    state.down.push(part, Mono(now.mono.0 + state.latency));
                }
                let taken = part.len();
                output.consume(taken);
                (count, room) = (count + taken, room - taken);
            }
            let left = output.len();
            state.seen -= count;
            state.blocked = left > 0;
            self.oracle.wrote(line, count, left);
            self.shard.wrote(broker, count, now);
            self.observe();
        }
        let empty = self.shard.output(broker).is_none_or(|output| output.is_empty());
        if empty && self.shard.is_closing(broker) {
            self.oracle.begin(self.now);
            self.let_go(line);
        }
    }

    /// Time passes on both clocks, and the broker does on the way what falls due.
    pub(crate) fn pass(&mut self, micros: u64) {
        self.trace.note(format_args!("{micros} us pass"));
        let end = self.now.mono.0 + micros;
        loop {
            let due = self.deadline.map_or(end, |at| at.0.min(end)).max(self.now.mono.0);
            self.now.wall.0 += due - self.now.mono.0;
            self.now.mono.0 = due;
            self.turn();
            if due >= end {
                return;
            }
        }
    }

    /// The machine slept: the broker looks at its deadlines late. Only one connection may end by
    /// that at once, and with several shards one session: which comes first, nobody says.
    pub(crate) fn oversleep(&mut self, micros: u64) {
        let end = Mono(self.now.mono.0 + micros);
        let mut due = self.oracle.connections_due(end);
        if self.setup.shards > 1 {
            due += self.oracle.sessions_due(end);
        }
        if due > 1 {
            return;
        }
        self.trace.note(format_args!("{micros} us pass in one jump"));
        self.now.mono.0 += micros;
        self.turn();
    }

    /// The wall clock is set.
    pub(crate) fn set_wall(&mut self, secs: i64) {
        self.trace.note(format_args!("the wall clock jumps by {secs} s"));
        self.now.wall.0 = self.now.wall.0.saturating_add_signed(secs * 1_000_000);
        self.turn();
    }

    /// What may happen on the network now.
    pub(crate) fn motions(&self) -> Vec<(LineId, Motion)> {
        let of_line = |(id, line): (&LineId, &Line)| {
            let motions: Vec<_> =
                line.motions(self.is_read(line), self.now.mono).map(|m| (*id, m)).collect();
            motions
        };
        self.lines.iter().flat_map(of_line).collect()
    }
}

/// The bytes that wait in an output, but for the first `seen`.
fn waiting(output: &Output, mut seen: usize) -> Vec<u8> {
    let mut count = 64;
    loop {
        let mut slices = vec![IoSlice::new(&[]); count];
        let filled = output.slices(&mut slices);
        let slices = &slices[..filled];
        if slices.iter().map(|slice| slice.len()).sum::<usize>() < output.len() {
            count *= 2;
            continue;
        }
        let mut bytes = Vec::with_capacity(output.len() - seen);
        for slice in slices {
            let skipped = seen.min(slice.len());
            bytes.extend_from_slice(&slice[skipped..]);
            seen -= skipped;
        }
        return bytes;
    }
}
