//! Raw traffic of devices, which channels keep.

use base64::prelude::{BASE64_STANDARD, Engine};
use serde_json::{Value, json};

use super::hub::Hub;
use super::rest::query;
use super::tracker::Tracker;

/// R4.20: of an ident as it is spelled, in every channel of its protocol.
#[test]
fn raw_traffic_of_a_device_is_that_of_its_ident() {
    let hub = Hub::new();
    let broker = hub.start(&[]);
    let rest = hub.rest(&broker);
    let channels = [rest.channel("wialon_ips"), rest.channel("wialon_ips")];
    let settings = json!({"packets_ttl": 3600});
    rest.list("PUT", &format!("/gw/channels/{},{}", channels[0].0, channels[1].0), &settings);
    let devices = ["*", "twin"].map(|ident| (ident, rest.device(ident)));
    let silent = rest.device("silent");
    for (seed, (_, address)) in channels.into_iter().enumerate() {
        for (ident, _) in devices {
            let mut tracker = Tracker::new(ident.to_owned(), seed as u64);
            tracker.work(address, |it| !it.acknowledged.is_empty());
        }
    }
    let newest = query(&json!({"reverse": true, "count": 1}));
    for (ident, device) in devices {
        let logins = |packets: &[Value]| {
            let login = format!("#L#{ident};NA\r\n");
            let login = BASE64_STANDARD.encode(login);
            packets.iter().filter(|it| it["data"] == login && it["type"] == 2).count()
        };
        let path = format!("/gw/devices/{device}/packets");
        // A login and its answer, a message and its answer, of two connections.
        let packets = rest.await_all(&path, 8);
        assert!(packets.iter().all(|it| it["ident"] == ident), "{packets:?}");
        assert_eq!(logins(&packets), 2);
        assert!(channels.iter().all(|it| packets.iter().any(|p| p["channel_id"] == it.0)));
        let one = rest.list("GET", &format!("{path}?{newest}"), &Value::Null);
        assert_eq!(one.len(), 1);
        let sent = format!("{path}?{}", query(&json!({"filter": "type=3"})));
        let sent = rest.list("GET", &sent, &Value::Null);
        assert!(sent.len() >= 2 && sent.iter().all(|it| it["type"] == 3), "{sent:?}");
    }
    let all = format!("/gw/devices/all/packets?{newest}");
    assert_eq!(rest.list("GET", &all, &Value::Null).len(), devices.len());
    let none = format!("/registry/devices/{silent}/packets");
    assert_eq!(rest.list("GET", &none, &Value::Null), Vec::<Value>::new());
}
