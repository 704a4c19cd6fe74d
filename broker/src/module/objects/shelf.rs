//! Objects of a module as REST takes and shows all objects.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Item, Objects, whole};
use crate::rest::collection::{Each, Shelf, Show, sent};
use crate::rest::{Call, Fault, Object, Shown};

impl<T: Item> Shelf for Arc<Objects<T>> {
    type Item = T;
    type Error = Fault;

    const OBJECT: &'static Object = T::OBJECT;
    const ORIGIN: u64 = T::ORIGIN;

    fn all(&self, account: u64) -> Vec<Arc<T>> {
        let branch = self.context.accounts().read().branch(account);
        let items = self.items();
        let ids = branch.iter().filter_map(|account| items.by_account.get(account)).flatten();
        ids.filter_map(|id| items.by_id.get(id)).cloned().collect()
    }

    fn one(&self, account: u64, id: u64) -> Option<Arc<T>> {
        let item = self.get(id)?;
        let owner = item.head().account;
        self.context.accounts().read().is_in_branch(account, owner).then_some(item)
    }

    fn id(item: &T) -> u64 {
        item.head().id
    }

    fn account(item: &T) -> u64 {
        item.head().account
    }

    fn fields(item: &T) -> Map<String, Value> {
        whole(item)
    }

    fn show(&self, call: &Call) -> Result<Box<Show<T>>, Fault> {
        let (wanted, of) = (call.fields()?, T::OBJECT.fields.iter());
        let asked = of.filter(move |field| field.shown == Shown::Asked && wanted.name(field.name));
        let names: Vec<_> = asked.map(|field| field.name).collect();
        Ok(Box::new(move |item, mut fields| {
            let values = names.iter().map(|name| ((*name).to_owned(), item.asked(name)));
            fields.extend(values.filter_map(|(name, value)| Some((name, value?))));
            fields
        }))
    }

    fn create(&self, call: &Call, sent: &[Value]) -> Each<Map<String, Value>, Fault> {
        let made = Objects::create(self, call.account, sent, call.caller.as_ref());
        made.into_iter().map(|it| it.map(|item| whole(&*item))).collect()
    }

    fn update(
        &self,
        call: &Call,
        ids: &[u64],
        body: Map<String, Value>,
    ) -> Result<Each<Arc<T>, Fault>, Fault> {
        let body = Value::Object(body);
        Ok(Objects::update(self, ids, sent(call, &body), call.caller.as_ref()))
    }

    fn remove(&self, call: &Call, ids: &[u64]) -> Each<(), Fault> {
        Objects::remove(self, ids, call.caller.as_ref())
    }
}
