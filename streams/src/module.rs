//! Streams as a module of the broker: made by REST, fed by what channels and devices say.
//!
//! | module | holds |
//! | --- | --- |
//! | `stream` | a stream as REST has it, and what is known of it now |
//! | `links` | which channels and devices a stream is linked to |
//! | `intake` | what is said, into the queues |
//! | `held` | what waits for its device form; `early`: what did not wait for it |
//! | `seen` | what was taken, and may come again |
//! | `work` | the runners, and what they say in logs and states |
//! | `rest` | routes beside those of all objects |
//! | `deed` | what logs say, as tools are told of it |

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use longshore_acl::TopicGrant;
use longshore_broker::module::{Change, EventKind, Item, Objects, Running};
use longshore_broker::rest::Route;
use longshore_broker::{Context, Module, ModuleError};
use tokio::sync::{Notify, watch};
use tokio::time::sleep;

use self::deed::{EVENTS, TOPICS};
use self::intake::Intake;
use self::links::Links;
use self::stream::Stream;
use crate::packets::Packets;
use crate::{Queue, QueueError, Queues, Targets};

mod deed;
mod early;
mod held;
mod intake;
mod links;
mod rest;
mod seen;
mod stream;
mod work;

/// How long it takes until streams listen again.
const PAUSE: Duration = Duration::from_secs(1);

/// What streams may do.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Options {
    /// What streams may connect to beyond the internet, as [`Targets::new`] reads it. Default:
    /// nothing.
    pub allow: Vec<String>,
    /// Bytes of the queue of one stream; a full one takes nothing until it is drained to three
    /// quarters. Default 100,000,000 (section 9).
    pub queue_bytes: u64,
    /// Bytes of raw traffic that a stream with `packets_ttl` keeps, or slightly more for a moment;
    /// the oldest makes room for what is new. Default 64 MiB, as that of a channel.
    pub packets_bytes: u64,
    /// Streams of one account. Default 10,000.
    pub streams_per_account: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            queue_bytes: 100_000_000,
            packets_bytes: 64 << 20,
            streams_per_account: 10_000,
        }
    }
}

/// The module: see [`Module`].
///
/// ```no_run
/// # use longshore_broker::Broker;
/// use longshore_streams::{Options, Streams};
///
/// let builder = Broker::builder().module(|context| Streams::open(context, &Options::default()));
/// ```
pub struct Streams {
    context: Context,
    objects: Arc<Objects<Stream>>,
    links: Arc<Links>,
    queues: Queues,
    packets: Arc<Packets>,
    targets: Targets,
    queue_bytes: u64,
    /// Streams whose runners have to look at what they are.
    marked: Arc<Mutex<BTreeSet<u64>>>,
    /// There are such.
    changed: Arc<Notify>,
    /// A link is about to be made: its messages are to be heard.
    wanted: Notify,
    /// They are.
    listens: watch::Sender<bool>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").field("objects", &self.objects).finish_non_exhaustive()
    }
}

impl Streams {
    /// Opens the streams that are kept.
    ///
    /// # Errors
    /// When an entry of `options.allow` is none, or what is kept cannot be read.
    pub fn open(context: Context, options: &Options) -> Result<Self, ModuleError> {
        let targets = Targets::new(&options.allow)?;
        let queues = Queues::open(context.tables())?;
        let links = Arc::new(Links::open(context.tables())?);
        let packets = Arc::new(Packets::open(context.tables(), options.packets_bytes, now)?);
        let (marked, changed) = (Arc::<Mutex<BTreeSet<u64>>>::default(), Arc::new(Notify::new()));
        let on_change = {
            let (queues, links, bytes) = (queues.clone(), Arc::clone(&links), options.queue_bytes);
            let (marked, changed) = (Arc::clone(&marked), Arc::clone(&changed));
            move |change: &Change<'_, Stream>| {
                let Some(stream) = change.after.or(change.before) else { return };
                let id = stream.head().id;
                let done = match change.after {
                    Some(stream) => queues
                        .queue(id, stream.queue_options(bytes))
                        .map(|queue| stream.live.attach(queue)),
                    None => links.forget(id).map_err(QueueError::from),
                };
                if let Err(error) = done {
                    tracing::error!(stream = id, %error, "a change of a stream is not done");
                }
                let setups = [change.before, change.after].map(|it| it.map(|it| &it.setup));
                if setups[0] != setups[1] {
                    marked.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
                    changed.notify_one();
                }
            }
        };
        let objects = Objects::open(&context, "streams", on_change)?;
        let objects = Arc::new(objects.at_most(options.streams_per_account));
        links.retain(|stream| objects.has_row(stream))?;
        // A process that was killed may not have come to it.
        let orphans = queues.streams()?.into_iter().filter(|id| !objects.has_row(*id));
        marked.lock().unwrap_or_else(PoisonError::into_inner).extend(orphans);
        Ok(Self {
            context,
            objects,
            links,
            queues,
            packets,
            targets,
            queue_bytes: options.queue_bytes,
            marked,
            changed,
            wanted: Notify::new(),
            listens: watch::Sender::new(false),
        })
    }

    fn take_changed(&self) -> BTreeSet<u64> {
        std::mem::take(&mut *self.marked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn is_stopped(&self) -> bool {
        self.context.stopped().now_or_never().is_some()
    }

    fn queue(&self, stream: &Stream) -> Result<Queue, QueueError> {
        self.queues.queue(stream.head().id, stream.queue_options(self.queue_bytes))
    }
}

impl Module for Streams {
    fn name(&self) -> &'static str {
        "streams"
    }

    fn grants(&self) -> Vec<TopicGrant> {
        rest::grants()
    }

    fn routes(self: Arc<Self>) -> Vec<Route> {
        rest::routes(&self)
    }

    fn events(&self) -> Vec<(&'static str, &'static [EventKind])> {
        vec![("streams", &EVENTS)]
    }

    fn topics(&self) -> Vec<(String, &'static str)> {
        self.objects.topics(&TOPICS)
    }

    fn run(self: Arc<Self>) -> Running {
        Box::pin(async move {
            self.objects.renew_all();
            let listen = async {
                loop {
                    let heard = match Intake::open(Arc::clone(&self)) {
                        Ok(intake) => intake.run().await,
                        Err(error) => Err(error),
                    };
                    self.listens.send_replace(false);
                    // What was not taken waits in the session, and comes again.
                    match heard {
                        Ok(()) => tracing::warn!("streams have lost their session"),
                        Err(error) => tracing::error!(%error, "streams take nothing now"),
                    }
                    sleep(PAUSE).await;
                }
            };
            let listen = async {
                tokio::select! {
                    // First: then nobody hears that the session ends as the broker stops.
                    biased;
                    () = self.context.stopped() => {}
                    () = listen => {}
                }
            };
            tokio::join!(listen, Arc::clone(&self).work(), Arc::clone(&self).keep_packets());
            // What the last batches were.
            Arc::clone(&self).keep_packets_once().await;
            // Or it would hold the tables for a moment longer than the broker is there.
            self.queues.close().await;
        })
    }
}

/// Microseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
