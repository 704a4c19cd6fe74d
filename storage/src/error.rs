//! What can go wrong, by operation.

use std::fmt;
use std::io;
use std::sync::Arc;

use crate::disk::LockError;
use crate::format::Unsound;
use crate::position::Position;

/// The command of the binary that [`repair`](crate::repair)s.
const REPAIR: &str = "longshore data repair";

/// A place where a directory is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Name of the file in the directory.
    pub file: String,
    /// Bytes from its start.
    pub offset: u32,
    /// What is wrong there.
    pub flaw: Flaw,
}

/// What is wrong with a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Flaw {
    /// It is not there, though segments before and after it are.
    Missing,
    /// It does not begin as a segment does, or as another segment does.
    Header,
    /// A part of the log that was durable cannot be read.
    Record(Unsound),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, offset, flaw } = self;
        match flaw {
            Flaw::Missing => write!(f, "{file} is missing"),
            Flaw::Header => write!(f, "{file} does not begin as this segment must"),
            Flaw::Record(unsound) => write!(f, "{file} is damaged at byte {offset}: {unsound}"),
        }
    }
}

/// Why a log could not be opened, verified or repaired.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory is in use, or cannot be locked.
    Lock(LockError),
    /// An option is out of its bounds; says which.
    Options(&'static str),
    /// A file was written by a later version of the program.
    Version {
        /// Its name.
        file: String,
        /// The version of its format.
        version: u32,
    },
    /// What was durable cannot be read.
    Damaged(Damage),
    /// The system refused an operation.
    Io {
        /// What was to be done.
        doing: &'static str,
        /// With which file; empty for the directory.
        file: String,
        /// What the system said.
        error: io::Error,
    },
}

impl OpenError {
    /// Makes an error of what the system says; nothing is made before it does.
    pub(crate) fn io(doing: &'static str, file: &str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { doing, file: file.to_owned(), error }
    }
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lock(error) => error.fmt(f),
            Self::Options(which) => write!(f, "{which} is out of its bounds"),
            Self::Version { file, version } => write!(
                f,
                "{file} has format {version}: it was written by a later version of Longshore"
            ),
            Self::Damaged(damage) => {
                write!(f, "{damage}; `{REPAIR}` keeps all that is sound")
            }
            Self::Io { doing, file, error } => write!(f, "cannot {doing} {file}: {error}"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Lock(error) => Some(error),
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}

/// Why a log could not be copied.
#[derive(Debug)]
#[non_exhaustive]
pub enum BackupError {
    /// There are files in the directory that the copy was to go to.
    NotEmpty,
    /// The log ends before the ticket at which the copy was to end.
    NotReached,
    /// Segments came and went faster than they could be copied.
    Unsteady,
    /// One of the two directories could not be read or written, or the log is damaged.
    Open(OpenError),
}

impl From<OpenError> for BackupError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotEmpty => f.write_str("the directory for the copy is not empty"),
            Self::NotReached => f.write_str("the log ends before the copy was to end"),
            Self::Unsteady => f.write_str(
                "the log changes faster than it can be copied; try again when less is written",
            ),
            Self::Open(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BackupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open(error) => Some(error),
            _ => None,
        }
    }
}

/// A write or a sync that went wrong. Nothing is known of what was to be durable then, so nothing
/// after it is ever called durable: the log is to be opened again.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What was to be done.
    pub doing: &'static str,
    /// With which file; empty for the directory.
    pub file: String,
    /// What the system said.
    pub error: Arc<io::Error>,
}

impl Failure {
    pub(crate) fn new(doing: &'static str, file: &str, error: io::Error) -> Self {
        Self { doing, file: file.to_owned(), error: Arc::new(error) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.doing, self.file, self.error)
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.error)
    }
}

/// Why a batch was not appended. Nothing of it was.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Refused {
    /// No further segment can be allocated, for this reason; mostly that the disk is full. It will
    /// be taken again once one can, or a segment has been retired.
    Full(Arc<io::Error>),
    /// [`Options::pending_bytes_max`](crate::Options::pending_bytes_max) wait, or segments are
    /// being allocated for it. It will be taken after a commit.
    Busy,
    /// A record is larger than
    /// [`Options::record_bytes_max`](crate::Options::record_bytes_max).
    TooLarge {
        /// Bytes of its body.
        bytes: usize,
    },
    /// The log has failed before.
    Failed(Failure),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(error) => write!(f, "no segment can be allocated: {error}"),
            Self::Busy => f.write_str("too much waits to be written"),
            Self::TooLarge { bytes } => write!(f, "a record of {bytes} bytes is too large"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for Refused {}

/// Why a segment was not retired.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum NotRetired {
    /// It is not there, or still written to.
    NotFull,
    /// Nothing has happened, and it can be tried again: mostly the disk is full even for that.
    NotYet(Arc<io::Error>),
    /// The log has failed, now or before.
    Failed(Failure),
}

impl fmt::Display for NotRetired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFull => f.write_str("no such segment, or not a full one"),
            Self::NotYet(error) => write!(f, "the segment cannot be retired yet: {error}"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

impl std::error::Error for NotRetired {}

/// Why a record could not be read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReadError {
    /// Its segment is not there, or retired.
    Gone(Position),
    /// There is no sound record at this position.
    Damaged(Damage),
    /// The system refused to read.
    Io {
        /// The file.
        file: String,
        /// What it said.
        error: io::Error,
    },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone(position) => write!(f, "there is no segment of position {position}"),
            Self::Damaged(damage) => damage.fmt(f),
            Self::Io { file, error } => write!(f, "cannot read {file}: {error}"),
        }
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}
