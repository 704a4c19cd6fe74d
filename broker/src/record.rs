//! What the broker writes down: the records of the journal.
//!
//! A message and everything it does is one record; all else is a list of events, each the change
//! of one session. Records of one session stand in the order in which things happened to it. What
//! several shards write about one thing is numbered (messages, retained topics), so that the order
//! of their records among each other does not matter.
//!
//! All numbers are little-endian. A holder is what a message waits for: a session, or a shared
//! group (then its highest bit is set). Numbers of holders are never used again.
//!
//! ```text
//! message   number 8 | flags 1 | [ends 8, secs 4] | [change] | [inbound 8 + 2] | [will of 8]
//!           | bytes of topic 2 | bytes of properties 4 | bytes of refs 4 | bytes of payload 4
//!           | topic | properties | refs, or the number of their list 8 | payload
//! change    sequence 8 | [account 8, if the highest bit of the sequence is set]
//! ref       holder 8 | flags 1 | [packet id 2] | [group 8] | [count 2, identifiers 4 each]
//! events    tag 1, what belongs to it, and the next one
//! page      number 8 | numbers of messages 8 each
//! list      number 8 | refs
//! ```
//!
//! A page is what many sessions wait for, a list is who waits for many messages: so 10,000 absent
//! clients that all wait for the same are told of once. Both are good for the round of compaction
//! in which they are written, for they go with its segments.

use std::num::NonZeroU32;

use longshore_acl::ROOT_ACCOUNT;
use longshore_codec::{PacketId, QoS, SubscribeOptions};

use crate::clock::Wall;
use crate::message::{Expiry, Identifiers, Parts};

mod reader;
mod refs;
mod within;
mod writer;

use self::reader::Reader;
pub(crate) use self::refs::{
    Encoded, Refs, RefsHere, decode_list, decode_page, encode_list, encode_page,
};
pub(crate) use self::within::Within;
use self::writer::{encode_options, encode_session, encode_will, put_change, put_text};

/// Kind of the record of a message.
pub(crate) const MESSAGE: u8 = 1;
/// Kind of the record of events.
pub(crate) const EVENTS: u8 = 2;
/// Kind of the record of messages that sessions wait for, one behind another.
pub(crate) const PAGE: u8 = 3;
/// Kind of the record of who waits for messages.
pub(crate) const LIST: u8 = 4;

/// What stands for the bytes of refs where they are those of a list.
const LISTED: u32 = u32::MAX;

/// Numbers of messages, holders and changes are given one after another: one above is not ours.
const NUMBER_MAX: u64 = 1 << 62;

/// The bit that tells a group from a session.
pub(crate) const GROUP_BIT: u64 = 1 << 63;

/// The bit of the number of a change that tells that an account follows; the root account's does
/// not.
const ACCOUNT_BIT: u64 = 1 << 63;

/// The bit of a Subscription Identifier that tells that an account follows.
const ONLY_BIT: u32 = 1 << 31;

/// A message as it is written down, without its topic, properties, refs and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Names the message; 0 when nobody waits for it.
    pub(crate) number: u64,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) expiry: Option<Expiry>,
    /// It is retained, as the so many-th.
    pub(crate) sequence: Option<u64>,
    /// The session that sent it at QoS 2, and its packet id there.
    pub(crate) inbound: Option<(u64, PacketId)>,
    /// It is the will of this session, which thereby has none any more.
    pub(crate) will_of: Option<u64>,
    /// The account that retains it, if it is retained.
    pub(crate) account: u64,
    /// It was written down before.
    pub(crate) is_copy: bool,
}

/// A message that waits for somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ref {
    pub(crate) holder: u64,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// The packet id under which it was sent.
    pub(crate) packet_id: Option<PacketId>,
    /// The shared group through which it came; 0 for none.
    pub(crate) group: u64,
    /// Whether it may have been sent before, under a packet id that is not known.
    pub(crate) again: bool,
    pub(crate) identifiers: Identifiers,
}

/// A will as it is written down.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WillEvent<'a> {
    pub(crate) parts: Parts<'a>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) delay_secs: u32,
    pub(crate) expiry_secs: Option<u32>,
}

/// A session as it is written down, without what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionEvent<'a> {
    pub(crate) account: u64,
    pub(crate) class: u32,
    pub(crate) token: Option<u64>,
    pub(crate) anonymous: bool,
    pub(crate) expiry_secs: u32,
    /// When its client left; `None` while it is there.
    pub(crate) left: Option<Wall>,
    pub(crate) client_id: &'a str,
}

/// A change of one session, or of what is retained.
#[derive(Clone, Debug)]
pub(crate) enum Event<'a> {
    /// The session is there, or its client is. `fresh` when nothing before is meant to stay: what
    /// follows is all it has.
    Session {
        holder: u64,
        fresh: bool,
        session: SessionEvent<'a>,
    },
    /// What follows, up to the end of the record, is all that the session has, but for what other
    /// shards have written down for it from segment `base` on: that may be on its way there.
    Whole {
        holder: u64,
        base: u32,
    },
    /// Its client has left. `broken` when nobody saw it: the broker had ended, and what waits may
    /// have been sent.
    Left {
        holder: u64,
        at: Wall,
        expiry_secs: u32,
        broken: bool,
    },
    End {
        holder: u64,
    },
    /// `only` is the account whose messages it is for, 0 for all; `group` the number of the shared
    /// group, 0 for an ordinary subscription.
    Subscribe {
        holder: u64,
        options: SubscribeOptions,
        identifier: Option<NonZeroU32>,
        only: u64,
        group: u64,
        filter: &'a str,
    },
    Unsubscribe {
        holder: u64,
        filter: &'a str,
    },
    Will {
        holder: u64,
        will: WillEvent<'a>,
    },
    NoWill {
        holder: u64,
    },
    /// The message waits for another holder, too, or was sent under this packet id.
    Ref {
        number: u64,
        to: Ref,
    },
    /// So many messages of a page wait for the session of `to`.
    Refs {
        page: u64,
        from: u16,
        len: u16,
        to: Ref,
    },
    /// The message does not wait for the holder any more.
    Done {
        holder: u64,
        number: u64,
        /// The shared group through which the holder got it; 0 for none. Without it a message that
        /// came in several ways could be taken for another of them.
        group: u64,
    },
    /// PUBREC came: the message is gone, its packet id is not.
    Received {
        holder: u64,
        number: u64,
        packet_id: PacketId,
    },
    /// PUBCOMP came.
    Completed {
        holder: u64,
        packet_id: PacketId,
    },
    /// A QoS 2 message of the session was routed.
    Inbound {
        holder: u64,
        packet_id: PacketId,
    },
    /// PUBREL came.
    Released {
        holder: u64,
        packet_id: PacketId,
    },
    /// The topic of this account retains nothing any more.
    Clear {
        account: u64,
        sequence: u64,
        topic: &'a [u8],
    },
    /// Nothing that matches the filter is retained any more, of what was retained up to `sequence`.
    ClearMatching {
        account: u64,
        sequence: u64,
        filter: &'a str,
        /// Whether a level with `,` is a selector there.
        selectors: bool,
        within: Within<'a>,
    },
    /// Everything that lived is written down behind the base of a round of compaction. Numbers up
    /// to these were given away then; what was retained up to `sequence`, and does not stand there,
    /// is not retained any more.
    Compacted {
        holders: u64,
        messages: u64,
        sequence: u64,
    },
}

const QOS_MASK: u8 = 0b11;
const RETAIN: u8 = 1 << 2;
// Of a message.
const EXPIRY: u8 = 1 << 3;
const RETAINED: u8 = 1 << 4;
const INBOUND: u8 = 1 << 5;
const WILL_OF: u8 = 1 << 6;
const COPY: u8 = 1 << 7;
// Of a ref.
const SENT: u8 = 1 << 3;
const VIA_GROUP: u8 = 1 << 4;
const IDENTIFIED: u8 = 1 << 5;
const AGAIN: u8 = 1 << 6;

impl Head {
    /// That of a message that is written down again, and of which nothing is told but itself.
    pub(crate) fn of(number: u64, qos: QoS, retain: bool, expiry: Option<Expiry>) -> Self {
        let (sequence, inbound, will_of) = (None, None, None);
        let account = ROOT_ACCOUNT;
        Self { number, qos, retain, expiry, sequence, inbound, will_of, account, is_copy: true }
    }

    /// The same message, without what its publication did.
    pub(crate) fn alone(&self) -> Self {
        Self::of(self.number, self.qos, self.retain, self.expiry)
    }

    /// Appends the record up to its payload, which is to follow.
    pub(crate) fn encode(&self, parts: &Parts<'_>, refs: Encoded<'_>, out: &mut Vec<u8>) {
        let mut flags = self.qos as u8;
        flags |= if self.retain { RETAIN } else { 0 };
        flags |= if self.expiry.is_some() { EXPIRY } else { 0 };
        flags |= if self.sequence.is_some() { RETAINED } else { 0 };
        flags |= if self.inbound.is_some() { INBOUND } else { 0 };
        flags |= if self.will_of.is_some() { WILL_OF } else { 0 };
        flags |= if self.is_copy { COPY } else { 0 };
        out.extend_from_slice(&self.number.to_le_bytes());
        out.push(flags);
        if let Some(Expiry { secs, ends }) = self.expiry {
            out.extend_from_slice(&ends.0.to_le_bytes());
            out.extend_from_slice(&secs.to_le_bytes());
        }
        if let Some(sequence) = self.sequence {
            put_change(sequence, self.account, out);
        }
        if let Some((holder, id)) = self.inbound {
            out.extend_from_slice(&holder.to_le_bytes());
            out.extend_from_slice(&id.get().to_le_bytes());
        }
        if let Some(holder) = self.will_of {
            out.extend_from_slice(&holder.to_le_bytes());
        }
        out.extend_from_slice(&(parts.topic.len() as u16).to_le_bytes());
        out.extend_from_slice(&(parts.properties.len() as u32).to_le_bytes());
        let refs_len = match refs {
            Encoded::Here(refs) => refs.len() as u32,
            Encoded::Listed(_) => LISTED,
        };
        out.extend_from_slice(&refs_len.to_le_bytes());
        out.extend_from_slice(&(parts.payload.len() as u32).to_le_bytes());
        out.extend_from_slice(parts.topic);
        out.extend_from_slice(parts.properties);
        match refs {
            Encoded::Here(refs) => out.extend_from_slice(refs),
            Encoded::Listed(list) => out.extend_from_slice(&list.to_le_bytes()),
        }
    }

    /// Reads the record of a message: its head, its parts and its refs.
    pub(crate) fn decode(body: &[u8]) -> Option<(Self, Parts<'_>, Refs<'_>)> {
        let mut reader = Reader(body);
        let number = reader.number()?;
        let flags = reader.u8()?;
        let mut head = Self {
            number,
            qos: QoS::try_from(flags & QOS_MASK).ok()?,
            retain: flags & RETAIN != 0,
            expiry: None,
            sequence: None,
            inbound: None,
            will_of: None,
            account: ROOT_ACCOUNT,
            is_copy: flags & COPY != 0,
        };
        if flags & EXPIRY != 0 {
            let ends = Wall(reader.u64()?);
            head.expiry = Some(Expiry { ends, secs: reader.u32()? });
        }
        if flags & RETAINED != 0 {
            let (sequence, account) = reader.change()?;
            (head.sequence, head.account) = (Some(sequence), account);
        }
        if flags & INBOUND != 0 {
            head.inbound = Some((reader.number()?, reader.packet_id()?));
        }
        if flags & WILL_OF != 0 {
            head.will_of = Some(reader.number()?);
        }
        let topic = usize::from(reader.u16()?);
        let (properties, refs, payload) = (reader.u32()?, reader.u32()?, reader.u32()? as usize);
        let topic = reader.bytes(topic)?;
        let properties = reader.bytes(properties as usize)?;
        let refs = match refs {
            LISTED => Refs::Listed(reader.number()?),
            refs => Refs::Here(RefsHere::of(reader.bytes(refs as usize)?)),
        };
        let payload = Some(reader.0).filter(|rest| rest.len() == payload)?;
        Some((head, Parts { topic, properties, payload, shared: None }, refs))
    }
}

/// A record whose checksum is right and that says nothing: it is not this program's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Tags of events.
mod tag {
    pub(super) const SESSION: u8 = 1;
    pub(super) const LEFT: u8 = 2;
    pub(super) const END: u8 = 3;
    pub(super) const SUBSCRIBE: u8 = 4;
    pub(super) const UNSUBSCRIBE: u8 = 5;
    pub(super) const WILL: u8 = 6;
    pub(super) const NO_WILL: u8 = 7;
    pub(super) const REF: u8 = 8;
    pub(super) const DONE: u8 = 9;
    pub(super) const RECEIVED: u8 = 10;
    pub(super) const COMPLETED: u8 = 11;
    pub(super) const INBOUND: u8 = 12;
    pub(super) const RELEASED: u8 = 13;
    pub(super) const CLEAR: u8 = 14;
    pub(super) const COMPACTED: u8 = 15;
    pub(super) const DONE_IN_GROUP: u8 = 16;
    pub(super) const WHOLE: u8 = 17;
    pub(super) const REFS: u8 = 19;
    pub(super) const CLEAR_MATCHING: u8 = 18;
    pub(super) const CLEAR_SELECTED: u8 = 20;
    pub(super) const CLEAR_WITHIN: u8 = 21;
}

// Of a session.
const FRESH: u8 = 1;
const HAS_LEFT: u8 = 1 << 1;
const HAS_TOKEN: u8 = 1 << 2;
const ANONYMOUS: u8 = 1 << 3;

impl<'a> Event<'a> {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut begin = |tag: u8, number: u64| {
            out.push(tag);
            out.extend_from_slice(&number.to_le_bytes());
        };
        match self {
            Self::Session { holder, fresh, session } => {
                begin(tag::SESSION, *holder);
                encode_session(session, *fresh, out);
            }
            Self::Left { holder, at, expiry_secs, broken } => {
                begin(tag::LEFT, *holder);
                out.extend_from_slice(&at.0.to_le_bytes());
                out.extend_from_slice(&expiry_secs.to_le_bytes());
                out.push(u8::from(*broken));
            }
            Self::Whole { holder, base } => {
                begin(tag::WHOLE, *holder);
                out.extend_from_slice(&base.to_le_bytes());
            }
            Self::End { holder } => begin(tag::END, *holder),
            Self::Subscribe { holder, options, identifier, only, group, filter } => {
                begin(tag::SUBSCRIBE, *holder);
                out.push(encode_options(*options));
                let bit = if *only == 0 { 0 } else { ONLY_BIT };
                let identifier = identifier.map_or(0, NonZeroU32::get) | bit;
                out.extend_from_slice(&identifier.to_le_bytes());
                if *only != 0 {
                    out.extend_from_slice(&only.to_le_bytes());
                }
                out.extend_from_slice(&group.to_le_bytes());
                put_text(filter.as_bytes(), out);
            }
            Self::Unsubscribe { holder, filter } => {
                begin(tag::UNSUBSCRIBE, *holder);
                put_text(filter.as_bytes(), out);
            }
            Self::Will { holder, will } => {
                begin(tag::WILL, *holder);
                encode_will(will, out);
            }
            Self::NoWill { holder } => begin(tag::NO_WILL, *holder),
            Self::Ref { number, to } => {
                begin(tag::REF, *number);
                to.encode(out);
            }
            Self::Refs { page, from, len, to } => {
                begin(tag::REFS, *page);
                out.extend_from_slice(&from.to_le_bytes());
                out.extend_from_slice(&len.to_le_bytes());
                to.encode(out);
            }
            Self::Done { holder, number, group: 0 } => {
                begin(tag::DONE, *holder);
                out.extend_from_slice(&number.to_le_bytes());
            }
            Self::Done { holder, number, group } => {
                begin(tag::DONE_IN_GROUP, *holder);
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&group.to_le_bytes());
            }
            Self::Received { holder, number, packet_id } => {
                begin(tag::RECEIVED, *holder);
                out.extend_from_slice(&number.to_le_bytes());
                out.extend_from_slice(&packet_id.get().to_le_bytes());
            }
            Self::Completed { holder, packet_id } => {
                begin(tag::COMPLETED, *holder);
                out.extend_from_slice(&packet_id.get().to_le_bytes());
            }
            Self::Inbound { holder, packet_id } => {
                begin(tag::INBOUND, *holder);
                out.extend_from_slice(&packet_id.get().to_le_bytes());
            }
            Self::Released { holder, packet_id } => {
                begin(tag::RELEASED, *holder);
                out.extend_from_slice(&packet_id.get().to_le_bytes());
            }
            Self::Clear { account, sequence, topic } => {
                out.push(tag::CLEAR);
                put_change(*sequence, *account, out);
                put_text(topic, out);
            }
            Self::ClearMatching { account, sequence, filter, selectors, within } => {
                out.push(match within {
                    Within::All if *selectors => tag::CLEAR_SELECTED,
                    Within::All => tag::CLEAR_MATCHING,
                    Within::Users | Within::Listed(_) => tag::CLEAR_WITHIN,
                });
                put_change(*sequence, *account, out);
                put_text(filter.as_bytes(), out);
                within.encode(*selectors, out);
            }
            Self::Compacted { holders, messages, sequence } => {
                begin(tag::COMPACTED, *holders);
                out.extend_from_slice(&messages.to_le_bytes());
                out.extend_from_slice(&sequence.to_le_bytes());
            }
        }
    }

    /// The events of a record, up to the first that cannot be read.
    pub(crate) fn decode_all(body: &'a [u8]) -> Events<'a> {
        Events(Reader(body))
    }
}

/// The events of one record.
#[derive(Debug)]
pub(crate) struct Events<'a>(Reader<'a>);

impl<'a> Events<'a> {
    /// The next one: `None` at the end, an error inside when it cannot be read.
    pub(crate) fn next(&mut self) -> Option<Result<Event<'a>, Unreadable>> {
        (!self.0.0.is_empty()).then(|| self.read().ok_or(Unreadable))
    }

    fn read(&mut self) -> Option<Event<'a>> {
        let reader = &mut self.0;
        let (tag, holder) = (reader.u8()?, reader.holder()?);
        // A message that came through a group may be the group's until it is done with.
        let of_group = matches!(tag, tag::DONE | tag::DONE_IN_GROUP | tag::RECEIVED);
        let in_account = matches!(
            tag,
            tag::CLEAR | tag::CLEAR_MATCHING | tag::CLEAR_SELECTED | tag::CLEAR_WITHIN
        );
        if holder & GROUP_BIT != 0 && !of_group && !in_account {
            return None;
        }
        Some(match tag {
            tag::SESSION => {
                let (fresh, session) = reader.session()?;
                Event::Session { holder, fresh, session }
            }
            tag::LEFT => {
                let (at, expiry_secs) = (Wall(reader.u64()?), reader.u32()?);
                let broken = match reader.u8()? {
                    0 => false,
                    1 => true,
                    _ => return None,
                };
                Event::Left { holder, at, expiry_secs, broken }
            }
            tag::WHOLE => Event::Whole { holder, base: reader.u32()? },
            tag::END => Event::End { holder },
            tag::SUBSCRIBE => {
                let options = reader.options()?;
                let (identifier, only) = reader.subscribed()?;
                let (group, filter) = (reader.group()?, reader.str()?);
                Event::Subscribe { holder, options, identifier, only, group, filter }
            }
            tag::UNSUBSCRIBE => Event::Unsubscribe { holder, filter: reader.str()? },
            tag::WILL => Event::Will { holder, will: reader.will()? },
            tag::NO_WILL => Event::NoWill { holder },
            tag::REF => Event::Ref { number: holder, to: reader.to()? },
            tag::REFS => {
                let (from, len) = (reader.u16()?, reader.u16()?);
                Event::Refs { page: holder, from, len, to: reader.to()? }
            }
            tag::DONE => Event::Done { holder, number: reader.number()?, group: 0 },
            tag::DONE_IN_GROUP => {
                let (number, group) =
                    (reader.number()?, reader.group().filter(|group| *group != 0)?);
                Event::Done { holder, number, group }
            }
            tag::RECEIVED => {
                let (number, packet_id) = (reader.number()?, reader.packet_id()?);
                Event::Received { holder, number, packet_id }
            }
            tag::COMPLETED => Event::Completed { holder, packet_id: reader.packet_id()? },
            tag::INBOUND => Event::Inbound { holder, packet_id: reader.packet_id()? },
            tag::RELEASED => Event::Released { holder, packet_id: reader.packet_id()? },
            _ if in_account => return self.read_clear(tag, holder),
            tag::COMPACTED => {
                let (messages, sequence) = (reader.number()?, reader.number()?);
                Event::Compacted { holders: holder, messages, sequence }
            }
            _ => return None,
        })
    }

    fn read_clear(&mut self, tag: u8, number: u64) -> Option<Event<'a>> {
        let reader = &mut self.0;
        let (sequence, account) = reader.account_of(number)?;
        if tag == tag::CLEAR {
            return Some(Event::Clear { account, sequence, topic: reader.text()? });
        }
        let filter = reader.str()?;
        let (selectors, within) = match tag {
            tag::CLEAR_WITHIN => Within::decode(reader)?,
            _ => (tag == tag::CLEAR_SELECTED, Within::All),
        };
        Some(Event::ClearMatching { account, sequence, filter, selectors, within })
    }
}

#[cfg(any(test, fuzzing))]
pub(crate) mod any;

#[cfg(test)]
mod tests;
