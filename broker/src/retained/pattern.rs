//! A topic filter taken apart for a read of retained messages: what matches it, and where the read
//! goes on, so that it costs what it finds and not what lies between.

use std::cmp::Ordering;
use std::ops::Range;

use super::Extent;

/// A topic filter that is not shared.
#[derive(Debug)]
pub(super) struct Pattern {
    text: Box<str>,
    levels: Box<[Level]>,
    /// Bytes at the start of the text that every match starts with.
    prefix: usize,
    /// Only topics of these match.
    extent: Extent,
}

#[derive(Debug)]
enum Level {
    /// `+`.
    Any,
    /// `#`.
    Rest,
    /// A name, by its place in the text.
    One(Range<usize>),
    /// A selector.
    OneOf(Selector),
}

/// The names that a level may have, in the order in which they and what lies below them stand among
/// all topics.
#[derive(Debug)]
struct Selector {
    members: Box<[Member]>,
    /// Whether all of them are followed by `/`.
    is_open: bool,
}

/// A name by its place in the text, and whether `/` follows it. These are apart: `a!` stands
/// between `a` and `a/b`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Member {
    start: u32,
    end: u32,
    is_open: bool,
}

/// Where a read goes on after a name that does not match.
pub(super) enum Step {
    /// The next name is as good as any.
    Scan,
    /// No name before this one can match.
    Seek(String),
    /// No later name can match.
    End,
}

impl Pattern {
    /// A legal filter, where a level with `,` is a selector or is not.
    pub(super) fn new(filter: &str, selectors: bool) -> Self {
        let (mut levels, mut prefix, mut start) = (Vec::new(), None, 0);
        for name in filter.split('/') {
            let end = start + name.len();
            let level = match name {
                "+" => Level::Any,
                "#" => Level::Rest,
                _ if selectors && name.contains(',') => {
                    Level::OneOf(Selector::new(filter, start..end))
                }
                _ => Level::One(start..end),
            };
            // `a/#` matches `a`, too.
            let is_rest = matches!(level, Level::Rest);
            if !matches!(level, Level::One(_)) && prefix.is_none() {
                prefix = Some(if is_rest { start.saturating_sub(1) } else { start });
            }
            levels.push(level);
            start = end + 1;
        }
        let prefix = prefix.unwrap_or(filter.len());
        Self { text: filter.into(), levels: levels.into(), prefix, extent: Extent::All }
    }

    /// The same for topics of `extent` alone.
    pub(super) fn limited(filter: &str, selectors: bool, extent: Extent) -> Self {
        Self { extent, ..Self::new(filter, selectors) }
    }

    /// The topics among which it matches.
    pub(super) fn extent(&self) -> &Extent {
        &self.extent
    }

    /// The filter as it was made from.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// What every match starts with.
    pub(super) fn prefix(&self) -> &str {
        &self.text[..self.prefix]
    }

    /// Whether the filter is the one topic that it matches.
    pub(super) fn is_exact(&self) -> bool {
        self.levels.iter().all(|level| matches!(level, Level::One(_)))
    }

    /// Whether it has selectors.
    pub(super) fn selects(&self) -> bool {
        self.levels.iter().any(|level| matches!(level, Level::OneOf(_)))
    }

    /// Whether a topic of the extent matches: see `filter::matches` and
    /// `filter::matches_selectors`.
    pub(super) fn matches(&self, topic: &str) -> bool {
        self.fits_levels(topic) && self.extent.has(topic)
    }

    fn fits_levels(&self, topic: &str) -> bool {
        let is_wild = matches!(self.levels.first(), Some(Level::Any | Level::Rest));
        if topic.starts_with('$') && is_wild {
            // [MQTT-4.7.2-1].
            return false;
        }
        let mut names = topic.split('/');
        for level in &self.levels {
            if matches!(level, Level::Rest) {
                return true;
            }
            if !names.next().is_some_and(|name| self.fits(level, name)) {
                return false;
            }
        }
        names.next().is_none()
    }

    fn fits(&self, level: &Level, name: &str) -> bool {
        match level {
            Level::Any | Level::Rest => true,
            Level::One(range) => self.text[range.clone()] == *name,
            Level::OneOf(selector) => selector.has(&self.text, name),
        }
    }

    /// Skips the names after `topic`, which does not match, that share with it a level which the
    /// filter forbids.
    pub(super) fn step(&self, topic: &str) -> Step {
        let (mut names, mut at) = (topic.split('/'), 0);
        for level in &self.levels {
            if matches!(level, Level::Rest) {
                return Step::Scan;
            }
            let Some(name) = names.next() else { return Step::Scan };
            if !self.fits(level, name) {
                // Below this parent only what the level says and the names below that match.
                let (parent, from) = topic.split_at(at);
                return match self.next_name(level, from) {
                    Some(next) => Step::Seek(format!("{parent}{next}")),
                    None => past(parent),
                };
            }
            at += name.len() + 1;
        }
        // Too deep a topic: skip what lies below its last wanted level.
        topic.get(..at).map_or(Step::Scan, past)
    }

    /// The first that the level may begin with behind `from`.
    fn next_name(&self, level: &Level, from: &str) -> Option<String> {
        let member = match level {
            Level::Any | Level::Rest => None,
            Level::One(range) => {
                let of = |is_open| Member::new(range.clone(), is_open);
                let both = [of(false), of(true)];
                both.into_iter().find(|member| member.is_behind(&self.text, from))
            }
            Level::OneOf(selector) => selector.next(&self.text, from),
        }?;
        let slash = if member.is_open { "/" } else { "" };
        Some(format!("{}{slash}", member.name(&self.text)))
    }
}

impl Selector {
    /// Of a level in the filter. It is itself one of the names that it may have.
    fn new(filter: &str, level: Range<usize>) -> Self {
        let rest = &filter[level.end..];
        let ways: &[bool] = match rest {
            "" => &[false],
            "/#" => &[false, true],
            _ => &[true],
        };
        let (mut members, mut start) = (Vec::new(), level.start);
        for name in filter[level.clone()].split(',') {
            let end = start + name.len();
            members.extend(ways.iter().map(|is_open| Member::new(start..end, *is_open)));
            start = end + 1;
        }
        members.extend(ways.iter().map(|is_open| Member::new(level.clone(), *is_open)));
        members.sort_unstable_by(|a, b| a.order(filter, b.name(filter), b.is_open));
        members.dedup_by(|a, b| a.order(filter, b.name(filter), b.is_open).is_eq());
        Self { members: members.into(), is_open: ways == [true] }
    }

    fn has(&self, text: &str, name: &str) -> bool {
        let order = |member: &Member| member.order(text, name, self.is_open);
        self.members.binary_search_by(order).is_ok()
    }

    /// The first behind `from`.
    fn next(&self, text: &str, from: &str) -> Option<Member> {
        let place = self.members.partition_point(|member| !member.is_behind(text, from));
        self.members.get(place).copied()
    }
}

impl Member {
    fn new(range: Range<usize>, is_open: bool) -> Self {
        // A filter has at most 65,535 bytes.
        Self { start: range.start as u32, end: range.end as u32, is_open }
    }

    fn name(self, text: &str) -> &str {
        &text[self.start as usize..self.end as usize]
    }

    fn is_behind(self, text: &str, from: &str) -> bool {
        self.order(text, from, false).is_gt()
    }

    /// Where this stands in the order of topics, seen from a name with `/` behind it or without.
    fn order(self, text: &str, name: &str, is_open: bool) -> Ordering {
        let (this, name) = (self.name(text).as_bytes(), name.as_bytes());
        let common = this.len().min(name.len());
        this[..common].cmp(&name[..common]).then_with(|| {
            let slash = |is_open| if is_open { &b"/"[..] } else { &[] };
            let this = this[common..].iter().chain(slash(self.is_open));
            this.cmp(name[common..].iter().chain(slash(is_open)))
        })
    }
}

/// To the first name after everything that starts with `parent`, which ends in `/` or is empty.
fn past(parent: &str) -> Step {
    // '0' is the character after '/'.
    parent.strip_suffix('/').map_or(Step::End, |parent| Step::Seek(format!("{parent}0")))
}
