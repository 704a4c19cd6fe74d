//! `wialon_retranslator`: binary packets that one platform sends another, of many devices over one
//! connection (R13). Beside the receiving side is the encoder that streams send with.

mod meaning;
mod packet;

pub use meaning::encode_message;
use meaning::{PARAMETERS, message};
pub use packet::{Block, BlockValue, Packet};

use crate::protocol::{Decoder, Error, Intake, Protocol, Step};

/// The row of this protocol.
pub static PROTOCOL: Protocol = Protocol {
    id: 5,
    name: "wialon_retranslator",
    title: "Wialon Retranslator",
    description: "Messages of many devices, as Wialon and other platforms send them on",
    transports: &["tcp"],
    fields: &[],
    parameters: PARAMETERS,
    commands: &[],
    intake: |_| Ok(Intake::Bytes(Box::new(|_| Box::new(Retranslator)))),
};

/// What acknowledges a packet (R13.7).
pub const ACKNOWLEDGEMENT: u8 = 0x11;

/// Bytes of a packet at most, behind its size. Pictures are the largest there are.
pub const PACKET_BYTES_MAX: usize = 1 << 20;

/// A terminated ident, time and flags.
const PACKET_BYTES_MIN: usize = 2 + 4 + 4;

struct Retranslator;

impl Decoder for Retranslator {
    fn frame(&self, input: &[u8], _seen: usize) -> Result<Option<usize>, Error> {
        let Some(head) = input.first_chunk() else { return Ok(None) };
        let size = u32::from_le_bytes(*head) as usize;
        if !(PACKET_BYTES_MIN..=PACKET_BYTES_MAX).contains(&size) {
            let text = format!(
                "a packet has {PACKET_BYTES_MIN} to {PACKET_BYTES_MAX} bytes, and not {size}"
            );
            return Err(Error::violation(text));
        }
        let length = head.len() + size;
        Ok((input.len() >= length).then_some(length))
    }

    /// The connection is of a platform and of no device, so it has no ident. There is no checksum:
    /// a packet that cannot be read would come again for ever, so it ends the connection.
    fn packet(&mut self, packet: &[u8]) -> Result<Step, Error> {
        let body = packet.get(4..).unwrap_or_default();
        Ok(Step::telling(vec![message(&Packet::decode(body)?)?], [ACKNOWLEDGEMENT]))
    }
}
