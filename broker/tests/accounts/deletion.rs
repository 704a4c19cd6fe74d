//! What a deletion by topic filter takes: what its publisher may publish, and no more.

use longshore_acl::ROOT_ACCOUNT;
use longshore_broker::Broker;
use longshore_broker::accounts::Options;
use serde_json::json;

use crate::client::{Ask, Client};
use crate::rig::{BOTH, DataDir, Rig};

/// All that is retained and may be read.
fn retained(broker: &Broker, token: &str) -> Vec<String> {
    let mut reader = Client::connect(broker, &Ask::with(token, "reader"));
    reader.subscribe("#");
    let mut messages = reader.messages();
    messages.sort();
    messages
}

/// Spec 5.1, 5.3, 9.7.
#[test]
fn a_deletion_takes_what_the_token_may_publish() {
    for shards in [1, 3] {
        let rig = Rig::of(Options::default(), shards);
        let (_, key) =
            rig.acl(ROOT_ACCOUNT, &[("a/#", BOTH), ("b/+", &["publish"]), ("c", &["subscribe"])]);
        let mut master = rig.connect(rig.master.expose(), "master");
        let mut bound = rig.connect(&key, "bound");
        let fill = |master: &mut Client| {
            for topic in ["a/1", "a/2", "b/1", "b/1/x", "c", "d"] {
                master.retain(topic, "x");
            }
        };
        let rows: [(&str, u8, &[&str]); 6] = [
            ("#", 0, &["b/1/x=x", "c=x", "d=x"]),
            ("+/1", 0, &["a/2=x", "b/1/x=x", "c=x", "d=x"]),
            ("b/#", 0, &["a/1=x", "a/2=x", "b/1/x=x", "c=x", "d=x"]),
            ("+", 0, &["a/1=x", "a/2=x", "b/1/x=x", "b/1=x", "c=x", "d=x"]),
            ("c/+/#", 0x87, &["a/1=x", "a/2=x", "b/1/x=x", "b/1=x", "c=x", "d=x"]),
            ("flespi/#", 0x87, &["a/1=x", "a/2=x", "b/1/x=x", "b/1=x", "c=x", "d=x"]),
        ];
        for (filter, code, want) in rows {
            fill(&mut master);
            assert_eq!(bound.publish(filter, "").code(), code, "{filter}");
            assert_eq!(retained(&rig.broker, rig.master.expose()), want, "{filter}");
        }
        assert_eq!(master.publish("flespi/#", "").code(), 0x87, "for no token");
        assert_eq!(master.publish("#", "").code(), 0);
        assert_eq!(retained(&rig.broker, rig.master.expose()), Vec::<String>::new());
    }
}

/// Spec 5.9, 9.7: what a token may do later changes nothing of what it has deleted.
#[test]
fn a_deletion_is_after_a_restart_what_it_was() {
    let data = DataDir::new();
    let broker = data.start();
    let access =
        |topic: &str| json!({"type": 2, "acl": [{"uri": "mqtt", "topic": topic, "actions": BOTH}]});
    let accounts = broker.accounts().unwrap();
    let body = json!({"ttl": 3600, "access": access("a/#")});
    let (token, key) = accounts.create_token(ROOT_ACCOUNT, &body).unwrap();
    let mut client = Client::connect(&broker, &Ask::with(data.master.expose(), "master"));
    for topic in ["a/1", "a/2", "b/1"] {
        client.retain(topic, "x");
    }
    let mut bound = Client::connect(&broker, &Ask::with(key.expose(), "bound"));
    assert_eq!(bound.publish("#", "").code(), 0);
    client.retain("a/2", "y");
    accounts.update_token(token.id, &json!({"access": access("b/#")})).unwrap();
    let want = ["a/2=y", "b/1=x"];
    assert_eq!(retained(&broker, data.master.expose()), want);
    drop((client, bound, broker));
    assert_eq!(retained(&data.start(), data.master.expose()), want);
}
