//! Messages: to publish them, to read and to remove what is retained (broker specification, 15.2.4
//! to 15.2.7).

use std::sync::Arc;

use longshore_acl::{Action, Principal, Rights};
use longshore_codec::{Properties, Property, QoS, ReasonCode, filter};
use longshore_storage::Ahead;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use super::sessions::send;
use crate::clock::wall;
use crate::condition::{Condition, View};
use crate::link::{Link, LinkError, Message, acting_as};
use crate::message::{Expiry, Kept, Parts};
use crate::record::Head;
use crate::rest::Api;
use crate::rest::answer::{Answer, Items, Outcome};
use crate::rest::call::Call;
use crate::rest::fault::{Code, Fault};
use crate::rest::schema::{Field, Fields, Kind, Object};
use crate::retained::{Found, Read, Slice};
use crate::stamp::{CID, TIMESTAMP, TOKEN_ID, account_of, parse_time};

pub(super) static PUBLISHED: Object = Object {
    name: "Message",
    fields: &[
        Field::new("topic", Kind::Text, "The topic name").set(),
        Field::new("payload", Kind::Text, "The payload; what is no text is sent as JSON").sent(),
        Field::new("retained", Kind::Flag, "To be retained").sent(),
        Field::new("qos", Kind::Whole, "0, 1 or 2; 1 if nothing is said").sent(),
        Field::new("user_properties", Kind::Object, "Names and texts").sent(),
        Field::new("message_expiry_interval", Kind::Whole, "Seconds it lives").sent(),
        Field::new("content_type", Kind::Text, "What the payload is").sent(),
        Field::new("type", Kind::Any, "Of old clients; means nothing").sent(),
        Field::new("subscribed", Kind::Flag, "Whether anybody had subscribed to it"),
    ],
    is_open: false,
};

pub(super) static RETAINED: Object = Object {
    name: "Retained",
    fields: &[
        Field::new("topic", Kind::Text, "The topic name"),
        Field::new("payload", Kind::Text, "The payload as text"),
        Field::new("qos", Kind::Whole, "The QoS it was published at"),
        Field::new("cid", Kind::Whole, "The account that published it"),
        Field::new("token_id", Kind::Whole, "The token of its publisher"),
        Field::new("timestamp", Kind::Any, "When it was published, in unix seconds"),
        Field::new("user_properties", Kind::Object, "The other names and texts"),
        Field::new("content_type", Kind::Text, "What the payload is"),
        Field::new("expires", Kind::Whole, "When it ends, in unix seconds; 0: never"),
    ],
    is_open: false,
};

pub(super) static READING: Object = Object {
    name: "Reading",
    fields: &[Field::new("recursive", Kind::Flag, "Also of accounts below; true if unsaid").sent()],
    is_open: false,
};

/// Names visited in one slice, and messages and bytes taken out at once.
const VISITS: usize = 512;
const TAKEN_MAX: usize = 512;
const TAKEN_BYTES: usize = 256 << 10;
/// Objects that wait until they are read.
const WAITING: usize = 256;

pub(super) async fn publish(call: Call) -> Outcome {
    let (fields, objects) = (call.fields()?, call.objects()?);
    if objects.is_empty() {
        return Err(Fault::bad_request("there is no object in the array"));
    }
    let link = link(&call)?;
    let (mut done, mut faults) = (Vec::new(), Vec::new());
    for (at, object) in objects.iter().enumerate() {
        let published = match message(object) {
            Ok(message) => answer(link.publish(message).await),
            Err(fault) => Err(fault),
        };
        match published {
            Ok(is_subscribed) => {
                let topic = object.get("topic").cloned().unwrap_or_default();
                let object = json!({"topic": topic, "subscribed": is_subscribed});
                let Value::Object(object) = object else { continue };
                done.push(fields.of(object));
            }
            Err(fault) => faults.push(fault.at(at)),
        }
    }
    Ok(Answer::partly(done, faults))
}

/// A client of this process that acts as the caller: it passes the same gates as all others.
fn link(call: &Call) -> Result<Link, Fault> {
    let mut principal: Principal = call.caller()?.principal;
    principal.account = call.account;
    let client_id = format!("api-{}", principal.token.unwrap_or(0));
    Ok(Link::open_once(acting_as(&call.api.opener, principal), &client_id))
}

/// Whether anybody had subscribed, or why it was refused.
fn answer(outcome: Result<crate::link::Outcome, LinkError>) -> Result<bool, Fault> {
    let reason = match outcome {
        Ok(outcome) => outcome.reason,
        Err(LinkError::Invalid) => {
            return Err(Fault::new(Code::Format, "no valid topic name, or too large a message"));
        }
        Err(LinkError::Closed(Some(reason)) | LinkError::Refused(reason)) => reason,
        Err(LinkError::Closed(None)) => return Err(super::sessions::stopped()),
    };
    match reason {
        ReasonCode::NoMatchingSubscribers => Ok(false),
        reason if !reason.is_error() => Ok(true),
        ReasonCode::NotAuthorized => {
            Err(Fault::new(Code::Forbidden, "the token may not publish to the topic"))
        }
        ReasonCode::QuotaExceeded => Err(Fault::new(Code::Quota, reason.to_string())),
        reason => Err(Fault::bad_request(reason.to_string())),
    }
}

/// A message as it was sent.
fn message(object: &Value) -> Result<Message, Fault> {
    let given = object.as_object().ok_or_else(|| Fault::bad_request("no object"))?;
    PUBLISHED.takes(given)?;
    let wrong =
        |name: &str, what: &str| Fault::new(Code::Format, format!("{name} is {what}")).field(name);
    let topic = given.get("topic").and_then(Value::as_str);
    let topic = topic.ok_or_else(|| wrong("topic", "a topic name"))?;
    let payload = match given.get("payload") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(value) => value.to_string().into_bytes(),
    };
    let qos = match given.get("qos") {
        None => QoS::AtLeastOnce,
        Some(value) => value
            .as_u64()
            .and_then(|qos| QoS::try_from(u8::try_from(qos).ok()?).ok())
            .ok_or_else(|| wrong("qos", "0, 1 or 2"))?,
    };
    let mut message = Message::new(topic, payload).qos(qos);
    if let Some(retained) = given.get("retained") {
        let retained = retained.as_bool().ok_or_else(|| wrong("retained", "true or false"))?;
        message.retain = retained;
    }
    if let Some(secs) = given.get("message_expiry_interval") {
        let secs = secs.as_u64().and_then(|secs| u32::try_from(secs).ok());
        let secs = secs.ok_or_else(|| wrong("message_expiry_interval", "seconds"))?;
        message = message.property(Property::MessageExpiryInterval(secs));
    }
    if let Some(content_type) = given.get("content_type") {
        let text = content_type.as_str().ok_or_else(|| wrong("content_type", "a text"))?;
        message = message.property(Property::ContentType(text));
    }
    let named = given.get("user_properties").map(|value| value.as_object());
    let named = named.map(|it| it.ok_or_else(|| wrong("user_properties", "an object of texts")));
    for (name, value) in named.transpose()?.into_iter().flatten() {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        message = message.property(Property::UserProperty(name, &text));
    }
    Ok(message)
}

/// What of retained messages a request means.
struct Wanted {
    fields: Fields,
    rights: Arc<Rights>,
    condition: Option<Arc<Condition>>,
}

pub(super) async fn list(call: Call) -> Outcome {
    let (fields, data) = (call.fields()?, call.data()?);
    let mut is_recursive = true;
    for (name, value) in &data {
        match (name.as_str(), value) {
            ("recursive", Value::Bool(flag)) => is_recursive = *flag,
            ("recursive", _) => return Err(Fault::new(Code::Format, "recursive is a flag")),
            _ => return Err(Fault::new(Code::Format, format!("no key {name:?} in data"))),
        }
    }
    let commons = &call.api.commons;
    let asked = match commons.take_apart(call.parameter(0)) {
        Ok(asked) if asked.share.is_none() => asked,
        Ok(_) => return Err(Fault::new(Code::Format, "nothing is retained for a group")),
        Err(cause) => return Err(Fault::new(Code::Format, cause)),
    };
    let only = match (asked.only(), is_recursive) {
        (0, false) => call.account,
        (only, _) => only,
    };
    let read = commons.read_retained(call.account, only, asked.inner, call.api.dialect.selectors);
    let wanted =
        Wanted { fields, rights: Arc::clone(&call.caller()?.rights), condition: asked.condition };
    let (to, from) = mpsc::channel(WAITING);
    if let Some(read) = read {
        let api = Arc::clone(&call.api);
        spawn_local(async move { send_all(&api, read, &wanted, &to).await });
    }
    Ok(Answer::objects(Items::Sent(from)))
}

async fn send_all(
    api: &Api,
    mut read: Read,
    wanted: &Wanted,
    to: &mpsc::Sender<Result<Value, Fault>>,
) {
    let mut slice = Slice::default();
    loop {
        let is_through = read.next(wall(), VISITS, |item| slice.take(item, TAKEN_MAX, TAKEN_BYTES));
        for (_, found) in slice.iter() {
            let object = match found {
                Found::Small { parts, qos, expiry } => object(&parts, qos, expiry, wanted),
                Found::Large(kept) => large(api, kept, wanted),
            };
            if let Some(object) = object
                && !send(to, &wanted.fields, object).await
            {
                return;
            }
        }
        slice.clear();
        if is_through {
            return;
        }
        // Others on this thread have their turn.
        tokio::task::yield_now().await;
    }
}

/// A large message, from the journal if memory does not have it.
fn large(api: &Api, kept: &Kept, wanted: &Wanted) -> Option<Map<String, Value>> {
    let entry = match kept {
        Kept::Memory(message) => {
            return object(&message.parts(), message.qos, message.expiry, wanted);
        }
        Kept::Disk(entry) => entry,
    };
    let (mut ahead, mut body) = (Ahead::default(), Vec::new());
    // Where it is not there any more, another one has taken its place meanwhile.
    api.reader.as_ref()?.read(entry.position()?, &mut ahead, &mut body).ok()?;
    let (head, parts, _) = Head::decode(&body)?;
    object(&parts, head.qos, head.expiry, wanted)
}

/// A retained message as the API shows it, if it is wanted.
fn object(
    parts: &Parts<'_>,
    qos: QoS,
    expiry: Option<Expiry>,
    wanted: &Wanted,
) -> Option<Map<String, Value>> {
    let topic = std::str::from_utf8(parts.topic).ok()?;
    if !wanted.rights.allows(Action::Subscribe, topic) {
        return None;
    }
    if let Some(condition) = &wanted.condition {
        let view = View::new(*parts, account_of(parts), wall());
        if !condition.is_modified(parts) || !view.meets(condition) {
            return None;
        }
    }
    let mut fields = Map::new();
    let mut put = |name: &str, value: Value| drop(fields.insert(name.to_owned(), value));
    put("topic", topic.into());
    put("payload", String::from_utf8_lossy(parts.payload).into());
    put("qos", (qos as u8).into());
    put("cid", account_of(parts).into());
    put("expires", expiry.map_or(0, |it| it.ends.0.div_ceil(1_000_000)).into());
    let properties = Properties::from_raw(parts.properties);
    let mut named = Map::new();
    for (name, value) in properties.user_properties() {
        match name {
            CID => {}
            TOKEN_ID => put("token_id", value.parse::<u64>().map_or(value.into(), Value::from)),
            TIMESTAMP => {
                let secs = parse_time(value).map(|time| time.0 as f64 / 1e6);
                put("timestamp", secs.map_or_else(|| value.into(), Value::from));
            }
            name => drop(named.insert(name.to_owned(), value.into())),
        }
    }
    if !named.is_empty() {
        put("user_properties", named.into());
    }
    if let Some(content_type) = properties.content_type() {
        put("content_type", content_type.into());
    }
    Some(fields)
}

pub(super) async fn remove(call: Call) -> Outcome {
    let name = call.parameter(0).to_owned();
    if filter::parse(&name).map_or(true, |parsed| parsed.share.is_some()) {
        return Err(Fault::new(Code::Format, "not a valid topic filter"));
    }
    let message = Message::new(name.clone(), Vec::new()).qos(QoS::AtLeastOnce).retain();
    answer(link(&call)?.clear(message).await)?;
    Ok(Answer::of([json!({"topic": name})]))
}
