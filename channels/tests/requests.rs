//! What comes as JSON, in a query or in a form: HTTP, MQTT and OsmAnd channels (R10).

#[path = "bodies/device.rs"]
#[expect(dead_code, reason = "a protocol of requests needs a part of it")]
mod device;

use device::{object, post, requests};
use longshore_channels::protocol::{CloseCode, Error, Intake, Request, http, mqtt, osmand};
use serde_json::{Value, json};

fn read_http(configuration: &Value, body: &str) -> Result<Vec<Value>, Error> {
    let step = requests(&http::PROTOCOL, configuration).request(&post("", body.as_bytes()))?;
    assert!(step.reply.is_empty() && step.ident.is_none());
    Ok(step.messages.iter().map(object).collect())
}

fn read_osmand(query: &str, body: &str) -> Result<Value, Error> {
    let step = requests(&osmand::PROTOCOL, &json!({})).request(&post(query, body.as_bytes()))?;
    assert_eq!((step.messages.len(), step.reply.len()), (1, 0));
    Ok(object(&step.messages[0]))
}

/// R10.1, R10.5.
#[test]
fn a_body_is_a_list_of_messages_or_one() {
    let one = r#"{"ident":"nodejs-fetch-example","timestamp":1702366832.965264,
        "message.type":"example","driver.message":"Hello, flespi!","battery":"ok"}"#;
    let want = json!({"ident": "nodejs-fetch-example", "timestamp": 1_702_366_832.965_264,
        "message.type": "example", "driver.message": "Hello, flespi!", "custom.battery": "ok"});
    assert_eq!(read_http(&json!({}), one).unwrap(), vec![want.clone()]);
    let list = format!("[{one},{one}]");
    assert_eq!(read_http(&json!({}), &list).unwrap(), [want.clone(), want]);
    assert_eq!(read_http(&json!({}), "[]").unwrap(), [] as [Value; 0]);
    for (timestamp, want) in [
        ("\"2018-02-14T00:28:07\"", json!(1_518_568_087)),
        ("\"2018-02-14T00:28:07Z\"", json!(1_518_568_087)),
        ("1702366832", json!(1_702_366_832)),
    ] {
        let body = format!(r#"{{"ident":"a","timestamp":{timestamp}}}"#);
        assert_eq!(read_http(&json!({}), &body).unwrap()[0]["timestamp"], want);
    }
    assert_eq!(read_http(&json!({}), r#"{"ident":7}"#).unwrap()[0]["ident"], "7");
}

/// R10.3: what a stream of another hub sends has parameters of that hub.
#[test]
fn what_another_hub_says_of_a_message_is_left_out() {
    let body = r#"[{"channel.id":1190401,"device.id":5537057,"device.name":"SomeName",
        "device.type.id":1272,"ident":"1","indication.mode":"A","message.type":"D0",
        "peer":"1.2.3.4:5","position.altitude":398.7,"position.hdop":0.97,
        "position.latitude":-17.724326,"position.longitude":-63.171542,"position.satellites":11,
        "position.valid":true,"protocol.id":200,"server.timestamp":1706760560.319966,
        "timestamp":1706760559,"vendor.code":"OM","custom.x":{"y":[1.5]},"custom.z":null}]"#;
    let want = json!({"ident": "1", "timestamp": 1_706_760_559, "custom.indication.mode": "A",
        "message.type": "D0", "position.altitude": 398.7, "position.hdop": 0.97,
        "position.latitude": -17.724326, "position.longitude": -63.171542,
        "position.satellites": 11, "position.valid": true, "vendor.code": "OM",
        "custom.x": {"y": [1.5]}});
    assert_eq!(read_http(&json!({}), body).unwrap(), [want]);
}

/// R10.2.
#[test]
fn a_channel_says_where_messages_are_and_what_their_members_mean() {
    let configuration = json!({"path": "data.messages", "ident": "imei", "skip_invalid": true,
        "parameters": {"t": "timestamp", "temp": "sensor.temperature",
            "lat": "position.latitude"}});
    let body = r#"{"data": {"messages": [{"imei": "1", "t": 1702366832, "temp": 3.0, "lat": 1},
        {"ident": "2"}, 7, {"imei": "3", "ident": "4"}]}}"#;
    let request = requests(&http::PROTOCOL, &configuration);
    let step = request.request(&post("", body.as_bytes())).unwrap();
    let want = [
        json!({"ident": "1", "timestamp": 1_702_366_832, "sensor.temperature": 3,
            "position.latitude": 1}),
        json!({"ident": "3", "timestamp": null}),
    ];
    assert_eq!(step.messages.iter().map(object).collect::<Vec<_>>(), want);
    assert_eq!(step.fault.unwrap().to_string(), "message 1: it has no `imei`");
    let names = |count: usize| -> Value {
        (0..count).map(|at| (at.to_string(), json!("x"))).collect::<serde_json::Map<_, _>>().into()
    };
    assert!(http::PROTOCOL.configure(&json!({"parameters": names(128)})).is_ok());
    for (configuration, want) in [
        (json!({"parameters": names(129)}), "`parameters` has to be an object of texts"),
        (json!({"parameters": {"a": "peer"}}), "`parameters` has `peer`, which the hub sets"),
        (json!({"parameters": {"a": "b/c"}}), "`parameters` has `b/c`, which is no name"),
        (json!({"skip": true}), "`skip` is not known"),
    ] {
        let error = http::PROTOCOL.configure(&configuration).unwrap_err().to_string();
        assert!(error.starts_with(want), "{error}");
    }
}

/// R10.4, R1.7.
#[test]
fn a_body_that_cannot_be_read_is_refused_whole() {
    let many: String = (0..1_001).map(|at| format!(r#""{at}":1,"#)).collect();
    let many = format!(r#"{{{many}"ident":"a"}}"#);
    let bomb = format!("[{}{{}}]", r#"{"":0},"#.repeat(200_000));
    for (body, code, want) in [
        ("", CloseCode::Parse, "the JSON cannot be read: "),
        ("[{\"ident\":\"a\"}", CloseCode::Parse, "the JSON cannot be read: "),
        ("\"a\"", CloseCode::Parse, "messages are an object or a list of objects"),
        (&"[".repeat(200), CloseCode::Parse, "the JSON cannot be read: recursion limit"),
        (r#"[{"ident":"a"},[]]"#, CloseCode::Parse, "message 1: it is no object"),
        (r#"[{"ident":"a"},{}]"#, CloseCode::Parse, "message 1: it has no `ident`"),
        (r#"{"ident":1.5}"#, CloseCode::Parse, "message 0: `ident` is no text"),
        (
            r#"{"ident":"a/b"}"#,
            CloseCode::ProtocolViolation,
            "message 0: the ident has '/', which cannot stand in a topic",
        ),
        (r#"{"ident":"a","timestamp":999999}"#, CloseCode::Parse, "message 0: `timestamp` is"),
        (r#"{"ident":"a","timestamp":"now"}"#, CloseCode::Parse, "message 0: `timestamp` is"),
        (&many, CloseCode::ProtocolViolation, "message 0: the message has more than 1000 par"),
        (&bomb, CloseCode::ProtocolViolation, "the JSON has too many values"),
    ] {
        let error = read_http(&json!({}), body).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().starts_with(want), "{error}");
    }
    let get = Request { method: "GET", ..post("", b"[]") };
    assert!(requests(&http::PROTOCOL, &json!({})).request(&get).is_err());
}

/// R10.8, R10.9.
#[test]
fn a_position_is_read_from_a_query() {
    let want = json!({"ident": "123456", "timestamp": 1_377_177_267, "position.latitude": 60,
        "position.longitude": 30, "position.speed": 0, "position.direction": 0,
        "position.altitude": 0, "position.hdop": 0});
    let query = "id=123456&timestamp=1377177267&lat=60.0&lon=30.0&speed=0.0&bearing=0.0\
                 &altitude=0&hdop=0.0";
    assert_eq!(read_osmand(query, "").unwrap(), want);
    assert_eq!(read_osmand("", query).unwrap(), want);
    assert_eq!(read_osmand("id=123456&timestamp=1377177267", &query[30..]).unwrap(), want);

    let query = "id=861001000719969&lat=41.666667&lon=-0.883333&altitude=350.059479\
                 &speed=0.000000&batt=87";
    let want = json!({"ident": "861001000719969", "timestamp": null,
        "position.latitude": 41.666667, "position.longitude": -0.883333,
        "position.altitude": 350.059479, "position.speed": 0, "battery.level": 87});
    assert_eq!(read_osmand(query, "").unwrap(), want);

    let query = "deviceid=a&location=1.5,-2&speed=10&heading=90&accuracy=5.5&valid=1\
                 &driverUniqueId=007&cell=257,2,10,11,-70&cell=257,2,10,12&wifi=00-0a,-50\
                 &alarm=sos&n=42&z=007&f=1.50&b=true&timestamp=2013-08-22+13%3A14%3A27";
    let want = json!({"ident": "a", "timestamp": 1_377_177_267, "position.latitude": 1.5,
        "position.longitude": -2, "position.speed": 18.52, "position.direction": 90,
        "position.accuracy": 5.5, "position.valid": true, "custom.driverUniqueId": "007",
        "gsm.mcc": 257, "gsm.mnc": 2, "gsm.lac": 10, "gsm.cellid": 11, "gsm.signal.dbm": -70,
        "gsm.mcc.2": 257, "gsm.mnc.2": 2, "gsm.lac.2": 10, "gsm.cellid.2": 12,
        "custom.wifi.1.mac": "00-0a", "custom.wifi.1.rssi": -50, "custom.alarm": "sos",
        "custom.n": 42, "custom.z": "007", "custom.f": 1.5, "custom.b": true});
    assert_eq!(read_osmand(query, "").unwrap(), want);
    let timestamp = |text: &str| {
        read_osmand(&format!("id=a&timestamp={text}"), "").map(|it| it["timestamp"].clone()).ok()
    };
    assert_eq!(timestamp("1377177267123"), Some(json!(1_377_177_267.123)));
    assert_eq!(timestamp("2013-08-22T13:14:27Z"), Some(json!(1_377_177_267)));
    for wrong in ["0", "-1", "nan", "yesterday", "1e300"] {
        assert_eq!(timestamp(wrong), None, "{wrong}");
    }
}

/// R10.8: 400.
#[test]
fn a_position_that_is_none_is_refused() {
    for (query, want) in [
        ("timestamp=1377177267&lat=60.0&lon=30.0", "there is no `id`"),
        ("", "there is no `id`"),
        ("id=", "the ident is empty"),
        ("id=a&lat=x&lon=1", "`lat` is no number"),
        ("id=a&lat=91&lon=1", "91 and 1 are no latitude and longitude"),
        ("id=a&location=1", "`location` is not latitude,longitude"),
        ("id=a&speed=nan", "`speed` is no number"),
        ("id=a&cell=x", "`cell` is not mcc,mnc,lac,cid"),
    ] {
        assert_eq!(read_osmand(query, "").unwrap_err().to_string(), want, "{query}");
    }
    let put = Request { method: "PUT", ..post("id=a", b"") };
    assert!(requests(&osmand::PROTOCOL, &json!({})).request(&put).is_err());
    let knots = requests(&osmand::PROTOCOL, &json!({"speed_unit": "m/s"}));
    let step = knots.request(&post("id=a&speed=10", b"")).unwrap();
    assert_eq!(object(&step.messages[0])["position.speed"], 36);
}

/// R10.10.
#[test]
fn a_position_is_read_from_json() {
    let body = r#"{"location":{"timestamp":"2024-01-15T10:00:00.5Z","coords":{"latitude":52.5,
        "longitude":13.25,"accuracy":4,"speed":10,"heading":-1,"altitude":-3.5},"is_moving":true,
        "odometer":1234.5,"event":"motionchange","battery":{"level":0.29,"is_charging":false},
        "activity":{"type":"on_foot"},"extras":{"shift":"a/b","position.hdop":1.5}},
        "device_id":"48241179"}"#;
    let want = json!({"ident": "48241179", "timestamp": 1_705_312_800.5,
        "position.latitude": 52.5, "position.longitude": 13.25, "position.accuracy": 4,
        "position.speed": 36, "position.altitude": -3.5, "movement.status": true,
        "vehicle.mileage": 1.2345, "custom.event": "motionchange", "battery.level": 29,
        "battery.charging.status": false, "custom.activity.type": "on_foot",
        "custom.shift": "a/b", "position.hdop": 1.5});
    assert_eq!(read_osmand("", body).unwrap(), want);
    let headers = [("content-type", "application/json; charset=utf-8")];
    let request = Request { headers: &headers, ..post("", b" {\"device_id\": 7}") };
    let step = requests(&osmand::PROTOCOL, &json!({})).request(&request).unwrap();
    assert_eq!(object(&step.messages[0]), json!({"ident": "7", "timestamp": null}));
    for (body, want) in [
        ("{", "the JSON cannot be read: "),
        ("{}", "there is no `device_id`"),
        (r#"{"device_id":"a","location":{"timestamp":[]}}"#, "`timestamp` is neither"),
        (
            r#"{"device_id":"a","location":{"coords":{"latitude":99,"longitude":0}}}"#,
            "99 and 0 are no latitude and longitude",
        ),
        (&format!("{{{}", "\"a\":{},".repeat(2_000)), "the JSON has too many values"),
    ] {
        let error = read_osmand("", body).unwrap_err().to_string();
        assert!(error.starts_with(want), "{error}");
    }
}

/// R10.6.
#[test]
fn a_publication_holds_messages_and_its_topic_may_be_their_ident() {
    let publications = |configuration| match mqtt::PROTOCOL.configure(&configuration) {
        Ok(Intake::Publications(publications)) => Ok(publications),
        Ok(other) => panic!("no publications: {other:?}"),
        Err(error) => Err(error.to_string()),
    };
    let own = publications(json!({"token": "key", "topics": ["a/#", "b"]})).unwrap();
    assert_eq!(own.source, mqtt::Source::Own { token: "key".to_owned() });
    assert_eq!(own.topics, ["a/#", "b"]);
    let step = own.publication("a/b", br#"[{"ident":"1","x":1},{"ident":"2"}]"#).unwrap();
    assert_eq!(object(&step.messages[0]), json!({"ident": "1", "timestamp": null, "custom.x": 1}));
    assert_eq!(step.messages.len(), 2);

    let custom = publications(json!({"source": "custom", "uri": "host.example:1883",
        "topics": ["fleet/+/up"], "username": "u", "ident_level": 1}))
    .unwrap();
    let mqtt::Source::Custom { uri, ssl, username, .. } = &custom.source else { panic!() };
    assert_eq!((&**uri, ssl, username.as_deref()), ("host.example:1883", &false, Some("u")));
    let step = custom.publication("fleet/352/up", br#"{"x":1,"ident":"other"}"#).unwrap();
    assert_eq!(object(&step.messages[0])["ident"], "352");
    for (topic, want) in
        [("fleet", "the topic has no level 1"), ("fleet//up", "the ident is empty")]
    {
        assert_eq!(custom.publication(topic, b"{}").unwrap_err().to_string(), want);
    }
    for (configuration, want) in [
        (json!({"topics": ["a"]}), "`token` is missing"),
        (json!({"token": "key"}), "`topics` is missing"),
        (json!({"token": "key", "topics": ["a/#/b"]}), "`topics` has `a/#/b`: # is not the whole"),
        (json!({"source": "custom", "topics": ["a"]}), "`uri` is missing"),
        (json!({"source": "custom", "topics": ["a"], "uri": "host"}), "`uri` has to be a host"),
        (json!({"source": "custom", "topics": ["a"], "uri": "h:0"}), "`uri` has to be a host"),
    ] {
        let error = publications(configuration).unwrap_err();
        assert!(error.starts_with(want), "{error}");
    }
}
