//! The real binary and a disk that is full, taken, read-only or damaged.
//!
//! A small disk is a tmpfs in a name space of its own, which takes root or name spaces for users;
//! where there is neither, these tests fail and say so.

// What is shared with tests/clients.rs, and not all of it needed here.
#[path = "clients"]
#[allow(dead_code, reason = "each user of these needs another part of them")]
mod clients {
    mod broker;
    mod caller;
    mod dice;
    mod process;
    mod wire;

    pub(crate) use broker::{Broker, command};
    pub(crate) use caller::Caller;
    pub(crate) use dice::Dice;
    pub(crate) use process::{LATE, PATIENCE, Process};
}

#[path = "full_disk/disk.rs"]
mod disk;
#[allow(dead_code, reason = "tests/modules.rs uses more of it")]
#[path = "modules/rest.rs"]
mod rest;
#[path = "modules/tracker.rs"]
mod tracker;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use clients::{Broker, Caller, LATE, Process};
use disk::SmallDisk;
use longshore::codec::{QoS, ReasonCode, SubscribeOptions, Version};
use rest::Rest;
use tracker::Tracker;

const V5: Version = Version::V5;
const V3: Version = Version::V3_1_1;

/// Seconds that a session lasts when it is to last.
const LONG: u32 = 3_600;

const QOS_1: SubscribeOptions = SubscribeOptions::new(QoS::AtLeastOnce);

/// The binary under test.
const LONGSHORE: &str = env!("CARGO_BIN_EXE_longshore");

/// Bytes of the small disk, and as `mount` has it.
const DISK_BYTES: usize = 24 << 20;
const DISK: &str = "24m";

/// Bytes of a segment: a small disk has room for many.
const SEGMENT_BYTES: (&str, &str) = ("STORAGE__SEGMENT_BYTES", "1048576");

/// Messages that are to be kept, each with its number in front.
struct Fill {
    /// Those that were acknowledged and not received.
    taken: BTreeSet<u32>,
    /// The number of the next.
    next: u32,
}

impl Fill {
    fn payload(number: u32, bytes: usize) -> Vec<u8> {
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(bytes, number as u8);
        payload
    }

    fn number(payload: &[u8]) -> u32 {
        let number = payload.first_chunk().map(|head| u32::from_be_bytes(*head));
        let number = number.expect("a message of this test");
        assert_eq!(payload, Self::payload(number, payload.len()), "message {number}");
        number
    }

    /// Publishes one; its reason code, and none when the broker closed instead.
    fn publish(&mut self, caller: &mut Caller, bytes: usize) -> Option<u8> {
        let number = self.next;
        self.next += 1;
        let code = caller.publish("durable/x", &Self::payload(number, bytes));
        if code.is_some_and(|code| code < 0x80) {
            self.taken.insert(number);
        }
        code
    }

    /// Publishes in MQTT 5 until the disk is full, which the broker must say.
    fn fill(&mut self, address: SocketAddr, bytes: usize) {
        let (mut caller, _) = Caller::connect(address, V5, "filler", 0);
        let most = 2 * DISK_BYTES / bytes;
        for _ in 0..most {
            match self.publish(&mut caller, bytes) {
                Some(0) => {}
                Some(code) => {
                    assert_eq!(code, ReasonCode::QuotaExceeded.value(), "the code of a full disk");
                    return;
                }
                None => panic!("the broker closed instead of saying why"),
            }
        }
        panic!("{most} messages of {bytes} bytes were taken on a disk of {DISK_BYTES}");
    }

    /// Publishes in MQTT 3.1.1, which has no word for it, until the broker closes.
    fn fill_silently(&mut self, address: SocketAddr) {
        let (mut caller, _) = Caller::connect(address, V3, "silent", 0);
        let mut codes = (0..100).map(|_| self.publish(&mut caller, 1_000));
        assert!(codes.any(|code| code.is_none()), "100 messages were taken by a full disk");
    }
}

/// Two who leave nothing behind talk to each other, at QoS 0 and 1.
fn chat(address: SocketAddr) {
    for version in [V5, V3] {
        let (mut reader, _) = Caller::connect(address, version, "chat-reader", 0);
        assert_eq!(reader.subscribe("chat", QOS_1), 1);
        let (mut writer, _) = Caller::connect(address, version, "chat-writer", 0);
        for number in 0..50_u8 {
            writer.toss("chat", &[number, 0]);
            assert_eq!(writer.publish("chat", &[number, 1]), Some(0), "in {version}");
            for qos in [0, 1] {
                let message = reader.receive().expect("a message");
                assert_eq!(
                    (message.payload.as_slice(), message.qos as u8),
                    (&[number, qos][..], qos)
                );
            }
        }
    }
}

/// A session on a small disk that does not come for its messages, until it does.
fn fill_and_drain(level: &str) {
    let disk = SmallDisk::mount(DISK);
    let settings = [("STORAGE__DURABILITY", level), SEGMENT_BYTES];
    let start = || {
        let program = disk.inside(LONGSHORE);
        Broker::run(&mut clients::command(program, disk.path(), &["mqtt"], &settings))
    };
    let broker = start();
    let address = broker.address("mqtt");
    let (mut absent, _) = Caller::connect(address, V5, "absent", LONG);
    assert_eq!(absent.subscribe("durable/#", QOS_1), 1);
    absent.leave();

    let mut fill = Fill { taken: BTreeSet::new(), next: 0 };
    fill.fill(address, 64 << 10);
    let bytes = fill.taken.len() * (64 << 10);
    println!("{level}: {bytes} of {DISK_BYTES} bytes were taken");
    assert!(bytes >= DISK_BYTES / 4, "{bytes} of {DISK_BYTES} bytes were taken");
    fill.fill(address, 1_000);
    fill.fill_silently(address);
    chat(address);

    broker.kill();
    let broker = start();
    let address = broker.address("mqtt");
    fill.fill(address, 64 << 10);
    fill.fill(address, 1_000);
    fill.fill_silently(address);
    chat(address);

    let (mut returned, present) = Caller::connect(address, V5, "absent", LONG);
    assert!(present, "the session is gone");
    let all = std::mem::take(&mut fill.taken);
    take(&mut returned, &all);
    returned.settle();

    let begun = Instant::now();
    let (mut caller, _) = Caller::connect(address, V5, "filler", 0);
    while fill.publish(&mut caller, 64 << 10) != Some(0) {
        assert!(begun.elapsed() < LATE, "nothing is taken although there is room");
    }
    println!("{level}: taken again after {:.1?}", begun.elapsed());
    for _ in 0..DISK_BYTES / 8 / (64 << 10) {
        assert_eq!(fill.publish(&mut caller, 64 << 10), Some(0));
    }
    broker.kill();
    let broker = start();
    let (mut returned, present) = Caller::connect(broker.address("mqtt"), V5, "absent", LONG);
    assert!(present, "the session is gone");
    take(&mut returned, &fill.taken);
}

/// Receives until all these messages have come, each once; others may come too.
fn take(caller: &mut Caller, all: &BTreeSet<u32>) {
    let mut missing = all.clone();
    while !missing.is_empty() {
        let message = caller.receive();
        let message = message.unwrap_or_else(|| panic!("closed before {missing:?} came"));
        let number = Fill::number(&message.payload);
        assert!(missing.remove(&number) || !all.contains(&number), "{number} came twice");
    }
}

#[test]
fn a_full_disk_stops_what_is_to_be_kept_and_nothing_else() {
    fill_and_drain("power");
}

#[test]
fn a_full_disk_stops_what_is_to_be_kept_in_memory_of_the_system_too() {
    fill_and_drain("process");
}

/// R3.22.
#[test]
fn a_hub_acknowledges_nothing_on_a_full_disk_and_goes_on_when_it_has_room() {
    let disk = SmallDisk::mount(DISK);
    let key = "k".repeat(64);
    let settings = [
        ("MASTER_TOKEN", key.as_str()),
        ("CHANNELS__HOST", "127.0.0.1"),
        // Those of tests/modules.rs and of a broker of this machine are others.
        ("CHANNELS__PORT_MIN", "19900"),
        ("CHANNELS__PORT_MAX", "19910"),
        SEGMENT_BYTES,
    ];
    let start = || {
        let program = disk.inside(LONGSHORE);
        let schemes = ["mqtt", "http"];
        Broker::run(&mut clients::command(program, disk.path(), &schemes, &settings))
    };
    let broker = start();
    let rest = Rest::new(broker.address("http"), &key);
    let (_, channel) = rest.channel("wialon_ips");
    let device = rest.device("stubborn");
    let address = broker.address("mqtt");
    let (mut absent, _) = Caller::connect(address, V5, "absent", LONG);
    assert_eq!(absent.subscribe("durable/#", QOS_1), 1);
    absent.leave();
    let mut fill = Fill { taken: BTreeSet::new(), next: 0 };
    fill.fill(address, 64 << 10);
    let mut tracker = Tracker::new("stubborn".to_owned(), 1);
    let refuse = |tracker: &mut Tracker| {
        let mut looks = 0..4;
        tracker.work(channel, |_| looks.next().is_none());
        assert!(tracker.acknowledged.is_empty(), "there is no room for it");
    };
    refuse(&mut tracker);
    broker.kill();
    let broker = start();
    let address = broker.address("mqtt");
    // A start makes some room.
    fill.fill(address, 64 << 10);
    refuse(&mut tracker);
    let (mut returned, _) = Caller::connect(address, V5, "absent", LONG);
    take(&mut returned, &fill.taken);
    returned.settle();
    let begun = Instant::now();
    tracker.work(channel, |it| !it.acknowledged.is_empty() || begun.elapsed() > LATE);
    assert!(!tracker.acknowledged.is_empty(), "nothing is taken although there is room");
    let rest = Rest::new(broker.address("http"), &key);
    let history = format!("/gw/devices/{device}/messages");
    rest.await_all(&history, tracker.acknowledged.len());
}

/// Waits for the end of what must not start; its exit code, and all it wrote.
fn refused(command: &mut Command) -> (Option<i32>, String) {
    let (status, lines) = Process::start(command).end();
    (status.code(), lines.join("\n"))
}

/// The binary with its data in `folder`.
fn longshore(folder: &Path) -> Command {
    clients::command(Command::new(LONGSHORE), folder, &["mqtt"], &[SEGMENT_BYTES])
}

#[test]
fn a_data_directory_that_is_taken_names_who_has_it() {
    let folder = tempfile::tempdir().expect("a folder for the data");
    let mut first = Broker::run(&mut longshore(folder.path()));
    let (code, text) = refused(&mut longshore(folder.path()));
    assert_eq!(code, Some(1), "{text}");
    let pid = first.process().pid().as_raw_nonzero().to_string();
    let names = |text: &str| text.split(|it: char| !it.is_ascii_digit()).any(|it| it == pid);
    assert!(text.contains("error: ") && names(&text), "not {pid}: {text}");
    chat(first.address("mqtt"));
    // A dead one has nothing.
    first.kill();
    let second = Broker::run(&mut longshore(folder.path()));
    chat(second.address("mqtt"));
}

#[test]
fn a_data_directory_that_cannot_be_written_is_an_error_that_names_it() {
    for was_used in [true, false] {
        let disk = SmallDisk::mount(DISK);
        let settings = [SEGMENT_BYTES];
        let command =
            || clients::command(disk.inside(LONGSHORE), disk.path(), &["mqtt"], &settings);
        if was_used {
            Broker::run(&mut command()).stop();
        }
        disk.make_read_only();
        let (code, text) = refused(&mut command());
        assert_eq!(code, Some(1), "{text}");
        let error = text.lines().find_map(|line| line.split_once("error: ")).unwrap_or_default().1;
        let path = disk.path().display().to_string();
        assert!(error.contains(&path) && error.contains("ead-only"), "{text}");
    }
}

/// Where the first `text` of a file is, by file.
fn find(folder: &Path, text: &[u8]) -> Option<(PathBuf, usize)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|it| it == "segment"))
        .collect();
    files.sort();
    files.into_iter().find_map(|path| {
        let bytes = fs::read(&path).expect("it is there");
        let at = bytes.windows(text.len()).position(|it| it == text)?;
        Some((path, at))
    })
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("it is there");
    bytes[at] ^= 1;
    fs::write(path, bytes).expect("it may be written");
}

#[test]
fn a_damaged_journal_is_refused_with_its_place_and_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder for the data");
    let broker = Broker::run(&mut longshore(folder.path()));
    let (mut absent, _) = Caller::connect(broker.address("mqtt"), V5, "absent", LONG);
    assert_eq!(absent.subscribe("t", QOS_1), 1);
    absent.leave();
    let (mut writer, _) = Caller::connect(broker.address("mqtt"), V5, "writer", 0);
    let payload = |number: usize| format!("message number {number:04}, which is to be kept");
    for number in 0..100 {
        assert_eq!(writer.publish("t", payload(number).as_bytes()), Some(0));
    }
    drop(writer);
    broker.stop();

    let journal = folder.path().join("longshore-data/journal");
    let (path, at) = find(&journal, payload(40).as_bytes()).expect("it was acknowledged");
    flip(&path, at + 5);
    let (code, text) = refused(&mut longshore(folder.path()));
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("error: ") && text.contains("longshore data repair"), "{text}");
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let names_it = text.contains(&journal.display().to_string()) && text.contains(&*name);
    assert!(names_it, "not {}: {text}", path.display());
    // The offset is that of what the byte belongs to.
    let numbers = text.split(|it: char| !it.is_ascii_digit()).filter_map(|it| it.parse().ok());
    let is_near = |offset: usize| offset <= at && at - offset < 512;
    assert!(numbers.into_iter().any(is_near), "nothing near {at}: {text}");

    // It was only looked at: with the byte as it was, all is there.
    flip(&path, at + 5);
    let broker = Broker::run(&mut longshore(folder.path()));
    let (mut returned, present) = Caller::connect(broker.address("mqtt"), V5, "absent", LONG);
    assert!(present, "the session is gone");
    for number in 0..100 {
        let message = returned.receive().expect("a message");
        assert_eq!(message.payload, payload(number).as_bytes());
    }
}
