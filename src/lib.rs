//! Longshore, an MQTT 3.1, 3.1.1 and 5.0 broker, as a library.
//!
//! This crate is the front door; the work is done in `longshore-broker`, whose public items are
//! all here.

pub use longshore_acl as acl;
pub use longshore_broker::*;
#[cfg(feature = "channels")]
pub use longshore_channels as channels;
pub use longshore_codec as codec;
#[cfg(feature = "registry")]
pub use longshore_registry as registry;
#[cfg(feature = "streams")]
pub use longshore_streams as streams;
