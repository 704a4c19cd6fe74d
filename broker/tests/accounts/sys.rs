//! The counters that the broker shows under `$SYS/broker`.

use longshore_acl::ROOT_ACCOUNT;
use longshore_broker::accounts::Options;
use longshore_broker::{Broker, Dialect, Storage};

use super::client::{Ask, Client, Got};
use super::rig::{BOTH, DataDir, Rig};

/// The value of a counter, retained or just told.
fn counter(client: &mut Client, name: &str) -> String {
    assert_eq!(client.subscribe(&format!("$SYS/broker/{name}")), 1);
    match client.next() {
        Some(Got::Message { payload, .. }) => payload,
        other => panic!("no counter: {other:?}"),
    }
}

#[test]
fn the_root_account_reads_the_counters_and_nobody_writes_them() {
    for shards in [1, 3] {
        let rig = Rig::of(Options::default(), shards);
        let mut root = rig.connect(rig.master.expose(), "root");
        assert_eq!(counter(&mut root, "version"), concat!("longshore version ", "0.1.0"));
        assert_eq!(
            counter(&mut root, "clients/maximum").parse::<u64>().map(|it| it <= 1),
            Ok(true)
        );
        assert_eq!(root.publish("$SYS/broker/version", "mine").code(), 0x87);
        let (_, listed) = rig.acl(ROOT_ACCOUNT, &[("$SYS/#", BOTH)]);
        let mut listed = rig.connect(&listed, "listed");
        assert_eq!(listed.publish("$SYS/broker/version", "mine").code(), 0x87);
        assert!(counter(&mut listed, "uptime").ends_with(" seconds"));

        let child = rig.account(ROOT_ACCOUNT);
        let mut child = rig.connect(&rig.standard(child).1, "child");
        assert_eq!(child.subscribe("$SYS/#"), 1);
        assert_eq!(child.messages(), [""; 0], "{shards} shards: they are of the root account");
        assert_eq!(child.publish("$SYS/broker/version", "mine").code(), 0x87);
        assert_eq!(root.messages(), [""; 0]);
    }
}

#[test]
fn a_bulk_deletion_leaves_the_counters() {
    let rig = Rig::start();
    let mut root = rig.connect(rig.master.expose(), "root");
    counter(&mut root, "version");
    root.publish("$SYS/#", "");
    assert!(!counter(&mut root, "version").is_empty());
}

#[test]
fn counters_are_of_one_process_and_have_a_switch() {
    let dir = DataDir::new();
    let broker = dir.start();
    let ask = Ask::with(dir.master.expose(), "root");
    counter(&mut Client::connect(&broker, &ask), "version");
    drop(broker);
    let mut dialect = Dialect::default();
    dialect.sys_topics = false;
    let builder = Broker::builder().storage(Storage::at(dir.journal())).dialect(dialect);
    let (path, key) = (dir.folder.path().to_owned(), dir.master.clone());
    let builder = builder.accounts_in(path, key, Options::default());
    let broker = builder.listen("mqtt://127.0.0.1:0").start().unwrap();
    let mut client = Client::connect(&broker, &ask);
    assert_eq!(client.subscribe("$SYS/#"), 1);
    assert_eq!(client.messages(), [""; 0]);
}
