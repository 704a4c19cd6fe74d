//! Reading raw traffic: whose there is, and what it was (R3.17).

use std::collections::VecDeque;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use longshore_broker::rest::{Answer, Call, Code, Fault, Field, Kind, Object, Outcome};
use longshore_expression::Budget;
use longshore_expression::wildcard::Pattern;
use longshore_storage::TablesError;
use serde_json::{Value, json};

use super::messages::{Asked, SLICE, STEPS_MAX};
use super::slices::{Slices, answer};
use crate::buffer::Slice;
use crate::channels::Channels;
use crate::hub::moment;
use crate::live::Live;
use crate::packets::{Packet, sized};

/// Rows of the table of idents that are read at once: they are short.
const ROWS_MAX: usize = 16_384;

pub(super) static IDENT: Object = Object {
    name: "ChannelIdent",
    fields: &[
        Field::new("ident", Kind::Text, "Who it is"),
        Field::new("size", Kind::Whole, "Bytes of its raw traffic that are kept"),
        Field::new("channel_id", Kind::Whole, "The channel that keeps them"),
    ],
    is_open: false,
};

/// What `type` means.
const TYPES: &str = "2 received over TCP, 34 MQTT, 66 HTTP, 130 UDP; one more if sent";

pub(super) static PACKET: Object = Object {
    name: "ChannelPacket",
    fields: &[
        Field::new("timestamp", Kind::Any, "When it went over, in unix seconds"),
        Field::new("type", Kind::Whole, TYPES),
        Field::new("conn", Kind::Whole, "Its connection; 0 over UDP and MQTT"),
        Field::new("ident", Kind::Text, "The device"),
        Field::new("channel_id", Kind::Whole, "Its channel"),
        Field::new("source", Kind::Text, "Who said it: device or hub"),
        Field::new("peer", Kind::Text, "Address and port of the device"),
        Field::new("size", Kind::Whole, "Bytes that went over"),
        Field::new("data", Kind::Text, "The first 65536 of them, in base64"),
    ],
    is_open: false,
};

pub(super) static READING: Object = Object {
    name: "ChannelPacketReading",
    fields: &[
        Field::new("from", Kind::Any, "timestamp of the first one, unix seconds").sent(),
        Field::new("to", Kind::Any, "timestamp of the last one, unix seconds").sent(),
        Field::new("count", Kind::Whole, "Packets at most").sent(),
        Field::new("reverse", Kind::Flag, "The newest first").sent(),
        Field::new("filter", Kind::Text, "An expression, or tests like type=2").sent(),
    ],
    is_open: false,
};

/// The idents that a call means.
enum Mask {
    One(String),
    Those(Pattern, Budget),
}

impl Mask {
    fn of(text: &str) -> Self {
        match text {
            // However it is spelled: an ident may have asterisks.
            _ if let Some(ident) = text.strip_prefix('=') => Self::One(ident.to_owned()),
            "all" => Self::Those(Pattern::new("*"), Budget::new(STEPS_MAX)),
            _ if text.contains(['*', '?']) => {
                Self::Those(Pattern::new(text), Budget::new(STEPS_MAX))
            }
            _ => Self::One(text.to_owned()),
        }
    }

    fn takes(&mut self, ident: &str) -> bool {
        match self {
            Self::One(one) => one == ident,
            Self::Those(pattern, budget) => pattern.matches(ident, budget).unwrap_or(false),
        }
    }

    fn one(&self) -> Option<&str> {
        match self {
            Self::One(one) => Some(one),
            Self::Those(..) => None,
        }
    }
}

/// The idents of channels, one channel after the other.
struct Listing {
    channels: Arc<Channels>,
    lives: VecDeque<Arc<Live>>,
    mask: Mask,
    /// Where in the table the next row of the first channel is.
    place: Option<Vec<u8>>,
    /// The ident whose rows are being added up.
    current: Option<(String, u64)>,
}

impl Listing {
    fn finish(&mut self, id: u64, found: &mut Vec<Value>) {
        if let Some((ident, size)) = self.current.take() {
            found.push(json!({"ident": ident, "size": size, "channel_id": id}));
        }
    }
}

impl Slices for Listing {
    const NAME: &'static str = "packets";

    fn next(&mut self) -> Result<Option<Vec<u8>>, TablesError> {
        let Some(live) = self.lives.front().cloned() else { return Ok(None) };
        if let (None, Some(one)) = (&self.place, self.mask.one()) {
            self.place = Some([one.as_bytes(), &[0]].concat());
        }
        let (mut found, mut count) = (Vec::new(), 0);
        for row in self.channels.hub.buffer.packets.by_ident(live.id, self.place.as_deref()) {
            let (key, value) = row?;
            let Some((place, ident, size)) = sized(&key, &value) else { continue };
            if count == ROWS_MAX {
                self.place = Some(place.to_owned());
                return Ok(Some(text(&found)));
            }
            count += 1;
            match &mut self.current {
                Some((current, sum)) if current == ident => *sum += size,
                _ => {
                    self.finish(live.id, &mut found);
                    if self.mask.takes(ident) {
                        self.current = Some((ident.to_owned(), size));
                    } else if self.mask.one().is_some() {
                        break;
                    }
                }
            }
        }
        self.finish(live.id, &mut found);
        self.place = None;
        self.lives.pop_front();
        Ok(Some(text(&found)))
    }
}

/// The packets of channels, in the order of time.
struct Packets {
    channels: Arc<Channels>,
    lives: Vec<Arc<Live>>,
    mask: Mask,
    asked: Asked,
    budget: Budget,
}

impl Slices for Packets {
    const NAME: &'static str = "packets";

    fn next(&mut self) -> Result<Option<Vec<u8>>, TablesError> {
        if self.asked.count == 0 {
            return Ok(None);
        }
        let mut slice = Slice { is_reverse: self.asked.is_reverse, ..SLICE };
        if self.mask.one().is_some() && !self.asked.is_filtered() {
            let count = usize::try_from(self.asked.count).unwrap_or(usize::MAX);
            slice.rows_max = slice.rows_max.min(count);
        }
        let (packets, range) = (&self.channels.hub.buffer.packets, &self.asked.range);
        let rows = packets.read(&self.lives, self.mask.one(), range, &slice)?;
        let Some((_, last, _)) = rows.last() else { return Ok(None) };
        match slice.is_reverse {
            true => self.asked.range.end = *last,
            false => self.asked.range.start = last + 1,
        }
        let mut found = Vec::new();
        for (channel, key, row) in &rows {
            let Some(packet) = Packet::read(row).filter(|it| self.mask.takes(it.ident)) else {
                continue;
            };
            if self.asked.count == 0 {
                break;
            }
            let shown = shown(*channel, *key, &packet);
            if self.asked.takes(&shown, &mut self.budget) {
                self.asked.count -= 1;
                found.push(shown);
            }
        }
        Ok(Some(text(&found)))
    }
}

fn shown(channel: u64, key: u64, packet: &Packet<'_>) -> Value {
    json!({
        "timestamp": Value::from(moment(key)), "type": packet.kind, "conn": packet.connection,
        "ident": packet.ident, "channel_id": channel,
        "source": if packet.is_of_hub() { "hub" } else { "device" }, "peer": packet.peer,
        "size": packet.size, "data": BASE64_STANDARD.encode(packet.data),
    })
}

fn text(objects: &[Value]) -> Vec<u8> {
    let texts: Vec<String> = objects.iter().map(Value::to_string).collect();
    texts.join(",").into_bytes()
}

/// Answers with the idents that have raw traffic.
pub(super) async fn list(channels: Arc<Channels>, call: Call) -> Outcome {
    let (found, faults) = channels.objects.choose(&call)?;
    if found.is_empty() && !faults.is_empty() {
        return Ok(Answer::partly(Vec::new(), faults));
    }
    let lives = found.iter().map(|channel| Arc::clone(&channel.live)).collect();
    let mask = Mask::of(call.parameter(1));
    Ok(answer(Listing { channels, lives, mask, place: None, current: None }, faults))
}

/// Answers with packets.
pub(super) async fn read(channels: Arc<Channels>, call: Call) -> Outcome {
    let data = call.data()?;
    let is_known = |name: &str| READING.fields.iter().any(|field| field.name == name);
    if let Some(name) = data.keys().find(|name| !is_known(name)) {
        let reason = "there are from, to, count, reverse and filter";
        return Err(Fault::new(Code::Format, reason).field(name));
    }
    let asked = Asked::of(&data)?;
    let (found, faults) = channels.objects.choose(&call)?;
    if found.is_empty() && !faults.is_empty() {
        return Ok(Answer::partly(Vec::new(), faults));
    }
    let lives = found.iter().map(|channel| Arc::clone(&channel.live)).collect();
    let mask = Mask::of(call.parameter(1));
    let budget = Budget::new(STEPS_MAX).at(channels.hub.micros() as f64 / 1e6);
    Ok(answer(Packets { channels, lives, mask, asked, budget }, faults))
}
