//! All accounts, tokens and limits, in memory. What is on disk is the caller's: it writes a row
//! first and tells the directory then.

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::account::{Account, Limit};
use crate::authenticate::Refusal;
use crate::credentials::Credentials;
use crate::invalid::Invalid;
use crate::principal::ROOT_ACCOUNT;
use crate::record::Token;
use crate::row::{Greatest, Row};
use crate::secret::{PREFIX_CHARS, Secret};

/// Levels of accounts, the root's included.
pub const LEVELS_MAX: usize = 4;

/// Accounts, tokens and limits.
pub struct Directory {
    secret: Secret,
    accounts: HashMap<u64, Arc<Account>>,
    tokens: HashMap<u64, Arc<Token>>,
    limits: HashMap<u64, Arc<Limit>>,
    /// Numbers of tokens by the digest of their key.
    keys: HashMap<[u8; 32], u64>,
    /// Accounts by the one above, tokens and limits by their owner.
    children: BTreeSet<(u64, u64)>,
    owned_tokens: BTreeSet<(u64, u64)>,
    owned_limits: BTreeSet<(u64, u64)>,
    greatest: Greatest,
}

impl Directory {
    /// A directory with nothing in it.
    pub fn new(secret: Secret) -> Self {
        Self {
            secret,
            accounts: HashMap::new(),
            tokens: HashMap::new(),
            limits: HashMap::new(),
            keys: HashMap::new(),
            children: BTreeSet::new(),
            owned_tokens: BTreeSet::new(),
            owned_limits: BTreeSet::new(),
            greatest: Greatest::default(),
        }
    }

    /// The directory of these rows, in any order. Fails when one belongs to an account that is not
    /// there, or accounts are no tree under the root.
    pub fn load(secret: Secret, rows: impl IntoIterator<Item = Row>) -> Result<Self, Invalid> {
        let mut all = Self::new(secret);
        for row in rows {
            match row {
                Row::Account(account) => all.insert_account(account),
                Row::Token(token) => drop(all.put_token(token)),
                Row::Limit(limit) => all.put_limit(limit),
                Row::Greatest(greatest) => all.raise(greatest),
            }
        }
        all.check()?;
        Ok(all)
    }

    fn check(&self) -> Result<(), Invalid> {
        for account in self.accounts.keys() {
            if self.ancestors(*account).last() != Some(ROOT_ACCOUNT) {
                return Err(Invalid::new(format!("account {account}"), "not under the root"));
            }
        }
        let owned = [("token", &self.owned_tokens), ("limit", &self.owned_limits)];
        for (name, owned) in owned {
            let lost = owned.iter().find(|(account, _)| !self.accounts.contains_key(account));
            if let Some((account, id)) = lost {
                let reason = format!("its account {account} is not there");
                return Err(Invalid::new(format!("{name} {id}"), reason));
            }
        }
        Ok(())
    }

    /// What keys are hidden under.
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Takes an account in, or what it is now.
    ///
    /// # Panics
    ///
    /// If [`Directory::can_create`] or [`Directory::can_move`] refuse where it stands.
    pub fn put_account(&mut self, account: Account) {
        let place = match self.accounts.get(&account.id) {
            Some(known) if known.parent == account.parent => Ok(()),
            Some(_) => self.can_move(account.id, account.parent),
            None if account.id == ROOT_ACCOUNT && account.parent == 0 => Ok(()),
            None => self.can_create(account.parent),
        };
        assert_eq!(place, Ok(()), "the caller has asked where account {} may stand", account.id);
        self.insert_account(account);
    }

    fn insert_account(&mut self, account: Account) {
        let (id, parent) = (account.id, account.parent);
        self.raise(Greatest { account: id, ..Greatest::default() });
        if let Some(old) = self.accounts.insert(id, Arc::new(account)) {
            self.children.remove(&(old.parent, id));
        }
        self.children.insert((parent, id));
    }

    /// Takes a token in, or what it is now. The token is shared from here on.
    pub fn put_token(&mut self, token: Token) -> Arc<Token> {
        let token = Arc::new(token);
        self.remove_token(token.id);
        self.raise(Greatest { token: token.id, ..Greatest::default() });
        self.keys.insert(*token.key.digest(), token.id);
        self.owned_tokens.insert((token.account, token.id));
        self.tokens.insert(token.id, Arc::clone(&token));
        token
    }

    /// Takes a limit in, or what it is now.
    pub fn put_limit(&mut self, limit: Limit) {
        self.remove_limit(limit.id);
        self.raise(Greatest { limit: limit.id, ..Greatest::default() });
        self.owned_limits.insert((limit.account, limit.id));
        self.limits.insert(limit.id, Arc::new(limit));
    }

    /// Forgets an account. What [`Directory::removal`] lists has gone before, or goes with it by
    /// [`Directory::remove`].
    ///
    /// # Panics
    ///
    /// If there are accounts below it.
    pub fn remove_account(&mut self, id: u64) -> Option<Arc<Account>> {
        assert!(self.children(id).next().is_none(), "accounts below {id} would be lost");
        let account = self.accounts.remove(&id)?;
        self.children.remove(&(account.parent, id));
        Some(account)
    }

    /// Forgets a token.
    pub fn remove_token(&mut self, id: u64) -> Option<Arc<Token>> {
        let token = self.tokens.remove(&id)?;
        self.keys.remove(token.key.digest());
        self.owned_tokens.remove(&(token.account, id));
        Some(token)
    }

    /// Forgets a limit. Accounts that had it are without one.
    pub fn remove_limit(&mut self, id: u64) -> Option<Arc<Limit>> {
        let limit = self.limits.remove(&id)?;
        self.owned_limits.remove(&(limit.account, id));
        Some(limit)
    }

    /// Everything that goes with an account.
    pub fn removal(&self, account: u64) -> Removal {
        let mut accounts = self.branch(account);
        accounts.reverse();
        let of_all = |owned| accounts.iter().flat_map(|it| owned_by(owned, *it)).collect();
        let (tokens, limits) = (of_all(&self.owned_tokens), of_all(&self.owned_limits));
        Removal { accounts, tokens, limits }
    }

    /// Forgets all of this.
    pub fn remove(&mut self, removal: &Removal) {
        removal.tokens.iter().for_each(|id| drop(self.remove_token(*id)));
        removal.limits.iter().for_each(|id| drop(self.remove_limit(*id)));
        removal.accounts.iter().for_each(|id| drop(self.remove_account(*id)));
    }

    /// The account of this number.
    pub fn account(&self, id: u64) -> Option<&Arc<Account>> {
        self.accounts.get(&id)
    }

    /// The token of this number.
    pub fn token(&self, id: u64) -> Option<&Arc<Token>> {
        self.tokens.get(&id)
    }

    /// The limit of this number.
    pub fn limit(&self, id: u64) -> Option<&Arc<Limit>> {
        self.limits.get(&id)
    }

    /// The limit set for an account.
    pub fn limit_for(&self, account: u64) -> Option<&Arc<Limit>> {
        self.limit(self.account(account)?.limit)
    }

    /// The token with this key.
    pub fn token_by_key(&self, key: &[u8]) -> Option<&Arc<Token>> {
        // The look-up takes a time that depends on the digest, which nobody outside can choose.
        let digest = self.secret.digest_of(key);
        let token = self.token(*self.keys.get(&digest)?)?;
        token.key.has_digest(&digest).then_some(token)
    }

    /// The token of this number, if its key begins with these 16 characters.
    pub fn token_by_id_and_prefix(&self, id: u64, prefix: &[u8]) -> Option<&Arc<Token>> {
        self.token(id).filter(|token| token.key.matches_prefix(&self.secret, prefix))
    }

    /// Whose token is shown from `peer`: as user name, or as password (3.5), or, if `special`, its
    /// number as user name and the first 16 characters of its key as password (3.4).
    pub fn authenticate(
        &self,
        credentials: &Credentials<'_>,
        peer: IpAddr,
        special: bool,
        now_secs: u64,
    ) -> Result<Arc<Token>, Refusal> {
        if credentials.is_empty() {
            return Err(Refusal::NoCredentials);
        }
        let token = self.shown(credentials, special).ok_or(Refusal::BadCredentials)?;
        self.admit(token, peer, now_secs)?;
        Ok(Arc::clone(token))
    }

    /// The token that is shown, whether it opens anything now or not.
    pub fn shown(&self, credentials: &Credentials<'_>, special: bool) -> Option<&Arc<Token>> {
        let by_key = credentials.candidates().find_map(|text| self.token_by_key(text));
        by_key.or_else(|| special.then(|| self.special(credentials)).flatten())
    }

    fn special(&self, credentials: &Credentials<'_>) -> Option<&Arc<Token>> {
        let (name, password) = (credentials.username?, credentials.password?);
        let is_special = password.len() == PREFIX_CHARS
            && !name.is_empty()
            && name.bytes().all(|byte| byte.is_ascii_digit());
        self.token_by_id_and_prefix(name.parse().ok().filter(|_| is_special)?, password)
    }

    /// Whether this token opens anything now and from there. Asked anew while a session lasts, it
    /// says when that is over.
    pub fn admit(&self, token: &Token, peer: IpAddr, now_secs: u64) -> Result<(), Refusal> {
        if !token.enabled {
            return Err(Refusal::Disabled);
        }
        if !token.is_valid_at(now_secs) {
            return Err(Refusal::Expired);
        }
        if !token.allows_ip(peer) {
            return Err(Refusal::AddressNotAllowed);
        }
        let mut line = self.ancestors(token.account).filter_map(|id| self.account(id)).peekable();
        if line.peek().is_none() {
            return Err(Refusal::BadCredentials);
        }
        match line.any(|account| account.is_blocked_at(now_secs)) {
            true => Err(Refusal::AccountBlocked),
            false => Ok(()),
        }
    }

    /// All accounts, in no order.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.values()
    }

    /// All tokens, in no order.
    pub fn tokens(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.tokens.values()
    }

    /// All limits, in no order.
    pub fn limits(&self) -> impl Iterator<Item = &Arc<Limit>> {
        self.limits.values()
    }

    /// The tokens of an account itself, by number.
    pub fn tokens_of(&self, account: u64) -> impl Iterator<Item = &Arc<Token>> {
        owned_by(&self.owned_tokens, account).filter_map(|id| self.token(id))
    }

    /// The limits an account made, by number.
    pub fn limits_of(&self, account: u64) -> impl Iterator<Item = &Arc<Limit>> {
        owned_by(&self.owned_limits, account).filter_map(|id| self.limit(id))
    }

    /// The account itself, the one above it, and so on to the root: at most [`LEVELS_MAX`]. None
    /// when there is no such account.
    pub fn ancestors(&self, account: u64) -> impl Iterator<Item = u64> {
        let next = |account: &&Arc<Account>| self.account(account.parent);
        let line = std::iter::successors(self.account(account), next);
        line.map(|account| account.id).take(LEVELS_MAX)
    }

    /// The account itself and all below it, those above first. Empty when there is no such account.
    pub fn branch(&self, account: u64) -> Vec<u64> {
        let mut all: Vec<u64> = self.account(account).map(|it| it.id).into_iter().collect();
        let mut at = 0;
        while let Some(account) = all.get(at).copied() {
            all.extend(self.children(account));
            at += 1;
        }
        all
    }

    /// Whether `id` is `of` or below it.
    pub fn is_in_branch(&self, of: u64, id: u64) -> bool {
        self.ancestors(id).any(|account| account == of)
    }

    /// The accounts right below this one, by number.
    pub fn children(&self, account: u64) -> impl Iterator<Item = u64> {
        owned_by(&self.children, account)
    }

    /// Whether an account may be made under `parent`.
    pub fn can_create(&self, parent: u64) -> Result<(), Misplaced> {
        self.can_stand(parent, 1)
    }

    /// Whether an account may move under `new_parent`, with all below it.
    pub fn can_move(&self, account: u64, new_parent: u64) -> Result<(), Misplaced> {
        if self.account(account).is_none() {
            return Err(Misplaced::NoAccount);
        }
        if account == ROOT_ACCOUNT {
            return Err(Misplaced::Root);
        }
        if self.is_in_branch(account, new_parent) {
            return Err(Misplaced::UnderItself);
        }
        self.can_stand(new_parent, self.height(account))
    }

    fn can_stand(&self, parent: u64, height: usize) -> Result<(), Misplaced> {
        match self.ancestors(parent).count() {
            0 => Err(Misplaced::NoParent),
            depth if depth + height > LEVELS_MAX => Err(Misplaced::TooDeep),
            _ => Ok(()),
        }
    }

    /// Levels of an account and what is below it.
    fn height(&self, account: u64) -> usize {
        1 + self.children(account).map(|child| self.height(child)).max().unwrap_or(0)
    }

    /// A number for a new account. Write [`Directory::greatest`] along with its row.
    pub fn next_account_id(&mut self) -> u64 {
        self.greatest.account += 1;
        self.greatest.account
    }

    /// A number for a new token. Write [`Directory::greatest`] along with its row.
    pub fn next_token_id(&mut self) -> u64 {
        self.greatest.token += 1;
        self.greatest.token
    }

    /// A number for a new limit. Write [`Directory::greatest`] along with its row.
    pub fn next_limit_id(&mut self) -> u64 {
        self.greatest.limit += 1;
        self.greatest.limit
    }

    /// The greatest numbers ever given.
    pub fn greatest(&self) -> Greatest {
        self.greatest
    }

    fn raise(&mut self, seen: Greatest) {
        self.greatest.account = self.greatest.account.max(seen.account);
        self.greatest.token = self.greatest.token.max(seen.token);
        self.greatest.limit = self.greatest.limit.max(seen.limit);
    }

    /// The tokens that have come to their end and are to be deleted (4.3). Looks at all of them.
    pub fn expired(&self, now_secs: u64) -> Vec<u64> {
        let expired = self.tokens.values().filter(|token| !token.is_valid_at(now_secs));
        expired.map(|token| token.id).collect()
    }
}

fn owned_by(owned: &BTreeSet<(u64, u64)>, owner: u64) -> impl Iterator<Item = u64> {
    owned.range((owner, 0)..=(owner, u64::MAX)).map(|(_, id)| *id)
}

/// How many there are: a log has no use for all of them.
impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("accounts", &self.accounts.len())
            .field("tokens", &self.tokens.len())
            .field("limits", &self.limits.len())
            .finish_non_exhaustive()
    }
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

impl Error for Misplaced {}

#[cfg(test)]
mod tests;
