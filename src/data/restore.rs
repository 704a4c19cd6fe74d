//! `longshore data restore`: a data directory out of a backup.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use longshore_storage::{Disk, LOCK_FILE, LockError, SystemDisk};

use super::backup::{CONTENTS_FILE, contents, copy_journal};
use super::{open, say, summary};
use crate::config::Problem;
use crate::data_dir::{DataDir, JOURNAL, TOKEN_FILE, problem, write_once};

/// Makes a data directory of the backup in `backup`.
pub(super) fn restore(backup: &Path, data: &DataDir) -> Result<(), Problem> {
    let expected = read_contents(backup)?;
    let from = open(&backup.join(JOURNAL))?;
    let token = Token::find(backup, data)?;
    data.make()?;
    make_way(data)?;
    let restoring = data.restoring();
    let restored = copy_journal(&from, &restoring, "restoring").and_then(|report| {
        if contents(&report) != expected {
            let what = "is not as it was backed up: files were lost or changed since, or a broker \
                        ran in it; take another backup, or use this one as it is, as a data \
                        directory";
            return Err(problem(backup, what.to_owned()));
        }
        let finished = finish(data, &token);
        finished.map_err(|error| problem(data.path(), format!("cannot be written: {error}")))?;
        Ok(report)
    });
    if restored.is_err() {
        // A broker that is started now would begin with nothing, as it would have before.
        let _ = fs::remove_dir_all(&restoring);
    }
    let path = data.path().display();
    say(&format!("{}ok, restored to {path}\n", summary(&restored?)));
    Ok(())
}

/// What the backup held when it was made.
fn read_contents(backup: &Path) -> Result<String, Problem> {
    let path = backup.join(CONTENTS_FILE);
    fs::read_to_string(&path).map_err(|error| {
        let what = match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                "is no backup: `longshore data backup` did not make it, or was cut short".to_owned()
            }
            _ => format!("cannot be read: {error}"),
        };
        problem(backup, what)
    })
}

/// The master token of the backup.
enum Token {
    /// It is to be written.
    New(Vec<u8>),
    /// There is none, or the data directory has the same one.
    Kept,
}

impl Token {
    fn find(backup: &Path, data: &DataDir) -> Result<Self, Problem> {
        let path = data.path().join(TOKEN_FILE);
        let read = |path: &Path| match fs::read(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(problem(path, format!("cannot be read: {error}"))),
        };
        match (read(&backup.join(TOKEN_FILE))?, read(&path)?) {
            (Some(token), None) => Ok(Self::New(token)),
            (None, _) => Ok(Self::Kept),
            (Some(token), Some(there)) if token == there => Ok(Self::Kept),
            (Some(_), Some(_)) => {
                let what = "is not the master token of the backup; remove it to have that one, or \
                            name another data directory with --data-dir";
                Err(problem(&path, what.to_owned()))
            }
        }
    }
}

/// Refuses a directory with a journal, and takes away what an earlier restore left.
fn make_way(data: &DataDir) -> Result<(), Problem> {
    let restoring = data.restoring();
    if lock(&restoring)? {
        let removed = fs::remove_dir_all(&restoring);
        removed.map_err(|error| problem(&restoring, format!("cannot be removed: {error}")))?;
    }
    let journal = data.journal();
    if !lock(&journal)? {
        return Ok(());
    }
    // Where nothing was ever kept there is the lock alone.
    let holds_files = fs::read_dir(&journal).and_then(|mut entries| {
        entries.try_fold(false, |holds, entry| Ok(holds || entry?.file_name() != LOCK_FILE))
    });
    let removed = match holds_files {
        Ok(true) => {
            let what = "is there already, and a restore writes over nothing: move it away, or \
                        name another data directory with --data-dir";
            return Err(problem(&journal, what.to_owned()));
        }
        Ok(false) => fs::remove_dir_all(&journal),
        Err(error) => Err(error),
    };
    removed.map_err(|error| problem(&journal, format!("cannot be removed: {error}")))
}

/// Whether the folder of a journal is there, and nobody uses it.
fn lock(path: &Path) -> Result<bool, Problem> {
    let disk = match SystemDisk::open(path) {
        Ok(disk) => Arc::new(disk),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(problem(path, format!("cannot be opened: {error}"))),
    };
    match disk.lock() {
        Ok(_) => Ok(true),
        Err(error @ LockError::Held { .. }) => {
            let what = format!("{error}: stop it first, or name another with --data-dir");
            Err(problem(path, what))
        }
        Err(error) => Err(problem(path, error.to_string())),
    }
}

/// Brings all to the medium; only the last step makes it a data directory with a journal.
fn finish(data: &DataDir, token: &Token) -> io::Result<()> {
    if let Token::New(text) = token {
        write_once(data.path(), TOKEN_FILE, text)?;
    }
    fs::rename(data.restoring(), data.journal())?;
    File::open(data.path())?.sync_all()?;
    let path = fs::canonicalize(data.path())?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
