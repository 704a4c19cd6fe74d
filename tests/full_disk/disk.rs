//! A small file system, in a name space of its own: nobody else sees it, and it is gone at the end.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::geteuid;
use tempfile::TempDir;

/// Holds the name space until its input ends, which is when the test does.
const HOLD: &str = r#"mount -t tmpfs -o "size=$1,mode=700" tmpfs "$2" && echo mounted && exec cat"#;

/// A file system of some megabytes of memory.
pub(crate) struct SmallDisk {
    /// Where it is mounted, for those who see it.
    folder: TempDir,
    holder: Child,
}

impl SmallDisk {
    /// `size` is for example `24m`.
    pub(crate) fn mount(size: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder to mount it on");
        let mut command = Command::new("unshare");
        if !geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "sh", "-c", HOLD, "sh", size]).arg(folder.path());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut line = String::new();
        let mut output = BufReader::new(holder.stdout.take().expect("it is piped"));
        output.read_line(&mut line).expect("it is a pipe");
        if line != "mounted\n" {
            let mut error = String::new();
            let mut errors = holder.stderr.take().expect("it is piped");
            errors.read_to_string(&mut error).expect("it is a pipe");
            panic!(
                "no file system can be mounted for this test: {error}\
                 It takes root with CAP_SYS_ADMIN, or name spaces for users: \
                 `sysctl kernel.unprivileged_userns_clone=1`, and on Ubuntu \
                 `sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
            );
        }
        Self { folder, holder }
    }

    /// The folder, for those who are started by [`SmallDisk::inside`].
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// `program` as a command that sees it.
    pub(crate) fn inside(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.id().to_string());
        if !geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.args(["--mount", "--", program]);
        command
    }

    /// From now on nobody writes there.
    pub(crate) fn make_read_only(&self) {
        let mut command = self.inside("mount");
        let status = command.args(["-o", "remount,ro"]).arg(self.path()).status();
        assert!(status.is_ok_and(|status| status.success()), "{command:?}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Brokers that still run there keep it, but nobody finds it any more.
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
