//! What is said to clients with a token, and the switches that leave it out.

use longshore_acl::ROOT_ACCOUNT;
use longshore_broker::Dialect;
use longshore_broker::accounts::Options;

use super::client::{Ask, Client};
use super::rig::Rig;

/// Spec 9.1; 11.11.
#[test]
fn stamps_and_what_connack_tells_are_left_out_when_they_are_off() {
    for (stamp, describe_session) in [(true, true), (false, true), (true, false)] {
        let mut dialect = Dialect::default();
        (dialect.stamp, dialect.describe_session) = (stamp, describe_session);
        let rig = Rig::speaking(dialect, Options::default(), 1);
        let ask = Ask { will: Some("t"), ..Ask::with(rig.master.expose(), "client") };
        let (mut client, answer) = Client::attempt(&rig.broker, &ask);
        for name in ["token", "subscriptions"] {
            assert_eq!(answer.named(name).is_some(), describe_session, "{name}");
        }
        let mut reader = rig.connect(rig.master.expose(), "reader");
        reader.subscribe("t");
        client.retain("t", "x");
        client.vanish();
        let mut later = rig.connect(rig.master.expose(), "later");
        later.subscribe("t");
        for got in [reader.next(), reader.next(), later.next()] {
            let got = got.unwrap();
            for name in ["timestamp", "token_id", "cid"] {
                assert_eq!(got.named(name).is_some(), stamp, "{name} of {got:?}");
            }
        }
    }
}

/// Spec 3.4.
#[test]
fn a_short_key_opens_nothing_and_fewer_failures_are_enough_where_that_is_asked_for() {
    let mut options = Options::default();
    (options.special, options.failures_per_minute) = (false, 3);
    let rig = Rig::of(options, 1);
    let (id, key) = rig.standard(ROOT_ACCOUNT);
    let number = id.to_string();
    let short =
        Ask { username: Some(&number), password: Some(&key[..16]), ..Ask::with("", "client") };
    for want in [0x86, 0x86, 0x86, 0x9f] {
        assert_eq!(Client::attempt(&rig.broker, &short).1.code(), want);
    }
}
