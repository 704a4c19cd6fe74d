//! What is asked of a shard from outside: it is done in its turn, a slice at a time.

use std::net::IpAddr;

use longshore_codec::ReasonCode;

use super::{Fault, Shard, Stage};
use crate::clock::Now;

/// Slices of tasks that are done in one call of `advance`.
const SLICES: usize = 16;

/// A piece of work, in slices of at most some 200 microseconds.
pub(crate) type Task = Box<dyn FnMut(&mut Shard, Now) -> Step + Send>;

/// How far a slice has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is more to be done.
    More,
    /// The rest is to be done when all that was written down until now is durable.
    Durable,
    /// That was all.
    Done,
}

/// Tasks that are not done yet.
#[derive(Default)]
pub(super) struct Tasks {
    ready: std::collections::VecDeque<Task>,
    /// With the batch of the journal that each waits for.
    waiting: Vec<(u64, Task)>,
}

impl Tasks {
    pub(super) fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }
}

impl Shard {
    /// Takes a task, which begins at once.
    pub(crate) fn take_task(&mut self, task: Task, now: Now) {
        self.tasks.ready.push_back(task);
        self.run_tasks(now);
    }

    /// Goes on with tasks, each in its turn.
    pub(super) fn run_tasks(&mut self, now: Now) {
        let durable = self.journal.as_deref().map_or(u64::MAX, |journal| journal.durable());
        for at in (0..self.tasks.waiting.len()).rev() {
            if self.tasks.waiting[at].0 <= durable {
                let (_, task) = self.tasks.waiting.remove(at);
                self.tasks.ready.push_back(task);
            }
        }
        for _ in 0..SLICES {
            let Some(mut task) = self.tasks.ready.pop_front() else { return };
            match task(self, now) {
                Step::More => self.tasks.ready.push_back(task),
                Step::Durable => match self.journal.as_deref() {
                    Some(journal) => self.tasks.waiting.push((journal.number(), task)),
                    None => self.tasks.ready.push_back(task),
                },
                Step::Done => {}
            }
            self.settle(now);
        }
    }

    /// Ends connections of clients of a class that may not stay, by where they are.
    pub(crate) fn turn_out(
        &mut self,
        class: u32,
        may_stay: impl Fn(IpAddr) -> bool,
        cause: &'static str,
        now: Now,
    ) {
        let all: Vec<_> = self.connections.keys().collect();
        for id in all {
            let Some(connection) = self.connections.get(id) else { continue };
            let of_class = connection.party.class == class;
            if matches!(connection.stage, Stage::Online(_))
                && of_class
                && !may_stay(connection.peer.address.ip())
            {
                self.fail(id, Fault::new(ReasonCode::NotAuthorized, cause), now);
            }
        }
        self.settle(now);
    }
}
