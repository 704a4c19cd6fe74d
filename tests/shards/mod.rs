//! The shards of one broker behind the calls of one: what the driver does with threads, done in
//! place. Mail arrives before the next call.

use longshore_broker::clock::{Mono, Now};
use longshore_broker::shard::{Config, Refused};
use longshore_broker::{ConnectionId, Output, Peer, Shard};

/// See the module. A connection's id says which shard has it.
#[derive(Debug)]
pub(crate) struct Shards {
    shards: Vec<Shard>,
    /// Takes the next connection.
    next: usize,
}

impl Shards {
    pub(crate) fn new(configs: Vec<Config>) -> Self {
        Self { shards: configs.into_iter().map(Shard::new).collect(), next: 0 }
    }

    fn of(&mut self, id: ConnectionId) -> &mut Shard {
        &mut self.shards[id.shard()]
    }

    /// Each shard takes one in turn.
    pub(crate) fn accept(&mut self, peer: Peer, now: Now) -> Result<ConnectionId, Refused> {
        let at = self.next;
        self.next = (at + 1) % self.shards.len();
        self.shards[at].accept(peer, now)
    }

    /// Gives bytes to the broker; what the connection is called from now on.
    pub(crate) fn receive(&mut self, mut id: ConnectionId, bytes: &[u8], now: Now) -> ConnectionId {
        self.of(id).receive(id, bytes, now);
        while let Some(to) = self.of(id).moving(id) {
            let moved = self.of(id).take_moved(id).expect("it is on its way");
            id = self.shards[to].accept_moved(moved, now);
        }
        self.exchange(now);
        id
    }

    pub(crate) fn closed(&mut self, id: ConnectionId, now: Now) {
        self.of(id).closed(id, now);
        self.exchange(now);
    }

    pub(crate) fn wrote(&mut self, id: ConnectionId, count: usize, now: Now) {
        self.of(id).wrote(id, count, now);
        self.exchange(now);
    }

    /// The earliest deadline of all.
    pub(crate) fn advance(&mut self, now: Now) -> Option<Mono> {
        let due = (0..self.shards.len()).filter_map(|at| self.shards[at].advance(now)).min();
        match self.exchange(now) {
            // It may have moved a deadline.
            true => Some(now.mono),
            false => due,
        }
    }

    /// Carries mail until there is none; whether there was any.
    fn exchange(&mut self, now: Now) -> bool {
        let mut any = false;
        loop {
            let mail: Vec<_> = self.shards.iter_mut().flat_map(Shard::take_mail).collect();
            if mail.is_empty() {
                return any;
            }
            any = true;
            for (to, mail) in mail {
                self.shards[to].mail(mail, now);
            }
        }
    }

    pub(crate) fn take_dirty(&mut self, into: &mut Vec<ConnectionId>) {
        self.shards.iter_mut().for_each(|shard| shard.take_dirty(into));
    }

    pub(crate) fn output(&mut self, id: ConnectionId) -> Option<&mut Output> {
        self.of(id).output(id)
    }

    pub(crate) fn is_closing(&self, id: ConnectionId) -> bool {
        self.shards[id.shard()].is_closing(id)
    }

    pub(crate) fn wants_read(&self, id: ConnectionId) -> bool {
        self.shards[id.shard()].wants_read(id)
    }
}
