//! The language, rule by rule. The numbers are of section 14.2 of the specification of the broker.

use std::hash::{BuildHasher, RandomState};

use longshore_expression::{
    Budget, EvaluationError, Expression, NESTING_MAX, ParseError, Reason, TEXT_MAX, Value,
    functions,
};
use serde_json::{Value as Json, json};

/// What the rows below are evaluated over.
fn input() -> Json {
    json!({
        "speed": 62.5,
        "zero": 0,
        "on": true,
        "off": false,
        "none": null,
        "word": "abc",
        "name": "12-345",
        "empty": "",
        "position.speed": 7,
        "position": {"speed": 8, "valid": true, "deep.key": 1, "deep": {"key": 2, "other": 3}},
        "cells": [{"id": 5}, {"id": 6}],
        "nothing": {},
        "text": "{\"a\": [1, {\"b\": \"x\"}], \"c\": null}",
        "large": 9_007_199_254_740_993_u64,
        "euro": "1\u{20ac}2\u{20ac}3",
    })
}

fn evaluate(text: &str) -> Result<Json, EvaluationError> {
    let expression = match Expression::parse(text) {
        Ok(expression) => expression,
        Err(error) => panic!("{text}: {error}"),
    };
    let mut budget = Budget::default().at(1_700_000_000.5);
    expression.evaluate(&input(), &mut budget).map(Json::from)
}

fn check(rows: &[(&str, Json)]) {
    for (text, want) in rows {
        assert_eq!(evaluate(text), Ok(want.clone()), "{text}");
    }
}

fn check_errors(rows: &[(&str, EvaluationError)]) {
    for (text, want) in rows {
        assert_eq!(evaluate(text), Err(want.clone()), "{text}");
    }
}

fn wrong_type(place: &'static str, found: &'static str) -> EvaluationError {
    EvaluationError::WrongType { place, found }
}

fn out_of_range(place: &'static str) -> EvaluationError {
    EvaluationError::OutOfRange { place }
}

/// 14.2.1.
#[test]
fn operators_bind_as_in_c() {
    check(&[
        ("2 + 3 * 4", json!(14)),
        ("(2 + 3) * 4", json!(20)),
        ("10 - 4 - 3", json!(3)),
        ("100 / 10 / 5", json!(2)),
        ("7 % 4 * 2", json!(6)),
        ("1 + 1 << 2", json!(8)),
        ("1 << 2 < 5", json!(true)),
        ("1 < 2 == true", json!(true)),
        ("6 & 3 ^ 1 | 8", json!(11)),
        ("true || false && false", json!(true)),
        ("1 | 2 && 0", json!(false)),
        ("-2 * -3", json!(6)),
        ("- - 2", json!(2)),
        ("!on == false", json!(true)),
        ("~0 & 0xff", json!(255)),
        ("not(on) || off", json!(false)),
    ]);
    check_errors(&[("5 & 4 == 4", wrong_type("&", "a boolean"))]);
}

/// 14.2.1.
#[test]
fn a_choice_evaluates_only_what_it_takes() {
    check(&[
        ("if(on, 1, error())", json!(1)),
        ("if(off, error(), 2)", json!(2)),
        ("on ? 1 : error()", json!(1)),
        ("off ? error() : 2", json!(2)),
        ("off ? 1 : off ? 2 : 3", json!(3)),
        ("on ? off ? 1 : 2 : 3", json!(2)),
        ("on ? 1 : 0 || error()", json!(1)),
        ("0 || on ? 1 : 2", json!(1)),
        ("if(on, 1, 2) + 1", json!(2)),
    ]);
    check_errors(&[("missing ? 1 : 2", EvaluationError::MissingParameter("missing".into()))]);
}

/// 14.2.2.
#[test]
fn the_input_may_be_any_json_and_so_may_the_result() {
    check(&[
        ("cells", json!([{"id": 5}, {"id": 6}])),
        ("position.deep", json!({"key": 2, "other": 3})),
        ("none", json!(null)),
        ("word", json!("abc")),
        ("speed", json!(62.5)),
    ]);
    let value = Expression::parse("value").unwrap();
    for input in [json!(7), json!("x"), json!(true), json!(null), json!([1])] {
        let found = value.evaluate(&input, &mut Budget::default()).map(Json::from);
        assert_eq!(found, Ok(input.clone()));
    }
    let second = Expression::parse("value.1 > 10").unwrap();
    assert!(second.is_true(&json!([5, 20]), &mut Budget::default()));
    let named = json!({"value": 3});
    assert_eq!(value.evaluate(&named, &mut Budget::default()), Ok(Value::Number(3.0)));
    assert!(value.evaluate(&json!({}), &mut Budget::default()).is_err());
}

/// 14.2.3.
#[test]
fn a_flat_key_goes_before_what_is_nested() {
    check(&[
        ("position.speed", json!(7)),
        ("position.valid", json!(true)),
        ("position.deep.key", json!(1)),
        ("position.deep.other", json!(3)),
        ("cells.1.id", json!(6)),
        ("$cells.2.id", json!(null)),
        ("$cells.01.id", json!(null)),
        ("$word.speed", json!(null)),
        ("$position.speed.x", json!(null)),
    ]);
}

/// 14.2.4.
#[test]
fn a_missing_parameter_is_an_error_and_null_if_asked_for_with_a_dollar() {
    let missing = |name: &str| EvaluationError::MissingParameter(name.into());
    check_errors(&[
        ("missing", missing("missing")),
        ("missing == 1", missing("missing")),
        ("missing || on", missing("missing")),
        ("position.missing", missing("position.missing")),
        ("$missing + 1", wrong_type("+", "null")),
        ("-$missing", wrong_type("-", "null")),
    ]);
    check(&[
        ("$missing", json!(null)),
        ("$speed", json!(62.5)),
        ("$missing == 1 || on", json!(true)),
        ("$missing != 1", json!(true)),
        ("$missing == null", json!(true)),
        ("$missing < 1 || $missing >= 1", json!(false)),
        ("$missing ~ '*'", json!(false)),
        ("word ~ $missing", json!(false)),
        ("$missing == '*'", json!(false)),
        ("$missing != '*'", json!(true)),
        ("on || missing", json!(true)),
        ("off && missing", json!(false)),
    ]);
}

/// 14.2.4.
#[test]
fn what_has_no_meaning_is_an_error() {
    check_errors(&[
        ("1 / 0", EvaluationError::DivisionByZero),
        ("1 % zero", EvaluationError::DivisionByZero),
        ("word + 1", wrong_type("+", "a string")),
        ("1 + word", wrong_type("+", "a string")),
        ("on + 1", wrong_type("+", "a boolean")),
        ("word * 2", wrong_type("*", "a string")),
        ("word < 1", wrong_type("<", "a number")),
        ("1 <= word", wrong_type("<=", "a string")),
        ("on > off", wrong_type(">", "a boolean")),
        ("cells >= 1", wrong_type(">=", "an array or an object")),
        ("1 ~ 'a'", wrong_type("~", "a number")),
        ("1 ~ 'a*'", wrong_type("~", "a number")),
        ("word ~ 1", wrong_type("~", "a number")),
        ("1e308 * 10", out_of_range("*")),
        ("sqrt(-1)", out_of_range("sqrt")),
        ("1e300 & 1", out_of_range("&")),
        ("1 << 64", out_of_range("<<")),
        ("1 << 63", out_of_range("<<")),
        ("1 >> -1", out_of_range(">>")),
        ("error()", EvaluationError::Raised),
    ]);
}

/// 14.2.5.
#[test]
fn zero_false_null_an_error_and_what_is_empty_are_not_true() {
    let rows = [
        ("1", true),
        ("-0.5", true),
        ("0", false),
        ("on", true),
        ("off", false),
        ("none", false),
        ("error()", false),
        ("missing", false),
        ("word", true),
        ("'0'", true),
        ("empty", false),
        ("cells", true),
        ("nothing", false),
        ("json('[]')", false),
    ];
    for (text, want) in rows {
        let expression = Expression::parse(text).unwrap();
        assert_eq!(expression.is_true(&input(), &mut Budget::default()), want, "{text}");
    }
}

/// 14.2.6.
#[test]
fn numbers_are_doubles_and_whole_ones_print_as_integers() {
    check(&[
        ("large", json!(9_007_199_254_740_992_u64)),
        ("9007199254740992 - 1", json!(9_007_199_254_740_991_u64)),
        ("1 / 2", json!(0.5)),
        ("4 / 2", json!(2)),
        ("0.1 + 0.2", json!(0.1 + 0.2)),
        ("-zero", json!(0)),
        ("1e3", json!(1000)),
        ("1.5E-3", json!(0.0015)),
        (".5", json!(0.5)),
        ("5.", json!(5)),
        ("0x1F", json!(31)),
        ("0xffffffffffffffff", json!(18_446_744_073_709_551_616.0)),
        ("tostring(1e300)", json!("1e+300")),
        ("tostring(2.0)", json!("2")),
    ]);
}

/// 14.2.7.
#[test]
fn each_operator_does_what_it_does_in_c() {
    check(&[
        ("7 + 2", json!(9)),
        ("7 - 2", json!(5)),
        ("7 * 2", json!(14)),
        ("7 / 2", json!(3.5)),
        ("-7 % 4", json!(-3)),
        ("7.5 % 2", json!(1.5)),
        ("6 & 3", json!(2)),
        ("6 | 3", json!(7)),
        ("6 ^ 3", json!(5)),
        ("~6", json!(-7)),
        ("6.9 & -1", json!(6)),
        ("1 << 40", json!(1_u64 << 40)),
        ("-8 >> 1", json!(-4)),
        ("1 == 1.0", json!(true)),
        ("1 = 1", json!(true)),
        ("1 != 1", json!(false)),
        ("1 < 1", json!(false)),
        ("1 <= 1", json!(true)),
        ("2 > 1", json!(true)),
        ("1 >= 2", json!(false)),
        ("1 == '1'", json!(false)),
        ("1 != '1'", json!(true)),
        ("on == 1", json!(false)),
        ("none == null", json!(true)),
        ("cells == json('[{\"id\":5.0},{\"id\":6}]')", json!(true)),
        ("cells == json('[{\"id\":5}]')", json!(false)),
        ("position == nothing", json!(false)),
        ("'a' < 'b'", json!(true)),
        ("'a' >= 'ab'", json!(false)),
        ("'a' + word", json!("aabc")),
        ("5 && 'x'", json!(true)),
        ("0 || 2", json!(true)),
    ]);
}

/// 14.2.8.
#[test]
fn a_literal_with_wildcards_is_matched() {
    check(&[
        ("name == \"12*45\"", json!(true)),
        ("name == '12*46'", json!(false)),
        ("name = '12?345'", json!(true)),
        ("name != '12*'", json!(false)),
        ("'12*' == name", json!(true)),
        ("'12*' != name", json!(false)),
        ("'a*' == 'abc'", json!(true)),
        ("'abc' == 'a*'", json!(true)),
        ("name ~ '*345'", json!(true)),
        ("name ~ '345'", json!(false)),
        ("name ~ '12' + '*'", json!(true)),
        ("name == '12' + '*'", json!(false)),
        ("'a*' == 'a\\*'", json!(true)),
        ("'ab' == 'a\\*'", json!(false)),
        ("'ab' ~ 'a\\*'", json!(false)),
        ("'a*' ~ 'a\\*'", json!(true)),
        ("speed == '*'", json!(false)),
        ("speed != '*'", json!(true)),
        ("!(name == '1*') || word == 'a*'", json!(true)),
    ]);
}

/// 14.2.8.
#[test]
fn strings_stand_in_quotes_of_either_kind() {
    check(&[
        (r#""a'b""#, json!("a'b")),
        (r#"'a"b'"#, json!("a\"b")),
        (r#"'\\ \' \" \n \r \t \* \? \/'"#, json!("\\ ' \" \n \r \t * ? /")),
        ("''", json!("")),
        ("'\u{20ac}\n'", json!("\u{20ac}\n")),
        (" \t\r\n1 ", json!(1)),
    ]);
}

/// 14.2.10, 14.2.12.
#[test]
fn each_function_does_what_its_description_says() {
    check(&[
        ("not(word)", json!(false)),
        ("exists(\"speed\")", json!(true)),
        ("exists(none)", json!(true)),
        ("exists('missing')", json!(false)),
        ("exists($position.deep.other)", json!(true)),
        ("isnull(none)", json!(true)),
        ("isnull($missing)", json!(true)),
        ("isnull(0)", json!(false)),
        ("abs(-2.5)", json!(2.5)),
        ("floor(-2.5)", json!(-3)),
        ("ceil(-2.5)", json!(-2)),
        ("round(-2.5)", json!(-3)),
        ("sqrt(9)", json!(3)),
        ("pow(2, 10)", json!(1024)),
        ("min(3, 1, 2)", json!(1)),
        ("max(3)", json!(3)),
        ("tonumber(' 62.5 ')", json!(62.5)),
        ("tonumber('-0.5e1')", json!(-5)),
        ("tonumber('0x1f')", json!(31)),
        ("tonumber(on)", json!(1)),
        ("tonumber(7)", json!(7)),
        ("tostring(word)", json!("abc")),
        ("tostring(off)", json!("false")),
        ("tostring(none)", json!("null")),
        ("tostring(cells)", json!("[{\"id\":5},{\"id\":6}]")),
        ("strlen(euro)", json!(5)),
        ("substr(euro, 1, 3)", json!("\u{20ac}2\u{20ac}")),
        ("substr(euro, 3)", json!("\u{20ac}3")),
        ("substr(euro, -2, 1)", json!("\u{20ac}")),
        ("substr(word, -9)", json!("abc")),
        ("substr(word, 9)", json!("")),
        ("substr(word + word, 2, 99)", json!("cabc")),
        ("find(euro, '2')", json!(2)),
        ("find(word, 'x')", json!(-1)),
        ("contains(word, 'bc')", json!(true)),
        ("contains(word, 'cb')", json!(false)),
        ("lower('A\u{c4}b')", json!("a\u{e4}b")),
        ("upper('a\u{e4}B')", json!("A\u{c4}B")),
        ("json(text, 'a.1.b')", json!("x")),
        ("json(text, 'a.2')", json!(null)),
        ("json(text, 'c')", json!(null)),
        ("json(text)", json!({"a": [1, {"b": "x"}], "c": null})),
        ("json('5') + 1", json!(6)),
        ("json(position, 'deep.other')", json!(3)),
        ("json(cells)", json!([{"id": 5}, {"id": 6}])),
        ("now()", json!(1_700_000_000.5)),
    ]);
    check_errors(&[
        ("abs(word)", wrong_type("abs", "a string")),
        ("pow(0, -1)", out_of_range("pow")),
        ("min(1, $missing)", wrong_type("min", "null")),
        ("tonumber('inf')", EvaluationError::NotANumber),
        ("tonumber('NaN')", EvaluationError::NotANumber),
        ("tonumber('0x')", EvaluationError::NotANumber),
        ("tonumber('0x+1')", EvaluationError::NotANumber),
        ("tonumber('5 km')", EvaluationError::NotANumber),
        ("tonumber(none)", wrong_type("tonumber", "null")),
        ("strlen(1)", wrong_type("strlen", "a number")),
        ("substr(word, 0, -1)", out_of_range("substr")),
        ("json('{')", EvaluationError::NotJson),
        ("json(1)", wrong_type("json", "a number")),
        ("json(text, 1)", wrong_type("json", "a number")),
    ]);
    let now = Expression::parse("now()").unwrap();
    assert_eq!(now.evaluate(&json!({}), &mut Budget::default()), Err(EvaluationError::NoClock));
}

/// 14.2.11.
#[test]
fn the_catalogue_lists_the_functions_that_the_parser_knows() {
    let names: Vec<_> = functions().iter().map(|function| function.name).collect();
    let wanted = "if not error exists isnull abs floor ceil round sqrt pow min max tonumber \
        tostring strlen substr find contains lower upper json now";
    assert_eq!(names, wanted.split_whitespace().collect::<Vec<_>>());
    for function in functions() {
        let (name, usage) = (function.name, function.usage);
        assert!(usage.starts_with(&format!("{name}(")) && usage.ends_with(')'), "{usage}");
        assert!(!function.description.is_empty() && function.description.is_ascii(), "{name}");
        // What the usage shows can be called so, with what may be left out and without.
        let whole = usage.replace(['[', ']'], "").replace(", ...", ", 2");
        let least = match usage.split_once('[') {
            Some((least, _)) => format!("{least})"),
            None => usage.replace(", ...", ""),
        };
        assert!(Expression::parse(&whole).is_ok(), "{whole}");
        assert!(Expression::parse(&least).is_ok(), "{least}");
        let many = format!("{name}({})", vec!["a"; 65].join(","));
        let reason = Expression::parse(&many).unwrap_err().reason;
        assert_eq!(reason, Reason::WrongArguments { usage }, "{many}");
    }
}

#[test]
fn a_fault_of_the_syntax_is_told_with_its_place() {
    let usage = "abs(x)";
    let unknown = |name: &str, nearest| Reason::UnknownFunction { name: name.into(), nearest };
    let rows = [
        ("", 0, Reason::OperandExpected),
        ("  ", 2, Reason::OperandExpected),
        ("1 +", 3, Reason::OperandExpected),
        ("1 + )", 4, Reason::OperandExpected),
        ("(1 + ", 5, Reason::OperandExpected),
        ("()", 1, Reason::OperandExpected),
        ("abs(1,)", 6, Reason::OperandExpected),
        ("1 ? : 2", 4, Reason::OperandExpected),
        ("1 ? 2 :", 7, Reason::OperandExpected),
        ("#", 0, Reason::OperandExpected),
        ("1 2", 2, Reason::OperatorExpected),
        ("1)", 1, Reason::OperatorExpected),
        ("speed \u{20ac}", 6, Reason::OperatorExpected),
        ("(1", 2, Reason::CharacterExpected(')')),
        ("(1]", 2, Reason::CharacterExpected(')')),
        ("abs(1", 5, Reason::CharacterExpected(')')),
        ("a ? b", 5, Reason::CharacterExpected(':')),
        ("1 + 5km", 4, Reason::InvalidNumber),
        ("0x", 0, Reason::InvalidNumber),
        ("0x10000000000000000", 0, Reason::InvalidNumber),
        ("1e999", 0, Reason::InvalidNumber),
        ("1e", 0, Reason::InvalidNumber),
        (".", 0, Reason::InvalidNumber),
        ("1.2.3", 3, Reason::OperatorExpected),
        ("a.", 0, Reason::InvalidName),
        ("1 + $", 4, Reason::InvalidName),
        ("a == 'b", 5, Reason::UnclosedString),
        ("a == 'b\\'", 5, Reason::UnclosedString),
        ("a == 'b\\", 5, Reason::UnclosedString),
        ("a == 'b\\x'", 7, Reason::UnknownEscape),
        ("1 + abss(1)", 4, unknown("abss", Some("abs"))),
        ("Tonumber(1)", 0, unknown("Tonumber", Some("tonumber"))),
        ("strlenn(1)", 0, unknown("strlenn", Some("strlen"))),
        ("geofence(1)", 0, unknown("geofence", None)),
        ("true(1)", 4, Reason::OperatorExpected),
        ("2 * abs(1, 2)", 4, Reason::WrongArguments { usage }),
        ("abs()", 0, Reason::WrongArguments { usage }),
        ("exists(1)", 0, Reason::WrongArguments { usage: "exists(\"name\")" }),
    ];
    for (text, position, reason) in rows {
        assert_eq!(Expression::parse(text).err(), Some(ParseError { position, reason }), "{text}");
    }
    let error = Expression::parse("2 * absolute(1)").unwrap_err();
    assert_eq!(error.to_string(), "no function `absolute` at byte 4");
    let error = Expression::parse("abz(1)").unwrap_err();
    assert_eq!(error.to_string(), "no function `abz`, but there is `abs`, at byte 0");
}

#[test]
fn expressions_are_equal_if_they_were_understood_alike() {
    let state = RandomState::new();
    let parse = |text: &str| Expression::parse(text).unwrap();
    let alike = [
        ("speed>50&&name==\"a*\"", " ( speed > 5e1 ) && (name = 'a*')"),
        ("a ? b : c", "if(a, b, c)"),
        ("!a", "not(a)"),
        ("'a*' == b", "b == 'a*'"),
        ("(a || b) || c", "a || b || c"),
        ("0x10", "16.0"),
        ("exists(a)", "exists('a')"),
    ];
    for (left, right) in alike {
        let (left, right) = (parse(left), parse(right));
        assert_eq!(left, right);
        assert_eq!(state.hash_one(&left), state.hash_one(&right), "{left}");
    }
    let different = [
        ("a", "$a"),
        ("a - (b - c)", "a - b - c"),
        ("'a*'", "'a\\*'"),
        ("min(a)", "max(a)"),
        ("a == b", "b == a"),
        ("1", "'1'"),
    ];
    for (left, right) in different {
        assert_ne!(parse(left), parse(right));
    }
    let expression = parse("a  ==  b");
    assert_eq!(expression.as_str(), "a  ==  b");
    assert_eq!(expression.clone(), expression);
}

#[test]
fn a_text_is_bounded_in_length_and_nesting() {
    let long = format!("{:<TEXT_MAX$}", "1");
    assert!(Expression::parse(&long).is_ok());
    let error = Expression::parse(&(long + " ")).unwrap_err();
    assert_eq!(error, ParseError { position: TEXT_MAX, reason: Reason::TooLong });
    let rows = [("(", ")", 32), ("!", "", 32), ("abs(", ")", 132), ("1?", ":1", 66)];
    for (open, close, position) in rows {
        let nested = |depth| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert!(Expression::parse(&nested(NESTING_MAX)).is_ok(), "{open}");
        let error = Expression::parse(&nested(NESTING_MAX + 1)).unwrap_err();
        assert_eq!(error, ParseError { position, reason: Reason::TooDeep }, "{open}");
    }
}
