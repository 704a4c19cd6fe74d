//! The port of each channel. Devices have it in their settings, so a channel keeps it as long as it
//! is there, also while it is closed.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::{Mutex, PoisonError};

use hashbrown::HashMap;
use longshore_broker::module::Context;
use longshore_storage::{Changes, Table, TablesError};
use socket2::{Domain, Protocol, Socket, Type};
use tracing::error;

use crate::live::Sockets;
use crate::options::Options;

/// Connections that wait until they are accepted.
const BACKLOG: i32 = 4_096;

/// Ports, and the channels that have them.
#[derive(Debug)]
pub(crate) struct Ports {
    address: IpAddr,
    range: std::ops::RangeInclusive<u16>,
    table: Table,
    given: Mutex<Given>,
}

#[derive(Debug, Default)]
struct Given {
    by_channel: HashMap<u64, u16>,
    taken: std::collections::HashSet<u16>,
    /// A port that was free is given again as late as possible: devices of the channel that had it
    /// may still come there.
    last: Option<u16>,
}

impl Ports {
    pub(crate) fn open(context: &Context, options: &Options) -> Result<Self, TablesError> {
        let table = context.tables().table("channels_ports")?;
        let mut given = Given::default();
        for row in table.range(..) {
            let (key, value) = row?;
            if let (Ok(id), Ok(port)) = (key.try_into(), value.try_into()) {
                let port = u16::from_be_bytes(port);
                given.by_channel.insert(u64::from_be_bytes(id), port);
                given.taken.insert(port);
                given.last = given.last.max(Some(port));
            }
        }
        let (address, range) = (options.address, options.port_min..=options.port_max);
        Ok(Self { address, range, table, given: Mutex::new(given) })
    }

    /// The port that a channel has, if it has one.
    pub(crate) fn of(&self, channel: u64) -> Option<u16> {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.by_channel.get(&channel).copied()
    }

    /// Gives a new channel a port that nobody has, here or in another process.
    pub(crate) fn give(&self, channel: u64, context: &Context) -> Option<(u16, Sockets)> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, last) = (*self.range.start(), *self.range.end());
        let after =
            given.last.filter(|port| (first..last).contains(port)).map_or(first, |it| it + 1);
        let free = (after..=last).chain(first..after).filter(|port| !given.taken.contains(port));
        let (port, sockets) =
            free.into_iter().find_map(|port| Some((port, self.bind(port).ok()?)))?;
        let mut changes = Changes::new();
        changes.put(&self.table, &channel.to_be_bytes(), &port.to_be_bytes());
        if let Err(cause) = context.tables().commit(changes) {
            error!(channel, %cause, "the port of a channel cannot be written down");
            return None;
        }
        given.by_channel.insert(channel, port);
        given.taken.insert(port);
        given.last = Some(port);
        Some((port, sockets))
    }

    /// Takes the port of a channel that is gone.
    pub(crate) fn take(&self, channel: u64, context: &Context) {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(port) = given.by_channel.remove(&channel) else { return };
        given.taken.remove(&port);
        let mut changes = Changes::new();
        changes.remove(&self.table, &channel.to_be_bytes());
        if let Err(cause) = context.tables().commit(changes) {
            error!(channel, %cause, "the port of a channel cannot be given up");
        }
    }

    /// Channels that have a port.
    pub(crate) fn channels(&self) -> Vec<u64> {
        let given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        given.by_channel.keys().copied().collect()
    }

    /// Opens a port, for TCP and UDP.
    pub(crate) fn bind(&self, port: u16) -> io::Result<Sockets> {
        let address = SocketAddr::new(self.address, port);
        let tcp = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        tcp.set_reuse_address(true)?;
        tcp.bind(&address.into())?;
        tcp.listen(BACKLOG)?;
        let (tcp, udp) = (TcpListener::from(tcp), UdpSocket::bind(address)?);
        tcp.set_nonblocking(true)?;
        udp.set_nonblocking(true)?;
        Ok(Sockets { tcp, udp })
    }
}
