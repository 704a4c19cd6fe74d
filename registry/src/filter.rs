//! Which messages are meant: an expression, or the older list of tests (R4.9).

use longshore_broker::rest::{Code, Fault};
use longshore_expression::wildcard::Pattern;
use longshore_expression::{Budget, Expression};

use crate::message::{self, Message};

/// Characters of a filter.
const CHARS_MAX: usize = 1_024;
/// What sets a parameter apart from what it is compared with, the longer ones first.
const SIGNS: [&str; 6] = ["!=", "<=", ">=", "=", "<", ">"];
/// What only expressions have.
const OF_EXPRESSIONS: [char; 11] = ['&', '|', '(', ')', '"', '\'', '~', '$', '?', '+', '/'];

/// See the module.
#[derive(Debug)]
pub(crate) enum Filter {
    Expression(Expression),
    /// All of these hold.
    Tests(Vec<Test>),
}

/// One test: the parameter is there, and compares so.
#[derive(Debug)]
pub(crate) struct Test {
    name: String,
    compared: Option<(&'static str, Pattern, Option<f64>)>,
}

impl Filter {
    /// Reads a filter. `a=b` and the like, parted by commas, is the older form; all else is an
    /// expression.
    pub(crate) fn parse(text: &str) -> Result<Self, Fault> {
        if text.chars().count() > CHARS_MAX {
            let reason = format!("filter has up to {CHARS_MAX} characters");
            return Err(Fault::new(Code::Format, reason).field("filter"));
        }
        if let Some(tests) = text.split(',').map(Test::parse).collect() {
            return Ok(Self::Tests(tests));
        }
        let wrong = |error| Fault::new(Code::Format, format!("filter is no expression: {error}"));
        Expression::parse(text).map(Self::Expression).map_err(|it| wrong(it).field("filter"))
    }

    /// Whether this message is meant.
    pub(crate) fn takes(&self, message: &Message<'_>) -> bool {
        match self {
            Self::Expression(expression) => expression.is_true(message, &mut Budget::default()),
            Self::Tests(tests) => tests.iter().all(|test| test.holds(message)),
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
        let is_value =
            |c: char| !matches!(c, '!' | '<' | '>' | '=') && !OF_EXPRESSIONS.contains(&c);
        if !value.chars().all(is_value) {
            return None;
        }
        let compared = Some((sign, Pattern::new(value), value.parse().ok()));
        Some(Self { name: name.to_owned(), compared })
    }

    fn holds(&self, message: &Message<'_>) -> bool {
        let Some(json) = message.get(&self.name) else { return false };
        let Some((sign, pattern, wanted)) = &self.compared else { return true };
        let found = message::number(json);
        let compare = |holds: fn(&f64, &f64) -> bool| {
            found.zip(*wanted).is_some_and(|(found, wanted)| holds(&found, &wanted))
        };
        match *sign {
            "<" => compare(f64::lt),
            "<=" => compare(f64::le),
            ">" => compare(f64::gt),
            ">=" => compare(f64::ge),
            sign => {
                let text = message::text(json).unwrap_or(json.into());
                let is_alike = pattern.matches(&text, &mut Budget::default()).unwrap_or(false);
                (is_alike || compare(f64::eq)) == (sign == "=")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R4.9.
    #[test]
    fn both_forms_of_a_filter_choose_messages() {
        let text = r#"{"a":5.0,"b.c":"truck 7","d":true,"e":-2,"position.speed":61}"#;
        let message = Message::parse(text).unwrap();
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
            ("position.speed>60&&d==true", true),
            ("position.speed > 60 || x", true),
            ("exists('x')", false),
            ("$x == null", true),
        ];
        for (filter, want) in rows {
            assert_eq!(Filter::parse(filter).unwrap().takes(&message), want, "{filter}");
        }
        let long = "a".repeat(CHARS_MAX + 1);
        for bad in ["", ",", "a &&", "a=(", &long] {
            assert!(Filter::parse(bad).is_err(), "{bad}");
        }
    }
}
