//! What reaches the log, in which form, and that nobody waits for it.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::subscriber::with_default;

use super::collapse::Collapse;
use super::*;
use crate::config::LogFormat;

const COMPACT: LogFormat = LogFormat::Compact;

/// A writer that hands on what it gets, each write once it is let.
struct Gate {
    written: Sender<String>,
    permits: Receiver<()>,
}

impl io::Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // With all permits gone the gate stands open.
        let _ = self.permits.recv();
        let _ = self.written.send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A log of `records` behind a gate: the lines that come out, and the permit to write.
fn gated(
    records: usize,
) -> (impl Subscriber + Send + Sync, Receiver<String>, Sender<()>, Arc<Queue>) {
    let (written, lines) = channel();
    let (permit, permits) = channel();
    let queue = Queue::start(records, COMPACT, Box::new(Gate { written, permits }));
    let subscriber = tracing_subscriber::registry().with(Lines { queue: Arc::clone(&queue) });
    (subscriber, lines, permit, queue)
}

/// What `log` writes in `form`, without the time.
fn logged(form: LogFormat, log: impl FnOnce()) -> Vec<String> {
    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let output = Shared::default();
    let queue = Queue::start(16_384, form, Box::new(output.clone()));
    let lines = Lines { queue: Arc::clone(&queue) };
    with_default(tracing_subscriber::registry().with(lines), log);
    // On a busy machine one may not be patient enough.
    (0..20).for_each(|_| queue.flush());
    let text = String::from_utf8(output.0.lock().unwrap().clone()).unwrap();
    let after_time = |line: &str| match form {
        LogFormat::Compact => line[28..].to_owned(),
        LogFormat::Json => line.replacen(&line[9..36], "", 1),
    };
    text.lines().map(after_time).collect()
}

#[test]
fn a_compact_line_is_level_message_and_fields() {
    let lines = logged(COMPACT, || {
        tracing::info!(peer = "10.0.0.1:5", count = 3, clean = true, "connected");
        tracing::warn!(client = "two words", empty = "", like = %"a=b", "slow client");
        tracing::error!("plain");
    });
    let want = [
        "INFO  connected peer=10.0.0.1:5 count=3 clean=true",
        "WARN  slow client client=\"two words\" empty=\"\" like=\"a=b\"",
        "ERROR plain",
    ];
    assert_eq!(lines, want);
}

#[test]
fn a_json_line_is_one_object() {
    let lines = logged(LogFormat::Json, || {
        tracing::info!(target: "t", client = "a\"\\\n\u{1b}\u{e0041}b", n = -1, ok = false, "hi");
    });
    let want = [
        r#"{"time":"","level":"INFO","target":"t","message":"hi","#,
        r#""client":"a\"\\\u000a\u001b\udb40\udc41b","n":-1,"ok":false}"#,
    ];
    assert_eq!(lines, [want.concat()]);
}

#[test]
fn hostile_texts_are_escaped_wherever_they_come_in() {
    let rows = [
        ("line\nINFO  fake", r#""line\nINFO  fake""#),
        ("\u{1b}[2Jred", r#""\u{1b}[2Jred""#),
        ("\u{9b}31m", r#""\u{9b}31m""#),
        ("a\u{202e}b", r#""a\u{202e}b""#),
        ("a\u{2066}b\u{2069}", r#""a\u{2066}b\u{2069}""#),
        ("a\u{200b}b\u{feff}", r#""a\u{200b}b\u{feff}""#),
        ("a\u{2028}b", r#""a\u{2028}b""#),
        ("\u{0}\u{7f}", r#""\u{0}\u{7f}""#),
        ("back\\slash", r#""back\\slash""#),
        ("\u{e9}\u{4e16}", "\u{e9}\u{4e16}"),
    ];
    for (text, want) in rows {
        for debug in [false, true] {
            let lines = logged(COMPACT, || match debug {
                false => tracing::info!(client = text, "x"),
                true => tracing::info!(client = ?text, "x"),
            });
            assert_eq!(lines, [format!("INFO  x client={want}")], "escaped once");
        }
        let lines = logged(COMPACT, || tracing::info!("said {text}"));
        assert_eq!(lines.len(), 1, "{text:?} broke the line of a message");
    }
}

#[test]
fn a_long_text_is_cut_at_a_character() {
    let long = "\u{20ac}".repeat(20_000);
    let lines = logged(COMPACT, || tracing::info!(client = long, "x"));
    let want = format!("INFO  x client=\"{}... 59490 bytes more\"", "\u{20ac}".repeat(170));
    assert_eq!(lines, [want]);
    let lines = logged(COMPACT, || tracing::info!(client = ?"\u{1b}".repeat(500), "x"));
    let want = format!("INFO  x client=\"{}... 2490 bytes more\"", "\\u{1b}".repeat(85));
    assert_eq!(lines, [want], "not cut within an escape");
}

#[test]
fn a_blocked_output_stalls_nobody_and_what_is_lost_is_counted() {
    let (subscriber, lines, permit, queue) = gated(8);
    let begun = Instant::now();
    with_default(subscriber, || {
        for n in 0..10_000 {
            tracing::info!(n, "event");
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(5), "logging waited for the output");
    queue.flush();
    // The gate opens, the log thread writes what it has and ends with the last who could log.
    drop((permit, queue));
    let text: String = lines.iter().collect();
    let written = text.matches("event").count();
    let lost = text.lines().filter_map(|line| line.split_once("lost=")?.1.parse::<usize>().ok());
    assert!((8..10_000).contains(&written), "{written} written");
    assert_eq!(lost.sum::<usize>(), 10_000 - written, "{text}");
}

/// A disk with room for so many bytes, and what it holds.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

impl Disk {
    fn make_room(&self, bytes: usize) {
        self.0.lock().unwrap().0 = bytes;
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().1.clone()).unwrap()
    }
}

impl io::Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (room, content) = &mut *self.0.lock().unwrap();
        let count = bytes.len().min(*room);
        if count == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        *room -= count;
        content.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_a_full_disk_does_not_take_is_counted_and_said_later() {
    let disk = Disk::default();
    let queue = Queue::start(64, COMPACT, Box::new(disk.clone()));
    let lines = Lines { queue: Arc::clone(&queue) };
    with_default(tracing_subscriber::registry().with(lines), || {
        let log = |numbers: std::ops::Range<u32>| {
            numbers.for_each(|n| tracing::info!(n, "event"));
            queue.flush();
        };
        // Room for the first line and the beginning of the next.
        disk.make_room("2026-01-01T00:00:00.000000Z INFO  event n=0\n2026".len());
        log(0..5);
        log(5..7);
        disk.make_room(1_000);
        log(7..8);
    });
    let text = disk.text();
    let lines: Vec<_> = text.lines().map(|line| line.get(28..).unwrap_or("")).collect();
    let said = "WARN  log lines lost: they could not be written (is the disk full?) lost=6";
    assert_eq!(lines, ["INFO  event n=0", "", said, "INFO  event n=7"], "{text}");
}

fn refusal(peer: &str, cause: &str) -> Record {
    let mut record = Record::new(Level::INFO, "test");
    record.message = "refused".to_owned();
    record.fields.push(("peer", FieldValue::Text(peer.to_owned())));
    record.fields.push(("cause", FieldValue::Text(cause.to_owned())));
    record
}

const fn at(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn times(lines: &[collapse::Line]) -> Vec<u64> {
    lines.iter().map(|(_, times)| *times).collect()
}

#[test]
fn equal_causes_of_one_address_become_a_line_a_second() {
    let mut collapse = Collapse::default();
    assert!(collapse.offer(refusal("10.0.0.1:1", "bad"), at(0)).is_some(), "the first at once");
    for n in 2..=41 {
        let peer = format!("10.0.0.1:{n}");
        assert!(collapse.offer(refusal(&peer, "bad"), at(n)).is_none());
    }
    assert_eq!(collapse.next(), Some(at(1_000)));
    assert!(collapse.due(at(999)).is_empty());
    let lines = collapse.due(at(1_000));
    assert_eq!(times(&lines), [40]);
    assert_eq!(lines[0].0.field("peer"), Some("10.0.0.1:41"), "the last stands for all");

    assert!(collapse.offer(refusal("10.0.0.1:9", "bad"), at(1_500)).is_none());
    assert_eq!(times(&collapse.due(at(2_000))), [1]);
    assert!(collapse.due(at(3_000)).is_empty(), "a quiet second ends it");
    assert_eq!(collapse.next(), None);
    assert!(collapse.offer(refusal("10.0.0.1:9", "bad"), at(3_001)).is_some());
}

#[test]
fn other_addresses_causes_and_events_are_not_held_back() {
    let mut collapse = Collapse::default();
    let mut connect = refusal("10.0.0.1:1", "");
    connect.fields.pop();
    for record in [
        refusal("10.0.0.1:1", "bad"),
        refusal("10.0.0.2:1", "bad"),
        refusal("[::1]:1", "bad"),
        refusal("10.0.0.1:1", "worse"),
        connect.clone(),
        connect,
    ] {
        assert!(collapse.offer(record, at(0)).is_some());
    }
    assert!(collapse.offer(refusal("[::ffff:10.0.0.1]:1", "bad"), at(0)).is_none(), "the same");
    assert_eq!(times(&collapse.rest()), [1]);
    let of_client = |client: &str| {
        let mut record = refusal("", "bad");
        record.fields[0] = ("client", FieldValue::Text(client.to_owned()));
        record
    };
    let mut written = |client| collapse.offer(of_client(client), at(0)).is_some();
    assert!(written("a") && written("b") && !written("a"), "by client where no peer is named");
}

/// Behind a router or a proxy everybody has one address.
#[test]
fn clients_of_one_address_that_leave_are_all_named() {
    let leave = |port: usize, client: &str| {
        tracing::info!(peer = %format!("10.0.0.1:{port}"), client = ?client, cause = "left",
            "disconnected");
    };
    let lines = logged(COMPACT, || (0..9_000).for_each(|n| leave(n, &format!("c{n}"))));
    let named = |n: usize| lines.iter().any(|line| line.contains(&format!(" client=c{n} ")));
    assert_eq!(lines.len(), 9_000);
    assert!([0, 1, 1_023, 1_024, 5_000, 8_999].into_iter().all(named));

    let lines = logged(COMPACT, || (0..500).for_each(|n| leave(n, "again and again")));
    assert!(lines.len() < 5, "{lines:?}");
    let refuse = |n: usize| {
        tracing::warn!(peer = %format!("10.0.0.1:{n}"), client = ?n, cause = "bad", "refused");
    };
    let lines = logged(COMPACT, || (0..500).for_each(refuse));
    assert!(lines.len() < 5, "{lines:?}");
}

#[test]
fn a_storm_from_many_addresses_is_bounded_too() {
    let mut collapse = Collapse::default();
    let storm = |collapse: &mut Collapse, now| {
        let peers = (0..50_000u32).map(|n| format!("{}:1", std::net::Ipv4Addr::from_bits(n)));
        peers.filter_map(|peer| collapse.offer(refusal(&peer, "bad"), now)).count()
    };
    let first = storm(&mut collapse, at(0));
    let second = storm(&mut collapse, at(500));
    assert!(first < 2_000 && second == 0, "{first} and {second} lines");
    let lines = collapse.due(at(1_000));
    assert!(lines.len() < 2_000);
    assert_eq!(times(&lines).iter().sum::<u64>() + first as u64, 100_000, "none uncounted");
}
