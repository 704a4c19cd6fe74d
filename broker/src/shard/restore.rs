//! What a shard begins with when the broker has stopped before.

use std::sync::Arc;

use longshore_acl::Principal;

use super::Shard;
use crate::clock::Now;
use crate::record::Event;
use crate::recovery;
use crate::session::{NEVER, Session, SessionId, Subscription};
use crate::tally::Measure;

impl Shard {
    /// Takes back the sessions of this shard. Before anything else happens to it.
    pub fn restore(&mut self, now: Now) {
        let Some(sessions) = self.restored.take() else { return };
        for session in sessions {
            self.restore_session(session, now);
        }
        self.stats.subscriptions.set(self.subscriptions);
        self.stats.queued_bytes.set(self.queued_bytes());
    }

    fn restore_session(&mut self, mut known: recovery::Session, now: Now) {
        if known.expiry_secs == 0 {
            // It has ended with its connection, and cannot be resumed to cancel its will.
            known.will = None;
        }
        let mut principal = Principal::anonymous();
        principal.account = known.account;
        principal.class = known.class;
        principal.token = known.token;
        principal.anonymous = known.anonymous;
        principal.class = self.authenticate.class_of(&principal);
        let mut session = Session::new(Arc::from(known.client_id), principal, known.holder);
        session.expiry_secs = known.expiry_secs;
        let grace = self.will_grace_secs;
        let left = known.left.unwrap_or(now.wall);
        session.left = Some(left);
        session.ends = match known.expiry_secs {
            NEVER => None,
            secs => {
                let end = left.plus_secs(u64::from(secs));
                let micros = end.0.saturating_sub(now.wall.0);
                let least = if known.will.is_some() { grace } else { 0 };
                Some(now.mono.plus_micros(micros).max(now.mono.plus_secs(least)))
            }
        };
        if let Some(will) = known.will {
            // A restart must not make a whole fleet look dead.
            let delay = u64::from(will.delay_secs).max(grace);
            self.will_bytes += will.message.size();
            session.rare().will = Some(will);
            session.rare().will_due = Some(now.mono.plus_secs(delay));
        }
        known.inbound.into_iter().for_each(|id| session.receive_exactly_once(id));
        let (owner, holder) = (session.owner(), session.holder);
        let id = self.add_session(session);
        self.commons.roster.insert(owner, id);
        if known.left.is_none() {
            let expiry_secs = known.expiry_secs;
            self.note(holder, &Event::Left { holder, at: now.wall, expiry_secs, broken: true });
        }
        for (filter, subscribed) in known.subscriptions {
            self.restore_subscription(id, &filter, subscribed);
        }
        let Some(session) = self.sessions.get_mut(id) else { return };
        for (packet_id, pending) in known.in_flight {
            session.outbound.restore(packet_id, pending);
        }
        session.outbound.restore_queue(known.waiting);
        self.queued_bytes += session.outbound.memory();
        self.count_stored(id);
        self.schedule_session(id);
    }

    fn restore_subscription(
        &mut self,
        session_id: SessionId,
        name: &str,
        subscribed: recovery::Subscribed,
    ) {
        let recovery::Subscribed { mut options, identifier, only, .. } = subscribed;
        options.qos = options.qos.min(self.dialect.max_qos);
        let commons = Arc::clone(&self.commons);
        let Ok(asked) = commons.take_apart(name) else { return };
        let Some(session) = self.sessions.get_mut(session_id) else { return };
        let subscription = Subscription { options, identifier, only, read: 0 };
        session.subscribe(name, subscription);
        if !session.principal.is_broker() {
            self.subscriptions += 1;
            commons.tallies.add(session.principal.account, Measure::Subscriptions, 1);
        }
        self.place_subscription(session_id, name, &asked, &subscription);
    }
}
