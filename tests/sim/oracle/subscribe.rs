//! SUBSCRIBE and UNSUBSCRIBE: who asked for what, and which retained messages it begins with.

use std::rc::Rc;

use longshore_codec::{
    ReasonCode, RetainHandling, Subscribe, SubscribeOptions, Unsubscribe, filter,
};

use crate::sim::network::LineId;

use super::Oracle;
use super::answer::Answer;
use super::book::{Debt, Member, SessionNumber, Source, Subscription};
use super::receive::Fault;

impl Oracle {
    pub(crate) fn take_subscribe(
        &mut self,
        line: LineId,
        number: SessionNumber,
        subscribe: &Subscribe<'_>,
    ) -> Result<(), Fault> {
        let identifier = subscribe.properties.subscription_identifier();
        let is_shared = |name| filter::parse(name).is_ok_and(|parsed| parsed.share.is_some());
        if subscribe.filters.iter().any(|(name, options)| options.no_local && is_shared(name)) {
            // [MQTT-3.8.3-4].
            return Err(ReasonCode::ProtocolError);
        }
        let mut codes = Vec::new();
        for (name, options) in subscribe.filters {
            let most = self.limits.subscriptions;
            let session = self.session(number);
            let is_new = !session.subscriptions.contains_key(name);
            let is_full = is_new && session.subscriptions.len() >= most;
            let code = match filter::parse(name) {
                Err(_) => ReasonCode::TopicFilterInvalid as u8,
                Ok(_) if is_full => ReasonCode::QuotaExceeded as u8,
                Ok(parsed) => {
                    let subscription = Subscription { options, identifier };
                    session.subscriptions.insert(name.to_owned(), subscription);
                    match parsed.share {
                        Some(_) => self.join_group(name, parsed.inner, number, subscription),
                        None => self.read_retained(number, name, subscription, is_new),
                    }
                    options.qos as u8
                }
            };
            self.trace.note(format_args!("  session {number} to {name}: {code:#04x} {options:?}"));
            codes.push(code);
        }
        self.owe_answer(line, Answer::Suback(subscribe.packet_id.get(), codes));
        Ok(())
    }

    fn join_group(
        &mut self,
        name: &str,
        inner: &str,
        number: SessionNumber,
        subscription: Subscription,
    ) {
        let Subscription { options, identifier } = subscription;
        let SubscribeOptions { qos, retain_as_published, .. } = options;
        let next_debt = self.next_debt + 1;
        let member = Member { qos, retain_as_published, identifier, since: next_debt };
        let group = self.groups.entry(name.to_owned()).or_default();
        group.filter = inner.to_owned();
        if let Some(old) = group.members.insert(number, member) {
            group.former.push((number, old, next_debt));
        }
    }

    /// A member leaves for good. The group ends with its last member.
    pub(crate) fn leave_group(&mut self, name: &str, number: SessionNumber) {
        let next_debt = self.next_debt + 1;
        let Some(group) = self.groups.get_mut(name) else { return };
        let Some(old) = group.members.remove(&number) else { return };
        group.former.push((number, old, next_debt));
        if group.members.is_empty() {
            let group = self.groups.remove(name).unwrap_or_default();
            self.gone_groups.push((name.to_owned(), group));
        }
    }

    /// [MQTT-3.3.1-9] to [MQTT-3.3.1-11].
    fn read_retained(
        &mut self,
        number: SessionNumber,
        name: &str,
        subscription: Subscription,
        is_new: bool,
    ) {
        let sends = match subscription.options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        if !sends {
            return;
        }
        let now = self.now;
        let found: Vec<_> = self
            .retained
            .values()
            .filter(|message| {
                filter::matches_selectors(name, &message.topic) && !message.is_expired(now)
            })
            .map(Rc::clone)
            .collect();
        let session = self.session(number);
        // What an earlier SUBSCRIBE left unsent is sent anew.
        session.lapse_retained(name);
        for message in found {
            session.retained.push(Debt {
                qos: subscription.options.qos.min(message.qos),
                message,
                retain: true,
                identifiers: subscription.identifier.into_iter().collect(),
                source: Source::Retained(name.to_owned()),
                is_optional: false,
                lapsed: false,
            });
        }
    }

    pub(crate) fn take_unsubscribe(
        &mut self,
        line: LineId,
        number: SessionNumber,
        unsubscribe: &Unsubscribe<'_>,
    ) {
        let mut codes = Vec::new();
        for name in unsubscribe.filters {
            let session = self.session(number);
            let code = match session.subscriptions.remove(name) {
                Some(_) => {
                    session.lapse_retained(name);
                    self.leave_group(name, number);
                    ReasonCode::Success
                }
                None => ReasonCode::NoSubscriptionExisted,
            };
            self.trace.note(format_args!("  session {number} no longer to {name}: {code}"));
            codes.push(code as u8);
        }
        self.owe_answer(line, Answer::Unsuback(unsubscribe.packet_id.get(), codes));
    }
}
