//! The seam to the file system: one flat directory of preallocated files.
//!
//! The log does everything through [`Disk`] and [`DiskFile`], so that tests can cut the power at
//! any write or sync, fill the disk and return errors: [`SimulatedDisk`]. In production it is
//! [`SystemDisk`].

use std::any::Any;
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;

mod simulated;
mod system;

pub use self::simulated::{Fault, Operation, SimulatedDisk};
pub use self::system::SystemDisk;

/// The file by which a directory is locked.
pub const LOCK_FILE: &str = "lock";

/// Bytes that are copied at once.
const COPY_BYTES: usize = 1 << 20;

/// One directory of files, without directories in it.
///
/// What a method did to names is on the medium only after [`Disk::sync`], what was written to a
/// file only after its [`DiskFile::sync`].
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes this process the only one in the directory, until the lock is dropped.
    ///
    /// # Errors
    /// [`LockError::Held`] when another holds it.
    fn lock(&self) -> Result<DirectoryLock, LockError>;

    /// Names of all files, in no order.
    ///
    /// # Errors
    /// What the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// A new file of `bytes` bytes, all zero, with room on the medium for every one of them. After
    /// an error nothing is left of it.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::AlreadyExists`] when there is a file of that name.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Arc<dyn DiskFile>>;

    /// A file that is there, to be read and, where the system allows, written.
    ///
    /// # Errors
    /// What the system says.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, at once and instead of a file that had that name.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Who has it open can still use it.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Brings the names of files to the medium: what was created, renamed and removed.
    ///
    /// # Errors
    /// What the system says. Nothing is known of the names then.
    fn sync(&self) -> io::Result<()>;

    /// Bytes that can still be allocated.
    ///
    /// # Errors
    /// What the system says.
    fn free_bytes(&self) -> io::Result<u64>;
}

/// An open file. All threads may use it at once.
pub trait DiskFile: fmt::Debug + Send + Sync {
    /// Its size.
    ///
    /// # Errors
    /// What the system says.
    fn bytes(&self) -> io::Result<u64>;

    /// Reads up to `buffer.len()` bytes from `offset` on, and says how many; 0 only at the end.
    ///
    /// # Errors
    /// What the system says.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of `bytes` from `offset` on.
    ///
    /// # Errors
    /// What the system says. Any part may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Brings what was written, and the size, to the medium.
    ///
    /// # Errors
    /// What the system says. What was written since the last sync may be lost then, even if it can
    /// still be read, and even if a later sync succeeds.
    fn sync(&self) -> io::Result<()>;
}

/// Reads from `offset` on until `buffer` is full or the file ends, and says how many bytes.
///
/// # Errors
/// What the system says.
pub fn read_up_to(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Copies a stretch of a file to the same place of another, or as much of it as there is.
pub(crate) fn copy_bytes(
    from: &dyn DiskFile,
    to: &dyn DiskFile,
    range: Range<u32>,
) -> io::Result<()> {
    let mut buffer = vec![0; COPY_BYTES.min(range.len())];
    let mut offset = u64::from(range.start);
    while offset < u64::from(range.end) {
        let wanted = COPY_BYTES.min((u64::from(range.end) - offset) as usize);
        let read = read_up_to(from, &mut buffer[..wanted], offset)?;
        if read == 0 {
            break;
        }
        to.write_at(&buffer[..read], offset)?;
        offset += read as u64;
    }
    Ok(())
}

/// Holds the directory for this process until it is dropped.
pub struct DirectoryLock {
    /// Dropping it is what unlocks.
    _held: Box<dyn Any + Send + Sync>,
}

impl DirectoryLock {
    /// A lock that lasts as long as `held`.
    #[must_use]
    pub fn new(held: impl Any + Send + Sync) -> Self {
        Self { _held: Box::new(held) }
    }
}

impl fmt::Debug for DirectoryLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DirectoryLock").finish_non_exhaustive()
    }
}

/// Why the directory could not be locked.
#[derive(Debug)]
#[non_exhaustive]
pub enum LockError {
    /// Another process uses it.
    Held {
        /// Its process id, if it has come to write it down.
        pid: Option<u32>,
    },
    /// The lock file cannot be opened or locked.
    Io(io::Error),
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { pid: Some(pid) } => write!(f, "in use by process {pid}"),
            Self::Held { pid: None } => f.write_str("in use by another process"),
            Self::Io(error) => write!(f, "the file {LOCK_FILE} cannot be locked: {error}"),
        }
    }
}

impl std::error::Error for LockError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Held { .. } => None,
            Self::Io(error) => Some(error),
        }
    }
}
