//! The data directory, and the master token kept in it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use longshore::acl::MasterToken;

use crate::config::{MASTER_TOKEN_ENV, Place, Problem, Source};

/// The file of the master token.
pub(crate) const TOKEN_FILE: &str = "master-token";

/// The folder of the journal.
pub(crate) const JOURNAL: &str = "journal";

/// The folder of a journal that is being restored.
const RESTORING: &str = "journal.restoring";

/// The folder of everything the broker keeps.
#[derive(Debug)]
pub(crate) struct DataDir {
    path: PathBuf,
}

/// The master token, and where it came from.
#[derive(Debug)]
pub(crate) struct Master {
    /// The token.
    pub(crate) token: MasterToken,
    /// Where it was read or written.
    pub(crate) source: Source,
    /// Made just now: nobody knows it yet, and it is to be kept.
    pub(crate) is_new: bool,
}

impl DataDir {
    /// The directory at `path`, which need not be there.
    pub(crate) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    /// The master token: from `environment` if it is set there, else the one kept here, else a new
    /// one. Leaves nothing behind.
    pub(crate) fn master(&self, environment: Option<&str>) -> Result<Master, Problem> {
        if let Some(text) = environment {
            return from_environment(text);
        }
        let path = self.path.join(TOKEN_FILE);
        let (token, is_new) = match read(&path)? {
            Some(token) => (token, false),
            None => (MasterToken::generate().map_err(|it| problem(&path, it.to_string()))?, true),
        };
        Ok(Master { token, source: Source::File(path), is_new })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the journal is.
    pub(crate) fn journal(&self) -> PathBuf {
        self.path.join(JOURNAL)
    }

    /// Where the journal is while it is restored.
    pub(crate) fn restoring(&self) -> PathBuf {
        self.path.join(RESTORING)
    }

    /// Refuses a directory that was restored in part: a broker would begin with nothing there.
    pub(crate) fn check_whole(&self) -> Result<(), Problem> {
        let path = self.restoring();
        if !path.exists() {
            return Ok(());
        }
        let what = "a restore was cut short: run `longshore data restore` again, or remove this \
                    folder to begin with nothing";
        Err(problem(&path, what.to_owned()))
    }

    /// Makes the directory if it is not there, for its owner alone.
    pub(crate) fn make(&self) -> Result<(), Problem> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&self.path);
        made.map_err(|error| {
            let hint = match error.kind() {
                ErrorKind::PermissionDenied => "; name another with --data-dir",
                _ => "",
            };
            problem(&self.path, format!("cannot be made a data directory: {error}{hint}"))
        })
    }

    /// Makes the directory if it is not there, and keeps a new token in it.
    pub(crate) fn keep(&self, master: &Master) -> Result<(), Problem> {
        self.make()?;
        if !master.is_new {
            return Ok(());
        }
        let path = self.path.join(TOKEN_FILE);
        let text = format!("{}\n", master.token.expose());
        write_once(&self.path, TOKEN_FILE, text.as_bytes()).map_err(|error| {
            let what = match error.kind() {
                ErrorKind::AlreadyExists => "another start was quicker: start again".to_owned(),
                _ => format!("cannot be written: {error}"),
            };
            problem(&path, what)
        })
    }
}

/// Writes a file for its owner alone, so that after a crash there is either all of it or none, and
/// never over one that is there.
pub(crate) fn write_once(directory: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    let draft = directory.join(format!("{name}.{}", std::process::id()));
    let written =
        write_durably(&draft, text).and_then(|()| fs::hard_link(&draft, directory.join(name)));
    let removed = fs::remove_file(&draft);
    written.and(removed)?;
    File::open(directory)?.sync_all()
}

/// The token of the environment variable.
pub(crate) fn from_environment(text: &str) -> Result<Master, Problem> {
    let source = Source::Environment(MASTER_TOKEN_ENV.to_owned());
    match text.parse() {
        Ok(token) => Ok(Master { token, source, is_new: false }),
        Err(error) => Err(Problem { place: Place::Source(source), what: format!("{error}") }),
    }
}

fn write_durably(path: &Path, text: &[u8]) -> io::Result<()> {
    // One left by a start that was cut short may have any mode.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}

fn read(path: &Path) -> Result<Option<MasterToken>, Problem> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(problem(path, format!("cannot be read: {error}"))),
    };
    let token = text.trim_end().parse().map_err(|error| {
        problem(path, format!("{error}; put the token back or remove the file for a new one"))
    })?;
    let mode = fs::metadata(path).map_or(0, |it| it.mode());
    if mode & 0o077 != 0 {
        let what = "the master token can be read by others: chmod 600 it, and renew it";
        tracing::warn!(path = %path.display(), mode = format!("{:o}", mode & 0o777), "{what}");
    }
    Ok(Some(token))
}

/// Something wrong with a file or folder.
pub(crate) fn problem(path: &Path, what: String) -> Problem {
    Problem { place: Place::Source(Source::File(path.to_owned())), what }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn the_first_start_makes_a_token_for_its_owner_alone_and_later_ones_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/data");
        let data = DataDir::at(&path);
        let first = data.master(None).unwrap();
        assert!(!folder.path().join("a").exists(), "nothing is made before it is known to start");
        let quicker = data.master(None).unwrap();
        data.keep(&first).unwrap();
        let refused = data.keep(&quicker).unwrap_err().to_string();
        assert!(refused.ends_with("another start was quicker: start again"), "{refused}");
        let second = data.master(None).unwrap();
        data.keep(&second).unwrap();
        assert!(first.is_new && !second.is_new);
        assert!(first.token.matches(second.token.expose().as_bytes()));
        assert_eq!((mode(&path), mode(&path.join(TOKEN_FILE))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "no draft stays behind");
    }

    #[test]
    fn the_environment_goes_over_the_file_and_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::at(folder.path());
        let text = "a1".repeat(32);
        let master = data.master(Some(&text)).unwrap();
        assert!(master.token.matches(text.as_bytes()) && !master.is_new);
        data.keep(&master).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let refused = data.master(Some("short")).unwrap_err().to_string();
        assert!(refused.starts_with("LONGSHORE_MASTER_TOKEN: a token has 64"), "{refused}");
    }

    #[test]
    fn a_damaged_token_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::at(folder.path());
        fs::write(folder.path().join(TOKEN_FILE), "abc\n").unwrap();
        let refused = data.master(None).unwrap_err().to_string();
        assert!(refused.contains("put the token back or remove the file"), "{refused}");
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let data = DataDir::at(&path);
        let refused = data.keep(&data.master(None).unwrap()).unwrap_err().to_string();
        assert!(refused.contains("cannot be made a data directory"), "{refused}");
    }
}
