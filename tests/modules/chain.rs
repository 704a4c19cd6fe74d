//! A stream into a channel.

use serde_json::json;

use super::hub::Hub;
use super::rest::{id, query};
use super::tracker::Tracker;

/// R10.3: the format of the one is that of the other.
#[test]
fn a_stream_into_a_channel_makes_its_messages_those_of_the_other_channel() {
    let hub = Hub::new();
    let broker = hub.start(&[]);
    let rest = hub.rest(&broker);
    let ((from, trackers), (to, address)) = (rest.channel("wialon_ips"), rest.channel("http"));
    let uri = format!("http://{address}/");
    let stream = json!({"name": "chain", "configuration": {"protocol": "http", "uri": uri}});
    let stream = id(&rest.make("/gw/streams", &stream));
    rest.list("POST", &format!("/gw/streams/{stream}/channels/{from}"), &json!(null));
    let mut tracker = Tracker::new("chained".to_owned(), 1);
    tracker.work(trackers, |it| it.acknowledged.len() >= 3);
    let data = query(&json!({"curr_key": 0}));
    let path = |channel: u64| format!("/gw/channels/{channel}/messages?{data}");
    let sent = rest.await_all(&path(from), tracker.acknowledged.len());
    let came = rest.await_all(&path(to), sent.len());
    assert_eq!(came.len(), sent.len());
    for (sent, came) in sent.iter().zip(&came) {
        for same in ["ident", "timestamp", "n", "position.latitude"] {
            assert_eq!(sent[same], came[same], "{same}");
        }
        assert_eq!((&sent["channel.id"], &came["channel.id"]), (&json!(from), &json!(to)));
        assert_ne!(sent["protocol.id"], came["protocol.id"]);
    }
}
