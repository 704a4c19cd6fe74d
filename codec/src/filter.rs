//! Topic filters: what a SUBSCRIBE asks for, wildcards and shared subscriptions
//! (MQTT 5.0, 4.7 and 4.8.2), and beyond the standard selectors and sticky groups.

use core::fmt;

use crate::topic::{LEN_MAX, levels};

/// A legal topic filter, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Filter<'a> {
    /// The share name of a shared subscription, `name` in `$share/name/filter`.
    pub share: Option<&'a str>,
    /// The filter that topics are matched against; the whole filter if it is not shared.
    pub inner: &'a str,
}

/// What a share name asks for that ends in `:from:count` or `:count`: that messages whose topics
/// have the same names in `count` levels from `from` on go to the same member. An extension of the
/// standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sticky {
    /// The first level, from 0.
    pub from: u16,
    /// How many, at least one.
    pub count: u16,
}

impl Sticky {
    /// What a share name asks for, unless it is a name and no more, whatever `:` it has.
    pub fn of(share: &str) -> Option<Self> {
        let (rest, count) = share.rsplit_once(':')?;
        let count = count.parse().ok().filter(|count| *count > 0)?;
        let from = rest.rsplit_once(':').filter(|(name, _)| !name.is_empty());
        let from = from.and_then(|(_, from)| from.parse().ok());
        (!rest.is_empty()).then_some(Self { from: from.unwrap_or(0), count })
    }

    /// The levels of a topic name that count, as many of them as it has.
    pub fn fingerprint(self, topic: &[u8]) -> &[u8] {
        let (from, count) = (usize::from(self.from), usize::from(self.count));
        let mut slashes = topic.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let start = match from {
            0 => Some(0),
            _ => slashes.nth(from - 1).map(|(at, _)| at + 1),
        };
        let end = slashes.nth(count - 1).map_or(topic.len(), |(at, _)| at);
        start.map_or(&[], |start| &topic[start..end])
    }
}

/// Why a topic filter is not legal. The answer to all of them is reason code 0x8f.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FilterError {
    /// No characters, or none behind the share name [MQTT-4.7.3-1], [MQTT-4.8.2-2].
    Empty,
    /// More than 65,535 bytes [MQTT-4.7.3-3].
    TooLong,
    /// U+0000 [MQTT-4.7.3-2].
    Nul,
    /// `#` that is not the whole of the last level [MQTT-4.7.1-1].
    MultiLevelWildcard,
    /// `+` that is not the whole of its level [MQTT-4.7.1-2].
    SingleLevelWildcard,
    /// A share name that is empty [MQTT-4.8.2-1], holds a wildcard, or is not followed by a filter
    /// [MQTT-4.8.2-2].
    ShareName,
}

impl core::error::Error for FilterError {}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "empty topic filter",
            Self::TooLong => "topic filter over 65,535 bytes",
            Self::Nul => "U+0000 in the topic filter",
            Self::MultiLevelWildcard => "# is not the whole of the last level",
            Self::SingleLevelWildcard => "+ is not the whole of its level",
            Self::ShareName => "no legal share name and filter after $share/",
        })
    }
}

/// Takes a topic filter apart and checks it.
///
/// A filter is shared if it starts with `$share/`, in every version: before MQTT 5.0 it is the
/// extension that brokers have in common. Fails with what is wrong, found from left to right.
pub fn parse(filter: &str) -> Result<Filter<'_>, FilterError> {
    if filter.is_empty() {
        return Err(FilterError::Empty);
    }
    if filter.len() > LEN_MAX {
        return Err(FilterError::TooLong);
    }
    if filter.as_bytes().contains(&0) {
        return Err(FilterError::Nul);
    }
    let Some(shared) = filter.strip_prefix("$share/") else {
        check_wildcards(filter)?;
        return Ok(Filter { share: None, inner: filter });
    };
    let (name, inner) = shared.split_once('/').ok_or(FilterError::ShareName)?;
    if name.is_empty() || name.contains(['+', '#']) {
        return Err(FilterError::ShareName);
    }
    if inner.is_empty() {
        return Err(FilterError::Empty);
    }
    check_wildcards(inner)?;
    Ok(Filter { share: Some(name), inner })
}

fn check_wildcards(filter: &str) -> Result<(), FilterError> {
    let mut rest = levels(filter);
    while let Some(level) = rest.next() {
        if level.contains('#') && (level != "#" || rest.next().is_some()) {
            return Err(FilterError::MultiLevelWildcard);
        }
        if level.contains('+') && level != "+" {
            return Err(FilterError::SingleLevelWildcard);
        }
    }
    Ok(())
}

/// Whether a topic name matches a legal filter that is not shared (MQTT 5.0, 4.7).
///
/// The plain reference: an index of subscriptions gives the same answers. `#` matches its parent
/// level too, and no wildcard in the first level matches a name that starts with `$`
/// [MQTT-4.7.2-1].
pub fn matches(filter: &str, topic: &str) -> bool {
    matches_by(filter, topic, |level, name| level == name)
}

/// The same where a level with `,` is a selector: see [`selects`].
pub fn matches_selectors(filter: &str, topic: &str) -> bool {
    matches_by(filter, topic, selects)
}

/// Whether a level of a filter that is no wildcard matches a level of a topic name: as what it
/// says, or as one of what it lists. An extension of the standard: `a,b` is `a`, `b` and also
/// `a,b`; a member may be empty, as a level may.
pub fn selects(level: &str, name: &str) -> bool {
    level == name || level.contains(',') && level.split(',').any(|member| member == name)
}

fn matches_by(filter: &str, topic: &str, is_one: impl Fn(&str, &str) -> bool) -> bool {
    if topic.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = levels(topic);
    for level in levels(filter) {
        if level == "#" {
            return true;
        }
        match names.next() {
            Some(name) if level == "+" || is_one(level, name) => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(filter: &str, want: Result<(Option<&str>, &str), FilterError>) {
        let want = want.map(|(share, inner)| Filter { share, inner });
        assert_eq!(parse(filter), want, "{}", filter.escape_debug());
    }

    /// [MQTT-4.7.1-1], [MQTT-4.7.1-2], [MQTT-4.7.3-1], [MQTT-4.7.3-2], [MQTT-4.7.3-3].
    #[test]
    fn a_wildcard_is_the_whole_of_its_level_and_the_hash_is_last() {
        for legal in [
            "a",
            "/",
            "#",
            "+",
            "sport/#",
            "sport/tennis/#",
            "+/tennis/#",
            "sport/+/player1",
            "+/+",
            "/+",
            "//#",
            "a//+/",
            "$SYS/#",
            "$share",
            "$shared/a",
            " ",
        ] {
            check(legal, Ok((None, legal)));
        }
        check("", Err(FilterError::Empty));
        check("sport/tennis#", Err(FilterError::MultiLevelWildcard));
        check("sport/tennis/#/ranking", Err(FilterError::MultiLevelWildcard));
        check("#/", Err(FilterError::MultiLevelWildcard));
        check("##", Err(FilterError::MultiLevelWildcard));
        check("+#", Err(FilterError::MultiLevelWildcard));
        check("sport+", Err(FilterError::SingleLevelWildcard));
        check("a/+b/c", Err(FilterError::SingleLevelWildcard));
        check("++", Err(FilterError::SingleLevelWildcard));
        // No member of a selector is a wildcard.
        check("a/b,+/c", Err(FilterError::SingleLevelWildcard));
        check("+,a", Err(FilterError::SingleLevelWildcard));
        check("a/b,#", Err(FilterError::MultiLevelWildcard));
        check("#,a", Err(FilterError::MultiLevelWildcard));
        check("a\0b", Err(FilterError::Nul));
        check(&"a".repeat(65_535), Ok((None, &"a".repeat(65_535))));
        check(&"a".repeat(65_536), Err(FilterError::TooLong));
    }

    /// [MQTT-4.8.2-1], [MQTT-4.8.2-2].
    #[test]
    fn a_shared_filter_has_a_name_and_a_filter() {
        check("$share/group/a/b", Ok((Some("group"), "a/b")));
        check("$share/consumer1//finance", Ok((Some("consumer1"), "/finance")));
        check("$share/g/#", Ok((Some("g"), "#")));
        check("$share/g/$share/h/a", Ok((Some("g"), "$share/h/a")));
        check("$share/", Err(FilterError::ShareName));
        check("$share/group", Err(FilterError::ShareName));
        check("$share//a", Err(FilterError::ShareName));
        check("$share/g+/a", Err(FilterError::ShareName));
        check("$share/#/a", Err(FilterError::ShareName));
        check("$share/group/", Err(FilterError::Empty));
        check("$share/group/a#", Err(FilterError::MultiLevelWildcard));
        check("$share/group/a+", Err(FilterError::SingleLevelWildcard));
    }

    /// MQTT 5.0, 4.7.1.2 and 4.7.1.3, [MQTT-4.7.3-4].
    #[test]
    fn levels_match_one_by_one() {
        let check = |filter: &str, topic: &str, want: bool| {
            assert_eq!(matches(filter, topic), want, "{filter} and {topic}");
        };
        check("a/b", "a/b", true);
        check("a/b", "a/B", false);
        check("a/b", "a", false);
        check("a", "a/b", false);
        check("a", "a/", false);
        check("sport/tennis/player1/#", "sport/tennis/player1", true);
        check("sport/tennis/player1/#", "sport/tennis/player1/ranking", true);
        check("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true);
        check("sport/#", "sport", true);
        check("sport/#", "sports", false);
        check("#", "/", true);
        check("sport/tennis/+", "sport/tennis/player1", true);
        check("sport/tennis/+", "sport/tennis/player1/ranking", false);
        check("sport/+", "sport", false);
        check("sport/+", "sport/", true);
        check("+/+", "/finance", true);
        check("/+", "/finance", true);
        check("+", "/finance", false);
        check("+/+/#", "a", false);
        check("+/+/#", "a/b", true);
        check("ACCOUNTS", "Accounts", false);
        check("caf\u{e9}/+", "caf\u{e9}/x", true);
    }

    /// [MQTT-4.7.2-1].
    #[test]
    fn a_leading_wildcard_does_not_match_a_leading_dollar() {
        for filter in ["#", "+/monitor/Clients", "+/#", "+"] {
            for topic in ["$SYS/monitor/Clients", "$SYS", "$"] {
                assert!(!matches(filter, topic), "{filter} and {topic}");
            }
        }
        assert!(matches("$SYS/#", "$SYS/monitor/Clients"));
        assert!(matches("$SYS/#", "$SYS"));
        assert!(matches("$SYS/monitor/+", "$SYS/monitor/Clients"));
        assert!(matches("a/+", "a/$b"));
    }

    #[test]
    fn a_selector_matches_what_it_lists_and_what_it_says() {
        let check = |filter: &str, topic: &str, want: bool| {
            assert_eq!(matches_selectors(filter, topic), want, "{filter} and {topic}");
        };
        check("topic/a,b/e,f/field", "topic/a/e/field", true);
        check("topic/a,b/e,f/field", "topic/b/f/field", true);
        check("topic/a,b/e,f/field", "topic/a,b/f/field", true);
        check("topic/a,b/e,f/field", "topic/c/e/field", false);
        check("topic/a,b/e,f/field", "topic/a/e", false);
        check("topic/a,b/e,f/field", "topic/a/e/field/more", false);
        check("a,b", "a", true);
        check("a,b", "a,b", true);
        check("a,b", "b,a", false);
        check("a,b", "A", false);
        check("a,b,c", "a,b", false);
        check("a,a", "a", true);
        check("x/a,", "x/", true);
        check("x/,", "x/", true);
        check("x/,", "x/,", true);
        check("x/,", "x", false);
        check("a,b/#", "b", true);
        check("a,b/#", "b/c/d", true);
        check("a,b/#", "c", false);
        check("+/a,b", "x/b", true);
        check("+/a,b", "$x/b", false);
        check("$x,y/a", "$x/a", true);
        check("a/+", "a/b,c", true);
        check("a,b/+", "a/x", true);
        assert!(matches("a,b/+", "a,b/x") && !matches("a,b/+", "a/x"), "by the standard");
    }

    #[test]
    fn a_share_name_that_ends_in_numbers_is_sticky() {
        for (name, want) in [
            ("by_ident:6", Some((0, 6))),
            ("by_device:4:1", Some((4, 1))),
            ("g:1:2:3", Some((2, 3))),
            ("g:x:3", Some((0, 3))),
            ("g:65535:65535", Some((65_535, 65_535))),
            (":1:2", Some((0, 2))),
            ("g", None),
            ("g:", None),
            ("g:x", None),
            ("g:1:x", None),
            ("g:0", None),
            ("g:1:0", None),
            ("g:-1", None),
            ("g:65536", None),
            ("g:70000:1", Some((0, 1))),
            (":1", None),
        ] {
            let want = want.map(|(from, count)| Sticky { from, count });
            assert_eq!(Sticky::of(name), want, "{name}");
        }
    }

    #[test]
    fn a_fingerprint_is_the_levels_that_are_there() {
        let check = |from, count, topic: &str, want: &str| {
            let found = Sticky { from, count }.fingerprint(topic.as_bytes());
            assert_eq!(found.escape_ascii().to_string(), want, "{from}:{count} of {topic}");
        };
        let topic = "flespi/message/gw/channels/77/352093081";
        check(0, 6, &format!("{topic}/x"), topic);
        check(0, 6, topic, topic);
        check(0, 9, topic, topic);
        check(4, 1, "flespi/state/gw/devices/18/telemetry/speed", "18");
        check(4, 1, "flespi/log/gw/devices/18", "18");
        check(4, 2, "flespi/log/gw/devices/18", "18");
        check(4, 1, "flespi/log/gw/devices", "");
        check(5, 1, "a", "");
        check(1, 1, "a/", "");
        check(0, 1, "/a", "");
        check(1, 2, "/a//b", "a/");
        check(65_535, 65_535, "a/b", "");
    }
}
