//! Taking connections from a listener.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tracing::warn;

/// How long to leave connections in the backlog when no more can be opened.
const PAUSE: Duration = Duration::from_millis(100);

/// One line of the log a second says that it goes on.
const PAUSES_PER_LINE: u32 = 10;

/// The next connection, and where it comes from.
pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    let mut failures = 0_u32;
    loop {
        match listener.accept().await {
            Ok((socket, address)) => {
                // A reply must not wait for an acknowledgement of the last one.
                let _ = socket.set_nodelay(true);
                return (socket, canonical(address));
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                // Out of descriptors: asking again at once would find the same.
                if failures.is_multiple_of(PAUSES_PER_LINE) {
                    warn!(%error, "no connection can be accepted; trying on");
                }
                failures = failures.wrapping_add(1);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    matches!(error.kind(), Kind::ConnectionAborted | Kind::ConnectionReset | Kind::Interrupted)
}

/// The address without the IPv6 dress that a listener for both families puts on IPv4 ones, so that
/// limits, rules and logs know each by one name.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
