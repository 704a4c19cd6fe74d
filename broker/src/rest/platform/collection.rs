//! What tokens, accounts and limits have in common: they are chosen, listed, made, changed and
//! removed alike.

use std::sync::Arc;

use longshore_acl::{Directory, Method};
use serde_json::{Map, Value};

use crate::accounts::{Accounts, ChangeError, Sent};
use crate::notices::Kind;
use crate::rest::answer::{Answer, Items, Outcome, Part};
use crate::rest::call::Call;
use crate::rest::fault::{Code, Fault};
use crate::rest::logs::{self, Subject};
use crate::rest::schema::Object;
use crate::rest::selector::Selector;

/// Objects that one request changes or removes.
const CHANGES_MAX: usize = 10_000;

/// An object kept in the directory.
pub(super) trait Kept: Send + Sync + Sized + 'static {
    /// What it is to the logs.
    const KIND: Kind;
    /// What it is to the API.
    const OBJECT: &'static Object;

    /// All that an account may see.
    fn all(directory: &Directory, account: u64) -> Vec<Arc<Self>>;

    /// The one of this number, if the account may see it.
    fn one(directory: &Directory, account: u64, id: u64) -> Option<Arc<Self>>;

    fn id(&self) -> u64;

    /// The account whose log says what becomes of it.
    fn logged_by(&self) -> u64;

    /// The fields that are always shown.
    fn fields(&self) -> Map<String, Value>;

    /// What adds to them what the call asks for by name.
    fn show(_: &Call) -> Result<Box<Show<Self>>, Fault> {
        Ok(Box::new(|_, fields| fields))
    }

    /// Makes one of each that was sent: its fields as they are shown this once.
    fn create(accounts: &Accounts, account: u64, sent: &[Value]) -> Made;

    /// Changes the fields that were sent of all of these.
    fn update(
        call: &Call,
        ids: &[u64],
        body: Map<String, Value>,
    ) -> Result<Vec<Result<Arc<Self>, ChangeError>>, Fault>;

    /// Removes all of these.
    fn remove(accounts: &Accounts, ids: &[u64]) -> Vec<Result<(), ChangeError>>;
}

/// The fields of objects that were made, or why they were not.
pub(super) type Made = Vec<Result<Map<String, Value>, ChangeError>>;

/// Each outcome with something made of it.
pub(super) fn each<T, U>(
    outcomes: Vec<Result<T, ChangeError>>,
    of: impl Fn(T) -> U,
) -> Vec<Result<U, ChangeError>> {
    outcomes.into_iter().map(|outcome| outcome.map(&of)).collect()
}

/// The objects that the selector means, by number or in its order, and the numbers that are not
/// there.
fn choose<T: Kept>(call: &Call) -> Result<(Vec<Arc<T>>, Vec<Fault>), Fault> {
    let (account, selector) = (call.account, Selector::parse(call.parameter(0), T::OBJECT)?);
    let all = || {
        // Nothing but references is taken as long as others wait for the lock.
        let mut all = T::all(&call.api.accounts.read(), account);
        all.sort_unstable_by_key(|it| it.id());
        all
    };
    match selector {
        Selector::All => Ok((all(), Vec::new())),
        Selector::Ids(ids) => {
            let directory = call.api.accounts.read();
            let (mut found, mut faults) = (Vec::new(), Vec::new());
            for id in ids {
                match T::one(&directory, account, id) {
                    Some(object) => found.push(object),
                    None => faults.push(Fault::not_found(id)),
                }
            }
            Ok((found, faults))
        }
        Selector::Where(mut sieve) => {
            let mut found = Vec::new();
            for object in all() {
                if sieve.takes(&Value::Object(object.fields()))? {
                    found.push(object);
                }
            }
            Ok((found, Vec::new()))
        }
    }
}

/// Adds what is shown only when it is asked for to the fields of an object.
pub(super) type Show<T> = dyn Fn(&T, Map<String, Value>) -> Map<String, Value> + Send;

/// Answers with the objects that the selector means.
pub(super) fn list<T: Kept>(call: &Call) -> Outcome {
    let (fields, show) = (call.fields()?, T::show(call)?);
    let (limit, offset) = (call.query.number("limit")?, call.query.number("offset")?);
    let (mut found, faults) = choose::<T>(call)?;
    if found.is_empty() && !faults.is_empty() {
        return Ok(Answer::partly(Vec::new(), faults));
    }
    let part = Part { limit, offset: offset.unwrap_or(0), count: found.len() as u64 };
    if limit.is_some() || offset.is_some() {
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        found.drain(..size(part.offset).min(found.len()));
        found.truncate(size(limit.unwrap_or(u64::MAX)));
    }
    let shown = found.into_iter().map(move |it| fields.of(show(&it, it.fields())));
    let answer = Answer::objects(Items::Made(Box::new(shown))).with_faults(faults);
    Ok(if limit.is_some() || offset.is_some() { answer.with_part(part) } else { answer })
}

/// Does something with all objects that the selector means, together, and answers with what comes
/// of each.
fn change<T: Kept, D>(
    call: &Call,
    change: impl FnOnce(&[u64]) -> Result<Vec<Result<D, ChangeError>>, Fault>,
    show: impl Fn(u64, D) -> Map<String, Value>,
) -> Outcome {
    let fields = call.fields()?;
    let (found, mut faults) = choose::<T>(call)?;
    if found.len() > CHANGES_MAX {
        let reason = format!("the selector means more than {CHANGES_MAX} objects");
        return Err(Fault::new(Code::TooLarge, reason));
    }
    let ids: Vec<u64> = found.iter().map(|object| object.id()).collect();
    let mut done = Vec::new();
    for (id, outcome) in ids.iter().zip(change(&ids)?) {
        match outcome {
            Ok(outcome) => done.push(fields.of(show(*id, outcome))),
            Err(error) => faults.push(Fault::from(error).about(*id)),
        }
    }
    Ok(Answer::partly(done, faults))
}

/// Changes the fields that were sent of all objects that the selector means (15.1.4).
pub(super) fn update<T: Kept>(call: &Call) -> Outcome {
    let (body, show) = (call.object()?, T::show(call)?);
    let update = |ids: &[u64]| T::update(call, ids, body);
    change::<T, _>(call, update, |_, object| show(&object, object.fields()))
}

/// How what was sent changes an object: PATCH merges.
pub(super) fn sent<'a>(call: &Call, body: &'a Value) -> Sent<'a> {
    match call.route.method {
        Method::Patch => Sent::Merged(body),
        _ => Sent::Whole(body),
    }
}

/// Removes all objects that the selector means, and answers with their numbers.
pub(super) fn remove<T: Kept>(call: &Call) -> Outcome {
    let remove = |ids: &[u64]| Ok(T::remove(&call.api.accounts, ids));
    change::<T, ()>(call, remove, |id, ()| Map::from_iter([("id".to_owned(), id.into())]))
}

/// Makes an object of each that was sent, and answers with what was made.
pub(super) fn create<T: Kept>(call: &Call) -> Outcome {
    let fields = call.fields()?;
    let objects = call.objects()?;
    if objects.is_empty() {
        return Err(Fault::bad_request("there is no object in the array"));
    }
    let (mut made, mut faults) = (Vec::new(), Vec::new());
    let outcomes = T::create(&call.api.accounts, call.account, &objects);
    for (at, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Ok(object) => made.push(fields.of(object)),
            Err(error) => faults.push(Fault::from(error).at(at)),
        }
    }
    Ok(Answer::partly(made, faults))
}

/// Answers with what has become of the objects that the selector means.
pub(super) async fn logs<T: Kept>(call: Call) -> Outcome {
    logs::read(call, |call| {
        let (found, faults) = choose::<T>(call)?;
        let mut accounts: Vec<_> = found.iter().map(|object| object.logged_by()).collect();
        accounts.sort_unstable();
        accounts.dedup();
        let ids = Some(found.iter().map(|object| object.id()).collect());
        Ok(Subject { accounts, types: vec![T::KIND.origin()], ids, faults })
    })
    .await
}
