//! What accounts use, by name: `counters` of `/platform/customer`, and the states of them that are
//! retained (specification of the broker, 7.2 and 15.3).

use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use longshore_acl::{Directory, Quota};
use serde_json::{Map, Value};

use super::{Accounts, secs};
use crate::clock::Wall;
use crate::notices::counter_topic;
use crate::shard::{OwnMessage, publish_all};

/// The counters, which have the names of the limits that bound them, where there are such.
pub(crate) const NAMES: [&str; 11] = [
    Quota::TokensCount.name(),
    Quota::SubaccountsCount.name(),
    "limits_count",
    Quota::MqttSessions.name(),
    Quota::MqttSubscriptions.name(),
    Quota::MqttSessionStorage.name(),
    "mqtt_retained_messages",
    Quota::MqttRetainedStorage.name(),
    Quota::MqttMessages.name(),
    Quota::ApiCalls.name(),
    Quota::ApiTraffic.name(),
];

/// In the order of the names; none where nobody counts.
type Counts = [Option<u64>; NAMES.len()];

/// Accounts that are looked at in a second.
const SLICE: usize = 256;

/// What is retained of counters.
#[derive(Default)]
pub(super) struct Told(Mutex<Round>);

#[derive(Default)]
struct Round {
    /// Whether what an earlier process has left is gone.
    is_clear: bool,
    /// When the next round begins, in unix seconds.
    due: u64,
    /// Accounts that are left to be looked at in this one.
    left: Vec<u64>,
    /// Of accounts that use something.
    told: HashMap<u64, Counts>,
}

impl Accounts {
    fn count(&self, directory: &Directory, account: u64) -> Counts {
        let usage = self.usage(account);
        [
            Some(directory.tokens_of(account).count() as u64),
            Some(directory.children(account).count() as u64),
            Some(directory.limits_of(account).count() as u64),
            Some(usage.sessions),
            Some(usage.subscriptions),
            Some(usage.queued_bytes),
            Some(usage.retained_messages),
            Some(usage.retained_bytes),
            usage.messages,
            Some(usage.api_calls),
            Some(usage.api_traffic),
        ]
    }

    /// What an account uses now, with all below it; of tokens, accounts and limits, its own.
    pub(crate) fn counters(&self, directory: &Directory, account: u64) -> Map<String, Value> {
        let counts = NAMES.into_iter().zip(self.count(directory, account));
        let known = counts.filter_map(|(name, count)| Some((name.to_owned(), count?.into())));
        known.collect()
    }

    /// Whether counters are retained at all.
    pub(crate) fn tells_counters(&self) -> bool {
        self.options.counters_secs > 0
    }

    /// No state of a counter is retained any more: from now on they are told.
    pub(super) fn begin_counters(&self, now: Wall) {
        let mut round = self.counters.0.lock().unwrap_or_else(PoisonError::into_inner);
        (round.is_clear, round.due) = (true, secs(now) + self.options.counters_secs);
    }

    /// Retains counters that have changed, once in `counters_secs` and for so many accounts in a
    /// second. What is zero and was never told otherwise takes no room.
    pub(super) fn tell_counters(&self, now: Wall) {
        let span = self.options.counters_secs;
        let Some(broker) = self.broker.get().filter(|_| span > 0) else { return };
        let mut round = self.counters.0.lock().unwrap_or_else(PoisonError::into_inner);
        // An account that goes meanwhile goes after what is put in the mailbox here.
        let directory = self.read();
        if round.left.is_empty() {
            if secs(now) < round.due || !round.is_clear {
                return;
            }
            round.due = secs(now) + span;
            round.left = directory.accounts().map(|account| account.id).collect();
            round.told.retain(|account, _| directory.account(*account).is_some());
        }
        let mut messages = Vec::new();
        let most = round.left.len().saturating_sub(SLICE);
        for account in round.left.split_off(most) {
            if directory.account(account).is_none() {
                continue;
            }
            let counts = self.count(&directory, account);
            let none = counts.map(|count| count.map(|_| 0));
            let before = round.told.get(&account).copied().unwrap_or(none);
            if counts == before {
                continue;
            }
            round.told.insert(account, counts);
            let changed = NAMES.into_iter().zip(counts.into_iter().zip(before));
            messages.extend(changed.filter(|(_, (count, before))| count != before).map(
                |(name, (count, _))| {
                    let payload = count.map_or_else(String::new, |count| count.to_string());
                    let message = OwnMessage::new(account, counter_topic(name), payload, now);
                    // They are made anew by every process.
                    message.shown()
                },
            ));
        }
        if !messages.is_empty() {
            broker.mailboxes[0].put_task(publish_all(messages, |_| {}));
        }
    }
}
