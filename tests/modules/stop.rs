//! A hub that is asked to end.

use serde_json::{Value, json};

use super::hub::Hub;
use super::rest::id;

/// Sessions of modules end with the broker, which is nothing to warn of.
#[test]
fn a_clean_stop_warns_of_nothing() {
    let hub = Hub::new();
    let broker = hub.start(&[]);
    let rest = hub.rest(&broker);
    let (channel, _) = rest.channel("wialon_ips");
    rest.device("a");
    // With a link there is a session of streams, too.
    let stream = json!({"protocol_id": 1, "configuration": {"uri": "http://127.0.0.1:9/"}});
    let stream = id(&rest.make("/gw/streams", &stream));
    rest.list("POST", &format!("/gw/streams/{stream}/channels/{channel}"), &Value::Null);
    let mut warnings = broker.stop();
    warnings.retain(|line| line.contains("WARN") || line.contains("ERROR"));
    // The tests let anybody in, which is said at the start.
    warnings.retain(|line| !line.contains("without valid credentials"));
    assert!(warnings.is_empty(), "{warnings:#?}");
}
