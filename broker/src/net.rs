//! Sockets: the driver that feeds a shard, listeners, and what lies between a socket and MQTT.
//!
//! ```text
//! listener --> driver                    plain MQTT, on the shard's own thread
//!         \--> acceptor --> driver       everything else, on the thread of handshakes
//!
//! acceptor:  [proxy] --> [tls] --> [http, which becomes WebSocket]
//! transport: socket alone, layered (socket, TLS, WebSocket), or a pipe within the process
//! ```
//!
//! | module | holds |
//! | --- | --- |
//! | `accept` | taking a connection, and what to do when none can be opened |
//! | `acceptor` | handshakes: how many, how long, and the way to the shard |
//! | `counts` | what is counted before the shard counts |
//! | `driver` | one thread, one shard, a task for each connection |
//! | `http`, `metrics` | the upgrade to WebSocket, `/health` and `/metrics`, the way to REST |
//! | `keeper` | what time asks of accounts, and their logs |
//! | `layered`, `websocket` | bytes through TLS and WebSocket, without waiting |
//! | `listen` | URLs of listeners |
//! | `mailbox` | what comes to a shard from the others |
//! | `pipe` | a client's two ends within the process |
//! | `proxy` | the header of the PROXY protocol |
//! | `sys` | the counters as retained messages |
//! | `tls` | certificates |
//! | `transport` | the one type that the driver reads and writes |

mod accept;
pub(crate) mod acceptor;
pub(crate) mod counts;
pub(crate) mod driver;
mod http;
pub(crate) mod keeper;
mod layered;
pub(crate) mod listen;
pub(crate) mod mailbox;
mod metrics;
pub(crate) mod pipe;
mod proxy;
mod request_line;
pub(crate) mod sys;
pub(crate) mod tls;
pub(crate) mod transport;
mod websocket;
