//! Sessions: to list, to make and to end them (broker specification, 15.2.1 and 15.2.8).

use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use crate::questions::{ask, ask_durably};
use crate::rest::answer::{Answer, Items, Outcome};
use crate::rest::call::Call;
use crate::rest::fault::{Code, Fault};
use crate::rest::schema::{Field, Fields, Kind, Object};
use crate::rest::selector::Selector;
use crate::shard::{Denied, Shown, session_number};

pub(super) static OBJECT: Object = Object {
    name: "Session",
    fields: &[
        Field::new("id", Kind::Whole, "Its number, made of account and client identifier"),
        Field::new("client_id", Kind::Text, "The client identifier").set(),
        Field::new("clean", Kind::Flag, "It ends with its connection"),
        Field::new("connected", Kind::Flag, "Its client is there"),
        Field::new("cid", Kind::Whole, "The account"),
        Field::new("ip", Kind::Text, "Where the client is"),
        Field::new("size", Kind::Whole, "Bytes of messages that wait for it or are on their way"),
        Field::new("messages", Kind::Whole, "Messages that wait for it"),
        Field::new("expires", Kind::Whole, "When it ends, in unix seconds; 0: not so far"),
        Field::new("expiry_interval", Kind::Whole, "Seconds it outlives its connection").set(),
        Field::new("version", Kind::Text, "The version of MQTT its client speaks"),
        Field::new("transport", Kind::Text, "tcp, tls, ws or wss"),
        Field::new("token_id", Kind::Whole, "The token its client has shown"),
        Field::new("subscriptions_count", Kind::Whole, "How many subscriptions it has"),
    ],
    is_open: false,
};

/// Sessions that are looked at in one slice, on the thread that serves clients.
const SLICE: usize = 64;
/// Objects that wait until they are read.
const WAITING: usize = 64;
/// Sessions that one request changes or ends.
pub(super) const CHANGES_MAX: usize = 10_000;
/// Seconds that a session lasts without its client if nothing is said: for ever.
const EXPIRY_SECS: u32 = u32::MAX;

/// The broker has stopped meanwhile.
pub(super) fn stopped() -> Fault {
    Fault::new(Code::Unavailable, "the broker is stopping, or its disk has failed")
}

/// Sessions that a request means, as they come.
pub(super) struct Chosen<'a> {
    call: &'a Call,
    accounts: Arc<[u64]>,
    selector: Selector,
    shard: usize,
    place: u32,
    /// Numbers that were listed and not found yet.
    missing: Vec<u64>,
}

impl<'a> Chosen<'a> {
    /// Those that the first parameter of the path means, among sessions of the call's branch.
    pub(super) fn of(call: &'a Call) -> Result<Self, Fault> {
        let mut accounts = call.api.accounts.read().branch(call.account);
        accounts.sort_unstable();
        let selector = Selector::parse(call.parameter(0), &OBJECT)?;
        let mut missing = match &selector {
            Selector::Ids(ids) => ids.clone(),
            Selector::All | Selector::Where(_) => Vec::new(),
        };
        missing.sort_unstable();
        Ok(Self { call, accounts: accounts.into(), selector, shard: 0, place: 0, missing })
    }

    /// The next of them; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<(usize, Shown)>>, Fault> {
        let mailboxes = &self.call.api.mailboxes;
        let Some(mailbox) = mailboxes.get(self.shard) else { return Ok(None) };
        if matches!(self.selector, Selector::Ids(_)) && self.missing.is_empty() {
            return Ok(None);
        }
        let (accounts, place) = (Arc::clone(&self.accounts), self.place);
        let slice = ask(mailbox, move |shard, _| shard.show_sessions(&accounts, place, SLICE));
        let slice = slice.await.ok_or_else(stopped)?;
        let shard = self.shard;
        match slice.next {
            Some(place) => self.place = place,
            None => (self.shard, self.place) = (self.shard + 1, 0),
        }
        let mut found = Vec::new();
        for shown in slice.found {
            if self.takes(&shown)? {
                found.push((shard, shown));
            }
        }
        Ok(Some(found))
    }

    fn takes(&mut self, shown: &Shown) -> Result<bool, Fault> {
        match &mut self.selector {
            Selector::All => Ok(true),
            Selector::Where(sieve) => sieve.takes(&Value::Object(shown.object.clone())),
            Selector::Ids(_) => {
                let id = shown.object.get("id").and_then(Value::as_u64).unwrap_or(0);
                let place = self.missing.binary_search(&id);
                Ok(place.map(|place| self.missing.remove(place)).is_ok())
            }
        }
    }

    /// All of them, and the numbers that are not there.
    pub(super) async fn all(mut self) -> Result<(Vec<(usize, Shown)>, Vec<Fault>), Fault> {
        let mut all = Vec::new();
        while let Some(mut found) = self.next().await? {
            all.append(&mut found);
            if all.len() > CHANGES_MAX {
                let reason = format!("the selector means more than {CHANGES_MAX} sessions");
                return Err(Fault::new(Code::TooLarge, reason));
            }
        }
        Ok((all, self.faults()))
    }

    fn faults(self) -> Vec<Fault> {
        self.missing.into_iter().map(Fault::not_found).collect()
    }
}

/// Sends objects as they are read; whether anybody still reads.
pub(super) async fn send(
    to: &mpsc::Sender<Result<Value, Fault>>,
    fields: &Fields,
    object: Map<String, Value>,
) -> bool {
    to.send(Ok(fields.of(object))).await.is_ok()
}

pub(super) async fn list(call: Call) -> Outcome {
    let fields = call.fields()?;
    if !matches!(Selector::parse(call.parameter(0), &OBJECT)?, Selector::All) {
        // What is not there is told by the status.
        let (found, faults) = Chosen::of(&call)?.all().await?;
        let objects = found.into_iter().map(|(_, shown)| fields.of(shown.object));
        return Ok(Answer::partly(objects.collect(), faults));
    }
    let (to, from) = mpsc::channel(WAITING);
    spawn_local(async move {
        let mut chosen = match Chosen::of(&call) {
            Ok(chosen) => chosen,
            Err(fault) => return drop(to.send(Err(fault)).await),
        };
        loop {
            match chosen.next().await {
                Ok(Some(found)) => {
                    for (_, shown) in found {
                        if !send(&to, &fields, shown.object).await {
                            return;
                        }
                    }
                }
                Ok(None) => return,
                Err(fault) => return drop(to.send(Err(fault)).await),
            }
        }
    });
    Ok(Answer::objects(Items::Sent(from)))
}

/// What a client would have been told, as an entry of `errors`.
pub(super) fn refused((reason, cause): Denied) -> Fault {
    use longshore_codec::ReasonCode as Reason;
    let code = match reason {
        Reason::NotAuthorized => Code::Forbidden,
        Reason::QuotaExceeded => Code::Quota,
        Reason::ClientIdentifierNotValid | Reason::TopicFilterInvalid => Code::Format,
        _ => Code::BadRequest,
    };
    Fault::new(code, cause)
}

pub(super) async fn create(call: Call) -> Outcome {
    let (fields, objects) = (call.fields()?, call.objects()?);
    let caller = call.caller()?;
    let (mut made, mut faults) = (Vec::new(), Vec::new());
    for (at, object) in objects.iter().enumerate() {
        match asked(object) {
            Err(fault) => faults.push(fault.at(at)),
            Ok((client_id, expiry_secs)) => {
                let mut principal = caller.principal;
                principal.account = call.account;
                let number = session_number(principal.account, &client_id);
                let shards = call.api.mailboxes.len() as u64;
                let mailbox = &call.api.mailboxes[(number % shards) as usize];
                let done = ask_durably(mailbox, move |shard, now| {
                    shard.make_session(principal, &client_id, expiry_secs, now)
                });
                match done.await.ok_or_else(stopped)? {
                    Ok(object) => made.push(fields.of(object)),
                    Err(denied) => faults.push(refused(denied).at(at)),
                }
            }
        }
    }
    Ok(Answer::partly(made, faults))
}

/// The client identifier and the seconds of a session that is asked for.
fn asked(object: &Value) -> Result<(String, u32), Fault> {
    let fields = object.as_object().ok_or_else(|| Fault::bad_request("no object"))?;
    OBJECT.takes(fields)?;
    let wrong =
        |name: &str, what: &str| Fault::new(Code::Format, format!("{name} is {what}")).field(name);
    let secs = |value: &Value| {
        let secs = value.as_u64().and_then(|secs| u32::try_from(secs).ok()).filter(|it| *it > 0);
        secs.ok_or_else(|| wrong("expiry_interval", "seconds from 1 on"))
    };
    let expiry_secs = fields.get("expiry_interval").map_or(Ok(EXPIRY_SECS), secs)?;
    let client_id = fields.get("client_id").and_then(Value::as_str).filter(|it| !it.is_empty());
    let client_id = client_id.filter(|it| it.len() <= usize::from(u16::MAX) && !it.contains('\0'));
    let client_id = client_id.ok_or_else(|| wrong("client_id", "a text"))?;
    Ok((client_id.to_owned(), expiry_secs))
}

pub(super) async fn remove(call: Call) -> Outcome {
    let (found, mut faults) = Chosen::of(&call)?.all().await?;
    let mut done = Vec::new();
    for (at, shown) in found {
        let number = shown.object.get("id").and_then(Value::as_u64).unwrap_or(0);
        let id = shown.id;
        let mailbox = &call.api.mailboxes[at];
        let was_there = ask_durably(mailbox, move |shard, now| shard.remove_session(id, now));
        match was_there.await.ok_or_else(stopped)? {
            true => done.push(number.into()),
            false => faults.push(Fault::not_found(number)),
        }
    }
    Ok(Answer::partly(done, faults))
}
