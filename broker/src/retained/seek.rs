//! Where a read of retained messages goes on, so that it costs what it finds and not what lies
//! between.

/// The part of a filter before its first wildcard, which every match starts with. For `a/#` that is
/// `a`, since it matches `a` itself.
pub(super) fn literal_prefix(filter: &str) -> &str {
    let end = filter.find(['+', '#']).unwrap_or(filter.len());
    let prefix = &filter[..end];
    match filter[end..].starts_with('#') {
        true => prefix.strip_suffix('/').unwrap_or(prefix),
        false => prefix,
    }
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

/// Skips the names after `topic`, which does not match, that share with it a level which the filter
/// forbids.
pub(super) fn step(filter: &str, topic: &str) -> Step {
    let (mut levels, mut at) = (topic.split('/'), 0);
    for wanted in filter.split('/') {
        if wanted == "#" {
            return Step::Scan;
        }
        let Some(level) = levels.next() else { return Step::Scan };
        if wanted != "+" && wanted != level {
            // Below this parent only `wanted` and the names below it match. These two places are
            // apart: `a!` stands between `a` and `a/b`.
            for candidate in [wanted.to_owned(), format!("{wanted}/")] {
                if topic[at..] < *candidate {
                    return Step::Seek(format!("{}{candidate}", &topic[..at]));
                }
            }
            return past(&topic[..at]);
        }
        at += level.len() + 1;
    }
    // Too deep a topic: skip what lies below its last wanted level.
    topic.get(..at).map_or(Step::Scan, past)
}

/// To the first name after everything that starts with `parent`, which ends in `/` or is empty.
fn past(parent: &str) -> Step {
    // '0' is the character after '/'.
    parent.strip_suffix('/').map_or(Step::End, |parent| Step::Seek(format!("{parent}0")))
}
