//! A message taken apart: its parameters by name, each with its JSON as it was published.

use std::borrow::Cow;
use std::fmt;

use longshore_expression as expression;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::{Conversion, Message};

/// A name, and the JSON of its value.
type Pair<'a> = (Cow<'a, str>, &'a RawValue);

/// Parameters of a message by name, in the order of the names (R1.1, R1.6), and what of them is to
/// be sent.
#[derive(Clone, Debug)]
pub struct Parameters<'a> {
    pairs: Vec<Pair<'a>>,
    conversion: &'a Conversion,
}

/// Whether this is an object of JSON, with names that can be read.
pub(super) fn is_object(text: &str) -> bool {
    serde_json::from_str::<Members<IgnoredAny>>(text).is_ok()
}

impl<'a> Parameters<'a> {
    pub(super) fn of(message: &'a Message) -> Self {
        // It was an object when it was read.
        let read = serde_json::from_str(&message.text).map(|Members(pairs)| pairs);
        let mut pairs = read.unwrap_or_default();
        arrange(&mut pairs);
        Self { pairs, conversion: &message.conversion }
    }

    /// The JSON of a parameter as it was published, whether it is to be sent or not.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a RawValue> {
        let at = self.pairs.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(self.pairs[at].1)
    }

    /// Seconds since 1970 that the device gave it (R1.4), if it did.
    #[must_use]
    pub fn timestamp(&self) -> Option<f64> {
        number(self.get("timestamp")?)
    }

    /// Who it is of, if that is a text that is not empty (R1.2).
    #[must_use]
    pub fn ident(&self) -> Option<Cow<'a, str>> {
        text(self.get("ident")?).filter(|it| !it.is_empty())
    }

    /// What is to be sent, by the names it was published under.
    pub fn kept(&self) -> impl Iterator<Item = (&str, &'a RawValue)> {
        let all = self.pairs.iter().map(|(name, json)| (&**name, *json));
        all.filter(|(name, _)| self.conversion.keeps(name))
    }

    /// The name that a parameter is sent under.
    #[must_use]
    pub fn key<'n>(&self, name: &'n str) -> Cow<'n, str> {
        self.conversion.notation.write(name)
    }

    /// Writes what is to be sent as JSON, by the names it is sent under, in their order (R1.6).
    /// With an ident, a message that has one has that one.
    pub(crate) fn write(&self, ident: Option<&str>, out: &mut String) {
        let mut sent: Vec<Pair<'_>> = self.kept().map(|(name, it)| (self.key(name), it)).collect();
        arrange(&mut sent);
        let of_ident = ident.map(|ident| (self.key("ident"), ident));
        out.push('{');
        for (at, (name, json)) in sent.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            write_text(name, out);
            out.push(':');
            match &of_ident {
                Some((of_ident, ident)) if of_ident == name => write_text(ident, out),
                _ => out.push_str(json.get()),
            }
        }
        out.push('}');
    }
}

/// Asked for what an expression names.
impl expression::Parameters for Parameters<'_> {
    fn get(&self, name: &str) -> Option<expression::Value<'_>> {
        let json = self.get(name)?;
        match number(json) {
            Some(number) => Some(expression::Value::Number(number)),
            None => value(json).map(expression::Value::from),
        }
    }
}

/// The value of this JSON, unless it is deeper or larger than a value can be.
pub(crate) fn value(json: &RawValue) -> Option<Value> {
    serde_json::from_str(json.get()).ok()
}

/// The text that this JSON is.
pub(crate) fn text(json: &RawValue) -> Option<Cow<'_, str>> {
    let inner = json.get().strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str::<String>(json.get()).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// The number that this JSON is.
fn number(json: &RawValue) -> Option<f64> {
    let number = Some(json.get()).filter(|it| it.starts_with(is_numeric))?;
    number.parse().ok().filter(|it: &f64| it.is_finite())
}

/// Whether the JSON of a number begins with this.
pub(crate) fn is_numeric(first: char) -> bool {
    first == '-' || first.is_ascii_digit()
}

/// In the order of the names; of those of one name the last counts.
fn arrange(pairs: &mut Vec<Pair<'_>>) {
    if !pairs.is_sorted_by(|(one, _), (other, _)| one < other) {
        pairs.reverse();
        pairs.sort_by(|(one, _), (other, _)| one.cmp(other));
        pairs.dedup_by(|(one, _), (other, _)| one == other);
    }
}

fn write_text(text: &str, out: &mut String) {
    let is_plain = text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
    if is_plain {
        out.extend(["\"", text, "\""]);
    } else {
        out.push_str(&Value::from(text).to_string());
    }
}

/// What an object of JSON has, borrowed from its text.
struct Members<T>(T);

impl<'de> Deserialize<'de> for Members<Vec<Pair<'de>>> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Collecting)
    }
}

impl<'de> Deserialize<'de> for Members<IgnoredAny> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Passing)
    }
}

struct Collecting;

impl<'de> Visitor<'de> for Collecting {
    type Value = Members<Vec<Pair<'de>>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::with_capacity(32);
        while let Some(Name(name)) = map.next_key()? {
            pairs.push((name, map.next_value()?));
        }
        Ok(Members(pairs))
    }
}

struct Passing;

impl<'de> Visitor<'de> for Passing {
    type Value = Members<IgnoredAny>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<Name<'de>, IgnoredAny>()?.is_some() {}
        Ok(Members(IgnoredAny))
    }
}

#[derive(serde::Deserialize)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
