//! Calls of REST that come as messages, where the dialect has them (specification of the broker,
//! 16): what a shard hands over, and what it gets back to publish.

use std::fmt::Debug;

use bytes::Bytes;
use longshore_acl::Principal;
use longshore_codec::{Property, QoS};

use crate::clock::Wall;
use crate::connection::Peer;
use crate::session::SessionId;
use crate::shard::OwnMessage;

/// Where calls are published: behind it are the method and the path with its query.
pub(crate) const CALLS: &str = "flespi/rest/";
/// Where those are answered that name no Response Topic.
pub(crate) const ANSWERS: &str = "flespi/rest-response/";
/// The user property of an answer that has its HTTP status.
const STATUS: &str = "status";

/// A call.
#[derive(Debug)]
pub(crate) struct Called {
    /// Who calls, who has a token.
    pub(crate) principal: Principal,
    pub(crate) peer: Peer,
    /// `get/platform/tokens/all?fields=id`.
    pub(crate) path: String,
    /// User properties, which may be those that HTTP has as fields of the head.
    pub(crate) named: Vec<(String, String)>,
    pub(crate) body: Bytes,
    pub(crate) answer: Answering,
}

/// Where a call is answered.
#[derive(Debug)]
pub(crate) struct Answering {
    /// Who asked, and in which account.
    pub(crate) session: SessionId,
    pub(crate) account: u64,
    pub(crate) topic: String,
    /// Whether nobody else gets the answer: the topic is not one that the client has chosen.
    pub(crate) is_private: bool,
    pub(crate) correlation: Option<Vec<u8>>,
    pub(crate) qos: QoS,
}

impl Answering {
    /// The message that is the answer.
    pub(crate) fn message(self, status: u16, body: Bytes, at: Wall) -> OwnMessage {
        let mut properties = Vec::new();
        if let Some(data) = &self.correlation {
            Property::CorrelationData(data).append(&mut properties);
        }
        Property::UserProperty(STATUS, &status.to_string()).append(&mut properties);
        let message = OwnMessage::new(self.account, self.topic, body, at);
        let message = message.answering(properties, self.qos);
        if self.is_private { message.only_for(self.session) } else { message }
    }
}

/// Who answers calls.
pub(crate) trait TakeCalls: Debug + Send + Sync {
    /// Takes a call, unless there are too many; nobody waits for that.
    fn take(&self, called: Called) -> bool;
}
