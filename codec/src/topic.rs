//! Topic names: what a PUBLISH is addressed to (MQTT 5.0, 4.7).

use crate::error::{Error, Field, Offence};
use crate::wire;

/// Bytes of the longest topic name or filter [MQTT-4.7.3-3].
pub const LEN_MAX: usize = u16::MAX as usize;

/// The bytes as a topic name: 1..=65,535 bytes of UTF-8 without U+0000, `+` and `#`.
///
/// Fails with [`Error::Malformed`] for what is no MQTT string [MQTT-1.5.4-1], [MQTT-4.7.3-2], and
/// with [`Offence::EmptyTopic`] [MQTT-4.7.3-1], [`Offence::WildcardInTopic`] [MQTT-4.7.0-1] or
/// [`Offence::TopicTooLong`] [MQTT-4.7.3-3].
pub fn validate(name: &[u8]) -> Result<&str, Error> {
    if name.is_empty() {
        return Err(Offence::EmptyTopic.into());
    }
    if name.len() > LEN_MAX {
        return Err(Offence::TopicTooLong.into());
    }
    let text = wire::text(name, Field::Topic)?;
    // Every byte is looked at, since a loop without a way out is done many bytes at a time.
    if name.iter().fold(false, |found, byte| found | matches!(byte, b'+' | b'#')) {
        return Err(Offence::WildcardInTopic.into());
    }
    Ok(text)
}

/// Whether text is a topic name: what [`validate`] asks of bytes beyond being text.
pub fn is_valid(name: &str) -> bool {
    let is_free = !name.bytes().fold(false, |found, byte| found | matches!(byte, 0 | b'+' | b'#'));
    is_free && (1..=LEN_MAX).contains(&name.len())
}

/// The levels of a topic name or filter, from left to right. An empty level is a level: `/a` has
/// two (MQTT 5.0, 4.7.1.1).
pub fn levels(topic: &str) -> core::str::Split<'_, char> {
    topic.split('/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Malformed;

    /// [MQTT-3.3.2-1], [MQTT-3.3.2-2], [MQTT-4.7.0-1], [MQTT-4.7.3-1], [MQTT-4.7.3-2].
    #[test]
    fn a_topic_name_is_text_without_wildcards() {
        let check = |name: &[u8], want: Result<&str, Error>| {
            assert_eq!(validate(name), want, "{}", name.escape_ascii());
            if let Ok(text) = core::str::from_utf8(name) {
                assert_eq!(is_valid(text), want.is_ok(), "{text}");
            }
        };
        let offence = |offence: Offence| Err(Error::from(offence));
        check(b"a", Ok("a"));
        check(b"/", Ok("/"));
        check(b"//", Ok("//"));
        check(b"$SYS/broker", Ok("$SYS/broker"));
        check(b"Accounts payable", Ok("Accounts payable"));
        check(b"caf\xc3\xa9", Ok("caf\u{e9}"));
        check(b"", offence(Offence::EmptyTopic));
        check(b"a/+", offence(Offence::WildcardInTopic));
        check(b"a+b", offence(Offence::WildcardInTopic));
        check(b"#", offence(Offence::WildcardInTopic));
        check(b"a\x00", Err(Malformed::Nul(Field::Topic).into()));
        check(b"\xed\xa0\x80", Err(Malformed::Utf8(Field::Topic).into()));
        // What is no string is malformed, wildcard or not.
        check(b"+\xff", Err(Malformed::Utf8(Field::Topic).into()));
    }

    /// [MQTT-4.7.3-3].
    #[test]
    fn a_topic_name_has_at_most_65_535_bytes() {
        let name = vec![b'a'; LEN_MAX + 1];
        assert_eq!(validate(&name), Err(Offence::TopicTooLong.into()));
        assert_eq!(validate(&name[1..]).map(str::len), Ok(LEN_MAX));
        let is_valid = |name| core::str::from_utf8(name).is_ok_and(is_valid);
        assert_eq!((is_valid(&name), is_valid(&name[1..])), (false, true));
    }

    #[test]
    fn an_empty_level_is_a_level() {
        let check = |topic: &str, want: &[&str]| {
            assert_eq!(levels(topic).collect::<Vec<_>>(), want, "{topic}");
        };
        check("a", &["a"]);
        check("a/b", &["a", "b"]);
        check("/finance", &["", "finance"]);
        check("/", &["", ""]);
        check("a//b/", &["a", "", "b", ""]);
    }
}
