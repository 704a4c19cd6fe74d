//! Accounts, and the limits that are set for them (broker specification, 6 and 17).

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::invalid::Invalid;
use crate::json::{self, Json};
use crate::principal::ROOT_ACCOUNT;
use crate::record::METADATA_BYTES_MAX;

/// Characters of the name of an account or a limit.
pub const NAME_CHARS_MAX: usize = 255;
/// Characters of the description of a limit.
pub const DESCRIPTION_CHARS_MAX: usize = 1_024;
/// Bounds of a limit that concern no part of this broker.
pub const FOREIGN_QUOTAS_MAX: usize = 200;
/// A bound that is none, beside 0: it is shown as it was set.
const UNBOUNDED: i64 = -1;

/// An account: a space of topics, sessions and retained messages of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its number, `cid` of all it owns.
    pub id: u64,
    /// The account above it; 0 for the root.
    pub parent: u64,
    /// What its owner calls it.
    pub name: String,
    /// The limit set for it: `limit_id`; 0 for none.
    pub limit: u64,
    /// What its owner keeps with it; null when nothing.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub metadata: Json,
    /// When it was made, in unix seconds.
    pub created: u64,
    /// Refused until then, in unix seconds; 0 when it is not.
    pub blocked: u64,
}

impl Account {
    /// The account at the top of the tree.
    pub fn root(now_secs: u64) -> Self {
        Self {
            id: ROOT_ACCOUNT,
            parent: 0,
            name: "root".to_owned(),
            limit: 0,
            metadata: Json::default(),
            created: now_secs,
            blocked: 0,
        }
    }

    /// Makes an account under `parent` from what was sent to create it.
    pub fn create(body: &Value, id: u64, parent: u64, now_secs: u64) -> Result<Self, Invalid> {
        let name = String::new();
        Self { id, parent, name, ..Self::root(now_secs) }.with(body, false)
    }

    /// This account with the fields that were sent changed: `name`, `limit_id`, `metadata`, and
    /// `cid` to move it, which [`crate::Directory::can_move`] must allow.
    pub fn update(&self, body: &Value) -> Result<Self, Invalid> {
        self.clone().with(body, true)
    }

    fn with(mut self, body: &Value, may_move: bool) -> Result<Self, Invalid> {
        for (name, value) in json::object(body)? {
            match name.as_str() {
                "name" => self.name = json::text(name, value, NAME_CHARS_MAX)?,
                "limit_id" => self.limit = json::number(name, value)?,
                "metadata" => self.metadata = json::metadata(name, value, METADATA_BYTES_MAX)?,
                "cid" if may_move => self.parent = json::number(name, value)?,
                _ => return Err(json::unknown(name)),
            }
        }
        Ok(self)
    }

    /// As REST shows it. The account above it is `cid` and, by another name, `owner_id`.
    pub fn to_json(&self) -> Map<String, Value> {
        json::fields([
            ("id", self.id.into()),
            ("cid", self.parent.into()),
            ("owner_id", self.parent.into()),
            ("name", self.name.as_str().into()),
            ("limit_id", self.limit.into()),
            ("metadata", self.metadata.value_or(json!({}))),
            ("created", self.created.into()),
            ("blocked", self.blocked.into()),
        ])
    }

    /// Whether it is refused at this time. The accounts above it count too; the directory asks
    /// them.
    pub fn is_blocked_at(&self, now_secs: u64) -> bool {
        now_secs < self.blocked
    }
}

/// What a [`Limit`] bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quota {
    /// Sessions at a time.
    MqttSessions,
    /// Messages a minute.
    MqttMessages,
    /// Bytes stored for sessions.
    MqttSessionStorage,
    /// Bytes of retained messages.
    MqttRetainedStorage,
    /// Subscriptions at a time.
    MqttSubscriptions,
    /// Tokens.
    TokensCount,
    /// Accounts below.
    SubaccountsCount,
    /// REST calls a minute.
    ApiCalls,
    /// Bytes of REST a minute.
    ApiTraffic,
    /// Seconds an account stays blocked that went over a limit.
    BlockingDuration,
}

impl Quota {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::MqttSessions,
        Self::MqttMessages,
        Self::MqttSessionStorage,
        Self::MqttRetainedStorage,
        Self::MqttSubscriptions,
        Self::TokensCount,
        Self::SubaccountsCount,
        Self::ApiCalls,
        Self::ApiTraffic,
        Self::BlockingDuration,
    ];

    /// The name of its field.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MqttSessions => "mqtt_sessions",
            Self::MqttMessages => "mqtt_messages",
            Self::MqttSessionStorage => "mqtt_session_storage",
            Self::MqttRetainedStorage => "mqtt_retained_storage",
            Self::MqttSubscriptions => "mqtt_subscriptions",
            Self::TokensCount => "tokens_count",
            Self::SubaccountsCount => "subaccounts_count",
            Self::ApiCalls => "api_calls",
            Self::ApiTraffic => "api_traffic",
            Self::BlockingDuration => "blocking_duration",
        }
    }
}

/// A set of bounds that an account makes for accounts below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Its number.
    pub id: u64,
    /// The account that made it: `cid`.
    pub account: u64,
    /// What its owner calls it.
    pub name: String,
    /// What its owner says of it.
    pub description: String,
    /// What its owner keeps with it; null when nothing.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub metadata: Json,
    /// By name, as they were set. Names that concern no part of this broker are kept for those who
    /// set them: `channels_count` comes from tools that set all there are, to -1 unless they are
    /// told another bound, and expect to read that again.
    quotas: Map<String, Value>,
}

impl Limit {
    /// Makes a limit from what was sent to create it.
    pub fn create(body: &Value, id: u64, account: u64) -> Result<Self, Invalid> {
        Self {
            id,
            account,
            name: String::new(),
            description: String::new(),
            metadata: Json::default(),
            quotas: Map::new(),
        }
        .with(body)
    }

    /// This limit with the fields that were sent changed.
    pub fn update(&self, body: &Value) -> Result<Self, Invalid> {
        self.clone().with(body)
    }

    fn with(mut self, body: &Value) -> Result<Self, Invalid> {
        for (name, value) in json::object(body)? {
            match name.as_str() {
                "name" => self.name = json::text(name, value, NAME_CHARS_MAX)?,
                "description" => {
                    self.description = json::text(name, value, DESCRIPTION_CHARS_MAX)?;
                }
                "metadata" => self.metadata = json::metadata(name, value, METADATA_BYTES_MAX)?,
                "id" | "cid" => return Err(json::unknown(name)),
                _ => self.set(name, value)?,
            }
        }
        Ok(self)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), Invalid> {
        if *value != UNBOUNDED {
            json::number(name, value)?;
        }
        if name.len() > NAME_CHARS_MAX || self.quotas.len() >= FOREIGN_QUOTAS_MAX {
            return Err(Invalid::new(name, "too many bounds, or too long a name"));
        }
        self.quotas.insert(name.to_owned(), value.clone());
        Ok(())
    }

    /// As REST shows it: every bound of this broker, -1 where none was ever set.
    pub fn to_json(&self) -> Map<String, Value> {
        let mut fields = json::fields([
            ("id", self.id.into()),
            ("cid", self.account.into()),
            ("name", self.name.as_str().into()),
            ("description", self.description.as_str().into()),
            ("metadata", self.metadata.value_or(json!({}))),
        ]);
        fields.extend(Quota::ALL.map(|quota| (quota.name().to_owned(), UNBOUNDED.into())));
        fields.extend(self.quotas.clone());
        fields
    }

    /// The bound on `quota`; `None` when there is none, as with 0 or -1.
    pub fn value(&self, quota: Quota) -> Option<u64> {
        self.quotas.get(quota.name()).and_then(Value::as_u64).filter(|bound| *bound > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_read_changed_and_shown() {
        let account =
            Account::create(&json!({"name": "a", "limit_id": 3, "metadata": {"b": 1}}), 7, 1, 99);
        let account = account.unwrap();
        let want = json!({"id": 7, "cid": 1, "owner_id": 1, "name": "a", "limit_id": 3,
            "metadata": {"b": 1}, "created": 99, "blocked": 0});
        assert_eq!(Value::from(account.to_json()), want);
        let moved = account.update(&json!({"cid": 4})).unwrap();
        assert_eq!(moved, Account { parent: 4, ..account.clone() });
        for bad in [json!({"cid": 4}), json!({"blocked": 1}), json!({"name": 1}), json!(1)] {
            assert!(Account::create(&bad, 7, 1, 99).is_err(), "{bad}");
        }
        assert!(!account.is_blocked_at(0));
        let blocked = Account { blocked: 5, ..account };
        assert!(blocked.is_blocked_at(4) && !blocked.is_blocked_at(5));
    }

    /// Broker specification, 17.3.
    #[test]
    fn a_bound_of_0_is_none_and_foreign_bounds_are_kept() {
        let body = json!({"name": "a", "mqtt_sessions": 5, "api_calls": 0, "channels_count": 2});
        let limit = Limit::create(&body, 3, 1).unwrap();
        assert_eq!(limit.value(Quota::MqttSessions), Some(5));
        assert_eq!(limit.value(Quota::ApiCalls), None);
        assert_eq!(limit.value(Quota::TokensCount), None);
        let shown = limit.to_json();
        assert_eq!((&shown["channels_count"], &shown["api_calls"]), (&json!(2), &json!(0)));
        assert_eq!(shown["tokens_count"], -1, "none was set");
        let open = limit.update(&json!({"mqtt_sessions": 0, "description": "b"})).unwrap();
        assert_eq!(open.value(Quota::MqttSessions), None);
        assert_eq!(Limit { description: String::new(), ..open.clone() }.name, limit.name);
        for bad in [json!({"mqtt_sessions": -2}), json!({"x": "y"}), json!({"cid": 1})] {
            assert!(limit.update(&bad).is_err(), "{bad}");
        }
    }

    /// Broker specification, 17.3: Terraform's provider sends -1 for each bound it was not told.
    #[test]
    fn a_bound_of_minus_1_is_none_and_is_shown_as_it_was_set() {
        let body = json!({"mqtt_sessions": -1, "channels_count": -1, "api_calls": 20});
        let limit = Limit::create(&body, 3, 1).unwrap();
        let bounds = [Quota::MqttSessions, Quota::ApiCalls].map(|quota| limit.value(quota));
        assert_eq!(bounds, [None, Some(20)]);
        let shown = limit.to_json();
        assert_eq!((&shown["mqtt_sessions"], &shown["channels_count"]), (&json!(-1), &json!(-1)));
        let stored: Limit = serde_json::from_value(json!(limit)).unwrap();
        assert_eq!(stored, limit);
    }

    #[test]
    fn every_quota_has_a_field_of_its_own() {
        let body = Quota::ALL.iter().enumerate().map(|(at, it)| (it.name().to_owned(), at + 1));
        let body: Map<String, Value> = body.map(|(name, at)| (name, at.into())).collect();
        let limit = Limit::create(&body.into(), 1, 1).unwrap();
        for (at, quota) in Quota::ALL.into_iter().enumerate() {
            assert_eq!(limit.value(quota), Some(at as u64 + 1));
        }
    }
}
