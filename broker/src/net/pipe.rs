//! Bytes between an in-process client and the shard's thread: a transport without a socket.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use longshore_acl::Principal;

/// Bytes of packets that wait for the shard before their sender has to.
const TO_SHARD_BYTES: usize = 256 << 10;

/// Takes what the shard writes to an in-process client.
pub(crate) trait Receiver: Send + Sync {
    /// Takes some of the bytes, none when it has enough for now.
    fn take(&self, bytes: &[u8]) -> usize;

    /// Ready when it takes more; otherwise wakes the shard's task later.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// The shard has closed the connection.
    fn close(&self);
}

/// What an in-process client has written and the shard has not read.
#[derive(Debug, Default)]
pub(crate) struct ToShard {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bytes: Vec<u8>,
    closed: bool,
    /// The connection's task, while it waits for bytes.
    reader: Option<Waker>,
    /// Senders that wait for room.
    writers: Vec<Waker>,
}

impl ToShard {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What a panicking holder leaves is a byte stream cut at a packet's end at worst.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends what `write` appends, if there is room; otherwise the caller is woken later.
    pub(crate) fn poll_write(
        &self,
        cx: &mut Context<'_>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Poll<()> {
        let mut state = self.lock();
        if state.bytes.len() >= TO_SHARD_BYTES && !state.closed {
            state.writers.push(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        self.write(write);
        Poll::Ready(())
    }

    /// Appends what `write` appends, room or not: for short answers to the shard.
    pub(crate) fn write(&self, write: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        write(&mut state.bytes);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// No more bytes will come, or be read.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let waiting = std::mem::take(&mut state.writers);
        let reader = state.reader.take();
        drop(state);
        waiting.into_iter().chain(reader).for_each(Waker::wake);
    }

    /// Exchanges the bytes that wait for the empty `buffer`; false at the end.
    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut Vec<u8>) -> Poll<bool> {
        debug_assert!(buffer.is_empty());
        let mut state = self.lock();
        if state.bytes.is_empty() {
            if state.closed {
                return Poll::Ready(false);
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        std::mem::swap(&mut state.bytes, buffer);
        let writers = std::mem::take(&mut state.writers);
        drop(state);
        writers.into_iter().for_each(Waker::wake);
        Poll::Ready(true)
    }
}

/// The shard's end of a pipe.
pub(crate) struct Pipe {
    from: Arc<ToShard>,
    to: Arc<dyn Receiver>,
    /// As whom the client acts.
    principal: Principal,
}

impl std::fmt::Debug for Pipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipe").finish_non_exhaustive()
    }
}

impl Pipe {
    pub(crate) fn new(from: Arc<ToShard>, to: Arc<dyn Receiver>) -> Self {
        // It has the rights of the master token and shows none: what it publishes bears no stamp.
        let mut principal = Principal::master();
        principal.token = None;
        Self { from, to, principal }
    }

    /// The same, of a client that acts as this principal.
    pub(crate) fn acting_as(mut self, principal: Principal) -> Self {
        self.principal = principal;
        self
    }

    pub(crate) fn principal(&self) -> Principal {
        self.principal
    }

    /// Reads all that waits into `buffer`, which is empty; false at the end.
    pub(super) fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut Vec<u8>) -> Poll<bool> {
        self.from.poll_read(cx, buffer)
    }

    pub(super) fn take(&self, bytes: &[u8]) -> usize {
        self.to.take(bytes)
    }

    pub(super) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.to.poll_ready(cx)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.from.close();
        self.to.close();
    }
}
