//! TLS: certificates of both sides, and new ones while clients are there.

use std::net::SocketAddr;

use longshore_broker::{Broker, Scheme, Tls};
use rustls::HandshakeKind;

use super::certificates::{Authority, Signed};
use super::client::{
    CONNACK, PINGREQ, PINGRESP, TlsClient, address, ask, connect, expect, is_closed, open, tcp,
    tls, try_all,
};

fn broker(tls: Tls) -> Broker {
    open().tls(tls).listen("mqtts://127.0.0.1:0").start().unwrap()
}

#[test]
fn the_protocol_is_agreed_on_when_one_is_offered() {
    let authority = Authority::new("ours");
    let broker = open()
        .tls(authority.server(None))
        .listen("mqtts://127.0.0.1:0")
        .listen("wss://127.0.0.1:0");
    let broker = broker.start().unwrap();
    type Row<'a> = (Scheme, &'a [&'a str], Option<&'a [u8]>);
    let rows: [Row<'_>; 5] = [
        (Scheme::Mqtts, &["mqtt"], Some(b"mqtt")),
        (Scheme::Mqtts, &["x", "mqtt"], Some(b"mqtt")),
        (Scheme::Mqtts, &[], None),
        (Scheme::Wss, &["h2", "http/1.1"], Some(b"http/1.1")),
        (Scheme::Wss, &[], None),
    ];
    for (scheme, offered, want) in rows {
        let stream = tls(address(&broker, scheme), &authority.client(None, offered)).unwrap();
        assert_eq!(stream.conn.alpn_protocol(), want, "{scheme:?} {offered:?}");
    }
}

#[test]
fn a_client_certificate_is_checked_if_there_is_one() {
    let (ours, clients, others) =
        (Authority::new("ours"), Authority::new("clients"), Authority::new("others"));
    let broker = broker(ours.server(Some(&clients)));
    let address = address(&broker, Scheme::Mqtts);
    for shown in [None, Some(clients.sign("client"))] {
        let mut stream = tls(address, &ours.client(shown.as_ref(), &[])).unwrap();
        try_all(&mut stream, "welcome");
    }
    let stranger = others.sign("client");
    assert!(!is_let_in(address, &ours, Some(&stranger)));
}

/// In TLS 1.3 a client hears of its refusal with what it reads first.
fn is_let_in(address: SocketAddr, ours: &Authority, shown: Option<&Signed>) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = tls(address, &ours.client(shown, &[])) else { return false };
    stream.write_all(&connect("client")).is_ok() && stream.read_exact(&mut [0; 4]).is_ok()
}

#[test]
fn sessions_are_resumed_until_certificates_are_replaced() {
    let authority = Authority::new("ours");
    let broker = broker(authority.server(None));
    let address = address(&broker, Scheme::Mqtts);
    let config = authority.client(None, &["mqtt"]);
    let kind = || {
        let mut stream = tls(address, &config).unwrap();
        try_all(&mut stream, "again");
        stream.conn.handshake_kind()
    };
    assert_ne!(kind(), Some(HandshakeKind::Resumed));
    assert_eq!(kind(), Some(HandshakeKind::Resumed));
    broker.replace_tls(authority.server(None));
    assert_ne!(kind(), Some(HandshakeKind::Resumed));
}

#[test]
fn certificates_are_replaced_and_nobody_is_dropped() {
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let broker = broker(old.server(Some(&old)));
    let address = address(&broker, Scheme::Mqtts);
    let mut early = tls(address, &old.client(None, &[])).unwrap();
    ask(&mut early, &connect("early"), &CONNACK);
    let of_old = old.sign("client");
    assert!(is_let_in(address, &old, Some(&of_old)));

    broker.replace_tls(new.server(Some(&new)));
    let refused = tls(address, &old.client(None, &[]));
    assert!(refused.is_err(), "the old certificate is not shown any more");
    try_all(&mut tls(address, &new.client(None, &[])).unwrap(), "late");
    assert!(!is_let_in(address, &new, Some(&of_old)), "nor is the old authority believed");
    assert!(is_let_in(address, &new, Some(&new.sign("client"))));
    ask(&mut early, &PINGREQ, &PINGRESP);
}

/// A client over TLS whose CONNECT is accepted.
fn connected(address: SocketAddr, authority: &Authority, client_id: &str) -> TlsClient {
    let mut stream = tls(address, &authority.client(None, &[])).unwrap();
    ask(&mut stream, &connect(client_id), &CONNACK);
    stream
}

#[test]
fn keys_that_change_on_the_way_are_followed_however_often() {
    let authority = Authority::new("ours");
    let broker = broker(authority.server(None));
    let address = address(&broker, Scheme::Mqtts);
    let [mut changing, mut beside] =
        ["changing", "beside"].map(|client_id| connected(address, &authority, client_id));
    for round in 0..4_000 {
        changing.conn.refresh_traffic_keys().unwrap();
        ask(&mut changing, &PINGREQ, &PINGRESP);
        if round % 100 == 0 {
            ask(&mut beside, &PINGREQ, &PINGRESP);
        }
    }
}

/// CVE-2026-39304: each change costs the broker an answer, and the client nothing.
#[test]
fn who_only_changes_keys_is_let_go_and_nobody_else_notices() {
    let authority = Authority::new("ours");
    let broker = broker(authority.server(None));
    let address = address(&broker, Scheme::Mqtts);
    let [mut changing, mut beside] =
        ["changing", "beside"].map(|client_id| connected(address, &authority, client_id));
    for _ in 0..10_000 {
        changing.conn.refresh_traffic_keys().unwrap();
        // Fails as soon as the client is let go.
        if changing.conn.write_tls(&mut changing.sock).is_err() {
            break;
        }
    }
    assert!(is_closed(&mut changing.sock));
    ask(&mut beside, &PINGREQ, &PINGRESP);
    assert_eq!(broker.stats().connections.get(), 1);
}

#[test]
fn a_good_bye_of_tls_ends_the_connection() {
    use std::io::Read;
    let authority = Authority::new("ours");
    let broker = broker(authority.server(None));
    let mut stream = tls(address(&broker, Scheme::Mqtts), &authority.client(None, &[])).unwrap();
    ask(&mut stream, &connect("leaving"), &CONNACK);
    stream.conn.send_close_notify();
    stream.conn.complete_io(&mut stream.sock).unwrap();
    // Said in return, which is what makes this an end and not an error.
    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn what_is_no_pem_is_said() {
    let authority = Authority::new("ours");
    let Signed { cert, key } = authority.sign("localhost");
    let other = authority.sign("localhost").key;
    let rows = [
        ("", key.as_str(), None, "the certificate: there is no PEM block CERTIFICATE"),
        (cert.as_str(), "", None, "the key: there is no PEM block PRIVATE KEY"),
        (&cert, &cert, None, "the key: there is no PEM block PRIVATE KEY"),
        (&cert, &other, None, "certificate and key cannot be used"),
        (&cert, &key, Some("nothing"), "the client CA: there is no PEM block CERTIFICATE"),
    ];
    for (cert, key, client_ca, want) in rows {
        let made = Tls::from_pem(cert.as_bytes(), key.as_bytes(), client_ca.map(str::as_bytes));
        let error = made.unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
}

/// The end of a record is not the end of a packet.
#[test]
fn packets_are_split_over_records_in_any_way() {
    use std::io::Write;
    let authority = Authority::new("ours");
    let broker = broker(authority.server(None));
    let mut stream = tls(address(&broker, Scheme::Mqtts), &authority.client(None, &[])).unwrap();
    for byte in connect("split") {
        stream.write_all(&[byte]).unwrap();
    }
    expect(&mut stream, &CONNACK);
}

/// Packets may come in one flight with the end of the handshake.
#[test]
fn packets_behind_the_handshake_are_not_lost() {
    use std::io::Write;
    let authority = Authority::new("ours");
    let broker = broker(authority.server(None));
    let name = "localhost".try_into().unwrap();
    let mut connection =
        rustls::ClientConnection::new(authority.client(None, &["mqtt"]), name).unwrap();
    connection.writer().write_all(&connect("early")).unwrap();
    let mut stream = rustls::StreamOwned::new(connection, tcp(address(&broker, Scheme::Mqtts)));
    expect(&mut stream, &CONNACK);
}
