//! The counters of the broker as retained messages under `$SYS/broker`, where tools that know
//! nothing of `/metrics` look for them. Names, units and pace are those of mosquitto.

use std::collections::BTreeMap;
use std::time::Duration;

use longshore_acl::ROOT_ACCOUNT;

use super::mailbox::Mailboxes;
use crate::clock::{Clock, Mono, wall};
use crate::shard::{OwnMessage, publish_all};
use crate::stats::{Counter, Stats};
use crate::totals::Totals;

/// How often the counters are looked at.
pub(super) const SPAN: Duration = Duration::from_secs(10);
/// What a load is the average of, in minutes.
const LOADS: [u32; 3] = [1, 5, 15];

/// See the module.
pub(crate) struct Sys {
    totals: Totals,
    mailboxes: Mailboxes,
    clock: Clock,
    counters: Counters,
}

impl Sys {
    pub(crate) fn new(totals: Totals, mailboxes: Mailboxes, clock: Clock) -> Self {
        Self { totals, mailboxes, clock, counters: Counters::new(clock.mono()) }
    }

    /// Shows what has changed.
    pub(super) fn tick(&mut self) {
        let changed = self.counters.look(&self.totals.sum(), self.clock.mono());
        let message = |(name, value): (String, String)| {
            OwnMessage::new(ROOT_ACCOUNT, format!("$SYS/broker/{name}"), value, wall()).shown()
        };
        let messages = changed.into_iter().map(message).collect();
        self.mailboxes[0].put_task(publish_all(messages, |_| {}));
    }
}

/// What was shown, and what is needed to tell what is to be shown next.
struct Counters {
    begun: Mono,
    last: Mono,
    shown: BTreeMap<String, String>,
    most_clients: u64,
    /// How much there was of what has a load, and its averages.
    loads: BTreeMap<&'static str, (u64, [f64; LOADS.len()])>,
}

impl Counters {
    fn new(now: Mono) -> Self {
        let (shown, loads) = (BTreeMap::new(), BTreeMap::new());
        Self { begun: now, last: now, shown, most_clients: 0, loads }
    }

    /// Names and values of what is not as it was.
    fn look(&mut self, stats: &Stats, now: Mono) -> Vec<(String, String)> {
        let mut values = self.values(stats, now);
        for (name, amount) in growing(stats) {
            let averages = self.average(name, amount, now);
            for (minutes, average) in LOADS.iter().zip(averages) {
                values.push((format!("load/{name}/{minutes}min"), format!("{average:.2}")));
            }
        }
        self.last = now;
        values.retain(|(name, value)| self.shown.get(name) != Some(value));
        self.shown.extend(values.iter().cloned());
        values
    }

    fn values(&mut self, stats: &Stats, now: Mono) -> Vec<(String, String)> {
        let (connected, sessions) = (stats.connections.get(), stats.sessions.get());
        // Whoever has not sent CONNECT yet has no session.
        let total = sessions.max(connected);
        self.most_clients = self.most_clients.max(connected);
        let received_bytes = sum(&stats.received_message_bytes_total);
        let sent_bytes = sum(&stats.sent_message_bytes_total);
        let numbers = [
            ("clients/connected", connected),
            ("clients/disconnected", total - connected),
            ("clients/maximum", self.most_clients),
            ("clients/total", total),
            ("bytes/received", stats.received_bytes_total.get()),
            ("bytes/sent", stats.sent_bytes_total.get()),
            ("publish/messages/received", sum(&stats.received_total)),
            ("publish/messages/sent", sum(&stats.sent_total)),
            ("publish/messages/dropped", sum(&stats.dropped_total)),
            ("publish/bytes/received", received_bytes),
            ("publish/bytes/sent", sent_bytes),
            ("retained messages/count", stats.retained.get()),
            ("store/messages/bytes", stats.queued_bytes.get() + stats.retained_bytes.get()),
            ("subscriptions/count", stats.subscriptions.get()),
        ];
        let texts = [
            ("version", format!("longshore version {}", env!("CARGO_PKG_VERSION"))),
            ("uptime", format!("{} seconds", now.since(self.begun).as_secs())),
        ];
        let numbers = numbers.map(|(name, number)| (name, number.to_string()));
        let values = texts.into_iter().chain(numbers);
        values.map(|(name, value)| (name.to_owned(), value)).collect()
    }

    /// The averages a minute, moved by what has come since the last look.
    fn average(&mut self, name: &'static str, amount: u64, now: Mono) -> [f64; LOADS.len()] {
        let minutes = now.since(self.last).as_secs_f64() / 60.0;
        let (before, averages) = self.loads.entry(name).or_default();
        if minutes > 0.0 {
            let rate = amount.saturating_sub(*before) as f64 / minutes;
            for (average, span) in averages.iter_mut().zip(LOADS) {
                let weight = (-minutes / f64::from(span)).exp();
                *average = rate + weight * (*average - rate);
            }
        }
        *before = amount;
        *averages
    }
}

/// What has a load.
fn growing(stats: &Stats) -> [(&'static str, u64); 6] {
    [
        ("connections", stats.accepted_total.get()),
        ("bytes/received", stats.received_bytes_total.get()),
        ("bytes/sent", stats.sent_bytes_total.get()),
        ("publish/received", sum(&stats.received_total)),
        ("publish/sent", sum(&stats.sent_total)),
        ("publish/dropped", sum(&stats.dropped_total)),
    ]
}

fn sum(counters: &[Counter]) -> u64 {
    counters.iter().map(Counter::get).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use longshore_codec::QoS;

    fn value<'a>(values: &'a [(String, String)], name: &str) -> Option<&'a str> {
        values.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    #[test]
    fn what_has_not_changed_is_not_shown_again() {
        let (stats, mut counters) = (Stats::default(), Counters::new(Mono(5)));
        let all = counters.look(&stats, Mono(5));
        assert_eq!(all.len(), 16 + 6 * 3);
        assert_eq!(value(&all, "uptime"), Some("0 seconds"));
        assert_eq!(value(&all, "load/publish/sent/15min"), Some("0.00"));
        stats.subscriptions.set(7);
        let changed = counters.look(&stats, Mono(5).plus_secs(10));
        let names: Vec<_> = changed.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["uptime", "subscriptions/count"]);
        assert_eq!(value(&changed, "uptime"), Some("10 seconds"));
        assert_eq!(value(&changed, "subscriptions/count"), Some("7"));
    }

    #[test]
    fn a_load_comes_near_the_rate_of_a_minute_the_sooner_the_shorter_its_span() {
        let (stats, mut counters) = (Stats::default(), Counters::new(Mono(0)));
        counters.look(&stats, Mono(0));
        let mut at = Mono(0);
        let mut loads = [0.0; LOADS.len()];
        for _ in 0..30 {
            at = at.plus_secs(10);
            (0..100).for_each(|_| stats.received(QoS::AtMostOnce, 10));
            counters.look(&stats, at);
            loads = counters.loads["publish/received"].1;
        }
        let [one, five, fifteen] = loads;
        assert!((590.0..600.0).contains(&one), "five minutes of 600 a minute: {loads:?}");
        assert!((370.0..390.0).contains(&five) && (165.0..175.0).contains(&fifteen), "{loads:?}");
    }

    #[test]
    fn the_most_clients_at_once_are_remembered() {
        let (stats, mut counters) = (Stats::default(), Counters::new(Mono(0)));
        for (connections, sessions, most, away) in
            [(3, 3, "3", "0"), (1, 4, "3", "3"), (5, 4, "5", "0")]
        {
            stats.connections.set(connections);
            stats.sessions.set(sessions);
            counters.look(&stats, Mono(0));
            assert_eq!(counters.shown["clients/maximum"], most);
            assert_eq!(counters.shown["clients/disconnected"], away);
        }
    }
}
