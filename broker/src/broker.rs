//! The broker as a thing to start and stop: its threads and listeners around the shard.

use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use arc_swap::ArcSwapOption;
use longshore_acl::{Authenticate, MasterOnly, MasterToken};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::limits::Limits;
use crate::net::driver::{Driver, Writer};
use crate::net::listen::{InvalidListen, Listen};
use crate::net::tls::Tls;
use crate::shard::{Config, Shard};
use crate::stats::Stats;

/// Connections the kernel keeps ready for us while we are busy.
const BACKLOG: i32 = 4096;
/// Seconds that clients have to take their last packets when the broker stops.
const STOP_SECS: u64 = 4;

/// How a broker is to be.
#[derive(Clone)]
pub struct Builder {
    limits: Limits,
    auth: Option<Arc<dyn Authenticate>>,
    tls: Option<Tls>,
    listen: Vec<Result<Listen, InvalidListen>>,
}

/// A running broker. Dropping it stops it.
#[derive(Debug)]
pub struct Broker {
    addresses: Vec<(Listen, SocketAddr)>,
    stats: Arc<Stats>,
    tls: Arc<ArcSwapOption<Tls>>,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// Why a broker did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A listener's URL was not understood.
    Listen(InvalidListen),
    /// A listener could not be opened.
    Bind {
        /// Which.
        listen: Listen,
        /// What the system said.
        error: io::Error,
    },
    /// A listener speaks TLS, and there are no certificates.
    NoTls(Listen),
    /// The system gave no thread, no event queue or no randomness.
    System(io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listen(error) => error.fmt(f),
            Self::Bind { listen, error } => write!(f, "{listen} cannot be listened on: {error}"),
            Self::NoTls(listen) => write!(f, "{listen} needs certificate and key"),
            Self::System(error) => write!(f, "the system gave too little to start: {error}"),
        }
    }
}

impl std::error::Error for StartError {}

/// The broker stopped because it found its own state wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed;

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the broker failed; the panic before this line says where")
    }
}

impl std::error::Error for Failed {}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl Builder {
    /// The bounds clients move in.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Who may come in. Without it, a token is made that nobody knows.
    #[must_use]
    pub fn auth(mut self, auth: Arc<dyn Authenticate>) -> Self {
        self.auth = Some(auth);
        self
    }

    /// Certificates and key of the listeners that speak TLS.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Adds a listener, for example `mqtt://127.0.0.1:1883`; port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, url: impl AsRef<str>) -> Self {
        self.listen.push(url.as_ref().parse());
        self
    }

    /// Adds a listener.
    #[must_use]
    pub fn listen_on(mut self, listen: Listen) -> Self {
        self.listen.push(Ok(listen));
        self
    }

    /// Opens the listeners and starts the broker on threads of its own.
    ///
    /// # Errors
    /// When a listener cannot be opened; nothing runs then.
    pub fn start(self) -> Result<Broker, StartError> {
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for listen in self.listen {
            let listen = listen.map_err(StartError::Listen)?;
            if listen.scheme.is_secure() && self.tls.is_none() {
                return Err(StartError::NoTls(listen));
            }
            for address in listen.resolve().map_err(|error| bind_error(&listen, error))? {
                let listener = bind(address).map_err(|error| bind_error(&listen, error))?;
                let bound = listener.local_addr().map_err(|error| bind_error(&listen, error))?;
                addresses.push((listen.clone(), bound));
                listeners.push(listener);
            }
        }
        let auth = match self.auth {
            Some(auth) => auth,
            None => {
                let token = MasterToken::generate().map_err(io::Error::other);
                Arc::new(MasterOnly::new(token.map_err(StartError::System)?))
            }
        };
        let config = Config::new(self.limits, auth, seed());
        let stats = Arc::clone(&config.stats);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(StartError::System)?;
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("longshore-0".into())
            .spawn(move || run(&runtime, config, listeners, stopped))
            .map_err(StartError::System)?;
        let tls = Arc::new(ArcSwapOption::from_pointee(self.tls));
        Ok(Broker { addresses, stats, tls, stop, thread: Mutex::new(Some(thread)) })
    }
}

impl Broker {
    /// A broker without listeners, to be told how to be.
    #[must_use]
    pub fn builder() -> Builder {
        Builder { limits: Limits::default(), auth: None, tls: None, listen: Vec::new() }
    }

    /// Where the broker listens, in the order of [`Builder::listen`]; a host name stands there once
    /// for each of its addresses.
    #[must_use]
    pub fn addresses(&self) -> &[(Listen, SocketAddr)] {
        &self.addresses
    }

    /// What the broker has counted.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Gives new connections new certificates. Those that are open stay as they are.
    pub fn replace_tls(&self, tls: Tls) {
        self.tls.store(Some(Arc::new(tls)));
    }

    /// Begins to stop: no more connections, MQTT 5 clients are told, no wills are sent. Returns at
    /// once; [`Broker::wait`] tells when it is done.
    pub fn shutdown(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the broker has stopped.
    ///
    /// # Errors
    /// When it stopped because of a fault of its own.
    pub fn wait(&self) -> Result<(), Failed> {
        let mut thread = self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        match thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(Failed),
            _ => Ok(()),
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shutdown();
        let _ = self.wait();
    }
}

fn run(
    runtime: &tokio::runtime::Runtime,
    config: Config,
    listeners: Vec<TcpListener>,
    mut stopped: watch::Receiver<bool>,
) {
    let stats = Arc::clone(&config.stats);
    let local = tokio::task::LocalSet::new();
    let driver = Driver::new(Shard::new(config), stats, Clock::start());
    local.block_on(runtime, async {
        let mut accepting = Vec::new();
        for listener in listeners {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => accepting
                    .push(tokio::task::spawn_local(std::rc::Rc::clone(&driver).accept(listener))),
                Err(error) => panic!("a listener was refused by the event queue: {error}"),
            }
        }
        let mut writer = tokio::task::spawn_local(Writer::new(std::rc::Rc::clone(&driver)));
        tokio::select! {
            _ = stopped.wait_for(|stop| *stop) => {}
            ended = &mut writer => ended.expect("the shard failed"),
        }
        for task in accepting {
            task.abort();
        }
        driver.shut_down();
        let patience = std::time::Duration::from_secs(STOP_SECS);
        if let Ok(ended) = tokio::time::timeout(patience, writer).await {
            ended.expect("the shard failed");
        }
    });
}

fn bind_error(listen: &Listen, error: io::Error) -> StartError {
    StartError::Bind { listen: listen.clone(), error }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restart must not wait for the connections of the last run to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Randomness for the client ids the broker assigns: unguessable as far as the hasher's keys are.
fn seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}
