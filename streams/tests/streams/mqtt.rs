//! The sink that publishes to brokers (R6.22, R6.23), against mosquitto.

use longshore_streams::{Outcome, Protocol, Sink, failure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::mosquitto::{Authority, Mosquitto, unwanted};
use crate::{message, messages, sink};

/// R6.17, R6.18, R6.22.
#[tokio::test]
async fn each_message_is_published_to_each_topic_in_order() {
    if unwanted() {
        return;
    }
    let broker = Mosquitto::start("");
    broker.subscribe("#");
    let topics = json!(["channels/%channel_id%/device/%ident%", "all", "vin/%vehicle.vin%"]);
    let uri = format!("localhost:{}", broker.port);
    let mut sink = sink(Protocol::Mqtt, &json!({"uri": uri, "topics": topics}));
    let batch = [
        message(&json!({"ident": "1", "channel.id": 7, "vehicle.vin": "V"})),
        message(&json!({"ident": "2", "channel.id": 7, "vehicle.vin": "#"})),
    ];
    assert_eq!(sink.send(&batch).await, Outcome::accepted(2));
    let first = r#"{"channel.id":7,"ident":"1","vehicle.vin":"V"}"#;
    let second = "{\"channel.id\":7,\"ident\":\"2\",\"vehicle.vin\":\"#\"}";
    let want = [
        ("channels/7/device/1", first),
        ("all", first),
        ("vin/V", first),
        ("channels/7/device/2", second),
        ("all", second),
    ];
    let received = broker.received("#", want.len());
    let received: Vec<_> = received.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(received, want);
}

/// R6.18: also where nothing is left to send, which needs no connection.
#[tokio::test]
async fn a_message_without_a_topic_is_skipped() {
    let topics = json!(["%vehicle.vin%"]);
    let mut sink = sink(Protocol::Mqtt, &json!({"uri": "localhost:1", "topics": topics}));
    let batch = [message(&json!({"ident": "1"})), message(&json!({"vehicle.vin": "a+"}))];
    let outcome = sink.send(&batch).await;
    assert_eq!((outcome.settled, outcome.skipped, outcome.failure), (2, 2, None));
}

#[tokio::test]
async fn a_batch_of_thousands_is_published_within_a_window() {
    if unwanted() {
        return;
    }
    let broker = Mosquitto::start("max_queued_messages 0\n");
    broker.subscribe("all");
    let uri = format!("127.0.0.1:{}", broker.port);
    let mut sink = sink(Protocol::Mqtt, &json!({"uri": uri, "topics": ["all"]}));
    assert_eq!(sink.send(&messages(5_000)).await, Outcome::accepted(5_000));
    for (n, (_, payload)) in broker.received("all", 5_000).iter().enumerate() {
        assert_eq!(serde_json::from_str::<Value>(payload).unwrap()["n"], n);
    }
}

/// R6.22: `certificate` and `private_key`.
#[tokio::test]
async fn a_broker_of_tls_is_shown_a_certificate() {
    if unwanted() {
        return;
    }
    let broker = Mosquitto::start_tls(Authority::new());
    broker.subscribe("#");
    let (certificate, key) = broker.authority().issue("stream");
    let (foreign, foreign_key) = Authority::new().issue("stream");
    let whole = json!({
        "uri": format!("localhost:{}", broker.port), "ssl": true, "topics": ["a"],
        "ca": broker.authority().pem, "certificate": certificate, "private_key": key,
    });
    let with = |changes: Value| {
        let mut changed = whole.clone();
        changed.as_object_mut().unwrap().extend(crate::object(&changes));
        changed
    };
    let mut trusted = sink(Protocol::Mqtt, &whole);
    assert_eq!(trusted.send(&messages(3)).await, Outcome::accepted(3));
    assert_eq!(broker.received("#", 3).len(), 3);
    let rows = [
        ("no certificate", json!({"certificate": null, "private_key": null})),
        ("a foreign one", json!({"certificate": foreign, "private_key": foreign_key})),
        ("an unknown broker", json!({"ca": Authority::new().pem})),
        ("another name", json!({"uri": format!("127.0.0.1:{}", broker.port)})),
    ];
    for (name, changes) in rows {
        let failure = sink(Protocol::Mqtt, &with(changes)).send(&messages(1)).await.failure;
        assert_eq!(failure.unwrap().code, failure::CERTIFICATE, "{name}");
    }
}

/// R6.23.
#[tokio::test]
async fn what_connack_says_is_the_code() {
    for code in 1..=5_u8 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = listener.local_addr().unwrap().to_string();
        let broker = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut connect = [0; 1_024];
            let length = stream.read(&mut connect).await.unwrap();
            stream.write_all(&[0x20, 2, 0, code]).await.unwrap();
            String::from_utf8_lossy(&connect[..length]).into_owned()
        });
        let configuration = json!({
            "uri": uri, "topics": ["a"], "username": "me", "password": "hush", "client_id": "c1",
        });
        let outcome = sink(Protocol::Mqtt, &configuration).send(&messages(1)).await;
        let failure = outcome.failure.unwrap();
        assert_eq!((outcome.settled, failure.code), (0, i32::from(code)));
        assert!(!failure.text.contains("hush"), "{failure}");
        let connect = broker.await.unwrap();
        assert!(connect.contains("MQTT\u{4}") && connect.ends_with("c1\0\u{2}me\0\u{4}hush"));
    }
}

/// R6.22, R6.23: what was acknowledged is settled, what was not is sent again.
#[tokio::test]
async fn a_broker_that_goes_away_has_what_it_acknowledged() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut read = [0; 65_536];
        let _ = stream.read(&mut read).await.unwrap();
        stream.write_all(&[0x20, 2, 0, 0]).await.unwrap();
        let _ = stream.read(&mut read).await.unwrap();
        // Packets 2, 1 and 4, in this order: the first three of the batch are not all there.
        stream.write_all(&[0x40, 2, 0, 2, 0x40, 2, 0, 1, 0x40, 2, 0, 4]).await.unwrap();
    });
    let mut sink = sink(Protocol::Mqtt, &json!({"uri": uri, "topics": ["a"]}));
    let outcome = sink.send(&messages(5)).await;
    assert_eq!((outcome.settled, outcome.failure.unwrap().code), (2, failure::CLOSED));
    sink.close();
    let failure = sink.send(&messages(1)).await.failure.unwrap();
    assert_eq!(failure.code, failure::UNREACHABLE);
}

#[tokio::test]
async fn a_broker_that_comes_back_is_connected_to_again() {
    if unwanted() {
        return;
    }
    let mut broker = Mosquitto::start("");
    let uri = format!("127.0.0.1:{}", broker.port);
    let mut sink = sink(Protocol::Mqtt, &json!({"uri": uri, "topics": ["a"]}));
    assert_eq!(sink.send(&messages(1)).await, Outcome::accepted(1));
    broker.kill();
    sink.idle().await;
    assert!(!sink.is_connected(), "the loss is noticed between batches");
    assert_eq!(sink.send(&messages(1)).await.failure.unwrap().code, failure::UNREACHABLE);
    broker.restart();
    assert_eq!(sink.send(&messages(2)).await, Outcome::accepted(2));
}
