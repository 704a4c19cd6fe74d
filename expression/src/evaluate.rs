//! From a tree and its input to a value.

use std::borrow::Cow;

use crate::budget::Budget;
use crate::error::EvaluationError;
use crate::functions::{ARGUMENTS_MAX, Form, Function};
use crate::operators::{Binary, finite, number};
use crate::parameters::{Parameters, find};
use crate::tree::{Node, Text};
use crate::value::Value;

/// Recursion is as deep as the tree, which the parser has bounded.
pub(crate) fn evaluate<'a, P: Parameters + ?Sized>(
    node: &'a Node,
    input: &'a P,
    budget: &mut Budget,
) -> Result<Value<'a>, EvaluationError> {
    match node {
        Node::Null => Ok(Value::Null),
        Node::Bool(value) => Ok(Value::Bool(*value)),
        Node::Number(value) => Ok(Value::Number(value.0)),
        Node::Text(Text { text, .. }) => Ok(Value::Text(Cow::Borrowed(text))),
        Node::Name { name, is_optional } => match find(input, name, budget)? {
            Some(value) => Ok(value),
            None if *is_optional => Ok(Value::Null),
            None => Err(EvaluationError::MissingParameter(name.clone())),
        },
        Node::Exists(name) => Ok(Value::Bool(find(input, name, budget)?.is_some())),
        Node::Unary(operator, operand) => {
            budget.charge(1)?;
            operator.apply(&evaluate(operand, input, budget)?)
        }
        Node::Chain { first, rest } => chain(first, rest, input, budget),
        Node::Choice { cases, otherwise } => {
            for (condition, value) in cases {
                budget.charge(1)?;
                if evaluate(condition, input, budget)?.is_true() {
                    return evaluate(value, input, budget);
                }
            }
            evaluate(otherwise, input, budget)
        }
        Node::Call { function, arguments } => call(function, arguments, input, budget),
    }
}

fn chain<'a, P: Parameters + ?Sized>(
    first: &'a Node,
    rest: &'a [(Binary, Node)],
    input: &'a P,
    budget: &mut Budget,
) -> Result<Value<'a>, EvaluationError> {
    let mut left = evaluate(first, input, budget)?;
    for (operator, node) in rest {
        budget.charge(1)?;
        left = match (operator, node) {
            (
                Binary::Equal | Binary::NotEqual | Binary::Like,
                Node::Text(Text { pattern: Some(pattern), .. }),
            ) => operator.apply_pattern(&left, pattern, budget)?,
            _ => match operator.decided_by(&left) {
                Some(decided) => Value::Bool(decided),
                None => operator.apply(left, evaluate(node, input, budget)?, budget)?,
            },
        };
    }
    Ok(left)
}

fn call<'a, P: Parameters + ?Sized>(
    function: &Function,
    arguments: &'a [Node],
    input: &'a P,
    budget: &mut Budget,
) -> Result<Value<'a>, EvaluationError> {
    budget.charge(1)?;
    match function.form {
        Form::Map(map) => {
            let [argument] = arguments else { return Ok(Value::Null) };
            let argument = evaluate(argument, input, budget)?;
            finite(function.name, map(number(function.name, &argument)?))
        }
        Form::Fold(fold) => {
            let mut result = None;
            for argument in arguments {
                let argument = evaluate(argument, input, budget)?;
                let next = number(function.name, &argument)?;
                result = Some(result.map_or(next, |result| fold(result, next)));
            }
            finite(function.name, result.unwrap_or(0.0))
        }
        Form::Call(call) => {
            let mut values = [const { Value::Null }; ARGUMENTS_MAX];
            let values = &mut values[..arguments.len()];
            for (value, argument) in values.iter_mut().zip(arguments) {
                *value = evaluate(argument, input, budget)?;
            }
            call(values, budget)
        }
        Form::If | Form::Not | Form::Exists => unreachable!("the parser makes other nodes of them"),
    }
}
