//! From the records of the journal to the state that shards begin with.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex};

use hashbrown::HashMap;
use longshore_acl::BROKER_CLASS;
use longshore_codec::PacketId;
use longshore_storage::{Entry as Stored, Position, Replay};

use crate::journal::ReadRecords;
use crate::message::{Entry, Kept, Message};
use crate::record::{
    EVENTS, Event, GROUP_BIT, Head, LIST, MESSAGE, PAGE, Ref, Refs, SessionEvent, Unreadable,
    WillEvent, decode_list, decode_page,
};
use crate::retained::{Fresh, Replayed, is_large};
use crate::session::{Page, Pages, Place, Will};
use crate::shard::{Config, Storage};

#[cfg(any(test, fuzzing))]
pub(crate) mod anything;
mod restore;
mod state;
#[cfg(test)]
mod tests;
mod waits;

use self::restore::Restore;
use self::state::{Backlog, Held, Slot, Told};
pub(crate) use self::state::{Session, Subscribed};
use self::waits::Waits;

/// What a journal holds, as its records tell one after another.
///
/// Replay a journal into it, then [`Recovery::apply`] it to the configurations of the shards.
#[derive(Debug, Default)]
pub struct Recovery {
    sessions: HashMap<u64, Session>,
    /// What waits in shared groups, by their numbers.
    groups: HashMap<u64, Backlog>,
    messages: HashMap<u64, Slot>,
    /// How many of them there were when those were last forgotten that nobody waits for.
    swept: usize,
    /// Where the message with this number stands for those who this record tells wait for it.
    place: (u64, Place<Told>),
    /// What waits for sessions that nobody has told of yet: another shard may have sent it to one
    /// that is written down as a whole further on, and had not got it then.
    strays: HashMap<u64, Waits>,
    /// Pages that a round of compaction tells of, until it is complete.
    pages: HashMap<u64, Arc<Page<Told>>>,
    told: Arc<Pages<Told>>,
    /// The records of lists, and in which segments they stand.
    lists: HashMap<u64, (u32, Arc<[u8]>)>,
    /// The base of the last round of compaction.
    base: u32,
    /// By account.
    retained: HashMap<u64, Replayed>,
    /// The last number of a change of what is retained, as far as rounds of compaction tell.
    sequence: u64,
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

/// Messages that are known at least before it is looked for those that nobody needs.
const SWEEP_MIN: usize = 1 << 20;

/// Bytes that a message, one who waits for it, and a session take in the journal, about.
const RECORD_BYTES: u64 = 48;
const REF_BYTES: u64 = 32;
const SESSION_BYTES: u64 = 256;

impl Replay for Recovery {
    fn record(&mut self, stored: Stored<'_>) {
        let position = stored.span.start;
        self.segment = position.segment;
        let done = match stored.kind {
            MESSAGE => self.message(stored.body, position),
            EVENTS => self.events(stored.body),
            PAGE => self.page(stored.body),
            LIST => self.list(stored.body),
            _ => Err(Unreadable),
        };
        if done.is_err() {
            self.unreadable = self.unreadable.or(Some(position));
        }
        self.tell_rest();
        self.place = (0, None);
        if self.messages.len() > 2 * self.swept + SWEEP_MIN {
            self.messages.retain(|_, slot| slot.is_needed());
            self.swept = self.messages.len();
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
    pub fn live_bytes(&mut self) -> u64 {
        let mut in_sessions = 0;
        for session in self.sessions.values_mut() {
            let refs = (session.window.len() + session.waits.queue().spans().len()) as u64;
            let filters = session.subscriptions.keys();
            let filters = filters.map(|filter| filter.len() as u64 + REF_BYTES).sum::<u64>();
            in_sessions += SESSION_BYTES + refs * REF_BYTES + filters;
        }
        let in_groups: usize = self.groups.values().map(|backlog| backlog.queue.len()).sum();
        let wanted = self.messages.values().filter(|it| Arc::strong_count(&it.entry) > 1);
        let messages: u64 = wanted.map(|it| it.entry.size() + RECORD_BYTES).sum();
        let of_account = |it: &Replayed| it.bytes() as u64 + it.len() as u64 * RECORD_BYTES;
        let retained: u64 = self.retained.values().map(of_account).sum();
        messages + in_sessions + in_groups as u64 * REF_BYTES + retained
    }

    fn message(&mut self, body: &[u8], position: Position) -> Result<(), Unreadable> {
        let (head, parts, refs) = Head::decode(body).ok_or(Unreadable)?;
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
        let is_place = head.sequence.is_some() && is_large(&parts);
        let mut entry = None;
        if head.number != 0 {
            let slot = self.slot(head.number);
            if slot.entry.position().is_some() && !slot.is_needed() {
                // Nobody waits any more for what had this number.
                *slot = Slot::new(head.number);
            }
            let placed = Arc::clone(&slot.entry);
            match placed.position() {
                // Two messages of one number.
                Some(_) if placed.size() != size as u64 => return Err(Unreadable),
                // A later record is a copy, and stays when the earlier one goes.
                Some(_) => {}
                None => placed.tell(size, head.qos, head.expiry),
            }
            placed.place(position);
            // Whoever is given what is retained waits for it by this number, too.
            slot.is_wanted |= refs.is_empty() || is_place;
            self.refer_all(&placed, refs)?;
            entry = is_place.then_some(placed);
        } else if !refs.is_empty() {
            return Err(Unreadable);
        } else if is_place {
            let placed = Entry::new(0, size, head.qos, head.expiry);
            placed.place(position);
            entry = Some(Arc::new(placed));
        }
        if let Some(sequence) = head.sequence {
            let large = entry.map(Kept::Disk);
            let fresh = Fresh { parts, qos: head.qos, expiry: head.expiry, large };
            self.retained_of(head.account).set(fresh, sequence, head.is_copy);
        }
        Ok(())
    }

    fn retained_of(&mut self, account: u64) -> &mut Replayed {
        self.retained.entry(account).or_default()
    }

    fn slot(&mut self, number: u64) -> &mut Slot {
        self.messages.entry(number).or_insert_with(|| Slot::new(number))
    }

    fn refer_all(&mut self, entry: &Arc<Entry>, refs: Refs<'_>) -> Result<(), Unreadable> {
        let list: Arc<[u8]>;
        let mut refs = match refs {
            Refs::Here(refs) => refs,
            Refs::Listed(number) => match self.lists.get(&number) {
                Some((_, body)) => {
                    list = Arc::clone(body);
                    decode_list(&list).ok_or(Unreadable)?.1
                }
                None => {
                    // It has gone with an older segment. All who stand in it are written down as a
                    // whole further on: a round tells of nobody before all shards begin new lists.
                    self.slot(entry.number).is_wanted = true;
                    return Ok(());
                }
            },
        };
        while let Some(to) = refs.next() {
            self.refer(entry, to?);
        }
        Ok(())
    }

    fn refer(&mut self, entry: &Arc<Entry>, to: Ref) {
        let (holder, packet_id) = (to.holder, to.packet_id);
        let (number, segment) = (entry.number, self.segment);
        let told = Told { entry: Arc::clone(entry), segment };
        if holder & GROUP_BIT != 0 {
            // Its members may be yet to come.
            self.groups.entry(holder).or_default().push(Held { told, to });
            return;
        }
        if self.place.0 != number {
            self.place = (number, None);
        }
        let (place, pages) = (&mut self.place.1, &self.told);
        match (self.sessions.get_mut(&holder), packet_id) {
            (Some(session), Some(id)) => {
                session.window.push_back((id, Some(Held { told, to })));
            }
            (Some(session), None) => session.waits.push(told, to, place, pages),
            // Ended, or written down anew further on.
            (None, id) => {
                if id.is_none() {
                    self.strays.entry(holder).or_default().push(told, to, place, pages);
                }
                self.slot(number).is_wanted = true;
            }
        }
    }

    /// Messages that sessions wait for, one behind another.
    fn page(&mut self, body: &[u8]) -> Result<(), Unreadable> {
        let (page, numbers) = decode_page(body).ok_or(Unreadable)?;
        self.last_message = self.last_message.max(page);
        let segment = self.segment;
        let tell = |number| Told { entry: Arc::clone(&self.slot(number).entry), segment };
        let told = numbers.map(tell).collect();
        self.pages.insert(page, Page::new(told, &self.told));
        Ok(())
    }

    /// Who waits for each of several messages.
    fn list(&mut self, body: &[u8]) -> Result<(), Unreadable> {
        let (list, mut refs) = decode_list(body).ok_or(Unreadable)?;
        self.last_message = self.last_message.max(list);
        while let Some(to) = refs.next() {
            to?;
        }
        self.lists.insert(list, (self.segment, body.into()));
        Ok(())
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
            Event::Whole { holder, base } => {
                (self.whole, self.base) = (Some((holder, base)), base);
            }
            Event::End { holder } => {
                self.sessions.remove(&holder);
                self.strays.remove(&holder);
            }
            Event::Subscribe { holder, options, identifier, only, group, filter } => {
                self.holders = self.holders.max(group & !GROUP_BIT);
                self.with(holder, |session| {
                    let subscribed = Subscribed { options, identifier, only, group };
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
            Event::Refs { page, from, len, to } => self.wait(page, from, len, to),
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
            Event::Clear { account, sequence, topic } => {
                self.retained_of(account).clear(topic, sequence);
            }
            Event::ClearMatching { account, sequence, filter, selectors, within } => {
                self.retained_of(account).clear_matching(filter, selectors, &within, sequence);
            }
            Event::Compacted { holders, messages, sequence } => {
                self.holders = self.holders.max(holders);
                self.last_message = self.last_message.max(messages);
                self.compacted(sequence);
            }
        }
    }

    /// A round of compaction is complete: what is not told of any more is gone.
    fn compacted(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
        self.retained.values_mut().for_each(|it| it.compacted(sequence));
        self.retained.retain(|_, it| !it.is_spent());
        self.pages.clear();
        self.strays.clear();
        self.lists.retain(|_, (segment, _)| *segment >= self.base);
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
            let known = self.sessions.get_mut(&holder).map(|session| &mut session.waits);
            let mut stray = self.strays.remove(&holder).unwrap_or_default();
            if let Some((_, base)) = self.whole.filter(|(it, _)| *it == holder) {
                let mut tell = |told: &Told, to: &Ref| {
                    if told.segment >= base {
                        self.untold.push(Held { told: told.clone(), to: to.clone() });
                    }
                };
                let queues = known.into_iter().chain([&mut stray]).map(Waits::queue);
                queues.for_each(|queue| queue.for_each(&mut tell));
                stray = Waits::default();
            }
            // What another shard has sent to a new session may stand before it.
            let session = Session { holder, waits: stray, ..Session::default() };
            self.sessions.insert(holder, session);
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
        let untold = std::mem::take(&mut self.untold);
        let Some(session) = self.sessions.get_mut(&holder) else { return };
        if untold.is_empty() {
            return;
        }
        let mut held = session.held();
        for Held { told, to } in untold {
            if held.insert((told.entry.number, to.group)) {
                session.waits.push(told, to, &mut None, &self.told);
            }
        }
    }

    /// The message waits for another holder, or was sent to the one it waits for.
    fn sent(&mut self, number: u64, to: Ref) {
        if to.packet_id.is_some() {
            let session = self.sessions.get_mut(&to.holder).map(|session| &mut session.waits);
            let waits = session.or_else(|| self.strays.get_mut(&to.holder));
            waits.into_iter().for_each(|waits| waits.take(number, to.group));
        }
        let entry = Arc::clone(&self.slot(number).entry);
        self.refer(&entry, to);
    }

    /// Messages of a page wait for a session.
    fn wait(&mut self, page: u64, from: u16, len: u16, to: Ref) {
        let (None, Some(session), Some(page)) =
            (to.packet_id, self.sessions.get_mut(&to.holder), self.pages.get(&page))
        else {
            return;
        };
        let Some(end) = from.checked_add(len) else { return };
        if len > 0 && end <= page.lock().len() {
            session.waits.queue().push_span(page, from..end, to);
        }
    }

    fn done(&mut self, holder: u64, number: u64, group: u64) {
        if holder & GROUP_BIT != 0 {
            if let Some(backlog) = self.groups.get_mut(&holder) {
                backlog.take(number);
            }
        } else if let Some(session) = self.sessions.get_mut(&holder) {
            session.done(number, group);
        } else if let Some(stray) = self.strays.get_mut(&holder) {
            stray.take(number, group);
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
            None => session.window.push_back((packet_id, None)),
        }
    }

    /// Drops what is of accounts that are gone: its sessions, what waits for them and for their
    /// groups, and what is retained. Says how many sessions and retained messages that were.
    ///
    /// Who can be whose account is known elsewhere, and the journal may lag behind: an account is
    /// removed there first. Nothing is written down of it here, for its number never comes back,
    /// and compaction leaves it behind.
    pub fn retain_accounts(&mut self, exists: impl Fn(u64) -> bool) -> (usize, usize) {
        let (mut sessions, mut retained) = (0, 0);
        for (_, gone) in self.sessions.extract_if(|_, session| !exists(session.account)) {
            sessions += 1;
            for subscribed in gone.subscriptions.values() {
                self.groups.remove(&subscribed.group);
            }
        }
        for (_, gone) in self.retained.extract_if(|account, _| !exists(*account)) {
            retained += gone.len();
            // No number is given twice.
            self.sequence = self.sequence.max(gone.last_sequence());
        }
        (sessions, retained)
    }

    /// Gives what was found to the shards that are to be made with these configurations, and
    /// `reader` to read the rest from. Wills wait at least `will_grace_secs`.
    pub fn apply(
        mut self,
        configs: &mut [Config],
        reader: &Arc<dyn ReadRecords>,
        will_grace_secs: u64,
    ) {
        let first = configs.first().expect("a broker has a shard");
        let commons = Arc::clone(&first.commons);
        commons.set_dialect(first.dialect);
        self.forget_old();
        let mut filters: BTreeMap<u64, (u64, Box<str>)> = BTreeMap::new();
        for session in self.sessions.values() {
            for (filter, subscribed) in &session.subscriptions {
                if subscribed.group != 0 {
                    filters.insert(subscribed.group, (session.account, filter.clone()));
                }
            }
        }
        commons.restore_holders(self.holders);
        let mut groups = HashMap::new();
        for (holder, (account, filter)) in filters {
            let waiting = self.groups.remove(&holder).unwrap_or_default().queue;
            let pending = waiting.into_iter().filter_map(|it| it.pending(&groups));
            if let Some(group) = commons.restore_group(account, &filter, holder, pending) {
                groups.insert(holder, group);
            }
        }
        commons.retained.restore_sequence(self.sequence);
        for (account, replayed) in std::mem::take(&mut self.retained) {
            commons.retained.restore(account, replayed);
        }
        let (shards, hub) = (configs.len(), commons.hub());
        let restore = |config: &Config| {
            Restore::new(reader.spare_file(), config.limits.queue_memory / shards)
        };
        let mut of_shards: Vec<(Vec<Session>, Restore)> =
            configs.iter().map(|config| (Vec::new(), restore(config))).collect();
        let mut sessions: Vec<Session> = self.sessions.into_values().collect();
        // So that a run of a simulator is the same again.
        sessions.sort_unstable_by_key(|session| session.holder);
        for mut session in sessions {
            if session.left.is_none() {
                session.doubt();
            }
            for (id, it) in std::mem::take(&mut session.window) {
                let found = it.map(|it| it.pending(&groups));
                match found {
                    Some(None) => {}
                    found => session.in_flight.push((id, found.flatten())),
                }
            }
            let (sessions, restore) = &mut of_shards[shard_of(&session, shards, hub)];
            session.waiting = restore.queue(session.waits.queue(), &groups);
            session.waits = Waits::default();
            sessions.push(session);
        }
        for (config, (sessions, restore)) in configs.iter_mut().zip(of_shards) {
            config.storage = Some(Storage {
                reader: Arc::clone(reader),
                sessions: Arc::new(Mutex::new(sessions)),
                pages: restore.pages,
                last_message: self.last_message,
                will_grace_secs,
            });
        }
    }

    /// Of several sessions of one client, forgets all but the last. One that has ended meanwhile
    /// ends when its shard begins: what goes with it, and what its groups get back, is noted then.
    fn forget_old(&mut self) {
        let mut last: HashMap<(u64, Box<str>), u64> = HashMap::new();
        for session in self.sessions.values() {
            let owner = (session.account, session.client_id.clone());
            let known = last.entry(owner).or_default();
            *known = session.holder.max(*known);
        }
        self.sessions.retain(|_, session| {
            let owner = (session.account, session.client_id.clone());
            last.get(&owner) == Some(&session.holder)
        });
    }
}

/// Where a session goes on, of so many shards: those of modules on theirs.
fn shard_of(session: &Session, shards: usize, hub: Option<usize>) -> usize {
    if let Some(hub) = hub.filter(|_| session.class == BROKER_CLASS) {
        return hub;
    }
    let hasher = BuildHasherDefault::<DefaultHasher>::new();
    let hash = hasher.hash_one((session.account, &session.client_id));
    (hash % hub.unwrap_or(shards) as u64) as usize
}

fn restored_will(will: &WillEvent<'_>) -> Will {
    Will {
        message: Arc::new(Message::new(will.parts, will.qos, will.retain, None)),
        delay_secs: will.delay_secs,
        expiry_secs: will.expiry_secs,
    }
}
