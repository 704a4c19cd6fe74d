//! Accounts below the caller's (broker specification, 6.2 and 15.3).

use std::sync::Arc;

use longshore_acl::{Account, Directory};
use serde_json::{Map, Value};

use super::collection::{Each, Kept, Made, each, sent};
use crate::accounts::{Accounts, ChangeError};
use crate::notices;
use crate::rest::call::Call;
use crate::rest::fault::{Code, Fault};
use crate::rest::schema::{Field, Kind, Object};

pub(super) static OBJECT: Object = Object {
    name: "Subaccount",
    fields: &[
        Field::new("id", Kind::Whole, "Its number, cid of all it owns"),
        Field::new("cid", Kind::Whole, "The account above it; sent in PUT, it moves").set(),
        Field::new("owner_id", Kind::Whole, "The same"),
        Field::new("name", Kind::Text, "What its owner calls it").set(),
        Field::new("limit_id", Kind::Whole, "The limit set for it; 0 for none").set(),
        Field::new("metadata", Kind::Object, "What its owner keeps with it").set(),
        Field::new("created", Kind::Whole, "When it was made, in unix seconds"),
        Field::new("blocked", Kind::Whole, "Refused until then, in unix seconds; 0: it is not"),
    ],
    is_open: false,
};

impl Kept for Account {
    const KIND: notices::Kind = notices::Kind::Account;
    const OBJECT: &'static Object = &OBJECT;

    fn all(directory: &Directory, account: u64) -> Vec<Arc<Self>> {
        let below = directory.branch(account).into_iter().skip(1);
        below.filter_map(|id| directory.account(id)).cloned().collect()
    }

    fn one(directory: &Directory, account: u64, id: u64) -> Option<Arc<Self>> {
        let is_below = id != account && directory.is_in_branch(account, id);
        directory.account(id).filter(|_| is_below).cloned()
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn logged_by(&self) -> u64 {
        self.parent
    }

    fn fields(&self) -> Map<String, Value> {
        self.to_json()
    }

    fn create(accounts: &Accounts, account: u64, sent: &[Value]) -> Made {
        each(accounts.create_accounts(account, sent), |account| account.to_json())
    }

    fn update(
        call: &Call,
        ids: &[u64],
        mut body: Map<String, Value>,
    ) -> Result<Each<Arc<Self>, ChangeError>, Fault> {
        let accounts = &call.api.accounts;
        // Where it goes is asked for by itself.
        let parent = body.remove("cid").map(|cid| {
            let fault = || Fault::new(Code::Format, "cid: not a whole number from 0 on");
            cid.as_u64().ok_or_else(fault)
        });
        let parent = parent.transpose()?;
        if parent.is_some_and(|parent| !accounts.read().is_in_branch(call.account, parent)) {
            return Err(Fault::new(Code::Forbidden, "cid: no account of this branch"));
        }
        let body = Value::Object(body);
        Ok(accounts.update_accounts(ids, parent, sent(call, &body)))
    }

    fn remove(accounts: &Accounts, ids: &[u64]) -> Each<(), ChangeError> {
        each(accounts.remove_accounts(ids), drop)
    }
}
