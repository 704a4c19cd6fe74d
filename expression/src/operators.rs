//! What operators do to values.

use core::cmp::Ordering;
use std::borrow::Cow;

use crate::budget::Budget;
use crate::error::EvaluationError;
use crate::value::Value;
use crate::wildcard::Pattern;

/// An operator before its operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Unary {
    Not,
    Minus,
    Plus,
    Complement,
}

/// An operator between its operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Binary {
    Or,
    And,
    BitOr,
    BitXor,
    BitAnd,
    Equal,
    NotEqual,
    Like,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    ShiftLeft,
    ShiftRight,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Unary {
    pub(crate) fn apply<'a>(self, operand: &Value<'a>) -> Result<Value<'a>, EvaluationError> {
        match self {
            Self::Not => Ok(Value::Bool(!operand.is_true())),
            Self::Minus => Ok(Value::Number(-number("-", operand)?)),
            Self::Plus => Ok(Value::Number(number("+", operand)?)),
            Self::Complement => Ok(Value::Number(!integer("~", operand)? as f64)),
        }
    }
}

impl Binary {
    /// How strongly the operator binds; that of C.
    pub(crate) const fn precedence(self) -> i64 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::BitOr => 3,
            Self::BitXor => 4,
            Self::BitAnd => 5,
            Self::Equal | Self::NotEqual | Self::Like => 6,
            Self::Less | Self::LessOrEqual | Self::Greater | Self::GreaterOrEqual => 7,
            Self::ShiftLeft | Self::ShiftRight => 8,
            Self::Add | Self::Subtract => 9,
            Self::Multiply | Self::Divide | Self::Remainder => 10,
        }
    }

    pub(crate) const fn sign(self) -> &'static str {
        match self {
            Self::Or => "||",
            Self::And => "&&",
            Self::BitOr => "|",
            Self::BitXor => "^",
            Self::BitAnd => "&",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Like => "~",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::ShiftLeft => "<<",
            Self::ShiftRight => ">>",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    pub(crate) const fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::NotEqual)
    }

    /// The result if the left operand alone decides it.
    pub(crate) fn decided_by(self, left: &Value<'_>) -> Option<bool> {
        match self {
            Self::And if !left.is_true() => Some(false),
            Self::Or if left.is_true() => Some(true),
            _ => None,
        }
    }

    /// The result of both operands, of which the left one has not decided.
    pub(crate) fn apply<'a>(
        self,
        left: Value<'a>,
        right: Value<'a>,
        budget: &mut Budget,
    ) -> Result<Value<'a>, EvaluationError> {
        let sign = self.sign();
        match self {
            Self::Or | Self::And => Ok(Value::Bool(right.is_true())),
            Self::Equal => Ok(Value::Bool(left.equals(&right, budget)?)),
            Self::NotEqual => Ok(Value::Bool(!left.equals(&right, budget)?)),
            Self::Less => ordered(sign, &left, &right, Ordering::is_lt, budget),
            Self::LessOrEqual => ordered(sign, &left, &right, Ordering::is_le, budget),
            Self::Greater => ordered(sign, &left, &right, Ordering::is_gt, budget),
            Self::GreaterOrEqual => ordered(sign, &left, &right, Ordering::is_ge, budget),
            Self::Like => like(left, right, budget),
            Self::Add => match (left, right) {
                (Value::Text(left), Value::Text(right)) => joined(left, &right, budget),
                (left, right) => arithmetic(self, &left, &right),
            },
            Self::Subtract | Self::Multiply | Self::Divide | Self::Remainder => {
                arithmetic(self, &left, &right)
            }
            Self::BitOr | Self::BitXor | Self::BitAnd | Self::ShiftLeft | Self::ShiftRight => {
                bits(self, &left, &right)
            }
        }
    }

    /// The result of `==`, `!=` and `~` if a literal with wildcards is on the right.
    pub(crate) fn apply_pattern<'a>(
        self,
        left: &Value<'a>,
        pattern: &Pattern,
        budget: &mut Budget,
    ) -> Result<Value<'a>, EvaluationError> {
        let is_match = match left {
            Value::Text(text) => pattern.matches(text, budget)?,
            Value::Null => false,
            other if self == Self::Like => return Err(wrong_type("~", other)),
            _ => false,
        };
        Ok(Value::Bool(is_match != (self == Self::NotEqual)))
    }
}

/// The number that a value must be.
pub(crate) fn number(place: &'static str, value: &Value<'_>) -> Result<f64, EvaluationError> {
    match value {
        Value::Number(number) => Ok(*number),
        other => Err(wrong_type(place, other)),
    }
}

/// The whole number that a value must be, without its fraction.
pub(crate) fn integer(place: &'static str, value: &Value<'_>) -> Result<i64, EvaluationError> {
    const END: f64 = 9_223_372_036_854_775_808.0;
    let number = number(place, value)?;
    if (-END..END).contains(&number) {
        Ok(number as i64)
    } else {
        Err(EvaluationError::OutOfRange { place })
    }
}

pub(crate) fn finite<'a>(place: &'static str, value: f64) -> Result<Value<'a>, EvaluationError> {
    if value.is_finite() {
        Ok(Value::Number(value))
    } else {
        Err(EvaluationError::OutOfRange { place })
    }
}

pub(crate) fn wrong_type(place: &'static str, value: &Value<'_>) -> EvaluationError {
    EvaluationError::WrongType { place, found: value.kind() }
}

fn arithmetic<'a>(
    operator: Binary,
    left: &Value<'_>,
    right: &Value<'_>,
) -> Result<Value<'a>, EvaluationError> {
    let sign = operator.sign();
    let (left, right) = (number(sign, left)?, number(sign, right)?);
    let result = match operator {
        Binary::Divide | Binary::Remainder if right == 0.0 => {
            return Err(EvaluationError::DivisionByZero);
        }
        Binary::Divide => left / right,
        Binary::Remainder => left % right,
        Binary::Subtract => left - right,
        Binary::Multiply => left * right,
        _ => left + right,
    };
    finite(sign, result)
}

fn bits<'a>(
    operator: Binary,
    left: &Value<'_>,
    right: &Value<'_>,
) -> Result<Value<'a>, EvaluationError> {
    let place = operator.sign();
    let (left, right) = (integer(place, left)?, integer(place, right)?);
    let result = match operator {
        Binary::BitOr => left | right,
        Binary::BitXor => left ^ right,
        Binary::BitAnd => left & right,
        _ if !(0..64).contains(&right) => return Err(EvaluationError::OutOfRange { place }),
        Binary::ShiftLeft => i64::try_from(i128::from(left) << right)
            .map_err(|_| EvaluationError::OutOfRange { place })?,
        _ => left >> right,
    };
    Ok(Value::Number(result as f64))
}

fn ordered<'a>(
    sign: &'static str,
    left: &Value<'_>,
    right: &Value<'_>,
    is_wanted: fn(Ordering) -> bool,
    budget: &mut Budget,
) -> Result<Value<'a>, EvaluationError> {
    let ordering = match (left, right) {
        (Value::Number(left), Value::Number(right)) => left.partial_cmp(right),
        (Value::Text(left), Value::Text(right)) => {
            budget.charge_bytes(left.len().min(right.len()))?;
            Some(left.cmp(right))
        }
        (Value::Null, _) | (_, Value::Null) => None,
        (Value::Number(_) | Value::Text(_), other) | (other, _) => {
            return Err(wrong_type(sign, other));
        }
    };
    Ok(Value::Bool(ordering.is_some_and(is_wanted)))
}

fn like<'a>(
    left: Value<'_>,
    right: Value<'_>,
    budget: &mut Budget,
) -> Result<Value<'a>, EvaluationError> {
    match (left, right) {
        (Value::Text(text), Value::Text(pattern)) => {
            budget.charge_bytes(pattern.len())?;
            Ok(Value::Bool(Pattern::new(&pattern).matches(&text, budget)?))
        }
        (Value::Null, _) | (_, Value::Null) => Ok(Value::Bool(false)),
        (Value::Text(_), other) | (other, _) => Err(wrong_type("~", &other)),
    }
}

fn joined<'a>(
    left: Cow<'a, str>,
    right: &str,
    budget: &mut Budget,
) -> Result<Value<'a>, EvaluationError> {
    budget.charge_bytes(left.len() + right.len())?;
    let mut text = left.into_owned();
    text.push_str(right);
    Ok(Value::Text(Cow::Owned(text)))
}
