//! Who comes and goes, and who of them is counted: clients, and not modules, which act for the
//! whole broker.

use std::sync::atomic::Ordering;

use longshore_acl::Principal;
use tracing::warn;

use super::Shard;
use crate::clock::Now;
use crate::connection::{Connection, ConnectionId, Peer};
use crate::limits::Refused;
use crate::session::{Session, SessionId};
use crate::tally::Measure;

/// What modules have of what is counted: it is in no limit, no metric and no account's books.
#[derive(Debug, Default)]
pub(super) struct Own {
    connections: usize,
    sessions: usize,
}

impl Shard {
    /// Takes a new transport; its client has until `limits.connect_timeout_secs` to say CONNECT.
    ///
    /// # Errors
    /// [`Refused`] when a limit is reached: close the transport.
    pub fn accept(&mut self, peer: Peer, now: Now) -> Result<ConnectionId, Refused> {
        if let Err(refused) = self.commons.enter(peer.address.ip(), &self.limits) {
            self.stats.refused_total.add(1);
            warn!(peer = %peer.address, transport = peer.transport, cause = %refused, "refused");
            return Err(refused);
        }
        self.stats.accepted_total.add(1);
        let id = self.add_connection(Connection::new(peer, now.mono));
        self.schedule(id, now);
        Ok(id)
    }

    /// Takes a transport whose client need not show credentials: it is part of this program. One
    /// that acts for the broker comes in whatever the limits are, and is not counted.
    ///
    /// # Errors
    /// As [`Shard::accept`].
    pub fn accept_known(
        &mut self,
        peer: Peer,
        principal: Principal,
        now: Now,
    ) -> Result<ConnectionId, Refused> {
        if principal.is_broker() {
            let mut connection = Connection::new(peer, now.mono);
            connection.known = Some(Box::new(principal));
            let id = self.add_connection(connection);
            self.schedule(id, now);
            return Ok(id);
        }
        let id = self.accept(peer, now)?;
        if let Some(connection) = self.connections.get_mut(id) {
            connection.known = Some(Box::new(principal));
        }
        Ok(id)
    }

    /// Takes a connection out of all lists.
    pub(super) fn forget(&mut self, id: ConnectionId) -> Option<Connection> {
        let mut connection = self.connections.remove(id)?;
        self.unwritten -= connection.unwritten;
        self.connection_timers.set(id, &mut connection.deadline, None);
        self.own.connections -= usize::from(connection.is_own());
        self.count_clients();
        Some(connection)
    }

    pub(super) fn add_connection(&mut self, connection: Connection) -> ConnectionId {
        self.own.connections += usize::from(connection.is_own());
        let id = self.connections.insert(connection);
        self.count_clients();
        id
    }

    pub(super) fn add_session(&mut self, session: Session) -> SessionId {
        if session.principal.is_broker() {
            self.own.sessions += 1;
        } else {
            self.commons.sessions.fetch_add(1, Ordering::Relaxed);
            self.commons.tallies.add(session.principal.account, Measure::Sessions, 1);
        }
        let id = self.sessions.insert(session);
        self.count_clients();
        id
    }

    /// A session was taken out.
    pub(super) fn count_out(&mut self, session: &Session) {
        if session.principal.is_broker() {
            self.own.sessions -= 1;
        } else {
            self.commons.sessions.fetch_sub(1, Ordering::Relaxed);
            self.commons.tallies.remove(session.principal.account, Measure::Sessions, 1);
        }
        self.count_clients();
    }

    /// Whether the session is that of a module.
    pub(super) fn is_of_module(&self, id: SessionId) -> bool {
        self.sessions.get(id).is_some_and(|session| session.principal.is_broker())
    }

    fn count_clients(&self) {
        self.stats.connections.set(self.connections.len() - self.own.connections);
        self.stats.sessions.set(self.sessions.len() - self.own.sessions);
    }
}
