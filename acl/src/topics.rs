//! A set of topic filters, compiled: which topics are in it, and how much of a filter is.

use longshore_codec::topic::levels;

/// The first level that belongs to the broker. No wildcard stands for it.
pub(crate) const RESERVED: &str = "flespi";

/// The first level of the counters that a broker shows. Who may read them is said as for any topic.
pub(crate) const COUNTERS: &str = "$SYS";

/// Whether no client publishes to a topic: it is the broker's own, or one of its modules.
pub fn is_reserved(topic: impl AsRef<[u8]>) -> bool {
    let is_first = |level: &str| {
        let rest = topic.as_ref().strip_prefix(level.as_bytes());
        rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'/')))
    };
    is_first(RESERVED) || is_first(COUNTERS)
}

/// Steps of a comparison of two sets of filters, after which it says that it does not know.
const STEPS_MAX: usize = 10_000;

/// A level of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Level {
    /// `+`.
    Any,
    /// `#`.
    Rest,
    /// Any of these texts.
    OneOf(Vec<Box<str>>),
}

/// The levels of a legal filter. One with commas stands for each text between them, and for
/// itself.
pub(crate) fn levels_of(filter: &str) -> impl Iterator<Item = Level> {
    levels(filter).map(|level| match level {
        "+" => Level::Any,
        "#" => Level::Rest,
        _ => Level::OneOf(texts_of(level).map(Box::from).collect()),
    })
}

pub(crate) fn texts_of(level: &str) -> impl Iterator<Item = &str> {
    let members = level.contains(',').then(|| level.split(',')).into_iter().flatten();
    members.chain([level])
}

/// A tree of levels. A node has one parent, though many texts may lead to it, so that a walk
/// visits no node twice.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    /// The root is the first.
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Default)]
struct Node {
    /// By hash, once complete.
    edges: Vec<Edge>,
    /// Where any text leads.
    any: Option<u32>,
    /// A filter ends here.
    ends: bool,
    /// A filter has `#` below here: it takes this level and everything below.
    rest: bool,
    /// One text alone leads here.
    is_alone: bool,
}

#[derive(Debug, Clone)]
struct Edge {
    /// Of the text: a search among numbers touches no text but the one it finds.
    hash: u32,
    to: u32,
    text: Box<str>,
}

impl Topics {
    /// The set of these filters. Wildcards in the first level take neither what begins with `$`
    /// [MQTT-4.7.2-1] nor the reserved level.
    pub(crate) fn of<F>(filters: impl IntoIterator<Item = F>) -> Self
    where
        F: IntoIterator<Item = Level>,
    {
        let mut topics = Self { nodes: vec![Node::default()] };
        for filter in filters {
            topics.insert(filter);
        }
        for node in &mut topics.nodes {
            node.edges.sort_unstable_by_key(|edge| edge.hash);
            node.edges.shrink_to_fit();
        }
        topics.nodes.shrink_to_fit();
        topics
    }

    fn insert(&mut self, filter: impl IntoIterator<Item = Level>) {
        let mut at = 0;
        for level in filter {
            at = match level {
                Level::Rest => {
                    self.nodes[at].rest = true;
                    return;
                }
                Level::Any => match self.nodes[at].any {
                    Some(next) => next as usize,
                    None => {
                        let next = self.grow(false);
                        self.nodes[at].any = Some(next);
                        next as usize
                    }
                },
                Level::OneOf(texts) => self.branch(at, texts),
            };
        }
        self.nodes[at].ends = true;
    }

    /// The node under `at` that exactly these texts lead to.
    fn branch(&mut self, at: usize, mut texts: Vec<Box<str>>) -> usize {
        texts.sort_unstable();
        texts.dedup();
        let is_alone = texts.len() == 1;
        if is_alone {
            let mut edges = self.nodes[at].edges.iter();
            let known =
                |edge: &&Edge| edge.text == texts[0] && self.nodes[edge.to as usize].is_alone;
            if let Some(edge) = edges.find(known) {
                return edge.to as usize;
            }
        }
        let to = self.grow(is_alone);
        let edge = |text: Box<str>| Edge { hash: hash_of(&text), to, text };
        self.nodes[at].edges.extend(texts.into_iter().map(edge));
        to as usize
    }

    fn grow(&mut self, is_alone: bool) -> u32 {
        let next = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        assert!(next < u32::MAX, "an access is bounded in bytes, and so in levels");
        self.nodes.push(Node { is_alone, ..Node::default() });
        next
    }

    /// Whether this topic name is in the set. Allocates nothing.
    pub(crate) fn contains(&self, topic: &str) -> bool {
        let (first, rest) = split(topic);
        let node = &self.nodes[0];
        if !is_shy(first) && (node.rest || self.any_leads(node, rest)) {
            return true;
        }
        self.text_leads(node, first, rest)
    }

    fn is_below(&self, at: u32, topic: Option<&str>) -> bool {
        let node = &self.nodes[at as usize];
        let Some(topic) = topic else { return node.ends || node.rest };
        if node.rest {
            return true;
        }
        let (first, rest) = split(topic);
        self.any_leads(node, rest) || self.text_leads(node, first, rest)
    }

    fn any_leads(&self, node: &Node, rest: Option<&str>) -> bool {
        node.any.is_some_and(|next| self.is_below(next, rest))
    }

    fn text_leads(&self, node: &Node, text: &str, rest: Option<&str>) -> bool {
        node.edges_of(text).any(|edge| self.is_below(edge.to, rest))
    }

    /// Which of the topics that a legal filter matches are in the set.
    pub(crate) fn compare(&self, filter: &str) -> Found {
        let mut walk = Walk { topics: self, found: Found::default(), steps: 0 };
        walk.step(&[0], Some(filter), true);
        walk.found
    }
}

impl Node {
    fn edges_of(&self, text: &str) -> impl Iterator<Item = &Edge> {
        let hash = hash_of(text);
        let start = self.edges.partition_point(|edge| edge.hash < hash);
        let alike = self.edges[start..].iter().take_while(move |edge| edge.hash == hash);
        alike.filter(move |edge| *edge.text == *text)
    }
}

/// FNV-1a. Who makes texts collide slows down the verdicts on nobody but himself.
fn hash_of(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// The first level, and what comes after it.
fn split(topic: &str) -> (&str, Option<&str>) {
    match topic.split_once('/') {
        Some((first, rest)) => (first, Some(rest)),
        None => (topic, None),
    }
}

/// Whether a wildcard in the first level passes this one by.
pub(crate) fn is_shy(first: &str) -> bool {
    first.starts_with('$') || first == RESERVED
}

/// Whether a filter matches topics in a set, and topics that are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Found {
    /// It matches one that is in the set, or may.
    pub(crate) inside: bool,
    /// It matches one that is not, or may.
    pub(crate) outside: bool,
}

/// Goes through the topics of a filter level by level, with all nodes a topic so far leads to.
/// Texts that lead from none of them are all alike, so one stands for all.
struct Walk<'a> {
    topics: &'a Topics,
    found: Found,
    steps: usize,
}

impl<'a> Walk<'a> {
    fn step(&mut self, at: &[u32], filter: Option<&str>, is_first: bool) {
        self.steps += 1;
        if self.steps > STEPS_MAX {
            self.found = Found { inside: true, outside: true };
        }
        if self.found.inside && self.found.outside {
            return;
        }
        let topics = self.topics;
        let nodes = || at.iter().map(|node| &topics.nodes[*node as usize]);
        if at.is_empty() {
            self.found.outside = true;
            return;
        }
        if !is_first && nodes().any(|node| node.rest) {
            self.found.inside = true;
            return;
        }
        let Some(filter) = filter else {
            self.end(nodes().any(|node| node.ends));
            return;
        };
        let (level, rest) = split(filter);
        match level {
            "#" => {
                if !is_first {
                    self.end(nodes().any(|node| node.ends));
                }
                // Whatever the next level is, `#` stands behind it once more.
                self.any(at, Some(filter), is_first);
            }
            "+" => self.any(at, rest, is_first),
            _ => texts_of(level).for_each(|text| self.take(at, Some(text), rest, is_first)),
        }
    }

    fn end(&mut self, is_inside: bool) {
        self.found.inside |= is_inside;
        self.found.outside |= !is_inside;
    }

    /// Every text that a wildcard stands for.
    fn any(&mut self, at: &[u32], rest: Option<&str>, is_first: bool) {
        let topics = self.topics;
        let edges = at.iter().flat_map(|node| &topics.nodes[*node as usize].edges);
        let mut texts: Vec<&str> = edges.map(|edge| &*edge.text).collect();
        if is_first {
            texts.retain(|text| !text.starts_with('$'));
            texts.push(RESERVED);
        }
        texts.sort_unstable();
        texts.dedup();
        self.take(at, None, rest, is_first);
        for text in texts {
            self.take(at, Some(text), rest, is_first);
        }
    }

    /// One text, or none that leads from here by itself.
    fn take(&mut self, at: &[u32], text: Option<&str>, rest: Option<&str>, is_first: bool) {
        let takes_any = !(is_first && text.is_some_and(is_shy));
        let topics = self.topics;
        let nodes = || at.iter().map(|node| &topics.nodes[*node as usize]);
        if is_first && takes_any && nodes().any(|node| node.rest) {
            self.found.inside = true;
            return;
        }
        let mut next: Vec<u32> = Vec::new();
        for node in nodes() {
            next.extend(node.any.filter(|_| takes_any));
            next.extend(text.into_iter().flat_map(|text| node.edges_of(text)).map(|edge| edge.to));
        }
        self.step(&next, rest, false);
    }
}
