//! No body of a request and no publication make the decoders of JSON panic.

#![no_main]

#[path = "../../channels/tests/bodies/mod.rs"]
#[expect(dead_code, reason = "each target runs a part of the bodies")]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    bodies::json_objects(data);
    bodies::configurations(data);
});
