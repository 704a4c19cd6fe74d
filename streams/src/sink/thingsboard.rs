//! The sink that is a gateway of ThingsBoard (R6.28 to R6.30).

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::failure::Failure;
use crate::mask::Mask;
use crate::message::Message;
use crate::packets::Tape;
use crate::protocol::ThingsboardConfiguration;
use crate::sink::mqtt::{client_id, dialler};
use crate::sink::publisher::{Plan, Publisher, WINDOW};
use crate::sink::session::{Credentials, Publication};
use crate::sink::{Outcome, Sink};
use crate::target::Targets;
use crate::tls::Tls;
use crate::{ConfigurationError, Secret};

/// Bytes of a publication that ThingsBoard takes by default (`NETTY_MAX_PAYLOAD_SIZE`, 65,536),
/// less what stands around the payload.
const PAYLOAD_MAX: usize = 60_000;

/// Devices that are remembered to be connected. When there are more it is begun anew: to connect
/// one twice changes nothing.
const DEVICES_MAX: usize = 100_000;

const CONNECT: &str = "v1/gateway/connect";
const TELEMETRY: &str = "v1/gateway/telemetry";

/// Telemetry of many devices at once, at QoS 1.
///
/// A device is named by the mask, or by `ident` where the message lacks what the mask asks for. A
/// message without time or name, or of more than 60,000 bytes, is skipped.
#[derive(Debug)]
pub struct ThingsboardSink {
    pub(super) publisher: Publisher,
    device: Mask,
    /// Devices that this session has connected.
    connected: HashSet<String>,
}

/// A publication of telemetry that is being put together.
#[derive(Default)]
struct Telemetry {
    place: usize,
    length: usize,
    devices: BTreeMap<String, Vec<Box<RawValue>>>,
}

/// What a device has measured when.
#[derive(Serialize)]
struct Entry<'a> {
    ts: i64,
    values: BTreeMap<Cow<'a, str>, Cow<'a, RawValue>>,
}

impl ThingsboardSink {
    /// A sink without a connection yet.
    ///
    /// # Errors
    /// `ca` cannot be used.
    pub fn new(
        configuration: &ThingsboardConfiguration,
        targets: &Targets,
        stream: &str,
    ) -> Result<Self, ConfigurationError> {
        let tls = Tls::read(configuration.ca.as_deref(), None, None)?;
        let publisher = Publisher {
            dialler: dialler(&configuration.uri, targets, configuration.ssl.then_some(tls))?,
            client_id: client_id(stream),
            credentials: Some(Credentials {
                username: configuration.access_token.reveal().to_owned(),
                password: Secret::new(String::new()),
            }),
            window: WINDOW,
            session: None,
            tape: Tape::default(),
        };
        let device = Mask::new(&configuration.device_name);
        Ok(Self { publisher, device, connected: HashSet::new() })
    }

    fn plan(&mut self, batch: &[Message]) -> Plan {
        let mut plan = Plan::default();
        let mut telemetry = Telemetry::default();
        for (place, message) in batch.iter().enumerate() {
            let Some((device, entry)) = self.entry(message) else {
                plan.skipped.push(place);
                continue;
            };
            // A name is written with escapes, a comma and brackets at most six times as long.
            let length = entry.get().len() + 6 * device.len() + 8;
            if telemetry.length + length > PAYLOAD_MAX {
                telemetry.publish(&mut plan);
            }
            if telemetry.devices.is_empty() {
                telemetry = Telemetry { place, ..Telemetry::default() };
            }
            telemetry.length += length;
            // A device is to be connected before what is sent of it.
            self.connect(&device, telemetry.place, &mut plan);
            telemetry.devices.entry(device).or_default().push(entry);
        }
        telemetry.publish(&mut plan);
        plan
    }

    /// The name of a device, and what it has measured when.
    fn entry(&self, message: &Message) -> Option<(String, Box<RawValue>)> {
        let message = message.parameters();
        let named = self.device.fill(&message).filter(|it| !it.is_empty());
        let device = named.or_else(|| message.ident().map(Cow::into_owned))?;
        let kept = message.kept().filter(|(name, _)| *name != "timestamp");
        let values = kept.map(|(name, json)| (message.key(name), measure(json))).collect();
        // Milliseconds, of a time that is no millions of years away.
        let ts = Some(message.timestamp()? * 1_000.0).filter(|it| it.abs() < 1e15)?.round() as i64;
        let entry = to_raw_value(&Entry { ts, values }).ok()?;
        (entry.get().len() + 6 * device.len() + 8 <= PAYLOAD_MAX).then_some((device, entry))
    }

    fn connect(&mut self, device: &str, place: usize, plan: &mut Plan) {
        if self.connected.contains(device) {
            return;
        }
        if self.connected.len() >= DEVICES_MAX {
            self.connected.clear();
        }
        self.connected.insert(device.to_owned());
        let payload = json!({"device": device}).to_string().into();
        plan.publications.push(Publication { place, topic: CONNECT.to_owned(), payload });
    }

    async fn open(&mut self) -> Result<(), Failure> {
        if self.publisher.open().await? {
            self.connected.clear();
        }
        Ok(())
    }
}

impl Telemetry {
    /// Publishes what there is of it, and begins anew.
    fn publish(&mut self, plan: &mut Plan) {
        let telemetry = std::mem::take(self);
        if telemetry.devices.is_empty() {
            return;
        }
        let payload = serde_json::to_vec(&telemetry.devices).unwrap_or_default().into();
        let place = telemetry.place;
        plan.publications.push(Publication { place, topic: TELEMETRY.to_owned(), payload });
    }
}

/// A value as ThingsBoard takes it: an object or array is the text of it (R6.30).
fn measure(json: &RawValue) -> Cow<'_, RawValue> {
    match json.get().starts_with(['[', '{']) {
        true => to_raw_value(json.get()).map_or(Cow::Borrowed(json), Cow::Owned),
        false => Cow::Borrowed(json),
    }
}

impl Sink for ThingsboardSink {
    async fn send(&mut self, batch: &[Message]) -> Outcome {
        if let Err(failure) = self.open().await {
            return Outcome::failed(failure);
        }
        let plan = self.plan(batch);
        self.publisher.send(batch.len(), &plan).await
    }

    async fn idle(&mut self) {
        self.publisher.idle().await;
    }

    fn is_connected(&self) -> bool {
        self.publisher.session.is_some()
    }

    fn close(&mut self) {
        self.publisher.session = None;
    }
}
