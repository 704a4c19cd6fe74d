//! Deletions by topic filter that a replay has seen, however many: which of them cover a topic.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use longshore_acl::TopicFilters;

use super::{Extent, Pattern};
use crate::parties::is_reserved;

/// Topic filters with the number of the last deletion by each.
///
/// Filters of one shape are found together, by what a topic looks like with the wildcards in it:
/// there are thousands of `device/17/#`, and few shapes.
#[derive(Debug, Default)]
pub(super) struct Covers {
    shapes: HashMap<Shape, HashMap<Box<str>, Numbers>>,
    /// Those with selectors, each of which is asked.
    selecting: HashMap<Box<str>, Vec<(Arc<Pattern>, u64)>>,
    /// What limits them, for many have the same limits.
    extents: HashSet<Arc<TopicFilters>>,
    /// The largest number.
    up_to: u64,
}

/// The last deletion by one filter for each extent: one, or few.
type Numbers = Vec<(Extent, u64)>;

/// Where a filter has its wildcards.
#[derive(Debug, Default, PartialEq, Eq, Hash)]
struct Shape {
    /// For each level, whether it is `+`.
    is_any: Vec<bool>,
    /// Whether `#` follows.
    is_open: bool,
}

impl Covers {
    pub(super) fn add(&mut self, pattern: &Arc<Pattern>, sequence: u64) {
        self.up_to = self.up_to.max(sequence);
        let filter = pattern.text();
        if pattern.selects() {
            let of_filter = self.selecting.entry_ref(filter).or_default();
            let mut all = of_filter.iter_mut();
            match all.find(|(known, _)| known.extent() == pattern.extent()) {
                Some((_, last)) => *last = sequence.max(*last),
                None => of_filter.push((Arc::clone(pattern), sequence)),
            }
            return;
        }
        let (mut shape, mut key) = (Shape::default(), String::with_capacity(filter.len() + 1));
        for level in filter.split('/') {
            if level == "#" {
                shape.is_open = true;
                break;
            }
            shape.is_any.push(level == "+");
            push(&mut key, level);
        }
        let filters = self.shapes.entry(shape).or_default();
        let of_filter = filters.entry(key.into_boxed_str()).or_default();
        match of_filter.iter_mut().find(|(extent, _)| extent == pattern.extent()) {
            Some((_, last)) => *last = sequence.max(*last),
            None => of_filter.push((pattern.extent().clone(), sequence)),
        }
    }

    /// The extent, or an equal one that is known.
    pub(super) fn shared(&mut self, extent: Extent) -> Extent {
        match extent {
            Extent::Listed(filters) => {
                Extent::Listed(Arc::clone(self.extents.get_or_insert_with(&filters, Arc::clone)))
            }
            extent => extent,
        }
    }

    /// Whether a deletion covers what the topic retained as the so many-th change.
    pub(super) fn has(&self, topic: &str, sequence: u64) -> bool {
        // What comes in the order of the numbers is newer than all; and what is the broker's own,
        // no filter deletes.
        if sequence > self.up_to || is_reserved(topic) {
            return false;
        }
        let mut selecting = self.selecting.values().flatten();
        if selecting.any(|(pattern, last)| sequence <= *last && pattern.matches(topic)) {
            return true;
        }
        let mut key = String::with_capacity(topic.len() + 1);
        self.shapes.iter().any(|(shape, filters)| {
            key.clear();
            let of_filter = if shape.fits(topic, &mut key) { filters.get(&*key) } else { None };
            let mut all = of_filter.into_iter().flatten();
            all.any(|(extent, last)| sequence <= *last && extent.has(topic))
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shapes.is_empty() && self.selecting.is_empty()
    }

    /// Forgets deletions up to this change.
    pub(super) fn forget(&mut self, sequence: u64) {
        self.shapes.retain(|_, filters| {
            filters.retain(|_, of_filter| {
                of_filter.retain(|(_, last)| *last > sequence);
                !of_filter.is_empty()
            });
            !filters.is_empty()
        });
        self.selecting.retain(|_, of_filter| {
            of_filter.retain(|(_, last)| *last > sequence);
            !of_filter.is_empty()
        });
        self.extents.retain(|filters| Arc::strong_count(filters) > 1);
    }
}

impl Shape {
    /// Whether a filter of this shape could match, and its key if so: see `filter::matches`.
    fn fits(&self, topic: &str, key: &mut String) -> bool {
        // [MQTT-4.7.2-1].
        if topic.starts_with('$') && self.is_any.first().is_none_or(|is_any| *is_any) {
            return false;
        }
        let mut levels = topic.split('/');
        for is_any in &self.is_any {
            let Some(level) = levels.next() else { return false };
            push(key, if *is_any { "+" } else { level });
        }
        self.is_open || levels.next().is_none()
    }
}

fn push(key: &mut String, level: &str) {
    key.push_str(level);
    key.push('/');
}

#[cfg(test)]
mod tests {
    use longshore_codec::filter;

    use super::*;

    #[test]
    fn a_deletion_covers_what_its_filter_matches_up_to_its_number() {
        let levels = ["", "a", "b", "$s"];
        let asked = ["+", "a,b", "a,", "$s,b"];
        let mut topics: Vec<String> = levels.map(str::to_owned).into();
        let mut filters = vec!["#".to_owned(), "+".to_owned()];
        for first in levels.iter().chain(&asked) {
            filters.push(format!("{first}/#"));
            for second in levels.iter().chain(&asked) {
                filters.extend([format!("{first}/{second}"), format!("{first}/{second}/#")]);
                topics.extend([format!("{first}/{second}"), format!("{first}/{second}/a")]);
            }
        }
        topics.retain(|topic| !topic.contains('+'));
        let pattern = |filter: &str| Arc::new(Pattern::new(filter, true));
        let mut all = Covers::default();
        for (at, filter) in filters.iter().enumerate() {
            let (mut one, number) = (Covers::default(), 10 + at as u64);
            one.add(&pattern(filter), number);
            one.add(&pattern(filter), 5);
            all.add(&pattern(filter), number);
            for topic in &topics {
                let matches = filter::matches_selectors(filter, topic);
                assert_eq!(one.has(topic, number), matches, "{filter} and {topic}");
                assert!(!one.has(topic, number + 1), "{filter} and {topic}");
            }
        }
        for from in [0, 20] {
            all.forget(from);
            for topic in &topics {
                let matching =
                    filters.iter().zip(10..).filter(|it| filter::matches_selectors(it.0, topic));
                let last = matching.map(|(_, number)| number).filter(|it| *it > from).max();
                for number in [1, 9].into_iter().chain((10..200).step_by(7)) {
                    let want = last.is_some_and(|last| number <= last);
                    assert_eq!(all.has(topic, number), want, "{topic} at {number}");
                }
            }
        }
    }
}
