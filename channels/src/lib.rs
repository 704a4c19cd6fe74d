//! Channels of a telematics hub: what trackers and other machines send, as messages.
//!
//! | module | holds |
//! | --- | --- |
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

pub mod message;
pub mod parameter;
pub mod protocol;

pub use message::{Ident, IdentError, Message, Parameters, Reception, Timestamp, TooMany};
