//! A filter is judged, and matches, as a naive matcher has it.

#![no_main]

#[path = "../../codec/tests/bodies/mod.rs"]
#[expect(dead_code, reason = "each target runs a part of the bodies")]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::judges_filters_as_a_naive_matcher(data));
