//! Changes of tokens.

use std::sync::Arc;

use longshore_acl::{KeyRecord, MASTER_TOKEN, Quota, Row, Token, TokenKey};
use serde_json::Value;

use super::{Planned, Sent, check_quota, only};
use crate::accounts::{Accounts, ChangeError, secs};
use crate::clock::wall;
use crate::notices::Change;

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
        only(self.create_tokens(account, std::slice::from_ref(body)))
    }

    /// Makes a token of each that was sent, all in one write.
    pub fn create_tokens(
        &self,
        account: u64,
        bodies: &[Value],
    ) -> Vec<Result<(Arc<Token>, TokenKey), ChangeError>> {
        self.together(bodies, |directory, draft, body| {
            directory.account(account).ok_or(ChangeError::NotFound)?;
            let count = || directory.tokens_of(account).count() as u64;
            let owned = draft.owned.get_or_insert_with(count);
            check_quota(directory, account, Quota::TokensCount, *owned)?;
            let (key, record) = KeyRecord::generate(directory.secret())?;
            let id = draft.greatest.token + 1;
            let token = Token::create(body, id, account, record, secs(wall()))?;
            *owned += 1;
            draft.greatest.token = id;
            Ok(Planned::new(vec![Row::Token(token.clone())], Vec::new(), |accounts| {
                let token = accounts.put_token(token);
                accounts.tell_token(&token, Change::Created);
                Ok((token, key))
            }))
        })
    }

    /// Changes the fields of a token that were sent. What follows for its clients is in force.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn update_token(&self, id: u64, body: &Value) -> Result<Arc<Token>, ChangeError> {
        only(self.update_tokens(&[id], Sent::Whole(body)))
    }

    /// Changes the same fields of each of these tokens, all in one write.
    pub fn update_tokens(
        &self,
        ids: &[u64],
        sent: Sent<'_>,
    ) -> Vec<Result<Arc<Token>, ChangeError>> {
        self.together(ids, |directory, _, id| {
            let known = directory.token(*id).ok_or(ChangeError::NotFound)?;
            let token = known.update(&sent.over(|| known.to_json(None)))?;
            Ok(Planned::new(vec![Row::Token(token.clone())], Vec::new(), |accounts| {
                let token = accounts.put_token(token);
                accounts.enforce(token.id);
                accounts.tell_token(&token, Change::Updated);
                Ok(token)
            }))
        })
    }

    fn put_token(&self, token: Token) -> Arc<Token> {
        let mut put = None;
        self.write(|directory| put = Some(directory.put_token(token)));
        put.expect("it was put there")
    }

    /// Takes a token back: its clients are gone.
    ///
    /// # Errors
    /// [`ChangeError`], with nothing changed.
    pub fn remove_token(&self, id: u64) -> Result<Arc<Token>, ChangeError> {
        only(self.remove_tokens(&[id]))
    }

    /// Takes each of these tokens back, all in one write.
    pub fn remove_tokens(&self, ids: &[u64]) -> Vec<Result<Arc<Token>, ChangeError>> {
        self.end_tokens(ids, Change::Deleted)
    }

    /// These tokens are no more, by a change of that name.
    pub(in crate::accounts) fn end_tokens(
        &self,
        ids: &[u64],
        change: Change,
    ) -> Vec<Result<Arc<Token>, ChangeError>> {
        self.together(ids, |directory, draft, id| {
            let id = *id;
            if id == MASTER_TOKEN && change == Change::Deleted {
                return Err(ChangeError::Permanent);
            }
            let token = directory.token(id).filter(|token| {
                // Since it was found to have come to its end, it may have been changed.
                change != Change::Expired || !token.is_valid_at(secs(wall()))
            });
            let token = token.filter(|_| draft.gone.insert(id));
            let token = Arc::clone(token.ok_or(ChangeError::NotFound)?);
            Ok(Planned::new(Vec::new(), vec![Row::token_key(id)], move |accounts| {
                accounts.write(|directory| drop(directory.remove_token(id)));
                accounts.forget(id);
                accounts.tell_token(&token, change);
                Ok(token)
            }))
        })
    }
}
