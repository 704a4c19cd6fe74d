//! `examples/receiver.rs` takes what a channel has to its handlers, however often it is killed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::certificates::Certificates;
use super::flespi::Flespi;
use super::process::{PATIENCE, Process};
use super::tools::{mosquitto, unwanted};

/// Messages of a test, and when the first was true.
const MESSAGES: u64 = 600;
const BEGIN: u64 = 1_700_000_000;

/// The receiver, which is built with the tests.
fn receiver(hub: &Hub, scheme: &str) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_longshore"));
    let example = binary.with_file_name("examples").join("receiver");
    let missing =
        "`cargo build --example receiver --profile test` builds it, and so does `cargo test`";
    assert!(example.exists(), "{} is missing. {missing}", example.display());
    let mut command = Command::new(example);
    command.args(["--hub", &hub.flespi.url(scheme), "--channel", &hub.channel.to_string()]);
    command.args(["--batch", "50", "--token-file"]).arg(hub.flespi.token_file());
    command
}

/// A broker with a channel of Wialon IPS.
struct Hub {
    flespi: Flespi,
    channel: u64,
    address: SocketAddr,
}

impl Hub {
    fn start() -> Self {
        Self::start_with(&["mqtt", "http"], &[])
    }

    /// The same with listeners for these schemes, and these settings.
    fn start_with(schemes: &[&str], settings: &[(&str, &str)]) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_longshore"));
        let of_channels = [("MODULES__CHANNELS", "true"), ("CHANNELS__HOST", "127.0.0.1")];
        let flespi = Flespi::start_as(program, schemes, &[&of_channels, settings].concat());
        let body = r#"[{"name": "trackers", "protocol_name": "wialon_ips"}]"#;
        let made = flespi.ask("POST", "/gw/channels", body);
        let channel = &made["result"][0];
        let address = channel["uri"].as_str().expect("it listens").parse();
        let channel = channel["id"].as_u64().expect("it was made");
        Self { channel, address: address.expect("an address"), flespi }
    }

    /// A tracker that says where it is, many times; it waits for each answer.
    fn tracker(&self) -> thread::JoinHandle<()> {
        let address = self.address;
        thread::spawn(move || {
            let mut tracker = TcpStream::connect(address).expect("the channel listens");
            let mut answers = BufReader::new(tracker.try_clone().expect("a socket"));
            let mut say = |line: &str, want: &str| {
                tracker.write_all(format!("{line}\r\n").as_bytes()).expect("it is open");
                let mut answer = String::new();
                answers.read_line(&mut answer).expect("it is open");
                assert_eq!(answer.trim(), want, "{line}");
            };
            say("#L#353451000000017;NA", "#AL#1");
            for n in 0..MESSAGES {
                // BEGIN is 2023-11-14 22:13:20.
                let (minute, second) = (13 + (20 + n) / 60, (20 + n) % 60);
                let place = "5544.6025;N;03739.6834;E;60;215;155;7";
                say(&format!("#SD#141123;22{minute:02}{second:02};{place}"), "#ASD#1");
            }
        })
    }

    /// Times of the messages that the channel still has.
    fn held(&self) -> BTreeSet<u64> {
        let path = format!("/gw/channels/{}/messages", self.channel);
        let answer = self.flespi.ask("GET", &path, "");
        let messages = answer["result"].as_array().expect("a list").iter();
        messages.map(|it| it["timestamp"].as_u64().expect("whole seconds")).collect()
    }
}

/// A server of Wialon's retranslator, and the times that it took.
struct Wialon {
    address: SocketAddr,
    took: Arc<Mutex<Vec<u64>>>,
    /// Whether it answers.
    is_willing: Arc<AtomicBool>,
}

impl Wialon {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let took = Arc::new(Mutex::new(Vec::new()));
        let is_willing = Arc::new(AtomicBool::new(true));
        let server = Self { address, took: Arc::clone(&took), is_willing: is_willing.clone() };
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (took, is_willing) = (Arc::clone(&took), Arc::clone(&is_willing));
                thread::spawn(move || serve(stream, &took, &is_willing));
            }
        });
        server
    }

    fn took(&self) -> Vec<u64> {
        self.took.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn until(&self, is_it: impl Fn(&[u64]) -> bool) {
        for _ in 0..PATIENCE.as_millis() / 10 {
            if is_it(&self.took()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("waited in vain; it took {}", self.took().len());
    }
}

/// Takes packets: bytes that follow, the ident with a zero, seconds; the answer is 0x11.
fn serve(mut stream: TcpStream, took: &Mutex<Vec<u64>>, is_willing: &AtomicBool) {
    let mut length = [0; 4];
    while stream.read_exact(&mut length).is_ok() {
        let mut packet = vec![0; u32::from_le_bytes(length) as usize];
        if stream.read_exact(&mut packet).is_err() || !is_willing.load(Ordering::Relaxed) {
            return;
        }
        let end = packet.iter().position(|it| *it == 0).expect("an ident") + 1;
        let secs = u32::from_be_bytes(packet[end..end + 4].try_into().expect("a time"));
        took.lock().unwrap_or_else(PoisonError::into_inner).push(secs.into());
        if stream.write_all(&[0x11]).is_err() {
            return;
        }
    }
}

fn all() -> BTreeSet<u64> {
    (BEGIN..BEGIN + MESSAGES).collect()
}

/// R3.8 to R3.12.
#[test]
fn a_receiver_that_pulls_and_is_killed_loses_nothing_and_leaves_nothing() {
    let (hub, wialon) = (Hub::start(), Wialon::start());
    let mut command = receiver(&hub, "http");
    command.args(["--wialon", &wialon.address.to_string()]);
    // A platform that refuses: nothing is acknowledged.
    wialon.is_willing.store(false, Ordering::Relaxed);
    let mut running = Process::start(&mut command);
    let tracker = hub.tracker();
    running.until("wialon: ");
    tracker.join().expect("every message was taken");
    assert_eq!(hub.held(), all());
    wialon.is_willing.store(true, Ordering::Relaxed);
    // Killed in the middle, it has lost nothing: what nobody took is there.
    for part in 1..4 {
        let before = part * MESSAGES as usize / 4;
        wialon.until(|took| took.iter().collect::<BTreeSet<_>>().len() >= before);
        running.kill();
        let taken: BTreeSet<_> = wialon.took().into_iter().collect();
        assert_eq!(&taken | &hub.held(), all(), "killed after {before}");
        running = Process::start(&mut command);
    }
    wialon.until(|took| took.iter().copied().collect::<BTreeSet<_>>() == all());
    // All was taken and nothing is left to take.
    for _ in 0..PATIENCE.as_millis() / 10 {
        if hub.held().is_empty() {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(hub.held(), BTreeSet::new());
    running.kill();
    hub.flespi.stop();
}

/// R7.8.
#[test]
fn a_receiver_with_a_session_over_tls_that_is_killed_loses_nothing_and_trusts_no_stranger() {
    let files = Certificates::new();
    let [cert, key] = ["server.pem", "server.key"].map(|name| files.text(name));
    let hub = Hub::start_with(&["mqtts", "http"], &[("TLS__CERT", &cert), ("TLS__KEY", &key)]);
    let wialon = Wialon::start();
    let mut command = receiver(&hub, "mqtts");
    command.args(["--wialon", &wialon.address.to_string()]);
    // Of whom it does not know it gets nothing, and it shows no token.
    command.env("SSL_CERT_FILE", files.path("stranger.pem"));
    let mut running = Process::start(&mut command);
    running.until("invalid peer certificate");
    running.kill();
    command.env("SSL_CERT_FILE", files.path("ca.pem"));
    let mut running = Process::start(&mut command);
    running.until("Success");
    let tracker = hub.tracker();
    wialon.until(|took| took.len() >= MESSAGES as usize / 2);
    running.kill();
    let running = Process::start(&mut command);
    tracker.join().expect("every message was taken");
    wialon.until(|took| took.iter().copied().collect::<BTreeSet<_>>() == all());
    running.kill();
    hub.flespi.stop();
}

/// R7.8.
#[test]
fn a_receiver_with_a_session_that_is_killed_gets_all_to_a_platform_with_certificates() {
    if unwanted() {
        return;
    }
    let (hub, files) = (Hub::start(), Certificates::new());
    let [ca, cert, key] = ["ca.pem", "server.pem", "server.key"].map(|name| files.text(name));
    let settings = [("TLS__CERT", &cert), ("TLS__KEY", &key), ("TLS__CLIENT_CA", &ca)];
    let settings = settings.map(|(name, path)| (name, path.as_str()));
    let platform = super::broker::Broker::start(&["mqtt", "mqtts"], &settings);
    let mut reader = mosquitto("mosquitto_sub");
    let port = platform.address("mqtt").port().to_string();
    reader.args(["-p", &port, "-q", "1", "-t", "fleet/+", "-d"]);
    let mut reader = Process::start(&mut reader);
    reader.until("SUBACK");

    let mut command = receiver(&hub, "mqtt");
    command.args(["--mqtt", &format!("localhost:{}", platform.address("mqtts").port())]);
    command.args(["--topic", "fleet/%ident%", "--ca", &ca]);
    command.arg("--certificate").arg(files.path("client.pem"));
    command.arg("--private-key").arg(files.path("client.key"));
    let mut running = Process::start(&mut command);
    running.until("Success");
    let tracker = hub.tracker();
    let mut arrived = BTreeSet::new();
    for part in 1..=4 {
        while (arrived.len() as u64) < part * MESSAGES / 4 {
            let message: Value =
                serde_json::from_str(&reader.until("{")).expect("a message of the channel");
            arrived.insert(message["timestamp"].as_u64().expect("whole seconds"));
        }
        if part < 4 {
            running.kill();
            running = Process::start(&mut command);
        }
    }
    tracker.join().expect("every message was taken");
    assert_eq!(arrived, all());
    running.kill();
    hub.flespi.stop();
}
