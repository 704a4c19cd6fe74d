//! A module that plugs into the broker: what it publishes, and who may read it.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};

use longshore_acl::{Method, ROOT_ACCOUNT, TokenKey, TopicGrant};
use longshore_broker::accounts::{Accounts, Options};
use longshore_broker::module::{Running, State};
use longshore_broker::{Broker, Context, LinkError, Message, Module, StartError, Storage};
use longshore_codec::{QoS, SubscribeOptions};
use longshore_storage::SimulatedDisk;
use serde_json::{Value, json};

use super::client::{Ask, Client};

/// Has depots. Whoever writes to `depots/7/arrived` gets the depot 7 to say so, and its state;
/// a flood takes the state away.
struct Depots(Context);

impl Module for Depots {
    fn name(&self) -> &'static str {
        "depots"
    }

    fn grants(&self) -> Vec<TopicGrant> {
        let (uri, method) = (|| "gw/depots".to_owned(), Method::Get);
        let message = "flespi/message/gw/depots/{id}".to_owned();
        let messages = Some("messages".to_owned());
        vec![
            TopicGrant { filter: message, uri: uri(), submodule: messages, method },
            TopicGrant {
                filter: "flespi/state/gw/depots/{id}".to_owned(),
                uri: uri(),
                submodule: None,
                method,
            },
        ]
    }

    fn run(self: Arc<Self>) -> Running {
        Box::pin(async move {
            let link = self.0.link("depots");
            let options = SubscribeOptions::new(QoS::AtLeastOnce);
            let mut arrivals = link.subscribe("depots/+/arrived", options).await.unwrap();
            let work = async {
                while let Some(message) = arrivals.recv().await {
                    let id = message.topic.split('/').nth(1).unwrap_or_default().to_owned();
                    let of = |kind: &str| format!("flespi/{kind}/gw/depots/{id}");
                    let payload = String::from_utf8(message.payload.clone()).unwrap();
                    let account = message.account();
                    if payload == "flood" {
                        let state = of("state");
                        self.0.clear("flespi/state/gw/depots/+", move |_, topic| topic != state);
                        continue;
                    }
                    let told = Message::new(of("message"), payload.clone());
                    let told = told.qos(QoS::AtLeastOnce).of_account(account);
                    let outcome = link.publish(told).await.unwrap();
                    assert!(!outcome.reason.is_error(), "{outcome:?}");
                    let (topic, payload) = (of("state"), Some(payload));
                    let state = State { account, topic, payload, since: None };
                    self.0.retain_durably(vec![state]).await.unwrap();
                }
            };
            tokio::select! {
                () = self.0.stopped() => {}
                () = work => {}
            }
        })
    }
}

struct Rig {
    broker: Broker,
    accounts: Arc<Accounts>,
    master: TokenKey,
    _folder: tempfile::TempDir,
}

impl Rig {
    fn start(shards: usize) -> Self {
        let (folder, master) = (tempfile::tempdir().unwrap(), TokenKey::generate().unwrap());
        let path = folder.path().to_owned();
        let builder = Broker::builder().accounts_in(path, master.clone(), Options::default());
        let builder = builder.module(|context| Ok(Depots(context))).shards(shards);
        let broker = builder.listen("mqtt://127.0.0.1:0").start().unwrap();
        let accounts = Arc::clone(broker.accounts().unwrap());
        Self { broker, accounts, master, _folder: folder }
    }

    fn connect(&self, account: u64, id: &str, access: Value) -> Client {
        let body = json!({"ttl": 3600, "access": access});
        let (_, key) = self.accounts.create_token(account, &body).unwrap();
        Client::connect(&self.broker, &Ask::with(key.expose(), id))
    }
}

/// An ACL token that reads depots.
fn reader(ids: Value) -> Value {
    let submodules = json!([{"name": "messages", "methods": ["GET"]}]);
    let entry = json!({"uri": "gw/depots", "methods": ["GET"], "ids": ids,
        "submodules": submodules});
    json!({"type": 2, "acl": [entry]})
}

/// Spec 4.12, 5.3, 5.7.
#[test]
fn what_a_module_publishes_is_read_by_the_grants_it_registers() {
    for shards in [1, 3] {
        let rig = Rig::start(shards);
        let new = |name: &str| {
            rig.accounts.create_account(ROOT_ACCOUNT, &json!({"name": name})).unwrap().id
        };
        let (here, there) = (new("here"), new("there"));
        let filter = "flespi/+/gw/depots/+";
        let mut readers = [
            (rig.connect(here, "all", json!({"type": 0})), vec![7, 8]),
            (rig.connect(here, "seven", reader(json!([7]))), vec![7]),
            (rig.connect(here, "any", reader(json!("all"))), vec![7, 8]),
            (rig.connect(there, "stranger", json!({"type": 0})), vec![]),
        ];
        for (reader, _) in &mut readers {
            reader.hears_broker = true;
            assert_eq!(reader.subscribe(filter), 1);
        }
        let closed = reader(json!([]));
        let mut nobody = rig.connect(here, "nobody", closed);
        assert_eq!(nobody.subscribe(filter), 0x87);

        let mut writer = rig.connect(here, "writer", json!({"type": 0}));
        // The module may not have subscribed yet.
        while writer.publish("depots/1/arrived", "early").code() == 0x10 {}
        for (reader, seen) in &mut readers {
            let count = if seen.len() == 2 { 2 } else { 0 };
            reader.sorted(count);
        }
        for id in [7, 8] {
            writer.publish(&format!("depots/{id}/arrived"), "ship");
        }
        for (reader, seen) in &mut readers {
            let of = |kind: &'static str| {
                seen.iter().map(move |id| format!("flespi/{kind}/gw/depots/{id}=ship"))
            };
            let want: Vec<_> = of("message").chain(of("state")).collect();
            assert_eq!(reader.sorted(want.len()), want, "{shards} shards");
        }
        let topic = "flespi/state/gw/depots/7";
        assert_eq!(writer.publish(topic, "mine").code(), 0x87, "it is the module's");
        for (id, access, want) in [
            ("later", json!({"type": 0}), vec![format!("{topic}=ship")]),
            ("later", reader(json!([8])), vec![]),
        ] {
            let mut later = rig.connect(here, id, access);
            later.hears_broker = true;
            later.subscribe(topic);
            assert_eq!(later.sorted(want.len()), want, "what is retained, {shards} shards");
        }
        writer.publish("depots/7/arrived", "flood");
        let (told, _) = &mut readers[0];
        assert_eq!(told.sorted(1), [format!("{topic}=")], "7.3, {shards} shards");
        // A module's links are no sessions of anybody.
        let ask = Ask::with(rig.master.expose(), "root");
        let mut root = Client::connect(&rig.broker, &ask);
        root.hears_broker = true;
        root.subscribe("flespi/log/mqtt/sessions/depots/#");
        assert_eq!(root.messages(), [""; 0]);
    }
}

/// Retains one state after another, and says what became of each.
struct Clock {
    context: Context,
    told: Sender<Result<u64, LinkError>>,
}

impl Module for Clock {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn run(self: Arc<Self>) -> Running {
        Box::pin(async move {
            for number in 0.. {
                let topic = format!("flespi/state/gw/clocks/{number}");
                let payload = Some(number.to_string());
                let since = Some(1_700_000_000_500_000);
                let state = State { account: ROOT_ACCOUNT, topic, payload, since };
                let retained = self.context.retain_durably(vec![state]).await;
                let is_over = retained.is_err();
                self.told.send(retained.map(|()| number)).unwrap();
                if is_over {
                    break;
                }
            }
            self.context.stopped().await;
        })
    }
}

/// Spec 7.3: and who waits for it is not left without an answer where there is none.
#[test]
fn what_a_module_retains_durably_outlives_a_cut_of_the_power() {
    let (folder, master) = (tempfile::tempdir().unwrap(), TokenKey::generate().unwrap());
    let start = |disk: &SimulatedDisk, told: Option<Sender<_>>| {
        let path = folder.path().to_owned();
        let builder = Broker::builder()
            .storage_on(Arc::new(disk.clone()), Storage::at("simulated"))
            .accounts_in(path, master.clone(), Options::default())
            .listen("mqtt://127.0.0.1:0");
        let told = told.map(Mutex::new);
        match told {
            None => builder,
            Some(told) => builder
                .module(move |context| Ok(Clock { context, told: told.lock().unwrap().clone() })),
        }
        .start()
        .unwrap()
    };
    let (disk, (to, told)) = (SimulatedDisk::new(7), channel());
    let broker = start(&disk, Some(to));
    let mut durable: Vec<u64> = told.iter().take(50).map(Result::unwrap).collect();
    disk.cut_power();
    loop {
        match told.recv().unwrap() {
            Ok(number) => durable.push(number),
            Err(cause) => break assert_eq!(cause, LinkError::Closed(None)),
        }
    }
    drop(broker);

    let broker = start(&disk.restart(), None);
    let mut reader = Client::connect(&broker, &Ask::with(master.expose(), "reader"));
    reader.hears_broker = true;
    reader.subscribe("flespi/state/gw/clocks/+");
    let retained = reader.messages();
    for number in durable {
        let state = format!("flespi/state/gw/clocks/{number}={number}");
        assert!(retained.contains(&state), "{number} is lost");
    }
}

#[test]
fn a_module_needs_accounts_and_its_errors_stop_the_start() {
    let start = Broker::builder().module(|context| Ok(Depots(context))).start();
    assert!(matches!(start, Err(StartError::NoAccounts)), "{start:?}");
    let (folder, master) = (tempfile::tempdir().unwrap(), TokenKey::generate().unwrap());
    let path = folder.path().to_owned();
    let builder = Broker::builder().accounts_in(path, master, Options::default());
    let start = builder.module(|_| Err::<Depots, _>("the depot is closed".into())).start();
    let said = start.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(said.contains("the depot is closed"), "{said}");
}
