//! Reading the logs of a branch of accounts: in the order of time, a slice at a time.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use longshore_expression::{Budget, Filter};
use longshore_storage::TablesError;
use serde_json::{Map, Value};

use super::shelf::Record;
use super::{Key, Logs, key};
use crate::clock::Wall;

/// Records of all accounts together that a reader holds, and of one account.
const HELD: usize = 4_096;
const OF_ACCOUNT: usize = 64;
/// Steps that the filter may take for one record.
const STEPS: u64 = 10_000;

/// What is looked for (specification of the broker, 20.6).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct LogQuery<'a> {
    /// The accounts, such as all of a branch.
    pub accounts: &'a [u64],
    /// From this time on.
    pub from: Wall,
    /// Before this time.
    pub to: Wall,
    /// Records to be found at most.
    pub count: usize,
    /// Whether the newest come first.
    pub reverse: bool,
    /// What must hold of a record.
    pub filter: Option<&'a Filter>,
}

impl<'a> LogQuery<'a> {
    /// All there is of these accounts.
    #[must_use]
    pub fn of(accounts: &'a [u64]) -> Self {
        let (from, to, count) = (Wall(0), Wall(u64::MAX), usize::MAX);
        Self { accounts, from, to, count, reverse: false, filter: None }
    }
}

impl Logs {
    /// Begins to read. What happens from now on may be found or not.
    ///
    /// # Errors
    /// What the tables say.
    pub fn read<'a>(&'a self, query: LogQuery<'a>) -> Result<LogReader<'a>, TablesError> {
        Ok(LogReader { logs: self, filter: query.filter, cursor: self.cursor(&query)? })
    }

    /// The place where a read begins, for who comes back to it: whatever the filter is.
    pub(crate) fn cursor(&self, query: &LogQuery<'_>) -> Result<Cursor, TablesError> {
        self.keep()?;
        let (left, reverse) = (query.count, query.reverse);
        let mut cursor = Cursor { left, reverse, sources: Vec::new(), heads: <_>::default() };
        let page = (HELD / query.accounts.len().max(1)).clamp(1, OF_ACCOUNT);
        for account in query.accounts {
            let (from, to) = (key(*account, query.from, 0), key(*account, query.to, 0));
            let source = Source { from, to, page, held: VecDeque::new() };
            cursor.sources.push(source);
            cursor.advance(self, cursor.sources.len() - 1)?;
        }
        Ok(cursor)
    }
}

/// A read that is under way.
pub struct LogReader<'a> {
    logs: &'a Logs,
    filter: Option<&'a Filter>,
    cursor: Cursor,
}

/// A place between two slices of one read.
#[derive(Debug)]
pub(crate) struct Cursor {
    /// Records that are still to be found at most.
    left: usize,
    reverse: bool,
    sources: Vec<Source>,
    /// The next record of each source that has one, the one to be read next on top.
    heads: BinaryHeap<Head>,
}

/// Time and number, turned round where the smallest is next; and the source.
type Head = (Order, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Up(Reverse<[u8; 16]>),
    Down([u8; 16]),
}

/// The log of one account, as far as it is still to be read.
#[derive(Debug)]
struct Source {
    from: Key,
    to: Key,
    /// Records that are read at once.
    page: usize,
    held: VecDeque<Record>,
}

impl LogReader<'_> {
    /// What is found among the next records, so many at most; `None` once there are no more.
    ///
    /// # Errors
    /// What the tables say.
    pub fn next_slice(
        &mut self,
        most: usize,
    ) -> Result<Option<Vec<Map<String, Value>>>, TablesError> {
        let filter = self.filter;
        let meets = |record: &Value| filter.is_none_or(|filter| meets(filter, record));
        self.cursor.next_slice(self.logs, most, meets)
    }
}

/// Whether a record is what the filter asks for.
pub(crate) fn meets(filter: &Filter, record: &Value) -> bool {
    filter.takes(record, &mut Budget::new(STEPS))
}

impl Cursor {
    /// What meets the condition among the next records, so many at most; `None` once there are no
    /// more.
    pub(crate) fn next_slice(
        &mut self,
        logs: &Logs,
        most: usize,
        meets: impl Fn(&Value) -> bool,
    ) -> Result<Option<Vec<Map<String, Value>>>, TablesError> {
        let mut found = Vec::new();
        if self.left == 0 {
            return Ok(None);
        }
        for visited in 0..most {
            let Some((_, source)) = self.heads.pop() else {
                return Ok((visited > 0).then_some(found));
            };
            let record = self.sources[source].held.pop_front();
            self.advance(logs, source)?;
            let record = record.and_then(|(_, text)| serde_json::from_slice(&text).ok());
            let Some(record @ Value::Object(_)) = record else { continue };
            if !meets(&record) {
                continue;
            }
            if let Value::Object(fields) = record {
                found.push(fields);
            }
            self.left -= 1;
            if self.left == 0 {
                break;
            }
        }
        Ok(Some(found))
    }

    /// Puts the next record of a source, if there is one, among the heads.
    fn advance(&mut self, logs: &Logs, at: usize) -> Result<(), TablesError> {
        let (source, reverse) = (&mut self.sources[at], self.reverse);
        if source.held.is_empty() {
            let Source { from, to, page, .. } = *source;
            source.held = logs.shelf.page(from, to, reverse, page)?.into();
            match source.held.back() {
                Some((last, _)) if reverse => source.to = *last,
                Some((last, _)) => source.from = after(*last),
                None => source.from = to,
            }
        }
        if let Some((key, _)) = source.held.front() {
            let mut order = [0; 16];
            order.copy_from_slice(&key[8..]);
            let order = if reverse { Order::Down(order) } else { Order::Up(Reverse(order)) };
            self.heads.push((order, at));
        }
        Ok(())
    }
}

/// The key right behind this one.
fn after(mut key: Key) -> Key {
    for byte in key.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    key
}

impl std::fmt::Debug for LogReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LogReader").field("filter", &self.filter).finish_non_exhaustive()
    }
}
