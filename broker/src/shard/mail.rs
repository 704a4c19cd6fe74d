//! What comes from other shards and goes to them: messages, and connections whose session is there.

use std::sync::Arc;

use longshore_acl::Principal;
use longshore_codec::{QoS, filter};

use super::Shard;
use super::deliver::Outgoing;
use crate::cache::Target;
use crate::clock::Now;
use crate::connection::{Connection, ConnectionId, Stage};
use crate::mail::{Mail, Moved, To};
use crate::message::{Identifiers, Message};
use crate::record::{GROUP_BIT, Ref};
use crate::session::{Recorded, SessionId};
use crate::share::{Group, Noted, Seat};

impl Shard {
    /// Hands out the mail since the last call, each with the number of the shard it is for. What
    /// goes to one shard arrives there in this order, through [`Shard::mail`].
    pub fn take_mail(&mut self) -> impl Iterator<Item = (usize, Mail)> + '_ {
        self.outbox.drain(..)
    }

    /// Takes a piece of mail from another shard.
    pub fn mail(&mut self, mail: Mail, now: Now) {
        let Mail { message, to } = mail;
        let mut outgoing = Outgoing::kept(&message, None);
        self.forms.clear();
        match to {
            To::Targets { targets, publisher, epoch } => {
                outgoing.publisher = publisher;
                outgoing.is_referred = outgoing.is_written;
                for target in &*targets {
                    if self.is_wanted(target, &message, epoch) {
                        self.deliver_to_target(target, &mut outgoing, now);
                    } else {
                        let (holder, number) = (target.holder, outgoing.number());
                        self.note_done(Recorded { holder, number, group: 0 });
                    }
                }
            }
            To::Round => self.rounds_heard += 1,
            To::Member { group, seat, holder } => {
                (outgoing.held_by, outgoing.held_in) = (holder, group.holder);
                self.take_turn(&group, seat, &mut outgoing, now);
            }
        }
        self.write_down(&mut outgoing);
        self.settle(now);
    }

    /// Whether the target still gets the message: it may have unsubscribed on the way.
    fn is_wanted(&self, target: &Target, message: &Message, epoch: u64) -> bool {
        let Some(session) = self.sessions.get(target.session) else { return false };
        if session.unsubscribed <= epoch {
            return true;
        }
        let Ok(topic) = std::str::from_utf8(message.parts().topic) else { return false };
        let matches = match self.dialect.selectors {
            true => filter::matches_selectors,
            false => filter::matches,
        };
        session.subscriptions().any(|filter| {
            let asked = self.commons.take_apart(filter);
            asked.is_ok_and(|asked| asked.share.is_none() && matches(asked.inner, topic))
        })
    }

    /// Gives a message to the member whose turn it is, or else to another one: the other shard
    /// could not know exactly whether this one takes it.
    fn take_turn(&mut self, group: &Arc<Group>, seat: Seat, outgoing: &mut Outgoing<'_>, now: Now) {
        let session = self.sessions.get(seat.session);
        let is_member =
            session.is_some_and(|session| session.subscription(&group.filter).is_some());
        let qos = outgoing.qos.min(seat.qos);
        let stick = group.stick(outgoing.source.parts.topic);
        let takes = match &stick {
            // It waits with the member that the topic names.
            Some(_) => session.is_some_and(|session| session.connection.is_some()),
            None => self.is_able(seat.session, qos),
        };
        if is_member && takes {
            return self.deliver_to_member(group, &seat, outgoing.held_by, outgoing, now);
        }
        // Until `pump` finds otherwise. One that has left this group may take those of others.
        self.show_room(seat.session);
        self.deliver_to_group(group, stick.as_ref(), outgoing, now);
    }

    /// That a message waits in a group is noted in this batch: the members of other shards get it
    /// when the batch is appended.
    pub(super) fn noted_in(&mut self, group: &Arc<Group>) -> Noted {
        let (shard, shards) = (self.number, self.shards);
        let Some(journal) = self.journal.as_deref().filter(|_| shards > 1) else {
            return Noted::default();
        };
        let batch = journal.number();
        if !self.fresh.iter().any(|(known, it)| *known == batch && Arc::ptr_eq(it, group)) {
            self.fresh.push((batch, Arc::clone(group)));
        }
        Noted { shard, batch }
    }

    /// Hands out what waits in groups since a batch that is appended now.
    pub(super) fn hand_out_fresh(&mut self, now: Now) {
        if self.fresh.is_empty() {
            return;
        }
        let (shard, commons) = (self.number, Arc::clone(&self.commons));
        let is_due = |(batch, _): &(u64, _)| commons.is_appended(Noted { shard, batch: *batch });
        let count = self.fresh.iter().take_while(|it| is_due(it)).count();
        let due: Vec<_> = self.fresh.drain(..count).collect();
        for (_, group) in due {
            self.drain_group(&group, None, usize::MAX, now);
        }
        self.settle(now);
    }

    /// Sends mail with the message to a shard whose sessions get it.
    pub(super) fn post(
        &mut self,
        shard: usize,
        targets: &Arc<[Target]>,
        outgoing: &mut Outgoing<'_>,
    ) {
        let to = To::Targets {
            targets: Arc::clone(targets),
            publisher: outgoing.publisher,
            epoch: self.cache.epoch(),
        };
        for target in &**targets {
            let to = target.to_ref(outgoing.qos, outgoing.retain);
            if to.qos != QoS::AtMostOnce && to.holder != 0 {
                self.enter(outgoing);
                self.refer(outgoing, to);
            }
        }
        self.outbox.push((shard, Mail { message: outgoing.stored(), to }));
    }

    /// Sends mail with the message to the shard of a group's member.
    pub(super) fn post_to_member(
        &mut self,
        group: &Arc<Group>,
        seat: Seat,
        holder: u64,
        outgoing: &mut Outgoing<'_>,
    ) {
        if holder != 0 {
            self.enter(outgoing);
        }
        if outgoing.needs_ref(holder) {
            let to = seat.to_ref(holder, group, outgoing.qos, outgoing.retain);
            self.refer(outgoing, to);
        }
        let to = To::Member { group: Arc::clone(group), seat, holder };
        self.outbox.push((seat.session.shard(), Mail { message: outgoing.stored(), to }));
    }

    /// Tells which shards have more mail than is good for them, a bit each. Connections that
    /// publish to them are not read until there are none.
    pub fn set_full(&mut self, full: u64, now: Now) {
        self.full = full;
        self.read_held(now);
    }

    /// Reads connections again that were held back, if nothing is full any more.
    pub(super) fn read_held(&mut self, now: Now) {
        if self.full != 0 || self.behind {
            return;
        }
        for id in std::mem::take(&mut self.held) {
            if let Some(connection) = self.connections.get_mut(id) {
                connection.held = false;
                connection.received = now.mono;
                self.mark(id);
            }
        }
    }

    /// Stops reading a connection if it has just published to a shard with too much mail.
    #[inline]
    pub(super) fn hold_back(&mut self, id: ConnectionId, mail_before: usize) {
        if self.full != 0
            && self.outbox[mail_before..].iter().any(|(to, _)| self.full >> to & 1 == 1)
            && let Some(connection) = self.connections.get_mut(id)
            && !connection.held
        {
            connection.held = true;
            self.held.push(id);
        }
    }

    /// The shard where the connection is to go on, once its client's session is found to live
    /// there: take it out with [`Shard::take_moved`] and give it to that shard.
    #[must_use]
    pub fn moving(&self, id: ConnectionId) -> Option<usize> {
        match self.connections.get(id)?.stage {
            Stage::Moving(shard) => Some(shard),
            _ => None,
        }
    }

    /// Takes out a connection that goes on elsewhere.
    pub fn take_moved(&mut self, id: ConnectionId) -> Option<Moved> {
        self.moving(id)?;
        let connection = self.forget(id)?;
        let bytes = connection.partial;
        self.input_bytes -= bytes.len();
        let principal = *connection.known?;
        Some(Moved { peer: connection.peer, principal, since: connection.since, bytes })
    }

    /// Takes a connection that another shard gave up, and goes on where that one stopped.
    pub fn accept_moved(&mut self, moved: Moved, now: Now) -> ConnectionId {
        let mut connection = Connection::new(moved.peer, moved.since);
        connection.known = Some(Box::new(moved.principal));
        let id = self.add_connection(connection);
        self.schedule(id, now);
        self.take(id, &moved.bytes, now);
        id
    }

    /// The connection's session lives on another shard.
    pub(super) fn move_to(&mut self, id: ConnectionId, session: SessionId, principal: Principal) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.stage = Stage::Moving(session.shard());
            connection.known = Some(Box::new(principal));
            self.mark(id);
        }
    }

    /// Whether a session of this shard takes a message of a group now.
    pub(super) fn is_able(&self, session: SessionId, qos: QoS) -> bool {
        let Some(session) = self.sessions.get(session) else { return false };
        let connection = session.connection.and_then(|id| self.connections.get(id));
        connection.is_some_and(|connection| connection.output_len() <= self.output_max())
            && (qos == QoS::AtMostOnce || session.outbound.has_room())
    }
}

impl Target {
    /// How the journal is told that it gets a message of this kind.
    fn to_ref(&self, qos: QoS, retain: bool) -> Ref {
        Ref {
            holder: self.holder,
            qos: self.qos.min(qos),
            retain: retain && self.retain_as_published,
            packet_id: None,
            group: 0,
            again: false,
            identifiers: self.identifiers.clone(),
        }
    }
}

impl Seat {
    /// How the journal is told that it gets a message of this kind, on behalf of `holder`.
    fn to_ref(self, holder: u64, group: &Group, qos: QoS, retain: bool) -> Ref {
        if holder & GROUP_BIT != 0 {
            return Ref::in_group(holder, qos, retain);
        }
        Ref {
            holder,
            qos: self.qos.min(qos),
            retain: retain && self.retain_as_published,
            packet_id: None,
            group: group.holder,
            again: false,
            identifiers: self.identifier.map_or(Identifiers::None, Identifiers::One),
        }
    }
}
