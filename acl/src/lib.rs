//! Who a client of the broker is, and what it may do: the credentials it shows, the principal it
//! becomes or the refusal it gets, the rights it has.
//!
//! This crate decides and does nothing else: no runtime, no file, no clock. Whoever holds the
//! socket hands over [`Credentials`] and the peer's address, and an [`Authenticate`] answers with
//! a [`Principal`] or a [`Refusal`].
//!
//! | type | holds |
//! | --- | --- |
//! | [`Directory`] | all accounts, tokens and limits; who shows a token, and what is whose |
//! | [`Account`], [`Token`], [`Limit`] | one of each, as REST sends and shows it |
//! | [`Row`] | one of each as bytes; who writes them tells the directory afterwards |
//! | [`Secret`], [`KeyRecord`] | keys of tokens, kept so that the rows alone give none away |
//! | [`Access`] | what a token may do, as its owner wrote it |
//! | [`Rights`] | the same compiled: topics, topic filters and calls of REST |
//! | [`TopicFilters`] | topic filters of an action, as written and as a set |
//! | [`Attempts`] | failures by address |
//!
//! ```
//! use longshore_acl::{Authenticate, Credentials, MasterOnly, MasterToken, Refusal};
//!
//! let token = MasterToken::generate()?;
//! let user_name = format!("FlespiToken {}", token.expose());
//! let gate = MasterOnly::new(token);
//! let peer = [127, 0, 0, 1].into();
//!
//! let known = Credentials { username: Some(&user_name), password: None };
//! let principal = gate.authenticate(&known, peer).expect("the token was shown");
//! assert!(!principal.anonymous);
//!
//! let unknown = Credentials { username: Some("guest"), password: Some(b"guest") };
//! assert_eq!(gate.authenticate(&unknown, peer), Err(Refusal::BadCredentials));
//! # Ok::<(), longshore_acl::NoRandomness>(())
//! ```
//!
//! ```
//! use longshore_acl::{Access, Action, Coverage, Rights};
//!
//! let access = serde_json::json!({"type": 2, "acl": [
//!     {"uri": "mqtt", "topic": "plant/7,8/#", "actions": ["subscribe"]},
//! ]});
//! let rights = Rights::compile(&Access::from_json(&access)?, &[]);
//! assert!(rights.allows(Action::Subscribe, "plant/7/pump"));
//! assert!(!rights.allows(Action::Publish, "plant/7/pump"));
//! assert_eq!(rights.coverage(Action::Subscribe, "plant/+/pump"), Coverage::Some);
//! # Ok::<(), longshore_acl::Invalid>(())
//! ```

mod access;
mod account;
mod attempts;
mod authenticate;
mod credentials;
mod directory;
mod filters;
mod hex;
mod invalid;
mod json;
mod principal;
mod record;
mod rights;
mod row;
mod secret;
mod token;
mod topics;

pub use access::{
    ACCESS_BYTES_MAX, ACL_ENTRIES_MAX, ACL_IDS_MAX, ACL_TOPIC_BYTES_MAX, Access, Ace, Ids, Kind,
    Method, Methods,
};
pub use account::{
    Account, DESCRIPTION_CHARS_MAX, FOREIGN_QUOTAS_MAX, Limit, NAME_CHARS_MAX, Quota,
};
pub use attempts::{ADDRESSES_MAX, Attempts, FAILURES_PER_MINUTE};
pub use authenticate::{Anonymous, Authenticate, MasterOnly, Refusal};
pub use credentials::Credentials;
pub use directory::{Directory, LEVELS_MAX, Misplaced, Removal};
pub use filters::TopicFilters;
pub use invalid::Invalid;
pub use json::Json;
pub use principal::{
    ANONYMOUS_CLASS, BROKER_CLASS, MASTER_CLASS, MASTER_TOKEN, Principal, ROOT_ACCOUNT,
};
pub use record::{INFO_CHARS_MAX, IPS_CHARS_MAX, METADATA_BYTES_MAX, TTL_SECS_MAX, Token};
pub use rights::{Action, Coverage, Rights, Scope, TopicGrant};
pub use row::{Greatest, Row};
pub use secret::{KeyRecord, PREFIX_CHARS, SECRET_BYTES, Secret};
pub use token::{InvalidToken, MasterToken, NoRandomness, TOKEN_CHARS, TokenKey};
pub use topics::is_reserved;
