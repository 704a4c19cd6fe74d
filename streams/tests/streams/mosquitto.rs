//! A mosquitto of one's own, and what it has received.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};
use tempfile::TempDir;

/// Whether the tests are to go without programs from outside. Only when one says so: a program that
/// is missing is a failure.
pub(crate) fn unwanted() -> bool {
    let unwanted = std::env::var_os("LONGSHORE_NO_CLIENTS").is_some_and(|it| it == "1");
    if unwanted {
        eprintln!("LONGSHORE_NO_CLIENTS=1: nothing was tested");
    }
    unwanted
}

fn program(name: &str) -> PathBuf {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    // Debian has the broker where not every user looks.
    let folders = std::env::split_paths(&paths).chain([PathBuf::from("/usr/sbin")]);
    let found = folders.map(|it| it.join(name)).find(|it| it.is_file());
    found.unwrap_or_else(|| {
        panic!(
            "{name} is missing. `bash .ci/run install` installs it (Debian, with root or sudo); \
             with LONGSHORE_NO_CLIENTS=1 the tests go without"
        )
    })
}

/// A broker, which ends with this.
pub(crate) struct Mosquitto {
    broker: Child,
    folder: TempDir,
    pub(crate) port: u16,
    authority: Option<Authority>,
}

impl Mosquitto {
    /// A broker that lets everybody in, with more lines of configuration.
    pub(crate) fn start(lines: &str) -> Self {
        Self::launch(lines, None)
    }

    /// A broker of TLS that lets in whoever shows a certificate of this authority.
    pub(crate) fn start_tls(authority: Authority) -> Self {
        Self::launch("require_certificate true\nuse_identity_as_username true\n", Some(authority))
    }

    fn launch(lines: &str, authority: Option<Authority>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let port = free_port();
        let mut text = format!("listener {port} 127.0.0.1\nallow_anonymous true\n");
        text.push_str("log_dest stderr\nlog_type information\n");
        text.push_str(&lines.replace("FOLDER", folder.path().to_str().unwrap()));
        if let Some(authority) = &authority {
            let (certificate, key) = authority.issue("localhost");
            std::fs::write(at("ca.pem"), &authority.pem).unwrap();
            std::fs::write(at("cert.pem"), certificate).unwrap();
            std::fs::write(at("key.pem"), key).unwrap();
            for (key, name) in [("cafile", "ca"), ("certfile", "cert"), ("keyfile", "key")] {
                writeln!(text, "{key} {}", at(&format!("{name}.pem")).display()).unwrap();
            }
            // What subscribes has no certificate.
            let plain = free_port();
            writeln!(text, "listener {plain} 127.0.0.1").unwrap();
            std::fs::write(at("plain"), plain.to_string()).unwrap();
        } else {
            std::fs::write(at("plain"), port.to_string()).unwrap();
        }
        std::fs::write(at("mosquitto.conf"), text).unwrap();
        let broker = run(folder.path());
        Self { broker, folder, port, authority }
    }

    pub(crate) fn authority(&self) -> &Authority {
        self.authority.as_ref().unwrap()
    }

    /// Subscribes a session that lasts, to what [`Mosquitto::received`] gives then.
    pub(crate) fn subscribe(&self, filter: &str) {
        let status = self.sub(filter).arg("-E").status().unwrap();
        assert!(status.success());
    }

    /// So many messages as topics and payloads.
    pub(crate) fn received(&self, filter: &str, count: usize) -> Vec<(String, String)> {
        let mut sub = self.sub(filter);
        sub.args(["-C", &count.to_string(), "-W", "60", "-F", "%q %t %p"]);
        let output = sub.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let line = |line: &str| {
            let mut parts = line.splitn(3, ' ');
            assert_eq!(parts.next().unwrap(), "1", "QoS of {line}");
            (parts.next().unwrap().to_owned(), parts.next().unwrap().to_owned())
        };
        let received: Vec<_> = text.lines().map(line).collect();
        assert_eq!(received.len(), count, "{text}");
        received
    }

    fn sub(&self, filter: &str) -> Command {
        let mut command = Command::new(program("mosquitto_sub"));
        let port = plain(self.folder.path()).to_string();
        command.args(["-h", "127.0.0.1", "-p", &port, "-u", "reader", "-i", "reader", "-c"]);
        command.args(["-q", "1", "-t", filter]);
        command
    }

    /// Kills the broker.
    pub(crate) fn kill(&mut self) {
        self.broker.kill().unwrap();
        self.broker.wait().unwrap();
    }

    /// Starts it again, at the same port.
    pub(crate) fn restart(&mut self) {
        self.broker = run(self.folder.path());
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have been killed by the test.
        let _ = self.broker.kill();
        let _ = self.broker.wait();
    }
}

/// The port without TLS.
fn plain(folder: &Path) -> u16 {
    std::fs::read_to_string(folder.join("plain")).unwrap().parse().unwrap()
}

/// A port that is free and stays so: systems give those below 32,768 to nobody who does not ask for
/// them, and no two brokers of this process share any.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Another run of these tests may be under way.
    let of_process = 30_000 + u16::try_from(std::process::id() % 27).unwrap() * 100;
    let mut ports = (0..100).map(|_| of_process + NEXT.fetch_add(1, Ordering::Relaxed) % 100);
    let port = ports.find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok());
    port.expect("a free port")
}

/// A broker that listens: it says so.
fn run(folder: &Path) -> Child {
    let mut command = Command::new(program("mosquitto"));
    command.arg("-c").arg(folder.join("mosquitto.conf"));
    let mut broker = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let said = BufReader::new(broker.stderr.take().unwrap());
    let (sender, listens) = channel();
    // It reads until the broker ends, which would wait for somebody to read.
    thread::spawn(move || {
        let mut said = said.lines().map_while(Result::ok);
        let has_begun = said.any(|line| line.ends_with(" running"));
        // Whoever waits may have given up.
        let _ = sender.send(has_begun);
        said.for_each(drop);
    });
    let has_begun = listens.recv_timeout(Duration::from_secs(60));
    assert_eq!(has_begun, Ok(true), "mosquitto listens");
    broker
}

/// An authority, and certificates of it.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // One whose name is that of its certificates is taken for one of them.
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate for this name, and its key, as PEM.
    pub(crate) fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }
}
