//! One client's byte stream, read and written without waiting.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use crate::output::Output;

/// Slices of one vectored write. The kernel takes up to 1,024; a few cover what a turn leaves.
const SLICES: usize = 64;

/// Input buffers of one thread, shared by all its connections: an idle one needs none.
#[derive(Debug)]
pub(crate) struct Scratch {
    input: RefCell<Box<[u8]>>,
}

/// Bytes read at once. Enough for a batch of small messages; a large one takes several reads.
const INPUT_BYTES: usize = 128 << 10;

impl Default for Scratch {
    fn default() -> Self {
        Self { input: RefCell::new(vec![0; INPUT_BYTES].into_boxed_slice()) }
    }
}

/// A client's byte stream.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Bytes(usize),
    End,
}

impl Transport {
    /// Reads once, and gives the MQTT bytes to `take`.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &Scratch,
        take: impl FnOnce(&[u8]),
    ) -> Poll<io::Result<Received>> {
        match self {
            Self::Tcp(socket) => {
                let mut input = scratch.input.borrow_mut();
                let mut buffer = ReadBuf::new(&mut input);
                // Unlike `try_read`, this knows that a short read emptied the socket.
                ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
                let bytes = buffer.filled();
                if bytes.is_empty() {
                    return Poll::Ready(Ok(Received::End));
                }
                take(bytes);
                Poll::Ready(Ok(Received::Bytes(bytes.len())))
            }
        }
    }

    /// Writes as much of `output` as the socket takes; how much, and whether it took all.
    pub(crate) fn try_write(&mut self, output: &mut Output) -> io::Result<(usize, bool)> {
        match self {
            Self::Tcp(socket) => {
                let mut written = 0;
                while !output.is_empty() {
                    let count = if output.is_plain() {
                        socket.try_write(output.front())
                    } else {
                        let mut slices = [IoSlice::new(&[]); SLICES];
                        let filled = output.slices(&mut slices);
                        socket.try_write_vectored(&slices[..filled])
                    };
                    match count {
                        Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                        Ok(count) => {
                            output.consume(count);
                            written += count;
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            return Ok((written, false));
                        }
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok((written, true))
            }
        }
    }

    /// Ready when the socket may take more, after a write that it did not take whole.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => socket.poll_write_ready(cx),
        }
    }
}
