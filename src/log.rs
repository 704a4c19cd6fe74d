//! The log of the binary: events of `tracing` become lines on stderr, and nobody waits for them.
//!
//! A thread that logs hands a [`Record`] to a bounded queue and goes on; what finds the queue full
//! is counted, not kept. One thread writes the lines, so a blocked stderr stalls nobody else.
//!
//! An event with a field `cause` is collapsed: of equal causes from one `peer` (an address, with or
//! without port), or else one `client`, the first is written at once, the others as one line a
//! second that says how many they were. What is no warning is of one `client` too. Texts of clients
//! are hostile: see [`mod@line`].

mod collapse;
mod line;
mod queue;

use std::fmt::{self, Write};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use self::queue::Queue;
use crate::config::LogSettings;

/// Records that may wait for the log thread. A storm of thousands of clients fits while stderr
/// takes what it is given; at a few hundred bytes each they stay below a megabyte.
const QUEUE_RECORDS: usize = 4_096;

/// One event on its way to the log thread.
#[derive(Debug, Clone)]
struct Record {
    time: SystemTime,
    level: Level,
    /// The module that logged.
    target: &'static str,
    /// The place in the source; `None` for the log's own records.
    callsite: Option<Identifier>,
    message: String,
    fields: Vec<(&'static str, FieldValue)>,
}

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
enum FieldValue {
    /// A number or truth value, written as it is.
    Plain(String),
    /// A text, quoted and escaped where it needs to be.
    Text(String),
}

impl FieldValue {
    fn as_str(&self) -> &str {
        match self {
            Self::Plain(text) | Self::Text(text) => text,
        }
    }
}

/// The running log. Keep it until the end of `main`, then [`Log::close`] it.
pub(crate) struct Log {
    queue: Arc<Queue>,
    levels: Box<dyn Fn(Targets) + Send + Sync>,
}

impl Log {
    /// Starts the log thread and takes the events of every thread from now on.
    pub(crate) fn start(settings: &LogSettings) -> Result<Self, TryInitError> {
        let queue = Queue::start(QUEUE_RECORDS, settings.format, Box::new(io::stderr()));
        let (levels, handle) = reload::Layer::new(levels(settings));
        let lines = Lines { queue: Arc::clone(&queue) };
        tracing_subscriber::registry().with(lines.with_filter(levels)).try_init()?;
        log_panics(Arc::clone(&queue));
        let levels = move |levels| {
            // The only error is that the subscriber is gone, and then there is no level to change.
            let _ = handle.reload(levels);
        };
        Ok(Self { queue, levels: Box::new(levels) })
    }

    /// Takes over another level.
    pub(crate) fn relevel(&self, settings: &LogSettings) {
        (self.levels)(levels(settings));
    }

    /// Waits until what was logged is written, but not for a blocked stderr.
    pub(crate) fn close(&self) {
        self.queue.flush();
    }
}

fn levels(settings: &LogSettings) -> Targets {
    // The configuration has parsed it once; a level that does not parse logs everything of note.
    settings.level.parse().unwrap_or_else(|_| Targets::new().with_default(Level::INFO))
}

/// A panic is one line of the log like any other, and is written before the process may end.
fn log_panics(queue: Arc<Queue>) {
    std::panic::set_hook(Box::new(move |panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let what = panic.payload_as_str().unwrap_or("a panic without a message");
        tracing::error!(place, "panic: {what}");
        queue.flush();
    }));
}

/// The layer that turns events into records.
struct Lines {
    queue: Arc<Queue>,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let metadata = event.metadata();
        let mut record = Record::new(*metadata.level(), metadata.target());
        record.callsite = Some(metadata.callsite());
        event.record(&mut record);
        self.queue.push(record);
    }
}

impl Record {
    fn new(level: Level, target: &'static str) -> Self {
        Self {
            time: SystemTime::now(),
            level,
            target,
            callsite: None,
            message: String::new(),
            fields: Vec::new(),
        }
    }

    /// Says that `lost` records found the queue full.
    fn overflow(lost: u64) -> Self {
        Self::lost(lost, "log lines lost: whoever reads the log is too slow")
    }

    /// Says that `lost` lines could not be written.
    fn unwritten(lost: u64) -> Self {
        Self::lost(lost, "log lines lost: they could not be written (is the disk full?)")
    }

    fn lost(lost: u64, message: &str) -> Self {
        let mut record = Self::new(Level::WARN, module_path!());
        record.message = message.to_owned();
        record.fields.push(("lost", FieldValue::Plain(lost.to_string())));
        record
    }

    fn add(&mut self, field: &Field, value: FieldValue) {
        if field.name() == "message" {
            self.message = value.as_str().to_owned();
        } else {
            self.fields.push((field.name(), value));
        }
    }

    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(it, _)| *it == name).map(|(_, value)| value.as_str())
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = line::Capped::default();
        // Writing to a capped text never fails; a Debug that does leaves what it wrote before.
        let _ = write!(&mut text, "{value:?}");
        self.add(field, FieldValue::Text(text.unquoted().into_string()));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let mut text = line::Capped::default();
        text.push(value);
        self.add(field, FieldValue::Text(text.into_string()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, FieldValue::Plain(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, FieldValue::Plain(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, FieldValue::Plain(value.to_string()));
    }
}

#[cfg(test)]
mod tests;
