//! Objects as their table has them: JSON, of which secrets are sealed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hashbrown::HashMap;
use longshore_storage::{Changes, Table};
use serde_json::{Map, Value};
use tracing::error;

use super::{Head, Item, Items, LAST};
use crate::module::{Context, ModuleError};

/// An object as the table has it.
pub(super) fn row<T: Item>(context: &Context, item: &T) -> Result<Vec<u8>, ModuleError> {
    let (mut fields, Head { id, account }) = (item.kept(), item.head());
    for name in T::SEALED {
        if let Some(value) = fields.get_mut(*name) {
            *value = context.seal(&place::<T>(id), &value.to_string())?.into();
        }
    }
    fields.insert("cid".to_owned(), account.into());
    Ok(Value::Object(fields).to_string().into_bytes())
}

/// Reads all objects of a table, and removes the rows of accounts that are gone.
pub(super) fn read_all<T: Item>(context: &Context, table: &Table) -> Result<Items<T>, ModuleError> {
    let (by_id, by_account) = (BTreeMap::new(), HashMap::new());
    let mut items = Items { by_id, by_account, unread: BTreeSet::new(), last: 0 };
    let mut gone = Changes::new();
    for row in table.range(..) {
        let (key, value) = row?;
        let id = <[u8; 8]>::try_from(&*key).map(u64::from_be_bytes)?;
        if key == LAST {
            items.last = <[u8; 8]>::try_from(&*value).map(u64::from_be_bytes)?;
            continue;
        }
        match read_row::<T>(context, id, &value) {
            Ok(Some(item)) => items.put(Arc::new(item)),
            Ok(None) => gone.remove(table, &key),
            Err(cause) => {
                let object = place::<T>(id);
                error!(
                    object, %cause, "it cannot be read, and its row is left as it is: go back to \
                    the version that wrote it, or restore a backup"
                );
                items.unread.insert(id);
            }
        }
    }
    context.tables().commit(gone)?;
    Ok(items)
}

/// The object that a row is of; none if its account is gone.
fn read_row<T: Item>(context: &Context, id: u64, row: &[u8]) -> Result<Option<T>, ModuleError> {
    let (head, fields) = read_fields::<T>(context, id, row)?;
    if context.accounts().read().account(head.account).is_none() {
        return Ok(None);
    }
    let fault = match T::read(head, fields, None) {
        Ok(item) => return Ok(Some(item)),
        Err(fault) => fault.to_json(),
    };
    let (_, fields) = read_fields::<T>(context, id, row)?;
    let Some(item) = T::invalid(head, fields) else { return Err(fault.to_string().into()) };
    let object = place::<T>(id);
    error!(
        object, %fault, "it is kept as what is not valid, and is blocked: put it right by \
        PUT /{object}, or remove it"
    );
    Ok(Some(item))
}

/// Whose a row is, and its fields, opened.
fn read_fields<T: Item>(
    context: &Context,
    id: u64,
    row: &[u8],
) -> Result<(Head, Map<String, Value>), ModuleError> {
    let mut fields: Map<String, Value> = serde_json::from_slice(row)?;
    let account = fields.remove("cid").and_then(|cid| cid.as_u64());
    let account = account.ok_or("it has no account")?;
    for name in T::SEALED {
        let Some(value) = fields.get_mut(*name) else { continue };
        let open = value.as_str().and_then(|sealed| context.unseal(&place::<T>(id), sealed));
        let open = open.ok_or_else(|| format!("its {name} were sealed under another secret"))?;
        *value = serde_json::from_str(&open)?;
    }
    Ok((Head { id, account }, fields))
}

/// Which object it is, as logs say it.
pub(super) fn place<T: Item>(id: u64) -> String {
    format!("{}/{id}", T::URI)
}
