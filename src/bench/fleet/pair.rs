//! A plain pair of MQTT clients beside the fleet: how long a message takes from one to the other.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use longshore::codec::wire::put_str;
use longshore::codec::{Connect, Packet, Properties, Publish, QoS, Version, decode, encode, frame};

use super::everywhere;
use super::histogram::Histogram;
use crate::config::Problem;

/// Between two messages.
const INTERVAL: Duration = Duration::from_millis(10);
/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of a payload.
const PAYLOAD: [u8; 64] = [b'x'; 64];
const V3: Version = Version::V3_1_1;

/// Two connections to the broker.
#[derive(Debug)]
pub(super) struct Pair {
    publisher: TcpStream,
    subscriber: TcpStream,
    topic: String,
    partial: Vec<u8>,
}

impl Pair {
    pub(super) fn open(at: &str, key: &str) -> Result<Self, Problem> {
        let name = format!("longshore-bench-{}", std::process::id());
        Self::connect(at, key, name).map_err(|error| {
            let what = match error.kind() {
                io::ErrorKind::PermissionDenied => "the broker does not let the token in",
                _ => "is that its mqtt listener?",
            };
            everywhere(format!("--mqtt {at}: {error}: {what}"))
        })
    }

    fn connect(at: &str, key: &str, name: String) -> io::Result<Self> {
        let publisher = log_in(at, key, &format!("{name}-publisher"))?;
        let subscriber = log_in(at, key, &format!("{name}-subscriber"))?;
        let mut pair =
            Self { publisher, subscriber, topic: format!("{name}/pair"), partial: Vec::new() };
        let mut body = vec![0, 1];
        put_str(&mut body, pair.topic.as_bytes());
        body.push(0);
        pair.subscriber.write_all(&[&[0x82, body.len() as u8], &body[..]].concat())?;
        pair.receive(|packet| matches!(packet, Packet::Suback(_)))?;
        Ok(pair)
    }

    /// Sends messages until it is told that this is over, and says how long each took.
    pub(super) fn run(&mut self, is_over: &AtomicBool) -> Result<Histogram, Problem> {
        let mut histogram = Histogram::default();
        while !is_over.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let sent = self.send().map_err(|error| everywhere(format!("the pair: {error}")))?;
            histogram.add(sent);
            thread::sleep(INTERVAL.saturating_sub(begun.elapsed()));
        }
        Ok(histogram)
    }

    fn send(&mut self) -> io::Result<Duration> {
        let publish = Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic: self.topic.as_bytes(),
            packet_id: None,
            properties: Properties::none(),
            payload: &PAYLOAD,
        };
        let mut bytes = Vec::new();
        encode(V3, &Packet::Publish(publish), &mut bytes);
        let begun = Instant::now();
        self.publisher.write_all(&bytes)?;
        self.receive(|packet| matches!(packet, Packet::Publish(_)))?;
        Ok(begun.elapsed())
    }

    fn receive(&mut self, is_it: impl Fn(&Packet<'_>) -> bool) -> io::Result<()> {
        receive(&mut self.subscriber, &mut self.partial, is_it)
    }
}

fn log_in(at: &str, key: &str, client_id: &str) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut bytes = Vec::new();
    let connect = Connect {
        version: V3,
        clean_start: true,
        keep_alive: 0,
        client_id,
        will: None,
        username: Some(key),
        password: None,
        properties: Properties::none(),
    };
    encode(V3, &Packet::Connect(connect), &mut bytes);
    stream.write_all(&bytes)?;
    let mut is_refused = false;
    receive(&mut stream, &mut Vec::new(), |packet| {
        let Packet::Connack(connack) = packet else { return false };
        is_refused = connack.reason.is_error();
        true
    })?;
    if is_refused { Err(io::ErrorKind::PermissionDenied.into()) } else { Ok(stream) }
}

/// Reads up to the packet that is waited for.
fn receive(
    stream: &mut TcpStream,
    partial: &mut Vec<u8>,
    mut is_it: impl FnMut(&Packet<'_>) -> bool,
) -> io::Result<()> {
    let mut buffer = [0; 4_096];
    loop {
        while let Ok(Some(whole)) = frame(partial, buffer.len())
            && let Some(packet) = partial.get(..whole.total())
        {
            let wrong = |_| io::Error::from(io::ErrorKind::InvalidData);
            let is_found = is_it(&decode(V3, whole.first, &packet[whole.header..]).map_err(wrong)?);
            partial.drain(..whole.total());
            if is_found {
                return Ok(());
            }
        }
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => partial.extend_from_slice(&buffer[..count]),
        }
    }
}
