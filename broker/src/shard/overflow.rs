//! What becomes of a session whose queue is full.

use longshore_codec::ReasonCode;
use tracing::warn;

use super::{Cause, Fault, Shard, Unsettled};
use crate::clock::Now;
use crate::limits::{Limits, QueueOverflow};
use crate::session::{Outbound, Pending, SessionId};
use crate::stats::Drop;

const CAUSE: &str = "its queue is full (limits.queue_messages, queue_bytes, queue_bytes_total)";

impl Limits {
    /// Whether one more message of `size` bytes may wait there.
    pub(super) fn has_room(&self, outbound: &Outbound, size: usize) -> bool {
        let fits =
            outbound.queued() < self.queue_messages && outbound.bytes() + size <= self.queue_bytes;
        // One message is always taken, however large.
        fits || outbound.queued() == 0
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
