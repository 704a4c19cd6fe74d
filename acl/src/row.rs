//! What the directory keeps on disk: one row for an object.

use serde::{Deserialize, Serialize};

use crate::account::{Account, Limit};
use crate::invalid::Invalid;
use crate::record::Token;

/// The form that rows are written in.
const VERSION: u8 = 1;

/// The greatest numbers ever given, so that none is given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Greatest {
    /// Of accounts.
    pub account: u64,
    /// Of tokens.
    pub token: u64,
    /// Of limits.
    pub limit: u64,
}

/// One row of the table of accounts, tokens and limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Row {
    /// An account.
    Account(Account),
    /// A token.
    Token(Token),
    /// A limit.
    Limit(Limit),
    /// The one row of the greatest numbers.
    Greatest(Greatest),
}

/// A row with the form it is written in.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u8,
    row: T,
}

#[derive(Deserialize)]
struct Version {
    v: u8,
}

impl Row {
    /// The key of the row in its table: it sorts by what it is, then by number.
    pub fn key(&self) -> [u8; 9] {
        match self {
            Self::Account(account) => Self::account_key(account.id),
            Self::Token(token) => Self::token_key(token.id),
            Self::Limit(limit) => Self::limit_key(limit.id),
            Self::Greatest(_) => key(b'g', 0),
        }
    }

    /// The key of the row of an account.
    pub fn account_key(id: u64) -> [u8; 9] {
        key(b'a', id)
    }

    /// The key of the row of a token.
    pub fn token_key(id: u64) -> [u8; 9] {
        key(b't', id)
    }

    /// The key of the row of a limit.
    pub fn limit_key(id: u64) -> [u8; 9] {
        key(b'l', id)
    }

    /// The row as bytes: JSON with `"v":1`.
    pub fn encode(&self) -> Vec<u8> {
        let encoded = serde_json::to_vec(&Versioned { v: VERSION, row: self });
        debug_assert!(encoded.is_ok(), "maps have texts for keys, and memory takes every byte");
        encoded.unwrap_or_default()
    }

    /// The row these bytes are. Fails when they are damaged, or of a later form.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        let found = serde_json::from_slice::<Versioned<Self>>(bytes);
        // A later form may look otherwise, so what is no row is asked for its form alone.
        let version = match &found {
            Ok(found) => found.v,
            Err(_) => serde_json::from_slice::<Version>(bytes).map_or(VERSION, |it| it.v),
        };
        if version != VERSION {
            let reason = format!("form {version}, which this version does not know");
            return Err(Invalid::new("v", reason));
        }
        found.map(|found| found.row).map_err(damaged)
    }
}

fn key(table: u8, id: u64) -> [u8; 9] {
    let mut key = [table; 9];
    key[1..].copy_from_slice(&id.to_be_bytes());
    key
}

/// Says where, and not what: a row may hold a secret.
fn damaged(error: serde_json::Error) -> Invalid {
    Invalid::new("", format!("not a row: line {} column {}", error.line(), error.column()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::secret::{KeyRecord, Secret};

    #[test]
    fn every_row_comes_back_from_its_bytes() {
        let (_, key) = KeyRecord::generate(&Secret::from_bytes([3; 32])).unwrap();
        let acl = json!([{"uri": "\u{e9}/x", "more": [1]}, {"uri": "mqtt", "methods": ["GET"]}]);
        let body = json!({"info": "\"\u{e9}\\", "ttl": 5, "ips": "::1", "metadata": {"a": "b"},
            "access": {"type": 2, "acl": acl}, "origins": [{"preset": "x"}]});
        let token = Token::create(&body, 9, 1, key.clone(), 77).unwrap();
        token.touch(78);
        let limit = json!({"name": "a", "mqtt_sessions": 5, "metadata": {"c": {}}});
        let rows = [
            Row::Account(Account::root(5)),
            Row::Account(Account::create(&json!({"metadata": {"a": 1}}), 4, 1, 6).unwrap()),
            Row::Token(token),
            Row::Token(Token::first(key, 1)),
            Row::Limit(Limit::create(&limit, 3, 1).unwrap()),
            Row::Greatest(Greatest { account: 1, token: 2, limit: u64::MAX }),
        ];
        for row in rows {
            let bytes = row.encode();
            assert!(bytes.starts_with(b"{\"v\":1,"), "{}", String::from_utf8_lossy(&bytes));
            assert_eq!(Row::decode(&bytes).unwrap(), row);
        }
    }

    #[test]
    fn damage_and_later_forms_are_told_without_what_stands_there() {
        let later = Row::decode(b"{\"v\":2,\"line\":0}").unwrap_err();
        assert_eq!(later.to_string(), "v: form 2, which this version does not know");
        for bad in [&b"{\"v\":1,\"row\":{\"token\":{\"id\":\"alpha\"}}}"[..], b"", b"{}", b"\xff"] {
            let text = Row::decode(bad).unwrap_err().to_string();
            assert!(text.starts_with("not a row") && !text.contains("alpha"), "{text}");
        }
    }

    #[test]
    fn keys_differ_and_sort_by_number() {
        assert!(Row::token_key(255) < Row::token_key(256));
        let all = [Row::account_key(1), Row::token_key(1), Row::limit_key(1)];
        assert!(all[0] != all[1] && all[1] != all[2] && all[0] != all[2]);
    }
}
