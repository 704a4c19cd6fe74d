//! The directory: the tree of accounts, who is let in, what goes with what.

use serde_json::json;

use super::*;
use crate::secret::KeyRecord;

const NOW: u64 = 1_700_000_000;

fn secret() -> Secret {
    Secret::from_bytes([9; 32])
}

fn account(id: u64, parent: u64) -> Account {
    Account { id, parent, ..Account::root(NOW) }
}

/// 1 above 2 and 3, 2 above 4, 4 above 5.
fn tree() -> Directory {
    let mut all = Directory::new(secret());
    for (id, parent) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 4)] {
        all.put_account(account(id, parent));
    }
    all
}

/// A token of `account`, and its key.
fn add(all: &mut Directory, account: u64, body: &serde_json::Value) -> (u64, String) {
    let (key, record) = KeyRecord::generate(all.secret()).unwrap();
    let id = all.next_token_id();
    all.put_token(Token::create(body, id, account, record, NOW).unwrap());
    (id, key.expose().to_owned())
}

fn endless(id: u64, account: u64, key: KeyRecord) -> Token {
    let mut token = Token::first(key, NOW);
    (token.id, token.account) = (id, account);
    token
}

fn show<'a>(username: Option<&'a str>, password: Option<&'a str>) -> Credentials<'a> {
    Credentials { username, password: password.map(str::as_bytes) }
}

fn peer() -> IpAddr {
    [10, 0, 0, 1].into()
}

/// Broker specification, 6.2, 6.3.
#[test]
fn a_branch_is_an_account_and_all_below_it() {
    let all = tree();
    assert_eq!(all.ancestors(5).collect::<Vec<_>>(), [5, 4, 2, 1]);
    assert_eq!(all.ancestors(9).count(), 0);
    assert_eq!(all.branch(2), [2, 4, 5]);
    assert_eq!(all.branch(1), [1, 2, 3, 4, 5]);
    assert!(all.branch(9).is_empty());
    assert_eq!(all.children(1).collect::<Vec<_>>(), [2, 3]);
    assert!(all.is_in_branch(2, 5) && all.is_in_branch(5, 5));
    assert!(!all.is_in_branch(5, 2) && !all.is_in_branch(3, 5) && !all.is_in_branch(9, 9));
}

/// Broker specification, 6.2: up to four levels.
#[test]
fn accounts_stay_a_tree_of_four_levels() {
    let mut all = tree();
    assert_eq!((all.can_create(4), all.can_create(1)), (Ok(()), Ok(())));
    let rows = [
        (all.can_create(5), Misplaced::TooDeep),
        (all.can_create(9), Misplaced::NoParent),
        (all.can_move(9, 1), Misplaced::NoAccount),
        (all.can_move(1, 2), Misplaced::Root),
        (all.can_move(2, 5), Misplaced::UnderItself),
        (all.can_move(2, 2), Misplaced::UnderItself),
        (all.can_move(2, 3), Misplaced::TooDeep),
        (all.can_move(2, 9), Misplaced::NoParent),
    ];
    for (found, want) in rows {
        assert_eq!(found, Err(want));
    }
    assert_eq!(all.can_move(4, 3), Ok(()));
    all.put_account(account(4, 3));
    assert_eq!((all.branch(2), all.branch(3)), (vec![2], vec![3, 4, 5]));
    assert_eq!(all.can_move(2, 4), Ok(()));
}

/// Broker specification, 3.4, 3.5.
#[test]
fn a_token_is_known_by_user_name_then_password_then_number() {
    let mut all = tree();
    let (one, key) = add(&mut all, 2, &json!({"ttl": 60}));
    let (two, other) = add(&mut all, 3, &json!({"ttl": 60}));
    let (number, prefixed) = (one.to_string(), format!("FlespiToken {key}"));
    let (short, zeros) = (&key[..16], format!("00{one}"));
    let bad = Err(Refusal::BadCredentials);
    let rows = [
        (Some(key.as_str()), None, true, Ok(one)),
        (Some(&prefixed), Some(""), false, Ok(one)),
        (Some("x"), Some(prefixed.as_str()), false, Ok(one)),
        (None, Some(&key), false, Ok(one)),
        (Some(&other), Some(&key), true, Ok(two)),
        (Some(&number), Some(short), true, Ok(one)),
        (Some(&zeros), Some(short), true, Ok(one)),
        (Some(&number), Some(short), false, bad),
        (Some("2"), Some(short), true, bad),
        (Some("99"), Some(short), true, bad),
        (Some("+1"), Some(short), true, bad),
        (Some(""), Some(short), true, bad),
        (Some("99999999999999999999"), Some(short), true, bad),
        (Some(&number), Some(&key[..15]), true, bad),
        (Some(&number), None, true, bad),
        (Some(&key[..63]), None, true, bad),
        (Some(""), None, true, Err(Refusal::NoCredentials)),
    ];
    for (username, password, special, want) in rows {
        let found = all.authenticate(&show(username, password), peer(), special, NOW);
        assert_eq!(found.map(|token| token.id), want, "{username:?} {password:?} {special}");
    }
}

/// Broker specification, 3.9, 3.10.
#[test]
fn a_refusal_says_why_a_known_token_is_not_let_in() {
    let mut all = tree();
    let bodies = [
        (json!({"ttl": 60}), Ok(())),
        (json!({"ttl": 60, "enabled": false}), Err(Refusal::Disabled)),
        (json!({"ttl": 10}), Err(Refusal::Expired)),
        (json!({"ttl": 60, "ips": "10.0.1.*"}), Err(Refusal::AddressNotAllowed)),
    ];
    for (body, want) in bodies {
        let (id, key) = add(&mut all, 5, &body);
        let ask = |all: &Directory| {
            all.authenticate(&show(Some(&key), None), peer(), false, NOW + 10).map(|_| ())
        };
        assert_eq!(ask(&all), want, "{body}");
        all.remove_token(id);
        assert_eq!(ask(&all), Err(Refusal::BadCredentials));
    }
    let (_, key) = add(&mut all, 5, &json!({"ttl": 60}));
    let ask = |all: &Directory, now| {
        all.authenticate(&show(Some(&key), None), peer(), false, now).map(|_| ())
    };
    all.put_account(Account { blocked: NOW + 5, ..account(2, 1) });
    assert_eq!(ask(&all, NOW), Err(Refusal::AccountBlocked), "the account above it is blocked");
    assert_eq!(ask(&all, NOW + 5), Ok(()));
}

#[test]
fn what_goes_with_an_account_is_all_of_its_branch() {
    let mut all = tree();
    let (kept, _) = add(&mut all, 3, &json!({"ttl": 60}));
    let (above, _) = add(&mut all, 2, &json!({"ttl": 60}));
    let (below, key) = add(&mut all, 5, &json!({"ttl": 60}));
    let limit = all.next_limit_id();
    all.put_limit(Limit::create(&json!({}), limit, 2).unwrap());
    let removal = all.removal(2);
    assert_eq!(removal.accounts, [5, 4, 2]);
    assert_eq!((&removal.tokens[..], &removal.limits[..]), (&[below, above][..], &[limit][..]));
    all.remove(&removal);
    assert_eq!(all.branch(1), [1, 3]);
    assert_eq!(all.tokens().map(|token| token.id).collect::<Vec<_>>(), [kept]);
    assert!(all.token_by_key(key.as_bytes()).is_none() && all.limits().next().is_none());
    assert_eq!(all.removal(9), Removal::default());
    assert_eq!(all.next_token_id(), below + 1, "numbers are never given twice");
}

#[test]
fn a_changed_object_takes_the_place_of_the_old() {
    let mut all = tree();
    let (id, key) = add(&mut all, 2, &json!({"ttl": 60}));
    let changed = all.token(id).unwrap().update(&json!({"info": "y"})).unwrap();
    all.put_token(changed);
    assert_eq!(all.token_by_key(key.as_bytes()).unwrap().info, "y");
    assert_eq!(all.tokens_of(2).count(), 1);
    let (_, record) = KeyRecord::generate(all.secret()).unwrap();
    all.put_token(endless(id, 3, record));
    assert!(all.token_by_key(key.as_bytes()).is_none());
    assert_eq!((all.tokens_of(2).count(), all.tokens_of(3).count()), (0, 1));
    all.put_limit(Limit::create(&json!({"name": "a"}), 7, 1).unwrap());
    all.put_account(Account { limit: 7, ..account(3, 1) });
    assert_eq!(all.limit_for(3).unwrap().name, "a");
    assert!(all.remove_limit(7).is_some() && all.limit_for(3).is_none());
    assert_eq!(all.limits_of(1).count(), 0);
}

/// Broker specification, 4.3.
#[test]
fn tokens_at_their_end_are_listed() {
    let mut all = tree();
    let (short, _) = add(&mut all, 1, &json!({"ttl": 10}));
    add(&mut all, 1, &json!({"ttl": 10, "expire": NOW + 60}));
    let (_, record) = KeyRecord::generate(all.secret()).unwrap();
    let id = all.next_token_id();
    all.put_token(endless(id, 1, record));
    assert_eq!(all.expired(NOW + 10), [short]);
    all.token(short).unwrap().touch(NOW + 5);
    assert!(all.expired(NOW + 10).is_empty());
}

#[test]
fn rows_load_in_any_order_and_lost_ones_are_told() {
    let (_, key) = KeyRecord::generate(&secret()).unwrap();
    let token = endless(3, 2, key.clone());
    let greatest = Greatest { account: 70, token: 2, limit: 0 };
    let rows = || {
        let accounts = [(2, 1), (1, 0)].map(|(id, parent)| Row::Account(account(id, parent)));
        [Row::Token(token.clone()), Row::Greatest(greatest)].into_iter().chain(accounts)
    };
    let mut all = Directory::load(secret(), rows()).unwrap();
    assert_eq!((all.next_account_id(), all.next_token_id(), all.next_limit_id()), (71, 4, 1));
    assert_eq!(all.tokens_of(2).count(), 1);
    assert!(Directory::load(secret(), []).is_ok());

    let lost = |row: Row| Directory::load(secret(), rows().chain([row])).unwrap_err().to_string();
    assert_eq!(lost(Row::Account(account(8, 9))), "account 8: not under the root");
    assert_eq!(lost(Row::Account(account(8, 8))), "account 8: not under the root");
    assert_eq!(lost(Row::Account(account(8, 0))), "account 8: not under the root");
    assert_eq!(lost(Row::Token(endless(6, 5, key))), "token 6: its account 5 is not there");
    let limit = Limit::create(&json!({}), 4, 5).unwrap();
    assert_eq!(lost(Row::Limit(limit)), "limit 4: its account 5 is not there");
}

#[test]
fn a_token_takes_less_than_a_kilobyte() {
    let acl = json!([{"uri": "mqtt", "topic": "plant/7/#", "actions": ["publish", "subscribe"]},
        {"uri": "mqtt", "topic": "cmd/7/+", "actions": ["subscribe"]}]);
    let body = json!({"info": "sensor writer", "ttl": 60, "access": {"type": 2, "acl": acl}});
    let mut made = tree();
    (0..2_000).for_each(|_| drop(add(&mut made, 3, &body)));
    let rows: Vec<_> = made.tokens().map(|it| Row::Token((**it).clone()).encode()).collect();
    let accounts = made.accounts().map(|it| Row::Account((**it).clone()));
    let mut all = None;
    let used = allocation_counter::measure(|| {
        let tokens = rows.iter().map(|row| Row::decode(row).unwrap());
        all = Some(Directory::load(secret(), accounts.chain(tokens)).unwrap());
    });
    let each = used.bytes_current / 2_000;
    assert!(each < 1_024, "{each} bytes a token");
    assert_eq!(all.unwrap().tokens().count(), 2_000);
}

#[test]
fn debug_shows_no_token() {
    let mut all = tree();
    add(&mut all, 1, &json!({"ttl": 60, "info": "alpha"}));
    assert_eq!(format!("{all:?}"), "Directory { accounts: 5, tokens: 1, limits: 0, .. }");
}
