//! QoS 1 and 2 messages on their way to one client: the window of those in flight and the queue
//! of those that wait for it.

use std::collections::VecDeque;
use std::num::NonZeroU16;
use std::sync::Arc;

use longshore_codec::{PacketId, QoS};

use crate::message::{Identifiers, Message};
use crate::share::Group;

/// A message for one session, not yet or not finally delivered.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) message: Arc<Message>,
    pub(crate) qos: QoS,
    /// RETAIN as this session gets it.
    pub(crate) retain: bool,
    pub(crate) identifiers: Identifiers,
    /// The shared group it came through.
    pub(crate) group: Option<Arc<Group>>,
}

#[derive(Debug)]
enum State {
    /// PUBLISH is to be acknowledged.
    Published(Pending),
    /// PUBREC came, PUBCOMP is to come.
    Released,
    /// Acknowledged; here only until the entries before it are, too.
    Done,
}

#[derive(Debug)]
struct InFlight {
    state: State,
    /// Whether it was sent on this connection, so that it counts against the window.
    counted: bool,
    /// Whether it was ever sent, so that sending it again is a duplicate.
    sent: bool,
}

/// What the client's acknowledgement did.
#[derive(Debug)]
pub(crate) enum Settled {
    /// The message is delivered; its size is free again.
    Delivered,
    /// PUBREL is to be sent.
    Release,
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
/// Packet ids go round in order, so an id's place in the window is its distance from the first id,
/// and every acknowledgement is found at once.
#[derive(Debug, Default)]
pub(crate) struct Outbound {
    window: VecDeque<InFlight>,
    /// The id of the window's first entry, less one; 0..=65,534.
    first: u16,
    /// Entries before this place were sent on this connection.
    cursor: u16,
    /// Entries from this place to that one may still be due a PUBREL on this connection.
    unreleased: (u16, u16),
    /// Messages sent on this connection and not acknowledged.
    counted: u16,
    /// How many of those the client allows; 0 while it is away.
    quota: u16,
    queue: VecDeque<Pending>,
    /// Bytes of all messages here.
    bytes: usize,
}

/// Packet ids there are.
const IDS: u16 = u16::MAX;

impl Outbound {
    /// Messages that wait beyond those in flight.
    pub(crate) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Bytes of the messages in flight and waiting.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a message given now could be sent now.
    #[inline]
    pub(crate) fn has_room(&self) -> bool {
        self.counted < self.quota
            && self.queue.is_empty()
            && usize::from(self.cursor) == self.window.len()
            && self.window.len() < usize::from(IDS)
    }

    /// How many messages could be sent now.
    pub(crate) fn room(&self) -> usize {
        if !self.has_room() {
            return 0;
        }
        usize::from(self.quota - self.counted).min(usize::from(IDS) - self.window.len())
    }

    /// Whether nothing waits to be sent.
    pub(crate) fn is_drained(&self) -> bool {
        self.queue.is_empty() && usize::from(self.cursor) == self.window.len()
    }

    /// The client is there and takes `quota` messages at once. What was in flight is sent again.
    pub(crate) fn connect(&mut self, quota: u16) {
        assert!(quota > 0, "a client always takes one message");
        self.quota = quota;
        self.cursor = 0;
        self.unreleased = (0, self.window.len() as u16);
        self.counted = 0;
        for entry in &mut self.window {
            entry.counted = false;
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
        self.bytes += pending.message.size();
        self.enter(pending)
    }

    fn enter(&mut self, pending: Pending) -> PacketId {
        let id = self.id_at(self.window.len());
        self.window.push_back(InFlight {
            state: State::Published(pending),
            counted: true,
            sent: true,
        });
        self.cursor += 1;
        self.counted += 1;
        id
    }

    fn id_at(&self, place: usize) -> PacketId {
        debug_assert!(place < usize::from(IDS));
        let id = (usize::from(self.first) + place) % usize::from(IDS) + 1;
        NonZeroU16::new(id as u16).expect("1 was added")
    }

    fn place_of(&self, id: PacketId) -> Option<usize> {
        let index = id.get() - 1;
        let distance = (u32::from(index) + u32::from(IDS) - u32::from(self.first)) % u32::from(IDS);
        Some(distance as usize).filter(|place| *place < self.window.len())
    }

    /// Queues a message behind the others.
    pub(crate) fn push(&mut self, pending: Pending) {
        self.bytes += pending.message.size();
        self.queue.push_back(pending);
    }

    /// The next packet to send, while the window has room. `keep` says no to messages that need
    /// not be sent any more: they go, and take no place in the window.
    pub(crate) fn step(&mut self, mut keep: impl FnMut(&Pending) -> bool) -> Option<Step> {
        while usize::from(self.cursor) < self.window.len() {
            let place = usize::from(self.cursor);
            let id = self.id_at(place);
            let entry = &mut self.window[place];
            match &entry.state {
                State::Done => {}
                State::Released if self.cursor < self.unreleased.0 => {}
                State::Released => {
                    self.cursor += 1;
                    return Some(Step::Release { id });
                }
                State::Published(_) if self.counted >= self.quota => return self.step_release(),
                State::Published(pending) => {
                    let step =
                        Step::Publish { id, duplicate: entry.sent, pending: pending.clone() };
                    entry.counted = true;
                    entry.sent = true;
                    self.counted += 1;
                    self.cursor += 1;
                    return Some(step);
                }
            }
            self.cursor += 1;
        }
        while self.counted < self.quota && self.window.len() < usize::from(IDS) {
            let pending = self.queue.pop_front()?;
            if !keep(&pending) {
                self.bytes -= pending.message.size();
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
        let (first, end) = self.unreleased;
        for place in first.max(self.cursor)..end {
            self.unreleased.0 = place + 1;
            if matches!(self.window[usize::from(place)].state, State::Released) {
                return Some(Step::Release { id: self.id_at(usize::from(place)) });
            }
        }
        None
    }

    /// PUBACK (`qos` 1), or PUBREC with an error (`qos` 2).
    pub(crate) fn acknowledge(&mut self, id: PacketId, qos: QoS) -> Settled {
        let Some(place) = self.place_of(id) else { return Settled::Unknown };
        let entry = &mut self.window[place];
        if !matches!(&entry.state, State::Published(pending) if pending.qos == qos && entry.sent) {
            return Settled::Unknown;
        }
        let State::Published(pending) = std::mem::replace(&mut entry.state, State::Done) else {
            unreachable!("it was matched above")
        };
        self.bytes -= pending.message.size();
        self.finish(place);
        Settled::Delivered
    }

    /// PUBREC without an error.
    pub(crate) fn receive(&mut self, id: PacketId) -> Settled {
        let Some(place) = self.place_of(id) else { return Settled::Unknown };
        let entry = &mut self.window[place];
        match &entry.state {
            State::Published(pending) if pending.qos == QoS::ExactlyOnce && entry.sent => {
                self.bytes -= pending.message.size();
                entry.state = State::Released;
                Settled::Release
            }
            State::Released => Settled::Release,
            _ => Settled::Unknown,
        }
    }

    /// PUBCOMP.
    pub(crate) fn complete(&mut self, id: PacketId) -> Settled {
        let Some(place) = self.place_of(id) else { return Settled::Unknown };
        let entry = &mut self.window[place];
        if !matches!(entry.state, State::Released) {
            return Settled::Unknown;
        }
        entry.state = State::Done;
        self.finish(place);
        Settled::Complete
    }

    /// Gives the message with this id up unsent: the receiver cannot take it.
    pub(crate) fn abandon(&mut self, id: PacketId) {
        let Some(place) = self.place_of(id) else { return };
        if let State::Published(pending) = &self.window[place].state {
            self.bytes -= pending.message.size();
            self.window[place].state = State::Done;
            self.finish(place);
        }
    }

    fn finish(&mut self, place: usize) {
        let entry = &mut self.window[place];
        if std::mem::take(&mut entry.counted) {
            self.counted -= 1;
        }
        self.leave_done();
    }

    /// Frees the ids at the front of the window that nothing waits for any more.
    fn leave_done(&mut self) {
        while matches!(self.window.front(), Some(InFlight { state: State::Done, .. })) {
            self.window.pop_front();
            self.first = (self.first + 1) % IDS;
            self.cursor = self.cursor.saturating_sub(1);
            let (first, end) = &mut self.unreleased;
            (*first, *end) = (first.saturating_sub(1), end.saturating_sub(1));
        }
    }

    /// Returns the memory of a busy time.
    pub(crate) fn shrink(&mut self) {
        if self.window.is_empty() && self.queue.is_empty() {
            self.window = VecDeque::new();
            self.queue = VecDeque::new();
        }
    }

    /// Removes the messages that came through shared groups and that another member may have:
    /// those that wait, and unacknowledged ones of QoS 1. QoS 2 stays [MQTT-4.8.2-4].
    pub(crate) fn take_shared(&mut self, mut of: impl FnMut(&Arc<Group>) -> bool) -> Vec<Pending> {
        let mut taken = Vec::new();
        for place in 0..self.window.len() {
            let entry = &mut self.window[place];
            let State::Published(pending) = &entry.state else { continue };
            if pending.qos == QoS::AtLeastOnce && pending.group.as_ref().is_some_and(&mut of) {
                let State::Published(pending) = std::mem::replace(&mut entry.state, State::Done)
                else {
                    unreachable!("it was matched above")
                };
                if std::mem::take(&mut entry.counted) {
                    self.counted -= 1;
                }
                self.bytes -= pending.message.size();
                taken.push(pending);
            }
        }
        let (shared, own): (VecDeque<_>, VecDeque<_>) =
            self.queue.drain(..).partition(|pending| pending.group.as_ref().is_some_and(&mut of));
        self.queue = own;
        self.bytes -= shared.iter().map(|pending| pending.message.size()).sum::<usize>();
        taken.extend(shared);
        self.leave_done();
        taken
    }
}
