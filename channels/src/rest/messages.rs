//! Reading the buffers of channels. Two families of keys in `data` do it: that of readers who pull
//! all messages in their order (R3.8 to R3.13), and that of people who look at a time (R3.14).

use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use longshore_acl::{Method, Scope};
use longshore_broker::module::Item;
use longshore_broker::rest::{Answer, Call, Code, Fault, Field, Kind, Object, Outcome, Written};
use longshore_expression::wildcard;
use longshore_expression::{Budget, Filter};
use longshore_storage::TablesError;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::slices::{Slices, answer};
use crate::buffer::Slice;
use crate::channel::Channel;
use crate::channels::Channels;
use crate::live::Live;

/// Messages, and bytes of them, that one request is answered with; slightly more may come.
const COUNT_MAX: u64 = 1_000_000;
const SIZE_MAX: u64 = 100_000_000;
/// Seconds that a request may wait for the first message.
const TIMEOUT_MAX: u64 = 30;
/// What is read at once, and waits until the client takes it.
pub(super) const SLICE: Slice = Slice { rows_max: 1_024, bytes_max: 256 << 10, is_reverse: false };
/// Steps that a filter takes for all messages of a request: some seconds.
pub(super) const STEPS_MAX: u64 = 100_000_000;
/// The smallest key that deletes anything.
const DELETE_KEY_MIN: u64 = 2;

pub(super) static MESSAGE: Object = Object {
    name: "ChannelMessage",
    fields: &[
        Field::new("ident", Kind::Text, "Who says it"),
        Field::new("timestamp", Kind::Any, "When it was so, in unix seconds"),
        Field::new("server.timestamp", Kind::Any, "When it came in, in unix seconds"),
        Field::new("channel.id", Kind::Whole, "The channel that took it"),
        Field::new("protocol.id", Kind::Whole, "The protocol of that channel"),
        Field::new("peer", Kind::Text, "Address and port of the sender"),
    ],
    is_open: true,
};

pub(super) static READING: Object = Object {
    name: "ChannelReading",
    fields: &[
        Field::new("curr_key", Kind::Whole, "next_key of the last answer: only newer ones").sent(),
        Field::new("limit_count", Kind::Whole, "Messages, or slightly more").sent(),
        Field::new("limit_size", Kind::Whole, "Bytes, or slightly more").sent(),
        Field::new("timeout", Kind::Any, "Seconds to wait for the first one, up to 30").sent(),
        Field::new("delete", Kind::Flag, "Delete those before curr_key first").sent(),
        Field::new("from", Kind::Any, "server.timestamp of the first one, unix seconds").sent(),
        Field::new("to", Kind::Any, "server.timestamp of the last one, unix seconds").sent(),
        Field::new("count", Kind::Whole, "Messages at most").sent(),
        Field::new("reverse", Kind::Flag, "The newest first").sent(),
        Field::new("filter", Kind::Text, "An expression, or tests like param>=5").sent(),
        Field::new("fields", Kind::Text, "Parameters, parted by commas, * for any").sent(),
    ],
    is_open: false,
};

pub(super) static DELETION: Object = Object {
    name: "ChannelDeletion",
    fields: &[Field::new("delete_key", Kind::Whole, "Those before it go, 2 or more").sent()],
    is_open: false,
};

/// What a request asks for.
#[derive(Debug)]
pub(super) struct Asked {
    /// What the client has read before it.
    curr_key: u64,
    pub(super) range: Range<u64>,
    pub(super) count: u64,
    size: u64,
    wait: Duration,
    deletes: bool,
    pub(super) is_reverse: bool,
    filter: Option<Filter>,
    fields: Option<Vec<String>>,
}

impl Asked {
    pub(super) fn of(data: &Map<String, Value>) -> Result<Self, Fault> {
        let mut asked = Self {
            curr_key: 0,
            range: 0..u64::MAX,
            count: COUNT_MAX,
            size: SIZE_MAX,
            wait: Duration::ZERO,
            deletes: false,
            is_reverse: false,
            filter: None,
            fields: None,
        };
        for (name, value) in data.iter().filter(|(_, value)| !value.is_null()) {
            asked.set(name, value)?;
        }
        Ok(asked)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), Fault> {
        let wrong = |what: &str| Fault::new(Code::Format, format!("{name} is {what}")).field(name);
        let text = || value.as_str().ok_or_else(|| wrong("a text"));
        let flag = || value.as_bool().ok_or_else(|| wrong("true or false"));
        let up_to = |most: u64| {
            let count = value.as_u64().filter(|count| (1..=most).contains(count));
            count.ok_or_else(|| wrong(&format!("a whole number, 1 to {most}")))
        };
        match name {
            "curr_key" => {
                let key = value.as_u64().ok_or_else(|| wrong("a whole number from 0 on"))?;
                self.curr_key = key;
                self.range.start = self.range.start.max(key);
            }
            "limit_count" | "count" => self.count = up_to(COUNT_MAX)?,
            "limit_size" => self.size = up_to(SIZE_MAX)?,
            "timeout" => {
                let secs = value.as_f64().filter(|secs| (0.0..=TIMEOUT_MAX as f64).contains(secs));
                let secs = secs.ok_or_else(|| wrong("0 to 30 seconds"))?;
                self.wait = Duration::from_secs_f64(secs);
            }
            "delete" => self.deletes = flag()?,
            "from" => {
                let from = micros(value).ok_or_else(|| wrong("unix seconds"))?;
                self.range.start = self.range.start.max(from);
            }
            // 0 is no end, as in other readings.
            "to" => match micros(value).ok_or_else(|| wrong("unix seconds"))? {
                0 => {}
                to => self.range.end = to + 1,
            },
            "reverse" => self.is_reverse = flag()?,
            "filter" => {
                let parsed = Some(text()?).filter(|it| !it.is_empty()).map(Filter::parse);
                let parsed = parsed.transpose();
                self.filter = parsed.map_err(|error| wrong(&format!("no expression: {error}")))?;
            }
            "fields" => {
                let names = text()?.split(',').map(str::trim).filter(|it| !it.is_empty());
                let names: Vec<_> = names.map(str::to_owned).collect();
                self.fields = (!names.is_empty()).then_some(names);
            }
            _ => {
                let known: Vec<_> = READING.fields.iter().map(|field| field.name).collect();
                return Err(wrong(&format!("no key of data; there are {}", known.join(", "))));
            }
        }
        Ok(())
    }

    /// Whether the filter takes it, or there is none.
    pub(super) fn takes(&self, object: &Value, budget: &mut Budget) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.takes(object, budget))
    }

    pub(super) fn is_filtered(&self) -> bool {
        self.filter.is_some()
    }

    /// The message as it is asked for; none if it is not.
    fn of_message(&self, json: Vec<u8>, budget: &mut Budget) -> Option<Vec<u8>> {
        if self.filter.is_none() && self.fields.is_none() {
            return Some(json);
        }
        let mut message: Value = serde_json::from_slice(&json).ok()?;
        if !self.takes(&message, budget) {
            return None;
        }
        if let (Some(names), Some(fields)) = (&self.fields, message.as_object_mut()) {
            fields.retain(|name, _| names.iter().any(|it| wildcard::matches(it, name)));
        }
        serde_json::to_vec(&message).ok()
    }
}

/// Microseconds of a time in seconds.
fn micros(value: &Value) -> Option<u64> {
    let secs = value.as_f64().filter(|secs| (0.0..=8e9).contains(secs))?;
    Some((secs * 1e6).round() as u64)
}

/// A read between two slices.
struct Reading {
    channels: Arc<Channels>,
    lives: Vec<Arc<Live>>,
    asked: Asked,
    budget: Budget,
}

impl Slices for Reading {
    const NAME: &'static str = "messages";

    fn next(&mut self) -> Result<Option<Vec<u8>>, TablesError> {
        if self.asked.count == 0 || self.asked.size == 0 {
            return Ok(None);
        }
        let size = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        let slice = Slice {
            rows_max: SLICE.rows_max.min(size(self.asked.count)),
            bytes_max: SLICE.bytes_max.min(size(self.asked.size)),
            is_reverse: self.asked.is_reverse,
        };
        let rows = self.channels.hub.buffer.read(&self.lives, &self.asked.range, &slice)?;
        let Some((last, _)) = rows.last() else { return Ok(None) };
        match slice.is_reverse {
            true => self.asked.range.end = *last,
            false => self.asked.range.start = last + 1,
        }
        let mut written = Vec::new();
        for (_, json) in rows {
            let Some(json) = self.asked.of_message(json, &mut self.budget) else { continue };
            if !written.is_empty() {
                written.push(b',');
            }
            written.extend(json);
            self.asked.count = self.asked.count.saturating_sub(1);
        }
        self.asked.size = self.asked.size.saturating_sub(written.len() as u64);
        Ok(Some(written))
    }

    fn end(self) -> Option<Written> {
        Some(Written::Beside("next_key", self.next_key().into()))
    }
}

impl Reading {
    /// Where whoever comes again goes on. It never goes back, and is 0 only for whoever has read
    /// nothing yet (R3.10).
    fn next_key(&self) -> u64 {
        match self.asked.is_reverse {
            true => self.channels.hub.buffer.end(),
            false if self.is_begun() => self.asked.range.start,
            false => self.asked.curr_key,
        }
    }

    fn is_begun(&self) -> bool {
        self.asked.range.start > self.asked.curr_key
    }
}

/// Answers with messages and `next_key`.
pub(super) async fn read(channels: Arc<Channels>, call: Call) -> Outcome {
    let asked = Asked::of(&call.data()?)?;
    let (found, faults) = channels.objects.choose(&call)?;
    if found.is_empty() && !faults.is_empty() {
        return Ok(Answer::partly(Vec::new(), faults));
    }
    let lives: Vec<_> = found.iter().map(|channel| Arc::clone(&channel.live)).collect();
    if asked.deletes && asked.curr_key > 0 {
        may_delete(&call, &found)?;
        delete_before(&channels, &lives, asked.curr_key).await?;
    }
    if !asked.wait.is_zero() {
        // Nothing newer by then is an answer, too.
        let _ = timeout(asked.wait, newer(&lives, asked.range.start)).await;
    }
    let budget = Budget::new(STEPS_MAX).at(channels.hub.micros() as f64 / 1e6);
    let reading = Reading { channels, lives, asked, budget };
    Ok(answer(reading, faults))
}

/// Once one of these channels has a message that is not before this key.
async fn newer(lives: &[Arc<Live>], key: u64) {
    let wait = |live: &Arc<Live>| -> Pin<Box<dyn Future<Output = ()>>> {
        let (live, mut newest) = (Arc::clone(live), live.newest.subscribe());
        Box::pin(async move {
            let is_there = |newest: &u64| {
                let low = live.low.load(Ordering::Acquire);
                *newest >= key.max(low)
            };
            // A channel that is gone has nothing newer.
            let _ = newest.wait_for(is_there).await;
        })
    };
    let mut waits: Vec<_> = lives.iter().map(wait).collect();
    poll_fn(|cx| match waits.iter_mut().any(|wait| wait.as_mut().poll(cx).is_ready()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

/// Whether the token opens deletion of the messages of these channels, beside reading.
fn may_delete(call: &Call, found: &[Arc<Channel>]) -> Result<(), Fault> {
    let rights = &call.caller()?.rights;
    let closed = match rights.scope(Method::Delete, Channel::URI, Some("messages")) {
        Scope::All => None,
        Scope::Listed(ids) => found.iter().find(|it| !ids.contains(&it.id())),
        Scope::None => found.first(),
    };
    let reason = "the token does not open DELETE of messages";
    closed.map_or(Ok(()), |it| Err(Fault::new(Code::Forbidden, reason).about(it.id())))
}

async fn delete_before(channels: &Channels, lives: &[Arc<Live>], key: u64) -> Result<(), Fault> {
    let is_done = channels.hub.buffer.delete(lives, key.min(channels.hub.buffer.end())).await;
    let fault = || Fault::new(Code::Unavailable, "the deletion cannot be written down");
    if is_done { Ok(()) } else { Err(fault()) }
}

pub(super) fn stopping() -> Fault {
    Fault::new(Code::Unavailable, "the broker stops")
}

/// Deletes the messages before a key, and answers with the numbers of the channels (R3.13).
pub(super) async fn delete(channels: Arc<Channels>, call: Call) -> Outcome {
    let data = call.data()?;
    if let Some(name) = data.keys().find(|name| *name != "delete_key") {
        return Err(Fault::new(Code::Format, "there is delete_key alone").field(name));
    }
    let key = data.get("delete_key").and_then(Value::as_u64).filter(|it| *it >= DELETE_KEY_MIN);
    let key = key.ok_or_else(|| {
        let reason = "a whole number from 2 on is needed: those before it are deleted";
        Fault::new(Code::Format, reason).field("delete_key")
    })?;
    let (found, faults) = channels.objects.choose(&call)?;
    let lives: Vec<_> = found.iter().map(|channel| Arc::clone(&channel.live)).collect();
    delete_before(&channels, &lives, key).await?;
    Ok(Answer::partly(found.iter().map(|it| it.id().into()).collect(), faults))
}
