//! The sink that publishes to any MQTT broker (R6.22, R6.23).

use bytes::Bytes;

use crate::mask::Mask;
use crate::message::Message;
use crate::packets::Tape;
use crate::protocol::MqttConfiguration;
use crate::sink::publisher::{Plan, Publisher, WINDOW, is_topic};
use crate::sink::session::{Credentials, Publication};
use crate::sink::{Outcome, Sink};
use crate::target::{Target, Targets};
use crate::tls::{Dialler, Tls};
use crate::{ConfigurationError, Secret};

/// Each message as JSON to each topic at QoS 1, in their order. A message for which no topic can be
/// made is skipped (R6.18).
#[derive(Debug)]
pub struct MqttSink {
    pub(super) publisher: Publisher,
    topics: Vec<Mask>,
}

impl MqttSink {
    /// A sink without a connection yet. `stream` is in its client identifier if the configuration
    /// has none.
    ///
    /// # Errors
    /// PEM that cannot be used.
    pub fn new(
        configuration: &MqttConfiguration,
        targets: &Targets,
        stream: &str,
    ) -> Result<Self, ConfigurationError> {
        let (certificate, key) = (&configuration.certificate, &configuration.private_key);
        let tls = Tls::read(configuration.ca.as_deref(), certificate.as_ref(), key.as_ref())?;
        let tls = configuration.ssl.then_some(tls);
        let credentials = configuration.username.as_ref().map(|username| Credentials {
            username: username.clone(),
            password: configuration.password.clone().unwrap_or_else(|| Secret::new(String::new())),
        });
        let client_id = configuration.client_id.clone().unwrap_or_else(|| client_id(stream));
        let publisher = Publisher {
            dialler: dialler(&configuration.uri, targets, tls)?,
            client_id,
            credentials,
            window: WINDOW,
            session: None,
            tape: Tape::default(),
        };
        Ok(Self {
            publisher,
            topics: configuration.topics.iter().map(|it| Mask::new(it)).collect(),
        })
    }

    fn plan(&self, batch: &[Message]) -> Plan {
        let mut plan = Plan::default();
        for (place, message) in batch.iter().enumerate() {
            let before = plan.publications.len();
            let payload = Bytes::from(message.json().into_owned());
            let parameters = message.parameters();
            let topics = self.topics.iter().filter_map(|it| it.fill(&parameters));
            plan.publications.extend(topics.filter(|it| is_topic(it)).map(|topic| Publication {
                place,
                topic,
                payload: payload.clone(),
            }));
            if plan.publications.len() == before {
                plan.skipped.push(place);
            }
        }
        plan
    }
}

/// The client identifier of a stream that has none configured (R6.26).
pub(super) fn client_id(stream: &str) -> String {
    format!("longshore-stream-{stream}")
}

/// Dials the `uri` of a configuration.
pub(super) fn dialler(
    uri: &str,
    targets: &Targets,
    tls: Option<Tls>,
) -> Result<Dialler, ConfigurationError> {
    let target = Target::parse(uri, None)
        .ok_or_else(|| ConfigurationError::new("uri", "is to be a host and a port"))?;
    Ok(Dialler { target, targets: targets.clone(), tls })
}

impl Sink for MqttSink {
    async fn send(&mut self, batch: &[Message]) -> Outcome {
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
