//! `longshore data restore`: a data directory out of a backup.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use longshore_storage::{Disk, LOCK_FILE, LockError, SystemDisk};

use super::backup::{CONTENTS_FILE, KEPT_FILES, contents, copy_journal};
use super::tables::{self, Rows};
use super::{open, say, summary};
use crate::config::Problem;
use crate::data_dir::{DataDir, JOURNAL, problem, write_once};

/// Makes a data directory of the backup in `backup`.
pub(super) fn restore(backup: &Path, data: &DataDir) -> Result<(), Problem> {
    let expected = read_contents(backup)?;
    let from = open(&backup.join(JOURNAL))?;
    let files = KEPT_FILES.map(|name| Kept::find(name, backup, data));
    let files = files.into_iter().collect::<Result<Vec<_>, _>>()?;
    data.make()?;
    make_way(data)?;
    let restoring = data.restoring();
    let restored = copy_journal(&from, &restoring, "restoring").and_then(|report| {
        let rows = copy_tables(backup, data)?;
        if contents(&report, rows) != expected {
            let what = "is not as it was backed up: files were lost or changed since, or a broker \
                        ran in it; take another backup, or use this one as it is, as a data \
                        directory";
            return Err(problem(backup, what.to_owned()));
        }
        let finished = finish(data, files, rows);
        finished.map_err(|error| problem(data.path(), format!("cannot be written: {error}")))?;
        Ok(format!("{}{}", summary(&report), rows.summary()))
    });
    if restored.is_err() {
        // A broker that is started now would begin with nothing, as it would have before.
        let _ = tables::remove(data.path()).and_then(|()| fs::remove_dir_all(&restoring));
    }
    say(&format!("{}ok, restored to {}\n", restored?, data.path().display()));
    Ok(())
}

/// Copies the tables of the backup, as far as it has any, and says how many rows they have.
fn copy_tables(backup: &Path, data: &DataDir) -> Result<Rows, Problem> {
    Rows::of(|folder| {
        let (from, to) = (backup.join(folder), tables::partial(data.path(), folder));
        if !from.exists() {
            return Ok(None);
        }
        let copied = tables::copy_files(&from, &to);
        copied.map_err(|error| problem(&from, format!("cannot be copied: {error}")))?;
        tables::rows(&to).map(Some)
    })
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

/// A file of the backup that is kept as it is.
enum Kept {
    /// It is to be written.
    New(&'static str, Vec<u8>),
    /// There is none, or the data directory has the same one.
    There,
}

impl Kept {
    fn find(name: &'static str, backup: &Path, data: &DataDir) -> Result<Self, Problem> {
        let path = data.path().join(name);
        let read = |path: &Path| match fs::read(path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(problem(path, format!("cannot be read: {error}"))),
        };
        match (read(&backup.join(name))?, read(&path)?) {
            (Some(text), None) => Ok(Self::New(name, text)),
            (None, _) => Ok(Self::There),
            (Some(text), Some(there)) if text == there => Ok(Self::There),
            (Some(_), Some(_)) => {
                let what = format!(
                    "is not the {} of the backup; remove it to have that one, or name another \
                     data directory with --data-dir",
                    name.replace('-', " ")
                );
                Err(problem(&path, what))
            }
        }
    }
}

/// Refuses a directory with a journal or tables, and takes away what an earlier restore left.
fn make_way(data: &DataDir) -> Result<(), Problem> {
    let restoring = data.restoring();
    if lock(&restoring)? {
        // No restore begins where there are tables, and no broker where one was cut short: if there
        // are any, they came with it.
        let removed = tables::remove(data.path()).and_then(|()| fs::remove_dir_all(&restoring));
        removed.map_err(|error| problem(&restoring, format!("cannot be removed: {error}")))?;
    }
    let journal = data.journal();
    let has_journal = lock(&journal)?;
    for (folder, _) in tables::STORES {
        let tables = data.path().join(folder);
        if tables.exists() {
            return Err(problem(&tables, IS_THERE.to_owned()));
        }
    }
    if !has_journal {
        return Ok(());
    }
    // Where nothing was ever kept there is the lock alone.
    let holds_files = fs::read_dir(&journal).and_then(|mut entries| {
        entries.try_fold(false, |holds, entry| Ok(holds || entry?.file_name() != LOCK_FILE))
    });
    let removed = match holds_files {
        Ok(true) => return Err(problem(&journal, IS_THERE.to_owned())),
        Ok(false) => fs::remove_dir_all(&journal),
        Err(error) => Err(error),
    };
    removed.map_err(|error| problem(&journal, format!("cannot be removed: {error}")))
}

const IS_THERE: &str = "is there already, and a restore writes over nothing: move it away, or name \
                        another data directory with --data-dir";

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
fn finish(data: &DataDir, files: Vec<Kept>, rows: Rows) -> io::Result<()> {
    for file in files {
        if let Kept::New(name, text) = file {
            write_once(data.path(), name, &text)?;
        }
    }
    tables::finish(data.path(), rows)?;
    fs::rename(data.restoring(), data.journal())?;
    File::open(data.path())?.sync_all()?;
    let path = fs::canonicalize(data.path())?;
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}
