//! Changes of accounts, tokens and limits: written down first, and in force when they return.

use std::sync::Arc;

use longshore_acl::{
    Account, Directory, Invalid, KeyRecord, Limit, MASTER_TOKEN, Quota, ROOT_ACCOUNT, Removal, Row,
    Token, TokenKey,
};
use serde_json::Value;
use tracing::warn;

use super::{Accounts, ChangeError, secs};
use crate::clock::wall;
use crate::notices::Change;
use crate::tally::Bounds;

impl Accounts {
    /// Makes a token of an account from what was sent; and its key, which is shown to nobody else.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn create_token(
        &self,
        account: u64,
        body: &Value,
    ) -> Result<(Arc<Token>, TokenKey), ChangeError> {
        let _changing = self.changing();
        let directory = self.read();
        directory.account(account).ok_or(ChangeError::NotFound)?;
        let of_account = directory.tokens_of(account).count() as u64;
        check_quota(&directory, account, Quota::TokensCount, of_account)?;
        let (key, record) = KeyRecord::generate(directory.secret())?;
        let mut greatest = directory.greatest();
        greatest.token += 1;
        let token = Token::create(body, greatest.token, account, record, secs(wall()))?;
        drop(directory);
        self.keep(&[Row::Token(token.clone()), Row::Greatest(greatest)], &[])?;
        let mut made = None;
        self.write(|directory| made = Some(directory.put_token(token)));
        let token = made.expect("it was put there");
        self.tell_token(&token, Change::Created);
        Ok((token, key))
    }

    /// Changes the fields of a token that were sent. What follows for its clients is in force.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn update_token(&self, id: u64, body: &Value) -> Result<Arc<Token>, ChangeError> {
        let changing = self.changing();
        let known = self.read().token(id).cloned().ok_or(ChangeError::NotFound)?;
        let token = known.update(body)?;
        self.keep(&[Row::Token(token.clone())], &[])?;
        let mut made = None;
        self.write(|directory| made = Some(directory.put_token(token)));
        self.enforce(id);
        let token = made.expect("it was put there");
        self.tell_token(&token, Change::Updated);
        drop(changing);
        Ok(token)
    }

    /// Takes a token back: its clients are gone.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn remove_token(&self, id: u64) -> Result<Arc<Token>, ChangeError> {
        if id == MASTER_TOKEN {
            return Err(ChangeError::Permanent);
        }
        self.end_token(id, Change::Deleted)
    }

    /// The token is no more, by a change of that name.
    pub(super) fn end_token(&self, id: u64, change: Change) -> Result<Arc<Token>, ChangeError> {
        let _changing = self.changing();
        let token = self.read().token(id).cloned().ok_or(ChangeError::NotFound)?;
        self.keep(&[], &[Row::token_key(id)])?;
        self.write(|directory| drop(directory.remove_token(id)));
        self.enforce(id);
        self.tell_token(&token, change);
        Ok(token)
    }

    /// Makes an account below `parent` from what was sent.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn create_account(&self, parent: u64, body: &Value) -> Result<Arc<Account>, ChangeError> {
        let _changing = self.changing();
        let directory = self.read();
        directory.can_create(parent)?;
        let children = directory.children(parent).count() as u64;
        check_quota(&directory, parent, Quota::SubaccountsCount, children)?;
        let mut greatest = directory.greatest();
        greatest.account += 1;
        let account = Account::create(body, greatest.account, parent, secs(wall()))?;
        check_limit(&directory, &account)?;
        drop(directory);
        self.keep(&[Row::Account(account.clone()), Row::Greatest(greatest)], &[])?;
        let id = account.id;
        self.write(|directory| directory.put_account(account));
        self.stand(id, Some(parent));
        self.bound([id]);
        let account = self.read().account(id).cloned().ok_or(ChangeError::NotFound)?;
        self.tell_account(&account, parent, Change::Created);
        Ok(account)
    }

    /// Changes the fields of an account that were sent; with another parent than it had, it moves
    /// there with all below it.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn update_account(
        &self,
        id: u64,
        parent: Option<u64>,
        body: &Value,
    ) -> Result<Arc<Account>, ChangeError> {
        let changing = self.changing();
        let directory = self.read();
        let known = directory.account(id).ok_or(ChangeError::NotFound)?;
        let stood = known.parent;
        let mut account = known.update(body)?;
        if let Some(parent) = parent.filter(|parent| *parent != known.parent) {
            directory.can_move(id, parent)?;
            account.parent = parent;
        }
        check_limit(&directory, &account)?;
        drop(directory);
        self.keep(&[Row::Account(account.clone())], &[])?;
        let parent = account.parent;
        self.write(|directory| directory.put_account(account));
        if parent != 0 {
            self.stand(id, Some(parent));
        }
        self.bound([id]);
        self.enforce_all(&self.read().branch(id));
        let account = self.read().account(id).cloned().ok_or(ChangeError::NotFound)?;
        let change = if parent == stood { Change::Updated } else { Change::Moved };
        self.tell_account(&account, stood, change);
        drop(changing);
        Ok(account)
    }

    /// Removes an account with all below it: tokens, sessions, retained messages.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn remove_account(&self, id: u64) -> Result<Removal, ChangeError> {
        if id == ROOT_ACCOUNT {
            return Err(ChangeError::Permanent);
        }
        let _changing = self.changing();
        let account = self.read().account(id).cloned().ok_or(ChangeError::NotFound)?;
        let removal = self.read().removal(id);
        let gone: Vec<_> = (removal.accounts.iter().map(|id| Row::account_key(*id)))
            .chain(removal.tokens.iter().map(|id| Row::token_key(*id)))
            .chain(removal.limits.iter().map(|id| Row::limit_key(*id)))
            .collect();
        self.keep(&[], &gone)?;
        self.write(|directory| directory.remove(&removal));
        removal.tokens.iter().for_each(|token| self.enforce(*token));
        self.end(&removal.accounts);
        // What there was below it goes with it, and so does what is said of that.
        self.tell_account(&account, account.parent, Change::Deleted);
        Ok(removal)
    }

    /// Makes a limit of an account, for those below it.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn create_limit(&self, account: u64, body: &Value) -> Result<Arc<Limit>, ChangeError> {
        let _changing = self.changing();
        let directory = self.read();
        directory.account(account).ok_or(ChangeError::NotFound)?;
        let mut greatest = directory.greatest();
        greatest.limit += 1;
        let limit = Limit::create(body, greatest.limit, account)?;
        drop(directory);
        self.keep(&[Row::Limit(limit.clone()), Row::Greatest(greatest)], &[])?;
        let id = limit.id;
        self.write(|directory| directory.put_limit(limit));
        let limit = self.read().limit(id).cloned().ok_or(ChangeError::NotFound)?;
        self.tell_limit(&limit, Change::Created);
        Ok(limit)
    }

    /// Changes the fields of a limit that were sent.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn update_limit(&self, id: u64, body: &Value) -> Result<Arc<Limit>, ChangeError> {
        let _changing = self.changing();
        let limit = self.read().limit(id).ok_or(ChangeError::NotFound)?.update(body)?;
        self.keep(&[Row::Limit(limit.clone())], &[])?;
        self.write(|directory| directory.put_limit(limit));
        self.bound(self.accounts_with(id));
        let limit = self.read().limit(id).cloned().ok_or(ChangeError::NotFound)?;
        self.tell_limit(&limit, Change::Updated);
        Ok(limit)
    }

    /// Removes a limit: accounts that had it are without one.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn remove_limit(&self, id: u64) -> Result<Arc<Limit>, ChangeError> {
        let _changing = self.changing();
        let limit = self.read().limit(id).cloned().ok_or(ChangeError::NotFound)?;
        self.keep(&[], &[Row::limit_key(id)])?;
        self.write(|directory| drop(directory.remove_limit(id)));
        self.bound(self.accounts_with(id));
        self.tell_limit(&limit, Change::Deleted);
        Ok(limit)
    }

    /// Accounts that this limit is set for.
    fn accounts_with(&self, limit: u64) -> Vec<u64> {
        let directory = self.read();
        let with = directory.accounts().filter(|account| account.limit == limit);
        with.map(|account| account.id).collect()
    }

    /// What limits say of these accounts is in force.
    fn bound(&self, accounts: impl IntoIterator<Item = u64>) {
        let Some(broker) = self.broker.get() else { return };
        let directory = self.read();
        for account in accounts {
            let limit = directory.limit_for(account).map(|limit| &**limit);
            broker.commons.set_bounds(account, Bounds::of(limit));
        }
    }

    /// Blocks accounts that have published more than they may, for as long as their limits say.
    pub(super) fn block_exceeded(&self, now: u64) -> Result<(), ChangeError> {
        let Some(broker) = self.broker.get() else { return Ok(()) };
        for id in broker.commons.tallies.take_exceeded() {
            let changing = self.changing();
            let directory = self.read();
            let limit = directory.limit_for(id);
            let Some(secs) = limit.and_then(|limit| limit.value(Quota::BlockingDuration)) else {
                continue;
            };
            let Some(known) = directory.account(id) else { continue };
            let account = Account { blocked: now.saturating_add(secs), ..(**known).clone() };
            drop(directory);
            self.keep(&[Row::Account(account.clone())], &[])?;
            self.write(|directory| directory.put_account(account));
            warn!(account = id, secs, cause = "its limit mqtt_messages", "an account is blocked");
            self.enforce_all(&self.read().branch(id));
            drop(changing);
        }
        Ok(())
    }

    fn stand(&self, account: u64, parent: Option<u64>) {
        if let Some(broker) = self.broker.get() {
            broker.commons.set_parent(account, parent);
        }
    }

    /// What has become of accounts is in force for all their clients.
    fn enforce_all(&self, accounts: &[u64]) {
        let tokens: Vec<u64> = {
            let directory = self.read();
            let of_all = accounts.iter().flat_map(|account| directory.tokens_of(*account));
            of_all.map(|token| token.id).collect()
        };
        tokens.into_iter().for_each(|token| self.enforce(token));
    }

    /// Nothing of these accounts is left.
    fn end(&self, accounts: &[u64]) {
        let Some(broker) = self.broker.get() else { return };
        for mailbox in broker.mailboxes.iter() {
            let accounts = accounts.to_vec();
            mailbox.put_task(Box::new(move |shard, now| shard.end_accounts(&accounts, now)));
        }
        accounts.iter().for_each(|account| broker.commons.set_parent(*account, None));
    }
}

/// Whether an account may have another one of what it has so many of.
fn check_quota(
    directory: &Directory,
    account: u64,
    quota: Quota,
    count: u64,
) -> Result<(), ChangeError> {
    let limit = directory.limit_for(account).and_then(|limit| limit.value(quota));
    match limit.is_some_and(|limit| count >= limit) {
        true => Err(ChangeError::Quota(quota.name())),
        false => Ok(()),
    }
}

/// Whether the limit that an account is to have is one of the account above it.
fn check_limit(directory: &Directory, account: &Account) -> Result<(), ChangeError> {
    if account.limit == 0
        || directory.limit(account.limit).is_some_and(|limit| {
            directory.is_in_branch(limit.account, account.id) || limit.account == account.parent
        })
    {
        return Ok(());
    }
    Err(ChangeError::Invalid(Invalid::new("limit_id", "no such limit")))
}
