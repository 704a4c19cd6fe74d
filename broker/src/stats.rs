//! What a shard counts: written by the shard alone, read by anybody.

use std::sync::atomic::{AtomicU64, Ordering};

use longshore_codec::QoS;

/// A number with one writer, so that adding needs no locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`.
    #[inline]
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a message did not reach a receiver that should have had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
#[non_exhaustive]
pub enum Drop {
    /// QoS 0, and the receiver reads too slowly.
    SlowReader,
    /// Larger than the Maximum Packet Size of the receiver.
    TooLarge,
    /// Its Message Expiry Interval passed while it waited.
    Expired,
    /// The shared group's backlog was full.
    Backlog,
    /// Its session ended while it waited.
    SessionEnded,
    /// Nobody of the shared group could take the QoS 0 message.
    NobodyThere,
    /// The client refused it with an error code.
    Refused,
    /// The queue of its session was full, and it was the oldest there.
    QueueFull,
    /// The tokens of those it waited for do not open it any more.
    NotAllowed,
}

impl Drop {
    /// All causes, in order.
    pub const ALL: [Self; 9] = [
        Self::SlowReader,
        Self::TooLarge,
        Self::Expired,
        Self::Backlog,
        Self::SessionEnded,
        Self::NobodyThere,
        Self::Refused,
        Self::QueueFull,
        Self::NotAllowed,
    ];

    /// The name under which metrics show the cause.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SlowReader => "slow_reader",
            Self::TooLarge => "too_large",
            Self::Expired => "expired",
            Self::Backlog => "group_backlog_full",
            Self::SessionEnded => "session_ended",
            Self::NobodyThere => "group_offline",
            Self::Refused => "refused_by_receiver",
            Self::QueueFull => "queue_full",
            Self::NotAllowed => "not_allowed",
        }
    }
}

/// Durations in buckets that double, from 1 microsecond.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; Self::BUCKETS],
    sum_micros: Counter,
}

impl Histogram {
    /// Buckets; bucket `n` holds durations below 2^n microseconds, the last one all longer ones.
    pub const BUCKETS: usize = 24;

    /// Counts one duration.
    pub(crate) fn record(&self, micros: u64) {
        let bucket = (u64::BITS - micros.leading_zeros()) as usize;
        self.buckets[bucket.min(Self::BUCKETS - 1)].add(1);
        self.sum_micros.add(micros);
    }

    /// Adds the durations of another one.
    pub(crate) fn merge(&self, other: &Self) {
        for (bucket, count) in self.buckets.iter().zip(other.counts()) {
            bucket.add(count);
        }
        self.sum_micros.add(other.sum_micros());
    }

    /// How many durations each bucket holds.
    #[must_use]
    pub fn counts(&self) -> [u64; Self::BUCKETS] {
        std::array::from_fn(|bucket| self.buckets[bucket].get())
    }

    /// The sum of all durations, in microseconds.
    #[must_use]
    pub fn sum_micros(&self) -> u64 {
        self.sum_micros.get()
    }
}

/// The numbers of one shard, or of all. Those with `_total` only grow.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Connections accepted.
    pub accepted_total: Counter,
    /// Connections open, those before CONNECT included.
    pub connections: Counter,
    /// Connections closed before or at CONNECT by the broker.
    pub refused_total: Counter,
    /// Sessions, connected or not.
    pub sessions: Counter,
    /// Subscriptions of all sessions.
    pub subscriptions: Counter,
    /// Messages received, by QoS.
    pub received_total: [Counter; 3],
    /// Messages sent, by QoS; sent again counts again.
    pub sent_total: [Counter; 3],
    /// Bytes of the PUBLISH packets received, by QoS.
    pub received_message_bytes_total: [Counter; 3],
    /// Bytes of the PUBLISH packets sent, by QoS.
    pub sent_message_bytes_total: [Counter; 3],
    /// Bytes received, of MQTT.
    pub received_bytes_total: Counter,
    /// Bytes written, of MQTT.
    pub sent_bytes_total: Counter,
    /// Messages rejected because their publishers had no right to them.
    pub rejected_total: Counter,
    /// Messages refused, or at QoS 0 dropped, because a limit of their account is reached.
    pub over_quota_total: Counter,
    /// Messages not delivered, by [`Drop`].
    pub dropped_total: [Counter; Drop::ALL.len()],
    /// Bytes of messages that wait or are in flight in sessions.
    pub queued_bytes: Counter,
    /// Retained messages, in a sum: they belong to all shards.
    pub retained: Counter,
    /// Bytes of retained messages, in a sum.
    pub retained_bytes: Counter,
    /// How long one turn of the shard's thread took: everything between two sleeps.
    pub turn: Histogram,
    /// From the read of the first bytes of a turn to its last write.
    pub delivery: Histogram,
}

impl Stats {
    pub(crate) fn counters(&self) -> impl IntoIterator<Item = &Counter> {
        [
            &self.accepted_total,
            &self.connections,
            &self.refused_total,
            &self.sessions,
            &self.subscriptions,
            &self.received_bytes_total,
            &self.sent_bytes_total,
            &self.queued_bytes,
            &self.rejected_total,
            &self.over_quota_total,
        ]
        .into_iter()
        .chain(&self.received_total)
        .chain(&self.sent_total)
        .chain(&self.received_message_bytes_total)
        .chain(&self.sent_message_bytes_total)
        .chain(&self.dropped_total)
    }

    pub(crate) fn dropped(&self, cause: Drop, count: u64) {
        self.dropped_total[cause as usize].add(count);
    }

    pub(crate) fn received(&self, qos: QoS, bytes: usize) {
        self.received_total[qos as usize].add(1);
        self.received_message_bytes_total[qos as usize].add(bytes as u64);
    }

    pub(crate) fn sent(&self, qos: QoS, bytes: usize) {
        self.sent_total[qos as usize].add(1);
        self.sent_message_bytes_total[qos as usize].add(bytes as u64);
    }
}
