//! The binary with its modules, and a folder that outlives it.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

use super::clients::{self, Broker};
use super::rest::Rest;

/// Ports of the channels of one hub: each has other ones, also in other processes.
const PORTS: u32 = 20;

/// A variable of the binary without its prefix, and its value.
pub(crate) type Setting<'a> = (&'a str, &'a str);

/// Streams reach nothing of this host.
pub(crate) const CLOSED: Setting<'_> = ("STREAMS__ALLOW", "10.1.2.3");

pub(crate) struct Hub {
    folder: TempDir,
    first_port: u32,
}

impl Hub {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let at = NEXT.fetch_add(1, Ordering::Relaxed) + std::process::id() % 140 * 3;
        let folder = tempfile::tempdir().expect("a folder for the data");
        // Below those that the system gives to clients.
        Self { folder, first_port: 10_000 + at * PORTS }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// What starts it, with these settings over the usual ones.
    pub(crate) fn command(&self, more: &[Setting<'_>]) -> Command {
        let first = self.first_port.to_string();
        let last = (self.first_port + PORTS - 1).to_string();
        let mut settings = vec![
            ("CHANNELS__HOST", "127.0.0.1"),
            ("CHANNELS__ADDRESS", "127.0.0.1"),
            ("CHANNELS__PORT_MIN", &first),
            ("CHANNELS__PORT_MAX", &last),
            ("STREAMS__ALLOW", "127.0.0.0/8"),
        ];
        settings.extend(more);
        let program = Command::new(env!("CARGO_BIN_EXE_longshore"));
        clients::command(program, self.path(), &["http", "mqtt"], &settings)
    }

    pub(crate) fn start(&self, more: &[Setting<'_>]) -> Broker {
        Broker::run(&mut self.command(more))
    }

    /// Whoever has its master token.
    pub(crate) fn rest(&self, broker: &Broker) -> Rest {
        Rest::new(broker.address("http"), &self.key())
    }

    /// Its master token.
    pub(crate) fn key(&self) -> String {
        let path = self.path().join("longshore-data/master-token");
        let key = std::fs::read_to_string(path).expect("it is kept there");
        key.trim().to_owned()
    }
}
