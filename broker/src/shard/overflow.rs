//! What becomes of a session whose queue is full.

use longshore_codec::{Publish, QoS, ReasonCode};
use tracing::warn;

use super::{Cause, Fault, Shard, Unsettled};
use crate::cache::{Route, Target};
use crate::clock::Now;
use crate::index::Subscriber;
use crate::limits::{Limits, QueueOverflow};
use crate::session::{Outbound, Pending, Session, SessionId};
use crate::stats::Drop;

const CAUSE: &str = "its queue is full (limits.queue_messages, queue_bytes, queue_bytes_total)";

/// Why a message is refused that would wait for a module.
pub(super) const INBOX: &str =
    "a module does not keep up, and its queue is full (limits.queue_messages, queue_bytes)";

/// Bytes that wait in memory for a module that is there: beyond, they wait on the disk, as they do
/// for a client that is away.
const INBOX_BYTES: usize = 4 << 20;

impl Session {
    /// Whether it is one of a module that outlives its connection, and so loses nothing.
    pub(super) fn is_inbox(&self) -> bool {
        self.principal.is_broker() && self.expiry_secs > 0
    }

    /// Whether what waits for it from now on is left to the disk though it is there.
    pub(super) fn leaves_to_disk(&self) -> bool {
        self.outbound.bytes_in_memory() > INBOX_BYTES && self.is_inbox()
    }
}

impl Limits {
    /// Whether one more message of `size` bytes may wait there.
    pub(super) fn has_room(&self, outbound: &Outbound, size: usize) -> bool {
        let fits =
            outbound.queued() < self.queue_messages && outbound.bytes() + size <= self.queue_bytes;
        // One message is always taken, however large.
        fits || outbound.queued() == 0
    }

    /// Whether a quarter of the room is free.
    fn has_much_room(&self, outbound: &Outbound) -> bool {
        outbound.queued() <= self.queue_messages / 4 * 3
            && outbound.bytes() <= self.queue_bytes / 4 * 3
    }
}

impl Shard {
    /// Sees to it that references to messages on the disk take no more memory than they may; up to
    /// so many pages leave it.
    #[inline]
    pub(super) fn relieve_pages(&mut self, most: usize) {
        if self.pages.are_over() {
            self.let_pages_out(most);
        }
    }

    #[cold]
    fn let_pages_out(&mut self, most: usize) {
        if self.journal.as_deref().is_some_and(|journal| journal.is_copying()) {
            // Their places are known when this batch is appended.
            return;
        }
        let relieved = self.pages.relieve(most);
        if let (Err(cause), false) = (&relieved, self.pages_stay) {
            warn!(%cause, "what waits takes more memory than limits.queue_memory");
        }
        self.pages_stay = relieved.is_err();
    }

    /// Sees to a session that has no room for one more message, whose record is written or is yet
    /// to be; whether there is room then.
    pub(super) fn make_room(&mut self, to: SessionId, pending: &Pending, is_written: bool) -> bool {
        if self.fill_inbox(to) {
            // It was not refused, so it is kept: from now on others are.
            return true;
        }
        if self.limits.queue_overflow == QueueOverflow::End {
            self.unsettled.push_back(Unsettled::Overflow(to));
            return false;
        }
        loop {
            let Some(session) = self.sessions.get(to) else { return false };
            if self.limits.has_room(&session.outbound, pending.message.size()) {
                return true;
            }
            let oldest = session.outbound.oldest();
            if oldest != 0 && oldest == pending.message.number() && !is_written {
                // It is here already, through another subscription, and its end cannot stand in
                // the journal before it does.
                self.stats.dropped(Drop::QueueFull, 1);
                return false;
            }
            self.drop_oldest(to);
        }
    }

    /// Notes that a session has no room, if it is one of a module; whether it is.
    pub(super) fn fill_inbox(&mut self, session_id: SessionId) -> bool {
        let Some(session) = self.sessions.get(session_id).filter(|it| it.is_inbox()) else {
            return false;
        };
        if self.commons.full_inboxes.add(session_id) {
            let (messages, bytes) = (session.outbound.queued(), session.outbound.bytes());
            warn!(client = &*session.client_id, messages, bytes, cause = INBOX, "no more is taken");
        }
        true
    }

    /// Takes messages for the session of a module again, if it has been full and has room.
    #[cold]
    pub(super) fn open_inbox(&mut self, session_id: SessionId) {
        let session = self.sessions.get(session_id);
        if session.is_none_or(|session| self.limits.has_much_room(&session.outbound)) {
            self.commons.full_inboxes.remove(session_id);
        }
    }

    /// Whether a message would wait for a module that is full.
    #[cold]
    pub(super) fn fills_inbox(
        &self,
        from: SessionId,
        route: &Route,
        publish: &Publish<'_>,
    ) -> bool {
        let inboxes = &self.commons.full_inboxes;
        let is_link = self.sessions.get(from).is_some_and(|it| it.principal.is_broker());
        if publish.dup && is_link {
            inboxes.begin_again(from);
        }
        let is_full = |inbox: SessionId| inboxes.refuses(inbox, (from, is_link));
        let is_kept = |of: QoS| of.min(publish.qos) != QoS::AtMostOnce;
        let waits = |it: &Target| is_kept(it.qos) && is_full(it.session);
        let asks = |it: &Subscriber| is_kept(it.qos) && is_full(it.session);
        route.targets.iter().any(waits)
            || route.remote.iter().any(|(_, targets)| targets.iter().any(waits))
            || route.conditional.iter().flatten().any(asks)
    }

    /// Drops the oldest message that waits in the session, which the log hears of once until none
    /// waits any more; false when none does.
    pub(super) fn drop_oldest(&mut self, session_id: SessionId) -> bool {
        let Some(session) = self.sessions.get_mut(session_id) else { return false };
        let outbound = &mut session.outbound;
        let (messages, bytes, before) = (outbound.queued(), outbound.bytes(), outbound.memory());
        let Some((dropped, is_news)) = outbound.drop_oldest() else { return false };
        self.queued_bytes = self.queued_bytes + outbound.memory() - before;
        self.stats.dropped(Drop::QueueFull, 1);
        if is_news {
            warn!(
                client = &*session.client_id,
                messages,
                bytes,
                cause = CAUSE,
                "a session loses its oldest messages"
            );
        }
        self.note_done(dropped.recorded());
        self.count_stored(session_id);
        true
    }

    /// A session that cannot keep its messages any more ends, rather than lose some in silence.
    pub(super) fn overflow(&mut self, session_id: SessionId, now: Now) {
        let session = self.sessions.get(session_id);
        if session.is_some_and(|session| session.expiry_secs > 0) {
            self.note_overflow(session_id, now);
        }
        let Some(session) = self.sessions.get_mut(session_id) else { return };
        session.expiry_secs = 0;
        let (messages, bytes) = (session.outbound.queued(), session.outbound.bytes());
        match session.connection {
            Some(connection) => {
                let cause = Cause::Full { cause: CAUSE, messages, bytes };
                self.fail(connection, Fault { reason: ReasonCode::QuotaExceeded, cause }, now);
            }
            None => {
                let client = &session.client_id;
                warn!(client = &**client, messages, bytes, cause = CAUSE, "session ended");
                self.end_session(session_id, CAUSE, now);
            }
        }
    }
}
