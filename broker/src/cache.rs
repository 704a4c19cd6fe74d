//! What each recently used topic name reaches, so that the index is asked once per topic.

use std::rc::Rc;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use longshore_codec::QoS;

use crate::index::{Matches, Subscriber};
use crate::message::Identifiers;
use crate::parties::Party;
use crate::session::SessionId;
use crate::share::{Group, Stick};
use crate::tally::Meter;

/// Where one topic's messages go.
#[derive(Debug)]
pub(crate) struct Route {
    /// Its publishers may not publish it: it goes nowhere.
    pub(crate) is_forbidden: bool,
    /// What its publishers' messages are measured by, if they are.
    pub(crate) meter: Option<Meter>,
    /// Sessions of this shard, each once, whatever filters of its overlap.
    pub(crate) targets: Box<[Target]>,
    /// Sessions of other shards, by shard.
    pub(crate) remote: Box<[(usize, Arc<[Target]>)]>,
    /// Shared groups; of a sticky one, what the topic says about who gets its messages.
    pub(crate) groups: Box<[(Arc<Group>, Option<Stick>)]>,
    /// Subscriptions of sessions that ask more of a message than its topic, by session.
    pub(crate) conditional: Box<[Box<[Subscriber]>]>,
}

/// One session that gets a topic's messages.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) session: SessionId,
    /// The session's number in the journal, or 0.
    pub(crate) holder: u64,
    pub(crate) qos: QoS,
    pub(crate) retain_as_published: bool,
    pub(crate) identifiers: Identifiers,
    /// What is left for messages the session published itself, when a filter says No Local.
    pub(crate) local: Local,
}

/// How a target is treated when its own session is the publisher.
#[derive(Clone, Debug)]
pub(crate) enum Local {
    /// Like any other.
    Same,
    /// All its filters say No Local.
    Nothing,
    /// Some do; the others give this.
    Other(Arc<Target>),
}

impl Route {
    /// What the shard with this number does with a message of the topic that reaches all these.
    pub(crate) fn new(shard: usize, topic: &[u8], found: &mut Matches) -> Self {
        found
            .subscribers
            .sort_by_key(|subscriber| (subscriber.session.shard(), subscriber.session));
        let (mut targets, mut remote) = (Box::default(), Vec::new());
        let conditional = take_conditional(&mut found.subscribers);
        for of_shard in found.subscribers.chunk_by(|a, b| a.session.shard() == b.session.shard()) {
            match of_shard[0].session.shard() {
                here if here == shard => targets = merge(of_shard).collect(),
                there => remote.push((there, merge(of_shard).collect())),
            }
        }
        let groups = found.groups.iter().map(|group| (Arc::clone(group), group.stick(topic)));
        let (remote, groups) = (remote.into(), groups.collect());
        Self { is_forbidden: false, meter: None, targets, remote, groups, conditional }
    }

    fn forbidden() -> Self {
        let (targets, remote, groups, conditional) = Default::default();
        Self { is_forbidden: true, meter: None, targets, remote, groups, conditional }
    }

    /// How many sessions and groups the message reaches.
    pub(crate) fn len(&self) -> usize {
        let remote: usize = self.remote.iter().map(|(_, targets)| targets.len()).sum();
        self.targets.len() + remote + self.groups.len() + self.conditional.len()
    }

    /// Bytes of memory, roughly.
    fn bytes(&self) -> usize {
        let remote: usize = self.remote.iter().map(|(_, targets)| bytes_of(targets)).sum();
        2 * size_of::<usize>()
            + size_of::<Self>()
            + self.meter.as_ref().map_or(0, Meter::bytes)
            + bytes_of(&self.targets)
            + size_of_val(&*self.remote)
            + remote
            + size_of_val(&*self.groups)
            + self.conditional.iter().map(|of_one| size_of_val(&**of_one) + 16).sum::<usize>()
    }
}

fn bytes_of(targets: &[Target]) -> usize {
    let of_other = |target: &Target| match &target.local {
        Local::Same | Local::Nothing => 0,
        Local::Other(other) => size_of::<Target>() + other.identifiers.extra_bytes(),
    };
    let extra = |target: &Target| target.identifiers.extra_bytes() + of_other(target);
    size_of_val(targets) + targets.iter().map(extra).sum::<usize>()
}

/// Takes out what is of sessions with a condition in any of their subscriptions: only a message
/// says what they get.
fn take_conditional(sorted: &mut Vec<Subscriber>) -> Box<[Box<[Subscriber]>]> {
    let asks = |it: &Subscriber| it.condition.as_ref().is_some_and(|it| !it.is_plain());
    if !sorted.iter().any(asks) {
        return Box::default();
    }
    let (mut conditional, mut plain) = (Vec::new(), Vec::new());
    for of_one in sorted.chunk_by(|a, b| a.session == b.session) {
        match of_one.iter().any(asks) {
            true => conditional.push(of_one.into()),
            false => plain.extend_from_slice(of_one),
        }
    }
    *sorted = plain;
    conditional.into()
}

/// One target per session: the highest QoS, all identifiers.
pub(crate) fn merge(sorted: &[Subscriber]) -> impl Iterator<Item = Target> + '_ {
    sorted.chunk_by(|a, b| a.session == b.session).map(|overlapping| {
        let all = Target::of(overlapping.iter()).expect("a chunk has a first entry");
        let not_local = overlapping.iter().filter(|subscriber| !subscriber.no_local);
        let local = match not_local.clone().count() {
            0 => Local::Nothing,
            count if count == overlapping.len() => Local::Same,
            _ => Target::of(not_local).map_or(Local::Nothing, |it| Local::Other(Arc::new(it))),
        };
        Target { local, ..all }
    })
}

impl Target {
    fn of<'a>(overlapping: impl Iterator<Item = &'a Subscriber> + Clone) -> Option<Self> {
        let first = overlapping.clone().next()?;
        Some(Self {
            session: first.session,
            holder: first.holder,
            qos: overlapping.clone().map(|subscriber| subscriber.qos).max()?,
            retain_as_published: overlapping.clone().any(|s| s.retain_as_published),
            identifiers: overlapping.clone().filter_map(|it| it.identifier).collect(),
            local: Local::Same,
        })
    }
}

/// Routes by topic name and publishers of equal rights, all of one epoch of the index; emptied when
/// that epoch ends or the cache is full.
#[derive(Debug)]
pub(crate) struct RouteCache {
    /// The shard it belongs to.
    shard: usize,
    table: HashTable<Entry>,
    hasher: DefaultHashBuilder,
    epoch: u64,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    from: Party,
    topic: Box<[u8]>,
    route: Rc<Route>,
}

impl RouteCache {
    pub(crate) fn new(shard: usize, bytes_max: usize) -> Self {
        Self {
            shard,
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            epoch: 0,
            bytes: 0,
            bytes_max,
        }
    }

    /// The index's epoch of which the routes are.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The route of a topic, if it is known and of this epoch. A known topic is a valid one.
    #[inline]
    pub(crate) fn get(&mut self, epoch: u64, from: Party, topic: &[u8]) -> Option<&Rc<Route>> {
        if !self.enter(epoch) {
            return None;
        }
        let hash = self.hash(from, topic);
        self.table
            .find(hash, |entry| entry.from == from && *entry.topic == *topic)
            .map(|entry| &entry.route)
    }

    /// Forgets all that is of another epoch; whether there was nothing to forget.
    #[inline]
    pub(crate) fn enter(&mut self, epoch: u64) -> bool {
        let is_same = self.epoch == epoch;
        if !is_same {
            self.clear();
            self.epoch = epoch;
        }
        is_same
    }

    /// Keeps what the index found, and returns it.
    pub(crate) fn insert(
        &mut self,
        from: Party,
        topic: &[u8],
        found: &mut Matches,
        meter: Option<Meter>,
    ) -> Rc<Route> {
        self.keep(from, topic, Route { meter, ..Route::new(self.shard, topic, found) })
    }

    /// Keeps that these publishers may not publish the topic.
    pub(crate) fn forbid(&mut self, from: Party, topic: &[u8]) -> Rc<Route> {
        self.keep(from, topic, Route::forbidden())
    }

    fn keep(&mut self, from: Party, topic: &[u8], route: Route) -> Rc<Route> {
        let route = Rc::new(route);
        let bytes = size_of::<Entry>() + topic.len() + route.bytes();
        if self.bytes + bytes > self.bytes_max {
            self.clear();
        }
        self.bytes += bytes;
        let hash = self.hash(from, topic);
        let entry = Entry { hash, from, topic: topic.into(), route: Rc::clone(&route) };
        self.table.insert_unique(hash, entry, |entry| entry.hash);
        route
    }

    fn hash(&self, from: Party, topic: &[u8]) -> u64 {
        // The party seldom varies and is compared anyway.
        self.hasher.hash_one(topic) ^ u64::from(from.class) ^ from.account.rotate_left(32)
    }

    fn clear(&mut self) {
        self.table.clear();
        self.bytes = 0;
    }
}
