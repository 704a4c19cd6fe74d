//! What a channel is configured by, and what a command is given: fields with names and kinds. One
//! table is both what is shown as JSON schema and what is checked.

use std::fmt;

use serde_json::{Map, Value, json};

/// A field of an object that users write.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its name in the object.
    pub name: &'static str,
    /// What it is for.
    pub info: &'static str,
    /// What it may hold.
    pub kind: Kind,
    /// Whether it has to be there.
    pub is_required: bool,
}

/// What a field may hold.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Kind {
    /// True or false; false if it is missing.
    Flag,
    /// A text of so many bytes at most, and not empty.
    Text(usize),
    /// One of these texts; the first if it is missing.
    Choice(&'static [&'static str]),
    /// A whole number from 0 up to this.
    Count(u64),
    /// A list of so many texts at most, none of them empty.
    Texts(usize),
    /// An object of texts with so many members at most.
    Names(usize),
}

/// Bytes of each text in a list or an object.
const ITEM_BYTES_MAX: usize = 1_024;

/// An object that has passed its fields.
#[derive(Debug, Clone, Default)]
pub struct Values(Map<String, Value>);

/// Which field is wrong, and how it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Name of the field; nothing if it is the object itself.
    pub field: String,
    /// What is asked of it.
    pub text: String,
}

impl FieldError {
    pub(crate) fn new(field: &str, text: impl Into<String>) -> Self {
        Self { field: field.to_owned(), text: text.into() }
    }
}

impl Field {
    /// A field that may be missing.
    pub const fn new(name: &'static str, kind: Kind, info: &'static str) -> Self {
        Self { name, info, kind, is_required: false }
    }

    /// A field that may not.
    pub const fn required(name: &'static str, kind: Kind, info: &'static str) -> Self {
        Self { name, info, kind, is_required: true }
    }

    fn check(&self, value: &Value) -> Result<(), FieldError> {
        let is_text = |value: &Value, most: usize| {
            value.as_str().is_some_and(|text| (1..=most).contains(&text.len()))
        };
        let (is_right, want) = match self.kind {
            Kind::Flag => (value.is_boolean(), "true or false".to_owned()),
            Kind::Text(most) => (is_text(value, most), format!("a text of 1 to {most} bytes")),
            Kind::Choice(choices) => {
                let is_one = value.as_str().is_some_and(|text| choices.contains(&text));
                (is_one, format!("one of {}", choices.join(", ")))
            }
            Kind::Count(most) => {
                let is_in = value.as_u64().is_some_and(|count| count <= most);
                (is_in, format!("a whole number from 0 to {most}"))
            }
            Kind::Texts(most) => {
                let is_list = value.as_array().is_some_and(|items| {
                    (1..=most).contains(&items.len())
                        && items.iter().all(|item| is_text(item, ITEM_BYTES_MAX))
                });
                (is_list, format!("a list of 1 to {most} texts"))
            }
            Kind::Names(most) => {
                let is_object = value.as_object().is_some_and(|members| {
                    members.len() <= most
                        && members.values().all(|item| is_text(item, ITEM_BYTES_MAX))
                });
                (is_object, format!("an object of texts with at most {most} members"))
            }
        };
        if is_right { Ok(()) } else { Err(FieldError::new(self.name, format!("has to be {want}"))) }
    }

    fn schema(&self) -> Value {
        let mut schema = match self.kind {
            Kind::Flag => json!({"type": "boolean", "default": false}),
            Kind::Text(most) => json!({"type": "string", "minLength": 1, "maxLength": most}),
            Kind::Choice(choices) => {
                json!({"type": "string", "enum": choices, "default": choices.first()})
            }
            Kind::Count(most) => json!({"type": "integer", "minimum": 0, "maximum": most}),
            Kind::Texts(most) => json!({
                "type": "array", "minItems": 1, "maxItems": most,
                "items": {"type": "string", "minLength": 1, "maxLength": ITEM_BYTES_MAX},
            }),
            Kind::Names(most) => json!({
                "type": "object", "maxProperties": most,
                "additionalProperties":
                    {"type": "string", "minLength": 1, "maxLength": ITEM_BYTES_MAX},
            }),
        };
        schema["description"] = Value::from(self.info);
        schema
    }
}

/// The JSON schema of an object with these fields.
pub fn schema(fields: &[Field]) -> Value {
    let required: Vec<_> = fields.iter().filter(|it| it.is_required).map(|it| it.name).collect();
    let properties: Map<_, _> =
        fields.iter().map(|field| (field.name.to_owned(), field.schema())).collect();
    json!({
        "type": "object", "properties": properties, "required": required,
        "additionalProperties": false,
    })
}

impl Values {
    /// Checks an object against its fields.
    ///
    /// # Errors
    ///
    /// If it is no object, lacks a field, has one that nobody asked for, or a wrong value.
    pub fn read(fields: &[Field], given: &Value) -> Result<Self, FieldError> {
        let members = match given {
            Value::Object(members) => members.clone(),
            Value::Null => Map::new(),
            _ => return Err(FieldError::new("", "has to be an object")),
        };
        if let Some(missing) =
            fields.iter().find(|field| field.is_required && !members.contains_key(field.name))
        {
            return Err(FieldError::new(missing.name, "is missing"));
        }
        for (name, value) in &members {
            let Some(field) = fields.iter().find(|field| field.name == name) else {
                let known: Vec<_> = fields.iter().map(|field| field.name).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                return Err(FieldError::new(name, format!("is not known; there are: {known}")));
            };
            field.check(value)?;
        }
        Ok(Self(members))
    }

    /// A text, if it is there.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// Whether a flag is set.
    pub fn flag(&self, name: &str) -> bool {
        self.0.get(name).and_then(Value::as_bool).unwrap_or(false)
    }

    /// A number, if it is there.
    pub fn count(&self, name: &str) -> Option<u64> {
        self.0.get(name)?.as_u64()
    }

    /// The texts of a list.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    /// The members of an object of texts.
    pub fn names(&self, name: &str) -> impl Iterator<Item = (&str, &str)> {
        let members = self.0.get(name).and_then(Value::as_object).into_iter().flatten();
        members.filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)))
    }
}

impl std::error::Error for FieldError {}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, text } = self;
        if field.is_empty() { write!(f, "it {text}") } else { write!(f, "`{field}` {text}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: [Field; 4] = [
        Field::required("name", Kind::Text(4), "Name"),
        Field::new("unit", Kind::Choice(&["knots", "m/s"]), "Unit"),
        Field::new("level", Kind::Count(9), "Level"),
        Field::new("topics", Kind::Texts(2), "Topics"),
    ];

    #[test]
    fn an_object_is_what_its_fields_say() {
        for (given, want) in [
            (json!({"name": "a"}), ""),
            (json!({"name": "a", "unit": "m/s", "level": 9, "topics": ["a", "b"]}), ""),
            (json!([]), "it has to be an object"),
            (json!({}), "`name` is missing"),
            (json!({"name": ""}), "`name` has to be a text of 1 to 4 bytes"),
            (json!({"name": "abcde"}), "`name` has to be a text of 1 to 4 bytes"),
            (
                json!({"name": "a", "x": 1}),
                "`x` is not known; there are: name, unit, level, topics",
            ),
            (json!({"name": "a", "unit": "mph"}), "`unit` has to be one of knots, m/s"),
            (json!({"name": "a", "level": -1}), "`level` has to be a whole number from 0 to 9"),
            (json!({"name": "a", "topics": []}), "`topics` has to be a list of 1 to 2 texts"),
        ] {
            let found = Values::read(&FIELDS, &given).err().map(|error| error.to_string());
            assert_eq!(found.unwrap_or_default(), want, "{given}");
        }
    }

    #[test]
    fn a_schema_says_what_is_checked() {
        let schema = schema(&FIELDS[..2]);
        let want = json!({
            "type": "object", "additionalProperties": false, "required": ["name"],
            "properties": {
                "name": {"type": "string", "minLength": 1, "maxLength": 4, "description": "Name"},
                "unit": {"type": "string", "enum": ["knots", "m/s"], "default": "knots",
                    "description": "Unit"},
            },
        });
        assert_eq!(schema, want);
    }
}
