//! From bytes in whatever portions to whole packets, and each packet to what handles it.

use bytes::Bytes;
use longshore_codec::{Frame, Packet, PacketType, ReasonCode, Version, decode, frame};

use super::{Fault, Shard, publish};
use crate::clock::Now;
use crate::connection::{Connection, ConnectionId, Stage};

impl Shard {
    pub(super) fn receive_packets(&mut self, id: ConnectionId, bytes: &[u8], now: Now) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.received = now.mono;
        if connection.resting {
            return self.take_along(id, bytes);
        }
        if let Err(fault) = self.handle_packets(id, bytes, now) {
            self.fail(id, fault, now);
        }
    }

    /// Goes on with connections whose reads were too much for one turn.
    pub(super) fn resume_resting(&mut self, now: Now) {
        self.work = 0;
        while self.work < self.turn_work
            && let Some(id) = self.resting.pop_front()
        {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            if !std::mem::take(&mut connection.resting) {
                continue;
            }
            connection.received = now.mono;
            let bytes = std::mem::take(&mut connection.partial);
            self.input_bytes -= bytes.len();
            if let Err(fault) = self.handle_packets(id, &bytes, now) {
                self.fail(id, fault, now);
            }
            // It is read again, unless it rests again.
            self.mark(id);
            self.settle(now);
        }
    }

    /// Keeps the rest of a read for the next turn.
    fn rest(&mut self, id: ConnectionId, bytes: &[u8]) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.resting = true;
            self.resting.push_back(id);
            self.take_along(id, bytes);
            // There is something to be done, though perhaps nothing to be written.
            self.mark(id);
        }
    }

    fn handle_packets(
        &mut self,
        id: ConnectionId,
        mut bytes: &[u8],
        now: Now,
    ) -> Result<(), Fault> {
        let Some(connection) = self.connections.get(id) else { return Ok(()) };
        if !connection.partial.is_empty() && !matches!(connection.stage, Stage::Moving(_)) {
            match self.complete(id, bytes)? {
                Some((packet, rest)) => {
                    bytes = rest;
                    // The frame was whole, or `complete` would have asked for more.
                    let whole = frame(&packet, usize::MAX)?;
                    if let Some(whole) = whole {
                        self.handle(id, whole, &packet, Some(&packet), now)?;
                        self.take_packet_along(id, &packet);
                    }
                }
                None => return Ok(()),
            }
        }
        let mut packets = 0;
        loop {
            let Some(connection) = self.connections.get(id) else { return Ok(()) };
            match connection.stage {
                Stage::Closing => return Ok(()),
                Stage::Moving(_) => {
                    self.take_along(id, bytes);
                    return Ok(());
                }
                // The first packet never waits: whoever sends little notices nothing.
                Stage::Online(_) if packets > 0 && self.work >= self.turn_work => {
                    if !bytes.is_empty() {
                        self.rest(id, bytes);
                    }
                    return Ok(());
                }
                Stage::Connecting | Stage::Online(_) => {}
            }
            let limit = self.packet_limit(connection);
            let (framed, stage) = (frame(bytes, limit), connection.stage);
            if let (Err(error), Stage::Connecting) = (framed, stage) {
                self.answer_unframed(id, bytes, error);
            }
            match framed.map_err(|error| Fault::unframed(error, stage == Stage::Connecting))? {
                Some(whole) if whole.total() <= bytes.len() => {
                    let (packet, rest) = bytes.split_at(whole.total());
                    bytes = rest;
                    packets += 1;
                    let is_first = stage == Stage::Connecting;
                    self.handle(id, whole, packet, None, now)?;
                    if is_first {
                        self.take_packet_along(id, packet);
                    }
                }
                found => {
                    check_first(stage, bytes)?;
                    debug_assert!(found.is_none_or(|whole| whole.total() > bytes.len()));
                    return self.keep(id, bytes, now);
                }
            }
        }
    }

    /// Keeps CONNECT for the shard where the connection goes on, if it does.
    fn take_packet_along(&mut self, id: ConnectionId, packet: &[u8]) {
        if self.moving(id).is_some() {
            self.take_along(id, packet);
        }
    }

    /// Keeps bytes for later, or for the shard where the connection goes on: those of one read.
    fn take_along(&mut self, id: ConnectionId, bytes: &[u8]) {
        if let Some(connection) = self.connections.get_mut(id) {
            connection.partial.extend_from_slice(bytes);
            self.input_bytes += bytes.len();
        }
    }

    fn packet_limit(&self, connection: &Connection) -> usize {
        match connection.stage {
            Stage::Connecting => self.limits.connect_bytes,
            _ => self.limits.packet_bytes,
        }
    }

    /// Adds to the unfinished packet no more than it lacks. Once it is whole: the packet, and the
    /// bytes after it.
    fn complete<'a>(
        &mut self,
        id: ConnectionId,
        mut bytes: &'a [u8],
    ) -> Result<Option<(Bytes, &'a [u8])>, Fault> {
        let Some(connection) = self.connections.get(id) else { return Ok(None) };
        let (stage, limit) = (connection.stage, self.packet_limit(connection));
        let Some(connection) = self.connections.get_mut(id) else { return Ok(None) };
        let partial = &mut connection.partial;
        let before = partial.len();
        let mut whole = frame(partial, limit);
        while let (Ok(None), Some((byte, rest))) = (whole, bytes.split_first()) {
            partial.push(*byte);
            bytes = rest;
            whole = frame(partial, limit);
        }
        let total = match whole {
            Ok(Some(whole)) => whole.total(),
            Ok(None) => usize::MAX,
            Err(_) => partial.len(),
        };
        debug_assert!(total >= partial.len());
        let (missing, rest) = bytes.split_at(bytes.len().min(total - partial.len()));
        // Grows with what has come, never with what was announced.
        partial.extend_from_slice(missing);
        let (len, added) = (partial.len(), partial.len() - before);
        self.count_input(stage, before, added)?;
        let whole = whole.map_err(|error| Fault::unframed(error, stage == Stage::Connecting))?;
        if whole.is_none() || len < total {
            return Ok(None);
        }
        *self.input_of(stage) -= len;
        let Some(connection) = self.connections.get_mut(id) else { return Ok(None) };
        Ok(Some((Bytes::from(std::mem::take(&mut connection.partial)), rest)))
    }

    /// Counts bytes of an unfinished packet, of which there were some `before`. One packet always
    /// has room.
    fn count_input(&mut self, stage: Stage, before: usize, added: usize) -> Result<(), Fault> {
        let (limit, cause) = match stage {
            Stage::Connecting => (
                self.limits.connect_bytes_total,
                "unfinished CONNECTs take too much memory (limits.connect_bytes_total)",
            ),
            _ => (
                self.limits.input_bytes,
                "unfinished packets take too much memory (limits.input_bytes)",
            ),
        };
        let sum = self.input_of(stage);
        *sum += added;
        match *sum > before + added && *sum > limit {
            true => Err(Fault::new(ReasonCode::QuotaExceeded, cause)),
            false => Ok(()),
        }
    }

    /// Keeps the start of a packet until the rest comes.
    fn keep(&mut self, id: ConnectionId, bytes: &[u8], now: Now) -> Result<(), Fault> {
        if bytes.is_empty() {
            return Ok(());
        }
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        debug_assert!(connection.partial.is_empty());
        connection.partial.extend_from_slice(bytes);
        let stage = connection.stage;
        if stage != Stage::Connecting {
            connection.since = now.mono;
            self.schedule(id, now);
        }
        self.count_input(stage, 0, bytes.len())
    }

    /// Handles one whole packet. `owned` is the packet again, when its bytes can be shared.
    #[inline]
    fn handle(
        &mut self,
        id: ConnectionId,
        whole: Frame,
        packet: &[u8],
        owned: Option<&Bytes>,
        now: Now,
    ) -> Result<(), Fault> {
        self.work += 1;
        let Some(connection) = self.connections.get(id) else { return Ok(()) };
        let body = &packet[whole.header..];
        let Stage::Online(session) = connection.stage else {
            return match connection.stage {
                Stage::Connecting => self.handle_connect(id, whole.first, body, now),
                _ => Ok(()),
            };
        };
        let version = connection.version;
        if version == Version::V5 && !whole.is_minimal() {
            // [MQTT-1.5.5-1].
            let cause = "Remaining Length takes more bytes than it needs";
            return Err(Fault::new(ReasonCode::MalformedPacket, cause));
        }
        if whole.packet_type() == PacketType::Publish {
            let publish = longshore_codec::decode_publish(version, whole.first, body)?;
            self.stats.received(publish.qos, packet.len());
            // A length written too long is not passed on.
            let packet = whole.is_minimal().then_some(packet);
            let input = publish::Input { packet, header_len: whole.header, owned };
            return self.handle_publish(id, session, &publish, input, now);
        }
        if whole.packet_type() == PacketType::Connect {
            // [MQTT-3.1.0-2], whatever else may be wrong with it.
            return Err(Fault::new(ReasonCode::ProtocolError, "a second CONNECT"));
        }
        match decode(version, whole.first, body)? {
            Packet::Puback(ack) => self.handle_puback(id, session, &ack, now),
            Packet::Pubrec(ack) => self.handle_pubrec(id, session, &ack, now),
            Packet::Pubrel(ack) => self.handle_pubrel(id, session, &ack),
            Packet::Pubcomp(ack) => self.handle_pubcomp(id, session, &ack, now),
            Packet::Subscribe(subscribe) => self.handle_subscribe(id, session, &subscribe, now),
            Packet::Unsubscribe(unsubscribe) => {
                self.handle_unsubscribe(id, session, &unsubscribe, now)
            }
            Packet::Pingreq => {
                self.send(id, &Packet::Pingresp);
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.handle_disconnect(id, session, &disconnect, now),
            Packet::Auth(_) => Err(Fault::new(
                // [MQTT-4.12.0-6]: only a client that named a method may go on with one.
                ReasonCode::ProtocolError,
                "AUTH without an authentication method",
            )),
            _ => Err(Fault::new(ReasonCode::ProtocolError, "a packet only a server sends")),
        }
    }
}

/// Before CONNECT, one byte tells whether it can be one; nothing else is worth waiting for.
fn check_first(stage: Stage, bytes: &[u8]) -> Result<(), Fault> {
    match bytes.first() {
        Some(first) if stage == Stage::Connecting && *first != 0x10 => {
            Err(Fault::new(ReasonCode::ProtocolError, "the first packet is not CONNECT"))
        }
        _ => Ok(()),
    }
}
