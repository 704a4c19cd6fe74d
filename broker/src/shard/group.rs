//! From a shared group to one of its members, or into its backlog.

use std::sync::Arc;

use longshore_acl::{Action, MASTER_CLASS};
use longshore_codec::QoS;
use tracing::warn;

use super::Shard;
use super::deliver::{Outgoing, Terms};
use crate::clock::Now;
use crate::message::{Identifiers, Kept};
use crate::record::Ref;
use crate::session::{Manner, Pending, Recorded, SessionId};
use crate::share::{Group, Member, Noted, Seat, Stick, Turns};
use crate::stamp::account_of;
use crate::stats::Drop;

/// A message that somebody in a group is to take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asker<'a> {
    topic: &'a [u8],
    account: u64,
}

impl Shard {
    pub(super) fn deliver_to_group(
        &mut self,
        group: &Arc<Group>,
        stick: Option<&Stick>,
        outgoing: &mut Outgoing<'_>,
        now: Now,
    ) {
        let mut turns = group.lock();
        let lasting = if turns.is_lasting() { group.holder } else { 0 };
        // What is for the same member may wait already.
        let is_behind =
            stick.is_some() && outgoing.qos != QoS::AtMostOnce && turns.oldest().is_some();
        let asker = Asker { topic: outgoing.source.parts.topic, account: outgoing.account };
        let seat = match is_behind {
            true => None,
            false => self.choose(&mut turns, stick, outgoing.qos, Some(asker)),
        };
        if let Some(seat) = seat {
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

    /// The next member of the group that is there and has room; in a sticky one the member that is
    /// there and has what the topic says, room or not.
    fn choose(
        &mut self,
        turns: &mut Turns,
        stick: Option<&Stick>,
        qos: QoS,
        asker: Option<Asker<'_>>,
    ) -> Option<Seat> {
        let may_take = |seat: &Seat| asker.is_none_or(|asker| self.may_take(seat, asker));
        if let Some(stick) = stick {
            let (seat, asked) = turns.stick(stick, may_take);
            self.work += asked;
            return seat;
        }
        let mut asked = 0;
        let seat = turns.choose(|member| {
            asked += 1;
            self.has_room(member, qos) && may_take(&member.seat)
        });
        self.work += asked;
        seat
    }

    /// Who gets the oldest message that waits in the group: this member alone, if it has room, or
    /// whoever has.
    ///
    /// In a sticky group it is whoever the topic names. While that one has no room and is the only
    /// one there, it stays where it is: nobody else waits for what is behind it. Otherwise it goes
    /// on waiting with the member.
    fn seat_for_oldest(
        &mut self,
        group: &Group,
        turns: &mut Turns,
        to: Option<SessionId>,
        asker: Option<Asker<'_>>,
    ) -> Option<Seat> {
        let qos = turns.oldest()?.0.manner.qos;
        if !group.is_sticky() {
            let Some(member) = to else { return self.choose(turns, None, qos, asker) };
            let seat = turns.seat_of(member)?;
            let takes = self.is_able(seat.session, qos.min(seat.qos))
                && asker.is_none_or(|asker| self.may_take(&seat, asker));
            return takes.then_some(seat);
        }
        let (oldest, _) = turns.oldest()?;
        // One that is lost goes to nobody, whoever it is taken for.
        let message = self.load(&oldest.message);
        let stick = message.and_then(|message| group.stick(message.parts().topic));
        let seat = self.choose(turns, Some(&stick.unwrap_or_default()), qos, asker)?;
        let mut there = turns.members().iter().filter(|member| member.presence.is_online());
        let takes = there
            .clone()
            .any(|member| member.seat.session == seat.session && self.has_room(member, qos));
        (takes || there.nth(1).is_some()).then_some(seat)
    }

    /// Whether a member may have a message: the token of its client may read it, and it comes from
    /// the account that was asked for.
    fn may_take(&self, seat: &Seat, asker: Asker<'_>) -> bool {
        (seat.only == 0 || seat.only == asker.account)
            && (seat.class <= MASTER_CLASS || self.may(seat.class, Action::Subscribe, asker.topic))
    }

    fn has_room(&self, member: &Member, qos: QoS) -> bool {
        let (session, qos) = (member.seat.session, qos.min(member.seat.qos));
        match session.shard() == self.number {
            true => self.is_able(session, qos),
            false => member.presence.is_able(qos),
        }
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
            // Who may do everything need not be asked.
            let is_bound = |member: &Member| {
                member.seat.only != 0 || self.commons.classes.of(member.seat.class).is_some()
            };
            let message = match turns.members().iter().any(is_bound) {
                true => self.load(&oldest.message),
                false => None,
            };
            let asker = message.as_ref().map(|message| {
                let parts = message.parts();
                Asker { topic: parts.topic, account: account_of(&parts) }
            });
            let Some(seat) = self.seat_for_oldest(group, &mut turns, to, asker) else {
                if asker.is_some_and(|asker| self.is_for_nobody(&turns, asker)) {
                    let given_up = turns.take().map(|pending| pending.recorded());
                    self.stats.dropped(Drop::NotAllowed, 1);
                    self.note_done(given_up.unwrap_or_default());
                    continue;
                }
                return;
            };
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

    /// Whether none of the members, there or not, may have the message: it would bar the way to
    /// those behind it.
    fn is_for_nobody(&self, turns: &Turns, asker: Asker<'_>) -> bool {
        !turns.members().iter().any(|member| self.may_take(&member.seat, asker))
    }

    /// Whoever the journal has the message for does not get it, and nobody instead.
    fn note_given_up(&mut self, outgoing: &mut Outgoing<'_>) {
        let holder = std::mem::take(&mut outgoing.held_by);
        let (number, group) = (outgoing.number(), outgoing.held_in);
        self.note_done(Recorded { holder, number, group });
    }
}
