//! What the API asks of sessions: to list them, to make and to end them, and to subscribe for them.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dashmap::Entry;
use longshore_acl::{Action, Principal};
use longshore_codec::{QoS, ReasonCode, RetainHandling, SubscribeOptions};
use serde_json::{Map, Value, json};

use super::quota::SESSIONS;
use super::{Fault, Shard};
use crate::clock::Now;
use crate::parties::is_reserved;
use crate::record::Event;
use crate::session::{NEVER, Session, SessionId, Subscription};
use crate::tally::Measure;

/// Bits of a number that every reader of JSON has exactly.
const NUMBER_BITS: u32 = 53;

/// The number of a session in the API: always the same for an account and a client identifier.
pub(crate) fn session_number(account: u64, client_id: &str) -> u64 {
    number(account.to_le_bytes().iter().chain(client_id.as_bytes()))
}

/// The number of a subscription in the API: always the same for a topic filter.
pub(crate) fn subscription_number(filter: &str) -> u64 {
    number(filter.as_bytes().iter())
}

/// FNV-1a, folded: it has to be the same in every version.
fn number<'a>(bytes: impl Iterator<Item = &'a u8>) -> u64 {
    let take = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325, take);
    let folded = (hash ^ (hash >> NUMBER_BITS)) & ((1 << NUMBER_BITS) - 1);
    folded.max(1)
}

/// Where a session is, and what the API shows of it.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    pub(crate) id: SessionId,
    pub(crate) object: Map<String, Value>,
}

/// Sessions, or subscriptions of sessions, of one slice, and where the next begins.
#[derive(Debug, Default)]
pub(crate) struct Slice<T> {
    pub(crate) found: Vec<T>,
    pub(crate) next: Option<u32>,
}

/// Why the API cannot have something: the reason code that a client would get, and the cause.
pub(crate) type Denied = (ReasonCode, String);

impl Shard {
    /// The sessions of these accounts from a place on, among at most so many that are looked at.
    pub(crate) fn show_sessions(
        &self,
        accounts: &[u64],
        mut place: u32,
        visits: usize,
    ) -> Slice<Shown> {
        let mut slice = Slice { found: Vec::new(), next: None };
        for _ in 0..visits {
            let Some(id) = self.sessions.key_from(place) else { return slice };
            place = id.index() + 1;
            let Some(session) = self.sessions.get(id) else { continue };
            if accounts.binary_search(&session.principal.account).is_ok() && !self.is_link(session)
            {
                slice.found.push(Shown { id, object: self.session_object(session) });
            }
        }
        slice.next = Some(place);
        slice
    }

    /// Whether the session is that of a part of this process.
    pub(super) fn is_link(&self, session: &Session) -> bool {
        let connection = session.connection.and_then(|id| self.connections.get(id));
        if session.principal.is_broker() {
            return true;
        }
        session.expiry_secs == 0 && connection.is_some_and(|it| it.peer.transport == "link")
    }

    /// A session as the API shows it (specification of the broker, 15.2.1).
    pub(crate) fn session_object(&self, session: &Session) -> Map<String, Value> {
        let Principal { account, token, .. } = session.principal;
        let connection = session.connection.and_then(|id| self.connections.get(id));
        let expires = match (connection, session.left, session.expiry_secs) {
            (Some(_), ..) | (None, None, _) | (.., NEVER) => 0,
            (None, Some(left), secs) => left.0 / 1_000_000 + u64::from(secs),
        };
        let fields = json!({
            "id": session_number(account, &session.client_id),
            "client_id": &*session.client_id,
            "clean": session.expiry_secs == 0,
            "connected": connection.is_some(),
            "cid": account,
            "ip": connection.map(|it| it.peer.address.ip().to_canonical().to_string()),
            "size": session.outbound.weight(),
            "messages": session.outbound.queued(),
            "expires": expires,
            "expiry_interval": session.expiry_secs,
            "version": connection.map(|it| it.version.to_string()),
            "transport": connection.map(|it| it.peer.transport),
            "token_id": token,
            "subscriptions_count": session.subscription_count(),
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }

    /// The subscriptions of a session as the API shows them (15.2.2).
    pub(crate) fn show_subscriptions(&self, id: SessionId) -> Vec<Map<String, Value>> {
        let Some(session) = self.sessions.get(id) else { return Vec::new() };
        let of = (session_number(session.principal.account, &session.client_id), session);
        let all = session.all_subscriptions();
        all.map(|(filter, known)| subscription_object(of, filter, known)).collect()
    }

    /// Makes a session that lasts, for a client that is yet to come (15.2.8).
    pub(crate) fn make_session(
        &mut self,
        principal: Principal,
        client_id: &str,
        expiry_secs: u32,
        now: Now,
    ) -> Result<Map<String, Value>, Denied> {
        let expiry_secs = expiry_secs.min(self.limits.session_expiry_secs);
        if self.commons.sessions.load(Ordering::Relaxed) >= self.limits.sessions {
            return Err(denied(ReasonCode::QuotaExceeded, "too many sessions (limits.sessions)"));
        }
        if !self.commons.tallies.has_room(principal.account, Measure::Sessions) {
            return Err(denied(ReasonCode::QuotaExceeded, SESSIONS));
        }
        self.check_storage(false).map_err(|fault| (fault.reason, fault.cause.to_string()))?;
        let commons = Arc::clone(&self.commons);
        let Entry::Vacant(place) = commons.roster.entry((principal.account, client_id.into()))
        else {
            return Err(denied(ReasonCode::ClientIdentifierNotValid, "there is such a session"));
        };
        let holder = self.new_holder(expiry_secs);
        let mut session = Session::new(client_id.into(), principal, holder);
        session.expiry_secs = expiry_secs;
        session.left = Some(now.wall);
        session.ends = match expiry_secs {
            NEVER => None,
            secs => Some(now.mono.plus_secs(u64::from(secs))),
        };
        let id = *place.insert(self.add_session(session));
        self.note_session(id, true);
        self.schedule_session(id);
        self.note_state(id, now);
        self.settle(now);
        Ok(self.sessions.get(id).map(|session| self.session_object(session)).unwrap_or_default())
    }

    /// Ends a session, and its connection if it has one (15.2). Whether it was there.
    pub(crate) fn remove_session(&mut self, id: SessionId, now: Now) -> bool {
        let Some(session) = self.sessions.get(id) else { return false };
        if let Some(connection) = session.connection {
            let cause = "the session was deleted";
            self.fail(connection, Fault::new(ReasonCode::AdministrativeAction, cause), now);
        }
        self.end_session(id, "it was deleted", now);
        self.settle(now);
        true
    }

    /// Subscribes for a session, as SUBSCRIBE of its client would with the same rights as whoever
    /// asks and the session have both.
    pub(crate) fn subscribe_for(
        &mut self,
        id: SessionId,
        by: u32,
        filter: &str,
        subscription: Subscription,
        now: Now,
    ) -> Result<Map<String, Value>, Denied> {
        let asked =
            self.check_filter(id, filter).map_err(|(reason, cause)| denied(reason, cause))?;
        if self.commons.classes.reads_nothing_of(by, asked.inner) {
            let cause = "nothing that the topic filter matches may be read";
            return Err(denied(ReasonCode::NotAuthorized, cause));
        }
        let session = self.sessions.get(id);
        let is_known = session.is_some_and(|session| session.subscription(filter).is_some());
        let done = self.subscribe(id, filter, &asked, subscription, None);
        let granted = done.map_err(|(reason, cause)| denied(reason, cause))?;
        self.note_subscription(id, filter);
        self.note_given(id, filter, Some((granted, is_known)), now);
        self.stats.subscriptions.set(self.subscriptions);
        self.pump(id, now);
        let Some(session) = self.sessions.get(id) else { return Ok(Map::new()) };
        let of = (session_number(session.principal.account, &session.client_id), session);
        let known = session.subscription(filter);
        Ok(known.map(|known| subscription_object(of, filter, known)).unwrap_or_default())
    }

    /// Takes a subscription of a session away; whether it was there.
    pub(crate) fn unsubscribe_for(&mut self, id: SessionId, filter: &str, now: Now) -> bool {
        let holder = self.holder_of(id);
        let was_there = self.unsubscribe(id, filter);
        if was_there {
            self.note(holder, &Event::Unsubscribe { holder, filter });
            self.note_given(id, filter, None, now);
            self.stats.subscriptions.set(self.subscriptions);
        }
        was_there
    }

    /// Whether a message on a topic would reach a session now, at most at which QoS, and why or why
    /// not, in the order in which it is found out.
    pub(crate) fn explain(&mut self, id: SessionId, topic: &str) -> Value {
        let Some(session) = self.sessions.get(id) else {
            return json!({"reaches": false, "reason": "there is no such session"});
        };
        let Principal { account, class, anonymous, .. } = session.principal;
        let selects = match self.dialect.selectors {
            true => longshore_codec::filter::matches_selectors,
            false => longshore_codec::filter::matches,
        };
        let is_hidden =
            |inner: &str| anonymous && is_reserved(topic) && inner.starts_with(['+', '#']);
        let mut matching = Vec::new();
        for (filter, known) in session.all_subscriptions() {
            let Ok(asked) = self.commons.take_apart(filter) else { continue };
            if selects(asked.inner, topic) && !is_hidden(asked.inner) {
                let only = if known.only != 0 { known.only } else { asked.only() };
                matching.push(json!({
                    "topic": filter,
                    "qos": known.options.qos as u8,
                    "is_shared": asked.share.is_some(),
                    "cid": if only == 0 { Value::Null } else { only.into() },
                    "asks_of_message": asked.condition.is_some_and(|it| !it.is_plain()),
                }));
            }
        }
        let may_read = self.commons.classes.allows(class, Action::Subscribe, topic);
        let is_online = session.connection.is_some();
        let is_full = !self.limits.has_room(&session.outbound, topic.len());
        let reason = match () {
            () if matching.is_empty() => "no subscription of the session matches the topic",
            () if !may_read => "the token of the session may not read the topic",
            () if !is_online && session.expiry_secs == 0 => "the client is gone",
            () if !is_online && is_full => "the client is offline and its queue is full",
            () if !is_online => "the client is offline: at QoS 1 and 2 the message waits for it",
            () if !session.outbound.has_room() => {
                "the window of the client is full: at QoS 1 and 2 the message waits"
            }
            () => "the message is sent at once",
        };
        let reaches = !matching.is_empty() && may_read && (is_online || !is_full);
        json!({
            "reaches": reaches,
            "reason": reason,
            "client_id": &*session.client_id,
            "cid": account,
            "topic": topic,
            "subscriptions": matching,
            "may_read": may_read,
            "connected": is_online,
            "waiting": session.outbound.queued(),
        })
    }
}

fn denied(reason: ReasonCode, cause: &str) -> Denied {
    (reason, cause.to_owned())
}

fn subscription_object(
    (session_id, session): (u64, &Session),
    filter: &str,
    subscription: &Subscription,
) -> Map<String, Value> {
    let SubscribeOptions { qos, no_local, retain_as_published, retain_handling } =
        subscription.options;
    let fields = json!({
        "id": subscription_number(filter),
        "session_id": session_id,
        "client_id": &*session.client_id,
        "topic": filter,
        "qos": qos as u8,
        "no_local": no_local,
        "rap": retain_as_published,
        "retain_handling": retain_handling as u8,
        "subscription_id": subscription.identifier.map_or(0, NonZeroU32::get),
        "cid": if subscription.only == 0 { Value::Null } else { subscription.only.into() },
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

/// What the API asks of a topic filter.
pub(crate) fn asked_of(
    qos: QoS,
    no_local: bool,
    retain_as_published: bool,
    retain_handling: RetainHandling,
    identifier: Option<NonZeroU32>,
    only: u64,
) -> Subscription {
    let options = SubscribeOptions { qos, no_local, retain_as_published, retain_handling };
    Subscription { options, identifier, only, read: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_the_same_number_always_and_one_that_json_can_carry() {
        assert_eq!(session_number(1, "client"), session_number(1, "client"));
        assert_ne!(session_number(1, "client"), session_number(2, "client"));
        assert_ne!(session_number(1, "client"), session_number(1, "clients"));
        for id in ["", "a", "client", "\u{e9}"] {
            assert!((1..1 << NUMBER_BITS).contains(&session_number(u64::MAX, id)));
        }
    }
}
