//! Who a client turned out to be.

/// The account that is always there and may do everything.
pub const ROOT_ACCOUNT: u64 = 1;

/// Class of the clients let in without a token.
pub const ANONYMOUS_CLASS: u32 = 0;
/// Class of the clients that showed the master token.
pub const MASTER_CLASS: u32 = 1;
/// Class of what the broker itself publishes, which alone may do so under what is reserved.
pub const BROKER_CLASS: u32 = u32::MAX;
/// Number of the master token among the tokens of the root account.
pub const MASTER_TOKEN: u64 = 1;

/// Who a client is, fixed when it connects: the account it acts for and the rights it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Principal {
    /// The account whose topics, sessions and retained messages it sees.
    pub account: u64,
    /// Clients of one account and one class have equal rights: a verdict found for one holds for
    /// all of them, so caches take the pair as their key.
    pub class: u32,
    /// Number of the token it showed; `None` when it showed none.
    pub token: Option<u64>,
    /// Let in without valid credentials. Its messages carry no stamps of a token.
    pub anonymous: bool,
}

impl Principal {
    /// A client without valid credentials, let in as the root account.
    pub const fn anonymous() -> Self {
        Self { account: ROOT_ACCOUNT, class: ANONYMOUS_CLASS, token: None, anonymous: true }
    }

    /// A client that showed this token. Clients of one account with equal rights get one class.
    pub const fn of_token(account: u64, class: u32, token: u64) -> Self {
        Self { account, class, token: Some(token), anonymous: false }
    }

    /// What the broker itself and its modules act as: in the root account, with the right to
    /// publish what is reserved.
    pub const fn broker() -> Self {
        Self { account: ROOT_ACCOUNT, class: BROKER_CLASS, token: None, anonymous: false }
    }

    /// Whether it is the broker itself or one of its modules.
    pub const fn is_broker(&self) -> bool {
        self.class == BROKER_CLASS
    }

    /// A client that showed the master token.
    pub const fn master() -> Self {
        Self {
            account: ROOT_ACCOUNT,
            class: MASTER_CLASS,
            token: Some(MASTER_TOKEN),
            anonymous: false,
        }
    }
}
