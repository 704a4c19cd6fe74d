//! What must hold for any input. Property tests and fuzz targets run the same bodies.

mod naive;

use std::hash::{BuildHasher, RandomState};

use longshore_expression::{Budget, Expression, TEXT_MAX, Value, wildcard};
use serde_json::{Value as Json, json};

/// Steps of a budget that no body may exceed, and few enough for a fuzzer to be quick.
const STEPS: u64 = 2_000;

/// No text makes the parser panic, and what it accepts has a value or an error over any JSON.
///
/// The input begins behind the first byte 0xff, which is in no text.
pub(crate) fn parses_or_refuses(data: &[u8]) {
    let (text, input) = halves(data);
    let Ok(text) = str::from_utf8(text) else { return };
    let expression = match Expression::parse(text) {
        Ok(expression) => expression,
        Err(error) => {
            assert!(error.position <= text.len().min(TEXT_MAX), "{text}: {error}");
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let inputs = [
        json!({"a": 1, "b": "text", "c": {"a": [1, null, true]}, "a.b": -2.5}),
        json!("text"),
        serde_json::from_slice(input).unwrap_or(Json::Null),
    ];
    // Brackets around it change nothing, and a second look sees the same.
    let again = Expression::parse(&format!(" ({text}\n)"));
    for input in &inputs {
        let mut budget = Budget::new(STEPS).at(1.5);
        let value = expression.evaluate(input, &mut budget);
        assert_eq!(expression.is_true(input, &mut Budget::new(STEPS).at(1.5)), is_true(&value));
        if let Ok(again) = &again {
            assert_eq!(*again, expression);
            let state = RandomState::new();
            assert_eq!(state.hash_one(again), state.hash_one(&expression));
            assert_eq!(again.evaluate(input, &mut Budget::new(STEPS).at(1.5)), value);
        }
        match value {
            Ok(Value::Number(number)) => assert!(number.is_finite(), "{text}"),
            Ok(Value::Json(json)) => assert!(json.is_array() || json.is_object(), "{text}"),
            Ok(_) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
}

fn is_true<E>(value: &Result<Value<'_>, E>) -> bool {
    value.as_ref().is_ok_and(Value::is_true)
}

/// Numbers, booleans and operators, in brackets or not, have the value that they have if each is
/// taken apart at the operator that binds least.
pub(crate) fn computes_as_a_naive_evaluator(data: &[u8]) {
    let tokens = naive::tokens(&mut data.iter().copied(), 0);
    let text = naive::text(&tokens);
    let expression = match Expression::parse(&text) {
        Ok(expression) => expression,
        Err(error) => {
            assert!(text.len() > TEXT_MAX, "{text}: {error}");
            return;
        }
    };
    let input = json!({"a": 3, "b": -0.5, "yes": true, "no": false});
    let found = expression.evaluate(&input, &mut Budget::new(u64::MAX)).ok();
    let wanted = naive::value(&tokens).map(|value| match value {
        naive::Value::Number(number) => Value::Number(number),
        naive::Value::Bool(value) => Value::Bool(value),
    });
    assert_eq!(found, wanted, "{text}");
}

/// A pattern matches what a naive matcher says. The text begins behind the first byte 0xff.
pub(crate) fn matches_as_a_naive_matcher(data: &[u8]) {
    let (pattern, text) = halves(data);
    let (Ok(pattern), Ok(text)) = (str::from_utf8(pattern), str::from_utf8(text)) else { return };
    if pattern.len() > 24 || text.len() > 48 {
        return;
    }
    let characters = |text: &str| text.chars().collect::<Vec<_>>();
    let wanted = naive::matches(&characters(pattern), &characters(text));
    assert_eq!(wildcard::matches(pattern, text), wanted, "{pattern:?} and {text:?}");
}

fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    let mut halves = data.splitn(2, |byte| *byte == 0xff);
    (halves.next().unwrap_or_default(), halves.next().unwrap_or_default())
}
