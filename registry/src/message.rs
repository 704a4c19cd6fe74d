//! A message of a device: parameters by name, each with its JSON as it came, so that a value is
//! written as it was read.

use std::borrow::Cow;
use std::fmt;

use longshore_expression::{Parameters, Value};
use serde::de::{self, Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Parameters of one message (R1.12 has 1,000 for those that are posted; the hub adds some).
pub(crate) const PARAMETERS_MAX: usize = 1_100;
/// Bytes of the name of a parameter.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// Smaller times are reserved (R1.12), in microseconds.
const EARLIEST: u64 = 1_000_000 * MICROS;
/// To here the numbers of JSON have every microsecond.
const SECS_MAX: f64 = 8e9;

/// Microseconds of a second.
pub(crate) const MICROS: u64 = 1_000_000;

/// Names and the JSON of their values, in ascending order of the names (R1.6).
#[derive(Clone, Debug, Default)]
pub(crate) struct Message<'a> {
    parameters: Vec<(Cow<'a, str>, Cow<'a, str>)>,
}

impl<'a> Message<'a> {
    /// Reads a flat object.
    pub(crate) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        let Pairs(mut parameters) = serde_json::from_str(text)?;
        if !parameters.is_sorted_by(|(one, _), (other, _)| one < other) {
            // Of those of one name the last counts.
            parameters.reverse();
            parameters.sort_by(|(one, _), (other, _)| one.cmp(other));
            parameters.dedup_by(|(one, _), (other, _)| one == other);
        }
        Ok(Self { parameters })
    }

    fn at(&self, name: &str) -> Result<usize, usize> {
        self.parameters.binary_search_by(|(known, _)| (**known).cmp(name))
    }

    /// The JSON of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.at(name).ok().map(|at| &*self.parameters[at].1)
    }

    /// Gives a parameter this JSON.
    pub(crate) fn set(&mut self, name: &'static str, json: impl Into<Cow<'a, str>>) {
        match self.at(name) {
            Ok(at) => self.parameters[at].1 = json.into(),
            Err(at) => self.parameters.insert(at, (name.into(), json.into())),
        }
    }

    /// The same, for a name that is not the program's.
    pub(crate) fn put(&mut self, name: &str, json: &str) {
        match self.at(name) {
            Ok(at) => self.parameters[at].1 = Cow::Owned(json.to_owned()),
            Err(at) => {
                let pair = (Cow::Owned(name.to_owned()), Cow::Owned(json.to_owned()));
                self.parameters.insert(at, pair);
            }
        }
    }

    /// The number that a parameter is.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        number(self.get(name)?)
    }

    /// The whole number that a parameter is.
    pub(crate) fn whole(&self, name: &str) -> Option<u64> {
        self.get(name)?.parse().ok()
    }

    /// The text that a parameter is.
    pub(crate) fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        text(self.get(name)?)
    }

    /// The time that a parameter says, in microseconds; none if that cannot be a time.
    pub(crate) fn time(&self, name: &str) -> Option<u64> {
        self.number(name).and_then(micros).filter(|time| *time >= EARLIEST)
    }

    /// Names and JSON, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parameters.iter().map(|(name, json)| (&**name, &**json))
    }

    pub(crate) fn len(&self) -> usize {
        self.parameters.len()
    }

    /// Leaves out what is not wanted.
    pub(crate) fn retain(&mut self, mut is_wanted: impl FnMut(&str) -> bool) {
        self.parameters.retain(|(name, _)| is_wanted(name));
    }

    /// The same as one object of JSON.
    pub(crate) fn write(&self, out: &mut String) {
        write_object(self.iter(), out);
    }
}

/// Asked for what an expression names.
impl Parameters for Message<'_> {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        value(self.get(name)?)
    }
}

/// What this JSON is to an expression.
pub(crate) fn value(json: &str) -> Option<Value<'_>> {
    if let Some(number) = number(json) {
        return Some(Value::Number(number));
    }
    serde_json::from_str::<serde_json::Value>(json).ok().map(Value::from)
}

/// Writes names and values as an object of JSON.
pub(crate) fn write_object<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>, out: &mut String) {
    out.push('{');
    for (at, (name, json)) in pairs.enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_text(name, out);
        out.push(':');
        out.push_str(json);
    }
    out.push('}');
}

/// Writes a text as JSON.
pub(crate) fn write_text(text: &str, out: &mut String) {
    let is_plain = text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
    if is_plain {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

/// The number that this JSON is.
pub(crate) fn number(json: &str) -> Option<f64> {
    let is_number = json.starts_with(|first: char| first == '-' || first.is_ascii_digit());
    is_number.then(|| json.parse().ok()).flatten()
}

/// The text that this JSON is.
pub(crate) fn text(json: &str) -> Option<Cow<'_, str>> {
    let inner = json.strip_prefix('"')?.strip_suffix('"')?;
    if inner.contains('\\') {
        return serde_json::from_str::<String>(json).ok().map(Cow::Owned);
    }
    Some(Cow::Borrowed(inner))
}

/// Microseconds of a time in seconds.
pub(crate) fn micros(secs: f64) -> Option<u64> {
    (0.0..=SECS_MAX).contains(&secs).then(|| (secs * 1e6).round() as u64)
}

/// Seconds of a time in microseconds: whole ones have no fraction (R1.5).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Secs(pub(crate) u64);

impl fmt::Display for Secs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, rest) = (self.0 / MICROS, self.0 % MICROS);
        if rest == 0 {
            return write!(f, "{secs}");
        }
        let fraction = format!("{rest:06}");
        write!(f, "{secs}.{}", fraction.trim_end_matches('0'))
    }
}

/// What an object of JSON holds, borrowed from its text.
struct Pairs<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'de> Deserialize<'de> for Pairs<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut pairs = Vec::with_capacity(24);
        while let Some(Name(name)) = map.next_key()? {
            if name.is_empty() || name.len() > NAME_BYTES_MAX {
                let reason = format!("a name has 1 to {NAME_BYTES_MAX} bytes");
                return Err(de::Error::custom(reason));
            }
            if pairs.len() == PARAMETERS_MAX {
                return Err(de::Error::custom(format!("more than {PARAMETERS_MAX} parameters")));
            }
            let json: &'de RawValue = map.next_value()?;
            pairs.push((name, Cow::Borrowed(json.get())));
        }
        Ok(Pairs(pairs))
    }
}

struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: de::Error>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E: de::Error>(self, name: &str) -> Result<Self::Value, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R1.1, R1.6.
    #[test]
    fn values_are_written_as_they_came_and_names_in_order() {
        let text = r#"{"b": 1.50, "a\"x": "\u20ac", "c": {"d": [1, 2]}, "b": 2.00}"#;
        let mut message = Message::parse(text).unwrap();
        message.set("device.id", "7");
        message.set("c", "null");
        let mut out = String::new();
        message.write(&mut out);
        assert_eq!(out, r#"{"a\"x":"\u20ac","b":2.00,"c":null,"device.id":7}"#);
        for bad in ["", "[]", "{", "1", r#"{"":1}"#, r#"{"a":}"#] {
            assert!(Message::parse(bad).is_err(), "{bad}");
        }
        let many: Vec<_> = (0..=PARAMETERS_MAX).map(|at| format!("\"p{at}\":1")).collect();
        assert!(Message::parse(&format!("{{{}}}", many.join(","))).is_err());
    }

    /// R1.4, R1.5, R1.12.
    #[test]
    fn times_are_seconds_with_microseconds() {
        let time = |json: &str| Message::parse(&format!("{{\"t\":{json}}}")).unwrap().time("t");
        assert_eq!(time("1706905170.17258"), Some(1_706_905_170_172_580));
        assert_eq!(time("1706760559"), Some(1_706_760_559_000_000));
        for none in ["999999", "-1", "1e300", "\"1706760559\"", "null"] {
            assert_eq!(time(none), None, "{none}");
        }
        assert_eq!(Secs(1_706_905_170_172_580).to_string(), "1706905170.17258");
        assert_eq!(Secs(1_706_760_559_000_000).to_string(), "1706760559");
        assert_eq!(Secs(1_000_001).to_string(), "1.000001");
    }
}
