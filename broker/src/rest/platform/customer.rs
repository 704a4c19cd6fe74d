//! The account itself (broker specification, 15.3).

use longshore_acl::{Account, Directory};
use serde_json::{Map, Value, json};

use super::collection::sent;
use crate::accounts::{Accounts, ChangeError};
use crate::clock::wall;
use crate::notices::OF_PLATFORM;
use crate::rest::answer::{Answer, Outcome};
use crate::rest::call::Call;
use crate::rest::fault::{Code, Fault};
use crate::rest::logs::{self, Asked, Subject};
use crate::rest::schema::{Field, Kind, Object};

pub(super) static OBJECT: Object = Object {
    name: "Customer",
    fields: &[
        Field::new("id", Kind::Whole, "Its number, cid of all it owns"),
        Field::new("cid", Kind::Whole, "The account above it; 0 for the root"),
        Field::new("owner_id", Kind::Whole, "The same"),
        Field::new("name", Kind::Text, "What its owner calls it").set(),
        Field::new("limit_id", Kind::Whole, "The limit set for it; 0 for none"),
        Field::new("metadata", Kind::Object, "What its owner keeps with it").set(),
        Field::new("created", Kind::Whole, "When it was made, in unix seconds"),
        Field::new("blocked", Kind::Whole, "Refused until then, in unix seconds; 0: it is not"),
        Field::new("counters", Kind::Object, "What counts against its limits, and how much"),
        Field::new("limits", Kind::Object, "The limit set for it; empty for none"),
    ],
    is_open: false,
};

/// Fields that the account above sets.
const FOREIGN: [&str; 2] = ["cid", "limit_id"];

pub(super) fn read(call: &Call) -> Outcome {
    let fields = call.fields()?;
    let accounts = &call.api.accounts;
    let directory = accounts.read();
    let account = directory.account(call.account).ok_or_else(|| Fault::not_found(call.account))?;
    let shown = shown(accounts, &directory, account);
    drop(directory);
    Ok(Answer::of([fields.of(shown)]))
}

pub(super) fn update(call: &Call) -> Outcome {
    let (fields, body) = (call.fields()?, call.object()?);
    if let Some(field) = FOREIGN.into_iter().find(|field| body.contains_key(*field)) {
        let reason = format!("{field}: set by the account above, in /platform/subaccounts");
        return Err(Fault::new(Code::Format, reason));
    }
    OBJECT.takes(&body)?;
    let accounts = &call.api.accounts;
    let body = Value::Object(body);
    let mut updated = accounts.update_accounts(&[call.account], None, sent(call, &body));
    let account = updated.pop().unwrap_or(Err(ChangeError::NotFound))?;
    let shown = shown(accounts, &accounts.read(), &account);
    Ok(Answer::of([fields.of(shown)]))
}

/// What has happened to the account, to what it owns, and to accounts below it.
pub(super) async fn logs(call: Call) -> Outcome {
    logs::read(call, |call| Ok(Subject::branch(call, &OF_PLATFORM))).await
}

/// The keys of `data` of statistics, as with logs.
pub(super) static COUNTING: Object = Object {
    name: "StatisticsReading",
    fields: &[
        Field::new("from", Kind::Any, "Not before then, in unix seconds").sent(),
        Field::new("to", Kind::Any, "Not after then, in unix seconds; 0: no end").sent(),
        Field::new("count", Kind::Whole, "Records at most").sent(),
        Field::new("reverse", Kind::Flag, "The newest first").sent(),
        Field::new("fields", Kind::Text, "Fields of records, parted by commas").sent(),
        Field::new("filter", Kind::Text, "An expression, or tests like tokens_count>=5").sent(),
        Field::new("generalize", Kind::Whole, "Of one record there is nothing to sum up").sent(),
        Field::new("method", Kind::Text, "average, minimum or maximum: of one, the same").sent(),
    ],
    is_open: false,
};

pub(super) static STATISTICS: Object = Object {
    name: "Statistics",
    fields: &[Field::new("timestamp", Kind::Any, "When it was counted, in unix seconds")],
    is_open: true,
};

/// The counters as they are now: one record, for nobody keeps those of earlier.
pub(super) fn statistics(call: &Call) -> Outcome {
    let asked = Asked::of(call, &COUNTING)?;
    let now = wall();
    let accounts = &call.api.accounts;
    let mut record = accounts.counters(&accounts.read(), call.account);
    record.insert("timestamp".to_owned(), (now.0 as f64 / 1e6).into());
    Ok(Answer::of(asked.is_met(now, &record).then(|| asked.fields.of(record))))
}

fn shown(accounts: &Accounts, directory: &Directory, account: &Account) -> Map<String, Value> {
    let mut shown = account.to_json();
    shown.insert("counters".to_owned(), accounts.counters(directory, account.id).into());
    let limits = directory.limit_for(account.id).map(|limit| limit.to_json().into());
    shown.insert("limits".to_owned(), limits.unwrap_or_else(|| json!({})));
    shown
}
