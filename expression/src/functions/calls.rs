//! What functions do that are not arithmetic.

use core::mem::take;
use std::borrow::Cow;
use std::io::{self, Write};

use serde_json::Value as Json;

use crate::budget::{BYTES_PER_STEP, Budget};
use crate::error::EvaluationError;
use crate::literal::hexadecimal;
use crate::operators::{finite, integer, wrong_type};
use crate::parameters::descend;
use crate::value::Value;

type Outcome<'a> = Result<Value<'a>, EvaluationError>;

pub(super) fn error<'a>(_: &mut [Value<'a>], _: &mut Budget) -> Outcome<'a> {
    Err(EvaluationError::Raised)
}

pub(super) fn is_null<'a>(values: &mut [Value<'a>], _: &mut Budget) -> Outcome<'a> {
    Ok(Value::Bool(values[0] == Value::Null))
}

pub(super) fn now<'a>(_: &mut [Value<'a>], budget: &mut Budget) -> Outcome<'a> {
    finite("now", budget.now_secs().ok_or(EvaluationError::NoClock)?)
}

pub(super) fn to_number<'a>(values: &mut [Value<'a>], budget: &mut Budget) -> Outcome<'a> {
    match take(&mut values[0]) {
        Value::Number(value) => Ok(Value::Number(value)),
        Value::Bool(value) => Ok(Value::Number(f64::from(u8::from(value)))),
        Value::Text(text) => {
            budget.charge_bytes(text.len())?;
            let text = text.trim();
            let value = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
                Some(digits) => hexadecimal(digits),
                None => text.parse().ok().filter(|value: &f64| value.is_finite()),
            };
            value.map(Value::Number).ok_or(EvaluationError::NotANumber)
        }
        other => Err(wrong_type("tonumber", &other)),
    }
}

pub(super) fn to_string<'a>(values: &mut [Value<'a>], budget: &mut Budget) -> Outcome<'a> {
    let json = match take(&mut values[0]) {
        text @ Value::Text(_) => return Ok(text),
        Value::Json(json) => json,
        scalar => Cow::Owned(Json::from(scalar)),
    };
    let mut out = Metered { text: Vec::new(), budget };
    serde_json::to_writer(&mut out, &*json).map_err(|_| EvaluationError::TooManySteps)?;
    let text = String::from_utf8(out.text).unwrap_or_default();
    Ok(Value::Text(Cow::Owned(text)))
}

pub(super) fn length<'a>(values: &mut [Value<'a>], budget: &mut Budget) -> Outcome<'a> {
    let text = text("strlen", &mut values[0])?;
    budget.charge_bytes(text.len())?;
    Ok(Value::Number(text.chars().count() as f64))
}

pub(super) fn part<'a>(values: &mut [Value<'a>], budget: &mut Budget) -> Outcome<'a> {
    let text = text("substr", &mut values[0])?;
    budget.charge_bytes(text.len())?;
    let start = integer("substr", &values[1])?;
    let rest = match usize::try_from(start) {
        Ok(start) => byte(&text, start)..,
        Err(_) => byte_from_end(&text, start.unsigned_abs())..,
    };
    let len = match values.get(2) {
        None => text.len() - rest.start,
        Some(len) => {
            let len = usize::try_from(integer("substr", len)?)
                .map_err(|_| EvaluationError::OutOfRange { place: "substr" })?;
            byte(&text[rest.clone()], len)
        }
    };
    let range = rest.start..rest.start + len;
    Ok(Value::Text(match text {
        Cow::Borrowed(text) => Cow::Borrowed(&text[range]),
        Cow::Owned(text) => Cow::Owned(text[range].to_owned()),
    }))
}

pub(super) fn find<'a>(values: &mut [Value<'a>], budget: &mut Budget) -> Outcome<'a> {
    let (text, part) = (text("find", &mut values[0])?, text("find", &mut values[1])?);
    budget.charge_bytes(text.len() + part.len())?;
    let at = text.find(&*part).map_or(-1.0, |at| text[..at].chars().count() as f64);
    Ok(Value::Number(at))
}

pub(super) fn contains<'a>(values: &mut [Value<'a>], budget: &mut Budget) -> Outcome<'a> {
    let whole = text("contains", &mut values[0])?;
    let part = text("contains", &mut values[1])?;
    budget.charge_bytes(whole.len() + part.len())?;
    Ok(Value::Bool(whole.contains(&*part)))
}

pub(super) fn lower<'a>(values: &mut [Value<'a>], budget: &mut Budget) -> Outcome<'a> {
    let text = text("lower", &mut values[0])?;
    budget.charge_bytes(text.len())?;
    Ok(Value::Text(Cow::Owned(text.to_lowercase())))
}

pub(super) fn upper<'a>(values: &mut [Value<'a>], budget: &mut Budget) -> Outcome<'a> {
    let text = text("upper", &mut values[0])?;
    budget.charge_bytes(text.len())?;
    Ok(Value::Text(Cow::Owned(text.to_uppercase())))
}

pub(super) fn json<'a>(values: &mut [Value<'a>], budget: &mut Budget) -> Outcome<'a> {
    let json = match take(&mut values[0]) {
        Value::Json(json) => json,
        Value::Text(text) => {
            budget.charge_bytes(text.len())?;
            Cow::Owned(serde_json::from_str(&text).map_err(|_| EvaluationError::NotJson)?)
        }
        other => return Err(wrong_type("json", &other)),
    };
    let Some(path) = values.get_mut(1) else {
        return Ok(match json {
            Cow::Borrowed(json) => Value::from(json),
            Cow::Owned(json) => Value::from(json),
        });
    };
    let path = text("json", path)?;
    let found = match json {
        Cow::Borrowed(json) => descend(json, &path, budget)?.map(Value::from),
        Cow::Owned(json) => descend(&json, &path, budget)?.cloned().map(Value::from),
    };
    Ok(found.unwrap_or_default())
}

fn text<'a>(place: &'static str, value: &mut Value<'a>) -> Result<Cow<'a, str>, EvaluationError> {
    match take(value) {
        Value::Text(text) => Ok(text),
        other => Err(wrong_type(place, &other)),
    }
}

/// The byte at which a character begins; the end if there are fewer.
fn byte(text: &str, character: usize) -> usize {
    text.char_indices().nth(character).map_or(text.len(), |(at, _)| at)
}

/// The byte at which the last characters begin, so many; the start if there are fewer.
fn byte_from_end(text: &str, characters: u64) -> usize {
    let back = usize::try_from(characters).unwrap_or(usize::MAX).saturating_sub(1);
    text.char_indices().nth_back(back).map_or(0, |(at, _)| at)
}

/// A text that is charged for while it grows.
struct Metered<'b> {
    text: Vec<u8>,
    budget: &'b mut Budget,
}

impl Write for Metered<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Blocks are counted over the whole, for a number or a comma comes as a few bytes.
        let grown = self.text.len() + bytes.len();
        let blocks = grown / BYTES_PER_STEP - self.text.len() / BYTES_PER_STEP;
        self.budget.charge(blocks as u64).map_err(io::Error::other)?;
        self.text.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
