//! The sink that publishes to AWS IoT, and updates the shadows of things (R6.25 to R6.27).

use std::collections::HashMap;

use bytes::Bytes;

use crate::ConfigurationError;
use crate::mask::Mask;
use crate::message::{Message, Parameters};
use crate::packets::Tape;
use crate::protocol::AwsConfiguration;
use crate::sink::mqtt::client_id;
use crate::sink::publisher::{Plan, Publisher, is_topic};
use crate::sink::session::Publication;
use crate::sink::{Outcome, Sink};
use crate::target::{Target, Targets};
use crate::tls::{Dialler, Tls};

/// Where MQTT with client certificates is spoken, and the protocol to ask for where HTTPS is too.
const PORT: u16 = 8883;
const HTTPS_PORT: u16 = 443;
const HTTPS_PROTOCOL: &[u8] = b"x-amzn-mqtt-ca";

/// Requests in flight on a connection (R6.27).
const WINDOW: usize = 10;

/// Bytes of a publication (AWS IoT Core quotas), and of the state of a shadow (R6.27).
const PAYLOAD_MAX: usize = 128 << 10;
const STATE_MAX: usize = 8 << 10;

/// Bytes of the name of a thing.
const THING_MAX: usize = 128;

/// Things whose last time is remembered. When there are more it is begun anew.
const THINGS_MAX: usize = 100_000;

/// MQTT 3.1.1 with a client certificate, at QoS 1.
///
/// What AWS would close the connection for is not sent: a payload or state that is too large, the
/// name of a thing or topic that none can have. A message of which nothing is left is skipped. So
/// is one for a shadow alone that is older than what this sink has reported there.
#[derive(Debug)]
pub struct AwsSink {
    pub(super) publisher: Publisher,
    thing: Option<Mask>,
    topic: Option<Mask>,
    /// Time of what each thing's shadow has.
    reported: HashMap<String, f64>,
}

impl AwsSink {
    /// A sink without a connection yet.
    ///
    /// # Errors
    /// PEM that cannot be used.
    pub fn new(
        configuration: &AwsConfiguration,
        targets: &Targets,
        stream: &str,
    ) -> Result<Self, ConfigurationError> {
        let (certificate, key) = (&configuration.certificate, &configuration.private_key);
        let mut tls = Tls::read(configuration.ca.as_deref(), Some(certificate), Some(key))?;
        let target = Target::parse(&configuration.endpoint, Some(PORT))
            .ok_or_else(|| ConfigurationError::new("endpoint", "is to be a host"))?;
        if target.port == HTTPS_PORT {
            tls = tls.with_protocol(HTTPS_PROTOCOL);
        }
        let publisher = Publisher {
            dialler: Dialler { target, targets: targets.clone(), tls: Some(tls) },
            client_id: client_id(stream),
            credentials: None,
            window: WINDOW,
            session: None,
            tape: Tape::default(),
        };
        let mask = |it: &Option<String>| it.as_deref().map(Mask::new);
        let (thing, topic) = (mask(&configuration.thing_name), mask(&configuration.mqtt_topic));
        Ok(Self { publisher, thing, topic, reported: HashMap::new() })
    }

    /// Also gives the times that shadows will have.
    fn plan(&self, batch: &[Message]) -> (Plan, HashMap<String, f64>) {
        let (mut plan, mut reported) = (Plan::default(), HashMap::new());
        for (place, message) in batch.iter().enumerate() {
            let before = plan.publications.len();
            let body = Bytes::from(message.json().into_owned());
            let parameters = message.parameters();
            if let Some((thing, time)) = self.thing(&parameters, &body, &reported) {
                let topic = format!("$aws/things/{thing}/shadow/update");
                let payload = [br#"{"state":{"reported":"#, &body[..], b"}}"].concat().into();
                plan.publications.push(Publication { place, topic, payload });
                reported.insert(thing, time);
            }
            let topic = self.topic.as_ref().and_then(|it| it.fill(&parameters));
            if let Some(topic) = topic.filter(|it| is_topic(it) && body.len() <= PAYLOAD_MAX) {
                plan.publications.push(Publication { place, topic, payload: body });
            }
            if plan.publications.len() == before {
                plan.skipped.push(place);
            }
        }
        (plan, reported)
    }

    /// The thing whose shadow gets this message, and its time.
    fn thing(
        &self,
        message: &Parameters<'_>,
        body: &[u8],
        reported: &HashMap<String, f64>,
    ) -> Option<(String, f64)> {
        let thing = self.thing.as_ref()?.fill(message)?;
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '_' | '-');
        let is_thing = !thing.is_empty() && thing.len() <= THING_MAX && thing.chars().all(is_part);
        let time = message.timestamp()?;
        let last = reported.get(&thing).or_else(|| self.reported.get(&thing));
        let is_new = last.is_none_or(|it| *it <= time);
        (is_thing && is_new && body.len() <= STATE_MAX).then_some((thing, time))
    }
}

impl Sink for AwsSink {
    async fn send(&mut self, batch: &[Message]) -> Outcome {
        let (plan, reported) = self.plan(batch);
        let outcome = self.publisher.send(batch.len(), &plan).await;
        if outcome.failure.is_none() {
            if self.reported.len() + reported.len() > THINGS_MAX {
                self.reported.clear();
            }
            self.reported.extend(reported);
        }
        outcome
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
