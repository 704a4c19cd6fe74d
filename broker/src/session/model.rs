//! The sending side of a session beside a model of it that is too plain to be wrong.
//!
//! Bytes say what happens to both. After everything that happens they must agree: on what is sent,
//! in what order, under which ids, and on what became of each message. The unit tests run seeds,
//! the fuzz target `session_ops` runs bytes.

use std::num::NonZeroU16;
use std::sync::Arc;

use longshore_codec::{PacketId, QoS};

use super::{Manner, Outbound, Pages, Pending, Recorded, Settled, Step};
use crate::message::{Entry, Identifiers, Kept, Message, Parts};
use crate::share::Group;
use crate::slots::SHARDS_MAX;

/// Messages that may be under way at once, so that a run is quick.
const UNDER_WAY_MAX: usize = 3_000;
/// Messages of one run that are acknowledged at once: more than three rounds of all ids.
const PASSING_MAX: usize = 200_000;

/// Makes a session's sending side and its model, and lets happen to both what `data` says.
pub(crate) fn run(data: &[u8]) {
    let mut twins = Twins::new();
    let mut choices = Choices(data.iter());
    twins.connect(1 + choices.below(20));
    while !choices.is_spent() {
        twins.act(&mut choices);
        twins.compare();
    }
    twins.finish();
}

/// Choices made by bytes; when they have run out, always the first.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn is_spent(&self) -> bool {
        self.0.len() == 0
    }

    /// A number below `end`, which is at most 256 and not 0.
    fn below(&mut self, end: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % end
    }

    /// A place in something of `len` items, which are not none.
    fn place(&mut self, len: usize) -> usize {
        if len <= 256 { self.below(len) } else { (self.below(256) << 8 | self.below(256)) % len }
    }

    fn id(&mut self) -> PacketId {
        NonZeroU16::new((self.below(256) << 8 | self.below(256)) as u16).unwrap_or(PacketId::MIN)
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    UnderWay,
    Delivered,
    Abandoned,
    Expired,
    /// Another member of its group gets it.
    Taken,
}

/// One message, which is known by its number.
#[derive(Debug)]
struct Known {
    qos: QoS,
    group: Option<Arc<Group>>,
    size: usize,
    /// Its number in the journal; 0 for none.
    recorded: u64,
    fate: Fate,
}

/// One message that was sent.
#[derive(Debug)]
struct Flying {
    id: PacketId,
    number: usize,
    /// PUBLISH was sent on this connection.
    sent: bool,
    /// PUBREC came.
    received: bool,
    /// PUBREL was sent on this connection.
    released: bool,
}

/// What is to be sent.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    Publish { id: PacketId, duplicate: bool, number: usize },
    Release { id: PacketId },
}

struct Twins {
    outbound: Outbound,
    groups: [Arc<Group>; 2],
    /// All messages there ever were, by number.
    messages: Vec<Known>,
    /// Those on which messages stand that wait on the disk.
    pages: Arc<Pages<Arc<Entry>>>,
    /// In the order they were first sent.
    flying: Vec<Flying>,
    /// Numbers of messages that wait.
    queue: Vec<usize>,
    /// How many unacknowledged messages the client takes; 0 while it is away.
    quota: usize,
    /// The id given last; 0 before the first.
    last: u16,
    /// How many more messages may pass.
    passing: usize,
}

impl Twins {
    fn new() -> Self {
        Self {
            outbound: Outbound::default(),
            groups: ["a", "b"].map(|filter| Arc::new(Group::for_test(filter))),
            messages: Vec::new(),
            pages: Arc::default(),
            flying: Vec::new(),
            queue: Vec::new(),
            quota: 0,
            last: 0,
            passing: PASSING_MAX,
        }
    }

    fn act(&mut self, choices: &mut Choices<'_>) {
        match choices.below(24) {
            0..=2 => drop(self.send(choices)),
            3..=5 => self.push(choices),
            6..=8 => drop(self.step(choices.below(8))),
            9 => self.pump(),
            10..=14 if !self.flying.is_empty() => {
                let place = choices.place(self.flying.len());
                self.answer(place);
            }
            15 => self.answer_most(choices),
            16 => self.mistake(choices),
            17 if !self.flying.is_empty() => {
                let place = choices.place(self.flying.len());
                self.abandon(self.flying[place].id);
            }
            18 => self.connect([1, 2, 3, 10, 50, 300, 1_000, 65_535][choices.below(8)]),
            19 => self.disconnect(),
            20 => self.take_shared(choices.below(4)),
            21 => self.outbound.shrink(),
            22 => self.pass(1 + choices.below(256).pow(2), choices.below(8), choices.below(80)),
            23 => {
                let count = 1 + choices.below(256);
                for _ in 0..count {
                    self.push(choices);
                }
            }
            _ => {}
        }
    }

    /// A new message, under way from now on.
    fn make(&mut self, choices: &mut Choices<'_>) -> Pending {
        let kind = choices.below(54);
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce][kind % 2];
        let group = self.groups.get(kind / 2 % 3).cloned();
        let number = self.messages.len();
        let payload = format!("{number:0width$}", width = kind / 6 % 3 * 10);
        let (topic, properties) = (&b"t"[..], &b""[..]);
        let parts = Parts { topic, properties, payload: payload.as_bytes(), shared: None };
        let message = Message::new(parts, QoS::ExactlyOnce, false, None);
        // Some are nowhere else, and some are written down by this shard or another one.
        if let shard @ (0 | 1) = kind / 18 {
            let entry = number_in_journal(number, shard);
            message.enter(Arc::new(Entry::new(entry, message.size(), QoS::ExactlyOnce, None)));
        }
        self.messages.push(Known {
            qos,
            group: group.clone(),
            size: message.size(),
            recorded: message.entry().map_or(0, |entry| entry.number),
            fate: Fate::UnderWay,
        });
        let identifiers = Identifiers::None;
        let message = Kept::Memory(message.into());
        let manner = Manner { qos, retain: false, identifiers, group, holder: 0, again: false };
        Pending { message, manner }
    }

    /// A message is to be sent, and can be sent at once.
    fn send(&mut self, choices: &mut Choices<'_>) -> Option<PacketId> {
        if !self.outbound.has_room() || self.flying.len() >= UNDER_WAY_MAX {
            return None;
        }
        assert!(self.has_room(), "the client takes no more, or others are first");
        let pending = self.make(choices);
        let id = self.outbound.send(pending);
        assert_eq!(id, self.enter(self.messages.len() - 1));
        Some(id)
    }

    /// A message is to be sent later.
    fn push(&mut self, choices: &mut Choices<'_>) {
        if self.queue.len() < UNDER_WAY_MAX {
            let pending = self.make(choices);
            match self.quota {
                0 => self.outbound.push_to_disk(pending, 0, &mut None, &self.pages),
                _ => self.outbound.push(pending),
            }
            self.queue.push(self.messages.len() - 1);
        }
    }

    /// Messages are sent and acknowledged, while older ones are not: each when up to `lag` others
    /// have followed, not always in order; after every `row` of them one is not, up to 300 in all.
    fn pass(&mut self, count: usize, lag: usize, row: usize) {
        if self.quota == 0 {
            return;
        }
        self.pump();
        while !self.has_room() || self.flying.len() >= UNDER_WAY_MAX {
            self.answer(self.flying.len() - 1);
            self.pump();
        }
        let mut older = self.flying.len();
        let older_max = 300.min(self.quota - 1);
        for at in 0..count {
            // The model takes longer the more it holds.
            self.passing = self.passing.saturating_sub(1 + older / 64);
            if self.passing == 0 {
                break;
            }
            self.send(&mut Choices([].iter())).expect("one before left its place");
            if at % (row + 1) == row && older < older_max {
                older += 1;
            }
            while self.flying.len() > older + lag || !self.has_room() {
                let others = self.flying.len() - older;
                self.answer(older + at * 5 % others);
            }
        }
    }

    /// Sends what can be sent.
    fn pump(&mut self) {
        while self.quota > 0 && self.step(8) {}
    }

    /// One packet is sent, if one is due. Of the messages that wait, those are found expired whose
    /// number ends, in base 8, in `stale`.
    fn step(&mut self, stale: usize) -> bool {
        if self.quota == 0 || self.flying.len() >= UNDER_WAY_MAX {
            return false;
        }
        let (mut expired, messages) = (Vec::new(), &self.messages);
        let step = self.outbound.step(|pending| {
            let number = number_of(pending, messages);
            let living = number % 8 != stale;
            expired.extend((!living).then_some(number));
            living
        });
        let got = step.map(|step| match step {
            Step::Release { id } => Sent::Release { id },
            Step::Publish { id, duplicate, pending } => {
                let number = number_of(&pending, messages);
                Sent::Publish { id, duplicate, number }
            }
        });
        let (want, want_expired) = self.next(stale);
        assert_eq!((&got, expired), (&want, want_expired));
        if got.is_none() {
            assert_eq!(self.outbound.has_room(), self.has_room(), "nothing is due");
            assert_eq!(self.outbound.is_drained(), self.is_drained(), "nothing is due");
        }
        got.is_some()
    }

    /// The client answers what it got, as it should.
    fn answer(&mut self, place: usize) {
        let flying = &self.flying[place];
        let (id, qos) = (flying.id, self.messages[flying.number].qos);
        let answer = match (qos, flying.received) {
            (QoS::ExactlyOnce, false) => Answer::Receive,
            (_, true) => Answer::Complete,
            _ => Answer::Ack,
        };
        self.settle(id, qos, answer);
    }

    /// The client answers all messages but some, forwards or backwards.
    fn answer_most(&mut self, choices: &mut Choices<'_>) {
        let (every, backwards) = (1 + choices.below(200), choices.below(2) == 1);
        let mut ids: Vec<PacketId> = self.flying.iter().map(|flying| flying.id).collect();
        if backwards {
            ids.reverse();
        }
        for (at, id) in ids.into_iter().enumerate() {
            if at % every != every / 2
                && let Some(place) = self.find(id)
            {
                self.answer(place);
            }
        }
    }

    /// The client answers something, right or wrong.
    fn mistake(&mut self, choices: &mut Choices<'_>) {
        let kind = choices.below(12);
        let id = match kind % 3 {
            0 if !self.flying.is_empty() => self.flying[choices.place(self.flying.len())].id,
            1 => NonZeroU16::new(self.last).unwrap_or(PacketId::MAX),
            _ => choices.id(),
        };
        match kind / 3 {
            0 => self.settle(id, QoS::AtLeastOnce, Answer::Ack),
            1 => self.settle(id, QoS::ExactlyOnce, Answer::Ack),
            2 => self.settle(id, QoS::ExactlyOnce, Answer::Receive),
            _ => self.settle(id, QoS::ExactlyOnce, Answer::Complete),
        }
    }

    fn settle(&mut self, id: PacketId, qos: QoS, answer: Answer) {
        let got = match answer {
            Answer::Ack => self.outbound.acknowledge(id, qos),
            Answer::Receive => self.outbound.receive(id),
            Answer::Complete => self.outbound.complete(id),
        };
        let want = self.answered(id, qos, answer);
        assert_eq!(format!("{got:?}"), format!("{want:?}"), "{id}: {answer:?}");
    }

    /// The client cannot take a message.
    fn abandon(&mut self, id: PacketId) {
        self.outbound.abandon(id);
        let place = self.find(id).expect("it was chosen from those in flight");
        if !self.flying[place].received {
            self.end(place, Fate::Abandoned);
        }
    }

    fn connect(&mut self, quota: usize) {
        self.outbound.connect(quota as u16);
        self.quota = quota;
        for flying in &mut self.flying {
            (flying.sent, flying.released) = (false, false);
        }
    }

    fn disconnect(&mut self) {
        self.outbound.disconnect();
        self.outbound.leave_to_disk(0, &self.pages);
        self.quota = 0;
    }

    /// Messages of some groups go elsewhere; `of` has a bit for each group.
    fn take_shared(&mut self, of: usize) {
        let groups = self.groups.clone();
        let of = |group: &Arc<Group>| {
            groups.iter().enumerate().any(|(at, it)| Arc::ptr_eq(it, group) && of >> at & 1 > 0)
        };
        let taken = self.outbound.take_shared(of);
        let taken: Vec<usize> = taken.iter().map(|it| number_of(it, &self.messages)).collect();
        let mut want = Vec::new();
        let messages = &mut self.messages;
        let mut is_taken = |number: usize, from_queue: bool| {
            let message = &mut messages[number];
            let takes = message.group.as_ref().is_some_and(of)
                && (from_queue || message.qos == QoS::AtLeastOnce);
            if takes {
                assert_eq!(std::mem::replace(&mut message.fate, Fate::Taken), Fate::UnderWay);
                want.push(number);
            }
            takes
        };
        self.flying.retain(|flying| !is_taken(flying.number, false));
        self.queue.retain(|number| !is_taken(*number, true));
        assert_eq!(taken, want);
    }

    /// What can be said at any time.
    fn compare(&self) {
        let under_way = self.flying.iter().filter(|it| !it.received).map(|it| it.number);
        let sizes = under_way.chain(self.queue.iter().copied()).map(|at| self.messages[at].size);
        assert_eq!(self.outbound.bytes(), sizes.sum::<usize>());
        assert_eq!(self.outbound.queued(), self.queue.len());
        let (room, has_room) = (self.outbound.room(), self.outbound.has_room());
        assert_eq!(room > 0, has_room);
        // What is not due any more may still be looked at, so it says no too often, never yes.
        assert!(!has_room || self.has_room() && self.counted() + room <= self.quota);
        assert!(!self.outbound.is_drained() || self.is_drained());
        assert!(self.counted() <= self.quota || self.quota == 0);
    }

    /// Nothing was lost: what is still under way arrives.
    fn finish(&mut self) {
        self.connect(100);
        while !self.is_drained() || !self.flying.is_empty() {
            self.pump();
            if !self.flying.is_empty() {
                self.answer(self.flying.len() / 2);
            }
        }
        self.compare();
        assert_eq!((self.outbound.bytes(), self.outbound.memory()), (0, 0));
        assert_eq!(self.pages.bytes(), 0);
        assert!(self.outbound.has_room());
        assert!(self.messages.iter().all(|message| message.fate != Fate::UnderWay));
    }
}

/// An answer of a client.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// PUBACK, or PUBREC with an error.
    Ack,
    Receive,
    Complete,
}

/// The model: what should happen.
impl Twins {
    fn find(&self, id: PacketId) -> Option<usize> {
        self.flying.iter().rposition(|flying| flying.id == id)
    }

    fn counted(&self) -> usize {
        self.flying.iter().filter(|flying| flying.sent).count()
    }

    fn is_drained(&self) -> bool {
        let is_due = |it: &Flying| if it.received { !it.released } else { !it.sent };
        self.queue.is_empty() && !self.flying.iter().any(is_due)
    }

    fn has_room(&self) -> bool {
        self.counted() < self.quota && self.is_drained()
    }

    /// A message gets the next id that none in flight has.
    fn enter(&mut self, number: usize) -> PacketId {
        let id = loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            let id = NonZeroU16::new(self.last).expect("1 was added");
            if self.find(id).is_none() {
                break id;
            }
        };
        self.flying.push(Flying { id, number, sent: true, received: false, released: false });
        id
    }

    /// The next packet: what was in flight before others, and PUBREL whether or not the client
    /// takes more messages. With it, the messages that expired on the way.
    fn next(&mut self, stale: usize) -> (Option<Sent>, Vec<usize>) {
        let takes_more = self.counted() < self.quota;
        for flying in &mut self.flying {
            let (id, number) = (flying.id, flying.number);
            if flying.received && !flying.released {
                flying.released = true;
                return (Some(Sent::Release { id }), vec![]);
            }
            if !flying.received && !flying.sent && takes_more {
                flying.sent = true;
                return (Some(Sent::Publish { id, duplicate: true, number }), vec![]);
            }
        }
        let mut expired = Vec::new();
        while takes_more && !self.queue.is_empty() {
            let number = self.queue.remove(0);
            if number % 8 != stale {
                let id = self.enter(number);
                return (Some(Sent::Publish { id, duplicate: false, number }), expired);
            }
            self.messages[number].fate = Fate::Expired;
            expired.push(number);
        }
        (None, expired)
    }

    fn answered(&mut self, id: PacketId, qos: QoS, answer: Answer) -> Settled {
        let Some(place) = self.find(id) else { return Settled::Unknown };
        let flying = &mut self.flying[place];
        let Known { qos: qos_sent, recorded: number, .. } = self.messages[flying.number];
        let recorded = Recorded { number, ..Recorded::default() };
        match (answer, flying.received) {
            (Answer::Ack, false) if qos == qos_sent => {
                self.end(place, Fate::Delivered);
                Settled::Delivered(recorded)
            }
            (Answer::Receive, _) if qos_sent == QoS::ExactlyOnce => {
                flying.released = true;
                match std::mem::replace(&mut flying.received, true) {
                    true => Settled::Release(Recorded::default()),
                    false => Settled::Release(recorded),
                }
            }
            (Answer::Complete, true) => {
                self.end(place, Fate::Delivered);
                Settled::Complete
            }
            _ => Settled::Unknown,
        }
    }

    fn end(&mut self, place: usize, fate: Fate) {
        let number = self.flying.remove(place).number;
        let before = std::mem::replace(&mut self.messages[number].fate, fate);
        assert_eq!(before, Fate::UnderWay, "message {number}");
    }
}

/// Under which number the journal has a message that this shard has written down.
fn number_in_journal(number: usize, shard: usize) -> u64 {
    ((number + 1) * SHARDS_MAX + shard) as u64
}

/// The number of a message, which is its payload.
fn number_of(pending: &Pending, messages: &[Known]) -> usize {
    let number = match &pending.message {
        Kept::Memory(message) => {
            let payload = std::str::from_utf8(message.parts().payload).ok();
            payload.and_then(|it| it.parse().ok()).expect("a payload is a number")
        }
        Kept::Disk(entry) => entry.number as usize / SHARDS_MAX - 1,
    };
    let Known { qos, group, .. } = &messages[number];
    let of = |group: &Option<Arc<Group>>| group.as_ref().map(Arc::as_ptr);
    assert_eq!(
        (pending.manner.qos, of(&pending.manner.group)),
        (*qos, of(group)),
        "message {number}"
    );
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::any::bytes_of;

    #[test]
    fn a_session_does_as_its_model_whatever_happens() {
        for seed in 0..300 {
            let data = bytes_of(seed, 64 << (seed % 6));
            let outcome = std::panic::catch_unwind(|| run(&data));
            assert!(outcome.is_ok(), "seed {seed}");
        }
    }
}
