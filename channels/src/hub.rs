//! What all channels share: the way of messages from a connection to the disk, to the broker and
//! back to the device.
//!
//! ```text
//! connection: bytes -> steps -> accept ---------------------------------------> replies
//!                                 |                                               ^
//! writer:                         +-> one commit for all that wait                |
//!                                          |                                      |
//! publisher:                               +-> link.publish_all -> all answers ---+
//! ```
//!
//! A device is answered once its messages are durable in the buffer and the broker has taken them
//! (R3.22). Who is not answered sends again, so a message may come twice, and is never lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use longshore_broker::clock::Clock;
use longshore_broker::module::{Context, Event};
use longshore_broker::{Link, Message as Publication};
use longshore_codec::{Property, QoS};
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tracing::{debug, error, warn};

use crate::buffer::{Buffer, Entry, NotKept, Work};
use crate::channel::Channel;
use crate::deed::Deed;
use crate::live::Block;
use crate::message::{Message, Reception, Timestamp};
use crate::minute::Most;
use crate::options::Options;
use crate::packets::Said;
use crate::ports::Ports;

/// Reads that are decoded and not yet accepted: what they take is bounded by this and by what one
/// read gives.
const TURNS: usize = 1_024;
/// Groups of batches that wait to be published.
const GROUPS: usize = 16;
/// Bytes of a message as JSON. The broker would close the link of all channels for one that is
/// larger than a packet of its clients may be.
const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Bytes that most messages have no more than.
const USUAL_BYTES: usize = 512;
/// A channel that was full takes messages again once it has this part of its buffer free, in
/// percent: else it would open and close with each message.
const FREE_PERCENT: u64 = 10;

/// See the documentation of the module.
#[derive(Debug)]
pub(crate) struct Hub {
    pub(crate) context: Context,
    pub(crate) options: Options,
    pub(crate) buffer: Buffer,
    pub(crate) ports: Ports,
    /// What publishes messages, and nothing else: between two of a batch nothing may come.
    messages: Link,
    /// What publishes all else.
    pub(crate) link: Link,
    clock: Clock,
    pub(crate) turns: Semaphore,
    /// Bytes of packets and requests that are not whole yet.
    pending: AtomicUsize,
}

/// Where messages came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin<'a> {
    pub(crate) channel: &'a Channel,
    /// The sender, as `ip:port`.
    pub(crate) peer: &'a str,
}

impl Hub {
    pub(crate) fn new(context: Context, options: Options, buffer: Buffer, ports: Ports) -> Self {
        Self {
            messages: context.link("channels-messages"),
            link: context.link("channels"),
            context,
            options,
            buffer,
            ports,
            clock: Clock::start(),
            turns: Semaphore::new(TURNS),
            pending: AtomicUsize::new(0),
        }
    }

    /// Microseconds since 1970.
    pub(crate) fn micros(&self) -> u64 {
        self.clock.now().wall.0
    }

    /// Takes messages of a device, once they are durable and published. Before them it publishes
    /// `states`.
    pub(crate) async fn accept(
        &self,
        from: Origin<'_>,
        messages: Vec<Message>,
        states: Vec<Publication>,
    ) -> Result<(), NotKept> {
        let channel = from.channel;
        if messages.is_empty() && states.is_empty() {
            return Ok(());
        }
        if !messages.is_empty() {
            self.check_room(channel);
            self.count(channel, messages.len(), 0);
        }
        if channel.live.is_blocked() {
            return Err(NotKept::Blocked);
        }
        let (done, outcome) = oneshot::channel();
        let live = Arc::clone(&channel.live);
        let keys = Vec::with_capacity(messages.len());
        let mut entry = Entry { live, keys, publications: states, done };
        entry.publications.reserve(messages.len());
        let place = self.buffer.place().await.ok_or(NotKept::Failed)?;
        // Keys are given in the order in which they are written: nothing waits from here on.
        let now = self.micros();
        for message in messages {
            self.complete(from, message, now, &mut entry)?;
        }
        place.send(Work::Keep(entry));
        outcome.await.unwrap_or(Err(NotKept::Failed))
    }

    fn complete(
        &self,
        from: Origin<'_>,
        message: Message,
        now: u64,
        entry: &mut Entry,
    ) -> Result<(), NotKept> {
        let channel = from.channel;
        let key = self.buffer.next_key(now);
        let reception = Reception {
            at: moment(key),
            channel_id: u32::try_from(channel.id()).unwrap_or(u32::MAX),
            protocol_id: channel.protocol.id,
            peer: from.peer,
        };
        let topic = format!("flespi/message/gw/channels/{}/{}", channel.id(), message.ident);
        let time = Value::from(message.timestamp.unwrap_or(reception.at)).to_string();
        let mut json = Vec::with_capacity(USUAL_BYTES);
        // Names are texts, and memory takes all that is written.
        let _ = serde_json::to_writer(&mut json, &message.complete(&reception));
        if json.len() > MESSAGE_BYTES_MAX {
            return Err(NotKept::TooLarge);
        }
        if channel.messages_ttl > 0 {
            entry.keys.push(key);
        }
        let publication = Publication::new(topic, json).qos(QoS::AtLeastOnce);
        let publication = publication.property(Property::UserProperty("timestamp", &time));
        entry.publications.push(publication.of_account(channel.account()));
        Ok(())
    }

    /// Keeps what was said, if the channel keeps such. Nothing waits for it.
    pub(crate) fn note(&self, channel: &Channel, said: Said<'_>) {
        if channel.packets_ttl > 0 {
            let next_key = || self.buffer.next_key(self.micros());
            self.buffer.packets.note(&channel.live, said, next_key);
        }
    }

    /// Blocks a channel whose buffer is full.
    fn check_room(&self, channel: &Channel) {
        let size = channel.live.size.load(Ordering::Relaxed);
        if channel.messages_ttl > 0
            && size >= self.options.buffer_bytes
            && !channel.live.is_blocked()
        {
            self.block(channel, Some(Block::Storage));
        }
    }

    /// Counts what a channel gets, and blocks one that has had all that it may in this minute.
    pub(crate) fn count(&self, channel: &Channel, messages: usize, bytes: usize) {
        let options = &self.options;
        let most = Most { messages: options.messages_per_minute, bytes: options.bytes_per_minute };
        if (most.messages, most.bytes) == (0, 0) || channel.live.is_blocked() {
            return;
        }
        let why = channel.live.minute().add(messages, bytes, most, self.micros());
        if why.is_some() {
            self.block(channel, why);
        }
    }

    /// Opens a channel again that has room, or another minute.
    pub(crate) fn check_free(&self, channel: &Channel) {
        let live = &channel.live;
        let size = live.size.load(Ordering::Relaxed);
        let free_from = self.options.buffer_bytes / 100 * (100 - FREE_PERCENT);
        let has_room = live.block_is(Block::Storage) && size <= free_from;
        let is_limited = live.block_is(Block::Messages) || live.block_is(Block::Traffic);
        if has_room || (is_limited && live.minute().is_over(self.micros())) {
            self.block(channel, None);
        }
    }

    /// Blocks a channel or opens it again, and says so in its log.
    pub(crate) fn block(&self, channel: &Channel, why: Option<Block>) {
        if channel.live.block(why) {
            self.tell_block(channel, why);
        }
    }

    /// Says in its log that a channel is blocked or open again, and closes what it has if it is
    /// blocked.
    pub(crate) fn tell_block(&self, channel: &Channel, why: Option<Block>) {
        let mut fields = Map::new();
        match why {
            Some(why) => {
                fields.insert("block_code".to_owned(), (why as u8).into());
                self.tell(channel, None, Deed::Blocked, fields);
                channel.live.close_all(crate::protocol::CloseCode::ChannelBlocked);
            }
            None => self.tell(channel, None, Deed::Unblocked, fields),
        }
    }

    /// Adds a record to the log of a channel: of what has happened to it, or to its connection with
    /// this address.
    pub(crate) fn tell(
        &self,
        channel: &Channel,
        connection: Option<&str>,
        deed: Deed,
        fields: Map<String, Value>,
    ) {
        let (name, code) = (deed.name(), deed.code());
        let text = match connection {
            Some(address) => format!("connections/{address}/{name}"),
            None => name.to_owned(),
        };
        let (origin, origin_id) = (format!("gw/channels/{}", channel.id()), channel.id());
        self.context.tell(
            channel.account(),
            Event { origin, origin_type: 9, origin_id, text, code, fields },
        );
    }

    /// Publishes what nobody waits for but its sender. What the broker does not take is lost.
    pub(crate) async fn publish(&self, publication: Publication) {
        match self.link.publish(publication).await {
            Ok(outcome) if outcome.reason.is_error() => {
                warn!(reason = %outcome.reason, "the broker does not take what a channel says");
            }
            _ => {}
        }
    }

    /// Notes that a connection keeps `now` bytes and no more `before`; false if that is too much.
    pub(crate) fn hold(&self, before: usize, now: usize) -> bool {
        if now <= before {
            self.pending.fetch_sub(before - now, Ordering::Relaxed);
            return true;
        }
        let more = now - before;
        self.pending.fetch_add(more, Ordering::Relaxed) + more <= self.options.pending_bytes
    }

    /// The state of a part of a channel, none where there is nothing any more.
    pub(crate) fn state(channel: &Channel, of: &str, payload: Option<&Value>) -> Publication {
        let topic = format!("flespi/state/gw/channels/{}/{of}", channel.id());
        let payload = payload.map(Value::to_string).unwrap_or_default();
        let publication = Publication::new(topic, payload).qos(QoS::AtLeastOnce).retain();
        publication.of_account(channel.account())
    }
}

/// A key as a time.
pub(crate) fn moment(micros: u64) -> Timestamp {
    const FIRST: Timestamp = match Timestamp::from_micros(1_000_000_000_000) {
        Some(first) => first,
        None => panic!("it is the first that counts"),
    };
    i64::try_from(micros).ok().and_then(Timestamp::from_micros).unwrap_or(FIRST)
}

/// Publishes what is durable, and answers those that wait.
pub(crate) async fn publish_all(hub: &Hub, mut groups: mpsc::Receiver<Vec<Entry>>) {
    while let Some(mut group) = groups.recv().await {
        // What came meanwhile goes out together.
        while let Ok(more) = groups.try_recv() {
            group.extend(more);
        }
        let counts: Vec<usize> = group.iter().map(|entry| entry.publications.len()).collect();
        let all = group.iter_mut().flat_map(|it| std::mem::take(&mut it.publications));
        let all: Vec<Publication> = all.collect();
        // While another module has no room for it, devices wait: they would only send it again.
        let outcomes = match hub.messages.publish_surely(&all).await {
            Ok(outcomes) => outcomes,
            Err(cause) => {
                debug!(%cause, "messages of channels are not published");
                for entry in group {
                    let _ = entry.done.send(Err(NotKept::Failed));
                }
                continue;
            }
        };
        let mut outcomes = outcomes.into_iter();
        for (entry, count) in group.into_iter().zip(counts) {
            let refused = outcomes.by_ref().take(count).filter(|it| it.reason.is_error()).last();
            if let Some(outcome) = refused {
                let channel = entry.live.id;
                error!(channel, reason = %outcome.reason, "the broker does not take a message");
            }
            let done = if refused.is_some() { Err(NotKept::Failed) } else { Ok(()) };
            // A connection may be gone.
            let _ = entry.done.send(done);
        }
    }
}

/// Where the writer hands groups to the publisher.
pub(crate) fn groups() -> (mpsc::Sender<Vec<Entry>>, mpsc::Receiver<Vec<Entry>>) {
    mpsc::channel(GROUPS)
}
