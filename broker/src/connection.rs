//! What the shard knows of one transport: the bytes of an unfinished packet, the output, and what
//! the client said at CONNECT that lasts as long as its connection.

use std::net::SocketAddr;
use std::rc::Rc;

use hashbrown::HashMap;
use longshore_acl::{Principal, ROOT_ACCOUNT};
use longshore_codec::Version;

use crate::clock::Mono;
use crate::gate::Gate;
use crate::output::Output;
use crate::parties::Party;
use crate::session::SessionId;
use crate::slots::Key;
use crate::stamp::Stamp;

/// Names a connection for as long as it is open.
pub type ConnectionId = Key<Connection>;

/// Who is at the other end of a transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where the client is: by the PROXY protocol if a trusted proxy says so.
    pub address: SocketAddr,
    /// What it came by: `tcp`, `tls`, `ws`, `wss` or `link`; for logs.
    pub transport: &'static str,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// CONNECT is still to come.
    Connecting,
    /// CONNECT has come, and the session lives on the shard with this number.
    Moving(usize),
    /// The session's client is there.
    Online(SessionId),
    /// What waits is written, then the transport is closed.
    Closing,
}

/// Messages of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// That its client has published, beside those that were rejected.
    pub(crate) published: u64,
    /// That its client was sent; sent again counts again.
    pub(crate) received: u64,
    /// That its client had no right to publish.
    pub(crate) rejected: u64,
}

/// One open transport.
#[derive(Debug)]
pub struct Connection {
    pub(crate) peer: Peer,
    pub(crate) stage: Stage,
    /// Who the client is, if that is known without credentials.
    pub(crate) known: Option<Box<Principal>>,
    pub(crate) version: Version,
    /// Whether the connection is on the list of those with news for the driver.
    pub(crate) listed: bool,
    /// Not read until the rest of what was read has been handled.
    pub(crate) resting: bool,
    /// Not read until its output has shrunk.
    pub(crate) paused: bool,
    /// Not read until the other shards have caught up with what it publishes.
    pub(crate) held: bool,
    /// Whether the client wants reasons and user properties on packets that report problems.
    pub(crate) problem_information: bool,
    /// On whose behalf the client publishes.
    pub(crate) party: Party,
    /// What the broker says of the client's messages.
    pub(crate) stamp: Option<Box<Stamp>>,
    /// Bytes the client takes in one packet.
    pub(crate) packet_max: u32,
    /// Whether the log has been told that messages to it are dropped.
    pub(crate) dropping: bool,
    /// Since when its client is let in.
    pub(crate) online: Mono,
    /// What it has counted, for the log.
    pub(crate) tally: Tally,
    /// QoS 2 messages received on this connection and not released.
    pub(crate) unreleased: u16,
    /// Seconds of keep alive, 0 for none.
    pub(crate) keep_alive_secs: u16,
    /// Bytes of a packet that is not complete.
    pub(crate) partial: Vec<u8>,
    /// When the first byte of `partial` came, or the connection while CONNECT is to come.
    pub(crate) since: Mono,
    pub(crate) received: Mono,
    /// Since when the transport has taken none of the output that waits.
    pub(crate) stalled: Option<Mono>,
    pub(crate) output: Output,
    /// Output that waits for the journal, once there was any.
    pub(crate) gate: Option<Box<Gate>>,
    /// Bytes that its last write left.
    pub(crate) unwritten: usize,
    /// The deadline that the timers hold.
    pub(crate) deadline: Option<Mono>,
    /// Topics by the client's aliases, from 1.
    pub(crate) aliases: Vec<Option<Rc<[u8]>>>,
    /// Bytes of those.
    pub(crate) alias_bytes: usize,
    /// Aliases the broker has set, if the client takes any.
    pub(crate) aliases_out: Option<Box<AliasesOut>>,
}

/// Topic aliases from the broker to a client.
#[derive(Debug)]
pub(crate) struct AliasesOut {
    maximum: u16,
    /// Bytes that the names of further aliases may have.
    bytes_left: usize,
    known: HashMap<Box<[u8]>, u16>,
}

/// How a topic is named to a client that takes aliases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Naming {
    Plain,
    /// The name, and an alias for later.
    Introduced(u16),
    Alias(u16),
}

impl AliasesOut {
    pub(crate) fn new(maximum: u16, bytes_max: usize) -> Self {
        Self { maximum, bytes_left: bytes_max, known: HashMap::new() }
    }

    /// How to name `topic`. The first topics get the aliases: those of a connection are mostly the
    /// same from its beginning to its end, and no book about their use has to be kept.
    pub(crate) fn name(&self, topic: &[u8]) -> Naming {
        match self.known.get(topic) {
            Some(alias) => Naming::Alias(*alias),
            None if self.known.len() < usize::from(self.maximum)
                && topic.len() <= self.bytes_left =>
            {
                Naming::Introduced(self.known.len() as u16 + 1)
            }
            None => Naming::Plain,
        }
    }

    /// The client has been told of `alias`.
    pub(crate) fn introduce(&mut self, topic: &[u8], alias: u16) {
        self.bytes_left -= topic.len();
        let old = self.known.insert(topic.into(), alias);
        debug_assert!(old.is_none() && usize::from(alias) == self.known.len());
    }
}

impl Connection {
    pub(crate) fn new(peer: Peer, now: Mono) -> Self {
        Self {
            peer,
            stage: Stage::Connecting,
            known: None,
            version: Version::V3_1_1,
            listed: false,
            paused: false,
            held: false,
            resting: false,
            dropping: false,
            problem_information: true,
            stamp: None,
            party: Party { account: ROOT_ACCOUNT, class: 0 },
            packet_max: u32::MAX,
            keep_alive_secs: 0,
            online: now,
            tally: Tally::default(),
            unreleased: 0,
            partial: Vec::new(),
            since: now,
            received: now,
            stalled: None,
            output: Output::default(),
            gate: None,
            unwritten: 0,
            deadline: None,
            aliases: Vec::new(),
            alias_bytes: 0,
            aliases_out: None,
        }
    }

    /// Whether it is that of a module, which acts for the broker and is no client of it.
    pub(crate) fn is_own(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.is_broker())
    }

    /// Whether it is not read, though bytes may be there.
    pub(crate) fn is_unread(&self) -> bool {
        self.paused || self.held || self.resting || matches!(self.stage, Stage::Moving(_))
    }

    /// Bytes on their way to the client.
    #[inline]
    pub(crate) fn output_len(&self) -> usize {
        self.output.len() + self.gate.as_ref().map_or(0, |gate| gate.len())
    }

    /// Whether nothing may be written yet.
    #[inline]
    pub(crate) fn is_held_back(&self) -> bool {
        self.gate.as_ref().is_some_and(|gate| gate.is_held())
    }

    /// Microseconds after which silence ends the connection: one and a half times its keep alive.
    pub(crate) fn silence_max(&self) -> Option<u64> {
        (self.keep_alive_secs > 0).then(|| u64::from(self.keep_alive_secs) * 1_500_000)
    }
}
