//! What the directory keeps on disk: one row for an object.

use crate::account::{Account, Limit};
use crate::invalid::Invalid;
use crate::record::Token;

/// The greatest numbers ever given, so that none is given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Greatest {
    /// Of accounts.
    pub account: u64,
    /// Of tokens.
    pub token: u64,
    /// Of limits.
    pub limit: u64,
}

/// One row of the table of accounts, tokens and limits.
#[derive(Debug, Clone)]
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

impl Row {
    /// The key of the row in its table; it sorts by sort of object, then by number.
    pub fn key(&self) -> [u8; 9] {
        unimplemented!()
    }

    /// The key of the row of an account, for removing it.
    pub fn account_key(id: u64) -> [u8; 9] {
        unimplemented!()
    }

    /// The key of the row of a token, for removing it.
    pub fn token_key(id: u64) -> [u8; 9] {
        unimplemented!()
    }

    /// The key of the row of a limit, for removing it.
    pub fn limit_key(id: u64) -> [u8; 9] {
        unimplemented!()
    }

    /// The row as bytes, in the form `"v":1`.
    pub fn encode(&self) -> Vec<u8> {
        unimplemented!()
    }

    /// The row these bytes are.
    pub fn decode(bytes: &[u8]) -> Result<Self, Invalid> {
        unimplemented!()
    }
}
