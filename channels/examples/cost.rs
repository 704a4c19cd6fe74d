//! What a message costs: devices of Wialon IPS send batches of 10 over connections of their own,
//! each waits for its answer, and everything is durable when it comes.
//!
//! ```text
//! cargo run --release -p longshore-channels --example cost -- \
//!     [connections] [batches each] [messages a batch]
//! ```
//!
//! Devices are another process, so the time of the processor that is told is that of the hub alone:
//! sockets, protocol, disk and broker. A subscriber would add what the broker needs for it. Without
//! batches, it is told what a silent connection takes of memory.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use longshore_acl::TokenKey;
use longshore_broker::accounts;
use longshore_broker::{Broker, Storage};
use longshore_channels::{Channels, Options};
use serde_json::{Value, json};

/// As in the binary.
#[global_allocator]
static MEMORY: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const RECORD: &str =
    "270413;205601;5544.6025;N;03739.6834;E;1;2;3;4;0.0;1;0;14.77,0.02;NA;fuel:2:45.8,hw:3:V4.5";

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, address, connections, batches, batch] = &arguments[..]
        && role == "devices"
    {
        let to = address.parse()?;
        return devices(to, connections.parse()?, batches.parse()?, batch.parse()?);
    }
    let number = |at: usize, usual: usize| arguments.get(at).map_or(Ok(usual), |it| it.parse());
    hub(number(0, 100)?, number(1, 200)?, number(2, 10)?)
}

fn hub(connections: usize, batches: usize, batch: usize) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let key = TokenKey::generate()?;
    let path = folder.path().to_owned();
    let mut options = Options::default();
    "127.0.0.1".clone_into(&mut options.host);
    let broker = Broker::builder()
        .storage(Storage::at(path.join("journal")))
        .accounts_in(path, key.clone(), accounts::Options::default())
        .module(move |context| Channels::open(context, options.clone()))
        .listen("http://127.0.0.1:0")
        .start()?;
    let rest = broker.addresses()[0].1;
    let uri = make_channel(rest, key.expose())?;
    if batches == 0 {
        return silent(&uri, connections);
    }
    let (began, before) = (Instant::now(), processor_time()?);
    let status = Command::new(std::env::current_exe()?)
        .args(["devices", &uri, &connections.to_string(), &batches.to_string(), &batch.to_string()])
        .status()?;
    let (lasted, spent) = (began.elapsed(), processor_time()?.saturating_sub(before));
    if !status.success() {
        return Err("the devices have failed".into());
    }
    let messages = connections * batches * batch;
    let rate = messages as f64 / lasted.as_secs_f64();
    let cost = spent.as_secs_f64() * 1e6 / messages as f64;
    println!("{messages} messages over {connections} connections in {lasted:.2?}");
    println!("{rate:.0} messages a second, {cost:.1} us of the processor for each");
    Ok(())
}

/// What connections take that have said who they are and nothing else.
fn silent(uri: &str, connections: usize) -> Outcome<()> {
    let before = memory_kb()?;
    let mut devices = Command::new(std::env::current_exe()?)
        .args(["devices", uri, &connections.to_string(), "0", "0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ready = [0; 1];
    devices.stdout.as_mut().ok_or("no output")?.read_exact(&mut ready)?;
    let each = (memory_kb()?.saturating_sub(before)) as f64 / connections as f64;
    drop(devices.stdin.take());
    devices.wait()?;
    println!("{connections} silent connections take {each:.1} KB each");
    Ok(())
}

fn memory_kb() -> Outcome<u64> {
    let text = std::fs::read_to_string("/proc/self/status")?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    Ok(line.ok_or("no VmRSS")?.trim().trim_end_matches(" kB").parse()?)
}

fn make_channel(rest: SocketAddr, key: &str) -> Outcome<String> {
    let body = json!([{"name": "cost", "protocol_name": "wialon_ips"}]).to_string();
    let mut socket = TcpStream::connect(rest)?;
    write!(
        socket,
        "POST /gw/channels HTTP/1.1\r\nHost: hub\r\nConnection: close\r\n\
         Authorization: FlespiToken {key}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let made: Value = serde_json::from_str(body)?;
    Ok(made["result"][0]["uri"].as_str().ok_or("no channel")?.to_owned())
}

/// Time that all threads of this process have had, to 10 ms.
fn processor_time() -> Outcome<Duration> {
    let text = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> =
        text.rsplit(") ").next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|it| it.parse::<u64>().ok());
    let ticks = ticks(11).zip(ticks(12)).ok_or("no times in /proc/self/stat")?;
    Ok(Duration::from_millis((ticks.0 + ticks.1) * 10))
}

/// All devices in one thread: each sends a batch, then each is waited for.
fn devices(to: SocketAddr, connections: usize, batches: usize, batch: usize) -> Outcome<()> {
    let mut devices = Vec::new();
    for number in 0..connections {
        let mut device = TcpStream::connect(to)?;
        device.set_nodelay(true)?;
        device.write_all(format!("#L#device{number};NA\r\n").as_bytes())?;
        expect(&mut device, b"#AL#1\r\n")?;
        devices.push(device);
    }
    if batches == 0 {
        println!();
        // Until the hub has looked.
        std::io::stdin().read_to_end(&mut Vec::new())?;
    }
    let answer = format!("#AB#{batch}\r\n");
    let batch = format!("#B#{}\r\n", vec![RECORD; batch].join("|"));
    for _ in 0..batches {
        for device in &mut devices {
            device.write_all(batch.as_bytes())?;
        }
        for device in &mut devices {
            expect(device, answer.as_bytes())?;
        }
    }
    Ok(())
}

fn expect(device: &mut TcpStream, want: &[u8]) -> Outcome<()> {
    let mut answer = vec![0; want.len()];
    device.read_exact(&mut answer)?;
    if answer == want {
        return Ok(());
    }
    Err(format!("answered {:?}", String::from_utf8_lossy(&answer)).into())
}
