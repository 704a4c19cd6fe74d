//! One client's byte stream, read and written without waiting.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::net::TcpStream as StdTcpStream;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustls::ServerConnection;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use super::layered::Layered;
use super::pipe::Pipe;
use super::websocket::WebSocket;
use crate::output::Output;

/// Slices of one vectored write. The kernel takes up to 1,024; a few cover what a turn leaves.
pub(super) const SLICES: usize = 64;

/// Input buffers of one thread, shared by all its connections: an idle one needs none.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(super) input: RefCell<Box<[u8]>>,
    /// Bytes that a layer has decrypted and the next one changes in place.
    pub(super) plain: RefCell<Vec<u8>>,
}

/// Bytes read at once. Enough for a batch of small messages; a large one takes several reads.
const INPUT_BYTES: usize = 128 << 10;

impl Default for Scratch {
    fn default() -> Self {
        Self {
            input: RefCell::new(vec![0; INPUT_BYTES].into_boxed_slice()),
            plain: RefCell::default(),
        }
    }
}

/// A client's byte stream.
#[derive(Debug)]
pub(crate) enum Transport {
    Tcp(TcpStream),
    /// TLS, WebSocket or both on top. Boxed, for most connections are plain.
    Layered(Box<Layered>),
    /// A client in this process.
    Link(Pipe),
}

/// A transport between two threads: on no event queue.
#[derive(Debug)]
pub(crate) enum Cargo {
    Socket {
        socket: StdTcpStream,
        tls: Option<Box<ServerConnection>>,
        websocket: Option<WebSocket>,
        /// What has been read already: above TLS, below WebSocket.
        early: Bytes,
    },
    Link(Pipe),
}

impl Cargo {
    /// The transport, on the event queue of the thread that calls.
    pub(super) fn unload(self) -> io::Result<Transport> {
        let (socket, tls, websocket, early) = match self {
            Self::Socket { socket, tls, websocket, early } => (socket, tls, websocket, early),
            Self::Link(pipe) => return Ok(Transport::Link(pipe)),
        };
        let socket = TcpStream::from_std(socket)?;
        Ok(match (tls, websocket) {
            (None, None) => Transport::Tcp(socket),
            (tls, websocket) => {
                Transport::Layered(Box::new(Layered::new(socket, tls, websocket, early)))
            }
        })
    }
}

/// What a read brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Received {
    Bytes(usize),
    /// So many bytes, and a layer has something to say to them: write, though no output waits.
    Answer(usize),
    End,
}

impl Transport {
    /// Takes the transport off this thread's event queue.
    pub(super) fn load(self) -> io::Result<Cargo> {
        Ok(match self {
            Self::Tcp(socket) => Cargo::Socket {
                socket: socket.into_std()?,
                tls: None,
                websocket: None,
                early: Bytes::new(),
            },
            Self::Layered(layered) => layered.load()?,
            Self::Link(pipe) => Cargo::Link(pipe),
        })
    }

    /// Reads once, and gives the MQTT bytes to `take`.
    pub(crate) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &Scratch,
        mut take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<Received>> {
        match self {
            Self::Tcp(socket) => {
                let mut input = scratch.input.borrow_mut();
                let bytes = ready!(poll_input(socket, cx, &mut input))?;
                if bytes.is_empty() {
                    return Poll::Ready(Ok(Received::End));
                }
                take(bytes);
                Poll::Ready(Ok(Received::Bytes(bytes.len())))
            }
            Self::Layered(layered) => layered.poll_receive(cx, scratch, take),
            Self::Link(pipe) => {
                let mut input = scratch.plain.borrow_mut();
                input.clear();
                if !ready!(pipe.poll_read(cx, &mut input)) {
                    return Poll::Ready(Ok(Received::End));
                }
                take(&input);
                Poll::Ready(Ok(Received::Bytes(input.len())))
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
                    match taken(count)? {
                        Some(count) => {
                            output.consume(count);
                            written += count;
                        }
                        None => return Ok((written, false)),
                    }
                }
                Ok((written, true))
            }
            Self::Layered(layered) => layered.try_write(output),
            Self::Link(pipe) => {
                let mut written = 0;
                while !output.is_empty() {
                    let count = pipe.take(output.front());
                    if count == 0 {
                        return Ok((written, false));
                    }
                    output.consume(count);
                    written += count;
                }
                Ok((written, true))
            }
        }
    }

    /// Ready when the socket may take more, after a write that it did not take whole.
    pub(crate) fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(socket) => socket.poll_write_ready(cx),
            Self::Layered(layered) => layered.socket().poll_write_ready(cx),
            Self::Link(pipe) => pipe.poll_write_ready(cx).map(Ok),
        }
    }

    /// Says good-bye in the words of the layers, as far as the socket takes them, for the broker
    /// closes the connection.
    pub(crate) fn finish(&mut self, scratch: &Scratch) {
        if let Self::Layered(layered) = self {
            layered.say_goodbye();
        }
        let socket = match self {
            Self::Tcp(socket) => socket,
            Self::Layered(layered) => layered.socket(),
            Self::Link(_) => return,
        };
        // With bytes unread the system would reset the connection, and the client might lose the
        // last packets, which say why.
        let mut input = scratch.input.borrow_mut();
        let _ = socket.try_read(&mut input);
    }
}

/// Reads once. Unlike `try_read`, this knows that a short read emptied the socket.
pub(super) fn poll_input<'a>(
    socket: &mut TcpStream,
    cx: &mut Context<'_>,
    input: &'a mut [u8],
) -> Poll<io::Result<&'a mut [u8]>> {
    let mut buffer = ReadBuf::new(input);
    ready!(Pin::new(socket).poll_read(cx, &mut buffer))?;
    let count = buffer.filled().len();
    Poll::Ready(Ok(&mut input[..count]))
}

/// How many bytes a write took: none when the socket is full, zero when it is to be asked again.
pub(super) fn taken(written: io::Result<usize>) -> io::Result<Option<usize>> {
    match written {
        Ok(0) => Err(io::ErrorKind::WriteZero.into()),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Some(0)),
        Err(error) => Err(error),
    }
}
