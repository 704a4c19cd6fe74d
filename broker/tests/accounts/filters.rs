//! What subscriptions ask for beyond topics.

use longshore_acl::ROOT_ACCOUNT;
use longshore_broker::accounts::Options;
use serde_json::json;

use super::client::{Ask, Client};
use super::rig::{DataDir, Rig};

/// Spec 6.3, 6.5, 13.11, 14.1.5.
#[test]
fn a_subscription_may_be_for_one_account_alone() {
    for shards in [1, 3] {
        let rig = Rig::of(Options::default(), shards);
        let (left, right) = (rig.account(ROOT_ACCOUNT), rig.account(ROOT_ACCOUNT));
        let left_cid = left.to_string();
        let mut publishers = [ROOT_ACCOUNT, left, right]
            .map(|account| rig.connect(&rig.standard(account).1, "publisher"));
        for (at, publisher) in publishers.iter_mut().enumerate() {
            publisher.retain("t", &at.to_string());
        }
        let by_filter = format!("$filter/cid={left}/#");
        let mut all: Vec<_> = [
            ("#", Some(&*left_cid), &["t=1"][..]),
            (&*by_filter, None, &["t=1"]),
            (&*by_filter, Some(&*left_cid), &["t=1"]),
            ("#", Some("not a number"), &["t=0", "t=1", "t=2"]),
        ]
        .into_iter()
        .enumerate()
        .map(|(at, (filter, cid, want))| {
            let mut client = rig.connect(rig.master.expose(), &at.to_string());
            let named: Vec<_> = cid.map(|cid| ("cid", cid)).into_iter().collect();
            assert_eq!(client.subscribe_with(filter, &named), 1, "{filter} {cid:?}");
            let mut retained = client.messages();
            retained.sort();
            assert_eq!(retained, want, "{filter} {cid:?}");
            (client, want)
        })
        .collect();
        for (at, publisher) in publishers.iter_mut().enumerate() {
            publisher.publish("t", &at.to_string());
        }
        for (client, want) in &mut all {
            assert_eq!(client.sorted(want.len()), *want);
        }
        let mut shared = rig.connect(rig.master.expose(), "shared");
        assert_eq!(shared.subscribe(&format!("$share/g/$filter/cid={right}/#")), 1);
        for (at, publisher) in publishers.iter_mut().enumerate() {
            publisher.publish("t", &at.to_string());
        }
        assert_eq!(shared.sorted(1), ["t=2"]);
        let mut child = rig.connect(&rig.standard(left).1, "child");
        assert_eq!(child.subscribe_with("#", &[("cid", "1")]), 0x87, "it is above");
        assert_eq!(child.subscribe_with("#", &[("cid", &right.to_string())]), 0x87);
        assert_eq!(child.subscribe(&format!("$filter/cid={right}/#")), 0x87);
    }
}

/// Spec 14.1.1 to 14.1.8.
#[test]
fn a_subscription_may_ask_for_what_messages_say() {
    for shards in [1, 3] {
        let rig = Rig::of(Options::default(), shards);
        let mut publisher = rig.connect(rig.master.expose(), "publisher");
        let publish = |publisher: &mut Client| {
            for (topic, payload) in [("a", r#"{"speed":60}"#), ("b", r#"{"speed":40}"#), ("c", "-")]
            {
                publisher.publish(topic, payload);
            }
        };
        let fast = "$filter/payload=speed%3E50/#";
        let named = "$filter/message=topic%3D%3D%22%5Bab%5D%22%7C%7Ctopic%3D%3D%22c%22/+";
        let mut clients: Vec<_> =
            (0..3).map(|at| rig.connect(rig.master.expose(), &at.to_string())).collect();
        assert_eq!(clients[0].subscribe(fast), 1);
        assert_eq!(clients[1].subscribe(named), 1);
        assert_eq!(clients[2].subscribe(fast), 1);
        assert_eq!(clients[2].subscribe("b"), 1, "both are asked for");
        for wrong in ["$filter/payload=speed%3E/#", "$filter/what=1/#", "$filter/payload=1"] {
            assert_eq!(clients[0].subscribe(wrong), 0x8f, "{wrong}");
        }
        publish(&mut publisher);
        let want =
            [&[r#"a={"speed":60}"#][..], &["c=-"], &[r#"a={"speed":60}"#, r#"b={"speed":40}"#]];
        for (client, want) in clients.iter_mut().zip(want) {
            assert_eq!(client.sorted(want.len()), want, "{shards} shards");
        }
        let mut member = rig.connect(rig.master.expose(), "member");
        assert_eq!(member.subscribe(&format!("$share/g/{fast}")), 1);
        publish(&mut publisher);
        assert_eq!(member.sorted(1), [r#"a={"speed":60}"#]);
        publisher.retain("a", r#"{"speed":70}"#);
        publisher.retain("b", r#"{"speed":7}"#);
        let mut later = rig.connect(rig.master.expose(), "later");
        later.subscribe(fast);
        assert_eq!(later.sorted(1), [r#"a={"speed":70}"#], "retained");
    }
}

/// Spec 14.1.5: what waits for an absent client, too, and after a restart.
#[test]
fn what_is_asked_for_is_asked_for_as_long_as_the_session_lasts() {
    let data = DataDir::new();
    let broker = data.start();
    let child = broker.accounts().unwrap().create_account(ROOT_ACCOUNT, &json!({"name": "c"}));
    let child = child.unwrap().id;
    let body = json!({"ttl": 3600, "access": {"type": 0}});
    let (_, key) = broker.accounts().unwrap().create_token(child, &body).unwrap();
    let ask = Ask::with(data.master.expose(), "client").lasting();
    let mut client = Client::connect(&broker, &ask);
    assert_eq!(client.subscribe("$filter/payload=value%3E1/a"), 1);
    assert_eq!(client.subscribe_with("b", &[("cid", &child.to_string())]), 1);
    drop((client, broker));
    let broker = data.start();
    let mut root = Client::connect(&broker, &Ask::with(data.master.expose(), "publisher"));
    let mut below = Client::connect(&broker, &Ask::with(key.expose(), "publisher"));
    root.publish("a", "1");
    root.publish("a", "2");
    root.publish("b", "root");
    below.publish("b", "child");
    let mut client = Client::connect(&broker, &ask);
    assert_eq!(client.messages(), ["a=2", "b=child"]);
}

/// Spec 10.5.
#[test]
fn only_what_was_retained_since_may_be_asked_for() {
    let rig = Rig::start();
    let mut client = rig.connect(rig.master.expose(), "client");
    for (topic, time) in [("a", "1700000000"), ("b", "1700000000.5"), ("c", "1700000001")] {
        client.publish_with(topic, "x", true, &[("timestamp", time)]);
    }
    type Row = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str]);
    let rows: [Row; 5] = [
        ("#", &[("modified_since", "1700000000")], &["b=x", "c=x"]),
        ("#", &[("modified_since", "1700000000.5")], &["c=x"]),
        ("#", &[("modified_since", "yesterday")], &["a=x", "b=x", "c=x"]),
        ("$filter/modified_since=1700000000.5/#", &[], &["c=x"]),
        ("$filter/modified_since>1700000000/#", &[("modified_since", "1700000000.5")], &["c=x"]),
    ];
    for (filter, named, want) in rows {
        let mut reader = rig.connect(rig.master.expose(), "reader");
        assert_eq!(reader.subscribe_with(filter, named), 1);
        assert_eq!(reader.messages(), want, "{filter} {named:?}");
        // What is published then is not asked for its age.
        client.publish_with("d", "old", false, &[("timestamp", "1600000000")]);
        assert_eq!(reader.messages(), ["d=old"]);
    }
}

/// Spec 14.1: a session may ask for one topic filter several times, each time for something else.
#[test]
fn conditions_on_one_topic_filter_stand_beside_each_other() {
    for shards in [1, 3] {
        let rig = Rig::of(Options::default(), shards);
        let child = rig.account(ROOT_ACCOUNT);
        let mut root = rig.connect(rig.master.expose(), "root");
        let mut below = rig.connect(&rig.standard(child).1, "below");
        let mut reader = rig.connect(rig.master.expose(), "reader");
        let all = ["t", &format!("$filter/cid={child}/t"), "$filter/payload=value%3E5/t"];
        for filter in all {
            assert_eq!(reader.subscribe(filter), 1, "{filter}");
        }
        root.publish("t", "1");
        below.publish("t", "2");
        assert_eq!(reader.sorted(2), ["t=1", "t=2"], "one copy each");
        reader.unsubscribe("t");
        for (publisher, payload) in [(&mut root, "1"), (&mut below, "2")] {
            publisher.publish("t", payload);
        }
        root.publish("t", "9");
        assert_eq!(reader.sorted(2), ["t=2", "t=9"], "the others are still there");
    }
}
