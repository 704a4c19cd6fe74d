//! The one place where the binary meets the broker: configuration in, running broker out, and its
//! errors in words that say what to do.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use longshore::accounts::TABLES_FOLDER;
use longshore::acl::MasterToken;
use longshore::module::MODULES_FOLDER;
use longshore::{Broker, Listen, Scheme, StartError, Storage, StoreError, Tls};
use longshore_storage::Tables;

use crate::config::{Config, Listener, Place, Problem, Source, TlsFiles};
use crate::data_dir::DataDir;

/// Reads the files of TLS; `None` when there are none.
pub(crate) fn load_tls(files: &TlsFiles) -> Result<Option<Tls>, Problem> {
    let (Some(cert), Some(key)) = (&files.cert, &files.key) else {
        return Ok(None);
    };
    let client_ca = files.client_ca.as_deref().map(read).transpose()?;
    let tls = Tls::from_pem(&read(cert)?, &read(key)?, client_ca.as_deref());
    tls.map(Some).map_err(|error| {
        let what = format!("{error} (tls.cert, tls.key and tls.client_ca name the files)");
        Problem { place: Place::Source(Source::File(cert.clone())), what }
    })
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
    broker: Broker,
}

/// Starts the broker on all listeners of `config`.
pub(crate) fn start(
    config: &Config,
    tls: Option<Tls>,
    data: &DataDir,
    master: &MasterToken,
) -> Result<Running, Problem> {
    let mut storage = Storage::at(data.journal());
    storage.level = config.storage.durability;
    storage.segment_bytes = config.storage.segment_bytes;
    storage.will_restart_grace_secs = config.storage.will_restart_grace_secs;
    let builder = Broker::builder().limits(config.limits.clone()).shards(config.shards);
    let builder = builder.dialect(config.dialect).storage(storage);
    let mut builder = builder.accounts_in(data.path().to_owned(), master.clone(), config.auth);
    #[cfg(feature = "channels")]
    if config.modules.channels {
        let options = config.channels.clone();
        builder = builder
            .module(move |context| longshore::channels::Channels::open(context, options.clone()));
    }
    #[cfg(feature = "streams")]
    if config.modules.streams {
        let options = config.streams.clone();
        builder =
            builder.module(move |context| longshore::streams::Streams::open(context, &options));
    }
    #[cfg(feature = "registry")]
    if config.modules.registry {
        let limits = config.registry.clone();
        let open = move |context| longshore_registry::Registry::open(context, limits.clone());
        builder = builder.module(open);
    }
    for listener in &config.listen {
        builder = builder.listen_on(listener.listen.clone());
    }
    if let Some(tls) = tls {
        builder = builder.tls(tls);
    }
    let broker = builder.start().map_err(|error| match error {
        StartError::Bind { listen, error } => {
            match config.listen.iter().find(|listener| listener.listen == listen) {
                Some(listener) => not_opened(listener, &error),
                None => everywhere(format!("{listen} cannot be listened on: {error}")),
            }
        }
        StartError::Storage(StoreError::Io { directory, error }) => {
            let hint = match error.kind() {
                ErrorKind::PermissionDenied => "; name another with --data-dir",
                _ => "",
            };
            let what = format!("cannot be made a data directory: {error}{hint}");
            let directory = directory.parent().map(Path::to_owned).unwrap_or(directory);
            Problem { place: Place::Source(Source::File(directory)), what }
        }
        error => everywhere(error.to_string()),
    })?;
    Ok(Running { broker })
}

impl Running {
    /// Where it listens, in the order of the configuration.
    pub(crate) fn addresses(&self) -> Vec<(Scheme, SocketAddr)> {
        let bound = |(listen, address): &(Listen, SocketAddr)| (listen.scheme, *address);
        self.broker.addresses().iter().map(bound).collect()
    }

    /// The tables in this folder of the data directory.
    pub(crate) fn tables(&self, folder: &str) -> Option<&Tables> {
        match folder {
            TABLES_FOLDER => self.broker.accounts().and_then(|accounts| accounts.tables()),
            MODULES_FOLDER => self.broker.module_tables(),
            _ => None,
        }
    }

    /// Gives new connections new certificates.
    pub(crate) fn replace_tls(&self, tls: Tls) {
        self.broker.replace_tls(tls);
    }

    /// Begins to stop: nobody new comes in, clients are told. [`Running::wait`] tells when it is
    /// done.
    pub(crate) fn shutdown(&self) {
        self.broker.shutdown();
    }

    /// Waits until it has stopped, and says why where it was not told to.
    pub(crate) fn wait(&self) -> Result<(), String> {
        self.broker.wait().map_err(|error| error.to_string())
    }
}

fn everywhere(what: String) -> Problem {
    Problem { place: Place::Everywhere, what }
}

/// Looks the hosts of all listeners up. Finds those without an address, and those that another one
/// leaves no port.
pub(crate) fn check_listeners(listeners: &[Listener]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut taken: Vec<(SocketAddr, &Listen)> = Vec::new();
    for Listener { listen, place } in listeners {
        let mut reject = |what| problems.push(Problem { place: place.clone(), what });
        match listen.resolve() {
            Ok(addresses) => {
                let is_twin = |(it, _): &&_| addresses.iter().any(|own| collide(*own, *it));
                if let Some((_, twin)) = taken.iter().find(is_twin) {
                    reject(format!("{listen} takes the port of {twin}: give one of them another"));
                }
                taken.extend(addresses.into_iter().map(|address| (address, listen)));
            }
            Err(error) => reject(format!(
                "{listen} cannot be listened on: {} has no address: {error}",
                listen.host
            )),
        }
    }
    problems
}

/// Whether the system lets only one listen. Both families share the address of IPv6 that stands for
/// all.
fn collide(one: SocketAddr, other: SocketAddr) -> bool {
    let (own, its) = (one.ip().to_canonical(), other.ip().to_canonical());
    let holds = |all: IpAddr, it: IpAddr| {
        all.is_unspecified() && (all.is_ipv6() || all.is_ipv4() == it.is_ipv4())
    };
    let is_same = own == its || holds(own, its) || holds(its, own);
    one.port() != 0 && one.port() == other.port() && is_same
}

/// What to do about a listener that could not be opened.
fn not_opened(listener: &Listener, error: &io::Error) -> Problem {
    let listen = &listener.listen;
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
    Problem { place: listener.place.clone(), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_that_leave_each_other_no_port_are_named() {
        let rows = [
            ("mqtt://0.0.0.0:2883", "ws://127.0.0.1:2883", true),
            ("mqtt://127.0.0.1:2883", "ws://0.0.0.0:2883", true),
            ("mqtt://0.0.0.0:2883", "ws://localhost:2883", true),
            ("mqtt://localhost:2883", "ws://localhost:2883", true),
            ("mqtt://0.0.0.0:2883", "ws://[::]:2883", true),
            ("mqtt://[::]:2883", "ws://127.0.0.1:2883", true),
            ("mqtt://[::]:2883", "ws://[::1]:2883", true),
            ("mqtt://[::ffff:127.0.0.1]:2883", "ws://127.0.0.1:2883", true),
            ("mqtt://0.0.0.0:2883", "ws://[::1]:2883", false),
            ("mqtt://127.0.0.1:2883", "ws://127.0.0.2:2883", false),
            ("mqtt://127.0.0.1:2883", "ws://[::1]:2883", false),
            ("mqtt://0.0.0.0:2883", "ws://0.0.0.0:2884", false),
            ("mqtt://0.0.0.0:0", "ws://127.0.0.1:0", false),
        ];
        for (first, second, collide) in rows {
            let listeners = [first, second]
                .map(|url| Listener { listen: url.parse().unwrap(), place: Place::Everywhere });
            let problems: Vec<_> =
                check_listeners(&listeners).iter().map(Problem::to_string).collect();
            let want = format!("{second} takes the port of {first}: give one of them another");
            assert_eq!(problems, if collide { vec![want] } else { vec![] }, "{first} {second}");
        }
    }

    #[test]
    fn a_listener_that_cannot_be_opened_says_what_to_do() {
        let listen = "mqtt://10.1.2.3:80".parse().unwrap();
        let listener = Listener { listen, place: Place::Everywhere };
        let rows = [
            (ErrorKind::AddrInUse, "ss -ltnp 'sport = :80'"),
            (ErrorKind::PermissionDenied, "ports below 1024 are for root"),
            (ErrorKind::AddrNotAvailable, "10.1.2.3 is no address of this machine"),
        ];
        for (kind, want) in rows {
            let problem = not_opened(&listener, &kind.into()).to_string();
            assert!(problem.starts_with("mqtt://10.1.2.3:80 cannot be listened on: "), "{problem}");
            assert!(problem.contains(want), "{problem}");
        }
    }
}
