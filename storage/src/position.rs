//! Where things are in the log.

use std::fmt;

/// A place in the log: a segment and an offset in it. Later places are greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Number of the segment.
    pub segment: u32,
    /// Bytes from the start of its file.
    pub offset: u32,
}

impl Position {
    /// As one number, in the same order.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        u64::from(self.segment) << 32 | u64::from(self.offset)
    }

    /// What [`Position::to_u64`] was made of.
    #[must_use]
    pub fn from_u64(number: u64) -> Self {
        Self { segment: (number >> 32) as u32, offset: number as u32 }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.segment, self.offset)
    }
}

/// What an appended batch waits for: all of it is durable once [`Ticket`] or a later one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

impl Ticket {
    /// The ticket of everything before `end`.
    pub(crate) fn up_to(end: Position) -> Self {
        Self(end.to_u64())
    }

    /// As a number, in the same order.
    #[must_use]
    pub fn to_u64(self) -> u64 {
        self.0
    }

    pub(crate) fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The segment the batch ends in. All segments before it are full and written no more.
    #[must_use]
    pub fn segment(self) -> u32 {
        Position::from_u64(self.0).segment
    }
}

/// The part of the log that a record takes, headers included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Where it begins: what [`crate::Log::read`] takes.
    pub start: Position,
    /// Where the next thing begins, or the end of the segment.
    pub end: Position,
}

impl Span {
    /// The segments it lies in, each of which has to be kept as long as the record is needed.
    #[must_use]
    pub fn segments(&self) -> std::ops::RangeInclusive<u32> {
        self.start.segment..=self.end.segment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_survives_being_a_number_and_keeps_its_order() {
        let places = [(1, 512), (1, 513), (2, 0), (2, u32::MAX), (u32::MAX, 0)];
        let places = places.map(|(segment, offset)| Position { segment, offset });
        for place in places {
            assert_eq!(Position::from_u64(place.to_u64()), place);
        }
        assert!(places.is_sorted() && places.map(Position::to_u64).is_sorted());
    }
}
