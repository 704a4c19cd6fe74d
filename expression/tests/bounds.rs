//! What an evaluation costs: steps, stack, allocations.

use std::thread;

use longshore_expression::{Budget, EvaluationError, Expression, NESTING_MAX, Parameters, Value};
use serde_json::{Value as Json, json};

#[test]
fn whatever_is_long_uses_up_the_budget() {
    let long = "a".repeat(1 << 16);
    let items = Json::from(vec![1; 1 << 14]);
    let input = json!({
        "long": long, "same": long, "items": items, "others": items,
        "digits": "0".repeat(1 << 16), "array": format!("[{}1]", "1,".repeat(1 << 15)),
    });
    let texts = [
        "long == same",
        "long < same",
        "items == others",
        "items != others",
        "long == '*aaaaaaa?b*'",
        "long ~ same",
        "long + same",
        "tonumber(digits)",
        "tostring(items)",
        "strlen(long)",
        "substr(long, 1, 1)",
        "find(long, 'b')",
        "contains(long, 'b')",
        "lower(long)",
        "upper(long)",
        "json(array, '1')",
    ];
    for text in texts {
        let expression = Expression::parse(text).unwrap();
        let evaluate = |budget: &mut Budget| expression.evaluate(&input, budget).map(drop);
        assert_eq!(evaluate(&mut Budget::new(500)), Err(EvaluationError::TooManySteps), "{text}");
        let mut ample = Budget::new(1_000_000);
        assert_eq!(evaluate(&mut ample), Ok(()), "{text}");
        assert!(ample.steps() < 1_000_000 - 500, "{text}");
    }
}

#[test]
fn each_operator_name_and_function_is_a_step() {
    let rows = [
        ("1", 0),
        ("a", 1),
        ("a > 5", 2),
        ("a > 5 && a < 6", 5),
        ("a < 5 && a < 6", 3),
        ("-a", 2),
        ("abs(a)", 2),
        ("a ? 1 : 2", 2),
    ];
    for (text, steps) in rows {
        let expression = Expression::parse(text).unwrap();
        let input = json!({"a": 5.5});
        let mut budget = Budget::new(steps);
        assert!(expression.evaluate(&input, &mut budget).is_ok(), "{text}");
        assert_eq!(budget.steps(), 0, "{text}");
        if steps > 0 {
            let found = expression.evaluate(&input, &mut Budget::new(steps - 1));
            assert_eq!(found, Err(EvaluationError::TooManySteps), "{text}");
        }
    }
}

/// The path is tried at each of its dots on each level, so a long one must not be free.
#[test]
fn a_long_path_is_charged_for() {
    let name = vec!["a"; 2_000].join(".");
    let expression = Expression::parse(&name).unwrap();
    let deep = (0..100).fold(json!(1), |inner, _| json!({"a": inner}));
    let found = expression.evaluate(&deep, &mut Budget::default());
    assert_eq!(found, Err(EvaluationError::TooManySteps));
}

/// Each level of brackets holds each precedence, and still a small stack is enough.
#[test]
fn the_deepest_expression_needs_little_stack() {
    const STACK_BYTES: usize = 512 << 10;
    let open = "1||1&&1|1^1&0==1<1<<1+1*(";
    let deepest = [
        format!("{}1{}", open.repeat(NESTING_MAX), ")".repeat(NESTING_MAX)),
        format!(
            "{}1{}",
            format!("{open}1?").repeat(NESTING_MAX / 2),
            ":1)".repeat(NESTING_MAX / 2)
        ),
        format!("{}1{}", "1||1*max(".repeat(NESTING_MAX), ")".repeat(NESTING_MAX)),
        vec!["1"; 2_000].join("-"),
        "0?1:".repeat(1_000) + "1",
    ];
    let work = move || {
        for text in deepest {
            let expression = Expression::parse(&text).unwrap();
            let _ = expression.evaluate(&json!({}), &mut Budget::default());
            assert_eq!(expression, Expression::parse(&text).unwrap());
        }
    };
    thread::Builder::new().stack_size(STACK_BYTES).spawn(work).unwrap().join().unwrap();
}

#[test]
fn the_usual_comparisons_allocate_nothing() {
    let input = json!({"speed": 62, "name": "abc", "position": {"valid": true}});
    let texts = [
        "speed > 50",
        "speed>50&&name==\"a*\"",
        "position.valid && abs(speed) > 5",
        "name == 'abc' || $missing > 5",
        "missing > 5",
        "substr(name, 1) == 'bc'",
    ];
    for text in texts {
        let expression = Expression::parse(text).unwrap();
        let work = || {
            std::hint::black_box(expression.is_true(&input, &mut Budget::default()));
        };
        assert_eq!(allocation_counter::measure(work).count_total, 0, "{text}");
    }
}

/// A message whose parameters are made when they are read.
struct Message {
    topic: &'static str,
    properties: Json,
}

impl Parameters for Message {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        match name {
            "topic" => Some(Value::from(self.topic)),
            "user_properties" => Some(Value::from(&self.properties)),
            "made" => Some(Value::from(json!({"a": [1, 2]}))),
            _ => None,
        }
    }
}

#[test]
fn parameters_need_be_no_json() {
    let message = Message { topic: "a/b", properties: json!({"unit": "kg", "a.b": "c"}) };
    let rows = [
        ("topic == 'a/*'", true),
        ("user_properties.unit == 'kg'", true),
        ("user_properties.a.b == 'c'", true),
        ("made.a.1 == 2", true),
        ("topic.x", false),
    ];
    for (text, want) in rows {
        let expression = Expression::parse(text).unwrap();
        assert_eq!(expression.is_true(&message, &mut Budget::default()), want, "{text}");
        let input: &dyn Parameters = &message;
        assert_eq!(expression.is_true(input, &mut Budget::default()), want, "{text}");
    }
}
