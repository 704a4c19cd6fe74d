//! A message that has to outlive the bytes it came in.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;
use longshore_codec::{Properties, Property, PropertyIter, QoS};

use crate::clock::Wall;
use crate::output::COPY_MAX;

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
}

impl Message {
    pub(crate) fn new(parts: Parts<'_>, qos: QoS, retain: bool, expiry: Option<Expiry>) -> Self {
        let shared = parts.shared.filter(|payload| payload.len() > COPY_MAX).cloned();
        let copied: &[u8] = if shared.is_some() { &[] } else { parts.payload };
        let body = [parts.topic, parts.properties, copied].concat().into_boxed_slice();
        let (topic_len, properties_len) = (parts.topic.len() as u32, parts.properties.len() as u32);
        Self { body, topic_len, properties_len, shared, qos, retain, expiry }
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

    pub(crate) fn is_expired(&self, wall: Wall) -> bool {
        self.expiry.is_some_and(|expiry| expiry.ends <= wall)
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
    secs: u32,
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

/// Appends the properties of `block` that go on to receivers unchanged.
pub(crate) fn forwardable(block: Properties<'_>, out: &mut Vec<u8>) {
    let mut properties: PropertyIter<'_> = block.iter();
    while let Some(Ok((property, raw))) = properties.next_raw() {
        let hop_only = matches!(
            property,
            Property::TopicAlias(_)
                | Property::MessageExpiryInterval(_)
                | Property::SubscriptionIdentifier(_)
                | Property::WillDelayInterval(_)
        );
        if !hop_only {
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
