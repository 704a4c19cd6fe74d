//! Logs of accounts: who is asked about, and what `data` asks for (broker specification, 20.1 and
//! 20.6).
//!
//! A read goes on a slice at a time, each on a thread that may wait for the disk and only once the
//! client has taken the one before: a client that is slow holds no thread, and no log in memory.

use std::sync::Arc;

use hashbrown::HashSet;
use longshore_expression::Filter;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tokio::task::spawn_local;

use super::answer::{Answer, Items, Outcome};
use super::blocking;
use super::call::Call;
use super::fault::{Code, Fault};
use super::schema::{Field, Fields, Kind, Object};
use crate::accounts::{Accounts, Cursor, LogQuery, meets};
use crate::clock::Wall;
use crate::notices::OF_MQTT;

/// What every record has; the others are by what has happened.
pub(crate) static RECORD: Object = Object {
    name: "LogRecord",
    fields: &[
        Field::new("timestamp", Kind::Any, "When it happened, in unix seconds"),
        Field::new("cid", Kind::Whole, "The account in whose log it is"),
        Field::new("event_code", Kind::Whole, "What happened: see toolbox/codes"),
        Field::new("origin_type", Kind::Whole, "To what kind of object"),
        Field::new("origin_id", Kind::Whole, "To which of them"),
    ],
    is_open: true,
};

/// The keys of `data`.
pub(crate) static READING: Object = Object {
    name: "LogReading",
    fields: &[
        Field::new("from", Kind::Any, "Not before then, in unix seconds; 0: from the first").sent(),
        Field::new("to", Kind::Any, "Not after then, in unix seconds; 0: to the last").sent(),
        Field::new("count", Kind::Whole, "Records at most").sent(),
        Field::new("reverse", Kind::Flag, "The newest first").sent(),
        Field::new("fields", Kind::Text, "Fields of records, parted by commas").sent(),
        Field::new("filter", Kind::Text, "An expression, or tests like event_code>=5").sent(),
        Field::new("item_type", Kind::Any, "Their origin_type, or a list of such").sent(),
    ],
    is_open: false,
};

/// Records that one request is answered with at most.
const COUNT_MAX: u64 = 1_000_000;
/// Records that are looked at in one slice.
const SLICE: usize = 256;
/// Records that wait until they are read.
const WAITING: usize = 64;
/// Seconds to which a time may come: the numbers of JSON have every microsecond until then.
const SECS_MAX: f64 = 8e9;

/// How statistics may be summed up.
const METHODS: [&str; 3] = ["average", "minimum", "maximum"];

/// Whose records are asked for.
pub(crate) struct Subject {
    /// In whose logs they are.
    pub(crate) accounts: Vec<u64>,
    /// Their `origin_type`.
    pub(crate) types: Vec<u64>,
    /// Their `origin_id`; none for all.
    pub(crate) ids: Option<HashSet<u64>>,
    /// What was asked for and is not there.
    pub(crate) faults: Vec<Fault>,
}

impl Subject {
    /// All of these types in the branch of the call.
    pub(crate) fn branch(call: &Call, types: &[u64]) -> Self {
        let accounts = call.api.accounts.read().branch(call.account);
        Self { accounts, types: types.to_vec(), ids: None, faults: Vec::new() }
    }

    fn has(&self, record: &Value) -> bool {
        let number = |name| record.get(name).and_then(Value::as_u64);
        number("origin_type").is_some_and(|of| self.types.contains(&of))
            && self
                .ids
                .as_ref()
                .is_none_or(|ids| number("origin_id").is_some_and(|id| ids.contains(&id)))
    }
}

/// What `data` asks for (20.6).
pub(crate) struct Asked {
    pub(crate) from: Wall,
    /// Before then.
    pub(crate) to: Wall,
    pub(crate) count: usize,
    pub(crate) reverse: bool,
    pub(crate) fields: Fields,
    pub(crate) filter: Option<Filter>,
    types: Option<Vec<u64>>,
}

impl Asked {
    /// Reads `data`, of records of the object that the route gives.
    pub(crate) fn of(call: &Call, keys: &Object) -> Result<Self, Fault> {
        let (fields, data) = (call.fields()?, call.data()?);
        let count = COUNT_MAX as usize;
        let (from, to) = (Wall(0), Wall(u64::MAX));
        let mut asked = Self { from, to, count, reverse: false, fields, filter: None, types: None };
        for (name, value) in &data {
            if keys.fields.iter().all(|field| field.name != name) {
                return Err(Fault::new(Code::Format, format!("no key {name:?} in data")));
            }
            asked.set(call, name, value).map_err(|fault| fault.field(name))?;
        }
        Ok(asked)
    }

    fn set(&mut self, call: &Call, name: &str, value: &Value) -> Result<(), Fault> {
        let wrong = |what: &str| Fault::new(Code::Format, format!("{name} is {what}"));
        let text = || value.as_str().ok_or_else(|| wrong("a text"));
        match name {
            "from" => self.from = Wall(micros(value).ok_or_else(|| wrong("unix seconds"))?),
            // 0 is no end, as in readings of messages (R8.2).
            "to" => match micros(value).ok_or_else(|| wrong("unix seconds"))? {
                0 => {}
                to => self.to = Wall(to + 1),
            },
            "count" => {
                let count = value.as_u64().filter(|count| (1..=COUNT_MAX).contains(count));
                self.count = count.ok_or_else(|| wrong("from 1 to 1000000"))? as usize;
            }
            "reverse" => self.reverse = value.as_bool().ok_or_else(|| wrong("true or false"))?,
            "fields" => {
                if let Some(object) = call.route.gives {
                    self.fields = Fields::parse(Some(text()?), object)?;
                }
            }
            "filter" => {
                let filter = Some(text()?).filter(|text| !text.is_empty());
                let filter = filter.map(Filter::parse).transpose();
                self.filter = filter.map_err(|error| wrong(&format!("no expression: {error}")))?;
            }
            "item_type" => {
                let types = match value {
                    Value::Array(list) => list.iter().map(Value::as_u64).collect(),
                    value => value.as_u64().map(|of| vec![of]),
                };
                self.types = Some(types.ok_or_else(|| wrong("a number, or a list of such"))?);
            }
            "generalize" if value.as_u64().is_none() => return Err(wrong("seconds")),
            "method" if !METHODS.contains(&text()?) => {
                return Err(wrong("average, minimum or maximum"));
            }
            _ => {}
        }
        Ok(())
    }
}

impl Asked {
    /// Whether a record of this time is asked for.
    pub(crate) fn is_met(&self, at: Wall, record: &Map<String, Value>) -> bool {
        let meets = |filter: &Filter| meets(filter, &Value::Object(record.clone()));
        (self.from..self.to).contains(&at) && self.filter.as_ref().is_none_or(meets)
    }
}

/// Microseconds of a time in seconds.
fn micros(value: &Value) -> Option<u64> {
    let secs = value.as_f64().filter(|secs| (0.0..=SECS_MAX).contains(secs))?;
    Some((secs * 1e6).round() as u64)
}

/// A read between two slices.
struct Reading {
    accounts: Arc<Accounts>,
    subject: Subject,
    asked: Asked,
    cursor: Cursor,
}

impl Reading {
    fn begin(
        call: &Call,
        subject: impl FnOnce(&Call) -> Result<Subject, Fault>,
    ) -> Result<Self, Fault> {
        let (mut asked, mut subject) = (Asked::of(call, &READING)?, subject(call)?);
        if let Some(types) = asked.types.take() {
            subject.types.retain(|of| types.contains(of));
        }
        let query = LogQuery {
            from: asked.from,
            to: asked.to,
            count: asked.count,
            reverse: asked.reverse,
            ..LogQuery::of(&subject.accounts)
        };
        let accounts = Arc::clone(&call.api.accounts);
        let cursor = accounts.logs().cursor(&query).map_err(|cause| unreadable(&cause))?;
        Ok(Self { accounts, subject, asked, cursor })
    }

    fn next(&mut self) -> Result<Option<Vec<Map<String, Value>>>, Fault> {
        let (subject, filter) = (&self.subject, self.asked.filter.as_ref());
        let wanted = |record: &Value| {
            subject.has(record) && filter.is_none_or(|filter| meets(filter, record))
        };
        let found = self.cursor.next_slice(self.accounts.logs(), SLICE, wanted);
        found.map_err(|cause| unreadable(&cause))
    }
}

fn unreadable(cause: &longshore_storage::TablesError) -> Fault {
    Fault::new(Code::Unavailable, format!("the log cannot be read: {cause}"))
}

/// Answers with the records that the call asks for, of whom `subject` says.
pub(crate) async fn read(
    call: Call,
    subject: impl FnOnce(&Call) -> Result<Subject, Fault> + Send + 'static,
) -> Outcome {
    let mut reading = blocking(move || Reading::begin(&call, subject)).await??;
    let faults = std::mem::take(&mut reading.subject.faults);
    if reading.subject.ids.as_ref().is_some_and(HashSet::is_empty) && !faults.is_empty() {
        return Ok(Answer::partly(Vec::new(), faults));
    }
    let (to, from) = mpsc::channel(WAITING);
    spawn_local(async move {
        if let Err(fault) = send_all(reading, &to).await {
            // Whoever asked may have gone.
            let _ = to.send(Err(fault)).await;
        }
    });
    Ok(Answer::objects(Items::Sent(from)).with_faults(faults))
}

async fn send_all(
    mut reading: Reading,
    to: &mpsc::Sender<Result<Value, Fault>>,
) -> Result<(), Fault> {
    while !to.is_closed() {
        let step = move || (reading.next(), reading);
        let (found, after) = blocking(step).await?;
        let Some(found) = found? else { return Ok(()) };
        for record in found {
            if to.send(Ok(after.asked.fields.of(record))).await.is_err() {
                return Ok(());
            }
        }
        reading = after;
    }
    Ok(())
}

/// What has happened to sessions and their subscriptions.
pub(crate) async fn of_mqtt(call: Call) -> Outcome {
    read(call, |call| Ok(Subject::branch(call, &OF_MQTT))).await
}
