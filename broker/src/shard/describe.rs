//! What CONNACK tells of the token and of the session, for clients of flespi.

use std::num::NonZeroU32;

use longshore_codec::{Connect, Property, SubscribeOptions};
use serde_json::{Value, json};

use super::Shard;
use super::connect::connack_len;
use crate::session::{Session, SessionId, Subscription};

impl Shard {
    /// Tells a client with a token what the token is and what the session has subscribed to, as far
    /// as it takes that much.
    pub(super) fn describe_session(
        &self,
        connect: &Connect<'_>,
        session_id: SessionId,
        block: &mut Vec<u8>,
    ) {
        let Some(session) = self.sessions.get(session_id) else { return };
        let Some(token) = session.principal.token.filter(|_| self.dialect.describe_session) else {
            return;
        };
        let Some(token) = self.authenticate.describe(token) else { return };
        let packet_max = connect.properties.maximum_packet_size().unwrap_or(u32::MAX) as usize;
        let mut append = |name: &str, value: String| {
            let start = block.len();
            if value.len() <= usize::from(u16::MAX) {
                Property::UserProperty(name, &value).append(block);
            }
            if connack_len(block) > packet_max {
                block.truncate(start);
            }
        };
        append("token", token.to_string());
        append("subscriptions", subscriptions_of(session));
    }
}

/// What a session has subscribed to, as JSON (specification of the broker, 11.11).
fn subscriptions_of(session: &Session) -> String {
    let one = |(topic, subscription): (&str, &Subscription)| {
        let SubscribeOptions { qos, no_local, retain_as_published, retain_handling } =
            subscription.options;
        json!({
            "topic": topic,
            "qos": qos as u8,
            "no_local": no_local,
            "rap": retain_as_published,
            "retain_as_published": retain_as_published,
            "retain_handling": retain_handling as u8,
            "subscription_id": subscription.identifier.map_or(0, NonZeroU32::get),
        })
    };
    Value::Array(session.all_subscriptions().map(one).collect()).to_string()
}
