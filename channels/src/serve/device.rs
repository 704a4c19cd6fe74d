//! A device on a connection of bytes: what it sends is taken a read at a time, and it is answered
//! before the next one is read.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use longshore_broker::Message as Publication;
use serde_json::{Map, Value};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

use super::Open;
use super::stream::{Ending, Traffic, tell};
use crate::buffer::NotKept;
use crate::connections::{Order, Peer};
use crate::deed::Deed;
use crate::hub::{Hub, Origin};
use crate::live::source;
use crate::message::{Ident, Message};
use crate::orders::{Fate, respond};
use crate::packets::{self, Side, Transport, Way};
use crate::protocol::{Answer, CloseCode, Connection, Decoder, Error, Step};

/// Bytes of one read. All connections share one buffer.
const READ_BYTES: usize = 16 << 10;
/// Bytes that are kept for the log of packets until the device has said who it is: a packet that
/// says so is short.
const UNKNOWN_BYTES: usize = 4 << 10;
/// How long a device may take to take what it is told.
const WRITE: Duration = Duration::from_secs(30);

thread_local! {
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// A connection at work.
struct Device<'a> {
    open: &'a Open,
    peer: &'a Arc<Peer>,
    stream: TcpStream,
    connection: Connection,
    traffic: &'a mut Traffic,
    source: String,
    /// Bytes that it keeps of a packet that is not whole.
    held: usize,
    /// The devices that spoke last, where packets are kept.
    idents: Vec<Ident>,
    /// What was read before any was known.
    unknown: Vec<u8>,
    /// The command that was sent and is not answered yet, and until when its answer may come. Only
    /// one is sent at a time, because answers do not say what they answer.
    asked: Option<(Value, &'static str, Instant)>,
}

/// What came in one read.
#[derive(Default)]
struct Heard {
    ident: Option<Ident>,
    messages: Vec<Message>,
    reply: Vec<u8>,
    refusal: Vec<u8>,
    answers: VecDeque<Answer>,
    error: Option<Error>,
}

impl Heard {
    fn add(&mut self, step: Step) {
        self.ident = step.ident.or(self.ident.take());
        self.messages.extend(step.messages);
        self.reply.extend(step.reply);
        self.refusal.extend(step.refusal);
        self.answers.extend(step.answers);
        if let Some(fault) = step.fault {
            debug!(%fault, "a packet came to nothing");
        }
    }
}

/// Serves a device until one of both sides ends it.
pub(crate) async fn serve(
    open: &Open,
    peer: &Arc<Peer>,
    stream: TcpStream,
    decoder: Box<dyn Decoder>,
    traffic: &mut Traffic,
) -> Ending {
    let (connection, source) = (Connection::new(decoder), source(peer.address));
    let mut device = Device {
        open,
        peer,
        stream,
        connection,
        traffic,
        source,
        held: 0,
        idents: Vec::new(),
        unknown: Vec::new(),
        asked: None,
    };
    let ending = match device.run().await {
        Ok(never) => match never {},
        Err(ending) => ending,
    };
    open.hub.hold(device.held, 0);
    device.give_up().await;
    ending
}

impl Device<'_> {
    async fn run(&mut self) -> Result<Infallible, Ending> {
        let idle = Duration::from_secs(self.open.hub.options.idle_secs);
        let mut silent_until = Instant::now() + idle;
        // It stays as it is while a device speaks, and is set anew when it has come.
        let mut alarm = pin!(sleep_until(silent_until));
        loop {
            let answer_until = self.asked.as_ref().map(|(_, _, until)| *until);
            let until = answer_until.map_or(silent_until, |it| it.min(silent_until));
            if until < alarm.deadline() || alarm.is_elapsed() {
                alarm.as_mut().reset(until);
            }
            tokio::select! {
                biased;
                () = self.peer.bell.notified() => {}
                ready = self.stream.readable() => {
                    ready.map_err(|_| Ending::of(CloseCode::ByDevice))?;
                    self.read().await?;
                    silent_until = Instant::now() + idle;
                }
                () = &mut alarm => {
                    let now = Instant::now();
                    if silent_until <= now {
                        return Err(Ending::of(CloseCode::Inactivity));
                    }
                    if answer_until.is_some_and(|until| until <= now) {
                        self.answered(None).await;
                    }
                }
            }
            if let Some(code) = self.peer.closing() {
                return Err(Ending::of(code));
            }
            self.send_orders().await?;
        }
    }

    /// Takes what the device has sent.
    async fn read(&mut self) -> Result<(), Ending> {
        // Whoever is late waits here, with all it has sent in the sockets of the system.
        let turn = self.open.hub.turns.acquire().await;
        let read = READ.with_borrow_mut(|buffer| {
            let count = self.stream.try_read(buffer)?;
            self.connection.receive(&buffer[..count]);
            if self.open.channel.packets_ttl > 0 {
                self.unknown.extend_from_slice(&buffer[..count]);
            }
            Ok::<_, io::Error>(count)
        });
        match read {
            Ok(0) => return Err(Ending::of(CloseCode::ByDevice)),
            Ok(count) => {
                self.traffic.received += count as u64;
                self.open.hub.count(&self.open.channel, 0, count);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(Ending::of(CloseCode::ByDevice)),
        }
        let mut heard = Heard::default();
        loop {
            match self.connection.next_step() {
                Ok(Some(step)) => heard.add(step),
                Ok(None) => break,
                Err(error) => {
                    heard.error = Some(error);
                    break;
                }
            }
        }
        self.note_read(&heard);
        let kept = self.accept(&mut heard).await;
        drop(turn);
        self.answer(heard, kept).await?;
        let (before, now) = (self.held, self.connection.pending() + self.unknown.len());
        self.held = now;
        if !self.open.hub.hold(before, now) {
            let text = "too much is waiting for the rest of packets".to_owned();
            return Err(Ending { code: CloseCode::Internal, text });
        }
        Ok(())
    }

    /// Keeps what was read for the log of packets, with what came before the device was known.
    fn note_read(&mut self, heard: &Heard) {
        if self.open.channel.packets_ttl == 0 {
            return;
        }
        let ident = self.peer.ident().or(heard.ident.as_ref());
        let idents = packets::idents(ident, &heard.messages);
        if !idents.is_empty() {
            self.idents = idents;
        }
        if self.idents.is_empty() {
            self.unknown.truncate(UNKNOWN_BYTES);
            self.unknown.shrink_to_fit();
            return;
        }
        let read = std::mem::take(&mut self.unknown);
        self.note(Side::Device, &read);
    }

    fn note(&self, by: Side, bytes: &[u8]) {
        let (connection, peer) = (self.peer.id, &*self.source);
        let way = Way { transport: Transport::Tcp, connection, peer };
        self.open.note(by, &self.idents, way, &[bytes]);
    }

    /// Notes who it is, and gives its messages to the hub.
    async fn accept(&mut self, heard: &mut Heard) -> Result<(), NotKept> {
        let (hub, channel) = (&self.open.hub, &self.open.channel);
        let mut states: Vec<Publication> = Vec::new();
        if let Some(ident) = heard.ident.take() {
            let is_new = self.peer.ident().is_none();
            if !channel.live.connections().identify(self.peer, &ident) {
                let text = "the device has given itself another ident";
                heard.error = Some(Error::violation(text));
                return Ok(());
            }
            if is_new {
                tell(hub, self.open, self.peer, Deed::Identified, Map::new());
                let state = self.peer.state(channel.id(), channel.protocol.id);
                let of = format!("connections/{}", self.peer.id);
                states.push(Hub::state(channel, &of, Some(&state)));
            }
        }
        let messages = std::mem::take(&mut heard.messages);
        let count = messages.len() as u64;
        let from = Origin { channel, peer: &self.source };
        hub.accept(from, messages, states).await?;
        self.traffic.messages += count;
        Ok(())
    }

    /// Tells the device what became of what it sent.
    async fn answer(&mut self, heard: Heard, kept: Result<(), NotKept>) -> Result<(), Ending> {
        if let Err(why) = kept {
            self.write(&heard.refusal).await?;
            let (code, text) = match why {
                NotKept::Blocked => (CloseCode::ChannelBlocked, "the channel is blocked"),
                NotKept::TooLarge => (CloseCode::ProtocolViolation, "a message is too large"),
                NotKept::Failed => (CloseCode::Internal, "the hub could not keep the messages"),
            };
            let code = self.peer.closing().unwrap_or(code);
            return Err(Ending { code, text: text.to_owned() });
        }
        self.write(&heard.reply).await?;
        for answer in heard.answers {
            let is_asked = self.asked.as_ref().is_some_and(|(_, name, _)| *name == answer.command);
            if is_asked {
                self.answered(Some(answer)).await;
            }
        }
        if let Some(error) = heard.error {
            self.write(error.farewell()).await?;
            return Err(Ending { code: error.code(), text: error.to_string() });
        }
        Ok(())
    }

    /// Writes all of it; a device that does not take it is given up. What it took is kept for the
    /// log of packets.
    async fn write(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        let before = self.traffic.sent;
        let written = self.write_all(bytes).await;
        let count = (self.traffic.sent - before) as usize;
        if count > 0 {
            self.note(Side::Hub, &bytes[..count]);
        }
        written
    }

    async fn write_all(&mut self, mut bytes: &[u8]) -> Result<(), Ending> {
        let late = Instant::now() + WRITE;
        while !bytes.is_empty() {
            match self.stream.try_write(bytes) {
                Ok(count) => {
                    self.traffic.sent += count as u64;
                    bytes = &bytes[count..];
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = late.saturating_duration_since(Instant::now());
                    let ready = timeout(left, self.stream.writable()).await;
                    let text = "the device does not take what it is answered".to_owned();
                    ready
                        .map_err(|_| Ending { code: CloseCode::Inactivity, text })?
                        .map_err(|_| Ending::of(CloseCode::ByDevice))?;
                }
                Err(_) => return Err(Ending::of(CloseCode::ByDevice)),
            }
        }
        Ok(())
    }

    /// Sends the device what it is to be told: one thing that it answers at a time.
    async fn send_orders(&mut self) -> Result<(), Ending> {
        while let Some(Order { id, command, deadline }) = self.next_order() {
            if deadline <= Instant::now() {
                let fate = Fate::Failed("the device was not told in time".to_owned());
                respond(self.open, self.peer.id, &id, fate).await;
                continue;
            }
            let order = match self.connection.decoder().command(&command) {
                Ok(order) => order,
                Err(error) => {
                    let fate = Fate::Failed(error.to_string());
                    respond(self.open, self.peer.id, &id, fate).await;
                    continue;
                }
            };
            if let Err(ending) = self.write(&order.bytes).await {
                let fate = Fate::Failed("the connection has ended".to_owned());
                respond(self.open, self.peer.id, &id, fate).await;
                return Err(ending);
            }
            if order.is_answered {
                self.asked = Some((id, command.name, deadline));
            } else {
                respond(self.open, self.peer.id, &id, Fate::Sent).await;
            }
        }
        Ok(())
    }

    /// The next command; what is not answered waits for no answer.
    fn next_order(&mut self) -> Option<Order> {
        let decoder = self.connection.decoder();
        let is_answered =
            |it: &Order| decoder.command(&it.command).is_ok_and(|order| order.is_answered);
        self.peer.next_order(|it| self.asked.is_none() || !is_answered(it))
    }

    /// Passes on what the device has said to the command, or that it has said nothing.
    async fn answered(&mut self, answer: Option<Answer>) {
        let Some((id, _, _)) = self.asked.take() else { return };
        let fate = match answer {
            Some(Answer { is_executed: true, text, .. }) => Fate::Answered(text),
            Some(Answer { text, .. }) => Fate::Failed(text),
            None => Fate::Failed("the device has not answered".to_owned()),
        };
        respond(self.open, self.peer.id, &id, fate).await;
    }

    /// Says of all commands that they are not done.
    async fn give_up(&mut self) {
        let asked = self.asked.take().map(|(id, _, _)| id);
        let waiting = self.peer.end().into_iter().map(|order| order.id);
        for id in asked.into_iter().chain(waiting) {
            let fate = Fate::Failed("the connection has ended".to_owned());
            respond(self.open, self.peer.id, &id, fate).await;
        }
    }
}
