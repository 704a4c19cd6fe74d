//! Changes of accounts.

use std::sync::Arc;

use longshore_acl::{Account, Quota, ROOT_ACCOUNT, Removal, Row};
use serde_json::Value;

use super::{Planned, Sent, check_limit, check_limits_below, check_quota, only};
use crate::accounts::{Accounts, ChangeError, secs};
use crate::clock::wall;
use crate::notices::Change;

impl Accounts {
    /// Makes an account below `parent` from what was sent.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn create_account(&self, parent: u64, body: &Value) -> Result<Arc<Account>, ChangeError> {
        only(self.create_accounts(parent, std::slice::from_ref(body)))
    }

    /// Makes an account below `parent` of each that was sent, all in one write.
    pub fn create_accounts(
        &self,
        parent: u64,
        bodies: &[Value],
    ) -> Vec<Result<Arc<Account>, ChangeError>> {
        self.together(bodies, |directory, draft, body| {
            directory.can_create(parent)?;
            let owned =
                draft.owned.get_or_insert_with(|| directory.children(parent).count() as u64);
            check_quota(directory, parent, Quota::SubaccountsCount, *owned)?;
            let id = draft.greatest.account + 1;
            let account = Account::create(body, id, parent, secs(wall()))?;
            check_limit(directory, &account)?;
            *owned += 1;
            draft.greatest.account = id;
            Ok(Planned::new(vec![Row::Account(account.clone())], Vec::new(), move |accounts| {
                accounts.put_account(account);
                let account = accounts.read().account(id).cloned().ok_or(ChangeError::NotFound)?;
                accounts.tell_account(&account, parent, Change::Created);
                Ok(account)
            }))
        })
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
        only(self.update_accounts(&[id], parent, Sent::Whole(body)))
    }

    /// Changes the same fields of each of these accounts, all in one write.
    pub fn update_accounts(
        &self,
        ids: &[u64],
        parent: Option<u64>,
        sent: Sent<'_>,
    ) -> Vec<Result<Arc<Account>, ChangeError>> {
        self.together(ids, |directory, _, id| {
            let id = *id;
            let known = directory.account(id).ok_or(ChangeError::NotFound)?;
            let stood = known.parent;
            let mut account = known.update(&sent.over(|| known.to_json()))?;
            // All go to the same place, which none of them is above: where the one before it went
            // does not make it too deep for the next.
            if let Some(parent) = parent.filter(|parent| *parent != stood) {
                directory.can_move(id, parent)?;
                check_limits_below(directory, id, parent)?;
                account.parent = parent;
            }
            check_limit(directory, &account)?;
            Ok(Planned::new(vec![Row::Account(account.clone())], Vec::new(), move |accounts| {
                let change = if account.parent == stood { Change::Updated } else { Change::Moved };
                accounts.put_account(account);
                accounts.enforce_branch(id);
                let account = accounts.read().account(id).cloned().ok_or(ChangeError::NotFound)?;
                accounts.tell_account(&account, stood, change);
                Ok(account)
            }))
        })
    }

    fn put_account(&self, account: Account) {
        let (id, parent) = (account.id, account.parent);
        self.write(|directory| directory.put_account(account));
        if parent != 0 {
            self.stand(id, Some(parent));
        }
        self.bound([id]);
    }

    /// Removes an account with all below it: tokens, sessions, retained messages.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn remove_account(&self, id: u64) -> Result<Removal, ChangeError> {
        only(self.remove_accounts(&[id]))
    }

    /// Removes each of these accounts with all below it, all in one write.
    pub fn remove_accounts(&self, ids: &[u64]) -> Vec<Result<Removal, ChangeError>> {
        self.together(ids, |directory, draft, id| {
            let id = *id;
            if id == ROOT_ACCOUNT {
                return Err(ChangeError::Permanent);
            }
            let account = directory.account(id).filter(|_| !draft.gone.contains(&id));
            let account = Arc::clone(account.ok_or(ChangeError::NotFound)?);
            let removal = directory.removal(id);
            draft.gone.extend(&removal.accounts);
            let gone = (removal.accounts.iter().map(|id| Row::account_key(*id)))
                .chain(removal.tokens.iter().map(|id| Row::token_key(*id)))
                .chain(removal.limits.iter().map(|id| Row::limit_key(*id)));
            Ok(Planned::new(Vec::new(), gone.collect(), move |accounts| {
                // Of what is below it some may be gone already, with the one before.
                let removal = accounts.read().removal(id);
                accounts.write(|directory| directory.remove(&removal));
                removal.tokens.iter().for_each(|token| accounts.forget(*token));
                accounts.end(&removal.accounts);
                // What there was below it goes with it, and so does what is said of that.
                accounts.tell_account(&account, account.parent, Change::Deleted);
                Ok(removal)
            }))
        })
    }
}
