//! What plugs into a broker: a part that has objects of its own, and publishes what they have to
//! say under `flespi/`.
//!
//! A [`Module`] meets the broker through its [`Context`] alone. What it publishes goes through a
//! [`Link`], so it passes the same gates and quotas as what clients publish; beyond theirs it has
//! one right, to publish what is reserved, in the topics of any account. Who may read that is said
//! by its grants. Modules meet one another only through topics and REST.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use longshore_acl::{Credentials, NoRandomness, Principal, Refusal, TopicGrant};
use longshore_storage::Tables;
use tokio::runtime::Runtime;
use tokio::sync::{oneshot, watch};
use tokio::task::LocalSet;
#[cfg(target_os = "linux")]
use tracing::debug;

use crate::accounts::Accounts;
use crate::clock::{Wall, wall};
use crate::link::{Link, LinkError, Opener, acting_as};
use crate::rest::Route;
use crate::shard::OwnMessage;
use crate::stamp::of_broker;

mod objects;

pub use self::objects::{Change, Head, Item, Objects, Paths};
pub use crate::notices::{Detail, Event, EventKind, Severity};

/// How far modules stand behind shards, in nice values: a shard that wakes runs at once.
#[cfg(target_os = "linux")]
const NICE: i32 = 10;

/// The folder of what modules keep, within that of the accounts.
pub const MODULES_FOLDER: &str = "modules";

/// What a module does until the broker stops.
pub type Running = Pin<Box<dyn Future<Output = ()>>>;

/// Why a module cannot begin.
pub type ModuleError = Box<dyn Error + Send + Sync>;

/// Makes a module, once the accounts of its broker are open and before any client comes in.
pub(crate) type Maker = Arc<dyn Fn(Context) -> Result<Arc<dyn Module>, ModuleError> + Send + Sync>;

/// See the module's documentation.
pub trait Module: Send + Sync + 'static {
    /// Its name, for its folder, its thread and the log: a word in lower case.
    fn name(&self) -> &'static str;

    /// Topics of its objects, and what of REST a token must be able to read for each. A topic under
    /// `flespi/` that no grant opens can be read by tokens that are not limited to a list.
    fn grants(&self) -> Vec<TopicGrant> {
        Vec::new()
    }

    /// What of REST it answers. The first segment of each path is one of its own, or one that it
    /// shares with other modules, which has a [`Route::document`].
    fn routes(self: Arc<Self>) -> Vec<Route> {
        Vec::new()
    }

    /// What the logs of its objects say beside that they were created, updated and deleted: events
    /// by what tools call the objects, `channels` for `gw/channels`. Tools that show logs read it.
    fn events(&self) -> Vec<(&'static str, &'static [EventKind])> {
        Vec::new()
    }

    /// The topics it publishes to, and what comes there, for tools that offer topics. A level that
    /// varies has a name in kebab case, `{channel-id}`; [`Objects::topics`] are those of objects.
    fn topics(&self) -> Vec<(String, &'static str)> {
        Vec::new()
    }

    /// Does its work, on a thread of its own with a runtime of tokio for it alone, where tasks that
    /// are not `Send` may be spawned as local ones. It ends when [`Context::stopped`] does, and has
    /// a moment to bring to an end what it has begun; if it ends before, the broker stops.
    fn run(self: Arc<Self>) -> Running;
}

/// What a module is given of its broker. Clones are the same.
#[derive(Clone)]
pub struct Context {
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) folder: PathBuf,
    pub(crate) tables: Tables,
    pub(crate) opener: Opener,
    pub(crate) stopped: watch::Receiver<bool>,
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Context {
    /// A client in this process that acts for the whole broker: it publishes in the topics of the
    /// account that a message says it is of ([`Message::of_account`](crate::Message::of_account)),
    /// also under `flespi/`, and what it subscribes to reaches it from all accounts. `client_id`
    /// names it in logs, and takes over an earlier client of that name.
    ///
    /// It is in no limit and no count of clients. Should the broker close it, as for a message that
    /// is too large, what is under way fails, and what comes after goes over another connection.
    #[must_use]
    pub fn link(&self, client_id: &str) -> Link {
        Link::open_lasting(acting_as(&self.opener, Principal::broker()), client_id)
    }

    /// The accounts whose objects it has.
    #[must_use]
    pub fn accounts(&self) -> &Arc<Accounts> {
        &self.accounts
    }

    /// What modules keep, in tables that begin with their names. A backup has all of it.
    #[must_use]
    pub fn tables(&self) -> &Tables {
        &self.tables
    }

    /// Adds a record to the log of an account, and publishes it.
    pub fn tell(&self, account: u64, event: Event) {
        self.accounts.note_event(account, event);
    }

    /// Retains states of objects, in this order, at the rate of changes of objects: what comes
    /// more often goes through [`Context::retain_durably`], whose callers wait.
    pub fn retain(&self, states: Vec<State>) {
        self.accounts.retain_all(State::into_messages(states));
    }

    /// What is retained of an object goes, for it is no more. `deleted` beneath its topic says so
    /// to who follows its fields and not itself, and is not retained (R7.3 of the modules).
    pub(crate) fn retire(&self, states: Vec<State>) {
        let Some(State { account, topic, .. }) = states.first().cloned() else { return };
        let mut messages = State::into_messages(states);
        let deleted = OwnMessage::new(account, format!("{topic}/deleted"), "true", wall());
        messages.push(deleted.kept());
        self.accounts.retain_all(messages);
    }

    /// Retains states of objects, in this order, and waits until that is durable. Whoever says much
    /// waits for what was said before, or shards have more to do than they can.
    ///
    /// What cannot be retained, as when the broker may retain no more, is left out, and the log
    /// says why.
    ///
    /// # Errors
    /// [`LinkError::Closed`] when the broker stops, or its disk has failed: then nobody knows what
    /// is retained.
    pub async fn retain_durably(&self, states: Vec<State>) -> Result<(), LinkError> {
        if states.is_empty() {
            return Ok(());
        }
        let (done, is_done) = oneshot::channel();
        self.accounts.retain_durably(State::into_messages(states), done);
        is_done.await.map_err(|_| LinkError::Closed(None))
    }

    /// Seals a text as keys of tokens are sealed, under the secret of the accounts: to be kept, and
    /// of no use to who has the tables alone. `of` says what it is of, and is needed to open it.
    ///
    /// # Errors
    /// The operating system has no randomness.
    pub fn seal(&self, of: &str, text: &str) -> Result<String, NoRandomness> {
        self.accounts.read().secret().seal(of, text)
    }

    /// What [`Context::seal`] has sealed; none if it was under another secret or of something else.
    #[must_use]
    pub fn unseal(&self, of: &str, sealed: &str) -> Option<String> {
        self.accounts.read().secret().unseal(of, sealed)
    }

    /// A client in this process that acts for whoever shows this token: it may what the token
    /// may, in the topics of its account. As a client would, it loses its rights with the token.
    ///
    /// # Errors
    /// When the token lets nobody in.
    pub fn link_of(&self, token: &str, client_id: &str) -> Result<Link, Refusal> {
        let credentials = Credentials { username: Some(token), password: None };
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (_, principal) = self.accounts.token_unheard(&credentials, here)?;
        Ok(Link::open(acting_as(&self.opener, principal), client_id))
    }

    /// Removes what is retained under topics that a filter matches, in slices, unless `is_right`
    /// holds of account and topic: for states of what does not outlive the process, at its start.
    pub fn clear(&self, filter: &str, is_right: impl FnMut(u64, &str) -> bool + Send + 'static) {
        self.renew(filter, Box::new(Clearing(is_right)));
    }

    /// Brings what is retained under topics that a filter matches up to date, in slices.
    pub(crate) fn renew(&self, filter: &str, renew: Box<dyn Renew>) {
        self.accounts.renew(filter, renew);
    }

    /// The folder of the accounts, in which those of modules are.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends when the broker stops.
    pub async fn stopped(&self) {
        // An error is a broker that is gone.
        let _ = self.stopped.clone().wait_for(|stopped| *stopped).await;
    }
}

/// The state of an object, or of a part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Whose topics it is in.
    pub account: u64,
    /// A topic under `flespi/state/`.
    pub topic: String,
    /// JSON; none where there is nothing any more.
    pub payload: Option<String>,
    /// Since when it is so, in microseconds of unix time; none for now.
    pub since: Option<u64>,
}

impl State {
    pub(crate) fn into_messages(states: Vec<Self>) -> Vec<OwnMessage> {
        let (now, mut last) = (wall(), None);
        let into_message = |state: Self| {
            let Self { account, topic, payload, since } = state;
            let said = (account, since.map_or(now, Wall));
            // Those of one object stand together.
            let properties = match &last {
                Some((known, properties)) if *known == said => Bytes::clone(properties),
                _ => Bytes::from(of_broker(said.0, said.1)),
            };
            last = Some((said, Bytes::clone(&properties)));
            let payload = payload.unwrap_or_default().into();
            OwnMessage::saying(account, topic, payload, properties).retained()
        };
        states.into_iter().map(into_message).collect()
    }
}

/// Says what is to be retained.
pub(crate) trait Renew: Send {
    /// Whether this is, which is retained; otherwise it goes.
    fn is_right(&mut self, account: u64, topic: &str, payload: &[u8]) -> bool;

    /// What is to be retained of the next object beside what is right, as it is now; none once
    /// all have been asked for.
    fn next(&mut self) -> Option<Vec<State>> {
        None
    }

    /// All is as it is to be.
    fn end(&mut self, _: Wall) {}
}

/// Leaves what a function says is right.
struct Clearing<F>(F);

impl<F: FnMut(u64, &str) -> bool + Send> Renew for Clearing<F> {
    fn is_right(&mut self, account: u64, topic: &str, _: &[u8]) -> bool {
        (self.0)(account, topic)
    }
}

/// Runs a module on this thread until it ends.
pub(crate) fn run(runtime: &Runtime, module: Arc<dyn Module>) {
    give_way();
    LocalSet::new().block_on(runtime, module.run());
}

/// Does something on a thread that gives way to shards, and has those that it starts do so.
pub(crate) fn giving_way<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let working = scope.spawn(|| {
            give_way();
            work()
        });
        working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Has this thread, and those that it starts, stand behind the shards where processors are short: a
/// hub that has more to do than they can takes longer, and clients of the broker do not notice.
#[cfg(target_os = "linux")]
pub(crate) fn give_way() {
    // There it is the thread that has the number, and not the process.
    if let Err(cause) = rustix::process::setpriority_process(None, NICE) {
        debug!(%cause, "the thread of a module does not give way to shards");
    }
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn give_way() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::error::Error;
    use std::fs::read_to_string;

    use super::*;

    #[test]
    fn the_threads_of_a_module_give_way_and_others_do_not() -> Result<(), Box<dyn Error>> {
        let nice = || -> Option<i32> {
            let text = read_to_string("/proc/thread-self/stat").ok()?;
            text.rsplit(") ").next()?.split(' ').nth(16)?.parse().ok()
        };
        let before = nice();
        let of_module = std::thread::spawn(move || {
            give_way();
            std::thread::spawn(nice).join()
        });
        let started = of_module.join().map_err(|_| "it panicked")?.map_err(|_| "it panicked")?;
        assert_eq!((started, nice()), (Some(NICE), before));
        Ok(())
    }
}
