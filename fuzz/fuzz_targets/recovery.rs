//! No files make the opening of a log panic, and all can be repaired.

#![no_main]

#[path = "../../storage/tests/bodies/mod.rs"]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::opens_or_repairs_anything(data));
