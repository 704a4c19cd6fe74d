//! The REST API of the broker under test.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use ureq::http::Request;

use super::clients::{LATE, PATIENCE};

/// Bytes of an answer: histories are read whole.
const ANSWER_MAX: u64 = 1 << 30;

/// Whoever has the master token.
pub(crate) struct Rest {
    agent: ureq::Agent,
    url: String,
    key: String,
}

impl Rest {
    /// The API of a broker with this master token.
    pub(crate) fn new(address: SocketAddr, key: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build();
        Self { agent: config.into(), url: format!("http://{address}"), key: key.to_owned() }
    }

    /// The whole answer, which must have no errors.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("Authorization", format!("FlespiToken {}", self.key))
            .body(body)
            .expect("paths of tests are right");
        let answer = self.agent.run(request).unwrap_or_else(|error| panic!("{path}: {error}"));
        let text = answer.into_body().with_config().limit(ANSWER_MAX).read_to_string();
        let text = text.unwrap_or_else(|error| panic!("{path}: {error}"));
        let answer: Value =
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("{path}: {text}"));
        assert!(answer["errors"].is_null(), "{method} {path}: {answer}");
        answer
    }

    /// The objects of an answer.
    pub(crate) fn list(&self, method: &str, path: &str, body: &Value) -> Vec<Value> {
        match self.ask(method, path, body)["result"].take() {
            Value::Array(objects) => objects,
            other => panic!("{method} {path}: {other}"),
        }
    }

    /// The same, once there are so many.
    pub(crate) fn await_all(&self, path: &str, count: usize) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let found = self.list("GET", path, &Value::Null);
            if found.len() >= count {
                return found;
            }
            assert!(begun.elapsed() < LATE, "{path} has {} and not {count}", found.len());
            sleep(Duration::from_millis(20));
        }
    }

    /// A channel of this protocol; its number, and where it listens.
    pub(crate) fn channel(&self, protocol: &str) -> (u64, SocketAddr) {
        let channel =
            self.make("/gw/channels", &json!({"name": protocol, "protocol_name": protocol}));
        let uri = channel["uri"].as_str().expect("it listens");
        let address = uri.trim_start_matches("http://").trim_end_matches('/');
        (id(&channel), address.parse().unwrap_or_else(|_| panic!("host and port: {uri}")))
    }

    /// A device that speaks Wialon IPS under this ident.
    pub(crate) fn device(&self, ident: &str) -> u64 {
        let types = "/gw/channel-protocols/all/device-types/all";
        let types = self.list("GET", types, &Value::Null);
        let is_generic = |it: &&Value| it["name"] == "wialon_ips_generic";
        let device_type = id(types.iter().find(is_generic).expect("there is one"));
        let device = json!({"name": ident, "device_type_id": device_type,
            "configuration": {"ident": ident}});
        id(&self.make("/gw/devices", &device))
    }

    /// What is made of one object.
    pub(crate) fn make(&self, path: &str, fields: &Value) -> Value {
        self.list("POST", path, &json!([fields])).remove(0)
    }
}

/// The number of an object.
pub(crate) fn id(object: &Value) -> u64 {
    object["id"].as_u64().unwrap_or_else(|| panic!("{object}"))
}

/// `data` as a part of a path.
pub(crate) fn query(data: &Value) -> String {
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    format!("data={}", data.to_string().bytes().map(escape).collect::<String>())
}
