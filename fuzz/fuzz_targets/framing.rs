//! A stream is cut into the same packets under any split.

#![no_main]

#[path = "../../codec/tests/bodies/mod.rs"]
#[expect(dead_code, reason = "each target runs a part of the bodies")]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::frames_the_same_under_any_split(data));
