//! What the oracle writes down: who is connected, who subscribed to what, and what the broker owes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::rc::Rc;

use longshore_broker::Limits;
use longshore_broker::clock::{Mono, Now, Wall};
use longshore_codec::{QoS, SubscribeOptions, Version};

use crate::sim::network::LineId;

use super::answer::Answer;
use super::heard::Heard;

/// Names a session for the whole run; a client identifier names several, one after another.
pub(crate) type SessionNumber = u64;

/// A published message as receivers are to get it.
#[derive(PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    /// The properties that go on unchanged, as bytes.
    pub(crate) properties: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) expiry: Option<Expiry>,
    pub(crate) is_will: bool,
}

/// The life of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// Seconds it was given.
    pub(crate) secs: u32,
    pub(crate) ends: Wall,
}

impl Expiry {
    pub(crate) fn begin(secs: u32, now: Now) -> Self {
        Self { secs, ends: now.wall.plus_secs(u64::from(secs)) }
    }
}

impl Message {
    /// Bytes the broker is to account for it.
    pub(crate) fn size(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.len()
    }

    pub(crate) fn is_expired(&self, now: Now) -> bool {
        self.expiry.is_some_and(|expiry| expiry.ends <= now.wall)
    }

    /// Bytes of the largest PUBLISH that carries it, the topic by its name.
    pub(crate) fn packet_bytes(&self, v5: bool, with_id: bool, identifiers: &[u32]) -> usize {
        // An alias takes 3 bytes in place of the name.
        let topic = if v5 { self.topic.len().max(3) } else { self.topic.len() };
        let mut remaining = 2 + topic + 2 * usize::from(with_id) + self.payload.len();
        if v5 {
            let expiry = if self.expiry.is_some() { 5 } else { 0 };
            let ids: usize = identifiers.iter().map(|id| 1 + varint_len(*id as usize)).sum();
            let properties = self.properties.len() + expiry + ids;
            remaining += varint_len(properties) + properties;
        }
        1 + varint_len(remaining) + remaining
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topic, payload, qos, retain, expiry, properties, .. } = self;
        let (serial, properties, qos) = (serial(payload), properties.len(), *qos as u8);
        write!(f, "{serial} to {topic} at {qos}, retain {retain}, {properties} B properties")?;
        if let Some(expiry) = expiry { write!(f, ", until {}", expiry.ends.0) } else { Ok(()) }
    }
}

/// A payload in few words: its number and its length.
pub(crate) fn serial(payload: &[u8]) -> String {
    match payload.first_chunk() {
        Some(number) => format!("#{} ({} B)", u64::from_be_bytes(*number), payload.len()),
        None => format!("{payload:?}"),
    }
}

fn varint_len(number: usize) -> usize {
    match number {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        _ => 4,
    }
}

/// Why a session is to get a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Its own subscriptions.
    Own,
    /// A subscription that begins with what is retained, by its filter.
    Retained(String),
    /// A shared group, by its name, and the number of the group's debt.
    Group(String, u64),
}

/// A message that a session is to get once.
#[derive(Clone, Debug)]
pub(crate) struct Debt {
    pub(crate) message: Rc<Message>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// Sorted; several may be equal (MQTT 5.0, 3.3.4).
    pub(crate) identifiers: Vec<u32>,
    pub(crate) source: Source,
    /// It may be gone: it was too late or too large for the client while that was there.
    pub(crate) is_optional: bool,
    /// No longer owed; sent in this step it may have been.
    pub(crate) lapsed: bool,
}

/// A message of QoS 1 or 2 that was sent, and is not acknowledged for good.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    pub(crate) debt: Debt,
    /// Its place in the order in which messages were sent for the first time.
    pub(crate) order: u64,
    /// The line it was sent on last.
    pub(crate) line: LineId,
    /// PUBREC came.
    pub(crate) is_released: bool,
    /// The line that PUBREL was sent on last.
    pub(crate) release_line: Option<LineId>,
    /// Its group may give it to another member meanwhile.
    pub(crate) is_floating: bool,
}

/// The Will Message of a connection.
#[derive(Clone, Debug)]
pub(crate) struct Will {
    pub(crate) message: Rc<Message>,
    pub(crate) delay_secs: u32,
    pub(crate) expiry_secs: Option<u32>,
    /// Whose it is, for No Local.
    pub(crate) client_id: String,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscription {
    pub(crate) options: SubscribeOptions,
    pub(crate) identifier: Option<u32>,
}

/// The state of one session, as the standard has it (MQTT 5.0, 4.1).
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) number: SessionNumber,
    pub(crate) client_id: String,
    pub(crate) line: Option<LineId>,
    /// The step in which it lost its last line.
    pub(crate) left_in: u64,
    pub(crate) expiry_secs: u32,
    pub(crate) ends: Option<Mono>,
    pub(crate) will: Option<Will>,
    pub(crate) will_due: Option<Mono>,
    pub(crate) subscriptions: BTreeMap<String, Subscription>,
    /// Packet identifiers of QoS 2 messages received and not released.
    pub(crate) inbound: BTreeSet<u16>,
    /// QoS 1 and 2, in the order they were published.
    pub(crate) debts: VecDeque<Debt>,
    /// QoS 0, of this step.
    pub(crate) fleeting: VecDeque<Debt>,
    /// Retained messages, in no order.
    pub(crate) retained: Vec<Debt>,
    pub(crate) flights: BTreeMap<u16, Flight>,
    pub(crate) next_order: u64,
    /// Whether the queue has been too long in this step.
    pub(crate) overflow: Overflow,
}

/// Whether a session has more messages to wait than the limits allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Overflow {
    No,
    /// Depending on what could be sent at once.
    Perhaps,
    Yes,
}

impl Session {
    pub(crate) fn new(number: SessionNumber, client_id: String) -> Self {
        Self {
            number,
            client_id,
            line: None,
            left_in: 0,
            expiry_secs: 0,
            ends: None,
            will: None,
            will_due: None,
            subscriptions: BTreeMap::new(),
            inbound: BTreeSet::new(),
            debts: VecDeque::new(),
            fleeting: VecDeque::new(),
            retained: Vec::new(),
            flights: BTreeMap::new(),
            next_order: 0,
            overflow: Overflow::No,
        }
    }

    /// Messages that wait: at least, and at most.
    pub(crate) fn waiting(&self) -> (usize, usize) {
        let waiting = self.debts.iter().filter(|debt| !debt.lapsed);
        let optional = waiting.clone().filter(|debt| debt.is_optional).count();
        let most = waiting.count();
        (most - optional, most)
    }

    /// A message is about to wait, too; with it `size` bytes.
    pub(crate) fn note_overflow(&mut self, limits: &Limits, size: usize, step: u64) {
        let (least, most) = self.waiting();
        // For a client that is there, what it begins with may be on its way.
        let retained = self.retained.iter().map(|debt| debt.message.size()).sum::<usize>();
        let bytes = self.bytes() + size + if self.line.is_some() { retained } else { 0 };
        let is_full = |waiting: usize| waiting > 0 && waiting >= limits.queue_messages;
        // What was sent in this step is not known yet.
        let is_away = self.line.is_none() && self.left_in < step;
        let is_exact = is_away && self.is_certain();
        let overflow = if is_away && is_full(least) {
            Overflow::Yes
        } else if is_full(most) || most > 0 && bytes > limits.queue_bytes {
            if is_exact { Overflow::Yes } else { Overflow::Perhaps }
        } else {
            Overflow::No
        };
        self.overflow = self.overflow.max(overflow);
    }

    /// What this client does not take now may be gone for good.
    pub(crate) fn give_up_for(&mut self, connection: &Connection, now: Now) {
        for debt in self.debts.iter_mut().chain(&mut self.retained) {
            debt.is_optional |= debt.message.is_expired(now) || !connection.takes(debt);
        }
    }

    /// What was to be sent again on this line, and is too large for it, may be gone for good.
    pub(crate) fn give_up_flights_for(
        &mut self,
        line: LineId,
        connection: &Connection,
        groups: &mut BTreeMap<String, Group>,
    ) {
        for flight in self.flights.values_mut() {
            let is_due = flight.line != line && !flight.is_released;
            if !is_due || connection.takes(&flight.debt) {
                continue;
            }
            flight.is_floating = true;
            if let Source::Group(name, number) = &flight.debt.source
                && let Some(group) = groups.get_mut(name)
            {
                group.make_optional(*number);
            }
        }
    }

    /// Whether it is certain which messages wait or are in flight.
    fn is_certain(&self) -> bool {
        let (least, most) = self.waiting();
        least == most && !self.flights.values().any(|flight| flight.is_floating)
    }

    /// Bytes of the messages that wait or are in flight, at most.
    fn bytes(&self) -> usize {
        let waiting = self.debts.iter().map(|debt| debt.message.size());
        let flights = self.flights.values().filter(|flight| !flight.is_released);
        waiting.chain(flights.map(|flight| flight.debt.message.size())).sum()
    }

    /// Retained messages of this filter are no longer owed.
    pub(crate) fn lapse_retained(&mut self, filter: &str) {
        for debt in &mut self.retained {
            debt.lapsed |= matches!(&debt.source, Source::Retained(of) if of == filter);
        }
    }

    /// Nothing is owed any more; what was sent in this step may still be found.
    pub(crate) fn lapse_all(&mut self) {
        let all = self.debts.iter_mut().chain(&mut self.fleeting).chain(&mut self.retained);
        for debt in all {
            debt.lapsed = true;
        }
    }
}

/// One session's part in a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) qos: QoS,
    pub(crate) retain_as_published: bool,
    pub(crate) identifier: Option<u32>,
    /// The number of the first debt after it joined, or changed its terms.
    pub(crate) since: u64,
}

/// A message that one member of a group is to get.
#[derive(Clone, Debug)]
pub(crate) struct GroupDebt {
    pub(crate) number: u64,
    pub(crate) message: Rc<Message>,
    pub(crate) holder: Holder,
    /// May be dropped, for the group's backlog has been too long.
    pub(crate) optional: bool,
    /// The step it was made in.
    pub(crate) made_in: u64,
}

/// Who has a group's message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Holder {
    Nobody,
    /// A member has it in flight.
    Session(SessionNumber),
    /// A member that went away had it: it may get it again, or another instead.
    Floating(SessionNumber),
}

/// A shared group, `$share/name/filter`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) filter: String,
    pub(crate) members: BTreeMap<SessionNumber, Member>,
    /// Members and terms that were left in this step, with the number of the first debt after.
    pub(crate) former: Vec<(SessionNumber, Member, u64)>,
    pub(crate) debts: Vec<GroupDebt>,
}

impl Group {
    /// The message may be lost.
    pub(crate) fn make_optional(&mut self, number: u64) {
        for debt in self.debts.iter_mut().filter(|debt| debt.number == number) {
            debt.optional = true;
        }
    }
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Connecting,
    Online(SessionNumber),
    Closing,
}

/// A connection as the broker has to see it.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) stage: Stage,
    pub(crate) version: Version,
    /// The session it had last.
    pub(crate) session: SessionNumber,
    /// The start of a packet, and when it came.
    pub(crate) partial: Vec<u8>,
    pub(crate) partial_since: Mono,
    pub(crate) accepted: Mono,
    /// When the last bytes came.
    pub(crate) received: Mono,
    pub(crate) keep_alive_secs: u16,
    pub(crate) receive_maximum: u16,
    pub(crate) packet_max: usize,
    pub(crate) alias_max: u16,
    /// Messages of QoS 2 the client may not yet count as acknowledged for good.
    pub(crate) unreleased: BTreeSet<u16>,
    pub(crate) aliases_in: BTreeMap<u16, String>,
    pub(crate) aliases_out: BTreeMap<u16, String>,
    /// Answers the broker owes, in order.
    pub(crate) answers: VecDeque<Answer>,
    /// Packets from the broker that wait to be explained.
    pub(crate) heard: VecDeque<Heard>,
    /// Packet identifiers the client has seen and not acknowledged for good.
    pub(crate) unacknowledged: BTreeSet<u16>,
    /// The `order` of the message sent last.
    pub(crate) last_order: Option<u64>,
    /// CONNACK came, and said this.
    pub(crate) is_accepted: bool,
    pub(crate) assigned: Option<String>,
    pub(crate) told_expiry_secs: Option<u32>,
    pub(crate) told_keep_alive_secs: Option<u16>,
    /// CONNECT named no client, asked for this keep alive, and did not get the expiry it asked for.
    pub(crate) is_nameless: bool,
    pub(crate) asked_keep_alive_secs: u16,
    pub(crate) granted_expiry_secs: Option<u32>,
    /// An answer is larger than the client takes, which ends the connection.
    pub(crate) is_unanswerable: bool,
    /// The step in which it began to close.
    pub(crate) closed_in: Option<u64>,
    pub(crate) closing_since: Mono,
    /// Bytes that wait to be written, and since when the transport has taken none of them.
    pub(crate) output_len: usize,
    pub(crate) stalled: Option<Mono>,
    pub(crate) is_paused: bool,
    /// So much waits that messages of QoS 0 may be dropped.
    pub(crate) is_slow: bool,
}

impl Connection {
    pub(crate) fn new(now: Now) -> Self {
        Self {
            stage: Stage::Connecting,
            version: Version::V3_1_1,
            session: 0,
            partial: Vec::new(),
            partial_since: now.mono,
            accepted: now.mono,
            received: now.mono,
            keep_alive_secs: 0,
            receive_maximum: u16::MAX,
            packet_max: usize::MAX,
            alias_max: 0,
            unreleased: BTreeSet::new(),
            aliases_in: BTreeMap::new(),
            aliases_out: BTreeMap::new(),
            answers: VecDeque::new(),
            heard: VecDeque::new(),
            unacknowledged: BTreeSet::new(),
            last_order: None,
            is_accepted: false,
            assigned: None,
            told_expiry_secs: None,
            told_keep_alive_secs: None,
            is_nameless: false,
            asked_keep_alive_secs: 0,
            granted_expiry_secs: None,
            is_unanswerable: false,
            closed_in: None,
            closing_since: now.mono,
            output_len: 0,
            stalled: None,
            is_paused: false,
            is_slow: false,
        }
    }

    pub(crate) fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    /// Whether it had a session in this step.
    pub(crate) fn was_there(&self, step: u64) -> bool {
        matches!(self.stage, Stage::Online(_)) || self.closed_in == Some(step)
    }

    /// Whether the client can take this message at all [MQTT-3.1.2-24].
    pub(crate) fn takes(&self, debt: &Debt) -> bool {
        let with_id = debt.qos != QoS::AtMostOnce;
        let message = &debt.message;
        message.packet_bytes(self.is_v5(), with_id, &debt.identifiers) <= self.packet_max
    }
}
