//! `/storage/expressions`: what expressions can do, and trying one (broker specification, 14.2.11).

use longshore_acl::Method;
use longshore_expression::{Budget, Expression, functions};
use serde_json::{Value, json};

use super::answer::{Answer, Outcome};
use super::call::Call;
use super::fault::{Code, Fault};
use super::route::{Gate, Handler, Route, Takes};
use super::schema::{Field, Kind, Object};
use super::selector::STEPS_MAX;
use crate::clock::wall;

static FUNCTION: Object = Object {
    name: "ExpressionFunction",
    fields: &[
        Field::new("usage", Kind::Text, "How it is called"),
        Field::new("description", Kind::Text, "What it gives"),
    ],
    is_open: false,
};

static TEST: Object = Object {
    name: "ExpressionTest",
    fields: &[
        Field::new("expression", Kind::Text, "The expression").sent(),
        Field::new("input", Kind::List, "Values that it is evaluated over").sent(),
        Field::new("timezone", Kind::Text, "Nothing depends on it").sent(),
    ],
    is_open: false,
};

/// The routes of this module.
pub(super) static ROUTES: &[&[Route]] = &[&[
    Route {
        method: Method::Get,
        path: "/storage/expressions/functions",
        about: "List the functions that expressions may call",
        gate: Gate::Token,
        takes: Takes::Nothing,
        gives: Some(&FUNCTION),
        handler: Handler::Blocking(list),
    },
    Route {
        method: Method::Get,
        path: "/storage/expressions/test",
        about: "Evaluate an expression over each input",
        gate: Gate::Token,
        takes: Takes::Data(&TEST),
        gives: None,
        handler: Handler::Blocking(test),
    },
    Route {
        method: Method::Post,
        path: "/storage/expressions/test",
        about: "Evaluate an expression over each input",
        gate: Gate::Token,
        takes: Takes::One(&TEST),
        gives: None,
        handler: Handler::Blocking(test),
    },
]];

fn list(call: &Call) -> Outcome {
    let fields = call.fields()?;
    let shown = functions().iter().map(move |function| {
        let about = [("usage", function.usage), ("description", function.description)];
        fields.of(about.map(|(name, text)| (name.to_owned(), text.into())).into_iter().collect())
    });
    Ok(Answer::of(shown))
}

/// The value over each input, in their order; null, and an entry of `errors`, where there is none.
fn test(call: &Call) -> Outcome {
    let mut body = match call.route.method {
        Method::Get => call.data()?,
        _ => call.object()?,
    };
    TEST.takes(&body)?;
    let wrong =
        |name: &str, what: &str| Fault::new(Code::Format, format!("{name}: {what}")).field(name);
    let Some(Value::String(text)) = body.remove("expression") else {
        return Err(wrong("expression", "not a string"));
    };
    let expression = Expression::parse(&text);
    let expression = expression.map_err(|error| wrong("expression", &error.to_string()))?;
    let input = match body.remove("input") {
        None => vec![json!({})],
        Some(Value::Array(input)) => input,
        Some(_) => return Err(wrong("input", "not an array")),
    };
    // One budget for all: it is the request that is bounded.
    let mut budget = Budget::new(STEPS_MAX).at(wall().0 as f64 / 1e6);
    let (mut values, mut faults) = (Vec::new(), Vec::new());
    for (at, input) in input.iter().enumerate() {
        match expression.evaluate(input, &mut budget) {
            Ok(value) => values.push(value.into()),
            Err(error) => {
                values.push(Value::Null);
                faults.push(Fault::bad_request(error.to_string()).at(at));
            }
        }
    }
    if faults.len() == values.len() {
        values.clear();
    }
    Ok(Answer::partly(values, faults))
}
