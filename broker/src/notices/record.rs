//! What the log says of a notice (specification of the broker, 20.3 to 20.5).

use serde_json::{Map, Value};

use super::{Call, Change, Deed, Kind, Notice, What};
use crate::connection::Peer;
use crate::shard::session_number;

/// Bytes of a client identifier or topic filter that the log has.
const TEXT_MAX: usize = 1_024;
/// Bytes of each text of a [`Call`] that the log has.
pub const CALL_TEXT_MAX: usize = 1_024;

/// Sessions, subscriptions and accounts among the objects that have logs.
const SESSIONS: u64 = 14;
const SUBSCRIPTIONS: u64 = 18;
const CUSTOMER: u64 = 1;
/// What `origin_type` is in the logs of MQTT, and in those of the platform.
pub(crate) const OF_MQTT: [u64; 2] = [SESSIONS, SUBSCRIPTIONS];
pub(crate) const OF_PLATFORM: [u64; 4] =
    [CUSTOMER, Kind::Limit.origin(), Kind::Account.origin(), Kind::Token.origin()];

/// The beginning of a text, of so many bytes at most.
pub(crate) fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

impl Notice {
    /// The fields of its record.
    pub(crate) fn to_json(&self) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut set = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
        set("timestamp", (self.at.0 as f64 / 1e6).into());
        set("cid", self.account.into());
        set("event_code", self.what.code().into());
        match &self.what {
            What::Session { client_id, deed } => {
                set("origin_type", deed.origin().into());
                set("origin_id", session_number(self.account, client_id).into());
                set("client_id", cut(client_id, TEXT_MAX).into());
                deed.describe(&mut set);
            }
            What::Object { kind, id, .. } => {
                set("origin_type", kind.origin().into());
                set("origin_id", (*id).into());
                set("id", (*id).into());
            }
            What::Told(event) => {
                set("origin_type", event.origin_type.into());
                set("origin_id", event.origin_id.into());
                set("event_origin", event.origin.as_str().into());
                set("event_text", event.text.as_str().into());
                event.fields.iter().for_each(|(name, value)| set(name, value.clone()));
            }
            What::Called(call) => {
                set("origin_type", CUSTOMER.into());
                set("origin_id", self.account.into());
                call.describe(&mut set);
            }
        }
        fields
    }
}

impl What {
    /// The number of what has happened.
    fn code(&self) -> u64 {
        match self {
            Self::Session { deed, .. } => match deed {
                Deed::Accepted { .. } => 500,
                Deed::Refused { is_blocked: true, .. } => 501,
                Deed::Refused { .. } => 502,
                Deed::Closed { .. } => 503,
                Deed::Overflowed { .. } => 504,
                Deed::Given { is_known: false, .. } => 510,
                Deed::Given { .. } => 511,
                Deed::Taken { .. } => 512,
                Deed::Subscribed { .. } => 520,
                Deed::Unsubscribed { .. } => 521,
            },
            Self::Object { change, .. } => match change {
                Change::Created => 1,
                Change::Updated => 2,
                Change::Deleted => 3,
                Change::Moved => 4,
                Change::Expired => 600,
            },
            Self::Called(_) => 1000,
            Self::Told(event) => event.code,
        }
    }

    /// Its name, the last level of its topic.
    pub(super) fn event(&self) -> &str {
        match self {
            Self::Session { deed, .. } => match deed {
                Deed::Accepted { .. } => "accepted",
                Deed::Refused { is_blocked: true, .. } => "blocked",
                Deed::Refused { .. } => "rejected",
                Deed::Closed { .. } => "closed",
                Deed::Overflowed { .. } => "overflowed",
                Deed::Given { is_known: false, .. } => "created",
                Deed::Given { .. } => "updated",
                Deed::Taken { .. } => "deleted",
                Deed::Subscribed { .. } => "subscribed",
                Deed::Unsubscribed { .. } => "unsubscribed",
            },
            Self::Object { change, .. } => match change {
                Change::Created => "created",
                Change::Updated => "updated",
                Change::Deleted => "deleted",
                Change::Moved => "moved",
                Change::Expired => "expired",
            },
            Self::Called(_) => "called",
            Self::Told(event) => &event.text,
        }
    }
}

impl Kind {
    /// Their `origin_type`.
    pub(crate) const fn origin(self) -> u64 {
        match self {
            Self::Token => 33,
            Self::Account => 5,
            Self::Limit => 4,
        }
    }
}

impl Deed {
    fn origin(&self) -> u64 {
        match self {
            Self::Subscribed { .. }
            | Self::Unsubscribed { .. }
            | Self::Given { .. }
            | Self::Taken { .. } => SUBSCRIPTIONS,
            _ => SESSIONS,
        }
    }

    fn describe(&self, set: &mut impl FnMut(&str, Value)) {
        match self {
            Self::Accepted { peer, version, token, resumed } => {
                describe_peer(*peer, set);
                set("version", version.to_string().into());
                set("session_present", (*resumed).into());
                if let Some(token) = token {
                    set("token_id", (*token).into());
                }
            }
            Self::Refused { peer, reason, is_blocked } => {
                describe_peer(*peer, set);
                set("error_code", (*reason).into());
                set("blocked", (*is_blocked).into());
            }
            Self::Closed { peer, code, tally, secs } => {
                describe_peer(*peer, set);
                set("close_code", (*code).into());
                set("published", tally.published.into());
                set("received", tally.received.into());
                set("rejected", tally.rejected.into());
                set("duration", (*secs).into());
            }
            Self::Overflowed { messages, bytes } => {
                set("messages", (*messages).into());
                set("bytes", (*bytes).into());
            }
            Self::Subscribed { topic, qos } | Self::Given { topic, qos, .. } => {
                set("topic", cut(topic, TEXT_MAX).into());
                set("qos", (*qos as u8).into());
            }
            Self::Unsubscribed { topic } | Self::Taken { topic } => {
                set("topic", cut(topic, TEXT_MAX).into());
            }
        }
    }
}

fn describe_peer(peer: Peer, set: &mut impl FnMut(&str, Value)) {
    set("source", peer.address.to_string().into());
    set("host", peer.address.ip().to_string().into());
    set("transport", peer.transport.into());
}

impl Call {
    fn describe(&self, set: &mut impl FnMut(&str, Value)) {
        let texts = [("method", &self.method), ("uri", &self.uri), ("host", &self.host)];
        let headers = [("app", &self.app), ("trace", &self.trace)];
        let headers = headers.into_iter().filter_map(|(name, it)| Some((name, it.as_ref()?)));
        for (name, text) in texts.into_iter().chain(headers) {
            set(name, cut(text, CALL_TEXT_MAX).into());
        }
        set("source", cut(&self.host, CALL_TEXT_MAX).into());
        set("response_code", self.status.into());
        if self.token != 0 {
            set("token_id", self.token.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::log_topic;
    use super::*;
    use crate::clock::Wall;

    /// Specification of the broker, 20.2 to 20.5.
    #[test]
    fn a_record_says_who_what_and_when() {
        let peer = Peer { address: ([192, 0, 2, 1], 5000).into(), transport: "tcp" };
        let tally = crate::connection::Tally { published: 3, received: 2, rejected: 1 };
        let deed = Deed::Closed { peer, code: -1, tally, secs: 1.5 };
        let what = What::Session { client_id: "a/b+#%".into(), deed };
        let notice = Notice { account: 7, at: Wall(1_700_000_000_123_456), what };
        assert_eq!(log_topic(&notice), "flespi/log/mqtt/sessions/a%2Fb%2B%23%25/closed");
        let id = session_number(7, "a/b+#%");
        let want = json!({"timestamp": 1_700_000_000.123_456, "cid": 7, "event_code": 503,
            "origin_type": 14, "origin_id": id, "client_id": "a/b+#%", "close_code": -1,
            "published": 3, "received": 2, "rejected": 1, "duration": 1.5, "transport": "tcp",
            "source": "192.0.2.1:5000", "host": "192.0.2.1"});
        assert_eq!(Value::Object(notice.to_json()), want);
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("a\u{e4}", 2), "a");
        assert_eq!(cut("ab", 2), "ab");
    }
}
