//! PUBLISH from a client: what it says, where it goes, what the publisher is told.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use longshore_acl::{Action, BROKER_CLASS};
use longshore_codec::{
    Ack, Carrier, Packet, PacketId, Properties, Property, Publish, QoS, ReasonCode, Version, topic,
};

use tracing::warn;

use super::config::LOG_WORK;
use super::deliver::Outgoing;
use super::overflow::INBOX;
use super::quota::MESSAGES;
use super::{Fault, Shard};
use crate::cache::Route;
use crate::clock::{Now, Wall};
use crate::connection::ConnectionId;
use crate::form::{self, Source};
use crate::inboxes;
use crate::message::{Expiry, Kept, Message, Parts, forwardable};
use crate::output::COPY_MAX;
use crate::parties::Party;
use crate::record::Event;
use crate::retained::{Age, Fresh, Full, is_large};
use crate::session::{Owner, SessionId};
use crate::stamp::{
    CID, COUNT_SUBSCRIBERS, SUBSCRIBERS_COUNT, TIMESTAMP, TOKEN_ID, cid_of, counting_time,
};

mod called;

/// The packet a PUBLISH came in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Input<'a> {
    /// None when receivers must not see it as it is.
    pub(super) packet: Option<&'a [u8]>,
    pub(super) header_len: usize,
    /// The packet again, when parts of it can be kept without copying.
    pub(super) owned: Option<&'a Bytes>,
}

/// What the properties of a PUBLISH mean to the broker itself.
#[derive(Clone, Copy, Debug, Default)]
struct Said {
    alias: Option<u16>,
    expiry_secs: Option<u32>,
    /// There is a timestamp, and what it means if it counts.
    has_time: bool,
    time: Option<Wall>,
    /// It says by whom it is, which is not for the publisher to say.
    has_claims: bool,
    /// The publisher asks how many subscribers it reaches.
    asks_count: bool,
}

/// A message that may be published.
struct Admitted<'a> {
    name: &'a [u8],
    said: Said,
    route: Rc<Route>,
    from: Party,
    v5: bool,
}

impl Said {
    /// Whether receivers get other properties than came, beside the broker's own.
    fn is_rewritten(&self) -> bool {
        self.alias.is_some() || self.expiry_secs.is_some() || self.asks_count
    }
}

impl Shard {
    #[inline]
    pub(super) fn handle_publish(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        input: Input<'_>,
        now: Now,
    ) -> Result<(), Fault> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let done = self.publish(id, session, publish, input, &mut scratch, now);
        self.scratch = scratch;
        done
    }

    #[inline]
    fn publish(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        input: Input<'_>,
        scratch: &mut Vec<u8>,
        now: Now,
    ) -> Result<(), Fault> {
        let Some(connection) = self.connections.get_mut(id) else { return Ok(()) };
        connection.tally.published += 1;
        let (v5, mut from) = (connection.version == Version::V5, connection.party);
        let said = if publish.properties.is_empty() {
            Said::default()
        } else {
            self.read_properties(publish.properties, now.wall)?
        };
        if said.has_claims && from.class == BROKER_CLASS {
            // A module says in whose topics it publishes.
            from.account = cid_of(publish.properties);
        }
        let aliased;
        let mut name = publish.topic;
        if said.alias.is_some() || name.is_empty() {
            aliased = self.resolve_alias(id, name, said.alias)?;
            name = &aliased;
        }
        if publish.qos == QoS::ExactlyOnce
            && let Some(packet_id) = publish.packet_id
            && self.is_repeated(id, session, packet_id)?
        {
            // [MQTT-4.3.3-10]: acknowledged again, routed once.
            let durable = self.holder_of(session) != 0;
            self.acknowledge(id, publish, ReasonCode::Success, durable);
            return Ok(());
        }
        if let Some(filter) = self.deletion(publish, name) {
            return self.delete_matching(id, session, publish, (from, filter), now);
        }
        let route = self.route(from, name)?;
        if route.is_forbidden {
            let admitted = Admitted { name, said, route, from, v5 };
            return self.turn_away(id, session, publish, input, admitted, scratch, now);
        }
        if let Some(meter) = &route.meter
            && let Some(cause) = self.over_quota(session, meter, &route, publish.qos, now)
        {
            return self.refuse_for_quota(id, session, publish, cause);
        }
        let admitted = Admitted { name, said, route, from, v5 };
        self.publish_admitted(id, session, publish, input, admitted, scratch, now)
    }

    /// Publishes a message whose publisher may do so.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "the halves of one function")]
    fn publish_admitted(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        input: Input<'_>,
        admitted: Admitted<'_>,
        scratch: &mut Vec<u8>,
        now: Now,
    ) -> Result<(), Fault> {
        let Admitted { name, said, route, from, v5 } = admitted;
        // Most messages promise nothing: then there is nothing to ask the journal.
        let may_last = publish.retain || publish.qos != QoS::AtMostOnce;
        let refused = if may_last { self.refused_work() } else { None };
        if let Some(cause) = refused
            && publish.qos != QoS::AtMostOnce
            && (publish.retain || self.would_last(&route, publish.qos))
        {
            return self.refuse(id, session, publish, cause);
        }
        if may_last
            && self.commons.full_inboxes.are_any()
            && self.fills_inbox(session, &route, publish)
        {
            return self.refuse_with(id, session, publish, (inboxes::FULL, INBOX));
        }
        let is_stamped = self.forwarded(id, publish.properties, &said, now.wall, scratch);
        let properties = match is_stamped || said.is_rewritten() {
            true => &scratch[..],
            false => publish.properties.raw(),
        };
        let copied;
        let shared = match input.owned {
            _ if publish.payload.len() <= COPY_MAX => None,
            Some(owned) => {
                copied = owned.slice_ref(publish.payload);
                Some(&copied)
            }
            None if publish.qos == QoS::AtMostOnce && !publish.retain && route.len() < 2 => None,
            None => {
                copied = Bytes::copy_from_slice(publish.payload);
                Some(&copied)
            }
        };
        let is_theirs = said.alias.is_none() && !said.asks_count && !(is_stamped && v5);
        let packet = input.packet.filter(|_| is_theirs).map(|bytes| form::Packet {
            bytes,
            v5,
            with_id: publish.packet_id.is_some(),
            header_len: input.header_len,
        });
        let parts = Parts { topic: name, properties, payload: publish.payload, shared };
        let published = said.time.unwrap_or(now.wall);
        let expiry = said.expiry_secs.map(|secs| Expiry::begin(secs, published));
        let source = Source { parts, expiry, packet };
        let mut outgoing = Outgoing::new(source, publish.qos, publish.retain, Some(session));
        (outgoing.account, outgoing.time) = (from.account, said.time);
        if publish.qos == QoS::ExactlyOnce {
            let holder = self.holder_of(session);
            outgoing.inbound = publish.packet_id.filter(|_| holder != 0).map(|it| (holder, it));
        }
        // QoS 0 promises nothing: it is not retained while nothing can be promised.
        outgoing.is_retained = publish.retain && refused.is_none();
        self.hand_out(id, session, publish, (from, route), &mut outgoing, said.asks_count, now)
    }

    /// Hands a message out to all who get it, and acknowledges it.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "the halves of one function")]
    fn hand_out(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        (from, mut route): (Party, Rc<Route>),
        outgoing: &mut Outgoing<'_>,
        asks_count: bool,
        now: Now,
    ) -> Result<(), Fault> {
        let mut durable = false;
        if outgoing.is_retained {
            match self.retain(outgoing, now.wall) {
                Ok(changed) => durable = changed,
                Err(full) => return self.refuse(id, session, publish, self.not_retained(full)),
            }
            // Whoever has subscribed since then was not given what is retained now.
            if self.commons.epoch() != self.cache.epoch() {
                route = self.route(from, outgoing.source.parts.topic)?;
            }
        }
        let mail_before = self.outbox.len();
        let reached = self.distribute(&route, outgoing, now);
        self.hold_back(id, mail_before);
        if !publish.retain && publish.qos == QoS::AtMostOnce {
            return Ok(());
        }
        durable |= self.write_down(outgoing);
        if publish.qos != QoS::AtMostOnce {
            if publish.qos == QoS::ExactlyOnce
                && let (Some(session), Some(packet_id)) =
                    (self.sessions.get_mut(session), publish.packet_id)
            {
                session.receive_exactly_once(packet_id);
            }
            let reason = match reached {
                0 => ReasonCode::NoMatchingSubscribers,
                _ => ReasonCode::Success,
            };
            let mut block = Vec::new();
            if asks_count {
                Property::UserProperty(SUBSCRIBERS_COUNT, &reached.to_string()).append(&mut block);
            }
            self.acknowledge_with(id, publish, reason, Properties::from_raw(&block), durable);
        } else if durable {
            self.hold_if_behind(id);
        }
        Ok(())
    }

    /// Appends the properties that receivers get to `out`, where they are not those that came.
    /// Whether the broker's own are among them.
    #[inline]
    fn forwarded(
        &mut self,
        id: ConnectionId,
        came: Properties<'_>,
        said: &Said,
        wall: Wall,
        out: &mut Vec<u8>,
    ) -> bool {
        let stamp = self.connections.get_mut(id).and_then(|it| it.stamp.as_deref_mut());
        let is_claim = |name: &str| name == TOKEN_ID || name == CID;
        let has_claims = said.has_claims && stamp.is_some();
        if said.is_rewritten() || has_claims {
            let is_omitted = |name: &str| {
                has_claims && is_claim(name) || said.asks_count && name == COUNT_SUBSCRIBERS
            };
            forwardable(came, is_omitted, out);
        } else if stamp.is_some() {
            out.extend_from_slice(came.raw());
        }
        let Some(stamp) = stamp else { return false };
        out.extend_from_slice(if said.has_time { stamp.without_time() } else { stamp.at(wall) });
        true
    }

    fn read_properties(&self, properties: Properties<'_>, wall: Wall) -> Result<Said, Fault> {
        properties.validate(Carrier::Publish)?;
        let (mut said, mut user_properties) = (Said::default(), 0);
        for property in properties.iter() {
            match property? {
                Property::TopicAlias(alias) => said.alias = Some(alias),
                Property::MessageExpiryInterval(secs) => said.expiry_secs = Some(secs),
                Property::UserProperty(name, value) => {
                    user_properties += 1;
                    match name {
                        TIMESTAMP if !said.has_time => {
                            said.has_time = true;
                            said.time = counting_time(value, wall);
                        }
                        TOKEN_ID | CID => said.has_claims = true,
                        COUNT_SUBSCRIBERS => said.asks_count |= value == "1",
                        _ => {}
                    }
                }
                Property::SubscriptionIdentifier(_) => {
                    // [MQTT-3.3.4-6].
                    let cause = "a client's PUBLISH carries a Subscription Identifier";
                    return Err(Fault::new(ReasonCode::ProtocolError, cause));
                }
                _ => {}
            }
        }
        if user_properties > self.limits.user_properties {
            let cause = "too many user properties (limits.user_properties)";
            return Err(Fault::new(ReasonCode::QuotaExceeded, cause));
        }
        Ok(said)
    }

    /// The topic an alias means, after learning it when the packet names both.
    fn resolve_alias(
        &mut self,
        id: ConnectionId,
        name: &[u8],
        alias: Option<u16>,
    ) -> Result<Rc<[u8]>, Fault> {
        let Some(alias) = alias else {
            let cause = "neither a topic name nor a topic alias";
            return Err(Fault::new(ReasonCode::ProtocolError, cause));
        };
        if alias > self.limits.topic_aliases {
            let cause = "a topic alias above Topic Alias Maximum (limits.topic_aliases)";
            return Err(Fault::new(ReasonCode::TopicAliasInvalid, cause));
        }
        let place = usize::from(alias);
        let bytes_max = self.limits.topic_alias_bytes;
        let Some(connection) = self.connections.get_mut(id) else { return Ok(Rc::from(name)) };
        let aliases = &mut connection.aliases;
        if name.is_empty() {
            return aliases.get(place).cloned().flatten().ok_or(Fault::new(
                ReasonCode::ProtocolError,
                "a topic alias that was never set on this connection",
            ));
        }
        // With wildcards it may be one that deletes, but no name that an alias could stand for.
        topic::validate(name)?;
        if aliases.len() <= place {
            aliases.resize(place + 1, None);
        }
        let before = aliases[place].as_ref().map_or(0, |before| before.len());
        let bytes = connection.alias_bytes - before + name.len();
        if bytes > bytes_max {
            let cause = "topic aliases stand for too long names (limits.topic_alias_bytes)";
            return Err(Fault::new(ReasonCode::QuotaExceeded, cause));
        }
        connection.alias_bytes = bytes;
        let name: Rc<[u8]> = name.into();
        connection.aliases[place] = Some(Rc::clone(&name));
        Ok(name)
    }

    /// Whether this QoS 2 message was received before; otherwise it takes a place in the window.
    fn is_repeated(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        packet_id: PacketId,
    ) -> Result<bool, Fault> {
        if self.sessions.get(session).is_some_and(|session| session.has_received(packet_id)) {
            return Ok(true);
        }
        let Some(connection) = self.connections.get_mut(id) else { return Ok(false) };
        let v5 = connection.version == Version::V5;
        if v5 && connection.unreleased >= self.limits.receive_maximum {
            let cause =
                "more unacknowledged messages than Receive Maximum (limits.receive_maximum)";
            return Err(Fault::new(ReasonCode::ReceiveMaximumExceeded, cause));
        }
        connection.unreleased = connection.unreleased.saturating_add(1);
        Ok(false)
    }

    /// Where a topic's messages go. The topic is checked when it is met for the first time.
    #[inline]
    pub(super) fn route(&mut self, from: Party, name: &[u8]) -> Result<Rc<Route>, Fault> {
        if let Some(route) = self.cache.get(self.commons.epoch(), from, name) {
            return Ok(Rc::clone(route));
        }
        let text = topic::validate(name)?;
        if from.class != BROKER_CLASS {
            let invalid = |cause| Fault::new(ReasonCode::TopicNameInvalid, cause);
            self.check_topic(name).map_err(invalid)?;
        }
        if !self.commons.classes.allows(from.class, Action::Publish, text) {
            return Ok(self.cache.forbid(from, name));
        }
        self.matches.clear();
        self.commons.matches(from, text, &mut self.matches);
        self.work += self.matches.work();
        let meter = self.commons.tallies.meter(from.account);
        Ok(self.cache.insert(from, name, &mut self.matches, meter))
    }

    /// Sets or clears the retained message of the topic; whether the journal is to hear of it.
    pub(super) fn retain(&mut self, outgoing: &mut Outgoing<'_>, wall: Wall) -> Result<bool, Full> {
        let parts = outgoing.source.parts;
        let age = Age { time: outgoing.time, now: wall };
        let is_over = outgoing.source.expiry.is_some_and(|expiry| expiry.ends <= wall);
        if parts.payload.is_empty() || is_over {
            // [MQTT-3.3.1-6], [MQTT-3.3.1-7]. What ends at once replaces what was there, too
            // [MQTT-3.3.1-5].
            let account = outgoing.account;
            let retained = self.commons.retained.of(account);
            let Some(sequence) = retained.clear(parts.topic, age) else {
                return Ok(false);
            };
            let Some(journal) = self.journal.as_deref_mut() else { return Ok(false) };
            journal.note(&Event::Clear { account, sequence, topic: parts.topic });
            return Ok(true);
        }
        let large = match is_large(&parts) {
            // With a journal it gets its place there.
            true => Some(Kept::Memory(self.enter(outgoing))),
            false => None,
        };
        let limits = &self.limits;
        let (messages_max, bytes_max) = (limits.retained_messages, limits.retained_bytes);
        let fresh = Fresh { parts, qos: outgoing.qos, expiry: outgoing.source.expiry, large };
        let retained = self.commons.retained.of(outgoing.account);
        let sequence = retained.set(fresh, age, messages_max, bytes_max)?;
        outgoing.sequence = sequence.filter(|_| self.journal.is_some());
        Ok(outgoing.sequence.is_some())
    }

    /// Whether clients of this class may do that with a topic.
    pub(super) fn may(&self, class: u32, action: Action, topic: &[u8]) -> bool {
        std::str::from_utf8(topic).is_ok_and(|it| self.commons.classes.allows(class, action, it))
    }

    /// A message that its publisher has no right to: it goes nowhere, and nobody else notices.
    /// MQTT 3 has no words to say so.
    #[cold]
    pub(super) fn reject(
        &mut self,
        id: ConnectionId,
        session_id: SessionId,
        publish: &Publish<'_>,
    ) {
        self.stats.rejected_total.add(1);
        let Some(connection) = self.connections.get_mut(id) else { return };
        let v5 = connection.version == Version::V5;
        connection.tally.published -= 1;
        connection.tally.rejected += 1;
        if publish.qos == QoS::ExactlyOnce {
            // Nothing is to be released: what refuses ends the exchange, and MQTT 3 counts none.
            connection.unreleased = connection.unreleased.saturating_sub(1);
        }
        if let Some(session) = self.sessions.get_mut(session_id)
            && session.reject() == 1
        {
            self.work += LOG_WORK;
            let cause = "the token may not publish to the topic";
            warn!(client = self.client_id(session_id), cause, "messages are rejected");
        }
        let reason = if v5 { ReasonCode::NotAuthorized } else { ReasonCode::Success };
        self.acknowledge(id, publish, reason, false);
    }

    /// Refuses a message that cannot be kept as its quality of service promises.
    pub(super) fn refuse(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        cause: &'static str,
    ) -> Result<(), Fault> {
        self.refuse_with(id, session, publish, (ReasonCode::QuotaExceeded, cause))
    }

    fn refuse_with(
        &mut self,
        id: ConnectionId,
        session: SessionId,
        publish: &Publish<'_>,
        (reason, cause): (ReasonCode, &'static str),
    ) -> Result<(), Fault> {
        let connection = self.connections.get(id);
        let v5 = connection.is_some_and(|connection| connection.version == Version::V5);
        if v5 && publish.qos != QoS::AtMostOnce {
            self.work += LOG_WORK;
            warn!(client = self.client_id(session), cause, "a message was refused");
            if publish.qos == QoS::ExactlyOnce
                && let Some(connection) = self.connections.get_mut(id)
            {
                // A PUBREC that refuses ends the exchange (MQTT 5.0, 4.9).
                connection.unreleased = connection.unreleased.saturating_sub(1);
            }
            self.acknowledge(id, publish, reason, false);
            return Ok(());
        }
        // MQTT 3 has no words to refuse a message, and a false acknowledgement is worse.
        Err(Fault::new(reason, cause))
    }

    pub(super) fn acknowledge(
        &mut self,
        id: ConnectionId,
        publish: &Publish<'_>,
        reason: ReasonCode,
        durable: bool,
    ) {
        self.acknowledge_with(id, publish, reason, Properties::none(), durable);
    }

    fn acknowledge_with(
        &mut self,
        id: ConnectionId,
        publish: &Publish<'_>,
        reason: ReasonCode,
        properties: Properties<'_>,
        durable: bool,
    ) {
        let Some(packet_id) = publish.packet_id else { return };
        let ack = Ack { packet_id, reason, properties };
        match publish.qos {
            QoS::ExactlyOnce => self.answer(id, &Packet::Pubrec(ack), durable),
            _ => self.answer(id, &Packet::Puback(ack), durable),
        }
    }

    /// Publishes a will, which its own client may have subscribed to: with No Local it does not
    /// get it, also where a new session has begun with the same client id [MQTT-3.8.3-3].
    pub(super) fn publish_will(
        &mut self,
        owner: &Owner,
        will: &Arc<Message>,
        class: u32,
        holder: u64,
        now: Now,
    ) {
        let publisher = self.commons.roster.get(owner).map(|session| *session);
        let mut outgoing = Outgoing::kept(will, publisher);
        (outgoing.will_of, outgoing.account) = (holder, owner.0);
        let (topic, from) = (will.parts().topic, Party { account: owner.0, class });
        // The name is checked before anything is kept under it.
        if self.route(from, topic).is_ok_and(|route| route.is_forbidden) {
            self.stats.rejected_total.add(1);
            let cause = "the token may not publish to the topic";
            warn!(client = &*owner.1, cause, "a will is rejected");
            self.note(holder, &Event::NoWill { holder });
            return;
        }
        let Ok(route) = self.route(from, topic) else {
            self.note(holder, &Event::NoWill { holder });
            return;
        };
        if let Some(meter) = &route.meter
            && let Err(exceeded) = meter.count(now.wall)
        {
            self.stats.over_quota_total.add(1);
            let (cause, account) = (MESSAGES, exceeded.account);
            warn!(client = &*owner.1, account, cause, "a will is not sent");
            self.note(holder, &Event::NoWill { holder });
            return;
        }
        if will.retain
            && let Err(full) = self.retain(&mut outgoing, now.wall)
        {
            let cause = self.not_retained(full);
            warn!(client = &*owner.1, cause, "a will was not retained");
        }
        if let Ok(route) = self.route(from, topic) {
            self.distribute(&route, &mut outgoing, now);
        }
        self.write_down(&mut outgoing);
    }
}
