//! On whose behalf clients act, and what each of those may do.

use hashbrown::HashMap;
use longshore_acl::Principal;

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
