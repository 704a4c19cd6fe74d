//! Accounts and tokens at work: who comes in, what each sees and may do, and what changes at once.

use std::sync::Arc;

use longshore_acl::{ROOT_ACCOUNT, TokenKey};
use longshore_broker::accounts::{Accounts, Options};
use longshore_broker::{Broker, Storage};
use longshore_codec::PacketType;
use serde_json::{Value, json};

mod client;
mod property;

use self::client::{Ask, Client, Got};

/// A broker with accounts, and the key of the master token.
struct Rig {
    broker: Broker,
    accounts: Arc<Accounts>,
    master: TokenKey,
}

impl Rig {
    fn start() -> Self {
        Self::of(Options::default(), 1)
    }

    fn of(options: Options, shards: usize) -> Self {
        let master = TokenKey::generate().unwrap();
        let accounts = Arc::new(Accounts::in_memory(&master, options).unwrap());
        let builder = Broker::builder().accounts(Arc::clone(&accounts)).shards(shards);
        let broker = builder.listen("mqtt://127.0.0.1:0").start().unwrap();
        Self { broker, accounts, master }
    }

    /// An account below `parent`.
    fn account(&self, parent: u64) -> u64 {
        self.accounts.create_account(parent, &json!({"name": "test"})).unwrap().id
    }

    /// A token of an account that opens all of it.
    fn standard(&self, account: u64) -> (u64, String) {
        self.token(account, json!({"type": 0}))
    }

    /// A token of an account with these entries of MQTT.
    fn acl(&self, account: u64, entries: &[(&str, &[&str])]) -> (u64, String) {
        let entry = |(topic, actions): &(&str, &[&str])| json!({"uri": "mqtt", "topic": topic, "actions": actions});
        let acl: Vec<Value> = entries.iter().map(entry).collect();
        self.token(account, json!({"type": 2, "acl": acl}))
    }

    fn token(&self, account: u64, access: Value) -> (u64, String) {
        let body = json!({"ttl": 3600, "access": access});
        let (token, key) = self.accounts.create_token(account, &body).unwrap();
        (token.id, key.expose().to_owned())
    }

    fn connect(&self, token: &str, id: &str) -> Client {
        Client::connect(&self.broker, &Ask::with(token, id))
    }
}

const BOTH: &[&str] = &["publish", "subscribe"];

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

/// Spec 6.6, 6.7, 9.1, 9.2.
#[test]
fn messages_say_when_and_by_whom_they_were_published() {
    let rig = Rig::start();
    let child = rig.account(ROOT_ACCOUNT);
    let (id, key) = rig.standard(child);
    let mut receiver = rig.connect(rig.master.expose(), "receiver");
    receiver.subscribe("#");
    let mut publisher = rig.connect(&key, "publisher");
    publisher.publish_with(
        "t",
        "x",
        false,
        &[("a", "1"), ("cid", "1"), ("token_id", "1"), ("b", "2")],
    );
    publisher.publish_with("t", "x", false, &[("timestamp", "1700000000.5"), ("c", "3")]);
    let mut old = Client::connect(&rig.broker, &Ask::with(&key, "old").v3());
    old.publish("t", "x");
    let names = |got: &Got| match got {
        Got::Message { named, .. } => named.iter().map(|(name, _)| name.clone()).collect(),
        Got::Packet(..) => Vec::new(),
    };
    let all = [
        &["a", "b", "token_id", "cid", "timestamp"][..],
        &["timestamp", "c", "token_id", "cid"],
        &["token_id", "cid", "timestamp"],
    ];
    for (at, want) in all.iter().enumerate() {
        let got = receiver.next().unwrap();
        assert_eq!(names(&got), *want);
        assert_eq!(got.named("token_id"), Some(&*id.to_string()));
        assert_eq!(got.named("cid"), Some(&*child.to_string()));
        let time = got.named("timestamp").unwrap();
        assert_eq!(time == "1700000000.5", at == 1, "{time}");
        assert!(time.parse::<f64>().unwrap() > 1.6e9, "{time}");
    }
}

/// Spec 9.1 and the table of deviations: stamps never make a message too large for its receiver.
#[test]
fn what_the_broker_says_is_left_out_where_it_would_be_too_much() {
    let rig = Rig::start();
    let small = Ask { packet_max: Some(60), ..Ask::with(rig.master.expose(), "small") };
    let mut small = Client::connect(&rig.broker, &small);
    small.subscribe("t");
    let mut publisher = rig.connect(rig.master.expose(), "publisher");
    publisher.publish("t", "0123456789");
    let got = small.next().unwrap();
    assert_eq!((got.named("cid"), got.named("timestamp")), (None, None));
    assert!(matches!(got, Got::Message { payload, .. } if payload == "0123456789"));
}

/// Spec 9.5.
#[test]
fn a_publisher_that_asks_is_told_how_many_subscribers_it_reaches() {
    let rig = Rig::start();
    let mut publisher = rig.connect(rig.master.expose(), "publisher");
    let asked = &[("count_subscribers", "1")];
    let got = publisher.publish_with("t", "x", false, asked);
    assert_eq!((got.code(), got.named("subscribers_count")), (0x10, Some("0")));
    let mut members: Vec<_> =
        ["a", "b", "c"].iter().map(|id| rig.connect(rig.master.expose(), id)).collect();
    members[0].subscribe("#");
    members[0].subscribe("t");
    members[1].subscribe("$share/g/t");
    members[2].subscribe("$share/g/t");
    let got = publisher.publish_with("t", "x", false, asked);
    assert_eq!((got.code(), got.named("subscribers_count")), (0, Some("2")));
    let got = members[0].next().unwrap();
    assert_eq!(got.named("count_subscribers"), None, "it is for the broker");
    assert_eq!(publisher.publish("t", "x").named("subscribers_count"), None);
}

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
    let access = |topic: &str| json!({"access": {"type": 2, "acl": [{"uri": "mqtt", "topic": topic, "actions": BOTH}]}});
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

/// Spec 10.3, 10.4.
#[test]
fn what_is_retained_is_what_was_published_last() {
    let rig = Rig::start();
    let mut client = rig.connect(rig.master.expose(), "client");
    let mut at = |payload: &str, time: &str| {
        client.publish_with("t", payload, true, &[("timestamp", time)]);
        let mut reader = rig.connect(rig.master.expose(), "reader");
        reader.subscribe("t");
        reader.messages().pop().unwrap_or_default()
    };
    assert_eq!(at("1", "1700000000"), "t=1");
    assert_eq!(at("2", "1699999999.9"), "t=1", "an older one does not replace it");
    assert_eq!(at("3", "1700000000"), "t=3", "of two the later to come");
    assert_eq!(at("", "1699999999"), "t=3", "nor does an older clear");
    assert_eq!(at("4", "99999999999"), "t=4", "a clock that is wrong does not count");
    assert_eq!(at("5", "1700000001"), "t=5", "and pins nothing");
    assert_eq!(at("", "1700000002"), "");
}

/// Spec 6.1, 10.1: a restart changes nothing of it.
#[test]
fn accounts_and_what_is_theirs_outlive_the_broker() {
    let folder = tempfile::tempdir().unwrap();
    let master = TokenKey::generate().unwrap();
    let start = || {
        let storage = Storage::at(folder.path().join("journal"));
        let builder = Broker::builder().storage(storage).listen("mqtt://127.0.0.1:0");
        let (path, key) = (folder.path().to_owned(), master.clone());
        builder.accounts_in(path, key, Options::default()).start().unwrap()
    };
    let broker = start();
    let accounts = broker.accounts().unwrap();
    let child = accounts.create_account(ROOT_ACCOUNT, &json!({"name": "child"})).unwrap().id;
    let body = json!({"ttl": 3600, "access": {"type": 2, "acl": [
        {"uri": "mqtt", "topic": "t/#", "actions": BOTH}]}});
    let (_, key) = accounts.create_token(child, &body).unwrap();
    let ask = Ask::with(key.expose(), "client").lasting();
    let mut client = Client::connect(&broker, &ask);
    client.subscribe("#");
    client.retain("t/kept", "child");
    let mut root = Client::connect(&broker, &Ask::with(master.expose(), "root"));
    root.retain("t/kept", "root");
    assert_eq!(client.messages(), ["t/kept=child"]);
    drop((client, root, broker));
    let broker = start();
    let mut publisher = Client::connect(&broker, &Ask::with(key.expose(), "publisher"));
    publisher.publish("t/new", "1");
    let mut root = Client::connect(&broker, &Ask::with(master.expose(), "root"));
    root.subscribe_with("t/kept", &[]);
    let mut kept = root.messages();
    kept.sort();
    assert_eq!(kept, ["t/kept=child", "t/kept=root"]);
    let mut client = Client::connect(&broker, &ask);
    assert!(client.messages().contains(&"t/new=1".into()));
    assert_eq!(client.publish("other", "x").code(), 0x87);
}

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
    let folder = tempfile::tempdir().unwrap();
    let master = TokenKey::generate().unwrap();
    let start = || {
        let storage = Storage::at(folder.path().join("journal"));
        let builder = Broker::builder().storage(storage).listen("mqtt://127.0.0.1:0");
        let (path, key) = (folder.path().to_owned(), master.clone());
        builder.accounts_in(path, key, Options::default()).start().unwrap()
    };
    let broker = start();
    let child = broker.accounts().unwrap().create_account(ROOT_ACCOUNT, &json!({"name": "c"}));
    let child = child.unwrap().id;
    let body = json!({"ttl": 3600, "access": {"type": 0}});
    let (_, key) = broker.accounts().unwrap().create_token(child, &body).unwrap();
    let ask = Ask::with(master.expose(), "client").lasting();
    let mut client = Client::connect(&broker, &ask);
    assert_eq!(client.subscribe("$filter/payload=value%3E1/a"), 1);
    assert_eq!(client.subscribe_with("b", &[("cid", &child.to_string())]), 1);
    drop((client, broker));
    let broker = start();
    let mut root = Client::connect(&broker, &Ask::with(master.expose(), "publisher"));
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
    let rows: [(&str, &[(&str, &str)], &[&str]); 5] = [
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
