//! Sockets: the driver that feeds a shard, listeners, and what lies between a socket and MQTT.

pub(crate) mod driver;
pub(crate) mod listen;
pub(crate) mod tls;
pub(crate) mod transport;
