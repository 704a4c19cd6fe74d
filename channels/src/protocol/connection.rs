//! The bytes of a connection that are no whole packet yet.

use crate::protocol::{Decoder, Error, Step};

/// Bytes that a connection keeps reserved while it holds none: many devices are connected and
/// silent.
const IDLE_BYTES_MAX: usize = 4 << 10;

/// A connection as its decoder sees it: bytes in, steps out.
///
/// It keeps what a packet lacks and no more, so its size is that of the largest packet of the
/// protocol and of one read. Whoever drives it takes all steps before it reads on.
pub struct Connection {
    decoder: Box<dyn Decoder>,
    buffer: Vec<u8>,
    /// Where in the buffer the next packet begins.
    start: usize,
    /// Bytes from there on that hold no whole packet.
    seen: usize,
}

impl Connection {
    /// A connection that has sent nothing yet.
    pub fn new(decoder: Box<dyn Decoder>) -> Self {
        Self { decoder, buffer: vec![], start: 0, seen: 0 }
    }

    /// Takes bytes as they came.
    pub fn receive(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next step, or none until more bytes come.
    ///
    /// Steps that came in one read may be accepted together, and their replies sent as one: what
    /// waits for the disk is then a read and not a packet.
    ///
    /// # Errors
    ///
    /// If what came is nothing that the protocol has: the connection ends, once the steps before
    /// have had their replies. What is asked for after that has no meaning.
    pub fn next_step(&mut self) -> Result<Option<Step>, Error> {
        let input = &self.buffer[self.start..];
        if input.is_empty() {
            self.buffer.clear();
            self.buffer.shrink_to(IDLE_BYTES_MAX);
            self.start = 0;
            return Ok(None);
        }
        let Some(length) = self.decoder.frame(input, self.seen)? else {
            self.seen = input.len();
            return Ok(None);
        };
        assert!((1..=input.len()).contains(&length), "a packet is of bytes that are there");
        let step = self.decoder.packet(&input[..length])?;
        self.start += length;
        self.seen = 0;
        Ok(Some(step))
    }

    /// Bytes that came and are no whole packet yet.
    pub const fn pending(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// The decoder: what is said to the device is asked of it.
    pub fn decoder(&mut self) -> &mut dyn Decoder {
        &mut *self.decoder
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("pending", &self.pending()).finish_non_exhaustive()
    }
}
