//! A socket with TLS, WebSocket or both on top.
//!
//! ```text
//! socket --> [decrypt] --> [unframe] --> shard
//! output --> [one frame] --> [records of up to 16 KiB] --> socket
//! ```

use std::io::{self, BufRead, IoSlice, Read, Write};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use rustls::ServerConnection;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::transport::{Cargo, Received, SLICES, Scratch, poll_input, taken};
use super::websocket::{Flow, Violation, WebSocket};
use crate::output::Output;

/// A record is at most this long; whoever reads one leaves a buffer behind that may shrink.
const SMALL_READ: usize = 4096;

/// A socket and the layers that its handshakes have put on it.
#[derive(Debug)]
pub(crate) struct Layered {
    socket: TcpStream,
    /// Boxed, for it is large and a plain WebSocket has none.
    tls: Option<Box<ServerConnection>>,
    websocket: Option<WebSocket>,
    /// What the handshakes have read too far: above TLS, below WebSocket.
    early: Option<Bytes>,
}

impl Layered {
    pub(crate) fn new(
        socket: TcpStream,
        tls: Option<Box<ServerConnection>>,
        websocket: Option<WebSocket>,
        early: Bytes,
    ) -> Self {
        Self { socket, tls, websocket, early: Some(early) }
    }

    /// Takes the socket off this thread's event queue. Nothing read is left behind: all that a
    /// layer had was given on.
    pub(super) fn load(self) -> io::Result<Cargo> {
        Ok(Cargo::Socket {
            socket: self.socket.into_std()?,
            tls: self.tls,
            websocket: self.websocket,
            early: self.early.unwrap_or_default(),
        })
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &Scratch,
        mut take: impl FnMut(&[u8]),
    ) -> Poll<io::Result<Received>> {
        let mut count = 0;
        let flow = if let Some(early) = self.early.take() {
            // Never zero: the budget of the caller ends.
            count = early.len().max(1);
            self.receive_early(&early, scratch, &mut take)
        } else {
            let mut input = scratch.input.borrow_mut();
            let bytes = ready!(poll_input(&mut self.socket, cx, &mut input))?;
            if bytes.is_empty() {
                return Poll::Ready(Ok(Received::End));
            }
            count += bytes.len();
            self.receive(bytes, scratch, &mut take)
        };
        let received = match flow {
            Ok(Flow::Open) if !self.wants_write() => Received::Bytes(count),
            Ok(Flow::Open) => Received::Answer(count),
            Ok(Flow::Closed) => {
                self.say_goodbye();
                Received::End
            }
            Err(fault) => {
                let error = io::Error::new(io::ErrorKind::InvalidData, fault.to_string());
                if let Fault::WebSocket(Violation { code, .. }) = fault
                    && let Some(websocket) = &mut self.websocket
                {
                    websocket.close(code);
                }
                self.say_goodbye();
                return Poll::Ready(Err(error));
            }
        };
        Poll::Ready(Ok(received))
    }

    /// Goes on with bytes that came behind the handshakes.
    fn receive_early(
        &mut self,
        early: &[u8],
        scratch: &Scratch,
        take: &mut impl FnMut(&[u8]),
    ) -> Result<Flow, Fault> {
        if pass_on(&mut self.websocket, early, scratch, take)? == Flow::Closed {
            return Ok(Flow::Closed);
        }
        match &mut self.tls {
            Some(tls) => pass_plain(tls, &mut self.websocket, scratch, take),
            None => Ok(Flow::Open),
        }
    }

    fn receive(
        &mut self,
        bytes: &mut [u8],
        scratch: &Scratch,
        take: &mut impl FnMut(&[u8]),
    ) -> Result<Flow, Fault> {
        let Some(tls) = &mut self.tls else {
            return match &mut self.websocket {
                Some(websocket) => Ok(websocket.receive(bytes, take)?),
                None => {
                    take(bytes);
                    Ok(Flow::Open)
                }
            };
        };
        let is_large = bytes.len() > SMALL_READ;
        let mut rest: &[u8] = bytes;
        while !rest.is_empty() {
            // Takes a piece at a time, without the system's help.
            if tls.read_tls(&mut rest)? == 0 {
                break;
            }
            tls.process_new_packets()?;
            if pass_plain(tls, &mut self.websocket, scratch, take)? == Flow::Closed {
                return Ok(Flow::Closed);
            }
        }
        if is_large {
            // Asking for more is what makes it give back the room of a large record.
            let _ = tls.read_tls(&mut Nothing);
        }
        Ok(Flow::Open)
    }

    pub(super) fn try_write(&mut self, output: &mut Output) -> io::Result<(usize, bool)> {
        let mut written = 0;
        loop {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let filled = match &mut self.websocket {
                Some(websocket) => websocket.slices(output, &mut slices),
                None => output.slices(&mut slices),
            };
            let slices = &slices[..filled];
            let count = match &mut self.tls {
                Some(tls) => {
                    // Encrypts at once, up to the bound of what may wait for the socket: no more
                    // is taken until some of it is written.
                    let count = tls.writer().write_vectored(slices)?;
                    if count == 0 {
                        let all = send(tls, &self.socket)?;
                        if all && !slices.is_empty() {
                            continue;
                        }
                        return Ok((written, all));
                    }
                    count
                }
                None if slices.is_empty() => return Ok((written, true)),
                None => match taken(self.socket.try_write_vectored(slices))? {
                    Some(count) => count,
                    None => return Ok((written, false)),
                },
            };
            let count = self.websocket.as_mut().map_or(count, |websocket| websocket.wrote(count));
            output.consume(count);
            written += count;
        }
    }

    fn wants_write(&self) -> bool {
        self.websocket.as_ref().is_some_and(WebSocket::wants_write)
            || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    /// Writes close frame and close notification, as far as the socket takes them at once.
    pub(super) fn say_goodbye(&mut self) {
        if let Some(websocket) = &mut self.websocket {
            websocket.close(CloseCode::Normal);
        }
        // Not in the middle of a data frame: then there is nothing left but to hang up.
        let _ = self.try_write(&mut Output::default());
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            let _ = send(tls, &self.socket);
        }
    }
}

/// Gives decrypted bytes on, all there are.
fn pass_plain(
    tls: &mut ServerConnection,
    websocket: &mut Option<WebSocket>,
    scratch: &Scratch,
    take: &mut impl FnMut(&[u8]),
) -> Result<Flow, Fault> {
    let mut reader = tls.reader();
    loop {
        let chunk = match reader.fill_buf() {
            Ok([]) => return Ok(Flow::Closed),
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Flow::Open),
            Err(error) => return Err(error.into()),
        };
        let count = chunk.len();
        if pass_on(websocket, chunk, scratch, take)? == Flow::Closed {
            return Ok(Flow::Closed);
        }
        reader.consume(count);
    }
}

/// Gives bytes above TLS on.
fn pass_on(
    websocket: &mut Option<WebSocket>,
    plain: &[u8],
    scratch: &Scratch,
    take: &mut impl FnMut(&[u8]),
) -> Result<Flow, Fault> {
    match websocket {
        _ if plain.is_empty() => {}
        Some(websocket) => {
            let mut own = scratch.plain.borrow_mut();
            own.clear();
            own.extend_from_slice(plain);
            return Ok(websocket.receive(&mut own, take)?);
        }
        None => take(plain),
    }
    Ok(Flow::Open)
}

/// Writes what TLS has encrypted; whether all of it.
fn send(tls: &mut ServerConnection, socket: &TcpStream) -> io::Result<bool> {
    while tls.wants_write() {
        if taken(tls.write_tls(&mut Socket(socket)))?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Why a layer gives up.
enum Fault {
    Tls(rustls::Error),
    Io(io::Error),
    WebSocket(Violation),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::Io(error) => write!(f, "TLS: {error}"),
            Self::WebSocket(violation) => write!(f, "WebSocket: {}", violation.cause),
        }
    }
}

impl From<rustls::Error> for Fault {
    fn from(error: rustls::Error) -> Self {
        Self::Tls(error)
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Violation> for Fault {
    fn from(violation: Violation) -> Self {
        Self::WebSocket(violation)
    }
}

/// A socket that is written without waiting.
struct Socket<'a>(&'a TcpStream);

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A source that has nothing at the moment.
struct Nothing;

impl Read for Nothing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::WouldBlock.into())
    }
}
