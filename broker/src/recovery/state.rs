//! What waits for whom, as the records of a journal tell.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;

use hashbrown::HashSet;
use longshore_codec::{PacketId, QoS, SubscribeOptions};

use super::waits::Waits;
use crate::clock::Wall;
use crate::message::Entry;
use crate::record::Ref;
use crate::session::{self, Pending, Queue, ROW_BYTES, Waiting, Will};

/// A message, by its number.
#[derive(Debug)]
pub(super) struct Slot {
    /// Whoever waits for it has this, too. It has no position before its record was found.
    pub(super) entry: Arc<Entry>,
    /// Others wait, too, who are written down anew further on.
    pub(super) is_wanted: bool,
}

impl Slot {
    pub(super) fn new(number: u64) -> Self {
        Self { entry: Arc::new(Entry::unknown(number)), is_wanted: false }
    }

    pub(super) fn is_needed(&self) -> bool {
        self.is_wanted || Arc::strong_count(&self.entry) > 1
    }
}

/// A message that was told to wait.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) entry: Arc<Entry>,
    /// The segment in which that stands.
    pub(super) segment: u32,
}

impl Waiting for Told {
    /// Its record may be yet to be found.
    fn bytes(&self) -> usize {
        0
    }

    fn row(&self) -> Option<[u8; ROW_BYTES]> {
        None
    }

    fn of_row(_: &[u8; ROW_BYTES]) -> Self {
        unreachable!("none leaves memory")
    }
}

/// What waits in a shared group: each message once, for several shards may tell of it.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pub(super) queue: VecDeque<Held>,
    numbers: HashSet<u64>,
}

impl Backlog {
    pub(super) fn push(&mut self, held: Held) {
        if self.numbers.insert(held.told.entry.number) {
            self.queue.push_back(held);
        }
    }

    pub(super) fn take(&mut self, number: u64) {
        if self.numbers.remove(&number) {
            let place = self.queue.iter().position(|it| it.told.entry.number == number);
            place.and_then(|place| self.queue.remove(place));
        }
    }
}

/// A message that waits for one holder, and how it does.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) told: Told,
    pub(super) to: Ref,
}

/// A session as the journal has it.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pub(crate) holder: u64,
    pub(crate) account: u64,
    pub(crate) class: u32,
    pub(crate) token: Option<u64>,
    pub(crate) anonymous: bool,
    pub(crate) expiry_secs: u32,
    pub(crate) left: Option<Wall>,
    pub(crate) client_id: Box<str>,
    pub(crate) subscriptions: BTreeMap<Box<str>, Subscribed>,
    pub(crate) will: Option<Will>,
    pub(crate) inbound: BTreeSet<PacketId>,
    /// In the order they were sent; without a message once PUBREC came.
    pub(super) window: VecDeque<(PacketId, Option<Held>)>,
    pub(super) waits: Waits,
    /// The same, once the messages are found.
    pub(crate) in_flight: Vec<(PacketId, Option<Pending>)>,
    pub(crate) waiting: Queue<Arc<Entry>, session::Manner>,
}

/// What a session asked of a topic filter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscribed {
    pub(crate) options: SubscribeOptions,
    pub(crate) identifier: Option<NonZeroU32>,
    pub(crate) only: u64,
    pub(crate) group: u64,
}

impl Session {
    /// Its connection broke unseen: what came from another shard may have been sent to it, although
    /// the journal has not come to hear of it. Not at QoS 2, which waits for that.
    pub(super) fn doubt(&mut self) {
        self.waits.queue().change(|it| it.again |= it.qos == QoS::AtLeastOnce);
    }

    /// What waits, by number and group.
    pub(super) fn held(&mut self) -> HashSet<(u64, u64)> {
        let in_flight = self.window.iter().filter_map(|(_, it)| it.as_ref());
        let mut held: HashSet<_> =
            in_flight.map(|it| (it.told.entry.number, it.to.group)).collect();
        self.waits.queue().for_each(|told, to| held.extend([(told.entry.number, to.group)]));
        held
    }

    /// The message is neither in flight any more nor waits, that came through this group.
    pub(super) fn done(&mut self, number: u64, group: u64) {
        let in_flight = |exactly: bool| {
            self.window.iter().position(|(_, it)| {
                let it = it.as_ref().filter(|it| it.told.entry.number == number);
                it.is_some_and(|it| !exactly || it.to.group == group)
            })
        };
        if let Some(place) = in_flight(true) {
            self.window.remove(place);
        } else if let Some(place) = in_flight(false) {
            // Unless one waits that is closer.
            if !self.waits.take_exactly(number, group) {
                self.window.remove(place);
            }
        } else {
            self.waits.take(number, group);
        }
    }
}
