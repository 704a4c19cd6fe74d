//! REST over MQTT (broker specification, 16).

use longshore_broker::Dialect;
use longshore_codec::{Packet, PacketId, Properties, Property, Publish, QoS};
use serde_json::{Value, json};

use super::client::Rig;
use super::mqtt_client::{Ask, Client, Got};

/// A broker that has it.
fn rig() -> Rig {
    let mut dialect = Dialect::default();
    dialect.rest_over_mqtt = true;
    Rig::speaking(dialect)
}

/// The code of the answer to a PUBLISH with these properties.
fn publish(
    client: &mut Client,
    topic: &str,
    body: &str,
    properties: &[Property<'_>],
    qos: QoS,
) -> Option<u8> {
    let mut block = Vec::new();
    properties.iter().for_each(|property| property.append(&mut block));
    client.send(&Packet::Publish(Publish {
        dup: false,
        qos,
        retain: true,
        topic: topic.as_bytes(),
        packet_id: (qos != QoS::AtMostOnce).then_some(PacketId::MIN),
        properties: Properties::from_raw(&block),
        payload: body.as_bytes(),
    }));
    (qos != QoS::AtMostOnce).then(|| client.answer().code())
}

/// Topic, status and JSON of the next message.
fn answer(client: &mut Client) -> (String, String, Value) {
    let got = client.next().expect("an answer");
    let status = got.named("status").unwrap_or_default().to_owned();
    match got {
        Got::Message { topic, payload, retain, .. } => {
            assert!(!retain);
            (topic, status, serde_json::from_str(&payload).unwrap())
        }
        Got::Packet(..) => panic!("{got:?}"),
    }
}

/// Broker specification, 16.1 and 16.3.
#[test]
fn a_call_that_names_a_response_topic_is_answered_there() {
    let rig = rig();
    let key = rig.token(1, &json!({"type": 1})).1;
    let mut client = Client::connect(&rig.broker, &Ask::with(&key, "caller"));
    assert_eq!(client.subscribe("answers/+"), 1);
    let cid = rig.account(1).to_string();
    let one = json!([{"name": "l"}]).to_string();
    let rows = [
        ("post/platform/limits?fields=id", &*one, "200", json!({"result": [{"id": 1}]})),
        ("get/platform/limits/1?fields=name", "", "200", json!({"result": [{"name": "l"}]})),
        (
            "put/platform/limits/1?fields=name",
            "{\"name\":\"m\"}",
            "200",
            json!({"result": [{"name": "m"}]}),
        ),
        ("delete/platform/limits/1", "", "200", json!({"result": [1]})),
    ];
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        let call = "flespi/rest/get/auth/info?fields=cid";
        let properties = [Property::ResponseTopic("answers/1"), Property::CorrelationData(b"7")];
        publish(&mut client, call, "", &properties, qos);
        let got = client.next().expect("an answer");
        assert_eq!((got.named("status"), got.named("correlation")), (Some("200"), Some("7")));
    }
    let to = Property::ResponseTopic("answers/1");
    for (path, body, status, want) in rows {
        let code =
            publish(&mut client, &format!("flespi/rest/{path}"), body, &[to], QoS::AtLeastOnce);
        assert_eq!(code, Some(0x10), "{path}");
        assert_eq!(
            answer(&mut client),
            ("answers/1".to_owned(), status.to_owned(), want),
            "{path}"
        );
    }
    for (path, body, want) in [
        ("get/nothing", "", ("404", 6)),
        ("brew/auth/info", "", ("405", 7)),
        ("get/platform/limits/x", "", ("400", 2)),
        ("post/platform/limits", "{", ("400", 2)),
        ("get", "", ("404", 6)),
        ("", "", ("400", 2)),
        ("g t/x", "", ("400", 2)),
    ] {
        publish(&mut client, &format!("flespi/rest/{path}"), body, &[to], QoS::AtLeastOnce);
        let (_, status, json) = answer(&mut client);
        assert_eq!(
            (&*status, json["errors"][0]["code"].as_u64()),
            (want.0, Some(want.1)),
            "{path}"
        );
    }
    // For another account, as over HTTP.
    let cid = [to, Property::UserProperty("x-flespi-cid", &cid)];
    publish(&mut client, "flespi/rest/get/platform/customer?fields=id", "", &cid, QoS::AtLeastOnce);
    let (_, _, json) = answer(&mut client);
    assert_eq!(json["result"][0]["id"].to_string(), cid_of(&cid));
    let retained = rig.ask("GET /mqtt/messages/flespi%2Frest%2F%23", "").result();
    assert_eq!(retained, [] as [Value; 0], "calls are not retained");
}

fn cid_of(properties: &[Property<'_>]) -> String {
    match properties[1] {
        Property::UserProperty(_, value) => value.to_owned(),
        _ => panic!("a user property"),
    }
}

/// Broker specification, 16.3: nobody but the caller gets what it did not send elsewhere.
#[test]
fn other_calls_are_answered_to_their_client_alone() {
    let rig = rig();
    let key = rig.token(1, &json!({"type": 0})).1;
    let everything = "flespi/rest-response/#";
    let mut others = Client::connect(&rig.broker, &Ask::with(&rig.key, "other"));
    assert_eq!(others.subscribe(everything), 1);
    let mut client = Client::connect(&rig.broker, &Ask::with(&key, "caller").v3());
    assert_eq!(client.subscribe(everything), 1);
    client.publish("flespi/rest/get/auth/info?fields=cid", "");
    let topic = "flespi/rest-response/get/auth/info?fields=cid".to_owned();
    let want = (topic, String::new(), json!({"result": [{"cid": 1}]}));
    assert_eq!(answer(&mut client), want);
    client.publish("flespi/rest/get/platform/customer", "");
    assert_eq!(answer(&mut client).2["errors"][0]["code"], 5, "with the rights of its token");
    assert_eq!(others.messages(), [""; 0]);
}

/// Broker specification, 16.2 and 5.
#[test]
fn what_is_no_call_is_rejected_as_before() {
    let off = Rig::new();
    let mut client = Client::connect(&off.broker, &Ask::with(&off.key, "c"));
    assert_eq!(client.publish("flespi/rest/get/auth/info", "").code(), 0x87, "it is off");
    let rig = rig();
    let acl = json!({"type": 2, "acl": [
        {"uri": "mqtt", "topic": "mine/#", "actions": ["publish", "subscribe"]}]});
    let key = rig.token(1, &acl).1;
    let mut client = Client::connect(&rig.broker, &Ask::with(&key, "c"));
    client.subscribe("mine/#");
    let call = "flespi/rest/get/auth/info?fields=cid";
    for (topic, to, code) in [
        (call, "mine/1", 0x10),
        (call, "yours/1", 0x87),
        (call, "flespi/rest-response/x", 0x87),
        (call, "flespi/log/mqtt/x", 0x87),
        ("flespi/other/get/auth/info", "mine/1", 0x87),
        ("flespi/rest", "mine/1", 0x87),
    ] {
        let to_topic = Property::ResponseTopic(to);
        let got = publish(&mut client, topic, "", &[to_topic], QoS::AtLeastOnce);
        assert_eq!(got, Some(code), "{topic} {to}");
    }
    assert_eq!(answer(&mut client).2["result"], json!([{"cid": 1}]));
    // REST itself publishes no calls.
    let body = json!({"topic": call, "payload": ""});
    assert_eq!(rig.ask("POST /mqtt/messages", body).refusal(), (403, 5));
}

/// Broker specification, 16 and 17.3.
#[test]
fn calls_that_come_as_messages_count_and_are_bounded() {
    let rig = rig();
    let child = rig.account(1);
    let key = rig.token(child, &json!({"type": 0})).1;
    let limit = rig.ask("POST /platform/limits", json!({"api_calls": 3})).ids()[0];
    let path = format!("PUT /platform/subaccounts/{child}");
    rig.ask(&path, json!({"limit_id": limit})).result();
    let mut client = Client::connect(&rig.broker, &Ask::with(&key, "caller"));
    client.subscribe("answers");
    let to = [Property::ResponseTopic("answers")];
    let call = "flespi/rest/get/auth/info?fields=cid";
    // The minute may end meanwhile.
    let statuses: Vec<_> = (0..8)
        .map(|_| {
            publish(&mut client, call, "", &to, QoS::AtLeastOnce);
            answer(&mut client).1
        })
        .collect();
    assert!(statuses.contains(&"200".to_owned()) && statuses.contains(&"429".to_owned()));
    rig.ask(&format!("DELETE /platform/limits/{limit}"), "").result();
    // Far more at once than wait: each is answered, or refused.
    for _ in 0..2_000 {
        publish(&mut client, call, "", &to, QoS::AtMostOnce);
    }
    client.publish("t", "x");
    let body = "x".repeat(2 << 20);
    // As long as so many are under way there is no room.
    while publish(&mut client, call, &body, &to, QoS::AtLeastOnce) == Some(0x97) {}
    let last = std::iter::from_fn(|| Some(answer(&mut client))).find(|it| it.1 == "413");
    assert_eq!(last.unwrap().2["errors"][0]["code"], 8);
}
