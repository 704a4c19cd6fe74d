//! A publisher that finishes what it began, on whatever connection.

use std::collections::VecDeque;

use longshore::codec::{Ack, Packet, PacketId, Properties, Publish, QoS, ReasonCode};

use super::books::Key;
use super::member::{Desk, Mood, Part};
use super::payload;

/// Messages that the slowest of those who are always there may be behind.
const BEHIND_MAX: usize = 300;

/// Messages of one turn.
const TURN: usize = 8;

/// A message that is not done.
struct Exchange {
    id: PacketId,
    key: Key,
    topic: usize,
    /// PUBREC came.
    is_released: bool,
}

pub(crate) struct Publisher {
    course: usize,
    topics: Vec<(String, u8)>,
    /// Messages under way at once.
    window: usize,
    /// Whether it sends again what was not acknowledged, as one with a session does.
    resumes: bool,
    /// Receivers that are always there.
    readers: Vec<usize>,
    /// In the order they were sent.
    open: VecDeque<Exchange>,
    last_id: u16,
}

impl Publisher {
    pub(crate) fn new(course: usize, topics: &[(String, u8)], window: usize) -> Self {
        let (topics, readers, open) = (topics.to_vec(), Vec::new(), VecDeque::new());
        Self { course, topics, window, resumes: true, readers, open, last_id: 0 }
    }

    /// One whose session ends with its connection.
    pub(crate) fn forgetting(self) -> Self {
        Self { resumes: false, ..self }
    }

    /// Holds it back for the slowest of `readers`.
    pub(crate) fn paced_by(self, readers: &[usize]) -> Self {
        Self { readers: readers.to_vec(), ..self }
    }

    fn publish(&mut self, desk: &mut Desk<'_>) {
        let topic = desk.dice.below(self.topics.len());
        let key = desk.books.sent(self.course, topic);
        let id = self.free_id();
        self.send(id, key, topic, false, desk);
        if self.topics[topic].1 > 0 {
            self.open.push_back(Exchange { id, key, topic, is_released: false });
        }
    }

    fn free_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id % u16::MAX + 1;
            let id = PacketId::new(self.last_id).expect("1 was added");
            if self.open.iter().all(|exchange| exchange.id != id) {
                return id;
            }
        }
    }

    fn send(&self, id: PacketId, key: Key, topic: usize, dup: bool, desk: &mut Desk<'_>) {
        let (topic, qos) = &self.topics[topic];
        let qos = QoS::try_from(*qos).expect("0, 1 or 2");
        desk.send(&Packet::Publish(Publish {
            dup,
            qos,
            retain: false,
            topic: topic.as_bytes(),
            packet_id: (qos > QoS::AtMostOnce).then_some(id),
            properties: Properties::none(),
            payload: &payload::make(key),
        }));
    }

    /// The oldest exchange that this acknowledgement can be for, which must be the one it is for
    /// [MQTT-4.6.0-2], [MQTT-4.6.0-3].
    fn acknowledged(&mut self, ack: &Ack<'_>, qos: u8, desk: &mut Desk<'_>) -> Option<usize> {
        if ack.reason.value() >= 0x80 {
            desk.blame(&format!("is answered {:?}", ack.reason));
        }
        let topics = &self.topics;
        let waits = |it: &Exchange| !it.is_released && topics[it.topic].1 == qos;
        let at = self.open.iter().position(waits);
        let at = at.filter(|&at| self.open[at].id == ack.packet_id);
        match at {
            Some(at) => desk.books.taken(self.open[at].key),
            None => desk.blame(&format!("gets an acknowledgement out of turn: {ack:?}")),
        }
        at
    }
}

impl Part for Publisher {
    /// Goes on where it was [MQTT-4.4.0-1].
    fn greet(&mut self, _present: bool, desk: &mut Desk<'_>) {
        for exchange in &self.open {
            if exchange.is_released {
                desk.send(&Packet::Pubrel(Ack::success(exchange.id)));
            } else {
                desk.books.sent_again(exchange.key);
                self.send(exchange.id, exchange.key, exchange.topic, true, desk);
            }
        }
    }

    fn take(&mut self, packet: &Packet<'_>, desk: &mut Desk<'_>) {
        match packet {
            Packet::Puback(ack) => {
                if let Some(at) = self.acknowledged(ack, 1, desk) {
                    self.open.remove(at);
                }
            }
            Packet::Pubrec(ack) => {
                if let Some(at) = self.acknowledged(ack, 2, desk) {
                    self.open[at].is_released = true;
                    desk.send(&Packet::Pubrel(Ack::success(ack.packet_id)));
                }
            }
            // That there is no such exchange is no fault: it may have ended before the kill.
            Packet::Pubcomp(ack)
                if matches!(
                    ack.reason,
                    ReasonCode::Success | ReasonCode::PacketIdentifierNotFound
                ) =>
            {
                let is_it = |it: &Exchange| it.is_released && it.id == ack.packet_id;
                match self.open.iter().position(is_it) {
                    Some(at) => drop(self.open.remove(at)),
                    None => desk.blame(&format!("did not ask for {ack:?}")),
                }
            }
            other => desk.blame(&format!("gets {other:?}")),
        }
    }

    fn act(&mut self, desk: &mut Desk<'_>) {
        if desk.mood != Mood::Load {
            return;
        }
        let behind = |&reader: &usize| desk.books.behind(reader, self.course);
        if self.readers.iter().map(behind).max().unwrap_or(0) > BEHIND_MAX {
            return;
        }
        let count = TURN.min(self.window - self.open.len());
        (0..count).for_each(|_| self.publish(desk));
    }

    fn cut(&mut self) {
        if !self.resumes {
            self.open.clear();
        }
    }

    fn is_idle(&self) -> bool {
        self.open.is_empty()
    }
}
