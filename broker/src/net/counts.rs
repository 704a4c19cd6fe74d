//! What is counted before a connection is the shard's. The thread of handshakes alone writes.

use crate::stats::Counter;

/// Why a handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Handshake {
    Proxy,
    Tls,
    Http,
    Timeout,
}

impl Handshake {
    pub(crate) const ALL: [Self; 4] = [Self::Proxy, Self::Tls, Self::Http, Self::Timeout];

    /// The name under which metrics show the cause.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Proxy => "proxy",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Timeout => "timeout",
        }
    }
}

/// Counts of the entrance.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Connections open that are not the shard's yet, those that only speak HTTP included.
    pub(crate) waiting: Counter,
    /// Connections refused for a limit.
    pub(crate) refused_total: Counter,
    /// Handshakes that came to nothing, by [`Handshake`].
    pub(crate) failed_total: [Counter; Handshake::ALL.len()],
}
