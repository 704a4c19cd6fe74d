//! What falls due as time passes.

use longshore_broker::clock::{Mono, Now};
use longshore_codec::ReasonCode;

use crate::sim::network::LineId;

use super::Oracle;
use super::book::{Connection, Session, SessionNumber, Stage};

/// Seconds a connection that is to close may take to read its last packets.
const LINGER_SECS: u64 = 5;

impl Oracle {
    /// The broker looks at its deadlines.
    pub(crate) fn advance(&mut self) {
        let now = self.now;
        let mut due: Vec<_> = self
            .connections
            .iter()
            .filter_map(|(line, connection)| {
                let (at, fault) = self.connection_due(connection)?;
                (at <= now.mono).then_some((at, *line, fault))
            })
            .collect();
        due.sort_unstable();
        for (_, line, fault) in due {
            // An earlier one may have ended it, through a will that was too much for it.
            if self.connection(line).stage != Stage::Closing {
                self.fail(line, fault);
            }
            self.publish_wills();
        }
        while let Some(number) = self.next_session_due() {
            self.session_due(number);
            self.publish_wills();
        }
        self.retained.retain(|_, message| !message.is_expired(now));
        // However the clock is set later, they may be gone by now.
        for debt in self.sessions.values_mut().flat_map(|session| &mut session.retained) {
            debt.is_optional |= debt.message.is_expired(now);
        }
    }

    /// When the connection ends if nothing happens, and why.
    fn connection_due(&self, connection: &Connection) -> Option<(Mono, ReasonCode)> {
        let limits = &self.limits;
        match connection.stage {
            Stage::Closing => return None,
            Stage::Connecting => {
                let at = connection.accepted.plus_secs(limits.connect_timeout_secs);
                return Some((at, ReasonCode::KeepAliveTimeout));
            }
            Stage::Online(_) => {}
        }
        // While the broker does not read, silence means nothing.
        let silence = (connection.keep_alive_secs > 0 && !connection.is_paused).then(|| {
            let micros = u64::from(connection.keep_alive_secs) * 1_500_000;
            (Mono(connection.received.0 + micros), ReasonCode::KeepAliveTimeout)
        });
        let packet = (!connection.partial.is_empty()).then(|| {
            let at = connection.partial_since.plus_secs(limits.packet_secs);
            (at, ReasonCode::KeepAliveTimeout)
        });
        let stall = connection.stalled.map(|since| {
            let at = since.plus_secs(limits.output_stall_secs);
            (at, ReasonCode::QuotaExceeded)
        });
        [silence, packet, stall].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    fn next_session_due(&self) -> Option<SessionNumber> {
        let due = self.sessions.values().filter_map(|session| {
            let at = [session.ends, session.will_due].into_iter().flatten().min()?;
            (at <= self.now.mono).then_some((at, session.number))
        });
        due.min().map(|(_, number)| number)
    }

    fn session_due(&mut self, number: SessionNumber) {
        let now = self.now;
        let session = self.session(number);
        if session.ends.is_some_and(|end| end <= now.mono) {
            self.end_session(number);
        } else {
            session.will_due = None;
            let will = session.will.take();
            self.wills.extend(will);
        }
    }

    /// The next instant at which the broker has to do something.
    pub(crate) fn next_due(&self) -> Option<Mono> {
        let connections = self.connections.values().filter_map(|connection| {
            let linger = connection.closing_since.plus_secs(LINGER_SECS);
            let lingers = connection.stage == Stage::Closing && connection.output_len > 0;
            let due = self.connection_due(connection).map(|(at, _)| at);
            due.or(lingers.then_some(linger))
        });
        let sessions = self.sessions.values().flat_map(|session| [session.ends, session.will_due]);
        connections.chain(sessions.flatten()).min()
    }

    /// Connections that end by themselves until `at`.
    pub(crate) fn connections_due(&self, at: Mono) -> usize {
        let due = |connection| self.connection_due(connection).is_some_and(|(due, _)| due <= at);
        self.connections.values().filter(|connection| due(connection)).count()
    }

    /// Sessions that end, or whose wills are published, by themselves until `at`.
    pub(crate) fn sessions_due(&self, at: Mono) -> usize {
        let is_due = |due: Option<Mono>| due.is_some_and(|due| due <= at);
        let due = |session: &&Session| is_due(session.ends) || is_due(session.will_due);
        self.sessions.values().filter(due).count()
    }

    /// Whether the broker may give the rest of a closing connection's output up.
    pub(crate) fn may_drop_output(&self, line: LineId, now: Now) -> bool {
        self.connections.get(&line).is_some_and(|connection| {
            connection.stage == Stage::Closing
                && connection.closing_since.plus_secs(LINGER_SECS) <= now.mono
        })
    }

    /// The transport took `count` bytes of the output, and `left` wait.
    pub(crate) fn wrote(&mut self, line: LineId, count: usize, left: usize) {
        let now = self.now;
        let most = self.limits.output_bytes.saturating_mul(2);
        let connection = self.connection(line);
        if left == 0 {
            connection.stalled = None;
        } else if count > 0 || connection.stalled.is_none() {
            connection.stalled = Some(now.mono);
        }
        connection.output_len = left;
        let paused = left > most && connection.stage != Stage::Closing;
        if connection.is_paused && !paused {
            connection.received = now.mono;
        }
        connection.is_paused = paused;
    }
}
