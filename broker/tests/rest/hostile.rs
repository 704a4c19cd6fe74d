//! Clients that mean no good, or do not know better: a clear error for each, and bounded memory.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::{Value, json};

use super::client::{Answer, Rig, read, send};

/// Sends a head alone, with these fields.
fn begin(rig: &Rig, request: &str, fields: &[&str]) -> TcpStream {
    let mut stream = rig.open();
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let head =
        format!("{request} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n{fields}\r\n", rig.key);
    stream.write_all(head.as_bytes()).unwrap();
    stream
}

fn post(rig: &Rig, body: &[u8]) -> Answer {
    let authorization = format!("Authorization: {}", rig.key);
    send(&mut rig.open(), "POST /platform/tokens", &[&authorization], body)
}

#[test]
fn bodies_of_every_wrong_type_are_refused() {
    let rig = Rig::new();
    let rows: [(&[u8], (u16, u64)); 16] = [
        (b"", (400, 2)),
        (b"x", (400, 2)),
        (b"{", (400, 2)),
        (b"[", (400, 2)),
        (b"\"text\"", (400, 3)),
        (b"1", (400, 3)),
        (b"null", (400, 3)),
        (b"true", (400, 3)),
        (b"[1]", (400, 3)),
        (b"[null]", (400, 3)),
        (b"[[{}]]", (400, 3)),
        (b"[{}] x", (400, 2)),
        (b"\xff\xfe", (400, 2)),
        (b"{\"info\":\"\xff\"}", (400, 2)),
        (b"{\"ttl\":1e400}", (400, 2)),
        (b"info=a&ttl=60", (400, 2)),
    ];
    for (body, want) in rows {
        assert_eq!(post(&rig, body).refusal(), want, "{}", String::from_utf8_lossy(body));
    }
    let deep = "[".repeat(100_000);
    assert_eq!(post(&rig, deep.as_bytes()).refusal(), (400, 2));
    // Each field with a value of each type: refused or taken, never worse.
    let fields = [
        "info", "enabled", "expire", "ttl", "ips", "access", "metadata", "origins", "flags", "acl",
        "id", "cid", "key", "",
    ];
    let values = [
        json!(null),
        json!(true),
        json!(-1),
        json!(1.5),
        json!(u64::MAX),
        json!("x"),
        json!([]),
        json!([[]]),
        json!({}),
        json!({"type": 7}),
        json!({"type": 2, "acl": [7]}),
    ];
    for (field, value) in fields.iter().flat_map(|field| values.iter().map(move |it| (field, it))) {
        let mut body = json!({"ttl": 60});
        body[*field] = value.clone();
        for request in ["POST /platform/tokens", "PUT /platform/tokens/999"] {
            let answer = rig.ask(request, body.clone());
            assert!([200, 400, 404].contains(&answer.status), "{request} {body}: {answer:?}");
        }
    }
}

#[test]
fn a_body_over_the_limit_is_refused_by_its_announcement_and_by_its_bytes() {
    let rig = Rig::with(|limits| limits.request_bytes = 1_000, |_| {});
    let info =
        |length: usize| json!({"ttl": 60, "info": "", "metadata": {"a": "b".repeat(length)}});
    let overhead = info(0).to_string().len();
    assert_eq!(post(&rig, info(1_000 - overhead).to_string().as_bytes()).status, 200);
    assert_eq!(post(&rig, info(1_001 - overhead).to_string().as_bytes()).refusal(), (413, 8));
    // 100 MB announced, and not one of them sent.
    let mut stream = begin(&rig, "POST /platform/tokens", &["Content-Length: 104857600"]);
    assert_eq!(read(&mut stream, false).refusal(), (413, 8));
    // Nothing announced, and too much sent.
    let mut stream = begin(&rig, "POST /platform/tokens", &["Transfer-Encoding: chunked"]);
    for _ in 0..10 {
        let _ = stream.write_all(format!("80\r\n{}\r\n", "x".repeat(128)).as_bytes());
    }
    assert_eq!(read(&mut stream, false).refusal(), (413, 8));
}

#[test]
fn who_is_not_known_is_answered_before_a_byte_of_the_body_is_read() {
    let rig = Rig::new();
    for (request, status) in [("POST /platform/tokens", 401), ("POST /nothing", 404)] {
        for length in ["Content-Length: 104857600", "Transfer-Encoding: chunked"] {
            let mut stream = rig.open();
            let head = format!("{request} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            assert_eq!(read(&mut stream, false).status, status, "{request}, {length}");
        }
    }
    // Who sends all the same gets the answer.
    let mut stream = rig.open();
    let head = "POST /platform/tokens HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n";
    stream.write_all(&[head.as_bytes(), &[b'x'; 500_000]].concat()).unwrap();
    assert_eq!(read(&mut stream, false).refusal(), (401, 4));
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let rig = Rig::with(|limits| limits.request_secs = 1, |_| {});
    let mut stream = begin(&rig, "POST /platform/tokens", &["Content-Length: 10"]);
    stream.write_all(b"[").unwrap();
    assert_eq!(read(&mut stream, false).refusal(), (408, 9));
    assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0, "the connection is closed");
    // Cut off, there is nobody to be told; nothing is done by half.
    let mut stream = begin(&rig, "POST /platform/tokens", &["Content-Length: 100"]);
    stream.write_all(b"[{\"ttl\":60}]").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    assert_eq!(rig.ask("GET /platform/tokens/all", "").ids(), [1]);
}

#[test]
fn all_bodies_together_have_a_bound() {
    let rig = Rig::with(|limits| limits.request_bytes_total = 4_000, |_| {});
    let mut first = begin(&rig, "POST /platform/tokens", &["Content-Length: 5000"]);
    first.write_all(&[b' '; 4_000]).unwrap();
    // Until the first is read so far, the second may find room.
    let second = loop {
        let answer = post(&rig, "[{\"ttl\":60}]".as_bytes());
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!(second.refusal(), (503, 12));
    assert_eq!(rig.ask("GET /auth/info", "").status, 200, "who sends no body needs no room");
    first.write_all(&[b' '; 1_000]).unwrap();
    assert_eq!(read(&mut first, false).refusal(), (400, 2));
    assert_eq!(post(&rig, "[{\"ttl\":60}]".as_bytes()).status, 200, "the room is there again");
}

#[test]
fn a_selector_lists_up_to_10_000_numbers() {
    let rig = Rig::new();
    let list = |count: usize| vec!["1"; count].join(",");
    let many: Vec<_> = (0..10_000).map(|id| id.to_string()).collect();
    let answer = rig.ask(&format!("GET /platform/tokens/{}?fields=id", many.join(",")), "");
    assert_eq!((answer.status, answer.ids()), (200, vec![1]));
    assert_eq!(answer.json()["errors"].as_array().unwrap().len(), 9_999);
    assert_eq!(rig.ask(&format!("GET /platform/tokens/{}", list(10_000)), "").ids(), [1]);
    let answer = rig.ask(&format!("GET /platform/tokens/{}", list(10_001)), "");
    assert_eq!(answer.refusal(), (413, 8));
    let objects = Value::from(vec![json!({}); 10_001]);
    assert_eq!(rig.ask("POST /platform/limits", objects).refusal(), (413, 8));
}

#[test]
fn an_expression_that_takes_too_much_work_is_refused() {
    let rig = Rig::new();
    let text = "ab".repeat(250_000);
    let body = json!({"expression": "a ~ '*a?b?c*'", "input": [{"a": text}]});
    let began = std::time::Instant::now();
    let answer = rig.ask("POST /storage/expressions/test", body);
    assert!(answer.status == 200 || answer.status == 400, "{answer:?}");
    assert!(began.elapsed().as_secs() < 20);
    let body = json!({"expression": "(".repeat(60_000)});
    assert_eq!(rig.ask("POST /storage/expressions/test", body).refusal(), (400, 3));
}

#[test]
fn requests_that_are_no_http_do_no_harm() {
    let rig = Rig::new();
    let rows: [&[u8]; 8] = [
        b"\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /platform/tokens/all HTTP/9.9\r\n\r\n",
        b"GET http://x/platform/tokens/all HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /platform/tokens HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        b"POST /platform/tokens HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"CONNECT x:1 HTTP/1.1\r\n\r\n",
    ];
    for bytes in rows {
        let mut stream = rig.open();
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(&answer);
        let is_refused = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(is_refused, "{}: {answer}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(rig.ask("GET /auth/info", "").status, 200);
}
