//! What trackers were acknowledged for, against what became of it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;

use super::endpoint::Post;
use super::tracker::Tracker;

/// Streams by name, with what each is linked to.
pub(crate) const STREAMS: [(&str, &[&str]); 3] =
    [("channel", &["channels"]), (DEVICES, &["devices"]), ("both", &["channels", "devices"])];

/// The stream, and the histories, of those who are registered alone.
pub(crate) const DEVICES: &str = "devices";

/// Faults that are told; there may be thousands of a kind.
const TOLD: usize = 20;

/// Whose messages stand there.
#[derive(Clone, Copy)]
pub(crate) enum Stored {
    All,
    Of(usize),
}

/// Each message by its ident and the number that its tracker has given it.
type Said = (String, u64);

pub(crate) struct Book<'a> {
    trackers: &'a [Tracker],
    /// The first so many have no device.
    strangers: usize,
    faults: Vec<String>,
}

fn said(message: &Value) -> Said {
    let number = message["custom.n"].as_u64();
    let ident = message["ident"].as_str().map(str::to_owned);
    ident.zip(number).unwrap_or_else(|| panic!("no message of a tracker: {message}"))
}

/// A message that the hub took: the same one sent anew by its tracker is another.
fn taken(message: &Value) -> (Said, String, bool) {
    let is_device = message.get("device.id").is_some();
    (said(message), message["server.timestamp"].to_string(), is_device)
}

impl<'a> Book<'a> {
    pub(crate) fn new(trackers: &'a [Tracker], strangers: usize) -> Self {
        Self { trackers, strangers, faults: Vec::new() }
    }

    pub(crate) fn faults(self) -> Vec<String> {
        self.faults
    }

    fn blame(&mut self, whom: &str, what: &str, which: &[impl std::fmt::Debug]) {
        if !which.is_empty() {
            let told = &which[..which.len().min(TOLD)];
            self.faults.push(format!("{whom}: {} {what}: {told:?}", which.len()));
        }
    }

    /// Messages that a stream has to send.
    fn owed(&self, stream: &str) -> impl Iterator<Item = Said> {
        let skipped = if stream == DEVICES { self.strangers } else { 0 };
        acknowledged(&self.trackers[skipped..])
    }

    /// How many messages the endpoint has not taken yet.
    pub(crate) fn missing(&self, posts: &[Post]) -> usize {
        let of = |(name, _): &(&str, _)| {
            let got: BTreeSet<_> =
                of_stream(posts, name).map(|(_, message)| said(message)).collect();
            self.owed(name).filter(|it| !got.contains(it)).count()
        };
        STREAMS.iter().map(of).sum()
    }

    /// Streams send the messages of each device in their order (R6.8).
    pub(crate) fn check_order(&mut self, posts: &[Post]) {
        for (name, _) in STREAMS {
            let mut order = BTreeMap::<_, Vec<_>>::new();
            for (_, message) in of_stream(posts, name) {
                order.entry(message["ident"].to_string()).or_default().push(said(message));
            }
            let disorder: Vec<_> = order.into_values().flat_map(out_of_order).collect();
            self.blame(name, "came too late", &disorder);
        }
    }

    /// What streams sent: all of it, and nothing again that they knew to be taken (R6.9 to R6.11).
    pub(crate) fn check_posts(&mut self, posts: &[Post]) {
        // A stream sends the next batch when it has written down that the one before was taken. So
        // what has a request behind it on its connection must not come again.
        let mut last: HashMap<usize, usize> = HashMap::new();
        last.extend(posts.iter().enumerate().map(|(at, post)| (post.connection, at)));
        for (name, _) in STREAMS {
            let (mut first, mut again) = (BTreeMap::new(), Vec::new());
            let (mut got, mut count) = (BTreeSet::new(), 0);
            for (at, message) in of_stream(posts, name) {
                count += 1;
                let before = *first.entry(taken(message)).or_insert(at);
                if before < at && last[&posts[before].connection] != before {
                    again.push((taken(message), before, at));
                }
                got.insert(said(message));
            }
            let lost: Vec<_> = self.owed(name).filter(|it| !got.contains(it)).collect();
            println!("stream {name}: {count} messages sent, {} of them once", got.len());
            self.blame(name, "were lost", &lost);
            self.blame(name, "came again", &again);
        }
    }

    /// What is kept: all of it, each once, in the order of each device.
    pub(crate) fn check_stored(&mut self, by: &str, whose: Stored, kept: &[Value]) {
        let trackers = match whose {
            Stored::All => self.trackers,
            Stored::Of(at) => &self.trackers[at..=at],
        };
        let got: BTreeSet<_> = kept.iter().map(said).collect();
        let lost: Vec<_> = acknowledged(trackers).filter(|it| !got.contains(it)).collect();
        self.blame(by, "were lost", &lost);
        let mut known = BTreeSet::new();
        let again: Vec<_> = kept.iter().map(taken).filter(|it| !known.insert(it.clone())).collect();
        self.blame(by, "are there twice", &again);
        let mut order = BTreeMap::<_, Vec<_>>::new();
        kept.iter().map(said).for_each(|it| order.entry(it.0.clone()).or_default().push(it));
        let strange: Vec<_> = match whose {
            Stored::All => Vec::new(),
            Stored::Of(at) => order.keys().filter(|it| **it != self.trackers[at].ident).collect(),
        };
        self.blame(by, "idents are another's", &strange);
        let disorder: Vec<_> = order.into_values().flat_map(out_of_order).collect();
        self.blame(by, "are too late", &disorder);
    }
}

fn acknowledged(trackers: &[Tracker]) -> impl Iterator<Item = Said> {
    trackers.iter().flat_map(|tracker| {
        let numbers = tracker.acknowledged.iter();
        numbers.map(|number| (tracker.ident.clone(), u64::from(*number)))
    })
}

/// Messages of a stream that were taken, each with the request it was in.
fn of_stream<'p>(posts: &'p [Post], name: &str) -> impl Iterator<Item = (usize, &'p Value)> {
    let path = format!("/{name}");
    let of = posts.iter().enumerate().filter(move |(_, post)| post.path == path);
    of.flat_map(|(at, post)| post.taken.iter().flatten().map(move |message| (at, message)))
}

/// Messages of one device whose first occurrence stands behind that of a later one.
fn out_of_order(messages: Vec<Said>) -> Vec<Said> {
    let (mut known, mut most) = (BTreeSet::new(), None);
    let first = messages.into_iter().filter(|(_, number)| known.insert(*number));
    first
        .filter(|(_, number)| {
            let is_late = most.is_some_and(|most| *number < most);
            most = most.max(Some(*number));
            is_late
        })
        .collect()
}
