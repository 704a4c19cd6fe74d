//! No bytes make the decoder of Teltonika panic, and any split of them says the same.

#![no_main]

#[path = "../../channels/tests/bodies/mod.rs"]
#[expect(dead_code, reason = "each target runs a part of the bodies")]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::teltonika(data));
