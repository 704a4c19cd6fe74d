//! What waits to be written to one connection: small packets copied side by side, large payloads
//! shared with every other receiver.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// Payloads up to this many bytes are copied into each receiver's output, larger ones shared.
/// Copying is as cheap as an extra slice of a vectored write up to 1 to 2 KiB.
pub(crate) const COPY_MAX: usize = 1024;

/// Bytes of one buffer. What is more goes into the next: a buffer that doubles is copied and mapped
/// anew, and those of many slow receivers would all do it at the same moment.
const PIECE: usize = 128 << 10;

/// Buffers kept for reuse, and the largest kept. An idle connection owns none.
const SPARE_BUFFERS: usize = 256;
const SPARE_CAPACITY: usize = 64 << 10;

/// Bytes on their way to one connection, in order.
#[derive(Debug, Default)]
pub struct Output {
    /// Copied bytes; those before `start` are written.
    copied: Vec<u8>,
    start: usize,
    /// Shared payloads, each with the place in `copied` it comes before.
    shared: VecDeque<(usize, Bytes)>,
    shared_bytes: usize,
}

impl Output {
    /// Bytes that wait.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.copied.len() - self.start + self.shared_bytes
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The buffer to append a packet to.
    #[inline]
    pub(crate) fn tail(&mut self, spare: &mut Spare) -> &mut Vec<u8> {
        if self.copied.len() >= PIECE {
            self.set_aside();
            self.copied = Vec::with_capacity(PIECE + 2 * COPY_MAX);
        }
        if self.copied.capacity() == 0 {
            self.copied = spare.buffers.pop().unwrap_or_default();
        }
        &mut self.copied
    }

    /// Makes shared payloads of the copied bytes, so that the next ones get a buffer of their own.
    fn set_aside(&mut self) {
        let copied = Bytes::from(std::mem::take(&mut self.copied));
        let mut at = std::mem::take(&mut self.start);
        self.shared_bytes += copied.len() - at;
        let mut pieces = VecDeque::with_capacity(2 * self.shared.len() + 1);
        for (place, payload) in self.shared.drain(..) {
            if place > at {
                pieces.push_back((0, copied.slice(at..place)));
                at = place;
            }
            pieces.push_back((0, payload));
        }
        if at < copied.len() {
            pieces.push_back((0, copied.slice(at..)));
        }
        self.shared = pieces;
    }

    /// Appends `payload` without copying it.
    pub(crate) fn share(&mut self, payload: Bytes) {
        self.shared_bytes += payload.len();
        self.shared.push_back((self.copied.len(), payload));
    }

    /// Fills `slices` with the bytes that wait, in order, and says how many slices it filled.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut at = self.start;
        let mut filled = 0;
        for (place, payload) in &self.shared {
            if filled + 2 > slices.len() {
                return filled;
            }
            if *place > at {
                slices[filled] = IoSlice::new(&self.copied[at..*place]);
                filled += 1;
                at = *place;
            }
            slices[filled] = IoSlice::new(payload);
            filled += 1;
        }
        if at < self.copied.len() && filled < slices.len() {
            slices[filled] = IoSlice::new(&self.copied[at..]);
            filled += 1;
        }
        filled
    }

    /// Like [`Output::slices`], but of the first `most` bytes alone.
    pub(crate) fn first_slices<'a>(&'a self, most: usize, slices: &mut [IoSlice<'a>]) -> usize {
        let mut rest = most;
        let mut filled = 0;
        for piece in self.pieces().filter(|piece| !piece.is_empty()) {
            if rest == 0 || filled == slices.len() {
                break;
            }
            let piece = &piece[..piece.len().min(rest)];
            slices[filled] = IoSlice::new(piece);
            filled += 1;
            rest -= piece.len();
        }
        filled
    }

    /// The bytes that wait, in order; some pieces may be empty.
    fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = self.start;
        let last = self.shared.back().map_or(self.start, |(place, _)| *place);
        self.shared
            .iter()
            .flat_map(move |(place, payload)| {
                let before = &self.copied[at..*place];
                at = *place;
                [before, &payload[..]]
            })
            .chain([&self.copied[last..]])
    }

    /// The bytes that wait up to the first shared payload: all of them when none is shared.
    #[must_use]
    pub fn front(&self) -> &[u8] {
        match self.shared.front() {
            None => &self.copied[self.start..],
            Some((place, _)) if *place > self.start => &self.copied[self.start..*place],
            Some((_, payload)) => payload,
        }
    }

    /// Whether one plain write of [`Output::front`] covers all that waits.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.shared.is_empty()
    }

    /// Forgets the first `count` bytes, which have been written.
    ///
    /// # Panics
    /// When fewer bytes wait.
    pub fn consume(&mut self, mut count: usize) {
        while let Some((place, payload)) = self.shared.front_mut() {
            let before = *place - self.start;
            if count < before {
                break;
            }
            count -= before;
            self.start = *place;
            let taken = count.min(payload.len());
            bytes::Buf::advance(payload, taken);
            self.shared_bytes -= taken;
            count -= taken;
            if !payload.is_empty() {
                assert_eq!(count, 0, "the payload at the front takes all that is left");
                return;
            }
            self.shared.pop_front();
        }
        self.start += count;
        assert!(self.start <= self.copied.len(), "more was written than waited");
    }

    /// Moves the first `count` bytes to the end of `to`.
    pub(crate) fn move_to(&mut self, to: &mut Self, mut count: usize, spare: &mut Spare) {
        while count > 0 {
            let moved = match self.shared.front() {
                Some((place, payload)) if *place == self.start => {
                    // It may be a piece of many packets that was set aside.
                    let moved = payload.len().min(count);
                    to.share(payload.slice(..moved));
                    moved
                }
                _ => {
                    let front = self.front();
                    let moved = front.len().min(count);
                    to.tail(spare).extend_from_slice(&front[..moved]);
                    moved
                }
            };
            self.consume(moved);
            count -= moved;
        }
    }

    /// Hands the buffer back when nothing waits.
    pub(crate) fn rest(&mut self, spare: &mut Spare) {
        if !self.is_empty() || self.copied.capacity() == 0 {
            return;
        }
        let mut buffer = std::mem::take(&mut self.copied);
        self.start = 0;
        buffer.clear();
        if spare.buffers.len() < SPARE_BUFFERS && buffer.capacity() <= SPARE_CAPACITY {
            spare.buffers.push(buffer);
        }
        if self.shared.capacity() > 64 {
            self.shared = VecDeque::new();
        }
    }

    /// Moves what is left of a partly written buffer to its front, so that a receiver that is
    /// always a little behind does not make the buffer grow for ever.
    pub(crate) fn compact(&mut self) {
        if self.start >= SPARE_CAPACITY && self.start * 2 >= self.copied.len() {
            self.copied.drain(..self.start);
            for (place, _) in &mut self.shared {
                *place -= self.start;
            }
            self.start = 0;
        }
    }
}

/// Output buffers that no connection needs at the moment.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    buffers: Vec<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(output: &Output) -> Vec<u8> {
        let mut slices = [IoSlice::new(&[]); 16];
        let filled = output.slices(&mut slices);
        slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect()
    }

    #[test]
    fn a_receiver_that_does_not_read_gets_one_buffer_after_the_other() {
        let (mut output, mut spare) = (Output::default(), Spare::default());
        let mut all = Vec::new();
        for number in 0..3_000_u32 {
            let packet = number.to_be_bytes().repeat(50);
            output.tail(&mut spare).extend_from_slice(&packet);
            all.extend_from_slice(&packet);
            if number % 700 == 3 {
                output.share(Bytes::from(packet.clone()));
                all.extend_from_slice(&packet);
            }
            if number % 400 == 0 {
                let count = output.front().len().min(1_000);
                output.consume(count);
                all.drain(..count);
            }
            assert!(output.copied.capacity() <= 2 * PIECE);
        }
        assert_eq!(output.len(), all.len());
        let written: Vec<u8> = output.pieces().flatten().copied().collect();
        assert!(written == all, "no byte is lost or moved");
    }

    #[test]
    fn bytes_leave_in_order_whatever_is_copied_or_shared_and_however_writes_split_them() {
        for step in 1..12 {
            let (mut output, mut spare) = (Output::default(), Spare::default());
            output.tail(&mut spare).extend_from_slice(b"ab");
            output.share(Bytes::from_static(b"CDE"));
            output.share(Bytes::from_static(b"F"));
            output.tail(&mut spare).extend_from_slice(b"ghi");
            output.share(Bytes::from_static(b"J"));
            let mut all = Vec::new();
            while !output.is_empty() {
                let wait = written(&output);
                assert_eq!(wait.len(), output.len());
                assert!(wait.starts_with(output.front()));
                let mut slices = [IoSlice::new(&[]); 16];
                let filled = output.first_slices(step, &mut slices);
                let first: Vec<u8> = slices[..filled].iter().flat_map(|it| it.to_vec()).collect();
                assert_eq!(first, wait[..step.min(wait.len())]);
                let count = step.min(wait.len());
                all.extend_from_slice(&wait[..count]);
                output.consume(count);
                output.compact();
            }
            assert_eq!(all, b"abCDEFghiJ");
            output.rest(&mut spare);
            assert_eq!(spare.buffers.len(), 1, "the buffer is kept for the next connection");
        }
    }
}
