//! What the logs of devices say beside what they say of all objects (R8.6), and what tools are told
//! of it.

use longshore_broker::module::Severity::{Alert, Info, Notice, Warning};
use longshore_broker::module::{Detail, EventKind};

use crate::live::BLOCKED;

/// What happens to a device: its code in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Blocked = 20,
    Unblocked = 21,
    Connected = 300,
    Disconnected = 301,
    // A setting, from here on.
    Received = 310,
    Accepted = 311,
    Confirmed = 312,
    Rejected = 313,
    Withdrawn = 314,
    Cleared = 315,
    Unreadable = 316,
    Told = 317,
    // A command: codes of R8.6, and two of our own between them.
    Queued = 330,
    Sent = 331,
    Canceled = 332,
    Expired = 333,
    Processed = 334,
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
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Received => "received",
            Self::Accepted => "accepted",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Withdrawn | Self::Canceled => "canceled",
            Self::Cleared => "cleared",
            Self::Unreadable => "unreadable",
            Self::Told | Self::Sent => "sent",
            Self::Queued => "queued",
            Self::Expired => "expired",
            Self::Processed => "processed",
        }
    }
}

/// All of them.
pub(crate) static EVENTS: [EventKind; 17] = [
    EventKind::new(Deed::Blocked.code(), Alert, "item was blocked").with("block_code", &BLOCKS),
    EventKind::new(Deed::Unblocked.code(), Warning, "item was unblocked"),
    EventKind::new(Deed::Connected.code(), Notice, "device connected"),
    EventKind::new(Deed::Disconnected.code(), Info, "device disconnected")
        .with("close_code", &CLOSINGS),
    EventKind::new(Deed::Received.code(), Info, "setting was read from the device"),
    EventKind::new(Deed::Accepted.code(), Warning, "setting is to be changed"),
    EventKind::new(Deed::Confirmed.code(), Notice, "setting was taken over by the device"),
    EventKind::new(Deed::Rejected.code(), Alert, "setting was rejected by the device"),
    EventKind::new(Deed::Withdrawn.code(), Warning, "change of a setting was taken back"),
    EventKind::new(Deed::Cleared.code(), Warning, "value of a setting was forgotten"),
    EventKind::new(Deed::Unreadable.code(), Alert, "setting cannot be read from the device"),
    EventKind::new(Deed::Told.code(), Info, "setting was sent to the device"),
    EventKind::new(Deed::Queued.code(), Notice, "command waits for the device"),
    EventKind::new(Deed::Sent.code(), Warning, "command was sent to the device"),
    EventKind::new(Deed::Canceled.code(), Warning, "command was canceled"),
    EventKind::new(Deed::Expired.code(), Warning, "command has expired"),
    EventKind::new(Deed::Processed.code(), Info, "command was processed"),
];

/// Topics that are not those of all objects, and what comes there.
pub(crate) const TOPICS: [(&str, &str); 26] = [
    ("flespi/message/gw/devices/{device-id}", "a message of the device"),
    ("flespi/state/gw/devices/{device-id}/blocked", "6 if another has its ident, or it is invalid"),
    ("flespi/state/gw/devices/{device-id}/connected", "whether it is connected"),
    ("flespi/state/gw/devices/{device-id}/last_active", "when it was last heard, 0: never"),
    ("flespi/state/gw/devices/{device-id}/messages_size", "KB of its history"),
    (
        "flespi/state/gw/devices/{device-id}/telemetry/{parameter}",
        "the latest value of a parameter",
    ),
    (
        "flespi/state/gw/devices/{device-id}/settings/{setting-name}",
        "a setting and what it is to be",
    ),
    ("flespi/state/gw/devices/{device-id}/connections/{connection-id}", "how it is connected"),
    ("flespi/log/gw/devices/{device-id}/blocked", "another device has its ident"),
    ("flespi/log/gw/devices/{device-id}/unblocked", "its ident is its own again"),
    ("flespi/log/gw/devices/{device-id}/connected", "it has connected"),
    ("flespi/log/gw/devices/{device-id}/disconnected", "a connection of it is over"),
    ("flespi/log/gw/devices/{device-id}/settings/{setting-name}/received", "it has said a value"),
    ("flespi/log/gw/devices/{device-id}/settings/{setting-name}/accepted", "it is to be set"),
    ("flespi/log/gw/devices/{device-id}/settings/{setting-name}/sent", "it was told a value"),
    (
        "flespi/log/gw/devices/{device-id}/settings/{setting-name}/confirmed",
        "it has taken a value over",
    ),
    (
        "flespi/log/gw/devices/{device-id}/settings/{setting-name}/rejected",
        "it does not take a value",
    ),
    (
        "flespi/log/gw/devices/{device-id}/settings/{setting-name}/canceled",
        "it is to be set no more",
    ),
    ("flespi/log/gw/devices/{device-id}/settings/{setting-name}/cleared", "a value was forgotten"),
    (
        "flespi/log/gw/devices/{device-id}/settings/{setting-name}/unreadable",
        "it does not say a value",
    ),
    (
        "flespi/log/gw/devices/{device-id}/commands-queue/{command-name}/queued",
        "a command waits for it",
    ),
    (
        "flespi/log/gw/devices/{device-id}/commands-queue/{command-name}/sent",
        "it was told a command",
    ),
    (
        "flespi/log/gw/devices/{device-id}/commands-queue/{command-name}/canceled",
        "a command was canceled",
    ),
    (
        "flespi/log/gw/devices/{device-id}/commands-queue/{command-name}/expired",
        "a command has expired",
    ),
    (
        "flespi/log/gw/devices/{device-id}/commands-queue/{command-name}/processed",
        "it has answered a command, or was told one that it does not answer",
    ),
    ("flespi/command/gw/channels/{channel-id}/{connection-id}", "what a channel is to tell it"),
];

/// Why a device takes nothing (R8.9).
static BLOCKS: [Detail; 1] =
    [Detail::new(BLOCKED as i64, Alert, "another device has its ident, or it is invalid")];

/// How its channel has ended a connection (R8.8).
static CLOSINGS: [Detail; 16] = [
    Detail::new(2, Info, "closed by the device"),
    Detail::new(3, Notice, "processed and closed"),
    Detail::new(4, Alert, "what came violates the protocol"),
    Detail::new(5, Alert, "internal error"),
    Detail::new(6, Alert, "what came cannot be read"),
    Detail::new(7, Warning, "the hub stops"),
    Detail::new(8, Warning, "the protocol was updated"),
    Detail::new(9, Warning, "the channel was changed"),
    Detail::new(10, Warning, "closed on a user's request"),
    Detail::new(11, Alert, "outgoing connection failed"),
    Detail::new(12, Info, "its ident came in on another connection"),
    Detail::new(17, Info, "nothing was sent for too long"),
    Detail::new(18, Alert, "it uses what is not supported"),
    Detail::new(19, Alert, "packets do not begin where they should"),
    Detail::new(21, Warning, "the channel is blocked"),
    Detail::new(23, Warning, "the device is disabled"),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// R8.6: whatever is told is a `Deed`.
    #[test]
    fn tools_are_told_of_all_that_happens_and_nothing_else() {
        use Deed::*;
        let all = [
            Blocked,
            Unblocked,
            Connected,
            Disconnected,
            Received,
            Accepted,
            Confirmed,
            Rejected,
            Withdrawn,
            Cleared,
            Unreadable,
            Told,
            Queued,
            Sent,
            Canceled,
            Expired,
            Processed,
        ];
        let topics = TOPICS.iter().map(|(topic, _)| *topic);
        let logs: Vec<_> = topics.filter(|it| it.starts_with("flespi/log/")).collect();
        for deed in all {
            let of = "flespi/log/gw/devices/{device-id}";
            // A new one belongs in the list above.
            let topic = match deed {
                Blocked | Unblocked | Connected | Disconnected => format!("{of}/{}", deed.name()),
                Received | Accepted | Confirmed | Rejected | Withdrawn | Cleared | Unreadable
                | Told => format!("{of}/settings/{{setting-name}}/{}", deed.name()),
                Queued | Sent | Canceled | Expired | Processed => {
                    format!("{of}/commands-queue/{{command-name}}/{}", deed.name())
                }
            };
            assert!(logs.contains(&topic.as_str()), "{topic}");
        }
        assert_eq!(logs.len(), all.len());
        assert!(EVENTS.iter().map(|event| event.code).eq(all.map(Deed::code)));
    }
}
