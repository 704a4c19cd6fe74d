//! The real binary: what it says, what it leaves behind, and how it ends.

#![expect(clippy::unwrap_used, reason = "a test may stop where it stands")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::TempDir;

/// No step of these tests takes as long on a machine that works.
const PATIENCE: Duration = Duration::from_secs(20);

fn longshore(folder: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
    command.current_dir(folder.path());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LONGSHORE_") {
            command.env_remove(name);
        }
    }
    command
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn check(folder: &TempDir, config: &str) -> Output {
    fs::write(folder.path().join("longshore.toml"), config).unwrap();
    longshore(folder).args(["check", "--config", "longshore.toml"]).output().unwrap()
}

fn errors(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A broker that has begun to start; killed at the end if it still runs.
struct Serve {
    child: Child,
    log: Receiver<String>,
}

impl Serve {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (lines, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || {
            stderr.lines().map_while(Result::ok).try_for_each(|it| lines.send(it))
        });
        Self { child, log }
    }

    /// Lines of the log up to the first that ends in `last`.
    fn until(&self, last: &str) -> Vec<String> {
        self.lines(last, |line| line.ends_with(last))
    }

    /// Lines of the log up to the first with `text` in it.
    fn until_with(&self, text: &str) -> Vec<String> {
        self.lines(text, |line| line.contains(text))
    }

    fn lines(&self, last: &str, is_last: impl Fn(&str) -> bool) -> Vec<String> {
        let mut seen: Vec<String> = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while !seen.last().is_some_and(|line| is_last(line)) {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) => seen.push(line),
                Err(_) => panic!("no line {last:?} after {seen:#?}"),
            }
        }
        seen
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end; gives its status and all of stdout.
    fn end(mut self) -> (ExitStatus, String) {
        let mut stdout = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        (self.child.wait().unwrap(), stdout)
    }

    /// Stops it and checks that it went in good order; gives stdout.
    fn stop(self, signal: Signal) -> String {
        let begun = Instant::now();
        self.signal(signal);
        let (status, stdout) = self.end();
        assert_eq!(status.code(), Some(0), "after {signal:?}");
        assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
        stdout
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const FREE_PORT: [&str; 3] = ["serve", "--listen", "mqtt://127.0.0.1:0"];

/// Resident memory of a broker that has started, in KiB. Room enough for a machine with many cores,
/// and for a binary of tests, which is 1.5 MB larger than one that is released.
const START_KIB_MAX: u64 = 21_500_000 >> 10;

/// The port of the line `listening url=scheme://host:port`.
fn port(line: &str) -> u16 {
    line.rsplit(':').next().and_then(|it| it.parse().ok()).unwrap_or_else(|| panic!("{line}"))
}

#[test]
fn check_says_what_would_run() {
    let folder = folder();
    let output = longshore(&folder).arg("check").output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.starts_with("listen  mqtt://0.0.0.0:1883\nlisten  http://0.0.0.0:8080\n"));
    assert!(report.ends_with("clients need credentials\nok\n"), "{report}");

    let output = check(&folder, "[limits]\ninflight = 7");
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(report.contains("limits.inflight = 7 (default 1024)"), "{report}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "check leaves nothing behind");
}

#[test]
fn check_names_file_line_and_nearest_key() {
    let rows = [
        (
            "\n[limits]\npacket_byte = 1",
            "error: longshore.toml:3:1: unknown key limits.packet_byte; the nearest is \
             limits.packet_bytes\n",
        ),
        (
            "[auht]\nanonymous = true",
            "error: longshore.toml:1:2: unknown section [auht]; the nearest is [auth]\n",
        ),
        (
            "[[listen]]\nurl = 'mqtts://[::]'\n[tls]\ncert = 'no.pem'\nkey = 'no.pem'",
            "error: no.pem: cannot be read: No such file or directory (os error 2); paths in a \
             file are relative to the folder of that file\n",
        ),
        (
            "[[listen]]\nurl = 'mqtt://0.0.0.0:1'\n[[listen]]\nurl = 'ws://127.0.0.1:1'",
            "error: longshore.toml:4:7: ws://127.0.0.1:1 takes the port of mqtt://0.0.0.0:1: give \
             one of them another\n",
        ),
        (
            "[[listen]]\nurl = 'mqtt://a..b'",
            "error: longshore.toml:2:7: mqtt://a..b:1883 cannot be listened on: a..b has \
             no address",
        ),
    ];
    for (config, want) in rows {
        let errors = errors(&check(&folder(), config));
        assert!(errors.starts_with(want), "{config:?} gave {errors:?}");
    }
}

#[test]
fn a_missing_file_and_an_unknown_variable_are_errors() {
    let folder = folder();
    let output = longshore(&folder).args(["check", "--config", "no.toml"]).output().unwrap();
    assert!(errors(&output).starts_with("error: no.toml: cannot be read: No such file"));
    let output = longshore(&folder).arg("check").env("LONGSHORE_LOG__LEVLE", "x").output().unwrap();
    let want = "error: LONGSHORE_LOG__LEVLE: unknown variable; the nearest is LONGSHORE_LOG__LEVEL";
    assert_eq!(errors(&output).trim_end(), want);
    let output =
        longshore(&folder).arg("check").env("LONGSHORE_MASTER_TOKEN", "x").output().unwrap();
    assert!(errors(&output).starts_with("error: LONGSHORE_MASTER_TOKEN: a token has 64"));
}

#[test]
fn the_first_start_prints_the_token_once_and_keeps_it_for_its_owner_alone() {
    let folder = folder();
    let start = || {
        let serve = Serve::start(longshore(&folder).args(FREE_PORT));
        let log = serve.until(" ready").join("\n");
        (serve.stop(Signal::TERM), log)
    };
    let (printed, log) = start();
    let data = folder.path().join("longshore-data");
    let file = data.join("master-token");
    let token = fs::read_to_string(&file).unwrap();
    assert!(token.trim_end().len() == 64 && token.ends_with('\n'));
    assert_eq!(printed.matches(token.trim_end()).count(), 1, "{printed}");
    assert!(printed.contains("mosquitto_pub -p "), "{printed}");
    assert!(!log.contains(token.trim_end()), "the log is no place for it");
    let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!((mode(&data), mode(&file)), (0o700, 0o600));

    let (printed, _) = start();
    assert_eq!(printed, "", "shown once");
    assert_eq!(fs::read_to_string(&file).unwrap(), token, "and kept");
}

#[test]
fn a_token_of_the_environment_is_neither_printed_nor_kept() {
    let folder = folder();
    let mut command = longshore(&folder);
    command.args(FREE_PORT).env("LONGSHORE_MASTER_TOKEN", "a1".repeat(32));
    let serve = Serve::start(&mut command);
    serve.until(" ready");
    assert_eq!(serve.stop(Signal::INT), "");
    let kept = fs::read_dir(folder.path().join("longshore-data")).unwrap();
    let mut kept: Vec<_> = kept.map(|entry| entry.unwrap().file_name()).collect();
    kept.sort();
    // The tables have it as all tokens, sealed under the secret.
    assert_eq!(kept, ["journal", "logs", "modules", "secret", "tables"]);
}

#[test]
fn bound_addresses_come_one_a_line_before_ready() {
    let folder = folder();
    let mut command = longshore(&folder);
    let serve = Serve::start(command.args(FREE_PORT).args(["--listen", "http://127.0.0.1:0"]));
    let log = serve.until(" ready");
    let [.., mqtt, http, _] = log.as_slice() else { panic!("{log:?}") };
    assert!(mqtt.contains("listening url=mqtt://127.0.0.1:"), "{mqtt}");
    assert!(http.contains("listening url=http://127.0.0.1:"), "{http}");
    for line in [mqtt, http] {
        TcpStream::connect(("127.0.0.1", port(line))).unwrap();
    }
    serve.stop(Signal::TERM);
}

#[test]
fn a_start_takes_little_memory() {
    let folder = folder();
    let mut command = longshore(&folder);
    let serve = Serve::start(command.args(FREE_PORT).args(["--listen", "http://127.0.0.1:0"]));
    serve.until(" ready");
    let status = fs::read_to_string(format!("/proc/{}/status", serve.child.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = resident.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    assert!(kib < START_KIB_MAX, "{kib} KiB");
    serve.stop(Signal::TERM);
}

#[test]
fn an_open_broker_warns() {
    let folder = folder();
    let serve = Serve::start(longshore(&folder).args(FREE_PORT).arg("--anonymous"));
    let log = serve.until(" ready");
    assert!(log.iter().any(|line| line.contains("WARN  clients without valid credentials")));
    serve.stop(Signal::TERM);
}

#[test]
fn a_port_in_use_is_named_with_what_to_do() {
    let folder = folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", taken.local_addr().unwrap());
    let output = longshore(&folder).args(["serve", "--listen", &url]).output().unwrap();
    assert!(output.stdout.is_empty(), "{output:?}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left behind");
    let errors = errors(&output);
    assert!(errors.contains(&format!("--listen: {url} cannot be listened on")), "{errors}");
    assert!(errors.contains("another process has the port"), "{errors}");
}

#[test]
fn a_port_that_two_listeners_want_is_no_matter_of_another_process() {
    let folder = folder();
    let mut command = longshore(&folder);
    command.args(["serve", "--listen", "mqtt://[::]:1", "--listen", "ws://localhost:1"]);
    let want = "error: --listen: ws://localhost:1 takes the port of mqtt://[::]:1: give one of \
                them another\n";
    let errors = errors(&command.output().unwrap());
    assert!(errors.ends_with(want), "{errors}");
}

#[test]
fn a_data_directory_that_cannot_be_is_an_error() {
    let folder = folder();
    fs::write(folder.path().join("file"), "").unwrap();
    let mut command = longshore(&folder);
    let output = command.args(FREE_PORT).args(["--data-dir", "file/data"]).output().unwrap();
    assert!(errors(&output).contains("file/data: cannot be made a data directory"));
}

#[test]
fn a_reload_takes_over_what_it_can_and_refuses_the_rest_with_its_reason() {
    let folder = folder();
    let write = |text: &str| fs::write(folder.path().join("longshore.toml"), text).unwrap();
    write("[log]\nlevel = 'info'");
    let mut command = longshore(&folder);
    let serve = Serve::start(command.args(FREE_PORT).args(["--config", "longshore.toml"]));
    serve.until(" ready");
    serve.signal(Signal::HUP);
    serve.until("configuration reloaded");
    write("[limits]\ninflight = 7");
    serve.until(
        "WARN  configuration refused, the old one stays until a restart: limits.inflight cannot \
         change from 1024 to 7: clients were told the limits when they connected",
    );
    write("[limits]\ninfligth = 7");
    serve.until("unknown key limits.infligth; the nearest is limits.inflight");
    serve.stop(Signal::TERM);
}

/// Says CONNECT; whether the broker answers within `patience`.
fn connect(port: u16, client_id: u8, patience: Duration) -> (TcpStream, bool) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream
        .write_all(&[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 1, client_id])
        .unwrap();
    let is_in = answers(&mut stream);
    (stream, is_in)
}

/// Whether CONNACK comes, and lets in.
fn answers(stream: &mut TcpStream) -> bool {
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).is_ok() && connack == [0x20, 2, 0, 0]
}

#[test]
fn out_of_files_it_keeps_what_it_has_and_goes_on_once_there_are_some() {
    const FILES: u64 = 64;
    let folder = folder();
    fs::write(folder.path().join("longshore.toml"), "[auth]\nanonymous = true").unwrap();
    let mut command = longshore(&folder);
    let serve = Serve::start(command.args(FREE_PORT).args(["--config", "longshore.toml"]));
    let log = serve.until(" ready");
    let port = port(log.iter().find(|line| line.contains("listening url=")).unwrap());
    let limit = Rlimit { current: Some(FILES), maximum: Some(FILES) };
    prlimit(Some(Pid::from_child(&serve.child)), Resource::Nofile, limit).unwrap();

    // The kernel takes the one too many; the broker cannot.
    let mut streams = Vec::new();
    let mut last = loop {
        let (stream, is_in) = connect(port, b'0' + streams.len() as u8, Duration::from_secs(2));
        if !is_in {
            break stream;
        }
        streams.push(stream);
        assert!(streams.len() < FILES as usize, "more connections than files");
    };
    assert!(streams.len() > FILES as usize / 4, "{} connections", streams.len());
    // It says so, and a configuration that cannot be read changes nothing.
    serve.signal(Signal::HUP);
    let log = serve.until_with("Too many open files");
    let log = [log, serve.until_with("configuration refused")].concat();
    assert!(!log.iter().any(|line| line.contains("reloaded")), "{log:#?}");
    for stream in &mut streams {
        stream.write_all(&[0xc0, 0]).unwrap();
        let mut pingresp = [0; 2];
        stream.read_exact(&mut pingresp).unwrap();
    }

    // With room again the one that waits is let in, others are, and the file is read.
    streams.truncate(10);
    last.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(answers(&mut last), "the one that waited");
    assert!(connect(port, b'~', PATIENCE).1, "one that came later, without credentials");
    serve.signal(Signal::HUP);
    serve.until("configuration reloaded");
    serve.stop(Signal::TERM);
}

#[test]
fn a_reload_that_is_asked_for_during_the_start_follows_it() {
    let folder = folder();
    let path = folder.path().join("longshore.toml");
    // A pipe in the place of the file: the start waits in it for as long as it takes.
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    let mut command = longshore(&folder);
    let serve = Serve::start(command.args(FREE_PORT).args(["--config", "longshore.toml"]));
    let writer = fs::OpenOptions::new().write(true).open(&path).unwrap();
    serve.signal(Signal::HUP);
    fs::remove_file(&path).unwrap();
    fs::write(&path, "").unwrap();
    drop(writer);
    serve.until(" ready");
    serve.until("configuration reloaded");
    serve.stop(Signal::TERM);
}

#[test]
fn the_end_of_a_client_is_one_line_that_names_the_fault_of_its_transport() {
    let folder = folder();
    let mut command = longshore(&folder);
    let serve =
        Serve::start(command.args(["serve", "--anonymous", "--listen", "ws://127.0.0.1:0"]));
    let log = serve.until(" ready");
    let mut stream = TcpStream::connect(("127.0.0.1", port(&log[log.len() - 3]))).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let handshake = b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    // Frames under a mask of zeros: CONNECT, then a text of no bytes.
    let connect = b"\x82\x8f\0\0\0\0\x10\x0d\0\x04MQTT\x04\x02\0\0\0\x01c";
    stream.write_all(&[&handshake[..], connect, b"\x81\x80\0\0\0\0"].concat()).unwrap();
    let _ = stream.read_to_end(&mut Vec::new());
    let log = serve.until("client=c cause=\"WebSocket: a text frame\"");
    let of_the_client = log.iter().filter(|line| line.contains("transport=ws")).count();
    assert_eq!(of_the_client, 2, "connected, disconnected: {log:#?}");
    serve.stop(Signal::TERM);
}

#[test]
fn a_log_in_json_is_json_to_the_end() {
    let folder = folder();
    let mut command = longshore(&folder);
    let serve = Serve::start(command.args(FREE_PORT).env("LONGSHORE_LOG__FORMAT", "json"));
    let log = serve.until("\"message\":\"ready\"}");
    assert!(log.iter().all(|line| line.starts_with("{\"time\":\"")), "{log:?}");
    serve.stop(Signal::TERM);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", taken.local_addr().unwrap());
    let mut command = longshore(&folder);
    command.args(["serve", "--listen", &url]).env("LONGSHORE_LOG__FORMAT", "json");
    let errors = errors(&command.output().unwrap());
    let last = errors.lines().last().unwrap();
    assert!(last.starts_with("{\"time\":\"") && last.contains("cannot be listened on"), "{errors}");
}

/// What a command prints, without its last newline.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

#[test]
fn tokens_are_made_listed_and_revoked_while_the_broker_runs_and_while_it_is_stopped() {
    let folder = folder();
    let token = |arguments: &[&str]| {
        let mut command = longshore(&folder);
        command.arg("token").args(arguments);
        command
    };
    let key = printed(&mut token(&["create", "--info", "made first"]));
    assert_eq!(key.len(), 64);
    let serve = Serve::start(longshore(&folder).args(["serve", "--listen", "http://127.0.0.1:0"]));
    let log = serve.until("ready");
    let port = port(log.iter().find(|line| line.contains("listening")).unwrap());
    let url = format!("http://127.0.0.1:{port}");
    let held = errors(&token(&["list"]).output().unwrap());
    assert!(held.contains("a broker runs; name its http listener with --url"), "{held}");
    printed(&mut token(&["create", "--type", "acl", "--acl", "[]", "--url", &url]));
    let want = "       1        1 master   on  master\n       2        1 standard on  made first\n\
                \x20      3        1 acl      on";
    assert_eq!(printed(&mut token(&["list", "--url", &url])).trim_start(), want.trim_start());
    let refused = errors(&token(&["list", "--url", &url, "--token", &key]).output().unwrap());
    assert!(refused.contains("the token does not open GET platform"), "{refused}");
    printed(&mut token(&["revoke", "2", "--url", &url]));
    serve.stop(Signal::TERM);
    printed(&mut token(&["revoke", "3"]));
    assert_eq!(printed(&mut token(&["list"])).trim_start(), "1        1 master   on  master");
    let gone = errors(&token(&["revoke", "3", "1"]).output().unwrap());
    assert!(gone.contains("token 3: not found") && gone.contains("token 1: it is"), "{gone}");
}

#[test]
fn systemd_is_told_of_readiness_and_stop() {
    let folder = folder();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut buffer = [0; 256];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).trim_end().to_owned()
    };
    let serve = Serve::start(longshore(&folder).args(FREE_PORT).env("NOTIFY_SOCKET", &path));
    assert_eq!(told(), "READY=1");
    serve.stop(Signal::TERM);
    assert_eq!(told(), "STOPPING=1");
}

#[test]
fn a_log_that_nobody_reads_keeps_nobody_from_stopping() {
    let folder = folder();
    let mut command = longshore(&folder);
    let (reader, writer) = std::io::pipe().unwrap();
    // Fill the pipe, so that the first line blocks the log thread.
    let mut filler = writer.try_clone().unwrap();
    rustix::io::ioctl_fionbio(&filler, true).unwrap();
    while Write::write(&mut filler, &[b'x'; 4_096]).is_ok() {}
    while Write::write(&mut filler, b"x").is_ok() {}
    rustix::io::ioctl_fionbio(&filler, false).unwrap();
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    command.args(FREE_PORT).env("NOTIFY_SOCKET", &path).stdout(Stdio::piped()).stderr(writer);
    let child = command.spawn().unwrap();
    drop(command);
    let serve = Serve { child, log: channel().1 };
    socket.recv(&mut [0; 256]).unwrap();
    serve.stop(Signal::TERM);
    drop(reader);
}
