//! A token: a key to an account, with what it opens and for how long (broker specification, 4).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::access::{Access, Kind};
use crate::invalid::Invalid;
use crate::json::{self, Json};
use crate::principal::{MASTER_TOKEN, ROOT_ACCOUNT};
use crate::secret::KeyRecord;

/// Characters of [`Token::info`].
pub const INFO_CHARS_MAX: usize = 255;
/// Characters of [`Token::ips`].
pub const IPS_CHARS_MAX: usize = 1_024;
/// Seconds of [`Token::ttl`]: a year.
pub const TTL_SECS_MAX: u64 = 31_536_000;
/// Bytes of the metadata of an object as JSON, and of the origins of a token.
pub const METADATA_BYTES_MAX: usize = 65_536;

/// A token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Valid for so many seconds after it was last used, at most [`TTL_SECS_MAX`]; 0 when it has no
    /// such end.
    pub ttl: u64,
    /// Has no end: the master token made at the first start.
    #[serde(default, skip_serializing_if = "is_false")]
    pub perpetual: bool,
    /// When it was made, in unix seconds.
    pub created: u64,
    accessed: Moment,
    /// The addresses it may be shown from: masks with `*` and `?`, parted by commas. Empty: all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ips: String,
    /// What it opens.
    pub access: Access,
    /// What its owner keeps with it; null when nothing.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub metadata: Json,
    /// Where it came from; null when nothing.
    #[serde(default, skip_serializing_if = "Json::is_null")]
    pub origins: Json,
    /// Its key.
    pub key: KeyRecord,
}

fn is_false(value: &bool) -> bool {
    !value
}

impl Token {
    /// Makes a token from what was sent to create it. Both forms of access are known: `access`, and
    /// `flags` with `acl` of 2018.
    pub fn create(
        body: &Value,
        id: u64,
        account: u64,
        key: KeyRecord,
        now_secs: u64,
    ) -> Result<Self, Invalid> {
        Self::blank(id, account, key, now_secs).with(body)
    }

    /// The master token of the root account, made at the first start: it has no end.
    pub fn first(key: KeyRecord, now_secs: u64) -> Self {
        Self {
            info: "master".to_owned(),
            perpetual: true,
            access: Access::new(Kind::Master),
            ..Self::blank(MASTER_TOKEN, ROOT_ACCOUNT, key, now_secs)
        }
    }

    fn blank(id: u64, account: u64, key: KeyRecord, now_secs: u64) -> Self {
        Self {
            id,
            account,
            info: String::new(),
            enabled: true,
            expire: 0,
            ttl: 0,
            perpetual: false,
            created: now_secs,
            accessed: Moment::default(),
            ips: String::new(),
            access: Access::default(),
            metadata: Json::default(),
            origins: Json::default(),
            key,
        }
    }

    /// This token with the fields that were sent changed, and the others as they are. Given an end,
    /// a token without one is a token like others.
    pub fn update(&self, body: &Value) -> Result<Self, Invalid> {
        self.clone().with(body)
    }

    fn with(mut self, body: &Value) -> Result<Self, Invalid> {
        let fields = json::object(body)?;
        let by_flags = fields.contains_key("flags") || fields.contains_key("acl");
        if by_flags && fields.contains_key("access") {
            return Err(Invalid::new("access", "given twice: flags and acl are its old form"));
        }
        for (name, value) in fields {
            match name.as_str() {
                "info" => self.info = json::text(name, value, INFO_CHARS_MAX)?,
                "enabled" => {
                    let is_boolean = || Invalid::new(name, "not true or false");
                    self.enabled = value.as_bool().ok_or_else(is_boolean)?;
                }
                "expire" => self.expire = json::number(name, value)?,
                "ttl" => self.ttl = ttl(value)?,
                "ips" => self.ips = ips(value)?,
                "access" => self.access = Access::from_json(value)?,
                "metadata" => self.metadata = json::metadata(name, value, METADATA_BYTES_MAX)?,
                "origins" => self.origins = json::bounded(name, value, METADATA_BYTES_MAX)?,
                "flags" | "acl" => {}
                _ => return Err(json::unknown(name)),
            }
        }
        if by_flags {
            self.access = Access::from_flags(fields.get("flags"), fields.get("acl"))?;
        }
        let has_end = self.expire > 0 || self.ttl > 0;
        let is_told = fields.contains_key("expire") || fields.contains_key("ttl");
        if !has_end && (is_told || !self.perpetual) {
            return Err(Invalid::new("expire", "one of expire and ttl must be over 0"));
        }
        self.perpetual &= !has_end;
        Ok(self)
    }

    /// As REST shows it, with its key where it may be seen.
    pub fn to_json(&self, key: Option<&str>) -> Map<String, Value> {
        let mut fields = json::fields([
            ("id", self.id.into()),
            ("info", self.info.as_str().into()),
            ("enabled", self.enabled.into()),
            ("expire", self.expire.into()),
            ("ttl", self.ttl.into()),
            ("created", self.created.into()),
            ("accessed", self.accessed().into()),
            ("cid", self.account.into()),
            ("ips", self.ips.as_str().into()),
            ("access", self.access.to_json()),
            ("metadata", self.metadata.value_or(json!({}))),
            ("origins", self.origins.value_or(json!([]))),
        ]);
        if let Some(key) = key {
            fields.insert("key".to_owned(), key.into());
        }
        fields
    }

    /// Whether it has not come to its end: one of `expire` and `ttl` is enough (4.3).
    pub fn is_valid_at(&self, now_secs: u64) -> bool {
        let used = self.created.max(self.accessed());
        self.perpetual
            || now_secs < self.expire
            || (self.ttl > 0 && now_secs < used.saturating_add(self.ttl))
    }

    /// Whether it may be shown from this address (4.5). An address of IPv4 that came mapped into
    /// one of IPv6 is the address of IPv4.
    pub fn allows_ip(&self, ip: IpAddr) -> bool {
        if self.ips.is_empty() {
            return true;
        }
        let ip = ip.to_canonical().to_string();
        masks(&self.ips).any(|mask| is_masked(mask.as_bytes(), ip.as_bytes()))
    }

    /// When it was last used, in unix seconds; 0 when never.
    pub fn accessed(&self) -> u64 {
        self.accessed.0.load(Ordering::Relaxed)
    }

    /// It is used now. The row on disk is not changed by this; write it now and then.
    pub fn touch(&self, now_secs: u64) {
        self.accessed.0.fetch_max(now_secs, Ordering::Relaxed);
    }
}

fn ttl(value: &Value) -> Result<u64, Invalid> {
    let secs = json::number("ttl", value)?;
    if secs > TTL_SECS_MAX {
        return Err(Invalid::new("ttl", format!("over {TTL_SECS_MAX} seconds")));
    }
    Ok(secs)
}

fn ips(value: &Value) -> Result<String, Invalid> {
    let ips = json::text("ips", value, IPS_CHARS_MAX)?.to_ascii_lowercase();
    let is_mask = |mask: &str| {
        !mask.is_empty() && mask.chars().all(|it| it.is_ascii_hexdigit() || ".:*?".contains(it))
    };
    if ips.trim().is_empty() {
        return Ok(String::new());
    }
    if !masks(&ips).all(is_mask) {
        let reason = "not addresses or masks with * and ?, parted by commas";
        return Err(Invalid::new("ips", reason));
    }
    Ok(ips)
}

fn masks(ips: &str) -> impl Iterator<Item = &str> {
    ips.split(',').map(str::trim)
}

/// `*` stands for any characters, `?` for any one.
fn is_masked(mask: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // Where the last `*` stands, and how much of the text it has taken: more, when the rest of the
    // mask does not fit.
    let mut star = None;
    while read < text.len() {
        match mask.get(at) {
            Some(b'*') => {
                star = Some((at, read));
                at += 1;
            }
            Some(it) if *it == b'?' || *it == text[read] => (at, read) = (at + 1, read + 1),
            _ => {
                let Some((place, taken)) = star else { return false };
                star = Some((place, taken + 1));
                (at, read) = (place + 1, taken + 1);
            }
        }
    }
    mask[at..].iter().all(|it| *it == b'*')
}

/// A point in time in unix seconds that changes while others look.
#[derive(Debug, Default)]
struct Moment(AtomicU64);

impl Clone for Moment {
    fn clone(&self) -> Self {
        Self(self.0.load(Ordering::Relaxed).into())
    }
}

impl PartialEq for Moment {
    fn eq(&self, other: &Self) -> bool {
        self.0.load(Ordering::Relaxed) == other.0.load(Ordering::Relaxed)
    }
}

impl Eq for Moment {}

impl Serialize for Moment {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(self.0.load(Ordering::Relaxed))
    }
}

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        u64::deserialize(from).map(|secs| Self(secs.into()))
    }
}

#[cfg(test)]
mod tests;
