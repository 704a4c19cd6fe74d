//! The real binary, open to everybody on ports that are free.

use std::net::SocketAddr;
use std::process::Command;

use tempfile::TempDir;

use super::process::Process;

/// A broker that is ready; killed at the end.
pub(crate) struct Broker {
    process: Process,
    /// Scheme and address of each listener.
    addresses: Vec<(String, SocketAddr)>,
    /// Its data directory.
    _folder: TempDir,
}

impl Broker {
    /// Starts it with a listener for each of `schemes` and with `settings`, which are variables
    /// without their prefix: `LIMITS__PACKET_BYTES`.
    pub(crate) fn start(schemes: &[&str], settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the data");
        let mut command = Command::new(env!("CARGO_BIN_EXE_longshore"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("LONGSHORE_") {
                command.env_remove(name);
            }
        }
        command.current_dir(folder.path()).args(["serve", "--anonymous"]);
        // Whoever meets here comes from different threads, also on a machine of two processors.
        command.env("LONGSHORE_THREADS__SHARDS", "3");
        for scheme in schemes {
            command.args(["--listen", &format!("{scheme}://127.0.0.1:0")]);
        }
        for (name, value) in settings {
            command.env(format!("LONGSHORE_{name}"), value);
        }
        let mut process = Process::start(&mut command);
        let addresses = schemes.iter().map(|_| address(&process.until("listening url="))).collect();
        process.until("ready");
        Self { process, addresses, _folder: folder }
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

    /// Stops it in good order; all lines it wrote.
    pub(crate) fn stop(self) -> Vec<String> {
        self.process.stop()
    }

    /// What it runs as, and what it wrote.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// Reads `... listening url=mqtt://127.0.0.1:1883`.
fn address(line: &str) -> (String, SocketAddr) {
    let (_, url) = line.split_once("url=").expect("it was waited for");
    let (scheme, address) = url.split_once("://").unwrap_or_else(|| panic!("{line}"));
    (scheme.to_owned(), address.parse().unwrap_or_else(|_| panic!("{line}")))
}
