//! What the broker reads: packets cut from bytes, and each one's consequences written down.

use longshore_codec::{
    Ack, Error, Frame, Packet, PacketType, QoS, ReasonCode, Version, decode, decode_publish, frame,
};

use crate::sim::network::LineId;

use super::Oracle;
use super::answer::Answer;
use super::book::{Connection, SessionNumber, Stage};

/// Why the broker has to end a connection; none for one that it cannot even understand.
pub(crate) type Fault = ReasonCode;

impl Oracle {
    /// Bytes reach the broker.
    pub(crate) fn receive(&mut self, line: LineId, bytes: &[u8]) {
        let now = self.now;
        let connection = self.connection(line);
        if connection.stage == Stage::Closing {
            return;
        }
        connection.received = now.mono;
        let mut is_old = !connection.partial.is_empty();
        connection.partial.extend_from_slice(bytes);
        loop {
            let limits = self.limits.clone();
            let connection = self.connection(line);
            let limit = match connection.stage {
                Stage::Connecting => limits.connect_bytes,
                Stage::Online(_) => limits.packet_bytes,
                Stage::Closing => break,
            };
            match frame(&connection.partial, limit) {
                Err(error) => {
                    if connection.stage == Stage::Connecting && !is_old {
                        self.refuse_unframed(line, error);
                    }
                    self.fail(line, error.reason());
                    break;
                }
                Ok(Some(found)) if found.total() <= connection.partial.len() => {
                    let packet: Vec<u8> = connection.partial.drain(..found.total()).collect();
                    is_old = false;
                    if let Err(fault) = self.take(line, found, &packet) {
                        self.fail(line, fault);
                        break;
                    }
                }
                Ok(_) => {
                    self.keep(line, is_old);
                    break;
                }
            }
        }
        self.publish_wills();
    }

    /// What is left is the start of a packet.
    fn keep(&mut self, line: LineId, is_old: bool) {
        let now = self.now;
        let connection = self.connection(line);
        let first = connection.partial.first().copied();
        if connection.stage == Stage::Connecting && first.is_some_and(|first| first != 0x10) {
            self.fail(line, ReasonCode::ProtocolError);
        } else if !is_old {
            connection.partial_since = now.mono;
        }
    }

    fn take(&mut self, line: LineId, found: Frame, packet: &[u8]) -> Result<(), Fault> {
        let connection = self.connection(line);
        let (version, stage) = (connection.version, connection.stage);
        let body = &packet[found.header..];
        let Stage::Online(session) = stage else {
            return self.take_connect(line, found.first, body);
        };
        self.trace.note(format_args!("  {} on line {line}", found.packet_type()));
        if version == Version::V5 && !found.is_minimal() {
            return Err(ReasonCode::MalformedPacket);
        }
        if found.packet_type() == PacketType::Publish {
            let publish = decode_publish(version, found.first, body).map_err(reason)?;
            return self.take_publish(line, session, &publish);
        }
        match decode(version, found.first, body).map_err(reason)? {
            Packet::Puback(ack) => self.take_puback(session, &ack),
            Packet::Pubrec(ack) => self.take_pubrec(line, session, &ack),
            Packet::Pubrel(ack) => self.take_pubrel(line, session, &ack),
            Packet::Pubcomp(ack) => self.take_pubcomp(session, &ack),
            Packet::Subscribe(subscribe) => self.take_subscribe(line, session, &subscribe)?,
            Packet::Unsubscribe(unsubscribe) => {
                self.take_unsubscribe(line, session, &unsubscribe);
            }
            Packet::Pingreq => self.owe_answer(line, Answer::Pingresp),
            Packet::Disconnect(disconnect) => {
                self.take_disconnect(line, session, &disconnect)?;
            }
            _ => return Err(ReasonCode::ProtocolError),
        }
        Ok(())
    }

    pub(crate) fn owe_answer(&mut self, line: LineId, answer: Answer) {
        let connection = self.connection(line);
        let answer = answer.in_version(connection.version);
        connection.answers.push_back(answer);
    }

    /// The client has done with a packet identifier, unless it is in flight still.
    fn acknowledged(&mut self, number: SessionNumber, id: u16) {
        let session = self.session(number);
        let Some(line) = session.line else { return };
        if !session.flights.contains_key(&id) {
            self.connection(line).unacknowledged.remove(&id);
        }
    }

    fn take_puback(&mut self, session: SessionNumber, ack: &Ack<'_>) {
        let id = ack.packet_id.get();
        let flight = self.session(session).flights.get(&id);
        if flight.is_some_and(|flight| flight.debt.qos == QoS::AtLeastOnce) {
            self.land(session, id);
        }
        self.acknowledged(session, id);
    }

    fn take_pubrec(&mut self, line: LineId, session: SessionNumber, ack: &Ack<'_>) {
        let id = ack.packet_id.get();
        let flight = self.session(session).flights.get_mut(&id);
        let flight = flight.filter(|flight| flight.debt.qos == QoS::ExactlyOnce);
        if ack.reason.is_error() {
            if flight.is_some_and(|flight| !flight.is_released) {
                self.land(session, id);
            }
            self.acknowledged(session, id);
            return;
        }
        let reason = match flight {
            Some(flight) => {
                flight.is_released = true;
                ReasonCode::Success
            }
            None => ReasonCode::PacketIdentifierNotFound,
        };
        self.owe_answer(line, Answer::Pubrel(id, reason));
    }

    fn take_pubrel(&mut self, line: LineId, session: SessionNumber, ack: &Ack<'_>) {
        let id = ack.packet_id.get();
        let reason = match self.session(session).inbound.remove(&id) {
            true => ReasonCode::Success,
            false => ReasonCode::PacketIdentifierNotFound,
        };
        // [MQTT-3.3.4-9]: what came on an earlier connection, or never, takes no place.
        self.connection(line).unreleased.remove(&id);
        self.owe_answer(line, Answer::Pubcomp(id, reason));
    }

    fn take_pubcomp(&mut self, session: SessionNumber, ack: &Ack<'_>) {
        let id = ack.packet_id.get();
        if self.session(session).flights.get(&id).is_some_and(|flight| flight.is_released) {
            self.land(session, id);
        }
        self.acknowledged(session, id);
    }

    /// The broker has to end the connection, and to say why where it can.
    pub(crate) fn fail(&mut self, line: LineId, fault: Fault) {
        let connection = self.connection(line);
        if matches!(connection.stage, Stage::Online(_)) && connection.is_v5() {
            self.owe_answer(line, Answer::Disconnect(fault));
        }
        self.close(line);
    }

    /// The connection is to close, whoever wants it.
    pub(crate) fn close(&mut self, line: LineId) {
        let (now, step) = (self.now, self.step);
        let connection = self.connection(line);
        let stage = std::mem::replace(&mut connection.stage, Stage::Closing);
        connection.closed_in = Some(step);
        connection.closing_since = now.mono;
        connection.partial = Vec::new();
        connection.is_paused = false;
        if let Stage::Online(session) = stage {
            self.detach(session);
        }
    }

    /// The transport is gone.
    pub(crate) fn closed(&mut self, line: LineId) {
        if self.connection(line).stage != Stage::Closing {
            self.close(line);
        }
        self.connections.remove(&line);
        self.publish_wills();
    }

    pub(crate) fn accepted(&mut self, line: LineId) {
        self.connections.insert(line, Connection::new(self.now));
    }
}

fn reason(error: Error) -> Fault {
    error.reason()
}
