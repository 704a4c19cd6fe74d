//! Which subscriptions a topic name reaches: a trie over the levels of all topic filters.

use std::num::NonZeroU32;
use std::sync::Arc;

use hashbrown::HashMap;
use longshore_acl::ANONYMOUS_CLASS;
use longshore_codec::QoS;

use crate::condition::Condition;
use crate::session::SessionId;
use crate::share::Group;

/// What one session asked of one topic filter, as far as delivery needs it.
#[derive(Clone, Debug)]
pub(crate) struct Subscriber {
    /// The session that gets the messages.
    pub(crate) session: SessionId,
    /// Its number in the journal, or 0.
    pub(crate) holder: u64,
    /// The highest QoS it gets them at.
    pub(crate) qos: QoS,
    /// Whether it is spared what it published itself.
    pub(crate) no_local: bool,
    /// Whether RETAIN stays as published.
    pub(crate) retain_as_published: bool,
    /// Its Subscription Identifier.
    pub(crate) identifier: Option<NonZeroU32>,
    /// What it may read.
    pub(crate) class: u32,
    /// The only account whose messages it gets; 0 for all.
    pub(crate) only: u64,
    /// What it asks of messages beyond their topic.
    pub(crate) condition: Option<Arc<Condition>>,
}

/// Which subscription of a topic filter: a session may have one for each condition, and one
/// without. All who ask the same share one condition (`Commons::take_apart`), so where it is in
/// memory tells it from others; 0 for none.
type Asker = (SessionId, usize);

impl Subscriber {
    fn asker(&self) -> Asker {
        (self.session, place_of(self.condition.as_ref()))
    }
}

fn place_of(condition: Option<&Arc<Condition>>) -> usize {
    condition.map_or(0, |condition| Arc::as_ptr(condition).addr())
}

/// What a topic name reaches.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    /// Subscriptions, several of one session where its filters overlap.
    pub(crate) subscribers: Vec<Subscriber>,
    /// Shared groups.
    pub(crate) groups: Vec<Arc<Group>>,
    /// Places yet to visit: a node, and where the rest of the topic name starts.
    pending: Vec<(NodeId, Option<usize>)>,
    /// Places visited: what the search has cost.
    visited: usize,
}

impl Matches {
    /// Forgets everything but its memory.
    pub(crate) fn clear(&mut self) {
        self.subscribers.clear();
        self.groups.clear();
        self.visited = 0;
    }

    /// What it took to find this, and takes to deliver it, in steps of some tens of nanoseconds.
    pub(crate) fn work(&self) -> usize {
        self.visited + self.subscribers.len() + self.groups.len()
    }
}

type NodeId = u32;
const ROOT: NodeId = 0;
/// The root is nobody's child, so its number says "none".
const NO_NODE: NodeId = ROOT;

/// All subscriptions. A filter's levels lead from the root to a node; `+` has an edge of its own,
/// and a final `#` is kept at the node before it, because `a/#` also matches `a`. A selector, a
/// level with `,`, leads to one node, whose parent finds it by each of its members, too.
///
/// Filters are taken as they are: whoever calls has parsed them.
#[derive(Debug)]
pub(crate) struct Index {
    nodes: Vec<Node>,
    free: Vec<NodeId>,
    /// Whether a level with `,` is a selector.
    selectors: bool,
}

#[derive(Debug, Default)]
struct Node {
    children: Children,
    plus: NodeId,
    /// Filters that end here, and filters that end here in `#`.
    exact: Here,
    deep: Here,
}

impl Node {
    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.plus == NO_NODE
            && matches!((&self.exact, &self.deep), (Here::None, Here::None))
    }
}

/// Who subscribed at one place. Most places have nobody, and few have more than one: a node is one
/// line of the cache.
#[derive(Debug, Default)]
enum Here {
    #[default]
    None,
    One(Box<Subscriber>),
    Many(Box<List>),
}

#[derive(Debug, Default)]
struct List {
    subscribers: Vec<Subscriber>,
    /// Where each stands in `subscribers`, once looking through them would take long.
    places: HashMap<Asker, u32>,
    groups: Vec<Arc<Group>>,
}

const LIST_SCAN_MAX: usize = 16;

impl List {
    fn place(&self, asker: Asker) -> Option<usize> {
        if self.places.is_empty() {
            return self.subscribers.iter().position(|known| known.asker() == asker);
        }
        self.places.get(&asker).map(|place| *place as usize)
    }

    fn set(&mut self, subscriber: Subscriber) {
        let asker = subscriber.asker();
        if let Some(place) = self.place(asker) {
            self.subscribers[place] = subscriber;
            return;
        }
        self.subscribers.push(subscriber);
        if !self.places.is_empty() {
            self.places.insert(asker, self.subscribers.len() as u32 - 1);
        } else if self.subscribers.len() > LIST_SCAN_MAX {
            let numbered = self.subscribers.iter().zip(0..);
            self.places = numbered.map(|(known, place)| (known.asker(), place)).collect();
        }
    }

    fn remove(&mut self, asker: Asker) {
        let Some(place) = self.place(asker) else { return };
        self.subscribers.swap_remove(place);
        if self.places.remove(&asker).is_some()
            && let Some(moved) = self.subscribers.get(place)
        {
            self.places.insert(moved.asker(), place as u32);
        }
    }
}

impl Here {
    fn list(&mut self) -> &mut List {
        match self {
            Self::Many(list) => list,
            Self::None | Self::One(_) => {
                let mut list = Box::<List>::default();
                if let Self::One(subscriber) = std::mem::take(self) {
                    list.set(*subscriber);
                }
                *self = Self::Many(list);
                let Self::Many(list) = self else { unreachable!("it was set above") };
                list
            }
        }
    }

    fn set(&mut self, subscriber: Subscriber) {
        match self {
            Self::None => *self = Self::One(Box::new(subscriber)),
            Self::One(known) if known.asker() == subscriber.asker() => **known = subscriber,
            _ => self.list().set(subscriber),
        }
    }

    fn remove(&mut self, asker: Asker) {
        match self {
            Self::One(known) if known.asker() == asker => *self = Self::None,
            Self::Many(list) => list.remove(asker),
            Self::None | Self::One(_) => {}
        }
        self.shrink();
    }

    fn shrink(&mut self) {
        if let Self::Many(list) = self
            && list.groups.is_empty()
            && list.subscribers.is_empty()
        {
            *self = Self::None;
        }
    }

    fn collect(&self, found: &mut Matches) {
        match self {
            Self::None => {}
            Self::One(subscriber) => found.subscribers.push(Subscriber::clone(subscriber)),
            Self::Many(list) => {
                found.subscribers.extend_from_slice(&list.subscribers);
                found.groups.extend(list.groups.iter().cloned());
            }
        }
    }
}

/// Edges by level. Most nodes have one child, and then need no table.
#[derive(Debug, Default)]
enum Children {
    #[default]
    None,
    One(Box<[u8]>, NodeId),
    Many(Box<Edges>),
}

#[derive(Debug, Default)]
struct Edges {
    by_level: HashMap<Box<[u8]>, NodeId>,
    /// Where selectors lead, by member. They are edges by their whole text, too.
    by_member: HashMap<Box<[u8]>, Vec<NodeId>>,
}

impl Edges {
    fn select(&mut self, selector: &[u8], node: NodeId) {
        for member in members(selector) {
            match self.by_member.get_mut(member) {
                // Here already if the selector names it twice.
                Some(nodes) if nodes.last() == Some(&node) => {}
                Some(nodes) => nodes.push(node),
                None => drop(self.by_member.insert(member.into(), vec![node])),
            }
        }
    }

    fn deselect(&mut self, selector: &[u8], node: NodeId) {
        for member in members(selector) {
            let Some(nodes) = self.by_member.get_mut(member) else { continue };
            if let Some(place) = nodes.iter().position(|known| *known == node) {
                nodes.swap_remove(place);
            }
            if nodes.is_empty() {
                self.by_member.remove(member);
            }
        }
        if self.by_member.is_empty() {
            self.by_member = HashMap::new();
        }
    }
}

fn members(selector: &[u8]) -> impl Iterator<Item = &[u8]> {
    selector.split(|byte| *byte == b',')
}

impl Children {
    fn is_empty(&self) -> bool {
        match self {
            Self::None => true,
            Self::One(..) => false,
            Self::Many(edges) => edges.by_level.is_empty(),
        }
    }

    fn get(&self, level: &[u8]) -> Option<NodeId> {
        match self {
            Self::None => None,
            Self::One(name, node) => (**name == *level).then_some(*node),
            Self::Many(edges) => edges.by_level.get(level).copied(),
        }
    }

    /// Where selectors lead that list this level.
    fn selected(&self, level: &[u8]) -> &[NodeId] {
        match self {
            Self::Many(edges) if !edges.by_member.is_empty() => {
                edges.by_member.get(level).map_or(&[], |nodes| nodes)
            }
            _ => &[],
        }
    }

    /// The edges as a table, made if there is none.
    fn edges(&mut self) -> &mut Edges {
        if !matches!(self, Self::Many(_)) {
            let mut edges = Box::<Edges>::default();
            if let Self::One(name, node) = std::mem::take(self) {
                edges.by_level.insert(name, node);
            }
            *self = Self::Many(edges);
        }
        let Self::Many(edges) = self else { unreachable!("it was set above") };
        edges
    }

    fn insert(&mut self, level: &[u8], node: NodeId, is_selector: bool) {
        if matches!(self, Self::None) && !is_selector {
            *self = Self::One(level.into(), node);
            return;
        }
        let edges = self.edges();
        edges.by_level.insert(level.into(), node);
        if is_selector {
            edges.select(level, node);
        }
    }

    fn remove(&mut self, level: &[u8], is_selector: bool) {
        match self {
            Self::None => {}
            Self::One(..) => *self = Self::None,
            Self::Many(edges) => {
                if let Some(node) = edges.by_level.remove(level)
                    && is_selector
                {
                    edges.deselect(level, node);
                }
                if edges.by_level.is_empty() {
                    *self = Self::None;
                }
            }
        }
    }
}

/// A filter split into the levels that lead to its node, and whether a `#` ends it.
fn path(filter: &str) -> (Option<&str>, bool) {
    match filter {
        "#" => (None, true),
        _ => filter.strip_suffix("/#").map_or((Some(filter), false), |path| (Some(path), true)),
    }
}

impl Default for Index {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new(), selectors: true }
    }
}

impl Index {
    /// Whether nobody subscribes to anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.nodes[ROOT as usize].is_empty()
    }

    /// Nodes in use, the measure of the trie's memory.
    #[cfg(test)]
    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Sets whether a level with `,` is a selector, before there is any.
    pub(crate) fn set_selectors(&mut self, selectors: bool) {
        debug_assert!(self.nodes.len() == 1 || self.selectors == selectors, "there is none yet");
        self.selectors = selectors;
    }

    fn is_selector(&self, level: &str) -> bool {
        self.selectors && memchr::memchr(b',', level.as_bytes()).is_some()
    }

    /// Adds a subscription, or replaces the one of the same session and filter.
    pub(crate) fn subscribe(&mut self, filter: &str, subscriber: Subscriber) {
        self.here(filter).set(subscriber);
    }

    /// Removes the session's subscription with this condition, if there is one.
    pub(crate) fn unsubscribe(
        &mut self,
        filter: &str,
        session: SessionId,
        condition: Option<&Arc<Condition>>,
    ) {
        let asker = (session, place_of(condition));
        self.remove(filter, |here| here.remove(asker));
    }

    /// Adds a shared group under the filter inside its `$share`.
    pub(crate) fn add_group(&mut self, filter: &str, group: Arc<Group>) {
        self.here(filter).list().groups.push(group);
    }

    /// Removes a shared group.
    pub(crate) fn remove_group(&mut self, filter: &str, group: &Arc<Group>) {
        self.remove(filter, |here| {
            if let Here::Many(list) = here {
                list.groups.retain(|known| !Arc::ptr_eq(known, group));
            }
            here.shrink();
        });
    }

    /// The place of `filter`, made where it is missing.
    fn here(&mut self, filter: &str) -> &mut Here {
        let (path, deep) = path(filter);
        let mut at = ROOT;
        for level in path.into_iter().flat_map(|path| path.split('/')) {
            let next = self.step(at, level);
            at = next.unwrap_or_else(|| self.grow(at, level));
        }
        let node = &mut self.nodes[at as usize];
        if deep { &mut node.deep } else { &mut node.exact }
    }

    fn step(&self, at: NodeId, level: &str) -> Option<NodeId> {
        let node = &self.nodes[at as usize];
        if level == "+" {
            return Some(node.plus).filter(|plus| *plus != NO_NODE);
        }
        node.children.get(level.as_bytes())
    }

    fn grow(&mut self, at: NodeId, level: &str) -> NodeId {
        let new = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(Node::default());
            NodeId::try_from(self.nodes.len() - 1).expect("fewer than 2^32 nodes fit in memory")
        });
        let is_selector = self.is_selector(level);
        let node = &mut self.nodes[at as usize];
        if level == "+" {
            node.plus = new;
        } else {
            node.children.insert(level.as_bytes(), new, is_selector);
        }
        new
    }

    /// Applies `take` to the place of `filter`, then removes the nodes that hold nothing any more.
    fn remove(&mut self, filter: &str, take: impl FnOnce(&mut Here)) {
        let (path, deep) = path(filter);
        let levels = || path.into_iter().flat_map(|path| path.split('/'));
        let mut way = vec![ROOT];
        for level in levels() {
            let Some(next) = self.step(way[way.len() - 1], level) else { return };
            way.push(next);
        }
        let node = &mut self.nodes[way[way.len() - 1] as usize];
        take(if deep { &mut node.deep } else { &mut node.exact });
        let backwards: Vec<&str> = levels().collect();
        for (depth, level) in backwards.iter().enumerate().rev() {
            let child = way[depth + 1];
            if !self.nodes[child as usize].is_empty() {
                return;
            }
            self.nodes[child as usize] = Node::default();
            self.free.push(child);
            let is_selector = self.is_selector(level);
            let parent = &mut self.nodes[way[depth] as usize];
            if *level == "+" {
                parent.plus = NO_NODE;
            } else {
                parent.children.remove(level.as_bytes(), is_selector);
            }
        }
    }

    /// Adds to `found` what `topic`, a valid topic name, reaches.
    pub(crate) fn matches(&self, topic: &[u8], found: &mut Matches) {
        // [MQTT-4.7.2-1]: no wildcard at the front matches a topic that starts with `$`.
        self.search(topic, topic.first() == Some(&b'$'), found);
    }

    /// The same for a topic of the broker's own: who has no token gets it only by its first level.
    pub(crate) fn reserved_matches(&self, topic: &[u8], found: &mut Matches) {
        self.search(topic, true, found);
        let root = &self.nodes[ROOT as usize];
        if root.plus == NO_NODE && matches!(root.deep, Here::None) {
            return;
        }
        let mut named = std::mem::take(&mut found.subscribers);
        root.deep.collect(found);
        if root.plus != NO_NODE {
            let slash = memchr::memchr(b'/', topic);
            found.pending.push((root.plus, slash.map(|slash| slash + 1)));
            self.visit_pending(topic, false, found);
        }
        found.subscribers.retain(|subscriber| subscriber.class != ANONYMOUS_CLASS);
        found.subscribers.append(&mut named);
    }

    fn search(&self, topic: &[u8], hidden: bool, found: &mut Matches) {
        found.pending.push((ROOT, Some(0)));
        self.visit_pending(topic, hidden, found);
    }

    fn visit_pending(&self, topic: &[u8], hidden: bool, found: &mut Matches) {
        while let Some((at, rest)) = found.pending.pop() {
            found.visited += 1;
            let node = &self.nodes[at as usize];
            let wild = !(hidden && at == ROOT);
            if wild {
                node.deep.collect(found);
            }
            let Some(start) = rest else {
                node.exact.collect(found);
                continue;
            };
            let slash = memchr::memchr(b'/', &topic[start..]).map(|length| start + length);
            let level = &topic[start..slash.unwrap_or(topic.len())];
            let rest = slash.map(|slash| slash + 1);
            if wild && node.plus != NO_NODE {
                found.pending.push((node.plus, rest));
            }
            if let Some(child) = node.children.get(level) {
                found.pending.push((child, rest));
            }
            let selected = node.children.selected(level).iter();
            found.pending.extend(selected.map(|node| (*node, rest)));
        }
    }
}

#[cfg(test)]
mod tests;
