//! Trackers that speak Wialon IPS: all of them tasks of one thread.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::runtime;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::histogram::Histogram;

/// How long a tracker waits for an answer, and until it connects again.
const PATIENCE: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(1);
/// Trackers that begin to connect in a millisecond.
const CONNECTS_PER_MILLI: u32 = 2;

/// What trackers have done so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) connected: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) acknowledged: AtomicU64,
    /// Connections that ended before their time.
    pub(super) lost: AtomicU64,
    /// From the last byte of a message to the last byte of its answer.
    latency: Mutex<Histogram>,
    is_at_work: AtomicBool,
    is_over: AtomicBool,
}

impl Counts {
    /// Lets those that are connected send.
    pub(super) fn begin(&self) {
        self.is_at_work.store(true, Ordering::Relaxed);
    }

    /// Ends them all.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    fn is_at_work(&self) -> bool {
        self.is_at_work.load(Ordering::Relaxed)
    }

    /// How long messages took to be acknowledged.
    pub(super) fn quantile(&self, part: f64) -> Option<Duration> {
        self.latency.lock().unwrap_or_else(PoisonError::into_inner).quantile(part)
    }
}

/// Where trackers are, and what they do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Orders {
    pub(super) channel: SocketAddr,
    pub(super) count: u32,
    pub(super) interval: Duration,
}

/// The ident of a tracker.
pub(super) fn ident(number: u32) -> String {
    format!("bench-{number:06}")
}

/// Starts the thread of all trackers; it ends when they are told to.
pub(super) fn start(orders: Orders, counts: &Arc<Counts>) -> io::Result<thread::JoinHandle<()>> {
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    let counts = Arc::clone(counts);
    thread::Builder::new().name("trackers".to_owned()).spawn(move || {
        let (tasks, latency) = (LocalSet::new(), Rc::<RefCell<Histogram>>::default());
        for number in 0..orders.count {
            let tracker =
                Tracker { number, orders, counts: Arc::clone(&counts), latency: latency.clone() };
            tasks.spawn_local(tracker.run());
        }
        runtime.block_on(tasks);
        let all = std::mem::take(&mut *latency.borrow_mut());
        *counts.latency.lock().unwrap_or_else(PoisonError::into_inner) = all;
    })
}

struct Tracker {
    number: u32,
    orders: Orders,
    counts: Arc<Counts>,
    latency: Rc<RefCell<Histogram>>,
}

impl Tracker {
    async fn run(self) {
        sleep(Duration::from_millis(u64::from(self.number / CONNECTS_PER_MILLI))).await;
        while !self.counts.is_over() {
            let Ok(stream) = self.log_in().await else {
                sleep(AGAIN).await;
                continue;
            };
            self.counts.connected.fetch_add(1, Ordering::Relaxed);
            let done = self.work(&stream).await;
            self.counts.connected.fetch_sub(1, Ordering::Relaxed);
            if done.is_err() {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
                sleep(AGAIN).await;
            }
        }
    }

    async fn log_in(&self) -> io::Result<TcpStream> {
        let stream = timeout(PATIENCE, TcpStream::connect(self.orders.channel)).await??;
        stream.set_nodelay(true)?;
        write(&stream, format!("#L#{};NA\r\n", ident(self.number)).as_bytes()).await?;
        expect(&stream, b"#AL#1\r\n").await?;
        Ok(stream)
    }

    /// Sends a message each interval, from a moment on that is another for each tracker.
    async fn work(&self, stream: &TcpStream) -> io::Result<()> {
        let Orders { interval, count, .. } = self.orders;
        while !self.counts.is_at_work() {
            if self.counts.is_over() {
                return Ok(());
            }
            sleep(Duration::from_millis(100)).await;
        }
        let mut next = Instant::now() + interval.mul_f64(f64::from(self.number) / f64::from(count));
        for turn in 0_u32.. {
            sleep_until(next).await;
            if self.counts.is_over() {
                break;
            }
            let begun = Instant::now();
            self.counts.sent.fetch_add(1, Ordering::Relaxed);
            write(stream, message(self.number, turn).as_bytes()).await?;
            expect(stream, b"#AD#1\r\n").await?;
            self.counts.acknowledged.fetch_add(1, Ordering::Relaxed);
            self.latency.borrow_mut().add(begun.elapsed());
            // One that is late has less to say, as trackers do.
            next = (next + interval).max(Instant::now());
        }
        Ok(())
    }
}

/// A message as trackers on the road send it.
fn message(number: u32, turn: u32) -> String {
    let (minutes, speed, course) = (turn % 60, 40 + number % 50, (number + turn) % 360);
    format!(
        "#D#NA;NA;5354.{number:05};N;02731.{minutes:02}000;E;{speed};{course};300;7;1.1;1;0;\
         14.77,0.02;NA;ign:1:1,fuel:2:45.8,turn:1:{turn}\r\n"
    )
}

async fn write(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        timeout(PATIENCE, stream.writable()).await??;
        match stream.try_write(bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads an answer, which must be this one.
async fn expect(stream: &TcpStream, want: &[u8]) -> io::Result<()> {
    let (mut got, mut len) = ([0; 32], 0);
    while len < want.len() {
        timeout(PATIENCE, stream.readable()).await??;
        match stream.try_read(&mut got[len..]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    if got[..len] == *want { Ok(()) } else { Err(io::ErrorKind::InvalidData.into()) }
}
