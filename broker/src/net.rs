//! Sockets: the driver that feeds a shard, listeners, and what lies between a socket and MQTT.

mod accept;
pub(crate) mod acceptor;
pub(crate) mod counts;
pub(crate) mod driver;
mod http;
mod layered;
pub(crate) mod listen;
mod metrics;
pub(crate) mod pipe;
mod proxy;
pub(crate) mod tls;
pub(crate) mod transport;
mod websocket;
