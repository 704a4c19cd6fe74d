//! What a channel gets in a minute of the clock, where that is limited (R8.9).

use crate::live::Block;

const MINUTE_MICROS: u64 = 60_000_000;

/// What a channel may get in a minute; 0 is as much as comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// What it got since the minute began.
#[derive(Debug, Default)]
pub(crate) struct Minute {
    /// Minutes since 1970.
    number: u64,
    messages: u64,
    bytes: u64,
}

impl Minute {
    /// Counts messages or bytes that came at `now`, microseconds since 1970, and says which limit
    /// there was no room in. What only then exceeds it is let in: a device that has more to say at
    /// once than fits in a minute would never be rid of it.
    pub(crate) fn add(
        &mut self,
        messages: usize,
        bytes: usize,
        most: Most,
        now: u64,
    ) -> Option<Block> {
        if self.is_over(now) {
            *self = Self { number: now / MINUTE_MICROS, ..Self::default() };
        }
        let is_full = |more: usize, count: u64, most: u64| more > 0 && most > 0 && count >= most;
        let why = if is_full(messages, self.messages, most.messages) {
            Some(Block::Messages)
        } else if is_full(bytes, self.bytes, most.bytes) {
            Some(Block::Traffic)
        } else {
            None
        };
        self.messages += messages as u64;
        self.bytes += bytes as u64;
        why
    }

    /// Whether another minute has begun, or the clock has been set back.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        self.number != now / MINUTE_MICROS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R8.9: codes 2 and 3.
    #[test]
    fn a_minute_has_room_until_it_is_full_and_the_next_one_has_it_again() {
        let most = Most { messages: 10, bytes: 1_000 };
        let mut minute = Minute::default();
        let last = 7 * MINUTE_MICROS - 1;
        assert_eq!(minute.add(4, 0, most, last - 1), None);
        assert_eq!(minute.add(600, 0, most, last), None, "what exceeds it is let in");
        assert_eq!(minute.add(1, 0, most, last), Some(Block::Messages));
        assert_eq!(minute.add(0, 1_000, most, last), None);
        assert_eq!(minute.add(0, 1, most, last), Some(Block::Traffic));
        assert!(!minute.is_over(last) && minute.is_over(last + 1));
        assert_eq!(minute.add(1, 0, most, last + 1), None);
        assert_eq!(minute.add(0, 1, most, last + 1), None);
        assert_eq!(minute.add(9, 999, most, last + 2), None);
        assert_eq!(minute.add(1, 1, most, last + 3), Some(Block::Messages));
        assert_eq!(minute.add(1, 1, most, 0), None, "the clock has been set back");
        let unbounded = Most { messages: 0, bytes: 0 };
        assert_eq!(minute.add(1_000_000, 1_000_000, unbounded, 0), None);
        assert_eq!(minute.add(1_000_000, 1_000_000, unbounded, 0), None);
    }
}
