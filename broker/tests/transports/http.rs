//! Pages beside MQTT: who may read what.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use longshore_acl::{Anonymous, Authenticate, MasterOnly, MasterToken};
use longshore_broker::{Broker, Scheme};

use super::certificates::Authority;
use super::client::{Stream, address, limits, open, tcp, tls, try_all, websocket};

/// Status, head and body of the answer to one request.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

fn request(stream: &mut dyn Stream, method: &str, path: &str, fields: &[&str]) -> Answer {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream.flush().unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_lowercase(), body: body.to_owned() }
}

fn get(address: SocketAddr, path: &str, fields: &[&str]) -> Answer {
    request(&mut tcp(address), "GET", path, fields)
}

fn broker() -> Broker {
    open().listen("http://127.0.0.1:0").listen("ws://127.0.0.1:0").start().unwrap()
}

#[test]
fn health_is_open() {
    let broker = broker();
    let answer = get(address(&broker, Scheme::Http), "/health", &[]);
    assert_eq!((answer.status, &answer.body[..]), (200, "{\"status\":\"ok\"}\n"));
    assert!(answer.head.contains("content-type: application/json"));
}

#[test]
fn pages_are_served_over_tls() {
    let authority = Authority::new("ours");
    let broker = open().tls(authority.server(None)).listen("https://127.0.0.1:0").start().unwrap();
    let address = address(&broker, Scheme::Https);
    let mut stream = tls(address, &authority.client(None, &[])).unwrap();
    assert_eq!(request(&mut stream, "GET", "/health", &[]).status, 200);
}

#[test]
fn what_is_not_there_or_not_written_is_answered_in_json() {
    let broker = broker();
    let (http, ws) = (address(&broker, Scheme::Http), address(&broker, Scheme::Ws));
    let rows = [
        (http, "GET", "/", 404, ""),
        (http, "GET", "/healthy", 404, ""),
        (http, "POST", "/nothing", 404, ""),
        (http, "POST", "/health", 405, "allow: get, head"),
        (http, "DELETE", "/metrics", 405, "allow: get, head"),
        (ws, "GET", "/health", 426, "upgrade: websocket"),
        (ws, "GET", "/mqtt", 426, "upgrade: websocket"),
        (ws, "POST", "/mqtt", 426, "upgrade: websocket"),
    ];
    for (address, method, path, status, field) in rows {
        let answer = request(&mut tcp(address), method, path, &[]);
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(answer.head.contains(field), "{method} {path}: {}", answer.head);
        assert!(answer.head.contains("content-type: application/json"), "{method} {path}");
        assert!(answer.body.starts_with("{\"error\":\""), "{method} {path}: {}", answer.body);
    }
    assert_eq!(request(&mut tcp(http), "HEAD", "/health", &[]).status, 200);
}

#[test]
fn a_wrong_handshake_is_told_so() {
    let broker = broker();
    let upgrade = ["Upgrade: websocket", "Connection: Upgrade"];
    let key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
    let rows = [
        (vec!["Sec-WebSocket-Version: 13"], 400, ""),
        (vec!["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short"], 400, ""),
        (vec!["Sec-WebSocket-Version: 8", key], 426, "sec-websocket-version: 13"),
    ];
    for scheme in [Scheme::Http, Scheme::Ws] {
        for (fields, status, field) in &rows {
            let fields = [&upgrade[..], fields].concat();
            let mut stream = tcp(address(&broker, scheme));
            let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n\r\n", fields.join("\r\n"));
            stream.write_all(request.as_bytes()).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{fields:?}: {answer}");
            assert!(answer.to_lowercase().contains(field), "{fields:?}: {answer}");
        }
    }
}

/// What is half sent behind an answer is waited for by nobody.
#[test]
fn a_page_closes_its_connection() {
    let broker = open().limits(limits(|limits| limits.connect_timeout_secs = 3_600));
    let broker = broker.listen("http://127.0.0.1:0").start().unwrap();
    for path in ["/health", "/metrics", "/nothing"] {
        let mut stream = tcp(address(&broker, Scheme::Http));
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n");
        stream.write_all(&[request.as_bytes(), b"GET / HTTP/1.1\r\nHo"].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
}

/// RFC 6455, 4.2.1: both fields are lists that name their word among others.
#[test]
fn a_handshake_may_list_more_than_it_needs() {
    let broker = broker();
    let rows: [(&[&str], u16); 6] = [
        (&["Upgrade: websocket", "Connection: Upgrade"], 101),
        (&["Upgrade: foo, WebSocket", "Connection: keep-alive, upgrade"], 101),
        (&["Upgrade: foo,websocket", "Connection: keep-alive,Upgrade"], 101),
        (&["Upgrade: foo", "Upgrade: websocket", "Connection: x", "Connection: upgrade"], 101),
        (&["Upgrade: websocket", "Connection: keep-alive"], 400),
        (&["Upgrade: foo", "Connection: Upgrade"], 404),
    ];
    for (fields, status) in rows {
        let key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==";
        let fields = fields.join("\r\n");
        let mut stream = tcp(address(&broker, Scheme::Http));
        let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{fields}\r\n{key}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(String::from_utf8_lossy(&answer), format!("HTTP/1.1 {status}"), "{fields}");
    }
}

/// A gate, the fields that are sent to it, and whether it opens from afar.
type Row<'a> = (&'a str, Arc<dyn Authenticate>, Vec<String>, bool);

#[test]
fn metrics_take_a_token_unless_they_are_read_on_the_spot() {
    let token: MasterToken = "a1".repeat(32).parse().unwrap();
    let bare = token.expose().to_owned();
    let known = || Arc::new(MasterOnly::new(token.clone()));
    let both = || Arc::new(Anonymous::with_token(token.clone()));
    let field = |text: &str| vec![format!("Authorization: {text}")];
    let rows: [Row<'_>; 8] = [
        ("nothing shown", known(), vec![], false),
        ("nothing shown to an open gate", both(), vec![], false),
        ("a wrong token", known(), field("Bearer wrong"), false),
        ("a wrong token at an open gate", both(), field("Bearer wrong"), false),
        ("another scheme", known(), field(&format!("Basic {bare}")), false),
        ("Bearer", known(), field(&format!("Bearer {bare}")), true),
        ("bearer, at an open gate", both(), field(&format!("bearer {bare}")), true),
        ("FlespiToken", known(), field(&format!("FlespiToken {bare}")), true),
    ];
    for (name, gate, fields, opens) in rows {
        let broker = Broker::builder()
            .auth(gate)
            .listen("http://127.0.0.1:0")
            .listen("http://127.0.0.1:0?proxy=v2&trusted=127.0.0.1")
            .start()
            .unwrap();
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        let on_the_spot = get(broker.addresses()[0].1, "/metrics", &fields);
        assert_eq!(on_the_spot.status, 200, "{name}");
        let mut from_afar = tcp(broker.addresses()[1].1);
        from_afar.write_all(b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\n").unwrap();
        let answer = request(&mut from_afar, "GET", "/metrics", &fields);
        assert_eq!(answer.status, if opens { 200 } else { 401 }, "{name}");
        assert_eq!(answer.head.contains("www-authenticate: bearer"), !opens, "{name}");
    }
}

#[test]
fn metrics_count_what_happens() {
    let broker = broker();
    let http = address(&broker, Scheme::Http);
    let mut stream = websocket(tcp(http), "/");
    try_all(&mut stream, "counted");
    let answer = get(http, "/metrics", &[]);
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"));
    for line in [
        "longshore_connections 1",
        "longshore_connections_waiting 1",
        "longshore_sessions 1",
        "longshore_subscriptions 1",
        "longshore_received_total{qos=\"0\"} 1",
        "longshore_sent_total{qos=\"0\"} 1",
        "longshore_dropped_total{cause=\"too_large\"} 0",
        "# TYPE longshore_turn_seconds histogram",
    ] {
        assert!(answer.body.lines().any(|it| it == line), "{line} is not in\n{}", answer.body);
    }
}

#[test]
fn a_head_without_end_is_refused() {
    let broker = broker();
    let mut stream = tcp(address(&broker, Scheme::Http));
    let _ = stream.write_all(b"GET / HTTP/1.1\r\n");
    for _ in 0..10_000 {
        if stream.write_all(b"X-More: and more and more and more\r\n").is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    assert_eq!(get(address(&broker, Scheme::Http), "/health", &[]).status, 200);
}
