//! A fleet: 100,000 devices of one account.

use serde_json::{Value, json};

use super::hub::Place;

const DEVICES: u64 = 100_000;

/// R2.10, chapter 9: lists stream, and a message finds its device, whatever their number.
#[test]
fn a_hundred_thousand_devices_are_listed_and_heard() {
    let place = Place::new();
    let hub = place.open();
    let device = |n: u64| json!({"name": "d", "device_type_id": 14, "ident": format!("i{n}")});
    for part in (0..DEVICES).collect::<Vec<_>>().chunks(10_000) {
        let devices: Vec<_> = part.iter().map(|n| device(*n)).collect();
        assert_eq!(hub.ask("POST /gw/devices?fields=id", json!(devices)).len(), part.len());
    }
    let all = hub.rig.ask("GET /gw/devices/all?fields=id,name", "");
    assert!(all.head.contains("transfer-encoding: chunked"), "it is written as it is read");
    assert_eq!(all.result().len() as u64, DEVICES);
    let page = hub.rig.ask("GET /gw/devices/all?limit=2&offset=99999", "").json();
    assert_eq!(page["pagination"], json!({"limit": 2, "offset": 99_999, "count": DEVICES}));
    assert_eq!(page["result"].as_array().unwrap().len(), 1);

    let heard = [0, 1, DEVICES / 2, DEVICES - 1];
    for n in heard {
        hub.say(&format!("i{n}"), json!({"n": n}));
    }
    for n in heard {
        let id = n + 1;
        hub.telemetry(id, "n", json!(n));
        assert_eq!(hub.history(id, "n"), [json!(n)]);
    }
    assert_eq!(
        hub.get("/gw/devices/configuration.ident=i77777?fields=id"),
        [json!({"id": 77_778})]
    );
    let telemetry = hub.rig.ask("GET /gw/devices/all/telemetry/n", "").result();
    let heard = |it: &&Value| !it["telemetry"].as_object().unwrap().is_empty();
    assert_eq!((telemetry.len() as u64, telemetry.iter().filter(heard).count()), (DEVICES, 4));
}
