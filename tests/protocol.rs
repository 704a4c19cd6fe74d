//! The protocol, statement by statement: the shard in virtual time, driven by bytes.
//!
//! A test is named by the fact it asserts, and its doc comment carries the ids of the statements it
//! proves: `[MQTT-3.1.0-1]` of MQTT 5.0, `[MQTT-3.1.0-1 v3.1.1]` of MQTT 3.1.1 (`tests/spec`).
//! Rules that hold for every packet are kept in `watch`, which looks on in all of them.

mod protocol {
    // The rig.
    mod doorkeeper;
    mod packets;
    mod received;
    mod rig;
    mod watch;
    mod wire;

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

    // Subscriptions.
    mod shared;
    mod subscribe;
    mod unsubscribe;

    // What is old, wrong or too much.
    mod limits;
    mod malformed;
    mod malformed_connect;
    mod v3;
}
