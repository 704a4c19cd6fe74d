//! Tokens: what is read, how long they live, where they may be shown.

use serde_json::json;

use super::*;
use crate::secret::Secret;

const NOW: u64 = 1_700_000_000;

fn create(body: Value) -> Result<Token, Invalid> {
    let (_, key) = KeyRecord::generate(&Secret::from_bytes([7; 32])).unwrap();
    Token::create(&body, 5, 9, key, NOW)
}

/// Broker specification, 4.2, 4.3, 4.6.
#[test]
fn a_token_is_made_of_what_was_sent_and_shown_with_all_fields() {
    let access = json!({"type": 2, "acl": [{"uri": "mqtt", "topic": "a", "actions": ["publish"]}]});
    let token = create(json!({"info": "x", "enabled": false, "expire": NOW + 1, "ttl": 60,
        "ips": "10.0.*, ::1", "access": access, "metadata": {"a": "b"}, "origins": [1]}));
    let want = json!({"id": 5, "cid": 9, "key": "secret", "info": "x", "enabled": false,
        "expire": NOW + 1, "ttl": 60, "created": NOW, "accessed": 0, "ips": "10.0.*, ::1",
        "access": access, "metadata": {"a": "b"}, "origins": [1]});
    assert_eq!(Value::from(token.unwrap().to_json(Some("secret"))), want);
    let least = Value::from(create(json!({"ttl": 1})).unwrap().to_json(None));
    let want = json!({"id": 5, "cid": 9, "info": "", "enabled": true, "expire": 0, "ttl": 1,
        "created": NOW, "accessed": 0, "ips": "", "access": {"type": 0}, "metadata": {},
        "origins": []});
    assert_eq!(least, want);
}

#[test]
fn what_is_wrong_names_its_field() {
    let rows = [
        (json!({}), "expire: one of expire and ttl must be over 0"),
        (json!({"expire": 0, "ttl": 0}), "expire: one of expire and ttl must be over 0"),
        (json!({"ttl": TTL_SECS_MAX + 1}), "ttl: over 31536000 seconds"),
        (json!({"ttl": "60"}), "ttl: not a whole number from 0 on"),
        (json!({"ttl": 1, "info": "x".repeat(256)}), "info: over 255 characters"),
        (json!({"ttl": 1, "enabled": 1}), "enabled: not true or false"),
        (json!({"ttl": 1, "ips": "10.0.0.0/8"}), "ips: not addresses or masks with * and ?"),
        (json!({"ttl": 1, "ips": "1.2.3.4,"}), "ips: not addresses or masks with * and ?"),
        (json!({"ttl": 1, "access": {"type": 3}}), "access.type: not 0 (standard), 1"),
        (json!({"ttl": 1, "access": {}, "flags": 0}), "access: given twice"),
        (json!({"ttl": 1, "flags": 3}), "flags: not 0 (standard), 1"),
        (json!({"ttl": 1, "metadata": []}), "metadata: not an object"),
        (json!({"ttl": 1, "key": "abc"}), "key: not a field that can be set"),
        (json!({"ttl": 1, "infos": ""}), "infos: not a field that can be set"),
        (json!([]), "not an object"),
    ];
    for (body, want) in rows {
        let found = create(body.clone()).unwrap_err().to_string();
        assert!(found.starts_with(want), "{body}: {found}");
    }
}

#[test]
fn an_update_changes_what_was_sent_and_nothing_else() {
    let token = create(json!({"ttl": 60, "info": "x", "flags": 1})).unwrap();
    token.touch(NOW + 5);
    let changed = token.update(&json!({"enabled": false})).unwrap();
    assert_eq!(changed, Token { enabled: false, ..token.clone() });
    assert_eq!(token.update(&json!({})).unwrap(), token);
    assert!(token.update(&json!({"ttl": 0})).is_err());
    assert_eq!(token.update(&json!({"ttl": 0, "expire": 9})).unwrap().expire, 9);
}

/// Broker specification, 4.3, 4.4.
#[test]
fn a_token_is_valid_while_either_end_is_ahead() {
    let rows = [
        (json!({"expire": NOW + 10}), None, NOW + 9, true),
        (json!({"expire": NOW + 10}), None, NOW + 10, false),
        (json!({"ttl": 10}), None, NOW + 9, true),
        (json!({"ttl": 10}), None, NOW + 10, false),
        (json!({"ttl": 10}), Some(NOW + 5), NOW + 14, true),
        (json!({"ttl": 10}), Some(NOW + 5), NOW + 15, false),
        (json!({"ttl": 10}), Some(NOW - 5), NOW + 9, true),
        (json!({"ttl": 10, "expire": 1}), None, NOW + 9, true),
        (json!({"ttl": 1, "expire": NOW + 10}), None, NOW + 9, true),
        (json!({"ttl": 1, "expire": u64::MAX}), None, NOW + 9, true),
    ];
    for (body, used, now, want) in rows {
        let token = create(body.clone()).unwrap();
        used.into_iter().for_each(|at| token.touch(at));
        assert_eq!(token.is_valid_at(now), want, "{body} {used:?} {now}");
    }
}

#[test]
fn the_first_master_token_has_no_end_until_it_is_given_one() {
    let (_, key) = KeyRecord::generate(&Secret::from_bytes([7; 32])).unwrap();
    let token = Token::first(key, NOW);
    assert!(token.is_valid_at(u64::MAX) && token.access.kind() == Kind::Master);
    assert!(token.update(&json!({"info": "y"})).unwrap().is_valid_at(u64::MAX));
    let ended = token.update(&json!({"expire": NOW + 1})).unwrap();
    assert!(ended.is_valid_at(NOW) && !ended.is_valid_at(NOW + 1));
}

/// Broker specification, 4.5.
#[test]
fn masks_say_where_a_token_may_be_shown() {
    let rows = [
        ("", "1.2.3.4", true),
        ("1.2.3.4", "1.2.3.4", true),
        ("1.2.3.4", "1.2.3.40", false),
        ("1.2.3.4", "::ffff:1.2.3.4", true),
        ("10.*", "10.0.0.1", true),
        ("10.*", "110.0.0.1", false),
        ("192.168.0.?", "192.168.0.7", true),
        ("192.168.0.?", "192.168.0.70", false),
        ("*.7", "1.7.7.7", true),
        ("1.*.3.*", "1.2.3.4", true),
        ("1.*.3.*", "1.2.4.4", false),
        ("8.8.8.8, 10.0.0.*", "10.0.0.9", true),
        ("2001:DB8::*", "2001:db8::1", true),
        ("2001:db8::*", "2001:db9::1", false),
        ("*", "::1", true),
        ("?*?", "1.2.3.4", true),
    ];
    for (ips, ip, want) in rows {
        let token = create(json!({"ttl": 1, "ips": ips})).unwrap();
        assert_eq!(token.allows_ip(ip.parse().unwrap()), want, "{ips} {ip}");
    }
}
