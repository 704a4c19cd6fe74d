//! From the bytes of a record to what it says; `None` where it says nothing.

use std::num::NonZeroU32;

use longshore_acl::ROOT_ACCOUNT;
use longshore_codec::{PacketId, QoS, RetainHandling, SubscribeOptions};

use super::{
    ACCOUNT_BIT, AGAIN, ANONYMOUS, EXPIRY, FRESH, GROUP_BIT, HAS_LEFT, HAS_TOKEN, IDENTIFIED,
    NUMBER_MAX, ONLY_BIT, QOS_MASK, RETAIN, Ref, SENT, SessionEvent, VIA_GROUP, WillEvent,
};
use crate::clock::Wall;
use crate::message::{Identifiers, Parts};

/// The largest number that MQTT can write (MQTT 5.0, 3.8.2.1.2).
pub(super) const IDENTIFIER_MAX: u32 = 268_435_455;

/// What is left of a record.
#[derive(Debug)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*bytes)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A number of a message, of a session or of a change.
    pub(super) fn number(&mut self) -> Option<u64> {
        self.u64().filter(|number| *number <= NUMBER_MAX)
    }

    /// The number of a change of what is retained, and in which account.
    pub(super) fn change(&mut self) -> Option<(u64, u64)> {
        let number = self.u64()?;
        self.account_of(number)
    }

    /// The same where the number is read already.
    pub(super) fn account_of(&mut self, number: u64) -> Option<(u64, u64)> {
        let sequence = number & !ACCOUNT_BIT;
        let account = match sequence == number {
            true => ROOT_ACCOUNT,
            // What is the root account's is told without it.
            false => self.u64().filter(|account| *account != ROOT_ACCOUNT)?,
        };
        (sequence <= NUMBER_MAX).then_some((sequence, account))
    }

    /// A number of a session or of a group.
    pub(super) fn holder(&mut self) -> Option<u64> {
        self.u64().filter(|holder| holder & !GROUP_BIT <= NUMBER_MAX)
    }

    /// A number of a group, or 0.
    pub(super) fn group(&mut self) -> Option<u64> {
        self.holder().filter(|group| *group == 0 || group & GROUP_BIT != 0)
    }

    /// A Subscription Identifier, or none.
    pub(super) fn identifier(&mut self) -> Option<Option<NonZeroU32>> {
        self.u32().filter(|id| *id <= IDENTIFIER_MAX).map(NonZeroU32::new)
    }

    pub(super) fn packet_id(&mut self) -> Option<PacketId> {
        PacketId::new(self.u16()?)
    }

    pub(super) fn text(&mut self) -> Option<&'a [u8]> {
        let count = usize::from(self.u16()?);
        self.bytes(count)
    }

    pub(super) fn str(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.text()?).ok()
    }

    pub(super) fn to(&mut self) -> Option<Ref> {
        let (holder, flags) = (self.holder()?, self.u8()?);
        let known = QOS_MASK | RETAIN | SENT | VIA_GROUP | IDENTIFIED | AGAIN;
        if flags & !known != 0 {
            return None;
        }
        let packet_id = if flags & SENT == 0 { None } else { Some(self.packet_id()?) };
        let group = if flags & VIA_GROUP == 0 { 0 } else { self.group()? };
        let mut identifiers = Identifiers::None;
        if flags & IDENTIFIED != 0 {
            let count = usize::from(self.u16()?);
            let ids = self.bytes(4 * count)?.chunks_exact(4);
            let id = |bytes: &[u8]| Reader(bytes).identifier().flatten();
            identifiers = ids.map(id).collect::<Option<Vec<_>>>()?.into_iter().collect();
        }
        let (qos, retain) = (QoS::try_from(flags & QOS_MASK).ok()?, flags & RETAIN != 0);
        let again = flags & AGAIN != 0;
        Some(Ref { holder, qos, retain, packet_id, group, again, identifiers })
    }

    pub(super) fn session(&mut self) -> Option<(bool, SessionEvent<'a>)> {
        let flags = self.u8()?;
        if flags & !(FRESH | HAS_LEFT | HAS_TOKEN | ANONYMOUS) != 0 {
            return None;
        }
        let (account, class, token) = (self.u64()?, self.u32()?, self.u64()?);
        let (expiry_secs, left) = (self.u32()?, Wall(self.u64()?));
        let session = SessionEvent {
            account,
            class,
            token: (flags & HAS_TOKEN != 0).then_some(token),
            anonymous: flags & ANONYMOUS != 0,
            expiry_secs,
            left: (flags & HAS_LEFT != 0).then_some(left),
            client_id: self.str()?,
        };
        Some((flags & FRESH != 0, session))
    }

    pub(super) fn will(&mut self) -> Option<WillEvent<'a>> {
        let (flags, delay_secs, expiry_secs) = (self.u8()?, self.u32()?, self.u32()?);
        if flags & !(QOS_MASK | RETAIN | EXPIRY) != 0 {
            return None;
        }
        let topic = self.text()?;
        let mut part = || {
            let count = self.u32()? as usize;
            self.bytes(count)
        };
        let (properties, payload) = (part()?, part()?);
        Some(WillEvent {
            parts: Parts { topic, properties, payload, shared: None },
            qos: QoS::try_from(flags & QOS_MASK).ok()?,
            retain: flags & RETAIN != 0,
            delay_secs,
            expiry_secs: (flags & EXPIRY != 0).then_some(expiry_secs),
        })
    }

    /// The Subscription Identifier of a subscription, and the only account it is for, or 0.
    pub(super) fn subscribed(&mut self) -> Option<(Option<NonZeroU32>, u64)> {
        let number = self.u32()?;
        let identifier = number & !ONLY_BIT;
        let only = match number == identifier {
            true => 0,
            false => self.u64().filter(|only| *only != 0)?,
        };
        (identifier <= IDENTIFIER_MAX).then(|| (NonZeroU32::new(identifier), only))
    }

    pub(super) fn options(&mut self) -> Option<SubscribeOptions> {
        let byte = self.u8()?;
        let retain_handling = match byte >> 4 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return None,
        };
        Some(SubscribeOptions {
            qos: QoS::try_from(byte & QOS_MASK).ok()?,
            no_local: byte & 1 << 2 != 0,
            retain_as_published: byte & 1 << 3 != 0,
            retain_handling,
        })
    }
}
