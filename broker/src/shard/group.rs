//! From a shared group to one of its members, or into its backlog.

use std::sync::Arc;

use longshore_codec::QoS;
use tracing::warn;

use super::Shard;
use super::deliver::{Outgoing, Terms};
use crate::clock::Now;
use crate::message::{Identifiers, Kept};
use crate::record::Ref;
use crate::session::{Manner, Pending, Recorded, SessionId};
use crate::share::{Group, Noted, Seat, Turns};
use crate::stats::Drop;

impl Shard {
    pub(super) fn deliver_to_group(
        &mut self,
        group: &Arc<Group>,
        outgoing: &mut Outgoing<'_>,
        now: Now,
    ) {
        let mut turns = group.lock();
        let lasting = if turns.is_lasting() { group.holder } else { 0 };
        if let Some(seat) = self.choose(&mut turns, outgoing.qos) {
            drop(turns);
            let holder = self.holder_in(lasting, &seat, outgoing.qos);
            return self.deliver_to_member(group, &seat, holder, outgoing, now);
        }
        let wanted = turns.members().iter().any(|member| member.seat.qos != QoS::AtMostOnce);
        if outgoing.qos == QoS::AtMostOnce || !wanted {
            self.stats.dropped(Drop::NobodyThere, 1);
            return self.note_given_up(outgoing);
        }
        let message = match lasting {
            0 => outgoing.stored(),
            _ => self.enter(outgoing),
        };
        let manner = Manner {
            qos: outgoing.qos,
            retain: outgoing.retain,
            identifiers: Identifiers::None,
            group: None,
            holder: lasting,
            again: false,
        };
        let pending = Pending { message: Kept::Memory(message), manner };
        let noted = match outgoing.needs_ref(lasting) {
            true => self.noted_in(group),
            false => Noted::default(),
        };
        if turns.keep(pending, noted) {
            if outgoing.needs_ref(lasting) {
                self.refer(outgoing, Ref::in_group(lasting, outgoing.qos, outgoing.retain));
            } else if lasting == 0 {
                self.note_given_up(outgoing);
            }
        } else {
            self.stats.dropped(Drop::Backlog, 1);
            self.note_given_up(outgoing);
        }
        self.trim_backlog(group, &mut turns);
    }

    /// For whom the journal has a message that a member of a group gets: the member, if it lasts,
    /// else the group, if that does (`lasting` is its number).
    fn holder_in(&self, lasting: u64, seat: &Seat, qos: QoS) -> u64 {
        match qos.min(seat.qos) {
            QoS::AtMostOnce => 0,
            _ if seat.holder != 0 => seat.holder,
            _ => lasting,
        }
    }

    pub(super) fn deliver_to_member(
        &mut self,
        group: &Arc<Group>,
        seat: &Seat,
        holder: u64,
        outgoing: &mut Outgoing<'_>,
        now: Now,
    ) {
        if holder == 0 && outgoing.held_by != 0 {
            // Nobody who lasts waits for it any more.
            self.note_given_up(outgoing);
        }
        if seat.session.shard() != self.number {
            return self.post_to_member(group, *seat, holder, outgoing);
        }
        let identifiers = seat.identifier.map_or(Identifiers::None, Identifiers::One);
        let terms = Terms {
            qos: outgoing.qos.min(seat.qos),
            retain: outgoing.retain && seat.retain_as_published,
            identifiers: &identifiers,
            group: Some(group),
            holder,
            at_once: false,
        };
        self.deliver(seat.session, terms, outgoing, now);
        self.show_room(seat.session);
    }

    /// Keeps the limits of what waits in a group.
    pub(super) fn trim_backlog(&mut self, group: &Group, turns: &mut Turns) {
        let mut dropped = 0;
        while let Some(pending) =
            turns.take_excess(self.limits.queue_messages, self.limits.queue_bytes)
        {
            dropped += 1;
            self.note_done(pending.recorded());
        }
        self.stats.dropped(Drop::Backlog, dropped);
        if dropped > 0 && !std::mem::replace(&mut turns.dropping, true) {
            let cause = "nobody takes them in time (limits.queue_messages, queue_bytes)";
            warn!(group = &*group.filter, cause, "a shared subscription loses its oldest messages");
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
            let Some((oldest, noted)) = turns.oldest() else {
                turns.dropping = false;
                return;
            };
            if noted.shard != self.number && !self.commons.is_appended(noted) {
                // That shard hands it out then.
                return;
            }
            let qos = oldest.manner.qos;
            if oldest.message.is_expired(now.wall) {
                let expired = turns.take().map(|pending| pending.recorded());
                self.stats.dropped(Drop::Expired, 1);
                self.note_done(expired.unwrap_or_default());
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
            let lasting = if turns.is_lasting() { group.holder } else { 0 };
            drop(turns);
            self.forms.clear();
            let Some(message) = self.load(&pending.message) else {
                // It is lost, and is not to be looked for again.
                self.note_done(pending.recorded());
                continue;
            };
            let mut outgoing = Outgoing::kept(&message, None);
            outgoing.held_by = pending.manner.holder;
            let holder = self.holder_in(lasting, &seat, qos);
            self.deliver_to_member(group, &seat, holder, &mut outgoing, now);
            self.write_down(&mut outgoing);
        }
    }

    /// Whoever the journal has the message for does not get it, and nobody instead.
    fn note_given_up(&mut self, outgoing: &mut Outgoing<'_>) {
        let holder = std::mem::take(&mut outgoing.held_by);
        let (number, group) = (outgoing.number(), outgoing.held_in);
        self.note_done(Recorded { holder, number, group });
    }
}
