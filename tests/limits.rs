//! Past a limit: the reason code, one line of the log that says who and why, and nobody else
//! notices.
//!
//! `clients/past_limits.rs` holds a row, or a sentence why there is none, for every field of
//! `Limits`.

// What is shared with tests/clients.rs, and not all of it needed here.
#[allow(dead_code, reason = "each user of these needs another part of them")]
mod clients {
    mod broker;
    mod pair;
    pub(crate) mod past_limits;
    mod process;
    mod wire;

    pub(crate) use broker::Broker;
    pub(crate) use pair::Pair;
    pub(crate) use process::LATE;
}

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use clients::past_limits::{NO_ROW, Row, Who, rows};
use clients::{Broker, LATE, Pair};
use longshore::codec::{Packet, PacketType, Version, decode, frame};

/// How long a client tries to write to a broker that does not read any more.
const WRITE: Duration = Duration::from_millis(500);

/// What a client gets: the packet, and its reason codes if it has some.
type Got = (PacketType, Vec<u8>);

/// One client, which knows no more of MQTT than packets.
struct Client {
    stream: TcpStream,
    version: Version,
    bytes: Vec<u8>,
    /// In vain.
    waited: bool,
}

impl Client {
    fn open(address: SocketAddr, version: Version) -> Self {
        let stream = TcpStream::connect(address).expect("the kernel takes it");
        stream.set_nodelay(true).expect("an option of TCP");
        stream.set_write_timeout(Some(WRITE)).expect("a time above 0");
        stream.set_read_timeout(Some(LATE)).expect("a time above 0");
        Self { stream, version, bytes: Vec::new(), waited: false }
    }

    /// Writes as much as the broker takes before it closes or reads no more.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("it was connected")
    }

    /// The next packet; none once the broker has closed, or is silent for too long.
    fn next(&mut self) -> Option<Got> {
        let mut scratch = [0; 65_536];
        loop {
            let found = frame(&self.bytes, usize::MAX).expect("the broker sends packets");
            if let Some(found) = found.filter(|it| it.total() <= self.bytes.len()) {
                let packet: Vec<u8> = self.bytes.drain(..found.total()).collect();
                let body = &packet[found.header..];
                let packet = decode(self.version, found.first, body).expect("a good packet");
                return Some((found.packet_type(), codes(&packet)));
            }
            match self.stream.read(&mut scratch) {
                Ok(0) => return None,
                Ok(count) => self.bytes.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(_) => {
                    self.waited = true;
                    return None;
                }
            }
        }
    }

    /// All that comes until the broker closes or it is as many packets; messages aside.
    fn take(&mut self, count: usize) -> Vec<Got> {
        let packets = std::iter::from_fn(|| self.next());
        packets.filter(|got| got.0 != PacketType::Publish).take(count).collect()
    }
}

fn codes(packet: &Packet<'_>) -> Vec<u8> {
    match packet {
        Packet::Connack(it) => vec![it.reason.value()],
        Packet::Puback(it) | Packet::Pubrec(it) | Packet::Pubrel(it) | Packet::Pubcomp(it) => {
            vec![it.reason.value()]
        }
        Packet::Suback(it) => it.codes.to_vec(),
        Packet::Unsuback(it) => it.codes.to_vec(),
        Packet::Disconnect(it) => vec![it.reason.value()],
        _ => Vec::new(),
    }
}

/// What is wrong with what a row leads to, if something is.
fn check(row: &Row) -> Result<(), String> {
    let name = |field: &str| format!("LIMITS__{}", field.to_uppercase());
    let names: Vec<_> = row.settings.iter().map(|(field, _)| name(field)).collect();
    let values = row.settings.iter().map(|(_, value)| *value);
    let mut settings = vec![("THREADS__SHARDS", "1")];
    settings.extend(names.iter().map(String::as_str).zip(values));
    let mut broker = Broker::start(&["mqtt"], &settings);
    let address = broker.address("mqtt");
    let pair = Pair::start(address, "p");

    let mut others = Vec::new();
    for sent in &row.before {
        let mut other = Client::open(address, row.version);
        other.send(&sent.bytes);
        other.take(sent.packets);
        others.push(other);
    }
    // What they sent has been read by now, whether it was answered or not.
    pair.hear(10);
    let mut client = Client::open(address, row.version);
    client.send(&row.sends);
    // What it was is in the log before it is asked for: a client that reads nothing may be the
    // point of it.
    let line = broker.process().until_or_end(row.why);
    let who = match row.who {
        Who::Peer => format!(" peer={} ", client.address()),
        Who::Client(client) => format!(" client={client} "),
    };
    let mut faults = Vec::new();
    let got = client.take(if row.goes_on { row.gets.len() } else { usize::MAX });
    if got != row.gets {
        faults.push(format!("it got {got:02x?} and not {:02x?}", row.gets));
    }
    if client.waited {
        faults.push("it was neither answered nor closed".to_owned());
    }
    if row.goes_on {
        client.send(&[0xc0, 0]);
        if client.next().map(|got| got.0) != Some(PacketType::Pingresp) {
            faults.push("it was closed, or got more".to_owned());
        }
    }
    match line {
        None => faults.push("no line of the log says why".to_owned()),
        Some(line) if !line.contains(&who) => faults.push(format!("{who:?} is not in {line}")),
        Some(_) => {}
    }
    // Nobody else notices.
    pair.hear(30);
    for other in &mut others {
        other.stream.set_nonblocking(true).expect("a socket");
        if other.stream.read(&mut [0]).is_ok_and(|count| count == 0) && !row.ends_others {
            faults.push("another was closed".to_owned());
        }
    }
    pair.stop();
    let log = broker.stop();
    let lines: Vec<_> = log.iter().filter(|line| line.contains(row.why)).collect();
    if lines.len() > 1 {
        faults.push(format!("more than one line: {lines:#?}"));
    }
    if faults.is_empty() { Ok(()) } else { Err(faults.join("\n    ")) }
}

#[test]
fn past_a_limit_its_owner_is_told_the_log_says_who_and_why_and_nobody_else_notices() {
    let mut faults = Vec::new();
    for row in rows() {
        if let Err(fault) = check(&row) {
            faults.push(format!("{} of {:?}:\n    {fault}", row.name, row.version));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

/// The fields of `Limits`, from its source.
fn fields() -> BTreeSet<String> {
    let source = include_str!("../broker/src/limits.rs");
    let (_, fields) = source.split_once("pub struct Limits {").expect("the struct");
    let (fields, _) = fields.split_once("\n}").expect("its end");
    let field = |line: &str| Some(line.trim().strip_prefix("pub ")?.split_once(':')?.0.to_owned());
    fields.lines().filter_map(field).collect()
}

#[test]
fn every_limit_has_a_row_or_a_sentence_why_not() {
    let rows: BTreeSet<String> = rows().iter().map(|row| row.limit().to_owned()).collect();
    let sentences: BTreeSet<String> = NO_ROW.iter().map(|(field, _)| (*field).to_owned()).collect();
    let both: Vec<_> = rows.intersection(&sentences).collect();
    assert!(both.is_empty(), "a row and a sentence why there is none: {both:?}");
    let fields = fields();
    assert!(fields.len() > 20, "the fields were not found: {fields:?}");
    let all: BTreeSet<String> = rows.union(&sentences).cloned().collect();
    let without: Vec<_> = fields.difference(&all).collect();
    assert!(without.is_empty(), "neither a row nor a sentence why not: {without:?}");
    let unknown: Vec<_> = all.difference(&fields).collect();
    assert!(unknown.is_empty(), "no such limit: {unknown:?}");
    for (field, sentence) in NO_ROW {
        assert!(sentence.ends_with('.'), "{field}: {sentence:?} is no sentence");
    }
}
