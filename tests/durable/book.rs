//! What was published, who is owed it, and what has come.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{Stamp, World};

/// A message by its place in the books, which is its payload, too.
pub(crate) type Number = usize;

#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) topic: String,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// It is empty, and clears what is retained.
    pub(crate) is_clear: bool,
    /// Who sent it, and in which of its sessions; nobody for a will.
    pub(crate) publisher: Option<(usize, u32)>,
    /// How often it was sent, if each time may count as another message.
    pub(crate) sends: usize,
    /// Its life in seconds.
    pub(crate) expiry_secs: Option<u32>,
    /// When it ends, as the first and the last time it was sent have it.
    pub(crate) ends: Option<(u64, u64)>,
    /// PUBACK or PUBREC was read.
    pub(crate) is_acknowledged: bool,
    /// The broker may have forgotten that it had it.
    pub(crate) is_doubtful: bool,
    /// Sessions that were sure to get it when it was sent first.
    pub(crate) bound: Vec<(usize, u32)>,
    /// How it ends if it is a will.
    pub(crate) will: Option<Fate>,
}

/// What is to become of a will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Nothing is known for sure.
    Open,
    /// Its client said goodbye then.
    Dropped(Stamp),
    /// Its client came back in time.
    Never,
}

/// A promise to one session.
#[derive(Clone, Debug)]
struct Owed {
    number: Number,
    session: (usize, u32),
}

/// A promise to the members of a shared group: these are bound to last.
#[derive(Clone, Debug)]
struct OwedToGroup {
    number: Number,
    filter: String,
    members: BTreeSet<(usize, u32)>,
}

/// A message that has come, once for each packet id.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) session: (usize, u32),
    pub(crate) number: Number,
    pub(crate) qos: u8,
    pub(crate) retain: bool,
    /// Since when the journal knows that it was sent.
    pub(crate) sent: Stamp,
    /// When the broker heard that it has come.
    pub(crate) acknowledged: Option<Stamp>,
}

#[derive(Debug, Default)]
pub(crate) struct Book {
    pub(crate) published: Vec<Published>,
    owed: Vec<Owed>,
    owed_to_groups: Vec<OwedToGroup>,
    pub(crate) deliveries: Vec<Delivery>,
    /// Sessions that lasted no longer than their connections were members of groups.
    pub(crate) has_passing_members: bool,
    /// Shared groups there are.
    pub(crate) groups: usize,
    /// What happened.
    pub(crate) trace: Vec<String>,
}

/// Topics that may retain something.
pub(crate) const TOPICS: [&str; 3] = ["t/a", "t/b", "t/c"];

/// Whether a topic filter of these tests matches a topic of theirs.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    let filter = filter
        .strip_prefix("$share/")
        .map_or(filter, |shared| shared.split_once('/').expect("a name and a filter").1);
    match filter.strip_suffix('+') {
        Some(start) => topic.starts_with(start),
        None => filter == topic,
    }
}

impl Book {
    pub(crate) fn note(&mut self, world: &World, what: String) {
        let secs = (world.now.wall.0 / 1_000_000) % 100_000;
        self.trace.push(format!("{secs:5} {:4} {what}", world.disk.operations()));
    }

    /// A message begins: these sessions and groups are sure to be subscribed.
    pub(crate) fn publish(
        &mut self,
        mut published: Published,
        sessions: impl Iterator<Item = ((usize, u32), u8)>,
        groups: BTreeMap<String, BTreeSet<(usize, u32)>>,
    ) -> Number {
        let number = self.published.len();
        for (session, qos) in sessions {
            let qos = qos.min(published.qos);
            if qos > 0 {
                self.owed.push(Owed { number, session });
                published.bound.push(session);
            }
        }
        if published.qos > 0 {
            for (filter, members) in groups {
                self.owed_to_groups.push(OwedToGroup { number, filter, members });
            }
        }
        self.published.push(published);
        number
    }

    /// The session has given up what it asked of a filter, or asks for less.
    pub(crate) fn give_up(&mut self, session: (usize, u32), filter: &str, others: &[&str]) {
        let published = &self.published;
        let is_lost = |number: Number| {
            let topic = &published[number].topic;
            matches(filter, topic) && !others.iter().any(|other| matches(other, topic))
        };
        self.owed.retain(|owed| owed.session != session || !is_lost(owed.number));
        for owed in self.owed_to_groups.iter_mut().filter(|owed| owed.filter == filter) {
            owed.members.remove(&session);
        }
    }

    /// The session is no more, or may be.
    pub(crate) fn end_session(&mut self, session: (usize, u32), groups: &BTreeSet<String>) {
        self.owed.retain(|owed| owed.session != session);
        let published = &self.published;
        // What was sent to it at QoS 2 goes with it [MQTT-4.8.2-5].
        self.owed_to_groups
            .retain(|owed| published[owed.number].qos < 2 || !groups.contains(&owed.filter));
        for owed in &mut self.owed_to_groups {
            owed.members.remove(&session);
        }
    }

    /// What waits in these groups may wait for somebody who stays away.
    pub(crate) fn void_groups(&mut self, groups: &BTreeSet<String>) {
        self.owed_to_groups.retain(|owed| !groups.contains(&owed.filter));
    }

    /// The delivery that is repeated.
    pub(crate) fn last_delivery(&self, number: Number, session: (usize, u32)) -> Option<usize> {
        self.deliveries.iter().rposition(|it| it.number == number && it.session == session)
    }

    fn is_shared(&self, number: Number) -> bool {
        self.published[number].topic.starts_with("s/")
    }

    /// A message has come that is not the repetition of one with the same packet id.
    pub(crate) fn deliver(&mut self, world: &World, delivery: Delivery, duplicate: bool) {
        let Delivery { session, number, qos, retain, .. } = delivery;
        let published = &self.published[number];
        let what = format!("m{number} to client {} at QoS {qos}", session.0);
        let of_session = |it: &&Delivery| it.number == number && it.session == session;
        let before: Vec<&Delivery> = self.deliveries.iter().filter(of_session).collect();
        match published.will {
            Some(Fate::Never) => panic!("{what}: a will whose client came back in time"),
            Some(Fate::Dropped(at)) if at.epoch == world.epoch() || world.is_durable(at) => {
                panic!("{what}: a will whose client said goodbye");
            }
            _ => {}
        }
        if let Some((_, ends)) = published.ends
            && !duplicate
        {
            assert!(ends > world.began.0, "{what}: it was over before the broker began");
        }
        if !retain && qos > 0 {
            let all = self.deliveries.iter().filter(|it| it.number == number && !it.retain);
            let of_those = |it: &&Delivery| self.is_shared(number) || it.session == session;
            let done = |it: &&Delivery| it.acknowledged.is_some_and(|at| world.is_durable(at));
            let done = all.filter(of_those).filter(done).count();
            let ways = if self.is_shared(number) { self.groups } else { 1 };
            assert!(done < published.sends * ways, "{what}: it was acknowledged");
            let is_known = before.iter().any(|it| !it.retain && world.is_durable(it.sent));
            let is_bound = qos == 1 && published.sends == 1 && !self.is_shared(number);
            assert!(!is_bound || !is_known || duplicate, "{what}: again, and without DUP");
        }
        self.deliveries.push(delivery);
        self.check_order(number, session, qos, retain);
    }

    /// First deliveries of one publisher, topic and QoS come in their order [MQTT-4.6.0-6].
    fn check_order(&self, number: Number, session: (usize, u32), qos: u8, retain: bool) {
        let this = &self.published[number];
        let mine = |it: &&Delivery| it.session == session && !it.retain;
        let count = self.deliveries.iter().filter(mine).filter(|it| it.number == number).count();
        // What was sent again may come late where what was sent first has ended.
        let is_bound =
            this.sends == 1 || this.bound.contains(&session) && this.expiry_secs.is_none();
        if retain || count > 1 || !is_bound || self.is_shared(number) || this.publisher.is_none() {
            return;
        }
        let later = |it: &&Delivery| it.number > number && it.qos == qos;
        for later in self.deliveries.iter().filter(mine).filter(later) {
            let that = &self.published[later.number];
            let is_kin = that.publisher == this.publisher
                && that.topic == this.topic
                && that.qos == this.qos;
            assert!(!is_kin, "m{number} came after m{} to client {}", later.number, session.0);
        }
    }

    /// What is owed has come, and at QoS 2 no more than once.
    pub(crate) fn check(&self, now: u64) {
        for owed in &self.owed {
            let published = &self.published[owed.number];
            if !self.is_due(owed.number, now) {
                continue;
            }
            let is_it = |it: &&Delivery| {
                it.number == owed.number && it.session == owed.session && !it.retain
            };
            let count = self.deliveries.iter().filter(is_it).count();
            assert!(count > 0, "m{} is owed to {:?}: {published:?}", owed.number, owed.session);
        }
        let mut counts: BTreeMap<Number, usize> = BTreeMap::new();
        for owed in self.owed_to_groups.iter().filter(|it| !it.members.is_empty()) {
            *counts.entry(owed.number).or_default() += 1;
        }
        for (number, count) in counts {
            let come = self.deliveries.iter().filter(|it| it.number == number).count();
            let is_due = self.is_due(number, now);
            assert!(!is_due || come >= count, "m{number} is owed to {count} groups, not {come}");
        }
        self.check_once();
    }

    fn is_due(&self, number: Number, now: u64) -> bool {
        let published = &self.published[number];
        let ends =
            published.ends.map(|(first, last)| if published.qos == 2 { first } else { last });
        published.is_acknowledged && ends.is_none_or(|ends| ends > now)
    }

    fn check_once(&self) {
        let mut counts: BTreeMap<(Number, (usize, u32)), usize> = BTreeMap::new();
        for it in self.deliveries.iter().filter(|it| it.qos == 2 && !it.retain) {
            if self.published[it.number].is_doubtful {
                continue;
            }
            *counts.entry((it.number, it.session)).or_default() += 1;
        }
        let mut of_groups: BTreeMap<Number, BTreeMap<usize, usize>> = BTreeMap::new();
        for ((number, session), count) in counts {
            if self.is_shared(number) {
                let of_client = of_groups.entry(number).or_default().entry(session.0).or_default();
                *of_client = count.max(*of_client);
            } else {
                assert!(count == 1, "m{number} came {count} times at QoS 2 to {session:?}");
            }
        }
        for (number, counts) in of_groups {
            let count: usize = counts.values().sum();
            let most = if self.has_passing_members { usize::MAX } else { self.groups };
            assert!(count <= most, "m{number} came {count} times at QoS 2: {counts:?}");
        }
    }
}
