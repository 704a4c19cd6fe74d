//! What a broker is to be, before it starts.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use longshore_acl::{Authenticate, TokenKey};
use longshore_storage::Disk;

use super::keeping::AccountsAt;
use crate::accounts::{Accounts, Options};
use crate::dialect::Dialect;
use crate::limits::Limits;
use crate::module::{Context, Maker, Module, ModuleError};
use crate::net::listen::{InvalidListen, Listen};
use crate::net::tls::Tls;
use crate::store::Storage;

/// How a broker is to be.
#[derive(Clone)]
pub struct Builder {
    pub(super) limits: Limits,
    pub(super) dialect: Dialect,
    pub(super) auth: Option<Arc<dyn Authenticate>>,
    pub(super) accounts: Option<AccountsAt>,
    pub(super) tls: Option<Tls>,
    pub(super) modules: Vec<Maker>,
    pub(super) listen: Vec<Result<Listen, InvalidListen>>,
    pub(super) shards: usize,
    pub(super) storage: Option<Storage>,
    pub(super) disk: Option<Arc<dyn Disk>>,
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder").field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl Builder {
    /// The bounds clients move in.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Where the broker does more than the standard asks for.
    #[must_use]
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Who may come in. Without it, a token is made that nobody knows.
    #[must_use]
    pub fn auth(mut self, auth: Arc<dyn Authenticate>) -> Self {
        self.auth = Some(auth);
        self
    }

    /// Lets in who shows a token of these accounts, in place of [`Builder::auth`].
    #[must_use]
    pub fn accounts(mut self, accounts: Arc<Accounts>) -> Self {
        self.accounts = Some(AccountsAt::Memory(accounts));
        self
    }

    /// The same with accounts that are kept in a folder, as [`Accounts::open`] opens them. They are
    /// opened once this process is known to be the only one that uses the storage.
    #[must_use]
    pub fn accounts_in(mut self, folder: PathBuf, master: TokenKey, options: Options) -> Self {
        self.accounts = Some(AccountsAt::Folder(folder, master, options));
        self
    }

    /// Plugs in a module, which is made when the accounts are open. It needs
    /// [`Builder::accounts_in`].
    #[must_use]
    pub fn module<M: Module>(
        mut self,
        make: impl Fn(Context) -> Result<M, ModuleError> + Send + Sync + 'static,
    ) -> Self {
        self.modules.push(Arc::new(move |context| Ok(Arc::new(make(context)?))));
        self
    }

    /// Certificates and key of the listeners that speak TLS.
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Threads that serve clients, each with a shard of them; at most 63. 0 takes one for each
    /// core, and one on two cores: there a second costs more in wake-ups than it gives. Modules
    /// have another.
    #[must_use]
    pub fn shards(mut self, shards: usize) -> Self {
        self.shards = shards;
        self
    }

    /// Remembers there what is to outlive this process: sessions that do not end with their
    /// connection, with what waits for them, and retained messages. Without it, nothing does.
    #[must_use]
    pub fn storage(mut self, storage: Storage) -> Self {
        self.storage = Some(storage);
        self
    }

    /// Remembers on this disk, as [`Builder::storage`] does in a directory: for tests of what a
    /// broker does when its disk is full or fails.
    #[doc(hidden)]
    #[must_use]
    pub fn storage_on(mut self, disk: Arc<dyn Disk>, storage: Storage) -> Self {
        self.disk = Some(disk);
        self.storage(storage)
    }

    /// Adds a listener, for example `mqtt://127.0.0.1:1883`; port 0 takes a free one.
    #[must_use]
    pub fn listen(mut self, url: impl AsRef<str>) -> Self {
        self.listen.push(url.as_ref().parse());
        self
    }

    /// Adds a listener.
    #[must_use]
    pub fn listen_on(mut self, listen: Listen) -> Self {
        self.listen.push(Ok(listen));
        self
    }
}
