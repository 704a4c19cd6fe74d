//! The end of a run: all clients come back, everything that waits comes, and the books are closed.

use crate::book::{Fate, TOPICS, matches};
use crate::client::{Client, Known, NEVER};
use crate::run::Run;
use crate::wire::Version;
use crate::world::PowerCut;

/// Rounds after which nothing may be left to be done.
const ROUNDS: usize = 2_000;
/// Seconds after which all wills of those who stay away have been sent.
const WILLS_SECS: u64 = 200;

impl Run {
    /// Goes on until nobody has anything to say.
    pub(crate) fn quiesce(&mut self) -> Result<(), PowerCut> {
        let mut idle = 0;
        for _ in 0..ROUNDS {
            let mut is_busy = false;
            for shard in 0..self.world.count() {
                self.world.end_turn(shard)?;
            }
            self.world.commit()?;
            self.world.tell();
            while self.world.on_their_way() > 0 {
                is_busy = true;
                self.world.carry(0);
            }
            self.world.pass(0)?;
            for shard in 0..self.world.count() {
                self.world.end_turn(shard)?;
            }
            is_busy |= !self.world.written.is_empty() || !self.world.renamed.is_empty();
            is_busy |= self.world.awaits_journal();
            self.collect();
            for at in 0..self.clients.len() {
                self.read(at, usize::MAX);
                while self.acknowledge(at, 0) {
                    is_busy = true;
                }
            }
            idle = if is_busy { 0 } else { idle + 1 };
            // What was said last may wait for the next commit.
            if idle == 2 {
                return Ok(());
            }
        }
        panic!("there is no end to it");
    }

    fn rest(&mut self) {
        self.quiesce().expect("the power is not cut any more");
    }

    /// See the module.
    pub(crate) fn settle(&mut self) {
        self.world.open().expect("the power is not cut any more");
        let mut absent = Vec::new();
        for at in 0..self.clients.len() {
            let client = &self.clients[at];
            if at > 0 && self.choices.percent(25) {
                absent.push(at);
            } else if client.is_lasting {
                let expiry_secs = if client.version == Version::V5 { 100_000 } else { NEVER };
                self.connect(at, false, expiry_secs, false);
            }
        }
        self.rest();
        self.probe();
        self.read_retained();
        for at in &absent {
            let client = &self.clients[*at];
            self.book.end_session((*at, client.life), &client.groups);
            self.book.void_groups(&client.groups);
        }
        self.book.check(self.world.now.wall.0);
        self.world.pass(WILLS_SECS).expect("the power is not cut any more");
        self.rest();
        self.check_wills(&absent);
        self.book.check(self.world.now.wall.0);
    }

    fn stranger(&mut self, name: &str) -> usize {
        let at = self.clients.len();
        self.clients.push(Client::new(name, Version::V5, false));
        self.connect(at, true, 0, false);
        self.rest();
        at
    }

    /// Who is subscribed gets what is published now, and nobody else.
    fn probe(&mut self) {
        let prober = self.stranger("prober");
        for topic in TOPICS {
            let number = self.publish_as(prober, topic, 1, false, false, false);
            let number = number.expect("an id is free");
            self.rest();
            for (at, client) in self.clients.iter().enumerate().filter(|(_, it)| it.is_online()) {
                let of_topic = client.subscriptions.iter().filter(|(it, _)| matches(it, topic));
                let known: Vec<Known> = of_topic.map(|(_, (known, _))| *known).collect();
                let session = (at, client.life);
                let has_come = self.book.last_delivery(number, session).is_some();
                let is_subscribed = known.contains(&Known::Yes);
                assert!(has_come || !is_subscribed, "client {at} is not subscribed to {topic}");
                assert!(!has_come || !known.is_empty(), "client {at} is subscribed to {topic}");
            }
        }
    }

    fn read_retained(&mut self) {
        let reader = self.stranger("reader");
        self.subscribe(reader, "t/+", 1);
        self.rest();
        for topic in TOPICS {
            let of_reader = self.book.deliveries.iter().filter(|it| it.session.0 == reader);
            let is_it = |number: &usize| self.book.published[*number].topic == topic;
            let mut found = of_reader.map(|it| it.number).filter(is_it);
            self.retained.check(topic, found.next());
            assert_eq!(found.next(), None, "one message is retained");
        }
    }

    /// The wills of lasting sessions have come whose clients did not.
    fn check_wills(&self, absent: &[usize]) {
        for at in absent {
            let client = &self.clients[*at];
            let Some((number, _)) = client.will else { continue };
            let is_open = self.book.published[number].will == Some(Fate::Open);
            let is_sure = client.expiry_secs > 0 && is_open && client.is_watched;
            let session = (0, self.clients[0].life);
            let has_come = self.book.last_delivery(number, session).is_some();
            assert!(!is_sure || has_come, "client {at} is gone, and not its will m{number}");
        }
    }
}
