//! The counters as text for Prometheus (exposition format 0.0.4).
//!
//! Written by hand: the numbers are there already, each with its one writer, and a library would
//! have them registered a second time to print what these few lines print.

use std::fmt::{Display, Write};

use super::counts::{Counts, Handshake};
use crate::journal::Taking;
use crate::stats::{Drop, Histogram, Stats};
use crate::store::Figures;

/// What the text is.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

const QOS: [&str; 3] = ["0", "1", "2"];

/// All metrics, those of the journal if there is one. Labels have few values, all known beforehand.
pub(super) fn render(stats: &Stats, counts: &Counts, figures: Option<&Figures>) -> String {
    let mut text = Text::default();
    connections(&mut text, stats, counts);
    messages(&mut text, stats);
    if let Some(figures) = figures {
        journal(&mut text, figures);
    }
    text.histogram(
        "longshore_turn_seconds",
        "How long one turn of the shard took: everything between two sleeps.",
        &stats.turn,
    );
    text.histogram(
        "longshore_delivery_lag_seconds",
        "From the first read of a turn to the end of a write.",
        &stats.delivery,
    );
    text.out
}

fn connections(text: &mut Text, stats: &Stats, counts: &Counts) {
    let gauges = [
        ("longshore_connections", "Connections of MQTT open.", &stats.connections),
        (
            "longshore_connections_waiting",
            "Connections in a handshake, or that only speak HTTP.",
            &counts.waiting,
        ),
        ("longshore_sessions", "Sessions, connected or not.", &stats.sessions),
        ("longshore_subscriptions", "Subscriptions of all sessions.", &stats.subscriptions),
        ("longshore_retained_messages", "Retained messages.", &stats.retained),
        ("longshore_retained_bytes", "Bytes of retained messages.", &stats.retained_bytes),
        ("longshore_queued_bytes", "Bytes of messages that wait in sessions.", &stats.queued_bytes),
    ];
    for (name, about, value) in gauges {
        text.single(name, "gauge", about, value.get());
    }
    let accepted = stats.accepted_total.get();
    text.single("longshore_accepted_total", "counter", "Connections accepted.", accepted);
    let refused = stats.refused_total.get() + counts.refused_total.get();
    let about = "Connections closed by the broker before or at CONNECT, or for a limit.";
    text.single("longshore_refused_total", "counter", about, refused);
    let about = "Messages rejected because their publishers had no right to them.";
    text.single("longshore_rejected_total", "counter", about, stats.rejected_total.get());
    let about = "Messages refused because a limit of their account is reached.";
    text.single("longshore_over_quota_total", "counter", about, stats.over_quota_total.get());
    let about = "Handshakes that came to nothing.";
    let failed =
        Handshake::ALL.map(|cause| (cause.name(), counts.failed_total[cause as usize].get()));
    text.by_label("longshore_handshakes_failed_total", about, "cause", failed);
}

fn messages(text: &mut Text, stats: &Stats) {
    let by_qos = |counters: &[crate::stats::Counter; 3]| {
        let mut of = QOS.iter().zip(counters).map(|(qos, counter)| (*qos, counter.get()));
        std::array::from_fn::<_, 3, _>(|_| of.next().unwrap_or_default())
    };
    let received = by_qos(&stats.received_total);
    text.by_label("longshore_received_total", "Messages received.", "qos", received);
    let sent = by_qos(&stats.sent_total);
    text.by_label("longshore_sent_total", "Messages sent, repeated ones again.", "qos", sent);
    let bytes = by_qos(&stats.received_message_bytes_total);
    let about = "Bytes of the messages received, as PUBLISH packets.";
    text.by_label("longshore_received_message_bytes_total", about, "qos", bytes);
    let bytes = by_qos(&stats.sent_message_bytes_total);
    let about = "Bytes of the messages sent, as PUBLISH packets.";
    text.by_label("longshore_sent_message_bytes_total", about, "qos", bytes);
    let bytes = [
        ("longshore_received_bytes_total", "Bytes of MQTT received.", &stats.received_bytes_total),
        ("longshore_sent_bytes_total", "Bytes of MQTT written.", &stats.sent_bytes_total),
    ];
    for (name, about, value) in bytes {
        text.single(name, "counter", about, value.get());
    }
    let dropped = Drop::ALL.map(|cause| (cause.name(), stats.dropped_total[cause as usize].get()));
    let about = "Messages that did not reach a receiver that should have had them.";
    text.by_label("longshore_dropped_total", about, "cause", dropped);
}

fn journal(text: &mut Text, figures: &Figures) {
    let Figures { segments, bytes, pending_bytes, .. } = *figures;
    let gauges = [
        ("longshore_journal_segments", "Files of the journal that hold records.", segments),
        ("longshore_journal_bytes", "Bytes of those files.", bytes),
        ("longshore_journal_pending_bytes", "Bytes that wait to be written.", pending_bytes),
    ];
    for (name, about, value) in gauges {
        text.single(name, "gauge", about, value);
    }
    let commits = figures.commits_total;
    text.single("longshore_journal_commits_total", "counter", "Writes to the journal.", commits);
    let about = "Times that the journal was written anew without what is over.";
    let compactions = figures.compactions_total;
    text.single("longshore_journal_compactions_total", "counter", about, compactions);
    let name = "longshore_storage_state";
    text.head(
        name,
        "gauge",
        "1 at what is true: everything is taken, the disk is full, or failed.",
    );
    for (state, taking) in
        [("taking", Taking::All), ("full", Taking::Relief), ("failed", Taking::Nothing)]
    {
        let is_it = u8::from(figures.taking == taking);
        text.line(format_args!("{name}{{state=\"{state}\"}} {is_it}"));
    }
}

#[derive(Default)]
struct Text {
    out: String,
}

impl Text {
    fn head(&mut self, name: &str, kind: &str, about: &str) {
        self.line(format_args!("# HELP {name} {about}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn line(&mut self, line: impl Display) {
        // A string takes all.
        let _ = writeln!(self.out, "{line}");
    }

    fn single(&mut self, name: &str, kind: &str, about: &str, value: u64) {
        self.head(name, kind, about);
        self.line(format_args!("{name} {value}"));
    }

    fn by_label<const N: usize>(
        &mut self,
        name: &str,
        about: &str,
        label: &str,
        values: [(&str, u64); N],
    ) {
        self.head(name, "counter", about);
        for (of, value) in values {
            self.line(format_args!("{name}{{{label}=\"{of}\"}} {value}"));
        }
    }

    fn histogram(&mut self, name: &str, about: &str, histogram: &Histogram) {
        self.head(name, "histogram", about);
        let counts = histogram.counts();
        let mut below = 0;
        for (power, count) in counts.iter().enumerate().take(Histogram::BUCKETS - 1) {
            below += count;
            let bound = micros(1 << power);
            self.line(format_args!("{name}_bucket{{le=\"{bound}\"}} {below}"));
        }
        let all: u64 = counts.iter().sum();
        self.line(format_args!("{name}_bucket{{le=\"+Inf\"}} {all}"));
        let sum = micros(histogram.sum_micros());
        self.line(format_args!("{name}_sum {sum}"));
        self.line(format_args!("{name}_count {all}"));
    }
}

/// Microseconds in seconds, exactly.
fn micros(micros: u64) -> impl Display {
    format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_every_metric_is_described_once() {
        let (stats, counts) = (Stats::default(), Counts::default());
        for micros in [0, 1, 3, 3, 1 << 40] {
            stats.turn.record(micros);
        }
        (0..7).for_each(|_| stats.received(longshore_codec::QoS::AtLeastOnce, 100));
        counts.failed_total[Handshake::Tls as usize].add(2);
        let figures = Figures {
            taking: Taking::Relief,
            segments: 3,
            bytes: 3 << 20,
            pending_bytes: 5,
            commits_total: 6,
            compactions_total: 7,
        };
        assert!(!render(&stats, &counts, None).contains("journal"), "there is none");
        let text = render(&stats, &counts, Some(&figures));
        for line in [
            "longshore_turn_seconds_bucket{le=\"0.000001\"} 1",
            "longshore_turn_seconds_bucket{le=\"0.000002\"} 2",
            "longshore_turn_seconds_bucket{le=\"0.000004\"} 4",
            "longshore_turn_seconds_bucket{le=\"4.194304\"} 4",
            "longshore_turn_seconds_bucket{le=\"+Inf\"} 5",
            "longshore_turn_seconds_sum 1099511.627783",
            "longshore_turn_seconds_count 5",
            "longshore_received_total{qos=\"1\"} 7",
            "longshore_received_message_bytes_total{qos=\"1\"} 700",
            "longshore_handshakes_failed_total{cause=\"tls\"} 2",
            "longshore_dropped_total{cause=\"slow_reader\"} 0",
            "longshore_journal_segments 3",
            "longshore_journal_bytes 3145728",
            "longshore_journal_pending_bytes 5",
            "longshore_journal_commits_total 6",
            "longshore_journal_compactions_total 7",
            "longshore_storage_state{state=\"taking\"} 0",
            "longshore_storage_state{state=\"full\"} 1",
            "longshore_storage_state{state=\"failed\"} 0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
        let described: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE")).collect();
        let mut once = described.clone();
        once.dedup();
        assert_eq!(described, once);
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let is_described = described.iter().any(|it| {
                it.split(' ').nth(2).is_some_and(|described| name.starts_with(described))
            });
            assert!(is_described, "{line}");
        }
    }
}
