//! QoS 1 and 2 messages on their way to one client: the window of those in flight and the queue
//! of those that wait for it.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

use longshore_codec::{PacketId, QoS};

use super::page::{Pages, Place};
use super::pending::{Manner, Pending, Recorded};
use super::queue::Queue;
use crate::message::{Entry, Kept};
use crate::share::Group;

#[derive(Debug)]
enum State {
    /// PUBLISH is to be acknowledged.
    Published(Pending),
    /// PUBREC came, and PUBREL is to be sent on this connection.
    Received,
    /// PUBREL was sent on this connection, PUBCOMP is to come.
    Released,
    /// Acknowledged, or never used; here only to keep the places of the others.
    Done,
}

#[derive(Debug)]
struct InFlight {
    id: PacketId,
    state: State,
    /// Whether the message was sent on this connection, so that it counts against the window.
    counted: bool,
}

impl InFlight {
    fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }
}

/// What the client's acknowledgement did.
#[derive(Debug)]
pub(crate) enum Settled {
    /// The message is delivered; its size is free again.
    Delivered(Recorded),
    /// PUBREL is to be sent; the message, if it was there until now.
    Release(Recorded),
    /// The exchange of a QoS 2 message is complete.
    Complete,
    /// Nothing in flight has this id, or not in this state.
    Unknown,
}

/// What to send next.
#[derive(Debug)]
pub(crate) enum Step {
    Publish { id: PacketId, duplicate: bool, pending: Pending },
    Release { id: PacketId },
}

/// The sending side of a session.
///
/// The window holds messages in the order they were first sent. Packet ids go round in order, so
/// an id's place is its distance from the last id, and every acknowledgement is found at once.
///
/// A message that its client leaves unacknowledged holds no others up: when much behind it is done,
/// it becomes a straggler. Stragglers stand at the front, where only a search finds them, and the
/// ring of ids behind them passes over theirs.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    window: VecDeque<InFlight>,
    /// Entries at the front that are out of the ring.
    stragglers: u16,
    /// Entries of the window that are done.
    done: u16,
    /// The id given last, which the window's last entry has; 0 before the first.
    last: u16,
    /// Entries before this place were sent on this connection.
    cursor: u16,
    /// Entries before this place are due no PUBREL on this connection.
    unreleased: u16,
    /// Messages sent on this connection and not acknowledged.
    counted: u16,
    /// How many of those the client allows; 0 while it is away.
    quota: u16,
    /// What waits on the disk, ahead of what waits in memory: that came after the client did.
    on_disk: Queue<Arc<Entry>, Manner>,
    queue: VecDeque<Pending>,
    /// Whether the log has been told that the oldest of the queue go.
    dropping: bool,
    /// Bytes of those in flight, and of those that wait in memory.
    bytes: usize,
    /// Bytes of memory that those in flight, and those that wait in memory, are accounted with.
    memory: usize,
}

/// Packet ids there are.
const IDS: u16 = u16::MAX;

/// Done entries that a window may keep for the sake of places, whatever else it holds...
const DONE_MIN: usize = 64;
/// ...for each entry that is not done...
const DONE_EACH: usize = 16;
/// ...and in all. While fewer than 10,000 messages are unacknowledged, there is always an id.
const DONE_MAX: usize = IDS as usize / 4;

impl Outbound {
    /// Messages that wait beyond those in flight.
    pub(crate) fn queued(&self) -> usize {
        self.on_disk.len() + self.queue.len()
    }

    /// Bytes of the messages in flight and waiting.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.on_disk.size()
    }

    /// Bytes of the messages in flight and of those that wait in memory.
    pub(crate) fn bytes_in_memory(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory that are free without it.
    pub(crate) fn weight(&self) -> usize {
        self.memory + self.on_disk.weight()
    }

    /// Bytes of memory that they are accounted with, beside the pages on which others wait, too.
    pub(crate) fn memory(&self) -> usize {
        self.memory + self.on_disk.memory()
    }

    fn count(&mut self, message: &Kept) {
        self.bytes += message.size();
        self.memory += message.memory();
    }

    fn discount(&mut self, message: &Kept) {
        self.bytes -= message.size();
        self.memory -= message.memory();
    }

    /// Whether a message given now could be sent now.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.counted < self.quota
            && self.queued() == 0
            && usize::from(self.cursor) == self.window.len()
            && self.has_id()
    }

    /// Whether an id is free: the ring may have to pass over that of every straggler to find it,
    /// and has places for that.
    fn has_id(&self) -> bool {
        self.window.len() + usize::from(self.stragglers) < usize::from(IDS)
    }

    /// How many messages could be sent now, at least.
    pub(crate) fn room(&self) -> usize {
        if !self.has_room() {
            return 0;
        }
        let ids = usize::from(IDS) - self.window.len();
        let passed = 2 * usize::from(self.stragglers);
        usize::from(self.quota - self.counted).min(ids.saturating_sub(passed)).max(1)
    }

    /// Whether nothing waits to be sent.
    pub(crate) fn is_drained(&self) -> bool {
        self.queued() == 0 && usize::from(self.cursor) == self.window.len()
    }

    /// The client is there and takes `quota` messages at once. What was in flight is sent again.
    pub(crate) fn connect(&mut self, quota: u16) {
        assert!(quota > 0, "a client always takes one message");
        self.quota = quota;
        self.cursor = 0;
        self.unreleased = 0;
        self.counted = 0;
        for entry in &mut self.window {
            entry.counted = false;
            if matches!(entry.state, State::Released) {
                entry.state = State::Received;
            }
        }
    }

    /// The client is gone.
    pub(crate) fn disconnect(&mut self) {
        self.quota = 0;
    }

    /// Takes a message into the window, which must have room; its packet id.
    #[inline]
    pub(crate) fn send(&mut self, pending: Pending) -> PacketId {
        debug_assert!(self.has_room());
        self.count(&pending.message);
        self.enter(pending)
    }

    fn enter(&mut self, pending: Pending) -> PacketId {
        let id = self.take_id();
        let state = State::Published(pending);
        self.window.push_back(InFlight { id, state, counted: true });
        self.cursor = self.window.len() as u16;
        self.counted += 1;
        id
    }

    /// The next id that is not in use. Where one is passed over, the ring gets an entry that is
    /// done, so that it has no gap.
    fn take_id(&mut self) -> PacketId {
        debug_assert!(self.has_id());
        loop {
            self.last = self.last % IDS + 1;
            let id = NonZeroU16::new(self.last).expect("1 was added");
            if self.stragglers == 0 || self.straggler(id).is_none() {
                return id;
            }
            self.window.push_back(InFlight { id, state: State::Done, counted: false });
            self.done += 1;
        }
    }

    /// The place of the entry with this id that is not done.
    #[inline]
    fn place_of(&self, id: PacketId) -> Option<usize> {
        let id_last = u32::from(self.last) + u32::from(IDS);
        let distance = (id_last - u32::from(id.get())) % u32::from(IDS);
        let ring = self.window.len() - usize::from(self.stragglers);
        let place = self.window.len().wrapping_sub(1 + distance as usize);
        if (distance as usize) < ring && !self.window[place].is_done() {
            return Some(place);
        }
        if self.stragglers == 0 { None } else { self.straggler(id) }
    }

    #[cold]
    fn straggler(&self, id: PacketId) -> Option<usize> {
        let mut stragglers = self.window.range(..usize::from(self.stragglers));
        stragglers.position(|entry| entry.id == id && !entry.is_done())
    }

    /// Queues a message behind the others.
    pub(crate) fn push(&mut self, pending: Pending) {
        self.count(&pending.message);
        self.queue.push_back(pending);
    }

    /// Queues a message behind the others while the client is away: on the disk, if it is there or
    /// is about to be by this `shard`. `place` and `pages` as for [`Queue::push`].
    pub(crate) fn push_to_disk(
        &mut self,
        mut pending: Pending,
        shard: usize,
        place: &mut Place<Arc<Entry>>,
        pages: &Arc<Pages<Arc<Entry>>>,
    ) {
        if !self.queue.is_empty() {
            self.leave_queue_to_disk(shard, pages);
        }
        pending.message.leave_to_disk(shard);
        match &pending.message {
            Kept::Disk(entry) if self.queue.is_empty() => {
                let entry = Arc::clone(entry);
                self.on_disk.push(entry, pending.manner, place, pages);
            }
            _ => self.push(pending),
        }
    }

    /// Takes what waited on the disk when the broker stopped.
    pub(crate) fn restore_queue(&mut self, queue: Queue<Arc<Entry>, Manner>) {
        debug_assert!(self.queued() == 0);
        self.on_disk = queue;
    }

    /// The number in the journal of the oldest message that waits; 0 for none.
    pub(crate) fn oldest(&self) -> u64 {
        match self.on_disk.front() {
            Some(entry) => entry.number,
            None => self.queue.front().map_or(0, |pending| pending.message.number()),
        }
    }

    /// Takes the oldest message that waits.
    fn pop(&mut self) -> Option<Pending> {
        let pending = match self.on_disk.pop() {
            Some((entry, manner)) => {
                let pending = Pending { message: Kept::Disk(entry), manner };
                self.count(&pending.message);
                pending
            }
            None => self.queue.pop_front()?,
        };
        self.dropping &= self.queued() > 0;
        Some(pending)
    }

    /// Drops the oldest message that waits; also says whether none was dropped since the queue was
    /// empty.
    pub(crate) fn drop_oldest(&mut self) -> Option<(Pending, bool)> {
        let is_news = !self.dropping;
        let pending = self.pop()?;
        self.discount(&pending.message);
        self.dropping = true;
        Some((pending, is_news))
    }

    /// Takes what was in flight when the broker stopped: the next one, in the order they were
    /// sent. Without a message it waits for PUBCOMP.
    pub(crate) fn restore(&mut self, id: PacketId, pending: Option<Pending>) {
        debug_assert_eq!(self.window.len(), usize::from(self.stragglers));
        let state = match pending {
            Some(pending) => {
                self.count(&pending.message);
                State::Published(pending)
            }
            None => State::Received,
        };
        self.window.push_back(InFlight { id, state, counted: false });
        // Their ids may have any order, and gaps: the ring begins behind them.
        self.stragglers += 1;
        self.last = id.get();
    }

    /// Everything in the window that is not done, in order: its id and its message, if it still
    /// has one.
    pub(crate) fn in_flight(&self) -> impl Iterator<Item = (PacketId, Option<&Pending>)> {
        self.window.iter().filter_map(|entry| match &entry.state {
            State::Published(pending) => Some((entry.id, Some(pending))),
            State::Received | State::Released => Some((entry.id, None)),
            State::Done => None,
        })
    }

    /// What waits on the disk.
    pub(crate) fn on_disk(&self) -> &Queue<Arc<Entry>, Manner> {
        &self.on_disk
    }

    /// What waits in memory, behind that, in order.
    pub(crate) fn in_memory(&self) -> impl ExactSizeIterator<Item = &Pending> {
        self.queue.iter()
    }

    /// The `at`th message of those in flight and behind them those that wait in memory.
    pub(crate) fn message_at(&self, at: usize) -> Option<Option<&Kept>> {
        match at.checked_sub(self.window.len()) {
            Some(at) => self.queue.get(at).map(|pending| Some(&pending.message)),
            None => self.window.get(at).map(|entry| match &entry.state {
                State::Published(pending) => Some(&pending.message),
                _ => None,
            }),
        }
    }

    /// Leaves messages to the journal, as far as they are there: nobody will ask for them soon.
    pub(crate) fn leave_to_disk(&mut self, shard: usize, pages: &Arc<Pages<Arc<Entry>>>) {
        for entry in &mut self.window {
            let State::Published(pending) = &mut entry.state else { continue };
            let before = pending.message.memory();
            pending.message.leave_to_disk(shard);
            self.memory = self.memory - before + pending.message.memory();
        }
        self.leave_queue_to_disk(shard, pages);
    }

    /// The same for what waits, up to the first that cannot be left yet.
    fn leave_queue_to_disk(&mut self, shard: usize, pages: &Arc<Pages<Arc<Entry>>>) {
        while let Some(pending) = self.queue.front_mut() {
            let before = pending.message.memory();
            pending.message.leave_to_disk(shard);
            self.memory = self.memory - before + pending.message.memory();
            let Kept::Disk(entry) = &pending.message else { return };
            let entry = Arc::clone(entry);
            let Some(pending) = self.queue.pop_front() else { return };
            self.discount(&pending.message);
            self.on_disk.push(entry, pending.manner, &mut None, pages);
        }
    }

    /// The next packet to send, while the window has room. `keep` says no to messages that need
    /// not be sent any more: they go, and take no place in the window.
    pub(crate) fn step(&mut self, mut keep: impl FnMut(&Pending) -> bool) -> Option<Step> {
        while let Some(entry) = self.window.get_mut(usize::from(self.cursor)) {
            match &entry.state {
                State::Done | State::Released => {}
                State::Received => {
                    entry.state = State::Released;
                    self.cursor += 1;
                    return Some(Step::Release { id: entry.id });
                }
                State::Published(_) if self.counted >= self.quota => return self.step_release(),
                State::Published(pending) => {
                    entry.counted = true;
                    self.counted += 1;
                    self.cursor += 1;
                    let pending = pending.clone();
                    return Some(Step::Publish { id: entry.id, duplicate: true, pending });
                }
            }
            self.cursor += 1;
        }
        while self.counted < self.quota && self.has_id() {
            let pending = self.pop()?;
            if !keep(&pending) {
                self.discount(&pending.message);
                continue;
            }
            let id = self.enter(pending.clone());
            return Some(Step::Publish { id, duplicate: false, pending });
        }
        None
    }

    /// The next PUBREL behind messages that the window has no room for: it waits for no window
    /// [MQTT-3.3.4-10].
    fn step_release(&mut self) -> Option<Step> {
        self.unreleased = self.unreleased.max(self.cursor);
        for entry in self.window.range_mut(usize::from(self.unreleased)..) {
            self.unreleased += 1;
            if matches!(entry.state, State::Received) {
                entry.state = State::Released;
                return Some(Step::Release { id: entry.id });
            }
        }
        None
    }

    /// PUBACK (`qos` 1), or PUBREC with an error (`qos` 2).
    pub(crate) fn acknowledge(&mut self, id: PacketId, qos: QoS) -> Settled {
        let Some(place) = self.place_of(id) else { return Settled::Unknown };
        match &self.window[place].state {
            State::Published(pending) if pending.manner.qos == qos => {}
            _ => return Settled::Unknown,
        }
        let pending = self.finish(place);
        self.leave_done();
        Settled::Delivered(pending.map(|it| it.recorded()).unwrap_or_default())
    }

    /// PUBREC without an error.
    pub(crate) fn receive(&mut self, id: PacketId) -> Settled {
        let Some(place) = self.place_of(id) else { return Settled::Unknown };
        match &self.window[place].state {
            State::Published(pending) if pending.manner.qos != QoS::ExactlyOnce => {
                return Settled::Unknown;
            }
            State::Done => return Settled::Unknown,
            State::Published(_) | State::Received | State::Released => {}
        }
        match std::mem::replace(&mut self.window[place].state, State::Released) {
            State::Published(pending) => {
                self.discount(&pending.message);
                Settled::Release(pending.recorded())
            }
            _ => Settled::Release(Recorded::default()),
        }
    }

    /// PUBCOMP.
    pub(crate) fn complete(&mut self, id: PacketId) -> Settled {
        let Some(place) = self.place_of(id) else { return Settled::Unknown };
        if matches!(self.window[place].state, State::Published(_)) {
            return Settled::Unknown;
        }
        self.finish(place);
        self.leave_done();
        Settled::Complete
    }

    /// Gives the message with this id up unsent: the receiver cannot take it.
    pub(crate) fn abandon(&mut self, id: PacketId) -> Recorded {
        let Some(place) = self.place_of(id) else { return Recorded::default() };
        if !matches!(self.window[place].state, State::Published(_)) {
            return Recorded::default();
        }
        let pending = self.finish(place);
        self.leave_done();
        pending.map(|it| it.recorded()).unwrap_or_default()
    }

    /// The entry's id means nothing any more; its message, if it still had one.
    fn finish(&mut self, place: usize) -> Option<Pending> {
        let entry = &mut self.window[place];
        let state = std::mem::replace(&mut entry.state, State::Done);
        self.done += 1;
        if std::mem::take(&mut entry.counted) {
            self.counted -= 1;
        }
        let State::Published(pending) = state else { return None };
        self.discount(&pending.message);
        Some(pending)
    }

    /// Frees the places at the front of the window that nothing waits for any more, and those
    /// behind it when they are too many.
    fn leave_done(&mut self) {
        while self.window.front().is_some_and(InFlight::is_done) {
            self.window.pop_front();
            self.done -= 1;
            self.stragglers = self.stragglers.saturating_sub(1);
            self.cursor = self.cursor.saturating_sub(1);
            self.unreleased = self.unreleased.saturating_sub(1);
        }
        while usize::from(self.done) > self.done_max() {
            self.gather_stragglers();
        }
    }

    fn done_max(&self) -> usize {
        let rest = self.window.len() - usize::from(self.done);
        (DONE_MIN + DONE_EACH * rest).min(DONE_MAX)
    }

    /// Removes the older half of the entries that are done, whereby those among them become
    /// stragglers. The younger half stays: most messages there are about to be acknowledged.
    #[cold]
    fn gather_stragglers(&mut self) {
        let (stragglers, cursor, unreleased) = (self.stragglers, self.cursor, self.unreleased);
        let mut leaving = self.done / 2;
        self.done -= leaving;
        self.stragglers = 0;
        let mut place = 0;
        self.window.retain(|entry| {
            let leaves = leaving > 0 && entry.is_done();
            if leaves {
                leaving -= 1;
                self.cursor -= u16::from(place < cursor);
                self.unreleased -= u16::from(place < unreleased);
            } else if leaving > 0 || place < stragglers {
                self.stragglers += 1;
            }
            place += 1;
            !leaves
        });
    }

    /// Returns the memory of a busy time.
    pub(crate) fn shrink(&mut self) {
        if self.window.is_empty() {
            self.window = VecDeque::new();
        }
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
    }

    /// Removes the messages that came through shared groups and that another member may have:
    /// those that wait, and unacknowledged ones of QoS 1. QoS 2 stays [MQTT-4.8.2-4].
    pub(crate) fn take_shared(&mut self, mut of: impl FnMut(&Arc<Group>) -> bool) -> Vec<Pending> {
        let mut taken = Vec::new();
        for place in 0..self.window.len() {
            let State::Published(pending) = &self.window[place].state else { continue };
            if pending.manner.qos == QoS::AtLeastOnce
                && pending.manner.group.as_ref().is_some_and(&mut of)
            {
                taken.extend(self.finish(place));
            }
        }
        let mut of = |group: &Option<Arc<Group>>| group.as_ref().is_some_and(&mut of);
        let left = self.on_disk.take_all(|manner| of(&manner.group));
        taken.extend(
            left.into_iter().map(|(entry, manner)| Pending { message: Kept::Disk(entry), manner }),
        );
        let (shared, own): (VecDeque<_>, VecDeque<_>) =
            self.queue.drain(..).partition(|pending| of(&pending.manner.group));
        self.queue = own;
        shared.iter().for_each(|pending| self.discount(&pending.message));
        taken.extend(shared);
        self.leave_done();
        taken
    }
}

#[cfg(test)]
mod tests;
