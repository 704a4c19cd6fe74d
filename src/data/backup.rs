//! `longshore data backup`: a copy of what a broker keeps, whether it runs or not.
//!
//! A backup is laid out as a data directory is, and has one file more, which says what it holds.
//! That is written, and the journal gets its name, when all else is on the medium: what lacks
//! either is no backup.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longshore::accounts::SECRET_FILE;
use longshore_storage::{Disk, LOCK_FILE, Report, SystemDisk};

use super::progress::Progress;
use super::tables::{self, Rows};
use super::{explain_copy, open, say, summary};
use crate::config::Problem;
use crate::data_dir::{DataDir, JOURNAL, TOKEN_FILE, problem, write_once};

/// The file that says what a backup holds.
pub(super) const CONTENTS_FILE: &str = "backup";

/// Files that are kept as they are: they open what is in the rest.
pub(super) const KEPT_FILES: [&str; 2] = [TOKEN_FILE, SECRET_FILE];

/// The folder of the journal until it is complete.
const PARTIAL: &str = "journal.partial";

/// Copies the journal, the tables with their secret, and the master token to `target`.
pub(super) fn backup(data: &DataDir, target: &Path) -> Result<(), Problem> {
    let from = open(&data.journal())?;
    let mut target = Target::make(target, data)?;
    let report = copy_journal(&from, &target.path.join(PARTIAL), "backing up")?;
    let rows = tables::copy(data, &target.path)?;
    let finished = target.finish(data, &report, rows);
    finished.map_err(|error| problem(&target.path, format!("cannot be written: {error}")))?;
    let said = format!("{}{}", summary(&report), rows.summary());
    say(&format!("{said}ok, a backup is in {}\n", target.path.display()));
    Ok(())
}

/// What the file of that name holds for this report and these rows of tables.
pub(super) fn contents(report: &Report, rows: Rows) -> String {
    // What there are no tables in is as it always was.
    let version = 1 + rows.folders().count().min(1);
    format!("longshore backup {version}\n{}{}", summary(report), rows.summary())
}

/// Copies a journal into a folder that is made for it.
pub(super) fn copy_journal(
    from: &Arc<dyn Disk>,
    path: &Path,
    doing: &'static str,
) -> Result<Report, Problem> {
    let made = DirBuilder::new().mode(0o700).create(path).and_then(|()| SystemDisk::open(path));
    let to: Arc<dyn Disk> =
        Arc::new(made.map_err(|error| problem(path, format!("cannot be made: {error}")))?);
    let mut progress = Progress::new(doing);
    let copied = longshore_storage::backup(from, &to, &mut |done, of| progress.tell(done, of));
    drop(progress);
    let report = copied.map_err(|error| problem(path, explain_copy(&error)))?;
    let unlocked = fs::remove_file(path.join(LOCK_FILE)).and_then(|()| to.sync());
    unlocked.map_err(|error| problem(path, format!("cannot be written: {error}")))?;
    Ok(report)
}

/// The directory of a backup that is being made. What is in it goes with this, unless it is
/// finished.
struct Target {
    path: PathBuf,
    is_made: bool,
    is_finished: bool,
}

impl Target {
    fn make(path: &Path, data: &DataDir) -> Result<Self, Problem> {
        let path =
            resolve(path).map_err(|error| problem(path, format!("cannot be made: {error}")))?;
        let is_inside = fs::canonicalize(data.path()).is_ok_and(|data| path.starts_with(data));
        if is_inside {
            let what = "is in the data directory itself; name another place, best on another disk";
            return Err(problem(&path, what.to_owned()));
        }
        let is_made = match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(problem(&path, format!("cannot be made: {error}"))),
        };
        let is_empty = fs::read_dir(&path).map(|mut entries| entries.next().is_none());
        match is_empty {
            Ok(true) => Ok(Self { path, is_made, is_finished: false }),
            Ok(false) => {
                let what = match path.join(PARTIAL).exists() {
                    true => "holds a backup that was cut short; remove it, or name another folder",
                    false => "is not empty; a backup goes to an empty folder or a new one",
                };
                Err(problem(&path, what.to_owned()))
            }
            Err(error) => Err(problem(&path, format!("cannot be read: {error}"))),
        }
    }

    fn finish(&mut self, data: &DataDir, report: &Report, rows: Rows) -> io::Result<()> {
        for name in KEPT_FILES {
            match fs::read(data.path().join(name)) {
                Ok(text) => write_once(&self.path, name, &text)?,
                // The token is in the environment; the secret comes with the tables.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        tables::finish(&self.path, rows)?;
        write_once(&self.path, CONTENTS_FILE, contents(report, rows).as_bytes())?;
        fs::rename(self.path.join(PARTIAL), self.path.join(JOURNAL))?;
        File::open(&self.path)?.sync_all()?;
        if let Some(parent) = self.path.parent() {
            File::open(parent)?.sync_all()?;
        }
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.is_finished {
            return;
        }
        // It was empty, and whoever is told of the error can remove what is left now.
        let folders = [PARTIAL, JOURNAL].map(|it| self.path.join(it));
        let _ = folders.map(fs::remove_dir_all);
        let _ = tables::remove(&self.path);
        let _ = KEPT_FILES.map(|it| fs::remove_file(self.path.join(it)));
        let _ = fs::remove_file(self.path.join(CONTENTS_FILE));
        if self.is_made {
            let _ = fs::remove_dir(&self.path);
        }
    }
}

/// Where `path` is, without links and dots, though the last part of it need not be there.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match (fs::canonicalize(path), path.file_name()) {
        (Err(error), Some(name)) if error.kind() == ErrorKind::NotFound => {
            let parent = path.parent().filter(|it| !it.as_os_str().is_empty());
            Ok(fs::canonicalize(parent.unwrap_or(Path::new(".")))?.join(name))
        }
        (resolved, _) => resolved,
    }
}
