//! The sink of ThingsBoard (R6.28 to R6.30), against mosquitto with the rights of a gateway.

use longshore_streams::{Outcome, Protocol, Sink};
use serde_json::{Value, json};

use crate::mosquitto::{Mosquitto, unwanted};
use crate::{message, sink};

/// What only the gateway with this token may publish, and only `reader` may read.
const RIGHTS: &str = "user A1_TEST\ntopic write v1/gateway/#\nuser reader\ntopic read #\n";

fn broker() -> (Mosquitto, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("acl");
    std::fs::write(&path, RIGHTS).unwrap();
    let broker = Mosquitto::start(&format!("acl_file {}\n", path.display()));
    broker.subscribe("#");
    (broker, folder)
}

fn sink_to(broker: &Mosquitto) -> longshore_streams::AnySink {
    let uri = format!("127.0.0.1:{}", broker.port);
    sink(Protocol::Thingsboard, &json!({"uri": uri, "access_token": "A1_TEST"}))
}

fn parsed((topic, payload): &(String, String)) -> (&str, Value) {
    (topic, serde_json::from_str(payload).unwrap())
}

/// R6.28, R6.29, R6.30.
#[tokio::test]
async fn devices_are_connected_once_and_their_telemetry_is_sent_together() {
    if unwanted() {
        return;
    }
    let (broker, _folder) = broker();
    let mut sink = sink_to(&broker);
    let batch = [
        message(&json!({"device.name": "Truck", "timestamp": 1.5, "can": {"rpm": 9}, "din": 1})),
        // Seed 000: a device that ThingsBoard does not know yet is told by its ident.
        message(&json!({"ident": "77", "timestamp": 2})),
        message(&json!({"device.name": "Truck", "timestamp": 3, "din": 2})),
        message(&json!({"device.name": "Truck", "din": 2})),
    ];
    let outcome = sink.send(&batch).await;
    assert_eq!((outcome.settled, outcome.skipped, outcome.failure), (4, 1, None));
    assert_eq!(sink.send(&batch[..1]).await, Outcome::accepted(1));
    let received = broker.received("#", 4);
    let truck =
        |ts: i64, din: i64| json!({"ts": ts, "values": {"device.name": "Truck", "din": din}});
    let mut first = truck(1_500, 1);
    first["values"]["can"] = json!(r#"{"rpm":9}"#);
    let telemetry = json!({
        "Truck": [first, truck(3_000, 2)], "77": [{"ts": 2_000, "values": {"ident": "77"}}],
    });
    let want = [
        ("v1/gateway/connect", json!({"device": "Truck"})),
        ("v1/gateway/connect", json!({"device": "77"})),
        ("v1/gateway/telemetry", telemetry),
        ("v1/gateway/telemetry", json!({"Truck": [first]})),
    ];
    assert_eq!(received.iter().map(parsed).collect::<Vec<_>>(), want);
}

/// A publication is of at most 64 KiB, which is what ThingsBoard takes.
#[tokio::test]
async fn a_large_batch_is_several_publications() {
    if unwanted() {
        return;
    }
    let (broker, _folder) = broker();
    let mut sink = sink_to(&broker);
    let text = "x".repeat(25_000);
    let one = |at: i64| message(&json!({"ident": "1", "timestamp": at, "text": text}));
    let large = message(&json!({"ident": "1", "timestamp": 0, "text": "x".repeat(70_000)}));
    let batch = [one(0), one(1), large, one(2), one(3), one(4)];
    let outcome = sink.send(&batch).await;
    assert_eq!((outcome.settled, outcome.skipped, outcome.failure), (6, 1, None));
    let received = broker.received("#", 4);
    assert!(received.iter().all(|(_, payload)| payload.len() < 65_536));
    let times: Vec<_> = received
        .iter()
        .map(parsed)
        .map(|(_, it)| {
            it["1"]
                .as_array()
                .map(|it| it.iter().map(|it| it["ts"].as_i64().unwrap()).collect::<Vec<_>>())
        })
        .collect();
    let want = [None, Some(vec![0, 1_000]), Some(vec![2_000, 3_000]), Some(vec![4_000])];
    assert_eq!(times, want);
}
