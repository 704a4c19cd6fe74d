//! Every way to the broker over real sockets: MQTT plain, in TLS, in WebSocket, in both; HTTP
//! beside it; the PROXY protocol before it.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

mod certificates;
mod client;
mod http;
mod patience;
mod proxy;
mod schemes;
mod tls;
mod websocket;
