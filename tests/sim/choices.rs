//! Where every choice of a run comes from: a seed, or the bytes of a fuzzer.

/// Choices in a row. The same seed, or the same bytes, give the same row.
#[derive(Clone, Debug)]
pub(crate) struct Choices {
    source: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// The state of a SplitMix64: small, fast, and good enough to choose by.
    Seed(u64),
    /// Bytes, and how many of them are used up.
    Bytes(Vec<u8>, usize),
}

impl Choices {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self { source: Source::Seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed) }
    }

    pub(crate) fn of_bytes(data: &[u8]) -> Self {
        Self { source: Source::Bytes(data.to_vec(), 0) }
    }

    /// Whether the bytes are used up; then the first choice is always made.
    pub(crate) fn is_spent(&self) -> bool {
        matches!(&self.source, Source::Bytes(bytes, used) if *used >= bytes.len())
    }

    fn next(&mut self, width: usize) -> u64 {
        match &mut self.source {
            Source::Seed(state) => {
                *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                mixed ^ (mixed >> 31)
            }
            Source::Bytes(bytes, used) => {
                let rest = bytes.get(*used..).unwrap_or_default();
                let taken = rest.len().min(width);
                *used += taken;
                rest[..taken].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
            }
        }
    }

    /// A number below `end`, which is not 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "there is something to choose from");
        let width = match end {
            0..=1 => return 0,
            2..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        self.next(width) % end
    }

    /// A number from `first` to `last`, both among them.
    pub(crate) fn within(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// A place in something of `len` items.
    pub(crate) fn place(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// Yes, `percent` times of a hundred.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) >= 100 - percent
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.place(from.len())]
    }

    /// A place of `weights`, each as often as its weight says.
    pub(crate) fn weighted(&mut self, weights: &[u64]) -> usize {
        let mut number = self.below(weights.iter().sum());
        for (place, weight) in weights.iter().enumerate() {
            if number < *weight {
                return place;
            }
            number -= weight;
        }
        unreachable!("the number is below the sum of the weights")
    }
}
