//! Rounds of trackers at work that each end in a kill, and the audit after the last.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::books::{Book, DEVICES, STREAMS, Stored};
use super::clients::{Broker, Dice, LATE, Process};
use super::endpoint::Endpoint;
use super::hub::{Hub, Setting};
use super::rest::{Rest, id, query};
use super::tracker::Tracker;

/// Devices at work, and how many of them nobody has registered.
const TRACKERS: usize = 12;
const STRANGERS: usize = 2;

/// Milliseconds of load before a kill.
const LOAD_MILLIS: std::ops::Range<usize> = 100..700;

/// Of so many starts one is killed before it is done.
const FALSE_START: usize = 4;

/// Queues so short that modules cannot keep up.
const SHORT: [Setting<'_>; 2] = [("LIMITS__QUEUE_MESSAGES", "100"), ("LIMITS__INFLIGHT", "20")];

pub(crate) struct Run {
    hub: Hub,
    /// Whether queues are [`SHORT`].
    is_short: bool,
    trackers: Vec<Tracker>,
    endpoint: Endpoint,
    dice: Dice,
    channel: u64,
    address: SocketAddr,
    /// Numbers of the devices, in the order of their trackers.
    devices: Vec<u64>,
    /// What a pull reader has read, over all kills, and where it goes on.
    pulled: Vec<Value>,
    next_key: u64,
}

impl Run {
    pub(crate) fn new(seed: u64, is_short: bool) -> Self {
        let tracker = |at| Tracker::new(format!("tracker-{at}"), seed ^ at as u64);
        Self {
            hub: Hub::new(),
            is_short,
            trackers: (0..TRACKERS).map(tracker).collect(),
            endpoint: Endpoint::start(seed),
            dice: Dice::new(seed),
            channel: 0,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            devices: Vec::new(),
            pulled: Vec::new(),
            next_key: 0,
        }
    }

    /// Goes through so many kills, and audits the books.
    pub(crate) fn all(mut self, kills: u32) {
        let mut broker = self.start();
        self.set_up(&broker);
        for round in 0..kills {
            let millis = LOAD_MILLIS.start + self.dice.below(LOAD_MILLIS.len());
            self.load(broker, Duration::from_millis(millis as u64));
            let sent: usize = self.trackers.iter().map(|it| it.acknowledged.len()).sum();
            println!("kill {} after {millis} ms: {sent} messages acknowledged", round + 1);
            if self.dice.once_in(FALSE_START) {
                let settings = self.settings();
                let process = Process::start(&mut self.hub.command(&settings));
                // A moment that nothing tells of is what this is about.
                sleep(Duration::from_micros(self.dice.below(400_000) as u64));
                process.kill();
            }
            broker = self.start();
            self.pull(&self.hub.rest(&broker));
        }
        self.audit(broker);
    }

    /// Trackers work until the broker is killed in their midst.
    fn load(&mut self, broker: Broker, time: Duration) {
        let (is_over, channel) = (AtomicBool::new(false), self.address);
        scope(|scope| {
            for tracker in &mut self.trackers {
                scope.spawn(|| tracker.work(channel, |_| is_over.load(Ordering::Relaxed)));
            }
            sleep(time);
            broker.kill();
            is_over.store(true, Ordering::Relaxed);
        });
    }

    /// What a start changes: the number of shards, and what is durable when.
    fn settings(&mut self) -> Vec<Setting<'static>> {
        let shards = if self.dice.once_in(2) { "1" } else { "3" };
        let level = if self.dice.once_in(2) { "process" } else { "power" };
        let mut settings = vec![
            ("THREADS__SHARDS", shards),
            ("STORAGE__DURABILITY", level),
            ("STORAGE__SEGMENT_BYTES", "1048576"),
        ];
        settings.extend(self.is_short.then_some(SHORT).into_iter().flatten());
        settings
    }

    fn start(&mut self) -> Broker {
        let settings = self.settings();
        self.hub.start(&settings)
    }

    /// Makes the channel, devices and streams.
    fn set_up(&mut self, broker: &Broker) {
        let rest = self.hub.rest(broker);
        (self.channel, self.address) = rest.channel("wialon_ips");
        self.devices = self.trackers[STRANGERS..].iter().map(|it| rest.device(&it.ident)).collect();
        let devices: Vec<_> = self.devices.iter().map(u64::to_string).collect();
        let (channel, devices) = (self.channel.to_string(), devices.join(","));
        for (name, links) in STREAMS {
            let uri = format!("http://{}/{name}", self.endpoint.address);
            let stream = json!({"name": name, "configuration": {"protocol": "http", "uri": uri}});
            let stream = id(&rest.make("/gw/streams", &stream));
            for link in links {
                let numbers = if *link == "devices" { &devices } else { &channel };
                let path = format!("/gw/streams/{stream}/{link}/{numbers}");
                assert!(!rest.list("POST", &path, &Value::Null).is_empty(), "{path}");
            }
        }
    }

    /// Reads on where it stopped, as users of the pull model do (R3.8).
    fn pull(&mut self, rest: &Rest) {
        loop {
            let data = query(&json!({"curr_key": self.next_key, "limit_count": 1_000}));
            let path = format!("/gw/channels/{}/messages?{data}", self.channel);
            let mut answer = rest.ask("GET", &path, &Value::Null);
            self.next_key = answer["next_key"].as_u64().expect("a number");
            match answer["result"].take() {
                Value::Array(messages) if !messages.is_empty() => self.pulled.extend(messages),
                _ => return,
            }
        }
    }

    /// Waits until all has come that is to come, and looks whether it is right.
    fn audit(mut self, mut broker: Broker) {
        let rest = self.hub.rest(&broker);
        let (mut begun, mut count) = (Instant::now(), 0);
        let mut missing = usize::MAX;
        // What is still missing after that is lost.
        while missing > 0 && begun.elapsed() < LATE {
            let posts = self.endpoint.posts();
            missing = Book::new(&self.trackers, STRANGERS).missing(&posts);
            if posts.len() > count {
                (begun, count) = (Instant::now(), posts.len());
            }
            sleep(Duration::from_millis(100));
        }
        self.pull(&rest);
        let path = |device: &u64| format!("/gw/devices/{device}/messages");
        let history = |device| rest.list("GET", &path(device), &Value::Null);
        let mut book = Book::new(&self.trackers, STRANGERS);
        if !self.is_short {
            // What was refused for want of room comes behind what then was taken.
            book.check_order(&self.endpoint.posts());
        }
        book.check_posts(&self.endpoint.posts());
        book.check_stored("a pull reader", Stored::All, &self.pulled);
        let data = query(&json!({"curr_key": 0}));
        let all = format!("/gw/channels/{}/messages?{data}", self.channel);
        book.check_stored("the channel", Stored::All, &rest.list("GET", &all, &Value::Null));
        for (at, device) in self.devices.iter().enumerate() {
            book.check_stored(DEVICES, Stored::Of(STRANGERS + at), &history(device));
        }
        let story = broker.process().story();
        let faults = book.faults();
        assert!(faults.is_empty(), "{}\n{story}", faults.join("\n"));
        assert!(!story.contains("panicked"), "{story}");
    }
}
