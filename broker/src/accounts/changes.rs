//! Changes of accounts, tokens and limits: written down first, and in force when they return.
//!
//! Changes that are asked for together are planned one after another, written down in one commit,
//! and then put in force in their order. One that cannot be made leaves the others as they are.

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashSet;
use longshore_acl::{Account, Directory, Greatest, Invalid, Limit, Quota, Row};
use serde_json::{Map, Value};
use tracing::warn;

use super::{Accounts, ChangeError};
use crate::tally::Bounds;

mod limits;
mod subaccounts;
mod tokens;

/// Fields that were sent to change an object.
#[derive(Clone, Copy, Debug)]
pub enum Sent<'a> {
    /// Each takes the place of what the object has (PUT).
    Whole(&'a Value),
    /// What is a JSON object is merged into what the object has, as RFC 7396 says; all else takes
    /// its place (PATCH).
    Merged(&'a Value),
}

impl<'a> Sent<'a> {
    /// The fields that an object is to have.
    pub(crate) fn over(self, known: impl FnOnce() -> Map<String, Value>) -> Cow<'a, Value> {
        match self {
            Self::Whole(body) => Cow::Borrowed(body),
            Self::Merged(Value::Object(body)) => {
                let mut known = known();
                let merge = |(name, sent): (&String, &Value)| {
                    let before = known.remove(name).filter(|it| it.is_object() && sent.is_object());
                    let mut value = before.unwrap_or_default();
                    match value.is_object() {
                        true => merge(&mut value, sent),
                        false => value = sent.clone(),
                    }
                    (name.clone(), value)
                };
                Cow::Owned(Value::Object(body.iter().map(merge).collect()))
            }
            Self::Merged(body) => Cow::Borrowed(body),
        }
    }
}

/// Merges what was sent into a value (RFC 7396).
fn merge(value: &mut Value, sent: &Value) {
    let Value::Object(sent) = sent else {
        *value = sent.clone();
        return;
    };
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    let Value::Object(fields) = value else { return };
    for (name, sent) in sent {
        match sent {
            Value::Null => drop(fields.remove(name)),
            sent => merge(fields.entry(name.clone()).or_insert(Value::Null), sent),
        }
    }
}

/// What puts a change in force that is written down.
type Act<T> = Box<dyn FnOnce(&Accounts) -> Result<T, ChangeError>>;

/// A change that can be made: what is written down for it, and what is done once it is.
struct Planned<T> {
    rows: Vec<Row>,
    gone: Vec<[u8; 9]>,
    act: Act<T>,
}

impl<T> Planned<T> {
    fn new(
        rows: Vec<Row>,
        gone: Vec<[u8; 9]>,
        act: impl FnOnce(&Accounts) -> Result<T, ChangeError> + 'static,
    ) -> Self {
        Self { rows, gone, act: Box::new(act) }
    }
}

/// What changes come to that are planned and not yet in force.
struct Draft {
    greatest: Greatest,
    /// Objects that the account has for which some are made, those included: counted once, for
    /// there may be as many of one as of the other.
    owned: Option<u64>,
    /// Objects that are to go.
    gone: HashSet<u64>,
}

/// The one outcome of one change.
fn only<T>(outcomes: Vec<Result<T, ChangeError>>) -> Result<T, ChangeError> {
    outcomes.into_iter().next().unwrap_or(Err(ChangeError::NotFound))
}

impl Accounts {
    /// Makes changes of one kind together: what becomes of each.
    fn together<I, T>(
        &self,
        asked: impl IntoIterator<Item = I>,
        plan: impl Fn(&Directory, &mut Draft, I) -> Result<Planned<T>, ChangeError>,
    ) -> Vec<Result<T, ChangeError>> {
        let _changing = self.changing();
        let directory = self.read();
        let greatest = directory.greatest();
        let mut draft = Draft { greatest, owned: None, gone: HashSet::new() };
        let planned: Vec<_> =
            asked.into_iter().map(|asked| plan(&directory, &mut draft, asked)).collect();
        drop(directory);
        let (mut rows, mut gone, mut acts) = (Vec::new(), Vec::new(), Vec::new());
        for planned in planned {
            acts.push(planned.map(|mut planned| {
                rows.append(&mut planned.rows);
                gone.append(&mut planned.gone);
                planned.act
            }));
        }
        if draft.greatest != greatest {
            rows.push(Row::Greatest(draft.greatest));
        }
        let kept = self.keep(&rows, &gone).map_err(Arc::new);
        let done = |act: Result<Act<T>, _>| match (act, &kept) {
            (Ok(act), Ok(())) => act(self),
            (Ok(_), Err(error)) => Err(ChangeError::Tables(Arc::clone(error))),
            (Err(error), _) => Err(error),
        };
        acts.into_iter().map(done).collect()
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
            self.enforce_branch(id);
            drop(changing);
        }
        Ok(())
    }

    fn stand(&self, account: u64, parent: Option<u64>) {
        if let Some(broker) = self.broker.get() {
            broker.commons.set_parent(account, parent);
        }
    }

    /// What has become of an account is in force for its clients and those of all below it.
    fn enforce_branch(&self, account: u64) {
        let tokens: Vec<u64> = {
            let directory = self.read();
            let branch = directory.branch(account).into_iter();
            branch.flat_map(|id| directory.tokens_of(id)).map(|token| token.id).collect()
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

/// Whether the limit that an account is to have is one of an account above the place where it is
/// to stand: nobody else may change it, the account itself least of all.
fn check_limit(directory: &Directory, account: &Account) -> Result<(), ChangeError> {
    // Nothing is above the root.
    let above = if account.parent == 0 { account.id } else { account.parent };
    let is_above = |limit: &Arc<Limit>| directory.is_in_branch(limit.account, above);
    if account.limit == 0 || directory.limit(account.limit).is_some_and(is_above) {
        return Ok(());
    }
    Err(ChangeError::Invalid(Invalid::new("limit_id", "no limit of an account above it")))
}

/// Whether all below an account may keep their limits where it goes: what is left behind says
/// nothing any more.
fn check_limits_below(directory: &Directory, id: u64, parent: u64) -> Result<(), ChangeError> {
    let of = |id: &u64| Some(directory.limit_for(*id)?.account);
    let may_stay = |of: u64| directory.is_in_branch(id, of) || directory.is_in_branch(of, parent);
    match directory.branch(id).iter().skip(1).filter_map(of).all(may_stay) {
        true => Ok(()),
        false => Err(Invalid::new("cid", "one below has a limit that would stay behind").into()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Broker specification, 15.1.4; RFC 7396, appendix A.
    #[test]
    fn what_is_sent_takes_the_place_of_a_field_or_is_merged_into_it() {
        let known = json!({"name": "a", "metadata": {"a": {"b": 1, "c": 2}, "d": [1]}, "ttl": 5});
        let rows = [
            (json!({"name": "b"}), json!({"name": "b"})),
            (json!({"metadata": {}}), json!({"metadata": known["metadata"]})),
            (
                json!({"metadata": {"a": {"b": null, "e": 3}, "d": [2], "f": {"g": null}}}),
                json!({"metadata": {"a": {"c": 2, "e": 3}, "d": [2], "f": {}}}),
            ),
            (json!({"metadata": {"a": 7}}), json!({"metadata": {"a": 7, "d": [1]}})),
            (json!({"metadata": null, "ttl": 6}), json!({"metadata": null, "ttl": 6})),
            (json!({"other": {"a": null}}), json!({"other": {"a": null}})),
            (json!(7), json!(7)),
        ];
        for (sent, merged) in rows {
            let over =
                |sent: Sent<'_>| sent.over(|| known.as_object().unwrap().clone()).into_owned();
            assert_eq!(over(Sent::Merged(&sent)), merged, "{sent}");
            assert_eq!(over(Sent::Whole(&sent)), sent);
        }
    }
}
