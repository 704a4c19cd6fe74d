//! What a stream does: takes a batch, sends it, and tries again until it is taken.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use tokio::pin;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::backoff::Backoff;
use crate::failure::{Failure, TIMEOUT};
use crate::message::{Message, Rules};
use crate::queue::{Queue, QueueError};
use crate::sink::{Outcome, Sink};

/// What a batch has that is under way when its stream is stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// How a runner works.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RunnerOptions {
    /// Messages of a batch. Default 1,000.
    pub batch_messages: usize,
    /// Bytes of a batch as it is in the queue; a larger message is a batch of its own. Default
    /// 4 MiB. This is what a stream may have in memory, some times over, while it sends.
    pub batch_bytes: usize,
    /// How long a batch that is not full waits after the one before it has begun: where messages
    /// come one by one, they go out together. Default 20 ms.
    pub interval: Duration,
    /// How long a batch may take, connecting included. Default 60 s.
    pub send_timeout: Duration,
    /// The time, in microseconds since 1970.
    pub now: fn() -> u64,
}

impl RunnerOptions {
    /// The defaults, with a clock.
    #[must_use]
    pub fn new(now: fn() -> u64) -> Self {
        Self {
            batch_messages: 1_000,
            batch_bytes: 4 << 20,
            interval: Duration::from_millis(20),
            send_timeout: Duration::from_secs(60),
            now,
        }
    }
}

/// What a runner has to say: about a batch (R6.13, event 404), or that the connection has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// Messages read from the queue. 0 if this is about the connection alone.
    pub read: usize,
    /// Of those, ones that were not to be sent, or could not.
    pub skipped: usize,
    /// Of those, ones that the target took.
    pub accepted: usize,
    /// Of those, ones that the target did not take. They stay in the queue.
    pub rejected: usize,
    /// From the first byte to the last acknowledgement, the connection included.
    pub ack_latency: Duration,
    /// Why messages were rejected (event 403 where no connection could be made).
    pub failure: Option<Failure>,
    /// Whether there is a connection now. A change is event 401 or 402.
    pub is_connected: bool,
    /// The queue was blocked, and has room again (R6.12).
    pub has_unblocked: bool,
}

/// Sends what is in a queue to a sink, until it is stopped. It holds one batch at a time, and none
/// while it waits: a target that is gone costs disk and nothing else.
pub struct Runner<S> {
    queue: Queue,
    rules: Rules,
    sink: S,
    options: RunnerOptions,
    /// Whether the last report said that there is a connection.
    was_connected: bool,
    /// The place behind the batch that is to be tried again.
    retried: Option<u64>,
}

/// What came of looking for a batch.
enum Attempt {
    Made(Report),
    Nothing,
    Stopped(Option<Report>),
}

impl<S: Sink> Runner<S> {
    /// A runner that has not begun.
    #[must_use]
    pub fn new(queue: Queue, rules: Rules, sink: S, options: RunnerOptions) -> Self {
        Self { queue, rules, sink, options, was_connected: false, retried: None }
    }

    /// Runs until `stop` is there. A batch that is under way then has two seconds to be
    /// acknowledged; else it stays in the queue, and its target may get it again.
    ///
    /// # Errors
    /// The queue cannot be read or written any more.
    pub async fn run(
        mut self,
        stop: impl Future<Output = ()>,
        mut report: impl FnMut(Report),
    ) -> Result<(), QueueError> {
        pin!(stop);
        let mut backoff = Backoff::new();
        loop {
            let begun = Instant::now();
            let said = match self.attempt(&mut stop).await? {
                Attempt::Made(said) => said,
                Attempt::Nothing => {
                    tokio::select! {
                        biased;
                        () = &mut stop => return Ok(()),
                        () = self.rest(&mut report) => continue,
                    }
                }
                Attempt::Stopped(said) => {
                    said.into_iter().for_each(report);
                    return Ok(());
                }
            };
            let (has_failed, has_progressed) = (said.failure.is_some(), said.accepted > 0);
            let is_full = said.read >= self.options.batch_messages;
            self.was_connected = said.is_connected;
            report(said);
            if has_progressed || !has_failed {
                backoff = Backoff::new();
            }
            let pause = async {
                match (has_failed, is_full) {
                    (true, _) => sleep(backoff.wait()).await,
                    (false, true) => {}
                    (false, false) => sleep_until(begun + self.options.interval).await,
                }
            };
            tokio::select! {
                biased;
                () = &mut stop => return Ok(()),
                () = pause => {}
            }
        }
    }

    /// Waits for messages, and looks after the connection meanwhile.
    async fn rest(&mut self, report: &mut impl FnMut(Report)) {
        tokio::select! {
            () = self.queue.grown() => return,
            () = self.sink.idle() => {}
        }
        self.sink.close();
        if std::mem::take(&mut self.was_connected) {
            report(Report::default());
        }
        self.queue.grown().await;
    }

    /// Sends the batch at the front, if there is one.
    async fn attempt(
        &mut self,
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> Result<Attempt, QueueError> {
        let (options, now) = (self.options, (self.options.now)());
        // What failed is tried again as it was, whatever has come since (R6.11).
        let end = self.retried.take().unwrap_or(u64::MAX);
        let limits = (options.batch_messages, options.batch_bytes);
        let mut read = self.queue.read(limits.0, limits.1, end, now).await?;
        if read.messages.is_empty() && end < u64::MAX {
            // The whole of it has waited too long, or was taken away.
            let has_unblocked = read.has_unblocked;
            read = self.queue.read(limits.0, limits.1, u64::MAX, now).await?;
            read.has_unblocked |= has_unblocked;
        }
        if read.messages.is_empty() && read.has_unblocked {
            return Ok(Attempt::Made(Report {
                has_unblocked: true,
                is_connected: self.sink.is_connected(),
                ..Report::default()
            }));
        }
        if read.messages.is_empty() {
            return Ok(Attempt::Nothing);
        }
        let all: Vec<_> = read.messages.iter().map(|(place, json)| (*place, json.len())).collect();
        let (places, messages) = self.apply(read.messages, now);
        let begun = Instant::now();
        let (outcome, has_stopped) = self.send(&messages, stop).await;
        let Some(outcome) = outcome else { return Ok(Attempt::Stopped(None)) };
        let settled = outcome.settled.min(messages.len());
        // Messages that the rules left out go with what is settled before them.
        let front = match places.get(settled) {
            Some(place) => all.partition_point(|(it, _)| it < place),
            None => all.len(),
        };
        let skipped = outcome.skipped.min(settled);
        let mut report = Report {
            read: all.len(),
            skipped: front - settled + skipped,
            accepted: settled - skipped,
            rejected: all.len() - front,
            ack_latency: begun.elapsed(),
            failure: outcome.failure,
            has_unblocked: read.has_unblocked,
            ..Report::default()
        };
        if report.failure.is_some() {
            self.sink.close();
            self.retried = Some(read.end);
        }
        report.has_unblocked |= self.queue.acknowledge_read(&all[..front]).await?;
        report.is_connected = self.sink.is_connected();
        Ok(if has_stopped { Attempt::Stopped(Some(report)) } else { Attempt::Made(report) })
    }

    /// Messages that are to be sent, with their places. What is no message is left out, for it will
    /// never be one.
    fn apply(&self, read: Vec<(u64, Vec<u8>)>, now: u64) -> (Vec<u64>, Vec<Message>) {
        let now_secs = now as f64 / 1e6;
        let apply = |(place, json): (u64, Vec<u8>)| {
            let message = self.rules.apply(Message::read(json)?, now_secs)?;
            Some((place, message))
        };
        read.into_iter().filter_map(apply).unzip()
    }

    /// Nothing is a batch that was under way when it had to stop. Also says whether it has to.
    async fn send(
        &mut self,
        messages: &[Message],
        stop: &mut (impl Future<Output = ()> + Unpin),
    ) -> (Option<Outcome>, bool) {
        if messages.is_empty() {
            return (Some(Outcome::accepted(0)), false);
        }
        let (limit, count) = (self.options.send_timeout, messages.len());
        let sending = timeout(limit, self.sink.send(messages));
        pin!(sending);
        let (sent, has_stopped) = tokio::select! {
            sent = &mut sending => (sent, false),
            () = stop => match timeout(STOP_TIMEOUT, sending).await {
                Ok(sent) => (sent, true),
                Err(_) => return (None, true),
            },
        };
        let outcome = match sent {
            // Who has not taken all has to say why, or the batch would go round and round.
            Ok(outcome) if outcome.failure.is_none() => Outcome { settled: count, ..outcome },
            Ok(outcome) => outcome,
            Err(_) => {
                let text = format!("the target did not take the batch within {limit:?}");
                Outcome::failed(Failure::new(TIMEOUT, text))
            }
        };
        (Some(outcome), has_stopped)
    }
}

impl<S: fmt::Debug> fmt::Debug for Runner<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Runner");
        shown.field("queue", &self.queue).field("sink", &self.sink).finish_non_exhaustive()
    }
}
