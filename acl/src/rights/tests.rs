//! Rights against the statements of the specification, and against a reference that tries every
//! topic.

use longshore_codec::filter;
use serde_json::{Value, json};

use super::*;

fn acl(entries: Value) -> Rights {
    acl_with(entries, &[])
}

fn acl_with(entries: Value, grants: &[TopicGrant]) -> Rights {
    Rights::compile(&Access::from_json(&json!({"type": 2, "acl": entries})).unwrap(), grants)
}

fn grant(filter: &str, uri: &str, submodule: Option<&str>) -> TopicGrant {
    TopicGrant {
        filter: filter.to_owned(),
        uri: uri.to_owned(),
        submodule: submodule.map(str::to_owned),
        method: Method::Get,
    }
}

fn check(rights: &Rights, action: Action, open: &[&str], closed: &[&str]) {
    for topic in open {
        assert!(rights.allows(action, topic), "{action:?} {topic}");
    }
    for topic in closed {
        assert!(!rights.allows(action, topic), "{action:?} {topic}");
    }
}

/// Broker specification, 4.8, 5.3.
#[test]
fn standard_and_master_tokens_have_all_topics_but_publish_none_that_is_reserved() {
    let standard = Rights::compile(&Access::default(), &[]);
    for rights in [&standard, &Rights::everything()] {
        let reserved = ["flespi", "flespi/", "flespi/x/y", "$SYS", "$SYS/broker/uptime"];
        check(
            rights,
            Action::Publish,
            &["a", "/", "flespi2", "/flespi", "$x/y", "$SYSx"],
            &reserved,
        );
        let open = ["a", "$x/y", "flespi", "flespi/log/mqtt/x", "$SYS/broker/uptime"];
        check(rights, Action::Subscribe, &open, &[]);
    }
    let platform = ["flespi/log/platform/x", "flespi/state/platform", "flespi/state/platform/a/b"];
    check(&standard, Action::Subscribe, &[], &platform);
    check(&Rights::everything(), Action::Subscribe, &platform, &[]);
    assert_eq!(standard.coverage(Action::Subscribe, "#"), Coverage::Some);
    assert_eq!(standard.coverage(Action::Subscribe, "+/#"), Coverage::Some);
    assert_eq!(standard.coverage(Action::Subscribe, "a/#"), Coverage::All);
    assert_eq!(standard.coverage(Action::Subscribe, "flespi/state/platform/+"), Coverage::None);
    assert_eq!(Rights::everything().coverage(Action::Subscribe, "#"), Coverage::All);
    assert_eq!(Rights::everything().coverage(Action::Publish, "#"), Coverage::Some);
    assert_eq!(Rights::nothing().coverage(Action::Subscribe, "#"), Coverage::None);
    check(&Rights::nothing(), Action::Publish, &[], &["a", "flespi"]);
}

/// Broker specification, 4.7, 4.10, 4.12.
#[test]
fn an_acl_token_has_the_union_of_its_entries_and_nothing_reserved() {
    let rights = acl(json!([
        {"uri": "mqtt", "topic": "plant/7/#", "actions": ["publish", "subscribe"]},
        {"uri": "mqtt", "topic": "cmd/7/+", "actions": ["subscribe"]},
        {"uri": "mqtt", "topic": "a,b/x", "actions": ["publish"]},
        {"uri": "mqtt", "topic": "flespi/#", "actions": ["publish", "subscribe"]},
        {"uri": "mqtt", "topic": "flespi,z/#", "actions": ["subscribe"]},
        {"uri": "mqtt", "topic": "unused"},
        {"uri": "mqtt", "topic": "$SYS/broker/#", "actions": ["publish", "subscribe"]},
    ]));
    let open = ["plant/7", "plant/7/a/b", "a/x", "b/x", "a,b/x"];
    let closed = ["plant", "plant/70", "cmd/7/a", "c/x", "flespi/a", "$SYS/broker/x"];
    check(&rights, Action::Publish, &open, &closed);
    let open = ["plant/7", "cmd/7/a", "cmd/7/", "z/a", "z", "flespi,z/a", "$SYS/broker/x"];
    check(&rights, Action::Subscribe, &open, &["cmd/7", "cmd/7/a/b", "flespi/a", "unused", "a/x"]);
}

/// Broker specification, 4.12 and 8.6; [MQTT-4.7.2-1].
#[test]
fn wildcards_cover_topics_of_users_only() {
    let rights = acl(json!([{"uri": "mqtt", "topic": "#", "actions": ["publish", "subscribe"]}]));
    for action in [Action::Publish, Action::Subscribe] {
        let closed = ["flespi", "flespi/log/mqtt/x", "$x", "$SYS/a"];
        check(&rights, action, &["a", "/", "a/flespi", "a/$x"], &closed);
        assert_eq!(rights.coverage(action, "#"), Coverage::Some, "flespi/ is a first level");
        assert_eq!(rights.coverage(action, "a,b/#"), Coverage::All);
        assert_eq!(rights.coverage(action, "a,flespi/#"), Coverage::Some);
        assert_eq!(rights.coverage(action, "$SYS/#"), Coverage::None);
    }
}

/// Broker specification, 4.12.
#[test]
fn reserved_topics_follow_the_rest_grants_of_their_objects() {
    let grants = [
        grant("flespi/message/gw/devices/{id}/#", "gw/devices", Some("messages")),
        grant("flespi/state/gw/devices/{id}", "gw/devices", None),
        grant("flespi/log/gw/#", "gw/devices", None),
    ];
    let rights = acl_with(
        json!([
            {"uri": "gw/devices", "methods": ["GET"], "ids": [7, 30],
             "submodules": [{"name": "messages", "methods": ["GET"]}]},
            {"uri": "gw/devices", "methods": ["GET"], "ids": [5]},
            {"uri": "gw/devices", "methods": ["GET"], "ids": "in-groups"},
            {"uri": "mqtt", "methods": ["GET"]},
            {"uri": "platform", "methods": ["GET"]},
        ]),
        &grants,
    );
    let open = [
        "flespi/message/gw/devices/7",
        "flespi/message/gw/devices/30/x",
        "flespi/state/gw/devices/5",
        "flespi/state/gw/devices/7",
        "flespi/log/mqtt/connected",
        "flespi/state/mqtt/sessions/1",
    ];
    let closed = [
        "flespi/message/gw/devices/5",
        "flespi/state/gw/devices/6",
        "flespi/state/gw/devices/5/x",
        "flespi/log/gw/devices/5",
        "flespi/log/platform/x",
        "a",
    ];
    check(&rights, Action::Subscribe, &open, &closed);
    check(&rights, Action::Publish, &[], &open);
    let all = acl_with(json!([{"uri": "gw/devices", "methods": ["GET"]}]), &grants);
    let open = ["flespi/state/gw/devices/99", "flespi/log/gw/x"];
    check(&all, Action::Subscribe, &open, &["flespi/message/gw/devices/99", "flespi/log/mqtt/x"]);
}

/// Broker specification, 4.6, 4.7, 4.9, 15.3.1.
#[test]
fn rest_is_open_as_entries_list_and_submodules_inherit_nothing() {
    use Method::{Delete, Get, Post, Put};
    let devices = json!({"uri": "gw/devices", "methods": ["POST", "GET"], "ids": [3, 1],
        "submodules": [{"name": "messages", "methods": ["DELETE"]}]});
    let mqtt = json!({"uri": "mqtt", "topic": "a", "methods": ["GET"]});
    let acl = acl(json!([devices, mqtt, {"uri": "ai", "methods": ["PUT"]},
        {"uri": "platform/tokens", "methods": ["GET"]}]));
    let rows = [
        (Get, "gw/devices", None, Some(1), true),
        (Get, "gw/devices", None, Some(2), false),
        (Get, "gw/devices", None, None, false),
        (Put, "gw/devices", None, Some(1), false),
        (Delete, "gw/devices", Some("messages"), Some(3), true),
        (Get, "gw/devices", Some("messages"), Some(3), false),
        (Get, "gw", None, None, false),
        (Get, "mqtt", None, None, true),
        (Get, "mqtt", Some("subscriptions"), Some(9), true),
        (Post, "mqtt", None, None, false),
        (Put, "ai", None, Some(4), true),
        (Get, "platform/tokens", None, Some(1), false),
    ];
    let standard = Rights::compile(&Access::default(), &[]);
    for (method, uri, submodule, id, want) in rows {
        assert_eq!(acl.allows_rest(method, uri, submodule, id), want, "{method:?} {uri} {id:?}");
        let is_user = !uri.starts_with("platform");
        assert_eq!(standard.allows_rest(method, uri, submodule, id), is_user, "{uri}");
        assert!(Rights::everything().allows_rest(method, uri, submodule, id));
        assert!(!Rights::nothing().allows_rest(method, uri, submodule, id));
    }
    assert!(standard.allows_rest(Get, "platforms", None, None));
    assert_eq!(acl.scope(Get, "gw/devices", None), Scope::Listed(vec![1, 3]));
    assert_eq!(acl.scope(Get, "mqtt", None), Scope::All);
    assert_eq!(acl.scope(Get, "gw/calcs", None), Scope::None);
}

#[test]
fn asking_allocates_nothing() {
    let topic = |at: u32| {
        json!({"uri": "mqtt", "topic": format!("a/{at}/+/b"),
        "actions": ["subscribe"]})
    };
    let rights = acl((0..100).map(topic).collect());
    let asked = allocation_counter::measure(|| {
        assert!(rights.allows(Action::Subscribe, "a/57/x/b"));
        assert!(!rights.allows(Action::Subscribe, "a/57/x/c"));
    });
    assert_eq!(asked.count_total, 0);
}

#[test]
fn a_comparison_that_would_take_too_long_says_some() {
    let members = |from: u32| {
        let texts: Vec<String> = (from..from + 150).map(|it| it.to_string()).collect();
        texts.join(",")
    };
    let filter = format!("{}/{}/{}", members(0), members(0), members(0));
    let rights = acl(json!([{"uri": "mqtt", "topic": "+/+/+", "actions": ["subscribe"]}]));
    assert_eq!(rights.coverage(Action::Subscribe, &filter), Coverage::Some);
    assert_eq!(rights.coverage(Action::Subscribe, "x/y,z/#"), Coverage::Some);
    assert_eq!(rights.coverage(Action::Subscribe, "x/y,z/+"), Coverage::All);
}

/// The texts a topic of the property test is made of: all that entries name, and one they do not.
const TEXTS: [&str; 9] = ["a", "b", "a,b", "b,", "other", "$s", "flespi", "1", ""];

/// Every topic of up to four levels, and the empty text, which no topic is but filters match.
fn topics() -> Vec<String> {
    let mut all: Vec<String> = TEXTS.map(str::to_owned).into();
    let mut last = all.clone();
    for _ in 0..3 {
        let deeper = |topic: &String| TEXTS.map(|text| format!("{topic}/{text}"));
        last = last.iter().flat_map(deeper).collect();
        all.extend(last.iter().cloned());
    }
    all
}

/// A sequence that looks random and is the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound as u64) as usize
    }

    fn filter(&mut self, levels_max: usize) -> String {
        let levels = ["a", "b", "+", "a,b", "b,", "$s", "flespi", "a,flespi", "1", "+", ""];
        let mut filter: Vec<&str> =
            (0..=self.below(levels_max)).map(|_| levels[self.below(levels.len())]).collect();
        match self.below(3) {
            0 if filter.len() > 1 || self.below(4) == 0 => *filter.last_mut().unwrap() = "#",
            1 => filter.push("#"),
            _ => {}
        }
        let filter = filter.join("/");
        if filter.is_empty() { "a".to_owned() } else { filter }
    }
}

/// The filters without commas that one with commas stands for.
fn spelt_out(filter: &str) -> Vec<String> {
    let mut all = vec![String::new()];
    for (at, level) in filter.split('/').enumerate() {
        let mut texts = vec![level];
        if level.contains(',') {
            texts.extend(level.split(','));
        }
        let slash = if at == 0 { "" } else { "/" };
        let longer = |start: &String| -> Vec<String> {
            texts.iter().map(|text| format!("{start}{slash}{text}")).collect()
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

fn matches(filters: &[String], topic: &str) -> bool {
    filters.iter().any(|filter| filter::matches(filter, topic))
}

/// Broker specification, 4.10, 4.12, 5.4, 5.5, 8.2; [MQTT-4.7.2-1].
#[test]
fn every_verdict_is_that_of_trying_all_topics() {
    let topics = topics();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let mut seen = [0; 3];
    for _ in 0..150 {
        let entries: Vec<String> = (0..dice.below(4)).map(|_| dice.filter(3)).collect();
        let grants: Vec<String> = (0..dice.below(3)).map(|_| dice.filter(1)).collect();
        let acl = entries
            .iter()
            .map(|topic| json!({"uri": "mqtt", "topic": topic, "actions": ["subscribe"]}));
        let objects = json!({"uri": "x", "methods": ["GET"], "ids": [1]});
        let granted: Vec<_> =
            grants.iter().map(|it| grant(&format!("flespi/{{id}}/{it}"), "x", None)).collect();
        let rights = acl_with(acl.chain([objects]).collect(), &granted);

        let of_users: Vec<_> = entries.iter().flat_map(|it| spelt_out(it)).collect();
        let reserved: Vec<_> =
            grants.iter().flat_map(|it| spelt_out(&format!("flespi/1/{it}"))).collect();
        let allowed = |topic: &str| match topic.split('/').next() {
            Some("flespi") => matches(&reserved, topic),
            _ => matches(&of_users, topic),
        };
        let verdicts: Vec<bool> = topics.iter().map(|topic| allowed(topic)).collect();
        for (topic, want) in topics.iter().zip(&verdicts) {
            let found = rights.allows(Action::Subscribe, topic);
            assert_eq!(found, *want, "{topic} by {entries:?} and {grants:?}");
        }
        for _ in 0..6 {
            let filter = dice.filter(3);
            let spelt = spelt_out(&filter);
            let matched = topics.iter().zip(&verdicts).filter(|(topic, _)| matches(&spelt, topic));
            let (open, closed): (Vec<_>, Vec<_>) = matched.partition(|(_, verdict)| **verdict);
            let want = match (open.is_empty(), closed.is_empty()) {
                (false, true) => Coverage::All,
                (true, _) => Coverage::None,
                (false, false) => Coverage::Some,
            };
            let found = rights.coverage(Action::Subscribe, &filter);
            assert_eq!(found, want, "{filter} by {entries:?} and {grants:?}");
            seen[found as usize] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 50), "the dice are loaded: {seen:?}");
}
