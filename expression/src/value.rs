//! What an expression computes with.

use std::borrow::Cow;

use serde_json::{Number, Value as Json};

use crate::budget::Budget;
use crate::error::EvaluationError;

/// Whole numbers up to here are exact in a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// A value; strings, arrays and objects of the input are borrowed.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value<'a> {
    /// Nothing: JSON's null, or a parameter that is missing and was asked for with `$`.
    #[default]
    Null,
    /// True or false.
    Bool(bool),
    /// A finite number.
    Number(f64),
    /// A string.
    Text(Cow<'a, str>),
    /// An array or an object, and nothing else.
    Json(Cow<'a, Json>),
}

impl Value<'_> {
    /// Whether the value counts as true: not `0`, `false`, `null`, nor an empty string, array or
    /// object.
    pub fn is_true(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Bool(value) => *value,
            Self::Number(value) => *value != 0.0,
            Self::Text(value) => !value.is_empty(),
            Self::Json(value) => match &**value {
                Json::Array(items) => !items.is_empty(),
                Json::Object(members) => !members.is_empty(),
                _ => false,
            },
        }
    }

    /// The type in words, for errors.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Text(_) => "a string",
            Self::Json(_) => "an array or an object",
        }
    }

    /// Whether two values are of one type and equal. Arrays and objects are compared in depth.
    pub(crate) fn equals(
        &self,
        other: &Value<'_>,
        budget: &mut Budget,
    ) -> Result<bool, EvaluationError> {
        Ok(match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(left), Value::Bool(right)) => left == right,
            (Value::Number(left), Value::Number(right)) => left == right,
            (Value::Text(left), Value::Text(right)) => texts_equal(left, right, budget)?,
            (Value::Json(left), Value::Json(right)) => jsons_equal(left, right, budget)?,
            _ => false,
        })
    }
}

impl<'a> From<&'a Json> for Value<'a> {
    fn from(json: &'a Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(*value),
            Json::Number(value) => from_number(value),
            Json::String(value) => Self::Text(Cow::Borrowed(value)),
            Json::Array(_) | Json::Object(_) => Self::Json(Cow::Borrowed(json)),
        }
    }
}

impl From<Json> for Value<'_> {
    fn from(json: Json) -> Self {
        match json {
            Json::Null => Self::Null,
            Json::Bool(value) => Self::Bool(value),
            Json::Number(value) => from_number(&value),
            Json::String(value) => Self::Text(Cow::Owned(value)),
            Json::Array(_) | Json::Object(_) => Self::Json(Cow::Owned(json)),
        }
    }
}

impl<'a> From<&'a str> for Value<'a> {
    fn from(text: &'a str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

/// A whole number that a double holds exactly becomes an integer of JSON.
impl From<Value<'_>> for Json {
    fn from(value: Value<'_>) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(value),
            Value::Number(value) => to_number(value).map_or(Self::Null, Self::Number),
            Value::Text(value) => Self::String(value.into_owned()),
            Value::Json(value) => value.into_owned(),
        }
    }
}

/// The number as JSON writes it; none if it is not finite.
pub(crate) fn to_number(value: f64) -> Option<Number> {
    if value.fract() == 0.0 && value.abs() <= EXACT_MAX {
        return Some(Number::from(value as i64));
    }
    Number::from_f64(value)
}

/// JSON has no number that is not finite; what is too large for a double the parser refuses.
fn from_number<'a>(number: &Number) -> Value<'a> {
    number.as_f64().map_or(Value::Null, Value::Number)
}

fn texts_equal(left: &str, right: &str, budget: &mut Budget) -> Result<bool, EvaluationError> {
    if left.len() != right.len() {
        return Ok(false);
    }
    budget.charge_bytes(left.len())?;
    Ok(left == right)
}

/// Recursion is as deep as the input, which its parser has bounded.
fn jsons_equal(left: &Json, right: &Json, budget: &mut Budget) -> Result<bool, EvaluationError> {
    budget.charge(1)?;
    match (left, right) {
        (Json::Array(left), Json::Array(right)) => {
            let mut pairs = left.iter().zip(right);
            let is_same_len = left.len() == right.len();
            Ok(is_same_len && all(&mut pairs, |(left, right)| jsons_equal(left, right, budget))?)
        }
        (Json::Object(left), Json::Object(right)) => {
            let is_same_len = left.len() == right.len();
            let is_same = |(name, left): (&String, &Json)| {
                budget.charge_bytes(name.len())?;
                right.get(name).map_or(Ok(false), |right| jsons_equal(left, right, budget))
            };
            Ok(is_same_len && all(&mut left.iter(), is_same)?)
        }
        _ => Value::from(left).equals(&Value::from(right), budget),
    }
}

fn all<T>(
    items: &mut dyn Iterator<Item = T>,
    mut is_fine: impl FnMut(T) -> Result<bool, EvaluationError>,
) -> Result<bool, EvaluationError> {
    for item in items {
        if !is_fine(item)? {
            return Ok(false);
        }
    }
    Ok(true)
}
