//! Sessions of modules that have no room left.
//!
//! What a module is to get may stand for what somebody was told is kept: a tracker is acknowledged
//! when its message waits for those who last. So the session of a module neither ends nor loses
//! anything when its queue is full. Messages for it are refused to their publishers, which are told
//! so, until the module has taken a quarter of what waits.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use longshore_codec::ReasonCode;

use crate::session::SessionId;

/// What publishers are told of an inbox that is full: no limit of their account has this code.
pub(crate) const FULL: ReasonCode = ReasonCode::ImplementationSpecificError;

/// Those of all shards that are full now: a handful at most.
#[derive(Debug, Default)]
pub(crate) struct FullInboxes {
    count: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    full: Vec<SessionId>,
    /// Links of modules with the inboxes that have refused a message of theirs. What they have sent
    /// with it is refused, too, also if there is room by then: it would overtake what is refused.
    behind: Vec<(SessionId, SessionId)>,
}

impl FullInboxes {
    /// Whether there are any. This is all that is asked for most messages.
    #[inline]
    pub(crate) fn are_any(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut state);
        self.count.store(state.full.len() + state.behind.len(), Ordering::Relaxed);
        changed
    }

    /// Notes that a session is full; whether that is news.
    pub(crate) fn add(&self, session: SessionId) -> bool {
        self.change(|state| {
            let is_news = !state.full.contains(&session);
            state.full.extend(is_news.then_some(session));
            is_news
        })
    }

    /// Notes that a session has room again.
    pub(crate) fn remove(&self, session: SessionId) {
        self.change(|state| state.full.retain(|known| *known != session));
    }

    /// Notes that a session is gone.
    pub(crate) fn forget(&self, session: SessionId) {
        self.change(|state| {
            state.full.retain(|known| *known != session);
            state.behind.retain(|(link, inbox)| *link != session && *inbox != session);
        });
    }

    /// Notes that a link has its answers, and begins anew.
    pub(crate) fn begin_again(&self, link: SessionId) {
        self.change(|state| state.behind.retain(|(known, _)| *known != link));
    }

    /// Whether an inbox takes no message of this publisher now, which may be a link of a module.
    pub(crate) fn refuses(
        &self,
        inbox: SessionId,
        (publisher, is_link): (SessionId, bool),
    ) -> bool {
        self.change(|state| {
            let is_behind = state.behind.contains(&(publisher, inbox));
            if !is_behind && is_link && state.full.contains(&inbox) {
                state.behind.push((publisher, inbox));
            }
            is_behind || state.full.contains(&inbox)
        })
    }
}
