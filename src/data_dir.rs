//! The data directory, and the master token kept in it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use longshore::acl::MasterToken;

use crate::config::{MASTER_TOKEN_ENV, Place, Problem, Source};

const TOKEN_FILE: &str = "master-token";

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
    /// Made just now, so nobody knows it yet.
    pub(crate) is_new: bool,
}

impl DataDir {
    /// Opens the directory at `path`; one that is not there is made, for its owner alone.
    pub(crate) fn open(path: &Path) -> Result<Self, Problem> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
            let hint = match error.kind() {
                ErrorKind::PermissionDenied => "; name another with --data-dir",
                _ => "",
            };
            problem(path, format!("cannot be made a data directory: {error}{hint}"))
        })?;
        Ok(Self { path: path.to_owned() })
    }

    /// The master token: from `environment` if it is set there, else the one kept here, made on
    /// the first start.
    pub(crate) fn master(&self, environment: Option<&str>) -> Result<Master, Problem> {
        if let Some(text) = environment {
            return from_environment(text);
        }
        let path = self.path.join(TOKEN_FILE);
        let source = Source::File(path.clone());
        if let Some(token) = read(&path)? {
            return Ok(Master { token, source, is_new: false });
        }
        let token = MasterToken::generate().map_err(|error| problem(&path, error.to_string()))?;
        match self.keep(&path, &token) {
            Ok(()) => Ok(Master { token, source, is_new: true }),
            // Another start was quicker; its token is the one.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => match read(&path)? {
                Some(token) => Ok(Master { token, source, is_new: false }),
                None => Err(problem(&path, "vanished while it was read".to_owned())),
            },
            Err(error) => Err(problem(&path, format!("cannot be written: {error}"))),
        }
    }

    /// Writes the token so that after a crash there is either all of it or none, and never over
    /// one that is there.
    fn keep(&self, path: &Path, token: &MasterToken) -> io::Result<()> {
        let draft = self.path.join(format!("{TOKEN_FILE}.{}", std::process::id()));
        let written = write_durably(&draft, token).and_then(|()| fs::hard_link(&draft, path));
        let removed = fs::remove_file(&draft);
        written.and(removed)?;
        File::open(&self.path)?.sync_all()
    }
}

/// The token of the environment variable.
pub(crate) fn from_environment(text: &str) -> Result<Master, Problem> {
    let source = Source::Environment(MASTER_TOKEN_ENV.to_owned());
    match text.parse() {
        Ok(token) => Ok(Master { token, source, is_new: false }),
        Err(error) => Err(Problem { place: Place::Source(source), what: format!("{error}") }),
    }
}

fn write_durably(path: &Path, token: &MasterToken) -> io::Result<()> {
    // One left by a start that was cut short may have any mode.
    let _ = fs::remove_file(path);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", token.expose())?;
    file.sync_all()
}

fn read(path: &Path) -> Result<Option<MasterToken>, Problem> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
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

fn problem(path: &Path, what: String) -> Problem {
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
        let first = DataDir::open(&path).unwrap().master(None).unwrap();
        let second = DataDir::open(&path).unwrap().master(None).unwrap();
        assert!(first.is_new && !second.is_new);
        assert!(first.token.matches(second.token.expose().as_bytes()));
        assert_eq!((mode(&path), mode(&path.join(TOKEN_FILE))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&path).unwrap().count(), 1, "no draft stays behind");
    }

    #[test]
    fn the_environment_goes_over_the_file_and_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        let text = "a1".repeat(32);
        let master = data.master(Some(&text)).unwrap();
        assert!(master.token.matches(text.as_bytes()) && !master.is_new);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let refused = data.master(Some("short")).unwrap_err().to_string();
        assert!(refused.starts_with("LONGSHORE_MASTER_TOKEN: a token has 64"), "{refused}");
    }

    #[test]
    fn a_damaged_token_is_an_error_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path()).unwrap();
        fs::write(folder.path().join(TOKEN_FILE), "abc\n").unwrap();
        let refused = data.master(None).unwrap_err().to_string();
        assert!(refused.contains("put the token back or remove the file"), "{refused}");
    }

    #[test]
    fn a_file_in_the_place_of_the_directory_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, "").unwrap();
        let refused = DataDir::open(&path).unwrap_err().to_string();
        assert!(refused.contains("cannot be made a data directory"), "{refused}");
    }
}
