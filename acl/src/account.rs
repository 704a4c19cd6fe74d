//! Accounts, and the limits that are set for them (broker specification, 6 and 17).

use serde_json::{Map, Value};

use crate::invalid::Invalid;
use crate::json::Json;

/// An account: a space of topics, sessions and retained messages of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub metadata: Json,
    /// When it was made, in unix seconds.
    pub created: u64,
    /// Refused until then, in unix seconds; 0 when it is not.
    pub blocked: u64,
}

impl Account {
    /// The account at the top of the tree.
    pub fn root(now_secs: u64) -> Self {
        unimplemented!()
    }

    /// Makes an account under `parent` from what was sent to create it.
    pub fn create(body: &Value, id: u64, parent: u64, now_secs: u64) -> Result<Self, Invalid> {
        unimplemented!()
    }

    /// This account with the fields that were sent changed: `name`, `limit_id`, `metadata`, and
    /// `cid` to move it, which [`crate::Directory::can_move`] must allow.
    pub fn update(&self, body: &Value) -> Result<Self, Invalid> {
        unimplemented!()
    }

    /// As REST shows it.
    pub fn to_json(&self) -> Map<String, Value> {
        unimplemented!()
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

/// A set of bounds that an account makes for accounts below it.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    pub metadata: Json,
}

impl Limit {
    /// Makes a limit from what was sent to create it.
    pub fn create(body: &Value, id: u64, account: u64) -> Result<Self, Invalid> {
        unimplemented!()
    }

    /// This limit with the fields that were sent changed.
    pub fn update(&self, body: &Value) -> Result<Self, Invalid> {
        unimplemented!()
    }

    /// As REST shows it.
    pub fn to_json(&self) -> Map<String, Value> {
        unimplemented!()
    }

    /// The bound on `quota`; `None` when there is none.
    pub fn value(&self, quota: Quota) -> Option<u64> {
        unimplemented!()
    }
}
