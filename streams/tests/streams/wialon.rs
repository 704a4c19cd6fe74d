//! The sink that speaks Wialon Retranslator, and a server that reads it by its layout (section 13).

use longshore_streams::{Outcome, Protocol, Sink, failure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use crate::{message, messages, sink};

/// Reads a packet by the published layout, with no help of the code that wrote it.
fn decode(packet: &[u8]) -> Value {
    let end = packet.iter().position(|it| *it == 0).unwrap();
    let uid = String::from_utf8(packet[..end].to_vec()).unwrap();
    let big = |at: usize| i32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
    let (time, flags) = (big(end + 1), big(end + 5));
    let mut decoded = json!({"uid": uid, "time": time, "flags": flags});
    let mut rest = &packet[end + 9..];
    while !rest.is_empty() {
        assert_eq!(rest[..2], [0x0b, 0xbb]);
        let size = u32::from_be_bytes(rest[2..6].try_into().unwrap()) as usize;
        let (block, behind) = rest[6..].split_at(size);
        rest = behind;
        let end = 2 + block[2..].iter().position(|it| *it == 0).unwrap();
        let name = String::from_utf8(block[2..end].to_vec()).unwrap();
        let value = &block[end + 1..];
        let double = |at: usize| f64::from_le_bytes(value[at..at + 8].try_into().unwrap());
        let short = |at: usize| u16::from_be_bytes(value[at..at + 2].try_into().unwrap());
        let value = match block[1] {
            1 => json!(String::from_utf8_lossy(value).trim_end_matches('\0')),
            2 => json!([double(0), double(8), double(16), short(24), short(26), value[28]]),
            3 => json!(i32::from_be_bytes(value.try_into().unwrap())),
            4 => json!(double(0)),
            5 => json!(i64::from_be_bytes(value.try_into().unwrap())),
            other => panic!("type {other}"),
        };
        assert_eq!(
            block[0] == 1,
            matches!(&*name, "posinfo" | "avl_inputs" | "avl_outputs" | "avl_driver")
        );
        decoded[name] = value;
    }
    decoded
}

async fn packet(stream: &mut TcpStream) -> Option<Value> {
    let size = stream.read_u32_le().await.ok()?;
    let mut packet = vec![0; size as usize];
    stream.read_exact(&mut packet).await.ok()?;
    Some(decode(&packet))
}

/// A server that answers each packet with what `answers` has for it on that connection, until there
/// is nothing, and closes then.
async fn serve(answers: &'static [&'static [u8]]) -> (String, mpsc::UnboundedReceiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = listener.local_addr().unwrap().to_string();
    let (sender, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for answers in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            for answer in *answers {
                let Some(packet) = packet(&mut stream).await else { break };
                sender.send(packet).unwrap();
                stream.write_all(&[*answer]).await.unwrap();
            }
        }
    });
    (uri, received)
}

/// R6.24, R13.1 to R13.8.
#[tokio::test]
async fn a_server_reads_each_message_and_answers_it() {
    let (uri, mut received) = serve(&[&[0x11; 8]]).await;
    let mut sink = sink(Protocol::WialonRetranslator, &json!({"uri": uri, "ident": "my-%ident%"}));
    let batch = [
        message(&json!({
            "ident": "1", "timestamp": 1_706_760_559.9, "position.latitude": -17.724_326,
            "position.longitude": -63.171_542, "position.altitude": 398.7, "position.speed": 54,
            "position.direction": 326, "position.satellites": 11, "position.hdop": 0.97,
            "position.valid": true, "peer": "1.2.3.4:5", "din": 1, "dout": 2, "alarm.event": true,
            "ibutton.code": "0a", "channel.id": 1_190_401, "vehicle.mileage": 5_000_000_000_i64,
        })),
        message(&json!({"ident": "2"})),
        message(&json!({"ident": "3", "timestamp": 5})),
    ];
    let outcome = sink.send(&batch).await;
    assert_eq!((outcome.settled, outcome.skipped, outcome.failure), (3, 1, None));
    let want = json!({
        "uid": "my-1", "time": 1_706_760_559, "flags": 0x37,
        "posinfo": [-63.171_542, -17.724_326, 398.7, 54, 326, 11], "position.hdop": 0.97,
        "position.valid": 1, "peer": "1.2.3.4:5", "avl_inputs": 1, "avl_outputs": 2,
        "avl_driver": "0a", "channel.id": 1_190_401, "vehicle.mileage": 5_000_000_000_i64,
    });
    assert_eq!(received.recv().await.unwrap(), want);
    assert_eq!(received.recv().await.unwrap(), json!({"uid": "my-3", "time": 5, "flags": 0}));
    assert!(sink.is_connected());
}

/// R13.7, R6.24: what was answered is not sent again, what was not is.
#[tokio::test]
async fn a_disconnect_is_code_1_and_keeps_what_was_not_answered() {
    let (uri, mut received) = serve(&[&[0x11, 0x11], &[0x11; 8]]).await;
    let mut sink = sink(Protocol::WialonRetranslator, &json!({"uri": uri}));
    let batch = messages(5);
    let outcome = sink.send(&batch).await;
    assert_eq!((outcome.settled, outcome.failure.unwrap().code), (2, 1));
    sink.close();
    assert_eq!(sink.send(&batch[2..]).await, Outcome::accepted(3));
    for n in 0..5 {
        assert_eq!(received.recv().await.unwrap()["n"], n);
    }
}

/// R13.7.
#[tokio::test]
async fn an_answer_that_is_not_0x11_acknowledges_nothing() {
    let (uri, _received) = serve(&[&[0x11, 0x12]]).await;
    let mut sink = sink(Protocol::WialonRetranslator, &json!({"uri": uri}));
    let outcome = sink.send(&messages(3)).await;
    assert_eq!((outcome.settled, outcome.failure.unwrap().code), (1, failure::PROTOCOL));
}

/// A packet that has not left cannot have been answered, whatever a server says.
#[tokio::test]
async fn answers_to_what_was_not_sent_acknowledge_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = listener.local_addr().unwrap().to_string();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(&[0x11; 10]).await.unwrap();
        stream
    });
    let mut sink = sink(Protocol::WialonRetranslator, &json!({"uri": uri}));
    // More than all buffers on the way have room for.
    let text = "x".repeat(30 << 20);
    let batch = vec![message(&json!({"ident": "1", "timestamp": 1, "text": text})); 3];
    let outcome = sink.send(&batch).await;
    assert_eq!((outcome.settled, outcome.failure.unwrap().code), (0, failure::PROTOCOL));
    drop(server);
}

/// Event 402: a connection that ends between batches is noticed.
#[tokio::test]
async fn a_connection_that_ends_while_idle_is_noticed() {
    let (uri, _received) = serve(&[&[0x11]]).await;
    let mut sink = sink(Protocol::WialonRetranslator, &json!({"uri": uri}));
    assert_eq!(sink.send(&messages(1)).await, Outcome::accepted(1));
    sink.idle().await;
    assert!(!sink.is_connected());
}

/// A server that answers nothing until it has all must not wait for one that reads nothing until
/// it has written all.
#[tokio::test]
async fn a_batch_larger_than_all_buffers_is_written_while_answers_are_read() {
    static ANSWERS: [&[u8]; 1] = [&[0x11; 200]];
    let (uri, _received) = serve(&ANSWERS).await;
    let mut sink = sink(Protocol::WialonRetranslator, &json!({"uri": uri}));
    let text = "x".repeat(100_000);
    let one = message(&json!({"ident": "1", "timestamp": 1, "text": text}));
    let batch = vec![one; 200];
    assert_eq!(sink.send(&batch).await, Outcome::accepted(200));
}
