//! Limits that an account makes for those below it (broker specification, 17.3).

use std::sync::Arc;

use longshore_acl::{Directory, Limit};
use serde_json::{Map, Value};

use super::collection::{Each, Kept, Made, each, sent};
use crate::accounts::{Accounts, ChangeError};
use crate::notices;
use crate::rest::call::Call;
use crate::rest::fault::Fault;
use crate::rest::schema::{Field, Kind, Object};

/// A bound that tools of flespi send along and that bounds nothing here.
const fn foreign(name: &'static str) -> Field {
    Field::new(name, Kind::Bound, "Kept for who has sent it, and bounds nothing here").set()
}

/// All that flespi has (17.3): another name is mistyped, and would bound nothing unnoticed.
pub(super) static OBJECT: Object = Object {
    name: "Limit",
    fields: &[
        Field::new("id", Kind::Whole, "Its number"),
        Field::new("cid", Kind::Whole, "The account that made it"),
        Field::new("name", Kind::Text, "What its owner calls it").set(),
        Field::new("description", Kind::Text, "What its owner says of it").set(),
        Field::new("metadata", Kind::Object, "What its owner keeps with it").set(),
        Field::new("mqtt_sessions", Kind::Bound, "Sessions at a time; 0 or -1: no bound").set(),
        Field::new("mqtt_messages", Kind::Bound, "Messages a minute").set(),
        Field::new("mqtt_session_storage", Kind::Bound, "Bytes stored for sessions").set(),
        Field::new("mqtt_retained_storage", Kind::Bound, "Bytes of retained messages").set(),
        Field::new("mqtt_subscriptions", Kind::Bound, "Subscriptions at a time").set(),
        Field::new("tokens_count", Kind::Bound, "Tokens").set(),
        Field::new("subaccounts_count", Kind::Bound, "Accounts below").set(),
        Field::new("api_calls", Kind::Bound, "REST calls a minute").set(),
        Field::new("api_traffic", Kind::Bound, "Bytes of REST a minute").set(),
        Field::new("blocking_duration", Kind::Bound, "Seconds it stays blocked past one").set(),
        foreign("channels_count"),
        foreign("channel_messages"),
        foreign("channel_storage"),
        foreign("channel_traffic"),
        foreign("channel_connections"),
        foreign("containers_count"),
        foreign("container_storage"),
        foreign("cdns_count"),
        foreign("cdn_storage"),
        foreign("cdn_traffic"),
        foreign("devices_count"),
        foreign("device_storage"),
        foreign("device_media_traffic"),
        foreign("device_media_storage"),
        foreign("streams_count"),
        foreign("stream_storage"),
        foreign("stream_traffic"),
        foreign("modems_count"),
        foreign("sms_count"),
        foreign("limits_count"),
        foreign("realms_count"),
        foreign("calcs_count"),
        foreign("calcs_storage"),
        foreign("plugins_count"),
        foreign("plugin_traffic"),
        foreign("plugin_buffered_messages"),
        foreign("groups_count"),
        foreign("webhooks_count"),
        foreign("webhook_storage"),
        foreign("webhook_traffic"),
        foreign("grants_count"),
        foreign("identity_providers_count"),
    ],
    is_open: false,
};

impl Kept for Limit {
    const KIND: notices::Kind = notices::Kind::Limit;
    const OBJECT: &'static Object = &OBJECT;

    fn all(directory: &Directory, account: u64) -> Vec<Arc<Self>> {
        let branch = directory.branch(account);
        branch.iter().flat_map(|account| directory.limits_of(*account)).cloned().collect()
    }

    fn one(directory: &Directory, account: u64, id: u64) -> Option<Arc<Self>> {
        let limit = directory.limit(id)?;
        directory.is_in_branch(account, limit.account).then(|| Arc::clone(limit))
    }

    fn id(&self) -> u64 {
        self.id
    }

    fn logged_by(&self) -> u64 {
        self.account
    }

    fn fields(&self) -> Map<String, Value> {
        self.to_json()
    }

    fn create(accounts: &Accounts, account: u64, sent: &[Value]) -> Made {
        each(accounts.create_limits(account, sent), |limit| limit.to_json())
    }

    fn update(
        call: &Call,
        ids: &[u64],
        body: Map<String, Value>,
    ) -> Result<Each<Arc<Self>, ChangeError>, Fault> {
        let body = Value::Object(body);
        Ok(call.api.accounts.update_limits(ids, sent(call, &body)))
    }

    fn remove(accounts: &Accounts, ids: &[u64]) -> Each<(), ChangeError> {
        each(accounts.remove_limits(ids), drop)
    }
}
