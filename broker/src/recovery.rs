//! From the records of the journal to the state that shards begin with.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use hashbrown::{HashMap, HashSet};
use longshore_codec::{PacketId, QoS, SubscribeOptions};
use longshore_storage::{Entry as Stored, Position, Replay};

use crate::clock::{Now, Wall};
use crate::journal::ReadRecords;
use crate::message::{Entry, Identifiers, Kept, Message};
use crate::record::{
    EVENTS, Event, GROUP_BIT, Head, MESSAGE, Ref, SessionEvent, Unreadable, WillEvent,
};
use crate::retained::{Fresh, Replayed, is_large};
use crate::session::{NEVER, Pending, Will};
use crate::shard::{Config, Storage};

#[cfg(any(test, fuzzing))]
pub(crate) mod anything;

/// What a journal holds, as its records tell one after another.
///
/// Replay a journal into it, then [`Recovery::apply`] it to the configurations of the shards.
#[derive(Debug, Default)]
pub struct Recovery {
    sessions: HashMap<u64, Session>,
    /// What waits in shared groups, by their numbers.
    groups: HashMap<u64, Backlog>,
    messages: HashMap<u64, Known>,
    /// Messages that nobody waits for any more, as far as this record tells.
    unneeded: Vec<u64>,
    retained: Replayed,
    /// Last numbers of holders and messages.
    holders: u64,
    last_message: u64,
    /// The segment of this record.
    segment: u32,
    /// What this record tells as a whole: a session, and from which segment on something may be on
    /// its way to it; and what it had of that.
    whole: Option<(u64, u32)>,
    untold: Vec<Held>,
    unreadable: Option<Position>,
}

/// A message that somebody waits for.
#[derive(Debug, Default)]
struct Known {
    entry: Option<Arc<Entry>>,
    /// How many wait for it.
    refs: u32,
    /// Others wait, too, who are written down anew further on.
    is_wanted: bool,
}

/// What waits in a shared group: each message once, for several shards may tell of it.
#[derive(Debug, Default)]
struct Backlog {
    queue: VecDeque<Held>,
    numbers: HashSet<u64>,
}

impl Backlog {
    fn push(&mut self, held: Held) -> bool {
        let is_new = self.numbers.insert(held.number);
        if is_new {
            self.queue.push_back(held);
        }
        is_new
    }

    fn take(&mut self, number: u64) -> bool {
        self.numbers.remove(&number) && take(&mut self.queue, |it| it.number == number)
    }
}

/// A message that waits for one holder.
#[derive(Clone, Debug)]
struct Held {
    number: u64,
    qos: QoS,
    retain: bool,
    group: u64,
    /// It may have been sent before.
    again: bool,
    /// The segment in which that stands.
    segment: u32,
    identifiers: Identifiers,
}

/// A session as the journal has it.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) holder: u64,
    pub(crate) account: u64,
    pub(crate) class: u32,
    pub(crate) token: Option<u64>,
    pub(crate) anonymous: bool,
    pub(crate) expiry_secs: u32,
    pub(crate) left: Option<Wall>,
    pub(crate) client_id: Box<str>,
    pub(crate) subscriptions: BTreeMap<Box<str>, Subscribed>,
    pub(crate) will: Option<Will>,
    pub(crate) inbound: BTreeSet<PacketId>,
    /// In the order they were sent; without a message once PUBREC came.
    window: VecDeque<(PacketId, Option<Held>)>,
    queue: VecDeque<Held>,
    /// The same, once the messages are found.
    pub(crate) in_flight: Vec<(PacketId, Option<Waiting>)>,
    pub(crate) waiting: Vec<Waiting>,
}

/// What a session asked of a topic filter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscribed {
    pub(crate) options: SubscribeOptions,
    pub(crate) identifier: Option<NonZeroU32>,
    pub(crate) group: u64,
}

/// A message that waits in a session.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) entry: Arc<Entry>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// The topic filter of the group through which it came.
    pub(crate) group: Option<Box<str>>,
    /// It may have been sent before.
    pub(crate) again: bool,
    pub(crate) identifiers: Identifiers,
}

/// Bytes that a message, one who waits for it, and a session take in the journal, about.
const RECORD_BYTES: u64 = 48;
const REF_BYTES: u64 = 32;
const SESSION_BYTES: u64 = 256;

impl Session {
    /// Its connection broke unseen: what came from another shard may have been sent to it, although
    /// the journal has not come to hear of it. Not at QoS 2, which waits for that.
    fn doubt(&mut self) {
        let at_least_once = self.queue.iter_mut().filter(|it| it.qos == QoS::AtLeastOnce);
        at_least_once.for_each(|it| it.again = true);
    }

    fn holds(&self, number: u64, group: u64) -> bool {
        let in_flight = self.window.iter().filter_map(|(_, it)| it.as_ref());
        in_flight.chain(&self.queue).any(|it| it.number == number && it.group == group)
    }

    /// The message does not wait any more that came through this group; whether it did. The group
    /// may be no more, and its number forgotten.
    fn done(&mut self, number: u64, group: u64) -> bool {
        self.take(|it| it.number == number && it.group == group)
            || self.take(|it| it.number == number)
    }

    fn take(&mut self, is_it: impl Fn(&Held) -> bool) -> bool {
        let is_in_flight = |(_, it): &(PacketId, Option<Held>)| it.as_ref().is_some_and(&is_it);
        match self.window.iter().position(is_in_flight) {
            Some(place) => self.window.remove(place).is_some(),
            None => take(&mut self.queue, is_it),
        }
    }
}

impl Replay for Recovery {
    fn record(&mut self, stored: Stored<'_>) {
        let position = stored.span.start;
        self.segment = position.segment;
        let done = match stored.kind {
            MESSAGE => self.message(stored.body, position),
            EVENTS => self.events(stored.body),
            _ => Err(Unreadable),
        };
        if done.is_err() {
            self.unreadable = self.unreadable.or(Some(position));
        }
        self.tell_rest();
        while let Some(number) = self.unneeded.pop() {
            if self.messages.get(&number).is_some_and(|it| it.refs == 0 && !it.is_wanted) {
                self.messages.remove(&number);
            }
        }
    }
}

impl Recovery {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The first record that could not be understood although it is sound: a later version of the
    /// program wrote it.
    #[must_use]
    pub fn unreadable(&self) -> Option<Position> {
        self.unreadable
    }

    /// Bytes of what is to be kept of it, about.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        let wanted = self.messages.values().filter(|known| known.refs > 0);
        let entries = wanted.filter_map(|known| known.entry.as_ref());
        let messages: u64 = entries.map(|entry| entry.size() + RECORD_BYTES).sum();
        let refs: u64 = self.messages.values().map(|known| u64::from(known.refs) * REF_BYTES).sum();
        let retained = self.retained.bytes() as u64 + self.retained.len() as u64 * RECORD_BYTES;
        messages + refs + retained + self.sessions.len() as u64 * SESSION_BYTES
    }

    fn message(&mut self, body: &[u8], position: Position) -> Result<(), Unreadable> {
        let (head, parts, mut refs) = Head::decode(body).ok_or(Unreadable)?;
        self.last_message = self.last_message.max(head.number);
        if let Some((holder, packet_id)) = head.inbound
            && let Some(session) = self.sessions.get_mut(&holder)
        {
            session.inbound.insert(packet_id);
        }
        if let Some(holder) = head.will_of
            && let Some(session) = self.sessions.get_mut(&holder)
        {
            session.will = None;
        }
        let size = parts.topic.len() + parts.properties.len() + parts.payload.len();
        let make = || Arc::new(Entry::new(head.number, size, head.qos, head.expiry));
        let is_place = head.sequence.is_some() && is_large(&parts);
        let mut entry = None;
        if head.number != 0 {
            let known = self.messages.entry(head.number).or_default();
            let placed = known.entry.get_or_insert_with(make);
            if placed.size() != size as u64 {
                // Two messages of one number.
                return Err(Unreadable);
            }
            // A later record is a copy, and stays when the earlier one goes.
            placed.place(position);
            entry = is_place.then(|| Arc::clone(placed));
            // Whoever is given what is retained waits for it by this number, too.
            known.is_wanted |= refs.is_empty() || is_place;
            while let Some(to) = refs.next() {
                self.refer(head.number, to?);
            }
        } else if !refs.is_empty() {
            return Err(Unreadable);
        } else if is_place {
            let placed = make();
            placed.place(position);
            entry = Some(placed);
        }
        if let Some(sequence) = head.sequence {
            let large = entry.map(Kept::Disk);
            let fresh = Fresh { parts, qos: head.qos, expiry: head.expiry, large };
            self.retained.set(fresh, sequence, head.is_copy);
        }
        Ok(())
    }

    fn refer(&mut self, number: u64, to: Ref) {
        let Ref { holder, qos, retain, packet_id, group, again, identifiers } = to;
        let segment = self.segment;
        let waiting = Held { number, qos, retain, group, again, segment, identifiers };
        let known = self.messages.entry(number).or_default();
        if holder & GROUP_BIT != 0 {
            // Its members may be yet to come.
            known.refs += u32::from(self.groups.entry(holder).or_default().push(waiting));
            return;
        }
        let Some(session) = self.sessions.get_mut(&holder) else {
            // Ended, or written down anew further on.
            known.is_wanted = true;
            return;
        };
        match packet_id {
            None => session.queue.push_back(waiting),
            Some(id) => session.window.push_back((id, Some(waiting))),
        }
        known.refs += 1;
    }

    fn events(&mut self, body: &[u8]) -> Result<(), Unreadable> {
        let mut events = Event::decode_all(body);
        while let Some(event) = events.next() {
            self.event(event?);
        }
        Ok(())
    }

    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Session { holder, fresh, session } => self.session(holder, fresh, &session),
            Event::Left { holder, at, expiry_secs, broken } => self.with(holder, |session| {
                if broken {
                    session.doubt();
                }
                session.left = Some(at);
                session.expiry_secs = expiry_secs;
            }),
            Event::Whole { holder, base } => self.whole = Some((holder, base)),
            Event::End { holder } => self.end(holder),
            Event::Subscribe { holder, options, identifier, group, filter } => {
                self.holders = self.holders.max(group & !GROUP_BIT);
                self.with(holder, |session| {
                    let subscribed = Subscribed { options, identifier, group };
                    session.subscriptions.insert(filter.into(), subscribed);
                });
            }
            Event::Unsubscribe { holder, filter } => {
                self.with(holder, |session| {
                    session.subscriptions.remove(filter);
                });
            }
            Event::Will { holder, will } => {
                self.with(holder, |session| session.will = Some(restored_will(&will)));
            }
            Event::NoWill { holder } => self.with(holder, |session| session.will = None),
            Event::Ref { number, to } => self.sent(number, to),
            Event::Done { holder, number, group } => self.done(holder, number, group),
            Event::Received { holder, number, packet_id } => {
                self.received(holder, number, packet_id);
            }
            Event::Completed { holder, packet_id } => self.with(holder, |session| {
                let place = session.window.iter().position(|(id, _)| *id == packet_id);
                place.map(|place| session.window.remove(place));
            }),
            Event::Inbound { holder, packet_id } => {
                self.with(holder, |session| {
                    session.inbound.insert(packet_id);
                });
            }
            Event::Released { holder, packet_id } => {
                self.with(holder, |session| {
                    session.inbound.remove(&packet_id);
                });
            }
            Event::Clear { sequence, topic } => self.retained.clear(topic, sequence),
            Event::ClearMatching { sequence, filter } => {
                self.retained.clear_matching(filter, sequence);
            }
            Event::Compacted { holders, messages, sequence } => {
                self.holders = self.holders.max(holders);
                self.last_message = self.last_message.max(messages);
                self.retained.compacted(sequence);
            }
        }
    }

    fn with(&mut self, holder: u64, change: impl FnOnce(&mut Session)) {
        // A holder that nobody knows has ended, or is written down anew further on.
        if let Some(session) = self.sessions.get_mut(&holder) {
            change(session);
        }
    }

    fn session(&mut self, holder: u64, fresh: bool, event: &SessionEvent<'_>) {
        self.holders = self.holders.max(holder);
        if fresh {
            if let (Some((_, base)), Some(known)) =
                (self.whole.filter(|(it, _)| *it == holder), self.sessions.get_mut(&holder))
            {
                let late = |it: &&Held| it.segment >= base;
                self.untold.extend(known.queue.iter().filter(late).cloned());
            }
            self.end(holder);
            self.sessions.insert(holder, Session { holder, ..Session::default() });
        }
        let SessionEvent { account, class, token, anonymous, expiry_secs, left, client_id } =
            *event;
        self.with(holder, |session| {
            session.client_id = client_id.into();
            (session.account, session.class, session.token) = (account, class, token);
            (session.anonymous, session.expiry_secs, session.left) = (anonymous, expiry_secs, left);
        });
    }

    /// A session was told as a whole: adds what another shard has sent to it, and what had not come
    /// there when it was told.
    fn tell_rest(&mut self) {
        let Some((holder, _)) = self.whole.take() else { return };
        for held in std::mem::take(&mut self.untold) {
            let Some(session) = self.sessions.get_mut(&holder) else { return };
            if !session.holds(held.number, held.group) {
                self.messages.entry(held.number).or_default().refs += 1;
                session.queue.push_back(held);
            }
        }
    }

    /// The message waits for another holder, or was sent to the one it waits for.
    fn sent(&mut self, number: u64, to: Ref) {
        if to.packet_id.is_some()
            && let Some(session) = self.sessions.get_mut(&to.holder)
            && (take(&mut session.queue, |it| it.number == number && it.group == to.group)
                || take(&mut session.queue, |it| it.number == number))
        {
            self.release(number);
        }
        self.refer(number, to);
    }

    fn done(&mut self, holder: u64, number: u64, group: u64) {
        let found = match self.sessions.get_mut(&holder) {
            Some(session) => session.done(number, group),
            None => self.groups.get_mut(&holder).is_some_and(|backlog| backlog.take(number)),
        };
        if found {
            self.release(number);
        }
    }

    fn received(&mut self, holder: u64, number: u64, packet_id: PacketId) {
        if holder & GROUP_BIT != 0 {
            // Its client is a member that does not outlive the process: nobody goes on with it.
            return self.done(holder, number, 0);
        }
        let Some(session) = self.sessions.get_mut(&holder) else { return };
        match session.window.iter_mut().find(|(id, it)| *id == packet_id && it.is_some()) {
            Some((_, message)) => *message = None,
            // By no other record: the session is written down as a whole.
            None => return session.window.push_back((packet_id, None)),
        }
        self.release(number);
    }

    /// One fewer waits for the message.
    fn release(&mut self, number: u64) {
        if let Some(known) = self.messages.get_mut(&number) {
            known.refs = known.refs.saturating_sub(1);
            if known.refs == 0 {
                // Not before the end of this record: it may tell the whole of a holder anew.
                self.unneeded.push(number);
            }
        }
    }

    fn end(&mut self, holder: u64) {
        let Some(session) = self.sessions.remove(&holder) else { return };
        let in_flight = session.window.iter().filter_map(|(_, it)| it.as_ref());
        for waiting in in_flight.chain(&session.queue) {
            self.release(waiting.number);
        }
    }

    /// Gives what was found to the shards that are to be made with these configurations, and
    /// `reader` to read the rest from. Clients that were there when the broker stopped leave `now`;
    /// wills wait at least `will_grace_secs`.
    pub fn apply(
        mut self,
        configs: &mut [Config],
        reader: &Arc<dyn ReadRecords>,
        will_grace_secs: u64,
        now: Now,
    ) {
        let commons = Arc::clone(&configs.first().expect("a broker has a shard").commons);
        self.forget_old(now.wall);
        let mut groups = HashMap::new();
        for session in self.sessions.values() {
            for (filter, subscribed) in session.subscriptions.iter() {
                if subscribed.group != 0 {
                    groups.insert(subscribed.group, filter.clone());
                }
            }
        }
        commons.restore_holders(self.holders);
        for (holder, filter) in &groups {
            let waiting = self.groups.remove(holder).unwrap_or_default().queue;
            let waiting = waiting.into_iter().filter_map(|it| self.find(&it, &groups));
            let pending = waiting.map(|it| it.pending(*holder, None));
            commons.restore_group(filter, *holder, pending);
        }
        commons.retained.restore(std::mem::take(&mut self.retained));
        let hasher = BuildHasherDefault::<DefaultHasher>::new();
        let mut of_shards: Vec<Vec<Session>> = configs.iter().map(|_| Vec::new()).collect();
        for (_, mut session) in std::mem::take(&mut self.sessions) {
            if session.left.is_none() {
                session.doubt();
            }
            for (id, it) in std::mem::take(&mut session.window) {
                let found = it.as_ref().map(|it| self.find(it, &groups));
                match found {
                    Some(None) => {}
                    found => session.in_flight.push((id, found.flatten())),
                }
            }
            let queue = std::mem::take(&mut session.queue);
            session.waiting.extend(queue.iter().filter_map(|it| self.find(it, &groups)));
            let place = hasher.hash_one((session.account, &session.client_id));
            of_shards[(place % configs.len() as u64) as usize].push(session);
        }
        for (config, sessions) in configs.iter_mut().zip(of_shards) {
            config.storage = Some(Storage {
                reader: Arc::clone(reader),
                sessions: Arc::new(Mutex::new(sessions)),
                last_message: self.last_message,
                will_grace_secs,
            });
        }
    }

    fn find(&self, waiting: &Held, groups: &HashMap<u64, Box<str>>) -> Option<Waiting> {
        let entry = self.messages.get(&waiting.number)?.entry.as_ref()?;
        Some(Waiting {
            entry: Arc::clone(entry),
            qos: waiting.qos,
            retain: waiting.retain,
            group: groups.get(&waiting.group).cloned(),
            again: waiting.again,
            identifiers: waiting.identifiers.clone(),
        })
    }

    /// Forgets sessions that have ended meanwhile, and of several of one client all but the last.
    fn forget_old(&mut self, wall: Wall) {
        let mut last: HashMap<(u64, Box<str>), u64> = HashMap::new();
        for session in self.sessions.values() {
            let owner = (session.account, session.client_id.clone());
            let known = last.entry(owner).or_default();
            *known = session.holder.max(*known);
        }
        let is_over = |session: &Session| {
            let end = match (session.left, session.expiry_secs) {
                (_, NEVER) => return false,
                (None, secs) => return secs == 0,
                (Some(left), secs) => left.plus_secs(u64::from(secs)),
            };
            // Whoever has a will stays until it is sent, also where it fell due meanwhile.
            end <= wall && session.will.is_none()
        };
        let old: Vec<u64> = self
            .sessions
            .values()
            .filter(|session| {
                let owner = (session.account, session.client_id.clone());
                last.get(&owner) != Some(&session.holder) || is_over(session)
            })
            .map(|session| session.holder)
            .collect();
        old.into_iter().for_each(|holder| self.end(holder));
    }
}

/// Takes the message out of a queue; whether it was there.
fn take(queue: &mut VecDeque<Held>, is_it: impl Fn(&Held) -> bool) -> bool {
    let place = queue.iter().position(is_it);
    place.is_some_and(|place| queue.remove(place).is_some())
}

fn restored_will(will: &WillEvent<'_>) -> Will {
    Will {
        message: Arc::new(Message::new(will.parts, will.qos, will.retain, None)),
        delay_secs: will.delay_secs,
        expiry_secs: will.expiry_secs,
    }
}

impl Waiting {
    /// It as a session or group keeps it.
    pub(crate) fn pending(self, holder: u64, group: Option<Arc<crate::share::Group>>) -> Pending {
        let Self { entry, qos, retain, again, identifiers, .. } = self;
        Pending { message: Kept::Disk(entry), qos, retain, identifiers, group, holder, again }
    }
}
