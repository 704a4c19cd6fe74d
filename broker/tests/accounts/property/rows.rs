//! What went wrong in other brokers, one test for each: see the table of the module above.

use longshore_acl::ROOT_ACCOUNT;
use serde_json::json;

use crate::client::{Ask, Client};
use crate::rig::{BOTH, Rig};

/// CVE-2017-7650.
#[test]
fn a_client_named_like_a_wildcard_may_no_more_than_its_token() {
    let rig = Rig::start();
    let (_, key) = rig.acl(ROOT_ACCOUNT, &[("own/a", BOTH)]);
    let mut master = rig.connect(rig.master.expose(), "master");
    for name in ["#", "+", "own/#", "own/+", "a/../#", "$share/g/#"] {
        let mut client = rig.connect(&key, name);
        assert_eq!(client.subscribe("#"), 1, "{name}");
        assert_eq!(client.publish("own/b", "x").code(), 0x87, "{name}");
        for topic in ["own/a", "own/b", name.trim_end_matches(['#', '+', '/'])] {
            if !topic.is_empty() && !topic.starts_with('$') {
                master.publish(topic, name);
            }
        }
        assert_eq!(client.messages(), [format!("own/a={name}")]);
    }
}

/// CVE-2018-12550, -12551; spec 4.7.
#[test]
fn rules_that_list_nothing_allow_nothing() {
    let rig = Rig::start();
    let mut master = rig.connect(rig.master.expose(), "master");
    master.retain("kept", "x");
    let rest_alone = json!({"type": 2, "acl": [{"uri": "mqtt", "methods": ["GET"]}]});
    let of_others = json!({"type": 2, "acl": [{"uri": "gw/devices", "methods": ["GET"]}]});
    for access in [json!({"type": 2, "acl": []}), rest_alone, of_others] {
        let (_, key) = rig.token(ROOT_ACCOUNT, access.clone());
        let mut client = rig.connect(&key, "client");
        for filter in ["kept", "$share/g/kept", "$filter/cid=1/kept"] {
            assert_eq!(client.subscribe(filter), 0x87, "{access} {filter}");
        }
        assert_eq!(client.publish("kept", "y").code(), 0x87, "{access}");
        assert_eq!(client.retain("kept", "").code(), 0x87, "{access}");
        let _ = client.subscribe("#");
        master.publish("kept", "live");
        assert_eq!(client.messages(), [""; 0], "{access}");
    }
    let mut later = rig.connect(rig.master.expose(), "later");
    later.subscribe("kept");
    assert_eq!(later.messages(), ["kept=x"]);
    for broken in
        [json!({"type": 2, "acl": {}}), json!({"type": 2, "acl": [{}]}), json!({"type": 3})]
    {
        let body = json!({"ttl": 60, "access": broken});
        assert!(rig.accounts.create_token(ROOT_ACCOUNT, &body).is_err(), "{broken}");
    }
}

/// CVE-2026-33217; spec 4.12, 5.3.
#[test]
fn wildcards_of_rules_open_neither_what_is_reserved_nor_what_begins_with_a_dollar() {
    let rig = Rig::start();
    let (_, key) = rig.acl(ROOT_ACCOUNT, &[("#", BOTH), ("+/x", BOTH), ("flespi/#", BOTH)]);
    let mut client = rig.connect(&key, "client");
    for topic in ["flespi", "flespi/x", "flespi/log/mqtt/x", "$SYS/x", "$other/x", "$MQTT/x"] {
        assert_eq!(client.publish(topic, "x").code(), 0x87, "{topic}");
        assert_eq!(client.retain(topic, "x").code(), 0x87, "{topic}");
        assert_eq!(client.subscribe(topic), 0x87, "{topic}");
        assert_eq!(client.subscribe(&format!("$share/g/{topic}")), 0x87, "{topic}");
        let ask = Ask { will: Some(topic), ..Ask::with(&key, "mortal") };
        assert_eq!(Client::attempt(&rig.broker, &ask).1.code(), 0x87, "{topic}");
    }
    assert_eq!(client.subscribe("#"), 1);
    let mut master = rig.connect(rig.master.expose(), "master");
    master.publish("$other/x", "x");
    master.publish("y/x", "x");
    assert_eq!(client.messages(), ["y/x=x"]);
}

/// CVE-2026-6564.
#[test]
fn whoever_takes_a_session_over_reads_of_what_waits_what_its_own_token_may() {
    let rig = Rig::start();
    let (_, wide) = rig.acl(ROOT_ACCOUNT, &[("#", BOTH)]);
    let (_, narrow) = rig.acl(ROOT_ACCOUNT, &[("b", BOTH)]);
    let mut client = Client::connect(&rig.broker, &Ask::with(&wide, "same").lasting());
    assert_eq!(client.subscribe("#"), 1);
    let mut master = rig.connect(rig.master.expose(), "master");
    // Taken over while it is there, and nothing of this is acknowledged.
    master.publish("a", "1");
    master.publish("b", "1");
    let mut other = Client::connect(&rig.broker, &Ask::with(&narrow, "same").lasting());
    assert_eq!(other.messages(), ["b=1"]);
    master.publish("a", "2");
    master.publish("b", "2");
    assert_eq!(other.messages(), ["b=2"]);
    // And a token of another account has a session of its own under the name.
    let (_, foreign) = rig.standard(rig.account(ROOT_ACCOUNT));
    let mut foreigner = Client::connect(&rig.broker, &Ask::with(&foreign, "same").lasting());
    master.publish("b", "3");
    assert_eq!((foreigner.messages().len(), other.messages()), (0, vec!["b=3".to_owned()]));
}

/// CVE-2018-12546. What is retained is of the account: it stays, whoever has published it, and
/// whoever may read it reads it.
#[test]
fn what_is_retained_stays_when_its_publisher_loses_the_right() {
    let rig = Rig::start();
    let (id, key) = rig.acl(ROOT_ACCOUNT, &[("a", BOTH)]);
    let (_, reader) = rig.acl(ROOT_ACCOUNT, &[("a", &["subscribe"])]);
    let mut publisher = rig.connect(&key, "publisher");
    publisher.retain("a", "x");
    let read = |key: &str| {
        let mut client = rig.connect(key, "reader");
        client.subscribe("#");
        client.messages()
    };
    let entry = json!({"uri": "mqtt", "topic": "b", "actions": BOTH});
    let access = json!({"access": {"type": 2, "acl": [entry]}});
    rig.accounts.update_token(id, &access).unwrap();
    assert_eq!(publisher.retain("a", "").code(), 0x87, "nor may it clear it");
    assert_eq!((read(&reader), read(&key)), (vec!["a=x".to_owned()], Vec::new()));
    rig.accounts.remove_token(id).unwrap();
    assert_eq!(read(&reader), ["a=x"]);
    let mut master = rig.connect(rig.master.expose(), "master");
    master.publish("#", "");
    assert_eq!(read(&reader), [""; 0]);
}
