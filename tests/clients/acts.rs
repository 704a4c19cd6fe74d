//! What costs a client little and a careless broker much, each as one deliberate act.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use longshore::codec::wire::{put_str, put_varint};
use longshore::codec::{
    Connect, Packet, PacketId, PacketType, Properties, Property, Publish, QoS, Version, Will, frame,
};

use super::process::PATIENCE;
use super::wire::{self, ack, first};

const V5: Version = Version::V5;

/// Is done against the broker at this address, and returns once that has dealt with it.
type Act = fn(SocketAddr);

/// The acts, and what to call them.
pub(crate) const ACTS: [(&str, Act); 13] = [
    ("many filters that match the same topics", overlapping_filters),
    ("many filters that nearly match", nearly_matching_filters),
    ("acknowledgements of a member of many groups", acknowledgements_in_groups),
    ("a packet full of filters that are none", invalid_filters),
    ("the same filters again and again", repeated_filters),
    ("aliases of long topics", long_aliases),
    ("long wills of sessions that last", long_wills),
    ("readers that do not read", deaf_readers),
    ("long filters of a session that ends", long_filters),
    ("many first packets that do not end", unfinished_connects),
    ("releases of messages that are none", empty_releases),
    ("deletions by filters that nothing matches", vain_deletions),
    ("a thousand conditions on a megabyte of JSON", conditions_on_json),
];

/// One connection.
struct Line(TcpStream);

impl Line {
    /// A connection that has said nothing yet.
    fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the broker takes connections");
        stream.set_nodelay(true).expect("an option of TCP");
        stream.set_write_timeout(Some(PATIENCE)).expect("a time above 0");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time above 0");
        Self(stream)
    }

    fn connect(address: SocketAddr, name: &str) -> Self {
        let mut line = Self::open(address);
        line.send(&wire::connect(V5, name, true));
        line
    }

    /// Writes it all, unless the broker closes before.
    fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes);
    }

    /// Waits until the broker has dealt with all that was sent, or has closed; how many messages
    /// came.
    fn settle(&mut self) -> usize {
        self.send(&[0xc0, 0]);
        let mut messages = 0;
        let (mut bytes, mut scratch) = (Vec::new(), vec![0; 1 << 20]);
        loop {
            let found = frame(&bytes, usize::MAX).expect("the broker sends packets");
            if let Some(found) = found.filter(|found| found.total() <= bytes.len()) {
                match found.packet_type() {
                    PacketType::Pingresp => return messages,
                    PacketType::Publish => messages += 1,
                    _ => {}
                }
                bytes.drain(..found.total());
                continue;
            }
            match self.0.read(&mut scratch) {
                Ok(count) if count > 0 => bytes.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the broker neither answers nor closes")
                }
                _ => return messages,
            }
        }
    }
}

fn framed(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    put_varint(&mut packet, u32::try_from(body.len()).expect("a body of these tests"));
    packet.extend_from_slice(body);
    packet
}

/// SUBSCRIBE at QoS 1 with these filters, and a Subscription Identifier above 0.
fn subscribe<'a>(identifier: u32, filters: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let (mut body, mut properties) = (vec![0, 1], Vec::new());
    if identifier > 0 {
        Property::SubscriptionIdentifier(identifier).append(&mut properties);
    }
    body.push(u8::try_from(properties.len()).expect("one property"));
    body.extend(properties);
    for filter in filters {
        put_str(&mut body, filter.as_bytes());
        body.push(1);
    }
    framed(0x82, &body)
}

/// All these filters, in packets as full as they may be (`limits.packet_filters`).
fn subscribe_all(filters: &[String]) -> Vec<u8> {
    let packets = filters.chunks(1_000);
    packets.flat_map(|some| subscribe(0, some.iter().map(String::as_str))).collect()
}

/// All filters of so many levels of which each is `a` or `+`.
fn filters(levels: usize, tail: &str) -> impl Iterator<Item = String> {
    (0..1_u32 << levels).map(move |bits| {
        let level = |at: usize| if bits >> at & 1 == 0 { "a/" } else { "+/" };
        (0..levels).map(level).collect::<String>() + tail
    })
}

fn overlapping_filters(address: SocketAddr) {
    let mut line = Line::connect(address, "overlapping");
    for (filter, identifier) in filters(13, "#").zip(1..) {
        line.send(&subscribe(identifier, [filter.as_str()]));
    }
    line.settle();
    for number in 0..100 {
        let topic = format!("{}{number}", "a/".repeat(13));
        line.send(&wire::publish(V5, &topic, 0, 0, b"x"));
    }
    line.settle();
}

fn nearly_matching_filters(address: SocketAddr) {
    let mut line = Line::connect(address, "nearly");
    let tail = "a/".repeat(100) + "b";
    let filters: Vec<_> = filters(10, &tail).collect();
    line.send(&subscribe_all(&filters));
    for number in 0..1_000 {
        let topic = format!("{}{number}", "a/".repeat(110));
        line.send(&wire::publish(V5, &topic, 0, 0, b"x"));
    }
    line.settle();
}

fn acknowledgements_in_groups(address: SocketAddr) {
    let mut line = Line::connect(address, "member");
    let groups: Vec<_> = (0..9_000).map(|number| format!("$share/{number}/t")).collect();
    line.send(&subscribe_all(&groups));
    let acks: Vec<u8> = (1..=30_000).flat_map(|id| ack(first::PUBACK, id)).collect();
    line.send(&acks);
    line.settle();
}

fn invalid_filters(address: SocketAddr) {
    let mut line = Line::connect(address, "invalid");
    line.send(&subscribe(0, std::iter::repeat_n("", (16 << 20) / 3 - 100)));
    line.settle();
}

fn repeated_filters(address: SocketAddr) {
    let mut line = Line::connect(address, "repeated");
    let mut kept = wire::publish(V5, "kept", 0, 0, b"x");
    kept[0] |= 1;
    line.send(&kept);
    let filters: Vec<_> = (0..9_000).map(|number| format!("repeated/{number}/+")).collect();
    for _ in 0..20 {
        line.send(&subscribe_all(&filters));
    }
    line.settle();
}

fn long_aliases(address: SocketAddr) {
    let lines: Vec<Line> = (0..10)
        .map(|number| {
            let mut line = Line::connect(address, &format!("aliases-{number}"));
            for alias in 1..=64 {
                let topic = format!("{number}/{alias}/{}", "x".repeat(60_000));
                let mut properties = Vec::new();
                Property::TopicAlias(alias).append(&mut properties);
                let publish = Publish {
                    dup: false,
                    qos: QoS::AtMostOnce,
                    retain: false,
                    topic: topic.as_bytes(),
                    packet_id: None::<PacketId>,
                    properties: Properties::from_raw(&properties),
                    payload: b"x",
                };
                line.send(&wire::packet(V5, &Packet::Publish(publish)));
            }
            line.settle();
            line
        })
        .collect();
    drop(lines);
}

fn long_wills(address: SocketAddr) {
    let mut properties = Vec::new();
    Property::SessionExpiryInterval(3_600).append(&mut properties);
    let mut delay = Vec::new();
    Property::WillDelayInterval(1).append(&mut delay);
    for number in 0..500 {
        let client_id = format!("will-{number}");
        let connect = Connect {
            version: V5,
            clean_start: true,
            keep_alive: 0,
            client_id: &client_id,
            will: Some(Will {
                qos: QoS::AtLeastOnce,
                retain: true,
                topic: &client_id,
                payload: &[b'x'; 60_000],
                properties: Properties::from_raw(&delay),
            }),
            username: None,
            password: None,
            properties: Properties::from_raw(&properties),
        };
        let mut line = Line::open(address);
        line.send(&wire::packet(V5, &Packet::Connect(connect)));
        line.settle();
    }
}

fn deaf_readers(address: SocketAddr) {
    let readers: Vec<Line> = (0..200)
        .map(|number| {
            let mut line = Line::connect(address, &format!("deaf-{number}"));
            line.send(&wire::subscribe(V5, 1, "loud/#", 0));
            line.settle();
            line
        })
        .collect();
    let mut line = Line::connect(address, "loud");
    for number in 0..10_000 {
        line.send(&wire::publish(V5, &format!("loud/{}", number % 100), 0, 0, &[b'x'; 1_000]));
    }
    line.settle();
    drop(readers);
}

fn long_filters(address: SocketAddr) {
    let mut line = Line::connect(address, "long");
    let long = "x".repeat(60_000);
    let filters: Vec<_> = (0..3_000).map(|number| format!("{long}/{number}/+")).collect();
    for some in filters.chunks(200) {
        line.send(&subscribe(0, some.iter().map(String::as_str)));
    }
    line.settle();
    line.send(&wire::DISCONNECT);
    // It is gone once it is closed.
    line.settle();
}

fn unfinished_connects(address: SocketAddr) {
    let connect = wire::connect(V5, &"x".repeat(60_100), true);
    let mut lines: Vec<Line> = (0..2_000)
        .map(|_| {
            let mut line = Line::open(address);
            line.send(&connect[..60_000]);
            line
        })
        .collect();
    // What comes last shows that the others were read.
    lines.iter_mut().for_each(|line| line.send(&connect[60_000..]));
    for line in lines.iter_mut().rev().take(10) {
        line.settle();
    }
}

fn empty_releases(address: SocketAddr) {
    let mut line = Line::connect(address, "releases");
    let mut bytes = Vec::new();
    for id in (1..=60_000).rev() {
        bytes.extend(wire::publish(V5, "t", 2, id, b"x"));
        bytes.extend(ack(first::PUBREL, u16::MAX));
    }
    line.send(&bytes);
    line.settle();
}

/// Each has to look at every topic, for none has the second level that it asks for.
fn vain_deletions(address: SocketAddr) {
    let mut line = Line::connect(address, "deletions");
    let mut bytes = Vec::new();
    for number in 0..100_000 {
        let start = bytes.len();
        bytes.extend(wire::publish(V5, &format!("{number}"), 0, 0, b"x"));
        bytes[start] |= 1;
    }
    line.send(&bytes);
    for _ in 0..5 {
        let deletions = (1..=500).map(|id| wire::publish(V5, &format!("+/{id}"), 1, id, b""));
        line.send(&deletions.flatten().collect::<Vec<_>>());
        // Who reads meanwhile has to ask whether what is found is being deleted.
        line.send(&wire::subscribe(V5, 1, "#", 0));
        line.settle();
    }
    line.send(&wire::publish(V5, "#", 1, 1, b""));
    line.settle();
}

/// Each message is read as JSON for all who ask (broker specification, 14): as large as is still
/// read, and as large as a packet may be.
fn conditions_on_json(address: SocketAddr) {
    let filters: Vec<_> =
        (0..1_000).map(|number| format!("$filter/payload=n%3E{number}/conditions")).collect();
    let asks = |(number, some): (usize, &[String])| {
        let mut line = Line::connect(address, &format!("asks-{number}"));
        line.send(&subscribe_all(some));
        line.settle();
        line
    };
    let mut lines: Vec<_> = filters.chunks(100).enumerate().map(asks).collect();
    let mut publisher = Line::connect(address, "large");
    for bytes in [60_000, 1_000_000] {
        let message = format!("{{\"list\":[{}1],\"n\":500}}", "1,".repeat(bytes / 2));
        for _ in 0..20 {
            publisher.send(&wire::publish(V5, "conditions", 0, 0, message.as_bytes()));
        }
        publisher.settle();
    }
    let heard: usize = lines.iter_mut().map(Line::settle).sum();
    assert!(heard > 0, "what half of them ask for came");
}
