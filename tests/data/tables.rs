//! What a data directory holds beside the journal: tables, and the secret of their keys.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use longshore::accounts::{Accounts, Options};
use longshore::acl::{ROOT_ACCOUNT, TokenKey};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::{Place, error, names, said};

const PATIENCE: Duration = Duration::from_secs(20);

/// A broker that is ready.
struct Serve {
    child: Child,
    port: u16,
    /// What comes of it later is little, and has room in the pipe.
    log: BufReader<ChildStderr>,
}

impl Serve {
    fn start(place: &Place, data: &str) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        command.env_remove("LONGSHORE_MASTER_TOKEN").current_dir(place.folder.path());
        command.env("LONGSHORE_STORAGE__SEGMENT_BYTES", "65536");
        command.args(["serve", "--listen", "mqtt://127.0.0.1:0", "--data-dir", data]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut serve = Self { child, port: 0, log };
        let mut seen = Vec::new();
        for line in serve.log.by_ref().lines().map_while(Result::ok) {
            if let Some((_, port)) = line.split_once("listening url=mqtt://127.0.0.1:") {
                serve.port = port.trim().parse().unwrap();
            }
            if line.ends_with(" ready") {
                return serve;
            }
            seen.push(line);
        }
        panic!("it is not ready: {seen:#?}");
    }

    fn end(mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap();
    }

    /// A client of MQTT 3.1.1 with this token.
    fn connect(&self, token: &str) -> TcpStream {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let token = text(token);
        let body = [&text("MQTT")[..], &[4, 0x82, 0, 0], &text("c"), &token].concat();
        let packet = [&[0x10, u8::try_from(body.len()).unwrap()][..], &body].concat();
        stream.write_all(&packet).unwrap();
        assert_eq!(answer::<4>(&mut stream), [0x20, 2, 0, 0]);
        stream
    }

    /// Keeps a message for whoever comes later.
    fn retain(&self, token: &str) {
        let mut stream = self.connect(token);
        stream.write_all(&[0x33, 6, 0, 1, b't', 0, 9, b'x']).unwrap();
        assert_eq!(answer::<4>(&mut stream), [0x40, 2, 0, 9]);
    }

    /// Whether that is there.
    fn is_retained(&self, token: &str) -> bool {
        let mut stream = self.connect(token);
        stream.write_all(&[0x82, 6, 0, 1, 0, 1, b't', 0]).unwrap();
        assert_eq!(answer::<5>(&mut stream), [0x90, 3, 0, 1, 0]);
        stream.write_all(&[0xC0, 0]).unwrap();
        match answer::<2>(&mut stream) {
            [0x31, 4] => true,
            ping => ping != [0xD0, 0],
        }
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes()[..], text.as_bytes()].concat()
}

fn answer<const N: usize>(stream: &mut TcpStream) -> [u8; N] {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// Makes an account with a token in a data directory that no broker uses; the token.
fn account(place: &Place) -> String {
    let master = TokenKey::generate().unwrap();
    let folder = place.path("longshore-data");
    let accounts = Accounts::open(&folder, &master, Options::default()).unwrap();
    let child = accounts.create_account(ROOT_ACCOUNT, &json!({"name": "child"})).unwrap().id;
    let body = json!({"ttl": 3600, "access": {"type": 0}});
    accounts.create_token(child, &body).unwrap().1.expose().to_owned()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

/// Bytes of all files below.
fn bytes(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().map(|it| it.unwrap());
    entries
        .map(|it| if it.path().is_dir() { bytes(&it.path()) } else { it.metadata().unwrap().len() })
        .sum()
}

#[test]
fn accounts_and_their_secret_are_in_a_backup_whether_the_broker_runs_or_not() {
    let place = Place::new();
    let token = account(&place);
    let broker = Serve::start(&place, "longshore-data");
    broker.retain(&token);
    assert_eq!(mode(&place.path("longshore-data/control")), 0o600);
    let running = said(&place.data(&["backup", "running"]));
    // What a broker leaves that is killed is in nobody's way.
    broker.end(Signal::KILL);
    assert!(place.path("longshore-data/control").exists());
    let stopped = said(&place.data(&["backup", "stopped"]));
    let broker = Serve::start(&place, "longshore-data");
    said(&place.data(&["backup", "again"]));
    broker.end(Signal::TERM);
    assert!(!place.path("longshore-data/control").exists());

    for (backup, report) in [("running", running), ("stopped", stopped)] {
        assert!(report.contains("\nrows     5\nmodules  0\n"), "{report}");
        let files = ["backup", "journal", "master-token", "modules", "secret", "tables"];
        assert_eq!(names(&place.path(backup)), files);
        assert_eq!(mode(&place.path(backup).join("secret")), 0o600);
        assert_eq!(mode(&place.path(backup).join("tables")), 0o700);
        assert!(bytes(&place.path(backup).join("tables")) < 100_000);
        let verified = said(&place.data(&["verify", "--data-dir", backup]));
        assert!(verified.ends_with("\nrows     5\nmodules  0\nok\n"), "{verified}");
        let data = format!("of-{backup}");
        let report = said(&place.data(&["restore", backup, "--data-dir", &data]));
        assert!(report.contains("\nrows     5\nmodules  0\nok, restored"), "{report}");
        assert_eq!(
            names(&place.path(&data)),
            ["journal", "master-token", "modules", "secret", "tables"]
        );
        assert_eq!(mode(&place.path(&data).join("secret")), 0o600);
        let broker = Serve::start(&place, &data);
        assert!(broker.is_retained(&token), "{backup}");
    }
}

#[test]
fn a_restore_writes_over_no_tables_and_no_other_secret() {
    let place = Place::new();
    account(&place);
    Serve::start(&place, "longshore-data").end(Signal::TERM);
    said(&place.data(&["backup", "copy"]));
    fs::remove_dir_all(place.path("longshore-data/journal")).unwrap();
    let refused = error(&place.data(&["restore", "copy"]));
    assert!(refused.contains("tables: is there already, and a restore writes over"), "{refused}");
    fs::remove_dir_all(place.path("longshore-data/tables")).unwrap();
    fs::write(place.path("longshore-data/secret"), [7; 32]).unwrap();
    let refused = error(&place.data(&["restore", "copy"]));
    assert!(refused.contains("secret: is not the secret of the backup; remove it"), "{refused}");
    fs::remove_file(place.path("longshore-data/secret")).unwrap();
    let refused = error(&place.data(&["restore", "copy"]));
    assert!(refused.contains("modules: is there already, and a restore writes over"), "{refused}");
    fs::remove_dir_all(place.path("longshore-data/modules")).unwrap();
    said(&place.data(&["restore", "copy"]));

    // One that was cut short before its last step is begun again.
    fs::remove_file(place.path("longshore-data/secret")).unwrap();
    let journal = place.path("longshore-data/journal");
    fs::rename(&journal, place.path("longshore-data/journal.restoring")).unwrap();
    said(&place.data(&["restore", "copy"]));
    said(&place.data(&["verify"]));

    // What lacks rows is not as it was backed up.
    fs::remove_dir_all(place.path("copy/tables")).unwrap();
    let refused = error(&place.data(&["restore", "copy", "--data-dir", "new"]));
    assert!(refused.contains("copy: is not as it was backed up"), "{refused}");
    assert_eq!(names(&place.path("new")), [""; 0]);
}

#[test]
fn damaged_tables_and_a_lost_secret_are_found_and_only_a_backup_helps() {
    let place = Place::new();
    account(&place);
    Serve::start(&place, "longshore-data").end(Signal::TERM);
    assert!(
        said(&place.data(&["repair"]))
            .ends_with("\nrows     5\nmodules  0\nok, nothing was damaged\n")
    );
    let secret = place.path("longshore-data/secret");
    let kept = fs::read(&secret).unwrap();
    fs::remove_file(&secret).unwrap();
    for command in [&["verify"][..], &["repair"], &["backup", "copy"]] {
        let refused = error(&place.data(command));
        assert!(refused.contains("secret: cannot be read"), "{refused}");
        assert!(refused.contains("no token opens anything: restore a backup"), "{refused}");
    }
    assert!(!place.path("copy").exists());
    fs::write(&secret, kept).unwrap();
    fs::write(place.path("longshore-data/tables/version"), "no").unwrap();
    for command in [&["verify"][..], &["repair"], &["backup", "copy"]] {
        let refused = error(&place.data(command));
        assert!(refused.starts_with("error: ./longshore-data/tables: the tables"), "{refused}");
    }
    assert!(!place.path("copy").exists());
}
