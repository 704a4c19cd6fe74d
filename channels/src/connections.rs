//! Connections of a channel as others see them: who it is, and what it is asked to do.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use hashbrown::HashMap;
use serde_json::{Map, Value, json};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::live::source;
use crate::message::{Ident, Timestamp};
use crate::protocol::{CloseCode, Command};

/// Commands that wait for one device.
const ORDERS_MAX: usize = 16;

/// A device that is connected. Its task looks here when the bell rings.
#[derive(Debug)]
pub(crate) struct Peer {
    /// No other connection of any channel ever has it.
    pub(crate) id: u64,
    pub(crate) address: SocketAddr,
    pub(crate) transport: &'static str,
    pub(crate) established: Timestamp,
    ident: OnceLock<Ident>,
    asked: Mutex<Asked>,
    pub(crate) bell: Notify,
}

/// What others want of a connection.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// That it ends.
    pub(crate) close: Option<CloseCode>,
    /// What to tell the device.
    pub(crate) orders: VecDeque<Order>,
    /// Whether it has ended: nobody looks here any more.
    pub(crate) is_over: bool,
}

/// A command on its way to a device.
#[derive(Debug)]
pub(crate) struct Order {
    /// What whoever sends it calls it.
    pub(crate) id: Value,
    pub(crate) command: Command,
    /// Nobody wants it to be sent, or waits for its answer, after that.
    pub(crate) deadline: Instant,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr, transport: &'static str, at: Timestamp) -> Self {
        Self {
            id: at.micros().unsigned_abs(),
            address,
            transport,
            established: at,
            ident: OnceLock::new(),
            asked: Mutex::default(),
            bell: Notify::new(),
        }
    }

    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The ident it has shown first.
    pub(crate) fn ident(&self) -> Option<&Ident> {
        self.ident.get()
    }

    /// Tells it to end; the first one to say so gives the code.
    pub(crate) fn close(&self, code: CloseCode) {
        self.asked().close.get_or_insert(code);
        self.bell.notify_one();
    }

    /// Gives it a command, or says why it cannot.
    pub(crate) fn order(&self, order: Order) -> Result<(), &'static str> {
        let mut asked = self.asked();
        if asked.is_over {
            return Err("the connection has ended");
        }
        if asked.orders.len() >= ORDERS_MAX {
            return Err("too many commands wait for the device");
        }
        asked.orders.push_back(order);
        drop(asked);
        self.bell.notify_one();
        Ok(())
    }

    /// Whether it is to end.
    pub(crate) fn closing(&self) -> Option<CloseCode> {
        self.asked().close
    }

    /// The next command for the device that can go now.
    pub(crate) fn next_order(&self, can_go: impl Fn(&Order) -> bool) -> Option<Order> {
        let orders = &mut self.asked().orders;
        let at = orders.iter().position(can_go)?;
        orders.remove(at)
    }

    /// Takes no commands any more; those that are left.
    pub(crate) fn end(&self) -> VecDeque<Order> {
        let mut asked = self.asked();
        asked.is_over = true;
        std::mem::take(&mut asked.orders)
    }

    /// As REST lists it (R3.16).
    pub(crate) fn describe(&self, channel_id: u64) -> Map<String, Value> {
        let fields = json!({
            "id": self.id, "channel_id": channel_id, "device_id": null,
            "ident": self.ident().map(Ident::as_str), "ip": self.address.ip().to_canonical(),
            "source": source(self.address), "transport": self.transport,
            "established": Value::from(self.established), "secondary": false, "meta": null,
        });
        match fields {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }

    /// As it is retained once it is known who it is.
    pub(crate) fn state(&self, channel_id: u64, protocol_id: u16) -> Value {
        json!({
            "id": self.id, "channel_id": channel_id, "protocol_id": protocol_id,
            "ident": self.ident().map(Ident::as_str), "source": source(self.address),
            "transport": self.transport, "established": Value::from(self.established),
        })
    }
}

/// All of a channel.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    by_id: HashMap<u64, Arc<Peer>>,
    by_ident: HashMap<Ident, u64>,
}

impl Connections {
    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.by_id.values()
    }

    pub(crate) fn get(&self, id: u64) -> Option<&Arc<Peer>> {
        self.by_id.get(&id)
    }

    pub(crate) fn add(&mut self, peer: Arc<Peer>) {
        self.by_id.insert(peer.id, peer);
    }

    /// It is this one: whoever was it before is ended, because a device that has lost its
    /// connection comes again before the old one is noticed to be dead (R3.7). False for a
    /// connection that has shown another ident before.
    pub(crate) fn identify(&mut self, peer: &Arc<Peer>, ident: &Ident) -> bool {
        if peer.ident.get_or_init(|| ident.clone()) != ident {
            return false;
        }
        let before = self.by_ident.insert(ident.clone(), peer.id);
        if let Some(before) = before.filter(|it| *it != peer.id).and_then(|id| self.by_id.get(&id))
        {
            before.close(CloseCode::IdentCollision);
        }
        true
    }

    pub(crate) fn remove(&mut self, peer: &Peer) {
        self.by_id.remove(&peer.id);
        if let Some(ident) = peer.ident()
            && self.by_ident.get(ident) == Some(&peer.id)
        {
            self.by_ident.remove(ident);
        }
        if self.by_id.is_empty() {
            *self = Self::default();
        }
    }
}
