//! Which objects a path means (broker specification, 15.1.6): `all`, numbers, `field=value` with
//! wildcards, `{expression}`.

use hashbrown::HashSet;
use longshore_expression::wildcard::Pattern;
use longshore_expression::{Budget, EvaluationError, Expression};
use serde_json::Value;

use super::fault::{Code, Fault};
use super::schema::Object;
use crate::clock::wall;

/// Numbers that one selector may list.
pub(crate) const IDS_MAX: usize = 10_000;
/// Steps of all evaluations for one request, a second or less.
pub(crate) const STEPS_MAX: u64 = 20_000_000;

/// What a selector says.
#[derive(Debug)]
pub enum Selector {
    /// All that the caller may see.
    All,
    /// These, each once, in the order they were first named.
    Ids(Vec<u64>),
    /// Those that this takes.
    Where(Sieve),
}

/// Looks at objects one after another.
#[derive(Debug)]
pub struct Sieve {
    condition: Condition,
    budget: Budget,
}

#[derive(Debug)]
enum Condition {
    /// The name of a field, or a path of names with dots, and what its text must be.
    Field(String, Pattern),
    Expression(Expression),
}

impl Selector {
    /// Reads a selector, decoded, of objects of this kind.
    pub fn parse(text: &str, object: &Object) -> Result<Self, Fault> {
        if text == "all" {
            return Ok(Self::All);
        }
        if let Some(inner) = text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
            let expression = Expression::parse(inner);
            let expression =
                expression.map_err(|error| Fault::bad_request(format!("the selector: {error}")))?;
            return Ok(Self::Where(Sieve::new(Condition::Expression(expression))));
        }
        match text.split_once('=') {
            Some((name, pattern)) => {
                let first = name.split('.').next().unwrap_or(name);
                object.shown(name).or_else(|_| object.shown(first))?;
                let condition = Condition::Field(name.to_owned(), Pattern::new(pattern));
                Ok(Self::Where(Sieve::new(condition)))
            }
            None => ids(text).map(Self::Ids),
        }
    }
}

fn ids(text: &str) -> Result<Vec<u64>, Fault> {
    let mut known = HashSet::new();
    let mut ids = Vec::new();
    for (count, text) in text.split(',').map(str::trim).enumerate() {
        if count == IDS_MAX {
            return Err(Fault::new(Code::TooLarge, format!("a selector lists {IDS_MAX} numbers")));
        }
        // `+1` is a number to the parser.
        let id = text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        let expected = "a selector is all, numbers, field=value or {expression}";
        let id: u64 = id.ok_or_else(|| Fault::bad_request(expected))?;
        if known.insert(id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

impl Sieve {
    fn new(condition: Condition) -> Self {
        let now_secs = wall().0 as f64 / 1e6;
        Self { condition, budget: Budget::new(STEPS_MAX).at(now_secs) }
    }

    /// Whether this object is one of those meant. An expression that has no value for it leaves it
    /// out.
    pub fn takes(&mut self, object: &Value) -> Result<bool, Fault> {
        let budget = &mut self.budget;
        let taken = match &self.condition {
            Condition::Expression(expression) => {
                expression.evaluate(object, budget).map(|value| value.is_true())
            }
            Condition::Field(name, pattern) => match find(object, name) {
                Some(Value::String(text)) => pattern.matches(text, budget),
                Some(Value::Null) | None => Ok(false),
                Some(other) => pattern.matches(&other.to_string(), budget),
            },
        };
        match taken {
            Err(EvaluationError::TooManySteps) => {
                Err(Fault::bad_request("the selector takes too much work"))
            }
            taken => Ok(taken.unwrap_or(false)),
        }
    }
}

/// What stands under this name, or at this path of names.
fn find<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let whole = object.get(name);
    whole.or_else(|| name.split('.').try_fold(object, |object, name| object.get(name)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rest::schema::{Field, Kind};

    static OBJECT: Object = Object {
        name: "Thing",
        fields: &[
            Field::new("id", Kind::Whole, ""),
            Field::new("name", Kind::Text, ""),
            Field::new("enabled", Kind::Flag, ""),
            Field::new("metadata", Kind::Object, ""),
        ],
        is_open: false,
    };

    fn chosen(text: &str) -> Result<Vec<u64>, Fault> {
        let things = [
            json!({"id": 1, "name": "truck 7", "enabled": true, "metadata": {"a": "x"}}),
            json!({"id": 2, "name": "car", "enabled": false, "metadata": {}}),
            json!({"id": 13, "name": "", "enabled": true, "metadata": {"a": 1}}),
        ];
        let ids = || things.iter().map(|thing| thing["id"].as_u64().unwrap());
        match Selector::parse(text, &OBJECT)? {
            Selector::All => Ok(ids().collect()),
            Selector::Ids(ids) => Ok(ids),
            Selector::Where(mut sieve) => {
                let mut taken = Vec::new();
                for (id, thing) in ids().zip(&things) {
                    if sieve.takes(thing)? {
                        taken.push(id);
                    }
                }
                Ok(taken)
            }
        }
    }

    /// Broker specification, 15.1.6.
    #[test]
    fn every_form_of_a_selector_chooses() {
        let rows: [(&str, &[u64]); 14] = [
            ("all", &[1, 2, 13]),
            ("13", &[13]),
            ("2,1,2,1", &[2, 1]),
            ("2, 1", &[2, 1]),
            ("name=truck*", &[1]),
            ("name=?a?", &[2]),
            ("name=", &[13]),
            ("name=a,b", &[]),
            ("id=1*", &[1, 13]),
            ("enabled=true", &[1, 13]),
            ("metadata.a=*", &[1, 13]),
            ("{id > 1 && name != \"\"}", &[2]),
            ("{metadata.a == 1}", &[13]),
            ("{nothing > 1}", &[]),
        ];
        for (text, want) in rows {
            assert_eq!(chosen(text).unwrap(), want, "{text}");
        }
        for bad in ["", ",", "1,", "x", "-1", "+1", "1.5", "{1 +}", "{", "nothing=1", "All"] {
            assert!(chosen(bad).is_err(), "{bad}");
        }
        let many = |count: usize| vec!["7"; count].join(",");
        assert_eq!(chosen(&many(IDS_MAX)).unwrap(), [7]);
        assert_eq!(chosen(&many(IDS_MAX + 1)).unwrap_err().code, Code::TooLarge);
    }

    #[test]
    fn work_for_one_selector_has_an_end() {
        let Ok(Selector::Where(mut sieve)) = Selector::parse("{name == '*a?b?c*'}", &OBJECT) else {
            panic!("it is an expression");
        };
        let thing = json!({"name": "ab".repeat(1 << 20)});
        let found = (0..100_000).find_map(|_| sieve.takes(&thing).err());
        assert_eq!(found.unwrap().code, Code::BadRequest);
    }
}
