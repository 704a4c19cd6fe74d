//! Compaction: everything that lives is written down anew, so that all older segments can go.
//!
//! A round begins at a segment, its base. Once a shard has got all mail that others wrote down
//! before they began it, it walks over its sessions, shared groups and part of what is retained, a
//! slice a turn: first it copies messages whose record lies before the base, then it writes the
//! holder down as a whole, in one record. What happens meanwhile is written down as ever, behind
//! the base. When all shards are through and what they wrote is durable, the segments before the
//! base are retired. Until then nothing is lost: a replay of everything, old and new, gives the
//! same.

use std::ops::Range;
use std::sync::Arc;

use longshore_acl::ROOT_ACCOUNT;
use longshore_codec::QoS;
use longshore_storage::{Batch, Position, ReadError, Ticket};
use tracing::error;

use super::Shard;
use super::durable::{session_event, subscribe_event, will_event};
use crate::journal::Lost;
use crate::mail::{Mail, To};
use crate::message::{Entry, Kept, Message, Parts};
use crate::record::{Event, GROUP_BIT, Head, Ref};
use crate::retained::{Found, Place};
use crate::session::{Manner, Open, Pending, Progress, SessionId, Span};
use crate::share::Group;
use crate::slots::SHARDS_MAX;

/// Bytes that a slice writes down, about.
pub(crate) const SLICE_BYTES: usize = 256 << 10;
/// Things that a slice looks at.
const SLICE_VISITS: usize = 4_096;
/// Retained messages that are looked at together.
const RETAINED_VISITS: usize = 256;

/// Bytes that a message takes in the journal beside its own, with one who waits for it.
const PENDING_BYTES: usize = 96;
/// Bytes that messages which wait on the disk take there in one record of a session.
const SPAN_BYTES: usize = 48;
/// Bytes that a session takes there, beside its topic filters.
const SESSION_BYTES: usize = 256;

/// How far a shard has come in a round.
#[derive(Debug)]
pub(super) struct Round {
    /// Of all rounds of this shard, which it is.
    number: u32,
    /// What begins in an earlier segment is written down anew.
    base: u32,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// What was written down in segments that are to go has to come first.
    Mail,
    /// The session at this place is next; `at` of its messages were looked at.
    Sessions {
        place: u32,
        at: usize,
        /// How far those were looked at that wait on the disk, and of which session.
        progress: (Option<SessionId>, Progress),
    },
    /// The groups that are left, and how many messages of the last one were looked at.
    Groups {
        left: Vec<Arc<Group>>,
        at: usize,
    },
    /// Topics behind this one are next.
    Retained(Place),
    Done,
}

/// What a slice may still do.
struct Budget {
    visits: usize,
    bytes: usize,
}

impl Budget {
    fn is_spent(&self) -> bool {
        self.visits == 0 || self.bytes == 0
    }

    fn visit(&mut self) {
        self.visits = self.visits.saturating_sub(1);
    }

    fn spend(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

impl Shard {
    /// Begins a round of compaction: what stands before segment `base` is to be written down anew.
    pub fn compact(&mut self, base: u32) {
        self.commons.set_base(base);
        if let Some(journal) = self.journal.as_deref_mut() {
            journal.forget_lists();
        }
        self.rounds += 1;
        self.round = Some(Round { number: self.rounds, base, stage: Stage::Mail });
        let nothing = Parts { topic: &[], properties: &[], payload: &[], shared: None };
        let nothing = Arc::new(Message::new(nothing, QoS::AtMostOnce, false, None));
        for shard in (0..self.shards).filter(|shard| *shard != self.number) {
            self.outbox.push((shard, Mail { message: Arc::clone(&nothing), to: To::Round }));
        }
    }

    /// Whether the round waits for what other shards have sent before they began it.
    #[must_use]
    pub fn awaits_mail(&self) -> bool {
        self.round.as_ref().is_some_and(|round| self.lacks_mail(&round.stage))
    }

    fn lacks_mail(&self, stage: &Stage) -> bool {
        matches!(stage, Stage::Mail) && self.rounds_heard < self.shards - 1
    }

    /// Whether a round is under way.
    #[must_use]
    pub fn is_compacting(&self) -> bool {
        self.round.is_some()
    }

    /// Bytes that a round would write down now, about. Takes a look at every session.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        let of_pending = |count: usize, bytes: usize| (bytes + count * PENDING_BYTES) as u64;
        let sessions = self.sessions.keys().filter_map(|id| self.sessions.get(id));
        let sessions = sessions.filter(|session| session.holder != 0).map(|session| {
            let outbound = &session.outbound;
            let count = outbound.in_memory().len() + outbound.in_flight().count();
            let spans = outbound.on_disk().spans().len() * SPAN_BYTES;
            let filters = session.subscription_bytes;
            let in_memory = of_pending(count, outbound.bytes_in_memory());
            in_memory + (spans + SESSION_BYTES + filters) as u64
        });
        let (count, bytes) = self.pages.messages();
        let own = sessions.sum::<u64>() + of_pending(count, bytes);
        if self.number != 0 {
            return own;
        }
        let groups = self.commons.all_groups();
        let of_group = |group: &Arc<Group>| {
            let turns = group.lock();
            of_pending(turns.backlog().len(), turns.backlog_bytes())
        };
        let retained = &self.commons.retained;
        own + groups.iter().map(of_group).sum::<u64>()
            + of_pending(retained.len(), retained.bytes())
    }

    /// How many changes of what is retained there were: at the beginning of a round, what
    /// [`Shard::note_compacted`] is to be told at its end.
    #[must_use]
    pub fn retained_changes(&self) -> u64 {
        self.commons.retained.last_sequence()
    }

    /// Notes that a round is complete: all shards are through, and what they wrote is appended.
    /// `messages` is the last number that one of them has given to a message.
    pub fn note_compacted(&mut self, sequence: u64, messages: u64) {
        let holders = self.commons.last_holder();
        if let Some(journal) = self.journal.as_deref_mut() {
            journal.note(&Event::Compacted { holders, messages, sequence });
        }
    }

    /// The ticket of what was appended last.
    #[must_use]
    pub fn last_ticket(&self) -> Option<Ticket> {
        self.journal.as_deref().and_then(|journal| journal.last_ticket())
    }

    /// The last number that this shard has given to a message.
    #[must_use]
    pub fn last_message(&self) -> u64 {
        self.journal.as_deref().map_or(0, |journal| journal.last_message())
    }

    /// Goes on with the round, a slice, once everything before was appended. `append` appends to
    /// the journal at once, with a lock held. True when the round is complete: what it wrote down
    /// is in the batch.
    pub fn compact_slice(&mut self, append: &mut dyn FnMut(&mut Batch) -> Option<Ticket>) -> bool {
        let Some(mut round) = self.round.take() else { return false };
        let mut budget = Budget { visits: SLICE_VISITS, bytes: SLICE_BYTES };
        while !budget.is_spent() && !self.must_wait(&round.stage) {
            let stage = std::mem::replace(&mut round.stage, Stage::Mail);
            round.stage = match stage {
                Stage::Mail => {
                    self.rounds_heard -= self.shards - 1;
                    Stage::Sessions { place: 0, at: 0, progress: Default::default() }
                }
                Stage::Sessions { place, at, progress } => {
                    self.compact_sessions(&round, place, at, progress, &mut budget)
                }
                Stage::Groups { left, at } => {
                    self.compact_groups(round.base, left, at, append, &mut budget)
                }
                Stage::Retained(place) => self.compact_retained(&place, &mut budget),
                Stage::Done => return true,
            };
        }
        let is_done = matches!(round.stage, Stage::Done);
        self.round = (!is_done).then_some(round);
        is_done
    }

    /// Whether the round cannot go on within this turn.
    fn must_wait(&self, stage: &Stage) -> bool {
        match stage {
            // What this shard has done to the groups stands before what they hold then.
            Stage::Groups { .. } => self.unappended() > 0,
            stage => self.lacks_mail(stage),
        }
    }

    fn compact_sessions(
        &mut self,
        round: &Round,
        place: u32,
        at: usize,
        (of, mut progress): (Option<SessionId>, Progress),
        budget: &mut Budget,
    ) -> Stage {
        let Some(id) = self.sessions.key_from(place) else {
            // Groups are of no shard: the first one sees to them.
            let left = if self.number == 0 { self.commons.all_groups() } else { Vec::new() };
            return Stage::Groups { left, at: 0 };
        };
        budget.visit();
        let place = id.index();
        if of != Some(id) {
            progress = Progress::default();
        }
        if let Some(at) = self.copy_messages(id, round.base, at, budget) {
            return Stage::Sessions { place, at, progress: (Some(id), progress) };
        }
        if !self.copy_pages(id, &mut progress, round, budget) {
            return Stage::Sessions { place, at: 0, progress: (Some(id), progress) };
        }
        self.write_session(id, round.base, budget);
        Stage::Sessions { place: place + 1, at: 0, progress: Default::default() }
    }

    /// Copies messages of the session from the `at`th on; where to go on, if there are more.
    fn copy_messages(
        &mut self,
        id: SessionId,
        base: u32,
        mut at: usize,
        budget: &mut Budget,
    ) -> Option<usize> {
        let mut is_whole = at == 0;
        loop {
            let session = self.sessions.get(id)?;
            let Some(kept) = session.outbound.message_at(at) else {
                if is_whole {
                    return None;
                }
                // Acknowledgements have moved what was behind: nothing may be passed over.
                (at, is_whole) = (0, true);
                continue;
            };
            let kept = kept.filter(|kept| kept.is_before(base)).cloned();
            at += 1;
            if let Some(kept) = kept {
                if budget.is_spent() {
                    return Some(at - 1);
                }
                budget.visit();
                self.copy(&kept, budget);
            }
        }
    }

    /// Copies messages that wait on the disk for the session, and writes down the pages on which
    /// they stand, as far as that is not done. Whether that is all of them.
    fn copy_pages(
        &mut self,
        id: SessionId,
        progress: &mut Progress,
        round: &Round,
        budget: &mut Budget,
    ) -> bool {
        loop {
            let Some(session) = self.sessions.get(id) else { return true };
            let Some(span) = session.outbound.on_disk().at(progress) else { return true };
            if budget.is_spent() {
                return false;
            }
            let (page, range) = (Arc::clone(&span.page), span.range());
            if !page.lock().is_told(round.number, &range) {
                let mut content = page.open();
                if !self.copy_page(&mut content, &range, round, budget) {
                    return false;
                }
                self.write_page(&mut content, &range, round, budget);
            }
            budget.visit();
            progress.pass();
        }
    }

    /// Copies these messages of a page; whether that is all of them.
    fn copy_page(
        &mut self,
        content: &mut Open<'_, Arc<Entry>>,
        range: &Range<u16>,
        round: &Round,
        budget: &mut Budget,
    ) -> bool {
        let mut at = content.unseen(round.number, range);
        while at < range.end {
            if budget.is_spent() {
                return false;
            }
            let entry = Arc::clone(&content.entries()[usize::from(at)]);
            at += 1;
            content.see(at);
            if entry.is_before(round.base) {
                budget.visit();
                self.copy(&Kept::Disk(entry), budget);
            }
        }
        true
    }

    /// Writes a page down, unless the round has done so with these messages.
    fn write_page(
        &mut self,
        content: &mut Open<'_, Arc<Entry>>,
        range: &Range<u16>,
        round: &Round,
        budget: &mut Budget,
    ) {
        let (number, _, count) = content.told;
        if number == round.number && count >= range.end {
            return;
        }
        let Some(journal) = self.journal.as_deref_mut() else { return };
        let page = journal.push_page(content.entries().iter().map(|entry| entry.number));
        content.told = (round.number, page, content.len());
        budget.spend(8 * usize::from(content.len()));
    }

    /// Writes a message down again, behind all that is there.
    fn copy(&mut self, kept: &Kept, budget: &mut Budget) {
        if let (Some(journal), Some(entry)) = (self.journal.as_deref_mut(), kept.entry())
            && journal.follow(entry)
        {
            return;
        }
        budget.spend(kept.size());
        match kept {
            Kept::Memory(message) => self.copy_from_memory(message),
            Kept::Disk(entry) => {
                let Some(journal) = self.journal.as_deref_mut() else { return };
                let mut body = Vec::new();
                let read = journal.read(entry, &mut body);
                match (read, Head::decode(&body)) {
                    (Ok(()), Some((head, parts, _))) => {
                        journal.copy_message(&head.alone(), &parts, entry);
                    }
                    (read, _) => {
                        let cause = read.err().map_or_else(String::new, |lost| lost.to_string());
                        error!(cause, number = entry.number, "a message cannot be read");
                        // It is lost, and not to be looked for again.
                        entry.place(Position { segment: u32::MAX, offset: 0 });
                    }
                }
            }
        }
    }

    fn copy_from_memory(&mut self, message: &Arc<Message>) {
        let Some(entry) = message.entry() else { return };
        let Some(journal) = self.journal.as_deref_mut() else { return };
        let Message { qos, retain, expiry, .. } = **message;
        let head = Head::of(entry.number, qos, retain, expiry);
        journal.copy_message(&head, &message.parts(), entry);
    }

    /// Sees to it that a message which changes hands is not lost with an older segment: whoever had
    /// it may have been written down anew already, or whoever gets it.
    pub(super) fn renew(&mut self, message: &Arc<Message>) {
        let base = self.commons.base();
        if base > 0 && message.entry().is_some_and(|entry| entry.is_before(base)) {
            self.copy(&Kept::Memory(Arc::clone(message)), &mut Budget { visits: 1, bytes: 1 });
        }
    }

    /// The same for one that may be on the disk alone.
    pub(super) fn renew_kept(&mut self, kept: &Kept) {
        let base = self.commons.base();
        if base > 0 && kept.is_before(base) {
            self.copy(kept, &mut Budget { visits: 1, bytes: 1 });
        }
    }

    /// Whether this batch has the record of the message. An earlier one need not be there any more
    /// after a restart: those who waited for it may be done with it. And what another shard is
    /// about to write down may be appended, and durable, after what this one notes of it.
    pub(super) fn is_in_batch(&self, message: &Message) -> bool {
        let (Some(entry), Some(journal)) = (message.entry(), self.journal.as_deref()) else {
            return false;
        };
        let is_own = entry.number % SHARDS_MAX as u64 == self.number as u64;
        is_own && entry.position().is_none() || journal.is_moving(entry.number)
    }

    /// Writes the session down as a whole.
    fn write_session(&mut self, id: SessionId, base: u32, budget: &mut Budget) {
        let Some(session) = self.sessions.get(id) else { return };
        let Some(journal) = self.journal.as_deref_mut() else { return };
        let before = journal.bytes();
        journal.push_events();
        let holder = session.holder;
        if holder != 0 {
            let event = session_event(session);
            journal.note(&Event::Whole { holder, base });
            journal.note(&Event::Session { holder, fresh: true, session: event });
            for (filter, subscription) in session.all_subscriptions() {
                journal.note(&subscribe_event(session, filter, subscription));
            }
            if let Some(will) = session.will() {
                journal.note(&Event::Will { holder, will: will_event(will) });
            }
            for packet_id in session.unreleased() {
                journal.note(&Event::Inbound { holder, packet_id });
            }
        }
        for (packet_id, pending) in session.outbound.in_flight() {
            match pending {
                Some(pending) => note_pending(pending, Some(packet_id), |event| {
                    journal.note(event);
                }),
                None if holder != 0 => {
                    journal.note(&Event::Received { holder, number: 0, packet_id });
                }
                None => {}
            }
        }
        for (span, manner) in session.outbound.on_disk().spans() {
            note_span(span, manner, |event| journal.note(event));
        }
        for pending in session.outbound.in_memory() {
            note_pending(pending, None, |event| journal.note(event));
        }
        journal.push_events();
        budget.spend(journal.bytes() - before);
    }

    fn compact_groups(
        &mut self,
        base: u32,
        mut left: Vec<Arc<Group>>,
        mut at: usize,
        append: &mut dyn FnMut(&mut Batch) -> Option<Ticket>,
        budget: &mut Budget,
    ) -> Stage {
        let Some(group) = left.last().map(Arc::clone) else {
            return Stage::Retained(Place::default());
        };
        let turns = group.lock();
        budget.visit();
        let mut old = Vec::new();
        let from = at;
        for pending in turns.backlog().skip(from) {
            at += 1;
            if pending.message.is_before(base) {
                old.push(pending.message.clone());
                budget.spend(pending.message.size());
                if budget.bytes == 0 {
                    break;
                }
            }
        }
        if !old.is_empty() || from > 0 {
            // What was taken meanwhile has moved the others: look again, until all are copied.
            let again = if old.is_empty() { 0 } else { at - old.len() };
            drop(turns);
            old.iter().for_each(|kept| self.copy(kept, &mut Budget { visits: 1, bytes: 1 }));
            return Stage::Groups { left, at: again.min(from) };
        }
        let mut events = Vec::new();
        for pending in turns.backlog() {
            note_pending(pending, None, |event| event.encode(&mut events));
        }
        if !events.is_empty() {
            let mut batch = Batch::new();
            batch.push(crate::record::EVENTS, &events);
            // With the lock held: nobody takes a message, and is written down, before this is.
            if append(&mut batch).is_none() {
                budget.visits = 0;
                return Stage::Groups { left, at: 0 };
            }
        }
        drop(turns);
        left.pop();
        Stage::Groups { left, at: 0 }
    }

    fn compact_retained(&mut self, place: &Place, budget: &mut Budget) -> Stage {
        let mut of = ROOT_ACCOUNT;
        let mut slice = std::mem::take(&mut self.slice);
        let retained = &self.commons.retained;
        let next = retained.slice(self.number, place, RETAINED_VISITS, |account, item| {
            of = account;
            slice.take(item, RETAINED_VISITS, budget.bytes)
        });
        // Also where all of them are being deleted, and none is taken.
        budget.visits = budget.visits.saturating_sub(RETAINED_VISITS);
        for (sequence, found) in slice.iter() {
            self.copy_retained(of, sequence, found, budget);
        }
        slice.clear();
        self.slice = slice;
        next.map_or(Stage::Done, Stage::Retained)
    }

    /// Writes a retained message down again. A large one is then where that record is.
    fn copy_retained(
        &mut self,
        account: u64,
        sequence: u64,
        found: Found<'_>,
        budget: &mut Budget,
    ) {
        let Some(journal) = self.journal.as_deref_mut() else { return };
        let sequence = Some(sequence);
        match found {
            Found::Small { parts, qos, expiry } => {
                budget.spend(parts.topic.len() + parts.properties.len() + parts.payload.len());
                let head = Head { sequence, account, ..Head::of(0, qos, true, expiry) };
                journal.push_message(&head, &parts, None);
            }
            Found::Large(kept @ Kept::Memory(message)) => {
                budget.spend(kept.size());
                let Message { qos, retain, expiry, .. } = **message;
                let alone = Head::of(kept.number(), qos, retain, expiry);
                let head = Head { sequence, account, ..alone };
                journal.push_message(&head, &message.parts(), kept.entry());
            }
            Found::Large(kept @ Kept::Disk(entry)) => {
                budget.spend(kept.size());
                let mut body = Vec::new();
                match (journal.read(entry, &mut body), Head::decode(&body)) {
                    (Ok(()), Some((head, parts, _))) => {
                        let head = Head { sequence, account, ..head.alone() };
                        journal.copy_message(&head, &parts, entry);
                    }
                    // It is not retained any more, and was not when the last round came by.
                    (Err(Lost::Read(ReadError::Gone(_))), _) => {}
                    (read, _) => {
                        let cause = read.err().map_or_else(String::new, |lost| lost.to_string());
                        error!(cause, number = entry.number, "a retained message cannot be read");
                    }
                }
            }
        }
    }
}

/// Notes for whom messages of a page wait, which is written down.
fn note_span(span: &Span<Arc<Entry>>, manner: &Manner, mut note: impl FnMut(&Event<'_>)) {
    let range = span.range();
    if manner.holder & GROUP_BIT == 0 {
        let page = span.page.lock().told.1;
        let (from, len) = (range.start, range.len() as u16);
        return note(&Event::Refs { page, from, len, to: manner.to_ref(None) });
    }
    let content = span.page.open();
    for place in range {
        let message = Kept::Disk(Arc::clone(&content.entries()[usize::from(place)]));
        note_pending(&Pending { message, manner: manner.clone() }, None, &mut note);
    }
}

/// Notes for whom a message waits.
fn note_pending(
    pending: &Pending,
    packet_id: Option<longshore_codec::PacketId>,
    mut note: impl FnMut(&Event<'_>),
) {
    if pending.manner.holder == 0 {
        return;
    }
    let number = pending.message.number();
    let to = match pending.manner.holder & GROUP_BIT {
        0 => pending.manner.to_ref(packet_id),
        _ => Ref::in_group(pending.manner.holder, pending.message.qos(), pending.manner.retain),
    };
    note(&Event::Ref { number, to });
}
