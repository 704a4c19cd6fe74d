//! Deadlines: what happens when nothing does.

use longshore_codec::ReasonCode;

use super::{Fault, Shard};
use crate::clock::{Mono, Now};
use crate::connection::{Connection, ConnectionId, Stage};
use crate::output::Output;

/// Pages that leave memory in one call.
const PAGES_AT_ONCE: usize = 16;

/// Retained messages that one call removes at their end, so that no turn is long.
const EXPIRE_COUNT: usize = 1024;

impl Shard {
    /// Does what is due by `now`. When to call again at the latest; `now` itself means that work
    /// is left which may go on at once.
    pub fn advance(&mut self, now: Now) -> Option<Mono> {
        while let Some(id) = self.connection_timers.pop(now.mono) {
            self.connection_due(id, now);
            self.settle(now);
        }
        while let Some(id) = self.session_timers.pop(now.mono) {
            self.session_due(id, now);
            self.settle(now);
        }
        self.relieve_pages(PAGES_AT_ONCE);
        self.hand_out_fresh(now);
        self.resume_resting(now);
        let more = self.commons.retained.expire(now.wall, EXPIRE_COUNT);
        self.clear_turn();
        self.read_turn(now);
        self.run_tasks(now);
        self.settle(now);
        self.stats.queued_bytes.set(self.queued_bytes());
        if more { Some(now.mono) } else { self.next_deadline(now) }
    }

    /// Makes sure the connection is looked at when it may be due.
    ///
    /// A deadline only ever moves forward while bytes come, so it is not moved then: it is looked
    /// at when it comes, and set anew.
    pub(super) fn schedule(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connections.get(id) else { return };
        let Some((at, _)) = self.due(connection, now) else { return };
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.deadline.is_none_or(|set| at < set) {
            self.connection_timers.set(id, &mut connection.deadline, Some(at));
        }
    }

    /// When the connection ends if nothing happens, and why.
    fn due(&self, connection: &Connection, now: Now) -> Option<(Mono, Fault)> {
        let limits = &self.limits;
        if matches!(connection.stage, Stage::Connecting | Stage::Moving(_)) {
            let cause = "no CONNECT in time (limits.connect_timeout_secs)";
            let at = connection.since.plus_secs(limits.connect_timeout_secs);
            return Some((at, Fault::new(ReasonCode::KeepAliveTimeout, cause)));
        }
        let silence = connection.silence_max().map(|silence| {
            // Bytes that we do not read may well be there.
            let from = if connection.is_unread() { now.mono } else { connection.received };
            let cause = "nothing came for one and a half times the keep alive";
            (Mono(from.0 + silence), Fault::new(ReasonCode::KeepAliveTimeout, cause))
        });
        let packet = (!connection.partial.is_empty() && !connection.resting).then(|| {
            let cause = "a packet took too long to arrive (limits.packet_secs)";
            let at = connection.since.plus_secs(limits.packet_secs);
            (at, Fault::new(ReasonCode::KeepAliveTimeout, cause))
        });
        let stall = connection.stalled.map(|since| {
            let cause = "the client does not read (limits.output_stall_secs)";
            let at = since.plus_secs(limits.output_stall_secs);
            (at, Fault::new(ReasonCode::QuotaExceeded, cause))
        });
        [silence, packet, stall].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn connection_due(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.deadline = None;
        if connection.stage == Stage::Closing {
            // It did not take its last packets; it had time to.
            connection.output = Output::default();
            self.mark(id);
            return;
        }
        let Some(connection) = self.connections.get(id) else { return };
        match self.due(connection, now) {
            Some((at, fault)) if at <= now.mono => self.fail(id, fault, now),
            _ => self.schedule(id, now),
        }
    }
}
