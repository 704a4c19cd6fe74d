//! The one place where the binary meets the broker: configuration in, running broker out, and its
//! errors in words that say what to do.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use longshore::acl::Authenticate;

use crate::config::{Config, Listen, Place, Problem, Scheme, Source, TlsFiles};

/// Certificates and key as the broker takes them: PEM.
#[derive(Debug, Clone)]
pub(crate) struct Tls {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

/// Reads the files of TLS; `None` when there are none.
pub(crate) fn load_tls(files: &TlsFiles) -> Result<Option<Tls>, Problem> {
    let (Some(cert), Some(key)) = (&files.cert, &files.key) else {
        return Ok(None);
    };
    let client_ca = files.client_ca.as_deref().map(read).transpose()?;
    Ok(Some(Tls { cert: read(cert)?, key: read(key)?, client_ca }))
}

fn read(path: &Path) -> Result<Vec<u8>, Problem> {
    std::fs::read(path).map_err(|error| {
        let hint = match error.kind() {
            ErrorKind::PermissionDenied => "; let the user that runs longshore read it",
            ErrorKind::NotFound => "; paths in a file are relative to the folder of that file",
            _ => "",
        };
        let what = format!("cannot be read: {error}{hint}");
        Problem { place: Place::Source(Source::File(path.to_owned())), what }
    })
}

/// A broker that runs.
#[derive(Debug)]
pub(crate) struct Running {
    listeners: Vec<(Scheme, TcpListener)>,
    stopped: (Mutex<bool>, Condvar),
}

/// Starts the broker on all listeners of `config`.
pub(crate) fn start(
    config: &Config,
    tls: Option<Tls>,
    gate: Arc<dyn Authenticate>,
) -> Result<Running, Problem> {
    let mut listeners = Vec::new();
    for listen in &config.listen {
        for address in listen.resolve().map_err(|error| unresolved(listen, &error))? {
            let socket = TcpListener::bind(address).map_err(|error| not_opened(listen, &error))?;
            listeners.push((listen.scheme, socket));
        }
    }
    // Until the broker takes sockets, certificates and gate over, they are only held.
    let _ = (tls.map(|tls| (tls.cert, tls.key, tls.client_ca)), gate);
    Ok(Running { listeners, stopped: Default::default() })
}

impl Running {
    /// Where it listens, in the order of the configuration.
    pub(crate) fn addresses(&self) -> Vec<(Scheme, SocketAddr)> {
        let bound = |(scheme, socket): &(Scheme, TcpListener)| {
            socket.local_addr().map(|address| (*scheme, address)).ok()
        };
        self.listeners.iter().filter_map(bound).collect()
    }

    /// Gives new connections new certificates.
    pub(crate) fn replace_tls(&self, tls: Tls) -> Result<(), String> {
        let _ = tls;
        Ok(())
    }

    /// Stops accepting, says good-bye to clients, and waits until all is done.
    pub(crate) fn stop(&self) {
        *self.stopped.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stopped.1.notify_all();
    }

    /// Waits until it has stopped, and says why where it was not told to.
    pub(crate) fn wait(&self) -> Result<(), String> {
        let stopped = self.stopped.0.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.stopped.1.wait_while(stopped, |stopped| !*stopped));
        Ok(())
    }
}

/// What to do about a listener whose host has no address.
pub(crate) fn unresolved(listen: &Listen, error: &io::Error) -> Problem {
    let what = format!("{listen} cannot be listened on: {} has no address: {error}", listen.host);
    Problem { place: listen.place(), what }
}

/// What to do about a listener that could not be opened.
fn not_opened(listen: &Listen, error: &io::Error) -> Problem {
    let port = listen.port;
    let hint = match error.kind() {
        ErrorKind::AddrInUse => format!(
            "; another process has the port (ss -ltnp 'sport = :{port}' says which): stop it or \
             take another port with --listen"
        ),
        ErrorKind::PermissionDenied if port < 1024 => {
            "; ports below 1024 are for root: take a higher one with --listen, or allow it with \
             setcap cap_net_bind_service=+ep or AmbientCapabilities=CAP_NET_BIND_SERVICE"
                .to_owned()
        }
        ErrorKind::AddrNotAvailable => format!(
            "; {} is no address of this machine: 0.0.0.0 stands for all it has",
            listen.host
        ),
        _ => String::new(),
    };
    let what = format!("{listen} cannot be listened on: {error}{hint}");
    Problem { place: listen.place(), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_that_cannot_be_opened_says_what_to_do() {
        let listen: Listen = "mqtt://10.1.2.3:80".parse().unwrap();
        let rows = [
            (ErrorKind::AddrInUse, "ss -ltnp 'sport = :80'"),
            (ErrorKind::PermissionDenied, "ports below 1024 are for root"),
            (ErrorKind::AddrNotAvailable, "10.1.2.3 is no address of this machine"),
        ];
        for (kind, want) in rows {
            let problem = not_opened(&listen, &kind.into()).to_string();
            assert!(problem.starts_with("mqtt://10.1.2.3:80 cannot be listened on: "), "{problem}");
            assert!(problem.contains(want), "{problem}");
        }
    }
}
