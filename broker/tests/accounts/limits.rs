//! Limits of accounts (specification of the broker, 17.3): each is kept by everybody below it
//! together, and is in force at once.

use std::time::{Duration, Instant};

use longshore_acl::ROOT_ACCOUNT;
use longshore_broker::accounts::{Options, Usage};
use longshore_codec::{Packet, PacketType, Properties, Publish, QoS};
use serde_json::json;

use crate::client::{Ask, Client, Got};
use crate::rig::Rig;

const QUOTA_EXCEEDED: u8 = 0x97;
/// As MQTT 3 has it.
const UNAVAILABLE: u8 = 0x88;

/// An account with another below it, and a token of each.
fn family(rig: &Rig) -> ([u64; 2], [String; 2]) {
    let parent = rig.account(ROOT_ACCOUNT);
    let accounts = [parent, rig.account(parent)];
    (accounts, accounts.map(|account| rig.standard(account).1))
}

/// Waits until the account uses what is expected.
fn await_usage(rig: &Rig, account: u64, is_it: impl Fn(Usage) -> bool) {
    let begin = Instant::now();
    while !is_it(rig.accounts.usage(account)) {
        let usage = rig.accounts.usage(account);
        assert!(begin.elapsed() < Duration::from_secs(20), "{usage:?}");
        std::thread::yield_now();
    }
}

/// Spec 17.3: `mqtt_sessions`.
#[test]
fn an_account_has_as_many_sessions_as_its_limit_says() {
    for shards in [1, 3] {
        let rig = Rig::of(Options::default(), shards);
        let ([parent, _], [one, other]) = family(&rig);
        let limit = rig.limit(parent, json!({"mqtt_sessions": 2}));
        let kept = Client::connect(&rig.broker, &Ask::with(&one, "a").lasting());
        let second = rig.connect(&other, "b");
        for token in [&one, &other] {
            let (_, answer) = Client::attempt(&rig.broker, &Ask::with(token, "c"));
            assert_eq!(answer.code(), QUOTA_EXCEEDED, "{shards} shards");
            let (_, answer) = Client::attempt(&rig.broker, &Ask::with(token, "c").v3());
            assert_eq!(answer.code(), UNAVAILABLE, "{shards} shards");
        }
        drop(kept);
        rig.connect(rig.master.expose(), "not of the account");
        let kept = Client::connect(&rig.broker, &Ask::with(&one, "a").lasting());
        rig.accounts.update_limit(limit, &json!({"mqtt_sessions": 3})).unwrap();
        drop(rig.connect(&other, "c"));
        await_usage(&rig, parent, |usage| usage.sessions == 2);
        rig.accounts.update_limit(limit, &json!({"mqtt_sessions": 2})).unwrap();
        drop((kept, second));
        await_usage(&rig, parent, |usage| usage.sessions == 1);
        rig.connect(&other, "d");
        rig.accounts.remove_limit(limit).unwrap();
        rig.connect(&other, "e");
        rig.connect(&other, "f");
    }
}

/// Spec 17.3: `mqtt_subscriptions`.
#[test]
fn an_account_has_as_many_subscriptions_as_its_limit_says() {
    for shards in [1, 3] {
        let rig = Rig::of(Options::default(), shards);
        let ([parent, child], [one, other]) = family(&rig);
        rig.limit(parent, json!({"mqtt_subscriptions": 3}));
        let mut first = rig.connect(&one, "a");
        let mut second = Client::connect(&rig.broker, &Ask::with(&other, "b").v3());
        assert_eq!([first.subscribe("a"), first.subscribe("$share/g/a")], [1, 1]);
        assert_eq!([second.subscribe("a"), second.subscribe("b")], [1, 0x80]);
        assert_eq!([first.subscribe("b"), first.subscribe("a")], [QUOTA_EXCEEDED, 1]);
        assert_eq!(rig.accounts.usage(parent).subscriptions, 3);
        assert_eq!(rig.accounts.usage(child).subscriptions, 1);
        drop(second);
        await_usage(&rig, child, |usage| usage.subscriptions == 0);
        assert_eq!([first.subscribe("b"), first.subscribe("c")], [1, QUOTA_EXCEEDED]);
        // What has moved away does not count any more.
        rig.accounts.update_account(child, Some(ROOT_ACCOUNT), &json!({})).unwrap();
        let mut second = rig.connect(&other, "b");
        assert_eq!(second.subscribe("a"), 1);
        assert_eq!(rig.accounts.usage(ROOT_ACCOUNT).subscriptions, 4);
        rig.accounts.update_account(child, Some(parent), &json!({})).unwrap();
        assert_eq!(rig.accounts.usage(parent).subscriptions, 4);
        assert_eq!(second.subscribe("b"), QUOTA_EXCEEDED);
    }
}

/// Spec 10.1, 10.11, 17.3: `mqtt_retained_storage`.
#[test]
fn an_account_retains_as_many_bytes_as_its_limit_says() {
    let rig = Rig::start();
    let ([parent, child], [one, other]) = family(&rig);
    let mut first = rig.connect(&one, "a");
    let mut second = rig.connect(&other, "b");
    let fixed: &[(&str, &str)] = &[("timestamp", "1700000000")];
    first.publish_with("a", "12345678", true, fixed);
    let each = rig.accounts.usage(parent).retained_bytes;
    rig.limit(parent, json!({"mqtt_retained_storage": 2 * each}));
    let mut retain =
        |topic: &str, payload: &str| second.publish_with(topic, payload, true, fixed).code();
    assert_eq!(retain("b", "12345678"), 0x10);
    assert_eq!(retain("c", "1"), QUOTA_EXCEEDED);
    assert_eq!(retain("b", "123456789"), QUOTA_EXCEEDED, "it would be larger");
    assert_eq!(retain("b", "12345679"), 0x10, "in place of the one before");
    assert_eq!(rig.accounts.usage(parent).retained_bytes, 2 * each);
    assert_eq!(rig.accounts.usage(child).retained_messages, 1);
    let mut old = Client::connect(&rig.broker, &Ask::with(&one, "old").v3());
    old.send(&retained(QoS::AtLeastOnce));
    assert_eq!(old.next(), None, "MQTT 3 has no words to refuse");
    assert_eq!(first.publish("#", "").code(), 0);
    await_usage(&rig, parent, |usage| usage.retained_messages == 1);
    assert_eq!(retain("c", "1"), 0x10);
    let mut master = rig.connect(rig.master.expose(), "master");
    assert_eq!(master.retain("c", "of the root, which no limit binds").code(), 0x10);
}

fn retained(qos: QoS) -> Packet<'static> {
    let packet_id = (qos != QoS::AtMostOnce).then_some(longshore_codec::PacketId::MIN);
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain: qos != QoS::AtMostOnce,
        topic: b"t",
        packet_id,
        properties: Properties::none(),
        payload: &[b'x'; 500],
    })
}

/// Spec 11.8, 17.3: `mqtt_session_storage`.
#[test]
fn an_account_keeps_as_many_bytes_for_its_sessions_as_its_limit_says() {
    for shards in [1, 3] {
        let rig = Rig::of(Options::default(), shards);
        let ([parent, child], [one, other]) = family(&rig);
        rig.limit(parent, json!({"mqtt_session_storage": 1000}));
        let ask = Ask::with(&other, "away").lasting();
        let mut away = Client::connect(&rig.broker, &ask);
        away.subscribe("#");
        drop(away);
        let (mut first, mut second) = (rig.connect(&one, "a"), rig.connect(&other, "b"));
        while second.publish("t", "x").code() == 0 && rig.accounts.usage(child).queued_bytes == 0 {
            // Until the broker has seen that the client is gone.
        }
        let mut sent = 0;
        while second.publish("t", &"x".repeat(100)).code() == 0 {
            sent += 1;
            assert!(sent < 2000, "{:?}", rig.accounts.usage(parent));
        }
        assert_eq!(second.publish("t", "x").code(), QUOTA_EXCEEDED, "{shards} shards");
        let full = rig.accounts.usage(child).queued_bytes;
        assert!(full >= 1000, "{full}");
        assert_eq!(rig.accounts.usage(parent).queued_bytes, full);
        assert_eq!(first.publish("t", "x").code(), 0x10, "it reaches nobody who is full");
        let mut away = Client::connect(&rig.broker, &ask);
        assert!(away.messages().len() >= sent);
        drop(away);
        rig.accounts.remove_account(child).unwrap();
        assert_eq!(rig.accounts.usage(parent).queued_bytes, 0);
        assert_eq!(rig.accounts.usage(ROOT_ACCOUNT).queued_bytes, 0);
    }
}

/// Spec 13.5, 17.3: what waits with a shared group is of its account, too.
#[test]
fn what_waits_with_a_shared_group_counts_as_what_waits_in_a_session() {
    for shards in [1, 3] {
        let rig = Rig::of(Options::default(), shards);
        let ([parent, child], [_, other]) = family(&rig);
        rig.limit(parent, json!({"mqtt_session_storage": 1000}));
        let ask = Ask::with(&other, "away").lasting();
        let mut away = Client::connect(&rig.broker, &ask);
        away.subscribe("$share/group/#");
        drop(away);
        let mut publisher = rig.connect(&other, "publisher");
        while publisher.publish("t", "x").code() == 0 && rig.accounts.usage(child).queued_bytes == 0
        {
            // Until the broker has seen that the client is gone.
        }
        let mut sent = 0;
        while publisher.publish("t", &"x".repeat(100)).code() == 0 {
            sent += 1;
            assert!(sent < 100, "{:?}", rig.accounts.usage(parent));
        }
        assert_eq!(publisher.publish("t", "x").code(), QUOTA_EXCEEDED, "{shards} shards");
        assert!(rig.accounts.usage(parent).queued_bytes >= 1000);
        let mut away = Client::connect(&rig.broker, &ask);
        assert!(away.sorted(sent).len() >= sent);
        await_usage(&rig, parent, |usage| usage.queued_bytes == 0);
        assert_eq!(publisher.publish("t", "x").code(), 0, "there is room again");
    }
}

/// Spec 17.3, 19: a will is a message of its account.
#[test]
fn a_will_counts_as_a_message_of_the_minute() {
    let rig = Rig::start();
    let ([parent, _], [one, _]) = family(&rig);
    rig.limit(parent, json!({"mqtt_messages": 1_000}));
    let mut master = rig.connect(rig.master.expose(), "master");
    master.subscribe("#");
    let mut publisher = rig.connect(&one, "publisher");
    let dies = |id| {
        let ask = Ask { will: Some("will"), ..Ask::with(&one, id) };
        Client::connect(&rig.broker, &ask).vanish();
    };
    // A minute may end meanwhile, once.
    let is_counted = (0..2).any(|_| {
        dies("first");
        assert_eq!(master.sorted(1), ["will=gone"]);
        rig.accounts.usage(parent).messages == Some(1)
    });
    assert!(is_counted);
    let is_refused = (0..2).any(|_| {
        while publisher.publish("t", "x").code() != QUOTA_EXCEEDED {}
        master.messages();
        let refused = || rig.broker.stats().over_quota_total.get();
        let before = refused();
        dies("second");
        while refused() == before && master.messages().is_empty() {}
        refused() > before
    });
    assert!(is_refused);
}

/// Spec 17.3, 17.6: `mqtt_messages`.
#[test]
fn an_account_publishes_as_many_messages_a_minute_as_its_limit_says() {
    let rig = Rig::start();
    let ([parent, child], [one, other]) = family(&rig);
    assert_eq!(rig.accounts.usage(child).messages, None, "nobody asks");
    let limit = rig.limit(parent, json!({"mqtt_messages": 3}));
    let (mut first, mut second) = (rig.connect(&one, "a"), rig.connect(&other, "b"));
    // A minute may end meanwhile, once.
    let refused = (0..8).filter(|_| {
        let codes = [first.publish("t", "x").code(), second.publish("t", "x").code()];
        codes.contains(&QUOTA_EXCEEDED)
    });
    assert!(refused.count() >= 4);
    assert!(rig.accounts.usage(parent).messages.is_some_and(|count| count <= 3));
    for _ in 0..8 {
        second.send(&retained(QoS::AtMostOnce));
    }
    second.messages();
    assert!(rig.accounts.usage(parent).messages.is_some_and(|count| count <= 3));
    let mut master = rig.connect(rig.master.expose(), "master");
    assert!((0..8).all(|_| master.publish("t", "x").code() == 0x10));
    rig.accounts.update_limit(limit, &json!({"mqtt_messages": 0})).unwrap();
    assert!((0..8).all(|_| second.publish("t", "x").code() == 0x10));
}

/// Spec 17.3, 17.4: `blocking_duration`.
#[test]
fn an_account_that_publishes_too_much_is_blocked_for_as_long_as_its_limit_says() {
    let rig = Rig::start();
    let ([parent, _], [one, other]) = family(&rig);
    rig.limit(parent, json!({"mqtt_messages": 3, "blocking_duration": 3600}));
    let (mut first, mut second) = (rig.connect(&one, "a"), rig.connect(&other, "b"));
    while second.publish("t", "x").code() != QUOTA_EXCEEDED {
        // A minute may end meanwhile.
    }
    for client in [&mut first, &mut second] {
        assert_eq!(client.next(), Some(Got::Packet(PacketType::Disconnect, 0x87, vec![])));
    }
    let (_, answer) = Client::attempt(&rig.broker, &Ask::with(&other, "b"));
    assert_eq!(answer.code(), 0x87);
    assert!(rig.accounts.read().account(parent).unwrap().blocked > 0);
    rig.connect(rig.master.expose(), "not of the account");
}

#[test]
fn an_account_makes_so_many_limits_and_no_more() {
    let rig = Rig::start();
    let child = rig.account(ROOT_ACCOUNT);
    let made = rig.accounts.create_limits(child, &vec![json!({}); 10_001]);
    let refused: Vec<_> = made.iter().filter_map(|it| it.as_ref().err()).collect();
    assert_eq!((made.len(), refused.len()), (10_001, 1));
    assert_eq!(refused[0].to_string(), "an account has up to 10000 limits");
    rig.accounts.remove_limit(made[0].as_ref().unwrap().id).unwrap();
    rig.accounts.create_limit(child, &json!({})).unwrap();
    rig.accounts.create_limit(ROOT_ACCOUNT, &json!({})).unwrap();
}

/// Spec 17.3: a limit is one of those above, wherever the account moves.
#[test]
fn an_account_has_no_limit_that_it_may_change_itself_or_that_is_of_others() {
    let rig = Rig::start();
    let (one, two) = (rig.account(ROOT_ACCOUNT), rig.account(ROOT_ACCOUNT));
    let below = rig.account(one);
    let limit = |of: u64| rig.accounts.create_limit(of, &json!({"tokens_count": 5})).unwrap().id;
    let (of_root, of_one, of_below) = (limit(ROOT_ACCOUNT), limit(one), limit(below));
    let set = |limit: u64| {
        let set = rig.accounts.update_account(below, None, &json!({"limit_id": limit}));
        set.map(|account| account.limit).map_err(|error| error.to_string())
    };
    assert_eq!([set(of_one), set(of_root)], [Ok(of_one), Ok(of_root)]);
    let refused = "limit_id: no limit of an account above it";
    assert_eq!([set(of_below), set(limit(two))], [(); 2].map(|()| Err(refused.to_owned())));
    let body = json!({"name": "new", "limit_id": of_root});
    assert_eq!(rig.accounts.create_account(one, &body).unwrap().limit, of_root);
    rig.accounts.update_account(below, Some(two), &json!({})).unwrap();
    rig.accounts.update_account(below, Some(one), &json!({"limit_id": of_one})).unwrap();
    assert!(rig.accounts.update_account(below, Some(two), &json!({})).is_err(), "it stays behind");
    rig.accounts.update_account(below, Some(two), &json!({"limit_id": 0})).unwrap();
    rig.accounts.update_account(below, Some(one), &json!({})).unwrap();
    let lowest = rig.account(below);
    for (limit, moves) in [(of_one, false), (of_below, true)] {
        rig.accounts.update_account(lowest, None, &json!({"limit_id": limit})).unwrap();
        let moved = rig.accounts.update_account(below, Some(two), &json!({}));
        assert_eq!(moved.is_ok(), moves);
    }
}
