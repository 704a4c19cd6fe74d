//! Streams: what devices say, sent on to other platforms.
//!
//! A stream has a queue that lasts, one batch in flight, and a sink:
//!
//! - [`Queues`] hold messages on the disk until they are acknowledged or too old;
//! - a [`Runner`] takes a batch, applies the [`Rules`] of its stream, hands it to a [`Sink`], and
//!   tries again until it is taken;
//! - [`AnySink`] is the sink of a [`Configuration`], which [`Protocol::configure`] reads;
//! - [`Targets`] say what a stream may connect to.
//! - [`Streams`] is all that as a module of the broker, with REST, links, logs and states.
//!
//! Numbers such as R6.11 are those of the specification of the hub's modules.

mod backoff;
mod configuration;
pub mod failure;
mod mask;
mod message;
mod module;
mod packets;
mod protocol;
mod queue;
mod runner;
mod sink;
mod target;
mod tls;

pub use configuration::{ConfigurationError, Secret};
pub use failure::Failure;
pub use mask::Mask;
pub use message::{Conversion, FIELD_BYTES_MAX, FIELDS_MAX, Message, Notation, Parameters, Rules};
pub use module::{Options, Streams};
pub use protocol::{
    AwsConfiguration, BATCH_MESSAGES, BATCH_MESSAGES_MAX, Configuration, HttpConfiguration,
    MqttConfiguration, Protocol, ThingsboardConfiguration, WialonConfiguration,
};
pub use queue::{
    Appended, Batch, ENTRY_BYTES_MAX, Queue, QueueError, QueueOptions, QueueStatus, Queues,
};
pub use runner::{Report, Runner, RunnerOptions};
pub use sink::{
    AnySink, AwsSink, HttpSink, MqttSink, Outcome, Sink, ThingsboardSink, WialonSink, encode,
};
pub use target::{Target, Targets};
