//! Where an expression finds its parameters.

use std::borrow::Cow;

use serde_json::Value as Json;

use crate::budget::Budget;
use crate::error::EvaluationError;
use crate::value::Value;

/// The name of an input that is no object.
const WHOLE: &str = "value";

/// What an expression is evaluated over.
///
/// Only what is asked for need be there: a message can make its parameters when they are read.
pub trait Parameters {
    /// The parameter with exactly this name, dots included; none if it is missing.
    ///
    /// What is nested is found by the caller, in the [`Value::Json`] that a shorter name gives. It
    /// is asked for several names then, so a parameter that is dear to make is kept.
    fn get(&self, name: &str) -> Option<Value<'_>>;
}

/// The members of an object; whatever else it is has the name `value`.
impl Parameters for Json {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        match self {
            Self::Object(members) => members.get(name).map(Value::from),
            whole => (name == WHOLE).then(|| Value::from(whole)),
        }
    }
}

/// The parameter of this name: under the whole name, or nested under the longest part of it, up to
/// a dot, that is there.
pub(crate) fn find<'a, P: Parameters + ?Sized>(
    input: &'a P,
    name: &str,
    budget: &mut Budget,
) -> Result<Option<Value<'a>>, EvaluationError> {
    budget.charge(1)?;
    let whole = input.get(name);
    if whole.is_some() {
        return Ok(whole);
    }
    for (at, _) in name.rmatch_indices('.') {
        budget.charge_bytes(at)?;
        let path = &name[at + 1..];
        match input.get(&name[..at]) {
            Some(Value::Json(Cow::Borrowed(json))) => {
                return Ok(descend(json, path, budget)?.map(Value::from));
            }
            Some(Value::Json(Cow::Owned(json))) => {
                return Ok(descend(&json, path, budget)?.cloned().map(Value::from));
            }
            Some(_) => return Ok(None),
            None => {}
        }
    }
    Ok(None)
}

/// What stands at a path in an array or an object, found as [`find`] finds it.
pub(crate) fn descend<'a>(
    json: &'a Json,
    path: &str,
    budget: &mut Budget,
) -> Result<Option<&'a Json>, EvaluationError> {
    let (mut json, mut path) = (json, path);
    loop {
        let Some((inner, rest)) = longest(json, path, budget)? else { return Ok(None) };
        let Some(rest) = rest else { return Ok(Some(inner)) };
        (json, path) = (inner, rest);
    }
}

/// The member under the longest part of the path that is one, and what of the path is left.
fn longest<'a, 'p>(
    json: &'a Json,
    path: &'p str,
    budget: &mut Budget,
) -> Result<Option<(&'a Json, Option<&'p str>)>, EvaluationError> {
    let (mut end, mut rest) = (path.len(), None);
    loop {
        budget.charge_bytes(end)?;
        let inner = match json {
            Json::Object(members) => members.get(&path[..end]),
            Json::Array(items) => index(&path[..end]).and_then(|at| items.get(at)),
            _ => None,
        };
        if let Some(inner) = inner {
            return Ok(Some((inner, rest)));
        }
        let Some(dot) = path[..end].rfind('.') else { return Ok(None) };
        (end, rest) = (dot, Some(&path[dot + 1..]));
    }
}

/// The place in an array that digits mean; a sign or a leading zero is none.
fn index(digits: &str) -> Option<usize> {
    let is_plain = digits == "0" || digits.starts_with(|first: char| ('1'..='9').contains(&first));
    digits.parse().ok().filter(|_| is_plain)
}
