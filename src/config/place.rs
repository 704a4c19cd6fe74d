//! Where a setting stands, so that what is wrong with it can be found.

use std::fmt;
use std::path::{Path, PathBuf};

/// Something that holds settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// The configuration file or another one it names.
    File(PathBuf),
    /// A variable of the environment.
    Environment(String),
    /// An option of the command line.
    Argument(&'static str),
}

/// A place in a source, as exact as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// Line and column of a file, both counted from 1.
    Line {
        /// The file.
        path: PathBuf,
        /// Its line.
        line: usize,
        /// The character of that line.
        column: usize,
    },
    /// All of a source.
    Source(Source),
    /// No place of its own.
    Everywhere,
}

impl Place {
    /// The place of the byte `at` of `text`, the content of `path`.
    pub(super) fn at(path: &Path, text: &str, at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self::Line {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => f.write_str(name),
            Self::Argument(name) => f.write_str(name),
        }
    }
}

/// Something wrong with the configuration, in words that say what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    /// Where.
    pub(crate) place: Place,
    /// What.
    pub(crate) what: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Line { path, line, column } => {
                write!(f, "{}:{line}:{column}: {}", path.display(), self.what)
            }
            Place::Source(source) => write!(f, "{source}: {}", self.what),
            Place::Everywhere => f.write_str(&self.what),
        }
    }
}
