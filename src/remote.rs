//! The REST API of a running broker, from outside.

use std::time::Duration;

use serde_json::Value;
use ureq::http::Request;

use crate::config::{Place, Problem};

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer.
const ANSWER_MAX: u64 = 1 << 30;

/// A broker's API, with the key to it.
pub(crate) struct Remote {
    agent: ureq::Agent,
    url: String,
    key: String,
}

impl Remote {
    pub(crate) fn new(url: &str, key: &str) -> Result<Self, Problem> {
        if !url.starts_with("http://") {
            let what = "is no http:// URL: TLS is not spoken here, so take a listener on the \
                        loopback, or another client of HTTP";
            return Err(everywhere(format!("--url {url} {what}")));
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build();
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { agent: config.into(), url, key: key.to_owned() })
    }

    /// The objects that a call gives; the first error if it gives any.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        cid: Option<u64>,
        body: Option<&Value>,
    ) -> Result<Vec<Value>, Problem> {
        let failed = |what: String| everywhere(format!("{}: {what}", self.url));
        let url = format!("{}{path}", self.url);
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header("Authorization", format!("FlespiToken {}", self.key))
            .header("x-flespi-app", "longshore");
        if let Some(cid) = cid {
            request = request.header("x-flespi-cid", cid);
        }
        let body = body.map_or_else(String::new, Value::to_string);
        let request = request.body(body).map_err(|error| failed(error.to_string()))?;
        let answer = self.agent.run(request).map_err(|error| failed(error.to_string()))?;
        let status = answer.status();
        let text = answer.into_body().with_config().limit(ANSWER_MAX).read_to_string();
        let text = text.map_err(|error| failed(error.to_string()))?;
        let mut answer: Value = serde_json::from_str(&text)
            .map_err(|_| failed(format!("this is no Longshore: it answers {status}")))?;
        if let Some(reason) = answer["errors"][0]["reason"].as_str() {
            return Err(failed(reason.to_owned()));
        }
        match answer["result"].take() {
            Value::Array(objects) => Ok(objects),
            _ => Err(failed(format!("this is no Longshore: it answers {status}"))),
        }
    }
}

fn everywhere(what: String) -> Problem {
    Problem { place: Place::Everywhere, what }
}
