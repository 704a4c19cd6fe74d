//! A message on its way to a platform, and the rules that decide what of it goes there.

use std::borrow::Cow;
use std::sync::Arc;

use longshore_expression::{Budget, Expression, wildcard::Pattern};
use serde_json::{Map, Value};

pub use self::parameters::Parameters;
use crate::ConfigurationError;

pub(crate) mod parameters;

/// Names in an allow-list, at most.
pub const FIELDS_MAX: usize = 1_000;

/// Bytes of one name in an allow-list, at most.
pub const FIELD_BYTES_MAX: usize = 255;

/// How keys are written (R6.15).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Notation {
    /// As they are: `position.speed`.
    #[default]
    Dots,
    /// `position_speed`.
    Underscores,
    /// `PositionSpeed`.
    Pascal,
}

impl Notation {
    const NAMES: [(&'static str, Self); 3] =
        [("dots", Self::Dots), ("underscores", Self::Underscores), ("pascal", Self::Pascal)];

    fn write(self, name: &str) -> Cow<'_, str> {
        match self {
            Self::Dots => name.into(),
            Self::Underscores => name.replace('.', "_").into(),
            Self::Pascal => name.split(['.', '_']).map(capitalized).collect(),
        }
    }
}

fn capitalized(word: &str) -> String {
    let mut characters = word.chars();
    let first = characters.next().map(|it| it.to_ascii_uppercase());
    first.into_iter().chain(characters).collect()
}

/// What of a message is sent, and how its keys are written: `convert_message` of a stream (R6.15).
///
/// `{"keys": "dots" | "underscores" | "pascal", "fields": ["position.*", ...]}`, each optional.
/// What `fields` names is sent, `*` and `?` are wildcards there; without it all is sent. Masks see
/// the whole message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversion {
    notation: Notation,
    fields: Option<Vec<Pattern>>,
}

impl Conversion {
    /// Reads `convert_message`. `null` is none.
    ///
    /// # Errors
    /// A key that is not known, or a value that is not as the type says.
    pub fn parse(value: &Value) -> Result<Self, ConfigurationError> {
        let error = |field: &str, text: &str| Err(ConfigurationError::new(field, text));
        let Value::Object(object) = value else {
            return match value {
                Value::Null => Ok(Self::default()),
                _ => error("convert_message", "is to be an object with \"keys\" and \"fields\""),
            };
        };
        let mut conversion = Self::default();
        for (key, value) in object {
            match key.as_str() {
                "keys" => {
                    let known = Notation::NAMES.iter().find(|(name, _)| value == name);
                    let Some((_, notation)) = known else {
                        let text = "is to be \"dots\", \"underscores\" or \"pascal\"";
                        return error("convert_message.keys", text);
                    };
                    conversion.notation = *notation;
                }
                "fields" => {
                    let Some(fields) = patterns(value) else {
                        let text = "is to be a list of up to 1000 names of at most 255 bytes";
                        return error("convert_message.fields", text);
                    };
                    conversion.fields = Some(fields);
                }
                _ => {
                    let text = format!("has no field {key:?}, only \"keys\" and \"fields\"");
                    return error("convert_message", &text);
                }
            }
        }
        Ok(conversion)
    }

    /// Whether messages are sent as they are.
    fn is_none(&self) -> bool {
        self.notation == Notation::Dots && self.fields.is_none()
    }

    fn keeps(&self, name: &str) -> bool {
        let Some(fields) = &self.fields else { return true };
        let mut budget = Budget::default();
        fields.iter().any(|it| it.matches(name, &mut budget).unwrap_or(false))
    }
}

fn patterns(value: &Value) -> Option<Vec<Pattern>> {
    let names = value.as_array().filter(|it| it.len() <= FIELDS_MAX)?;
    let name = |it: &Value| {
        let name = it.as_str().filter(|it| !it.is_empty() && it.len() <= FIELD_BYTES_MAX)?;
        Some(Pattern::new(name))
    };
    names.iter().map(name).collect()
}

/// A message of a batch: an object of JSON (R1.1).
///
/// It is kept as the text that was published, and nobody reads and writes its numbers again: it is
/// taken apart where a stream looks at it.
#[derive(Clone, Debug)]
pub struct Message {
    text: String,
    conversion: Arc<Conversion>,
}

impl Message {
    /// A message of these parameters that is sent as it is.
    #[must_use]
    pub fn new(parameters: Map<String, Value>) -> Self {
        Self { text: Value::Object(parameters).to_string(), conversion: Arc::default() }
    }

    /// Takes the JSON of a message. Nothing if it is no object.
    #[must_use]
    pub fn read(json: Vec<u8>) -> Option<Self> {
        let text = String::from_utf8(json).ok()?;
        parameters::is_object(&text).then(|| Self { text, conversion: Arc::default() })
    }

    /// All its parameters: what masks and times are taken from, and what of them is to be sent.
    #[must_use]
    pub fn parameters(&self) -> Parameters<'_> {
        Parameters::of(self)
    }

    /// What is to be sent, as JSON: the text that was published, if nothing has to be changed.
    #[must_use]
    pub fn json(&self) -> Cow<'_, str> {
        if self.conversion.is_none() {
            return Cow::Borrowed(&self.text);
        }
        let mut json = String::with_capacity(self.text.len());
        self.parameters().write(None, &mut json);
        Cow::Owned(json)
    }

    /// Bytes of the text that was published.
    pub(crate) fn length(&self) -> usize {
        self.text.len()
    }
}

/// What a stream does with each message: `validate_message` and `convert_message`.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    validate: Option<Expression>,
    conversion: Arc<Conversion>,
}

impl Rules {
    /// Rules of an expression and a conversion. An empty expression lets all pass.
    ///
    /// # Errors
    /// The expression cannot be read.
    pub fn new(validate: &str, conversion: Conversion) -> Result<Self, ConfigurationError> {
        let validate = match validate.trim() {
            "" => None,
            text => Some(Expression::parse(text).map_err(|error| {
                ConfigurationError::new("validate_message", format!("cannot be read: {error}"))
            })?),
        };
        Ok(Self { validate, conversion: Arc::new(conversion) })
    }

    /// The message as it is to be sent, or nothing if it is skipped (R6.14): the expression is not
    /// true of it. `now_secs` is what `now()` is there, in seconds since 1970.
    #[must_use]
    pub fn apply(&self, message: Message, now_secs: f64) -> Option<Message> {
        let mut budget = Budget::default().at(now_secs);
        let passes = |it: &Expression| it.is_true(&message.parameters(), &mut budget);
        let passes = self.validate.as_ref().is_none_or(passes);
        passes.then(|| Message { conversion: Arc::clone(&self.conversion), ..message })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn message(value: &Value) -> Message {
        Message::new(value.as_object().unwrap().clone())
    }

    /// R6.14.
    #[test]
    fn a_message_is_sent_if_validate_message_is_true_of_it() {
        let rules = "position.speed > 0 && exists('position.latitude')";
        let rules = Rules::new(rules, Conversion::default()).unwrap();
        let rows = [
            (json!({"position.speed": 5, "position.latitude": 54.1}), true),
            (json!({"position.speed": 0, "position.latitude": 54.1}), false),
            (json!({"position.speed": 5}), false),
            (json!({}), false),
        ];
        for (value, is_sent) in rows {
            assert_eq!(rules.apply(message(&value), 0.0).is_some(), is_sent, "{value}");
        }
        let error = Rules::new("position.speed >", Conversion::default()).unwrap_err();
        assert_eq!(error.field, "validate_message");
    }

    /// R6.15.
    #[test]
    fn keys_are_written_in_the_notation_asked_for_and_fields_are_an_allow_list() {
        let value = json!({"ident": "1", "position.speed": 5, "position.hdop": 1, "custom.a_b": 2});
        let rows = [
            (json!(null), json!(value)),
            (
                json!({"keys": "pascal"}),
                json!({"Ident": "1", "PositionSpeed": 5, "PositionHdop": 1, "CustomAB": 2}),
            ),
            (
                json!({"keys": "underscores", "fields": ["ident", "position.*"]}),
                json!({"ident": "1", "position_speed": 5, "position_hdop": 1}),
            ),
            (json!({"fields": ["*speed"]}), json!({"position.speed": 5})),
            (json!({"fields": []}), json!({})),
        ];
        for (conversion, body) in rows {
            let rules = Rules::new("", Conversion::parse(&conversion).unwrap()).unwrap();
            let sent = rules.apply(message(&value), 0.0).unwrap();
            let json: Value = serde_json::from_str(&sent.json()).unwrap();
            assert_eq!(json, body, "{conversion}");
            assert!(sent.parameters().get("custom.a_b").is_some(), "masks see all");
        }
    }

    /// R1.4, R1.6, R6.15.
    #[test]
    fn values_are_sent_as_they_were_published() {
        let text = r#"{ "b": 1.10, "a.x": 1e3, "c": {"d": [1.0, "\u20ac"]}, "a.x": 2.50E+1 }"#;
        let rows = [
            (json!(null), text),
            (json!({"fields": ["*"]}), r#"{"a.x":2.50E+1,"b":1.10,"c":{"d": [1.0, "\u20ac"]}}"#),
            (json!({"keys": "pascal", "fields": ["?.*", "b"]}), r#"{"AX":2.50E+1,"B":1.10}"#),
        ];
        for (conversion, sent) in rows {
            let rules =
                Rules::new("b == 1.1 && c.d.0 == 1", Conversion::parse(&conversion).unwrap());
            let message = Message::read(text.as_bytes().to_vec()).unwrap();
            assert_eq!(rules.unwrap().apply(message, 0.0).unwrap().json(), sent, "{conversion}");
        }
    }

    #[test]
    fn what_is_no_object_is_no_message() {
        let rows: [&[u8]; 9] = [
            b"",
            b"[]",
            b"1",
            b"{",
            b"{\"a\":}",
            b"{\"a\":1} x",
            b"{\"a\":01}",
            b"{\"\\ud800\":1}",
            b"{\"a\":\"\xff\"}",
        ];
        for json in rows {
            assert!(Message::read(json.to_vec()).is_none(), "{}", String::from_utf8_lossy(json));
        }
    }

    #[test]
    fn a_conversion_that_is_none_names_the_field() {
        let rows = [
            (json!("pascal"), "convert_message"),
            (json!({"keys": "camel"}), "convert_message.keys"),
            (json!({"fields": "ident"}), "convert_message.fields"),
            (json!({"fields": [1]}), "convert_message.fields"),
            (json!({"fields": [""]}), "convert_message.fields"),
            (json!({"field": []}), "convert_message"),
        ];
        for (value, field) in rows {
            assert_eq!(Conversion::parse(&value).unwrap_err().field, field, "{value}");
        }
    }
}
