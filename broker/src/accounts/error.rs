//! Why accounts were not opened, or not changed.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use longshore_acl::{Invalid, Misplaced, NoRandomness};
use longshore_storage::TablesError;

/// Why a change was not made.
#[derive(Debug)]
#[non_exhaustive]
pub enum ChangeError {
    /// What was sent cannot be taken.
    Invalid(Invalid),
    /// An account cannot stand there.
    Misplaced(Misplaced),
    /// There is no such object, or not for whoever asks.
    NotFound,
    /// It is there for good: the root account, or the token it was made with.
    Permanent,
    /// A limit of the account forbids another one.
    Quota(&'static str),
    /// The account has so many of these already, which is all it may have.
    Full(&'static str, u64),
    /// It cannot be written down.
    Tables(Arc<TablesError>),
    /// The system has no randomness for a key.
    NoRandomness(NoRandomness),
}

impl fmt::Display for ChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invalid(invalid) => invalid.fmt(f),
            Self::Misplaced(misplaced) => misplaced.fmt(f),
            Self::NotFound => f.write_str("not found"),
            Self::Permanent => f.write_str("it is there for good"),
            Self::Quota(limit) => write!(f, "the limit {limit} of the account is reached"),
            Self::Full(what, most) => write!(f, "an account has up to {most} {what}"),
            Self::Tables(error) => write!(f, "it cannot be written down: {error}"),
            Self::NoRandomness(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ChangeError {}

impl From<Invalid> for ChangeError {
    fn from(invalid: Invalid) -> Self {
        Self::Invalid(invalid)
    }
}

impl From<Misplaced> for ChangeError {
    fn from(misplaced: Misplaced) -> Self {
        Self::Misplaced(misplaced)
    }
}

impl From<TablesError> for ChangeError {
    fn from(error: TablesError) -> Self {
        Self::Tables(Arc::new(error))
    }
}

impl From<NoRandomness> for ChangeError {
    fn from(error: NoRandomness) -> Self {
        Self::NoRandomness(error)
    }
}

/// Why accounts could not be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The tables say so.
    Tables(TablesError),
    /// The file of the secret cannot be read or written: without it no token opens anything.
    Secret(PathBuf, io::Error),
    /// A row is not to be understood.
    Row(Invalid),
    /// The system has no randomness.
    NoRandomness(NoRandomness),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tables(error) => error.fmt(f),
            Self::Secret(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Row(error) => write!(f, "a row of accounts is damaged: {error}"),
            Self::NoRandomness(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}
