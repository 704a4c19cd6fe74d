//! Where the records of logs stand: in a table, or in memory.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use longshore_storage::{Changes, Table, Tables, TablesError};

use super::{Key, key};
use crate::clock::Wall;

/// A record with its key.
pub(super) type Record = (Key, Vec<u8>);

/// See the module.
pub(super) enum Shelf {
    Kept(Tables, Table),
    Memory(RwLock<BTreeMap<Key, Vec<u8>>>),
}

impl Default for Shelf {
    fn default() -> Self {
        Self::Memory(RwLock::default())
    }
}

/// What is to be changed there.
#[derive(Default)]
pub(super) struct Edit(Vec<(Key, Option<Vec<u8>>)>);

impl Edit {
    pub(super) fn put(&mut self, key: Key, record: Vec<u8>) {
        self.0.push((key, Some(record)));
    }

    pub(super) fn remove(&mut self, key: Key) {
        self.0.push((key, None));
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Shelf {
    /// Makes these changes; they are on the medium on return.
    pub(super) fn apply(&self, edit: Edit) -> Result<(), TablesError> {
        match self {
            Self::Kept(tables, table) => {
                let mut changes = Changes::new();
                for (key, record) in edit.0 {
                    match record {
                        Some(record) => changes.put(table, &key, &record),
                        None => changes.remove(table, &key),
                    }
                }
                tables.commit(changes)
            }
            Self::Memory(records) => {
                let mut records = records.write().unwrap_or_else(PoisonError::into_inner);
                for (key, record) in edit.0 {
                    match record {
                        Some(record) => drop(records.insert(key, record)),
                        None => drop(records.remove(&key)),
                    }
                }
                Ok(())
            }
        }
    }

    /// So many records at most from `from` to before `to`, from either end.
    pub(super) fn page(
        &self,
        from: Key,
        to: Key,
        is_reverse: bool,
        most: usize,
    ) -> Result<Vec<Record>, TablesError> {
        if from >= to {
            return Ok(Vec::new());
        }
        match self {
            Self::Kept(_, table) => {
                let mut rows = table.range(&from[..]..&to[..]);
                let next = || if is_reverse { rows.next_back() } else { rows.next() };
                let page = std::iter::from_fn(next).take(most);
                // All keys have this length.
                page.map(|row| row.map(|(key, record)| (key.try_into().unwrap_or(to), record)))
                    .collect()
            }
            Self::Memory(records) => {
                let records = records.read().unwrap_or_else(PoisonError::into_inner);
                let range = records.range(from..to);
                let owned = |(key, record): (&Key, &Vec<u8>)| (*key, record.clone());
                Ok(match is_reverse {
                    true => range.rev().take(most).map(owned).collect(),
                    false => range.take(most).map(owned).collect(),
                })
            }
        }
    }

    /// The first record and the last one of an account.
    pub(super) fn ends(&self, account: u64) -> Result<(Option<Key>, Option<Key>), TablesError> {
        let (from, to) = (key(account, Wall(0), 0), key(account, Wall(u64::MAX), u64::MAX));
        let end = |is_reverse| {
            let page = self.page(from, to, is_reverse, 1)?;
            Ok(page.first().map(|(key, _)| *key))
        };
        Ok((end(false)?, end(true)?))
    }

    /// The first key that is not before this one.
    pub(super) fn first_from(&self, from: Key) -> Result<Option<Key>, TablesError> {
        Ok(self.page(from, [u8::MAX; 24], false, 1)?.first().map(|(key, _)| *key))
    }
}
