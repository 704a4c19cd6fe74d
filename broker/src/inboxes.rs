//! Sessions of modules that have no room left.
//!
//! What a module is to get may stand for what somebody was told is kept: a tracker is acknowledged
//! when its message waits for those who last. So the session of a module neither ends nor loses
//! anything when its queue is full. Messages for it are refused to their publishers, which are told
//! so, until the module has taken a quarter of what waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use longshore_codec::ReasonCode;

use crate::session::SessionId;

/// What publishers are told of an inbox that is full: no limit of their account has this code.
pub(crate) const FULL: ReasonCode = ReasonCode::ImplementationSpecificError;

/// Those of all shards that are full now: a handful at most.
#[derive(Debug, Default)]
pub(crate) struct FullInboxes {
    count: AtomicUsize,
    sessions: Mutex<Vec<SessionId>>,
}

impl FullInboxes {
    /// Whether there are any. This is all that is asked for most messages.
    #[inline]
    pub(crate) fn are_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    fn lock(&self) -> MutexGuard<'_, Vec<SessionId>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a session is full; whether that is news.
    pub(crate) fn add(&self, session: SessionId) -> bool {
        let mut sessions = self.lock();
        let is_news = !sessions.contains(&session);
        if is_news {
            sessions.push(session);
            self.count.store(sessions.len(), Ordering::Relaxed);
        }
        is_news
    }

    /// Notes that a session has room again, or is gone.
    pub(crate) fn remove(&self, session: SessionId) {
        let mut sessions = self.lock();
        sessions.retain(|known| *known != session);
        self.count.store(sessions.len(), Ordering::Relaxed);
    }

    /// Whether a session is full.
    pub(crate) fn contains(&self, session: SessionId) -> bool {
        self.lock().contains(&session)
    }
}
