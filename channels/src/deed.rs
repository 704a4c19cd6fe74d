//! What the logs of channels say beside what they say of all objects (R8.4), and what tools are
//! told of it.

use longshore_broker::module::Severity::{Alert, Info, Notice, Warning};
use longshore_broker::module::{Detail, EventKind};

use crate::live::Block;
use crate::protocol::CloseCode;

/// What happens to a channel or a connection of it: its code in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Blocked = 20,
    Unblocked = 21,
    Accepted = 100,
    Identified = 101,
    Closed = 102,
}

impl Deed {
    pub(crate) const fn code(self) -> u64 {
        self as u64
    }

    /// Its name, the last level of its topic.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Unblocked => "unblocked",
            Self::Accepted => "accepted",
            Self::Identified => "identified",
            Self::Closed => "closed",
        }
    }
}

/// All of them.
pub(crate) static EVENTS: [EventKind; 5] = [
    EventKind::new(Deed::Blocked.code(), Alert, "item was blocked").with("block_code", &BLOCKS),
    EventKind::new(Deed::Unblocked.code(), Warning, "item was unblocked"),
    EventKind::new(Deed::Accepted.code(), Notice, "channel has accepted a connection"),
    EventKind::new(Deed::Identified.code(), Notice, "the ident of a connection is known"),
    EventKind::new(Deed::Closed.code(), Info, "channel connection was closed")
        .with("close_code", &CLOSINGS),
];

/// Topics that are not those of all objects, and what comes there.
pub(crate) const TOPICS: [(&str, &str); 8] = [
    ("flespi/message/gw/channels/{channel-id}/{ident}", "a message of a device"),
    (
        "flespi/state/gw/channels/{channel-id}/connections/{connection-id}",
        "a connection whose ident is known; nothing once it is closed",
    ),
    ("flespi/log/gw/channels/{channel-id}/blocked", "the channel takes nothing"),
    ("flespi/log/gw/channels/{channel-id}/unblocked", "it takes messages again"),
    (
        "flespi/log/gw/channels/{channel-id}/connections/{ip-address}/accepted",
        "a device has connected",
    ),
    (
        "flespi/log/gw/channels/{channel-id}/connections/{ip-address}/identified",
        "a device has said its ident",
    ),
    ("flespi/log/gw/channels/{channel-id}/connections/{ip-address}/closed", "a connection is over"),
    ("flespi/response/gw/channels/{channel-id}/{connection-id}", "what a device says to a command"),
];

/// Why a channel takes nothing (R8.9).
static BLOCKS: [Detail; 5] = [
    block(Block::Messages, "too many messages in a minute"),
    block(Block::Traffic, "too many bytes in a minute"),
    block(Block::Storage, "the buffer is full"),
    block(Block::NoPort, "there is no port for it"),
    block(Block::Configuration, "the configuration is invalid"),
];

const fn block(why: Block, about: &'static str) -> Detail {
    Detail::new(why as i64, Alert, about)
}

/// Why a connection is closed (R8.8).
static CLOSINGS: [Detail; CloseCode::ALL.len()] = closings();

const fn closings() -> [Detail; CloseCode::ALL.len()] {
    let mut all = [closing(CloseCode::ByDevice); CloseCode::ALL.len()];
    let mut at = 0;
    while at < all.len() {
        all[at] = closing(CloseCode::ALL[at]);
        at += 1;
    }
    all
}

const fn closing(code: CloseCode) -> Detail {
    let (severity, about) = match code {
        CloseCode::ByDevice => (Info, "closed by the device"),
        CloseCode::Processed => (Notice, "processed and closed"),
        CloseCode::ProtocolViolation => (Alert, "what came violates the protocol"),
        CloseCode::Internal => (Alert, "internal error"),
        CloseCode::Parse => (Alert, "what came cannot be read"),
        CloseCode::Restart => (Warning, "the hub stops"),
        CloseCode::ProtocolUpdated => (Warning, "the protocol was updated"),
        CloseCode::ChannelChanged => (Warning, "the channel was changed"),
        CloseCode::ByUser => (Warning, "closed on a user's request"),
        CloseCode::OutgoingFailed => (Alert, "outgoing connection failed"),
        CloseCode::IdentCollision => (Info, "its ident came in on another connection"),
        CloseCode::Inactivity => (Info, "nothing was sent for too long"),
        CloseCode::Unsupported => (Alert, "it uses what is not supported"),
        CloseCode::Misaligned => (Alert, "packets do not begin where they should"),
        CloseCode::ChannelBlocked => (Warning, "the channel is blocked"),
        CloseCode::DeviceDisabled => (Warning, "the device is disabled"),
    };
    Detail::new(code.value() as i64, severity, about)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R8.4: whatever is told is a `Deed`.
    #[test]
    fn tools_are_told_of_all_that_happens_and_nothing_else() {
        use Deed::{Accepted, Blocked, Closed, Identified, Unblocked};
        let all = [Blocked, Unblocked, Accepted, Identified, Closed];
        for deed in all {
            // A new one belongs in the list above.
            match deed {
                Blocked | Unblocked | Accepted | Identified | Closed => {}
            }
            let is_of = |topic: &&str| {
                topic.starts_with("flespi/log/") && topic.rsplit('/').next() == Some(deed.name())
            };
            assert_eq!(TOPICS.iter().filter(|(topic, _)| is_of(topic)).count(), 1, "{deed:?}");
        }
        let known = EVENTS.iter().map(|event| event.code);
        assert!(known.eq(all.map(Deed::code)));
    }

    /// R8.9.
    #[test]
    fn tools_are_told_why_a_channel_is_blocked() {
        use Block::{Configuration, Messages, NoPort, Storage, Traffic};
        let all = [Messages, Traffic, Storage, NoPort, Configuration];
        for why in all {
            // A new one belongs in the list above.
            match why {
                Messages | Traffic | Storage | NoPort | Configuration => {}
            }
        }
        assert!(BLOCKS.iter().map(|it| it.value).eq(all.map(|why| why as i64)));
    }
}
