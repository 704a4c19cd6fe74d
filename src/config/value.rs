//! A value as a key receives it: typed when it comes from the file, a text from the environment.

use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::de::DeValue;

/// What stands behind a key.
pub(crate) enum Value<'a> {
    /// A value of the file.
    Toml(&'a DeValue<'a>),
    /// A variable of the environment.
    Text(&'a str),
}

impl Value<'_> {
    /// A whole number within `range`.
    pub(super) fn number<T>(&self, range: &RangeInclusive<T>) -> Result<T, String>
    where
        T: TryFrom<i64> + PartialOrd + Display,
    {
        let number = match self {
            Self::Toml(DeValue::Integer(number)) => {
                i64::from_str_radix(number.as_str(), number.radix()).ok()
            }
            Self::Toml(_) => None,
            Self::Text(text) => text.trim().replace('_', "").parse().ok(),
        };
        number
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                format!("takes a whole number from {least} to {most}, not {}", self.shown())
            })
    }

    /// `true` or `false`.
    pub(super) fn boolean(&self) -> Result<bool, String> {
        match self {
            Self::Toml(DeValue::Boolean(value)) => Ok(*value),
            Self::Text("true") => Ok(true),
            Self::Text("false") => Ok(false),
            _ => Err(format!("takes true or false, not {}", self.shown())),
        }
    }

    /// A text that is not empty.
    pub(super) fn text(&self) -> Result<String, String> {
        match self {
            Self::Toml(DeValue::String(text)) if !text.is_empty() => Ok(text.to_string()),
            Self::Text(text) if !text.is_empty() => Ok((*text).to_owned()),
            _ => Err(format!("takes a text, not {}", self.shown())),
        }
    }

    /// A list of texts; in the environment divided by commas or spaces.
    pub(super) fn list(&self) -> Result<Vec<String>, String> {
        let wrong = || format!("takes a list of texts, not {}", self.shown());
        match self {
            Self::Text(text) => Ok(split_list(text).map(str::to_owned).collect()),
            Self::Toml(DeValue::Array(items)) => items
                .iter()
                .map(|item| item.get_ref().as_str().map(str::to_owned).ok_or_else(wrong))
                .collect(),
            Self::Toml(_) => Err(wrong()),
        }
    }

    fn shown(&self) -> String {
        match self {
            Self::Toml(DeValue::String(text)) => format!("{text:?}"),
            Self::Toml(DeValue::Integer(number)) => number.to_string(),
            Self::Toml(DeValue::Boolean(value)) => value.to_string(),
            Self::Toml(value) => format!("this {}", value.type_str()),
            Self::Text(text) => format!("{text:?}"),
        }
    }
}

/// The items of a list written in one text, divided by commas or spaces.
pub(super) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).filter(|item| !item.is_empty())
}
