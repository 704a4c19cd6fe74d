//! What accounts use, by name: `counters` of `/platform/customer`, and the states of them that are
//! retained (specification of the broker, 7.2 and 15.3).

use longshore_acl::{Directory, Quota};
use serde_json::{Map, Value};

use super::Accounts;

/// Counters that no limit is about.
const LIMITS_COUNT: &str = "limits_count";
const RETAINED_MESSAGES: &str = "mqtt_retained_messages";

impl Accounts {
    /// What an account uses now, with all below it; of tokens, accounts and limits, its own.
    /// Counters have the names of the limits that bound them.
    pub(crate) fn counters(&self, directory: &Directory, account: u64) -> Map<String, Value> {
        let usage = self.usage(account);
        let named = |quota: Quota, count: u64| (quota.name(), count);
        let tokens = directory.tokens_of(account).count() as u64;
        let subaccounts = directory.children(account).count() as u64;
        let counters = [
            named(Quota::TokensCount, tokens),
            named(Quota::SubaccountsCount, subaccounts),
            (LIMITS_COUNT, directory.limits_of(account).count() as u64),
            named(Quota::MqttSessions, usage.sessions),
            named(Quota::MqttSubscriptions, usage.subscriptions),
            named(Quota::MqttSessionStorage, usage.queued_bytes),
            (RETAINED_MESSAGES, usage.retained_messages),
            named(Quota::MqttRetainedStorage, usage.retained_bytes),
            named(Quota::ApiCalls, usage.api_calls),
            named(Quota::ApiTraffic, usage.api_traffic),
        ];
        let messages = usage.messages.map(|count| named(Quota::MqttMessages, count));
        let all = counters.into_iter().chain(messages);
        all.map(|(name, count)| (name.to_owned(), count.into())).collect()
    }
}
