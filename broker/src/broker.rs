//! The broker as a thing to start and stop: its threads and listeners around the shard.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use longshore_acl::{Authenticate, MasterOnly, MasterToken};
use longshore_storage::Tables;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tracing::{error, info};

use crate::accounts::Accounts;
use crate::clock::Clock;
use crate::dialect::Dialect;
use crate::limits::Limits;
use crate::link::{Link, Opener};
use crate::module::{self, Context, MODULES_FOLDER, Maker, Module};
use crate::net::acceptor::{self, Arrival, Entrance};
use crate::net::driver::Around;
use crate::net::keeper::keep_accounts;
use crate::net::listen::{InvalidListen, Listen};
use crate::net::mailbox::Mailbox;
use crate::net::pipe::Pipe;
use crate::net::sys::Sys;
use crate::net::tls::Tls;
use crate::rest::route::Router;
use crate::rest::{Api, Calls, Dictionary};
use crate::shard::Config;
use crate::stats::Stats;
use crate::store::{Figures, Store};
use crate::totals::Totals;

mod builder;
mod error;
mod inside;
mod keeping;

pub use self::builder::Builder;
pub use self::error::{Failed, StartError};
use self::inside::{Inside, Ways};
use self::keeping::{Keeping, Kept};

/// Connections the kernel keeps ready for us while we are busy.
const BACKLOG: i32 = 4096;
/// Seconds that clients have to take their last packets when the broker stops.
const STOP_SECS: u64 = 4;
/// Between two looks at a journal that is compacted before clients come in.
const COMPACTION_LOOK: Duration = Duration::from_millis(5);
/// How long they wait for that: less than wills do after a start. What is left then goes on beside
/// them.
const COMPACTION_PATIENCE: Duration = Duration::from_secs(10);
/// Threads of a thread's runtime that may wait for the disk, for REST. What they do to accounts is
/// done one after another anyway; a few more read meanwhile.
const BLOCKING_THREADS: usize = 8;
/// Clients whose handshakes are done and that the shard has not taken yet.
const ARRIVALS: usize = 256;

/// A running broker. Dropping it stops it.
#[derive(Debug)]
pub struct Broker {
    addresses: Vec<(Listen, SocketAddr)>,
    totals: Totals,
    links: Arc<[mpsc::UnboundedSender<Pipe>]>,
    /// The shard of modules, the last, if there are any.
    hub: Option<usize>,
    next_link: Arc<AtomicUsize>,
    tls: Arc<ArcSwapOption<Tls>>,
    stop: watch::Sender<bool>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    store: Option<Arc<Store>>,
    accounts: Option<Arc<Accounts>>,
    /// What modules keep.
    tables: OnceLock<Tables>,
}

impl Builder {
    /// Opens the listeners and starts the broker on threads of its own.
    ///
    /// # Errors
    /// When a listener cannot be opened; nothing runs then.
    pub fn start(self) -> Result<Broker, StartError> {
        let (doors, addresses) = open(self.listen, self.tls.is_some())?;
        let auth = self.auth.map_or_else(nobody_knows, Ok)?;
        let clients = shards(self.shards);
        let hub = (!self.modules.is_empty()).then_some(clients);
        let count = clients + usize::from(hub.is_some());
        let mut configs = Config::of(count, self.limits, auth, seed());
        if let Some(hub) = hub {
            configs[0].commons.set_hub(hub);
        }
        configs.iter_mut().for_each(|config| config.dialect = self.dialect);
        let around = Around {
            mailboxes: configs.iter().map(|_| Mailbox::default()).collect(),
            totals: Totals::of(&configs),
            counts: Arc::default(),
            clock: Clock::start(),
        };
        let keeping = Keeping { storage: self.storage, disk: self.disk, accounts: self.accounts };
        let Kept { store, accounts, folder } = keeping.open(&mut configs, &around)?;
        let (mut arrivals, arriving): (Vec<_>, Vec<_>) =
            configs.iter().map(|_| mpsc::channel(ARRIVALS)).unzip();
        // Nobody comes to the shard of modules from outside.
        arrivals.truncate(clients);
        let (links, pipes): (Vec<_>, Vec<_>) =
            configs.iter().map(|_| mpsc::unbounded_channel()).unzip();
        let (stop, stopped) = watch::channel(false);
        let (open, opened) = watch::channel(false);
        let broker = Broker {
            addresses,
            links: links.into(),
            hub,
            next_link: Arc::default(),
            totals: around.totals.clone(),
            tls: Arc::new(ArcSwapOption::from_pointee(self.tls)),
            stop,
            threads: Mutex::default(),
            store: store.clone(),
            accounts: accounts.clone(),
            tables: OnceLock::new(),
        };
        let modules = broker.make_modules(&self.modules, folder.as_deref(), &stopped)?;
        let (mut plain, others): (Vec<_>, Vec<_>) =
            doors.into_iter().partition(|(listen, _)| listen.is_plain());
        let entrance = broker.entrance(&modules, &configs[0], &around, arrivals.into())?;
        let ways = arriving.into_iter().zip(pipes).map(|(arriving, pipes)| Ways {
            opened: opened.clone(),
            limits: Arc::clone(&entrance.limits),
            // The first shard accepts for all.
            plain: std::mem::take(&mut plain),
            arrivals: Arc::clone(&entrance.arrivals),
            arriving,
            pipes,
        });
        broker.start_shards(configs.into_iter().zip(ways), &around, &stopped)?;
        drop(opened);
        if let Some(store) = &store {
            await_compaction(store, &around, || open.is_closed())?;
        }
        let _ = open.send(true);
        let sys = || Sys::new(around.totals.clone(), Arc::clone(&around.mailboxes), around.clock);
        let sys = self.dialect.sys_topics.then(sys);
        broker.start_modules(modules)?;
        broker.start_others(accounts, sys, entrance, others, stopped)?;
        Ok(broker)
    }
}

/// A listener and its socket.
type Door = (Listen, TcpListener);
/// Listeners, and where they are.
type Opened = (Vec<Door>, Vec<(Listen, SocketAddr)>);

/// Opens the listeners; also says where they are.
fn open(listen: Vec<Result<Listen, InvalidListen>>, has_tls: bool) -> Result<Opened, StartError> {
    let mut doors = Vec::new();
    let mut addresses = Vec::new();
    for listen in listen {
        let listen = listen.map_err(StartError::Listen)?;
        listen.check().map_err(StartError::Listen)?;
        if listen.scheme.is_secure() && !has_tls {
            return Err(StartError::NoTls(listen));
        }
        let failed = |error| StartError::Bind { listen: listen.clone(), error };
        for address in listen.resolve().map_err(failed)? {
            let listener = bind(address).map_err(failed)?;
            addresses.push((listen.clone(), listener.local_addr().map_err(failed)?));
            doors.push((listen.clone(), listener));
        }
    }
    Ok((doors, addresses))
}

/// A gate whose token nobody knows.
fn nobody_knows() -> Result<Arc<dyn Authenticate>, StartError> {
    let token = MasterToken::generate().map_err(io::Error::other);
    Ok(Arc::new(MasterOnly::new(token.map_err(StartError::System)?)))
}

/// Lets all shards begin once each of them has taken back what it had: a client that comes to one
/// may have its session on another.
fn begin_together(
    all_restored: &Receiver<()>,
    restored: Sender<()>,
    begin: Vec<Sender<()>>,
) -> Result<(), StartError> {
    // A shard that fails drops its own.
    drop(restored);
    for _ in &begin {
        let failed = |_| StartError::System(io::Error::other("a shard has failed"));
        all_restored.recv().map_err(failed)?;
    }
    for go in begin {
        // A shard that is gone has stopped all.
        let _ = go.send(());
    }
    Ok(())
}

/// Has the shards compact a journal that earlier processes left too long, before clients come in.
fn await_compaction(
    store: &Store,
    around: &Around,
    have_failed: impl Fn() -> bool,
) -> Result<(), StartError> {
    if store.is_overdue() {
        let Figures { bytes, segments, .. } = store.figures();
        info!(mib = bytes >> 20, segments, "compacting the journal, which was left too long");
    }
    let begun = around.clock.mono();
    while store.is_overdue() && around.clock.mono().since(begun) < COMPACTION_PATIENCE {
        if have_failed() {
            return Err(StartError::System(io::Error::other("the shards have failed")));
        }
        // It begins the round, and nothing else may make it look.
        around.mailboxes[0].wake();
        std::thread::sleep(COMPACTION_LOOK);
    }
    Ok(())
}

impl Broker {
    /// A broker without listeners, to be told how to be.
    #[must_use]
    pub fn builder() -> Builder {
        let (limits, dialect) = (Limits::default(), Dialect::default());
        let (storage, disk, listen) = (None, None, Vec::new());
        let (auth, accounts, tls, shards, modules) = (None, None, None, 0, Vec::new());
        Builder { limits, dialect, auth, accounts, tls, modules, listen, shards, storage, disk }
    }

    /// Where the broker listens, in the order of [`Builder::listen`]; a host name stands there once
    /// for each of its addresses.
    #[must_use]
    pub fn addresses(&self) -> &[(Listen, SocketAddr)] {
        &self.addresses
    }

    /// The accounts it acts by, if it does.
    #[must_use]
    pub fn accounts(&self) -> Option<&Arc<Accounts>> {
        self.accounts.as_ref()
    }

    /// The tables of its modules, if it has any.
    #[must_use]
    pub fn module_tables(&self) -> Option<&Tables> {
        self.tables.get()
    }

    /// What the broker has counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.totals.sum()
    }

    /// Gives new connections new certificates. Those that are open stay as they are.
    pub fn replace_tls(&self, tls: Tls) {
        self.tls.store(Some(Arc::new(tls)));
    }

    /// A client in this process, which passes the same gates as all but needs no credentials.
    ///
    /// It acts as the root account, unrestricted, and as it has no token, what it publishes arrives
    /// as it is. `client_id` names it in logs, and takes over an earlier client of that name.
    #[must_use]
    pub fn link(&self, client_id: &str) -> Link {
        Link::open(self.opener(), client_id)
    }

    /// Hands clients of this process to the shards of clients.
    fn opener(&self) -> Opener {
        self.opener_of(0..self.hub.unwrap_or(self.links.len()))
    }

    /// Hands clients of this process to these shards.
    fn opener_of(&self, shards: Range<usize>) -> Opener {
        let (links, next) = (Arc::clone(&self.links), Arc::clone(&self.next_link));
        let open = move |pipe| {
            // Each takes one in turn.
            let shard = shards.start + next.fetch_add(1, Ordering::Relaxed) % shards.len();
            // A broker that has stopped drops the pipe, which closes it.
            drop(links[shard].send(pipe));
        };
        Arc::new(open)
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
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outcome = Ok(());
        for thread in threads.drain(..) {
            if thread.join().is_err() {
                outcome = Err(Failed);
            }
        }
        if let Some(accounts) = &self.accounts {
            accounts.end_logs();
        }
        if let Some(store) = &self.store
            && let Err(failure) = store.stop()
        {
            error!(cause = %failure, "not everything was written");
        }
        outcome
    }

    /// Starts a thread for each shard; they begin once all have taken back what they had.
    fn start_shards(
        &self,
        shards: impl Iterator<Item = (Config, Ways)>,
        around: &Around,
        stopped: &watch::Receiver<bool>,
    ) -> Result<(), StartError> {
        let (restored, all_restored) = channel();
        let mut begin = Vec::new();
        for (number, (config, ways)) in shards.enumerate() {
            let (go, gone) = channel();
            begin.push(go);
            let (store, around) = (self.store.clone(), around.clone());
            let inside =
                Inside { store, begin: (restored.clone(), gone), ways, config, number, around };
            let until = stopped.clone();
            let is_hub = self.hub == Some(number);
            let name = if is_hub { "longshore-hub" } else { &format!("longshore-{number}") };
            self.spawn(name, move |runtime| {
                if is_hub {
                    module::give_way();
                }
                inside.run(runtime, until);
            })?;
        }
        begin_together(&all_restored, restored, begin)
    }

    /// What handshakes go by.
    fn entrance(
        &self,
        modules: &[Arc<dyn Module>],
        config: &Config,
        around: &Around,
        arrivals: Arc<[mpsc::Sender<Arrival>]>,
    ) -> Result<Entrance, StartError> {
        let (mailboxes, addresses) = (&around.mailboxes, &self.addresses);
        let routes = modules.iter().flat_map(|module| Arc::clone(module).routes()).collect();
        let collide = |path| StartError::Module(format!("{path} is there already").into());
        let router = Router::new(routes).map_err(collide)?;
        let of_modules = (router, Dictionary::of(modules));
        let api = |it| Api::new(it, config, mailboxes, self.opener(), addresses, of_modules);
        Ok(Entrance {
            limits: Arc::clone(&config.limits),
            authenticate: Arc::clone(&config.authenticate),
            totals: around.totals.clone(),
            counts: Arc::clone(&around.counts),
            store: self.store.clone(),
            tls: Arc::clone(&self.tls),
            clock: around.clock,
            arrivals,
            api: self.accounts.as_ref().map(api),
        })
    }

    /// Makes the modules, and lets tokens open what they have.
    fn make_modules(
        &self,
        makers: &[Maker],
        folder: Option<&Path>,
        stopped: &watch::Receiver<bool>,
    ) -> Result<Vec<Arc<dyn Module>>, StartError> {
        if makers.is_empty() {
            return Ok(Vec::new());
        }
        // Threads inherit where they stand: those of the tables, too, and those that modules start.
        module::giving_way(|| self.make_modules_here(makers, folder, stopped))
    }

    fn make_modules_here(
        &self,
        makers: &[Maker],
        folder: Option<&Path>,
        stopped: &watch::Receiver<bool>,
    ) -> Result<Vec<Arc<dyn Module>>, StartError> {
        let accounts = self.accounts.as_ref().zip(folder).ok_or(StartError::NoAccounts);
        let (accounts, folder) = accounts?;
        let unreadable = |cause| StartError::Module(Box::new(cause));
        let tables = Tables::open(&folder.join(MODULES_FOLDER)).map_err(unreadable)?;
        let tables = self.tables.get_or_init(|| tables).clone();
        let hub = self.hub.unwrap_or_default();
        let (accounts, opener) = (Arc::clone(accounts), self.opener_of(hub..hub + 1));
        let (folder, stopped) = (folder.to_owned(), stopped.clone());
        let context = Context { accounts, folder, tables, opener, stopped };
        let made = makers.iter().map(|make| make(context.clone()).map_err(StartError::Module));
        let modules: Vec<_> = made.collect::<Result<_, _>>()?;
        let grants = modules.iter().flat_map(|module| module.grants());
        context.accounts.add_grants(grants.collect());
        Ok(modules)
    }

    fn start_modules(&self, modules: Vec<Arc<dyn Module>>) -> Result<(), StartError> {
        for module in modules {
            let name = format!("longshore-{}", module.name());
            self.spawn(&name, move |runtime| module::run(runtime, module))?;
        }
        Ok(())
    }

    /// Starts what runs beside the shards: the time of accounts, the counters, the entrance.
    fn start_others(
        &self,
        accounts: Option<Arc<Accounts>>,
        sys: Option<Sys>,
        entrance: Entrance,
        doors: Vec<Door>,
        stopped: watch::Receiver<bool>,
    ) -> Result<(), StartError> {
        if let Some(accounts) = accounts {
            let stopped = stopped.clone();
            self.spawn("longshore-accounts", move |runtime| {
                keep_accounts(runtime, &accounts, sys, stopped);
            })?;
        }
        if let Some(api) = entrance.api.clone().filter(|api| api.dialect.rest_over_mqtt) {
            let (calls, stopped) = (Calls::begin(&api), stopped.clone());
            self.spawn("longshore-calls", move |runtime| calls.run(runtime, &api, stopped))?;
        }
        if !doors.is_empty() {
            self.spawn("longshore-net", move |runtime| {
                acceptor::run(runtime, entrance, doors, stopped);
            })?;
        }
        Ok(())
    }

    /// Starts a thread with a runtime of its own. When it ends, for whatever reason, all stop.
    fn spawn(
        &self,
        name: &str,
        work: impl FnOnce(&Runtime) + Send + 'static,
    ) -> Result<(), StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(BLOCKING_THREADS)
            .build()
            .map_err(StartError::System)?;
        let all = StopAll(self.stop.clone());
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _all = all;
            work(&runtime);
        });
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.push(thread.map_err(StartError::System)?);
        Ok(())
    }
}

/// Stops the broker when the thread that holds it ends.
struct StopAll(watch::Sender<bool>);

impl Drop for StopAll {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shutdown();
        let _ = self.wait();
    }
}

/// How many shards of clients there are where so many are asked for. There is room for another.
fn shards(asked: usize) -> usize {
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let count = match asked {
        0 if cores() <= 2 => 1,
        0 => cores(),
        asked => asked,
    };
    count.min(Config::SHARDS_MAX - 1)
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
