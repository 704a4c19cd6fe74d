//! What a stream does with its queue and its sink, in virtual time.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use longshore_storage::Tables;
use longshore_streams::{
    Conversion, Failure, Message, Outcome, Queue, QueueOptions, Queues, Report, Rules, Runner,
    RunnerOptions, Sink, failure,
};
use serde_json::json;
use tempfile::{TempDir, tempdir};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

/// What a sink is to do with a batch.
#[derive(Clone)]
enum Act {
    Accept,
    /// Fails behind so many messages.
    Fail(usize),
    /// Never answers.
    Hang,
    /// Passes over so many and takes the others.
    Skip(usize),
}

/// When a sink was given a batch, and the numbers in it.
type Given = (Duration, Vec<i64>);

/// A sink that does as it is told, then accepts, and remembers what it was given and when.
#[derive(Clone, Default)]
struct Script {
    acts: Arc<Mutex<VecDeque<Act>>>,
    given: Arc<Mutex<Vec<Given>>>,
    is_connected: bool,
    /// The connection ends between batches.
    lost: Arc<Notify>,
}

impl Sink for Script {
    async fn send(&mut self, batch: &[Message]) -> Outcome {
        let number = |it: &Message| it.parameters().get("n").unwrap().get().parse().unwrap();
        let numbers = batch.iter().map(number).collect();
        self.given.lock().unwrap().push((elapsed(), numbers));
        let act = self.acts.lock().unwrap().pop_front().unwrap_or(Act::Accept);
        self.is_connected = true;
        let mut outcome = Outcome::accepted(batch.len());
        match act {
            Act::Accept => {}
            Act::Fail(settled) => {
                outcome.settled = settled;
                outcome.failure = Some(Failure::new(503, "not now"));
            }
            Act::Skip(skipped) => outcome.skipped = skipped,
            Act::Hang => std::future::pending().await,
        }
        outcome
    }

    async fn idle(&mut self) {
        self.lost.notified().await;
    }

    fn is_connected(&self) -> bool {
        self.is_connected
    }

    fn close(&mut self) {
        self.is_connected = false;
    }
}

/// Virtual time since the first call in this thread.
fn elapsed() -> Duration {
    thread_local! {
        static BEGUN: std::cell::OnceCell<Instant> = const { std::cell::OnceCell::new() };
    }
    BEGUN.with(|it| it.get_or_init(Instant::now).elapsed())
}

struct Stream {
    _folder: TempDir,
    queues: Queues,
    queue: Queue,
    sink: Script,
    reports: mpsc::UnboundedReceiver<Report>,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<()>,
}

impl Stream {
    async fn start(acts: &[Act], validate: &str, count: usize, options: RunnerOptions) -> Self {
        elapsed();
        let folder = tempdir().unwrap();
        let tables = Tables::open(&folder.path().join("tables")).unwrap();
        let queues = Queues::open(&tables).unwrap();
        let mut limits = QueueOptions::default();
        limits.ttl_secs = 1_000;
        let queue = queues.queue(1, limits).unwrap();
        let sink = Script::default();
        sink.acts.lock().unwrap().extend(acts.iter().cloned());
        let rules = Rules::new(validate, Conversion::default()).unwrap();
        let runner = Runner::new(queue.clone(), rules, sink.clone(), options);
        let (sender, reports) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        let stream = Self {
            _folder: folder,
            queues,
            queue,
            sink,
            reports,
            stop: Some(stop),
            running: tokio::spawn(async move {
                let stopped = async {
                    let _ = stopped.await;
                };
                runner.run(stopped, |it| sender.send(it).unwrap()).await.unwrap();
            }),
        };
        stream.append(0, count).await;
        stream
    }

    async fn append(&self, first: usize, count: usize) {
        let texts: Vec<_> =
            (first..first + count).map(|n| json!({"n": n}).to_string().into_bytes()).collect();
        let messages: Vec<_> = texts.iter().map(Vec::as_slice).collect();
        self.queues.append(&[(&self.queue, &messages)], now()).await.unwrap();
    }

    async fn report(&mut self) -> Report {
        self.reports.recv().await.unwrap()
    }

    fn given(&self) -> Vec<Vec<i64>> {
        self.sink.given.lock().unwrap().iter().map(|(_, it)| it.clone()).collect()
    }

    async fn stop(&mut self) {
        let _ = self.stop.take().unwrap().send(());
        (&mut self.running).await.unwrap();
    }
}

fn now() -> u64 {
    1_700_000_000_000_000
}

fn batches_of(messages: usize) -> RunnerOptions {
    let mut options = RunnerOptions::new(now);
    options.batch_messages = messages;
    options
}

/// R6.10, R6.13.
#[tokio::test(start_paused = true)]
async fn one_batch_is_in_flight_and_each_is_reported() {
    let mut stream = Stream::start(&[], "", 5, batches_of(2)).await;
    for read in [2, 2, 1] {
        let report = stream.report().await;
        assert_eq!((report.read, report.accepted, report.rejected), (read, read, 0));
        assert!(report.failure.is_none() && report.is_connected);
    }
    assert_eq!(stream.given(), [vec![0, 1], vec![2, 3], vec![4]]);
    stream.append(5, 1).await;
    assert_eq!(stream.report().await.accepted, 1, "an append wakes it");
    assert_eq!((stream.queue.status().messages, stream.queue.status().acknowledged), (0, 6));
    stream.stop().await;
}

/// R6.10: a request for each message would cost more than the message.
#[tokio::test(start_paused = true)]
async fn what_comes_soon_after_a_batch_waits_for_more_and_what_comes_late_for_nothing() {
    let options = batches_of(10);
    let mut stream = Stream::start(&[], "", 1, options).await;
    stream.report().await;
    stream.append(1, 1).await;
    stream.report().await;
    sleep(2 * options.interval).await;
    let late = elapsed();
    stream.append(2, 1).await;
    stream.report().await;
    let given = stream.sink.given.lock().unwrap().clone();
    assert!(given[1].0 - given[0].0 >= options.interval, "{given:?}");
    assert!(given[2].0 - late < options.interval, "{given:?}");
    stream.stop().await;
}

/// R6.11: the same batch, whatever has come since; waits that double and are cut by half at most.
#[tokio::test(start_paused = true)]
async fn a_batch_that_failed_is_tried_again_as_it_was_with_growing_waits() {
    let acts = vec![Act::Fail(0); 9];
    let mut stream = Stream::start(&acts, "", 2, batches_of(10)).await;
    let failed = stream.report().await;
    assert_eq!((failed.rejected, failed.failure.unwrap().code), (2, 503));
    stream.append(2, 3).await;
    for _ in 0..8 {
        assert!(stream.report().await.failure.is_some());
    }
    assert_eq!(stream.report().await.accepted, 2);
    assert_eq!(stream.report().await.accepted, 3);
    let given = stream.sink.given.lock().unwrap().clone();
    assert!(given[..10].iter().all(|(_, it)| *it == [0, 1]), "{given:?}");
    for (at, whole) in [1, 2, 4, 8, 16, 32, 60, 60, 60].into_iter().enumerate() {
        let wait = (given[at + 1].0 - given[at].0).as_secs_f64();
        let whole = f64::from(whole);
        assert!(whole / 2.0 <= wait && wait <= whole + 0.1, "{wait} s of {whole} s");
    }
    stream.stop().await;
}

/// R6.22, R13.7: messages that were acknowledged leave the queue though the batch failed.
#[tokio::test(start_paused = true)]
async fn what_a_failed_batch_has_settled_is_not_sent_again() {
    let mut stream = Stream::start(&[Act::Fail(2)], "n != 1 && n != 3", 6, batches_of(10)).await;
    let report = stream.report().await;
    // 0 and 2 were taken; 1 and 3 were left out on the way there.
    assert_eq!((report.read, report.accepted, report.skipped, report.rejected), (6, 2, 2, 2));
    assert_eq!(stream.report().await.accepted, 2);
    assert_eq!(stream.given(), [vec![0, 2, 4, 5], vec![4, 5]]);
    stream.stop().await;
}

/// R6.13, R6.14.
#[tokio::test(start_paused = true)]
async fn what_is_left_out_is_counted_as_skipped() {
    let mut stream = Stream::start(&[Act::Skip(1)], "n < 2", 5, batches_of(10)).await;
    let report = stream.report().await;
    assert_eq!((report.read, report.accepted, report.skipped, report.rejected), (5, 1, 4, 0));
    stream.append(5, 2).await;
    let report = stream.report().await;
    assert_eq!((report.read, report.accepted, report.skipped), (2, 0, 2), "nothing is sent");
    stream.queues.append(&[(&stream.queue, &[b"no JSON", b"[1]"])], now()).await.unwrap();
    assert_eq!(stream.report().await.skipped, 2);
    assert_eq!((stream.given().len(), stream.queue.status().messages), (1, 0));
    stream.stop().await;
}

/// Events 401 and 402.
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_lost_between_batches_is_reported() {
    let mut stream = Stream::start(&[], "", 1, batches_of(10)).await;
    assert!(stream.report().await.is_connected);
    stream.sink.lost.notify_one();
    assert_eq!(stream.report().await, Report::default());
    stream.append(1, 1).await;
    let report = stream.report().await;
    assert_eq!((report.accepted, report.is_connected), (1, true));
    stream.stop().await;
}

/// R6.21: a time that is up is a failure like others.
#[tokio::test(start_paused = true)]
async fn a_target_that_does_not_answer_is_given_up_after_a_minute() {
    let mut stream = Stream::start(&[Act::Hang], "", 1, batches_of(10)).await;
    let report = stream.report().await;
    assert_eq!(report.failure.unwrap().code, failure::TIMEOUT);
    assert_eq!((report.rejected, report.ack_latency.as_secs()), (1, 60));
    assert!(!report.is_connected, "what hung is not used again");
    assert_eq!(stream.report().await.accepted, 1);
    stream.stop().await;
}

/// R6.12: what is under way is given up, and stays in the queue.
#[tokio::test(start_paused = true)]
async fn a_stream_that_is_stopped_stops_within_two_seconds_and_keeps_its_queue() {
    for act in [Act::Hang, Act::Fail(0)] {
        let mut stream = Stream::start(&[act], "", 1, batches_of(10)).await;
        while stream.given().is_empty() {
            sleep(Duration::from_millis(1)).await;
        }
        let begun = Instant::now();
        stream.stop().await;
        assert!(begun.elapsed() <= Duration::from_secs(2));
        assert_eq!(stream.queue.status().messages, 1);
    }
}

/// R6.9, R6.11: a batch that has waited too long makes way for what is behind it.
#[tokio::test(start_paused = true)]
async fn a_dead_target_does_not_hold_messages_beyond_their_time() {
    static NOW: AtomicU64 = AtomicU64::new(0);
    let mut options = RunnerOptions::new(|| NOW.load(Ordering::Relaxed));
    options.batch_messages = 10;
    NOW.store(now(), Ordering::Relaxed);
    let mut stream = Stream::start(&[Act::Fail(0)], "", 2, options).await;
    assert!(stream.report().await.failure.is_some());
    let later = now() + 1_000_000_000;
    NOW.store(later, Ordering::Relaxed);
    let text = json!({"n": 9}).to_string();
    stream.queues.append(&[(&stream.queue, &[text.as_bytes()])], later).await.unwrap();
    assert_eq!(stream.report().await.accepted, 1);
    assert_eq!(stream.given().last().unwrap(), &[9]);
    assert_eq!(stream.queue.status().expired, 2);
    stream.stop().await;
}

/// A dead endpoint never delays another stream. In real time: what a clock that is paused would do
/// here is to pass the minute of the other at once.
#[tokio::test]
async fn a_stream_that_hangs_delays_no_other() {
    // A machine that is busy may take longer than the usual minute.
    let mut options = batches_of(1);
    options.send_timeout = Duration::from_secs(3_600);
    let mut dead = Stream::start(&[Act::Hang], "", 100, options).await;
    while dead.given().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    let mut alive = Stream::start(&[], "", 100, batches_of(1)).await;
    let all = async {
        for _ in 0..100 {
            assert_eq!(alive.report().await.accepted, 1);
        }
    };
    assert_eq!(timeout(Duration::from_secs(600), all).await, Ok(()));
    assert_eq!(dead.given().len(), 1);
    dead.stop().await;
    alive.stop().await;
}
