//! The real binary, open to everybody on ports that are free.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::process::Process;

/// A broker that is ready; killed at the end.
pub(crate) struct Broker {
    process: Process,
    /// Scheme and address of each listener.
    addresses: Vec<(String, SocketAddr)>,
    /// Its data directory, where it goes with the broker.
    folder: Option<TempDir>,
}

impl Broker {
    /// Starts it with a listener for each of `schemes` and with `settings`, which are variables
    /// without their prefix: `LIMITS__PACKET_BYTES`.
    pub(crate) fn start(schemes: &[&str], settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the data");
        let mut broker = Self::start_in(folder.path(), schemes, settings);
        broker.folder = Some(folder);
        broker
    }

    /// The same with its data in `folder`, where it finds what an earlier one left.
    pub(crate) fn start_in(folder: &Path, schemes: &[&str], settings: &[(&str, &str)]) -> Self {
        let program = Command::new(env!("CARGO_BIN_EXE_longshore"));
        Self::run(&mut command(program, folder, schemes, settings))
    }

    /// Starts what [`command`] has made, and waits until it is ready.
    pub(crate) fn run(command: &mut Command) -> Self {
        let mut process = Process::start(command);
        let mut addresses = Vec::new();
        loop {
            let line = process.until(" ");
            if line.contains("listening url=") {
                addresses.push(address(&line));
            } else if line.ends_with(" ready") {
                return Self { process, addresses, folder: None };
            }
        }
    }

    /// Where it listens for `scheme`.
    pub(crate) fn address(&self, scheme: &str) -> SocketAddr {
        let found = self.addresses.iter().find(|(it, _)| it == scheme);
        found.unwrap_or_else(|| panic!("no listener {scheme}")).1
    }

    /// The same as a URL.
    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address(scheme))
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(self) {
        self.process.kill();
    }

    /// Stops it in good order; all lines it wrote.
    pub(crate) fn stop(self) -> Vec<String> {
        self.process.stop()
    }

    /// What it runs as, and what it wrote.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// `program`, which ends in the binary, as a broker open to everybody with its data in `folder`.
pub(crate) fn command(
    program: Command,
    folder: &Path,
    schemes: &[&str],
    settings: &[(&str, &str)],
) -> Command {
    let mut command = closed(program, folder, schemes, settings);
    command.arg("--anonymous");
    command
}

/// The same for those alone who have a token; the first is in the file `master-token` of
/// `longshore-data`.
pub(crate) fn closed(
    mut program: Command,
    folder: &Path,
    schemes: &[&str],
    settings: &[(&str, &str)],
) -> Command {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LONGSHORE_") {
            program.env_remove(name);
        }
    }
    program.current_dir(folder).args(["serve", "--data-dir"]).arg(folder.join("longshore-data"));
    // Whoever meets here comes from different threads, also on a machine of two processors.
    program.env("LONGSHORE_THREADS__SHARDS", "3");
    for scheme in schemes {
        program.args(["--listen", &format!("{scheme}://127.0.0.1:0")]);
    }
    for (name, value) in settings {
        program.env(format!("LONGSHORE_{name}"), value);
    }
    program
}

/// Reads `... listening url=mqtt://127.0.0.1:1883`.
fn address(line: &str) -> (String, SocketAddr) {
    let (_, url) = line.split_once("url=").expect("it was waited for");
    let (scheme, address) = url.split_once("://").unwrap_or_else(|| panic!("{line}"));
    (scheme.to_owned(), address.parse().unwrap_or_else(|_| panic!("{line}")))
}
