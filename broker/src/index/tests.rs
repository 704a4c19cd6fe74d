//! A topic reaches exactly what matches it, whatever comes and goes.

use longshore_codec::filter;

use super::*;
use crate::slots::Key;

fn subscriber(session: SessionId) -> Subscriber {
    Subscriber {
        session,
        holder: 0,
        qos: QoS::AtMostOnce,
        no_local: false,
        retain_as_published: false,
        identifier: None,
        class: 1,
        only: 0,
        condition: None,
    }
}

/// Random filters and topics of few short levels, so that they meet often.
fn names(seed: u64, wild: bool) -> Vec<String> {
    let mut state = seed;
    let mut next = move |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888);
        (state >> 33) % below
    };
    let levels: &[&str] = match wild {
        true => &["a", "b", "", "$x", "+", "+", "a,b", "b,a,b", ",", "a,$x", "c,"],
        false => &["a", "b", "", "$x", "a", "b", "", "a,b", "b,a,b"],
    };
    let mut name = || {
        let mut parts: Vec<&str> =
            (0..=next(3)).map(|_| levels[next(levels.len() as u64) as usize]).collect();
        if wild && next(3) == 0 {
            parts.push("#");
        }
        parts.join("/")
    };
    let mut names: Vec<String> = (0..60).map(|_| name()).filter(|name| !name.is_empty()).collect();
    if wild {
        names.push("#".into());
    }
    names
}

#[test]
fn a_topic_reaches_exactly_the_filters_that_match_it() {
    for seed in 0..100 {
        let selectors = seed % 4 != 0;
        let matches = match selectors {
            true => filter::matches_selectors,
            false => filter::matches,
        };
        let mut index = Index::default();
        index.set_selectors(selectors);
        let mut known: Vec<(String, SessionId)> = Vec::new();
        for (filter, number) in names(seed, true).into_iter().zip(0..) {
            let session = Key::for_test(number);
            index.subscribe(&filter, subscriber(session));
            index.subscribe(&filter, subscriber(session));
            known.push((filter, session));
        }
        let gone: Vec<_> = known.iter().skip(1).step_by(3).cloned().collect();
        known.retain(|entry| !gone.contains(entry));
        for (filter, session) in gone {
            index.unsubscribe(&filter, session, None);
            index.unsubscribe(&filter, session, None);
        }
        for topic in names(seed + 1000, false) {
            let mut found = Matches::default();
            index.matches(topic.as_bytes(), &mut found);
            let mut reached: Vec<_> = found.subscribers.iter().map(|s| s.session).collect();
            reached.sort_unstable();
            let mut want: Vec<_> = known
                .iter()
                .filter(|(filter, _)| matches(filter, &topic))
                .map(|(_, session)| *session)
                .collect();
            want.sort_unstable();
            assert_eq!(reached, want, "seed {seed}, topic {topic:?}");
        }
        for (filter, session) in known {
            index.unsubscribe(&filter, session, None);
        }
        assert_eq!(index.nodes(), 1, "nothing is left but the root");
    }
}

#[test]
fn many_subscribers_of_one_filter_are_found_and_removed() {
    let mut index = Index::default();
    let sessions: Vec<SessionId> = (0..100).map(Key::for_test).collect();
    for session in &sessions {
        index.subscribe("a", subscriber(*session));
    }
    for session in sessions.iter().step_by(2) {
        index.unsubscribe("a", *session, None);
    }
    let mut found = Matches::default();
    index.matches(b"a", &mut found);
    let mut reached: Vec<_> = found.subscribers.iter().map(|s| s.session).collect();
    reached.sort_unstable();
    let want: Vec<_> = sessions.iter().skip(1).step_by(2).copied().collect();
    assert_eq!(reached, want);
}

#[test]
fn a_selector_is_one_place_however_much_it_lists() {
    let mut index = Index::default();
    let session = Key::for_test(1);
    let members: Vec<String> = (0..10_000).map(|number| number.to_string()).collect();
    let list = members.join(",");
    let filter = format!("a/{list}/x,y");
    index.subscribe(&filter, subscriber(session));
    assert_eq!(index.nodes(), 4);
    for (topic, visited, reached) in [("a/77/x", 4, 1), ("a/9999/y", 4, 1), ("a/10000/x", 2, 0)] {
        let mut found = Matches::default();
        index.matches(topic.as_bytes(), &mut found);
        assert_eq!((found.visited, found.subscribers.len()), (visited, reached), "{topic}");
    }
    index.unsubscribe(&filter, session, None);
    assert!(index.nodes() == 1 && index.nodes[ROOT as usize].is_empty());
}
