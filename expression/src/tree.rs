//! An expression as it was understood. Equal trees mean the same, however they were written.

use core::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::functions::Function;
use crate::operators::{Binary, Unary};
use crate::wildcard::Pattern;

#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Number(Finite),
    Text(Text),
    Name {
        name: Arc<str>,
        /// Written with `$`: null if it is missing.
        is_optional: bool,
    },
    Exists(Arc<str>),
    Unary(Unary, Box<Node>),
    /// Operators of one precedence, from left to right. A list and no tree of pairs, so that a long
    /// chain is not deep.
    Chain {
        first: Box<Node>,
        rest: Vec<(Binary, Node)>,
    },
    /// The value behind the first condition that is true. A list for the same reason.
    Choice {
        cases: Vec<(Node, Node)>,
        otherwise: Box<Node>,
    },
    Call {
        function: &'static Function,
        arguments: Box<[Node]>,
    },
}

impl Node {
    /// Joins two operands; a chain of the same precedence grows.
    pub(crate) fn join(operator: Binary, left: Self, right: Self) -> Self {
        let (left, right) = match (left, right) {
            // Equality does not care for sides, and is looked up on the right.
            (left, right) if left.is_pattern() && operator.is_equality() && !right.is_pattern() => {
                (right, left)
            }
            sides => sides,
        };
        match left {
            Self::Chain { first, mut rest }
                if rest.first().is_some_and(|it| it.0.precedence() == operator.precedence()) =>
            {
                rest.push((operator, right));
                Self::Chain { first, rest }
            }
            first => Self::Chain { first: Box::new(first), rest: vec![(operator, right)] },
        }
    }

    fn is_pattern(&self) -> bool {
        matches!(self, Self::Text(Text { pattern: Some(_), .. }))
    }
}

/// A literal string.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct Text {
    pub(crate) text: Box<str>,
    /// What it matches, if it has wildcards, or characters that would be some.
    pub(crate) pattern: Option<Box<Pattern>>,
}

/// A literal number: finite and not negative.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finite(pub(crate) f64);

impl Eq for Finite {}

impl PartialEq for Finite {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Hash for Finite {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}
