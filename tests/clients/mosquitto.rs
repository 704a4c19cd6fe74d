//! mosquitto_pub, mosquitto_sub and mosquitto_rr (Debian, mosquitto-clients), in 3.1, 3.1.1 and 5.

use std::fs;
use std::net::SocketAddr;
use std::process::Stdio;

use super::broker::Broker;
use super::certificates::Certificates;
use super::process::Process;
use super::tools::{mosquitto, unwanted};

const VERSIONS: [&str; 3] = ["mqttv31", "mqttv311", "mqttv5"];

/// What a message looks like in the output of a subscriber; other lines are its log.
const FORMAT: &str = "got %t %q %r %p";

/// The three programs, told where the broker is and what to speak.
struct Clients {
    address: SocketAddr,
    version: &'static str,
    /// Options for TLS.
    tls: Vec<String>,
}

impl Clients {
    fn new(broker: &Broker, version: &'static str) -> Self {
        Self { address: broker.address("mqtt"), version, tls: Vec::new() }
    }

    fn command(&self, name: &str, options: &[&str]) -> std::process::Command {
        let mut command = mosquitto(name);
        command.args([
            "-h",
            &self.address.ip().to_string(),
            "-p",
            &self.address.port().to_string(),
        ]);
        command.args(["-V", self.version]).args(&self.tls).args(options);
        command
    }

    /// A subscriber that is subscribed.
    fn subscribe(&self, options: &[&str]) -> Process {
        let options = [&["-d", "-F", FORMAT], options].concat();
        let mut process = Process::start(&mut self.command("mosquitto_sub", &options));
        process.until("Subscribed (mid: 1)");
        process
    }

    fn publish(&self, options: &[&str]) {
        Process::start(&mut self.command("mosquitto_pub", options)).finish();
    }

    /// Publishes 0, 1, 2... up to `count`, each in a message of its own.
    fn count(&self, count: usize, options: &[&str]) {
        let numbers: String = (0..count).map(|number| format!("{number}\n")).collect();
        let mut child = self
            .command("mosquitto_pub", &[&["-l"], options].concat())
            .stdin(Stdio::piped())
            .spawn()
            .expect("it is installed");
        let mut input = child.stdin.take().expect("it is piped");
        std::io::Write::write_all(&mut input, numbers.as_bytes()).expect("it reads");
        drop(input);
        assert!(child.wait().expect("it was started").success());
    }
}

/// The messages among the lines of a subscriber.
fn messages(lines: &[String]) -> Vec<&str> {
    lines.iter().filter_map(|line| line.strip_prefix("got ")).collect()
}

/// The next `count` messages of a subscriber.
fn take(subscriber: &mut Process, count: usize) -> Vec<String> {
    let next = |_| subscriber.until("got ").trim_start_matches("got ").to_owned();
    (0..count).map(next).collect()
}

#[test]
fn mosquitto_sub_reads_the_counters_of_the_broker() {
    if unwanted() {
        return;
    }
    let broker = Broker::start(&["mqtt"], &[]);
    for version in VERSIONS {
        let clients = Clients::new(&broker, version);
        let options = ["-t", "$SYS/broker/+", "-C", "2", "-F", FORMAT];
        let lines = Process::start(&mut clients.command("mosquitto_sub", &options)).finish();
        let uptime = messages(&lines).into_iter().find(|it| it.starts_with("$SYS/broker/uptime"));
        let uptime = uptime.expect("it is among them");
        assert!(uptime.ends_with(" seconds"), "{uptime}");
    }
}

#[test]
fn mosquitto_clients_deliver_in_order_at_every_qos_in_every_version() {
    if unwanted() {
        return;
    }
    let broker = Broker::start(&["mqtt"], &[]);
    for version in VERSIONS {
        let clients = Clients::new(&broker, version);
        for granted in ["0", "1", "2"] {
            let mut subscriber = clients.subscribe(&["-t", "delivery/+/#", "-q", granted]);
            for qos in ["0", "1", "2"] {
                clients.count(100, &["-t", "delivery/a", "-q", qos]);
                let least = qos.min(granted);
                let want: Vec<_> =
                    (0..100).map(|it| format!("delivery/a {least} 0 {it}")).collect();
                assert_eq!(take(&mut subscriber, 100), want, "{version}");
            }
        }
    }
}

#[test]
fn mosquitto_clients_are_greeted_by_the_last_retained_message_until_it_is_cleared() {
    if unwanted() {
        return;
    }
    for version in VERSIONS {
        let broker = Broker::start(&["mqtt"], &[]);
        let clients = Clients::new(&broker, version);
        for qos in ["0", "1", "2"] {
            let topic = format!("retained/{qos}");
            clients.publish(&["-t", &topic, "-q", qos, "-r", "-m", "old"]);
            clients.publish(&["-t", &topic, "-q", qos, "-r", "-m", "new"]);
        }
        let mut subscriber = clients.subscribe(&["-t", "retained/#", "-q", "2"]);
        let mut greeting = take(&mut subscriber, 3);
        greeting.sort();
        let want = ["retained/0 0 1 new", "retained/1 1 1 new", "retained/2 2 1 new"];
        assert_eq!(greeting, want, "{version}");
        clients.publish(&["-t", "retained/1", "-q", "1", "-r", "-n"]);
        assert_eq!(take(&mut subscriber, 1), ["retained/1 1 0 "], "{version}");
        let late = clients.subscribe(&["-t", "retained/#", "-q", "2", "-C", "2"]).finish();
        assert!(messages(&late).iter().all(|it| !it.starts_with("retained/1")), "{late:?}");
    }
}

#[test]
fn a_will_of_mosquitto_sub_is_sent_when_it_is_killed_and_not_when_it_leaves() {
    if unwanted() {
        return;
    }
    let broker = Broker::start(&["mqtt"], &[]);
    for version in VERSIONS {
        let clients = Clients::new(&broker, version);
        let mut watcher = clients.subscribe(&["-t", "will/#", "-q", "2"]);
        for qos in ["0", "1", "2"] {
            let will = ["--will-topic", "will/x", "--will-payload", "gone", "--will-qos", qos];
            clients.subscribe(&[&["-t", "any", "-E"], &will[..]].concat()).finish();
            clients.subscribe(&[&["-t", "any"], &will[..]].concat()).kill();
            assert_eq!(take(&mut watcher, 1), [format!("will/x {qos} 0 gone")], "{version}");
        }
        clients.publish(&["-t", "will/end", "-m", ""]);
        assert_eq!(take(&mut watcher, 1), ["will/end 0 0 "], "{version}");
    }
}

#[test]
fn a_persistent_session_of_mosquitto_sub_gets_what_it_missed_in_order() {
    if unwanted() {
        return;
    }
    let broker = Broker::start(&["mqtt"], &[]);
    for version in VERSIONS {
        let clients = Clients::new(&broker, version);
        for qos in ["1", "2"] {
            let (name, topic) = (format!("sleeper-{version}-{qos}"), format!("session/{qos}"));
            let mut session = vec!["-i", &name, "-c", "-t", &topic, "-q", qos];
            if version == "mqttv5" {
                session.extend(["-x", "3600"]);
            }
            clients.subscribe(&[&session[..], &["-E"]].concat()).finish();
            clients.count(200, &["-t", &topic, "-q", qos]);
            // What waited may come before SUBACK.
            let options = [&["-d", "-F", FORMAT, "-C", "200"], &session[..]].concat();
            let lines = Process::start(&mut clients.command("mosquitto_sub", &options)).finish();
            let want: Vec<_> = (0..200).map(|it| format!("{topic} {qos} 0 {it}")).collect();
            assert_eq!(messages(&lines), want, "{version}");
        }
    }
}

#[test]
fn each_message_goes_to_one_mosquitto_sub_of_a_shared_subscription() {
    if unwanted() {
        return;
    }
    let broker = Broker::start(&["mqtt"], &[]);
    for version in ["mqttv311", "mqttv5"] {
        let clients = Clients::new(&broker, version);
        let options = ["-t", "$share/group/shared", "-t", "end", "-q", "1"];
        let mut members = [clients.subscribe(&options), clients.subscribe(&options)];
        clients.count(100, &["-t", "shared", "-q", "1"]);
        clients.publish(&["-t", "end", "-q", "1", "-m", ""]);
        let mut got = Vec::new();
        for member in &mut members {
            let before = got.len();
            loop {
                let line = member.until("got ");
                match line.strip_prefix("got shared 1 0 ") {
                    Some(number) => got.push(number.parse::<usize>().expect("a number")),
                    None => break,
                }
            }
            assert!(got.len() > before, "a member got nothing ({version})");
        }
        got.sort_unstable();
        assert!(got.iter().copied().eq(0..100), "{version}: {got:?}");
    }
}

#[test]
fn properties_of_mosquitto_pub_arrive_as_they_were_sent() {
    if unwanted() {
        return;
    }
    let broker = Broker::start(&["mqtt"], &[]);
    let clients = Clients::new(&broker, "mqttv5");
    let format = "got %C|%R|%D|%E|%P|%p";
    let mut subscriber = clients.subscribe(&["-t", "properties", "-q", "1", "-F", format]);
    let mut options = vec!["-t", "properties", "-q", "1", "-m", "text"];
    for (name, value) in [
        ("content-type", "text/plain"),
        ("response-topic", "answer/here"),
        ("correlation-data", "12"),
        ("message-expiry-interval", "1000"),
    ] {
        options.extend(["-D", "publish", name, value]);
    }
    for (name, value) in [("b", "1"), ("a", "2"), ("b", "1")] {
        options.extend(["-D", "publish", "user-property", name, value]);
    }
    clients.publish(&options);
    let [got] = &take(&mut subscriber, 1)[..] else { unreachable!("one was taken") };
    let parts: Vec<_> = got.split('|').collect();
    let [content_type, response_topic, correlation, expiry, user, payload] = parts[..] else {
        panic!("{got}");
    };
    assert_eq!((content_type, response_topic, correlation), ("text/plain", "answer/here", "12"));
    assert!((900..=1_000).contains(&expiry.parse().expect("seconds")), "{expiry}");
    assert_eq!((user, payload), ("b:1 a:2 b:1", "text"));
}

#[test]
fn mosquitto_rr_gets_the_answer_to_its_request() {
    if unwanted() {
        return;
    }
    let broker = Broker::start(&["mqtt"], &[]);
    let clients = Clients::new(&broker, "mqttv5");
    let mut responder = clients.subscribe(&["-t", "question", "-F", "got %R %D %p"]);
    let options = ["-t", "question", "-e", "answer/here", "-m", "6 times 7", "-D", "publish"];
    let options = [&options[..], &["correlation-data", "12"]].concat();
    let requester = Process::start(&mut clients.command("mosquitto_rr", &options));
    assert_eq!(take(&mut responder, 1), ["answer/here 12 6 times 7"]);
    clients.publish(&["-t", "answer/here", "-m", "42", "-D", "publish", "correlation-data", "12"]);
    assert_eq!(requester.finish(), ["42"]);
}

#[test]
fn mosquitto_clients_come_in_over_tls_with_a_certificate_of_theirs_or_without() {
    if unwanted() {
        return;
    }
    let files = Certificates::new();
    let [ca, cert, key] = ["ca.pem", "server.pem", "server.key"].map(|name| files.text(name));
    let settings = [("TLS__CERT", &*cert), ("TLS__KEY", &key), ("TLS__CLIENT_CA", &ca)];
    let broker = Broker::start(&["mqtts"], &settings);
    let clients = |tls: &[&str]| Clients {
        address: broker.address("mqtts"),
        version: "mqttv5",
        tls: tls.iter().map(|&it| it.to_owned()).collect(),
    };
    let [cert, key] = ["client.pem", "client.key"].map(|name| files.text(name));
    let without = clients(&["--cafile", &ca]);
    let with = clients(&["--cafile", &ca, "--cert", &cert, "--key", &key]);
    let mut subscriber = with.subscribe(&["-t", "tls", "-q", "2"]);
    with.publish(&["-t", "tls", "-q", "2", "-m", "with"]);
    without.publish(&["-t", "tls", "-q", "2", "-m", "without"]);
    assert_eq!(take(&mut subscriber, 2), ["tls 2 0 with", "tls 2 0 without"]);

    let [cert, key] = ["stranger.pem", "stranger.key"].map(|name| files.text(name));
    let stranger = clients(&["--cafile", &ca, "--cert", &cert, "--key", &key]);
    let output = stranger.command("mosquitto_pub", &["-t", "tls", "-m", "x"]).output();
    assert!(!output.expect("it is installed").status.success(), "a stranger came in");
}

#[test]
fn a_message_of_256_mb_waits_for_mosquitto_sub_once_the_limit_is_raised() {
    if unwanted() {
        return;
    }
    let broker = Broker::start(&["mqtt"], &[("LIMITS__PACKET_BYTES", "268435460")]);
    let clients = Clients::new(&broker, "mqttv311");
    let folder = tempfile::tempdir().expect("a folder for the message");
    let (sent, got) = (folder.path().join("sent"), folder.path().join("got"));
    // The largest packet there is, less topic and packet id.
    let size = 268_435_455 - 2 - "large".len() - 2;
    let message: Vec<u8> = (0..size).map(|place| (place / 4_093 % 251) as u8).collect();
    fs::write(&sent, &message).expect("there is room");
    let session = ["-i", "large", "-c", "-t", "large", "-q", "1"];
    clients.subscribe(&[&session[..], &["-E"]].concat()).finish();
    let path = sent.display().to_string();
    clients.publish(&["-t", "large", "-q", "1", "-f", &path]);
    let mut command = clients.command("mosquitto_sub", &session);
    command.args(["-C", "1", "-N"]).stdout(fs::File::create(&got).expect("there is room"));
    assert!(command.status().expect("it is installed").success());
    assert!(fs::read(&got).expect("it is there") == message, "another message arrived");
}
