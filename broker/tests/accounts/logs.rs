//! What the broker tells of accounts: their logs, live and read later, and retained states.

use std::sync::Arc;

use longshore_acl::{ROOT_ACCOUNT, TokenKey};
use longshore_broker::accounts::{Accounts, Call, LogQuery, Options};
use longshore_broker::clock::Wall;
use longshore_broker::{Broker, Dialect, Limits, Storage};
use longshore_codec::{Disconnect, Packet, Properties, ReasonCode};
use longshore_expression::Filter;
use serde_json::{Map, Value, json};

use super::client::{Ask, Client, Got};
use super::rig::{BOTH, Rig};

/// Topic and payload of the next message.
fn next(client: &mut Client) -> (String, Value) {
    match client.next().expect("a message") {
        Got::Message { topic, payload, .. } => {
            (topic, serde_json::from_str(&payload).unwrap_or(Value::Null))
        }
        other => panic!("no message: {other:?}"),
    }
}

/// All that a query finds, a few records at a time.
fn read(accounts: &Accounts, query: LogQuery<'_>) -> Vec<Map<String, Value>> {
    let mut reader = accounts.logs().read(query).unwrap();
    let slices = std::iter::from_fn(|| reader.next_slice(3).unwrap());
    slices.flatten().collect()
}

/// What is there under these names, in the log of an account.
fn column(accounts: &Accounts, account: u64, name: &str) -> Vec<Value> {
    let records = read(accounts, LogQuery::of(&[account]));
    records.iter().map(|record| record.get(name).cloned().unwrap_or_default()).collect()
}

/// A client of the root account that hears what the log of this account says.
fn listener(rig: &Rig, account: u64, filter: &str) -> Client {
    let mut client = rig.connect(rig.master.expose(), "listener");
    assert_eq!(client.subscribe_with(filter, &[("cid", &account.to_string())]), 1);
    client
}

/// Spec 20.1 to 20.5, 6.6.
#[test]
fn what_a_session_does_is_told_live_and_stands_in_the_log_of_its_account() {
    for shards in [1, 3] {
        let rig = Rig::of(Options::default(), shards);
        let child = rig.account(ROOT_ACCOUNT);
        let mut listener = listener(&rig, child, "flespi/log/mqtt/+/#");
        let (token, key) = rig.acl(child, &[("open/#", BOTH)]);
        let mut client = rig.connect(&key, "a/b");
        assert_eq!(client.subscribe("open/+"), 1);
        client.publish("open/x", "1");
        client.publish("open/x", "2");
        assert_eq!(client.messages().len(), 2);
        assert_eq!(client.publish("closed", "1").code(), 0x87);
        client.unsubscribe("open/+");
        client.unsubscribe("never");
        let (reason, properties) = (ReasonCode::Success, Properties::none());
        client.send(&Packet::Disconnect(Disconnect { reason, properties }));
        assert!(client.next().is_none());
        let names = ["accepted", "subscribed", "unsubscribed", "closed"];
        let told: Vec<_> = names.iter().map(|_| next(&mut listener)).collect();
        for (name, (topic, _)) in names.iter().zip(&told) {
            assert_eq!(*topic, format!("flespi/log/mqtt/sessions/a%2Fb/{name}"));
        }
        let records = read(&rig.accounts, LogQuery::of(&[child]));
        let live: Vec<_> = told.into_iter().map(|(_, record)| record).collect();
        let of_sessions = |record: &Map<String, Value>| record["event_code"].as_u64() >= Some(500);
        let kept: Vec<_> = records.into_iter().filter(of_sessions).map(Value::Object).collect();
        assert_eq!(live, kept, "{shards} shards");
        let id = live[0]["origin_id"].as_u64().unwrap();
        assert!(0 < id && id < 1 << 53);
        for (record, code) in live.iter().zip([500, 520, 521, 503]) {
            assert_eq!(record["event_code"], code);
            assert_eq!((&record["client_id"], &record["cid"]), (&json!("a/b"), &json!(child)));
            assert_eq!(record["origin_id"], id);
            assert_eq!(record["origin_type"], if code > 510 { 18 } else { 14 });
            assert!(record["timestamp"].as_f64().unwrap() > 1.7e9);
        }
        assert_eq!((&live[0]["token_id"], &live[0]["host"]), (&json!(token), &json!("127.0.0.1")));
        assert_eq!((&live[1]["topic"], &live[2]["topic"]), (&json!("open/+"), &json!("open/+")));
        let counts = ["published", "received", "rejected", "close_code"].map(|it| &live[3][it]);
        assert_eq!(counts, [&json!(2), &json!(2), &json!(1), &json!(10)]);
        assert!(live[3]["duration"].as_f64().is_some() && live[3]["source"].is_string());
    }
}

/// Spec 20.5, 11.9.
#[test]
fn the_log_says_why_a_connection_ended() {
    let rig = Rig::start();
    let child = rig.account(ROOT_ACCOUNT);
    let mut listener = listener(&rig, child, "flespi/log/mqtt/sessions/+/closed,overflowed");
    let (id, key) = rig.standard(child);
    let first = rig.connect(&key, "same");
    let second = rig.connect(&key, "same");
    assert_eq!(next(&mut listener).1["close_code"], 142);
    second.vanish();
    assert_eq!(next(&mut listener).1["close_code"], -1);
    let _third = rig.connect(&key, "same");
    rig.accounts.remove_token(id).unwrap();
    assert_eq!(next(&mut listener).1["close_code"], 135);
    drop(first);
}

/// Spec 20.4: 502. Whoever shows no token that is known is nobody's.
#[test]
fn a_refused_client_stands_in_the_log_of_whose_token_it_shows() {
    let rig = Rig::start();
    let child = rig.account(ROOT_ACCOUNT);
    let mut listener = listener(&rig, child, "flespi/log/mqtt/#");
    let (id, key) = rig.standard(child);
    rig.accounts.update_token(id, &json!({"enabled": false})).unwrap();
    for token in ["nobody's", &key] {
        let (_, answer) = Client::attempt(&rig.broker, &Ask::with(token, "client"));
        assert_eq!(answer.code(), 0x86);
    }
    let (topic, record) = next(&mut listener);
    assert_eq!(topic, "flespi/log/mqtt/sessions/client/rejected");
    assert_eq!((&record["event_code"], &record["error_code"]), (&json!(502), &json!(0x86)));
    assert_eq!(listener.messages(), Vec::<String>::new());
}

/// Spec 20.4: 504.
#[test]
fn a_session_that_overflows_says_so() {
    let mut limits = Limits::default();
    limits.queue_messages = 2;
    let rig = Rig::with(Options::default(), |builder| builder.limits(limits));
    let child = rig.account(ROOT_ACCOUNT);
    let mut listener = listener(&rig, child, "flespi/log/mqtt/sessions/+/overflowed");
    let (_, key) = rig.standard(child);
    let mut client = Client::connect(&rig.broker, &Ask::with(&key, "away").lasting());
    client.subscribe("t");
    client.vanish();
    let mut publisher = rig.connect(&key, "publisher");
    for number in 0..20 {
        publisher.publish("t", &number.to_string());
    }
    let (topic, record) = next(&mut listener);
    assert_eq!(topic, "flespi/log/mqtt/sessions/away/overflowed");
    assert_eq!((&record["event_code"], &record["messages"]), (&json!(504), &json!(2)));
}

/// Spec 7.2, 7.3, 20.3, 20.4, 5.3.
#[test]
fn changes_of_tokens_accounts_and_limits_are_told_and_their_states_are_retained() {
    let rig = Rig::start();
    let mut listener = rig.connect(rig.master.expose(), "listener");
    assert_eq!(listener.subscribe("flespi/log/platform/tokens,subaccounts,limits/#"), 1);
    let child = rig.account(ROOT_ACCOUNT);
    let (token, key) = rig.standard(child);
    rig.accounts.update_token(token, &json!({"info": "new"})).unwrap();
    let limit = rig.accounts.create_limit(child, &json!({"name": "l"})).unwrap().id;
    let mut told = Vec::new();
    let mut hear = |count: usize| {
        for _ in 0..count {
            let (topic, record) = next(&mut listener);
            let fields = ["event_code", "origin_type", "id", "cid"].map(|it| record[it].clone());
            told.push((topic, fields.map(|it| it.as_u64().unwrap())));
        }
    };
    hear(4);
    let states = |rig: &Rig| {
        let mut reader = rig.connect(rig.master.expose(), "reader");
        reader.subscribe("flespi/state/platform/+/+");
        reader.messages()
    };
    let state = rig.accounts.read().token(token).unwrap().to_json(None);
    let want = format!("flespi/state/platform/tokens/{token}={}", Value::Object(state));
    let retained = states(&rig);
    assert!(retained.contains(&want), "{retained:?}");
    assert!(!retained.iter().any(|it| it.contains(&key) || it.contains("\"key\"")));
    for topic in [format!("limits/{limit}"), format!("subaccounts/{child}"), "tokens/1".into()] {
        let start = format!("flespi/state/platform/{topic}=");
        assert!(retained.iter().any(|it| it.starts_with(&start)), "{topic}");
    }
    // Of a token that does not open the platform they are none of its business.
    let mut standard = rig.connect(&key, "standard");
    standard.hears_broker = true;
    standard.subscribe("#");
    assert!(!standard.messages().iter().any(|it| it.contains("platform")));
    rig.accounts.remove_token(token).unwrap();
    rig.accounts.remove_limit(limit).unwrap();
    hear(2);
    rig.accounts.remove_account(child).unwrap();
    hear(1);
    assert_eq!(states(&rig).len(), 1, "that of the master token is left");
    let told: Vec<_> = told.iter().map(|(topic, fields)| (&**topic, *fields)).collect();
    let topics = |levels: [String; 3]| levels.map(|it| format!("flespi/log/platform/{it}"));
    let [of_child, of_token, of_limit] = topics([
        format!("subaccounts/{child}"),
        format!("tokens/{token}"),
        format!("limits/{limit}"),
    ]);
    let rows = [
        (format!("{of_child}/created"), [1, 5, child, ROOT_ACCOUNT]),
        (format!("{of_token}/created"), [1, 33, token, child]),
        (format!("{of_token}/updated"), [2, 33, token, child]),
        (format!("{of_limit}/created"), [1, 4, limit, child]),
        (format!("{of_token}/deleted"), [3, 33, token, child]),
        (format!("{of_limit}/deleted"), [3, 4, limit, child]),
        (format!("{of_child}/deleted"), [3, 5, child, ROOT_ACCOUNT]),
    ];
    let rows: Vec<_> = rows.iter().map(|(topic, fields)| (&**topic, *fields)).collect();
    assert_eq!(told, rows);
}

/// Spec 6.2, 20.4: 4; 7.3.
#[test]
fn the_state_of_an_account_that_moves_is_retained_where_it_stands() {
    let rig = Rig::start();
    let (left, right) = (rig.account(ROOT_ACCOUNT), rig.account(ROOT_ACCOUNT));
    let child = rig.account(left);
    rig.accounts.update_account(child, Some(right), &json!({})).unwrap();
    let topic = format!("flespi/state/platform/subaccounts/{child}");
    for (account, want) in [(left, 0), (right, 1)] {
        let (_, key) = rig.token(account, json!({"type": 1}));
        let mut client = rig.connect(&key, "client");
        client.subscribe(&topic);
        assert_eq!(client.messages().len(), want);
    }
}

/// Spec 4.3, 20.4: 600.
#[test]
fn a_token_that_has_come_to_its_end_says_so() {
    let rig = Rig::start();
    let mut listener = listener(&rig, ROOT_ACCOUNT, "flespi/log/platform/tokens/+/expired");
    let body = json!({"expire": 1_000_000_001, "access": {"type": 0}});
    let (token, _) = rig.accounts.create_token(ROOT_ACCOUNT, &body).unwrap();
    let (topic, record) = next(&mut listener);
    assert_eq!(topic, format!("flespi/log/platform/tokens/{}/expired", token.id));
    assert_eq!(record["event_code"], 600);
}

/// Spec 15.1.8, 20.3.
#[test]
fn calls_of_rest_stand_in_the_log() {
    let rig = Rig::start();
    let mut listener = listener(&rig, ROOT_ACCOUNT, "flespi/log/platform/customer/+/#");
    let mut call = Call::default();
    (call.method, call.uri, call.status) = ("GET".into(), "/mqtt/logs".into(), 200);
    call.app = Some("app".into());
    rig.accounts.note_call(ROOT_ACCOUNT, call);
    let (topic, record) = next(&mut listener);
    assert_eq!(topic, "flespi/log/platform/customer/1/called");
    let fields = ["event_code", "origin_type", "method", "uri", "response_code", "app"];
    let want = [json!(1000), json!(1), json!("GET"), json!("/mqtt/logs"), json!(200), json!("app")];
    assert_eq!(fields.map(|it| record[it].clone()), want);
}

/// Spec 20.1, 20.6.
#[test]
fn logs_of_a_branch_are_read_in_the_order_of_time_from_either_end() {
    let rig = Rig::start();
    let child = rig.account(ROOT_ACCOUNT);
    let accounts = [ROOT_ACCOUNT, child];
    let mut listener = listener(&rig, ROOT_ACCOUNT, "flespi/log/platform/customer/#");
    for number in 0..200 {
        let call = Call { status: number, ..Call::default() };
        rig.accounts.note_call(accounts[usize::from(number % 2)], call);
    }
    let _ = listener.subscribe("flespi/log/platform/customer/#");
    while next(&mut listener).1["response_code"] != 199 {}
    let only = Filter::parse("event_code == 1000").unwrap();
    let query = || {
        let mut query = LogQuery::of(&accounts);
        query.filter = Some(&only);
        query
    };
    let codes = |query| -> Vec<u64> {
        let records = read(&rig.accounts, query);
        records.iter().map(|record| record["response_code"].as_u64().unwrap()).collect()
    };
    let all: Vec<u64> = (0..200).collect();
    let mut found = codes(query());
    let times: Vec<_> = read(&rig.accounts, query())
        .iter()
        .map(|record| record["timestamp"].as_f64().unwrap())
        .collect();
    assert!(times.is_sorted(), "what is of one microsecond may come in any order");
    found.sort_unstable();
    assert_eq!(found, all);
    let mut last = query();
    (last.reverse, last.count) = (true, 3);
    let latest: Vec<_> = read(&rig.accounts, last)
        .iter()
        .map(|record| record["timestamp"].as_f64().unwrap())
        .collect();
    assert_eq!(latest, times.iter().rev().take(3).copied().collect::<Vec<_>>());
    let wall = |secs: f64| Wall((secs * 1e6).round() as u64);
    let mut some = query();
    (some.from, some.to) = (wall(times[50]), wall(times[60]));
    let want = times.iter().filter(|time| (times[50]..times[60]).contains(time)).count();
    assert_eq!(codes(some).len(), want);
    let mut of_child = query();
    of_child.accounts = &accounts[1..];
    assert!(codes(of_child).iter().all(|code| code % 2 == 1));
}

/// Spec 9.7, 10.
#[test]
fn nobody_deletes_states_and_who_has_no_token_asks_for_them_by_name() {
    let mut options = Options::default();
    options.anonymous = true;
    let rig = Rig::of(options, 1);
    let mut client = rig.connect(rig.master.expose(), "client");
    // It is told soon after the start.
    client.subscribe("flespi/state/platform/tokens/+");
    assert!(next(&mut client).0.ends_with("tokens/1"));
    for topic in ["#", "flespi/#", "flespi,x/state/#"] {
        client.publish_with(topic, "", false, &[]);
    }
    assert_eq!(client.publish_with("flespi/state/platform/tokens/1", "", true, &[]).code(), 0x87);
    let anonymous = Ask { username: None, ..Ask::with("", "anonymous") };
    let mut anonymous = Client::connect(&rig.broker, &anonymous);
    anonymous.hears_broker = true;
    for (filter, want) in [("#", 0), ("+/state/platform/#", 0), ("flespi/#", 1)] {
        anonymous.subscribe(filter);
        assert_eq!(anonymous.messages().len(), want, "{filter}");
    }
}

/// Spec 7.3, 15.2.1.
#[test]
fn states_of_sessions_are_retained_where_that_is_switched_on() {
    let mut dialect = Dialect::default();
    dialect.session_state = true;
    let rig = Rig::with(Options::default(), |builder| builder.dialect(dialect));
    let (token, key) = rig.standard(ROOT_ACCOUNT);
    let mut listener = rig.connect(rig.master.expose(), "listener");
    listener.subscribe("$filter/payload=client_id==\"c\"/flespi/state/mqtt/sessions/+");
    let client = Client::connect(&rig.broker, &Ask::with(&key, "c").lasting());
    let (topic, state) = next(&mut listener);
    assert_eq!(topic, format!("flespi/state/mqtt/sessions/{}", state["id"]));
    let want = json!({"client_id": "c", "clean": false, "connected": true, "cid": 1,
        "ip": "127.0.0.1", "size": 0, "expires": 0, "token_id": token, "subscriptions_count": 0});
    for (name, want) in want.as_object().unwrap() {
        assert_eq!(state[name], *want, "{name}");
    }
    listener.subscribe(&topic);
    assert_eq!(next(&mut listener).1, state, "it is retained");
    listener.unsubscribe("$filter/payload=client_id==\"c\"/flespi/state/mqtt/sessions/+");
    client.vanish();
    let (_, state) = next(&mut listener);
    assert_eq!((&state["connected"], &state["ip"]), (&json!(false), &Value::Null));
    assert!(state["expires"].as_u64().unwrap() > 1_700_000_000);
    drop(rig.connect(&key, "c"));
    assert_eq!(next(&mut listener).1, Value::Null, "the session has ended by a clean start");
    assert_eq!(next(&mut listener).1["clean"], true);
    assert_eq!(next(&mut listener).1, Value::Null, "and this one with its connection");
}

/// Spec 20.1, 20.5: what happened before a restart is there after it, and the states are so again.
#[test]
fn logs_and_states_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let master = TokenKey::generate().unwrap();
    let start = || {
        let storage = Storage::at(folder.path().join("journal"));
        let accounts = (folder.path().to_owned(), master.clone(), Options::default());
        let builder = Broker::builder().storage(storage).listen("mqtt://127.0.0.1:0");
        builder.accounts_in(accounts.0, accounts.1, accounts.2).start().unwrap()
    };
    let broker = start();
    let accounts = Arc::clone(broker.accounts().unwrap());
    let (token, _) = accounts.create_token(ROOT_ACCOUNT, &json!({"ttl": 3600})).unwrap();
    let _client = Client::connect(&broker, &Ask::with(master.expose(), "client"));
    broker.shutdown();
    broker.wait().unwrap();
    // Nobody is told of this any more.
    accounts.remove_token(token.id).unwrap();
    drop((broker, accounts, token));
    let broker = start();
    let accounts = broker.accounts().unwrap();
    assert_eq!(column(accounts, ROOT_ACCOUNT, "event_code"), [1, 500, 503, 3]);
    assert_eq!(column(accounts, ROOT_ACCOUNT, "close_code")[2], 7);
    let mut client = Client::connect(&broker, &Ask::with(master.expose(), "client"));
    let states = |client: &mut Client| {
        client.subscribe("flespi/state/#");
        client.messages().len()
    };
    while states(&mut client) != 1 {
        // It is brought up to date soon after the start.
    }
}
