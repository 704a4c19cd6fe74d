//! SUBSCRIBE and UNSUBSCRIBE, and the retained messages a subscription begins with.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use longshore_acl::{ANONYMOUS_CLASS, Action, Principal};
use longshore_codec::{
    Packet, Properties, QoS, ReasonCode, RetainHandling, Suback, Subscribe, SubscribeOptions,
    Unsuback, Unsubscribe, Version, filter,
};
use tracing::warn;

use super::config::LOG_WORK;
use super::deliver::{Outgoing, Terms};
use super::durable::subscribe_event;
use super::quota::SUBSCRIPTIONS;
use super::{Fault, Shard};
use crate::clock::{Now, Wall};
use crate::condition::{Asked, View, is_newer};
use crate::connection::ConnectionId;
use crate::form::{Delivery, Source};
use crate::index::Subscriber;
use crate::message::{Identifiers, Parts};
use crate::parties::is_reserved;
use crate::record::{Event, Ref};
use crate::retained::Found;
use crate::session::{Pending, Read, Recorded, Session, SessionId, Subscription, filter_bytes};
use crate::share::{Group, Member, Noted, Seat, lot};
use crate::stamp::account_of;
use crate::stats::Drop;
use crate::tally::Measure;

mod extras;

use self::extras::{Extras, both};

/// Steps of work that a topic filter of a SUBSCRIBE costs, beside its length.
const FILTER_WORK: usize = 4;
/// Names a read of retained messages visits before others have their turn.
const SLICE_VISITS: usize = 256;
/// Names all reads together visit in one call of `advance`.
const TURN_VISITS: usize = 2048;
/// Bytes of output beyond which a read waits until the client has taken some, and of messages
/// beyond which a slice ends.
const READ_OUTPUT_BYTES: usize = 256 << 10;
/// Bytes of a topic filter that cost one step of work.
pub(super) const BYTES_PER_WORK: usize = 16;

/// Why a subscription is refused.
type Refusal = (ReasonCode, &'static str);

/// Subscriptions of one packet that are refused: a line of the log for each cause, with the first
/// topic filter and how many there are.
#[derive(Default)]
struct Refusals(BTreeMap<&'static str, (String, u64)>);

impl Refusals {
    fn note(&mut self, filter: &str, cause: &'static str) {
        let (_, count) = self.0.entry(cause).or_insert_with(|| (filter.to_owned(), 0));
        *count += 1;
    }
}

impl Shard {
    pub(super) fn handle_subscribe(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        subscribe: &Subscribe<'_>,
        now: Now,
    ) -> Result<(), Fault> {
        let Some(connection) = self.connections.get(id) else { return Ok(()) };
        let v5 = connection.version == Version::V5;
        self.check_user_properties(subscribe.properties)?;
        let identifier = subscribe.properties.subscription_identifier().and_then(NonZeroU32::new);
        let extras = Extras::of(subscribe.properties);
        let is_shared = |name| filter::parse(name).is_ok_and(|parsed| parsed.share.is_some());
        if subscribe.filters.iter().any(|(name, options)| options.no_local && is_shared(name)) {
            // [MQTT-3.8.3-4]; before any filter of the packet takes effect.
            let cause = "No Local on a shared subscription";
            return Err(Fault::new(ReasonCode::ProtocolError, cause));
        }
        self.check_count(subscribe.filters.iter().count())?;
        let mut codes = Vec::new();
        let mut refusals = Refusals::default();
        for (name, mut options) in subscribe.filters.iter() {
            options.qos = options.qos.min(self.dialect.max_qos);
            self.work += FILTER_WORK + filter_bytes(name) / BYTES_PER_WORK;
            let subscription = Subscription { options, identifier, only: extras.only, read: 0 };
            let code = match self.check_filter(session_id, name) {
                Ok(asked) => self.subscribe(session_id, name, &asked, subscription, extras.since),
                Err(refused) => Err(refused),
            };
            if let Ok(granted) = code {
                self.note_subscription(session_id, name);
                self.note_subscribed(session_id, name, granted, now);
            }
            codes.push(match code {
                Ok(granted) => granted as u8,
                Err((reason, cause)) => {
                    refusals.note(name, cause);
                    if v5 { reason.value() } else { ReasonCode::UnspecifiedError.value() }
                }
            });
        }
        for (cause, (filter, count)) in refusals.0 {
            self.work += LOG_WORK;
            warn!(
                client = self.client_id(session_id),
                filter, count, cause, "subscriptions refused"
            );
        }
        self.stats.subscriptions.set(self.subscriptions);
        let properties = Properties::none();
        let suback = Suback { packet_id: subscribe.packet_id, properties, codes: &codes };
        let durable = self.holder_of(session_id) != 0;
        self.answer(id, &Packet::Suback(suback), durable);
        self.pump(session_id, now);
        self.read_some(SLICE_VISITS, now);
        Ok(())
    }

    /// Whether one packet may hold so many topic filters.
    fn check_count(&self, filters: usize) -> Result<(), Fault> {
        match filters > self.limits.packet_filters {
            true => {
                let cause = "too many topic filters in one packet (limits.packet_filters)";
                Err(Fault::new(ReasonCode::QuotaExceeded, cause))
            }
            false => Ok(()),
        }
    }

    /// Whether the session may have another subscription, to this filter.
    fn check_room(&self, session: &Session, name: &str, is_shared: bool) -> Result<(), Refusal> {
        let groups = session.rare.as_ref().map_or(0, |rare| rare.groups.len());
        let limits = &self.limits;
        let cause = if session.subscription_count() >= limits.subscriptions {
            "too many subscriptions of one session (limits.subscriptions)"
        } else if session.subscription_bytes + filter_bytes(name) > limits.subscription_bytes {
            "too long topic filters of one session (limits.subscription_bytes)"
        } else if is_shared && groups >= limits.shared_subscriptions {
            "too many shared subscriptions of one session (limits.shared_subscriptions)"
        } else {
            return Ok(());
        };
        Err((ReasonCode::QuotaExceeded, cause))
    }

    pub(super) fn check_filter<'a>(
        &self,
        session: SessionId,
        name: &'a str,
    ) -> Result<Asked<'a>, Refusal> {
        let invalid = |cause| (ReasonCode::TopicFilterInvalid, cause);
        let parsed = self.commons.take_apart(name).map_err(invalid)?;
        let slashes = memchr::memchr_iter(b'/', parsed.inner.as_bytes()).count();
        if self.is_of_module(session) {
            Ok(parsed)
        } else if name.len() > self.limits.topic_bytes {
            Err(invalid("the topic filter is too long (limits.topic_bytes)"))
        } else if slashes >= self.limits.topic_levels {
            Err(invalid("the topic filter has too many levels (limits.topic_levels)"))
        } else {
            Ok(parsed)
        }
    }

    /// Whether whoever asks may have that; the only account whose messages it is for, or 0.
    fn check_rights(
        &self,
        principal: &Principal,
        only: u64,
        asked: &Asked<'_>,
    ) -> Result<u64, Refusal> {
        let refused = |cause| Err((ReasonCode::NotAuthorized, cause));
        let Some(only) = both(only, asked.only()) else {
            return refused("two accounts are asked for at once");
        };
        if only != 0 && !self.commons.is_in_branch(principal.account, only) {
            return refused("the account asked for is not one of the branch");
        }
        if self.commons.classes.reads_nothing_of(principal.class, asked.inner) {
            return refused("nothing that the topic filter matches may be read");
        }
        Ok(only)
    }

    /// Makes or replaces a subscription; the QoS granted.
    pub(super) fn subscribe(
        &mut self,
        session_id: SessionId,
        name: &str,
        parsed: &Asked<'_>,
        mut subscription: Subscription,
        since: Option<Wall>,
    ) -> Result<QoS, Refusal> {
        let Some(session) = self.sessions.get(session_id) else {
            return Err((ReasonCode::UnspecifiedError, "the session is gone"));
        };
        let SubscribeOptions { qos, retain_handling, .. } = subscription.options;
        let Subscription { identifier, only, .. } = subscription;
        let known = session.subscription(name).map(|known| known.read);
        let is_new = known.is_none();
        let (account, holder) = (session.principal.account, session.holder);
        let counts = is_new && !session.principal.is_broker();
        let only = self.check_rights(&session.principal, only, parsed)?;
        if counts {
            self.check_room(session, name, parsed.share.is_some())?;
        }
        if let Some(cause) = self.refused_work().filter(|_| holder != 0) {
            return Err((ReasonCode::QuotaExceeded, cause));
        }
        if counts && !self.commons.tallies.take(account, Measure::Subscriptions, 1, 0) {
            return Err((ReasonCode::QuotaExceeded, SUBSCRIPTIONS));
        }
        // [MQTT-3.3.1-9] to [MQTT-3.3.1-11].
        let send_retained = match retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        self.reads += u64::from(send_retained);
        subscription.read = known.filter(|_| !send_retained).unwrap_or(self.reads);
        if let Some(session) = self.sessions.get_mut(session_id) {
            session.subscribe(name, subscription);
        }
        self.subscriptions += usize::from(counts);
        self.place_subscription(session_id, name, parsed, &subscription);
        if parsed.share.is_some() {
            return Ok(qos);
        }
        let selectors = self.dialect.selectors;
        if send_retained
            && let Some(cursor) = self.commons.read_retained(account, only, parsed.inner, selectors)
        {
            let number = subscription.read;
            let follows = match holder {
                0 => 0,
                _ => self.journal.as_deref().map_or(0, |journal| journal.number()),
            };
            let (filter, condition) = (name.into(), parsed.condition.clone());
            let read = Read { filter, cursor, qos, identifier, number, follows, condition, since };
            let Some(session) = self.sessions.get_mut(session_id) else { return Ok(qos) };
            session.queue_read(read);
        }
        Ok(qos)
    }

    /// Notes what the session asks of a topic filter.
    pub(super) fn note_subscription(&mut self, session_id: SessionId, name: &str) {
        let Some(session) = self.sessions.get(session_id) else { return };
        if session.holder != 0
            && let Some(subscription) = session.subscription(name)
            && let Some(journal) = self.journal.as_deref_mut()
        {
            journal.note(&subscribe_event(session, name, subscription));
        }
    }

    /// What the session may read is what its new class may.
    pub(super) fn reclassify(&mut self, session_id: SessionId) {
        let Some(session) = self.sessions.get(session_id) else { return };
        let all: Vec<(Box<str>, Subscription)> =
            session.all_subscriptions().map(|(name, known)| (name.into(), *known)).collect();
        for (name, subscription) in all {
            if let Ok(asked) = self.commons.take_apart(&name) {
                self.place_subscription(session_id, &name, &asked, &subscription);
            }
        }
    }

    /// From now on the session gets what it asked for.
    pub(super) fn place_subscription(
        &mut self,
        session_id: SessionId,
        name: &str,
        asked: &Asked<'_>,
        subscription: &Subscription,
    ) {
        let Some(session) = self.sessions.get(session_id) else { return };
        let Principal { account, class, .. } = session.principal;
        let Subscription { options, identifier, only, .. } = *subscription;
        let SubscribeOptions { qos, no_local, retain_as_published, .. } = options;
        let (holder, session) = (session.holder, session_id);
        let Some(only) = both(only, asked.only()) else { return };
        if asked.share.is_some() {
            let seat = Seat { session, holder, qos, retain_as_published, identifier, class, only };
            return self.join_group(name, asked, seat);
        }
        let subscriber = Subscriber {
            session,
            holder,
            qos,
            no_local,
            retain_as_published,
            identifier,
            class,
            only,
            condition: asked.condition.clone(),
        };
        self.commons.subscribe(account, asked.inner, subscriber);
    }

    fn join_group(&mut self, name: &str, asked: &Asked<'_>, seat: Seat) {
        let Some(session) = self.sessions.get_mut(seat.session) else { return };
        let (account, is_online) = (session.principal.account, session.connection.is_some());
        let lot = lot(&session.owner());
        let rare = session.rare();
        rare.presence.set_online(is_online);
        let presence = Arc::clone(&rare.presence);
        let group = self.commons.join(account, name, asked, Member { seat, presence, lot });
        if !rare.groups.iter().any(|known| Arc::ptr_eq(known, &group)) {
            rare.groups.push(group);
        }
    }

    pub(super) fn handle_unsubscribe(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        unsubscribe: &Unsubscribe<'_>,
        now: Now,
    ) -> Result<(), Fault> {
        self.check_user_properties(unsubscribe.properties)?;
        self.check_count(unsubscribe.filters.iter().count())?;
        let holder = self.holder_of(session_id);
        let mut codes = Vec::new();
        for name in unsubscribe.filters.iter() {
            self.work += 1 + filter_bytes(name) / BYTES_PER_WORK;
            let reason = match self.unsubscribe(session_id, name) {
                true => {
                    self.note(holder, &Event::Unsubscribe { holder, filter: name });
                    self.note_unsubscribed(session_id, name, now);
                    ReasonCode::Success
                }
                false => ReasonCode::NoSubscriptionExisted,
            };
            codes.push(reason.value());
        }
        if let Some(session) = self.sessions.get_mut(session_id) {
            session.shrink();
        }
        self.stats.subscriptions.set(self.subscriptions);
        let properties = Properties::none();
        let unsuback = Unsuback { packet_id: unsubscribe.packet_id, properties, codes: &codes };
        self.answer(id, &Packet::Unsuback(unsuback), holder != 0);
        Ok(())
    }

    /// Removes a subscription; whether there was one.
    pub(super) fn unsubscribe(&mut self, session_id: SessionId, name: &str) -> bool {
        let Some(session) = self.sessions.get_mut(session_id) else { return false };
        if !session.unsubscribe(name) {
            return false;
        }
        let account = session.principal.account;
        if !session.principal.is_broker() {
            self.subscriptions -= 1;
            self.commons.tallies.remove(account, Measure::Subscriptions, 1);
        }
        match self.commons.take_apart(name) {
            Ok(Asked { share: Some(_), .. }) => self.leave_group(account, session_id, name),
            Ok(asked) => self.commons.unsubscribe(account, &asked, session_id),
            // It was not taken in.
            Err(_) => {}
        }
        if let Some(session) = self.sessions.get_mut(session_id) {
            session.unsubscribed = self.commons.epoch();
        }
        true
    }

    /// A member leaves for good. What was sent to it stays with its session: that delivery is
    /// completed [MQTT-3.10.4-3], and until then takes a place in the client's window.
    fn leave_group(&mut self, account: u64, session_id: SessionId, name: &str) {
        if let Some(session) = self.sessions.get_mut(session_id) {
            session.rare().groups.retain(|known| *known.filter != *name);
        }
        let lost = self.commons.part(account, name, session_id);
        self.stats.dropped(Drop::SessionEnded, lost);
    }

    /// Returns the session's unacknowledged shared messages to their groups, in order.
    pub(super) fn give_back(
        &mut self,
        session_id: SessionId,
        now: Now,
        of: impl FnMut(&Arc<Group>) -> bool,
    ) {
        let Some(session) = self.sessions.get_mut(session_id) else { return };
        let before = session.outbound.memory();
        let taken = session.outbound.take_shared(of);
        self.queued_bytes = self.queued_bytes + session.outbound.memory() - before;
        self.count_stored(session_id);
        let mut groups: Vec<(Arc<Group>, usize)> = Vec::new();
        for mut pending in taken.into_iter().rev() {
            let before = pending.recorded();
            let Some(group) = pending.manner.group.take() else { continue };
            pending.manner.qos = pending.message.qos();
            if !self.take_back(&group, pending, before) {
                continue;
            }
            match groups.iter_mut().find(|(known, _)| Arc::ptr_eq(known, &group)) {
                Some((_, count)) => *count += 1,
                None => groups.push((group, 1)),
            }
        }
        for (group, count) in groups {
            // Only what nobody takes has to wait, and may be too much.
            self.drain_group(&group, None, count, now);
            self.trim_backlog(&group, &mut group.lock());
        }
    }

    /// Puts a message that was a member's at the head of the group's backlog; whether it waits.
    fn take_back(&mut self, group: &Arc<Group>, mut pending: Pending, before: Recorded) -> bool {
        let mut turns = group.lock();
        let holder = if turns.is_lasting() { group.holder } else { 0 };
        pending.manner.holder = holder;
        let (number, qos) = (pending.message.number(), pending.manner.qos);
        if holder != 0 && number == 0 {
            // Where the journal does not know it, nobody was promised that it lasts.
            pending.manner.holder = 0;
        } else {
            if holder != 0 {
                self.renew_kept(&pending.message);
                let to = Ref::in_group(holder, qos, pending.manner.retain);
                self.note(holder, &Event::Ref { number, to });
            }
            if holder != before.holder {
                self.note_done(before);
            }
        }
        let noted =
            if pending.manner.holder != 0 { self.noted_in(group) } else { Noted::default() };
        let waits = turns.take_back(pending, noted);
        drop(turns);
        if !waits {
            self.stats.dropped(Drop::Backlog, 1);
        }
        waits
    }

    /// Lets the session's reads have their turns, if it has any.
    pub(super) fn queue_reader(&mut self, session_id: SessionId) {
        let Some(session) = self.sessions.get_mut(session_id) else { return };
        let Some(rare) = &mut session.rare else { return };
        if !rare.reads.is_empty() && !rare.reading {
            rare.reading = true;
            self.readers.push_back(session_id);
        }
    }

    /// Goes on with reads of retained messages, each in its turn.
    pub(super) fn read_some(&mut self, visits: usize, now: Now) {
        for _ in 0..visits.div_ceil(SLICE_VISITS) {
            let Some(session_id) = self.readers.pop_front() else { return };
            if self.read_slice(session_id, now) {
                self.readers.push_back(session_id);
            }
        }
    }

    pub(super) fn read_turn(&mut self, now: Now) {
        self.read_some(TURN_VISITS, now);
    }

    /// Sends one slice of the session's first read; whether it can go on at once.
    fn read_slice(&mut self, session_id: SessionId, now: Now) -> bool {
        let Some(session) = self.sessions.get_mut(session_id) else { return false };
        let Some(rare) = &mut session.rare else { return false };
        let connection = session.connection.and_then(|id| self.connections.get(id));
        let room = connection.is_some_and(|c| c.output_len() <= READ_OUTPUT_BYTES);
        // Behind what waits already, and within the window: a read never fills a queue.
        if !room || !session.outbound.has_room() {
            rare.reading = false;
            return false;
        }
        let Some(mut read) = session.next_read() else {
            session.rare().reading = false;
            session.shrink();
            return false;
        };
        if self.journal.as_deref().is_some_and(|journal| read.follows > journal.durable()) {
            // Clients look for SUBACK first.
            let rare = session.rare();
            rare.reads.push_front(read);
            rare.reading = false;
            return false;
        }
        let places = match read.qos {
            QoS::AtMostOnce => SLICE_VISITS,
            _ => session.outbound.room(),
        };
        let mut slice = std::mem::take(&mut self.slice);
        let complete = read
            .cursor
            .next(now.wall, SLICE_VISITS, |item| slice.take(item, places, READ_OUTPUT_BYTES));
        let identifiers = read.identifier.map_or(Identifiers::None, Identifiers::One);
        for (_, found) in slice.iter() {
            self.send_retained(session_id, found, &read, &identifiers, now);
        }
        slice.clear();
        self.slice = slice;
        if let Some(session) = self.sessions.get_mut(session_id)
            && !complete
        {
            session.rare().reads.push_front(read);
        }
        true
    }

    /// Whether a retained message is what a read looks for.
    fn is_asked_for(&mut self, read: &Read, class: u32, parts: &Parts<'_>, now: Wall) -> bool {
        let names_reserved = || {
            let asked = self.commons.take_apart(&read.filter);
            asked.is_ok_and(|asked| !asked.inner.starts_with(['+', '#']))
        };
        // Who has no token gets what is the broker's own only by its first level.
        let is_topic_reserved = is_reserved(parts.topic);
        if class == ANONYMOUS_CLASS && is_topic_reserved && !names_reserved() {
            return false;
        }
        if read.since.is_some_and(|since| !is_newer(parts, since)) {
            return false;
        }
        let Some(condition) = &read.condition else { return true };
        let view = View::new(*parts, account_of(parts), now);
        let holds = condition.is_modified(parts) && view.meets(condition);
        self.work += view.work();
        holds
    }

    fn send_retained(
        &mut self,
        session_id: SessionId,
        found: Found<'_>,
        read: &Read,
        identifiers: &Identifiers,
        now: Now,
    ) {
        let loaded;
        let mut outgoing = match found {
            Found::Small { parts, qos, expiry } => {
                Outgoing::new(Source { parts, expiry, packet: None }, qos, true, None)
            }
            Found::Large(kept) => {
                let Some(message) = self.load_retained(kept) else { return };
                loaded = message;
                Outgoing::kept(&loaded, None)
            }
        };
        let Some(session) = self.sessions.get(session_id) else { return };
        let class = session.principal.class;
        if !self.may(class, Action::Subscribe, outgoing.source.parts.topic)
            || !self.is_asked_for(read, class, &outgoing.source.parts, now.wall)
        {
            return;
        }
        let Some(session) = self.sessions.get(session_id) else { return };
        let terms = Terms {
            qos: read.qos.min(outgoing.qos),
            retain: true,
            identifiers,
            group: None,
            holder: session.holder,
            at_once: true,
        };
        self.forms.clear();
        if terms.qos != QoS::AtMostOnce {
            let is_large = outgoing.stored.is_some();
            outgoing.is_written = outgoing.stored.as_ref().is_some_and(|message| {
                // Recovery knows it by its number, whoever else is done with it.
                let is_placed = message.entry().is_some_and(|entry| entry.position().is_some());
                is_placed || self.is_in_batch(message)
            });
            // A slice is no larger than the window.
            self.deliver_surely(session_id, &terms, &mut outgoing, now);
            if self.write_down(&mut outgoing)
                && is_large
                && let Some(journal) = self.journal.as_deref_mut()
            {
                journal.mark_moving(outgoing.number());
            }
        } else if let Some(id) = session.connection {
            let (qos, retain) = (terms.qos, terms.retain);
            let delivery = Delivery { id: None, qos, retain, duplicate: false, identifiers };
            self.append(id, &outgoing.source, &delivery, now.wall);
        }
    }
}
