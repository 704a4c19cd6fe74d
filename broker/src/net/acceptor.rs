//! The entrance of everything but plain MQTT: PROXY headers, TLS, HTTP and WebSocket are dealt with
//! on a thread of their own, and what comes out is handed to the shard's.
//!
//! A handshake costs a hundred times what a message does, and no client that is there already may
//! notice those that come. A bounded number is in progress at once; the others wait their turn,
//! unread, and no address takes more than its share of the turns. Of IPv6, an address here is a
//! network of 64 bits.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::{IpAddr, SocketAddr, TcpListener as StdTcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use hashbrown::HashMap;
use longshore_acl::Authenticate;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::timeout_at;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use super::accept::accept;
use super::counts::{Counts, Handshake};
use super::http::{Http, Patience};
use super::listen::{Listen, Scheme};
use super::proxy;
use super::tls::Tls;
use super::transport::Cargo;
use super::websocket::WebSocket;
use crate::clock::{Clock, Mono};
use crate::commons::network;
use crate::connection::Peer;
use crate::limits::Limits;
use crate::rest::Api;
use crate::shard::Refused;
use crate::store::Store;
use crate::totals::Totals;

/// What the entrance is made with.
#[derive(Clone)]
pub(crate) struct Entrance {
    pub(crate) limits: Arc<Limits>,
    pub(crate) authenticate: Arc<dyn Authenticate>,
    pub(crate) totals: Totals,
    pub(crate) counts: Arc<Counts>,
    /// The journal, of a broker that has one.
    pub(crate) store: Option<Arc<Store>>,
    pub(crate) tls: Arc<ArcSwapOption<Tls>>,
    pub(crate) clock: Clock,
    /// To each shard.
    pub(crate) arrivals: Arc<[mpsc::Sender<Arrival>]>,
    /// REST, of a broker that has accounts.
    pub(crate) api: Option<Arc<Api>>,
}

/// A client on its way to a shard, its handshakes done.
#[derive(Debug)]
pub(crate) struct Arrival {
    pub(crate) cargo: Cargo,
    pub(crate) peer: Peer,
    /// When it began: its CONNECT is due from then on.
    pub(crate) since: Mono,
}

/// Why a connection does not come so far as to be the shard's.
enum Refusal {
    Limit(Refused),
    Untrusted,
    Failed(Handshake, String),
    /// Closed before a byte came: somebody looked whether the port is open.
    Silent,
    /// The broker stops.
    Stopping,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limit(refused) => refused.fmt(f),
            Self::Untrusted => f.write_str("no trusted proxy (listen.trusted)"),
            Self::Failed(_, cause) => f.write_str(cause),
            Self::Silent => f.write_str("closed before a byte came"),
            Self::Stopping => f.write_str("the broker stops"),
        }
    }
}

impl Refusal {
    fn late() -> Self {
        let cause = "no handshake in time (limits.connect_timeout_secs)";
        Self::Failed(Handshake::Timeout, cause.to_owned())
    }
}

/// Handshakes that an address has in progress at most, of all there may be: one part of so many,
/// so that it takes more than a few who dawdle to keep everybody out.
const SHARES: usize = 8;

struct Acceptor {
    entrance: Entrance,
    turns: Arc<Semaphore>,
    waiting: Cell<usize>,
    /// The shard that the next client goes to.
    next: Cell<usize>,
    /// By [`network`].
    addresses: RefCell<HashMap<IpAddr, Rc<Address>>>,
}

/// One address with connections in the entrance, or one network of IPv6.
struct Address {
    connections: Cell<usize>,
    turns: Arc<Semaphore>,
}

/// The permission to go on, of one's address and of all.
type Turn = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// Runs the entrance until `stopped`.
pub(crate) fn run(
    runtime: &Runtime,
    entrance: Entrance,
    listeners: Vec<(Listen, StdTcpListener)>,
    mut stopped: watch::Receiver<bool>,
) {
    let acceptor = Rc::new(Acceptor {
        turns: Arc::new(Semaphore::new(entrance.limits.handshakes.min(Semaphore::MAX_PERMITS))),
        entrance,
        waiting: Cell::default(),
        next: Cell::default(),
        addresses: RefCell::default(),
    });
    LocalSet::new().block_on(runtime, async {
        for (listen, listener) in listeners {
            match TcpListener::from_std(listener) {
                Ok(listener) => {
                    spawn_local(Rc::clone(&acceptor).serve(Rc::new(listen), listener));
                }
                Err(error) => panic!("a listener was refused by the event queue: {error}"),
            }
        }
        // The sender gone is the broker gone.
        let _ = stopped.wait_for(|stop| *stop).await;
    });
}

impl Acceptor {
    async fn serve(self: Rc<Self>, listen: Rc<Listen>, listener: TcpListener) {
        loop {
            let (socket, address) = accept(&listener).await;
            spawn_local(Rc::clone(&self).receive(socket, address, Rc::clone(&listen)));
        }
    }

    /// Sees one connection through, or says why not.
    async fn receive(self: Rc<Self>, socket: TcpStream, address: SocketAddr, listen: Rc<Listen>) {
        let transport = match listen.scheme {
            Scheme::Mqtt => "tcp",
            Scheme::Mqtts => "tls",
            Scheme::Ws | Scheme::Http => "ws",
            Scheme::Wss | Scheme::Https => "wss",
        };
        let mut peer = Peer { address, transport };
        let Err(refusal) = self.welcome(socket, &mut peer, &listen).await else { return };
        let counts = &self.entrance.counts;
        match &refusal {
            Refusal::Limit(_) | Refusal::Untrusted => counts.refused_total.add(1),
            Refusal::Failed(cause, _) => counts.failed_total[*cause as usize].add(1),
            Refusal::Silent | Refusal::Stopping => {
                debug!(peer = %peer.address, transport, cause = %refusal, "refused");
                return;
            }
        }
        warn!(peer = %peer.address, transport, cause = %refusal, "refused");
    }

    async fn welcome(
        self: &Rc<Self>,
        mut socket: TcpStream,
        peer: &mut Peer,
        listen: &Listen,
    ) -> Result<(), Refusal> {
        let is_trusted = |of: &Listen| of.trusted.iter().any(|it| it.contains(peer.address.ip()));
        if listen.proxy && !is_trusted(listen) {
            return Err(Refusal::Untrusted);
        }
        let mut place = Place::take(self)?;
        let clock = self.entrance.clock;
        let began = clock.mono();
        let in_time = timeout_at(self.deadline(began), async {
            if listen.proxy {
                let header = proxy::read_header(&mut socket).await.map_err(|error| {
                    Refusal::Failed(Handshake::Proxy, format!("PROXY header: {error}"))
                })?;
                peer.address = header.unwrap_or(peer.address);
            }
            place.settle(peer.address.ip())?;
            // Silence takes no turn.
            match socket.peek(&mut [0]).await {
                Ok(0) | Err(_) => Err(Refusal::Silent),
                Ok(_) => Ok(()),
            }
        });
        in_time.await.unwrap_or_else(|_| Err(Refusal::late()))?;
        // The wait for its turn does not count.
        let spent = clock.mono().since(began);
        let turn = place.turn().await?;
        let began = Mono(clock.mono().0.saturating_sub(spent.as_micros() as u64));
        self.shake_hands(socket, *peer, listen, turn, began).await
    }

    fn deadline(&self, began: Mono) -> tokio::time::Instant {
        let at = began.plus_secs(self.entrance.limits.connect_timeout_secs);
        self.entrance.clock.instant(at).into()
    }

    async fn shake_hands(
        &self,
        socket: TcpStream,
        peer: Peer,
        listen: &Listen,
        turn: Turn,
        since: Mono,
    ) -> Result<(), Refusal> {
        let arrival = |tls, websocket, early, socket: TcpStream| {
            let socket = socket.into_std().map_err(|_| Refusal::Stopping)?;
            Ok(Arrival { cargo: Cargo::Socket { socket, tls, websocket, early }, peer, since })
        };
        let boxed = |tls: TlsStream<TcpStream>| {
            let (socket, tls) = tls.into_inner();
            (socket, Some(Box::new(tls)))
        };
        let arrival = match listen.scheme {
            Scheme::Mqtt => arrival(None, None, Bytes::new(), socket)?,
            Scheme::Mqtts => {
                let (socket, tls) = boxed(self.encrypt(socket, |tls| &tls.mqtt, since).await?);
                drop(turn);
                arrival(tls, None, Bytes::new(), socket)?
            }
            Scheme::Ws | Scheme::Http => {
                let upgraded = self.upgrade(socket, peer, listen.scheme, turn, since).await?;
                let Some((socket, early)) = upgraded else { return Ok(()) };
                arrival(None, Some(WebSocket::default()), early, socket)?
            }
            Scheme::Wss | Scheme::Https => {
                let tls = self.encrypt(socket, |tls| &tls.http, since).await?;
                let upgraded = self.upgrade(tls, peer, listen.scheme, turn, since).await?;
                let Some((tls, early)) = upgraded else { return Ok(()) };
                let (socket, tls) = boxed(tls);
                arrival(tls, Some(WebSocket::default()), early, socket)?
            }
        };
        // Each shard takes one in turn.
        let next = self.next.get();
        self.next.set((next + 1) % self.entrance.arrivals.len());
        self.entrance.arrivals[next].send(arrival).await.map_err(|_| Refusal::Stopping)
    }

    async fn encrypt(
        &self,
        socket: TcpStream,
        config: fn(&Tls) -> &Arc<ServerConfig>,
        since: Mono,
    ) -> Result<TlsStream<TcpStream>, Refusal> {
        // The certificates of this moment, for the whole life of the connection.
        let tls = self.entrance.tls.load_full();
        let Some(config) = tls.as_deref().map(config).cloned() else {
            return Err(Refusal::Stopping);
        };
        let handshake = TlsAcceptor::from(config).accept(socket);
        match timeout_at(self.deadline(since), handshake).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(Refusal::Failed(Handshake::Tls, format!("TLS: {error}"))),
            Err(_) => Err(Refusal::late()),
        }
    }

    /// Speaks HTTP: a page, and that was it, or a WebSocket.
    async fn upgrade<I>(
        &self,
        io: I,
        peer: Peer,
        scheme: Scheme,
        turn: Turn,
        since: Mono,
    ) -> Result<Option<(I, Bytes)>, Refusal>
    where
        I: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let entrance = &self.entrance;
        let has_pages = matches!(scheme, Scheme::Http | Scheme::Https);
        let http = Http {
            peer,
            has_pages,
            authenticate: Arc::clone(&entrance.authenticate),
            totals: entrance.totals.clone(),
            counts: Arc::clone(&entrance.counts),
            store: entrance.store.clone(),
            turn: Cell::new(Some(turn)),
            is_upgraded: Cell::new(false),
            in_line: Rc::default(),
            api: entrance.api.clone().filter(|_| has_pages),
            patience: Patience::new(entrance.clock),
        };
        let spent = entrance.clock.mono().since(since);
        let time = Duration::from_secs(entrance.limits.connect_timeout_secs);
        match http.serve(io, time.saturating_sub(spent)).await {
            Ok(upgraded) => Ok(upgraded),
            Err(error) if error.is_timeout() => Err(Refusal::late()),
            Err(error) => Err(Refusal::Failed(Handshake::Http, format!("HTTP: {error}"))),
        }
    }
}

/// A connection's place in the entrance, counted as long as it is there.
struct Place {
    acceptor: Rc<Acceptor>,
    address: Option<(IpAddr, Rc<Address>)>,
}

impl Place {
    fn take(acceptor: &Rc<Acceptor>) -> Result<Self, Refusal> {
        let Entrance { limits, totals, counts, .. } = &acceptor.entrance;
        let waiting = acceptor.waiting.get();
        if waiting + totals.connections() >= limits.connections {
            return Err(Refusal::Limit(Refused::Connections));
        }
        acceptor.waiting.set(waiting + 1);
        counts.waiting.set(waiting + 1);
        Ok(Self { acceptor: Rc::clone(acceptor), address: None })
    }

    /// Now it is known who it is.
    fn settle(&mut self, ip: IpAddr) -> Result<(), Refusal> {
        let ip = network(ip);
        let limits = &self.acceptor.entrance.limits;
        let mut addresses = self.acceptor.addresses.borrow_mut();
        let address = addresses.entry(ip).or_insert_with(|| {
            let share = (limits.handshakes / SHARES).clamp(1, Semaphore::MAX_PERMITS);
            Rc::new(Address { connections: Cell::new(0), turns: Arc::new(Semaphore::new(share)) })
        });
        if address.connections.get() >= limits.connections_per_address {
            return Err(Refusal::Limit(Refused::ConnectionsPerAddress));
        }
        address.connections.set(address.connections.get() + 1);
        self.address = Some((ip, Rc::clone(address)));
        Ok(())
    }

    async fn turn(&self) -> Result<Turn, Refusal> {
        let Some((_, address)) = &self.address else { return Err(Refusal::Stopping) };
        let own = Arc::clone(&address.turns).acquire_owned().await;
        let of_all = Arc::clone(&self.acceptor.turns).acquire_owned().await;
        match (own, of_all) {
            (Ok(own), Ok(of_all)) => Ok((own, of_all)),
            _ => Err(Refusal::Stopping),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let waiting = self.acceptor.waiting.get() - 1;
        self.acceptor.waiting.set(waiting);
        self.acceptor.entrance.counts.waiting.set(waiting);
        if let Some((ip, address)) = self.address.take() {
            let connections = address.connections.get() - 1;
            address.connections.set(connections);
            if connections == 0 {
                self.acceptor.addresses.borrow_mut().remove(&ip);
            }
        }
    }
}
