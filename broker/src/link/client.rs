//! The client's side of MQTT 5, as far as a link needs it.

use std::borrow::Borrow;
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::iter::Peekable;
use std::num::NonZeroU16;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use longshore_codec::wire::{put_str, put_u16, put_varint};
use longshore_codec::{
    Ack, Connect, Packet, Properties, Property, Publish, QoS, ReasonCode, SubscribeOptions,
    Version, decode, encode, encode_publish, frame,
};

use super::{LinkError, Message, Opener, Outcome};
use crate::net::pipe::{Pipe, Receiver, ToShard};

/// Messages in flight to the broker when CONNACK names no Receive Maximum.
const RECEIVE_MAXIMUM: u16 = u16::MAX;
/// Messages that are sent before somebody else has a turn.
const SENT_AT_ONCE: usize = 64;
/// Bytes of messages that wait for the program before the broker has to.
const INBOX_BYTES: usize = 1 << 20;

/// One connection of a link.
#[derive(Debug)]
pub(super) struct Client {
    to_shard: Arc<ToShard>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The start of a packet whose rest is to come.
    partial: Vec<u8>,
    last_id: u16,
    /// Messages sent and not yet answered, by packet id.
    sent: HashMap<u16, Sent>,
    /// How many of those the broker takes; none until CONNACK came.
    quota: Option<u16>,
    granted: Option<ReasonCode>,
    /// Whether somebody waits for that. It comes behind messages, so they are taken, however full
    /// the inbox is: what may be in flight at most.
    is_asking: bool,
    inbox: VecDeque<(Message, Option<u16>)>,
    inbox_bytes: usize,
    closed: bool,
    reason: Option<ReasonCode>,
    /// Futures that wait for room to publish.
    publishers: Vec<Waker>,
    /// The future that waits for a message, or for what it has asked for: there is one at most. A
    /// task that is polled for other reasons puts itself here each time, and two wakers of one task
    /// may not know that they are the same.
    receiver: Option<Waker>,
    /// The shard's task, while the inbox is full.
    shard: Option<Waker>,
}

/// A message sent and not yet answered.
#[derive(Debug)]
struct Sent {
    /// What PUBREC said, while PUBCOMP is to come.
    received: Option<ReasonCode>,
    slot: Arc<Slot>,
}

/// Where an answer is put for whoever waits for it, if anybody still does.
#[derive(Debug, Default)]
struct Slot {
    content: Mutex<Content>,
}

#[derive(Debug, Default)]
struct Content {
    answer: Option<Result<ReasonCode, LinkError>>,
    waker: Option<Waker>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, answer: Result<ReasonCode, LinkError>) -> Option<Waker> {
        let mut slot = self.lock();
        slot.answer = Some(answer);
        slot.waker.take()
    }

    fn poll(&self, cx: &Context<'_>) -> Poll<Result<ReasonCode, LinkError>> {
        let mut slot = self.lock();
        if let Some(answer) = slot.answer.take() {
            return Poll::Ready(answer);
        }
        slot.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl State {
    /// Whether nothing more is taken for now.
    fn is_full(&self) -> bool {
        self.inbox_bytes > INBOX_BYTES && !self.is_asking
    }

    fn error(&self) -> LinkError {
        LinkError::Closed(self.reason)
    }

    /// What a packet from the broker says; wakers to wake once the state is free.
    fn handle(&mut self, packet: &Packet<'_>, to_shard: &ToShard, woken: &mut Vec<Waker>) {
        match packet {
            Packet::Connack(connack) => {
                let properties = &connack.properties;
                self.quota = Some(properties.receive_maximum().unwrap_or(RECEIVE_MAXIMUM));
                if connack.reason.is_error() {
                    self.reason = Some(connack.reason);
                }
                woken.append(&mut self.publishers);
            }
            Packet::Puback(ack) => self.answer(ack, woken),
            Packet::Pubrec(ack) if ack.reason.is_error() => self.answer(ack, woken),
            Packet::Pubrec(ack) => {
                if let Some(sent) = self.sent.get_mut(&ack.packet_id.get()) {
                    sent.received = Some(ack.reason);
                }
                write_ack(to_shard, Packet::Pubrel, ack.packet_id);
            }
            Packet::Pubcomp(ack) => {
                let known = self.sent.get(&ack.packet_id.get()).and_then(|sent| sent.received);
                let reason = known.unwrap_or(ack.reason);
                self.answer(&Ack { reason, ..*ack }, woken);
            }
            Packet::Pubrel(ack) => write_ack(to_shard, Packet::Pubcomp, ack.packet_id),
            Packet::Suback(suback) => {
                let code = suback.codes.first().copied().and_then(ReasonCode::from_u8);
                self.granted = Some(code.unwrap_or(ReasonCode::UnspecifiedError));
                woken.extend(self.receiver.take());
            }
            Packet::Unsuback(_) => {
                self.granted = Some(ReasonCode::Success);
                woken.extend(self.receiver.take());
            }
            Packet::Publish(publish) => {
                let message = Message::received(publish);
                self.inbox_bytes += size(&message);
                self.inbox.push_back((message, publish.packet_id.map(NonZeroU16::get)));
                woken.extend(self.receiver.take());
            }
            Packet::Disconnect(disconnect) => self.reason = Some(disconnect.reason),
            _ => {}
        }
    }

    fn answer(&mut self, ack: &Ack<'_>, woken: &mut Vec<Waker>) {
        let Some(sent) = self.sent.remove(&ack.packet_id.get()) else { return };
        woken.extend(sent.slot.put(Ok(ack.reason)));
        // The window has room again.
        woken.append(&mut self.publishers);
    }

    fn new_id(&mut self) -> NonZeroU16 {
        loop {
            self.last_id = self.last_id.wrapping_add(1);
            if let Some(id) = NonZeroU16::new(self.last_id)
                && !self.sent.contains_key(&id.get())
            {
                return id;
            }
        }
    }
}

fn size(message: &Message) -> usize {
    message.topic.len() + message.payload.len() + message.properties().raw().len() + 64
}

fn write_ack(
    to_shard: &ToShard,
    packet: impl FnOnce(Ack<'static>) -> Packet<'static>,
    packet_id: NonZeroU16,
) {
    let properties = Properties::none();
    let ack = packet(Ack { packet_id, reason: ReasonCode::Success, properties });
    to_shard.write(|out| encode(Version::V5, &ack, out));
}

/// An answer that is to come.
#[derive(Debug)]
pub(super) struct Answer(Arc<Slot>);

impl Answer {
    pub(super) async fn outcome(self) -> Result<Outcome, LinkError> {
        let reason = poll_fn(|cx| self.0.poll(cx)).await?;
        Ok(Outcome { reason })
    }
}

impl Client {
    /// Opens a connection and says CONNECT. The answer is awaited by whoever needs it. With
    /// `lasting` it takes up the session that it has left, and leaves it again.
    pub(super) fn open(opener: &Opener, client_id: &str, lasting: bool) -> Arc<Self> {
        let mut block = Vec::new();
        if lasting {
            Property::SessionExpiryInterval(u32::MAX).append(&mut block);
        }
        let client = Arc::new(Self { to_shard: Arc::default(), state: Mutex::default() });
        let to: Arc<dyn Receiver> = client.clone();
        let connect = Packet::Connect(Connect {
            version: Version::V5,
            clean_start: !lasting,
            keep_alive: 0,
            client_id,
            will: None,
            username: None,
            password: None,
            properties: Properties::from_raw(&block),
        });
        client.to_shard.write(|out| encode(Version::V5, &connect, out));
        opener(Pipe::new(Arc::clone(&client.to_shard), to));
        client
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Sends messages in order as soon as there is room; what to wait for of each, above QoS 0.
    /// The first of them says so: its DUP tells the shard that all before it are answered, and that
    /// what a full inbox has refused of them comes now or never.
    pub(super) async fn send_all<M: Borrow<Message>>(
        &self,
        messages: impl IntoIterator<Item = Result<M, LinkError>>,
    ) -> Result<Vec<Option<Answer>>, LinkError> {
        let (mut messages, mut answers) = (messages.into_iter().peekable(), Vec::new());
        while messages.peek().is_some() {
            poll_fn(|cx| self.poll_send(cx, &mut messages, &mut answers)).await?;
        }
        Ok(answers)
    }

    /// Sends some, under one lock: the shard asks for it with each answer.
    fn poll_send<M: Borrow<Message>>(
        &self,
        cx: &mut Context<'_>,
        messages: &mut Peekable<impl Iterator<Item = Result<M, LinkError>>>,
        answers: &mut Vec<Option<Answer>>,
    ) -> Poll<Result<(), LinkError>> {
        let mut state = self.lock();
        if state.closed {
            return Poll::Ready(Err(state.error()));
        }
        let Some(quota) = state.quota.filter(|quota| state.sent.len() < usize::from(*quota)) else {
            state.publishers.push(cx.waker().clone());
            return Poll::Pending;
        };
        let count = SENT_AT_ONCE.min(usize::from(quota) - state.sent.len());
        let mut faulty = None;
        ready!(self.to_shard.poll_write(cx, |out| {
            for message in std::iter::from_fn(|| messages.next()).take(count) {
                let message = match &message {
                    Ok(message) => message.borrow(),
                    Err(fault) => return faulty = Some(*fault),
                };
                let acknowledged = message.qos != QoS::AtMostOnce;
                let packet_id = acknowledged.then(|| state.new_id());
                let publish = Publish {
                    dup: acknowledged && answers.is_empty(),
                    qos: message.qos,
                    retain: message.retain,
                    topic: message.topic.as_bytes(),
                    packet_id,
                    properties: message.properties(),
                    payload: &message.payload,
                };
                encode_publish(Version::V5, &publish, out);
                answers.push(packet_id.map(|id| {
                    let slot = Arc::<Slot>::default();
                    state.sent.insert(id.get(), Sent { received: None, slot: Arc::clone(&slot) });
                    Answer(slot)
                }));
            }
        }));
        Poll::Ready(faulty.map_or(Ok(()), Err))
    }

    /// Writes a packet other than PUBLISH.
    async fn write_packet(&self, first: u8, body: &[u8]) {
        poll_fn(|cx| {
            self.to_shard.poll_write(cx, |out| {
                out.push(first);
                put_varint(out, body.len() as u32);
                out.extend_from_slice(body);
            })
        })
        .await;
    }

    fn poll_granted(&self, cx: &mut Context<'_>) -> Poll<Result<ReasonCode, LinkError>> {
        let mut state = self.lock();
        match state.granted {
            Some(reason) => Poll::Ready(Ok(reason)),
            None if state.closed => Poll::Ready(Err(state.error())),
            None => {
                state.receiver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Asks for a topic filter, and waits for the answer.
    pub(super) async fn subscribe(
        &self,
        name: &str,
        options: SubscribeOptions,
    ) -> Result<(), LinkError> {
        let mut body = Vec::new();
        put_u16(&mut body, 1);
        put_varint(&mut body, 0);
        put_str(&mut body, name.as_bytes());
        body.push(options.bits(Version::V5));
        let reason = self.ask(0x82, &body).await?;
        if reason.is_error() { Err(LinkError::Refused(reason)) } else { Ok(()) }
    }

    /// Gives a topic filter up, and waits for the answer.
    pub(super) async fn unsubscribe(&self, name: &str) -> Result<(), LinkError> {
        let mut body = Vec::new();
        put_u16(&mut body, 1);
        put_varint(&mut body, 0);
        put_str(&mut body, name.as_bytes());
        self.ask(0xa2, &body).await.map(drop)
    }

    async fn ask(&self, first: u8, body: &[u8]) -> Result<ReasonCode, LinkError> {
        let shard = {
            let mut state = self.lock();
            (state.granted, state.is_asking) = (None, true);
            state.shard.take()
        };
        if let Some(shard) = shard {
            shard.wake();
        }
        self.write_packet(first, body).await;
        let granted = poll_fn(|cx| self.poll_granted(cx)).await;
        self.lock().is_asking = false;
        granted
    }

    pub(super) fn poll_message(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(Message, Option<u16>)>> {
        let mut state = self.lock();
        let Some((message, id)) = state.inbox.pop_front() else {
            if state.closed {
                return Poll::Ready(None);
            }
            state.receiver = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.inbox_bytes -= size(&message);
        let shard = match state.inbox_bytes <= INBOX_BYTES / 2 {
            true => state.shard.take(),
            false => None,
        };
        drop(state);
        if let Some(shard) = shard {
            shard.wake();
        }
        Poll::Ready(Some((message, id)))
    }

    pub(super) fn acknowledge(&self, qos: QoS, id: u16) {
        let Some(id) = NonZeroU16::new(id) else { return };
        match qos {
            QoS::ExactlyOnce => write_ack(&self.to_shard, Packet::Pubrec, id),
            _ => write_ack(&self.to_shard, Packet::Puback, id),
        }
    }

    /// Ends the connection from this side.
    pub(super) fn close(&self) {
        // DISCONNECT, normal.
        self.to_shard.write(|out| out.extend_from_slice(&[0xe0, 0]));
        self.to_shard.close();
    }
}

impl Receiver for Client {
    fn take(&self, bytes: &[u8]) -> usize {
        let mut woken = Vec::new();
        let mut state = self.lock();
        if state.is_full() {
            return 0;
        }
        let mut input = std::mem::take(&mut state.partial);
        input.extend_from_slice(bytes);
        let mut start = 0;
        while let Ok(Some(whole)) = frame(&input[start..], usize::MAX) {
            let Some(packet) = input.get(start..start + whole.total()) else { break };
            if let Ok(packet) = decode(Version::V5, whole.first, &packet[whole.header..]) {
                state.handle(&packet, &self.to_shard, &mut woken);
            }
            start += whole.total();
        }
        input.drain(..start);
        state.partial = input;
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        bytes.len()
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.is_full() {
            return Poll::Ready(());
        }
        state.shard = Some(cx.waker().clone());
        Poll::Pending
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let mut woken = std::mem::take(&mut state.publishers);
        woken.extend(state.receiver.take());
        let error = state.error();
        woken.extend(state.sent.drain().filter_map(|(_, sent)| sent.slot.put(Err(error))));
        drop(state);
        woken.into_iter().for_each(Waker::wake);
    }
}
