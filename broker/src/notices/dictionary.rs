//! What the broker says under `flespi/`: the topics and the codes that tools look up (specification
//! of the broker, 7.4 and 20.4).

/// Where states of sessions are, where they are retained.
pub(crate) const SESSION_STATES: &str = "flespi/state/mqtt/sessions/{session_id}";
/// Where counters are, where they are retained.
pub(crate) const COUNTERS: &str = "flespi/state/platform/customer/counters/{group}/{counter}";

/// Where calls of REST are answered that come as messages, where there are such.
pub(crate) const REST_ANSWERS: &str = "flespi/rest-response/{method}/{uri}";

/// Topics, with `{name}` for a level that varies, and what comes there.
pub(crate) const TOPICS: [(&str, &str); 11] = [
    ("flespi/log/mqtt/sessions/{client_id}/{event}", "what happens to an MQTT session"),
    ("flespi/log/platform/customer/{cid}/{event}", "calls of REST for an account"),
    ("flespi/log/platform/tokens/{token_id}/{event}", "what becomes of a token"),
    ("flespi/log/platform/subaccounts/{subaccount_id}/{event}", "what becomes of an account below"),
    ("flespi/log/platform/limits/{limit_id}/{event}", "what becomes of a limit"),
    ("flespi/state/platform/tokens/{token_id}", "a token, without its key"),
    ("flespi/state/platform/subaccounts/{subaccount_id}", "an account below"),
    ("flespi/state/platform/limits/{limit_id}", "a limit"),
    (COUNTERS, "what an account uses"),
    (SESSION_STATES, "an MQTT session"),
    (REST_ANSWERS, "the answer to a call of REST that came as a message"),
];

/// Codes of events.
pub(crate) const CODES: [(u64, &str); 16] = [
    (1, "created"),
    (2, "updated"),
    (3, "deleted"),
    (4, "moved to another account"),
    (500, "session connection accepted"),
    (501, "session connection blocked"),
    (502, "session connection rejected"),
    (503, "session connection closed"),
    (504, "persistent session overflowed and deleted"),
    (510, "subscription created via REST"),
    (511, "subscription updated via REST"),
    (512, "subscription deleted via REST"),
    (520, "session subscribed"),
    (521, "session unsubscribed"),
    (600, "token expired and deleted"),
    (1000, "REST request"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use longshore_codec::{QoS, Version};

    use super::*;
    use crate::called::ANSWERS;
    use crate::clock::Wall;
    use crate::connection::{Peer, Tally};
    use crate::notices::{
        Call, Change, Deed, Kind, Notice, What, counter_topic, log_topic, state_of_session,
        state_topic,
    };

    const KINDS: [Kind; 3] = [Kind::Token, Kind::Account, Kind::Limit];
    const CHANGES: [Change; 5] =
        [Change::Created, Change::Updated, Change::Deleted, Change::Moved, Change::Expired];

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
            // A new one belongs in the list above, and so does one of a new kind or change.
            match deed {
                Deed::Accepted { .. } | Deed::Refused { .. } | Deed::Closed { .. } => {}
                Deed::Overflowed { .. } | Deed::Subscribed { .. } | Deed::Unsubscribed { .. } => {}
                Deed::Given { .. } | Deed::Taken { .. } => {}
            }
        }
        for (kind, change) in KINDS.into_iter().zip(CHANGES) {
            match (kind, change) {
                (Kind::Token | Kind::Account | Kind::Limit, Change::Created | Change::Updated) => {}
                (_, Change::Deleted | Change::Moved | Change::Expired) => {}
            }
        }
        deeds
    }

    /// One of everything that can happen.
    fn notices() -> Vec<Notice> {
        let of_sessions = deeds().into_iter();
        let of_sessions = of_sessions.map(|deed| What::Session { client_id: "a/b".into(), deed });
        let objects = KINDS.into_iter().flat_map(|kind| CHANGES.map(|change| (kind, change)));
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
        let known: BTreeSet<_> = CODES.iter().map(|(code, _)| Some(*code)).collect();
        assert_eq!(known, codes);
        let mut topics: Vec<_> = notices().iter().map(log_topic).collect();
        topics.extend(KINDS.map(|kind| state_topic(kind, 7)));
        topics.extend([state_of_session(7, "a/b"), counter_topic("mqtt_sessions")]);
        topics.push(format!("{ANSWERS}get/x"));
        let said: BTreeSet<_> = topics.iter().map(|topic| pattern(topic)).collect();
        assert_eq!(said, TOPICS.iter().map(|(pattern, _)| *pattern).collect());
    }
}
