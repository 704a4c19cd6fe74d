//! The language, slowly and so that it can be seen to be right: no tree, no precedence climbing.

/// Operators by precedence, the loosest first.
const OPERATORS: [&[&str]; 10] = [
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!=", "="],
    &["<", "<=", ">", ">="],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

const OPERANDS: [(&str, Value); 10] = [
    ("0", Value::Number(0.0)),
    ("1", Value::Number(1.0)),
    ("2.5", Value::Number(2.5)),
    ("0x10", Value::Number(16.0)),
    ("1e20", Value::Number(1e20)),
    ("true", Value::Bool(true)),
    ("a", Value::Number(3.0)),
    ("b", Value::Number(-0.5)),
    ("yes", Value::Bool(true)),
    ("$no", Value::Bool(false)),
];

const UNARY: [&str; 4] = ["!", "-", "+", "~"];

/// How deep brackets are nested here.
const DEPTH_MAX: usize = 6;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    Bool(bool),
}

pub(crate) enum Token {
    Operand(usize),
    Unary(&'static str),
    Binary(&'static str),
    Group(Vec<Token>),
}

/// Operands with operators between and before them, as the bytes choose.
pub(crate) fn tokens(bytes: &mut dyn Iterator<Item = u8>, depth: usize) -> Vec<Token> {
    let mut tokens = Vec::new();
    loop {
        let choice = usize::from(bytes.next().unwrap_or(0));
        if choice % 4 == 3 {
            tokens.push(Token::Unary(UNARY[choice / 4 % UNARY.len()]));
        }
        let choice = usize::from(bytes.next().unwrap_or(0));
        tokens.push(match choice % 4 {
            3 if depth < DEPTH_MAX => Token::Group(self::tokens(bytes, depth + 1)),
            _ => Token::Operand(choice / 4 % OPERANDS.len()),
        });
        match bytes.next().map(usize::from) {
            None | Some(0..24) => return tokens,
            Some(choice) => {
                let signs = OPERATORS[choice % OPERATORS.len()];
                tokens.push(Token::Binary(signs[choice / OPERATORS.len() % signs.len()]));
            }
        }
    }
}

pub(crate) fn text(tokens: &[Token]) -> String {
    let texts = tokens.iter().map(|token| match token {
        Token::Operand(at) => OPERANDS[*at].0.to_owned(),
        Token::Unary(sign) | Token::Binary(sign) => (*sign).to_owned(),
        Token::Group(tokens) => format!("({})", text(tokens)),
    });
    texts.collect::<Vec<_>>().join(" ")
}

/// The value; none if it is an error.
pub(crate) fn value(tokens: &[Token]) -> Option<Value> {
    for signs in OPERATORS {
        let loosest = |token: &Token| matches!(token, Token::Binary(it) if signs.contains(it));
        let Some(at) = tokens.iter().rposition(loosest) else { continue };
        let Token::Binary(sign) = &tokens[at] else { continue };
        let left = value(&tokens[..at])?;
        return match *sign {
            "||" if is_true(left) => Some(Value::Bool(true)),
            "&&" if !is_true(left) => Some(Value::Bool(false)),
            sign => binary(sign, left, value(&tokens[at + 1..])?),
        };
    }
    match tokens {
        [Token::Operand(at)] => Some(OPERANDS[*at].1),
        [Token::Group(tokens)] => value(tokens),
        [Token::Unary(sign), rest @ ..] => unary(sign, value(rest)?),
        _ => None,
    }
}

fn unary(sign: &str, operand: Value) -> Option<Value> {
    Some(match sign {
        "!" => Value::Bool(!is_true(operand)),
        "-" => Value::Number(-number(operand)?),
        "+" => Value::Number(number(operand)?),
        _ => Value::Number(-1.0 - whole(operand)? as f64),
    })
}

fn binary(sign: &str, left: Value, right: Value) -> Option<Value> {
    match sign {
        "||" | "&&" => return Some(Value::Bool(is_true(right))),
        "==" | "=" => return Some(Value::Bool(left == right)),
        "!=" => return Some(Value::Bool(left != right)),
        _ => {}
    }
    let (x, y) = (number(left)?, number(right)?);
    let number = match sign {
        "<" => return Some(Value::Bool(x < y)),
        "<=" => return Some(Value::Bool(x <= y)),
        ">" => return Some(Value::Bool(x > y)),
        ">=" => return Some(Value::Bool(x >= y)),
        "+" => x + y,
        "-" => x - y,
        "*" => x * y,
        "/" => x / y,
        "%" => x % y,
        "&" => (whole(left)? & whole(right)?) as f64,
        "|" => (whole(left)? | whole(right)?) as f64,
        "^" => (whole(left)? ^ whole(right)?) as f64,
        "<<" => shifted_left(whole(left)?, whole(right)?)?,
        _ => shifted_right(whole(left)?, whole(right)?)?,
    };
    number.is_finite().then_some(Value::Number(number))
}

/// Doubled so often.
fn shifted_left(value: i64, bits: i64) -> Option<f64> {
    (0..64).contains(&bits).then_some(())?;
    (0..bits).try_fold(value, |value, _| value.checked_mul(2)).map(|value| value as f64)
}

/// Halved so often.
fn shifted_right(value: i64, bits: i64) -> Option<f64> {
    (0..64).contains(&bits).then_some(())?;
    Some((0..bits).fold(value, |value, _| value.div_euclid(2)) as f64)
}

fn is_true(value: Value) -> bool {
    value != Value::Bool(false) && value != Value::Number(0.0)
}

fn number(value: Value) -> Option<f64> {
    match value {
        Value::Number(number) => Some(number),
        Value::Bool(_) => None,
    }
}

/// The number without its fraction, if it has 64 bits.
fn whole(value: Value) -> Option<i64> {
    let number = number(value)?.trunc();
    (number.abs() < 9.3e18 && number as i128 == i128::from(number as i64)).then_some(number as i64)
}

/// Tries all there is.
pub(crate) fn matches(pattern: &[char], text: &[char]) -> bool {
    // One row of the table: whether the pattern so far matches so many characters of the text.
    let mut row: Vec<bool> = (0..=text.len()).map(|len| len == 0).collect();
    for wanted in pattern {
        row = (0..=text.len())
            .map(|len| match wanted {
                '*' => row[..=len].contains(&true),
                '?' => len > 0 && row[len - 1],
                wanted => len > 0 && row[len - 1] && text[len - 1] == *wanted,
            })
            .collect();
    }
    row[text.len()]
}
