//! What an account may do no more because a limit of it, or of an account above it, is reached.

use longshore_codec::{Publish, QoS};
use tracing::warn;

use super::config::LOG_WORK;
use super::{Fault, Shard};
use crate::cache::{Route, Target};
use crate::clock::Now;
use crate::connection::ConnectionId;
use crate::index::Subscriber;
use crate::retained::Full;
use crate::session::SessionId;
use crate::share::Group;
use crate::tally::{Measure, Meter};

/// Why a session that is new is not begun.
pub(super) const SESSIONS: &str = "too many sessions of the account (its limit mqtt_sessions)";
/// Why a subscription that is new is not made.
pub(super) const SUBSCRIPTIONS: &str =
    "too many subscriptions of the account (its limit mqtt_subscriptions)";
pub(super) const MESSAGES: &str =
    "too many messages of the account in a minute (its limit mqtt_messages)";
const QUEUED: &str =
    "too many bytes wait in sessions of the account (its limit mqtt_session_storage)";
const RETAINED: &str = "the account retains too many bytes (its limit mqtt_retained_storage)";

impl Shard {
    /// Counts a message of a measured account; why it is one too many if it is.
    pub(super) fn over_quota(
        &mut self,
        publisher: SessionId,
        meter: &Meter,
        route: &Route,
        qos: QoS,
        now: Now,
    ) -> Option<&'static str> {
        if let Some(cause) = self.over_rate(publisher, meter, now) {
            return Some(cause);
        }
        let is_kept = qos != QoS::AtMostOnce && meter.is_full();
        (is_kept && self.would_wait(meter, route, qos)).then_some(QUEUED)
    }

    /// Counts a message of an account whose rate is bounded, whatever becomes of it.
    pub(super) fn over_rate(
        &mut self,
        publisher: SessionId,
        meter: &Meter,
        now: Now,
    ) -> Option<&'static str> {
        let exceeded = meter.count(now.wall).err()?;
        if exceeded.is_news {
            self.work += LOG_WORK;
            let (client, account) = (self.client_id(publisher), exceeded.account);
            warn!(client, account, cause = MESSAGES, "messages are refused until the minute ends");
            self.commons.tallies.note_exceeded(account);
        }
        Some(MESSAGES)
    }

    /// Whether the message would wait in a session or a shared group of an account that is full. Of
    /// sessions of other shards those that last are taken to be away: what they have room for is
    /// not known here.
    fn would_wait(&self, meter: &Meter, route: &Route, qos: QoS) -> bool {
        let waits_in = |session: SessionId| {
            let session = self.sessions.get(session).filter(|_| session.shard() == self.number);
            session.is_some_and(|session| {
                let is_sent = session.connection.is_some() && session.outbound.has_room();
                !is_sent && meter.is_full_for(session.principal.account)
            })
        };
        let is_kept = |of: QoS| of.min(qos) != QoS::AtMostOnce;
        let waits = |it: &Target| is_kept(it.qos) && waits_in(it.session);
        let asks = |it: &Subscriber| is_kept(it.qos) && waits_in(it.session);
        // Without a journal nobody has a number there that tells who lasts.
        let may_last = |holder: u64| holder != 0 || self.journal.is_none();
        let lasts = |it: &Target| is_kept(it.qos) && may_last(it.holder);
        route.targets.iter().any(waits)
            || route.conditional.iter().any(|of_one| of_one.iter().any(asks))
            || route.remote.iter().any(|(_, targets)| targets.iter().any(lasts))
            || route.groups.iter().any(|(group, _)| waits_with(meter, group))
    }

    /// Refuses a message for a limit of the account. What promises nothing is dropped.
    #[cold]
    pub(super) fn refuse_for_quota(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        cause: &'static str,
    ) -> Result<(), Fault> {
        self.stats.over_quota_total.add(1);
        match publish.qos {
            QoS::AtMostOnce => Ok(()),
            _ => self.refuse(id, session, publish, cause),
        }
    }

    /// Why a message was not retained, which is counted where it is a limit of the account.
    pub(super) fn not_retained(&self, full: Full) -> &'static str {
        match full {
            Full::Messages => "too many retained messages (limits.retained_messages)",
            Full::Bytes => "retained messages have too many bytes (limits.retained_bytes)",
            Full::Account => {
                self.stats.over_quota_total.add(1);
                RETAINED
            }
        }
    }

    /// Tells the session's account how many bytes wait in it. What is in flight to a client that
    /// keeps up does not wait.
    #[inline]
    pub(super) fn count_stored(&mut self, session_id: SessionId) {
        let Some(session) = self.sessions.get_mut(session_id) else { return };
        let keeps_up = session.connection.is_some() && session.outbound.queued() == 0;
        let stored =
            if keeps_up || session.principal.is_broker() { 0 } else { session.outbound.bytes() };
        let before = std::mem::replace(&mut session.stored, stored);
        if stored == before {
            return;
        }
        let (tallies, account) = (&self.commons.tallies, session.principal.account);
        match stored.checked_sub(before) {
            Some(more) => tallies.add(account, Measure::QueuedBytes, more as u64),
            None => tallies.remove(account, Measure::QueuedBytes, (before - stored) as u64),
        }
    }
}

/// Whether a message would wait with a group, whose account is full.
fn waits_with(meter: &Meter, group: &Group) -> bool {
    let is_away = || {
        let turns = group.lock();
        !turns.members().iter().any(|member| member.presence.is_online())
    };
    meter.is_full_for(group.account) && is_away()
}
