//! `longshore bench fleet`: trackers, the platform that gets what they say, and beside them a plain
//! pair of clients that shows what the fleet costs others.
//!
//! ```text
//! trackers --> channel --> devices --> stream --> platform
//! publisher ------------------------------------> subscriber
//! ```

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};

use self::histogram::Histogram;
use self::hub::Hub;
use self::pair::Pair;
use self::platform::Platform;
use self::process::Process;
use self::trackers::{Counts, Orders};
use crate::cli::FleetOptions;
use crate::config::{MASTER_TOKEN_ENV, Place, Problem};
use crate::data_dir::DataDir;
use crate::token::known_key;

mod histogram;
mod hub;
mod pair;
mod platform;
mod process;
mod trackers;

/// How often progress is told.
const TICK: Duration = Duration::from_secs(1);
/// How long trackers may take to connect, and how long nothing may come of what was acknowledged
/// until it is taken for lost.
const PATIENCE: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_secs(10);
/// The pair is measured alone for this part of the time, and so many seconds at most.
const ALONE_PART: u64 = 6;
const ALONE_SECS_MAX: u64 = 10;

/// What is measured; of the broker only where its process is named.
#[derive(Debug, Default)]
struct Figures {
    sent: u64,
    acknowledged: u64,
    streamed: u64,
    lost: u64,
    secs: f64,
    /// Memory of the broker: before anything was made, with all devices, with all connected, and at
    /// the end.
    memory: [Option<u64>; 4],
    cpu: Option<Duration>,
    alone: Histogram,
    beside: Histogram,
}

/// Runs it and prints a table.
pub(crate) fn fleet(options: &FleetOptions) -> Result<(), Problem> {
    process::allow_connections(options.trackers)?;
    let process = options.broker_pid.map(Process::find).transpose()?;
    let key = match &options.token {
        Some(key) => key.clone(),
        None => {
            let environment = std::env::var(MASTER_TOKEN_ENV).ok();
            known_key(&DataDir::at(&options.data.data_dir), environment.as_deref())?
        }
    };
    let is_over = Arc::<AtomicBool>::default();
    for signal in [SIGINT, SIGTERM] {
        let registered = signal_hook::flag::register(signal, Arc::clone(&is_over));
        registered.map_err(|error| everywhere(error.to_string()))?;
    }
    let mut hub = Hub::new(&options.url, &key)?;
    let platform = Platform::open(options.platform)?;
    let pair = Pair::open(&options.mqtt, &key)?;
    let done = measure(options, &mut hub, &platform, pair, process, &is_over);
    let cleaned = if options.keep { Ok(()) } else { hub.clean_up() };
    let (figures, counts) = done?;
    print(options, &figures, &counts);
    cleaned
}

fn measure(
    options: &FleetOptions,
    hub: &mut Hub,
    platform: &Platform,
    pair: Pair,
    process: Option<Process>,
    is_over: &Arc<AtomicBool>,
) -> Result<(Figures, Arc<Counts>), Problem> {
    let memory = || process.and_then(Process::memory);
    let mut figures = Figures::default();
    figures.memory[0] = memory();
    let channel = hub.make_channel()?;
    hub.make_devices(options.trackers)?;
    hub.make_stream(platform)?;
    figures.memory[1] = memory();
    let probes = platform.taken();
    say("the pair alone");
    let alone_secs = (options.seconds / ALONE_PART).clamp(1, ALONE_SECS_MAX);
    let (pair, alone) = beside(pair, || pause(Duration::from_secs(alone_secs), is_over))?;
    figures.alone = alone;
    let counts = Arc::<Counts>::default();
    let interval = Duration::from_millis(options.interval_ms);
    let orders = Orders { channel, count: options.trackers, interval };
    let trackers = trackers::start(orders, &counts);
    let trackers = trackers.map_err(|error| everywhere(format!("no trackers: {error}")))?;
    let connected = connect(options, &counts, is_over);
    figures.memory[2] = memory();
    let streamed = || platform.taken() - probes;
    let cpu = process.and_then(Process::cpu);
    let begun = Instant::now();
    let worked = connected.and_then(|()| {
        beside(pair, || {
            counts.begin();
            for _ in 0..options.seconds {
                pause(TICK, is_over);
                progress(&begun, &counts, streamed());
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
        })
    });
    figures.secs = begun.elapsed().as_secs_f64();
    figures.memory[3] = memory();
    counts.end();
    // Trackers that wait for an answer have a moment for it.
    let _ = trackers.join();
    (_, figures.beside) = worked?;
    drain(&begun, &counts, &streamed, is_over);
    figures.cpu = process.and_then(Process::cpu).zip(cpu).map(|(now, then)| now - then);
    figures.sent = counts.sent.load(Ordering::Relaxed);
    figures.acknowledged = counts.acknowledged.load(Ordering::Relaxed);
    figures.lost = counts.lost.load(Ordering::Relaxed);
    figures.streamed = streamed();
    Ok((figures, counts))
}

/// Has the pair at work while something else is done.
fn beside(mut pair: Pair, work: impl FnOnce()) -> Result<(Pair, Histogram), Problem> {
    let is_done = Arc::<AtomicBool>::default();
    let told = Arc::clone(&is_done);
    let thread = thread::spawn(move || {
        let histogram = pair.run(&told);
        (pair, histogram)
    });
    work();
    is_done.store(true, Ordering::Relaxed);
    let (pair, histogram) =
        thread.join().map_err(|_| everywhere("the pair has panicked".to_owned()))?;
    Ok((pair, histogram?))
}

/// Waits until all trackers are connected.
fn connect(options: &FleetOptions, counts: &Counts, is_over: &AtomicBool) -> Result<(), Problem> {
    let begun = Instant::now();
    loop {
        let connected = counts.connected.load(Ordering::Relaxed);
        if connected >= u64::from(options.trackers) || is_over.load(Ordering::Relaxed) {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(everywhere(format!(
                "{connected} of {} trackers are connected after {PATIENCE:?}: has the broker \
                 enough open files (ulimit -n there), and its channels.connections enough?",
                options.trackers
            )));
        }
        say(&format!("{connected} of {} trackers connected", options.trackers));
        pause(TICK, is_over);
    }
}

/// Waits until the platform has all that was acknowledged, or nothing comes any more.
fn drain(begun: &Instant, counts: &Counts, streamed: &dyn Fn() -> u64, is_over: &AtomicBool) {
    let (mut last, mut since) = (streamed(), Instant::now());
    let has_all = |streamed: u64| streamed >= counts.acknowledged.load(Ordering::Relaxed);
    while !has_all(last) && since.elapsed() < QUIET && !is_over.load(Ordering::Relaxed) {
        pause(TICK, is_over);
        progress(begun, counts, streamed());
        if last < streamed() {
            (last, since) = (streamed(), Instant::now());
        }
    }
}

/// Waits for a time, or until somebody has said that it is over.
fn pause(time: Duration, is_over: &AtomicBool) {
    let begun = Instant::now();
    while begun.elapsed() < time && !is_over.load(Ordering::Relaxed) {
        let left = time.saturating_sub(begun.elapsed());
        thread::sleep(left.min(Duration::from_millis(50)));
    }
}

fn progress(begun: &Instant, counts: &Counts, streamed: u64) {
    let of = |count: &std::sync::atomic::AtomicU64| count.load(Ordering::Relaxed);
    say(&format!(
        "{:>5.0} s  connected {}  sent {}  acknowledged {}  streamed {streamed}",
        begun.elapsed().as_secs_f64(),
        of(&counts.connected),
        of(&counts.sent),
        of(&counts.acknowledged)
    ));
}

fn print(options: &FleetOptions, figures: &Figures, counts: &Counts) {
    let shown = |time: Option<Duration>| {
        time.map_or_else(|| "-".to_owned(), |it| format!("{:.2} ms", it.as_secs_f64() * 1e3))
    };
    let both = |quantile: &dyn Fn(f64) -> Option<Duration>| {
        format!("p50 {}  p99 {}", shown(quantile(0.5)), shown(quantile(0.99)))
    };
    let rate = figures.acknowledged as f64 / figures.secs.max(1e-3);
    let mut rows = vec![
        ("trackers", options.trackers.to_string()),
        ("messages sent", figures.sent.to_string()),
        ("acknowledged", format!("{} ({rate:.0} a second)", figures.acknowledged)),
        ("streamed", figures.streamed.to_string()),
        ("connections lost", figures.lost.to_string()),
        ("acknowledgement", both(&|part| counts.quantile(part))),
        ("pair alone", both(&|part| figures.alone.quantile(part))),
        ("pair beside the fleet", both(&|part| figures.beside.quantile(part))),
    ];
    if let Some(cpu) = figures.cpu {
        let each = cpu.as_secs_f64() * 1e6 / figures.acknowledged.max(1) as f64;
        rows.push(("broker CPU per message", format!("{each:.0} us")));
    }
    if let [Some(before), Some(made), Some(connected), Some(end)] = figures.memory {
        let mb = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
        let each = |more: u64| format!("{} bytes", more / u64::from(options.trackers));
        rows.push(("broker memory at the end", mb(end)));
        rows.push(("memory of a device", each(made.saturating_sub(before))));
        rows.push(("memory of a connection", each(connected.saturating_sub(made))));
    }
    let text: String = rows.iter().map(|(name, value)| format!("{name:<26}{value}\n")).collect();
    say("");
    // A reader that is gone has seen enough.
    let _ = io::stdout().write_all(text.as_bytes());
}

/// Tells progress: in one line that changes where somebody looks on, else in many.
fn say(text: &str) {
    let mut out = io::stderr();
    let _ = match out.is_terminal() {
        true => write!(out, "\r\x1b[K{text}").and_then(|()| out.flush()),
        false => writeln!(out, "{text}"),
    };
}

fn everywhere(what: String) -> Problem {
    Problem { place: Place::Everywhere, what }
}
