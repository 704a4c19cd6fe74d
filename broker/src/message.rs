//! A message that has to outlive the bytes it came in.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use longshore_codec::{Properties, Property, PropertyIter, QoS};
use longshore_storage::Position;

use crate::clock::Wall;
use crate::output::COPY_MAX;
use crate::record::Head;
use crate::session::ROW_BYTES;
use crate::slots::SHARDS_MAX;

/// One published message, immutable, shared by all sessions that wait for it.
#[derive(Debug)]
pub(crate) struct Message {
    /// Topic, properties, and the payload unless it is shared.
    body: Box<[u8]>,
    topic_len: u32,
    properties_len: u32,
    shared: Option<Bytes>,
    pub(crate) qos: QoS,
    /// RETAIN as it was published.
    pub(crate) retain: bool,
    pub(crate) expiry: Option<Expiry>,
    /// Where it is written down, once somebody who outlives the process waits for it.
    entry: OnceLock<Arc<Entry>>,
}

/// What memory holds of a message that is written down.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Names the message in the journal.
    pub(crate) number: u64,
    /// Where its record begins; 0 until that is known.
    place: AtomicU64,
    /// When it ends, in microseconds of the wall clock; the largest number for never.
    ends: AtomicU64,
    /// Bytes it is accounted with.
    size: AtomicU32,
    qos: AtomicU8,
}

impl Entry {
    pub(crate) fn new(number: u64, size: usize, qos: QoS, expiry: Option<Expiry>) -> Self {
        let entry = Self::unknown(number);
        entry.tell(size, qos, expiry);
        entry
    }

    /// A message of which nothing is known but its number: its record is yet to be found.
    pub(crate) fn unknown(number: u64) -> Self {
        Self {
            number,
            place: AtomicU64::new(0),
            ends: AtomicU64::new(u64::MAX),
            size: AtomicU32::new(0),
            qos: AtomicU8::new(0),
        }
    }

    /// The rest of it.
    pub(crate) fn tell(&self, size: usize, qos: QoS, expiry: Option<Expiry>) {
        self.ends.store(expiry.map_or(u64::MAX, |expiry| expiry.ends.0), Ordering::Relaxed);
        self.size.store(u32::try_from(size).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.qos.store(qos as u8, Ordering::Relaxed);
    }

    /// Bytes it is accounted with.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed).into()
    }

    fn qos(&self) -> QoS {
        QoS::try_from(self.qos.load(Ordering::Relaxed)).unwrap_or(QoS::AtMostOnce)
    }

    fn ends(&self) -> Wall {
        Wall(self.ends.load(Ordering::Relaxed))
    }

    /// It for a file of this process, once its place is known.
    pub(crate) fn to_row(&self) -> Option<[u8; ROW_BYTES]> {
        let place = self.position()?.to_u64();
        let mut row = [0; ROW_BYTES];
        let last = self.size() << 8 | self.qos() as u64;
        let numbers = [self.number, place, self.ends().0, last];
        for (bytes, number) in row.as_chunks_mut::<8>().0.iter_mut().zip(numbers) {
            *bytes = number.to_le_bytes();
        }
        Some(row)
    }

    /// The same again.
    pub(crate) fn of_row(row: &[u8; ROW_BYTES]) -> Self {
        let number = |at: usize| row.as_chunks().0.get(at).map_or(0, |it| u64::from_le_bytes(*it));
        Self {
            number: number(0),
            place: AtomicU64::new(number(1)),
            ends: AtomicU64::new(number(2)),
            size: AtomicU32::new((number(3) >> 8) as u32),
            qos: AtomicU8::new(number(3) as u8),
        }
    }

    /// Its record begins there, from now on.
    pub(crate) fn place(&self, position: Position) {
        self.place.store(position.to_u64(), Ordering::Release);
    }

    /// Whether its record stands in a segment before this one.
    pub(crate) fn is_before(&self, segment: u32) -> bool {
        self.position().is_some_and(|position| position.segment < segment)
    }

    /// Where its record begins, if it was appended yet.
    pub(crate) fn position(&self) -> Option<Position> {
        let place = self.place.load(Ordering::Acquire);
        (place != 0).then(|| Position::from_u64(place))
    }
}

/// A message that waits, in memory or in the journal alone.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    Memory(Arc<Message>),
    Disk(Arc<Entry>),
}

/// Bytes of memory that a message in the journal is accounted with.
const ENTRY_BYTES: usize = 128;

impl Kept {
    /// Bytes the message is accounted with.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Memory(message) => message.size(),
            Self::Disk(entry) => entry.size() as usize,
        }
    }

    /// Bytes of memory it is accounted with.
    pub(crate) fn memory(&self) -> usize {
        match self {
            Self::Memory(message) => message.size(),
            Self::Disk(_) => ENTRY_BYTES,
        }
    }

    /// The quality of service it was published with.
    pub(crate) fn qos(&self) -> QoS {
        match self {
            Self::Memory(message) => message.qos,
            Self::Disk(entry) => entry.qos(),
        }
    }

    pub(crate) fn is_expired(&self, wall: Wall) -> bool {
        self.ends().is_some_and(|ends| ends <= wall)
    }

    /// When it ends, if ever.
    pub(crate) fn ends(&self) -> Option<Wall> {
        match self {
            Self::Memory(message) => message.expiry.map(|expiry| expiry.ends),
            Self::Disk(entry) => Some(entry.ends()).filter(|ends| ends.0 != u64::MAX),
        }
    }

    /// Where it is written down, if it is.
    pub(crate) fn entry(&self) -> Option<&Arc<Entry>> {
        match self {
            Self::Memory(message) => message.entry(),
            Self::Disk(entry) => Some(entry),
        }
    }

    /// Whether its record stands in a segment before this one.
    pub(crate) fn is_before(&self, segment: u32) -> bool {
        self.entry().is_some_and(|entry| entry.is_before(segment))
    }

    /// Its number in the journal; 0 for none.
    pub(crate) fn number(&self) -> u64 {
        self.entry().map_or(0, |entry| entry.number)
    }

    /// Leaves the message to the journal, if it is there, or is about to be by this `shard`.
    pub(crate) fn leave_to_disk(&mut self, shard: usize) {
        if let Self::Memory(message) = self
            && let Some(entry) = message.entry()
            && (entry.position().is_some() || entry.number % SHARDS_MAX as u64 == shard as u64)
        {
            *self = Self::Disk(Arc::clone(entry));
        }
    }
}

impl Message {
    pub(crate) fn new(parts: Parts<'_>, qos: QoS, retain: bool, expiry: Option<Expiry>) -> Self {
        let shared = parts.shared.filter(|payload| payload.len() > COPY_MAX).cloned();
        let copied: &[u8] = if shared.is_some() { &[] } else { parts.payload };
        let body = [parts.topic, parts.properties, copied].concat().into_boxed_slice();
        let (topic_len, properties_len) = (parts.topic.len() as u32, parts.properties.len() as u32);
        let entry = OnceLock::new();
        Self { body, topic_len, properties_len, shared, qos, retain, expiry, entry }
    }

    /// The message of this record.
    pub(crate) fn restore(head: &Head, parts: Parts<'_>, entry: Option<&Arc<Entry>>) -> Self {
        let owned = (parts.payload.len() > COPY_MAX).then(|| Bytes::copy_from_slice(parts.payload));
        let parts = Parts { shared: owned.as_ref(), ..parts };
        let message = Self::new(parts, head.qos, head.retain, head.expiry);
        if let Some(entry) = entry {
            message.enter(Arc::clone(entry));
        }
        message
    }

    /// Where it is written down, if it is.
    pub(crate) fn entry(&self) -> Option<&Arc<Entry>> {
        self.entry.get()
    }

    /// It is written down there.
    pub(crate) fn enter(&self, entry: Arc<Entry>) {
        // What is retained may be written down by several shards at once: either place will do.
        let _ = self.entry.set(entry);
    }

    pub(crate) fn parts(&self) -> Parts<'_> {
        let (topic, rest) = self.body.split_at(self.topic_len as usize);
        let (properties, copied) = rest.split_at(self.properties_len as usize);
        let payload = self.shared.as_ref().map_or(copied, |payload| payload);
        Parts { topic, properties, payload, shared: self.shared.as_ref() }
    }

    /// Bytes this message is accounted with.
    pub(crate) fn size(&self) -> usize {
        self.body.len() + self.shared.as_ref().map_or(0, Bytes::len)
    }
}

/// What a message consists of, borrowed from a [`Message`] or from the input.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) topic: &'a [u8],
    /// Properties as they are forwarded: without Topic Alias, Message Expiry Interval and
    /// Subscription Identifier, which belong to one hop.
    pub(crate) properties: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// The payload again, when it need not be copied.
    pub(crate) shared: Option<&'a Bytes>,
}

/// The life of a message, from its Message Expiry Interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Expiry {
    /// Seconds it was given.
    pub(crate) secs: u32,
    pub(crate) ends: Wall,
}

impl Expiry {
    /// The life of a message that was published at `wall` with so many seconds to live.
    pub(crate) fn begin(secs: u32, wall: Wall) -> Self {
        Self { secs, ends: wall.plus_secs(u64::from(secs)) }
    }

    /// Seconds left, rounded up so that a living message never says 0, and no more than it was
    /// given although the clock may have been set back.
    pub(crate) fn secs_left(self, now: Wall) -> u32 {
        let left = self.ends.0.saturating_sub(now.0).div_ceil(1_000_000);
        u32::try_from(left).map_or(self.secs, |left| left.min(self.secs))
    }
}

/// Appends the properties of `block` that go on to receivers unchanged, without user properties of
/// a name that `is_omitted`.
pub(crate) fn forwardable(
    block: Properties<'_>,
    is_omitted: impl Fn(&str) -> bool,
    out: &mut Vec<u8>,
) {
    let mut properties: PropertyIter<'_> = block.iter();
    while let Some(Ok((property, raw))) = properties.next_raw() {
        let hop_only = matches!(
            property,
            Property::TopicAlias(_)
                | Property::MessageExpiryInterval(_)
                | Property::SubscriptionIdentifier(_)
                | Property::WillDelayInterval(_)
        );
        let omitted = matches!(property, Property::UserProperty(name, _) if is_omitted(name));
        if !hop_only && !omitted {
            out.extend_from_slice(raw);
        }
    }
}

/// Subscription Identifiers that go with one delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Identifiers {
    #[default]
    None,
    One(NonZeroU32),
    Many(Arc<[NonZeroU32]>),
}

impl Identifiers {
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::None)
    }

    pub(crate) fn as_slice(&self) -> &[NonZeroU32] {
        match self {
            Self::None => &[],
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }

    /// Bytes of memory beside the value itself.
    pub(crate) fn extra_bytes(&self) -> usize {
        match self {
            Self::None | Self::One(_) => 0,
            Self::Many(ids) => 2 * size_of::<usize>() + size_of_val(&**ids),
        }
    }
}

/// One that two matching subscriptions have is carried twice (MQTT 5.0, 3.3.4).
impl FromIterator<NonZeroU32> for Identifiers {
    fn from_iter<I: IntoIterator<Item = NonZeroU32>>(ids: I) -> Self {
        let mut ids = ids.into_iter();
        match (ids.next(), ids.next()) {
            (None, _) => Self::None,
            (Some(id), None) => Self::One(id),
            (Some(first), Some(second)) => {
                Self::Many([first, second].into_iter().chain(ids).collect())
            }
        }
    }
}
