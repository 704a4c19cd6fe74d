//! What each recently used topic name reaches, so that the index is asked once per topic.

use std::rc::Rc;

use hashbrown::{DefaultHashBuilder, HashTable};
use std::hash::BuildHasher;

use longshore_codec::QoS;

use crate::index::{Matches, Subscriber};
use crate::message::Identifiers;
use crate::session::SessionId;
use crate::share::GroupId;

/// Where one topic's messages go.
#[derive(Debug)]
pub(crate) struct Route {
    /// One entry per session, whatever filters of its overlap.
    pub(crate) targets: Box<[Target]>,
    pub(crate) groups: Box<[GroupId]>,
}

/// One session that gets a topic's messages.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) session: SessionId,
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
    Other(Rc<Target>),
}

impl Route {
    /// One target per session: the highest QoS, all identifiers.
    fn merge(found: &mut Matches) -> Self {
        found.subscribers.sort_by_key(|subscriber| subscriber.session);
        found.groups.sort_unstable();
        let targets = found
            .subscribers
            .chunk_by(|a, b| a.session == b.session)
            .map(|overlapping| {
                let all = Target::of(overlapping.iter()).expect("a chunk has a first entry");
                let not_local = overlapping.iter().filter(|subscriber| !subscriber.no_local);
                let local = match not_local.clone().count() {
                    0 => Local::Nothing,
                    count if count == overlapping.len() => Local::Same,
                    _ => Target::of(not_local).map_or(Local::Nothing, |t| Local::Other(Rc::new(t))),
                };
                Target { local, ..all }
            })
            .collect();
        Self { targets, groups: found.groups.as_slice().into() }
    }
}

impl Target {
    fn of<'a>(overlapping: impl Iterator<Item = &'a Subscriber> + Clone) -> Option<Self> {
        let first = overlapping.clone().next()?;
        let mut identifiers = Identifiers::None;
        for subscriber in overlapping.clone() {
            identifiers.push(subscriber.identifier);
        }
        Some(Self {
            session: first.session,
            qos: overlapping.clone().map(|subscriber| subscriber.qos).max()?,
            retain_as_published: overlapping.clone().any(|s| s.retain_as_published),
            identifiers,
            local: Local::Same,
        })
    }
}

/// Routes by topic name and class of publishers, all of one epoch of the index; emptied when that
/// epoch ends or the cache is full.
#[derive(Debug)]
pub(crate) struct RouteCache {
    table: HashTable<Entry>,
    hasher: DefaultHashBuilder,
    epoch: u64,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct Entry {
    hash: u64,
    class: u32,
    topic: Box<[u8]>,
    route: Rc<Route>,
}

impl RouteCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            table: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            epoch: 0,
            bytes: 0,
            bytes_max,
        }
    }

    /// The route of a topic, if it is known and of this epoch. A known topic is a valid one.
    #[inline]
    pub(crate) fn get(&mut self, epoch: u64, class: u32, topic: &[u8]) -> Option<&Rc<Route>> {
        if self.epoch != epoch {
            self.clear();
            self.epoch = epoch;
            return None;
        }
        let hash = self.hash(class, topic);
        self.table
            .find(hash, |entry| entry.class == class && *entry.topic == *topic)
            .map(|entry| &entry.route)
    }

    /// Keeps what the index found, and returns it.
    pub(crate) fn insert(&mut self, class: u32, topic: &[u8], found: &mut Matches) -> Rc<Route> {
        let route = Rc::new(Route::merge(found));
        let bytes = size_of::<Entry>()
            + 2 * size_of::<usize>()
            + size_of::<Route>()
            + topic.len()
            + size_of_val(&*route.targets)
            + size_of_val(&*route.groups);
        if self.bytes + bytes > self.bytes_max {
            self.clear();
        }
        self.bytes += bytes;
        let hash = self.hash(class, topic);
        let entry = Entry { hash, class, topic: topic.into(), route: Rc::clone(&route) };
        self.table.insert_unique(hash, entry, |entry| entry.hash);
        route
    }

    fn hash(&self, class: u32, topic: &[u8]) -> u64 {
        // The class seldom varies and is compared anyway.
        self.hasher.hash_one(topic) ^ u64::from(class)
    }

    fn clear(&mut self) {
        self.table.clear();
        self.bytes = 0;
    }
}
