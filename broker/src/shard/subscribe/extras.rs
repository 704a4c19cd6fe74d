//! What SUBSCRIBE asks for beyond the standard.

use longshore_codec::Properties;

use crate::clock::Wall;
use crate::stamp::{CID, MODIFIED_SINCE, parse_time};

/// What a SUBSCRIBE asks for in user properties, for all its topic filters. What is no valid value
/// is not there (specification of the broker, 10.5).
pub(super) struct Extras {
    pub(super) only: u64,
    pub(super) since: Option<Wall>,
}

impl Extras {
    pub(super) fn of(properties: Properties<'_>) -> Self {
        let value = |name: &str| properties.user_properties().find(|(it, _)| *it == name);
        let only = value(CID).and_then(|(_, cid)| cid.parse().ok());
        let since = value(MODIFIED_SINCE).and_then(|(_, time)| parse_time(time));
        Self { only: only.unwrap_or(0), since }
    }
}

/// The account that is asked for twice, or once; `None` where that is not the same.
pub(super) fn both(one: u64, other: u64) -> Option<u64> {
    match (one, other) {
        (0, only) | (only, 0) => Some(only),
        (one, other) => (one == other).then_some(one),
    }
}
