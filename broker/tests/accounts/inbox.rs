//! What a module receives by a session that lasts.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use longshore_acl::{ROOT_ACCOUNT, TokenKey};
use longshore_broker::accounts::Options;
use longshore_broker::module::Running;
use longshore_broker::{
    Broker, Builder, Context, Limits, LinkError, Message, Module, QueueOverflow, Storage,
};
use longshore_codec::{QoS, ReasonCode, SubscribeOptions};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::Notify;

use super::client::{Ask, Client};
use super::rig::BOTH;

/// Writes down what it hears once it may, and says so; it is done with all but what begins with
/// `again`.
struct Clerk {
    context: Context,
    may_work: Arc<Notify>,
    heard: Sender<String>,
}

impl Module for Clerk {
    fn name(&self) -> &'static str {
        "clerk"
    }

    fn run(self: Arc<Self>) -> Running {
        Box::pin(async move {
            let mut inbox = self.context.link("clerk").inbox("in");
            let options = SubscribeOptions::new(QoS::AtLeastOnce);
            inbox.subscribe("notes/#", options).await.unwrap();
            self.heard.send("ready".to_owned()).unwrap();
            let work = async {
                self.may_work.notified().await;
                while let Some(batch) = inbox.recv(100).await {
                    let texts = batch.messages.iter().map(|message| {
                        let payload = String::from_utf8_lossy(&message.payload).into_owned();
                        format!("{} {payload}", message.account())
                    });
                    let texts: Vec<_> = texts.collect();
                    if !texts.iter().any(|text| text.contains("again")) {
                        inbox.done(&batch);
                    }
                    texts.into_iter().for_each(|text| self.heard.send(text).unwrap());
                }
            };
            tokio::select! {
                () = self.context.stopped() => {}
                () = work => {}
            }
        })
    }
}

/// A data directory.
struct Office {
    folder: TempDir,
    key: TokenKey,
}

impl Office {
    fn builder(&self) -> Builder {
        let path = self.folder.path();
        Broker::builder()
            .storage(Storage::at(path.join("journal")))
            .accounts_in(path.to_owned(), self.key.clone(), Options::default())
            .listen("mqtt://127.0.0.1:0")
    }

    /// A broker with a clerk, and what that says.
    fn start(&self) -> (Broker, Receiver<String>) {
        let (broker, said, may_work) = self.start_idle(self.builder());
        may_work.notify_one();
        (broker, said)
    }

    /// The same with a clerk that does nothing until it is told that it may.
    fn start_idle(&self, builder: Builder) -> (Broker, Receiver<String>, Arc<Notify>) {
        let (heard, said) = channel();
        let (heard, may_work) = (Mutex::new(heard), Arc::<Notify>::default());
        let given = Arc::clone(&may_work);
        let make = move |context| {
            let (heard, may_work) = (heard.lock().unwrap().clone(), Arc::clone(&given));
            Ok(Clerk { context, may_work, heard })
        };
        let broker = builder.module(make).start().unwrap();
        assert_eq!(said.recv().unwrap(), "ready");
        (broker, said, may_work)
    }

    fn client(&self, broker: &Broker, id: &str) -> Client {
        Client::connect(broker, &Ask::with(self.key.expose(), id))
    }
}

#[test]
fn what_comes_while_a_module_is_away_waits_and_what_is_not_done_comes_again() {
    let office =
        Office { folder: tempfile::tempdir().unwrap(), key: TokenKey::generate().unwrap() };
    let (broker, said) = office.start();
    let mut client = office.client(&broker, "writer");
    assert_eq!(client.publish("notes/1", "first").code(), 0);
    assert_eq!(said.recv().unwrap(), "1 first");
    assert_eq!(client.publish("notes/1", "again").code(), 0);
    assert_eq!(said.recv().unwrap(), "1 again");
    drop((client, broker));

    let broker = office.builder().start().unwrap();
    let accounts = broker.accounts().unwrap();
    let child = accounts.create_account(ROOT_ACCOUNT, &json!({"name": "child"})).unwrap().id;
    let body = json!({"ttl": 60, "access": {"type": 0}});
    let (_, key) = accounts.create_token(child, &body).unwrap();
    let mut client = Client::connect(&broker, &Ask::with(key.expose(), "below"));
    assert_eq!(client.publish("notes/2", "meanwhile").code(), 0, "it waits for the module");
    drop((client, broker));

    let (broker, said) = office.start();
    assert_eq!(said.recv().unwrap(), "1 again");
    assert_eq!(said.recv().unwrap(), format!("{child} meanwhile"));
    drop(broker);
}

#[test]
fn a_module_that_does_not_keep_up_loses_nothing_and_publishers_are_told() {
    for (overflow, shards) in [(QueueOverflow::End, 1), (QueueOverflow::DropOldest, 3)] {
        let office =
            Office { folder: tempfile::tempdir().unwrap(), key: TokenKey::generate().unwrap() };
        let mut limits = Limits::default();
        (limits.inflight, limits.queue_messages, limits.queue_overflow) = (10, 40, overflow);
        let builder = office.builder().limits(limits).shards(shards);
        let (broker, said, may_work) = office.start_idle(builder);
        let mut client = office.client(&broker, "writer");
        let mut taken = Vec::new();
        let mut publish = |n: u32| {
            let code = client.publish("notes/1", &n.to_string()).code();
            taken.extend((code == 0).then(|| format!("1 {n}")));
            code
        };
        let codes: Vec<_> = (0..100).map(&mut publish).collect();
        let count = codes.iter().filter(|code| **code == 0).count();
        assert!((80..90).contains(&count), "those in flight, those that wait: {count}");
        assert_eq!(codes[count..], vec![0x83; 100 - count], "{shards} shards");
        may_work.notify_one();
        // It takes them from now on, and so has room.
        let mut more = (100..).map(&mut publish).take(1_000_000);
        assert!(more.any(|code| code == 0));
        drop(more);
        for want in taken {
            assert_eq!(said.recv().unwrap(), want);
        }
    }
}

/// So many that they are under way when there is room again.
const NOTES: u32 = 20_000;

/// Publishes notes once it may, and says how many were taken.
struct Author {
    context: Context,
    may_publish: Arc<Notify>,
    told: Sender<usize>,
}

impl Module for Author {
    fn name(&self) -> &'static str {
        "author"
    }

    fn run(self: Arc<Self>) -> Running {
        Box::pin(async move {
            self.may_publish.notified().await;
            let note = |n: u32| {
                let note = Message::new("notes/2", n.to_string()).qos(QoS::AtLeastOnce);
                note.of_account(ROOT_ACCOUNT)
            };
            let notes: Vec<_> = (0..NOTES).map(note).collect();
            let outcomes = self.context.link("author").publish_surely(&notes).await.unwrap();
            let taken = outcomes.iter().filter(|it| it.reason == ReasonCode::Success).count();
            self.told.send(taken).unwrap();
            self.context.stopped().await;
        })
    }
}

#[test]
fn what_a_full_inbox_refuses_is_published_again_until_it_is_taken() {
    let office =
        Office { folder: tempfile::tempdir().unwrap(), key: TokenKey::generate().unwrap() };
    let mut limits = Limits::default();
    (limits.inflight, limits.queue_messages) = (1_000, 4_000);
    let (told, taken) = channel();
    let (told, may_publish) = (Mutex::new(told), Arc::<Notify>::default());
    let given = Arc::clone(&may_publish);
    let make = move |context| {
        let (told, may_publish) = (told.lock().unwrap().clone(), Arc::clone(&given));
        Ok(Author { context, may_publish, told })
    };
    let builder = office.builder().limits(limits).shards(2).module(make);
    let (broker, said, may_work) = office.start_idle(builder);
    may_publish.notify_one();
    let mut client = office.client(&broker, "writer");
    while client.publish("notes/1", "client").code() != 0x83 {}
    assert!(taken.try_recv().is_err(), "it waits as long as there is no room");
    may_work.notify_one();
    assert_eq!(taken.recv().unwrap(), NOTES as usize);
    let of_author = |said: &String| said.starts_with("1 ") && !said.ends_with("client");
    let heard = said.iter().filter(of_author).take(NOTES as usize);
    let heard: Vec<u32> = heard.map(|it| it[2..].parse().unwrap()).collect();
    assert!(heard.into_iter().eq(0..NOTES), "in order, none lost, none twice");
}

#[test]
fn a_session_with_more_in_flight_than_a_module_takes_at_once_is_taken_up_again() {
    let office =
        Office { folder: tempfile::tempdir().unwrap(), key: TokenKey::generate().unwrap() };
    let (broker, said, _) = office.start_idle(office.builder());
    let mut client = office.client(&broker, "writer");
    let texts: Vec<_> = (0..1_000).map(|n| format!("{n} {}", "x".repeat(4_000))).collect();
    for text in &texts {
        assert_eq!(client.publish("notes/1", text).code(), 0);
    }
    drop((client, broker, said));
    let (_broker, said) = office.start();
    for text in texts {
        assert_eq!(said.recv().unwrap(), format!("1 {text}"));
    }
}

#[test]
fn nobody_takes_the_session_of_a_module() {
    let office =
        Office { folder: tempfile::tempdir().unwrap(), key: TokenKey::generate().unwrap() };
    let (broker, said) = office.start();
    let ask = Ask::with(office.key.expose(), "clerk/in");
    let (_, answer) = Client::attempt(&broker, &ask);
    assert_eq!(answer.code(), 0x87);
    let mut client = office.client(&broker, "writer");
    assert_eq!(client.publish("notes/1", "still").code(), 0);
    assert_eq!(said.recv().unwrap(), "1 still");
    drop((client, broker));
    // A client of that name was first.
    let broker = office.builder().start().unwrap();
    let (_, answer) = Client::attempt(&broker, &ask);
    assert_eq!(answer.code(), 0x87, "the session is there though the module is not");
}

#[test]
fn what_a_client_left_under_the_name_of_a_module_is_not_inherited_by_it() {
    let office =
        Office { folder: tempfile::tempdir().unwrap(), key: TokenKey::generate().unwrap() };
    let broker = office.builder().start().unwrap();
    let ask = Ask::with(office.key.expose(), "clerk/in").lasting();
    let mut before = Client::connect(&broker, &ask);
    assert_eq!(before.subscribe("diary/#"), 1);
    drop((before, broker));
    let (broker, said) = office.start();
    let mut client = office.client(&broker, "writer");
    assert_eq!(client.publish("diary/1", "mine").code(), 0x10);
    assert_eq!(client.publish("notes/1", "yours").code(), 0);
    assert_eq!(said.recv().unwrap(), "1 yours");
}

#[test]
fn a_module_is_in_no_limit_and_no_count() {
    let office =
        Office { folder: tempfile::tempdir().unwrap(), key: TokenKey::generate().unwrap() };
    let mut limits = Limits::default();
    (limits.connections, limits.connections_per_address, limits.sessions) = (1, 1, 1);
    (limits.subscriptions, limits.topic_levels) = (0, 1);
    let (broker, ..) = office.start_idle(office.builder().limits(limits));
    let counts = || {
        let stats = broker.stats();
        let counters = [&stats.connections, &stats.sessions, &stats.subscriptions];
        (counters.map(|it| it.get()), stats.accepted_total.get())
    };
    assert_eq!(counts(), ([0, 0, 0], 0));
    let mut client = office.client(&broker, "only");
    assert_eq!(client.publish("note", "one level").code(), 0x10);
    assert_eq!(client.subscribe("note"), 0x97);
    assert_eq!(counts(), ([1, 1, 0], 1));
}

/// Says what became of three messages, the second of which is too large for the broker.
struct Teller {
    context: Context,
    told: Sender<Option<LinkError>>,
}

impl Module for Teller {
    fn name(&self) -> &'static str {
        "teller"
    }

    fn run(self: Arc<Self>) -> Running {
        Box::pin(async move {
            let link = self.context.link("teller");
            for bytes in [1, 2_000, 1] {
                let message = Message::new("tales", vec![b'x'; bytes]).qos(QoS::AtLeastOnce);
                self.told.send(link.publish(message).await.err()).unwrap();
            }
            self.context.stopped().await;
        })
    }
}

#[test]
fn a_link_of_a_module_opens_again_after_the_broker_has_closed_it() {
    let office =
        Office { folder: tempfile::tempdir().unwrap(), key: TokenKey::generate().unwrap() };
    let mut limits = Limits::default();
    limits.packet_bytes = 1_000;
    let (told, said) = channel();
    let told = Mutex::new(told);
    let make = move |context| Ok(Teller { context, told: told.lock().unwrap().clone() });
    let _broker = office.builder().limits(limits).module(make).start().unwrap();
    let closed = LinkError::Closed(Some(ReasonCode::PacketTooLarge));
    let answers: Vec<_> = said.iter().take(3).collect();
    assert_eq!(answers, [None, Some(closed), None]);
}

/// Spec 3.8: `auth.bind_client_id`.
#[test]
fn a_client_identifier_may_be_bound_to_its_token() {
    for (bound, want) in [(false, 0), (true, 0x87)] {
        for shards in [1, 3] {
            let options = {
                let mut options = Options::default();
                options.bind_client_id = bound;
                options
            };
            let rig = super::rig::Rig::of(options, shards);
            let keys = [0, 1].map(|_| rig.acl(ROOT_ACCOUNT, &[("#", BOTH)]).1);
            let ask = Ask::with(&keys[0], "same").lasting();
            let first = Client::connect(&rig.broker, &ask);
            let (_, answer) = Client::attempt(&rig.broker, &Ask::with(&keys[1], "same"));
            assert_eq!(answer.code(), want, "{shards} shards, bound: {bound}");
            drop(first);
            let (_, answer) = Client::attempt(&rig.broker, &ask);
            assert_eq!(answer.code(), 0, "its own token");
        }
    }
}
