//! Which objects a path means (broker specification, 15.1.6): `all`, numbers, `{expression}`, or
//! tests of fields such as `name=truck*`, of which all must hold and before which `all` or numbers
//! may stand.

use hashbrown::HashSet;
use longshore_expression::wildcard::Pattern;
use longshore_expression::{Budget, EvaluationError, Expression};
use serde_json::{Map, Value};

use super::fault::{Code, Fault};
use super::schema::Object;
use crate::clock::wall;

/// Numbers that one selector may list.
pub(crate) const IDS_MAX: usize = 10_000;
/// Steps of all evaluations for one request, a second or less.
pub(crate) const STEPS_MAX: u64 = 20_000_000;
/// Tests of fields that one selector may have.
const TESTS_MAX: usize = 32;
/// What sets a field apart from what it is compared with, the longer ones first.
const SIGNS: [&str; 6] = ["!=", "<=", ">=", "=", "<", ">"];
const OF_SIGNS: [char; 4] = ['!', '<', '>', '='];

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
    /// All of these hold, and the object is one of those listed if some are.
    Tests {
        ids: Option<HashSet<u64>>,
        tests: Vec<Test>,
    },
    Expression(Expression),
}

/// A field and what it must be.
#[derive(Debug)]
struct Test {
    /// The name of the field, or a path of names with dots.
    name: String,
    sign: &'static str,
    /// What its text must be.
    pattern: Pattern,
    /// The same as a number.
    number: Option<f64>,
}

/// Objects that a selector means, and what of it is not there.
pub type Picked = (Vec<Map<String, Value>>, Vec<Fault>);

impl Selector {
    /// Of objects that every broker has, such as protocols, those that `text` means: a selector, or
    /// their names.
    ///
    /// # Errors
    /// When it is neither, or a test takes too long.
    pub fn pick(
        text: &str,
        object: &Object,
        all: impl IntoIterator<Item = Value>,
    ) -> Result<Picked, Fault> {
        let all = all.into_iter().filter_map(|it| match it {
            Value::Object(fields) => Some(fields),
            _ => None,
        });
        let mut all: Vec<_> = all.collect();
        let is_name = text != "all" && text.starts_with(|it: char| it.is_ascii_alphabetic());
        if is_name && !text.contains(['=', '{', '<', '>']) {
            return Ok(pick_named(text, all));
        }
        let mut faults = Vec::new();
        match Self::parse(text, object)? {
            Self::All => {}
            Self::Ids(ids) => {
                let mut missing: HashSet<u64> = ids.iter().copied().collect();
                all.retain(|it| it["id"].as_u64().is_some_and(|id| missing.remove(&id)));
                let missing = ids.into_iter().filter(|id| missing.contains(id));
                faults.extend(missing.map(Fault::not_found));
            }
            Self::Where(mut sieve) => {
                let mut taken = Vec::new();
                for it in all {
                    if sieve.takes(&Value::Object(it.clone()))? {
                        taken.push(it);
                    }
                }
                all = taken;
            }
        }
        Ok((all, faults))
    }

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
        let Some(sign) = text.find(OF_SIGNS) else { return ids(text).map(Self::Ids) };
        let (listed, rest) = match text[..sign].rsplit_once(',') {
            Some((listed, name)) => (listed, &text[sign - name.len()..]),
            None => ("all", text),
        };
        let ids = match listed {
            "all" => None,
            listed => Some(ids(listed)?.into_iter().collect()),
        };
        let tests = tests(rest, object)?;
        Ok(Self::Where(Sieve::new(Condition::Tests { ids, tests })))
    }
}

/// Of these objects, those of these names: each once, in the order in which they are named.
fn pick_named(names: &str, mut all: Vec<Map<String, Value>>) -> Picked {
    let (mut known, mut picked, mut faults) = (HashSet::new(), Vec::new(), Vec::new());
    for name in names.split(',').map(str::trim).filter(|name| known.insert(*name)) {
        match all.iter().position(|it| it["name"] == name) {
            Some(at) => picked.push(all.swap_remove(at)),
            None => faults.push(Fault::new(Code::NotFound, format!("there is no {name:?}"))),
        }
    }
    (picked, faults)
}

/// Tests, parted by commas.
fn tests(text: &str, object: &Object) -> Result<Vec<Test>, Fault> {
    let mut pieces: Vec<&str> = Vec::new();
    let mut begin = 0;
    for (comma, _) in text.match_indices(',') {
        // A comma before what is no test is one of the value.
        let next = text[comma + 1..].split(',').next().unwrap_or_default();
        if next.contains(OF_SIGNS) {
            pieces.push(&text[begin..comma]);
            begin = comma + 1;
        }
    }
    pieces.push(&text[begin..]);
    if pieces.len() > TESTS_MAX {
        return Err(Fault::new(Code::TooLarge, format!("a selector has {TESTS_MAX} tests")));
    }
    pieces.into_iter().map(|it| Test::parse(it, object)).collect()
}

impl Test {
    fn parse(text: &str, object: &Object) -> Result<Self, Fault> {
        let (name, rest) = text.split_at(text.find(OF_SIGNS).unwrap_or(text.len()));
        let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
        let sign =
            sign.ok_or_else(|| Fault::bad_request("a test is field=value, or with !=, <"))?;
        let name = name.trim();
        let first = name.split('.').next().unwrap_or(name);
        object.shown(name).or_else(|_| object.shown(first))?;
        let value = &rest[sign.len()..];
        let (pattern, number) = (Pattern::new(value), value.trim().parse().ok());
        Ok(Self { name: name.to_owned(), sign, pattern, number })
    }

    /// Whether it holds. What is not there is neither like nor unlike anything.
    fn holds(&self, object: &Value, budget: &mut Budget) -> Result<bool, EvaluationError> {
        let found = match find(object, &self.name) {
            Some(Value::Null) | None => return Ok(false),
            Some(found) => found,
        };
        let number = found.as_f64().or_else(|| found.as_str()?.parse().ok());
        let compare = |holds: fn(&f64, &f64) -> bool| {
            number.zip(self.number).is_some_and(|(found, wanted)| holds(&found, &wanted))
        };
        Ok(match self.sign {
            "<" => compare(f64::lt),
            "<=" => compare(f64::le),
            ">" => compare(f64::gt),
            ">=" => compare(f64::ge),
            sign => {
                let is_alike = match found {
                    Value::String(text) => self.pattern.matches(text, budget)?,
                    other => self.pattern.matches(&other.to_string(), budget)?,
                };
                is_alike == (sign == "=")
            }
        })
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
        let expected = "a selector is all, numbers, tests as field=value, or {expression}";
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
            Condition::Tests { ids, tests } => {
                let id = object.get("id").and_then(Value::as_u64);
                let is_listed =
                    ids.as_ref().is_none_or(|ids| id.is_some_and(|id| ids.contains(&id)));
                tests.iter().try_fold(is_listed, |all, it| Ok(all && it.holds(object, budget)?))
            }
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
        let rows: [(&str, &[u64]); 25] = [
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
            ("all,name=c*", &[2]),
            ("1,13,enabled=true", &[1, 13]),
            ("2,13,enabled=true", &[13]),
            ("13,7,id=*", &[13]),
            ("enabled=true,name=truck 7", &[1]),
            ("enabled!=true", &[2]),
            ("metadata.a!=x", &[13]),
            ("id>1,id<=13", &[2, 13]),
            ("id>=2,id<13", &[2]),
            ("name<5", &[]),
            ("name=a,b,id=1", &[]),
        ];
        for (text, want) in rows {
            assert_eq!(chosen(text).unwrap(), want, "{text}");
        }
        let bad = ["", ",", "1,", "x", "-1", "+1", "1.5", "{1 +}", "{", "nothing=1", "All"];
        for bad in bad.into_iter().chain(["x,id=1", "1,,id=1", "id!1", "all,=1", "1,all,id=1"]) {
            assert!(chosen(bad).is_err(), "{bad}");
        }
        let many = |count: usize| vec!["7"; count].join(",");
        assert_eq!(chosen(&many(IDS_MAX)).unwrap(), [7]);
        assert_eq!(chosen(&many(IDS_MAX + 1)).unwrap_err().code, Code::TooLarge);
        let tests = |count: usize| vec!["id>0"; count].join(",");
        assert_eq!(chosen(&tests(TESTS_MAX)).unwrap(), [1, 2, 13]);
        assert_eq!(chosen(&tests(TESTS_MAX + 1)).unwrap_err().code, Code::TooLarge);
    }

    /// Spec of the modules: R2.6, R2.16.
    #[test]
    fn lists_that_every_broker_has_give_each_object_once_however_often_it_is_named() {
        let all =
            ["a", "b", "c"].into_iter().zip(1..).map(|(name, id)| json!({"id": id, "name": name}));
        let rows: [(&str, &[u64], usize); 6] = [
            ("all", &[1, 2, 3], 0),
            ("c,a,c,a", &[3, 1], 0),
            ("b,x,x", &[2], 1),
            ("3,1,3,9,9", &[1, 3], 1),
            ("id>1", &[2, 3], 0),
            ("{name == 'b'}", &[2], 0),
        ];
        for (text, want, missing) in rows {
            let (picked, faults) = Selector::pick(text, &OBJECT, all.clone()).unwrap();
            let ids: Vec<_> = picked.iter().map(|it| it["id"].as_u64().unwrap()).collect();
            assert_eq!((ids.as_slice(), faults.len()), (want, missing), "{text}");
        }
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
