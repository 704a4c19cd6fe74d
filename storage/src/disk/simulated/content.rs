//! The bytes of a simulated file: as they were written, and as they are on the medium.

use std::ops::Range;

use super::random::Random;

/// What the medium writes as a whole, in bytes.
const SECTOR: usize = 512;

#[derive(Clone, Debug)]
pub(super) struct Content {
    now: Vec<u8>,
    medium: Vec<u8>,
    /// Writes that are not on the medium yet, in order.
    unsynced: Vec<Write>,
}

#[derive(Clone, Debug)]
struct Write {
    offset: usize,
    bytes: Vec<u8>,
}

impl Write {
    fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.bytes.len()
    }

    fn apply(&self, to: &mut Vec<u8>) {
        let range = self.range();
        if to.len() < range.end {
            to.resize(range.end, 0);
        }
        to[range].copy_from_slice(&self.bytes);
    }
}

impl Content {
    /// A new file whose size is not on the medium yet.
    pub(super) fn new(bytes: u64) -> Self {
        let bytes = usize::try_from(bytes).expect("a simulated file fits into memory");
        Self { now: vec![0; bytes], medium: Vec::new(), unsynced: Vec::new() }
    }

    pub(super) fn on_medium(bytes: Vec<u8>) -> Self {
        Self { now: bytes.clone(), medium: bytes, unsynced: Vec::new() }
    }

    pub(super) fn now(&self) -> &[u8] {
        &self.now
    }

    pub(super) fn write(&mut self, bytes: &[u8], offset: u64) {
        let offset = usize::try_from(offset).expect("a simulated file fits into memory");
        let write = Write { offset, bytes: bytes.to_vec() };
        write.apply(&mut self.now);
        self.unsynced.push(write);
    }

    pub(super) fn sync(&mut self) {
        if self.medium.len() < self.now.len() {
            self.medium.resize(self.now.len(), 0);
        }
        for write in self.unsynced.drain(..) {
            write.apply(&mut self.medium);
        }
    }

    /// A sync that went wrong: what it did not bring to the medium is forgotten, though it can
    /// still be read.
    pub(super) fn fail_to_sync(&mut self, random: &mut Random) {
        self.medium = self.remains(random);
        self.unsynced.clear();
    }

    /// The file as a cut of the power leaves it.
    pub(super) fn survive(&self, random: &mut Random) -> Self {
        Self::on_medium(self.remains(random))
    }

    fn remains(&self, random: &mut Random) -> Vec<u8> {
        let odds = random.odds();
        let mut remains = self.medium.clone();
        if remains.len() < self.now.len() && random.is_within(odds) {
            remains.resize(self.now.len(), 0);
        }
        // A sector is on the medium as it was after one of the writes to it, or before the first.
        let mut written = self.medium.clone();
        for write in &self.unsynced {
            write.apply(&mut written);
            let range = write.range();
            let sectors = range.start / SECTOR..range.end.div_ceil(SECTOR);
            for sector in sectors.filter(|_| random.is_within(odds)) {
                let end = ((sector + 1) * SECTOR).min(written.len());
                if remains.len() < end {
                    remains.resize(end, 0);
                }
                remains[sector * SECTOR..end].copy_from_slice(&written[sector * SECTOR..end]);
            }
        }
        remains
    }
}
