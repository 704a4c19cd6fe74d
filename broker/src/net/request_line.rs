//! What clients send in the first line of a request though it ought to be encoded: the quotes of
//! JSON in `data={"count":1}`, and `<` and `>` of expressions (broker specification, 15.1.5). The
//! parser of HTTP refuses them, so they are encoded on the way to it. Clients that send a request
//! before they have the answer to the last one have to encode what they send.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A connection of HTTP whose request lines are encoded.
pub(super) struct Encoding<I> {
    io: I,
    /// Whether a request line is to come or under way. Whoever has answered a request without a
    /// body sets it for the next one; behind a body, lines are left as they are.
    in_line: Rc<Cell<bool>>,
    /// What did not fit where it was asked for.
    spare: Vec<u8>,
}

impl<I> Encoding<I> {
    pub(super) fn new(io: I, in_line: Rc<Cell<bool>>) -> Self {
        in_line.set(true);
        Self { io, in_line, spare: Vec::new() }
    }

    pub(super) fn into_inner(self) -> I {
        debug_assert!(self.spare.is_empty(), "it is of a line that has been read");
        self.io
    }
}

/// The line at the start of what was read, encoded, and what follows it; none if it is as it is to
/// be.
fn encode(read: &[u8], in_line: &Cell<bool>) -> Option<Vec<u8>> {
    let end = memchr::memchr(b'\n', read);
    in_line.set(end.is_none());
    let (line, rest) = read.split_at(end.unwrap_or(read.len()));
    let is_odd = |byte: &u8| matches!(byte, b'"' | b'<' | b'>');
    if !line.iter().any(is_odd) {
        return None;
    }
    let mut encoded = Vec::with_capacity(read.len() + 64);
    for byte in line {
        match byte {
            b'"' => encoded.extend_from_slice(b"%22"),
            b'<' => encoded.extend_from_slice(b"%3C"),
            b'>' => encoded.extend_from_slice(b"%3E"),
            byte => encoded.push(*byte),
        }
    }
    encoded.extend_from_slice(rest);
    Some(encoded)
}

impl<I: AsyncRead + Unpin> AsyncRead for Encoding<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.spare.is_empty() {
            let before = buffer.filled().len();
            let read = Pin::new(&mut self.io).poll_read(cx, buffer);
            let came = &buffer.filled()[before..];
            if !self.in_line.get() || came.is_empty() {
                return read;
            }
            let Some(encoded) = encode(came, &self.in_line) else { return read };
            buffer.set_filled(before);
            self.spare = encoded;
        }
        let count = self.spare.len().min(buffer.remaining());
        buffer.put_slice(&self.spare[..count]);
        self.spare.drain(..count);
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Encoding<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn a_request_line_is_encoded_wherever_it_is_cut_and_nothing_else_is() {
        let sent = b"GET /a?data={\"x\":\"1<2\"} HTTP/1.1\r\nX: \"<>\"\r\n\r\n\"body\"";
        let want = "GET /a?data={%22x%22:%221%3C2%22} HTTP/1.1\r\nX: \"<>\"\r\n\r\n\"body\"";
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for cut in 0..sent.len() {
                let (mut client, io) = tokio::io::duplex(1 << 10);
                let mut encoding = Encoding::new(io, Rc::default());
                let mut read = Vec::new();
                client.write_all(&sent[..cut]).await.unwrap();
                let mut byte = [0; 1];
                if cut > 0 {
                    encoding.read_exact(&mut byte).await.unwrap();
                    read.push(byte[0]);
                }
                client.write_all(&sent[cut..]).await.unwrap();
                drop(client);
                encoding.read_to_end(&mut read).await.unwrap();
                assert_eq!(String::from_utf8(read).unwrap(), want, "cut at {cut}");
            }
        });
    }
}
