//! What was wrong with a value somebody gave, and where.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

/// A value that was refused: the path of the field, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Where it stands, as one would write it: `access.acl[2].topic`. Empty for the whole.
    pub field: String,
    /// What is wrong with it. Never the value itself, which may be a secret.
    pub reason: Cow<'static, str>,
}

impl Invalid {
    /// This field, and what is wrong with it.
    pub fn new(field: impl Into<String>, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            return f.write_str(&self.reason);
        }
        write!(f, "{}: {}", self.field, self.reason)
    }
}

impl Error for Invalid {}
