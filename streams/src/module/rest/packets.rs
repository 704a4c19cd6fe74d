//! Reading raw traffic (R6.16).

use std::ops::Range;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use longshore_acl::Method;
use longshore_broker::module::Item;
use longshore_broker::rest::{
    Answer, Call, Code, Fault, Field, Gate, Handler, Items, Kind, Object, Outcome, Route, Takes,
    Written,
};
use longshore_expression::{Budget, Filter};
use longshore_storage::TablesError;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::super::stream::Stream;
use super::super::{Streams, now};
use crate::packets::{Found, Packet};

/// Packets that one request is answered with, at most.
const COUNT_MAX: u64 = 1_000_000;
/// Steps that a filter takes for all packets of a request: some seconds.
const STEPS_MAX: u64 = 100_000_000;

/// What `type` means.
const TYPES: &str = "2 received over TCP, 34 MQTT, 66 HTTP; one more if sent";

static PACKET: Object = Object {
    name: "StreamPacket",
    fields: &[
        Field::new("timestamp", Kind::Any, "When it went over, in unix seconds"),
        Field::new("type", Kind::Whole, TYPES),
        Field::new("conn", Kind::Whole, "Its connection"),
        Field::new("stream_id", Kind::Whole, "Its stream"),
        Field::new("source", Kind::Text, "Who said it: hub or platform"),
        Field::new("peer", Kind::Text, "Host and port of the platform"),
        Field::new("topic", Kind::Text, "Where it was published, over MQTT"),
        Field::new("packet_id", Kind::Whole, "Its number, and that of its acknowledgement"),
        Field::new("status", Kind::Whole, "Of an answer, over HTTP"),
        Field::new("size", Kind::Whole, "Bytes of it: a body of HTTP, a payload of MQTT"),
        Field::new("data", Kind::Text, "The first 65536 of them, in base64"),
    ],
    is_open: false,
};

static READING: Object = Object {
    name: "StreamPacketReading",
    fields: &[
        Field::new("from", Kind::Any, "timestamp of the first one, unix seconds").sent(),
        Field::new("to", Kind::Any, "timestamp of the last one, unix seconds").sent(),
        Field::new("count", Kind::Whole, "Packets at most").sent(),
        Field::new("reverse", Kind::Flag, "The newest first").sent(),
        Field::new("filter", Kind::Text, "An expression, or tests like status>=500").sent(),
    ],
    is_open: false,
};

pub(super) fn reading(streams: &Arc<Streams>, path: &'static str) -> Route {
    let streams = Arc::clone(streams);
    Route {
        method: Method::Get,
        path,
        about: "Read what streams and their platforms said, as long as `packets_ttl` keeps it",
        gate: Gate::Sub(Stream::URI, "packets"),
        takes: Takes::Data(&READING),
        gives: Some(&PACKET),
        handler: Handler::waiting(move |call| {
            let streams = Arc::clone(&streams);
            Box::pin(async move { read(streams, &call) })
        }),
    }
}

/// What a request asks for.
struct Asked {
    range: Range<u64>,
    count: u64,
    is_reverse: bool,
    filter: Option<Filter>,
    budget: Budget,
}

impl Asked {
    fn of(data: &Map<String, Value>) -> Result<Self, Fault> {
        let mut asked = Self {
            range: 0..u64::MAX,
            count: COUNT_MAX,
            is_reverse: false,
            filter: None,
            budget: Budget::new(STEPS_MAX).at(now() as f64 / 1e6),
        };
        for (name, value) in data.iter().filter(|(_, value)| !value.is_null()) {
            asked.set(name, value)?;
        }
        Ok(asked)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<(), Fault> {
        let wrong = |what: &str| Fault::new(Code::Format, format!("{name} is {what}")).field(name);
        let time = || micros(value).ok_or_else(|| wrong("unix seconds"));
        match name {
            "from" => self.range.start = time()?,
            // 0 is no end, as in other readings.
            "to" => {
                self.range.end = Some(time()?).filter(|to| *to > 0).map_or(u64::MAX, |it| it + 1)
            }
            "count" => {
                let count = value.as_u64().filter(|count| (1..=COUNT_MAX).contains(count));
                self.count = count.ok_or_else(|| wrong("a whole number, 1 to 1000000"))?;
            }
            "reverse" => {
                self.is_reverse = value.as_bool().ok_or_else(|| wrong("true or false"))?;
            }
            "filter" => {
                let text = value.as_str().ok_or_else(|| wrong("a text"))?;
                let parsed = Some(text).filter(|it| !it.is_empty()).map(Filter::parse).transpose();
                self.filter = parsed.map_err(|error| wrong(&format!("no expression: {error}")))?;
            }
            _ => return Err(wrong("not there; there are from, to, count, reverse and filter")),
        }
        Ok(())
    }

    /// Packets as they are asked for, as JSON with commas between them.
    fn take(&mut self, rows: &[Found]) -> Vec<u8> {
        let mut written = String::new();
        for (stream, key, row) in rows {
            if self.count == 0 {
                break;
            }
            let Some(packet) = Packet::read(row) else { continue };
            let shown = shown(*stream, *key, &packet);
            if self.filter.as_ref().is_some_and(|it| !it.takes(&shown, &mut self.budget)) {
                continue;
            }
            self.count -= 1;
            if !written.is_empty() {
                written.push(',');
            }
            written.push_str(&shown.to_string());
        }
        written.into_bytes()
    }
}

/// Microseconds of a time in seconds.
fn micros(value: &Value) -> Option<u64> {
    let secs = value.as_f64().filter(|secs| (0.0..=8e9).contains(secs))?;
    Some((secs * 1e6).round() as u64)
}

fn shown(stream: u64, key: u64, packet: &Packet<'_>) -> Value {
    let mut shown = json!({
        "timestamp": key as f64 / 1e6, "type": packet.kind, "conn": packet.connection,
        "stream_id": stream,
        "source": if packet.is_of_hub() { "hub" } else { "platform" }, "peer": packet.peer,
        "size": packet.size, "data": BASE64_STANDARD.encode(packet.data),
    });
    let tag = packet.tag;
    if let Some(topic) = tag.topic {
        shown["topic"] = topic.into();
    }
    for (name, number) in [("packet_id", tag.packet_id), ("status", tag.status)] {
        if let Some(number) = number {
            shown[name] = number.into();
        }
    }
    shown
}

/// Answers with packets of streams, in the order of time.
fn read(streams: Arc<Streams>, call: &Call) -> Outcome {
    let asked = Asked::of(&call.data()?)?;
    let (found, faults) = streams.objects.choose(call)?;
    if found.is_empty() && !faults.is_empty() {
        return Ok(Answer::partly(Vec::new(), faults));
    }
    let ids = found.iter().map(|stream| stream.head().id).collect();
    // Nothing more is read while a client does not take what there is.
    let (to, from) = mpsc::channel(1);
    tokio::task::spawn_local(send_all(streams, ids, asked, to));
    Ok(Answer::objects(Items::Written(from)).with_faults(faults))
}

async fn send_all(
    streams: Arc<Streams>,
    mut ids: Vec<u64>,
    mut asked: Asked,
    to: mpsc::Sender<Result<Written, Fault>>,
) {
    while !ids.is_empty() && asked.count > 0 {
        let packets = Arc::clone(&streams.packets);
        let step = spawn_blocking(move || {
            let rows = packets.read(&mut ids, &asked.range, asked.is_reverse)?;
            if let Some((_, last, _)) = rows.last() {
                match asked.is_reverse {
                    true => asked.range.end = *last,
                    false => asked.range.start = last + 1,
                }
            }
            let written = asked.take(&rows);
            Ok::<_, TablesError>((written, ids, asked))
        });
        let written = match step.await {
            Ok(Ok((written, left, after))) => {
                (ids, asked) = (left, after);
                written
            }
            Ok(Err(error)) => {
                let text = format!("packets cannot be read: {error}");
                return give_up(&to, Fault::new(Code::Unavailable, text)).await;
            }
            Err(_) => {
                let fault = Fault::new(Code::Unavailable, "the broker stops");
                return give_up(&to, fault).await;
            }
        };
        let is_empty = written.is_empty();
        let objects = Ok(Written::Objects(written.into()));
        // A read that finds little may be long.
        if to.is_closed() || (!is_empty && to.send(objects).await.is_err()) {
            return;
        }
    }
}

async fn give_up(to: &mpsc::Sender<Result<Written, Fault>>, fault: Fault) {
    // Whoever asked may have gone.
    let _ = to.send(Err(fault)).await;
}
