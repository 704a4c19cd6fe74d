//! From a route to the outputs and queues of its targets.

use std::sync::Arc;

use longshore_acl::{Action, ROOT_ACCOUNT};
use longshore_codec::{Ack, Packet, PacketId, Properties, QoS, ReasonCode};
use tracing::{debug, warn};

use super::{Shard, Unsettled};
use crate::cache::{Local, Route, Target};
use crate::clock::{Now, Wall};
use crate::connection::ConnectionId;
use crate::form::{Delivery, Source, TooLarge, append_single};
use crate::message::{Entry, Identifiers, Kept, Message, Parts};
use crate::record::{GROUP_BIT, Ref};
use crate::session::{Manner, Pending, Place, Recorded, SessionId, Step};
use crate::share::Group;
use crate::stamp::unstamped;
use crate::stats::Drop;

mod selective;

/// Bytes of output that every client may have, however much the others have.
const OUTPUT_MIN: usize = 64 << 10;

/// Bytes of a payload that cost one step of work for each receiver.
const BYTES_PER_WORK: usize = 256;

/// A message on its way to everybody who gets it.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) source: Source<'a>,
    pub(super) qos: QoS,
    /// RETAIN as published.
    pub(super) retain: bool,
    pub(super) publisher: Option<SessionId>,
    /// The message as it is kept, made when the first receiver needs to keep it.
    pub(super) stored: Option<Arc<Message>>,
    /// Whether its record stands in the journal: who else waits for it is an event.
    pub(super) is_written: bool,
    /// Whether everybody who gets it now stands in its record.
    pub(super) is_referred: bool,
    /// For whom the journal has it, if whoever gets it now takes their place; else 0.
    pub(super) held_by: u64,
    /// The group through which those have it; 0 for none.
    pub(super) held_in: u64,
    /// It is retained, as the so many-th.
    pub(super) sequence: Option<u64>,
    /// The lasting session that published it at QoS 2, and its packet id there.
    pub(super) inbound: Option<(u64, PacketId)>,
    /// The lasting session whose will it is; else 0.
    pub(super) will_of: u64,
    /// Whether it is to be retained.
    pub(super) is_retained: bool,
    /// The account in which it is published.
    pub(super) account: u64,
    /// When it was published, where its publisher says so and that counts.
    pub(super) time: Option<Wall>,
    /// Where it stands for those of this shard who wait for it on the disk.
    pub(super) place: Place<Arc<Entry>>,
}

impl<'a> Outgoing<'a> {
    /// A message that came in.
    pub(super) fn new(
        source: Source<'a>,
        qos: QoS,
        retain: bool,
        publisher: Option<SessionId>,
    ) -> Self {
        Self {
            source,
            qos,
            retain,
            publisher,
            stored: None,
            is_written: false,
            is_referred: false,
            held_by: 0,
            held_in: 0,
            sequence: None,
            inbound: None,
            will_of: 0,
            is_retained: false,
            account: ROOT_ACCOUNT,
            time: None,
            place: None,
        }
    }

    /// A message that is kept already.
    pub(super) fn kept(message: &'a Arc<Message>, publisher: Option<SessionId>) -> Self {
        let source = Source { parts: message.parts(), expiry: message.expiry, packet: None };
        Self {
            stored: Some(Arc::clone(message)),
            is_written: message.entry().is_some(),
            ..Self::new(source, message.qos, message.retain, publisher)
        }
    }

    /// Whether the journal does not know yet that this holder gets it.
    pub(super) fn needs_ref(&self, holder: u64) -> bool {
        holder != 0 && holder != self.held_by && !self.is_referred
    }

    /// Its number in the journal, or 0.
    pub(super) fn number(&self) -> u64 {
        let entry = self.stored.as_ref().and_then(|message| message.entry());
        entry.map_or(0, |entry| entry.number)
    }

    pub(super) fn stored(&mut self) -> Arc<Message> {
        let Self { source, qos, retain, .. } = self;
        let make = || Arc::new(Message::new(source.parts, *qos, *retain, source.expiry));
        Arc::clone(self.stored.get_or_insert_with(make))
    }
}

/// How one receiver gets a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) qos: QoS,
    pub(super) retain: bool,
    pub(super) identifiers: &'a Identifiers,
    pub(super) group: Option<&'a Arc<Group>>,
    /// For whom the journal is to have it; 0 for nobody.
    pub(super) holder: u64,
    /// Whether it is sent now if the window has room, however much output waits: the caller has
    /// looked.
    pub(super) at_once: bool,
}

impl Terms<'_> {
    /// They as they are written down.
    fn to_ref(self, packet_id: Option<PacketId>) -> Ref {
        if self.holder & GROUP_BIT != 0 {
            return Ref::in_group(self.holder, self.qos, self.retain);
        }
        Ref {
            holder: self.holder,
            qos: self.qos,
            retain: self.retain,
            packet_id,
            group: self.group.map_or(0, |group| group.holder),
            again: false,
            identifiers: self.identifiers.clone(),
        }
    }
}

impl Shard {
    /// Gives the message to all targets of the route; how many there are.
    #[inline]
    pub(super) fn distribute(
        &mut self,
        route: &Route,
        outgoing: &mut Outgoing<'_>,
        now: Now,
    ) -> usize {
        self.forms.clear();
        // What is written is copied, by us or by the system.
        self.work += route.len() * (1 + outgoing.source.parts.payload.len() / BYTES_PER_WORK);
        let mut reached = 0;
        for target in &route.targets {
            reached += usize::from(self.deliver_to_target(target, outgoing, now));
        }
        for (shard, targets) in &route.remote {
            reached += targets.len();
            self.post(*shard, targets, outgoing);
        }
        if !route.conditional.is_empty() || !route.groups.is_empty() {
            reached += self.distribute_selectively(route, outgoing, now);
        }
        reached
    }

    /// Gives the message to one target; false where No Local spares it.
    #[inline]
    pub(super) fn deliver_to_target(
        &mut self,
        target: &Target,
        outgoing: &mut Outgoing<'_>,
        now: Now,
    ) -> bool {
        let target = match &target.local {
            _ if outgoing.publisher != Some(target.session) => target,
            Local::Same => target,
            Local::Nothing => return false,
            Local::Other(rest) => rest,
        };
        let terms = Terms {
            qos: outgoing.qos.min(target.qos),
            // [MQTT-3.3.1-12], [MQTT-3.3.1-13].
            retain: outgoing.retain && target.retain_as_published,
            identifiers: &target.identifiers,
            group: None,
            holder: target.holder,
            at_once: false,
        };
        self.deliver(target.session, terms, outgoing, now);
        true
    }

    /// Gives the message to one session: written, in flight, or queued.
    #[inline]
    pub(super) fn deliver(
        &mut self,
        to: SessionId,
        terms: Terms<'_>,
        outgoing: &mut Outgoing<'_>,
        now: Now,
    ) {
        if terms.qos != QoS::AtMostOnce {
            return self.deliver_surely(to, &terms, outgoing, now);
        }
        let output_max = self.output_max();
        let Some(session) = self.sessions.get(to) else { return };
        // [MQTT-4.3.1-1]: QoS 0 is for those who are there.
        let Some(id) = session.connection else { return };
        let Some(connection) = self.connections.get(id) else { return };
        if connection.output_len() > output_max {
            return self.drop_for(to);
        }
        let Terms { qos, retain, identifiers, .. } = terms;
        let delivery = Delivery { id: None, qos, retain, duplicate: false, identifiers };
        match outgoing.qos {
            QoS::ExactlyOnce => {
                let is_noted = outgoing.inbound.is_some();
                self.append_in_order(id, &outgoing.source, &delivery, is_noted, now.wall)
            }
            _ => self.append(id, &outgoing.source, &delivery, now.wall),
        };
    }

    /// Gives a message of QoS 1 or 2 to one session.
    #[inline]
    pub(super) fn deliver_surely(
        &mut self,
        to: SessionId,
        terms: &Terms<'_>,
        outgoing: &mut Outgoing<'_>,
        now: Now,
    ) {
        let output_max = self.output_max();
        let message = match terms.holder {
            0 => outgoing.stored(),
            _ => self.enter(outgoing),
        };
        let Some(session) = self.sessions.get_mut(to) else { return };
        let connection = session.connection.and_then(|id| self.connections.get(id));
        let size = message.size();
        let manner = Manner {
            qos: terms.qos,
            retain: terms.retain,
            identifiers: terms.identifiers.clone(),
            group: terms.group.cloned(),
            holder: terms.holder,
            again: false,
        };
        let pending = Pending { message: Kept::Memory(message), manner };
        let room = session.outbound.has_room()
            && connection.is_some_and(|c| terms.at_once || c.output_len() <= output_max);
        let Some(id) = session.connection.filter(|_| room) else {
            return self.enqueue(to, pending, outgoing);
        };
        self.queued_bytes += size;
        let packet_id = session.outbound.send(pending);
        let Terms { qos, retain, identifiers, .. } = *terms;
        let delivery = Delivery { id: Some(packet_id), qos, retain, duplicate: false, identifiers };
        let sent = match outgoing.qos {
            QoS::ExactlyOnce => {
                let is_noted = terms.holder != 0 || outgoing.inbound.is_some();
                self.append_in_order(id, &outgoing.source, &delivery, is_noted, now.wall)
            }
            _ => self.append(id, &outgoing.source, &delivery, now.wall),
        };
        if !sent {
            // [MQTT-3.1.2-25]: as if it had been delivered, and its place is free again.
            let recorded = self.abandon(to, packet_id);
            if outgoing.is_written {
                self.note_done(recorded);
            }
        } else if terms.holder != 0 {
            self.refer(outgoing, terms.to_ref(Some(packet_id)));
        }
    }

    /// Keeps a message for a session until it can be sent.
    fn enqueue(&mut self, to: SessionId, pending: Pending, outgoing: &mut Outgoing<'_>) {
        let Some(session) = self.sessions.get(to) else { return };
        if !self.limits.has_room(&session.outbound, pending.message.size())
            && !self.make_room(to, &pending, outgoing.is_written)
        {
            return;
        }
        let Some(session) = self.sessions.get_mut(to) else { return };
        let leaves_to_disk = session.leaves_to_disk();
        let outbound = &mut session.outbound;
        let before = outbound.memory();
        let to_note =
            outgoing.needs_ref(pending.manner.holder).then(|| pending.manner.to_ref(None));
        match session.connection {
            Some(_) if !leaves_to_disk => outbound.push(pending),
            _ => {
                let place = &mut outgoing.place;
                outbound.push_to_disk(pending, self.number, place, &self.pages);
            }
        }
        self.queued_bytes = self.queued_bytes + outbound.memory() - before;
        self.count_stored(to);
        self.relieve_pages(1);
        if self.queued_bytes() > self.limits.queue_bytes_total {
            self.unsettled.push_back(Unsettled::Relief);
        }
        if let Some(to_note) = to_note {
            self.refer(outgoing, to_note);
        }
    }

    /// Bytes of memory that messages are accounted with, in flight or waiting.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued_bytes + self.pages.bytes()
    }

    /// Bytes of output beyond which a client gets no more QoS 0.
    #[inline]
    pub(super) fn output_max(&self) -> usize {
        match self.unwritten > self.limits.output_bytes_total {
            true => OUTPUT_MIN.min(self.limits.output_bytes),
            false => self.limits.output_bytes,
        }
    }

    /// Drops a message for a client that reads too slowly; the log hears of it once until the
    /// client has read all.
    #[cold]
    fn drop_for(&mut self, to: SessionId) {
        self.stats.dropped(Drop::SlowReader, 1);
        let Some(session) = self.sessions.get(to) else { return };
        let connection = session.connection.and_then(|id| self.connections.get_mut(id));
        if let Some(connection) = connection
            && !std::mem::replace(&mut connection.dropping, true)
        {
            let cause = "the client reads too slowly (limits.output_bytes, output_bytes_total)";
            warn!(peer = %connection.peer.address, client = &*session.client_id, cause,
                "QoS 0 messages are dropped");
        }
    }

    /// Sends what waits in the session, as far as its window and its output have room.
    pub(super) fn pump(&mut self, session_id: SessionId, now: Now) {
        while let Some(step) = self.next_step(session_id, now.wall) {
            let Some(id) = self.sessions.get(session_id).and_then(|s| s.connection) else { return };
            match step {
                Step::Release { id: packet_id } => self.send_pubrel(id, packet_id),
                Step::Publish { id: packet_id, duplicate, pending } => {
                    self.send_pending(session_id, id, (packet_id, duplicate), &pending, now);
                }
            }
        }
        self.count_stored(session_id);
        if self.commons.full_inboxes.are_any() {
            self.open_inbox(session_id);
        }
        self.pump_rare(session_id, now);
    }

    /// Sends a message that has waited, or sends it again.
    fn send_pending(
        &mut self,
        session_id: SessionId,
        id: ConnectionId,
        (packet_id, duplicate): (PacketId, bool),
        pending: &Pending,
        now: Now,
    ) {
        let delivery = Delivery {
            id: Some(packet_id),
            qos: pending.manner.qos,
            retain: pending.manner.retain,
            duplicate: duplicate || pending.manner.again,
            identifiers: &pending.manner.identifiers,
        };
        let message = self.load(&pending.message);
        let message = message.filter(|message| self.may_read(session_id, message));
        if !duplicate {
            self.note_sent(pending, packet_id);
        }
        let sent = message.is_some_and(|message| {
            let Message { expiry, .. } = *message;
            let source = Source { parts: message.parts(), expiry, packet: None };
            self.forms.clear();
            match message.qos {
                // What is sent again was durable before its client's CONNACK left.
                QoS::ExactlyOnce if !duplicate => {
                    let is_noted = pending.manner.holder != 0;
                    self.append_in_order(id, &source, &delivery, is_noted, now.wall)
                }
                _ => self.append(id, &source, &delivery, now.wall),
            }
        });
        if !sent {
            let recorded = self.abandon(session_id, packet_id);
            self.note_done(recorded);
        }
    }

    /// Whether the session may still read a message that has waited for it.
    fn may_read(&self, session_id: SessionId, message: &Message) -> bool {
        let class = self.sessions.get(session_id).map_or(0, |it| it.principal.class);
        self.may(class, Action::Subscribe, message.parts().topic)
    }

    /// Goes on with what few sessions have: shared groups and retained messages.
    fn pump_rare(&mut self, session_id: SessionId, now: Now) {
        let Some(session) = self.sessions.get(session_id) else { return };
        let Some(rare) = &session.rare else { return };
        if session.connection.is_none() {
            return;
        }
        let (has_room, in_groups) = (session.outbound.has_room(), !rare.groups.is_empty());
        if in_groups {
            // Before it looks for what waits: what comes later is sent to it.
            self.show_room(session_id);
        }
        if !has_room {
            return;
        }
        let mut at = 0;
        while let Some(group) = self.group_at(session_id, at) {
            self.drain_group(&group, Some(session_id), usize::MAX, now);
            at += 1;
        }
        self.queue_reader(session_id);
    }

    fn group_at(&self, session_id: SessionId, at: usize) -> Option<Arc<Group>> {
        self.sessions.get(session_id)?.rare.as_ref()?.groups.get(at).cloned()
    }

    /// After a write: goes on with whatever waited for room in the output.
    #[inline]
    pub(super) fn resume_waiting(&mut self, session_id: SessionId, now: Now) {
        let Some(session) = self.sessions.get(session_id) else { return };
        if session.rare.is_some() || !session.outbound.is_drained() {
            self.pump(session_id, now);
        }
    }

    fn next_step(&mut self, session_id: SessionId, wall: Wall) -> Option<Step> {
        let session = self.sessions.get_mut(session_id)?;
        let connection = self.connections.get(session.connection?)?;
        if connection.output_len() > self.limits.output_bytes {
            return None;
        }
        let before = session.outbound.memory();
        let mut expired = Vec::new();
        let step = session.outbound.step(|pending| {
            let living = !pending.message.is_expired(wall);
            if !living {
                expired.push(pending.recorded());
            }
            living
        });
        self.queued_bytes = self.queued_bytes + session.outbound.memory() - before;
        self.stats.dropped(Drop::Expired, expired.len() as u64);
        expired.into_iter().for_each(|recorded| self.note_done(recorded));
        step
    }

    /// Appends a message to the connection's output; false when it is too large for it.
    #[inline]
    pub(super) fn append(
        &mut self,
        id: ConnectionId,
        source: &Source<'_>,
        delivery: &Delivery<'_>,
        wall: Wall,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return true };
        let mut done = self.forms.append(source, delivery, connection, &mut self.spare, wall);
        if done.is_err() {
            done = self.append_bare(id, source, delivery, wall);
        }
        let Some(connection) = self.connections.get_mut(id) else { return true };
        match done {
            Ok(bytes) => {
                connection.tally.received += 1;
                self.stats.sent(delivery.qos, bytes);
            }
            Err(_) => {
                self.stats.dropped(Drop::TooLarge, 1);
                debug!(peer = %connection.peer.address, "a message is too large for its client");
            }
        }
        if !connection.listed {
            connection.listed = true;
            self.dirty.push(id);
        }
        done.is_ok()
    }

    /// Appends a message that is too large for its receiver without what the broker says of it.
    #[cold]
    fn append_bare(
        &mut self,
        id: ConnectionId,
        source: &Source<'_>,
        delivery: &Delivery<'_>,
        wall: Wall,
    ) -> Result<usize, TooLarge> {
        let parts = Parts { properties: unstamped(source.parts.properties), ..source.parts };
        let Some(connection) = self.connections.get_mut(id) else { return Err(TooLarge) };
        if parts.properties.len() == source.parts.properties.len() {
            return Err(TooLarge);
        }
        let bare = Source { parts, packet: None, ..*source };
        append_single(&bare, delivery, connection, &mut self.spare, wall)
    }

    /// The same for a message of QoS 2, at whatever QoS it is delivered. Where something of it
    /// `is_noted`, it does not leave before that is durable: else its publisher would send it once
    /// more to a broker that has never heard of it, or its receiver get it under another packet id.
    /// Others do not overtake what waits on the connection already [MQTT-4.6.0-6].
    fn append_in_order(
        &mut self,
        id: ConnectionId,
        source: &Source<'_>,
        delivery: &Delivery<'_>,
        is_noted: bool,
        wall: Wall,
    ) -> bool {
        let Some(connection) = self.connections.get(id) else { return true };
        let is_gated = connection.gate.as_ref().is_some_and(|gate| !gate.is_empty());
        let Some(journal) = self.journal.as_deref().filter(|_| is_noted || is_gated) else {
            return self.append(id, source, delivery, wall);
        };
        let number = journal.number();
        let Some(connection) = self.connections.get_mut(id) else { return true };
        let mut gate = connection.gate.take().unwrap_or_default();
        let before = gate.len();
        // An alias would be known before it is told.
        let aliases = connection.aliases_out.take();
        std::mem::swap(&mut connection.output, gate.output());
        let sent = self.append(id, source, delivery, wall);
        let Some(connection) = self.connections.get_mut(id) else { return sent };
        std::mem::swap(&mut connection.output, gate.output());
        connection.aliases_out = aliases;
        let is_first = sent && gate.wait(number, before);
        connection.gate = Some(gate);
        if is_first && let Some(journal) = self.journal.as_deref_mut() {
            journal.wait(id);
        }
        sent
    }

    pub(super) fn abandon(&mut self, session_id: SessionId, packet_id: PacketId) -> Recorded {
        let Some(session) = self.sessions.get_mut(session_id) else { return Recorded::default() };
        let before = session.outbound.memory();
        let recorded = session.outbound.abandon(packet_id);
        self.queued_bytes -= before - session.outbound.memory();
        recorded
    }

    /// PUBREL; one of a lasting session leaves when it is durable that PUBREC came, or the client
    /// might get the message again after it has forgotten its packet id.
    pub(super) fn send_pubrel(&mut self, id: ConnectionId, packet_id: PacketId) {
        let properties = Properties::none();
        let ack = Ack { packet_id, reason: ReasonCode::Success, properties };
        let durable = self.lasts(id);
        self.answer(id, &Packet::Pubrel(ack), durable);
    }
}
