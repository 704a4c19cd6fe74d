//! The MQTT state of one client: what survives its connections, as long as the session lasts.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::Arc;

use longshore_acl::Principal;
use longshore_codec::{PacketId, QoS, SubscribeOptions};

use crate::clock::{Mono, Wall};
use crate::commons::Owner;
use crate::connection::ConnectionId;
use crate::message::{Expiry, Message};
use crate::retained::Cursor;
use crate::share::{Group, Presence};
use crate::slots::Key;

mod outbound;

pub(crate) use outbound::{Outbound, Pending, Settled, Step};

/// Names a session for as long as it lives.
pub(crate) type SessionId = Key<Session>;

/// A session that outlives its connection for ever.
pub(crate) const NEVER: u32 = u32::MAX;

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client_id: Arc<str>,
    pub(crate) principal: Principal,
    pub(crate) connection: Option<ConnectionId>,
    /// Seconds the session outlives its connection.
    pub(crate) expiry_secs: u32,
    /// Sorted by topic filter.
    subscriptions: Vec<(Box<str>, Subscription)>,
    pub(crate) outbound: Outbound,
    /// Packet ids of QoS 2 messages routed and not yet released, sorted.
    inbound: Vec<PacketId>,
    /// What is used rarely, so that an idle session stays small.
    pub(crate) rare: Option<Box<Rare>>,
    /// The index's epoch when it last gave up a subscription.
    pub(crate) unsubscribed: u64,
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
}

/// Retained messages of one subscription on their way.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) filter: Box<str>,
    pub(crate) cursor: Cursor,
    pub(crate) qos: QoS,
    pub(crate) identifier: Option<NonZeroU32>,
}

/// The Will Message of a connection.
#[derive(Debug)]
pub(crate) struct Will {
    pub(crate) message: Arc<Message>,
    pub(crate) delay_secs: u32,
    /// Seconds from its publication to its end.
    pub(crate) expiry_secs: Option<u32>,
}

impl Session {
    pub(crate) fn new(client_id: Arc<str>, principal: Principal) -> Self {
        Self {
            client_id,
            principal,
            connection: None,
            expiry_secs: 0,
            subscriptions: Vec::new(),
            outbound: Outbound::default(),
            inbound: Vec::new(),
            rare: None,
            unsubscribed: 0,
            ends: None,
            deadline: None,
        }
    }

    /// Account and client id, under which the roster knows the session.
    pub(crate) fn owner(&self) -> Owner {
        (self.principal.account, Arc::clone(&self.client_id))
    }

    pub(crate) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
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
            }
        }
    }

    /// Whether there was such a subscription.
    pub(crate) fn unsubscribe(&mut self, filter: &str) -> bool {
        let place = self.place(filter);
        if let Ok(place) = place {
            self.subscriptions.remove(place);
        }
        place.is_ok()
    }

    fn place(&self, filter: &str) -> Result<usize, usize> {
        self.subscriptions.binary_search_by(|(known, _)| (**known).cmp(filter))
    }

    /// Whether the QoS 2 message with this id is new; from now on it is known.
    pub(crate) fn receive_exactly_once(&mut self, id: PacketId) -> bool {
        match self.inbound.binary_search(&id) {
            Ok(_) => false,
            Err(place) => {
                self.inbound.insert(place, id);
                true
            }
        }
    }

    pub(crate) fn has_received(&self, id: PacketId) -> bool {
        self.inbound.binary_search(&id).is_ok()
    }

    /// Whether the id was known; from now on it means another message.
    pub(crate) fn release(&mut self, id: PacketId) -> bool {
        let place = self.inbound.binary_search(&id);
        if let Ok(place) = place {
            self.inbound.remove(place);
            if self.inbound.is_empty() {
                self.inbound = Vec::new();
            }
        }
        place.is_ok()
    }
}

impl Will {
    /// The life of the message, if it is published now.
    pub(crate) fn expiry(&self, wall: Wall) -> Option<Expiry> {
        self.expiry_secs.map(|secs| Expiry::begin(secs, wall))
    }
}
