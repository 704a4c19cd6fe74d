//! Whatever a token does on whatever path, it sees and writes what its account and its rules say,
//! and nothing else: random accounts, tokens and deeds, against a reference that is naive.
//!
//! `LONGSHORE_SEED=7` runs that one again, `LONGSHORE_SEEDS=1000` more of them.
//!
//! What went wrong in other brokers with rules that hold on one path and not on another, and where
//! it is tested that it does not go wrong here; `rows` is the module beside this one:
//!
//! | advisory | what happened there | test |
//! | --- | --- | --- |
//! | CVE-2017-7650 | a wildcard as client identifier widened a rule | `rows`, and names here |
//! | CVE-2018-12550 | rules without an entry allowed all | `rows`, and tokens here |
//! | CVE-2018-20145 | a listener had no rules | `tests/clients/flespi.rs` |
//! | CVE-2021-34434 | a right was taken, and the subscription gave on | here |
//! | CVE-2026-33217 | rules did not hold in reserved topics | `rows`, and topics here |
//! | NATS 2026-18 | a shared subscription went around a rule | here |
//! | CVE-2026-6564 | another token took a session over, with what waited | `rows`, and here |
//! | CVE-2018-12546 | a retained message outlived its publisher's right | `rows` |
//! | NATS 2026-26 | what is retained or waits went around a rule | here |
//! | Mosquitto 2.0.16 | a will went where its client might not publish | here |
//! | MPInspector | the same client identifier, of another identity | `namespaces` |

use std::collections::BTreeMap;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use longshore_acl::{ROOT_ACCOUNT, TokenKey};
use longshore_broker::accounts::{Accounts, Options};
use longshore_broker::{Broker, Scheme};
use longshore_codec::{Packet, PacketType};
use serde_json::json;

use self::dice::Dice;
use self::reference::{Audience, Message, Reader, Reference, Subscription, Token, is_reserved};
use super::client::{Ask, Client, Got};

#[path = "property/deeds.rs"]
mod deeds;
#[path = "property/dice.rs"]
mod dice;
#[path = "../rest/client.rs"]
#[expect(dead_code, reason = "the tests of REST use the rest of it")]
mod http;
#[path = "property/reference.rs"]
mod reference;
#[path = "property/rows.rs"]
mod rows;

const SEEDS: u64 = 40;
const DEEDS: usize = 60;

/// What was not seen by then will not be.
const PATIENCE: Duration = Duration::from_secs(5);

/// Names of clients, that mean something where they must not.
const NAMES: [&str; 8] = ["watch", "#", "+", "a/#", "$share/g/#", "a,b", "flespi/+", "../#"];

/// A broker, who is connected to it, and what they should see.
struct World {
    seed: u64,
    dice: Dice,
    broker: Broker,
    accounts: Arc<Accounts>,
    reference: Reference,
    /// Numbers and keys of the tokens of the reference.
    keys: Vec<(u64, String)>,
    /// The readers of the reference: their name, version and connection.
    clients: Vec<Peer>,
    /// The token that was changed last, and what it could before, as long as a client may still
    /// find what it was given then: the broker tells of others' deeds when it comes to it.
    lately: Option<(usize, reference::Access)>,
    /// Messages so far.
    count: u64,
    /// What was done.
    story: Vec<String>,
}

struct Peer {
    name: &'static str,
    is_v5: bool,
    is_lasting: bool,
    client: Option<Client>,
}

impl World {
    fn new(seed: u64) -> Self {
        let master = TokenKey::generate().unwrap();
        let accounts = Arc::new(Accounts::in_memory(&master, Options::default()).unwrap());
        let builder = Broker::builder().accounts(Arc::clone(&accounts));
        let builder = builder.shards(if seed.is_multiple_of(2) { 1 } else { 3 });
        let builder = builder.listen("mqtt://127.0.0.1:0").listen("http://127.0.0.1:0");
        let mut world = Self {
            seed,
            dice: Dice::new(seed),
            broker: builder.start().unwrap(),
            accounts,
            reference: Reference::default(),
            keys: vec![(1, master.expose().to_owned())],
            clients: Vec::new(),
            lately: None,
            count: 0,
            story: Vec::new(),
        };
        let access = reference::Access::Master;
        world.reference.tokens.push(Token { account: ROOT_ACCOUNT, access });
        for _ in 0..world.dice.below(6) {
            let parent = world.any_account();
            // One too deep is refused.
            if let Ok(made) = world.accounts.create_account(parent, &json!({"name": "x"})) {
                world.reference.parents.insert(made.id, parent);
            }
        }
        for _ in 0..world.dice.between(3, 7) {
            let (account, access) = (world.any_account(), world.any_access());
            let body = json!({"ttl": 3600, "access": access.json()});
            let (token, key) = world.accounts.create_token(account, &body).unwrap();
            world.keys.push((token.id, key.expose().to_owned()));
            world.reference.tokens.push(Token { account, access });
        }
        for (at, name) in NAMES.into_iter().enumerate() {
            let token = if at == 0 { 0 } else { world.dice.below(world.keys.len()) };
            let (is_v5, is_lasting) = (at == 0 || world.dice.is(0.6), at > 0 && world.dice.is(0.5));
            world.clients.push(Peer { name, is_v5, is_lasting, client: None });
            let (subscriptions, waiting) = (BTreeMap::new(), Vec::new());
            let reader = Reader { token, subscriptions, is_awake: false, waiting };
            world.reference.readers.push(reader);
            world.wake(at);
        }
        // The first sees all there is to see.
        let all = Subscription { inner: "#".into(), only: None, is_shared: false };
        world.subscribe_as(0, "#", &all, None);
        world
    }

    /// How a client with a token comes in.
    fn ask<'a>(&'a self, token: usize, name: &'a str, is_v5: bool) -> Ask<'a> {
        let ask = Ask::with(&self.keys[token].1, name);
        if is_v5 { ask } else { ask.v3() }
    }

    fn account(&self, token: usize) -> u64 {
        self.reference.tokens[token].account
    }

    /// Lets a client in that was away, which gets what waited for it.
    fn wake(&mut self, at: usize) {
        let (token, peer) = (self.reference.readers[at].token, &self.clients[at]);
        let ask = self.ask(token, peer.name, peer.is_v5);
        let ask = if peer.is_lasting { ask.lasting() } else { ask };
        let mut client = Client::connect(&self.broker, &ask);
        (client.acknowledges, client.hears_broker) = (true, true);
        self.clients[at].client = Some(client);
        self.reference.readers[at].is_awake = true;
        let waiting = std::mem::take(&mut self.reference.readers[at].waiting);
        // What was not to be seen when it came may be given or not; what is not to be seen now may
        // not.
        let (mut must, mut may) = (Vec::new(), Vec::new());
        for ((account, topic, payload), was_seen) in waiting {
            if self.reference.may_see(token, account, &topic) {
                let list = if was_seen { &mut must } else { &mut may };
                list.push(comparable((account, topic, payload)));
            }
        }
        let mut got = self.collect(at, must.len());
        for message in &must {
            match got.iter().position(|it| it == message) {
                Some(place) => drop(got.remove(place)),
                None => self.fail(&format!("{at} lacks {message:?}")),
            }
        }
        if let Some(stray) = got.iter().find(|it| !may.contains(it)) {
            self.fail(&format!("{at} got {stray:?}"));
        }
    }

    /// What has come to a client, once there are `count` or it took too long.
    fn collect(&mut self, at: usize, count: usize) -> Vec<Message> {
        let deadline = Instant::now() + PATIENCE;
        let mut all = Vec::new();
        while let Some(client) = &mut self.clients[at].client {
            client.send(&Packet::Pingreq);
            let mut got = client.next();
            while let Some(Got::Message { .. }) = got {
                all.extend(got);
                got = client.next();
            }
            if !matches!(got, Some(Got::Packet(PacketType::Pingresp, ..))) {
                self.fail(&format!("{at} got {got:?}"));
            }
            let count_of_all = all.iter().filter(|got| !is_of_broker(got)).count();
            if count_of_all >= count || Instant::now() > deadline {
                break;
            }
        }
        all.into_iter().filter_map(|got| self.check(at, &got)).collect()
    }

    /// A message as it may come to a client at all; none if it is one of the broker's own.
    fn check(&self, at: usize, got: &Got) -> Option<Message> {
        let Got::Message { topic, payload, .. } = got else { return None };
        let token = self.reference.readers[at].token;
        if is_reserved(topic) {
            let before = self.lately.iter().filter(|(of, _)| *of == token).map(|(_, it)| it);
            let mut any = before.chain([&self.reference.tokens[token].access]);
            let is_open = any.any(|access| access.reads(topic));
            return if is_open { None } else { self.fail(&format!("{at} got {got:?}")) };
        }
        let said = payload.split(' ').next().unwrap_or_default();
        if self.clients[at].is_v5 && !said.is_empty() && got.named("cid") != Some(said) {
            self.fail(&format!("{at} is told another publisher: {got:?}"));
        }
        Some(comparable((said.parse().unwrap_or(0), topic.clone(), payload.clone())))
    }

    /// Looks who gets a message, and that nobody gets anything else.
    fn verify(&mut self, message: Message, audience: &Audience) {
        let deadline = Instant::now() + PATIENCE;
        let message = comparable(message);
        let mut counts = vec![0; self.clients.len()];
        let total = audience.plain.len() + audience.groups.len();
        loop {
            for (at, count) in counts.iter_mut().enumerate() {
                for got in self.collect(at, 0) {
                    *count += 1;
                    if got != message {
                        self.fail(&format!("{at} got {got:?} and not {message:?}"));
                    }
                }
            }
            if counts.iter().sum::<usize>() >= total || Instant::now() > deadline {
                break;
            }
        }
        self.lately = None;
        for (at, count) in counts.iter().enumerate() {
            let least = audience.plain.iter().filter(|it| **it == at).count();
            let most = least + audience.groups.iter().filter(|it| it.contains(&at)).count();
            if !(least..=most).contains(count) {
                let want = format!("{count} and not {least} to {most}");
                self.fail(&format!("{at} got {want} of {message:?}: {audience:?}"));
            }
        }
        if counts.iter().sum::<usize>() != total {
            self.fail(&format!("{counts:?} and not {total} of {message:?}: {audience:?}"));
        }
    }

    fn fail(&self, what: &str) -> ! {
        let clients = self.clients.iter().zip(&self.reference.readers).enumerate();
        let clients: String = clients
            .map(|(at, (peer, it))| {
                let (name, of) = (peer.name, if peer.is_v5 { "v5" } else { "v3" });
                format!("  {at}: {name} {of}, lasting {}: {it:?}\n", peer.is_lasting)
            })
            .collect();
        let tokens = self.reference.tokens.iter().enumerate();
        let tokens: String = tokens.map(|(at, token)| format!("  {at}: {token:?}\n")).collect();
        panic!(
            "seed {}: {what}\ndeeds\n  {}\nparents\n  {:?}\ntokens\n{tokens}clients\n{clients}",
            self.seed,
            self.story.join("\n  "),
            self.reference.parents,
        );
    }

    fn http(&self) -> TcpStream {
        let mut addresses = self.broker.addresses().iter();
        let (_, address) = addresses.find(|(listen, _)| listen.scheme == Scheme::Http).unwrap();
        TcpStream::connect(address).unwrap()
    }
}

/// Whether it is a message of the broker's own.
fn is_of_broker(got: &Got) -> bool {
    matches!(got, Got::Message { topic, .. } if is_reserved(topic))
}

/// A message without what a receiver cannot tell: who cleared a topic.
fn comparable((account, topic, payload): Message) -> Message {
    let account = if payload.is_empty() { 0 } else { account };
    (account, topic, payload)
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Spec 4.7 to 4.12, 5, 6, 9.7, 13.4, 14.1, 15.2.4 to 15.2.7.
#[test]
fn nobody_sees_or_writes_anything_but_what_account_and_rules_say() {
    let seeds = match number("LONGSHORE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LONGSHORE_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let mut world = World::new(seed);
        for _ in 0..DEEDS {
            world.act();
        }
    }
}
