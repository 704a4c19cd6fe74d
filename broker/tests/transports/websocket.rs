//! WebSocket: sub-protocols, frames of any size, and what is refused.

use std::io::{Read, Write};

use longshore_broker::{Broker, Scheme};
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::{Message, WebSocket};

use super::client::{
    CONNACK, PINGREQ, PINGRESP, SUBACK, Stream, address, ask, connect, expect, is_closed, open,
    publish, subscribe, tcp, try_all, upgrade, websocket,
};

fn broker() -> Broker {
    open().listen("ws://127.0.0.1:0").listen("http://127.0.0.1:0").start().unwrap()
}

/// [MQTT-6.0.0-4], [MQTT-6.0.0-4 v3.1.1].
#[test]
fn the_first_known_sub_protocol_is_agreed_on() {
    let rows: [(&[&str], Option<&str>); 8] = [
        (&["mqtt"], Some("mqtt")),
        (&["mqttv3.1"], Some("mqttv3.1")),
        (&["mqttv3.1, mqtt"], Some("mqttv3.1")),
        (&["mqtt ,mqttv3.1"], Some("mqtt")),
        (&["soap, mqtt"], Some("mqtt")),
        (&["soap", "mqtt"], Some("mqtt")),
        (&["soap"], None),
        (&[], None),
    ];
    let broker = broker();
    for (offered, want) in rows {
        // By hand: a client that offers what it does not know would not go on.
        let mut stream = tcp(address(&broker, Scheme::Ws));
        let offers = offered.iter().map(|it| format!("Sec-WebSocket-Protocol: {it}\r\n"));
        let request = format!(
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{}\r\n",
            offers.collect::<String>()
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(0);
            let at = answer.len() - 1;
            stream.read_exact(&mut answer[at..]).unwrap();
        }
        let answer = String::from_utf8(answer).unwrap().to_lowercase();
        assert!(answer.starts_with("http/1.1 101 "), "{answer}");
        assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
        let agreed = answer.split_once("sec-websocket-protocol: ");
        let agreed = agreed.and_then(|(_, rest)| rest.split("\r\n").next());
        assert_eq!(agreed, want, "{offered:?}");
    }
}

#[test]
fn every_path_leads_to_mqtt() {
    let broker = broker();
    for scheme in [Scheme::Ws, Scheme::Http] {
        for path in ["/", "/mqtt", "/health", "/metrics", "/a/b?c=d"] {
            try_all(&mut websocket(tcp(address(&broker, scheme)), path), "anywhere");
        }
    }
}

/// [MQTT-6.0.0-2], [MQTT-6.0.0-2 v3.1.1].
#[test]
fn packets_are_split_and_merged_over_frames_in_any_way() {
    let broker = broker();
    let mut stream = websocket(tcp(address(&broker, Scheme::Ws)), "/");
    for byte in connect("split") {
        stream.write_all(&[byte]).unwrap();
    }
    expect(&mut stream, &CONNACK);

    let message = publish("t", b"merged");
    let together = [&subscribe("t")[..], &message, &PINGREQ, &message].concat();
    ask(&mut stream, &together, &[&SUBACK[..], &message, &PINGRESP, &message].concat());

    // One message of frames that end anywhere, with a ping and an empty frame in between.
    let long = publish("t", &[7; 3_000]);
    let binary = |bytes: &[u8], opcode, is_final| {
        Message::Frame(Frame::message(bytes.to_vec(), OpCode::Data(opcode), is_final))
    };
    let socket = &mut stream.0;
    socket.send(binary(&long[..1], Data::Binary, false)).unwrap();
    socket.send(Message::Ping(vec![1, 2, 3].into())).unwrap();
    socket.send(binary(&[], Data::Continue, false)).unwrap();
    socket.send(binary(&long[1..2_000], Data::Continue, false)).unwrap();
    socket.send(binary(&long[2_000..], Data::Continue, true)).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong(vec![1, 2, 3].into()));
    expect(&mut stream, &long);
}

#[test]
fn a_ping_is_answered_before_and_after_connect() {
    let broker = broker();
    let mut stream = websocket(tcp(address(&broker, Scheme::Ws)), "/");
    for connected in [false, true] {
        if connected {
            ask(&mut stream, &connect("pinged"), &CONNACK);
        }
        for payload in [&b""[..], &[9; 125]] {
            stream.0.send(Message::Ping(payload.to_vec().into())).unwrap();
            assert_eq!(stream.0.read().unwrap(), Message::Pong(payload.to_vec().into()));
        }
    }
}

#[test]
fn a_close_frame_is_answered_with_its_code() {
    let broker = broker();
    for code in [1000, 1001, 3333].map(CloseCode::from) {
        let mut stream = websocket(tcp(address(&broker, Scheme::Ws)), "/");
        ask(&mut stream, &connect("closing"), &CONNACK);
        stream.0.close(Some(CloseFrame { code, reason: "enough".into() })).unwrap();
        assert_eq!(close_code(&mut stream.0), Some(code));
    }
}

/// The code of the close frame that comes next.
fn close_code(socket: &mut WebSocket<impl Stream>) -> Option<CloseCode> {
    loop {
        match socket.read() {
            Ok(Message::Close(frame)) => return frame.map(|frame| frame.code),
            Ok(_) => {}
            Err(_) => return None,
        }
    }
}

#[test]
fn a_disconnect_is_followed_by_a_close_frame() {
    let broker = broker();
    let mut stream = websocket(tcp(address(&broker, Scheme::Ws)), "/");
    ask(&mut stream, &connect("leaving"), &CONNACK);
    stream.write_all(&[0xe0, 0]).unwrap();
    assert_eq!(close_code(&mut stream.0), Some(CloseCode::Normal));
}

/// [MQTT-6.0.0-1], [MQTT-6.0.0-1 v3.1.1], and RFC 6455.
#[test]
fn what_is_no_binary_frame_of_a_client_ends_the_connection() {
    let rows: [(&str, &[u8], CloseCode); 11] = [
        ("text", &[0x81, 0x81, 0, 0, 0, 0, b'x'], CloseCode::Unsupported),
        ("the start of a text", &[0x01, 0x81, 0, 0, 0, 0, b'x'], CloseCode::Unsupported),
        ("no mask", &[0x82, 1, 0xc0], CloseCode::Protocol),
        ("a reserved bit", &[0xc2, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
        ("a reserved opcode", &[0x83, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
        ("a continuation of nothing", &[0x80, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
        (
            "a message within a message",
            &[0x02, 0x80, 0, 0, 0, 0, 0x82, 0x80, 0, 0, 0, 0],
            CloseCode::Protocol,
        ),
        ("a split ping", &[0x09, 0x80, 0, 0, 0, 0], CloseCode::Protocol),
        ("a long ping", &[0x89, 0xfe, 0, 126, 0, 0, 0, 0], CloseCode::Protocol),
        (
            "more than there can be",
            &[0x82, 0xff, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0],
            CloseCode::Protocol,
        ),
        ("half a code", &[0x88, 0x81, 0, 0, 0, 0, 3], CloseCode::Protocol),
    ];
    let broker = broker();
    let mut other = websocket(tcp(address(&broker, Scheme::Ws)), "/");
    ask(&mut other, &connect("other"), &CONNACK);
    for (name, bytes, code) in rows {
        let mut stream = websocket(tcp(address(&broker, Scheme::Ws)), "/");
        ask(&mut stream, &connect("breaking"), &CONNACK);
        stream.0.get_mut().write_all(bytes).unwrap();
        assert_eq!(close_code(&mut stream.0), Some(code), "{name}");
        assert!(is_closed(stream.0.get_mut()), "{name}");
        ask(&mut other, &PINGREQ, &PINGRESP);
    }
}

/// A frame may announce what it likes: nothing is reserved for it, its bytes count as they come.
#[test]
fn an_endless_frame_carries_packets() {
    let broker = broker();
    let mut stream = tcp(address(&broker, Scheme::Ws));
    let (mut socket, _) = upgrade(&mut stream, "/", &["mqtt"]).unwrap();
    let header = [0x82, 0xff, 127, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0];
    let socket_bytes = socket.get_mut();
    socket_bytes.write_all(&header).unwrap();
    socket_bytes.write_all(&connect("endless")).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Binary(CONNACK.to_vec().into()));
    socket.get_mut().write_all(&PINGREQ).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Binary(PINGRESP.to_vec().into()));
}

/// Some clients do not wait for the answer to their handshake.
#[test]
fn frames_behind_the_handshake_are_not_lost() {
    let broker = broker();
    let mut stream = tcp(address(&broker, Scheme::Ws));
    let mut early = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    let packet = connect("early");
    early.extend_from_slice(&[0x82, 0x80 | packet.len() as u8, 0, 0, 0, 0]);
    early.extend_from_slice(&packet);
    stream.write_all(&early).unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(&CONNACK) {
        answer.push(0);
        let at = answer.len() - 1;
        stream.read_exact(&mut answer[at..]).unwrap();
    }
    assert!(answer.starts_with(b"HTTP/1.1 101 "));
}
