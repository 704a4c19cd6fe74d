//! Acknowledgements from a client, of messages sent to it and of those it sent.

use longshore_codec::{Ack, Packet, Properties, QoS, ReasonCode};

use super::{Fault, Shard};
use crate::clock::Now;
use crate::connection::ConnectionId;
use crate::record::Event;
use crate::session::{Outbound, Recorded, SessionId, Settled};
use crate::stats::Drop;

impl Shard {
    /// Applies `change` to the session's sending side, and keeps the sum of queued bytes true.
    fn settle_outbound(
        &mut self,
        session_id: SessionId,
        change: impl FnOnce(&mut Outbound) -> Settled,
    ) -> Settled {
        let Some(session) = self.sessions.get_mut(session_id) else { return Settled::Unknown };
        let before = session.outbound.memory();
        let settled = change(&mut session.outbound);
        self.queued_bytes = self.queued_bytes + session.outbound.memory() - before;
        if let Settled::Delivered(recorded) = settled {
            self.note_done(recorded);
        }
        self.count_stored(session_id);
        settled
    }

    pub(super) fn handle_puback(
        &mut self,
        _: ConnectionId,
        session: SessionId,
        ack: &Ack<'_>,
        now: Now,
    ) -> Result<(), Fault> {
        let settled = self.settle_outbound(session, |outbound| {
            outbound.acknowledge(ack.packet_id, QoS::AtLeastOnce)
        });
        self.check_user_properties(ack.properties)?;
        self.delivered(&settled, ack.reason);
        if !matches!(settled, Settled::Unknown) {
            self.pump(session, now);
        }
        Ok(())
    }

    /// [MQTT-4.8.2-6]: what a client refuses is discarded, also when it came through a group.
    fn delivered(&self, settled: &Settled, reason: ReasonCode) {
        if matches!(settled, Settled::Delivered(_)) && reason.is_error() {
            self.stats.dropped(Drop::Refused, 1);
        }
    }

    pub(super) fn handle_pubrec(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        ack: &Ack<'_>,
        now: Now,
    ) -> Result<(), Fault> {
        self.check_user_properties(ack.properties)?;
        if ack.reason.is_error() {
            let settled = self.settle_outbound(session, |outbound| {
                outbound.acknowledge(ack.packet_id, QoS::ExactlyOnce)
            });
            self.delivered(&settled, ack.reason);
            if !matches!(settled, Settled::Unknown) {
                self.pump(session, now);
            }
            return Ok(());
        }
        match self.settle_outbound(session, |outbound| outbound.receive(ack.packet_id)) {
            Settled::Release(Recorded { holder, number, .. }) => {
                let packet_id = ack.packet_id;
                self.note(holder, &Event::Received { holder, number, packet_id });
                self.send_pubrel(id, packet_id);
            }
            _ => {
                let pubrel = Ack {
                    packet_id: ack.packet_id,
                    reason: ReasonCode::PacketIdentifierNotFound,
                    properties: Properties::none(),
                };
                let durable = self.lasts(id);
                self.answer(id, &Packet::Pubrel(pubrel), durable);
            }
        }
        Ok(())
    }

    pub(super) fn handle_pubrel(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        ack: &Ack<'_>,
    ) -> Result<(), Fault> {
        self.check_user_properties(ack.properties)?;
        let Some(session) = self.sessions.get_mut(session) else { return Ok(()) };
        let (holder, packet_id) = (session.holder, ack.packet_id);
        let released = session.release(packet_id);
        if released.is_some() {
            self.note(holder, &Event::Released { holder, packet_id });
        }
        if released == Some(true)
            && let Some(connection) = self.connections.get_mut(id)
        {
            // [MQTT-3.3.4-9]: its PUBCOMP opens the window. What an earlier connection left took
            // no place in it, and neither did what never was.
            connection.unreleased = connection.unreleased.saturating_sub(1);
        }
        let reason = match released {
            Some(_) => ReasonCode::Success,
            // As after a lost PUBCOMP: the exchange is complete on this side.
            None => ReasonCode::PacketIdentifierNotFound,
        };
        let pubcomp = Ack { packet_id: ack.packet_id, reason, properties: Properties::none() };
        // The client may give the packet id to another message now.
        self.answer(id, &Packet::Pubcomp(pubcomp), holder != 0);
        Ok(())
    }

    pub(super) fn handle_pubcomp(
        &mut self,
        _: ConnectionId,
        session: SessionId,
        ack: &Ack<'_>,
        now: Now,
    ) -> Result<(), Fault> {
        self.check_user_properties(ack.properties)?;
        let settled = self.settle_outbound(session, |outbound| outbound.complete(ack.packet_id));
        if !matches!(settled, Settled::Unknown) {
            let (holder, packet_id) = (self.holder_of(session), ack.packet_id);
            self.note(holder, &Event::Completed { holder, packet_id });
            self.pump(session, now);
        }
        Ok(())
    }
}
