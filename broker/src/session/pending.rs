//! A message on its way to one session, and how the session gets it.

use std::sync::Arc;

use longshore_codec::QoS;

use super::page::{ROW_BYTES, Waiting};
use crate::message::{Entry, Identifiers, Kept};
use crate::share::Group;

/// A message for one session, not yet or not finally delivered.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    pub(crate) message: Kept,
    pub(crate) manner: Manner,
}

/// How a session gets a message.
#[derive(Clone, Debug)]
pub(crate) struct Manner {
    pub(crate) qos: QoS,
    /// RETAIN as this session gets it.
    pub(crate) retain: bool,
    pub(crate) identifiers: Identifiers,
    /// The shared group it came through.
    pub(crate) group: Option<Arc<Group>>,
    /// For whom the journal has it: the session, or the group; 0 where nobody has written it down.
    pub(crate) holder: u64,
    /// It may have been sent before, by a broker that ended before it could note that.
    pub(crate) again: bool,
}

/// What the journal has to hear of a message that is done with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// For whom it was written down; 0 for nobody.
    pub(crate) holder: u64,
    pub(crate) number: u64,
    /// The shared group through which it came; 0 for none.
    pub(crate) group: u64,
}

impl Waiting for Arc<Entry> {
    fn bytes(&self) -> usize {
        self.size() as usize
    }

    fn row(&self) -> Option<[u8; ROW_BYTES]> {
        self.to_row()
    }

    fn of_row(row: &[u8; ROW_BYTES]) -> Self {
        Self::new(Entry::of_row(row))
    }
}

impl PartialEq for Manner {
    fn eq(&self, other: &Self) -> bool {
        let of_group = |it: &Self| it.group.as_ref().map(Arc::as_ptr);
        (self.qos, self.retain, self.again) == (other.qos, other.retain, other.again)
            && self.identifiers == other.identifiers
            && (of_group(self), self.holder) == (of_group(other), other.holder)
    }
}

impl Manner {
    /// The number of the shared group it came through; 0 for none.
    pub(crate) fn group_holder(&self) -> u64 {
        self.group.as_ref().map_or(0, |group| group.holder)
    }
}

impl Pending {
    pub(crate) fn recorded(&self) -> Recorded {
        let Manner { holder, .. } = self.manner;
        Recorded { holder, number: self.message.number(), group: self.manner.group_holder() }
    }
}
