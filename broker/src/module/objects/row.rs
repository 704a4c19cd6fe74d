//! Objects as their table has them: JSON, of which secrets are sealed.

use serde_json::{Map, Value};

use super::{Head, Item};
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

/// The object that a row is of.
pub(super) fn read_row<T: Item>(
    context: &Context,
    id: u64,
    value: &[u8],
) -> Result<T, ModuleError> {
    let mut fields: Map<String, Value> = serde_json::from_slice(value)?;
    let account = fields.remove("cid").and_then(|cid| cid.as_u64());
    let account = account.ok_or_else(|| format!("{} has no account", place::<T>(id)))?;
    for name in T::SEALED {
        let Some(value) = fields.get_mut(*name) else { continue };
        let open = value.as_str().and_then(|sealed| context.unseal(&place::<T>(id), sealed));
        let open = open.ok_or_else(|| {
            format!("{}: its {name} were sealed under another secret", place::<T>(id))
        })?;
        *value = serde_json::from_str(&open)?;
    }
    let read = T::read(Head { id, account }, fields, None);
    read.map_err(|fault| format!("{}: {}", place::<T>(id), fault.to_json()).into())
}

/// Which object it is, as logs say it.
pub(super) fn place<T: Item>(id: u64) -> String {
    format!("{}/{id}", T::URI)
}
