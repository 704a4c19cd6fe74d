//! Why a text is no expression, and why an expression has no value.

use core::fmt;
use std::sync::Arc;

use crate::filter::FILTER_CHARS_MAX;
use crate::parser::{NESTING_MAX, TEXT_MAX};

/// A text that is no expression: where, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParseError {
    /// The byte of the text at which the fault was seen, at most the length of the text.
    pub position: usize,
    /// What is wrong there.
    pub reason: Reason,
}

impl core::error::Error for ParseError {}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.reason, self.position)
    }
}

/// What is wrong with a text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// More than [`TEXT_MAX`] bytes.
    TooLong,
    /// More than [`FILTER_CHARS_MAX`] characters, of a [`Filter`](crate::Filter).
    FilterTooLong,
    /// Nested deeper than [`NESTING_MAX`].
    TooDeep,
    /// Neither a number, a string, a name, a call nor a bracket.
    OperandExpected,
    /// A whole expression is followed by something else.
    OperatorExpected,
    /// This character, which the syntax wants here, is not there.
    CharacterExpected(char),
    /// Digits that are no number, or none that a double can hold.
    InvalidNumber,
    /// A name that ends with a dot, or `$` without a name.
    InvalidName,
    /// A string without its closing quote.
    UnclosedString,
    /// A backslash before a character that needs none.
    UnknownEscape,
    /// A call of what is no function.
    UnknownFunction {
        /// What was called.
        name: String,
        /// The function whose name is nearest, if one is near.
        nearest: Option<&'static str>,
    },
    /// Too few or too many arguments, or one of the wrong kind.
    WrongArguments {
        /// How the function is called.
        usage: &'static str,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "more than {TEXT_MAX} bytes"),
            Self::FilterTooLong => write!(f, "more than {FILTER_CHARS_MAX} characters"),
            Self::TooDeep => write!(f, "nested deeper than {NESTING_MAX}"),
            Self::OperandExpected => f.write_str("a value is expected"),
            Self::OperatorExpected => f.write_str("an operator or the end is expected"),
            Self::CharacterExpected(wanted) => write!(f, "`{wanted}` is expected"),
            Self::InvalidNumber => f.write_str("not a number"),
            Self::InvalidName => f.write_str("not a name"),
            Self::UnclosedString => f.write_str("the string is not closed"),
            Self::UnknownEscape => f.write_str("no such escape in a string"),
            Self::UnknownFunction { name, nearest: None } => write!(f, "no function `{name}`"),
            Self::UnknownFunction { name, nearest: Some(nearest) } => {
                write!(f, "no function `{name}`, but there is `{nearest}`,")
            }
            Self::WrongArguments { usage } => write!(f, "the call must be like `{usage}`,"),
        }
    }
}

/// Why an expression has no value. As a filter it is then false.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EvaluationError {
    /// The input has no parameter of this name, and it was not written with `$`.
    MissingParameter(Arc<str>),
    /// `/` or `%` by zero.
    DivisionByZero,
    /// An operator or a function got a value of a type that it has no meaning for.
    WrongType {
        /// The operator or the function.
        place: &'static str,
        /// The type that it got.
        found: &'static str,
    },
    /// A number that a double, or an operation on whole numbers, cannot hold.
    OutOfRange {
        /// The operator or the function.
        place: &'static str,
    },
    /// `tonumber` of what is no number.
    NotANumber,
    /// `json` of what is no JSON.
    NotJson,
    /// `now`, but no clock was given.
    NoClock,
    /// `error` was called.
    Raised,
    /// The budget is used up.
    TooManySteps,
}

impl core::error::Error for EvaluationError {}

impl fmt::Display for EvaluationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MissingParameter(name) => write!(f, "no parameter `{name}`"),
            Self::DivisionByZero => f.write_str("division by zero"),
            Self::WrongType { place, found } => write!(f, "`{place}` cannot take {found}"),
            Self::OutOfRange { place } => write!(f, "a number out of range for `{place}`"),
            Self::NotANumber => f.write_str("not a number in `tonumber`"),
            Self::NotJson => f.write_str("not JSON in `json`"),
            Self::NoClock => f.write_str("`now` without a clock"),
            Self::Raised => f.write_str("`error` was called"),
            Self::TooManySteps => f.write_str("too many steps"),
        }
    }
}
