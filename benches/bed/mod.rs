//! A shard with clients, driven directly: what benches and the allocation test measure.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use longshore::acl::{Anonymous, Authenticate, Credentials, Principal, ROOT_ACCOUNT, Refusal};
use longshore::clock::{Mono, Now, Wall};
use longshore::codec::{self, Connect, Packet, PacketId, Properties, Publish, QoS, Version};
use longshore::shard::Config;
use longshore::{ConnectionId, Limits, Peer, Shard};

pub(crate) mod journal;

/// One shard and what its clients would receive.
pub(crate) struct Bed {
    pub(crate) shard: Shard,
    now: Now,
    dirty: Vec<ConnectionId>,
    packet: Vec<u8>,
    /// What clients that connect from now on speak.
    pub(crate) version: Version,
}

/// Lets everybody in by one token.
struct OneToken;

impl Authenticate for OneToken {
    fn authenticate(&self, _: &Credentials<'_>, _: IpAddr) -> Result<Principal, Refusal> {
        Ok(Principal::of_token(ROOT_ACCOUNT, 1_000, 123_456))
    }
}

impl Bed {
    /// When all of it happens.
    pub(crate) const NOW: Now = Now { mono: Mono(1), wall: Wall(1_800_000_000_000_000) };

    pub(crate) fn new() -> Self {
        Self::of(Self::config())
    }

    /// The same, whose clients have a token.
    pub(crate) fn with_token() -> Self {
        let mut config = Self::config();
        config.authenticate = Arc::new(OneToken);
        Self::of(config)
    }

    /// What its shard is made with.
    pub(crate) fn config() -> Config {
        let mut limits = Limits::default();
        limits.subscriptions = usize::MAX;
        limits.route_cache_bytes = 1 << 30;
        limits.retained_messages = usize::MAX;
        let mut config = Config::new(limits, Arc::new(Anonymous::new()), 1);
        // A turn ends with `advance`, which is not measured.
        config.turn_work = usize::MAX;
        config
    }

    pub(crate) fn of(config: Config) -> Self {
        let shard = Shard::new(config);
        let (dirty, packet, version) = (Vec::new(), Vec::new(), Version::V3_1_1);
        Self { shard, now: Self::NOW, dirty, packet, version }
    }

    /// A client that is connected.
    pub(crate) fn connect(&mut self, client_id: &str) -> ConnectionId {
        self.enter(client_id, true)
    }

    /// A client subscribes at QoS 1, and leaves a session behind.
    pub(crate) fn visit(&mut self, client_id: &str, filter: &str) {
        let id = self.enter(client_id, false);
        self.subscribe(id, filter, QoS::AtLeastOnce);
        self.shard.closed(id, self.now);
        self.drain();
    }

    fn enter(&mut self, client_id: &str, clean_start: bool) -> ConnectionId {
        let address: SocketAddr = ([127, 0, 0, 1], 1).into();
        let peer = Peer { address, transport: "bench" };
        let id = self.shard.accept(peer, self.now).expect("there is room");
        self.send(
            id,
            &Packet::Connect(Connect {
                version: self.version,
                clean_start,
                keep_alive: 0,
                client_id,
                will: None,
                username: None,
                password: None,
                properties: Properties::none(),
            }),
        );
        self.drain();
        id
    }

    /// Subscribes at QoS 0 or 1, a client that speaks as the last one that connected.
    pub(crate) fn subscribe(&mut self, id: ConnectionId, filter: &str, qos: QoS) {
        // SUBSCRIBE by hand: the decoder's type borrows a list that clients write.
        let mut body = vec![0, 1];
        if self.version == Version::V5 {
            body.push(0);
        }
        codec::wire::put_str(&mut body, filter.as_bytes());
        body.push(qos as u8);
        let mut packet = vec![0x82];
        codec::wire::put_varint(&mut packet, body.len() as u32);
        packet.extend_from_slice(&body);
        self.shard.receive(id, &packet, self.now);
        self.drain();
    }

    fn send(&mut self, id: ConnectionId, packet: &Packet<'_>) {
        self.packet.clear();
        codec::encode(self.version, packet, &mut self.packet);
        self.shard.receive(id, &self.packet, self.now);
    }

    /// Gives bytes to the shard, writes all outputs, and says how many bytes they were.
    pub(crate) fn turn(&mut self, id: ConnectionId, bytes: &[u8]) -> usize {
        self.shard.receive(id, bytes, self.now);
        self.drain()
    }

    /// Takes all outputs, as the driver does.
    pub(crate) fn drain(&mut self) -> usize {
        let mut written = 0;
        loop {
            self.dirty.clear();
            self.shard.take_dirty(&mut self.dirty);
            if self.dirty.is_empty() {
                return written;
            }
            for id in &self.dirty {
                let Some(output) = self.shard.output(*id) else { continue };
                let mut slices = [IoSlice::new(&[]); 64];
                let filled = output.slices(&mut slices);
                let count = slices[..filled].iter().map(|slice| slice.len()).sum();
                output.consume(count);
                written += count;
                self.shard.wrote(*id, count, self.now);
            }
        }
    }

    /// Lets slices of retained messages go on until all are sent.
    pub(crate) fn read_all(&mut self) -> usize {
        let mut written = self.drain();
        while self.shard.advance(self.now).is_some_and(|at| at <= self.now.mono) {
            written += self.drain();
        }
        written + self.drain()
    }
}

/// A PUBLISH as bytes, before MQTT 5.
pub(crate) fn publish(topic: &str, qos: QoS, retain: bool, payload: &[u8]) -> Vec<u8> {
    publish_in(Version::V3_1_1, topic, qos, retain, payload)
}

/// A PUBLISH as bytes.
pub(crate) fn publish_in(
    version: Version,
    topic: &str,
    qos: QoS,
    retain: bool,
    payload: &[u8],
) -> Vec<u8> {
    let mut packet = Vec::new();
    codec::encode_publish(
        version,
        &Publish {
            dup: false,
            qos,
            retain,
            topic: topic.as_bytes(),
            packet_id: (qos != QoS::AtMostOnce).then_some(PacketId::MIN),
            properties: Properties::none(),
            payload,
        },
        &mut packet,
    );
    packet
}
