//! A run: what clients do, when the journal is written, and where the power is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use longshore_broker::ConnectionId;

use crate::book::{Book, Fate, Number, Published, matches};
use crate::choices::Choices;
use crate::client::{Client, Known, NEVER, Note, Out, Request};
use crate::packets::{self, Publish};
use crate::retained::RetainedBook;
use crate::wire::Version;
use crate::world::{PowerCut, Stamp, World};

/// Steps of a run.
const STEPS: usize = 260;
/// Lines of what happened that a failure shows.
const TRACE_LINES: usize = 400;

/// Which run it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) shards: usize,
    /// The operation of the disk at which the power is cut.
    pub(crate) cut: Option<u64>,
    /// Whether the broker is told that things are durable which are not.
    pub(crate) is_rash: bool,
    /// Whether a failure is expected.
    pub(crate) is_quiet: bool,
}

impl Plan {
    pub(crate) fn new(seed: u64, shards: usize, cut: Option<u64>) -> Self {
        Self { seed, shards, cut, is_rash: false, is_quiet: false }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) world: World,
    pub(crate) book: Book,
    pub(crate) retained: RetainedBook,
    pub(crate) clients: Vec<Client>,
    pub(crate) choices: Choices,
    /// Connections that clients have left behind, for the broker to close.
    pub(crate) abandoned: Vec<ConnectionId>,
    /// Connections that went away while they moved.
    pub(crate) gone: Vec<ConnectionId>,
    /// Shared groups to choose from.
    groups: Vec<&'static str>,
    /// How often the journal is written, of a hundred steps.
    commit_percent: u64,
    /// Whether the journal is compacted.
    compacts: bool,
}

/// Runs it; the operations of the disk until the first end.
pub(crate) fn run(plan: Plan) -> u64 {
    let mut run = Run::new(plan);
    match catch_unwind(AssertUnwindSafe(|| run.go(plan))) {
        Ok(operations) => {
            if std::env::var_os("LONGSHORE_TRACE").is_some() {
                eprintln!("{}\n{plan:?}", run.book.trace.join("\n"));
            }
            operations
        }
        Err(cause) => {
            if !plan.is_quiet {
                let from = run.book.trace.len().saturating_sub(TRACE_LINES);
                eprintln!("{}\n{plan:?}", run.book.trace[from..].join("\n"));
                let Plan { seed, cut, .. } = plan;
                eprintln!("LONGSHORE_SEED={seed} LONGSHORE_CUT={}", cut.unwrap_or(u64::MAX));
            }
            resume_unwind(cause)
        }
    }
}

impl Run {
    fn new(plan: Plan) -> Self {
        let mut choices = Choices::seeded(plan.seed);
        let mut world = World::new(plan.shards, plan.seed);
        world.is_rash = plan.is_rash;
        let mut clients = vec![Client::new("c0", Version::V5, true)];
        for at in 1..3 + choices.place(3) {
            let version = *choices.pick(&[Version::V5, Version::V5, Version::V3_1_1]);
            clients.push(Client::new(&format!("c{at}"), version, choices.percent(75)));
        }
        let groups = match choices.below(3) {
            0 => vec!["$share/g/s/x", "$share/h/s/+"],
            _ => vec!["$share/g/s/x"],
        };
        let mut book = Book::default();
        book.groups = groups.len();
        let commit_percent = *choices.pick(&[5, 15, 40]);
        Self {
            world,
            book,
            retained: RetainedBook::default(),
            clients,
            choices,
            abandoned: Vec::new(),
            gone: Vec::new(),
            groups,
            commit_percent,
            compacts: plan.seed % 2 == 1,
        }
    }

    fn go(&mut self, plan: Plan) -> u64 {
        if let Some(cut) = plan.cut {
            self.world.disk.cut_power_at(cut);
        }
        let _ = self.begin().and_then(|()| self.act(STEPS));
        let operations = self.world.disk.operations();
        self.crash();
        if self.choices.percent(40) {
            let cut = self.choices.below(60);
            self.world.disk.cut_power_at(cut);
            let _ = self.begin().and_then(|()| self.act(STEPS / 3));
            self.crash();
        }
        self.settle();
        operations
    }

    /// The broker begins, and somebody who watches wills is there.
    fn begin(&mut self) -> Result<(), PowerCut> {
        self.world.open()?;
        if self.world.epoch() > 1 {
            return Ok(());
        }
        self.connect(0, false, 1_000_000, false);
        self.quiesce()?;
        self.subscribe(0, "w/+", 2);
        self.quiesce()
    }

    /// The process ends here, and the clients notice.
    fn crash(&mut self) {
        self.collect();
        self.world.stop();
        for at in 0..self.clients.len() {
            if self.choices.percent(50) {
                self.read(at, usize::MAX);
            }
        }
        let ended = self.world.now.wall.0;
        let kill = self.choices.percent(30);
        let secs = *self.choices.pick(&[0, 0, 1, 8, 40, 3_000]);
        self.book.note(&self.world, format!("crash, kill {kill}, {secs} s"));
        self.world.crash(kill, secs);
        self.abandoned.clear();
        self.gone.clear();
        (0..self.clients.len()).for_each(|at| self.survive(at, ended));
    }

    fn act(&mut self, steps: usize) -> Result<(), PowerCut> {
        for _ in 0..steps {
            let at = self.choices.place(self.clients.len());
            if self.clients[at].is_online() {
                self.act_online(at);
            } else if self.clients[at].line.is_none() && self.choices.percent(40) {
                self.come_back(at);
            }
            self.go_on()?;
        }
        Ok(())
    }

    /// What happens beside the clients.
    fn go_on(&mut self) -> Result<(), PowerCut> {
        if self.choices.percent(60) {
            let shard = self.choices.place(self.world.count());
            self.world.end_turn(shard)?;
        }
        if self.choices.percent(self.commit_percent) {
            self.book.note(&self.world, "commit".into());
            self.world.commit()?;
        }
        if self.choices.percent(40) {
            self.world.tell();
        }
        let count = self.world.on_their_way();
        if count > 0 && self.choices.percent(60) {
            let place = self.choices.place(count);
            self.world.carry(place);
        }
        if self.choices.percent(3) {
            self.carry_all();
            self.collect();
            let secs = *self.choices.pick(&[1, 4, 12, 70]);
            self.book.note(&self.world, format!("{secs} s pass"));
            self.world.pass(secs)?;
        }
        if self.compacts && self.choices.percent(4) {
            self.book.note(&self.world, "compaction".into());
            // A round ends when all shards have read what was sent to them before it.
            (0..self.world.count()).try_for_each(|shard| self.world.end_turn(shard))?;
            while self.world.on_their_way() > 0 {
                self.carry_all();
                (0..self.world.count()).try_for_each(|shard| self.world.end_turn(shard))?;
            }
            self.world.compact()?;
        }
        self.collect();
        let at = self.choices.place(self.clients.len());
        let most = 1 + self.choices.place(3);
        self.read(at, most);
        Ok(())
    }

    fn carry_all(&mut self) {
        while self.world.on_their_way() > 0 {
            self.world.carry(0);
        }
    }

    fn act_online(&mut self, at: usize) {
        match self.choices.weighted(&[35, 9, 4, 12, 18, 15, 2, 5, 1]) {
            0 => self.publish(at),
            1 => {
                let (filter, qos) = self.pick_filter();
                self.subscribe(at, filter, qos);
            }
            2 => {
                let filters: Vec<_> = self.clients[at].subscriptions.keys().cloned().collect();
                if at > 0 && !filters.is_empty() {
                    let filter = self.choices.pick(&filters).clone();
                    self.unsubscribe(at, &filter);
                }
            }
            3 => {
                let count = self.clients[at].line.as_ref().map_or(0, |line| line.owed.len());
                if count > 0 {
                    let place = self.choices.place(count);
                    self.acknowledge(at, place);
                }
            }
            4 => while self.acknowledge(at, 0) {},
            5 => self.read(at, usize::MAX),
            6 => self.send(at, &packets::disconnect(), Note::Goodbye),
            7 => self.vanish(at),
            _ if at > 0 => self.come_back(at),
            _ => {}
        }
    }

    fn pick_filter(&mut self) -> (&'static str, u8) {
        if self.choices.percent(25) {
            return (*self.choices.pick(&self.groups), *self.choices.pick(&[1, 2]));
        }
        let filter = *self.choices.pick(&["t/a", "t/b", "t/c", "t/+"]);
        (filter, *self.choices.pick(&[1, 1, 1, 2, 2, 2, 2, 0]))
    }

    fn come_back(&mut self, at: usize) {
        let client = &self.clients[at];
        let (version, is_lasting) = (client.version, client.is_lasting);
        if at == 0 {
            return self.connect(0, false, 1_000_000, false);
        }
        let will = self.choices.percent(50);
        let (clean, expiry_secs) = match version {
            Version::V5 => {
                let expiry_secs = *self.choices.pick(&[100_000, 100_000, 20, 100]);
                let lasts = is_lasting && self.choices.percent(94);
                (self.choices.percent(12), if lasts { expiry_secs } else { 0 })
            }
            _ => {
                let clean = !is_lasting || self.choices.percent(8);
                (clean, if clean { 0 } else { NEVER })
            }
        };
        self.connect(at, clean, expiry_secs, will);
    }

    /// Sends the acknowledgement at this place of those that are owed, if there is one.
    pub(crate) fn acknowledge(&mut self, at: usize, place: usize) -> bool {
        let Some(line) = self.clients[at].line.as_mut() else { return false };
        if place >= line.owed.len() {
            return false;
        }
        let (ack, note) = line.owed.remove(place);
        self.book.note(&self.world, format!("{at} acknowledges {:x} {}", ack.first, ack.packet_id));
        self.send(at, &ack, note);
        true
    }

    fn vanish(&mut self, at: usize) {
        let Some(line) = self.clients[at].line.take() else { return };
        self.book.note(&self.world, format!("{at} vanishes"));
        let stamp = self.world.close(line.id);
        self.gone.push(line.id);
        self.lose_line(at, line.asked, Some(stamp));
    }

    /// The broker has read DISCONNECT.
    pub(crate) fn said_goodbye(&mut self, at: usize, stamp: Stamp) {
        let Some(line) = self.clients[at].line.take() else { return };
        self.book.note(&self.world, format!("{at} says goodbye"));
        self.abandoned.push(line.id);
        if let Some((number, _)) = self.clients[at].will.take() {
            self.book.published[number].will = Some(Fate::Dropped(stamp));
        }
        self.lose_line(at, None, Some(stamp));
    }

    pub(crate) fn subscribe(&mut self, at: usize, filter: &str, qos: u8) {
        let Some(packet_id) = self.clients[at].free_id() else { return };
        self.book.note(&self.world, format!("{at} SUBSCRIBE {filter} q{qos} id {packet_id}"));
        let client = &mut self.clients[at];
        let known = client.subscriptions.entry(filter.to_owned()).or_insert((Known::Maybe, qos));
        known.1 = known.1.min(qos);
        if filter.starts_with("$share") {
            client.groups.insert(filter.to_owned());
            self.book.has_passing_members |= client.expiry_secs == 0;
        }
        if qos == 0 {
            known.0 = Known::Maybe;
            self.give_up(at, filter);
        }
        self.request(at, packet_id, filter, Some(qos));
        self.send(at, &packets::subscribe(packet_id, filter).qos(qos), Note::Nothing);
    }

    fn unsubscribe(&mut self, at: usize, filter: &str) {
        let Some(packet_id) = self.clients[at].free_id() else { return };
        self.book.note(&self.world, format!("{at} UNSUBSCRIBE {filter} id {packet_id}"));
        self.clients[at].subscriptions.get_mut(filter).expect("it was there").0 = Known::Maybe;
        self.give_up(at, filter);
        self.request(at, packet_id, filter, None);
        self.send(at, &packets::unsubscribe(packet_id, filter), Note::Nothing);
    }

    fn request(&mut self, at: usize, packet_id: u16, filter: &str, qos: Option<u8>) {
        let line = self.clients[at].line.as_mut().expect("it is there");
        line.requests.push(Request { packet_id, filter: filter.to_owned(), qos });
    }

    fn give_up(&mut self, at: usize, filter: &str) {
        let client = &self.clients[at];
        let others = client.subscriptions.iter().filter(|(other, (known, qos))| {
            *other != filter && *known == Known::Yes && *qos > 0 && !other.starts_with('$')
        });
        let others: Vec<&str> = others.map(|(other, _)| other.as_str()).collect();
        self.book.give_up((at, client.life), filter, &others);
    }

    fn publish(&mut self, at: usize) {
        let qos = *self.choices.pick(&[0, 1, 1, 2, 2]);
        let topic = *self.choices.pick(&["t/a", "t/a", "t/b", "t/c", "s/x"]);
        let retain = topic != "s/x" && self.choices.percent(20);
        let clear = retain && self.choices.percent(30);
        let topic = match clear && self.choices.percent(30) {
            true => "t/+",
            false => topic,
        };
        let expires = !retain && self.choices.percent(15);
        self.publish_as(at, topic, qos, retain, clear, expires);
    }

    pub(crate) fn publish_as(
        &mut self,
        at: usize,
        topic: &str,
        qos: u8,
        retain: bool,
        is_clear: bool,
        expires: bool,
    ) -> Option<Number> {
        let packet_id = self.clients[at].free_id()?;
        let expires = expires && self.clients[at].version == Version::V5;
        let expiry_secs = expires.then(|| *self.choices.pick(&[10, 100]));
        let published = Published {
            topic: topic.to_owned(),
            qos,
            retain,
            is_clear,
            publisher: Some((at, self.clients[at].life)),
            sends: 1,
            expiry_secs,
            ends: None,
            is_acknowledged: false,
            is_doubtful: false,
            bound: Vec::new(),
            will: None,
        };
        let (sessions, groups) = if is_clear { Default::default() } else { self.sure_of(topic) };
        let number = self.book.publish(published, sessions.into_iter(), groups);
        self.book.note(
            &self.world,
            format!("{at} PUBLISH m{number} {topic} q{qos} id {packet_id} retain {retain}"),
        );
        if qos > 0 {
            let out = Out { packet_id, number, qos, is_received: false };
            self.clients[at].out.push(out);
        }
        let packet = self.publish_packet(number, packet_id);
        self.send(at, &packet, Note::Published(number));
        Some(number)
    }

    /// The packet of a message; its expiry begins now.
    pub(crate) fn publish_packet(&mut self, number: Number, packet_id: u16) -> Publish {
        let now = self.world.now.wall.0;
        let published = &mut self.book.published[number];
        let padding = match number % 31 {
            5 => 6_000,
            0 | 11 | 22 => 1_500,
            _ => 0,
        };
        let payload = format!("m{number} {}", "x".repeat(padding));
        let payload = if published.is_clear { String::new() } else { payload };
        let packet = packets::publish(&published.topic, &payload).qos(published.qos, packet_id);
        let packet = if published.retain { packet.retain() } else { packet };
        let Some(secs) = published.expiry_secs else { return packet };
        let ends = now + u64::from(secs) * 1_000_000;
        published.ends = Some((published.ends.map_or(ends, |(first, _)| first), ends));
        packet.expiry(secs)
    }

    /// Sessions and groups that are sure to get a message of this topic.
    #[expect(clippy::type_complexity, reason = "both are only handed on")]
    fn sure_of(
        &self,
        topic: &str,
    ) -> (Vec<((usize, u32), u8)>, BTreeMap<String, BTreeSet<(usize, u32)>>) {
        let now = self.world.now.wall.0;
        let (mut sessions, mut groups) = (Vec::new(), BTreeMap::new());
        for (at, client) in self.clients.iter().enumerate().filter(|(_, it)| it.is_sure(now)) {
            let session = (at, client.life);
            let mut best = 0;
            for (filter, (known, qos)) in &client.subscriptions {
                if *known != Known::Yes || !matches(filter, topic) {
                    continue;
                }
                if filter.starts_with("$share") {
                    let members: &mut BTreeSet<_> = groups.entry(filter.clone()).or_default();
                    members.insert(session);
                } else {
                    best = best.max(*qos);
                }
            }
            sessions.push((session, best));
        }
        (sessions, groups)
    }
}
