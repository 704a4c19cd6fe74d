//! The MQTT state of one client: what survives its connections, as long as the session lasts.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use longshore_acl::Principal;
use longshore_codec::{PacketId, QoS, SubscribeOptions};

use crate::clock::{Mono, Wall};
use crate::condition::Condition;
use crate::connection::ConnectionId;
use crate::message::{Expiry, Message};
use crate::retained;
use crate::share::{Group, Presence};
use crate::slots::Key;

#[cfg(any(test, fuzzing))]
pub(crate) mod model;
mod outbound;
mod page;
mod pending;
mod queue;

pub(crate) use outbound::{Outbound, Settled, Step};
pub(crate) use page::{Open, PAGE_LEN, Page, Pages, Place, ROW_BYTES, Waiting};
pub(crate) use pending::{Manner, Pending, Recorded};
pub(crate) use queue::{Progress, Queue, Span};

/// Names a session for as long as it lives.
pub(crate) type SessionId = Key<Session>;

/// Account and client identifier: whose a session is.
pub(crate) type Owner = (u64, Arc<str>);

/// A session that outlives its connection for ever.
pub(crate) const NEVER: u32 = u32::MAX;

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client_id: Arc<str>,
    pub(crate) principal: Principal,
    /// Its number in the journal; 0 when it is not to outlive this process.
    pub(crate) holder: u64,
    pub(crate) connection: Option<ConnectionId>,
    /// Seconds the session outlives its connection.
    pub(crate) expiry_secs: u32,
    /// Sorted by topic filter.
    subscriptions: Vec<(Box<str>, Subscription)>,
    /// Bytes of their topic filters.
    pub(crate) subscription_bytes: usize,
    pub(crate) outbound: Outbound,
    /// Packet ids of QoS 2 messages routed and not yet released, sorted, and whether each came on
    /// this connection, so that it takes a place in the client's window.
    inbound: Vec<(PacketId, bool)>,
    /// What is used rarely, so that an idle session stays small.
    pub(crate) rare: Option<Box<Rare>>,
    /// The index's epoch when it last gave up a subscription.
    pub(crate) unsubscribed: u64,
    /// Bytes that wait in it, as its account knows.
    pub(crate) stored: usize,
    /// Messages of its client that were rejected.
    pub(crate) rejected: u32,
    /// When its client left, while it has no connection.
    pub(crate) left: Option<Wall>,
    /// When the session ends, while it has no connection.
    pub(crate) ends: Option<Mono>,
    /// The deadline that the timers hold.
    pub(crate) deadline: Option<Mono>,
}

/// Parts of a session that most sessions lack.
#[derive(Debug, Default)]
pub(crate) struct Rare {
    pub(crate) will: Option<Will>,
    /// When the will is due: its connection is gone, its delay runs.
    pub(crate) will_due: Option<Mono>,
    /// Shared groups it is a member of.
    pub(crate) groups: Vec<Arc<Group>>,
    /// What the other members' shards know of it.
    pub(crate) presence: Arc<Presence>,
    /// Retained messages still to be sent.
    pub(crate) reads: VecDeque<Read>,
    /// Whether the session stands in the shard's line of readers.
    pub(crate) reading: bool,
}

/// What a session asked of one topic filter.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subscription {
    pub(crate) options: SubscribeOptions,
    pub(crate) identifier: Option<NonZeroU32>,
    /// The only account whose messages it is for; 0 for all.
    pub(crate) only: u64,
    /// Which read of retained messages is for it, if one is under way.
    pub(crate) read: u64,
}

/// Retained messages of one subscription on their way.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) filter: Box<str>,
    pub(crate) cursor: retained::Read,
    pub(crate) qos: QoS,
    pub(crate) identifier: Option<NonZeroU32>,
    /// Of all reads, which it is.
    pub(crate) number: u64,
    /// The batch of the journal that its SUBACK waits for; 0 for none.
    pub(crate) follows: u64,
    /// What is asked of them beyond their topics.
    pub(crate) condition: Option<Arc<Condition>>,
    /// Only those after this.
    pub(crate) since: Option<Wall>,
}

/// The Will Message of a connection.
#[derive(Debug)]
pub(crate) struct Will {
    pub(crate) message: Arc<Message>,
    pub(crate) delay_secs: u32,
    /// Seconds from its publication to its end.
    pub(crate) expiry_secs: Option<u32>,
}

/// Bytes that a topic filter is accounted with: a level costs a place in the index.
pub(crate) fn filter_bytes(filter: &str) -> usize {
    filter.len() + LEVEL_BYTES * filter.split(['/', ',']).count()
}

/// Bytes that one level of a topic filter is accounted with, beside its name, and one member of a
/// selector.
const LEVEL_BYTES: usize = 32;

impl Session {
    pub(crate) fn new(client_id: Arc<str>, principal: Principal, holder: u64) -> Self {
        Self {
            client_id,
            principal,
            holder,
            connection: None,
            expiry_secs: 0,
            subscriptions: Vec::new(),
            subscription_bytes: 0,
            outbound: Outbound::default(),
            inbound: Vec::new(),
            rare: None,
            unsubscribed: 0,
            stored: 0,
            rejected: 0,
            left: None,
            ends: None,
            deadline: None,
        }
    }

    /// Account and client id, under which the roster knows the session.
    pub(crate) fn owner(&self) -> Owner {
        (self.principal.account, Arc::clone(&self.client_id))
    }

    /// Another message of its client is rejected; how many those are.
    pub(crate) fn reject(&mut self) -> u32 {
        self.rejected = self.rejected.saturating_add(1);
        self.rejected
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    pub(crate) fn will(&self) -> Option<&Will> {
        self.rare.as_ref()?.will.as_ref()
    }

    pub(crate) fn will_due(&self) -> Option<Mono> {
        self.rare.as_ref()?.will_due
    }

    /// Forgets the rarely used part when nothing is in it.
    pub(crate) fn shrink(&mut self) {
        if let Some(rare) = &self.rare
            && rare.will.is_none()
            && rare.groups.is_empty()
            && rare.reads.is_empty()
        {
            self.rare = None;
        }
    }

    pub(crate) fn subscription(&self, filter: &str) -> Option<&Subscription> {
        let place = self.place(filter).ok()?;
        Some(&self.subscriptions[place].1)
    }

    pub(crate) fn subscriptions(&self) -> impl Iterator<Item = &str> {
        self.subscriptions.iter().map(|(filter, _)| &**filter)
    }

    /// Topic filters and what is asked of them.
    pub(crate) fn all_subscriptions(&self) -> impl Iterator<Item = (&str, &Subscription)> {
        self.subscriptions.iter().map(|(filter, subscription)| (&**filter, subscription))
    }

    pub(crate) fn subscription_count(&self) -> usize {
        self.subscriptions.len()
    }

    /// Adds or replaces a subscription.
    pub(crate) fn subscribe(&mut self, filter: &str, subscription: Subscription) {
        match self.place(filter) {
            Ok(place) => self.subscriptions[place].1 = subscription,
            Err(place) => {
                // Most sessions have one subscription; do not make room for four.
                if self.subscriptions.is_empty() {
                    self.subscriptions.reserve_exact(1);
                }
                self.subscriptions.insert(place, (filter.into(), subscription));
                self.subscription_bytes += filter_bytes(filter);
            }
        }
    }

    /// Whether there was such a subscription.
    pub(crate) fn unsubscribe(&mut self, filter: &str) -> bool {
        let place = self.place(filter);
        if let Ok(place) = place {
            self.subscriptions.remove(place);
            self.subscription_bytes -= filter_bytes(filter);
        }
        place.is_ok()
    }

    /// Queues a read of retained messages, in place of an earlier one of the same subscription.
    pub(crate) fn queue_read(&mut self, read: Read) {
        let count = self.subscriptions.len();
        if self.rare().reads.len() > 2 * count {
            let mut reads = std::mem::take(&mut self.rare().reads);
            reads.retain(|read| self.is_current(read));
            self.rare().reads = reads;
        }
        self.rare().reads.push_back(read);
    }

    /// The next read that its subscription still asks for.
    pub(crate) fn next_read(&mut self) -> Option<Read> {
        loop {
            let read = self.rare.as_mut()?.reads.pop_front()?;
            if self.is_current(&read) {
                return Some(read);
            }
        }
    }

    fn is_current(&self, read: &Read) -> bool {
        self.subscription(&read.filter).is_some_and(|known| known.read == read.number)
    }

    fn place(&self, filter: &str) -> Result<usize, usize> {
        self.subscriptions.binary_search_by(|(known, _)| (**known).cmp(filter))
    }

    /// The client is there again: what came before takes no place in its window.
    pub(crate) fn receive_anew(&mut self) {
        self.inbound.iter_mut().for_each(|(_, counts)| *counts = false);
    }

    /// The QoS 2 message with this id is routed.
    pub(crate) fn receive_exactly_once(&mut self, id: PacketId) {
        if let Err(place) = self.inbound_place(id) {
            self.inbound.insert(place, (id, true));
        }
    }

    /// Ids of QoS 2 messages that were routed and not released.
    pub(crate) fn unreleased(&self) -> impl Iterator<Item = PacketId> {
        self.inbound.iter().map(|(id, _)| *id)
    }

    pub(crate) fn has_received(&self, id: PacketId) -> bool {
        self.inbound_place(id).is_ok()
    }

    /// From now on the id means another message. None if it was not known, otherwise whether its
    /// place in the client's window is free again.
    pub(crate) fn release(&mut self, id: PacketId) -> Option<bool> {
        let (_, counted) = self.inbound.remove(self.inbound_place(id).ok()?);
        if self.inbound.is_empty() {
            self.inbound = Vec::new();
        }
        Some(counted)
    }

    fn inbound_place(&self, id: PacketId) -> Result<usize, usize> {
        self.inbound.binary_search_by_key(&id, |(known, _)| *known)
    }
}

impl Will {
    /// The life of the message, if it is published now.
    pub(crate) fn expiry(&self, wall: Wall) -> Option<Expiry> {
        self.expiry_secs.map(|secs| Expiry::begin(secs, wall))
    }
}
