//! The platform that the stream sends to: a small server of HTTP that takes everything.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use serde_json::value::RawValue;

use super::everywhere;
use crate::config::Problem;

/// Bytes of a body; batches of streams are smaller.
const BODY_MAX: usize = 256 << 20;

/// A server that counts what it is sent, until the process ends.
#[derive(Debug)]
pub(super) struct Platform {
    pub(super) address: SocketAddr,
    taken: Arc<AtomicU64>,
}

impl Platform {
    pub(super) fn open(at: SocketAddr) -> Result<Self, Problem> {
        let failed = |error: io::Error| {
            everywhere(format!("--platform {at} cannot be listened on: {error}"))
        };
        let listener = TcpListener::bind(at).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let taken = Arc::<AtomicU64>::default();
        let counter = Arc::clone(&taken);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let counter = Arc::clone(&counter);
                // A connection that is lost is the stream's to make anew.
                thread::spawn(move || drop(serve(&stream, &counter)));
            }
        });
        Ok(Self { address, taken })
    }

    /// Messages that it was sent.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }
}

fn serve(stream: &TcpStream, taken: &AtomicU64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut requests = BufReader::new(stream);
    let mut body = Vec::new();
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if requests.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line.trim_end().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap_or(usize::MAX);
            }
        }
        if length > BODY_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        body.resize(length, 0);
        requests.read_exact(&mut body)?;
        let messages: Vec<&RawValue> = serde_json::from_slice(&body)?;
        taken.fetch_add(messages.len() as u64, Ordering::Relaxed);
        write!(&*stream, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")?;
    }
}
