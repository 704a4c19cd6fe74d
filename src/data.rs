//! `longshore data`: looks after what a broker keeps, from outside the broker.

use std::io::{self, ErrorKind, Write};
use std::path::Path;
use std::sync::Arc;

use longshore_storage::{BackupError, Disk, LockError, Loss, OpenError, Report, SystemDisk};

use self::progress::Progress;
use crate::Outcome;
use crate::cli::DataCommand;
use crate::config::Problem;
use crate::data_dir::{DataDir, problem};

mod backup;
mod progress;
mod restore;
mod tables;

/// Does what was asked for.
pub(crate) fn data(command: &DataCommand) -> Outcome {
    let done = match command {
        DataCommand::Verify(options) => verify(&DataDir::at(&options.data_dir)),
        DataCommand::Repair(options) => repair(&DataDir::at(&options.data_dir)),
        DataCommand::Backup { dir, data } => backup::backup(&DataDir::at(&data.data_dir), dir),
        DataCommand::Restore { dir, data } => restore::restore(dir, &DataDir::at(&data.data_dir)),
    };
    done.map_err(|problem| vec![problem])
}

fn verify(data: &DataDir) -> Result<(), Problem> {
    let path = data.journal();
    let disk = open(&path)?;
    let mut progress = Progress::new("verifying");
    let report = longshore_storage::verify(&disk, &mut |done, of| progress.tell(done, of));
    drop(progress);
    let report = report.map_err(|error| {
        let while_held = "stop the broker first, or back it up and verify the backup";
        problem(&path, explain(&error, while_held))
    })?;
    let damaged = report.losses.iter().map(|loss| format!("damaged  {}\n", describe(loss)));
    say(&format!("{}{}", summary(&report), damaged.collect::<String>()));
    if !report.losses.is_empty() {
        let command = format!("longshore data repair --data-dir {}", data.path().display());
        return Err(problem(&path, format!("is damaged; `{command}` keeps all that is sound")));
    }
    say(&format!("{}ok\n", tables::verify(data)?.summary()));
    Ok(())
}

fn repair(data: &DataDir) -> Result<(), Problem> {
    let path = data.journal();
    let disk = open(&path)?;
    let mut progress = Progress::new("repairing");
    let repaired = longshore_storage::repair(&disk, &mut |done, of| progress.tell(done, of));
    drop(progress);
    let repaired =
        repaired.map_err(|error| problem(&path, explain(&error, "stop the broker first")))?;
    let mut text = summary(&repaired.report);
    for loss in &repaired.report.losses {
        text.push_str(&format!("lost     {}\n", describe(loss)));
    }
    for name in &repaired.aside {
        text.push_str(&format!("aside    {}\n", path.join(name).display()));
    }
    // These can only be restored.
    let rows = tables::verify(data).inspect_err(|_| say(&text))?;
    text.push_str(&rows.summary());
    text.push_str(match repaired.report.losses.is_empty() {
        true => "ok, nothing was damaged\n",
        false => "ok, what was damaged is given up; the files put aside are as they were before\n",
    });
    say(&text);
    Ok(())
}

/// The disk of a journal that is there.
fn open(path: &Path) -> Result<Arc<dyn Disk>, Problem> {
    let disk = SystemDisk::open(path).map_err(|error| {
        let what = match error.kind() {
            ErrorKind::NotFound => {
                "is not there: no broker has kept anything here yet; name another data directory \
                 with --data-dir"
                    .to_owned()
            }
            _ => format!("cannot be opened: {error}"),
        };
        problem(path, what)
    })?;
    Ok(Arc::new(disk))
}

/// What is wrong, and what to do about it; `while_held` is for when a broker runs.
fn explain(error: &OpenError, while_held: &str) -> String {
    match error {
        OpenError::Lock(LockError::Held { .. }) => format!("{error}: {while_held}"),
        OpenError::Version { .. } => format!("{error}; use that version"),
        _ => error.to_string(),
    }
}

fn explain_copy(error: &BackupError) -> String {
    match error {
        BackupError::Open(error) => explain(error, "another copy goes there"),
        _ => error.to_string(),
    }
}

fn describe(loss: &Loss) -> String {
    let damage = &loss.damage;
    if loss.until == 0 { damage.to_string() } else { format!("{damage}; up to {}", loss.until) }
}

fn summary(report: &Report) -> String {
    let Report { segments, records, bytes, .. } = report;
    format!("segments {segments}\nrecords  {records}\nbytes    {bytes}\n")
}

fn say(text: &str) {
    // A reader that is gone has seen enough.
    let _ = io::stdout().write_all(text.as_bytes());
}
