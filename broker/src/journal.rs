//! A shard's side of the journal: what it writes down in a turn, and what waits until that is
//! durable.
//!
//! The shard is a machine without I/O here, too. Its driver appends each turn's [`Batch`] before
//! the turn's mail and writes go out, and tells when it is durable. Each batch that was begun has
//! a number; an acknowledgement waits for that of the batch it was made with.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use hashbrown::HashMap;
use longshore_storage::{Ahead, Batch, DiskFile, Position, ReadError, Ticket};

use crate::connection::ConnectionId;
use crate::message::{Entry, Kept, Message, Parts};
use crate::record::{
    EVENTS, Encoded, Event, Head, LIST, MESSAGE, PAGE, Ref, encode_list, encode_page,
};
use crate::retained::is_large;
use crate::slots::SHARDS_MAX;

/// Bytes of the buffer for records that are read, which is kept.
const BODY_KEPT: usize = 64 << 10;

/// Reads what was written down.
pub trait ReadRecords: fmt::Debug + Send + Sync {
    /// Appends the body of the record at `position` to `body`. `ahead` may keep what stands behind
    /// it, for the next call.
    ///
    /// # Errors
    /// [`ReadError`]; `body` is as it was then.
    fn read(
        &self,
        position: Position,
        ahead: &mut Ahead,
        body: &mut Vec<u8>,
    ) -> Result<(), ReadError>;

    /// An empty file for what memory has no room for, if there is one. It goes with the process.
    fn spare_file(&self) -> Option<Arc<dyn DiskFile>> {
        None
    }
}

/// Whether the journal takes new work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Taking {
    /// Everything.
    #[default]
    All,
    /// The disk is full: only what makes room. New work that would have to be durable is refused.
    Relief,
    /// Nothing becomes durable any more, after an error of the disk.
    Nothing,
}

impl Taking {
    /// What is wrong with the disk, if something is.
    pub(crate) fn trouble(self) -> Option<&'static str> {
        match self {
            Self::All => None,
            Self::Relief => Some("the disk is full"),
            Self::Nothing => Some("the disk has failed"),
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Journal {
    reader: Arc<dyn ReadRecords>,
    ahead: Ahead,
    /// The record that was read last.
    body: Vec<u8>,
    batch: Batch,
    /// Events that follow the records of the batch.
    events: Vec<u8>,
    /// Refs of the message that is on its way.
    refs: Vec<u8>,
    /// Long refs that many messages may have, the last first.
    lists: VecDeque<List>,
    /// Messages of the batch whose place is not known yet, with the number of their record.
    unplaced: Vec<(usize, Arc<Entry>)>,
    /// Topics of the batch that retain a large message, each as the so many-th change.
    retained: Vec<(u64, Box<[u8]>, u64)>,
    head: Vec<u8>,
    /// Messages of the batch that are copied, by number, and their records.
    moving: HashMap<u64, usize>,
    /// The number of the batch that is being filled.
    number: u64,
    /// Batches that were appended and are not durable yet.
    appended: VecDeque<(u64, Ticket)>,
    /// All batches up to this one are durable.
    durable: u64,
    last_ticket: Option<Ticket>,
    /// Connections with output that waits for a batch.
    waiting: VecDeque<(u64, ConnectionId)>,
    pub(crate) taking: Taking,
    /// The last number given to a message of this shard, in steps of [`SHARDS_MAX`].
    messages: u64,
}

/// Refs that a message had, and the number of their record, once a second message has had them.
type List = (Vec<u8>, Option<u64>);

/// Bytes of refs that are written down with each message, however many have the same.
const LIST_MIN: usize = 32;
/// How many lists are remembered.
const LISTS: usize = 4;

impl Journal {
    /// The journal of shard `shard`, whose messages get numbers above `last`.
    pub(crate) fn new(reader: Arc<dyn ReadRecords>, shard: usize, last: u64) -> Self {
        let step = SHARDS_MAX as u64;
        Self {
            reader,
            ahead: Ahead::new(),
            body: Vec::new(),
            batch: Batch::new(),
            events: Vec::new(),
            refs: Vec::new(),
            lists: VecDeque::new(),
            unplaced: Vec::new(),
            retained: Vec::new(),
            head: Vec::new(),
            moving: HashMap::new(),
            number: 1,
            appended: VecDeque::new(),
            durable: 0,
            last_ticket: None,
            waiting: VecDeque::new(),
            taking: Taking::All,
            messages: (last / step + 1) * step + shard as u64,
        }
    }

    /// The number of the batch that is being filled.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The last batch with anything in it: when it is durable, so is all that was written down.
    pub(crate) fn written(&self) -> u64 {
        self.number - u64::from(self.bytes() == 0)
    }

    /// A number for a message.
    pub(crate) fn next_message(&mut self) -> u64 {
        self.messages += SHARDS_MAX as u64;
        self.messages
    }

    /// The last number that was given to a message.
    pub(crate) fn last_message(&self) -> u64 {
        self.messages
    }

    /// Notes an event.
    pub(crate) fn note(&mut self, event: &Event<'_>) {
        if self.taking != Taking::Nothing {
            event.encode(&mut self.events);
        }
    }

    /// Notes that the message on its way waits for `to`.
    pub(crate) fn refer(&mut self, to: &Ref) {
        to.encode(&mut self.refs);
    }

    /// Whether the message on its way waits for anybody.
    pub(crate) fn has_refs(&self) -> bool {
        !self.refs.is_empty()
    }

    /// Writes a message down with all that was [referred](Self::refer) since the last one.
    pub(crate) fn push_message(
        &mut self,
        head: &Head,
        parts: &Parts<'_>,
        entry: Option<&Arc<Entry>>,
    ) {
        self.push_events();
        if self.taking == Taking::Nothing {
            self.refs.clear();
            return;
        }
        self.head.clear();
        let refs = match self.list() {
            Some(list) => Encoded::Listed(list),
            None => Encoded::Here(&self.refs),
        };
        head.encode(parts, refs, &mut self.head);
        self.refs.clear();
        if let Some(entry) = entry {
            self.unplaced.push((self.batch.len(), Arc::clone(entry)));
            if let Some(sequence) = head.sequence.filter(|_| is_large(parts)) {
                self.retained.push((head.account, parts.topic.into(), sequence));
            }
        }
        self.batch.push_pieces(MESSAGE, &[&self.head, parts.payload]);
    }

    /// The list with the refs of the message on its way, if one before had the same.
    fn list(&mut self) -> Option<u64> {
        if self.refs.len() < LIST_MIN {
            return None;
        }
        let place = self.lists.iter().position(|(refs, _)| *refs == self.refs);
        let known = place.and_then(|place| self.lists.remove(place));
        let Some((refs, number)) = known else {
            let last = self.lists.len() >= LISTS;
            let last = last.then(|| self.lists.pop_back()).flatten();
            let (mut refs, _) = last.unwrap_or_default();
            refs.clone_from(&self.refs);
            self.lists.push_front((refs, None));
            return None;
        };
        let number = number.unwrap_or_else(|| {
            let number = self.next_message();
            let mut body = Vec::with_capacity(8 + refs.len());
            encode_list(number, &refs, &mut body);
            self.batch.push(LIST, &body);
            number
        });
        self.lists.push_front((refs, Some(number)));
        Some(number)
    }

    /// Begins new lists: those before go with the segments in which they stand.
    pub(crate) fn forget_lists(&mut self) {
        self.lists.clear();
    }

    /// Writes a page down: messages that sessions wait for one behind another. Its number.
    pub(crate) fn push_page(&mut self, numbers: impl Iterator<Item = u64>) -> u64 {
        self.push_events();
        let page = self.next_message();
        self.head.clear();
        encode_page(page, numbers, &mut self.head);
        if self.taking != Taking::Nothing {
            self.batch.push(PAGE, &self.head);
        }
        page
    }

    /// Writes a message down again.
    pub(crate) fn copy_message(&mut self, head: &Head, parts: &Parts<'_>, entry: &Arc<Entry>) {
        let refs = std::mem::take(&mut self.refs);
        self.push_message(head, parts, Some(entry));
        self.refs = refs;
        self.mark_moving(entry.number);
    }

    /// The batch has the record of the message, though it may stand elsewhere, too.
    pub(crate) fn mark_moving(&mut self, number: u64) {
        let record = self.unplaced.iter().rev().find(|(_, entry)| entry.number == number);
        self.moving.extend(record.map(|(record, _)| (number, *record)));
    }

    /// Whether the batch has the record of the message already. If so, the entry is soon of that
    /// place, too: there may be several of one message, for some come back from a file.
    pub(crate) fn follow(&mut self, entry: &Arc<Entry>) -> bool {
        let record = self.moving.get(&entry.number);
        self.unplaced.extend(record.map(|record| (*record, Arc::clone(entry))));
        record.is_some()
    }

    /// Whether entries are about to get another place.
    pub(crate) fn is_copying(&self) -> bool {
        !self.moving.is_empty()
    }

    /// Whether the message is being copied by this batch.
    pub(crate) fn is_moving(&self, number: u64) -> bool {
        self.moving.contains_key(&number)
    }

    /// The ticket of the last batch that was appended.
    pub(crate) fn last_ticket(&self) -> Option<Ticket> {
        self.last_ticket
    }

    /// Ends the record of events, so that what comes next stands behind them.
    pub(crate) fn push_events(&mut self) {
        if !self.events.is_empty() {
            self.batch.push(EVENTS, &self.events);
            self.events.clear();
        }
    }

    /// Nothing is taken any more: what could not be appended goes.
    pub(crate) fn give_up(&mut self) {
        self.taking = Taking::Nothing;
        self.batch.clear();
        self.events.clear();
        self.unplaced.clear();
        self.moving.clear();
        self.retained.clear();
    }

    /// An account's topic that retains a large message which was appended, as the so many-th
    /// change.
    pub(crate) fn next_retained(&mut self) -> Option<(u64, Box<[u8]>, u64)> {
        self.retained.pop()
    }

    /// What was written down since the last [`Journal::appended`].
    pub(crate) fn batch(&mut self) -> &mut Batch {
        self.push_events();
        if self.taking == Taking::Relief {
            // What is new is refused already; this was taken before, and has its room.
            self.batch.relieve();
        }
        &mut self.batch
    }

    /// Bytes that were written down and not appended yet.
    pub(crate) fn bytes(&self) -> usize {
        self.batch.bytes() + self.events.len()
    }

    /// The batch was appended, if there is anything in it.
    pub(crate) fn appended(&mut self, ticket: Option<Ticket>) {
        if let Some(ticket) = ticket {
            for (record, entry) in self.unplaced.drain(..) {
                entry.place(self.batch.spans()[record].start);
            }
            self.batch.clear();
            self.moving.clear();
            self.last_ticket = Some(ticket);
        }
        match self.last_ticket {
            Some(ticket) => self.appended.push_back((self.number, ticket)),
            None => self.durable = self.number,
        }
        self.number += 1;
    }

    /// Whether something waits for the batch that is being filled.
    pub(crate) fn is_awaited(&self) -> bool {
        self.waiting.back().is_some_and(|(number, _)| *number == self.number)
    }

    /// Everything up to `ticket` is durable; whether that is news to anybody.
    pub(crate) fn reached(&mut self, ticket: Ticket) -> bool {
        while let Some((number, _)) = self.appended.front().filter(|(_, it)| *it <= ticket) {
            self.durable = *number;
            self.appended.pop_front();
        }
        self.waiting.front().is_some_and(|(number, _)| *number <= self.durable)
    }

    /// All batches up to this one are durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable
    }

    /// Whether anybody waits for a batch.
    pub(crate) fn is_waiting(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The connection has output that waits for the batch that is being filled.
    pub(crate) fn wait(&mut self, id: ConnectionId) {
        self.waiting.push_back((self.number, id));
    }

    /// The next connection that waits for what will never be durable.
    pub(crate) fn forsaken(&mut self) -> Option<ConnectionId> {
        match self.taking {
            Taking::Nothing => self.waiting.pop_front().map(|(_, id)| id),
            _ => None,
        }
    }

    /// The next connection that need not wait any longer.
    pub(crate) fn released(&mut self) -> Option<ConnectionId> {
        let (number, id) = *self.waiting.front()?;
        (number <= self.durable).then(|| {
            self.waiting.pop_front();
            id
        })
    }

    /// The message, from the journal if it is not in memory.
    pub(crate) fn load(&mut self, kept: &Kept) -> Result<Arc<Message>, Lost> {
        match kept {
            Kept::Memory(message) => Ok(Arc::clone(message)),
            Kept::Disk(entry) => {
                let mut body = std::mem::take(&mut self.body);
                body.clear();
                let read = self.read(entry, &mut body);
                let entry = Some(entry).filter(|entry| entry.number != 0);
                let decoded = read.and_then(|()| Head::decode(&body).ok_or(Lost::Unreadable));
                let message =
                    decoded.map(|(head, parts, _)| Arc::new(Message::restore(&head, parts, entry)));
                body.shrink_to(BODY_KEPT);
                self.body = body;
                message
            }
        }
    }

    /// Appends the record of a message to `body`.
    pub(crate) fn read(&mut self, entry: &Arc<Entry>, body: &mut Vec<u8>) -> Result<(), Lost> {
        loop {
            let Some(place) = entry.position() else {
                // It is of this turn.
                let mut unplaced = self.unplaced.iter();
                let (record, _) =
                    unplaced.find(|(_, it)| Arc::ptr_eq(it, entry)).ok_or(Lost::Unreadable)?;
                body.extend_from_slice(self.batch.record(*record).1);
                return Ok(());
            };
            match self.reader.read(place, &mut self.ahead, body) {
                // It was moved while we looked.
                Err(ReadError::Gone(_)) if entry.position() != Some(place) => {}
                read => return read.map_err(Lost::Read),
            }
        }
    }
}

/// Why a message that was written down cannot be had.
#[derive(Debug)]
pub(crate) enum Lost {
    Read(ReadError),
    /// The record is not that of a message.
    Unreadable,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(f),
            Self::Unreadable => f.write_str("the record is not that of a message"),
        }
    }
}
