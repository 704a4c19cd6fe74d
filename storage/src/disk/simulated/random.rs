//! Chance, from a seed.

/// A splitmix64 generator: small, and good enough to choose what survives.
#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// Another generator, so that what it is used for does not shift the choices of this one.
    pub(super) fn fork(&mut self) -> Self {
        Self::new(self.next())
    }

    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, which is not 0.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// How likely things survive, out of 16: at times none of them, at times all.
    pub(super) fn odds(&mut self) -> u64 {
        [0, 1, 4, 8, 12, 15, 16][self.below(7) as usize]
    }

    pub(super) fn is_within(&mut self, odds: u64) -> bool {
        self.below(16) < odds
    }
}
