//! Recovery over any files whatever; the body is that of the fuzz target.

mod bodies;
#[path = "model/random.rs"]
#[allow(dead_code, reason = "the model needs more of it")]
mod random;

use self::random::Random;

#[test]
fn no_files_make_an_opening_panic_and_all_can_be_repaired() {
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let length = random.below(200) as usize;
        bodies::opens_or_repairs_anything(&random.bytes(length));
    }
}
