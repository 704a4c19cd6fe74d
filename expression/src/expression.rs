//! A compiled expression.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::str::FromStr;
use std::sync::Arc;

use crate::budget::Budget;
use crate::error::{EvaluationError, ParseError};
use crate::evaluate::evaluate;
use crate::parameters::Parameters;
use crate::parser;
use crate::tree::Node;
use crate::value::Value;

/// An expression, compiled. A clone shares it.
///
/// Two expressions are equal if they were understood alike: space, needless brackets, kinds of
/// quotes and ways to write a number or an operator make no difference.
#[derive(Clone)]
pub struct Expression {
    shared: Arc<Shared>,
}

struct Shared {
    text: Box<str>,
    tree: Node,
}

impl Expression {
    /// Compiles a text of at most [`TEXT_MAX`](crate::TEXT_MAX) bytes.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let tree = parser::parse(text)?;
        Ok(Self { shared: Arc::new(Shared { text: text.into(), tree }) })
    }

    /// The text that was compiled.
    pub fn as_str(&self) -> &str {
        &self.shared.text
    }

    /// The value over an input.
    ///
    /// Charges the budget, and fails if that is used up.
    pub fn evaluate<'a, P: Parameters + ?Sized>(
        &'a self,
        input: &'a P,
        budget: &mut Budget,
    ) -> Result<Value<'a>, EvaluationError> {
        evaluate(&self.shared.tree, input, budget)
    }

    /// Whether the expression lets an input pass: it has a value, and that
    /// [is true](Value::is_true).
    pub fn is_true<P: Parameters + ?Sized>(&self, input: &P, budget: &mut Budget) -> bool {
        self.evaluate(input, budget).is_ok_and(|value| value.is_true())
    }
}

impl FromStr for Expression {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        Self::parse(text)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared) || self.shared.tree == other.shared.tree
    }
}

impl Eq for Expression {}

impl Hash for Expression {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.shared.tree.hash(state);
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Expression").field(&self.as_str()).finish()
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
