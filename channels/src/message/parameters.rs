//! Parameters by name: a flat object whose keys come out in order.

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde::{Serialize, Serializer};
use serde_json::{Number, Value};

use crate::parameter;

/// Prefix of names that are not in the table of standard parameters (R1.8).
const CUSTOM: &str = "custom.";

/// Parameters that most messages have no more than, with those of the hub.
const USUAL: usize = 24;

/// Numbers up to here are whole in a double, too.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Names and values. Values are numbers, texts and booleans; a list or an object is kept where a
/// device sends JSON that has one.
///
/// Serialized, it is one flat object with its keys in ascending order of their bytes (R1.6).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters(
    /// In ascending order of the names. Most messages have some tens: one piece of memory for all
    /// of them costs half of what a tree does.
    Vec<(Cow<'static, str>, Value)>,
);

/// A message has more than [`Parameters::COUNT_MAX`] parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Parameters {
    /// Parameters that a device can name at most (R1.12). Those that a protocol names by itself
    /// ([`set`](Self::set)) are few, and always have room.
    pub const COUNT_MAX: usize = 1_000;

    /// Bytes of the longest name that a device can set; a longer one is cut.
    pub const NAME_BYTES_MAX: usize = 255;

    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Sets a parameter of the table ([`parameter::find`]). Setting it to null changes nothing:
    /// so what is not finite is left out.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        debug_assert!(parameter::find(name).is_some(), "{name} is not in the table");
        self.insert(Cow::Borrowed(name), value.into());
    }

    /// Sets one of several parameters of a kind: `ain.2` is the second of `ain`.
    ///
    /// # Errors
    ///
    /// If the message has too many.
    pub fn set_numbered(
        &mut self,
        name: &'static str,
        number: usize,
        value: impl Into<Value>,
    ) -> Result<(), TooMany> {
        debug_assert!(parameter::find(name).is_some(), "{name} is not in the table");
        let mut numbered = String::with_capacity(name.len() + ".1000".len());
        // Memory takes all that is written.
        let _ = write!(numbered, "{name}.{number}");
        self.insert_counted(Cow::Owned(numbered), value.into())
    }

    /// Sets a parameter by the name that a device has for it: one of the table, or else one that
    /// begins with `custom.`. What cannot stand in a level of a topic becomes `_`. What only the
    /// hub itself may say (R10.3) is left out.
    ///
    /// # Errors
    ///
    /// If the message has too many.
    pub fn set_other(&mut self, name: &str, value: impl Into<Value>) -> Result<(), TooMany> {
        let (key, is_flag) = match parameter::find(name) {
            Some(known) if known.is_of_the_hub() => return Ok(()),
            Some(known) if known.name == name => (Cow::Borrowed(known.name), known.is_flag()),
            Some(known) => (Cow::Owned(name.to_owned()), known.is_flag()),
            None => (Cow::Owned(custom(name)), false),
        };
        let value = match (value.into(), is_flag) {
            // A device that has no booleans says 0 and 1.
            (Value::Number(number), true) if number.as_i64() == Some(0) => Value::Bool(false),
            (Value::Number(number), true) if number.as_i64() == Some(1) => Value::Bool(true),
            (value, _) => value,
        };
        self.insert_counted(key, value)
    }

    /// Sets a parameter by the name that a user has given it.
    pub(crate) fn set_exact(&mut self, name: &str, value: Value) -> Result<(), TooMany> {
        self.insert_counted(Cow::Owned(name.to_owned()), value)
    }

    fn insert_counted(&mut self, name: Cow<'static, str>, value: Value) -> Result<(), TooMany> {
        if self.0.len() >= Self::COUNT_MAX && self.place(&name).is_err() {
            return Err(TooMany);
        }
        self.insert(name, value);
        Ok(())
    }

    fn insert(&mut self, name: Cow<'static, str>, value: Value) {
        let value = match value {
            Value::Null => return,
            Value::Number(number) => Value::Number(whole(number)),
            other => other,
        };
        if self.0.capacity() == 0 {
            self.0.reserve(USUAL);
        }
        match self.place(&name) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (name, value)),
        }
    }

    /// Where the parameter of this name is, or would be. Many protocols have theirs in order.
    fn place(&self, name: &str) -> Result<usize, usize> {
        if self.0.last().is_none_or(|(last, _)| last.as_ref() < name) {
            return Err(self.0.len());
        }
        self.0.binary_search_by(|(known, _)| known.as_ref().cmp(name))
    }

    /// The value of this parameter.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.place(name).ok().map(|at| &self.0[at].1)
    }

    /// Names and values in ascending order of the names' bytes.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.0.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for Parameters {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

/// The name of a parameter that the table does not have.
fn custom(name: &str) -> String {
    let is_forbidden = |c: char| matches!(c, '#' | '+' | '/') || c.is_control();
    let name = name.strip_prefix(CUSTOM).unwrap_or(name);
    let bytes = CUSTOM.len() + name.len();
    let mut custom = String::with_capacity(bytes.min(Parameters::NAME_BYTES_MAX));
    custom.push_str(CUSTOM);
    for character in name.chars() {
        let character = if is_forbidden(character) { '_' } else { character };
        if custom.len() + character.len_utf8() > Parameters::NAME_BYTES_MAX {
            break;
        }
        custom.push(character);
    }
    custom
}

/// A number without a fraction, where it has none (R1.5).
fn whole(number: Number) -> Number {
    match number.as_f64() {
        Some(double) if number.is_f64() && double.fract() == 0.0 && double.abs() < WHOLE_MAX => {
            Number::from(double as i64)
        }
        _ => number,
    }
}

impl std::error::Error for TooMany {}

impl fmt::Display for TooMany {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the message has more than {} parameters", Parameters::COUNT_MAX)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn json(parameters: &Parameters) -> String {
        serde_json::to_string(parameters).unwrap()
    }

    /// R1.8, R10.3.
    #[test]
    fn a_name_is_one_of_the_table_or_custom() {
        for (name, want) in [
            ("position.speed", r#"{"position.speed":1}"#),
            ("ain.12", r#"{"ain.12":1}"#),
            ("can.whatever", r#"{"can.whatever":1}"#),
            ("ain.x", r#"{"custom.ain.x":1}"#),
            ("hw", r#"{"custom.hw":1}"#),
            ("custom.hw", r#"{"custom.hw":1}"#),
            ("a/b+c#d\n", r#"{"custom.a_b_c_d_":1}"#),
            ("movement.status", r#"{"movement.status":true}"#),
            ("", r#"{"custom.":1}"#),
            ("peer", "{}"),
            ("channel.id", "{}"),
            ("device.id", "{}"),
        ] {
            let mut parameters = Parameters::new();
            parameters.set_other(name, 1).unwrap();
            assert_eq!(json(&parameters), want);
        }
    }

    /// R1.5.
    #[test]
    fn a_number_is_whole_where_it_has_no_fraction() {
        for (value, want) in [
            (json!(54.0), "54"),
            (json!(-0.0), "0"),
            (json!(24.079), "24.079"),
            (json!(1e300), "1e+300"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(f64::NAN), ""),
            (json!(null), ""),
        ] {
            let mut parameters = Parameters::new();
            parameters.set_other("x", value).unwrap();
            assert_eq!(parameters.get("custom.x").map(Value::to_string).unwrap_or_default(), want);
        }
    }

    /// R1.12.
    #[test]
    fn a_message_has_a_thousand_parameters_at_most() {
        let mut parameters = Parameters::new();
        for number in 1..=Parameters::COUNT_MAX {
            parameters.set_numbered("ain", number, 1).unwrap();
        }
        assert_eq!(parameters.set_other("one.more", 1), Err(TooMany));
        assert_eq!(parameters.set_numbered("ain", 7, 2), Ok(()));
        assert_eq!(parameters.len(), Parameters::COUNT_MAX);
        let long = "\u{e9}".repeat(500);
        let mut parameters = Parameters::new();
        parameters.set_other(&long, 1).unwrap();
        assert_eq!(parameters.iter().next().unwrap().0.len(), Parameters::NAME_BYTES_MAX);
    }
}
