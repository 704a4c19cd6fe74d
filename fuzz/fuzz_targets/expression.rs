//! A text is an expression or is refused, an expression has the value that a naive evaluator finds,
//! and a pattern matches what a naive matcher says.

#![no_main]

#[path = "../../expression/tests/bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bodies::parses_or_refuses(data);
    bodies::computes_as_a_naive_evaluator(data);
    bodies::matches_as_a_naive_matcher(data);
});
