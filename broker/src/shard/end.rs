//! How sessions lose their connection, their will is sent, and they end.

use std::sync::Arc;

use longshore_codec::{ReasonCode, Version};
use tracing::info;

use super::{Fault, Shard, Unsettled, close_code};
use crate::clock::Now;
use crate::limits::QueueOverflow;
use crate::message::{Message, Parts};
use crate::record::Event;
use crate::session::{NEVER, Session, SessionId, Will};
use crate::stamp::Stamp;
use crate::stats::Drop;
use crate::tally::Measure;

/// The part of all queues that is freed at once when they are full, for looking for the largest
/// takes long.
const RELIEF: usize = 16;

impl Shard {
    /// The session's connection is gone. A graceful end has taken the will away already.
    pub(super) fn detach(&mut self, session_id: SessionId, graceful: bool, now: Now) {
        let Some(session) = self.sessions.get_mut(session_id) else { return };
        session.connection = None;
        session.outbound.disconnect();
        let before = session.outbound.memory();
        session.outbound.leave_to_disk(self.number, &self.pages);
        self.queued_bytes = self.queued_bytes + session.outbound.memory() - before;
        if let Some(rare) = &mut session.rare {
            rare.reading = false;
            rare.presence.set_online(false);
        }
        self.count_stored(session_id);
        let Some(session) = self.sessions.get_mut(session_id) else { return };
        if session.expiry_secs == 0 {
            self.end_session(session_id, "its connection ended", now);
            return;
        }
        debug_assert!(!graceful || session.rare.as_ref().is_none_or(|rare| rare.will.is_none()));
        session.ends = match session.expiry_secs {
            NEVER => None,
            secs => Some(now.mono.plus_secs(u64::from(secs))),
        };
        session.left = Some(now.wall);
        let (holder, expiry_secs) = (session.holder, session.expiry_secs);
        self.note(holder, &Event::Left { holder, at: now.wall, expiry_secs, broken: false });
        let Some(session) = self.sessions.get_mut(session_id) else { return };
        let mut sent_now = false;
        if let Some(rare) = &mut session.rare {
            match rare.will.as_ref().map(|will| will.delay_secs) {
                Some(0) => sent_now = true,
                // The session's end sends it too, so the later of the two needs no care.
                Some(secs) => rare.will_due = Some(now.mono.plus_secs(u64::from(secs))),
                None => {}
            }
        }
        session.outbound.shrink();
        if sent_now {
            self.send_will_of(session_id, now);
        }
        if let Some(session) = self.sessions.get_mut(session_id) {
            session.shrink();
        }
        self.schedule_session(session_id);
        self.note_state(session_id, now);
        self.pass_shared_on(session_id, now);
    }

    /// Unacknowledged messages of shared groups go to members that are there; while nobody is,
    /// they stay with the session and are sent again when it returns.
    fn pass_shared_on(&mut self, session_id: SessionId, now: Now) {
        let Some(session) = self.sessions.get(session_id) else { return };
        let Some(rare) = &session.rare else { return };
        let others: Vec<_> = rare
            .groups
            .iter()
            .filter(|group| group.lock().members().iter().any(|it| it.presence.is_online()))
            .map(Arc::as_ptr)
            .collect();
        if !others.is_empty() {
            self.give_back(session_id, now, |group| others.contains(&Arc::as_ptr(group)));
        }
    }

    /// The session is no more: nobody finds it, nothing is kept for it, its will is sent.
    pub(super) fn end_session(&mut self, session_id: SessionId, cause: &'static str, now: Now) {
        let Some(session) = self.sessions.get(session_id) else { return };
        assert!(session.connection.is_none(), "only a session without connection ends");
        let filters: Vec<Box<str>> = session.subscriptions().map(Into::into).collect();
        for filter in filters {
            self.unsubscribe(session_id, &filter);
        }
        // To the other members of its groups, also of those it left before [MQTT-4.8.2-5].
        self.give_back(session_id, now, |_| true);
        self.send_will_of(session_id, now);
        let Some(mut session) = self.sessions.remove(session_id) else { return };
        // What a group lent to it goes with it [MQTT-4.8.2-5].
        let pending = session.outbound.in_flight().filter_map(|(_, pending)| pending);
        let lent = pending.filter(|pending| pending.manner.holder != session.holder);
        lent.for_each(|pending| self.note_done(pending.recorded()));
        if session.holder != 0 {
            self.ended.push(session.holder);
        }
        if self.commons.full_inboxes.are_any() {
            self.commons.full_inboxes.forget(session_id);
        }
        self.session_timers.set(session_id, &mut session.deadline, None);
        self.commons.roster.remove(&session.owner());
        self.count_out(&session);
        let (tallies, account) = (&self.commons.tallies, session.principal.account);
        tallies.remove(account, Measure::QueuedBytes, session.stored as u64);
        self.queued_bytes -= session.outbound.memory();
        self.stats.queued_bytes.set(self.queued_bytes());
        self.stats.dropped(Drop::SessionEnded, session.outbound.queued() as u64);
        self.stats.subscriptions.set(self.subscriptions);
        self.clear_state(&session, now);
        if session.expiry_secs > 0 {
            info!(client = &*session.client_id, cause, "session ended");
        }
    }

    /// Takes the session's will away because it is never to be sent.
    pub(super) fn drop_will(&mut self, session_id: SessionId) {
        if self.take_will(session_id).is_some() {
            let holder = self.holder_of(session_id);
            self.note(holder, &Event::NoWill { holder });
        }
    }

    /// Takes the session's will away; it is no longer due.
    pub(super) fn take_will(&mut self, session_id: SessionId) -> Option<Will> {
        let session = self.sessions.get_mut(session_id)?;
        let rare = session.rare.as_mut()?;
        rare.will_due = None;
        let will = rare.will.take()?;
        session.shrink();
        self.will_bytes -= will.message.size();
        Some(will)
    }

    /// Sends the session's will, if it has one, at the end of this step and not in its middle.
    fn send_will_of(&mut self, session_id: SessionId, now: Now) {
        let Some(will) = self.take_will(session_id) else { return };
        let Some(session) = self.sessions.get(session_id) else { return };
        let (owner, class, holder) = (session.owner(), session.principal.class, session.holder);
        let expiry = will.expiry(now.wall);
        let stamp = Stamp::new(&session.principal).filter(|_| self.dialect.stamp);
        let message = match (expiry, stamp) {
            (None, None) => will.message,
            (expiry, stamp) => {
                let (Message { qos, retain, .. }, parts) = (&*will.message, will.message.parts());
                let properties = match stamp {
                    Some(mut stamp) => stamp.onto(parts.properties, now.wall),
                    None => parts.properties.to_vec(),
                };
                let parts = Parts { properties: &properties, ..parts };
                Arc::new(Message::new(parts, *qos, *retain, expiry))
            }
        };
        self.unsettled.push_back(Unsettled::Will { owner, message, class, holder });
    }

    /// Does what the session's deadlines ask for, if nobody has noticed yet that they passed.
    pub(super) fn catch_up(&mut self, session_id: SessionId, now: Now) {
        let Some(session) = self.sessions.get_mut(session_id) else { return };
        if session.deadline.is_some_and(|at| at <= now.mono) {
            self.session_timers.set(session_id, &mut session.deadline, None);
            self.session_due(session_id, now);
        }
    }

    /// A deadline of the session has come: its will's, its own, or both.
    pub(super) fn session_due(&mut self, session_id: SessionId, now: Now) {
        let Some(session) = self.sessions.get_mut(session_id) else { return };
        session.deadline = None;
        if session.ends.is_some_and(|end| end <= now.mono) {
            self.end_session(session_id, "its expiry interval passed", now);
            return;
        }
        if session.will_due().is_some_and(|due| due <= now.mono) {
            self.send_will_of(session_id, now);
        }
        self.schedule_session(session_id);
    }

    pub(super) fn schedule_session(&mut self, session_id: SessionId) {
        let Some(session) = self.sessions.get_mut(session_id) else { return };
        let next = [session.ends, session.will_due()].into_iter().flatten().min();
        self.session_timers.set(session_id, &mut session.deadline, next);
    }

    /// All queues together are full: the sessions with most of it end or lose what waits in them,
    /// until some room is free again. Whoever has little is not touched.
    pub(super) fn relieve(&mut self, now: Now) {
        let total = self.limits.queue_bytes_total;
        if self.queued_bytes() <= total {
            return;
        }
        let least = total - total / RELIEF;
        let mut sessions: Vec<_> = self
            .sessions
            .keys()
            .filter_map(|id| Some((self.sessions.get(id)?.outbound.weight(), id)))
            .filter(|(bytes, _)| *bytes > 0)
            .collect();
        sessions.sort_unstable_by(|a, b| b.cmp(a));
        let is_inbox =
            |(_, id): &(_, SessionId)| self.sessions.get(*id).is_some_and(Session::is_inbox);
        let (inboxes, sessions): (Vec<_>, Vec<_>) = sessions.into_iter().partition(is_inbox);
        if self.limits.queue_overflow == QueueOverflow::DropOldest {
            for (_, session) in &sessions {
                while self.queued_bytes() > least && self.drop_oldest(*session) {}
            }
            if self.queued_bytes() <= total {
                return;
            }
            // It is what is in flight.
        }
        for (_, session) in sessions {
            if self.queued_bytes() <= least {
                return;
            }
            self.overflow(session, now);
        }
        // What is left is of modules, which lose nothing.
        for (_, inbox) in inboxes {
            self.fill_inbox(inbox);
        }
    }

    /// Ends all connections because the broker stops: MQTT 5 clients are told so, and no will is
    /// sent. The sessions stay.
    pub fn shut_down(&mut self, now: Now) {
        let open: Vec<_> = self.connections.keys().collect();
        let cause = "the broker is shutting down";
        for id in open {
            let Some(connection) = self.connections.get(id) else { continue };
            if let super::Stage::Online(session) = connection.stage {
                if connection.version == Version::V5 {
                    self.send_disconnect(id, Fault::new(ReasonCode::ServerShuttingDown, cause));
                }
                // The journal keeps it: it is due if the client does not come back in time after
                // a restart.
                self.take_will(session);
                self.note_closed(id, session, close_code(ReasonCode::ServerShuttingDown), now);
            }
            self.close(id, true, now);
        }
        self.settle(now);
    }
}
