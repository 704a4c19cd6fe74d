//! The shard: the broker as a machine without I/O.
//!
//! It owns connections, sessions, subscriptions and retained messages, and is driven by bytes and
//! time from outside: [`Shard::accept`], [`Shard::receive`], [`Shard::closed`],
//! [`Shard::advance`]. It answers by filling outputs, and names those with news in
//! [`Shard::take_dirty`]. It knows no socket, no clock, no runtime and no randomness but its seed,
//! so one seed plays the same run again.
//!
//! ```text
//! receive --> frame --> CONNECT  --> connect     session begins, resumes, is taken over
//!                  \--> PUBLISH  --> publish --> route --> deliver --> outputs
//!                  \--> SUBSCRIBE -> subscribe -> retained reads, in slices
//!                  \--> PUBACK.. --> ack     --> pump: what waited goes on
//! ```

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};

use longshore_acl::Authenticate;
use longshore_codec::{Error, Packet, ReasonCode, Version};
use tracing::warn;

use crate::cache::RouteCache;
use crate::clock::{Mono, Now};
use crate::commons::Commons;
use crate::connection::{Connection, ConnectionId, Peer, Stage};
use crate::dialect::Dialect;
use crate::form::Forms;
use crate::index::Matches;
use crate::journal::Journal;
use crate::limits::Limits;
pub use crate::limits::Refused;
use crate::mail::Mail;
use crate::message::{Entry, Message};
use crate::output::{Output, Spare};
use crate::recovery;
use crate::retained::Slice;
use crate::session::{Owner, Pages, Session, SessionId};
use crate::share::Group;
use crate::slots::Slots;
use crate::stats::Stats;
use crate::timers::Timers;

mod ack;
mod census;
mod clear;
mod compact;
mod config;
mod connect;
mod deliver;
mod describe;
mod durable;
mod end;
mod group;
mod mail;
mod notice;
mod outside;
mod overflow;
mod own;
mod publish;
mod quota;
mod receive;
mod restore;
mod subscribe;
mod tasks;
mod time;

use self::census::Own;
use self::clear::Clearing;
pub(crate) use self::compact::SLICE_BYTES;
pub use self::config::Config;
pub(crate) use self::config::Storage;
use self::notice::{UNEXPECTED, close_code};
pub(crate) use self::outside::{Denied, Shown, asked_of, session_number};
pub(crate) use self::own::{OwnMessage, durably, publish_all};
use self::tasks::Tasks;
pub(crate) use self::tasks::{Step, Task};

/// The broker without its I/O. See the module.
pub struct Shard {
    limits: Arc<Limits>,
    dialect: Dialect,
    authenticate: Arc<dyn Authenticate>,
    stats: Arc<Stats>,
    seed: u64,
    /// The shard's number, and how many there are.
    number: usize,
    shards: usize,
    commons: Arc<Commons>,
    journal: Option<Box<Journal>>,
    round: Option<compact::Round>,
    /// Rounds of compaction so far.
    rounds: u32,
    /// Other shards that have begun the round of compaction that this one is in, or begins next.
    rounds_heard: usize,
    /// Sessions from before this process, to be taken back.
    restored: Option<Vec<recovery::Session>>,
    will_grace_secs: u64,
    /// The journal is behind.
    behind: bool,
    /// Sessions of the journal that have ended in this step.
    ended: Vec<u64>,
    assigned: u64,
    connections: Slots<Connection>,
    sessions: Slots<Session>,
    own: Own,
    cache: RouteCache,
    matches: Matches,
    subscriptions: usize,
    connection_timers: Timers<ConnectionId>,
    session_timers: Timers<SessionId>,
    dirty: Vec<ConnectionId>,
    spare: Spare,
    forms: Forms,
    /// Bytes of all unfinished packets of known clients, and of all unfinished CONNECTs.
    input_bytes: usize,
    early_bytes: usize,
    /// Bytes that writes have left in outputs.
    unwritten: usize,
    /// Bytes of all wills.
    will_bytes: usize,
    /// What this turn has cost so far, in steps of some tens of nanoseconds.
    work: usize,
    turn_work: usize,
    /// Connections whose last read is not handled to its end: the turn had cost enough.
    resting: VecDeque<ConnectionId>,
    /// Bytes of all messages that wait in sessions.
    queued_bytes: usize,
    /// Those on which messages stand that wait on the disk.
    pages: Arc<Pages<Arc<Entry>>>,
    /// Whether the log has been told that they cannot leave memory.
    pages_stay: bool,
    /// What a slice of a read of retained messages has found, empty between two.
    slice: Slice,
    /// Reads of retained messages so far.
    reads: u64,
    /// Sessions with retained messages to be sent and room for them.
    readers: VecDeque<SessionId>,
    /// Deletions of retained messages that are under way.
    clears: VecDeque<Clearing>,
    /// Properties of the message on its way, kept for the next one's.
    scratch: Vec<u8>,
    tasks: Tasks,
    /// What follows from the current step and must not happen in the middle of it.
    unsettled: VecDeque<Unsettled>,
    /// Mail to other shards, by their numbers.
    outbox: Vec<(usize, Mail)>,
    /// Groups in which messages wait since these batches, which are not appended yet.
    fresh: Vec<(u64, Arc<Group>)>,
    /// Shards with too much mail, a bit each.
    full: u64,
    /// Connections that are not read because they publish to such shards.
    held: Vec<ConnectionId>,
}

/// Work that the end of a step does.
#[derive(Debug)]
enum Unsettled {
    /// A will to be published, by a session of this class, account and client id.
    /// `holder` is the number of the session whose will it is, if the journal knows it.
    Will { owner: Owner, message: Arc<Message>, class: u32, holder: u64 },
    /// The will of a session's new connection is to be written down: behind that of its last one,
    /// whose record takes away the will that the session had.
    NewWill(SessionId),
    /// What a session is now, to be retained.
    State(Box<OwnMessage>),
    /// A session whose queue is full.
    Overflow(SessionId),
    /// All queues together are full.
    Relief,
    /// A connection whose client would not take the answer it is owed.
    Unsendable(ConnectionId),
    /// A connection that waits for a disk that has failed.
    Forsaken(ConnectionId),
}

/// Why a connection ends by the broker's decision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) reason: ReasonCode,
    pub(crate) cause: Cause,
}

/// The words for a fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    Packet(Error),
    /// A fault that a limit makes, and its name.
    Limit(Error, &'static str),
    /// A queue with so much in it.
    Full {
        cause: &'static str,
        messages: usize,
        bytes: usize,
    },
    Said(&'static str),
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Packet(error) => error.fmt(f),
            Self::Limit(error, limit) => write!(f, "{error} ({limit})"),
            Self::Full { cause, messages, bytes } => {
                write!(f, "{cause}: {messages} messages, {bytes} bytes")
            }
            Self::Said(cause) => f.write_str(cause),
        }
    }
}

impl Fault {
    pub(crate) const fn new(reason: ReasonCode, cause: &'static str) -> Self {
        Self { reason, cause: Cause::Said(cause) }
    }

    /// A packet that cannot be framed, before or after CONNECT.
    fn unframed(error: Error, is_first: bool) -> Self {
        let limit = if is_first { "limits.connect_bytes" } else { "limits.packet_bytes" };
        let cause = match error {
            Error::PacketTooLarge { .. } => Cause::Limit(error, limit),
            _ => Cause::Packet(error),
        };
        Self { reason: error.reason(), cause }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { reason: error.reason(), cause: Cause::Packet(error) }
    }
}

/// Seconds a closed connection may take to read its last packets.
const LINGER_SECS: u64 = 5;

impl Shard {
    /// A shard without clients.
    #[must_use]
    pub fn new(config: Config) -> Self {
        let number = config.number;
        config.commons.set_dialect(config.dialect);
        let (mut journal, mut restored, mut will_grace_secs) = (None, None, 0);
        let mut pages = Arc::default();
        if let Some(storage) = config.storage {
            will_grace_secs = storage.will_grace_secs;
            pages = storage.pages;
            let Storage { reader, sessions, last_message, .. } = storage;
            journal = Some(Box::new(Journal::new(reader, number, last_message)));
            let mut sessions = sessions.lock().unwrap_or_else(PoisonError::into_inner);
            restored = Some(std::mem::take(&mut *sessions));
        }
        Self {
            journal,
            round: None,
            rounds: 0,
            rounds_heard: 0,
            restored,
            will_grace_secs,
            behind: false,
            ended: Vec::new(),
            cache: RouteCache::new(number, config.limits.route_cache_bytes),
            limits: config.limits,
            dialect: config.dialect,
            authenticate: config.authenticate,
            stats: config.stats,
            seed: config.seed,
            number,
            shards: config.shards,
            commons: config.commons,
            assigned: 0,
            connections: Slots::of(number),
            sessions: Slots::of(number),
            own: Own::default(),
            matches: Matches::default(),
            subscriptions: 0,
            connection_timers: Timers::new(),
            session_timers: Timers::new(),
            dirty: Vec::new(),
            spare: Spare::default(),
            forms: Forms::default(),
            input_bytes: 0,
            early_bytes: 0,
            unwritten: 0,
            will_bytes: 0,
            work: 0,
            turn_work: config.turn_work,
            resting: VecDeque::new(),
            queued_bytes: 0,
            pages,
            pages_stay: false,
            reads: 0,
            slice: Slice::default(),
            readers: VecDeque::new(),
            clears: VecDeque::new(),
            scratch: Vec::new(),
            tasks: Tasks::default(),
            unsettled: VecDeque::new(),
            outbox: Vec::new(),
            fresh: Vec::new(),
            full: 0,
            held: Vec::new(),
        }
    }

    /// Takes bytes from the transport, in whatever portions they come.
    pub fn receive(&mut self, id: ConnectionId, bytes: &[u8], now: Now) {
        self.stats.received_bytes_total.add(bytes.len() as u64);
        self.take(id, bytes, now);
    }

    /// Takes bytes that are counted already.
    fn take(&mut self, id: ConnectionId, bytes: &[u8], now: Now) {
        self.receive_packets(id, bytes, now);
        self.settle(now);
    }

    /// Appends a packet to the connection's output.
    fn send(&mut self, id: ConnectionId, packet: &Packet<'_>) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let out = connection.output.tail(&mut self.spare);
        let start = out.len();
        longshore_codec::encode(connection.version, packet, out);
        if out.len() - start > connection.packet_max as usize {
            // [MQTT-3.1.2-24]: it must not be sent, and without it the client waits for ever.
            out.truncate(start);
            self.unsettled.push_back(Unsettled::Unsendable(id));
        }
        self.mark(id);
    }

    /// Puts the connection on the list of those with news.
    #[inline]
    fn mark(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id)
            && !connection.listed
        {
            connection.listed = true;
            self.dirty.push(id);
        }
    }

    /// Ends a connection by the broker's decision, and says why.
    fn fail(&mut self, id: ConnectionId, fault: Fault, now: Now) {
        let Some(connection) = self.connections.get(id) else { return };
        let (peer, version) = (connection.peer, connection.version);
        match connection.stage {
            Stage::Closing => return,
            Stage::Connecting | Stage::Moving(_) => {
                self.stats.refused_total.add(1);
                warn!(peer = %peer.address, transport = peer.transport,
                    reason = %fault.reason, cause = %fault.cause, "refused");
            }
            Stage::Online(session) => {
                self.log_end(id, session, (close_code(fault.reason), &fault.cause), now);
                if version == Version::V5 {
                    self.send_disconnect(id, fault);
                }
            }
        }
        self.close(id, false, now);
    }

    /// The session's client identifier, for logs.
    fn client_id(&self, session: SessionId) -> &str {
        self.sessions.get(session).map_or("", |session| &*session.client_id)
    }

    /// Detaches the session and lets the driver close the transport once the output is written.
    fn close(&mut self, id: ConnectionId, graceful: bool, now: Now) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let stage = std::mem::replace(&mut connection.stage, Stage::Closing);
        let partial = std::mem::take(&mut connection.partial).len();
        connection.aliases = Vec::new();
        connection.aliases_out = None;
        // What it promises is kept, but there is nobody to promise it to.
        connection.gate = connection.gate.take().filter(|gate| gate.is_held());
        if let Some(gate) = &mut connection.gate {
            gate.abandon();
        }
        connection.paused = false;
        connection.held = false;
        connection.resting = false;
        *self.input_of(stage) -= partial;
        let Some(connection) = self.connections.get_mut(id) else { return };
        let class = connection.party.class;
        let linger = Some(now.mono.plus_secs(LINGER_SECS));
        self.connection_timers.set(id, &mut connection.deadline, linger);
        self.mark(id);
        if let Stage::Online(session) = stage {
            self.commons.depart(class);
            self.detach(session, graceful, now);
        }
    }

    /// Where the bytes of an unfinished packet are counted.
    fn input_of(&mut self, stage: Stage) -> &mut usize {
        match stage {
            Stage::Connecting => &mut self.early_bytes,
            _ => &mut self.input_bytes,
        }
    }

    /// The transport is gone: reset, or closed by either side.
    pub fn closed(&mut self, id: ConnectionId, now: Now) {
        self.ended(id, &"the client closed without DISCONNECT", now);
    }

    /// The transport is gone by a fault of the network or of one of its layers.
    pub fn failed(&mut self, id: ConnectionId, cause: &dyn std::fmt::Display, now: Now) {
        if let Some(connection) = self.connections.get(id)
            && self.is_connecting(id)
        {
            let Peer { address, transport } = connection.peer;
            warn!(peer = %address, transport, cause = %cause, "refused");
        }
        self.ended(id, cause, now);
    }

    fn is_connecting(&self, id: ConnectionId) -> bool {
        let stage = self.connections.get(id).map(|connection| connection.stage);
        matches!(stage, Some(Stage::Connecting | Stage::Moving(_)))
    }

    fn ended(&mut self, id: ConnectionId, cause: &dyn std::fmt::Display, now: Now) {
        if let Some(connection) = self.connections.get(id) {
            match connection.stage {
                Stage::Online(session) => self.log_end(id, session, (UNEXPECTED, cause), now),
                Stage::Connecting | Stage::Moving(_) => self.stats.refused_total.add(1),
                Stage::Closing => {}
            }
            self.close(id, false, now);
        }
        if let Some(connection) = self.forget(id)
            && !connection.is_own()
        {
            self.commons.leave(connection.peer.address.ip());
        }
        self.settle(now);
    }

    /// Hands out the connections with news since the last call, by appending them to `into`.
    pub fn take_dirty(&mut self, into: &mut Vec<ConnectionId>) {
        for id in self.dirty.drain(..) {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.listed = false;
                into.push(id);
            }
        }
    }

    /// What waits to be written to a connection that is still open; `None` when there is none, or
    /// while nothing may be written to it yet.
    pub fn output(&mut self, id: ConnectionId) -> Option<&mut Output> {
        let connection = self.connections.get_mut(id)?;
        if connection.is_held_back() { None } else { Some(&mut connection.output) }
    }

    /// Whether everything is written that a connection is to be told before it is closed.
    #[must_use]
    pub fn is_written(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_none_or(|connection| connection.output.is_empty())
    }

    /// Some of the output was written, or could not be.
    pub fn wrote(&mut self, id: ConnectionId, count: usize, now: Now) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        self.stats.sent_bytes_total.add(count as u64);
        if connection.output.is_empty() {
            connection.output.rest(&mut self.spare);
        } else {
            connection.output.compact();
        }
        let waits = connection.output.len();
        self.unwritten = self.unwritten - connection.unwritten + waits;
        connection.unwritten = waits;
        connection.dropping &= waits > 0;
        connection.stalled = match connection.stalled {
            _ if waits == 0 => None,
            Some(since) if count == 0 => Some(since),
            _ => Some(now.mono),
        };
        let paused = waits > self.limits.output_bytes.saturating_mul(2);
        if connection.paused && !paused {
            connection.received = now.mono;
        }
        connection.paused = paused && connection.stage != Stage::Closing;
        let stage = connection.stage;
        if waits > 0 && stage != Stage::Closing {
            self.schedule(id, now);
        }
        if let Stage::Online(session) = stage {
            match waits {
                _ if waits <= self.limits.output_bytes / 2 => self.resume_waiting(session, now),
                _ => self.show_room(session),
            }
        }
    }

    /// Whether the transport is to be closed once its output is written.
    #[must_use]
    pub fn is_closing(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_none_or(|connection| connection.stage == Stage::Closing)
    }

    /// Whether the transport may be read. Not while its client leaves too much unread itself.
    #[must_use]
    pub fn wants_read(&self, id: ConnectionId) -> bool {
        self.connections.get(id).is_some_and(|connection| !connection.is_unread())
    }

    /// Does what follows from the step just taken.
    fn settle(&mut self, now: Now) {
        while let Some(work) = self.next_unsettled() {
            match work {
                Unsettled::Will { owner, message, class, holder } => {
                    self.publish_will(&owner, &message, class, holder, now);
                }
                Unsettled::NewWill(session) => self.note_will(session),
                Unsettled::Unsendable(id) => {
                    // No DISCONNECT: it could be CONNACK that was too large.
                    if let Some(connection) = self.connections.get(id)
                        && let Stage::Online(session) = connection.stage
                    {
                        let cause = "an answer is larger than the client's Maximum Packet Size";
                        let code = close_code(ReasonCode::PacketTooLarge);
                        self.log_end(id, session, (code, &cause), now);
                    }
                    self.close(id, false, now);
                }
                Unsettled::State(state) => self.publish_own(&state, now),
                Unsettled::Forsaken(id) => self.forsake(id, now),
                Unsettled::Overflow(session) => self.overflow(session, now),
                Unsettled::Relief => self.relieve(now),
            }
        }
        self.note_ended();
    }

    /// The earliest deadline of anything.
    fn next_deadline(&self, now: Now) -> Option<Mono> {
        let has_work = !self.readers.is_empty() || !self.clears.is_empty() || self.tasks.is_ready();
        if has_work || !self.resting.is_empty() || !self.fresh.is_empty() {
            return Some(now.mono);
        }
        let retained = self.commons.retained.next_end().map(|end| {
            // The wall clock may jump: look again within a minute.
            Mono(now.mono.0 + end.0.saturating_sub(now.wall.0).clamp(1_000, 60_000_000))
        });
        [self.connection_timers.next(), self.session_timers.next(), retained]
            .into_iter()
            .flatten()
            .min()
    }
}

impl std::fmt::Debug for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shard")
            .field("connections", &self.connections.len())
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}
