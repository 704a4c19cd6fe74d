//! Tokens of an account and of all below it (broker specification, 4 and 15.3).

use std::sync::Arc;

use longshore_acl::{Directory, Token};
use serde_json::{Map, Value, json};

use super::collection::{Each, Kept, Made, Show, each, sent};
use crate::accounts::{Accounts, ChangeError};
use crate::notices;
use crate::rest::call::Call;
use crate::rest::fault::{Code, Fault};
use crate::rest::schema::{Field, Kind, Object, unknown};

pub(super) static OBJECT: Object = Object {
    name: "Token",
    fields: &[
        Field::new("id", Kind::Whole, "Its number"),
        Field::new("key", Kind::Text, "What opens: shown when it is made, and when asked for")
            .asked(),
        Field::new("info", Kind::Text, "What its owner says of it").set(),
        Field::new("enabled", Kind::Flag, "Switched off, it opens nothing").set(),
        Field::new("expire", Kind::Whole, "Valid until then, in unix seconds; 0: unused").set(),
        Field::new("ttl", Kind::Whole, "Valid for so many seconds after it was used; 0: unused")
            .set(),
        Field::new("created", Kind::Whole, "When it was made, in unix seconds"),
        Field::new("accessed", Kind::Whole, "When it was last used, in unix seconds"),
        Field::new("cid", Kind::Whole, "The account it opens"),
        Field::new("ips", Kind::Text, "Masks of addresses it may be shown from, with * and ?")
            .set(),
        Field::new("access", Kind::Object, "type 0 standard, 1 master, 2 as acl lists").set(),
        Field::new("metadata", Kind::Object, "What its owner keeps with it").set(),
        Field::new("origins", Kind::Any, "Where it came from").set(),
        Field::new("flags", Kind::Whole, "access.type, in the form of 2018").set().asked(),
        Field::new("acl", Kind::List, "access.acl, in the form of 2018").set().asked(),
    ],
    is_open: false,
};

/// What `access` has, an entry of its `acl`, and a submodule of such an entry (4.9).
const OF_ACCESS: [&str; 2] = ["type", "acl"];
const OF_ENTRY: [&str; 6] = ["uri", "methods", "ids", "submodules", "topic", "actions"];
const OF_SUBMODULE: [&str; 2] = ["name", "methods"];

/// Whether an object has no other fields than these: an entry whose `ids` are mistyped would open
/// all objects there are.
fn check(path: &str, value: &Value, known: &[&str]) -> Result<(), Fault> {
    let mut names = value.as_object().into_iter().flat_map(Map::keys);
    match names.find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(unknown(&format!("{path}.{name}"), known.iter().copied())),
        None => Ok(()),
    }
}

fn check_entries(path: &str, acl: Option<&Value>) -> Result<(), Fault> {
    for (at, entry) in acl.and_then(Value::as_array).into_iter().flatten().enumerate() {
        check(&format!("{path}[{at}]"), entry, &OF_ENTRY)?;
        let submodules = entry.get("submodules").and_then(Value::as_array);
        for (of, submodule) in submodules.into_iter().flatten().enumerate() {
            check(&format!("{path}[{at}].submodules[{of}]"), submodule, &OF_SUBMODULE)?;
        }
    }
    Ok(())
}

impl Kept for Token {
    const KIND: notices::Kind = notices::Kind::Token;
    const OBJECT: &'static Object = &OBJECT;

    fn all(directory: &Directory, account: u64) -> Vec<Arc<Self>> {
        let branch = directory.branch(account);
        branch.iter().flat_map(|account| directory.tokens_of(*account)).cloned().collect()
    }

    fn one(directory: &Directory, account: u64, id: u64) -> Option<Arc<Self>> {
        let token = directory.token(id)?;
        directory.is_in_branch(account, token.account).then(|| Arc::clone(token))
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn logged_by(&self) -> u64 {
        self.account
    }

    fn fields(&self) -> Map<String, Value> {
        self.to_json(None)
    }

    fn show(call: &Call) -> Result<Box<Show<Self>>, Fault> {
        let fields = call.fields()?;
        let accounts = &call.api.accounts;
        let secret = fields.name("key").then(|| accounts.read().secret().clone());
        if secret.is_some() && !accounts.shows_keys() {
            let reason = "keys are shown when they are made and never again (auth.show_keys)";
            return Err(Fault::new(Code::Forbidden, reason));
        }
        let is_old = fields.name("flags") || fields.name("acl");
        Ok(Box::new(move |token: &Token, mut object: Map<String, Value>| {
            if let Some(key) = secret.as_ref().and_then(|secret| token.key.open(secret)) {
                object.insert("key".to_owned(), key.expose().into());
            }
            if is_old {
                let access = token.access.to_json();
                object.insert("flags".to_owned(), access["type"].clone());
                let acl = access.get("acl").cloned().unwrap_or_else(|| json!([]));
                object.insert("acl".to_owned(), acl);
            }
            object
        }))
    }

    fn takes(sent: &Map<String, Value>) -> Result<(), Fault> {
        OBJECT.takes(sent)?;
        let access = sent.get("access");
        access.map_or(Ok(()), |access| check("access", access, &OF_ACCESS))?;
        check_entries("access.acl", access.and_then(|access| access.get("acl")))?;
        check_entries("acl", sent.get("acl"))
    }

    fn create(accounts: &Accounts, account: u64, sent: &[Value]) -> Made {
        each(accounts.create_tokens(account, sent), |(token, key)| {
            token.to_json(Some(key.expose()))
        })
    }

    fn update(
        call: &Call,
        ids: &[u64],
        body: Map<String, Value>,
    ) -> Result<Each<Arc<Self>, ChangeError>, Fault> {
        let body = Value::Object(body);
        Ok(call.api.accounts.update_tokens(ids, sent(call, &body)))
    }

    fn remove(accounts: &Accounts, ids: &[u64]) -> Each<(), ChangeError> {
        each(accounts.remove_tokens(ids), drop)
    }
}
