//! What outlives a broker: its journal and its accounts.

use std::path::PathBuf;
use std::sync::Arc;

use longshore_acl::{Authenticate, TokenKey};
use longshore_storage::Disk;

use super::StartError;
use crate::accounts::{Accounts, Options};
use crate::net::driver::Around;
use crate::shard::Config;
use crate::store::{Opened, Storage, Store};

/// Where a broker keeps what.
pub(super) struct Keeping {
    pub(super) storage: Option<Storage>,
    /// In place of the directory of `storage`.
    pub(super) disk: Option<Arc<dyn Disk>>,
    pub(super) accounts: Option<AccountsAt>,
}

/// What a broker found there.
pub(super) struct Kept {
    pub(super) store: Option<Arc<Store>>,
    pub(super) accounts: Option<Arc<Accounts>>,
    /// Where the accounts are.
    pub(super) folder: Option<PathBuf>,
}

impl Keeping {
    /// Opens it, and gives it to the shards that are to be made with `configs`. The journal comes
    /// first, for its lock says which process uses the directory; what it holds is given away last,
    /// for the accounts say whose is still wanted.
    pub(super) fn open(self, configs: &mut [Config], around: &Around) -> Result<Kept, StartError> {
        let disk = self.disk;
        let open = |storage| match disk {
            Some(disk) => Store::open_on(disk, storage),
            None => Store::open(storage),
        };
        let opened = self.storage.as_ref().map(open).transpose().map_err(StartError::Storage)?;
        let folder = self.accounts.as_ref().and_then(AccountsAt::folder);
        let accounts = self.accounts.map(AccountsAt::open).transpose()?;
        let begin = |mut opened: Opened| {
            if let Some(accounts) = &accounts {
                let directory = accounts.read();
                opened.retain_accounts(|account| directory.account(account).is_some());
            }
            opened.begin(configs, &around.mailboxes)
        };
        let store = opened.map(begin).transpose().map_err(StartError::Storage)?;
        if let Some(accounts) = &accounts {
            accounts.attach(Arc::clone(&configs[0].commons), Arc::clone(&around.mailboxes));
            let gate = || Arc::clone(accounts) as Arc<dyn Authenticate>;
            configs.iter_mut().for_each(|config| config.authenticate = gate());
        }
        Ok(Kept { store, accounts, folder })
    }
}

/// Accounts, or where they are kept.
#[derive(Clone)]
pub(super) enum AccountsAt {
    Memory(Arc<Accounts>),
    Folder(PathBuf, TokenKey, Options),
}

impl AccountsAt {
    /// Where they are kept, if they are.
    fn folder(&self) -> Option<PathBuf> {
        match self {
            Self::Memory(_) => None,
            Self::Folder(folder, ..) => Some(folder.clone()),
        }
    }

    fn open(self) -> Result<Arc<Accounts>, StartError> {
        match self {
            Self::Memory(accounts) => Ok(accounts),
            Self::Folder(folder, master, options) => {
                let accounts = Accounts::open(&folder, &master, options);
                Ok(Arc::new(accounts.map_err(StartError::Accounts)?))
            }
        }
    }
}
