//! The PROXY protocol: who is believed, and what then.

use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};

use longshore_acl::{Authenticate, Credentials, Principal, Refusal};
use longshore_broker::{Broker, StartError};

use super::certificates::Authority;
use super::client::{
    CONNACK, Stream, ask, connect, is_closed, limits, open, tcp, try_all, websocket,
};

/// A gate that lets everybody in and remembers from where.
#[derive(Default)]
struct Book(Mutex<Vec<IpAddr>>);

impl Authenticate for Book {
    fn authenticate(&self, _: &Credentials<'_>, peer: IpAddr) -> Result<Principal, Refusal> {
        self.0.lock().unwrap().push(peer);
        Ok(Principal::anonymous())
    }
}

impl Book {
    fn last(&self) -> String {
        self.0.lock().unwrap().last().unwrap().to_string()
    }
}

/// A header of version 2 with this command, family and addresses.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend_from_slice(&[0x20 | command, family]);
    header.extend_from_slice(&(rest.len() as u16).to_be_bytes());
    header.extend_from_slice(rest);
    header
}

const IPV4: [u8; 12] = [192, 0, 2, 9, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];

fn ipv6() -> Vec<u8> {
    let mut rest = vec![0; 36];
    rest[..4].copy_from_slice(&[0x20, 1, 0xd, 0xb8]);
    rest[15] = 7;
    rest
}

#[test]
fn the_address_is_the_one_a_trusted_proxy_says() {
    let long = [&IPV4[..], &[4, 0, 200], &[0; 200]].concat();
    let rows: [(Vec<u8>, &str); 9] = [
        (b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n".to_vec(), "192.0.2.7"),
        (b"PROXY TCP6 2001:db8::1 ::1 4124 443\r\n".to_vec(), "2001:db8::1"),
        (b"PROXY TCP6 ::ffff:192.0.2.8 ::1 4124 443\r\n".to_vec(), "192.0.2.8"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
        (b"PROXY UNKNOWN ffff:f::1 ffff::1 65535 65535\r\n".to_vec(), "127.0.0.1"),
        (v2(1, 0x11, &IPV4), "192.0.2.9"),
        (v2(1, 0x21, &ipv6()), "2001:db8::7"),
        (v2(1, 0x11, &long), "192.0.2.9"),
        (v2(0, 0, &[]), "127.0.0.1"),
    ];
    let (authority, book) = (Authority::new("ours"), Arc::new(Book::default()));
    let broker = Broker::builder()
        .auth(Arc::clone(&book) as Arc<dyn Authenticate>)
        .tls(authority.server(None))
        .listen("mqtt://127.0.0.1:0?proxy=v2&trusted=127.0.0.0/8")
        .listen("mqtts://127.0.0.1:0?proxy=v2&trusted=127.0.0.0/8")
        .listen("ws://127.0.0.1:0?proxy=v2&trusted=10.0.0.1,127.0.0.1")
        .start()
        .unwrap();
    let [mqtt, mqtts, ws] = [0, 1, 2].map(|at| broker.addresses()[at].1);
    for (header, want) in rows {
        let mut stream = tcp(mqtt);
        // The first packet comes along with the header, which is where the two may mix.
        ask(&mut stream, &[&header[..], &connect("behind")].concat(), &CONNACK);
        assert_eq!(book.last(), want, "{header:?}");

        let mut stream = tcp(ws);
        stream.write_all(&header).unwrap();
        try_all(&mut websocket(stream, "/"), "framed");
        assert_eq!(book.last(), want, "{header:?}");

        try_all(&mut tls_behind(mqtts, &header, &authority), "sealed");
        assert_eq!(book.last(), want, "{header:?}");
    }
}

/// TLS that begins behind `header`.
fn tls_behind(address: SocketAddr, header: &[u8], authority: &Authority) -> impl Stream {
    let config = authority.client(None, &["mqtt"]);
    let name = "localhost".try_into().unwrap();
    let connection = rustls::ClientConnection::new(config, name).unwrap();
    let mut socket = tcp(address);
    // Byte by byte: nothing says that a header comes in one piece.
    for byte in header {
        socket.write_all(&[*byte]).unwrap();
    }
    rustls::StreamOwned::new(connection, socket)
}

#[test]
fn what_is_no_header_is_refused() {
    let rows: [Vec<u8>; 8] = [
        connect("no-header"),
        b"PROXY TCP4 192.0.2.7\r\n".to_vec(),
        b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 99999\r\n".to_vec(),
        b"PROXY TCP5 192.0.2.7 10.0.0.1 56324 443\r\n".to_vec(),
        [&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat(),
        v2(2, 0x11, &IPV4),
        v2(1, 0x11, &IPV4[..8]),
        v2(1, 0x11, &[0; 5_000]),
    ];
    let broker = open().listen("mqtt://127.0.0.1:0?proxy=v2&trusted=127.0.0.1").start().unwrap();
    for header in rows {
        let mut stream = tcp(broker.addresses()[0].1);
        let _ = stream.write_all(&[&header[..], &connect("behind")].concat());
        assert!(is_closed(&mut stream), "{header:?}");
    }
    assert_eq!(broker.stats().accepted_total.get(), 0);
}

#[test]
fn a_stranger_may_not_say_who_it_is() {
    let broker =
        open().listen("mqtt://127.0.0.1:0?proxy=v2&trusted=192.0.2.0/24,::1").start().unwrap();
    for header in [&b"PROXY TCP4 192.0.2.7 10.0.0.1 56324 443\r\n"[..], b""] {
        let mut stream = tcp(broker.addresses()[0].1);
        let _ = stream.write_all(&[header, &connect("stranger")].concat());
        assert!(is_closed(&mut stream));
    }
    assert_eq!(broker.stats().accepted_total.get(), 0);
}

#[test]
fn a_listener_that_trusts_nobody_does_not_start() {
    let started = open().listen("mqtt://127.0.0.1:0?proxy=v2").start();
    assert!(matches!(started, Err(StartError::Listen(_))), "{started:?}");
}

#[test]
fn connections_are_counted_by_the_real_address() {
    let broker = open()
        .limits(limits(|limits| limits.connections_per_address = 1))
        .listen("mqtt://127.0.0.1:0?proxy=v2&trusted=127.0.0.1")
        .start()
        .unwrap();
    let from = |host: u8| {
        let mut stream = tcp(broker.addresses()[0].1);
        let header = format!("PROXY TCP4 192.0.2.{host} 10.0.0.1 1 2\r\n");
        stream.write_all(header.as_bytes()).unwrap();
        stream
    };
    let (mut one, mut two, mut again) = (from(1), from(2), from(1));
    ask(&mut one, &connect("one"), &CONNACK);
    ask(&mut two, &connect("two"), &CONNACK);
    let _ = again.write_all(&connect("again"));
    assert!(is_closed(&mut again));
}
