//! What clients do with what comes.

use crate::book::{Delivery, Number};
use crate::client::{Known, Line, Note, Out};
use crate::packets::{self, Outgoing};
use crate::received::{Publish, Received, parse, whole};
use crate::run::Run;
use crate::world::Stamp;

/// The number that a payload names; none for an empty one.
pub(crate) fn number_of(payload: &[u8]) -> Option<Number> {
    let text = std::str::from_utf8(payload).expect("text was published");
    let number = text.split(' ').next()?.strip_prefix('m')?;
    Some(number.parse().expect("a number was published"))
}

impl Run {
    /// Sends a packet.
    pub(crate) fn send(&mut self, at: usize, packet: &impl Outgoing, note: Note) {
        let Some(line) = self.clients[at].line.as_mut() else { return };
        packet.note(&mut line.watch);
        line.unread.push_back((packet.encode(line.watch.version), note));
        self.hand_over(at);
    }

    /// Gives the broker what it has not read, as far as it reads.
    pub(crate) fn hand_over(&mut self, at: usize) {
        while let Some(Line { id, unread, .. }) = &mut self.clients[at].line
            && let Some((bytes, note)) = unread.front()
        {
            let note = *note;
            let Some(stamp) = self.world.receive(*id, bytes) else { return };
            unread.pop_front();
            self.read_by_broker(at, note, stamp);
        }
    }

    fn read_by_broker(&mut self, at: usize, note: Note, stamp: Stamp) {
        match note {
            Note::Nothing => {}
            Note::Published(number) => {
                let published = &self.book.published[number];
                if published.retain {
                    let value = (!published.is_clear).then_some(number);
                    self.retained.attempt(&published.topic, number, value);
                }
            }
            Note::Acknowledged(place) => {
                self.book.deliveries[place].acknowledged.get_or_insert(stamp);
            }
            Note::Goodbye => self.said_goodbye(at, stamp),
        }
    }

    /// What has come to the connections.
    pub(crate) fn collect(&mut self) {
        for (old, new) in std::mem::take(&mut self.world.renamed) {
            if let Some(place) = self.abandoned.iter().position(|id| *id == old) {
                self.abandoned[place] = new;
            } else if self.gone.contains(&old) {
                self.world.close(new);
            }
            let mut lines = self.clients.iter_mut().filter_map(|it| it.line.as_mut());
            if let Some(line) = lines.find(|line| line.id == old) {
                line.id = new;
            }
        }
        (0..self.clients.len()).for_each(|at| self.hand_over(at));
        for (id, bytes, stamp) in std::mem::take(&mut self.world.written) {
            let mut lines = self.clients.iter_mut().filter_map(|it| it.line.as_mut());
            if let Some(line) = lines.find(|line| line.id == id) {
                line.incoming.push_back((bytes, stamp));
            }
        }
        for id in std::mem::take(&mut self.world.closed) {
            self.abandoned.retain(|it| *it != id);
            let place = self
                .clients
                .iter()
                .position(|client| client.line.as_ref().is_some_and(|line| line.id == id));
            assert_eq!(place, None, "the broker has closed the connection of a client");
        }
    }

    /// The client reads what has come, up to `most` writes.
    pub(crate) fn read(&mut self, at: usize, most: usize) {
        for _ in 0..most {
            let Some(line) = self.clients[at].line.as_mut() else { return };
            let Some((bytes, stamp)) = line.incoming.pop_front() else { return };
            line.bytes.extend(bytes);
            while let Some(line) = self.clients[at].line.as_mut()
                && let Some(len) = whole(&line.bytes)
            {
                let bytes: Vec<u8> = line.bytes.drain(..len).collect();
                let mut received = parse(line.watch.version, &bytes);
                line.watch.check(&mut received, len);
                self.hear(at, received, stamp);
            }
        }
    }

    fn hear(&mut self, at: usize, received: Received, stamp: Stamp) {
        let said = match &received {
            Received::Publish(it) => format!(
                "PUBLISH {} q{} id {:?} dup {} retain {} m{:?}",
                it.topic,
                it.qos,
                it.packet_id,
                it.dup,
                it.retain,
                number_of(&it.payload)
            ),
            other => format!("{other:?}"),
        };
        self.book.note(&self.world, format!("{at} <- {said}"));
        match received {
            Received::Connack(connack) => {
                assert_eq!(connack.code, 0, "the broker accepts");
                let line = self.clients[at].line.as_mut().expect("it came on a connection");
                let asked = line.asked.take().expect("CONNECT was sent");
                self.connected(at, asked, connack.session_present());
            }
            Received::Publish(publish) => self.hear_publish(at, &publish, stamp),
            Received::Puback(ack) => self.published(at, ack.packet_id, 1, ack.code),
            Received::Pubrec(ack) => self.published(at, ack.packet_id, 2, ack.code),
            Received::Pubcomp(ack) => {
                let out = &mut self.clients[at].out;
                out.retain(|it| it.packet_id != ack.packet_id || !it.is_received);
            }
            Received::Pubrel(ack) => {
                self.clients[at].inbound.remove(&ack.packet_id);
                self.owe(at, packets::pubcomp(ack.packet_id), Note::Nothing);
            }
            Received::Suback(codes) => self.answered(at, codes.packet_id, codes.codes[0]),
            Received::Unsuback(codes) => self.answered(at, codes.packet_id, 0),
            Received::Pingresp => {}
            Received::Disconnect(it) => panic!("the broker disconnects client {at}: {it:?}"),
        }
    }

    fn owe(&mut self, at: usize, ack: packets::Ack, note: Note) {
        let line = self.clients[at].line.as_mut().expect("it came on a connection");
        line.owed.push((ack, note));
    }

    fn answered(&mut self, at: usize, packet_id: u16, code: u8) {
        let client = &mut self.clients[at];
        let line = client.line.as_mut().expect("it came on a connection");
        let place = line.requests.iter().position(|it| it.packet_id == packet_id);
        let request = line.requests.remove(place.expect("it was asked for"));
        assert!(code < 0x80, "the broker subscribes");
        // Another request for the same filter is under way: it alone counts.
        if line.requests.iter().any(|it| it.filter == request.filter) {
            return;
        }
        match request.qos {
            Some(qos) => {
                client.subscriptions.insert(request.filter, (Known::Yes, qos));
            }
            None => {
                client.subscriptions.remove(&request.filter);
            }
        }
    }

    fn published(&mut self, at: usize, packet_id: u16, qos: u8, code: u8) {
        assert!(code < 0x80, "the broker takes all messages");
        let client = &mut self.clients[at];
        let place = client.out.iter().position(|it| it.packet_id == packet_id && it.qos == qos);
        let Some(place) = place else { panic!("client {at}: {packet_id} was not sent") };
        let out = client.out[place];
        if qos == 1 {
            client.out.remove(place);
        } else {
            client.out[place].is_received = true;
        }
        let published = &mut self.book.published[out.number];
        published.is_acknowledged = true;
        if published.retain {
            self.retained.acknowledge(&published.topic, out.number, qos);
        }
        if qos == 2 {
            self.owe(at, packets::pubrel(packet_id), Note::Nothing);
        }
    }

    fn hear_publish(&mut self, at: usize, publish: &Publish, sent: Stamp) {
        let number = number_of(&publish.payload);
        if let Some(number) = number {
            let published = self.book.published.get(number).expect("it was published");
            assert_eq!(published.topic, publish.topic, "m{number}");
        }
        let client = &mut self.clients[at];
        let session = (at, client.life);
        if publish.qos == 2
            && let Some(known) = client.inbound.insert(publish.id(), number)
        {
            assert_eq!(known, number, "client {at}: id {} means another message", publish.id());
            assert!(publish.dup, "client {at}: {publish:?} again, and without DUP");
            let place = number.and_then(|number| self.book.last_delivery(number, session));
            let note = place.map_or(Note::Nothing, Note::Acknowledged);
            return self.owe(at, packets::pubrec(publish.id()), note);
        }
        let mut note = Note::Nothing;
        if let Some(number) = number {
            let (qos, retain) = (publish.qos, publish.retain);
            let delivery = Delivery { session, number, qos, retain, sent, acknowledged: None };
            note = Note::Acknowledged(self.book.deliveries.len());
            self.book.deliver(&self.world, delivery, publish.dup);
        }
        match publish.qos {
            0 => {}
            1 => self.owe(at, packets::puback(publish.id()), note),
            _ => self.owe(at, packets::pubrec(publish.id()), note),
        }
    }

    /// After CONNACK: what is not acknowledged goes again, in its order.
    pub(crate) fn send_again(&mut self, at: usize) {
        for Out { packet_id, number, qos, is_received } in self.clients[at].out.clone() {
            if is_received {
                self.send(at, &packets::pubrel(packet_id), Note::Nothing);
                continue;
            }
            let is_retained = self.book.published[number].retain;
            self.book.published[number].sends +=
                usize::from(qos == 1 || self.book.published[number].is_doubtful);
            self.book.note(&self.world, format!("{at} PUBLISH again m{number} id {packet_id}"));
            let mut packet = self.publish_packet(number, packet_id).dup();
            if is_retained {
                packet = packet.retain();
            }
            self.send(at, &packet, Note::Published(number));
        }
    }
}
