//! What waits for one shard: mail, and connections that go on there. Other threads put it in.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::transport::Cargo;
use crate::mail::{Mail, Moved};
use crate::shard::Task;

/// Bytes of mail beyond which those who cause more are not read.
const FULL_BYTES: usize = 4 << 20;

/// The mailboxes of all shards, by their numbers.
pub(crate) type Mailboxes = Arc<[Mailbox]>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    post: Mutex<Post>,
    is_full: AtomicBool,
    arrived: Notify,
}

/// What a mailbox holds.
#[derive(Default)]
pub(super) struct Post {
    pub(super) mail: Vec<Mail>,
    pub(super) moved: Vec<(Moved, Cargo)>,
    pub(super) tasks: Vec<Task>,
    bytes: usize,
}

impl std::fmt::Debug for Post {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Post").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

impl Post {
    /// Forgets everything but its memory.
    pub(super) fn reset(&mut self) {
        self.mail.clear();
        self.moved.clear();
        self.tasks.clear();
        self.bytes = 0;
    }

    fn is_empty(&self) -> bool {
        self.mail.is_empty() && self.moved.is_empty() && self.tasks.is_empty()
    }
}

impl Mailbox {
    fn lock(&self) -> MutexGuard<'_, Post> {
        // Whoever panicked with it ends the broker.
        self.post.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a turn's mail, which empties `mail`.
    pub(super) fn put(&self, mail: &mut Vec<Mail>) {
        let bytes: usize = mail.iter().map(Mail::size).sum();
        let mut post = self.lock();
        let wakes = post.is_empty();
        post.mail.append(mail);
        post.bytes += bytes;
        self.is_full.store(post.bytes > FULL_BYTES, Ordering::Relaxed);
        drop(post);
        if wakes {
            self.wake();
        }
    }

    /// Adds a connection.
    pub(super) fn put_moved(&self, moved: Moved, cargo: Cargo) {
        self.lock().moved.push((moved, cargo));
        self.wake();
    }

    /// Adds what somebody outside asks of the shard.
    pub(crate) fn put_task(&self, task: Task) {
        self.lock().tasks.push(task);
        self.wake();
    }

    /// Waits until something is there, and takes it, in exchange for the empty `post`. Whether the
    /// mailbox was full, so that others may wait for it.
    pub(super) async fn take(&self, post: &mut Post) -> bool {
        self.arrived.notified().await;
        let mut waiting = self.lock();
        std::mem::swap(&mut *waiting, post);
        // Under the lock, as where it is set: nobody puts anything in between.
        self.is_full.swap(false, Ordering::Relaxed)
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Makes the shard look at what has changed around it.
    pub(crate) fn wake(&self) {
        self.arrived.notify_one();
    }
}
