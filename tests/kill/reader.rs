//! A receiver that keeps its side of each exchange over all connections.

use std::collections::{HashMap, VecDeque};

use longshore::codec::{
    Ack, Packet, PacketId, Properties, Publish, QoS, Subscribe, SubscribeOptions, Subscriptions,
    TopicFilters, Unsubscribe,
};

use super::books::{Books, Delivery, Key};
use super::member::{Desk, Mood, Part};
use super::payload;

/// How often a change is begun while there is load: once in so many turns.
const CHANGE: usize = 30;

/// What was asked for and is not answered.
struct Asked {
    id: PacketId,
    want: usize,
    is_subscribe: bool,
}

pub(crate) struct Reader {
    /// Where it is in the books.
    account: usize,
    /// Filters and QoS.
    wants: Vec<(String, u8)>,
    /// Whether there is a subscription, as far as was asked for.
    is_on: Vec<bool>,
    asked: Vec<Asked>,
    last_id: u16,
    /// Whether its subscriptions change.
    changes: bool,
    has_begun: bool,
    /// Whether its session is to end with the next connection.
    anew: bool,
    /// Acknowledgements that it holds back while there is load.
    lag: usize,
    acks: VecDeque<Vec<u8>>,
    /// QoS 2 messages that were received and not released; none is one that is no message.
    held: HashMap<PacketId, Option<Key>>,
}

impl Reader {
    pub(crate) fn new(account: usize, wants: &[(String, u8)], lag: usize) -> Self {
        Self {
            account,
            wants: wants.to_vec(),
            is_on: vec![false; wants.len()],
            asked: Vec::new(),
            last_id: 0,
            changes: false,
            has_begun: false,
            anew: false,
            lag,
            acks: VecDeque::new(),
            held: HashMap::new(),
        }
    }

    /// One that now has some of its subscriptions and now others.
    pub(crate) fn changing(self) -> Self {
        Self { changes: true, ..self }
    }

    fn ask(&mut self, want: usize, is_subscribe: bool, desk: &mut Desk<'_>) {
        self.last_id = self.last_id % u16::MAX + 1;
        let id = PacketId::new(self.last_id).expect("1 was added");
        self.asked.push(Asked { id, want, is_subscribe });
        self.is_on[want] = is_subscribe;
        let (filter, qos) = &self.wants[want];
        let mut raw = Vec::new();
        if is_subscribe {
            desk.books.subscribing(self.account, want);
            let options = SubscribeOptions::new(QoS::try_from(*qos).expect("0, 1 or 2"));
            Subscriptions::append(filter, options, &mut raw);
            let filters = Subscriptions::decode(desk.version, &raw).expect("a good filter");
            let properties = Properties::none();
            desk.send(&Packet::Subscribe(Subscribe { packet_id: id, properties, filters }));
        } else {
            desk.books.unsubscribing(self.account, want);
            TopicFilters::append(filter, &mut raw);
            let filters = TopicFilters::decode(&raw).expect("a good filter");
            let properties = Properties::none();
            desk.send(&Packet::Unsubscribe(Unsubscribe { packet_id: id, properties, filters }));
        }
    }

    /// SUBACK or UNSUBACK.
    fn answered(&mut self, id: PacketId, is_subscribe: bool, codes: &[u8], desk: &mut Desk<'_>) {
        let is_it = |it: &Asked| it.id == id && it.is_subscribe == is_subscribe;
        let Some(at) = self.asked.iter().position(is_it) else {
            return desk.blame(&format!("did not ask for answer {id}"));
        };
        let want = self.asked.remove(at).want;
        if is_subscribe {
            let qos = self.wants[want].1;
            if codes != [qos] {
                desk.blame(&format!("asked for QoS {qos} and gets {codes:?}"));
            }
            desk.books.subscribed(self.account, want);
        } else {
            // Asked for once more after a kill, there may be none any more.
            if codes.iter().any(|&code| code >= 0x80) {
                desk.blame(&format!("gets {codes:?} for UNSUBSCRIBE"));
            }
            desk.books.unsubscribed(self.account, want);
        }
    }

    fn publish(&mut self, publish: &Publish<'_>, desk: &mut Desk<'_>) {
        let topic = String::from_utf8_lossy(publish.topic);
        let key = payload::read(publish.payload);
        if key.is_none() {
            let bytes = publish.payload.len();
            desk.blame(&format!("gets {bytes} bytes that nobody sent, on {topic}"));
        }
        let (qos, dup, retain) = (publish.qos as u8, publish.dup, publish.retain);
        let is_new = match publish.packet_id.filter(|_| qos == 2).map(|id| (id, self.held.get(&id)))
        {
            Some((id, Some(&held))) if held != key || !dup => {
                let fault = format!("gets {key:?} with DUP {dup} for {id}, which is {held:?}");
                desk.blame(&fault);
                false
            }
            Some((_, Some(_))) => false,
            Some((id, None)) => {
                self.held.insert(id, key);
                true
            }
            None => true,
        };
        if let (Some(key), true) = (key, is_new) {
            let delivery = Delivery { topic: &topic, qos, dup, retain };
            desk.books.received(self.account, key, delivery);
        }
        match publish.packet_id.map(Ack::success) {
            Some(ack) if qos == 1 => self.acknowledge(&Packet::Puback(ack), desk),
            Some(ack) => self.acknowledge(&Packet::Pubrec(ack), desk),
            None => {}
        }
    }

    fn acknowledge(&mut self, packet: &Packet<'_>, desk: &Desk<'_>) {
        let mut bytes = Vec::new();
        longshore::codec::encode(desk.version, packet, &mut bytes);
        self.acks.push_back(bytes);
    }
}

impl Part for Reader {
    fn greet(&mut self, _present: bool, desk: &mut Desk<'_>) {
        if std::mem::take(&mut self.anew) {
            desk.books.forgotten(self.account);
            self.has_begun = false;
            self.asked.clear();
            self.held.clear();
        }
        if !self.has_begun {
            self.has_begun = true;
            (0..self.wants.len()).for_each(|want| self.ask(want, true, desk));
            return;
        }
        for asked in std::mem::take(&mut self.asked) {
            self.ask(asked.want, asked.is_subscribe, desk);
        }
    }

    fn take(&mut self, packet: &Packet<'_>, desk: &mut Desk<'_>) {
        match packet {
            Packet::Publish(publish) => self.publish(publish, desk),
            Packet::Pubrel(ack) => {
                self.held.remove(&ack.packet_id);
                self.acknowledge(&Packet::Pubcomp(Ack::success(ack.packet_id)), desk);
            }
            Packet::Suback(suback) => self.answered(suback.packet_id, true, suback.codes, desk),
            Packet::Unsuback(unsuback) => {
                self.answered(unsuback.packet_id, false, unsuback.codes, desk);
            }
            other => desk.blame(&format!("gets {other:?}")),
        }
    }

    fn act(&mut self, desk: &mut Desk<'_>) {
        let lag = if desk.mood == Mood::Load { self.lag } else { 0 };
        while self.acks.len() > lag {
            desk.out.extend(self.acks.pop_front().expect("there is one"));
        }
        let is_settled = self.asked.is_empty() && desk.mood == Mood::Load;
        if self.changes && is_settled && desk.dice.once_in(CHANGE) {
            let want = desk.dice.below(self.wants.len());
            self.ask(want, !self.is_on[want], desk);
        }
    }

    fn cut(&mut self) {
        self.acks.clear();
    }

    fn is_idle(&self) -> bool {
        self.acks.is_empty() && self.asked.is_empty() && self.held.is_empty()
    }

    fn forget(&mut self) {
        self.anew = true;
    }

    fn begins_anew(&self) -> bool {
        self.anew
    }

    fn forgetting(&mut self, books: &mut Books) {
        books.forgetting(self.account);
    }
}
