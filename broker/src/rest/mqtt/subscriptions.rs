//! Subscriptions of sessions, whether their clients are there or not (broker specification,
//! 15.2.2).

use std::num::NonZeroU32;

use hashbrown::HashSet;
use longshore_codec::{QoS, RetainHandling};
use serde_json::{Map, Value};

use super::sessions::{Chosen, refused, stopped};
use crate::questions::{ask, ask_durably};
use crate::rest::answer::{Answer, Outcome};
use crate::rest::call::Call;
use crate::rest::fault::{Code, Fault};
use crate::rest::schema::{Field, Kind, Object};
use crate::rest::selector::Selector;
use crate::session::{SessionId, Subscription};
use crate::shard::asked_of;

pub(super) static OBJECT: Object = Object {
    name: "Subscription",
    fields: &[
        Field::new("id", Kind::Whole, "Its number, made of its topic filter"),
        Field::new("session_id", Kind::Whole, "The number of its session"),
        Field::new("client_id", Kind::Text, "The client identifier of its session"),
        Field::new("topic", Kind::Text, "The topic filter, with what stands before it").set(),
        Field::new("qos", Kind::Whole, "The highest QoS it gets messages at").set(),
        Field::new("no_local", Kind::Flag, "Spared what the session publishes itself").set(),
        Field::new("rap", Kind::Flag, "RETAIN stays as published").set(),
        Field::new("retain_handling", Kind::Whole, "0, 1 or 2, as in MQTT 5").set(),
        Field::new("subscription_id", Kind::Whole, "Its Subscription Identifier; 0: none").set(),
        Field::new("cid", Kind::Whole, "The only account whose messages it is for").set(),
    ],
    is_open: false,
};

/// Subscriptions that one request makes, and those of one answer.
const SHOWN_MAX: usize = 100_000;

/// A subscription that was found: the shard and the session it is of.
struct Found {
    shard: usize,
    session: SessionId,
    object: Map<String, Value>,
}

impl Found {
    fn id(&self) -> u64 {
        self.object.get("id").and_then(Value::as_u64).unwrap_or(0)
    }

    fn topic(&self) -> String {
        self.object.get("topic").and_then(Value::as_str).unwrap_or_default().to_owned()
    }
}

/// The subscriptions that the path means, and what of it is not there.
async fn choose(call: &Call) -> Result<(Vec<Found>, Vec<Fault>), Fault> {
    let mut selector = Selector::parse(call.parameter(1), &OBJECT)?;
    let (sessions, mut faults) = Chosen::of(call)?.all().await?;
    let listed: HashSet<u64> = match &selector {
        Selector::Ids(ids) => ids.iter().copied().collect(),
        Selector::All | Selector::Where(_) => HashSet::new(),
    };
    let mut missing = listed.clone();
    let mut found = Vec::new();
    for (at, shown) in sessions {
        let session = shown.id;
        let objects =
            ask(&call.api.mailboxes[at], move |shard, _| shard.show_subscriptions(session));
        for object in objects.await.ok_or_else(stopped)? {
            let is_meant = match &mut selector {
                Selector::All => true,
                Selector::Ids(_) => {
                    let id = object.get("id").and_then(Value::as_u64).unwrap_or(0);
                    missing.remove(&id);
                    listed.contains(&id)
                }
                Selector::Where(sieve) => sieve.takes(&Value::Object(object.clone()))?,
            };
            if is_meant {
                found.push(Found { shard: at, session, object });
            }
        }
        if found.len() > SHOWN_MAX {
            let reason = format!("the selectors mean more than {SHOWN_MAX} subscriptions");
            return Err(Fault::new(Code::TooLarge, reason));
        }
    }
    // A number that one of the sessions has is there.
    if let Selector::Ids(ids) = selector {
        faults.extend(ids.into_iter().filter(|id| missing.contains(id)).map(Fault::not_found));
    }
    Ok((found, faults))
}

pub(super) async fn list(call: Call) -> Outcome {
    let fields = call.fields()?;
    let (found, faults) = choose(&call).await?;
    Ok(Answer::partly(found.into_iter().map(|it| fields.of(it.object)).collect(), faults))
}

pub(super) async fn create(call: Call) -> Outcome {
    let (fields, objects) = (call.fields()?, call.objects()?);
    let by = call.caller()?.principal.class;
    let (sessions, mut faults) = Chosen::of(&call)?.all().await?;
    if objects.len().saturating_mul(sessions.len()) > SHOWN_MAX {
        let reason = format!("they would be more than {SHOWN_MAX} subscriptions");
        return Err(Fault::new(Code::TooLarge, reason));
    }
    let mut done = Vec::new();
    for (place, object) in objects.iter().enumerate() {
        let (topic, subscription) = match asked(object, None) {
            Ok(asked) => asked,
            Err(fault) => {
                faults.push(fault.at(place));
                continue;
            }
        };
        for (at, shown) in &sessions {
            let (session, topic) = (shown.id, topic.clone());
            let made = ask_durably(&call.api.mailboxes[*at], move |shard, now| {
                shard.subscribe_for(session, by, &topic, subscription, now)
            });
            match made.await.ok_or_else(stopped)? {
                Ok(object) => done.push(fields.of(object)),
                Err(denied) => faults.push(refused(denied).at(place)),
            }
        }
    }
    Ok(Answer::partly(done, faults))
}

pub(super) async fn update(call: Call) -> Outcome {
    let (fields, object) = (call.fields()?, Value::Object(call.object()?));
    let by = call.caller()?.principal.class;
    let (found, mut faults) = choose(&call).await?;
    let mut done = Vec::new();
    for known in found {
        // What is wrong with one of them takes nothing back of those before it.
        let (topic, subscription) = match asked(&object, Some(&known.object)) {
            Ok(asked) if asked.0 == known.topic() => asked,
            wrong => {
                let fault = || Fault::new(Code::Format, "a topic filter does not change");
                faults
                    .push(wrong.err().unwrap_or_else(|| fault().field("topic")).about(known.id()));
                continue;
            }
        };
        let (session, id) = (known.session, known.id());
        let made = ask_durably(&call.api.mailboxes[known.shard], move |shard, now| {
            shard.subscribe_for(session, by, &topic, subscription, now)
        });
        match made.await.ok_or_else(stopped)? {
            Ok(object) => done.push(fields.of(object)),
            Err(denied) => faults.push(refused(denied).about(id)),
        }
    }
    Ok(Answer::partly(done, faults))
}

pub(super) async fn remove(call: Call) -> Outcome {
    let (found, mut faults) = choose(&call).await?;
    let mut done = Vec::new();
    for known in found {
        let (session, topic, id) = (known.session, known.topic(), known.id());
        let gone = ask_durably(&call.api.mailboxes[known.shard], move |shard, now| {
            shard.unsubscribe_for(session, &topic, now)
        });
        match gone.await.ok_or_else(stopped)? {
            true => done.push(id.into()),
            false => faults.push(Fault::not_found(id)),
        }
    }
    Ok(Answer::partly(done, faults))
}

/// The topic filter and what is asked of it; what is not given stays as it is `known`.
fn asked(
    object: &Value,
    known: Option<&Map<String, Value>>,
) -> Result<(String, Subscription), Fault> {
    let given = object.as_object().ok_or_else(|| Fault::bad_request("no object"))?;
    OBJECT.takes(given)?;
    let value =
        |name: &str| given.get(name).or_else(|| known?.get(name)).filter(|it| !it.is_null());
    let wrong =
        |name: &str, what: &str| Fault::new(Code::Format, format!("{name} is {what}")).field(name);
    let number = |name: &'static str, max: u64, what: &str| match value(name) {
        None => Ok(0),
        Some(value) => value.as_u64().filter(|it| *it <= max).ok_or_else(|| wrong(name, what)),
    };
    let flag = |name: &'static str| match value(name) {
        None => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| wrong(name, "true or false")),
    };
    let topic = value("topic").and_then(Value::as_str);
    let topic = topic.ok_or_else(|| wrong("topic", "a topic filter"))?.to_owned();
    let qos = number("qos", 2, "0, 1 or 2")?;
    let handling = number("retain_handling", 2, "0, 1 or 2")?;
    let identifier = number("subscription_id", 268_435_455, "up to 268435455")?;
    let only = number("cid", u64::MAX, "the number of an account")?;
    let handling = match handling {
        0 => RetainHandling::Send,
        1 => RetainHandling::SendIfNew,
        _ => RetainHandling::DoNotSend,
    };
    let qos = QoS::try_from(qos as u8).unwrap_or(QoS::AtMostOnce);
    let identifier = NonZeroU32::new(identifier as u32);
    let (no_local, rap) = (flag("no_local")?, flag("rap")?);
    Ok((topic, asked_of(qos, no_local, rap, handling, identifier, only)))
}
