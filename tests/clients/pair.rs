//! A publisher and a subscriber at an even pace, who notice everything: a message that is lost,
//! comes twice, in another order or late, an acknowledgement out of turn, a connection that ends.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use longshore::codec::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};

use super::process::PATIENCE;
use super::wire::{self, Inbox, Seen, first};

/// Between two messages; they take turns at QoS 0, 1 and 2.
const PACE: Duration = Duration::from_millis(1);

/// A message that takes longer is lost.
const LOST: Duration = Duration::from_secs(30);

/// What no message may take longer, and what one of a hundred may. Far more than the broker needs,
/// for the machine that runs this may be busy, and far less than whoever stalls it costs.
const LONGEST: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_millis(100);

/// Messages on their way at once: fewer than Receive Maximum is, and than fill a socket.
const WINDOW: usize = 1_000;

/// Fewer messages than that say nothing about one of a hundred.
const MANY: usize = 5_000;

/// How much longer than in calm messages may take where even calm takes long.
const TIMES: u32 = 5;

/// The pair at work, on a thread of its own.
pub(crate) struct Pair {
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    progress: Mutex<Progress>,
    /// Told of any change of `progress`.
    changed: Condvar,
}

#[derive(Default)]
struct Progress {
    /// Messages that arrived.
    arrived: usize,
    has_ended: bool,
    /// Since somebody took them.
    delays: Delays,
}

impl Shared {
    fn change(&self, change: impl FnOnce(&mut Progress)) {
        change(&mut self.progress.lock().expect("nobody panics with it"));
        self.changed.notify_all();
    }
}

/// Tells of the end, however it came.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.change(|progress| progress.has_ended = true);
    }
}

impl Pair {
    /// Connects both, who talk on `topic` and topics below it.
    pub(crate) fn start(address: SocketAddr, topic: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let (seen, topic) = (Arc::clone(&shared), topic.to_owned());
        let thread = thread::Builder::new().name("pair".to_owned()).spawn(move || {
            let _ending = Ending(Arc::clone(&seen));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                let talk = Talk::start(address, topic, &seen).await;
                talk.run().await
            })
        });
        let pair = Self { thread: Some(thread.expect("a thread")), shared };
        pair.hear(1);
        pair
    }

    /// Waits until `count` more messages have arrived, all that were sent before among them.
    pub(crate) fn hear(&self, count: usize) {
        let progress = self.shared.progress.lock().expect("nobody panics with it");
        let until = progress.arrived + count;
        let waits = |progress: &mut Progress| progress.arrived < until && !progress.has_ended;
        let waited = self.shared.changed.wait_timeout_while(progress, PATIENCE, waits);
        let progress = waited.expect("nobody panics with it").0;
        let (has_ended, arrived) = (progress.has_ended, progress.arrived);
        drop(progress);
        assert!(!has_ended, "the pair noticed something");
        assert!(arrived >= until, "the pair talks no more");
    }

    /// Takes how long messages took since this was asked last.
    pub(crate) fn delays(&self) -> Delays {
        let mut progress = self.shared.progress.lock().expect("nobody panics with it");
        let mut delays = std::mem::take(&mut progress.delays);
        drop(progress);
        delays.messages.sort_unstable();
        delays
    }

    /// Lets them finish, and tells how long messages took.
    pub(crate) fn stop(mut self) -> Delays {
        self.shared.stop.store(true, Ordering::Release);
        let thread = self.thread.take().expect("it runs");
        thread.join().unwrap_or_else(|_| panic!("the pair noticed something"));
        self.delays()
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
    }
}

/// How long messages took, from their publisher to their subscriber.
#[derive(Default)]
pub(crate) struct Delays {
    /// In order of time taken.
    messages: Vec<Duration>,
    /// How late the pair itself was at most when it was its turn: so busy was the machine.
    own: Duration,
}

impl Delays {
    pub(crate) fn count(&self) -> usize {
        self.messages.len()
    }

    /// What so many of a thousand messages did not exceed.
    pub(crate) fn permille(&self, permille: usize) -> Duration {
        self.messages[(self.count() - 1) * permille / 1_000]
    }

    /// Whether nobody would have noticed anything, as one who knows what it was like in calm.
    pub(crate) fn are_fair(&self, calm: &Self) -> bool {
        let most =
            |at_least: Duration, permille| at_least.max(calm.permille(permille) * TIMES) + self.own;
        let is_long = self.count() >= MANY && self.permille(990) > most(LONG, 990);
        self.permille(1_000) <= most(LONGEST, 1_000) && !is_long
    }
}

impl std::fmt::Display for Delays {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [half, most, all] = [500, 990, 1_000].map(|permille| self.permille(permille));
        let (count, own) = (self.count(), self.own);
        write!(f, "{count} messages, p50 {half:.1?}, p99 {most:.1?}, max {all:.1?}")?;
        write!(f, "; the pair itself was late by up to {own:.1?}")
    }
}

/// One end of it.
struct Line {
    stream: TcpStream,
    inbox: Inbox,
    scratch: Vec<u8>,
}

impl Line {
    async fn connect(address: SocketAddr, name: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the broker takes connections");
        stream.set_nodelay(true).expect("an option of TCP");
        let mut line = Self { stream, inbox: Inbox::new(Version::V5), scratch: vec![0; 65_536] };
        line.send(&wire::connect(Version::V5, name, true)).await;
        assert_eq!(line.next().await, Seen::Connack(0, false));
        line
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the connection holds");
    }

    /// Waits for bytes. May be dropped before it is done.
    async fn fill(&mut self) {
        let read = self.stream.read(&mut self.scratch).await;
        let count = read.expect("the connection holds");
        assert!(count > 0, "the broker closed a connection of the pair");
        self.inbox.push(&self.scratch[..count]);
    }

    async fn next(&mut self) -> Seen {
        loop {
            if let Some(seen) = self.inbox.next() {
                return seen;
            }
            self.fill().await;
        }
    }
}

/// Messages of one QoS.
#[derive(Default)]
struct Course {
    /// When those that did not arrive yet were sent.
    sent_at: VecDeque<Instant>,
    /// Number of the next to be sent.
    next: u64,
    /// Packet identifiers that wait for PUBACK or PUBREC, which come in this order.
    unanswered: VecDeque<u16>,
    /// Packet identifiers that wait for PUBCOMP.
    uncompleted: VecDeque<u16>,
}

struct Talk<'a> {
    publisher: Line,
    subscriber: Line,
    topic: String,
    courses: [Course; 3],
    last_id: u16,
    shared: &'a Shared,
}

impl<'a> Talk<'a> {
    async fn start(address: SocketAddr, topic: String, shared: &'a Shared) -> Self {
        let mut subscriber = Line::connect(address, &format!("{topic}-subscriber")).await;
        let filter = format!("{topic}/+");
        subscriber.send(&wire::subscribe(Version::V5, 1, &filter, 2)).await;
        assert_eq!(subscriber.next().await, Seen::Suback);
        let publisher = Line::connect(address, &format!("{topic}-publisher")).await;
        Self { publisher, subscriber, topic, courses: Default::default(), last_id: 0, shared }
    }

    async fn run(mut self) {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                due = pace.tick() => {
                    let late = due.elapsed();
                    self.shared.change(|progress| {
                        progress.delays.own = progress.delays.own.max(late);
                    });
                    let stops = self.shared.stop.load(Ordering::Acquire);
                    if stops && self.is_done() {
                        return;
                    }
                    self.check_delays();
                    if !stops && !self.is_held_back() {
                        self.publish().await;
                    }
                }
                () = self.publisher.fill() => self.answers().await,
                () = self.subscriber.fill() => self.messages().await,
            }
        }
    }

    fn is_done(&self) -> bool {
        let is_done = |course: &Course| {
            course.sent_at.is_empty()
                && course.unanswered.is_empty()
                && course.uncompleted.is_empty()
        };
        self.courses.iter().all(is_done)
    }

    fn check_delays(&self) {
        for (qos, course) in self.courses.iter().enumerate() {
            if let Some(sent_at) = course.sent_at.front() {
                let missing = course.next - course.sent_at.len() as u64;
                assert!(sent_at.elapsed() < LOST, "message {missing} at QoS {qos} did not arrive");
            }
        }
    }

    /// Whether as many messages are on their way as the broker has to take.
    fn is_held_back(&self) -> bool {
        let on_their_way = |course: &Course| {
            course.sent_at.len().max(course.unanswered.len()).max(course.uncompleted.len())
        };
        self.courses.iter().map(on_their_way).sum::<usize>() >= WINDOW
    }

    async fn publish(&mut self) {
        let sent: u64 = self.courses.iter().map(|it| it.next).sum();
        let qos = (sent % 3) as u8;
        self.last_id = self.last_id.checked_add(1).unwrap_or(1);
        let course = &mut self.courses[usize::from(qos)];
        let payload = payload(course.next);
        let topic = format!("{}/{qos}", self.topic);
        let packet = wire::publish(Version::V5, &topic, qos, self.last_id, &payload);
        if qos > 0 {
            course.unanswered.push_back(self.last_id);
        }
        course.next += 1;
        course.sent_at.push_back(Instant::now());
        self.publisher.send(&packet).await;
    }

    /// Takes what the broker answers to the publisher.
    async fn answers(&mut self) {
        while let Some(seen) = self.publisher.inbox.next() {
            match seen {
                Seen::Puback(id) => {
                    assert_eq!(self.courses[1].unanswered.pop_front(), Some(id), "PUBACK");
                }
                Seen::Pubrec(id) => {
                    assert_eq!(self.courses[2].unanswered.pop_front(), Some(id), "PUBREC");
                    self.courses[2].uncompleted.push_back(id);
                    self.publisher.send(&wire::ack(first::PUBREL, id)).await;
                }
                Seen::Pubcomp(id) => {
                    assert_eq!(self.courses[2].uncompleted.pop_front(), Some(id), "PUBCOMP");
                }
                other => panic!("the publisher got {other:?}"),
            }
        }
    }

    /// Takes what the broker sends to the subscriber.
    async fn messages(&mut self) {
        while let Some(seen) = self.subscriber.inbox.next() {
            match seen {
                Seen::Publish { qos, id, topic, payload } => {
                    assert_eq!(topic, format!("{}/{qos}", self.topic));
                    self.message(qos, &payload);
                    match qos {
                        0 => {}
                        1 => self.subscriber.send(&wire::ack(first::PUBACK, id)).await,
                        _ => self.subscriber.send(&wire::ack(first::PUBREC, id)).await,
                    }
                }
                Seen::Pubrel(id) => {
                    self.subscriber.send(&wire::ack(first::PUBCOMP, id)).await;
                }
                other => panic!("the subscriber got {other:?}"),
            }
        }
    }

    fn message(&mut self, qos: u8, got: &[u8]) {
        let course = &mut self.courses[usize::from(qos)];
        let number = course.next - course.sent_at.len() as u64;
        let sent_at = course.sent_at.pop_front();
        let sent_at = sent_at.unwrap_or_else(|| panic!("a message at QoS {qos} came twice"));
        let is_right = got == payload(number);
        assert!(is_right, "message {number} at QoS {qos} did not come in its turn, but {got:?}");
        self.shared.change(|progress| {
            progress.arrived += 1;
            progress.delays.messages.push(sent_at.elapsed());
        });
    }
}

/// The content of a message: its number, and more or less behind it.
fn payload(number: u64) -> Vec<u8> {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(8 + (number % 300) as usize, number as u8);
    payload
}
