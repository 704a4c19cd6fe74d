//! Properties that hold for any input; the bodies are those of the fuzz targets.

mod bodies;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, any, prop_oneof, proptest};
use proptest::sample::select;
use proptest::strategy::{Just, Strategy};

/// Pieces of expressions, of which some in a row are often one.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let operands = vec!["a", "$x", "a.b", "c.a.1", "1", "0x1f", "1e300", "'t*'", "\"?\"", "null"];
    let calls = vec![
        "if(",
        "not(",
        "min(",
        "substr(",
        "json(",
        "tostring(",
        "exists(",
        "error()",
        "now()",
        "tonumber(",
        "upper(",
        "find(",
    ];
    let signs = vec![
        "(", "(", ")", ")", ")", ",", ",", "?", ":", "'", "\\", "!", "-", "~", " ", "+", "*", "/",
        "%", "=", "==", "!=", "<", ">=", "<<", ">>", "&", "&&", "|", "||", "^", "\u{20ac}",
    ];
    let piece = prop_oneof![select(operands), select(calls), select(signs)];
    let input = prop_oneof![Just(""), Just("{\"a\": [1], \"x\": {}}"), Just("[{\"b\": \"t\"}]")];
    (vec(piece, 0..12), input)
        .prop_map(|(text, input)| [text.concat().as_bytes(), input.as_bytes()].join(&0xff))
}

/// A pattern and a text of few letters, so that they often meet.
fn patterns() -> impl Strategy<Value = Vec<u8>> {
    let wanted = select(vec!["*", "*", "?", "a", "a", "b", "\u{20ac}"]);
    let letter = select(vec!["a", "a", "a", "b", "\u{20ac}", "*"]);
    (vec(wanted, 0..9), vec(letter, 0..12)).prop_map(|(pattern, text)| {
        [pattern.concat().as_bytes(), text.concat().as_bytes()].join(&0xff)
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_bytes_are_parsed_or_refused(data in vec(any::<u8>(), 0..40)) {
        bodies::parses_or_refuses(&data);
    }

    #[test]
    fn any_pieces_are_parsed_or_refused(data in pieces()) {
        bodies::parses_or_refuses(&data);
    }

    #[test]
    fn an_expression_has_the_value_that_a_naive_evaluator_finds(data in vec(any::<u8>(), 0..60)) {
        bodies::computes_as_a_naive_evaluator(&data);
    }

    #[test]
    fn a_pattern_matches_what_a_naive_matcher_says(data in patterns()) {
        bodies::matches_as_a_naive_matcher(&data);
    }
}
