//! The bounded queue to the log thread, and the thread.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use super::collapse::{Collapse, Line};
use super::{Record, line};
use crate::config::LogFormat;

/// Longest wait for the log thread when the process ends; stderr may be blocked for ever.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// The most that is written at once.
const WRITE_BYTES: usize = 64 * 1_024;

/// What goes to the log thread.
enum Item {
    Record(Record),
    /// Write everything, then say so.
    Flush(SyncSender<()>),
}

/// The end that every thread logs into.
pub(super) struct Queue {
    items: SyncSender<Item>,
    /// Records that found the queue full and are not reported yet.
    overflow: Arc<AtomicU64>,
}

impl Queue {
    /// Starts the thread that writes to `output`.
    pub(super) fn start(
        records: usize,
        form: LogFormat,
        output: Box<dyn Write + Send>,
    ) -> Arc<Self> {
        let (items, queued) = sync_channel(records);
        let overflow = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            form,
            output,
            pending: String::new(),
            collapse: Collapse::default(),
            overflow: Arc::clone(&overflow),
            unwritten: 0,
            is_torn: false,
            start: Instant::now(),
        };
        // Without its thread the log counts an overflow; the broker itself works on.
        let _ = thread::Builder::new().name("log".to_owned()).spawn(move || writer.run(&queued));
        Arc::new(Self { items, overflow })
    }

    /// Queues a record, or counts it when there is no room. Never waits.
    pub(super) fn push(&self, record: Record) {
        if self.items.try_send(Item::Record(record)).is_err() {
            self.overflow.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all that was queued before is written, at most [`FLUSH_MAX`].
    pub(super) fn flush(&self) {
        let deadline = Instant::now() + FLUSH_MAX;
        let (done, written) = sync_channel(1);
        let mut item = Item::Flush(done);
        loop {
            match self.items.try_send(item) {
                Ok(()) => break,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => item = back,
                Err(_) => return,
            }
            thread::sleep(Duration::from_millis(1));
        }
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

/// The log thread.
struct Writer {
    form: LogFormat,
    output: Box<dyn Write + Send>,
    /// Lines not yet written.
    pending: String,
    collapse: Collapse,
    overflow: Arc<AtomicU64>,
    /// Lines that the output did not take and that are not reported yet.
    unwritten: u64,
    /// The output ends within a line.
    is_torn: bool,
    start: Instant,
}

impl Writer {
    fn run(mut self, items: &Receiver<Item>) {
        loop {
            let now = self.start.elapsed();
            let next = self.collapse.next();
            let first = match next {
                Some(at) => items.recv_timeout(at.saturating_sub(now)),
                None => items.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match first {
                Ok(item) => self.take(item),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            while self.pending.len() < WRITE_BYTES {
                let Ok(item) = items.try_recv() else { break };
                self.take(item);
            }
            let due = self.collapse.due(self.start.elapsed());
            self.add(due);
            self.write();
        }
        let rest = self.collapse.rest();
        self.add(rest);
        self.write();
    }

    fn take(&mut self, item: Item) {
        match item {
            Item::Record(record) => {
                let line = self.collapse.offer(record, self.start.elapsed());
                self.add(line);
            }
            Item::Flush(done) => {
                let rest = self.collapse.rest();
                self.add(rest);
                self.write();
                let _ = done.try_send(());
            }
        }
    }

    fn add(&mut self, lines: impl IntoIterator<Item = Line>) {
        for (record, times) in lines {
            self.pending.push_str(&line::format(&record, times, self.form));
        }
    }

    /// Writes what is pending, and says how much is missing before and behind it. An output that
    /// fails (on a full disk, closed) is tried again with the next lines.
    fn write(&mut self) {
        if self.unwritten > 0 && self.report(&Record::unwritten(self.unwritten)) {
            self.unwritten = 0;
        }
        let mut pending = std::mem::take(&mut self.pending);
        self.unwritten += self.put(&pending);
        pending.clear();
        self.pending = pending;
        let lost = self.overflow.swap(0, Ordering::Relaxed);
        if lost > 0 && !self.report(&Record::overflow(lost)) {
            self.overflow.fetch_add(lost, Ordering::Relaxed);
        }
        let _ = self.output.flush();
    }

    /// Writes one line; whether the output took it.
    fn report(&mut self, record: &Record) -> bool {
        self.put(&line::format(record, 1, self.form)) == 0
    }

    /// Writes `lines`; how many of them the output did not take whole.
    fn put(&mut self, lines: &str) -> u64 {
        let ends = |lines: &[u8]| lines.iter().filter(|byte| **byte == b'\n').count() as u64;
        let lines = lines.as_bytes();
        if self.is_torn && !lines.is_empty() {
            self.is_torn = self.write_some(b"\n") == 0;
            if self.is_torn {
                return ends(lines);
            }
        }
        let (written, rest) = lines.split_at(self.write_some(lines));
        if let Some(last) = written.last() {
            self.is_torn = *last != b'\n';
        }
        ends(rest)
    }

    /// Writes until all is written or the output fails; how many bytes it took.
    fn write_some(&mut self, bytes: &[u8]) -> usize {
        let mut written = 0;
        while written < bytes.len() {
            match self.output.write(&bytes[written..]) {
                Ok(count) if count > 0 => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        written
    }
}
