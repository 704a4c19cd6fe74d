//! Shared groups: each message reaches one member.

use std::collections::{BTreeMap, BTreeSet};

use longshore_codec::QoS;

/// All groups, those that are over included while their messages may be heard of.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    /// By filter, those that have members.
    current: BTreeMap<&'static str, usize>,
    all: Vec<Group>,
    debts: BTreeMap<u64, Vec<Debt>>,
}

#[derive(Debug, Default)]
struct Group {
    filter: &'static str,
    members: BTreeSet<u64>,
    /// Also those that have left.
    ever: BTreeSet<u64>,
}

/// A message that one member is to get.
#[derive(Debug)]
struct Debt {
    group: usize,
    qos: QoS,
    /// Sessions that have got it.
    seen: BTreeSet<u64>,
    /// How often it was sent, not counting what was sent again.
    fresh: usize,
    /// How often a member has gone away, so that it may have been sent to another one.
    losses: usize,
    /// It may have ended with its session or its group.
    is_lost: bool,
}

/// What members of the group ask for; the last letter tells.
fn granted(filter: &str) -> QoS {
    match filter.as_bytes().last() {
        Some(b'0') => QoS::AtMostOnce,
        Some(b'1') => QoS::AtLeastOnce,
        _ => QoS::ExactlyOnce,
    }
}

impl Groups {
    pub(crate) fn join(&mut self, filter: &'static str, session: u64) {
        let all = &mut self.all;
        let number = *self.current.entry(filter).or_insert_with(|| {
            all.push(Group { filter, ..Group::default() });
            all.len() - 1
        });
        self.all[number].members.insert(session);
        self.all[number].ever.insert(session);
    }

    pub(crate) fn leave(&mut self, filter: &'static str, session: u64) {
        let Some(number) = self.current.get(filter).copied() else { return };
        self.all[number].members.remove(&session);
        if self.all[number].members.is_empty() {
            self.current.remove(filter);
            for debt in self.debts.values_mut().flatten().filter(|debt| debt.group == number) {
                debt.is_lost = true;
            }
        }
    }

    /// The session has lost its connection.
    pub(crate) fn lose(&mut self, session: u64) {
        for debt in self.debts.values_mut().flatten() {
            debt.losses += usize::from(self.all[debt.group].ever.contains(&session));
        }
    }

    /// The session is no more. What it has of QoS 2 ends with it [MQTT-4.8.2-5].
    pub(crate) fn end(&mut self, session: u64) {
        for debt in self.debts.values_mut().flatten() {
            let may_have_it = self.all[debt.group].ever.contains(&session);
            debt.is_lost |= may_have_it && debt.qos == QoS::ExactlyOnce;
        }
    }

    pub(crate) fn publish(&mut self, serial: u64, topic: &str, qos: QoS) {
        for (filter, group) in &self.current {
            if filter.ends_with(topic) {
                self.debts.entry(serial).or_default().push(Debt {
                    group: *group,
                    qos: qos.min(granted(filter)),
                    seen: BTreeSet::new(),
                    fresh: 0,
                    losses: 0,
                    is_lost: false,
                });
            }
        }
    }

    /// A member is told a message; of which group it is.
    pub(crate) fn hear(&mut self, serial: u64, session: u64, dup: bool, qos: QoS) -> &'static str {
        let debts = self.debts.get_mut(&serial).into_iter().flatten();
        let mut own = debts.filter(|debt| self.all[debt.group].ever.contains(&session));
        let debt = own.next().unwrap_or_else(|| panic!("#{serial} is nothing for {session}"));
        assert_eq!(debt.qos, qos, "[MQTT-4.8.2-3] #{serial}");
        debt.fresh += usize::from(!dup);
        debt.seen.insert(session);
        let most = match qos {
            QoS::AtLeastOnce => 1 + debt.losses,
            _ => 1,
        };
        let count = debt.fresh.max(debt.seen.len());
        assert!(count <= most, "[MQTT-4.8.2-4] #{serial} goes to several members: {debt:?}");
        self.all[debt.group].filter
    }

    pub(crate) fn check_end(&self) {
        for (serial, debts) in &self.debts {
            for debt in debts.iter().filter(|debt| debt.qos != QoS::AtMostOnce) {
                let done = debt.is_lost || !debt.seen.is_empty();
                let members = &self.all[debt.group].members;
                assert!(done, "none of {members:?} got #{serial}: {debt:?}");
            }
        }
    }
}
