//! What is written down, and what waits for it.

use std::sync::Arc;

use longshore_codec::{Connack, Packet, PacketId, Properties, QoS, ReasonCode};
use longshore_storage::{Batch, ReadError, Ticket};
use tracing::error;

use super::config::RECORD_WORK;
use super::deliver::Outgoing;
use super::{Fault, Shard, Unsettled, close_code};
use crate::clock::Now;
use crate::connection::{ConnectionId, Stage};
use crate::journal::{Lost, Taking};
use crate::message::{Entry, Identifiers, Kept, Message};
use crate::output::Output;
use crate::record::{Event, Head, Ref, SessionEvent, WillEvent};
use crate::session::{Manner, Pending, Recorded, Session, SessionId, Subscription, Will};

impl Shard {
    /// What this turn has written down and is to be appended to the journal before the turn's mail
    /// and output go out; `None` when there is nothing. [`Shard::appended`] is to follow.
    pub fn batch(&mut self) -> Option<&mut Batch> {
        let journal = self.journal.as_deref_mut()?;
        if journal.bytes() == 0 {
            if journal.is_awaited() {
                journal.appended(None);
            }
            return None;
        }
        Some(journal.batch())
    }

    /// The batch was appended: it is durable once `ticket` is.
    pub fn appended(&mut self, ticket: Ticket) {
        if let Some(journal) = self.journal.as_deref_mut() {
            journal.appended(Some(ticket));
            self.commons.set_appended(self.number, journal.number() - 1);
            while let Some((account, topic, sequence)) = journal.next_retained() {
                self.commons.retained.of(account).leave_to_disk(&topic, sequence);
            }
        }
    }

    /// Everything up to `ticket` is durable: what waited for it goes out.
    pub fn durable(&mut self, ticket: Ticket) {
        let Some(journal) = self.journal.as_deref_mut() else { return };
        if !journal.reached(ticket) {
            return;
        }
        let durable = journal.durable();
        while let Some(id) = self.journal.as_deref_mut().and_then(|journal| journal.released()) {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if let Some(gate) = &mut connection.gate {
                gate.release(durable, &mut connection.output, &mut self.spare);
            }
            if let Stage::Online(session) = connection.stage {
                self.queue_reader(session);
            }
            self.mark(id);
        }
    }

    /// Whether anything is to go out, or on, once it is durable.
    #[must_use]
    pub fn awaits_journal(&self) -> bool {
        self.tasks.await_journal()
            || self.journal.as_deref().is_some_and(|journal| journal.is_waiting())
    }

    /// Bytes written down and not appended yet.
    #[must_use]
    pub fn unappended(&self) -> usize {
        self.journal.as_deref().map_or(0, |journal| journal.bytes())
    }

    /// Tells whether the journal takes new work.
    pub fn set_taking(&mut self, taking: Taking, now: Now) {
        if let Some(journal) = self.journal.as_deref_mut() {
            match taking {
                Taking::Nothing => {
                    journal.give_up();
                    self.commons.set_appended(self.number, u64::MAX);
                }
                taking => journal.taking = taking,
            }
        }
        self.settle(now);
    }

    /// The next work that the end of a step does.
    pub(super) fn next_unsettled(&mut self) -> Option<Unsettled> {
        let next = self.unsettled.pop_front();
        next.or_else(|| self.journal.as_deref_mut()?.forsaken().map(Unsettled::Forsaken))
    }

    /// Ends a connection that is owed what will never be durable. A client would wait for its
    /// acknowledgement as long as the connection lives; now it may try again, and is told.
    pub(super) fn forsake(&mut self, id: ConnectionId, now: Now) {
        let cause = "what was to be durable is not: the disk has failed";
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Stage::Online(session) = connection.stage else { return };
        if !connection.is_held_back() {
            return self.fail(id, Fault::new(ReasonCode::UnspecifiedError, cause), now);
        }
        // Nothing has left yet, and nothing of it will: its CONNACK can still say so.
        (connection.output, connection.gate) = (Output::default(), None);
        let reason = ReasonCode::ServerUnavailable;
        self.log_end(id, session, (close_code(reason), &cause), now);
        let properties = Properties::none();
        let connack = Connack { session_present: false, reason, properties };
        self.send(id, &Packet::Connack(connack));
        self.close(id, false, now);
    }

    /// Tells whether the journal is behind: then clients whose packets have to be durable are not
    /// read, until it is not.
    pub fn set_behind(&mut self, behind: bool, now: Now) {
        if std::mem::replace(&mut self.behind, behind) && !behind {
            self.read_held(now);
        }
    }

    /// Reads no more from who has just caused what has to be durable, while the journal is behind.
    pub(super) fn hold_if_behind(&mut self, id: ConnectionId) {
        if self.behind
            && let Some(connection) = self.connections.get_mut(id)
            && !std::mem::replace(&mut connection.held, true)
        {
            self.held.push(id);
        }
    }

    /// Why new work that has to be durable is refused, if it is.
    pub(super) fn refused_work(&self) -> Option<&'static str> {
        self.journal.as_deref()?.taking.trouble()
    }

    /// A number for a new session, 0 when it is not to outlive the process.
    pub(super) fn new_holder(&self, expiry_secs: u32) -> u64 {
        match self.journal.is_some() && expiry_secs > 0 {
            true => self.commons.next_holder(),
            false => 0,
        }
    }

    /// Notes an event, if it is one of a holder that the journal knows.
    #[inline]
    pub(super) fn note(&mut self, holder: u64, event: &Event<'_>) {
        if holder != 0
            && let Some(journal) = self.journal.as_deref_mut()
        {
            journal.note(event);
        }
    }

    pub(super) fn holder_of(&self, session: SessionId) -> u64 {
        self.sessions.get(session).map_or(0, |session| session.holder)
    }

    /// Notes that a message is done with.
    #[inline]
    pub(super) fn note_done(&mut self, recorded: Recorded) {
        let Recorded { holder, number, group } = recorded;
        self.note(holder, &Event::Done { holder, number, group });
    }

    /// Notes what the session is, as the first of its events or after a change.
    pub(super) fn note_session(&mut self, id: SessionId, fresh: bool) {
        let Some(session) = self.sessions.get(id) else { return };
        if let holder @ 1.. = session.holder
            && let Some(journal) = self.journal.as_deref_mut()
        {
            let session = session_event(session);
            journal.note(&Event::Session { holder, fresh, session });
        }
    }

    /// Notes the session's will, if it still has one.
    pub(super) fn note_will(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(id) else { return };
        if let (holder @ 1.., Some(will)) = (session.holder, session.will())
            && let Some(journal) = self.journal.as_deref_mut()
        {
            journal.note(&Event::Will { holder, will: will_event(will) });
        }
    }

    /// The message's place in the journal, to be written down by [`Shard::write_down`].
    pub(super) fn enter(&mut self, outgoing: &mut Outgoing<'_>) -> Arc<Message> {
        let message = outgoing.stored();
        if message.entry().is_none()
            && let Some(journal) = self.journal.as_deref_mut()
        {
            let Message { qos, expiry, .. } = *message;
            let entry = Entry::new(journal.next_message(), message.size(), qos, expiry);
            message.enter(Arc::new(entry));
            outgoing.is_written = false;
        }
        message
    }

    /// Notes for whom a message waits, and under which packet id it was sent. A message that is
    /// written down already gets an event, others are [written down](Shard::write_down) with it.
    pub(super) fn refer(&mut self, outgoing: &mut Outgoing<'_>, to: Ref) {
        let written = outgoing.is_written;
        let number = outgoing.number();
        if written && let Some(message) = outgoing.stored.clone() {
            self.renew(&message);
        }
        let Some(journal) = self.journal.as_deref_mut() else { return };
        if !written {
            journal.refer(&to);
            return;
        }
        let (before, holder) = (std::mem::take(&mut outgoing.held_by), to.holder);
        journal.note(&Event::Ref { number, to });
        if before != 0 && before != holder {
            journal.note(&Event::Done { holder: before, number, group: outgoing.held_in });
        }
    }

    /// Writes the message down, if anything is to be remembered of it. Whether it was.
    pub(super) fn write_down(&mut self, outgoing: &mut Outgoing<'_>) -> bool {
        let Some(journal) = self.journal.as_deref_mut() else { return false };
        let is_due = journal.has_refs() || outgoing.sequence.is_some() || outgoing.will_of != 0;
        if outgoing.is_written || !is_due {
            if let Some((holder, packet_id)) = outgoing.inbound {
                journal.note(&Event::Inbound { holder, packet_id });
            }
            return outgoing.inbound.is_some();
        }
        let entry = outgoing.stored.as_ref().and_then(|message| message.entry());
        let head = Head {
            number: entry.map_or(0, |entry| entry.number),
            qos: outgoing.qos,
            retain: outgoing.retain,
            expiry: outgoing.source.expiry,
            sequence: outgoing.sequence,
            inbound: outgoing.inbound,
            will_of: (outgoing.will_of != 0).then_some(outgoing.will_of),
            account: outgoing.account,
            is_copy: false,
        };
        journal.push_message(&head, &outgoing.source.parts, entry);
        self.work += RECORD_WORK;
        outgoing.is_written = true;
        true
    }

    /// Whether a message of this kind would have to be remembered by someone on this route.
    pub(super) fn would_last(&self, route: &crate::cache::Route, qos: QoS) -> bool {
        let lasts = |target: &crate::cache::Target| {
            target.holder != 0 && target.qos.min(qos) > QoS::AtMostOnce
        };
        let may_last =
            |it: &crate::index::Subscriber| it.holder != 0 && it.qos.min(qos) > QoS::AtMostOnce;
        qos > QoS::AtMostOnce
            && (route.targets.iter().any(lasts)
                || route.conditional.iter().flatten().any(may_last)
                || route.remote.iter().any(|(_, targets)| targets.iter().any(lasts))
                || route.groups.iter().any(|(group, _)| group.lock().is_lasting()))
    }

    /// Appends an answer to a client. One that is `durable` leaves when what it promises is; all
    /// leave in the order of the packets they answer.
    pub(super) fn answer(&mut self, id: ConnectionId, packet: &Packet<'_>, durable: bool) {
        if durable {
            self.hold_if_behind(id);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        let waits = connection.gate.as_ref().is_some_and(|gate| !gate.is_empty());
        let Some(journal) = self.journal.as_deref_mut().filter(|_| durable || waits) else {
            return self.send(id, packet);
        };
        let gate = connection.gate.get_or_insert_default();
        let before = gate.len();
        let out = gate.output().tail(&mut self.spare);
        let start = out.len();
        longshore_codec::encode(connection.version, packet, out);
        if out.len() - start > connection.packet_max as usize {
            out.truncate(start);
            self.unsettled.push_back(Unsettled::Unsendable(id));
        }
        if gate.wait(journal.number(), before) {
            journal.wait(id);
        }
    }

    /// Nothing leaves the connection until what was written down so far is durable: its CONNACK is
    /// the first.
    pub(super) fn hold(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(journal) = self.journal.as_deref_mut() else { return };
        connection.gate.get_or_insert_default().hold(journal.number());
        journal.wait(id);
    }

    /// A message that waits, from the journal if need be; `None` when the journal has lost it,
    /// which the log hears of.
    pub(super) fn load(&mut self, kept: &Kept) -> Option<Arc<Message>> {
        if let Kept::Memory(message) = kept {
            return Some(Arc::clone(message));
        }
        let loaded = self.journal.as_deref_mut()?.load(kept);
        self.work += RECORD_WORK;
        if let Err(cause) = &loaded {
            error!(%cause, number = kept.number(), "a message cannot be read and is lost");
        }
        loaded.ok()
    }

    /// A retained message that was found, from the journal if need be.
    pub(super) fn load_retained(&mut self, kept: &Kept) -> Option<Arc<Message>> {
        if let Kept::Memory(message) = kept {
            return Some(Arc::clone(message));
        }
        match self.journal.as_deref_mut()?.load(kept) {
            Ok(message) => Some(message),
            // It was not retained any more when the journal was compacted: whoever reads gets what
            // came in its place from its publisher.
            Err(Lost::Read(ReadError::Gone(_))) => None,
            Err(cause) => {
                error!(%cause, number = kept.number(), "a retained message cannot be read");
                None
            }
        }
    }

    /// Notes under which packet id a message that has waited was sent.
    pub(super) fn note_sent(&mut self, pending: &Pending, packet_id: PacketId) {
        let holder = pending.manner.holder;
        if holder != 0 {
            let to = pending.manner.to_ref(Some(packet_id));
            self.note(holder, &Event::Ref { number: pending.message.number(), to });
        }
    }

    /// Whether a session that is to last may begin, or go on where one is `known`.
    pub(super) fn check_storage(&self, known: bool) -> Result<(), Fault> {
        match self.journal.as_deref().map(|journal| journal.taking) {
            Some(Taking::Relief) if !known => {
                let cause = "no new session that is to last: the disk is full";
                Err(Fault::new(ReasonCode::QuotaExceeded, cause))
            }
            Some(Taking::Nothing) => {
                let cause = "no session that is to last: the disk has failed";
                Err(Fault::new(ReasonCode::ServerUnavailable, cause))
            }
            _ => Ok(()),
        }
    }

    /// Whether a session of the journal has ended in this step.
    pub(super) fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Notes which sessions have ended, once all that follows from it is noted.
    pub(super) fn note_ended(&mut self) {
        while let Some(holder) = self.ended.pop() {
            self.note(holder, &Event::End { holder });
        }
    }

    /// Whether the connection is that of a session that the journal knows.
    pub(super) fn lasts(&self, id: ConnectionId) -> bool {
        match self.connections.get(id).map(|connection| connection.stage) {
            Some(Stage::Online(session)) => self.holder_of(session) != 0,
            _ => false,
        }
    }
}

/// The session as it is written down.
pub(super) fn session_event(session: &Session) -> SessionEvent<'_> {
    let principal = session.principal;
    SessionEvent {
        account: principal.account,
        class: principal.class,
        token: principal.token,
        anonymous: principal.anonymous,
        expiry_secs: session.expiry_secs,
        left: session.left,
        client_id: &session.client_id,
    }
}

/// What the session asks of a topic filter, as it is written down.
pub(super) fn subscribe_event<'a>(
    session: &Session,
    filter: &'a str,
    subscription: &Subscription,
) -> Event<'a> {
    let groups = session.rare.as_ref().map_or(&[][..], |rare| &rare.groups);
    let group = groups.iter().find(|group| *group.filter == *filter);
    Event::Subscribe {
        holder: session.holder,
        options: subscription.options,
        identifier: subscription.identifier,
        only: subscription.only,
        group: group.map_or(0, |group| group.holder),
        filter,
    }
}

pub(super) fn will_event(will: &Will) -> WillEvent<'_> {
    WillEvent {
        parts: will.message.parts(),
        qos: will.message.qos,
        retain: will.message.retain,
        delay_secs: will.delay_secs,
        expiry_secs: will.expiry_secs,
    }
}

impl Manner {
    /// It as it is written down.
    pub(super) fn to_ref(&self, packet_id: Option<PacketId>) -> Ref {
        Ref {
            holder: self.holder,
            qos: self.qos,
            retain: self.retain,
            packet_id,
            group: self.group_holder(),
            again: self.again,
            identifiers: self.identifiers.clone(),
        }
    }
}

impl Ref {
    /// Of a message that waits in a group.
    pub(super) fn in_group(holder: u64, qos: QoS, retain: bool) -> Self {
        let identifiers = Identifiers::None;
        let (packet_id, group, again) = (None, 0, false);
        Self { holder, qos, retain, packet_id, group, again, identifiers }
    }
}
