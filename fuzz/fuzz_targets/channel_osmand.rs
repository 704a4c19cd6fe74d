//! No query, form or JSON makes the decoder of OsmAnd panic.

#![no_main]

#[path = "../../channels/tests/bodies/mod.rs"]
#[expect(dead_code, reason = "each target runs a part of the bodies")]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::osmand(data));
