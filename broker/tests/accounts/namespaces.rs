//! Who comes in, and what an account sees.

use longshore_acl::ROOT_ACCOUNT;
use longshore_broker::accounts::Options;
use longshore_codec::PacketType;
use serde_json::{Value, json};

use super::client::{Ask, Client, Got};
use super::rig::{BOTH, DataDir, Rig};

/// Spec 3.1 to 3.5, 3.7.
#[test]
fn a_token_opens_in_every_form_of_credentials_and_nothing_else_does() {
    let rig = Rig::start();
    let (id, key) = rig.standard(ROOT_ACCOUNT);
    let (prefixed, number) = (format!("FlespiToken {key}"), id.to_string());
    let rows = [
        (Some(&*key), None, 0),
        (Some(&*prefixed), None, 0),
        (None, Some(&*key), 0),
        (Some("anything"), Some(&*prefixed), 0),
        (Some(&*number), Some(&key[..16]), 0),
        (Some(&*number), Some(&key[..15]), 0x86),
        (Some("1"), Some(&key[..16]), 0x86),
        (Some(&key[..63]), None, 0x86),
        (None, None, 0x86),
    ];
    for (username, password, want) in rows {
        let ask = Ask { username, password, ..Ask::with("", "client") };
        let (_, answer) = Client::attempt(&rig.broker, &ask);
        assert_eq!(answer.code(), want, "{username:?} {password:?}");
        if username.is_some() {
            // Return code 5, not authorized.
            let (_, answer) = Client::attempt(&rig.broker, &ask.v3());
            let want = if want == 0 { 0 } else { 0x87 };
            assert_eq!(answer.code(), want, "{username:?} {password:?}");
        }
    }
}

/// Spec 6.1, 6.3, 6.4.
#[test]
fn an_account_sees_its_own_topics_and_those_below_it() {
    for shards in [1, 3] {
        let rig = Rig::of(Options::default(), shards);
        let (left, right) = (rig.account(ROOT_ACCOUNT), rig.account(ROOT_ACCOUNT));
        let below = rig.account(left);
        let accounts = [ROOT_ACCOUNT, left, right, below];
        let tokens = accounts.map(|account| rig.standard(account).1);
        let mut clients: Vec<_> = tokens.iter().map(|token| rig.connect(token, "same")).collect();
        for client in &mut clients {
            assert_eq!(client.subscribe("#"), 1);
        }
        for (at, client) in clients.iter_mut().enumerate() {
            client.retain("t", &at.to_string());
        }
        let want = [&["t=0", "t=1", "t=2", "t=3"][..], &["t=1", "t=3"], &["t=2"], &["t=3"]];
        for (client, want) in clients.iter_mut().zip(want) {
            assert_eq!(client.sorted(want.len()), want, "{shards} shards");
        }
        // What is retained, too, and each account has its own of one topic.
        for (token, want) in tokens.iter().zip(want) {
            let mut client = rig.connect(token, "later");
            client.subscribe("t");
            assert_eq!(client.sorted(want.len()), want, "{shards} shards, retained");
        }
    }
}

/// Spec 3.8, 6.1: client identifiers and groups are of an account, too.
#[test]
fn client_identifiers_and_groups_of_accounts_are_apart() {
    let rig = Rig::start();
    let (left, right) = (rig.account(ROOT_ACCOUNT), rig.account(ROOT_ACCOUNT));
    let [mut one, mut other] = [left, right].map(|it| rig.connect(&rig.standard(it).1, "same"));
    assert_eq!(one.subscribe("$share/g/t"), 1);
    assert_eq!(other.subscribe("$share/g/t"), 1);
    one.publish("t", "left");
    other.publish("t", "right");
    assert_eq!((one.messages(), other.messages()), (vec!["t=left".into()], vec!["t=right".into()]));
}

/// Spec 6.2, 6.3: an account that moves is seen from where it stands at once.
#[test]
fn an_account_that_moves_takes_its_topics_along() {
    let rig = Rig::start();
    let (left, right) = (rig.account(ROOT_ACCOUNT), rig.account(ROOT_ACCOUNT));
    let child = rig.account(left);
    let [mut one, mut other] = [left, right].map(|it| rig.connect(&rig.standard(it).1, "parent"));
    let mut publisher = rig.connect(&rig.standard(child).1, "child");
    one.subscribe("#");
    other.subscribe("#");
    publisher.publish("t", "1");
    rig.accounts.update_account(child, Some(right), &json!({})).unwrap();
    publisher.publish("t", "2");
    assert_eq!((one.messages(), other.messages()), (vec!["t=1".into()], vec!["t=2".into()]));
}

/// Spec 3.10, 4.5.
#[test]
fn a_token_is_shown_from_where_it_may_be() {
    let rig = Rig::start();
    let (id, key) = rig.standard(ROOT_ACCOUNT);
    let mut client = rig.connect(&key, "client");
    rig.accounts.update_token(id, &json!({"ips": "127.0.*"})).unwrap();
    assert_eq!(client.publish("t", "x").code(), 0x10);
    rig.accounts.update_token(id, &json!({"ips": "192.0.2.1"})).unwrap();
    assert_eq!(client.next(), Some(Got::Packet(PacketType::Disconnect, 0x87, vec![])));
    let (_, answer) = Client::attempt(&rig.broker, &Ask::with(&key, "client"));
    assert_eq!(answer.code(), 0x87);
}

/// Spec 11.11.
#[test]
fn connack_tells_of_the_token_and_of_what_is_subscribed_to() {
    let rig = Rig::start();
    let (id, key) = rig.acl(ROOT_ACCOUNT, &[("a/#", BOTH)]);
    let ask = Ask::with(&key, "client").lasting();
    let mut client = Client::connect(&rig.broker, &ask);
    client.subscribe("a/b");
    drop(client);
    let (_, answer) = Client::attempt(&rig.broker, &ask);
    let read = |name| serde_json::from_str::<Value>(answer.named(name).unwrap()).unwrap();
    let token = read("token");
    assert_eq!((&token["cid"], &token["id"]), (&json!(1), &json!(id)));
    assert_eq!(token["access"]["acl"][0]["topic"], "a/#");
    assert_eq!(token.get("key"), None);
    let subscriptions = read("subscriptions");
    assert_eq!(subscriptions.as_array().unwrap().len(), 1);
    let one = &subscriptions[0];
    assert_eq!(
        (&one["topic"], &one["qos"], &one["rap"]),
        (&json!("a/b"), &json!(1), &json!(false))
    );
    let (_, answer) = Client::attempt(&rig.broker, &Ask { packet_max: Some(100), ..ask.clone() });
    assert_eq!((answer.named("token"), answer.named("subscriptions")), (None, None));
    let (_, answer) = Client::attempt(&rig.broker, &Ask { packet_max: Some(500), ..ask });
    assert!(answer.named("token").is_some(), "what comes first goes last");
}

/// Spec 6.1, 10.1: a restart changes nothing of it.
#[test]
fn accounts_and_what_is_theirs_outlive_the_broker() {
    let data = DataDir::new();
    let broker = data.start();
    let accounts = broker.accounts().unwrap();
    let child = accounts.create_account(ROOT_ACCOUNT, &json!({"name": "child"})).unwrap().id;
    let body = json!({"ttl": 3600, "access": {"type": 2, "acl": [
        {"uri": "mqtt", "topic": "t/#", "actions": BOTH}]}});
    let (_, key) = accounts.create_token(child, &body).unwrap();
    let ask = Ask::with(key.expose(), "client").lasting();
    let mut client = Client::connect(&broker, &ask);
    client.subscribe("#");
    client.retain("t/kept", "child");
    let mut root = Client::connect(&broker, &Ask::with(data.master.expose(), "root"));
    root.retain("t/kept", "root");
    assert_eq!(client.messages(), ["t/kept=child"]);
    drop((client, root, broker));
    let broker = data.start();
    let mut publisher = Client::connect(&broker, &Ask::with(key.expose(), "publisher"));
    publisher.publish("t/new", "1");
    let mut root = Client::connect(&broker, &Ask::with(data.master.expose(), "root"));
    root.subscribe_with("t/kept", &[]);
    let mut kept = root.messages();
    kept.sort();
    assert_eq!(kept, ["t/kept=child", "t/kept=root"]);
    let mut client = Client::connect(&broker, &ask);
    assert!(client.messages().contains(&"t/new=1".into()));
    assert_eq!(client.publish("other", "x").code(), 0x87);
}
