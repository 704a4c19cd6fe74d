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

    /// Nobody is there any more to whom what waits could be said. What is in the connection's output
    /// already is held all the same.
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
