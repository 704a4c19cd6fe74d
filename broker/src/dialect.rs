//! Where the broker does more than the standard asks for, each with a switch.

/// The switches. A struct of plain values: take [`Dialect::default`] and change what you need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Dialect {
    /// When a PUBLISH with an empty payload to a topic filter with wildcards deletes all retained
    /// messages that match it; otherwise it is refused with 0x90, as the standard has it. Default
    /// [`WildcardDelete::Any`].
    pub wildcard_delete: WildcardDelete,
    /// Whether messages of clients with a token get the user properties `timestamp`, `token_id` and
    /// `cid`. Default true.
    pub stamp: bool,
    /// Whether CONNACK tells clients with a token of it and of the session's subscriptions, in the
    /// user properties `token` and `subscriptions`. Default true.
    pub describe_session: bool,
}

impl Default for Dialect {
    fn default() -> Self {
        let wildcard_delete = WildcardDelete::default();
        Self { wildcard_delete, stamp: true, describe_session: true }
    }
}

/// Which of them delete.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum WildcardDelete {
    /// All.
    #[default]
    Any,
    /// Those with RETAIN.
    Retain,
    /// None.
    Off,
}

impl WildcardDelete {
    /// Whether one with or without RETAIN does.
    pub(crate) fn is_meant(self, retain: bool) -> bool {
        match self {
            Self::Any => true,
            Self::Retain => retain,
            Self::Off => false,
        }
    }
}
