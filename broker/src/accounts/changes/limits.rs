//! Changes of limits.

use std::sync::Arc;

use longshore_acl::{Limit, Row};
use serde_json::Value;

use super::{Planned, Sent, only};
use crate::accounts::{Accounts, ChangeError};
use crate::notices::Change;

/// Limits that an account makes: no limit bounds how many there are.
const LIMITS_MAX: u64 = 10_000;

impl Accounts {
    /// Makes a limit of an account, for those below it.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn create_limit(&self, account: u64, body: &Value) -> Result<Arc<Limit>, ChangeError> {
        only(self.create_limits(account, std::slice::from_ref(body)))
    }

    /// Makes a limit of each that was sent, all in one write.
    pub fn create_limits(
        &self,
        account: u64,
        bodies: &[Value],
    ) -> Vec<Result<Arc<Limit>, ChangeError>> {
        self.together(bodies, |directory, draft, body| {
            directory.account(account).ok_or(ChangeError::NotFound)?;
            let count = || directory.limits_of(account).count() as u64;
            let owned = draft.owned.get_or_insert_with(count);
            if *owned >= LIMITS_MAX {
                return Err(ChangeError::Full("limits", LIMITS_MAX));
            }
            let id = draft.greatest.limit + 1;
            let limit = Limit::create(body, id, account)?;
            *owned += 1;
            draft.greatest.limit = id;
            Ok(Planned::new(vec![Row::Limit(limit.clone())], Vec::new(), |accounts| {
                accounts.put_limit(limit, Change::Created)
            }))
        })
    }

    /// Changes the fields of a limit that were sent.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn update_limit(&self, id: u64, body: &Value) -> Result<Arc<Limit>, ChangeError> {
        only(self.update_limits(&[id], Sent::Whole(body)))
    }

    /// Changes the same fields of each of these limits, all in one write.
    pub fn update_limits(
        &self,
        ids: &[u64],
        sent: Sent<'_>,
    ) -> Vec<Result<Arc<Limit>, ChangeError>> {
        self.together(ids, |directory, _, id| {
            let known = directory.limit(*id).ok_or(ChangeError::NotFound)?;
            let limit = known.update(&sent.over(|| known.to_json()))?;
            Ok(Planned::new(vec![Row::Limit(limit.clone())], Vec::new(), |accounts| {
                let id = limit.id;
                let limit = accounts.put_limit(limit, Change::Updated);
                accounts.bound(accounts.accounts_with(id));
                limit
            }))
        })
    }

    fn put_limit(&self, limit: Limit, change: Change) -> Result<Arc<Limit>, ChangeError> {
        let id = limit.id;
        self.write(|directory| directory.put_limit(limit));
        let limit = self.read().limit(id).cloned().ok_or(ChangeError::NotFound)?;
        self.tell_limit(&limit, change);
        Ok(limit)
    }

    /// Removes a limit: accounts that had it are without one.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn remove_limit(&self, id: u64) -> Result<Arc<Limit>, ChangeError> {
        only(self.remove_limits(&[id]))
    }

    /// Removes each of these limits, all in one write.
    pub fn remove_limits(&self, ids: &[u64]) -> Vec<Result<Arc<Limit>, ChangeError>> {
        self.together(ids, |directory, draft, id| {
            let id = *id;
            let limit = directory.limit(id).filter(|_| draft.gone.insert(id));
            let limit = Arc::clone(limit.ok_or(ChangeError::NotFound)?);
            Ok(Planned::new(Vec::new(), vec![Row::limit_key(id)], move |accounts| {
                accounts.write(|directory| drop(directory.remove_limit(id)));
                accounts.bound(accounts.accounts_with(id));
                accounts.tell_limit(&limit, Change::Deleted);
                Ok(limit)
            }))
        })
    }
}
