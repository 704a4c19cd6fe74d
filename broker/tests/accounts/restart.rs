//! Accounts that are kept, and what the journal has of them, when the broker is started again.

use longshore_acl::{ROOT_ACCOUNT, Row};
use longshore_broker::accounts::{Options, TABLES_FOLDER};
use longshore_broker::{Broker, Storage};
use longshore_storage::{Changes, Tables};
use serde_json::json;

use super::client::{Ask, Client};
use super::rig::DataDir;

impl DataDir {
    /// Takes an account out of the tables, as a broker does that is killed before it comes to take
    /// it out of the journal.
    fn remove(&self, account: u64, token: u64) {
        let tables = Tables::open(&self.folder.path().join(TABLES_FOLDER)).unwrap();
        let table = tables.table("accounts").unwrap();
        let mut changes = Changes::new();
        changes.remove(&table, &Row::account_key(account));
        changes.remove(&table, &Row::token_key(token));
        tables.commit(changes).unwrap();
    }
}

/// Sessions, shared groups and retained messages of an account go with it, and nothing else does.
#[test]
fn what_the_journal_has_of_an_account_that_is_gone_is_dropped() {
    let data = DataDir::new();
    let broker = data.start();
    let accounts = broker.accounts().unwrap();
    let child = |name: &str| {
        let account = accounts.create_account(ROOT_ACCOUNT, &json!({"name": name})).unwrap().id;
        let body = json!({"ttl": 3600, "access": {"type": 0}});
        let (token, key) = accounts.create_token(account, &body).unwrap();
        (account, token.id, key)
    };
    let (gone, stays) = (child("gone"), child("stays"));
    let root = Ask::with(data.master.expose(), "root").lasting();
    let mut keys = vec![data.master.expose()];
    keys.extend([&gone, &stays].map(|(_, _, key)| key.expose()));
    for (name, key) in ["root", "gone", "stays"].into_iter().zip(&keys) {
        let mut client = Client::connect(&broker, &Ask::with(key, "client").lasting());
        client.subscribe("#");
        client.subscribe("$share/g/#");
        client.retain("kept", name);
    }
    Client::connect(&broker, &root).subscribe("#");
    for (name, key) in ["root", "gone", "stays"].into_iter().zip(&keys) {
        Client::connect(&broker, &Ask::with(key, "publisher")).publish("waits", name);
    }
    drop(broker);

    // All is there while the account is.
    let broker = data.start();
    assert_eq!(broker.stats().sessions.get(), 4);
    drop(broker);
    data.remove(gone.0, gone.1);

    // Again and again, until the journal is compacted.
    for _ in 0..2 {
        let broker = data.start();
        assert_eq!(broker.stats().sessions.get(), 3);
        let mut reader = Client::connect(&broker, &Ask::with(data.master.expose(), "reader"));
        reader.subscribe("kept");
        let mut retained = reader.messages();
        retained.sort();
        assert_eq!(retained, ["kept=root", "kept=stays"]);
    }
    let broker = data.start();
    let mut client = Client::connect(&broker, &root);
    let messages = client.messages();
    assert!(messages.contains(&"waits=gone".into()), "it was the reader's: {messages:?}");
    let stays = Ask::with(stays.2.expose(), "client").lasting();
    let messages = Client::connect(&broker, &stays).messages();
    assert!(messages.contains(&"waits=stays".into()), "{messages:?}");
}

/// Whoever comes second learns who was first, and nothing is touched.
#[test]
fn a_second_broker_of_a_folder_is_refused_before_it_opens_the_accounts() {
    let data = DataDir::new();
    let _broker = data.start();
    let other = tempfile::tempdir().unwrap();
    let builder = Broker::builder().storage(Storage::at(data.journal()));
    let path = other.path().to_owned();
    let builder = builder.accounts_in(path, data.master.clone(), Options::default());
    let refused = builder.start().unwrap_err().to_string();
    assert!(refused.contains(&format!("in use by process {}", std::process::id())), "{refused}");
    assert_eq!(std::fs::read_dir(other.path()).unwrap().count(), 0);
}
