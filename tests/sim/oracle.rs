//! The oracle: its own, naive book of what the broker owes to whom, held against what it does.
//!
//! It sees what the broker sees: bytes that reach it, connections that end, both clocks. It writes
//! down what follows by the standard, and reads every packet the broker says, when it says it. It
//! matches topics with [`longshore_codec::filter::matches_selectors`], one filter after the other,
//! and knows nothing of the broker's index, windows or timers.
//!
//! Where the standard leaves a choice (which member of a group gets a message, when a message is
//! sent, by which packet identifier), the oracle learns from the packet; where it leaves none, it
//! insists. What it insists on beyond the standard is what the limits promise
//! (`broker/src/limits.rs`), and that nothing waits which could be sent.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use longshore_broker::Limits;
use longshore_broker::clock::Now;

use super::network::LineId;
use super::trace::Trace;
use book::{Connection, Group, Message, Session, SessionNumber, Will};

mod answer;
mod book;
mod connect;
mod explain;
mod heard;
mod publish;
mod receive;
mod settle;
mod shared;
mod subscribe;
mod time;

use shared::SharedHeard;

pub(crate) use settle::{Facts, LineFacts};

/// The book.
#[derive(Debug)]
pub(crate) struct Oracle {
    limits: Limits,
    trace: Trace,
    now: Now,
    /// Counts the calls that the broker gets.
    step: u64,
    connections: BTreeMap<LineId, Connection>,
    sessions: BTreeMap<SessionNumber, Session>,
    roster: BTreeMap<String, SessionNumber>,
    groups: BTreeMap<String, Group>,
    retained: BTreeMap<String, Rc<Message>>,
    /// Sessions and groups that ended in this step.
    gone: Vec<Session>,
    gone_groups: Vec<(String, Group)>,
    /// Packets of this step that groups explain.
    shared: Vec<SharedHeard>,
    /// To be published at the end of this step.
    wills: VecDeque<Will>,
    next_session: SessionNumber,
    next_debt: u64,
}

impl Oracle {
    pub(crate) fn new(limits: Limits, trace: Trace, now: Now) -> Self {
        Self {
            limits,
            trace,
            now,
            step: 0,
            connections: BTreeMap::new(),
            sessions: BTreeMap::new(),
            roster: BTreeMap::new(),
            groups: BTreeMap::new(),
            retained: BTreeMap::new(),
            gone: Vec::new(),
            gone_groups: Vec::new(),
            shared: Vec::new(),
            wills: VecDeque::new(),
            next_session: 0,
            next_debt: 0,
        }
    }

    /// The broker is about to be called at this time.
    pub(crate) fn begin(&mut self, now: Now) {
        self.now = now;
        self.step += 1;
    }

    /// Bytes that the broker has added to a connection's output.
    pub(crate) fn hear(&mut self, line: LineId, bytes: &[u8]) {
        let step = self.step;
        let connection = self.connection(line);
        let ended = connection.closed_in.is_some_and(|closed| closed < step);
        assert!(!ended, "[MQTT-3.14.4-1] after its last packet the broker says {bytes:02x?}");
        heard::hear(connection, bytes);
        for heard in &self.connections[&line].heard {
            self.trace.note(format_args!("    line {line} is told {}", heard.summary()));
        }
    }

    fn connection(&mut self, line: LineId) -> &mut Connection {
        self.connections.get_mut(&line).expect("the broker has not let it go")
    }

    fn session(&mut self, number: SessionNumber) -> &mut Session {
        self.sessions.get_mut(&number).expect("the session has not ended")
    }

    /// The filters a client is subscribed to.
    pub(crate) fn filters(&self, client_id: &str) -> Vec<String> {
        let number = self.roster.get(client_id);
        let session = number.and_then(|number| self.sessions.get(number));
        session.map_or(Vec::new(), |session| session.subscriptions.keys().cloned().collect())
    }

    /// The client identifiers that have a session.
    pub(crate) fn client_ids(&self) -> Vec<String> {
        self.roster.keys().cloned().collect()
    }

    /// Topics that retain a message.
    pub(crate) fn retained_topics(&self) -> Vec<String> {
        self.retained.keys().cloned().collect()
    }

    /// Clients that are there and take everything are owed nothing more.
    pub(crate) fn check_clients(&self) {
        for session in self.sessions.values().filter(|session| session.line.is_some()) {
            assert!(session.debts.is_empty(), "owed in the end: {:#?}", session.debts);
            assert!(session.retained.is_empty(), "owed in the end: {:#?}", session.retained);
            let left = session.flights.iter().find(|(_, flight)| !flight.is_floating);
            assert!(left.is_none(), "not completed in the end: {left:?}");
            assert!(session.will_due.is_none(), "resumption cancels the will");
        }
    }

    /// All clients are there, or have left for good: groups owe nothing more.
    pub(crate) fn check_groups_end(&self) {
        for (name, group) in &self.groups {
            let owed = group.debts.iter().find(|debt| !debt.optional);
            assert!(owed.is_none(), "{name} keeps in the end: {owed:?}");
        }
    }
}
