//! What stands behind the path: percent-encoding, parameters, and `data` in all its forms.

use serde_json::{Map, Value};

use super::fault::{Code, Fault};

/// The parameters of a query.
#[derive(Debug, Default)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
}

/// The parameter that holds JSON.
const DATA: &str = "data";
/// Parameters of one query: each is compared with those before it, and a head has room for tens of
/// thousands.
const PARAMETERS_MAX: usize = 64;

impl Query {
    /// Takes a query apart. `data` may be percent-encoded or not, and the query may be nothing but
    /// its JSON.
    pub(crate) fn parse(query: &str) -> Result<Self, Fault> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        let mut rest = query;
        if begins_object(query) {
            pairs.push((DATA.to_owned(), json_text(query)?));
            rest = "";
        }
        while !rest.is_empty() {
            let raw = rest.strip_prefix("data=").filter(|value| value.starts_with('{'));
            // An ampersand within JSON that is not encoded parts nothing.
            let end = match raw.and_then(json_length) {
                Some(length) => DATA.len() + 1 + length,
                None => rest.find('&').unwrap_or(rest.len()),
            };
            let (pair, behind) = rest.split_at(end);
            rest = behind.strip_prefix('&').unwrap_or(behind);
            if pair.is_empty() {
                continue;
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode_form(name)?;
            let value = if name == DATA { json_text(value)? } else { decode_form(value)? };
            if pairs.len() == PARAMETERS_MAX {
                let reason = format!("a query has up to {PARAMETERS_MAX} parameters");
                return Err(Fault::new(Code::TooLarge, reason));
            }
            if pairs.iter().any(|(known, _)| *known == name) {
                return Err(Fault::bad_request(format!("{name:?} is given twice")));
            }
            pairs.push((name, value));
        }
        Ok(Self { pairs })
    }

    /// The parameter of this name, decoded.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The parameter of this name as a whole number.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Fault> {
        let number = |text: &str| {
            let fault = || Fault::bad_request(format!("{name} is a whole number from 0 on"));
            text.parse().map_err(|_| fault())
        };
        self.get(name).map(number).transpose()
    }

    /// The JSON object of `data`, from the query or the body, whichever there is; an empty one if
    /// there is neither.
    pub(crate) fn data(&self, body: &[u8]) -> Result<Map<String, Value>, Fault> {
        let text = match (self.get(DATA).filter(|text| !text.is_empty()), body) {
            (None, []) => return Ok(Map::new()),
            (Some(_), [_, ..]) => {
                return Err(Fault::bad_request("data is in the query and in the body"));
            }
            (Some(text), []) => text.as_bytes(),
            (None, body) => body,
        };
        match json(text)? {
            Value::Object(fields) => Ok(fields),
            _ => Err(Fault::bad_request("data is not an object")),
        }
    }
}

/// JSON that was sent.
pub(crate) fn json(text: &[u8]) -> Result<Value, Fault> {
    if text.is_empty() {
        return Err(Fault::bad_request("JSON is expected in the body"));
    }
    serde_json::from_slice(text).map_err(|error| Fault::bad_request(format!("no JSON: {error}")))
}

fn begins_object(text: &str) -> bool {
    text.starts_with('{') || text.get(..3).is_some_and(|it| it.eq_ignore_ascii_case("%7b"))
}

/// Bytes of the JSON value that a text begins with.
fn json_length(text: &str) -> Option<usize> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    values.next()?.ok()?;
    Some(values.byte_offset())
}

/// JSON as it is, or decoded.
fn json_text(text: &str) -> Result<String, Fault> {
    match json_length(text) {
        Some(length) if length == text.len() => Ok(text.to_owned()),
        _ => decode_form(text),
    }
}

/// A name or a value of a query, where `+` is a space.
fn decode_form(text: &str) -> Result<String, Fault> {
    if text.contains('+') { decode(&text.replace('+', "%20")) } else { decode(text) }
}

/// A text without its percent-encoding.
pub(crate) fn decode(text: &str) -> Result<String, Fault> {
    let broken = || Fault::bad_request("the percent-encoding is broken");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let byte = match byte {
            b'%' => {
                let high = rest.next().and_then(digit).ok_or_else(broken)?;
                high << 4 | rest.next().and_then(digit).ok_or_else(broken)?
            }
            byte => byte,
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).map_err(|_| Fault::bad_request("the percent-encoding is no UTF-8"))
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn percent_encoding_is_read_strictly() {
        let rows = [
            ("", Some("")),
            ("a%2Fb%2f+", Some("a/b/+")),
            ("%E2%82%AC", Some("\u{20ac}")),
            ("%", None),
            ("%2", None),
            ("%2g", None),
            ("%+1", None),
            ("%ff", None),
            ("%00", Some("\0")),
        ];
        for (text, want) in rows {
            assert_eq!(decode(text).ok().as_deref(), want, "{text}");
        }
    }

    /// Broker specification, 15.1.5.
    #[test]
    fn data_is_taken_in_all_its_forms() {
        let want = json!({"count": 1, "filter": "a&b=1"});
        let rows = [
            "data=%7B%22count%22%3A1%2C%22filter%22%3A%22a%26b%3D1%22%7D",
            "limit=3&data=%7b%22count%22:1,%22filter%22:%22a%26b=1%22%7d&x=",
            "data={\"count\":1,\"filter\":\"a&b=1\"}&limit=3",
            "data={%22count%22:1,%22filter%22:%22a%26b=1%22}",
            "{\"count\":1,\"filter\":\"a&b=1\"}",
            "%7B%22count%22%3A1%2C%22filter%22%3A%22a%26b%3D1%22%7D",
            "data=%7B%22count%22%3A+1,%22filter%22:%22a%26b=1%22%7D",
        ];
        for text in rows {
            let query = Query::parse(text).unwrap();
            assert_eq!(Value::Object(query.data(b"").unwrap()), want, "{text}");
            assert!(query.data(b"{}").is_err(), "{text}");
        }
        let body = want.to_string();
        let query = Query::parse("").unwrap();
        assert_eq!(Value::Object(query.data(body.as_bytes()).unwrap()), want);
        assert_eq!(query.data(b"").unwrap(), Map::new());
        for bad in ["data=[1]", "data={", "data=1", "data={\"a\":1}&data=2", "a=1&a=2", "a=%"] {
            assert!(Query::parse(bad).and_then(|query| query.data(b"")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_query_has_so_many_parameters_and_no_more() {
        let query = |count: usize| {
            let all: Vec<_> = (0..count).map(|at| format!("p{at}=")).collect();
            Query::parse(&all.join("&")).map(|_| ()).map_err(|fault| fault.code)
        };
        assert_eq!(query(PARAMETERS_MAX), Ok(()));
        assert_eq!(query(PARAMETERS_MAX + 1), Err(Code::TooLarge));
    }

    #[test]
    fn parameters_are_decoded() {
        let query = Query::parse("fields=id%2Ckey&&name=a+b&limit=x").unwrap();
        assert_eq!(query.get("fields"), Some("id,key"));
        assert_eq!(query.get("name"), Some("a b"));
        assert!(query.number("limit").is_err() && query.number("offset").unwrap().is_none());
    }
}
