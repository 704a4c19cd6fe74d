//! PUBLISH to the broker: who is to get the message, and what the publisher is to be told.

use std::collections::BTreeMap;
use std::rc::Rc;

use longshore_codec::{Carrier, Properties, Property, Publish, QoS, ReasonCode, filter, topic};

use crate::sim::network::LineId;

use super::Oracle;
use super::answer::Answer;
use super::book::{Debt, Expiry, Group, GroupDebt, Holder, Message, SessionNumber, Source};
use super::connect::forwarded;
use super::receive::Fault;

impl Oracle {
    pub(crate) fn take_publish(
        &mut self,
        line: LineId,
        session: SessionNumber,
        publish: &Publish<'_>,
    ) -> Result<(), Fault> {
        let (expiry_secs, alias) = said(publish.properties)?;
        let name = self.resolve(line, publish.topic, alias)?;
        let id = publish.packet_id.map_or(0, Into::into);
        if publish.qos == QoS::ExactlyOnce {
            let is_v5 = self.connection(line).is_v5();
            let most = usize::from(self.limits.receive_maximum);
            let known = &self.session(session).inbound;
            if known.contains(&id) {
                // [MQTT-4.3.3-10].
                self.owe_answer(line, Answer::Pubrec(id, ReasonCode::Success));
                return Ok(());
            }
            let connection = self.connection(line);
            if is_v5 && connection.unreleased.len() >= most {
                return Err(ReasonCode::ReceiveMaximumExceeded);
            }
            connection.unreleased.insert(id);
        }
        if let Some(filter) = deletion(publish, &name) {
            self.delete_matching(filter);
            if publish.qos == QoS::ExactlyOnce {
                self.session(session).inbound.insert(id);
            }
            self.answer_publish(line, publish.qos, id, ReasonCode::Success);
            return Ok(());
        }
        let topic = topic::validate(&name).map_err(|error| error.reason())?.to_owned();
        let now = self.now;
        let message = Rc::new(Message {
            topic,
            payload: publish.payload.to_vec(),
            properties: forwarded(publish.properties),
            qos: publish.qos,
            retain: publish.retain,
            expiry: expiry_secs.map(|secs| Expiry::begin(secs, now)),
            is_will: false,
        });
        if message.retain && !self.retain(&message) {
            if publish.qos == QoS::AtMostOnce || !self.connection(line).is_v5() {
                return Err(ReasonCode::QuotaExceeded);
            }
            // What is refused is acknowledged for good (MQTT 5.0, 4.9).
            self.connection(line).unreleased.remove(&id);
            self.answer_publish(line, publish.qos, id, ReasonCode::QuotaExceeded);
            return Ok(());
        }
        let client_id = self.session(session).client_id.clone();
        let reached = self.route(&message, Some(&client_id));
        if publish.qos == QoS::ExactlyOnce {
            self.session(session).inbound.insert(id);
        }
        let reason = match reached {
            0 => ReasonCode::NoMatchingSubscribers,
            _ => ReasonCode::Success,
        };
        self.answer_publish(line, publish.qos, id, reason);
        Ok(())
    }

    fn answer_publish(&mut self, line: LineId, qos: QoS, id: u16, reason: ReasonCode) {
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.owe_answer(line, Answer::Puback(id, reason)),
            QoS::ExactlyOnce => self.owe_answer(line, Answer::Pubrec(id, reason)),
        }
    }

    /// The topic name in full (MQTT 5.0, 3.3.2.3.4).
    fn resolve(&mut self, line: LineId, name: &[u8], alias: Option<u16>) -> Result<Vec<u8>, Fault> {
        let most = self.limits.topic_aliases;
        let connection = self.connection(line);
        let Some(alias) = alias else {
            return match name.is_empty() {
                true => Err(ReasonCode::ProtocolError),
                false => Ok(name.to_vec()),
            };
        };
        if alias > most {
            return Err(ReasonCode::TopicAliasInvalid);
        }
        if name.is_empty() {
            let known = connection.aliases_in.get(&alias).ok_or(ReasonCode::ProtocolError)?;
            return Ok(known.clone().into_bytes());
        }
        let name = topic::validate(name).map_err(|error| error.reason())?;
        connection.aliases_in.insert(alias, name.to_owned());
        Ok(name.as_bytes().to_vec())
    }

    /// Sets or clears what the topic retains (MQTT 5.0, 3.3.1.3); false when there is no room.
    pub(crate) fn retain(&mut self, message: &Rc<Message>) -> bool {
        let old = self.retained.get(&message.topic);
        if message.payload.is_empty() || message.is_expired(self.now) {
            self.retained.remove(&message.topic);
        } else {
            let count = self.retained.len() + usize::from(old.is_none());
            let bytes = self.retained_bytes() - old.map_or(0, |old| old.size()) + message.size();
            let grows = old.is_none() && count > self.limits.retained_messages;
            if grows || bytes > self.limits.retained_bytes {
                return false;
            }
            self.retained.insert(message.topic.clone(), Rc::clone(message));
        }
        // Who was to get the old one gets the new one as it is published.
        for session in self.sessions.values_mut() {
            for debt in &mut session.retained {
                debt.lapsed |= debt.message.topic == message.topic;
            }
        }
        true
    }

    /// Nothing that matches the filter is retained any more, and nobody hears of it.
    fn delete_matching(&mut self, filter: &str) {
        self.retained.retain(|topic, _| !filter::matches_selectors(filter, topic));
        for session in self.sessions.values_mut() {
            for debt in &mut session.retained {
                debt.lapsed |= filter::matches_selectors(filter, &debt.message.topic);
            }
        }
    }

    pub(crate) fn retained_bytes(&self) -> usize {
        self.retained.values().map(|message| message.size()).sum()
    }

    /// Writes down who is to get the message; how many they are.
    pub(crate) fn route(&mut self, message: &Rc<Message>, publisher: Option<&str>) -> usize {
        let mut reached = 0;
        let (limits, step) = (self.limits.clone(), self.step);
        for session in self.sessions.values_mut() {
            let is_own = publisher == Some(&*session.client_id);
            let matching: Vec<_> = session
                .subscriptions
                .iter()
                .filter(|(name, _)| !name.starts_with("$share/"))
                .filter(|(name, _)| filter::matches_selectors(name, &message.topic))
                .map(|(_, subscription)| subscription)
                // [MQTT-3.8.3-3].
                .filter(|subscription| !(is_own && subscription.options.no_local))
                .collect();
            let Some(qos) = matching.iter().map(|subscription| subscription.options.qos).max()
            else {
                continue;
            };
            reached += 1;
            let mut identifiers: Vec<u32> =
                matching.iter().filter_map(|subscription| subscription.identifier).collect();
            identifiers.sort_unstable();
            let as_published = matching.iter().any(|s| s.options.retain_as_published);
            let debt = Debt {
                message: Rc::clone(message),
                qos: qos.min(message.qos),
                // [MQTT-3.3.1-12] [MQTT-3.3.1-13].
                retain: message.retain && as_published,
                identifiers,
                source: Source::Own,
                is_optional: false,
                lapsed: false,
            };
            if debt.qos == QoS::AtMostOnce {
                // [MQTT-4.3.1-1]: for those who are there.
                if session.line.is_some() {
                    session.fleeting.push_back(debt);
                }
                continue;
            }
            let shared = match session.line {
                Some(_) => shared_bytes(&self.groups, session.number),
                None => 0,
            };
            session.note_overflow(&limits, shared + message.size(), step);
            session.debts.push_back(debt);
        }
        reached + self.route_to_groups(message)
    }

    fn route_to_groups(&mut self, message: &Rc<Message>) -> usize {
        let mut reached = 0;
        for (name, group) in &mut self.groups {
            if group.members.is_empty() || !filter::matches_selectors(&group.filter, &message.topic)
            {
                continue;
            }
            reached += 1;
            self.next_debt += 1;
            self.trace.note(format_args!("  {name} owes {message:?} as {}", self.next_debt));
            group.debts.push(GroupDebt {
                number: self.next_debt,
                message: Rc::clone(message),
                holder: Holder::Nobody,
                optional: false,
                made_in: self.step,
            });
        }
        reached
    }

    /// The client has acknowledged the message for good.
    pub(crate) fn land(&mut self, number: SessionNumber, id: u16) {
        let flight = self.session(number).flights.remove(&id).expect("it was in flight");
        let Source::Group(name, debt) = &flight.debt.source else { return };
        let Some(group) = self.groups.get_mut(name) else { return };
        let Some(place) = group.debts.iter().position(|known| known.number == *debt) else {
            return;
        };
        match group.debts[place].holder {
            // Another member may have got it by now.
            Holder::Floating(holder) if holder == number => group.debts[place].optional = true,
            Holder::Session(holder) if holder == number => drop(group.debts.remove(place)),
            _ => {}
        }
    }
}

/// Bytes of messages that the session may just have got through its groups.
fn shared_bytes(groups: &BTreeMap<String, Group>, session: SessionNumber) -> usize {
    let joined = groups.values().filter(|group| group.members.contains_key(&session));
    let debts = joined.flat_map(|group| &group.debts).filter(|it| it.holder == Holder::Nobody);
    debts.map(|debt| debt.message.size()).sum()
}

/// The topic filter by which a message deletes what is retained: one that is empty and addressed to
/// wildcards.
fn deletion<'a>(publish: &Publish<'_>, name: &'a [u8]) -> Option<&'a str> {
    let name = std::str::from_utf8(name).ok()?;
    let is_meant = publish.payload.is_empty() && name.contains(['+', '#']);
    let parsed = filter::parse(name).ok().filter(|_| is_meant)?;
    parsed.share.is_none().then_some(parsed.inner)
}

/// What a publisher's properties mean to the broker: expiry and alias.
fn said(properties: Properties<'_>) -> Result<(Option<u32>, Option<u16>), Fault> {
    properties.validate(Carrier::Publish).map_err(|error| error.reason())?;
    let (mut expiry, mut alias) = (None, None);
    for property in properties.iter().map_while(Result::ok) {
        match property {
            Property::MessageExpiryInterval(secs) => expiry = Some(secs),
            Property::TopicAlias(number) => alias = Some(number),
            // [MQTT-3.3.4-6].
            Property::SubscriptionIdentifier(_) => return Err(ReasonCode::ProtocolError),
            _ => {}
        }
    }
    Ok((expiry, alias))
}
