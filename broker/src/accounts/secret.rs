//! The file of what keys are hidden under.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use longshore_acl::Secret;

use super::OpenError;

/// The file of what keys are hidden under, 32 bytes for their owner alone, in the folder that
/// accounts are kept in. Without it no token opens anything.
pub const NAME: &str = "secret";

/// What is kept in the folder, or a new one; not where there are rows that were written under
/// another.
pub(super) fn read_or_make(folder: &Path, is_needed: bool) -> Result<Secret, OpenError> {
    let path = folder.join(NAME);
    let failed = |error| OpenError::Secret(path.clone(), error);
    match fs::read(&path) {
        Ok(bytes) => match <[u8; 32]>::try_from(bytes) {
            Ok(bytes) => Ok(Secret::from_bytes(bytes)),
            Err(_) => Err(failed(io::Error::new(ErrorKind::InvalidData, "it has not 32 bytes"))),
        },
        Err(error) if error.kind() == ErrorKind::NotFound && !is_needed => {
            let secret = Secret::generate().map_err(OpenError::NoRandomness)?;
            write(folder, &path, secret.expose()).map_err(failed)?;
            Ok(secret)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Writes the file so that after a crash there is all of it or none.
fn write(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let draft = path.with_extension("draft");
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(folder)?.sync_all()
}
