//! Nothing that happens to the sending side of a session makes it differ from its model.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| longshore_broker::session_ops(data));
