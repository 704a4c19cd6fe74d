//! What each topic may retain.

use std::collections::BTreeMap;

use crate::book::{Number, TOPICS, matches};

/// One time that a topic was set or cleared.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    /// The packet, and whether it cleared.
    packet: usize,
    value: Option<Number>,
    is_acknowledged: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct RetainedBook(BTreeMap<&'static str, Vec<Attempt>>);

impl RetainedBook {
    /// The broker reads a packet that sets or clears, a topic or all that a filter matches; again,
    /// if it does nothing the second time.
    pub(crate) fn attempt(&mut self, filter: &str, packet: usize, value: Option<Number>) {
        let attempt = Attempt { packet, value, is_acknowledged: false };
        for topic in TOPICS.iter().filter(|topic| matches(filter, topic)) {
            self.0.entry(topic).or_default().push(attempt);
        }
    }

    /// The packet was acknowledged: at QoS 2 the first time may be the one that counted.
    pub(crate) fn acknowledge(&mut self, filter: &str, packet: usize, qos: u8) {
        for topic in TOPICS.iter().filter(|topic| matches(filter, topic)) {
            let attempts = self.0.get_mut(topic).into_iter().flatten();
            let mut of_packet: Vec<_> = attempts.filter(|it| it.packet == packet).collect();
            let place = if qos == 2 { 0 } else { of_packet.len() - 1 };
            of_packet[place].is_acknowledged = true;
        }
    }

    /// Fails unless the topic may retain this.
    pub(crate) fn check(&self, topic: &str, found: Option<Number>) {
        let attempts = self.0.get(topic).map_or(&[][..], |attempts| attempts);
        let surely = attempts.iter().rposition(|it| it.is_acknowledged);
        let may = match surely {
            Some(place) => &attempts[place..],
            None => attempts,
        };
        let is_allowed =
            may.iter().any(|it| it.value == found) || surely.is_none() && found.is_none();
        assert!(is_allowed, "{topic} retains {found:?}, and not one of {may:?}");
    }
}
