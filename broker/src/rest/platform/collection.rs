//! What tokens, accounts and limits have in common: they are kept in the directory of accounts.

use std::marker::PhantomData;
use std::sync::Arc;

use longshore_acl::{Directory, ROOT_ACCOUNT};
use serde_json::{Map, Value};

use crate::accounts::{Accounts, ChangeError};
use crate::notices::Kind;
use crate::rest::answer::Outcome;
use crate::rest::call::Call;
use crate::rest::collection::{self, Shelf};
pub(super) use crate::rest::collection::{Each, Show, sent};
use crate::rest::fault::Fault;
use crate::rest::schema::Object;

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

    /// The account whose log says what becomes of it: its `cid`.
    fn logged_by(&self) -> u64;

    /// The fields that are always shown.
    fn fields(&self) -> Map<String, Value>;

    /// What adds to them what the call asks for by name.
    fn show(_: &Call) -> Result<Box<Show<Self>>, Fault> {
        Ok(Box::new(|_, fields| fields))
    }

    /// Whether these fields may be sent at all.
    fn takes(sent: &Map<String, Value>) -> Result<(), Fault> {
        Self::OBJECT.takes(sent)
    }

    /// Makes one of each that was sent: its fields as they are shown this once.
    fn create(accounts: &Accounts, account: u64, sent: &[Value]) -> Made;

    /// Changes the fields that were sent of all of these.
    fn update(
        call: &Call,
        ids: &[u64],
        body: Map<String, Value>,
    ) -> Result<Each<Arc<Self>, ChangeError>, Fault>;

    /// Removes all of these.
    fn remove(accounts: &Accounts, ids: &[u64]) -> Each<(), ChangeError>;
}

/// The fields of objects that were made, or why they were not.
pub(super) type Made = Each<Map<String, Value>, ChangeError>;

/// Each outcome with something made of it.
pub(super) fn each<T, U>(
    outcomes: Each<T, ChangeError>,
    of: impl Fn(T) -> U,
) -> Each<U, ChangeError> {
    outcomes.into_iter().map(|outcome| outcome.map(&of)).collect()
}

/// All objects of this kind.
struct InDirectory<T>(Arc<Accounts>, PhantomData<fn() -> T>);

impl<T> InDirectory<T> {
    fn of(call: &Call) -> Self {
        Self(Arc::clone(&call.api.accounts), PhantomData)
    }
}

impl<T: Kept> InDirectory<T> {
    /// Whether this is the account of each of these.
    fn is_of_all(&self, ids: &[u64], account: &Value) -> bool {
        let directory = self.0.read();
        let of = |id: &u64| T::one(&directory, ROOT_ACCOUNT, *id).map(|item| item.logged_by());
        ids.iter().all(|id| of(id).is_some_and(|of| *account == of))
    }
}

impl<T: Kept> Shelf for InDirectory<T> {
    type Item = T;
    type Error = ChangeError;

    const OBJECT: &'static Object = T::OBJECT;
    const ORIGIN: u64 = T::KIND.origin();

    fn all(&self, account: u64) -> Vec<Arc<T>> {
        // Nothing but references is taken as long as others wait for the lock.
        T::all(&self.0.read(), account)
    }

    fn one(&self, account: u64, id: u64) -> Option<Arc<T>> {
        T::one(&self.0.read(), account, id)
    }

    fn id(item: &T) -> u64 {
        item.id()
    }

    fn account(item: &T) -> u64 {
        item.logged_by()
    }

    fn fields(item: &T) -> Map<String, Value> {
        item.fields()
    }

    fn show(&self, call: &Call) -> Result<Box<Show<T>>, Fault> {
        T::show(call)
    }

    fn takes(&self, sent: &Map<String, Value>) -> Result<(), Fault> {
        T::takes(sent)
    }

    fn create(&self, call: &Call, sent: &[Value]) -> Made {
        T::create(&self.0, call.account, sent)
    }

    fn update(
        &self,
        call: &Call,
        ids: &[u64],
        mut body: Map<String, Value>,
    ) -> Result<Each<Arc<T>, ChangeError>, Fault> {
        // Clients send back what they have read; where nothing is to change, nothing is set.
        if body.get("cid").is_some_and(|cid| self.is_of_all(ids, cid)) {
            body.remove("cid");
        }
        if !ids.is_empty() {
            T::takes(&body)?;
        }
        T::update(call, ids, body)
    }

    fn remove(&self, _: &Call, ids: &[u64]) -> Each<(), ChangeError> {
        T::remove(&self.0, ids)
    }
}

/// Answers with the objects that the selector means.
pub(super) fn list<T: Kept>(call: &Call) -> Outcome {
    collection::list(&InDirectory::<T>::of(call), call)
}

/// Changes the fields that were sent of all objects that the selector means (15.1.4).
pub(super) fn update<T: Kept>(call: &Call) -> Outcome {
    collection::update(&InDirectory::<T>::of(call), call)
}

/// Removes all objects that the selector means, and answers with their numbers.
pub(super) fn remove<T: Kept>(call: &Call) -> Outcome {
    collection::remove(&InDirectory::<T>::of(call), call)
}

/// Makes an object of each that was sent, and answers with what was made.
pub(super) fn create<T: Kept>(call: &Call) -> Outcome {
    collection::create(&InDirectory::<T>::of(call), call)
}

/// Answers with what has become of the objects that the selector means.
pub(super) async fn logs<T: Kept>(call: Call) -> Outcome {
    collection::read_logs(InDirectory::<T>::of, call).await
}
