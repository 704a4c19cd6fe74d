//! What the logs of streams say beside what they say of all objects (R8.7), and what tools are told
//! of it.

use longshore_broker::module::Severity::{Alert, Info, Notice, Warning};
use longshore_broker::module::{Detail, EventKind};

use super::stream::{BLOCKED_BY_CONFIGURATION, BLOCKED_BY_STORAGE};
use crate::failure::{CERTIFICATE, CLOSED, FORBIDDEN, PROTOCOL, TIMEOUT, UNREACHABLE};

/// What happens to a stream or a link of it: its code in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Blocked = 20,
    Unblocked = 21,
    Connected = 401,
    Lost = 402,
    Failed = 403,
    Sent = 404,
    // A subscription, from here on.
    Linked = 410,
    Relinked = 411,
    Unlinked = 412,
}

impl Deed {
    pub(super) const fn code(self) -> u64 {
        self as u64
    }

    /// Its name, the last level of its topic.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Unblocked => "unblocked",
            Self::Connected => "connected",
            Self::Lost => "lost",
            Self::Failed => "failed",
            Self::Sent => "sent",
            Self::Linked => "created",
            Self::Relinked => "updated",
            Self::Unlinked => "deleted",
        }
    }
}

/// All of them.
pub(super) static EVENTS: [EventKind; 9] = [
    EventKind::new(Deed::Blocked.code(), Alert, "item was blocked").with("block_code", &BLOCKS),
    EventKind::new(Deed::Unblocked.code(), Warning, "item was unblocked"),
    EventKind::new(Deed::Connected.code(), Notice, "stream connected"),
    EventKind::new(Deed::Lost.code(), Alert, "stream has lost its connection"),
    EventKind::new(Deed::Failed.code(), Alert, "stream failed to send")
        .with("error_code", &FAILURES),
    EventKind::new(Deed::Sent.code(), Info, "stream has sent messages"),
    EventKind::new(Deed::Linked.code(), Notice, "subscription of a stream was created"),
    EventKind::new(Deed::Relinked.code(), Warning, "subscription of a stream was updated"),
    EventKind::new(Deed::Unlinked.code(), Warning, "subscription of a stream was deleted"),
];

/// Topics that are not those of all objects, and what comes there.
pub(super) const TOPICS: [(&str, &str); 9] = [
    ("flespi/log/gw/streams/{stream-id}/blocked", "the stream takes nothing"),
    ("flespi/log/gw/streams/{stream-id}/unblocked", "it takes messages again"),
    ("flespi/log/gw/streams/{stream-id}/connected", "it has a connection to its platform"),
    ("flespi/log/gw/streams/{stream-id}/lost", "it has no connection to its platform any more"),
    ("flespi/log/gw/streams/{stream-id}/failed", "its platform has not taken messages"),
    ("flespi/log/gw/streams/{stream-id}/sent", "what became of messages"),
    (
        "flespi/log/gw/streams/{stream-id}/subscriptions/{subscription-id}/created",
        "it is linked to a channel or device",
    ),
    (
        "flespi/log/gw/streams/{stream-id}/subscriptions/{subscription-id}/updated",
        "a link is to another channel or device",
    ),
    (
        "flespi/log/gw/streams/{stream-id}/subscriptions/{subscription-id}/deleted",
        "it is linked to a channel or device no more",
    ),
];

/// Why a stream takes nothing (R8.9).
static BLOCKS: [Detail; 2] = [
    Detail::new(BLOCKED_BY_STORAGE as i64, Alert, "the queue is full"),
    Detail::new(BLOCKED_BY_CONFIGURATION as i64, Alert, "the configuration is invalid"),
];

/// Why a batch was not taken, where that is not said by HTTP or MQTT (R6.23, R6.24).
static FAILURES: [Detail; 11] = [
    failure(CLOSED, "the platform closed the connection"),
    failure(UNREACHABLE, "no connection could be made"),
    failure(TIMEOUT, "the platform took too long"),
    failure(FORBIDDEN, "streams may not reach that network"),
    failure(PROTOCOL, "the platform answered what the protocol does not know"),
    failure(CERTIFICATE, "certificate error"),
    // Of a retranslator, and of MQTT.
    failure(1, "disconnected, or the version of the protocol is not accepted"),
    failure(2, "the client identifier is not accepted"),
    failure(3, "the platform is not available"),
    failure(4, "user name or password are not accepted"),
    failure(5, "not authorized"),
];

const fn failure(code: i32, about: &'static str) -> Detail {
    Detail::new(code as i64, Alert, about)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R8.7: whatever is told is a `Deed`.
    #[test]
    fn tools_are_told_of_all_that_happens_and_nothing_else() {
        use Deed::*;
        let all = [Blocked, Unblocked, Connected, Lost, Failed, Sent, Linked, Relinked, Unlinked];
        for deed in all {
            let of = "flespi/log/gw/streams/{stream-id}";
            // A new one belongs in the list above.
            let topic = match deed {
                Blocked | Unblocked | Connected | Lost | Failed | Sent => {
                    format!("{of}/{}", deed.name())
                }
                Linked | Relinked | Unlinked => {
                    format!("{of}/subscriptions/{{subscription-id}}/{}", deed.name())
                }
            };
            assert!(TOPICS.iter().any(|(known, _)| *known == topic), "{topic}");
        }
        assert_eq!(TOPICS.len(), all.len());
        assert!(EVENTS.iter().map(|event| event.code).eq(all.map(Deed::code)));
    }
}
