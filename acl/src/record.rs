//! A token: a key to an account, with what it opens and for how long (broker specification, 4).

use std::net::IpAddr;

use serde_json::{Map, Value};

use crate::access::Access;
use crate::invalid::Invalid;
use crate::json::Json;
use crate::secret::KeyRecord;

/// A token.
#[derive(Debug, Clone)]
pub struct Token {
    /// Its number, never given twice.
    pub id: u64,
    /// The account it opens: `cid`.
    pub account: u64,
    /// What its owner says of it, at most [`INFO_CHARS_MAX`] characters.
    pub info: String,
    /// Switched off, it opens nothing.
    pub enabled: bool,
    /// Valid until then, in unix seconds; 0 when it has no such end.
    pub expire: u64,
    /// Valid for so many seconds after it was last used; 0 when it has no such end.
    pub ttl: u64,
    /// The master token made at the first start: it has no end.
    pub perpetual: bool,
    /// When it was made, in unix seconds.
    pub created: u64,
    /// The addresses it may be shown from: masks with `*` and `?`, parted by commas. Empty: all.
    pub ips: String,
    /// What it opens.
    pub access: Access,
    /// What its owner keeps with it; null when nothing.
    pub metadata: Json,
    /// Where it came from; null when nothing.
    pub origins: Json,
    /// Its key.
    pub key: KeyRecord,
}

/// Characters of [`Token::info`].
pub const INFO_CHARS_MAX: usize = 255;

impl Token {
    /// Makes a token from what was sent to create it. Both forms of access are known.
    pub fn create(
        body: &Value,
        id: u64,
        account: u64,
        key: KeyRecord,
        now_secs: u64,
    ) -> Result<Self, Invalid> {
        unimplemented!()
    }

    /// The master token of the root account, made at the first start.
    pub fn first(key: KeyRecord, now_secs: u64) -> Self {
        unimplemented!()
    }

    /// This token with the fields that were sent changed, and the others as they are.
    pub fn update(&self, body: &Value) -> Result<Self, Invalid> {
        unimplemented!()
    }

    /// As REST shows it, with its key where it may be seen.
    pub fn to_json(&self, key: Option<&str>) -> Map<String, Value> {
        unimplemented!()
    }

    /// Whether it has not come to its end: one of `expire` and `ttl` is enough (4.3).
    pub fn is_valid_at(&self, now_secs: u64) -> bool {
        unimplemented!()
    }

    /// Whether it may be shown from this address (4.5).
    pub fn allows_ip(&self, ip: IpAddr) -> bool {
        unimplemented!()
    }

    /// When it was last used, in unix seconds; 0 when never.
    pub fn accessed(&self) -> u64 {
        unimplemented!()
    }

    /// It is used now. The row on disk is not changed by this; write it now and then.
    pub fn touch(&self, now_secs: u64) {
        unimplemented!()
    }
}
