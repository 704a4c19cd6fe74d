//! What a token may do, on every path, and what changes at once.

use longshore_acl::ROOT_ACCOUNT;
use longshore_broker::accounts::Options;
use longshore_codec::PacketType;
use serde_json::json;

use super::client::{Ask, Client, Got};
use super::rig::{BOTH, Rig};

/// Spec 4.7, 4.10, 5.1, 5.2, 5.4, 5.5.
#[test]
fn a_token_with_rules_does_what_they_allow() {
    let rig = Rig::start();
    let rules: &[(&str, &[&str])] =
        &[("a/#", BOTH), ("in/+", &["publish"]), ("out/+", &["subscribe"])];
    let (_, key) = rig.acl(ROOT_ACCOUNT, rules);
    let mut master = rig.connect(rig.master.expose(), "master");
    let mut bound = rig.connect(&key, "bound");
    master.subscribe("#");
    for (filter, want) in [("a/b", 1), ("out/#", 1), ("#", 1), ("in/x", 0x87), ("b/#", 0x87)] {
        assert_eq!(bound.subscribe(filter), want, "{filter}");
    }
    for (topic, want) in [("a", 0), ("a/b", 0), ("in/x", 0), ("in/x/y", 0x87), ("out/x", 0x87)] {
        assert_eq!(bound.publish(topic, "x").code(), want, "{topic}");
    }
    assert_eq!(master.messages(), ["a=x", "a/b=x", "in/x=x"]);
    assert_eq!(bound.messages(), ["a=x", "a/b=x"], "of its own, what it may read");
    for topic in ["a/c", "in/x", "out/x", "b"] {
        master.retain(topic, "y");
    }
    assert_eq!(bound.messages(), ["a/c=y", "out/x=y"]);
    let mut again = rig.connect(&key, "again");
    again.subscribe("#");
    assert_eq!(again.messages(), ["a/c=y", "out/x=y"], "retained");
    let mut old = Client::connect(&rig.broker, &Ask::with(&key, "old").v3());
    assert_eq!(old.publish("b", "no").code(), 0, "MQTT 3 has no words to refuse");
    assert_eq!(old.subscribe("b/#"), 0x80);
    assert!(!master.messages().contains(&"b=no".into()));
}

/// Spec 5.8.
#[test]
fn a_will_that_the_token_may_not_publish_is_refused() {
    let rig = Rig::start();
    let (id, key) = rig.acl(ROOT_ACCOUNT, &[("a", BOTH)]);
    let with = |topic| Ask { will: Some(topic), ..Ask::with(&key, "will") };
    let (_, answer) = Client::attempt(&rig.broker, &with("b"));
    assert_eq!(answer.code(), 0x87);
    let mut master = rig.connect(rig.master.expose(), "master");
    master.subscribe("#");
    let mut client = Client::connect(&rig.broker, &with("a"));
    assert_eq!(client.messages(), Vec::<String>::new());
    client.vanish();
    let got = master.next().unwrap();
    assert!(matches!(&got, Got::Message { topic, .. } if topic == "a"), "{got:?}");
    assert_eq!(got.named("token_id"), Some(&*id.to_string()), "spec 19.3");
    // A right that is lost meanwhile is lost for the will, too.
    let client = Client::connect(&rig.broker, &with("a"));
    let access =
        json!({"access": {"type": 2, "acl": [{"uri": "mqtt", "topic": "b", "actions": BOTH}]}});
    rig.accounts.update_token(id, &access).unwrap();
    client.vanish();
    let mut other = rig.connect(&key, "other");
    other.publish("b", "later");
    assert_eq!(master.next().map(|got| format!("{got:?}").contains("later")), Some(true));
}

/// Spec 3.9, 5.9: before the next message.
#[test]
fn what_becomes_of_a_token_is_in_force_at_once() {
    let rig = Rig::start();
    let (id, key) = rig.acl(ROOT_ACCOUNT, &[("#", BOTH)]);
    let mut client = rig.connect(&key, "client");
    let mut master = rig.connect(rig.master.expose(), "master");
    assert_eq!(client.subscribe("#"), 1);
    assert_eq!(client.publish("a", "1").code(), 0x0);
    let access = |topic: &str| {
        let entry = json!({"uri": "mqtt", "topic": topic, "actions": BOTH});
        json!({"access": {"type": 2, "acl": [entry]}})
    };
    rig.accounts.update_token(id, &access("b")).unwrap();
    assert_eq!(client.publish("a", "2").code(), 0x87);
    master.publish("a", "3");
    master.publish("b", "4");
    assert_eq!(client.messages(), ["a=1", "b=4"]);
    rig.accounts.update_token(id, &json!({"enabled": false})).unwrap();
    assert_eq!(client.next(), Some(Got::Packet(PacketType::Disconnect, 0x87, vec![])));
    let (_, answer) = Client::attempt(&rig.broker, &Ask::with(&key, "client"));
    assert_eq!(answer.code(), 0x86);
    rig.accounts.update_token(id, &json!({"enabled": true})).unwrap();
    let mut client = rig.connect(&key, "client");
    rig.accounts.remove_token(id).unwrap();
    assert_eq!(client.next(), Some(Got::Packet(PacketType::Disconnect, 0x87, vec![])));
    let (_, answer) = Client::attempt(&rig.broker, &Ask::with(&key, "client"));
    assert_eq!(answer.code(), 0x86);
}

/// Spec 5.3, 5.7.
#[test]
fn nobody_publishes_below_flespi_and_who_is_anonymous_asks_for_it_by_name() {
    let options = {
        let mut options = Options::default();
        options.anonymous = true;
        options
    };
    let rig = Rig::of(options, 1);
    let guest = Ask { username: None, ..Ask::with("", "guest") };
    let mut guest = Client::connect(&rig.broker, &guest);
    let mut master = rig.connect(rig.master.expose(), "master");
    for client in [&mut guest, &mut master] {
        for topic in ["flespi", "flespi/a", "flespi/message/gw/devices/1"] {
            assert_eq!(client.publish(topic, "x").code(), 0x87, "{topic}");
        }
        assert_eq!(client.publish("flespi2/a", "x").code(), 0x10);
    }
}

/// Spec 13.4, and the rights of each member.
#[test]
fn a_group_gives_a_message_to_a_member_that_may_read_it() {
    for shards in [1, 3] {
        let rig = Rig::of(Options::default(), shards);
        let tokens = ["a/#", "b/#"].map(|topic| rig.acl(ROOT_ACCOUNT, &[(topic, BOTH)]).1);
        let mut members: Vec<_> =
            tokens.iter().zip(["one", "other"]).map(|(token, id)| rig.connect(token, id)).collect();
        for member in &mut members {
            assert_eq!(member.subscribe("$share/g/#"), 1);
        }
        let mut master = rig.connect(rig.master.expose(), "master");
        for number in 0..3 {
            for topic in ["a/x", "b/x", "c/x"] {
                master.publish(topic, &number.to_string());
            }
        }
        assert_eq!(members[0].sorted(3), ["a/x=0", "a/x=1", "a/x=2"]);
        assert_eq!(members[1].sorted(3), ["b/x=0", "b/x=1", "b/x=2"]);
    }
}

/// Queued messages after a change of rights.
#[test]
fn what_waits_for_a_token_is_given_as_far_as_it_still_may_read_it() {
    let rig = Rig::start();
    let (id, key) = rig.acl(ROOT_ACCOUNT, &[("#", BOTH)]);
    let ask = Ask::with(&key, "client").lasting();
    let mut client = Client::connect(&rig.broker, &ask);
    client.subscribe("#");
    drop(client);
    let mut master = rig.connect(rig.master.expose(), "master");
    while master.publish("a", "x").code() != 0 {
        // Until the broker has seen that the client is gone, it may count or not.
    }
    master.publish("b", "x");
    let access =
        json!({"access": {"type": 2, "acl": [{"uri": "mqtt", "topic": "b", "actions": BOTH}]}});
    rig.accounts.update_token(id, &access).unwrap();
    let mut client = Client::connect(&rig.broker, &ask);
    assert_eq!(client.messages(), ["b=x"]);
}
