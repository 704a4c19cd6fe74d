//! What channels and devices say, into the queues of the streams that are linked to them.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use longshore_broker::module::{Event, Head, Item};
use longshore_broker::{Batch, Inbox, LinkError, Message};
use longshore_codec::{QoS, SubscribeOptions};
use longshore_storage::Changes;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::deed::Deed;
use super::held::{Held, Released, Twin, Whose, twin, whose};
use super::links::{Index, Source};
use super::seen::{Mark, Seen};
use super::stream::{BLOCKED_BY_STORAGE, Stream};
use super::{Streams, now};
use crate::{QueueError, Report};

/// What is listened to, of all accounts.
const FILTERS: [&str; 2] = ["flespi/message/gw/channels/+/+", "flespi/message/gw/devices/+"];
/// Messages that are taken together, in one commit.
const BATCH_MESSAGES: usize = 1_000;
/// How long a batch that is not full waits after the one before it has begun: many sources that
/// speak one by one share a commit.
const STEP: Duration = Duration::from_millis(5);
/// How often messages that are held are looked at.
const TICK: Duration = Duration::from_millis(500);

/// What a device message has that says which channel message it was.
#[derive(Deserialize)]
struct Origin<'a> {
    #[serde(borrow)]
    ident: Option<Cow<'a, str>>,
    timestamp: Option<f64>,
    #[serde(rename = "channel.id")]
    channel: Option<u64>,
}

/// What one commit takes.
#[derive(Default)]
struct Plan {
    queues: BTreeMap<u64, Vec<Bytes>>,
    /// How many each stream has had in another form.
    skipped: BTreeMap<u64, usize>,
    changes: Changes,
}

impl Plan {
    fn add(&mut self, stream: u64, payload: Bytes) {
        self.queues.entry(stream).or_default().push(payload);
    }

    fn release(&mut self, released: impl IntoIterator<Item = Released>) {
        released.into_iter().for_each(|(stream, payload)| self.add(stream, payload));
    }
}

/// The one that listens.
pub(super) struct Intake {
    streams: Arc<Streams>,
    held: Held,
    seen: Seen,
}

impl Intake {
    pub(super) fn open(streams: Arc<Streams>) -> Result<Self, QueueError> {
        let tables = streams.context.tables();
        let (held, seen) = (Held::open(tables)?, Seen::open(tables)?);
        Ok(Self { streams, held, seen })
    }

    /// Listens until the session is lost.
    ///
    /// # Errors
    /// The tables take nothing any more: what has come since waits in the session.
    pub(super) async fn run(mut self) -> Result<(), QueueError> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut inbox = self.streams.context.link("streams").inbox("messages");
        // A session of an earlier process may still ask for what nobody wants any more.
        let is_wanted = !self.streams.links.read().is_empty();
        let mut is_open = self.listen(&mut inbox, is_wanted).await;
        let mut next_step = Instant::now();
        while is_open {
            let batch = async {
                sleep_until(next_step).await;
                inbox.recv(BATCH_MESSAGES).await
            };
            tokio::select! {
                batch = batch => match batch {
                    Some(mut batch) => {
                        if batch.messages.len() < BATCH_MESSAGES {
                            next_step = Instant::now() + STEP;
                        }
                        self.take(&mut batch).await?;
                        inbox.done(&batch);
                    }
                    None => is_open = false,
                },
                () = self.streams.wanted.notified() => {
                    is_open = self.listen(&mut inbox, true).await;
                }
                _ = ticks.tick() => self.release().await?,
            }
        }
        Ok(())
    }

    /// Says whether the session is there.
    async fn listen(&self, inbox: &mut Inbox, is_wanted: bool) -> bool {
        let options = SubscribeOptions::new(QoS::AtLeastOnce);
        let is_new = !*self.streams.listens.borrow();
        for filter in FILTERS {
            let done = match is_wanted {
                true if is_new => inbox.subscribe(filter, options).await,
                true => Ok(()),
                false => inbox.unsubscribe(filter).await,
            };
            match done {
                Ok(()) => {}
                Err(LinkError::Closed(_)) => return false,
                Err(error) => {
                    tracing::error!(filter, %error, "streams do not hear what is said");
                    return false;
                }
            }
        }
        self.streams.listens.send_replace(is_wanted);
        true
    }

    /// Puts the messages of a batch in the queues they belong in. On return they are on the medium.
    async fn take(&mut self, batch: &mut Batch) -> Result<(), QueueError> {
        let messages = std::mem::take(&mut batch.messages);
        let (mut plan, now) = (Plan::default(), now());
        {
            let streams = Arc::clone(&self.streams);
            let index = streams.links.read();
            self.held.follow(index.device_links());
            for message in messages {
                let mark = Mark::of(&message);
                if !self.seen.is_again(mark) && self.route(message, &index, now, &mut plan) {
                    self.seen.note(mark);
                }
            }
        }
        let due = self.held.due(now, &mut plan.changes);
        plan.release(due);
        if !self.seen.is_changed() && plan.queues.is_empty() && plan.changes.is_empty() {
            return Ok(());
        }
        self.commit(plan, now).await
    }

    /// Lets go of what was held long enough.
    async fn release(&mut self) -> Result<(), QueueError> {
        if self.held.is_empty() {
            return Ok(());
        }
        let (mut plan, now) = (Plan::default(), now());
        let due = self.held.due(now, &mut plan.changes);
        plan.release(due);
        if plan.queues.is_empty() {
            return Ok(());
        }
        self.commit(plan, now).await
    }

    /// Says whether any stream gets the message.
    fn route(&mut self, message: Message, index: &Index, now: u64, plan: &mut Plan) -> bool {
        let Some((source, ident)) = read_topic(&message.topic) else { return false };
        let account = message.account();
        let payload = Bytes::from(message.payload);
        let mut had = HashSet::new();
        if let Source::Device(device) = source
            && self.held.is_in_use()
            && let Some(mark) = mark(&payload, None)
        {
            let streams = Arc::clone(&self.streams);
            let has = |stream| {
                index.is_linked(stream, Source::Device(device)) && streams.may_have(stream, account)
            };
            let others;
            (others, had) = self.held.settle(mark, has, &mut plan.changes);
            plan.release(others);
        }
        let mut is_taken = false;
        for stream in index.streams(source) {
            if !self.streams.may_have(stream, account) {
                continue;
            }
            is_taken = true;
            if had.contains(&stream) {
                *plan.skipped.entry(stream).or_default() += 1;
                continue;
            }
            let mark = match source {
                Source::Channel(channel) if index.has_devices(stream) => {
                    mark(&payload, ident.map(|ident| (channel, ident)))
                }
                _ => None,
            };
            match mark {
                Some(mark) => plan.release(self.held.hold(stream, mark, payload.clone(), now)),
                None => plan.add(stream, payload.clone()),
            }
        }
        is_taken
    }

    async fn commit(&mut self, mut plan: Plan, now: u64) -> Result<(), QueueError> {
        self.held.write(now, &mut plan.changes);
        self.seen.write(&mut plan.changes);
        let mut all = Vec::new();
        for (id, messages) in &plan.queues {
            // One that was removed meanwhile has no queue, and gets none.
            let Some(stream) = self.streams.objects.get(*id) else { continue };
            all.push((self.streams.queue(&stream)?, stream, messages));
        }
        let slices: Vec<Vec<&[u8]>> =
            all.iter().map(|(_, _, messages)| messages.iter().map(|it| &**it).collect()).collect();
        let queues: Vec<_> =
            all.iter().zip(&slices).map(|((queue, ..), slices)| (queue, &slices[..])).collect();
        let appended = self.streams.queues.append_with(plan.changes, &queues, now).await?;
        for ((_, stream, _), appended) in all.iter().zip(appended) {
            if appended.has_blocked {
                self.streams.tell_blocked(stream, BLOCKED_BY_STORAGE);
            }
        }
        for (id, skipped) in plan.skipped {
            let Some(stream) = self.streams.objects.get(id) else { continue };
            let report = Report { read: skipped, skipped, ..Report::default() };
            self.streams.tell_sent(stream.head(), &report);
        }
        Ok(())
    }
}

impl Streams {
    /// Whether a stream runs, and may have what was published in the topics of this account.
    fn may_have(&self, stream: u64, account: u64) -> bool {
        let Some(stream) = self.objects.get(stream) else { return false };
        let of = stream.head().account;
        let is_near = || of == account || self.context.accounts().read().is_in_branch(of, account);
        stream.running().is_some() && is_near()
    }

    /// Says that a stream is blocked, and why (R8.4, R8.9).
    pub(super) fn tell_blocked(&self, stream: &Stream, code: u64) {
        let code = ("block_code".to_owned(), code.into());
        self.tell(stream.head(), Deed::Blocked, [code]);
    }

    /// Adds a record to the log of a stream.
    pub(super) fn tell(
        &self,
        head: Head,
        deed: Deed,
        fields: impl IntoIterator<Item = (String, Value)>,
    ) {
        self.tell_of(head, "", deed, fields);
    }

    /// The same of what belongs to a stream under this name, which ends in a slash.
    pub(super) fn tell_of(
        &self,
        head: Head,
        of: &str,
        deed: Deed,
        fields: impl IntoIterator<Item = (String, Value)>,
    ) {
        let event = Event {
            origin: format!("{}/{}", Stream::URI, head.id),
            origin_type: Stream::ORIGIN,
            origin_id: head.id,
            text: format!("{of}{}", deed.name()),
            code: deed.code(),
            fields: fields.into_iter().collect(),
        };
        self.context.tell(head.account, event);
    }
}

/// The source that a topic is of, and the ident if it is a channel.
fn read_topic(topic: &str) -> Option<(Source, Option<&str>)> {
    let (kind, rest) = topic.strip_prefix("flespi/message/gw/")?.split_once('/')?;
    match (kind, rest.split_once('/')) {
        ("channels", Some((channel, ident))) => {
            Some((Source::Channel(channel.parse().ok()?), Some(ident)))
        }
        ("devices", None) => Some((Source::Device(rest.parse().ok()?), None)),
        _ => None,
    }
}

/// What a message has in common with its other form, if it can have one. The topic of a channel
/// message says its channel and ident.
fn mark(payload: &[u8], of: Option<(u64, &str)>) -> Option<(Whose, Twin)> {
    let origin: Origin<'_> = serde_json::from_slice(payload).ok()?;
    let whose = match of {
        Some((channel, ident)) => whose(channel, ident),
        None => whose(origin.channel?, origin.ident.as_deref()?),
    };
    Some((whose, twin(whose, origin.timestamp?)))
}
