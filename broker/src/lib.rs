//! The core of the Longshore MQTT broker.
//!
//! | module | holds |
//! | --- | --- |
//! | [`broker`] | the broker to start and stop |
//! | [`shard`] | the broker as a machine without I/O: bytes and time in, bytes out |
//! | [`link`] | the client inside this process |
//! | [`module`] | what plugs into a broker |
//! | [`journal`], [`recovery`] | what a shard writes down, and how it comes back |
//! | [`limits`] | every bound, with unit and default |
//! | [`dialect`] | where the broker does more than the standard asks for |
//! | [`clock`] | the two clocks a shard is told |
//! | [`accounts`], [`rest`] | accounts and tokens at work; the REST API over them |
//! | [`stats`], [`totals`] | what a shard counts, and all of them |

#![forbid(unsafe_code)]

pub mod accounts;
pub mod broker;
mod cache;
mod called;
pub mod clock;
mod commons;
mod condition;
pub mod connection;
pub mod dialect;
mod form;
mod gate;
mod inboxes;
mod index;
pub mod journal;
pub mod limits;
pub mod link;
mod mail;
mod message;
pub mod module;
mod net;
mod notices;
mod output;
mod parties;
mod questions;
mod record;
pub mod recovery;
pub mod rest;
mod retained;
mod session;
pub mod shard;
mod share;
mod slots;
mod stamp;
pub mod stats;
mod store;
mod tally;
mod timers;
pub mod totals;

/// What an acknowledgement promises.
pub use longshore_storage::Level as Durability;

pub use broker::{Broker, Builder, Failed, StartError};
pub use connection::{ConnectionId, Peer};
pub use dialect::{Dialect, WildcardDelete};
pub use limits::{Limits, QueueOverflow};
pub use link::{Batch, Inbox, Link, LinkError, Message, Outcome, Subscription};
pub use mail::{Mail, Moved};
pub use module::{Context, Module, ModuleError};
pub use net::listen::{InvalidListen, Listen, Network, Scheme};
pub use net::tls::{InvalidTls, Tls};
pub use output::Output;
pub use shard::Shard;
pub use store::{Storage, StoreError};

/// What the fuzz target `session_ops` runs.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn session_ops(data: &[u8]) {
    session::model::run(data);
}

/// What the fuzz target `replay` runs.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn replay(data: &[u8]) {
    recovery::anything::run(data);
}
