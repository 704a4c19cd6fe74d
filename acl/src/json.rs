//! JSON that is kept as its text, and reading the fields of what somebody sent.

use std::fmt;
use std::hash::{Hash, Hasher};

use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Map, Value};

use crate::invalid::Invalid;

/// A JSON value kept as compact text: what is stored and given back, and rarely looked into. As a
/// tree it would take ten times the memory.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json(Option<Box<RawValue>>);

impl Json {
    /// Keeps this value. `null` takes no memory of its own.
    pub fn new(value: &Value) -> Self {
        if value.is_null() {
            return Self::default();
        }
        Self(to_raw_value(value).ok())
    }

    /// The value as a tree.
    pub fn value(&self) -> Value {
        serde_json::from_str(self.text()).unwrap_or_default()
    }

    /// The value as a tree, or `other` when there is none.
    pub fn value_or(&self, other: Value) -> Value {
        if self.is_null() { other } else { self.value() }
    }

    /// The value as compact text.
    pub fn text(&self) -> &str {
        self.0.as_ref().map_or("null", |raw| raw.get())
    }

    /// Whether there is nothing in it.
    pub fn is_null(&self) -> bool {
        self.0.is_none()
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl Eq for Json {}

impl Hash for Json {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text().hash(state);
    }
}

/// An object to show.
pub(crate) fn fields<const N: usize>(fields: [(&str, Value); N]) -> Map<String, Value> {
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A field that is not there, or that is the broker's to set.
pub(crate) fn unknown(name: &str) -> Invalid {
    Invalid::new(name, "not a field that can be set")
}

/// The fields of an object somebody sent.
pub(crate) fn object(value: &Value) -> Result<&Map<String, Value>, Invalid> {
    value.as_object().ok_or_else(|| Invalid::new("", "not an object"))
}

/// A text of at most `chars_max` characters.
pub(crate) fn text(field: &str, value: &Value, chars_max: usize) -> Result<String, Invalid> {
    let text = value.as_str().ok_or_else(|| Invalid::new(field, "not a string"))?;
    if text.chars().count() > chars_max {
        return Err(Invalid::new(field, format!("over {chars_max} characters")));
    }
    Ok(text.to_owned())
}

/// A whole number from 0 on.
pub(crate) fn number(field: &str, value: &Value) -> Result<u64, Invalid> {
    value.as_u64().ok_or_else(|| Invalid::new(field, "not a whole number from 0 on"))
}

/// An object of at most `bytes_max` bytes as text.
pub(crate) fn metadata(field: &str, value: &Value, bytes_max: usize) -> Result<Json, Invalid> {
    match value {
        Value::Null => return Ok(Json::default()),
        Value::Object(fields) if fields.is_empty() => return Ok(Json::default()),
        Value::Object(_) => {}
        _ => return Err(Invalid::new(field, "not an object")),
    }
    bounded(field, value, bytes_max)
}

/// Any value of at most `bytes_max` bytes as text.
pub(crate) fn bounded(field: &str, value: &Value, bytes_max: usize) -> Result<Json, Invalid> {
    let json = Json::new(value);
    if json.text().len() > bytes_max {
        return Err(Invalid::new(field, format!("over {bytes_max} bytes")));
    }
    Ok(json)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_value_comes_back_as_it_was_kept() {
        for value in [json!(null), json!({}), json!({"b": [1, {"a": null}], "a": "\u{e9}"})] {
            assert_eq!(Json::new(&value).value(), value);
        }
        assert!(Json::new(&Value::Null).is_null() && !Json::new(&json!({})).is_null());
        assert_eq!(Json::new(&json!({"b": 1, "a": 2})), Json::new(&json!({"a": 2, "b": 1})));
    }

    #[test]
    fn a_bound_names_the_field() {
        let bad = metadata("metadata", &json!({"a": "b".repeat(20)}), 16).unwrap_err();
        assert_eq!(bad.to_string(), "metadata: over 16 bytes");
        assert_eq!(text("info", &json!(1), 1).unwrap_err().to_string(), "info: not a string");
        assert!(text("info", &json!("\u{e9}"), 1).is_ok());
        assert!(number("ttl", &json!(-1)).is_err() && number("ttl", &json!(1.5)).is_err());
    }
}
