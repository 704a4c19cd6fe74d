//! No bytes make the decoder panic, and what it accepts survives the round trip.

#![no_main]

#[path = "../../codec/tests/bodies/mod.rs"]
#[expect(dead_code, reason = "each target runs a part of the bodies")]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::decodes_or_refuses(data));
