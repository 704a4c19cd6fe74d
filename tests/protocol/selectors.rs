//! The dialect: a level of a topic filter that contains `,` is a selector.

use longshore_broker::WildcardDelete;

use super::packets::{connect, publish, subscribe, unsubscribe};
use super::rig::{Client, Rig};
use super::wire::{Version, code};

const BOTH: [Version; 2] = [Version::V3_1_1, Version::V5];

/// Topics, each of which is the payload of what is sent there.
const TOPICS: [&str; 8] = [
    "topic/a/e/field",
    "topic/a/f/field",
    "topic/b/e/field",
    "topic/b/f/field",
    "topic/c/e/field",
    "topic/a/e/other",
    "topic/a,b/e/field",
    "topic/a//field",
];

/// Filters, and what of that they match.
const ROWS: [(&str, &[usize]); 8] = [
    ("topic/a,b/e,f/field", &[0, 1, 2, 3, 6]),
    ("topic/a,b/+/field", &[0, 1, 2, 3, 6, 7]),
    ("topic/c,b/#", &[2, 3, 4]),
    ("topic/b,b,zz/e,zz/field", &[2]),
    ("topic/a/e,/field", &[0, 7]),
    ("topic/a/,/field", &[7]),
    ("x,topic/a/e/other,zz", &[5]),
    ("+/z,y/#", &[]),
];

fn named(places: &[usize]) -> Vec<&'static str> {
    places.iter().map(|place| TOPICS[*place]).collect()
}

fn sorted(client: &Client) -> Vec<String> {
    let mut payloads = client.payloads();
    payloads.sort();
    payloads
}

fn sorted_names(places: &[usize]) -> Vec<&'static str> {
    let mut names = named(places);
    names.sort_unstable();
    names
}

/// 8.1, 8.2, 8.3: the topic is the one that was published to, and SUBACK has one code.
#[test]
fn a_selector_gets_messages_of_all_that_it_lists() {
    for version in BOTH {
        for (filter, want) in ROWS {
            let rig = Rig::new();
            let client = rig.connect(&connect(version, "c"));
            assert_eq!(client.subscribe(&subscribe(1, filter).qos(1)), [1], "{filter}");
            let publisher = rig.client("p");
            TOPICS.iter().for_each(|topic| publisher.send(&publish(topic, topic).qos1(1)));
            for topic in named(want) {
                let publish = client.publish();
                assert_eq!((&*publish.topic, publish.text()), (topic, topic), "{filter}");
            }
            client.expect_alive();
        }
    }
}

/// 8.2: the same for what is retained.
#[test]
fn a_selector_finds_what_is_retained_under_all_that_it_lists() {
    for (filter, want) in ROWS {
        for qos in 0..2 {
            let rig = Rig::new();
            let publisher = rig.client("p");
            TOPICS.iter().for_each(|topic| publisher.send(&publish(topic, topic).retain()));
            let client = rig.subscriber(Version::V5, "c", filter, qos);
            assert_eq!(sorted(&client), sorted_names(want), "{filter}");
        }
    }
}

/// 8.2: more than one slice of a read.
#[test]
fn a_large_selector_finds_all_that_it_lists_and_nothing_else() {
    let rig = Rig::new();
    let publisher = rig.client("p");
    for number in 0..2_000 {
        let topic = format!("fleet/{number}/position");
        publisher.send(&publish(&topic, &number.to_string()).retain());
    }
    let even: Vec<String> = (0..4_000).step_by(2).map(|number| number.to_string()).collect();
    let filter = format!("fleet/{}/position,speed", even.join(","));
    let client = rig.subscriber(Version::V5, "c", &filter, 0);
    let mut want = even[..1_000].to_vec();
    want.sort();
    assert_eq!(sorted(&client), want);
    for number in [17, 18, 3_998, 4_000] {
        publisher.send(&publish(&format!("fleet/{number}/speed"), &number.to_string()));
    }
    assert_eq!(client.payloads(), ["18", "3998"]);
}

/// 8.3: by the text that was subscribed to, and no other.
#[test]
fn a_selector_is_left_by_its_own_text() {
    let rig = Rig::new();
    let client = rig.subscriber(Version::V5, "c", "t/a,b", 0);
    client.send(&unsubscribe(2, "t/a").and("t/b,a").and("t/a,b"));
    assert_eq!(client.unsuback().codes, [0x11, 0x11, 0x00]);
    let publisher = rig.client("p");
    for topic in ["t/a", "t/b", "t/a,b"] {
        publisher.send(&publish(topic, "x"));
    }
    client.expect_alive();
}

/// 8.4
#[test]
fn a_wildcard_is_no_member_of_a_selector() {
    for (version, refused) in [(Version::V3_1_1, 0x80), (Version::V5, code::TOPIC_FILTER_INVALID)] {
        let client = Rig::new().connect(&connect(version, "c"));
        for filter in ["a,+", "+,a/b", "t/#,a", "t/a,#", "$share/g/a,+"] {
            assert_eq!(client.subscribe(&subscribe(1, filter)), [refused], "{filter}");
        }
        client.expect_alive();
    }
}

/// 8.4: a topic name may have a comma, and a message to it is like any other.
#[test]
fn a_topic_with_a_comma_is_a_topic() {
    let rig = Rig::new();
    let publisher = rig.client("p");
    publisher.send(&publish("t/a,b", "x").retain());
    for filter in ["t/+", "t/#", "t/a,b", "t/c,a,b"] {
        let client = rig.subscriber(Version::V5, "c", filter, 0);
        let want: &[&str] = if filter == "t/c,a,b" { &[] } else { &["x"] };
        assert_eq!(client.payloads(), want, "{filter}");
        publisher.send(&publish("t/a,b", "y"));
        assert_eq!(client.payloads().len(), want.len(), "{filter}");
    }
    // Without a wildcard an empty message is to the topic alone.
    publisher.send(&publish("t/a", "a").retain());
    publisher.send(&publish("t/a,b", "").retain());
    assert_eq!(rig.subscriber(Version::V5, "c", "t/+", 0).payloads(), ["a"]);
}

/// 8.5
#[test]
fn members_of_a_group_share_what_a_selector_gets() {
    let rig = Rig::new();
    let member = |id| rig.subscriber(Version::V5, id, "$share/g/t/a,b", 1);
    let members = [member("1"), member("2")];
    let publisher = rig.client("p");
    for topic in ["t/a", "t/b", "t/c", "t/a", "t/b"] {
        publisher.send(&publish(topic, topic).qos1(1));
    }
    let mut got: Vec<String> = members.iter().flat_map(|member| member.payloads()).collect();
    got.sort();
    assert_eq!(got, ["t/a", "t/a", "t/b", "t/b"]);
}

/// MQTT 5, 3.3.4.
#[test]
fn a_selector_and_another_filter_give_one_copy_with_both_identifiers() {
    let rig = Rig::new();
    let client = rig.client("c");
    client.subscribe(&subscribe(1, "t/a,b,c").identifier(1));
    client.subscribe(&subscribe(2, "t/b,d").qos(1).identifier(2));
    client.subscribe(&subscribe(3, "t/+").identifier(3));
    let publisher = rig.client("p");
    for (topic, identifiers) in [("t/a", &[1, 3][..]), ("t/b", &[1, 2, 3]), ("t/d", &[2, 3])] {
        publisher.send(&publish(topic, "x").qos1(1));
        let publish = client.publish();
        let mut got = publish.props.subscription_identifiers();
        got.sort_unstable();
        assert_eq!(got, identifiers, "{topic}");
    }
    client.expect_alive();
}

/// 9.7: beside a wildcard, as in a subscription.
#[test]
fn an_empty_message_deletes_what_its_selectors_list() {
    let rows: [(&str, &[usize]); 3] = [
        ("topic/a,b/+/field", &[4, 5]),
        ("topic/c,a/e,f/#", &[2, 3, 6, 7]),
        ("+/a,zz/,/field", &[0, 1, 2, 3, 4, 5, 6]),
    ];
    for (filter, left) in rows {
        let rig = Rig::new();
        let publisher = rig.client("p");
        TOPICS.iter().for_each(|topic| publisher.send(&publish(topic, topic).retain()));
        publisher.send(&publish(filter, "").qos1(1));
        assert_eq!(publisher.puback().code, 0);
        let found = rig.subscriber(Version::V5, "c", "#", 0);
        assert_eq!(sorted(&found), sorted_names(left), "{filter}");
    }
}

#[test]
fn a_comma_is_like_any_other_character_when_selectors_are_off() {
    let rig = Rig::speaking(|dialect| dialect.selectors = false);
    let publisher = rig.client("p");
    let topics = ["t/a", "t/b", "t/a,b"];
    topics.iter().for_each(|topic| publisher.send(&publish(topic, topic).retain()));
    let client = rig.subscriber(Version::V5, "c", "t/a,b", 1);
    assert_eq!(client.payloads(), ["t/a,b"]);
    topics.iter().for_each(|topic| publisher.send(&publish(topic, topic)));
    assert_eq!(client.payloads(), ["t/a,b"]);
    publisher.send(&publish("t/a,b/#", "").qos1(1));
    assert_eq!(publisher.puback().code, 0);
    let found = rig.subscriber(Version::V5, "late", "#", 0);
    assert_eq!(sorted(&found), ["t/a", "t/b"]);
}

#[test]
fn a_deletion_by_selectors_needs_the_switch_of_deletions() {
    let rig = Rig::speaking(|dialect| dialect.wildcard_delete = WildcardDelete::Off);
    let client = rig.client("c");
    client.send(&publish("t/a,b/#", "").qos1(1));
    assert_eq!(client.closed_with(), code::TOPIC_NAME_INVALID);
}
