//! What the broker says of a message in user properties: when, by which token and in which account
//! it was published.

use longshore_acl::{Principal, ROOT_ACCOUNT};
use longshore_codec::{Properties, Property};

use crate::clock::Wall;
use crate::message::{Parts, forwardable};

/// When a message was published, in seconds since 1970: the publisher's, or else the broker's.
pub(crate) const TIMESTAMP: &str = "timestamp";
/// The token of its publisher.
pub(crate) const TOKEN_ID: &str = "token_id";
/// The account of its publisher.
pub(crate) const CID: &str = "cid";
/// In a SUBSCRIBE, the time since which retained messages are asked for.
pub(crate) const MODIFIED_SINCE: &str = "modified_since";
/// With the value `1`: the publisher asks how many subscribers a message of QoS 1 or 2 reaches.
pub(crate) const COUNT_SUBSCRIBERS: &str = "count_subscribers";
/// The answer to that.
pub(crate) const SUBSCRIBERS_COUNT: &str = "subscribers_count";

/// Digits of a time: seconds, a dot, microseconds.
const TIME_DIGITS: usize = 17;
/// No earlier timestamp counts, in microseconds: before that, clocks have not been set.
const EARLIEST: u64 = 1_000_000_000 * 1_000_000;
/// How far ahead of the broker's clock a timestamp still counts, in microseconds.
const AHEAD_MAX: u64 = 300 * 1_000_000;

/// The user properties that all messages of one publisher get, encoded once; the time is renewed.
#[derive(Debug)]
pub(crate) struct Stamp {
    /// `token_id`, `cid`, `timestamp`.
    bytes: Vec<u8>,
    /// The time that stands there.
    wall: Wall,
}

impl Stamp {
    /// The one of this publisher, unless it has no token.
    pub(crate) fn new(principal: &Principal) -> Option<Self> {
        let token = principal.token.filter(|_| !principal.anonymous)?;
        let mut bytes = Vec::new();
        Property::UserProperty(TOKEN_ID, &token.to_string()).append(&mut bytes);
        Property::UserProperty(CID, &principal.account.to_string()).append(&mut bytes);
        Property::UserProperty(TIMESTAMP, "0000000000.000000").append(&mut bytes);
        Some(Self { bytes, wall: Wall(0) })
    }

    /// All three, for a message that is published now.
    #[inline]
    pub(crate) fn at(&mut self, now: Wall) -> &[u8] {
        if self.wall != now {
            self.wall = now;
            let start = self.bytes.len() - TIME_DIGITS;
            write_time(now, &mut self.bytes[start..]);
        }
        &self.bytes
    }

    /// These properties with all of it, and without what only the broker may say.
    pub(crate) fn onto(&mut self, properties: &[u8], now: Wall) -> Vec<u8> {
        let block = Properties::from_raw(properties);
        let has_time = block.user_properties().any(|(name, _)| name == TIMESTAMP);
        let mut all = Vec::with_capacity(properties.len() + self.bytes.len());
        forwardable(block, |name| name == TOKEN_ID || name == CID, &mut all);
        all.extend_from_slice(if has_time { self.without_time() } else { self.at(now) });
        all
    }

    /// The same without the time, for a publisher that has set it.
    pub(crate) fn without_time(&self) -> &[u8] {
        // Identifier and two lengths, name, value.
        &self.bytes[..self.bytes.len() - TIME_DIGITS - TIMESTAMP.len() - 5]
    }
}

/// The user properties of what the broker itself publishes.
pub(crate) fn of_broker(account: u64, at: Wall) -> Vec<u8> {
    let (mut bytes, mut time) = (Vec::new(), *b"0000000000.000000");
    write_time(at, &mut time);
    Property::UserProperty(CID, &account.to_string()).append(&mut bytes);
    Property::UserProperty(TIMESTAMP, &String::from_utf8_lossy(&time)).append(&mut bytes);
    bytes
}

/// The account in which a message was published, as far as it says so.
pub(crate) fn account_of(parts: &Parts<'_>) -> u64 {
    cid_of(Properties::from_raw(parts.properties))
}

/// The account that properties name, or else the root account.
pub(crate) fn cid_of(properties: Properties<'_>) -> u64 {
    let mut named = properties.user_properties();
    let cid = named.find(|(name, _)| *name == CID).and_then(|(_, value)| value.parse().ok());
    cid.unwrap_or(ROOT_ACCOUNT)
}

/// These properties without the broker's own, which stand behind all others.
pub(crate) fn unstamped(properties: &[u8]) -> &[u8] {
    let (mut iter, mut at, mut end) = (Properties::from_raw(properties).iter(), 0, None);
    while let Some(Ok((property, raw))) = iter.next_raw() {
        end = match (property, end) {
            (Property::UserProperty(TOKEN_ID, _), _) => Some(at),
            (Property::UserProperty(CID | TIMESTAMP, _), end) => end,
            _ => None,
        };
        at += raw.len();
    }
    &properties[..end.unwrap_or(properties.len())]
}

/// Seconds with six digits behind the dot.
fn write_time(time: Wall, digits: &mut [u8]) {
    let (mut secs, mut micros) = (time.0 / 1_000_000, time.0 % 1_000_000);
    let (whole, fraction) = digits.split_at_mut(TIME_DIGITS - 6);
    for digit in fraction.iter_mut().rev() {
        *digit = b'0' + (micros % 10) as u8;
        micros /= 10;
    }
    for digit in whole.iter_mut().rev().skip(1) {
        *digit = b'0' + (secs % 10) as u8;
        secs /= 10;
    }
}

/// The time that a timestamp means, if it counts: a wrong clock must not pin a topic.
pub(crate) fn counting_time(value: &str, now: Wall) -> Option<Wall> {
    parse_time(value).filter(|time| counts(*time, now))
}

/// Whether a clock that shows this can be right.
pub(crate) fn counts(time: Wall, now: Wall) -> bool {
    (EARLIEST..=now.0.saturating_add(AHEAD_MAX)).contains(&time.0)
}

/// Seconds since 1970 as text, with a fraction or without.
pub(crate) fn parse_time(value: &str) -> Option<Wall> {
    let (whole, fraction) = value.split_once('.').unwrap_or((value, ""));
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || whole.len() > 12 || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let secs: u64 = whole.parse().ok()?;
    let micros = fraction.bytes().chain(std::iter::repeat(b'0')).take(6);
    let micros = micros.fold(0, |sum, digit| 10 * sum + u64::from(digit - b'0'));
    Some(Wall(secs * 1_000_000 + micros))
}

/// When the message with these properties was published, as far as they say so.
pub(crate) fn time_of(properties: &[u8]) -> Option<Wall> {
    let mut named = Properties::from_raw(properties).user_properties();
    let (_, value) = named.find(|(name, _)| *name == TIMESTAMP)?;
    parse_time(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(properties: &[u8]) -> Vec<(&str, &str)> {
        Properties::from_raw(properties).user_properties().collect()
    }

    /// Spec 9.1.
    #[test]
    fn a_stamp_has_token_account_and_time() {
        let mut stamp = Stamp::new(&Principal::master()).expect("it has a token");
        let now = Wall(1_700_000_000_012_345);
        assert_eq!(
            named(stamp.at(now)),
            [("token_id", "1"), ("cid", "1"), ("timestamp", "1700000000.012345")]
        );
        assert_eq!(time_of(stamp.at(now)), Some(now));
        assert_eq!(named(stamp.without_time()), [("token_id", "1"), ("cid", "1")]);
        assert!(Stamp::new(&Principal::anonymous()).is_none());
    }

    #[test]
    fn the_broker_s_own_properties_are_taken_off_and_no_others() {
        let mut stamp = Stamp::new(&Principal::master()).expect("it has a token");
        let mut own = Vec::new();
        Property::UserProperty("timestamp", "1").append(&mut own);
        Property::UserProperty("a", "b").append(&mut own);
        for mine in [&own[..], &[]] {
            assert_eq!(unstamped(mine), mine);
            assert_eq!(unstamped(&[mine, stamp.at(Wall(1))].concat()), mine);
            assert_eq!(unstamped(&[mine, stamp.without_time()].concat()), mine);
        }
    }

    #[test]
    fn a_timestamp_counts_from_2001_until_five_minutes_from_now() {
        let now = Wall(1_700_000_000_000_000);
        let rows = [
            ("1700000000", Some(1_700_000_000_000_000)),
            ("1700000000.5", Some(1_700_000_000_500_000)),
            ("1700000000.1234567", Some(1_700_000_000_123_456)),
            ("1700000300", Some(1_700_000_300_000_000)),
            ("1700000301", None),
            ("1000000000", Some(1_000_000_000_000_000)),
            ("999999999", None),
            ("1700000000000", None),
            ("", None),
            (".5", None),
            ("-1", None),
            ("1.7e9", None),
            ("1700000000,5", None),
        ];
        for (value, want) in rows {
            assert_eq!(counting_time(value, now), want.map(Wall), "{value}");
        }
    }
}
