//! What can go wrong with tables.

use std::fmt;
use std::io;

/// Why tables could not be opened, read or changed.
#[derive(Debug)]
#[non_exhaustive]
pub enum TablesError {
    /// Another process, or another part of this one, has them open.
    InUse,
    /// The folder that tables were to go to has other files in it.
    NotEmpty,
    /// They were written by another version of the store beneath.
    Version,
    /// A name is empty or longer than 255 bytes, a key is empty or longer than 65,535 bytes, or a
    /// value is longer than 4 GiB. Says which.
    Length(&'static str),
    /// Something in the files is not as it was written. Says what the store makes of it.
    Damaged(String),
    /// A write or a sync has failed before: nothing is taken until they are opened again.
    Failed,
    /// The system refused an operation.
    Io {
        /// What was to be done.
        doing: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

impl TablesError {
    /// Makes an error of what the system says.
    pub(super) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io { doing, error }
    }

    /// Makes an error of what the store says.
    pub(super) fn of(doing: &'static str) -> impl FnOnce(fjall::Error) -> Self {
        move |error| match error {
            fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => {
                Self::Io { doing, error }
            }
            fjall::Error::Locked => Self::InUse,
            fjall::Error::Poisoned => Self::Failed,
            fjall::Error::InvalidVersion(_)
            | fjall::Error::Storage(fjall::LsmError::InvalidVersion(_)) => Self::Version,
            error => Self::Damaged(format!("{error:?}")),
        }
    }
}

impl fmt::Display for TablesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InUse => f.write_str("the tables are in use by another process"),
            Self::NotEmpty => f.write_str("the folder for tables holds other files"),
            Self::Version => {
                f.write_str("the tables were written by another version of Longshore; use that one")
            }
            Self::Length(which) => write!(f, "{which} has a length that none may have"),
            Self::Damaged(what) => {
                write!(f, "the tables are damaged: {what}; restore a backup")
            }
            Self::Failed => f.write_str(
                "a write to the tables has failed before, and nothing is taken until a restart",
            ),
            Self::Io { doing, error } => write!(f, "cannot {doing} the tables: {error}"),
        }
    }
}

impl std::error::Error for TablesError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            _ => None,
        }
    }
}
