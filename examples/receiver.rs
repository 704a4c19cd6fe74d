//! A receiver: takes the messages of a channel and hands them on, each until it was taken.
//!
//! `cargo run --example receiver -- --channel 1 --stdout` pulls channel 1 of a broker on this
//! machine and prints what comes; `--hub mqtt://127.0.0.1:1883` consumes it with a session that
//! lasts instead. The token is read from `longshore-data/master-token`, or where `--token-file` is.
//!
//! A batch is acknowledged after all handlers took it. A receiver that is killed in between gets it
//! again, and hands it on again: at least once, and never less.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::Parser;
use longshore::streams::{AnySink, Failure, Message, Outcome, Protocol, Sink, Targets, failure};
use rumqttc::Transport;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, Publish};
use rumqttc::v5::{Client, Event, MqttOptions};
use serde_json::{Value, json};

/// Seconds for which the hub holds a request until there is something to read.
const POLL_SECS: u64 = 25;

/// How long a batch may take to get to a platform, connecting included.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// Between two tries, at first and at last.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// The largest packet that MQTT has, rather than what rumqttc takes by itself.
const PACKET_BYTES: u32 = 268_435_460;

/// How long the hub keeps what a consumer that is away has to get: ten days.
const SESSION_SECS: u32 = 864_000;

/// Takes the messages of a channel and hands them on.
#[derive(Parser)]
struct Arguments {
    /// Where to take them: http://host:port pulls, mqtt:// and mqtts://host:port have a session
    #[arg(long, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    hub: String,
    /// Number of the channel
    #[arg(long)]
    channel: u64,
    /// File with the token
    #[arg(long, default_value = "longshore-data/master-token", value_name = "FILE")]
    token_file: PathBuf,
    /// Messages of a batch; a session has as many on the way
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..))]
    batch: u16,
    /// Hand them to standard output, a line of JSON each
    #[arg(long)]
    stdout: bool,
    /// Hand them to a server of Wialon's retranslator
    #[arg(long, value_name = "HOST:PORT")]
    wialon: Option<String>,
    /// Hand them to a platform that speaks MQTT
    #[arg(long, value_name = "HOST:PORT")]
    mqtt: Option<String>,
    /// Topic on that platform, with parameters in %
    #[arg(long, default_value = "%ident%")]
    topic: String,
    /// Certificate for that platform, PEM; with it or --ca it is spoken to by TLS
    #[arg(long, requires = "private_key", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The key of that certificate, PEM
    #[arg(long, requires = "certificate", value_name = "FILE")]
    private_key: Option<PathBuf>,
    /// Authority of that platform, PEM, instead of those of the system
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Where messages go. A handler of one's own implements this and joins the others in `handlers`.
trait Handler {
    /// What it is called when it fails.
    fn name(&self) -> &'static str;

    /// Takes messages from the front of a batch: how many, and why not the others. What it took is
    /// in its care, for after that the hub forgets it.
    fn take(&mut self, batch: &[Message]) -> Outcome;
}

/// Prints.
struct Stdout;

impl Handler for Stdout {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn take(&mut self, batch: &[Message]) -> Outcome {
        let mut lines = Vec::new();
        for message in batch {
            lines.extend_from_slice(message.json().as_bytes());
            lines.push(b'\n');
        }
        let mut stdout = io::stdout().lock();
        match stdout.write_all(&lines).and_then(|()| stdout.flush()) {
            Ok(()) => Outcome::accepted(batch.len()),
            Err(error) => Outcome::failed(Failure::new(failure::UNREACHABLE, error.to_string())),
        }
    }
}

/// Sends to a platform, as a stream of the broker does.
struct Platform {
    name: &'static str,
    sink: AnySink,
    runtime: tokio::runtime::Runtime,
}

impl Platform {
    fn new(name: &'static str, protocol: Protocol, configuration: &Value) -> Result<Self, String> {
        let configuration = configuration.as_object().cloned().unwrap_or_default();
        let configuration = protocol.configure(&configuration).map_err(|it| it.to_string())?;
        // Whoever starts a receiver may have it connect to any host.
        let targets = Targets::new(["0.0.0.0/0", "::/0"]).map_err(|it| it.to_string())?;
        let sink = AnySink::new(&configuration, &targets, "longshore-receiver");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Ok(Self {
            name,
            sink: sink.map_err(|it| it.to_string())?,
            runtime: runtime.map_err(|it| it.to_string())?,
        })
    }
}

impl Handler for Platform {
    fn name(&self) -> &'static str {
        self.name
    }

    fn take(&mut self, batch: &[Message]) -> Outcome {
        let sink = &mut self.sink;
        let sent = self
            .runtime
            .block_on(async { tokio::time::timeout(SEND_TIMEOUT, sink.send(batch)).await });
        let outcome = sent.unwrap_or_else(|_| {
            Outcome::failed(Failure::new(failure::TIMEOUT, "it took too long"))
        });
        if outcome.failure.is_some() {
            // Nothing is sent between batches, so a platform may have closed an idle connection.
            self.sink.close();
        }
        outcome
    }
}

/// The handlers that are wanted.
fn handlers(arguments: &Arguments) -> Result<Vec<Box<dyn Handler>>, String> {
    let mut handlers: Vec<Box<dyn Handler>> = Vec::new();
    if arguments.stdout {
        handlers.push(Box::new(Stdout));
    }
    if let Some(uri) = &arguments.wialon {
        let configuration = json!({"uri": uri});
        let wialon = Platform::new("wialon", Protocol::WialonRetranslator, &configuration)?;
        handlers.push(Box::new(wialon));
    }
    if let Some(uri) = &arguments.mqtt {
        let read_all = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
        let (ca, certificate) = (read_all(&arguments.ca)?, read_all(&arguments.certificate)?);
        let configuration = json!({
            "uri": uri,
            "ssl": ca.is_some() || certificate.is_some(),
            "topics": [arguments.topic],
            "ca": ca,
            "certificate": certificate,
            "private_key": read_all(&arguments.private_key)?,
        });
        handlers.push(Box::new(Platform::new("mqtt", Protocol::Mqtt, &configuration)?));
    }
    if handlers.is_empty() {
        return Err("nobody would get the messages; try --stdout".to_owned());
    }
    Ok(handlers)
}

fn read(path: &Path) -> Result<String, String> {
    let text = fs::read_to_string(path);
    text.map_err(|error| format!("{} cannot be read: {error}", path.display()))
}

/// Returns when all handlers have taken all of the batch.
fn deliver(handlers: &mut [Box<dyn Handler>], batch: &[Message]) {
    for handler in handlers {
        let (mut rest, mut pause) = (batch, PAUSE);
        while !rest.is_empty() {
            let outcome = handler.take(rest);
            if outcome.skipped > 0 {
                eprintln!("{}: {} could not be sent at all", handler.name(), outcome.skipped);
            }
            rest = &rest[outcome.settled..];
            if let Some(failure) = outcome.failure {
                eprintln!("{}: {failure}; once more in {pause:?}", handler.name());
                thread::sleep(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// Pulls by REST: each request acknowledges the batch of the one before it.
fn pull(
    arguments: &Arguments,
    token: &str,
    handlers: &mut [Box<dyn Handler>],
) -> Result<(), String> {
    let config = ureq::Agent::config_builder().http_status_as_error(false);
    let config = config.timeout_global(Some(Duration::from_secs(POLL_SECS * 2)));
    let agent = ureq::Agent::new_with_config(config.build());
    let url = format!("{}/gw/channels/{}/messages", arguments.hub, arguments.channel);
    let mut key = 0;
    loop {
        let data = json!({
            "curr_key": key, "delete": true, "limit_count": arguments.batch, "timeout": POLL_SECS,
        });
        let request = agent.get(&url).query("data", data.to_string());
        let request = request.header("Authorization", format!("FlespiToken {token}"));
        let answered = request.call().and_then(|mut it| {
            Ok((it.status().as_u16(), it.body_mut().with_config().limit(u64::MAX).read_to_vec()?))
        });
        let (status, body) = match answered {
            Ok(answered) => answered,
            Err(error) => {
                eprintln!("{url}: {error}; once more in {PAUSE:?}");
                thread::sleep(PAUSE);
                continue;
            }
        };
        let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (Some(Value::Array(result)), Some(next)) =
            (answer.get("result"), answer["next_key"].as_u64())
        else {
            let text = String::from_utf8_lossy(&body);
            // 429 is for now.
            if (400..500).contains(&status) && status != 429 {
                return Err(format!("{url} answers {status}: {text}"));
            }
            eprintln!("{url} answers {status}: {text}; once more in {PAUSE:?}");
            thread::sleep(PAUSE);
            continue;
        };
        let batch: Vec<_> = result.iter().filter_map(Value::as_object).cloned().collect();
        deliver(handlers, &batch.into_iter().map(Message::new).collect::<Vec<_>>());
        key = next;
    }
}

/// A message, and whom it is acknowledged to.
type Arrived = (Client, Publish);

/// Consumes by MQTT: each message is acknowledged by itself, and what is not stays in the session.
fn consume(
    arguments: &Arguments,
    token: &str,
    handlers: &mut [Box<dyn Handler>],
) -> Result<(), String> {
    let name = format!("receiver/{}", arguments.channel);
    let parts = arguments.hub.split_once("://").and_then(|(scheme, address)| {
        let (host, port) = address.trim_end_matches('/').rsplit_once(':')?;
        Some((scheme, host, port.parse().ok()?))
    });
    let (scheme, host, port) = match parts {
        Some(parts @ ("mqtt" | "mqtts", ..)) => parts,
        _ => return Err(format!("--hub {} is no http://, mqtt:// or mqtts://", arguments.hub)),
    };
    let most = arguments.batch;
    let mut options = MqttOptions::new(name, host, port);
    if scheme == "mqtts" {
        // The one that rumqttc takes where no other is named.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        options.set_transport(Transport::tls_with_default_config());
    }
    options.set_credentials(token, "").set_keep_alive(Duration::from_secs(30));
    options.set_clean_start(false).set_session_expiry_interval(Some(SESSION_SECS));
    options.set_receive_maximum(Some(most)).set_max_packet_size(Some(PACKET_BYTES));
    options.set_manual_acks(true);
    let topic = format!("flespi/message/gw/channels/{}/+", arguments.channel);
    // As many as may be on the way, so that pings go on while a handler works.
    let (to, from) = mpsc::sync_channel(most.into());
    thread::spawn(move || listen(&options, &topic, &to));
    while let Ok(first) = from.recv() {
        let mut batch = vec![first];
        batch.extend(from.try_iter().take(usize::from(most) - 1));
        let read = |(_, it): &Arrived| Message::read(it.payload.to_vec());
        let messages: Vec<_> = batch.iter().filter_map(read).collect();
        deliver(handlers, &messages);
        for (client, publish) in &batch {
            // Of a connection that is gone it comes again.
            let _ = client.ack(publish);
        }
    }
    Err("the session has ended".to_owned())
}

/// Passes on what comes, and connects anew whenever the connection is lost.
///
/// Each connection has a client of its own. An acknowledgement that is late, sent on the next one,
/// would be for whatever has the packet identifier by then.
fn listen(options: &MqttOptions, topic: &str, to: &mpsc::SyncSender<Arrived>) {
    loop {
        let room = usize::from(options.receive_maximum().unwrap_or(u16::MAX)) + 1;
        let (client, mut connection) = Client::new(options.clone(), room);
        for event in connection.iter() {
            match event {
                Ok(Event::Incoming(Packet::ConnAck(_))) => {
                    if let Err(error) = client.try_subscribe(topic, QoS::AtLeastOnce) {
                        eprintln!("{topic}: {error}");
                    }
                }
                Ok(Event::Incoming(Packet::SubAck(answer))) => {
                    eprintln!("{topic}: {:?}", answer.return_codes);
                }
                Ok(Event::Incoming(Packet::Publish(publish))) => {
                    if to.send((client.clone(), publish)).is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    eprintln!("{error}; once more in {PAUSE:?}");
                    break;
                }
            }
        }
        thread::sleep(PAUSE);
    }
}

fn main() -> Result<(), String> {
    let arguments = Arguments::parse();
    let token = read(&arguments.token_file)?;
    let mut handlers = handlers(&arguments)?;
    let receive = if arguments.hub.starts_with("http:") { pull } else { consume };
    receive(&arguments, token.trim(), &mut handlers)
}
