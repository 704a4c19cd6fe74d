//! Shared subscriptions: who takes part, whose turn it is, what waits while nobody can take it.
//!
//! The members of one group may live on different shards, so the group has a lock. It is held to
//! choose and to keep, never while a message is written.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use longshore_codec::{QoS, Sticky};

use crate::condition::Condition;
use crate::session::{Pending, SessionId};
use crate::tally::{Measure, Tallies};

mod sticky;

pub(crate) use self::sticky::{Stick, lot};

/// All sessions that share one topic filter under one name.
#[derive(Debug)]
pub(crate) struct Group {
    /// `$share/name/filter`, as it is subscribed to.
    pub(crate) filter: Box<str>,
    pub(crate) account: u64,
    /// Its number in the journal.
    pub(crate) holder: u64,
    pub(crate) charter: Charter,
    turns: Mutex<Turns>,
}

/// What a group is for.
#[derive(Debug)]
pub(crate) struct Charter {
    /// The topic filter, without what stands before it.
    pub(crate) inner: Box<str>,
    /// What of a topic says which member gets its messages, if something does.
    pub(crate) sticky: Option<Sticky>,
    /// What it asks of messages beyond their topic.
    pub(crate) condition: Option<Arc<Condition>>,
}

impl Group {
    pub(crate) fn new(
        filter: &str,
        (account, tallies): (u64, &Arc<Tallies>),
        holder: u64,
        charter: Charter,
    ) -> Self {
        let account_of_turns = Some((account, Arc::clone(tallies)));
        let turns = Mutex::new(Turns { account: account_of_turns, ..Turns::default() });
        Self { filter: filter.into(), account, holder, charter, turns }
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn for_test(filter: &str) -> Self {
        let charter = Charter { inner: filter.into(), sticky: None, condition: None };
        Self::new(filter, (1, &Arc::default()), 0, charter)
    }

    /// Whether the topic says who gets a message.
    pub(crate) fn is_sticky(&self) -> bool {
        self.charter.sticky.is_some()
    }

    /// What the topic says about who gets its messages; `None` where members take turns.
    pub(crate) fn stick(&self, topic: &[u8]) -> Option<Stick> {
        Some(Stick::new(self.charter.sticky?.fingerprint(topic)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Turns> {
        // Whoever panicked with it ends the broker.
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a group consists of.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    members: Vec<Member>,
    /// Members that outlive the process.
    lasting: usize,
    /// The member whose turn is next.
    turn: usize,
    /// How often members have come and gone.
    changes: u64,
    /// Messages that no member could take, oldest first.
    backlog: VecDeque<(Pending, Noted)>,
    backlog_bytes: usize,
    /// Whose storage those bytes are of, and where that is counted.
    account: Option<(u64, Arc<Tallies>)>,
    /// Whether the log has been told that the oldest go.
    pub(crate) dropping: bool,
    /// The last member has left: nobody will ever ask for what waits.
    is_over: bool,
}

/// Which batch of which shard tells the journal that a message waits in a group. Another shard
/// takes the message when that is appended: else it could be told first that it was taken.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Noted {
    pub(crate) shard: usize,
    /// 0 where it was appended long ago.
    pub(crate) batch: u64,
}

/// One session's part in a group.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) seat: Seat,
    pub(crate) presence: Arc<Presence>,
    /// By what it draws in a sticky group: see [`lot`].
    pub(crate) lot: u64,
}

/// What a member asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    pub(crate) session: SessionId,
    /// The session's number in the journal, or 0.
    pub(crate) holder: u64,
    pub(crate) qos: QoS,
    pub(crate) retain_as_published: bool,
    pub(crate) identifier: Option<NonZeroU32>,
    /// What it may read.
    pub(crate) class: u32,
    /// The only account whose messages it gets; 0 for all.
    pub(crate) only: u64,
}

/// Whether a session takes messages, as far as other shards know.
///
/// Its own shard sets it before it looks into a backlog; the others read it while they hold the
/// group's lock. So a message is never left in a backlog that somebody could have emptied.
#[derive(Debug, Default)]
pub(crate) struct Presence {
    online: AtomicBool,
    /// Its output is full: it reads too slowly.
    stalled: AtomicBool,
    /// Its window is full: nothing of QoS 1 or 2.
    full: AtomicBool,
}

impl Presence {
    pub(crate) fn set_online(&self, online: bool) {
        self.stalled.store(false, Ordering::Relaxed);
        self.full.store(false, Ordering::Relaxed);
        self.online.store(online, Ordering::Release);
    }

    pub(crate) fn set_stalled(&self, stalled: bool) {
        self.stalled.store(stalled, Ordering::Release);
    }

    pub(crate) fn set_full(&self, full: bool) {
        self.full.store(full, Ordering::Release);
    }

    pub(crate) fn is_online(&self) -> bool {
        self.online.load(Ordering::Acquire)
    }

    /// Whether it takes a message that reaches it at this QoS.
    pub(crate) fn is_able(&self, qos: QoS) -> bool {
        self.is_online()
            && !self.stalled.load(Ordering::Acquire)
            && (qos == QoS::AtMostOnce || !self.full.load(Ordering::Acquire))
    }
}

impl Turns {
    /// Adds a member or changes what it asked for.
    pub(crate) fn join(&mut self, member: Member) {
        let session = member.seat.session;
        match self.members.iter_mut().find(|known| known.seat.session == session) {
            Some(known) => *known = member,
            None => {
                self.lasting += usize::from(member.seat.holder != 0);
                self.changes += 1;
                self.members.push(member);
            }
        }
    }

    /// Whether what waits here is to outlive the process: some member does.
    pub(crate) fn is_lasting(&self) -> bool {
        self.lasting > 0
    }

    /// Removes a member; when it was the last, the number of messages that nobody will get.
    pub(crate) fn leave(&mut self, session: SessionId) -> Option<u64> {
        if let Some(place) = self.members.iter().position(|known| known.seat.session == session) {
            let member = self.members.remove(place);
            self.changes += 1;
            self.lasting -= usize::from(member.seat.holder != 0);
            if place < self.turn {
                self.turn -= 1;
            }
        }
        self.members.is_empty().then(|| {
            self.is_over = true;
            self.set_bytes(0);
            std::mem::take(&mut self.backlog).len() as u64
        })
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The next member in turn that is able, which thereby had its turn.
    pub(crate) fn choose(&mut self, mut able: impl FnMut(&Member) -> bool) -> Option<Seat> {
        let count = self.members.len();
        for step in 0..count {
            let place = (self.turn + step) % count;
            if able(&self.members[place]) {
                self.turn = (place + 1) % count;
                return Some(self.members[place].seat);
            }
        }
        None
    }

    /// The seat of this member, if it is one.
    pub(crate) fn seat_of(&self, session: SessionId) -> Option<Seat> {
        let member = self.members.iter().find(|member| member.seat.session == session)?;
        Some(member.seat)
    }

    /// Keeps a message until a member can take it; false when the group is over.
    pub(crate) fn keep(&mut self, pending: Pending, noted: Noted) -> bool {
        if !self.is_over {
            self.set_bytes(self.backlog_bytes + pending.message.size());
            self.backlog.push_back((pending, noted));
        }
        !self.is_over
    }

    /// Keeps a message that was another's before, ahead of all that wait; false when the group is
    /// over.
    pub(crate) fn take_back(&mut self, pending: Pending, noted: Noted) -> bool {
        if !self.is_over {
            self.set_bytes(self.backlog_bytes + pending.message.size());
            self.backlog.push_front((pending, noted));
        }
        !self.is_over
    }

    /// Takes the oldest message, if too many wait.
    pub(crate) fn take_excess(&mut self, messages_max: usize, bytes_max: usize) -> Option<Pending> {
        let is_over = self.backlog.len() > messages_max || self.backlog_bytes > bytes_max;
        if is_over && self.backlog.len() > 1 { self.take() } else { None }
    }

    /// Bytes of what waits.
    pub(crate) fn backlog_bytes(&self) -> usize {
        self.backlog_bytes
    }

    /// Everything that waits, oldest first.
    pub(crate) fn backlog(&self) -> impl ExactSizeIterator<Item = &Pending> {
        self.backlog.iter().map(|(pending, _)| pending)
    }

    /// The oldest message that waits, and who has noted that it does.
    pub(crate) fn oldest(&self) -> Option<(&Pending, Noted)> {
        self.backlog.front().map(|(pending, noted)| (pending, *noted))
    }

    /// Takes the oldest message that waits.
    pub(crate) fn take(&mut self) -> Option<Pending> {
        let (pending, _) = self.backlog.pop_front()?;
        self.set_bytes(self.backlog_bytes - pending.message.size());
        Some(pending)
    }

    fn set_bytes(&mut self, bytes: usize) {
        let before = std::mem::replace(&mut self.backlog_bytes, bytes);
        let Some((account, tallies)) = &self.account else { return };
        match bytes.checked_sub(before) {
            Some(more) => tallies.add(*account, Measure::QueuedBytes, more as u64),
            None => tallies.remove(*account, Measure::QueuedBytes, (before - bytes) as u64),
        }
    }
}
