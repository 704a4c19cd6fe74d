//! Topic filters as they were written, and the topics they open to be published.

use std::hash::{Hash, Hasher};

use longshore_codec::topic::levels;

use crate::topics::{COUNTERS, Level, RESERVED, Topics, is_shy, levels_of, texts_of};

/// First levels of topics that no client publishes to.
const CLOSED: [&str; 2] = [RESERVED, COUNTERS];

/// A list of topic filters. No topic under `flespi/` or `$SYS/` is among those that they match:
/// that is not for users to open. A level with `,` stands for each text between its commas, and for
/// itself.
#[derive(Debug, Clone)]
pub struct TopicFilters {
    texts: Box<[Box<str>]>,
    topics: Topics,
}

impl TopicFilters {
    /// Those of these texts, which are legal filters without `$share/...` or the like before them.
    pub fn of<'a>(texts: impl IntoIterator<Item = &'a str>) -> Self {
        let texts: Box<[Box<str>]> = texts.into_iter().map(Box::from).collect();
        let topics = Topics::of(texts.iter().filter_map(|text| without(&CLOSED, text)));
        Self { texts, topics }
    }

    /// The filters as they were written.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(|text| &**text)
    }

    /// Bytes of them.
    pub fn bytes(&self) -> usize {
        self.texts().map(str::len).sum()
    }

    /// Whether any of them matches this topic name. Allocates nothing.
    pub fn contains(&self, topic: &str) -> bool {
        self.topics.contains(topic)
    }

    /// Those of them that match any topic which `filter`, a legal one, matches too.
    pub fn overlapping(&self, filter: &str) -> Self {
        let wanted: Vec<Level> = levels_of(filter).map(sorted).collect();
        Self::of(self.texts().filter(|text| overlap(&wanted, text)))
    }

    pub(crate) fn topics(&self) -> &Topics {
        &self.topics
    }
}

impl PartialEq for TopicFilters {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for TopicFilters {}

impl Hash for TopicFilters {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.texts.hash(state);
    }
}

/// A filter without what it cannot open: topics with these first levels (4.12).
pub(crate) fn without(closed: &[&str], filter: &str) -> Option<Vec<Level>> {
    let mut levels: Vec<Level> = levels_of(filter).collect();
    if let Some(Level::OneOf(texts)) = levels.first_mut() {
        texts.retain(|text| !closed.contains(&&**text));
        if texts.is_empty() {
            return None;
        }
    }
    Some(levels)
}

fn sorted(mut level: Level) -> Level {
    if let Level::OneOf(texts) = &mut level {
        texts.sort_unstable();
    }
    level
}

/// Whether one topic that is not reserved matches both. Each level is asked for itself: what one of
/// them may be does not depend on another.
fn overlap(wanted: &[Level], filter: &str) -> bool {
    let (mut wanted, mut names, mut is_first) = (wanted.iter(), levels(filter), true);
    loop {
        match (wanted.next(), names.next()) {
            (None, None) => return true,
            (Some(Level::Rest), None) | (None, Some("#")) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some(level), Some(name)) => {
                if !meet(level, name, is_first) {
                    return false;
                }
                if matches!(level, Level::Rest) || name == "#" {
                    return true;
                }
            }
        }
        is_first = false;
    }
}

/// Whether one text is among what both levels stand for.
fn meet(level: &Level, name: &str, is_first: bool) -> bool {
    let is_free = |text: &str| !(is_first && is_shy(text));
    match (level, name) {
        (Level::Any | Level::Rest, "+" | "#") => true,
        (Level::Any | Level::Rest, _) => texts_of(name).any(is_free),
        (Level::OneOf(texts), "+" | "#") => texts.iter().any(|text| is_free(text)),
        (Level::OneOf(texts), _) => texts_of(name)
            .filter(|text| !is_first || !CLOSED.contains(text))
            .any(|text| texts.binary_search_by(|it| (**it).cmp(text)).is_ok()),
    }
}

#[cfg(test)]
mod tests {
    use longshore_codec::filter;

    use super::*;

    /// Broker specification, 8 and 9.7: held against every topic there is of two levels.
    #[test]
    fn filters_overlap_where_a_topic_of_users_matches_both() {
        let levels = ["a", "b", "c", "$s", "flespi", ""];
        let asked = ["a", "b", "+", "a,b", "flespi,b", "flespi", "$s", "$s,a", ""];
        let mut topics: Vec<String> = levels.map(str::to_owned).into();
        let mut filters: Vec<String> = asked.map(str::to_owned).into();
        filters.push("#".to_owned());
        for first in levels {
            topics.extend(levels.map(|second| format!("{first}/{second}")));
        }
        for first in asked {
            filters.push(format!("{first}/#"));
            filters.extend(asked.map(|second| format!("{first}/{second}")));
        }
        let is_users =
            |topic: &&String| !topic.split('/').next().is_some_and(|it| CLOSED.contains(&it));
        let commas = ["a,b", "flespi,b", "$s,a"];
        topics.extend(commas.map(str::to_owned));
        topics.extend(commas.map(|first| format!("{first}/a")));
        let of = |filter: &str| {
            let matching = topics.iter().filter(is_users);
            matching.filter(|it| filter::matches_selectors(filter, it)).collect::<Vec<_>>()
        };
        for one in &filters {
            let set = TopicFilters::of([&**one]);
            let found = of(one);
            for topic in &topics {
                assert_eq!(set.contains(topic), found.contains(&topic), "{one} {topic}");
            }
            for other in &filters {
                let both = of(other).into_iter().any(|topic| found.contains(&topic));
                let is_empty = set.overlapping(other).texts().next().is_none();
                assert_eq!(is_empty, !both, "{one} and {other}");
            }
        }
    }

    #[test]
    fn what_overlaps_stays_in_its_order() {
        let all = TopicFilters::of(["a/+", "b/#", "a/x,y", "c"]);
        let texts: Vec<_> = all.overlapping("a/#").texts().map(str::to_owned).collect();
        assert_eq!(texts, ["a/+", "a/x,y"]);
        assert_eq!(all.bytes(), 12);
        assert_eq!(all, TopicFilters::of(["a/+", "b/#", "a/x,y", "c"]));
    }
}
