//! Who is connected: told by what channels retain of their connections.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use longshore_broker::module::{Item, Objects, State};
use longshore_broker::{Context, Link, LinkError, Message, Subscription};
use longshore_codec::{Property, QoS, SubscribeOptions};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::time::{Duration, Instant, sleep, timeout_at};

use crate::changes::Noted;
use crate::courier::{ASKED, Courier};
use crate::deed::Deed;
use crate::device::{Device, Identity, URI};
use crate::intake::PAUSE;
use crate::live;
use crate::roster::{Roster, Sought};
use crate::writer::{Work, state_of};

/// What channels retain of connections.
const OF_CHANNELS: &str = "flespi/state/gw/channels/+/connections/+";
/// The property in which they say how one has ended, as JSON.
const ENDED: &str = "ended";
/// Why connections are ended (R8.8): a user asks for it, the device is disabled.
pub(crate) const BY_USER: u64 = 10;
const DISABLED: u64 = 23;
/// How long nothing comes of what an earlier process has retained, once all of it has come.
const QUIET: Duration = Duration::from_secs(5);

/// A connection as a channel tells of it.
#[derive(Debug, Deserialize)]
pub(crate) struct Told {
    id: u64,
    channel_id: u64,
    protocol_id: u64,
    ident: String,
    #[serde(default)]
    source: Value,
    #[serde(default)]
    transport: Value,
    #[serde(default)]
    established: Value,
}

/// Account, channel and number of a connection.
pub(crate) type Place = (u64, u64, u64);

/// See the module.
pub(crate) struct Connections {
    pub(crate) context: Context,
    pub(crate) link: Link,
    pub(crate) objects: Arc<Objects<Device>>,
    pub(crate) roster: Arc<Roster>,
    pub(crate) courier: Arc<Courier>,
    pub(crate) noted: Arc<Noted>,
    pub(crate) works: tokio::sync::mpsc::Sender<Work>,
    pub(crate) known: HashMap<Place, (Told, Option<Arc<Device>>)>,
    /// Places by whom they are of.
    pub(crate) places: HashMap<Identity, Vec<Place>>,
    /// What is to be retained.
    pub(crate) said: Vec<State>,
    /// What channels are to be asked.
    pub(crate) asked: Vec<Message>,
}

/// What was retained of connections by an earlier process, on its way.
struct Left {
    connections: Subscription,
    connected: Subscription,
    /// Those of which it is retained whether they are connected.
    devices: HashSet<u64>,
    /// When all has come, if nothing comes until then.
    quiet_at: Instant,
}

impl Left {
    /// None once all has come.
    async fn next(&mut self) -> Option<Message> {
        let both = async {
            tokio::select! {
                it = self.connections.recv() => it,
                it = self.connected.recv() => it,
            }
        };
        let message = timeout_at(self.quiet_at, both).await.ok().flatten()?;
        if message.retain {
            self.quiet_at = Instant::now() + QUIET;
        }
        if let Some(place) = message.topic.strip_suffix("/connected") {
            self.devices.extend(place.rsplit('/').next().and_then(|id| id.parse::<u64>().ok()));
        }
        Some(message)
    }
}

impl Connections {
    /// Follows connections and changes of devices, for ever.
    pub(crate) async fn run(mut self) {
        loop {
            if let Err(cause) = self.follow().await {
                tracing::warn!(%cause, "it is not heard who is connected, and is asked for again");
            }
            // Whoever is there is told of again.
            let all: Vec<_> = self.known.keys().copied().collect();
            all.into_iter().for_each(|place| self.forget(place, Map::new()));
            sleep(PAUSE).await;
        }
    }

    async fn follow(&mut self) -> Result<(), LinkError> {
        let options = SubscribeOptions::new(QoS::AtLeastOnce);
        let mut told = self.link.subscribe(OF_CHANNELS, options).await?;
        let filter = |name: &str| format!("flespi/state/{URI}/+/{name}");
        let mut left = Some(Left {
            connections: self.link.subscribe(&filter("connections/+"), options).await?,
            connected: self.link.subscribe(&filter("connected"), options).await?,
            devices: HashSet::new(),
            quiet_at: Instant::now() + QUIET,
        });
        let noted = Arc::clone(&self.noted);
        loop {
            let of_earlier = async {
                match &mut left {
                    Some(left) => left.next().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = told.recv() => match message {
                    Some(message) => self.hear(&message),
                    None => return Ok(()),
                },
                message = of_earlier => match message {
                    Some(message) => self.check(&message),
                    None => self.complete(left.take()),
                },
                all = noted.take() => {
                    all.identities.iter().for_each(|identity| self.settle(identity));
                    self.sweep(all.gone, all.shortened);
                }
            }
            self.context.retain_durably(std::mem::take(&mut self.said)).await?;
            self.link.publish_all(self.asked.drain(..)).await?;
        }
    }

    /// What was retained of a connection by an earlier process goes, unless it is there.
    fn check(&mut self, message: &Message) {
        let mut levels = message.topic.split('/').skip(4);
        let id = levels.next().and_then(|id| id.parse::<u64>().ok());
        let connection = levels.nth(1).and_then(|id| id.parse::<u64>().ok());
        if !message.retain || message.payload == b"false" {
            return;
        }
        let device = id.and_then(|id| self.objects.get(id));
        let is_there = device.is_some_and(|it| match connection {
            Some(connection) => it.live.connections().iter().any(|it| it.id == connection),
            None => it.live.is_connected(),
        });
        if !is_there {
            let payload = connection.is_none().then(|| "false".to_owned());
            let (account, topic) = (message.account(), message.topic.clone());
            self.said.push(State { account, topic, payload, since: None });
        }
    }

    /// All has come that was retained by an earlier process: devices of which it has not retained
    /// whether they are connected are not, and it is so said.
    fn complete(&mut self, left: Option<Left>) {
        // What ends earlier is lost, and comes again.
        let is_whole = |it: &Left| it.quiet_at <= Instant::now();
        let Some(Left { devices, .. }) = left.filter(is_whole) else { return };
        let is_untold = |it: &Arc<Device>| !devices.contains(&it.head().id);
        let all = self.objects.list().into_iter().filter(is_untold);
        let all = all.filter(|device| !device.live.is_connected());
        self.said.extend(all.map(|it| state_of(&it, "connected", Some("false".to_owned()))));
    }

    fn hear(&mut self, message: &Message) {
        let account = message.account();
        let mut levels = message.topic.split('/');
        let channel = levels.nth(4).and_then(|id| id.parse().ok());
        let id = levels.nth(1).and_then(|id| id.parse().ok());
        let Some((channel, id)) = channel.zip(id) else { return };
        let place = (account, channel, id);
        self.forget(place, ended(message));
        let Ok(told) = serde_json::from_slice::<Told>(&message.payload) else { return };
        if (told.channel_id, told.id) != (channel, id) {
            return;
        }
        let identity = told.identity(account);
        self.known.insert(place, (told, None));
        self.places.entry(identity.clone()).or_default().push(place);
        self.settle(&identity);
    }

    fn forget(&mut self, place: Place, ended: Map<String, Value>) {
        let Some((told, device)) = self.known.remove(&place) else { return };
        let identity = told.identity(place.0);
        if let Some(places) = self.places.get_mut(&identity) {
            places.retain(|it| *it != place);
            if places.is_empty() {
                self.places.remove(&identity);
            }
        }
        if let Some(device) = device {
            self.disconnect(&device, &told, ended);
        }
    }

    /// Gives the connections of an ident to the device that has it.
    fn settle(&mut self, identity: &Identity) {
        let Some(places) = self.places.get(identity) else { return };
        let sought = Sought {
            account: identity.account,
            protocol: identity.protocol,
            ident: &identity.ident,
        };
        let holder = self.roster.find(&sought);
        let id = |it: &Option<Arc<Device>>| it.as_ref().map(|device| device.head().id);
        for place in places.clone() {
            let Some((told, device)) = self.known.remove(&place) else { continue };
            if id(&device) != id(&holder) {
                if let Some(device) = &device {
                    self.disconnect(device, &told, Map::new());
                }
                if let Some(holder) = &holder {
                    self.connect(holder, &told);
                }
            }
            if holder.as_ref().is_some_and(|it| !it.enabled) {
                self.asked.push(closing(place, DISABLED));
            }
            self.known.insert(place, (told, holder.clone()));
        }
    }

    fn connect(&mut self, device: &Arc<Device>, told: &Told) {
        let id = device.head().id;
        let shown = json!({
            "id": told.id, "channel_id": told.channel_id, "device_id": id, "ident": told.ident,
            "source": told.source, "transport": told.transport, "established": told.established,
            "secondary": false, "meta": null,
        });
        let text = shown.to_string();
        let (id, channel_id) = (told.id, told.channel_id);
        let is_first = device.live.connect(live::Connection { id, channel_id, shown });
        self.said.push(state_of(device, &format!("connections/{}", told.id), Some(text)));
        if is_first {
            self.said.push(state_of(device, "connected", Some("true".to_owned())));
        }
        self.tell(device, told, Deed::Connected, Map::new());
        self.courier.nudge(device);
    }

    fn disconnect(&mut self, device: &Arc<Device>, told: &Told, ended: Map<String, Value>) {
        let is_last = device.live.disconnect(told.channel_id, told.id);
        self.said.push(state_of(device, &format!("connections/{}", told.id), None));
        if is_last {
            self.said.push(state_of(device, "connected", Some("false".to_owned())));
        }
        self.tell(device, told, Deed::Disconnected, ended);
    }

    /// Says in the log that a connection has come or gone, and in what way.
    fn tell(&self, device: &Device, told: &Told, deed: Deed, mut fields: Map<String, Value>) {
        let of_connection = [
            ("ident", told.ident.clone().into()),
            ("source", told.source.clone()),
            ("transport", told.transport.clone()),
            ("channel_id", told.channel_id.into()),
            ("connection_id", told.id.into()),
        ];
        fields.extend(of_connection.map(|(name, it)| (name.to_owned(), it)));
        let event = crate::event(device.head().id, "", deed, fields);
        self.context.tell(device.head().account, event);
    }

    /// Has the writer take away what devices leave behind.
    fn sweep(&self, gone: Vec<Arc<Device>>, shortened: Vec<Arc<Device>>) {
        let (works, courier) = (self.works.clone(), Arc::clone(&self.courier));
        gone.iter().for_each(|device| courier.forget(device.head().id));
        tokio::task::spawn_local(async move {
            for device in gone {
                crate::purge(&works, device).await;
            }
            for device in shortened {
                crate::sweep(&works, device).await;
            }
        });
    }
}

/// How a connection has ended, as far as that is said (R8.6).
fn ended(message: &Message) -> Map<String, Value> {
    let said = message.properties().iter().find_map(|property| match property {
        Ok(Property::UserProperty(ENDED, json)) => serde_json::from_str(json).ok(),
        _ => None,
    });
    said.unwrap_or_default()
}

/// Has a channel end a connection, with this code in its log.
pub(crate) fn closing((account, channel, connection): Place, code: u64) -> Message {
    let topic = format!("{ASKED}/{channel}/{connection}");
    let message = Message::new(topic, json!({"close": code}).to_string());
    message.qos(QoS::AtLeastOnce).of_account(account)
}

impl Told {
    fn identity(&self, account: u64) -> Identity {
        Identity { account, protocol: self.protocol_id, ident: self.ident.as_str().into() }
    }
}
