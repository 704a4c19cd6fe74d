//! From a route to the outputs and queues of its targets.

use std::sync::Arc;

use longshore_codec::{Ack, Packet, PacketId, Properties, QoS, ReasonCode};

use tracing::{debug, warn};

use super::{Shard, Unsettled};
use crate::cache::{Local, Route, Target};
use crate::clock::{Now, Wall};
use crate::connection::ConnectionId;
use crate::form::{Delivery, Source};
use crate::message::{Identifiers, Message};
use crate::session::{Pending, SessionId, Step};
use crate::share::{Group, Seat, Turns};
use crate::stats::Drop;

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
}

impl<'a> Outgoing<'a> {
    /// A message that is kept already.
    pub(super) fn kept(message: &'a Arc<Message>, publisher: Option<SessionId>) -> Self {
        Self {
            source: Source { parts: message.parts(), expiry: message.expiry, packet: None },
            qos: message.qos,
            retain: message.retain,
            publisher,
            stored: Some(Arc::clone(message)),
        }
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
        for group in &route.groups {
            reached += 1;
            self.deliver_to_group(group, outgoing, now);
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
        };
        self.deliver(target.session, terms, outgoing, now);
        true
    }

    /// Gives the message to one session: written, in flight, or queued.
    #[inline]
    fn deliver(&mut self, to: SessionId, terms: Terms<'_>, outgoing: &mut Outgoing<'_>, now: Now) {
        let output_max = self.output_max();
        let Some(session) = self.sessions.get_mut(to) else { return };
        let connection = session.connection.and_then(|id| self.connections.get_mut(id));
        let mut delivery = Delivery {
            id: None,
            qos: terms.qos,
            retain: terms.retain,
            duplicate: false,
            identifiers: terms.identifiers,
        };
        if terms.qos == QoS::AtMostOnce {
            // [MQTT-4.3.1-1]: QoS 0 is for those who are there.
            let Some(connection) = connection else { return };
            if connection.output.len() > output_max {
                return self.drop_for(to);
            }
        } else {
            let pending = Pending {
                message: outgoing.stored(),
                qos: terms.qos,
                retain: terms.retain,
                identifiers: terms.identifiers.clone(),
                group: terms.group.cloned(),
            };
            let room = session.outbound.has_room()
                && connection.is_some_and(|c| c.output.len() <= output_max);
            if !room {
                return self.enqueue(to, pending);
            }
            self.queued_bytes += pending.message.size();
            delivery.id = Some(session.outbound.send(pending));
        }
        let Some(id) = session.connection else { return };
        if !self.append(id, &outgoing.source, &delivery, now.wall)
            && let Some(packet_id) = delivery.id
        {
            // [MQTT-3.1.2-25]: as if it had been delivered, and its place is free again.
            self.abandon(to, packet_id);
        }
    }

    /// Keeps a message for a session until it can be sent.
    fn enqueue(&mut self, to: SessionId, pending: Pending) {
        let Some(session) = self.sessions.get_mut(to) else { return };
        let (outbound, size) = (&mut session.outbound, pending.message.size());
        let fits = outbound.queued() < self.limits.queue_messages
            && outbound.bytes() + size <= self.limits.queue_bytes;
        if !fits && outbound.queued() > 0 {
            self.unsettled.push_back(Unsettled::Overflow(to));
            return;
        }
        outbound.push(pending);
        self.queued_bytes += size;
        if self.queued_bytes > self.limits.queue_bytes_total {
            self.unsettled.push_back(Unsettled::Relief);
        }
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
            warn!(peer = %connection.peer.address, client = ?session.client_id, cause,
                "QoS 0 messages are dropped");
        }
    }

    pub(super) fn deliver_to_group(
        &mut self,
        group: &Arc<Group>,
        outgoing: &mut Outgoing<'_>,
        now: Now,
    ) {
        let mut turns = group.lock();
        if let Some(seat) = self.choose(&mut turns, outgoing.qos) {
            drop(turns);
            return self.deliver_to_member(group, &seat, outgoing, now);
        }
        let wanted = turns.members().iter().any(|member| member.seat.qos != QoS::AtMostOnce);
        if outgoing.qos == QoS::AtMostOnce || !wanted {
            self.stats.dropped(Drop::NobodyThere, 1);
            return;
        }
        let pending = Pending {
            message: outgoing.stored(),
            qos: outgoing.qos,
            retain: outgoing.retain,
            identifiers: Identifiers::None,
            group: None,
        };
        let lost = u64::from(!turns.keep(pending));
        self.stats.dropped(Drop::Backlog, lost);
        self.trim_backlog(group, &mut turns);
    }

    pub(super) fn deliver_to_member(
        &mut self,
        group: &Arc<Group>,
        seat: &Seat,
        outgoing: &mut Outgoing<'_>,
        now: Now,
    ) {
        if seat.session.shard() != self.number {
            return self.post_to_member(group, *seat, outgoing);
        }
        let identifiers = seat.identifier.map_or(Identifiers::None, Identifiers::One);
        let terms = Terms {
            qos: outgoing.qos.min(seat.qos),
            retain: outgoing.retain && seat.retain_as_published,
            identifiers: &identifiers,
            group: Some(group),
        };
        self.deliver(seat.session, terms, outgoing, now);
        self.show_room(seat.session);
    }

    /// Keeps the limits of what waits in a group.
    pub(super) fn trim_backlog(&self, group: &Group, turns: &mut Turns) {
        let dropped = turns.trim(self.limits.queue_messages, self.limits.queue_bytes);
        self.stats.dropped(Drop::Backlog, dropped);
        if dropped > 0 && !std::mem::replace(&mut turns.dropping, true) {
            let cause = "nobody takes them in time (limits.queue_messages, queue_bytes)";
            warn!(group = ?group.filter, cause, "a shared subscription loses its oldest messages");
        }
    }

    /// Tells other shards whether the member of groups takes more.
    pub(super) fn show_room(&self, session: SessionId) {
        if self.shards == 1 {
            return;
        }
        if let Some(rare) = self.sessions.get(session).and_then(|session| session.rare.as_ref()) {
            let takes_any = self.is_able(session, QoS::AtMostOnce);
            rare.presence.set_stalled(!takes_any);
            rare.presence.set_full(takes_any && !self.is_able(session, QoS::ExactlyOnce));
        }
    }

    /// The next member of the group that is there and has room.
    fn choose(&mut self, turns: &mut Turns, qos: QoS) -> Option<Seat> {
        let mut asked = 0;
        let seat = turns.choose(|member| {
            asked += 1;
            let (session, qos) = (member.seat.session, qos.min(member.seat.qos));
            match session.shard() == self.number {
                true => self.is_able(session, qos),
                false => member.presence.is_able(qos),
            }
        });
        self.work += asked;
        seat
    }

    /// Hands out up to `most` messages that wait in the group: to this member alone, which alone
    /// knows that it has room again, or to whoever has.
    pub(super) fn drain_group(
        &mut self,
        group: &Arc<Group>,
        to: Option<SessionId>,
        mut most: usize,
        now: Now,
    ) {
        while most > 0 {
            let mut turns = group.lock();
            let Some(oldest) = turns.oldest() else {
                turns.dropping = false;
                return;
            };
            let qos = oldest.qos;
            if oldest.message.is_expired(now.wall) {
                turns.take();
                self.stats.dropped(Drop::Expired, 1);
                continue;
            }
            let seat = match to {
                None => self.choose(&mut turns, qos),
                Some(member) => turns
                    .seat_of(member)
                    .filter(|seat| self.is_able(seat.session, qos.min(seat.qos))),
            };
            let Some(seat) = seat else { return };
            most -= 1;
            let Some(pending) = turns.take() else { return };
            drop(turns);
            self.forms.clear();
            let mut outgoing = Outgoing::kept(&pending.message, None);
            self.deliver_to_member(group, &seat, &mut outgoing, now);
        }
    }

    /// Sends what waits in the session, as far as its window and its output have room.
    pub(super) fn pump(&mut self, session_id: SessionId, now: Now) {
        while let Some(step) = self.next_step(session_id, now.wall) {
            let Some(id) = self.sessions.get(session_id).and_then(|s| s.connection) else { return };
            match step {
                Step::Release { id: packet_id } => self.send_pubrel(id, packet_id),
                Step::Publish { id: packet_id, duplicate, pending } => {
                    let delivery = Delivery {
                        id: Some(packet_id),
                        qos: pending.qos,
                        retain: pending.retain,
                        duplicate,
                        identifiers: &pending.identifiers,
                    };
                    if !self.append_kept(id, &pending.message, &delivery, now.wall) {
                        self.abandon(session_id, packet_id);
                    }
                }
            }
        }
        self.pump_rare(session_id, now);
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
        if connection.output.len() > self.limits.output_bytes {
            return None;
        }
        let before = session.outbound.bytes();
        let mut expired = 0;
        let step = session.outbound.step(|pending| {
            let living = !pending.message.is_expired(wall);
            expired += u64::from(!living);
            living
        });
        self.queued_bytes -= before - session.outbound.bytes();
        self.stats.dropped(Drop::Expired, expired);
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
        let done = self.forms.append(source, delivery, connection, &mut self.spare, wall);
        match done {
            Ok(bytes) => self.stats.sent(delivery.qos, bytes),
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

    /// Appends a kept message to the connection's output; false when it is too large for it.
    pub(super) fn append_kept(
        &mut self,
        id: ConnectionId,
        message: &Message,
        delivery: &Delivery<'_>,
        wall: Wall,
    ) -> bool {
        let source = Source { parts: message.parts(), expiry: message.expiry, packet: None };
        self.forms.clear();
        self.append(id, &source, delivery, wall)
    }

    pub(super) fn abandon(&mut self, session_id: SessionId, packet_id: PacketId) {
        let Some(session) = self.sessions.get_mut(session_id) else { return };
        let before = session.outbound.bytes();
        session.outbound.abandon(packet_id);
        self.queued_bytes -= before - session.outbound.bytes();
    }

    pub(super) fn send_pubrel(&mut self, id: ConnectionId, packet_id: PacketId) {
        let properties = Properties::none();
        let ack = Ack { packet_id, reason: ReasonCode::Success, properties };
        self.send(id, &Packet::Pubrel(ack));
    }
}
