//! Shared groups: which member got which message. Where several groups owe the same message to the
//! same client, a packet does not tell which group it comes from; so the packets of one step are
//! given to the debts of groups in whatever way explains all of them.

use std::collections::BTreeSet;
use std::rc::Rc;

use longshore_codec::QoS;

use super::Oracle;
use super::book::{Debt, Flight, Group, GroupDebt, Holder, Member, Session, SessionNumber, Source};
use super::explain::{View, is_content};
use super::heard::HeardPublish;

/// A packet that a group's debt explains.
#[derive(Debug)]
pub(crate) struct SharedHeard {
    session: SessionNumber,
    heard: HeardPublish,
    view: View,
    /// The number of the debt.
    debt: u64,
    /// The connection ended in this step, so that another member may have got the same.
    is_lost: bool,
}

impl Oracle {
    /// Explains a packet by a group that the session is a member of, if that can be.
    pub(crate) fn take_from_group(
        &mut self,
        session: SessionNumber,
        heard: &HeardPublish,
        view: View,
    ) -> Option<Debt> {
        let place = self.shared.len();
        let is_lost = view.is_closing && heard.qos == QoS::AtLeastOnce;
        let heard_there = SharedHeard { session, heard: heard.clone(), view, debt: 0, is_lost };
        self.shared.push(heard_there);
        if !self.assign(place, &mut BTreeSet::new()) {
            self.shared.pop();
            return None;
        }
        let (_, debt) = self.group_debt(self.shared[place].debt)?;
        let message = Rc::clone(&debt.message);
        Some(Debt {
            message,
            qos: heard.qos,
            retain: heard.retain,
            identifiers: self.identifiers(session, self.shared[place].debt),
            // Which group's, is settled when all packets are read.
            source: Source::Group(String::new(), 0),
            is_optional: false,
            lapsed: false,
        })
    }

    /// The identifiers a member gets a debt with, which before MQTT 5.0 it is not told.
    fn identifiers(&self, session: SessionNumber, debt: u64) -> Vec<u32> {
        let gone = self.gone_groups.iter().map(|(_, group)| group);
        let mut groups = self.groups.values().chain(gone);
        let group = groups.find(|group| group.debts.iter().any(|known| known.number == debt));
        let group = group.expect("the debt was found");
        let former = group.former.iter().find(|(of, ..)| *of == session);
        let member = group.members.get(&session).or(former.map(|(_, member, _)| member));
        member.and_then(|member| member.identifier).into_iter().collect()
    }

    /// Gives a debt to a packet, where need be by giving others to other packets.
    fn assign(&mut self, place: usize, visited: &mut BTreeSet<u64>) -> bool {
        let SharedHeard { session, heard, view, is_lost, .. } = &self.shared[place];
        let is_lost = *is_lost;
        let gone = self.gone_groups.iter().map(|(_, group)| group);
        let groups = self.groups.values().chain(gone);
        let fitting: Vec<u64> =
            groups.flat_map(|group| fitting(group, *session, heard, *view)).collect();
        for number in fitting {
            if !visited.insert(number) {
                continue;
            }
            let holds = |other: &SharedHeard| other.debt == number && !other.is_lost;
            let other = self.shared.iter().position(holds).filter(|_| !is_lost);
            if other.is_none_or(|other| self.assign(other, visited)) {
                self.shared[place].debt = number;
                return true;
            }
        }
        false
    }

    fn group_debt(&mut self, number: u64) -> Option<(&String, &mut GroupDebt)> {
        let gone = self.gone_groups.iter_mut().map(|(name, group)| (&*name, group));
        self.groups.iter_mut().chain(gone).find_map(|(name, group)| {
            let debt = group.debts.iter_mut().find(|debt| debt.number == number)?;
            Some((name, debt))
        })
    }

    pub(crate) fn find_session(&mut self, number: SessionNumber) -> Option<&mut Session> {
        let gone = self.gone.iter_mut().find(|session| session.number == number);
        self.sessions.get_mut(&number).or(gone)
    }

    /// Writes down who got the groups' messages.
    pub(crate) fn note_shared(&mut self) {
        let (lost, taken): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.shared).into_iter().partition(|heard| heard.is_lost);
        for heard in lost {
            self.note_lost(&heard);
        }
        for SharedHeard { session, heard, debt: number, .. } in taken {
            let Some((name, debt)) = self.group_debt(number) else { continue };
            let (name, message) = (name.clone(), Rc::clone(&debt.message));
            let before = std::mem::replace(&mut debt.holder, Holder::Session(session));
            self.trace
                .note(format_args!("    {number} of {name} goes to {session} from {before:?}"));
            let source = Source::Group(name, number);
            if let Holder::Floating(before) = before
                && let Some(before) = self.find_session(before)
            {
                // Who had it before does not get it again.
                before.flights.retain(|_, f| !(f.is_floating && f.debt.source == source));
            }
            match heard.id {
                None => self.forget_group_debt(number),
                // [MQTT-4.8.2-5]: one of QoS 2 ends with its session.
                Some(_) if !self.sessions.contains_key(&session) => {
                    self.forget_group_debt(number);
                }
                Some(id) => {
                    let session = self.find_session(session);
                    let flight = session.and_then(|session| session.flights.get_mut(&id));
                    let flight = flight.expect("it is in flight since it was heard");
                    flight.debt.message = message;
                    flight.debt.source = source;
                }
            }
        }
    }

    /// A message of QoS 1 was sent, and then the connection was lost.
    fn note_lost(&mut self, shared: &SharedHeard) {
        let (number, id) = (shared.session, shared.heard.id.expect("it is of QoS 1"));
        let Some((name, debt)) = self.group_debt(shared.debt) else { return };
        let (name, message) = (name.clone(), Rc::clone(&debt.message));
        let Some(session) = self.sessions.get_mut(&number) else { return };
        let flight = session.flights.get_mut(&id).expect("it is in flight since it was heard");
        let group = self.groups.get(&name).filter(|group| group.members.len() > 1);
        flight.is_floating = group.is_some_and(|group| group.members.contains_key(&number));
        flight.debt.message = message;
        flight.debt.source = Source::Group(name, shared.debt);
        let holder = match flight.is_floating {
            true => Holder::Floating(number),
            false => Holder::Session(number),
        };
        self.trace.note(format_args!("    {} went to {number}: {holder:?}", shared.debt));
        if let Some((_, debt)) = self.group_debt(shared.debt) {
            debt.holder = holder;
        }
    }

    /// The group owes this message no more.
    pub(crate) fn forget_group_debt(&mut self, number: u64) {
        let gone = self.gone_groups.iter_mut().map(|(_, group)| group);
        for group in self.groups.values_mut().chain(gone) {
            group.debts.retain(|debt| debt.number != number);
        }
    }

    /// A flight that will not be heard of again: its group may still owe the message.
    pub(crate) fn let_go(&mut self, flight: &Flight) {
        let Source::Group(_, number) = &flight.debt.source else { return };
        if let Some((_, debt)) = self.group_debt(*number)
            && matches!(debt.holder, Holder::Floating(_))
        {
            debt.holder = Holder::Nobody;
        }
    }
}

/// The debts of the group that fit what the member heard, those that nobody has first.
fn fitting(
    group: &Group,
    session: SessionNumber,
    heard: &HeardPublish,
    view: View,
) -> impl Iterator<Item = u64> {
    let now = group.members.get(&session).map(|member| (*member, u64::MAX));
    let before = group.former.iter().filter(|(of, ..)| *of == session);
    let terms: Vec<_> =
        now.into_iter().chain(before.map(|(_, member, end)| (*member, *end))).collect();
    let fits = |debt: &GroupDebt| {
        let is_due = debt.made_in == view.step || !debt.message.is_expired(view.now);
        is_due
            && !matches!(debt.holder, Holder::Session(_))
            && is_content(&debt.message, heard, view)
            && terms.iter().any(|(member, end)| {
                debt.number < *end && are_terms(member, debt, heard, view.is_v5)
            })
    };
    let mut found: Vec<_> = group.debts.iter().filter(|debt| fits(debt)).collect();
    found.sort_by_key(|debt| debt.holder != Holder::Nobody);
    found.into_iter().map(|debt| debt.number).collect::<Vec<_>>().into_iter()
}

/// Whether this is how the member gets the message.
fn are_terms(member: &Member, debt: &GroupDebt, heard: &HeardPublish, is_v5: bool) -> bool {
    let message = &debt.message;
    let qos: QoS = member.qos.min(message.qos);
    heard.qos == qos
        && heard.retain == (message.retain && member.retain_as_published)
        && (!is_v5 || heard.identifiers == Vec::from_iter(member.identifier))
}
