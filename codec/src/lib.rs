//! MQTT 3.1, 3.1.1 and 5.0 packets: bytes in, packets out, and back.
//!
//! The crate does no I/O, keeps no clock, and has no dependencies. Decoding borrows from the input
//! and allocates nothing; encoding appends to a vector the caller owns.
//!
//! | module | holds |
//! | --- | --- |
//! | [`frame`](mod@frame) | where a packet ends, over any split of the input |
//! | [`packet`] | the fifteen control packets, [`decode`] and [`encode`] |
//! | [`property`] | the one table of properties that drives decoding, encoding and validation |
//! | [`reason`] | reason codes, and which packet may carry which |
//! | [`topic`], [`filter`] | the rules for topic names and topic filters |
//! | [`wire`] | integers, strings and variable byte integers |
//! | [`error`] | what was wrong, by blame, and the reason code that says so |
//!
//! One packet type serves all versions: where versions differ, [`Version`] decides. What a version
//! cannot carry (a property in 3.1.1, say) is dropped by [`encode`] and is absent after [`decode`].
//!
//! ```
//! use longshore_codec::{Packet, Version, decode, frame};
//!
//! let input = [0x30, 0x07, 0x00, 0x03, b'a', b'/', b'b', b'h', b'i', 0xc0];
//! let found = frame(&input, 1024)?.expect("a whole fixed header is there");
//! let body = &input[found.header..found.total()];
//! let Packet::Publish(publish) = decode(Version::V3_1_1, found.first, body)? else {
//!     unreachable!("0x30 is a PUBLISH");
//! };
//! assert_eq!(publish.topic, b"a/b");
//! assert_eq!(publish.payload, b"hi");
//! // The next packet has begun, but its fixed header is not whole yet.
//! assert_eq!(frame(&input[found.total()..], 1024)?, None);
//! # Ok::<(), longshore_codec::Error>(())
//! ```

#![forbid(unsafe_code)]

pub mod error;
pub mod filter;
pub mod frame;
pub mod packet;
pub mod property;
pub mod reason;
pub mod topic;
pub mod wire;

pub use error::{Error, Field, Malformed, Offence};
pub use filter::{Filter, FilterError, Sticky};
pub use frame::{Frame, frame};
pub use packet::{
    Ack, Auth, Connack, Connect, Disconnect, Packet, PacketId, PacketType, Publish, QoS,
    RetainHandling, Suback, Subscribe, SubscribeOptions, SubscriptionIter, Subscriptions,
    TopicFilterIter, TopicFilters, Unsuback, Unsubscribe, Version, Will, decode, decode_publish,
    encode, encode_publish,
};
pub use property::{Carrier, Properties, Property, PropertyIter, UserProperties};
pub use reason::ReasonCode;
