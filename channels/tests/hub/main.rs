//! Channels in a broker that runs: devices over real sockets, and what comes of them by REST and
//! MQTT. Numbers are those of the specification of the modules.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod devices;
mod life;
mod orders;
mod packets;
mod protocols;
mod pull;
mod rig;
mod rights;
