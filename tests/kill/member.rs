//! A client that comes and goes: its connection, its session, and what the broker must say of it.

use std::net::SocketAddr;

use longshore::codec::{Connect, Packet, Properties, Property, QoS, ReasonCode, Version, Will};

use super::books::Books;
use super::clients::{DISCONNECT, Dice, packet};
use super::kept::Kept;
use super::line::Line;

/// Seconds that a session outlives its connection: longer than any test.
const SESSION_SECS: u32 = 86_400;

/// Seconds that a will waits: longer than a client needs to come back.
pub(crate) const WILL_SECS: u32 = 60;

/// What a client does once it is connected.
pub(crate) trait Part {
    /// The connection begins; `present` says whether there was a session.
    fn greet(&mut self, present: bool, desk: &mut Desk<'_>);

    /// A packet came in.
    fn take(&mut self, packet: &Packet<'_>, desk: &mut Desk<'_>);

    /// Does what it does by itself.
    fn act(&mut self, desk: &mut Desk<'_>);

    /// The connection is over.
    fn cut(&mut self);

    /// Whether nothing is under way.
    fn is_idle(&self) -> bool;

    /// Has the next connection throw the session away.
    fn forget(&mut self) {}

    /// Whether it does.
    fn begins_anew(&self) -> bool {
        false
    }

    /// It is asked for.
    fn forgetting(&mut self, _books: &mut Books) {}
}

/// What there is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Publish and change things.
    Load,
    /// Finish what was begun, and acknowledge everything.
    Drain,
    /// The broker is gone: only hear what it said.
    Listen,
}

/// What a client has at hand.
pub(crate) struct Desk<'a> {
    /// Who it is, for the books.
    pub(crate) name: &'a str,
    pub(crate) version: Version,
    pub(crate) mood: Mood,
    pub(crate) out: &'a mut Vec<u8>,
    pub(crate) books: &'a mut Books,
    pub(crate) kept: &'a mut Kept,
    pub(crate) dice: &'a mut Dice,
}

impl Desk<'_> {
    pub(crate) fn send(&mut self, packet: &Packet<'_>) {
        longshore::codec::encode(self.version, packet, self.out);
    }

    pub(crate) fn blame(&mut self, what: &str) {
        self.books.blame(self.name, what);
    }
}

/// What all clients have in common.
pub(crate) struct World {
    pub(crate) books: Books,
    pub(crate) kept: Kept,
    pub(crate) dice: Dice,
}

/// When a client is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// All the time.
    Stays,
    /// All the time but for moments.
    Flaps,
    /// For so many rounds out of so many, from this one on.
    Sleeps { awake: u32, of: u32, from: u32 },
}

impl Habit {
    pub(crate) fn is_awake(self, round: u32) -> bool {
        match self {
            Self::Stays | Self::Flaps => true,
            // The first time all are there, for their sessions must be.
            Self::Sleeps { awake, of, from } => round == 0 || (round + of - from) % of < awake,
        }
    }
}

/// How a client is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nature {
    pub(crate) version: Version,
    /// Its session ends with its connection.
    pub(crate) is_clean: bool,
    pub(crate) receive_maximum: u16,
    pub(crate) has_will: bool,
    pub(crate) habit: Habit,
}

/// What the broker must know of a client.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    No,
    /// CONNECT was sent.
    Maybe,
    /// CONNACK was read.
    Yes,
}

/// How a client leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Leave {
    Disconnect,
    Cut,
    /// When it is back already.
    Takeover,
}

pub(crate) struct Member {
    pub(crate) name: String,
    pub(crate) nature: Nature,
    /// Whether it throws its session away now and then.
    pub(crate) forgets: bool,
    part: Box<dyn Part>,
    line: Option<Line>,
    known: Known,
    is_greeted: bool,
    /// PINGREQ was sent.
    waits_for_pong: bool,
    out: Vec<u8>,
}

impl Member {
    pub(crate) fn new(name: &str, nature: Nature, part: Box<dyn Part>) -> Self {
        Self {
            name: name.to_owned(),
            nature,
            forgets: false,
            part,
            line: None,
            known: Known::No,
            is_greeted: false,
            waits_for_pong: false,
            out: Vec::new(),
        }
    }

    pub(crate) fn line(&self) -> Option<&Line> {
        self.line.as_ref()
    }

    pub(crate) fn is_greeted(&self) -> bool {
        self.is_greeted
    }

    /// Whether nothing is under way between it and the broker.
    pub(crate) fn is_idle(&self) -> bool {
        self.is_greeted && self.part.is_idle() && !self.waits_for_pong
    }

    pub(crate) fn connect(&mut self, address: SocketAddr, world: &mut World) {
        let anew = self.part.begins_anew();
        let mut line = Line::open(address, self.nature.version);
        line.outbox().extend(self.hello(anew));
        line.flush();
        if let Known::No = self.known {
            self.known = Known::Maybe;
        }
        self.is_greeted = false;
        self.waits_for_pong = false;
        // One that is still there sees how it is taken over, if it lives that long.
        if self.line.replace(line).is_some() {
            self.part.cut();
        }
        if anew {
            self.part.forgetting(&mut world.books);
        }
    }

    fn hello(&self, anew: bool) -> Vec<u8> {
        let Nature { version, is_clean, receive_maximum, has_will, .. } = self.nature;
        let (mut properties, mut of_will) = (Vec::new(), Vec::new());
        if version == Version::V5 {
            Property::ReceiveMaximum(receive_maximum).append(&mut properties);
            Property::WillDelayInterval(WILL_SECS).append(&mut of_will);
            if !is_clean {
                Property::SessionExpiryInterval(SESSION_SECS).append(&mut properties);
            }
        }
        let topic = format!("will/{}", self.name);
        let will = Will {
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: &topic,
            payload: b"gone",
            properties: Properties::from_raw(&of_will),
        };
        let connect = Connect {
            version,
            clean_start: is_clean || anew,
            keep_alive: 0,
            client_id: &self.name,
            will: has_will.then_some(will),
            username: None,
            password: None,
            properties: Properties::from_raw(&properties),
        };
        packet(version, &Packet::Connect(connect))
    }

    /// Goes as it likes to; the broker lives on.
    pub(crate) fn leave(&mut self, how: Leave) {
        let Some(mut line) = self.line.take() else { return };
        if let (Leave::Disconnect, true) = (how, self.is_greeted) {
            line.outbox().extend(DISCONNECT);
            line.flush();
        }
        self.over();
    }

    /// Has it throw its session away when it connects next, if it is one who does.
    pub(crate) fn forget(&mut self) {
        self.part.forget();
    }

    fn over(&mut self) {
        self.line = None;
        self.is_greeted = false;
        self.waits_for_pong = false;
        self.part.cut();
    }

    pub(crate) fn ping(&mut self) {
        if let Some(line) = &mut self.line {
            line.outbox().extend([0xc0, 0]);
            self.waits_for_pong = true;
        }
    }

    /// Reads, acts and writes; how many packets came in, those that answer a ping apart.
    pub(crate) fn turn(&mut self, mood: Mood, world: &mut World, scratch: &mut Vec<u8>) -> usize {
        let Some(mut line) = self.line.take() else { return 0 };
        line.fill(scratch);
        let mut count = 0;
        while let Some(packet) = line.packet() {
            count += 1;
            match packet {
                Packet::Pingresp => {
                    self.waits_for_pong = false;
                    count -= 1;
                }
                packet => self.take(&packet, mood, world),
            }
        }
        let is_over = line.is_over();
        if is_over && mood != Mood::Listen {
            world.books.blame(&self.name, "was cut off");
        }
        if self.is_greeted && mood != Mood::Listen {
            let (part, mut desk) = self.desk(mood, world);
            part.act(&mut desk);
        }
        line.outbox().append(&mut self.out);
        line.flush();
        self.line = Some(line);
        if is_over {
            self.over();
        }
        count
    }

    fn desk<'a>(&'a mut self, mood: Mood, world: &'a mut World) -> (&'a mut dyn Part, Desk<'a>) {
        let World { books, kept, dice } = world;
        let (name, version, out) = (self.name.as_str(), self.nature.version, &mut self.out);
        (&mut *self.part, Desk { name, version, mood, out, books, kept, dice })
    }

    fn take(&mut self, packet: &Packet<'_>, mood: Mood, world: &mut World) {
        match packet {
            Packet::Connack(connack) if connack.reason == ReasonCode::Success => {
                let present = connack.session_present;
                let is_new = self.nature.is_clean || self.part.begins_anew();
                let want = match self.known {
                    _ if is_new => Some(false),
                    Known::No => Some(false),
                    Known::Maybe => None,
                    Known::Yes => Some(true),
                };
                if want.is_some_and(|want| want != present) {
                    let what = if present { "a session is" } else { "no session is" };
                    world.books.blame(&self.name, &format!("is told that {what} there"));
                }
                self.known = Known::Yes;
                self.is_greeted = true;
                let (part, mut desk) = self.desk(mood, world);
                part.greet(present, &mut desk);
            }
            Packet::Connack(connack) => {
                world.books.blame(&self.name, &format!("is refused: {:?}", connack.reason));
            }
            Packet::Disconnect(disconnect) => {
                world.books.blame(&self.name, &format!("is sent away: {:?}", disconnect.reason));
            }
            packet => {
                let (part, mut desk) = self.desk(mood, world);
                part.take(packet, &mut desk);
            }
        }
    }
}
