//! What the binary keeps in memory for clients: for those who are not let in nothing, for those who
//! have not said who they are what the limits say, for those who only wait very little.

// What is shared with tests/clients.rs, and not all of it needed here.
#[allow(dead_code, reason = "each user of these needs another part of them")]
mod clients {
    mod broker;
    mod files;
    mod process;
    mod wire;

    pub(crate) use broker::{Broker, command};
    pub(crate) use files::raise_file_limit;
    pub(crate) use process::PATIENCE;
    pub(crate) use wire::{Inbox, Seen, ack, connect, first, publish, subscribe};
}

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::ops::Range;
use std::process::Command;
use std::time::Instant;

use clients::{Broker, Inbox, PATIENCE, Seen};
use longshore::codec::Version;
use rustix::net::{AddressFamily, SocketType, bind, socket};

const V5: Version = Version::V5;

/// Files that the tests and the broker need beside the connections.
const OTHER_FILES: usize = 256;

/// Clients that are refused, after so many that make the broker warm.
const REFUSED: usize = 20_000;
const WARM: usize = 5_000;
/// Bytes that memory may grow by while nothing is kept: what an allocator does with itself.
const FLAT: usize = 4 << 20;

/// Clients that begin to say who they are, and how far they come.
const HALF_OPEN: usize = 1_000;
const HALF_OPEN_BYTES: usize = 60_000;
/// A buffer that grows by halves and doubles has up to twice what is in it.
const GROWN: usize = 2;
/// Bytes of a connection that is there, and all that belongs to it.
const CONNECTION: usize = 4_096;

/// Clients that have subscribed once and wait.
const IDLE: usize = 10_000;
/// Bytes that each may cost, in a release; what a debug build has beside that fits in, too.
const IDLE_BYTES: usize = 2_560;

/// Topics that retain a message each, after so many that make the broker warm.
const RETAINED: usize = 300_000;
const RETAINED_WARM: usize = 10_000;
/// Bytes of their payloads, and those that each may cost beside its payload.
const RETAINED_PAYLOAD: usize = 64;
const RETAINED_BYTES: usize = 200;

/// Clients that are away, and messages that all of them wait for.
const ABSENT: usize = 10_000;
const MISSED: usize = 10_000;
/// Bytes that all that may take in memory, at any time, also while it is read again.
const ABSENT_BYTES: usize = 500 << 20;
/// Messages that wait for one client, after so many that make the broker warm, and bytes of memory
/// for references to them: a tenth of what they would take.
const WAITING: usize = 300_000;
const WAITING_WARM: usize = 50_000;
const QUEUE_MEMORY: usize = 3 << 20;

/// Messages that their publisher has under way at once.
const UNDER_WAY: usize = 500;

/// A connection of the client with this number: one address has too few ports for all.
fn dial(address: SocketAddr, number: usize) -> TcpStream {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a file is left");
    let from = Ipv4Addr::new(127, 0, 3, 1 + (number % 8) as u8);
    bind(&socket, &SocketAddr::from((from, 0))).expect("a port is left");
    rustix::net::connect(&socket, &address).expect("the broker takes connections");
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).expect("an option of TCP");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time above 0");
    stream
}

/// The next packet; none when the broker closed.
fn next(stream: &mut TcpStream, inbox: &mut Inbox) -> Option<Seen> {
    let mut scratch = [0; 512];
    loop {
        if let Some(seen) = inbox.next() {
            return Some(seen);
        }
        match stream.read(&mut scratch).unwrap_or(0) {
            0 => return None,
            count => inbox.push(&scratch[..count]),
        }
    }
}

/// A client that says `hello`, and is let in; whether its session was `present`.
fn enter(address: SocketAddr, number: usize, hello: &[u8], present: bool) -> (TcpStream, Inbox) {
    let (mut stream, mut inbox) = (dial(address, number), Inbox::new(V5));
    stream.write_all(hello).expect("it is open");
    assert_eq!(next(&mut stream, &mut inbox), Some(Seen::Connack(0, present)));
    (stream, inbox)
}

/// A client that is new, and subscribes in the same write.
fn subscribed(address: SocketAddr, number: usize, hello: Vec<u8>, filter: &str) -> TcpStream {
    let packets = [hello, clients::subscribe(V5, 1, filter, 1)].concat();
    let (mut stream, mut inbox) = enter(address, number, &packets, false);
    assert_eq!(next(&mut stream, &mut inbox), Some(Seen::Suback));
    stream
}

/// A broker whose clients all share one thread and one limit of memory.
fn broker(settings: &[(&str, &str)]) -> Broker {
    let shards = [("THREADS__SHARDS", "1")];
    Broker::start(&["mqtt", "http"], &[&shards[..], settings].concat())
}

/// Bytes of the broker that are in memory.
fn resident(broker: &mut Broker) -> usize {
    status(broker, "VmRSS:")
}

/// The most that were at any time.
fn peak(broker: &mut Broker) -> usize {
    status(broker, "VmHWM:")
}

fn status(broker: &mut Broker, name: &str) -> usize {
    let path = format!("/proc/{}/status", broker.process().pid());
    let status = fs::read_to_string(path).expect("the broker runs");
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kilobytes.and_then(|it| it.parse::<usize>().ok()).expect("a line of /proc") * 1_024
}

/// The number behind `name` in what the broker counts.
fn metric(broker: &Broker, name: &str) -> usize {
    let mut stream = TcpStream::connect(broker.address("http")).expect("it listens");
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("it is open");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("a page");
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("no {name} in {page}"))
}

/// Waits until what the broker counts under `name` satisfies `is_right`.
fn wait_for(broker: &Broker, name: &str, is_right: impl Fn(usize) -> bool) {
    let begun = Instant::now();
    while !is_right(metric(broker, name)) {
        assert!(begun.elapsed() < PATIENCE, "{name} is {}", metric(broker, name));
    }
}

/// Has so many clients refused.
fn be_refused(address: SocketAddr, count: usize) {
    // MQTT 3.1.1 wants a name from a client whose session lasts.
    let nameless = clients::connect(Version::V3_1_1, "", false);
    for number in 0..count {
        let mut stream = dial(address, number);
        stream.write_all(&nameless).expect("it is open");
        let mut inbox = Inbox::new(Version::V3_1_1);
        let seen = next(&mut stream, &mut inbox);
        assert!(matches!(seen, Some(Seen::Connack(1.., false))), "{seen:?}");
    }
}

#[test]
fn whoever_is_refused_leaves_nothing_behind() {
    let mut broker = broker(&[]);
    let address = broker.address("mqtt");
    be_refused(address, WARM);
    let before = resident(&mut broker);
    be_refused(address, REFUSED);
    let grown = resident(&mut broker).saturating_sub(before);
    println!("{before} bytes, and {grown} more after {REFUSED} refusals");
    assert!(grown <= FLAT, "{grown} bytes after {REFUSED} refusals");
}

/// Has many clients say half of CONNECT; by how many bytes memory grows.
fn half_open(settings: &[(&str, &str)]) -> usize {
    let mut broker = broker(settings);
    let address = broker.address("mqtt");
    be_refused(address, 1_000);
    let before = resident(&mut broker);
    let connect = clients::connect(V5, &"x".repeat(HALF_OPEN_BYTES), true);
    let received = metric(&broker, "longshore_received_bytes_total");
    let mut streams = Vec::new();
    for number in 0..HALF_OPEN {
        let mut stream = dial(address, number);
        // One beyond a limit is closed, maybe while it writes.
        let _ = stream.write_all(&connect[..HALF_OPEN_BYTES]);
        streams.push(stream);
    }
    wait_for(&broker, "longshore_received_bytes_total", |now| {
        now >= received + HALF_OPEN * HALF_OPEN_BYTES
    });
    let grown = resident(&mut broker).saturating_sub(before);
    println!("{settings:?}: {grown} bytes for {HALF_OPEN} clients of {HALF_OPEN_BYTES}");
    grown
}

#[test]
fn whoever_has_not_said_who_it_is_costs_what_the_limits_say() {
    raise(HALF_OPEN);
    // Each of them may send as much as CONNECT may be long.
    let grown = half_open(&[("LIMITS__CONNECT_TIMEOUT_SECS", "120")]);
    assert!(grown <= HALF_OPEN * (HALF_OPEN_BYTES * GROWN + CONNECTION), "{grown} bytes");
    // All of them together may send as much as that.
    let (bytes, timeout) = (8 << 20, ("LIMITS__CONNECT_TIMEOUT_SECS", "120"));
    let grown = half_open(&[("LIMITS__CONNECT_BYTES_TOTAL", &bytes.to_string()), timeout]);
    assert!(grown <= bytes * GROWN + HALF_OPEN * CONNECTION, "{grown} bytes");
}

/// Makes room for so many connections.
fn raise(connections: usize) {
    let wanted = (connections + OTHER_FILES) as u64;
    let limit = clients::raise_file_limit(wanted);
    assert!(limit >= wanted, "`ulimit -Hn {wanted}` before this test; now it is {limit}");
}

#[test]
fn a_client_that_waits_costs_very_little() {
    raise(IDLE);
    let folder = tempfile::tempdir().expect("a folder for the data");
    let program = Command::new(env!("CARGO_BIN_EXE_longshore"));
    let shards = [("THREADS__SHARDS", "1")];
    let mut command = clients::command(program, folder.path(), &["mqtt"], &shards);
    // What the allocator would set aside for a while is no cost of a client.
    command.env("_RJEM_MALLOC_CONF", "dirty_decay_ms:0,muzzy_decay_ms:0");
    let mut broker = Broker::run(&mut command);
    let address = broker.address("mqtt");
    let connect = |number: usize| {
        let hello = clients::connect(V5, &format!("idle-{number}"), true);
        subscribed(address, number, hello, &format!("idle/{number}/+"))
    };
    // What there is once, however many come.
    let first = IDLE / 10;
    let mut streams: Vec<_> = (0..first).map(connect).collect();
    let before = resident(&mut broker);
    streams.extend((first..IDLE).map(connect));
    let each = resident(&mut broker).saturating_sub(before) / (IDLE - first);
    println!("{each} bytes for each client that waits");
    assert!(each <= IDLE_BYTES, "{each} bytes for each client that waits");
    drop(streams);
}

#[test]
fn a_retained_message_costs_little_beside_its_payload() {
    // Routes that are remembered have a limit of their own, which is soon reached here.
    let mut broker = broker(&[("LIMITS__ROUTE_CACHE_BYTES", "1048576")]);
    let hello = clients::connect(V5, "publisher", true);
    let (mut stream, _) = enter(broker.address("mqtt"), 0, &hello, false);
    let mut retain = |from: usize, to: usize| {
        let mut bytes = Vec::new();
        for number in from..to {
            let topic = format!("building/{:03}/sensor/{number:08}", number % 1_000);
            let start = bytes.len();
            bytes.extend(clients::publish(V5, &topic, 0, 0, &[b'x'; RETAINED_PAYLOAD]));
            // RETAIN.
            bytes[start] |= 1;
        }
        stream.write_all(&bytes).expect("it is open");
    };
    retain(0, RETAINED_WARM);
    wait_for(&broker, "longshore_retained_messages", |now| now >= RETAINED_WARM);
    let before = resident(&mut broker);
    retain(RETAINED_WARM, RETAINED);
    wait_for(&broker, "longshore_retained_messages", |now| now >= RETAINED);
    let count = RETAINED - RETAINED_WARM;
    let each = resident(&mut broker).saturating_sub(before) / count - RETAINED_PAYLOAD;
    println!("{each} bytes for each retained message, beside its payload");
    assert!(each <= RETAINED_BYTES, "{each} bytes for each retained message");
}

#[test]
fn what_10_000_absent_clients_all_wait_for_costs_little_and_so_does_a_restart() {
    let folder = tempfile::tempdir().expect("a folder for the data");
    let settings = [("THREADS__SHARDS", "1"), ("STORAGE__DURABILITY", "process")];
    let mut broker = Broker::start_in(folder.path(), &["mqtt", "http"], &settings);
    let address = broker.address("mqtt");
    (0..ABSENT).for_each(|client| leave(address, client));
    wait_for(&broker, "longshore_connections", |now| now == 0);

    publish_all(address, 0..MISSED);
    let while_away = peak(&mut broker);
    broker.stop();
    let mut broker = Broker::start_in(folder.path(), &["mqtt", "http"], &settings);
    let restarted = peak(&mut broker);
    println!("{while_away} bytes at most, and {restarted} after a restart");
    assert!(while_away <= ABSENT_BYTES, "{while_away} bytes");
    assert!(restarted <= ABSENT_BYTES, "{restarted} bytes after a restart");

    for client in [0, ABSENT - 1] {
        come_back(broker.address("mqtt"), client, MISSED);
    }
}

/// A client subscribes, and leaves.
fn leave(address: SocketAddr, client: usize) {
    let hello = clients::connect(V5, &format!("absent-{client}"), false);
    subscribed(address, client, hello, "news/+");
}

/// Publishes messages of these numbers, until all are acknowledged.
fn publish_all(address: SocketAddr, numbers: Range<usize>) {
    let hello = clients::connect(V5, "publisher", true);
    let (mut stream, mut inbox) = enter(address, 0, &hello, false);
    for first in numbers.step_by(UNDER_WAY) {
        let mut bytes = Vec::new();
        for number in first..first + UNDER_WAY {
            let id = (number - first + 1) as u16;
            bytes.extend(clients::publish(V5, "news/today", 1, id, number.to_string().as_bytes()));
        }
        stream.write_all(&bytes).expect("it is open");
        for _ in 0..UNDER_WAY {
            assert!(matches!(next(&mut stream, &mut inbox), Some(Seen::Puback(_))));
        }
    }
}

/// A client that was away gets so many messages, in order.
fn come_back(address: SocketAddr, client: usize, messages: usize) {
    let hello = clients::connect(V5, &format!("absent-{client}"), false);
    let (mut stream, mut inbox) = enter(address, 0, &hello, true);
    for number in 0..messages {
        let Some(Seen::Publish { id, payload, .. }) = next(&mut stream, &mut inbox) else {
            panic!("{number} is missing");
        };
        assert_eq!(payload, number.to_string().as_bytes());
        stream.write_all(&clients::ack(clients::first::PUBACK, id)).expect("it is open");
    }
}

#[test]
fn references_that_memory_has_no_room_for_go_to_a_file() {
    let limit = QUEUE_MEMORY.to_string();
    let settings = [("STORAGE__DURABILITY", "process"), ("LIMITS__QUEUE_MEMORY", &limit)];
    let mut broker = broker(&settings);
    let address = broker.address("mqtt");
    leave(address, 0);
    publish_all(address, 0..WAITING_WARM);
    let before = resident(&mut broker);
    publish_all(address, WAITING_WARM..WAITING);
    let grown = resident(&mut broker).saturating_sub(before);
    println!("{grown} bytes for {} more messages that wait", WAITING - WAITING_WARM);
    assert!(grown <= FLAT, "{grown} bytes");
    come_back(address, 0, WAITING);
}
