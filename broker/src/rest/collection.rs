//! What objects of all kinds have in common: they are chosen, listed, made, changed and removed
//! alike (broker specification, 15.1).

use std::sync::Arc;

use longshore_acl::{Method, Scope};
use serde_json::{Map, Value};

use super::answer::{Answer, Items, Outcome, Part};
use super::call::Call;
use super::fault::{Code, Fault};
use super::logs::{self, Subject};
use super::schema::Object;
use super::selector::Selector;
use crate::accounts::Sent;

/// Objects that one request changes or removes.
const CHANGES_MAX: usize = 10_000;

/// Objects of one kind.
pub trait Shelf {
    /// One of them.
    type Item: Send + Sync + 'static;
    /// Why one is not made, changed or removed.
    type Error: Into<Fault>;

    /// What they are to the API.
    const OBJECT: &'static Object;
    /// What they are to the logs: `origin_type`.
    const ORIGIN: u64;

    /// All of an account and those below it.
    fn all(&self, account: u64) -> Vec<Arc<Self::Item>>;

    /// The one of this number, if it is of the account or of one below it.
    fn one(&self, account: u64, id: u64) -> Option<Arc<Self::Item>>;

    /// Its number.
    fn id(item: &Self::Item) -> u64;

    /// The account whose log says what becomes of it.
    fn account(item: &Self::Item) -> u64;

    /// Its fields, but for those that are shown only when they are asked for.
    fn fields(item: &Self::Item) -> Map<String, Value>;

    /// What adds to them what the call asks for by name.
    ///
    /// # Errors
    /// When it may not be shown.
    fn show(&self, _: &Call) -> Result<Box<Show<Self::Item>>, Fault> {
        Ok(Box::new(|_, fields| fields))
    }

    /// Whether these fields may be sent at all; what they hold is looked at when one is made.
    ///
    /// # Errors
    /// Why not.
    fn takes(&self, _: &Map<String, Value>) -> Result<(), Fault> {
        Ok(())
    }

    /// Makes one of each that was sent: its fields as they are shown this once.
    fn create(&self, call: &Call, sent: &[Value]) -> Each<Map<String, Value>, Self::Error>;

    /// Changes the fields that were sent of all of these: see [`sent`].
    ///
    /// # Errors
    /// When what was sent is wrong for each of them.
    fn update(
        &self,
        call: &Call,
        ids: &[u64],
        body: Map<String, Value>,
    ) -> Result<Each<Arc<Self::Item>, Self::Error>, Fault>;

    /// Removes all of these.
    fn remove(&self, call: &Call, ids: &[u64]) -> Each<(), Self::Error>;
}

/// What comes of each of several objects.
pub type Each<T, E> = Vec<Result<T, E>>;

/// Objects that were found, and why others were not.
pub type Chosen<T> = (Vec<Arc<T>>, Vec<Fault>);

/// Adds what is shown only when it is asked for to the fields of an object.
pub type Show<T> = dyn Fn(&T, Map<String, Value>) -> Map<String, Value> + Send;

/// The objects that the first parameter of the path means and the token opens, by number or in its
/// order, and why others that it names are not among them.
///
/// # Errors
/// When it is no selector.
pub fn choose<S: Shelf>(shelf: &S, call: &Call) -> Result<Chosen<S::Item>, Fault> {
    let (account, selector) = (call.account, Selector::parse(call.parameter(0), S::OBJECT)?);
    let scope = call.caller()?.scope(&call.route);
    let is_open = |id: u64| match &scope {
        Scope::All => true,
        Scope::Listed(ids) => ids.binary_search(&id).is_ok(),
        Scope::None => false,
    };
    let all = || {
        let mut all = shelf.all(account);
        all.retain(|item| is_open(S::id(item)));
        all.sort_unstable_by_key(|item| S::id(item));
        all
    };
    match selector {
        Selector::All => Ok((all(), Vec::new())),
        Selector::Ids(ids) => {
            let (mut found, mut faults) = (Vec::new(), Vec::new());
            for id in ids {
                match shelf.one(account, id) {
                    Some(_) if !is_open(id) => {
                        let closed = "the token does not open this object";
                        faults.push(Fault::new(Code::Forbidden, closed).about(id));
                    }
                    Some(object) => found.push(object),
                    None => faults.push(Fault::not_found(id)),
                }
            }
            Ok((found, faults))
        }
        Selector::Where(mut sieve) => {
            let mut found = Vec::new();
            for object in all() {
                if sieve.takes(&Value::Object(S::fields(&object)))? {
                    found.push(object);
                }
            }
            Ok((found, Vec::new()))
        }
    }
}

/// Answers with the objects that the selector means.
///
/// # Errors
/// When the call makes no sense.
pub fn list<S: Shelf>(shelf: &S, call: &Call) -> Outcome {
    let (fields, show) = (call.fields()?, shelf.show(call)?);
    let (limit, offset) = (call.query.number("limit")?, call.query.number("offset")?);
    let (mut found, faults) = choose(shelf, call)?;
    if found.is_empty() && !faults.is_empty() {
        return Ok(Answer::partly(Vec::new(), faults));
    }
    // Cut before they are made: each takes microseconds, and there may be 100,000.
    let part = Part { limit, offset: offset.unwrap_or(0), count: found.len() as u64 };
    if limit.is_some() || offset.is_some() {
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        found.drain(..size(part.offset).min(found.len()));
        found.truncate(size(limit.unwrap_or(u64::MAX)));
    }
    let shown = found.into_iter().map(move |it| fields.of(show(&it, S::fields(&it))));
    let answer = Answer::objects(Items::Made(Box::new(shown))).with_faults(faults);
    Ok(if limit.is_some() || offset.is_some() { answer.with_part(part) } else { answer })
}

/// Does something with all objects that the selector means, together, and answers with what comes
/// of each.
fn change<S: Shelf, D>(
    (shelf, call): (&S, &Call),
    change: impl FnOnce(&[u64]) -> Result<Each<D, S::Error>, Fault>,
    show: impl Fn(u64, D) -> Value,
) -> Outcome {
    let (found, mut faults) = choose(shelf, call)?;
    if found.len() > CHANGES_MAX {
        let reason = format!("the selector means more than {CHANGES_MAX} objects");
        return Err(Fault::new(Code::TooLarge, reason));
    }
    let ids: Vec<u64> = found.iter().map(|object| S::id(object)).collect();
    let mut done = Vec::new();
    for (id, outcome) in ids.iter().zip(change(&ids)?) {
        match outcome {
            Ok(outcome) => done.push(show(*id, outcome)),
            Err(error) => faults.push(error.into().about(*id)),
        }
    }
    Ok(Answer::partly(done, faults))
}

/// Changes the fields that were sent of all objects that the selector means (15.1.4).
///
/// # Errors
/// When the call makes no sense.
pub fn update<S: Shelf>(shelf: &S, call: &Call) -> Outcome {
    let (fields, body, show) = (call.fields()?, call.object()?, shelf.show(call)?);
    let update = |ids: &[u64]| shelf.update(call, ids, body);
    change((shelf, call), update, |_, it| fields.of(show(&it, S::fields(&it))))
}

/// How what was sent changes an object: PATCH merges.
pub fn sent<'a>(call: &Call, body: &'a Value) -> Sent<'a> {
    match call.route.method {
        Method::Patch => Sent::Merged(body),
        _ => Sent::Whole(body),
    }
}

/// Removes all objects that the selector means, and answers with their numbers alone
/// ([`NUMBER`](super::NUMBER)).
///
/// # Errors
/// When the call makes no sense.
pub fn remove<S: Shelf>(shelf: &S, call: &Call) -> Outcome {
    let remove = |ids: &[u64]| Ok(shelf.remove(call, ids));
    change((shelf, call), remove, |id, ()| id.into())
}

/// Makes an object of each that was sent, and answers with what was made.
///
/// # Errors
/// When the call makes no sense, or its token opens only objects that are there.
pub fn create<S: Shelf>(shelf: &S, call: &Call) -> Outcome {
    if call.caller()?.scope(&call.route) != Scope::All {
        let reason = "the token opens some objects, and so none that are new";
        return Err(Fault::new(Code::Forbidden, reason));
    }
    let (fields, mut objects) = (call.fields()?, call.objects()?);
    if objects.is_empty() {
        return Err(Fault::bad_request("there is no object in the array"));
    }
    let refused = |it: &Value| it.as_object().and_then(|it| shelf.takes(it).err());
    let refused: Vec<_> = objects.iter().map(refused).collect();
    let mut each = refused.iter();
    objects.retain(|_| each.next().is_some_and(Option::is_none));
    let mut outcomes = shelf.create(call, &objects).into_iter();
    let (mut made, mut faults) = (Vec::new(), Vec::new());
    for (at, refused) in refused.into_iter().enumerate() {
        // Of each that was not refused there is an outcome.
        let next = || outcomes.next().map(|outcome| outcome.map_err(Into::into));
        match refused.map(Err).or_else(next) {
            Some(Ok(object)) => made.push(fields.of(object)),
            Some(Err(fault)) => faults.push(fault.at(at)),
            None => break,
        }
    }
    Ok(Answer::partly(made, faults))
}

/// Answers with what has become of the objects that the selector means.
///
/// # Errors
/// When the call makes no sense.
pub async fn read_logs<S: Shelf>(
    shelf: impl FnOnce(&Call) -> S + Send + 'static,
    call: Call,
) -> Outcome {
    logs::read(call, |call| {
        let (found, faults) = choose(&shelf(call), call)?;
        let mut accounts: Vec<_> = found.iter().map(|object| S::account(object)).collect();
        accounts.sort_unstable();
        accounts.dedup();
        let ids = Some(found.iter().map(|object| S::id(object)).collect());
        Ok(Subject { accounts, types: vec![S::ORIGIN], ids, faults })
    })
    .await
}
