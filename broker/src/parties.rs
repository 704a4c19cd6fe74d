//! On whose behalf clients act, and what each of those may do.

use std::sync::Arc;

use dashmap::DashMap;
use hashbrown::HashMap;
pub(crate) use longshore_acl::is_reserved;
use longshore_acl::{Action, BROKER_CLASS, Coverage, Principal, Rights};

/// Accounts stand below one another at most so deep.
pub(crate) const DEPTH_MAX: usize = 4;

/// Clients of one account and one class have equal rights: what is found for one holds for all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Party {
    pub(crate) account: u64,
    pub(crate) class: u32,
}

impl From<&Principal> for Party {
    fn from(principal: &Principal) -> Self {
        Self { account: principal.account, class: principal.class }
    }
}

/// What the clients of each class may do.
///
/// Those of a class that nobody has told of may do everything, but publish what is reserved.
#[derive(Debug, Default)]
pub(crate) struct Classes {
    rights: DashMap<u32, Arc<Rights>>,
}

impl Classes {
    pub(crate) fn set(&self, class: u32, rights: Arc<Rights>) {
        self.rights.insert(class, rights);
    }

    /// What clients of this class may do, if there is anything they may not.
    pub(crate) fn of(&self, class: u32) -> Option<Arc<Rights>> {
        self.rights.get(&class).map(|rights| Arc::clone(&rights))
    }

    pub(crate) fn allows(&self, class: u32, action: Action, topic: &str) -> bool {
        match self.rights.get(&class) {
            Some(rights) => rights.allows(action, topic),
            None => action == Action::Subscribe || class == BROKER_CLASS || !is_reserved(topic),
        }
    }

    /// Whether nothing that the topic filter matches is open to be read.
    pub(crate) fn reads_nothing_of(&self, class: u32, filter: &str) -> bool {
        self.rights
            .get(&class)
            .is_some_and(|rights| rights.coverage(Action::Subscribe, filter) == Coverage::None)
    }
}

/// Which account stands below which.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    parents: HashMap<u64, u64>,
}

impl Tree {
    pub(crate) fn set_parent(&mut self, account: u64, parent: Option<u64>) {
        match parent {
            Some(parent) => self.parents.insert(account, parent),
            None => self.parents.remove(&account),
        };
    }

    /// The account, the one above it, and so on.
    pub(crate) fn upwards(&self, account: u64) -> impl Iterator<Item = u64> {
        std::iter::successors(Some(account), |at| self.parents.get(at).copied()).take(DEPTH_MAX)
    }

    /// Whether `account` is `branch` or stands somewhere below it.
    pub(crate) fn is_in(&self, branch: u64, account: u64) -> bool {
        self.upwards(account).any(|it| it == branch)
    }
}
