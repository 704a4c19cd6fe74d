//! Records of whatever kind, made from bytes: what the tests of records and of recovery begin with.

use std::num::{NonZeroU16, NonZeroU32};

use longshore_codec::{PacketId, QoS, RetainHandling, SubscribeOptions};

use super::reader::IDENTIFIER_MAX;
use super::{
    EVENTS, Encoded, Event, GROUP_BIT, Head, LIST, MESSAGE, NUMBER_MAX, PAGE, Ref, SessionEvent,
    WillEvent, Within, encode_list, encode_page,
};
use crate::clock::Wall;
use crate::message::{Expiry, Identifiers, Parts};

const CLIENTS: [&str; 4] = ["a", "b", "", "\u{e9}"];
const FILTERS: [&str; 9] =
    ["t", "t/#", "+/x", "$share/g/t", "$share/h/t", "$share/g/#", "bad/#/x", "", "t,$x/x,"];
const TOPICS: [&[u8]; 6] = [b"t", b"t/x", b"$x", b"", b"\xff", b"t/#"];
const PROPERTIES: [&[u8]; 4] = [b"", b"\x01\x01", b"\x03\0\x01x", b"\xff\xff"];
const PAYLOADS: [&[u8]; 4] = [b"", b"x", &[b'x'; 300], &[b'x'; 3_000]];

/// Choices made by bytes; when they have run out, always the first.
pub(crate) struct Source<'a> {
    bytes: std::slice::Iter<'a, u8>,
    /// Lists that were written.
    lists: Vec<u64>,
}

impl<'a> Source<'a> {
    pub(crate) fn new(data: &'a [u8]) -> Self {
        Self { bytes: data.iter(), lists: Vec::new() }
    }

    pub(crate) fn is_spent(&self) -> bool {
        self.bytes.len() == 0
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.bytes.next().copied().unwrap_or(0)
    }

    /// A number below `end`, which is at most 256 and not 0.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::from(self.byte()) % end
    }

    fn is(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// Small most of the time.
    fn u32(&mut self) -> u32 {
        match self.below(8) {
            0 => u32::MAX,
            1 => u32::from_le_bytes(std::array::from_fn(|_| self.byte())),
            small => small as u32,
        }
    }

    fn wall(&mut self) -> Wall {
        Wall(match self.below(8) {
            0 => u64::MAX,
            1 => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
            secs => secs as u64 * 1_000_000,
        })
    }

    fn number(&mut self) -> u64 {
        match self.below(64) {
            // There is room for those that follow.
            0 => NUMBER_MAX / 2,
            number => number as u64 % 12,
        }
    }

    fn group(&mut self) -> u64 {
        GROUP_BIT | self.number()
    }

    fn identifier(&mut self) -> Option<NonZeroU32> {
        NonZeroU32::new(self.u32().min(IDENTIFIER_MAX))
    }

    fn packet_id(&mut self) -> PacketId {
        let id = match self.below(16) {
            0 => u16::MAX,
            id => id as u16,
        };
        NonZeroU16::new(id).unwrap_or(PacketId::MIN)
    }

    fn qos(&mut self) -> QoS {
        self.one_of(&[QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtMostOnce])
    }

    fn parts(&mut self) -> Parts<'static> {
        Parts {
            topic: self.one_of(&TOPICS),
            properties: self.one_of(&PROPERTIES),
            payload: self.one_of(&PAYLOADS),
            shared: None,
        }
    }

    pub(crate) fn to(&mut self) -> Ref {
        let identifiers = self.below(4);
        Ref {
            holder: if self.below(4) == 0 { self.group() } else { self.number() },
            qos: self.qos(),
            retain: self.is(),
            packet_id: self.is().then(|| self.packet_id()),
            group: if self.below(4) == 0 { self.group() } else { 0 },
            again: self.is(),
            identifiers: (0..identifiers)
                .filter_map(|_| self.identifier())
                .collect::<Identifiers>(),
        }
    }

    fn within(&mut self) -> Within<'static> {
        match self.below(4) {
            0 => Within::All,
            1 => Within::Users,
            _ => Within::Listed((0..self.below(3)).map(|_| self.one_of(&FILTERS)).collect()),
        }
    }

    fn account(&mut self) -> u64 {
        1 + u64::from(self.byte() % 2)
    }

    pub(crate) fn head(&mut self) -> Head {
        let sequence = self.is().then(|| self.number());
        Head {
            number: self.number(),
            qos: self.qos(),
            retain: self.is(),
            expiry: self.is().then(|| Expiry { ends: self.wall(), secs: self.u32() }),
            sequence,
            account: if sequence.is_some() { self.account() } else { 1 },
            inbound: (self.below(4) == 0).then(|| (self.number(), self.packet_id())),
            will_of: (self.below(4) == 0).then(|| self.number()),
            is_copy: self.is(),
        }
    }

    /// The body of a record of a message. One number is always the same message.
    fn message(&mut self) -> Vec<u8> {
        let head = self.head();
        let (parts, mut refs) = (Source::new(&[head.number as u8; 3]).parts(), Vec::new());
        for _ in 0..if head.number == 0 { 0 } else { self.below(4) } {
            self.to().encode(&mut refs);
        }
        let listed = head.number != 0 && !self.lists.is_empty() && self.is();
        let refs = match listed {
            true => Encoded::Listed(self.lists[self.lists.len() - 1]),
            false => Encoded::Here(&refs),
        };
        let mut body = Vec::new();
        head.encode(&parts, refs, &mut body);
        body.extend_from_slice(parts.payload);
        body
    }

    fn session(&mut self) -> SessionEvent<'static> {
        SessionEvent {
            account: if self.is() { 0 } else { self.number() },
            class: self.u32(),
            token: self.is().then(|| self.number()),
            anonymous: self.is(),
            expiry_secs: self.u32(),
            left: self.is().then(|| self.wall()),
            client_id: self.one_of(&CLIENTS),
        }
    }

    fn options(&mut self) -> SubscribeOptions {
        use RetainHandling::{DoNotSend, Send, SendIfNew};
        SubscribeOptions {
            qos: self.qos(),
            no_local: self.is(),
            retain_as_published: self.is(),
            retain_handling: self.one_of(&[Send, SendIfNew, DoNotSend]),
        }
    }

    fn will(&mut self) -> WillEvent<'static> {
        WillEvent {
            parts: self.parts(),
            qos: self.qos(),
            retain: self.is(),
            delay_secs: self.u32(),
            expiry_secs: self.is().then(|| self.u32()),
        }
    }

    /// Kinds of events.
    pub(crate) const EVENTS: usize = 17;

    /// An event of this kind.
    pub(crate) fn event_of(&mut self, kind: usize) -> Event<'static> {
        let holder = self.number();
        match kind {
            0 => Event::Session { holder, fresh: self.is(), session: self.session() },
            1 => Event::Subscribe {
                holder,
                options: self.options(),
                identifier: self.identifier(),
                only: self.account() - 1,
                group: if self.is() { self.group() } else { 0 },
                filter: self.one_of(&FILTERS),
            },
            2 => Event::Unsubscribe { holder, filter: self.one_of(&FILTERS) },
            3 => {
                let (at, expiry_secs, broken) = (self.wall(), self.u32(), self.is());
                Event::Left { holder, at, expiry_secs, broken }
            }
            4 => Event::End { holder },
            5 => Event::Will { holder, will: self.will() },
            6 => Event::NoWill { holder },
            7 => Event::Ref { number: holder, to: self.to() },
            8 => {
                let holder = if self.is() { self.group() } else { holder };
                let group = if holder & GROUP_BIT == 0 && self.is() { self.group() } else { 0 };
                Event::Done { holder, number: self.number(), group }
            }
            9 => {
                let holder = if self.is() { self.group() } else { holder };
                Event::Received { holder, number: self.number(), packet_id: self.packet_id() }
            }
            10 => Event::Completed { holder, packet_id: self.packet_id() },
            11 => Event::Inbound { holder, packet_id: self.packet_id() },
            12 => Event::Released { holder, packet_id: self.packet_id() },
            13 => {
                let (account, topic) = (self.account(), self.one_of(&TOPICS));
                Event::Clear { account, sequence: holder, topic }
            }
            14 => {
                let (from, len) = (u16::from(self.byte() % 8), u16::from(self.byte() % 8));
                Event::Refs { page: holder, from, len, to: self.to() }
            }
            15 => {
                let (account, filter, selectors) =
                    (self.account(), self.one_of(&FILTERS), self.is());
                let within = self.within();
                Event::ClearMatching { account, sequence: holder, filter, selectors, within }
            }
            _ => {
                let (messages, sequence) = (self.number(), self.number());
                Event::Compacted { holders: holder, messages, sequence }
            }
        }
    }

    /// Kind and body of a sound record.
    pub(crate) fn record(&mut self) -> (u8, Vec<u8>) {
        if self.below(3) == 0 {
            return (MESSAGE, self.message());
        }
        let mut body = Vec::new();
        match self.below(16) {
            0 => {
                let numbers: Vec<u64> = (0..1 + self.below(8)).map(|_| self.number()).collect();
                encode_page(self.number(), numbers.into_iter(), &mut body);
                return (PAGE, body);
            }
            1 => {
                let (list, mut refs) = (self.number(), Vec::new());
                (0..self.below(4)).for_each(|_| self.to().encode(&mut refs));
                encode_list(list, &refs, &mut body);
                self.lists.push(list);
                return (LIST, body);
            }
            _ => {}
        }
        for _ in 0..1 + self.below(4) {
            // Sessions, and what is subscribed to, more often than all else.
            let kind = self.below(2 * Self::EVENTS);
            let kind = if kind < Self::EVENTS { kind } else { kind % 2 };
            self.event_of(kind).encode(&mut body);
        }
        (EVENTS, body)
    }

    /// The same, or damaged, or nothing that anybody wrote.
    pub(crate) fn any_record(&mut self) -> (u8, Vec<u8>) {
        let (kind, mut body) = self.record();
        match self.below(16) {
            0 => {
                let length = self.below(64);
                (self.byte() % 6, (0..length).map(|_| self.byte()).collect())
            }
            1 => {
                body.truncate(usize::from(self.byte()) % (body.len() + 1));
                (kind, body)
            }
            2 | 3 => {
                for _ in 0..1 + self.below(3) {
                    let place = (self.below(256) << 8 | self.below(256)) % body.len().max(1);
                    let byte = self.byte();
                    body.get_mut(place).into_iter().for_each(|it| *it = byte);
                }
                (kind, body)
            }
            4 => {
                body.push(self.byte());
                (kind, body)
            }
            _ => (kind, body),
        }
    }
}

/// Bytes that look like chance (SplitMix64).
#[cfg(test)]
pub(crate) fn bytes_of(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let mut word = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    };
    (0..count / 8).flat_map(|_| word()).collect()
}
