//! No choices of clients, network and clocks make the broker break what the simulator's oracle
//! holds it to.

#![no_main]

#[path = "../../tests/sim/mod.rs"]
#[expect(dead_code, reason = "the target runs bytes, the test runs seeds")]
mod sim;

libfuzzer_sys::fuzz_target!(|data: &[u8]| sim::run_bytes(data));
