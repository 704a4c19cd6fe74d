//! The runners: one for each stream that runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use longshore_broker::module::{Head, Item};
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::deed::Deed;
use super::stream::{BLOCKED_BY_CONFIGURATION, Setup, Stream};
use super::{Streams, now};
use crate::{AnySink, Report, Runner, RunnerOptions};

/// How often it is looked whether states are to be retained anew.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two looks at how full queues are, and at accounts that are gone.
const SIZE_TICKS: u64 = 10;
const SWEEP_TICKS: u64 = 60;

impl Streams {
    /// Runs all streams until the broker stops, and then until what they have begun is at an end.
    pub(super) async fn work(self: Arc<Self>) {
        let mut tasks = JoinSet::new();
        let mut known: HashMap<u64, watch::Sender<()>> = HashMap::new();
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut count = 0_u64;
        loop {
            for id in self.take_changed() {
                if let Some(sender) = known.get(&id) {
                    sender.send_replace(());
                } else {
                    let (sender, changed) = watch::channel(());
                    known.insert(id, sender);
                    tasks.spawn_local(Arc::clone(&self).attend(id, changed));
                }
            }
            known.retain(|id, _| self.objects.get(*id).is_some());
            tokio::select! {
                () = self.context.stopped() => break,
                () = self.changed.notified() => {}
                Some(done) = tasks.join_next() => {
                    if let Err(error) = done && error.is_panic() {
                        std::panic::resume_unwind(error.into_panic());
                    }
                }
                _ = ticks.tick() => {
                    count += 1;
                    self.renew(count.is_multiple_of(SIZE_TICKS));
                    if count.is_multiple_of(SWEEP_TICKS) {
                        let streams = Arc::clone(&self);
                        // It comes again if it does not end.
                        drop(spawn_blocking(move || streams.objects.sweep()));
                    }
                }
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    /// Runs one stream as it is, again after each change, until it is gone.
    async fn attend(self: Arc<Self>, id: u64, mut changed: watch::Receiver<()>) {
        let mut was_invalid = false;
        loop {
            changed.mark_unchanged();
            let Some(stream) = self.objects.get(id) else { break };
            let is_invalid = stream.setup.is_none();
            match (was_invalid, is_invalid) {
                (false, true) => self.tell_blocked(&stream, BLOCKED_BY_CONFIGURATION),
                (true, false) => self.tell(stream.head(), Deed::Unblocked, Map::new()),
                _ => {}
            }
            was_invalid = is_invalid;
            let stop = async {
                tokio::select! {
                    // Nobody to say so is a stream that is gone.
                    _ = changed.changed() => {}
                    () = self.context.stopped() => {}
                }
            };
            match stream.running() {
                Some(setup) => self.run_stream(&stream, setup, stop).await,
                None => stop.await,
            }
            if self.is_stopped() {
                return;
            }
        }
        if let Err(error) = self.queues.remove(id).await {
            tracing::error!(stream = id, %error, "the queue of a stream that is gone is left");
        }
    }

    /// Writes the packets of streams until the broker stops.
    pub(super) async fn keep_packets(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = self.context.stopped() => return,
                () = sleep(TICK) => Arc::clone(&self).keep_packets_once().await,
            }
        }
    }

    pub(super) async fn keep_packets_once(self: Arc<Self>) {
        if self.packets.is_empty() {
            return;
        }
        // It says itself what is wrong.
        let _ = spawn_blocking(move || {
            self.packets.keep(|id| match self.objects.get(id) {
                Some(stream) => stream.packets_ttl,
                // One that could not be read has not said for how long.
                None if self.objects.has_row(id) => u64::MAX,
                None => 0,
            });
        })
        .await;
    }

    async fn run_stream(&self, stream: &Stream, setup: &Setup, stop: impl Future<Output = ()>) {
        let mut options = RunnerOptions::new(now);
        options.batch_messages = setup.configuration.batch_messages();
        let head = stream.head();
        // What was checked when it was sent is right.
        let sink = AnySink::new(&setup.configuration, &self.targets, &head.id.to_string());
        let (sink, rules, queue) = match (sink, setup.rules(), self.queue(stream)) {
            (Ok(mut sink), Ok(rules), Ok(queue)) => {
                if setup.keeps_packets {
                    sink.record(&self.packets, head.id);
                }
                (sink, rules, queue)
            }
            (sink, rules, queue) => {
                let error = [
                    sink.err().map(|it| it.to_string()),
                    rules.err().map(|it| it.to_string()),
                    queue.err().map(|it| it.to_string()),
                ];
                let error = error.into_iter().flatten().next().unwrap_or_default();
                tracing::error!(stream = head.id, error, "a stream cannot run");
                return stop.await;
            }
        };
        tokio::pin!(stop);
        let runner = Runner::new(queue, rules, sink, options);
        let ended = runner.run(&mut stop, |report| self.report(stream, &report)).await;
        if stream.live.connected(false) {
            self.tell(head, Deed::Lost, Map::new());
        }
        if let Err(error) = ended {
            tracing::error!(stream = head.id, %error, "a stream stands still until it is changed");
            stop.await;
        }
    }

    /// What a runner has to say goes in the log (R6.13, R8.7).
    fn report(&self, stream: &Stream, report: &Report) {
        let head = stream.head();
        let was_connected = stream.live.connected(report.is_connected);
        if report.is_connected && !was_connected {
            self.tell(head, Deed::Connected, Map::new());
        }
        if let Some(failure) = &report.failure {
            let fields = fields(json!({"error_code": failure.code, "error_text": failure.text}));
            self.tell(head, Deed::Failed, fields);
        }
        if !report.is_connected && was_connected {
            self.tell(head, Deed::Lost, Map::new());
        }
        if report.read > 0 {
            self.tell_sent(head, report);
        }
        if report.has_unblocked {
            self.tell(head, Deed::Unblocked, Map::new());
        }
    }

    /// Says what became of messages (R6.13).
    pub(super) fn tell_sent(&self, head: Head, report: &Report) {
        let fields = fields(json!({
            "read": report.read, "skipped": report.skipped, "accepted": report.accepted,
            "rejected": report.rejected, "messages": report.read,
            "ack_latency": report.ack_latency.as_secs_f64(),
        }));
        self.tell(head, Deed::Sent, fields);
    }

    /// Retains what is known of streams where that has changed.
    fn renew(&self, with_size: bool) {
        for stream in self.objects.list() {
            if let Some(before) = stream.live.renew(with_size) {
                let mut before = stream.shown_in(before);
                before.insert("id".to_owned(), stream.head().id.into());
                before.insert("cid".to_owned(), stream.head().account.into());
                self.objects.renew(stream.head().id, &before);
            }
        }
    }
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}
