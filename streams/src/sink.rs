//! Sinks: a batch of messages goes in, an outcome comes out.
//!
//! A new one is a type with a `send`:
//!
//! ```
//! use longshore_streams::{Message, Outcome, Sink};
//!
//! struct Printer;
//!
//! impl Sink for Printer {
//!     async fn send(&mut self, batch: &[Message]) -> Outcome {
//!         for message in batch {
//!             println!("{}", message.json());
//!         }
//!         Outcome::accepted(batch.len())
//!     }
//! }
//! ```

use std::future::{Future, pending};
use std::sync::Arc;

use crate::ConfigurationError;
use crate::failure::Failure;
use crate::message::Message;
use crate::packets::{Packets, Tape, Transport};
use crate::protocol::Configuration;
use crate::target::Targets;

mod aws;
mod http;
mod mqtt;
mod publisher;
mod session;
mod thingsboard;
mod wialon;

pub use self::aws::AwsSink;
pub use self::http::HttpSink;
pub use self::mqtt::MqttSink;
pub use self::thingsboard::ThingsboardSink;
pub use self::wialon::{WialonSink, encode};

/// Where batches go.
///
/// Whoever drives it sends one batch at a time, bounds the time of each, and drops the future when
/// that is up; [`Sink::close`] comes next. So a connection that is half way through something is
/// never used again.
pub trait Sink: Send {
    /// Sends a batch, and returns when the target has taken it or will not. Connects if there is no
    /// connection.
    fn send(&mut self, batch: &[Message]) -> impl Future<Output = Outcome> + Send;

    /// What there is to do between batches. Returns when the connection has been lost. Dropping the
    /// future loses nothing.
    fn idle(&mut self) -> impl Future<Output = ()> + Send {
        pending()
    }

    /// Whether it has a connection.
    fn is_connected(&self) -> bool {
        false
    }

    /// Lets go of its connection, if it has one.
    fn close(&mut self) {}
}

/// What became of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// Messages from the front of the batch that are not to be sent again.
    pub settled: usize,
    /// How many of those could not be sent at all, and were passed over.
    pub skipped: usize,
    /// Why the others were not taken. There is one unless all are settled.
    pub failure: Option<Failure>,
}

impl Outcome {
    /// A batch of so many messages was taken.
    #[must_use]
    pub fn accepted(messages: usize) -> Self {
        Self { settled: messages, skipped: 0, failure: None }
    }

    /// Nothing of it was taken.
    #[must_use]
    pub fn failed(failure: Failure) -> Self {
        Self { settled: 0, skipped: 0, failure: Some(failure) }
    }

    /// Of a batch in which the messages at the places `skipped`, in order, were passed over. With a
    /// failure, those from place `stopped` on were not taken.
    pub(crate) fn of(
        messages: usize,
        skipped: &[usize],
        failure: Option<(usize, Failure)>,
    ) -> Self {
        let (settled, failure) = match failure {
            Some((stopped, failure)) => (stopped, Some(failure)),
            None => (messages, None),
        };
        Self { settled, skipped: skipped.partition_point(|it| *it < settled), failure }
    }
}

/// The sink of a configuration.
#[derive(Debug)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is named as its protocol is")]
pub enum AnySink {
    Http(HttpSink),
    Mqtt(MqttSink),
    Wialon(WialonSink),
    Aws(AwsSink),
    Thingsboard(ThingsboardSink),
}

impl AnySink {
    /// Makes it. `stream` names the stream towards brokers, always alike (R6.26), and is to be of
    /// this stream alone: a broker lets go of one client when another comes with its name.
    ///
    /// # Errors
    /// PEM that cannot be used, by the name of its field.
    pub fn new(
        configuration: &Configuration,
        targets: &Targets,
        stream: &str,
    ) -> Result<Self, ConfigurationError> {
        Ok(match configuration {
            Configuration::Http(it) => Self::Http(HttpSink::new(it, targets)?),
            Configuration::Mqtt(it) => Self::Mqtt(MqttSink::new(it, targets, stream)?),
            Configuration::WialonRetranslator(it) => Self::Wialon(WialonSink::new(it, targets)?),
            Configuration::AwsIot(it) => Self::Aws(AwsSink::new(it, targets, stream)?),
            Configuration::Thingsboard(it) => {
                Self::Thingsboard(ThingsboardSink::new(it, targets, stream)?)
            }
        })
    }

    /// From now on notes what goes over as packets of this stream.
    pub(crate) fn record(&mut self, packets: &Arc<Packets>, stream: u64) {
        let (tape, dialler, transport) = match self {
            Self::Http(it) => (&mut it.tape, &it.dialler, Transport::Http),
            Self::Wialon(it) => (&mut it.tape, &it.dialler, Transport::Tcp),
            Self::Mqtt(MqttSink { publisher: it, .. })
            | Self::Aws(AwsSink { publisher: it, .. })
            | Self::Thingsboard(ThingsboardSink { publisher: it, .. }) => {
                (&mut it.tape, &it.dialler, Transport::Mqtt)
            }
        };
        *tape = Tape::new(Arc::clone(packets), stream, transport, dialler.target.to_string());
    }
}

impl Sink for AnySink {
    async fn send(&mut self, batch: &[Message]) -> Outcome {
        match self {
            Self::Http(it) => it.send(batch).await,
            Self::Mqtt(it) => it.send(batch).await,
            Self::Wialon(it) => it.send(batch).await,
            Self::Aws(it) => it.send(batch).await,
            Self::Thingsboard(it) => it.send(batch).await,
        }
    }

    async fn idle(&mut self) {
        match self {
            Self::Http(it) => it.idle().await,
            Self::Mqtt(it) => it.idle().await,
            Self::Wialon(it) => it.idle().await,
            Self::Aws(it) => it.idle().await,
            Self::Thingsboard(it) => it.idle().await,
        }
    }

    fn is_connected(&self) -> bool {
        match self {
            Self::Http(it) => it.is_connected(),
            Self::Mqtt(it) => it.is_connected(),
            Self::Wialon(it) => it.is_connected(),
            Self::Aws(it) => it.is_connected(),
            Self::Thingsboard(it) => it.is_connected(),
        }
    }

    fn close(&mut self) {
        match self {
            Self::Http(it) => it.close(),
            Self::Mqtt(it) => it.close(),
            Self::Wialon(it) => it.close(),
            Self::Aws(it) => it.close(),
            Self::Thingsboard(it) => it.close(),
        }
    }
}
