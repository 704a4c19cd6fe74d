//! Which objects are meant: an expression, or the older list of tests.

use std::borrow::Cow;

use crate::budget::Budget;
use crate::error::{EvaluationError, ParseError, Reason};
use crate::expression::Expression;
use crate::parameters::{Parameters, find};
use crate::value::{Value, to_number};
use crate::wildcard::Pattern;

/// Characters of a [`Filter`].
pub const FILTER_CHARS_MAX: usize = 1_024;

/// What sets a parameter apart from what it is compared with, the longer ones first.
const SIGNS: [&str; 6] = ["!=", "<=", ">=", "=", "<", ">"];
/// What only expressions have.
const OF_EXPRESSIONS: [char; 11] = ['&', '|', '(', ')', '"', '\'', '~', '$', '?', '+', '/'];

/// What a request has in `filter`: an [`Expression`] that is to be true, or tests parted by commas
/// that all are to hold, `speed>=50,device.name=truck*,ident`. A test is the name of a parameter
/// that is to be there, or that with `=`, `!=`, `<`, `<=`, `>` or `>=` and a number or a text,
/// which may have `*`; what is missing passes no test.
#[derive(Debug, Clone)]
pub struct Filter(Form);

#[derive(Debug, Clone)]
enum Form {
    Expression(Expression),
    Tests(Vec<Test>),
}

/// One test: the parameter is there, and compares so.
#[derive(Debug, Clone)]
struct Test {
    name: String,
    compared: Option<(&'static str, Pattern, Option<f64>)>,
}

impl Filter {
    /// Reads a text of at most [`FILTER_CHARS_MAX`] characters. What has the form of tests is
    /// tests; all else is an expression.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if let Some((position, _)) = text.char_indices().nth(FILTER_CHARS_MAX) {
            return Err(ParseError { position, reason: Reason::FilterTooLong });
        }
        if let Some(tests) = text.split(',').map(Test::parse).collect() {
            return Ok(Self(Form::Tests(tests)));
        }
        Expression::parse(text).map(|it| Self(Form::Expression(it)))
    }

    /// Whether this input is meant. Not so, too, if the budget is used up before that is known.
    pub fn takes<P: Parameters + ?Sized>(&self, input: &P, budget: &mut Budget) -> bool {
        match &self.0 {
            Form::Expression(expression) => expression.is_true(input, budget),
            Form::Tests(tests) => {
                tests.iter().all(|test| test.holds(input, budget).unwrap_or(false))
            }
        }
    }
}

impl Test {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let sign = text.find(['!', '<', '>', '=']);
        let (name, rest) = text.split_at(sign.unwrap_or(text.len()));
        let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || !name.chars().all(is_name) {
            return None;
        }
        if rest.is_empty() {
            return Some(Self { name: name.to_owned(), compared: None });
        }
        let sign = SIGNS.into_iter().find(|sign| rest.starts_with(sign))?;
        let value = &rest[sign.len()..];
        // `event_origin=gw/channels/7` is older than expressions, which have `==`.
        let may_be_path = sign == "=" && value.starts_with(|c: char| c.is_ascii_alphabetic());
        let is_value = |c: char| {
            let is_of_path = may_be_path && c == '/';
            is_of_path || !matches!(c, '!' | '<' | '>' | '=') && !OF_EXPRESSIONS.contains(&c)
        };
        if !value.chars().all(is_value) {
            return None;
        }
        let compared = Some((sign, Pattern::new(value), value.parse().ok()));
        Some(Self { name: name.to_owned(), compared })
    }

    fn holds<P: Parameters + ?Sized>(
        &self,
        input: &P,
        budget: &mut Budget,
    ) -> Result<bool, EvaluationError> {
        let Some(found) = find(input, &self.name, budget)? else { return Ok(false) };
        let Some((sign, pattern, wanted)) = &self.compared else { return Ok(true) };
        let compare = |holds: fn(&f64, &f64) -> bool| match (&found, wanted) {
            (Value::Number(found), Some(wanted)) => holds(found, wanted),
            _ => false,
        };
        Ok(match *sign {
            "<" => compare(f64::lt),
            "<=" => compare(f64::le),
            ">" => compare(f64::gt),
            ">=" => compare(f64::ge),
            sign => {
                let is_alike = pattern.matches(&text(&found), budget)?;
                (is_alike || compare(f64::eq)) == (sign == "=")
            }
        })
    }
}

/// A value as it is compared with a text: without quotes, else as JSON.
fn text<'a>(value: &'a Value<'_>) -> Cow<'a, str> {
    match value {
        Value::Text(text) => Cow::Borrowed(text),
        Value::Null => "null".into(),
        Value::Bool(value) => if *value { "true" } else { "false" }.into(),
        Value::Number(value) => to_number(*value).map_or("null".into(), |it| it.to_string().into()),
        Value::Json(value) => value.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Spec of the modules: R4.9.
    #[test]
    fn both_forms_of_a_filter_choose() {
        let input = json!({"a": 5.0, "b.c": "truck 7", "d": true, "e": -2, "position.speed": 61,
            "f": {"g": 1.5}, "h": null, "i": [1, 2],
            "p": "gw/channels/7"});
        let rows = [
            ("a", true),
            ("a,b.c", true),
            ("a,x", false),
            ("a=5", true),
            ("a!=5", false),
            ("a>=5,a<=5,e<0", true),
            ("a>5", false),
            ("b.c=truck*", true),
            ("b.c!=truck*", false),
            ("x!=1", false),
            ("d=true", true),
            ("e=-2", true),
            ("b.c>1", false),
            ("f.g=1.*, f.g<2", true),
            ("h,h=null", true),
            ("i=[1*]", true),
            ("i=[2*]", false),
            ("p=gw/channels/*", true),
            ("p=gw/channels/7,a=5", true),
            ("p=gw/devices/*", false),
            ("a=10/2", true),
            ("a==e/-2+4", true),
            ("position.speed>60&&d==true", true),
            ("position.speed > 60 || x", true),
            ("exists('x')", false),
            ("$x == null", true),
        ];
        for (text, want) in rows {
            let filter = Filter::parse(text).unwrap();
            assert_eq!(filter.takes(&input, &mut Budget::default()), want, "{text}");
        }
        assert!(!Filter::parse("a,b.c").unwrap().takes(&input, &mut Budget::new(1)));
        let most = "\u{e9}".repeat(FILTER_CHARS_MAX - 2);
        assert!(Filter::parse(&format!("a={most}")).is_ok());
        let error = Filter::parse(&format!("a={most}b")).unwrap_err();
        assert_eq!((error.position, error.reason), (most.len() + 2, Reason::FilterTooLong));
        for bad in ["", ",", "a &&", "a=("] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
    }
}
