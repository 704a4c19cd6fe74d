//! All accounts, tokens and limits, in memory. What is on disk is the caller's: it writes a row
//! first and tells the directory then.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::account::{Account, Limit};
use crate::authenticate::Refusal;
use crate::credentials::Credentials;
use crate::invalid::Invalid;
use crate::record::Token;
use crate::row::{Greatest, Row};
use crate::secret::Secret;

/// Levels of accounts, the root's included.
pub const LEVELS_MAX: usize = 4;

/// Accounts, tokens and limits.
#[derive(Debug)]
pub struct Directory {
    secret: Secret,
}

/// What goes with an account: everything in its branch, the deepest accounts first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Removal {
    /// Numbers of the accounts, itself the last.
    pub accounts: Vec<u64>,
    /// Numbers of their tokens.
    pub tokens: Vec<u64>,
    /// Numbers of their limits.
    pub limits: Vec<u64>,
}

/// Why an account cannot stand where it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Misplaced {
    /// There is no such account.
    NoAccount,
    /// There is no such account to stand under.
    NoParent,
    /// The root stays where it is.
    Root,
    /// It would stand under itself.
    UnderItself,
    /// There would be more than [`LEVELS_MAX`] levels.
    TooDeep,
}

impl fmt::Display for Misplaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoAccount => "no such account",
            Self::NoParent => "no such account to stand under",
            Self::Root => "the root account stays at the top",
            Self::UnderItself => "an account cannot stand under itself",
            Self::TooDeep => "more than four levels of accounts",
        })
    }
}

impl std::error::Error for Misplaced {}

impl Directory {
    /// A directory with nothing in it.
    pub fn new(secret: Secret) -> Self {
        Self { secret }
    }

    /// The directory of these rows, in any order.
    pub fn load(secret: Secret, rows: impl IntoIterator<Item = Row>) -> Result<Self, Invalid> {
        unimplemented!()
    }

    /// What keys are hidden under.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Takes an account in, or what it is now.
    pub fn put_account(&mut self, account: Account) {
        unimplemented!()
    }

    /// Takes a token in, or what it is now.
    pub fn put_token(&mut self, token: Token) -> Arc<Token> {
        unimplemented!()
    }

    /// Takes a limit in, or what it is now.
    pub fn put_limit(&mut self, limit: Limit) {
        unimplemented!()
    }

    /// Forgets an account. Its branch, tokens and limits have gone before: see
    /// [`Directory::remove`].
    pub fn remove_account(&mut self, id: u64) -> Option<Arc<Account>> {
        unimplemented!()
    }

    /// Forgets a token.
    pub fn remove_token(&mut self, id: u64) -> Option<Arc<Token>> {
        unimplemented!()
    }

    /// Forgets a limit. Accounts that had it are without one.
    pub fn remove_limit(&mut self, id: u64) -> Option<Arc<Limit>> {
        unimplemented!()
    }

    /// Everything that goes with an account.
    pub fn removal(&self, account: u64) -> Removal {
        unimplemented!()
    }

    /// Forgets all of this.
    pub fn remove(&mut self, removal: &Removal) {
        unimplemented!()
    }

    /// The account of this number.
    pub fn account(&self, id: u64) -> Option<&Arc<Account>> {
        unimplemented!()
    }

    /// The token of this number.
    pub fn token(&self, id: u64) -> Option<&Arc<Token>> {
        unimplemented!()
    }

    /// The limit of this number.
    pub fn limit(&self, id: u64) -> Option<&Arc<Limit>> {
        unimplemented!()
    }

    /// The token with this key.
    pub fn token_by_key(&self, key: &[u8]) -> Option<&Arc<Token>> {
        unimplemented!()
    }

    /// The token of this number, if its key begins with these 16 characters.
    pub fn token_by_id_and_prefix(&self, id: u64, prefix: &[u8]) -> Option<&Arc<Token>> {
        unimplemented!()
    }

    /// Who shows these credentials from `peer` (3.5). `special` admits the number of a token as
    /// user name with the first 16 characters of its key as password (3.4).
    pub fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        peer: IpAddr,
        special: bool,
        now_secs: u64,
    ) -> Result<Arc<Token>, Refusal> {
        unimplemented!()
    }

    /// All accounts, tokens and limits are iterated in no order.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        std::iter::empty()
    }

    /// All tokens, in no order.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<Token>> {
        std::iter::empty()
    }

    /// All limits, in no order.
    pub fn limits(&self) -> impl Iterator<Item = &Arc<Limit>> {
        std::iter::empty()
    }

    /// The tokens of an account itself, by number.
    pub fn tokens_of(&self, account: u64) -> impl Iterator<Item = &Arc<Token>> {
        std::iter::empty()
    }

    /// The limits an account made, by number.
    pub fn limits_of(&self, account: u64) -> impl Iterator<Item = &Arc<Limit>> {
        std::iter::empty()
    }

    /// The account itself, the one above it, and so on to the root: at most [`LEVELS_MAX`]. Empty
    /// when there is no such account.
    pub fn ancestors(&self, account: u64) -> impl Iterator<Item = u64> {
        std::iter::empty()
    }

    /// The account itself and all below it. Empty when there is no such account.
    pub fn branch(&self, account: u64) -> Vec<u64> {
        unimplemented!()
    }

    /// Whether `id` is `of` or below it.
    pub fn is_in_branch(&self, of: u64, id: u64) -> bool {
        unimplemented!()
    }

    /// The accounts right below this one, by number.
    pub fn children(&self, account: u64) -> impl Iterator<Item = u64> {
        std::iter::empty()
    }

    /// Whether an account may be made under `parent`.
    pub fn can_create(&self, parent: u64) -> Result<(), Misplaced> {
        unimplemented!()
    }

    /// Whether an account may move under `new_parent`, with all below it.
    pub fn can_move(&self, account: u64, new_parent: u64) -> Result<(), Misplaced> {
        unimplemented!()
    }

    /// A number for a new account. Write [`Directory::greatest`] along with its row.
    pub fn next_account_id(&mut self) -> u64 {
        unimplemented!()
    }

    /// A number for a new token. Write [`Directory::greatest`] along with its row.
    pub fn next_token_id(&mut self) -> u64 {
        unimplemented!()
    }

    /// A number for a new limit. Write [`Directory::greatest`] along with its row.
    pub fn next_limit_id(&mut self) -> u64 {
        unimplemented!()
    }

    /// The greatest numbers ever given.
    pub fn greatest(&self) -> Greatest {
        unimplemented!()
    }

    /// The tokens that have come to their end and are to be deleted (4.3). Looks at all.
    pub fn expired(&self, now_secs: u64) -> Vec<u64> {
        unimplemented!()
    }
}
