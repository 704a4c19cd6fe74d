//! The logs of accounts: what has happened, each for so long and so many (specification of the
//! broker, 20).
//!
//! They are tables of their own: what is written there every second must not be what a cut of the
//! power leaves the tokens in. A log that is damaged is put aside, and a new one begins.

use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::HashMap;
use longshore_storage::{Tables, TablesError, TablesOptions};
use tracing::warn;

use super::Options;
use crate::clock::Wall;
use crate::notices::Notice;

mod read;
mod shelf;

pub(crate) use self::read::{Cursor, meets};
pub use self::read::{LogQuery, LogReader};
use self::shelf::{Edit, Shelf};

/// The folder of the tables, and where one is put that is damaged.
const FOLDER: &str = "logs";
const DAMAGED: &str = "logs.damaged";
/// The table in it.
const TABLE: &str = "logs";

/// Bytes of records that wait to be written; what exceeds them is written before its time.
const UNWRITTEN_BYTES: usize = 256 << 10;
/// Records beyond what an account may have, before the oldest are removed all at once.
const EXCESS: u64 = 64;
/// Records that one step of a round removes at most, and accounts that it looks at.
const SWEEP_RECORDS: usize = 4_096;
const SWEEP_ACCOUNTS: usize = 256;
/// Seconds between two rounds.
const SWEEP_SECS: u64 = 600;
/// Records of all accounts together where they are kept in memory.
const IN_MEMORY: u64 = 100_000;

/// Account, microseconds since 1970, and a number that grows with each record of the account.
type Key = [u8; 24];

fn key(account: u64, at: Wall, number: u64) -> Key {
    let mut key = [0; 24];
    let fields = [account, at.0, number];
    key.chunks_mut(8).zip(fields).for_each(|(to, field)| to.copy_from_slice(&field.to_be_bytes()));
    key
}

fn field(key: &Key, at: usize) -> u64 {
    key[8 * at..8 * at + 8].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

fn account_of(key: &Key) -> u64 {
    field(key, 0)
}

fn number_of(key: &Key) -> u64 {
    field(key, 2)
}

/// See the module.
pub struct Logs {
    shelf: Shelf,
    ttl_secs: u64,
    /// Records of one account.
    most: u64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    unwritten: Vec<(Key, Vec<u8>)>,
    unwritten_bytes: usize,
    /// Of accounts that had a notice since the start.
    spans: HashMap<u64, Span>,
    sweep: Sweep,
}

/// The numbers of the records that an account has, from the first on.
#[derive(Clone, Copy)]
struct Span {
    first: u64,
    /// Of the next one.
    next: u64,
}

/// A round that removes what is too old, and what is of accounts that are gone.
#[derive(Default)]
struct Sweep {
    /// When the next one begins, in unix seconds.
    due: u64,
    /// The account where it goes on, while it is under way.
    at: Option<u64>,
}

impl Logs {
    /// Those in this folder, which begin with the first notice.
    pub(super) fn open(folder: &Path, options: &Options) -> Result<Self, TablesError> {
        let path = folder.join(FOLDER);
        let mut how = TablesOptions::default();
        // Little of it is ever read again, and a storm of clients must not cost memory for each.
        (how.cache_bytes, how.files_max, how.unsorted_bytes) = (1 << 20, 16, 1 << 20);
        let tables = match Tables::open_with(&path, &how) {
            Err(cause @ (TablesError::Damaged(_) | TablesError::Version)) => {
                warn!(%cause, to = DAMAGED, "the logs of accounts are damaged: new ones begin");
                Tables::put_aside(&path, &folder.join(DAMAGED))?;
                Tables::open_with(&path, &how)?
            }
            tables => tables?,
        };
        let table = tables.table(TABLE)?;
        Ok(Self::on(Shelf::Kept(tables, table), options, options.log_events_per_account))
    }

    /// Logs that last as long as this process, and have less room.
    pub(super) fn in_memory(options: &Options) -> Self {
        Self::on(Shelf::default(), options, options.log_events_per_account)
    }

    fn on(shelf: Shelf, options: &Options, most: u64) -> Self {
        Self { shelf, ttl_secs: options.log_ttl_secs, most: most.max(1), state: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Under it nothing panics but a broken invariant.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a record in, which is found from now on and written with the next others.
    pub(super) fn add(&self, notice: &Notice, record: &str) -> Result<(), TablesError> {
        let mut state = self.lock();
        let number = self.next_number(&mut state, notice.account)?;
        state.unwritten_bytes += record.len();
        let key = key(notice.account, notice.at, number);
        state.unwritten.push((key, record.as_bytes().to_vec()));
        if state.unwritten_bytes > UNWRITTEN_BYTES { self.write(&mut state) } else { Ok(()) }
    }

    fn next_number(&self, state: &mut State, account: u64) -> Result<u64, TablesError> {
        let span = match state.spans.get_mut(&account) {
            Some(span) => span,
            None => {
                let (first, last) = self.shelf.ends(account)?;
                let first = first.map_or(0, |key| number_of(&key));
                // A clock that was put back may have left a smaller number at the end.
                let next = last.map_or(first, |key| number_of(&key).max(first) + 1);
                state.spans.entry(account).or_insert(Span { first, next })
            }
        };
        span.next += 1;
        Ok(span.next - 1)
    }

    /// Writes down what waits, and removes what is too much by it.
    pub(super) fn keep(&self) -> Result<(), TablesError> {
        let mut state = self.lock();
        if state.unwritten.is_empty() { Ok(()) } else { self.write(&mut state) }
    }

    fn write(&self, state: &mut State) -> Result<(), TablesError> {
        let mut edit = Edit::default();
        state.unwritten_bytes = 0;
        let mut accounts = Vec::new();
        for (key, record) in state.unwritten.drain(..) {
            accounts.push(account_of(&key));
            edit.put(key, record);
        }
        self.shelf.apply(edit)?;
        accounts.sort_unstable();
        accounts.dedup();
        let mut trim = Edit::default();
        for account in accounts {
            self.trim(state, account, &mut trim)?;
        }
        if trim.is_empty() { Ok(()) } else { self.shelf.apply(trim) }
    }

    /// Removes the oldest records of an account that has too many.
    fn trim(&self, state: &mut State, account: u64, edit: &mut Edit) -> Result<(), TablesError> {
        let most = match self.shelf {
            Shelf::Kept(..) => self.most,
            Shelf::Memory(_) => self.most.min(IN_MEMORY / state.spans.len().max(1) as u64),
        };
        let Some(span) = state.spans.get_mut(&account) else { return Ok(()) };
        let count = span.next - span.first;
        if count <= most.saturating_add(EXCESS.min(most)) {
            return Ok(());
        }
        let excess = usize::try_from(count - most).unwrap_or(usize::MAX);
        let from = key(account, Wall(0), 0);
        let old = self.shelf.page(from, key(account, Wall(u64::MAX), u64::MAX), false, excess)?;
        old.iter().for_each(|(key, _)| edit.remove(*key));
        span.first += count - most;
        Ok(())
    }

    /// Goes on with a round, a step; `is_there` tells which accounts there are.
    pub(super) fn sweep(
        &self,
        is_there: impl Fn(u64) -> bool,
        now: Wall,
    ) -> Result<(), TablesError> {
        let mut state = self.lock();
        let secs = now.0 / 1_000_000;
        let start = match state.sweep.at.take() {
            Some(at) => at,
            None if secs >= state.sweep.due => 0,
            None => return Ok(()),
        };
        state.sweep.due = secs + SWEEP_SECS;
        let (mut edit, mut next) = (Edit::default(), Some(start));
        let oldest = Wall(now.0.saturating_sub(self.ttl_secs.saturating_mul(1_000_000)));
        for _ in 0..SWEEP_ACCOUNTS {
            let Some(from) = next.take() else { break };
            let Some(first) = self.shelf.first_from(key(from, Wall(0), 0))? else { break };
            let account = account_of(&first);
            let mut end = oldest;
            if !is_there(account) {
                end = Wall(u64::MAX);
                state.spans.remove(&account);
            }
            let left = SWEEP_RECORDS.saturating_sub(edit.len());
            let old = self.shelf.page(first, key(account, end, 0), false, left)?;
            old.iter().for_each(|(key, _)| edit.remove(*key));
            if let Some(span) = state.spans.get_mut(&account) {
                span.first = (span.first + old.len() as u64).min(span.next);
            }
            // Here again where there may be more.
            next = if old.len() == left { Some(account) } else { account.checked_add(1) };
            if edit.len() >= SWEEP_RECORDS {
                break;
            }
        }
        state.sweep.at = next;
        if edit.is_empty() { Ok(()) } else { self.shelf.apply(edit) }
    }
}

impl fmt::Debug for Logs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logs").field("most", &self.most).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
