//! The shards of one broker behind the calls of one: what the driver does with threads, done in
//! place. Mail arrives before the next call, unless it is delayed.

use std::collections::VecDeque;
use std::sync::Arc;

use longshore_broker::clock::{Mono, Now};
use longshore_broker::shard::{Config, Refused};
use longshore_broker::totals::Totals;
use longshore_broker::{ConnectionId, Mail, Moved, Output, Peer, Shard};
use longshore_storage::{Batch, Failure, OpenError, SimulatedDisk, Ticket};

pub(crate) mod journal;

use self::journal::Journal;

/// See the module. A connection's id says which shard has it.
#[derive(Debug)]
pub(crate) struct Shards {
    shards: Vec<Shard>,
    totals: Totals,
    /// Takes the next connection.
    next: usize,
    delay: Option<Delay>,
    journal: Option<Journal>,
    /// The journal is told and written when somebody says so, not at every call.
    deferred: bool,
}

/// What is on its way from shard to shard.
#[derive(Debug)]
struct Delay {
    /// Mail by sender and receiver, each in order.
    mail: Vec<VecDeque<Mail>>,
    /// Connections by the names that they had, and where they go.
    moved: VecDeque<(ConnectionId, usize, Moved)>,
    /// Pieces of mail beyond which a shard is full.
    most: usize,
    /// Shards that are, a bit each.
    full: u64,
}

/// Something that may arrive next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    Mail { from: usize, to: usize },
    Connection(usize),
}

impl Way {
    fn is_mail(self) -> bool {
        matches!(self, Self::Mail { .. })
    }
}

impl Shards {
    pub(crate) fn new(configs: Vec<Config>) -> Self {
        let totals = Totals::of(&configs);
        let shards = configs.into_iter().map(Shard::new).collect();
        Self { shards, totals, next: 0, delay: None, journal: None, deferred: false }
    }

    /// Shards that remember on `disk`, with what they remember.
    pub(crate) fn open(configs: Vec<Config>, disk: &Arc<SimulatedDisk>, now: Now) -> Self {
        let mut shards = Self::restore(configs, disk, now).expect("the journal opens");
        shards.commit();
        shards
    }

    /// A whole round of compaction; how many segments it retired.
    pub(crate) fn compact(&mut self, now: Now) -> Result<usize, Failure> {
        let mut journal = self.journal.clone().expect("shards that remember");
        let base = journal.current();
        let changes = self.shards[0].retained_changes();
        self.shards.iter_mut().for_each(|shard| shard.compact(base));
        while self.shards.iter().any(Shard::is_compacting) {
            for at in 0..self.shards.len() {
                self.append()?;
                let mut failed = None;
                let mut take = |batch: &mut Batch| {
                    journal.take(batch).map_err(|failure| failed = Some(failure)).ok()
                };
                self.shards[at].compact_slice(&mut take);
                if let Some(failure) = failed {
                    return Err(failure);
                }
                self.exchange(now);
            }
            if self.shards.iter().any(Shard::awaits_mail) {
                // It comes, however much else is delayed.
                self.append()?;
                let deferred = std::mem::take(&mut self.deferred);
                self.exchange(now);
                self.deferred = deferred;
                while let Some(way) = self.ways().into_iter().find(|way| way.is_mail()) {
                    self.carry(way, now);
                }
            }
        }
        self.append()?;
        let messages = self.shards.iter().map(Shard::last_message).max().unwrap_or(0);
        self.shards[0].note_compacted(changes, messages);
        self.append()?;
        let durable = journal.commit()?;
        self.shards.iter_mut().for_each(|shard| shard.durable(durable));
        journal.retire(base)
    }

    /// The same, with nothing written yet of what they found.
    fn restore(
        mut configs: Vec<Config>,
        disk: &Arc<SimulatedDisk>,
        now: Now,
    ) -> Result<Self, OpenError> {
        let journal = Journal::open(&mut configs, disk)?;
        let mut shards = Self { journal: Some(journal), ..Self::new(configs) };
        shards.shards.iter_mut().for_each(|shard| shard.restore(now));
        Ok(shards)
    }

    /// Shards whose turns end when [`Shards::end_turn`] says so, whose mail arrives with
    /// [`Shards::carry`], and whose journal is written by [`Shards::commit_appended`].
    pub(crate) fn open_deferred(
        configs: Vec<Config>,
        disk: &Arc<SimulatedDisk>,
        now: Now,
    ) -> Result<Self, OpenError> {
        let mut shards = Self::restore(configs, disk, now)?;
        shards.deferred = true;
        shards.delay(usize::MAX);
        Ok(shards)
    }

    /// Ends the turn of a shard: what it has written down is appended, then its mail is on its
    /// way, and the connections with output are known. Up to where it was appended, if it was.
    pub(crate) fn end_turn(
        &mut self,
        shard: usize,
        dirty: &mut Vec<ConnectionId>,
    ) -> Result<Option<Ticket>, Failure> {
        let count = self.shards.len();
        let of = &mut self.shards[shard];
        let appended = self.journal.as_mut().expect("there is a journal").append(of)?;
        let delay = self.delay.as_mut().expect("mail is delayed");
        of.take_mail().for_each(|(to, mail)| delay.mail[shard * count + to].push_back(mail));
        of.take_dirty(dirty);
        Ok(appended)
    }

    /// The journal writes what was appended.
    pub(crate) fn commit_appended(&mut self) -> Result<Ticket, Failure> {
        self.journal.as_mut().expect("there is a journal").commit()
    }

    /// The shard hears what is durable.
    pub(crate) fn tell(&mut self, shard: usize, durable: Ticket) {
        self.shards[shard].durable(durable);
    }

    /// What the shards have written down goes to the journal, before their mail goes out.
    fn append(&mut self) -> Result<(), Failure> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        self.shards.iter_mut().try_for_each(|shard| journal.append(shard).map(drop))
    }

    /// Whether the journal is behind what the shards write down.
    pub(crate) fn set_behind(&mut self, behind: bool, now: Now) {
        self.shards.iter_mut().for_each(|shard| shard.set_behind(behind, now));
    }

    /// Whether anything is to go out once it is durable.
    pub(crate) fn awaits_journal(&self) -> bool {
        self.shards.iter().any(Shard::awaits_journal)
    }

    /// The journal writes, and what waited for that goes out.
    fn commit(&mut self) {
        self.append().expect("the disk works");
        if let Some(journal) = &mut self.journal {
            let durable = journal.commit().expect("the disk works");
            self.shards.iter_mut().for_each(|shard| shard.durable(durable));
        }
    }

    /// From now on nothing arrives before [`Shards::carry`]; a shard for which more than `most`
    /// pieces of mail are on their way is full.
    pub(crate) fn delay(&mut self, most: usize) {
        let ways = self.shards.len() * self.shards.len();
        let mail = (0..ways).map(|_| VecDeque::new()).collect();
        self.delay = Some(Delay { mail, moved: VecDeque::new(), most, full: 0 });
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    fn of(&mut self, id: ConnectionId) -> &mut Shard {
        &mut self.shards[id.shard()]
    }

    /// Each shard takes one in turn.
    pub(crate) fn accept(&mut self, peer: Peer, now: Now) -> Result<ConnectionId, Refused> {
        let at = self.next;
        self.next = (at + 1) % self.shards.len();
        self.shards[at].accept(peer, now)
    }

    /// Gives bytes to the broker; what the connection is called from now on.
    pub(crate) fn receive(&mut self, id: ConnectionId, bytes: &[u8], now: Now) -> ConnectionId {
        self.of(id).receive(id, bytes, now);
        let id = self.move_on(id, now);
        self.exchange(now);
        id
    }

    /// Carries a connection to its session, or puts it on its way.
    fn move_on(&mut self, mut id: ConnectionId, now: Now) -> ConnectionId {
        while let Some(to) = self.of(id).moving(id) {
            let moved = self.of(id).take_moved(id).expect("it is on its way");
            if let Some(delay) = &mut self.delay {
                delay.moved.push_back((id, to, moved));
                return id;
            }
            id = self.shards[to].accept_moved(moved, now);
        }
        id
    }

    pub(crate) fn closed(&mut self, id: ConnectionId, now: Now) {
        self.of(id).closed(id, now);
        self.exchange(now);
    }

    pub(crate) fn wrote(&mut self, id: ConnectionId, count: usize, now: Now) {
        self.of(id).wrote(id, count, now);
        self.exchange(now);
    }

    /// The earliest deadline of all.
    pub(crate) fn advance(&mut self, now: Now) -> Option<Mono> {
        let due = (0..self.shards.len()).filter_map(|at| self.shards[at].advance(now)).min();
        match self.exchange(now) {
            // It may have moved a deadline.
            true => Some(now.mono),
            false => due,
        }
    }

    pub(crate) fn shut_down(&mut self, now: Now) {
        self.shards.iter_mut().for_each(|shard| shard.shut_down(now));
        self.exchange(now);
    }

    /// Carries mail until there is none, or puts it on its way; whether any was carried.
    fn exchange(&mut self, now: Now) -> bool {
        if self.deferred {
            return false;
        }
        let mut any = false;
        loop {
            self.append().expect("the disk works");
            let count = self.shards.len();
            let mut taken = Vec::new();
            for (from, shard) in self.shards.iter_mut().enumerate() {
                taken.extend(shard.take_mail().map(|(to, mail)| (from, to, mail)));
            }
            if let Some(delay) = &mut self.delay {
                for (from, to, mail) in taken {
                    delay.mail[from * count + to].push_back(mail);
                }
                self.tell_full(now);
                return false;
            }
            if taken.is_empty() {
                return any;
            }
            any = true;
            for (_, to, mail) in taken {
                self.shards[to].mail(mail, now);
            }
        }
    }

    /// Tells the shards which of them have too much mail, when that has changed.
    fn tell_full(&mut self, now: Now) {
        let count = self.shards.len();
        let Some(delay) = &mut self.delay else { return };
        let is_full = |to: &usize| {
            let mail = (0..count).map(|from| delay.mail[from * count + to].len());
            mail.sum::<usize>() > delay.most
        };
        let full = (0..count).filter(is_full).fold(0, |full, to| full | 1 << to);
        if full != delay.full {
            delay.full = full;
            self.shards.iter_mut().for_each(|shard| shard.set_full(full, now));
        }
    }

    /// What may arrive next.
    pub(crate) fn ways(&self) -> Vec<Way> {
        let (count, Some(delay)) = (self.shards.len(), &self.delay) else { return Vec::new() };
        let of_place = |place| Way::Mail { from: place / count, to: place % count };
        let some = (0..delay.mail.len()).filter(|place| !delay.mail[*place].is_empty());
        some.map(of_place).chain((0..delay.moved.len()).map(Way::Connection)).collect()
    }

    /// Lets one thing arrive; a connection's name before and after.
    pub(crate) fn carry(&mut self, way: Way, now: Now) -> Option<(ConnectionId, ConnectionId)> {
        let (count, delay) = (self.shards.len(), self.delay.as_mut()?);
        let names = match way {
            Way::Mail { from, to } => {
                let mail = delay.mail[from * count + to].pop_front()?;
                self.shards[to].mail(mail, now);
                None
            }
            Way::Connection(place) => {
                let (old, to, moved) = delay.moved.remove(place)?;
                let new = self.shards[to].accept_moved(moved, now);
                Some((old, self.move_on(new, now)))
            }
        };
        self.exchange(now);
        names
    }

    /// Whether the connection is on its way to another shard.
    pub(crate) fn is_moving(&self, id: ConnectionId) -> bool {
        self.delay.as_ref().is_some_and(|delay| delay.moved.iter().any(|(old, ..)| *old == id))
    }

    /// Shards that have too much mail, a bit each.
    pub(crate) fn full(&self) -> u64 {
        self.delay.as_ref().map_or(0, |delay| delay.full)
    }

    /// Mail on its way to these shards.
    pub(crate) fn mail_to(&self, shards: u64) -> usize {
        let (count, Some(delay)) = (self.shards.len(), &self.delay) else { return 0 };
        let wanted = |place: &usize| shards >> (place % count) & 1 == 1;
        (0..delay.mail.len()).filter(wanted).map(|place| delay.mail[place].len()).sum()
    }

    pub(crate) fn take_dirty(&mut self, into: &mut Vec<ConnectionId>) {
        self.commit();
        self.shards.iter_mut().for_each(|shard| shard.take_dirty(into));
    }

    pub(crate) fn output(&mut self, id: ConnectionId) -> Option<&mut Output> {
        self.of(id).output(id)
    }

    pub(crate) fn is_written(&self, id: ConnectionId) -> bool {
        self.shards[id.shard()].is_written(id)
    }

    pub(crate) fn is_closing(&self, id: ConnectionId) -> bool {
        self.shards[id.shard()].is_closing(id)
    }

    pub(crate) fn wants_read(&self, id: ConnectionId) -> bool {
        self.shards[id.shard()].wants_read(id)
    }
}
