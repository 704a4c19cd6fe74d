//! Numbers and strings as they stand in an expression.

use crate::error::Reason;
use crate::tree::{Finite, Text};
use crate::wildcard::Builder;

/// Reads the number that a text begins with, and tells its length in bytes.
pub(crate) fn number(text: &str) -> Result<(Finite, usize), Reason> {
    let (value, len) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(rest) => {
            let digits =
                rest.len() - rest.trim_start_matches(|it: char| it.is_ascii_hexdigit()).len();
            (hexadecimal(&rest[..digits]), 2 + digits)
        }
        None => {
            let len = decimal_len(text);
            (text[..len].parse().ok().filter(|value: &f64| value.is_finite()), len)
        }
    };
    let is_whole = !text[len..].starts_with(|it: char| it.is_alphanumeric() || it == '_');
    value.filter(|_| is_whole).map(|value| (Finite(value), len)).ok_or(Reason::InvalidNumber)
}

/// A number of up to 64 bits.
pub(crate) fn hexadecimal(digits: &str) -> Option<f64> {
    let is_plain = digits.bytes().all(|it| it.is_ascii_hexdigit());
    u64::from_str_radix(digits, 16).ok().filter(|_| is_plain).map(|value| value as f64)
}

/// Bytes of digits with at most one dot among them, and an exponent.
fn decimal_len(text: &str) -> usize {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or("");
        from + rest.len() - rest.trim_start_matches(|it: char| it.is_ascii_digit()).len()
    };
    let mut end = digits(0);
    if text[end..].starts_with('.') {
        end = digits(end + 1);
    }
    if text[end..].starts_with(['e', 'E']) {
        let sign = usize::from(text[end + 1..].starts_with(['+', '-']));
        let exponent = digits(end + 1 + sign);
        if exponent > end + 1 + sign {
            end = exponent;
        }
    }
    end
}

/// Reads the string that a text begins with, and tells its length in bytes; fails with the byte at
/// which something is wrong.
///
/// `text` begins with a quote, which closes the string too.
pub(crate) fn string(text: &str) -> Result<(Text, usize), (Reason, usize)> {
    let mut characters = text.char_indices();
    let quote = characters.next().map(|(_, quote)| quote);
    let (mut value, mut builder, mut has_pattern) = (String::new(), Builder::default(), false);
    while let Some((at, character)) = characters.next() {
        if Some(character) == quote {
            let pattern = has_pattern.then(|| Box::new(builder.finish()));
            return Ok((Text { text: value.into(), pattern }, at + 1));
        }
        let literal = if character == '\\' {
            let Some((_, escaped)) = characters.next() else { break };
            let literal = unescape(escaped).ok_or((Reason::UnknownEscape, at))?;
            builder.push_literal(literal);
            literal
        } else {
            builder.push(character);
            character
        };
        has_pattern |= matches!(literal, '*' | '?');
        value.push(literal);
    }
    Err((Reason::UnclosedString, 0))
}

fn unescape(escaped: char) -> Option<char> {
    match escaped {
        '\\' | '"' | '\'' | '*' | '?' | '/' => Some(escaped),
        'n' => Some('\n'),
        'r' => Some('\r'),
        't' => Some('\t'),
        _ => None,
    }
}
