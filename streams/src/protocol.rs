//! The protocols of streams, their numbers, and the configuration of each.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::configuration::{Field, Kind, check, schema};
use crate::{ConfigurationError, Secret};

/// Messages of a batch by default, and at most: `limit_messages` (R6.10).
pub const BATCH_MESSAGES: u64 = 1_000;
/// See [`BATCH_MESSAGES`].
pub const BATCH_MESSAGES_MAX: u64 = 10_000;

const PEM_MAX: usize = 16_384;
const MASK_MAX: usize = 255;

const LIMIT: Field =
    Field::new("limit_messages", "Messages of a batch", Kind::Number(1, BATCH_MESSAGES_MAX));
const CA: Field = Field::new("ca", "Authority to trust instead of the system's", Kind::Pem(65_536));
const CERTIFICATE: Field =
    Field::new("certificate", "Certificate to show", Kind::Pem(PEM_MAX)).secret();
const PRIVATE_KEY: Field =
    Field::new("private_key", "Key of the certificate", Kind::Pem(PEM_MAX)).secret();
const SSL: Field = Field::new("ssl", "TLS", Kind::Boolean);

/// R6.19. What a header says is often a key, so it is kept as one.
const HTTP: &[Field] = &[
    Field::new("uri", "Where messages are posted", Kind::Http).required(),
    Field::new("headers", "Headers of the request", Kind::Headers(10)).secret(),
    Field::new("ident", "Mask of ident", Kind::Text(MASK_MAX)),
    CA,
    LIMIT,
];

/// R6.22.
const MQTT: &[Field] = &[
    Field::new("uri", "Broker", Kind::HostPort).required(),
    SSL,
    Field::new("client_id", "Client identifier", Kind::Text(255)),
    Field::new("username", "User name", Kind::Text(255)),
    Field::new("password", "Password", Kind::Text(1_024)).secret(),
    Field::new("topics", "Masks of topics", Kind::Texts(10, MASK_MAX)).required(),
    CERTIFICATE,
    PRIVATE_KEY,
    CA,
    LIMIT,
];

/// R6.24.
const RETRANSLATOR: &[Field] = &[
    Field::new("uri", "Server", Kind::HostPort).required(),
    Field::new("ident", "Mask of the unit's identifier", Kind::Text(MASK_MAX)),
    LIMIT,
];

/// R6.25.
const AWS_IOT: &[Field] = &[
    Field::new("endpoint", "Endpoint of the account", Kind::Host).required(),
    Field::new("certificate", "Certificate to show", Kind::Pem(PEM_MAX)).secret().required(),
    Field::new("private_key", "Key of the certificate", Kind::Pem(PEM_MAX)).secret().required(),
    Field::new("thing_name", "Mask of things whose shadow is updated", Kind::Text(MASK_MAX)),
    Field::new("mqtt_topic", "Mask of the topic", Kind::Text(MASK_MAX)),
    CA,
    LIMIT,
];

/// R6.28.
const THINGSBOARD: &[Field] = &[
    Field::new("uri", "Server", Kind::HostPort),
    Field::new("access_token", "Access token of the gateway", Kind::Text(255)).secret().required(),
    Field::new("device_name", "Mask of names of devices", Kind::Text(MASK_MAX)),
    SSL,
    CA,
    LIMIT,
];

/// How a stream speaks to its platform.
///
/// The numbers are ours, for the original's are not public (R6.2), and never change: 1 `http`,
/// 2 `mqtt`, 3 `wialon_retranslator`, 4 `aws_iot`, 5 `thingsboard`. 6 is kept for `channel`, which
/// goes to a channel of the same hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// Posts a JSON array.
    Http,
    /// Publishes to a broker.
    Mqtt,
    /// Sends packets as Wialon Retranslator does.
    WialonRetranslator,
    /// Publishes to AWS IoT, and updates shadows of things.
    AwsIot,
    /// Publishes to ThingsBoard as a gateway.
    Thingsboard,
}

impl Protocol {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Http, Self::Mqtt, Self::WialonRetranslator, Self::AwsIot, Self::Thingsboard];

    /// Its number: `protocol_id`.
    #[must_use]
    pub fn id(self) -> u64 {
        match self {
            Self::Http => 1,
            Self::Mqtt => 2,
            Self::WialonRetranslator => 3,
            Self::AwsIot => 4,
            Self::Thingsboard => 5,
        }
    }

    /// Its name: `configuration.protocol` of 2018.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Mqtt => "mqtt",
            Self::WialonRetranslator => "wialon_retranslator",
            Self::AwsIot => "aws_iot",
            Self::Thingsboard => "thingsboard",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Mqtt => "MQTT",
            Self::WialonRetranslator => "Wialon Retranslator",
            Self::AwsIot => "AWS IoT",
            Self::Thingsboard => "ThingsBoard",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Http => "Posts messages as a JSON array; status 200 acknowledges.",
            Self::Mqtt => "Publishes each message as JSON to topics of any broker, at QoS 1.",
            Self::WialonRetranslator => {
                "Sends each message as a packet of Wialon Retranslator 1.0."
            }
            Self::AwsIot => {
                "Publishes to AWS IoT with a certificate, and updates shadows of things."
            }
            Self::Thingsboard => "Publishes telemetry of devices to ThingsBoard as a gateway.",
        }
    }

    fn fields(self) -> &'static [Field] {
        match self {
            Self::Http => HTTP,
            Self::Mqtt => MQTT,
            Self::WialonRetranslator => RETRANSLATOR,
            Self::AwsIot => AWS_IOT,
            Self::Thingsboard => THINGSBOARD,
        }
    }

    /// The protocol of a stream: by number, or by `protocol` in its configuration (R6.2).
    ///
    /// # Errors
    /// Neither is there, or it is not known.
    pub fn of(
        protocol_id: Option<u64>,
        configuration: &Map<String, Value>,
    ) -> Result<Self, ConfigurationError> {
        let names = Self::ALL.map(|it| format!("{} ({})", it.id(), it.name())).join(", ");
        let error =
            |field: &str| Err(ConfigurationError::new(field, format!("is to be one of {names}")));
        if let Some(id) = protocol_id {
            let found = Self::ALL.into_iter().find(|it| it.id() == id);
            return found.map_or_else(|| error("protocol_id"), Ok);
        }
        match configuration.get("protocol") {
            Some(name) => Self::ALL
                .into_iter()
                .find(|it| name == it.name())
                .map_or_else(|| error("configuration.protocol"), Ok),
            None => error("protocol_id"),
        }
    }

    /// Its row in `GET /gw/stream-protocols`: number, name, title, description, and the JSON
    /// schema of the configuration.
    #[must_use]
    pub fn describe(self) -> Value {
        json!({
            "id": self.id(), "name": self.name(), "title": self.title(),
            "description": self.description(), "configuration": schema(self.fields()),
        })
    }

    /// Takes the secrets out of a configuration, and gives them. What is left may be shown; the
    /// secrets are to be kept sealed. Both together are the configuration again.
    #[must_use]
    pub fn take_secrets(self, configuration: &mut Map<String, Value>) -> Map<String, Value> {
        let secrets = self.fields().iter().filter(|it| it.is_secret);
        secrets.filter_map(|it| configuration.remove_entry(it.name)).collect()
    }

    /// Reads a configuration. Fields that are `null` are as if they were not there.
    ///
    /// # Errors
    /// A field that is missing, not known or out of its bounds, by name.
    pub fn configure(
        self,
        configuration: &Map<String, Value>,
    ) -> Result<Configuration, ConfigurationError> {
        check(self.fields(), configuration)?;
        let there = configuration.iter().filter(|(_, value)| !value.is_null());
        let object = there.map(|(name, value)| (name.clone(), value.clone())).collect();
        let read = match self {
            Self::Http => read(object).map(Configuration::Http),
            Self::Mqtt => read(object).map(Configuration::Mqtt),
            Self::WialonRetranslator => read(object).map(Configuration::WialonRetranslator),
            Self::AwsIot => read(object).map(Configuration::AwsIot),
            Self::Thingsboard => read(object).map(Configuration::Thingsboard),
        }?;
        read.check()?;
        Ok(read)
    }
}

fn read<T: for<'a> Deserialize<'a>>(object: Map<String, Value>) -> Result<T, ConfigurationError> {
    // The table has the same fields, so this is a fault of ours; serde may quote a secret.
    serde_json::from_value(Value::Object(object))
        .map_err(|_| ConfigurationError::new("configuration", "cannot be read"))
}

/// The configuration of a stream, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Configuration {
    /// See [`Protocol::Http`].
    Http(HttpConfiguration),
    /// See [`Protocol::Mqtt`].
    Mqtt(MqttConfiguration),
    /// See [`Protocol::WialonRetranslator`].
    WialonRetranslator(WialonConfiguration),
    /// See [`Protocol::AwsIot`].
    AwsIot(AwsConfiguration),
    /// See [`Protocol::Thingsboard`].
    Thingsboard(ThingsboardConfiguration),
}

impl Configuration {
    /// What no field says alone.
    fn check(&self) -> Result<(), ConfigurationError> {
        match self {
            Self::Mqtt(it) if it.password.is_some() && it.username.is_none() => {
                Err(ConfigurationError::new("username", "is missing: `password` is there"))
            }
            Self::Mqtt(it) if !it.ssl && it.certificate.is_some() => {
                Err(ConfigurationError::new("ssl", "is to be true: `certificate` is there"))
            }
            Self::AwsIot(it) if it.thing_name.is_none() && it.mqtt_topic.is_none() => {
                let text = "is missing; give it, or `thing_name`, or both";
                Err(ConfigurationError::new("mqtt_topic", text))
            }
            _ => Ok(()),
        }
    }

    /// Messages of a batch, 1 to [`BATCH_MESSAGES_MAX`].
    #[must_use]
    pub fn batch_messages(&self) -> usize {
        let limit = match self {
            Self::Http(it) => it.limit_messages,
            Self::Mqtt(it) => it.limit_messages,
            Self::WialonRetranslator(it) => it.limit_messages,
            Self::AwsIot(it) => it.limit_messages,
            Self::Thingsboard(it) => it.limit_messages,
        };
        usize::try_from(limit).unwrap_or(usize::MAX)
    }
}

fn batch_messages() -> u64 {
    BATCH_MESSAGES
}

fn ident() -> String {
    "%ident%".to_owned()
}

/// Of [`Protocol::Http`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[non_exhaustive]
pub struct HttpConfiguration {
    pub(crate) uri: String,
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, Secret>,
    #[serde(default = "ident")]
    pub(crate) ident: String,
    pub(crate) ca: Option<String>,
    #[serde(default = "batch_messages")]
    pub(crate) limit_messages: u64,
}

/// Of [`Protocol::Mqtt`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[non_exhaustive]
pub struct MqttConfiguration {
    pub(crate) uri: String,
    #[serde(default)]
    pub(crate) ssl: bool,
    pub(crate) client_id: Option<String>,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) topics: Vec<String>,
    pub(crate) certificate: Option<Secret>,
    pub(crate) private_key: Option<Secret>,
    pub(crate) ca: Option<String>,
    #[serde(default = "batch_messages")]
    pub(crate) limit_messages: u64,
}

/// Of [`Protocol::WialonRetranslator`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[non_exhaustive]
pub struct WialonConfiguration {
    pub(crate) uri: String,
    #[serde(default = "ident")]
    pub(crate) ident: String,
    #[serde(default = "batch_messages")]
    pub(crate) limit_messages: u64,
}

/// Of [`Protocol::AwsIot`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[non_exhaustive]
pub struct AwsConfiguration {
    pub(crate) endpoint: String,
    pub(crate) certificate: Secret,
    pub(crate) private_key: Secret,
    pub(crate) thing_name: Option<String>,
    pub(crate) mqtt_topic: Option<String>,
    pub(crate) ca: Option<String>,
    #[serde(default = "batch_messages")]
    pub(crate) limit_messages: u64,
}

/// Of [`Protocol::Thingsboard`].
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[non_exhaustive]
pub struct ThingsboardConfiguration {
    #[serde(default = "demo")]
    pub(crate) uri: String,
    pub(crate) access_token: Secret,
    #[serde(default = "device_name")]
    pub(crate) device_name: String,
    #[serde(default)]
    pub(crate) ssl: bool,
    pub(crate) ca: Option<String>,
    #[serde(default = "batch_messages")]
    pub(crate) limit_messages: u64,
}

fn demo() -> String {
    "demo.thingsboard.io:1883".to_owned()
}

fn device_name() -> String {
    "%device.name%".to_owned()
}

#[cfg(test)]
mod tests;
