//! Why a batch was not taken: a code for programs, and a text for people.

use std::error::Error;
use std::fmt;
use std::io;

/// The target closed the connection (R6.23).
pub const CLOSED: i32 = -1;
/// No connection could be made: the host is unknown, refuses, or does not answer (R6.23).
pub const UNREACHABLE: i32 = -2;
/// The target took longer than a batch may take. Our own code.
pub const TIMEOUT: i32 = -3;
/// The target is in a network that streams may not reach. Our own code.
pub const FORBIDDEN: i32 = -4;
/// The target answered what its protocol does not know. Our own code.
pub const PROTOCOL: i32 = -5;
/// A certificate was not accepted, by us or by the target (R6.23).
pub const CERTIFICATE: i32 = -99;

/// Why a batch was not taken, wholly or in part.
///
/// The code is what the log of the stream has as `error_code`: below zero one of this module's
/// constants, else what the target's protocol says: the status of HTTP, the return code of
/// CONNACK (1 to 5), or 1 for a retranslator that closed the connection (R6.24).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// For programs.
    pub code: i32,
    /// For people. Never has anything of the configuration's secrets in it.
    pub text: String,
}

impl Failure {
    /// A failure with this code.
    pub fn new(code: i32, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// What an error of a connection means that has been made.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        // An alert of TLS 1.3 about a client's certificate comes with the first read.
        match error.get_ref().and_then(<dyn Error + Send + Sync>::downcast_ref::<rustls::Error>) {
            Some(tls) => Self::new(CERTIFICATE, format!("TLS: {tls}")),
            None => Self::new(CLOSED, format!("the connection was lost: {error}")),
        }
    }

    pub(crate) fn closed() -> Self {
        Self::new(CLOSED, "the target closed the connection")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.text, self.code)
    }
}

impl Error for Failure {}
