//! Clients that dawdle: each is let go in time, and nobody else waits for it.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use longshore_broker::{Broker, Scheme};

use super::certificates::Authority;
use super::client::{
    CONNACK, Stream, address, ask, connect, is_closed, limits, open, tcp, tls, try_all,
};

/// The first bytes of a ClientHello: more are announced than ever come.
const HALF_A_HELLO: [u8; 11] = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

fn broker(authority: &Authority, change: impl FnOnce(&mut longshore_broker::Limits)) -> Broker {
    open()
        .limits(limits(change))
        .tls(authority.server(None))
        .listen("mqtt://127.0.0.1:0")
        .listen("mqtts://127.0.0.1:0")
        .listen("ws://127.0.0.1:0")
        .listen("https://127.0.0.1:0")
        .listen("mqtt://127.0.0.1:0?proxy=v2&trusted=127.0.0.1")
        .listen("mqtts://127.0.0.1:0?proxy=v2&trusted=127.0.0.1")
        .start()
        .unwrap()
}

#[test]
fn who_does_not_finish_its_handshake_is_let_go() {
    let authority = Authority::new("ours");
    let broker = broker(&authority, |limits| limits.connect_timeout_secs = 1);
    let [_, mqtts, ws, https, proxied] = [0, 1, 2, 3, 4].map(|at| broker.addresses()[at].1);
    let secure = |protocol| tls(mqtts, &authority.client(None, &[protocol])).unwrap();
    let mut dawdlers: Vec<(&str, Box<dyn Stream>, &[u8])> = vec![
        ("silence before TLS", Box::new(tcp(mqtts)), b""),
        ("half a hello", Box::new(tcp(mqtts)), &HALF_A_HELLO),
        ("silence before HTTP", Box::new(tcp(ws)), b""),
        ("half a request", Box::new(tcp(ws)), b"GET / HTTP/1.1\r\nHost: x\r\n"),
        ("half a hello of https", Box::new(tcp(https)), &HALF_A_HELLO),
        ("silence of a proxy", Box::new(tcp(proxied)), b""),
        ("half a PROXY line", Box::new(tcp(proxied)), b"PROXY TCP4 192.0.2.7 1"),
        ("half a PROXY header", Box::new(tcp(proxied)), b"\r\n\r\n\0\r\nQUIT\n\x21\x11"),
        ("silence behind PROXY", Box::new(tcp(proxied)), b"PROXY UNKNOWN\r\n"),
        ("no CONNECT within TLS", Box::new(secure("mqtt")), b""),
        ("half a CONNECT within TLS", Box::new(secure("mqtt")), &[0x10, 0x20]),
    ];
    let began = Instant::now();
    for (_, stream, bytes) in &mut dawdlers {
        stream.write_all(bytes).unwrap();
        stream.flush().unwrap();
    }
    for (name, stream, _) in &mut dawdlers {
        assert!(is_closed(&mut **stream), "{name}");
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(8), "all at once, not one after the other: {took:?}");
}

/// From a few addresses, and from many of one network, come as many as may be; whoever comes from
/// another finds a turn all the same.
#[test]
fn who_dawdles_does_not_keep_others_out() {
    let authority = Authority::new("ours");
    let broker = broker(&authority, |limits| {
        limits.handshakes = 16;
        limits.connect_timeout_secs = 3_600;
    });
    let [mqtt, mqtts] = [4, 5].map(|at| broker.addresses()[at].1);
    let from = |to, source: &str| {
        let mut stream = tcp(to);
        let family = if source.contains(':') { "TCP6" } else { "TCP4" };
        write!(stream, "PROXY {family} {source} {source} 1 2\r\n").unwrap();
        stream
    };
    let few = (0..3 * 16).map(|n| format!("192.0.2.{}", n % 3));
    let many = (0..16).map(|n| format!("2001:db8::{n:x}:0:0:1"));
    let dawdlers: Vec<_> = few.chain(many).map(|source| from(mqtts, &source)).collect();
    for mut stream in &dawdlers {
        stream.write_all(&HALF_A_HELLO).unwrap();
    }
    for source in ["192.0.2.9", "2001:db8:0:1::1"] {
        ask(&mut from(mqtt, source), &connect("other"), &CONNACK);
    }
}

#[test]
fn a_turn_is_given_back_when_its_time_is_up() {
    let authority = Authority::new("ours");
    let broker = broker(&authority, |limits| {
        limits.handshakes = 1;
        limits.connect_timeout_secs = 1;
    });
    let mqtts = address(&broker, Scheme::Mqtts);
    let mut slow = tcp(mqtts);
    slow.write_all(&HALF_A_HELLO).unwrap();
    assert!(is_closed(&mut slow));
    try_all(&mut tls(mqtts, &authority.client(None, &[])).unwrap(), "later");
}

#[test]
fn connections_that_are_no_clients_yet_are_connections() {
    let authority = Authority::new("ours");
    let broker = open()
        .limits(limits(|limits| limits.connections = 1))
        .tls(authority.server(None))
        .listen("mqtt://127.0.0.1:0")
        .listen("mqtts://127.0.0.1:0")
        .listen("https://127.0.0.1:0")
        .start()
        .unwrap();
    let [mqtt, mqtts, https] = [0, 1, 2].map(|at| broker.addresses()[at].1);
    // The end of its handshake tells that the connection is counted.
    let waiting = tls(https, &authority.client(None, &[])).unwrap();
    assert!(is_refused(mqtt));
    assert!(is_closed(&mut tcp(mqtts)));
    drop(waiting);
    let deadline = Instant::now() + super::client::PATIENCE;
    while is_refused(mqtt) {
        assert!(Instant::now() < deadline, "it still counts");
    }
    // Now a client is there, and there is no room for a handshake.
    let mut client = loop {
        let mut stream = tcp(mqtt);
        if stream.write_all(&connect("client")).is_ok() && stream.read_exact(&mut [0; 4]).is_ok() {
            break stream;
        }
    };
    assert!(is_closed(&mut tcp(mqtts)));
    ask(&mut client, &super::client::PINGREQ, &super::client::PINGRESP);
}

fn is_refused(address: std::net::SocketAddr) -> bool {
    let mut stream = tcp(address);
    let sent = stream.write_all(&connect("refused"));
    sent.is_err() || stream.read_exact(&mut [0; 4]).is_err()
}
