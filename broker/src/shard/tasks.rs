//! What is asked of a shard from outside: it is done in its turn, a slice at a time.

use std::net::IpAddr;

use longshore_codec::ReasonCode;

use super::{Fault, Shard, Stage};
use crate::clock::{Now, Wall};
use crate::journal::Taking;
use crate::record::Event;
use crate::retained::Age;
use crate::session::SessionId;

/// Slices of tasks that are done in one call of `advance`.
const SLICES: usize = 16;
/// Sessions, and retained messages, that go in one slice.
const SESSIONS: usize = 128;

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

    pub(super) fn await_journal(&self) -> bool {
        !self.waiting.is_empty()
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
        let has_failed = self.journal.as_deref().is_some_and(|it| it.taking == Taking::Nothing);
        if has_failed {
            // What they wait for will never be: whoever has asked gets no answer from them.
            self.tasks.waiting.clear();
        }
        for at in (0..self.tasks.waiting.len()).rev() {
            if self.tasks.waiting[at].0 <= durable {
                let (_, task) = self.tasks.waiting.remove(at);
                self.tasks.ready.push_back(task);
            }
        }
        // One slice of each, so that a long one leaves time for clients; and no more than one once
        // the turn has done its work.
        for turn in 0..SLICES.min(self.tasks.ready.len()) {
            if turn > 0 && self.work >= self.turn_work {
                return;
            }
            let Some(mut task) = self.tasks.ready.pop_front() else { return };
            match task(self, now) {
                Step::More => self.tasks.ready.push_back(task),
                Step::Durable if has_failed => {}
                // An empty batch is appended only when something comes: what is waited for is the
                // last with anything in it.
                Step::Durable => match self.journal.as_deref() {
                    Some(journal) if journal.written() > journal.durable() => {
                        self.tasks.waiting.push((journal.written(), task));
                    }
                    _ => self.tasks.ready.push_back(task),
                },
                Step::Done => {}
            }
            self.settle(now);
        }
    }

    /// Ends what there is of accounts that are gone, a slice.
    pub(crate) fn end_accounts(&mut self, accounts: &[u64], now: Now) -> Step {
        let of_them = |id: &SessionId| {
            let session = self.sessions.get(*id);
            session.is_some_and(|session| accounts.contains(&session.principal.account))
        };
        let gone: Vec<_> = self.sessions.keys().filter(of_them).take(SESSIONS).collect();
        for session in &gone {
            if let Some(connection) = self.sessions.get(*session).and_then(|it| it.connection) {
                let cause = "the account is gone";
                self.fail(connection, Fault::new(ReasonCode::NotAuthorized, cause), now);
            }
            // What it would say at its end, nobody is left to hear.
            self.drop_will(*session);
            self.end_session(*session, "its account is gone", now);
        }
        let mut is_through = gone.len() < SESSIONS;
        let of_this = if self.number == 0 { accounts } else { &[] };
        for account in of_this {
            is_through &= self.forget_retained(*account);
        }
        if is_through { Step::Done } else { Step::More }
    }

    /// Takes some of what an account retains away; whether that was all.
    fn forget_retained(&mut self, account: u64) -> bool {
        let retained = self.commons.retained.of(account);
        for topic in retained.some_topics(SESSIONS) {
            let age = Age { time: None, now: Wall(0) };
            if let Some(sequence) = retained.clear(&topic, age)
                && let Some(journal) = self.journal.as_deref_mut()
            {
                journal.note(&Event::Clear { account, sequence, topic: &topic });
            }
        }
        retained.is_empty()
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
