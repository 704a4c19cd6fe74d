//! What waits for one session, as the records of a journal tell.

use std::sync::Arc;

use hashbrown::HashMap;

use super::state::Told;
use crate::record::Ref;
use crate::session::{Pages, Place, Queue};

/// Messages at the front of a queue among which one is looked for at once: most are taken there.
const NEAR: usize = 64;
/// Messages at least that are looked for together.
const TOGETHER_MIN: usize = 1_024;

/// The queue, and what is to be taken out of it. Records tell of messages that do not stand at its
/// front, or are not there at all. To look for each of them alone would cost the square of what
/// waits; together they cost a pass.
#[derive(Debug, Default)]
pub(super) struct Waits {
    queue: Queue<Told, Ref>,
    /// The group through which each of these came, by its number.
    taken: HashMap<u64, u64>,
}

impl Waits {
    /// The queue as it is.
    pub(super) fn queue(&mut self) -> &mut Queue<Told, Ref> {
        self.settle();
        &mut self.queue
    }

    pub(super) fn push(
        &mut self,
        told: Told,
        to: Ref,
        place: &mut Place<Told>,
        pages: &Arc<Pages<Told>>,
    ) {
        if self.taken.contains_key(&told.entry.number) {
            // That was another, before this one.
            self.settle();
        }
        self.queue.push(told, to, place, pages);
    }

    /// Takes the message out that came through this group, if it is there; or else the number of
    /// the group is forgotten because it is no more.
    pub(super) fn take(&mut self, number: u64, group: u64) {
        if self.taken.contains_key(&number) {
            self.settle();
        }
        if self.queue.take(NEAR, exactly(number, group)) || self.queue.len() == 0 {
            return;
        }
        self.taken.insert(number, group);
        if self.taken.len() > TOGETHER_MIN + self.queue.len() / 8 {
            self.settle();
        }
    }

    /// Takes the message out that came through this group; whether it was there. Looks at all.
    pub(super) fn take_exactly(&mut self, number: u64, group: u64) -> bool {
        self.queue().take(usize::MAX, exactly(number, group))
    }

    fn settle(&mut self) {
        if self.taken.is_empty() {
            return;
        }
        let taken = &mut self.taken;
        self.queue.retain(|told, to| {
            let is_taken = taken.get(&told.entry.number) == Some(&to.group);
            !(is_taken && taken.remove(&told.entry.number).is_some())
        });
        if !taken.is_empty() {
            self.queue.retain(|told, _| taken.remove(&told.entry.number).is_none());
        }
        taken.clear();
    }
}

/// Whether it is the message that came through this group.
fn exactly(number: u64, group: u64) -> impl Fn(&Told, &Ref) -> bool {
    move |told, to| told.entry.number == number && to.group == group
}
