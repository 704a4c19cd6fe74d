//! Output that waits until the journal holds what it promises.
//!
//! Acknowledgements of one connection leave in the order of the packets they answer, whatever each
//! waits for: so one that waits for nothing waits behind those that do.

use std::collections::VecDeque;

use crate::output::{Output, Spare};

/// What waits on one connection.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    output: Output,
    /// Numbers of the journal's batches, and how many bytes wait for each.
    waits: VecDeque<(u64, usize)>,
    /// The whole connection waits for this batch: nothing may go before its CONNACK. 0 for none.
    hold: u64,
}

impl Gate {
    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.output.len()
    }

    /// Whether no packet waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// Whether nothing at all may be written.
    pub(crate) fn is_held(&self) -> bool {
        self.hold != 0
    }

    /// Nothing may be written until batch `number` is durable.
    pub(crate) fn hold(&mut self, number: u64) {
        self.hold = number;
    }

    /// Nobody is there any more to whom what waits could be said. What is in the connection's
    /// output already is held all the same.
    pub(crate) fn abandon(&mut self) {
        self.output = Output::default();
        self.waits.clear();
    }

    /// Where a packet that waits is appended; [`Gate::wait`] is to follow.
    pub(crate) fn output(&mut self) -> &mut Output {
        &mut self.output
    }

    /// What was appended since there were `before` bytes waits for batch `number`. Whether nothing
    /// of this connection has waited for that one yet.
    pub(crate) fn wait(&mut self, number: u64, before: usize) -> bool {
        let added = self.output.len() - before;
        match self.waits.back_mut() {
            Some((known, count)) if *known >= number => {
                *count += added;
                false
            }
            _ => {
                self.waits.push_back((number, added));
                true
            }
        }
    }

    /// All batches up to `durable` are durable: moves what waited for them to `to`.
    pub(crate) fn release(&mut self, durable: u64, to: &mut Output, spare: &mut Spare) {
        if self.hold <= durable {
            self.hold = 0;
        }
        let mut count = 0;
        while let Some((_, bytes)) = self.waits.front().filter(|(number, _)| *number <= durable) {
            count += *bytes;
            self.waits.pop_front();
        }
        if self.waits.is_empty() && to.is_empty() {
            to.rest(spare);
            std::mem::swap(&mut self.output, to);
        } else {
            self.output.move_to(to, count, spare);
        }
        self.output.rest(spare);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn drain(output: &mut Output, most: usize, into: &mut Vec<u8>) {
        let mut left = most;
        while left > 0 && !output.is_empty() {
            let front = output.front();
            let count = front.len().min(left);
            into.extend_from_slice(&front[..count]);
            output.consume(count);
            left -= count;
        }
    }

    #[test]
    fn what_waits_leaves_in_order_and_as_a_whole_however_it_is_released_and_written() {
        let mut state = 7_u64;
        let mut dice = move |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) % below
        };
        for _ in 0..300 {
            let (mut gate, mut output) = (Gate::default(), Output::default());
            let mut spare = Spare::default();
            let (mut wanted, mut written) = (Vec::new(), Vec::new());
            let (mut number, mut durable) = (1, 0);
            for step in 0..600_u32 {
                match dice(7) {
                    0..=3 => {
                        let before = gate.len();
                        let packet = step.to_be_bytes().repeat(1 + dice(300) as usize);
                        gate.output().tail(&mut spare).extend_from_slice(&packet);
                        wanted.extend_from_slice(&packet);
                        if dice(3) == 0 {
                            let payload = step.to_le_bytes().repeat(300 + dice(2_000) as usize);
                            wanted.extend_from_slice(&payload);
                            gate.output().share(Bytes::from(payload));
                        }
                        gate.wait(number, before);
                    }
                    4 => number += 1,
                    5 => {
                        durable = durable.max(number - 1 - dice(number.min(3)));
                        gate.release(durable, &mut output, &mut spare);
                    }
                    _ => {
                        drain(&mut output, dice(20_000) as usize, &mut written);
                        if output.is_empty() { output.rest(&mut spare) } else { output.compact() }
                    }
                }
            }
            gate.release(number, &mut output, &mut spare);
            drain(&mut output, usize::MAX, &mut written);
            assert!(gate.is_empty() && written == wanted);
        }
    }
}
