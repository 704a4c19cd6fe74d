//! When something was: UNIX time in microseconds.

use jiff::civil;
use serde_json::Value;

/// A moment, in microseconds since 1970. Those before 1,000,000 seconds are reserved (R1.12) and
/// those after the year 9999 are no times of this world, so neither is a `Timestamp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

const MICROS_MIN: i64 = 1_000_000 * 1_000_000;
/// The end of the year 9999.
const MICROS_MAX: i64 = 253_402_300_800 * 1_000_000 - 1;

impl Timestamp {
    /// So many microseconds after 1970; none if that is no [`Timestamp`].
    pub const fn from_micros(micros: i64) -> Option<Self> {
        if micros < MICROS_MIN || micros > MICROS_MAX { None } else { Some(Self(micros)) }
    }

    /// So many seconds after 1970, to the microsecond.
    pub fn from_seconds(seconds: f64) -> Option<Self> {
        // A number too large, or none at all, becomes one that is refused.
        Self::from_micros((seconds * 1e6).round() as i64)
    }

    /// So many milliseconds after 1970.
    pub fn from_millis(millis: u64) -> Option<Self> {
        Self::from_micros(i64::try_from(millis).ok()?.checked_mul(1_000)?)
    }

    /// A moment in the calendar, UTC.
    pub(crate) fn from_civil(moment: civil::DateTime) -> Option<Self> {
        let since = jiff::tz::Offset::UTC.to_timestamp(moment).ok()?;
        Self::from_micros(since.as_microsecond())
    }

    /// A moment in ISO 8601: with an offset from UTC, or in UTC.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(moment) = text.parse::<jiff::Timestamp>() {
            return Self::from_micros(moment.as_microsecond());
        }
        Self::from_civil(text.parse().ok()?)
    }

    /// Microseconds since 1970.
    pub const fn micros(self) -> i64 {
        self.0
    }
}

/// Seconds, without a fraction where there is none.
impl From<Timestamp> for Value {
    fn from(timestamp: Timestamp) -> Self {
        let micros = timestamp.0;
        if micros % 1_000_000 == 0 {
            Self::from(micros / 1_000_000)
        } else {
            // 16 digits: a double tells any two microseconds before 2100 apart.
            Self::from(micros as f64 / 1e6)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R1.4, R1.5, R10.1, R10.8.
    #[test]
    fn a_moment_is_read_in_iso_8601_and_written_in_seconds() {
        for (text, want) in [
            ("2018-02-14T00:28:07Z", "1518568087"),
            ("2018-02-14T02:28:07.25+02:00", "1518568087.25"),
            ("2018-02-14T00:28:07", "1518568087"),
            ("2018-02-14 00:28:07", "1518568087"),
            ("2024-02-29T23:59:59.999999Z", "1709251199.999999"),
        ] {
            let found = Timestamp::parse(text).map(|it| Value::from(it).to_string());
            assert_eq!(found.as_deref(), Some(want), "{text}");
        }
        for text in ["", "now", "2018-02-30T00:00:00", "14.02.2018", "1970-01-01T00:00:00Z"] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
    }

    /// R1.12.
    #[test]
    fn what_is_too_small_or_too_large_is_no_time() {
        for seconds in [0.0, -1.0, 999_999.0, 1e12, f64::NAN, f64::INFINITY] {
            assert_eq!(Timestamp::from_seconds(seconds), None, "{seconds}");
        }
        let micros = Timestamp::from_seconds(1_702_366_832.965_264).map(Timestamp::micros);
        assert_eq!(micros, Some(1_702_366_832_965_264));
        assert_eq!(Timestamp::from_millis(u64::MAX), None);
    }
}
