//! What holds in whatever order mail arrives.
//!
//! Who is to get a message is settled when the broker reads it; when it arrives is not. Each
//! message of QoS 1 and 2 has to arrive in the end, once, and those of one publisher to one topic
//! in order; a group's message reaches one member; what is retained is never older than what came
//! before; and after UNSUBACK there is nothing new.

use std::collections::{BTreeMap, BTreeSet};

use longshore_codec::{Publish, QoS, filter};

use super::groups::Groups;
use super::speaker::{Meaning, Said};
use crate::sim::trace::Trace;

/// See the module.
#[derive(Debug)]
pub(crate) struct Ledger {
    trace: Trace,
    /// By client.
    sessions: Vec<Option<Session>>,
    /// The sessions that connections got, and whether they were there before.
    lines: BTreeMap<usize, (u64, bool)>,
    published: BTreeMap<u64, Published>,
    retained: BTreeMap<&'static str, u64>,
    groups: Groups,
    next_session: u64,
    next_serial: u64,
    /// Counts what the broker reads.
    step: u64,
}

#[derive(Debug)]
struct Session {
    number: u64,
    line: Option<usize>,
    /// It outlives its connection.
    lasting: bool,
    /// All that is there for it is sent at once.
    is_wide: bool,
    subscriptions: BTreeMap<&'static str, (QoS, bool)>,
    /// Groups it has left, by what UNSUBSCRIBE, and the line on which that was answered.
    left: BTreeMap<&'static str, (u16, Option<usize>)>,
    owed: BTreeMap<u64, Owed>,
    retained: Vec<Read>,
    flights: BTreeMap<u16, Flight>,
    /// What its groups may have given to others when it went.
    floating: BTreeMap<u16, u64>,
    /// QoS 2 messages read and not released.
    inbound: BTreeSet<u16>,
    /// When the last message was read that it was told, by publisher, topic and QoS.
    last: BTreeMap<(u64, &'static str, u8), u64>,
    /// The same for the newest message that was to be retained, by topic.
    newest: BTreeMap<&'static str, u64>,
}

/// A message that a session is to get.
#[derive(Debug)]
struct Owed {
    qos: QoS,
    seen: bool,
    /// The UNSUBSCRIBE after which it need not come, and the line on which that was answered.
    unsubscribed: Option<(u16, Option<usize>)>,
}

/// A retained message that a subscription begins with.
#[derive(Debug)]
struct Read {
    filter: &'static str,
    topic: &'static str,
    serial: u64,
    qos: QoS,
    seen: bool,
    excused: bool,
}

#[derive(Debug)]
struct Flight {
    serial: u64,
    released: bool,
    /// Another member of the group may get it.
    floats: bool,
}

#[derive(Clone, Copy, Debug)]
struct Published {
    step: u64,
    qos: QoS,
    topic: &'static str,
    publisher: u64,
    retain: bool,
}

impl Ledger {
    pub(crate) fn new(clients: usize, trace: Trace) -> Self {
        Self {
            trace,
            sessions: (0..clients).map(|_| None).collect(),
            lines: BTreeMap::new(),
            published: BTreeMap::new(),
            retained: BTreeMap::new(),
            groups: Groups::default(),
            next_session: 0,
            next_serial: 0,
            step: 0,
        }
    }

    pub(crate) fn next_serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial
    }

    pub(crate) fn has_session(&self, client: usize) -> bool {
        self.sessions[client].is_some()
    }

    pub(crate) fn sessions(&self) -> usize {
        self.sessions.iter().flatten().count()
    }

    pub(crate) fn subscriptions(&self) -> usize {
        self.sessions.iter().flatten().map(|session| session.subscriptions.len()).sum()
    }

    pub(crate) fn retained(&self) -> usize {
        self.retained.len()
    }

    /// The broker has read a packet.
    pub(crate) fn take(&mut self, line: usize, client: usize, said: &Said) {
        self.step += 1;
        self.trace.note(format_args!("  line {line}: {:?}", said.meaning));
        if let Meaning::Connect { clean, lasting, is_wide } = said.meaning {
            return self.connect(line, client, clean, (lasting, is_wide));
        }
        // What comes behind DISCONNECT is nothing.
        let current = |session: &&mut Session| session.line == Some(line);
        let Some(session) = self.sessions[client].as_mut().filter(current) else { return };
        match said.meaning {
            Meaning::Connect { .. } => {}
            Meaning::Publish { serial, topic, qos, id, retain, clears } => {
                let publisher = session.number;
                if qos == QoS::ExactlyOnce && !session.inbound.insert(id) {
                    return;
                }
                let published = Published { step: self.step, qos, topic, publisher, retain };
                self.published.insert(serial, published);
                if retain {
                    self.retain(topic, (!clears).then_some(serial));
                }
                self.route(serial, topic, qos, clears);
            }
            Meaning::Subscribe { filter, qos, no_local } => {
                session.subscriptions.insert(filter, (qos, no_local));
                session.left.remove(filter);
                let number = session.number;
                match filter.starts_with('$') {
                    true => self.groups.join(filter, number),
                    false => self.read_retained(client, filter, qos),
                }
            }
            Meaning::Unsubscribe { filter, id } => self.unsubscribe(client, filter, id),
            Meaning::Done { id } => drop(session.flights.remove(&id)),
            Meaning::Received { id } => {
                if let Some(flight) = session.flights.get_mut(&id) {
                    flight.released = true;
                }
            }
            Meaning::Released { id } => drop(session.inbound.remove(&id)),
            Meaning::Disconnect { for_good } => {
                session.lasting &= !for_good;
                self.detach(line, client);
            }
        }
    }

    fn connect(&mut self, line: usize, client: usize, clean: bool, kind: (bool, bool)) {
        if let Some(old) = self.sessions[client].as_ref().and_then(|session| session.line) {
            self.detach(old, client);
        }
        if clean {
            self.end(client);
        }
        let present = self.sessions[client].is_some();
        self.next_session += 1;
        let number = self.next_session;
        let session = self.sessions[client].get_or_insert_with(|| Session::new(number));
        session.line = Some(line);
        (session.lasting, session.is_wide) = kind;
        self.lines.insert(line, (session.number, present));
    }

    /// The session has lost this connection.
    pub(crate) fn detach(&mut self, line: usize, client: usize) {
        let Some(session) = &mut self.sessions[client] else { return };
        if session.line != Some(line) {
            return;
        }
        session.line = None;
        self.groups.lose(session.number);
        let (floating, flights) =
            std::mem::take(&mut session.flights).into_iter().partition(|(_, it)| it.floats);
        session.flights = flights;
        let floating: BTreeMap<u16, Flight> = floating;
        session.floating.extend(floating.into_iter().map(|(id, flight)| (id, flight.serial)));
        if !session.lasting {
            self.end(client);
        }
    }

    fn end(&mut self, client: usize) {
        let Some(session) = self.sessions[client].take() else { return };
        for filter in session.subscriptions.keys() {
            self.groups.leave(filter, session.number);
        }
        self.groups.end(session.number);
    }

    fn retain(&mut self, topic: &'static str, serial: Option<u64>) {
        match serial {
            Some(serial) => self.retained.insert(topic, serial),
            None => self.retained.remove(topic),
        };
        let reads = self.sessions.iter_mut().flatten().flat_map(|session| &mut session.retained);
        for read in reads.filter(|read| read.topic == topic) {
            read.excused = true;
        }
    }

    fn route(&mut self, serial: u64, topic: &'static str, qos: QoS, clears: bool) {
        if topic.starts_with('g') {
            return self.groups.publish(serial, topic, qos);
        }
        let publisher = self.published[&serial].publisher;
        for session in self.sessions.iter_mut().flatten() {
            let is_own = session.number == publisher;
            let matching = session.subscriptions.iter().filter(|(filter, (_, no_local))| {
                filter::matches_selectors(filter, topic) && !(is_own && *no_local)
            });
            // An empty message cannot be told from another one.
            if let Some(most) = matching.map(|(_, (qos, _))| *qos).max()
                && !clears
            {
                let owed = Owed { qos: most.min(qos), seen: false, unsubscribed: None };
                session.owed.insert(serial, owed);
            }
        }
    }

    fn read_retained(&mut self, client: usize, filter: &'static str, most: QoS) {
        let Some(session) = &mut self.sessions[client] else { return };
        for read in session.retained.iter_mut().filter(|read| read.filter == filter) {
            read.excused = true;
        }
        for (topic, serial) in &self.retained {
            if filter::matches_selectors(filter, topic) {
                session.retained.push(Read {
                    filter,
                    topic,
                    serial: *serial,
                    qos: most.min(self.published[serial].qos),
                    seen: false,
                    excused: false,
                });
            }
        }
    }

    fn unsubscribe(&mut self, client: usize, filter: &'static str, id: u16) {
        let Some(session) = &mut self.sessions[client] else { return };
        if session.subscriptions.remove(filter).is_none() {
            return;
        }
        for read in session.retained.iter_mut().filter(|read| read.filter == filter) {
            read.excused = true;
        }
        for (serial, owed) in &mut session.owed {
            let topic = self.published[serial].topic;
            let is_wanted =
                session.subscriptions.keys().any(|it| filter::matches_selectors(it, topic));
            if !is_wanted && owed.unsubscribed.is_none() {
                owed.unsubscribed = Some((id, None));
            }
        }
        if filter.starts_with('$') {
            session.left.insert(filter, (id, None));
        }
        self.groups.leave(filter, session.number);
    }

    pub(crate) fn hear_connack(&self, line: usize, present: bool) {
        assert_eq!(self.lines[&line].1, present, "whether there was a session");
    }

    /// The session a line got, unless it has ended.
    fn session_of(&mut self, client: usize, line: usize) -> Option<&mut Session> {
        let number = self.lines.get(&line)?.0;
        self.sessions[client].as_mut().filter(|session| session.number == number)
    }

    pub(crate) fn hear_unsuback(&mut self, client: usize, line: usize, id: u16) {
        let Some(session) = self.session_of(client, line) else { return };
        let owed = session.owed.values_mut().filter_map(|owed| owed.unsubscribed.as_mut());
        for (of, told) in owed.chain(session.left.values_mut()) {
            if *of == id {
                *told = Some(line);
            }
        }
    }

    pub(crate) fn hear_publish(&mut self, client: usize, line: usize, publish: &Publish<'_>) {
        let serial = publish.payload.try_into().map_or(0, u64::from_be_bytes);
        let topic = std::str::from_utf8(publish.topic).expect("the topic name is legal");
        let (dup, qos) = (publish.dup, publish.qos);
        self.trace.note(format_args!(
            "    line {line} is told #{serial} to {topic} at {qos:?}, dup {dup}, retain {}, {:?}",
            publish.retain, publish.packet_id
        ));
        let Some(session) = self.session_of(client, line) else { return };
        let is_group = topic.starts_with('g');
        if let Some(id) = publish.packet_id {
            let floats = is_group && qos == QoS::AtLeastOnce;
            let is_there = session.line == Some(line);
            if session.is_again(id.get(), serial, dup, floats) {
                return;
            }
            if floats && !is_there {
                session.flights.remove(&id.get());
                session.floating.insert(id.get(), serial);
            }
        }
        let number = session.number;
        let is_prompt = session.is_wide || qos == QoS::AtMostOnce;
        if is_group {
            let group = self.groups.hear(serial, number, dup, qos);
            let session = self.sessions[client].as_ref().expect("it was found");
            let left = session.left.get(group).is_some_and(|(_, told)| *told == Some(line));
            assert!(!(left && is_prompt), "[MQTT-3.10.4-2] #{serial} is new after UNSUBACK");
        } else if publish.retain {
            self.hear_retained(client, serial, dup, qos);
        } else if serial > 0 {
            self.hear_live(client, line, serial, qos);
        }
    }

    fn hear_live(&mut self, client: usize, line: usize, serial: u64, qos: QoS) {
        let Some(session) = &mut self.sessions[client] else { return };
        let Published { step, topic, publisher, retain, .. } = self.published[&serial];
        let owed = session.owed.get_mut(&serial);
        let owed = owed.unwrap_or_else(|| panic!("#{serial} is nothing for client {client}"));
        assert_eq!(owed.qos, qos, "[MQTT-3.8.4-8] #{serial}");
        assert!(!owed.seen, "[MQTT-4.3.3-1] client {client} gets #{serial} twice");
        owed.seen = true;
        let is_wanted = session.subscriptions.keys().any(|it| filter::matches_selectors(it, topic));
        let is_prompt = session.is_wide || qos == QoS::AtMostOnce;
        // On another line it may have waited since before.
        let told = owed.unsubscribed.and_then(|(_, told)| told);
        let is_late = is_prompt && !is_wanted && told == Some(line);
        assert!(!is_late, "[MQTT-3.10.4-2] #{serial} is new after UNSUBACK");
        let last = session.last.entry((publisher, topic, qos as u8)).or_default();
        assert!(*last < step, "[MQTT-4.6.0-6] #{serial} to client {client} comes too late");
        *last = step;
        if retain {
            let newest = session.newest.entry(topic).or_default();
            *newest = step.max(*newest);
        }
    }

    fn hear_retained(&mut self, client: usize, serial: u64, dup: bool, qos: QoS) {
        let Some(session) = &mut self.sessions[client] else { return };
        let Published { step, topic, .. } = self.published[&serial];
        let fits = |read: &&mut Read| read.serial == serial && read.qos == qos && !read.seen;
        let (mut excused, mut owed) = (None, None);
        for read in session.retained.iter_mut().filter(fits) {
            match read.excused {
                true => excused = excused.or(Some(read)),
                false => owed = owed.or(Some(read)),
            }
        }
        let read = owed.or(excused);
        read.unwrap_or_else(|| panic!("client {client} did not ask for retained #{serial}")).seen =
            true;
        let newest = session.newest.get(topic).copied().unwrap_or(0);
        assert!(dup || newest <= step, "retained #{serial} is older than what came before");
    }

    /// Of each client one connection is there at most.
    pub(crate) fn check_single(&self, online: &[usize]) {
        let current: BTreeSet<usize> =
            self.sessions.iter().flatten().filter_map(|session| session.line).collect();
        for line in online.iter().filter(|line| self.lines.contains_key(line)) {
            assert!(current.contains(line), "[MQTT-3.1.4-3] line {line} is there still");
        }
    }

    /// Everybody is there, and nothing is under way.
    pub(crate) fn check_end(&self) {
        for (client, session) in self.sessions.iter().enumerate() {
            let Some(session) = session else { continue };
            for (serial, owed) in &session.owed {
                let due = owed.qos != QoS::AtMostOnce && owed.unsubscribed.is_none();
                assert!(owed.seen || !due, "client {client} never got #{serial}: {owed:?}");
            }
            for read in &session.retained {
                let due = !read.excused && read.qos != QoS::AtMostOnce;
                assert!(read.seen || !due, "client {client} never got retained {read:?}");
            }
            let left = session.flights.iter().next();
            assert!(left.is_none(), "client {client} has in flight {left:?}");
        }
        self.groups.check_end();
    }
}

impl Session {
    fn new(number: u64) -> Self {
        Self {
            number,
            line: None,
            lasting: false,
            is_wide: false,
            subscriptions: BTreeMap::new(),
            left: BTreeMap::new(),
            owed: BTreeMap::new(),
            retained: Vec::new(),
            flights: BTreeMap::new(),
            floating: BTreeMap::new(),
            inbound: BTreeSet::new(),
            last: BTreeMap::new(),
            newest: BTreeMap::new(),
        }
    }

    /// Whether the message under this packet identifier is one that the client has got before.
    fn is_again(&mut self, id: u16, serial: u64, dup: bool, floats: bool) -> bool {
        let floating = self.floating.remove(&id);
        let flight = Flight { serial, released: false, floats };
        let known = self.flights.insert(id, flight);
        if let Some(known) = &known {
            let same = dup && known.serial == serial && !known.released;
            assert!(same, "[MQTT-2.2.1-4] #{serial} by {id}, in use by {known:?}");
        }
        known.is_some() || dup && floating == Some(serial)
    }
}
