//! What a stream is configured with: fields with bounds, of which some are secrets.
//!
//! One table of [`Field`]s for each protocol says what is taken, what REST shows as JSON schema,
//! and what is kept apart and never shown.

use std::error::Error;
use std::fmt;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::target::Target;

/// A field of a configuration that cannot be taken, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationError {
    /// The field, as `configuration` names it.
    pub field: String,
    /// What is wrong, to be read behind the field. Never has a secret in it.
    pub text: String,
}

impl ConfigurationError {
    pub(crate) fn new(field: impl Into<String>, text: impl Into<String>) -> Self {
        Self { field: field.into(), text: text.into() }
    }
}

impl fmt::Display for ConfigurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` {}", self.field, self.text)
    }
}

impl Error for ConfigurationError {}

/// A text that is neither shown nor logged.
#[derive(Clone, Deserialize, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text, for whoever it is to be shown to.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A field of a configuration.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) kind: Kind,
    pub(crate) is_required: bool,
    /// Kept apart and never shown.
    pub(crate) is_secret: bool,
}

/// What a field takes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Boolean,
    /// A whole number within bounds.
    Number(u64, u64),
    /// A text of 1 to so many bytes, with no control characters.
    Text(usize),
    /// PEM of 1 to so many bytes.
    Pem(usize),
    /// `http://` or `https://`, at most 255 bytes (R6.19).
    Http,
    /// `host:port`.
    HostPort,
    /// `host`, or `host:port`.
    Host,
    /// 1 to so many texts of 1 to so many bytes.
    Texts(usize, usize),
    /// At most so many names and values.
    Headers(usize),
}

/// Bytes of a URI (R6.19), and of the value of a header.
const HTTP_MAX: usize = 255;
const HEADER_BYTES_MAX: usize = 4_096;

impl Field {
    pub(crate) const fn new(name: &'static str, title: &'static str, kind: Kind) -> Self {
        Self { name, title, kind, is_required: false, is_secret: false }
    }

    pub(crate) const fn required(self) -> Self {
        Self { is_required: true, ..self }
    }

    pub(crate) const fn secret(self) -> Self {
        Self { is_secret: true, ..self }
    }

    /// What is wrong with a value, if anything is. Quotes nothing of it.
    fn fault(&self, value: &Value) -> Option<String> {
        let text = |is_good: &dyn Fn(&str) -> bool| value.as_str().is_some_and(is_good);
        let is_line = |it: &str, max: usize| {
            !it.is_empty() && it.len() <= max && !it.contains(char::is_control)
        };
        let (is_good, wanted) = match self.kind {
            Kind::Boolean => (value.is_boolean(), "true or false".to_owned()),
            Kind::Number(min, max) => (
                value.as_u64().is_some_and(|it| (min..=max).contains(&it)),
                format!("a whole number from {min} to {max}"),
            ),
            Kind::Text(max) => {
                (text(&|it| is_line(it, max)), format!("a text of 1 to {max} bytes in one line"))
            }
            Kind::Pem(max) => {
                (text(&|it| !it.is_empty() && it.len() <= max), format!("PEM of 1 to {max} bytes"))
            }
            Kind::Http => (
                text(&|it| is_line(it, HTTP_MAX) && is_http(it)),
                format!(
                    "`http://` or `https://`, a host and a path, of at most {HTTP_MAX} bytes and \
                     with no user or password; a header can have those"
                ),
            ),
            Kind::HostPort => (
                text(&|it| Target::parse(it, None).is_some()),
                "a host and a port, as in `iot.example.com:1883`".to_owned(),
            ),
            Kind::Host => (
                text(&|it| Target::parse(it, Some(1)).is_some()),
                "a host, as in `iot.example.com`".to_owned(),
            ),
            Kind::Texts(count, max) => (
                value.as_array().is_some_and(|all| {
                    let is_one = |it: &Value| it.as_str().is_some_and(|it| is_line(it, max));
                    (1..=count).contains(&all.len()) && all.iter().all(is_one)
                }),
                format!("a list of 1 to {count} texts of 1 to {max} bytes"),
            ),
            Kind::Headers(max) => return headers_fault(value, max),
        };
        (!is_good).then(|| format!("is to be {wanted}"))
    }

    fn schema(&self) -> Value {
        let text = |max: usize| json!({"type": "string", "minLength": 1, "maxLength": max});
        let mut schema = match self.kind {
            Kind::Boolean => json!({"type": "boolean"}),
            Kind::Number(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
            Kind::Text(max) => text(max),
            Kind::Pem(max) => text(max),
            Kind::Http => {
                json!({"type": "string", "pattern": "^https?://.+", "maxLength": HTTP_MAX})
            }
            Kind::HostPort => {
                json!({"type": "string", "pattern": r"^(\[[\da-fA-F:.]+\]|[\w.\-]+):\d+$"})
            }
            Kind::Host => {
                json!({"type": "string", "pattern": r"^(\[[\da-fA-F:.]+\]|[\w.\-]+)(:\d+)?$"})
            }
            Kind::Texts(count, max) => {
                json!({"type": "array", "minItems": 1, "maxItems": count, "items": text(max)})
            }
            Kind::Headers(max) => json!({
                "type": "object", "maxProperties": max,
                "additionalProperties": {"type": "string", "maxLength": HEADER_BYTES_MAX},
            }),
        };
        schema["title"] = json!(self.title);
        if self.is_secret {
            schema["writeOnly"] = json!(true);
        }
        schema
    }
}

fn is_http(text: &str) -> bool {
    let Ok(uri) = text.parse::<http::Uri>() else { return false };
    let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
    let target = uri.authority().map(|it| it.as_str());
    is_http && target.is_some_and(|it| Target::parse(it, Some(80)).is_some())
}

/// Headers that the sink sets itself, for they say how the body is sent.
const OWN_HEADERS: [&str; 7] =
    ["connection", "content-length", "expect", "host", "te", "transfer-encoding", "upgrade"];

fn headers_fault(value: &Value, max: usize) -> Option<String> {
    let Some(headers) = value.as_object().filter(|it| it.len() <= max) else {
        return Some(format!("is to be an object of at most {max} names and values"));
    };
    for (name, value) in headers {
        let Ok(known) = name.parse::<http::HeaderName>() else {
            return Some(format!("has a name that no header can have: {name:?}"));
        };
        if OWN_HEADERS.contains(&known.as_str()) {
            return Some(format!("cannot have {name:?}, which says how the body is sent"));
        }
        let value = value.as_str().filter(|it| it.len() <= HEADER_BYTES_MAX);
        if value.is_none_or(|it| it.parse::<http::HeaderValue>().is_err()) {
            return Some(format!("has a value that no header can have, at {name:?}"));
        }
    }
    None
}

/// Checks an object against the fields of its protocol. `protocol` is where streams of 2018 have
/// theirs (R6.2), and is passed over.
pub(crate) fn check(
    fields: &[Field],
    object: &Map<String, Value>,
) -> Result<(), ConfigurationError> {
    for (name, value) in object {
        let Some(field) = fields.iter().find(|it| it.name == name) else {
            if name == "protocol" {
                continue;
            }
            let known: Vec<_> = fields.iter().map(|it| it.name).collect();
            let text = format!("is not known; this protocol has {}", known.join(", "));
            return Err(ConfigurationError::new(name.clone(), text));
        };
        if !value.is_null()
            && let Some(fault) = field.fault(value)
        {
            return Err(ConfigurationError::new(name.clone(), fault));
        }
    }
    let is_missing = |it: &&Field| it.is_required && object.get(it.name).is_none_or(Value::is_null);
    match fields.iter().find(is_missing) {
        Some(field) => Err(ConfigurationError::new(field.name, "is missing")),
        None => Ok(()),
    }
}

/// The fields as JSON schema.
pub(crate) fn schema(fields: &[Field]) -> Value {
    let properties: Map<_, _> = fields.iter().map(|it| (it.name.to_owned(), it.schema())).collect();
    let required: Vec<_> = fields.iter().filter(|it| it.is_required).map(|it| it.name).collect();
    json!({
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": false,
    })
}
