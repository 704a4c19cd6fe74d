//! What the logs of accounts hear of sessions, and their states that are retained.

use std::fmt::Display;
use std::sync::Arc;

use longshore_acl::Credentials;
use longshore_codec::{Connect, QoS, ReasonCode};
use serde_json::Value;
use tracing::info;

use super::{OwnMessage, Shard, Step, Unsettled};
use crate::clock::Now;
use crate::connection::ConnectionId;
use crate::notices::{Deed, Notice, What, state_of_session};
use crate::session::{Session, SessionId};

/// Why a connection ended, where no reason code of MQTT 5 says it (specification of the broker,
/// 20.5).
pub(super) const UNEXPECTED: i16 = -1;
const SERVER_STOPS: i16 = 7;
const ASKED: i16 = 10;
const INACTIVE: i16 = 17;

/// States of sessions that one slice retains.
const STATES: usize = 64;
/// What a notice costs, as work of a turn.
const NOTICE_WORK: usize = 4;

/// What the log calls a reason.
pub(super) fn close_code(reason: ReasonCode) -> i16 {
    match reason {
        ReasonCode::ServerShuttingDown => SERVER_STOPS,
        ReasonCode::KeepAliveTimeout => INACTIVE,
        // REST has ended its session.
        ReasonCode::AdministrativeAction => ASKED,
        reason if reason.is_error() => i16::from(reason.value()),
        // What is no fault is a DISCONNECT of the client.
        _ => ASKED,
    }
}

impl Shard {
    /// Tells the log of an account, if anybody keeps one.
    fn notice(&mut self, account: u64, now: Now, what: impl FnOnce(&Self) -> What) {
        let Some(notices) = self.commons.notices() else { return };
        notices.put(Notice { account, at: now.wall, what: what(self) });
        self.work += NOTICE_WORK;
    }

    fn notice_of(&mut self, session_id: SessionId, now: Now, deed: impl FnOnce(&Self) -> Deed) {
        let Some(session) = self.sessions.get(session_id) else { return };
        if self.commons.notices().is_none() || self.is_link(session) {
            return;
        }
        let (account, client_id) = session.owner();
        self.notice(account, now, |shard| What::Session { client_id, deed: deed(shard) });
    }

    /// A client was let in.
    pub(super) fn note_accepted(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        resumed: bool,
        now: Now,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.online = now.mono;
        let (peer, version) = (connection.peer, connection.version);
        let token = self.sessions.get(session_id).and_then(|session| session.principal.token);
        let deed = Deed::Accepted { peer, version, token, resumed };
        self.notice_of(session_id, now, |_| deed);
        self.note_state(session_id, now);
    }

    /// A client was not let in. If it shows no token that is known, nobody is to hear of that.
    pub(super) fn note_refused(
        &mut self,
        id: ConnectionId,
        connect: &Connect<'_>,
        reason: ReasonCode,
        now: Now,
    ) {
        // Whoever guesses keys is not to cost more by it.
        let is_guessing = reason == ReasonCode::ConnectionRateExceeded;
        if is_guessing || self.commons.notices().is_none() {
            return;
        }
        let Some(connection) = self.connections.get(id) else { return };
        let peer = connection.peer;
        let credentials = Credentials { username: connect.username, password: connect.password };
        let known = self.authenticate.refused_of(&credentials);
        let Some((account, is_blocked)) = known else { return };
        let client_id = Arc::from(connect.client_id);
        let deed = Deed::Refused { peer, reason: reason.value(), is_blocked };
        self.notice(account, now, |_| What::Session { client_id, deed });
    }

    /// The one line that says that a client is gone, and why.
    pub(super) fn log_end(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        (code, cause): (i16, &dyn Display),
        now: Now,
    ) {
        let Some(connection) = self.connections.get(id) else { return };
        let client = self.client_id(session_id);
        if !connection.is_own() {
            info!(peer = %connection.peer.address, transport = connection.peer.transport, client,
                cause = %cause, "disconnected");
        }
        self.note_closed(id, session_id, code, now);
    }

    pub(super) fn note_closed(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        code: i16,
        now: Now,
    ) {
        let Some(connection) = self.connections.get(id) else { return };
        let (peer, tally) = (connection.peer, connection.tally);
        let secs = now.mono.since(connection.online).as_millis() as f64 / 1e3;
        self.notice_of(session_id, now, |_| Deed::Closed { peer, code, tally, secs });
    }

    /// A session could not keep what waits for it.
    pub(super) fn note_overflow(&mut self, session_id: SessionId, now: Now) {
        self.notice_of(session_id, now, |shard| {
            let outbound = shard.sessions.get(session_id).map(|session| &session.outbound);
            let (messages, bytes) = outbound.map_or((0, 0), |it| (it.queued(), it.bytes()));
            Deed::Overflowed { messages, bytes }
        });
    }

    pub(super) fn note_subscribed(
        &mut self,
        session_id: SessionId,
        topic: &str,
        qos: QoS,
        now: Now,
    ) {
        self.notice_of(session_id, now, |_| Deed::Subscribed { topic: topic.into(), qos });
    }

    pub(super) fn note_unsubscribed(&mut self, session_id: SessionId, topic: &str, now: Now) {
        self.notice_of(session_id, now, |_| Deed::Unsubscribed { topic: topic.into() });
    }

    /// REST has subscribed for a session, or, without a QoS, unsubscribed.
    pub(super) fn note_given(
        &mut self,
        session_id: SessionId,
        topic: &str,
        given: Option<(QoS, bool)>,
        now: Now,
    ) {
        let topic = topic.into();
        self.notice_of(session_id, now, |_| match given {
            Some((qos, is_known)) => Deed::Given { topic, qos, is_known },
            None => Deed::Taken { topic },
        });
    }

    /// Whether the state of this session is to be retained.
    fn has_state(&self, session: &Session) -> bool {
        self.dialect.session_state
            && session.principal.token.is_some()
            && !session.principal.anonymous
            && !self.is_link(session)
            && self.commons.notices().is_some()
    }

    /// The state of the session is retained anew, at the end of this step.
    pub(super) fn note_state(&mut self, session_id: SessionId, now: Now) {
        let Some(session) = self.sessions.get(session_id) else { return };
        if !self.has_state(session) {
            return;
        }
        let (account, client_id) = session.owner();
        let payload = Value::Object(self.session_object(session)).to_string();
        let topic = state_of_session(account, &client_id);
        let message = OwnMessage::new(account, topic, payload, now.wall).retained();
        self.unsettled.push_back(Unsettled::State(Box::new(message)));
    }

    /// The sessions there are, to go through them in slices.
    pub(crate) fn all_sessions(&self) -> Vec<SessionId> {
        if self.dialect.session_state { self.sessions.keys().collect() } else { Vec::new() }
    }

    /// Retains the states of some of these sessions, and takes those off the list.
    pub(crate) fn renew_states(&mut self, left: &mut Vec<SessionId>, now: Now) -> Step {
        for session_id in left.split_off(left.len().saturating_sub(STATES)) {
            self.note_state(session_id, now);
        }
        if left.is_empty() { Step::Done } else { Step::More }
    }

    /// The state of a session that is no more is retained no longer.
    pub(super) fn clear_state(&mut self, session: &Session, now: Now) {
        if self.has_state(session) {
            let (account, client_id) = session.owner();
            let topic = state_of_session(account, &client_id);
            let message = OwnMessage::new(account, topic, "", now.wall).retained();
            self.unsettled.push_back(Unsettled::State(Box::new(message)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notices::dictionary::CLOSINGS;

    /// Specification of the broker, 7.4, 20.5.
    #[test]
    fn every_way_a_connection_ends_is_explained() {
        let reasons = (0..=u8::MAX).filter_map(ReasonCode::from_u8);
        for code in reasons.map(close_code).chain([UNEXPECTED]) {
            assert_eq!(
                CLOSINGS.iter().filter(|it| it.value == i64::from(code)).count(),
                1,
                "{code}"
            );
        }
    }
}
