//! The sink of AWS IoT (R6.25 to R6.27), against mosquitto with certificates.

use longshore_streams::{Outcome, Protocol, Sink};
use serde_json::{Value, json};

use crate::mosquitto::{Authority, Mosquitto, unwanted};
use crate::{message, sink};

fn sink_to(broker: &Mosquitto, more: &Value) -> longshore_streams::AnySink {
    let (certificate, key) = broker.authority().issue("thing");
    let mut configuration = json!({
        "endpoint": format!("localhost:{}", broker.port), "ca": broker.authority().pem,
        "certificate": certificate, "private_key": key,
    });
    configuration.as_object_mut().unwrap().extend(crate::object(more));
    sink(Protocol::AwsIot, &configuration)
}

/// R6.25, R6.27.
#[tokio::test]
async fn a_message_goes_to_its_topic_and_into_the_shadow_of_its_thing() {
    if unwanted() {
        return;
    }
    let broker = Mosquitto::start_tls(Authority::new());
    broker.subscribe("$aws/#");
    let masks = json!({"thing_name": "%device_name%", "mqtt_topic": "$aws/rules/r/%ident%"});
    let mut sink = sink_to(&broker, &masks);
    let body = json!({"device.name": "truck-1", "ident": "1", "timestamp": 100});
    assert_eq!(sink.send(&[message(&body)]).await, Outcome::accepted(1));
    let received = broker.received("$aws/#", 2);
    assert_eq!(received[0].0, "$aws/things/truck-1/shadow/update");
    let shadow: Value = serde_json::from_str(&received[0].1).unwrap();
    assert_eq!(shadow, json!({"state": {"reported": body}}));
    assert_eq!(received[1], ("$aws/rules/r/1".to_owned(), body.to_string()));
}

/// R6.27: AWS closes the connection for what it cannot take, so it is never sent.
#[tokio::test]
async fn what_no_shadow_can_take_is_skipped() {
    if unwanted() {
        return;
    }
    let broker = Mosquitto::start_tls(Authority::new());
    broker.subscribe("$aws/#");
    let mut sink = sink_to(&broker, &json!({"thing_name": "%device_name%"}));
    let of = |thing: &str, time: i64, text: &str| {
        message(&json!({"device.name": thing, "timestamp": time, "text": text}))
    };
    let large = "x".repeat(8 << 10);
    let batch = [
        of("a", 100, "1"),
        of("a", 99, "older"),
        of("a", 100, "2"),
        of("Truck 1", 100, "no name of a thing"),
        of("b", 100, &large),
        message(&json!({"device.name": "b"})),
        of("b", 50, "3"),
    ];
    let outcome = sink.send(&batch).await;
    assert_eq!((outcome.settled, outcome.skipped, outcome.failure), (7, 4, None));
    let outcome = sink.send(&[of("a", 99, "older"), of("b", 51, "4")]).await;
    assert_eq!((outcome.settled, outcome.skipped), (2, 1));
    let received = broker.received("$aws/#", 4);
    let texts = received.iter().map(|(_, payload)| {
        let shadow: Value = serde_json::from_str(payload).unwrap();
        shadow["state"]["reported"]["text"].as_str().unwrap().to_owned()
    });
    assert_eq!(texts.collect::<Vec<_>>(), ["1", "2", "3", "4"]);
}
