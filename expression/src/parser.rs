//! The grammar: from a text to a tree.
//!
//! Binary operators and their precedence are winnow's `expression`; what recurses (brackets, calls,
//! unary operators, the middle of `?:`) passes [`deeper`], so the stack is bounded.

use winnow::Parser;
use winnow::combinator::{Infix, Prefix, alt, cut_err, expression, fail, peek, separated};
use winnow::error::{ErrMode, ParserError};
use winnow::stream::{LocatingSlice, Location, Stateful, Stream};
use winnow::token::{any, literal, take_while};

use crate::error::{ParseError, Reason};
use crate::functions::{Form, Function, find, nearest};
use crate::literal;
use crate::operators::{Binary, Unary};
use crate::tree::Node;

/// Bytes of an expression at most.
pub const TEXT_MAX: usize = 4096;

/// How deep brackets, calls and unary operators may be nested.
pub const NESTING_MAX: usize = 32;

/// The text that is left, and how deep it is nested.
type Input<'i> = Stateful<LocatingSlice<&'i str>, usize>;

type Parsed<T> = Result<T, ErrMode<Failure>>;

/// How strongly a unary operator binds: more than any other.
const UNARY: i64 = 11;

#[derive(Debug)]
struct Failure(ParseError);

impl ParserError<Input<'_>> for Failure {
    type Inner = Self;

    /// Only where an operand could begin does a parser fail without a reason of its own.
    fn from_input(input: &Input<'_>) -> Self {
        Self(ParseError { position: input.current_token_start(), reason: Reason::OperandExpected })
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

pub(crate) fn parse(text: &str) -> Result<Node, ParseError> {
    if text.len() > TEXT_MAX {
        return Err(ParseError { position: TEXT_MAX, reason: Reason::TooLong });
    }
    let mut input = Input { input: LocatingSlice::new(text), state: 0 };
    let node = conditional(&mut input).and_then(|node| {
        skip_space(&mut input);
        match input.current_token_start() {
            end if end == text.len() => Ok(node),
            position => Err(failed(position, Reason::OperatorExpected)),
        }
    });
    node.map_err(|error| match error {
        ErrMode::Cut(Failure(error)) | ErrMode::Backtrack(Failure(error)) => error,
        // Only streams of which more may come are incomplete.
        ErrMode::Incomplete(_) => {
            ParseError { position: text.len(), reason: Reason::OperandExpected }
        }
    })
}

/// `a ? b : c`, and whatever binds stronger.
fn conditional(input: &mut Input<'_>) -> Parsed<Node> {
    let mut cases = Vec::new();
    loop {
        let node = binary(input)?;
        if !skip_if(input, "?") {
            return Ok(match cases.is_empty() {
                true => node,
                false => Node::Choice { cases, otherwise: Box::new(node) },
            });
        }
        let value = deeper(input, |input| cut_err(conditional).parse_next(input))?;
        expect(input, ':')?;
        cases.push((node, value));
    }
}

fn binary(input: &mut Input<'_>) -> Parsed<Node> {
    expression(operand).prefix(prefix).infix(infix).parse_next(input)
}

fn infix<'i>(input: &mut Input<'i>) -> Parsed<Infix<Input<'i>, Node, ErrMode<Failure>>> {
    /// An operator with the function that joins its operands, which cannot hold the operator.
    macro_rules! operator {
        ($sign:literal, $operator:expr) => {
            literal($sign).value(Infix::Left($operator.precedence(), |_, left, right| {
                Ok(Node::join($operator, left, right))
            }))
        };
    }
    skip_space(input);
    // Of two signs that begin alike the longer one comes first.
    alt((
        alt((
            operator!("||", Binary::Or),
            operator!("&&", Binary::And),
            operator!("==", Binary::Equal),
            operator!("!=", Binary::NotEqual),
            operator!("<<", Binary::ShiftLeft),
            operator!(">>", Binary::ShiftRight),
            operator!("<=", Binary::LessOrEqual),
            operator!(">=", Binary::GreaterOrEqual),
        )),
        alt((
            operator!("|", Binary::BitOr),
            operator!("^", Binary::BitXor),
            operator!("&", Binary::BitAnd),
            operator!("=", Binary::Equal),
            operator!("~", Binary::Like),
        )),
        alt((
            operator!("<", Binary::Less),
            operator!(">", Binary::Greater),
            operator!("+", Binary::Add),
            operator!("-", Binary::Subtract),
            operator!("*", Binary::Multiply),
            operator!("/", Binary::Divide),
            operator!("%", Binary::Remainder),
        )),
    ))
    .parse_next(input)
}

/// A unary operator. It nests until it is joined with its operand.
fn prefix<'i>(input: &mut Input<'i>) -> Parsed<Prefix<Input<'i>, Node, ErrMode<Failure>>> {
    macro_rules! operator {
        ($sign:literal, $operator:expr) => {
            literal($sign).value(Prefix(UNARY, |input: &mut Input<'i>, operand| {
                input.state -= 1;
                Ok(Node::Unary($operator, Box::new(operand)))
            }))
        };
    }
    skip_space(input);
    let at = input.current_token_start();
    let found = alt((
        operator!("!", Unary::Not),
        operator!("-", Unary::Minus),
        operator!("+", Unary::Plus),
        operator!("~", Unary::Complement),
    ))
    .parse_next(input)?;
    nest(input, at)?;
    Ok(found)
}

fn operand(input: &mut Input<'_>) -> Parsed<Node> {
    skip_space(input);
    let at = input.current_token_start();
    match peek(any).parse_next(input)? {
        '(' => deeper(input, |input| {
            any.void().parse_next(input)?;
            let node = cut_err(conditional).parse_next(input)?;
            expect(input, ')')?;
            Ok(node)
        }),
        '"' | '\'' => {
            let found = literal::string(input.input.as_ref());
            let (text, len) = found.map_err(|(reason, offset)| failed(at + offset, reason))?;
            input.next_slice(len);
            Ok(Node::Text(text))
        }
        '0'..='9' | '.' => {
            let found = literal::number(input.input.as_ref());
            let (number, len) = found.map_err(|reason| failed(at, reason))?;
            input.next_slice(len);
            Ok(Node::Number(number))
        }
        '$' => {
            any.void().parse_next(input)?;
            let Some(name) = name(input)? else { return Err(failed(at, Reason::InvalidName)) };
            Ok(Node::Name { name: name.into(), is_optional: true })
        }
        _ => match name(input)? {
            None => fail.parse_next(input),
            Some("null") => Ok(Node::Null),
            Some("true") => Ok(Node::Bool(true)),
            Some("false") => Ok(Node::Bool(false)),
            Some(name) if skip_if(input, "(") => call(input, name, at),
            Some(name) => Ok(Node::Name { name: name.into(), is_optional: false }),
        },
    }
}

/// A name, if one is there.
fn name<'i>(input: &mut Input<'i>) -> Parsed<Option<&'i str>> {
    let at = input.current_token_start();
    let starts = |it: char| it.is_alphabetic() || it == '_';
    let continues = |it: char| it.is_alphanumeric() || it == '_' || it == '.';
    if !input.input.as_ref().starts_with(starts) {
        return Ok(None);
    }
    let name: &str = take_while(1.., continues).parse_next(input)?;
    if name.ends_with('.') { Err(failed(at, Reason::InvalidName)) } else { Ok(Some(name)) }
}

/// A call of the function `name`, which stands at `at`; its bracket is open.
fn call(input: &mut Input<'_>, name: &str, at: usize) -> Parsed<Node> {
    let Some(function) = find(name) else {
        let reason = Reason::UnknownFunction { name: name.to_owned(), nearest: nearest(name) };
        return Err(failed(at, reason));
    };
    let arguments = deeper(input, |input| {
        if skip_if(input, ")") {
            return Ok(Vec::new());
        }
        let found = separated(1.., cut_err(conditional), separator).parse_next(input)?;
        expect(input, ')')?;
        Ok(found)
    })?;
    understand(function, arguments)
        .ok_or_else(|| failed(at, Reason::WrongArguments { usage: function.usage }))
}

fn separator(input: &mut Input<'_>) -> Parsed<()> {
    if skip_if(input, ",") { Ok(()) } else { fail.parse_next(input) }
}

/// The node that a call is; none if the arguments do not fit.
fn understand(function: &'static Function, mut arguments: Vec<Node>) -> Option<Node> {
    if !function.arguments.contains(&arguments.len()) {
        return None;
    }
    let mut next = || arguments.pop().map(Box::new);
    Some(match function.form {
        Form::Not => Node::Unary(Unary::Not, next()?),
        Form::If => {
            let (otherwise, value, condition) = (next()?, next()?, next()?);
            Node::Choice { cases: vec![(*condition, *value)], otherwise }
        }
        Form::Exists => match *next()? {
            Node::Name { name, .. } => Node::Exists(name),
            Node::Text(text) => Node::Exists(text.text.into()),
            _ => return None,
        },
        _ => Node::Call { function, arguments: arguments.into() },
    })
}

/// Runs a parser one level deeper.
fn deeper<'i, T>(
    input: &mut Input<'i>,
    parser: impl FnOnce(&mut Input<'i>) -> Parsed<T>,
) -> Parsed<T> {
    nest(input, input.current_token_start())?;
    let found = parser(input)?;
    input.state -= 1;
    Ok(found)
}

fn nest(input: &mut Input<'_>, position: usize) -> Parsed<()> {
    if input.state == NESTING_MAX {
        return Err(failed(position, Reason::TooDeep));
    }
    input.state += 1;
    Ok(())
}

/// The character that must come now.
fn expect(input: &mut Input<'_>, wanted: char) -> Parsed<()> {
    if skip_if(input, wanted.encode_utf8(&mut [0; 4])) {
        return Ok(());
    }
    Err(failed(input.current_token_start(), Reason::CharacterExpected(wanted)))
}

/// Whether this comes next, which is then skipped, as is space before it.
fn skip_if(input: &mut Input<'_>, wanted: &str) -> bool {
    skip_space(input);
    let is_there = input.input.as_ref().starts_with(wanted);
    if is_there {
        input.next_slice(wanted.len());
    }
    is_there
}

fn skip_space(input: &mut Input<'_>) {
    let text: &str = input.input.as_ref();
    let space = text.len() - text.trim_start_matches([' ', '\t', '\r', '\n']).len();
    input.next_slice(space);
}

/// An error that ends parsing: nothing else could be meant.
fn failed(position: usize, reason: Reason) -> ErrMode<Failure> {
    ErrMode::Cut(Failure(ParseError { position, reason }))
}
