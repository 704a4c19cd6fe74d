//! No records of a journal make recovery panic, nor the shards that begin with them.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| longshore_broker::replay(data));
