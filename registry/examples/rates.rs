//! How fast histories are written and read: `cargo run --release -p longshore-registry --example
//! rates -- [messages] [devices]`.
//!
//! It prints a line for each of six rates. The first three are those of the table alone, a commit
//! with a sync for each batch: by the clock, by the time that the thread which appends has of its
//! processor, for the rest it waits for the disk, and read. The others go through a broker, and so
//! through topics and sockets.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for the terminal")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use longshore_acl::TokenKey;
use longshore_broker::accounts::Options;
use longshore_broker::module::Running;
use longshore_broker::{Broker, Context, Link, Message, Module, Storage};
use longshore_codec::{QoS, ReasonCode};
use longshore_registry::history::{Cursor, key};
use longshore_registry::{Limits, Registry};
use longshore_storage::{Changes, Tables};

/// As in the binary.
#[global_allocator]
static MEMORY: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Messages of a batch.
const BATCH: u64 = 2_048;
/// When the first message was made, in microseconds.
const BEGIN: u64 = 1_700_000_000_000_000;

/// A message of some 300 bytes with a dozen parameters.
fn text(device: u64, at: u64) -> String {
    format!(
        "{{\"channel.id\":7,\"engine.ignition.status\":true,\"gsm.signal.level\":80,\
         \"ident\":\"i{device}\",\"peer\":\"10.0.0.1:5027\",\"position.altitude\":148,\
         \"position.direction\":214,\"position.latitude\":54.6990336,\
         \"position.longitude\":25.2618832,\"position.satellites\":18,\
         \"position.speed\":{},\"protocol.id\":14,\"server.timestamp\":{at}.25,\
         \"timestamp\":{at}}}",
        at % 90
    )
}

fn rate(what: &str, count: u64, begin: Instant) {
    let secs = begin.elapsed().as_secs_f64();
    println!("{what}: {:.0}/s ({count} in {secs:.2} s)", count as f64 / secs);
}

/// Seconds that this thread had of a processor.
fn processor_secs() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

fn table(messages: u64, devices: u64) {
    let folder = tempfile::tempdir().unwrap();
    let tables = Tables::open(&folder.path().join("tables")).unwrap();
    let table = tables.table("history").unwrap();
    let (begin, before) = (Instant::now(), processor_secs());
    for first in (0..messages).step_by(BATCH as usize) {
        let mut changes = Changes::new();
        for at in first..(first + BATCH).min(messages) {
            let device = at % devices;
            let text = text(device, BEGIN / 1_000_000 + at / devices);
            let key = key(device, BEGIN + at / devices * 1_000_000, BEGIN, at);
            changes.put(&table, &key, text.as_bytes());
        }
        tables.commit(changes).unwrap();
    }
    rate("history, appended", messages, begin);
    let each = messages as f64 / (processor_secs() - before);
    println!("history, appended per second of its core: {each:.0}");
    let (begin, mut count) = (Instant::now(), 0);
    for device in 0..devices {
        let mut cursor = Cursor::new(&table, device, 0, u64::MAX, false);
        while let Some(slice) = cursor.next_slice().unwrap() {
            count += slice.len() as u64;
        }
    }
    rate("history, read by range", count, begin);
}

/// Lends the link of a module.
struct Channel {
    context: Context,
    to: Sender<Link>,
}

impl Module for Channel {
    fn name(&self) -> &'static str {
        "channels"
    }

    fn run(self: Arc<Self>) -> Running {
        Box::pin(async move {
            self.to.send(self.context.link("channels")).unwrap();
            self.context.stopped().await;
        })
    }
}

fn ask(broker: &Broker, key: &str, request: &str, body: &str) -> Vec<u8> {
    let mut socket = TcpStream::connect(broker.addresses()[0].1).unwrap();
    let length = body.len();
    let head = format!(
        "{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\
         Authorization: FlespiToken {key}\r\n\r\n{body}"
    );
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).unwrap();
    answer
}

/// How many messages an answer holds.
fn count(answer: &[u8]) -> u64 {
    answer.windows(16).filter(|window| window == b"\"gsm.signal.leve").count() as u64
}

fn whole(messages: u64, devices: u64) {
    let (folder, key) = (tempfile::tempdir().unwrap(), TokenKey::generate().unwrap());
    let (to, links) = channel();
    let to = std::sync::Mutex::new(to);
    let broker = Broker::builder()
        .storage(Storage::at(folder.path().join("journal")))
        .accounts_in(folder.path().to_owned(), key.clone(), Options::default())
        .module(move |context| Ok(Channel { context, to: to.lock().unwrap().clone() }))
        .module(|context| Registry::open(context, Limits::default()))
        .listen("http://127.0.0.1:0")
        .start()
        .unwrap();
    let (link, key) = (links.recv().unwrap(), key.expose().to_owned());
    for first in (0..devices).step_by(1_000) {
        let device =
            |at: u64| format!("{{\"name\":\"d\",\"device_type_id\":14,\"ident\":\"i{at}\"}}");
        let all: Vec<_> = (first..(first + 1_000).min(devices)).map(device).collect();
        ask(&broker, &key, "POST /gw/devices", &format!("[{}]", all.join(",")));
    }
    let publish = |device: u64, text: String| {
        let topic = format!("flespi/message/gw/channels/7/i{device}");
        Message::new(topic, text).qos(QoS::AtLeastOnce).of_account(1)
    };
    // Until the registry listens.
    let probe = || pollster::block_on(link.publish(publish(0, "{}".to_owned()))).unwrap();
    while probe().reason == ReasonCode::NoMatchingSubscribers {}
    let begin = Instant::now();
    for first in (0..messages).step_by(BATCH as usize) {
        let batch = (first..(first + BATCH).min(messages))
            .map(|at| publish(at % devices, text(at % devices, BEGIN / 1_000_000 + at / devices)));
        pollster::block_on(link.publish_all(batch)).unwrap();
    }
    rate("acknowledged to a channel", messages, begin);
    let last = (messages - 1) % devices + 1;
    let path = format!("GET /gw/devices/{last}/messages?data={{%22reverse%22:true,%22count%22:1}}");
    let at = format!("\"timestamp\":{}}}", BEGIN / 1_000_000 + (messages - 1) / devices);
    let is_there = |answer: Vec<u8>| String::from_utf8_lossy(&answer).contains(&at);
    while !is_there(ask(&broker, &key, &path, "")) {
        // It is to measure the registry, and not whoever asks.
        std::thread::sleep(Duration::from_millis(20));
    }
    rate("kept, and published with telemetry", messages, begin);
    let begin = Instant::now();
    let found = count(&ask(&broker, &key, "GET /gw/devices/all/messages", ""));
    rate("read by REST", found, begin);
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|it| it.parse::<u64>().unwrap());
    let messages = arguments.next().unwrap_or(1_000_000);
    let devices = arguments.next().unwrap_or(1_000);
    table(messages, devices);
    whole(messages / 10, devices);
}
