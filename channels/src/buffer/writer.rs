//! The thread that writes: one commit for all batches that wait, so the disk is synced once for all
//! devices that sent something meanwhile.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use hashbrown::HashMap;
use longshore_storage::{Changes, TablesError};
use tokio::sync::{mpsc, oneshot};
use tracing::error;

use super::{Buffer, Entry, Head, NotKept, ROW_BYTES, Work};
use crate::live::Live;
use crate::packets::Log;

/// Bytes of messages in one commit, or slightly more.
const GROUP_BYTES: usize = 8 << 20;
/// How long a commit waits after the one before it has begun, and what each gets in that time goes
/// together: devices that speak one by one would have a sync of the disk for each. After a pause a
/// device waits for nothing.
const STEP: Duration = Duration::from_millis(2);
/// Rows that are swept in one commit: they add a few milliseconds to it.
const SWEPT_ROWS: usize = 4_096;

/// What one commit is made of.
#[derive(Default)]
struct Group {
    changes: Changes,
    entries: Vec<Entry>,
    deleted: Vec<(Arc<Live>, u64, Option<oneshot::Sender<bool>>)>,
    /// Heads as they are once it is durable, of channels that it changes.
    heads: HashMap<u64, (Arc<Live>, Head)>,
    bytes: usize,
}

impl Group {
    fn head(&mut self, live: &Arc<Live>) -> &mut Head {
        let fresh = || (Arc::clone(live), Head::of(live));
        &mut self.heads.entry(live.id).or_insert_with(fresh).1
    }
}

struct Writer<'a> {
    buffer: &'a Buffer,
    /// Channels of which something is to be swept, in turn.
    to_sweep: VecDeque<Arc<Live>>,
    log: Log<'a>,
    is_stopped: bool,
}

/// Does what the queue says until it is told to stop; durable batches go on to `published`.
pub(crate) fn run(
    buffer: &Buffer,
    mut work: mpsc::Receiver<Work>,
    published: &mpsc::Sender<Vec<Entry>>,
) {
    let log = Log::new(&buffer.packets);
    let mut writer = Writer { buffer, to_sweep: VecDeque::new(), log, is_stopped: false };
    let mut next_step = Instant::now();
    while !writer.is_stopped {
        let mut group = Group::default();
        if writer.to_sweep.is_empty()
            && writer.log.is_clean()
            && let Some(first) = work.blocking_recv()
        {
            writer.add(&mut group, first);
        }
        thread::sleep(next_step.saturating_duration_since(Instant::now()));
        next_step = Instant::now() + STEP;
        while group.bytes < GROUP_BYTES
            && let Ok(next) = work.try_recv()
        {
            writer.add(&mut group, next);
        }
        if let Err(cause) = writer.sweep(&mut group) {
            error!(%cause, "messages of channels cannot be swept");
            writer.to_sweep.clear();
        }
        writer.log.add(&mut group.changes);
        if let Err(cause) = writer.log.sweep(&mut group.changes) {
            error!(%cause, "packets of channels cannot be removed");
            writer.log.give_up();
        }
        let entries = writer.commit(group);
        // Whoever publishes is gone only when the hub is.
        if !entries.is_empty() && published.blocking_send(entries).is_err() {
            return;
        }
    }
}

impl Writer<'_> {
    fn add(&mut self, group: &mut Group, work: Work) {
        match work {
            Work::Keep(entry) => {
                let mut bytes = 0;
                for (key, value) in entry.rows() {
                    let row = super::row_key(entry.live.id, key);
                    group.changes.put(&self.buffer.rows, &row, value);
                    bytes += value.len();
                }
                group.bytes += bytes;
                if let Some(newest) = entry.keys.last() {
                    let head = group.head(&entry.live);
                    head.newest = *newest;
                    head.size += bytes as u64 + entry.keys.len() as u64 * ROW_BYTES;
                }
                group.entries.push(entry);
            }
            Work::Delete { live, below, done } => {
                let head = group.head(&live);
                head.low = head.low.max(below.min(head.newest + 1));
                self.note(&live);
                group.deleted.push((live, below, done));
            }
            Work::Forget(live) => {
                live.is_gone.store(true, Ordering::Relaxed);
                let head = group.head(&live);
                head.low = head.newest + 1;
                self.note(&live);
                self.log.prune(&live, u64::MAX);
            }
            Work::Prune { live, below } => self.log.prune(&live, below),
            // What waits goes with any commit.
            Work::Flush => {}
            Work::Stop => self.is_stopped = true,
        }
    }

    fn note(&mut self, live: &Arc<Live>) {
        if self.to_sweep.iter().all(|known| known.id != live.id) {
            self.to_sweep.push_back(Arc::clone(live));
        }
    }

    /// Removes a slice of what is deleted from the disk.
    fn sweep(&mut self, group: &mut Group) -> Result<(), TablesError> {
        let Some(live) = self.to_sweep.pop_front() else { return Ok(()) };
        let head = group.head(&live);
        // Of what this very commit deletes, nothing may be unknown to readers that look now.
        let low = live.low.load(Ordering::Relaxed);
        let (mut swept, mut size, mut count) = (low, head.size, 0);
        let mut keys = Vec::new();
        for row in self.buffer.range(live.id, head.swept..low) {
            let (key, value) = row?;
            if count == SWEPT_ROWS {
                swept = super::number(&key, 8).unwrap_or(low);
                break;
            }
            size = size.saturating_sub(value.len() as u64 + ROW_BYTES);
            keys.push(key);
            count += 1;
        }
        (head.swept, head.size) = (swept, size);
        let is_over = swept >= head.low;
        for key in keys {
            group.changes.remove(&self.buffer.rows, &key);
        }
        if !is_over {
            self.to_sweep.push_back(live);
        } else if live.is_gone.load(Ordering::Relaxed) {
            group.heads.remove(&live.id);
            group.changes.remove(&self.buffer.heads, &live.id.to_be_bytes());
        }
        Ok(())
    }

    /// Makes a group durable, puts it in force and tells those that wait only for that.
    fn commit(&mut self, mut group: Group) -> Vec<Entry> {
        for (id, (_, head)) in &group.heads {
            group.changes.put(&self.buffer.heads, &id.to_be_bytes(), &head.row());
        }
        self.log.put_heads(&mut group.changes);
        let kept = self.buffer.tables.commit(group.changes);
        self.log.end(kept.is_ok());
        if let Err(cause) = &kept {
            error!(%cause, "messages of channels cannot be kept: is there room on the disk?");
            for entry in group.entries {
                let _ = entry.done.send(Err(NotKept::Failed));
            }
            for (_, _, done) in group.deleted {
                let _ = done.map(|done| done.send(false));
            }
            return Vec::new();
        }
        let newest = group.entries.iter().flat_map(|it| &it.keys).copied().max();
        if let Some(newest) = newest {
            self.buffer.committed.fetch_max(newest, Ordering::Release);
        }
        for (live, head) in group.heads.into_values() {
            live.low.store(head.low, Ordering::Release);
            live.swept.store(head.swept, Ordering::Relaxed);
            live.size.store(head.size, Ordering::Relaxed);
            live.newest.send_if_modified(|newest| {
                let is_newer = *newest < head.newest;
                *newest = head.newest;
                is_newer
            });
        }
        for (_, _, done) in group.deleted {
            let _ = done.map(|done| done.send(true));
        }
        group.entries
    }
}
