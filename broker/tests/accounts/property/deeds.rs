//! What is done at random, and what should come of it.

use std::collections::BTreeMap;

use longshore_acl::ROOT_ACCOUNT;
use longshore_codec::{Disconnect, Packet, PacketType, Properties, ReasonCode};
use serde_json::{Value, json};

use super::http::send;
use super::reference::{Access, Audience, Entry, Message, Reference, Subscription};
use super::{Ask, Client, Got, World, is_reserved};

/// Levels of topics; with wildcards, of filters.
const LEVELS: [&str; 5] = ["a", "b", "a,b", "flespi", "c"];
const LEVELS_MAX: usize = 3;

/// Topics of the broker itself.
const RESERVED: [&str; 6] = [
    "flespi",
    "flespi/log/mqtt/x",
    "flespi/state/mqtt/x",
    "flespi/log/platform/x",
    "flespi/state/platform/x",
    "flespi/message/gw/devices/1",
];

impl World {
    /// Does something.
    pub(super) fn act(&mut self) {
        match self.dice.below(100) {
            0..40 => self.publish(),
            40..46 => self.clear(),
            46..68 => self.subscribe(),
            68..76 => self.read_by_rest(),
            76..84 => self.write_by_rest(),
            84..89 => self.will(),
            89..94 => self.change(),
            _ => self.come_and_go(),
        }
        self.verify_retained();
    }

    /// Looks that what all accounts retain is what it should be.
    fn verify_retained(&self) {
        let key = format!("Authorization: FlespiToken {}", self.keys[0].1);
        let answer = send(&mut self.http(), "GET /mqtt/messages/%23", &[&key], b"");
        let got: BTreeMap<_, _> = answer
            .result()
            .iter()
            .map(message_of)
            .filter(|(_, topic, _)| !is_reserved(topic))
            .map(|(account, topic, payload)| ((account, topic), payload))
            .collect();
        if got != self.reference.retained {
            self.fail(&format!("retained: {got:?} and not {:?}", self.reference.retained));
        }
    }

    pub(super) fn any_account(&mut self) -> u64 {
        let all: Vec<u64> = [ROOT_ACCOUNT].into_iter().chain(self.parents()).collect();
        self.dice.one(&all)
    }

    fn parents(&self) -> impl Iterator<Item = u64> {
        self.reference.parents.keys().copied()
    }

    pub(super) fn any_access(&mut self) -> Access {
        match self.dice.below(10) {
            0 => Access::Standard,
            1 => Access::Master,
            _ => Access::Listed((0..self.dice.below(4)).map(|_| self.any_entry()).collect()),
        }
    }

    fn any_entry(&mut self) -> Entry {
        let topic = self.dice.is(0.85).then(|| self.any_filter());
        let some = |dice: &mut super::Dice, all: &[&'static str]| {
            all.iter().copied().filter(|_| dice.is(0.6)).collect::<Vec<_>>()
        };
        let mut actions = some(&mut self.dice, &["publish", "subscribe"]);
        if topic.is_some() && actions.is_empty() {
            actions.push("subscribe");
        }
        let methods = some(&mut self.dice, &["GET", "POST", "DELETE"]);
        Entry { topic, actions, methods }
    }

    fn any_topic(&mut self) -> String {
        let levels = (0..self.dice.between(1, LEVELS_MAX)).map(|_| self.dice.one(&LEVELS));
        levels.collect::<Vec<_>>().join("/")
    }

    fn any_filter(&mut self) -> String {
        let topic = self.any_topic();
        let mut levels: Vec<&str> = topic.split('/').collect();
        for level in &mut levels {
            if self.dice.is(0.35) {
                *level = "+";
            }
        }
        if self.dice.is(0.4) {
            levels.push("#");
        }
        if self.dice.is(0.15) {
            levels = vec!["#"];
        }
        levels.join("/")
    }

    /// A filter that is no topic.
    fn any_mask(&mut self) -> String {
        loop {
            let filter = self.any_filter();
            if filter.contains(['+', '#']) {
                return filter;
            }
        }
    }

    fn any_awake(&mut self) -> usize {
        let readers = self.reference.readers.iter().enumerate();
        let all: Vec<_> = readers.filter(|(_, it)| it.is_awake).map(|(at, _)| at).collect();
        self.dice.one(&all)
    }

    fn next_payload(&mut self, account: u64, topic: &str) -> String {
        self.count += 1;
        format!("{account} {topic} {}", self.count)
    }

    fn client(&mut self, at: usize) -> &mut Client {
        self.clients[at].client.as_mut().unwrap()
    }

    /// What comes of a message that was sent: who may not publish it, reaches nobody.
    fn deliver(&mut self, token: usize, message: Message, retain: bool) {
        let (account, topic, payload) = &message;
        let mut audience = Audience::default();
        if self.reference.tokens[token].access.publishes(topic) {
            let key = (*account, topic.clone());
            match (retain, payload.is_empty()) {
                (true, true) => drop(self.reference.retained.remove(&key)),
                (true, false) => drop(self.reference.retained.insert(key, payload.clone())),
                _ => {}
            }
            audience = self.reference.publish(&message);
        }
        self.verify(message, &audience);
    }

    fn publish(&mut self) {
        let (at, topic) = (self.any_awake(), self.any_topic());
        let token = self.reference.readers[at].token;
        let account = self.account(token);
        let retain = self.dice.is(0.4);
        let is_clear = retain && self.dice.is(0.2);
        let payload = self.next_payload(account, &topic);
        let payload = if is_clear { String::new() } else { payload };
        self.story.push(format!("{at} publishes {topic:?} {payload:?} retain {retain}"));
        let answer = self.client(at).publish_with(&topic, &payload, retain, &[]);
        let is_allowed = self.reference.tokens[token].access.publishes(&topic);
        let want = if self.clients[at].is_v5 && !is_allowed { &[0x87][..] } else { &[0, 0x10] };
        if !matches!(answer, Got::Packet(PacketType::Puback, code, _) if want.contains(&code)) {
            self.fail(&format!("the answer is {answer:?}"));
        }
        self.deliver(token, (account, topic, payload), retain);
    }

    fn clear(&mut self) {
        let (at, filter, retain) = (self.any_awake(), self.any_mask(), self.dice.is(0.5));
        self.story.push(format!("{at} clears {filter:?} retain {retain}"));
        let answer = self.client(at).publish_with(&filter, "", retain, &[]);
        if !matches!(answer, Got::Packet(PacketType::Puback, ..)) {
            self.fail(&format!("the answer is {answer:?}"));
        }
        let token = self.reference.readers[at].token;
        self.reference.clear(token, self.account(token), &filter);
        self.verify((0, filter, String::new()), &Audience::default());
    }

    fn subscribe(&mut self) {
        let (at, inner) = (self.any_awake(), self.any_filter());
        let only = self.dice.is(0.35).then(|| self.any_account());
        let by_property = only.is_some() && self.clients[at].is_v5 && self.dice.is(0.5);
        let mut text = inner.clone();
        if let Some(only) = only.filter(|_| !by_property) {
            text = format!("$filter/cid={only}/{text}");
        }
        // What a group with members that last keeps for them is a matter of its own.
        let is_shared = !self.clients[at].is_lasting && at > 0 && self.dice.is(0.35);
        if is_shared {
            text = format!("$share/{}/{text}", self.dice.one(&["g", "h"]));
        }
        let asked = Subscription { inner, only, is_shared };
        self.subscribe_as(at, &text, &asked, only.filter(|_| by_property));
    }

    pub(super) fn subscribe_as(
        &mut self,
        at: usize,
        text: &str,
        asked: &Subscription,
        cid: Option<u64>,
    ) {
        self.story.push(format!("{at} subscribes to {text:?} cid {cid:?}"));
        let cid = cid.map(|cid| cid.to_string());
        let named: Vec<_> = cid.iter().map(|cid| ("cid", &**cid)).collect();
        let code = self.client(at).subscribe_with(text, &named);
        let token = self.reference.readers[at].token;
        let is_outside =
            asked.only.is_some_and(|only| !self.reference.is_within(only, self.account(token)));
        if code >= 0x80 {
            let access = self.reference.tokens[token].access.clone();
            let opens = |topic: &str| Reference::takes(asked, asked.only.unwrap_or(0), topic);
            let open = all_topics().into_iter().find(|it| opens(it) && access.reads(it));
            if !is_outside && open.is_some() {
                self.fail(&format!("refused with {code:#x}, though {open:?} is open"));
            }
            return self.verify((0, text.to_owned(), String::new()), &Audience::default());
        }
        if code != 1 || is_outside {
            self.fail(&format!("granted with {code:#x}"));
        }
        let subscriptions = &mut self.reference.readers[at].subscriptions;
        subscriptions.insert(text.to_owned(), asked.clone());
        let mut want = match asked.is_shared {
            true => Vec::new(),
            false => self.reference.read(token, asked),
        };
        let mut got = self.collect(at, want.len());
        got.sort();
        want.sort();
        if got != want {
            self.fail(&format!("retained: got {got:?}, want {want:?}"));
        }
    }

    /// A call of REST, perhaps for another account: that account, and the answer.
    fn call(&mut self, token: usize, request: &str, body: &str) -> (u64, super::http::Answer) {
        let cid = self.dice.is(0.4).then(|| self.any_account());
        self.story.push(format!("token {token} calls {request} {body} for {cid:?}"));
        let mut fields = vec![format!("Authorization: FlespiToken {}", self.keys[token].1)];
        fields.extend(cid.map(|cid| format!("x-flespi-cid: {cid}")));
        let fields: Vec<_> = fields.iter().map(String::as_str).collect();
        let answer = send(&mut self.http(), request, &fields, body.as_bytes());
        (cid.unwrap_or(self.account(token)), answer)
    }

    /// Whether it was done, which it must be exactly if the token may.
    fn is_done(&self, answer: &super::http::Answer, is_allowed: bool) -> bool {
        let want = if is_allowed { 200 } else { 403 };
        if answer.status != want {
            self.fail(&format!("want {want}, got {answer:?}"));
        }
        is_allowed
    }

    fn may_call(&self, token: usize, method: &str, account: u64) -> bool {
        let access = &self.reference.tokens[token].access;
        access.calls(method) && self.reference.is_within(account, self.account(token))
    }

    fn read_by_rest(&mut self) {
        let (token, inner) = (self.dice.below(self.keys.len()), self.any_filter());
        let only = self.dice.is(0.3).then(|| self.any_account());
        let is_recursive = self.dice.is(0.7);
        let prefix = only.map(|only| format!("$filter/cid={only}/")).unwrap_or_default();
        let path = encode(&(prefix + &inner));
        let data = if is_recursive { "" } else { "?data=%7B%22recursive%22:false%7D" };
        let (account, answer) = self.call(token, &format!("GET /mqtt/messages/{path}{data}"), "");
        if !self.is_done(&answer, self.may_call(token, "GET", account)) {
            return;
        }
        let only = only.or((!is_recursive).then_some(account));
        let asked = Subscription { inner, only, is_shared: false };
        let mut want = self.reference.read(token, &asked);
        want.retain(|(of, _, _)| self.reference.is_within(*of, account));
        let mut got = Vec::new();
        for message in answer.result().iter().map(message_of) {
            if !is_reserved(&message.1) {
                got.push(message);
            } else if !self.reference.tokens[token].access.reads(&message.1) {
                self.fail(&format!("read {message:?}"));
            }
        }
        got.sort();
        want.sort();
        if got != want {
            self.fail(&format!("got {got:?}, want {want:?}"));
        }
    }

    fn write_by_rest(&mut self) {
        let token = self.dice.below(self.keys.len());
        if self.dice.is(0.3) {
            let filter = self.any_mask();
            let request = format!("DELETE /mqtt/messages/{}", encode(&filter));
            let (account, answer) = self.call(token, &request, "");
            let is_allowed = self.may_call(token, "DELETE", account);
            // A token that may clear nothing of it may be told.
            if is_allowed && answer.status == 200 {
                self.reference.clear(token, account, &filter);
            } else if is_allowed {
                let mut reference = std::mem::take(&mut self.reference);
                let before = reference.retained.clone();
                reference.clear(token, account, &filter);
                let is_nothing = before == reference.retained;
                self.reference = reference;
                self.is_done(&answer, !is_nothing);
            } else {
                self.is_done(&answer, false);
            }
            return self.verify((0, filter, String::new()), &Audience::default());
        }
        let (topic, retain) = (self.any_topic(), self.dice.is(0.5));
        self.count += 1;
        // Who publishes it is found out with the answer.
        let tail = format!("{topic} {}", self.count);
        let cid = self.any_account();
        let payload = format!("{cid} {tail}");
        let body = json!([{"topic": topic, "payload": payload, "retained": retain}]);
        let answer = self.call_as(token, cid, "POST /mqtt/messages", &body);
        let is_called = self.may_call(token, "POST", cid);
        let is_open = self.reference.tokens[token].access.publishes(&topic);
        if self.is_done(&answer, is_called && is_open) {
            self.deliver(token, (cid, topic, payload), retain);
        } else {
            self.verify((cid, topic, payload), &Audience::default());
        }
    }

    fn call_as(
        &mut self,
        token: usize,
        cid: u64,
        request: &str,
        body: &Value,
    ) -> super::http::Answer {
        self.story.push(format!("token {token} calls {request} {body} for {cid}"));
        let key = format!("Authorization: FlespiToken {}", self.keys[token].1);
        let cid = format!("x-flespi-cid: {cid}");
        send(&mut self.http(), request, &[&key, &cid], body.to_string().as_bytes())
    }

    fn will(&mut self) {
        let (token, topic) = (self.dice.below(self.keys.len()), self.any_topic());
        let account = self.account(token);
        let (payload, is_v5) = (self.next_payload(account, &topic), self.dice.is(0.5));
        self.story.push(format!("token {token} has a will for {topic:?} {payload:?}"));
        let ask = Ask { will: Some(&topic), last_word: &payload, ..self.ask(token, "w", is_v5) };
        let (mortal, answer) = Client::attempt(&self.broker, &ask);
        let is_open = self.reference.tokens[token].access.publishes(&topic);
        if (answer.code() == 0) != is_open {
            self.fail(&format!("the answer is {answer:?}"));
        }
        if !is_open {
            return self.verify((account, topic, payload), &Audience::default());
        }
        if self.dice.is(0.5) {
            mortal.vanish();
            return self.deliver(token, (account, topic, payload), false);
        }
        if token > 0 && self.dice.is(0.5) {
            self.change_token(token);
        }
        // Its successor of the same name ends it, which is known to be done with CONNACK.
        let mut next = Client::connect(&self.broker, &self.ask(token, "w", is_v5));
        self.deliver(token, (account, topic, payload), false);
        next.send(&goodbye());
    }

    fn change_token(&mut self, token: usize) {
        let access = self.any_access();
        self.story.push(format!("token {token} becomes {access:?}"));
        self.accounts.update_token(self.keys[token].0, &json!({"access": access.json()})).unwrap();
        let before = std::mem::replace(&mut self.reference.tokens[token].access, access);
        self.lately = Some((token, before));
    }

    fn change(&mut self) {
        let (account, parent) = (self.any_account(), self.any_account());
        if account == ROOT_ACCOUNT || self.dice.is(0.6) {
            let token = self.dice.between(1, self.keys.len() - 1);
            self.change_token(token);
        } else if self.accounts.update_account(account, Some(parent), &json!({})).is_ok() {
            self.story.push(format!("account {account} moves to {parent}"));
            self.reference.parents.insert(account, parent);
        }
        self.verify((0, "change".to_owned(), String::new()), &Audience::default());
    }

    /// A client that lasts goes, or comes back, perhaps with another token of its account.
    fn come_and_go(&mut self) {
        let clients = self.clients.iter().enumerate();
        let lasting: Vec<_> = clients.filter(|(_, it)| it.is_lasting).map(|(at, _)| at).collect();
        if lasting.is_empty() {
            return;
        }
        let at = self.dice.one(&lasting);
        if let Some(mut client) = self.clients[at].client.take() {
            self.story.push(format!("{at} goes"));
            client.send(&goodbye());
            while client.next().is_some() {}
            self.reference.readers[at].is_awake = false;
            return;
        }
        let account = self.account(self.reference.readers[at].token);
        let tokens = self.reference.tokens.iter().enumerate();
        let own: Vec<_> =
            tokens.filter(|(_, it)| it.account == account).map(|(at, _)| at).collect();
        self.reference.readers[at].token = self.dice.one(&own);
        self.clients[at].is_v5 = self.dice.is(0.5);
        self.story.push(format!("{at} comes with token {}", self.reference.readers[at].token));
        self.wake(at);
    }
}

/// A retained message, as REST shows it.
fn message_of(object: &Value) -> Message {
    let text = |name: &str| object[name].as_str().unwrap().to_owned();
    (object["cid"].as_u64().unwrap(), text("topic"), text("payload"))
}

fn goodbye() -> Packet<'static> {
    let (reason, properties) = (ReasonCode::Success, Properties::none());
    Packet::Disconnect(Disconnect { reason, properties })
}

/// All topics that are published, and some of the broker's.
fn all_topics() -> Vec<String> {
    let mut all: Vec<String> = RESERVED.map(str::to_owned).to_vec();
    let mut shorter = vec![String::new()];
    for _ in 0..LEVELS_MAX {
        let longer = |start: &String| LEVELS.map(|level| format!("{start}/{level}"));
        shorter = shorter.iter().flat_map(longer).collect();
        all.extend(shorter.iter().map(|topic| topic[1..].to_owned()));
    }
    all
}

/// Percent-encodes a segment of a path.
fn encode(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'0'..=b'9' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}
