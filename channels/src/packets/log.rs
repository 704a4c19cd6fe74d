//! What the thread that writes does with packets: adds those that wait to its commit, and removes
//! the oldest ones.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use hashbrown::HashMap;
use longshore_storage::{Changes, TablesError};
use tracing::debug;

use super::{Head, Packet, Packets, ROW_BYTES, ident_key};
use crate::buffer::{number, row_key};
use crate::live::Live;

/// Packets, and bytes of them, that are removed with one commit.
const SWEPT_ROWS: usize = 4_096;
const SWEPT_BYTES: u64 = 8 << 20;
/// What a channel that is full keeps, in percent of what it may: else each packet would make room
/// for one.
const KEPT_PERCENT: u64 = 90;

/// What is to be removed of a channel, from its oldest packet on.
struct Pruning {
    live: Arc<Live>,
    /// Those with smaller keys go,
    below: u64,
    /// and others until there are no more bytes than these.
    bytes: u64,
}

/// What the thread that writes knows of packets.
pub(crate) struct Log<'a> {
    packets: &'a Packets,
    to_prune: VecDeque<Pruning>,
    /// Heads as they are once the commit is durable, of channels that it changes.
    heads: HashMap<u64, (Arc<Live>, Head)>,
}

impl<'a> Log<'a> {
    pub(crate) fn new(packets: &'a Packets) -> Self {
        Self { packets, to_prune: VecDeque::new(), heads: HashMap::new() }
    }

    /// Whether there is nothing to remove.
    pub(crate) fn is_clean(&self) -> bool {
        self.to_prune.is_empty()
    }

    /// Removes what has a smaller key, a slice with each commit.
    pub(crate) fn prune(&mut self, live: &Arc<Live>, below: u64) {
        self.note(live, below, u64::MAX);
    }

    fn note(&mut self, live: &Arc<Live>, below: u64, bytes: u64) {
        match self.to_prune.iter_mut().find(|it| it.live.id == live.id) {
            Some(known) => {
                known.below = known.below.max(below);
                known.bytes = known.bytes.min(bytes);
            }
            None => self.to_prune.push_back(Pruning { live: Arc::clone(live), below, bytes }),
        }
    }

    fn head(&mut self, live: &Arc<Live>) -> &mut Head {
        let fresh = || (Arc::clone(live), live.packets());
        &mut self.heads.entry(live.id).or_insert_with(fresh).1
    }

    /// Adds all that wait. What a full channel has no room for is left out until the oldest ones
    /// have made some.
    pub(crate) fn add(&mut self, changes: &mut Changes) {
        let bytes_max = self.packets.bytes_max;
        for row in self.packets.take() {
            if row.live.is_gone.load(Ordering::Relaxed) {
                continue;
            }
            let bytes = row.value.len() as u64 + ROW_BYTES;
            let head = self.head(&row.live);
            if head.size + bytes > bytes_max {
                if self.to_prune.iter().all(|it| it.live.id != row.live.id) {
                    debug!(channel = row.live.id, "old packets make room for new ones");
                }
                self.note(&row.live, 0, bytes_max / 100 * KEPT_PERCENT);
                continue;
            }
            head.size += bytes;
            head.newest = row.key;
            let id = row.live.id;
            changes.put(&self.packets.rows, &row_key(id, row.key), &row.value);
            let key = ident_key(id, row.ident.as_str(), row.key);
            changes.put(&self.packets.idents, &key, &row.data_bytes.to_be_bytes());
        }
    }

    /// Removes a slice of what is to go.
    ///
    /// # Errors
    /// What the store says; what is left goes when it is asked for again.
    pub(crate) fn sweep(&mut self, changes: &mut Changes) -> Result<(), TablesError> {
        let Some(pruning) = self.to_prune.pop_front() else { return Ok(()) };
        let packets = self.packets;
        let Pruning { live, below, bytes } = &pruning;
        let head = self.head(live);
        let (mut count, mut swept, mut is_over) = (0, 0, true);
        for row in packets.range(live.id, head.low..u64::MAX) {
            let (row, value) = row?;
            let Some(key) = number(&row, 8) else { continue };
            if key >= *below && head.size <= *bytes {
                break;
            }
            if count == SWEPT_ROWS || swept >= SWEPT_BYTES {
                is_over = false;
                break;
            }
            if let Some(packet) = Packet::read(&value) {
                changes.remove(&packets.idents, &ident_key(live.id, packet.ident, key));
            }
            changes.remove(&packets.rows, &row);
            let row_bytes = value.len() as u64 + ROW_BYTES;
            head.size = head.size.saturating_sub(row_bytes);
            head.low = key + 1;
            (count, swept) = (count + 1, swept + row_bytes);
        }
        if !is_over {
            self.to_prune.push_back(pruning);
        } else if live.is_gone.load(Ordering::Relaxed) {
            self.heads.remove(&live.id);
            changes.remove(&packets.heads, &live.id.to_be_bytes());
        }
        Ok(())
    }

    /// Gives up removing what cannot be read.
    pub(crate) fn give_up(&mut self) {
        self.to_prune.clear();
    }

    /// Writes down heads that have changed.
    pub(crate) fn put_heads(&self, changes: &mut Changes) {
        for (id, (_, head)) in &self.heads {
            changes.put(&self.packets.heads, &id.to_be_bytes(), &head.row());
        }
    }

    /// The commit is over; if it is durable, it is in force.
    pub(crate) fn end(&mut self, is_durable: bool) {
        for (live, head) in std::mem::take(&mut self.heads).into_values() {
            if is_durable {
                live.set_packets(head);
            }
        }
    }
}
