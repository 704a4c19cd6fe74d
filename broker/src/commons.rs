//! What the shards of one broker hold in common: who is where, who subscribed to what, what is
//! retained.
//!
//! Nothing of it is touched per message but the index's epoch, which is read, the retained part of
//! a topic that is set, and the turns of a shared group. All else is used at the rate of CONNECT
//! and SUBSCRIBE.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};

use dashmap::{DashMap, Entry};
use hashbrown::HashMap;
use longshore_acl::{Action, Rights};
use longshore_codec::Sticky;

use crate::called::TakeCalls;
use crate::condition::{self, Asked, Condition};
use crate::dialect::Dialect;
use crate::inboxes::FullInboxes;
use crate::index::{Index, Matches, Subscriber};
use crate::limits::{Limits, Refused};
use crate::notices::Notices;
use crate::parties::{Classes, Party, Tree, is_reserved};
use crate::record::GROUP_BIT;
use crate::retained;
use crate::session::{Owner, Pending, SessionId};
use crate::share::{Charter, Group, Member, Noted};
use crate::slots::SHARDS_MAX;
use crate::tally::{Bounds, Tallies};

/// See the module.
#[derive(Debug)]
pub(crate) struct Commons {
    /// Every session there is. Its key says on which shard it lives.
    pub(crate) roster: DashMap<Owner, SessionId>,
    /// How many those are, for counting a roster takes long.
    pub(crate) sessions: AtomicUsize,
    pub(crate) retained: retained::Accounts,
    pub(crate) tallies: Arc<Tallies>,
    pub(crate) classes: Classes,
    pub(crate) full_inboxes: FullInboxes,
    /// How many clients of each class are there.
    there: DashMap<u32, usize>,
    namespaces: RwLock<Namespaces>,
    epoch: AtomicU64,
    /// By account and `$share/name/filter`.
    groups: DashMap<(u64, Box<str>), Arc<Group>>,
    /// How topic filters are understood.
    dialect: OnceLock<Dialect>,
    /// Conditions of topic filters, by their text.
    conditions: DashMap<Box<str>, Weak<Condition>>,
    /// How many there were when those were last forgotten that nobody asks any more.
    conditions_kept: AtomicUsize,
    /// The last number given to a session or group of the journal.
    holders: AtomicU64,
    base: AtomicU32,
    /// The last batch that each shard has appended to the journal.
    appended: [AtomicU64; SHARDS_MAX],
    /// Where notices for the logs of accounts go, if anybody keeps those.
    notices: OnceLock<Arc<Notices>>,
    /// The shard of modules, if they have one of their own.
    hub: OnceLock<usize>,
    /// Who answers calls of REST that come as messages, if anybody does.
    calls: OnceLock<Arc<dyn TakeCalls>>,
    connections: AtomicUsize,
    /// Connections by [`network`].
    addresses: DashMap<IpAddr, usize>,
}

/// Conditions at least, before it is looked for those that nobody asks any more.
const CONDITIONS_MIN: usize = 1_024;

/// Who subscribed to what, by account: topics of one are not those of another.
#[derive(Debug, Default)]
struct Namespaces {
    indexes: HashMap<u64, Index>,
    /// Whether the dialect has selectors; unless told otherwise it does.
    has_selectors: Option<bool>,
    tree: Tree,
}

/// What an address is counted as: of IPv6 its network, for every machine has a network of 64 bits
/// to choose its addresses from.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
        ip => ip,
    }
}

impl Commons {
    pub(crate) fn new(shards: usize) -> Self {
        let tallies = Arc::<Tallies>::default();
        Self {
            roster: DashMap::new(),
            sessions: AtomicUsize::new(0),
            retained: retained::Accounts::new(shards, Arc::clone(&tallies)),
            tallies,
            classes: Classes::default(),
            full_inboxes: FullInboxes::default(),
            there: DashMap::new(),
            namespaces: RwLock::default(),
            epoch: AtomicU64::new(0),
            groups: DashMap::new(),
            dialect: OnceLock::new(),
            conditions: DashMap::new(),
            conditions_kept: AtomicUsize::new(0),
            holders: AtomicU64::new(0),
            base: AtomicU32::new(0),
            appended: [const { AtomicU64::new(0) }; SHARDS_MAX],
            notices: OnceLock::new(),
            hub: OnceLock::new(),
            calls: OnceLock::new(),
            connections: AtomicUsize::new(0),
            addresses: DashMap::new(),
        }
    }

    /// How topic filters are understood, told by every shard before anybody subscribes.
    pub(crate) fn set_dialect(&self, dialect: Dialect) {
        let dialect = *self.dialect.get_or_init(|| dialect);
        let mut namespaces = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
        namespaces.has_selectors = Some(dialect.selectors);
    }

    /// This shard, the last, is that of modules.
    pub(crate) fn set_hub(&self, shard: usize) {
        let set = self.hub.set(shard);
        assert!(set.is_ok(), "a broker has one shard of modules");
    }

    /// The shard that has the clients of modules, and publishes what they retain.
    pub(crate) fn hub(&self) -> Option<usize> {
        self.hub.get().copied()
    }

    fn dialect(&self) -> Dialect {
        self.dialect.get().copied().unwrap_or_default()
    }

    /// Takes a topic filter apart; what is wrong with it otherwise.
    pub(crate) fn take_apart<'a>(&self, filter: &'a str) -> Result<Asked<'a>, &'static str> {
        let (share, text, inner) = condition::split(filter, self.dialect().filters)?;
        let condition = text.map(|text| self.condition(text)).transpose()?;
        Ok(Asked { share, condition, inner })
    }

    /// The condition of this text: one for all who ask the same.
    fn condition(&self, text: &str) -> Result<Arc<Condition>, &'static str> {
        if let Some(known) = self.conditions.get(text).and_then(|known| known.upgrade()) {
            return Ok(known);
        }
        let condition = Arc::new(Condition::parse(text)?);
        if self.conditions.len() > 2 * self.conditions_kept.load(Ordering::Relaxed) + CONDITIONS_MIN
        {
            self.conditions.retain(|_, known| known.strong_count() > 0);
            self.conditions_kept.store(self.conditions.len(), Ordering::Relaxed);
        }
        match self.conditions.entry(text.into()) {
            // Another shard may have been first.
            Entry::Occupied(mut entry) => Ok(entry.get().upgrade().unwrap_or_else(|| {
                entry.insert(Arc::downgrade(&condition));
                condition
            })),
            Entry::Vacant(entry) => {
                entry.insert(Arc::downgrade(&condition));
                Ok(condition)
            }
        }
    }

    fn new_group(&self, account: u64, name: &str, asked: &Asked<'_>, holder: u64) -> Arc<Group> {
        let share = asked.share.filter(|_| self.dialect().sticky_groups);
        let sticky = share.and_then(Sticky::of);
        let (inner, condition) = (asked.inner.into(), asked.condition.clone());
        let charter = Charter { inner, sticky, condition };
        Arc::new(Group::new(name, (account, &self.tallies), holder, charter))
    }

    /// A number for a session that the journal is to know.
    pub(crate) fn next_holder(&self) -> u64 {
        self.holders.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The last number given to a session or group.
    pub(crate) fn last_holder(&self) -> u64 {
        self.holders.load(Ordering::Relaxed)
    }

    /// Numbers up to `last` were given away before this process began.
    pub(crate) fn restore_holders(&self, last: u64) {
        self.holders.fetch_max(last, Ordering::Relaxed);
    }

    /// Takes back a group with what waits in it; its members are to follow.
    pub(crate) fn restore_group(
        &self,
        account: u64,
        name: &str,
        holder: u64,
        waiting: impl Iterator<Item = Pending>,
    ) -> Option<Arc<Group>> {
        let asked = self.take_apart(name).ok().filter(|asked| asked.share.is_some())?;
        let group = self.new_group(account, name, &asked, holder);
        for pending in waiting {
            group.lock().keep(pending, Noted::default());
        }
        self.change(account, |index| index.add_group(asked.inner, Arc::clone(&group)));
        self.groups.insert((account, name.into()), Arc::clone(&group));
        Some(group)
    }

    /// A round of compaction begins: what stands before this segment is written down anew.
    pub(crate) fn set_base(&self, base: u32) {
        self.base.fetch_max(base, Ordering::SeqCst);
    }

    /// Where the last round of compaction has begun; 0 before the first.
    pub(crate) fn base(&self) -> u32 {
        self.base.load(Ordering::SeqCst)
    }

    /// All groups there are.
    pub(crate) fn all_groups(&self) -> Vec<Arc<Group>> {
        self.groups.iter().map(|group| Arc::clone(&group)).collect()
    }

    /// The shard has appended everything up to this batch, or never will.
    pub(crate) fn set_appended(&self, shard: usize, batch: u64) {
        self.appended[shard].store(batch, Ordering::Release);
    }

    /// Whether the journal has been told.
    pub(crate) fn is_appended(&self, noted: Noted) -> bool {
        self.appended[noted.shard].load(Ordering::Acquire) >= noted.batch
    }

    /// Somebody answers calls of REST that come as messages.
    pub(crate) fn set_calls(&self, calls: Arc<dyn TakeCalls>) {
        let set = self.calls.set(calls);
        assert!(set.is_ok(), "one answers the calls of a broker");
    }

    /// Who answers calls of REST that come as messages, if anybody does.
    pub(crate) fn calls(&self) -> Option<&dyn TakeCalls> {
        self.calls.get().map(|calls| &**calls)
    }

    /// Somebody keeps the logs of accounts.
    pub(crate) fn set_notices(&self, notices: Arc<Notices>) {
        let set = self.notices.set(notices);
        assert!(set.is_ok(), "one keeps the logs of a broker");
    }

    /// Where notices for the logs of accounts go, if anybody keeps those.
    pub(crate) fn notices(&self) -> Option<&Notices> {
        self.notices.get().map(|notices| &**notices)
    }

    /// Connections open, those that have not sent CONNECT yet included.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a new connection, unless a limit forbids it.
    pub(crate) fn enter(&self, address: IpAddr, limits: &Limits) -> Result<(), Refused> {
        let open = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        let of_address = {
            let mut count = self.addresses.entry(network(address)).or_insert(0);
            *count += 1;
            *count
        };
        let refused = if open > limits.connections {
            Refused::Connections
        } else if of_address > limits.connections_per_address {
            Refused::ConnectionsPerAddress
        } else {
            return Ok(());
        };
        self.leave(address);
        Err(refused)
    }

    /// Counts a connection out.
    pub(crate) fn leave(&self, address: IpAddr) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        if let Entry::Occupied(mut count) = self.addresses.entry(network(address)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// A client of this class is there.
    pub(crate) fn arrive(&self, class: u32) {
        *self.there.entry(class).or_insert(0) += 1;
    }

    /// It is gone.
    pub(crate) fn depart(&self, class: u32) {
        if let Entry::Occupied(mut count) = self.there.entry(class) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }

    /// Whether any client of this class is there.
    pub(crate) fn is_there(&self, class: u32) -> bool {
        self.there.contains_key(&class)
    }

    /// Changes whenever the answer to any [`Commons::matches`] may have changed: what was matched
    /// at an older epoch may be out of date.
    #[inline]
    pub(crate) fn epoch(&self) -> u64 {
        // In one order with the numbers of retained messages: whoever subscribes and then reads
        // them gets each of these from the read or from its publisher.
        self.epoch.load(Ordering::SeqCst)
    }

    /// What a topic name of these publishers reaches: in their account, and in those above it.
    pub(crate) fn matches(&self, from: Party, topic: &str, found: &mut Matches) {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        for account in namespaces.tree.upwards(from.account) {
            if let Some(index) = namespaces.indexes.get(&account) {
                // A `$` at the front hides a topic from wildcards as it is.
                match is_reserved(topic) && !topic.starts_with('$') {
                    true => index.reserved_matches(topic.as_bytes(), found),
                    false => index.matches(topic.as_bytes(), found),
                }
            }
        }
        drop(namespaces);
        let mut last = None;
        found.subscribers.retain(|subscriber| {
            let class = subscriber.class;
            let allows = match last {
                Some((known, allows)) if known == class => allows,
                _ => self.classes.allows(class, Action::Subscribe, topic),
            };
            last = Some((class, allows));
            allows && (subscriber.only == 0 || subscriber.only == from.account)
        });
    }

    /// Whether an account is `of` or stands somewhere below it.
    pub(crate) fn is_in_branch(&self, of: u64, account: u64) -> bool {
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        namespaces.tree.is_in(of, account)
    }

    /// Clients of this class may do this from now on: when this returns, every shard acts by it.
    pub(crate) fn set_rights(&self, class: u32, rights: Arc<Rights>) {
        self.classes.set(class, rights);
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// The account stands below that one from now on.
    pub(crate) fn set_parent(&self, account: u64, parent: Option<u64>) {
        self.tallies.set_parent(account, parent);
        let mut namespaces = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
        namespaces.tree.set_parent(account, parent);
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// What the account may use from now on: when this returns, every shard acts by it.
    pub(crate) fn set_bounds(&self, account: u64, bounds: Bounds) {
        self.tallies.set_bounds(account, bounds);
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Begins a read of what is retained in the account and in those below it, if anything is.
    /// With `only` another account than 0, in that one alone.
    pub(crate) fn read_retained(
        &self,
        account: u64,
        only: u64,
        filter: &str,
        selectors: bool,
    ) -> Option<retained::Read> {
        if self.retained.is_empty() {
            return None;
        }
        let namespaces = self.namespaces.read().unwrap_or_else(PoisonError::into_inner);
        let mut accounts = self.retained.holders();
        accounts.retain(|holder| {
            (only == 0 || only == *holder) && namespaces.tree.is_in(account, *holder)
        });
        self.retained.read(&accounts, filter, selectors)
    }

    /// Changes what is subscribed to in an account. When this returns, every shard routes by the
    /// new state.
    fn change(&self, account: u64, change: impl FnOnce(&mut Index)) {
        let mut namespaces = self.namespaces.write().unwrap_or_else(PoisonError::into_inner);
        let has_selectors = namespaces.has_selectors.unwrap_or(true);
        let new = || {
            let mut index = Index::default();
            index.set_selectors(has_selectors);
            index
        };
        let index = namespaces.indexes.entry(account).or_insert_with(new);
        change(index);
        if index.is_empty() {
            namespaces.indexes.remove(&account);
        }
        self.epoch.fetch_add(1, Ordering::SeqCst);
    }

    /// Adds a subscription, or replaces the one of the same session and filter.
    pub(crate) fn subscribe(&self, account: u64, filter: &str, subscriber: Subscriber) {
        self.change(account, |index| index.subscribe(filter, subscriber));
    }

    /// Removes the session's subscription, if there is one.
    pub(crate) fn unsubscribe(&self, account: u64, asked: &Asked<'_>, session: SessionId) {
        let condition = asked.condition.as_ref();
        self.change(account, |index| index.unsubscribe(asked.inner, session, condition));
    }

    /// Makes the session a member of the group `name`, which begins with its first member.
    pub(crate) fn join(
        &self,
        account: u64,
        name: &str,
        asked: &Asked<'_>,
        member: Member,
    ) -> Arc<Group> {
        let entry = self.groups.entry((account, name.into())).or_insert_with(|| {
            let group = self.new_group(account, name, asked, self.next_holder() | GROUP_BIT);
            self.change(account, |index| index.add_group(asked.inner, Arc::clone(&group)));
            group
        });
        entry.lock().join(member);
        Arc::clone(&entry)
    }

    /// Takes the session out of the group `name`, which ends with its last member; the number of
    /// messages that nobody will get then.
    pub(crate) fn part(&self, account: u64, name: &str, session: SessionId) -> u64 {
        let key = (account, name.into());
        let Entry::Occupied(entry) = self.groups.entry(key) else { return 0 };
        let Some(lost) = entry.get().lock().leave(session) else { return 0 };
        let group = entry.remove();
        self.change(account, |index| index.remove_group(&group.charter.inner, &group));
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let limits = Limits { connections_per_address: 1, ..Limits::default() };
        let commons = Commons::new(1);
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert_eq!(commons.enter(ip("2001:db8::1"), &limits), Ok(()));
        let refused = Err(Refused::ConnectionsPerAddress);
        assert_eq!(commons.enter(ip("2001:db8::ffff:2"), &limits), refused);
        assert_eq!(commons.enter(ip("2001:db8:0:1::1"), &limits), Ok(()));
        assert_eq!(commons.enter(ip("192.0.2.1"), &limits), Ok(()));
        assert_eq!(commons.enter(ip("::ffff:192.0.2.1"), &limits), refused);
        assert_eq!(commons.enter(ip("192.0.2.2"), &limits), Ok(()));
        commons.leave(ip("2001:db8::2"));
        assert_eq!(commons.enter(ip("2001:db8::3"), &limits), Ok(()));
        assert_eq!(commons.connections(), 4);
    }
}
