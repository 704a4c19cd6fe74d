//! Rounds of load that each end in a kill, and the audit after the last.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use longshore::codec::{Packet, Version};
use tempfile::TempDir;

use super::books::Books;
use super::clients::{self, Broker, Dice, LATE, PATIENCE, Process};
use super::crew::muster;
use super::kept::Kept;
use super::line::{self, Line};
use super::member::{Habit, Leave, Member, Mood, World};

/// Milliseconds of load before a kill.
const LOAD_MILLIS: std::ops::Range<usize> = 30..400;

/// Of so many starts one is killed before it is done.
const FALSE_START: usize = 5;

/// Of so many kills one comes while clients connect.
const EARLY: usize = 5;

/// How long nothing must come until clients ask whether there is more.
const QUIET: Duration = Duration::from_millis(30);

/// How often they ask, and nothing has come.
const ASK: u32 = 3;

/// How a round ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The broker is killed.
    Kill,
    /// All connections break, and the broker lives on.
    Cut,
}

/// What a member does in the middle of a round, and when.
struct Plan {
    at: Instant,
    member: usize,
    deed: Deed,
}

#[derive(Clone, Copy)]
enum Deed {
    Come,
    Go(Leave),
    /// Goes and comes back at once.
    Flap(Leave),
}

pub(crate) struct Run {
    folder: TempDir,
    members: Vec<Member>,
    world: World,
    round: u32,
    scratch: Vec<u8>,
}

impl Run {
    pub(crate) fn new(seed: u64) -> Self {
        let mut books = Books::default();
        let members = muster(&mut books);
        Self {
            folder: tempfile::tempdir().expect("a folder for the data"),
            members,
            world: World { books, kept: Kept::default(), dice: Dice::new(seed) },
            round: 0,
            scratch: Vec::new(),
        }
    }

    /// Goes through so many rounds that end in this way, and audits the books.
    pub(crate) fn all(mut self, rounds: u32, end: End) {
        let mut broker = self.start();
        for _ in 0..rounds {
            self.round(&broker);
            let log = broker.process().story();
            self.round += 1;
            broker = match end {
                End::Kill => {
                    broker.kill();
                    self.listen();
                    // What comes next would only bury a fault.
                    self.judge(&log);
                    self.start()
                }
                End::Cut => {
                    self.greet();
                    self.members.iter_mut().for_each(|member| member.leave(Leave::Cut));
                    broker
                }
            };
            self.read_kept(broker.address("mqtt"));
            self.judge(&log);
        }
        broker = self.finish(broker, end);
        let (totals, changes) = (self.world.books.totals(), self.world.kept.total());
        println!("{rounds} rounds, {totals:?}, {changes} changes of retained messages");
        self.world.books.audit();
        self.judge(&broker.process().story());
    }

    /// Fails with the faults there are; `log` is what the broker said last.
    fn judge(&self, log: &str) {
        let faults = self.world.books.faults();
        assert!(
            faults.is_empty(),
            "{}
{log}",
            faults.join("\n")
        );
        assert!(!log.contains("panicked"), "{log}");
    }

    /// Starts the broker on what the one before left; some die before they have begun.
    fn start(&mut self) -> Broker {
        let settings = self.settings();
        let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
        if self.round > 0 && self.world.dice.once_in(FALSE_START) {
            let program = Command::new(env!("CARGO_BIN_EXE_longshore"));
            let mut command = clients::command(program, self.path(), &["mqtt"], &settings);
            let process = Process::start(&mut command);
            // A moment that nothing tells of is what this is about.
            std::thread::sleep(Duration::from_micros(self.world.dice.below(40_000) as u64));
            process.kill();
        }
        Broker::start_in(self.path(), &["mqtt"], &settings)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn settings(&mut self) -> [(&'static str, String); 3] {
        let shards = if self.round.is_multiple_of(2) { "1" } else { "3" };
        let level = if self.world.dice.once_in(2) { "process" } else { "power" };
        let bytes = if self.world.dice.once_in(2) { 1 << 18 } else { 1 << 20 };
        [
            ("THREADS__SHARDS", shards.to_owned()),
            ("STORAGE__DURABILITY", level.to_owned()),
            ("STORAGE__SEGMENT_BYTES", bytes.to_string()),
        ]
    }

    /// Everybody comes, and there is load for a random time.
    fn round(&mut self, broker: &Broker) {
        self.world.books.round();
        let address = broker.address("mqtt");
        let plans = self.plans();
        let comes_late = |member| {
            let is_it = |plan: &&Plan| plan.member == member && matches!(plan.deed, Deed::Come);
            plans.iter().find(is_it).is_some()
        };
        for member in 0..self.members.len() {
            if self.members[member].nature.habit.is_awake(self.round) && !comes_late(member) {
                self.members[member].connect(address, &mut self.world);
            }
        }
        let is_early = self.round > 0 && self.world.dice.once_in(EARLY);
        if !is_early {
            self.greet();
        }
        let millis = LOAD_MILLIS.start + self.world.dice.below(LOAD_MILLIS.len());
        let millis = if is_early { self.world.dice.below(40) } else { millis };
        println!("round {}: {millis} ms of load", self.round + 1);
        let end = Instant::now() + Duration::from_millis(millis as u64);
        let mut plans = plans.into_iter().peekable();
        while Instant::now() < end {
            while let Some(plan) = plans.next_if(|plan| plan.at <= Instant::now()) {
                self.do_as_planned(&plan, address);
            }
            self.turn(Mood::Load);
        }
    }

    /// Waits for CONNACK to everybody who has connected.
    fn greet(&mut self) {
        self.until(Mood::Load, "everybody is greeted", |run| {
            run.members.iter().all(|it| it.is_greeted() || it.line().is_none())
        });
    }

    /// Who comes, goes and flaps when in this round, in order of time.
    fn plans(&mut self) -> Vec<Plan> {
        let (mut plans, now, round) = (Vec::new(), Instant::now(), self.round);
        let dice = &mut self.world.dice;
        for (at, member) in self.members.iter().enumerate() {
            let habit = member.nature.habit;
            let mut plan = |deed, millis| {
                plans.push(Plan { at: now + Duration::from_millis(millis), member: at, deed });
            };
            let moment = |dice: &mut Dice| dice.below(LOAD_MILLIS.end) as u64;
            let how =
                |dice: &mut Dice| [Leave::Disconnect, Leave::Cut, Leave::Takeover][dice.below(3)];
            if habit == Habit::Flaps && round > 0 {
                for _ in 0..dice.below(3) {
                    plan(Deed::Flap(how(dice)), moment(dice));
                }
            }
            let (is, was, will) = (
                habit.is_awake(round),
                round == 0 || habit.is_awake(round - 1),
                habit.is_awake(round + 1),
            );
            if is && !was && dice.once_in(2) {
                plan(Deed::Come, moment(dice) / 4);
            } else if is && !will && dice.once_in(2) {
                let how = if dice.once_in(2) { Leave::Disconnect } else { Leave::Cut };
                plan(Deed::Go(how), moment(dice));
            }
        }
        plans.sort_by_key(|plan| plan.at);
        plans
    }

    fn do_as_planned(&mut self, plan: &Plan, address: SocketAddr) {
        let member = &mut self.members[plan.member];
        match plan.deed {
            Deed::Come => member.connect(address, &mut self.world),
            Deed::Go(how) => member.leave(how),
            // Else the broker may see the old connection after the new one, and takes it for newer.
            Deed::Flap(_) if !member.is_greeted() => {}
            Deed::Flap(how) => {
                if !matches!(how, Leave::Takeover) {
                    member.leave(how);
                }
                if member.forgets && self.world.dice.once_in(2) {
                    member.forget();
                }
                member.connect(address, &mut self.world);
            }
        }
    }

    /// Everybody reads, acts and writes once; how many packets came in.
    fn turn(&mut self, mood: Mood) -> usize {
        line::wait(self.members.iter().filter_map(Member::line), Duration::from_millis(1));
        let (world, scratch) = (&mut self.world, &mut self.scratch);
        self.members.iter_mut().map(|member| member.turn(mood, world, scratch)).sum()
    }

    /// Takes turns until `is_done`, which `what` says.
    fn until(&mut self, mood: Mood, what: &str, mut is_done: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        while !is_done(self) {
            self.turn(mood);
            let is_stuck = begun.elapsed() > PATIENCE || self.world.books.has_faults();
            if is_stuck {
                let faults = self.world.books.faults().join("\n");
                panic!("round {}: waited in vain until {what}\n{faults}", self.round + 1);
            }
        }
    }

    /// Hears what the broker said before its end.
    fn listen(&mut self) {
        self.until(Mood::Listen, "all connections are over", |run| {
            run.members.iter().all(|member| member.line().is_none())
        });
    }

    /// One who was never here before reads all retained messages.
    fn read_kept(&mut self, address: SocketAddr) {
        let version = if self.round.is_multiple_of(2) { Version::V5 } else { Version::V3_1_1 };
        let mut line = Line::open(address, version);
        line.outbox().extend(clients::connect(version, "fresh", true));
        line.outbox().extend(clients::subscribe(version, 1, "kept/#", 1));
        let (mut seen, mut is_asked, mut is_done) = (BTreeMap::new(), false, false);
        let begun = Instant::now();
        while !is_done && begun.elapsed() < LATE {
            line.flush();
            line::wait([&line].into_iter(), Duration::from_millis(1));
            line.fill(&mut self.scratch);
            assert!(!line.is_over(), "the broker lets nobody in");
            while let Some(packet) = line.packet() {
                match packet {
                    Packet::Publish(it) => {
                        let topic = String::from_utf8_lossy(it.topic).into_owned();
                        let twice = seen.insert(topic, it.payload.to_vec()).is_some();
                        if !it.retain || twice {
                            self.world.books.blame("a fresh client", &format!("gets {it:?}"));
                        }
                    }
                    Packet::Pingresp => is_done = true,
                    _ => {}
                }
            }
            // All that must be there is; what must not be there has until then to come.
            if !is_asked && !self.world.kept.wants_more(&seen) {
                line.outbox().extend([0xc0, 0]);
                is_asked = true;
            }
        }
        for fault in self.world.kept.faults(&seen) {
            self.world.books.blame("a fresh client", &fault);
        }
    }

    /// Lets everything come that is to come. After a stop in good order nothing comes again.
    fn finish(&mut self, broker: Broker, end: End) -> Broker {
        self.world.books.round();
        self.gather(broker.address("mqtt"));
        self.read_kept(broker.address("mqtt"));
        let totals = self.world.books.totals();
        if end == End::Cut || totals.missing > 0 || self.world.books.has_faults() {
            return broker;
        }
        broker.stop();
        self.members.iter_mut().for_each(|member| member.leave(Leave::Cut));
        let broker = self.start();
        self.world.books.round();
        self.gather(broker.address("mqtt"));
        self.read_kept(broker.address("mqtt"));
        let again = self.world.books.totals();
        let more = again.deliveries - totals.deliveries;
        if more > 0 {
            let what = format!("{more} messages came again after a stop in good order");
            self.world.books.blame("somebody", &what);
        }
        broker
    }

    /// Everybody comes, and takes all there is for them.
    fn gather(&mut self, address: SocketAddr) {
        for member in &mut self.members {
            if member.line().is_none() {
                member.connect(address, &mut self.world);
            }
        }
        let begun = Instant::now();
        let (mut since, mut asked) = (Instant::now(), 0);
        // What is still missing after that is lost.
        while since.elapsed() < LATE && !self.world.books.has_faults() {
            if self.turn(Mood::Drain) > 0 {
                (since, asked) = (Instant::now(), 0);
            }
            let is_quiet = self.members.iter().all(Member::is_idle) && since.elapsed() > QUIET;
            if is_quiet && asked < ASK {
                self.members.iter_mut().for_each(Member::ping);
            } else if is_quiet && asked == ASK && self.world.books.totals().missing == 0 {
                break;
            }
            asked += u32::from(is_quiet);
        }
        let waits = self.members.iter().filter(|member| !member.is_idle());
        let waits: Vec<_> = waits.map(|member| member.name.as_str()).collect();
        if !waits.is_empty() && !self.world.books.has_faults() {
            self.world.books.blame(&waits.join(", "), "waited in vain");
        }
        let totals = self.world.books.totals();
        println!("drained in {:.1?}: {:?}", begun.elapsed(), totals);
    }
}
