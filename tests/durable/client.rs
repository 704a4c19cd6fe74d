//! A client: what it has sent and heard, and what it believes of its session.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use longshore_broker::ConnectionId;

use crate::book::{Fate, Number, Published};
use crate::packets::{self, Connect, Outgoing, Will};
use crate::run::Run;
use crate::shards::journal::WILL_GRACE_SECS;
use crate::watch::Watch;
use crate::wire::Version;
use crate::world::Stamp;

/// Seconds of a session that never ends.
pub(crate) const NEVER: u32 = u32::MAX;

/// How sure a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    No,
    Maybe,
    Yes,
}

/// What a connection is asked with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    pub(crate) clean: bool,
    pub(crate) expiry_secs: u32,
    /// Session present as it has to be, if that is known.
    expected: Option<bool>,
    /// The session is surely there until then, if it was.
    gone_min: u64,
    will: Option<(Number, u32)>,
}

/// What follows when the broker reads a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Note {
    Nothing,
    Published(Number),
    /// The delivery at this place of the books is acknowledged.
    Acknowledged(usize),
    Goodbye,
}

/// A subscription that was asked for or given up, and not answered.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) packet_id: u16,
    pub(crate) filter: String,
    /// What was asked for; nothing where it was given up.
    pub(crate) qos: Option<u8>,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) id: ConnectionId,
    pub(crate) watch: Watch,
    pub(crate) unread: VecDeque<(Vec<u8>, Note)>,
    /// Bytes that have come, with what the journal knows of them.
    pub(crate) incoming: VecDeque<(Vec<u8>, Stamp)>,
    pub(crate) bytes: Vec<u8>,
    /// CONNECT, until CONNACK was read.
    pub(crate) asked: Option<Asked>,
    /// Acknowledgements that the broker is owed.
    pub(crate) owed: Vec<(packets::Ack, Note)>,
    pub(crate) requests: Vec<Request>,
}

/// A message that the client publishes, until that is done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Out {
    pub(crate) packet_id: u16,
    pub(crate) number: Number,
    pub(crate) qos: u8,
    /// PUBREC was read.
    pub(crate) is_received: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: String,
    pub(crate) version: Version,
    pub(crate) is_lasting: bool,
    pub(crate) line: Option<Line>,
    /// Which of its sessions this is.
    pub(crate) life: u32,
    pub(crate) session: Known,
    /// Seconds that the session outlives its connection.
    pub(crate) expiry_secs: u32,
    /// While it is away: it is surely there until, and surely gone from, by the wall.
    pub(crate) gone_min: u64,
    pub(crate) gone_max: u64,
    /// When the broker heard that it was gone.
    left: Option<(Stamp, u64)>,
    pub(crate) subscriptions: BTreeMap<String, (Known, u8)>,
    /// Groups that this session was ever in.
    pub(crate) groups: BTreeSet<String>,
    pub(crate) out: Vec<Out>,
    /// QoS 2 messages that have come and are not released.
    pub(crate) inbound: BTreeMap<u16, Option<Number>>,
    pub(crate) last_id: u16,
    /// The will of its last connection, its delay, and when it may be sent at the earliest.
    pub(crate) will: Option<(Number, u32)>,
    will_due: u64,
    /// Whether somebody watched for wills when that one was left.
    pub(crate) is_watched: bool,
    /// It has no state, and takes no session that has some [MQTT-3.2.2-4].
    pub(crate) starts_clean: bool,
}

impl Client {
    pub(crate) fn new(name: &str, version: Version, is_lasting: bool) -> Self {
        Self {
            name: name.to_owned(),
            version,
            is_lasting,
            line: None,
            life: 0,
            session: Known::No,
            expiry_secs: 0,
            gone_min: 0,
            gone_max: 0,
            left: None,
            subscriptions: BTreeMap::new(),
            groups: BTreeSet::new(),
            out: Vec::new(),
            inbound: BTreeMap::new(),
            last_id: 0,
            will: None,
            will_due: 0,
            is_watched: false,
            starts_clean: false,
        }
    }

    /// Whether its session is sure to be there, whatever happens to the broker.
    pub(crate) fn is_sure(&self, now: u64) -> bool {
        let is_there = match &self.line {
            Some(line) => line.asked.is_none() || line.asked.is_some_and(|it| now < it.gone_min),
            None => now < self.gone_min,
        };
        self.session == Known::Yes && self.expiry_secs > 0 && is_there
    }

    /// Whether the client is there, and knows it.
    pub(crate) fn is_online(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.asked.is_none())
    }

    /// A packet id that means nothing now.
    pub(crate) fn free_id(&mut self) -> Option<u16> {
        let requests = &self.line.as_ref()?.requests;
        for _ in 0..12 {
            self.last_id = self.last_id % 12 + 1;
            let id = self.last_id;
            let is_used = self.out.iter().any(|it| it.packet_id == id)
                || requests.iter().any(|it| it.packet_id == id);
            if !is_used {
                return Some(id);
            }
        }
        None
    }
}

fn plus_secs(at: u64, secs: u32) -> u64 {
    if secs == NEVER { u64::MAX } else { at + u64::from(secs) * 1_000_000 }
}

impl Run {
    /// The client's session begins anew, as far as the client is concerned.
    pub(crate) fn forget_session(&mut self, at: usize) {
        let client = &mut self.clients[at];
        self.book.end_session((at, client.life), &client.groups);
        client.life += 1;
        client.out.clear();
        client.inbound.clear();
    }

    /// The session may be gone.
    fn doubt_session(&mut self, at: usize) {
        let client = &mut self.clients[at];
        self.book.end_session((at, client.life), &client.groups);
        client.session = Known::Maybe;
        (client.gone_min, client.gone_max) = (0, u64::MAX);
        client.subscriptions.values_mut().for_each(|it| it.0 = Known::Maybe);
    }

    /// It may be another session, of which the client has never heard that it began.
    fn doubt_messages(&mut self, at: usize) {
        let client = &mut self.clients[at];
        client.life += 1;
        client.inbound.clear();
        for out in &client.out {
            self.book.published[out.number].is_doubtful = true;
        }
    }

    /// Sends CONNECT on a new connection, in place of any other.
    pub(crate) fn connect(&mut self, at: usize, clean: bool, expiry_secs: u32, will: bool) {
        let now = self.world.now.wall.0;
        let client = &mut self.clients[at];
        client.starts_clean |= clean;
        let clean = client.starts_clean;
        let expiry_secs = match client.version {
            Version::V5 => expiry_secs,
            _ if clean => 0,
            _ => NEVER,
        };
        if let Some(line) = client.line.take() {
            self.abandoned.push(line.id);
            self.lose_line(at, line.asked, None);
        }
        let client = &self.clients[at];
        let prior = (client.session, client.expiry_secs);
        let expected = match prior {
            _ if clean => Some(false),
            (Known::No, _) => Some(false),
            (Known::Yes, _) if now >= client.gone_max => Some(false),
            (Known::Yes, _) if now < client.gone_min => Some(true),
            _ => None,
        };
        let gone_min = client.gone_min;
        if clean || expected != Some(true) || expiry_secs == 0 {
            self.doubt_session(at);
        }
        if clean {
            self.forget_session(at);
        }
        let will = will.then(|| self.new_will(at));
        let client = &self.clients[at];
        let packet = connect_packet(client, clean, expiry_secs, will.as_ref(), &mut self.choices);
        let will = will.map(|(number, delay_secs, _)| (number, delay_secs));
        let mut watch = Watch::new(client.version);
        packet.note(&mut watch);
        let bytes = packet.encode(client.version);
        self.book.note(
            &self.world,
            format!("{at} CONNECT clean {clean} expiry {expiry_secs} will {will:?}"),
        );
        let id = self.world.accept();
        let line = Line {
            id,
            watch,
            unread: VecDeque::from([(bytes, Note::Nothing)]),
            incoming: VecDeque::new(),
            bytes: Vec::new(),
            asked: Some(Asked { clean, expiry_secs, expected, gone_min, will }),
            owed: Vec::new(),
            requests: Vec::new(),
        };
        self.clients[at].line = Some(line);
        self.hand_over(at);
    }

    fn new_will(&mut self, at: usize) -> (Number, u32, u8) {
        let qos = *self.choices.pick(&[1, 2]);
        let delay_secs = match self.clients[at].version {
            Version::V5 => *self.choices.pick(&[0, 5, 60]),
            _ => 0,
        };
        let published = Published {
            topic: format!("w/{at}"),
            qos,
            retain: false,
            is_clear: false,
            publisher: None,
            sends: 1,
            expiry_secs: None,
            ends: None,
            is_acknowledged: false,
            is_doubtful: false,
            bound: Vec::new(),
            will: Some(Fate::Open),
        };
        let number = self.book.publish(published, std::iter::empty(), BTreeMap::new());
        (number, delay_secs, qos)
    }

    /// CONNACK was read.
    pub(crate) fn connected(&mut self, at: usize, asked: Asked, is_present: bool) {
        let (now, client) = (self.world.now.wall.0, &self.clients[at]);
        let is_early = now < asked.gone_min;
        if let Some(expected) = asked.expected
            && (!expected || is_early)
        {
            assert_eq!(is_present, expected, "session present to client {at}");
        }
        if let Some((number, _)) = client.will
            && is_present
            && !asked.clean
            && now < client.will_due
        {
            let fate = &mut self.book.published[number].will;
            if *fate == Some(Fate::Open) {
                *fate = Some(Fate::Never);
            }
        }
        let watcher = self.clients[0].subscriptions.get("w/+");
        let is_watched = watcher.is_some_and(|(known, _)| *known == Known::Yes);
        let was_there = self.clients[at].session == Known::Yes && is_early;
        if !is_present {
            if !asked.clean {
                self.forget_session(at);
            }
            let client = &mut self.clients[at];
            client.subscriptions.clear();
            client.groups.clear();
        } else if !was_there {
            self.doubt_session(at);
            self.doubt_messages(at);
        }
        let client = &mut self.clients[at];
        (client.session, client.expiry_secs) = (Known::Yes, asked.expiry_secs);
        (client.gone_min, client.gone_max) = (u64::MAX, u64::MAX);
        (client.will, client.will_due, client.left) = (asked.will, u64::MAX, None);
        (client.is_watched, client.starts_clean) = (is_watched, false);
        self.send_again(at);
    }

    /// The connection is gone, and the broker knows it since `stamp`, unless it has ended itself.
    pub(crate) fn lose_line(&mut self, at: usize, asked: Option<Asked>, stamp: Option<Stamp>) {
        let now = self.world.now.wall.0;
        let client = &mut self.clients[at];
        if let Some(asked) = asked {
            // Nobody knows whether the broker has read CONNECT.
            if client.session == Known::Yes && !asked.clean && asked.expiry_secs > 0 {
                client.gone_min = client.gone_min.min(plus_secs(now, asked.expiry_secs));
                client.gone_max = client.gone_max.max(plus_secs(now, asked.expiry_secs));
                client.left = None;
            } else {
                self.doubt_session(at);
            }
            self.clients[at].will = None;
            return;
        }
        let expiry_secs = client.expiry_secs;
        let delay_secs = client.will.map_or(0, |(_, delay_secs)| delay_secs);
        client.will_due = plus_secs(now, delay_secs.min(expiry_secs));
        if expiry_secs == 0 {
            self.forget_session(at);
            self.clients[at].session = Known::No;
            return;
        }
        client.gone_min = plus_secs(now, expiry_secs);
        client.gone_max = client.gone_min;
        client.left = stamp.map(|stamp| (stamp, now));
    }

    /// The broker has ended without a word, and begins again at this time.
    pub(crate) fn survive(&mut self, at: usize, ended: u64) {
        let restarted = self.world.now.wall.0;
        let grace = |at: u64| at + WILL_GRACE_SECS * 1_000_000;
        let client = &mut self.clients[at];
        match client.line.take() {
            Some(line) => {
                let (now, is_online) = (self.world.now, line.asked.is_none());
                self.world.now.wall.0 = ended;
                self.lose_line(at, line.asked, None);
                self.world.now = now;
                let client = &mut self.clients[at];
                if is_online {
                    client.will_due = grace(restarted);
                }
                let expiry_secs = line.asked.map_or(client.expiry_secs, |it| it.expiry_secs);
                let end = plus_secs(restarted, expiry_secs.max(client.expiry_secs));
                client.gone_max = client.gone_max.max(end).max(grace(restarted));
            }
            None => {
                let left = client.left.filter(|(stamp, _)| self.world.is_durable(*stamp));
                let end = match left {
                    Some((_, left)) => plus_secs(left, client.expiry_secs),
                    None => plus_secs(restarted, client.expiry_secs),
                };
                let end = if client.will.is_some() { end.max(grace(restarted)) } else { end };
                client.gone_max = client.gone_max.max(end);
            }
        }
    }
}

fn connect_packet(
    client: &Client,
    clean: bool,
    expiry_secs: u32,
    will: Option<&(Number, u32, u8)>,
    choices: &mut crate::choices::Choices,
) -> Connect {
    let mut packet = packets::connect(client.version, &client.name);
    packet.clean = clean;
    if client.version == Version::V5 {
        if expiry_secs > 0 {
            packet = packet.expiry(expiry_secs);
        }
        if choices.percent(40) {
            packet = packet.receive_maximum(1 + choices.below(3) as u16);
        }
    }
    if let Some((number, delay_secs, qos)) = will {
        let topic = format!("w/{}", &client.name[1..]);
        let mut will: Will = packets::will(&topic, &format!("m{number}")).qos(*qos);
        if *delay_secs > 0 {
            will = will.delay(*delay_secs);
        }
        packet = packet.will(will);
    }
    packet
}
