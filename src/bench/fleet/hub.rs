//! What the fleet needs of the broker: a channel, a device for each tracker, a stream to the
//! platform; made over REST, and taken away again.

use std::net::{SocketAddr, ToSocketAddrs};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::platform::Platform;
use super::trackers::ident;
use super::{everywhere, say};
use crate::config::Problem;
use crate::remote::Remote;

/// Devices that one request makes, links or removes.
const BATCH: usize = 500;
/// How long the first message may take to the platform.
const PATIENCE: Duration = Duration::from_secs(15);

/// Objects of one run.
pub(super) struct Hub {
    remote: Remote,
    channel: Option<u64>,
    devices: Vec<u64>,
    stream: Option<u64>,
}

impl Hub {
    pub(super) fn new(url: &str, key: &str) -> Result<Self, Problem> {
        let remote = Remote::new(url, key)?;
        // Whether it is there and lets us in, before anything is made.
        remote.ask("GET", "/platform/tokens/all?fields=id", None, None).map_err(|problem| {
            everywhere(format!(
                "{problem}: name a running broker's http listener with --url, and a master token \
                 with --token or --data-dir"
            ))
        })?;
        Ok(Self { remote, channel: None, devices: Vec::new(), stream: None })
    }

    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Vec<Value>, Problem> {
        let asked = self.remote.ask(method, path, None, body);
        asked.map_err(|problem| everywhere(format!("{method} {}: {problem}", shortened(path))))
    }

    /// Makes one object; the object.
    fn make(&self, path: &str, fields: &Value) -> Result<(u64, Value), Problem> {
        let made = self.ask("POST", path, Some(&json!([fields])))?.into_iter().next();
        let made = made.unwrap_or_default();
        let id = made["id"].as_u64();
        id.map(|id| (id, made)).ok_or_else(|| everywhere(format!("POST {path} makes nothing")))
    }

    /// Makes the channel; where trackers connect to.
    pub(super) fn make_channel(&mut self) -> Result<SocketAddr, Problem> {
        let fields = json!({"name": "longshore bench", "protocol_name": "wialon_ips"});
        let (id, channel) = self.make("/gw/channels", &fields).map_err(|problem| {
            everywhere(format!("{problem}: does the broker run the module channels?"))
        })?;
        self.channel = Some(id);
        let uri = channel["uri"].as_str().unwrap_or_default();
        let address = uri.to_socket_addrs().ok().and_then(|mut all| all.next());
        address.ok_or_else(|| {
            everywhere(format!(
                "the channel listens at {uri:?}, which is no address: channels.host"
            ))
        })
    }

    /// Makes a device for each of so many trackers.
    pub(super) fn make_devices(&mut self, count: u32) -> Result<(), Problem> {
        let types = self.ask("GET", "/gw/channel-protocols/all/device-types/all", None);
        let types = types.map_err(|problem| {
            everywhere(format!("{problem}: does the broker run the module registry?"))
        })?;
        let generic = types.iter().find(|it| it["name"] == "wialon_ips_generic");
        let kind = generic.map_or(0, |it| it["id"].as_u64().unwrap_or_default());
        let device = |number: u32| {
            let ident = ident(number);
            json!({"name": ident, "device_type_id": kind, "configuration": {"ident": ident}})
        };
        let all: Vec<_> = (0..count).collect();
        for batch in all.chunks(BATCH) {
            let body = Value::Array(batch.iter().map(|number| device(*number)).collect());
            let made = self.ask("POST", "/gw/devices?fields=id", Some(&body))?;
            self.devices.extend(made.iter().filter_map(|it| it["id"].as_u64()));
            say(&format!("{} of {count} devices made", self.devices.len()));
        }
        Ok(())
    }

    /// Makes the stream, links it to all devices, and sees that it reaches the platform.
    pub(super) fn make_stream(&mut self, platform: &Platform) -> Result<(), Problem> {
        let uri = format!("http://{}/", platform.address);
        let configuration = json!({"protocol": "http", "uri": uri});
        let fields = json!({"name": "longshore bench", "configuration": configuration});
        let (stream, _) = self.make("/gw/streams", &fields).map_err(|problem| {
            everywhere(format!("{problem}: does the broker run the module streams?"))
        })?;
        self.stream = Some(stream);
        let probe = json!([{"ident": "probe", "timestamp": 1_000_000}]);
        self.ask("POST", &format!("/gw/streams/{stream}/messages"), Some(&probe))?;
        let begun = Instant::now();
        while platform.taken() == 0 {
            if begun.elapsed() > PATIENCE {
                return Err(self.why_not(stream, &uri));
            }
            sleep(Duration::from_millis(20));
        }
        for (at, batch) in self.devices.chunks(BATCH).enumerate() {
            self.ask("POST", &format!("/gw/streams/{stream}/devices/{}", list(batch)), None)?;
            say(&format!("{} devices linked to the stream", at * BATCH + batch.len()));
        }
        Ok(())
    }

    /// Why the platform was not reached, as the log of the stream has it.
    fn why_not(&self, stream: u64, uri: &str) -> Problem {
        let log = self.ask("GET", &format!("/gw/streams/{stream}/logs"), None).unwrap_or_default();
        let text = log.iter().rev().find_map(|it| it["error_text"].as_str());
        let text = text.unwrap_or("it says nothing of why");
        everywhere(format!(
            "the stream does not reach {uri}: {text}; a platform on the broker's own host takes \
             LONGSHORE_STREAMS__ALLOW=127.0.0.1 there"
        ))
    }

    /// Takes all of it away again, as far as it was made.
    pub(super) fn clean_up(&mut self) -> Result<(), Problem> {
        if let Some(stream) = self.stream.take() {
            self.ask("DELETE", &format!("/gw/streams/{stream}"), None)?;
        }
        while !self.devices.is_empty() {
            let batch = self.devices.split_off(self.devices.len().saturating_sub(BATCH));
            self.ask("DELETE", &format!("/gw/devices/{}", list(&batch)), None)?;
            say(&format!("{} devices left to remove", self.devices.len()));
        }
        if let Some(channel) = self.channel.take() {
            self.ask("DELETE", &format!("/gw/channels/{channel}"), None)?;
        }
        Ok(())
    }
}

/// Numbers as a selector.
fn list(ids: &[u64]) -> String {
    ids.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
}

/// A path that may name hundreds of objects, for people.
fn shortened(path: &str) -> String {
    match path.char_indices().nth(60) {
        Some((at, _)) => format!("{}...", &path[..at]),
        None => path.to_owned(),
    }
}
