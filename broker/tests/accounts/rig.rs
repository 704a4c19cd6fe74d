//! A broker with accounts, in memory or in a data directory.

use std::path::PathBuf;
use std::sync::Arc;

use longshore_acl::{ROOT_ACCOUNT, TokenKey};
use longshore_broker::accounts::{Accounts, Options};
use longshore_broker::{Broker, Builder, Dialect, Storage};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::client::{Ask, Client};

/// What a token may do with a topic: all there is.
pub(crate) const BOTH: &[&str] = &["publish", "subscribe"];

/// A broker with accounts, and the key of the master token.
pub(crate) struct Rig {
    pub(crate) broker: Broker,
    pub(crate) accounts: Arc<Accounts>,
    pub(crate) master: TokenKey,
}

impl Rig {
    pub(crate) fn start() -> Self {
        Self::of(Options::default(), 1)
    }

    pub(crate) fn of(options: Options, shards: usize) -> Self {
        Self::with(options, |builder| builder.shards(shards))
    }

    /// The same with another dialect.
    pub(crate) fn speaking(dialect: Dialect, options: Options, shards: usize) -> Self {
        Self::with(options, |builder| builder.dialect(dialect).shards(shards))
    }

    /// A broker that is built like this.
    pub(crate) fn with(options: Options, how: impl FnOnce(Builder) -> Builder) -> Self {
        let master = TokenKey::generate().unwrap();
        let accounts = Arc::new(Accounts::in_memory(&master, options).unwrap());
        let builder = how(Broker::builder().accounts(Arc::clone(&accounts)));
        let broker = builder.listen("mqtt://127.0.0.1:0").start().unwrap();
        Self { broker, accounts, master }
    }

    /// An account below `parent`.
    pub(crate) fn account(&self, parent: u64) -> u64 {
        self.accounts.create_account(parent, &json!({"name": "test"})).unwrap().id
    }

    /// A token of an account that opens all of it.
    pub(crate) fn standard(&self, account: u64) -> (u64, String) {
        self.token(account, json!({"type": 0}))
    }

    /// A token of an account with these entries of MQTT.
    pub(crate) fn acl(&self, account: u64, entries: &[(&str, &[&str])]) -> (u64, String) {
        let entry = |(topic, actions): &(&str, &[&str])| {
            let (uri, it) = ("mqtt", topic);
            json!({"uri": uri, "topic": it, "actions": actions})
        };
        let acl: Vec<Value> = entries.iter().map(entry).collect();
        self.token(account, json!({"type": 2, "acl": acl}))
    }

    pub(crate) fn token(&self, account: u64, access: Value) -> (u64, String) {
        let body = json!({"ttl": 3600, "access": access});
        let (token, key) = self.accounts.create_token(account, &body).unwrap();
        (token.id, key.expose().to_owned())
    }

    /// Sets a limit for an account; its number.
    pub(crate) fn limit(&self, account: u64, body: Value) -> u64 {
        let limit = self.accounts.create_limit(ROOT_ACCOUNT, &body).unwrap().id;
        self.accounts.update_account(account, None, &json!({"limit_id": limit})).unwrap();
        limit
    }

    pub(crate) fn connect(&self, token: &str, id: &str) -> Client {
        Client::connect(&self.broker, &Ask::with(token, id))
    }
}

/// A data directory with accounts, which outlives its brokers, and the key of the master token.
pub(crate) struct DataDir {
    pub(crate) folder: TempDir,
    pub(crate) master: TokenKey,
}

impl DataDir {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), master: TokenKey::generate().unwrap() }
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    pub(crate) fn start(&self) -> Broker {
        let storage = Storage::at(self.journal());
        let builder = Broker::builder().storage(storage).listen("mqtt://127.0.0.1:0");
        let (path, key) = (self.folder.path().to_owned(), self.master.clone());
        builder.accounts_in(path, key, Options::default()).start().unwrap()
    }
}
