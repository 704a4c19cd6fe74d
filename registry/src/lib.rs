//! The registry of a telematics hub: devices, whatever channel and protocol they are reached by.
//!
//! | module | holds |
//! | --- | --- |
//! | `device`, `device_type`, `live` | what a device is, and what is going on with it |
//! | `roster` | which device has which ident |
//! | `intake`, `writer` | from messages of channels to histories, telemetry and topics |
//! | `history`, `telemetry`, `shelves` | what is kept of what devices say |
//! | `reading`, `generalize` | reading it |
//! | `courier`, `command`, `settings` | what devices are told |
//! | `connections`, `changes` | who is connected, and what becomes of devices |
//! | `rest` | routes of all that |
//! | `deed` | what logs say, as tools are told of it |
//!
//! It knows channels by their topics alone:
//!
//! ```text
//! flespi/message/gw/channels/{id}/{ident} --> writer --> flespi/message/gw/devices/{id}
//!                                                        flespi/state/gw/devices/{id}/telemetry/+
//! flespi/state/gw/channels/{id}/connections/{id} --> connections --> .../devices/{id}/connected
//! flespi/command/gw/channels/{id}/{connection} <-- courier <-- flespi/response/gw/channels/+/+
//! ```

#![forbid(unsafe_code)]

mod changes;
mod command;
mod connections;
mod courier;
mod deed;
mod device;
mod device_type;
mod generalize;
pub mod history;
mod intake;
mod limits;
mod live;
mod message;
mod reading;
mod rest;
mod roster;
mod settings;
mod shelves;
mod telemetry;
mod writer;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use hashbrown::HashMap;
use longshore_acl::{Method, TopicGrant};
use longshore_broker::module::{Event, EventKind, Head, Item, Module, Objects, Running};
use longshore_broker::rest::{Fault, Route};
use longshore_broker::{Context, ModuleError};
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Duration, MissedTickBehavior, interval};

pub use crate::limits::Limits;

use crate::changes::{Follower, Noted};
use crate::connections::Connections;
use crate::courier::Courier;
use crate::deed::{Deed, EVENTS, TOPICS};
use crate::device::{Device, ORIGIN, URI};
use crate::intake::{Heard, Intake};
use crate::roster::Roster;
use crate::shelves::Shelves;
use crate::telemetry::State;
use crate::writer::{What, Work, Writer};

/// Works that wait for the writer.
const WORKS_WAITING: usize = 64;

/// The devices module: give it to
/// [`Builder::module`](longshore_broker::Builder::module).
///
/// ```no_run
/// use longshore_registry::{Limits, Registry};
///
/// let builder = longshore_broker::Broker::builder();
/// let builder = builder.module(|context| Registry::open(context, Limits::default()));
/// ```
pub struct Registry {
    context: Context,
    objects: Arc<Objects<Device>>,
    roster: Arc<Roster>,
    shelves: Arc<Shelves>,
    courier: Arc<Courier>,
    noted: Arc<Noted>,
    heard: Arc<Heard>,
    limits: Limits,
    works: mpsc::Sender<Work>,
    /// Where they come out, until it runs.
    receiver: Mutex<Option<mpsc::Receiver<Work>>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("limits", &self.limits).finish_non_exhaustive()
    }
}

impl Registry {
    /// The devices that are kept in the tables of a broker.
    ///
    /// # Errors
    /// When the tables cannot be read, or hold what is no device.
    pub fn open(context: Context, limits: Limits) -> Result<Self, ModuleError> {
        let shelves = Arc::new(Shelves::open(context.tables())?);
        let (roster, noted) = (Arc::<Roster>::default(), Arc::<Noted>::default());
        let follower = Follower {
            context: context.clone(),
            roster: Arc::clone(&roster),
            shelves: Arc::clone(&shelves),
            noted: Arc::clone(&noted),
        };
        let is_open = Arc::new(AtomicBool::new(false));
        let is_told = Arc::clone(&is_open);
        let objects = Objects::open(&context, "registry", move |change| {
            follower.change(change, is_told.load(Ordering::Relaxed));
        })?;
        is_open.store(true, Ordering::Relaxed);
        let objects = Arc::new(objects.at_most(limits.devices_per_account));
        for row in shelves.states.range(..) {
            let (key, row) = row?;
            let (Ok(id), Some(state)) = (key.try_into(), State::read_head(&row)) else { continue };
            let id = u64::from_be_bytes(id);
            match objects.get(id) {
                Some(device) => device.live.set(state.history_bytes, state.last_active),
                None if objects.has_row(id) => {}
                None => {
                    // The process ended before it was taken away.
                    let head = Head { id, account: state.account };
                    if let Ok(device) = Device::read(head, Map::new(), None) {
                        noted.add(|all| all.gone.push(Arc::new(device)));
                    }
                }
            }
        }
        let courier = Arc::new(Courier::open(&context, &shelves, &objects, &limits)?);
        let (works, receiver) = mpsc::channel(WORKS_WAITING);
        Ok(Self {
            context,
            objects,
            roster,
            shelves,
            courier,
            noted,
            heard: Arc::default(),
            limits,
            works,
            receiver: Mutex::new(Some(receiver)),
        })
    }

    async fn work(&self) {
        let receiver = self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take();
        // It runs once.
        let Some(works) = receiver else { return };
        let link = &self.courier.link;
        let intake = Intake {
            context: self.context.clone(),
            // Between two messages of a batch nothing may come.
            link: self.context.link("registry-messages"),
            works,
            heard: Arc::clone(&self.heard),
            courier: Arc::clone(&self.courier),
            batch_messages: self.limits.batch_messages,
        };
        let (shelves, roster) = (Arc::clone(&self.shelves), Arc::clone(&self.roster));
        let writer = Writer::new(shelves, roster, self.limits.clone());
        let connections = Connections {
            context: self.context.clone(),
            link: link.clone(),
            objects: Arc::clone(&self.objects),
            roster: Arc::clone(&self.roster),
            courier: Arc::clone(&self.courier),
            noted: Arc::clone(&self.noted),
            works: self.works.clone(),
            known: HashMap::new(),
            places: HashMap::new(),
            said: Vec::new(),
            asked: Vec::new(),
        };
        tokio::join!(
            intake.run(writer),
            connections.run(),
            Arc::clone(&self.courier).run(),
            self.heard.tell(&self.objects, &self.context),
            self.sweep(),
        );
    }

    /// Takes away what is too old, over and over (R4.14).
    async fn sweep(&self) {
        let mut rounds = interval(Duration::from_secs(self.limits.sweep_secs.clamp(1, 86_400)));
        rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            self.objects.sweep();
            for device in self.objects.list() {
                sweep(&self.works, device).await;
            }
        }
    }
}

impl Module for Registry {
    fn name(&self) -> &'static str {
        "registry"
    }

    fn grants(&self) -> Vec<TopicGrant> {
        let topics = [
            ("flespi/message/gw/devices/{id}", Some("messages")),
            ("flespi/state/gw/devices/{id}", None),
            ("flespi/state/gw/devices/{id}/+", None),
            ("flespi/state/gw/devices/{id}/telemetry/+", Some("telemetry")),
            ("flespi/state/gw/devices/{id}/settings/+", Some("settings")),
            ("flespi/state/gw/devices/{id}/connections/+", Some("connections")),
            ("flespi/log/gw/devices/{id}/#", Some("logs")),
        ];
        let grant = |(filter, submodule): (&str, Option<&str>)| TopicGrant {
            filter: filter.to_owned(),
            uri: URI.to_owned(),
            submodule: submodule.map(str::to_owned),
            method: Method::Get,
        };
        topics.map(grant).into()
    }

    fn routes(self: Arc<Self>) -> Vec<Route> {
        rest::routes(&self)
    }

    fn events(&self) -> Vec<(&'static str, &'static [EventKind])> {
        vec![("devices", &EVENTS)]
    }

    fn topics(&self) -> Vec<(String, &'static str)> {
        self.objects.topics(&TOPICS)
    }

    fn run(self: Arc<Self>) -> Running {
        Box::pin(async move {
            self.objects.renew_all();
            for device in self.objects.list().iter().filter(|it| it.is_invalid) {
                changes::tell_blocked(&self.context, device);
            }
            tokio::select! {
                // First: then nobody hears that all sessions end as the broker stops.
                biased;
                () = self.context.stopped() => {}
                () = self.work() => {}
            }
        })
    }
}

/// Has the writer do something; whether there is more of it.
async fn ask(works: &mpsc::Sender<Work>, device: Arc<Device>, what: What) -> Result<bool, Fault> {
    let stops = || Fault::new(longshore_broker::rest::Code::Unavailable, "the broker stops");
    let (done, answer) = oneshot::channel();
    works.send(Work { device, what, done }).await.map_err(|_| stops())?;
    answer.await.map_err(|_| stops())?
}

/// Takes away what is too old of a device, step by step.
async fn sweep(works: &mpsc::Sender<Work>, device: Arc<Device>) {
    while let Ok(true) = ask(works, Arc::clone(&device), What::Sweep).await {}
}

/// Takes away all of a device that is gone, step by step. What an error leaves goes at the next
/// start.
async fn purge(works: &mpsc::Sender<Work>, device: Arc<Device>) {
    while let Ok(true) = ask(works, Arc::clone(&device), What::Purge).await {}
}

/// Something that has happened to a device, or to what belongs to it under this name, which ends in
/// a slash.
fn event(device: u64, of: &str, deed: Deed, fields: Map<String, Value>) -> Event {
    let (text, code) = (format!("{of}{}", deed.name()), deed.code());
    let origin = format!("{URI}/{device}");
    Event { origin, origin_type: ORIGIN, origin_id: device, text, code, fields }
}

/// Microseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
