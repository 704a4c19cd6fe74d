//! What the broker says under `flespi/`: the topics and the codes that tools look up (specification
//! of the broker, 7.4 and 20.4).
//!
//! Names of what varies are those that MQTT Board knows: by `{client-id}` it offers clients. Where
//! one follows another it would offer nothing, so names of events are spelled out.

use longshore_codec::ReasonCode;

use super::meaning::Severity::{Alert, Info, Notice as Note, Warning};
use super::meaning::{Detail, EventKind};

/// What topics of states of sessions begin with, which are where they are retained.
pub(crate) const SESSION_STATES: &str = "flespi/state/mqtt/";
/// What topics begin with where calls of REST are answered that come as messages, where there are
/// such.
pub(crate) const REST_ANSWERS: &str = "flespi/rest-response/";

/// Topics, with `{name}` for a level that varies, and what comes there. Those of counters have the
/// names of counters.
pub(crate) const TOPICS: [(&str, &str); 31] = [
    ("flespi/log/mqtt/sessions/{client-id}/accepted", "a client was let in"),
    ("flespi/log/mqtt/sessions/{client-id}/blocked", "a client of a blocked account came"),
    ("flespi/log/mqtt/sessions/{client-id}/rejected", "a client was not let in"),
    ("flespi/log/mqtt/sessions/{client-id}/closed", "a client is gone"),
    ("flespi/log/mqtt/sessions/{client-id}/overflowed", "too much waited for a client"),
    ("flespi/log/mqtt/sessions/{client-id}/subscribed", "a client has subscribed"),
    ("flespi/log/mqtt/sessions/{client-id}/unsubscribed", "a client has unsubscribed"),
    ("flespi/log/mqtt/sessions/{client-id}/created", "REST has subscribed for a client"),
    ("flespi/log/mqtt/sessions/{client-id}/updated", "REST has changed a subscription"),
    ("flespi/log/mqtt/sessions/{client-id}/deleted", "REST has removed a subscription"),
    ("flespi/log/platform/customer/{cid}/called", "a call of REST for an account"),
    ("flespi/log/platform/tokens/{token-id}/created", "a token was made"),
    ("flespi/log/platform/tokens/{token-id}/updated", "a token was changed"),
    ("flespi/log/platform/tokens/{token-id}/deleted", "a token was removed"),
    ("flespi/log/platform/tokens/{token-id}/expired", "a token has come to its end"),
    ("flespi/log/platform/subaccounts/{subaccount-id}/created", "an account below was made"),
    ("flespi/log/platform/subaccounts/{subaccount-id}/updated", "an account below was changed"),
    ("flespi/log/platform/subaccounts/{subaccount-id}/deleted", "an account below was removed"),
    ("flespi/log/platform/subaccounts/{subaccount-id}/moved", "an account below was moved"),
    ("flespi/log/platform/limits/{limit-id}/created", "a limit was made"),
    ("flespi/log/platform/limits/{limit-id}/updated", "a limit was changed"),
    ("flespi/log/platform/limits/{limit-id}/deleted", "a limit was removed"),
    ("flespi/state/platform/tokens/{token-id}", "a token, without its key"),
    ("flespi/state/platform/subaccounts/{subaccount-id}", "an account below"),
    ("flespi/state/platform/limits/{limit-id}", "a limit"),
    ("flespi/state/mqtt/sessions/{session-id}", "an MQTT session"),
    ("flespi/rest-response/get/{api-uri}", "what a message to flespi/rest/get has read"),
    ("flespi/rest-response/post/{api-uri}", "what a message to flespi/rest/post has made"),
    ("flespi/rest-response/put/{api-uri}", "what a message to flespi/rest/put has changed"),
    ("flespi/rest-response/patch/{api-uri}", "what a message to flespi/rest/patch has changed"),
    ("flespi/rest-response/delete/{api-uri}", "what a message to flespi/rest/delete has removed"),
];

/// Events, by what tools call those to whom they happen: `base` are all, and modules add theirs.
pub(crate) static EVENTS: [(&str, &[EventKind]); 3] =
    [("base", &OF_ALL), ("platform", &OF_PLATFORM), ("mqtt", &OF_MQTT)];

static OF_ALL: [EventKind; 3] = [
    EventKind::new(1, Note, "created"),
    EventKind::new(2, Warning, "updated"),
    EventKind::new(3, Warning, "deleted"),
];

static OF_PLATFORM: [EventKind; 3] = [
    EventKind::new(4, Warning, "moved to another account"),
    EventKind::new(600, Warning, "token expired and deleted"),
    EventKind::new(1000, Info, "REST request").with("response_code", &STATUSES),
];

static OF_MQTT: [EventKind; 10] = [
    EventKind::new(500, Note, "session connection accepted"),
    EventKind::new(501, Alert, "session connection blocked").with("error_code", &REASONS),
    EventKind::new(502, Warning, "session connection rejected").with("error_code", &REASONS),
    EventKind::new(503, Info, "session connection closed").with("close_code", &CLOSINGS),
    EventKind::new(504, Warning, "persistent session overflowed and deleted"),
    EventKind::new(510, Note, "subscription created via REST"),
    EventKind::new(511, Warning, "subscription updated via REST"),
    EventKind::new(512, Info, "subscription deleted via REST"),
    EventKind::new(520, Info, "session subscribed"),
    EventKind::new(521, Info, "session unsubscribed"),
];

/// What a call of REST is answered with.
static STATUSES: [Detail; 11] = [
    Detail::new(200, Info, "done"),
    Detail::new(400, Warning, "it makes no sense"),
    Detail::new(401, Warning, "no valid token"),
    Detail::new(403, Warning, "not open to the token, or a limit is reached"),
    Detail::new(404, Warning, "no such path or object"),
    Detail::new(405, Warning, "no such method"),
    Detail::new(408, Warning, "it came too slowly"),
    Detail::new(413, Warning, "too large"),
    Detail::new(429, Warning, "too often"),
    Detail::new(500, Alert, "the broker is at fault"),
    Detail::new(503, Alert, "not now"),
];

/// Reason codes of MQTT that say what went wrong.
static REASONS: [Detail; FAILURES] = reasons();
/// How connections end (20.5): by words of our own, and by those reason codes.
pub(crate) static CLOSINGS: [Detail; 4 + FAILURES] = closings();

const FIRST_FAILURE: usize = 0x80;
const FAILURES: usize = 0xa2 - FIRST_FAILURE + 1;

const fn reasons() -> [Detail; FAILURES] {
    let mut all = [Detail::new(0, Warning, ""); FAILURES];
    let mut at = 0;
    while at < FAILURES {
        let value = FIRST_FAILURE + at;
        let Some(reason) = ReasonCode::from_u8(value as u8) else { panic!("the standard has it") };
        all[at] = Detail::new(value as i64, Warning, reason.words());
        at += 1;
    }
    all
}

const fn closings() -> [Detail; 4 + FAILURES] {
    let mut all = [Detail::new(0, Warning, ""); 4 + FAILURES];
    all[0] = Detail::new(-1, Warning, "unexpected disconnect");
    all[1] = Detail::new(7, Warning, "the broker stops");
    all[2] = Detail::new(10, Warning, "closed by the client, or on a user's request");
    all[3] = Detail::new(17, Info, "nothing was sent for too long");
    let (reasons, mut at) = (reasons(), 0);
    while at < FAILURES {
        all[4 + at] = reasons[at];
        at += 1;
    }
    all
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use longshore_acl::Method;
    use longshore_codec::{QoS, Version};

    use super::*;
    use crate::called::ANSWERS;
    use crate::clock::Wall;
    use crate::connection::{Peer, Tally};
    use crate::notices::{
        Call, Change, Deed, Kind, Notice, What, log_topic, state_of_session, state_topic,
    };
    use crate::rest::Code;

    const KINDS: [Kind; 3] = [Kind::Token, Kind::Account, Kind::Limit];
    const CHANGES: [Change; 5] =
        [Change::Created, Change::Updated, Change::Deleted, Change::Moved, Change::Expired];

    /// Whether that can become of such an object.
    fn can_be(kind: Kind, change: Change) -> bool {
        match change {
            Change::Created | Change::Updated | Change::Deleted => true,
            Change::Moved => kind == Kind::Account,
            Change::Expired => kind == Kind::Token,
        }
    }

    /// One of everything that can happen to a session.
    fn deeds() -> Vec<Deed> {
        let peer = Peer { address: ([192, 0, 2, 1], 5000).into(), transport: "tcp" };
        let (topic, qos) = (|| Box::from("t"), QoS::AtMostOnce);
        let deeds = vec![
            Deed::Accepted { peer, version: Version::V5, token: None, resumed: false },
            Deed::Refused { peer, reason: 0x86, is_blocked: true },
            Deed::Refused { peer, reason: 0x86, is_blocked: false },
            Deed::Closed { peer, code: 0, tally: Tally::default(), secs: 0.0 },
            Deed::Overflowed { messages: 0, bytes: 0 },
            Deed::Subscribed { topic: topic(), qos },
            Deed::Unsubscribed { topic: topic() },
            Deed::Given { topic: topic(), qos, is_known: true },
            Deed::Given { topic: topic(), qos, is_known: false },
            Deed::Taken { topic: topic() },
        ];
        for deed in &deeds {
            // A new one belongs in the list above.
            match deed {
                Deed::Accepted { .. } | Deed::Refused { .. } | Deed::Closed { .. } => {}
                Deed::Overflowed { .. } | Deed::Subscribed { .. } | Deed::Unsubscribed { .. } => {}
                Deed::Given { .. } | Deed::Taken { .. } => {}
            }
        }
        deeds
    }

    /// One of everything that can happen.
    fn notices() -> Vec<Notice> {
        let of_sessions = deeds().into_iter();
        let of_sessions = of_sessions.map(|deed| What::Session { client_id: "a/b".into(), deed });
        let objects = KINDS.into_iter().flat_map(|kind| CHANGES.map(|change| (kind, change)));
        let objects = objects.filter(|(kind, change)| can_be(*kind, *change));
        let objects = objects.map(|(kind, change)| What::Object { kind, id: 7, change });
        let all = of_sessions.chain(objects).chain([What::Called(Box::<Call>::default())]);
        all.map(|what| Notice { account: 7, at: Wall(0), what }).collect()
    }

    /// The documented topic that this one is an example of.
    fn pattern(topic: &str) -> &'static str {
        let is_one = |pattern: &&str| {
            let (mut levels, mut of_pattern) = (topic.split('/'), pattern.split('/'));
            of_pattern
                .by_ref()
                .all(|of| levels.next().is_some_and(|it| of.starts_with('{') || of == it))
                && levels.next().is_none()
        };
        let found: Vec<_> = TOPICS.iter().map(|(pattern, _)| *pattern).filter(is_one).collect();
        assert_eq!(found.len(), 1, "{topic}: {found:?}");
        found[0]
    }

    /// Specification of the broker, 7.4, 20.4.
    #[test]
    fn the_dictionary_has_all_that_is_said_and_nothing_else() {
        let codes = notices().iter().map(|it| it.to_json()["event_code"].as_u64()).collect();
        let known = EVENTS.iter().flat_map(|(_, kinds)| *kinds);
        let known: BTreeSet<_> = known.map(|kind| Some(kind.code)).collect();
        assert_eq!(known, codes);
        let mut topics: Vec<_> = notices().iter().map(log_topic).collect();
        topics.extend(KINDS.map(|kind| state_topic(kind, 7)));
        topics.push(state_of_session(7, "a/b"));
        let methods = Method::ALL.map(|method| method.name().to_lowercase());
        topics.extend(methods.map(|method| format!("{ANSWERS}{method}/x")));
        let said: BTreeSet<_> = topics.iter().map(|topic| pattern(topic)).collect();
        assert_eq!(said, TOPICS.iter().map(|(pattern, _)| *pattern).collect());
    }

    /// Specification of the broker, 7.4, 20.3.
    #[test]
    fn a_field_that_explains_an_event_is_in_its_records() {
        for notice in notices() {
            let record = notice.to_json();
            let kinds = EVENTS.iter().flat_map(|(_, kinds)| *kinds);
            let mut kinds = kinds.filter(|kind| record["event_code"] == kind.code);
            let details = kinds.next().and_then(|kind| kind.details);
            assert!(details.is_none_or(|(field, _)| record[field].is_number()), "{record:?}");
        }
    }

    /// Specification of the broker, 7.4.
    #[test]
    fn every_status_of_rest_is_explained() {
        let known: BTreeSet<_> = STATUSES.iter().map(|it| it.value).collect();
        let mut statuses: BTreeSet<_> =
            Code::ALL.iter().map(|(code, _)| i64::from(code.status().as_u16())).collect();
        statuses.insert(200);
        assert_eq!(known, statuses);
    }
}
