//! One run: random steps, then quiet, and nothing may be owed.

use longshore_codec::{
    Connect, Disconnect, Packet, Properties, Property, Publish, QoS, ReasonCode, Subscribe,
    SubscribeOptions, Subscriptions, Version, encode,
};

use super::actions::Speaker;
use super::client::{Client, Manners};
use super::network::{LineId, Motion};
use super::world::World;

/// Movements on the network after which everything should have arrived.
const MOTIONS_MAX: usize = 1_000_000;

impl World {
    /// The whole run.
    pub(crate) fn run(&mut self) {
        for _ in 0..self.setup.steps {
            if self.choices.is_spent() {
                break;
            }
            self.step();
        }
        self.trace.note(format_args!("quiet"));
        self.calm_down();
        self.meet_again();
        self.read_retained();
        self.part();
    }

    fn step(&mut self) {
        let weights = self.setup.weights;
        match self.choices.weighted(&weights) {
            0 => {
                for _ in 0..*self.choices.pick(&[1, 3, 10]) {
                    self.move_bytes();
                }
            }
            1 => self.act(),
            _ => self.let_time_pass(),
        }
        self.lines.retain(|_, line| !line.is_over());
    }

    /// One portion moves on one line, or time passes until one is there.
    fn move_bytes(&mut self) {
        let motions = self.motions();
        if motions.is_empty() {
            let pipes = self.lines.values().flat_map(|line| [line.up.there(), line.down.there()]);
            let next = pipes.flatten().filter(|there| *there > self.now.mono).min();
            if let Some(next) = next {
                self.pass(next.0 - self.now.mono.0);
            }
            return;
        }
        let (line, motion) = *self.choices.pick(&motions);
        self.make_motion(line, motion);
    }

    fn make_motion(&mut self, id: LineId, motion: Motion) {
        let now = self.now.mono;
        let portion = self.line(id).portion;
        let most = match self.choices.percent(50) {
            true => portion,
            false => 1 + self.choices.place(portion.min(4_000)),
        };
        match motion {
            Motion::Up => {
                let bytes = self.line(id).up.take(most, now);
                self.receive(id, &bytes);
            }
            Motion::Down => {
                let line = self.line(id);
                let client = line.client.expect("only a client there reads");
                let bytes = line.down.take(most, now);
                if bytes.is_empty() {
                    self.trace.note(format_args!("line {id}: the client sees its end"));
                    self.line(id).client = None;
                    self.clients[client].end();
                    return;
                }
                let answers = self.clients[client].receive(&bytes, &mut self.choices);
                self.say(client, &answers);
            }
            Motion::Write => {
                self.write(id, true);
                self.turn();
            }
            Motion::End => self.closed(id),
        }
    }

    /// The client's bytes are on their way.
    fn say(&mut self, client: usize, bytes: &[u8]) {
        let Some(line) = self.clients[client].line else { return };
        let now = self.now.mono;
        let line = self.line(line);
        let there = now.0 + line.latency;
        line.up.push(bytes, longshore_broker::clock::Mono(there));
    }

    fn speaker(&mut self, client: usize) -> Speaker<'_> {
        Speaker {
            client: &mut self.clients[client],
            choices: &mut self.choices,
            setup: &self.setup,
            serial: &mut self.serial,
        }
    }

    /// One client does something.
    fn act(&mut self) {
        let client = self.choices.place(self.clients.len());
        let Some(line) = self.clients[client].line else {
            if self.choices.percent(30) {
                self.connect(client);
            }
            return;
        };
        if !self.clients[client].is_connected {
            // Some do not wait for CONNACK.
            match self.choices.below(40) {
                38 => self.hang_up(client),
                39 => {
                    let bytes = self.speaker(client).publish();
                    self.say(client, &bytes);
                }
                _ => {}
            }
            return;
        }
        match self.choices.weighted(&[200, 1, 2, 3, 5, 4]) {
            0 => self.speak(client),
            1 => {
                let bytes = self.speaker(client).disconnect();
                self.say(client, &bytes);
                self.hang_up(client);
            }
            2 => self.hang_up(client),
            3 => self.reset(line),
            4 => {
                let stalled = self.choices.percent(30);
                self.line(line).stalled = stalled;
            }
            _ => self.clients[client].manners = *self.choices.pick(&Manners::ALL),
        }
    }

    fn connect(&mut self, client: usize) {
        let Some(line) = self.open(client) else { return };
        let version =
            *self.choices.pick(&[Version::V5, Version::V5, Version::V3_1_1, Version::V3_1]);
        let mut client_id = self.choices.pick(&self.setup.client_ids).clone();
        if self.choices.percent(4) {
            client_id = self.clients[client].assigned.clone().unwrap_or_default();
        }
        let of_line = self.lines.get_mut(&line).expect("it was opened");
        of_line.latency = *self.choices.pick(&[0, 0, 100, 0, 20_000, 500_000]);
        of_line.portion = *self.choices.pick(&[usize::MAX, 5_000, 100, 5_000, 7]);
        of_line.capacity = *self.choices.pick(&[usize::MAX, 1, 100, 3_000]);
        self.clients[client].begin(line, version, client_id);
        self.clients[client].manners = *self.choices.pick(&Manners::ALL);
        let bytes = self.speaker(client).connect();
        let known = &self.clients[client];
        let words = (&known.client_id, known.version, known.manners);
        self.trace.note(format_args!("client {client} on line {line}: {words:?}"));
        self.say(client, &bytes);
        for _ in 0..self.choices.weighted(&[60, 30, 10]) {
            let bytes = self.speaker(client).subscribe();
            self.say(client, &bytes);
        }
    }

    /// The client says something on its connection.
    fn speak(&mut self, client: usize) {
        let rude = self.choices.percent(self.setup.rude_percent);
        if rude && self.choices.percent(30) {
            let bytes = self.speaker(client).nonsense();
            return self.say(client, &bytes);
        }
        let bytes = match self.choices.weighted(&[60, 8, 3, 20, 2, 2, 2]) {
            0 => self.speaker(client).publish(),
            1 => self.speaker(client).subscribe(),
            2 => {
                let known = self.oracle.filters(&self.clients[client].client_id);
                self.speaker(client).unsubscribe(&known)
            }
            3 => {
                let held = self.clients[client].held.len();
                if held == 0 {
                    return;
                }
                // In order as a rule.
                let late = self.choices.percent(20);
                let place = if late { self.choices.place(held) } else { 0 };
                self.clients[client].held.remove(place).expect("it is there")
            }
            4 => self.speaker(client).ping(),
            5 => self.speaker(client).stray_ack(),
            _ => self.speaker(client).repeat().unwrap_or_default(),
        };
        self.say(client, &bytes);
    }

    /// The client closes; what it has said still arrives.
    fn hang_up(&mut self, client: usize) {
        let Some(line) = self.clients[client].line else { return };
        self.trace.note(format_args!("line {line}: the client hangs up"));
        self.line(line).client = None;
        self.line(line).down.clear();
        self.clients[client].end();
    }

    /// The network breaks: what was on its way is lost.
    fn reset(&mut self, line: LineId) {
        self.trace.note(format_args!("line {line} breaks"));
        let state = self.line(line);
        state.up.clear();
        state.down.clear();
        if let Some(client) = state.client.take() {
            self.clients[client].end();
        }
        self.closed(line);
    }

    fn let_time_pass(&mut self) {
        let second = 1_000_000;
        match self.choices.weighted(&[60, 25, 5, 1, 3, 3, 3]) {
            0 => {
                let micros = self.choices.below(second);
                self.pass(micros);
            }
            1 => {
                let secs = self.choices.within(1, 10);
                self.pass(secs * second);
            }
            2 => {
                let secs = self.choices.within(10, 120);
                self.pass(secs * second);
            }
            3 => self.pass(200_000 * second),
            4 => {
                let secs = *self.choices.pick(&[1, 5, 40, 100_000]);
                self.oversleep(secs * second);
            }
            5 => {
                let secs = *self.choices.pick(&[1, 10, 3_600]);
                self.set_wall(secs);
            }
            _ => {
                let secs = *self.choices.pick(&[-1, -10, -3_600]);
                self.set_wall(secs);
            }
        }
    }

    /// All that is on its way arrives, and everybody answers at once.
    fn drain(&mut self) {
        for count in 0.. {
            assert!(count < MOTIONS_MAX, "the network never comes to rest");
            let motions = self.motions();
            let Some((line, motion)) = motions.first().copied() else {
                let pipes =
                    self.lines.values().flat_map(|line| [line.up.there(), line.down.there()]);
                match pipes.flatten().filter(|there| *there > self.now.mono).min() {
                    Some(next) => self.pass(next.0 - self.now.mono.0),
                    None => return,
                }
                continue;
            };
            self.make_motion(line, motion);
            self.lines.retain(|_, line| !line.is_over());
        }
    }

    /// Everybody takes what is there, and leaves.
    fn calm_down(&mut self) {
        for client in &mut self.clients {
            client.manners = Manners::Prompt;
            client.held.clear();
        }
        for line in self.lines.values_mut() {
            line.stalled = false;
            line.portion = usize::MAX;
            line.capacity = usize::MAX;
            line.latency = 0;
        }
        self.drain();
        for client in 0..self.clients.len() {
            self.hang_up(client);
        }
        self.drain();
        self.pass(10_000_000);
        self.drain();
        assert!(self.lines.is_empty(), "nobody is connected: {:?}", self.lines);
    }

    /// Who has a session comes back and takes everything, one after the other.
    fn meet_again(&mut self) {
        let ids = self.oracle.client_ids();
        // Where there is no room for all at once, each leaves for good.
        let is_crowded = ids.len() > self.setup.limits.connections;
        self.clients.clear();
        for client_id in ids {
            self.clients.push(Client::new());
            let number = self.clients.len() - 1;
            self.greet(number, client_id, false);
            if is_crowded {
                self.oracle.check_clients();
                self.leave(number);
            }
        }
        self.oracle.check_clients();
        self.oracle.check_groups_end();
    }

    /// One client connects with MQTT 5 and nothing special.
    fn greet(&mut self, client: usize, client_id: String, clean_start: bool) {
        let Some(line) = self.open(client) else { return };
        self.clients[client].begin(line, Version::V5, client_id.clone());
        let mut block = Vec::new();
        Property::SessionExpiryInterval(1_000).append(&mut block);
        let connect = Connect {
            version: Version::V5,
            clean_start,
            keep_alive: 0,
            client_id: &client_id,
            will: None,
            username: None,
            password: None,
            properties: Properties::from_raw(&block),
        };
        self.tell(client, &Packet::Connect(connect));
    }

    fn tell(&mut self, client: usize, packet: &Packet<'_>) {
        let mut bytes = Vec::new();
        encode(Version::V5, packet, &mut bytes);
        self.say(client, &bytes);
        self.drain();
    }

    /// Somebody new asks for everything that is retained; the oracle knows what that is. Then all
    /// of it is cleared.
    fn read_retained(&mut self) {
        let Some(client) = self.place_for_one() else { return };
        let mut filters = Vec::new();
        for filter in ["#", "$s/#"] {
            let options = SubscribeOptions::new(QoS::ExactlyOnce);
            Subscriptions::append(filter, options, &mut filters);
        }
        let subscribe = Subscribe {
            packet_id: self.clients[client].fresh_id(),
            properties: Properties::none(),
            filters: Subscriptions::decode(Version::V5, &filters).expect("it is legal"),
        };
        self.tell(client, &Packet::Subscribe(subscribe));
        self.oracle.check_clients();
        for topic in self.oracle.retained_topics() {
            let publish = Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: true,
                topic: topic.as_bytes(),
                packet_id: None,
                properties: Properties::none(),
                payload: &[],
            };
            self.tell(client, &Packet::Publish(publish));
        }
        assert_eq!(self.stats().retained.get(), 0, "all that was retained is cleared");
        assert_eq!(self.stats().retained_bytes.get(), 0);
    }

    /// The client ends its session.
    fn leave(&mut self, client: usize) {
        let mut block = Vec::new();
        Property::SessionExpiryInterval(0).append(&mut block);
        let properties = Properties::from_raw(&block);
        let disconnect = Disconnect { reason: ReasonCode::Success, properties };
        self.tell(client, &Packet::Disconnect(disconnect));
    }

    /// A new client, where the limits have room for one.
    fn place_for_one(&mut self) -> Option<usize> {
        let limits = &self.setup.limits;
        let sessions = self.oracle.client_ids().len();
        if sessions >= limits.sessions || sessions >= limits.connections || limits.subscriptions < 2
        {
            return None;
        }
        self.clients.push(Client::new());
        let client = self.clients.len() - 1;
        self.greet(client, "fresh".to_owned(), true);
        Some(client)
    }

    /// All sessions end, and leave nothing behind.
    fn part(&mut self) {
        for client in 0..self.clients.len() {
            self.leave(client);
        }
        self.pass(1_000_000);
        let stats = self.stats();
        assert_eq!(stats.connections.get(), 0, "connections in the end");
        assert_eq!(stats.sessions.get(), 0, "sessions in the end");
        assert_eq!(stats.subscriptions.get(), 0, "subscriptions in the end");
        assert_eq!(stats.queued_bytes.get(), 0, "queued bytes in the end");
    }
}
