//! The clients that are not part of this workspace, and how to get them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Installs everything that is looked for here.
const INSTALL: &str = "`bash .ci/run install` installs it (Debian, with root or sudo); with \
                       LONGSHORE_NO_CLIENTS=1 the tests go without";

/// Whether the tests are to go without clients from outside. Only when one says so: a client that
/// is missing is a failure.
pub(crate) fn unwanted() -> bool {
    let unwanted = std::env::var_os("LONGSHORE_NO_CLIENTS").is_some_and(|it| it == "1");
    if unwanted {
        eprintln!("LONGSHORE_NO_CLIENTS=1: nothing was tested");
    }
    unwanted
}

/// Where `.ci/run install` puts what needs no root: `clients` in the target directory.
fn clients() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp");
    target.join("clients")
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients").join(name)
}

/// A program of the system.
pub(crate) fn system(name: &str) -> PathBuf {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|it| it.join(name)).find(|it| it.is_file());
    found.unwrap_or_else(|| panic!("{name} is missing. {INSTALL}"))
}

fn installed(path: PathBuf) -> PathBuf {
    assert!(path.exists(), "{} is missing. {INSTALL}", path.display());
    path
}

/// A script in Python that finds the packages of requirements.txt.
pub(crate) fn python(name: &str) -> Command {
    let mut command = Command::new(installed(clients().join("venv/bin/python")));
    command.arg(script(name));
    command
}

/// A program that came with a package of Python.
pub(crate) fn of_python(name: &str) -> Command {
    Command::new(installed(clients().join("venv/bin").join(name)))
}

/// A script in JavaScript that finds the packages of package.json.
pub(crate) fn node(name: &str) -> Command {
    let mut command = Command::new(system("node"));
    command.arg(script(name)).env("NODE_PATH", installed(clients().join("node_modules")));
    command
}

/// `mosquitto_pub`, `mosquitto_sub` or `mosquitto_rr`, which says each line when it has it.
pub(crate) fn mosquitto(name: &str) -> Command {
    let mut command = Command::new(system("stdbuf"));
    command.arg("-oL").arg(system(name));
    command
}
