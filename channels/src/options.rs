//! What the operator says of channels: where they listen, and their bounds.

use std::net::{IpAddr, Ipv4Addr};

/// Where channels listen, and the bounds of each. Take [`Options::default`] and change what you
/// need.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Options {
    /// The host that devices are told to connect to, a part of `uri`. Default `localhost`.
    pub host: String,
    /// The address that channels listen on. Default `0.0.0.0`, all of the machine.
    pub address: IpAddr,
    /// The first port that a channel can have. Default 20,000.
    pub port_min: u16,
    /// The last one. Default 29,999: below those that systems give to outgoing connections.
    pub port_max: u16,
    /// Channels of one account. Default 10,000.
    pub channels_per_account: usize,
    /// Connections that a channel has at once, 1 or more; one more is closed at once. Default
    /// 50,000. One that is silent takes about 5 KB of memory.
    pub connections: usize,
    /// Bytes of messages that a channel keeps; one that has more is blocked until some are deleted
    /// or too old. Default 1 GiB.
    pub buffer_bytes: u64,
    /// Bytes of raw traffic that a channel with `packets_ttl` keeps; the oldest makes room for what
    /// is new. Default 64 MiB.
    pub packets_bytes: u64,
    /// Messages that a channel takes in a minute of the clock, or slightly more; one that gets more
    /// is blocked until the next one begins. Default 0: as many as come.
    pub messages_per_minute: u64,
    /// Bytes that a channel takes from devices and brokers in a minute of the clock, in the same
    /// way. Default 0: as many as come.
    pub bytes_per_minute: u64,
    /// Seconds after which a connection that sends nothing is closed, 1 or more. Default 600.
    pub idle_secs: u64,
    /// Bytes that all connections together keep of packets and requests which are not whole yet.
    /// One that would have more is closed. Default 256 MiB.
    pub pending_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            host: "localhost".to_owned(),
            address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port_min: 20_000,
            port_max: 29_999,
            channels_per_account: 10_000,
            connections: 50_000,
            buffer_bytes: 1 << 30,
            packets_bytes: 64 << 20,
            messages_per_minute: 0,
            bytes_per_minute: 0,
            idle_secs: 600,
            pending_bytes: 256 << 20,
        }
    }
}
