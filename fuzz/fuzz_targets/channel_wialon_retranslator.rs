//! No bytes make the decoder of retranslated packets panic, and what is read survives the round
//! trip.

#![no_main]

#[path = "../../channels/tests/bodies/mod.rs"]
#[expect(dead_code, reason = "each target runs a part of the bodies")]
mod bodies;

libfuzzer_sys::fuzz_target!(|data: &[u8]| bodies::wialon_retranslator(data));
