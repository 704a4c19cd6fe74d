//! A client that breaks every rule there is, the same way every time for the same seed.
//!
//! It stays below topics that begin with `hostile`, and subscribes to everything.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use longshore::codec::wire::{put_str, put_varint};
use longshore::codec::{Property, Version};
use rustix::net::{AddressFamily, SocketType, bind, connect, socket};

use super::dice::Dice;
use super::wire;

/// Connections of one hostile client at a time.
const CONNECTIONS: usize = 8;

/// Connections that it leaves behind, open and unread, until as many new ones came.
const LEFT: usize = 24;

/// How long it tries to write to a broker that does not read.
const WRITE: Duration = Duration::from_millis(20);

/// Where its connections come from: nobody else comes from there.
const FROM: Ipv4Addr = Ipv4Addr::new(127, 0, 2, 1);

/// One connection of the hostile client.
struct Line {
    stream: TcpStream,
    version: Version,
}

/// The hostile client.
pub(crate) struct Hostile {
    /// Where the broker speaks MQTT, and where it speaks HTTP or WebSocket.
    mqtt: SocketAddr,
    others: Vec<SocketAddr>,
    lines: Vec<Line>,
    left: Vec<Line>,
}

impl Hostile {
    pub(crate) fn new(mqtt: SocketAddr, others: Vec<SocketAddr>) -> Self {
        Self { mqtt, others, lines: Vec::new(), left: Vec::new() }
    }

    /// Does what `seed` has for it.
    pub(crate) fn run(&mut self, seed: u64) {
        let mut dice = Dice::new(seed);
        for _ in 0..20 + dice.below(60) {
            let line = dice.below(CONNECTIONS);
            if line >= self.lines.len() || dice.once_in(12) {
                self.open(&mut dice);
            } else if !self.act(line, &mut dice) {
                self.close(line, &mut dice);
            }
        }
        while !self.lines.is_empty() {
            self.close(0, &mut dice);
        }
    }

    /// A new connection, and how it begins.
    fn open(&mut self, dice: &mut Dice) {
        if self.lines.len() == CONNECTIONS {
            self.close(dice.below(CONNECTIONS), dice);
        }
        if dice.once_in(10) {
            let address = self.others[dice.below(self.others.len())];
            if let Some(mut stream) = dial(address) {
                write(&mut stream, &elsewhere(dice));
                self.lines.push(Line { stream, version: Version::V5 });
            }
            return;
        }
        let Some(mut stream) = dial(self.mqtt) else { return };
        let version = dice.version();
        let connect = connect_packet(version, dice);
        match dice.below(20) {
            0 => {}
            1 => write(&mut stream, &garbage(dice)),
            2 => write(&mut stream, &connect[..dice.below(connect.len())]),
            3 => write(&mut stream, &mutated(connect, dice)),
            4 => write(&mut stream, &any_packet(version, dice)),
            5 => write(&mut stream, &connect.repeat(2)),
            6 => connect.chunks(1).for_each(|byte| write(&mut stream, byte)),
            _ => write(&mut stream, &connect),
        }
        self.lines.push(Line { stream, version });
    }

    /// Does one thing on a connection; false when it is broken.
    fn act(&mut self, line: usize, dice: &mut Dice) -> bool {
        let Line { stream, version } = &mut self.lines[line];
        let bytes = match dice.below(24) {
            0 => garbage(dice),
            1 => {
                let packet = any_packet(*version, dice);
                packet[..dice.below(packet.len())].to_vec()
            }
            2 => huge(dice),
            3..=7 => mutated(any_packet(*version, dice), dice),
            8 | 9 => everything(*version, dice),
            10 => flood(*version, dice),
            11 => (0..200).flat_map(|_| any_packet(*version, dice)).collect(),
            12 => (0..1_000).flat_map(|_| any_ack(dice)).collect(),
            13 => [0xc0, 0].repeat(5_000),
            14 => subscriptions(*version, dice),
            15 => connect_packet(*version, dice),
            _ => any_packet(*version, dice),
        };
        write(stream, &bytes);
        if dice.once_in(3) {
            return read(stream, dice.once_in(2));
        }
        true
    }

    /// Ends a connection in one of many ways.
    fn close(&mut self, line: usize, dice: &mut Dice) {
        let Line { mut stream, version } = self.lines.swap_remove(line);
        match dice.below(6) {
            0 => write(&mut stream, &wire::DISCONNECT),
            1 => {
                // With bytes unread, or with this, the peer sees a reset.
                let _ = rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
            }
            2 => {
                let _ = stream.shutdown(std::net::Shutdown::Write);
                self.leave(Line { stream, version });
            }
            3 => self.leave(Line { stream, version }),
            _ => {}
        }
    }

    fn leave(&mut self, line: Line) {
        if self.left.len() == LEFT {
            self.left.remove(0);
        }
        self.left.push(line);
    }
}

/// A connection from the address of the hostile client; none if the broker does not take it.
fn dial(address: SocketAddr) -> Option<TcpStream> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).expect("a file is left");
    bind(&socket, &SocketAddr::from((FROM, 0))).expect("a port is left");
    connect(&socket, &address).ok()?;
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(WRITE)).expect("a time above 0");
    stream.set_nodelay(true).expect("an option of TCP");
    Some(stream)
}

/// Writes what the broker takes in time; the rest is lost, and what comes next is in its place.
fn write(stream: &mut TcpStream, bytes: &[u8]) {
    let _ = stream.write_all(bytes);
}

/// Reads what is there, all of it or some; false when the broker closed.
fn read(stream: &mut TcpStream, all: bool) -> bool {
    let mut scratch = [0; 16_384];
    stream.set_nonblocking(true).expect("a socket");
    let is_open = loop {
        match stream.read(&mut scratch) {
            Ok(0) => break false,
            Ok(_) if all => {}
            Ok(_) => break true,
            Err(error) => break error.kind() == std::io::ErrorKind::WouldBlock,
        }
    };
    stream.set_nonblocking(false).expect("a socket");
    is_open
}

/// A packet from its first byte and what follows the fixed header.
fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    put_varint(&mut packet, u32::try_from(body.len()).expect("a body of these tests"));
    packet.extend_from_slice(body);
    packet
}

fn garbage(dice: &mut Dice) -> Vec<u8> {
    let count = 1 + dice.below(300);
    dice.bytes(count)
}

/// The beginning of a packet that announces far more than comes.
fn huge(dice: &mut Dice) -> Vec<u8> {
    let first = dice.pick(&[&0x10, &0x30, &0x32, &0x34, &0x82, &0xa2, &0xf0]);
    let length = [1 << 16, 1 << 20, (1 << 20) - 20, 1 << 24, (1 << 28) - 1][dice.below(5)];
    let mut packet = vec![*first];
    put_varint(&mut packet, length);
    // Or a length that never ends.
    if dice.once_in(5) {
        packet = vec![*first, 0xff, 0xff, 0xff, 0xff, 0x7f];
    }
    let count = [0, 1, 100, 60_000][dice.below(4)];
    packet.extend(dice.bytes(count));
    packet
}

/// The packet with some of its bytes changed, gone, doubled or in excess.
fn mutated(mut packet: Vec<u8>, dice: &mut Dice) -> Vec<u8> {
    for _ in 0..=dice.below(4) {
        let at = dice.below(packet.len().max(1));
        match dice.below(6) {
            0 if !packet.is_empty() => packet[at] = dice.byte(),
            1 if !packet.is_empty() => packet[at] ^= 1 << dice.below(8),
            2 => packet.truncate(at),
            3 => packet.insert(at, dice.byte()),
            4 if packet.len() > 1 => packet[1] = packet[1].wrapping_add(dice.byte() % 3),
            _ => {
                let end = (at + dice.below(20)).min(packet.len());
                let copy = packet[at..end].to_vec();
                packet.extend(copy);
            }
        }
    }
    packet
}

fn topic(dice: &mut Dice) -> String {
    match dice.below(12) {
        0 => format!("hostile/{}", "x".repeat(dice.below(3_000))),
        1 => format!("hostile{}", "/".repeat(dice.below(200))),
        2 => "hostile/+".to_owned(),
        3 => "hostile/#".to_owned(),
        4 => "$SYS/hostile".to_owned(),
        5 => "hostile/\u{0}".to_owned(),
        _ => format!("hostile/{}/{}", dice.below(10), dice.below(100)),
    }
}

fn filter(dice: &mut Dice) -> String {
    match dice.below(12) {
        0 => "#".to_owned(),
        1 => "+/+".to_owned(),
        2 => format!("$share/group{}/#", dice.below(3)),
        3 => "$share//#".to_owned(),
        4 => "$share/group".to_owned(),
        5 => "+/".repeat(dice.below(200)) + "#",
        6 => "hostile/#/x".to_owned(),
        7 => "hostile/a+".to_owned(),
        8 => "$SYS/#".to_owned(),
        9 => String::new(),
        _ => topic(dice),
    }
}

/// A packet that is good, or nearly so.
fn any_packet(version: Version, dice: &mut Dice) -> Vec<u8> {
    match dice.below(16) {
        0..=6 => publish(version, dice),
        7 | 8 => subscribe(version, dice),
        9 => unsubscribe(version, dice),
        10 | 11 => any_ack(dice).to_vec(),
        12 => vec![0xc0, 0],
        13 => connect_packet(version, dice),
        14 => {
            // AUTH, DISCONNECT with a reason, and packets that only a broker sends.
            let first = *dice.pick(&[&0xf0, &0xe0, &0x20, &0x90, &0xb0, &0xd0]);
            let count = dice.below(8);
            framed(first, &dice.bytes(count))
        }
        _ => {
            let count = dice.below(200);
            let (first, body) = (dice.byte(), dice.bytes(count));
            framed(first, &body)
        }
    }
}

fn any_ack(dice: &mut Dice) -> [u8; 4] {
    let first = *dice.pick(&[&0x40, &0x50, &0x62, &0x70]);
    wire::ack(first, dice.below(20) as u16)
}

fn connect_packet(version: Version, dice: &mut Dice) -> Vec<u8> {
    let name: &[u8] = if version == Version::V3_1 { b"MQIsdp" } else { b"MQTT" };
    let has_will = dice.once_in(2);
    let mut flags = if dice.once_in(2) { 0b10 } else { 0 };
    if has_will {
        flags |= 0b100 | (dice.below(3) as u8) << 3 | (dice.below(2) as u8) << 5;
    }
    let mut body = Vec::new();
    put_str(&mut body, name);
    body.extend([version as u8, flags]);
    body.extend((dice.below(4) as u16).to_be_bytes());
    if version == Version::V5 {
        let mut properties = Vec::new();
        for property in [
            Property::SessionExpiryInterval(dice.below(5) as u32),
            Property::ReceiveMaximum(1 + dice.below(20) as u16),
            Property::MaximumPacketSize(1 + dice.below(200) as u32),
            Property::TopicAliasMaximum(dice.below(100) as u16),
        ] {
            if dice.once_in(3) {
                property.append(&mut properties);
            }
        }
        put_varint(&mut body, properties.len() as u32);
        body.extend(properties);
    }
    let name = match dice.below(8) {
        0 => String::new(),
        1 => "hostile-\u{1b}[31m\u{7}".to_owned(),
        2 => "x".repeat(20_000),
        _ => format!("hostile-{}", dice.below(6)),
    };
    put_str(&mut body, name.as_bytes());
    if has_will {
        if version == Version::V5 {
            let mut properties = Vec::new();
            Property::WillDelayInterval(dice.below(3) as u32).append(&mut properties);
            put_varint(&mut body, properties.len() as u32);
            body.extend(properties);
        }
        put_str(&mut body, topic(dice).as_bytes());
        let count = dice.below(2_000);
        put_str(&mut body, &dice.bytes(count));
    }
    framed(0x10, &body)
}

fn publish(version: Version, dice: &mut Dice) -> Vec<u8> {
    let qos = dice.below(3) as u8;
    let flags = qos << 1 | dice.below(2) as u8 | u8::from(dice.once_in(8)) << 3;
    let mut body = Vec::new();
    put_str(&mut body, topic(dice).as_bytes());
    if qos > 0 {
        body.extend((dice.below(30) as u16).to_be_bytes());
    }
    if version == Version::V5 {
        let mut properties = Vec::new();
        for property in [
            Property::PayloadFormatIndicator(true),
            Property::MessageExpiryInterval(dice.below(3) as u32),
            Property::TopicAlias(1 + dice.below(80) as u16),
            Property::ResponseTopic("hostile/answer"),
            Property::UserProperty("name", "value"),
        ] {
            for _ in 0..dice.below(10).saturating_sub(7) {
                property.append(&mut properties);
            }
        }
        put_varint(&mut body, properties.len() as u32);
        body.extend(properties);
    }
    let count = if dice.once_in(20) { 100_000 } else { dice.below(500) };
    body.resize(body.len() + count, dice.byte());
    framed(0x30 | flags, &body)
}

fn subscribe(version: Version, dice: &mut Dice) -> Vec<u8> {
    let mut body = (dice.below(10) as u16).to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for _ in 0..dice.below(5) {
        put_str(&mut body, filter(dice).as_bytes());
        body.push(if dice.once_in(5) { dice.byte() } else { dice.below(3) as u8 });
    }
    framed(0x82, &body)
}

fn unsubscribe(version: Version, dice: &mut Dice) -> Vec<u8> {
    let mut body = (dice.below(10) as u16).to_be_bytes().to_vec();
    if version == Version::V5 {
        body.push(0);
    }
    for _ in 0..dice.below(5) {
        put_str(&mut body, filter(dice).as_bytes());
    }
    framed(0xa2, &body)
}

/// Subscribes to all there is, so that a client that never reads has much to read.
fn everything(version: Version, dice: &mut Dice) -> Vec<u8> {
    let filter = *dice.pick(&[&"#", &"+/#", &"hostile/#", &"$share/group/#"]);
    wire::subscribe(version, 1, filter, dice.below(3) as u8)
}

/// More subscriptions than a session may have.
fn subscriptions(version: Version, dice: &mut Dice) -> Vec<u8> {
    let count = 50 + dice.below(400);
    let one = |number| wire::subscribe(version, 1, &format!("hostile/{number}/+/x/#"), 1);
    (0..count).flat_map(one).collect()
}

/// Messages as fast as the broker takes them, all to one topic or each to its own, retained or not.
fn flood(version: Version, dice: &mut Dice) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (size, count) = *dice.pick(&[&(10, 10_000), &(1_000, 2_000), &(200_000, 10)]);
    let (qos, spread) = (dice.below(3) as u8, dice.once_in(2));
    let retain = u8::from(dice.once_in(2));
    let payload = dice.bytes(size);
    for number in 0..count {
        let topic = if spread { format!("hostile/{number}") } else { "hostile/one".to_owned() };
        let id = 1 + (number % 60_000) as u16;
        let begin = bytes.len();
        bytes.extend(wire::publish(version, &topic, qos, id, &payload));
        bytes[begin] |= retain;
    }
    bytes
}

/// What comes to a listener for HTTP or WebSocket.
fn elsewhere(dice: &mut Dice) -> Vec<u8> {
    let upgrade = b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: mqtt\r\n\r\n";
    let mut bytes = upgrade.to_vec();
    match dice.below(6) {
        0 => garbage(dice),
        1 => mutated(bytes, dice),
        2 => bytes[..dice.below(bytes.len())].to_vec(),
        3 => {
            let header = "X: ".to_owned() + &"x".repeat(100) + "\r\n";
            ("GET / HTTP/1.1\r\n".to_owned() + &header.repeat(dice.below(2_000))).into_bytes()
        }
        4 => {
            // A frame, or what looks like one.
            let frames: [&[u8]; 2] = [b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff", b"\x81\x85xxxx"];
            bytes.extend(dice.pick(&frames));
            bytes.extend(garbage(dice));
            bytes
        }
        _ => {
            let packet = connect_packet(Version::V5, dice);
            bytes.extend([0x82, 0xfe]);
            bytes.extend((packet.len() as u16).to_be_bytes());
            bytes.extend([0; 4]);
            bytes.extend(packet);
            bytes
        }
    }
}
