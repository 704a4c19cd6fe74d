//! The PROXY protocol: one header, of version 1 or 2, before anything else.

use std::io;
use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::accept::canonical;

/// The longest header of version 1, its line end included.
const V1_MAX: usize = 107;
/// What every header of version 2 begins with.
const V2_START: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// Bytes of version 2 that say how many more there are.
const V2_LEN: usize = 16;
/// Version 2, and the proxy speaks for itself: whatever addresses follow mean nothing.
const V2_LOCAL: u8 = 0x20;
/// The longest header of version 2 that is read. Proxies add a few hundred bytes to the addresses.
const V2_MAX: usize = 4096;

/// Reads the header and not a byte more: the address of the client, or none when the proxy speaks
/// for itself or does not know.
pub(super) async fn read_header(socket: &mut TcpStream) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; V2_START.len()];
    socket.read_exact(&mut header).await?;
    if header == V2_START {
        header.resize(V2_LEN, 0);
        socket.read_exact(&mut header[V2_START.len()..]).await?;
        let more = usize::from(u16::from_be_bytes([header[V2_LEN - 2], header[V2_LEN - 1]]));
        if V2_LEN + more > V2_MAX {
            return Err(invalid());
        }
        header.resize(V2_LEN + more, 0);
        socket.read_exact(&mut header[V2_LEN..]).await?;
        if header[V2_START.len()] == V2_LOCAL {
            return Ok(None);
        }
    } else if header.starts_with(b"PROXY ") {
        read_line(socket, &mut header).await?;
    } else {
        return Err(invalid());
    }
    let config = ParseConfig { include_tlvs: false, ..ParseConfig::default() };
    let (parsed, used) = ProxyHeader::parse(&header, config).map_err(|_| invalid())?;
    if used != header.len() {
        return Err(invalid());
    }
    Ok(parsed.proxied_address().map(|address| canonical(address.source)))
}

/// Reads to the end of the line. What is behind it stays in the socket, which is why bytes are
/// looked at before they are taken.
async fn read_line(socket: &mut TcpStream, line: &mut Vec<u8>) -> io::Result<()> {
    let mut ahead = [0; V1_MAX];
    while line.len() < V1_MAX {
        let count = socket.peek(&mut ahead[..V1_MAX - line.len()]).await?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let end = memchr::memchr(b'\n', &ahead[..count]);
        let taken = end.map_or(count, |end| end + 1);
        let from = line.len();
        line.resize(from + taken, 0);
        socket.read_exact(&mut line[from..]).await?;
        if end.is_some() {
            return Ok(());
        }
    }
    Err(invalid())
}

fn invalid() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no header of the PROXY protocol")
}
