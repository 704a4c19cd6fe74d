//! The tests, and the rig they stand on.

// The rig.
mod doorkeeper;
pub(crate) mod packets;
mod received;
pub(crate) mod rig;
mod watch;
pub(crate) mod wire;

// From CONNECT to DISCONNECT.
mod connect;
mod disconnect;
mod keep_alive;
mod session;
mod will;

// Messages.
mod alias;
mod flow;
mod properties;
mod publish;
mod qos;
mod retained;
mod switches;
mod wildcard_delete;

// Subscriptions.
mod selectors;
mod shared;
mod sticky;
mod subscribe;
mod unsubscribe;

// What is old, wrong or too much.
mod limits;
mod malformed;
mod malformed_connect;
mod v3;
