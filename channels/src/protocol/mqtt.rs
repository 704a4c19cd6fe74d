//! `mqtt`: messages as JSON in what is published at a broker, of which the channel is a client
//! (R10.6, R10.7). Here is how it is configured and what a publication says.

use longshore_codec::filter;

use crate::message::Ident;
use crate::protocol::fields::{Field, FieldError, Kind, Values};
use crate::protocol::objects::{IDENT, NAMES, Objects, PATH, SKIP_INVALID};
use crate::protocol::{Error, Intake, Protocol, Step};

/// Filters that a channel subscribes to at most.
const TOPICS_MAX: usize = 32;
/// Bytes of the certificates of authorities.
const CA_BYTES_MAX: usize = 65_536;

/// The row of this protocol. The names of its fields are our own where no stream has them.
/// \[inferred\]
pub static PROTOCOL: Protocol = Protocol {
    id: 2,
    name: "mqtt",
    title: "MQTT",
    description: "Messages as JSON from a broker: this one or another",
    transports: &["mqtt"],
    fields: &[
        Field::new(
            "source",
            Kind::Choice(&["broker", "custom"]),
            "Whether the messages are of this broker, or of another one",
        ),
        Field::required("topics", Kind::Texts(TOPICS_MAX), "Topic filters to subscribe to"),
        Field::new("token", Kind::Text(255), "This broker: token to subscribe with"),
        Field::new("uri", Kind::Text(255), "Another broker: host and port, as host:port"),
        Field::new("ssl", Kind::Flag, "Another broker: whether to connect with TLS"),
        Field::new(
            "ca",
            Kind::Text(CA_BYTES_MAX),
            "Another broker: authority to trust instead of the system's, as PEM",
        ),
        Field::new("client_id", Kind::Text(255), "Another broker: client identifier"),
        Field::new("username", Kind::Text(255), "Another broker: user name"),
        Field::new("password", Kind::Text(255), "Another broker: password"),
        Field::new(
            "ident_level",
            Kind::Count(127),
            "Level of the topic that is the ident, instead of a member: the first one is 0",
        ),
        PATH,
        IDENT,
        NAMES,
        SKIP_INVALID,
    ],
    parameters: super::http::PROTOCOL.parameters,
    commands: &[],
    intake,
};

/// Where a channel subscribes, and what publications there say.
#[derive(Debug)]
pub struct Publications {
    /// The broker.
    pub source: Source,
    /// Filters to subscribe to, all of them legal.
    pub topics: Vec<String>,
    ident_level: Option<usize>,
    objects: Objects,
}

/// The broker that a channel is a client of.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// This one, with a token.
    Own {
        /// Key of the token.
        token: String,
    },
    /// Another one.
    Custom {
        /// `host:port`.
        uri: String,
        /// Whether to connect with TLS.
        ssl: bool,
        /// Certificates of the authorities to trust, as PEM; those of the system if it is missing.
        ca: Option<String>,
        /// Client identifier; the channel takes one of its own if it is missing.
        client_id: Option<String>,
        /// User name.
        username: Option<String>,
        /// Password.
        password: Option<String>,
    },
}

fn intake(values: &Values) -> Result<Intake, FieldError> {
    let text = |name: &str| values.text(name).map(str::to_owned);
    let needed = |name: &str| text(name).ok_or_else(|| FieldError::new(name, "is missing"));
    let source = if values.text("source") == Some("custom") {
        let uri = needed("uri")?;
        if !is_host_and_port(&uri) {
            return Err(FieldError::new("uri", "has to be a host and a port, as host:port"));
        }
        Source::Custom {
            uri,
            ssl: values.flag("ssl"),
            ca: text("ca"),
            client_id: text("client_id"),
            username: text("username"),
            password: text("password"),
        }
    } else {
        Source::Own { token: needed("token")? }
    };
    let topic = |text: &str| {
        filter::parse(text)
            .map(|_| text.to_owned())
            .map_err(|error| FieldError::new("topics", format!("has `{text}`: {error}")))
    };
    Ok(Intake::Publications(Box::new(Publications {
        source,
        topics: values.texts("topics").map(topic).collect::<Result<_, _>>()?,
        ident_level: values.count("ident_level").map(|level| level as usize),
        objects: Objects::configure(values)?,
    })))
}

fn is_host_and_port(uri: &str) -> bool {
    uri.rsplit_once(':').is_some_and(|(host, port)| {
        !host.is_empty() && !host.contains('/') && port.parse().is_ok_and(|port: u16| port > 0)
    })
}

impl Publications {
    /// What a publication says. Its step has no reply: it is acknowledged once its messages are
    /// accepted.
    ///
    /// # Errors
    ///
    /// If it holds no messages, or the topic no ident.
    pub fn publication(&self, topic: &str, payload: &[u8]) -> Result<Step, Error> {
        let ident = match self.ident_level {
            None => None,
            Some(level) => {
                let text = topic.split('/').nth(level);
                let missing = || Error::parse(format!("the topic has no level {level}"));
                Some(Ident::new(text.ok_or_else(missing)?)?)
            }
        };
        self.objects.read(payload, ident.as_ref())
    }
}
