//! A network of its own, in which a name leads to this machine: for programs that ask one host and
//! no other.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use rustix::process::geteuid;
use tempfile::TempDir;

/// Holds the name spaces until its input ends, which is when the test does.
const HOLD: &str = r#"PATH=$PATH:/usr/sbin:/sbin; ip link set lo up &&
mount --bind "$1" /etc/hosts && echo up && exec cat"#;

/// Name spaces for the network and for what is mounted.
pub(crate) struct Namespace {
    holder: Child,
    /// Names and their addresses.
    _hosts: TempDir,
}

impl Namespace {
    /// One where `name` is 127.0.0.1, every port is free, and nobody else is.
    pub(crate) fn with(name: &str) -> Self {
        let hosts = tempfile::tempdir().expect("a folder for a file");
        let file = hosts.path().join("hosts");
        fs::write(&file, format!("127.0.0.1 localhost {name}\n")).expect("the folder is there");
        let mut command = Command::new("unshare");
        if !geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--net", "--mount", "sh", "-c", HOLD, "sh"]).arg(file);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut line = String::new();
        let mut output = BufReader::new(holder.stdout.take().expect("it is piped"));
        output.read_line(&mut line).expect("it is a pipe");
        if line != "up\n" {
            let mut error = String::new();
            let mut errors = holder.stderr.take().expect("it is piped");
            errors.read_to_string(&mut error).expect("it is a pipe");
            panic!(
                "no network can be made for this test: {error}\
                 It takes `ip` (Debian: iproute2) and root with CAP_SYS_ADMIN, or name spaces for \
                 users: `sysctl kernel.unprivileged_userns_clone=1`, and on Ubuntu \
                 `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
            );
        }
        Self { holder, _hosts: hosts }
    }

    /// `command`, which has no more than its program, arguments and variables, as one that runs
    /// there.
    pub(crate) fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("nsenter");
        inside.arg("--target").arg(self.holder.id().to_string());
        if !geteuid().is_root() {
            inside.args(["--user", "--preserve-credentials"]);
        }
        inside.args(["--net", "--mount", "--"]).arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Who still runs there keeps it, but nobody finds it any more.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
