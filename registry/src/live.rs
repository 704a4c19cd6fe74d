//! What is going on with a device: whether it is connected, when it was last heard, how large its
//! history is.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use longshore_storage::TablesError;
use serde_json::Value;

use crate::device::Device;
use crate::shelves::Shelves;

/// The code of a device whose ident another one has (R8.9: its configuration is of no use).
pub(crate) const BLOCKED: u64 = 6;

/// See the module. It is the same for all that a device has been, and nothing of it is kept but by
/// whoever changes it.
#[derive(Debug, Default)]
pub(crate) struct Live {
    blocked: AtomicU64,
    last_active: AtomicU64,
    history_bytes: AtomicU64,
    /// Kilobytes of the history that were retained last, and one; 0 if that is not known.
    told_kb: AtomicU64,
    connections: Mutex<Vec<Connection>>,
    /// Held by whoever tells the device something, until it has answered.
    pub(crate) turn: tokio::sync::Mutex<()>,
    shelves: OnceLock<Arc<Shelves>>,
}

/// How a device is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    pub(crate) id: u64,
    pub(crate) channel_id: u64,
    /// As REST shows it, and what is retained of it.
    pub(crate) shown: Value,
}

impl Live {
    /// Lets it read what is kept of the device.
    pub(crate) fn attach(&self, shelves: &Arc<Shelves>) {
        let _ = self.shelves.set(Arc::clone(shelves));
    }

    pub(crate) fn blocked(&self) -> u64 {
        self.blocked.load(Ordering::Relaxed)
    }

    /// Whether that changes anything.
    pub(crate) fn set_blocked(&self, code: u64) -> bool {
        self.blocked.swap(code, Ordering::Relaxed) != code
    }

    /// In microseconds.
    pub(crate) fn last_active(&self) -> u64 {
        self.last_active.load(Ordering::Relaxed)
    }

    /// Kilobytes of the history, any begun one whole.
    pub(crate) fn history_kb(&self) -> u64 {
        self.history_bytes.load(Ordering::Relaxed).div_ceil(1024)
    }

    /// The same, if it is not what was asked for last.
    pub(crate) fn new_history_kb(&self) -> Option<u64> {
        let kb = self.history_kb();
        (self.told_kb.swap(kb + 1, Ordering::Relaxed) != kb + 1).then_some(kb)
    }

    pub(crate) fn set(&self, history_bytes: u64, last_active: u64) {
        self.history_bytes.store(history_bytes, Ordering::Relaxed);
        self.last_active.store(last_active, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_connected(&self) -> bool {
        !self.lock().is_empty()
    }

    pub(crate) fn connections(&self) -> Vec<Connection> {
        self.lock().clone()
    }

    /// The one that came last: commands go there.
    pub(crate) fn connection(&self) -> Option<Connection> {
        self.lock().last().cloned()
    }

    /// A connection has come. Whether the device had none before.
    pub(crate) fn connect(&self, connection: Connection) -> bool {
        let mut all = self.lock();
        let was_none = all.is_empty();
        all.retain(|it| (it.channel_id, it.id) != (connection.channel_id, connection.id));
        all.push(connection);
        was_none
    }

    /// A connection has gone. Whether the device has none any more.
    pub(crate) fn disconnect(&self, channel_id: u64, id: u64) -> bool {
        let mut all = self.lock();
        let was_some = !all.is_empty();
        all.retain(|it| (it.channel_id, it.id) != (channel_id, id));
        was_some && all.is_empty()
    }

    /// The telemetry of the device of this number.
    pub(crate) fn telemetry(&self, id: u64) -> Option<Value> {
        let state = self.read(|shelves| shelves.state(id))?;
        let mut text = String::new();
        state.telemetry.write(|_| true, &mut text);
        serde_json::from_str(&text).ok()
    }

    /// The settings of the device, by name.
    pub(crate) fn settings(&self, device: &Device) -> Option<Value> {
        let settings = self.read(|shelves| shelves.settings(device))?;
        Some(settings.into_iter().map(|it| (it.name.clone(), it.shown(device.head.id))).collect())
    }

    fn read<T>(&self, read: impl FnOnce(&Shelves) -> Result<T, TablesError>) -> Option<T> {
        match read(self.shelves.get()?) {
            Ok(found) => Some(found),
            Err(cause) => {
                tracing::error!(%cause, "what is kept of a device cannot be read");
                None
            }
        }
    }
}
