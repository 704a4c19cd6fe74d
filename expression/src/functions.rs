//! The catalogue of functions.

use core::hash::{Hash, Hasher};
use core::ops::RangeInclusive;

use crate::budget::Budget;
use crate::error::EvaluationError;
use crate::value::Value;

mod calls;

/// Arguments of a function at most.
pub(crate) const ARGUMENTS_MAX: usize = 3;

/// Arguments at most of a function that takes any number.
const FOLDED_MAX: usize = 64;

/// A function that expressions may call.
#[derive(Debug)]
pub struct Function {
    /// Its name.
    pub name: &'static str,
    /// How it is called; what may be left out stands in square brackets.
    pub usage: &'static str,
    /// What it gives.
    pub description: &'static str,
    pub(crate) arguments: RangeInclusive<usize>,
    pub(crate) form: Form,
}

/// How a function comes to its value.
#[derive(Debug)]
pub(crate) enum Form {
    If,
    Not,
    Exists,
    /// From one number.
    Map(fn(f64) -> f64),
    /// From numbers, two at a time.
    Fold(fn(f64, f64) -> f64),
    Call(Call),
}

/// Gets at most [`ARGUMENTS_MAX`] values, which it may take.
pub(crate) type Call =
    for<'v, 'a> fn(&'v mut [Value<'a>], &mut Budget) -> Result<Value<'a>, EvaluationError>;

impl Eq for Function {}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// All functions that expressions may call, in the order of a manual.
pub fn functions() -> &'static [Function] {
    &FUNCTIONS
}

pub(crate) fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|it| it.name == name)
}

/// The function whose name is like this one, if there is one.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    /// Longer than any name, and so like none.
    const CHARACTERS_MAX: usize = 16;
    if name.len() > CHARACTERS_MAX {
        return None;
    }
    let name = name.to_ascii_lowercase();
    let distances = FUNCTIONS.iter().map(|it| (strsim::damerau_levenshtein(&name, it.name), it));
    let (distance, function) = distances.min_by_key(|(distance, _)| *distance)?;
    (distance <= 1 + function.name.len() / 4).then_some(function.name)
}

const fn function(
    usage: &'static str,
    arguments: RangeInclusive<usize>,
    form: Form,
    description: &'static str,
) -> Function {
    let (mut name, mut end) = (usage, 0);
    while end < usage.len() {
        if usage.as_bytes()[end] == b'(' {
            name = usage.split_at(end).0;
            break;
        }
        end += 1;
    }
    Function { name, usage, description, arguments, form }
}

static FUNCTIONS: [Function; 23] = [
    function(
        "if(condition, a, b)",
        3..=3,
        Form::If,
        "a if the condition is true, else b; the other one is not evaluated",
    ),
    function("not(x)", 1..=1, Form::Not, "true if x is not"),
    function("error()", 0..=0, Form::Call(calls::error), "makes the whole evaluation fail"),
    function(
        "exists(\"name\")",
        1..=1,
        Form::Exists,
        "whether there is a parameter of this name, null or not",
    ),
    function("isnull(x)", 1..=1, Form::Call(calls::is_null), "whether x is null"),
    function("abs(x)", 1..=1, Form::Map(f64::abs), "x without its sign"),
    function("floor(x)", 1..=1, Form::Map(f64::floor), "the largest whole number up to x"),
    function("ceil(x)", 1..=1, Form::Map(f64::ceil), "the smallest whole number from x on"),
    function(
        "round(x)",
        1..=1,
        Form::Map(f64::round),
        "the nearest whole number; a half goes away from zero",
    ),
    function("sqrt(x)", 1..=1, Form::Map(f64::sqrt), "the square root of x"),
    function("pow(x, y)", 2..=2, Form::Fold(f64::powf), "x to the power of y"),
    function("min(x, ...)", 1..=FOLDED_MAX, Form::Fold(f64::min), "the least of all arguments"),
    function("max(x, ...)", 1..=FOLDED_MAX, Form::Fold(f64::max), "the greatest of all arguments"),
    function(
        "tonumber(x)",
        1..=1,
        Form::Call(calls::to_number),
        "the number that a string holds, decimal or as 0x1f; 1 for true, 0 for false",
    ),
    function(
        "tostring(x)",
        1..=1,
        Form::Call(calls::to_string),
        "x as a string, as JSON writes it",
    ),
    function("strlen(text)", 1..=1, Form::Call(calls::length), "the characters of a string"),
    function(
        "substr(text, start[, length])",
        2..=3,
        Form::Call(calls::part),
        "a part of a string by characters from 0 on; a negative start counts from the end",
    ),
    function(
        "find(text, part)",
        2..=2,
        Form::Call(calls::find),
        "the character at which the part first stands in the text, or -1",
    ),
    function(
        "contains(text, part)",
        2..=2,
        Form::Call(calls::contains),
        "whether the part stands in the text",
    ),
    function("lower(text)", 1..=1, Form::Call(calls::lower), "the text in small letters"),
    function("upper(text)", 1..=1, Form::Call(calls::upper), "the text in capital letters"),
    function(
        "json(text[, \"path\"])",
        1..=2,
        Form::Call(calls::json),
        "what stands at a path, as a.b or a.0, in a text of JSON, array or object; null if nothing",
    ),
    function("now()", 0..=0, Form::Call(calls::now), "seconds since 1970"),
];
