//! What shards send one another.

use std::sync::Arc;

use longshore_acl::Principal;

use crate::cache::Target;
use crate::clock::Mono;
use crate::connection::Peer;
use crate::message::Message;
use crate::session::SessionId;
use crate::share::{Group, Seat};

/// A message for sessions of another shard. Mail from one shard to another keeps its order.
#[derive(Debug)]
pub struct Mail {
    pub(crate) message: Arc<Message>,
    pub(crate) to: To,
}

/// Who gets the message.
#[derive(Debug)]
pub(crate) enum To {
    /// Those who subscribed.
    Targets {
        targets: Arc<[Target]>,
        publisher: Option<SessionId>,
        /// The index's epoch of which they are.
        epoch: u64,
    },
    /// One member of a shared group, whose turn it was.
    /// Nobody: all that was written down before a round of compaction began was sent before this.
    Round,
    /// `holder` is the number under which the journal has the message, or 0.
    Member { group: Arc<Group>, seat: Seat, holder: u64 },
}

impl Mail {
    /// Bytes it takes while it waits.
    #[must_use]
    pub fn size(&self) -> usize {
        size_of::<Self>() + self.message.size()
    }
}

/// A connection whose client's session lives on another shard, on its way there.
#[derive(Debug)]
pub struct Moved {
    pub(crate) peer: Peer,
    pub(crate) principal: Principal,
    pub(crate) since: Mono,
    /// CONNECT and what came behind it.
    pub(crate) bytes: Vec<u8>,
}

impl Moved {
    /// Who is at the other end.
    #[must_use]
    pub fn peer(&self) -> Peer {
        self.peer
    }
}
