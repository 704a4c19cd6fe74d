//! Channels of a telematics hub: what trackers and other machines send, as messages.
//!
//! [`Channels`] plugs into a broker: channels are objects that users make by REST, each with a port
//! of its own, and what devices send there is kept and published.
//!
//! | module | holds |
//! | --- | --- |
//! | `channels` | the module as the broker sees it |
//! | `channel`, `live` | a channel as its owner made it; what of it stays while that changes |
//! | `hub` | the way of messages: to the disk, to the broker, and back to the device |
//! | `buffer` | messages on the disk |
//! | `packets` | what was really said, for whoever asks for that |
//! | `serve`, `connections` | sockets, and who is connected |
//! | `orders` | commands for devices |
//! | `ports`, [`Options`] | where channels listen |
//! | `rest` | what of REST it answers |
//! | `deed` | what logs say, as tools are told of it |
//! | [`message`] | ident, time and parameters of a message, and the flat object it becomes |
//! | [`parameter`] | the one table of standard parameters |
//! | [`protocol`] | the seam to protocols, and a file for each |
//!
//! A protocol does no I/O and keeps no clock. Bytes go in; messages come out, each batch with what
//! is to be answered once it is accepted:
//!
//! ```
//! use longshore_channels::protocol::{Connection, Intake, Transport, teltonika};
//!
//! let Intake::Bytes(open) = teltonika::PROTOCOL.configure(&serde_json::json!({}))? else {
//!     unreachable!("it is a protocol of bytes");
//! };
//! let mut connection = Connection::new(open(Transport::Stream));
//! connection.receive(b"\x00\x0f3563");
//! assert_eq!(connection.next_step()?, None);
//! connection.receive(b"07042441013");
//! let step = connection.next_step()?.expect("the device has said who it is");
//! assert_eq!(step.ident.as_ref().map(|ident| ident.as_str()), Some("356307042441013"));
//! assert_eq!((step.reply, step.refusal), (vec![1], vec![0]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod authority;
mod buffer;
mod channel;
mod channels;
mod connections;
mod deed;
mod hub;
mod live;
pub mod message;
mod minute;
mod options;
mod orders;
mod packets;
pub mod parameter;
mod ports;
pub mod protocol;
mod rest;
mod serve;

pub use channels::Channels;
pub use message::{Ident, IdentError, Message, Parameters, Reception, Timestamp, TooMany};
pub use options::Options;
