//! Every bound of the broker, with its unit and default.

/// The bounds within which clients move. Past one, its owner gets the reason code named here, one
/// log line says who and why, and nobody else notices.
///
/// A struct of plain values: take [`Limits::default`] and change what you need.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections open at once, those that have not sent CONNECT yet included. Past it a new
    /// connection is closed unanswered. Default 1,000,000.
    pub connections: usize,
    /// Connections open at once from one IP address or IPv6 network of 64 bits. Past it a new
    /// connection is closed unanswered. Default 65,536.
    pub connections_per_address: usize,
    /// TLS and WebSocket handshakes in progress at once, at most an eighth of them (but one) of one
    /// IP address or IPv6 network of 64 bits; further ones wait their turn unread. Default 1,024.
    pub handshakes: usize,
    /// Seconds from the first byte of transport to an accepted CONNECT. Default 10.
    pub connect_timeout_secs: u64,
    /// Bytes of the CONNECT packet, the only packet read before a client is known; 0x95 to a client
    /// that has shown itself to be one of MQTT 5. Default 128 KiB.
    pub connect_bytes: usize,
    /// Bytes of unfinished CONNECT packets held for all connections of one shard together; the
    /// connection that would exceed it is closed. Default 64 MiB.
    pub connect_bytes_total: usize,
    /// Bytes of one packet from a client, its fixed header included, at most 268,435,460; told to
    /// MQTT 5 clients as Maximum Packet Size; 0x95. Default 16 MiB.
    pub packet_bytes: usize,
    /// Seconds that one packet may take from its first to its last byte; 0x8D. Default 300.
    pub packet_secs: u64,
    /// Bytes of unfinished packets held for all connections of one shard together; the connection
    /// that would exceed it gets 0x97. Default 512 MiB.
    pub input_bytes: usize,
    /// Bytes that wait to be written to one connection; beyond, QoS 0 messages to it are dropped
    /// and counted, and at twice as many it is no longer read until it reads. Default 4 MiB.
    pub output_bytes: usize,
    /// Bytes that wait to be written to all connections of one shard together; beyond, QoS 0
    /// messages to those that have more than 64 KiB of it are dropped and counted. Default 1 GiB.
    pub output_bytes_total: usize,
    /// Seconds that bytes may wait for a client which reads none of them, before its connection is
    /// closed. Default 60.
    pub output_stall_secs: u64,
    /// Levels of a topic name or topic filter; 0x90 or 0x8F. Default 128.
    pub topic_levels: usize,
    /// Bytes of a topic name or topic filter; 0x90 or 0x8F. Default 65,535, the standard's own.
    pub topic_bytes: usize,
    /// Topic aliases a client may set; told as Topic Alias Maximum; 0x94. Default 64.
    pub topic_aliases: u16,
    /// Bytes of all topic names behind the aliases that a client has set; 0x97. The broker itself
    /// sets no alias beyond as many bytes. Default 256 KiB.
    pub topic_alias_bytes: usize,
    /// Topic aliases the broker sets on one connection whose client allows them. Default 64.
    pub topic_aliases_out: u16,
    /// Topic filters of one SUBSCRIBE or UNSUBSCRIBE; 0x97. They are taken in one go, in which
    /// nobody else of their shard is served. Default 1,000.
    pub packet_filters: usize,
    /// Subscriptions of one session; further ones get 0x97 in SUBACK. Default 10,000.
    pub subscriptions: usize,
    /// Bytes of all topic filters of one session, and 32 for each of their levels; 0x97 in SUBACK.
    /// Default 4 MiB.
    pub subscription_bytes: usize,
    /// Shared subscriptions of one session; 0x97 in SUBACK. Default 100.
    pub shared_subscriptions: usize,
    /// User properties of one packet; 0x97. Default 1,024.
    pub user_properties: usize,
    /// QoS 1 and 2 messages a client may have unacknowledged towards the broker; told as Receive
    /// Maximum, 1 to 65,535; 0x93. Default 1,024.
    pub receive_maximum: u16,
    /// QoS 1 and 2 messages in flight to one client, at most what it allows; 1 to 65,535. Default
    /// 1,024.
    pub inflight: u16,
    /// QoS 1 and 2 messages that wait in one session or shared group beyond those in flight. What
    /// becomes of a session that would exceed it says `queue_overflow`; a group drops its oldest.
    /// Default 1,000,000.
    pub queue_messages: usize,
    /// Bytes of topic, properties and payload of those messages, in memory or on the disk;
    /// likewise. Default 1 GiB.
    pub queue_bytes: usize,
    /// Bytes of memory for references to messages that wait on the disk alone: some 100 for each
    /// message, however many sessions wait for it, and 16 to 32 for each session that does not wait
    /// for the same as others. What exceeds it goes to a file. Default 256 MiB.
    pub queue_memory: usize,
    /// Bytes of memory for all queued messages of one shard: those of the message, counted once for
    /// each session it waits in, or of its reference where it is only on the disk. When it is
    /// exceeded the sessions with most of them end or lose what waits in them, as `queue_overflow`
    /// says. Default 2 GiB.
    pub queue_bytes_total: usize,
    /// What becomes of a session whose queue is full. Default [`QueueOverflow::End`].
    pub queue_overflow: QueueOverflow,
    /// Sessions, connected or not; further ones get 0x97. Default 1,000,000.
    pub sessions: usize,
    /// Bytes of the wills of all sessions of one shard; a CONNECT with a will that would exceed it
    /// gets 0x97. Default 256 MiB.
    pub will_bytes: usize,
    /// Seconds a session may outlive its connection; a longer Session Expiry Interval is lowered to
    /// this, 4,294,967,295 means for ever. Default 4,294,967,295.
    pub session_expiry_secs: u32,
    /// Seconds of keep alive the broker imposes on a client that asks for more or for none, told as
    /// Server Keep Alive; 0 imposes none. Default 0.
    pub keep_alive_secs: u16,
    /// Retained messages, those of the broker itself and of modules included: some eleven states
    /// of a device, and another for each parameter of its telemetry. A further topic gets 0x97.
    /// Default 10,000,000.
    pub retained_messages: usize,
    /// Bytes of topic, properties and payload of all retained messages, of large ones also where
    /// they are in the journal alone; 0x97. Memory needs some 80 bytes beside for each, and for a
    /// large one in the journal its topic and some 140 bytes. Default 1 GiB.
    pub retained_bytes: usize,
    /// Bytes of the cache from topic names to subscribers of one shard; it is emptied when full.
    /// Default 64 MiB.
    pub route_cache_bytes: usize,
    /// Bytes of the body of a REST request; 413. Default 1 MiB.
    pub request_bytes: usize,
    /// Bytes of the bodies of all REST requests that are not answered yet; 503 to the one that
    /// would exceed it. Default 64 MiB.
    pub request_bytes_total: usize,
    /// Seconds that the body of a REST request may take; 408. Default 60.
    pub request_secs: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1_000_000,
            connections_per_address: 65_536,
            handshakes: 1_024,
            connect_timeout_secs: 10,
            connect_bytes: 128 << 10,
            connect_bytes_total: 64 << 20,
            packet_bytes: 16 << 20,
            packet_secs: 300,
            input_bytes: 512 << 20,
            output_bytes: 4 << 20,
            output_bytes_total: 1 << 30,
            output_stall_secs: 60,
            topic_levels: 128,
            topic_bytes: 65_535,
            topic_aliases: 64,
            topic_alias_bytes: 256 << 10,
            topic_aliases_out: 64,
            packet_filters: 1_000,
            subscriptions: 10_000,
            subscription_bytes: 4 << 20,
            shared_subscriptions: 100,
            user_properties: 1_024,
            receive_maximum: 1_024,
            inflight: 1_024,
            queue_messages: 1_000_000,
            queue_bytes: 1 << 30,
            queue_memory: 256 << 20,
            queue_bytes_total: 2 << 30,
            queue_overflow: QueueOverflow::End,
            sessions: 1_000_000,
            will_bytes: 256 << 20,
            session_expiry_secs: u32::MAX,
            keep_alive_secs: 0,
            retained_messages: 10_000_000,
            retained_bytes: 1 << 30,
            route_cache_bytes: 64 << 20,
            request_bytes: 1 << 20,
            request_bytes_total: 64 << 20,
            request_secs: 60,
        }
    }
}

/// What becomes of a session whose queue is full. Its publishers never notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueOverflow {
    /// It ends, with 0x97 when connected: its client learns that it has lost something.
    #[default]
    End,
    /// The oldest messages that wait in it go, and are counted: its client goes on with the newest
    /// and never learns. Those in flight stay.
    DropOldest,
}

/// Why a connection was not accepted. The transport is to be closed unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// [`Limits::connections`] are open.
    Connections,
    /// [`Limits::connections_per_address`] are open from this address.
    ConnectionsPerAddress,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Connections => "too many connections (limits.connections)",
            Self::ConnectionsPerAddress => {
                "too many connections of this address (limits.connections_per_address)"
            }
        })
    }
}
