//! A retained message as it is kept: small ones in one allocation, large ones where their payload
//! need not be copied, or in the journal alone.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

use longshore_codec::QoS;

use crate::clock::Wall;
use crate::message::{Expiry, Kept, Parts};
use crate::stamp::time_of;

/// Bytes of properties and payload beyond which a message is large: where there is a journal,
/// memory has only its topic and its place.
///
/// A place costs some 140 bytes and every read of it a call of the system, some microseconds.
/// Below this it would save little memory for that; above, most of it, and the read costs less
/// than to send what was read. [`crate::output::COPY_MAX`] is the same for the same reason.
pub(crate) const SMALL_MAX: usize = 1024;

/// A message that is to be retained.
#[derive(Debug)]
pub(crate) struct Fresh<'a> {
    pub(crate) parts: Parts<'a>,
    pub(crate) qos: QoS,
    pub(crate) expiry: Option<Expiry>,
    /// The message again, if it is [large](is_large).
    pub(crate) large: Option<Kept>,
}

/// Whether a message of these parts is kept as a whole, and not copied.
pub(crate) fn is_large(parts: &Parts<'_>) -> bool {
    parts.properties.len() + parts.payload.len() > SMALL_MAX
}

/// See the module. Its order is that of topics.
#[derive(Debug)]
pub(crate) enum Item {
    Small(Small),
    Large(Box<Large>),
}

const _: () = assert!(size_of::<Item>() == 2 * size_of::<usize>());

/// A small message:
///
/// ```text
/// sequence 8 | flags 1 | bytes of topic 2 | bytes of properties 2 | topic | properties | payload
///            | [ends 8, secs 4]
/// ```
#[derive(Debug)]
pub(crate) struct Small(Box<[u8]>);

/// A large message, in memory as long as no journal has it.
#[derive(Debug)]
pub(crate) struct Large {
    topic: Box<[u8]>,
    sequence: u64,
    round: u8,
    /// When it was published, as far as it says so.
    time: Option<Wall>,
    kept: Kept,
}

const FLAGS: usize = 8;
const TOPIC_LEN: usize = 9;
const PROPERTIES_LEN: usize = 11;
const TOPIC: usize = 13;
/// Bytes of an expiry.
const EXPIRY_BYTES: usize = 12;

// Of the flags.
const QOS_MASK: u8 = 0b11;
const EXPIRY: u8 = 1 << 2;
/// Of a round, which has two bits.
const ROUND_SHIFT: u8 = 3;
const ROUND_MASK: u8 = 0b11 << ROUND_SHIFT;

/// A retained message that was found.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Small { parts: Parts<'a>, qos: QoS, expiry: Option<Expiry> },
    Large(&'a Kept),
}

impl Item {
    /// The message, without its number.
    pub(super) fn new(fresh: Fresh<'_>) -> Self {
        let Fresh { parts, qos, expiry, large } = fresh;
        match large {
            Some(kept) => {
                let topic = parts.topic.into();
                let time = time_of(parts.properties);
                Self::Large(Box::new(Large { topic, sequence: 0, round: 0, time, kept }))
            }
            None => Self::Small(Small::new(&parts, qos, expiry)),
        }
    }

    pub(super) fn topic(&self) -> &[u8] {
        match self {
            Self::Small(small) => small.topic(),
            Self::Large(large) => &large.topic,
        }
    }

    /// The number of the change that it was retained with.
    pub(super) fn sequence(&self) -> u64 {
        match self {
            Self::Small(small) => small.sequence(),
            Self::Large(large) => large.sequence,
        }
    }

    pub(super) fn set_sequence(&mut self, sequence: u64) {
        match self {
            Self::Small(small) => small.0[..FLAGS].copy_from_slice(&sequence.to_le_bytes()),
            Self::Large(large) => large.sequence = sequence,
        }
    }

    /// The round of compaction, of those that a replay has seen, that wrote it down again: 1 to 3,
    /// or 0 for none.
    pub(super) fn round(&self) -> u8 {
        match self {
            Self::Small(small) => (small.0[FLAGS] & ROUND_MASK) >> ROUND_SHIFT,
            Self::Large(large) => large.round,
        }
    }

    pub(super) fn set_round(&mut self, round: u8) {
        match self {
            Self::Small(Small(bytes)) => {
                bytes[FLAGS] = bytes[FLAGS] & !ROUND_MASK | round << ROUND_SHIFT;
            }
            Self::Large(large) => large.round = round,
        }
    }

    /// When it ends, if ever.
    pub(super) fn ends(&self) -> Option<Wall> {
        match self {
            Self::Small(small) => small.expiry().map(|expiry| expiry.ends),
            Self::Large(large) => large.kept.ends(),
        }
    }

    /// When it was published, as far as it says so.
    pub(super) fn time(&self) -> Option<Wall> {
        match self {
            Self::Small(Small(bytes)) => match found(bytes) {
                Found::Small { parts, .. } => time_of(parts.properties),
                Found::Large(_) => None,
            },
            Self::Large(large) => large.time,
        }
    }

    /// Bytes of topic, properties and payload.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Small(small) => {
                let expiry = if small.has_expiry() { EXPIRY_BYTES } else { 0 };
                small.0.len() - TOPIC - expiry
            }
            Self::Large(large) => large.kept.size(),
        }
    }

    /// It from the journal, if that has it and memory has it as well.
    pub(super) fn left_to_disk(&self) -> Option<Self> {
        let Self::Large(large) = self else { return None };
        let Large { topic, sequence, round, time, kept: Kept::Memory(message) } = &**large else {
            return None;
        };
        let entry = message.entry().filter(|entry| entry.position().is_some())?;
        let (topic, kept) = (topic.clone(), Kept::Disk(Arc::clone(entry)));
        let (sequence, round, time) = (*sequence, *round, *time);
        Some(Self::Large(Box::new(Large { topic, sequence, round, time, kept })))
    }
}

impl Small {
    fn new(parts: &Parts<'_>, qos: QoS, expiry: Option<Expiry>) -> Self {
        let Parts { topic, properties, payload, .. } = *parts;
        let flags = qos as u8 | if expiry.is_some() { EXPIRY } else { 0 };
        let tail = if expiry.is_some() { EXPIRY_BYTES } else { 0 };
        let len = TOPIC + topic.len() + properties.len() + payload.len() + tail;
        let mut bytes = Vec::with_capacity(len);
        bytes.extend_from_slice(&[0; FLAGS]);
        bytes.push(flags);
        bytes.extend_from_slice(&(topic.len() as u16).to_le_bytes());
        bytes.extend_from_slice(&(properties.len() as u16).to_le_bytes());
        bytes.extend_from_slice(topic);
        bytes.extend_from_slice(properties);
        bytes.extend_from_slice(payload);
        if let Some(Expiry { secs, ends }) = expiry {
            bytes.extend_from_slice(&ends.0.to_le_bytes());
            bytes.extend_from_slice(&secs.to_le_bytes());
        }
        Self(bytes.into_boxed_slice())
    }

    #[inline]
    fn topic(&self) -> &[u8] {
        &self.0[TOPIC..TOPIC + usize::from(u16_at(&self.0, TOPIC_LEN))]
    }

    fn sequence(&self) -> u64 {
        u64::from_le_bytes(array_at(&self.0, 0))
    }

    fn has_expiry(&self) -> bool {
        self.0[FLAGS] & EXPIRY != 0
    }

    fn expiry(&self) -> Option<Expiry> {
        expiry_of(&self.0)
    }
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array_at(bytes, at))
}

fn expiry_of(small: &[u8]) -> Option<Expiry> {
    (small[FLAGS] & EXPIRY != 0).then(|| {
        let at = small.len() - EXPIRY_BYTES;
        let ends = Wall(u64::from_le_bytes(array_at(small, at)));
        Expiry { ends, secs: u32::from_le_bytes(array_at(small, at + size_of::<u64>())) }
    })
}

fn found(small: &[u8]) -> Found<'_> {
    let expiry = expiry_of(small);
    let end = small.len() - if expiry.is_some() { EXPIRY_BYTES } else { 0 };
    let (topic, rest) = small[TOPIC..end].split_at(usize::from(u16_at(small, TOPIC_LEN)));
    let (properties, payload) = rest.split_at(usize::from(u16_at(small, PROPERTIES_LEN)));
    let qos = QoS::try_from(small[FLAGS] & QOS_MASK).unwrap_or(QoS::AtMostOnce);
    Found::Small { parts: Parts { topic, properties, payload, shared: None }, qos, expiry }
}

impl Borrow<[u8]> for Item {
    fn borrow(&self) -> &[u8] {
        self.topic()
    }
}

impl PartialEq for Item {
    fn eq(&self, other: &Self) -> bool {
        self.topic() == other.topic()
    }
}

impl Eq for Item {}

impl PartialOrd for Item {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Item {
    fn cmp(&self, other: &Self) -> Ordering {
        self.topic().cmp(other.topic())
    }
}

/// Retained messages that were taken out of their part, so that nobody waits for who reads them.
#[derive(Debug, Default)]
pub(crate) struct Slice {
    /// Small messages, one behind another.
    bytes: Vec<u8>,
    pieces: Vec<Piece>,
    /// Bytes of topics, properties and payloads, those in the journal included.
    size: usize,
}

#[derive(Debug)]
enum Piece {
    /// So many bytes.
    Small(usize),
    Large(u64, Kept),
}

/// Bytes of memory that an empty slice keeps.
const KEEP_CAPACITY: usize = 64 << 10;

impl Slice {
    /// Takes another message, unless there are `most` or `bytes_max` bytes of them; whether it did.
    pub(crate) fn take(&mut self, item: &Item, most: usize, bytes_max: usize) -> bool {
        if self.pieces.len() >= most || self.size >= bytes_max {
            return false;
        }
        self.size += item.size();
        self.pieces.push(match item {
            Item::Small(Small(bytes)) => {
                self.bytes.extend_from_slice(bytes);
                Piece::Small(bytes.len())
            }
            Item::Large(large) => Piece::Large(large.sequence, large.kept.clone()),
        });
        true
    }

    /// Each of them with its number, in the order they were taken.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Found<'_>)> {
        let mut rest = &self.bytes[..];
        self.pieces.iter().map(move |piece| match piece {
            Piece::Small(len) => {
                let (small, behind) = rest.split_at(*len);
                rest = behind;
                (u64::from_le_bytes(array_at(small, 0)), found(small))
            }
            Piece::Large(sequence, kept) => (*sequence, Found::Large(kept)),
        })
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEEP_CAPACITY);
        self.pieces.clear();
        self.size = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_message_comes_out_as_it_went_in() {
        let expiry = Expiry::begin(7, Wall(1_000));
        for expiry in [None, Some(expiry)] {
            for (properties, payload) in [(&b""[..], &b""[..]), (b"", b"on"), (b"abc", &[7; 900])] {
                let parts = Parts { topic: b"a/b", properties, payload, shared: None };
                let fresh = Fresh { parts, qos: QoS::AtLeastOnce, expiry, large: None };
                let mut item = Item::new(fresh);
                item.set_sequence(u64::MAX - 1);
                item.set_round(3);
                assert_eq!(item.size(), 3 + properties.len() + payload.len());
                assert_eq!((item.topic(), item.round()), (&b"a/b"[..], 3));
                assert_eq!(item.ends(), expiry.map(|expiry| expiry.ends));
                let mut slice = Slice::default();
                assert!(slice.take(&item, 2, 1) && !slice.take(&item, 2, 1));
                let (sequence, found) = slice.iter().next().expect("it is there");
                let Found::Small { parts, qos, expiry: it } = found else { panic!("it is small") };
                assert_eq!((sequence, qos, it), (u64::MAX - 1, QoS::AtLeastOnce, expiry));
                assert_eq!((parts.topic, parts.payload), (&b"a/b"[..], payload));
                assert_eq!(parts.properties, properties);
            }
        }
    }
}
