//! Notices of what happens to accounts and their sessions, for their logs: taken where it happens,
//! and drained by whoever keeps the logs. Nobody who takes one waits for that.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use hashbrown::HashMap;
use longshore_codec::{QoS, Version};

use crate::clock::Wall;
use crate::connection::{Peer, Tally};

pub(crate) mod dictionary;
mod meaning;
mod record;
mod topic;

pub use self::meaning::{Detail, EventKind, Severity};
pub use self::record::CALL_TEXT_MAX;
pub(crate) use self::record::{OF_MQTT, OF_PLATFORM, cut};
pub(crate) use self::topic::{counter_topic, log_topic, state_of_session, state_topic};

/// Bytes of notices that wait; what exceeds them is dropped and counted.
const WAITING_BYTES: usize = 8 << 20;
/// Bytes that a field of an event takes, beside its name and value as text.
const FIELD_BYTES: usize = 64;
/// The part of that which one account may have, so that nobody drives out all others.
const OF_ACCOUNT_BYTES: usize = WAITING_BYTES / 2;

/// One of them.
#[derive(Debug)]
pub(crate) struct Notice {
    /// In whose log it goes.
    pub(crate) account: u64,
    pub(crate) at: Wall,
    pub(crate) what: What,
}

/// What has happened.
#[derive(Debug)]
pub(crate) enum What {
    /// To a session.
    Session { client_id: Arc<str>, deed: Deed },
    /// To an object of the platform.
    Object { kind: Kind, id: u64, change: Change },
    /// A call of REST was answered.
    Called(Box<Call>),
    /// What a module has to say.
    Told(Box<Event>),
}

/// What has happened to a session.
#[derive(Debug)]
pub(crate) enum Deed {
    /// Its client was let in.
    Accepted { peer: Peer, version: Version, token: Option<u64>, resumed: bool },
    /// Its client was not let in: with this reason code, or because its account is blocked.
    Refused { peer: Peer, reason: u8, is_blocked: bool },
    /// Its connection has ended.
    Closed { peer: Peer, code: i16, tally: Tally, secs: f64 },
    /// It could not keep what waits for it.
    Overflowed { messages: usize, bytes: usize },
    /// It asked for a topic filter.
    Subscribed { topic: Box<str>, qos: QoS },
    /// It gave a topic filter up.
    Unsubscribed { topic: Box<str> },
    /// REST asked for a topic filter for it; for one that it had, if it `is_known`.
    Given { topic: Box<str>, qos: QoS, is_known: bool },
    /// REST gave a topic filter up for it.
    Taken { topic: Box<str> },
}

/// Objects of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Token,
    Account,
    Limit,
}

/// What becomes of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Created,
    Updated,
    Deleted,
    /// To another account.
    Moved,
    /// A token has come to its end.
    Expired,
}

/// A call of REST, for the log of the account in which it acted (specification of the broker,
/// 15.1.8). Texts are cut after [`CALL_TEXT_MAX`] bytes.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// `GET` and the like.
    pub method: String,
    /// The path with its query.
    pub uri: String,
    /// The status of the answer.
    pub status: u16,
    /// The token that was shown; 0 for none.
    pub token: u64,
    /// The header `x-flespi-app`.
    pub app: Option<String>,
    /// The header `x-flespi-trace`.
    pub trace: Option<String>,
    /// Where the caller is.
    pub host: String,
}

/// What a module has to say of an object of its own, for the log of an account (specification of
/// the modules, 8).
#[derive(Clone, Debug)]
pub struct Event {
    /// Whose it is: `gw/channels/1374`. Its topic is `flespi/log/`, this, `/` and the text.
    pub origin: String,
    /// What kind of object that is, as a number.
    pub origin_type: u64,
    /// Which of them.
    pub origin_id: u64,
    /// What has happened, as levels of a topic: `connections/127.0.0.1/closed`.
    pub text: String,
    /// What has happened, as a number.
    pub code: u64,
    /// What else the record says; together some kilobytes at most.
    pub fields: serde_json::Map<String, serde_json::Value>,
}

impl What {
    /// Bytes that it takes beside itself.
    fn extra_bytes(&self) -> usize {
        match self {
            Self::Session { client_id, deed } => {
                let topic = match deed {
                    Deed::Subscribed { topic, .. }
                    | Deed::Unsubscribed { topic }
                    | Deed::Given { topic, .. }
                    | Deed::Taken { topic } => topic.len(),
                    _ => 0,
                };
                client_id.len() + topic
            }
            Self::Object { .. } => 0,
            Self::Told(event) => {
                let size = |(name, value): (&String, &serde_json::Value)| {
                    FIELD_BYTES + name.len() + value.to_string().len()
                };
                let fields: usize = event.fields.iter().map(size).sum();
                size_of::<Event>() + event.origin.len() + event.text.len() + fields
            }
            Self::Called(call) => {
                let texts = [&call.method, &call.uri, &call.host];
                let headers = [&call.app, &call.trace].into_iter().flatten();
                let texts = texts.into_iter().chain(headers).map(|text| text.len());
                size_of::<Call>() + texts.sum::<usize>()
            }
        }
    }
}

/// Those that wait. See the module.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    waiting: Mutex<Waiting>,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    notices: Vec<Notice>,
    bytes: usize,
    of_accounts: HashMap<u64, usize>,
    /// Who drains them, while there are none.
    drain: Option<Waker>,
}

impl Notices {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Under it nothing panics but a broken invariant.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one, unless there are too many.
    pub(crate) fn put(&self, notice: Notice) {
        let size = size_of::<Notice>() + notice.what.extra_bytes();
        let mut waiting = self.lock();
        let of_account = waiting.of_accounts.entry(notice.account).or_insert(0);
        let is_full = *of_account > 0 && *of_account + size > OF_ACCOUNT_BYTES;
        *of_account += if is_full { 0 } else { size };
        if is_full || waiting.bytes > 0 && waiting.bytes + size > WAITING_BYTES {
            drop(waiting);
            self.count_dropped();
            return;
        }
        waiting.bytes += size;
        waiting.notices.push(notice);
        let drain = waiting.drain.take();
        drop(waiting);
        if let Some(drain) = drain {
            drain.wake();
        }
    }

    /// All there are, once there are any.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Vec<Notice>> {
        let mut waiting = self.lock();
        if waiting.notices.is_empty() {
            waiting.drain = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(std::mem::take(&mut *waiting).notices)
    }

    /// All there are.
    pub(crate) fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut *self.lock()).notices
    }

    /// One is not told to everybody who asks.
    pub(crate) fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were dropped since the start.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscribed(account: u64, topic: &str) -> Notice {
        let deed = Deed::Unsubscribed { topic: topic.into() };
        Notice { account, at: Wall(1), what: What::Session { client_id: "c".into(), deed } }
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted_and_other_accounts_have_room() {
        let (notices, topic) = (Notices::default(), "t".repeat(60_000));
        let fit = OF_ACCOUNT_BYTES / (topic.len() + 1 + size_of::<Notice>());
        for _ in 0..fit + 3 {
            notices.put(subscribed(1, &topic));
        }
        assert_eq!(notices.dropped(), 3);
        notices.put(subscribed(2, &topic));
        assert_eq!((notices.dropped(), notices.take().len()), (3, fit + 1));
        // And there is room again, however large one is.
        notices.put(subscribed(1, &"t".repeat(2 * WAITING_BYTES)));
        notices.put(subscribed(3, &topic));
        assert_eq!((notices.dropped(), notices.take().len()), (4, 1));
    }

    #[test]
    fn who_drains_is_woken_by_the_first_notice() {
        let (notices, mut cx) = (Notices::default(), Context::from_waker(Waker::noop()));
        assert!(notices.poll_take(&mut cx).is_pending());
        notices.put(subscribed(1, "t"));
        assert!(notices.lock().drain.is_none());
        assert!(matches!(notices.poll_take(&mut cx), Poll::Ready(all) if all.len() == 1));
    }
}
