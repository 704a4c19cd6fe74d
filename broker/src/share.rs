//! Shared subscriptions: who takes part, whose turn it is, what waits while nobody can take it.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::rc::Rc;

use longshore_codec::QoS;

use crate::session::{Pending, SessionId};
use crate::slots::Key;

/// Names a shared group for as long as it has members.
pub(crate) type GroupId = Key<Group>;

/// All sessions that share one topic filter under one name.
#[derive(Debug)]
pub(crate) struct Group {
    /// `$share/name/filter`, as it is subscribed to.
    pub(crate) filter: Rc<str>,
    members: Vec<Member>,
    /// The member whose turn is next.
    turn: usize,
    /// Messages that no member could take, oldest first.
    pub(crate) backlog: VecDeque<Pending>,
    pub(crate) backlog_bytes: usize,
}

/// One session's part in a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub(crate) session: SessionId,
    pub(crate) qos: QoS,
    pub(crate) retain_as_published: bool,
    pub(crate) identifier: Option<NonZeroU32>,
}

impl Group {
    pub(crate) fn new(filter: &str) -> Self {
        Self {
            filter: filter.into(),
            members: Vec::new(),
            turn: 0,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
        }
    }

    /// Adds a member or changes what it asked for.
    pub(crate) fn join(&mut self, member: Member) {
        match self.members.iter_mut().find(|known| known.session == member.session) {
            Some(known) => *known = member,
            None => self.members.push(member),
        }
    }

    /// Removes a member; true when it was the last.
    pub(crate) fn leave(&mut self, session: SessionId) -> bool {
        if let Some(place) = self.members.iter().position(|known| known.session == session) {
            self.members.remove(place);
            if place < self.turn {
                self.turn -= 1;
            }
        }
        self.members.is_empty()
    }

    pub(crate) fn members(&self) -> &[Member] {
        &self.members
    }

    /// The next member in turn that is able, which thereby had its turn.
    pub(crate) fn choose(&mut self, mut able: impl FnMut(&Member) -> bool) -> Option<Member> {
        let count = self.members.len();
        for step in 0..count {
            let place = (self.turn + step) % count;
            if able(&self.members[place]) {
                self.turn = (place + 1) % count;
                return Some(self.members[place]);
            }
        }
        None
    }

    /// Keeps a message until a member can take it, at the back or, when it was given back, at the
    /// front; the oldest go when there are too many. How many were dropped.
    pub(crate) fn keep(
        &mut self,
        pending: Pending,
        front: bool,
        messages_max: usize,
        bytes_max: usize,
    ) -> u64 {
        self.backlog_bytes += pending.message.size();
        if front {
            self.backlog.push_front(pending);
        } else {
            self.backlog.push_back(pending);
        }
        let mut dropped = 0;
        while self.backlog.len() > 1
            && (self.backlog.len() > messages_max || self.backlog_bytes > bytes_max)
        {
            self.take();
            dropped += 1;
        }
        dropped
    }

    /// The oldest message that waits.
    pub(crate) fn take(&mut self) -> Option<Pending> {
        let pending = self.backlog.pop_front()?;
        self.backlog_bytes -= pending.message.size();
        Some(pending)
    }
}
