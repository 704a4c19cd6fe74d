//! The one who writes: messages into histories, what they say into telemetry, many of them with one
//! commit.

use std::sync::Arc;

use hashbrown::HashMap;
use longshore_broker::Message as Publication;
use longshore_broker::module::{Item, State};
use longshore_broker::rest::{Code, Fault};
use longshore_codec::{Property, QoS};
use longshore_storage::{Changes, TablesError};
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

use crate::device::{Device, URI};
use crate::history::{self, Cursor, Key};
use crate::limits::Limits;
use crate::message::{MICROS, Message, Secs};
use crate::now;
use crate::reading::Names;
use crate::roster::{Roster, Sought};
use crate::shelves::{Shelves, two};
use crate::telemetry;

/// Rows that one step of a removal takes away, for each device.
const STEP_ROWS: usize = 4_096;

/// What is asked of it beside messages of channels.
#[derive(Debug)]
pub(crate) struct Work {
    pub(crate) device: Arc<Device>,
    pub(crate) what: What,
    pub(crate) done: oneshot::Sender<Done>,
}

/// Whether there is more to do, or why nothing was done.
pub(crate) type Done = Result<bool, Fault>;

/// See [`Work`].
#[derive(Debug)]
pub(crate) enum What {
    /// Messages that REST brings (R4.12), as JSON.
    Post(Vec<String>),
    /// Takes these messages from the history, with bytes of their rows (R4.13).
    Remove(Vec<(Key, u64)>),
    /// Forgets these parameters; none stands for all (R4.19).
    Forget(Option<Names>),
    /// Takes away what is too old (R4.14, R4.18), a step of it.
    Sweep,
    /// Takes away all of a device that is gone, a step of it.
    Purge,
}

/// What a channel has published.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) account: u64,
    /// JSON.
    pub(crate) text: String,
}

/// What is to be said once a step is durable.
#[derive(Debug, Default)]
pub(crate) struct Written {
    pub(crate) messages: Vec<Publication>,
    pub(crate) states: Vec<State>,
    /// Devices that were heard.
    pub(crate) heard: HashMap<u64, Arc<Device>>,
    /// Others whose histories are not as large as before.
    pub(crate) resized: HashMap<u64, Arc<Device>>,
    pub(crate) answers: Vec<(oneshot::Sender<Done>, Done)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Writer {
    shelves: Arc<Shelves>,
    roster: Arc<Roster>,
    limits: Limits,
    /// Rows of devices that were heard lately. They are the same as in the table.
    states: HashMap<u64, Known>,
    states_bytes: usize,
    steps: u64,
    /// What came before then may have been written already.
    began: u64,
}

#[derive(Debug)]
struct Known {
    state: telemetry::State,
    /// The step that used it last.
    step: u64,
}

/// One step: all of it becomes durable together.
#[derive(Default)]
struct Step {
    changes: Changes,
    written: Written,
    touched: HashMap<u64, Arc<Device>>,
    /// Devices whose histories were looked through.
    swept: Vec<Arc<Device>>,
}

/// When a message was made and came, in microseconds.
#[derive(Clone, Copy)]
struct Times {
    at: u64,
    received: u64,
}

impl Writer {
    pub(crate) fn new(shelves: Arc<Shelves>, roster: Arc<Roster>, limits: Limits) -> Self {
        let (states, states_bytes, steps) = (HashMap::new(), 0, 0);
        Self { shelves, roster, limits, states, states_bytes, steps, began: now() }
    }

    /// From now on what came before may come again.
    pub(crate) fn begin_again(&mut self) {
        self.began = now();
    }

    /// Writes all of it, or none.
    pub(crate) fn write(
        &mut self,
        received: &[Received],
        work: Vec<Work>,
    ) -> Result<Written, TablesError> {
        self.steps += 1;
        let mut step = Step::default();
        let done = self.fill(&mut step, received, work).and_then(|()| self.commit(&mut step));
        if let Err(cause) = done {
            self.forget_states();
            let fault = || Fault::new(Code::Unavailable, format!("it cannot be kept: {cause}"));
            for (to, _) in step.written.answers {
                // Whoever asked may have gone.
                let _ = to.send(Err(fault()));
            }
            return Err(cause);
        }
        if let Err(cause) = self.cut(&mut step) {
            tracing::warn!(%cause, "histories are larger than they may be");
            self.forget_states();
        }
        for (id, device) in &step.touched {
            if let Some(Known { state, .. }) = self.states.get(id) {
                device.live.set(state.history_bytes, state.last_active);
            }
        }
        step.touched.retain(|id, _| !step.written.heard.contains_key(id));
        step.written.resized = step.touched;
        self.trim();
        Ok(step.written)
    }

    /// Takes away what is too much once a step is durable: what it has added was not there before,
    /// and what it has removed is not to be counted twice.
    fn cut(&mut self, step: &mut Step) -> Result<(), TablesError> {
        let swept = std::mem::take(&mut step.swept);
        let mut is_any = step.written.heard.values().any(|device| self.excess(device) > 0);
        for device in swept {
            let id = device.head().id;
            if self.excess(&device) > 0 && !step.written.heard.contains_key(&id) {
                if self.rotate_one(step, &device, STEP_ROWS)? {
                    // Whatever was counted, there is nothing left.
                    self.state(id)?.0.history_bytes = 0;
                }
                step.touched.insert(id, device);
                is_any = true;
            }
        }
        if is_any { self.commit(step) } else { Ok(()) }
    }

    /// Makes durable what a step has changed, and takes away what is too much.
    fn commit(&mut self, step: &mut Step) -> Result<(), TablesError> {
        self.rotate(step)?;
        for id in step.touched.keys() {
            if let Some(known) = self.states.get(id) {
                let row = known.state.to_row();
                step.changes.put(&self.shelves.states, &id.to_be_bytes(), &row);
            }
        }
        self.shelves.tables.commit(std::mem::take(&mut step.changes))
    }

    /// What is in memory may not be in the table.
    fn forget_states(&mut self) {
        self.states.clear();
        self.states_bytes = 0;
    }

    fn fill(
        &mut self,
        step: &mut Step,
        received: &[Received],
        work: Vec<Work>,
    ) -> Result<(), TablesError> {
        // Those who asked hear of an error, too.
        for Work { device, what, done } in work {
            step.written.answers.push((done, Ok(false)));
            let answer = self.work(step, &device, what)?;
            if let Some((_, outcome)) = step.written.answers.last_mut() {
                *outcome = answer;
            }
        }
        received.iter().try_for_each(|it| self.take(step, it))
    }

    /// A message of a channel: it is of the device that has its ident (R3.21, 4.3).
    fn take(&mut self, step: &mut Step, received: &Received) -> Result<(), TablesError> {
        let message = match Message::parse(&received.text) {
            Ok(message) => message,
            Err(error) => {
                tracing::debug!(%error, "a message of a channel is none");
                return Ok(());
            }
        };
        let (protocol, ident) = (message.whole("protocol.id"), message.text("ident"));
        let Some((protocol, ident)) = protocol.zip(ident) else { return Ok(()) };
        let sought = Sought { account: received.account, protocol, ident: &ident };
        let Some(device) = self.roster.find(&sought).filter(|it| it.enabled) else { return Ok(()) };
        drop(ident);
        let came = message.time("server.timestamp").unwrap_or_else(now);
        let times = Times { at: message.time("timestamp").unwrap_or(came), received: came };
        let hash = xxh3_64(received.text.as_bytes());
        self.add(step, &device, message, times, hash)
    }

    /// Adds a message to a device.
    fn add(
        &mut self,
        step: &mut Step,
        device: &Arc<Device>,
        message: Message<'_>,
        times: Times,
        hash: u64,
    ) -> Result<(), TablesError> {
        let (id, account) = (device.head().id, device.head().account);
        let (id_json, type_json) = (id.to_string(), device.type_id().to_string());
        // It borrows from these, too.
        let mut message = message;
        message.set("device.id", &*id_json);
        message.set("device.name", &*device.name_json);
        message.set("device.type.id", &*type_json);
        let mut text = String::with_capacity(512);
        message.write(&mut text);
        let mut is_known = false;
        if device.messages_ttl > 0 {
            let key = history::key(id, times.at, times.received, hash);
            is_known = times.received < self.began && self.shelves.history.get(&key)?.is_some();
            step.changes.put(&self.shelves.history, &key, text.as_bytes());
        }
        let (state, bytes) = self.state(id)?;
        state.account = account;
        let before = state.telemetry.bytes();
        if device.messages_ttl > 0 && !is_known {
            state.history_bytes += history::row_bytes(text.len());
        }
        state.last_active = state.last_active.max(times.received);
        let updated = state.telemetry.update(&message, times.at, times.received);
        *bytes = *bytes + state.telemetry.bytes() - before;

        let time = Secs(times.at).to_string();
        let message = Publication::new(format!("flespi/message/{URI}/{id}"), text)
            .qos(QoS::AtLeastOnce)
            .of_account(account)
            .property(Property::UserProperty("timestamp", &time));
        step.written.messages.push(message);
        let (states, topics) = (&mut step.written.states, telemetry_topics(id));
        for (name, json) in updated.set {
            let state =
                |topic| State { account, topic, payload: Some(json), since: Some(times.at) };
            states.extend(topic_under(&topics, name).map(state));
        }
        clear(states, account, &topics, updated.gone);
        step.touched.insert(id, Arc::clone(device));
        step.written.heard.insert(id, Arc::clone(device));
        Ok(())
    }

    /// What is known of a device, from memory or from its table.
    fn state(&mut self, id: u64) -> Result<(&mut telemetry::State, &mut usize), TablesError> {
        if !self.states.contains_key(&id) {
            let state = self.shelves.state(id)?;
            self.states_bytes += state.telemetry.bytes();
            self.states.insert(id, Known { state, step: self.steps });
        }
        let known = self.states.get_mut(&id).expect("it was there, or was put there");
        known.step = self.steps;
        Ok((&mut known.state, &mut self.states_bytes))
    }

    /// Lets go of devices that were not heard lately while memory holds too much of them.
    fn trim(&mut self) {
        if self.states_bytes <= self.limits.telemetry_cache_bytes {
            return;
        }
        let (steps, mut bytes) = (self.steps, self.states_bytes);
        let aim = self.limits.telemetry_cache_bytes / 2;
        self.states.retain(|_, it| {
            let is_kept = it.step == steps || bytes <= aim;
            bytes -= if is_kept { 0 } else { it.state.telemetry.bytes() };
            is_kept
        });
        self.states_bytes = bytes;
    }

    fn work(
        &mut self,
        step: &mut Step,
        device: &Arc<Device>,
        what: What,
    ) -> Result<Done, TablesError> {
        let id = device.head().id;
        match what {
            What::Post(messages) => return self.post(step, device, &messages),
            What::Remove(rows) => {
                self.remove(step, device, rows)?;
            }
            What::Forget(names) => {
                let (state, bytes) = self.state(id)?;
                let before = state.telemetry.bytes();
                let is_meant = |name: &str| names.as_ref().is_none_or(|it| it.takes(name));
                let gone = state.telemetry.forget(|name, _| is_meant(name));
                *bytes -= before - state.telemetry.bytes();
                let account = device.head().account;
                clear(&mut step.written.states, account, &telemetry_topics(id), gone);
                step.touched.insert(id, Arc::clone(device));
            }
            What::Sweep => return self.sweep(step, device).map(Ok),
            What::Purge => return self.purge(step, device).map(Ok),
        }
        Ok(Ok(false))
    }

    fn post(
        &mut self,
        step: &mut Step,
        device: &Arc<Device>,
        messages: &[String],
    ) -> Result<Done, TablesError> {
        let now = now();
        for (at, text) in messages.iter().enumerate() {
            let mut message = match Message::parse(text) {
                Ok(message) => message,
                Err(error) => {
                    let fault = Fault::new(Code::Format, format!("no message: {error}"));
                    return Ok(Err(fault.at(at)));
                }
            };
            // Each has a time of its own, so that two that are alike are two.
            let received = now + at as u64;
            let time = message.time("timestamp").unwrap_or(received);
            let (received_json, time_json) = (Secs(received).to_string(), Secs(time).to_string());
            let ident = device.ident().map(|ident| serde_json::Value::from(ident).to_string());
            if let Some(ident) = &ident {
                message.set("ident", &**ident);
            }
            message.set("server.timestamp", received_json);
            message.set("timestamp", time_json);
            let times = Times { at: time, received };
            self.add(step, device, message, times, xxh3_64(text.as_bytes()))?;
        }
        Ok(Ok(false))
    }

    fn remove(
        &mut self,
        step: &mut Step,
        device: &Arc<Device>,
        rows: Vec<(Key, u64)>,
    ) -> Result<(), TablesError> {
        let id = device.head().id;
        let (history, table) = (self.shelves.history.clone(), &self.shelves.history);
        // A row may be gone meanwhile, and must not be counted twice.
        let mut bytes = 0;
        for (key, size) in rows {
            if table.get(&key)?.is_some() {
                step.changes.remove(&history, &key);
                bytes += size;
            }
        }
        let (state, _) = self.state(id)?;
        state.history_bytes = state.history_bytes.saturating_sub(bytes);
        step.touched.insert(id, Arc::clone(device));
        Ok(())
    }

    /// Bytes by which a history is too large (4.1, 9).
    fn excess(&self, device: &Device) -> u64 {
        let own = Some(device.messages_rotate).filter(|bytes| *bytes > 0);
        let most = own.unwrap_or(u64::MAX).min(self.limits.history_bytes);
        let known = self.states.get(&device.head().id);
        known.map_or(0, |known| known.state.history_bytes.saturating_sub(most))
    }

    /// Takes the oldest messages of those who were heard and whose history is too large.
    fn rotate(&mut self, step: &mut Step) -> Result<(), TablesError> {
        let heard: Vec<_> = step.written.heard.values().map(Arc::clone).collect();
        heard.iter().try_for_each(|device| self.rotate_one(step, device, usize::MAX).map(|_| ()))
    }

    /// Takes the oldest messages of what is in the table while that is too large, so many at most.
    /// Whether that was all there is.
    fn rotate_one(
        &mut self,
        step: &mut Step,
        device: &Device,
        most: usize,
    ) -> Result<bool, TablesError> {
        let (id, excess) = (device.head().id, self.excess(device));
        if excess == 0 {
            return Ok(false);
        }
        let mut cursor = Cursor::new(&self.shelves.history, id, 0, u64::MAX, false);
        let (mut gone, mut rows, mut is_all) = (0, 0, true);
        'slices: while gone < excess
            && let Some(slice) = cursor.next_slice()?
        {
            for (key, text) in slice {
                if gone >= excess || rows == most {
                    is_all = false;
                    break 'slices;
                }
                step.changes.remove(&self.shelves.history, &key);
                gone += history::row_bytes(text.len());
                rows += 1;
            }
        }
        if let Some(known) = self.states.get_mut(&id) {
            known.state.history_bytes = known.state.history_bytes.saturating_sub(gone);
        }
        Ok(is_all && gone < excess)
    }

    /// Removes the first rows up to a time; whether there may be more.
    fn remove_until(
        &mut self,
        step: &mut Step,
        device: &Arc<Device>,
        until: u64,
    ) -> Result<bool, TablesError> {
        let mut cursor = Cursor::new(&self.shelves.history, device.head().id, 0, until, false);
        let mut rows = Vec::new();
        while rows.len() < STEP_ROWS
            && let Some(slice) = cursor.next_slice()?
        {
            rows.extend(slice.into_iter().map(|(key, it)| (key, history::row_bytes(it.len()))));
        }
        let is_more = rows.len() >= STEP_ROWS;
        if !rows.is_empty() {
            self.remove(step, device, rows)?;
        }
        Ok(is_more)
    }

    fn sweep(&mut self, step: &mut Step, device: &Arc<Device>) -> Result<bool, TablesError> {
        let (now, id) = (now(), device.head().id);
        let until = match device.messages_ttl {
            0 => u64::MAX,
            ttl => now.saturating_sub(ttl * MICROS),
        };
        let is_more = self.remove_until(step, device, until)?;
        let (state, bytes) = self.state(id)?;
        let before = state.telemetry.bytes();
        let gone = state.telemetry.forget_old(now);
        *bytes -= before - state.telemetry.bytes();
        if !gone.is_empty() {
            let account = device.head().account;
            clear(&mut step.written.states, account, &telemetry_topics(id), gone);
            step.touched.insert(id, Arc::clone(device));
        }
        step.swept.push(Arc::clone(device));
        Ok(is_more || self.excess(device) > 0)
    }

    fn purge(&mut self, step: &mut Step, device: &Arc<Device>) -> Result<bool, TablesError> {
        let id = device.head().id;
        let is_more = self.remove_until(step, device, u64::MAX)?;
        step.touched.remove(&id);
        let (state, bytes) = self.state(id)?;
        *bytes -= state.telemetry.bytes();
        let gone = state.telemetry.forget(|_, _| true);
        self.states.remove(&id);
        let states = &mut step.written.states;
        clear(states, device.head().account, &telemetry_topics(id), gone);
        let shelves = &self.shelves;
        let own = ["blocked", "connected", "last_active", "messages_size"].map(str::to_owned);
        let settings = shelves.settings(device)?.into_iter();
        let topics = own.into_iter().chain(settings.map(|it| format!("settings/{}", it.name)));
        states.extend(topics.map(|it| state_of(device, &it, None)));
        step.changes.remove(&shelves.states, &id.to_be_bytes());
        for table in [&shelves.commands, &shelves.results, &shelves.settings] {
            for row in table.range(&two(id, 0)[..8]..&two(id + 1, 0)[..8]) {
                step.changes.remove(table, &row?.0);
            }
        }
        Ok(is_more)
    }
}

/// Whether a name can be a level of a topic.
pub(crate) fn is_level(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| matches!(c, '/' | '+' | '#') || c.is_control())
}

/// What topics begin with under which parameters of a device are retained.
fn telemetry_topics(id: u64) -> String {
    format!("flespi/state/{URI}/{id}/telemetry/")
}

/// Where a parameter is retained; none for a name that no level of a topic can be.
fn topic_under(topics: &str, name: &str) -> Option<String> {
    is_level(name).then(|| [topics, name].concat())
}

/// Nothing is retained of these parameters any more.
fn clear(states: &mut Vec<State>, account: u64, topics: &str, names: Vec<Box<str>>) {
    let topics = names.iter().filter_map(|name| topic_under(topics, name));
    states.extend(topics.map(|topic| State { account, topic, payload: None, since: None }));
}

/// What is retained of a device under this name.
pub(crate) fn state_of(device: &Device, name: &str, payload: Option<String>) -> State {
    let topic = format!("flespi/state/{URI}/{}/{name}", device.head().id);
    State { account: device.head().account, topic, payload, since: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shelves::named;

    #[test]
    fn a_device_is_purged_with_all_rows_whose_keys_begin_with_its_number() {
        let (first, last) = (two(7, 0), two(8, 0));
        for key in [two(7, 0).to_vec(), two(7, u64::MAX).to_vec(), named(7, "\u{ff}")] {
            assert!(key[..] >= first[..8] && key[..] < last[..8]);
        }
        assert!(named(6, "z")[..] < first[..8]);
    }

    #[test]
    fn a_parameter_that_is_no_level_of_a_topic_is_not_retained() {
        let under = telemetry_topics(1);
        assert!(topic_under(&under, "custom.a b").is_some());
        for name in ["a/b", "+", "a#", "a\n"] {
            assert_eq!(topic_under(&under, name), None, "{name}");
        }
    }
}
