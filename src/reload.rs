//! Taking over a changed configuration and changed certificates without dropping anybody.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use longshore::Listen;

use crate::config::{Arguments, Config, LIVE_KEYS, Problem, keys};

/// What of a changed configuration a running broker cannot take over, each with its reason.
pub(crate) fn frozen(old: &Config, new: &Config) -> Vec<String> {
    let mut changed = Vec::new();
    if listeners(old) != listeners(new) {
        changed.push("listen cannot change: sockets are opened at the start".to_owned());
    }
    for key in keys() {
        let (was, is) = ((key.show)(old), (key.show)(new));
        let full = key.full();
        if was != is && !LIVE_KEYS.contains(&full.as_str()) {
            let reason = reason(key.section);
            changed.push(format!("{full} cannot change from {was} to {is}: {reason}"));
        }
    }
    changed
}

fn reason(section: &str) -> &'static str {
    match section {
        "limits" => "clients were told the limits when they connected",
        "auth" => "clients were let in by it",
        "threads" => "threads are started once",
        _ => "it is read at the start",
    }
}

fn listeners(config: &Config) -> Vec<&Listen> {
    config.listen.iter().map(|it| &it.listen).collect()
}

/// Why a configuration was not taken over.
#[derive(Debug)]
pub(crate) enum Refused {
    /// It is wrong in itself.
    Wrong(Vec<Problem>),
    /// It changes what cannot change.
    Frozen(Vec<String>),
}

/// Reads the configuration again; gives the one to go on with unless it is refused.
pub(crate) fn reread(arguments: &Arguments, old: &Config) -> Result<Config, Refused> {
    let new = Config::load(arguments).map_err(Refused::Wrong)?;
    let frozen = frozen(old, &new);
    if frozen.is_empty() { Ok(new) } else { Err(Refused::Frozen(frozen)) }
}

/// Notices that files have changed. It is asked now and then: certificates are renewed by renaming,
/// by links, over networks, and looking at them is what works for all.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    files: Vec<(PathBuf, Print)>,
    /// A change was seen that may still go on.
    is_unsettled: bool,
}

/// What tells two states of a file apart; `None` when it cannot be looked at.
type Print = Option<(u64, u64, i64, i64)>;

impl Watch {
    /// Watches these files: new ones from their present state on, so call it before they are read.
    pub(crate) fn set<'a>(&mut self, paths: impl Iterator<Item = &'a Path>) {
        let old = std::mem::take(&mut self.files);
        let known = |path: &Path| old.iter().find(|(it, _)| it == path).map(|(_, seen)| *seen);
        self.files = paths
            .map(|path| (path.to_owned(), known(path).unwrap_or_else(|| print(path))))
            .collect();
    }

    /// Whether a file has changed and all are still since the last question: certificate and key
    /// are two files, and one comes after the other.
    pub(crate) fn has_changed(&mut self) -> bool {
        let was_unsettled = self.is_unsettled;
        self.is_unsettled = self.look();
        was_unsettled && !self.is_unsettled
    }

    /// Forgets earlier changes, for the files are about to be read: later ones count.
    pub(crate) fn forget(&mut self) {
        self.look();
        self.is_unsettled = false;
    }

    fn look(&mut self) -> bool {
        let mut moved = false;
        for (path, seen) in &mut self.files {
            let now = print(path);
            moved |= now != *seen;
            *seen = now;
        }
        moved
    }
}

fn print(path: &Path) -> Print {
    let file = fs::metadata(path).ok()?;
    Some((file.ino(), file.len(), file.mtime(), file.mtime_nsec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        let file = Some((Path::new("x.toml"), text));
        Config::parse(file, [], &Arguments::default()).unwrap()
    }

    #[test]
    fn what_cannot_change_is_named_with_its_reason() {
        let old = config("");
        let new = config(
            "[[listen]]\nurl = 'mqtt://[::]'\n[limits]\ninflight = 5\n[auth]\nanonymous = true\n\
             [threads]\nshards = 3\n[log]\nformat = 'json'",
        );
        let want = [
            "listen cannot change: sockets are opened at the start",
            "auth.anonymous cannot change from false to true: clients were let in by it",
            "limits.inflight cannot change from 1024 to 5: clients were told the limits when they \
             connected",
            "threads.shards cannot change from 0 to 3: threads are started once",
            "log.format cannot change from \"compact\" to \"json\": it is read at the start",
        ];
        assert_eq!(frozen(&old, &new), want);
    }

    #[test]
    fn certificates_and_the_level_of_the_log_can_change() {
        let new = config("[tls]\ncert = 'a'\nkey = 'b'\nclient_ca = 'c'\n[log]\nlevel = 'debug'");
        assert!(frozen(&config(""), &new).is_empty());
    }

    #[test]
    fn a_change_counts_once_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let [cert, key] = ["cert", "key"].map(|name| folder.path().join(name));
        fs::write(&cert, "1").unwrap();
        fs::write(&key, "1").unwrap();
        let mut watch = Watch::default();
        watch.set([cert.as_path(), key.as_path()].into_iter());
        assert!(!watch.has_changed());
        fs::write(&cert, "22").unwrap();
        assert!(!watch.has_changed(), "may go on");
        fs::write(&key, "22").unwrap();
        assert!(!watch.has_changed(), "did go on");
        assert!(watch.has_changed(), "settled");
        assert!(!watch.has_changed(), "told once");
        fs::remove_file(&key).unwrap();
        assert!(!watch.has_changed());
        assert!(watch.has_changed(), "gone is changed too");
        fs::write(&cert, "333").unwrap();
        watch.set([cert.as_path()].into_iter());
        assert!(!watch.has_changed());
        assert!(watch.has_changed(), "a file that stays watched keeps the state it was read in");
        fs::write(&cert, "4444").unwrap();
        watch.forget();
        assert!(!watch.has_changed() && !watch.has_changed(), "forgotten");
    }
}
