//! What is known of a channel while it runs, and stays while its owner changes it: its sockets, its
//! connections, its numbers.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::connections::{Connections, Peer};
use crate::minute::Minute;
use crate::packets::Head;
use crate::protocol::CloseCode;

/// Why a channel takes nothing (R8.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Block {
    /// It has got as many messages as it may in a minute.
    Messages = 2,
    /// It has got as many bytes.
    Traffic = 3,
    /// Its buffer is full.
    Storage = 4,
    /// There is no port for it.
    NoPort = 5,
    /// Its configuration is none of its protocol: another version has kept it.
    Configuration = 6,
}

/// See the documentation of the module.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) id: u64,
    uri: OnceLock<String>,
    /// Open while the channel is enabled.
    sockets: Mutex<Option<Sockets>>,
    connections: Mutex<Connections>,
    blocked: AtomicU8,
    /// Messages before this key are gone.
    pub(crate) low: AtomicU64,
    /// Those before this one are not on the disk any more.
    pub(crate) swept: AtomicU64,
    /// Bytes of those that are on the disk.
    pub(crate) size: AtomicU64,
    /// Key of the newest message that is durable: whoever waits for one waits for this.
    pub(crate) newest: watch::Sender<u64>,
    packets: Mutex<Head>,
    minute: Mutex<Minute>,
    /// Whether the channel has been deleted.
    pub(crate) is_gone: AtomicBool,
}

/// One port.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) tcp: TcpListener,
    pub(crate) udp: UdpSocket,
}

/// Numbers of a channel that its state shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Numbers {
    blocked: u8,
    messages_kb: u64,
    connections: usize,
}

impl Numbers {
    pub(crate) fn show(self, fields: &mut Map<String, Value>) {
        fields.insert("blocked".to_owned(), self.blocked.into());
        fields.insert("messages_size".to_owned(), self.messages_kb.into());
        fields.insert("connections_count".to_owned(), self.connections.into());
    }
}

impl Live {
    pub(crate) fn new(id: u64) -> Self {
        Self {
            id,
            uri: OnceLock::new(),
            sockets: Mutex::default(),
            connections: Mutex::default(),
            blocked: AtomicU8::new(0),
            low: AtomicU64::new(1),
            swept: AtomicU64::new(1),
            size: AtomicU64::new(0),
            newest: watch::Sender::new(0),
            packets: Mutex::default(),
            minute: Mutex::default(),
            is_gone: AtomicBool::new(false),
        }
    }

    /// What is known of its packets, as far as they are durable.
    pub(crate) fn packets(&self) -> Head {
        *self.packets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_packets(&self, head: Head) {
        *self.packets.lock().unwrap_or_else(PoisonError::into_inner) = head;
    }

    pub(crate) fn minute(&self) -> MutexGuard<'_, Minute> {
        self.minute.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn uri(&self) -> Option<&str> {
        self.uri.get().map(String::as_str)
    }

    /// Gives it the port that it keeps.
    pub(crate) fn set_uri(&self, uri: String) {
        // It is given once.
        let _ = self.uri.set(uri);
    }

    pub(crate) fn numbers(&self) -> Numbers {
        Numbers {
            blocked: self.blocked.load(Ordering::Relaxed),
            messages_kb: self.size.load(Ordering::Relaxed).div_ceil(1024),
            connections: self.connections().len(),
        }
    }

    pub(crate) fn sockets(&self) -> MutexGuard<'_, Option<Sockets>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn block_is(&self, why: Block) -> bool {
        self.blocked.load(Ordering::Relaxed) == why as u8
    }

    /// Whether that changes anything.
    pub(crate) fn block(&self, why: Option<Block>) -> bool {
        let code = why.map_or(0, |why| why as u8);
        self.blocked.swap(code, Ordering::Relaxed) != code
    }

    pub(crate) fn connections(&self) -> MutexGuard<'_, Connections> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells all connections to end.
    pub(crate) fn close_all(&self, code: CloseCode) {
        let peers: Vec<Arc<Peer>> = self.connections().all().cloned().collect();
        for peer in peers {
            peer.close(code);
        }
    }
}

/// An address as messages have it.
pub(crate) fn source(peer: SocketAddr) -> String {
    SocketAddr::new(peer.ip().to_canonical(), peer.port()).to_string()
}
