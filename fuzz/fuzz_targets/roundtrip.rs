//! A packet survives the round trip, and a damaged one is decoded or refused.

#![no_main]

#[path = "../../codec/tests/bodies/mod.rs"]
#[expect(dead_code, reason = "each target runs a part of the bodies")]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bodies::survives_the_round_trip(data);
    bodies::survives_mutation(data);
});
