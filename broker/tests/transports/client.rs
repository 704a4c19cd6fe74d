//! Clients that block: a byte stream in any dress, and just enough MQTT.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use longshore_acl::{Anonymous, Authenticate};
use longshore_broker::{Broker, Builder, Limits, Scheme};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Message, WebSocket};

/// Longer than anything takes on a machine with other work; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A byte stream in any dress.
pub(crate) trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// A broker that lets everybody in.
pub(crate) fn open() -> Builder {
    Broker::builder().auth(Arc::new(Anonymous::new()) as Arc<dyn Authenticate>)
}

/// Limits that differ from the default.
pub(crate) fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// Where the broker listens for `scheme`.
pub(crate) fn address(broker: &Broker, scheme: Scheme) -> SocketAddr {
    let of_scheme = |(listen, _): &&(longshore_broker::Listen, _)| listen.scheme == scheme;
    broker.addresses().iter().find(of_scheme).unwrap().1
}

pub(crate) fn tcp(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    socket
}

pub(crate) type TlsClient = StreamOwned<ClientConnection, TcpStream>;

/// TLS to `address`, whose handshake is done.
pub(crate) fn tls(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<TlsClient> {
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, tcp(address));
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// A WebSocket as a byte stream: each write is a message.
pub(crate) struct Framed<S>(pub(crate) WebSocket<S>, Vec<u8>);

impl<S: Stream> Read for Framed<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        while self.1.is_empty() {
            match self.0.read().map_err(io::Error::other)? {
                Message::Binary(payload) => self.1 = payload.into(),
                Message::Close(_) => return Ok(0),
                Message::Text(_) | Message::Frame(_) => panic!("the broker sends binary"),
                Message::Ping(_) | Message::Pong(_) => {}
            }
        }
        let count = bytes.len().min(self.1.len());
        bytes[..count].copy_from_slice(&self.1[..count]);
        self.1.drain(..count);
        Ok(count)
    }
}

impl<S: Stream> Write for Framed<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(Message::Binary(bytes.to_vec().into())).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(io::Error::other)
    }
}

/// WebSocket over `stream`, agreed to carry MQTT.
pub(crate) fn websocket<S: Stream>(stream: S, path: &str) -> Framed<S> {
    let (socket, agreed) = upgrade(stream, path, &["mqtt"]).unwrap();
    assert_eq!(agreed.as_deref(), Some("mqtt"));
    Framed(socket, Vec::new())
}

/// WebSocket over `stream`, and the sub-protocol that the broker chose.
pub(crate) fn upgrade<S: Stream>(
    stream: S,
    path: &str,
    protocols: &[&str],
) -> Result<(WebSocket<S>, Option<String>), String> {
    let mut request = format!("ws://localhost{path}").into_client_request().unwrap();
    for protocol in protocols {
        request.headers_mut().append("Sec-WebSocket-Protocol", protocol.parse().unwrap());
    }
    let (socket, response) = tokio_tungstenite::tungstenite::client(request, stream)
        .map_err(|error| error.to_string())?;
    let agreed = response.headers().get("Sec-WebSocket-Protocol");
    Ok((socket, agreed.map(|name| name.to_str().unwrap().to_owned())))
}

/// CONNECT of MQTT 3.1.1, clean, without keep alive.
pub(crate) fn connect(client_id: &str) -> Vec<u8> {
    let mut body = b"\0\x04MQTT\x04\x02\0\0".to_vec();
    text(&mut body, client_id);
    packet(0x10, &body)
}

pub(crate) fn subscribe(filter: &str) -> Vec<u8> {
    let mut body = vec![0, 1];
    text(&mut body, filter);
    body.push(0);
    packet(0x82, &body)
}

pub(crate) fn publish(topic: &str, payload: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic);
    body.extend_from_slice(payload);
    packet(0x30, &body)
}

pub(crate) const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
pub(crate) const SUBACK: [u8; 5] = [0x90, 3, 0, 1, 0];
pub(crate) const PINGREQ: [u8; 2] = [0xc0, 0];
pub(crate) const PINGRESP: [u8; 2] = [0xd0, 0];

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut rest = body.len();
    loop {
        let more = rest > 127;
        packet.push((rest % 128) as u8 | u8::from(more) << 7);
        rest /= 128;
        if !more {
            break;
        }
    }
    packet.extend_from_slice(body);
    packet
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend_from_slice(&(text.len() as u16).to_be_bytes());
    body.extend_from_slice(text.as_bytes());
}

/// Sends `request`, expects `answer`.
pub(crate) fn ask(stream: &mut dyn Stream, request: &[u8], answer: &[u8]) {
    stream.write_all(request).unwrap();
    stream.flush().unwrap();
    expect(stream, answer);
}

pub(crate) fn expect(stream: &mut dyn Stream, want: &[u8]) {
    let mut got = vec![0; want.len()];
    stream.read_exact(&mut got).unwrap();
    // Not `assert_eq`: some are megabytes.
    assert!(got == want, "{:x?}.. instead of {:x?}..", start(&got), start(want));
}

fn start(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(40)]
}

/// Connects and subscribes, then gets the message that it publishes.
pub(crate) fn try_all(stream: &mut dyn Stream, client_id: &str) {
    ask(stream, &connect(client_id), &CONNACK);
    let topic = format!("of/{client_id}");
    ask(stream, &subscribe(&topic), &SUBACK);
    let message = publish(&topic, b"hello");
    ask(stream, &message, &message);
}

/// Whether the broker has closed the stream, or does so before patience ends.
pub(crate) fn is_closed(stream: &mut dyn Stream) -> bool {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => true,
        Err(error) => {
            let is_late =
                matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
            !is_late
        }
    }
}
