//! The tables of a data directory, those of accounts and those of modules, and the secret that they
//! are of no use without: copied, looked at and put back.

use std::fs::{self, DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use longshore::accounts::{SECRET_FILE, TABLES_FOLDER};
use longshore::module::MODULES_FOLDER;
use longshore_storage::{Changes, LockError, Tables, TablesError};

use super::open;
use crate::config::Problem;
use crate::control::{Answer, Next, SOCKET};
use crate::data_dir::{DataDir, problem};

/// The folders of tables, and what is said before how many rows they have.
pub(super) const STORES: [(&str, &str); 2] =
    [(TABLES_FOLDER, "rows   "), (MODULES_FOLDER, "modules")];

/// How many rows there are in the tables of each folder; none where there is no such folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows([Option<u64>; STORES.len()]);

impl Rows {
    /// Those that `count` finds in each folder.
    pub(super) fn of(
        mut count: impl FnMut(&'static str) -> Result<Option<u64>, Problem>,
    ) -> Result<Self, Problem> {
        let mut rows = Self::default();
        for (found, (folder, _)) in rows.0.iter_mut().zip(STORES) {
            *found = count(folder)?;
        }
        Ok(rows)
    }

    /// The folders that there are.
    pub(super) fn folders(&self) -> impl Iterator<Item = &'static str> {
        STORES.into_iter().zip(self.0).filter_map(|((folder, _), rows)| rows.map(|_| folder))
    }

    /// What is said of them, after what is said of the journal.
    pub(super) fn summary(&self) -> String {
        let told = STORES.into_iter().zip(self.0);
        told.filter_map(|((_, word), rows)| Some(format!("{word}  {}\n", rows?))).collect()
    }
}

/// How long a backup waits for a broker that has just begun, or is about to end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks at it.
const LOOK: Duration = Duration::from_millis(50);
/// Rows that are written at once.
const ROWS_MAX: usize = 4_096;
/// Bytes of the secret.
const SECRET_BYTES: usize = 32;

/// Copies the tables of a data directory, as far as it has any, to folders that are made for them
/// in `to`, and says how many rows they have. The journal is copied before: so nothing in that copy
/// is of an account that the tables do not know yet, and of one that is gone meanwhile the next
/// start drops it.
pub(super) fn copy(data: &DataDir, to: &Path) -> Result<Rows, Problem> {
    Rows::of(|folder| {
        let tables = data.path().join(folder);
        if !tables.exists() {
            return Ok(None);
        }
        check_secret(data.path())?;
        let to = partial(to, folder);
        copy_of_any(data, folder, &to)?;
        // What was copied is what can be read again. It also leaves no file larger than its
        // content.
        rows(&to).map(Some)
    })
}

/// Copies whether a broker runs or not, and no matter whether it just begins or ends.
fn copy_of_any(data: &DataDir, folder: &str, to: &Path) -> Result<(), Problem> {
    let tables = &data.path().join(folder);
    let failed = |error: &dyn ToString| problem(tables, error.to_string());
    let (disk, begun) = (open(&data.journal())?, Instant::now());
    loop {
        let held = match disk.lock() {
            Ok(_lock) => match Tables::open(tables).and_then(|tables| tables.backup(to)) {
                Err(TablesError::InUse) => TablesError::InUse.to_string(),
                copied => return copied.map_err(|error| failed(&error)),
            },
            Err(held @ LockError::Held { .. }) => held.to_string(),
            Err(error) => return Err(failed(&error)),
        };
        match Answer::ask(data, folder) {
            Ok(answer) => return receive(answer, to).map_err(|error| failed(&error)),
            Err(error) if begun.elapsed() > PATIENCE => {
                let socket = data.path().join(SOCKET);
                let what = format!("{held}, and nobody answers here ({error}): stop it first");
                return Err(problem(&socket, what));
            }
            Err(_) => thread::sleep(LOOK),
        }
    }
}

/// Makes tables of what a broker tells.
fn receive(mut answer: Answer, to: &Path) -> io::Result<()> {
    let copy = Tables::open(to).map_err(io::Error::other)?;
    let (mut table, mut changes) = (None, Changes::new());
    loop {
        match answer.next()? {
            Next::Table(name) => table = Some(copy.table(&name).map_err(io::Error::other)?),
            Next::Row(key, value) => {
                let table = table.as_ref().ok_or(ErrorKind::InvalidData)?;
                changes.put(table, &key, &value);
            }
            Next::End => break copy.commit(changes).map_err(io::Error::other),
        }
        if changes.len() == ROWS_MAX {
            copy.commit(std::mem::take(&mut changes)).map_err(io::Error::other)?;
        }
    }
}

/// Reads the tables of a data directory whose broker is stopped, and says how many rows they have.
pub(super) fn verify(data: &DataDir) -> Result<Rows, Problem> {
    Rows::of(|folder| {
        let tables = data.path().join(folder);
        if !tables.exists() {
            return Ok(None);
        }
        check_secret(data.path())?;
        rows(&tables).map(Some)
    })
}

/// Reads all rows of tables that nobody has open.
pub(super) fn rows(path: &Path) -> Result<u64, Problem> {
    let count = || {
        let (tables, mut count) = (Tables::open(path)?, 0);
        for name in tables.names() {
            for row in tables.table(&name)?.range(..) {
                row?;
                count += 1;
            }
        }
        Ok(count)
    };
    count().map_err(|error: TablesError| problem(path, error.to_string()))
}

fn check_secret(directory: &Path) -> Result<(), Problem> {
    let path = directory.join(SECRET_FILE);
    let wrong = match fs::read(&path) {
        Ok(bytes) if bytes.len() == SECRET_BYTES => return Ok(()),
        Ok(bytes) => format!("has {} bytes and not {SECRET_BYTES}", bytes.len()),
        Err(error) => format!("cannot be read: {error}"),
    };
    Err(problem(&path, format!("{wrong}; without it no token opens anything: restore a backup")))
}

/// Copies the tables of a backup as they are to a folder that is made for them. The backup is only
/// read.
pub(super) fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_files(&from, &to)?;
        } else {
            fs::copy(&from, &to)?;
            File::open(&to)?.sync_all()?;
        }
    }
    File::open(to)?.sync_all()
}

/// Where tables are until they are complete.
pub(super) fn partial(directory: &Path, folder: &str) -> PathBuf {
    directory.join(format!("{folder}.partial"))
}

/// Takes away what came of a copy.
pub(super) fn remove(directory: &Path) -> io::Result<()> {
    for (folder, _) in STORES {
        for path in [partial(directory, folder), directory.join(folder)] {
            match fs::remove_dir_all(path) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Gives the copies their names: they are complete.
pub(super) fn finish(directory: &Path, rows: Rows) -> io::Result<()> {
    rows.folders()
        .try_for_each(|folder| fs::rename(partial(directory, folder), directory.join(folder)))
}
