//! Where in its account a deletion by topic filter deletes.

use std::sync::Arc;

use longshore_acl::TopicFilters;

use crate::parties::is_reserved;
use crate::record::Within;

/// See the module. It lasts as the journal has it: what becomes of the token that asked for the
/// deletion changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Extent {
    /// All topics. Deletions of earlier versions, and everything that is no deletion.
    #[default]
    All,
    /// Those that are not reserved.
    Users,
    /// Of those, what these filters match.
    Listed(Arc<TopicFilters>),
}

impl Extent {
    pub(crate) fn has(&self, topic: &str) -> bool {
        match self {
            Self::All => true,
            Self::Users => !is_reserved(topic),
            Self::Listed(filters) => filters.contains(topic),
        }
    }

    /// It as it is written down.
    pub(crate) fn within(&self) -> Within<'_> {
        match self {
            Self::All => Within::All,
            Self::Users => Within::Users,
            Self::Listed(filters) => Within::Listed(filters.texts().collect()),
        }
    }

    /// Bytes of the filters that limit it.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::All | Self::Users => 0,
            Self::Listed(filters) => filters.bytes(),
        }
    }
}

impl From<&Within<'_>> for Extent {
    fn from(within: &Within<'_>) -> Self {
        match within {
            Within::All => Self::All,
            Within::Users => Self::Users,
            Within::Listed(texts) => {
                Self::Listed(Arc::new(TopicFilters::of(texts.iter().copied())))
            }
        }
    }
}
